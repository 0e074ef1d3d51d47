"""In which order a price is found, and what is worked out from it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from genai_prices import data_snapshot
from hypothesis import given
from hypothesis import strategies as st

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.pricing.book import FEE_CLASSES, TOKEN_CLASSES, Cost, ModelRates, PriceBook, warm_up
from langchain_mlflow_cost.pricing.rates import FEE_PRICE_KEYS, TOKEN_PRICE_KEYS, classes_of
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

AT = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
SOURCE = "genai-prices 0.2.3"


def usd(
    request: CallRequest, usage: Usage, book: PriceBook | None = None, at: datetime = AT, **result: Any
) -> Decimal | None:
    priced = (book or PriceBook()).price(request, CallResult(usage=usage, **result), at=at)
    return None if priced.cost is None else priced.cost.total_usd


MODELS = [
    # USD per million tokens: in, out. All priced for 1000 tokens in, 100 out.
    pytest.param("openai", "gpt-4o", "0.0035", "openai/gpt-4o", id="openai"),  # 2.50, 10
    pytest.param("azure", "gpt-4o-2024-11-20", "0.0035", "azure/gpt-4o", id="azure"),
    pytest.param("openai", "ft:gpt-4o-2024-08-06:acme::Ab1", "0.00525", "openai/ft:gpt-4o", id="fine-tune"),  # 3.75, 15
    pytest.param("anthropic", "claude-haiku-4-5-20251001", "0.0015", "anthropic/claude-haiku-4-5", id="anthropic"),  # 1, 5
    # Regional profiles of Bedrock cost a tenth more than the global one: 3.30, 16.50; global 3, 15.
    pytest.param("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "0.00495", "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0", id="bedrock-us"),
    pytest.param("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "0.0045", "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0", id="bedrock-global"),
    pytest.param("aws", "meta.llama3-3-70b-instruct-v1:0", "0.000792", "aws/meta.llama3-3-70b-instruct-v1:0", id="bedrock-llama"),  # 0.72, 0.72
    pytest.param("google", "gemini-2.5-flash", "0.00055", "google/gemini-2.5-flash", id="gemini"),  # 0.30, 2.50
    pytest.param("google", "claude-sonnet-4-5@20250929", "0.0045", "google/claude-sonnet-4-5", id="vertex-claude"),
    pytest.param("mistral", "mistral-large-latest", "0.0026", "mistral/mistral-large", id="mistral"),  # 2, 6
    pytest.param("groq", "llama-3.3-70b-versatile", "0.000669", "groq/llama-3.3-70b-versatile", id="groq"),  # 0.59, 0.79
    pytest.param("x-ai", "grok-4-0709", "0.0045", "x-ai/grok-4-0709", id="xai"),  # 3, 15
    pytest.param("fireworks", "accounts/fireworks/models/gpt-oss-20b", "0.0001", "fireworks/gpt-oss-20b", id="fireworks"),  # 0.07, 0.30
    pytest.param("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "0.000968", "together/meta-llama/Llama-3.3-70B-Instruct-Turbo", id="together"),  # 0.88, 0.88
    pytest.param("cohere", "command-r-plus", "0.0035", "cohere/command-r-plus", id="cohere"),  # 2.50, 10
    # 3, 15 and 14 a thousand requests: 0.0045 + 0.014
    pytest.param("perplexity", "sonar-pro", "0.0185", "perplexity/sonar-pro", id="perplexity"),
    pytest.param("openrouter", "anthropic/claude-sonnet-4.5", "0.0045", "openrouter/anthropic/claude-sonnet-4.5", id="openrouter"),
    pytest.param("openrouter", "anthropic/claude-sonnet-4.5:nitro", "0.0045", "openrouter/anthropic/claude-sonnet-4.5", id="openrouter-route"),
    pytest.param("openrouter", "deepseek/deepseek-r1:free", "0", "openrouter/deepseek/deepseek-r1:free", id="openrouter-free"),
    # No vendor/model at api.openai.com: OpenRouter behind ChatOpenAI.
    pytest.param("openai", "anthropic/claude-sonnet-4.5", "0.0045", "openrouter/anthropic/claude-sonnet-4.5", id="vendor-at-openai"),
    pytest.param("openai", "claude-haiku-4-5", "0.0015", "anthropic/claude-haiku-4-5, by the model's name", id="gateway"),
    pytest.param("mygateway", "gpt-4o", "0.0035", "openai/gpt-4o, by the model's name", id="unknown-provider"),
    pytest.param(None, "gpt-4o", "0.0035", "openai/gpt-4o, by the model's name", id="no-provider"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "expected", "source"), MODELS)
def test_providers(provider: str | None, model: str, expected: str, source: str) -> None:
    """Each provider's model is found under the name that LangChain gives it, and its source is named."""
    priced = PriceBook().price(CallRequest(provider, model), CallResult(usage=Usage(1000, 100)), at=AT)

    assert Decimal(expected) == priced.cost.total_usd
    assert f"{SOURCE} ({source})" == priced.source


