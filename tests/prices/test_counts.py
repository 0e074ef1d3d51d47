"""A usage that cannot be true is never made, and what another library's span counts is read right."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.errors import UsageError
from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.rates import classes_of
from langchain_mlflow_cost.pricing.reported import request_of_names, result_of_counts
from langchain_mlflow_cost.pricing.usage import CallRequest, Usage

SONNET = CallRequest("anthropic", "claude-sonnet-4-5-20250929")
"""3 USD a million tokens in, 15 out, 0.30 read from the cache, 3.75 written for five minutes, 6 for an hour."""
BOOK = PriceBook()

IMPOSSIBLE = [
    pytest.param({"input_tokens": 500, "cache_read": 900}, "cached tokens (900) exceed input tokens (500)", id="cached"),
    pytest.param({"input_tokens": 9, "cache_write": 6, "cache_write_1h": 4}, "cached tokens (10) exceed input tokens (9)", id="writes"),
    pytest.param({"input_tokens": 9, "input_audio": 10}, "audio tokens (10) exceed input tokens (9)", id="audio"),
    pytest.param({"input_tokens": 9, "input_image": 5, "input_video": 5}, "image and video tokens (10) exceed input tokens (9)", id="media"),
    pytest.param({"input_tokens": 9, "cache_read": 5, "input_audio": 5}, "cached and audio tokens (10) exceed input tokens (9)", id="together"),
    pytest.param({"input_tokens": 9, "input_audio": 5, "cache_read_audio": 1}, "cached audio tokens (1) exceed cached tokens (0)", id="cached-audio"),
    pytest.param({"input_tokens": 9, "cache_read": 5, "cache_read_audio": 1}, "cached audio tokens (1) exceed audio tokens (0)", id="no-audio"),
    pytest.param({"output_tokens": 5, "reasoning": 6}, "reasoning tokens (6) exceed output tokens (5)", id="reasoning"),
    pytest.param({"output_tokens": 5, "output_image": 3, "citation": 3}, "image and citation tokens (6) exceed output tokens (5)", id="said"),
    pytest.param({"input_tokens": -1}, "input_tokens is negative (-1)", id="negative"),
    pytest.param({"input_tokens": 9, "cache_write": -1}, "cache_write is negative (-1)", id="negative-part"),
    pytest.param({"input_tokens": 1.5}, "input_tokens is no whole number but float", id="fraction"),
    pytest.param({"input_tokens": float("nan")}, "input_tokens is no whole number but float", id="nan"),
    pytest.param({"output_tokens": "5"}, "output_tokens is no whole number but str", id="text"),
    pytest.param({"input_tokens": None}, "input_tokens is no whole number but NoneType", id="none"),
    pytest.param({"fees": (("web_search", -1),)}, "web_search is negative (-1)", id="fee"),
    pytest.param({"fees": (("web_search", 0.5),)}, "web_search is no whole number but float", id="half-a-fee"),
]  # fmt: skip


@pytest.mark.parametrize(("counts", "told"), IMPOSSIBLE)
def test_impossible_usage_is_refused(counts: dict[str, Any], told: str) -> None:
    """A usage that cannot be true is an error with both numbers, where it is made and where one is changed into it."""
    with pytest.raises(UsageError) as made:
        Usage(**counts)
    with pytest.raises(UsageError):
        replace(Usage(), **counts)

    assert told == str(made.value)


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in fields(Usage) if field.name != "fees"]), st.integers(-2, 9)
    )
)
def test_every_usage_is_possible(counts: dict[str, int]) -> None:
    """What is made has no class below 0, and its classes add up to its tokens; everything else is refused."""
    try:
        usage = Usage(**counts)
    except UsageError:
        return
    parts = classes_of(usage)

    assert usage.total_tokens == sum(count for _, count in parts)
    assert all(count > 0 for _, count in parts)


def test_usage_travels() -> None:
    """A usage goes to another process and comes back the same."""
    usage = Usage(100, 50, cache_read=40, reasoning=20, fees=(("web_search", 1),))

    assert usage == pickle.loads(pickle.dumps(usage))


def counts(prompt: int, output: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    """`mlflow.chat.tokenUsage` as MLflow writes it."""
    told = {"input_tokens": prompt, "output_tokens": output, **more}
    return told if total is None else {**told, "total_tokens": total}


SPANS = [
    pytest.param(counts(1000, 500, 1500), Usage(1000, 500), id="plain"),
    pytest.param(counts(1000, 500, 1500, cache_read_input_tokens=900), Usage(1000, 500, cache_read=900), id="inside"),
    pytest.param(counts(1000, 500, 2400, cache_read_input_tokens=900), Usage(1900, 500, cache_read=900), id="beside-by-total"),
    pytest.param(counts(50, 20, 70, cache_read_input_tokens=900), Usage(950, 20, cache_read=900), id="beside-past-total"),
    pytest.param(counts(50, 20, cache_read_input_tokens=900), Usage(950, 20, cache_read=900), id="beside-without-total"),
    pytest.param(
        counts(50, 20, 1270, cache_read_input_tokens=900, cache_creation_input_tokens=300),
        Usage(1250, 20, cache_read=900, cache_write=300),
        id="beside-with-writes",
    ),
    pytest.param(
        counts(1250, 20, 1270, cache_creation_input_tokens=300, cache_creation_input_tokens_above_1hr=200),
        Usage(1250, 20, cache_write=100, cache_write_1h=200),
        id="hour-is-part-of-the-writes",
    ),
    pytest.param(
        counts(1250, 20, 1270, cache_creation_input_tokens_above_1hr=200), Usage(1250, 20, cache_write_1h=200), id="hour-alone"
    ),
    pytest.param(
        counts(50, 20, cache_creation_input_tokens=300, cache_creation_input_tokens_above_1hr=200),
        Usage(350, 20, cache_write=100, cache_write_1h=200),
        id="hour-beside",
    ),
    pytest.param({"input_tokens": 8, "total_tokens": 8}, Usage(8, 0), id="embeddings"),
    pytest.param({"output_tokens": 8, "total_tokens": 10}, Usage(2, 8), id="input-from-total"),
    pytest.param(
        {
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 100,
            "llm.token_count.total": 1100,
            "llm.token_count.prompt_details.cache_read": 600,
            "llm.token_count.prompt_details.audio": 10,
            "llm.token_count.completion_details.reasoning": 80,
        },
        Usage(1000, 100, cache_read=600, input_audio=10, reasoning=80),
        id="openinference",
    ),
    pytest.param(
        {
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 900,
            "gen_ai.usage.cache_creation.input_tokens": 300,
        },
        Usage(1250, 20, cache_read=900, cache_write=300),
        id="opentelemetry",
    ),
    pytest.param(
        {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70, "cache_read_input_tokens": 900},
        Usage(950, 20, cache_read=900),
        id="gateway-that-speaks-openai",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("told", "expected"), SPANS)
def test_counts_of_a_span(told: dict[str, Any], expected: Usage) -> None:
    """Cached tokens that a span counts in the input, or beside it, lead to the same usage."""
    result = result_of_counts(told, SONNET)

    assert expected == result.usage
    assert not result.estimated


def test_thoughts_of_gemini_are_in_the_total() -> None:
    """MLflow writes Gemini's answer without its thoughts, which are billed as output; only the total has them."""
    told = counts(100, 50, 400, cache_read_input_tokens=250 // 5)
    result = result_of_counts(told, request_of_names("gemini", "gemini-2.5-flash"))

    assert Usage(100, 300, cache_read=50, reasoning=250) == result.usage


PRICED = [
    # 50 * 3e-6 + 100000 * 0.3e-6 + 20 * 15e-6 = 0.00015 + 0.03 + 0.0003; subtracted from the input it was -0.26955.
    pytest.param(counts(50, 20, 70, cache_read_input_tokens=100_000), "0.03045", id="read-beside-input"),
    pytest.param(counts(50, 20, 100_070, cache_read_input_tokens=100_000), "0.03045", id="read-beside-input-in-total"),
    pytest.param(counts(100_050, 20, 100_070, cache_read_input_tokens=100_000), "0.03045", id="read-inside-input"),
    # 100000 * 6e-6; at the rate of five minutes it was 0.375.
    pytest.param(
        counts(100_000, 0, 100_000, cache_creation_input_tokens=100_000, cache_creation_input_tokens_above_1hr=100_000),
        "0.6",
        id="written-for-an-hour",
    ),
    # 40000 * 3.75e-6 + 60000 * 6e-6 = 0.15 + 0.36
    pytest.param(
        counts(100_000, 0, 100_000, cache_creation_input_tokens=100_000, cache_creation_input_tokens_above_1hr=60_000),
        "0.51",
        id="written-for-both",
    ),
]


@pytest.mark.parametrize(("told", "usd"), PRICED)
def test_price_of_a_span(told: dict[str, Any], usd: str) -> None:
    """A span of another library costs what its classes cost, never less than nothing."""
    cost = BOOK.price(SONNET, result_of_counts(told, SONNET)).cost

    assert cost is not None
    assert Decimal(usd) == cost.total_usd


UNREAD = [
    pytest.param({}, "input tokens were not reported", id="empty"),
    pytest.param(counts(0, 0, 0), "usage was reported as nothing at all", id="all-zero"),
    pytest.param({"output_tokens": 5}, "input tokens were not reported", id="no-input"),
    pytest.param({"input_tokens": "my card is 4111"}, "input_tokens is no number but str", id="text"),
    pytest.param({"input_tokens": True, "output_tokens": 1}, "input_tokens is no number but bool", id="flag"),
    pytest.param([1], "the counts could not be read: AttributeError", id="no-mapping"),
]


@pytest.mark.parametrize(("told", "problem"), UNREAD)
def test_unread_counts_are_unknown(told: Any, problem: str) -> None:
    """Counts that cannot be read are no usage, never 0, and told without the text that stood in their place."""
    result = result_of_counts(told, SONNET)

    assert result.usage is None
    assert problem in result.problems
    assert "4111" not in repr(result)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        pytest.param("gemini", "models/gemini-2.5-flash", CallRequest("google", "gemini-2.5-flash"), id="gemini"),
        pytest.param("Anthropic", "claude-haiku-4-5", CallRequest("anthropic", "claude-haiku-4-5"), id="capitals"),
        pytest.param(None, "", CallRequest(), id="nothing"),
        pytest.param(3, ["gpt-4o"], CallRequest(), id="no-text"),
    ],
)
def test_request_of_a_span(provider: Any, model: Any, expected: CallRequest) -> None:
    """The names on another library's span lead to the same provider and model as LangChain's."""
    assert expected == request_of_names(provider, model)


def test_unknown_output_is_an_estimate() -> None:
    """Where only the output is unknown the input is priced, and the call is marked."""
    result = result_of_counts({"input_tokens": 10}, SONNET)

    assert (Usage(10, 0), True) == (result.usage, result.estimated)


COUNTS = st.one_of(st.none(), st.integers(-10, 10_000), st.floats(), st.text(max_size=5), st.booleans())
KEYS = (
    "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation_input_tokens_above_1hr", "reasoning_tokens", "thoughts_token_count", "llm.token_count.prompt_details.audio",
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KEYS), COUNTS),
    st.sampled_from(["openai", "anthropic", "google", "perplexity", None]),
)
def test_any_counts_can_be_read(told: dict[str, Any], provider: str | None) -> None:
    """Whatever a span counts: nothing raises, no cost is below 0."""
    request = CallRequest(provider, "gpt-4o")
    result = result_of_counts(told, request)
    priced = BOOK.price(request, result)

    assert not any("could not be" in text for text in (*result.problems, *priced.notes))
    assert priced.cost is None or priced.cost.total_usd >= 0
