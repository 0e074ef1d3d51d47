"""Recorded Messages payloads, through the real langchain-anthropic client."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from wire import Reply, replay, say

pytestmark = [
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning"),  # A price outlives its model.
]

SONNET = "claude-sonnet-4-5-20250929"
OPUS = "claude-opus-4-8"


def usage(
    fresh: int,
    output: int,
    *,
    read: int = 0,
    write_5m: int = 0,
    write_1h: int = 0,
    **more: Any,
) -> dict[str, Any]:
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
        "service_tier": "standard",
        **more,
    }


def message(model: str, reported: dict[str, Any], content: list[Any] | None = None) -> dict[str, Any]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [*(content or []), {"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": reported,
    }


def events(body: dict[str, Any]) -> list[Any]:
    reported = body["usage"]
    start = {**body, "content": [], "stop_reason": None, "usage": {**reported, "output_tokens": 1}}
    found: list[Any] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(body["content"]):
        if block["type"] == "text":
            found += [
                {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": block["text"]}},
            ]
        else:
            found.append({"type": "content_block_start", "index": index, "content_block": block})
        found.append({"type": "content_block_stop", "index": index})
    # The last event has the totals without the split of the cache writes.
    last = {name: count for name, count in reported.items() if name != "cache_creation"}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return [*found, {"type": "message_delta", "delta": delta, "usage": last}, {"type": "message_stop"}]


def searched(*, failed: bool = False, number: int = 1) -> list[Any]:
    identity = f"srvtoolu_{number}"
    result: Any = [
        {"type": "web_search_result", "url": "https://e.org", "title": "E", "encrypted_content": "x", "page_age": None}
    ]
    if failed:
        result = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    return [
        {"type": "server_tool_use", "id": identity, "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": identity, "content": result},
    ]


CASES = [
    # Sonnet 4.5: 3 in, 15 out. 100 * 3e-6 + 200 * 15e-6
    pytest.param(message(SONNET, usage(100, 200)), "0.0033", id="plain"),
    # 50 * 3e-6 + 10000 * 0.3e-6 + 2000 * 3.75e-6 + 200 * 15e-6 = 0.00015 + 0.003 + 0.0075 + 0.003
    pytest.param(message(SONNET, usage(50, 200, read=10_000, write_5m=2000)), "0.01365", id="cache"),
    # 200 000 input tokens, cached ones included: 190000 * 0.3e-6 + 10000 * 3e-6 + 100 * 15e-6
    pytest.param(message(SONNET, usage(10_000, 100, read=190_000)), "0.0885", id="long-context-last-short"),
    # 200 001: 190000 * 0.6e-6 + 10001 * 6e-6 + 100 * 22.5e-6 = 0.114 + 0.060006 + 0.00225
    pytest.param(message(SONNET, usage(10_001, 100, read=190_000)), "0.176256", id="long-context-first-long"),
    # two searches at 10 a thousand, the failed one free: 1000 * 3e-6 + 100 * 15e-6 + 0.02
    pytest.param(
        message(
            SONNET,
            usage(1000, 100, server_tool_use={"web_search_requests": 2, "web_fetch_requests": 1}),
            [*searched(number=1), *searched(number=2), *searched(failed=True, number=3)],
        ),
        "0.0245",
        id="searches",
    ),
]


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("body", "usd"), CASES)
def test_messages(body: dict[str, Any], usd: str, stream: bool, version: str) -> None:
    """A Messages payload costs what its classes, length and searches cost, streamed or not."""
    with replay(Reply(events=events(body)) if stream else Reply(body)) as url:
        client: Any = ChatAnthropic(model=body["model"], base_url=url, api_key="x", output_version=version)
        if len(body["content"]) > 1:
            client = client.bind_tools([{"type": "web_search_20250305", "name": "web_search"}])
        till = say(client, "Hi", stream=stream)

    assert Decimal(usd) == till.total()
    assert till.problems() == []


# Sonnet 4.5: an hour costs 6. 10 * 3e-6 + 1000 * 6e-6 + 100 * 15e-6; 5 minutes 3.75
HOUR, MINUTES = "0.00753", "0.00528"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("ttl", "usd"),
    [
        pytest.param("1h", HOUR, id="hour"),
        pytest.param("5m", MINUTES, id="minutes"),
        pytest.param(None, MINUTES, id="default"),
    ],
)
def test_cache_writes_by_their_time(ttl: str | None, usd: str, stream: bool) -> None:
    """An hour in the cache costs twice the input; a stream does not tell it, the prompt's `cache_control` does."""
    writes = {"write_1h": 1000} if ttl == "1h" else {"write_5m": 1000}
    body = message(SONNET, usage(10, 100, **writes))
    control = {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}
    prompt = [HumanMessage([{"type": "text", "text": "Hi", "cache_control": control}])]
    with replay(Reply(events=events(body)) if stream else Reply(body)) as url:
        till = say(ChatAnthropic(model=SONNET, base_url=url, api_key="x"), prompt, stream=stream)

    assert Decimal(usd) == till.total()


