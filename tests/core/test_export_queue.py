"""More spans than the store takes at once: whoever ends them waits, for a bounded time, and a loss is told."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypedDict

import mlflow
import pytest
from langgraph.graph import START, StateGraph
from mlflow.tracing import provider
from mlflow.tracking._tracking_service.utils import _tracking_store_registry
from stored_traces import KeepingNothing, only_trace
from ways import given

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.adapters import export_queue, spans
from langchain_mlflow_cost.adapters.export_queue import Losses, Patience, lost_spans
from langchain_mlflow_cost.adapters.store_calls import lost_in_calls
from langchain_mlflow_cost.adapters.store_threads import THREAD_NAME
from langchain_mlflow_cost.limits import limits, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import TraceInfo

PREFIX = "MLFLOW_ASYNC_TRACE_LOGGING_"
OTEL_LIMIT = 2048
"""Spans that OpenTelemetry's queue holds; MLflow has no setting for it."""
OWN_SPANS = 2
"""The graph and its node."""


def one_task_at_a_time(monkeypatch: pytest.MonkeyPatch, *, batch: int, tasks: int = 1) -> None:
    """Let one thread write what MLflow exports, with room for `tasks` of at most `batch` spans each before it."""
    for name, value in {"MAX_QUEUE_SIZE": tasks, "MAX_WORKERS": 1, "MAX_SPAN_BATCH_SIZE": batch}.items():
        monkeypatch.setenv(PREFIX + name, str(value))


class Count(TypedDict):
    spans: int


def graph_of_spans(ends: list[tuple[int, int, int]] | None = None) -> Any:
    """A node that makes as many spans as it is asked for; `ends` hears of each: asked to end, its end, back."""

    def node(state: Count) -> dict[str, Any]:
        for number in range(state["spans"]):
            span = mlflow.start_span_no_context(f"span {number}", parent_span=mlflow.get_current_active_span())
            asked = time.time_ns()
            span.end()
            if ends is not None:
                ends.append((asked, span.end_time_ns, time.time_ns()))
        return {}

    builder = StateGraph(Count)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    return builder.compile()


