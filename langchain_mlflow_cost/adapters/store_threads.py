"""Threads that nobody has to wait for: a store may hang in one of them while a flush, or the process, ends."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Helpers:
    """Threads that make calls; used again, since none can be started when the interpreter ends (Python 3.12)."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        self._pid = os.getpid()

    def run(self, work: Callable[[], None]) -> bool:
        """Let a thread do it; False where there is none."""
        if self._pid != os.getpid():
            # A fork has the list, and not the threads.
            self._idle, self._pid = [], os.getpid()
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            try:
                threading.Thread(
                    target=self._serve, args=(inbox,), name="langchain_mlflow_cost store", daemon=True
                ).start()
            except RuntimeError:
                return False
        inbox.put(work)
        return True

    def _serve(self, inbox: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            inbox.get()()
            self._idle.append(inbox)


helpers = _Helpers()
