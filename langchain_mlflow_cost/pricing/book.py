"""What one model call costs: its price is found in the order of the contract, then multiplied out in `Decimal`.

A bill in the response, then the policy's `overrides`, its `aliases`, genai-prices (the model that answered, then the
one that was asked for), at last a list that the caller injects (MLflow's). What none of them knows has no price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Final, NamedTuple

from genai_prices import data_snapshot

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import EXACT, MOST_USD, ZERO, as_written, plain
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.pricing.providers import (
    OPENAI,
    PERPLEXITY,
    model_id,
    provider_id,
)
from langchain_mlflow_cost.pricing.rates import (
    FEE_CLASSES,
    MILLION,
    MODAL_CLASSES,
    ONE,
    OUTPUT_CLASSES,
    PREMIUMS,
    SEARCH_REQUESTS,
    TOKEN_CLASSES,
    FixedSource,
    ModelRates,
    Rates,
    Source,
    classes_of,
    request_fee,
    search_fee,
)
from langchain_mlflow_cost.pricing.search import Found, Search, Settings, setting_key
from langchain_mlflow_cost.pricing.usage import STANDARD_TIER, CallRequest, CallResult, Usage

__all__ = [
    "FEE_CLASSES",
    "TOKEN_CLASSES",
    "Cost",
    "ModelRates",
    "PriceBook",
    "PriceLine",
    "PriceList",
    "PricedCall",
    "warm_up",
]


@dataclass(frozen=True, slots=True)
class Cost:
    """USD of one model call, exact and unrounded. The parts add up to the total."""

    input_usd: Decimal
    """Input tokens, and all fees per use: they are paid for what the model gets to read."""
    output_usd: Decimal
    fees_usd: Decimal = ZERO
    """The part of `input_usd` that is fees per use or per request."""

    @property
    def total_usd(self) -> Decimal:
        """Everything, fees included."""
        return EXACT.add(self.input_usd, self.output_usd)


class PriceLine(NamedTuple):
    """One line of a call's arithmetic: `quantity` times `usd_each` is `usd`."""

    name: str
    """A class of `TOKEN_CLASSES` or `FEE_CLASSES`."""
    quantity: int
    usd_each: Decimal
    """USD per token or per use, with discounts and factors in it."""
    usd: Decimal


