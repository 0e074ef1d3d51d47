"""Cutting what is too long to a number of characters: after redaction, and so that it says what is missing.

One pass from the outside in, with a budget: what has room stays whole, and what has not shares the room in equal
parts, of which what needs less leaves the rest to the others. So long texts lose their ends first. Where not even a
small part of each has room, lists lose their middle and dicts their large fields.
"""

from __future__ import annotations

import functools
import itertools
import sys
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.redaction.plain import copied, dumps
from langchain_mlflow_cost.redaction.rules import CLEAN, Counts, Leaf, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MARGIN = 16_384
"""A string is scanned this far beyond where it will be cut, so that what straddles the cut is still seen whole."""
MIN_TEXT = 200
"""Characters of a string that are shown at least, if any are, and if it is not the only one that is shown."""
GAP = "…"
"""The name of the field that says what is missing of a dict."""

_CUT = "[cut: {} more characters]"
_MORE = "[cut: {} more]"
# The length of each with a number of twelve digits, and whatever else it takes to write it.
_CUT_CHARS = len(f'"… {_CUT.format(10**11)}"')
_MORE_CHARS = len(f'"{GAP}":"{_MORE.format(10**11)}",')
# A part that has room for this has room for its marker.
_TINY = 64
# Written characters that a member or field gets at least: a message is little more than its frame in less.
_LEAST_TEXT = MIN_TEXT + _CUT_CHARS
_LEAST = 500
# A field that is longer, with its name, is a large one.
_SMALL = 200


class Rest:
    """In a collection: the members in the middle that are not looked at, since they will be cut."""

    __slots__ = ("count", "fragment")

    def __init__(self, count: int) -> None:
        """Count them."""
        self.count = count
        self.fragment = orjson.Fragment(dumps(_MORE.format(count)))


class Piece:
    """A model that was redacted and serialised before."""

    __slots__ = ("_short", "chars", "counts", "fragment", "tree")

    def __init__(self, tree: Any, text: bytes, counts: Counts) -> None:
        """Keep what it was made into, how that is written, and what was found in it."""
        self.tree = tree
        self.fragment = orjson.Fragment(copied(text))
        self.chars = _chars(text)
        """When it is written."""
        self.counts = counts
        self._short: tuple[int, Piece] | None = None

    def cut_to(self, room: int) -> Piece:
        """Give it in at most so many characters, 64 or more.

        To one of few lengths, the last of which is remembered: the same message is in one payload after another, and
        in a growing state none of them should be cut anew for each.
        """
        room = room >> (room.bit_length() - 3) << (room.bit_length() - 3)
        if self._short is None or self._short[0] != room:
            tree = _cut_tree(self.tree, room)
            self._short = (room, Piece(tree, dumps(tree), self.counts))
        return self._short[1]


def cut(tree: Any, max_chars: int) -> str:
    """Write a tree that is too long, keeping as much of it as has room.

    Args:
        tree: Plain values, `Piece` and `Rest`; every string in it is redacted.
        max_chars: Of the text; below 64 there may be more, since what is missing is always said.
    """
    if max_chars >= _TINY:
        text = dumps(_cut_tree(tree, max_chars)).decode()
        if len(text) <= max_chars:
            return text
    return dumps(_CUT.format(_size(tree))).decode()


def cut_leaf(leaf: Leaf, unseen: int, rules: Rules) -> Leaf:
    """Take the end off a redacted text of which more was not looked at: half of a value may be there."""
    text = leaf.text
    if leaf is CLEAN or text is None:
        return leaf  # cut with the payload, farther in front
    if not rules.is_token(text[text.rfind("[") :]):
        text, unseen = text[: max(0, len(text) - MARGIN)], unseen + MARGIN
    return Leaf(f"{text}… {_CUT.format(unseen)}", leaf.counts)


def _chars(text: bytes) -> int:
    return len(text) if text.isascii() else len(text.decode())


def _size(tree: Any, enough: int = sys.maxsize) -> int:
    """Say how many characters it takes when it is written; of one that takes more than enough, at least so many."""
    kind = type(tree)
    if kind is Piece:
        return int(tree.chars)
    if kind is str:
        if len(tree) > enough:
            return len(tree)  # writing it would cost as much as redacting it
        if len(tree) < _SMALL and tree.isalnum() and tree.isascii():
            return len(tree) + 2  # a role, a kind, an id
    elif tree is None or kind is bool:
        return 5 if tree is False else 4
    elif kind is list:
        messages = sum(member.chars for member in tree if type(member) is Piece)
        if messages > enough:
            return messages  # a conversation: writing it takes as long as all that was said in it
    return _chars(dumps(tree))


@functools.lru_cache(maxsize=4096)
def _name_size(name: str) -> int:
    """Say how many characters the name of a field takes, and its colon and comma: names come again and again."""
    return _chars(dumps(name)) + 2


def _cut_tree(tree: Any, room: int) -> Any:
    """Cut what is written in more than `room` characters, of which there are at least `_TINY`."""
    kind = type(tree)
    if kind is str:
        return _cut_text(tree, room)
    if kind is dict:
        return _cut_fields(tree, room)
    if kind is list:
        return _cut_members(tree, room)
    if kind is Piece:
        return tree.cut_to(room)
    return _CUT.format(_size(tree))  # an integer of many digits


