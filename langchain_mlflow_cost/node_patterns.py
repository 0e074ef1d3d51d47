r"""Which nodes an entry of the policy's `nodes` is for, and which of two entries is the more specific.

A node's path is the tuple of names from the outermost graph to the node: `("team", "researcher")`. A pattern is
written with `/` between its segments:

    writer            the node of that name, in whatever graph it is: short for `**/writer`
    team/researcher   from the outermost graph down
    team/re*          `*` is any text within a segment, alone it is any name
    team/**/critic    `**` is any number of segments, none included
    and\/or           a `/`, `*` or `\` that belongs to a name has a `\` before it

An entry covers the nodes that its pattern matches and everything that runs inside them, so a pattern *covers* a path if
it matches some beginning of it. How deep that beginning goes is the entry's *depth* there. Of two entries that cover a
node, the deeper is the more specific; at the same depth the two are compared segment by segment from the innermost node
outwards: a full name beats a glob, a glob with more letters one with fewer, that beats a bare `*`, and that beats `**`.
The order in the file decides nothing.

A compiled graph's own name within a path (`nodes.GraphName`) is a segment like any other, and one that a pattern may
leave out: `tools/model` covers `tools/doctor/model`, where `doctor` is an agent that a tool called. Of two patterns
that cover the path without these names, the one that is the more specific there is so with them: an entry that knows
nothing of agents never loses to another such entry by them.

Matching never backtracks: a glob's pieces are looked for one after the other, each as far left as it can be.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from langchain_mlflow_cost.nodes import bare, names_in
from langchain_mlflow_cost.notices import nearest

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Iterator, Sequence

    from langchain_mlflow_cost.nodes import NodePath

# How exactly a segment says which node it means. A glob's rank is the number of its letters, between the two ends.
_ANY_NUMBER: Final = -1
_ANY_NAME: Final = 0
_FULL_NAME: Final = 1_000_000

_ANY_TEXT: Final = None  # stands for `*` among the characters of a segment
_FORBIDDEN: Final = "|:"


_NEARLY: Final = 0.75
"""How alike a misspelt name is to the one that was meant."""
_DIGITS: Final = re.compile(r"\d+")


def _escaped(character: str) -> str:
    return f"\\{character}" if character in "/*\\" else character


class PatternError(ValueError):
    """A node pattern that can match nothing; the message says why and what to write instead."""


@dataclass(frozen=True)
class Segment:
    """One part of a pattern between two `/`.

    `characters` holds the letters that must be there and None for each `*`; it is empty for `**`.
    """

    characters: tuple[str | None, ...]

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The texts before, between and behind the `*`: one for a full name, none for `**`."""
        pieces = [""] if self.characters else []
        for character in self.characters:
            if character is _ANY_TEXT:
                pieces.append("")
            else:
                pieces[-1] += character
        return tuple(pieces)

    @cached_property
    def rank(self) -> int:
        """Larger for what says more exactly which node is meant."""
        if not self.characters:
            return _ANY_NUMBER
        return _FULL_NAME if len(self.pieces) == 1 else sum(map(len, self.pieces))

    def matches(self, name: str) -> bool:
        """Whether a node of this name is meant; `**` means every one."""
        if len(self.pieces) < 2:  # noqa: PLR2004 - no `*` in it
            return not self.pieces or name == self.pieces[0]
        first, *between, last = self.pieces
        if not name.startswith(first):
            return False
        at, end = len(first), len(name) - len(last)
        for piece in between:
            found = name.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return at <= end and name.endswith(last)


@dataclass(frozen=True, order=True, slots=True)
class Specificity:
    """How exactly a pattern means a node; compares larger for the more specific."""

    depth: int
    ranks: tuple[int, ...]  # of the segments, from the innermost outwards
    closeness: int  # 0 or less: `a/b` beats `a/**/b` beats `a/b/**` on a node that all three match name for name


