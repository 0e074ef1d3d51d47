r"""A text as the detectors look at it, and the anchors that they share.

Anchors are searched with RE2, in time linear in the text whatever it holds, in an ASCII view of the same length as
the text, so that offsets need no arithmetic and `\b` and `\d` mean the same to everybody.

No rule crosses the character U+001F, so that many texts can be joined with it and scanned as one.
"""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from langchain_mlflow_cost.redaction.detectors.commands import COMMAND
from langchain_mlflow_cost.redaction.detectors.disguises import MARKS
from langchain_mlflow_cost.redaction.detectors.name_patterns import NAMES
from langchain_mlflow_cost.redaction.detectors.secret_formats import FIRST_TWO, INNER, KEY_STARTS
from langchain_mlflow_cost.redaction.detectors.tables import CELL_END, CELL_NAMES, find_columns
from langchain_mlflow_cost.redaction.re2_search import byte_pattern, first_start, spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_mlflow_cost.redaction.detectors.tables import Cell


class Found(NamedTuple):
    """A stretch of text that belongs to an entity; offsets count characters."""

    start: int
    end: int
    entity: str


Span = tuple[int, int, str]
"""A `Found` in the making: a plain tuple, which costs a tenth."""


class Runs(NamedTuple):
    """Stretches of digits and of what stands between digits, by what their shape lets them be: start and end."""

    numbers: list[tuple[int, int, int]]
    """All of at least seven digits, and how many: no entity has fewer, but for IPv4."""
    dotted: list[tuple[int, int]]
    """Those with three full stops."""
    cards: list[tuple[int, int]]
    """Those in which a payment card may be."""
    social: list[tuple[int, int]]
    """Those in which a social security number may be."""


