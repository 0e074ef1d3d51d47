"""`mlflow-cost reprice`: stored calls that had no price, or a wrong one, priced again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost.cli.app import (
    DEFAULT_EXPERIMENT,
    CommandError,
    CommandInterruptedError,
    PolicyOption,
    TrackingUri,
    read_policy,
)
from langchain_mlflow_cost.cli.output import console, counted, rows_as_table, say, show, tell, usd_text
from langchain_mlflow_cost.cli.periods import read_period
from langchain_mlflow_cost.cli.progress import counter
from langchain_mlflow_cost.cli.store import LeftOut, find_experiments
from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Trace

    from langchain_mlflow_cost.reports.reprice import Correction, NewPrice, Prices


class ListsOf(StrEnum):
    """Whose price lists are asked."""

    THEN = "then"
    TODAY = "today"


def reprice_traces(
    policy: PolicyOption = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Repeatable; else {DEFAULT_EXPERIMENT}.")
    ] = None,
    all_calls: Annotated[
        bool, typer.Option("--all", help="Also calls that have a price; else only those that have none.")
    ] = False,
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only its calls. Repeatable.")] = None,
    lists: Annotated[
        ListsOf, typer.Option("--prices", help="The lists of each call's day, or today's.")
    ] = ListsOf.THEN,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-01, 2026-11-01T09:30, or 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Up to that day's end, or that moment.")] = None,
    last: Annotated[str | None, typer.Option(metavar="N", help="The latest N traces; or 24h, 7d, 4w.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give stored calls the price that they should have had.

    It shows what would change, asks, and writes. A call is priced by the usage that its span tells, under the policy,
    else the default one. Its span, those above it and the trace's sum agree afterwards. May be interrupted and run
    again: what is done is not done twice.
    """
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.reports.pages import TracePages
    from langchain_mlflow_cost.reports.reprice import Prices

    loaded = read_policy(policy) if policy else Policy()
    since_ms, until_ms, most = read_period(since, until, last, UTC)
    _, experiments = find_experiments(tracking_uri, experiment or [DEFAULT_EXPERIMENT])
    prices = Prices(
        loaded.price_book(catalogue_rates),
        at=datetime.now(UTC) if lists is ListsOf.TODAY else None,
        only_unpriced=not all_calls,
        models=frozenset(model or ()),
    )

    # Both times the same ones, whatever comes in meanwhile.
    chosen: dict[str, Any] = {
        "since_ms": since_ms,
        "until_ms": until_ms or int(datetime.now(UTC).timestamp() * 1000),
        "most": most,
    }
    seen = _Seen()
    with counter() as on_page:
        for trace in TracePages(experiments, on_page=on_page, on_unreadable=seen.left_out.add, **chosen).traces():
            seen.see(trace, prices)
    _show(seen)
    if dry_run or not seen.to_write:
        say(console(), f"Would change {counted(seen.to_write, 'trace')}" if seen.to_write else "Nothing to change")
        seen.left_out.fail()
        return
    if not yes and not typer.confirm(f"Change {counted(seen.to_write, 'trace')}?"):
        raise CommandError("nothing was changed")
    with counter() as on_page:
        _write(TracePages(experiments, on_page=on_page, **chosen).traces(), prices, seen)


@dataclass(slots=True)
class _Model:
    calls: int = 0
    before_usd: Decimal = Decimal(0)
    was_unpriced: int = 0
    now_usd: Decimal = Decimal(0)

    def add(self, call: NewPrice) -> None:
        self.calls += 1
        self.was_unpriced += call.before_usd is None
        self.before_usd += call.before_usd or 0
        self.now_usd += call.now_usd


@dataclass(slots=True)
class _Seen:
    """What a dry run found."""

    to_write: int = 0
    only_sums: int = 0
    running: int = 0
    models: dict[str, _Model] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)

    left_out: LeftOut = field(default_factory=LeftOut)

    def see(self, trace: Trace, prices: Prices) -> None:
        found = _correction(trace, prices)
        if found is None:
            self.running += 1
            return
        self.to_write += found.is_needed
        self.only_sums += found.is_needed and not found.calls
        self.left.update(found.left)
        for call in found.calls:
            self.models.setdefault(call.model, _Model()).add(call)


def _correction(trace: Trace, prices: Prices) -> Correction | None:
    """None where the trace is still running."""
    from langchain_mlflow_cost.reports.reprice import correction_of, is_running

    return None if is_running(trace) else correction_of(trace, prices)


def _show(seen: _Seen) -> None:
    out = console()
    if seen.models:
        rows: list[list[Any]] = []
        for name, told in sorted(seen.models.items(), key=lambda item: -abs(item[1].now_usd - item[1].before_usd)):
            before = "unpriced" if told.was_unpriced == told.calls else usd_text(float(told.before_usd))
            rows.append([name or "(no name)", f"{told.calls:,}", before, usd_text(float(told.now_usd))])
        show(out, rows_as_table(["Model", "Calls", "USD before", "USD now"], rows))
    if seen.only_sums:
        say(out, f"Sums that do not agree with their calls: {counted(seen.only_sums, 'trace')}")
    for reason, count in seen.left.most_common():
        say(out, f"Left as they are: {counted(count, 'call')} {reason}", style="dim")
    if seen.running:
        say(out, f"Left as they are: {counted(seen.running, 'trace')} still running", style="dim")


def _write(traces: Iterator[Trace], prices: Prices, seen: _Seen) -> None:
    from langchain_mlflow_cost.adapters.stored_spans import UnwritableError, rewrite

    done, failed = 0, 0
    try:
        for trace in traces:
            found = _correction(trace, prices)
            if found is None or not found.is_needed:
                continue
            try:
                rewrite(trace, found.spans, found.metadata)
            except UnwritableError as error:
                failed += 1
                tell(without_credentials(f"trace {trace.info.trace_id}: {error}"))
            else:
                done += 1
    except KeyboardInterrupt:
        told = f"interrupted: {done:,} of {seen.to_write:,} traces are changed; run it again for the others"
        raise CommandInterruptedError(told) from None
    say(console(), f"Changed {counted(done, 'trace')}")
    if failed + seen.left_out.count:
        raise CommandError(f"{counted(failed + seen.left_out.count, 'trace')} could not be changed, see above")
