"""From runs to spans: opens and ends the span of a run, and writes into it what the policy keeps.

What the policy drops is never serialised; what it keeps is serialised once, redacted on the way.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import orjson
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.active import active_in_trace, attach, detach
from langchain_mlflow_cost.adapters.async_string_models import tell_all_handlers
from langchain_mlflow_cost.adapters.attachments import may_hold_file
from langchain_mlflow_cost.adapters.autolog import (
    autolog_is_on,
    is_native,
    mute_tracer,
    native_span,
    records_traces,
    stand_in_for_tracer,
    take_over_native_span,
    yield_runs,
)
from langchain_mlflow_cost.adapters.autolog_shortcut import shortcut_all, shortcut_autolog
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates, most_answer_tokens
from langchain_mlflow_cost.adapters.default_experiment import look_for_runtime_first
from langchain_mlflow_cost.adapters.own_run import link_own_run
from langchain_mlflow_cost.adapters.propagation import follow_traces
from langchain_mlflow_cost.adapters.provider import guarded, install_first
from langchain_mlflow_cost.adapters.spans import (
    ERROR_LEVEL,
    SdkSpan,
    SpanAttributeKey,
    end_span,
    has_span_processors,
    live_span,
    log_level_of,
    open_ancestors,
    otel,
    start_span,
    types_in_trace,
    write_raw,
)
from langchain_mlflow_cost.adapters.thread_context import carry_into_threads
from langchain_mlflow_cost.adapters.trace_info import TraceMetadataKey, trace_info
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.messages import declared_names
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.tracing import guard, outliving, payloads, release
from langchain_mlflow_cost.tracing.active_run import ActiveRun, active_now, resolved
from langchain_mlflow_cost.tracing.afterwards import govern_later_writes
from langchain_mlflow_cost.tracing.calls import cost_attributes
from langchain_mlflow_cost.tracing.guard import GuardedSpan, starting
from langchain_mlflow_cost.tracing.own_words import OWN_WORDS, split_prompt
from langchain_mlflow_cost.tracing.parents import parent_of, trace_around
from langchain_mlflow_cost.tracing.place import find_caller
from langchain_mlflow_cost.tracing.prompts import PROMPTS
from langchain_mlflow_cost.tracing.recording import Recorder
from langchain_mlflow_cost.tracing.runs import RUNS
from langchain_mlflow_cost.tracing.session import given_strings
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.structure import is_snapshot_of
from langchain_mlflow_cost.tracing.sums import sum_attributes
from langchain_mlflow_cost.tracing.trace import Trace, call_at_rest, hand_on, make_known
from langchain_mlflow_cost.tracing.unclaimed import govern_unclaimed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from opentelemetry.trace import Span as ApiSpan

    from langchain_mlflow_cost.pricing.rates import ModelRates
    from langchain_mlflow_cost.tracing.calls import Settled
    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

_GUARD = guard.SpanGuard()

QUIET_ENDS: tuple[type[BaseException], ...] = (GraphBubbleUp, GeneratorExit)
"""What reaches a callback as an error and is none: an interrupt, a command to the parent graph, a closed stream."""


class GuardedRecorder(Recorder):
    """Writes each run as a span of MLflow's, through the guard."""

    def __init__(self) -> None:
        self._classes: dict[type, type] = {}

    # --- set-up -----------------------------------------------------------------------------------------------------

    def install(self, handler_class: type) -> type:
        """Put the guard into MLflow's provider, and let autolog take the handler for its tracer."""
        install_first(_GUARD)
        yield_runs(RUNS.__contains__, adopting_handler)
        follow_traces(hand_on, call_at_rest)
        tell_all_handlers()
        look_for_runtime_first()
        made = self._classes.get(handler_class)
        if made is None:
            named = {"__module__": handler_class.__module__, "__qualname__": handler_class.__qualname__}
            made = type(handler_class.__name__, (handler_class,), named)
            stand_in_for_tracer(made)
            self._classes[handler_class] = self._classes[made] = made
        return made

    def watch_prompts(self) -> None:
        """Hear which prompts of MLflow's registry are loaded."""
        PROMPTS.watch()

    def destination(self) -> str:
        """Where traces go, for the operator."""
        import mlflow  # noqa: PLC0415 - loaded by now

        is_set: bool = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]  # MLflow annotates it not
        place = without_credentials(mlflow.get_tracking_uri()) if is_set else "MLflow's default"
        return f"traces go to {place}"

    def switch_autolog_on(self) -> None:
        """Call `mlflow.langchain.autolog()` where it is off."""
        try:
            if not autolog_is_on():
                import mlflow.langchain  # noqa: PLC0415 - slow, and only needed where autolog is off

                mlflow.langchain.autolog()
        except Exception as error:  # noqa: BLE001 - the handler records without autolog
            log.warning("langchain_mlflow_cost could not switch mlflow.langchain.autolog on (%s)", type(error).__name__)

    def catalogue_rates(self, provider: str | None, model: str) -> ModelRates | None:
        """The last place to look for a price: MLflow's own list."""
        return catalogue_rates(provider, model)

    def most_answer_tokens(self, provider: str | None, model: str) -> int | None:
        """What one answer of a model can have at most, by MLflow's own list."""
        return most_answer_tokens(provider, model)

    def govern_everywhere(self, state: HandlerState | None) -> None:
        """Govern the spans that nobody else does, those that are open among them, and keep MLflow's tracer out."""
        govern_unclaimed(state)
        govern_later_writes(state)
        mute_tracer(state is not None)
        shortcut_all(state is not None)
        carry_into_threads(_is_of_a_run if state is not None and state.policy.has_private_nodes else None)
        if state is not None:
            ensure_installed()
            shortcut_autolog()
            guard.guard_open_spans()

    # --- runs -------------------------------------------------------------------------------------------------------

    def _parent_of(self, parent_run_id: UUID | None) -> tuple[Run | None, bool]:
        return parent_of(parent_run_id)

    def _trace_around(self, parent_run_id: UUID | None, *, inherits: bool) -> Trace:
        return trace_around(parent_run_id, inherits=inherits)

    def _reapply_policy(self, run: Run) -> None:
        if run.state is not None and run.span is not None:
            run.state.set_policy(run.policy)
            guard.reapply_policy(otel(run.span))

    def _open_span(
        self, run: Run, span_type: str, metadata: Mapping[str, Any], tags: Sequence[str], *, inherits: bool
    ) -> None:
        if run.parent is None:
            ensure_installed()
        elif run.trace.holds and run.is_node and run.parent.parent is None and not run.parent.path:
            run.trace.see_step(run.parent, metadata.get("langgraph_step"))
        _open_span(run, span_type, metadata, inherits=inherits)
        if run.parent is None:
            _write_metadata(run, metadata, tags)
            shortcut_autolog()

    def _end_span(self, run: Run, *, error: BaseException | None, outputs: Any, has_outputs: bool) -> None:
        state = run.state
        if run.span is None or state is None:
            return
        description = None if error is None else ""
        try:
            description = self._write_end(run, state, error=error, outputs=outputs, has_outputs=has_outputs)
        except Exception as fault:  # noqa: BLE001 - the span ends whatever happens, or it stays active in its context
            state.fault("outputs", fault)
        _detach(run)
        end_span(run.span, error=description)

    @staticmethod
    def _write_end(
        run: Run, state: SpanState, *, error: BaseException | None, outputs: Any, has_outputs: bool
    ) -> str | None:
        """Write outputs, error and sums; the description of the status, None where it is no error."""
        assert run.span is not None
        if has_outputs:
            _write_payload(run, SpanAttributeKey.OUTPUTS, outputs)
        description = None if error is None else _write_error(run, error)
        state.pending[SpanAttributeKey.LOG_LEVEL] = str(
            ERROR_LEVEL if description is not None else log_level_of(run.span)
        )
        if run.parent is None or run.totals.has_any:
            state.pending.update(sum_attributes(run.totals))
        if run.tool_usd is not None:
            state.pending[keys.TOOL_USD] = repr(float(run.tool_usd))
        if run.attempt > 1:
            state.pending[keys.ATTEMPT] = str(run.attempt)
        if run.trace.holds or has_span_processors():
            # Else nobody looks before the span ends: one write for these and the policy's own.
            _flush(run)
        return description

    def _end_trace(self, trace: Trace) -> None:
        if trace.keepers or trace.is_waiting:
            trace.share_sessions()
            return  # A span of the user's is around, or threads are at work: they end the trace.
        if trace.held:
            release.release(trace)
        trace.close()

    # --- writing ----------------------------------------------------------------------------------------------------

    def write_start(self, run: Run, inputs: Any, details: Mapping[str, Any]) -> None:
        """Write what a run began with, as far as the policy keeps it."""
        if run.parent is None and (inputs is None or isinstance(inputs, Command)):
            run.trace.see_step(run, None, is_resumed=True)
        if run.state is None:
            return
        _write_payload(run, keys.INPUTS, inputs)
        if run.policy.artifact_level == "full":
            _write_details(run, details)
        _flush(run)

    def write_model_start(self, run: Run, prompt: Any, params: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write what a model was asked, as far as the policy keeps it."""
        if run.state is None:
            return
        if run.policy.keeps_payload("model"):
            _write_payload(run, keys.INPUTS, payloads.chat_inputs(prompt))
            run.state.pending[keys.MESSAGE_FORMAT] = '"langchain"'
        else:
            run.state.record.drop("inputs", run.policy.reason)
        if run.policy.keeps_details("model"):
            written: dict[str, Any] = {}
            tools = params.get("tools")
            if tools:
                written[keys.CHAT_TOOLS] = [payloads.chat_tool(tool) for tool in tools]
            written["invocation_params"] = {k: payloads.schema_of(v) for k, v in params.items() if k != "tools"}
            if run.policy.artifact_level == "full":
                written.update(details)
            _write_details(run, written)
        PROMPTS.note_call(run, prompt)
        _flush(run)

    def write_inputs(self, run: Run, inputs: Any) -> None:
        """Write the inputs once more: they were a stream at the start."""
        if inputs:
            _write_payload(run, keys.INPUTS, inputs)

    def write_call(self, run: Run, settled: Settled | None) -> None:
        """Write what a model's call cost, if it is counted, and how it streamed."""
        state, call = run.state, run.call
        if state is None or call is None:
            return
        if settled is not None:
            written = cost_attributes(settled, call.request, state.name)
            if run.policy.hides_some:
                written = {key: state.hidden(value) if state.hides(key) else value for key, value in written.items()}
            state.pending.update(written)
            if is_snapshot_of(settled.priced.model, call.request.model):
                state.own_model = state.pending.get(keys.MODEL)
                run.trace.own_names.add(settled.priced.model)
        if call.first_chunk_ns is not None:
            waited_s = (call.first_chunk_ns - call.start_ns) / 1e9
            state.pending["stream.chunks"] = str(len(call.chunks))
            state.pending["stream.time_to_first_token_s"] = repr(round(waited_s, 6))
            if run.policy.keeps_stream:
                # One event for all tokens: a value split over two of them is recognised only so.
                _add_event(run, "stream", {"text": "".join(call.chunks)})

    def add_event(self, run: Run, name: str, attributes: Mapping[str, Any]) -> None:
        """Add an event as far as the policy lets it through."""
        _add_event(run, name, attributes)

    # --- private text -----------------------------------------------------------------------------------------------

    def remember_private(self, run: Run, said: Any) -> None:
        """Remember what a model was told or said, if its node is private."""
        if not run.policy.log_prompts:
            run.trace.session_of(run.session_id).remember_private(said)

    def remember_given(self, run: Run, given: Any) -> None:
        """Remember what a node was given, if it is private: what it returns beyond that is private, too."""
        if not run.policy.log_prompts and run.is_node and run.given is None:
            run.given = given_strings(given)

    def remember_returned(self, run: Run, returned: Any) -> None:
        """Remember what a private node or its tools returned or raised that it was not given."""
        if run.policy.log_prompts or not (run.is_node or run.kind == "work"):
            return
        if isinstance(returned, GraphBubbleUp):
            returned = returned.args
        elif isinstance(returned, BaseException) and not isinstance(returned, Exception):
            return  # cancelled, or a closed stream
        elif isinstance(returned, BudgetExceededError):
            return  # our own words
        said = payloads.without_channels(returned) if run.is_node else returned
        run.trace.remember_returned(run.session_id, said, run.was_given)

    def note_declared(self, run: Run, params: Any) -> None:
        """Remember the names that the program declares in the parameters of a model's call."""
        if run.trace.holds:
            run.trace.declared.update(declared_names(params))

    def remember_prompt(self, run: Run, prompt: Any, params: Mapping[str, Any]) -> None:
        """Remember what a model was sent, if its node is private; and what is a public node's own, if it is not."""
        tools = params.get("tools")
        if not run.policy.log_prompts:
            session = run.trace.session_of(run.session_id)
            try:
                declared, said = split_prompt(prompt)
            except Exception:  # noqa: BLE001 - objects of the user's may raise anything: hearing them says so
                declared, said = [], prompt
            session.remember_declared([*declared, tools])
            session.remember_private(said)
            session.remember_private({name: value for name, value in params.items() if name != "tools"})
        elif run.trace.holds:
            OWN_WORDS.hear(run.node, run.session_id or str(id(run.trace)), prompt, tools)


def _is_of_a_run(active: ApiSpan) -> bool:
    """Whether what is active stands for an open run: what its threads are told may be private."""
    state = guard.state_of(resolved(active))
    return state is not None and state.owner is not None and state.owner.is_open


def ensure_installed() -> None:
    """Put the guard back if somebody built a provider past it."""
    if not guarded(_GUARD):
        install_first(_GUARD)


def adopting_handler(parent_run_id: UUID | None) -> Any:
    """The handler to be told of a run that only MLflow's tracer was told of; None where nobody governs it."""
    parent, _ = parent_of(parent_run_id)
    return None if parent is None else parent.handlers[0].handler


def _open_span(run: Run, span_type: str, metadata: Mapping[str, Any], *, inherits: bool) -> None:
    # Above a handler in a model's constructor MLflow's own tracer records the graph. In async code its spans are active
    # in contexts that the model does not see.
    parent_span = native_span(run.told_parent) if run.parent is None else _parent_span(run.parent)
    if parent_span is None and (run.parent is not None or not records_traces()):
        guard.govern_without_span(_spanless_state(run))
        return
    is_structure = run.name == metadata.get("langgraph_node")
    state = SpanState(run.policy, run.trace, run.kind, node=run.node, owner=run, name_is_structure=is_structure)
    taken = take_over_native_span(run.run_id)
    if taken is not None:
        span, token = taken
        detach(token)
        guard.guard_open_span(span, state)
    else:
        with starting(state):
            started = start_span(state.name(run.name) or "redacted", span_type, parent_span, inherit=inherits)
        if started is None:
            guard.govern_without_span(_spanless_state(run))
            return
        span = started
    run.span = span
    inner = otel(span)
    if run.parent is None:
        run.place.around = active_now()
    run.place.token = attach(ActiveRun(run, inner))
    if not isinstance(inner, GuardedSpan):
        # The guard is not in the provider: nothing but structure may be written.
        guard.guard_open_span(span, state)
    if isinstance(inner, GuardedSpan):
        run.state = inner.lmc_state
    if run.parent is None:
        _open_trace(run, inner)
    elif run in run.trace.late and isinstance(inner, GuardedSpan):
        run.trace.keepers.add(inner)


def _open_trace(run: Run, inner: SdkSpan) -> None:
    """Note what keeps the trace of a new root open, and where others find it."""
    trace = run.trace
    trace.trace_id = run.span.trace_id if run.span is not None else ""
    make_known(inner.context.trace_id, trace)
    if inner.parent is not None and inner.parent.is_remote:
        trace.is_shared = trace.keeps_budgets = True
    if isinstance(inner, GuardedSpan):
        trace.root = trace.root or inner
        trace.keepers.add(inner)
        # Whether it is held is not known yet: another handler may make it so.
        outliving.enter(trace)
    policy, around = run.policy_at(()), []
    ancestors = [live for live in open_ancestors(inner) if not _is_of_run(guard.state_of(otel(live)))]
    if ancestors and trace.root is inner and types_in_trace(inner) & keys.MODEL_TYPES:
        # The user's own calls, before anything was governed: the store prices them, and must go on adding up.
        trace.is_shared = True
    for live in ancestors:
        if is_native(live):
            # MLflow's own tracer records the graph around a model that carries this handler: the handler was not
            # passed to the graph, so its level is not the graph's; what is private stays private all the same.
            policy = policy.with_everything_kept()
        guard.guard_open_span(live, SpanState(policy, trace, "root", is_foreign=True))
        above = otel(live)
        if isinstance(above, GuardedSpan) and above.lmc_state.account is not None:
            # Under guard already, by what holds everywhere: both hold, as both are about what is in it.
            above.lmc_state.set_policy(above.lmc_state.policy.stricter(policy))
            guard.reapply_policy(above)
        if isinstance(above, GuardedSpan) and above.lmc_state.trace is trace:
            trace.keepers.add(above)
            around.append(above.lmc_state.totals)
    if run.state is not None:
        run.state.around = tuple(around)


def _is_of_run(state: SpanState | None) -> bool:
    """Whether a span above a root is one that only a thread can be below which outlived it.

    Such a one is held, and has not ended for MLflow, or is a run's own, which is about to end.
    """
    return state is not None and (state.is_held or (state.owner is not None and not state.is_foreign))


def _spanless_state(run: Run) -> SpanState:
    return SpanState(run.policy, run.trace, "work", node=run.node, is_foreign=True, owner=run)


def _parent_span(parent: Run) -> Any:
    """The span to nest under: the parent run's, or one inside it that is open around the code that runs now.

    That is a span of the user's own code, or of a runnable that does not tell its children of itself
    (`with_fallbacks`); not that of a generator that waits for its consumer.
    """
    if parent.span is None:
        return None
    active = active_in_trace()
    if type(active) is ActiveRun and active.is_of(parent):
        return parent.span
    active = resolved(active)
    if active is otel(parent.span) or not isinstance(active, GuardedSpan) or _is_over(active):
        return parent.span
    owner = active.lmc_state.owner
    if owner is None or parent not in owner.lineage():
        return parent.span
    if not active.lmc_state.is_foreign and (
        not owner.is_open or owner.place.is_paused_generator() or owner.place.frame == find_caller()
    ):
        return parent.span
    return live_span(active) or parent.span


TAGS_KEY = "langchain.tags"
"""Trace metadata with the root run's tags, as a JSON list."""


def _write_metadata(run: Run, metadata: Mapping[str, Any], tags: Sequence[str]) -> None:
    """Write who and what the invocation is for where MLflow's search and dashboards look.

    It goes to the trace's metadata and not to its tags: with an OTLP exporter alone, MLflow 3.17 loses the root span
    of a trace that has a tag of the user's (mlflow/mlflow#24643).
    """
    state, first = run.state, run.handlers[0]
    if state is None or run.span is None:
        return
    wanted = {key: metadata[key] for key in first.policy.trace_metadata if metadata.get(key) is not None}
    if run.session_id is not None:
        wanted[TraceMetadataKey.TRACE_SESSION] = run.session_id
    user = next((metadata[key] for key in keys.USER_KEYS if metadata.get(key) not in (None, "")), None)
    if user is not None:
        wanted[TraceMetadataKey.TRACE_USER] = user
    if tags:
        wanted[TAGS_KEY] = orjson.dumps([str(tag) for tag in tags]).decode()
    identities = (TraceMetadataKey.TRACE_SESSION, TraceMetadataKey.TRACE_USER)
    clean = {
        key: state.identity(str(value), key)
        if key in identities
        else state.hidden(str(value))
        if state.hides(key)
        else state.text(str(value), state.channel(key, "trace"))
        for key, value in wanted.items()
    }
    with trace_info(run.span.trace_id) as info:
        if info is not None:
            mlflow_run = link_own_run(info.trace_metadata, is_new=otel(run.span).parent is None)
            if mlflow_run is not None:
                run.trace.metric_runs[run] = mlflow_run
            for key, value in clean.items():
                info.trace_metadata.setdefault(key, value)


# --- writing --------------------------------------------------------------------------------------------------------


_CHAT_STARTS = ('{"messages":', '{"choices":')
"""How the JSON of `payloads.chat_inputs` and `payloads.chat_outputs` begins."""


def _write_payload(run: Run, key: str, value: Any) -> None:
    """Write inputs or outputs, if the policy keeps them."""
    state = run.state
    if state is None:
        return
    is_input = key == SpanAttributeKey.INPUTS
    if not is_input and run.policy.keeps_payload(run.kind):
        value = payloads.output_form(value, None if run.call is None else run.call.audio_format)
    written = state.payload(value, "inputs" if is_input else "outputs")
    if written is None:
        return
    is_chat = run.call is not None and written.startswith(_CHAT_STARTS)
    if may_hold_file(written, is_chat=is_chat):
        _write_with_attachments(run, state, key, written)
    else:
        state.pending[key] = written


def _write_with_attachments(run: Run, state: SpanState, key: str, written: str) -> None:
    """Let MLflow take files out of the payload, as its own tracer does, so that its UI shows them."""
    assert run.span is not None
    value = orjson.loads(written)
    if key == SpanAttributeKey.INPUTS:
        run.span.set_inputs(value)
    else:
        run.span.set_outputs(value)
    state.has_files = True


def _write_details(run: Run, details: Mapping[str, Any]) -> None:
    """Write other attributes, if the policy keeps them."""
    state = run.state
    if state is None or not run.policy.keeps_details(run.kind):
        return
    for key, value in details.items():
        if state.hides(key):
            state.pending[key] = state.hidden(value)
            continue
        written = state.json(value, state.channel(key, "attributes"))
        if written is not None:
            state.pending[key] = written


def _add_event(run: Run, name: str, attributes: Mapping[str, Any]) -> None:
    if run.span is not None and run.state is not None:
        otel(run.span).add_event(name, attributes)


def _flush(run: Run) -> None:
    """Hand what was gathered to the span, in one go."""
    state = run.state
    if run.span is not None and state is not None and state.pending:
        gathered, state.pending = state.pending, {}
        write_raw(otel(run.span), gathered)


# --- the end --------------------------------------------------------------------------------------------------------


def _write_error(run: Run, error: BaseException) -> str | None:
    """Add the exception's event; the status description, or None where it is no error."""
    if isinstance(error, QUIET_ENDS):
        if not isinstance(error, GeneratorExit):
            _add_event(run, "interrupt", {"value": str(error)} if run.policy.keeps_exceptions else {})
        return None
    name = type(error).__name__
    if not run.policy.log_prompts:
        run.trace.private_errors.append(error)
    if run.policy.keeps_exceptions and not run.trace.is_private_error(error):
        text = str(error)
        _add_event(
            run,
            "exception",
            {
                "exception.type": name,
                "exception.message": text,
                "exception.stacktrace": "".join(traceback.format_exception(error)),
            },
        )
        return text
    _add_event(run, "exception", {"exception.type": name})
    if run.state is not None:
        run.state.record.drop("events", run.policy.reason if not run.policy.keeps_exceptions else "log_prompts")
    return ""


def _detach(run: Run) -> None:
    """Give the context back to what was active before, unless somebody else is active by now."""
    active = active_in_trace()
    if run.place.token is not None and type(active) is ActiveRun and active.is_of(run):
        detach(run.place.token)


def _is_over(span: GuardedSpan) -> bool:
    return span.lmc_state.is_final or span.lmc_state.is_held
