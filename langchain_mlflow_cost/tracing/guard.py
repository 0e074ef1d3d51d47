"""Nothing that the policy withholds is ever in a governed span: the last place that every exported byte crosses.

`SpanGuard` is an OpenTelemetry span processor that stands first in MLflow's provider. When a span starts below a
governed one, whoever made it, it becomes a `GuardedSpan`: every write to it goes through the policy first. Exits,
time-outs, forks, metrics, `traces.json` and every exporter then have nothing to leak, whatever their order.

In a trace with a private node the end of each span is held back until the invocation's root ends, since only then
is it known which texts must go; then all are cleaned and end in the order in which they would have.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import orjson
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import SpanProcessor

from langchain_mlflow_cost.adapters.active import active_span
from langchain_mlflow_cost.adapters.export_queue import Patience, wait_for_room
from langchain_mlflow_cost.adapters.provider import redirect_to_current_provider
from langchain_mlflow_cost.adapters.spans import (
    ConcreteSpan,
    LiveSpan,
    SdkSpan,
    SpanAttributeKey,
    SpanType,
    attachments_of,
    fields_of,
    live_span,
    mlflow_links_of,
    otel,
    replace_fields,
    replace_status,
    withhold,
    write_raw,
)
from langchain_mlflow_cost.adapters.trace_info import COUNT_NAMES, TraceTagKey, exports_metrics, trace_info
from langchain_mlflow_cost.attributes import MODEL_TYPES
from langchain_mlflow_cost.redaction.private_json import FIELD_NAMES, without_private_text
from langchain_mlflow_cost.redaction.private_text import PrivateText
from langchain_mlflow_cost.tracing.record import Record, redacted_json, redacted_text

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from langchain_mlflow_cost.policy.node_policy import Kind
    from langchain_mlflow_cost.redaction.walk import Redactor
    from langchain_mlflow_cost.tracing.enforcement import Enforcement

log = logging.getLogger("langchain_mlflow_cost")

HELD_CHARS = 64 * 1024 * 1024
"""Characters of payload that one held trace may keep in memory; past it, further payloads are dropped."""

_RAW_KEYS = frozenset(
    {
        SpanAttributeKey.REQUEST_ID,
        SpanAttributeKey.EXPERIMENT_ID,
        SpanAttributeKey.LOG_LEVEL,
        SpanAttributeKey.START_TIME_NS,
    }
)
"""Written by MLflow itself with ids, numbers and constants."""
_TYPES = frozenset(f'"{value}"' for key, value in vars(SpanType).items() if key.isupper()) | {"null"}
"""MLflow's span types, as it writes them."""
_MODEL_TYPES = frozenset(f'"{name}"' for name in MODEL_TYPES)
_NAME_KEYS = frozenset(
    {
        SpanAttributeKey.SPAN_TYPE,
        SpanAttributeKey.MODEL,
        SpanAttributeKey.MODEL_PROVIDER,
        SpanAttributeKey.FUNCTION_NAME,
        SpanAttributeKey.MESSAGE_FORMAT,
        "gen_ai.system",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.operation.name",
        "gen_ai.tool.name",
        "gen_ai.agent.name",
        "error.type",
    }
)
"""Names, which stay at every level, redacted; the `gen_ai` ones are OpenTelemetry's GenAI conventions."""
_COUNT_KEYS = frozenset({SpanAttributeKey.CHAT_USAGE, SpanAttributeKey.LLM_COST})
"""JSON objects of numbers, which stay at every level as they are."""
_CHANNELS = {
    SpanAttributeKey.INPUTS: "inputs",
    SpanAttributeKey.OUTPUTS: "outputs",
    SpanAttributeKey.CHAT_TOOLS: "tools",
}
_BLOB_CHARS = 64
"""A base64 text shorter than this is no file."""
_MAX_JSON_DEPTH = 4
"""JSON in a string in JSON: tool arguments, rarely twice."""
_EXCEPTION_TYPE = "exception.type"
_PAST_LIMIT = "held trace too large"


