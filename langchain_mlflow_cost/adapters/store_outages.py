"""When a store was away, told once."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

log = logging.getLogger("langchain_mlflow_cost")

_TOLD_S = 60.0
"""How long nothing more is said of a store that comes and goes."""


class Outages:
    """When the store was away.

    Args:
        uri: The store's.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._is_out = False
        self._is_told = False
        self._told_at = -_TOLD_S
        self._ended_at = 0.0

    def tell_begin(self, lock: AbstractContextManager[Any]) -> None:
        """Note that it is away, and say so where that is new."""
        with lock:
            is_new = self._begin()
        if is_new:
            log.warning(
                "langchain_mlflow_cost: the store %s does not answer; traces wait for it as long as there is room",
                without_credentials(self._uri),
            )

    def tell_end(self, lock: AbstractContextManager[Any]) -> None:
        """Note that it is back, and say so where its absence was told."""
        with lock:
            was_told = self._end()
        if was_told:
            log.warning("langchain_mlflow_cost: the store %s answers again", without_credentials(self._uri))

    def _begin(self) -> bool:
        """Note that it is away; whether that is new, and not told of a moment ago."""
        is_new, self._is_out = not self._is_out, True
        now = time.monotonic()
        if is_new and now - self._told_at >= _TOLD_S:
            self._told_at, self._is_told = now, True
            return True
        return False

    def _end(self) -> bool:
        """Note that it is back; whether that is new, and its absence was told."""
        was_out, self._is_out = self._is_out, False
        if was_out:
            self._ended_at = time.monotonic()
        was_told, self._is_told = self._is_told and was_out, self._is_told and not was_out
        return was_told

    def ended_since(self, when: float) -> bool:
        """Whether it came back since then."""
        return self._ended_at > when
