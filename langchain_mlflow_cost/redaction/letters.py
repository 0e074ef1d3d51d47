r"""The letters of a text, as texts are compared: without escapes, case, accents and all that is no letter or digit.

* Escapes are undone until none is left: JSON's and Python's (`\n`, `\u00e9`, `\U0001f9ad`, `\xe9`, `\303\251`, escaped
  again as often as you like), those of URLs (`%20`, `%2520`), of HTML (`&lt;`, `&#x27;`, `&amp;lt;`) and of
  quoted-printable (`=C3=A9`).
* A letter is what is left of a character by Unicode's compatibility decomposition, case folding, and without marks
  and characters that cannot be seen: full-width letters, `É`, and `é` in two characters are plain ones.
* White space, punctuation and signs are no letters, whatever their script; pictures such as emoji are.
* A token that redaction left, such as `[EMAIL_ADDRESS]`, is one letter.

Where each letter stands in the text is kept, so that what is found by its letters can be cut out of the text.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Codes = NDArray[np.uint32]
Positions = NDArray[np.intp]

DENSE_FROM: Final = 0x2E80
"""From here on Unicode has scripts, such as Chinese, whose characters say as much as two or three letters."""


class Letters(NamedTuple):
    """The letters of a text, and where they stand."""

    codes: Codes
    starts: Positions
    """Where the character begins that a letter comes from, or its escape."""
    ends: Positions
    """Where that ends."""


_MAX_PASSES: Final = 8
"""How often other kinds of escapes may be wrapped around one another; one kind around itself counts once."""

_ESCAPE = re.compile(
    r"(?:\\+(?:u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))+"
    r"|(?:\\+x[0-9a-fA-F]{2})+|(?:\\+[0-3][0-7]{2})+|\\+[abfnrtv]"
    r"|(?:%(?:25)*u[0-9a-fA-F]{4})+|(?:%(?:25)*[0-9A-Fa-f]{2})+"
    r"|&(?:amp;)*(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});"
    r"|=\r?\n|(?:=(?:[89A-F][0-9A-F]|0[9AD]|2[0267C]|3[DF]|5F)(?:=\r?\n)?)+"
)
_SIGNS: Final = ("\\", "%", "&", "=")
"""What an escape begins with."""
_UNIT = re.compile(r"u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_PAIR = re.compile(r"%(?:25)*([0-9A-Fa-f]{2})|=([0-9A-F]{2})|x([0-9a-fA-F]{2})")
_OCTAL = re.compile(r"[0-3][0-7]{2}")
_LONE_AMP = re.compile(r"&(?:amp;)+")


def _unescaped(escape: str) -> str:
    """What a run of escapes stands for; never longer than the run."""
    if escape[-1] in "abfnrtv" and escape[-2] == "\\":
        return " "
    sign = escape[0]
    if sign == "&":
        return html.unescape(_LONE_AMP.sub("&", escape))
    kind = escape.lstrip("\\")[:1] if sign == "\\" else ""
    if kind in ("u", "U") or (sign == "%" and "u" in escape):
        return _of_units(int(brace or short or long, 16) for brace, short, long in _UNIT.findall(escape))
    if kind and kind in "0123":
        return _of_bytes(bytes(int(digits, 8) for digits in _OCTAL.findall(escape)))
    if sign in "%=" or kind == "x":
        return _of_bytes(bytes(int(a or b or c, 16) for a, b, c in _PAIR.findall(escape)))
    return " "


def _of_units(units: object) -> str:
    raw = b""
    for unit in units:  # type: ignore[attr-defined]  # a generator of numbers
        if unit < 0x10000:  # noqa: PLR2004 - the end of what one unit of UTF-16 can say
            raw += unit.to_bytes(2, "big")
        elif unit <= 0x10FFFF:  # noqa: PLR2004 - the end of Unicode
            raw += chr(unit).encode("utf-16-be")
    return raw.decode("utf-16-be", "replace")


def _of_bytes(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        # A `repr` writes the characters below 256 so, older programs their bytes.
        return raw.decode("latin-1")


def _escapes(text: str, codes: Codes) -> Iterator[re.Match[str]]:
    """Where escapes stand, tried where one can begin alone: the pattern would be tried at every character."""
    begins = np.zeros(len(codes), dtype=bool)
    for sign in _SIGNS:
        if sign in text:
            begins |= codes == ord(sign)
    if "\\" in text:
        # One that begins with a backslash has all of those before it.
        slashes = codes == ord("\\")
        begins[1:] &= ~(slashes[1:] & slashes[:-1])
    return found_at(_ESCAPE, text, begins)


def found_at(pattern: re.Pattern[str], text: str, begins: NDArray[np.bool_]) -> Iterator[re.Match[str]]:
    """What `finditer` finds, for a pattern that can begin at some characters alone: far faster where these are few."""
    done = 0
    for at in np.nonzero(begins)[0].tolist():
        found = pattern.match(text, at) if at >= done else None
        if found is not None:
            done = found.end()
            yield found


def digits(codes: Codes) -> NDArray[np.bool_]:
    """Which characters are decimal digits, of whatever script."""
    found: NDArray[np.bool_] = (codes >= ord("0")) & (codes <= ord("9"))
    others = [code for code in set(codes[codes > _ASCII].tolist()) if chr(code).isdecimal()]
    if others:
        found |= np.isin(codes, others)
    return found


_ASCII: Final = 0x7F


_REDACTED = re.compile(r"\[[A-Z][A-Z0-9_]{2,}(?::[0-9A-Za-z_-]+)?\]|\*{4}[0-9]{0,4}")
"""A token that redaction left: it stands for one character, whatever its letters."""
TOKEN_CODE: Final = 0xE000  # of Unicode's private use area, so no text has it by chance


def characters(text: str) -> Letters:
    """The characters of a text without escapes, and where they stand in it."""
    codes = codes_of(text)
    starts = np.arange(len(codes), dtype=np.intp)
    ends = starts + 1
    for _ in range(_MAX_PASSES):
        found = list(_escapes(text, codes))
        if not found:
            break
        plain = [_unescaped(escape[0])[: escape.end() - escape.start()] for escape in found]
        codes, starts, ends = _replaced(
            Letters(codes, starts, ends), np.array([escape.span() for escape in found], dtype=np.intp), plain
        )
        text = _text_of(codes)
    if "[" in text or "****" in text:
        tokens = [token.span() for token in _REDACTED.finditer(text)]
        if tokens:
            seen = Letters(codes, starts, ends)
            return _replaced(seen, np.array(tokens, dtype=np.intp), [chr(TOKEN_CODE)] * len(tokens))
    return Letters(codes, starts, ends)


def _replaced(seen: Letters, spans: Positions, plain: list[str]) -> Letters:
    """The characters with others in the place of some stretches, none of them longer than its stretch."""
    codes, starts, ends = (field.copy() for field in seen)
    firsts, lasts = spans[:, 0], spans[:, 1]
    lengths = np.array([len(each) for each in plain], dtype=np.intp)
    offsets = np.cumsum(lengths) - lengths
    at = np.repeat(firsts - offsets, lengths) + np.arange(int(lengths.sum()), dtype=np.intp)
    codes[at] = codes_of("".join(plain))
    starts[at] = np.repeat(seen.starts[firsts], lengths)
    ends[at] = np.repeat(seen.ends[lasts - 1], lengths)
    steps = np.zeros(len(codes) + 1, dtype=np.int32)
    np.add.at(steps, firsts + lengths, 1)
    np.add.at(steps, lasts, -1)
    kept = np.cumsum(steps[:-1], dtype=np.int32) == 0
    return Letters(codes[kept], starts[kept], ends[kept])


def letters_of(seen: Letters) -> tuple[Letters, Positions]:
    """The letters of characters, and which character each of them comes from."""
    codes = seen.codes
    folded = _FOLDED[codes]
    unknown = codes[folded == _UNKNOWN]
    if len(unknown):
        for code in set(unknown.tolist()):
            _learn(code)
        folded = _FOLDED[codes]
    at = np.nonzero(folded != _DROPPED)[0]
    folded = folded[at]
    several = np.nonzero(folded == _SEVERAL)[0]
    dense = (folded >= DENSE_FROM) & (folded < _FIRST_MARKED)
    if len(several) or dense.any():
        weights = np.where(dense & (folded != TOKEN_CODE), 2, 1)
        runs = {int(code): _letters_of_character(int(code)) for code in set(codes[at[several]].tolist())}
        for index in several.tolist():
            weights[index] = len(runs[int(codes[at[index]])])
        places = np.cumsum(weights) - weights
        folded, spread = np.repeat(folded, weights), np.repeat(at, weights)
        for index in several.tolist():
            run = runs[int(codes[at[index]])]
            folded[places[index] : places[index] + len(run)] = run
        at = spread
    return Letters(folded, seen.starts[at], seen.ends[at]), at


def folded(text: str) -> Letters:
    """The letters of a text."""
    return letters_of(characters(text))[0]


_UNKNOWN: Final = 0
_DROPPED: Final = 0xFFFFFFFF
_SEVERAL: Final = 0xFFFFFFFE
_FIRST_MARKED: Final = 0xFFFFFFF0
_FOLDED: Codes = np.zeros(0x110000, dtype=np.uint32)
"""What each character becomes, learnt when it is met first; the system keeps no memory for what is not met."""
_KEPT_CATEGORIES: Final = ("L", "N", "So", "Co", "Cn", "Cs")
_UNSEEN: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters by category that show nothing."""


def _letters_of_character(code: int) -> list[int]:
    character = chr(code)
    if unicodedata.category(character) == "Cs":
        return [code]
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # Turkish's letter without a dot is this one in capitals.
    plain = plain.replace("\u0131", "i")
    kept = []
    for each in plain:
        if unicodedata.category(each).startswith(_KEPT_CATEGORIES) and each not in _UNSEEN:
            digit = unicodedata.decimal(each, None)
            kept.append(ord(each) if digit is None else ord("0") + digit)
    return kept


def _learn(code: int) -> None:
    run = _letters_of_character(code)
    _FOLDED[code] = _DROPPED if not run else run[0] if len(run) == 1 else _SEVERAL


for _code in range(256):
    _learn(_code)


def codes_of(text: str) -> Codes:
    """The characters of a text as numbers."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _text_of(codes: Codes) -> str:
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def text_of(seen: Letters) -> str:
    """Characters as a text again."""
    return _text_of(seen.codes)
