"""Write a file store as an older MLflow did, and tell what a store holds as its own client sees it.

Run by that MLflow's own interpreter, from 2.9 on; it needs nothing of this project:

    python3.11 -m venv /tmp/mlflow_2.9.2 && /tmp/mlflow_2.9.2/bin/pip install mlflow==2.9.2 'setuptools<81'
    /tmp/mlflow_2.9.2/bin/python scripts/old_stores.py write /tmp/old/mlruns
    /tmp/mlflow_2.9.2/bin/python scripts/old_stores.py tell /tmp/old/mlruns > told.json

The archives in `tests/data/stores` were packed so: `tar -C /tmp/old -czf 2.9.2.tar.gz mlruns told.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
warnings.simplefilter("ignore")

import mlflow  # noqa: E402
from mlflow.entities import Metric, Param, RunTag, ViewType  # noqa: E402


def write(root: str) -> None:
    """Make a store at a folder, with one of everything that this MLflow can keep there."""
    mlflow.set_tracking_uri(Path(root).absolute().as_uri())
    client = mlflow.MlflowClient()
    first = client.create_experiment("agents", tags={"team": "search", "mlflow.note.content": "Nächte\nund Tage"})
    second = client.create_experiment("space & 100 %")
    gone = client.create_experiment("given up")

    parent = _run(client, first, "baseline")
    child = client.create_run(first, tags={"mlflow.parentRunId": parent, "mlflow.user": "ada"}, run_name="child")
    client.set_terminated(child.info.run_id, "FAILED")
    _run(client, "0", "in the default experiment")
    _run(client, second, "elsewhere")
    _run(client, gone, "of a deleted experiment")
    deleted = _run(client, first, "deleted")
    client.delete_run(deleted)
    client.create_run(second, run_name="still running")
    _datasets(first)
    _registry(client, parent)
    if hasattr(mlflow, "start_span"):
        _traces(first)
    if hasattr(client, "create_logged_model"):
        _logged_models(client, first, parent)
    client.delete_experiment(gone)


def _run(client: Any, experiment: str, name: str) -> str:
    run_id: str = client.create_run(experiment, run_name=name, start_time=1_700_000_000_000).info.run_id
    points = [Metric("loss", 1.0 / step, 1_700_000_000_000 + step, step) for step in range(1, 20)]
    points += [Metric("loss", 0.25, 1_700_000_000_000, 0)]
    points += [
        Metric(f"edge/{n}", value, 1_700_000_000_001, -1)
        for n, value in enumerate((math.nan, math.inf, -math.inf, 0.1, 1e-300))
    ]
    # A loop that logs the same value twice in a millisecond: the file has the same line twice.
    points += [Metric("tokens", 7.0, 1_700_000_000_002, 0)] * 3
    params = [
        Param("model", "gpt"),
        Param("prompt/text", "line\nbreak \u00fc\u4e16"),
        Param("long", "p" * 500),
        Param("empty", ""),
    ]
    client.log_batch(
        run_id,
        metrics=points,
        params=params,
        tags=[RunTag("a/b.c d", "x=1"), RunTag("mlflow.note.content", "n" * 4000)],
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deep/er").mkdir(parents=True)
        (Path(folder) / "notes.txt").write_text(f"notes of {name}", encoding="utf-8")
        (Path(folder) / "deep/er/with space \u00e9.bin").write_bytes(bytes(range(256)))
        (Path(folder) / "empty").write_bytes(b"")
        client.log_artifacts(run_id, folder)
        client.log_artifact(run_id, str(Path(folder) / "notes.txt"), "more")
    client.set_terminated(run_id, "FINISHED", end_time=1_700_000_100_000)
    return run_id


def _datasets(experiment: str) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415 - not every version has it
    from mlflow.data.dataset import Dataset  # noqa: PLC0415 - not every version has it

    described = {"schema": '{"columns": ["question"]}', "profile": '{"rows": 2}'}

    class Questions(Dataset):
        """The plainest data set: a name and a digest."""

        def _compute_digest(self) -> str:
            return "0badcafe"

        def to_dict(self) -> dict[str, str]:
            """As it is stored."""
            return {**super().to_dict(), **described}

        def _to_dict(self, base_dict: dict[str, str]) -> dict[str, str]:
            return {**base_dict, **described}

    with mlflow.start_run(experiment_id=experiment, run_name="with data") as run:
        for name in ("questions", "answers"):
            mlflow.log_input(
                Questions(CodeDatasetSource({"mlflow.source.name": "ask.py"}), name=name), context="evaluation"
            )
        mlflow.log_metric("score", 0.5)
    assert run.info.run_id


def _registry(client: Any, run_id: str) -> None:
    client.create_registered_model("ranker", tags={"owner": "ada"}, description="Ranks.")
    client.create_registered_model("nothing yet")
    source = client.get_run(run_id).info.artifact_uri
    for number in (1, 2):
        client.create_model_version(
            "ranker", f"{source}/deep", run_id, tags={"n": str(number)}, description=f"no. {number}"
        )
    client.set_registered_model_alias("ranker", "champion", "1")
    client.transition_model_version_stage("ranker", "2", "Staging")
    client.create_registered_model("from a run")
    client.create_model_version("from a run", f"runs:/{run_id}/deep", run_id)
    if hasattr(mlflow, "genai") and hasattr(mlflow.genai, "register_prompt"):
        for text in ("Answer {{question}}", "Answer {{question}} briefly"):
            mlflow.genai.register_prompt("ask", text, commit_message="why", tags={"lang": "en"})
        mlflow.genai.set_prompt_alias("ask", "live", 2)


def _traces(experiment: str) -> None:
    mlflow.set_experiment(experiment_id=experiment)
    for number in range(4):
        with mlflow.start_span("root", span_type="CHAIN") as root:
            root.set_inputs({"question": f"no. {number} \u00fc"})
            if hasattr(mlflow, "update_current_trace"):
                mlflow.update_current_trace(tags={"kind": "test", "a.b c": "d"})
                if number == 1 and hasattr(mlflow.entities, "Feedback"):
                    mlflow.update_current_trace(metadata={"mlflow.trace.session": "s-1", "mlflow.trace.user": "ada"})
            with mlflow.start_span("model", span_type="CHAT_MODEL") as span:
                span.set_outputs({"text": "a" * 2000})
                span.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7})
            if number == 2:  # noqa: PLR2004 - the last but one
                root.set_status("ERROR")
        trace_id = getattr(root, "trace_id", root.request_id)
        if number == 0 and hasattr(mlflow.entities, "Feedback"):
            from mlflow.entities import AssessmentSource  # noqa: PLC0415 - not every version has it

            source = AssessmentSource("HUMAN", "ada")
            good = mlflow.log_feedback(
                trace_id=trace_id, name="good", value=True, source=source, rationale="It is.", metadata={"k": "v"}
            )
            mlflow.log_feedback(trace_id=trace_id, name="score", value=0.75, span_id=span.span_id)
            mlflow.log_feedback(trace_id=trace_id, name="parts", value={"a": [1, 2]})
            mlflow.log_feedback(trace_id=trace_id, name="broken", error=ValueError("no judge"))
            mlflow.log_expectation(trace_id=trace_id, name="answer", value="42")
            mlflow.log_expectation(trace_id=trace_id, name="answers", value={"a": ["42", 43]})
            mlflow.override_feedback(
                trace_id=trace_id, assessment_id=good.assessment_id, value=False, rationale="It is not."
            )
    with mlflow.start_run(experiment_id=experiment, run_name="with a trace"), mlflow.start_span("in a run"):
        pass


def _logged_models(client: Any, experiment: str, run_id: str) -> None:
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415 - not every version has it

    model = client.create_logged_model(
        experiment, name="agent", source_run_id=run_id, tags={"t/x": "y"}, params={"k": "v"}, model_type="Agent"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
        (Path(folder) / "code").mkdir()
        (Path(folder) / "code/agent.py").write_text("print(1)\n", encoding="utf-8")
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=3)])
    other = client.create_run(experiment, run_name="measures a model").info.run_id
    for step in (0, 1):
        client.log_metric(
            other, "quality", 0.5 + step / 4, step=step, model_id=model.model_id, timestamp=1_700_000_000_005
        )
    client.log_metric(
        other,
        "quality on data",
        0.75,
        step=0,
        model_id=model.model_id,
        timestamp=1_700_000_000_006,
        dataset_name="questions",
        dataset_digest="0badcafe",
    )
    client.create_logged_model(experiment, name="unfinished")


# --- what a store holds ---------------------------------------------------------------------------------------------


def tell(uri: str) -> dict[str, Any]:
    """All that a store's client sees, ready for JSON: artifacts by their hashes, and no address."""
    mlflow.set_tracking_uri(uri if "://" in uri else Path(uri).absolute().as_uri())
    client = mlflow.MlflowClient()
    told: dict[str, Any] = {"experiments": {}, "runs": {}, "traces": {}, "models": {}, "registry": {}}
    experiments = list(client.search_experiments(view_type=ViewType.ALL))
    for each in experiments:
        told["experiments"][each.name] = {
            "lifecycle": each.lifecycle_stage,
            "tags": dict(each.tags),
            "made": each.creation_time,
        }
    for each in experiments:
        for run in client.search_runs([each.experiment_id], run_view_type=ViewType.ALL, max_results=10_000):
            told["runs"][run.info.run_id] = {"experiment": each.name, **_told_run(client, run)}
        if hasattr(client, "search_traces"):
            for info in _pages(lambda token, e=each: client.search_traces([e.experiment_id], page_token=token)):
                told["traces"][_first(info.info, "trace_id", "request_id")] = {
                    "experiment": each.name,
                    **_told_trace(info),
                }
        if hasattr(client, "search_logged_models"):
            for model in _pages(lambda token, e=each: client.search_logged_models([e.experiment_id], page_token=token)):
                told["models"][model.model_id] = {"experiment": each.name, **_told_model(model)}
    for found in _pages(lambda token: client.search_registered_models(page_token=token)):
        kind = client.get_registered_model(found.name)
        versions = _pages(lambda token, k=kind: client.search_model_versions(f"name='{k.name}'", page_token=token))
        told["registry"][kind.name] = {
            "description": kind.description,
            "tags": dict(kind.tags),
            "aliases": {name: int(number) for name, number in kind.aliases.items()},
            "made": kind.creation_timestamp,
            "versions": {str(each.version): _told_version(client, each) for each in versions},
        }
    told["prompts"] = _told_prompts()
    return told


