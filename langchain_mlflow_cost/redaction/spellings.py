"""How the same text can stand in stored bytes: as JSON in JSON, in a URL, in base64, in other codings."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_DEPTH: Final = 5
"""JSON in a string in JSON: a span's row holds attributes as JSON, which hold messages, which hold a tool call's
arguments, which hold what a program wrote."""
_SHORTEST_BASE64: Final = 8
"""Of a text of three letters it is three letters, which are somewhere in every picture."""
_ESCAPE: Final = re.compile(rb"(\\+u)([0-9a-f]{4})")
_MARKUP: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"}
"""What writers of JSON for web pages escape, though JSON does not ask for it."""


def spellings(text: str) -> dict[str, bytes]:
    """Every spelling in which a copy of a text is looked for.

    Letters and digits of ASCII look the same in nearly all of them, so that most texts have few.

    Args:
        text: As it was said. Of a copy that may be cut short, look for its beginning.

    Returns:
        The bytes by the spelling's name; each only once, under the first name that has it.
    """
    found: dict[str, bytes] = {"plain": _utf8(text)}
    for form in ("NFC", "NFD"):
        found[form] = _utf8(unicodedata.normalize(form, text))
    _add_json(found, text)
    found |= {
        "url": quote(text, safe="/", errors="surrogatepass").encode(),
        "url, all": quote(text, safe="", errors="surrogatepass").encode(),
        "form": quote_plus(text, errors="surrogatepass").encode(),
        "html": _utf8(html.escape(text)),
        "python": _utf8(repr(text)[1:-1]),
        "utf-16": text.encode("utf-16-le", "surrogatepass"),
        "utf-16, big end first": text.encode("utf-16-be", "surrogatepass"),
        "hexadecimal": _utf8(text).hex().encode(),
        "HEXADECIMAL": _utf8(text).hex().upper().encode(),
    }
    _add_base64(found, _utf8(text))
    first = {spelled: name for name, spelled in reversed(found.items()) if spelled}
    return {name: spelled for name, spelled in found.items() if first.get(spelled) == name}


def spelling_in(needles: Mapping[str, bytes], stored: bytes) -> str | None:
    """The first of some spellings that is in these bytes; None if there is none."""
    return next((name for name, spelled in needles.items() if spelled in stored), None)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _add_json(found: dict[str, bytes], text: str) -> None:
    """JSON within JSON: with letters as they are so many times, then, for once and for all, as escapes in ASCII."""
    raw = text
    for depth in range(1, JSON_DEPTH + 1):
        escaped = json.dumps(raw)[1:-1]
        for further in range(depth, JSON_DEPTH + 1):
            name = f"json {further}" if depth == 1 else f"utf-8 json {depth - 1}, json {further}"
            found[name] = escaped.encode()
            upper = _ESCAPE.sub(lambda match: match[1] + match[2].upper(), found[name])
            found[f"{name}, upper case"] = upper
            escaped = json.dumps(escaped)[1:-1]
        raw = json.dumps(raw, ensure_ascii=False)[1:-1]
        found[f"utf-8 json {depth}"] = _utf8(raw)
    for name, ascii_only in (("web json", True), ("utf-8 web json", False)):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1].replace("/", "\\/")
        found[f"{name}, slashes"] = _utf8(written)
        for mark, code in _MARKUP.items():
            written = written.replace(mark, code)
        found[name] = _utf8(written.replace("\\/", "/"))


def _add_base64(found: dict[str, bytes], content: bytes) -> None:
    for offset in range(3):
        # The first and the last characters of base64 depend on the neighbours.
        padded = base64.b64encode(b"\0" * offset + content + b"\0" * 3)
        piece = padded[(offset * 8 + 5) // 6 : (offset + len(content)) * 8 // 6]
        if len(piece) < _SHORTEST_BASE64:
            continue
        found[f"base64 at {offset}"] = piece
        found[f"base64 for URLs at {offset}"] = piece.translate(bytes.maketrans(b"+/", b"-_"))
