"""OpenTelemetry's and MLflow's spans from inside: start, end, and fields that their own methods only add to."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from mlflow.entities import LiveSpan, SpanType
from mlflow.entities.span_log_level import SpanLogLevel
from mlflow.tracing import provider as mlflow_provider
from mlflow.tracing.config import get_config
from mlflow.tracing.constant import SpanAttributeKey
from mlflow.tracing.context import _USER_TRACE_CONTEXT
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils.default_log_level import default_log_level_for_span_type
from mlflow.tracing.utils.processor import apply_span_processors
from opentelemetry import trace as otel_trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor, _Span

from langchain_mlflow_cost.adapters.active import current_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConcreteSpan", "LiveSpan", "SdkSpan", "SpanAttributeKey", "SpanType"]

ConcreteSpan = _Span
"""The class that the SDK's tracers make (`_Span`); `Span` itself refuses to be made."""


def start_span(name: str, span_type: str, parent: LiveSpan | None, *, inherit: bool) -> LiveSpan | None:
    """Start a span below `parent`; without one, below what is active if `inherit`, else as the root of a new trace.

    Returns:
        None where tracing is off or the trace is not sampled.
    """
    scope = _USER_TRACE_CONTEXT.get()
    if scope is not None and scope.enabled is False:
        return None
    if parent is not None:
        context: Context | None = otel_trace.set_span_in_context(otel(parent), Context())
    else:
        # A clean context where a finished or suspended run may stand in the current one.
        context = mlflow_provider.get_current_context() if inherit else Context()
    span = _tracer().start_span(name, context=context)
    if not span.is_recording():
        return None
    live = live_span(span)
    if live is not None:
        write_raw(span, {SpanAttributeKey.SPAN_TYPE: f'"{span_type}"'})
    return live


_tracer_of: tuple[Any, Any] = (None, None)


def _tracer() -> Any:
    """MLflow's tracer, remembered as long as its provider is the same: making one costs as much as the span."""
    global _tracer_of  # noqa: PLW0603 - a cache of one, replaced whole
    provider, tracer = _tracer_of
    if provider is None or provider is not current_provider():
        tracer = mlflow_provider._get_tracer(__name__)  # noqa: SLF001
        _tracer_of = (current_provider(), tracer)
    return tracer


def end_span(span: LiveSpan, *, error: str | None, end_time_ns: int | None = None) -> None:
    """End a span as `LiveSpan.end` does, without the parts that would serialise or warn about missing payloads.

    Args:
        span: An open span.
        error: None for success, else the status description, which may be empty.
        end_time_ns: Nanoseconds since the epoch; now if None.
    """
    status = otel_trace.StatusCode.OK if error is None else otel_trace.StatusCode.ERROR
    otel(span).set_status(status, error or None)
    if get_config().span_processors:
        apply_span_processors(span)
    otel(span).end(end_time=end_time_ns)


def otel(span: LiveSpan) -> SdkSpan:
    """The OpenTelemetry span inside an MLflow span."""
    return cast("SdkSpan", span._span)  # noqa: SLF001


_HAS_MAPPING = hasattr(BoundedAttributes(), "_dict") and hasattr(BoundedAttributes(), "_lock")


def write_raw(span: SdkSpan, attributes: Mapping[str, str | int | float | bool]) -> None:
    """Set attributes past any subclass's own checks.

    The SDK asks each value once more what it is, six times as long as setting it takes: values of these types go
    straight into its mapping, unless a limit of the SDK's could cut or drop one.
    """
    bounded = span._attributes  # noqa: SLF001
    if _HAS_MAPPING and isinstance(bounded, BoundedAttributes) and bounded.max_value_len is None:
        known, most = bounded._dict, bounded.maxlen  # noqa: SLF001
        with span._lock:  # noqa: SLF001
            if span._end_time is None and (most is None or len(known) + len(attributes) <= most):  # noqa: SLF001
                with bounded._lock:  # noqa: SLF001
                    known.update(attributes)
                return
    SdkSpan.set_attributes(span, attributes)


def live_span(span: SdkSpan) -> LiveSpan | None:
    """MLflow's object for an OpenTelemetry span, which holds its attachments and links."""
    manager = InMemoryTraceManager.get_instance()
    trace_id = manager.get_mlflow_trace_id_from_otel_id(span.context.trace_id)
    if trace_id is None:
        return None
    found: LiveSpan | None = manager.get_span_from_id(trace_id, f"{span.context.span_id:016x}")
    # Ids are drawn from `random`: where a program seeds it anew, another trace's spans have the same ones.
    return found if found is not None and found._span is span else None  # noqa: SLF001


