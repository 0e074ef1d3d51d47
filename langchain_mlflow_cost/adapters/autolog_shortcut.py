"""The way past autolog's patch of callback managers, for those that it does nothing for."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.callbacks import manager as callback_managers
from langchain_core.callbacks.manager import AsyncParentRunManager, ParentRunManager
from mlflow.utils import gorilla

from langchain_mlflow_cost.adapters.autolog import any_standing_in

if TYPE_CHECKING:
    from collections.abc import Callable


SWITCH = "LANGCHAIN_MLFLOW_COST_SHORTCUT"
"""An environment variable: `off` leaves autolog's patch as it is."""


class _Known(threading.local):
    governed = False


_known = _Known()
_all_are_governed = False


def shortcut_all(on: bool) -> None:
    """Take every manager for one that carries a handler of ours: the handler comes by LangChain's own hook."""
    global _all_are_governed  # noqa: PLW0603 - one for the process
    _all_are_governed = on


def shortcut_autolog() -> None:
    """Spare callback managers that carry a handler of ours the cost of autolog's patch, which does nothing for them.

    The patch of `BaseCallbackManager.__init__` looks for a tracer among the inheritable handlers and, if one is there,
    does nothing more; but each call goes through `safe_patch`, which costs about as much as recording a small span,
    at several managers a run. Two of these are made empty: a child's is given its handlers afterwards, so the parent
    says whether it will be governed; and `_configure` throws one away where it is given callbacks.
    `autolog(disable=True)` and a further `autolog()` both replace the wrapper of `__init__`, so it is put back when the
    next root run begins.

    Not taken where somebody else has patched the method since (OpenInference's instrumentor, for one), who must hear of
    every manager; nor where `LANGCHAIN_MLFLOW_COST_SHORTCUT=off` is set.
    """
    patched = BaseCallbackManager.__init__
    patch = getattr(BaseCallbackManager, "_gorilla_active_patch___init__", None)
    if patch is None or patched is not patch.obj or os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no"):
        return
    original = gorilla.get_original_attribute(BaseCallbackManager, "__init__")

    def init(self: Any, handlers: Any, inheritable_handlers: Any = None, *args: Any, **kwargs: Any) -> None:
        governed = _all_are_governed or _known.governed or any_standing_in(inheritable_handlers)
        (original if governed else patched)(self, handlers, inheritable_handlers, *args, **kwargs)

    init.lmc_shortcut = True  # type: ignore[attr-defined]
    BaseCallbackManager.__init__ = init  # type: ignore[method-assign]
    for manager in (ParentRunManager, AsyncParentRunManager):
        manager.get_child = _known_beforehand(manager.get_child, _of_parent)  # type: ignore[method-assign]
    if hasattr(callback_managers, "_configure"):
        callback_managers._configure = _known_beforehand(callback_managers._configure, _inheritable)  # noqa: SLF001


def _of_parent(parent: Any, *_: Any, **__: Any) -> Any:
    return parent.inheritable_handlers


def _inheritable(_manager_class: Any, callbacks: Any = None, *_: Any, **__: Any) -> Any:
    return callbacks if isinstance(callbacks, list) else getattr(callbacks, "inheritable_handlers", None)


def _known_beforehand(original: Any, handlers_of: Callable[..., Any]) -> Any:
    """Let a function that makes managers say which handlers these will have."""
    if getattr(original, "lmc_shortcut", False):
        return original

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _all_are_governed or _known.governed or not any_standing_in(handlers_of(*args)):
            return original(*args, **kwargs)
        _known.governed = True
        try:
            return original(*args, **kwargs)
        finally:
            _known.governed = False

    call.lmc_shortcut = True  # type: ignore[attr-defined]
    return call
