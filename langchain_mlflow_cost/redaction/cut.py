"""Cutting what is too long: after redaction, and so that it says what is missing."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.redaction.plain import copied, dumps
from langchain_mlflow_cost.redaction.rules import CLEAN, Counts, Leaf, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

# A string is scanned this far beyond where it will be cut, so that what straddles the cut is still seen whole.
MARGIN = 16_384


def cut_leaf(leaf: Leaf, unseen: int, rules: Rules) -> Leaf:
    """Take the end off a redacted text of which more was not looked at: half of a value may be there."""
    text = leaf.text
    if leaf is CLEAN or text is None:
        return leaf  # cut with the payload, farther in front
    if not rules.is_token(text[text.rfind("[") :]):
        text, unseen = text[: max(0, len(text) - MARGIN)], unseen + MARGIN
    return Leaf(f"{text}… {_CUT.format(unseen)}", leaf.counts)


class Piece:
    """A model that was redacted and serialised before."""

    __slots__ = ("chars", "counts", "fragment", "short", "strings", "tree")

    def __init__(self, tree: Any, text: bytes, counts: Counts) -> None:
        self.tree = tree
        self.fragment = orjson.Fragment(copied(text))
        self.chars = len(text) if text.isascii() else len(text.decode())
        self.counts = counts
        self.strings: _Strings | None = None
        """Counted when a payload that holds it is first cut: the same message is in one payload after another."""
        self.short: tuple[int, Piece] | None = None
        """What it was last cut to, and the length of string that was asked for."""

    def measured(self) -> _Strings:
        """Give the lengths of its strings."""
        if self.strings is None:
            self.strings = _Strings()
            self.strings.measure(self.tree)
            self.strings.written = self.chars - self.strings.others
        return self.strings

    def cut_to(self, limit: int) -> Piece:
        """The piece with no string longer than `limit`, itself if it has none."""
        if self.measured().longest <= limit:
            return self
        if self.short is None or self.short[0] != limit:
            tree = _shortened(self.tree, _Room(limit, sys.maxsize))
            self.short = (limit, Piece(tree, dumps(tree), self.counts))
        return self.short[1]


class _Strings:
    """The lengths of a tree's strings, in characters, and how long it will be when it is written."""

    __slots__ = ("has_pieces", "lengths", "longest", "others", "written")

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.longest = 0
        self.has_pieces = False
        self.written = 0
        """Of the strings when they are written: with their escapes, where these are known."""
        self.others = 0
        """Of all else, about."""

    def measure(self, tree: Any) -> None:
        """Add a tree."""
        kind = type(tree)
        if kind is str:
            length = len(tree)
            self.lengths.append(length)
            self.longest = max(self.longest, length)
            self.written += length
            self.others += 3
        elif kind is dict:
            for name, item in tree.items():
                self.others += len(name) + 3
                self.measure(item)
        elif kind is list:
            for item in tree:
                self.measure(item)
        elif kind is Piece:
            strings = tree.measured()
            self.has_pieces = True
            self.lengths += strings.lengths
            self.longest = max(self.longest, strings.longest)
            self.written += strings.written
            self.others += strings.others + 1
        else:
            self.others += 8


class Rest:
    """In a collection: the members in the middle that are not looked at, since they will be cut."""

    __slots__ = ("count", "fragment")

    def __init__(self, count: int) -> None:
        self.count = count
        self.fragment = orjson.Fragment(dumps(_MORE.format(count)))


