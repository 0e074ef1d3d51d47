"""A flush of MLflow's export ends when the work is done, and not up to a second later."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.adapters.store_threads import nothing

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import Queue

    from mlflow.tracing.export.async_export_queue import Task


def flush_promptly(export_queue: Any) -> None:
    """Wake the thread that takes MLflow's tasks when a flush tells it to stop: by itself it looks once a second.

    Args:
        export_queue: MLflow's `AsyncTraceExportQueue`.

    Raises:
        AttributeError: It is of another make.
    """
    stop = export_queue._stop_event  # noqa: SLF001
    # The event itself stays: whoever flushes at this moment has it in hand.
    stop.set = partial(_stop_and_wake, stop.set, export_queue._queue)  # noqa: SLF001


def is_full(tasks: Queue[Task]) -> bool:
    """Whether a queue of tasks has no room, without its lock, which whoever asks may hold."""
    return 0 < tasks.maxsize <= len(tasks.queue)


def _stop_and_wake(stop: Callable[[], None], tasks: Queue[Task]) -> None:
    # In one hold: else the thread may end between the two, and nobody would take what a flush then waits for.
    with tasks.mutex:
        stop()
        if not is_full(tasks):  # a thread that has something to do is awake
            tasks.queue.append(nothing())
            tasks.unfinished_tasks += 1
            tasks.not_empty.notify()
