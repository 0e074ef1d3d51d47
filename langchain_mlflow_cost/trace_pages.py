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
            readable = list(_one_by_one(client, page, on_unreadable))
        yield readable
        token = page.token
        left = None if left is None else left - len(page)
        if not token:
            return


def _one_by_one(
    client: MlflowClient, page: Iterable[Trace], on_unreadable: Callable[[Trace], None] | None
) -> Iterator[Trace]:
    from mlflow import MlflowException  # noqa: PLC0415 - as above

    for trace in page:
        try:
            yield client.get_trace(str(trace.info.trace_id), display=False)
        except MlflowException:
            if on_unreadable is not None:
                on_unreadable(trace)
