"""`mlflow-cost export`: stored costs in the form that finance takes, FOCUS 1.2, as CSV or Parquet."""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, CommandError, PolicyOption, TrackingUri, read_policy
from langchain_mlflow_cost.cli.formats import csv_cell
from langchain_mlflow_cost.cli.output import counted, tell
from langchain_mlflow_cost.cli.periods import read_period, read_zone
from langchain_mlflow_cost.cli.progress import counter
from langchain_mlflow_cost.cli.store import LeftOut, find_experiments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Format(StrEnum):
    """What is written."""

    FOCUS = "focus"
    CSV = "csv"
    PARQUET = "parquet"


class Per(StrEnum):
    """What one row is for, beside one class of tokens."""

    CALL = "call"
    HOUR = "hour"
    DAY = "day"


def export_costs(
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="focus: FOCUS 1.2 as CSV, by the hour. csv, parquet: the same columns and x_ ones, a row a call.",
        ),
    ] = Format.FOCUS,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Else standard output.")] = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Repeatable; else {DEFAULT_EXPERIMENT}.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-01, 2026-11-01T09:30, or 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Up to that day's end, or that moment.")] = None,
    last: Annotated[str | None, typer.Option(metavar="TIME", help="24h, 7d, 4w.")] = None,
    per: Annotated[Per | None, typer.Option(help="What one row is for, beside one class of tokens.")] = None,
    account: Annotated[
        str | None, typer.Option("--billing-account", metavar="ID", help="Else the provider's name.")
    ] = None,
    policy: PolicyOption = None,
) -> None:
    """Export costs as a bill: FOCUS 1.2, CSV or Parquet.

    One row a class of tokens, with node, user, session and tags as tags. Billed and effective cost are what the
    traces say, so that their sums are the report's; list cost is by public prices, contracted cost by --policy's.
    """
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
    from langchain_mlflow_cost.policy.settings import Policy

    since_ms, until_ms, most = read_period(since, until, last, read_zone("UTC"))
    if most is not None:
        raise typer.BadParameter("expected a time such as 7d: an invoice has all of it", param_hint="--last")
    if format_ is Format.PARQUET and out is None:
        raise typer.BadParameter("--format parquet needs a file: --out costs.parquet")
    uri, experiments = find_experiments(tracking_uri, experiment or [DEFAULT_EXPERIMENT])
    from langchain_mlflow_cost.reports.focus import Focus, columns
    from langchain_mlflow_cost.reports.whole_traces import whole_traces

    unit = per or (Per.HOUR if format_ is Format.FOCUS else Per.CALL)
    listed = Policy().price_book(catalogue_rates)
    contracted = read_policy(policy).price_book(catalogue_rates) if policy else listed
    left_out = LeftOut()
    focus = Focus(listed, contracted, per=unit.value, account=account)

    def traces(on_page: Callable[[int], None]) -> Iterator[tuple[str, str, Any]]:
        for each, name in experiments.items():
            found = whole_traces(
                uri,
                [each],
                since_ms=since_ms,
                until_ms=until_ms,
                on_page=on_page,
                on_unreadable=left_out.add,
            )
            yield from ((each, name, trace) for trace in found)

    with counter(shown=out is not None or not sys.stdout.isatty()) as on_page:
        rows = focus.rows(traces(on_page))
        if out is None:
            count = _write_csv(sys.stdout, rows, columns(unit.value))
        else:
            with _whole(out) as part:
                if format_ is Format.PARQUET:
                    count = _write_parquet(part, rows, columns(unit.value))
                else:
                    with part.open("w", encoding="utf-8", newline="") as file:
                        count = _write_csv(file, rows, columns(unit.value))
    tell(f"{counted(count, 'row')} of {counted(focus.exported.calls, 'call')}")
    if focus.exported.unpriced:
        unpriced = counted(focus.exported.unpriced, "call")
        tell(f"left out: {unpriced} without a known price; mlflow-cost report names the models")
    left_out.fail()


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Where to write, so that the file is there when it is whole: half a bill looks like one."""
    if out.exists() and not out.is_file():
        yield out  # A pipe, or /dev/null.
        return
    part = out.with_name(f"{out.name}.part")
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _write_csv(file: TextIO, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> int:
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - how many there were
        writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return count


_BATCH = 10_000


def _write_parquet(out: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise CommandError("--format parquet needs pyarrow, which mlflow brings and mlflow-skinny does not") from error
    from langchain_mlflow_cost.reports.focus import NUMBERS

    # As exact as a decimal can be there; the costs of calls have at most a dozen places.
    number = pa.decimal128(38, 18)
    schema = pa.schema([(name, number if name in NUMBERS else pa.string()) for name in columns])
    count = 0
    with pq.ParquetWriter(out, schema) as writer:
        batch: list[dict[str, Any]] = []

        def flush() -> None:
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch.clear()

        for count, row in enumerate(rows, 1):  # noqa: B007 - how many there were
            batch.append({name: _cell(row[name]) for name in columns})
            if len(batch) >= _BATCH:
                flush()
        flush()
    return count


_PLACES = Decimal("1e-18")


def _cell(value: Any) -> Any:
    if isinstance(value, Decimal):
        return value.quantize(_PLACES)
    return None if value == "" else value
