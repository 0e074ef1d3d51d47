"""No test patches a name of ours: what a test must change is handed in, or stands in `limits`. Read from the tests."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "langchain_mlflow_cost"
TESTS = Path(__file__).resolve().parents[1]


def _ours(tree: ast.Module) -> dict[str, str]:
    """The names in a file that stand for something of ours, and what they stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == PACKAGE:
                    names[alias.asname or PACKAGE] = alias.name if alias.asname else PACKAGE
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _written(target: ast.expr, names: dict[str, str]) -> str | None:
    """The dotted name that a patch's first argument is, if it begins with one of ours."""
    if isinstance(target, ast.Constant) and isinstance(target.value, str):
        return target.value if target.value.partition(".")[0] == PACKAGE else None
    parts: list[str] = []
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if isinstance(target, ast.Name) and target.id in names:
        return ".".join([names[target.id], *reversed(parts)])
    return None


def _is_patch(call: ast.Call) -> bool:
    """`setattr`, `setitem`, `mock.patch`, `patch.object`, `patch.dict` and the like, whatever they are methods of."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr in {"setattr", "delattr", "setitem", "delitem", "patch", "object", "dict", "multiple"}
    return isinstance(function, ast.Name) and function.id in {"patch", "setattr", "delattr"}


def _patches(source: str) -> Iterator[str]:
    """What of ours a test file patches, or assigns from outside."""
    tree = ast.parse(source)
    names = _ours(tree)
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Call) and node.args and _is_patch(node):
            if (name := _written(node.args[0], names)) is not None:
                match node.args[1:]:
                    case [ast.Constant(value=str(attribute)), *_]:
                        yield f"{name}.{attribute}"
                    case _:
                        yield name
        elif isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and (name := _written(target, names)) is not None:
                yield name


def _found() -> set[tuple[str, str]]:
    return {
        (str(path.relative_to(TESTS)), patched.removeprefix(f"{PACKAGE}."))
        for path in sorted(TESTS.rglob("*.py"))
        for patched in _patches(path.read_text(encoding="utf-8"))
    }


def test_no_test_patches_a_name_of_ours() -> None:
    """A patched name ties a test to where a thing stands, and tests a program that no user runs."""
    assert sorted(_found()) == []


def test_the_reader_sees_each_way_to_patch() -> None:
    """The ways that the tests above are about, in a file that has them all, and those that are others' business."""
    source = f"""
import {PACKAGE}.pricing.book as book
import mlflow
from {PACKAGE}.tracing import runs
from {PACKAGE}.limits import Limits as L

def test(monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 3)
    monkeypatch.setattr("{PACKAGE}.pricing.book.load", None)
    monkeypatch.setattr(runs.RUNS, "close", None)
    monkeypatch.delattr(L, "default")
    mock.patch("{PACKAGE}.live.width")
    mock.patch.object(book, "rates")
    runs.WAIT_S = 1
    monkeypatch.setattr(mlflow, "flush", None)
    monkeypatch.setenv("{PACKAGE.upper()}_X", "1")
    mlflow.tracking_uri = ""
"""

    assert {name.removeprefix(f"{PACKAGE}.") for name in _patches(source)} == {
        "tracing.runs.KEPT",
        "pricing.book.load",
        "tracing.runs.RUNS.close",
        "limits.Limits.default",
        "live.width",
        "pricing.book.rates",
        "tracing.runs.WAIT_S",
    }
