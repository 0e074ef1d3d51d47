"""`mlflow-cost prune`: delete old traces, their files first."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import unquote

import typer

from langchain_mlflow_cost.cli.app import (
    DEFAULT_EXPERIMENT,
    CommandError,
    ExperimentName,
    PolicyOption,
    TrackingUri,
    read_policy,
)
from langchain_mlflow_cost.cli.output import console, counted, tell
from langchain_mlflow_cost.cli.store import PAGE, find_experiment, traces_of
from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Experiment, TraceInfo


def prune_traces(
    policy: PolicyOption = None,
    days: Annotated[int | None, typer.Option(metavar="N", help="Days to keep; else retention_days.", min=0)] = None,
    tracking_uri: TrackingUri = None,
    experiment: ExperimentName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete traces that are older than so many days, and their files.

    The number is yours: --days, or retention_days in the policy. Nothing else in this library deletes anything.
    """
    loaded = read_policy(policy) if policy else None
    keep = days if days is not None or loaded is None else loaded.retention_days
    if keep is None:
        raise typer.BadParameter("say how many days to keep: --days N, or --policy FILE with retention_days")
    name = experiment or (loaded.experiment_name if loaded else DEFAULT_EXPERIMENT)
    found = find_experiment(tracking_uri or (loaded.tracking_uri if loaded else None), name)
    before = datetime.now(UTC) - timedelta(days=keep)
    old = _until(found, before)
    what = f"{counted(len(old), 'trace')} of experiment {name} from before {before:%Y-%m-%d %H:%M} UTC ({keep} days)"
    if dry_run or not old:
        console().print(f"Would delete {what}" if old else f"Nothing to delete: {what}")
        return
    if not yes and not typer.confirm(f"Delete {what}?"):
        raise CommandError("nothing was deleted")

    import mlflow

    client, deleted, kept = mlflow.MlflowClient(), 0, 0
    for start in range(0, len(old), PAGE):
        page = old[start : start + PAGE]
        # Files first: only the trace knows where they are, and the next run finds it again after an interruption.
        ids = [trace.trace_id for trace in page if _files_are_gone(trace)]
        kept += len(page) - len(ids)
        if ids:
            deleted += client.delete_traces(found.experiment_id, trace_ids=ids)
    console().print(f"Deleted {deleted} of {what}")
    if kept:
        told = f"kept {counted(kept, 'trace')} whose files could not be deleted, see above"
        raise CommandError(f"{told}; run prune again when they can be")


class _OldTrace(NamedTuple):
    """What it takes to delete a trace, and no more: there may be a great many."""

    trace_id: str
    location: str | None
    """The address of its files, if it has any: attachments, and its spans where the database does not have them."""
    spans_in_files: bool


def _until(experiment: Experiment, before: datetime) -> list[_OldTrace]:
    older = f"timestamp_ms <= {int(before.timestamp() * 1000)}"
    return [_old_trace(trace.info) for trace in traces_of(experiment, filter_string=older, include_spans=False)]


def _old_trace(info: TraceInfo) -> _OldTrace:
    # An older MLflow, which knew no other place for spans than files, set no tag.
    in_files = info.tags.get("mlflow.trace.spansLocation", "ARTIFACT_REPO") == "ARTIFACT_REPO"
    return _OldTrace(info.trace_id, info.tags.get("mlflow.artifactLocation"), in_files)


def _files_are_gone(trace: _OldTrace) -> bool:
    """Delete a trace's files; say on stderr why it did not work."""
    import mlflow

    # MLflow's clients cannot delete artifacts on Databricks: a trace's files are the service's matter.
    if trace.location is None or mlflow.get_tracking_uri().startswith("databricks"):
        return True
    try:
        _delete_files(trace, trace.location)
    except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own; the other traces go on
        reason = str(error).strip() or type(error).__name__
        told = f"files of trace {trace.trace_id} in {trace.location}: {reason.splitlines()[0]}"
        tell(without_credentials(told))
        return False
    return True


def _delete_files(trace: _OldTrace, location: str) -> None:
    from langchain_mlflow_cost.adapters.artifact_store import open_artifact_store

    parts = re.split(r"[/\\]", unquote(location))
    if trace.trace_id not in parts or ".." in parts:
        # All that is below it would be deleted.
        raise CommandError("not a folder of this trace alone")
    files = open_artifact_store(location)
    failure: Exception = CommandError("they are still there")
    try:
        files.delete_artifacts()
    except Exception as error:  # noqa: BLE001 - raised below, but not where there was nothing to delete: Azure minds
        failure = error
    if _has_files(files, trace):
        raise failure


def _has_files(files: Any, trace: _OldTrace) -> bool:
    """Whether any are left; no store may be believed that says nothing: S3 lists what it refused, MLflow drops that."""
    from langchain_mlflow_cost.adapters.artifact_store import local_folder_of

    folder = local_folder_of(files)
    if folder is not None:
        return _is_there(folder, trace)
    return bool(files.list_artifacts())


def _is_there(folder: Path, trace: _OldTrace) -> bool:
    """To MLflow, a folder on another machine is not there, nor is one that it may not look at."""
    try:
        folder.lstat()
    except FileNotFoundError as error:
        of_all_traces = folder.parents[1]
        if trace.spans_in_files and not of_all_traces.exists():
            raise CommandError(f"there is no {of_all_traces} here; if it was deleted, make an empty one") from error
        return False
    return True
