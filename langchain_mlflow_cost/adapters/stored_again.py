"""Spans handed to MLflow's exporter past its own order: one that ends after its trace's root, and those above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.tracing.export.async_export_queue import Task
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.utils.uri import is_databricks_uri

from langchain_mlflow_cost.adapters.spans import otel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow.entities import LiveSpan, Span


def storing(spans: Sequence[LiveSpan]) -> Callable[[], None]:
    """Make ready to store spans of one trace as they will be; return what does it, through the queue if there is one.

    MLflow's store replaces what it has of a span. The exporter itself would not take them: an ended span is exported
    once, and one that ends after the root is lost where the trace has just been let go of (3.17: the exporter looks
    whether a span is open between taking one batch and the next). Not for exporters other than MLflow's.

    Args:
        spans: The trace must still have an open one, or where they belong is no longer known.
    """
    with InMemoryTraceManager.get_instance().get_trace(spans[0].trace_id) as trace:
        experiment_id = None if trace is None else trace.info.experiment_id
        workspace = None if trace is None else trace.workspace
    processors = getattr(otel(spans[0])._span_processor, "_span_processors", ())  # noqa: SLF001
    exporters = [getattr(processor, "span_exporter", None) for processor in processors]

    def store() -> None:
        if experiment_id is None:
            return
        for exporter in exporters:
            if not isinstance(exporter, MlflowV3SpanExporter) or is_databricks_uri(exporter._client.tracking_uri):  # noqa: SLF001
                continue
            told: list[Span] = list(spans)
            calls = getattr(exporter, "lmc_calls", None)
            log_again: Any = exporter._log_spans if calls is None else calls.log_again  # noqa: SLF001
            if exporter._should_log_async():  # noqa: SLF001
                error = "Failed to store spans again."
                task = Task(handler=log_again, args=(experiment_id, told, workspace), error_msg=error)
                exporter._async_queue.put(task=task)  # noqa: SLF001
            else:
                log_again(experiment_id, told, workspace)

    return store
