"""The loopback provider, through the clients that read it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Request, Tokens, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk

Client: TypeAlias = "Callable[..., BaseChatModel]"
Way: TypeAlias = "Callable[[BaseChatModel], AIMessage]"

TOKENS = Tokens(input=100, output=20, cache_read=40, reasoning=7)
SUM_TOOL = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "note": {"type": "string"}}},
}


def openai(server: ProviderServer, **options: Any) -> ChatOpenAI:
    defaults = {"model": "gpt-5-mini", "api_key": "none", "stream_usage": True, "max_retries": 0}
    return ChatOpenAI(base_url=server.openai_base_url, **{**defaults, **options})


def anthropic(server: ProviderServer, **options: Any) -> ChatAnthropic:
    defaults = {"model": "claude-sonnet-5", "api_key": "none", "max_retries": 0}
    return ChatAnthropic(base_url=server.anthropic_base_url, **{**defaults, **options})


CLIENTS = [pytest.param(openai, id="openai"), pytest.param(anthropic, id="anthropic")]


def invoked(model: BaseChatModel) -> AIMessage:
    return model.invoke("Hi")


def streamed(model: BaseChatModel) -> AIMessage:
    first, *rest = list(model.stream("Hi"))
    for chunk in rest:
        first += chunk
    return first


WAYS = [pytest.param(invoked, id="json"), pytest.param(streamed, id="events")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_text(client: Client, way: Way) -> None:
    """The client gets the text to the character, whichever way it is sent."""
    with ProviderServer(["Hello, my  friend.\nBye. "]) as server:
        answer = way(client(server))

    assert answer.text == "Hello, my  friend.\nBye. "


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_usage(client: Client, way: Way) -> None:
    """The client counts what the reply reports, cached and reasoning tokens as parts of the whole."""
    with ProviderServer([Reply("Hello.", TOKENS)]) as server:
        usage = way(client(server)).usage_metadata

    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (100, 20, 120)
    assert usage["input_token_details"]["cache_read"] == 40
    assert usage["output_token_details"]["reasoning"] == 7


@pytest.mark.parametrize("way", WAYS)
def test_anthropic_cache_writes(way: Way) -> None:
    """The five-minute and the one-hour cache are told apart, and both are in the input."""
    with ProviderServer([Reply("Hello.", Tokens(input=100, output=20, cache_write=30, cache_write_1h=50))]) as server:
        usage: Any = way(anthropic(server)).usage_metadata

    assert usage["input_tokens"] == 100
    assert usage["input_token_details"]["ephemeral_5m_input_tokens"] == 30
    assert usage["input_token_details"]["ephemeral_1h_input_tokens"] == 50


@pytest.mark.parametrize("way", WAYS)
def test_openai_audio(way: Way) -> None:
    """Audio tokens are told on both sides."""
    with ProviderServer([Reply("Hello.", Tokens(input=100, output=20, input_audio=60, output_audio=10))]) as server:
        usage = way(openai(server)).usage_metadata

    assert usage["input_token_details"]["audio"] == 60
    assert usage["output_token_details"]["audio"] == 10


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_tool_calls(client: Client, way: Way) -> None:
    """The client finds the tool calls with their arguments and ids, two in one reply."""
    calls = [ToolCall("add", {"a": 1, "note": "zwölf"}), ToolCall("add", {"a": 2}, id="mine")]
    with ProviderServer([Reply("", TOKENS, calls)]) as server:
        answer = way(cast("Any", client(server).bind_tools([SUM_TOOL])))

    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("add", {"a": 1, "note": "zwölf"}),
        ("add", {"a": 2}),
    ]
    assert answer.tool_calls[1]["id"] == "mine"
    assert answer.tool_calls[0]["id"]


@pytest.mark.parametrize("way", WAYS)
def test_anthropic_thinking(way: Way) -> None:
    """A thinking block comes before the text and is not in it."""
    with ProviderServer([Reply("Yes.", TOKENS, thinking="Let me see.")]) as server:
        answer = way(anthropic(server, max_tokens=4096, thinking={"type": "enabled", "budget_tokens": 1024}))

    assert answer.text == "Yes."
    assert [block["type"] for block in answer.content if isinstance(block, dict)] == ["thinking", "text"]


def test_no_usage_unless_asked() -> None:
    """An OpenAI stream has usage only for a client that asks for it, as OpenAI's own has."""
    with ProviderServer([Reply("Hello.", TOKENS)]) as server:
        answer = streamed(openai(server, stream_usage=False))

    assert answer.usage_metadata is None