@pytest.mark.parametrize(
    ("provider", "model", "host"),
    [
        pytest.param("ollama", "llama3.2", None, id="ollama"),
        pytest.param("ollama", "gpt-oss:20b", None, id="ollama-open-weights"),
        pytest.param("ollama", "gpt-4o", None, id="ollama-famous-name"),
        pytest.param("openai", "gpt-oss-20b", "localhost", id="vllm"),
        pytest.param("openai", "meta-llama/Llama-3.1-8B-Instruct", "10.0.0.7", id="vllm-vendor"),
        pytest.param("openai", "openai/gpt-oss-20b", "127.0.0.1", id="vllm-openai"),
        pytest.param("openai", "mistralai/Mistral-7B-Instruct-v0.3", "10.0.0.7", id="maker's-weights"),
        pytest.param("openai", "mistralai/Mixtral-8x7B-Instruct-v0.1", "10.0.0.7", id="maker's-experts"),
        pytest.param("openai", "mistral-7b", "10.0.0.7", id="maker's-weights-bare"),
        pytest.param("openai", "deepseek-ai/DeepSeek-V3.1", "gpu.internal", id="deepseek-weights"),
        pytest.param("openai", "deepseek-v3", "gpu.internal", id="deepseek-weights-bare"),
        pytest.param("openai", "deepseek-ai/DeepSeek-R1", "gpu.internal", id="deepseek-r1-weights"),
        pytest.param("azure", "prod-chat", None, id="deployment"),
        pytest.param("aws", "abc123xyz", None, id="application-profile"),
        pytest.param("openai", "whisper-1", None, id="priced-by-the-hour"),
        pytest.param("github-copilot", "gpt-4.1", None, id="empty-price"),
        pytest.param(None, None, None, id="nothing-known"),
    ],
)
def test_unpriced(provider: str | None, model: str | None, host: str | None) -> None:
    """A model that nobody has a price for has no cost: not 0, not another's price."""
    priced = PriceBook().price(CallRequest(provider, model, host=host), CallResult(usage=Usage(10, 10)), at=AT)

    assert (priced.cost, priced.source) == (None, None)


@pytest.mark.parametrize(
    ("host", "model", "source"),
    [
        pytest.param("openrouter.ai", "openai/gpt-4o", "openrouter/openai/gpt-4o", id="openrouter"),
        pytest.param("api.deepseek.com", "deepseek-chat", "deepseek/deepseek-chat", id="deepseek"),
        pytest.param("api.groq.com", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile", id="groq"),
        pytest.param("eastus.openai.azure.com", "gpt-4o", "azure/gpt-4o", id="azure"),
        pytest.param("llm.example.com", "gpt-4o", "openai/gpt-4o", id="gateway"),
        pytest.param("llm.example.com", "anthropic/claude-haiku-4-5", "anthropic/claude-haiku-4-5, by the model's name", id="litellm"),
        pytest.param("127.0.0.1", "gpt-4o", "openai/gpt-4o", id="proxy"),
    ],
)  # fmt: skip
def test_base_url_tells_who_answers(host: str, model: str, source: str) -> None:
    """ChatOpenAI calls itself openai whatever its base URL is; the host tells whose price it is."""
    priced = PriceBook().price(CallRequest("openai", model, host=host), CallResult(usage=Usage(10, 10)), at=AT)

    assert f"{SOURCE} ({source})" == priced.source


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-nano", "claude-haiku-4-5", "gemini-2.5-flash", "mistral-large-latest"]
)
def test_gateway_on_own_machine_costs_what_the_maker_asks(model: str) -> None:
    """A maker's model that runs nowhere else is priced behind a gateway on a private machine."""
    priced = PriceBook().price(CallRequest("openai", model, host="10.0.0.7"), CallResult(usage=Usage(10, 10)), at=AT)

    assert priced.cost is not None


def test_priority_of_anthropic_needs_no_note() -> None:
    """Anthropic lists its priority tier at the standard price: there is nothing to say of it."""
    result = CallResult(usage=Usage(1000, 100), service_tier="priority")

    assert PriceBook().price(CallRequest("anthropic", "claude-sonnet-4-5"), result, at=AT).notes == ()


