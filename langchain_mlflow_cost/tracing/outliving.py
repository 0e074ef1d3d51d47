"""Threads and tasks that go on in a trace when its invocations have ended: a held trace waits, for a bounded time.

A sync node outlives its cancelled `ainvoke`; a node may leave a thread behind that has its context
(`copy_context().run`, LangChain's executors, OpenTelemetry's instrumentation of threads). Where one of several branches
of an async node raises, asyncio lets the others go on. What a model is told there is private, too, and known only then.
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
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackManager

from langchain_mlflow_cost.adapters.futures import is_done
from langchain_mlflow_cost.adapters.tasks import active_in, tasks_with_context
from langchain_mlflow_cost.adapters.thread_context import works_for_an_executor
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.tracing.active_run import ActiveRun
from langchain_mlflow_cost.tracing.place import current_task
from langchain_mlflow_cost.tracing.runs import RUNS
from langchain_mlflow_cost.tracing.stacks import stack_from, stacks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from langchain_mlflow_cost.tracing.trace import Trace

_inside: ContextVar[tuple[weakref.ref[Trace], ...]] = ContextVar("langchain_mlflow_cost_inside", default=())
"""The traces that began in this context or in one that it is a copy of, and have not left yet."""

_NOT_HOME: Final = object()
_LOOK_EVERY_S: Final = 0.05
_OUTERMOST: Final = 8
"""So many functions at the bottom of a stack may be those that started the thread's work."""
_MOST_QUEUED: Final = 1_000
"""Of what waits in a pool's queue, so much is looked at."""
_OF_THE_WORK: Final = 4
"""So many functions of a thread's work may have what they go on with in their hands."""
_STARTERS: Final = ("threading", "concurrent.futures", "anyio.", "opentelemetry.instrumentation.threading", "wrapt")
"""Modules of those functions."""


def enter(trace: Trace) -> None:
    """Note that what is started from here on, in this context and in copies of it, is inside a trace."""
    known = _inside.get()
    is_known = _is_among(known, trace)
    if not trace.is_waiting:
        # Else it is one of those that the trace waits for.
        task = current_task()
        if task is not None:
            trace.home_tasks.add(task)
        if not is_known:
            trace.home_threads[threading.current_thread()] = _job_here()
    if is_known:
        return
    # A thread that outlives one trace may begin another.
    before = [each for each in known if (other := each()) is not None and not other.is_released]
    _inside.set((*before, weakref.ref(trace)))


def _is_among(known: tuple[weakref.ref[Trace], ...], trace: Trace) -> bool:
    return any(each() is trace for each in known)


def goes_on(trace: Trace, *, is_ending: bool = False) -> bool:
    """Whether a task or a thread is at work in a trace.

    Args:
        trace: A held one.
        is_ending: Whether the program ends, which waits for no daemon and no loop that has stopped.
    """
    # There are tens of threads, and thousands of tasks in a busy loop.
    return _has_threads(trace, is_ending=is_ending) or _has_tasks(trace, is_ending=is_ending)


def _has_threads(trace: Trace, *, is_ending: bool) -> bool:
    """Whether another thread than those that invoked something is at work with a copy of the trace's context."""
    left_out = {thread.ident for thread in threading.enumerate() if thread.daemon} if is_ending else set()
    at_home = {thread.ident: job for thread, job in list(trace.home_threads.items()) if thread.is_alive()}
    queues: set[int] = set()
    return any(
        _is_at_work_in(trace, _outermost(stack), queues, home_job=at_home.get(ident, _NOT_HOME))
        for ident, stack in stacks()
        if ident not in left_out
    )


def _outermost(stack: list[FrameType]) -> list[FrameType]:
    """The functions at the bottom of a stack, the outermost first."""
    return stack[: -_OUTERMOST - 1 : -1]


def _job_here() -> weakref.ref[Any] | None:
    """What this thread does for an executor: it may have more to do in the same trace afterwards."""
    if not works_for_an_executor(threading.current_thread()):
        return None
    return _job_of(_outermost(stack_from(sys._getframe(1))))  # noqa: SLF001 - CPython's documented way


