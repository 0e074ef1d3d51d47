"""What a token and a use cost: the classes of tokens, price lists compiled to rates, premiums for regions.

A list is genai-prices' (its rates depend on the day, the service tier and the prompt's length), the policy's own, or
one that the caller injects. All rates are `Decimal` USD a token or a use.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from genai_prices.types import TieredPrices, TimeOfDateConstraint

from langchain_mlflow_cost.money import EXACT, ZERO
from langchain_mlflow_cost.pricing.providers import ANTHROPIC, AWS, AZURE, GOOGLE, OPENAI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_prices.types import ModelInfo, ModelPrice, Provider

    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

ONE: Final = Decimal(1)
MILLION: Final = Decimal(1_000_000)
THOUSAND: Final = Decimal(1000)

TOKEN_CLASSES: Final[dict[str, tuple[str, ...]]] = {
    # A class and, best first, the classes whose rate it takes where it has none of its own. To add one: a row here, a
    # field of Usage, a line in classes_of.
    "input": (),
    "cache_read": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "cache_read_audio": ("cache_read", "input"),
    "input_image": ("input",),
    "input_video": ("input",),
    "output": (),
    "reasoning": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
    "citation": ("output",),
}
"""Prices of these are told in USD per million tokens."""

FEE_CLASSES: Final[tuple[str, ...]] = ("request", "web_search", "file_search", "social_search", "code_execution")
"""Prices of these are told in USD a use."""

OUTPUT_CLASSES: Final = frozenset({"output", "reasoning", "output_audio", "output_image", "citation"})
MODAL_CLASSES: Final = frozenset({"input_audio", "output_audio", "input_image", "output_image"})

TOKEN_PRICE_KEYS: Final[dict[str, str]] = {
    # genai-prices' keys, USD per million tokens.
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "input_image_mtok": "input_image",
    "input_video_mtok": "input_video",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "output_citation_mtok": "citation",
}
FEE_PRICE_KEYS: Final[dict[str, str]] = {
    # genai-prices' keys, USD per thousand uses.
    "requests_kcount": "request",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "social_searches_kcount": "social_search",
    "code_executions_kcount": "code_execution",
}


def classes_of(usage: Usage) -> list[tuple[str, int]]:
    """Split a usage into disjoint classes of tokens; those without tokens are left out."""
    plain = usage.input_tokens
    said = usage.output_tokens
    if not usage.has_rare:
        read, reasoning = usage.cache_read, usage.reasoning
        four = (("input", plain - read), ("cache_read", read), ("output", said - reasoning), ("reasoning", reasoning))
        return [each for each in four if each[1]]
    parts: list[tuple[str, int]] = []
    for name, count in (
        ("cache_read", usage.cache_read - usage.cache_read_audio),
        ("cache_write", usage.cache_write),
        ("cache_write_1h", usage.cache_write_1h),
        ("input_audio", usage.input_audio - usage.cache_read_audio),
        ("cache_read_audio", usage.cache_read_audio),
        ("input_image", usage.input_image),
        ("input_video", usage.input_video),
    ):
        if count:
            plain -= count
            parts.append((name, count))
    if plain:
        parts.insert(0, ("input", plain))
    place = len(parts)
    for name, count in (
        ("reasoning", usage.reasoning),
        ("output_audio", usage.output_audio),
        ("output_image", usage.output_image),
        ("citation", usage.citation),
    ):
        if count:
            said -= count
            parts.append((name, count))
    if said:
        parts.insert(place, ("output", said))
    return parts


@dataclass(frozen=True, slots=True)
class ModelRates:
    """What another price list knows of a model."""

    source: str
    """Its name and version, as it is to be shown: `mlflow 3.17.2 catalogue`."""
    model: str
    rates: Mapping[str, Decimal]
    """USD per *token* by class of `TOKEN_CLASSES`, USD per use by class of `FEE_CLASSES`."""
    long_context: tuple[tuple[int, Mapping[str, Decimal]], ...] = ()
    """Rates for all tokens of a call with more than so many input tokens; a class left out keeps its rate."""
    service_tiers: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    """Rates of `flex`, `priority`, `batch`; a class left out keeps its rate."""
    as_of: str | None = None
    """The day the list was read, if it tells."""


class Rates:
    """One model's price, multiplied out: for each bracket of prompt length a rate for every class.

    Attributes:
        own: The classes that have a rate of their own; the others take that of the class that they are part of.
        fees: USD a use.
        notes: What a reader of the price has to know.
    """

    __slots__ = ("_brackets", "fees", "notes", "own")

    def __init__(
        self,
        brackets: Iterable[tuple[int, Mapping[str, Decimal]]],
        fees: Mapping[str, Decimal],
        notes: tuple[str, ...] = (),
        *,
        is_claude: bool = False,
    ) -> None:
        """Fill the gaps of `brackets`, which are in rising order, the first from 0 on."""
        given = list(brackets)
        self.own = frozenset(given[0][1])
        self.fees = dict(fees)
        self.notes = notes
        self._brackets = tuple((start, _filled(rates, is_claude=is_claude)) for start, rates in reversed(given))

    def at_length(self, input_tokens: int) -> Mapping[str, Decimal | None]:
        """Give the rates of all tokens of a call with so many input tokens."""
        for start, rates in self._brackets:
            if input_tokens > start:
                return rates
        return self._brackets[-1][1]

    def listed(self) -> list[tuple[int, dict[str, Decimal]]]:
        """Give the brackets in rising order, with the classes that have a rate of their own."""
        return [
            (start, {name: rate for name, rate in rates.items() if name in self.own and rate is not None})
            for start, rates in reversed(self._brackets)
        ]


def _filled(rates: Mapping[str, Decimal], *, is_claude: bool) -> dict[str, Decimal | None]:
    full: dict[str, Decimal | None] = {}
    for name, stand_ins in TOKEN_CLASSES.items():
        rate = rates.get(name)
        if rate is None and is_claude and name == "cache_write_1h" and {"cache_write", "input"} <= rates.keys():
            # Anthropic: an hour in the cache costs twice the input, for every model (platform.claude.com, prompt
            # caching). genai-prices lacks it for some resellers, and the 5-minute rate would be 37.5 % too low.
            rate = EXACT.multiply(rates["input"], Decimal(2))
        if rate is None:
            rate = next((rates[other] for other in stand_ins if other in rates), None)
        full[name] = rate
    return full


# --- where rates come from -------------------------------------------------------------------------------------------


class FixedSource:
    """Rates that stand in a policy or in the injected list."""

    __slots__ = ("_tiers", "as_of", "label", "model", "provider")

    def __init__(self, label: str, model: str, tiers: Mapping[str | None, Rates], as_of: str) -> None:
        """Keep the rates by service tier, those of the standard one under None."""
        self.label = label
        self.model = model
        self.provider: str | None = None
        self.as_of = as_of
        self._tiers = tiers

    def rates(self, tier: str | None, speed: str | None, at: datetime | None) -> Rates:  # noqa: ARG002 - a fixed price
        """Give the rates of a service tier, or the standard ones."""
        return self._tiers.get(tier) or self._tiers[None]


def fixed_source(rates: ModelRates) -> FixedSource:
    """Compile what another price list knows."""

    def compiled(tier: Mapping[str, Decimal]) -> Rates:
        base = {**rates.rates, **tier}
        brackets: list[tuple[int, Mapping[str, Decimal]]] = [(0, base)]
        if not tier:
            brackets += [
                (start, {**base, **more}) for start, more in sorted(rates.long_context, key=lambda row: row[0])
            ]
        return Rates(
            [(start, {name: row[name] for name in TOKEN_CLASSES if name in row}) for start, row in brackets],
            {name: base[name] for name in FEE_CLASSES if name in base},
            is_claude="claude" in rates.model,
        )

    tiers: dict[str | None, Rates] = {None: compiled({})}
    tiers.update({tier: compiled(row) for tier, row in rates.service_tiers.items()})
    return FixedSource(f"{rates.source} ({rates.model})", rates.model, tiers, rates.as_of or rates.source)


_HALF_PRICE: Final[dict[str, frozenset[str]]] = {
    # Tiers that these providers publish at half of the standard rates; for models whose list lacks the tier.
    "batch": frozenset({OPENAI, AZURE, ANTHROPIC, AWS, GOOGLE, "mistral", "groq"}),
    "flex": frozenset({OPENAI}),
}
_SAME_PRICE: Final[dict[str, frozenset[str]]] = {
    # Tiers that are billed like the standard one (Anthropic's and Groq's documents on service tiers).
    ANTHROPIC: frozenset({"priority"}),
    "groq": frozenset({"flex", "performance"}),
}


class CatalogueSource:
    """A model of genai-prices. Its rates depend on the day, at some providers on the hour, and on the tier."""

    __slots__ = ("_compiled", "_hours", "_info", "_is_own", "_is_timed", "_supplement", "label", "model", "provider")

    def __init__(self, provider: Provider, info: ModelInfo, label: str, supplement: ModelRates | None) -> None:
        """Take a model as found; `supplement` lends the audio and image rates that genai-prices lacks."""
        self.label = label
        self.model = info.id
        self.provider: str | None = provider.id
        self._info = info
        self._supplement = supplement
        # genai-prices lends a provider the models of another, but not their tiers (`ModelInfo.calc_price`, 0.2.3).
        self._is_own = any(info is model for model in provider.models)
        limits = [price.constraint for price in info.prices] if isinstance(info.prices, list) else []
        limits += [variant.constraint for variant in info.price_variants or ()]
        self._hours = tuple(limit for limit in limits if isinstance(limit, TimeOfDateConstraint))
        self._is_timed = any(limit is not None for limit in limits)
        self._compiled: dict[tuple[str | None, str | None], tuple[object, Rates]] = {}

    def rates(self, tier: str | None, speed: str | None, at: datetime | None) -> Rates:
        """Give the rates at a moment (None: now) in a service tier."""
        period: object = None
        if self._hours:
            at = _in_utc(at)
            period = (at.toordinal(), *(limit.active(at) for limit in self._hours))
        elif self._is_timed:
            # The day, in UTC; for a call of now without making a datetime, which takes as long as all the rest here.
            period = _EPOCH + int(time.time() // _DAY_S) if at is None else _in_utc(at).toordinal()
        known = self._compiled.get((tier, speed))
        if known is not None and known[0] == period:
            return known[1]
        rates = self._compile(tier, speed, _in_utc(at))
        self._compiled[(tier, speed)] = (period, rates)
        return rates

    def _compile(self, tier: str | None, speed: str | None, at: datetime) -> Rates:
        context: dict[str, str] = {}
        if tier is not None and self._is_own:
            context["processing" if tier == "batch" else "service_tier"] = tier
        if speed is not None and self._is_own:
            context["speed"] = speed
        matched = {
            key
            for variant in self._info.price_variants or ()
            if (variant.constraint is None or variant.constraint.active(at))
            and all(context.get(key) == value for key, value in variant.when.items())
            for key in variant.when
        }
        notes: list[str] = []
        factor = ONE
        if tier is not None and not matched & {"processing", "service_tier"}:
            if self.provider in _HALF_PRICE.get(tier, ()):
                factor = Decimal("0.5")
                notes.append(f"no {tier} rates are listed for {self.model}: half of its standard rates")
            elif tier not in _SAME_PRICE.get(self.provider or "", ()):
                notes.append(f"no {tier} rates are known for {self.model}: its standard rates")
        if speed is not None and speed != "standard" and "speed" not in matched:
            notes.append(f"no {speed} rates are known for {self.model}: its standard rates")
        return self._multiplied_out(self._info.get_prices(at, context or None), factor, notes)

    def _multiplied_out(self, price: ModelPrice, factor: Decimal, notes: list[str]) -> Rates:
        listed = {key: value for key, value in price.__dict__.items() if value is not None}
        starts = {0}
        for value in listed.values():
            if isinstance(value, TieredPrices):
                starts.update(tier.start for tier in value.tiers)
        scale = EXACT.divide(factor, MILLION)
        lent: dict[str, Decimal] = {}
        if self._supplement is not None:
            own = {TOKEN_PRICE_KEYS.get(key) for key in listed}
            lent = {
                name: EXACT.multiply(rate, factor)
                for name, rate in self._supplement.rates.items()
                if name in MODAL_CLASSES and name not in own
            }
            if lent:
                notes.append(f"{', '.join(sorted(lent))}: rates of {self._supplement.source}")
        brackets: list[tuple[int, dict[str, Decimal]]] = []
        for start in sorted(starts):
            rates = {
                name: EXACT.multiply(_at_start(listed[key], start), scale)
                for key, name in TOKEN_PRICE_KEYS.items()
                if key in listed
            }
            if not listed and _is_free(self.model):
                rates = {"input": ZERO, "output": ZERO}
            brackets.append((start, {**rates, **lent} if rates else rates))
        fees = {
            name: EXACT.divide(_at_start(listed[key], 0), THOUSAND)
            for key, name in FEE_PRICE_KEYS.items()
            if key in listed
        }
        return Rates(brackets, fees, tuple(notes), is_claude="claude" in self.model)


Source = FixedSource | CatalogueSource
"""Something that knows the rates of one model."""


_DAY_S: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


def _in_utc(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _at_start(value: Decimal | TieredPrices, start: int) -> Decimal:
    if isinstance(value, TieredPrices):
        return next((tier.price for tier in reversed(value.tiers) if tier.start <= start), value.base)
    return value


def _is_free(model: str) -> bool:
    """Say whether an empty price means "free of charge": OpenRouter's `:free`, Gemma on Gemini's API. Else: unknown."""
    return model.endswith(":free") or model.startswith("gemma-")


_SEARCHES_WITHOUT_THOUGHT: Final = re.compile(r"gpt-4|chatgpt-4o|gpt-5(?:\.[0-9])?-chat")
_PREVIEW_USD: Final = Decimal("0.025")
_SEARCH_USD: Final = Decimal("0.010")


def search_fee(model: str, *, is_preview: bool) -> Decimal | None:
    """Give OpenAI's fee for a web search where genai-prices 0.2.3, which has one for all tools, has none or another.

    Args:
        model: The name that answered.
        is_preview: Whether the tool was `web_search_preview`. On models that do not reason, and in the chat models that
            are called `-search-preview`, it costs more, and what it found is no tokens.

    Returns:
        USD a search (developers.openai.com/api/docs/pricing, tools); None where the list is right.
    """
    if "-search-preview" in model or (is_preview and _SEARCHES_WITHOUT_THOUGHT.search(model)):
        return _PREVIEW_USD
    return _SEARCH_USD if "-search-api" in model else None


SEARCH_REQUESTS: Final[dict[str, str]] = {"low": "request_low", "medium": "request_medium", "high": "request_high"}
"""Perplexity's `search_context_size`, as a use of its own: so it is in `CallResult` and in the stored bill."""

