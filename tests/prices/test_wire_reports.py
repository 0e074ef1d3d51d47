"""Situations of public reports, through the real clients: usage that is told more than once, gateways, tiers, odd fields.

Each was reported of LangChain, LiteLLM, Langfuse or a gateway; what it should cost is worked out by hand.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anthropic import Anthropic, DefaultHttpxClient
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr
from wire import Reply, ToServer, chat, chunks, replay, say, tokens

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning", "ignore:no price is known"),
]


CLIENTS: list[Any] = []


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def opened(client: Any) -> Any:
    CLIENTS.append(client)
    return client


def openai(model: str, base_url: str | None = None, **more: Any) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        if base_url is not None:
            more["http_client"] = opened(httpx.Client(transport=ToServer(url)))
        more.setdefault("use_responses_api", False)
        return ChatOpenAI(
            model=model,
            base_url=base_url or f"{url}/v1",
            api_key=SecretStr("x"),
            max_retries=0,
            stream_usage=True,
            **more,
        )

    return make


def azure(deployment: str, **more: Any) -> Callable[[str], Any]:
    return lambda url: AzureChatOpenAI(
        azure_deployment=deployment, azure_endpoint=url, api_version="2024-10-21", api_key=SecretStr("x"), **more
    )


def sent_to(url: str) -> Any:
    """A client of the HTTP library that Anthropic's package is made with, which sends all to this server."""

    def redirect(request: Any) -> None:
        server = httpx.URL(url)
        request.url = request.url.copy_with(scheme="http", host=server.host, port=server.port)

    return opened(DefaultHttpxClient(event_hooks={"request": [redirect]}))


def anthropic(model: str, base_url: str | None = None) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        client: Any = ChatAnthropic
        made = client(model=model, base_url=base_url or url, api_key="x", max_retries=0, max_tokens=1000)
        if base_url is not None:
            to_server = Anthropic(api_key="x", base_url=base_url, http_client=sent_to(url), max_retries=0)
            made.__dict__["_client"] = to_server
        return made

    return make


