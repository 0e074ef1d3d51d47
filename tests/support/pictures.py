"""Files that occur nowhere else, and how a piece of one is looked for in stored bytes, however it was written."""

from __future__ import annotations

import base64
import itertools
import json
import random
import urllib.parse
from typing import Any

_number = itertools.count()
HEADER = b"\x89PNG\r\n\x1a\n" + bytes(random.Random("a colour profile").randbytes(600))
"""What many pictures have in common: a signature, a profile of colours."""


def picture(size: int = 3_000) -> bytes:
    """A picture, as compressed as any: the same in every run of the tests."""
    return HEADER + random.Random(f"picture {next(_number)}").randbytes(size)


def encoded(content: bytes) -> str:
    """In base64."""
    return base64.b64encode(content).decode()


def data_uri(content: bytes) -> str:
    """As a part of a page."""
    return f"data:image/png;base64,{encoded(content)}"


def url_block(content: bytes) -> dict[str, Any]:
    """As OpenAI takes it."""
    return {"type": "image_url", "image_url": {"url": data_uri(content)}}


def spellings(piece: bytes) -> dict[str, bytes]:
    """The ways in which a piece of a file can stand in stored bytes."""
    text = piece.decode("latin-1")
    shown = repr(piece)[2:-1]
    found = {
        "bytes": piece,
        "hexadecimal": piece.hex().encode(),
        "hexadecimal, upper case": piece.hex().upper().encode(),
        "hexadecimal, apart": piece.hex(" ").encode(),
        "hexadecimal with colons": piece.hex(":").encode(),
        "repr": shown.encode(),
        "repr in JSON": json.dumps(shown)[1:-1].encode(),
        "repr in JSON in JSON": json.dumps(json.dumps(shown))[3:-3].encode(),
        "Latin-1 in UTF-8": text.encode(),
        "Latin-1 in JSON": json.dumps(text)[1:-1].encode(),
        "Latin-1 in JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        "quoted": urllib.parse.quote(piece).encode(),
        "numbers": ", ".join(map(str, piece)).encode(),
        "numbers, close": ",".join(map(str, piece)).encode(),
    }
    for offset in range(3):
        part = piece[offset : offset + (len(piece) - offset) // 3 * 3]
        found[f"base64 {offset}"] = base64.b64encode(part)
        found[f"base64 of URLs {offset}"] = base64.urlsafe_b64encode(part)
    return found


def picture_in(content: bytes, stored: bytes) -> str | None:
    """How a piece of a file's own stands in stored bytes, and where in the file it is from; None if none does."""
    for at in (len(HEADER) + 64, len(content) // 2, len(content) - 80):
        for name, spelling in spellings(content[at : at + 20]).items():
            if spelling in stored:
                return f"{name}, from {at}"
    return None
