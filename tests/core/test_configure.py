"""Set-up in one line: where traces go, what they are called, and that nothing of the user's is overridden."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import sqlite3
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from servers import serving
from stored_traces import all_traces, forget_stores, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, PolicyError, configure, cost_summary
from langchain_mlflow_cost.limits import replaced
from langchain_mlflow_cost.tracking_stores import why_unusable

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
    forget_stores()
    yield new_process
    forget_stores()


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


class Answering(socketserver.BaseRequestHandler):
    """Answers every request with the same bytes, with a pause between them."""

    def handle(self) -> None:
        server: Any = self.server
        with contextlib.suppress(OSError):
            self.request.recv(4096)
            for byte in server.answer:
                self.request.sendall(bytes([byte]))
                if server.stopping.wait(server.pause_s):
                    return


@contextlib.contextmanager
def answering(answer: bytes, pause_s: float = 0.0) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        own: Any = server
        own.answer, own.pause_s, own.stopping = answer, pause_s, threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://user:hunter2@127.0.0.1:{server.server_address[1]}/prefix"
        own.stopping.set()
        server.shutdown()


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


STRANGERS = {
    "silent": (b" ", 60.0, "within 3 s"),
    "dripping": (http("200 OK", b"OK"), 1.0, "within 3 s"),
    "dripping body": (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"O" * 200, 0.02, "not as MLflow does"),
    "not found": (http("404 Not Found", b"no such page"), 0.0, "status 404"),
    "page": (http("200 OK", b"<html>OK</html>"), 0.0, "not as MLflow does"),
    "sent elsewhere": (http("302 Found", b"", "Location: /login"), 0.0, "status 302"),
    "ill": (http("503 Service Unavailable", b"OK"), 0.0, "status 503"),
    "no HTTP": (b"220 mail.example.com ESMTP\r\n", 0.0, "did not answer its health check"),
    "healthy stranger": (http("200 OK", b"OK\n"), 0.0, "does not say which experiments it has"),
}


def away(uri: str) -> tuple[MlflowCostHandler, list[str], float]:
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handler = configure({"tracking_uri": uri, "async_logging": False})
    ours = [str(w.message) for w in told if "MLflow" in str(w.message) and "noload" not in str(w.message)]
    return handler, ours, time.monotonic() - began


def test_dead_server(default_store: Path) -> None:
    """SQLite takes over at once, with one warning that names both, and traces are stored there."""
    handler, told, seconds = away("http://user:hunter2@127.0.0.1:9/prefix")
    ask(handler)

    assert len(told) == 1
    assert "127.0.0.1" in told[0]
    assert DEFAULT in told[0]
    assert "hunter2" not in told[0]
    assert seconds < 6
    assert cost_summary() == handler.summary()


@pytest.mark.parametrize("kind", STRANGERS)
def test_server_that_is_no_mlflow(default_store: Path, kind: str) -> None:
    """So it does where somebody answers, but not as MLflow does, or not in time."""
    answer, pause_s, reason = STRANGERS[kind]
    with answering(answer, pause_s) as uri, replaced(set_up_s=1.0):
        handler, told, seconds = away(uri)
        ask(handler)

    assert [True] == [reason in text and DEFAULT in text and "hunter2" not in text for text in told]
    # Three for the health check; the rest is set-up on a busy machine.
    assert seconds < 3 + 3
    assert cost_summary() == handler.summary()


def test_name_that_is_looked_up_for_ever(default_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up the server's name is within the three seconds."""
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(60) and [])
    _, told, seconds = away("http://mlflow.example.com")
    found.set()

    assert ["within 3 s" in text for text in told] == [True]
    assert seconds < 3 + 3


@pytest.mark.nightly
def test_real_server(new_process: Path, store_uri: str) -> None:
    """MLflow's own server is taken, and traces are stored there."""
    with serving(new_process, store_uri) as server:
        handler, told, _ = away(server.uri)
        ask(handler)

        assert told == []
        assert mlflow.get_tracking_uri() == server.uri
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


