"""What each test cost by node, kept in a file of the repository, and compared with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.testing.spent import NodeSpent

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_mlflow_cost.testing.spent import Spent

Nodes = Mapping[str, NodeSpent]

_VERSION: Final = 1
_DIGITS: Final = 12
"""Of USD: sums differ in the last ones by the order of calls in threads."""
_SAME: Final = 1e-9
_UNITS: Final = {"usd": "USD", "calls": "model calls", "input_tokens": "input tokens", "output_tokens": "output tokens"}


class SnapshotError(Exception):
    """The file cannot be used; the message names it, and says what to do."""


def read(path: Path) -> dict[str, dict[str, NodeSpent]]:
    """Read a snapshot: a test's id to its nodes. Empty where there is no file.

    Raises:
        SnapshotError: It is none.
    """
    if not path.exists():
        return {}
    remedy = f"restore it, or delete it and run --cost-snapshot-update ({path})"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["version"] != _VERSION:
            raise SnapshotError(f"cost snapshot of another version, {told['version']!r}; {remedy}")
        return {
            test: {
                name: NodeSpent(**{each.name: node[each.name] for each in fields(NodeSpent)})
                for name, node in nodes.items()
            }
            for test, nodes in told["tests"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"no cost snapshot ({type(error).__name__}: {error}); {remedy}") from error


def write(path: Path, tests: Mapping[str, Nodes]) -> None:
    """Write a snapshot, so that the same costs give the same bytes."""
    told: dict[str, Any] = {
        test: {name: {**asdict(node), "usd": _rounded(node.usd)} for name, node in sorted(nodes.items())}
        for test, nodes in sorted(tests.items())
    }
    text = json.dumps({"version": _VERSION, "tests": told}, indent=2, ensure_ascii=False) + "\n"
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _rounded(usd: float) -> float:
    return 0.0 if not usd else round(usd, _DIGITS - 1 - math.floor(math.log10(abs(usd))))


def dearer(before: Nodes, now: Nodes, tolerance: float) -> list[str]:
    """What costs more than the snapshot allows, a line each.

    Args:
        before: As in the snapshot.
        now: As it was spent.
        tolerance: Of USD and tokens, as a part of what they were. Calls are counted exactly.
    """
    return [line for name in sorted({*before, *now}) for line in _changes(name, before, now, tolerance, more=True)]


def cheaper(before: Nodes, now: Nodes, tolerance: float) -> list[str]:
    """What costs less, a line each."""
    return [line for name in sorted({*before, *now}) for line in _changes(name, before, now, tolerance, more=False)]


def _changes(name: str, before: Nodes, now: Nodes, tolerance: float, *, more: bool) -> list[str]:
    was, told = before.get(name, NodeSpent()), now.get(name, NodeSpent())
    lines = []
    for each, unit in _UNITS.items():
        old, new = getattr(was, each), getattr(told, each)
        room = old * max(_SAME, 0 if each == "calls" else tolerance)
        if (new > old + room) if more else (new < old - room):
            change = f" ({(new - old) / old:+.0%})" if old else ""
            lines.append(f"{name or '(outside nodes)'}: {_shown(new)} {unit}, {_shown(old)} in the snapshot{change}")
    return lines


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else readable(number)


def nodes_of(spent: Spent) -> dict[str, NodeSpent]:
    """What a snapshot keeps of a test: nodes in which something was called."""
    return {name: node for name, node in spent.nodes.items() if node.calls or node.usd}
