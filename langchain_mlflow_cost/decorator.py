"""`@mlflow.trace` under the policy, and harmless where MLflow is not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def trace_decorator(name: str, **attributes: Any) -> Callable[[F], F]:
    """Record a function as a span, as `mlflow.trace` does.

    Below a run that a handler governs, its policy applies to the span's name, inputs, outputs, attributes and
    exceptions; `attributes` are kept at every level. Elsewhere the function is traced as MLflow does by itself.

    Args:
        name: The span's name.
        attributes: Attributes of the span; `span_type` sets its type, one of `mlflow.entities.SpanType`.

    Returns:
        A decorator for functions, coroutine functions and generators. Where MLflow is missing or fails, it gives the
        function back as it is; it never raises.
    """
    span_type = str(attributes.pop("span_type", "UNKNOWN"))

    def decorate(function: F) -> F:
        try:
            import mlflow  # noqa: PLC0415 - it may be missing, and the user's function must work all the same

            traced = mlflow.trace(name=name, span_type=span_type, attributes=attributes or None)(function)
        except Exception:  # noqa: BLE001 - as above
            return function
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            return cast("F", traced)
        return cast("F", functools.wraps(function)(traced))

    return decorate
