"""Columns of tables whose header says what they hold: CSV, tab-separated, Markdown, what a database prints or takes."""

# ruff: noqa: PLR2004 - numbers of cells; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.detectors.view import View


class Cell(NamedTuple):
    """A value in a table, and what its column is called."""

    name: str
    start: int
    end: int


CELL_NAMES = (
    "cell", "contrase.a", "cvc2?", "cvv2?", "fax", "kennwort", "key", "mobile", "msisdn", "no", "num", "number", "otp",
    "pass(?:word|wd|phrase|code|wort)?", "phone", "pin", "pwd", "secret", "senha", "social[ _]security", "ssn",
    "tax[ _]?id", "tel", "telefon[oe]?", "telephone", "token", "wachtwoord", "whatsapp",
)  # fmt: skip
"""In RE2's syntax: how a cell may end that names a column."""
CELL_END = r"s?[0-9]?[\"'`\]* ]*(?:[,;|\t\r\n]|\)\s*values\b)"
"""What follows, to the mark behind it."""

_LONGEST_HEADER = 1_000
_LONGEST_ROW = 4_000
_HEADER = re.compile(r"[\w .#/*\"',;|\t\v\f-]+", re.ASCII)
_NAME = re.compile(r"[\w .#/-]{0,40}", re.ASCII)
_INTO = re.compile(r"\binto\s{1,20}[\w.`\"\[\]]{1,120}\s{0,20}\Z", re.ASCII | re.IGNORECASE)
_VALUES = re.compile(r"\s{0,80}values\s{0,80}(?=\()", re.ASCII | re.IGNORECASE)
_NEXT_VALUES = re.compile(r"\s{0,80},\s{0,80}(?=\()", re.ASCII)
_SQL_TEXT = r"[NEnex]?'(?P<{}>(?:[^'\\\x1f]|''|\\.){{0,4000}}+)'"
_SQL_CELL = re.compile(
    rf"\s{{0,80}}(?:{_SQL_TEXT.format('text')}|[A-Za-z_][\w.]{{0,40}}\({_SQL_TEXT.format('inner')}(?:[^()\x1f]|\([^()\x1f]{{0,80}}\)){{0,80}}\)"
    r"|(?P<number>[0-9+][0-9 .-]{0,40})|[^',\x1f]{0,400}?(?=[,)]))\s{0,80}",
    re.ASCII,
)
"""A value of a row: in quotes, or in those of a function of one, as `MD5('...')`; else a number."""
_RULER = re.compile(r"[ |:+=-]+", re.ASCII)


def find_columns(view: View) -> list[Cell]:
    """Give the cells of the columns that are called after something that is looked for."""
    text = view.ascii
    cells: list[Cell] = []
    done = 0
    opening, is_insert = -1, False
    has_lines, has_others = "\n" in text, "\x1f" in text
    for start, anchor_end in view.cells:
        if start < done:
            continue
        before, opening = opening, text.rfind("(", max(0, start - _LONGEST_HEADER), start)
        if opening != before:
            is_insert = opening >= 0 and _is_insert(text, opening)
        if is_insert and (inserted := _inserted(text, opening, start, cells)):
            done = inserted
            continue
        line = _line_around(text, start, anchor_end, has_others=has_others) if has_lines else None
        if line is None:
            continue
        first, end = line
        # Whatever comes of it, the line is looked at once.
        done = end
        header = text[first:end].rstrip("\r")
        if not _HEADER.fullmatch(header):
            continue
        mark = max(",;|\t", key=header.count)
        # A row has as many cells: most lines with such a word are code or prose, and what follows is no such row.
        below = text.find("\n", end + 1, end + _LONGEST_ROW)
        below = below if below >= 0 else min(len(text), end + _LONGEST_ROW)
        if text.find(mark, end + 1, below) < 0 and not _RULER.fullmatch(
            text, end + 1, below - text.endswith("\r", end + 1, below)
        ):
            continue
        names = _split(header, 0, len(header), mark)
        if (
            len(names) < 2
            or not any(a < b for a, b in names[1:])
            or not all(_NAME.fullmatch(header[a:b].strip("*")) for a, b in names)
        ):
            continue
        done = _rows(text, end + 1, mark, [header[a:b].strip("*") for a, b in names], cells)
    return cells


