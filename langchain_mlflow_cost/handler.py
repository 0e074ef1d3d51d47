"""The callback handler: LangChain's events in, spans, costs and refusals out. The one place that meets LangChain.

It takes the place of MLflow's own LangChain tracer instead of following it, so what the policy drops is never
serialised, and the order in which LangChain calls handlers does not matter.
"""

from __future__ import annotations

import ast
import functools
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import orjson
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import open_redis
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.messages import said_text
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.pricing.book import PriceBook, PricedCall, warm_up
from langchain_mlflow_cost.pricing.ledger import Call, CostSummary
from langchain_mlflow_cost.pricing.reading import (
    call_request,
    call_result,
    estimate_prompt_tokens,
    estimated_result,
)
from langchain_mlflow_cost.redaction.walk import Converted
from langchain_mlflow_cost.tracing import null_recorder as bare_recorder
from langchain_mlflow_cost.tracing import run_metrics
from langchain_mlflow_cost.tracing.runs import RUNS, Governor, Run, account, call_of, cost_attribute, dumped

try:
    with warnings.catch_warnings():
        # MLflow warns of its own modules when they are imported; that is no reason to do without it.
        warnings.simplefilter("ignore")
        from langchain_mlflow_cost.adapters import mlflow_internals as internals
        from langchain_mlflow_cost.tracing import recorder
    TRACING_FAULT = internals.self_test()
except Exception as error:  # noqa: BLE001 - whatever is wrong with MLflow, the user's graph must run
    TRACING_FAULT = f"{type(error).__name__}: {error}"
if TRACING_FAULT is not None:
    recorder = bare_recorder  # type: ignore[misc]  # the same functions, by MLflow's public API alone

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager
    from uuid import UUID

    from langchain_core.agents import AgentAction, AgentFinish
    from langchain_core.documents import Document
    from langchain_core.outputs import LLMResult
    from tenacity import RetryCallState

    from langchain_mlflow_cost.policy.node_policy import Kind
    from langchain_mlflow_cost.pricing.usage import CallResult

log = logging.getLogger("langchain_mlflow_cost")

ASSUMED_OUTPUT_TOKENS = 1_000
"""Reserved for an answer whose request sets no limit, until its real length is known."""
RESERVED_OUTPUT_TOKENS = 4_000
"""Reserved at most: langchain-anthropic asks for the model's maximum by itself, which few answers come near."""
_ALMOST_NOTHING = Decimal("1e-9")
STREAM_CHECK_TOKENS = 16
"""A stream's running cost is told, and checked against budgets, once in so many chunks."""

F = TypeVar("F", bound=Callable[..., Any])


def _open_to_failure(method: F) -> F:
    """Let a budget's refusal out and nothing else: no fault of ours may break the user's graph."""

    @functools.wraps(method)
    def call(self: MlflowCostHandler, *args: Any, **kwargs: Any) -> Any:
        if self._governor is None:
            return None
        try:
            return method(self, *args, **kwargs)
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001 - this is the one place; the operator is told once a cause
            self._tell(method.__name__, error)
            return None

    return cast("F", call)