def types_in_trace(span: SdkSpan) -> set[str]:
    """MLflow's types of the spans that its trace has so far, but for the span itself and those above it."""
    live = live_span(span)
    if live is None:
        return set()
    with InMemoryTraceManager.get_instance().get_trace(live.trace_id) as trace:
        known = [] if trace is None else list(trace.span_dict.values())
    above = {id(live), *(id(each) for each in open_ancestors(span))}
    return {each.span_type for each in known if id(each) not in above}


def open_spans() -> list[LiveSpan]:
    """All spans of this process that have not ended, the outer ones first."""
    manager = InMemoryTraceManager.get_instance()
    with manager._lock:  # noqa: SLF001
        return [
            live
            for trace in list(manager._traces.values())  # noqa: SLF001
            for live in list(trace.span_dict.values())
            if live.end_time_ns is None
        ]


def open_ancestors(span: SdkSpan) -> list[LiveSpan]:
    """The spans above one in the same process and trace that have not ended, nearest first."""
    live = live_span(span)
    manager = InMemoryTraceManager.get_instance()
    found = []
    while live is not None and live.parent_id:
        live = manager.get_span_from_id(live.trace_id, live.parent_id)
        if live is not None and live.end_time_ns is None:
            found.append(live)
    return found


def is_below_local_root(span: SdkSpan) -> bool:
    """Whether the outermost open span above one, or it itself, is its trace's root, not below another process's."""
    outermost = next((otel(above) for above in reversed(open_ancestors(span))), span)
    return outermost.parent is None


ERROR_LEVEL = int(SpanLogLevel.ERROR)
"""The level that MLflow gives a span with an exception."""


@functools.lru_cache(maxsize=64)
def _level_of_type(span_type: str) -> int:
    return int(default_log_level_for_span_type(span_type))


def log_level_of(span: LiveSpan) -> int:
    """The level that MLflow gives a span of its type when it ends."""
    return _level_of_type(span.span_type)


def fields_of(span: SdkSpan) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """The attributes, events and links of an open span, as they stand."""
    return dict(span._attributes or {}), list(span._events), list(span._links)  # noqa: SLF001


def replace_fields(
    span: SdkSpan,
    *,
    attributes: Mapping[str, Any] | None = None,
    drop_events: bool = False,
    drop_links: bool = False,
) -> None:
    """Replace all attributes of an open span, or empty its events or links: the SDK can only add."""
    with span._lock:  # noqa: SLF001
        if attributes is not None and span._attributes is not None:  # noqa: SLF001
            for key in list(span._attributes):  # noqa: SLF001
                if key not in attributes:
                    del span._attributes[key]  # type: ignore[attr-defined]  # noqa: SLF001
            for key, value in attributes.items():
                if span._attributes.get(key) != value:  # noqa: SLF001
                    span._attributes[key] = value  # type: ignore[index]  # noqa: SLF001
        if drop_events:
            span._events = span._new_events()  # noqa: SLF001
        if drop_links:
            span._links = span._new_links(())  # noqa: SLF001


def add_to_ended(span: SdkSpan, attributes: Mapping[str, Any]) -> None:
    """Write attributes into a span that has ended, whose own are frozen; MLflow stores what it finds in them.

    One that is about to end, or that MLflow's time-out left open, gets them as any other does: whether it has ended is
    asked under its own lock, since an end in between would find a mapping that it cannot freeze.
    """
    with span._lock:  # noqa: SLF001
        if ended(span):
            span._attributes = {**(span._attributes or {}), **attributes}  # noqa: SLF001
        else:
            span._attributes.update(attributes)  # type: ignore[union-attr]  # noqa: SLF001


def replace_status(span: SdkSpan, description: str | None) -> None:
    """Replace the description of an error status: the SDK's setter is refused once the status is final."""
    status = span._status  # noqa: SLF001
    if status.description:
        span._status = otel_trace.Status(status.status_code, description)  # noqa: SLF001


def withhold(span: SdkSpan) -> None:
    """Make sure that a span reaches no processor any more: for one that could not be guarded."""
    span._span_processor = SpanProcessor()  # noqa: SLF001


def ended(span: SdkSpan) -> bool:
    """Whether the span has really ended (a held span has not)."""
    return span._end_time is not None  # noqa: SLF001


def has_span_processors() -> bool:
    """Whether the user has span processors of MLflow's own kind, which look at a span before it ends."""
    return bool(get_config().span_processors)


def attachments_of(span: LiveSpan) -> dict[str, Any]:
    """The files that MLflow took out of a span's payloads, by id; deleting an entry keeps it from being uploaded."""
    found: dict[str, Any] = span._attachments  # noqa: SLF001
    return found


def mlflow_links_of(span: LiveSpan) -> list[Any]:
    """MLflow's own copies of a span's links, exported beside OpenTelemetry's."""
    found: list[Any] = span._links  # noqa: SLF001
    return found