@dataclass(frozen=True, slots=True)
class PricedCall:
    """A model call with its cost, or without one where no price is known."""

    cost: Cost | None
    source: str | None
    """Where the price came from, with its version; None for an unpriced call."""
    model: str
    """The model's name to show: the one that answered, else the one that was asked for."""
    lines: tuple[PriceLine, ...] = ()
    """The arithmetic: the lines' USD add up to the total. None where the bill was in the response."""
    notes: tuple[str, ...] = ()
    """What a reader of the price has to know, such as a rate that was missing and what stood in for it."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """The price of a model by class, for people to read; discounts are taken off."""

    model: str
    source: str
    as_of: str
    """The day that the prices are for, or whose they are."""
    per_mtok: Mapping[str, Decimal]
    """USD per million tokens, by class that has a rate of its own."""
    per_use: Mapping[str, Decimal]
    """USD a use, by fee."""
    long_context: tuple[tuple[int, Mapping[str, Decimal]], ...] = ()
    """USD per million tokens for all tokens of a call with more than so many input tokens."""
    service_tiers: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    """USD per million tokens by tier, for the tiers whose price is known."""
    notes: tuple[str, ...] = ()


_CACHED: Final = Cost(ZERO, ZERO)
_CACHE_SOURCE: Final = "LangChain's LLM cache"
_BILL_SOURCE: Final = "bill in the response"
_UNKNOWN_MODEL: Final = "unknown"
_TIERS: Final = ("flex", "priority", "batch")
_MAX_FOUND: Final = 4096
_Key = tuple[str | None, str | None, str | None, str | None, str | None]


class PriceBook:
    """The prices of model calls under one policy. Its settings never change; it may be shared between threads."""

    def __init__(
        self,
        *,
        aliases: Mapping[str, str] = MappingProxyType({}),
        overrides: Mapping[str, Mapping[str, Decimal | float | str]] = MappingProxyType({}),
        discounts: Mapping[str, Decimal | float | str] = MappingProxyType({}),
        fallback: Callable[[str | None, str], ModelRates | None] | None = None,
    ) -> None:
        """Check the settings of a policy's `prices`.

        Args:
            aliases: A model's name to the `model` or `provider/model` whose price it takes.
            overrides: A model, or `provider/model`, to its whole price: USD per million tokens by class, `request` and
                the other fees in USD a use. A class that is left out takes the rate of the class that it is part of
                (`cache_read` that of `input`, `reasoning` that of `output`).
            discounts: A provider, model, `provider/model` or `*` to the fraction taken off. The most specific one
                counts, alone; not for a bill in the response, which has it in it.
            fallback: Asked last, with genai-prices' id of the provider and the model; gives None for what it does not
                know. It is asked once for a model, and must not raise.

        Raises:
            PolicyError: A setting that cannot be used; its `key` is `overrides.NAME`, `aliases.NAME` or
                `discounts.NAME`.
        """
        self._settings = Settings(
            {setting_key(model): _override(model, prices) for model, prices in overrides.items()},
            _followed(aliases),
            {setting_key(name): _fraction(name, value) for name, value in discounts.items()},
            fallback,
        )
        # The snapshot of genai-prices and what was found with it: one object, so that threads see both or neither.
        self._found: tuple[data_snapshot.DataSnapshot | None, dict[_Key, Found | None]] = (None, {})

    def price(self, request: CallRequest, result: CallResult, *, at: datetime | None = None) -> PricedCall:
        """Price one call; never raises.

        Args:
            request: What was asked for.
            result: What came back. An answer from LangChain's cache costs 0; without usage there is no cost.
            at: When the call was made, now if None: prices change.
        """
        model = result.response_model or request.model or _UNKNOWN_MODEL
        if result.cached:
            return PricedCall(_CACHED, _CACHE_SOURCE, model)
        try:
            if result.billed_usd is not None:
                return self._billed(request, result, result.billed_usd, model, at)
            if result.usage is None:
                return PricedCall(None, None, model, notes=("no usage was reported",))
            priced = self._computed(request, result, result.usage, model, at)
            for side_model, usage in result.side_calls:
                priced = _sum(priced, self._side_call(request, result, side_model, usage, at))
        except Exception as error:  # noqa: BLE001 - a price must never stop the application; an unpriced call is counted
            return PricedCall(None, None, model, notes=(f"the price could not be worked out: {type(error).__name__}",))
        return replace(priced, notes=(*priced.notes, *result.notes)) if result.notes else priced

    def estimate_usd(self, request: CallRequest, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Price a call that has not ended by its plain tokens; None for a model without a price."""
        usage = Usage(input_tokens=max(0, input_tokens), output_tokens=max(0, output_tokens))
        priced = self.price(request, CallResult(usage=usage, estimated=True))
        return None if priced.cost is None else priced.cost.total_usd

    def most_usd(
        self, request: CallRequest, input_tokens: int, output_tokens: int, audio_format: str | None = None
    ) -> Decimal | None:
        """Price the dearest call of so many tokens: all written to a cache where one is asked for, all said aloud.

        Args:
            request: The call.
            input_tokens: At most.
            output_tokens: At most.
            audio_format: What sound is asked for in; None for none.
        """
        plain_usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        usages = [plain_usage]
        if request.cache_ttl is not None:
            usages += [
                replace(plain_usage, cache_write=input_tokens),
                replace(plain_usage, cache_write_1h=input_tokens),
            ]
        if audio_format is not None:
            usages.append(replace(plain_usage, output_audio=output_tokens))
        priced = [self.price(request, CallResult(usage=usage, estimated=True)).cost for usage in usages]
        known = [cost.total_usd for cost in priced if cost is not None]
        return max(known) if len(known) == len(usages) else None

    def describe(self, provider: str | None, model: str, *, at: datetime | None = None) -> PriceList | None:
        """List what a model costs by class; None where no source knows it."""
        found = self._find(CallRequest(provider=provider_id(provider), model=model_id(model)), CallResult())
        if found is None:
            return None
        at = at or datetime.now(UTC)
        source = found.source
        standard = source.rates(None, None, at)
        keep = ONE - found.off

        def shown(rates: Mapping[str, Decimal]) -> dict[str, Decimal]:
            return {name: plain(EXACT.multiply(EXACT.multiply(rate, MILLION), keep)) for name, rate in rates.items()}

        tiers = {tier: source.rates(tier, None, at) for tier in _TIERS}
        brackets = [(start, shown(rates)) for start, rates in standard.listed()]
        return PriceList(
            model=source.model,
            source=found.label,
            as_of=source.as_of if isinstance(source, FixedSource) else f"{at:%Y-%m-%d}",
            per_mtok=brackets[0][1],
            per_use={name: plain(EXACT.multiply(fee, keep)) for name, fee in standard.fees.items()},
            long_context=tuple(brackets[1:]),
            service_tiers={
                tier: shown(rates.listed()[0][1])
                for tier, rates in tiers.items()
                if rates.listed()[0] != standard.listed()[0]
            },
            notes=standard.notes,
        )

    # -- one call

    def _billed(
        self, request: CallRequest, result: CallResult, billed: Decimal, model: str, at: datetime | None
    ) -> PricedCall:
        listed = None
        if result.usage is not None:
            listed = self._computed(request, result, result.usage, model, at).cost
        return PricedCall(_split(billed, listed, result.usage), _BILL_SOURCE, model)

    def _side_call(
        self, request: CallRequest, result: CallResult, model: str | None, usage: Usage, at: datetime | None
    ) -> PricedCall:
        """Price an inference inside a call, at its own model where it has one."""
        if model is None:
            shown = result.response_model or request.model or _UNKNOWN_MODEL
            return self._computed(request, replace(result, side_calls=()), replace(usage, fees=()), shown, at)
        return self._computed(
            replace(request, model=model), replace(result, response_model=model, side_calls=()), usage, model, at
        )

    def _computed(
        self, request: CallRequest, result: CallResult, usage: Usage, model: str, at: datetime | None
    ) -> PricedCall:
        found = self._find(request, result)
        if found is None:
            return PricedCall(None, None, model)
        source, label, off = found
        tier = result.service_tier or request.service_tier
        rates = source.rates(None if tier == STANDARD_TIER else tier, result.speed or request.speed, at)
        keep = ONE - off if off else ONE
        factor, notes = _premium(source, request, result)
        if off:
            factor = EXACT.multiply(factor, keep)
        notes = (*rates.notes, *notes)
        lines: list[PriceLine] = []
        at_length = rates.at_length(usage.input_tokens)
        input_usd = output_usd = ZERO
        for name, count in classes_of(usage):
            rate = at_length[name]
            if rate is None:
                return PricedCall(None, None, model, notes=(*notes, f"{label} has no rate for {name}"))
            if factor is not ONE:
                rate = EXACT.multiply(rate, factor)
            usd = EXACT.multiply(rate, count)
            lines.append(PriceLine(name, count, rate, usd))
            if name in OUTPUT_CLASSES:
                output_usd = EXACT.add(output_usd, usd)
            else:
                input_usd = EXACT.add(input_usd, usd)
            if name in MODAL_CLASSES and name not in rates.own:
                notes = (*notes, f"{label} has no rate for {name}: the plain one")
        if not usage.fees and "request" not in rates.fees and "-search-" not in model:
            return PricedCall(Cost(input_usd, output_usd), label, model, tuple(lines), notes)
        fees_usd, fee_lines, fee_notes = _fees(
            usage, source, model, rates, keep, label, is_preview=request.is_search_preview
        )
        return PricedCall(
            Cost(EXACT.add(input_usd, fees_usd), output_usd, fees_usd),
            label,
            model,
            (*lines, *fee_lines),
            (*notes, *fee_notes),
        )

    # -- finding a price

    def _find(self, request: CallRequest, result: CallResult) -> Found | None:
        snapshot = data_snapshot.get_snapshot()
        of_snapshot, found = self._found
        if of_snapshot is not snapshot or len(found) > _MAX_FOUND:
            # The application may run genai-prices' UpdatePrices: a new snapshot, new prices.
            found = {}
            self._found = (snapshot, found)
        key = (request.provider, result.provider, request.host, result.response_model, request.model)
        try:
            return found[key]
        except KeyError:
            found[key] = price = Search(self._settings, snapshot, request, result).run()
            return price


