"""From runs to spans: opens and ends the span of a run, and writes into it what the policy keeps.

What the policy drops is never serialised; what it keeps is serialised once, redacted on the way.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import orjson
from langgraph.errors import GraphBubbleUp

from langchain_mlflow_cost.adapters.active import active_span, attach, clear_active, detach
from langchain_mlflow_cost.adapters.autolog import is_native, take_over_native_span
from langchain_mlflow_cost.adapters.provider import guarded, install_first
from langchain_mlflow_cost.adapters.spans import (
    ERROR_LEVEL,
    SdkSpan,
    SpanAttributeKey,
    end_span,
    ended,
    has_span_processors,
    live_span,
    log_level_of,
    open_ancestors,
    otel,
    start_span,
    write_raw,
)
from langchain_mlflow_cost.adapters.trace_info import TraceMetadataKey, trace_info
from langchain_mlflow_cost.tracing import guard
from langchain_mlflow_cost.tracing import other_libraries as foreign
from langchain_mlflow_cost.tracing.enforcement import Enforcement
from langchain_mlflow_cost.tracing.guard import GuardedSpan, Scope, SpanState, starting
from langchain_mlflow_cost.tracing.runs import (
    RUNS,
    Governor,
    Run,
    caller,
    enrol,
    join,
    left,
    mark_place,
    open_run,
    session_of,
    suspended,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from langchain_mlflow_cost.policy.node_policy import Kind

log = logging.getLogger("langchain_mlflow_cost")

_GUARD = guard.SpanGuard()

QUIET_ENDS: tuple[type[BaseException], ...] = (GraphBubbleUp, GeneratorExit)
"""What reaches a callback as an error and is none: an interrupt, a command to the parent graph, a closed stream."""


def install() -> None:
    """Put the guard into MLflow's provider. Cheap when it is there already."""
    install_first(_GUARD)


def ensure_installed() -> None:
    """Put the guard back if somebody built a provider past it."""
    if not guarded(_GUARD):
        install_first(_GUARD)


def begin(
    governor: Governor,
    *,
    run_id: UUID,
    parent_run_id: UUID | None,
    kind: Kind,
    span_type: str,
    name: str,
    metadata: Mapping[str, Any] | None,
    tags: Sequence[str] | None = None,
) -> Run | None:
    """Open the run's record and span.

    Returns:
        None if the run is recorded already: a handler that is attached twice is told of it twice.
    """
    known = RUNS.get(run_id)
    if known is not None:
        if join(known, governor):
            _readmit(known)
        return None
    parent, inherit = _parent_of(parent_run_id)
    run = open_run(
        governor,
        run_id,
        parent,
        kind,
        name,
        metadata,
        lambda: _new_scope(governor, session_of(metadata)),
    )
    mark_place(run)
    if not enrol(run, finish):
        return None
    try:
        if parent is None:
            ensure_installed()
        _open_span(run, span_type, metadata, inherit=inherit)
        if parent is None:
            _attribute(run, metadata or {}, tags or ())
    except Exception as error:  # noqa: BLE001 - a store that is broken must cost neither the sums nor the budget
        _say_once(f"langchain_mlflow_cost could not start a span ({type(error).__name__}); costs and budgets go on")
    run.announce()
    return run


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        log.warning(text)


def adopter(parent_run_id: UUID | None) -> Any:
    """The handler to be told of a run that only MLflow's tracer was told of; None where nobody governs it."""
    parent, _ = _parent_of(parent_run_id)
    return None if parent is None else parent.invocations[0].governor.handler


def _new_scope(governor: Governor, session: str | None) -> Scope:
    holding = governor.policy.has_private_nodes
    private = governor.private_text(session) if holding else None
    return Scope(holding=holding, price_foreign=foreign.account_span, private=private)


def _readmit(run: Run) -> None:
    """Judge the span of a run that a second handler has joined by both policies."""
    if run.state is not None and run.span is not None:
        run.state.enforcement = run.enforcement
        guard.readmit(otel(run.span))
    run.announce()


