"""A store that dies, hangs or is locked holds nobody for long; what is lost is counted and told, and nothing is stored twice."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from servers import Server, serving
from stored_traces import all_traces
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, cost_summary
from langchain_mlflow_cost.adapters.export_queue import lost_spans
from langchain_mlflow_cost.limits import Limits, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SPANS = 3
"""Of one invocation: the graph, its node, the model."""

PROGRAM = """
import json, os, signal, sys, time
import mlflow
from fake_models import FakeChat
from ways import ASK, one_node
from langchain_mlflow_cost import configure, cost_summary
from langchain_mlflow_cost.adapters.export_queue import lost_spans

uri, group, number, is_async, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "async", int(sys.argv[5])
handler = configure({"tracking_uri": uri, "async_logging": is_async})
graph = one_node(lambda _: FakeChat().invoke("hi"))
said = {"longest": 0.0}

def run(many):
    for _ in range(many):
        began = time.monotonic()
        graph.invoke(ASK, {"callbacks": [handler]})
        said["longest"] = max(said["longest"], time.monotonic() - began)

run(count // 2)
os.killpg(group, number)
said["longest"] = 0.0
run(count // 2)
for name, function in (("flush", mlflow.flush_trace_async_logging), ("summary", cost_summary)):
    began = time.monotonic()
    function()
    said[name] = time.monotonic() - began
said["lost"] = lost_spans()
said["ends"] = time.time()
print(json.dumps(said))
"""


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_server_that_goes_in_the_middle(tmp_path: Path, store_uri: str, number: int, mode: str) -> None:
    """Exit, flush and `cost_summary` take 10 s each at most, an invocation 5 s more than its work, and the loss is told."""
    with serving(tmp_path, store_uri) as server:
        assert server.process is not None
        arguments = [server.uri, str(server.process.pid), str(int(number)), mode, "100"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            timeout=200,
            check=True,
        )
        ended = time.time()
        server.signal(signal.SIGCONT) if number == signal.SIGSTOP else None
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])

    assert said["longest"] < 5
    assert said["flush"] < 10
    assert said["summary"] < 10
    assert ended - said["ends"] < 10
    assert "are not stored" in done.stderr
    assert done.stderr.count("does not answer") <= 2  # MLflow's queue; and the summary's own call, where it asks


@pytest.mark.nightly
def test_server_that_comes_back(tmp_path: Path, store_uri: str, clean_mlflow: None) -> None:
    """What was made while the server was away is stored when it is back, spans and all, in one copy."""
    server = Server(tmp_path, store_uri)
    server.start()
    try:
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("tests")
        handler, graph = MlflowCostHandler(), one_node(lambda _: FakeChat().invoke("hi"))
        graph.invoke(ASK, given(handler))
        server.kill()
        for _ in range(5):
            graph.invoke(ASK, given(handler))
        time.sleep(2.5)
        server.start()
        mlflow.flush_trace_async_logging()
        for _ in range(100):
            if stored_spans(store_uri) == 6 * SPANS:
                break
            time.sleep(0.2)

        assert [SPANS] * 6 == [len(trace.data.spans) for trace in all_traces()]
        assert list(tmp_path.rglob("traces.json")) == []
    finally:
        server.kill()


def stored_spans(store_uri: str) -> int:
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as database:
        return int(database.execute("SELECT count(*) FROM spans").fetchone()[0])


# --- a database that is locked ---------------------------------------------------------------------------------------


@pytest.fixture
def lock(store_uri: str) -> Iterator[sqlite3.Connection]:
    """Another process's connection, which has the database for itself as soon as it says so."""
    with contextlib.closing(
        sqlite3.connect(store_uri.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    ) as other:
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


@pytest.mark.nightly
def test_locked_database(exported_in_threads: str, lock: sqlite3.Connection) -> None:
    """A flush gives up on it; when the lock is gone, all is stored, and nothing counts as lost any more."""
    before = lost_spans()
    lock.execute("BEGIN EXCLUSIVE")
    one_node(lambda _: FakeChat().invoke("hi")).invoke(ASK, given(MlflowCostHandler()))
    began = time.monotonic()
    mlflow.flush_trace_async_logging()
    seconds, lost = time.monotonic() - began, lost_spans() - before
    lock.execute("ROLLBACK")
    for _ in range(100):
        if lost_spans() == before and stored_spans(exported_in_threads) == SPANS:
            break
        time.sleep(0.1)

    assert seconds < 10
    assert lost == SPANS
    assert lost_spans() == before
    assert stored_spans(exported_in_threads) == SPANS


def test_locked_database_without_a_queue(store: str, lock: sqlite3.Connection) -> None:
    """An invocation waits for it for a bounded time, all its spans together; `cost_summary` too, and then tells all."""
    handler = MlflowCostHandler()
    graph = one_node(lambda _: FakeChat().invoke("hi"))
    graph.invoke(ASK, given(handler))
    lock.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    with replaced(sync_export_wait_s=Limits().sync_export_wait_s):
        graph.invoke(ASK, given(handler))
    seconds = time.monotonic() - began
    lock.execute("ROLLBACK")

    assert seconds < 5
    assert cost_summary(handler.summary().trace_id) == handler.summary()
    assert stored_spans(store) == 2 * SPANS


# --- one copy --------------------------------------------------------------------------------------------------------


def files_below(store_uri: str) -> list[Path]:
    artifacts = Path(mlflow.get_experiment_by_name("tests").artifact_location.removeprefix("file://"))
    ids = {trace.info.trace_id for trace in all_traces()}
    return [file for file in artifacts.rglob("traces.json") if ids & set(file.parts)]


@pytest.mark.parametrize("batch", ["5", "128"])
def test_spans_are_stored_once(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch, batch: str) -> None:
    """No trace is written to `traces.json` beside the database, whatever the size of batches."""
    monkeypatch.setenv("MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE", batch)
    handler, graph = MlflowCostHandler(), one_node(lambda _: FakeChat().invoke("hi"))
    for _ in range(30):
        graph.invoke(ASK, given(handler))

    assert [SPANS] * 30 == [len(trace.data.spans) for trace in all_traces()]
    assert files_below(exported_in_threads) == []


@pytest.mark.nightly
def test_spans_are_stored_once_on_a_server(tmp_path: Path, store_uri: str, clean_mlflow: None) -> None:
    """Nor on a server."""
    with serving(tmp_path, store_uri) as server:
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("on a server")
        handler, graph = MlflowCostHandler(), one_node(lambda _: FakeChat().invoke("hi"))
        for _ in range(30):
            graph.invoke(ASK, given(handler))

        assert [SPANS] * 30 == [len(trace.data.spans) for trace in all_traces()]
        assert list(tmp_path.rglob("traces.json")) == []
