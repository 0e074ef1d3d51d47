"""`mlflow-cost report`: what stored traces cost, by whatever one asks, as a table, JSON, CSV or Markdown."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, CommandError, PolicyOption, TrackingUri
from langchain_mlflow_cost.cli.formats import Format, show_rows, show_what_if, write_json
from langchain_mlflow_cost.cli.output import console, counted, rows_as_table, say, show, usd_text
from langchain_mlflow_cost.cli.periods import read_period, read_zone
from langchain_mlflow_cost.cli.progress import counter
from langchain_mlflow_cost.cli.store import find_experiments, tell_unreadable
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_mlflow_cost.pricing.book import PriceBook
    from langchain_mlflow_cost.pricing.summary import Row
    from langchain_mlflow_cost.reports.compare import Change
    from langchain_mlflow_cost.reports.dimensions import Dimension
    from langchain_mlflow_cost.reports.query import Question, Store
    from langchain_mlflow_cost.reports.sums import Report, Sums
    from langchain_mlflow_cost.reports.what_if import WhatIf


class Status(StrEnum):
    """How a trace ended."""

    OK = "OK"
    ERROR = "ERROR"
    IN_PROGRESS = "IN_PROGRESS"


def report_costs(  # noqa: C901 - one way out for each kind of report
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Repeatable; else {DEFAULT_EXPERIMENT}."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="WHAT", help="See above; several with commas between.")] = "node",
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-01, 2026-11-01T09:30, or 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Up to that day's end, or that moment.")] = None,
    last: Annotated[
        str | None, typer.Option(metavar="N", help="The latest N traces; or 24h, 7d, 4w: of that long.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Whose days: Europe/Berlin, or local.")] = "UTC",
    status: Annotated[Status | None, typer.Option(help="Only traces that ended so.")] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Tokens and USD by class of tokens.")] = False,
    top: Annotated[int | None, typer.Option(metavar="N", help="The N dearest traces instead.", min=1)] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="With: previous (as long a time before), FROM..TO, or experiment:NAME."),
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Two of --by: the second across.")] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=MODEL", help="As if by another: writer=anthropic/claude-haiku-4-5. Repeatable."),
    ] = None,
    what_if_policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As if under the prices of that policy.")
    ] = None,
    policy: PolicyOption = None,
    format_: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.TABLE,
) -> None:
    """Show what traces cost, by whatever one asks.

    By node, model, provider, user, session, agent, tool, prompt, hour, day, week, month, experiment, trace or
    tag:NAME. A tag's NAME is a LangChain tag, one of the policy's trace_metadata, or a tag of MLflow's. An agent is
    the graph that a node is in. By tool, USD are those of all that ran inside it.
    """
    from langchain_mlflow_cost.reports.dimensions import dimensions

    zone = read_zone(timezone)
    try:
        asked = dimensions(by, zone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--by") from error
    if cross and len(asked) != len(("down", "across")):
        raise typer.BadParameter("needs two of --by, such as --by node,model", param_hint="--cross")
    since_ms, until_ms, most = read_period(since, until, last, zone)

    uri, experiments = find_experiments(tracking_uri, experiment or [DEFAULT_EXPERIMENT])
    from langchain_mlflow_cost.reports.query import Question, Store

    with counter() as on_page:
        store = Store(uri, on_page, tell_unreadable)
        question = Question(
            experiments,
            by=asked,
            since_ms=since_ms,
            until_ms=until_ms,
            status=None if status is None else status.value,
            most=most,
            book=_book(policy) if breakdown or compare or format_ is Format.HTML else None,
        )
        if format_ is Format.HTML:
            _write_page(store, question, zone, left_out=(top, compare, cross, what_if, what_if_policy))
            return
        if top is not None:
            _show_top(store, question, top, format_, uri)
            return
        if what_if or what_if_policy is not None:
            if any(each.name == "tool" for each in asked):
                raise typer.BadParameter("a tool's calls are priced by node or model", param_hint="--what-if")
            prices = _what_if(what_if or (), what_if_policy, policy)
            show_what_if(store.what_if(question, prices), question, format_, prices)
            return
        if compare is not None:
            _show_changes(store, question, compare, tracking_uri, zone, format_)
            return
        report = store.report(question)
        _check_tags(store, question, report)
    if format_ is Format.JSON:
        write_json(_as_json(question, report, timezone))
    elif cross:
        show_rows(*_crossed(asked, report), format_)
    elif format_ is Format.TABLE:
        _show_table(asked, report, experiments, zone, breakdown=breakdown)
    else:
        show_rows(*_flat(asked, report), format_)


def _what_if(replacements: Sequence[str], new_policy: Path | None, policy: Path | None) -> WhatIf:
    from langchain_mlflow_cost.reports.what_if import Replacement, WhatIf

    try:
        read = [Replacement.parse(each) for each in replacements]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--what-if") from error
    return WhatIf(read, _book(new_policy or policy), reprices_all=new_policy is not None)


def _write_page(store: Store, question: Question, zone: tzinfo, *, left_out: Sequence[Any]) -> None:
    from importlib.metadata import version

    if any(left_out):
        raise typer.BadParameter("html shows all at once: leave out --top, --compare, --cross, --what-if")
    from langchain_mlflow_cost.reports import html

    told = html.figures(store, question, zone)
    try:
        written = html.page(
            told,
            title=f"Cost of {', '.join(question.experiments.values())}",
            period=_period(told.report, zone).removeprefix(", "),
            made=f"langchain-mlflow-cost {version('langchain-mlflow-cost')}, {datetime.now(zone):%Y-%m-%d %H:%M %Z}",
        )
    except ImportError as error:
        raise CommandError('--format html needs an extra: pip install "langchain-mlflow-cost[html]"') from error
    sys.stdout.write(written)


def _book(policy: Path | None) -> PriceBook:
    from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
    from langchain_mlflow_cost.cli.app import read_policy
    from langchain_mlflow_cost.policy.settings import Policy

    return (read_policy(policy) if policy else Policy()).price_book(catalogue_rates)


def _check_tags(store: Store, question: Question, report: Report) -> None:
    """Say so where no trace has a tag, and which there are: a mistyped one would look like no spending.

    Raises:
        CommandError: None has it.
    """
    for place, dimension in enumerate(question.by):
        if not dimension.name.startswith("tag:") or not report.traces:
            continue
        if any(values[place] for values in report.groups):
            continue
        tag, names = dimension.name.removeprefix("tag:"), store.tag_names(question)
        if tag in names:
            continue  # Only traces without a model call have it.
        near = nearest(tag, sorted(names))
        if near:
            remedy = f"did you mean tag:{near}?"
        elif names:
            remedy = f"there are {', '.join(sorted(names)[:10])}"
        else:
            remedy = "pass tags in the run's config, or name metadata keys in the policy's trace_metadata"
        traces = counted(report.traces, "trace")
        raise CommandError(f"none of the {traces} has a tag or metadata key {tag}; {remedy}")


# --- as a table -----------------------------------------------------------------------------------------------------


def _show_table(
    by: Sequence[Dimension], report: Report, experiments: dict[str, str], zone: tzinfo, *, breakdown: bool
) -> None:
    from langchain_mlflow_cost.pricing.summary import sums_notes
    from langchain_mlflow_cost.pricing.table import rows_table

    out, total = console(), report.total
    names = ", ".join(experiments.values())
    head = f"Experiment{'s' if len(experiments) > 1 else ''} {names}"
    say(out, f"{head}: {counted(report.traces, 'trace')}{_period(report, zone)}")
    if report.traces > total.traces:
        left_out = counted(report.traces - total.traces, "trace")
        say(out, f"Left out: {left_out} without a model call of this library", style="dim")
    if report.groups:
        rows = [_row(by, values, sums) for values, sums in report.groups.items()]
        notes = sums_notes(
            estimated_calls=total.estimated_calls,
            estimated_usd=total.estimated_usd,
            unpriced_calls=total.unpriced_calls,
            unpriced_models=total.unpriced_models,
            tool_usd=total.tool_usd,
        )
        if any(each.name == "tool" for each in by):
            notes = [note for note in notes if not note.startswith("fees")]
            notes.append("a tool that runs inside another is in both")
        last = replace(_row(by, ("Total",), total), models=(), more=())
        show(out, rows_table([each.title for each in by], rows, last, out, notes=notes))
    elif total.traces and any(each.name == "tool" for each in by):
        say(out, "No tool was called in them", style="dim")
    if breakdown and (total.tokens or total.usd):
        _show_classes(out, total)
    for words, count in report.stops.items():
        say(out, f"Stopped by the budget of {words}: {counted(count, 'trace')}", style="yellow")


def _row(by: Sequence[Dimension], values: Sequence[str], sums: Sums) -> Row:
    from langchain_mlflow_cost.pricing.summary import Row

    name, *more = [value or each.nameless for value, each in zip(values, by, strict=False)]
    return Row(
        name,
        calls=sums.calls,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost_usd=sums.cost_usd,
        unpriced=sums.unpriced_calls > 0,
        estimated=sums.estimated_calls > 0,
        retries=sums.retries,
        models=() if any(each.name in {"model", "tool"} for each in by) else sums.models,
        more=tuple(more),
    )


def _show_classes(out: Any, total: Sums) -> None:
    from langchain_mlflow_cost.reports.sums import UNTOLD

    heads, rows = ["Class", "Tokens", "USD"], []
    for name in dict.fromkeys([*total.tokens, *total.usd]):
        usd = total.usd.get(name)
        tokens = total.tokens.get(name)
        shown = "(usage not stored)" if name == UNTOLD else name
        rows.append([shown, "" if tokens is None else f"{tokens:,}", "" if usd is None else usd_text(usd)])
    rest = total.input_usd + total.output_usd - sum(total.usd.values())
    if abs(rest) > 1e-9 * max(total.cost_usd, 1e-9):
        rows.append(["(other prices then)", "", usd_text(rest)])
    show(out, rows_as_table(heads, rows))


def _period(report: Report, zone: tzinfo) -> str:
    if report.first_ms is None or report.last_ms is None:
        return ""
    ends = (report.first_ms, report.last_ms)
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).date() for ms in ends)
    return f" of {first}" if first == last else f" from {first} to {last}"


# --- as rows: Markdown, CSV, JSON -----------------------------------------------------------------------------------


def _flat(by: Sequence[Dimension], report: Report) -> tuple[list[str], list[list[Any]]]:
    told = [sums.as_fields() for sums in report.groups.values()]
    heads = list(dict.fromkeys(name for each in (*told, report.total.as_fields()) for name in each))
    rows: list[list[Any]] = [
        [*values, *(each.get(name) for name in heads)] for values, each in zip(report.groups, told, strict=True)
    ]
    return [*(each.name for each in by), *heads], rows


def _crossed(by: Sequence[Dimension], report: Report) -> tuple[list[str], list[list[Any]]]:
    """USD of each value of the first dimension, by those of the second."""
    first, second = by
    across = list(dict.fromkeys(values[1] for values in report.groups))
    if second.is_time:
        across.sort()
    down = dict.fromkeys(values[0] for values in report.groups)
    rows: list[list[Any]] = []
    for name in down:
        found = [report.groups.get((name, other)) for other in across]
        usd = [None if sums is None or sums.is_unpriced else sums.cost_usd for sums in found]
        rows.append([name or first.nameless, *usd, sum(each for each in usd if each is not None)])
    totals: list[float] = [sum(row[place] or 0.0 for row in rows) for place in range(1, len(across) + 2)]
    heads = [first.title, *(name or second.nameless for name in across), "Total"]
    return heads, [*rows, ["Total", *totals]]


def _as_json(question: Question, report: Report, timezone: str) -> dict[str, Any]:
    def moment(ms: int | None) -> str | None:
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()

    return {
        "experiments": list(question.experiments.values()),
        "by": list(report.by),
        "timezone": timezone,
        "since": moment(question.since_ms),
        "until": moment(question.until_ms),
        "first_trace": moment(report.first_ms),
        "last_trace": moment(report.last_ms),
        "traces": report.traces,
        "rows": [
            {**dict(zip(report.by, values, strict=True)), **sums.as_fields()} for values, sums in report.groups.items()
        ],
        "total": report.total.as_fields(),
        "stopped": dict(report.stops),
    }


# --- the dearest traces ---------------------------------------------------------------------------------------------


def _show_top(store: Store, question: Question, count: int, format_: Format, uri: str) -> None:
    found = store.top(question, count)
    heads = ["trace", "calls", "tokens", "usd"] + (["link"] if uri.startswith("http") else [])
    rows: list[list[Any]] = []
    for trace_id, sums in found:
        usd = None if sums.is_unpriced else sums.cost_usd
        rows.append([trace_id, sums.calls, sums.input_tokens + sums.output_tokens, usd])
        if uri.startswith("http"):
            experiment = next(iter(question.experiments))
            rows[-1].append(f"{uri.rstrip('/')}/#/experiments/{experiment}/traces?selectedEvaluationId={trace_id}")
    if format_ is Format.TABLE:
        heads = ["USD" if head == "usd" else head.capitalize() for head in heads]
        rows = [["unknown" if value is None else value for value in row] for row in rows]
    show_rows(heads, rows, format_)


# --- compared -------------------------------------------------------------------------------------------------------


def _show_changes(
    store: Store, question: Question, with_what: str, tracking_uri: str | None, zone: tzinfo, format_: Format
) -> None:
    from langchain_mlflow_cost.reports.compare import changes

    before = _other_question(question, with_what, tracking_uri, zone)
    now = store.report(question)
    found = changes(store.report(before), now)
    heads = [*(each.name for each in question.by), "before_usd", "now_usd", "change_usd", *_EFFECTS]
    rows = [
        [*(value or each.nameless for value, each in zip(values, question.by, strict=True)), *_told(change)]
        for values, change in found
    ]
    if format_ is Format.TABLE:
        titles = {"before_usd": "Before", "now_usd": "Now", "change_usd": "Change", "tokens_a_call": "Tokens a call"}
        heads = [titles.get(head, head.capitalize()) for head in heads]
        out = console()
        show(out, rows_as_table(heads, rows))
        say(out, "USD. Change = calls + tokens a call + price + cache.", style="dim")
        return
    show_rows(heads, rows, format_)


_EFFECTS = ("calls", "tokens_a_call", "price", "cache")


def _told(change: Change) -> list[float]:
    return [change.before_usd, change.now_usd, change.change_usd, *(getattr(change, name) for name in _EFFECTS)]


def _other_question(question: Question, with_what: str, tracking_uri: str | None, zone: tzinfo) -> Question:
    if with_what.startswith("experiment:"):
        _, experiments = find_experiments(tracking_uri, [with_what.removeprefix("experiment:")])
        return replace(question, experiments=experiments)
    if with_what == "previous":
        if question.since_ms is None:
            raise typer.BadParameter("previous needs --since, or --last 7d", param_hint="--compare")
        end_ms = question.until_ms or int(datetime.now(UTC).timestamp() * 1000)
        return replace(question, since_ms=2 * question.since_ms - end_ms, until_ms=question.since_ms)
    first, dots, last = with_what.partition("..")
    if not dots:
        raise typer.BadParameter(
            f"{with_what!r} is none of previous, FROM..TO, experiment:NAME", param_hint="--compare"
        )
    since_ms, until_ms, _ = read_period(first or None, last or None, None, zone)
    return replace(question, since_ms=since_ms, until_ms=until_ms)
