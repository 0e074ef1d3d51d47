"""`estimate_cost`: USD of a call from its tokens alone, by the same prices as everything else."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_mlflow_cost import PolicyError, estimate_cost, get_model_pricing, price_per_mtok


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        # openai.com/api/pricing: 0.15 and 0.60 USD per million; docs.anthropic.com: 3 and 15.
        ("gpt-4o-mini", None, 0.00045),
        ("gpt-4o-mini", "openai", 0.00045),
        ("openai/gpt-4o-mini", None, 0.00045),
        ("anthropic/claude-sonnet-4-5", None, 0.0105),
        ("claude-sonnet-4-5", None, 0.0105),
        ("acme-unpriced-7", None, None),
    ],
)
def test_a_call(model: str, provider: str | None, expected: float | None) -> None:
    """1,000 tokens in and 500 out; a model that nobody knows has no price, and never 0."""
    assert estimate_cost(model, 1000, 500, provider) == (
        None if expected is None else pytest.approx(expected, rel=1e-12)
    )


def test_by_position_and_by_name() -> None:
    """The old estimator's calls work as they were written."""
    assert estimate_cost("gpt-4o-mini", 1000, 500) == estimate_cost(
        model="gpt-4o-mini", input_tokens=1000, output_tokens=500, provider=None
    )


def test_a_policy_s_prices_hold() -> None:
    """Overrides and discounts count, as in a trace."""
    policy = {"prices": {"overrides": {"ours": {"input": 1, "output": 2}}, "discounts": {"*": 0.5}}}

    assert estimate_cost("ours", 1_000_000, 1_000_000, policy=policy) == pytest.approx(1.5)
    with pytest.raises(PolicyError):
        estimate_cost("ours", 1, 1, policy={"prces": {}})


@pytest.mark.parametrize("tokens", [-1, 1.5, "10", None, True])
def test_tokens_are_whole_numbers(tokens: Any) -> None:
    """Anything else is an error that names the argument."""
    with pytest.raises(ValueError, match="output_tokens: expected a whole number, 0 or more"):
        estimate_cost("gpt-4o-mini", 1, tokens)


def test_prices_by_class() -> None:
    """In USD per million tokens, cached ones among them."""
    found = price_per_mtok("gpt-4o-mini")

    assert found is not None
    assert (found["input"], found["output"], found["cache_read"]) == (0.15, 0.6, 0.075)
    assert price_per_mtok("acme-unpriced-7") is None
    assert get_model_pricing("gpt-4o-mini") == (0.00015, 0.0006)
    assert get_model_pricing("acme-unpriced-7") is None