def _parent_of(parent_run_id: UUID | None) -> tuple[Run | None, bool]:
    """The run above, and whether a root may continue what is active in MLflow's context."""
    parent = RUNS.get(parent_run_id)
    if parent is not None:
        return parent, True
    active = active_span()
    state = guard.state_of(active)
    if state is None:
        return None, not (isinstance(active, SdkSpan) and ended(active))
    owner: Run | None = state.owner
    if state.final or state.held:
        return None, False
    if owner is None:
        # A span of the user's own, above an invocation that was put under guard: what comes next is inside it too.
        return None, True
    lineage = owner.lineage()
    if owner.run_id not in RUNS or suspended(lineage[0]) or left(lineage[-1]):
        return None, False
    # `batch` of a sequence and `generate` start one run after the other before the first has ended: siblings.
    here = caller()
    parent = next((run for run in lineage if run.frame != here), None)
    return parent, parent is not None


def _open_span(run: Run, span_type: str, metadata: Mapping[str, Any] | None, *, inherit: bool) -> None:
    parent_span = _parent_span(run.parent) if run.parent is not None else None
    if run.parent is not None and parent_span is None:
        guard.govern_without_span(_spanless_state(run))
        return
    is_structure = run.name == (metadata or {}).get("langgraph_node")
    if run.parent is None and inherit:
        around = guard.state_of(active_span())
        if around is not None:
            # A second invocation inside one span of the user's: what was private in the first is so in all the trace.
            run.scopes += tuple(scope for scope in around.scopes if scope not in run.scopes)
    state = SpanState(run.enforcement, run.scope, run.kind, owner=run, name_is_structure=is_structure)
    state.scopes = run.scopes
    taken = take_over_native_span(run.run_id)
    if taken is not None:
        span, run.token = taken
        guard.adopt(span, state)
    else:
        with starting(state):
            started = start_span(_span_name(run, state), span_type, parent_span, inherit=inherit)
        if started is None:
            guard.govern_without_span(_spanless_state(run))
            return
        span = started
        run.token = attach(span)
    run.span = span
    inner = otel(span)
    if not isinstance(inner, GuardedSpan):
        # The guard is not in the provider: nothing but structure may be written.
        guard.adopt(span, state)
    if isinstance(inner, GuardedSpan):
        run.state = inner.lmc_state
    if run.parent is None:
        run.scope.root = inner if isinstance(inner, GuardedSpan) else None
        _adopt_ancestors(run, inner)


def _spanless_state(run: Run) -> SpanState:
    return SpanState(run.enforcement, run.scope, "work", foreign=True, owner=run)


def _span_name(run: Run, state: SpanState) -> str:
    # Names repeat in every trace, and a redactor's memory lasts for one.
    names = run.invocations[0].governor.names if len(run.invocations) == 1 else {}
    key = (run.path, run.name)
    known = names.get(key)
    if known is not None:
        return known
    name = state.text(run.name, "name") or "redacted"
    if name == run.name and len(names) < _KEPT_NAMES:
        names[key] = name
    return name


_KEPT_NAMES = 4096


def _parent_span(parent: Run) -> Any:
    """The span to nest under: the parent run's, or one inside it that is open around the code that runs now.

    That is a span of the user's own code, or of a runnable that does not tell its children of itself
    (`with_fallbacks`); not that of a generator that waits for its consumer.
    """
    if parent.span is None:
        return None
    inner = otel(parent.span)
    active = active_span()
    if active is inner or not isinstance(active, GuardedSpan) or _is_over(active):
        return parent.span
    owner: Run | None = active.lmc_state.owner
    if owner is None or parent not in owner.lineage():
        return parent.span
    if not active.lmc_state.foreign and (owner.run_id not in RUNS or suspended(owner) or owner.frame == caller()):
        return parent.span
    return live_span(active) or parent.span


def _adopt_ancestors(run: Run, inner: SdkSpan) -> None:
    enforcement = run.invocations[0].enforcement(())
    for live in open_ancestors(inner):
        native = is_native(live)
        if native:
            # MLflow's own tracer records the graph around a model that carries this handler: the handler was not
            # passed to the graph, so its level is not the graph's; what is private stays private all the same.
            enforcement = Enforcement("", "full", log_prompts=True, redactors=enforcement.redactors)
        guard.adopt(live, SpanState(enforcement, run.scope, "root", foreign=True))


