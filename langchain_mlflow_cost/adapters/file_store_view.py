"""A view of an old file store in which `mlflow migrate-filestore` finds nothing that it cannot take, or takes wrongly.

The store itself is not touched: the view is a folder of links to it, and where something is to be mended, a copy that
is. What MLflow 3.17 would make of it otherwise (`mlflow/store/fs2db/_tracking.py`):

- a metric logged twice within a millisecond, with one value, is a line twice: it stops at the first;
- a line of a metric that was not written to its end stops it, too;
- the times of assessments are read from fields that the file store does not write, and become 1970;
- an expectation that is a list or a mapping becomes `null`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import yaml

from langchain_mlflow_cost.adapters.file_store import files_below, points_of, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_mlflow_cost.adapters.file_store import FileStore, Kept


class View:
    """A view, made in a folder that is empty.

    Args:
        store: What it shows.
        folder: Where it is made.
    """

    def __init__(self, store: FileStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self.repeated = 0
        """Values of metrics that the files have more than once."""
        self.unreadable: list[Path] = []
        """Files of metrics with lines that cannot be read, each as often as there are some."""
        self._make()

    def _make(self) -> None:
        for experiment in self._store.experiments():
            target = self._folder / experiment.folder.relative_to(self._store.root)
            runs = {each.folder.name: each for each in self._store.runs(experiment)}
            self._link_all(experiment.folder, target, but={*runs, "traces", "models"})
            for name, run in runs.items():
                self._show(run, target / name, {"metrics": self._mended_metrics(run.folder / "metrics", [3])})
            for trace in self._store.traces(experiment):
                self._show(trace, target / "traces" / trace.folder.name, {"assessments": _mended_assessments(trace)})
            for model in self._store.models(experiment):
                metrics = self._mended_metrics(model.folder / "metrics", [4, 6])
                self._show(model, target / "models" / model.folder.name, {"metrics": metrics})
        if (self._store.root / "models").is_dir():
            (self._folder / "models").symlink_to(self._store.root / "models")

    def _show(self, kept: Kept, target: Path, mended: dict[str, dict[str, str]]) -> None:
        """A link to a record's folder, or a folder with links beside what is mended."""
        mended = {name: files for name, files in mended.items() if files}
        if not mended:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(kept.folder)
            return
        self._link_all(kept.folder, target, but=set(mended))
        for name, files in mended.items():
            for relative, file in files_below(kept.folder / name).items():
                shown = target / name / relative
                shown.parent.mkdir(parents=True, exist_ok=True)
                if relative in files:
                    shown.write_text(files[relative], encoding="utf-8")
                else:
                    shown.symlink_to(file)

    @staticmethod
    def _link_all(folder: Path, target: Path, but: set[str]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for each in folder.iterdir():
            if each.name not in but:
                (target / each.name).symlink_to(each)

    def _mended_metrics(self, folder: Path, lengths: list[int]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, file in files_below(folder).items():
            lines, _, unreadable = points_of(file)
            written = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            if lengths != [3]:
                lines = _once_a_step(lines)
            self.unreadable += [file] * unreadable
            self.repeated += len(written) - unreadable - len(lines)
            if len(lines) != len(written):
                found[name] = "".join(f"{line}\n" for line in lines)
        return found


def _once_a_step(lines: list[str]) -> list[str]:
    """A model's values, of which a database keeps one for a time, a step and a run: the last."""
    last: dict[tuple[str, ...], str] = {}
    for line in lines:
        time, _, *place = line.strip().split(" ")
        last[time, *place[:2]] = line
    return list(last.values())


def _mended_assessments(trace: Kept) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, file in files_below(trace.folder / "assessments").items():
        meta = read_yaml(file)
        mended = mended_assessment(meta) if meta is not None else meta
        if mended != meta:
            found[name] = yaml.safe_dump(mended, allow_unicode=True)
    return found


def mended_assessment(meta: dict[str, Any]) -> dict[str, Any]:
    """An assessment with the fields that MLflow's command reads."""
    mended = dict(meta)
    for name in ("create_time", "last_update_time"):
        if f"{name}_ms" not in meta and isinstance(meta.get(name), str):
            mended[f"{name}_ms"] = milliseconds(meta[name])
    value = (meta.get("expectation") or {}).get("serialized_value")
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        mended["expectation"] = {"value": json.loads(value["value"])}
    return mended


def milliseconds(time: str) -> int:
    """A time as protocol buffers write it, in milliseconds since the epoch."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