GPT4O = CallRequest("openai", "gpt-4o")
CLASS_PRICES = [
    # gemini-2.5-flash: 0.30 in, 1 audio, 0.03 cached, 0.10 cached audio, 2.50 out
    pytest.param("google", "gemini-2.5-flash", Usage(1000, 0, input_audio=400), "0.00058", id="audio"),
    # 600 cached text, 300 cached audio, 100 new audio: 600 * 0.03 + 300 * 0.1 + 100 * 1 millionths
    pytest.param("google", "gemini-2.5-flash", Usage(1000, 0, cache_read=900, input_audio=400, cache_read_audio=300), "0.000148", id="cached-audio"),
    # gpt-image-1.5: 5 text, 8 image, 10 text out, 32 image out: 500 * 5 + 500 * 8 + 100 * 10 + 900 * 32 millionths
    pytest.param("openai", "gpt-image-1.5", Usage(1000, 1000, input_image=500, output_image=900), "0.0363", id="images"),
    # sonar-deep-research: 2 in, 8 out, 3 reasoning, 2 citations, 5 a thousand searches (docs.perplexity.ai, pricing)
    # 33 * 2e-6 + 7163 * 8e-6 + 73997 * 3e-6 + 20016 * 2e-6 + 18 * 0.005
    pytest.param("perplexity", "sonar-deep-research", Usage(33, 101_176, reasoning=73_997, citation=20_016, fees=(("web_search", 18),)), "0.409393", id="deep-research"),
    # Sonar's fee for a request is its fee for the search: 1000 * 3e-6 + 100 * 15e-6 + 0.014
    pytest.param("perplexity", "sonar-pro", Usage(1000, 100, fees=(("web_search", 3),)), "0.0185", id="request-fee"),
    # By the size of the search's context: 6, 10, 14 and 5, 8, 12 a thousand.
    pytest.param("perplexity", "sonar-pro", Usage(1000, 100, fees=(("request_low", 1),)), "0.0105", id="request-fee-low"),
    pytest.param("perplexity", "sonar-pro", Usage(1000, 100, fees=(("request_medium", 1),)), "0.0145", id="request-fee-medium"),
    pytest.param("perplexity", "sonar", Usage(1000, 100, fees=(("request_high", 1),)), "0.0131", id="request-fee-high"),
    # Claude on OpenRouter: no listed rate for an hour's cache, which costs twice the input: 1000 * 6e-6
    pytest.param("openrouter", "anthropic/claude-sonnet-4.5", Usage(1000, 0, cache_write_1h=1000), "0.006", id="hour-without-rate"),
    # No own rate: gpt-4o does not bill cache writes. 1000 * 2.5e-6
    pytest.param("openai", "gpt-4o", Usage(1000, 0, cache_write=1000), "0.0025", id="write-as-input"),
    # Gemini 2.5: 35 a thousand grounded prompts, however many queries; Gemini 3: 14 a thousand queries.
    pytest.param("google", "gemini-2.5-flash", Usage(1000, 0, fees=(("grounding_query", 3),)), "0.0353", id="grounded-prompt"),
    pytest.param("google", "gemini-3.5-flash", Usage(1000, 0, fees=(("grounding_query", 3),)), "0.0435", id="grounding-queries"),
    pytest.param("openai", "text-embedding-3-small", Usage(1000, 0), "0.00002", id="embeddings"),
    pytest.param("openai", "gpt-4o", Usage(0, 0), "0", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usage", "expected"), CLASS_PRICES)
def test_classes(provider: str, model: str, usage: Usage, expected: str) -> None:
    """Each class costs its own rate, or that of the class that it is part of."""
    assert Decimal(expected) == usd(CallRequest(provider, model), usage)


TIERS = [
    # o3: 2 in, 8 out; flex half; priority 3.50, 14. 1000 in, 100 out.
    pytest.param("openai", "o3", None, "0.0028", (), id="standard"),
    pytest.param("openai", "o3", "standard", "0.0028", (), id="standard-named"),
    pytest.param("openai", "o3", "flex", "0.0014", (), id="flex"),
    pytest.param("openai", "o3", "priority", "0.0049", (), id="priority"),
    pytest.param("openai", "o3", "batch", "0.0014", (), id="batch"),
    pytest.param("openai", "gpt-4o", "flex", "0.00175", ("no flex rates are listed for gpt-4o: half of its standard rates",), id="flex-without-list"),
    pytest.param("anthropic", "claude-sonnet-4-20250514", "batch", "0.00225", ("no batch rates are listed for claude-sonnet-4-0: half of its standard rates",), id="batch-without-list"),
    pytest.param("azure", "o3", "priority", "0.0028", ("no priority rates are known for o3-2025-04-16: its standard rates",), id="unknown-tier"),
    pytest.param("groq", "llama-3.3-70b-versatile", "flex", "0.000669", (), id="same-price"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "tier", "expected", "notes"), TIERS)
def test_service_tiers(provider: str, model: str, tier: str | None, expected: str, notes: tuple[str, ...]) -> None:
    """A tier costs its listed rates, else its published factor; where neither is known it is said."""
    result = CallResult(usage=Usage(1000, 100), service_tier=tier)
    priced = PriceBook().price(CallRequest(provider, model), result, at=AT)

    assert Decimal(expected) == priced.cost.total_usd
    assert notes == priced.notes


REGIONS = [
    # Opus 4.8 5/25, Sonnet 4.5 3/15, GPT-5.4 2.50/15; 1000 in, 100 out, times 1.1
    pytest.param(CallRequest("anthropic", "claude-opus-4-8", region="us"), None, "0.00825", id="anthropic-us"),
    pytest.param(CallRequest("anthropic", "claude-opus-4-8", region="us"), "global", "0.0075", id="response-decides"),
    pytest.param(CallRequest("google", "claude-sonnet-4-5@20250929", region="us-east5"), None, "0.00495", id="vertex-region"),
    pytest.param(CallRequest("google", "claude-sonnet-4-5@20250929", region="global"), None, "0.0045", id="vertex-global"),
    pytest.param(CallRequest("google", "gemini-2.5-flash", region="us-east5"), None, "0.00055", id="vertex-gemini"),
    pytest.param(CallRequest("openai", "gpt-5.4", host="eu.api.openai.com"), None, "0.0044", id="openai-eu"),
    pytest.param(CallRequest("openai", "gpt-5.4", host="api.openai.com"), None, "0.004", id="openai"),
    pytest.param(CallRequest("openai", "gpt-4o", host="eu.api.openai.com"), None, "0.0035", id="openai-eu-older"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "region", "expected"), REGIONS)
def test_regions(request_: CallRequest, region: str | None, expected: str) -> None:
    """A call that must be computed in a region costs a tenth more where the provider says so."""
    assert Decimal(expected) == usd(request_, Usage(1000, 100), region=region)


def test_price_of_the_hour() -> None:
    """DeepSeek's price follows the clock: 0.135 in at 20:00 UTC, 0.27 at noon; one book serves both."""
    book, request = PriceBook(), CallRequest("deepseek", "deepseek-chat")
    evening = AT.replace(hour=20)

    assert [Decimal("0.00027"), Decimal("0.000135"), Decimal("0.00027")] == [
        usd(request, Usage(1000, 0), book, at) for at in (AT, evening, AT)
    ]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # Opus 4.6: above 200 000 tokens 10 a million until 2026-03-12, 5 since.
        pytest.param(datetime(2026, 3, 12, 23, 59, tzinfo=UTC), "3", id="day-before"),
        pytest.param(datetime(2026, 3, 13, 0, 0, tzinfo=UTC), "1.5", id="day"),
        pytest.param(datetime(2026, 3, 13), "1.5", id="naive-is-utc"),  # noqa: DTZ001
    ],
)
def test_price_of_the_day(at: datetime, expected: str) -> None:
    """A call costs what the list said on its day."""
    assert Decimal(expected) == usd(CallRequest("anthropic", "claude-opus-4-6"), Usage(300_000, 0), at=at)


