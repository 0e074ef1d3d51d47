"""What a run that begins is part of: the run above it, and the trace and span that a root goes on in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def parent_of(parent_run_id: UUID | None) -> tuple[Run | None, bool]:
    """The run above, and whether a root may continue what is active in MLflow's context."""
    parent = RUNS.parent(parent_run_id)
    if parent is not None:
        return parent, True
    look_up_context()
    before = RUNS.ended(parent_run_id)
    if before is not None:
        # A thread or task that outlives its node or its invocation goes on in the same trace.
        return next((run for run in before.lineage() if run.is_open), None), True
    active = active_now()
    state = guard.state_of(active)
    if state is None:
        # A guarded span that is over is not active any more, but stands in the context all the same.
        stale = active if isinstance(active, SdkSpan) else active_span()
        return None, not (isinstance(stale, SdkSpan) and (ended(stale) or guard.state_of(stale) is not None))
    if state.is_final or state.is_held:
        # Likewise, where nobody holds it, or what was told is nobody's that we know.
        around = _lineage_from(state.owner, parent_run_id)
        above = next((run for run in around if run.is_open), None)
        return above, above is not None or (state.is_held and (bool(around) or state.trace.is_past_its_end))
    owner = state.owner
    if owner is None or not owner.is_open:
        # In a span of the user's own, above an invocation that was put under guard, what comes next is inside it too.
        return None, owner is None
    # `batch` of a sequence and `generate` start one run after the other before the first has ended: siblings.
    here = find_caller()
    parent = next((run for run in owner.lineage() if run.place.frame != here), None)
    return parent, parent is not None


def _lineage_from(owner: Run | None, run_id: UUID | None) -> list[Run]:
    """A run and those above it, if it is a span's owner or one that the owner is in."""
    lineage = [] if owner is None or run_id is None else list(owner.lineage())
    return next((lineage[at:] for at, run in enumerate(lineage) if run.run_id == run_id), [])


def trace_around(parent_run_id: UUID | None, *, inherits: bool) -> Trace:
    """The trace that a root begins in."""
    before = RUNS.ended(parent_run_id)
    if before is not None:
        return before.trace
    native = native_span(parent_run_id)
    if native is None and not inherits:
        return Trace()
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


def span_above_root(told_parent: UUID | None) -> Any:
    """The span that a root is below: of a run that has ended in a held trace, or of MLflow's own tracer."""
    before = RUNS.ended(told_parent)
    return before.span if before is not None and before.span is not None else native_span(told_parent)
