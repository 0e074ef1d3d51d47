"""What one model call costs: its price is found in the order of the contract, then multiplied out in `Decimal`.

A bill in the response, then the policy's `overrides`, its `aliases`, genai-prices (the model that answered, then the
one that was asked for), at last a list that the caller injects (MLflow's). What none of them knows has no price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import genai_prices
from genai_prices import data_snapshot

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.money import EXACT, MOST_USD, ZERO, as_written
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.pricing.providers import (
    LOCAL_PROVIDERS,
    OPENAI,
    OPENROUTER,
    OWN_MODELS,
    is_open_weights,
    is_private_host,
    may_be_own_weights,
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
    TOKEN_CLASSES,
    CatalogueSource,
    FixedSource,
    ModelRates,
    Rates,
    Source,
    classes_of,
    fixed_source,
)
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


class _Found(NamedTuple):
    """A price that was found for a pair of names, kept for all further calls of that model."""

    source: Source
    label: str
    off: Decimal
    """The fraction taken off."""


_CACHED: Final = Cost(ZERO, ZERO)
_CACHE_SOURCE: Final = "LangChain's LLM cache"
_BILL_SOURCE: Final = "bill in the response"
_UNKNOWN_MODEL: Final = "unknown"
_TIERS: Final = ("flex", "priority", "batch")
_MAX_FOUND: Final = 4096
_VERSION: Final = f"genai-prices {genai_prices.__version__}"

_Value = TypeVar("_Value")
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
        self._overrides = {_key(model): _override(model, prices) for model, prices in overrides.items()}
        self._aliases = _followed(aliases)
        self._discounts = {_key(name): _fraction(name, value) for name, value in discounts.items()}
        self._fallback = fallback
        # The snapshot of genai-prices and what was found with it: one object, so that threads see both or neither.
        self._found: tuple[data_snapshot.DataSnapshot | None, dict[_Key, _Found | None]] = (None, {})

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
        return priced

    def estimate_usd(self, request: CallRequest, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Price a call that has not ended by its plain tokens; None for a model without a price."""
        usage = Usage(input_tokens=max(0, input_tokens), output_tokens=max(0, output_tokens))
        priced = self.price(request, CallResult(usage=usage, estimated=True))
        return None if priced.cost is None else priced.cost.total_usd

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
            return {name: _plain(EXACT.multiply(EXACT.multiply(rate, MILLION), keep)) for name, rate in rates.items()}

        tiers = {tier: source.rates(tier, None, at) for tier in _TIERS}
        brackets = [(start, shown(rates)) for start, rates in standard.listed()]
        return PriceList(
            model=source.model,
            source=found.label,
            as_of=source.as_of if isinstance(source, FixedSource) else f"{at:%Y-%m-%d}",
            per_mtok=brackets[0][1],
            per_use={name: _plain(EXACT.multiply(fee, keep)) for name, fee in standard.fees.items()},
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
        if not usage.fees and "request" not in rates.fees and "-search-" not in source.model:
            return PricedCall(Cost(input_usd, output_usd), label, model, tuple(lines), notes)
        fees_usd, fee_lines, missing = _fees(usage, source.model, rates, keep)
        return PricedCall(
            Cost(EXACT.add(input_usd, fees_usd), output_usd, fees_usd),
            label,
            model,
            (*lines, *fee_lines),
            (*notes, *(f"{label} has no fee for {name}: left out" for name in missing)),
        )

    # -- finding a price

    def _find(self, request: CallRequest, result: CallResult) -> _Found | None:
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
            found[key] = price = _Search(self, snapshot, request, result).run()
            return price


class _Search:
    """One search for a price, in the order of the contract."""

    def __init__(
        self, book: PriceBook, snapshot: data_snapshot.DataSnapshot, request: CallRequest, result: CallResult
    ) -> None:
        self._overrides = book._overrides  # noqa: SLF001 - its own helper
        self._aliases = book._aliases  # noqa: SLF001
        self._discounts = book._discounts  # noqa: SLF001
        self._fallback = book._fallback  # noqa: SLF001
        self._snapshot = snapshot
        self._host = request.host
        self._is_private = request.host is not None and is_private_host(request.host)
        self._provider = request.provider or result.provider
        self._names = tuple(dict.fromkeys(name for name in (result.response_model, request.model) if name))

    def run(self) -> _Found | None:
        for look in (self._overridden, self._aliased, self._listed, self._fallen_back):
            for name in self._names:
                source = look(name)
                if source is not None:
                    off = self._discount(source)
                    label = f"{source.label}, {_plain(off * 100)} % off" if off else source.label
                    return _Found(source, label, off)
        return None

    def _overridden(self, name: str) -> Source | None:
        return _first(self._overrides, _keys(self._provider, name))

    def _aliased(self, name: str) -> Source | None:
        target = _first(self._aliases, _keys(self._provider, name))
        if target is None:
            return None
        override = _first(self._overrides, _keys(self._provider, target))
        if override is not None:
            return override
        maker, slash, rest = target.partition("/")
        as_written = [(provider_id(maker), model_id(rest))] if slash else []
        for provider, model in (*as_written, (self._provider, model_id(target)), (None, model_id(target))):
            source = self._known_as(provider, model, "") or self._in_fallback(provider, model)
            if source is not None:
                return source
        guess = self._by_name(model_id(target))
        return self._known_as(*guess) if guess else None

    def _listed(self, name: str) -> Source | None:
        provider = self._provider
        if provider in LOCAL_PROVIDERS or self._is_hosted_here(name):
            return None
        owner = self._behind(name) or provider
        if owner is not None:
            for model in _spellings(owner, name):
                source = self._known_as(owner, model, "")
                if source is not None:
                    return source
        if owner is None or owner == OPENAI or not self._is_listed(owner):
            # A gateway, or a class of the user's own, in front of a maker whose models' names are its own.
            guess = self._by_name(name)
            return self._known_as(*guess) if guess else None
        return None

    def _fallen_back(self, name: str) -> Source | None:
        provider = self._provider
        if provider in LOCAL_PROVIDERS or self._is_hosted_here(name):
            return None
        if self._is_private and provider in (None, OPENAI) and self._by_name(name) is None:
            # A server of the user's own with a model of nobody's: a list that goes by names alone must not be asked.
            return None
        return self._in_fallback(self._behind(name) or provider, name)

    def _known_as(self, provider: str | None, model: str, how: str) -> CatalogueSource | None:
        if provider in LOCAL_PROVIDERS:
            return None
        try:
            owner, info = self._snapshot.find_provider_model(model, None, provider, None)
        except LookupError:
            return None
        version = f"{_VERSION} of {self._snapshot.timestamp:%Y-%m-%d}" if self._snapshot.from_auto_update else _VERSION
        label = f"{version} ({owner.id}/{info.id}{how})"
        supplement = None
        if self._fallback is not None and _HAS_AUDIO.search(info.id):
            supplement = self._fallback(owner.id, model)
        source = CatalogueSource(owner, info, label, supplement)
        # An empty price, or one by the hour or the page, says nothing about tokens.
        return source if source.rates(None, None, None).own else None

    def _in_fallback(self, provider: str | None, model: str) -> Source | None:
        rates = self._fallback(provider, model) if self._fallback is not None else None
        return None if rates is None else fixed_source(rates)

    def _is_hosted_here(self, name: str) -> bool:
        """Say whether a model that anybody may host answers from the user's own machines: nobody's price fits."""
        return self._is_private and may_be_own_weights(name.rpartition("/")[2])

    def _behind(self, name: str) -> str | None:
        """Find who answers behind ChatOpenAI with another base URL."""
        if self._provider != OPENAI:
            return None
        if self._host is None:
            # api.openai.com knows no vendor/model: such a name comes from OpenRouter.
            return OPENROUTER if "/" in name else None
        try:
            return self._snapshot.find_provider(None, None, f"https://{self._host}/").id
        except LookupError:
            return None

    def _by_name(self, name: str) -> tuple[str, str, str] | None:
        vendor, slash, rest = name.partition("/")
        bare = rest if slash else vendor
        if not bare or "/" in bare or is_open_weights(bare):
            return None
        try:
            maker = self._snapshot.find_provider(bare.lower().removeprefix("ft:"), None, None).id
        except LookupError:
            return None
        if maker not in OWN_MODELS or (slash and provider_id(vendor) != maker):
            return None
        return maker, bare, ", by the model's name"

    def _is_listed(self, provider: str) -> bool:
        return data_snapshot.find_provider_by_id(self._snapshot.providers, provider) is not None

    def _discount(self, source: Source) -> Decimal:
        names = (*self._names, source.model)
        for provider in dict.fromkeys((self._provider, source.provider)):
            for name in names:
                off = _first(self._discounts, _keys(provider, name))
                if off is not None:
                    return off
        off = _first(self._discounts, [name for name in (self._provider, source.provider) if name])
        return self._discounts.get("*", ZERO) if off is None else off


def _spellings(provider: str, name: str) -> Iterable[str]:
    yield name
    if provider == "fireworks" and "/" not in name:
        yield f"accounts/fireworks/models/{name}"
    for suffix in _ROUTING_SUFFIXES:
        if name.endswith(suffix):
            yield name.removesuffix(suffix)


_ROUTING_SUFFIXES: Final = (":nitro", ":floor", ":online", ":exacto")
"""OpenRouter's wishes for a route, which are part of the model's name and not of its price."""
_HAS_AUDIO: Final = re.compile(r"audio|realtime|live")
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


def _fees(usage: Usage, model: str, rates: Rates, factor: Decimal) -> tuple[Decimal, list[PriceLine], list[str]]:
    """Multiply out what is billed per use; give the sum, its lines, and the uses that have no price."""
    uses = dict(usage.fees)
    if "grounding_query" in uses:
        # Gemini up to 2.5 bills a grounded prompt once, 3 and later each query (ai.google.dev, pricing).
        queries = uses.pop("grounding_query")
        uses["web_search"] = 1 if _BILLED_PER_PROMPT.search(model) else queries
    if "request" in rates.fees:
        uses["request"] = 1
        if "web_search" not in rates.fees:  # Perplexity's fee for a request is its fee for the search.
            uses.pop("web_search", None)
    elif _IS_SEARCH_MODEL.search(model):
        uses.setdefault("web_search", 1)
    lines: list[PriceLine] = []
    total = ZERO
    for name, count in uses.items():
        fee = rates.fees.get(name)
        if fee is not None and count:
            fee = fee if factor is ONE else EXACT.multiply(fee, factor)
            usd = EXACT.multiply(fee, count)
            total = EXACT.add(total, usd)
            lines.append(PriceLine(name, count, fee, usd))
    return total, lines, [name for name, count in uses.items() if count and name not in rates.fees]


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


def _key(name: str) -> str:
    """Give the form in which settings' names are compared: lower case, a provider by its id."""
    lowered = str(name).strip().lower()
    vendor, slash, rest = lowered.partition("/")
    return f"{provider_id(vendor)}/{rest}" if slash else provider_id(lowered) or lowered


def _keys(provider: str | None, name: str) -> Iterable[str]:
    """Give the settings' names that mean a model, the most specific first."""
    lowered = name.lower()
    keys = [f"{provider}/{lowered}"] if provider else []
    return (*keys, _key(lowered), lowered)


def _first(settings: Mapping[str, _Value], keys: Iterable[str]) -> _Value | None:
    return next((settings[key] for key in keys if key in settings), None)


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
        targets[_key(name)] = target.strip()
    ends: dict[str, str] = {}
    for name, first in targets.items():
        target, seen = first, {name}
        while _key(target) in targets and _key(target) not in seen:
            seen.add(_key(target))
            target = targets[_key(target)]
        if _key(target) in seen and _key(target) in targets and len(seen) > 1:
            raise PolicyError(f'alias "{name}": the aliases lead in a circle', key=f"aliases.{name}")
        ends[name] = target
    return ends


def _plain(amount: Decimal) -> Decimal:
    """Take trailing zeros off, without turning 30 into 3E+1."""
    short = amount.normalize(EXACT)
    exponent = short.as_tuple().exponent
    return short.quantize(ONE) if isinstance(exponent, int) and exponent > 0 else short


def warm_up() -> None:
    """Load genai-prices' list now, which takes a third of a second and more, and not in the first callback."""
    data_snapshot.get_snapshot().find_provider_model("gpt-4o", None, OPENAI, None)