class MlflowCostHandler(BaseCallbackHandler):
    """Cost, budgets and a payload policy for LangChain and LangGraph runs traced in MLflow.

    Pass it wherever LangChain takes callbacks. One handler may serve any number of invocations at once.

    Args:
        policy: A `Policy`, a mapping with its keys, or the path of a YAML file; the defaults if None.
        on_cost: Called with a `Call` after every model call that was priced or counted, in the thread of the run.
            What it raises is logged, not raised.

    Raises:
        PolicyError: The policy cannot be used. Nothing else is raised, whatever the state of MLflow.
    """

    raise_error = True
    """LangChain lets out what a handler raises only so; `_open_to_failure` keeps everything but budgets inside."""
    run_inline = True
    """Handlers that are not inline run in another context in async code, where the user's own spans would not nest."""

    def __init__(
        self,
        policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        on_cost: Callable[[Call], None] | None = None,
    ) -> None:
        super().__init__()
        self.policy = Policy.load(policy)
        self._told: set[str] = set()
        self._governor: Governor | None = None
        if not self.policy.enabled:
            return
        self._governor = Governor(
            self,
            self.policy,
            _price_book(self.policy),
            Budgets(self.policy.all_budgets, open_store=open_redis),
            on_cost,
        )
        warm_up()
        if TRACING_FAULT is not None:
            warnings.warn(
                f"langchain_mlflow_cost cannot use this MLflow ({TRACING_FAULT}): costs and budgets work, "
                "no payload is stored. Install mlflow 3.15 or later.",
                RuntimeWarning,
                stacklevel=2,
            )
            recorder.install()
            return
        recorder.install()
        internals.yield_runs(RUNS.__contains__, recorder.adopter)
        if self.policy.autolog_enabled:
            _switch_autolog_on()
        # Not for a handler that is off: autolog would take it for its tracer all the same, and trace nothing.
        self.__class__ = _tracing_class(type(self))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Copied with a config or a graph: the copy belongs to the same invocations, budgets and sums.
        return self

    def __reduce__(self) -> tuple[type[MlflowCostHandler], tuple[Policy]]:
        return MlflowCostHandler, (self.policy,)

    # --- what it knows ----------------------------------------------------------------------------------------------

    def summary(self, trace_id: str | None = None) -> CostSummary:
        """What a trace has cost up to now, also while it runs.

        Args:
            trace_id: MLflow's id; None for the invocation that began last.

        Returns:
            An empty summary if the handler knows no such trace (it remembers the last 256).
        """
        found = self._governor.summary(trace_id) if self._governor is not None else None
        return found if found is not None else CostSummary(trace_id=trace_id or "")

    def live(self, **options: Any) -> AbstractContextManager[Any]:
        """Show a table of nodes, models, calls, tokens and USD that grows while the block runs.

        Args:
            options: As `langchain_mlflow_cost.live.live_table` takes them.
        """
        from langchain_mlflow_cost.live import live_table  # noqa: PLC0415 - rich is only needed to look

        return live_table(self.summary, **options)

    def _tell(self, where: str, error: BaseException) -> None:
        if sys.is_finalizing():
            return  # a stream that was never read to its end is closed when modules are gone already
        # The message of the error may quote a payload: its type is all that may be told.
        cause = f"{where}:{type(error).__name__}"
        if cause not in self._told:
            self._told.add(cause)
            log.warning("langchain_mlflow_cost failed in %s (%s); the run goes on", where, type(error).__name__)
            log.debug("at\n%s", "".join(traceback.format_tb(error.__traceback__)))

    # --- chains, nodes, graphs --------------------------------------------------------------------------------------

    @_open_to_failure
    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the span of a graph, node, chain, parser or function."""
        run = self._begin(
            "state", keys.CHAIN, run_id, parent_run_id, name or _name(serialized, "chain"), metadata, tags
        )
        if run is None:
            return
        self._write_start(run, inputs, kwargs, metadata, tags)

    @_open_to_failure
    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        """End it. Inputs come again where they were a stream at the start."""
        run = RUNS.get(run_id)
        if run is not None:
            self._rewrite_inputs(run, inputs)
            self._end(run, None, outputs, has_outputs=True)

    @_open_to_failure
    def on_chain_error(self, error: BaseException, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        """End it with an error, unless it is an interrupt or a closed stream."""
        run = RUNS.get(run_id)
        if run is not None:
            self._rewrite_inputs(run, inputs)
            self._end(run, error)

    # --- tools and retrievers ---------------------------------------------------------------------------------------

    @_open_to_failure
    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the span of a tool."""
        run = self._begin("work", keys.TOOL, run_id, parent_run_id, name or _name(serialized, "tool"), metadata, tags)
        if run is not None:
            value = inputs if isinstance(inputs, dict) else _literal(input_str)
            self._write_start(run, value, kwargs, metadata, tags)

    @_open_to_failure
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End it."""
        self._end(RUNS.get(run_id), None, output, has_outputs=True)

    @_open_to_failure
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End it with an error."""
        self._end(RUNS.get(run_id), error)

    @_open_to_failure
    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the span of a retriever."""
        run = self._begin(
            "work", keys.RETRIEVER, run_id, parent_run_id, name or _name(serialized, "retriever"), metadata, tags
        )
        if run is not None:
            self._write_start(run, query, kwargs, metadata, tags)

    @_open_to_failure
    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        """End it; documents in the form that MLflow's UI and judges read."""
        run = RUNS.get(run_id)
        if run is None:
            return
        found: Sequence[Any] = documents
        if run.enforcement.keeps_payload(run.kind):
            found = [
                {"page_content": d.page_content, "metadata": d.metadata, "id": d.id}
                if hasattr(d, "page_content")
                else d
                for d in documents
            ]
        self._end(run, None, found, has_outputs=True)

    @_open_to_failure
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End it with an error."""
        self._end(RUNS.get(run_id), error)

    # --- models -----------------------------------------------------------------------------------------------------

    @_open_to_failure
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the span of a chat model's call, unless a budget refuses the call.

        Raises:
            BudgetExceededError: Before the request is sent.
        """
        run = self._begin(
            "model", keys.CHAT_MODEL, run_id, parent_run_id, name or _name(serialized, "chat model"), metadata, tags
        )
        self._start_model(run, run_id, serialized, messages, metadata, kwargs, tags)

    @_open_to_failure
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the span of a string model's call, unless a budget refuses the call.

        Raises:
            BudgetExceededError: Before the request is sent.
        """
        run = self._begin("model", keys.LLM, run_id, parent_run_id, name or _name(serialized, "llm"), metadata, tags)
        self._start_model(run, run_id, serialized, prompts, metadata, kwargs, tags)

    def _start_model(
        self,
        run: Run | None,
        run_id: UUID,
        serialized: Mapping[str, Any] | None,
        prompt: Any,
        metadata: Mapping[str, Any] | None,
        kwargs: dict[str, Any],
        tags: list[str] | None,
    ) -> None:
        fresh = run is not None
        run = run if run is not None else RUNS.get(run_id)
        if run is None:
            return
        if fresh:
            params = kwargs.get("invocation_params") or {}
            run.request = call_request(
                metadata=metadata,
                invocation_params=params,
                serialized=serialized,
                messages=prompt,
                batch_size=kwargs.get("batch_size") or 1,
            )
            run.prompt, run.tools = prompt, params.get("tools")
            for invocation in run.invocations:
                invocation.ledger.enter(run_id, run.node)
            recorder.hear(run, prompt)
            if TRACING_FAULT is None:
                recorder.hear_tools(run, params)
                self._write_model_start(run, prompt, params, kwargs, metadata, tags)
        try:
            self._reserve(run)
        except BudgetExceededError as refusal:
            # LangChain sends no end event for a call that was refused at its start.
            self._settle(run, Decimal(0))
            self._end(run, refusal)
            raise

    def _write_model_start(
        self,
        run: Run,
        prompt: Any,
        params: Mapping[str, Any],
        kwargs: dict[str, Any],
        metadata: Mapping[str, Any] | None,
        tags: list[str] | None,
    ) -> None:
        if run.state is None:
            return
        if run.enforcement.keeps_payload("model"):
            recorder.write_payload(run, keys.INPUTS, _chat_inputs(prompt))
            run.attributes[keys.MESSAGE_FORMAT] = '"langchain"'
        else:
            run.state.record.drop("inputs", run.enforcement.reason)
        if run.enforcement.keeps_details("model"):
            details: dict[str, Any] = {}
            tools = params.get("tools")
            if tools:
                details[keys.CHAT_TOOLS] = [_chat_tool(tool) for tool in tools]
            details["invocation_params"] = {k: _schema(v) for k, v in params.items() if k != "tools"}
            if run.enforcement.level == "full":
                details.update({k: v for k, v in kwargs.items() if k != "invocation_params"})
                details.update({"metadata": metadata} if metadata else {})
                details.update({"tags": tags} if tags else {})
            recorder.write_details(run, details)
        recorder.flush_attributes(run)

    def _reserve(self, run: Run) -> None:
        """Ask every budget that governs the run; all or none is reserved."""
        for invocation in run.invocations:
            budgets = invocation.governor.budgets
            if not budgets or any(known is budgets for known, _ in run.reservations):
                continue
            estimate, prompt_usd = _estimate(run, invocation.governor.prices)
            reservation = budgets.reserve(
                trace=invocation.root_id,
                node=run.node,
                session=invocation.session,
                estimate_usd=estimate,
                prompt_usd=prompt_usd,
                model=(run.request.model or "") if run.request else "",
                call=run.run_id,
            )
            run.reservations.append((budgets, reservation))

    @_open_to_failure
    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        """Count a streamed chunk; nothing is serialised.

        Raises:
            BudgetExceededError: The stream has passed a limit; it ends here.
        """
        run = RUNS.get(run_id)
        if run is None:
            return
        if not run.tokens:
            run.first_token_ns = time.time_ns()
        run.tokens.append(token if token and type(token) is str else _chunk_text(token, chunk))
        if len(run.tokens) % STREAM_CHECK_TOKENS == 0:
            self._running(run)

    def _running(self, run: Run) -> None:
        if run.request is None:
            return
        output_tokens = len(run.tokens)
        input_tokens = _prompt_tokens(run)
        for invocation in run.invocations:
            usd = invocation.governor.prices.estimate_usd(run.request, input_tokens, output_tokens)
            estimate = call_of(
                run,
                model=run.request.model or "",
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                usd=None if usd is None else (usd, Decimal(0)),
                estimated=True,
            )
            invocation.ledger.run(run.run_id, estimate)
            if usd is not None:
                for budgets, reservation in run.reservations:
                    if budgets is invocation.governor.budgets:
                        budgets.grow(reservation, usd)

    @_open_to_failure
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Price the call and end its span."""
        run = RUNS.get(run_id)
        if run is None or run.request is None:
            return
        generations = [g for group in response.generations for g in group]
        if TRACING_FAULT is None:
            recorder.hear(run, [getattr(g, "message", None) or g.text for g in generations])
        result = call_result(run.request, response.generations, response.llm_output)
        if result.usage is None and result.billed_usd is None and not result.cached:
            text = said_text(response.generations) or "".join(run.tokens)
            result = estimated_result(run.request, _sent_text(run), text, told=result)
        self._account(run, result)
        outputs: Any = None
        if run.enforcement.keeps_payload("model"):
            outputs = _chat_outputs(response)
        self._write_stream(run)
        self._end(run, None, outputs, has_outputs=True)

    @_open_to_failure
    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: Any = None, **kwargs: Any) -> None:
        """End the span of a call that failed, at no cost, or was broken off, at an estimated one."""
        run = RUNS.get(run_id)
        if run is not None:
            self._break_off(run, error)

    @_open_to_failure
    def break_off(self, run: Run) -> None:
        """End a model's run that will hear of no end."""
        self._break_off(run, GeneratorExit())

    def _break_off(self, run: Run, error: BaseException) -> None:
        text = "".join(run.tokens)
        recorder.hear(run, text)
        if isinstance(error, Exception):
            # A provider's error may quote what it was told.
            recorder.hear(run, str(error))
        aborted = isinstance(error, GeneratorExit | BudgetExceededError) or not isinstance(error, Exception)
        if run.request is not None and (text or aborted):
            self._account(run, estimated_result(run.request, _sent_text(run), text))
        else:
            self._settle(run, Decimal(0))
        self._write_stream(run)
        outputs = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": None}]}
        self._end(run, error, outputs, has_outputs=bool(text) and run.enforcement.keeps_payload("model"))

    def _write_stream(self, run: Run) -> None:
        """One event for all tokens: a value split over two of them is recognised only so."""
        if not run.tokens or TRACING_FAULT is not None or run.span is None or run.first_token_ns is None:
            return
        waited = (run.first_token_ns - run.start_ns) / 1e9
        run.attributes["stream.chunks"] = str(len(run.tokens))
        run.attributes["stream.time_to_first_token_s"] = repr(round(waited, 6))
        if run.enforcement.keeps_stream:
            recorder.add_event(run, "stream", {"text": "".join(run.tokens)})

    def _account(self, run: Run, result: CallResult) -> None:
        """Price a call, settle what was reserved for it, and write the first handler's figures."""
        assert run.request is not None
        accounted = account(run, run.request, result, key=run.run_id)
        if run.state is not None:
            run.attributes.update(_call_attributes(run, result, accounted[0].priced))
        for invocation, priced, _ in accounted:
            for budgets, reservation in run.reservations:
                if budgets is invocation.governor.budgets:
                    budgets.settle(reservation, priced.cost.total_usd if priced.cost is not None else None)
        run.reservations.clear()
        for invocation, _, call in accounted:
            invocation.governor.tell(call)

    def _settle(self, run: Run, usd: Decimal) -> None:
        for budgets, reservation in run.reservations:
            budgets.settle(reservation, usd)
        run.reservations.clear()
        for invocation in run.invocations:
            invocation.ledger.drop(run.run_id)

    # --- events of a run --------------------------------------------------------------------------------------------

    @_open_to_failure
    def on_retry(self, retry_state: RetryCallState, *, run_id: UUID, **kwargs: Any) -> None:
        """Note a retry."""
        run = RUNS.get(run_id)
        if run is None or TRACING_FAULT is not None:
            return
        attributes: dict[str, Any] = {"attempt": retry_state.attempt_number, "slept": retry_state.idle_for}
        outcome = retry_state.outcome
        if outcome is not None and outcome.failed:
            failure = outcome.exception()
            attributes["exception_type"] = type(failure).__name__
            attributes["exception"] = str(failure)
        recorder.add_event(run, "retry", attributes)

    @_open_to_failure
    def on_text(self, text: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Note a text."""
        self._event(run_id, "text", {"text": text})

    @_open_to_failure
    def on_agent_action(self, action: AgentAction, *, run_id: UUID, **kwargs: Any) -> None:
        """Note an agent's action."""
        self._event(
            run_id, "agent_action", {"tool": action.tool, "tool_input": str(action.tool_input), "log": action.log}
        )

    @_open_to_failure
    def on_agent_finish(self, finish: AgentFinish, *, run_id: UUID, **kwargs: Any) -> None:
        """Note an agent's end."""
        self._event(run_id, "agent_finish", {"return_values": str(finish.return_values), "log": finish.log})

    @_open_to_failure
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note a custom event."""
        self._event(run_id, name, {"data": data if isinstance(data, str) else str(data)})

    def _event(self, run_id: UUID, name: str, attributes: Mapping[str, Any]) -> None:
        run = RUNS.get(run_id)
        if run is not None and TRACING_FAULT is None:
            recorder.add_event(run, name, attributes)

    # --- beginning and end ------------------------------------------------------------------------------------------

    def _begin(
        self,
        kind: Kind,
        span_type: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str] | None,
    ) -> Run | None:
        assert self._governor is not None
        if parent_run_id is None and self.policy.run_name and RUNS.get(run_id) is None:
            name = _run_name(self.policy.run_name, name)
        run = recorder.begin(
            self._governor,
            run_id=run_id,
            parent_run_id=parent_run_id,
            kind=kind,
            span_type=span_type,
            name=name,
            metadata=metadata,
            tags=tags,
        )
        if run is not None and run.parent is None:
            if TRACING_FAULT is None:
                internals.shortcut_autolog()
            run_metrics.began(run)
        return run

    def _write_start(
        self,
        run: Run,
        inputs: Any,
        kwargs: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        tags: list[str] | None,
    ) -> None:
        if run.state is None:
            return
        recorder.write_payload(run, keys.INPUTS, inputs)
        if run.enforcement.level == "full" and run.enforcement.log_prompts:
            details = {k: v for k, v in kwargs.items() if v is not None}
            details.update({"metadata": metadata} if metadata else {})
            details.update({"tags": tags} if tags else {})
            recorder.write_details(run, details)
        recorder.flush_attributes(run)

    def _rewrite_inputs(self, run: Run, inputs: Any) -> None:
        if inputs and TRACING_FAULT is None and run.state is not None:
            recorder.write_payload(run, keys.INPUTS, inputs)

    def _end(
        self, run: Run | None, error: BaseException | None, outputs: Any = None, *, has_outputs: bool = False
    ) -> None:
        if run is None:
            return
        below = RUNS.below(run)
        if run.parent is None:
            # A cancelled model call has no end event, and in a sequence the root's end comes before a stream's error.
            for child in below:
                if child.kind == "model":
                    self.break_off(child)
                else:
                    recorder.finish(child, error=None)
        elif any(child.kind == "model" for child in below):
            # The end of a stream that was closed early comes after that of the chain around it: wait for its cost.
            run.outcome = functools.partial(recorder.finish, run, error=error, outputs=outputs, has_outputs=has_outputs)
            return
        recorder.finish(run, error=error, outputs=outputs, has_outputs=has_outputs)
        if run.parent is None:
            run_metrics.ended(run)
            return
        parent: Run | None = run.parent
        while parent is not None and parent.outcome is not None and not RUNS.below(parent):
            ending, parent.outcome = parent.outcome, None
            ending()
            parent = parent.parent


_tracing_classes: dict[type[MlflowCostHandler], type[MlflowCostHandler]] = {}


def _tracing_class(base: type[MlflowCostHandler]) -> type[MlflowCostHandler]:
    """The class of handlers that record: one that autolog takes for its own tracer."""
    if base in _tracing_classes:
        return _tracing_classes[base]
    made = type(base.__name__, (base,), {"__module__": base.__module__, "__qualname__": base.__qualname__})
    internals.stand_in_for_tracer(made)
    _tracing_classes[base] = made
    return made


def _price_book(policy: Policy) -> PriceBook:
    fallback = None
    if TRACING_FAULT is None:
        fallback = internals.catalogue_rates
    return policy.price_book(fallback)


def _switch_autolog_on() -> None:
    try:
        if not internals.autolog_is_on():
            import mlflow.langchain  # noqa: PLC0415 - slow, and only needed where autolog is off

            mlflow.langchain.autolog()
    except Exception as error:  # noqa: BLE001 - the handler records without autolog
        log.warning("langchain_mlflow_cost could not switch mlflow.langchain.autolog on (%s)", type(error).__name__)


def _run_name(template: str, workflow_name: str) -> str:
    return template.replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S", time.gmtime())).replace(
        "{workflow_name}", workflow_name
    )


# --- LangChain's shapes ---------------------------------------------------------------------------------------------


def _name(serialized: Mapping[str, Any] | None, default: str) -> str:
    if not serialized:
        return default
    named = serialized.get("name")
    return str(named) if named else str((serialized.get("id") or [default])[-1])


def _literal(text: str) -> Any:
    # A tool that takes a dict is told to handlers as the text of that dict.
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _chat_form(message: Any) -> Any:
    """A message as MLflow's UI shows it; one that its form has no place for as it is."""
    try:
        return internals.chat_message(message)
    except Exception:  # noqa: BLE001 - whatever MLflow's conversion refuses
        return message


def _in_chat_form(message: Any) -> Any:
    return Converted(message, _chat_form) if isinstance(message, BaseMessage) else message


def _chat_inputs(prompt: Any) -> Any:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], list):
        return {"messages": [_in_chat_form(message) for message in prompt[0]]}
    return prompt


