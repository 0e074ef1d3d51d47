r"""Recognise, anywhere, text that a model in a private node was told or said.

Pure: strings in, strings out. What counts as the same text, exactly:

* Text is compared by its letters and digits alone. ASCII case, white space, punctuation, and the escapes of JSON
  (`\n`, `\u00e9`, also twice), of bytes (`\xe9`), of URLs (`%20`) and of HTML (`&lt;`) make no difference; characters
  above ASCII count as they are, those of Chinese and its like twice.
* Every run of `SHINGLE` or more of those characters that stands in a private text is recognised inside any other
  text, so a quotation, an f-string, a prefix or a truncated copy is found; so are they in base64, at any offset.
* A private string shorter than that, down to `SHORTEST`, is recognised where it stands between word boundaries, if
  it is not a plain word or a number: `Bob Lee` and `a1-b2-c3` are, `approved`, `assistant` and `20261121` are not.
* The found stretch is widened to whole words, and a gap too short to be recognised by itself goes with it.

Out of reach: a paraphrase, a translation, another encoding, and any piece shorter than the above.

Time and memory are linear in what was said plus what is searched: one 64-bit number a character, compared by binary
search.
"""

from __future__ import annotations

import base64
import html
import logging
import re
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from langchain_mlflow_cost.limits import limits

if TYPE_CHECKING:
    from collections.abc import Callable

SHINGLE = 12
"""Letters and digits that must agree in a row. Fewer would find common phrases, more would miss short prefixes."""
SHORTEST = 6
"""Letters and digits of the shortest private string that is recognised as a whole."""
TOKEN = "[PRIVATE]"  # noqa: S105 - what stands in the text's place, no secret

log = logging.getLogger("langchain_mlflow_cost")

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: an odd constant that spreads neighbours well
_REDACTED = re.compile(r"\[[A-Z][A-Z0-9_]{2,}(?::[0-9A-Za-z_-]+)?\]|\*{4}[0-9]{0,4}")
"""A token that redaction left: it stands for one character, whatever its letters."""
_TOKEN_CODE = 0xE000  # of Unicode's private use area, so no text has it by chance

_Hashes = NDArray[np.uint64]
_Codes = NDArray[np.uint32]
_Positions = NDArray[np.intp]


def _fold_table() -> _Codes:
    table = np.zeros(128, dtype=np.uint32)
    for code in range(128):
        if chr(code).isalnum():
            table[code] = ord(chr(code).lower())
    return table


_FOLD = _fold_table()
_POWERS = np.empty(SHINGLE, dtype=np.uint64)
_power = np.uint64(1)
with np.errstate(over="ignore"):
    for _index in range(SHINGLE):
        _POWERS[_index] = _power
        _power = _power * _MULTIPLIER


_ESCAPE = re.compile(
    r"(?:\\+u[0-9a-fA-F]{4})+|\\+[nrt]|(?:\\+x[0-9a-fA-F]{2})+|(?:%[0-9A-Fa-f]{2})+|&(?:[a-zA-Z]{2,8}|#[0-9]{1,7});"
)
_CODE_UNIT = re.compile(r"u([0-9a-fA-F]{4})")


def _unescaped(escape: str) -> str:
    """What a run of escapes stands for; never longer than the run."""
    if escape[0] == "&":
        return html.unescape(escape)
    if "x" in escape:
        return bytes.fromhex(escape.replace("\\", "").replace("x", "")).decode("utf-8", "replace")
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "replace")
    if escape[-1] in "nrt":
        return " "
    units = b"".join(int(unit, 16).to_bytes(2, "big") for unit in _CODE_UNIT.findall(escape))
    return units.decode("utf-16-be", "replace")