_IS_SEARCH_MODEL: Final = re.compile(r"-search-(?:preview|api)")
_BILLED_PER_PROMPT: Final = re.compile(r"gemini-[12]")


def _premium(source: Source, request: CallRequest, result: CallResult) -> tuple[Decimal, tuple[str, ...]]:
    """Find the factor on the tokens' prices for the place where the call was computed, and what to say of it."""
    if request.host is not None or request.region is not None or result.region is not None:
        for premium in PREMIUMS:
            if (
                premium.provider == source.provider
                and premium.applies(request, result)
                and premium.models.search(source.model)
            ):
                return premium.factor, (premium.note,)
    return ONE, ()


def _fees(
    usage: Usage, source: Source, model: str, rates: Rates, factor: Decimal, label: str, *, is_preview: bool
) -> tuple[Decimal, list[PriceLine], tuple[str, ...]]:
    """Multiply out what is billed per use; give the sum, its lines, and what to say of it."""
    uses = dict(usage.fees)
    fees = rates.fees
    if "grounding_query" in uses:
        # Gemini up to 2.5 bills a grounded prompt once, 3 and later each query (ai.google.dev, pricing).
        queries = uses.pop("grounding_query")
        uses["web_search"] = 1 if _BILLED_PER_PROMPT.search(source.model) else queries
    size = next((name for name in SEARCH_REQUESTS.values() if uses.pop(name, None)), None)
    untold: tuple[str, ...] = ()
    if "request" in fees:
        uses["request"] = 1
        if source.provider == PERPLEXITY and size is None:
            untold = ("the size of the search's context is not told: the fee for a large one",)
        elif source.provider == PERPLEXITY and size is not None and (fee := request_fee(source.model, size)):
            fees = {**fees, "request": fee}
        if "web_search" not in fees:  # Perplexity's fee for a request is its fee for the search.
            uses.pop("web_search", None)
    elif _IS_SEARCH_MODEL.search(model):
        uses.setdefault("web_search", 1)
    if source.provider == OPENAI and "web_search" in uses and (fee := search_fee(model, is_preview=is_preview)):
        fees = {**fees, "web_search": fee}
    lines: list[PriceLine] = []
    total = ZERO
    for name, count in uses.items():
        fee = fees.get(name)
        if fee is not None and count:
            fee = fee if factor is ONE else EXACT.multiply(fee, factor)
            usd = EXACT.multiply(fee, count)
            total = EXACT.add(total, usd)
            lines.append(PriceLine(name, count, fee, usd))
    missing = (f"{label} has no fee for {name}: left out" for name, count in uses.items() if count and name not in fees)
    return total, lines, (*untold, *missing)