class View:
    """A text as the detectors look at it, with its anchors, each searched for once and only if somebody asks."""

    __slots__ = (
        "_accounts",
        "_at_signs",
        "_cells",
        "_columns",
        "_commands",
        "_has_encoded",
        "_has_pem",
        "_has_tokens",
        "_hex_groups",
        "_inner_keys",
        "_key_starts",
        "_marks",
        "_names",
        "_runs",
        "ascii",
        "bytes",
        "first_anchor",
        "first_name",
        "has_foreign",
        "names_from",
        "reasons",
        "short",
        "text",
        "tokens",
    )

    def __init__(self, text: str, short: int) -> None:
        """Take the ASCII view, of the same length, of a text in which look-alikes are folded; `short` as `SHORT`."""
        self.text = text
        self.short = short
        if text.isascii():
            self.ascii = text
            self.bytes = text.encode()
        else:
            self.bytes = text.encode("ascii", "replace")
            self.ascii = self.bytes.decode("ascii")
        self._columns: list[Cell] | None = None
        self.reasons: dict[tuple[int, int], str] | None = None
        """Where somebody asks why something is found: the rule, by the stretch."""
        self.tokens: re.Pattern[bytes] | None = None
        """What stands for a value that went before: it says nothing of what stands beside it."""
        self.first_anchor = 0
        """Where the first of the anchors may be; -1 if there is nothing but at signs and what a name may announce."""
        self.first_name: tuple[int, int] | None = None
        """The first name that may announce a credential, or head a column, where that is known."""
        self.names_from = 0
        """Where the next one may be, or the first; -1 if there is none."""
        self.has_foreign = True
        """Whether a word for "password" in another script may be in it."""
        self._runs: Runs | None = None
        self._has_encoded = self._has_pem = False
        self._has_tokens = b"[" in self.bytes
        self._at_signs: list[int] | None = None
        self._accounts: list[int] = []
        self._hex_groups: list[int] | None = None
        self._names: list[tuple[int, int]] | None = None
        self._cells: list[tuple[int, int]] = []
        self._marks: list[int] = []
        self._inner_keys: list[tuple[int, int]] = []
        self._key_starts: list[tuple[int, int]] | None = None
        self._commands: list[tuple[int, int]] = []

    @property
    def has_names(self) -> bool:
        """Whether a name that announces a credential may be in it, or one of a column."""
        return self.names_from >= 0 or self.first_name is not None

    @property
    def runs(self) -> Runs:
        """Give the stretches that are digits and what stands between digits."""
        if self._runs is None:
            numbers: list[tuple[int, int, int]] = []
            runs = self._runs = Runs(numbers, [], [], [])
            data = self.bytes
            # In a short text, counting digits takes less time than to look once more for nothing.
            is_short = len(data) <= self.short
            left = len(data) - len(data.translate(None, _DIGITS)) if is_short else len(data)
            for span in spans(NUMBER_RUN, data) if left >= _FEWEST_DIGITS and self.first_anchor >= 0 else ():
                start, end = span
                shape = data[start:end].translate(_SHAPE)
                digits, dotted, card, social = _known_shape(shape) if end - start < _LONG_RUN else _shape(shape)
                if digits >= 7:
                    numbers.append((start, end, digits))
                if dotted:
                    runs.dotted.append(span)
                if card:
                    runs.cards.append(span)
                if social:
                    runs.social.append(span)
                if is_short:
                    left -= digits
                    if left < _FEWEST_DIGITS:
                        break
        return self._runs

    @property
    def at_signs(self) -> list[int]:
        """Give where an at sign is between what can stand beside one, also where it is written as in a URL (`%40`)."""
        if self._at_signs is None:
            _ = self.hex_groups
            if self._has_encoded:
                self._at_signs = [start + 1 for start, _ in spans(AT_SIGNS, self.bytes)]
            else:
                # Most texts have none: looking for one is a hundred times faster than any pattern.
                self._at_signs = signs_at(self.bytes)
        return self._at_signs

    @property
    def has_pem(self) -> bool:
        """Say whether the first line of a private key, or of a certificate, is in it."""
        _ = self.hex_groups
        return self._has_pem

    @property
    def accounts(self) -> list[int]:
        """Give where something begins that may be a bank account or a wallet."""
        _ = self.key_starts
        return self._accounts

    @property
    def hex_groups(self) -> list[int]:
        """Give where hexadecimal digits stand between two colons, or something else that begins a MAC address."""
        if self._hex_groups is None:
            self._hex_groups = []
            data = self.bytes
            searched = iter(()) if self.first_anchor < 0 else spans(SIGNS, data, self.first_anchor)
            while span := next(searched, None):
                first, last = data[span[0]], data[span[1] - 1]
                if first in _MARK_STARTS:
                    if first != _PERCENT or last != _ZERO:
                        self._marks.append(span[0])
                        continue
                    # What follows may begin in the middle of it.
                    self._has_encoded = True
                    searched = spans(SIGNS, data, span[0] + 1)
                elif last == _BLANK:
                    self._has_pem = True
                elif last == _COLON or _HEX_GROUP.match(data, span[0]):
                    self._hex_groups.append(span[0])
                else:
                    self._inner_keys.append(span)
        return self._hex_groups

    @property
    def inner_keys(self) -> list[tuple[int, int]]:
        """Give where the mark of a key is whose shape does not begin with it, and where the mark ends."""
        _ = self.hex_groups
        return self._inner_keys

    @property
    def key_starts(self) -> list[tuple[int, int]]:
        """Give where a word begins as a key of a known shape does, and how far that goes."""
        if self._key_starts is None:
            self._key_starts = []
            data = self.bytes
            for span in () if self.first_anchor < 0 else spans(STARTS, data, self.first_anchor):
                if data[span[1] - 1] in _COMMAND_ENDS:
                    self._commands.append(span)
                    continue
                start, end = span
                if data[start] in _NO_ACCOUNT or not _ACCOUNT.match(data, start):
                    self._key_starts.append(span)
                else:
                    if data[start : start + 2] in FIRST_TWO:
                        self._key_starts.append(span)  # it may be both: `SK31 1200 0000 ...`
                    self._accounts.append(start)
                    # Not only behind what was found: in `XX12 DE89 3704 ...` the first group is not the country's.
                    piece = data[start + 3 : end + _LONGEST_ACCOUNT]
                    inside = first_start(ACCOUNTS, piece, 1)
                    while 0 <= inside < end - start - 3:
                        self._accounts.append(start + 3 + inside)
                        inside = first_start(ACCOUNTS, piece, inside + 4)
        return self._key_starts

    @property
    def commands(self) -> list[tuple[int, int]]:
        """Give where a command is, to the blank behind it."""
        _ = self.key_starts
        return self._commands

    @property
    def columns(self) -> list[Cell]:
        """Give the cells of tables whose header names what is looked for."""
        if self._columns is None:
            self._columns = find_columns(self) if self.cells else []
        return self._columns

    @property
    def marks(self) -> list[int]:
        """Give where something is written otherwise than it is meant."""
        _ = self.hex_groups
        return self._marks

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Give where a cell ends that may head a column, to the mark behind it."""
        _ = self.names
        return self._cells

    @property
    def names(self) -> list[tuple[int, int]]:
        """Give where a name may be that announces a credential, and how far that was looked at."""
        if self._names is None:
            self._names = []
            data = self.bytes
            for span in self._each_name():
                piece = data[span[0] : span[1]]
                cell, is_name = _known_name(piece) if len(piece) <= SHORT_NAME else _name_or_cell(piece)
                if cell:
                    self._cells.append((span[0], span[0] + cell))
                if is_name:
                    self._names.append(span)
        return self._names

    def _each_name(self) -> Iterator[tuple[int, int]]:
        data = self.bytes
        if self.first_name is not None:
            yield self.first_name
        if len(data) > self.short:
            for first, last in _without_blobs(data):
                yield from spans(NAME_ANCHORS, data, first, last)
        elif self.names_from >= 0:
            yield from spans(NAME_ANCHORS, data, self.names_from)

    def because(self, start: int, end: int, rule: str) -> None:
        """Note which rule found a stretch, if somebody asks."""
        if self.reasons is not None:
            self.reasons.setdefault((start, end), rule)

    def before(self, start: int, length: int) -> bytes:
        """Give what stands before a place in the same text, in lower case, as UTF-8, without tokens of our own."""
        if self.text is self.ascii:
            piece = self.bytes[start - length if start > length else 0 : start]
            if self._has_tokens and (b"]" in piece or b"[" in piece):
                piece = self._without_tokens(self.bytes[max(0, start - length - _LONGEST_TOKEN) : start])[-length:]
            cut = piece.rfind(b"\x1f")
            return (piece[cut + 1 :] if cut >= 0 else piece).lower()
        text = self.text[max(0, start - length) : start]
        if "]" in text or "[" in text:
            longer = self.text[max(0, start - length - _LONGEST_TOKEN) : start].encode(errors="replace")
            text = self._without_tokens(longer).decode(errors="replace")[-length:]
        return text[text.rfind("\x1f") + 1 :].lower().encode(errors="replace")

    def _without_tokens(self, piece: bytes) -> bytes:
        return self.tokens.sub(b"", piece) if self.tokens is not None else piece


def positions(data: bytes, wanted: bytes) -> Iterator[int]:
    """Give every place of a literal."""
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)


WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


def is_glued(text: str, start: int, end: int) -> bool:
    """Say whether a number is a part of a longer word, such as a hash."""
    return (start > 0 and text[start - 1] in WORD) or (end < len(text) and text[end] in WORD)


_ROW = re.compile(r"[ \t,|]*(?:-?[0-9.]+[ \t,|]+){2,}-?[0-9.]+[ \t,|]*\r?", re.ASCII)


def in_row(text: str, start: int, end: int, fewest: int) -> bool:
    """Say whether so many more numbers stand right beside a number on its line, or above or below it: a table."""
    lines = text[max(0, start - 80) : start].rpartition("\x1f")[2].rsplit("\n", 2)
    below = text[end : end + 80].partition("\x1f")[0].split("\n", 2)
    before, after = lines[-1].split() if len(lines[-1]) < 80 else lines[-1][-24:].split(), below[0][:24].split()
    if not before and not after:
        above = lines[-2] if len(lines) > 2 or (len(lines) > 1 and start <= 80) else ""
        return bool(_ROW.fullmatch(above) or (len(below) > 2 and _ROW.fullmatch(below[1])))
    return sum(one.strip(",|").isdigit() for one in (*before[-3:], *after[:3])) >= fewest


SHORT = 8_192
"""Characters of a text in which each search costs more to begin than to carry out: RE2 lets go of the interpreter's
lock for each, and where many threads scan, they wait for one another."""
_LONGEST_TOKEN = 64 + 20
_DIGITS = b"0123456789"
# An IPv4 address has no more, all else at least seven.
_FEWEST_DIGITS = 4
NUMBER_RUN = byte_pattern(r"[0-9][0-9 ().\-/]{5,}[0-9]")
# Every digit as 0: what a stretch looks like is told faster than what it is, and most look alike.
_SHAPE = bytes.maketrans(b"123456789", b"000000000")
_CARD_SHAPE = re.compile(
    rb"0{12}|0{4}(?: {1,2}|[./-])0{4}(?: {1,2}|[./-])0{4}|0{4}(?: {1,2}|[./-])0{6}(?: {1,2}|[./-])0{4}"
)
_SOCIAL_SHAPE = re.compile(rb"000([ .-])00\1(?=0000)")
# Longer ones are rare, and not worth the memory.
_LONG_RUN = 40


def _shape(shape: bytes) -> tuple[int, bool, bool, bool]:
    """Say how many digits such a stretch has, and whether it has three full stops, a card's or an SSN's shape."""
    digits = shape.count(b"0")
    return (
        digits,
        shape.count(b".") >= 3,
        digits >= 12 and _CARD_SHAPE.search(shape) is not None,
        shape == b"000000000" or (len(shape) > digits and _SOCIAL_SHAPE.search(shape) is not None),
    )


_known_shape = functools.lru_cache(maxsize=4096)(_shape)

AT_SIGNS = byte_pattern(r"[A-Za-z0-9._%+'&~!#$\"?\-](?:@|%40)[A-Za-z0-9\[?]")
_ACCOUNTS = (
    r"\b[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{3}"
    r"|\b(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{11}|\b(?:BC1|LTC1)[02-9AC-HJ-NP-Z]{11}"
    r"|\b[13LMDT][1-9A-HJ-NP-Za-km-z]{25,34}\b|\b0x[0-9a-fA-F]{40}\b"
    # A card in pieces, a telephone number in letters.
    r"|\b[0-9]{4}(?:_[0-9]{4}|[ .-]?\r?\n[ \t>|*#/-]*[0-9]{4})|\b1-8[0-9][0-9]-[A-Z0-9]"
)
_BEFORE_AT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+'&~!#$\"?-")
_BEHIND_AT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789[?")


def signs_at(data: bytes) -> list[int]:
    """Give what `AT_SIGNS` finds where none is written as in a URL."""
    result = []
    at, done, last = data.find(b"@", 1), 0, len(data) - 1
    while 0 < at < last:
        # What stands behind one is not before the next: a@b@c.
        if at > done and data[at - 1] in _BEFORE_AT and data[at + 1] in _BEHIND_AT:
            result.append(at)
            done = at + 2
        at = data.find(b"@", at + 1)
    return result


ACCOUNTS = byte_pattern(_ACCOUNTS)
_ACCOUNT = re.compile(_ACCOUNTS.encode())
_LONGEST_ACCOUNT = 40
# What is looked for in one pass has few states in common, so that it costs no more than one of them.
_HEX = (
    r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]"
    r"|\b[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-|\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b"
)
_HEX_GROUP = re.compile(_HEX.encode())
SIGNS = byte_pattern(rf"{_HEX}|{MARKS}|{INNER}|%40|-----BEGIN ")
NAME_ANCHORS = byte_pattern(NAMES)
# Letters of base64 of both kinds as one letter, all else as a blank.
_OF_BLOBS = bytes(0x61 if (chr(code).isalnum() and code < 128) or code in b"+/_-" else 0x20 for code in range(256))
_BLOB = 4_096
"""Bytes of base64 that are passed over where names are looked for, which something else must follow."""
_INTO_BLOB, _LONGEST_NAME = 600, 256


def _without_blobs(data: bytes) -> Iterator[tuple[int, int]]:
    """Give the stretches of a text but for the middle of pictures, files and the like: no name can be there."""
    start = first = last = 0
    for position in range(0, len(data) - _BLOB, _BLOB):
        end = position + _BLOB
        # Most texts have a blank: to see one takes a tenth of a microsecond.
        if data.find(b" ", position, end) >= 0 or b" " in data[position:end].translate(_OF_BLOBS):
            continue
        if position != last:
            if last:
                yield start, first + _INTO_BLOB
                start = last - _LONGEST_NAME
            first = position
        last = end
    if last:
        yield start, first + _INTO_BLOB
        start = last - _LONGEST_NAME
    yield start, len(data)


_CELL = re.compile(rf"(?:{'|'.join(CELL_NAMES)}){CELL_END}".encode(), re.IGNORECASE)
_CELL_MARKS = re.compile(rb"[,;|\t\r\n)]")
SHORT_NAME = 24
"""Bytes of a name that is worth remembering: longer ones end in values, of which no two are alike."""


def _name_or_cell(piece: bytes) -> tuple[int, bool]:
    """Say how far what may be a name is a cell that may head a column, and whether a value may follow it."""
    # Most end in an equals sign or a colon, and have no cell's end before it.
    cell = _CELL.match(piece) if _CELL_MARKS.search(piece) else None
    if cell is None:
        return 0, True
    return cell.end(), cell.end() < len(piece) or piece.rstrip(b", ").endswith((b'"', b"'"))


_known_name = functools.lru_cache(maxsize=4096)(_name_or_cell)

STARTS = byte_pattern(rf"{_ACCOUNTS}|\b(?:{KEY_STARTS})|{COMMAND}")
# With what no key's mark ends, and what no account begins with: most places need no second look.
_COLON = ord(":")
_NO_ACCOUNT = frozenset(b"acdefghijkmnopqrsuvwxyz")
_MARK_STARTS = frozenset(b"&\\=%")
# How an at sign begins and ends as it is in a URL, and how what begins a private key ends; nothing else does.
_PERCENT, _ZERO, _BLANK = b"%0 "
_COMMAND_ENDS = frozenset(b" \t")
