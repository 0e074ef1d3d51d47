"""How long answers have been so far in this process: what a call in flight is expected to cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from decimal import Context, Decimal
from typing import Final, NamedTuple

from langchain_mlflow_cost.limits import limits

FIRST_ANSWER_TOKENS: Final = 128
"""Expected of a node and model that has not answered yet: a figure that was chosen, not measured.

It is modest by intent: one that is too high refuses calls that are affordable, one that is too low lets through no more
than the first calls in flight, which a budget allows as it is. The one public count that we found and read is of coding
agents' steps (TraceLab, University of Washington, tracelab.cs.washington.edu, `token_length_distribution`, November
2026; 357,161 steps): a quarter of them have at most 132 (Claude) or 70 tokens (Codex), half at most 252 or 184, the
means are 690 and 415. Long answers are then expected too short once, and by their mean from the first answer on.
"""

_MEMORY: Final = 64
"""Answers that count: what a node does changes."""


class Expected(NamedTuple):
    """What the answers to one node's calls of one model are like."""

    answers: int
    tokens: float
    """The mean length of one answer."""

    usd: Decimal | None
    """The mean price of a whole call; None where none had a price."""


class Answers:
    """The means of what was answered, by node and model. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Expected] = OrderedDict()

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._known.clear()

    def expected(self, node: str, model: str) -> Expected | None:
        """Tell what such calls have come to; None before the first answer."""
        return self._known.get((node, model))

    def add(self, node: str, model: str, *, tokens: int, usd: Decimal | None) -> None:
        """Count an answer.

        Args:
            node: The path of the node.
            model: As the request names it.
            tokens: Of one answer: a request for several of them has the mean.
            usd: What the call cost.
        """
        key = node, model
        with self._lock:
            before = self._known.get(key) or _NOTHING
            answers = min(before.answers + 1, _MEMORY)
            known_usd = usd if before.usd is None or usd is None else _moved(before.usd, usd, answers)
            self._known[key] = Expected(
                answers,
                before.tokens + (tokens - before.tokens) / answers,
                before.usd if known_usd is None else known_usd,
            )
            while len(self._known) > limits().remembered_nodes:
                self._known.popitem(last=False)


def _moved(mean: Decimal, figure: Decimal, answers: int) -> Decimal:
    return _ROUGH.add(mean, _ROUGH.divide(_ROUGH.subtract(figure, mean), answers))


_NOTHING: Final = Expected(0, 0.0, None)
_ROUGH: Final = Context(prec=15)
"""A mean is a guess, and made with every call: 60 digits would take three times as long."""


ANSWERS = Answers()
"""One for the process: a web application may make a new handler for each request."""
