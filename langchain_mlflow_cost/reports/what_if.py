"""What stored calls would have cost: of other models, or under another policy. No call is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from langchain_mlflow_cost.node_patterns import NodePattern, PatternError
from langchain_mlflow_cost.nodes import parsed_path
from langchain_mlflow_cost.pricing.providers import model_id, provider_id
from langchain_mlflow_cost.pricing.tokenizer import encoding_name
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from langchain_mlflow_cost.pricing.book import PriceBook

OUTPUT_RANGE: Final = (0.5, 2.0)
"""How long another model's answers are taken to be, as a part of those stored: nobody knows without asking it."""
INPUT_RANGE: Final = (0.75, 1.35)
"""How many tokens another tokenizer makes of the same text. Anthropic says up to 1.35 of its own newer one."""

_INPUT: Final = frozenset(
    {"input_tokens", "cache_read", "cache_write", "cache_write_1h", "input_audio", "input_image", "input_video"}
    | {"cache_read_audio"}
)
_OPENAI: Final = re.compile(r"(?:chat)?gpt-|o[134](?:-|$)")
_AROUND: Final = re.compile(r"^(?:[a-z-]+\.)+(?=[a-z])|(?:-v\d+(?::\d+)?|@.*|-\d{8}|-\d{4}-\d\d-\d\d|-latest)$")


@dataclass(frozen=True, slots=True)
class Replacement:
    """Another model in some nodes."""

    nodes: NodePattern
    provider: str | None
    """None for the one that each call had."""
    model: str

    @classmethod
    def parse(cls, text: str) -> Replacement:
        """Read `writer=anthropic/claude-...`, or `writer=gpt-5-mini` at the same provider.

        Raises:
            ValueError: It is not of that form; the message says what is wrong.
        """
        nodes, equals, target = text.rpartition("=")
        if not equals or not nodes.strip() or not target.strip():
            raise ValueError(f"{text!r} is no NODE=PROVIDER/MODEL, such as writer=anthropic/claude-haiku-4-5")
        try:
            pattern = NodePattern.parse(nodes.strip())
        except PatternError as error:
            raise ValueError(f"{nodes!r}: {error}") from error
        provider, _, model = target.strip().partition("/")
        return cls(pattern, provider_id(provider) if model else None, model_id(model or provider))


class Guess(NamedTuple):
    """What a call would have cost, in USD."""

    usd: float | None
    """With answers as long as they were; None where no price is known."""
    low_usd: float = 0.0
    high_usd: float = 0.0
    is_replaced: bool = False


@dataclass(slots=True)
class Outcome:
    """Of some calls: what they cost, and what they would have."""

    calls: int = 0
    usd: float = 0.0
    """As it is stored, fees of tools included."""
    replaced_calls: int = 0
    """Those that another model would have answered."""
    unpriced_calls: int = 0
    """Those without a price as they are stored: 0 in `usd`, which is to be said."""
    unknown_calls: int = 0
    """Those without a price then, or whose usage is not stored: they are in none of the sums below."""
    change_usd: float = 0.0
    low_change_usd: float = 0.0
    high_change_usd: float = 0.0

    def add(self, usd: float | None, guess: Guess) -> None:
        """Add a call that cost so much."""
        before = usd or 0.0
        self.unpriced_calls += usd is None
        self.replaced_calls += guess.is_replaced
        if guess.usd is None:
            self.unknown_calls += 1
            guess = Guess(0.0)
        self.change_usd += (guess.usd or 0.0) - before
        self.low_change_usd += guess.low_usd - before
        self.high_change_usd += guess.high_usd - before

    @property
    def is_range(self) -> bool:
        """Whether answers may have differed in length."""
        return self.high_change_usd - self.low_change_usd > 1e-12 * max(self.usd, 1e-12)

    def as_fields(self) -> dict[str, float | int]:
        """The figures as JSON and CSV have them; see docs/reports.md."""
        return {
            "calls": self.calls,
            "usd": self.usd,
            "what_if_usd": self.usd + self.change_usd,
            "low_usd": self.usd + self.low_change_usd,
            "high_usd": self.usd + self.high_change_usd,
            "change_usd": self.change_usd,
            "replaced_calls": self.replaced_calls,
            "unpriced_calls": self.unpriced_calls,
            "unknown_calls": self.unknown_calls,
        }