def _line_around(text: str, start: int, anchor_end: int, *, has_others: bool) -> tuple[int, int] | None:
    """Give where the line of a cell begins and ends, if it may be a header; `has_others`: if texts are joined here."""
    end = text.find("\n", anchor_end - 1, anchor_end + _LONGEST_HEADER)
    if end < 0 or (has_others and text.find("\x1f", start, end) >= 0):
        return None
    low = max(0, start - _LONGEST_HEADER)
    first = text.rfind("\n", low, start) + 1
    if has_others:
        first = max(first, text.rfind("\x1f", low, start) + 1)
    return (first, end) if first or not low else None


def _is_insert(text: str, opening: int) -> bool:
    """Say whether a bracket is that of `INSERT INTO table (`."""
    low = max(0, opening - 200)
    return "into" in text[low:opening].lower() and _INTO.search(text, low, opening) is not None


def _inserted(text: str, opening: int, start: int, cells: list[Cell]) -> int:
    """Add the cells of `INSERT INTO table (names) VALUES (row), (row)`, which names one here; give their end."""
    closing = text.find(")", start, start + _LONGEST_HEADER)
    if closing < 0:
        return 0
    names = [name.strip().strip('`"[]') for name in text[opening + 1 : closing].split(",")]
    row = _VALUES.match(text, closing + 1)
    end = 0
    while row is not None:
        values, end = _sql_row(text, row.end() + 1)
        if len(values) != len(names):
            return end
        cells += [Cell(name, *value) for name, value in zip(names, values, strict=True) if value[1] > value[0]]
        row = _NEXT_VALUES.match(text, end)
    return end


def _sql_row(text: str, position: int) -> tuple[list[tuple[int, int]], int]:
    """Give where the values of a row stand, and where the row ends; none if it is written in another way."""
    values = []
    while cell := _SQL_CELL.match(text, position):
        values.append(cell.span(cell.lastgroup) if cell.lastgroup else (cell.end(), cell.end()))
        position = cell.end()
        if text.startswith(")", position):
            return values, position + 1
        if not text.startswith(",", position):
            break
        position += 1
    return [], position


def _rows(text: str, position: int, mark: str, names: list[str], cells: list[Cell]) -> int:
    """Add the cells of the rows below a header, as long as they have as many; give where they end."""
    while position < len(text):
        end = text.find("\n", position, position + _LONGEST_ROW)
        last = end if end >= 0 else min(len(text), position + _LONGEST_ROW)
        separator = text.find("\x1f", position, last)
        last = separator if separator >= 0 else last
        row_end = last - text.endswith("\r", position, last)
        if not _RULER.fullmatch(text, position, row_end):
            row = _split(text, position, row_end, mark)
            if len(row) != len(names):
                return position
            cells += [Cell(name, *cell) for name, cell in zip(names, row, strict=True) if cell[1] > cell[0]]
        if separator >= 0 or end < 0:
            return last
        position = end + 1
    return position


def _split(text: str, start: int, end: int, mark: str) -> list[tuple[int, int]]:
    """Give where the cells of a row stand, without blanks and quotes around them."""
    if mark == "|":
        while start < end and text[start] in " \t":
            start += 1
        while end > start and text[end - 1] in " \t":
            end -= 1
        start += text.startswith("|", start, end)
        end -= text.endswith("|", start, end)
    cells = []
    while True:
        while start < end and text[start] in " \t" and text[start] != mark:
            start += 1
        quote = text[start] if start < end and text[start] in "\"'" else ""
        closing = text.find(quote, start + 1, end) if quote else -1
        at = text.find(mark, closing, end) if closing >= 0 else -1
        if closing >= 0 and not text[closing + 1 : at if at >= 0 else end].strip():
            cells.append((start + 1, closing))
        else:
            at = text.find(mark, start, end)
            stop = at if at >= 0 else end
            cells.append((start, start + len(text[start:stop].rstrip(" \t"))))
        if at < 0:
            return cells
        start = at + 1
