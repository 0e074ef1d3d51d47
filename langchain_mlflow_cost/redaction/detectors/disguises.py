r"""Values written as something else: `bob&#64;example.com`, `bob\u0040example.com`, `bob%2540example.com`, base64.

Nobody hides them: they come out of web pages, of JSON in a string in a string, of e-mails, of clusters' secrets.
"""

# ruff: noqa: PLR2004, E501 - lengths and code points, as the encodings have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import base64
import binascii
import bisect
import html
import re

MARKS = r"&(?:#[0-9xX]|commat;|period;|quot;|equals;|colon;|hyphen;|lowbar;|plus;)|\\u00[2-7]|=40|=3D|%25"
"""In RE2's syntax: what begins each of them. Most texts have none of it."""

_WRITTEN = re.compile(
    r"&#[0-9]{2,6};|&#[xX][0-9A-Fa-f]{2,5};|&(?:commat|period|colon|hyphen|lowbar|plus|num|sol|quot|apos|amp|equals);"
    r"|\\{1,4}u00[2-7][0-9A-Fa-f]|%25(?:25)?[2-7][0-9A-Fa-f]"
    # Quoted-printable, where it cannot be `x=40`: before a domain, or as the equals sign itself, or at the end of a line.
    r"|(?<=[\w.])=40(?=[A-Za-z0-9-]+(?:\.|=2E))|=3D|(?<=[\w.=-])=\r?\n(?=[\w.@-])",
    re.ASCII,
)
# How far around a mark is read: names, addresses and passwords are no longer.
_REACH = 300


def windows(marks: list[int], size: int) -> list[tuple[int, int]]:
    """Give the stretches of a text around its marks, apart."""
    result: list[tuple[int, int]] = []
    for mark in marks:
        low, high = max(0, mark - _REACH), min(size, mark + _REACH)
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return result


def decoded(text: str) -> tuple[str, list[int], list[int]] | None:
    """Read what is written otherwise.

    Returns:
        The text as meant, where in it each thing stands that was read, and how much longer the original is from there
        on; None if there is nothing of the kind.
    """
    pieces: list[str] = []
    places: list[int] = []
    longer: list[int] = []
    done = size = 0
    for match in _WRITTEN.finditer(text):
        meant = _meant(match.group())
        if meant is None:
            continue
        pieces += (text[done : match.start()], meant)
        size += match.start() - done
        places.append(size)
        size += len(meant)
        done = match.end()
        longer.append(done - size)
    if not places:
        return None
    pieces.append(text[done:])
    return "".join(pieces), places, longer


def _meant(written: str) -> str | None:
    first = written[0]
    if first == "&":
        meant = html.unescape(written)
    elif first == "=":
        meant = "" if "\n" in written else chr(int(written[1:], 16))
    else:
        meant = chr(int(written[-2:], 16))
    return meant if len(meant) < 2 and meant.isascii() and (meant.isprintable() or not meant) else None


def original(start: int, end: int, places: list[int], longer: list[int]) -> tuple[int, int]:
    """Give where a stretch of the text as meant stands in the original."""
    first, last = bisect.bisect_left(places, start), bisect.bisect_left(places, end)
    return start + (longer[first - 1] if first else 0), end + (longer[last - 1] if last else 0)


# As LangChain and everybody else make them: a UUID, also with a word in front that says of what.
_ID = re.compile(
    r"(?:(?:lc_)?run-{1,2})?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-[0-9]{1,3})?", re.ASCII
)
LENGTHS_OF_IDS = frozenset(range(36, 49))
"""No other text needs to be asked about."""


def is_id(text: str) -> bool:
    """Say whether a text is the id of a message or a run and nothing else: of a graph's strings, most that are new."""
    return len(text) in LENGTHS_OF_IDS and _ID.fullmatch(text) is not None


LENGTHS_OF_BASE64 = range(16, 4097, 4)
"""No other text is read as base64 as a whole."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{15,4096}={0,2}|[A-Za-z0-9_-]{15,4096}={0,2}", re.ASCII)


def from_base64(text: str) -> str | None:
    """Read a text that is base64 as a whole, and of a text."""
    if len(text) not in LENGTHS_OF_BASE64 or not _BASE64.fullmatch(text) or is_id(text):
        return None
    try:
        meant = base64.b64decode(text.translate(_URL_SAFE), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return meant if meant.rstrip("\r\n").isprintable() or "\n" in meant.strip() else None


_URL_SAFE = str.maketrans("-_", "+/")
