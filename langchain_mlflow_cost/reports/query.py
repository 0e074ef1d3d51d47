"""A report's question, asked of the store's tables where there are any, else of its traces page by page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.adapters.trace_tables import Chosen, TraceTables, has_tables
from langchain_mlflow_cost.pricing.rates import classes_of
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json
from langchain_mlflow_cost.reports.pages import TracePages, dearest_first
from langchain_mlflow_cost.reports.sums import UNTOLD, AnsweredCall, Report, Sums, added_up, joined
from langchain_mlflow_cost.reports.what_if import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from langchain_mlflow_cost.pricing.book import PriceBook
    from langchain_mlflow_cost.reports.dimensions import Dimension
    from langchain_mlflow_cost.reports.what_if import WhatIf


@dataclass(frozen=True, slots=True)
class Question:
    """Which traces, and what about them."""

    experiments: Mapping[str, str]
    """Names, by id."""
    by: tuple[Dimension, ...] = ()
    since_ms: int | None = None
    """Of traces that began then or later; milliseconds since the epoch."""
    until_ms: int | None = None
    """And before then."""
    status: str | None = None
    """`OK`, `ERROR`, `IN_PROGRESS`."""
    most: int | None = None
    """The latest so many traces."""
    book: PriceBook | None = field(default=None, compare=False)
    """Prices for USD by class of tokens; None where nobody asked for classes."""

    @property
    def raw(self) -> tuple[str, ...]:
        """The raw fields that the dimensions are made of."""
        return tuple(dict.fromkeys(name for each in self.by for name in each.raw))


class Store:
    """Where traces are, asked for sums.

    Args:
        tracking_uri: MLflow's.
        on_page: Called with the number of traces read so far, where they have to be read one by one.
        on_unreadable: Called with the id of a trace that cannot be read there.
    """

    def __init__(
        self,
        tracking_uri: str,
        on_page: Callable[[int], None] | None = None,
        on_unreadable: Callable[[str], None] | None = None,
    ) -> None:
        self._tables = TraceTables(tracking_uri) if has_tables(tracking_uri) else None
        self._on_page = on_page
        self._on_unreadable = on_unreadable

    def report(self, question: Question) -> Report:
        """Add up what was asked for."""
        source = self._source(question)
        count, first_ms, last_ms = source.facts()
        raw = question.raw
        found = joined((labels_of(question.by, raw, values), _sums(numbers)) for values, numbers in source.sums(raw))
        if any(each.is_joined for each in question.by):
            self._count_traces(question, found)
        total = added_up(found.values())
        total.traces = source.with_calls()
        if question.book is not None:
            for call in source.usages(raw):
                sums = found.get(labels_of(question.by, raw, call.values))
                if sums is not None:
                    _add_classes((sums, total), call, question.book)
        return Report(
            by=tuple(each.name for each in question.by),
            groups=_ordered(found, question.by),
            total=total,
            traces=count,
            stops=source.stops(),
            first_ms=first_ms,
            last_ms=last_ms,
        )

    def _count_traces(self, question: Question, found: Mapping[tuple[str, ...], Sums]) -> None:
        """Count each trace once in a group that is joined of several."""
        raw, traces = question.raw, {values: set[str | None]() for values in found}
        asked = tuple(dict.fromkeys([*raw, "trace"]))
        for values, numbers in self._source(question).sums(asked):
            if numbers.get("traces"):
                traces[labels_of(question.by, raw, values[: len(raw)])].add(values[asked.index("trace")])
        for values, sums in found.items():
            sums.traces = len(traces[values])

    def top(self, question: Question, count: int) -> list[tuple[str, Sums]]:
        """The dearest traces: their ids and sums, the dearest first."""
        rows = self._source(question).sums(("trace",), top=count)
        return [(str(values[0]), _sums(numbers)) for values, numbers in rows]

    def what_if(self, question: Question, what_if: WhatIf) -> tuple[dict[tuple[str, ...], Outcome], Outcome]:
        """What the calls of each group would have cost, and all together."""
        report, raw = self.report(replace(question, book=None)), question.raw
        found = {values: Outcome(sums.calls, sums.cost_usd) for values, sums in report.groups.items()}
        total = Outcome(report.total.calls, report.total.cost_usd)
        asked = tuple(dict.fromkeys([*raw, "node"]))
        at = asked.index("node")
        for call in self._source(question).usages(asked):
            outcome = found.get(labels_of(question.by, raw, call.values[: len(raw)]))
            if outcome is not None:
                guess = what_if.price(call.values[at] or "", call.usage, call.usd)
                outcome.add(call.usd, guess)
                total.add(call.usd, guess)
        return found, total

    def tag_names(self, question: Question) -> set[str]:
        """The names of tags and metadata that the traces have."""
        return self._source(question).tag_names()

    def _source(self, question: Question) -> _Tables | TracePages:
        chosen = {
            "since_ms": question.since_ms,
            "until_ms": question.until_ms,
            "status": question.status,
            "most": question.most,
        }
        told = {"on_page": self._on_page, "on_unreadable": self._on_unreadable}
        if self._tables is None:
            return TracePages(question.experiments, **told, **chosen)  # type: ignore[arg-type]
        rows = Chosen(list(question.experiments), **chosen)  # type: ignore[arg-type]
        ids = self._tables.with_spans_in_files(rows)
        files = TracePages(question.experiments, only=ids, **told) if ids else None  # type: ignore[arg-type]
        return _Tables(self._tables, rows, files)


class _Tables:
    """The tables, asked of the same traces again and again, and the files of those whose spans are there."""

    def __init__(self, tables: TraceTables, chosen: Chosen, files: TracePages | None) -> None:
        self._tables, self._chosen, self._files = tables, chosen, files

    def facts(self) -> tuple[int, int | None, int | None]:
        return self._tables.facts(self._chosen)

    def with_calls(self) -> int:
        return self._tables.with_calls(self._chosen) + (0 if self._files is None else self._files.with_calls())

    def stops(self) -> dict[str, int]:
        return self._tables.stops(self._chosen)

    def tag_names(self) -> set[str]:
        return self._tables.tag_names(self._chosen)

    def sums(self, raw: Sequence[str], *, top: int | None = None) -> Iterator[tuple[tuple[str | None, ...], Any]]:
        rows = self._tables.sums(self._chosen, raw, top=top)
        if self._files is None:
            return rows
        # A group may have calls of both: whoever asks puts them together, and asks for the dearest of traces alone.
        both = chain(rows, self._files.sums(raw, top=top))
        return both if top is None else iter(sorted(both, key=dearest_first)[:top])

    def usages(self, raw: Sequence[str]) -> Iterator[AnsweredCall]:
        calls = (AnsweredCall(*told) for told in self._tables.usages(self._chosen, raw))
        return calls if self._files is None else chain(calls, self._files.usages(raw))


def labels_of(by: Sequence[Dimension], raw: Sequence[str], values: Sequence[str | None]) -> tuple[str, ...]:
    """The values of raw fields in words, one for each dimension."""
    known = dict(zip(raw, values, strict=True))
    return tuple(each.label([known[name] for name in each.raw]) for each in by)


def _sums(numbers: Mapping[str, Any]) -> Sums:
    def plain(name: str, value: Any) -> Any:
        return float(value) if name.endswith("_usd") else tuple(value) if name.endswith("models") else int(value)

    return Sums(**{name: plain(name, value) for name, value in numbers.items()})


def _ordered(groups: Mapping[tuple[str, ...], Sums], by: Sequence[Dimension]) -> dict[tuple[str, ...], Sums]:
    """The dearest first; what has an order of its own, in that."""

    def rank(item: tuple[tuple[str, ...], Sums]) -> tuple[Any, ...]:
        values, sums = item
        times = tuple(value for value, each in zip(values, by, strict=True) if each.is_time)
        return (*times, -sums.cost_usd, -sums.calls, values)

    return dict(sorted(groups.items(), key=rank))


def _add_classes(all_sums: Sequence[Sums], call: AnsweredCall, book: PriceBook) -> None:
    """Add a call's tokens by class, and what they cost by the prices of its time."""
    try:
        request, result, at = call_of_usage_json(call.usage)
    except ValueError:
        for sums in all_sums if call.usd else ():
            sums.usd[UNTOLD] = sums.usd.get(UNTOLD, 0.0) + (call.usd or 0.0)
        return
    counts = {} if result.usage is None else {name: count for name, count in classes_of(result.usage) if count}
    usd: dict[str, float] = {}
    if call.usd is not None:
        priced = book.price(request, result, at=at)
        usd = {line.name: float(line.usd) for line in priced.lines}
        if priced.cost is not None and not priced.lines:
            usd = {"billed": float(priced.cost.total_usd)}
    for sums in all_sums:
        for name, count in counts.items():
            sums.tokens[name] = sums.tokens.get(name, 0) + count
        for name, amount in usd.items():
            sums.usd[name] = sums.usd.get(name, 0.0) + amount
