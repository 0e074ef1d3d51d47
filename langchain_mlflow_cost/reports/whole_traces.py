"""Stored traces whole, one by one: by a store's rows where there are any, else by MLflow's API, page by page."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from langchain_mlflow_cost.adapters.trace_rewriting import StoredTrace, StoredTraces
from langchain_mlflow_cost.adapters.trace_tables import has_tables
from langchain_mlflow_cost.trace_pages import trace_pages

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
    pages = functools.partial(read_pages, on_unreadable=on_unreadable) if rows is None else rows.pages
    count = 0
    try:
        for page in pages(experiments, after=None, since_ms=since_ms, until_ms=until_ms):
            yield from page
            count += len(page)
            if on_page is not None:
                on_page(count)
    finally:
        if rows is not None:
            rows.close()


def read_pages(
    experiments: Sequence[str],
    *,
    after: tuple[int, str] | None,
    since_ms: int | None,
    until_ms: int | None,
    on_unreadable: Callable[[str], None] | None = None,
) -> Iterator[list[StoredTrace]]:
    """As `StoredTraces.pages`, by MLflow's API. Of the moment that `after` names, all come again."""
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
