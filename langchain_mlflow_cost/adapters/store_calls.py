"""What MLflow's exporter asks of its store: whoever exports waits a bounded time, in order, and what is lost is told.

MLflow tries a server that is away seven times, with pauses that double, for minutes (`MLFLOW_HTTP_REQUEST_MAX_RETRIES`,
which holds for the whole process: the user's runs and artifacts too, so it is left alone), and waits 120 s for one that
hangs. Each call is made in a thread that nobody has to wait for:

- With MLflow's queue, its tasks wait for the call as long as nobody flushes, so that an outage of some minutes costs
  nothing. A flush, and the end of the process, give up when the store has done nothing for long enough.
- Without the queue, each trace may wait for so many seconds in all; then its calls go on behind the caller's back.

The end of a trace is not stored before the spans that went into the queue before it. Else MLflow finds no mark that the
store has them, and writes all of them a second time, to `traces.json` (mlflow 3.17: 4 of 30 traces, 15 with larger
batches).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from bisect import insort
from collections import Counter
from functools import partial
from itertools import count
from operator import attrgetter
from queue import Full
from typing import TYPE_CHECKING, Any

import mlflow

from langchain_mlflow_cost.adapters.store_call import BehindError, StoreCall, will_pass
from langchain_mlflow_cost.adapters.store_outages import Outages
from langchain_mlflow_cost.adapters.store_threads import helpers, in_turn, task_of_this_thread
from langchain_mlflow_cost.adapters.store_watcher import Watcher
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.tracking_stores import answers_requests, is_server

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("langchain_mlflow_cost")

_LOOK_S = 0.1
"""Seconds after which one who waits looks around."""
_SELDOM_S = 0.5
"""The same where nobody waits but MLflow's queue."""
_MOST_CALLS = 256
"""Calls that may be on their way at once: each has a thread."""
_MOST_DEFERRED = 1_000
"""Tasks of a flush that gave up which are kept for when the store answers again."""
_AGAIN_S = 240.0
"""How long a call is made again that failed for a while only: about as long as MLflow tries a server that is away."""


class _Current(threading.local):
    call: StoreCall | None = None
    """What this thread makes."""


_current = _Current()