def _job_of(outermost: list[FrameType]) -> weakref.ref[Any] | None:
    for frame in outermost:
        item = frame.f_locals.get("work_item") if frame.f_code.co_name == "_worker" else None
        if item is not None:
            with contextlib.suppress(TypeError):
                return weakref.ref(item)
    return None


def _has_tasks(trace: Trace, *, is_ending: bool) -> bool:
    """Whether a task is at work in the trace that began below one of its runs, in a loop of its invocations or threads.

    A task that the program began beside its invocations, or after them, has nothing but a root in its context.
    """
    try:
        return any(
            _is_task_of(trace, task, context)
            for loop in _loops_of(trace)
            if not loop.is_closed() and (loop.is_running() or not is_ending)
            for task, context in tasks_with_context(loop)
        )
    except Exception:  # noqa: BLE001 - the loop's thread changes its tasks meanwhile: look again later
        return not is_ending


def _loops_of(trace: Trace) -> set[asyncio.AbstractEventLoop]:
    loops = {task.get_loop() for task in list(trace.home_tasks)}
    for _, stack in stacks():
        for frame in stack:
            if frame.f_code.co_name == "run_forever" and frame.f_globals.get("__name__") == "asyncio.base_events":
                loops.add(frame.f_locals["self"])
    return loops


def _is_task_of(trace: Trace, task: asyncio.Task[Any], context: Context) -> bool:
    if not _is_among(context.get(_inside, ()), trace) or task in trace.home_tasks:
        return False
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is not None and frame.f_globals.get("__name__", "").startswith("langchain_core.callbacks"):
        return False  # It tells of a run's end.
    return any(type(active) is ActiveRun and active.is_below_root_of(trace) for active in active_in(context))


def _is_at_work_in(trace: Trace, outermost: list[FrameType], queues: set[int], *, home_job: Any) -> bool:
    if home_job is not _NOT_HOME and (home_job is None or home_job == _job_of(outermost)):
        waiting = chain.from_iterable(_queued_in(frame, queues) for frame in outermost if _is_starter(frame))
        return any(map(functools.partial(_is_to_come, trace), waiting))
    started, objects = False, list[Any]()
    for at, frame in enumerate(outermost):
        if not _is_starter(frame):
            # The work itself: not the pool's own business before and after it.
            return started or _is_handed_over(trace, outermost[at:])
        held = [*frame.f_locals.values(), *_queued_in(frame, queues)]
        started = started or any(map(functools.partial(_leads_to, trace), chain(held, *map(_parts_of, held))))
        objects += held
    # The work is not on the stack: it has not begun, or is over.
    return started and any(map(functools.partial(_is_to_come, trace), objects))


def _is_starter(frame: FrameType) -> bool:
    return bool(frame.f_globals.get("__name__", "").startswith(_STARTERS))


def _is_handed_over(trace: Trace, frames: list[FrameType]) -> bool:
    """Whether one of the functions that a thread's work is in has a context or a config of the trace in its hands.

    Args:
        trace: A held one.
        frames: Of the program, the outermost first.
    """
    for at, frame in enumerate(frames[:_OF_THE_WORK]):
        if at + 1 < len(frames) and frames[at + 1].f_globals.get("__name__") == "queue":
            continue  # It waits for the next: what it has in its hands is over.
        mine = list(frame.f_locals.values())
        if at + 1 == len(frames) and any(isinstance(value, SimpleQueue) for value in mine):
            continue  # Likewise.
        if any(_is_of(trace, each) for value in mine for each in (value, *_members_of(value))):
            return True
    return False


def _members_of(value: Any) -> Iterable[Any]:
    """What a tuple or list holds; the fields of an object, such as a job's."""
    if type(value) in (tuple, list):
        return value[:8]  # type: ignore[no-any-return]
    fields = getattr(type(value), "__dictoffset__", 0) and not isinstance(value, (type, ModuleType))
    try:
        return list(islice(object.__getattribute__(value, "__dict__").values(), 20)) if fields else ()
    except Exception:  # noqa: BLE001 - any object may stand there
        return ()


