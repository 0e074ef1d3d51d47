"""Calls that end in an error, through the handler and the real clients: what was billed all the same is counted."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pydantic
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel, chat_models
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from wire import Reply, Till, chat, chunks, replay, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning"),
]

tells_of_errors_in_streams = pytest.mark.skipif(
    'metadata["body"] = None' not in inspect.getsource(chat_models._generate_response_from_error),
    reason="this langchain-core fails itself where an answer that breaks off is being streamed, and tells nobody of the end",
)


class Weather(pydantic.BaseModel):
    """The weather in a town."""

    degrees: int


def answered(content: str, end: str, usage: dict[str, Any], tier: str = "default") -> Reply:
    reply = chat("gpt-4o-2024-08-06", usage, tier=tier)
    (choice,) = reply.body["choices"]
    choice["message"]["content"], choice["finish_reason"] = content, end
    return reply


def responded(content: str, usage: dict[str, Any]) -> Reply:
    text = {"type": "output_text", "text": content, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }
    return Reply(
        {
            "id": "resp_1", "object": "response", "created_at": 1763700000, "model": "gpt-4o-2024-08-06",
            "status": "completed", "output": [search, message], "usage": usage, "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "instructions": None,
            "metadata": {}, "service_tier": "default", "temperature": 1, "top_p": 1,
        }
    )  # fmt: skip


def fail(model: Any, error: type[BaseException], prompt: str = "Hi", *, stream: bool = False, after: int = 99) -> Till:
    """One call that ends in this error, or is left after so many chunks."""
    till = Till()
    with pytest.raises(error):
        _run(model, prompt, till.config, error, after=after if stream else 0)
    return till


def _run(model: Any, prompt: str, config: Any, error: type[BaseException], *, after: int) -> None:
    if not after:
        model.invoke(prompt, config)
    for index, _ in enumerate(model.stream(prompt, config)):
        if index + 1 == after:
            raise error


UNPARSED = [
    # gpt-4o: 2.50 in, 1.25 cached, 10 out. 1000 * 2.5e-6 + 200 * 10e-6
    pytest.param(answered('{"degrees": "warm"}', "stop", tokens(1000, 200)), pydantic.ValidationError, "0.0045", id="not-valid"),
    # 500 * 2.5e-6 + 500 * 1.25e-6 + 16384 * 10e-6
    pytest.param(answered('{"deg', "length", tokens(1000, 16384, cached=500)), openai.LengthFinishReasonError, "0.165715", id="too-long"),
    # A second try of 10 that no list knows: the bill is the truth.
    pytest.param(answered("no", "stop", {**tokens(10, 2), "cost": 0.0123}), pydantic.ValidationError, "0.0123", id="billed"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "error", "usd"), UNPARSED)
def test_answer_that_was_not_understood_is_billed(reply: Reply, error: type[BaseException], usd: str) -> None:
    """A whole answer that the client cannot parse costs what its body says, though no answer reaches LangChain."""
    with replay(reply) as url:
        model = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", use_responses_api=False)
        till = fail(model.with_structured_output(Weather, method="json_schema"), error)
    (call,) = till.calls

    assert Decimal(usd) == till.total()
    assert not call.estimated


def test_response_that_was_not_understood_is_billed_with_its_fees() -> None:
    """The same with the Responses API, whose searches stand in the body's blocks."""
    usage = {
        "input_tokens": 1000,
        "output_tokens": 200,
        "total_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 0},
    }
    with replay(responded('{"degrees": "warm"}', usage)) as url:
        model = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", use_responses_api=True)
        till = fail(model.with_structured_output(Weather, method="json_schema"), pydantic.ValidationError)

    # 1000 * 2.5e-6 + 200 * 10e-6 + one search of 0.010
    assert Decimal("0.0145") == till.total()