def test_batch_is_half_price() -> None:
    """The tier `batch` in the usage halves the tokens' price, not the searches'."""
    body = message(SONNET, usage(1000, 100, service_tier="batch", server_tool_use={"web_search_requests": 1}))
    with replay(Reply(body)) as url:
        till = say(ChatAnthropic(model=SONNET, base_url=url, api_key="x"), "Hi")

    # 1000 * 1.5e-6 + 100 * 7.5e-6 + 0.01
    assert Decimal("0.01225") == till.total()


def test_priority_tier_costs_the_standard_price() -> None:
    """Anthropic's priority tier is bought as a commitment; its tokens are listed at the standard price."""
    with replay(Reply(message(SONNET, usage(1000, 100, service_tier="priority")))) as url:
        till = say(ChatAnthropic(model=SONNET, base_url=url, api_key="x"), "Hi")

    assert Decimal("0.0045") == till.total()


ONLY_US: dict[str, Any] = {"inference_geo": "us"}
if "inference_geo" not in inspect.signature(anthropic.resources.Messages.create).parameters:
    # How it is said with a client that does not know the parameter.
    ONLY_US = {"model_kwargs": {"extra_body": ONLY_US}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_us_only_inference_costs_a_tenth_more(stream: bool) -> None:
    """`inference_geo: us` multiplies the tokens' price by 1.1; a stream does not tell it, the request does."""
    body = message(OPUS, usage(1000, 100, inference_geo="us"))
    with replay(Reply(events=events(body)) if stream else Reply(body)) as url:
        till = say(ChatAnthropic(model=OPUS, base_url=url, api_key="x", **ONLY_US), "Hi", stream=stream)

    # Opus 4.8: 5 in, 25 out. (1000 * 5e-6 + 100 * 25e-6) * 1.1
    assert Decimal("0.00825") == till.total()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_fast_mode_has_its_own_price(stream: bool) -> None:
    """`speed: fast` is priced as listed; a stream does not tell it, the request does."""
    body = message(OPUS, usage(1000, 100, speed="fast"))
    with replay(Reply(events=events(body)) if stream else Reply(body)) as url:
        client = ChatAnthropic(model=OPUS, base_url=url, api_key="x", model_kwargs={"extra_body": {"speed": "fast"}})
        till = say(client, "Hi", stream=stream)

    # Opus 4.8 fast: 10 in, 50 out. 1000 * 10e-6 + 100 * 50e-6
    assert Decimal("0.015") == till.total()


def test_compaction_is_added() -> None:
    """The totals leave a compaction out; its iteration is billed at the same model, by its own length."""
    iterations = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1000, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
    ]  # fmt: skip
    with replay(Reply(message(SONNET, usage(23_000, 1000, iterations=iterations)))) as url:
        till = say(ChatAnthropic(model=SONNET, base_url=url, api_key="x"), "Hi")

    # 23000 * 3e-6 + 1000 * 15e-6 + 180000 * 3e-6 + 3500 * 15e-6 = 0.069 + 0.015 + 0.54 + 0.0525
    assert Decimal("0.6765") == till.total()
    assert (till.calls[0].input_tokens, till.calls[0].output_tokens) == (203_000, 4500)


def test_advisor_is_billed_at_its_own_model() -> None:
    """An advisor's inference inside a call costs what its model costs."""
    iterations = [
        {"type": "message", "input_tokens": 1000, "output_tokens": 100},
        {"type": "advisor_message", "model": OPUS, "input_tokens": 2000, "output_tokens": 50},
    ]
    with replay(Reply(message(SONNET, usage(1000, 100, iterations=iterations)))) as url:
        till = say(ChatAnthropic(model=SONNET, base_url=url, api_key="x"), "Hi")

    # 1000 * 3e-6 + 100 * 15e-6 + 2000 * 5e-6 + 50 * 25e-6 = 0.0045 + 0.01125
    assert Decimal("0.01575") == till.total()
