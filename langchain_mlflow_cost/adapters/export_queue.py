"""Whoever ends a span waits for the export, for a bounded time, instead of losing spans in a full queue."""

from __future__ import annotations

import logging
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.adapters.prompt_flush import flush_promptly, is_full
from langchain_mlflow_cost.adapters.store_calls import StoreCalls, bound_calls, lost_in_calls
from langchain_mlflow_cost.adapters.store_threads import THREAD_NAME, run_tasks_in_own_threads
from langchain_mlflow_cost.limits import limits

if TYPE_CHECKING:
    from collections.abc import Sized

    from opentelemetry.sdk.trace import Span as SdkSpan

log = logging.getLogger("langchain_mlflow_cost")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01


class Patience:
    """How long one invocation may still wait."""

    __slots__ = ("_counted_until", "left_s")

    def __init__(self) -> None:
        self.left_s = limits().export_wait_s
        self._counted_until = 0.0

    def spend(self, since: float, now: float) -> None:
        """Count a stretch of waiting, in seconds of `time.monotonic`, but for what another thread has counted.

        There is no lock: one that is held while the process forks is held in the child for ever. Two threads that meet
        here count a pause twice, or not at all.
        """
        self.left_s -= max(now - max(since, self._counted_until), 0.0)
        self._counted_until = max(now, self._counted_until)


def wait_for_room(span: SdkSpan, patience: Patience) -> None:
    """Come back when the queues that this span will go into have room, or when the patience is used up."""
    for backlog in backlogs_of(span):
        if len(backlog.waiting) >= backlog.high:
            _wait(backlog, patience)


def _wait(backlog: Backlog, patience: Patience) -> None:
    now = time.monotonic()
    if backlog.moved_at > backlog.full_since:
        backlog.full_since = now
    pause, stalled_s = _FIRST_PAUSE_S, limits().export_stalled_s
    while (
        len(backlog.waiting) >= backlog.high
        and patience.left_s > 0
        and now - max(backlog.full_since, backlog.moved_at) < stalled_s
        and backlog.is_served()
    ):
        backlog.wake()
        # Another thread may have used the rest up since.
        time.sleep(max(min(pause, patience.left_s), 0.0))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        before, now = now, time.monotonic()
        patience.spend(before, now)
    if len(backlog.waiting) >= backlog.limit:
        _losses.add(backlog.limit)


