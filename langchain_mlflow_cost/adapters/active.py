"""The span that is active in MLflow's context, which need not be OpenTelemetry's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mlflow.tracing import provider as mlflow_provider
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan
    from opentelemetry.trace import Span as ApiSpan


def active_span() -> ApiSpan:
    """The span that MLflow's context holds; an invalid one if there is none."""
    return mlflow_provider.get_current_otel_span() or otel_trace.INVALID_SPAN


def attach(span: LiveSpan) -> Any:
    """Make a span the active one; the answer is for `detach`."""
    return mlflow_provider.set_span_in_context(span)


def detach(token: Any) -> None:
    """Take back an `attach`; one of another context is left alone, its context is gone."""
    with contextlib.suppress(ValueError):
        mlflow_provider.detach_span_from_context(token)


def clear_active() -> None:
    """Leave no span active in this context."""
    mlflow_provider.get_context_api().attach(Context())
