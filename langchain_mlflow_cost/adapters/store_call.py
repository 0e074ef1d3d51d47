"""One call of a store: what is done, which trace it is of, and what it has to come after."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class BehindError(Exception):
    """What a call has to come after is set aside, so that it is, too."""


class StoreCall:
    """One call of the store, made in a helper thread, perhaps more than once."""

    __slots__ = (
        "done",
        "failed",
        "is_counted",
        "let_go",
        "make",
        "number",
        "spans",
        "started",
        "trace_ids",
        "waited_at",
        "waits",
    )

    make: Callable[[], Any]
    """What is done, in the context of the thread that said so."""

    def __init__(self, spans: int, trace_ids: list[str], number: int = 0) -> None:
        self.number = number
        """In the order in which batches of spans and ends of traces were put into the queue."""
        self.waits = False
        """Whether it comes after the batches of its trace that have lower numbers."""
        self.spans = spans
        """How many it carries; 0 for the end of a trace."""
        self.trace_ids = trace_ids
        self.done = threading.Event()
        self.failed = False
        self.is_counted = False
        """Whether it stands among the lost."""
        self.started = self.waited_at = time.monotonic()
        self.let_go: Callable[[], None] | None = None
        """Ends the task of MLflow's queue in whose thread it is made."""

    def end_task(self) -> None:
        """Let the task of MLflow's queue end, and whoever waits for it: the call is done, or not worth waiting for."""
        let_go, self.let_go = self.let_go, None
        if let_go is not None:
            let_go()

    def set_make(self, make: Callable[[], Any]) -> None:
        """Say what is to be done, in the context of now."""
        context = copy_context()
        self.make = lambda: context.copy().run(make)


def will_pass(error: Exception) -> bool:
    """Whether the same call may do later, and MLflow does not try it again by itself.

    Another process has the database locked: it may be cleaning up (VACUUM). Or a server did not tell its version, which
    MLflow asks for with each batch and for 3 s: MLflow remembers that, takes it for one that stores no spans, and from
    then on writes those of all traces to `traces.json` alone (3.17).
    """
    return "database is locked" in str(error) or "could not identify MLflow server version" in str(error)