def _split(billed: Decimal, listed: Cost | None, usage: Usage | None) -> Cost:
    """Divide a bill in the proportion of the list price, or else of the tokens; the parts add up to the bill."""
    if listed is not None and listed.total_usd:
        part, whole = listed.input_usd, listed.total_usd
    elif usage is not None and usage.total_tokens:
        part, whole = Decimal(usage.input_tokens), Decimal(usage.total_tokens)
    else:
        return Cost(billed, ZERO)
    input_usd = EXACT.multiply(billed, Context(prec=12).divide(part, whole))
    return Cost(input_usd, EXACT.subtract(billed, input_usd))


def _sum(priced: PricedCall, side: PricedCall) -> PricedCall:
    notes = (*priced.notes, *side.notes)
    if priced.cost is None or side.cost is None:
        return PricedCall(None, None, priced.model, notes=notes)
    cost = Cost(
        EXACT.add(priced.cost.input_usd, side.cost.input_usd),
        EXACT.add(priced.cost.output_usd, side.cost.output_usd),
        EXACT.add(priced.cost.fees_usd, side.cost.fees_usd),
    )
    return PricedCall(cost, priced.source, priced.model, (*priced.lines, *side.lines), notes)


# --- settings --------------------------------------------------------------------------------------------------------


def _amount(what: str, key: str, value: object) -> Decimal:
    amount = as_written(value)
    if amount is None or amount < 0:
        # Python refuses to write out a number of thousands of digits.
        found = "a larger one" if isinstance(value, int) and value > MOST_USD else repr(value)
        raise PolicyError(f"{what}: expected a number that is not negative, found {found}", key=key)
    return amount


