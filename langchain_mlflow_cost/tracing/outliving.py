"""Threads that go on in a trace when its invocations have ended: a held trace waits for them, for a bounded time.

A sync node outlives its cancelled `ainvoke`; a node may leave a thread behind that has its context
(`copy_context().run`, LangChain's executors, OpenTelemetry's instrumentation of threads). What a model is told there is
private, too, and known only then.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from contextvars import Context, ContextVar
from itertools import chain, islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.adapters.futures import is_done
from langchain_mlflow_cost.limits import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from langchain_mlflow_cost.tracing.trace import Trace

_inside: ContextVar[tuple[weakref.ref[Trace], ...]] = ContextVar("langchain_mlflow_cost_inside", default=())
"""The traces that began in this context or in one that it is a copy of, and have not left yet."""

_LOOK_EVERY_S: Final = 0.05
_OUTERMOST: Final = 8
"""So many functions at the bottom of a stack may be those that started the thread's work."""
_MOST_QUEUED: Final = 1_000
"""Of what waits in a pool's queue, so much is looked at."""
_STARTERS: Final = ("threading", "concurrent.futures", "anyio.", "opentelemetry.instrumentation.threading", "wrapt")
"""Modules of those functions."""


def enter(trace: Trace) -> None:
    """Note that what is started from here on, in this context and in copies of it, is inside a trace."""
    known = _inside.get()
    if any(each() is trace for each in known):
        return  # This is home, or one of the threads that the trace waits for.
    trace.home_threads.add(threading.get_ident())
    # A thread that outlives one trace may begin another.
    before = [each for each in known if (other := each()) is not None and not other.is_released]
    _inside.set((*before, weakref.ref(trace)))


def has_threads(trace: Trace, *, but_daemons: bool = False) -> bool:
    """Whether another thread than those that invoked something is at work with a copy of the trace's context.

    Args:
        trace: A held one.
        but_daemons: Whether to leave out those for which the end of a process does not wait.
    """
    left_out = set(trace.home_threads)
    if but_daemons:
        left_out |= {thread.ident for thread in threading.enumerate() if thread.daemon and thread.ident is not None}
    frames = sys._current_frames()  # noqa: SLF001 - CPython's documented way to other threads
    queues: set[int] = set()
    return any(ident not in left_out and _is_at_work_in(trace, frame, queues) for ident, frame in frames.items())


def _is_at_work_in(trace: Trace, innermost: FrameType, queues: set[int]) -> bool:
    stack: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    started, objects = False, list[Any]()
    for frame in reversed(stack[-_OUTERMOST:]):
        if not frame.f_globals.get("__name__", "").startswith(_STARTERS):
            # The work itself: not the pool's own business before and after it.
            return started
        held = list(_held_by(frame, queues))
        started = started or any(map(functools.partial(_leads_to, trace), chain(held, *map(_parts_of, held))))
        objects += held
    # The work is not on the stack: it has not begun, or is over.
    return started and any(map(functools.partial(_is_to_come, trace), objects))


def _is_to_come(trace: Trace, value: Any) -> bool:
    """Whether a thread, or a pool's item, has work in a trace's context in hand: both let go of it afterwards."""
    future = getattr(value, "future", None)
    if isinstance(future, Future):
        if is_done(future):
            return False
    elif not isinstance(value, threading.Thread):
        return False
    return any(map(functools.partial(_leads_to, trace), _parts_of(value)))


def _held_by(frame: FrameType, queues: set[int]) -> Iterator[Any]:
    """What a function that starts a thread's work has in its hands, and what waits in its pool's queue.

    Args:
        frame: Of that function; the pool's thread may be new, or busy, or not awake yet.
        queues: Those that were looked into for other threads; this one's is added.
    """
    for value in list(frame.f_locals.values()):
        yield value
        for queue in (value, *_arguments_of(value)) if isinstance(value, threading.Thread) else (value,):
            if isinstance(queue, SimpleQueue) and id(queue) not in queues:
                queues.add(id(queue))
                # It cannot be read without taking from it: a list up to Python 3.12, its items from then on.
                for inside in gc.get_referents(queue):
                    yield from islice(inside, _MOST_QUEUED) if isinstance(inside, list) else (inside,)


