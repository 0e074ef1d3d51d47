"""What is read out of LangChain's requests and responses, provider by provider, and what is made of odd numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation

from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.rates import classes_of
from langchain_mlflow_cost.pricing.reading import (
    call_request,
    call_result,
    estimate_prompt_tokens,
    estimated_result,
)
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage


def answer(
    usage: Any = None,
    about: dict[str, Any] | None = None,
    *,
    content: Any = "Hello.",
    info: dict[str, Any] | None = None,
) -> list[list[Any]]:
    """Give one answer the way LangChain does; a plain object, since AIMessage refuses impossible usage."""
    message = SimpleNamespace(
        content=content, usage_metadata=usage, response_metadata=about or {}, additional_kwargs={}
    )
    return [[SimpleNamespace(message=message, generation_info=info)]]


def totals(prompt: int, output: int, **details: dict[str, Any]) -> dict[str, Any]:
    return {"input_tokens": prompt, "output_tokens": output, "total_tokens": prompt + output, **details}


SHAPES = [
    pytest.param("openai", totals(10, 5), {}, Usage(10, 5), id="plain"),
    pytest.param(
        "openai",
        totals(100, 50, input_token_details={"flex": 60, "flex_cache_read": 40}, output_token_details={"flex": 30, "flex_reasoning": 20}),
        {},
        Usage(100, 50, cache_read=40, reasoning=20),
        id="openai-flex-names",
    ),
    pytest.param(
        "openai",
        totals(100, 50, input_token_details={"priority": 60, "priority_cache_read": 40, "audio": 10}),
        {},
        Usage(100, 50, cache_read=40, input_audio=10),
        id="openai-priority-names",
    ),
    pytest.param(
        "anthropic",
        totals(3100, 50, input_token_details={"cache_read": 100, "cache_creation": 0, "ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 900}),
        {},
        Usage(3100, 50, cache_read=100, cache_write=2000, cache_write_1h=900),
        id="anthropic-split-writes",
    ),
    pytest.param(
        "anthropic",
        totals(3000, 50, input_token_details={"cache_creation": 2900, "ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 900}),
        {},
        Usage(3000, 50, cache_write=2000, cache_write_1h=900),
        id="anthropic-sum-beside-split",
    ),
    pytest.param(
        "aws",
        totals(3000, 50, input_token_details={"cache_read": 0, "cache_creation": 0, "ephemeral_1h_input_tokens": 900}),
        {"model_name": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"},
        Usage(3000, 50, cache_write_1h=900),
        id="bedrock-converse",
    ),
    pytest.param(
        "google",
        {"input_tokens": 100, "output_tokens": 300, "total_tokens": 400, "input_token_details": {"cache_read": 0}, "output_token_details": {"reasoning": 250}},
        {},
        Usage(100, 300, reasoning=250),
        id="gemini",
    ),
    pytest.param(
        "google",
        {"input_tokens": 100, "output_tokens": 50, "total_tokens": 400, "output_token_details": {"reasoning": 250}},
        {},
        Usage(100, 300, reasoning=250),
        id="vertex-thoughts-beside-output",
    ),
    pytest.param(
        "google",
        totals(1000, 50, input_token_details={"cache_read": 0}),
        {"usage_metadata": {"prompt_token_count": 1000, "prompt_tokens_details": [{"modality": "TEXT", "token_count": 200}, {"modality": "AUDIO", "token_count": 800}]}},
        Usage(1000, 50, input_audio=800),
        id="vertex-modalities",
    ),
    pytest.param(
        "mistral",
        totals(1000, 50),
        {"token_usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050, "num_cached_tokens": 600}},
        Usage(1000, 50, cache_read=600),
        id="mistral-dropped-cache",
    ),
    pytest.param(
        "deepseek",
        totals(1000, 50),
        {"token_usage": {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360}},
        Usage(1000, 50, cache_read=640),
        id="deepseek-hits",
    ),
    pytest.param(
        "perplexity",
        totals(33, 7163, output_token_details={"reasoning": 73997, "citation_tokens": 20016}),
        {"num_search_queries": 18},
        Usage(33, 101176, reasoning=73997, citation=20016, fees=(("web_search", 18),)),
        id="perplexity-deep-research",
    ),
    pytest.param(
        "openai",
        {"input_tokens": 100, "output_tokens": 20, "total_tokens": 400, "output_token_details": {"reasoning": 280}},
        {},
        Usage(100, 300, reasoning=280),
        id="xai-through-chat-openai",
    ),
    pytest.param("groq", totals(100, 20, input_token_details={"cache_read": 64}), {}, Usage(100, 20, cache_read=64), id="groq"),
    pytest.param("cohere", totals(7, 9), {}, Usage(7, 9), id="cohere"),
    pytest.param("ollama", totals(7, 9), {"model": "llama3.2"}, Usage(7, 9), id="ollama"),
    pytest.param(
        "openai", None, {"token_usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8, 0), id="embeddings"
    ),
    pytest.param(
        "anthropic",
        None,
        {"usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50}},
        Usage(160, 5, cache_read=100, cache_write=50),
        id="raw-anthropic",
    ),
    pytest.param(
        "aws",
        None,
        {"usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 165, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 50}},
        Usage(160, 5, cache_read=100, cache_write=50),
        id="raw-bedrock",
    ),
    pytest.param(
        "aws",
        None,
        {"usage": {"prompt_tokens": 10, "completion_tokens": 5, "cache_read_input_tokens": 100, "cache_write_input_tokens": 50, "total_tokens": 165}},
        Usage(160, 5, cache_read=100, cache_write=50),
        id="raw-bedrock-invoke",
    ),
    pytest.param(
        "openai",
        None,
        {"token_usage": {"prompt_tokens": 150, "completion_tokens": 5, "cache_read_input_tokens": 100}},
        Usage(150, 5, cache_read=100),
        id="raw-litellm",
    ),
    pytest.param(
        "google",
        None,
        {"usage_metadata": {"prompt_token_count": 10, "candidates_token_count": 5, "thoughts_token_count": 20, "total_token_count": 35}},
        Usage(10, 25, reasoning=20),
        id="raw-gemini",
    ),
    # ChatOpenAI writes 0 for a total that the provider left out.
    pytest.param(
        "openai",
        {"input_tokens": 1000, "output_tokens": 0, "total_tokens": 1100},
        {"token_usage": {"prompt_tokens": 1000, "completion_tokens": None, "total_tokens": 1100}},
        Usage(1000, 100),
        id="output-made-up",
    ),
    pytest.param(
        "openai",
        {"input_tokens": 0, "output_tokens": 100, "total_tokens": 1100},
        {"token_usage": {"completion_tokens": 100, "total_tokens": 1100}},
        Usage(1000, 100),
        id="input-made-up",
    ),
    pytest.param("openai", {"input_tokens": 1000, "output_tokens": 0, "total_tokens": 1100}, {}, Usage(1000, 100), id="output-made-up-in-a-stream"),
    pytest.param("openai", {"input_tokens": 0, "output_tokens": 100, "total_tokens": 1100}, {}, Usage(1000, 100), id="input-made-up-in-a-stream"),
    pytest.param("openai", totals(1000, 0), {"token_usage": {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}}, Usage(1000, 0), id="no-output"),
    pytest.param("perplexity", totals(7, 9), {"search_context_size": "medium"}, Usage(7, 9, fees=(("request_medium", 1),)), id="perplexity-size"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "usage", "about", "expected"), SHAPES)
def test_shapes(provider: str, usage: Any, about: dict[str, Any], expected: Usage) -> None:
    """Each integration's way of reporting leads to the same classes, each part inside its whole."""
    result = call_result(CallRequest(provider=provider), answer(usage, about), None)

    assert expected == result.usage
    assert result.problems == ()


