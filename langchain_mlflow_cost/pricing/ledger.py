"""What a trace cost: the calls of one trace, added up.

Pure: calls in, sums out. The live sums of a handler and the sums read back from a stored trace are made by the
same `Ledger`, so they cannot drift apart.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.pricing.summary import CostSummary, NodeCost, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Call:
    """One model call that gave an answer, reduced to what is added up."""

    node: str
    """Its path in the graph: `team/researcher`; `""` outside any node."""
    model: str
    """The one that answered, else the one that was asked for."""
    input_tokens: int
    output_tokens: int
    input_usd: Decimal | None
    """None together with `output_usd` where the model is unpriced: unknown is not zero."""
    output_usd: Decimal | None
    cached: bool = False
    """LangChain's cache answered: nothing was spent."""
    estimated: bool = False
    """The provider reported no usage: tokens, and USD with them, are estimated from the text."""


@dataclass(slots=True)
class Totals:
    """Sums over the calls of one span and everything below it."""

    input_usd: Decimal = ZERO
    output_usd: Decimal = ZERO
    input_tokens: int = 0
    output_tokens: int = 0
    llm_calls: int = 0
    cached_calls: int = 0
    unpriced_calls: int = 0
    estimated_calls: int = 0
    estimated_usd: Decimal = ZERO
    """What the estimated calls cost; part of the others."""
    tool_usd: Decimal = ZERO
    """Fees of tools; beside the models' input and output."""
    models: tuple[str, ...] = ()
    """The models that answered, each once, in the order of their first answers."""
    tools: tuple[str, ...] = ()
    """The tools that were called, likewise."""

    @property
    def total_usd(self) -> Decimal:
        """USD in and out, and for tools."""
        return EXACT.add(EXACT.add(self.input_usd, self.output_usd), self.tool_usd)

    @property
    def has_any(self) -> bool:
        """Whether there is anything to tell: a call of a model, or a fee."""
        return bool(self.llm_calls or self.tool_usd)

    @property
    def priced(self) -> bool:
        """Whether the sums of USD say anything: not where every call is unpriced."""
        return self.unpriced_calls == 0 or self.unpriced_calls < self.llm_calls or bool(self.tool_usd)

    def add(self, call: Call) -> None:
        """Add one call; tokens of a cached answer were not used again and are left out."""
        self.llm_calls += 1
        self.estimated_calls += call.estimated
        if call.model and call.model not in self.models:
            self.models += (call.model,)
        if call.cached:
            self.cached_calls += 1
        else:
            self.input_tokens += call.input_tokens
            self.output_tokens += call.output_tokens
        if call.input_usd is None or call.output_usd is None:
            self.unpriced_calls += 1
        else:
            self.input_usd = EXACT.add(self.input_usd, call.input_usd)
            self.output_usd = EXACT.add(self.output_usd, call.output_usd)
            if call.estimated:
                self.estimated_usd = EXACT.add(self.estimated_usd, EXACT.add(call.input_usd, call.output_usd))

    def add_fee(self, usd: Decimal) -> None:
        """Add what one call of a tool cost."""
        self.tool_usd = EXACT.add(self.tool_usd, usd)

    def tokens(self) -> TokenCounts:
        """The token sums as a record."""
        return TokenCounts(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            total_tokens=self.input_tokens + self.output_tokens,
        )

    def attributes(self) -> dict[str, int | float]:
        """The `cost.*` attributes of a span; the USD ones are left out where nothing below it has a price."""
        written: dict[str, int | float] = {}
        if self.priced:
            written["cost.total_usd"] = float(self.total_usd)
            written["cost.input_usd"] = float(self.input_usd)
            written["cost.output_usd"] = float(self.output_usd)
        written["cost.input_tokens"] = self.input_tokens
        written["cost.output_tokens"] = self.output_tokens
        written["cost.llm_calls"] = self.llm_calls
        written["cost.cached_calls"] = self.cached_calls
        written["cost.unpriced_calls"] = self.unpriced_calls
        written["cost.estimated_calls"] = self.estimated_calls
        return written


