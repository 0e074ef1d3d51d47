"""A clock that stands still while the machine lets nobody run, for what is promised in seconds."""

from __future__ import annotations

import time
from pathlib import Path


class Clock:
    """Seconds, less those for which threads of this process were ready to run and the processor was others'.

    It is the wall's clock on an idle machine. On a busy one it takes too much off, where several threads wait at once:
    a wait that does not end is still seen, since who waits for a store is not ready to run.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seen: dict[str, int] = {}
        self._stalled = 0

    def __call__(self) -> float:
        seen = {}
        for task in Path("/proc/self/task").glob("*/schedstat"):
            try:
                # Time on the processor, time ready to run without it, in nanoseconds; and how often.
                seen[str(task)] = int(task.read_text().split()[1])
            except OSError:  # It has ended.
                continue
        self._stalled += sum(max(0, stalled - self._seen.get(task, 0)) for task, stalled in seen.items())
        self._seen = seen
        return time.monotonic() - self._began - self._stalled / 1e9
