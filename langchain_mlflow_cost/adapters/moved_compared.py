"""Whether a database holds what an old file store holds, record by record, as its files and MLflow's client tell it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.adapters.file_store import files_below, points_of, read_yaml, texts_below
from langchain_mlflow_cost.adapters.file_store_view import mended_assessment, milliseconds
from langchain_mlflow_cost.adapters.trace_fields import ARTIFACT_LOCATION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from langchain_mlflow_cost.adapters.file_store import FileStore, Kept

_PAGE: Final = 500
_STATUS: Final = ("", "RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
"""Of runs, by the numbers that the files have."""
_MOST_TOLD: Final = 1_000


class Comparison:
    """Compares, record by record.

    Args:
        store: The old folder.
        uri: Of the database.
        connection: To the same database, for what the client tells only one by one.
        tell: Told of each record.
    """

    def __init__(self, store: FileStore, uri: str, connection: sqlite3.Connection, tell: Callable[[], None]) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 - slow

        self._store, self._sql, self._tell = store, connection, tell
        self._mlflow = MlflowClient(uri, uri)
        self.equal = Counter[str]()
        """How many of each kind are the same."""
        self.different: list[str] = []
        """What is not, in words."""

    def run(self) -> None:
        """Compare all."""
        from mlflow.entities import ViewType  # noqa: PLC0415 - as above

        experiments = {
            each.experiment_id: each for each in self._all(self._mlflow.search_experiments, view_type=ViewType.ALL)
        }
        for kept in self._store.experiments():
            self._seen("experiment", kept, experiments.get(kept.folder.name), self._experiment)
            number = [kept.folder.name]
            runs = self._all(self._mlflow.search_runs, experiment_ids=number, run_view_type=ViewType.ALL)
            self._match("run", self._store.runs(kept), ((each.info.run_id, each) for each in runs), self._run)
            traces = self._all(self._mlflow.search_traces, locations=number, include_spans=False)
            self._match("trace", self._store.traces(kept), ((each.info.trace_id, each) for each in traces), self._trace)
            models = self._all(self._mlflow.search_logged_models, experiment_ids=number)
            here = (each for each in self._store.models(kept) if each.meta.get("lifecycle_stage", "active") == "active")
            self._match("logged model", here, ((each.model_id, each) for each in models), self._model)
        # From the tables: of prompts, which are registered models, the client tells something else.
        for kept in self._store.registered():
            name = _name_of(kept)
            row = self._row("registered_models", "creation_time, description", "name = ?", name)
            self._seen("registered model", kept, row, self._registered)
            for version in self._store.versions(kept):
                columns = "creation_time, description, run_id, current_stage, status"
                row = self._row(
                    "model_versions", columns, "name = ? AND version = ?", name, int(version.meta["version"])
                )
                self._seen("model version", version, row, self._version)

    @staticmethod
    def _all(search: Callable[..., Any], **chosen: Any) -> Iterator[Any]:
        token = None
        while True:
            page = search(**chosen, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _row(self, table: str, columns: str, where: str, *key: Any) -> tuple[Any, ...] | None:
        sql = f"SELECT {columns} FROM {table} WHERE {where}"  # noqa: S608 - own words
        found: tuple[Any, ...] | None = self._sql.execute(sql, key).fetchone()
        return found

    def _pairs(self, table: str, columns: str, where: str, *key: Any) -> dict[str, str]:
        sql = f"SELECT {columns} FROM {table} WHERE {where}"  # noqa: S608 - own words
        return {str(name): str(value) for name, value in self._sql.execute(sql, key)}

    def _match(
        self, kind: str, kept: Iterator[Kept], stored: Iterator[tuple[str, Any]], compare: Callable[[Kept, Any], Any]
    ) -> None:
        waiting = {each.key: each for each in kept}
        for key, found in stored:
            if key in waiting:
                self._seen(kind, waiting.pop(key), found, compare)
        for each in waiting.values():
            self._seen(kind, each, None, compare)

    def _seen(self, kind: str, kept: Kept, found: Any, compare: Callable[[Kept, Any], Any]) -> None:
        self._tell()
        if found is None:
            self._differ(f"{kind} {kept.key} is not in the database")
            return
        wrong = [(name, old) for name, old, new in compare(kept, found) if old != new]
        for name, _ in wrong:
            self._differ(f"{kind} {kept.key}: {name} is not the same")
        self.equal[kind] += not wrong

    def _differ(self, words: str) -> None:
        if len(self.different) < _MOST_TOLD:
            self.different.append(words)

    def _same(self, kind: str, old: Any, new: Any) -> tuple[str, Any, Any]:
        """A part of a record, in which there may be many of a kind."""
        if old == new:
            self.equal[kind] += len(old)
        return kind, old, new

    # --- each kind: parts of it, as the files have them and as the database has them ----------------------------------

    def _experiment(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        meta = kept.meta
        yield "its name", meta.get("name"), found.name
        yield "whether it is deleted", meta.get("lifecycle_stage", "active"), found.lifecycle_stage
        yield "when it was made", meta.get("creation_time"), found.creation_time
        yield self._same("tag", texts_below(kept.folder / "tags"), dict(found.tags))

    def _run(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        meta, info = kept.meta, found.info
        tags = texts_below(kept.folder / "tags")
        status = meta.get("status", 1)
        yield "its name", meta.get("run_name") or meta.get("name") or tags.get("mlflow.runName", ""), info.run_name
        yield "its state", _STATUS[status] if isinstance(status, int) else status, info.status
        yield "whether it is deleted", meta.get("lifecycle_stage", "active"), info.lifecycle_stage
        yield "its start", meta.get("start_time"), info.start_time
        yield "its end", meta.get("end_time"), info.end_time
        yield (
            "its user",
            meta.get("user_id") or tags.get("mlflow.user", ""),
            info.user_id or found.data.tags.get("mlflow.user", ""),
        )
        yield self._same("parameter", texts_below(kept.folder / "params"), dict(found.data.params))
        yield self._same(
            "tag",
            tags,
            {name: value for name, value in found.data.tags.items() if name in tags or name != "mlflow.runName"},
        )
        points = {
            (name, *point)
            for name, file in files_below(kept.folder / "metrics").items()
            for point in points_of(file)[1]
        }
        sql = "SELECT key, timestamp, step, is_nan, value FROM metrics WHERE run_uuid = ?"
        stored = {
            (key, time, step, bool(nan), value) for key, time, step, nan, value in self._sql.execute(sql, (kept.key,))
        }
        yield self._same("metric value", points, stored)
        last = {}
        for name, time, step, nan, value in sorted(points, key=lambda point: (point[2], point[1], point[4])):
            last[name] = (time, step, nan, value)
        sql = "SELECT key, timestamp, step, is_nan, value FROM latest_metrics WHERE run_uuid = ?"
        latest = {key: (*place, bool(nan), value) for key, *place, nan, value in self._sql.execute(sql, (kept.key,))}
        yield "its last metrics", last, latest
        yield self._same("data set", self._inputs(kept), _stored_inputs(found))
        models = {
            (folder.name, (read_yaml(folder / "meta.yaml") or {}).get("step", 0))
            for folder in _children(kept, "outputs")
        }
        yield (
            "its models",
            models,
            {(each.model_id, each.step) for each in getattr(found.outputs, "model_outputs", None) or ()},
        )

    @staticmethod
    def _inputs(kept: Kept) -> list[Any]:
        found: list[Any] = []
        for folder in _children(kept, "inputs"):
            meta = read_yaml(folder / "meta.yaml") or {}
            tags = sorted((name, str(value)) for name, value in (meta.get("tags") or {}).items())
            if meta.get("source_type") == "MODEL":
                found.append(("", str(meta.get("source_id")), [], ()))
                continue
            data = read_yaml(kept.folder.parent / "datasets" / str(meta.get("source_id")) / "meta.yaml")
            if data is not None:
                names = ("source_type", "source", "schema", "profile")
                found.append((data.get("name"), data.get("digest"), tags, tuple(data.get(name) for name in names)))
        return sorted(found, key=str)

    def _trace(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        meta, info = kept.meta, found.info
        began = meta.get("timestamp_ms", meta.get("request_time"))
        yield "its start", milliseconds(began) if isinstance(began, str) else began, info.request_time
        duration = meta.get("execution_time_ms", meta.get("execution_duration_ms"))
        yield "its duration", duration, info.execution_duration
        yield "its state", meta.get("status") or meta.get("state", "OK"), str(info.state)
        yield "its client's id", meta.get("client_request_id"), info.client_request_id
        for name in ("request_preview", "response_preview"):
            # Older stores have none, and MLflow takes one from the metadata.
            if meta.get(name) is not None:
                yield f"its {name}", meta[name], getattr(info, name)
        # The place of its files is another one, and checked with the files.
        tags = {name: value for name, value in texts_below(kept.folder / "tags").items() if name != ARTIFACT_LOCATION}
        yield self._same("tag", tags, {name: value for name, value in info.tags.items() if name != ARTIFACT_LOCATION})
        metadata = texts_below(kept.folder / "request_metadata")
        stored = dict(info.trace_metadata)
        yield self._same("metadata value", _parsed(metadata), _parsed(stored))
        files = files_below(kept.folder / "assessments")
        old = sorted((_assessment(read_yaml(file) or {}) for file in files.values()), key=str)
        new = sorted((_assessment(each.to_dictionary()) for each in info.assessments), key=str)
        yield self._same("assessment", old, new)

    def _model(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        meta = kept.meta
        yield "its name", meta.get("name"), found.name
        yield "its kind", meta.get("model_type"), found.model_type
        yield "its run", meta.get("source_run_id"), found.source_run_id
        yield "when it was made", meta.get("creation_timestamp"), found.creation_timestamp
        yield self._same("tag", texts_below(kept.folder / "tags"), dict(found.tags))
        yield self._same("parameter", texts_below(kept.folder / "params"), dict(found.params))
        last = {}
        for name, file in files_below(kept.folder / "metrics").items():
            for line in points_of(file)[0]:
                time, value, step, *more = line.strip().split(" ")
                last[name, int(time), int(step), more[0]] = (float(value), *(more[1:] or (None, None)))
        sql = """SELECT metric_name, metric_timestamp_ms, metric_step, run_id,
            metric_value, dataset_name, dataset_digest FROM logged_model_metrics WHERE model_id = ?"""
        stored = {tuple(row[:4]): (_number(row[4]), *row[5:]) for row in self._sql.execute(sql, (kept.key,))}
        yield self._same("metric value", _parsed(last), _parsed(stored))

    def _registered(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        name = _name_of(kept)
        yield "when it was made", kept.meta.get("creation_timestamp"), found[0]
        yield "its description", kept.meta.get("description") or "", found[1] or ""
        stored = self._pairs("registered_model_tags", "key, value", "name = ?", name)
        yield self._same("tag", texts_below(kept.folder / "tags"), stored)
        aliases = {name: number.strip() for name, number in texts_below(kept.folder / "aliases").items()}
        yield "its aliases", aliases, self._pairs("registered_model_aliases", "alias, version", "name = ?", name)

    def _version(self, kept: Kept, found: Any) -> Iterator[tuple[str, Any, Any]]:
        meta = kept.meta
        yield "when it was made", meta.get("creation_timestamp"), found[0]
        yield "its description", meta.get("description") or "", found[1] or ""
        yield "its run", meta.get("run_id") or "", found[2] or ""
        yield "its stage", meta.get("current_stage") or "None", found[3] or "None"
        yield "its state", meta.get("status", "READY"), found[4]
        key = str(meta.get("name", kept.folder.parent.name)), int(meta["version"])
        stored = self._pairs("model_version_tags", "key, value", "name = ? AND version = ?", *key)
        yield self._same("tag", texts_below(kept.folder / "tags"), stored)


def _name_of(kept: Kept) -> str:
    return str(kept.meta.get("name", kept.folder.name))


def _children(kept: Kept, name: str) -> list[Any]:
    folder = kept.folder / name
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _stored_inputs(run: Any) -> list[Any]:
    found: list[Any] = [
        (
            each.dataset.name,
            each.dataset.digest,
            sorted((tag.key, tag.value) for tag in each.tags),
            tuple(getattr(each.dataset, name) for name in ("source_type", "source", "schema", "profile")),
        )
        for each in run.inputs.dataset_inputs
    ]
    found += [("", each.model_id, [], ()) for each in getattr(run.inputs, "model_inputs", None) or ()]
    return sorted(found, key=str)


def _parsed(texts: dict[Any, Any]) -> dict[Any, Any]:
    """Texts that are JSON as what they say: MLflow keeps counts of tokens as numbers and writes them anew."""
    found = {}
    for name, value in texts.items():
        try:
            found[name] = json.loads(value)
        except (TypeError, ValueError):
            found[name] = repr(value)
    return found


def _number(value: float | None) -> float:
    # SQLite keeps no NaN.
    return float("nan") if value is None else float(value)


def _assessment(meta: dict[str, Any]) -> dict[str, Any]:
    """An assessment with what has more than one form in one."""
    meta = mended_assessment(meta)
    meta = {name: value for name, value in meta.items() if not name.endswith("_time") and value not in (None, {}, [])}
    return {"valid": True, **meta}
