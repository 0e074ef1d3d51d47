r"""Recognise, anywhere, text that a model in a private node was told or said.

Pure: strings in, strings out. What counts as the same text, exactly:

* Text is compared by its letters and digits alone, as `letters.py` has them.
* Every run of `SHINGLE` or more of them that stands in a private text is recognised inside any other text if it *tells*
  something: four digits, or as many letters of a name, of a word that is not one of the most common ones, or of another
  language. So a quotation, an f-string, a prefix or a truncated copy is found.
* A run of ordinary words alone, which many texts share, is recognised from `ORDINARY` letters on; a whole sentence,
  line or text from `SHINGLE` on, whatever its words, and its beginning where the text that is searched was cut off.
* A part of an e-mail address is recognised with all that stands before its `@`: two addresses at one company are not
  the same. A host's name alone is not private.
* Numbers and tags between the words make no difference, and all of it is recognised in base64, at any offset.
* A private string shorter than that, down to `SHORTEST`, is recognised where it stands between word boundaries, if
  it is not a number, a date or ordinary words: `Bob Lee` and `a1-b2-c3` are, `approved`, `thank you` and `20261121` are
  not.
* The found stretch is widened to whole words, and a gap too short to be recognised by itself goes with it.

Out of reach: a paraphrase, a translation, another encoding, and any piece shorter than the above.

Time and memory are linear in what was said plus what is searched: at most two 64-bit numbers a character, compared by
binary search.
"""

from __future__ import annotations

import base64
import bisect
import itertools
import logging
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.redaction.json_tokens import json_tokens
from langchain_mlflow_cost.redaction.letters import DENSE_FROM, Letters, characters, letters_of, text_of
from langchain_mlflow_cost.redaction.ordinary import is_program_name
from langchain_mlflow_cost.redaction.private_files import is_mostly_known, written_files
from langchain_mlflow_cost.redaction.private_index import BREAK, SHORTEST, Index, Marks, Spans, without_breaks
from langchain_mlflow_cost.redaction.private_values import written_values
from langchain_mlflow_cost.redaction.shingles import SHINGLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from langchain_mlflow_cost.redaction.letters import Codes, Positions
    from langchain_mlflow_cost.redaction.shingles import Hashes

TOKEN = "[PRIVATE]"  # noqa: S105 - what stands in the text's place, no secret

log = logging.getLogger("langchain_mlflow_cost")

_BASE64 = re.compile(
    # In lines, of which the last may be short.
    r"[A-Za-z0-9+/_-]{16,}(?:\s{1,2}[A-Za-z0-9+/_-]{16,})*(?:\s{1,2}[A-Za-z0-9+/_-]{2,15}={0,2}(?=\s|$))?"
)
_TEXT_IN_BYTES = re.compile(rb"(?:[\x00\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]{1,3}){6}")
"""What any private text has, in UTF-8 or in UTF-16."""
_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n=")


class _View(NamedTuple):
    """Letters to be searched, and where in the text each comes from."""

    codes: Codes
    starts: Positions
    ends: Positions
    opens: NDArray[np.bool_]
    """Whether a word begins with it."""
    closes: NDArray[np.bool_]
    """Whether one ends with it."""
    plain: str
    """The characters, without escapes."""
    at: Positions
    """Which of them each letter is."""


def _views(seen: Letters, keys: Spans | None) -> Iterator[_View]:
    """A text as its letters; those around tags and numbers without these; and what it says in base64."""
    letters, at = letters_of(seen)
    main = _view(seen, letters, at)
    yield from _closed_up(main, letters, keys)
    for run in _BASE64.finditer(main.plain):
        yield from _decoded(run[0], seen, run.start())


def _closed_up(view: _View, letters: Letters, keys: Spans | None = None) -> Iterator[_View]:
    """A view, and that of its letters around tags and numbers where there are any."""
    yield view
    closed = without_breaks(view.plain, letters, view.at, keys)
    if closed is not None:
        codes, places = closed
        starts, ends, opens, closes = view.starts[places], view.ends[places], view.opens[places], view.closes[places]
        yield _View(codes, starts, ends, opens, closes, view.plain, view.at[places])