def test_refused_request_costs_nothing() -> None:
    """A body that comes with a refusal is no answer, whatever stands in it."""
    with replay(Reply({"error": {"message": "no"}, "usage": tokens(1000, 200)}, status=400)) as url:
        till = fail(
            ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", max_retries=0), openai.BadRequestError
        )

    assert [] == till.calls
    assert 0 == till.handler.summary().llm_calls


USAGE = {
    "input_tokens": 10_000, "cache_read_input_tokens": 40_000, "cache_creation_input_tokens": 0, "output_tokens": 1
}  # fmt: skip
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": USAGE,
    },
}  # fmt: skip
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


class Reporting(BaseChatModel):
    """A client that hands on what its first event reports, as langchain-anthropic did before 1.1; then it may break."""

    breaks: bool = False

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        told = {
            "input_tokens": 50_000,
            "output_tokens": 1,
            "total_tokens": 50_001,
            "input_token_details": {"cache_read": 40_000},
        }
        about = {"model_name": "claude-sonnet-4-5-20250929", "model_provider": "anthropic"}
        for chunk in (
            AIMessageChunk("", usage_metadata=told, response_metadata=about),
            AIMessageChunk("word " * 400),
            AIMessageChunk("more"),
        ):
            if self.breaks and chunk.content == "more":
                raise ConnectionResetError
            if run_manager:
                run_manager.on_llm_new_token(chunk.content, chunk=ChatGenerationChunk(message=chunk))
            yield ChatGenerationChunk(message=chunk)

    @property
    def _llm_type(self) -> str:
        return "anthropic-chat"


@pytest.mark.parametrize("breaks", [True, False], ids=["error", "left"])
def test_broken_stream_keeps_what_was_reported(breaks: bool) -> None:
    """A stream that breaks, or is left, costs the prompt that its first event told and an estimate of the rest."""
    till = fail(
        Reporting(breaks=breaks), ConnectionResetError if breaks else GeneratorExit, stream=True, after=2 + breaks
    )
    (call,) = till.calls

    assert call.estimated
    assert 50_000 == call.input_tokens
    assert 400 <= call.output_tokens <= 500
    # 3 in, 0.30 cached: 10000 * 3e-6 + 40000 * 0.3e-6
    assert Decimal("0.042") == call.input_usd


class StreamingByItself(Reporting):
    """The same where the caller does not stream: LangChain hands on nothing of what had come."""

    streaming: bool = False


