"""What a call would cost, from its tokens alone: the functions of an old estimator, thin ones over the price book."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.money import ZERO
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.pricing.reported import request_of_names
from langchain_mlflow_cost.pricing.usage import CallResult, Usage

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from langchain_mlflow_cost.pricing.book import PriceBook
    from langchain_mlflow_cost.pricing.rates import ModelRates


def estimate_cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    provider: str | None = None,
    *,
    policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> float | None:
    """Price one call by its plain tokens, in USD.

    Args:
        model: As the provider or LangChain calls it: `gpt-4o-mini`, `claude-sonnet-4-5`.
        input_tokens: Of the prompt; none of them from a provider's cache.
        output_tokens: Of the answer.
        provider: `openai`, `anthropic`, ...; None where the model's name says it.
        policy: Whose `prices` hold before the public lists; None as for `MlflowCostHandler`.

    Returns:
        USD; None for a model without a known price. Never 0 in its place: the old estimator charged unknown models at
        another one's price, or at nothing.

    Raises:
        ValueError: Tokens that are no whole numbers, or below 0.
        PolicyError: The policy cannot be used.
    """
    for name, count in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{name}: expected a whole number, 0 or more, found {count!r}")
    result = CallResult(usage=Usage(input_tokens, output_tokens))
    cost = _book(policy).price(request_of_names(provider, model), result).cost
    return None if cost is None else float(cost.total_usd)


def price_per_mtok(
    model: str,
    provider: str | None = None,
    *,
    policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> dict[str, float] | None:
    """List what a model costs, in USD per million tokens by class (`input`, `output`, `cache_read`, ...).

    Args:
        model: As for `estimate_cost`.
        provider: Likewise.
        policy: Likewise.

    Returns:
        None for a model without a known price. Long prompts, service tiers and fees per use have prices of their own:
        `mlflow-cost prices MODEL` shows them.
    """
    listed = _book(policy).describe(provider, model)
    return None if listed is None else {name: float(rate) for name, rate in listed.per_mtok.items()}


def get_model_pricing(
    model: str,
    provider: str | None = None,
    *,
    policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None = None,
) -> tuple[float, float] | None:
    """Return what 1,000 tokens of a model cost in USD, of the prompt and of the answer: the old estimator's unit.

    Args:
        model: As for `estimate_cost`.
        provider: Likewise.
        policy: Likewise.

    Returns:
        None for a model without a known price, where the old one raised.
    """
    listed = _book(policy).describe(provider, model)
    if listed is None:
        return None
    rates = (listed.per_mtok.get("input", ZERO), listed.per_mtok.get("output", ZERO))
    return float(rates[0] / 1000), float(rates[1] / 1000)


def _book(policy: Any) -> PriceBook:
    return Policy.load(policy).price_book(_catalogue)


def _catalogue(provider: str | None, model: str) -> ModelRates | None:
    """MLflow's own list, the last place to look in; nothing where MLflow is missing."""
    look_up = _look_up()
    return None if look_up is None else look_up(provider, model)


@cache
def _look_up() -> Any:
    try:
        from langchain_mlflow_cost.adapters.catalogue import catalogue_rates  # noqa: PLC0415 - it may be missing
    except Exception:  # noqa: BLE001 - whatever is wrong with MLflow, other lists have prices
        return None
    return catalogue_rates