def test_string_model() -> None:
    """A string model's usage is in its generation's info."""
    info = {"prompt_eval_count": 26, "eval_count": 298, "model": "llama3.2"}
    result = call_result(CallRequest(), [[Generation(text="Hello.", generation_info=info)]], {})

    assert Usage(26, 298) == result.usage
    assert result.response_model == "llama3.2"


def test_usage_in_llm_output() -> None:
    """Where only the whole result tells the usage, it is taken from there."""
    output = {"token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, "model_name": "m"}
    result = call_result(CallRequest(), [[Generation(text="Hello.")]], output)

    assert Usage(3, 4) == result.usage
    assert result.response_model == "m"


ODD = [
    pytest.param(totals(500, 10, input_token_details={"cache_read": 900}), Usage(500, 10, cache_read=500), "cache_read (900) exceed input tokens (500); cut to them", id="cached-above-total"),
    pytest.param(totals(0, 10, input_token_details={"cache_read": 900}), Usage(900, 10, cache_read=900), "cached tokens (900) were not part of the input tokens (0); added to them", id="cached-of-nothing"),
    pytest.param({"input_tokens": 100, "output_tokens": 10, "total_tokens": 1010, "input_token_details": {"cache_read": 900}}, Usage(1000, 10, cache_read=900), "cached tokens (900) were not part of the input tokens (100); added to them", id="cached-beside-total"),
    pytest.param(totals(10, 5, output_token_details={"reasoning": 50}), Usage(10, 5, reasoning=5), "reasoning (50) exceed output tokens (5); cut to them", id="reasoning-above-total"),
    pytest.param(totals(10, 5, input_token_details={"audio": 50}), Usage(10, 5, input_audio=10), "input_audio (50) exceed input tokens (10); cut to them", id="audio-above-total"),
    pytest.param(totals(10, 5, input_token_details={"cache_read": -3}), Usage(10, 5), "cache_read is negative (-3)", id="negative-detail"),
    pytest.param(totals(10, 5, input_token_details={"cache_read": "many"}), Usage(10, 5), "cache_read is no number but str", id="text-detail"),
    pytest.param({"input_tokens": "10", "output_tokens": 5.0, "total_tokens": None}, Usage(10, 5), None, id="numbers-as-text"),
    pytest.param({"input_tokens": None, "output_tokens": 5, "total_tokens": 15}, Usage(10, 5), None, id="input-from-total"),
    pytest.param({"input_tokens": 10, "total_tokens": 15}, Usage(10, 5), None, id="output-from-total"),
    pytest.param({"input_tokens": -4, "output_tokens": 5, "total_tokens": 15}, Usage(10, 5), "input_tokens is negative (-4)", id="negative-input"),
    pytest.param({"input_tokens": 10, "output_tokens": math.nan}, None, "output_tokens is no count of tokens (nan)", id="nan"),
    pytest.param({"output_tokens": 5}, None, "input tokens were not reported", id="no-input"),
    pytest.param({"input_tokens": True, "output_tokens": 5}, None, "input_tokens is no number but bool", id="flag"),
    pytest.param(totals(0, 0), None, "usage was reported as nothing at all", id="all-zero"),
    pytest.param({"input_tokens": [1], "output_tokens": {}}, None, "input tokens were not reported", id="containers"),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "expected", "problem"), ODD)
