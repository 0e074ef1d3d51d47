"""MLflow's old file store as its folder holds it: read without MLflow, which makes folders in one that it opens.

Seen in stores of MLflow 2.9 to 3.17 (`file_store.py` in `mlflow/store/tracking` and `mlflow/store/model_registry`):

    <experiment>/meta.yaml, tags/, datasets/<id>/meta.yaml
    <experiment>/<run>/meta.yaml, params/, tags/, metrics/, inputs/, outputs/, artifacts/
    <experiment>/traces/<trace>/trace_info.yaml, tags/, request_metadata/, assessments/, artifacts/
    <experiment>/models/<model>/meta.yaml, params/, tags/, metrics/, artifacts/
    models/<registered model>/meta.yaml, tags/, aliases/, version-<n>/meta.yaml, version-<n>/tags/
    .trash/<deleted experiment>/...
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST: Final = 1.7976931348623157e308
"""What MLflow's databases hold for an infinite metric."""
_RECORD_FOLDERS: Final = frozenset(
    {"tags", "params", "metrics", "inputs", "outputs", "request_metadata", "assessments", "aliases", "datasets"}
)
_RECORD_FILES: Final = frozenset({"meta.yaml", "trace_info.yaml"})
_NO_RUNS: Final = frozenset({"tags", "datasets", "traces", "models", ".trash"})
_LEAST_PARTS: Final = 3
"""Names at the end of an address by which a folder that was moved is found again."""

Point = tuple[int, int, bool, float]
"""A metric's value as a database keeps it: time, step, whether it is no number, the number."""


@dataclass(frozen=True)
class Kept:
    """One experiment, run, trace or model: a folder with a file that says what it is."""

    kind: str
    folder: Path
    meta: dict[str, Any]

    @property
    def key(self) -> str:
        """The id by which MLflow knows it."""
        names = {"run": ("run_uuid", "run_id"), "trace": ("trace_id", "request_id"), "model": ("model_id",)}
        found = next((self.meta[name] for name in names.get(self.kind, ()) if self.meta.get(name)), self.folder.name)
        return str(found)


