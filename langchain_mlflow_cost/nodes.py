r"""Where in a graph something happens: a `NodePath`, read from LangGraph's metadata, written, and parsed again.

It is the tuple of names from the outermost graph's node inwards, `("team", "researcher")`; `()` is outside any node.
Its text is the one of attributes, summaries and budgets: names with `/` between them; a `/` or `\` that belongs to a
name has a `\` before it, so that node `a/b`, written `a\/b`, is not node `b` in `a`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

NodePath: TypeAlias = tuple[str, ...]

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


def path_text(path: NodePath) -> str:
    r"""Write a path: `team/researcher`, a `/` in a name as `\/`. `""` is outside any node."""
    return "/".join(name.replace("\\", "\\\\").replace("/", "\\/") for name in path)


def parsed_path(text: str) -> NodePath:
    r"""Read a path that `path_text` wrote or a person did; a `\` before any other character is itself."""
    return tuple(_ESCAPED.sub(r"\1", segment) for segment in _segments(text))


def lineage(text: str) -> list[str]:
    """The texts of the paths of the nodes that a node runs in, outermost first, and its own; none outside any node."""
    segments = _segments(text)
    return ["/".join(segments[:length]) for length in range(1, len(segments) + 1)]


def _segments(text: str) -> list[str]:
    segments, start = [], 0
    while start <= len(text) and text:
        end = _SEGMENT.match(text, start).end()  # type: ignore[union-attr]  # it matches the empty text
        segments.append(text[start:end])
        start = end + 1
    return segments
