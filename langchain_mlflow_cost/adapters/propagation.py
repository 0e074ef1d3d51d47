"""Traces of several processes: contexts that are handed on to others, and traces that others began."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlflow.tracing import provider as mlflow_provider
from mlflow.tracing.trace_manager import InMemoryTraceManager
from opentelemetry import trace as otel_trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable


def follow_traces(hand_on: Callable[[int], None], at_rest: Callable[[int, Callable[[], None]], None]) -> None:
    """Follow traces over processes: those that others go on with, and those that others began.

    Args:
        hand_on: Given OpenTelemetry's id of a trace whose headers are made.
        at_rest: As for `_keep_continued_traces`.
    """
    _watch_headers(hand_on)
    _keep_continued_traces(at_rest)


def _watch_headers(hand_on: Callable[[int], None]) -> None:
    """Say of each trace whose headers are made that it goes on elsewhere.

    MLflow's `get_tracing_context_headers_for_http_request` and OpenTelemetry's instrumentations of HTTP clients all
    write the W3C header by this one class; there is no hook for it.
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


_lock = threading.Lock()
_continued: Counter[int] = Counter()
"""By OpenTelemetry's id of a trace that another process began: the blocks of this one that go on with it."""


def _keep_continued_traces(at_rest: Callable[[int, Callable[[], None]], None]) -> None:
    """Let what is recorded in `set_tracing_context_from_http_request_headers` be stored.

    MLflow registers a stand-in for the trace when the block begins, and takes it away when it ends. Its batch processor
    exports later, finds no trace, and drops all spans without a word (mlflow 3.17). A second request of the same trace
    replaces the stand-in of the first, with its spans. So the stand-in stays as long as anybody is in the trace, and
    goes when the spans are with the exporter.

    Args:
        at_rest: Given the trace's id and a function to call when nothing of the trace is open or held any more.
    """
    register, pop = InMemoryTraceManager.register_trace, InMemoryTraceManager.pop_trace
    if getattr(pop, "lmc_watched", False):
        return

    @functools.wraps(register)
    def register_trace(
        self: InMemoryTraceManager, otel_trace_id: int, trace_info: Any, *args: Any, **kwargs: Any
    ) -> None:
        is_remote = args[0] if args else kwargs.get("is_remote_trace", False)
        if is_remote:
            with _lock:
                _continued[otel_trace_id] += 1
                if _continued[otel_trace_id] > 1 and _is_stand_in(self, otel_trace_id):
                    return
        register(self, otel_trace_id, trace_info, *args, **kwargs)

    @functools.wraps(pop)
    def pop_trace(self: InMemoryTraceManager, otel_trace_id: int) -> Any:
        if not _is_stand_in(self, otel_trace_id):
            return pop(self, otel_trace_id)

        def leave() -> None:
            with contextlib.suppress(Exception):  # no fault of an exporter's may get into the user's request
                _hand_to_exporters()
            with _lock:
                _continued[otel_trace_id] -= 1
                if _continued[otel_trace_id] <= 0:
                    del _continued[otel_trace_id]
                    pop(self, otel_trace_id)

        at_rest(otel_trace_id, leave)
        return None

    pop_trace.lmc_watched = True  # type: ignore[attr-defined]
    InMemoryTraceManager.register_trace = register_trace  # type: ignore[method-assign]
    InMemoryTraceManager.pop_trace = pop_trace  # type: ignore[method-assign]


def _is_stand_in(manager: InMemoryTraceManager, otel_trace_id: int) -> bool:
    trace_id = manager.get_mlflow_trace_id_from_otel_id(otel_trace_id)
    if trace_id is None:
        return False
    with manager.get_trace(trace_id) as trace:
        return trace is not None and trace.is_remote_trace


def _hand_to_exporters() -> None:
    """Let MLflow's batch processors hand on what they have; nobody waits for a store."""
    provider = mlflow_provider.provider.get()
    for processor in provider._active_span_processor._span_processors:  # noqa: SLF001
        delegate = getattr(processor, "_batch_delegate", None)
        if delegate is not None:
            delegate.force_flush()
