"""What MLflow keeps of a trace beside its spans."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mlflow.tracing.constant import CostKey, TokenUsageKey, TraceMetadataKey, TraceTagKey
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils.otlp import should_export_otlp_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TraceMetadataKey", "TraceTagKey"]


@contextlib.contextmanager
def trace_info(trace_id: str) -> Iterator[Any]:
    """The `TraceInfo` of a trace that is still in memory, under MLflow's lock; None if it is gone."""
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        yield None if trace is None else trace.info


def user_of(trace_id: str) -> str | None:
    """Who the trace is of, as `mlflow.update_current_trace(user=...)` says."""
    with trace_info(trace_id) as info:
        user = None if info is None else info.trace_metadata.get(TraceMetadataKey.TRACE_USER)
    return str(user) if user else None


def keep_prompts(trace_id: str, is_kept: Callable[[str], bool]) -> None:
    """Unlink prompts of the registry by their names: MLflow writes them into the trace's tag once more at its end."""
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        if trace is not None and trace.prompts:
            trace.prompts[:] = [prompt for prompt in trace.prompts if is_kept(str(prompt.name))]


COUNT_NAMES = frozenset(
    value
    for keys in (TokenUsageKey, CostKey)
    for name, value in vars(keys).items()
    if name.isupper() and isinstance(value, str)
)
"""What may stand in `mlflow.chat.tokenUsage` and `mlflow.llm.cost`."""


def exports_metrics() -> bool:
    """Whether trace metadata leaves with every span, as attributes of OpenTelemetry metrics."""
    return should_export_otlp_metrics()
