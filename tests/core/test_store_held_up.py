"""A store that is there again after it was held up, or whose uploads hang: every trace is stored, with its end."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import mlflow
import sqlalchemy
from fakes import Chat, graph
from langchain_core.messages import HumanMessage
from mlflow.tracing.attachments import Attachment

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.adapters.export_queue import lost_spans
from langchain_mlflow_cost.adapters.store_calls import flush_traces
from langchain_mlflow_cost.adapters.store_threads import THREAD_NAME
from langchain_mlflow_cost.limits import replaced
from langchain_mlflow_cost.tracking_stores import database_file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def invoke(count: int = 1) -> None:
    """So many traces of a graph with one node and one call."""
    app = graph(("work", lambda state: {"messages": [Chat().invoke([HumanMessage("so?")])]}))
    for _ in range(count):
        app.invoke({"messages": [("user", "hello")]}, {"callbacks": [MlflowCostHandler()]})


def stored(uri: str) -> tuple[int, set[str], set[int]]:
    """How many traces there are, in which states, and how many spans each has."""
    file = database_file_of(uri)
    with contextlib.closing(sqlite3.connect(str(file))) as database:
        states = [row[0] for row in database.execute("SELECT status FROM trace_info")]
        spans = {row[0] for row in database.execute("SELECT COUNT(*) FROM spans GROUP BY trace_id")}
    return len(states), set(states), spans


@contextlib.contextmanager
def held(uri: str) -> Iterator[None]:
    """Another program writes to the file, and does not come to its end."""
    with contextlib.closing(sqlite3.connect(str(database_file_of(uri)), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            writer.execute("ROLLBACK")


def test_flush_some_seconds_after_another(exported_in_threads: str) -> None:
    """Its patience is its own: that of the flush before is used up by then, whatever came of it."""
    with replaced(flush_s=2.0, flush_stalled_s=0.2):
        for count in (1, 2, 3):
            invoke()
            began = time.monotonic()
            mlflow.flush_trace_async_logging()
            assert stored(exported_in_threads)[:2] == (count, {"OK"})
            # The next one begins when the time of this one has just passed.
            time.sleep(max(began + 2.2 - time.monotonic(), 0.0))


def test_what_a_flush_gave_up_is_stored_in_order(exported_in_threads: str) -> None:
    """Spans and ends of many traces were set aside by several threads: none waits for what comes behind it."""
    invoke()
    mlflow.flush_trace_async_logging()
    before = lost_spans()
    with replaced(flush_s=1.0, flush_stalled_s=0.5), held(exported_in_threads):
        invoke(60)
        mlflow.flush_trace_async_logging()
        assert lost_spans() > before
    # The second flush finds them set aside, and waits for them.
    mlflow.flush_trace_async_logging()
    count, states, spans = stored(exported_in_threads)

    assert lost_spans() == before
    assert (count, states, len(spans)) == (61, {"OK"}, 1)


def test_more_calls_than_may_be_on_their_way(store: str) -> None:
    """Without a queue each span is a call of its own: those beyond the bound wait for their turn instead of being lost."""
    before = lost_spans()
    invoke()
    with replaced(sync_export_wait_s=0.1, export_stalled_s=0.2), held(store):
        invoke(80)
    flush_traces(store)
    count, states, spans = stored(store)

    assert lost_spans() == before
    assert (count, states, len(spans)) == (81, {"OK"}, 1)


class _Hanging(BaseHTTPRequestHandler):
    """An artifact store that takes all of a request and gives no answer."""

    until: threading.Event

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.until.wait(60)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT  # noqa: N815 - the names that the server looks for

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_uploads_that_hang_hold_up_no_other_trace(exported_in_threads: str) -> None:
    """The store of records is well, so that they are stored; only the files are not."""
    _Hanging.until = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hanging) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts/x"
        mlflow.create_experiment("with files", artifact_location=place)
        mlflow.set_experiment("with files")
        invoke()
        for _ in range(3):
            with mlflow.start_span("upload") as span:
                span.set_inputs({"file": Attachment(content_type="text/plain", content_bytes=b"x")})
        invoke(20)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and stored(exported_in_threads)[:2] != (24, {"OK"}):
            time.sleep(0.1)
        found = stored(exported_in_threads)
        _Hanging.until.set()
        server.shutdown()
    assert found[:2] == (24, {"OK"})


def test_span_that_ends_within_a_call(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever instruments the database makes spans where they are stored; in a flush, who ends one stores it."""
    monkeypatch.setenv("MLFLOW_USE_BATCH_SPAN_PROCESSOR", "false")
    inside: list[str] = []
    is_flushing = threading.Event()

    def make_span(_: object) -> None:
        if is_flushing.is_set() and not inside and threading.current_thread().name.startswith(THREAD_NAME):
            inside.append("yes")
            with mlflow.start_span("inside"):
                pass

    sqlalchemy.event.listen(sqlalchemy.Engine, "begin", make_span)
    try:
        invoke(30)
        is_flushing.set()
        mlflow.flush_trace_async_logging()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "begin", make_span)
    mlflow.flush_trace_async_logging()

    assert inside
    assert stored(exported_in_threads)[:2] == (31, {"OK"})


def test_each_flush_waits_for_itself(exported_in_threads: str) -> None:
    """One after the other, without a pause, while the file is held: a loop is held back, and its list does not run full."""
    invoke()
    mlflow.flush_trace_async_logging()
    took = []
    with replaced(flush_s=1.0, flush_stalled_s=0.2, export_stalled_s=0.5), held(exported_in_threads):
        for _ in range(4):
            invoke()
            began = time.monotonic()
            mlflow.flush_trace_async_logging()
            took.append(time.monotonic() - began)
    mlflow.flush_trace_async_logging()

    assert min(took) > 0.4
    assert max(took) < 5.0
    assert stored(exported_in_threads)[:2] == (5, {"OK"})