def test_now_is_today() -> None:
    """A call without a moment is priced for today, from the same table as one that is told so."""
    source = PriceBook()
    without = source.price(GPT4O, CallResult(usage=Usage(1000, 100)))
    told = source.price(GPT4O, CallResult(usage=Usage(1000, 100)), at=datetime.now(UTC))

    assert without == told


# --- order -----------------------------------------------------------------------------------------------------------


def catalogue(provider: str | None, model: str) -> ModelRates | None:
    if model not in ("house-model", "gpt-4o", "gpt-4o-audio-preview"):
        return None
    rates = {
        "input": Decimal("1e-6"),
        "output": Decimal("2e-6"),
        "input_audio": Decimal("40e-6"),
        "output_audio": Decimal("80e-6"),
    }
    return ModelRates(
        "a catalogue 1.0",
        model,
        rates,
        long_context=((100, {"input": Decimal("3e-6")}),),
        service_tiers={"flex": {"input": Decimal("0.5e-6")}},
    )  # fmt: skip


OVERRIDES = {"gpt-4o": {"input": 1, "output": 2}}
ORDER = [
    pytest.param({}, CallResult(response_model="gpt-4o"), f"{SOURCE} (openai/gpt-4o)", id="list"),
    pytest.param({"fallback": catalogue}, CallResult(response_model="gpt-4o"), f"{SOURCE} (openai/gpt-4o)", id="list-before-fallback"),
    pytest.param({"aliases": {"gpt-4o": "o3"}}, CallResult(response_model="gpt-4o"), f"{SOURCE} (openai/o3)", id="alias-before-list"),
    pytest.param({"aliases": {"gpt-4o": "o3"}, "overrides": OVERRIDES}, CallResult(response_model="gpt-4o"), "overrides", id="override-before-alias"),
    pytest.param({"overrides": OVERRIDES}, CallResult(response_model="gpt-4o", billed_usd=Decimal("1.5")), "bill in the response", id="bill-before-override"),
    pytest.param({"overrides": OVERRIDES}, CallResult(response_model="gpt-4o", cached=True), "LangChain's LLM cache", id="cache-before-all"),
    pytest.param({}, CallResult(response_model="o3"), f"{SOURCE} (openai/o3)", id="response-before-request"),
    pytest.param({}, CallResult(response_model="brand-new"), f"{SOURCE} (openai/gpt-4o)", id="request-if-response-is-unknown"),
    pytest.param({"overrides": OVERRIDES}, CallResult(response_model="gpt-4o-2024-08-06"), "overrides", id="override-by-request"),
    pytest.param({"fallback": catalogue}, CallResult(response_model="house-model"), f"{SOURCE} (openai/gpt-4o)", id="request-in-list-before-fallback"),
    pytest.param({"overrides": {"house": {"input": 9}}, "aliases": {"gpt-4o": "house"}}, CallResult(), "overrides", id="alias-to-override"),
    pytest.param({"aliases": {"gpt-4o": "house-model"}, "fallback": catalogue}, CallResult(), "a catalogue 1.0 (house-model)", id="alias-to-fallback"),
    pytest.param({"aliases": {"gpt-4o": "step", "step": "anthropic/claude-haiku-4-5"}}, CallResult(), f"{SOURCE} (anthropic/claude-haiku-4-5)", id="alias-chain"),
    pytest.param({"aliases": {"gpt-4o": "claude-haiku-4-5"}}, CallResult(), f"{SOURCE} (anthropic/claude-haiku-4-5)", id="alias-by-name"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "result", "source"), ORDER)
