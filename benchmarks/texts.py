"""Texts that no other text repeats, with one thing to redact per 2 KB."""

from __future__ import annotations

import base64
import random
import string
from typing import Final

CHARS_PER_PLANT: Final = 2_000
_KEY_CHARS: Final = string.ascii_letters + string.digits
_WORDS: Final = (  # noqa: SIM905, a list of so many literals reads worse
    "the a of to and in is it for on with as at by from that this are was be has not or an which but were all"
    " report order customer weather station account balance north river signal between because little after"
    " quarter measure invoice delivery warehouse schedule contract window morning engine paper garden market"
    " question answer number letter window system network change result reason people company service model"
).split()


def _with_check_digit(digits: str) -> str:
    """The digits of a card and the Luhn digit that makes them valid."""
    doubled = [int(digit) * (2 if position % 2 else 1) for position, digit in enumerate(reversed(digits), start=1)]
    total = sum(value - 9 if value > 9 else value for value in doubled)
    return digits + str(-total % 10)


class Texts:
    """Makes texts. Two texts of one seed differ, also in each of their 2 KB paragraphs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._serial = seed * 1_000_000
        # Choosing words is the slow part: paragraphs are cut out of one long text at random places.
        self._stock = " ".join(self._random.choices(_WORDS, k=20_000))

    def prose(self, chars: int) -> str:
        """English-like text of about so many characters."""
        paragraphs = []
        while chars > 0:
            plant = f"No {self._next()}: {self.plant()}."
            wanted = max(min(chars, CHARS_PER_PLANT) - len(plant) - 3, 0)
            start = self._random.randrange(len(self._stock) - CHARS_PER_PLANT)
            half = start + wanted // 2
            paragraphs.append(f"{self._stock[start:half]} {plant} {self._stock[half : start + wanted]}")
            chars -= CHARS_PER_PLANT
        return "\n".join(paragraphs)

    def line(self, chars: int) -> str:
        """A short text with nothing to redact."""
        start = self._random.randrange(len(self._stock) - chars)
        return f"{self._next()} {self._stock[start : start + chars]}"

    def without_space(self, chars: int) -> str:
        """Letters, digits and dots in one run, an address per 2 KB in it: where naive patterns go quadratic."""
        parts = []
        for _ in range(max(chars // CHARS_PER_PLANT, 1)):
            filler = "".join(self._random.choices(_KEY_CHARS + "..", k=CHARS_PER_PLANT - 40))
            parts.append(f"{filler},{self._address()};")
        return "".join(parts)

    def base64(self, chars: int) -> str:
        """A blob in base64 with an address in the sentence before it."""
        blob = base64.b64encode(self._random.randbytes(chars * 3 // 4)).decode()
        return f"The scan for {self._address()} is {blob}"

    def plant(self) -> str:
        """One thing to redact: an address, a phone number, a card and a key take turns."""
        kind = self._serial % 4
        if kind == 0:
            return f"write to {self._address()}"
        if kind == 1:
            return f"call +1 415 555 {self._random.randrange(10_000):04d}"
        if kind == 2:
            return f"card {_with_check_digit('4' + ''.join(self._random.choices(string.digits, k=14)))}"
        return f"api_key=sk-proj-{''.join(self._random.choices(_KEY_CHARS, k=48))}"

    def _address(self) -> str:
        return f"{self._random.choice(_WORDS)}.{self._next()}@example.com"

    def _next(self) -> int:
        self._serial += 1
        return self._serial