def told(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def cached(prompt: int, completion: int, read: int) -> dict[str, Any]:
    return told(prompt, completion, prompt_tokens_details={"cached_tokens": read})


def each(model: str, *usages: Any, last: Any = None) -> Reply:
    """A stream whose every chunk may tell usage; `last` comes in a chunk without text."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model}
    events: list[Any] = []
    for number, usage in enumerate(usages, 1):
        end = "stop" if number == len(usages) else None
        delta = {"role": "assistant", "content": "word "}
        events.append({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": end}], "usage": usage})
    if last is not None:
        events.append({**base, "choices": [], "usage": last})
    return Reply(events=[*events, "[DONE]"])


GEMINI, XAI = "https://generativelanguage.googleapis.com/v1beta/openai/", "https://api.x.ai/v1"
GROWING = [told(713, number) for number in range(1, 41)]
STREAMS = {
    # gpt-4o, 2.50 in, 10 out: 713 * 2.5e-6 + 40 * 10e-6
    "grows-with-each-chunk": (openai("gpt-4o"), each("gpt-4o", *GROWING), "0.0021825"),
    "one-token-a-chunk": (openai("gpt-4o"), each("gpt-4o", *[told(713, 1)] * 40), "0.0021825"),
    # 1000 * 2.5e-6 + 200 * 10e-6
    "with-the-last-two-chunks": (openai("gpt-4o"), each("gpt-4o", None, told(1000, 200), last=told(1000, 200)), "0.0045"),
    "zeros-first": (openai("gpt-4o"), each("gpt-4o", told(0, 0), told(0, 0), last=told(1000, 200)), "0.0045"),
    "prompt-first-and-answer-last": (openai("gpt-4o"), each("gpt-4o", told(1000, 0), last=told(0, 200)), "0.0045"),
    # 200 * 2.5e-6 + 800 * 1.25e-6 + 200 * 10e-6
    "cached-with-each-chunk": (
        openai("gpt-4o"), each("gpt-4o", *[cached(1000, output, 800) for output in (1, 5, 200)]), "0.0035",
    ),
    # 0.30 in, 2.50 out: 1000 * 0.3e-6 + 200 * 2.5e-6
    "gemini's-endpoint": (
        openai("gemini-2.5-flash", GEMINI), each("gemini-2.5-flash", *[told(1000, output) for output in (10, 60, 200)]), "0.0008",
    ),
    # 3 in, 15 out: 1000 * 3e-6 + 200 * 15e-6
    "xai's-endpoint": (
        openai("grok-4", XAI), each("grok-4-0709", *[told(1000, output) for output in (10, 60, 200)]), "0.006",
    ),
}  # fmt: skip


@pytest.mark.parametrize("as_stream", [True, False], ids=["stream", "invoke"])
@pytest.mark.parametrize(("make", "reply", "usd"), STREAMS.values(), ids=STREAMS.keys())
def test_usage_that_a_stream_tells_again_counts_once(make: Any, reply: Reply, usd: str, as_stream: bool) -> None:
    """LangChain adds up what all chunks report; a provider that reports all of it each time is not paid as often."""
    with replay(reply) as url:
        model = make(url)
        if not as_stream:
            model.streaming = True
        till = say(model, "Hi", stream=as_stream)

    assert till.total() == Decimal(usd)
    assert not till.calls[0].estimated


def test_a_broken_stream_that_told_usage_again_counts_it_once() -> None:
    """Left after 16 of 40 chunks: 713 tokens once, and a quarter of the 80 characters, more than it had told."""
    till: list[Any] = []
    handler = MlflowCostHandler({"autolog_enabled": False}, on_cost=till.append)
    with replay(each("gpt-4o", *GROWING)) as url:
        stream = openai("gpt-4o")(url).stream("Hi", {"callbacks": [handler]})
        for _ in range(16):
            next(stream)
        stream.close()

    assert (till[0].input_tokens, till[0].output_tokens, till[0].estimated) == (713, 20, True)


USED = told(1000, 200)
ACME = "https://llm.acme.example/v1"
CALLS = {
    # An unknown snapshot is the model that was asked for. gpt-4o: 1000 * 2.5e-6 + 200 * 10e-6
    "unknown-snapshot": (openai("gpt-4o"), chat("gpt-4o-2031-01-01", USED), "0.0045"),
    "no-model-in-the-response": (openai("gpt-4o"), chat("", USED), "0.0045"),
    "no-total": (openai("gpt-4o"), chat("gpt-4o", {"prompt_tokens": 1000, "completion_tokens": 200}), "0.0045"),
    "null-details": (
        openai("gpt-4o"),
        chat("gpt-4o", {**USED, "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}), "0.0045",
    ),
    # Rejected predictions are among the completion tokens, and paid.
    "rejected-predictions": (
        openai("gpt-4o"), chat("gpt-4o", {**USED, "completion_tokens_details": {"rejected_prediction_tokens": 90}}), "0.0045",
    ),
    # o3: 75 * 2e-6 + 1000 * 8e-6, none of which is text
    "reasoning-alone": (openai("o3"), chat("o3-2025-04-16", tokens(75, 1000, reasoning=1000)), "0.00815"),
    # gpt-5: 1000 * 1.25e-6 + 200 * 10e-6
    "auto-served-as-default": (openai("gpt-5", service_tier="auto"), chat("gpt-5-2025-08-07", USED), "0.00325"),
    "priority-served-as-default": (openai("gpt-5", service_tier="priority"), chat("gpt-5-2025-08-07", USED), "0.00325"),
    "scale": (openai("gpt-5", service_tier="auto"), chat("gpt-5-2025-08-07", USED, tier="scale"), "0.00325"),
    "portkey": (openai("@openai-prod/gpt-4o", "https://api.portkey.ai/v1"), chat("gpt-4o-2024-08-06", USED, tier=None), "0.0045"),
    "helicone": (openai("gpt-4o", "https://oai.helicone.ai/v1"), chat("gpt-4o-2024-08-06", USED), "0.0045"),
    "vercel": (openai("openai/gpt-4o", "https://ai-gateway.vercel.sh/v1"), chat("openai/gpt-4o", USED, tier=None), "0.0045"),
    "github": (openai("openai/gpt-4o", "https://models.github.ai/inference"), chat("gpt-4o-2024-11-20", USED), "0.0045"),
    "azure-v1": (openai("gpt-4o", "https://acme.openai.azure.com/openai/v1/"), chat("gpt-4o-2024-08-06", USED), "0.0045"),
    # us. profile: 3.30 in, 16.50 out
    "litellm-bedrock": (
        openai("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", ACME),
        chat("us.anthropic.claude-sonnet-4-5-20250929-v1:0", USED, tier=None), "0.0066",
    ),
    "litellm-vertex": (openai("vertex_ai/gemini-2.5-flash", ACME), chat("gemini-2.5-flash", USED, tier=None), "0.0008"),
    "litellm-anthropic": (
        openai("anthropic/claude-sonnet-4-5", ACME), chat("claude-sonnet-4-5-20250929", USED, tier=None), "0.006",
    ),
    # Others' prices for a model of that name are nobody's business.
    "nvidia": (
        openai("nvidia/llama-3.1-nemotron-70b-instruct", "https://integrate.api.nvidia.com/v1"),
        chat("nvidia/llama-3.1-nemotron-70b-instruct", USED, tier=None), None,
    ),
    "hugging-face": (
        openai("meta-llama/llama-3.3-70b-instruct", "https://router.huggingface.co/v1"),
        chat("meta-llama/llama-3.3-70b-instruct", USED, tier=None), None,
    ),
    "azure-fine-tune": (azure("my-ft"), chat("gpt-35-turbo.ft-0123456789abcdef", USED), None),
    "lm-studio": (openai("openai/gpt-oss-20b", "http://localhost:1234/v1"), chat("openai/gpt-oss-20b", USED, tier=None), None),
    # gpt-3.5-turbo as Azure spells it: 1000 * 0.5e-6 + 200 * 1.5e-6
    "azure-35": (azure("chat"), chat("gpt-35-turbo", USED), "0.0008"),
    # 1000 * 2e-6 + 200 * 8e-6
    "azure-model-told": (azure("prod", model="gpt-4.1"), chat("gpt-4.1-2025-04-14", USED), "0.0036"),
    "free-by-its-bill": (
        openai("deepseek/deepseek-r1:free", "https://openrouter.ai/api/v1"),
        chat("deepseek/deepseek-r1:free", {**USED, "cost": 0}, tier=None), "0",
    ),
    "bill-of-deepinfra": (
        openai("meta-llama/Meta-Llama-3.1-70B-Instruct", "https://api.deepinfra.com/v1/openai"),
        chat("meta-llama/Meta-Llama-3.1-70B-Instruct", {**USED, "estimated_cost": 0.00041}, tier=None), "0.00041",
    ),
    # By MLflow's catalogue. 0.13 in, 0.40 out
    "nebius": (
        openai("meta-llama/Llama-3.3-70B-Instruct", "https://api.studio.nebius.com/v1"),
        chat("meta-llama/Llama-3.3-70B-Instruct", USED, tier=None), "0.00021",
    ),
    # 0.60 in, 1.20 out
    "sambanova": (
        openai("Meta-Llama-3.3-70B-Instruct", "https://api.sambanova.ai/v1"),
        chat("Meta-Llama-3.3-70B-Instruct", USED, tier=None), "0.00084",
    ),
    # 0.40 in, 1.20 out
    "dashscope": (
        openai("qwen-plus", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"), chat("qwen-plus", USED, tier=None), "0.00064",
    ),
    # 0.30 in, 1.20 out
    "minimax": (openai("MiniMax-M2", "https://api.minimax.io/v1"), chat("MiniMax-M2", USED, tier=None), "0.00054"),
    "not-minimax": (openai("MiniMax-M2", "https://notminimax.io/v1"), chat("MiniMax-M2", USED, tier=None), None),
}  # fmt: skip


@pytest.mark.parametrize(("make", "reply", "usd"), CALLS.values(), ids=CALLS.keys())
def test_reported_situations(make: Any, reply: Reply, usd: str | None) -> None:
    """What was reported costs what it cost; None where nobody can know."""
    with replay(reply) as url:
        till = say(make(url), "Hi")

    assert (None if till.calls[0].input_usd is None else till.total()) == (None if usd is None else Decimal(usd))


def claude(usage: dict[str, Any], model: str = "claude-sonnet-4-5-20250929") -> Reply:
    text = [{"type": "text", "text": "Hello."}]
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn"}
    return Reply({**about, "stop_sequence": None, "content": text, "usage": usage})


PLAIN = {"input_tokens": 1000, "output_tokens": 200}
NULLS = dict.fromkeys(
    ("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use", "service_tier")
)
SPLIT_OF_ZEROS = {
    "input_tokens": 335,
    "output_tokens": 690,
    "cache_creation_input_tokens": 12_229,
    "cache_read_input_tokens": 14_942,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
}
FETCHES = {"web_search_requests": 0, "web_fetch_requests": 3}
MESSAGES = {
    # Haiku 4.5, 1, 1.25, 0.10, 5, and a search of 0.01:
    # 335e-6 + 12229 * 1.25e-6 + 14942 * 0.1e-6 + 690 * 5e-6 + 0.01
    "split-of-zeros": (anthropic("claude-haiku-4-5"), claude(SPLIT_OF_ZEROS, "claude-haiku-4-5-20251001"), "0.03056545"),
    # Sonnet 4.5: 1000 * 3e-6 + 200 * 15e-6
    "nulls": (anthropic("claude-sonnet-4-5"), claude({**PLAIN, **NULLS}), "0.006"),
    "thinking": (anthropic("claude-sonnet-4-5"), claude({**PLAIN, "output_tokens_details": {"thinking_tokens": 150}}), "0.006"),
    "fetching-is-free": (anthropic("claude-sonnet-4-5"), claude({**PLAIN, "server_tool_use": FETCHES}), "0.006"),
    "litellm": (anthropic("claude-sonnet-4-5", "https://llm.acme.example"), claude(PLAIN), "0.006"),
    "openrouter": (
        anthropic("anthropic/claude-sonnet-4.5", "https://openrouter.ai/api"), claude(PLAIN, "anthropic/claude-sonnet-4.5"), "0.006",
    ),
    # GLM-4.6: 1000 * 0.6e-6 + 200 * 2.2e-6
    "z.ai": (anthropic("glm-4.6", "https://api.z.ai/api/anthropic"), claude(PLAIN, "glm-4.6"), "0.00104"),
    # Kimi K2: 1000 * 0.6e-6 + 200 * 2.5e-6
    "moonshot": (
        anthropic("kimi-k2-0905-preview", "https://api.moonshot.ai/anthropic"), claude(PLAIN, "kimi-k2-0905-preview"), "0.0011",
    ),
    "minimax": (anthropic("MiniMax-M2", "https://api.minimax.io/anthropic"), claude(PLAIN, "MiniMax-M2"), "0.00054"),
    "ollama": (anthropic("qwen3-coder:30b"), claude(PLAIN, "qwen3-coder:30b"), None),
}  # fmt: skip


@pytest.mark.parametrize(("make", "reply", "usd"), MESSAGES.values(), ids=MESSAGES.keys())
def test_reported_situations_of_messages(make: Any, reply: Reply, usd: str | None) -> None:
    """The same of Anthropic's client, also in front of others, who have an endpoint for it."""
    test_reported_situations(make, reply, usd)


def test_alias_of_a_deployment_beats_what_azure_calls_it() -> None:
    """Azure answered `gpt-4` for a deployment of GPT-4 Turbo, three times its price: 1000 * 10e-6 + 200 * 30e-6."""
    with replay(chat("gpt-4", USED)) as url:
        till = say(azure("GPT4-TURBO")(url), "Hi", aliases={"GPT4-TURBO": "azure/gpt-4-turbo"})

    assert till.total() == Decimal("0.016")


@pytest.mark.parametrize("written", ["deepseek/deepseek-chat", "deepseek-chat", "anthropic/deepseek-chat"])
def test_an_override_may_name_who_answers(written: str) -> None:
    """Behind another's client: by who answers, by whose client it is, or by the model alone. 1000 * 1e-6 + 200 * 2e-6."""
    with replay(claude(PLAIN, "deepseek-chat")) as url:
        model = anthropic("deepseek-chat", "https://api.deepseek.com/anthropic")(url)
        till = say(model, "Hi", overrides={written: {"input": 1, "output": 2}})

    assert till.total() == Decimal("0.0014")


def test_azures_chunk_without_choices() -> None:
    """Azure's stream begins with the verdict of its filter, without choices or a model."""
    verdict = {"id": "", "object": "", "created": 0, "model": "", "prompt_filter_results": [], "choices": []}
    reply = chunks("gpt-4o-2024-08-06", USED)
    assert reply.events is not None
    with replay(Reply(events=[verdict, *reply.events])) as url:
        till = say(azure("prod", stream_usage=True)(url), "Hi", stream=True)

    assert till.total() == Decimal("0.0045")