def test_order(settings: dict[str, Any], result: CallResult, source: str) -> None:
    """Prices are looked for in the contract's order, under the response's model and then the request's."""
    answered = CallResult(
        usage=Usage(1000, 100), response_model=result.response_model, billed_usd=result.billed_usd, cached=result.cached
    )

    assert source == PriceBook(**settings).price(GPT4O, answered, at=AT).source


def test_fallback_prices() -> None:
    """The injected list is used with its tiers and lengths for what nobody else knows."""
    book, request = PriceBook(fallback=catalogue), CallRequest("corp", "house-model")

    # 1 in, 2 out a million; above 100 tokens 3; flex 0.50
    assert Decimal("0.0003") == usd(request, Usage(100, 100), book)
    assert Decimal("0.000503") == usd(request, Usage(101, 100), book)
    assert Decimal("0.00025") == usd(request, Usage(100, 100), book, service_tier="flex")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(CallRequest("openai", "house-model", host="10.0.0.7"), None, id="own-server"),
        pytest.param(CallRequest("ollama", "house-model"), None, id="local-provider"),
        pytest.param(CallRequest("openai", "house-model", host="llm.example.com"), "0.0003", id="gateway"),
        pytest.param(CallRequest("groq", "house-model", host="10.0.0.7"), "0.0003", id="proxy-of-a-provider"),
    ],
)
def test_fallback_is_not_asked_for_ones_own_server(request_: CallRequest, expected: str | None) -> None:
    """A list that goes by names does not price what answers from a machine of the user's own."""
    found = usd(request_, Usage(100, 100), PriceBook(fallback=catalogue))

    assert found == (expected and Decimal(expected))


def test_fallback_lends_audio_rates() -> None:
    """genai-prices has gpt-4o-audio-preview without audio, which would be 94 % too low; the fallback's rates fill in."""
    request = CallRequest("openai", "gpt-4o-audio-preview")
    usage = Usage(1000, 100, input_audio=800, output_audio=100)

    # 200 * 2.5e-6 + 800 * 40e-6 + 100 * 80e-6
    assert Decimal("0.0405") == usd(request, usage, PriceBook(fallback=catalogue))


def test_missing_audio_rate_is_told() -> None:
    """Audio of a model without a rate for it takes the text's, and says so."""
    priced = PriceBook().price(
        CallRequest("openai", "gpt-4o-audio-preview"), CallResult(usage=Usage(10, 0, input_audio=10)), at=AT
    )

    assert (f"{SOURCE} (openai/gpt-4o-audio-preview) has no rate for input_audio: the plain one",) == priced.notes


def test_no_usage_has_no_cost() -> None:
    """A call whose provider reported nothing has no cost, and says why."""
    priced = PriceBook().price(GPT4O, CallResult(), at=AT)

    assert (priced.cost, priced.notes) == (None, ("no usage was reported",))


def test_fee_without_price_is_told() -> None:
    """A fee that nobody has a price for is left out and named."""
    usage = Usage(1000, 0, fees=(("web_search", 2),))
    priced = PriceBook().price(
        CallRequest("aws", "anthropic.claude-haiku-4-5-20251001-v1:0"), CallResult(usage=usage), at=AT
    )

    assert [note.partition(") ")[2] for note in priced.notes] == ["has no fee for web_search: left out"]


def test_lines_are_the_arithmetic() -> None:
    """The lines multiply out and add up to the cost, fees in the input."""
    usage = Usage(2006, 300, cache_read=1920, reasoning=100, fees=(("web_search", 2),))
    priced = PriceBook(discounts={"openai": "0.1"}).price(GPT4O, CallResult(usage=usage), at=AT)

    assert all(line.quantity * line.usd_each == line.usd for line in priced.lines)
    assert [line.name for line in priced.lines] == ["input", "cache_read", "output", "reasoning", "web_search"]
    # (86 * 2.5e-6 + 1920 * 1.25e-6 + 0.02, 300 * 10e-6) * 0.9
    assert Cost(Decimal("0.0203535"), Decimal("0.0027"), Decimal("0.018")) == priced.cost
    assert sum(line.usd for line in priced.lines) == priced.cost.total_usd


