"""Threads that nobody has to wait for: a store may hang in one of them while a flush, or the process, ends."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mlflow.tracing.export.async_export_queue import Task

from langchain_mlflow_cost.tracking_stores import is_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD_NAME = "langchain_mlflow_cost store"


class Turns:
    """Calls made one at a time, in whichever threads: a SQLite file takes one writer at a time.

    It has the others look for the file again and again, and at MLflow's batches of five some of its ten threads did so
    for longer than the 20 s after which they give up. With turns, 100 invocations with their export took 8 % less CPU,
    and the other threads are there for what else a trace's end takes: uploads, which may be slow, or hang.
    """

    def __init__(self) -> None:
        self._lock, self._pid = threading.RLock(), os.getpid()

    def make(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call when the one before has ended."""
        if self._pid != os.getpid():
            # Whoever held it is in the parent.
            self._lock, self._pid = threading.RLock(), os.getpid()
        # A span may end within a call, and be stored by whoever ends it.
        with self._lock:
            return call(*args, **kwargs)


_turns: dict[str, Turns] = {}


def in_turn(uri: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call of a store wait for its turn where the store is a SQLite file, whoever else writes there."""
    return partial(_turns.setdefault(uri, Turns()).make, call) if is_sqlite(uri) else call


class _Helpers:
    """Threads that make calls; used again, since none can be started when the interpreter ends (Python 3.12)."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        self._started = 0
        self._pid = os.getpid()

    @property
    def some_are_busy(self) -> bool:
        """Whether one may be free soon."""
        return self._started > len(self._idle)

    def run(self, work: Callable[[], None]) -> bool:
        """Let a thread do it; False where there is none."""
        if self._pid != os.getpid():
            # A fork has the list, and not the threads.
            self._idle, self._started, self._pid = [], 0, os.getpid()
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            try:
                threading.Thread(target=self._serve, args=(inbox,), name=THREAD_NAME, daemon=True).start()
            except RuntimeError:
                return False
            self._started += 1
        inbox.put(work)
        return True

    def _serve(self, inbox: SimpleQueue[Callable[[], None]]) -> None:
        try:
            while True:
                inbox.get()()
                self._idle.append(inbox)
        finally:
            # What it did failed, which only a bug or the end of the process brings about.
            self._started -= 1


helpers = _Helpers()
_current = threading.local()


class QueuedTask:
    """A task of MLflow's queue in one of our threads: what waits for its end can be let go before it has ended."""

    __slots__ = ("_handle", "_task", "_unfinished", "future")

    def __init__(self, handle: Callable[[Any], Any], task: Any) -> None:
        self.future: Future[Any] = Future()
        self._handle = handle
        self._task = task
        self._unfinished = [self]

    def run(self) -> None:
        """Do it, in this thread."""
        _current.task = self
        try:
            self._task.handle()
        finally:
            _current.task = None
            self.let_go()

    def let_go(self) -> None:
        """Tell the queue that it is done, as MLflow does, unless it was told before."""
        try:
            self._unfinished.pop()
        except IndexError:
            return
        # All that MLflow does when a task is done, with nothing in the task's place.
        self.future.set_result(self._handle(nothing()))


def task_of_this_thread() -> QueuedTask | None:
    """The task of MLflow's queue that this thread does."""
    return getattr(_current, "task", None)


class TaskThreads:
    """In the place of the pool that MLflow's queue hands its tasks to.

    Its threads would have to be waited for, so that each call would need a second thread that makes it. Where a graph's
    threads are at work, handing each batch from one thread to the next took 2 % of a 100-way fan-out's CPU.
    """

    def submit(self, handle: Callable[..., Any], *args: Any) -> Future[Any]:
        """Let a thread do it.

        Args:
            handle: What MLflow's queue does with a task, and to note that it is done.
            args: The task.

        Raises:
            RuntimeError: No thread can be started any more: MLflow's queue does the task by itself then.
        """
        task = QueuedTask(handle, *args)
        if not helpers.run(task.run):
            raise RuntimeError("no thread can be started")
        return task.future

    def shutdown(self, wait: bool = True) -> None:
        """Do nothing: who flushes has waited for the tasks, and nobody waits for the threads."""


def run_tasks_in_own_threads(queue: Any) -> None:
    """Let MLflow's queue of tasks hand them to threads that nobody has to wait for, also after each flush.

    Args:
        queue: MLflow's `AsyncTraceExportQueue`. One of another make keeps its own threads, and waits for ours in them.
    """
    set_up = getattr(queue, "_set_up_threads", None)
    if set_up is None:
        return

    def set_up_own() -> None:
        set_up()
        queue._worker_threadpool = TaskThreads()  # noqa: SLF001

    queue._set_up_threads = set_up_own  # noqa: SLF001
    if queue.is_active():
        queue._worker_threadpool = TaskThreads()  # noqa: SLF001


def nothing() -> Task:
    """A task that does nothing: MLflow's queue wakes up for it, and notes that one is done."""
    return Task(_do_nothing, ())


def _do_nothing() -> None:
    """Nothing."""
