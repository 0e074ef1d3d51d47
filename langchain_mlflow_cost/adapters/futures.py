"""What has become of a future of `concurrent.futures`, asked without its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from concurrent.futures import Future

_DONE: Final = ("CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")


def is_done(future: Future[Any]) -> bool:
    """What `Future.done` says, which waits for whoever has the future's lock.

    Returns:
        False also where Python keeps the state elsewhere.
    """
    return getattr(future, "_state", None) in _DONE
