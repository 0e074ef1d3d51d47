"""What the handler that was made last says of what no handler was passed to: whether to record it, and under what."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Handler(NamedTuple):
    enabled: bool
    state: Any
    """Its `HandlerState`; None where it is off."""


_here: ContextVar[_Handler | None] = ContextVar("langchain_mlflow_cost_handler", default=None)
"""In a web application each request may have a handler of its own, and some tenant's may be off."""
_last: _Handler | None = None
_declaring: ContextVar[list[str]] = ContextVar("langchain_mlflow_cost_declaring", default=[])  # noqa: B039 - never added to
"""The name of a decorated function whose span is about to start; emptied when it has."""


def note(*, enabled: bool, state: Any = None) -> None:
    """Note the policy's `enabled` of a handler that is made, and what enforces that policy."""
    global _last  # noqa: PLW0603 - one for the process, replaced whole
    _last = _Handler(enabled, state)
    _here.set(_last)


def _told_last() -> _Handler | None:
    return _here.get() or _last


def told() -> bool | None:
    """What the last handler in this context says, else the last one of the process; None where there was none."""
    handler = _told_last()
    return None if handler is None else handler.enabled


@contextmanager
def declaring(name: str) -> Iterator[None]:
    """The next span of this name that starts in this context is a decorated function's."""
    token = _declaring.set([name])
    try:
        yield
    finally:
        _declaring.reset(token)


def governing_declared(name: str) -> Any:
    """The `HandlerState` for a span that starts, if it is a decorated function's; else None."""
    names = _declaring.get()
    if not names or names[0] != name:
        return None
    names.clear()
    handler = _told_last()
    return None if handler is None else handler.state


def forget() -> None:
    """As if no handler had been made: for tests."""
    global _last  # noqa: PLW0603 - as above
    _last = None
    _here.set(None)
