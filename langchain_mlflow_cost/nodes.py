r"""Where in a graph something happens: a `NodePath`, read from LangGraph's metadata, written, and parsed again.

It is the tuple of names from the outermost graph's node inwards, `("team", "researcher")`; `()` is outside any node.
Its text is the one of attributes, summaries and budgets: names with `/` between them; a `/` or `\` that belongs to a
name has a `\` before it, so that node `a/b`, written `a\/b`, is not node `b` in `a`.

LangGraph tells of nodes alone. A compiled graph with a name of its own, an agent most often, is a `GraphName` between
the node that it runs in and its own nodes: `("tools", GraphName("doctor"), "model")`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class GraphName(NamedTuple):
    """The name of a compiled graph within a path. A pattern may name it, and may leave it out."""

    name: str
    is_called: bool = True
    """A tool called it: it is an agent of its own, part of the path's text and told apart from others. Else it is the
    subgraph of the node that it runs in, which a pattern may call by either name."""


NodePath: TypeAlias = tuple[str | GraphName, ...]

_NAMESPACE_KEYS: Final = ("langgraph_checkpoint_ns", "checkpoint_ns")
_SEGMENT: Final = re.compile(r"(?:[^/\\]|\\.|\\$)*", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\([/\\])")


def node_path(metadata: Mapping[str, Any] | None) -> NodePath:
    """The path of the innermost node that a run is in, from the metadata that LangGraph gives its runs."""
    if metadata:
        for key in _NAMESPACE_KEYS:
            namespace = metadata.get(key)
            if namespace and isinstance(namespace, str):
                return _namespace_path(namespace)
        node = metadata.get("langgraph_node")
        if isinstance(node, str):
            return (node,)
    return ()


@lru_cache(maxsize=512)
def _namespace_path(namespace: str) -> NodePath:
    # `outer:uuid|inner:uuid`; a second call of a subgraph in one node adds a bare number. The ids are new in each
    # invocation: what is remembered serves the runs of one node.
    return tuple(part.split(":", 1)[0] for part in namespace.split("|") if part and not part.isdigit())


@lru_cache(maxsize=4096)
def path_text(path: NodePath, *, is_whole: bool = False) -> str:
    r"""Write a path: `team/researcher`, a `/` in a name as `\/`. `""` is outside any node.

    Args:
        path: Of a node.
        is_whole: With the names of subgraphs too, so that no two paths have one text.
    """
    written = (each for each in path if is_whole or isinstance(each, str) or each.is_called)
    return "/".join(name.replace("\\", "\\\\").replace("/", "\\/") for name in names_in(written))


@lru_cache(maxsize=4096)
def parsed_path(text: str) -> NodePath:
    r"""Read a path that `path_text` wrote or a person did; a `\` before any other character is itself."""
    return tuple(_ESCAPED.sub(r"\1", segment) for segment in _segments(text))


def names_in(path: Iterable[str | GraphName]) -> tuple[str, ...]:
    """All names, those of graphs among them."""
    return tuple(each if isinstance(each, str) else each.name for each in path)


def bare(path: NodePath) -> tuple[str, ...]:
    """The names of the nodes alone, as LangGraph tells them."""
    return tuple(each for each in path if isinstance(each, str))


def beginnings(path: NodePath) -> Iterator[NodePath]:
    """The paths of what a node runs in, outermost first, and its own; none outside any node."""
    return (path[:length] for length in range(1, len(path) + 1))


def _segments(text: str) -> list[str]:
    segments, start = [], 0
    while start <= len(text) and text:
        end = _SEGMENT.match(text, start).end()  # type: ignore[union-attr]  # it matches the empty text
        segments.append(text[start:end])
        start = end + 1
    return segments
