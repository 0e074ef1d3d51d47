"""What is kept of private text: the runs of letters by which it is recognised, and no text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_mlflow_cost.redaction.letters import characters, codes_of, digits, found_at, letters_of, text_of
from langchain_mlflow_cost.redaction.ordinary import (
    is_ordinary,
    judged_characters,
    shared_stretches,
    telling_characters,
    units,
)
from langchain_mlflow_cost.redaction.shingles import (
    ORDINARY,
    SHINGLE,
    Hashes,
    Known,
    hashes_of,
    joined,
    keyed,
    long_hashes,
    winnowed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from langchain_mlflow_cost.redaction.json_tokens import Token
    from langchain_mlflow_cost.redaction.letters import Codes, Letters, Positions

SHORTEST: Final = 6
"""Letters and digits of the shortest private string that is recognised as a whole."""

Spans = list[tuple[int, int]]


class Marks:
    """Some of the runs of letters of private text, as one set of numbers: a tenth of an `Index`, and fit to be sent.

    A piece of `FEWEST_MARKED` letters, all of them telling, is always found, and so is one of `LONGEST_UNMARKED` of any
    words and a sentence of up to `LONGEST_UNIT`; where something is found, so much around it goes that nothing of
    such a piece is left.

    Args:
        key: Of 16 bytes, where the numbers are those of another process: under it they are sent.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._known = Known()
        self._key = key
        self._unsent: list[Hashes] = []

    def __len__(self) -> int:
        return len(self._known)

    def add(self, kind: int, hashes: Hashes) -> None:
        """Add numbers that were made here."""
        marks = hashes ^ np.uint64(kind)
        self._known.add(marks)
        if len(marks):
            self._unsent.append(marks)

    @property
    def is_sent(self) -> bool:
        """Whether another process has sent them."""
        return self._key is not None

    def load(self, marks: Hashes) -> None:
        """Add those that another process sent."""
        self._known.add(marks)

    def unsent(self) -> Hashes:
        """What was added since the last time."""
        unsent, self._unsent = self._unsent, []
        return np.unique(np.concatenate(unsent)) if unsent else np.empty(0, dtype=np.uint64)

    def put_back(self, marks: Hashes) -> None:
        """Have `unsent` give some of them once more."""
        if len(marks):
            self._unsent.append(marks)

    def settle(self) -> None:
        """Make what was added known to `covered`."""
        self._known.settle()

    def _found(self, kind: int, hashes: Hashes) -> Positions:
        marks = hashes ^ np.uint64(kind)
        return self._known.found_in(marks if self._key is None else keyed(marks, self._key))

    def covered(self, codes: Codes) -> NDArray[np.bool_]:
        """Which letters stand in a run that is recognised, or beside one."""
        steps = np.zeros(len(codes) + 1, dtype=np.int32)
        if not len(self._known):
            return steps[:-1] > 0
        short = hashes_of(codes, SHINGLE)
        _cover_widely(steps, self._found(_TELLING, short), SHINGLE, FEWEST_MARKED - SHINGLE)
        _cover_widely(steps, self._found(_LONG, long_hashes(short)), ORDINARY, LONGEST_UNMARKED - ORDINARY)
        heads = self._found(_HEAD, short)
        for length, firsts, whole in _units_at(short, heads, range(SHINGLE, LONGEST_UNIT)):
            _cover(steps, firsts[self._found(_UNIT, whole)], length)
        return np.cumsum(steps[:-1], dtype=np.int32) > 0

    @property
    def knows_files(self) -> bool:
        """Whether there may be pieces of files among them."""
        return len(self._known) > 0

    def found_files(self, codes: Codes) -> Positions:
        """Letters at which a piece of a file begins."""
        short = hashes_of(codes, SHINGLE)
        shared = np.nonzero(short % np.uint64(FILE_SHARE) == 0)[0]
        return shared[self._found(_FILE, short[shared])]


FEWEST_MARKED: Final = 24
LONGEST_UNMARKED: Final = 64
_TELLING: Final = 0
_LONG: Final = 0x5555555555555555
_HEAD: Final = 0x3333333333333333
_UNIT: Final = 0x0F0F0F0F0F0F0F0F
_FILE: Final = 0x00FF00FF00FF00FF


