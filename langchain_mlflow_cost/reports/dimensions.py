"""What calls can be told apart by in a report: of each, the raw fields that it is made of, and how it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.adapters.trace_fields import QUARTER_MS
from langchain_mlflow_cost.nodes import parsed_path, path_text
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TIMES: Final = {
    "hour": "%Y-%m-%d %H:00",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
}
_DIMENSIONS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(_TIMES, ("quarter",)),
    "node": ("node",),
    "model": ("model",),
    "provider": ("provider",),
    "user": ("user",),
    "session": ("session",),
    "agent": ("node", "trace_name"),
    "tool": ("tool",),
    "prompt": ("call_prompts", "prompts"),
    "experiment": ("experiment",),
    "trace": ("trace",),
}
NAMES: Final = (*_DIMENSIONS, "tag:NAME")
"""What `--by` takes."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of them. To add one: a row above, its label below, and its raw fields in `adapters/trace_fields.py`."""

    name: str
    """As it was asked for: `day`, `tag:team`."""
    raw: tuple[str, ...]
    """The fields that it is made of."""
    label: Callable[[Sequence[str | None]], str]
    """Its value in words, from those of its raw fields; empty where a call has none."""

    @property
    def is_time(self) -> bool:
        """Whether its values have an order of their own."""
        return self.name in _TIMES

    @property
    def is_joined(self) -> bool:
        """Whether calls of one trace with other raw fields may have one label."""
        return len(self.raw) > 1

    @property
    def title(self) -> str:
        """The head of its column."""
        return self.name.removeprefix("tag:").capitalize()

    @property
    def nameless(self) -> str:
        """What is shown where a call has none."""
        return f"(no {self.name.removeprefix('tag:')})"


def dimensions(text: str, zone: tzinfo = UTC) -> tuple[Dimension, ...]:
    """Read `day,node` or `tag:team`.

    Args:
        text: Names of `NAMES`, with commas between them.
        zone: Whose days, weeks and months.

    Raises:
        ValueError: One of them is unknown; the message says which, and what was probably meant.
    """
    found = []
    for name in dict.fromkeys(part.strip() for part in text.split(",")):
        kind, _, tag = name.partition(":")
        if kind == "tag" and tag:
            found.append(Dimension(name, (name,), _first))
        elif name in _TIMES:
            found.append(Dimension(name, _DIMENSIONS[name], _of_time(_TIMES[name], zone)))
        elif name in _DIMENSIONS:
            found.append(Dimension(name, _DIMENSIONS[name], _LABELS.get(name, _first)))
        else:
            near = nearest(name, NAMES)
            raise ValueError(f"{name!r} is none of {', '.join(NAMES)}" + (f"; did you mean {near}?" if near else ""))
    if any(each.name == "tool" for each in found) and any(each.raw in {("node",), ("model",)} for each in found):
        raise ValueError("a tool's calls are in no node or model of their own: ask for tool without node and model")
    return tuple(found)


def _first(raw: Sequence[str | None]) -> str:
    return raw[0] or ""


def _of_time(form: str, zone: tzinfo) -> Callable[[Sequence[str | None]], str]:
    def label(raw: Sequence[str | None]) -> str:
        quarter = raw[0]
        if not quarter:
            return ""
        return datetime.fromtimestamp(int(quarter) * QUARTER_MS / 1000, UTC).astimezone(zone).strftime(form)

    return label


def _agent(raw: Sequence[str | None]) -> str:
    """The agent or subgraph that a node is in; at the top that is the graph, by whose name the trace goes."""
    node, trace_name = raw
    path = parsed_path(node) if node else ()
    return path_text(path[:-1]) if len(path) > 1 else trace_name or ""


def _prompts(raw: Sequence[str | None]) -> str:
    """The call's own prompts, `name@version` of each; where nobody watched, those that its trace is linked to."""
    if raw[0] is not None:
        return raw[0]
    try:
        links = json.loads(raw[1] or "[]")
        return ", ".join(sorted(f"{link['name']}@{link['version']}" for link in links))
    except (ValueError, TypeError, KeyError):
        return ""


_LABELS: Final[dict[str, Callable[[Sequence[str | None]], str]]] = {"agent": _agent, "prompt": _prompts}
