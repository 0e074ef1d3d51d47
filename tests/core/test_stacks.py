"""The functions that another thread is in are read whole, though it goes on meanwhile."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

from langchain_mlflow_cost.tracing.stacks import stack_of

DEPTH, LOOKS = 20, 20_000


async def _inner(depth: int) -> None:
    if depth:
        await _inner(depth - 1)
    else:
        time.sleep(0.0001)  # noqa: ASYNC251 - lets the other thread look here, and go on in the middle of it
        await asyncio.sleep(0)


async def _until(over: threading.Event) -> None:
    while not over.is_set():
        await _inner(DEPTH)


def test_stack_is_whole() -> None:
    """A coroutine that begins to wait has nothing above it any more: without a second look the loop was not found."""
    over, interval = threading.Event(), sys.getswitchinterval()
    thread = threading.Thread(target=lambda: asyncio.run(_until(over)))
    thread.start()
    first: set[str] = set()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(LOOKS):
            first.add(stack_of(thread.ident or 0)[-1].f_code.co_name)
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()

    assert first == {"_bootstrap"}
    assert stack_of(thread.ident or 0) == []
