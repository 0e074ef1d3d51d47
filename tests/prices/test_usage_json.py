"""A stored call priced again: whatever its classes, tiers and bills, it costs what it cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json, usage_json

AT = datetime(2026, 11, 20, 12, 30, 5, 600_000, tzinfo=UTC)
BOOK = PriceBook()


def same(book: PriceBook, request: CallRequest, result: CallResult) -> None:
    priced = book.price(request, result, at=AT)
    text = usage_json(request, result, priced, at=AT)
    asked, answered, at = call_of_usage_json(text)
    again = book.price(asked, answered, at=at)

    assert priced.cost == again.cost
    assert priced.source == again.source
    assert priced.model == again.model
    assert (result.input_tokens, result.output_tokens) == (answered.input_tokens, answered.output_tokens)
    assert result.estimated == answered.estimated
    assert text == usage_json(asked, answered, again, at=at)


COUNTS = st.integers(0, 400_000)


@st.composite
def usages(draw: Any) -> Usage:
    parts = {
        name: draw(st.one_of(st.just(0), COUNTS))
        for name in (
            "cache_read", "cache_write", "cache_write_1h", "input_audio", "input_image", "input_video",
            "reasoning", "output_audio", "output_image", "citation",
        )
    }  # fmt: skip
    both = draw(st.integers(0, min(parts["cache_read"], parts["input_audio"])))
    names = list(parts)
    return Usage(
        input_tokens=sum(parts[name] for name in names[:6]) - both + draw(COUNTS),
        output_tokens=sum(parts[name] for name in names[6:]) + draw(COUNTS),
        cache_read_audio=both,
        fees=tuple(draw(st.sampled_from([(), (("web_search", 3),), (("file_search", 1), ("grounding_query", 2))]))),
        **parts,
    )


MODELS = st.sampled_from(
    [
        ("openai", "gpt-4o"), ("openai", "gpt-5"), ("openai", "gpt-5.4"), ("openai", "gpt-audio"),
        ("openai", "gpt-4o-mini-search-preview"), ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-opus-4-6"),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"), ("google", "gemini-2.5-flash-image"),
        ("google", "gemini-3-pro-preview"), ("google", "claude-sonnet-4-5@20250929"), ("deepseek", "deepseek-chat"),
        ("openrouter", "anthropic/claude-sonnet-4.5"), ("perplexity", "sonar-pro"), ("litellm", "hosted_vllm/x"),
        ("litellm", "groq/llama-3.3-70b-versatile"), (None, "nobody"), (None, None),
    ]
)  # fmt: skip
SOME = st.one_of(st.none(), st.sampled_from(["flex", "priority", "batch"]))
REGIONS = st.sampled_from([None, "us", "global", "europe-west1"])


@settings(max_examples=400, deadline=None)
@given(
    asked=MODELS, answered=st.one_of(st.none(), MODELS), usage=st.one_of(st.none(), usages()), tiers=st.tuples(SOME, SOME),
    region=REGIONS, host=st.sampled_from([None, "eu.api.openai.com", "api.groq.com", "10.0.0.3"]),
    speed=st.sampled_from([None, "fast"]), side=st.lists(st.tuples(st.sampled_from([None, "claude-opus-4-6"]), usages()), max_size=2),
    bill=st.one_of(st.none(), st.decimals(0, 10, places=9)), is_preview=st.booleans(), estimated=st.booleans(),
)  # fmt: skip
def test_any_call_costs_the_same_again(
    asked: Any, answered: Any, usage: Any, tiers: Any, region: Any, host: Any, speed: Any, side: Any, bill: Any,
    is_preview: bool, estimated: bool,
) -> None:  # fmt: skip
    """What is written is enough to price a call again, exactly, and reading and writing it is stable."""
    request = CallRequest(
        asked[0], asked[1], service_tier=tiers[0], host=host, region=region, speed=speed, is_search_preview=is_preview
    )
    result = CallResult(
        usage=usage,
        response_model=answered and answered[1],
        provider=answered and answered[0],
        service_tier=tiers[1],
        side_calls=tuple(side),
        billed_usd=bill,
        estimated=estimated,
    )

    same(BOOK, request, result)


def test_cached_and_unknown_answers_stay_so() -> None:
    """An answer from LangChain's cache costs 0 again; one without usage has no cost again, and one of 0 tokens 0."""
    request = CallRequest("openai", "gpt-4o")
    for result in (CallResult(usage=Usage(10, 10), cached=True), CallResult(), CallResult(usage=Usage())):
        same(BOOK, request, result)


def test_what_is_written_is_small() -> None:
    """A call with a cached prompt takes fewer than 160 bytes; defaults and zeros are left out."""
    request = CallRequest("openai", "gpt-4o", max_output_tokens=4096, n=1)
    result = CallResult(usage=Usage(2006, 300, cache_read=1920, reasoning=64), response_model="gpt-4o-2024-08-06")
    text = usage_json(request, result, BOOK.price(request, result), at=AT)

    assert {
        "provider": "openai", "model": "gpt-4o", "answered": "gpt-4o-2024-08-06", "at": "2026-11-20T12:30:05Z",
        "input": 86, "cache_read": 1920, "output": 236, "reasoning": 64,
    } == json.loads(text)  # fmt: skip
    assert len(text) < 160


def test_overrides_price_it_again() -> None:
    """A policy's own prices hold for a stored call as for a live one."""
    book = PriceBook(overrides={"house": {"input": "1.5", "output": 3, "request": "0.01"}}, discounts={"*": "0.1"})

    same(book, CallRequest("corp", "house"), CallResult(usage=Usage(100, 50)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"at":"yesterday"}',
        '{"at":"2026-11-20T12:30:05Z","input":"many"}',
        '{"at":"2026-11-20T12:30:05Z","bill":"much"}',
    ],
)
def test_other_text_is_refused(text: str) -> None:
    """What is no usage of ours is an error and not a call that costs nothing."""
    with pytest.raises(ValueError, match=r"."):
        call_of_usage_json(text)
