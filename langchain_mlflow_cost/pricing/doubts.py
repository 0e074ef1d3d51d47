"""Prices that are allowed but will probably never be used: names that no price list knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from genai_prices import data_snapshot

from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.providers import LOCAL_PROVIDERS, PROVIDER_IDS, model_id, provider_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal

    from langchain_mlflow_cost.pricing.rates import ModelRates

_PROBE: Final = "\0probe"
"""A model that cannot be: as an alias's name it leads to the target and to nothing else."""


def is_known_provider(name: str) -> bool:
    """Tell whether a provider is in genai-prices, or is one that runs on the user's own machines."""
    known = provider_id(name) or ""
    return known in LOCAL_PROVIDERS or known in _provider_ids() or known in PROVIDER_IDS.values()


def nearest_provider(name: str) -> str | None:
    """Return the known provider that was probably meant."""
    return nearest(name, sorted(_provider_ids()))


def nearest_model(name: str, provider: str | None = None) -> str | None:
    """Return the known model that was probably meant, of that provider if it is known and has one so named."""
    own = data_snapshot.find_provider_by_id(data_snapshot.get_snapshot().providers, provider_id(provider) or "")
    near = None if own is None else nearest(model_id(name) or "", sorted(model.id for model in own.models))
    return near or nearest(model_id(name) or "", _models())


class PriceDoubt(NamedTuple):
    """A price that will probably never be used, unless a list that was not asked yet knows the name."""

    location: tuple[str, ...]
    """The key in `prices`."""

    name: str
    """The `model` or `provider/model` that neither genai-prices nor the policy knows."""

    text: str
    """What is doubtful, and what to do."""

    def is_dispelled(self, fallback: Callable[[str | None, str], ModelRates | None]) -> bool:
        """Ask another list, as `PriceBook` takes one, whether it knows the name."""
        maker, slash, rest = self.name.strip().partition("/")
        # It looks for a bare name with all providers: another maker's model is not the one that was written.
        rates = fallback(provider_id(maker) if slash else None, rest if slash else maker)
        return rates is not None and (not slash or rates.model.partition("/")[0] == provider_id(maker))


def price_doubts(
    aliases: Mapping[str, str], overrides: Mapping[str, Mapping[str, Decimal]], discounts: Mapping[str, Decimal]
) -> list[PriceDoubt]:
    """Say which aliases lead to no price and which discounts are for nobody, as far as genai-prices knows."""
    doubts: list[PriceDoubt] = []
    for name, target in aliases.items():
        if not (_has_price(target, aliases, overrides) or _is_known_model(target)):
            text = (
                f"prices.aliases.{name}: no price is known for {target}, so calls of {name} will have none; "
                f"correct it, or give {target} one with prices.overrides"
            )
            doubts.append(PriceDoubt(("aliases", name), target, text))
    own = {each.strip().lower() for each in (*aliases, *aliases.values(), *overrides)}
    for name in discounts:
        lowered = name.strip().lower()
        bare = lowered.partition("/")[2] or lowered
        if name == "*" or not own.isdisjoint({lowered, bare}) or is_known_provider(name) or _is_known_model(name):
            continue
        near = nearest(name, [*sorted(_provider_ids()), *sorted(own)]) or nearest(bare, _models())
        remedy = f'did you mean "{near}"?' if near else "write a provider such as openai, a model or *"
        text = f'prices.discounts: "{name}" is no known provider or model, so it takes nothing off; {remedy}'
        doubts.append(PriceDoubt(("discounts", name), name, text))
    return doubts


def _provider_ids() -> Iterable[str]:
    return {provider.id for provider in data_snapshot.get_snapshot().providers}


def _models() -> list[str]:
    return sorted({model.id for provider in data_snapshot.get_snapshot().providers for model in provider.models})


def _has_price(target: str, aliases: Mapping[str, str], overrides: Mapping[str, Mapping[str, Decimal]]) -> bool:
    book = PriceBook(aliases={**aliases, _PROBE: target}, overrides=overrides)
    return book.describe(None, _PROBE) is not None


def _is_known_model(name: str) -> bool:
    """Tell whether any provider in genai-prices, or the named one, has the model."""
    maker, slash, rest = name.strip().partition("/")
    snapshot = data_snapshot.get_snapshot()
    if slash and (owner := data_snapshot.find_provider_by_id(snapshot.providers, provider_id(maker) or "")):
        return owner.find_model(model_id(rest).lower(), all_providers=snapshot.providers) is not None
    bare = model_id(name).lower()
    return any(provider.find_model(bare) is not None for provider in snapshot.providers)