TAGS_KEY = "langchain.tags"
"""Trace metadata with the root run's tags, as a JSON list."""
_USER_KEYS = ("user_id", "langgraph_auth_user_id")
"""Where a run's metadata names its user: by habit, and by LangGraph's server."""


def _attribute(run: Run, metadata: Mapping[str, Any], tags: Sequence[str]) -> None:
    """Write who and what the invocation is for where MLflow's search and dashboards look.

    It goes to the trace's metadata and not to its tags: with an OTLP exporter alone, MLflow 3.17 loses the root span
    of a trace that has a tag of the user's (mlflow/mlflow#24643).
    """
    state, invocation = run.state, run.invocations[0]
    if state is None or run.span is None:
        return
    wanted = {key: metadata[key] for key in invocation.governor.policy.trace_metadata if metadata.get(key) is not None}
    if invocation.session is not None:
        wanted[TraceMetadataKey.TRACE_SESSION] = invocation.session
    user = next((metadata[key] for key in _USER_KEYS if metadata.get(key) is not None), None)
    if user is not None:
        wanted[TraceMetadataKey.TRACE_USER] = user
    if tags:
        wanted[TAGS_KEY] = orjson.dumps([str(tag) for tag in tags]).decode()
    if not wanted:
        return
    clean = {key: state.text(str(value), "trace") for key, value in wanted.items()}
    with trace_info(run.span.trace_id) as info:
        if info is not None:
            for key, value in clean.items():
                info.trace_metadata.setdefault(key, value)


# --- writing --------------------------------------------------------------------------------------------------------


def write_payload(run: Run, key: str, value: Any) -> None:
    """Write inputs or outputs, if the policy keeps them."""
    if run.state is None:
        return
    channel = "inputs" if key == SpanAttributeKey.INPUTS else "outputs"
    written = run.state.payload(value, channel)
    if written is None:
        return
    if ";base64," in written or '"input_audio"' in written:
        _write_with_attachments(run, key, written)
    else:
        run.attributes[key] = written


def _write_with_attachments(run: Run, key: str, written: str) -> None:
    """Let MLflow take files out of the payload, as its own tracer does, so that its UI shows them."""
    assert run.span is not None
    value = orjson.loads(written)
    if key == SpanAttributeKey.INPUTS:
        run.span.set_inputs(value)
    else:
        run.span.set_outputs(value)
    if run.state is not None:
        run.state.has_files = True


def write_details(run: Run, details: Mapping[str, Any]) -> None:
    """Write other attributes, if the policy keeps them."""
    state = run.state
    if state is None or not details:
        return
    if not state.enforcement.keeps_details(run.kind):
        return
    for key, value in details.items():
        written = state.json(value, "attributes")
        if written is not None:
            run.attributes[key] = written


def add_event(run: Run, name: str, attributes: Mapping[str, Any]) -> None:
    """Add an event through the guard."""
    if run.span is not None and run.state is not None:
        otel(run.span).add_event(name, attributes)


def flush_attributes(run: Run) -> None:
    """Hand what was gathered to the span, in one go."""
    if run.span is not None and run.attributes:
        gathered, run.attributes = run.attributes, {}
        write_raw(otel(run.span), gathered)


# --- private text ---------------------------------------------------------------------------------------------------


def hear(run: Run, messages: Any) -> None:
    """Remember what a model was told or said, if its node is private."""
    if run.enforcement.log_prompts:
        return
    for message in _flat(messages):
        if isinstance(message, str | dict):
            run.scope.hear(message)
            continue
        for field in ("content", "additional_kwargs", "text", "artifact"):
            run.scope.hear(getattr(message, field, None))
        for field in ("tool_calls", "invalid_tool_calls"):
            for call in getattr(message, field, None) or ():
                run.scope.hear(call.get("args"), values=True)


def hear_tools(run: Run, params: Mapping[str, Any]) -> None:
    """Remember what a model in a private node was told of its tools and of the form of its answer."""
    if not run.enforcement.log_prompts:
        for key in ("tools", "functions", "response_format"):
            _hear_descriptions(run.scope, params.get(key))
        for key in ("instructions", "stop", "stop_sequences", "system", "system_instruction", "suffix"):
            run.scope.hear(params.get(key))


