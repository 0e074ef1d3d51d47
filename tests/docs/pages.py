"""The pages of the documentation, block by block, as a reader would try them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<mark>[a-z ]+): (?P<said>[^\n]*?) -->\n)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    line: int
    language: str
    text: str
    mark: str
    """What a comment before it says: `file` (it is one), `not run` (and why), `example`, `command`."""
    said: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            line=text[: match.start("text")].count("\n") + 1,
            language=match["language"],
            text=match["text"],
            mark=match["mark"] or "",
            said=match["said"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def program(page: Path) -> str:
    """All Python of a page as one program, with the lines where the page has them."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.mark != "not run":
            lines += [""] * (block.line - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))