class WhatIf:
    """Other models in some nodes, or other prices for all.

    Args:
        replacements: The most specific one that matches a call's node counts.
        book: Prices of the replacements.
        reprices_all: Whether the book's prices are those of all other calls, too. They keep their stored cost else.
    """

    def __init__(self, replacements: Sequence[Replacement], book: PriceBook, *, reprices_all: bool = False) -> None:
        self._replacements = replacements
        self._book = book
        self._reprices_all = reprices_all
        self.unknown: set[str] = set()
        """Models in place of others that have no known price, with the provider where they were looked for."""
        self._used: set[Replacement] = set()

    def price(self, node: str, usage: str, usd: float | None) -> Guess:
        """What a call would have cost.

        Args:
            node: Its path; empty outside of all nodes.
            usage: Its `cost.usage`; without one, nobody knows what it would have cost elsewhere.
            usd: What it cost.
        """
        stored = _exactly(usd)
        replacement = self._replacement_of(node)
        try:
            request, result, at = call_of_usage_json(usage)
        except ValueError:
            return stored if replacement is None and not self._reprices_all else Guess(None)
        if replacement is None or _is_the_same(replacement, request):
            return _exactly(self._usd(request, result, at)) if self._reprices_all else stored
        return self._replaced(replacement, request, result, at)

    def _replacement_of(self, node: str) -> Replacement | None:
        path = parsed_path(node) if node else ()
        found = [(rank, each) for each in self._replacements if (rank := each.nodes.specificity(path)) is not None]
        if not found:
            return None
        by = max(found, key=lambda pair: pair[0])[1]
        self._used.add(by)
        return by

    @property
    def unused(self) -> list[str]:
        """Replacements that no call's node took: patterns that were misspelt, or lost to others."""
        return [each.nodes.text for each in self._replacements if each not in self._used]

    def _replaced(self, by: Replacement, request: CallRequest, result: CallResult, at: datetime) -> Guess:
        provider = by.provider or request.provider
        stays = provider == request.provider
        # A tier, a speed and a place are offers of the provider's; a bill was for the other model.
        asked = replace(request, model=by.model) if stays else CallRequest(provider=provider, model=by.model)
        answered = CallResult(
            usage=result.usage,
            service_tier=result.service_tier if stays else None,
            region=result.region if stays else None,
            estimated=result.estimated,
            side_calls=tuple((None, usage) for _, usage in result.side_calls),
        )
        usd = self._usd(asked, answered, at)
        if usd is None:
            self.unknown.add(f"{provider}/{by.model}")
        before, now = result.response_model or request.model or "", by.model
        if usd is None or _bare(before) == _bare(now):
            return Guess(usd, usd or 0.0, usd or 0.0, is_replaced=True)
        is_openai = _OPENAI.match(_bare(before)) and _OPENAI.match(_bare(now))
        same_tokens = is_openai and encoding_name(_bare(before)) == encoding_name(_bare(now))
        (less_in, more_in), (less_out, more_out) = (1.0, 1.0) if same_tokens else INPUT_RANGE, OUTPUT_RANGE
        guesses = [
            self._usd(asked, _scaled(answered, into, out, is_cached=is_cached), at)
            for into, out in ((less_in, less_out), (more_in, more_out))
            # Another provider's cache may hold nothing of the prompts; writing to one costs more than leaving it.
            for is_cached in (True, False)
        ]
        ends = [usd, *(each for each in guesses if each is not None)]
        return Guess(usd, min(ends), max(ends), is_replaced=True)

    def _usd(self, request: CallRequest, result: CallResult, at: datetime) -> float | None:
        cost = self._book.price(request, result, at=at).cost
        return None if cost is None else float(cost.total_usd)


def _exactly(usd: float | None) -> Guess:
    return Guess(usd, usd or 0.0, usd or 0.0)


def _is_the_same(replacement: Replacement, request: CallRequest) -> bool:
    return replacement.model == request.model and replacement.provider in {None, request.provider}


def _bare(model: str) -> str:
    """A model's name without its vendor, region, version and date."""
    name = model.lower().rpartition("/")[2]
    while (shorter := _AROUND.sub("", name)) != name:
        name = shorter
    return name


def _scaled(result: CallResult, into: float, out: float, *, is_cached: bool) -> CallResult:
    def scaled(usage: Usage) -> Usage:
        if not is_cached:
            usage = replace(usage, cache_read=0, cache_write=0, cache_write_1h=0, cache_read_audio=0)
        counts = {
            # Rounded down, parts still fit in their wholes.
            each.name: int(getattr(usage, each.name) * (into if each.name in _INPUT else out))
            for each in fields(usage)
            if each.name != "fees"
        }
        return Usage(**counts, fees=usage.fees)

    return replace(
        result,
        usage=None if result.usage is None else scaled(result.usage),
        side_calls=tuple((model, scaled(usage)) for model, usage in result.side_calls),
    )
