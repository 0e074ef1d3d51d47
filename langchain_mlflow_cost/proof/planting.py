"""The texts that are planted: prose that nobody else says, and values that a policy's redaction finds."""

from __future__ import annotations

import random
import secrets
import string
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.proof.looking import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROSE: Final = "prose"
GIVEN: Final = "given"
_LETTERS: Final = "bcdfghjklmnpqrstvwxz"
_draw = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted text."""

    number: int
    text: str
    kind: str
    """`prose`, the name of an entity, or `given` for one that the user names."""
    place: str
    """Where it was planted: `input`, `answer of team/writer`, `tool search`."""


class Planter:
    """Makes planted texts and remembers them; threads may share it.

    Args:
        is_found: Whether the policy's redaction finds a value: of entities that it does not find none is planted.
        given: Values of the user's own, planted in turn with the others.
    """

    def __init__(self, is_found: Callable[[str], bool], given: Sequence[str] = ()) -> None:
        self.plants: list[Plant] = []
        self._lock = threading.Lock()
        self._makers: list[tuple[str, Callable[[], str]]] = [
            (entity, make) for entity, makers in MAKERS.items() for make in makers if is_found(make())
        ]
        self._given = list(given)
        self._turn = 0

    def text(self, place: str, most: int | None = None) -> str:
        """A new text for a place, of a length at most: a sentence, and beside it a value that redaction finds."""
        with self._lock:
            prose = self._plant(f'{letters(PREFIX)} said "{letters(10)}" \\ 7/8 & més\n{letters(10)}', PROSE, place)
            parts = [prose]
            if self._makers:
                entity, make = self._makers[self._turn % len(self._makers)]
                parts.append(self._plant(make(), entity, place))
            if self._given:
                parts.append(self._plant(self._given[self._turn % len(self._given)], GIVEN, place))
            self._turn += 1
            if most is None or most >= sum(map(len, parts)) + len(parts):
                return " ; ".join(parts)
            del self.plants[-len(parts) :]
            return self._plant(letters(most), PROSE, place) if most >= PREFIX else letters(most)

    def _plant(self, text: str, kind: str, place: str) -> str:
        self.plants.append(Plant(len(self.plants) + 1, text, kind, place))
        return text

    def in_text(self, text: str) -> list[Plant]:
        """Which of them stand in a text, as they are or as JSON writes them."""
        with self._lock:
            return [each for each in self.plants if each.text[:PREFIX] in text]


def letters(count: int) -> str:
    """Letters that occur nowhere else, and make no word."""
    return "".join(secrets.choice(_LETTERS) for _ in range(count))


def _of(alphabet: str, count: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))


def _digits(count: int) -> str:
    return _of(string.digits, count)


def _card() -> str:
    digits = "4" + _digits(14)
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(digits)]
    check = -sum(value - 9 * (value > 9) for value in doubled) % 10  # noqa: PLR2004 - Luhn's
    return f"{digits}{check}"


def _iban() -> str:
    account = _digits(18)
    check = 98 - int(f"{account}131400") % 97  # D and E are 13 and 14, ISO 13616
    return f"DE{check:02d}{account}"


MAKERS: Final[dict[str, tuple[Callable[[], str], ...]]] = {
    "SECRET": (
        lambda: "ghp_" + _of(string.ascii_letters + string.digits, 36),
        lambda: "sk-" + "proj-" + _of(string.ascii_letters + string.digits, 48),
        lambda: "AKIA" + _of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
    ),
    "EMAIL_ADDRESS": (lambda: f"{letters(PREFIX)}@{letters(9)}.com",),
    "PHONE_NUMBER": (lambda: f"+1 415 {_draw.randint(200, 999)} {_digits(4)}",),
    "CREDIT_CARD": (_card,),
    "IBAN_CODE": (_iban,),
    "US_SSN": (lambda: f"{_draw.randint(100, 665)}-{_draw.randint(10, 99)}-{_draw.randint(1000, 9999)}",),
    "IP_ADDRESS": (lambda: f"81.{_draw.randint(100, 255)}.{_draw.randint(100, 255)}.{_draw.randint(100, 255)}",),
    "MAC_ADDRESS": (lambda: ":".join(_of("0123456789ABCDEF", 2) for _ in range(6)),),
    "CRYPTO": (lambda: "0x" + _of("0123456789abcdef", 40),),
}
"""Of each entity, ways to make a new value: it has to be told from all others where it is found."""
