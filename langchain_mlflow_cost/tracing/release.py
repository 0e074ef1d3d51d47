"""The end of a span: cleaned of what could not be judged when it was written, and handed on, or held until it can be.

In a trace with a private node the end of each span is held back until nothing keeps the trace open any more, since only
then is it known which texts must go; then all are cleaned and end in the order in which they would have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.export_queue import Patience, wait_for_room
from langchain_mlflow_cost.adapters.provider import redirect_to_current_provider
from langchain_mlflow_cost.adapters.spans import (
    SdkSpan,
    SpanAttributeKey,
    attachments_of,
    fields_of,
    live_span,
    mlflow_links_of,
    replace_fields,
    replace_status,
    write_raw,
)
from langchain_mlflow_cost.adapters.trace_info import TraceMetadataKey, TraceTagKey, exports_metrics, trace_info
from langchain_mlflow_cost.redaction.private_json import FIELD_NAMES, without_private_text
from langchain_mlflow_cost.tracing import other_libraries
from langchain_mlflow_cost.tracing.admission import COUNT_KEYS, NAME_KEYS, RAW_KEYS, admit_attributes, admit_value
from langchain_mlflow_cost.tracing.calls import cost_json, sum_attributes
from langchain_mlflow_cost.tracing.late import ending_late
from langchain_mlflow_cost.tracing.record import Record, redacted_text
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.unclaimed import close_unclaimed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_mlflow_cost.redaction.private_text import PrivateText
    from langchain_mlflow_cost.redaction.walk import Redactor
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.trace import Trace

log = logging.getLogger("langchain_mlflow_cost")


def end(span: GuardedSpan, end_time: int | None) -> None:
    """End a span, or note its end until the trace is released.

    Args:
        span: A guarded span.
        end_time: Nanoseconds since the epoch; now if None.
    """
    state = span.lmc_state
    trace = state.trace
    if state.is_foreign and not state.is_counted:
        state.is_counted = True
        try:
            other_libraries.count_span(span)
        except Exception as error:  # noqa: BLE001 - a call that cannot be counted must not cost its span
            log.warning("langchain_mlflow_cost could not price a call of another library (%s)", type(error).__name__)
    with trace.lock:
        if state.is_held or state.is_final:
            return
        was_keeper = span in trace.keepers
        trace.keepers.discard(span)
        is_last = was_keeper and not trace.keepers
        if trace.holds and not trace.is_released and not is_last:
            state.is_held = True
            state.end_time = end_time if end_time is not None else time.time_ns()
            trace.held.append(span)
            return
    if is_last:
        release(trace, last=span, end_time=end_time if end_time is not None else time.time_ns())
        close_unclaimed(trace)
    else:
        _hand_on(span, end_time)


def release(trace: Trace, *, last: GuardedSpan | None = None, end_time: int | None = None) -> None:
    """Clean and end everything that was held back.

    Args:
        trace: Nothing keeps it open any more.
        last: The span that kept it open, which ends behind the others.
        end_time: Its end, in nanoseconds since the epoch.
    """
    with trace.lock:
        trace.is_released = True
        trace.private_errors.clear()
        held, trace.held = trace.held, []
        trace.held_chars = 0
        still_open = [span for span in trace.open_spans if not span.lmc_state.is_held and span is not last]
    sessions = list(trace.private_sessions())
    if sessions:
        everyone = [*held, *still_open] if last is None else [*held, *still_open, last]
        for session in sessions:
            _remember_redacted(session.text, everyone)
        for span in still_open:
            # A span may outlive the root; the exporter may be made to write it as it is when the process ends.
            _clean(span)
    for span in held:
        span.lmc_state.is_held = False
        _hand_on(span, span.lmc_state.end_time)
    if last is not None:
        _hand_on(last, end_time)
    for session in sessions:
        session.text.forget_answers()


def _remember_redacted(private: PrivateText, spans: Sequence[GuardedSpan]) -> None:
    """Know the private texts also as each policy of the trace redacts them: so they stand in the spans."""
    for redactors in {span.lmc_state.redactors for span in spans}:

        def redacted(text: str, redactors: tuple[Redactor, ...] = redactors) -> str | None:
            try:
                return redacted_text(text, redactors, Record())
            except Exception:  # noqa: BLE001 - what cannot be redacted was not written either
                return None

        private.add_variants(redacted)


def _hand_on(span: GuardedSpan, end_time: int | None) -> None:
    state = span.lmc_state
    trace = state.trace
    try:
        _write_chunks(span)
        _clean(span)
        is_late = trace.ended_root is not None
        if span is trace.root or span.parent is None or is_late or trace.is_released or exports_metrics():
            clean_trace_info(span)
    except Exception as error:  # noqa: BLE001 - fail closed: a span that cannot be cleaned goes out empty
        state.fault("everything", error)
        replace_fields(span, attributes=_bare(span), drop_events=True, drop_links=True)
        replace_status(span, None)
    if state.totals.has_any:
        state.pending.update(sum_attributes(state.totals))
    if trace.stopped_by is not None and (span.parent is None or span is trace.root):
        state.pending[keys.STOPPED_BY] = json.dumps(trace.stopped_by)
    write_raw(span, {**state.pending, **state.attributes()})
    state.is_final = True
    ending = contextlib.nullcontext() if trace.ended_root is None else ending_late(span)
    with trace.lock:
        trace.open_spans.discard(span)
        if span.parent is None:
            trace.ended_root = span
    redirect_to_current_provider(span)
    if end_time is None:
        end_time = time.time_ns()
    if trace.patience is None:
        trace.patience = Patience()
    try:
        wait_for_room(span, trace.patience)
    finally:
        with ending:
            SdkSpan.end(span, end_time)
        if not (trace.is_open or trace.keepers or trace.open_spans):
            trace.close()


def _bare(span: GuardedSpan) -> dict[str, Any]:
    attributes, _, _ = fields_of(span)
    kept = RAW_KEYS | COUNT_KEYS | keys.OURS | {SpanAttributeKey.SPAN_TYPE}
    return {key: value for key, value in attributes.items() if key in kept}


def _write_chunks(span: GuardedSpan) -> None:
    state = span.lmc_state
    chunks, state.chunks = state.chunks, []
    if not chunks:
        return
    joined = "".join(str(value) for _, attributes, _ in chunks for value in attributes.values())
    split = SpanState(state.policy, state.trace, state.kind)
    private = any(session.text.scrub(joined)[1] for session in state.trace.private_sessions())
    if private or split.text(joined, "stream") != joined:
        state.record.drop("stream", "redacted")
        for name, _, timestamp in chunks:
            SdkSpan.add_event(span, name, {}, timestamp)
        return
    for name, attributes, timestamp in chunks:
        SdkSpan.add_event(span, name, {k: admit_value(state, v, "events") for k, v in attributes.items()}, timestamp)


def _clean(span: GuardedSpan) -> None:
    """Take out what could not be judged when it was written: private text, files, MLflow's copies of links."""
    state = span.lmc_state
    if state.is_foreign or state.has_files:
        _clean_mlflow_copies(span)
    for session in state.trace.private_sessions():
        _clean_private(span, session.text)


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

    structure = {key: value for key, value in attributes.items() if _is_structure(key, value)}
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