class Index:
    """The runs of letters by which private text is recognised."""

    def __init__(self) -> None:
        self.marks = Marks()
        self.telling = Known()
        """Of `SHINGLE` letters."""
        self.middle = Known()
        """Of `2 * SHINGLE`, of which something tells."""
        self.ordinary = Known()
        """Of `ORDINARY` letters."""
        self.heads = Known()
        """The first `SHINGLE` letters of whole sentences, lines and texts."""
        self.beginnings = Known()
        """The runs of `SHINGLE` letters in the first `ORDINARY` of those."""
        self.units = Known()
        """Those of them that are shorter than `LONGEST_UNIT`, as a whole."""
        self.inner = Known()
        """Likewise, of short ones of ordinary words within a longer text."""
        self.lengths: set[int] = set()
        """How long those are."""
        self.files = Known()
        """One in `FILE_SHARE` of the runs of `SHINGLE` letters of files in base64."""
        self.short: dict[int, Known] = {}
        """Whole strings shorter than `SHINGLE`, by their length."""

    def __len__(self) -> int:
        return len(self.telling) + len(self.middle) + len(self.ordinary) + len(self.heads) + len(self.beginnings)

    def add_file(self, text: str) -> None:
        """Remember a file by its base64."""
        short = hashes_of(letters_of(characters(text))[0].codes, SHINGLE)
        shared = short[short % np.uint64(FILE_SHARE) == 0]
        self.files.add(shared)
        self.marks.add(_FILE, shared)

    @property
    def knows_files(self) -> bool:
        """Whether it was given any."""
        return len(self.files) > 0

    def found_files(self, codes: Codes) -> Positions:
        """Letters at which a piece of a file begins."""
        if not len(self.files):
            return np.empty(0, dtype=np.intp)
        return self.files.found_in(hashes_of(codes, SHINGLE))

    def settle(self) -> None:
        """Make what was added known to `covered`."""
        self.marks.settle()
        for known in (
            self.telling, self.middle, self.ordinary, self.heads, self.beginnings, self.units, self.inner,
            self.files, *self.short.values()
        ):  # fmt: skip
            known.settle()

    def add_json(self, text: str, tokens: Sequence[Token]) -> None:
        """Remember those runs of letters of a JSON document that hold something telling of its values."""
        seen = characters(text)
        letters, _ = letters_of(seen)
        if len(letters.codes) < SHINGLE:
            return
        telling = np.zeros(len(text) + 1, dtype=bool)
        for token in tokens:
            if token.kind != "key":
                telling[token.start : token.end] = telling_characters(text[token.start : token.end])
        told = telling[letters.starts]
        short = hashes_of(letters.codes, SHINGLE)
        long = long_hashes(short)
        # All answers of a tool have keys, and many have a short value, in common.
        self._add_telling(short, _sums(told, SHINGLE) >= SHORTEST)
        self._add_long(long, _sums(told, ORDINARY) >= ORDINARY // 4)
        if told.any():
            self._add_unit(short, 0, len(told))

    def add(self, text: str) -> None:
        """Remember the runs of letters of a text, and its sentences and lines."""
        seen = characters(text)
        letters, at = letters_of(seen)
        count = len(letters.codes)
        if count < SHINGLE:
            if count >= SHORTEST and not is_ordinary(text_of(seen)):
                self.short.setdefault(count, Known()).add(hashes_of(letters.codes, count))
            return
        plain = text_of(seen)
        tells, is_empty = judged_characters(plain)
        weights, says = tells[at], ~is_empty[at]
        short = hashes_of(letters.codes, SHINGLE)
        wanted = np.ones(len(short), dtype=bool)
        long = long_hashes(short)
        wanted_long = _sums(says, ORDINARY) >= FEWEST_SAYING
        for begin, host, end in shared_stretches(plain):
            first, middle, last = (int(place) for place in np.searchsorted(at, (begin, host, end)))
            weights[middle:last] = 0
            # What begins behind the address's own part would be found in every address at that host.
            wanted[max(first + (begin < host), middle - SHINGLE + 1) : last] = False
            wanted_long[middle : max(last - ORDINARY + 1, middle)] = False
            if first < middle:
                self._add_unit(short, first, last - first)
        self._add_runs(short, wanted, weights)
        self._add_long(long, wanted_long)
        told, said = _running(weights), _running(says)
        for begin, end, kind in units(plain):
            first, last = (int(place) for place in np.searchsorted(at, (begin, end)))
            if said[last] > said[first]:
                is_plain = last - first < LONGEST_LABEL and told[last] - told[first] < FEWEST_TELLING
                if not (is_plain and kind == "label"):
                    self._add_unit(short, first, last - first, inner=is_plain and kind == "part")
        closed = without_breaks(plain, letters, at)
        if closed is not None:
            codes, places = closed
            short = hashes_of(codes, SHINGLE)
            telling = np.where(codes == BREAK, np.int8(0), weights[places])
            wanted, wanted_long = _clear_of_breaks(codes)
            self._add_runs(short, wanted, telling)
            self._add_long(long_hashes(short), wanted_long & (_sums(says[places], ORDINARY) >= FEWEST_SAYING))

    def _add_runs(self, short: Hashes, wanted: NDArray[np.bool_], weights: NDArray[np.int8]) -> None:
        sums = _sums(weights, SHINGLE)
        self._add_telling(short, wanted & (sums >= FEWEST_TELLING))
        if len(short) > SHINGLE:
            rare = _sums(weights == _RARE, 2 * SHINGLE) >= FEWEST_RARE
            self.middle.add(_middle_hashes(short)[wanted[:-SHINGLE] & wanted[SHINGLE:] & rare])

    def _add_telling(self, short: Hashes, wanted: NDArray[np.bool_]) -> None:
        self.telling.add(short[wanted])
        self.marks.add(_TELLING, winnowed(short, wanted, FEWEST_MARKED - SHINGLE + 1))

    def _add_long(self, long: Hashes, wanted: NDArray[np.bool_]) -> None:
        self.ordinary.add(long[wanted])
        self.marks.add(_LONG, winnowed(long, wanted, LONGEST_UNMARKED - ORDINARY + 1))

    def _add_unit(self, short: Hashes, first: int, length: int, *, inner: bool = False) -> None:
        if length < SHINGLE:
            return
        self.heads.add(short[first : first + 1])
        self.beginnings.add(short[first + 1 : first + min(length, ORDINARY) - SHINGLE + 1])
        if length < LONGEST_UNIT:
            whole = _unit_hashes(short, np.array([first]), length)
            (self.inner if inner else self.units).add(whole)
            self.lengths.add(length)
            self.marks.add(_HEAD, short[first : first + 1])
            self.marks.add(_UNIT, whole)

    def covered(
        self,
        codes: Codes,
        is_open: Callable[[int, int], bool],
        is_bounded: Callable[[int, int], bool],
        cut_at: int = 0,
    ) -> NDArray[np.bool_]:
        """Which letters stand in a run that is recognised.

        Args:
            codes: Of the letters.
            is_open: Whether a word begins at a letter, and one ends before another.
            is_bounded: Whether a sentence or line begins at a letter, or one ends before another.
            cut_at: How many letters there are before the place where the text was cut off; 0 where it was not.
        """
        steps = np.zeros(len(codes) + 1, dtype=np.int32)
        short = hashes_of(codes, SHINGLE)
        _cover(steps, self.telling.found_in(short), SHINGLE)
        if len(short) > SHINGLE:
            _cover(steps, self.middle.found_in(_middle_hashes(short)), 2 * SHINGLE)
        long = long_hashes(short)
        if len(long):
            # Not where all is covered: looking up takes longest where something is found.
            open_to = np.nonzero(_sums(np.cumsum(steps[:-1], dtype=np.int32) == 0, ORDINARY))[0]
            _cover(steps, open_to[self.ordinary.found_in(long[open_to])], ORDINARY)
        heads = self.heads.found_in(short)
        for length, firsts, whole in _units_at(short, heads, sorted(self.lengths)):
            _cover(steps, firsts[self.units.found_in(whole)], length)
            inner = firsts[self.inner.found_in(whole)].tolist() if length < LONGEST_LABEL else ()
            _cover(steps, np.array([at for at in inner if is_bounded(at, at + length)], dtype=np.intp), length)
        for first in heads[heads > cut_at - ORDINARY].tolist() if cut_at else ():
            behind = cut_at - SHINGLE - first
            if 0 <= behind <= ORDINARY - SHINGLE and (
                len(self.beginnings.found_in(short[first + 1 : first + 1 + behind])) == behind
            ):
                # The beginning of a sentence whose rest is gone.
                steps[first] += 1
                steps[cut_at] -= 1
        for length, known in self.short.items():
            found = known.found_in(hashes_of(codes, length)).tolist()
            _cover(steps, np.array([at for at in found if is_open(at, at + length)], dtype=np.intp), length)
        return np.cumsum(steps[:-1], dtype=np.int32) > 0


FEWEST_TELLING: Final = 8
"""What `SHINGLE` letters in a row must tell: four digits, or eight letters of a common word with a capital."""
FEWEST_RARE: Final = 2
"""Digits or letters of a rare word that twice as many letters must have."""
_RARE: Final = 2
FEWEST_SAYING: Final = 20
"""Letters among `ORDINARY` in a row that are not of words that say nothing by themselves."""
LONGEST_LABEL: Final = 24
"""A shorter label of ordinary words is everybody's, and a shorter sentence within a text is recognised only where a
sentence or line begins or ends."""
LONGEST_UNIT: Final = 64
"""From here on what is whole is recognised by its pieces."""


def _running(telling: NDArray[np.bool_] | NDArray[np.int8]) -> NDArray[np.int32]:
    """How much the letters before each, and all of them, tell."""
    told = np.zeros(len(telling) + 1, dtype=np.int32)
    np.cumsum(telling, dtype=np.int32, out=told[1:])
    return told


def _sums(telling: NDArray[np.bool_] | NDArray[np.int8], length: int) -> NDArray[np.int32]:
    """How much each run of `length` letters tells."""
    if len(telling) < length:
        return np.empty(0, dtype=np.int32)
    told = _running(telling)
    return told[length:] - told[:-length]


def _middle_hashes(short: Hashes) -> Hashes:
    """One hash for each run of `2 * SHINGLE` letters."""
    return joined((short[:-SHINGLE], short[SHINGLE:]), 2 * SHINGLE)


def _unit_hashes(short: Hashes, firsts: Positions, length: int) -> Hashes:
    """One hash for each run of `length` letters that begins at some places."""
    return joined(
        (short[firsts + offset] for offset in (*range(0, length - SHINGLE, SHINGLE), length - SHINGLE)), length
    )


def _units_at(short: Hashes, heads: Positions, lengths: Iterable[int]) -> Iterator[tuple[int, Positions, Hashes]]:
    """The runs of some lengths that begin at some places: the length, where they begin, and their hashes."""
    for length in lengths if len(heads) else ():
        firsts = heads[heads + (length - SHINGLE) < len(short)]
        if len(firsts):
            yield length, firsts, _unit_hashes(short, firsts, length)


def _cover(steps: NDArray[np.int32], starts: Positions, length: int) -> None:
    # No place is there twice.
    steps[starts] += 1
    steps[starts + length] -= 1


def _cover_widely(steps: NDArray[np.int32], starts: Positions, length: int, margin: int) -> None:
    np.add.at(steps, np.maximum(starts - margin, 0), 1)
    np.add.at(steps, np.minimum(starts + length + margin, len(steps) - 1), -1)


FILE_SHARE: Final = 16
BREAK: Final = 0xE001
"""Stands between letters that are not neighbours."""
_BETWEEN = re.compile(r"</?[A-Za-z!][^<>]{0,200}>|(?<![^\W_])\d+(?:[.,]\d+)*(?![^\W_])")
"""A tag, or a number that stands alone."""


def without_breaks(
    plain: str, letters: Letters, at: Positions, keys: Spans | None = None
) -> tuple[Codes, Positions] | None:
    """The letters around tags and numbers that stand between words, closed up; and which they are.

    None where there are none. Only so many as a run across one can have: elsewhere nothing has changed.

    Args:
        plain: The characters of the text.
        letters: Its letters.
        at: Which character each of them comes from.
        keys: Where in the text JSON's keys are, which are left out too.
    """
    spans = _between(plain)
    if not spans and not keys:
        return None
    outside = _outside(len(plain), spans)[at]
    if keys:
        outside &= _outside(int(letters.ends[-1]) if len(at) else 0, keys)[letters.starts]
    kept = np.nonzero(outside)[0]
    if len(kept) < SHINGLE or len(kept) == len(at):
        return None
    seams = np.nonzero(np.diff(kept) > 1)[0]
    near = np.zeros(len(kept) + 1, dtype=np.int32)
    np.add.at(near, np.maximum(seams - ORDINARY + 1, 0), 1)
    np.add.at(near, np.minimum(seams + ORDINARY + 1, len(kept)), -1)
    chosen = np.nonzero(np.cumsum(near[:-1], dtype=np.int32) > 0)[0]
    if not len(chosen):
        return None
    gaps = np.nonzero(np.diff(chosen) > 1)[0] + 1
    places = np.insert(kept[chosen], gaps, kept[chosen[gaps]])
    codes = letters.codes[places].copy()
    codes[gaps + np.arange(len(gaps))] = BREAK
    return codes, places


def _between(plain: str) -> Spans:
    """Where tags and numbers stand, tried where one can begin alone."""
    codes = codes_of(plain)
    return [found.span() for found in found_at(_BETWEEN, plain, digits(codes) | (codes == ord("<")))]


def _outside(length: int, spans: Spans) -> NDArray[np.bool_]:
    steps = np.zeros(length + 1, dtype=np.int32)
    if spans:
        both = np.minimum(np.array(spans, dtype=np.intp), length)
        np.add.at(steps, both[:, 0], 1)
        np.add.at(steps, both[:, 1], -1)
    outside: NDArray[np.bool_] = np.cumsum(steps[:-1], dtype=np.int32) == 0
    return outside


def _clear_of_breaks(codes: Codes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which runs of either length have no break in them."""
    broken = _running(codes == BREAK)
    return tuple(  # type: ignore[return-value]  # two of them
        broken[length:] == broken[:-length] if len(codes) >= length else np.empty(0, dtype=bool)
        for length in (SHINGLE, ORDINARY)
    )
