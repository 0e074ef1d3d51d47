"""The span that is active in MLflow's context, which need not be OpenTelemetry's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from mlflow.environment_variables import MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT, MLFLOW_USE_DEFAULT_TRACER_PROVIDER
from mlflow.tracing import provider as mlflow_provider
from opentelemetry import trace as otel_trace
from opentelemetry.context import get_value
from opentelemetry.trace.propagation import _SPAN_KEY

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as ApiSpan

_own = mlflow_provider.mlflow_runtime_context


_stands_apart = False
"""Whether MLflow keeps what is active in a context of its own and nowhere else, as it does unless told otherwise."""


def look_up_context() -> None:
    """Ask MLflow where it keeps what is active, before the root of a trace.

    Two environment variables say it, and MLflow reads one or both at each question, eight times a span. What changes
    them within a trace takes MLflow's own spans from their parents.
    """
    global _stands_apart  # noqa: PLW0603 - one for the process, as the variables are
    try:
        _stands_apart = bool(
            MLFLOW_USE_DEFAULT_TRACER_PROVIDER.get() and not MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT.get()
        )
    except ValueError:  # neither true nor false: whatever MLflow makes of it
        _stands_apart = False


def active_span() -> ApiSpan:
    """What MLflow's context holds; an invalid span if there is none."""
    return _held(mlflow_provider.get_current_context())


def active_in_trace() -> ApiSpan:
    """The same, of code inside a run whose trace has begun."""
    return _held(_own.get_current()) if _stands_apart else active_span()


def _held(context: Context | None) -> ApiSpan:
    # `get_current_span` looks whether it is a span, which what stands there for a run answers by finding out which.
    held: Any = get_value(_SPAN_KEY, context)
    return otel_trace.INVALID_SPAN if held is None else held


def attach(span: ApiSpan) -> Any:
    """Make a span of OpenTelemetry's interface the active one; the answer is for `detach`."""
    if _stands_apart:
        return _own.attach(otel_trace.set_span_in_context(span, _own.get_current())), None
    # MLflow takes a span of its own, and of that only what is inside.
    return mlflow_provider.set_span_in_context(cast("LiveSpan", SimpleNamespace(_span=span)))


def detach(token: Any) -> None:
    """Take back an `attach`; one of another context is left alone, its context is gone."""
    try:
        if _stands_apart and type(token) is tuple and token[1] is None:
            _own.detach(token[0])
        else:
            mlflow_provider.detach_span_from_context(token)
    except ValueError:
        pass


def current_provider() -> Any:
    """MLflow's tracer provider, which it makes anew now and then; None before the first."""
    wrapper = mlflow_provider.provider
    return wrapper._isolated_tracer_provider if _stands_apart else wrapper.get()  # noqa: SLF001
