"""Prices of the catalogue that is part of the MLflow package."""

from __future__ import annotations

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
_FILES = {
    # A provider's id, as `pricing.providers` has it, to the catalogue's files (LiteLLM's names) that hold its prices.
    "alibaba": ("dashscope",),
    "aws": ("bedrock", "bedrock_mantle", "amazon_nova"),
    "azure": ("azure", "azure_ai", "azure_text"),
    "cohere": ("cohere_chat", "cohere"),
    "fireworks": ("fireworks_ai",),
    "google": ("gemini", "vertex_ai"),
    "ibm": ("watsonx",),
    "mistral": ("mistral", "codestral"),
    "moonshotai": ("moonshot",),
    "openai": ("openai", "text-completion-openai"),
    "together": ("together_ai",),
    "voyageai": ("voyage",),
    "x-ai": ("xai",),
    "zhipuai": ("zai",),
}


def catalogue_rates(provider: str | None, model: str) -> ModelRates | None:
    """What the catalogue that is part of the MLflow package says of a model; never a request over the network.

    MLflow's public pricing functions fetch a newer catalogue first, for 6 to 8 s where there is no network, and look
    for the bare name with all providers: Together's DeepSeek-V3.1 got SambaNova's price, 4.5 times its own.

    Args:
        provider: Whose price it must be, by our id or the catalogue's own. None: of what one provider alone has.
        model: The name; the whole one is tried before what is behind its first `vendor/`.
    """
    files = _FILES.get(provider, (provider,)) if provider is not None else catalogue._list_provider_names()  # noqa: SLF001
    for name in dict.fromkeys((model, model.split("/", 1)[-1])):
        found = [(file, known) for file in files if (known := _priced(file, name))]
        if found and (provider is not None or len(found) == 1):
            return _rates(*found[0], name)
    return None


def most_answer_tokens(provider: str | None, model: str) -> int | None:
    """What one answer of a model can have at most, as far as the catalogue knows it."""
    files = _FILES.get(provider, (provider,)) if provider is not None else catalogue._list_provider_names()  # noqa: SLF001
    for name in dict.fromkeys((model, model.split("/", 1)[-1])):
        known = [found.get("max_output_tokens") for file in files if (found := _priced(file, name))]
        told = [most for most in known if isinstance(most, int) and most > 0]
        if told:
            return max(told)
    return None


def _priced(file: str, name: str) -> dict[str, Any] | None:
    if file not in catalogue._list_provider_names():  # noqa: SLF001
        return None
    known = cast("dict[str, Any]", catalogue._load_bundled_provider(file).get(name) or {})  # noqa: SLF001
    return known if known.get("input_cost_per_token") else None


def _rate(per_token: float) -> Decimal:
    # It was divided by a million in floating point: 4.0000000000000003e-07.
    return Decimal(f"{per_token:.12g}")


def _rates(file: str, known: dict[str, Any], name: str) -> ModelRates:
    rates = {kind: _rate(known[key]) for kind, key in _RATE_KEYS.items() if known.get(key) is not None}
    audio = (known.get("modality") or {}).get("audio") or {}
    for kind in ("input", "output"):
        per_mtok = audio.get(f"{kind}_per_million_tokens")
        if per_mtok is not None:
            rates[f"{kind}_audio"] = Decimal(repr(per_mtok)).scaleb(-6)
    return ModelRates(
        source=f"mlflow {mlflow.__version__} catalogue",
        model=f"{file}/{name}",
        rates=rates,
        as_of=known.get("last_updated_at"),
    )
