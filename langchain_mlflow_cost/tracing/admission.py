"""What may be written into a governed span, and in which form: attributes, events, descriptions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, SpanType
from langchain_mlflow_cost.attributes import MODEL_TYPES, OURS, Declared
from langchain_mlflow_cost.messages import declared_names
from langchain_mlflow_cost.tracing.span_state import PAST_LIMIT, SpanState
from langchain_mlflow_cost.tracing.structure import COUNT_KEYS, is_counts, is_raw

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.session import Session

HEARD_TYPE_VALUES = frozenset(f'"{name}"' for name in (*MODEL_TYPES, SpanType.AGENT, SpanType.RERANKER))
"""Types of spans that hold what a model was told and said."""
_MODEL_PREFIXES = ("gen_ai.", "llm.", "openinference.", "traceloop.", "ai.", "input.", "output.", "langfuse.")
"""How attributes of other libraries that tell of models and agents begin: OpenTelemetry's conventions, OpenInference's,
Traceloop's, Vercel's, Langfuse's."""
OPERATION_KEY, MODEL_OPERATIONS = "gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")
"""How OpenTelemetry's GenAI conventions say that a span is a call of a model."""
KIND_KEY, MODEL_KINDS = "openinference.span.kind", ("LLM", "EMBEDDING")
"""The same of OpenInference's."""
TOOL_OPERATION, TOOL_KIND, TOOL_NAME_KEYS = "execute_tool", "TOOL", ("gen_ai.tool.name", "tool.name")
"""How both say that a span is a call of a tool, and of which."""
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
        *TOOL_NAME_KEYS,
        "gen_ai.agent.name",
        "error.type",
    }
)
"""Names, which stay at every level, redacted: MLflow's, OpenTelemetry's GenAI conventions', OpenInference's."""
_CHANNELS = {
    SpanAttributeKey.INPUTS: "inputs",
    SpanAttributeKey.OUTPUTS: "outputs",
    SpanAttributeKey.CHAT_TOOLS: "tools",
}
_EXCEPTION_TYPE = "exception.type"
_EXCEPTION_FIELDS = frozenset({_EXCEPTION_TYPE, "exception_type", "exception.escaped", "exception.stacktrace"})
"""Of an exception's event: its message is in the stack trace as well, among names and lines of the program."""


def admit_attributes(state: SpanState, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that may stay, in the form in which they may."""
    admitted: dict[str, Any] = {}
    if attributes.get(SpanAttributeKey.SPAN_TYPE) in HEARD_TYPE_VALUES:
        state.is_model = True
    for key, value in attributes.items():
        try:
            if key.startswith(_MODEL_PREFIXES):
                state.is_model = True
            if is_raw(key, value) or (key in COUNT_KEYS and is_counts(value)):
                admitted[key] = value
            elif key in OURS:
                state.record.drop("attributes", "reserved")
            elif key in NAME_KEYS:
                admitted[key] = state.hidden(value) if state.hides(key) else admit_value(state, value, "names")
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
    if not policy.log_prompts:
        _hear(state, key, value)
    kept = policy.keeps_payload(state.kind) if channel in ("inputs", "outputs") else policy.keeps_details(state.kind)
    if isinstance(key, Declared):
        key = str.__str__(key)
        state.declared.add(key)
    if not kept and key not in state.declared:
        if value not in ("null", None):
            state.record.drop(channel, policy.reason)
        return
    hides = state.hides(key)
    written = state.hidden(value) if hides else admit_value(state, value, state.channel(key, channel))
    if written is None:
        return
    if isinstance(written, str) and not state.trace.fits(len(written)):
        state.record.drop(channel, PAST_LIMIT)
        return
    admitted[_key(state, key)] = written


_DEFINITIONS = frozenset({SpanAttributeKey.CHAT_TOOLS, "gen_ai.tool.definitions", "llm.tools"})
"""Attributes that hold definitions of tools."""
COUNT_PREFIXES = ("gen_ai.usage.", "llm.token_count.")
"""Token counts by OpenTelemetry's GenAI conventions, and by OpenInference's."""
_SHORT_NUMBER = 10**6
"""Numbers below it can be no card, phone or account number, and need no scan."""


def _hear(state: SpanState, key: str, value: Any) -> None:
    """What is written into a span in a private node: private, but for what the node was given.

    That is private too if the span is a model's, which may be known only at its end (`settle_hearing`).
    """
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(value)
    if key in _DEFINITIONS or (isinstance(value, dict) and "tools" in value):
        state.trace.declared.update(declared_names(value if key in _DEFINITIONS else {"tools": value["tools"]}))
    if isinstance(value, dict) and key == SpanAttributeKey.INPUTS:
        value = list(value.values())  # else by the names of a function's parameters
    hear(state, value)


def hear(state: SpanState, value: Any) -> None:
    """Remember what a span in a private node holds, but for what the node was given: see `settle_hearing`."""
    given = frozenset() if state.owner is None else state.owner.was_given
    session_of(state).remember_private(value, given=given, unsure=state.unsure)


def settle_hearing(state: SpanState) -> None:
    """At the end of a span: what it holds of what its node was given is private as well if it is a model's."""
    unsure, state.unsure = state.unsure, set()
    if unsure and state.is_model:
        session_of(state).remember_private(list(unsure))


def session_of(state: SpanState) -> Session:
    """Where the private text of a span is remembered."""
    return state.trace.session_of(None if state.owner is None else state.owner.session_id)


def _key(state: SpanState, key: str) -> str:
    return key if key in _CHANNELS else state.name(key) or "redacted"


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
        _hear_event(state, attributes)
        if not policy.keeps_stream:
            state.record.drop("stream", policy.reason)
        elif _has_room(state, attributes, "stream"):
            # A value may be split over chunks, where no single one of them can be recognised: judged at the end.
            state.chunks.append((name, dict(attributes), timestamp))
        return None
    _hear_event(state, attributes)
    event_name = state.name(name)
    if not policy.keeps_exceptions:
        kept = {k: str(v) for k, v in attributes.items() if k in (_EXCEPTION_TYPE, "exception_type")}
        if len(kept) < len(attributes):
            state.record.drop("events", policy.reason)
        return event_name, {k: state.name(v) for k, v in kept.items()}, timestamp
    written = {}
    for key, value in attributes.items():
        try:
            channel = "names" if key == _EXCEPTION_TYPE else state.channel(key, "events")
            shown = state.hidden(value) if state.hides(key) else admit_value(state, value, channel)
            written[state.name(key) or "redacted"] = shown
        except Exception as error:  # noqa: BLE001 - fail closed
            state.fault("events", error)
    return event_name, written if _has_room(state, written, "events") else {}, timestamp


def _hear_event(state: SpanState, attributes: Mapping[str, Any]) -> None:
    if not state.policy.log_prompts:
        for key, value in attributes.items():
            if key not in _EXCEPTION_FIELDS:
                _hear(state, key, value)


def _has_room(state: SpanState, attributes: Mapping[str, Any], channel: str) -> bool:
    """Whether a held trace has room for an event; noted if not."""
    if state.trace.fits(sum(len(value) for value in attributes.values() if isinstance(value, str))):
        return True
    state.record.drop(channel, PAST_LIMIT)
    return False