def test_odd_usage(usage: dict[str, Any], expected: Usage | None, problem: str | None) -> None:
    """Impossible numbers are made possible and told, or the usage is unknown; they are never silently 0."""
    result = call_result(CallRequest(provider="openai"), answer(usage), None)
    if expected is not None:
        assert expected == result.usage
    else:
        assert result.usage is None or result.estimated
    assert (problem in result.problems) if problem else not result.problems


def test_output_made_up_without_a_total_is_counted() -> None:
    """A 0 that an integration put in place of nothing is no count: the answer is counted, and marked."""
    told = {"token_usage": {"prompt_tokens": 10, "completion_tokens": None, "total_tokens": None}}
    result = call_result(CallRequest(provider="openai"), answer(totals(10, 0), told, content="four" * 10), None)

    assert Usage(10, 10) == result.usage
    assert result.estimated


@pytest.mark.parametrize(
    ("model", "told", "expected"),
    [
        # As seen in streams: inputTokens 4995 with 4993 cached in it; langchain-aws says 4995 + 4993.
        pytest.param("global.openai.gpt-5.6-luna", (9988, 4993, 0), Usage(4995, 12, cache_read=4993), id="read"),
        # 12401 with 8367 read and 4032 written in it: only 2 are fresh.
        pytest.param(
            "us.openai.gpt-5.6-sol", (24800, 8367, 4032), Usage(12401, 12, cache_read=8367, cache_write=4032), id="both"
        ),
        # As seen without a stream: inputTokens 2.
        pytest.param("openai.gpt-5.6-sol", (4995, 4993, 0), Usage(4995, 12, cache_read=4993), id="net"),
        pytest.param("anthropic.claude-sonnet-4-5", (9988, 4993, 0), Usage(9988, 12, cache_read=4993), id="claude"),
    ],
)
def test_cached_tokens_of_openai_at_bedrock(model: str, told: tuple[int, int, int], expected: Usage) -> None:
    """Converse tells OpenAI's models with the cached tokens in their input, in streams at least; they count once."""
    prompt, read, written = told
    usage = totals(prompt, 12, input_token_details={"cache_read": read, "cache_creation": written})
    result = call_result(CallRequest(provider="aws", model=model), answer(usage), None)

    assert expected == result.usage
    assert bool(result.problems) == (expected.input_tokens != prompt)