def _chat_outputs(response: LLMResult) -> Any:
    if len(response.generations) != 1:
        return response
    choices = []
    for generation in response.generations[0]:
        message = getattr(generation, "message", None)
        content = {"role": "assistant", "content": generation.text} if message is None else _in_chat_form(message)
        choices.append({"message": content, "finish_reason": None})
    return {"choices": choices}


def _chat_tool(tool: Any) -> Any:
    """A tool definition in the form that MLflow's UI shows: OpenAI's; others by name and description."""
    if isinstance(tool, Mapping) and "function" not in tool and tool.get("name"):
        return {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description"),
                "parameters": tool.get("input_schema") or tool.get("parameters"),
            },
        }
    return tool


def _schema(value: Any) -> Any:
    """A structured-output class as its schema: the class itself says nothing once it is text."""
    schema = getattr(value, "model_json_schema", None)
    return schema() if isinstance(value, type) and callable(schema) else value


def _chunk_text(token: Any, chunk: Any) -> str:
    """What a streamed chunk says; a tool call comes in pieces without a token."""
    if token and isinstance(token, str):
        return token
    message = getattr(chunk, "message", None)
    pieces = getattr(message, "tool_call_chunks", None) or ()
    return "".join(f"{piece.get('name') or ''}{piece.get('args') or ''}" for piece in pieces) or str(
        getattr(chunk, "text", "") or ""
    )


