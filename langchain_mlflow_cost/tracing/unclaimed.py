"""Spans with no LangChain run above them, which only the handler of `configure(everywhere=True)` governs.

They are roots of other libraries' autologs, `@mlflow.trace`, plain `mlflow.start_span`, and whatever raw threads start.
What `trace_decorator` starts is under the handler that was made last where there is no such one.
A run that stands for none, the trace's *account*, is what their model calls are counted in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost import switched
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, types_in_trace
from langchain_mlflow_cost.adapters.trace_info import TraceMetadataKey, trace_info
from langchain_mlflow_cost.tracing import run_metrics
from langchain_mlflow_cost.tracing.recording import tell_sums
from langchain_mlflow_cost.tracing.runs import Run
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.trace import Trace, known_trace, make_known

if TYPE_CHECKING:
    from langchain_mlflow_cost.adapters.spans import SdkSpan
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.handler_state import HandlerState

_everywhere: HandlerState | None = None


def govern_unclaimed(state: HandlerState | None) -> None:
    """Let a handler govern the spans that nobody else does, from now on; None: leave them alone again."""
    global _everywhere  # noqa: PLW0603 - one for the process, replaced whole
    _everywhere = state


def unclaimed_state(span: SdkSpan) -> SpanState | None:
    """The state of a span that starts below no governed one; None where nobody governs it."""
    declared = switched.governing_declared(span.name)
    handler = _everywhere or declared
    if handler is None:
        return None
    trace = known_trace(span.context.trace_id)
    if trace is None or (span.parent is None and trace.is_at_rest):
        # Also where a program seeds `random` anew, and the id of a trace is drawn a second time.
        trace = Trace()
        make_known(span.context.trace_id, trace)
        # What it is below of is another process's, or was there before anything was governed.
        trace.keeps_budgets = span.parent is not None
        trace.is_shared = span.parent is not None and (
            _everywhere is not None or span.parent.is_remote or _has_calls_of_others(span)
        )
    account = trace.account
    if account is None or handler not in account.handlers:
        account = trace.account = _make_account(handler, trace)
    policy = account.policy
    with trace.lock:
        trace.info_policy = policy if trace.info_policy is None else trace.info_policy.stricter(policy)
        if not trace.keepers:
            trace.is_released = False
    handler.add_trace(trace)
    return SpanState(trace.info_policy, trace, "root", is_foreign=True, account=account)


def _has_calls_of_others(span: SdkSpan) -> bool:
    # Calls before anything was governed are the store's to price and add up.
    return bool(types_in_trace(span) & keys.MODEL_TYPES)


def _make_account(handler: HandlerState, trace: Trace) -> Run:
    account = Run(uuid4(), None, (), "root", "")
    account.trace = trace
    account.handlers = (handler,)
    trace.add_handler(handler, None)
    account.policy = trace.policy_at(account.handlers, ())
    run_metrics.note_active_run(account)
    return account


def open_unclaimed(span: GuardedSpan) -> None:
    """Note that a span of `unclaimed_state`'s keeps its trace open."""
    trace = span.lmc_state.trace
    trace.root = trace.root or span
    trace.keepers.add(span)


def note_trace_id(span: GuardedSpan, request_id: str) -> None:
    """Learn MLflow's id of a trace, which it writes after the guard has seen the root."""
    trace = span.lmc_state.trace
    if not trace.trace_id and trace.account is not None:
        trace.trace_id = json.loads(request_id)


def find_session(account: Run, span: GuardedSpan) -> None:
    """Take the session that the application gave its trace for that of the calls in it."""
    request_id = (span.attributes or {}).get(SpanAttributeKey.REQUEST_ID)
    if account.session_id is None and isinstance(request_id, str):
        with trace_info(json.loads(request_id)) as info:
            session_id = None if info is None else info.trace_metadata.get(TraceMetadataKey.TRACE_SESSION)
        account.session_id = session_id


def close_unclaimed(trace: Trace) -> None:
    """Tell the sums of the calls that no run was above, once nothing keeps their trace open."""
    account = trace.account
    if account is None:
        return
    if account.totals.has_any:
        run_metrics.log_sums(account)
        tell_sums(account)
    trace.metric_runs.pop(account, None)