def test_folder_that_cannot_be_written(new_process: Path) -> None:
    """A database that cannot be made is told within seconds, and neither `configure` nor the graph waits for it."""
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match="cannot be written.*tracing is off"):
        handler = configure({"tracking_uri": "sqlite:////proc/nowhere/mlflow.db"})
    ask(handler)

    assert handler.summary().llm_calls == 1
    assert time.monotonic() - began < 5


def test_file_that_is_no_database(new_process: Path) -> None:
    """Nor for a file that is something else."""
    (new_process / "mlflow.db").write_text("notes of last week, which are no database at all\n" * 40)
    with pytest.warns(RuntimeWarning, match="file is not a database"):
        handler = configure({"tracking_uri": DEFAULT})
    ask(handler)

    assert handler.summary().llm_calls == 1


def test_database_that_is_being_written(new_process: Path, store_uri: str) -> None:
    """A database in which another process has a transaction open can be written."""
    with contextlib.closing(sqlite3.connect(new_process / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert why_unusable(store_uri) is None


# --- what older configurations name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["file://./mlruns", "file://mlruns", "file:./mlruns", "./mlruns", "mlruns", "s3://a/b"])
@pytest.mark.parametrize("place", ["policy", "environment"])
def test_store_of_older_mlflow(default_store: Path, monkeypatch: pytest.MonkeyPatch, uri: str, place: str) -> None:
    """SQLite takes over from a folder or a bucket, with one warning that everybody sees and that says how to move."""
    if place == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handler = configure({"async_logging": False} | ({"tracking_uri": uri} if place == "policy" else {}))
        ask(handler)
    ours = [w for w in told if "tracking_uri" in str(w.message)]

    assert [True] == [DEFAULT in str(w.message) for w in ours]
    assert not issubclass(ours[0].category, DeprecationWarning)
    assert uri.startswith("s3") or "mlflow-cost migrate mlruns mlflow.db" in str(ours[0].message)
    assert mlflow.get_tracking_uri() == DEFAULT
    assert cost_summary() == handler.summary()
    assert not (default_store / "mlruns").exists()


@pytest.mark.parametrize("uri", ["file://./mlruns", "./mlruns"])
def test_file_store_that_mlflow_is_told_to_use(new_process: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """With MLflow's allow flag it is the folder here, not one in the root of the disk."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with pytest.warns(UserWarning, match="giving up its file store"):
        handler = configure({"tracking_uri": uri, "async_logging": False})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MLflow's own, of its file store
        ask(handler)
        assert cost_summary() == handler.summary()

    assert list((new_process / "mlruns").glob("*/traces/*/trace_info.yaml"))


def old_store(folder: Path) -> None:
    """A file store with a run, as MLflow 2 wrote it."""
    for place in ("mlruns/0", f"mlruns/0/{'a1' * 16}"):
        (folder / place).mkdir(parents=True)
        (folder / place / "meta.yaml").write_text("artifact_location: here\n")


def hints(told: list[warnings.WarningMessage]) -> list[str]:
    return [str(w.message) for w in told if "old file store" in str(w.message)]


def test_hint_at_an_old_store(default_store: Path) -> None:
    """Where no URI is given and `./mlruns` has data, a hint says how to take it along; traces go to SQLite."""
    old_store(default_store)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        configure({"async_logging": False})

    assert ["mlflow-cost migrate mlruns mlflow.db" in text for text in hints(told)] == [True]
    assert mlflow.get_tracking_uri() == DEFAULT


def test_no_hint_when_it_was_taken_along(default_store: Path) -> None:
    """Not where the database has its runs, nor where the folder has nothing but files of SQLite's runs."""
    old_store(default_store)
    with contextlib.closing(sqlite3.connect(default_store / "mlflow.db")) as database, database:
        database.execute("INSERT INTO runs (run_uuid, experiment_id) VALUES (?, 0)", ("a1" * 16,))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        configure({"async_logging": False})

    assert hints(told) == []


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
