"""Nothing that the policy withholds is ever in a governed span: the last place that every exported byte crosses.

`SpanGuard` is an OpenTelemetry span processor that stands first in MLflow's provider. When a span starts below a
governed one, whoever made it, it becomes a `GuardedSpan`: every write to it goes through the policy first. Exits,
time-outs, forks, metrics, `traces.json` and every exporter then have nothing to leak, whatever their order.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import SpanProcessor

from langchain_mlflow_cost.adapters.spans import (
    ConcreteSpan,
    LiveSpan,
    SdkSpan,
    SpanAttributeKey,
    fields_of,
    open_ancestors,
    open_spans,
    otel,
    replace_fields,
    replace_status,
    withhold,
    write_raw,
)
from langchain_mlflow_cost.tracing import admission, release, structure
from langchain_mlflow_cost.tracing.active_run import active_now, resolved
from langchain_mlflow_cost.tracing.span_state import SpanState, warn_dropped
from langchain_mlflow_cost.tracing.unclaimed import note_trace_id, open_unclaimed, unclaimed_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context

_next_state: ContextVar[SpanState | None] = ContextVar("langchain_mlflow_cost_next_state", default=None)


class starting:  # noqa: N801 - used as a function, which would take four times as long for each span
    """Gives the next span that starts in this context its state, instead of one derived from its parent."""

    __slots__ = ("_state", "_token")

    def __init__(self, state: SpanState) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._token = _next_state.set(self._state)

    def __exit__(self, *_: object) -> None:
        _next_state.reset(self._token)


def state_of(span: Any) -> SpanState | None:
    """The guard's state of an OpenTelemetry span; None if it is not governed."""
    return span.lmc_state if isinstance(span, GuardedSpan) else None


