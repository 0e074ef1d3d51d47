"""One handler for the whole process: LangChain adds it to every run that no other handler of ours governs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from langchain_core.tracers.context import register_configure_hook

from langchain_mlflow_cost.handler import MlflowCostHandler

if TYPE_CHECKING:
    from contextvars import ContextVar

_lock = threading.Lock()


class _InForce:
    """What LangChain asks for the handler to add: in place of a context variable, which each thread has for itself.

    `register_configure_hook` takes nothing back, and a variable's default stays what it was: of the variable LangChain
    uses `get` alone (langchain-core 1.0 to 1.8), so this answers it with the handler that is in force now.
    """

    handler: MlflowCostHandler | None = None
    is_registered = False

    def get(self) -> MlflowCostHandler | None:
        """The handler to add; None to add none."""
        return self.handler


_in_force = _InForce()


class _KindOfGoverning(type):
    def __instancecheck__(cls, handler: Any) -> bool:
        return isinstance(handler, MlflowCostHandler) and handler.policy.enabled


class _Governing(metaclass=_KindOfGoverning):
    """Any handler of ours that is not switched off: where LangChain finds one, it does not add another."""


def govern_everywhere(handler: MlflowCostHandler) -> None:
    """Govern every LangChain run and every MLflow span of this process that no other handler governs.

    Args:
        handler: It takes the place of the one before, for what begins from now on.
    """
    with _lock:
        if not _in_force.is_registered:
            register_configure_hook(
                cast("ContextVar[Any]", _in_force),
                inheritable=True,
                handle_class=cast("type[MlflowCostHandler]", _Governing),
            )
            _in_force.is_registered = True
        handler.govern_everything()
        _in_force.handler = handler


def governs_everywhere() -> bool:
    """Whether a handler governs the whole process."""
    return _in_force.handler is not None


def govern_no_more() -> None:
    """Leave alone what begins from now on, unless a handler is passed: for notebooks and tests."""
    with _lock:
        handler, _in_force.handler = _in_force.handler, None
        if handler is not None:
            handler.release_everything()