_REQUEST_USD: Final[dict[str, tuple[str, str, str]]] = {
    # Perplexity's low, medium and high, as last published (docs.perplexity.ai, pricing); genai-prices 0.2.3 has the
    # dearest alone.
    "sonar": ("0.005", "0.008", "0.012"),
    "sonar-reasoning": ("0.005", "0.008", "0.012"),
    "sonar-pro": ("0.006", "0.010", "0.014"),
    "sonar-reasoning-pro": ("0.006", "0.010", "0.014"),
}


def request_fee(model: str, size: str) -> Decimal | None:
    """Give Perplexity's fee for a request.

    Args:
        model: The name that the list has.
        size: One of the values of `SEARCH_REQUESTS`.

    Returns:
        USD a request; None where the list is all that is known.
    """
    fees = _REQUEST_USD.get(model)
    return None if fees is None else Decimal(fees[tuple(SEARCH_REQUESTS.values()).index(size)])


# --- regions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Premium:
    """A factor on the token prices of calls that must stay in a region. To add one: a row in PREMIUMS and a test."""

    provider: str
    models: re.Pattern[str]
    applies: Callable[[CallRequest, CallResult], bool]
    factor: Decimal
    note: str


PREMIUMS: Final = (
    Premium(
        ANTHROPIC,
        re.compile("claude"),
        # Only models from Opus 4.6 on take the setting, the others refuse it (platform.claude.com, data residency).
        lambda request, result: (result.region or request.region) == "us",
        Decimal("1.1"),
        "US-only inference: 1.1 times the token rates",
    ),
    Premium(
        GOOGLE,
        re.compile(r"claude-(?:[a-z]+-)?(?:4-[5-9]|[5-9])"),
        # cloud.google.com/vertex-ai/generative-ai/pricing: the listed rates are the global endpoint's.
        lambda request, _: request.region is not None and request.region != "global",
        Decimal("1.1"),
        "regional endpoint of Vertex AI: 1.1 times the token rates",
    ),
    Premium(
        OPENAI,
        re.compile(r"gpt-(?:5\.[4-9]|[6-9])"),
        # developers.openai.com/api/docs/pricing, regional processing: models released since 2026-03-05.
        lambda request, _: request.host is not None and request.host.endswith(".api.openai.com"),
        Decimal("1.1"),
        "regional processing: 1.1 times the token rates",
    ),
)
