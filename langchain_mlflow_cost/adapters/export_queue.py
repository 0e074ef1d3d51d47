"""Whoever ends a span waits for the export, for a bounded time, instead of losing spans in a full queue."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from langchain_mlflow_cost.adapters import mlflow_internals as internals

if TYPE_CHECKING:
    from langchain_mlflow_cost.adapters.mlflow_internals import Backlog, SdkSpan

log = logging.getLogger("langchain_mlflow_cost")

MAX_WAIT_S = 1.0
"""Seconds that one root invocation may wait for room in MLflow's queues, all its spans together.

Spans of one invocation that end on several threads wait side by side, and that time counts once. LangChain calls the
handler on the event loop, which stands still meanwhile; a wait for one span is over as soon as one batch is taken.
"""
STALLED_AFTER_S = 2.0
"""Seconds after which nobody waits for an export from which nothing has moved: its store is away."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.01


class Patience:
    """How long one invocation may still wait."""

    __slots__ = ("_counted_until", "left_s")

    def __init__(self) -> None:
        self.left_s = MAX_WAIT_S
        self._counted_until = 0.0

    def spend(self, since: float, now: float) -> None:
        """Count a stretch of waiting, in seconds of `time.monotonic`, but for what another thread has counted.

        There is no lock: one that is held while the process forks is held in the child for ever. Two threads that meet
        here count a pause twice, or not at all.
        """
        self.left_s -= max(now - max(since, self._counted_until), 0.0)
        self._counted_until = max(now, self._counted_until)


def wait_for_room(span: SdkSpan, patience: Patience) -> None:
    """Come back when the queues that this span will go into have room, or when the patience is used up."""
    for backlog in internals.backlogs_of(span):
        if len(backlog.waiting) >= backlog.high:
            _wait(backlog, patience)


def _wait(backlog: Backlog, patience: Patience) -> None:
    now = time.monotonic()
    if backlog.moved_at > backlog.full_since:
        backlog.full_since = now
    pause = _FIRST_PAUSE_S
    while (
        len(backlog.waiting) >= backlog.high
        and patience.left_s > 0
        and now - max(backlog.full_since, backlog.moved_at) < STALLED_AFTER_S
        and backlog.is_served()
    ):
        backlog.wake()
        # Another thread may have used the rest up since.
        time.sleep(max(min(pause, patience.left_s), 0.0))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        before, now = now, time.monotonic()
        patience.spend(before, now)
    if len(backlog.waiting) >= backlog.limit:
        _lose_one(backlog)


_lost = 0


def lost_spans() -> int:
    """Spans of this process that found a full queue, or made another leave it."""
    return _lost


def _lose_one(backlog: Backlog) -> None:
    global _lost  # noqa: PLW0603 - a count for the process, as the queue is
    _lost += 1
    if str(_lost).strip("0") == "1":
        log.warning(
            "langchain_mlflow_cost: %d spans lost so far; MLflow's queue of %d was full after a wait of up to %g s. "
            "The store takes fewer spans than are made: export more of them at a time "
            "(MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE), let more of them wait "
            "(MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE), or see whether the store answers at all",
            _lost,
            backlog.limit,
            MAX_WAIT_S,
        )