def test_prompt_tokens_of_openai_at_bedrock_hold_the_cached() -> None:
    """InvokeModel speaks OpenAI's own language, in which nothing is counted twice."""
    usage = totals(10_000, 12, input_token_details={"cache_read": 3000})
    raw = {"usage": {"prompt_tokens": 10_000, "completion_tokens": 12, "total_tokens": 10_012}}
    result = call_result(CallRequest(provider="aws", model="openai.gpt-5.5"), answer(usage, raw), None)

    assert Usage(10_000, 12, cache_read=3000) == result.usage


def test_missing_output_is_counted_from_the_text() -> None:
    """Where only the output is missing it is counted from the answer, and marked."""
    result = call_result(CallRequest(), answer({"input_tokens": 10}, content="four" * 10), None)

    assert result.estimated
    assert (result.usage.input_tokens, result.usage.output_tokens) == (10, 10)


def test_counted_output_is_no_less_than_its_parts() -> None:
    """Reasoning that was told without the output is output, however short the text is."""
    usage = {"input_tokens": 10, "output_token_details": {"reasoning": 30}}
    result = call_result(CallRequest(provider="perplexity"), answer(usage, content="yes"), None)

    assert Usage(10, 30, reasoning=30) == result.usage
    assert result.estimated


COUNTS = st.one_of(
    st.none(), st.integers(-10, 10_000), st.floats(), st.text(max_size=5), st.booleans(), st.lists(st.integers())
)
DETAILS = st.one_of(
    st.none(),
    st.integers(),
    st.lists(st.dictionaries(st.sampled_from(["modality", "token_count"]), st.one_of(COUNTS, st.just("AUDIO")))),
    st.dictionaries(
        st.sampled_from(["cache_read", "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "audio", "image", "video", "reasoning", "flex_cache_read", "citation_tokens"]),
        COUNTS,
    ),
)  # fmt: skip
REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": COUNTS,
        "output_tokens": COUNTS,
        "total_tokens": COUNTS,
        "prompt_tokens": COUNTS,
        "input_token_details": DETAILS,
        "output_token_details": DETAILS,
        "cache_read_input_tokens": COUNTS,
        "thoughts_token_count": COUNTS,
        "total_cost": COUNTS,
        "server_tool_use": DETAILS,
        "iterations": DETAILS,
        "cost": COUNTS,
    },
)
BOOK = PriceBook()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS, REPORTS, st.sampled_from(["openai", "anthropic", "perplexity", "google", "ollama", None]))
def test_anything_can_be_reported(usage: Any, raw: Any, provider: str | None) -> None:
    """Whatever is reported: nothing raises, no class is negative, parts fit their whole, no call is worth less than 0."""
    request = CallRequest(provider=provider, model="gpt-4o")
    result = call_result(request, answer(usage, {"token_usage": raw}), None)
    priced = BOOK.price(request, result)
    if result.usage is not None:
        parts = classes_of(result.usage)

        assert all(count > 0 for _, count in parts)
        assert sum(count for _, count in parts) == result.usage.total_tokens
    assert not any("could not be" in text for text in (*result.problems, *priced.notes))
    assert priced.cost is None or priced.cost.total_usd >= 0