class Losses:
    """Counts lost spans, and tells of the first, the tenth, the hundredth and so on."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, limit: int) -> None:
        """Count one span that found a full queue.

        Args:
            limit: Spans or tasks that this queue holds.
        """
        self.count += 1
        if str(self.count).strip("0") == "1":
            log.warning(
                "langchain_mlflow_cost: %d spans lost so far; MLflow's queue of %d was full after a wait of up to "
                "%g s. The store takes fewer spans than are made: export more of them at a time "
                "(MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE), let more of them wait "
                "(MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE), or see whether the store answers at all",
                self.count,
                limit,
                limits().export_wait_s,
            )


_losses = Losses()


def lost_spans() -> int:
    """Spans of this process that found a full queue, made another leave it, or that the store did not take."""
    return _losses.count + lost_in_calls()


# --- the queues themselves ------------------------------------------------------------------------------------------

_patch_lock = threading.Lock()

EXPORT_THREADS = ("OtelBatchSpanRecordProcessor", "MLflowTraceLoggingConsumer", "MlflowTraceLoggingWorker", THREAD_NAME)
"""How the names begin of the threads that take spans out of the queues: whoever waits on one waits for itself."""
_ROOM_LOOK_S = 0.1
"""Seconds after which a thread that waits for room looks whether there is still somebody to make it."""


class Backlog:
    """What waits in one of MLflow's processors for its export threads.

    Two queues stand one behind the other, and both throw away without a word what finds no room: OpenTelemetry's of
    spans (2,048, or one batch if that is more; no setting of its own), and MLflow's of tasks
    (`MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE`), each a batch of spans or the end of a trace. Once a processor has a
    backlog, the thread between the two waits for room in the second, so that spans can only pile up in the first,
    where whoever ends a span can see them. Without that thread (`MLFLOW_USE_BATCH_SPAN_PROCESSOR=false`) there is but
    the second.
    """

    __slots__ = ("batch", "full_since", "high", "limit", "moved_at", "queue", "waiting")

    def __init__(self, queue: Any, batch: Any) -> None:
        """Take what is looked at for each span out of the objects it is in.

        Args:
            queue: MLflow's queue of tasks.
            batch: OpenTelemetry's queue of spans before it, or None.
        """
        self.queue = queue
        self.batch = batch
        tasks = queue._queue  # noqa: SLF001
        self.waiting: Sized = tasks.queue if batch is None else batch._queue  # noqa: SLF001
        limit: int = tasks.maxsize if batch is None else batch._max_queue_size  # noqa: SLF001
        self.limit = limit if limit > 0 else sys.maxsize
        """Beyond this many, spans are lost."""
        batch_size: int = 1 if batch is None else batch._max_export_batch_size  # noqa: SLF001
        # An eighth is left to those who look at the same moment. The thread does not stir below one batch.
        self.high = max(self.limit - self.limit // 8, min(batch_size, self.limit))
        """From this many on, it is time to wait."""
        self.moved_at = 0.0
        """When the next queue last took something, in seconds of `time.monotonic`."""
        self.full_since = -1.0
        """When somebody first waited since then."""

    def wake(self) -> None:
        """Let the thread that empties the queue do so now: it may sleep for an interval, with a full queue."""
        if self.batch is not None:
            self.batch._worker_awaken.set()  # noqa: SLF001

    def is_served(self) -> bool:
        """Whether a thread, and not this one, empties the queue: there is none after a shutdown, or in a fork."""
        queue, batch = self.queue, self.batch
        taker = getattr(queue, "_consumer_thread", None) if batch is None else batch._worker_thread  # noqa: SLF001
        return taker is not None and taker.is_alive() and not threading.current_thread().name.startswith(EXPORT_THREADS)


_backlogs: tuple[Any, tuple[Backlog, ...]] = ((), ())


def backlogs_of(span: SdkSpan) -> tuple[Backlog, ...]:
    """The queues that a span goes into when it ends; none where it is exported at once, or by others than MLflow."""
    global _backlogs  # noqa: PLW0603 - a cache of one, replaced whole
    processors = getattr(span._span_processor, "_span_processors", ())  # noqa: SLF001
    known, backlogs = _backlogs
    if processors is not known:
        found = [_backlog_of(processor) for processor in processors]
        backlogs = tuple(backlog for backlog in found if backlog is not None)
        _backlogs = (processors, backlogs)
    return backlogs


def _backlog_of(processor: Any) -> Backlog | None:
    try:
        calls = bound_calls(processor)
    except (AttributeError, TypeError):
        # Another's processor, or an MLflow of another make.
        calls = None
    try:
        queue = processor.span_exporter._async_queue  # noqa: SLF001
        delegate = processor._batch_delegate  # noqa: SLF001
        batch = None if delegate is None else delegate._batch_processor  # noqa: SLF001
        with _patch_lock:
            backlog: Backlog | None = getattr(queue, "lmc_backlog", None)
            if backlog is None:
                backlog = Backlog(queue, batch)
                backlog.is_served()
                backlog.wake()
                _take_time(queue, backlog, calls, wait=batch is not None)
                flush_promptly(queue)
                if calls is not None:
                    run_tasks_in_own_threads(queue)
                queue.lmc_backlog = backlog
    except (AttributeError, TypeError):
        # Another's processor, one that exports at once, or an MLflow of another make: it drops spans as it does anyway.
        return None
    return backlog


def _take_time(queue: Any, backlog: Backlog, calls: StoreCalls | None, *, wait: bool) -> None:
    """Make MLflow's queue of tasks note when it takes one, and wait for room on a thread that may.

    Args:
        queue: The queue.
        backlog: What notes it.
        calls: Where the tasks end, if that is known: it numbers them.
        wait: Nobody's request waits for `put`: a thread of the export calls it, or somebody who flushes.
    """
    put, tasks = queue.put, queue._queue  # noqa: SLF001

    def has_room() -> bool:
        return not is_full(tasks)

    def may_wait() -> bool:
        # A queue that is not active is being flushed: `put` does the task itself. One without its thread, in a fork,
        # stays full for ever.
        return bool(wait and queue.is_active() and queue._consumer_thread.is_alive())  # noqa: SLF001

    def put_in_time(task: Any) -> None:
        while not has_room() and may_wait() and not (calls is not None and calls.gives_up()):
            with tasks.not_full:
                tasks.not_full.wait_for(has_room, _ROOM_LOOK_S)
        if has_room():
            backlog.moved_at = time.monotonic()
        elif calls is not None and may_wait():
            calls.lose(task)
            return
        put(task)

    queue.put = put_in_time
    if calls is not None:
        tasks.put = partial(calls.put_numbered, tasks.put)
