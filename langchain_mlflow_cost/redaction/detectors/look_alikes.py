"""Characters that look like ASCII and are not, and those that cannot be seen."""

# ruff: noqa: PLR2004, RUF001 - the look-alikes are the subject, and their code points

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.re2_search import text_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

# Soft hyphen, joiners, direction marks, variation selectors, tags and the like.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0001-\U000e007f"
)
# Beyond the first two planes there are no digits.
_LAST_DIGITS = 0x20000


def _look_alikes() -> dict[str, str]:
    """Map digits of all scripts, full-width forms, mathematical letters, hyphens and spaces to ASCII, one to one."""
    folded = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    folded |= dict.fromkeys(
        "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
    )
    folded |= dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63", "-")
    folded |= {
        "\u2024": ".",
        "\ufe52": ".",
        "\ufe6b": "@",
        "\u2044": "/",
        "\u2215": "/",
        "\ufe55": ":",
        "\ua789": ":",
        "\u2236": ":",
        "\u3002": ".",
        "\uff61": ".",
    }
    for code in range(0x80, _LAST_DIGITS):
        character = chr(code)
        if character.isdecimal():
            folded[character] = str(unicodedata.decimal(character))
        elif 0x1D400 <= code <= 0x1D7CB:
            plain = unicodedata.normalize("NFKC", character)
            if len(plain) == 1 and plain.isascii():
                folded[character] = plain
    return folded


_FOLDED = _look_alikes()
FOLD_TABLE = str.maketrans(_FOLDED)
# Chinese text is full of full-width commas and brackets: they alone are no reason to fold it.
_COMMON = set("，．：；！？（）、。～｛｝［］＝＜＞＂＇　—–‒―…") & set(_FOLDED)
_RARE = sorted(character for character in _FOLDED if character not in _COMMON)


def _ranges(characters: list[str]) -> str:
    parts: list[list[int]] = []
    for code in map(ord, characters):
        if parts and code == parts[-1][1] + 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in parts)


_INVISIBLE_SET = frozenset(
    chr(code)
    for first, last in (match.groups() for match in re.finditer(r"(.)(?:-(.))?", _INVISIBLE))
    for code in range(ord(first), ord(last or first) + 1)
)
# Of the common ones, those that are folded where a word or a number is beside one of them.
_BESIDE_WORDS = "．：＝–‒―—　"
_SUSPICIOUS = text_pattern(f"[{_ranges(_RARE)}{_INVISIBLE}]|[0-9A-Za-z][{_BESIDE_WORDS}]|[{_BESIDE_WORDS}][0-9A-Za-z]")
_MANY = 40
_ASCII = bytes(range(128))


class OtherLetters:
    """Look-alikes and certain words of other scripts, in one pass over what of a text is not ASCII."""

    def __init__(self, words: str) -> None:
        """Take the words, with `|` between them."""
        self._here = text_pattern(f"{_SUSPICIOUS.pattern}|{words}")
        # Without what is ASCII, of which most texts that have a dash or an accent have the most.
        self._without_ascii = text_pattern(f"[{_ranges(_RARE)}{_INVISIBLE}{_BESIDE_WORDS}]|{words.replace(' ', '')}")
        self._words = text_pattern(words.replace(" ", ""))

    def folded(self, text: str) -> tuple[str, list[int], bool]:
        """Fold a text as `fold` does; also say whether one of the words may be in it."""
        data = text.encode(errors="replace")
        if len(data) >= 2 * len(text):
            return (*fold(text), True) if self._here.search(data) is not None else (text, [], False)
        letters = data.translate(None, _ASCII)
        if self._without_ascii.search(letters) is None:
            return text, [], False
        few = set(letters.decode()) if len(letters) < _FEW else None
        if few is None or few & _INVISIBLE_SET:
            return (*fold(text), True)
        # Those first that are folded wherever they stand: a dash may stand beside one of them.
        for character in sorted(few & _FOLDED.keys(), key=_BESIDE_WORDS.__contains__):
            if character in _COMMON and not (character in _BESIDE_WORDS and _is_beside_word(text, character)):
                continue
            text = text.replace(character, _FOLDED[character])
        return text, [], self._words.search(letters) is not None


_FEW = 1_000
"""Bytes of other letters: of so few, each is looked at by itself."""


def _is_beside_word(text: str, character: str) -> bool:
    for at in _text_positions(text, character):
        if any(one.isascii() and one.isalnum() for one in text[max(0, at - 1) : at + 2]):
            return True
    return False


def fold(text: str) -> tuple[str, list[int]]:
    """Put look-alikes into ASCII, one to one, and take out what cannot be seen; also give where that was."""
    data = text.encode(errors="replace")
    position = 0
    hidden: list[int] = []
    replaced = 0
    while match := _SUSPICIOUS.search(data, position):
        position = match.start()
        replaced += 1
        if replaced > _MANY:
            # One pass over all costs as much as replacing so many one by one.
            hidden = [i for i, character in enumerate(text) if character in _INVISIBLE_SET]
            return text.translate(FOLD_TABLE), hidden
        for character in match.group().decode():
            if character.isascii():
                continue
            folded = _FOLDED.get(character)
            if folded is None:
                hidden += _text_positions(text, character)
                data = data.replace(character.encode(), b"")
            else:
                text = text.replace(character, folded)
                data = data.replace(character.encode(), folded.encode())
    return text, hidden


def _text_positions(text: str, character: str) -> Iterator[int]:
    at = text.find(character)
    while at >= 0:
        yield at
        at = text.find(character, at + 1)


INVISIBLE = re.compile(f"[{_INVISIBLE}]")