@given(
    st.integers(1, 10**7),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
)
def test_parts_add_up(prompt: int, output: int, parts: list[int]) -> None:
    """The classes of a usage add up to its tokens, however the parts overlap."""
    details = dict(zip(("cache_read", "cache_creation", "audio", "image"), parts, strict=True))
    usage = call_result(CallRequest(), answer(totals(prompt, output, input_token_details=details)), None).usage

    assert usage.total_tokens == sum(count for _, count in classes_of(usage))
    assert min(count for _, count in classes_of(usage)) > 0


def test_thoughts_of_perplexity_count_once() -> None:
    """Thoughts that Perplexity's raw usage has beside its output are added to it once."""
    raw = {"prompt_tokens": 10, "completion_tokens": 20, "thoughts_token_count": 5}
    usage = call_result(CallRequest(provider="perplexity"), answer({}, {"token_usage": raw}), None).usage

    assert Usage(10, 25, reasoning=5) == usage


class Hostile:
    """An object that raises at every look."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_hostile_objects_do_not_raise() -> None:
    """Objects that raise when they are looked at make an unknown call, and their text is not told."""
    result = call_result(CallRequest(), [[Hostile()]], None)

    assert result.problems == ("the response could not be read: RuntimeError",)
    assert CallRequest() == call_request(metadata=None, invocation_params=None, messages=[Hostile()])


@pytest.mark.parametrize(
    ("metadata", "params", "serialized", "expected"),
    [
        pytest.param({"ls_provider": "amazon_bedrock", "ls_model_name": "us.anthropic.claude-haiku-4-5-20251001-v1:0"}, {}, {}, CallRequest("aws", "us.anthropic.claude-haiku-4-5-20251001-v1:0"), id="bedrock"),
        pytest.param({"ls_provider": "google_genai", "ls_model_name": "models/gemini-2.5-pro", "ls_max_tokens": 9}, {}, {}, CallRequest("google", "gemini-2.5-pro", 9), id="gemini"),
        pytest.param({"ls_provider": "xai", "ls_model_name": "grok-4"}, {"n": 2, "max_tokens": 7}, {}, CallRequest("x-ai", "grok-4", 7, 2), id="xai"),
        pytest.param({}, {"_type": "openai-chat", "model_name": "gpt-4o", "service_tier": "flex"}, {}, CallRequest("openai", "gpt-4o", service_tier="flex"), id="no-metadata"),
        pytest.param({"ls_provider": "openai"}, {"model": "gpt-4o"}, {"kwargs": {"openai_api_base": "https://user:secret@openrouter.ai:443/api/v1"}}, CallRequest("openai", "gpt-4o", host="openrouter.ai"), id="base-url"),
        pytest.param({}, {}, {}, CallRequest(), id="nothing"),
    ],
)  # fmt: skip
def test_request(metadata: Any, params: Any, serialized: Any, expected: CallRequest) -> None:
    """A request is read from the run's metadata, else its parameters, else the model's constructor."""
    assert expected == call_request(metadata=metadata, invocation_params=params, serialized=serialized)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        pytest.param([{"type": "text", "text": "a"}], None, id="none"),
        pytest.param([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "5m", id="default"),
        pytest.param(
            [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}], "1h", id="hour"
        ),
        pytest.param([{"cachePoint": {"type": "default", "ttl": "1h"}}], "1h", id="bedrock"),
        pytest.param(
            [{"text": "a", "cache_control": {"ttl": "1h"}}, {"text": "b", "cache_control": {"ttl": "5m"}}],
            "mixed",
            id="mixed",
        ),
    ],
)
def test_cache_time_of_the_prompt(blocks: list[Any], expected: str | None) -> None:
    """The prompt's blocks say for how long the cache is written."""
    messages = [[HumanMessage("x"), HumanMessage(blocks)]]

    assert expected == call_request(metadata={"ls_provider": "anthropic"}, messages=messages).cache_ttl


