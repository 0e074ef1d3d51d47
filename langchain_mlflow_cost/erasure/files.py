"""The files of a trace: attachments, and its spans where the database does not have them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from langchain_mlflow_cost.adapters import trace_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SPANS = "traces.json"


class CannotEraseError(Exception):
    """Something cannot be deleted; the message says why, and what to do."""


class FoundTrace(NamedTuple):
    """What it takes to delete a trace, and no more: there may be a great many."""

    trace_id: str
    experiment_id: str
    timestamp_ms: int
    location: str | None
    """The address of its files, if it has any."""
    spans_in_files: bool
    run_id: str | None
    """The MLflow run in which it was made."""


def delete_files(trace: FoundTrace) -> bool:
    """Delete a trace's files; whether there were any.

    Raises:
        CannotEraseError: They are still there, or not to be reached.
        Exception: What the kind of store raises.
    """
    if trace.location is None:
        return False
    parts = re.split(r"[/\\]", unquote(trace.location))
    if trace.trace_id not in parts or ".." in parts:
        # All that is below it would be deleted.
        raise CannotEraseError("not a folder of this trace alone")
    files = _opened(trace.location)
    if not _has_files(files, trace):
        return False
    failure: Exception = CannotEraseError("they are still there")
    try:
        files.delete_artifacts()
    except Exception as error:  # noqa: BLE001 - raised below, but not where there was nothing to delete: Azure minds
        failure = error
    if _has_files(files, trace):
        raise failure
    _remove_empty(files, trace)
    return True


def file_contents(trace: FoundTrace) -> Iterator[bytes]:
    """What the files of a trace hold, one after the other, and their names.

    Raises:
        Exception: What the kind of store raises.
    """
    if trace.location is None:
        return
    files = _opened(trace.location)
    folder = _local(files)
    if folder is not None:
        yield from _below(folder)
        return
    if not files.list_artifacts():
        return
    with tempfile.TemporaryDirectory() as copied:
        files.download_artifacts("", copied)
        yield from _below(Path(copied))


def copy_of_spans(tags: Mapping[str, str | None]) -> Path | None:
    """The file on this machine into which MLflow wrote a trace's spans beside the database; None if it did not.

    It does so where a batch of them was not stored yet when the trace was (3.17), and never reads it again.

    Args:
        tags: The trace's own.
    """
    location = tags.get(trace_fields.ARTIFACT_LOCATION)
    if (
        location is None
        or not location.startswith(("/", "file:"))
        or trace_fields.has_spans_in_files(tags.get(trace_fields.SPANS_LOCATION))
    ):
        return None
    folder = _local(_opened(location))
    found = None if folder is None else folder / _SPANS
    return found if found is not None and found.is_file() else None


def _below(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.name.encode() + b"\n" + path.read_bytes()


def _opened(location: str) -> Any:
    from langchain_mlflow_cost.adapters.artifact_store import open_artifact_store  # noqa: PLC0415 - MLflow takes seconds

    return open_artifact_store(location)


def _local(files: Any) -> Path | None:
    from langchain_mlflow_cost.adapters.artifact_store import local_folder_of  # noqa: PLC0415 - MLflow takes seconds

    return local_folder_of(files)


def _has_files(files: Any, trace: FoundTrace) -> bool:
    """Whether any are left; no store may be believed that says nothing: S3 lists what it refused, MLflow drops that."""
    folder = _local(files)
    if folder is not None:
        return _is_there(folder, trace)
    return bool(files.list_artifacts())


def _is_there(folder: Path, trace: FoundTrace) -> bool:
    """To MLflow, a folder on another machine is not there, nor is one that it may not look at."""
    try:
        folder.lstat()
    except FileNotFoundError as error:
        of_all_traces = folder.parents[1]
        if trace.spans_in_files and not of_all_traces.exists():
            raise CannotEraseError(f"there is no {of_all_traces} here; if it was deleted, make an empty one") from error
        return False
    return True


def _remove_empty(files: Any, trace: FoundTrace) -> None:
    """Its own folder, which has its id for a name, goes with what was in it."""
    folder = _local(files)
    if folder is not None and folder.parent.name == trace.trace_id:
        try:
            folder.parent.rmdir()
        except OSError:
            # Somebody else's file is in it, or another program was first.
            return
