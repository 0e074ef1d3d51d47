"""What may be written into a governed span, and in which form: attributes, events, descriptions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, SpanType
from langchain_mlflow_cost.adapters.trace_info import COUNT_NAMES
from langchain_mlflow_cost.attributes import MODEL_TYPES, OURS
from langchain_mlflow_cost.tracing.span_state import PAST_LIMIT, SpanState

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.session import Session

RAW_KEYS = frozenset(
    {
        SpanAttributeKey.REQUEST_ID,
        SpanAttributeKey.EXPERIMENT_ID,
        SpanAttributeKey.LOG_LEVEL,
        SpanAttributeKey.START_TIME_NS,
    }
)
"""Written by MLflow itself with ids, numbers and constants."""
TYPES = frozenset(f'"{value}"' for key, value in vars(SpanType).items() if key.isupper()) | {"null"}
"""MLflow's span types, as it writes them."""
MODEL_TYPE_VALUES = frozenset(f'"{name}"' for name in MODEL_TYPES)
OPERATION_KEY, MODEL_OPERATIONS = "gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")
"""How OpenTelemetry's GenAI conventions say that a span is a call of a model."""
KIND_KEY, MODEL_KINDS = "openinference.span.kind", ("LLM", "EMBEDDING")
"""The same of OpenInference's."""
NAME_KEYS = frozenset(
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
        OPERATION_KEY,
        KIND_KEY,
        "llm.model_name",
        "llm.provider",
        "llm.system",
        "gen_ai.tool.name",
        "gen_ai.agent.name",
        "error.type",
    }
)
"""Names, which stay at every level, redacted: MLflow's, OpenTelemetry's GenAI conventions', OpenInference's."""
COUNT_KEYS = frozenset({SpanAttributeKey.CHAT_USAGE, SpanAttributeKey.LLM_COST})
"""JSON objects of numbers, which stay at every level as they are."""
_CHANNELS = {
    SpanAttributeKey.INPUTS: "inputs",
    SpanAttributeKey.OUTPUTS: "outputs",
    SpanAttributeKey.CHAT_TOOLS: "tools",
}
_EXCEPTION_TYPE = "exception.type"


def admit_attributes(state: SpanState, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that may stay, in the form in which they may."""
    admitted: dict[str, Any] = {}
    if not attributes.keys().isdisjoint((OPERATION_KEY, "gen_ai.request.model", "llm.model_name")):
        state.is_model = True
    if attributes.get(SpanAttributeKey.SPAN_TYPE) in MODEL_TYPE_VALUES:
        state.is_model = True
    for key, value in attributes.items():
        try:
            if key in RAW_KEYS or (key in COUNT_KEYS and _is_counts(value)):
                admitted[key] = value
            elif key in OURS:
                state.record.drop("attributes", "reserved")
            elif key in NAME_KEYS:
                admitted[key] = admit_value(state, value, "names")
            else:
                _admit_payload(state, key, value, admitted)
        except Exception as error:  # noqa: BLE001 - fail closed: what cannot be judged is not written
            state.fault(_CHANNELS.get(key, "attributes"), error)
    return admitted


def _admit_payload(state: SpanState, key: str, value: Any, admitted: dict[str, Any]) -> None:
    channel = _CHANNELS.get(key, "attributes")
    policy = state.policy
    if key.startswith(COUNT_PREFIXES) and isinstance(value, int):
        admitted[key] = value
        return
    if not policy.log_prompts and state.is_model:
        _remember_foreign(state, value)
    kept = policy.keeps_payload(state.kind) if channel in ("inputs", "outputs") else policy.keeps_details(state.kind)
    if not kept:
        if value not in ("null", None):
            state.record.drop(channel, policy.reason)
        return
    written = admit_value(state, value, channel)
    if written is None:
        return
    if isinstance(written, str) and not state.trace.fits(len(written)):
        state.record.drop(channel, PAST_LIMIT)
        return
    admitted[_key(state, key)] = written


COUNT_PREFIXES = ("gen_ai.usage.", "llm.token_count.")
"""Token counts by OpenTelemetry's GenAI conventions, and by OpenInference's."""
_SHORT_NUMBER = 10**6
"""Numbers below it can be no card, phone or account number, and need no scan."""


def _remember_foreign(state: SpanState, value: Any) -> None:
    """What another library's span says that a model in a private node was told or said."""
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(value)
    if isinstance(value, str | dict | list):
        session_of(state).remember_private(value)


def session_of(state: SpanState) -> Session:
    """Where the private text of a span is remembered."""
    return state.trace.session_of(None if state.owner is None else state.owner.session_id)


def _key(state: SpanState, key: str) -> str:
    return key if key in _CHANNELS else state.text(key, "attributes") or "redacted"


def admit_value(state: SpanState, value: Any, channel: str) -> Any:
    """An attribute's value, redacted; its type stays what OpenTelemetry allows."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return _text_value(state, value, channel)
    if isinstance(value, Sequence):
        return [admit_value(state, member, channel) for member in value]
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


def admit_description(state: SpanState, description: str) -> str | None:
    """The description of a status, if messages of exceptions stay."""
    if not state.policy.keeps_exceptions:
        state.record.drop("status", state.policy.reason)
        return None
    return state.text(description, "status")


def admit_event(
    state: SpanState, name: str, attributes: Mapping[str, Any], timestamp: int | None
) -> tuple[str, dict[str, Any], int | None] | None:
    """An event as far as it may stay; None where it is judged later, or dropped."""
    policy = state.policy
    if name == "new_token" or name.startswith("mlflow.chunk.item"):
        if not policy.keeps_stream:
            state.record.drop("stream", policy.reason)
        elif _has_room(state, attributes, "stream"):
            # A value may be split over chunks, where no single one of them can be recognised: judged at the end.
            state.chunks.append((name, dict(attributes), timestamp))
        return None
    if not policy.log_prompts and state.is_model:
        for value in attributes.values():
            _remember_foreign(state, value)
    event_name = state.text(name, "events")
    if not policy.keeps_exceptions:
        kept = {k: str(v) for k, v in attributes.items() if k in (_EXCEPTION_TYPE, "exception_type")}
        if len(kept) < len(attributes):
            state.record.drop("events", policy.reason)
        return event_name, {k: state.text(v, "events") for k, v in kept.items()}, timestamp
    written = {}
    for key, value in attributes.items():
        try:
            written[state.text(key, "events") or "redacted"] = admit_value(state, value, "events")
        except Exception as error:  # noqa: BLE001 - fail closed
            state.fault("events", error)
    return event_name, written if _has_room(state, written, "events") else {}, timestamp


def _has_room(state: SpanState, attributes: Mapping[str, Any], channel: str) -> bool:
    """Whether a held trace has room for an event; noted if not."""
    if state.trace.fits(sum(len(value) for value in attributes.values() if isinstance(value, str))):
        return True
    state.record.drop(channel, PAST_LIMIT)
    return False