def names(count: int) -> set[str]:
    return {"LangGraph", "work", *(f"span {number}" for number in range(count))}


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_between_the_queues(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches for which MLflow's queue of tasks has no room wait for it: by itself it throws them away."""
    one_task_at_a_time(monkeypatch, batch=5)
    graph_of_spans().invoke({"spans": 100}, given(MlflowCostHandler()))

    assert {span.name for span in only_trace().data.spans} == names(100)


def test_burst_of_a_held_trace(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace with a private node ends all at once; more spans than the queues hold are all stored."""
    one_task_at_a_time(monkeypatch, batch=256)
    before = lost_spans()
    with replaced(export_wait_s=120.0, export_stalled_s=120.0):  # the machine may be slow
        graph_of_spans().invoke({"spans": 3_200}, given(MlflowCostHandler({"nodes": {"work": {"log_prompts": False}}})))

    assert {span.name for span in only_trace().data.spans} == names(3_200)
    assert lost_spans() == before


def test_without_batches(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each span is a task of its own, whoever ends it waits for room in the queue of tasks."""
    one_task_at_a_time(monkeypatch, batch=5, tasks=8)
    monkeypatch.setenv("MLFLOW_USE_BATCH_SPAN_PROCESSOR", "false")
    with replaced(export_wait_s=120.0, export_stalled_s=120.0):
        graph_of_spans().invoke({"spans": 40}, given(MlflowCostHandler()))

    assert {span.name for span in only_trace().data.spans} == names(40)


def test_no_thread_can_be_started(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter (Python 3.12) batches go through the threads that there are, one after the other."""
    monkeypatch.setenv(PREFIX + "MAX_SPAN_BATCH_SIZE", "1")
    handler = MlflowCostHandler()
    graph = graph_of_spans()
    graph.invoke({"spans": 1}, given(handler))
    mlflow.flush_trace_async_logging()
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name == THREAD_NAME:
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    before = lost_spans()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_others)
        graph.invoke({"spans": 60}, given(handler))
        mlflow.flush_trace_async_logging()

    stored = mlflow.search_traces(return_type="list")
    assert sorted(len(trace.data.spans) for trace in stored) == [1 + OWN_SPANS, 60 + OWN_SPANS]
    assert lost_spans() == before


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning", "ignore:.*multi-threaded:DeprecationWarning")
def test_forked_process_waits_for_nobody(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child inherits queues without MLflow's threads: it ends its spans, and does not wait for them to be taken."""
    one_task_at_a_time(monkeypatch, batch=5)
    handler = MlflowCostHandler()
    graph = graph_of_spans()
    graph.invoke({"spans": 20}, given(handler))
    mlflow.flush_trace_async_logging()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            graph.invoke({"spans": 100}, given(handler))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert status == 0


def arguments(record: logging.LogRecord) -> Any:
    """What is told in a line, before it is put into words."""
    return record.args


# --- a store that does not answer -------------------------------------------------------------------------------------


class GatedStore(KeepingNothing):
    """Takes nothing until its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.spans: list[str] = []

    def log_spans(self, location: str, spans: list[Any], tracking_uri: str | None = None) -> list[Any]:
        self.gate.wait()
        self.spans.extend(span.name for span in spans)
        return spans

    def start_trace(self, trace_info: TraceInfo) -> TraceInfo:
        self.gate.wait()
        return super().start_trace(trace_info)


@pytest.fixture
def gated(clean_mlflow: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatedStore]:
    """The store that MLflow exports to during the test, shut; one task at a time, in batches of 64."""
    store = GatedStore()  # type: ignore[abstract]  # MLflow's export asks no more of a store than it has
    one_task_at_a_time(monkeypatch, batch=64)
    # No public function registers a scheme but an entry point, which needs an installed package.
    uri = f"gated{id(store)}"
    _tracking_store_registry.register(uri, lambda *_, **__: store)
    mlflow.set_tracking_uri(f"{uri}://here")
    yield store
    store.gate.set()


def test_application_goes_on(gated: GatedStore, caplog: pytest.LogCaptureFixture) -> None:
    """A store that takes nothing costs an invocation a bounded time, and each lost span is counted and told of."""
    made, before, before_in_queues = OTEL_LIMIT + 400, lost_spans(), lost_spans() - lost_in_calls()
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "langchain_mlflow_cost"):
        graph_of_spans().invoke({"spans": made - OWN_SPANS}, given(MlflowCostHandler()))
    elapsed_s = time.monotonic() - started
    gated.gate.set()
    mlflow.flush_trace_async_logging()
    told = [arguments(record)[0] for record in caplog.records if "lost so far" in record.msg and record.args]

    lost = lost_spans() - before
    assert elapsed_s < limits().export_wait_s + 60  # what making the spans may take on a busy machine
    assert lost > 100
    assert len(gated.spans) + lost == made
    assert told == [count for count in (1, 10, 100, 1_000) if before_in_queues < count <= before_in_queues + lost]


def test_store_hangs_when_no_thread_can_be_started(gated: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter (Python 3.12) a flush gives up in time, though all threads hang in the store."""
    monkeypatch.setenv(PREFIX + "MAX_WORKERS", "10")
    monkeypatch.setenv(PREFIX + "MAX_SPAN_BATCH_SIZE", "1")
    monkeypatch.setenv(PREFIX + "MAX_QUEUE_SIZE", "100")
    handler, graph = MlflowCostHandler(), graph_of_spans()
    graph.invoke({"spans": 20}, given(handler))
    gated.gate.set()
    mlflow.flush_trace_async_logging()
    gated.gate.clear()
    # Long enough that whoever looked after those calls has nothing to do.
    time.sleep(2.0)
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith(THREAD_NAME):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    with monkeypatch.context() as patched, replaced(flush_s=1.0, flush_stalled_s=0.5):
        patched.setattr(threading.Thread, "start", start_others)
        graph.invoke({"spans": 20}, given(handler))
        flush = threading.Thread(target=mlflow.flush_trace_async_logging, daemon=True)
        flush.start()
        flush.join(30)
        gave_up = not flush.is_alive()
        gated.gate.set()
        flush.join(30)

    assert gave_up


def test_dropped_task_holds_no_end(gated: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a trace does not wait for spans for which MLflow's queue had no room."""
    monkeypatch.setenv("MLFLOW_USE_BATCH_SPAN_PROCESSOR", "false")
    before = lost_spans()
    with replaced(export_wait_s=0.1):
        graph_of_spans().invoke({"spans": 30}, given(MlflowCostHandler()))
    assert lost_spans() > before
    gated.gate.set()
    started = time.monotonic()
    graph_of_spans().invoke({"spans": 0}, given(MlflowCostHandler()))
    mlflow.flush_trace_async_logging()

    (processor,) = (
        one for one in provider.provider.get()._active_span_processor._span_processors if hasattr(one, "span_exporter")
    )
    assert processor.span_exporter.lmc_calls._pending == {}
    assert time.monotonic() - started < 60


def test_loss_is_told_at_each_power_of_ten(caplog: pytest.LogCaptureFixture) -> None:
    """A loss is told once for the first span, the tenth, the hundredth; with what can be done about it."""
    losses = Losses()
    with caplog.at_level(logging.WARNING, "langchain_mlflow_cost"):
        for _ in range(120):
            losses.add(OTEL_LIMIT)

    assert [arguments(record)[:2] for record in caplog.records if record.args] == [
        (n, OTEL_LIMIT) for n in (1, 10, 100)
    ]
    assert f"{PREFIX}MAX_QUEUE_SIZE" in caplog.text
    assert f"{PREFIX}MAX_SPAN_BATCH_SIZE" in caplog.text


def test_waiting_is_not_in_the_span(gated: GatedStore) -> None:
    """A span that waited for room ended when its work did, not when there was room."""
    ends: list[tuple[int, int, int]] = []
    graph_of_spans(ends).invoke({"spans": OTEL_LIMIT + 100}, given(MlflowCostHandler()))
    asked, end, back = max(ends, key=lambda times: times[2] - times[0])

    assert back - asked > limits().export_wait_s * 0.9e9
    assert end - asked < (back - asked) / 2


# --- how long -------------------------------------------------------------------------------------------------------


class Queue(SimpleNamespace):
    """A full queue from which something is taken each time it is told to wake up, `taken` in all."""

    high, limit = 10, 12

    def __init__(self, *, taken: int = 0, served: bool = True, moved_at: float = 0.0, full_since: float = -1.0) -> None:
        super().__init__(
            waiting=[0] * 12, taken=taken, served=served, moved_at=moved_at, full_since=full_since, woken=0
        )

    def is_served(self) -> bool:
        return bool(self.served)

    def wake(self) -> None:
        self.woken += 1
        if self.taken:
            self.taken -= 1
            self.waiting.pop()
            self.moved_at = time.monotonic()


LONG_AGO = limits().export_stalled_s * 1.5


@pytest.mark.parametrize(
    ("queue", "woken", "lost"),
    [
        (lambda now: Queue(taken=3), 3, 0),
        (lambda now: Queue(taken=2, served=False), 0, 1),
        (lambda now: Queue(taken=3, moved_at=now - 2 * LONG_AGO, full_since=now - LONG_AGO), 0, 1),
        (lambda now: Queue(taken=3, moved_at=now - LONG_AGO, full_since=now - 2 * LONG_AGO), 3, 0),
        (lambda now: Queue(taken=3, moved_at=now, full_since=now - LONG_AGO), 3, 0),
    ],
    ids=["room", "nobody serves", "stalled", "idle until now", "slow"],
)
def test_when_it_waits(queue: Any, woken: int, lost: int) -> None:
    """It wakes the export until there is room; not where nobody makes room, nor where none was made for long."""
    before, full = lost_spans(), queue(time.monotonic())
    export_queue._wait(full, Patience())

    assert (full.woken, lost_spans() - before) == (woken, lost)


def test_patience_ends() -> None:
    """Waits of one invocation add up, and when they reach the bound it waits no more."""
    patience = Patience()
    patience.left_s = 0.01
    first, second = Queue(), Queue()
    export_queue._wait(first, patience)
    export_queue._wait(second, patience)

    assert first.woken > 0
    assert second.woken == 0


@pytest.mark.parametrize(
    ("stretches", "spent_s"),
    [
        ([(1.0, 1.25), (2.0, 2.25)], 0.5),
        ([(1.0, 1.25), (1.0, 1.25)], 0.25),
        ([(1.0, 1.25), (1.125, 1.5)], 0.5),
        ([(1.0, 1.5), (1.125, 1.25)], 0.5),
    ],
    ids=["one after the other", "side by side", "overlapping", "within"],
)
def test_time_counts_once(stretches: list[tuple[float, float]], spent_s: float) -> None:
    """Threads of one invocation that wait at the same time use its patience up once."""
    patience = Patience()
    for since, until in stretches:
        patience.spend(since, until)

    assert limits().export_wait_s - patience.left_s == spent_s


# --- where there is nothing to wait for -------------------------------------------------------------------------------


def test_synchronous_export_has_no_backlog(store: str) -> None:
    """Where MLflow stores each span before it goes on, nothing is looked at."""
    with mlflow.start_span("a") as span:
        assert export_queue.backlogs_of(spans.otel(span)) == ()


class Missing:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize("name", ["span_exporter", "_batch_delegate", "_async_queue", "_batch_processor"])
def test_changed_mlflow_has_no_backlog(name: str, exported_in_threads: str) -> None:
    """A processor of which a name is gone is left as it is, without an exception."""
    with mlflow.start_span("a"):
        processor = provider.provider.get()._active_span_processor._span_processors[-1]
    exporter, delegate = processor.span_exporter, processor._batch_delegate
    changed = {"span_exporter": exporter, "_batch_delegate": delegate}
    if name == "_async_queue":
        changed["span_exporter"] = Missing()
    elif name == "_batch_processor":
        changed["_batch_delegate"] = Missing()
    else:
        del changed[name]

    assert export_queue._backlog_of(Missing(**changed)) is None
    assert export_queue._backlog_of(processor) is not None
