"""What MLflow keeps of a trace beside its spans, cleaned: tags, metadata, previews, ids, assessments."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey
from langchain_mlflow_cost.adapters.trace_info import TraceMetadataKey, TraceTagKey, keep_prompts, trace_info
from langchain_mlflow_cost.redaction.ordinary import is_program_name
from langchain_mlflow_cost.redaction.private_json import without_private_text
from langchain_mlflow_cost.tracing.calls import cost_json
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.structure import is_info_structure

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.guard import GuardedSpan

_IDENTITIES = frozenset({TraceMetadataKey.TRACE_SESSION, TraceMetadataKey.TRACE_USER})
_PREVIEWS = frozenset({TraceMetadataKey.INPUTS, TraceMetadataKey.OUTPUTS})
_STRUCTURE_OF_ASSESSMENT = frozenset(
    {"trace_id", "run_id", "span_id", "assessment_id", "create_time_ms", "last_update_time_ms", "valid", "overrides"}
)
"""Fields of an assessment that MLflow fills with its own ids and times."""


def clean_trace_info(span: GuardedSpan) -> None:
    """Redact what is kept beside the spans, and search it for private text."""
    request_id = (span.attributes or {}).get(SpanAttributeKey.REQUEST_ID)
    if not isinstance(request_id, str):
        return
    root = span.lmc_state.trace.root
    state = span.lmc_state if root is None else root.lmc_state
    with trace_info(json.loads(request_id)) as info:
        if info is None:
            return
        _write_cost(span, info.trace_metadata)
        stopped_by = span.lmc_state.trace.stopped_by
        if stopped_by is not None:
            info.trace_metadata[keys.STOPPED_BY] = clean_name(state, stopped_by)
        for fields in (info.tags, info.trace_metadata):
            _clean_mapping(state, fields)
        for name in ("request_preview", "response_preview", "client_request_id"):
            text = getattr(info, name, None)
            if text:
                setattr(info, name, _clean_text(state, text, preview=name.endswith("preview")))
        info.assessments[:] = [each for each in info.assessments if keep_assessment(state, each)]
        keep_prompts(info.trace_id, lambda name: _clean_text(state, name, is_name=True) == name)


def _write_cost(span: GuardedSpan, metadata: dict[str, str]) -> None:
    """Write the trace's cost, once its root has ended and all of it is known here: by what is late again.

    MLflow's store adds up what it has when a batch of spans comes in, and of batches that come in together the last one
    wins, so that half of its sums are too low (mlflow 3.17). It takes what stands here as final.
    """
    trace = span.lmc_state.trace
    has_ended = span.parent is None or trace.ended_root is not None
    if trace.is_shared or trace.late or not has_ended:
        return
    if trace.root is not None and trace.root.context.trace_id != span.context.trace_id:
        return  # of a library that begins a trace of its own below ours
    # A span of the user's own around everything has all calls in it, whichever handlers govern them.
    around = trace.ended_root or trace.root
    totals = trace.totals() if around is None or around.lmc_state.account is None else around.lmc_state.totals
    if totals is not None and totals.has_any and totals.priced:
        metadata[TraceMetadataKey.COST] = cost_json(totals)


def _clean_mapping(state: SpanState, fields: dict[str, Any]) -> None:
    seen = state.trace.info_seen
    for key, value in list(fields.items()):
        if not isinstance(value, str) or is_info_structure(key, value):
            continue
        if seen.get(key) == (value, state.trace.is_released):
            continue
        clean_key, clean_value = clean_tag(state, key, value)
        if clean_key != key:
            del fields[key]
        fields[clean_key] = clean_value
        seen[clean_key] = (clean_value, state.trace.is_released)


def clean_tag(state: SpanState, key: str, value: str) -> tuple[str, str]:
    """A tag or metadata of a trace, as it may be stored."""
    if is_info_structure(key, value):
        return key, value
    clean_value = _clean_value(state, key, value)
    clean_key = key if key.startswith("mlflow.") else (_clean_text(state, key, is_name=True) or "redacted")
    return clean_key, clean_value or ""


def _clean_value(state: SpanState, key: str, value: str) -> str | None:
    if key == TraceTagKey.TRACE_NAME and state.has_plain_name:
        return value
    info = _info_state(state)
    if info.hides(key):
        return info.hidden(value)
    if key in _IDENTITIES:
        return info.identity(value, key)
    return _clean_text(
        state, value, preview=key in _PREVIEWS, is_name=key == TraceTagKey.TRACE_NAME or info.channel(key, "") == "kept"
    )


def _info_state(state: SpanState) -> SpanState:
    policy = state.trace.info_policy or state.policy
    if policy is state.policy:
        return state
    info = SpanState(policy, state.trace, state.kind)
    info.record = state.record
    return info


def _clean_text(state: SpanState, text: str, *, preview: bool = False, is_name: bool = False) -> str | None:
    info = _info_state(state)
    if preview and not info.policy.keeps_payload("root"):
        state.record.drop("previews", info.policy.reason)
        return None
    clean = info.name(text) if is_name else info.text(text, "trace")
    return without_private(info, clean)


def clean_name(state: SpanState, text: str) -> str:
    """A name, redacted and without what is private in any session of the trace."""
    return without_private(state, state.name(text))


def without_private(state: SpanState, text: str) -> str:
    """A text without what is private in any session of the trace."""
    for session in state.trace.private_sessions():
        text, hits = without_private_text(text, session.text)
        state.record.found({"PRIVATE": hits} if hits else {})
    return text


# --- assessments ----------------------------------------------------------------------------------------------------


def keep_assessment(state: SpanState, assessment: Any) -> bool:
    """Clean an assessment that was logged while the trace was open; whether it may stay at all."""
    info = _info_state(state)
    span = _span_of(state, assessment)
    if not info.policy.keeps_payload("root") or (span is not None and not span.policy.keeps_exceptions):
        state.record.drop("assessments", info.policy.reason if span is None else span.policy.reason)
        return False
    try:
        _clean_object(info if span is None else span, assessment)
    except Exception as error:  # noqa: BLE001 - fail closed: one of another form is not exported
        state.fault("assessments", error)
        return False
    return True


def _span_of(state: SpanState, assessment: Any) -> SpanState | None:
    span_id = getattr(assessment, "span_id", None)
    known = [*state.trace.held, *state.trace.open_spans] if span_id else ()
    return next((each.lmc_state for each in known if f"{each.context.span_id:016x}" == span_id), None)


def clean_assessment(state: SpanState, assessment: Any) -> None:
    """Redact an assessment in place."""
    _clean_object(state, assessment)


def _clean_object(state: SpanState, thing: Any) -> None:
    for name, told in vars(thing).items():
        value = told.value if isinstance(told, Enum) else told  # as MLflow's judges answer: yes or no
        if value is None or name in _STRUCTURE_OF_ASSESSMENT or isinstance(value, bool):
            continue
        if hasattr(value, "__dict__"):
            _clean_object(state, value)
        elif isinstance(value, str):
            is_name = name in ("name", "source_type")
            clean = state.name(value) if is_name else state.text(value, "trace")
            # A name that a program gives, such as `helpful`, stays where all text is withheld.
            setattr(thing, name, clean if is_name and is_program_name(clean) else without_private(state, clean))
        else:
            written = state.json(value, "trace")
            setattr(thing, name, None if written is None else json.loads(without_private(state, written)))
