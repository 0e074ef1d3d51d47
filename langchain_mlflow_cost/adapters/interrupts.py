"""LangGraph's `interrupt`, called where a model's call begins: whether there is anybody to ask, and the answer."""

from __future__ import annotations

from typing import Any, Final

from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

__all__ = ["GraphBubbleUp", "can_ask", "interrupt", "is_resumed"]

CHECKPOINTER: Final = "__pregel_checkpointer"
"""Where LangGraph keeps the checkpointer of a running graph (`langgraph._internal._constants`, 1.0 to 1.2). Nothing
public tells whether there is one, and without one an interrupted graph cannot be resumed."""

SCRATCHPAD: Final = "__pregel_scratchpad"
"""What `interrupt` itself looks for: there in a task of a graph alone."""


def can_ask() -> bool:
    """Whether the code that runs is a task of a graph with a checkpointer."""
    try:
        configurable: Any = get_config().get("configurable") or {}
        return bool(configurable.get(CHECKPOINTER)) and SCRATCHPAD in configurable
    except Exception:  # noqa: BLE001 - outside a graph: a `RuntimeError`, or whatever another version raises
        return False


def is_resumed(inputs: Any, *, is_root: bool) -> bool:
    """Whether these are the inputs of a graph that goes on where it stopped; None is no other's only at the root."""
    return (is_root and inputs is None) or (isinstance(inputs, Command) and inputs.resume is not None)
