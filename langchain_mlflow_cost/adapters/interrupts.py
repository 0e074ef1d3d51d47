"""LangGraph's `interrupt`, called where a model's call begins: whether there is anybody to ask, and the answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final

from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

from langchain_mlflow_cost.limits import limits

__all__ = ["GraphBubbleUp", "ask", "can_ask", "is_resumed"]

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


_TAKEN: OrderedDict[tuple[str, str], int] = OrderedDict()
"""How many answers of a node's execution are used up, by its thread and its place in the checkpoint."""

_LOCK: Final = threading.Lock()


def ask(question: Any) -> Any:
    """Give the answer that nobody has used yet, or interrupt the graph for one.

    LangGraph runs the node again and gives the answers of all its earlier interrupts first, in their order. What was
    added then is added already, and a refusal is no answer to what is asked after it: the newest one counts.

    Args:
        question: The interrupt's value.

    Raises:
        GraphBubbleUp: LangGraph's interrupt.
    """
    answers = []
    try:
        while True:
            answers.append(interrupt(question))
    except GraphBubbleUp:
        configurable = get_config().get("configurable") or {}
        place = str(configurable.get("thread_id")), str(configurable.get("checkpoint_ns"))
        with _LOCK:
            if len(answers) <= _TAKEN.get(place, 0):
                raise
            _TAKEN[place] = len(answers)
            _TAKEN.move_to_end(place)
            while len(_TAKEN) > limits().answered_nodes:
                _TAKEN.popitem(last=False)
        return answers[-1]


def is_resumed(inputs: Any, *, is_root: bool) -> bool:
    """Whether these are the inputs of a graph that goes on where it stopped; None is no other's only at the root."""
    return (is_root and inputs is None) or (isinstance(inputs, Command) and inputs.resume is not None)
