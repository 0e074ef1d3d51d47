"""The functions that another thread is in, read while it runs on."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_WAITS: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
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
    innermost = sys._current_frames().get(thread)  # noqa: SLF001
    return [] if innermost is None else _whole(thread, innermost)


def _whole(thread: int, innermost: FrameType) -> list[FrameType]:
    for _ in range(_MOST_LOOKS):
        stack = _from(innermost)
        if not stack[-1].f_code.co_flags & _WAITS:
            return stack
        # The thread went on meanwhile: above a coroutine or generator that waits stands nothing.
        again = sys._current_frames().get(thread)  # noqa: SLF001
        if again is None:
            return []
        innermost = again
    return stack


def _from(innermost: FrameType) -> list[FrameType]:
    stack, above = [innermost], innermost.f_back
    while above is not None:
        stack.append(above)
        above = above.f_back
    return stack
