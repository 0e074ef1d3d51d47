"""A thread that looks after calls of stores for which nobody waits: tasks of MLflow's queue make them themselves."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Protocol

from langchain_mlflow_cost.adapters.store_threads import THREAD_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("langchain_mlflow_cost")


class Watched(Protocol):
    """Calls of one store."""

    @property
    def is_flushing(self) -> bool:
        """Whether somebody waits until all is stored."""

    def look_after_calls(self) -> bool:
        """Let go of what is not worth waiting for; say whether there is anything to look after."""


class Watcher:
    """One thread for the calls of all stores.

    It stays: when the interpreter ends none can be started any more (Python 3.12), and a store may hang just then.
    """

    def __init__(self, stores: Callable[[], Sequence[Watched]], look_s: float, seldom_s: float) -> None:
        """Watch.

        Args:
            stores: Tells which there are, whenever it looks.
            look_s: Seconds between two looks where somebody flushes.
            seldom_s: The same where nobody does.
        """
        self._stores = stores
        self._look_s, self._seldom_s = look_s, seldom_s
        self._starting: dict[int, threading.Lock] = {}
        """By process: in a fork, whoever held the parent's is not there to let it go."""
        self._awake = threading.Event()
        self._pid = 0

    def wake(self) -> None:
        """There is a call to look after."""
        if self._pid != os.getpid():
            self._start()
        if not self._awake.is_set():
            self._awake.set()

    def _start(self) -> None:
        with self._starting.setdefault(os.getpid(), threading.Lock()):
            if self._pid == os.getpid():
                return
            awake = self._awake = threading.Event()
            thread = threading.Thread(target=self._look, args=(awake,), name=f"{THREAD_NAME} watcher", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return
            self._pid = os.getpid()

    def _look(self, awake: threading.Event) -> None:
        while True:
            awake.wait()
            time.sleep(self._look_s if any(store.is_flushing for store in self._stores()) else self._seldom_s)
            # Whoever begins a call after this wakes it again.
            awake.clear()
            for store in self._stores():
                try:
                    if store.look_after_calls():
                        awake.set()
                except Exception as error:
                    # It stays, whatever becomes of one store.
                    awake.set()
                    log.debug("a store's calls were not looked after", exc_info=error)
            del store
