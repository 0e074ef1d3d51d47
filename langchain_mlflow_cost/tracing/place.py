"""Where in the program a run began: the stack, thread and task that tell whether it is still around what runs now."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import threading
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.tracing.stacks import SUSPENDS, stack_of

if TYPE_CHECKING:
    from types import FrameType

_MACHINERY = re.compile(r"langchain_core\.(callbacks|runnables\.config|tracers)|langchain_mlflow_cost|mlflow\.")
_COMPREHENSION = "<listcomp>"
"""Up to Python 3.11 a function of its own: `batch` of a sequence tells of its starts in one."""
_PLACELESS = ("contextlib", "asyncio.events")
"""A `with` block's run (`trace_as_chain_group`), and those that `abatch` starts as tasks, begin in a function of these
modules, which has returned long before the run ends."""
_LOOKS = 3
"""So often a task that is in neither of two places is looked for: each time it would have to change in between."""
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@lru_cache(maxsize=1024)
def _is_machinery(module: str) -> bool:
    return _MACHINERY.match(module) is not None


def find_caller() -> FrameType | None:
    """The frame of the runnable that told us of a start."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - CPython's documented way to the caller's frame
    while frame is not None and (
        _is_machinery(frame.f_globals.get("__name__", "")) or frame.f_code.co_name == _COMPREHENSION
    ):
        frame = frame.f_back
    return frame


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs here; None where no loop runs."""
    # Asking for the task where no loop runs raises, which costs more than all the rest.
    return asyncio.current_task() if asyncio._get_running_loop() is not None else None  # noqa: SLF001


def _is_on(frame: FrameType, stack: FrameType | None) -> bool:
    while stack is not None:
        if stack is frame:
            return True
        stack = stack.f_back
    return False


def _is_awaited_in(frame: FrameType, task: asyncio.Task[Any]) -> bool:
    """Whether a suspended task is somewhere inside a function."""
    waiting: Any = task.get_coro()
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            if hasattr(waiting, f"{kind}_frame"):
                break
        else:
            return False
        if getattr(waiting, f"{kind}_frame") is frame:
            return True
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return False


class Place:
    """Where one run began, and what stands in the context because of it."""

    __slots__ = ("_has_returned", "_task", "_thread", "around", "frame", "token")

    def __init__(self) -> None:
        self.frame: FrameType | None = None
        """The function that the run began in. It keeps everything on that stack: let go of it with the run."""
        self.token: Any = None
        """What takes the run out of the context again."""
        self.around: Any = None
        """Of a root: the span that was active before."""
        self._thread = 0
        self._task: weakref.ref[asyncio.Task[Any]] | None = None
        self._has_returned = False

    def mark(self) -> None:
        """Take the place where the code runs now."""
        frame, task = find_caller(), current_task()
        self._thread = threading.get_ident()
        self._task = None if task is None else weakref.ref(task)
        if frame is not None and frame.f_globals.get("__name__") not in _PLACELESS:
            self.frame = frame

    @property
    def where(self) -> tuple[int, int]:
        """The thread, and the task in async code: no other that lives at the same time has the same."""
        return self._thread, id(task) if (task := self.task) is not None else 0

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that it began in, as long as there is one."""
        return None if self._task is None else self._task()

    def close(self) -> None:
        """Let go of what only an open run needs; where it was is known as long as something stands for it."""
        self.frame = self.token = None

    def is_here(self) -> bool:
        """Whether this is the thread and task that the run began in."""
        if self._thread != threading.get_ident():
            return False
        # Sync code that runs a loop, and with it a task, is around the task.
        return self._task is None or self._task() is current_task() is not None

    def is_over(self) -> bool | None:
        """Whether the function that the run began in has been left, whoever asks; None where nobody knows.

        A cancelled call of a model is told no end. A generator that nobody reads now may be read on, as long as
        somebody has it.
        """
        frame = self.frame
        if frame is None:
            return True if self._has_returned else None
        if frame.f_code.co_flags & _GENERATOR:
            # Whoever reads it is inside of it, which need not be the thread that it began in.
            return False if frame.f_back is not None else None
        if self.is_here():
            return not _is_on(frame, sys._getframe(1))  # noqa: SLF001 - as above
        if self._task is None:
            return frame not in stack_of(self._thread)
        task = self._task()
        if task is None or task.done():
            return True
        # While it runs it awaits nothing, and is on its thread's stack. It may go from one to the other meanwhile.
        return not any(_is_awaited_in(frame, task) or frame in stack_of(self._thread) for _ in range(_LOOKS))

    def is_under_way_elsewhere(self) -> bool:
        """Whether another thread or task is known to be inside the function that the run began in."""
        frame = self.frame
        if frame is not None and frame.f_code.co_flags & _GENERATOR:
            return frame.f_back is not None and not _is_on(frame, sys._getframe(1))  # noqa: SLF001 - as above
        return self.is_over() is False and not self.is_here()

    def release_if_returned(self) -> None:
        """Let go of a function that has returned, and with it of everything on its stack; it has left for good."""
        frame = self.frame
        if frame is None or frame.f_code.co_flags & SUSPENDS:
            return
        if frame not in stack_of(self._thread):
            self.frame, self._has_returned = None, True

    def is_paused_generator(self) -> bool:
        """Whether the run is a generator that waits for its consumer.

        A half-read `graph.stream()` leaves its span active in the consumer's context; what the consumer starts next is
        not inside it. It is told by the generator's frame, which is then not on this thread's stack. (LangGraph tells
        of a node in a function that has returned by then: its frame is on no stack, and says nothing.)
        """
        return self.frame is not None and bool(self.frame.f_code.co_flags & _GENERATOR) and self.has_left()

    def has_left(self) -> bool:
        """Whether the code that the run began in is not around what runs here, in the same thread and task.

        It has returned and the run never ended: something raised between the start and the work, or a start was told
        by hand. Its span is still active; without this, all that the thread does later would be inside it.
        """
        begun = self.frame
        if begun is None:
            return self._has_returned and self.is_here()
        return self.is_here() and not _is_on(begun, sys._getframe(1))  # noqa: SLF001 - as above
