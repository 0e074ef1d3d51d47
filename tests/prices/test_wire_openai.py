"""Recorded Chat Completions and Responses payloads, through the real langchain-openai clients."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI
from wire import Reply, Till, chat, chunks, replay, say, tokens

pytestmark = pytest.mark.usefixtures("untraced")

CHAT_CASES = [
    # gpt-4o: 2.50 in, 1.25 cached, 10 out. 1000 * 2.5e-6 + 200 * 10e-6
    pytest.param("gpt-4o-2024-08-06", tokens(1000, 200), "default", "0.0045", id="plain"),
    # 86 * 2.5e-6 + 1920 * 1.25e-6 + 300 * 10e-6 = 0.000215 + 0.0024 + 0.003
    pytest.param("gpt-4o-2024-08-06", tokens(2006, 300, cached=1920), "default", "0.005615", id="cached"),
    # o3: 2 in, 8 out; reasoning is output. 75 * 2e-6 + 1186 * 8e-6 = 0.00015 + 0.009488
    pytest.param("o3-2025-04-16", tokens(75, 1186, reasoning=1024), "default", "0.009638", id="reasoning"),
    # gpt-audio: text 2.50/10, audio 32/64. 200 * 2.5e-6 + 800 * 32e-6 + 100 * 10e-6 + 400 * 64e-6
    pytest.param("gpt-audio", tokens(1000, 500, audio=800, audio_out=400), "default", "0.0527", id="audio"),
    # gpt-5 flex: 0.625 in, 0.0625 cached, 5 out. 2000 * 0.625e-6 + 8000 * 0.0625e-6 + 1000 * 5e-6
    pytest.param("gpt-5-2025-08-07", tokens(10000, 1000, cached=8000, reasoning=640), "flex", "0.00675", id="flex"),
    # gpt-5 priority: 2.50, 0.25, 20. 2000 * 2.5e-6 + 8000 * 0.25e-6 + 1000 * 20e-6
    pytest.param(
        "gpt-5-2025-08-07", tokens(10000, 1000, cached=8000, reasoning=640), "priority", "0.027", id="priority"
    ),
    # gpt-5.4 up to 272 000 tokens: 2.50 in, 15 out. 0.272 * 2.5 + 1000 * 15e-6
    pytest.param("gpt-5.4", tokens(272_000, 1000), "default", "0.695", id="long-context-last-short"),
    # one token more: 5 in, 22.50 out, for all tokens. 272001 * 5e-6 + 1000 * 22.5e-6
    pytest.param("gpt-5.4", tokens(272_001, 1000), "default", "1.382505", id="long-context-first-long"),
    # ft:gpt-4o-mini: 0.30 in, 1.20 out. 1000 * 0.3e-6 + 1000 * 1.2e-6
    pytest.param("ft:gpt-4o-mini-2024-07-18:acme::Ab12", tokens(1000, 1000), "default", "0.0015", id="fine-tune"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("model", "usage", "tier", "usd"), CHAT_CASES)
def test_chat_completions(model: str, usage: dict[str, Any], tier: str, usd: str, stream: bool) -> None:
    """A Chat Completions response costs what its classes, tier and length cost, streamed or not."""
    reply = chunks(model, usage, tier=tier) if stream else chat(model, usage, tier=tier)
    with replay(reply) as url:
        client = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="x", stream_usage=True, use_responses_api=False)
        till = say(client, "Hi", stream=stream)

    assert Decimal(usd) == till.total()
    assert till.problems() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_n_answers_are_billed_once(stream: bool) -> None:
    """LangChain copies the usage of the request onto each of n messages; it counts once."""
    usage = tokens(100, 90)
    with replay(chunks("gpt-4o", usage, n=3) if stream else chat("gpt-4o", usage, n=3)) as url:
        client = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", n=3, stream_usage=True)
        till = say(client, "Hi", stream=stream)

    # 100 * 2.5e-6 + 90 * 10e-6
    assert Decimal("0.00115") == till.total()


def test_tier_of_the_response_decides() -> None:
    """A call that asked for flex and was served by the standard tier costs the standard price."""
    with replay(chat("gpt-5-2025-08-07", tokens(1000, 100), tier="default")) as url:
        till = say(ChatOpenAI(model="gpt-5", base_url=f"{url}/v1", api_key="x", service_tier="flex"), "Hi")

    # 1000 * 1.25e-6 + 100 * 10e-6
    assert Decimal("0.00225") == till.total()


def test_tier_of_the_request_stands_in() -> None:
    """Where the response tells no tier the one that was asked for is taken."""
    with replay(chat("gpt-5-2025-08-07", tokens(1000, 100), tier=None)) as url:
        till = say(ChatOpenAI(model="gpt-5", base_url=f"{url}/v1", api_key="x", service_tier="flex"), "Hi")

    assert Decimal("0.001125") == till.total()


def test_stream_without_usage_is_unknown() -> None:
    """A stream whose server sends no usage has none: nothing is taken for 0, its text is counted and it is marked."""
    with replay(chunks("gpt-4o", None)) as url:
        till = say(ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x"), "Hi", stream=True)

    (call,) = till.calls

    assert till.answers.responses[0].generations[0][0].message.usage_metadata is None
    assert call.estimated
    assert call.input_tokens > 0
    assert call.output_tokens > 0
    # gpt-4o: 2.50 in, 10 out
    assert till.total() == call.input_tokens * Decimal("2.5e-6") + call.output_tokens * Decimal("10e-6")


def test_azure_is_priced_by_the_model_that_answered() -> None:
    """A deployment's name says nothing; the response names the model."""
    with replay(chat("gpt-4o-2024-08-06", tokens(1000, 200))) as url:
        till = say(
            AzureChatOpenAI(azure_deployment="prod", azure_endpoint=url, api_version="2024-10-21", api_key="x"), "Hi"
        )

    assert Decimal("0.0045") == till.total()