class FileStore:
    """A folder that MLflow's file store has written.

    Args:
        root: With the experiments' folders in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.unreadable: list[Path] = []
        """Files of records that are not as MLflow writes them."""

    def experiments(self) -> Iterator[Kept]:
        """The experiments, deleted ones too."""
        for folder in [*_folders(self.root), *_folders(self.root / ".trash")]:
            # MLflow's command passes by what is no number.
            if folder.name.isdigit():
                yield from self._kept("experiment", folder)

    def runs(self, experiment: Kept) -> Iterator[Kept]:
        """The runs of an experiment."""
        for folder in _folders(experiment.folder):
            if folder.name not in _NO_RUNS:
                yield from self._kept("run", folder)

    def traces(self, experiment: Kept) -> Iterator[Kept]:
        """The traces of an experiment."""
        for folder in _folders(experiment.folder / "traces"):
            yield from self._kept("trace", folder, "trace_info.yaml")

    def models(self, experiment: Kept) -> Iterator[Kept]:
        """The logged models of an experiment."""
        for folder in _folders(experiment.folder / "models"):
            yield from self._kept("model", folder)

    def registered(self) -> Iterator[Kept]:
        """The registered models, prompts among them."""
        for folder in _folders(self.root / "models"):
            yield from self._kept("registered model", folder)

    def versions(self, registered: Kept) -> Iterator[Kept]:
        """The versions of a registered model."""
        for folder in _folders(registered.folder):
            if folder.name.startswith("version-"):
                yield from self._kept("version", folder)

    def everything(self) -> Iterator[Kept]:
        """All of them."""
        for experiment in self.experiments():
            yield experiment
            yield from self.runs(experiment)
            yield from self.traces(experiment)
            yield from self.models(experiment)
        for registered in self.registered():
            yield registered
            yield from self.versions(registered)

    def _kept(self, kind: str, folder: Path, name: str = "meta.yaml") -> Iterator[Kept]:
        file = folder / name
        if not file.is_file():
            return
        meta = read_yaml(file)
        if meta is None:
            self.unreadable.append(file)
        else:
            yield Kept(kind, folder, meta)

    # --- where files are --------------------------------------------------------------------------------------------

    def inside(self, address: str | None, natural: str | None = None, *, moved: bool = True) -> Path | None:
        """The place below this folder that an address means, relative to it; None if it is elsewhere.

        A folder that was moved or copied holds addresses of its former place: they are known by their last names.

        Args:
            address: A path or URI, as written.
            natural: Where below the folder the files would be, if nobody chose another place.
            moved: Whether the address may be of a former place of this folder.
        """
        path = local_path(address)
        if path is None:
            return None
        if not path.is_absolute():
            path = self.root.parent / path
        for one, other in ((path, self.root), (Path(os.path.realpath(path)), Path(os.path.realpath(self.root)))):
            if one.is_relative_to(other) and ".." not in one.parts:
                return self._restored(one.relative_to(other))
        return self._moved(path, natural) if moved else None

    def _moved(self, path: Path, natural: str | None) -> Path | None:
        is_there = path.exists()
        if natural is not None:
            relative = self._restored(Path(natural))
            is_so_named = path.parts[-len(Path(natural).parts) :] == Path(natural).parts
            # Of two copies, that in this folder is the one which is moved.
            return relative if is_so_named and (not is_there or (self.root / relative).exists()) else None
        for start in range(1, len(path.parts) - _LEAST_PARTS + 1):
            if (self.root / Path(*path.parts[start:])).exists():
                return Path(*path.parts[start:])
        return None

    def _restored(self, relative: Path) -> Path:
        # An experiment that was deleted is moved, and the addresses in it are not changed.
        trashed = Path(".trash") / relative
        return trashed if not (self.root / relative).exists() and (self.root / trashed).exists() else relative

    def leftovers(self, copied: list[Path]) -> Iterator[Path]:
        """Files that belong to no record, relative to the folder: nobody would miss them in MLflow.

        Args:
            copied: Folders of files that belong to one, relative.
        """
        known = {each.folder for each in self.everything()}
        below = {self.root / each for each in copied}
        for folder, folders, names in os.walk(self.root):
            here, files = Path(folder), names
            if here in below:
                folders.clear()
                continue
            if here in known:
                folders[:] = [each for each in folders if each not in _RECORD_FOLDERS]
                files = [each for each in names if each not in _RECORD_FILES]
            yield from ((here / each).relative_to(self.root) for each in files)


def local_path(address: str | None) -> Path | None:
    """The path of an address on this machine; None for one elsewhere."""
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path or parts.netloc))
    # A drive letter of Windows is no scheme.
    return Path(address) if len(parts.scheme) <= 1 else None


def read_yaml(file: Path) -> dict[str, Any] | None:
    """What a file of a record says; None if that cannot be read."""
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both loaders are safe ones
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def files_below(folder: Path) -> dict[str, Path]:
    """Files of a record by their names, in which MLflow puts `/`."""
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def texts_below(folder: Path) -> dict[str, str]:
    """Parameters or tags."""
    return {name: file.read_text(encoding="utf-8") for name, file in files_below(folder).items()}


def points_of(file: Path) -> tuple[list[str], list[Point], int]:
    """The values of a metric: lines of a file, each once; what they say; and how many cannot be read.

    A program that logs the same value twice within a millisecond writes the same line twice, which a database has once.
    """
    lines: list[str] = []
    points: dict[Point, None] = {}
    unreadable = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        parts = line.strip().split(" ")
        try:
            time, number, step = int(parts[0]), float(parts[1]), int(parts[2]) if len(parts) > 2 else 0  # noqa: PLR2004
        except (ValueError, IndexError):
            unreadable += bool(line.strip())
            continue
        point = time, step, math.isnan(number), stored_number(number)
        if point not in points:
            points[point] = None
            lines.append(line)
    return lines, list(points), unreadable


def stored_number(number: float) -> float:
    """A metric's number as a database keeps it."""
    if math.isnan(number):
        return 0.0
    return math.copysign(_LARGEST, number) if math.isinf(number) else number


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
