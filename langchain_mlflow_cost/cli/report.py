"""`mlflow-cost report`: what stored traces cost, by whatever one asks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, CommandError, ExperimentName, TrackingUri
from langchain_mlflow_cost.cli.output import console, counted, say
from langchain_mlflow_cost.cli.store import PAGE, find_experiment, traces_of
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow.entities import Trace

    from langchain_mlflow_cost.pricing.ledger import Ledger


def report_costs(
    tracking_uri: TrackingUri = None,
    experiment: ExperimentName = None,
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="node, model, session, user, or tag:NAME; see above.")
    ] = "node",
    last: Annotated[int, typer.Option(metavar="N", help="How many traces, from the latest back.", min=1)] = PAGE,
) -> None:
    """Show what traces cost, by node, model, session, user or tag.

    A tag's NAME is a LangChain tag, one of the policy's trace_metadata, or a tag of MLflow's.
    """
    kind, _, tag = by.partition(":")
    if kind not in {"node", "model", "session", "user", "tag"} or (kind == "tag") != bool(tag):
        raise typer.BadParameter(f"{by!r} is none of node, model, session, user, tag:NAME", param_hint="--by")
    found = find_experiment(tracking_uri, experiment or DEFAULT_EXPERIMENT)

    from langchain_mlflow_cost.pricing.ledger import Ledger
    from langchain_mlflow_cost.pricing.summary import summary_notes, summary_rows, summary_total
    from langchain_mlflow_cost.pricing.table import rows_table

    traces = list(traces_of(found, most=last, order_by=["timestamp_ms DESC"]))
    if kind == "tag" and traces and not any(_tagged(tag, trace) for trace in traces):
        raise CommandError(_no_such_tag(tag, traces))
    ledger = Ledger()
    with_calls = 0
    stops = Counter(trace.info.trace_metadata.get(keys.STOPPED_BY) for trace in traces)
    del stops[None]
    for trace in traces:
        with_calls += _add_trace(ledger, trace, kind, tag)
    out = console()
    say(out, f"Experiment {found.name}: {counted(len(traces), 'trace')}{_period(traces)}")
    if len(traces) > with_calls:
        left_out = counted(len(traces) - with_calls, "trace")
        say(out, f"Left out: {left_out} without a model call of this library", style="dim")
    if with_calls:
        summary = ledger.summary()
        rows = sorted(summary_rows(summary, f"(no {tag or kind})"), key=lambda row: -row.cost_usd)
        if kind == "model":
            rows = [replace(row, models=()) for row in rows]
        out.print(
            rows_table((tag or kind).capitalize(), rows, summary_total(summary), out, notes=summary_notes(summary))
        )
    for words, count in stops.most_common():
        say(out, f"Stopped by the budget of {words}: {counted(count, 'trace')}", style="yellow")


def _add_trace(ledger: Ledger, trace: Trace, kind: str, tag: str) -> bool:
    """Add up what the spans of a trace say; whether there was a model call among them."""
    from langchain_mlflow_cost.stored import call_of_span, fee_of_span

    has_calls = False
    for span in trace.data.spans:
        # A ledger adds up by node: here by whatever was asked for.
        group = _group(kind, tag, trace, span.attributes)
        # Node and root spans carry the sums of what is below them.
        if span.span_type in keys.MODEL_TYPES and "cost.llm_calls" in span.attributes:
            has_calls = True
            ledger.add(replace(call_of_span(span.attributes), node=group))
        if keys.TOOL_USD in span.attributes:
            ledger.add_fee(group, fee_of_span(span.attributes))
        if keys.ATTEMPT in span.attributes and kind != "model":
            ledger.add_retry(group)
    return has_calls


def _group(kind: str, tag: str, trace: Trace, attributes: Mapping[str, Any]) -> str:
    match kind:
        case "node":
            value = attributes.get("policy.node")
        case "model":
            value = attributes.get("mlflow.llm.model")
        case "tag":
            value = _tagged(tag, trace)
        case _:
            value = trace.info.trace_metadata.get(f"mlflow.trace.{kind}")
    return str(value or "")


_LANGCHAIN_TAGS = "langchain.tags"


def _tagged(tag: str, trace: Trace) -> str | None:
    """The value of a tag or metadata key; of a LangChain tag, which has none, its name."""
    value = trace.info.tags.get(tag) or trace.info.trace_metadata.get(tag)
    return value or (tag if tag in _langchain_tags(trace) else None)


def _langchain_tags(trace: Trace) -> list[str]:
    try:
        tags = json.loads(trace.info.trace_metadata.get(_LANGCHAIN_TAGS, "[]"))
    except json.JSONDecodeError:  # MLflow cuts long metadata.
        return []
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _no_such_tag(tag: str, traces: list[Trace]) -> str:
    names: set[str] = set()
    for trace in traces:
        keys = (*trace.info.tags, *trace.info.trace_metadata)
        names |= {key for key in keys if not key.startswith("mlflow.") and key != _LANGCHAIN_TAGS}
        names.update(_langchain_tags(trace))
    near = nearest(tag, sorted(names))
    if near:
        remedy = f"did you mean tag:{near}?"
    elif names:
        remedy = f"there are {', '.join(sorted(names)[:10])}"
    else:
        remedy = "pass tags in the run's config, or name metadata keys in the policy's trace_metadata"
    return f"none of the {counted(len(traces), 'trace')} has a tag or metadata key {tag}; {remedy}"


def _period(traces: list[Trace]) -> str:
    days = sorted({datetime.fromtimestamp(trace.info.timestamp_ms / 1000, UTC).date().isoformat() for trace in traces})
    return {0: "", 1: f" of {''.join(days[:1])}"}.get(len(days), f" from {''.join(days[:1])} to {''.join(days[-1:])}")
