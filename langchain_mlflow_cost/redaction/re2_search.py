"""RE2's patterns, and where they are found: the one file with a private name of google-re2.

The match objects of google-re2 (read in 1.1.20251105, `re2/__init__.py`) ask for the number of groups at each `span()`
and cost twice what the search costs. `_Regexp._regexp.Match` is the call that they wrap. Where it is not there, or does
not do what it did, the public methods are used, which give the same: slower, and a test says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import re2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_OF_MANY = 64 << 20
"""Bytes that the states of several patterns together may take: in 72 MB of code, JSON, base64 and prose they come to 7.

RE2 makes them as texts need them, and all anew where they take more than it may use. With the 8 MB that it takes unless
told, code took a third longer to search and base64 three times as long (`benchmarks/searching.py`).
"""


def byte_pattern(pattern: str, *, most_bytes: int | None = None) -> Any:
    """Compile for RE2, to be searched for in bytes as they are, each a character: a view has none above 127.

    Args:
        pattern: A regular expression.
        most_bytes: What its states may take; RE2's own limit if not given.

    Raises:
        re2.error: RE2 does not take the pattern.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    if most_bytes is not None:
        options.max_mem = most_bytes
    return re2.compile(pattern.encode(), options)


def any_of(*patterns: Any, told_apart: Any = None) -> Any:
    """Compile the alternatives of several byte patterns without groups into one.

    Args:
        patterns: All of them, or all but one.
        told_apart: That one, for `first_of`.
    """
    alternatives = [f"(?:{pattern.pattern.decode()})" for pattern in patterns]
    if told_apart is not None:
        alternatives.append(f"({told_apart.pattern.decode()})")
    return byte_pattern("|".join(alternatives), most_bytes=_OF_MANY)


def text_pattern(pattern: str) -> Any:
    """Compile for RE2, to be searched for in UTF-8.

    Raises:
        re2.error: RE2 does not take the pattern, of which it prints nothing.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def any_text_of(*patterns: Any) -> Any:
    """Compile the alternatives of several text patterns into one."""
    return text_pattern("|".join(f"(?:{pattern.pattern})" for pattern in patterns))


def text_set(*patterns: str) -> Any:
    """Compile several for RE2, to be asked which of them are anywhere in a piece of UTF-8."""
    options = re2.Options()
    options.log_errors = False
    together = re2.Set.SearchSet(options)
    for pattern in patterns:
        together.Add(pattern.encode())
    together.Compile()
    return together


def public_spans(pattern: Any, data: bytes, position: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Give where a pattern is found between two positions, one place after the other; offsets count bytes."""
    return (match.span() for match in pattern.finditer(data, position, len(data) if end is None else end))


def public_is_in(pattern: Any, data: bytes) -> bool:
    """Say whether a pattern is found anywhere."""
    return pattern.search(data) is not None


def public_first_start(pattern: Any, data: bytes, position: int) -> int:
    """Give where a pattern is found first, from a position on; -1 if nowhere."""
    match = pattern.search(data, position)
    return -1 if match is None else int(match.start())


def public_first_span(pattern: Any, data: bytes) -> tuple[int, int] | None:
    """Give where a pattern is found first."""
    match = pattern.search(data)
    return None if match is None else match.span()


def public_first_of(pattern: Any, data: bytes, position: int) -> tuple[int, int, bool]:
    """Give where a pattern of `any_of` is found first, from a position on, and whether by the one that is told apart.

    -1 if nowhere.
    """
    match = pattern.search(data, position)
    return (-1, -1, False) if match is None else (*match.span(), match.start(1) >= 0)


_UNANCHORED = getattr(getattr(re2, "_Anchor", None), "UNANCHORED", None)


def private_spans(pattern: Any, data: bytes, position: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Give what `public_spans` gives, for patterns that do not find the empty text."""
    match = pattern._regexp.Match  # noqa: SLF001 - see above
    end = len(data) if end is None else end
    while True:
        span = match(_UNANCHORED, data, position, end)[0]
        position = span[1]
        if position < 0:
            return
        yield span


def private_is_in(pattern: Any, data: bytes) -> bool:
    """Give what `public_is_in` gives."""
    return pattern._regexp.Match(_UNANCHORED, data, 0, len(data))[0][0] >= 0  # type: ignore[no-any-return]  # noqa: SLF001 - see above


def private_first_start(pattern: Any, data: bytes, position: int) -> int:
    """Give what `public_first_start` gives."""
    start: int = pattern._regexp.Match(_UNANCHORED, data, position, len(data))[0][0]  # noqa: SLF001 - see above
    return start


def private_first_span(pattern: Any, data: bytes) -> tuple[int, int] | None:
    """Give what `public_first_span` gives."""
    span: tuple[int, int] = pattern._regexp.Match(_UNANCHORED, data, 0, len(data))[0]  # noqa: SLF001 - see above
    return span if span[0] >= 0 else None


def private_first_of(pattern: Any, data: bytes, position: int) -> tuple[int, int, bool]:
    """Give what `public_first_of` gives."""
    (start, end), (start_apart, _) = pattern._regexp.Match(_UNANCHORED, data, position, len(data))  # noqa: SLF001 - see above
    return start, end, start_apart >= 0


def public_which(patterns: Any, data: bytes) -> list[int]:
    """Give the numbers of those of a `text_set` that are found anywhere."""
    return patterns.Match(data) or []


def private_which(patterns: Any, data: bytes) -> list[int]:
    """Give what `public_which` gives."""
    return patterns._set.Match(data)  # type: ignore[no-any-return]  # noqa: SLF001 - see above


def private_search_works() -> bool:
    """Say whether the private call is there and gives what the public methods give."""
    pattern, data = byte_pattern(r"\b[0-9]+(?:-(x))?"), b"a 12-x \xff 3 b4 56"
    try:
        return (
            list(private_spans(pattern, data)) == list(public_spans(pattern, data)) == [(2, 6), (9, 10), (14, 16)]
            and [private_first_start(pattern, data, position) for position in (0, 3, 15)] == [2, 9, -1]
            and private_first_span(pattern, data) == (2, 6)
            and private_first_span(pattern, b"b4") is None
            and [private_first_of(pattern, data, position) for position in (0, 3, 15)]
            == [public_first_of(pattern, data, position) for position in (0, 3, 15)]
            == [(2, 6, True), (9, 10, False), (-1, -1, False)]
            and private_is_in(pattern, data)
            and not private_is_in(pattern, b"b4")
            and private_which(several := text_set("a", "b", "c"), b"cab") == public_which(several, b"cab")
        )
    except Exception:  # noqa: BLE001 - whatever another version does instead
        return False


class _Spans(Protocol):
    def __call__(
        self, pattern: Any, data: bytes, position: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, int]]: ...


spans: _Spans = public_spans
is_in: Callable[[Any, bytes], bool] = public_is_in
which: Callable[[Any, bytes], list[int]] = public_which
first_start: Callable[[Any, bytes, int], int] = public_first_start
first_span: Callable[[Any, bytes], tuple[int, int] | None] = public_first_span
first_of: Callable[[Any, bytes, int], tuple[int, int, bool]] = public_first_of
if private_search_works():
    spans, is_in, first_start, which = private_spans, private_is_in, private_first_start, private_which
    first_span, first_of = private_first_span, private_first_of
