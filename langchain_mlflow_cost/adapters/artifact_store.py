"""Where MLflow keeps the files of a trace, whatever kind of store that is: no public function deletes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_artifact_store(location: str) -> Any:
    """MLflow's store of files for an artifact location: `delete_artifacts()`, `list_artifacts()`."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415 - slow

    return get_artifact_repository(location)


def local_folder_of(files: Any) -> Path | None:
    """The folder on this machine that such a store is, or None."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository  # noqa: PLC0415 - slow

    return Path(files.artifact_dir).absolute() if isinstance(files, LocalArtifactRepository) else None
