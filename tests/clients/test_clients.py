"""What the real clients make of recorded answers, and what each call really cost."""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from wire import Reply, Till, chat, chunks, replay, say, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

# The clients warn of their own dependencies.
pytestmark = [pytest.mark.usefixtures("untraced"), pytest.mark.filterwarnings("ignore")]


def client(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"{module} is not importable here ({error}): scripts/clients_env.sh makes an environment with it")


@dataclass
class Case:
    """A client, what it is answered, and the USD that this costs, worked out by hand."""

    module: str
    name: str
    arguments: Callable[[str], dict[str, Any]]
    reply: Reply
    usd: str
    stream: bool = False
    estimated: bool = False
    prices: dict[str, Any] = field(default_factory=dict)


def gemini(usage: dict[str, Any], *, parts: Any = ({"text": "Hi."},), **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r1"}


def google(model: str) -> Any:
    return lambda url: {"model": model, "google_api_key": "x", "base_url": url, "max_retries": 0}


def bedrock(model: str, **more: Any) -> Any:
    return lambda url: {
        "model": model, "region_name": "us-east-1", "endpoint_url": url, "aws_access_key_id": "x", "aws_secret_access_key": "x", **more,
    }  # fmt: skip


SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi."}]}},
    "stopReason": "end_turn",
    "metrics": {"latencyMs": 10},
    "usage": {"inputTokens": 1000, "outputTokens": 200, "totalTokens": 6200, "cacheReadInputTokens": 5000, "cacheWriteInputTokens": 0},
}  # fmt: skip
COUNTED = {
    "x-amzn-bedrock-input-token-count": "1000",
    "x-amzn-bedrock-output-token-count": "200",
    "x-amzn-bedrock-cache-read-input-token-count": "5000",
}
CLAUDE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hi."}],
    "usage": {"input_tokens": 1000, "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 0, "output_tokens": 200},
}  # fmt: skip
DETAILS = {
    "upstream_inference_cost": 0.0360795,
    "upstream_inference_prompt_cost": 0.03,
    "upstream_inference_completions_cost": 0.0060795,
}
OPENROUTER_BYOK = {
    **tokens(1000, 200),
    "cost": 0,
    "is_byok": True,
    "cost_details": DETAILS,
}
COHERE = {
    "id": "c1", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
    "usage": {"billed_units": {"input_tokens": 900, "output_tokens": 200}, "tokens": {"input_tokens": 1000, "output_tokens": 200}},
}  # fmt: skip
COHERE_STREAM = [
    {
        "type": "message-start",
        "id": "c1",
        "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
    },
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi."}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE["usage"]}},
]
OLLAMA = {
    "model": "llama3.1:8b", "created_at": "2026-11-20T10:00:00Z", "message": {"role": "assistant", "content": "Hi."}, "done": True,
    "done_reason": "stop", "prompt_eval_count": 1000, "eval_count": 200, "total_duration": 5, "load_duration": 1,
}  # fmt: skip
AT_1_AND_2 = {"input": 1, "cache_read": "0.1", "output": 2}
DEEPSEEK = {
    "prompt_tokens": 10_000,
    "completion_tokens": 100,
    "total_tokens": 10_100,
    "prompt_cache_hit_tokens": 9000,
    "prompt_cache_miss_tokens": 1000,
}
DATABRICKS = {
    "prompt_tokens": 10_500,
    "completion_tokens": 100,
    "total_tokens": 10_600,
    "cache_read_input_tokens": 10_000,
    "cache_creation_input_tokens": 0,
}

# sonar: a bill, as its API tells it, of which 0.005 is the request's.
SONAR = {
    "prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, "search_context_size": "low", "num_search_queries": 1,
    "cost": {"input_tokens_cost": 0.001, "output_tokens_cost": 0.0002, "request_cost": 0.005, "total_cost": 0.0062},
}  # fmt: skip
RESEARCH = {
    "prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500, "reasoning_tokens": 10_000, "citation_tokens": 2000,
    "num_search_queries": 20, "search_context_size": "low",
}  # fmt: skip


def perplexity(model: str, **more: Any) -> Any:
    def arguments(url: str) -> dict[str, Any]:
        made = client("perplexity", "Perplexity")(api_key="x", base_url=url, max_retries=0)
        return {"model": model, "api_key": "x", "client": made, **more}

    return arguments