def _told_prompts() -> dict[str, Any]:
    try:
        prompts = [mlflow.genai.load_prompt("ask", number) for number in (1, 2)]
        live = mlflow.genai.load_prompt("prompts:/ask@live").version
    except Exception:  # noqa: BLE001 - an MLflow without prompts, or a store
        return {}
    return {"live": live, "versions": [[each.template, each.tags, each.commit_message] for each in prompts]}


def _pages(search: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = search(token)
        found += page
        token = getattr(page, "token", None)
        if not token:
            return found


def _told_run(client: Any, run: Any) -> dict[str, Any]:
    info = run.info
    inputs = [
        {
            "tags": {tag.key: tag.value for tag in each.tags},
            **{k: getattr(each.dataset, k) for k in ("name", "digest", "source_type", "source", "schema", "profile")},
        }
        for each in run.inputs.dataset_inputs
    ]
    return {
        "info": [info.run_name, info.status, info.lifecycle_stage, info.start_time, info.end_time, info.user_id],
        "params": dict(run.data.params),
        "tags": {k: v for k, v in run.data.tags.items() if k != "mlflow.runName"},
        "metrics": {k: _number(v) for k, v in run.data.metrics.items()},
        # A database keeps a point once.
        "history": {
            k: sorted({(m.timestamp, m.step, _number(m.value)) for m in client.get_metric_history(info.run_id, k)})
            for k in run.data.metrics
        },
        "inputs": sorted(inputs, key=str),
        "model inputs": sorted(m.model_id for m in getattr(run.inputs, "model_inputs", None) or ()),
        "outputs": sorted(
            (m.model_id, m.step) for m in getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        ),
        "artifacts": _files(info.artifact_uri),
    }


def _number(value: float) -> str:
    """A database has the largest number for an infinite one."""
    return repr(math.copysign(sys.float_info.max, value) if math.isinf(value) else value)


def _told_trace(trace: Any) -> dict[str, Any]:
    info = trace.info
    trace = mlflow.get_trace(_first(info, "trace_id", "request_id"))
    began = _first(info, "request_time", "timestamp_ms")
    took = _first(info, "execution_duration", "execution_time_ms")
    state = _first(info, "state", "status")
    assessments = [each.to_dictionary() for each in getattr(info, "assessments", None) or ()]
    return {
        "info": [began, took, getattr(state, "value", state), getattr(info, "client_request_id", None)],
        "previews": [getattr(info, "request_preview", None), getattr(info, "response_preview", None)],
        "tags": {k: v for k, v in info.tags.items() if k != "mlflow.artifactLocation"},
        "metadata": dict(_first(info, "trace_metadata", "request_metadata")),
        "assessments": sorted(assessments, key=str),
        "spans": [
            [span.name, span.span_type, span.inputs, span.outputs, str(span.status.status_code)]
            for span in trace.data.spans
        ],
        "times": [[span.start_time_ns, span.end_time_ns] for span in trace.data.spans],
        "files": _files(info.tags["mlflow.artifactLocation"]),
    }


def _first(owner: Any, *names: str) -> Any:
    """A field by the first of its names that this MLflow has."""
    return next(getattr(owner, name) for name in names if hasattr(owner, name))


def _told_model(model: Any) -> dict[str, Any]:
    return {
        "info": [model.name, str(model.status), model.model_type, model.source_run_id, model.creation_timestamp],
        "tags": dict(model.tags),
        "params": dict(model.params),
        # A file store tells of the last step alone.
        "metrics": {
            m.key: (repr(m.value), m.timestamp, m.step, m.run_id, m.dataset_name, m.dataset_digest)
            for m in sorted(model.metrics or (), key=lambda m: m.step)
        },
        "artifacts": _files(model.artifact_location),
    }


def _told_version(client: Any, version: Any) -> dict[str, Any]:
    try:
        place = client.get_model_version_download_uri(version.name, version.version)
        opens = _files(place) if "dummy" not in place else {}
    except Exception as error:  # noqa: BLE001 - some versions have no file, in either store
        opens = {"error": type(error).__name__}
    return {
        "description": version.description,
        "tags": dict(version.tags),
        "run": version.run_id,
        "stage": version.current_stage,
        "status": version.status,
        "made": version.creation_timestamp,
        "files": opens,
    }


def _files(place: str) -> dict[str, str]:
    """Files below an artifact address, got through MLflow, with their hashes."""
    found = {}
    if place.startswith(("file:", "/")) and not Path(unquote(urlsplit(place).path)).exists():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=folder))
        for file in sorted(root.rglob("*")):
            if file.is_file():
                found[file.relative_to(root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return found


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        json.dump(tell(sys.argv[2]), sys.stdout, indent=1, sort_keys=True, default=str)
