"""Whether this process, or the code that runs now, was told to record nothing: by the handler that was made last."""

from __future__ import annotations

from contextvars import ContextVar

_here: ContextVar[bool | None] = ContextVar("langchain_mlflow_cost_enabled", default=None)
"""In a web application each request may have a handler of its own, and some tenant's may be off."""
_last: bool | None = None


def note(*, enabled: bool) -> None:
    """Note the policy's `enabled` of a handler that is made."""
    global _last  # noqa: PLW0603 - one for the process, replaced whole
    _last = enabled
    _here.set(enabled)


def told() -> bool | None:
    """What the last handler in this context says, else the last one of the process; None where there was none."""
    here = _here.get()
    return _last if here is None else here


def forget() -> None:
    """As if no handler had been made: for tests."""
    global _last  # noqa: PLW0603 - as above
    _last = None
    _here.set(None)
