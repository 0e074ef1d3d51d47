"""What is looked for in bytes: many texts in all their spellings in one pass, or what a policy's redaction finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import re2

from langchain_mlflow_cost.redaction.rules import scan
from langchain_mlflow_cost.redaction.spellings import spellings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_mlflow_cost.redaction.rules import Rules

PREFIX: Final = 16
"""Letters of a planted text that are looked for on their own: where it was cut, so much must not be left."""
SHORTEST: Final = 7
"""Characters of the shortest text that is looked for; a shorter one is found by chance."""
_MOST_MEMORY: Final = 1 << 30


class Hit(NamedTuple):
    """A copy of a text."""

    text: str
    spelling: str


class Texts:
    """Texts to look for, all of them and all their spellings in one pass.

    Args:
        texts: As they were said.
        by_beginning: Their first letters are looked for, which no other text has: a copy that was cut has them too.

    Raises:
        ValueError: One is so short that it would be found by chance.
    """

    wants_raw = True

    def __init__(self, texts: Iterable[str], *, by_beginning: bool) -> None:
        self._meant: dict[bytes, Hit] = {}
        for text in texts:
            if len(text) < SHORTEST:
                raise ValueError(f"a text of {len(text)} characters would be found by chance; {SHORTEST} are needed")
            head = text[:PREFIX] if by_beginning else text
            for name, spelled in {**spellings(head), "upper case": head.upper().encode()}.items():
                self._meant.setdefault(spelled, Hit(text, name))
        self.longest = max(map(len, self._meant), default=1)
        self._pattern: Any = _any_of(self._meant) if self._meant else None

    def found_in(self, stored: bytes) -> set[Hit]:
        """Which of them are in these bytes, and in which spellings."""
        found: set[Hit] = set()
        start = 0
        while self._pattern is not None and (match := self._pattern.search(stored, start)) is not None:
            found.add(self._meant[match.group()])
            # One byte on, and not behind it: another copy may begin in it.
            start = match.start() + 1
        return found


def _any_of(spelled: Iterable[bytes]) -> Any:
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.encoding = re2.Options.Encoding.LATIN1  # bytes, whatever they mean
    # Of several that begin at a place the longest names the hit.
    options.longest_match = True
    options.log_errors = False
    return re2.compile(b"|".join(re2.escape(one) for one in sorted(spelled)), options)


class Entities:
    """Whatever a policy's redaction finds, by entity."""

    wants_raw = False
    longest = 4_096
    """No secret is longer, private keys apart, whose beginning is found."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def found_in(self, stored: bytes) -> set[str]:
        """The entities of which there are values in these bytes."""
        return {found.entity for found in scan(stored.decode("utf-8", "replace"), self._rules)}
