"""The MLflow run that a trace belongs to: its own thread's. MLflow 3.17 takes the one started last in any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import mlflow
from mlflow.tracing.constant import TraceMetadataKey
from mlflow.tracking import fluent

if TYPE_CHECKING:
    from collections.abc import MutableMapping


def link_own_run(metadata: MutableMapping[str, str], *, is_new: bool) -> str | None:
    """Put right which run a trace's metadata names, and return it.

    A thread of a pool has no run; the trace is then of the run that is active elsewhere, if but one thread has any. No
    link is better than another's.

    Args:
        metadata: The trace's.
        is_new: The trace begins here.
    """
    linked = metadata.get(TraceMetadataKey.SOURCE_RUN)
    if linked is None:
        return None
    own = mlflow.active_run()
    if own is not None:
        linked = metadata[TraceMetadataKey.SOURCE_RUN] = own.info.run_id
    elif is_new and _threads_with_runs() > 1:
        linked = None
        del metadata[TraceMetadataKey.SOURCE_RUN]
    return linked


def _threads_with_runs() -> int:
    alive = {thread.ident for thread in threading.enumerate()}
    stacks = fluent._active_run_stack.get_all_thread_values()  # noqa: SLF001
    return sum(bool(stack) for thread, stack in stacks.items() if thread in alive)
