"""Set-up in one line: where traces go, what they are called, and that nothing of the user's is overridden."""

from __future__ import annotations

import os
import socket
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from stored_traces import all_traces, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, PolicyError, configure, cost_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPORT_SETTINGS = (
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING",
)


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and an environment in which nothing about MLflow's store and export is set."""
    for name in (*EXPORT_SETTINGS, "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "")  # so that it is put back, also where it was not set
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(new_process: Path, store_uri: str) -> dict[str, Any]:
    """The same with a database; what a policy says to use it."""
    return {"tracking_uri": store_uri, "async_logging": False}


DEFAULT = "sqlite:///mlflow.db"


@pytest.fixture
def default_store(new_process: Path, store_uri: str) -> Iterator[Path]:
    """The same with a database that MLflow finds as the default one."""
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry as stores

    # MLflow keeps one store for a URI, which as a relative one means another file in each folder.
    stores._get_store_with_resolved_uri.cache_clear()
    yield new_process
    stores._get_store_with_resolved_uri.cache_clear()


def ask(handler: MlflowCostHandler) -> None:
    one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK, given(handler))


def test_default_store(default_store: Path) -> None:
    """Without a word it is SQLite in the working directory and the experiment `langchain_mlflow_cost`."""
    handler = configure({"async_logging": False})
    ask(handler)

    assert mlflow.get_tracking_uri() == DEFAULT
    assert cost_summary() == handler.summary()
    assert mlflow.get_experiment_by_name("langchain_mlflow_cost").experiment_id == only_trace().info.experiment_id
    assert not (default_store / "mlruns").exists()


def test_async_by_default(default_store: Path) -> None:
    """By default spans are stored in the background; `cost_summary` waits for them."""
    handler = configure()
    ask(handler)

    assert os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] == "true"
    assert cost_summary() == handler.summary()


def test_policys_store_and_experiment(new_process: Path, store_uri: str) -> None:
    """`tracking_uri` and `experiment_name` are where traces go."""
    ask(configure({"tracking_uri": store_uri, "experiment_name": "of my own", "async_logging": False}))

    assert mlflow.get_tracking_uri() == store_uri
    assert mlflow.get_experiment_by_name("of my own").experiment_id == only_trace().info.experiment_id


def test_store_that_mlflow_has(new_process: Path, store_uri: str) -> None:
    """Without `tracking_uri` it is what MLflow was told already."""
    mlflow.set_tracking_uri(store_uri)
    configure({"async_logging": False})

    assert mlflow.get_tracking_uri() == store_uri


def test_store_in_the_environment(new_process: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what the environment says."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    ask(configure({"async_logging": False}))

    assert mlflow.get_tracking_uri() == store_uri
    assert len(all_traces()) == 1


def test_environment_is_not_overridden(default_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export settings that the user made stay."""
    for name in EXPORT_SETTINGS:
        monkeypatch.setenv(name, "false" if "ENABLE" in name else "77")
    configure()

    assert ["77", "77", "false"] == [os.environ[name] for name in EXPORT_SETTINGS]


def test_autolog_is_on(here: dict[str, Any]) -> None:
    """A program that passes no handler is traced by MLflow from then on."""
    configure(here)
    one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK)

    assert len(all_traces()) == 1


def test_autolog_stays_off(here: dict[str, Any]) -> None:
    """Unless the policy says no."""
    configure({**here, "autolog_enabled": False})
    one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK)

    assert all_traces() == []


@pytest.mark.parametrize(
    ("run_name", "pattern"),
    [
        ("nightly", r"nightly$"),
        ("{workflow_name}", r"LangGraph$"),
        ("{workflow_name} at {timestamp}", r"LangGraph at \d{8}-\d{6}$"),
    ],
)
def test_run_name(here: dict[str, Any], run_name: str, pattern: str) -> None:
    """`run_name` is the trace's name, with its placeholders filled in."""
    import re

    ask(configure({**here, "run_name": run_name}))

    assert re.match(pattern, only_trace().info.tags["mlflow.traceName"])


# --- a server that is away -----------------------------------------------------------------------------------------


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def away(uri: str) -> tuple[MlflowCostHandler, list[str], float]:
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handler = configure({"tracking_uri": uri, "async_logging": False})
    ours = [str(w.message) for w in told if "MLflow" in str(w.message) and "noload" not in str(w.message)]
    return handler, ours, time.monotonic() - began


@pytest.mark.parametrize("kind", ["dead", "silent"])
def test_server_that_is_away(default_store: Path, silent_server: str, kind: str) -> None:
    """SQLite takes over within seconds, with one warning that names both, and traces are stored there."""
    uri = silent_server if kind == "silent" else "http://user:hunter2@127.0.0.1:9/prefix"
    handler, told, seconds = away(uri)
    ask(handler)

    assert len(told) == 1
    assert "127.0.0.1" in told[0]
    assert DEFAULT in told[0]
    assert "hunter2" not in told[0]
    assert seconds < 6
    assert cost_summary() == handler.summary()


def test_warning_is_told_where_configure_was_called(default_store: Path) -> None:
    """The warning's place is the user's own line."""
    with pytest.warns(RuntimeWarning, match="health check") as told:
        configure({"tracking_uri": "http://127.0.0.1:9", "async_logging": False})

    assert [__file__] == [w.filename for w in told if "health check" in str(w.message)]


# --- never in the way ----------------------------------------------------------------------------------------------


def test_bad_policy_is_told(new_process: Path) -> None:
    """A policy that cannot be used is the one thing that `configure` raises."""
    with pytest.raises(PolicyError, match="artifact_level"):
        configure({"artefact_level": "full"})


@pytest.mark.parametrize("uri", ["nonsense://store", "sqlite:////proc/nowhere/mlflow.db", "databricks://none"])
def test_never_raises(new_process: Path, uri: str) -> None:
    """A store that MLflow cannot use makes a warning; costs are known all the same."""
    with pytest.warns(RuntimeWarning, match="could not set MLflow up"):
        handler = configure({"tracking_uri": uri, "async_logging": False})
    ask(handler)

    assert handler.summary().llm_calls == 1


def test_file_store(new_process: Path) -> None:
    """A `file:` store gives a `DeprecationWarning` that names SQLite, and no exception."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handler = configure({"tracking_uri": f"file://{new_process}/mlruns", "async_logging": False})
        ask(handler)

    ours = [str(w.message) for w in told if w.category is DeprecationWarning and str(w.message).startswith("policy:")]
    assert ["sqlite:///" in text for text in ours] == [True]
    assert handler.summary().llm_calls == 1


def test_disabled_changes_nothing(new_process: Path) -> None:
    """`enabled: false` leaves the folder, the environment and MLflow as they are."""
    before = dict(os.environ), mlflow.get_tracking_uri()
    handler = configure({"enabled": False, "tracking_uri": "http://127.0.0.1:9"})
    ask(handler)

    assert before == (dict(os.environ), mlflow.get_tracking_uri())
    assert not list(new_process.iterdir())
    assert handler.summary().llm_calls == 0


def test_twice(here: dict[str, Any]) -> None:
    """Called twice, each handler works and nothing is recorded twice."""
    handlers: list[Any] = [configure(here) for _ in range(2)]
    for handler in handlers:
        ask(handler)

    assert [1, 1] == [cost_summary(trace.info.trace_id).llm_calls for trace in all_traces()]