def _fraction(name: str, value: object) -> Decimal:
    what, key = f'discount for "{name}"', f"discounts.{name}"
    off = _amount(what, key, value)
    if off > 1:
        raise PolicyError(f"{what}: expected the fraction taken off, from 0 to 1, found {value!r}", key=key)
    return off


def _override(model: str, prices: Mapping[str, object]) -> FixedSource:
    what, key = f'price of "{model}"', f"overrides.{model}"
    if not isinstance(prices, Mapping):
        raise PolicyError(
            f"{what}: expected USD per million tokens by class, such as {{input: 2.5, output: 10}}", key=key
        )
    rates: dict[str, Decimal] = {}
    fees: dict[str, Decimal] = {}
    for name, value in prices.items():
        if name in TOKEN_CLASSES:
            rates[name] = EXACT.divide(_amount(f'{what} for "{name}"', key, value), MILLION)
        elif name in FEE_CLASSES:
            fees[name] = _amount(f'{what} for "{name}"', key, value)
        else:
            near = nearest(str(name), (*TOKEN_CLASSES, *FEE_CLASSES), cutoff=0.6)
            hint = f'did you mean "{near}"?' if near else f"known are {', '.join((*TOKEN_CLASSES, *FEE_CLASSES))}"
            raise PolicyError(f'{what}: unknown class "{name}"; {hint}', key=key)
    if not {"input", "output"} & rates.keys() and "request" not in fees:
        raise PolicyError(f"{what}: expected at least one of input, output and request", key=key)
    # An override is the whole price: what it does not name is not billed.
    rates = {"input": ZERO, "output": ZERO, **rates}
    return FixedSource("overrides", model, {None: Rates([(0, rates)], fees)}, "the policy")


def _followed(aliases: Mapping[str, str]) -> dict[str, str]:
    """Check the aliases and lead each to the end of its chain."""
    targets: dict[str, str] = {}
    for name, target in aliases.items():
        if not isinstance(target, str) or not target.strip():
            raise PolicyError(f'alias "{name}": expected a model or provider/model', key=f"aliases.{name}")
        targets[setting_key(name)] = target.strip()
    ends: dict[str, str] = {}
    for name, first in targets.items():
        target, seen = first, {name}
        while setting_key(target) in targets and setting_key(target) not in seen:
            seen.add(setting_key(target))
            target = targets[setting_key(target)]
        if setting_key(target) in seen and setting_key(target) in targets and len(seen) > 1:
            raise PolicyError(f'alias "{name}": the aliases lead in a circle', key=f"aliases.{name}")
        ends[name] = target
    return ends


def warm_up() -> None:
    """Load genai-prices' list now, which takes a third of a second and more, and not in the first callback."""
    data_snapshot.get_snapshot().find_provider_model("gpt-4o", None, OPENAI, None)
