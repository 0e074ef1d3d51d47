"""Trace contexts that are handed on to other processes, whose spans this one does not see."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as otel_trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable


def watch_headers(hand_on: Callable[[int], None]) -> None:
    """Say of each trace whose headers are made that it goes on elsewhere.

    MLflow's `get_tracing_context_headers_for_http_request` and OpenTelemetry's instrumentations of HTTP clients all
    write the W3C header by this one class; there is no hook for it.

    Args:
        hand_on: Given OpenTelemetry's id of the trace.
    """
    original = TraceContextTextMapPropagator.inject
    if getattr(original, "lmc_watched", False):
        return

    @functools.wraps(original)
    def inject(
        self: TraceContextTextMapPropagator, carrier: Any, context: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        span_context = otel_trace.get_current_span(context).get_span_context()
        if span_context.is_valid:
            hand_on(span_context.trace_id)
        original(self, carrier, context, *args, **kwargs)

    inject.lmc_watched = True  # type: ignore[attr-defined]
    TraceContextTextMapPropagator.inject = inject  # type: ignore[method-assign]
