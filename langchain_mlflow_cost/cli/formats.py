"""The forms in which a report is written: a table, JSON, CSV, Markdown."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.cli.output import (
    NO_LIMIT,
    cell_text,
    console,
    counted,
    rows_as_table,
    say,
    show,
    tell,
    usd_text,
)
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_mlflow_cost.reports.query import Question
    from langchain_mlflow_cost.reports.what_if import Outcome, WhatIf


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    HTML = "html"
    """All at once, as a page with plots: of `mlflow-cost report` alone."""


def show_rows(heads: list[str], rows: list[list[Any]], format_: Format) -> None:
    """Write rows in the form that was asked for."""
    match format_:
        case Format.JSON:
            write_json([dict(zip(heads, row, strict=True)) for row in rows])
        case Format.CSV:
            import csv

            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow([csv_cell(head) for head in heads])
            writer.writerows([[csv_cell(value) for value in row] for row in rows])
        case Format.MD:
            for line in (heads, ["---"] * len(heads), *rows):
                cells = (printable(cell_text(value), most=NO_LIMIT).replace("|", "\\|") for value in line)
                sys.stdout.write(f"| {' | '.join(cells)} |\n")
        case Format.TABLE:
            show(console(), rows_as_table(heads, rows))


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet takes for a formula, the forms of East Asian keyboards among them (OWASP,
"CSV Injection")."""


def csv_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a number is a number, and no name of others is a formula.

    A text that a spreadsheet would take for one begins with an apostrophe, which says there that it is a text.
    """
    if value is None:
        return ""
    if isinstance(value, Decimal):
        told = format(value, "f")
        # 5.0, and not 5.000000000000000000; nor 5, which makes integers of a column for who reads it by its first rows.
        return told.rstrip("0") + "0" * told.rstrip("0").endswith(".") if "." in told else f"{told}.0"
    told = cell_text(value) if isinstance(value, list) else value
    return f"'{told}" if isinstance(told, str) and told.startswith(_FORMULA) else told


def write_json(value: Any) -> None:
    """Write a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _cells_of(outcome: Outcome, titles: Iterable[str]) -> list[Any]:
    """An outcome's figures; what nobody knows is no number, and a part of it is only less than the whole."""
    told: dict[str, Any] = dict(outcome.as_fields())
    if outcome.unknown_calls:
        known = outcome.calls - outcome.unknown_calls
        for name in ("what_if_usd", "low_usd", "high_usd"):
            told[name] = f"> {usd_text(told[name])}" if known else "unknown"
        told["change_usd"] = "unknown"
    return [told[name] for name in titles]


def show_what_if(
    found: tuple[Mapping[tuple[str, ...], Outcome], Outcome], question: Question, format_: Format, asked: WhatIf
) -> None:
    """Write what calls would have cost."""
    for nodes in asked.unused:
        tell(f"--what-if {printable(nodes)}=...: no call that is asked about is in such a node")
    if asked.unknown:
        models = ", ".join(map(printable, sorted(asked.unknown)))
        tell(f"no price is known of {models}; name the model's provider (openai/gpt-5-mini), or its price in --policy")
    groups, total = found
    names = [each.name for each in question.by]
    if format_ is Format.JSON:
        told = [{**dict(zip(names, values, strict=True)), **outcome.as_fields()} for values, outcome in groups.items()]
        write_json({"by": names, "rows": told, "total": total.as_fields()})
        return
    heads = list(total.as_fields())
    if format_ is not Format.TABLE:
        rows: list[list[Any]] = [[*values, *outcome.as_fields().values()] for values, outcome in groups.items()]
        show_rows([*names, *heads], rows, format_)
        return
    out = console()
    titles = {"calls": "Calls", "usd": "USD", "what_if_usd": "What if"}
    titles |= {"low_usd": "Lowest", "high_usd": "Highest"} if total.is_range else {}
    titles |= {"change_usd": "Change"}
    shown = [
        [*(value or each.nameless for value, each in zip(values, question.by, strict=True)), outcome]
        for values, outcome in groups.items()
    ]
    last: list[Any] = ["Total", *[""] * (len(names) - 1), total]
    rows = [[*row[:-1], *_cells_of(row[-1], titles)] for row in (*shown, last)]
    show(out, rows_as_table([*(each.title for each in question.by), *titles.values()], rows))
    if total.is_range:
        from langchain_mlflow_cost.reports.what_if import INPUT_RANGE, OUTPUT_RANGE

        say(
            out,
            f"{counted(total.replaced_calls, 'call')} by another model. What if: with as many tokens as stored. Its "
            f"answers may be {OUTPUT_RANGE[0]:g} to {OUTPUT_RANGE[1]:g} times as long, and prompts "
            f"{INPUT_RANGE[0]:g} to {INPUT_RANGE[1]:g} times by another tokenizer, with more or less from a cache: "
            "Lowest and Highest.",
            style="dim",
        )
    if total.unpriced_calls:
        say(out, f"Stored without a price, and 0 in USD: {counted(total.unpriced_calls, 'call')}")
    if total.unknown_calls:
        unknown = counted(total.unknown_calls, "call")
        say(out, f"> without a known price or a stored usage, and in no sum but the stored: {unknown}")
