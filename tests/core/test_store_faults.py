"""A store that fails, dawdles, is full or cannot be written: nobody waits long, and what is lost is said once.

Each program runs by itself, with MLflow's own retries and queue, since its end is what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fault_proxy import proxied
from servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.nightly

SPANS = 3
"""Of one invocation."""
ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import atexit
from stalls import Clock
clock = Clock()
# The first that is registered is the last that runs: after it, nobody waits for anything.
atexit.register(lambda: print(clock()))
import json, os, signal, sys, time, urllib.request
import mlflow
from fake_models import FakeChat
from ways import ASK, one_node
from langchain_mlflow_cost import MlflowCostHandler, configure, cost_summary, limits
from langchain_mlflow_cost.adapters.export_queue import lost_spans

uri, fault, mode, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
said = {"longest": 0.0}

def timed(name, function):
    began = clock()
    result = function()
    said[name] = max(said.get(name, 0.0), clock() - began)
    return result

graph = one_node(lambda _: FakeChat().invoke("hi"))

def run(many):
    for _ in range(many):
        timed("longest", lambda: graph.invoke(ASK, {"callbacks": [handler]}))

# A server that has just been started is not away because its first answers take long.
is_server = uri.startswith("http")
with limits.replaced(**(dict(health_check_s=60.0, set_up_s=60.0) if is_server else {})):
    if mode == "bare":
        handler = MlflowCostHandler()
    else:
        handler = timed("configure", lambda: configure({"tracking_uri": uri, "async_logging": mode == "async"}))
with limits.replaced(**(dict(sync_export_wait_s=60.0) if is_server else {})):
    run(2)
    mlflow.flush_trace_async_logging()
if fault.startswith("http"):
    urllib.request.urlopen(fault).read()
elif fault.startswith("stop:"):
    os.killpg(int(fault[5:]), signal.SIGSTOP)
elif fault.startswith("fill:"):
    file = os.open(fault[5:], os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        pass
said["longest"] = 0.0
run(count)
timed("flush", mlflow.flush_trace_async_logging)
summary = timed("summary", lambda: cost_summary(handler.summary().trace_id))
said["lost"], said["known"], said["live"] = lost_spans(), summary.llm_calls, handler.summary().llm_calls
said["ends"], said["ends_at"] = clock(), time.monotonic()
print(json.dumps(said))
"""


def run(folder: Path, uri: str, fault: str, mode: str, count: int, **environment: str) -> dict[str, Any]:
    """What a program measured, what it said, and how long its end took."""
    done = subprocess.run(
        [sys.executable, "-W", "default:langchain_mlflow_cost", "-c", PROGRAM, uri, fault, mode, str(count)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "PATH": "/usr/bin:/bin", **environment},
        cwd=folder,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *_, line, ended = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    losses = re.findall(r"(\d+) spans and the ends of (\d+) traces are not stored", done.stderr)
    return {**said, "exit": float(ended) - said["ends"], "told": [tuple(map(int, each)) for each in losses]}


def assert_bounded(said: dict[str, Any], *, answered_at: float = 0.0) -> None:
    """As promised: exit, flush and `cost_summary` 10 s each, an invocation 5 s beyond its work.

    The exit goes on waiting for a store that takes something all the while, whose last answer was `answered_at`, in
    seconds of `time.monotonic`.
    """
    print({name: round(value, 2) for name, value in said.items() if isinstance(value, float)}, said["told"])
    assert said["longest"] < 5
    for name, stored_s in ("flush", 0.0), ("summary", 0.0), ("exit", max(answered_at - said["ends_at"], 0.0)):
        assert said[name] - stored_s < 10, name
    assert said["live"] == 1


FULL = {
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "1",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE": "1000",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS": "10",
}


def test_stopped_with_a_full_queue(tmp_path: Path, store_uri: str) -> None:
    """A thousand tasks wait in MLflow's queue, behind ten workers that hang."""
    with serving(tmp_path, store_uri) as server:
        assert server.process is not None
        said = run(tmp_path, server.uri, f"stop:{server.process.pid}", "async", 400, **FULL)
        server.signal(signal.SIGCONT)

    assert_bounded(said)
    assert said["told"] == [(400 * SPANS, 400)]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_server_that_only_fails(tmp_path: Path, store_uri: str, mode: str) -> None:
    """It is healthy, and answers every other request with status 500, which MLflow tries again for minutes."""
    with serving(tmp_path, store_uri) as server, proxied(server.uri) as proxy:
        said = run(tmp_path, proxy.uri, f"{proxy.uri}/mode/500", mode, 20)

    assert_bounded(said)
    assert said["told"][-1] == (20 * SPANS, 20)
    assert len(said["told"]) <= 2  # what was not stored when somebody flushed; and more, when the process ended


@pytest.mark.parametrize(("mode", "wait_s"), [("async", "1"), ("sync", "1"), ("async", "20"), ("sync", "20")])
def test_slow_server(tmp_path: Path, store_uri: str, mode: str, wait_s: str) -> None:
    """What it stores in time is not lost; what it does not, is said."""
    with serving(tmp_path, store_uri) as server, proxied(server.uri) as proxy:
        said = run(tmp_path, proxy.uri, f"{proxy.uri}/mode/slow-{wait_s}", mode, 10)
        answered_at = proxy.answered_at

    assert_bounded(said, answered_at=answered_at if wait_s == "1" else 0.0)
    assert bool(said["told"]) == (said["known"] == 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_full_disk(small_disk: Path, store_uri: str, mode: str) -> None:
    """A database on it takes nothing more; the program goes on."""
    database = small_disk / "mlflow.db"
    database.write_bytes(Path(store_uri.removeprefix("sqlite:///")).read_bytes())
    said = run(small_disk, f"sqlite:///{database}", f"fill:{small_disk / 'filler'}", mode, 20)

    assert_bounded(said)
    assert said["told"][-1] == (20 * SPANS, 20)
    assert len(said["told"]) <= 2


@pytest.mark.parametrize("mode", ["bare", "async", "sync"])
def test_folder_that_is_read_only(tmp_path: Path, mode: str) -> None:
    """No database can be made in it: said within 5 s, with `configure` or without, and the program goes on."""
    if os.getuid() != 0:
        pytest.skip("needs another user, or a read-only file system")
    said = {}
    with read_only(tmp_path / "folder") as folder:
        said = run(folder, "sqlite:///mlflow.db", "none", mode, 3)

    assert_bounded(said)
    assert said.get("configure", 0) < 5


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_report_of_a_dead_server(tmp_path: Path) -> None:
    """It says so within 3 s of its own work."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "langchain_mlflow_cost", "report", "--help"], capture_output=True, check=True)
    start_s, began = time.monotonic() - began, time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "langchain_mlflow_cost", "report", "--tracking-uri", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert time.monotonic() - began < start_s + 3
