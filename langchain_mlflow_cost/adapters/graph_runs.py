"""Which runs are those of compiled graphs, and of which: no run says so, the function that it begins in does.

Metadata does not do: `lc_agent_name` is inherited by everything below an agent, plain graphs too (langchain 1.4, 1.5),
and a run's own name may be chosen anew for each invocation. Read in langgraph 1.0 to 1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.cache.memory import InMemoryCache

if TYPE_CHECKING:
    from types import FrameType

_MODULE = "langgraph.pregel.main"
"""Where `Pregel.stream` and `astream` are, in which the run of each compiled graph begins, however it was called."""


def is_graph_run(frame: FrameType | None) -> bool:
    """Whether a run that began in this function is a compiled graph's."""
    return frame is not None and frame.f_globals.get("__name__") == _MODULE


def graph_of(frame: FrameType | None) -> Any:
    """The compiled graph whose run began in this function; None if it is no graph's."""
    return frame.f_locals.get("self") if frame is not None and is_graph_run(frame) else None


def cached_nodes(frame: FrameType | None) -> tuple[list[str], bool]:
    """Nodes of the graph whose run began here that LangGraph may answer from a cache; and whether it is this process's.

    A node that it answers so sends no event of any kind.
    """
    graph = graph_of(frame)
    cache = getattr(graph, "cache", None)
    if cache is None:
        return [], True
    of_all = getattr(graph, "cache_policy", None)
    nodes = dict(getattr(graph, "nodes", None) or {})
    names = [name for name, node in nodes.items() if of_all or getattr(node, "cache_policy", None)]
    return names, isinstance(cache, InMemoryCache)
