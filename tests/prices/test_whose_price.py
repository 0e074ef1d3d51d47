"""Whose price a call gets, where only MLflow's catalogue knows one or LiteLLM's names say who answers."""

from __future__ import annotations

from decimal import Decimal

import mlflow
import pytest
from langchain_openai import ChatOpenAI
from wire import chat, replay, say, tokens

from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

USED = CallResult(usage=Usage(1000, 500))
CATALOGUE = f"mlflow {mlflow.__version__} catalogue"

BY_CATALOGUE = [
    # 0.60 and 1.70 a million at Together; SambaNova, whose name without a vendor is the same, asks 3 and 4.50.
    pytest.param("together", "deepseek-ai/DeepSeek-V3.1", "0.00145", "together_ai/deepseek-ai/DeepSeek-V3.1", id="together"),
    pytest.param("sambanova", "DeepSeek-V3.1", "0.00525", "sambanova/DeepSeek-V3.1", id="sambanova"),
    # 0.56 and 1.68
    pytest.param("fireworks", "accounts/fireworks/models/deepseek-v3p1", "0.0014", "fireworks_ai/accounts/fireworks/models/deepseek-v3p1", id="fireworks"),
    # 0.60 and 2.50
    pytest.param("aws", "moonshot.kimi-k2-thinking", "0.00185", "bedrock/moonshot.kimi-k2-thinking", id="bedrock"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usd", "label"), BY_CATALOGUE)
def test_catalogue_has_the_provider_by_another_name(provider: str, model: str, usd: str, label: str) -> None:
    """MLflow's names for providers are not ours, and the label says whose price it is."""
    priced = PriceBook(fallback=catalogue_rates).price(CallRequest(provider, model), USED)

    assert priced.cost is not None
    assert Decimal(usd) == priced.cost.total_usd
    assert f"{CATALOGUE} ({label})" == priced.source


@pytest.mark.parametrize("provider", ["huggingface", "some-gateway", "openai", None])
def test_no_price_of_a_stranger(provider: str | None) -> None:
    """A model that others sell is unpriced where its own seller is in no list."""
    request = CallRequest(provider, "deepseek-ai/DeepSeek-V3.1", host="llm.example.com")

    assert PriceBook(fallback=catalogue_rates).price(request, USED).cost is None


ROUTED = [
    pytest.param("hosted_vllm/deepseek-chat", None, id="vllm"),
    pytest.param("lm_studio/gpt-4o", None, id="lm-studio"),
    pytest.param("llamafile/mistral-large-latest", None, id="llamafile"),
    pytest.param("ollama/deepseek-chat", None, id="ollama"),
    # 0.15 and 0.60
    pytest.param("fireworks_ai/accounts/fireworks/models/gpt-oss-120b", "0.00045", id="fireworks"),
    # 0.60 and 1.70
    pytest.param("together_ai/deepseek-ai/DeepSeek-V3.1", "0.00145", id="together"),
    # 0.59 and 0.79
    pytest.param("groq/llama-3.3-70b-versatile", "0.000985", id="groq"),
    # 3.30 and 16.50: a profile of a region
    pytest.param("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "0.01155", id="bedrock"),
]


@pytest.mark.parametrize("provider", ["litellm", "litellm-chat", "openai"])
@pytest.mark.parametrize(("model", "usd"), ROUTED)
def test_litellm_names_say_who_answers(provider: str, model: str, usd: str | None) -> None:
    """The prefix of LiteLLM's names tells the provider, by its client and by a proxy; one's own machines send no bill."""
    host = "llm.example.com" if provider == "openai" else None
    bare = model.rpartition("/")[2]
    for response_model in (None, model, bare):
        result = CallResult(usage=Usage(1000, 500), response_model=response_model)
        cost = PriceBook(fallback=catalogue_rates).price(CallRequest(provider, model, host=host), result).cost

        assert (usd and Decimal(usd)) == (cost and cost.total_usd)


@pytest.mark.parametrize("written", ["hosted_vllm/qwen", "qwen", "Hosted_vLLM/Qwen"])
def test_a_routed_model_is_priced_by_the_policy(written: str) -> None:
    """The policy may write it with its prefix or without."""
    book = PriceBook(overrides={written: {"input": 1, "output": 2}})
    cost = book.price(CallRequest("litellm", "hosted_vllm/qwen"), USED).cost

    assert cost is not None
    assert Decimal("0.002") == cost.total_usd


@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:no price is known")
@pytest.mark.parametrize(("model", "usd"), ROUTED)
def test_litellm_names_through_a_proxy(model: str, usd: str | None) -> None:
    """The same through the handler and the client of OpenAI's language."""
    with replay(chat(model, tokens(1000, 500), tier=None)) as url:
        till = say(ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="x"), "Hi")
    summary = till.handler.summary()

    assert (usd is None) == bool(summary.unpriced_calls)
    if usd is not None:
        assert Decimal(usd) == till.total()
