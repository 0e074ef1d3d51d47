"""MLflow's store as the commands use it: found without being made, and read page by page."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.cli.app import CommandError
from langchain_mlflow_cost.cli.output import tell
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.tracking_stores import is_server, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlflow.entities import Experiment, Trace

SQLITE = "sqlite:///"
PAGE = 100
"""Traces that are fetched or deleted at a time."""


def find_experiment(tracking_uri: str | None, name: str) -> Experiment:
    """Point MLflow at the store and find the experiment there.

    Args:
        tracking_uri: None for that of the environment, else of the current folder.
        name: The experiment's.

    Raises:
        CommandError: There is no such database or experiment. None is made.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        # MLflow would make an empty database there.
        raise CommandError(f"no database {uri.removeprefix(SQLITE)}; name the store with --tracking-uri")

    fault = why_unusable(uri) if is_server(uri) else None
    if fault is not None:
        raise CommandError(f"the MLflow server {without_credentials(uri)} {fault}")

    # Its default asks a server that is not there for four minutes (seven retries, 3.17); nobody waits so long here.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        names = ", ".join(each.name for each in mlflow.search_experiments(max_results=10))
        raise CommandError(f"no experiment {name}; name one with --experiment: {names}")
    return found


def find_experiments(tracking_uri: str | None, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Point MLflow at the store and find experiments there: the store's URI, and the experiments' names by id.

    Raises:
        CommandError: There is no such database or experiment. None is made.
    """
    found = [find_experiment(tracking_uri, name) for name in dict.fromkeys(names)]
    import mlflow

    return mlflow.get_tracking_uri(), {str(each.experiment_id): str(each.name) for each in found}


@contextmanager
def page_progress() -> Iterator[Callable[[int], None]]:
    """Tell, on a terminal, how many traces were read: where a store is read page by page that takes a while."""
    shown = sys.stderr.isatty()
    told = 0

    def tell_read(count: int) -> None:
        nonlocal told
        told = count
        if shown:
            sys.stderr.write(f"\rmlflow-cost: {count:,} traces read ")
            sys.stderr.flush()

    try:
        yield tell_read
    finally:
        if shown and told:
            sys.stderr.write("\r\x1b[K")


def tell_unreadable(trace_id: str) -> None:
    """Say that a trace is left out."""
    tell(f"trace {trace_id} is left out: its spans cannot be read (files that are gone, or an archive that is away)")


def traces_of(experiment: Experiment, *, most: int | None = None, **search: Any) -> Iterator[Trace]:
    """Traces of an experiment, fetched page by page.

    Args:
        experiment: Where to look.
        most: How many at most; None for all.
        search: As for `mlflow.MlflowClient.search_traces`: filter, order, whether with spans.
    """
    import mlflow

    client, token, left = mlflow.MlflowClient(), None, most
    while left is None or left > 0:
        page = client.search_traces(
            locations=[experiment.experiment_id],
            max_results=PAGE if left is None else min(PAGE, left),
            page_token=token,
            **search,
        )
        yield from page
        token = page.token
        left = None if left is None else left - len(page)
        if not token:
            return
