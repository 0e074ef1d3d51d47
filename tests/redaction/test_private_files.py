"""Private files are recognised as bytes, and as bytes that are written in a text; another file with the same header is not."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pictures import HEADER, data_uri, encoded, picture, picture_in

from langchain_mlflow_cost.redaction.private_json import without_private_text
from langchain_mlflow_cost.redaction.private_text import PrivateText

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"sixteen bytes :)"
SECRET = picture()


def knowing(content: bytes, *, kept: str = "whole") -> PrivateText:
    """What knows a file: in full, by marks alone, or by the marks that another process has sent."""
    private = PrivateText()
    private.add_file(data_uri(content))
    if kept == "marks":
        private.keep_marks()
    elif kept == "sent":
        from langchain_mlflow_cost.redaction.shingles import keyed

        marks, private = private.unsent_marks(), PrivateText()
        private.load_marks(np.unique(keyed(marks, KEY)), KEY)
    return private


WRITTEN: dict[str, Callable[[bytes], Any]] = {
    "repr": repr,
    "f-string": lambda content: f"read {content!r}, and then?",
    "repr in JSON": lambda content: json.dumps({"data": str(content)}),
    "hexadecimal": bytes.hex,
    "hexadecimal, upper case": lambda content: content.hex().upper(),
    "hexadecimal with colons": lambda content: content.hex(":"),
    "Latin-1": lambda content: content.decode("latin-1"),
    "numbers": list,
    "quoted": urllib.parse.quote,
    "base64": encoded,
    "a piece": lambda content: repr(content[900:1_400]),
}


@pytest.mark.parametrize("kept", ["whole", "marks", "sent"])
@pytest.mark.parametrize("how", WRITTEN)
def test_bytes_in_a_text(how: str, kept: str) -> None:
    """However bytes are written in a text, those of a private file go, and what stands beside them stays."""
    payload = json.dumps({"beside": "as ever", "shown": WRITTEN[how](SECRET)})
    clean, hits = without_private_text(payload, knowing(SECRET, kept=kept))

    assert picture_in(SECRET, payload.encode()) is not None or how == "a piece"
    assert hits
    assert picture_in(SECRET, clean.encode()) is None
    assert json.loads(clean)["beside"] == "as ever"


@pytest.mark.parametrize("how", WRITTEN)
def test_other_bytes_stay(how: str) -> None:
    """Bytes of another file are as they were written."""
    other = picture()[len(HEADER) :]
    payload = json.dumps({"shown": WRITTEN[how](other)})

    assert without_private_text(payload, knowing(SECRET)) == (payload, 0)


@pytest.mark.parametrize("kept", ["whole", "marks", "sent"])
@pytest.mark.parametrize(
    ("content", "is_private"),
    [
        (SECRET, True),
        (SECRET + b"by Ann", True),
        (b"\x00" + SECRET, True),
        (SECRET[:2_000], True),
        (SECRET[1_000:], True),
        (picture(), False),
        (HEADER[:200], True),
        (b"", False),
        (b"short", False),
    ],
    ids=["the same", "a comment behind", "a byte before", "its beginning", "its end", "same header", "a header", "none", "short"],
)  # fmt: skip
def test_a_file_most_of_which_is_private(content: bytes, kept: str, is_private: bool) -> None:
    """A file is private if most of its pieces are; what two pictures have in common makes neither so."""
    assert knowing(SECRET, kept=kept).holds_file(content) == is_private


def test_nothing_is_private_where_no_file_is() -> None:
    """Text alone makes no file private."""
    private = PrivateText()
    private.add("a sentence about a picture of Ann's, and what it shows")

    assert not private.holds_file(SECRET)
