"""Where a model is, as its constructor says, decides what it costs: through the handler and the real clients."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import mlflow
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from wire import Reply, Till, ToServer, chat, chunks, replay, say, tokens

USED = tokens(1000, 500)


def ask(base_url: str, model: str, *, stream: bool = False) -> Till:
    """One call of ChatOpenAI with this base URL, whose requests are brought to this machine."""
    reply = chunks(model, USED) if stream else chat(model, USED)
    with replay(reply) as url, httpx.Client(transport=ToServer(url)) as client:
        asked = ChatOpenAI(
            model=model, base_url=base_url, api_key="x", http_client=client, stream_usage=True, use_responses_api=False
        )
        return say(asked, "Hi", stream=stream)


@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:no price is known")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        pytest.param("http://localhost:8000/v1", "gpt-oss-20b", id="localhost"),
        pytest.param("http://127.0.0.1:8000/v1", "openai/gpt-oss-120b", id="loopback"),
        pytest.param("http://10.1.2.3:8000/v1", "gemma-3-27b-it", id="network"),
        pytest.param("http://192.168.1.3/v1", "mistralai/Mistral-7B-Instruct-v0.3", id="maker's-weights"),
        pytest.param("http://gpu.internal:8000/v1", "deepseek-ai/DeepSeek-R1", id="big-weights"),
        pytest.param("http://vllm:8000/v1", "meta-llama/Llama-3.3-70B-Instruct", id="container"),
    ],
)
def test_open_weights_on_own_machine_are_unpriced(base_url: str, model: str, stream: bool) -> None:
    """A model that anybody may host, on one's own machine, has no price: nobody sends a bill for it."""
    till = ask(base_url, model, stream=stream)
    (call,) = till.calls
    summary = till.handler.summary()

    assert (None, None, 1000, 500) == (call.input_usd, call.output_usd, call.input_tokens, call.output_tokens)
    assert (1, 0.0, (model,)) == (summary.unpriced_calls, summary.total_cost_usd, summary.unpriced_models)


HOSTS = [
    # 1000 in and 500 out, at USD per million: 0.59 and 0.79
    pytest.param("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", "0.000985", id="groq"),
    # 0.15 and 0.60
    pytest.param("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "0.00045", id="groq-open-weights"),
    # 0.88 and 0.88
    pytest.param("https://api.together.xyz/v1", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "0.00132", id="together"),
    # 0.15 and 0.60
    pytest.param("https://api.fireworks.ai/inference/v1", "accounts/fireworks/models/gpt-oss-120b", "0.00045", id="fireworks"),
    # 0.35 and 0.75
    pytest.param("https://api.cerebras.ai/v1", "gpt-oss-120b", "0.000725", id="cerebras"),
    # 0.60 and 2.50
    pytest.param("https://api.moonshot.ai/v1", "kimi-k2-0905-preview", "0.00185", id="moonshot"),
    # 0.60 and 2.20
    pytest.param("https://api.z.ai/api/paas/v4", "glm-4.6", "0.0017", id="z.ai"),
    # 0.15 and 0.60
    pytest.param("https://api.openai.com/v1", "gpt-4o-mini", "0.00045", id="openai"),
    pytest.param("https://llm.example.com/v1", "gpt-4o-mini", "0.00045", id="gateway"),
    pytest.param("http://127.0.0.1:4000/v1", "gpt-4o-mini", "0.00045", id="gateway-on-own-machine"),
    # 2.50 and 15
    pytest.param("https://api.openai.com/v1", "gpt-5.4", "0.01", id="openai-anywhere"),
    # 1.1 times that
    pytest.param("https://eu.api.openai.com/v1", "gpt-5.4", "0.011", id="openai-in-europe"),
    # 2.50 and 10: models before March 2026 cost the same everywhere.
    pytest.param("https://eu.api.openai.com/v1", "gpt-4o-2024-08-06", "0.0075", id="openai-in-europe-before"),
]  # fmt: skip


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("base_url", "model", "usd"), HOSTS)
def test_base_url_tells_whose_price_it_is(base_url: str, model: str, usd: str, stream: bool) -> None:
    """ChatOpenAI with another's base URL costs what that one asks, streamed or not."""
    assert Decimal(usd) == ask(base_url, model, stream=stream).total()


# --- where the price came from, as it is stored


def source_of(till: Till) -> str:
    trace = mlflow.get_trace(till.handler.summary().trace_id)
    assert trace is not None
    (span,) = trace.data.spans
    source: str = span.get_attribute("cost.price_source")
    return source


def azure(url: str) -> Any:
    return AzureChatOpenAI(azure_deployment="prod", azure_endpoint=url, api_version="2024-10-21", api_key="x")


def openrouter(url: str) -> Any:
    return ChatOpenAI(model="anthropic/claude-sonnet-4.5", base_url=f"{url}/api/v1", api_key="x")


BILL = {**tokens(1000, 200), "cost": 0.00371, "cost_details": {"upstream_inference_cost": None}, "is_byok": False}
SOURCES = [
    pytest.param(azure, chat("gpt-4o-2024-08-06", USED), "genai-prices 0.2.3 (azure/gpt-4o)", id="azure"),
    pytest.param(openrouter, chat("anthropic/claude-sonnet-4.5", BILL, tier=None), "bill in the response", id="bill"),
]


@pytest.mark.parametrize(("client", "reply", "source"), SOURCES)
def test_source_of_the_price_is_stored(store: str, client: Any, reply: Reply, source: str) -> None:
    """The span of a call says where its price came from."""
    with replay(reply) as url:
        till = say(client(url), "Hi")

    assert source == source_of(till)


@pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")
def test_what_is_stored_costs_the_same(store: str) -> None:
    """The span holds the exact sum that the handler tells."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }
    with replay(Reply(body)) as url:
        till = say(ChatAnthropic(model="claude-haiku-4-5", base_url=url, api_key="x"), "Hi")
    (span,) = mlflow.get_trace(till.handler.summary().trace_id).data.spans

    # 1 in, 5 out: 1000 * 1e-6 + 100 * 5e-6
    assert Decimal("0.0015") == till.total()
    assert pytest.approx(0.0015, rel=1e-9) == span.get_attribute("mlflow.llm.cost")["total_cost"]
