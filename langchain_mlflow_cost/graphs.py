"""Which nodes a graph has, seen without running it: its own, those of its subgraphs, of agents that its tools call.

LangGraph's public attributes are read (`nodes`, `bound`, a tool node's `tools_by_name`), a tool's function, and what
a function can reach: its closure, the globals and attributes that it names. A graph that is only made when a function
runs cannot be seen; where one may be, the node is named as open.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.nodes import GraphName

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from langchain_mlflow_cost.nodes import NodePath

_MAKERS: Final = frozenset(
    {"StateGraph", "RemoteGraph", "create_agent", "create_deep_agent", "create_react_agent", "create_supervisor"}
)
"""Names by which a function makes a graph while it runs."""
_PARTS: Final = (
    "afunc", "bound", "branches", "condition", "coroutine", "default", "fallbacks", "first", "func", "last", "middle",
    "mapper", "runnable", "steps", "steps__", "tools", "tools_by_name",
)  # fmt: skip
"""What runnables, tools and tool nodes hold others under."""
_MOST_DEPTH: Final = 12
_MOST_OBJECTS: Final = 20_000
_FRAMEWORKS: Final = frozenset({"langchain", "langgraph", "mlflow", "pydantic"})
_UNNAMED: Final = ("LangGraph", "")
_START: Final = "__start__"


@dataclass
class GraphNodes:
    """What is known of a graph's nodes."""

    paths: dict[NodePath, None] = field(default_factory=dict)
    """Each node, the outer before the inner ones."""
    open: dict[NodePath, None] = field(default_factory=dict)
    """Nodes in which a graph may run that cannot be seen: what is in them is not known."""


def nodes_of(graph: Any) -> GraphNodes:
    """Find the nodes of a compiled graph; of one that is not compiled, as it would be.

    Raises:
        TypeError: It is no graph.
    """
    if not _is_graph(graph) and callable(getattr(graph, "compile", None)):
        graph = graph.compile()
    if not _is_graph(graph):
        raise TypeError(f"expected a compiled graph, found {type(graph).__name__}")
    found = GraphNodes()
    _Search(found).enter(graph, (), ())
    return found


def graph_name(graph: Any) -> str | None:
    """A compiled graph's own name; None where it was given none.

    `with_config(run_name=...)` names a graph too: deepagents names ready-made subagents so.
    """
    config = getattr(graph, "config", None) or {}
    name = config.get("run_name") or getattr(graph, "name", None)
    return name if isinstance(name, str) and name not in _UNNAMED else None


def path_within(path: NodePath, name: str | None, *, is_called: bool) -> NodePath:
    """The path of a graph that runs in a node, by its name, if it has one."""
    if name is None or not (is_called or (path and path[-1] != name)):
        return path
    return (*path, GraphName(name, is_called))


def _is_graph(value: Any) -> bool:
    return (
        not isinstance(value, type)
        and isinstance(getattr(value, "nodes", None), Mapping)
        and callable(getattr(value, "get_graph", None))
        and callable(getattr(value, "stream", None))
    )


def _is_tool(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "tool_call_schema") and hasattr(value, "invoke")