@dataclass(frozen=True)
class NodePattern:
    """A parsed pattern. To be had from `parse`."""

    text: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> NodePattern:
        r"""Read a pattern.

        Raises:
            PatternError: It could match no node: an empty segment, a `|` or `:` (which LangGraph allows in no name), a
                `**` with something beside it, a `\` before a character that needs none.
        """
        segments = list(_segments(text))
        if len(segments) == 1 and segments[0].rank > _ANY_NAME:
            segments.insert(0, Segment(()))
        # `a/**/**/b` says no more than `a/**/b`.
        kept = [
            segment
            for at, segment in enumerate(segments)
            if segment.characters or at == 0 or segments[at - 1].characters
        ]
        return cls(text, tuple(kept))

    @cached_property
    def sure_name(self) -> str | None:
        """A name that every path has which the pattern covers; None where all its names are globs."""
        return next((each.pieces[0] for each in reversed(self.segments) if each.rank == _FULL_NAME), None)

    @cached_property
    def kin(self) -> Hashable:
        """Equal for any two patterns that can be rivals: each names as much, as exactly, with the same full names."""
        named = [each for each in self.segments if each.characters]
        return self._gaps, tuple((each.rank, each.pieces[0] if each.rank == _FULL_NAME else "") for each in named)

    @cached_property
    def globs(self) -> tuple[Segment, ...]:
        """The segments with a `*` in them."""
        return tuple(each for each in self.segments if len(each.pieces) > 1)

    @cached_property
    def _head(self) -> tuple[Segment, ...]:
        """The segments to the last one that names something."""
        named = [at for at, segment in enumerate(self.segments) if segment.rank > _ANY_NAME]
        return self.segments[: named[-1] + 1] if named else ()

    @cached_property
    def _gaps(self) -> int:
        """How much is left open: one for each `**`, and one more where it ends the pattern."""
        gaps = [at for at, segment in enumerate(self.segments) if not segment.characters]
        return len(gaps) + (len(self.segments) - 1 in gaps)

    def specificity(self, path: NodePath) -> Specificity | None:
        """How specific the pattern is for the node at `path`; None if it does not cover it."""
        names, is_graph = names_in(path), [not isinstance(each, str) for each in path]
        if True not in is_graph:
            return self._specificity(names)
        without = self._specificity(bare(path))
        return self._specificity(names, is_graph) if without is None else _among_graphs(without, is_graph)

    def _specificity(self, path: tuple[str, ...], is_graph: Sequence[bool] = ()) -> Specificity | None:
        head = self._head
        tail = self.segments[len(head) :]
        names_wanted = sum(bool(segment.characters) for segment in tail)
        open_ended = names_wanted < len(tail)
        # From the innermost outwards: the deepest beginning of the path that ends with a node the pattern names.
        ranks_at = _ranks(head, path, is_graph)
        for depth in range(len(path) - names_wanted, -1, -1):
            ranks = ranks_at[depth]
            if ranks is None:
                continue
            # A bare `*` or `**` at the end names no node. It counts from the outermost node that it can match: else
            # `**` would be deeper, thus more specific, than any name.
            below = names_wanted
            tail_ranks = [_ANY_NAME] * names_wanted
            if open_ended and names_wanted == 0 and depth < len(path):
                below, tail_ranks = 1, [_ANY_NUMBER]
            if depth + below == 0:
                return None
            return Specificity(depth + below, (*tail_ranks, *ranks), -self._gaps)
        return None

    def misspelt_for(self, path: NodePath, known: Container[str]) -> str | None:
        """How the pattern would have to be written to cover a path, if but its names are misspelt; else None.

        Args:
            path: Of a node that it does not cover.
            known: Names that are right, whatever is near them.
        """
        names, written, is_misspelt = names_in(path), [], False
        for segment in self.segments:
            text = "".join("*" if each is None else _escaped(each) for each in segment.characters) or "**"
            if segment.rank == _FULL_NAME and segment.pieces[0] not in names and segment.pieces[0] not in known:
                meant = nearest(segment.pieces[0], names, cutoff=_NEARLY)
                if meant is None or _DIGITS.sub("", meant) == _DIGITS.sub("", segment.pieces[0]):
                    return None  # `worker_2` is another than `worker_1`.
                text, is_misspelt = "".join(map(_escaped, meant)), True
            written.append(text)
        if len(written) == len(("**", "name")) and written[0] == "**":
            del written[0]
        meant = "/".join(written)
        return meant if is_misspelt and NodePattern.parse(meant).covers(path) else None

    def covers(self, path: NodePath) -> bool:
        """Whether the node at `path` is one that is meant, or runs inside one."""
        return self.specificity(path) is not None

    @property
    def example(self) -> NodePath:
        """A node that the pattern means, with as few names as can be."""
        return _common_path(self.segments, self.segments) or ()

    def rival_path(self, other: NodePattern) -> NodePath | None:
        """A node for which the two patterns are equally specific; None if there is none."""
        path = _common_path(self.segments, other.segments)
        if path is None:
            return None
        mine = self.specificity(path)
        return path if mine is not None and mine == other.specificity(path) else None


