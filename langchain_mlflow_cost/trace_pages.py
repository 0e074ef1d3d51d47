"""A store's traces by MLflow's API, page by page: one whose spans cannot be read does not keep the others from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Trace

PAGE: Final = 100
"""Traces that are fetched at a time."""


def trace_pages(
    client: MlflowClient,
    experiments: Sequence[str],
    *,
    with_spans: bool = True,
    most: int | None = None,
    on_unreadable: Callable[[Trace], None] | None = None,
    **search: Any,
) -> Iterator[list[Trace]]:
    """The traces of some experiments, as many at a time as one request gives.

    Args:
        client: MLflow's, of the store.
        experiments: Their ids.
        with_spans: Whether to fetch the spans too.
        most: The first so many; None for all.
        on_unreadable: Called with a trace whose spans cannot be read (files that are gone, or an archive that is away),
            without them: it is left out.
        search: As for `mlflow.MlflowClient.search_traces`: filter and order.

    Raises:
        mlflow.MlflowException: The store does not answer, or not to such a search.
    """
    from mlflow import MlflowException  # noqa: PLC0415 - slow

    token, left = None, most
    while left is None or left > 0:
        asked: dict[str, Any] = {
            **search,
            "locations": list(experiments),
            "max_results": PAGE if left is None else min(PAGE, left),
            "page_token": token,
        }
        try:
            page = client.search_traces(**asked, include_spans=with_spans)
            readable = list(page)
        except MlflowException:
            if not with_spans:
                raise
            # One of them fails the page.
            page = client.search_traces(**asked, include_spans=False)
            known = {str(trace.info.trace_id): trace for trace in page}
            left_out: list[str] = []
            readable = list(traces_named(client, known, on_unreadable=left_out.append))
            if on_unreadable is not None:
                for trace_id in left_out:
                    on_unreadable(known[trace_id])
        yield readable
        token = page.token
        left = None if left is None else left - len(page)
        if not token:
            return


def traces_named(
    client: MlflowClient, ids: Iterable[str], *, on_unreadable: Callable[[str], None] | None = None
) -> Iterator[Trace]:
    """Traces with these ids, one at a time.

    Args:
        client: MLflow's, of the store.
        ids: Theirs.
        on_unreadable: Called with the id of a trace whose spans cannot be read: it is left out.
    """
    from mlflow import MlflowException  # noqa: PLC0415 - as above

    for trace_id in ids:
        try:
            yield client.get_trace(trace_id, display=False)
        except MlflowException:
            if on_unreadable is not None:
                on_unreadable(trace_id)