@pytest.mark.parametrize("way", WAYS)
def test_provider_without_usage(way: Way) -> None:
    """A reply without usage leaves the client without usage."""
    with ProviderServer([Reply("Hello.", usage=None)]) as server:
        answer = way(openai(server))

    assert not answer.usage_metadata


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_model_of_the_response(client: Client, way: Way) -> None:
    """The response may name another model than the request."""
    with ProviderServer([Reply("Hello.", model="the-dated-name-2026-01-01")]) as server:
        answer = way(client(server))

    assert answer.response_metadata["model_name"] == "the-dated-name-2026-01-01"


def test_n_choices() -> None:
    """OpenAI's `n` makes that many choices under one usage block."""
    with ProviderServer([Reply("Hello.", TOKENS)]) as server:
        result = openai(server, n=3).generate([[HumanMessage("Hi")]])

    assert [generation.text for generation in result.generations[0]] == ["Hello."] * 3


def test_extra_usage() -> None:
    """More keys of the usage block arrive as they are: a router's bill, say."""
    with ProviderServer([Reply("Hello.", TOKENS, extra_usage={"cost": 0.0042})]) as server:
        answer = invoked(openai(server))

    assert answer.response_metadata["token_usage"]["cost"] == 0.0042


@pytest.mark.parametrize("client", CLIENTS)
def test_broken_stream(client: Client) -> None:
    """A stream that is cut off gives its first pieces, then an error, and no usage."""
    chunks: list[AIMessageChunk] = []

    with (
        ProviderServer([Reply("one two three", TOKENS, cut_after=2)]) as server,
        pytest.raises(Exception, match=r"[Cc]onnection|incomplete"),
    ):
        # `extend` keeps what came before the error.
        chunks.extend(client(server).stream("Hi"))

    assert "".join(chunk.text for chunk in chunks) == "one two"
    assert all(chunk.usage_metadata is None for chunk in chunks)


@pytest.mark.parametrize("client", CLIENTS)
def test_client_breaks_off(client: Client) -> None:
    """The server outlives a client that stops to read, and answers the next one."""
    with ProviderServer(["word " * 10_000, "Hello."]) as server:
        model = client(server)
        stream: Any = model.stream("Hi")
        next(stream)
        stream.close()
        answer = invoked(model)

    assert answer.text == "Hello."


@pytest.mark.parametrize("client", CLIENTS)
def test_error_status(client: Client) -> None:
    """An error of the provider is the client's own error, with its message."""
    with (
        ProviderServer([Reply("no such model", status=404)]) as server,
        pytest.raises(Exception, match="no such model"),
    ):
        invoked(client(server))


@pytest.mark.parametrize("client", CLIENTS)
def test_end_of_the_script(client: Client) -> None:
    """A request too many is refused and says why."""
    with ProviderServer([]) as server, pytest.raises(Exception, match="the script has no reply left"):
        invoked(client(server))


@pytest.mark.parametrize("client", CLIENTS)
def test_callable_script(client: Client) -> None:
    """A callable makes the reply from the request."""
    with ProviderServer(lambda request: request.prompt.upper()) as server:
        answer = client(server).invoke([("system", "Be brief."), ("human", "Hi")])

    assert answer.text == "BE BRIEF.\nHI"


def test_requests_are_recorded() -> None:
    """What came in is kept in order: number, API, model, whether streamed."""
    with ProviderServer(["a", "b"]) as server:
        invoked(openai(server))
        streamed(anthropic(server))
        seen = [(request.number, request.api, request.model, request.stream) for request in server.requests]

    assert seen == [(0, "openai", "gpt-5-mini", False), (1, "anthropic", "claude-sonnet-5", True)]


def test_requests_tell_nothing() -> None:
    """A recorded request shows neither its prompt nor a key in its repr."""
    request = Request(0, "openai", {"messages": [{"role": "user", "content": "secret plan"}]})

    assert "secret plan" not in repr(request)


def test_unknown_path() -> None:
    """Only what the module says is served: another API of the same client is not found."""
    with ProviderServer(["Hello."]) as server, pytest.raises(Exception, match="404"):
        invoked(openai(server, use_responses_api=True))


def test_pieces_are_sent_as_they_come() -> None:
    """A reader has the first piece before the script makes the second."""
    first_was_read = threading.Event()

    def pieces() -> Iterator[str]:
        yield "one"
        assert first_was_read.wait(timeout=10)
        yield " two"

    with ProviderServer([Reply(pieces(), TOKENS)]) as server:
        text = ""
        for chunk in openai(server).stream("Hi"):
            text += chunk.text
            if text == "one":
                first_was_read.set()

    assert text == "one two"