def _view(seen: Letters, letters: Letters, at: Positions) -> _View:
    is_letter = np.zeros(len(seen.codes) + 2, dtype=bool)
    is_letter[at + 1] = True
    # Chinese and its like have no gaps between words.
    dense = letters.codes >= DENSE_FROM
    first = np.concatenate(([True], at[1:] != at[:-1])) if len(at) else np.empty(0, dtype=bool)
    last = np.concatenate((first[1:], [True])) if len(at) else first
    return _View(
        letters.codes,
        letters.starts,
        letters.ends,
        first & (~is_letter[at] | dense),
        last & (~is_letter[at + 2] | dense),
        text_of(seen),
        at,
    )


def _decoded(run: str, seen: Letters, begin: int) -> Iterator[_View]:
    signs: list[int] = []
    joined = run.translate(_TO_STANDARD)
    for offset in range(4):
        raw = base64.b64decode(_padded(joined[offset:]))
        if _TEXT_IN_BYTES.search(raw) is None:
            continue  # Most are ids and long words, which are no base64 of any text.
        signs = signs or [index for index, sign in enumerate(run) if not sign.isspace() and sign != "="]
        # A byte that is no UTF-8 stays one character.
        plain = raw.decode("utf-8", "surrogateescape")
        inner = characters(plain)
        letters, at = letters_of(inner)
        if len(letters.codes) < SHORTEST:
            continue
        sizes = _utf8_sizes(plain)
        ends_in_bytes = np.cumsum(sizes)
        first = (ends_in_bytes - sizes)[letters.starts] * 4 // 3 + offset
        last = np.minimum((ends_in_bytes[letters.ends - 1] * 4 + 2) // 3 + offset, len(joined)) - 1
        places = np.array(signs, dtype=np.intp) + begin
        placed = _view(inner, letters, at)._replace(starts=seen.starts[places[first]], ends=seen.ends[places[last]])
        yield from _closed_up(placed, letters)


def _padded(signs: str) -> str:
    """Base64 with its last group made whole: one sign alone is no byte."""
    rest = len(signs) % 4
    return signs[:-1] if rest == 1 else signs + "=" * (-rest % 4)


def _utf8_sizes(plain: str) -> NDArray[np.intp]:
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sizes = 1 + (codes > 0x7F).astype(np.intp) + (codes > 0x7FF) + (codes > 0xFFFF)  # noqa: PLR2004 - UTF-8's steps
    sizes[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1  # noqa: PLR2004 - what `surrogateescape` made of one byte
    return sizes


_FILE_CHARS = 16
"""A file counts as one character for so many of its base64."""


class PrivateText:
    """What the models of private nodes were told and said in one trace or session. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._index = Index()
        self._marks: list[Marks] = []
        """What is left of indexes that were let go, and what other processes have sent."""
        self._cache: dict[str, tuple[str, int]] = {}
        self._payloads: dict[str, tuple[str, int]] = {}
        self.generation = 0
        """Another one after each change: what was found before need not be true any more."""
        self.chars = 0
        """Of what is remembered in full."""
        self.is_full = False
        """Whether every text counts as private: there was more than can be remembered, or something was not heard."""

        self.has_lost_marks = False
        """Whether something was let go before it was sent."""

    def __bool__(self) -> bool:
        return self.chars > 0 or self.is_full or bool(self._marks)

    @property
    def marks(self) -> int:
        """How many numbers are kept of what is not remembered in full any more."""
        return sum(map(len, self._marks))

    def withhold_everything(self) -> None:
        """Count every text as private from now on."""
        with self._lock:
            self._forget()
            self.is_full = True

    def _forget(self) -> None:
        self._index, self._seen, self.chars = Index(), set(), 0
        self._forget_answers()

    def keep_marks(self) -> None:
        """Let go of all but a tenth: shorter pieces are not recognised any more, see `Marks`."""
        with self._lock:
            if self.chars:
                marks = self._index.marks
                marks.settle()
                self.has_lost_marks |= bool(len(marks.unsent()))
                self._marks.append(marks)
                self._forget()

    def unsent_marks(self) -> Hashes:
        """The numbers by which another process can recognise what was added since the last time."""
        with self._lock:
            return self._index.marks.unsent()

    def send_again(self, marks: Hashes) -> None:
        """Count numbers as not sent."""
        with self._lock:
            self._index.marks.put_back(marks)

    def load_marks(self, marks: Hashes, key: bytes) -> None:
        """Recognise what another process has sent, under the key that both have."""
        if not len(marks):
            return
        loaded = Marks(key)
        loaded.load(marks)
        loaded.settle()
        with self._lock:
            # Whoever sends, sends all: what came before is among it.
            self._marks = [*(known for known in self._marks if not known.is_sent), loaded]
            self._forget_answers()

    def add(self, text: str) -> None:
        """Remember a text; one that was added before costs nothing."""
        with self._lock:
            if text in self._seen or self.is_full:
                return
            self.chars += len(text)
            self._forget_answers()
            if self.chars > limits().private_chars:
                # What is not remembered could not be recognised.
                self._forget()
                self.is_full = True
                log.warning(
                    "langchain_mlflow_cost: over %d characters of private text; all text is withheld",
                    limits().private_chars,
                )
                return
            self._seen.add(text)
            tokens = json_tokens(text)
            if tokens is None:
                self._index.add(text)
            else:
                self._index.add_json(text, tokens)
        if tokens is None:
            for value in written_values(text):
                self.add(value)
            return
        for token in tokens:
            said = token.said(text)
            if token.kind == "value" or (token.kind == "key" and not is_program_name(said)):
                self.add(said)

    def add_file(self, text: str) -> None:
        """Remember a file by its base64, of which so little is kept that its size hardly counts."""
        with self._lock:
            if text not in self._seen and not self.is_full:
                self.chars += max(1, len(text) // _FILE_CHARS)
                self._forget_answers()
                self._index.add_file(text)

    def holds_file(self, content: bytes) -> bool:
        """Whether most of a file is of private ones: such a one with other words about it, or a piece of one."""
        with self._lock:
            self._index.settle()
            known = _with_files(self._index, self._marks)
        return bool(known) and is_mostly_known(content, known)

    def add_variants(self, variant_of: Callable[[str], str | None]) -> None:
        """Remember each text also as it looks after something was done to it, such as a redaction."""
        for text in list(self._seen):
            variant = variant_of(text)
            if variant:
                self.add(variant)

    def forget_answers(self) -> None:
        """Let go of what `scrub` remembers of the texts that it was asked for."""
        with self._lock:
            self._forget_answers()

    def _forget_answers(self) -> None:
        self._cache.clear()
        self._payloads.clear()
        self.generation += 1

    def answer_for(self, payload: str) -> tuple[str, int] | None:
        """What was noted of a payload since anything was added; None if nothing was."""
        with self._lock:
            return self._payloads.get(payload)

    def note_answer(self, payload: str, answer: tuple[str, int], generation: int) -> None:
        """Note what a payload is without private text: spans of one trace have many in common.

        Args:
            payload: As it was written.
            answer: What is left of it, and how often something went.
            generation: The one in which it was searched: not noted where something was added since.
        """
        with self._lock:
            if self.generation == generation:
                self._payloads[payload] = answer

    def scrub(self, text: str) -> tuple[str, int]:
        """Replace every private stretch of a text by `[PRIVATE]`; also how many there were."""
        if len(text) < SHORTEST or not self:
            return text, 0
        if self.is_full:
            return TOKEN, 1
        with self._lock:
            hit, generation = self._cache.get(text), self.generation
        if hit is not None:
            return hit
        scrubbed = without_stretches(text, self.stretches(text))
        with self._lock:
            if self.generation == generation:
                self._cache[text] = scrubbed
        return scrubbed

    def stretches(self, text: str, *, keys: Spans | None = None) -> Spans:
        """Where something private stands in a text, in order, from the first letter to behind the last.

        Args:
            text: Any.
            keys: Where JSON has keys: a text may be spread over its values.
        """
        with self._lock:
            self._index.settle()
            index, marks = self._index, list(self._marks)
        return _found(text, index, marks, keys)


_CUT_OFF = re.compile(r"(?:\.\.\.|…|\[cut: [^\]]*\])[\s\"'\])}]*$|[\w\s,;:(-]$")
"""The end of a text that was cut off, or may have been."""


def _letters_before_cut(text: str, view: _View) -> int:
    cut = _CUT_OFF.search(text, max(0, len(text) - 200))
    return 0 if cut is None else int(np.searchsorted(view.starts, cut.start() + (cut[0][-1:].isalnum())))


def _found(text: str, index: Index, marks: Sequence[Marks], keys: Spans | None) -> Spans:
    seen = characters(text)
    views = list(_views(seen, keys))
    # One search for all: each has a price of its own.
    codes = np.concatenate([part for view in views for part in (view.codes, [BREAK])]).astype(np.uint32)
    starts, ends = (np.concatenate([part for view in views for part in (view[field], [0])]) for field in (1, 2))
    opens, closes = (np.concatenate([part for view in views for part in (view[field], [True])]) for field in (3, 4))

    def is_open(first: int, end: int) -> bool:
        return bool(opens[first] and closes[end - 1])

    firsts = list(itertools.accumulate((len(view.codes) + 1 for view in views), initial=0))

    def is_bounded(first: int, end: int) -> bool:
        number = bisect.bisect_right(firsts, first) - 1
        view = views[number]
        return _is_bounded(view.plain, int(view.at[first - firsts[number]]), int(view.at[end - 1 - firsts[number]]))

    inside = index.covered(codes, is_open, is_bounded, _letters_before_cut(text, views[0]))
    for each in marks:
        inside |= each.covered(codes)
    known = _with_files(index, marks)
    files: Spans = []
    if known:
        files += _files(text, starts, [at for each in known for at in each.found_files(codes)])
        files += written_files(seen, views[0].plain, known)
    if not inside.any() and not files:
        return []
    inside &= codes != BREAK
    edges = np.nonzero(np.diff(np.concatenate(([False], inside, [False])).astype(np.int8)))[0]
    found = [(int(starts[first]), int(ends[end - 1])) for first, end in zip(edges[::2], edges[1::2], strict=True)]
    spans = sorted((*found, *files))
    apart = spans[:1]
    for first, last in spans[1:]:
        if first <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(last, apart[-1][1]))
        else:
            apart.append((first, last))
    return apart


def _with_files(index: Index, marks: Sequence[Marks]) -> list[Index | Marks]:
    sources: tuple[Index | Marks, ...] = (index, *marks)
    return [each for each in sources if each.knows_files]


_SAME_SENTENCE: Final = frozenset("'\u2019-/&")


def _is_bounded(plain: str, first: int, last: int) -> bool:
    """Whether a sentence, a part of one or a line begins at a character, or ends with another."""
    before, behind = plain[max(0, first - 8) : first].rstrip(" "), plain[last + 1 : last + 9].lstrip(" ")
    return any(not side or not (side.isalnum() or side in _SAME_SENTENCE) for side in (before[-1:], behind[:1]))


def _files(text: str, starts: Positions, found: Sequence[int]) -> Spans:
    """Where the base64 stands of files of which a piece was found."""
    places = sorted({int(starts[at]) for at in found})
    if not places:
        return []
    spans = []
    for run in _BASE64.finditer(text):
        at = bisect.bisect_left(places, run.start())
        if at < len(places) and places[at] < run.end():
            spans.append(run.span())
    return spans


def without_stretches(text: str, found: Spans) -> tuple[str, int]:
    """The text with the token in the place of what was found, widened to whole words; also how often."""
    if not found:
        return text, 0
    stretches: Spans = []
    for first, last in found:
        start, stop = _widened(text, first, last)
        if stretches and (start <= stretches[-1][1] or sum(map(str.isalnum, text[stretches[-1][1] : start])) < SHINGLE):
            stretches[-1] = (stretches[-1][0], max(stop, stretches[-1][1]))
        else:
            stretches.append((start, stop))
    parts: list[str] = []
    done = 0
    for start, stop in stretches:
        parts += (text[done:start], TOKEN)
        done = stop
    return "".join((*parts, text[done:])), len(stretches)


_LONGEST_WORD = 64
"""How far a found stretch is widened to a word's end: base64 has no words."""


def _widened(text: str, start: int, stop: int) -> tuple[int, int]:
    floor, ceiling = max(0, start - _LONGEST_WORD), min(len(text), stop + _LONGEST_WORD)
    while start > floor and text[start - 1].isalnum() and ord(text[start - 1]) < DENSE_FROM:
        start -= 1
    while stop < ceiling and text[stop].isalnum() and ord(text[stop]) < DENSE_FROM:
        stop += 1
    return start, stop