class _Search:
    def __init__(self, found: GraphNodes) -> None:
        self._found = found
        self._left = _MOST_OBJECTS

    def enter(self, graph: Any, path: NodePath, around: tuple[int, ...]) -> None:
        """Take a graph's nodes in, and what runs in them."""
        for name, node in graph.nodes.items():
            if name == _START:
                continue
            inner = (*path, str(name))
            self._found.paths[inner] = None
            self._look(getattr(node, "bound", node), inner, (*around, id(graph)))

    def _look(self, value: Any, path: NodePath, around: tuple[int, ...]) -> None:
        """Search what a node runs, however it is wrapped, for graphs and tasks."""
        seen: set[tuple[int, bool, bool]] = set()
        todo: list[tuple[Any, bool, bool, int]] = [(value, False, False, 0)]
        while todo:
            each, is_called, only_tells, depth = todo.pop()
            key = (id(each), is_called, only_tells)
            if key in seen or each is None or isinstance(each, str | bytes | int | float | type):
                continue
            seen.add(key)
            self._left -= 1
            if depth > _MOST_DEPTH or self._left < 0:
                self._found.open[path] = None
            elif _is_graph(each):
                self._enter_below(each, path, around, is_called=is_called)
            elif _is_task(each):
                inner = (*path, str(each.__name__))
                self._found.paths[inner] = None
                self._look(each.func, inner, around)
            elif not (only_tells and _is_tool(each)):
                if _is_remote(each) or _is_builder(each) or any(map(_makes_graphs, _codes(each))):
                    self._found.open[path] = None
                is_called = is_called or _is_tool(each)
                if isinstance(each, types.FunctionType):
                    # `create_agent`'s own function that asks the model has the tools too, and tells the model of them.
                    only_tells = _is_framework(each.__module__)
                todo += [(part, is_called, only_tells, depth + 1) for part in list(_parts(each))[::-1]]

    def _enter_below(self, graph: Any, path: NodePath, around: tuple[int, ...], *, is_called: bool) -> None:
        if id(graph) in around:
            self._found.open[path] = None  # It calls itself: how deep is not known.
            return
        within = path_within(path, graph_name(graph), is_called=is_called)
        if is_called and within != path:
            self._found.paths[within] = None
        self.enter(graph, within, around)


def _is_builder(value: Any) -> bool:
    """A graph that is yet to be compiled."""
    return isinstance(getattr(value, "nodes", None), Mapping) and callable(getattr(value, "compile", None))


def _is_remote(value: Any) -> bool:
    return type(value).__name__ == "RemoteGraph"


def _is_task(value: Any) -> bool:
    """A `@task` of LangGraph's functional API, which runs as a node of its own."""
    return type(value).__name__ == "_TaskFunction" and callable(getattr(value, "func", None))


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds that may run when it does."""
    if isinstance(value, Mapping):
        yield from list(value.values())[:1_000]
    elif isinstance(value, list | tuple | set | frozenset):
        yield from list(value)[:1_000]
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        yield value.__func__
        names = dict.fromkeys(name for code in _codes(value) for name in code.co_names)
        yield from _named(value.__self__, names)
    elif isinstance(value, types.FunctionType):
        yield from _reached(value)
        yield getattr(value, "__wrapped__", None)
    elif not isinstance(value, types.ModuleType):
        for name in _PARTS:
            yield _quietly(value, name)
        if _is_tool(value) and type(value).__module__.partition(".")[0] != "langchain_core":
            yield from (_quietly(value, "_run"), _quietly(value, "_arun"))
        elif "__call__" in vars(type(value)) and isinstance(vars(type(value))["__call__"], types.FunctionType):
            yield value.__call__


def _reached(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # It is not filled yet.
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if _is_framework(function.__module__):
        return  # What a framework's function can reach is the framework.
    names = dict.fromkeys(name for code in _nested(function.__code__) for name in code.co_names)
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            continue
        yield value
    # `self.agents["doctor"]`, where `self` is in the closure of an inner function.
    for cell in function.__closure__ or ():
        try:
            yield from _named(cell.cell_contents, names)
        except ValueError:
            continue


def _is_framework(module: str | None) -> bool:
    root = (module or "").partition(".")[0]
    return root in _FRAMEWORKS or root in sys.stdlib_module_names or root.startswith("langchain_")


def _named(owner: Any, names: Container[str]) -> Iterator[Any]:
    """The attributes of an object of the user's that a function names."""
    members = getattr(owner, "__dict__", None)
    if isinstance(members, dict) and not isinstance(owner, type | types.ModuleType | types.FunctionType):
        yield from (member for name, member in members.items() if name in names)


def _quietly(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return None


def _codes(value: Any) -> Iterable[types.CodeType]:
    function = value.__func__ if isinstance(value, types.MethodType) else value
    return _nested(function.__code__) if isinstance(function, types.FunctionType) else ()


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _makes_graphs(code: types.CodeType) -> bool:
    return not _MAKERS.isdisjoint(code.co_names)