def growing(model: str, usage: dict[str, Any]) -> Reply:
    """A stream of Perplexity's: each chunk tells the usage so far, the last one the bill too."""
    reply = chunks(model, None, tier=None)
    told = {key: value for key, value in usage.items() if key != "cost"}
    for number, event in enumerate(reply.events[:-1], start=1):
        event["usage"] = {**told, "completion_tokens": usage["completion_tokens"] * number // 3}
        event["usage"]["total_tokens"] = event["usage"]["prompt_tokens"] + event["usage"]["completion_tokens"]
    reply.events[-2]["usage"] = usage
    return reply


class EventStream(Reply):
    """Events as AWS frames them: a length, that of the headers, a checksum, headers, JSON, a checksum."""

    def encode(self) -> tuple[str, bytes]:
        framed = b""
        for name, body in self.events:
            payload = json.dumps(body).encode()
            headers = b""
            for key, value in (
                (":event-type", name),
                (":content-type", "application/json"),
                (":message-type", "event"),
            ):
                headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
            prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
            frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
            framed += frame + struct.pack(">I", zlib.crc32(frame))
        return "application/vnd.amazon.eventstream", framed


def converse_stream(usage: dict[str, int]) -> EventStream:
    return EventStream(
        events=[
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi."}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 10}}),
        ]
    )


# 4,995 were sent, of which 4,993 came from the cache: as OpenAI's models at Bedrock have them, in the input and beside it.
TWICE = {
    "inputTokens": 4995,
    "outputTokens": 12,
    "totalTokens": 10_000,
    "cacheReadInputTokens": 4993,
    "cacheWriteInputTokens": 0,
}

CASES = {
    # 0.30 in, 0.03 cached, 2.50 out, thoughts among them: 400 * 0.3e-6 + 600 * 0.03e-6 + 1985 * 2.5e-6
    "gemini": Case(
        "langchain_google_genai", "ChatGoogleGenerativeAI", google("gemini-2.5-flash"),
        Reply(gemini({"promptTokenCount": 1000, "candidatesTokenCount": 85, "thoughtsTokenCount": 1900, "cachedContentTokenCount": 600, "totalTokenCount": 2985})),
        "0.0051005",
    ),
    # 30 an image token: 1290 * 30e-6
    "gemini-image": Case(
        "langchain_google_genai", "ChatGoogleGenerativeAI", google("gemini-2.5-flash-image"),
        Reply({
            **gemini(
                {"promptTokenCount": 0, "candidatesTokenCount": 1290, "totalTokenCount": 1290, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]},
                parts=[{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
            ),
            "modelVersion": "gemini-2.5-flash-image",
        }),
        "0.0387",
    ),
    # 3.30 in, 0.33 cached, 16.50 out: 1000 * 3.3e-6 + 5000 * 0.33e-6 + 200 * 16.5e-6
    "bedrock-converse": Case("langchain_aws", "ChatBedrockConverse", bedrock(SONNET), Reply(CONVERSE), "0.00825"),
    "bedrock-invoke": Case("langchain_aws", "ChatBedrock", bedrock(SONNET), Reply(CLAUDE, headers=COUNTED), "0.00825"),
    # mistral-small-2506 at the prices below; the raw usage has what the integration drops: 400 + 600 * 0.1 + 200 * 2
    "mistral": Case(
        "langchain_mistralai", "ChatMistralAI", lambda url: {"model": "mistral-x", "api_key": "x", "endpoint": f"{url}/v1"},
        chat("mistral-x", {**tokens(1000, 200), "num_cached_tokens": 600, "prompt_tokens_details": None}, tier=None), "0.00086",
        prices={"overrides": {"mistral-x": AT_1_AND_2}},
    ),
    # 0.15 in, 0.60 out
    "bedrock-openai": Case(
        "langchain_aws", "ChatBedrockConverse", bedrock("openai.gpt-oss-120b-1:0"),
        Reply({**CONVERSE, "usage": {"inputTokens": 1000, "outputTokens": 500, "totalTokens": 1500}}), "0.00045",
    ),
    "bedrock-openai-stream": Case(
        "langchain_aws", "ChatBedrockConverse", bedrock("openai.gpt-oss-120b-1:0"),
        converse_stream({"inputTokens": 1000, "outputTokens": 500, "totalTokens": 1500}), "0.00045", stream=True,
    ),
    "bedrock-openai-invoke": Case(
        "langchain_aws", "ChatBedrock", bedrock("openai.gpt-oss-120b-1:0"),
        Reply(
            chat("openai.gpt-oss-120b-1:0", tokens(1000, 500)).body,
            headers={"x-amzn-bedrock-input-token-count": "1000", "x-amzn-bedrock-output-token-count": "500"},
        ),
        "0.00045",
    ),
    # 2.75 in, 0.275 cached, 16.50 out: 2 * 2.75e-6 + 4993 * 0.275e-6 + 12 * 16.5e-6
    "bedrock-openai-cached": Case(
        "langchain_aws", "ChatBedrockConverse", bedrock("openai.gpt-5.4"), Reply({**CONVERSE, "usage": TWICE}), "0.001576575",
    ),
    "bedrock-openai-cached-stream": Case(
        "langchain_aws", "ChatBedrockConverse", bedrock("openai.gpt-5.4"), converse_stream(TWICE), "0.001576575", stream=True,
    ),
    "perplexity": Case("langchain_perplexity", "ChatPerplexity", perplexity("sonar"), chat("sonar", SONAR, tier=None), "0.0062"),
    # The bill does not arrive: 1 in, 1 out and 0.005 for a request with little context, 1000e-6 + 200e-6 + 0.005
    "perplexity-stream": Case("langchain_perplexity", "ChatPerplexity", perplexity("sonar"), growing("sonar", SONAR), "0.0062", stream=True),
    # 3 in, 15 out and 0.006: 1000 * 3e-6 + 200 * 15e-6 + 0.006
    "perplexity-pro-stream": Case(
        "langchain_perplexity", "ChatPerplexity", perplexity("sonar-pro"), growing("sonar-pro", SONAR), "0.012", stream=True,
    ),
    # 2 in, 8 out, 2 a citation, 3 a thought, 0.005 a search: 0.002 + 0.004 + 2000 * 2e-6 + 10000 * 3e-6 + 20 * 0.005
    "perplexity-research": Case(
        "langchain_perplexity", "ChatPerplexity", perplexity("sonar-deep-research"),
        chat("sonar-deep-research", RESEARCH, tier=None), "0.14",
    ),
    "perplexity-research-stream": Case(
        "langchain_perplexity", "ChatPerplexity", perplexity("sonar-deep-research"),
        growing("sonar-deep-research", RESEARCH), "0.14", stream=True,
    ),
    # 0.15 in, 0.60 out
    "groq": Case(
        "langchain_groq", "ChatGroq", lambda url: {"model": "openai/gpt-oss-120b", "api_key": "x", "base_url": url},
        chat("openai/gpt-oss-120b", tokens(1000, 500), tier=None), "0.00045",
    ),
    # Its prices go by the hour: at the prices below, 1000 + 9000 * 0.1 + 100 * 2
    "deepseek": Case(
        "langchain_deepseek", "ChatDeepSeek", lambda url: {"model": "deepseek-chat", "api_key": "x", "api_base": f"{url}/v1"},
        chat("deepseek-chat", DEEPSEEK, tier=None), "0.0021", prices={"overrides": {"deepseek-chat": AT_1_AND_2}},
    ),
    # 10^10 ticks a dollar
    "xai": Case(
        "langchain_xai", "ChatXAI", lambda url: {"model": "grok-4", "api_key": "x", "xai_api_base": f"{url}/v1"},
        chat("grok-4", {**tokens(1000, 200), "cost_in_usd_ticks": 37_756_000}, tier=None), "0.0037756",
    ),
    # At the prices below: 1000 + 200 * 2
    "ollama": Case(
        "langchain_ollama", "ChatOllama", lambda url: {"model": "llama3.1:8b", "base_url": url}, Reply(OLLAMA), "0.0014",
        prices={"overrides": {"ollama/llama3.1:8b": AT_1_AND_2}},
    ),
    # 2.50 in, 10 out: by the tokens, for the billed units do not arrive
    "cohere": Case(
        "langchain_cohere", "ChatCohere", lambda url: {"model": "command-r-plus-08-2024", "cohere_api_key": "x", "base_url": url},
        Reply(COHERE), "0.0045",
    ),
    "cohere-stream": Case(
        "langchain_cohere", "ChatCohere", lambda url: {"model": "command-r-plus-08-2024", "cohere_api_key": "x", "base_url": url},
        Reply(events=COHERE_STREAM), "0.00425", stream=True,  # 900 * 2.5e-6 + 200 * 10e-6: its stream tells the billed units
    ),
    # 0.15 in, 0.60 out
    "fireworks": Case(
        "langchain_fireworks", "ChatFireworks",
        lambda url: {"model": "accounts/fireworks/models/gpt-oss-120b", "api_key": "x", "base_url": f"{url}/v1"},
        chat("accounts/fireworks/models/gpt-oss-120b", tokens(1000, 500), tier=None), "0.00045",
    ),
    # 0.60 in, 1.70 out: of MLflow's catalogue, Together's and not SambaNova's
    "together": Case(
        "langchain_together", "ChatTogether", lambda url: {"model": "deepseek-ai/DeepSeek-V3.1", "api_key": "x", "base_url": f"{url}/v1"},
        chat("deepseek-ai/DeepSeek-V3.1", tokens(1000, 500), tier=None), "0.00145",
    ),
    "openrouter": Case(
        "langchain_openrouter", "ChatOpenRouter", lambda url: {"model": "anthropic/claude-sonnet-4.5", "api_key": "x", "base_url": f"{url}/v1"},
        chat("anthropic/claude-sonnet-4.5", OPENROUTER_BYOK, tier=None), "0.0360795",
    ),
    "openrouter-stream": Case(
        "langchain_openrouter", "ChatOpenRouter", lambda url: {"model": "anthropic/claude-sonnet-4.5", "api_key": "x", "base_url": f"{url}/v1"},
        chunks("anthropic/claude-sonnet-4.5", OPENROUTER_BYOK, tier=None), "0.0360795", stream=True,
    ),
    # 0.15 in, 0.60 out
    "litellm-fireworks": Case(
        "langchain_litellm", "ChatLiteLLM",
        lambda url: {"model": "fireworks_ai/accounts/fireworks/models/gpt-oss-120b", "api_key": "x", "api_base": f"{url}/v1"},
        chat("accounts/fireworks/models/gpt-oss-120b", tokens(1000, 500), tier=None), "0.00045",
    ),
}  # fmt: skip


def call(case: Case) -> Till:
    made = client(case.module, case.name)
    with replay(case.reply) as url:
        return say(made(**case.arguments(url)), "Hi", stream=case.stream, **case.prices)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_real_client_costs_what_it_cost(case: Case) -> None:
    """The client's own way to tell the usage leads to the right USD."""
    till = call(case)

    assert Decimal(case.usd) == till.total()
    assert case.estimated == till.calls[0].estimated


OWN = {
    "ollama": Case("langchain_ollama", "ChatOllama", lambda url: {"model": "llama3.1:8b", "base_url": url}, Reply(OLLAMA), ""),
    "vllm": Case(
        "langchain_litellm", "ChatLiteLLM", lambda url: {"model": "hosted_vllm/deepseek-chat", "api_key": "x", "api_base": f"{url}/v1"},
        chat("deepseek-chat", tokens(1000, 500), tier=None), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OWN.values(), ids=OWN.keys())
def test_own_machines_send_no_bill(case: Case) -> None:
    """What runs on the user's machines is unpriced, whatever its model is called."""
    summary = call(case).handler.summary()

    assert (1, 0.0) == (summary.unpriced_calls, summary.total_cost_usd)


def test_gemini_stream_left_in_the_middle_keeps_what_was_reported() -> None:
    """Thoughts were told with the first chunk: 17 and 1985 tokens, of which the text says five and one."""
    made = client("langchain_google_genai", "ChatGoogleGenerativeAI")
    first = gemini(
        {"promptTokenCount": 17, "candidatesTokenCount": 1, "thoughtsTokenCount": 1984, "totalTokenCount": 2002}
    )
    del first["candidates"][0]["finishReason"]
    till = Till()
    with replay(Reply(events=[first, first])) as url:
        stream = made(**google("gemini-2.5-flash")(url)).stream("Hi", till.config)
        next(stream)
        stream.close()
    (counted,) = till.calls

    assert (17, 1985, True) == (counted.input_tokens, counted.output_tokens, counted.estimated)
