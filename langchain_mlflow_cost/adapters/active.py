"""The span that is active in MLflow's context, which need not be OpenTelemetry's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from mlflow.tracing import provider as mlflow_provider
from opentelemetry import trace as otel_trace
from opentelemetry.context import get_value
from opentelemetry.trace.propagation import _SPAN_KEY

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan
    from opentelemetry.trace import Span as ApiSpan


def active_span() -> ApiSpan:
    """What MLflow's context holds; an invalid span if there is none."""
    # `get_current_span` looks whether it is a span, which what stands there for a run answers by finding out which.
    held: Any = get_value(_SPAN_KEY, mlflow_provider.get_current_context())
    return otel_trace.INVALID_SPAN if held is None else held


def attach(span: ApiSpan) -> Any:
    """Make a span of OpenTelemetry's interface the active one; the answer is for `detach`."""
    # MLflow takes a span of its own, and of that only what is inside.
    return mlflow_provider.set_span_in_context(cast("LiveSpan", SimpleNamespace(_span=span)))


def detach(token: Any) -> None:
    """Take back an `attach`; one of another context is left alone, its context is gone."""
    try:  # noqa: SIM105 - `contextlib.suppress` costs as much again, for each span
        mlflow_provider.detach_span_from_context(token)
    except ValueError:
        pass
