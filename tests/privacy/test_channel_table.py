"""`docs/channels.md` says of every channel what the tests prove; run this file as a program to write it anew."""

from __future__ import annotations

import sys
from pathlib import Path

from scenes import ALLOWED, PRESENT, SCENES

TABLE = Path(__file__).parents[2] / "docs" / "channels.md"
ASSESSMENTS = ("assessment's value", "rationale", "metadata", "error", "expectation", "updated assessment")
LEVELS = ("minimal", "standard", "full")


def table() -> str:
    """One row for each channel in which `scenes.py` plants a text."""
    rows = [
        "# Channels",
        "",
        "What stays of a text in each channel, at each level without redaction, and of a text of a private node. Written by",
        "`tests/privacy/test_channel_table.py` from the scenes that the tests run: each row is proved by the tests of",
        "`tests/privacy/test_channels.py` that have its name in brackets.",
        "",
        "| channel | minimal | standard | full | text of a private node |",
        "| --- | --- | --- | --- | --- |",
    ]
    for scene in SCENES.values():
        for channel, keeps in scene.channels.items():
            levels = [_cell(level in PRESENT[keeps], level in ALLOWED[keeps]) for level in LEVELS]
            rows.append(f"| {' | '.join([channel, *levels, 'gone'])} |")
    rows += [
        "",
        "After a trace's end, under `configure(..., everywhere=True)` (`tests/privacy/test_later_writes.py`):",
        "",
        "| channel | minimal | standard | full | text of a private node |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {each} | kept | kept | kept | gone |" for each in ("later: tag", "later: tag key")),
        *(f"| later: {each} | gone | kept | kept | gone |" for each in ASSESSMENTS),
    ]
    return "\n".join(rows) + "\n"


def _cell(present: bool, allowed: bool) -> str:
    if present:
        return "kept"
    return "may be kept" if allowed else "gone"


def test_table_is_what_the_scenes_prove() -> None:
    """The table in the documentation is the one that the tests are made from."""
    assert table() == TABLE.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(table())
