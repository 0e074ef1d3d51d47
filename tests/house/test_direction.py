"""Which way imports go: each folder may use those before it, and nothing behind it. Read from the code itself."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "langchain_mlflow_cost"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "limits",
        "money",
        "notices",
        "nodes",
        "node_patterns",
        "graphs",
        "written",
        "record_names",
        "messages",
        "attributes",
        "bounded",
        "switched",
        "sqlite_files",
        "tracking_stores",
        "stored_bytes",
    ),
    ("pricing", "budgets", "redaction"),
    ("policy",),
    ("adapters",),
    ("tracing", "live"),
    ("handler",),
    ("everywhere",),
    ("configuration", "decorator", "estimates", "stored", "trace_pages"),
    ("reports", "erasure"),
    ("proof", "spark"),
    ("testing",),
    ("pytest_plugin",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""The rooms, from the ground up. A room uses its own floor's only where it is the same room, ground files apart."""

ABOVE_ADAPTERS = frozenset({"mlflow", "opentelemetry", "langchain", "langchain_core", "langgraph"})
"""What nothing below `adapters` imports."""

LEFT: frozenset[tuple[str, str]] = frozenset()
"""What still goes the wrong way: a ratchet, from which lines may only be taken out."""


@cache
def _modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _floor(room: str) -> int:
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def _wrong_ways() -> set[tuple[str, str]]:
    """Pairs of a module and the room that it uses and must not."""
    found: set[tuple[str, str]] = set()
    for name, tree in _modules().items():
        room = name.partition(".")[0]
        for target in _imported(tree):
            if not target.startswith(f"{PACKAGE}."):
                continue
            used = target.split(".")[1]
            if used == room or not ((ROOT / used).is_dir() or (ROOT / f"{used}.py").is_file()):
                continue
            floor, used_floor = _floor(room), _floor(used)
            if used_floor > floor or (used_floor == floor and floor > 0):
                found.add((name, used))
    return found


def test_imports_go_one_way() -> None:
    """No module uses what stands above it, or beside it in another room."""
    assert sorted(_wrong_ways() - LEFT) == []


def test_the_ratchet_holds_nothing_that_is_mended() -> None:
    """What goes the right way by now is taken out of the list, so that it cannot come back."""
    assert sorted(LEFT - _wrong_ways()) == []


@pytest.mark.parametrize("name", [name for name in _modules() if _floor(name.partition(".")[0]) < _floor("adapters")])
def test_the_lower_floors_know_no_framework(name: str) -> None:
    """Prices, budgets, redaction and policy know nothing of MLflow, OpenTelemetry or LangChain."""
    tree = _modules()[name]

    assert sorted({target.partition(".")[0] for target in _imported(tree)} & ABOVE_ADAPTERS) == []


def test_every_module_has_a_floor() -> None:
    """A new room is put on a floor before it is used."""
    rooms = {name.partition(".")[0] for name in _modules()}

    assert sorted(rooms - {room for rooms_of_floor in FLOORS for room in rooms_of_floor}) == []


def test_no_module_is_too_long() -> None:
    """A file that needs more than 650 lines holds more than one idea."""
    long = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }

    assert sorted(long) == []


MOST_LINES = 650