@pytest.mark.parametrize("alias", ["prod", "azure/prod", "Azure/PROD"])
def test_azure_deployment_by_alias(alias: str) -> None:
    """An alias for the deployment wins over the model in the response."""
    with replay(chat("gpt-4o-2024-08-06", tokens(1000, 200))) as url:
        client = AzureChatOpenAI(azure_deployment="prod", azure_endpoint=url, api_version="2024-10-21", api_key="x")
        till = say(client, "Hi", aliases={alias: "openai/gpt-4.1"})

    # gpt-4.1: 2 in, 8 out. 1000 * 2e-6 + 200 * 8e-6
    assert Decimal("0.0036") == till.total()


def test_bill_of_openrouter_is_the_cost() -> None:
    """OpenRouter's `cost` is taken as it is, whatever the lists say; its parts add up to it."""
    usage = {**tokens(1000, 200), "cost": 0.00371, "cost_details": {"upstream_inference_cost": None}, "is_byok": False}
    with replay(chat("anthropic/claude-sonnet-4.5", usage, tier=None)) as url:
        till = say(ChatOpenAI(model="anthropic/claude-sonnet-4.5", base_url=f"{url}/api/v1", api_key="x"), "Hi")

    assert Decimal("0.00371") == till.total()


def test_bill_with_a_key_of_ones_own_adds_the_makers_bill() -> None:
    """With a maker's key of the user's own, `cost` is only OpenRouter's fee."""
    usage = {**tokens(1000, 200), "cost": 0.0003, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.006}}
    with replay(chat("anthropic/claude-sonnet-4.5", usage, tier=None)) as url:
        till = say(ChatOpenAI(model="anthropic/claude-sonnet-4.5", base_url=f"{url}/api/v1", api_key="x"), "Hi")

    assert Decimal("0.0063") == till.total()


def test_xai_bill_in_ticks() -> None:
    """A bill of xAI is in ticks of 10^-10 USD (docs.x.ai, cost tracking)."""
    usage = {**tokens(199, 1), "cost_in_usd_ticks": 37756000}
    with replay(chat("grok-4-0709", usage, tier=None)) as url:
        till = say(ChatOpenAI(model="grok-4", base_url=f"{url}/v1", api_key="x"), "Hi")

    assert Decimal("0.0037756") == till.total()


def test_answer_from_langchains_cache_costs_nothing() -> None:
    """A hit in LangChain's LLM cache is an explicit 0 with the tokens of the answer."""
    cache = InMemoryCache()
    with replay(chat("gpt-4o", tokens(1000, 200))) as url:
        client = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", cache=cache)
        first, second = say(client, "Hi"), say(client, "Hi")
    (hit,) = second.calls

    assert Decimal("0.0045") == first.total()
    assert hit.cached
    assert (hit.input_tokens, hit.output_tokens) == (1000, 200)
    assert Decimal(0) == second.total()


