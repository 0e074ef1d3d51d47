"""The values of data that a private text prints: rows of a table, lines with a label each, Python's literals, markup.

A database's answer is told to a model row by row and stands in a state by columns, or one value alone. As in JSON, each
value is then private by itself. Names as programs give them, such as a column's, are not.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.redaction.ordinary import is_program_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_VALUES: Final = 5_000
"""Of one text: each takes time of its own."""
_LONGEST_VALUE: Final = 200
"""A longer one is recognised by its pieces."""
_QUOTED = re.compile(
    r"(?<=[\[({,: ])(?P<value>'(?:[^'\\\n]|\\.){2,400}'|\"(?:[^\"\\\n]|\\.){2,400}\")\s{0,4}(?=[,:)\]}])"
)
"""A string of a list, tuple or mapping, as Python prints it."""
_IN_TAGS = re.compile(r">([^<>\n]{2,200})</")
_FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_RULER = re.compile(r"[ |:+=-]+")
_COMMA_OF_PROSE = re.compile(r",\s")
_BLANKS = re.compile(r" {2,}")
_ITEM = re.compile(
    r"\s{0,40}(?P<bullet>[-*+•]\s{1,4}|[0-9]{1,3}[.)]\s{1,3})?"
    r"(?P<label>[*_`\"']{0,3}\w[\w .()/#&-]{0,40}[*_`\"']{0,3}\s?(?::|=>?|->)\s{0,40})?(?P<value>[^\s].{0,200})"
)
"""A line of YAML, an environment file, a letterhead or a list."""


def written_values(text: str) -> Iterator[str]:
    """The values in a text that is no JSON document itself; none of them is the text."""
    return itertools.islice((value for value in _values(text) if value and value != text), _MOST_VALUES)


def _values(text: str) -> Iterator[str]:
    for fenced in _FENCED.finditer(text):
        yield fenced[1]
    for quoted in _QUOTED.finditer(text):
        said = _said(quoted["value"])
        if not is_program_name(said):
            yield said
    for cell in _IN_TAGS.finditer(text):
        yield cell[1]
    lines = text.splitlines()
    if len(lines) > 1:
        yield from (line for line in lines if line[:1] in ("{", "["))
        yield from _cells(lines)
        yield from _items(lines)


def _said(quoted: str) -> str:
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError):
        return quoted[1:-1]


def _cells(lines: list[str]) -> Iterator[str]:
    """The cells of lines of which two in a row have as many: one alone may be prose or code."""
    above: tuple[str, list[str]] = ("", [])
    for line in lines:
        if _RULER.fullmatch(line):
            continue
        mark, cells = _split(line)
        if len(cells) > 1 and mark == above[0] and len(cells) == len(above[1]):
            for cell in (*above[1], *cells):
                if len(cell) <= _LONGEST_VALUE and not is_program_name(cell):
                    yield cell
        above = mark, cells


def _items(lines: list[str]) -> Iterator[str]:
    """What stands behind the labels or bullets of lines, of which two in a row have one: one alone may be prose."""
    above: tuple[str, str] | None = None
    for line in lines:
        item = _ITEM.fullmatch(line)
        if item is None or not (item["label"] or item["bullet"]):
            above = None if line.strip() else above
            continue
        kind, value = "label" if item["label"] else "bullet", item["value"].strip(" \t\"'`*_,;")
        if above is not None and above[0] == kind:
            yield from (each for each in (above[1], value) if not is_program_name(each))
        above = kind, value


def _split(line: str) -> tuple[str, list[str]]:
    """What stands between the cells of a line, and the cells; nothing of a line that is none of a table."""
    mark = next((mark for mark in "|\t;" if mark in line), "")
    if mark:
        cells = line.strip().strip("|").split(mark)
    elif "," in line and not _COMMA_OF_PROSE.search(line):
        mark, cells = ",", line.split(",")
    else:
        mark, cells = "  ", _BLANKS.split(line.strip())
    return mark, [cell.strip().strip("\"'`*") for cell in cells]