def _prompt_text(prompt: Any) -> str:
    """Everything that was sent, as one text, to count its tokens."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple):
        return "\n".join(_prompt_text(member) for member in prompt)
    if isinstance(prompt, Mapping):
        return orjson.dumps(prompt, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    content = getattr(prompt, "content", None)
    if isinstance(content, list):
        content = "\n".join(
            block if isinstance(block, str) else str(block.get("text") or block.get("content") or "")
            for block in content
        )
    if not isinstance(content, str):
        return "" if prompt is None else str(prompt)
    calls = getattr(prompt, "tool_calls", None) or ()
    return "\n".join([content, *(f"{call.get('name', '')}{call.get('args', '')}" for call in calls)])


def _sent_text(run: Run) -> str:
    """The prompt and the tool definitions beside it."""
    return "\n".join((_prompt_text(run.prompt), _prompt_text(run.tools)))


def _prompt_tokens(run: Run) -> int:
    if run.request is None:
        return 0
    if run.prompt_tokens is None:
        run.prompt_tokens = estimate_prompt_tokens(run.request, _sent_text(run))
    return run.prompt_tokens


def _estimate(run: Run, prices: PriceBook) -> tuple[Decimal | None, Decimal | None]:
    """USD that a call may cost, and the part of it that its prompt costs."""
    if run.request is None or run.request.model is None:
        # The response may name the model that the request does not: until then the call is paid, but by how much?
        return _ALMOST_NOTHING, _ALMOST_NOTHING
    prompt_tokens = _prompt_tokens(run)
    longest = min(run.request.max_output_tokens or ASSUMED_OUTPUT_TOKENS, RESERVED_OUTPUT_TOKENS)
    answer = longest * max(run.request.n, 1)
    return (
        prices.estimate_usd(run.request, prompt_tokens, answer),
        prices.estimate_usd(run.request, prompt_tokens, 0),
    )


def _call_attributes(run: Run, result: CallResult, priced: PricedCall) -> dict[str, str]:
    """A model span's own attributes, as the JSON text that MLflow's registry reads."""
    written = {keys.MODEL: dumped(priced.model)}
    provider = result.provider or (run.request.provider if run.request else None)
    if provider:
        written[keys.MODEL_PROVIDER] = dumped(provider)
    usage = result.usage
    # Unpriced is not what the store makes of it: it would take any provider's price for a model of that name.
    priced_by_store = TRACING_FAULT is None and priced.cost is None and internals.store_would_price(priced.model)
    if usage is not None and not result.cached and not priced_by_store:
        counts = {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "total_tokens": result.input_tokens + result.output_tokens,
        }
        if usage.cache_read:
            counts["cache_read_input_tokens"] = usage.cache_read
        if usage.cache_write or usage.cache_write_1h:
            counts["cache_creation_input_tokens"] = usage.cache_write + usage.cache_write_1h
        written[keys.CHAT_USAGE] = dumped(counts)
    if priced.cost is not None:
        written[keys.LLM_COST] = dumped(cost_attribute(priced.cost))
    if priced.source:
        written["cost.price_source"] = dumped(priced.source)
    if result.estimated:
        written["cost.estimated"] = "true"
    return written
