"""Whether this MLflow and this OpenTelemetry are what the adapters take them for, asked at run time.

Where they are not, the handler keeps payloads to itself.
"""

from __future__ import annotations

from typing import Any

from mlflow.tracing import provider as mlflow_provider
from mlflow.tracing.constant import SpanAttributeKey
from mlflow.tracing.trace_manager import InMemoryTraceManager
from opentelemetry.sdk.trace import Span as SdkSpan


def self_test() -> str | None:
    """Whether the names that no span can do without are what the adapters take them for.

    Returns:
        None if so, else what is missing, for a warning.
    """
    wanted: tuple[tuple[Any, str], ...] = (
        (mlflow_provider, "_get_span_processors"),
        (mlflow_provider, "get_current_otel_span"),
        (mlflow_provider.provider, "get"),
        (InMemoryTraceManager, "get_span_from_id"),
        (InMemoryTraceManager, "get_mlflow_trace_id_from_otel_id"),
        (InMemoryTraceManager, "get_trace"),
        (SdkSpan, "_new_events"),
        (SdkSpan, "_new_links"),
    )
    for owner, name in wanted:
        if not hasattr(owner, name):
            return f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
    for field in ("INPUTS", "OUTPUTS", "REQUEST_ID", "SPAN_TYPE", "CHAT_USAGE", "LLM_COST", "MODEL"):
        if not hasattr(SpanAttributeKey, field):
            return f"SpanAttributeKey.{field}"
    return None