def _folded(text: str) -> tuple[_Codes, _Positions]:
    """The letters and digits of a text, folded, and where each of them stands in it."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if "\\" in text or "%" in text or "&" in text:
        codes = codes.copy()
        for escape in _ESCAPE.finditer(text):
            plain = np.frombuffer(_unescaped(escape[0]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
            codes[escape.start() : escape.end()] = ord(" ")
            codes[escape.start() : escape.start() + len(plain)] = plain
    if "[" in text or "****" in text:
        codes = codes.copy()
        for token in _REDACTED.finditer(text):
            codes[token.start() : token.end()] = ord(" ")
            codes[token.start()] = _TOKEN_CODE
    kept = np.where(codes < 128, _FOLD[np.minimum(codes, 127)], codes)  # noqa: PLR2004 - the end of ASCII
    positions = np.nonzero(kept)[0]
    kept = kept[positions]
    dense = kept >= _DENSE_FROM
    if dense.any():
        weights = np.where(dense & (kept != _TOKEN_CODE), 2, 1)
        kept, positions = np.repeat(kept, weights), np.repeat(positions, weights)
    return kept, positions


_DENSE_FROM = 0x2E80
"""From here on Unicode has scripts, such as Chinese, whose characters say as much as two or three letters."""


def _hashes(folded: _Codes, length: int) -> _Hashes:
    """One hash for each run of `length` folded characters."""
    count = len(folded) - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    wide = folded.astype(np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            total += wide[offset : offset + count] * _POWERS[offset]
        total ^= total >> np.uint64(29)
        total *= _MULTIPLIER
    return total


def _found(hashes: _Hashes, known: _Hashes) -> NDArray[np.bool_]:
    if not len(known) or not len(hashes):
        return np.zeros(len(hashes), dtype=bool)
    # Looking up in order is many times faster than at random.
    order = np.argsort(hashes)
    ordered = hashes[order]
    at = np.searchsorted(known, ordered)
    at[at == len(known)] = 0
    found = np.empty(len(hashes), dtype=bool)
    found[order] = known[at] == ordered
    return found


class PrivateText:
    """What the models of private nodes were told and said in one trace. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        # By length; below zero where the text may stand inside a word, as base64 does.
        self._fresh: dict[int, list[_Hashes]] = {}
        self._known: dict[int, _Hashes] = {}
        self._cache: dict[str, tuple[str, int]] = {}
        self.chars = 0
        """Of what is remembered."""

    @property
    def is_full(self) -> bool:
        """Whether there was more than can be remembered."""
        return self.chars > limits().private_chars

    def __bool__(self) -> bool:
        return self.chars > 0

    def withhold_everything(self) -> None:
        """Count every text as private from now on: something private could not be read."""
        with self._lock:
            self.chars = max(self.chars, limits().private_chars + 1)
            self._cache.clear()

    def add(self, text: str, *, encoded: bool = True) -> None:
        """Remember a text; one that was added before costs nothing.

        Args:
            text: What was told or said.
            encoded: Recognise it in base64 as well; not for a text that is base64 already.
        """
        with self._lock:
            if text in self._seen or self.is_full:
                return
            self.chars += len(text)
            self._cache.clear()
            if self.is_full:
                # What is not remembered could not be recognised.
                self._fresh, self._known = {}, {}
                log.warning(
                    "langchain_mlflow_cost: over %d characters of private text; all text is withheld",
                    limits().private_chars,
                )
                return
            self._seen.add(text)
        folded, _ = _folded(text)
        fresh: list[tuple[int, _Hashes]] = []
        if len(folded) >= SHINGLE:
            fresh.append((SHINGLE, _hashes(folded, SHINGLE)))
            raw = text.encode("utf-8", "replace")
            for offset in range(3 if encoded else 0):
                letters, _ = _folded(base64.b64encode(raw[offset:]).decode())
                fresh.append((SHINGLE, _hashes(letters, SHINGLE)))
        elif len(folded) >= SHORTEST and not _is_plain(text.strip()):
            fresh.append((len(folded), _hashes(folded, len(folded))))
            raw = text.encode("utf-8", "replace")
            for offset in range(3):
                # Only whole groups of three bytes have the same letters wherever the text stands.
                whole = raw[offset : offset + (len(raw) - offset) // 3 * 3]
                letters, _ = _folded(base64.b64encode(whole).decode())
                length = min(len(letters), SHINGLE)
                if length >= SHORTEST:
                    fresh.append((length if length == SHINGLE else -length, _hashes(letters, length)))
        with self._lock:
            for length, hashes in fresh:
                self._fresh.setdefault(length, []).append(hashes)

    def add_variants(self, variant_of: Callable[[str], str | None]) -> None:
        """Remember each text also as it looks after something was done to it, such as a redaction."""
        for text in list(self._seen):
            variant = variant_of(text)
            if variant:
                self.add(variant)

    def forget_answers(self) -> None:
        """Let go of what `scrub` remembers of the texts that it was asked for."""
        with self._lock:
            self._cache.clear()

    def scrub(self, text: str) -> tuple[str, int]:
        """Replace every private stretch of a text by `[PRIVATE]`; also how many there were."""
        if len(text) < SHORTEST or not self:
            return text, 0
        if self.is_full:
            return TOKEN, 1
        with self._lock:
            hit = self._cache.get(text)
            if hit is not None:
                return hit
            self._settle()
            known = dict(self._known)
        scrubbed = self._scrub(text, known)
        with self._lock:
            self._cache[text] = scrubbed
        return scrubbed

    def _settle(self) -> None:
        for length, arrays in self._fresh.items():
            before = self._known.get(length)
            # Sorting and comparing neighbours: `np.unique` takes a hash table, 20 times slower for distinct numbers.
            merged = np.sort(np.concatenate([*arrays, *([] if before is None else [before])]))
            self._known[length] = merged[np.concatenate(([True], merged[1:] != merged[:-1]))] if len(merged) else merged
        self._fresh.clear()

    @staticmethod
    def _scrub(text: str, known: dict[int, _Hashes]) -> tuple[str, int]:
        folded, positions = _folded(text)
        covered = np.zeros(len(folded) + 1, dtype=np.int32)
        for kind, hashes in known.items():
            length = abs(kind)
            starts = np.nonzero(_found(_hashes(folded, length), hashes))[0]
            if 0 < kind < SHINGLE and len(starts):
                starts = np.array([s for s in starts if _bounded(text, positions, int(s), length)], dtype=np.intp)
            np.add.at(covered, starts, 1)
            np.add.at(covered, starts + length, -1)
        inside = np.cumsum(covered[:-1]) > 0
        if not inside.any():
            return text, 0
        edges = np.nonzero(np.diff(np.concatenate(([False], inside, [False])).astype(np.int8)))[0]
        ends = _ends_of_escapes(text)
        stretches: list[tuple[int, int]] = []
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            start, last = int(positions[first]), int(positions[end - 1])
            start, stop = _widened(text, start, ends.get(last, last + 1))
            gap = sum(map(str.isalnum, text[stretches[-1][1] : start])) if stretches else SHINGLE
            if gap < SHINGLE:
                stretches[-1] = (stretches[-1][0], max(stop, stretches[-1][1]))
            else:
                stretches.append((start, stop))
        parts: list[str] = []
        done = 0
        for start, stop in stretches:
            parts += (text[done:start], TOKEN)
            done = stop
        return "".join((*parts, text[done:])), len(stretches)


def _ends_of_escapes(text: str) -> dict[int, int]:
    """Where the escape or token ends that a folded character came from: it stands at the start of all that."""
    ends: dict[int, int] = {}
    for pattern, signs in ((_ESCAPE, "\\%&"), (_REDACTED, "[*")):
        if any(sign in text for sign in signs):
            for match in pattern.finditer(text):
                ends.update(dict.fromkeys(range(match.start(), match.end()), match.end()))
    return ends


def _is_plain(text: str) -> bool:
    """Whether a short string is a number, or one word of a script with two cases: `approved`, `Tuesday`, `USD`."""
    if text.isdigit():
        return True
    return text.isalpha() and text.lower() != text.upper() and (text.isupper() or text[1:].islower())


def _bounded(text: str, positions: _Positions, first: int, length: int) -> bool:
    start, stop = int(positions[first]), int(positions[first + length - 1]) + 1
    # Chinese and its like have no gaps between words.
    open_start = not start or not text[start - 1].isalnum() or ord(text[start]) >= _DENSE_FROM
    return open_start and (stop >= len(text) or not text[stop].isalnum() or ord(text[stop - 1]) >= _DENSE_FROM)


_LONGEST_WORD = 64
"""How far a found stretch is widened to a word's end: base64 has no words."""


def _widened(text: str, start: int, stop: int) -> tuple[int, int]:
    floor, ceiling = max(0, start - _LONGEST_WORD), min(len(text), stop + _LONGEST_WORD)
    while start > floor and text[start - 1].isalnum() and ord(text[start - 1]) < _DENSE_FROM:
        start -= 1
    while stop < ceiling and text[stop].isalnum() and ord(text[stop]) < _DENSE_FROM:
        stop += 1
    return start, stop
