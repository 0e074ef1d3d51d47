"""When a store was away, and whether that is to be told."""

from __future__ import annotations

import time

_TOLD_S = 60.0
"""How long nothing more is said of a store that comes and goes."""


class Outages:
    """When the store was away."""

    def __init__(self) -> None:
        self._is_out = False
        self._is_told = False
        self._told_at = -_TOLD_S
        self._ended_at = 0.0

    def begin(self) -> bool:
        """Note that it is away; whether that is new, and not told of a moment ago."""
        is_new, self._is_out = not self._is_out, True
        now = time.monotonic()
        if is_new and now - self._told_at >= _TOLD_S:
            self._told_at, self._is_told = now, True
            return True
        return False

    def end(self) -> bool:
        """Note that it is back; whether that is new, and its absence was told."""
        was_out, self._is_out = self._is_out, False
        if was_out:
            self._ended_at = time.monotonic()
        was_told, self._is_told = self._is_told and was_out, self._is_told and not was_out
        return was_told

    def ended_since(self, when: float) -> bool:
        """Whether it came back since then."""
        return self._ended_at > when