def test_context_of_the_application_is_ignored() -> None:
    """Costs are exact under whatever decimal context the application works with."""
    with localcontext() as context:
        context.prec = 3

        assert Decimal("2.5000025") == usd(GPT4O, Usage(1_000_001, 0))


# --- settings --------------------------------------------------------------------------------------------------------

OVERRIDE_CASES = [
    pytest.param({"input": 2, "output": 8}, Usage(1000, 100, cache_read=500, reasoning=50), "0.0028", id="parts-take-the-whole's"),
    pytest.param({"input": 2, "output": 8, "cache_read": "0.5"}, Usage(1000, 100, cache_read=500), "0.00205", id="cache"),
    pytest.param({"input": 2, "cache_write": 3, "cache_write_1h": 4}, Usage(1000, 0, cache_write=100, cache_write_1h=200), "0.0025", id="writes"),
    pytest.param({"input": 2, "input_audio": 20, "output": 8, "output_audio": 80}, Usage(100, 100, input_audio=50, output_audio=50), "0.0055", id="audio"),
    pytest.param({"request": "0.01"}, Usage(1000, 100), "0.01", id="request"),
    pytest.param({"input": 1, "request": 0.5, "web_search": 0.25}, Usage(1000, 100, fees=(("web_search", 2),)), "1.001", id="fees"),
    pytest.param({"input": 0.1}, Usage(3, 0), "0.0000003", id="float-as-written"),
    pytest.param({"input": 0, "output": 0}, Usage(1000, 100), "0", id="free"),
]  # fmt: skip


@pytest.mark.parametrize(("prices", "usage", "expected"), OVERRIDE_CASES)
def test_overrides(prices: dict[str, Any], usage: Usage, expected: str) -> None:
    """An override is the whole price of a model, in USD per million tokens and USD a use."""
    assert Decimal(expected) == usd(CallRequest("ollama", "llama3.2"), usage, PriceBook(overrides={"llama3.2": prices}))


@pytest.mark.parametrize("key", ["llama3.2", "LLAMA3.2", "ollama/llama3.2", "Ollama/Llama3.2"])
def test_names_in_settings(key: str) -> None:
    """A setting names a model alone or with its provider, in any case."""
    assert Decimal(1) == usd(
        CallRequest("ollama", "llama3.2"), Usage(10, 0), PriceBook(overrides={key: {"request": 1}})
    )


def test_providers_in_settings_may_be_langchains() -> None:
    """A provider in a setting may have LangChain's name or the list's."""
    request = CallRequest("aws", "us.amazon.nova-pro-v1:0")
    for name in ("aws", "amazon_bedrock", "bedrock_converse"):
        book = PriceBook(overrides={f"{name}/us.amazon.nova-pro-v1:0": {"request": 1}}, discounts={name: "0.5"})

        assert Decimal("0.5") == usd(request, Usage(10, 0), book)


DISCOUNTS = [
    pytest.param({}, "0.0035", id="none"),
    pytest.param({"*": "0.1"}, "0.00315", id="all"),
    pytest.param({"*": "0.1", "openai": "0.2"}, "0.0028", id="provider-before-all"),
    pytest.param({"*": "0.1", "openai": "0.2", "gpt-4o": 0.5}, "0.00175", id="model-before-provider"),
    pytest.param({"gpt-4o": 0.5, "openai/gpt-4o": 1}, "0", id="both-before-model"),
    pytest.param({"openai": 0, "*": "0.1"}, "0.0035", id="zero-is-a-discount"),
    pytest.param({"azure": "0.5"}, "0.0035", id="other-provider"),
]


@pytest.mark.parametrize(("discounts", "expected"), DISCOUNTS)
def test_discounts(discounts: dict[str, Any], expected: str) -> None:
    """The most specific discount counts, alone."""
    assert Decimal(expected) == usd(GPT4O, Usage(1000, 100), PriceBook(discounts=discounts))


def test_bill_is_not_discounted() -> None:
    """A bill has the discounts in it."""
    assert Decimal("1.5") == usd(GPT4O, Usage(1000, 100), PriceBook(discounts={"*": "0.5"}), billed_usd=Decimal("1.5"))


def test_discount_is_named() -> None:
    """A source says what was taken off."""
    priced = PriceBook(discounts={"*": "0.125"}).price(GPT4O, CallResult(usage=Usage(1, 1)), at=AT)

    assert f"{SOURCE} (openai/gpt-4o), 12.5 % off" == priced.source