def _is_of(trace: Trace, value: Any) -> bool:
    """Whether it is a context of the trace, or a config or callbacks that LangChain made for one of its runs."""
    if type(value) is Context:
        return _is_among(value.get(_inside, ()), trace)
    if type(value) is dict:
        value = value.get("callbacks")
    if isinstance(value, BaseCallbackManager):
        run = RUNS.get(value.parent_run_id) or RUNS.ended(value.parent_run_id)
        return run is not None and run.trace is trace
    return False


def _is_to_come(trace: Trace, value: Any) -> bool:
    """Whether a thread, or a pool's item, has work in a trace's context in hand: both let go of it afterwards."""
    future = getattr(value, "future", None)
    if isinstance(future, Future):
        if is_done(future):
            return False
    elif not isinstance(value, threading.Thread):
        return False
    return any(map(functools.partial(_leads_to, trace), _parts_of(value)))


def _queued_in(frame: FrameType, queues: set[int]) -> Iterator[Any]:
    """What waits in the queue of a pool whose thread is in a function that starts its work: it may be new, or busy.

    Args:
        frame: Of that function.
        queues: Those that were looked into for other threads; this one's is added.
    """
    for value in list(frame.f_locals.values()):
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
    for name in ("fn", "args", "kwargs", "task", "function", "_target", "_args", "_kwargs", "_otel_context"):
        with contextlib.suppress(Exception):  # any object may stand there
            yield getattr(value, name)
    if isinstance(value, threading.Thread):
        yield tuple(each for each in vars(value).values() if type(each) is Context)


def _leads_to(trace: Trace, value: Any) -> bool:
    """Whether a callable is run in a context of the trace, or is one, or arguments that hold one."""
    pending, looked_at = [value], 0
    while pending and looked_at < 20:  # noqa: PLR2004 - a starter holds a callable, and a callable a few more
        value = pending.pop()
        looked_at += 1
        if _is_of(trace, value):
            return True
        if isinstance(value, functools.partial):
            pending += [value.func, *value.args]
        elif isinstance(value, tuple):
            pending += value[:8]
        elif isinstance(value, dict):
            if _is_active_in(trace, value):
                return True
            pending += list(value.values())[:8]
        elif callable(value) and not isinstance(value, type):
            pending.append(getattr(value, "__self__", None))
            pending += _enclosed_in(value)
    return False


def _enclosed_in(function: Any) -> Iterator[Any]:
    """What a function has from the one that it was made in."""
    for cell in (getattr(function, "__closure__", None) or ())[:8]:
        with contextlib.suppress(ValueError):  # not filled yet
            if isinstance(cell.cell_contents, (Context, dict, BaseCallbackManager)):
                yield cell.cell_contents


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
                is_in_use = (bool(trace.keepers) and not is_ending) or goes_on(trace, is_ending=is_ending)
                if not is_in_use or time.monotonic() >= deadline:
                    self.drop(trace)
                    release(trace)
            time.sleep(_LOOK_EVERY_S)


_waiting = _Waiting()


def wait_for_work(trace: Trace, release: Callable[[Trace], None]) -> bool:
    """Put off the end of a held trace while threads or tasks are at work in it; False if there are none.

    Args:
        trace: Nothing else keeps it open.
        release: Called with it, in another thread, when they are done or `Limits.outliving_s` has passed.
    """
    if _goes_on_still(trace):
        trace.is_waiting = True
        _waiting.add(trace, release)
        return True
    trace.is_waiting = False
    _waiting.drop(trace)
    return False


def _goes_on_still(trace: Trace) -> bool:
    if not goes_on(trace):
        return False
    # A pool's thread may have handed its result over and be about to go back.
    time.sleep(0.001)
    return goes_on(trace)