class StoreCalls:
    """The calls of one of MLflow's exporters.

    Args:
        exporter: An `MlflowV3SpanExporter`.
    """

    def __init__(self, exporter: Any) -> None:
        self.uri: str = exporter._client.tracking_uri  # noqa: SLF001
        self._lock = threading.Condition(threading.Lock())
        self._calls: set[StoreCall] = set()
        self._numbers = count(1)
        self._numbering = threading.Lock()
        self._pending: dict[str, set[int]] = {}
        """The numbers of the batches on their way, by the traces that have spans in them."""
        self._expected: dict[int, int] = {}
        """The numbers of batches and traces in the queue, which keeps them alive, by their identity."""
        self._left_s: dict[str, float] = {}
        """What traces may still wait where nothing waits for them in a queue."""
        self._deferred: list[StoreCall] = []
        """By number."""
        self._is_taking_up = False
        self._flushes = 0
        self._give_up_at = 0.0
        self._gave_up = False
        self._flush_ended_at = 0.0
        self._is_ending = False
        self._succeeded_at = 0.0
        self._failed_at = -1.0
        self._asked_at, self._was_well, self._is_asking = 0.0, True, False
        self._outages = Outages(self.uri)
        self._was_ill_before = False
        self.lost_spans = 0
        self.lost_ends = 0
        self._told = (0, 0)
        self._pid = os.getpid()
        self.has_queue = hasattr(exporter, "_async_queue")
        self._store_spans, self._store_end = exporter._log_spans, exporter._log_trace  # noqa: SLF001
        exporter._log_spans, exporter._log_trace = self.log_spans, self.log_trace  # noqa: SLF001
        self._exporters_client = client = exporter._client  # noqa: SLF001
        for name in ("log_spans", "start_trace"):
            setattr(client, name, partial(self._noted, in_turn(self.uri, getattr(client, name))))
        client._upload_trace_data = partial(self._noted, client._upload_trace_data)  # noqa: SLF001

    # --- what the exporter calls ------------------------------------------------------------------------------------

    def _expect(self, spans: list[Any]) -> None:
        """Let the ends of these spans' traces wait until the spans are stored: called when they go into a queue."""
        with self._lock:
            self._expected[id(spans)] = number = next(self._numbers)
            for span in spans:
                self._pending.setdefault(span.trace_id, set()).add(number)

    def _expect_end(self, trace: Any) -> None:
        """Let the end of a trace wait for the batches that went into the queue before it, and for none behind it."""
        with self._lock:
            self._expected[id(trace)] = next(self._numbers)

    def put_numbered(self, put: Callable[..., Any], task: Any, *args: Any, **kwargs: Any) -> None:
        """In the place of `Queue.put`: tasks have their numbers in the order in which the queue holds them.

        Raises:
            queue.Full: There is no room: nothing waits for the task then.
        """
        with self._numbering:
            if self._has_spans(task):
                self._expect(task.args[1])
            elif task.handler == self.log_trace:
                self._expect_end(task.args[0])
            try:
                put(task, *args, **kwargs)
            except Full:
                call = self._call_of(task)
                with self._lock:
                    self._release(call)
                raise

    def _has_spans(self, task: Any) -> bool:
        return task.handler in (self.log_spans, self.log_again)

    def _call_of(self, task: Any) -> StoreCall:
        """What a task that is not done would have called; it is no longer expected."""
        if self._has_spans(task):
            return self._batch(task.args[1])
        if task.handler == self.log_trace:
            self._expected.pop(id(task.args[0]), None)
        return StoreCall(0, [])

    def log_spans(self, experiment_id: str, spans: list[Any], *further: Any, **named: Any) -> None:
        """In the exporter's place: store spans, with whatever else it hands over (3.18: which traces are remote)."""
        self._make(self._batch(spans), partial(self._store_spans, experiment_id, spans, *further, **named))

    def log_again(self, experiment_id: str, spans: list[Any], workspace: str | None = None) -> None:
        """Store spans of one trace that were changed after they had ended.

        All batches of the trace that were on their way before go first: they may hold these spans as they were, and
        of two that the store takes at once the older might win.
        """
        self._make_in_order(self._batch(spans), partial(self._store_spans, experiment_id, spans, workspace))

    def _batch(self, spans: list[Any]) -> StoreCall:
        if id(spans) not in self._expected:
            self._expect(spans)
        number = self._expected.pop(id(spans))
        return StoreCall(len(spans), list({span.trace_id for span in spans}), number)

    def log_trace(self, trace: Any, *further: Any, **named: Any) -> None:
        """In the exporter's place: store the end of a trace, after its spans, with whatever else it hands over."""
        if id(trace) not in self._expected:
            self._expect_end(trace)
        end = StoreCall(0, [trace.info.trace_id], self._expected.pop(id(trace)))
        self._make_in_order(end, partial(self._store_end, trace, *further, **named))

    def _make_in_order(self, call: StoreCall, store: Callable[[], None]) -> None:
        """Make a call when what its trace has on its way before it is stored."""

        def in_order() -> None:
            self._wait_for_spans(call)
            store()

        call.waits = True
        self._make(call, in_order)

    def _wait_for_spans(self, call: StoreCall) -> None:
        """Wait, for a bounded time, until what a call comes after is stored.

        Raises:
            BehindError: It is set aside.
        """
        until = time.monotonic() + _AGAIN_S
        with self._lock:
            while self._is_blocked(call) and time.monotonic() < until:
                if self._is_behind(call):
                    raise BehindError
                self._lock.wait(_LOOK_S)

    def _is_blocked(self, call: StoreCall) -> bool:
        """Whether something is on its way that a call comes after; with the lock."""
        return call.waits and min(self._pending.get(call.trace_ids[0], ()), default=call.number) < call.number

    def _is_behind(self, call: StoreCall) -> bool:
        """Whether that is set aside; with the lock."""
        return call.waits and any(
            each.spans and each.number < call.number and call.trace_ids[0] in each.trace_ids for each in self._deferred
        )

    def _noted(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call of the exporter's client, and note when it fails: the exporter keeps that to itself."""
        until, pause_s = time.monotonic() + _AGAIN_S, 0.25
        while True:
            try:
                return original(*args, **kwargs)
            except Exception as error:
                if will_pass(error):
                    self._forget_version()
                    if time.monotonic() < until:
                        time.sleep(pause_s)
                        pause_s = min(2 * pause_s, 2.0)
                        continue
                    error = ConnectionError(str(error))
                elif isinstance(error, NotImplementedError):
                    # The store has no such thing, and MLflow knows another way.
                    raise
                if _current.call is not None:
                    _current.call.failed = True
                raise error from None

    def _forget_version(self) -> None:
        """Let MLflow ask for the server's version again: it remembers for good that it was not told."""
        with contextlib.suppress(AttributeError):
            self._exporters_client.store._get_server_version.cache_clear()  # noqa: SLF001

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _make(self, call: StoreCall, store: Callable[[], None]) -> None:
        call.set_make(store)
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock:
            is_behind = self._is_behind(call)
        if is_behind or len(self._calls) >= _MOST_CALLS or self.gives_up():
            self._set_aside(call)
        elif (task := task_of_this_thread()) is not None:
            # Within another call, it is that one's task.
            call.let_go = task.let_go if _current.call is None else None
            with self._lock:
                self._calls.add(call)
            _watcher.wake()
            self._run(call)
        elif not self._start_in_time(call):
            self._set_aside(call)
        elif self.has_queue:
            self._wait_in_queue(call)
        else:
            self._wait_for_caller(call)

    def _wait_in_queue(self, call: StoreCall) -> None:
        """Wait in a thread of MLflow's, which does a task by itself when it cannot hand it over."""
        while not call.done.wait(_LOOK_S) and self._is_worth_waiting(call):
            pass

    def look_after_calls(self) -> bool:
        """Let the tasks end whose calls are not worth waiting for; say whether there are any that are."""
        for call in (calls := list(self._calls)):
            # Of one that a flush has let go nobody waits for the end, but for the store.
            if call.let_go is None:
                self._make_again(call)
            elif not self._is_worth_waiting(call):
                call.end_task()
        return bool(calls)

    def _is_worth_waiting(self, call: StoreCall) -> bool:
        """Whether who waits for a call goes on doing so; who does not has it counted as lost, until it is stored."""
        if self.gives_up():
            self._count(call)
            return False
        if time.monotonic() - call.waited_at < limits().export_stalled_s:
            return True
        if self._is_well():
            self._make_again(call)
        elif not is_server(self.uri) or self._was_ill_before:
            self._outages.tell_begin(self._lock)
        return True

    def _make_again(self, call: StoreCall) -> None:
        """Make a call anew when its outage has ended: MLflow's own pause between two tries may be a minute by now."""
        now = time.monotonic()
        is_late = now - call.waited_at > limits().export_stalled_s
        if is_late and self._is_well() and self._outages.ended_since(call.waited_at):
            call.waited_at = now
            self._start(call)

    def _wait_for_caller(self, call: StoreCall) -> None:
        key = call.trace_ids[0] if call.trace_ids else ""
        with self._lock:
            left_s = self._left_s.get(key, limits().sync_export_wait_s)
        # Who has waited in vain lets the next ones go at once.
        wait_s = 0.0 if self._is_away() else left_s
        began = time.monotonic()
        is_done = call.done.wait(wait_s)
        spent_s = time.monotonic() - began
        with self._lock:
            self._left_s[key] = left_s - spent_s
            while len(self._left_s) > _MOST_DEFERRED:
                self._left_s.pop(next(iter(self._left_s)))
        if not is_done and wait_s > 0:
            self._outages.tell_begin(self._lock)

    def _start_in_time(self, call: StoreCall) -> bool:
        """Start it when a thread is free: when the interpreter ends, none can be started any more (Python 3.12)."""
        while not self._start(call):
            if not (self.has_queue and helpers.some_are_busy) or self.gives_up():
                return False
            time.sleep(_LOOK_S)
        return True

    def _start(self, call: StoreCall) -> bool:
        with self._lock:
            if call.done.is_set():
                return True
            self._calls.add(call)
        if helpers.run(partial(self._run, call)):
            return True
        self._calls.discard(call)
        return False

    def _run(self, call: StoreCall) -> None:
        if call.done.is_set():
            self._calls.discard(call)
            return
        outer, _current.call = _current.call, call
        call.failed = False
        try:
            call.make()
        except BehindError:
            self._set_aside(call)
            call.end_task()
            return
        except Exception as error:
            call.failed = True
            log.debug("export failed", exc_info=error)
        finally:
            _current.call = outer
        self._ended(call)

    def _ended(self, call: StoreCall) -> None:
        now = time.monotonic()
        with self._lock:
            if call.done.is_set():
                return
            call.done.set()
            self._calls.discard(call)
            self._release(call)
            if call.failed:
                self._failed_at = now
                if not call.is_counted:
                    self._lose(call)
            else:
                self._succeeded_at = now
                self._gave_up = False
                if call.is_counted:
                    self._lose(call, -1)
        if not call.failed:
            self._outages.tell_end(self._lock)
            self._take_up()
        call.end_task()

    def _release(self, call: StoreCall) -> None:
        if call.spans:
            for trace_id in call.trace_ids:
                numbers = self._pending.get(trace_id, set())
                numbers.discard(call.number)
                if not numbers:
                    self._pending.pop(trace_id, None)
            self._lock.notify_all()

    @property
    def is_flushing(self) -> bool:
        """Whether somebody waits until all is stored."""
        return self._flushes > 0

    # --- is it there? -----------------------------------------------------------------------------------------------

    def _is_away(self) -> bool:
        """Whether a call has been on its way for too long, or the last one failed."""
        late = time.monotonic() - limits().export_stalled_s
        with self._lock:
            is_late = any(self._succeeded_at < call.started < late for call in self._calls)
        return is_late or (self._failed_at > self._succeeded_at and self._failed_at > late)

    def _is_well(self) -> bool:
        """Whether a server answered lately, without waiting for it; of another store, whether it stores."""
        if not is_server(self.uri):
            return not self._is_away()
        with self._lock:
            is_due = not self._is_asking and time.monotonic() - self._asked_at > 1.0
            self._is_asking |= is_due
        if is_due and not helpers.run(self._ask_health):
            self._is_asking = False
        return self._was_well

    def _ask_health(self) -> None:
        before, self._was_well = self._was_well, answers_requests(self.uri)
        # A busy machine may be late once.
        self._was_ill_before = not before and not self._was_well
        if self._was_well:
            self._outages.tell_end(self._lock)
        self._asked_at, self._is_asking = time.monotonic(), False

    def gives_up(self) -> bool:
        """Whether somebody flushes, or the process ends, and the store has done nothing for long enough."""
        # The first thing that an interpreter does at its end, before it waits for threads.
        if not self._is_ending and not threading.main_thread().is_alive():
            self._is_ending = True
            self.begin_flush()
        if not self._flushes:
            return False
        now = time.monotonic()
        if now < self._give_up_at or now - self._succeeded_at < limits().flush_stalled_s:
            return False
        # It may be slow, or new, and this machine busy.
        if is_server(self.uri) and now < self._give_up_at + limits().slow_server_s and self._is_well():
            return False
        self._gave_up = True
        return True

    def begin_flush(self, *, follows: bool = False) -> None:
        """Somebody waits from now on until all is stored.

        Args:
            follows: It is the second part of a flush, which waits in vain but once.
        """
        with self._lock:
            self._flushes += 1
            now = time.monotonic()
            goes_on = follows and self._gave_up and now < self._flush_ended_at + 1.0
            if self._flushes == 1 and not (goes_on and threading.main_thread().is_alive()):
                self._give_up_at = now + (limits().export_stalled_s if self._gave_up else limits().flush_s)
        if self._deferred and self._is_well():
            self._take_up()

    def end_flush(self, *, tells_of_losses: bool = True) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._flushes -= 1
            self._flush_ended_at = time.monotonic()
        if self._gave_up and tells_of_losses:
            self._tell_losses()

    def drain(self) -> None:
        """Wait for the calls that are on their way, as a flush does."""
        self.begin_flush()
        try:
            self.wait_until_stored()
        finally:
            self.end_flush()

    def wait_until_stored(self) -> None:
        """Wait for the calls that are on their way, and for those that were set aside, while somebody flushes."""
        while not self.gives_up():
            with self._lock:  # a call may be on its way from one to the other
                calls = [*self._calls, *self._deferred]
            if not calls:
                return
            if not self._calls:
                self._take_up()
                if not self._is_taking_up:
                    break
            calls[0].done.wait(_LOOK_S)

    # --- what is lost -----------------------------------------------------------------------------------------------

    def lose(self, task: Any) -> None:
        """A task of MLflow's queue for which there was no room."""
        call = self._call_of(task)
        with self._lock:
            self._release(call)
            self._lose(call)

    def _set_aside(self, call: StoreCall) -> None:
        """Keep it for when the store answers again; lose it where there is no room, or no time."""
        is_over = self._is_ending and self.gives_up()
        with self._lock:
            self._calls.discard(call)
            if call.done.is_set() or call in self._deferred:
                return
            if is_over or len(self._deferred) >= _MOST_DEFERRED:
                self._release(call)
            else:
                insort(self._deferred, call, key=attrgetter("number"))
            if not call.is_counted:
                call.is_counted = True
                self._lose(call)

    def _take_up(self) -> None:
        """Make the calls that were set aside, one after the other: the store has only just come back."""
        with self._lock:
            if not self._deferred or self._is_taking_up:
                return
            self._is_taking_up = True
        if not helpers.run(self._make_deferred):
            self._is_taking_up = False

    def _make_deferred(self) -> None:
        while (call := self._next_deferred()) is not None:
            self._run(call)
            if call.failed:
                self._is_taking_up = False
                return

    def _next_deferred(self) -> StoreCall | None:
        """The first that need not wait for another, on its way again; None when there is none left."""
        with self._lock:
            while self._deferred:
                call = next((each for each in self._deferred if not self._is_blocked(each)), None)
                if call is not None:
                    self._deferred.remove(call)
                    call.started = call.waited_at = time.monotonic()
                    self._calls.add(call)
                    return call
                self._lock.wait(_LOOK_S)
            # With the lock: whoever sets one aside from now on has it taken up anew.
            self._is_taking_up = False
        return None

    def _count(self, call: StoreCall) -> None:
        """It goes on, and nobody waits for it any more."""
        with self._lock:
            if not call.done.is_set() and not call.is_counted:
                call.is_counted = True
                self._lose(call)

    def _lose(self, call: StoreCall, many: int = 1) -> None:
        _lost["spans"] += many * call.spans
        self.lost_spans += many * call.spans
        self.lost_ends += many * (not call.spans)

    def _tell_losses(self) -> None:
        with self._lock:
            lost = self.lost_spans, self.lost_ends
            is_new, self._told = lost != self._told and any(lost), lost
        if is_new:
            log.warning(
                "langchain_mlflow_cost: %d spans and the ends of %d traces are not stored so far: the store %s did not "
                "take them in time",
                *lost,
                without_credentials(self.uri),
            )

    def end(self) -> None:
        """The process ends: wait for the last time, and say what is lost."""
        self._is_ending = True
        if self._calls or self._deferred:
            self.drain()
        for call in list(self._calls):
            self._count(call)
        self._tell_losses()

    def _after_fork(self) -> None:
        # Whoever made the calls, or held the lock, is in the parent.
        self._lock, self._numbering = threading.Condition(threading.Lock()), threading.Lock()
        self._calls, self._deferred, self._pid = set(), [], os.getpid()
        self._pending.clear()
        self._expected.clear()
        self._flushes = 0
        self.lost_spans = self.lost_ends = 0


_all: weakref.WeakSet[StoreCalls] = weakref.WeakSet()


def _stores() -> list[StoreCalls]:
    while True:
        # Another thread may just have added one.
        with contextlib.suppress(RuntimeError):
            return list(_all)


_watcher = Watcher(_stores, _LOOK_S, _SELDOM_S)
_lost = Counter[str]()


@atexit.register
def _at_end() -> None:
    for calls in _stores():
        calls.end()


def bound_calls(processor: Any) -> StoreCalls:
    """Let a processor's exporter call its store through here, and a flush end in time; the same if it does already.

    Raises:
        AttributeError: It is no processor of MLflow's, or not as expected.
    """
    exporter = processor.span_exporter
    known: StoreCalls | None = getattr(exporter, "lmc_calls", None)
    if known is not None:
        return known
    client = exporter._client  # noqa: SLF001
    for name in ("log_spans", "start_trace", "_upload_trace_data", "tracking_uri"):
        getattr(client, name)
    calls = StoreCalls(exporter)
    exporter.lmc_calls = calls
    _all.add(calls)
    # What the processor hands over is on its way through the queue, whose flush comes next and tells what is lost.
    tells = not calls.has_queue
    for owner, name, tells_of_losses in (
        (processor, "force_flush", tells),
        (processor, "shutdown", tells),
        (getattr(exporter, "_async_queue", None), "flush", True),
    ):
        if owner is not None:
            setattr(owner, name, partial(_flushing, calls, tells_of_losses, getattr(owner, name)))
    return calls


def _flushing(calls: StoreCalls, tells_of_losses: bool, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # MLflow flushes the processor, and then the queue.
    calls.begin_flush(follows=tells_of_losses and calls.has_queue)
    try:
        done = original(*args, **kwargs)
        if tells_of_losses and calls.has_queue:
            calls.wait_until_stored()
        return done
    finally:
        calls.end_flush(tells_of_losses=tells_of_losses)


def flush_traces(uri: str) -> None:
    """Wait, for a bounded time, until all that was exported to a store is there, with MLflow's queue or without.

    Args:
        uri: The store's. Another may be away, and its calls are made again for minutes.
    """
    mlflow.flush_trace_async_logging()
    for calls in _stores():
        if calls.uri == uri:
            calls.drain()


def lost_in_calls() -> int:
    """Spans of this process that a store did not take."""
    return _lost["spans"]
