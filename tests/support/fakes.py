"""Models with one answer for all requests, and graphs of one or two nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from fake_models import USAGE, FakeStream, FakeText
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class Chat(FakeStream):
    """Answers every request with what `reply` says, streamed in pieces of a few characters; an exception is raised."""

    reply: Any = "fine"
    piece: int | None = 7

    def _script(self) -> Any:
        return self.reply


class Text(FakeText):
    """A string model that does not tell its usage."""

    reply: str = "fine"
    tells_usage: bool = False


class State(TypedDict, total=False):
    """Messages, and whatever else a test puts through the graph."""

    messages: Annotated[list[Any], add_messages]
    extra: Any


def graph(*nodes: tuple[str, Callable[..., Any]], checkpointer: Any = None) -> Any:
    """A chain of nodes."""
    builder = StateGraph(State)
    above = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(above, name)
        above = name
    return builder.add_edge(above, END).compile(checkpointer=checkpointer)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


__all__ = ["USAGE", "Chat", "Clock", "State", "Text", "graph"]