BAD = [
    pytest.param({"overrides": {"gpt-4.1": {"inputt": 1}}}, "overrides.gpt-4.1", 'price of "gpt-4.1": unknown class "inputt"; did you mean "input"?', id="class"),
    pytest.param({"overrides": {"m": {"input": -1}}}, "overrides.m", 'price of "m" for "input": expected a number that is not negative, found -1', id="negative"),
    pytest.param({"overrides": {"m": {"input": "a lot"}}}, "overrides.m", "price of \"m\" for \"input\": expected a number that is not negative, found 'a lot'", id="text"),
    pytest.param({"overrides": {"m": {"input": True}}}, "overrides.m", 'price of "m" for "input": expected a number that is not negative, found True', id="flag"),
    pytest.param({"overrides": {"m": {"input": float("nan")}}}, "overrides.m", 'price of "m" for "input": expected a number that is not negative, found nan', id="nan"),
    pytest.param({"overrides": {"m": {"cache_read": 1}}}, "overrides.m", 'price of "m": expected at least one of input, output and request', id="only-a-part"),
    pytest.param({"overrides": {"m": 3}}, "overrides.m", 'price of "m": expected USD per million tokens by class, such as {input: 2.5, output: 10}', id="no-mapping"),
    pytest.param({"discounts": {"openai": 20}}, "discounts.openai", 'discount for "openai": expected the fraction taken off, from 0 to 1, found 20', id="percent"),
    pytest.param({"discounts": {"*": "x"}}, "discounts.*", "discount for \"*\": expected a number that is not negative, found 'x'", id="discount-text"),
    pytest.param({"aliases": {"a": "b", "b": "a"}}, "aliases.a", 'alias "a": the aliases lead in a circle', id="circle"),
    pytest.param({"aliases": {"x": "a", "a": "b", "b": "a"}}, "aliases.x", 'alias "x": the aliases lead in a circle', id="into-a-circle"),
    pytest.param({"aliases": {"a": ""}}, "aliases.a", 'alias "a": expected a model or provider/model', id="empty-alias"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "key", "message"), BAD)
def test_bad_settings(settings: dict[str, Any], key: str, message: str) -> None:
    """A setting that cannot be used is refused when the book is made, by its key."""
    with pytest.raises(PolicyError) as caught:
        PriceBook(**settings)

    assert (key, message) == (caught.value.key, str(caught.value))


def test_alias_to_itself_is_harmless() -> None:
    """A model may be named for itself, such as to pin its provider."""
    assert Decimal("0.0035") == usd(GPT4O, Usage(1000, 100), PriceBook(aliases={"gpt-4o": "gpt-4o"}))


# --- the rest --------------------------------------------------------------------------------------------------------


def test_estimate_is_the_plain_price() -> None:
    """An estimate prices plain tokens; a model without a price has none."""
    assert Decimal("0.0035") == PriceBook().estimate_usd(GPT4O, 1000, 100)
    assert PriceBook().estimate_usd(CallRequest("ollama", "llama3.2"), 1000, 100) is None


def test_describe() -> None:
    """A model's price is told by class, length, tier and use, with its source."""
    listed = PriceBook(discounts={"*": "0.5"}).describe("openai", "gpt-5.4", at=AT)

    assert {"input": Decimal("1.25"), "cache_read": Decimal("0.125"), "output": Decimal("7.5")} == listed.per_mtok
    assert listed.long_context[0][0] == 272_000
    assert Decimal("2.5") == listed.long_context[0][1]["input"]
    assert {"flex", "priority", "batch"} == set(listed.service_tiers)
    assert {"web_search": Decimal("0.005"), "file_search": Decimal("0.00125")} == listed.per_use
    assert (f"{SOURCE} (openai/gpt-5.4), 50 % off", "2026-11-15") == (listed.source, listed.as_of)


def test_describe_of_an_unknown_model() -> None:
    """What nobody knows has no description."""
    assert PriceBook().describe("ollama", "llama3.2") is None


def test_describe_writes_numbers_out() -> None:
    """30 USD are shown as 30, not as 3E+1."""
    assert str(PriceBook().describe("openai", "gpt-5.5", at=AT).per_mtok["output"]) == "30"


def test_tables_name_what_genai_prices_names() -> None:
    """Every key of ours is one of genai-prices', in its unit, and every class of ours has a row."""
    from genai_prices.data_units import unit_data

    units = {unit["price_key"]: unit["per"] for unit in unit_data.values()}

    assert {1_000_000} == {units[key] for key in TOKEN_PRICE_KEYS}
    assert {1000} == {units[key] for key in FEE_PRICE_KEYS}
    assert set(TOKEN_CLASSES) == set(TOKEN_PRICE_KEYS.values())
    assert set(FEE_CLASSES) == set(FEE_PRICE_KEYS.values())


