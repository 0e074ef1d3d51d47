"""Prices of the catalogue that is part of the MLflow package."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Any, cast

import mlflow
from mlflow.utils import providers as catalogue

from langchain_mlflow_cost.pricing.rates import ModelRates

_RATE_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}


def catalogue_rates(provider: str | None, model: str) -> ModelRates | None:
    """What the catalogue that is part of the MLflow package says of a model; never a request over the network.

    MLflow's public pricing functions fetch a newer catalogue first, for 6 to 8 s where there is no network.

    Args:
        provider: Looked at first; all others follow, as MLflow's store does when it prices a span.
        model: The name, with or without a `vendor/` before it.
    """
    bare = model.split("/", 1)[-1]
    names = catalogue._list_provider_names()  # noqa: SLF001
    for name in [p for p in (provider,) if p in names] + names:
        known = cast("dict[str, Any]", catalogue._load_bundled_provider(name).get(bare) or {})  # noqa: SLF001
        if known.get("input_cost_per_token"):
            rates = {kind: Decimal(repr(known[key])) for kind, key in _RATE_KEYS.items() if known.get(key) is not None}
            audio = (known.get("modality") or {}).get("audio") or {}
            for kind in ("input", "output"):
                per_mtok = audio.get(f"{kind}_per_million_tokens")
                if per_mtok is not None:
                    rates[f"{kind}_audio"] = Decimal(repr(per_mtok)).scaleb(-6)
            return ModelRates(
                source=f"mlflow {mlflow.__version__} catalogue",
                model=f"{name}/{bare}",
                rates=rates,
                as_of=known.get("last_updated_at"),
            )
    return None


@functools.lru_cache(maxsize=1024)
def store_would_price(model: str) -> bool:
    """Whether MLflow's store finds a price of its own, by the bare name, for a model span that has none."""
    bare = model.split("/", 1)[-1]
    return any(bare in catalogue._load_bundled_provider(name) for name in catalogue._list_provider_names())  # noqa: SLF001
