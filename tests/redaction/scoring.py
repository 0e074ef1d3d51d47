"""How labelled text is scored, as `redaction-data/README.md` says."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Row:
    """One labelled text."""

    text: str
    spans: tuple[tuple[int, int, str, int, int], ...]
    """Start, end and entity of each value, and the stretch that may go with it."""
    scope: frozenset[str]
    """The entities for which the labels are complete."""
    ignore: tuple[tuple[int, int, str], ...] = ()
    tags: tuple[str, ...] = ()


@dataclass
class Score:
    """Counts for one entity over many rows."""

    values: int = 0
    found: int = 0
    right: int = 0
    wrong: int = 0
    missed_rows: list[tuple[str, str]] = field(default_factory=list)
    wrong_rows: list[tuple[str, str]] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.found / self.values if self.values else 1.0

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0


def load(folder: Path) -> list[Row]:
    """Read the rows of other projects' tests in a folder, which are labelled with the spans of what is to be found."""
    rows = []
    for path in sorted(folder.glob("ext_*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            spans = tuple((s[0], s[1], s[2], *(s[3:5] if len(s) > 3 else s[0:2])) for s in row["spans"])
            ignore = tuple((i[0], i[1], i[2]) for i in row.get("ignore", ()))
            rows.append(Row("".join(row["parts"]), spans, frozenset(row["scope"]), ignore, tuple(row["tags"])))
    return rows


def score(  # noqa: C901, PLR0912 - three counts of the same rows
    rows: Iterable[Row], find: Callable[[str], list[tuple[int, int, str]]]
) -> dict[str, Score]:
    """Compare what is found with what is labelled, by entity; plus how much of the other text survives (`kept`)."""
    scores: dict[str, Score] = defaultdict(Score)
    others = kept = 0
    for row in rows:
        found = find(row.text)
        gone = [False] * len(row.text)
        allowed = [False] * len(row.text)
        for start, end, _ in found:
            gone[start:end] = [True] * (end - start)
        for start, end, entity, outer_start, outer_end in row.spans:
            for i in range(min(start, outer_start), max(end, outer_end)):
                allowed[i] = True
            if entity not in row.scope:
                continue
            letters = [i for i in range(start, end) if row.text[i].isalnum()]
            survivors = sum(not gone[i] for i in letters)
            one = scores[entity]
            one.values += 1
            if survivors <= len(letters) / 5:
                one.found += 1
            else:
                one.missed_rows.append((row.text, row.text[start:end]))
        for start, end, entity in found:
            if entity not in row.scope or any(s < end and start < e and entity == n for s, e, n in row.ignore):
                continue
            right = False
            for s, e, _, os, oe in row.spans:
                low, high = min(s, os), max(e, oe)
                if start < high and low < end:
                    room = max(6, (e - s) / 2)
                    right = right or (low - start <= room and end - high <= room)
            one = scores[entity]
            if right:
                one.right += 1
            else:
                one.wrong += 1
                one.wrong_rows.append((row.text, row.text[start:end]))
        for i in range(len(row.text)):
            if not allowed[i]:
                others += 1
                kept += not gone[i]
    scores["kept"].values = others
    scores["kept"].found = kept
    return dict(scores)
