"""Texts in the form of public bug reports and of real work: what must go and what must stay of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.redaction import ENTITIES, Redactor, compile_rules

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_mlflow_cost.redaction import Rules


@dataclass(frozen=True)
class FieldRow:
    """One text, or a value of JSON's shapes."""

    name: str
    kind: str
    text: str
    must_go: tuple[str, ...]
    must_stay: tuple[str, ...] | None
    """None: nothing may change."""

    @property
    def value(self) -> Any:
        """What is handed over: a text that is JSON, as what it says."""
        if self.text[:1] in "{[":
            try:
                return json.loads(self.text)
            except ValueError:
                pass
        return self.text


def load_field(path: Path) -> list[FieldRow]:
    """Read rows whose texts are in pieces."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        stay = row["must_stay"]
        rows.append(
            FieldRow(
                row["id"],
                row["kind"],
                "".join(row["parts"]),
                tuple(map("".join, row["must_go"])),
                None if stay == "all" else tuple(map("".join, stay)),
            )
        )
    return rows


ALL = compile_rules(entities=ENTITIES)


def fault(row: FieldRow, rules: Rules = ALL) -> str | None:
    """Say what is wrong with what becomes of a row; None if nothing is."""
    value = row.value
    if isinstance(value, str):
        shown, _ = Redactor(rules, max_payload_chars=10**7).text(value)
        before, after = value, shown or ""
    else:
        tree, _ = Redactor(rules, max_payload_chars=10**7).tree(value)
        before, after = (json.dumps(one, ensure_ascii=False) for one in (value, tree))
    left = [text for text in row.must_go if text in after]
    if left:
        return "left: " + repr(left)
    lost = [] if row.must_stay is None else [text for text in row.must_stay if text not in after]
    if lost or (row.must_stay is None and after != before):
        return "lost: " + repr(lost or after)
    return None
