"""Where in the program a run began: the stack, thread and task that tell whether it is still around what runs now."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_MACHINERY = re.compile(r"langchain_core\.(callbacks|runnables\.config|tracers)|langchain_mlflow_cost|mlflow\.")
_COMPREHENSION = "<listcomp>"
"""Up to Python 3.11 a function of its own: `batch` of a sequence tells of its starts in one."""
_PLACELESS = ("contextlib", "asyncio.events")
"""A `with` block's run (`trace_as_chain_group`), and those that `abatch` starts as tasks, begin in a function of these
modules, which has returned long before the run ends."""
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_RESUMABLE = _GENERATOR | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_NOWHERE = (0, 0)
"""No thread, no task."""


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


def _here() -> tuple[int, int]:
    """This thread and, in async code, this task."""
    # Asking for the task where no loop runs raises, which costs more than all the rest.
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None  # noqa: SLF001
    return threading.get_ident(), id(task) if task else 0


class Place:
    """Where one run began, and what stands in the context because of it."""

    __slots__ = ("_where", "frame", "token")

    def __init__(self) -> None:
        self.frame: FrameType | None = None
        """The function that the run began in. It keeps everything on that stack: let go of it with the run."""
        self.token: Any = None
        """What takes the run's span out of the context again."""
        self._where = _NOWHERE

    def mark(self) -> None:
        """Take the place where the code runs now."""
        frame = find_caller()
        if frame is not None and frame.f_globals.get("__name__") not in _PLACELESS:
            self.frame, self._where = frame, _here()

    def release_if_returned(self) -> None:
        """Let go of a function that has returned, and with it of everything on its stack; it has left for good."""
        frame = self.frame
        if frame is None or frame.f_code.co_flags & _RESUMABLE:
            return
        on_stack: FrameType | None = sys._current_frames().get(self._where[0])  # noqa: SLF001 - documented, like the other
        while on_stack is not None:
            if on_stack is frame:
                return
            on_stack = on_stack.f_back
        self.frame = None

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
        # Sync code that runs a loop, and with it a task, is on the stack below the task.
        if self._where not in (here := _here(), (here[0], 0)):
            return False
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
        while frame is not None:
            if frame is begun:
                return False
            frame = frame.f_back
        return True
