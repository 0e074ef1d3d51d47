"""What is stored, in the forms that the tests compare."""

from __future__ import annotations

import json
import math
import re
import threading
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Experiment, SpanType, TraceInfo
from mlflow.store.tracking.abstract_store import AbstractStore

from langchain_mlflow_cost.adapters.store_calls import flush_traces

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mlflow.entities import Span, Trace

    from langchain_mlflow_cost import CostSummary

_RANDOM = re.compile(r"tr-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|lc_run--[^\"']*")
MODEL_TYPES = {"LLM", "CHAT_MODEL"}
Tree = tuple[str, str, tuple["Tree", ...]]


def stored(trace_id: str) -> Trace:
    mlflow.flush_trace_async_logging()
    trace: Trace | None = mlflow.get_trace(trace_id)
    assert trace is not None, f"no trace {trace_id} in the store"
    return trace


def fixed(value: Any) -> Any:
    """Without the ids that differ from run to run."""
    if isinstance(value, str):
        return _RANDOM.sub("ID", value)
    if isinstance(value, dict):
        return {key: fixed(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [fixed(member) for member in value]
    return value


def store_call(usd: float = 1.0, began: datetime | None = None, inputs: str | None = None) -> None:
    """Store a trace that is one call of this cost, begun then or now, as any program may have done."""
    begun_ns = None if began is None else int(began.timestamp() * 1e9)
    call = mlflow.start_span_no_context("call", span_type=SpanType.CHAT_MODEL, inputs=inputs, start_time_ns=begun_ns)
    call.set_attributes({"cost.llm_calls": 1, "cost.total_usd": usd, "cost.input_usd": usd, "cost.output_usd": 0.0})
    call.end(end_time_ns=None if begun_ns is None else begun_ns + 1)


def wait_for_held_traces() -> None:
    """Wait until those have left that wait for a thread or a task."""
    while waiting := [each for each in threading.enumerate() if each.name == "langchain_mlflow_cost-outliving"]:
        waiting[0].join()


def all_traces() -> list[Trace]:
    """Every trace of the active experiment, the first one first."""
    wait_for_held_traces()
    # On a machine that stands still for seconds, what is exported without a queue goes on in a thread of ours.
    flush_traces(mlflow.get_tracking_uri())
    found: list[Trace] = mlflow.search_traces(return_type="list", order_by=["timestamp_ms ASC"])
    return found


def only_trace() -> Trace:
    (trace,) = all_traces()
    return trace


NAMELESS = ("None", "chain")
"""A function on an edge has no name in async code: MLflow stores None, we what it is."""


def tree(spans: Iterable[Span]) -> tuple[Tree, ...]:
    """Names, types and nesting; siblings in alphabetical order, since parallel ones start in any."""
    below: dict[str | None, list[Span]] = {}
    known = set()
    spans = list(spans)
    for span in spans:
        known.add(span.span_id)
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)

    def subtree(parent: str | None) -> tuple[Tree, ...]:
        return tuple(sorted((shown_name(s), str(s.span_type), subtree(s.span_id)) for s in below.get(parent, ())))

    return subtree(None)


def shown_name(span: Span) -> str:
    return "nameless" if str(span.name) in NAMELESS else str(span.name)


def forest(traces: Iterable[Trace]) -> list[tuple[Tree, ...]]:
    return sorted(tree(trace.data.spans) for trace in traces)


def named(trace: Trace, name: str) -> Span:
    (span,) = [span for span in trace.data.spans if span.name == name]
    return span


def model_spans(trace: Trace) -> list[Span]:
    return [span for span in trace.data.spans if span.span_type in MODEL_TYPES]


def root_of(trace: Trace) -> Span:
    (root,) = [span for span in trace.data.spans if span.parent_id is None]
    return root


def governed_root_of(trace: Trace) -> Span:
    """The first span of the invocation; MLflow's own tracer may have recorded others above it."""
    roots = [span for span in trace.data.spans if "cost.llm_calls" in span.attributes]
    return min(roots, key=lambda span: span.start_time_ns)


def leaves_usd(trace: Trace) -> float:
    return math.fsum((span.get_attribute("mlflow.llm.cost") or {}).get("total_cost", 0.0) for span in trace.data.spans)


def mlflow_usd(trace: Trace) -> float | None:
    """What MLflow's own dashboards add up; None where it stored nothing."""
    cost = trace.info.trace_metadata.get("mlflow.trace.cost")
    return float(json.loads(cost)["total_cost"]) if cost else None


def nodes_usd(summary: CostSummary) -> float:
    return math.fsum(node.cost_usd for node in summary.node_breakdown.values())


def statuses(trace: Trace) -> dict[str, str]:
    return {span.name: str(span.status.status_code.value) for span in trace.data.spans}


def plain(value: Any) -> Any:
    """JSON text as what it says: MLflow's versions differ in whether they parse it when they read."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def forget_stores() -> None:
    """Let MLflow open the default database anew: it keeps one for a URI, which as a relative one means a file here."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    engine = SqlAlchemyStore._engine_map.pop("sqlite:///mlflow.db", None)
    if engine is not None:
        engine.dispose()


def use_experiment(name: str) -> None:
    """Make it, and store traces there from now on, with their files beside the database; a server says where itself."""
    uri = mlflow.get_tracking_uri()
    beside = None if uri.startswith("http") else uri.removeprefix("sqlite:///") + "-artifacts"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(name, artifact_location=beside))


class KeepingNothing(AbstractStore):
    """A store that MLflow can export to, for what a database would be too slow or too quick for."""

    def log_spans(self, location: str, spans: list[Any], tracking_uri: str | None = None) -> list[Any]:
        return spans

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        # For a store that does not say that it has the spans, MLflow uploads them a second time.
        trace_info.tags["mlflow.trace.spansLocation"] = "TRACKING_STORE"
        return trace_info

    def get_experiment(self, experiment_id: str) -> Experiment:
        return Experiment(experiment_id, "nothing", "", "active")

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        return Experiment("0", experiment_name, "", "active")