def possible_rivals(patterns: Sequence[NodePattern]) -> Iterator[tuple[int, int]]:
    """Positions of pairs of which `rival_path` may find a path; of all others it finds none.

    Few where patterns are names or begin differently: not every pair is looked at.
    """
    kin: dict[Hashable, list[int]] = defaultdict(list)
    for at, pattern in enumerate(patterns):
        kin[pattern.kin].append(at)
    for family in kin.values():
        yield from _overlapping(family, patterns)


def _overlapping(family: list[int], patterns: Sequence[NodePattern]) -> Iterator[tuple[int, int]]:
    """Pairs of a family, all of whose globs stand one for one, of which neither's ends keep the other out."""
    globs = patterns[family[0]].globs
    if not globs:
        ends = [("", at) for at in family]
    else:
        # Two globs can mean one name only if the one's beginning begins with the other's, and so for their ends.
        # By whichever tells more apart: sorted, all that begin with a text follow it.
        by_beginning = [(patterns[at].globs[0].pieces[0], at) for at in family]
        by_end = [(patterns[at].globs[0].pieces[-1][::-1], at) for at in family]
        ends = max(by_beginning, by_end, key=lambda each: len({text for text, _ in each}))
    ends.sort()
    for place, (text, at) in enumerate(ends):
        for other_text, other in ends[place + 1 :]:
            if not other_text.startswith(text):
                break
            yield min(at, other), max(at, other)


Entry = TypeVar("Entry")


class PatternIndex(Generic[Entry]):
    """Entries with their patterns, of which those that may cover a path are found without asking each."""

    def __init__(self, entries: Iterable[tuple[NodePattern, Entry]]) -> None:
        self._by_name: dict[str | None, list[tuple[int, NodePattern, Entry]]] = defaultdict(list)
        for at, (pattern, entry) in enumerate(entries):
            self._by_name[pattern.sure_name].append((at, pattern, entry))

    def candidates(self, path: NodePath) -> list[tuple[NodePattern, Entry]]:
        """In the order in which they were given, all that cover the path and few that do not."""
        found = list(self._by_name.get(None, ()))
        for name in dict.fromkeys(names_in(path)):
            found += self._by_name.get(name, ())
        found.sort(key=lambda each: each[0])
        return [(pattern, entry) for _, pattern, entry in found]


def _segments(text: str) -> Iterator[Segment]:
    characters: list[str | None] = []
    escaped = False
    for character in text:
        if character in _FORBIDDEN:
            raise PatternError(f'holds "{character}", which LangGraph allows in no node\'s name, so it matches nothing')
        if escaped:
            if character not in "/*\\":
                raise PatternError(
                    'has a "\\" before a character that needs none; write "\\\\" for the character itself'
                )
            characters.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "/":
            yield _segment(characters)
            characters = []
        else:
            characters.append(_ANY_TEXT if character == "*" else character)
    if escaped:
        raise PatternError('ends in a single "\\"; write "\\\\" for the character itself')
    yield _segment(characters)


def _segment(characters: list[str | None]) -> Segment:
    if not characters:
        raise PatternError(
            "has an empty segment, so it matches nothing; write names with one `/` between two of them, "
            "and `\\/` for a `/` that belongs to a name"
        )
    if characters == [_ANY_TEXT, _ANY_TEXT]:
        return Segment(())
    if any(pair == (_ANY_TEXT, _ANY_TEXT) for pair in pairwise(characters)):
        raise PatternError("has `**` with something beside it; `**` stands alone between two `/`, `*` within a name")
    return Segment(tuple(characters))


