"""A call that may hang, given up after a time."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(wait_s: float, function: Callable[[], T]) -> T:
    """Return what the function returns, or raise what it raises, if that takes no longer than so many seconds.

    It runs in a thread of its own, with a copy of the context. One that is late goes on, and nobody hears of its end;
    the interpreter does not wait for it either.

    Raises:
        TimeoutError: It is not done yet.
    """
    done: list[T] = []
    raised: list[BaseException] = []
    context = copy_context()

    def run() -> None:
        try:
            done.append(context.run(function))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            raised.append(error)

    # No pool: when the interpreter ends, it waits for a pool's threads.
    thread = threading.Thread(target=run, name="langchain_mlflow_cost call", daemon=True)
    thread.start()
    thread.join(wait_s)
    if raised:
        raise raised[0]
    if not done:
        raise TimeoutError(f"not done within {wait_s:g} s")
    return done[0]