def _arguments_of(thread: threading.Thread) -> Iterator[Any]:
    return chain.from_iterable(part for part in _parts_of(thread) if isinstance(part, tuple))


def _parts_of(value: Any) -> Iterator[Any]:
    """What it leads to, one step inside."""
    for name in ("fn", "args", "kwargs", "task", "_target", "_args", "_otel_context"):
        with contextlib.suppress(Exception):  # any object may stand there
            yield getattr(value, name)


def _leads_to(trace: Trace, value: Any) -> bool:
    """Whether a callable is run in a context of the trace, or is one, or arguments that hold one."""
    pending, looked_at = [value], 0
    while pending and looked_at < 20:  # noqa: PLR2004 - a starter holds a callable, and a callable a few more
        value = pending.pop()
        looked_at += 1
        if isinstance(value, Context):
            if any(known() is trace for known in value.get(_inside, ())):
                return True
        elif isinstance(value, functools.partial):
            pending += [value.func, *value.args]
        elif isinstance(value, tuple):
            pending += value[:8]
        elif isinstance(value, dict):
            if _is_active_in(trace, value):
                return True
            pending += list(value.values())[:8]
        elif callable(value) and not isinstance(value, type):
            pending.append(getattr(value, "__self__", None))
    return False


def _is_active_in(trace: Trace, context: Mapping[Any, Any]) -> bool:
    """Whether OpenTelemetry's own context has a run or a span of the trace."""
    for value in list(context.values()):
        with contextlib.suppress(Exception):  # any object may stand there
            if getattr(value, "lmc_trace", None) is trace or getattr(value, "lmc_state").trace is trace:  # noqa: B009 - see `GuardedSpan`
                return True
    return False


class _Waiting:
    """Ends traces when their threads are done, or their time is up, in one thread that lives as long as any waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: dict[Trace, tuple[float, Callable[[Trace], None]]] = {}
        self._thread: threading.Thread | None = None

    def add(self, trace: Trace, release: Callable[[Trace], None]) -> None:
        with self._lock:
            self._traces.setdefault(trace, (time.monotonic() + limits().outliving_s, release))
            if self._thread is None or not self._thread.is_alive():
                # Not a daemon: the process must not end before what it waits for is exported.
                self._thread = threading.Thread(target=self._look, name="langchain_mlflow_cost-outliving")
                self._thread.start()

    def drop(self, trace: Trace) -> None:
        with self._lock:
            self._traces.pop(trace, None)

    def _look(self) -> None:
        while True:
            with self._lock:
                waiting = list(self._traces.items())
                if not waiting:
                    self._thread = None
                    return
            for trace, (deadline, release) in waiting:
                # What the program's end does not wait for, nobody waits for.
                is_ending = not threading.main_thread().is_alive()
                is_in_use = has_threads(trace, but_daemons=is_ending) or (bool(trace.keepers) and not is_ending)
                if not is_in_use or time.monotonic() >= deadline:
                    self.drop(trace)
                    release(trace)
            time.sleep(_LOOK_EVERY_S)


_waiting = _Waiting()


def wait_for_threads(trace: Trace, release: Callable[[Trace], None]) -> bool:
    """Put off the end of a held trace while threads are at work in it; False if there are none.

    Args:
        trace: Nothing else keeps it open.
        release: Called with it, in another thread, when they are done or `Limits.outliving_s` has passed.
    """
    if trace.home_threads and has_threads(trace):
        # A pool's thread may have handed its result over and be about to go back.
        time.sleep(0.001)
        if has_threads(trace):
            trace.is_waiting = True
            _waiting.add(trace, release)
            return True
    trace.is_waiting = False
    _waiting.drop(trace)
    return False
