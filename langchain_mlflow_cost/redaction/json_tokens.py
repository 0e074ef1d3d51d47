"""The pieces of a JSON document that say something, and where in it they stand."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import orjson


class Token(NamedTuple):
    """A piece of JSON that says something, and where it stands."""

    kind: Literal["key", "value", "number"]
    start: int
    end: int

    def said(self, text: str) -> str:
        """What it says, of the document that it is in."""
        written = text[self.start : self.end]
        return written if self.kind == "number" else str(orjson.loads(written))


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|-?\d[\d.eE+-]*')


def json_tokens(text: str) -> list[Token] | None:
    """The keys, strings and numbers of a JSON document in order; None if the text is none, or a bare number."""
    if text[:1] not in ("{", "[", '"') and not text[:1].isspace():
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    tokens = []
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        if text[start] != '"':
            tokens.append(Token("number", start, end))
        elif (colon := found[1]) is not None:
            tokens.append(Token("key", start, end - len(colon)))
        else:
            tokens.append(Token("value", start, end))
    return tokens