@dataclass(slots=True)
class _NodeTotals:
    totals: Totals = field(default_factory=Totals)
    models: set[str] = field(default_factory=set)
    retries: int = 0


class Ledger:
    """The calls of one trace. Safe for threads; every method is short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Totals()
        self._nodes: dict[str, _NodeTotals] = {}
        self._unpriced_models: set[str] = set()
        self._running: dict[object, Call] = {}
        self._entered: dict[object, str] = {}

    def enter(self, key: object, node: str) -> None:
        """List a node while a call is under way in it, so that a live table shows it; `add` or `drop` ends it."""
        with self._lock:
            self._entered[key] = node

    def run(self, key: object, estimate: Call) -> None:
        """Note what a call that is still streaming has come to so far; `add` or `drop` with the same key ends it."""
        with self._lock:
            self._running[key] = estimate

    def drop(self, key: object) -> None:
        """Forget a running estimate: the call failed."""
        with self._lock:
            self._running.pop(key, None)
            self._entered.pop(key, None)

    def add(self, call: Call, spans: Iterable[Totals] = (), *, key: object = None) -> None:
        """Add a finished call to the trace, its node, and the span totals given (its own and those above it)."""
        with self._lock:
            self._running.pop(key, None)
            self._entered.pop(key, None)
            self._add(call, self._totals, self._nodes, self._unpriced_models)
            for totals in spans:
                totals.add(call)

    def add_fee(self, node: str, usd: Decimal, spans: Iterable[Totals] = ()) -> None:
        """Add what a call of a tool cost, as `add` does a model's."""
        with self._lock:
            self._totals.add_fee(usd)
            self._nodes.setdefault(node, _NodeTotals()).totals.add_fee(usd)
            for totals in spans:
                totals.add_fee(usd)

    def add_tool(self, name: str, spans: Iterable[Totals]) -> None:
        """Note that a tool was called, in the span totals given."""
        with self._lock:
            for totals in spans:
                if name not in totals.tools:
                    totals.tools += (name,)

    def add_retry(self, node: str) -> None:
        """Note that a node is run again after an error."""
        with self._lock:
            self._nodes.setdefault(node, _NodeTotals()).retries += 1

    @staticmethod
    def _add(call: Call, totals: Totals, nodes: dict[str, _NodeTotals], unpriced_models: set[str]) -> None:
        totals.add(call)
        node = nodes.setdefault(call.node, _NodeTotals())
        node.totals.add(call)
        if call.model:
            node.models.add(call.model)
            if call.input_usd is None:
                unpriced_models.add(call.model)

    def totals(self) -> Totals:
        """The sums of all calls that have ended."""
        with self._lock:
            return replace(self._totals)

    def summary(self, trace_id: str = "", *, stopped_by: str | None = None) -> CostSummary:
        """The sums at this moment, running estimates included."""
        with self._lock:
            totals = replace(self._totals)
            nodes = {
                name: _NodeTotals(replace(node.totals), set(node.models), node.retries)
                for name, node in self._nodes.items()
            }
            unpriced = set(self._unpriced_models)
            running = list(self._running.values())
            entered = list(self._entered.values())
        for call in running:
            self._add(call, totals, nodes, unpriced)
        for name in entered:
            nodes.setdefault(name, _NodeTotals())
        return CostSummary(
            trace_id=trace_id,
            total_cost_usd=float(totals.total_usd),
            total_tokens=totals.tokens(),
            llm_calls=totals.llm_calls,
            cached_calls=totals.cached_calls,
            unpriced_calls=totals.unpriced_calls,
            estimated_calls=totals.estimated_calls,
            estimated_usd=float(totals.estimated_usd),
            tool_cost_usd=float(totals.tool_usd),
            unpriced_models=tuple(sorted(unpriced)),
            stopped_by=stopped_by,
            node_breakdown={
                name: NodeCost(
                    cost_usd=float(node.totals.total_usd),
                    tokens=node.totals.tokens(),
                    calls=node.totals.llm_calls,
                    models=tuple(sorted(node.models)),
                    retries=node.retries,
                    estimated_calls=node.totals.estimated_calls,
                )
                for name, node in nodes.items()
            },
        )