def _is_structure(key: str, value: Any) -> bool:
    if key in NAME_KEYS:
        # Anybody may write these: what has words is searched like everything else.
        return not isinstance(value, str) or " " not in value
    return key in RAW_KEYS or key in COUNT_KEYS or key in keys.OURS


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
            link.attributes = {k: str(v) for k, v in admit_attributes(state, link.attributes).items()}
            for session in state.trace.private_sessions():
                link.attributes = {
                    without_private_text(k, session.text)[0]: without_private_text(v, session.text)[0]
                    for k, v in link.attributes.items()
                }


def _keep_attachment(state: SpanState, attachment: Any) -> bool:
    if not state.policy.keeps_payload(state.kind):
        state.record.drop("attachments", state.policy.reason)
        return False
    content: bytes = attachment.content_bytes
    for session in state.trace.private_sessions():
        if session.holds_file(content) or session.text.scrub(content.decode("utf-8", "replace"))[1]:
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
        keys.STOPPED_BY,
    }
)
"""Trace metadata and tags that hold ids, numbers, and names of nodes, which stand on every span: MLflow's, and ours."""


def clean_trace_info(span: GuardedSpan) -> None:
    """Redact what is kept beside the spans: tags, metadata, previews, user, session."""
    request_id = (span.attributes or {}).get(SpanAttributeKey.REQUEST_ID)
    if not isinstance(request_id, str):
        return
    root = span.lmc_state.trace.root
    state = span.lmc_state if root is None else root.lmc_state
    with trace_info(json.loads(request_id)) as info:
        if info is None:
            return
        _write_cost(span, info.trace_metadata)
        if span.lmc_state.trace.stopped_by is not None:
            info.trace_metadata[keys.STOPPED_BY] = span.lmc_state.trace.stopped_by
        for fields in (info.tags, info.trace_metadata):
            _clean_mapping(state, fields)
        for name in ("request_preview", "response_preview", "client_request_id"):
            text = getattr(info, name, None)
            if text:
                setattr(info, name, _clean_info_text(state, text, preview=name.endswith("preview")))


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
        if key in _INFO_KEYS_KEPT or not isinstance(value, str):
            continue
        if seen.get(key) == (value, state.trace.is_released):
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
        seen[clean_key] = (clean_value, state.trace.is_released)


def _clean_info_text(state: SpanState, text: str, *, preview: bool = False) -> str | None:
    policy = state.trace.info_policy or state.policy
    if preview and not policy.keeps_payload("root"):
        state.record.drop("previews", policy.reason)
        return None
    info = SpanState(policy, state.trace, state.kind)
    info.record = state.record
    clean = info.text(text, "trace")
    for session in state.trace.private_sessions():
        clean, hits = without_private_text(clean, session.text)
        state.record.found({"PRIVATE": hits} if hits else {})
    return clean