class GuardedSpan(ConcreteSpan):
    """A span that cannot hold what the policy withholds. Never made: a started span's class is changed to it."""

    lmc_state: SpanState

    def set_attribute(self, key: str, value: Any) -> None:
        """Write an attribute as far as the policy lets it through."""
        if structure.is_raw(key, value):
            if type(value) is str:
                write_raw(self, {key: value})
            else:
                super().set_attribute(key, value)
            if key == SpanAttributeKey.REQUEST_ID:
                note_trace_id(self, value)
        elif key == SpanAttributeKey.SPAN_TYPE and value in structure.TYPES:
            if value in admission.HEARD_TYPE_VALUES:
                self.lmc_state.is_model = True
            write_raw(self, {key: str(value)})
        else:
            self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Write attributes as far as the policy lets them through."""
        if not self.lmc_state.is_final:
            super().set_attributes(admission.admit_attributes(self.lmc_state, attributes))

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        """Add an event as far as the policy lets it through."""
        if self.lmc_state.is_final:
            return
        event = admission.admit_event(self.lmc_state, name, attributes or {}, timestamp)
        if event is not None:
            super().add_event(*event)

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Set the status; its description is redacted, or left out where exceptions are."""
        if isinstance(status, otel_trace.Status):
            status, description = status.status_code, status.description
        if description:
            description = admission.admit_description(self.lmc_state, description)
        super().set_status(otel_trace.Status(status, description or None if _is_error(status) else None))

    def update_name(self, name: str) -> None:
        """Rename, redacted."""
        super().update_name(self.lmc_state.name(name))

    def add_link(self, context: Any, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a link; its attributes are treated as the span's own."""
        super().add_link(context, admission.admit_attributes(self.lmc_state, attributes or {}))

    def end(self, end_time: int | None = None) -> None:
        """End the span, or note its end until the held trace is released."""
        release.end(self, end_time)


def _is_error(status: Any) -> bool:
    return status is otel_trace.StatusCode.ERROR


class SpanGuard(SpanProcessor):
    """Binds every span that starts below a governed one, and under `everywhere` all others."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Bind the span if it is governed; one that cannot be bound is never exported."""
        state = _next_state.get()
        if state is None:
            parent = resolved(otel_trace.get_current_span(parent_context))
            if not isinstance(parent, GuardedSpan):
                # A bridged library starts its span from OpenTelemetry's context, which MLflow keeps apart.
                parent = active_now()
            above = parent.lmc_state if isinstance(parent, GuardedSpan) else _spanless.get()
            if above is None or not (isinstance(parent, GuardedSpan) or _is_open(above)):
                guard_unclaimed(span)
                return
            state = above.below(parent if isinstance(parent, GuardedSpan) else None)
        _bind_or_withhold(span, state)


def guard_unclaimed(span: SdkSpan) -> None:
    """Put a span that nobody governs under the handler that governs everything, if there is one."""
    try:
        state = unclaimed_state(span)
    except Exception as error:  # noqa: BLE001 - fail closed, as below
        withhold(span)
        warn_dropped(type(error).__name__)
        return
    if state is not None:
        _bind_or_withhold(span, state)
        if isinstance(span, GuardedSpan):
            open_unclaimed(span)


def guard_open_spans() -> None:
    """Put the spans that are open already under the handler that governs everything."""
    for live in open_spans():
        span = otel(live)
        parent = next((otel(above) for above in open_ancestors(span)), None)
        if isinstance(span, GuardedSpan):
            continue
        if isinstance(parent, GuardedSpan):
            _bind_or_withhold(span, parent.lmc_state.below(parent))
        else:
            guard_unclaimed(span)


def _bind_or_withhold(span: SdkSpan, state: SpanState) -> None:
    try:
        bind(span, state)
    except Exception as error:  # noqa: BLE001 - fail closed: an unguarded span must not be exported
        withhold(span)
        warn_dropped(type(error).__name__)


_spanless: ContextVar[SpanState | None] = ContextVar("langchain_mlflow_cost_spanless", default=None)


def govern_without_span(state: SpanState) -> None:
    """Govern what starts below a run that has no span of its own: tracing was off, or the trace is not sampled."""
    _spanless.set(state)


def _is_open(state: SpanState) -> bool:
    # The variable outlives the run in the caller's context.
    return state.owner is not None and state.owner.is_open


def bind(span: SdkSpan, state: SpanState) -> None:
    """Put a span under guard, with what is already in it."""
    if isinstance(span, GuardedSpan):
        return
    attributes, events, links = fields_of(span)
    status = span.status
    guarded = cast("GuardedSpan", span)
    guarded.lmc_state = state
    span.__class__ = GuardedSpan if type(span) is ConcreteSpan else _guarded_class(type(span))
    with state.trace.lock:
        state.trace.open_spans.add(guarded)
    if attributes or events or links:
        replace_fields(
            span,
            attributes=admission.admit_attributes(state, attributes) if attributes else None,
            drop_events=bool(events),
            drop_links=bool(links),
        )
    for event in events:
        guarded.add_event(event.name, event.attributes, event.timestamp)
    for link in links:
        guarded.add_link(link.context, link.attributes)
    if status.description:
        replace_status(span, admission.admit_description(state, status.description))
    if state.is_foreign:
        name = state.name(span.name)
        if name != span.name:
            SdkSpan.update_name(span, name)


_classes: dict[type, type[GuardedSpan]] = {}


def _guarded_class(base: type) -> type[GuardedSpan]:
    # Another provider may have a span class of its own, when MLflow shares the global provider.
    if base not in _classes:
        _classes[base] = type(f"Guarded{base.__name__}", (GuardedSpan, base), {})
    return _classes[base]


def reapply_policy(span: SdkSpan) -> None:
    """Judge what is already in a span once more, after its policy became stricter."""
    if isinstance(span, GuardedSpan) and not span.lmc_state.is_final:
        attributes, _, _ = fields_of(span)
        replace_fields(span, attributes=admission.admit_attributes(span.lmc_state, attributes))


def guard_open_span(live: LiveSpan, state: SpanState) -> None:
    """Put a span that is already open under guard: one above an invocation, or one that MLflow's tracer started."""
    span = otel(live)
    if not isinstance(span, GuardedSpan):
        bind(span, state)
