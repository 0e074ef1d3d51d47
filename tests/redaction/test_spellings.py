"""How a text can be spelled in stored bytes."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import orjson
import pytest

from langchain_mlflow_cost.redaction.spellings import spelling_in, spellings

TEXTS = ("Zoë Ångström", 'said "no" \\ 7/8 & <b>', "line\nnext\ttab", "李小龍 🙂", "ada@example.com", "plain words")
WRITERS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": json.dumps,
    "orjson": lambda text: orjson.dumps(text).decode(),
    "url": quote,
    "whole url": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "html": html.escape,
    "python": repr,
    "upper-case escapes": lambda text: re.sub(
        r"u[0-9a-f]{4}", lambda code: f"u{code[0][1:].upper()}", json.dumps(text)
    ),
    "php": lambda text: json.dumps(text).replace("/", "\\/"),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_text_is_found_as_others_write_it(writer: str, text: str) -> None:
    """Whoever wrote the text, it is found."""
    assert spelling_in(spellings(text), f"before {WRITERS[writer](text)} behind".encode())


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("inner", range(5))
@pytest.mark.parametrize("outer", range(5))
def test_text_is_found_in_json_in_json(outer: int, inner: int, text: str) -> None:
    """Up to five strings deep, wherever in them letters were turned into escapes."""
    written = text
    for _ in range(inner):
        written = json.dumps({"content": written}, ensure_ascii=False)
    for _ in range(min(outer, 5 - inner)):
        written = json.dumps([written])

    assert spelling_in(spellings(text), written.encode())


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_text_is_found_in_base64(before: str, text: str) -> None:
    """At each of base64's three places, in both of its alphabets."""
    content = f"{before}{text} and more".encode()

    assert spelling_in(spellings(text), base64.b64encode(content))
    assert spelling_in(spellings(text), base64.urlsafe_b64encode(content))


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_found_in_other_codings(text: str) -> None:
    """In UTF-16, in hexadecimal digits."""
    for written in (text.encode("utf-16"), text.encode("utf-16-be"), text.encode().hex().encode()):
        assert spelling_in(spellings(text), b"--" + written + b"--")


@pytest.mark.parametrize("text", ["bob", "Ada Lovelace", "ada@example.com"])
def test_other_text_is_not_found(text: str) -> None:
    """A text is not in what it is only like, and a short one not in pictures by chance."""
    other = f"{text[:-1]}! {text[1:]} {text.swapcase()} bo b JvY ib2"

    assert spelling_in(spellings(text), other.encode()) is None


def test_half_a_character() -> None:
    """What cannot be written in UTF-8 is looked for all the same, in JSON's escapes."""
    text = "a \ud800 b"

    assert spelling_in(spellings(text), json.dumps([text]).encode()) == "json 1"