def cut(tree: Any, max_chars: int, written: int | None) -> str:
    """Write a tree in at most so many characters, keeping as much of its shape as there is room for.

    Args:
        tree: With strings in it that are too long for this.
        max_chars: Of the text.
        written: Characters of the whole tree when it is written, if that is known.
    """
    strings = _Strings()
    strings.measure(tree)
    lengths = strings.lengths
    total = sum(lengths)
    in_full = strings.written if written is None else written - strings.others
    # What is cut off takes its escapes with it.
    room = int((max_chars - strings.others) * min(1.0, total / max(in_full, 1)))
    for share in (0.95, 0.6, 0.3):
        limit = _limit(lengths, int(room * share))
        if limit < MIN_STRING:
            break
        if limit >= strings.longest:
            continue
        if strings.has_pieces:
            # To one of few lengths, so that the messages of a growing state need not be cut anew for each payload.
            limit = min(limit, 1 << (limit.bit_length() - 1) | (limit & 1 << max(limit.bit_length() - 2, 0)))
        text = dumps(_shortened(tree, _Room(limit, sys.maxsize))).decode()
        if len(text) <= max_chars:
            return text
    for share in (0.9, 0.5, 0.25, 0.1):
        text = dumps(_shortened(tree, _Room(MIN_STRING, int(max_chars * share)))).decode()
        if len(text) <= max_chars:
            return text
    return dumps(_CUT.format(total)).decode()


_CUT = "[cut: {} more characters]"
_MORE = "[cut: {} more]"
MIN_STRING = 200


@dataclasses.dataclass(slots=True)
class _Room:
    """What may still be written: characters of one string, and of all."""

    string: int
    left: int


def _limit(lengths: list[int], room: int) -> int:
    """Give the length to which the longest strings must be cut for all to have room."""
    remaining = sorted(lengths)
    count = len(remaining)
    for length in remaining:
        share = room // count if count else 0
        if length > share - len(_CUT):
            return share - len(_CUT)
        room -= length
        count -= 1
    return 10**12


def _shortened(tree: Any, room: _Room) -> Any:
    if type(tree) is str:
        keep = max(0, min(room.string, room.left))
        room.left -= min(len(tree), keep) + 4
        # What takes the place of the rest should not be longer than that.
        return tree if len(tree) <= keep + len(_CUT) else f"{tree[:keep]}… {_CUT.format(len(tree) - keep)}"
    if type(tree) is dict:
        return _shortened_fields(tree, room)
    if type(tree) is list:
        return _shortened_members(tree, room)
    if type(tree) is Piece:
        piece = tree.cut_to(room.string)
        if piece.chars < room.left:
            room.left -= piece.chars
            return piece
        return _shortened(tree.tree, room)
    room.left -= 8
    return tree


def _shortened_fields(tree: dict[str, Any], room: _Room) -> dict[str, Any]:
    """Keep small fields beside large ones, and of these as much of each."""
    short: dict[str, Any] = {}
    large = []
    for name, item in tree.items():
        if type(item) in _LARGE or (type(item) is str and len(item) > MIN_STRING):
            large.append(name)
        elif type(item) is not Rest:
            room.left -= len(name) + 4
            if room.left <= 0:
                break
            short[name] = _shortened(item, room)
    for done, name in enumerate(large):
        room.left -= len(name) + 4
        if room.left <= 0:
            break
        share = _Room(room.string, room.left // (len(large) - done))
        room.left -= share.left
        short[name] = _shortened(tree[name], share)
        room.left += share.left
    if len(short) == len(tree):
        return {name: short[name] for name in tree}
    kept = {name: short[name] for name in tree if name in short}
    kept["…"] = _MORE.format(_count_of(item for name, item in tree.items() if name not in short))
    return kept


def _shortened_members(tree: list[Any], room: _Room) -> list[Any]:
    """Keep members from both ends in turn: what a conversation began with, and what was said last."""
    first: list[Any] = []
    last: list[Any] = []
    while len(first) + len(last) < len(tree):
        room.left -= 2
        if room.left <= 0:
            first.append(_MORE.format(_count_of(tree[len(first) : len(tree) - len(last)])))
            break
        if len(first) <= len(last):
            first.append(_shortened(tree[len(first)], room))
        else:
            last.append(_shortened(tree[-1 - len(last)], room))
    return first + last[::-1]


def _count_of(left_out: Iterable[Any]) -> int:
    return sum(item.count if type(item) is Rest else 1 for item in left_out)


_LARGE = (dict, list, Piece)