def _among_graphs(without: Specificity, is_graph: Sequence[bool]) -> Specificity:
    """What a pattern's specificity on the nodes of a path alone is on the whole path.

    The order of any two stays: deeper nodes are deeper, and each graph that is left out counts alike for both.
    """
    outermost_first = without.ranks[::-1]
    names_no_node = without.ranks[0] <= _ANY_NAME
    ranks: list[int] = []
    at = -1
    for number, rank in enumerate(outermost_first, 1):
        at += 1
        # A bare `*` or `**` at the end counts from the outermost name that it can match, a graph's too.
        while is_graph[at] and not (names_no_node and number == without.depth):
            ranks.append(_ANY_NUMBER)
            at += 1
        ranks.append(rank)
    return Specificity(at + 1, tuple(ranks[::-1]), without.closeness)


def _ranks(
    segments: tuple[Segment, ...], path: tuple[str, ...], is_graph: Sequence[bool]
) -> list[tuple[int, ...] | None]:
    """For each length, how well the segments match so many names of the path, all of them but graphs' own.

    That is the ranks of the best way to do so, innermost first; None where there is none.
    """
    # `best` is that for the segments so far. A tuple only ever grows at its front, and those for one length are equally
    # long, so what is best so far is best whatever comes after.
    best: list[tuple[int, ...] | None] = [()] + [None] * len(path)
    for segment in segments:
        for at, can_be_left_out in enumerate(is_graph):
            ranks = best[at]
            if can_be_left_out and ranks is not None:
                best[at + 1] = max((_ANY_NUMBER, *ranks), best[at + 1] or ())
        after: list[tuple[int, ...] | None] = [None] * (len(path) + 1)
        if not segment.characters:
            for at, ranks in enumerate(best):
                longer = after[at - 1] if at else None
                candidates = [r for r in (ranks, None if longer is None else (_ANY_NUMBER, *longer)) if r is not None]
                after[at] = max(candidates, default=None)
        else:
            for at, name in enumerate(path):
                ranks = best[at]
                if ranks is not None and segment.matches(name):
                    after[at + 1] = (segment.rank, *ranks)
        best = after
    return best


def _common_path(ours: tuple[Segment, ...], theirs: tuple[Segment, ...]) -> NodePath | None:
    """A path that both match, segment for segment of equal rank, with as few names as can be; None if there is none."""
    if not any(segment.characters for segment in (*ours, *theirs)):
        return ("any",)
    seen: set[tuple[int, int]] = set()
    # Depth first over how far each pattern is used up.
    todo: list[tuple[int, int, NodePath]] = [(0, 0, ())]
    while todo:
        mine, yours, path = todo.pop()
        if (mine, yours) in seen:
            continue
        seen.add((mine, yours))
        if mine == len(ours) and yours == len(theirs) and path:
            return path
        my_gap = mine < len(ours) and not ours[mine].characters
        your_gap = yours < len(theirs) and not theirs[yours].characters
        if my_gap:
            todo.append((mine + 1, yours, path))
        if your_gap:
            todo.append((mine, yours + 1, path))
        if mine < len(ours) and yours < len(theirs) and ours[mine].rank == theirs[yours].rank != _ANY_NUMBER:
            name = _common_name(ours[mine].characters, theirs[yours].characters)
            if name is not None:
                todo.append((mine + 1, yours + 1, (*path, name)))
    return None


def _common_name(ours: tuple[str | None, ...], theirs: tuple[str | None, ...]) -> str | None:
    """A name that both globs match, None if there is none."""
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[int, int, str]] = [(0, 0, "")]
    while todo:
        mine, yours, name = todo.pop()
        if (mine, yours) in seen:
            continue
        seen.add((mine, yours))
        if mine == len(ours) and yours == len(theirs):
            return name or "any"
        my_character = ours[mine] if mine < len(ours) else ""
        your_character = theirs[yours] if yours < len(theirs) else ""
        if my_character is _ANY_TEXT:
            todo.append((mine + 1, yours, name))
            if your_character:
                todo.append((mine, yours + 1, name + your_character))
        if your_character is _ANY_TEXT:
            todo.append((mine, yours + 1, name))
            if my_character:
                todo.append((mine + 1, yours, name + my_character))
        if my_character and my_character == your_character:
            todo.append((mine + 1, yours + 1, name + my_character))
    return None