def test_structured_stream_events_are_one_call() -> None:
    """astream_events over a streamed answer reports one call with the merged usage."""
    till = Till()

    async def run(url: str) -> None:
        client = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", stream_usage=True)
        async for _ in client.astream_events("Hi", config=till.config, version="v2"):
            pass

    with replay(chunks("gpt-4o", tokens(1000, 200))) as url:
        asyncio.run(run(url))

    assert len(till.calls) == 1
    assert Decimal("0.0045") == till.total()


def test_string_model_batch_is_counted_once() -> None:
    """A string model reports one usage for a batch of prompts; LangChain leaves it with the first."""
    body = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1763700000,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [
            {"text": f"t{index}", "index": index, "logprobs": None, "finish_reason": "stop"} for index in range(2)
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }
    till = Till()
    with replay(Reply(body)) as url:
        client = OpenAI(model="gpt-3.5-turbo-instruct", base_url=f"{url}/v1", api_key="x")
        client.generate(["a", "b"], callbacks=[till.handler])

    # gpt-3.5-turbo-instruct: 1.50 in, 2 out. 10 * 1.5e-6 + 20 * 2e-6
    assert len(till.calls) == 2
    assert Decimal("0.000055") == till.total()


# --- Responses API ---------------------------------------------------------------------------------------------------

SEARCHES = [
    {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "a"}},
    {
        "id": "ws_2",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "open_page", "url": "https://e.org"},
    },
    {"id": "ws_3", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "b"}},
    {"id": "ws_4", "type": "web_search_call", "status": "failed", "action": {"type": "search", "query": "c"}},
    {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["a"], "results": None},
]


def response(
    model: str, usage: dict[str, Any], *, output: list[Any] | None = None, tier: str = "default"
) -> dict[str, Any]:
    return {
        "id": "resp_68f0",
        "object": "response",
        "created_at": 1763700000,
        "status": "completed",
        "model": model,
        "service_tier": tier,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "output": [
            *(output or []),
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
            },
        ],
        "usage": usage,
    }


def response_events(body: dict[str, Any]) -> list[Any]:
    events: list[Any] = [{"type": "response.created", "response": {**body, "output": [], "usage": None}}]
    for index, item in enumerate(body["output"]):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        if item["type"] == "message":
            events += [
                {"type": "response.content_part.added", "item_id": "msg_1", "output_index": index, "content_index": 0,
                 "part": {"type": "output_text", "text": "", "annotations": []}},
                {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": index, "content_index": 0,
                 "delta": "Hello.", "logprobs": []},
            ]  # fmt: skip
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": body})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def response_usage(prompt: int, output: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + output,
    }


RESPONSES = [
    # gpt-5: 1.25, 0.125 cached, 10. 1000 * 1.25e-6 + 3000 * 0.125e-6 + 500 * 10e-6
    pytest.param(
        response("gpt-5-2025-08-07", response_usage(4000, 500, cached=3000, reasoning=320)), "0.006625", id="cached"
    ),
    # flex: 0.625, 0.0625, 5
    pytest.param(
        response("gpt-5-2025-08-07", response_usage(4000, 500, cached=3000, reasoning=320), tier="flex"),
        "0.0033125",
        id="flex",
    ),
    # gpt-4o: 1000 * 2.5e-6 + 100 * 10e-6, two searches at 10 a thousand (opening a page is free, a failure too),
    # one file search at 2.50 a thousand: 0.0035 + 0.02 + 0.0025
    pytest.param(response("gpt-4o-2024-08-06", response_usage(1000, 100), output=SEARCHES), "0.026", id="searches"),
]


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("body", "usd"), RESPONSES)
def test_responses_api(body: dict[str, Any], usd: str, stream: bool, version: str) -> None:
    """A Responses payload costs its tokens and its searches, in each form that LangChain gives the answer."""
    reply = Reply(events=response_events(body)) if stream else Reply(body)
    with replay(reply) as url:
        client = ChatOpenAI(
            model=body["model"], base_url=f"{url}/v1", api_key="x", use_responses_api=True, output_version=version
        )
        till = say(client, "Hi", stream=stream)

    assert Decimal(usd) == till.total()