class Thinking(StreamingByItself):
    """Gemini's way: what was used so far comes with a chunk in the middle, thoughts included."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        told = {"input_tokens": 17, "output_tokens": 1985, "total_tokens": 2002}
        about = {"model_name": "gemini-2.5-flash", "model_provider": "google_genai"}
        yield ChatGenerationChunk(message=AIMessageChunk("Four", response_metadata=about))
        yield ChatGenerationChunk(message=AIMessageChunk(" words", usage_metadata=told, response_metadata=about))
        raise ConnectionResetError


def test_broken_stream_inside_invoke_keeps_what_was_reported() -> None:
    """A model that streams by itself and breaks costs what its chunks told, and an estimate of the rest."""
    (call,) = fail(StreamingByItself(streaming=True, breaks=True), ConnectionResetError).calls
    (other,) = fail(Thinking(streaming=True), ConnectionResetError).calls

    assert (50_000, True, Decimal("0.042")) == (call.input_tokens, call.estimated, call.input_usd)
    assert 400 <= call.output_tokens <= 500
    assert (17, 1985) == (other.input_tokens, other.output_tokens)
    # gemini-2.5-flash: 0.30 in, 2.50 out. 17 * 0.3e-6 and 1985 * 2.5e-6
    assert (Decimal("0.0000051"), Decimal("0.0049625")) == (other.input_usd, other.output_usd)


def test_cancelled_call_keeps_what_was_reported() -> None:
    """A call that is timed out, of whose end LangChain tells nothing, costs the prompt that its first chunk told."""

    class Hanging(StreamingByItself):
        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            for chunk in self._stream(*args, **kwargs):
                yield chunk
                await asyncio.sleep(0.2 if chunk.message.content else 0)

    async def main(config: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Hanging(streaming=True).ainvoke("Hi", config), 0.1)

    till = Till()
    asyncio.run(main(till.config))
    (call,) = till.calls

    assert (50_000, True, Decimal("0.042")) == (call.input_tokens, call.estimated, call.input_usd)


@tells_of_errors_in_streams
def test_stream_left_after_its_end_is_not_estimated() -> None:
    """A stream that had told its usage and its end is exact, whoever lets go of it."""
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    end = {"type": "message_delta", "delta": stop, "usage": {**USAGE, "output_tokens": 700}}
    with replay(Reply(events=[START, BLOCK, delta("Hello."), end, OVERLOADED])) as url:
        model = ChatAnthropic(model="claude-sonnet-4-5", base_url=url, api_key="x", max_retries=0)
        till = fail(model, anthropic.APIStatusError, stream=True)
    (call,) = till.calls

    assert not call.estimated
    # 0.042 as above, and 700 * 15e-6
    assert Decimal("0.0525") == till.total()


def test_broken_stream_without_usage_is_estimated() -> None:
    """Where nothing was reported all is counted from the text."""
    reply = chunks("gpt-4o", None)
    with replay(Reply(events=reply.events[:-2])) as url:
        model = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", stream_usage=True)
        till = fail(model, GeneratorExit, stream=True, after=2)
    (call,) = till.calls

    assert call.estimated
    assert call.input_tokens > 0
    assert call.output_tokens > 0


class Reasoning(Reporting):
    """A client that streams its model's thoughts beside the content, 200 characters a chunk."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for _ in range(17):
            chunk = ChatGenerationChunk(
                message=AIMessageChunk("", additional_kwargs={"reasoning_content": "word " * 40})
            )
            if run_manager:
                run_manager.on_llm_new_token("", chunk=chunk)
            yield chunk


def test_reasoning_is_in_the_running_sum_and_in_the_estimate() -> None:
    """While a model thinks its cost grows by the length of what it thought, and it is counted when the stream is left."""
    till = Till()
    stream = Reasoning().stream("Hi", till.config)
    for _ in range(17):
        next(stream)
    running = till.handler.summary().total_tokens.output_tokens
    stream.close()
    (call,) = till.calls

    # 16 chunks were told, of 200 characters, four a token.
    assert 800 == running
    assert call.estimated
    assert call.output_tokens >= 600


@contextmanager
def broken(*sent: bytes, how: str) -> Iterator[str]:
    """A provider that reads a request whole, sends so much, and then closes, resets or falls silent."""
    held: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer = listener.accept()[0]
                held.append(peer)
                read_request(peer)
                peer.sendall(b"".join(sent))
                if how == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if how != "silent":
                    peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for peer in held:
            peer.close()


