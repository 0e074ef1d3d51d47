"""The values of a table or a list that a private node was told are private one by one, however the table was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from langchain_mlflow_cost.redaction.private_json import without_private_text
from langchain_mlflow_cost.redaction.private_text import PrivateText

COLUMNS = ("name", "code", "balance")
ROWS = [
    ("Zora Quill", "QX-4471-B", "4711.20"),
    ("Ewan Pryde", "ZP-9023-K", "90210.55"),
    ("Tuva Brandt", "LM-1188-T", "8831.04"),
]
WRITTEN = {
    "CSV": "\n".join(",".join(row) for row in (COLUMNS, *ROWS)),
    "CSV with quotes": "\n".join(",".join(f'"{cell}"' for cell in row) for row in (COLUMNS, *ROWS)),
    "semicolons": "\n".join(";".join(row) for row in (COLUMNS, *ROWS)),
    "tabs": "\n".join("\t".join(row) for row in (COLUMNS, *ROWS)),
    "Markdown": "| name | code | balance |\n|---|---|---|\n" + "\n".join(f"| {' | '.join(row)} |" for row in ROWS),
    "psql": " name | code | balance\n------+------+--------\n" + "\n".join(" " + " | ".join(row) for row in ROWS),
    "pandas": "\n".join("  ".join(f"{cell:>20}" for cell in row) for row in (COLUMNS, *ROWS)),
    "tuples": repr(ROWS),
    "a sentence with tuples": f"The query gave {ROWS!r}, which is all. Who owes most?",
    "mappings": str([dict(zip(COLUMNS, row, strict=True)) for row in ROWS]),
    "JSON": json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in ROWS]),
    "JSON in lines": "\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS),
    "fenced": f"The data:\n```json\n{json.dumps(ROWS, indent=1)}\n```\nWho owes most?",
    "HTML": "<table>" + "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in ROWS),
    "XML": "".join(f"<row><name>{name}</name><code>{code}</code></row>" for name, code, _ in ROWS),
}
SHOWN: dict[str, dict[str, Any]] = {
    "by columns": {column: {str(at): row[number] for at, row in enumerate(ROWS)} for number, column in enumerate(COLUMNS)},
    "lists": {column: [row[number] for row in ROWS] for number, column in enumerate(COLUMNS)},
    "one row": {"customer": ROWS[1][0], "contract": ROWS[1][1]},
    "a sentence": {"note": f"wrote to {ROWS[0][0]}, and called {ROWS[2][0]} about {ROWS[2][1]}"},
}  # fmt: skip
OUTSIDE = {"note": "balance of each name by code", "customer_id": "open", "model": "gpt-4o-mini"}


def knowing(text: str) -> PrivateText:
    private = PrivateText()
    private.add(text)
    return private


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("written", WRITTEN)
def test_values_of_a_table(written: str, shown: str) -> None:
    """A name in a table goes where it stands alone, or by columns; the names of columns and other words stay."""
    payload = json.dumps([SHOWN[shown], OUTSIDE])
    clean, _ = without_private_text(payload, knowing(WRITTEN[written]))

    assert [cell for name, code, _ in ROWS for cell in (name, code) if cell in clean] == []
    assert json.loads(clean)[1] == OUTSIDE
    if shown != "a sentence":
        assert json.loads(clean)[0].keys() == SHOWN[shown].keys()


@pytest.mark.parametrize(
    "prose",
    [
        "If it rains, take the coat\nIf it snows, take the sled",
        "df = load(customer_id, 'order_date')\nprint(df['order_date'], 'customer_id')",
        "Answer yes or no; say why\nAnswer in a word; say which",
    ],
)
def test_prose_and_code_are_no_tables(prose: str) -> None:
    """Lines that have as many commas in common give away nothing of a payload that has single words of them."""
    payload = json.dumps({"order_date": "customer_id", "note": "take the train", "say": "yes"})

    assert without_private_text(payload, knowing(prose)) == (payload, 0)