def test_merged_stream_repeats_are_undone() -> None:
    """Merging the chunks of n streamed answers repeats their texts; model and tier are read once."""
    about = {"model_name": "gpt-5gpt-5", "service_tier": "flexflex"}
    result = call_result(CallRequest(), answer(totals(1, 1), about), None)

    assert (result.response_model, result.service_tier) == ("gpt-5", "flex")


@pytest.mark.parametrize(
    ("grounding", "expected"),
    [
        pytest.param({"web_search_queries": ["a", "b"]}, (("grounding_query", 2),), id="searched"),
        pytest.param({"web_search_queries": []}, (), id="not-searched"),
    ],
)
def test_grounding(grounding: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Gemini tells its searches in the grounding metadata."""
    result = call_result(CallRequest(provider="google"), answer(totals(1, 1), {"grounding_metadata": grounding}), None)

    assert expected == result.usage.fees


@pytest.mark.parametrize("bad", ["free", -0.1, math.nan, True, [1]])
def test_bad_bill_is_told(bad: Any) -> None:
    """A bill that is no amount of money is told and not used."""
    result = call_result(CallRequest(provider="openrouter"), answer(totals(1, 1), {"cost": bad}), None)

    assert result.billed_usd is None
    assert result.problems == ("cost in the response is no amount of money",)


def test_estimated_result() -> None:
    """Without usage a call is counted by its text and marked."""
    result = estimated_result(CallRequest(model="some-model"), "a" * 400, "b" * 40)

    assert CallResult(usage=Usage(100, 10), estimated=True) == result


def test_estimate_keeps_what_was_told() -> None:
    """An estimate stands in for the tokens only: model, tier and problems stay."""
    told = CallResult(response_model="gpt-5", service_tier="flex", problems=("usage was reported as nothing at all",))
    result = estimated_result(CallRequest(model="auto"), "a" * 40, "", told=told)

    assert result == replace(told, usage=Usage(10, 0), estimated=True)


@given(st.text(max_size=3000))
def test_reservation_is_not_below_the_estimate(text: str) -> None:
    """What a reservation assumes is at least what the text would be counted as."""
    request = CallRequest()

    assert estimate_prompt_tokens(request, text) >= estimated_result(request, text, "").input_tokens


def test_records_do_not_hold_text() -> None:
    """Neither a request nor a result holds any of the prompt or the answer."""
    secret = "4111-1111-1111-1111"
    usage = {"input_tokens": secret, "output_tokens": secret}
    result = call_result(CallRequest(), answer(usage, {"cost": secret}, content=secret), {})

    assert secret not in repr(result)


def test_costs_are_decimal() -> None:
    """Money is Decimal from the list to the sum."""
    cost = BOOK.price(CallRequest("openai", "gpt-4o"), CallResult(usage=Usage(1, 1))).cost

    assert {Decimal} == {type(cost.input_usd), type(cost.output_usd), type(cost.fees_usd), type(cost.total_usd)}