def test_agrees_with_genai_prices() -> None:
    """Where genai-prices can price a usage, the result is the same, for every model of the large providers."""
    import genai_prices
    from genai_prices import Usage as TheirUsage

    book = PriceBook()
    compared = 0
    for provider in data_snapshot.get_snapshot().providers:
        if provider.id not in ("openai", "anthropic", "google", "aws", "mistral", "groq", "x-ai", "deepseek"):
            continue
        for model in provider.models:
            if "-search-" in model.id:  # Their fee for each call is in no list.
                continue
            for length in (1000, 150_000, 300_000):
                usage = Usage(length, 500, cache_read=300, cache_write=200, reasoning=100)
                try:
                    theirs = genai_prices.calc_price(
                        TheirUsage(input_tokens=length, output_tokens=500, cache_read_tokens=300, cache_write_tokens=200),
                        model.id,
                        provider_id=provider.id,
                        genai_request_timestamp=AT,
                    )  # fmt: skip
                except (LookupError, ValueError):
                    continue
                ours = usd(CallRequest(provider.id, model.id), usage, book)
                if ours is None or theirs.model_price.output_mtok is None:
                    continue
                fees = Decimal(theirs.model_price.requests_kcount or 0) / 1000
                assert theirs.input_price + theirs.output_price + fees == ours, (provider.id, model.id, length)
                compared += 1

    assert compared > 500


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.decimals(0, 1, places=3),
    st.one_of(st.none(), st.decimals(0, 10, places=6)),
)
def test_parts_add_up_to_the_total(prompt: int, output: int, off: Decimal, bill: Decimal | None) -> None:
    """Input and output add up to the total, for lists, discounts, fees and bills."""
    usage = Usage(prompt, output, fees=(("web_search", 1),))
    priced = PriceBook(discounts={"*": off}).price(GPT4O, CallResult(usage=usage, billed_usd=bill), at=AT)

    assert priced.cost.input_usd + priced.cost.output_usd == priced.cost.total_usd
    assert bill is None or bill == priced.cost.total_usd
    assert priced.cost.input_usd >= 0
    assert priced.cost.output_usd >= 0


@given(st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)), min_size=1, max_size=20))
def test_splitting_calls_changes_nothing(calls: list[tuple[int, int]]) -> None:
    """For a model without tiers, many calls cost what one with all their tokens costs: no rounding anywhere."""
    apart = sum(usd(GPT4O, Usage(prompt, output)) for prompt, output in calls)
    together = usd(GPT4O, Usage(sum(prompt for prompt, _ in calls), sum(output for _, output in calls)))

    assert together == apart


def test_new_snapshot_is_noticed() -> None:
    """If the application updates genai-prices, the next call is priced by the update."""
    book = PriceBook()
    before = usd(GPT4O, Usage(1000, 0), book)
    bundled = data_snapshot.get_snapshot()
    emptied = data_snapshot.DataSnapshot(
        providers=[p for p in bundled.providers if p.id != "openai"], from_auto_update=True
    )
    data_snapshot.set_custom_snapshot(emptied)
    try:
        during = usd(GPT4O, Usage(1000, 0), book)
    finally:
        data_snapshot.set_custom_snapshot(None)

    assert (Decimal("0.0025"), None, Decimal("0.0025")) == (before, during, usd(GPT4O, Usage(1000, 0), book))


def test_books_do_not_know_each_other() -> None:
    """Several books with different prices are live at once."""
    books = [PriceBook(overrides={"gpt-4o": {"request": number}}) for number in range(3)]

    assert [usd(GPT4O, Usage(1, 1), book) for book in books] == [0, 1, 2]


def test_threads_share_a_book() -> None:
    """Eight threads that price at once, from a cold book, all get the right price."""
    book = PriceBook()
    models = ["gpt-4o", "o3", "gpt-5", "gpt-4.1"]
    expected = {model: usd(CallRequest("openai", model), Usage(1000, 100)) for model in models}
    barrier, wrong = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        for _ in range(50):
            found = {model: usd(CallRequest("openai", model), Usage(1000, 100), book) for model in models}
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_broken_fallback_is_an_unpriced_call() -> None:
    """A list that raises makes the call unpriced, and its message is not told."""

    def broken(provider: str | None, model: str) -> ModelRates | None:
        raise RuntimeError("the prompt")

    priced = PriceBook(fallback=broken).price(CallRequest("corp", "m"), CallResult(usage=Usage(1, 1)))

    assert (priced.cost, priced.notes) == (None, ("the price could not be worked out: RuntimeError",))


def test_classes_are_disjoint() -> None:
    """Overlapping classes are told apart: cached audio is neither cached text nor new audio."""
    usage = Usage(100, 50, cache_read=40, input_audio=30, cache_read_audio=10, reasoning=20, output_audio=5)

    assert classes_of(usage) == [
        ("input", 40), ("cache_read", 30), ("input_audio", 20), ("cache_read_audio", 10),
        ("output", 25), ("reasoning", 20), ("output_audio", 5),
    ]  # fmt: skip


def test_warm_up() -> None:
    """The list can be loaded ahead of the first call."""
    warm_up()

    assert data_snapshot._bundled_snapshot.cache_info().currsize == 1
