"""What one handler enforces and remembers, shared by all its traces."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import Once, call_back, nearest
from langchain_mlflow_cost.policy.unmet import EntryWatch
from langchain_mlflow_cost.redaction.rules import without_personal_data
from langchain_mlflow_cost.tracing.session_store import open_session_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost.budgets.local import Budgets
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.book import PriceBook
    from langchain_mlflow_cost.pricing.ledger import Call
    from langchain_mlflow_cost.pricing.summary import CostSummary
    from langchain_mlflow_cost.tracing.session_store import SessionStore
    from langchain_mlflow_cost.tracing.trace import Trace

log = logging.getLogger("langchain_mlflow_cost")


_WATCHING: list[dict[tuple[HandlerState, Trace], None]] = []


@contextmanager
def traces_begun() -> Iterator[dict[tuple[HandlerState, Trace], None]]:
    """What the handlers of this process begin in this block, in any thread: each trace, with who counts it."""
    found: dict[tuple[HandlerState, Trace], None] = {}
    _WATCHING.append(found)
    try:
        yield found
    finally:
        # By what it is: two that are empty are equal.
        _WATCHING[:] = [each for each in _WATCHING if each is not found]


class HandlerState:
    """One handler's policy, prices, budgets and last traces. Safe for threads."""

    def __init__(
        self,
        handler: Any,
        policy: Policy,
        prices: PriceBook,
        budgets: Budgets,
        on_cost: Callable[[Call], None] | None = None,
        most_answer_tokens: Callable[[str | None, str], int | None] = lambda _provider, _model: None,
    ) -> None:
        self.handler = handler
        """The LangChain handler itself, to be told of runs that only MLflow's tracer was told of."""
        self.policy = policy
        self.prices = prices
        self.budgets = budgets
        self.most_answer_tokens = most_answer_tokens
        """What one answer of a provider's model can have at most, where anybody knows it."""
        self.is_everywhere = False
        """It governs what no other handler of the process governs, and nothing else."""
        self.session_store: SessionStore | None = None
        """Where other processes find what is private in a session."""
        if policy.has_private_nodes:
            self.session_store = open_session_store(policy.session_store, policy.session_key)
        self.entries = EntryWatch(policy.node_patterns)
        """Tells of those that meet no node."""
        self._on_cost = on_cost
        self._once = Once(log)
        self._lock = threading.Lock()
        self._traces: OrderedDict[Trace, None] = OrderedDict()
        self._latest: Trace | None = None

    def tell(self, call: Call) -> None:
        """Call the user's `on_cost`; what it raises must not stop the graph, and is logged once a cause."""
        if self._on_cost is not None:
            call_back(self._on_cost, call, "on_cost", self._once)

    def warn_unpriced(self, model: str) -> None:
        """Warn, once a model, that its calls are counted without a price."""
        shown = without_personal_data(model)
        self._once.warn(
            ("unpriced", model),
            f"no price is known for model {shown!r}: its calls are counted as unpriced, not as free. "
            "Set prices.overrides or prices.aliases in the policy.",
        )

    def warn_estimated(self, model: str, *, is_stream: bool) -> None:
        """Warn, once a model, that its answers come without usage, and say what to do."""
        remedy = (
            "Set stream_usage=True on the model, as ChatOpenAI leaves it off behind another base_url."
            if is_stream
            else "The provider, or a gateway before it, leaves the usage out of its answers."
        )
        shown = without_personal_data(model)
        self._once.warn(
            ("estimated", model, is_stream),
            f"no usage was reported for model {shown!r}: its tokens, and its cost with them, are estimated from the "
            f"text. {remedy}",
        )

    def warn_no_fee(self, tool: str) -> None:
        """Warn, once a tool, that a tool of nearly this name has a fee in the policy, and this one has none."""
        meant = nearest(tool, tuple(self.policy.prices.tools)) if self.policy.prices.tools else None
        if meant is not None:
            self._once.warn(
                ("no fee", tool),
                f"prices.tools has a fee for {meant!r}, and a tool called {tool!r} ran without one; is it the same?",
            )

    def add_trace(self, trace: Trace) -> None:
        """Remember a trace for `summary`, and forget the oldest ones."""
        for watching in _WATCHING:
            watching[self, trace] = None
        with self._lock:
            if trace.spends_in is None:
                self._latest = trace
            self._traces[trace] = None
            self._traces.move_to_end(trace)
            while len(self._traces) > limits().kept_summaries:
                self._traces.popitem(last=False)

    def traces(self) -> list[Trace]:
        """The last ones, the longest known first."""
        with self._lock:
            return list(self._traces)

    def summary(self, trace_id: str | None) -> CostSummary | None:
        """The sums of a trace, or of the one in which an invocation began last; None if there is none."""
        with self._lock:
            if trace_id is None:
                found = self._latest
            else:
                found = next((trace for trace in self._traces if trace.trace_id == trace_id), None)
        return None if found is None else found.ledger_of(self).summary(found.trace_id, stopped_by=found.stopped_by)
