"""What the package tells people: the messages of its warnings and logs, read from the source."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_TELLING: Final = frozenset({"critical", "error", "exception", "log", "warn", "warn_or_log", "warning", "_tell_fault"})
_SHORTEST: Final = 14
_LONGEST: Final = 70
"""Characters of a piece between two places that tells a message from others."""


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) or "%s" for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text(node.left) or "%s") + (_text(node.right) or "%s")
    return None


def messages() -> Iterator[tuple[str, str]]:
    """Where each stands, and its words, with `%s` for what differs."""
    for path in sorted((ROOT / "langchain_mlflow_cost").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            said = next((text for each in node.args if (text := _text(each)) and " " in text), None)
            if name in _TELLING and said is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", said


def pieces(message: str) -> list[str]:
    """The first words of a message that are the same in every case."""
    found = re.split(r"%[sdg,.\d]*[sdg]|%s", message)
    return [piece.strip()[:_LONGEST] for piece in found if len(piece.strip()) >= _SHORTEST][:1]
