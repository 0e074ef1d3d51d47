"""The callback handler: LangChain's events in, nothing else.

It takes the place of MLflow's own LangChain tracer instead of following it, so what the policy drops is never
serialised, and the order in which LangChain calls handlers does not matter.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from langchain_core.callbacks import BaseCallbackHandler

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost import switched
from langchain_mlflow_cost.adapters.interrupts import GraphBubbleUp, is_resumed
from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.budgets.redis import open_redis
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.messages import chunk_text
from langchain_mlflow_cost.notices import Once, printable, warn, warn_or_log
from langchain_mlflow_cost.policy.problems import PolicyWarning
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.pricing.book import warm_up
from langchain_mlflow_cost.pricing.reading import call_request, call_result
from langchain_mlflow_cost.pricing.summary import CostSummary
from langchain_mlflow_cost.tracing.calls import ModelCall, ask_for_unrecorded
from langchain_mlflow_cost.tracing.choosing import choose_recorder
from langchain_mlflow_cost.tracing.handler_state import HandlerState
from langchain_mlflow_cost.tracing.runs import RUNS

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager
    from uuid import UUID

    from langchain_core.agents import AgentAction, AgentFinish
    from langchain_core.documents import Document
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult
    from tenacity import RetryCallState

    from langchain_mlflow_cost.budgets.rules import BudgetEvent
    from langchain_mlflow_cost.policy.node_policy import Kind
    from langchain_mlflow_cost.pricing.ledger import Call
    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

_SET_UPS = Once(log)

F = TypeVar("F", bound=Callable[..., Any])


def _open_to_failure(method: F) -> F:
    """Let a budget's refusal or question out and nothing else: no fault of ours may break the user's graph."""

    @functools.wraps(method)
    def call(self: MlflowCostHandler, *args: Any, **kwargs: Any) -> Any:
        if self._state is None:
            return None
        try:
            return method(self, *args, **kwargs)
        except (BudgetExceededError, GraphBubbleUp):
            raise
        except Exception as error:  # noqa: BLE001 - this is the one place; the operator is told once a cause
            self._tell(method.__name__, error)
            return None

    return cast("F", call)


class MlflowCostHandler(BaseCallbackHandler):
    """Cost, budgets and a payload policy for LangChain and LangGraph runs traced in MLflow.

    Pass it wherever LangChain takes callbacks. One handler may serve any number of invocations at once.

    Args:
        policy: A `Policy`, a mapping with its keys, or the path of a YAML file. None: the file that the environment
            variable `LANGCHAIN_MLFLOW_COST_POLICY` names, else the defaults.
        on_cost: Called with a `Call` after every model call that was priced or counted, in the thread of the run.
            What it raises is logged, not raised.
        on_budget: Called with a `BudgetEvent` where a sum reaches a fraction of `warn_at`, and where a call is refused;
            likewise.

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
        on_budget: Callable[[BudgetEvent], None] | None = None,
    ) -> None:
        super().__init__()
        self.policy = Policy.load(policy)
        self._once = Once(log)
        self._state: HandlerState | None = None
        if not self.policy.enabled:
            switched.note(enabled=False)
            return
        self._recorder = choose_recorder()
        self._state = HandlerState(
            self,
            self.policy,
            self.policy.price_book(self._recorder.catalogue_rates),
            Budgets(self.policy.all_budgets, open_store=open_redis, on_budget=on_budget),
            on_cost,
            self._recorder.most_answer_tokens,
        )
        switched.note(enabled=True, state=self._state)
        warm_up()
        for doubt in self.policy.price_doubts(self._recorder.catalogue_rates):
            warn(doubt, PolicyWarning)
        # Not for a handler that is off: autolog would take it for its tracer all the same, and trace nothing.
        self.__class__ = self._recorder.install(type(self))
        if self.policy.autolog_enabled:
            self._recorder.switch_autolog_on()
        if self.policy.enable_prompt_registry:
            with contextlib.suppress(Exception):  # no fault of MLflow's may keep a handler from being made
                self._recorder.watch_prompts()
        self._tell_set_up()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Copied with a config or a graph: the copy belongs to the same invocations, budgets and sums.
        return self

    def __reduce__(self) -> tuple[type[MlflowCostHandler], tuple[Policy]]:
        return MlflowCostHandler, (self.policy,)

    def govern_everything(self) -> None:
        """Govern what no other handler of this process governs, instead of the one that did so before."""
        if self._state is not None:
            self._state.is_everywhere = True
            self._recorder.govern_everywhere(self._state)

    def release_everything(self) -> None:
        """Take `govern_everything` back."""
        if self._state is not None:
            self._recorder.govern_everywhere(None)

    # --- what it knows ----------------------------------------------------------------------------------------------

    def summary(self, trace_id: str | None = None) -> CostSummary:
        """What a trace has cost up to now, also while it runs.

        Args:
            trace_id: MLflow's id; None for the invocation that began last.

        Returns:
            An empty summary, and a warning, if the handler knows no such trace (it remembers the last 256).
        """
        if self._state is None:
            return CostSummary(trace_id=trace_id or "")
        found = self._state.summary(trace_id)
        if found is None and trace_id is not None:
            warn_or_log(f"no cost summary for trace {printable(trace_id)}: this handler knows none of that id", log)
        return found if found is not None else CostSummary(trace_id=trace_id or "")

    def live(self, **options: Any) -> AbstractContextManager[Any]:
        """Show a table of nodes, models, calls, tokens and USD that grows while the block runs.

        Args:
            options: As `langchain_mlflow_cost.live.live_table` takes them.
        """
        from langchain_mlflow_cost.live import live_table  # noqa: PLC0415 - rich is only needed to look

        return live_table(self.summary, **options)

    def _tell_set_up(self) -> None:
        """Tell the operator, once in a process, what is in force: a web application may make many handlers."""
        if not log.isEnabledFor(logging.INFO):
            return
        with contextlib.suppress(Exception):  # No fault of MLflow's may keep a handler from being made.
            policy, budgets = self.policy, len(self.policy.all_budgets)
            prompts = "" if policy.log_prompts else " without prompts"
            told = f"{self._recorder.destination()}; payloads {policy.artifact_level}{prompts}; budgets {budgets}"
            if _SET_UPS.is_new(told):
                log.info("langchain_mlflow_cost is set up: %s", told)

    def _tell(self, where: str, error: BaseException) -> None:
        if sys.is_finalizing():
            return  # a stream that was never read to its end is closed when modules are gone already
        # The message of the error may quote a payload: its type is all that may be told.
        name = type(error).__name__
        if self._once.log((where, name), "langchain_mlflow_cost failed in %s (%s); the run goes on", where, name):
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
        known = run or RUNS.get(run_id)
        if known is not None:
            # Also where another handler was told first: this one's policy may be the private one.
            self._recorder.remember_given(known, inputs)
        if run is None:
            return
        run.is_resumed = is_resumed(inputs, is_root=run.parent is None)
        self._recorder.write_start(run, inputs, _details(kwargs, metadata, tags))

    @_open_to_failure
    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        """End it. Inputs come again where they were a stream at the start."""
        run = RUNS.get(run_id)
        if run is not None:
            self._recorder.remember_returned(run, outputs)
            self._recorder.write_inputs(run, inputs)
            self._recorder.end(run, error=None, outputs=outputs, has_outputs=True)

    @_open_to_failure
    def on_chain_error(self, error: BaseException, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        """End it with an error, unless it is an interrupt or a closed stream."""
        run = RUNS.get(run_id)
        if run is not None:
            self._recorder.remember_returned(run, error)
            self._recorder.write_inputs(run, inputs)
            self._recorder.end(run, error=error)

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
            run.tool = _name(serialized, name or "tool")
            run.trace.declared.add(_name(serialized, "tool"))
            value = inputs if isinstance(inputs, dict) else _literal(input_str)
            self._recorder.write_start(run, value, _details(kwargs, metadata, tags))

    @_open_to_failure
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End it."""
        self._end(run_id, outputs=output, has_outputs=True)

    @_open_to_failure
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End it with an error."""
        self._end(run_id, error=error)

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
            self._recorder.write_start(run, query, _details(kwargs, metadata, tags))

    @_open_to_failure
    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        """End it; documents in the form that MLflow's UI and judges read."""
        run = RUNS.get(run_id)
        if run is None:
            return
        self._recorder.remember_returned(run, documents)
        found: Sequence[Any] = documents
        if run.policy.keeps_payload(run.kind):
            found = [
                {"page_content": d.page_content, "metadata": d.metadata, "id": d.id}
                if hasattr(d, "page_content")
                else d
                for d in documents
            ]
        self._recorder.end(run, error=None, outputs=found, has_outputs=True)

    @_open_to_failure
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End it with an error."""
        self._end(run_id, error=error)

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
        run = self._begin_model(keys.CHAT_MODEL, "chat model", run_id, parent_run_id, name, serialized, metadata, tags)
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
        run = self._begin_model(keys.LLM, "llm", run_id, parent_run_id, name, serialized, metadata, tags)
        self._start_model(run, run_id, serialized, prompts, metadata, kwargs, tags)

    def _begin_model(
        self,
        span_type: str,
        default: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        serialized: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        tags: list[str] | None,
    ) -> Run | None:
        assert self._state is not None
        try:
            named = name or _name(serialized, default)
            return self._begin("model", span_type, run_id, parent_run_id, named, metadata, tags)
        except BudgetExceededError:
            raise
        except Exception:
            # Nothing is recorded of the call: a budget is asked all the same.
            ask_for_unrecorded(self._state, RUNS.parent(parent_run_id), run_id, metadata, serialized)
            raise

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
        is_new = run is not None
        run = run if run is not None else RUNS.get(run_id)
        if run is None:
            return
        params = kwargs.get("invocation_params") or {}
        if run.call is None:
            request = call_request(
                metadata=metadata,
                invocation_params=params,
                serialized=serialized,
                messages=prompt,
                batch_size=kwargs.get("batch_size") or 1,
            )
            run.call = ModelCall(run, request, key=run_id, prompt=prompt, params=params)
            self._recorder.watch_call(run)
        try:
            # Before anything is heard or written, which may raise: a budget is asked whatever else fails.
            run.call.reserve()
        except (BudgetExceededError, GraphBubbleUp) as refusal:
            # LangChain sends no end event for a call that was refused, or is asked about, at its start.
            run.call.give_back()
            self._write_model_start(run, prompt, params, kwargs, metadata, tags)
            self._recorder.end(run, error=refusal)
            raise
        if is_new:
            self._write_model_start(run, prompt, params, kwargs, metadata, tags)
        else:
            # Another handler was told first, and wrote it; this one's policy may be the private one.
            self._hear_model_start(run, prompt, params)

    @_open_to_failure
    def _write_model_start(
        self,
        run: Run,
        prompt: Any,
        params: Mapping[str, Any],
        kwargs: dict[str, Any],
        metadata: Mapping[str, Any] | None,
        tags: list[str] | None,
    ) -> None:
        self._hear_model_start(run, prompt, params)
        details = {key: value for key, value in kwargs.items() if key != "invocation_params"}
        self._recorder.write_model_start(run, prompt, params, _details(details, metadata, tags))

    def _hear_model_start(self, run: Run, prompt: Any, params: Mapping[str, Any]) -> None:
        self._recorder.remember_prompt(run, prompt, params)
        self._recorder.note_declared(run, params)

    @_open_to_failure
    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        """Count a streamed chunk; nothing is serialised.

        Raises:
            BudgetExceededError: The stream has passed a limit; it ends here.
        """
        run = RUNS.get(run_id)
        if run is not None and run.call is not None:
            if chunk is not None and not run.policy.log_prompts:
                run.call.heard.append(chunk)
            run.call.stream(token if token and type(token) is str else chunk_text(token, chunk), chunk)

    @_open_to_failure
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Price the call and end its span."""
        run = RUNS.get(run_id)
        if run is None or run.call is None:
            return
        generations = response.generations
        self._recorder.remember_private(run, response)
        call = run.call
        if call is None:
            return  # another thread has ended it meanwhile, with the invocation above it, and counted it
        result = call_result(call.request, generations, response.llm_output)
        self._recorder.write_call(run, call.settle_answer(result, generations))
        self._recorder.end(run, error=None, outputs=response, has_outputs=True)

    @_open_to_failure
    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: Any = None, **kwargs: Any) -> None:
        """End the span of a call that failed, at what was billed for it, or was broken off, at an estimate."""
        run = RUNS.get(run_id)
        if run is not None:
            self._recorder.break_off(run, error, response)

    # --- events of a run --------------------------------------------------------------------------------------------

    @_open_to_failure
    def on_retry(self, retry_state: RetryCallState, *, run_id: UUID, **kwargs: Any) -> None:
        """Note a retry."""
        run = RUNS.get(run_id)
        if run is None:
            return
        attributes: dict[str, Any] = {"attempt": retry_state.attempt_number, "slept": retry_state.idle_for}
        outcome = retry_state.outcome
        if outcome is not None and outcome.failed:
            failure = outcome.exception()
            attributes["exception_type"] = type(failure).__name__
            attributes["exception"] = str(failure)
        elif outcome is not None and run.policy.artifact_level == "full":
            attributes["result"] = str(outcome.result())
        self._recorder.add_event(run, "retry", attributes)

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
        if run is not None:
            self._recorder.add_event(run, name, attributes)

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
        assert self._state is not None
        if parent_run_id is None and self.policy.run_name and RUNS.get(run_id) is None:
            name = _run_name(self.policy.run_name, name)
        return self._recorder.begin(
            self._state,
            run_id=run_id,
            parent_run_id=parent_run_id,
            kind=kind,
            span_type=span_type,
            name=name,
            metadata=metadata,
            tags=tags,
        )

    def _end(
        self, run_id: UUID, *, error: BaseException | None = None, outputs: Any = None, has_outputs: bool = False
    ) -> None:
        run = RUNS.get(run_id)
        if run is not None:
            self._recorder.remember_returned(run, outputs if error is None else error)
            self._recorder.end(run, error=error, outputs=outputs, has_outputs=has_outputs)


def _details(
    kwargs: Mapping[str, Any], metadata: Mapping[str, Any] | None, tags: Sequence[str] | None
) -> dict[str, Any]:
    """What LangChain tells of a start besides its payload."""
    details = {key: value for key, value in kwargs.items() if value is not None}
    details.update({"metadata": metadata} if metadata else {})
    details.update({"tags": tags} if tags else {})
    return details


def _run_name(template: str, workflow_name: str) -> str:
    return template.replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S", time.gmtime())).replace(
        "{workflow_name}", workflow_name
    )


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