class Scope:
    """One root invocation: what was said in its private nodes, and the spans that wait for its end."""

    def __init__(
        self,
        *,
        holding: bool,
        price_foreign: Callable[[GuardedSpan], None] | None = None,
        private: PrivateText | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.holding = holding
        self.released = False
        self.private = PrivateText() if private is None else private
        self.private_blobs: set[bytes] = set()
        self.private_errors: list[BaseException] = []
        self.held: list[GuardedSpan] = []
        self.open: weakref.WeakSet[GuardedSpan] = weakref.WeakSet()
        self.root: GuardedSpan | None = None
        self.held_chars = 0
        self.price_foreign = price_foreign
        self.patience = Patience()
        self.info_seen: dict[str, Any] = {}

    def hear(self, value: Any, depth: int = 0, *, values: bool = False) -> None:
        """Remember what a model in a private node was told or said: every string and number of a value.

        Args:
            value: A text, a content block, a tool call's arguments, or a collection of these.
            depth: Of JSON in strings.
            values: Every field holds somebody's words, as in arguments; a content block's `id` and `type` do not.
        """
        if isinstance(value, str):
            is_file = len(value) >= _BLOB_CHARS and " " not in value[:_BLOB_CHARS] and self._hear_file(value)
            self.private.add(value, encoded=not is_file)
            if value[:1] in "{[" and depth < _MAX_JSON_DEPTH:
                with contextlib.suppress(orjson.JSONDecodeError):
                    self.hear(orjson.loads(value), depth + 1, values=True)
        elif isinstance(value, Mapping):
            self._hear_fields(value, depth, values=values)
        elif isinstance(value, list | tuple):
            for member in value:
                self.hear(member, depth, values=values)
            if values and len(value) > 1 and all(isinstance(member, str) for member in value):
                self.private.add(" ".join(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.private.add(str(value))

    def _hear_fields(self, fields: Mapping[Any, Any], depth: int, *, values: bool) -> None:
        for key, member in fields.items():
            if values or key not in ("type", "id", "index", "role", "finish_reason"):
                self.hear(member, depth, values=values or key in ("input", "args", "arguments"))
            if values and isinstance(key, str) and not key.isidentifier():
                self.private.add(key)

    def _hear_file(self, value: str) -> bool:
        with contextlib.suppress(binascii.Error, ValueError):
            self.private_blobs.add(base64.b64decode(value.partition(";base64,")[2] or value, validate=True))
            return True
        return False

    def admit(self, chars: int) -> bool:
        """Whether a held trace has room for a payload of this size."""
        if not self.holding or self.released:
            return True
        with self.lock:
            self.held_chars += chars
            return self.held_chars <= HELD_CHARS


class SpanState:
    """What the guard knows of one span."""

    __slots__ = (
        "chunks",
        "counted",
        "end_time",
        "enforcement",
        "final",
        "foreign",
        "has_files",
        "held",
        "is_model",
        "kind",
        "name_is_structure",
        "owner",
        "parent",
        "pending",
        "record",
        "scope",
        "scopes",
    )

    def __init__(
        self,
        enforcement: Enforcement,
        scope: Scope,
        kind: Kind,
        *,
        foreign: bool = False,
        parent: GuardedSpan | None = None,
        owner: Any = None,
        name_is_structure: bool = False,
    ) -> None:
        self.enforcement = enforcement
        self.scope = scope
        self.scopes: tuple[Scope, ...] = (scope,)
        self.kind = kind
        self.foreign = foreign
        self.parent = parent
        self.owner = owner
        self.name_is_structure = name_is_structure
        self.record = Record()
        self.held = False
        self.final = False
        self.counted = False
        self.has_files = False
        self.is_model = False
        self.pending: dict[str, Any] = {}
        self.end_time: int | None = None
        self.chunks: list[tuple[str, Mapping[str, Any], int | None]] = []

    def text(self, text: str, channel: str) -> str:
        """A redacted string; empty, and noted, if redaction fails."""
        try:
            return redacted_text(text, self.enforcement.redactors, self.record)
        except Exception as error:  # noqa: BLE001 - fail closed: whatever a detector does, nothing raw gets through
            self.fault(channel, error)
            return ""

    def json(self, value: Any, channel: str) -> str | None:
        """A payload as redacted JSON; None, and noted, if that fails or the held trace is full."""
        try:
            written = redacted_json(value, self.enforcement.redactors, self.record)
        except Exception as error:  # noqa: BLE001 - fail closed, as above
            self.fault(channel, error)
            return None
        if not self.scope.admit(len(written)):
            self.record.drop(channel, _PAST_LIMIT)
            return None
        return written

    def payload(self, value: Any, channel: str) -> str | None:
        """Inputs or outputs as they may be written; None where the policy drops them."""
        enforcement = self.enforcement
        if not enforcement.keeps_payload(self.kind):
            self.record.drop(channel, enforcement.reason)
            return None
        return self.json(value, channel)

    def fault(self, channel: str, error: BaseException) -> None:
        """Note a payload dropped because something of ours or of the user's failed."""
        # The message of the error may quote the payload: its type is all that may be told.
        self.record.drop(channel, type(error).__name__)
        _warn_once(type(error).__name__)


_warned: set[str] = set()


def _warn_once(cause: str) -> None:
    if cause not in _warned:
        _warned.add(cause)
        log.warning("langchain_mlflow_cost dropped a payload that could not be redacted (%s)", cause)


_next_state: ContextVar[SpanState | None] = ContextVar("langchain_mlflow_cost_next_state", default=None)


@contextlib.contextmanager
def starting(state: SpanState) -> Iterator[None]:
    """Give the next span that starts in this context its state, instead of one derived from its parent."""
    token = _next_state.set(state)
    try:
        yield
    finally:
        _next_state.reset(token)


def state_of(span: Any) -> SpanState | None:
    """The guard's state of an OpenTelemetry span; None if it is not governed."""
    return span.lmc_state if isinstance(span, GuardedSpan) else None


class GuardedSpan(ConcreteSpan):
    """A span that cannot hold what the policy withholds. Never made: a started span's class is changed to it."""

    lmc_state: SpanState

    def set_attribute(self, key: str, value: Any) -> None:
        """Write an attribute as far as the policy lets it through."""
        if key in _RAW_KEYS:
            super().set_attribute(key, value)
        elif key == SpanAttributeKey.SPAN_TYPE and value in _TYPES:
            self.lmc_state.is_model = value in _MODEL_TYPES
            super().set_attribute(key, value)
        else:
            self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Write attributes as far as the policy lets them through."""
        if not self.lmc_state.final:
            super().set_attributes(_admitted(self.lmc_state, attributes))

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        """Add an event as far as the policy lets it through."""
        if self.lmc_state.final:
            return
        event = _admitted_event(self.lmc_state, name, attributes or {}, timestamp)
        if event is not None:
            super().add_event(*event)

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Set the status; its description is redacted, or left out where exceptions are."""
        if isinstance(status, otel_trace.Status):
            status, description = status.status_code, status.description
        if description:
            description = _admitted_description(self.lmc_state, description)
        super().set_status(otel_trace.Status(status, description or None if _is_error(status) else None))

    def update_name(self, name: str) -> None:
        """Rename, redacted."""
        super().update_name(self.lmc_state.text(name, "name"))

    def add_link(self, context: Any, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a link; its attributes are treated as the span's own."""
        super().add_link(context, _admitted(self.lmc_state, attributes or {}))

    def end(self, end_time: int | None = None) -> None:
        """End the span, or note its end until the invocation's root ends."""
        _end(self, end_time)


def _is_error(status: Any) -> bool:
    return status is otel_trace.StatusCode.ERROR


class SpanGuard(SpanProcessor):
    """Binds every span that starts below a governed one."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Bind the span if it is governed; one that cannot be bound is never exported."""
        state = _next_state.get()
        if state is None:
            parent = otel_trace.get_current_span(parent_context)
            if not isinstance(parent, GuardedSpan):
                # A bridged library starts its span from OpenTelemetry's context, which MLflow keeps apart.
                parent = active_span()
            above = parent.lmc_state if isinstance(parent, GuardedSpan) else _spanless.get()
            if above is None or not (isinstance(parent, GuardedSpan) or _is_open(above)):
                return
            state = _below(above, parent if isinstance(parent, GuardedSpan) else None)
        try:
            bind(span, state)
        except Exception as error:  # noqa: BLE001 - fail closed: an unguarded span must not be exported
            withhold(span)
            _warn_once(type(error).__name__)


_spanless: ContextVar[SpanState | None] = ContextVar("langchain_mlflow_cost_spanless", default=None)


def govern_without_span(state: SpanState) -> None:
    """Govern what starts below a run that has no span of its own: tracing was off, or the trace is not sampled."""
    _spanless.set(state)


def _is_open(state: SpanState) -> bool:
    # The variable outlives the run in the caller's context.
    return state.owner is not None and state.owner.is_open


def _below(above: SpanState, parent: GuardedSpan | None) -> SpanState:
    state = SpanState(above.enforcement, above.scope, "work", foreign=True, parent=parent, owner=above.owner)
    state.scopes = above.scopes
    return state


def bind(span: SdkSpan, state: SpanState) -> None:
    """Put a span under guard, with what is already in it."""
    if isinstance(span, GuardedSpan):
        return
    attributes, events, links = fields_of(span)
    status = span.status
    guarded = cast("GuardedSpan", span)
    guarded.lmc_state = state
    span.__class__ = GuardedSpan if type(span) is ConcreteSpan else _guarded_class(type(span))
    scope = state.scope
    with scope.lock:
        scope.open.add(guarded)
    replace_fields(
        span,
        attributes=_admitted(state, attributes) if attributes else None,
        drop_events=bool(events),
        drop_links=bool(links),
    )
    for event in events:
        guarded.add_event(event.name, event.attributes, event.timestamp)
    for link in links:
        guarded.add_link(link.context, link.attributes)
    if status.description:
        replace_status(span, _admitted_description(state, status.description))
    if state.foreign:
        name = state.text(span.name, "name")
        if name != span.name:
            SdkSpan.update_name(span, name)


_classes: dict[type, type[GuardedSpan]] = {}


def _guarded_class(base: type) -> type[GuardedSpan]:
    # Another provider may have a span class of its own, when MLflow shares the global provider.
    if base not in _classes:
        _classes[base] = type(f"Guarded{base.__name__}", (GuardedSpan, base), {})
    return _classes[base]


# --- what may be written --------------------------------------------------------------------------------------------


def _admitted(state: SpanState, attributes: Mapping[str, Any]) -> dict[str, Any]:
    admitted: dict[str, Any] = {}
    if "gen_ai.operation.name" in attributes or "gen_ai.request.model" in attributes:
        state.is_model = True
    if attributes.get(SpanAttributeKey.SPAN_TYPE) in _MODEL_TYPES:
        state.is_model = True
    for key, value in attributes.items():
        try:
            if key in _RAW_KEYS or (key in _COUNT_KEYS and _is_counts(value)):
                admitted[key] = value
            elif key in _NAME_KEYS:
                admitted[key] = _scalar(state, value, "names")
            else:
                _admit_payload(state, key, value, admitted)
        except Exception as error:  # noqa: BLE001 - fail closed: what cannot be judged is not written
            state.fault(_CHANNELS.get(key, "attributes"), error)
    return admitted


def _admit_payload(state: SpanState, key: str, value: Any, admitted: dict[str, Any]) -> None:
    channel = _CHANNELS.get(key, "attributes")
    enforcement = state.enforcement
    if key.startswith(_COUNT_PREFIX) and isinstance(value, int):
        admitted[key] = value
        return
    if not enforcement.log_prompts and state.is_model:
        _hear_foreign(state, value)
    if channel in ("inputs", "outputs"):
        kept = enforcement.keeps_payload(state.kind)
    else:
        kept = enforcement.keeps_details(state.kind)
    if not kept:
        if value not in ("null", None):
            state.record.drop(channel, enforcement.reason)
        return
    written = _scalar(state, value, channel)
    if written is None:
        return
    if isinstance(written, str) and not state.scope.admit(len(written)):
        state.record.drop(channel, _PAST_LIMIT)
        return
    admitted[_key(state, key)] = written


_COUNT_PREFIX = "gen_ai.usage."
"""Token counts by OpenTelemetry's GenAI conventions."""
_SHORT_NUMBER = 10**6
"""Numbers below it can be no card, phone or account number, and need no scan."""


def _hear_foreign(state: SpanState, value: Any) -> None:
    """What another library's span says that a model in a private node was told or said."""
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(value)
    for scope in state.scopes:
        scope.hear(value if isinstance(value, str | dict | list) else None)


def _key(state: SpanState, key: str) -> str:
    return key if key in _CHANNELS else state.text(key, "attributes") or "redacted"


def _scalar(state: SpanState, value: Any, channel: str) -> Any:
    """An attribute's value, redacted; its type stays what OpenTelemetry allows."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return _text_value(state, value, channel)
    if isinstance(value, Sequence):
        return [_scalar(state, member, channel) for member in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= _SHORT_NUMBER:
        digits = format(value, "f").rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        return value if state.text(digits, channel) == digits else f"[{channel}]"
    return value


def _text_value(state: SpanState, value: str, channel: str) -> str | None:
    # MLflow writes every value as JSON text, OpenTelemetry libraries write plain text.
    if value[:1] in ("{", "[", '"', "-") or value[:1].isdigit():
        try:
            loaded = orjson.loads(value)
        except orjson.JSONDecodeError:
            return state.text(value, channel)
        return state.json(loaded, channel)
    return state.text(value, channel)


def _is_counts(value: Any) -> bool:
    try:
        loaded = orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return False
    return isinstance(loaded, dict) and loaded.keys() <= COUNT_NAMES


def _admitted_description(state: SpanState, description: str) -> str | None:
    if not state.enforcement.keeps_exceptions:
        state.record.drop("status", state.enforcement.reason)
        return None
    return state.text(description, "status")


def _admitted_event(
    state: SpanState, name: str, attributes: Mapping[str, Any], timestamp: int | None
) -> tuple[str, dict[str, Any], int | None] | None:
    enforcement = state.enforcement
    if name == "new_token" or name.startswith("mlflow.chunk.item"):
        if not enforcement.keeps_stream:
            state.record.drop("stream", enforcement.reason)
        elif _has_room(state, attributes, "stream"):
            # A value may be split over chunks, where no single one of them can be recognised: judged at the end.
            state.chunks.append((name, dict(attributes), timestamp))
        return None
    if not enforcement.log_prompts and state.is_model:
        for value in attributes.values():
            _hear_foreign(state, value)
    event_name = state.text(name, "events")
    if not enforcement.keeps_exceptions:
        kept = {k: str(v) for k, v in attributes.items() if k in (_EXCEPTION_TYPE, "exception_type")}
        if len(kept) < len(attributes):
            state.record.drop("events", enforcement.reason)
        return event_name, {k: state.text(v, "events") for k, v in kept.items()}, timestamp
    written = {}
    for key, value in attributes.items():
        try:
            written[state.text(key, "events") or "redacted"] = _scalar(state, value, "events")
        except Exception as error:  # noqa: BLE001 - fail closed
            state.fault("events", error)
    return event_name, written if _has_room(state, written, "events") else {}, timestamp


def _has_room(state: SpanState, attributes: Mapping[str, Any], channel: str) -> bool:
    """Whether a held trace has room for an event; noted if not."""
    if state.scope.admit(sum(len(value) for value in attributes.values() if isinstance(value, str))):
        return True
    state.record.drop(channel, _PAST_LIMIT)
    return False


# --- the end of a span ----------------------------------------------------------------------------------------------


def _end(span: GuardedSpan, end_time: int | None) -> None:
    state = span.lmc_state
    scope = state.scope
    if state.foreign and scope.price_foreign is not None and not state.counted:
        state.counted = True
        try:
            scope.price_foreign(span)
        except Exception as error:  # noqa: BLE001 - a call that cannot be counted must not cost its span
            log.warning("langchain_mlflow_cost could not price a call of another library (%s)", type(error).__name__)
    with scope.lock:
        if state.held or state.final:
            return
        if scope.holding and not scope.released and span is not scope.root:
            state.held = True
            state.end_time = end_time if end_time is not None else time.time_ns()
            scope.held.append(span)
            return
    if span is scope.root:
        release(scope, root_end=end_time if end_time is not None else time.time_ns())
    else:
        _really_end(span, end_time)


def release(scope: Scope, *, root_end: int | None = None) -> None:
    """Clean and end everything that was held back, the root last."""
    with scope.lock:
        if scope.released:
            return
        scope.released = True
        scope.private_errors.clear()
        held, scope.held = scope.held, []
        still_open = [span for span in scope.open if not span.lmc_state.held and span is not scope.root]
    if scope.private:
        _hear_redacted(scope, [*held, *still_open])
        for span in still_open:
            # A span may outlive the root; the exporter may be made to write it as it is when the process ends.
            _clean(span)
    for span in held:
        span.lmc_state.held = False
        _really_end(span, span.lmc_state.end_time)
    if scope.root is not None and root_end is not None:
        _really_end(scope.root, root_end)
    scope.private.forget_answers()


def _hear_redacted(scope: Scope, spans: Sequence[GuardedSpan]) -> None:
    """Know the private texts also as each policy of the trace redacts them: so they stand in the spans."""
    everyone = [*spans, *([scope.root] if scope.root is not None else [])]
    chains = {span.lmc_state.enforcement.redactors for span in everyone}
    for redactors in chains:

        def redacted(text: str, redactors: tuple[Redactor, ...] = redactors) -> str | None:
            try:
                return redacted_text(text, redactors, Record())
            except Exception:  # noqa: BLE001 - what cannot be redacted was not written either
                return None

        scope.private.add_variants(redacted)


def _really_end(span: GuardedSpan, end_time: int | None) -> None:
    state = span.lmc_state
    try:
        _write_chunks(span)
        _clean(span)
        if span is state.scope.root or span.parent is None or state.scope.released or exports_metrics():
            clean_trace_info(span)
    except Exception as error:  # noqa: BLE001 - fail closed: a span that cannot be cleaned goes out empty
        state.fault("everything", error)
        replace_fields(span, attributes=_bare(span), drop_events=True, drop_links=True)
        replace_status(span, None)
    write_raw(span, {**state.pending, **policy_attributes(state)})
    state.final = True
    with state.scope.lock:
        state.scope.open.discard(span)
    redirect_to_current_provider(span)
    if end_time is None:
        end_time = time.time_ns()
    try:
        wait_for_room(span, state.scope.patience)
    finally:
        SdkSpan.end(span, end_time)


def policy_attributes(state: SpanState) -> dict[str, str]:
    """The `policy.*` attributes of a span, as JSON text, MLflow's form of every attribute."""
    return {**state.enforcement.attributes, **state.record.attributes()}


def _bare(span: GuardedSpan) -> dict[str, Any]:
    attributes, _, _ = fields_of(span)
    kept = _RAW_KEYS | _COUNT_KEYS | {SpanAttributeKey.SPAN_TYPE}
    return {key: value for key, value in attributes.items() if key in kept or key.startswith(("cost.", "policy."))}


def _write_chunks(span: GuardedSpan) -> None:
    state = span.lmc_state
    chunks, state.chunks = state.chunks, []
    if not chunks:
        return
    joined = "".join(str(value) for _, attributes, _ in chunks for value in attributes.values())
    split = SpanState(state.enforcement, state.scope, state.kind)
    private = any(scope.private and scope.private.scrub(joined)[1] for scope in state.scopes)
    if private or split.text(joined, "stream") != joined:
        state.record.drop("stream", "redacted")
        for name, _, timestamp in chunks:
            SdkSpan.add_event(span, name, {}, timestamp)
        return
    for name, attributes, timestamp in chunks:
        SdkSpan.add_event(span, name, {k: _scalar(state, v, "events") for k, v in attributes.items()}, timestamp)


def _clean(span: GuardedSpan) -> None:
    """Take out what could not be judged when it was written: private text, files, MLflow's copies of links."""
    state = span.lmc_state
    if state.foreign or state.has_files:
        _clean_mlflow_copies(span)
    for scope in state.scopes:
        if scope.private:
            _clean_private(span, scope.private)


def _clean_private(span: GuardedSpan, private: PrivateText) -> None:
    state = span.lmc_state
    attributes, events, links = fields_of(span)
    before = state.record.redactions.get("PRIVATE", 0)

    def cleaned(value: Any) -> Any:
        return _without_private(state, value, private)

    def cleaned_fields(fields: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            key if key.startswith("mlflow.") or key in FIELD_NAMES else cleaned(key): cleaned(value)
            for key, value in (fields or {}).items()
        }

    structure = {key: value for key, value in attributes.items() if _is_structure(key)}
    payload = {key: value for key, value in attributes.items() if key not in structure}
    replace_fields(span, attributes={**structure, **cleaned_fields(payload)})
    clean_events = [(cleaned(event.name), cleaned_fields(event.attributes), event.timestamp) for event in events]
    clean_links = [(link.context, cleaned_fields(link.attributes)) for link in links]
    if state.record.redactions.get("PRIVATE", 0) > before:
        replace_fields(span, drop_events=bool(events), drop_links=bool(links))
        for event in clean_events:
            SdkSpan.add_event(span, *event)
        for link in clean_links:
            SdkSpan.add_link(span, *link)
    if span.status.description:
        replace_status(span, cleaned(span.status.description))
    if not state.name_is_structure:
        name = cleaned(span.name)
        if name != span.name:
            SdkSpan.update_name(span, name)


def _without_private(state: SpanState, value: Any, private: PrivateText) -> Any:
    if isinstance(value, str):
        text, hits = without_private_text(value, private)
        if hits:
            state.record.found({"PRIVATE": hits})
        return text
    if isinstance(value, list | tuple):
        return [_without_private(state, member, private) for member in value]
    return value


def _is_structure(key: str) -> bool:
    return key in _RAW_KEYS or key in _COUNT_KEYS or key in _NAME_KEYS or key.startswith(("cost.", "policy."))


def _clean_mlflow_copies(span: GuardedSpan) -> None:
    live = live_span(span)
    if live is None:
        return
    state = span.lmc_state
    attachments = attachments_of(live)
    for key, attachment in list(attachments.items()):
        if not _keep_attachment(state, attachment):
            del attachments[key]
    for link in mlflow_links_of(live):
        if link.attributes:
            link.attributes = {k: str(v) for k, v in _admitted(state, link.attributes).items()}
            for scope in state.scopes:
                if scope.private:
                    link.attributes = {
                        without_private_text(k, scope.private)[0]: without_private_text(v, scope.private)[0]
                        for k, v in link.attributes.items()
                    }


def _keep_attachment(state: SpanState, attachment: Any) -> bool:
    if not state.enforcement.keeps_payload(state.kind):
        state.record.drop("attachments", state.enforcement.reason)
        return False
    content: bytes = attachment.content_bytes
    for scope in state.scopes:
        text = content.decode("utf-8", "replace")
        if content in scope.private_blobs or (scope.private and scope.private.scrub(text)[1]):
            state.record.drop("attachments", "log_prompts")
            return False
    # A file cannot be rewritten without knowing its format: one that has something to redact goes whole.
    for view in (content.decode("latin-1"), content.decode("utf-8", "replace")):
        if state.text(view, "attachments") != view:
            state.record.drop("attachments", "redacted")
            return False
    return True


_INFO_KEYS_KEPT = frozenset(
    {
        "mlflow.trace_schema.version",
        "mlflow.trace.sizeStats",
        "mlflow.trace.sizeBytes",
        "mlflow.trace.tokenUsage",
        "mlflow.trace.cost",
        "mlflow.trace.spansLocation",
        "mlflow.trace.infoFinalized",
        "mlflow.sourceRun",
        "mlflow.modelId",
        "mlflow.eval.requestId",
        "mlflow.artifactLocation",
        "mlflow.source.git.commit",
        "mlflow.source.type",
    }
)
"""Trace metadata and tags that MLflow itself writes with ids and numbers."""


def clean_trace_info(span: GuardedSpan) -> None:
    """Redact what is kept beside the spans: tags, metadata, previews, user, session."""
    request_id = (span.attributes or {}).get(SpanAttributeKey.REQUEST_ID)
    if not isinstance(request_id, str):
        return
    root = span.lmc_state.scope.root
    state = span.lmc_state if root is None else root.lmc_state
    with trace_info(json.loads(request_id)) as info:
        if info is None:
            return
        for fields in (info.tags, info.trace_metadata):
            _clean_mapping(state, fields)
        for name in ("request_preview", "response_preview", "client_request_id"):
            text = getattr(info, name, None)
            if text:
                setattr(info, name, _clean_info_text(state, text, preview=name.endswith("preview")))


def _clean_mapping(state: SpanState, fields: dict[str, Any]) -> None:
    seen = state.scope.info_seen
    for key, value in list(fields.items()):
        if key in _INFO_KEYS_KEPT or not isinstance(value, str):
            continue
        if seen.get(key) == (value, state.scope.released):
            continue
        preview = key in ("mlflow.traceInputs", "mlflow.traceOutputs")
        clean_value = (
            value
            if key == TraceTagKey.TRACE_NAME and state.name_is_structure
            else _clean_info_text(state, value, preview=preview)
        )
        clean_key = key if key.startswith("mlflow.") else (_clean_info_text(state, key) or "redacted")
        if clean_key != key:
            del fields[key]
        if clean_value != value or clean_key != key:
            fields[clean_key] = clean_value or ""
        seen[clean_key] = (clean_value, state.scope.released)


def _clean_info_text(state: SpanState, text: str, *, preview: bool = False) -> str | None:
    if preview and not state.enforcement.keeps_payload("root"):
        state.record.drop("previews", state.enforcement.reason)
        return None
    clean = state.text(text, "trace")
    for scope in state.scopes:
        if scope.private:
            clean, hits = without_private_text(clean, scope.private)
            state.record.found({"PRIVATE": hits} if hits else {})
    return clean


def readmit(span: SdkSpan) -> None:
    """Judge what is already in a span once more, after its policy became stricter."""
    if isinstance(span, GuardedSpan) and not span.lmc_state.final:
        attributes, _, _ = fields_of(span)
        replace_fields(span, attributes=_admitted(span.lmc_state, attributes))


def adopt(live: LiveSpan, state: SpanState) -> None:
    """Put a span that is already open under guard: one above an invocation, or one that MLflow's tracer started."""
    span = otel(live)
    if isinstance(span, GuardedSpan):
        if state.scope not in span.lmc_state.scopes:
            span.lmc_state.scopes += (state.scope,)
        return
    bind(span, state)