def _hear_descriptions(scope: Scope, value: Any) -> None:
    # Names and types are structure that other nodes share; descriptions are what the model is told.
    if isinstance(value, dict):
        for key, member in value.items():
            if key in ("description", "enum", "default", "examples", "title"):
                scope.hear(member)
            else:
                _hear_descriptions(scope, member)
    elif isinstance(value, list | tuple):
        for member in value:
            _hear_descriptions(scope, member)
    elif isinstance(value, type) and hasattr(value, "model_json_schema"):
        _hear_descriptions(scope, value.model_json_schema())


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [message for member in value for message in _flat(member)]
    return [value]


# --- the end --------------------------------------------------------------------------------------------------------


def finish(
    run: Run, *, error: BaseException | None, outputs: Any = None, has_outputs: bool = False, abandoned: bool = False
) -> None:
    """End a run's span with its sums, after the runs below it that will hear of no end."""
    if run.run_id not in RUNS:
        return
    RUNS.remove(run)
    if run.span is None or run.state is None:
        _close(run)
        return
    if has_outputs and not abandoned:
        write_payload(run, SpanAttributeKey.OUTPUTS, outputs)
    description: str | None = None
    if error is not None:
        description = _record_error(run, error)
    run.attributes[SpanAttributeKey.LOG_LEVEL] = str(ERROR_LEVEL if description is not None else log_level_of(run.span))
    if run.parent is None or (run.totals.llm_calls and (run.is_node or run.kind == "model")):
        run.attributes.update({key: repr(value) for key, value in run.totals.attributes().items()})
    if run.scope.holding or has_span_processors():
        flush_attributes(run)
    else:
        # Nobody looks before the span ends: one write for these and the policy's own.
        run.state.pending, run.attributes = run.attributes, {}
    _detach(run)
    end_span(run.span, error=description)
    _close(run)


def _close(run: Run) -> None:
    run.close()
    if run.parent is None:
        guard.release(run.scope)


def _record_error(run: Run, error: BaseException) -> str | None:
    """Add the exception's event; the status description, or None where it is no error."""
    if isinstance(error, QUIET_ENDS):
        if not isinstance(error, GeneratorExit):
            add_event(run, "interrupt", {"value": str(error)} if run.enforcement.keeps_exceptions else {})
        return None
    name = type(error).__name__
    if not run.enforcement.log_prompts:
        run.scope.private_errors.append(error)
    if run.enforcement.keeps_exceptions and not _is_private(run.scope, error):
        text = str(error)
        add_event(
            run,
            "exception",
            {
                "exception.type": name,
                "exception.message": text,
                "exception.stacktrace": "".join(traceback.format_exception(error)),
            },
        )
        return text
    add_event(run, "exception", {"exception.type": name})
    if run.state is not None:
        run.state.record.drop(
            "events", run.enforcement.reason if not run.enforcement.keeps_exceptions else "log_prompts"
        )
    return ""


def _is_private(scope: Scope, error: BaseException) -> bool:
    """Whether an exception came through a private node, or was raised from one that did: it may quote the prompt."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or any(current is known for known in seen):
            continue
        if any(current is private for private in scope.private_errors):
            return True
        seen.append(current)
        pending += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
    return False


def _detach(run: Run) -> None:
    """Give the context back to what was active before, unless somebody else is active by now."""
    assert run.span is not None
    if run.token is None or active_span() is not otel(run.span):
        return
    detach(run.token)
    # Streams that were read in turns end in any order: what was active before may be over.
    active = active_span()
    if not _is_over(active):
        return
    state = guard.state_of(active)
    owner: Run | None = state.owner if state is not None else None
    if owner is not None and owner.parent is not None and owner.span and otel(owner.span) is active:
        # A thread that outlives its node: what it records late stays under the node's policy.
        return
    for above in owner.lineage() if owner is not None else ():
        if above.span is not None and not _is_over(otel(above.span)):
            attach(above.span)
            return
    clear_active()


def _is_over(span: Any) -> bool:
    state = guard.state_of(span)
    return state is not None and (state.final or state.held)
