"""The search for a model's price, in the order of the contract, and the names under which a policy may mean a model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import genai_prices
from genai_prices import data_snapshot

from langchain_mlflow_cost.money import ZERO, plain
from langchain_mlflow_cost.pricing.providers import (
    ANTHROPIC,
    AWS,
    LOCAL_PROVIDERS,
    OPENAI,
    OPENROUTER,
    OWN_MODELS,
    arn_tail,
    is_litellm,
    is_open_weights,
    is_private_host,
    may_be_own_weights,
    model_id,
    provider_id,
    provider_of_host,
    routed,
)
from langchain_mlflow_cost.pricing.rates import (
    CatalogueSource,
    FixedSource,
    ModelRates,
    Source,
    fixed_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal

    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult

_VERSION: Final = f"genai-prices {genai_prices.__version__}"

_Value = TypeVar("_Value")


class Settings(NamedTuple):
    """A policy's `prices`, their names in the form of `setting_key`, and the list that is asked last."""

    overrides: Mapping[str, FixedSource]
    aliases: Mapping[str, str]
    discounts: Mapping[str, Decimal]
    fallback: Callable[[str | None, str], ModelRates | None] | None


class Found(NamedTuple):
    """A price that was found for a pair of names, kept for all further calls of that model."""

    source: Source
    label: str
    off: Decimal
    """The fraction taken off."""


class Search:
    """One search for a price, in the order of the contract."""

    def __init__(
        self, settings: Settings, snapshot: data_snapshot.DataSnapshot, request: CallRequest, result: CallResult
    ) -> None:
        self._overrides, self._aliases, self._discounts, self._fallback = settings
        self._snapshot = snapshot
        self._host = request.host
        self._is_private = request.host is not None and is_private_host(request.host)
        provider = request.provider or result.provider
        names = dict.fromkeys(name for name in (result.response_model, request.model) if name)
        is_router = provider in (None, OPENAI) or is_litellm(provider)
        routes = [routed(provider, name) for name in names] if is_router else []
        route = next((each for each in routes if each is not None), None)
        if route is not None:
            # One that a name tells answers under the others too: the response leaves the prefix out.
            # A proxy on one's own machine then is not what computes them.
            provider, self._is_private = route[0], False
            names = dict.fromkeys(each[1] if each else name for each, name in zip(routes, names, strict=True))
        self._provider = provider
        self._names = tuple(names)

    def run(self) -> Found | None:
        """Look with each source in turn, there for the model that answered and then for the one that was asked for."""
        for look in (self._overridden, self._aliased, self._listed, self._fallen_back):
            for name in self._names:
                source = look(name)
                if source is not None:
                    off = self._discount(source)
                    label = f"{source.label}, {plain(off * 100)} % off" if off else source.label
                    return Found(source, label, off)
        return None

    def _overridden(self, name: str) -> Source | None:
        return first_of(self._overrides, keys_of(self._provider, name, self._behind(name)))

    def _aliased(self, name: str) -> Source | None:
        target = first_of(self._aliases, keys_of(self._provider, name, self._behind(name)))
        if target is None:
            return None
        override = first_of(self._overrides, keys_of(self._provider, target))
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
        if provider is None:
            # Whoever sells a model of this name is a stranger.
            return None
        if self._is_private and provider == OPENAI and self._by_name(name) is None:
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
        """Say whether a model that anybody may host answers from the user's own machines: nobody's price fits.

        Not behind Bedrock's own protocol, which no server of weights speaks: that is a gateway or a VPC endpoint.
        """
        return self._is_private and self._provider != AWS and may_be_own_weights(name.rpartition("/")[2])

    def _behind(self, name: str) -> str | None:
        """Find who answers behind ChatOpenAI, or ChatAnthropic, with another base URL."""
        if self._provider not in (OPENAI, ANTHROPIC):
            return None
        if self._host is None:
            # api.openai.com knows no vendor/model: such a name comes from OpenRouter.
            return OPENROUTER if "/" in name and self._provider == OPENAI else None
        try:
            return self._snapshot.find_provider(None, None, f"https://{self._host}/").id
        except LookupError:
            return provider_of_host(self._host)

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
                off = first_of(self._discounts, keys_of(provider, name))
                if off is not None:
                    return off
        off = first_of(self._discounts, [name for name in (self._provider, source.provider) if name])
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


# --- names in settings ---------------------------------------------------------------------------------------------


def setting_key(name: str) -> str:
    """Give the form in which settings' names are compared: lower case, providers by id, models without an ARN."""
    lowered = str(name).strip().lower()
    if lowered.startswith("arn:"):
        return model_id(lowered)
    vendor, slash, rest = lowered.partition("/")
    return f"{provider_id(vendor)}/{model_id(rest)}" if slash else provider_id(lowered) or lowered


def keys_of(provider: str | None, name: str, behind: str | None = None) -> Iterable[str]:
    """Give the settings' names that mean a model, the most specific first.

    Args:
        provider: Whose client it is.
        name: The model's.
        behind: Who answers that client, where that is another.
    """
    lowered = name.lower()
    keys: list[str] = []
    for each in (lowered, arn_tail(lowered)):
        if each is not None:
            keys += [f"{owner}/{each}" for owner in (provider, behind) if owner]
            keys += [setting_key(each), each]
    return keys


def first_of(settings: Mapping[str, _Value], keys: Iterable[str]) -> _Value | None:
    """Give the first setting that has one of the keys."""
    return next((settings[key] for key in keys if key in settings), None)
