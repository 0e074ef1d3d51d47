"""What a test spent, node by node, whatever it was told by: a handler, a trace, or all that the test began."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.handler import MlflowCostHandler
from langchain_mlflow_cost.pricing.summary import CostSummary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.trace import Trace


@dataclass(slots=True)
class NodeSpent:
    """The calls of one node."""

    usd: float = 0.0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class Spent:
    """Sums of some traces."""

    traces: int = 0
    nodes: dict[str, NodeSpent] = field(default_factory=dict)
    """By a node's path; calls outside any node under the empty one."""
    unpriced: dict[str, set[str]] = field(default_factory=dict)
    """Models without a price, by the node's path."""

    def add(self, summary: CostSummary) -> None:
        """Add a trace."""
        self.traces += 1
        unknown = set(summary.unpriced_models)
        for name, told in summary.node_breakdown.items():
            node = self.nodes.setdefault(name, NodeSpent())
            node.usd += told.cost_usd
            node.calls += told.calls
            node.input_tokens += told.tokens.input_tokens
            node.output_tokens += told.tokens.output_tokens
            models = unknown.intersection(told.models)
            if models:
                self.unpriced.setdefault(name, set()).update(models)


def spent_by(what: Any, begun: dict[tuple[HandlerState, Trace], None]) -> Spent:
    """Add up what was asked about.

    Args:
        what: A handler (all that it counted of the traces of this test), a trace of MLflow's or its id, a summary, or
            several of these; None for all traces of this test.
        begun: The traces of this test.

    Raises:
        TypeError: It is none of these.
    """
    found = Spent()
    for summary in _summaries(what, begun):
        found.add(summary)
    return found


def _summaries(what: Any, begun: dict[tuple[HandlerState, Trace], None]) -> Iterable[CostSummary]:
    if what is None:
        # A trace that several handlers count is one trace: the first one's figures are those of its spans.
        first = {trace: state for state, trace in reversed(begun)}
        return [_live(state, trace) for trace, state in reversed(first.items())]
    if isinstance(what, MlflowCostHandler):
        return [_live(state, trace) for state, trace in begun if state.handler is what]
    if isinstance(what, CostSummary):
        return [what]
    if isinstance(what, str):
        from langchain_mlflow_cost.stored import cost_summary  # noqa: PLC0415 - asks MLflow

        return [cost_summary(what)]
    if hasattr(what, "info") and hasattr(what, "data"):
        from langchain_mlflow_cost.stored import summary_of  # noqa: PLC0415 - as above

        return [summary_of(what.info.trace_id, ((span.span_type, span.attributes) for span in what.data.spans))]
    if isinstance(what, list | tuple):
        return [summary for each in what for summary in _summaries(each, begun)]
    raise TypeError(f"expected a MlflowCostHandler, a trace or its id, or a CostSummary, found {type(what).__name__}")


def _live(state: HandlerState, trace: Trace) -> CostSummary:
    return trace.ledger_of(state).summary(trace.trace_id, stopped_by=trace.stopped_by)
