"""Which letters of a text are of ordinary words, which many texts share, and which tell one text from another."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from langchain_mlflow_cost.redaction.letters import codes_of, digits, found_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_Spans = list[tuple[int, int]]

_WORD = re.compile(r"[^\W\d_]+")
_BEFORE_AT = re.compile(r"[\w.+-]{1,64}\Z")
_BEHIND_AT = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63})+")
_LONGEST_LOCAL: Final = 64
_HOST = re.compile(r"\b(?:https?|wss?|ftp)://(?:www\.)?[\w.-]{1,255}|\bwww\.[\w.-]{1,255}")
_SENTENCE_END = re.compile('[.!?…\u3002\uff01\uff1f]+["\'”\u2019)\\]]*(?:\\s+|$)|[\n\r\t|;:"“”\u3002\uff01\uff1f]+')
_CAPITALS: Final = frozenset({"ID", "OK", "AM", "PM", "FAQ", "PIN", "URL", "US", "USD", "API", "IDs"})
"""Words that everybody writes so."""
_TIMES: Final = frozenset(
    {
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
        "EST", "PST", "CST", "MST", "EDT", "PDT", "CDT", "MDT", "UTC", "GMT", "CET",
    }
)  # fmt: skip
"""Names that everybody has."""
_EVERYDAY_CAPITALS: Final = frozenset({"I", "ID", "IDs", "OK"})
_WITHIN: Final = frozenset(",'\u2019-/&")
"""What stands between two words of one sentence."""
_MOMENT = re.compile(
    r"(?<![\w-])(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
    r"|\d{1,2}:\d{2}(?::\d{2})?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.? \d{1,2}(?:st|nd|rd|th)?(?:,? \d{4})?"
    r"|\d{1,2}(?:st|nd|rd|th)?\.? (?:of )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}(?:,? \d{4})?"
    r")(?![\w-])"
)


@functools.cache
def common_words() -> frozenset[str]:
    """The most common words of English; a text in another language has hardly any, and so no ordinary ones."""
    return _words_in("common_words.txt")


@functools.cache
def everyday_words() -> frozenset[str]:
    """Words that a dialogue about anything has: of them alone no sentence tells anything of anybody."""
    return _words_in("everyday_words.txt")


def _words_in(file: str) -> frozenset[str]:
    lines = Path(__file__).with_name(file).read_text("ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def is_ordinary(text: str) -> bool:
    """Whether a short text is a number, a date, a time, or ordinary words: `approved`, `thank you`, `2026-11-21`."""
    text = text.strip()
    if text.isdigit() or _MOMENT.fullmatch(text):
        return True
    if text.isalpha() and text.lower() != text.upper() and (text.isupper() or text[1:].islower()):
        return True
    return not telling_characters(text).any()


_PROGRAM_NAME = re.compile(r"[A-Za-z_$@][A-Za-z_.$:-]{0,127}[0-9]{0,2}")
_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_AFFIXES = re.compile(r"^(?:non|un|re|sub|pre|multi|auto|de|dis)?(.{3,}?)(?:s|es|d|ed|ing|er|or|able|ly)?$")
_ABBREVIATION: Final = 3


def is_program_name(text: str) -> bool:
    """Whether a text is a name as programs give them: one word made of ordinary ones, such as `departure_time_est`."""
    if not _PROGRAM_NAME.fullmatch(text):
        return False
    common = common_words()
    for spelled in _NAME_WORD.findall(text):
        word = spelled.casefold()
        if len(word) > _ABBREVIATION and word not in common and not _is_derived(word):
            return False
    return True


def telling_characters(text: str) -> NDArray[np.bool_]:
    """Which characters are not those of an ordinary word: digits, names, words that are rare or of another language.

    A word with a capital is a name, unless it begins a sentence or is in a label, such as `Flight Number:`.
    """
    telling: NDArray[np.bool_] = judged_characters(text)[0] > 0
    return telling


def judged_characters(text: str) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """How much each character tells, and which are of words that say nothing by themselves.

    A digit and a letter of a rare word tell twice as much as one of a common word with a capital, such as `Economy`.
    Words that say nothing are those of every dialogue: `I`, `could you please`, `thank you`, `is there anything else`.
    """
    codes = codes_of(text)
    telling = _TELLS[np.minimum(codes, 128)]
    rare, capital, empty = _judged_words(text)
    if capital:
        telling[_within(capital, len(text))] = 1
    if rare:
        telling[_within(rare, len(text))] = 2
    if not text.isalpha():
        for moment in found_at(_MOMENT, text, digits(codes) | _BEGINS_MONTH[np.minimum(codes, 128)]):
            telling[moment.start() : moment.end()] = 0
    return telling, _within(empty, len(text)) if empty else np.zeros(len(text), dtype=bool)


def _judged_words(text: str) -> tuple[_Spans, _Spans, _Spans]:
    """Where the words are that are rare, those that are common and have a capital, and those that say nothing."""
    common, everyday = common_words(), everyday_words()
    rare: _Spans = []
    capital: _Spans = []
    empty: _Spans = []
    before = label_end = -1
    for word in _WORD.finditer(text):
        spelled = word[0]
        if spelled in everyday or spelled in _EVERYDAY_CAPITALS:
            empty.append(word.span())
        elif spelled not in common and spelled not in _CAPITALS:
            start, end = span = word.span()
            folded = spelled.casefold()
            is_common = folded in common and (spelled[1:].islower() or spelled == "A")
            if is_common and start >= label_end and (before < 0 or _is_break(text[before:start])):
                label = _LABEL.match(text, start)
                label_end = end if label is None else label.end()
            if not is_common:
                if spelled not in _TIMES and not (spelled.islower() and _is_derived(spelled)):
                    rare.append(span)
            elif start >= label_end:
                capital.append(span)
            elif folded in everyday:
                empty.append(span)
        before = word.end()
    return rare, capital, empty


def _within(spans: _Spans, length: int) -> NDArray[np.bool_]:
    steps = np.zeros(length + 1, dtype=np.int8)
    both = np.fromiter(itertools.chain.from_iterable(spans), dtype=np.intp, count=2 * len(spans))
    # No two of them touch.
    steps[both[::2]] = 1
    steps[both[1::2]] = -1
    within: NDArray[np.bool_] = np.cumsum(steps[:-1], dtype=np.int8) > 0
    return within


@functools.lru_cache(maxsize=4_096)
def _is_derived(word: str) -> bool:
    """Whether a word is made of a common one and a common beginning or end: `rebook`, `cancelable`."""
    common = common_words()
    stem = _AFFIXES.fullmatch(word)
    return stem is not None and any(each in common for each in (stem[1], stem[1] + "e", word[:-1]))


def _is_break(between: str) -> bool:
    """Whether a sentence or line begins behind what stands between two words."""
    signs = between.strip()
    return "\n" in between or (bool(signs) and signs[-1] not in _WITHIN)


_TELLS = np.array([2 * chr(code).isdigit() for code in range(128)] + [2], dtype=np.int8)
"""Of the characters of ASCII, the digits; the last stands for all others, which no word of the list has."""
_BEGINS_MONTH = np.array([chr(code) in "JFMASOND" for code in range(128)] + [False])
_LABEL = re.compile(r"(?:[A-Za-z][\w'/]*[ ()]{0,2}){1,5}[*_]{0,2}:")
"""From the beginning of a sentence or line to a colon."""


def shared_stretches(text: str) -> Iterator[tuple[int, int, int]]:
    """Where a text names a host, which many addresses share: where its own part begins, the host's start and end."""
    done, at = 0, text.find("@")
    while at >= 0:
        # From the sign on: before most characters stands no address.
        local = _BEFORE_AT.search(text[max(done, at - _LONGEST_LOCAL) : at])
        domain = None if local is None else _BEHIND_AT.match(text, at + 1)
        if local is not None and domain is not None:
            yield at - len(local[0]), at + 1, domain.end()
            done = domain.end()
        at = text.find("@", at + 1)
    for host in _HOST.finditer(text) if "://" in text or "www." in text else ():
        yield host.start(), host.start(), host.end()


def units(text: str) -> Iterator[tuple[int, int, Literal["label", "part", "whole"]]]:
    """Where the sentences and lines of a text begin and end, and what stands before a colon; and the text itself."""
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        yield begin, end.start(), "label" if text[end.start()] == ":" else "part"
        begin = end.end()
    if begin:
        yield begin, len(text), "part"
    yield 0, len(text), "whole"
