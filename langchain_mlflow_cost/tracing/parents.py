"""What a run that begins is part of: the run above it, open or outlived, and the trace that a root goes on in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_mlflow_cost.adapters.active import active_span, look_up_context
from langchain_mlflow_cost.adapters.autolog import native_span
from langchain_mlflow_cost.adapters.spans import SdkSpan, ended, is_below_local_root, otel
from langchain_mlflow_cost.tracing import guard
from langchain_mlflow_cost.tracing.active_run import active_now
from langchain_mlflow_cost.tracing.place import find_caller
from langchain_mlflow_cost.tracing.runs import RUNS
from langchain_mlflow_cost.tracing.trace import Trace, known_trace

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_mlflow_cost.tracing.runs import Run
    from langchain_mlflow_cost.tracing.span_state import SpanState


def parent_of(parent_run_id: UUID | None) -> tuple[Run | None, bool]:
    """The run above, and whether a root may continue what is active in MLflow's context."""
    parent = RUNS.parent(parent_run_id)
    if parent is not None:
        return parent, True
    look_up_context()
    before = RUNS.ended(parent_run_id)
    if before is not None:
        # A thread or task that outlives its node goes on in the same trace, and in the sums of what it is in.
        return before, True
    active = active_now()
    state = guard.state_of(active)
    if state is None:
        # A guarded span that is over is not active any more, but stands in the context all the same.
        stale = active if isinstance(active, SdkSpan) else active_span()
        return None, not (isinstance(stale, SdkSpan) and (ended(stale) or guard.state_of(stale) is not None))
    if state.is_final or state.is_held:
        return _outlived(state, parent_run_id)
    owner = state.owner
    if owner is None or not owner.is_open:
        # In a span of the user's own, above an invocation that was put under guard, what comes next is inside it too.
        return None, owner is None
    # `batch` of a sequence and `generate` start one run after the other before the first has ended: siblings.
    here = find_caller()
    parent = next((run for run in owner.lineage() if run.place.frame != here), None)
    return parent, parent is not None


def _outlived(state: SpanState, parent_run_id: UUID | None) -> tuple[Run | None, bool]:
    """Likewise, where the trace is not held, or what was told is nobody's that we know."""
    told = _told(state.owner, parent_run_id)
    if told is not None and told.span is not None and (state.is_held or told.open_above() is not None):
        return told, True
    return None, state.is_held and (told is not None or state.trace.is_past_its_end)


def _told(owner: Run | None, run_id: UUID | None) -> Run | None:
    """The run that LangChain told as the parent, if it is a span's owner or one that the owner is in."""
    if owner is None or run_id is None:
        return None
    return next((run for run in owner.lineage() if run.run_id == run_id), None)


def trace_around(parent_run_id: UUID | None, *, inherits: bool) -> Trace:
    """The trace that a root begins in."""
    native = native_span(parent_run_id)
    if native is None and not inherits:
        return Trace(_outlived_trace(parent_run_id))
    active = active_now() if native is None else otel(native)
    state = guard.state_of(active)
    if state is not None:
        return state.trace
    context = active.get_span_context()
    known = known_trace(context.trace_id) if context.is_valid else None
    if known is None or (isinstance(active, SdkSpan) and is_below_local_root(active) and known.is_at_rest):
        # An open root of a known trace is guarded: it is another trace, whose id was drawn a second time.
        return Trace()
    return known


def _outlived_trace(parent_run_id: UUID | None) -> Trace | None:
    """The trace that a run outlives, whose spans have left: the run begins one of its own, within the same limits."""
    state = guard.state_of(active_now())
    if state is None or not state.is_final or _told(state.owner, parent_run_id) is None:
        return None
    return state.trace
