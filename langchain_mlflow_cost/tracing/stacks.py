"""The functions that another thread is in, read while it runs on."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SUSPENDS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""Flags of the code of functions that may wait in the middle, and be gone on with."""
_MOST_LOOKS: Final = 20
"""A thread whose first function is a generator, which C code alone can begin, is taken as it is then."""


def stacks() -> Iterator[tuple[int, list[FrameType]]]:
    """Each thread by its identifier, and the functions that it is in, the innermost first."""
    # CPython's documented way to other threads; so it is below.
    for thread, innermost in sys._current_frames().items():  # noqa: SLF001
        yield thread, _whole(thread, innermost)


def stack_of(thread: int) -> list[FrameType]:
    """The functions that a thread is in, the innermost first; none if it has ended.

    Args:
        thread: Its identifier.
    """
    return _whole(thread, sys._current_frames().get(thread))  # noqa: SLF001


def stack_from(innermost: FrameType | None) -> list[FrameType]:
    """A function and those above it, of a thread that does not go on meanwhile: this one."""
    stack = []
    while innermost is not None:
        stack.append(innermost)
        innermost = innermost.f_back
    return stack


def _whole(thread: int, innermost: FrameType | None) -> list[FrameType]:
    stack = stack_from(innermost)
    looks = 1
    # The thread went on meanwhile: above a coroutine or generator that waits stands nothing.
    while stack and stack[-1].f_code.co_flags & SUSPENDS and looks < _MOST_LOOKS:
        stack = stack_from(sys._current_frames().get(thread))  # noqa: SLF001
        looks += 1
    return stack
