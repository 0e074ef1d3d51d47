"""Stored traces whole, one by one: by a store's rows where there are any, else by MLflow's API, page by page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from langchain_mlflow_cost.adapters.trace_rewriting import StoredTrace, StoredTraces
from langchain_mlflow_cost.adapters.trace_tables import has_tables
from langchain_mlflow_cost.trace_pages import trace_pages, traces_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def whole_traces(
    tracking_uri: str,
    experiments: Sequence[str],
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    on_page: Callable[[int], None] | None = None,
    on_unreadable: Callable[[str], None] | None = None,
) -> Iterator[StoredTrace]:
    """Each trace of some experiments, the earliest first.

    Args:
        tracking_uri: MLflow's, which points to it already.
        experiments: Their ids.
        since_ms: Of traces that began then or later; milliseconds since the epoch.
        until_ms: And before then.
        on_page: Called with the number of traces read so far.
        on_unreadable: Called with the id of a trace whose spans MLflow's API cannot read: it is left out.
    """
    rows = StoredTraces(tracking_uri) if has_tables(tracking_uri) else None
    count = 0
    try:
        for page in read_pages(
            rows, experiments, after=None, since_ms=since_ms, until_ms=until_ms, on_unreadable=on_unreadable
        ):
            yield from page
            count += len(page)
            if on_page is not None:
                on_page(count)
    finally:
        if rows is not None:
            rows.close()


def read_pages(
    rows: StoredTraces | None,
    experiments: Sequence[str],
    *,
    after: tuple[int, str] | None,
    since_ms: int | None,
    until_ms: int | None,
    on_unreadable: Callable[[str], None] | None = None,
) -> Iterator[list[StoredTrace]]:
    """Each trace with its spans, wherever they are, the earliest first, some at a time.

    Args:
        rows: The store's; None where only MLflow's API can be asked: of the moment that `after` names, all come again.
        experiments: Their ids.
        after: Only those behind this one: when it began, and its id.
        since_ms: Only those that began then or later.
        until_ms: And before then.
        on_unreadable: Called with the id of a trace whose spans cannot be read: it comes without them, or not at all.
    """
    if rows is not None:
        for stored in rows.pages(experiments, after=after, since_ms=since_ms, until_ms=until_ms):
            yield [_with_spans(trace, on_unreadable) for trace in stored]
        return
    import mlflow  # noqa: PLC0415 - slow

    since = since_ms if after is None else max(since_ms or 0, after[0])
    tests = [f"timestamp_ms >= {since}"] if since is not None else []
    tests += [f"timestamp_ms < {until_ms}"] if until_ms is not None else []
    for page in trace_pages(
        mlflow.MlflowClient(),
        experiments,
        on_unreadable=lambda trace: on_unreadable(str(trace.info.trace_id)) if on_unreadable is not None else None,
        filter_string=" AND ".join(tests) or None,
        order_by=["timestamp_ms ASC"],
    ):
        yield [_stored(trace) for trace in page]


def _with_spans(trace: StoredTrace, on_unreadable: Callable[[str], None] | None) -> StoredTrace:
    """The trace, with the spans that are in its file: of one that came out of a folder, or of an older MLflow's."""
    if not trace.has_spans_in_files:
        return trace
    import mlflow  # noqa: PLC0415 - slow

    whole = next(traces_named(mlflow.MlflowClient(), [trace.trace_id], on_unreadable=on_unreadable), None)
    return trace if whole is None else trace._replace(spans=[span.to_dict() for span in whole.data.spans])


def _stored(trace: object) -> StoredTrace:
    info, spans = trace.info, trace.data.spans  # type: ignore[attr-defined]  # MLflow's has both
    return StoredTrace(
        info.trace_id,
        info.timestamp_ms,
        [span.to_dict() for span in spans],
        {
            "request_preview": info.request_preview,
            "response_preview": info.response_preview,
            "client_request_id": info.client_request_id,
        },
        dict(info.tags),
        dict(info.trace_metadata),
        {
            each.assessment_id or str(at): {
                "rationale": each.rationale,
                "value": json.dumps(getattr(each, "value", None), default=str),
            }
            for at, each in enumerate(info.assessments or ())
        },
    )
