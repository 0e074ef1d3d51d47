"""The end of a span: cleaned of what could not be judged when it was written, and handed on, or held until it can be.

In a trace with a private node the end of each span is held back until nothing keeps the trace open any more, since only
then is it known which texts must go; then all are cleaned and end in the order in which they would have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

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
from langchain_mlflow_cost.adapters.trace_info import exports_metrics
from langchain_mlflow_cost.redaction.private_json import FIELD_NAMES, without_private_text
from langchain_mlflow_cost.tracing import other_libraries, outliving
from langchain_mlflow_cost.tracing.admission import admit_attributes, admit_value, hear, settle_hearing
from langchain_mlflow_cost.tracing.beside import clean_name, clean_trace_info, without_private
from langchain_mlflow_cost.tracing.judging import JUDGING
from langchain_mlflow_cost.tracing.late import ending_late
from langchain_mlflow_cost.tracing.record import Record, redacted_text
from langchain_mlflow_cost.tracing.span_state import SpanState
from langchain_mlflow_cost.tracing.structure import is_structure
from langchain_mlflow_cost.tracing.sums import called_attributes, sum_attributes
from langchain_mlflow_cost.tracing.unclaimed import close_unclaimed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_mlflow_cost.redaction.private_text import PrivateText
    from langchain_mlflow_cost.redaction.walk import Redactor
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.trace import Trace

log = logging.getLogger("langchain_mlflow_cost")

_NOT_LATE: Final = contextlib.nullcontext()


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
    _hear_files(span)
    settle_hearing(state)
    with trace.lock:
        if state.is_held or state.is_final:
            return
        was_keeper = span in trace.keepers
        trace.keepers.discard(span)
        is_last = was_keeper and not trace.keepers
        if is_last and trace.holds and not trace.is_released and outliving.wait_for_work(trace, release):
            is_last = False
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
        if trace.is_released and last is None:
            return
        trace.is_released = True
        trace.is_waiting = False
        trace.private_errors.clear()
        held, trace.held = trace.held, []
        trace.held_chars = 0
        still_open = [span for span in trace.open_spans if not span.lmc_state.is_held and span is not last]
    for span in still_open:
        # One that nobody ends: another library's stream that was left half read.
        _hear_files(span)
        settle_hearing(span.lmc_state)
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


def _hear_files(span: GuardedSpan) -> None:
    """What a span in a private node has as files is private, too: MLflow takes them out before the guard sees them."""
    state = span.lmc_state
    if state.policy.log_prompts or not state.is_foreign:
        return
    live = live_span(span)
    if live is not None:
        hear(state, [attachment.content_bytes for attachment in attachments_of(live).values()])


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
        if state.chunks:
            _write_chunks(span)
        if trace.has_sessions or state.is_foreign or state.has_files:
            _clean(span)
        is_late = trace.ended_root is not None
        if span is trace.root or span.parent is None or is_late or trace.is_released or _exports_metrics(trace):
            clean_trace_info(span)
    except Exception as error:  # noqa: BLE001 - fail closed: a span that cannot be cleaned goes out empty
        state.fault("everything", error)
        replace_fields(span, attributes=_bare(span), drop_events=True, drop_links=True)
        replace_status(span, None)
    _write_last(span)
    state.is_final = True
    ending = ending_late(span) if trace.ended_root is not None or _outlives_a_run(state) else _NOT_LATE
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
        JUDGING.offer(trace, span)
        if not (trace.is_open or trace.keepers or trace.open_spans):
            trace.close()


def _outlives_a_run(state: SpanState) -> bool:
    """Whether the span of a run above has left though its trace goes on: a node was cancelled, its thread was not."""
    around = state.owner
    if around is not None and not state.is_foreign:
        around = around.parent
    return around is not None and not around.is_open and not state.trace.holds


def _exports_metrics(trace: Trace) -> bool:
    # A setting that MLflow reads anew each time.
    if trace.exports_metrics is None:
        trace.exports_metrics = exports_metrics()
    return trace.exports_metrics


def _write_last(span: GuardedSpan) -> None:
    """Write what is known when all private text is: sums, names of models and tools, what the policy has done."""
    state, trace = span.lmc_state, span.lmc_state.trace
    totals = state.totals if state.is_foreign or state.owner is None else state.owner.totals
    if totals.has_any and (state.is_foreign or state.end_time is not None):
        # A run that was held has the sums of what went on in it after its end.
        state.pending.update(sum_attributes(totals))
    if (totals.models or totals.tools) and not _is_a_call(span):
        state.pending.update(called_attributes(state, totals))
    if trace.stopped_by is not None and (span.parent is None or span is trace.root):
        state.pending[keys.STOPPED_BY] = json.dumps(clean_name(state, trace.stopped_by))
    written = state.attributes()
    if not state.has_plain_node:
        written["policy.node"] = without_private(state, written["policy.node"])
    write_raw(span, {**state.pending, **written})


def _is_a_call(span: GuardedSpan) -> bool:
    """Whether it stands for a call of a model itself, and names that already."""
    return keys.MODEL in span.lmc_state.pending or keys.MODEL in (span.attributes or {})


def _bare(span: GuardedSpan) -> dict[str, Any]:
    attributes, _, _ = fields_of(span)
    return {key: value for key, value in attributes.items() if is_structure(key, value) or key in keys.OURS}


def _write_chunks(span: GuardedSpan) -> None:
    state = span.lmc_state
    chunks, state.chunks = state.chunks, []
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

    structure = {
        key: value
        for key, value in attributes.items()
        if is_structure(key, value) or (key == SpanAttributeKey.MODEL and value == state.own_model)
    }
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
    if not state.has_plain_name:
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