def _cut_text(text: str, room: int) -> str:
    hidden = 0
    if text.endswith(" more characters]"):
        # By `cut_leaf`, or by somebody before us: what is missing in all is told once.
        shown, _, count = text.removesuffix(" more characters]").rpartition("… [cut: ")
        if count.isdecimal():
            text, hidden = shown, int(count[:12])
    kept = _beginning(text, room - _CUT_CHARS)
    return f"{kept}… {_CUT.format(len(text) - len(kept) + hidden)}"


def _beginning(text: str, room: int) -> str:
    """Give as much of a text as is surely written in `room` characters, quotes aside."""
    text = text[:room]
    for_escapes = _chars(dumps(text)) - 2 - len(text)
    # As if all escapes were at its beginning; none is longer than six characters.
    return text[: max(room - for_escapes, room // len("\\u0000"))]


def _cut_members(members: list[Any], room: int) -> list[Any]:
    """Keep members from both ends in turn: what a conversation began with, and what was said last."""
    missing = sum(member.count for member in members if type(member) is Rest)
    whole = [member for member in members if type(member) is not Rest] if missing else members
    count = len(whole)
    in_turn = itertools.islice(itertools.chain.from_iterable(zip(whole, reversed(whole), strict=True)), count)
    # With a comma each, and the brackets.
    sizes, level = _shares(((1, _size(member, room), member) for member in in_turn), count + (missing > 0), room - 2)
    kept = len(sizes)
    first, last = (kept + 1) // 2, kept // 2
    short = [_fitted(member, size, level) for member, size in zip(whole[:first], sizes[::2], strict=True)]
    missing += count - kept
    if missing:
        short.append(_MORE.format(missing))
    ends = zip(whole[count - last :], reversed(sizes[1::2]), strict=True)
    return short + [_fitted(member, size, level) for member, size in ends]


def _cut_fields(fields: dict[str, Any], room: int) -> dict[str, Any]:
    """Keep small fields beside large ones, and of these as much of each."""
    missing = sum(item.count for item in fields.values() if type(item) is Rest)
    # With a colon and a comma each.
    sizes = {
        name: (_name_size(name), _size(item, room), item) for name, item in fields.items() if type(item) is not Rest
    }
    if not missing:
        around = sum([name_chars for name_chars, _, _ in sizes.values()])
        lengths = [size for _, size, _ in sizes.values()]
        if around + sum([size if size < _LEAST_TEXT else _LEAST for size in lengths]) <= room - 2:
            # Each gets a little, as in a message: they need no order.
            level = _level(lengths, room - 2 - around)
            return {name: _fitted(item, size, level) for name, (_, size, item) in sizes.items()}
    in_turn = sorted(sizes, key=lambda name: _rank(*sizes[name][:2]))
    shown, level = _shares(map(sizes.__getitem__, in_turn), len(sizes) + (missing > 0), room - 2)
    kept = set(in_turn[: len(shown)])
    short = {name: _fitted(item, size, level) for name, (_, size, item) in sizes.items() if name in kept}
    missing += len(sizes) - len(kept)
    if missing:
        gap = GAP
        while gap in short:
            gap += GAP
        short[gap] = _MORE.format(missing)
    return short


def _rank(name_chars: int, chars: int) -> int:
    """Give the order in which fields get room: small ones, large ones, those whose very names are large."""
    return 2 if name_chars > _SMALL else 1 if name_chars + chars > _SMALL else 0


def _fitted(item: Any, size: int, level: int) -> Any:
    return item if size <= level else _cut_tree(item, level)


def _shares(parts: Iterable[tuple[int, int, Any]], count: int, room: int) -> tuple[list[int], int]:
    """Share the room among as many parts, in their order, as can get a little of it.

    Args:
        parts: Of each the characters that cannot be cut, such as its comma, those that can be, and the part. No more
            of them are looked at than have room.
        count: Of all there are, also those that are no parts any more.
        room: In characters.

    Returns:
        How long each of those is that are kept, and to what the long ones of them must be cut.
    """
    fixed: list[int] = []
    sizes: list[int] = []
    used: list[int] = []
    total = 0
    for around, size, part in parts:
        total += around + min(size, _LEAST_TEXT if type(part) is str else _LEAST)
        fixed.append(around)
        sizes.append(size)
        used.append(total)
        if total > room:
            break
    if total > room or len(sizes) < count:
        room -= _MORE_CHARS
        while used and used[-1] > room and (len(used) > 1 or room - fixed[0] < _TINY):
            used.pop()
    sizes = sizes[: len(used)]
    return sizes, _level(sizes, room - sum(fixed[: len(used)]))


def _level(sizes: Sequence[int], room: int) -> int:
    """Give the length to which the longest must be cut for all to have room."""
    ordered = sorted(sizes)
    for done, size in enumerate(ordered):
        level = room // (len(ordered) - done)
        if size > level:
            return level
        room -= size
    return ordered[-1] if ordered else 0