def read_request(peer: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += peer.recv(65536)
    head, body = received.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
    while len(body) < length:
        body += peer.recv(65536)


ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BROKEN_OFF = [
    pytest.param((), "reset", id="reset-before-the-answer"),
    pytest.param((), "silent", id="no-answer-in-time"),
    pytest.param((ACCEPTED,), "reset", id="accepted-and-reset"),
    pytest.param((ACCEPTED,), "silent", id="accepted-and-silent"),
]
PATIENCE_S = 30.0
"""Until an answer that comes, however busy the machine is; for one that never comes, a tenth of a second is enough."""
CLOSED = pytest.param((ACCEPTED,), "close", id="accepted-and-closed")
PROMPT = "Hi there. " * 100
"""About 300 tokens, however they are counted: 250 by a quarter of the bytes."""


def gpt(url: str, timeout: float = PATIENCE_S, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=timeout, **more)


def claude(url: str, timeout: float = PATIENCE_S, **more: Any) -> ChatAnthropic:
    return ChatAnthropic(model="claude-sonnet-4-5", base_url=url, api_key="x", max_retries=0, timeout=timeout, **more)


@pytest.mark.parametrize("client", [gpt, claude])
@pytest.mark.parametrize(("sent", "how"), [*BROKEN_OFF, CLOSED])
def test_stream_that_breaks_before_its_first_word_costs_its_prompt(client: Any, sent: Any, how: str) -> None:
    """What was sent and not refused costs its prompt, by an estimate: the provider may well have answered it."""
    with broken(*sent, how=how) as url:
        (call,) = fail(client(url, 0.1 if how == "silent" else PATIENCE_S), Exception, PROMPT, stream=True).calls

    assert call.estimated
    assert 250 <= call.input_tokens <= 400
    assert 0 == call.output_tokens
    # 2.50 a million at gpt-4o, 3 at Claude Sonnet
    assert Decimal("2.5e-6" if client is gpt else "3e-6") * call.input_tokens == call.input_usd


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("sent", "how"), BROKEN_OFF)
def test_call_that_breaks_before_its_answer_costs_its_prompt(streams: bool, sent: Any, how: str) -> None:
    """The same where the caller does not stream, whether or not the client does."""
    with broken(*sent, how=how) as url:
        timeout = 0.1 if how == "silent" else PATIENCE_S
        (call,) = fail(gpt(url, timeout, streaming=streams), Exception, PROMPT).calls

    assert (True, 0) == (call.estimated, call.output_tokens)
    assert 250 <= call.input_tokens <= 400


FAILED_LATER = [
    pytest.param(
        lambda url: gpt(url, stream_usage=True),
        [chunks("gpt-4o", None).events[0], {"error": {"message": "The server had an error", "type": "server_error"}}],
        openai.APIError,
        id="openai",
    ),
    pytest.param(claude, [START, BLOCK, OVERLOADED], anthropic.APIStatusError, id="anthropic", marks=tells_of_errors_in_streams),
]  # fmt: skip


@pytest.mark.parametrize(("client", "events", "error"), FAILED_LATER)
def test_stream_that_fails_after_its_first_event_costs_its_prompt(
    client: Any, events: list[Any], error: type[BaseException]
) -> None:
    """A stream that has begun without a word and then says that it failed: the prompt was read."""
    with replay(Reply(events=events)) as url:
        (call,) = fail(client(url), error, PROMPT, stream=True).calls

    assert (True, 0) == (call.estimated, call.output_tokens)
    assert 250 <= call.input_tokens <= 400


@pytest.mark.parametrize(("client", "events", "error"), FAILED_LATER)
def test_stream_whose_first_event_is_an_error_costs_nothing(
    client: Any, events: list[Any], error: type[BaseException]
) -> None:
    """Nobody read the prompt."""
    with replay(Reply(events=events[-1:])) as url:
        assert [] == fail(client(url), error, PROMPT, stream=True).calls


def test_refused_stream_costs_nothing() -> None:
    """A refused connection, a status of 4xx or 5xx: nobody read the prompt."""
    calls = []
    for reply in (
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply({"error": {"message": "no"}}, status=500),
    ):
        with replay(reply) as url:
            calls += fail(claude(url), anthropic.APIStatusError, PROMPT, stream=True).calls
        with replay(reply) as url:
            calls += fail(gpt(url), openai.APIError, PROMPT, stream=True).calls
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    calls += fail(claude(url), anthropic.APIConnectionError, PROMPT, stream=True).calls
    calls += fail(gpt(url), openai.APIConnectionError, PROMPT).calls

    assert [] == calls


def test_refusal_while_a_lost_call_is_handled_costs_nothing() -> None:
    """A second try inside the handling of the first is judged by its own error alone."""
    till = Till()
    with broken(how="silent") as silent, replay(Reply({"error": {"message": "no"}}, status=401)) as url:
        try:
            gpt(silent, 0.1).invoke(PROMPT, till.config)
        except openai.APITimeoutError:
            with pytest.raises(openai.AuthenticationError):
                gpt(url).invoke(PROMPT, till.config)

    assert 1 == len(till.calls)
