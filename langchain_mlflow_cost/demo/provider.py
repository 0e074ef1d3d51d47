"""A model provider on 127.0.0.1 that speaks the wire formats of OpenAI and Anthropic from a script.

The real clients talk to it, so that what they do with usage blocks, streams and tool calls is what happens in
production. It serves OpenAI's Chat Completions and Anthropic's Messages, as JSON and as server-sent events.

    with ProviderServer(["Hello.", Reply("Bye.", Tokens(input=9, output=2, cache_read=4))]) as server:
        ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_base_url, api_key="none").invoke("Hi")
        ChatAnthropic(model="claude-sonnet-5", base_url=server.anthropic_base_url, api_key="none").invoke("Hi")

Formats: https://platform.openai.com/docs/api-reference/chat and https://docs.anthropic.com/en/api/messages, as the
clients `openai` 3.54 and `anthropic` 2.12 read them.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

Api: TypeAlias = Literal["openai", "anthropic"]
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a reply says that it used."""

    input: int = 0
    """All input tokens, cached ones included: OpenAI's way to count. Anthropic's is worked out from it."""
    output: int = 0
    """All output tokens, reasoning included."""
    cache_read: int = 0
    cache_write: int = 0
    """Written to a cache that lives five minutes."""
    cache_write_1h: int = 0
    """Written to a cache that lives an hour; only Anthropic tells the two apart."""
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that the model asks for."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    """Made from the request's number when empty."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model."""

    text: str | Iterable[str] = ""
    """A string is streamed word by word; an iterable piece by piece, as it yields them."""
    usage: Tokens | None = field(default_factory=Tokens)
    """None: the provider reports no usage at all, as some compatible servers do."""
    tool_calls: Sequence[ToolCall] = ()
    thinking: str = ""
    """Anthropic's thinking block, before the text."""
    model: str = ""
    """The model that the response names; empty: the one that the request named."""
    status: int = HTTPStatus.OK
    """Above 399: `text` is the error's message. The clients retry 408, 409, 429 and 5xx."""
    service_tier: str = ""
    """Empty: the provider's standard tier."""
    extra_usage: Mapping[str, Any] = field(default_factory=dict)
    """More keys of the usage block, such as OpenRouter's `cost` or Anthropic's `server_tool_use`."""
    pause_s: float = 0.0
    """Seconds to wait before the answer, and a tenth of it before each streamed piece."""
    cut_after: int | None = None
    """Break the connection of a stream after this many pieces of text, before any usage is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as the client sent it. Headers are not kept: they hold the key."""

    number: int
    """Order of arrival, from 0."""
    api: Api
    body: Json = field(repr=False)

    @property
    def model(self) -> str:
        """The model that the request names."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the client asked for server-sent events."""
        return bool(self.body.get("stream"))

    @property
    def prompt(self) -> str:
        """All text of the request's messages and of its system prompt, one line each."""
        messages = self.body.get("messages", [])
        return "\n".join(_texts([self.body.get("system", ""), *(message.get("content") for message in messages)]))


Script: TypeAlias = Callable[[Request], Reply | str] | Iterable[Reply | str]


class ProviderServer:
    """A model server on a free port of 127.0.0.1, for as long as the `with` block lasts.

    Args:
        script: The replies in order of arrival, or a callable that makes one from a request; it is called in the
            request's thread and may block. A request beyond the end of a script is refused with status 400, which no
            client retries.
    """

    def __init__(self, script: Script) -> None:
        self._script = script if callable(script) else None
        self._replies = iter(()) if callable(script) else iter(script)
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._server = _Server(self)
        self._thread = threading.Thread(
            # The poll decides how long `shutdown` takes.
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.01},
            name="mlflow-cost-provider",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def openai_base_url(self) -> str:
        """For `ChatOpenAI(base_url=...)`."""
        return f"{self._root}/openai/v1"

    @property
    def anthropic_base_url(self) -> str:
        """For `ChatAnthropic(base_url=...)`."""
        return f"{self._root}/anthropic"

    @property
    def requests(self) -> list[Request]:
        """What has come in so far, in order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def _root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, api: Api, body: Json) -> tuple[Request, Reply]:
        """Record a request and take its reply from the script."""
        with self._lock:
            request = Request(len(self._requests), api, body)
            self._requests.append(request)
            reply = None if self._script else next(self._replies, _NO_REPLY_LEFT)
        if self._script:
            reply = self._script(request)
        return request, Reply(reply) if isinstance(reply, str) else (reply or _NO_REPLY_LEFT)


_NO_REPLY_LEFT = Reply("the script has no reply left", status=HTTPStatus.BAD_REQUEST)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, provider: ProviderServer) -> None:
        self.provider = provider
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks a stream off is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wire = _WIRES.get(self.path.split("?")[0])
        if wire is None:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": {"type": "not_found_error", "message": self.path}})
            return
        api, as_json, as_events = wire
        request, reply = self.server.provider.answer(api, body)
        time.sleep(reply.pause_s)
        if reply.status >= HTTPStatus.BAD_REQUEST:
            error = {"type": "invalid_request_error", "message": _joined(reply.text), "code": None, "param": None}
            self._send_json(reply.status, {"type": "error", "error": error})
        elif request.stream:
            self._send_events(as_events(request, reply))
        else:
            self._send_json(HTTPStatus.OK, as_json(request, reply))

    def _send_json(self, status: int, answer: Json) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self._send_headers("application/json", ("Content-Length", str(len(content))))
        self.wfile.write(content)

    def _send_events(self, events: Iterable[tuple[str, Json | str]]) -> None:
        self.send_response(HTTPStatus.OK)
        self._send_headers("text/event-stream", ("Transfer-Encoding", "chunked"))
        for name, content in events:
            line = f"event: {name}\n" if name else ""
            text = content if isinstance(content, str) else json.dumps(content)
            self._send_chunk(f"{line}data: {text}\n\n".encode())
        self._send_chunk(b"")

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))

    def _send_headers(self, content_type: str, length: tuple[str, str]) -> None:
        self.send_header("Content-Type", content_type)
        self.send_header(*length)
        # No kept-alive connection: LangChain caches its clients for the process's life, and their sockets would
        # outlive the server and be reported as leaks.
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Keep the terminal clean."""


# --- OpenAI's Chat Completions


def _openai_json(request: Request, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": _joined(reply.text) or None, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = [_openai_tool_call(request, i, call) for i, call in enumerate(reply.tool_calls)]
    choice = {"message": message, "logprobs": None, "finish_reason": _openai_stop(reply)}
    choices = [{"index": index, **choice} for index in range(request.body.get("n") or 1)]
    usage = {} if reply.usage is None else {"usage": _openai_usage(reply.usage, reply)}
    return {**_openai_head(request, reply, "chat.completion"), "choices": choices, **usage}


def _openai_events(request: Request, reply: Reply) -> Iterator[tuple[str, Json | str]]:
    head = _openai_head(request, reply, "chat.completion.chunk")
    wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
    no_usage = {"usage": None} if wants_usage else {}

    def chunk(delta: Json, stop: str | None = None) -> tuple[str, Json]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}
        return "", {**head, "choices": [choice], **no_usage}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in _pieces(reply):
        yield chunk({"content": piece})
    for index, call in enumerate(reply.tool_calls):
        whole = _openai_tool_call(request, index, call)
        arguments = whole["function"]["arguments"]
        opening = {**whole, "index": index, "function": {"name": call.name, "arguments": ""}}
        yield chunk({"tool_calls": [opening]})
        # Real arguments come in fragments that are no JSON on their own.
        for part in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, _openai_stop(reply))
    if wants_usage and reply.usage is not None:
        yield "", {**head, "choices": [], "usage": _openai_usage(reply.usage, reply)}
    yield "", "[DONE]"


def _openai_head(request: Request, reply: Reply, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{request.number}",
        "object": kind,
        "created": 1_700_000_000,
        "model": reply.model or request.model,
        "service_tier": reply.service_tier or "default",
        "system_fingerprint": "fp_loopback",
    }


def _openai_tool_call(request: Request, index: int, call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
    return {"id": call.id or f"call_{request.number}_{index}", "type": "function", "function": function}


def _openai_stop(reply: Reply) -> str:
    return "tool_calls" if reply.tool_calls else "stop"


def _openai_usage(tokens: Tokens, reply: Reply) -> Json:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": tokens.input_audio},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": tokens.output_audio,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        **reply.extra_usage,
    }


# --- Anthropic's Messages


def _anthropic_json(request: Request, reply: Reply) -> Json:
    content: list[Json] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"})
    if text := _joined(reply.text):
        content.append({"type": "text", "text": text})
    for index, call in enumerate(reply.tool_calls):
        content.append({**_anthropic_tool_use(request, index, call), "input": dict(call.arguments)})
    usage = {} if reply.usage is None else _anthropic_usage(reply.usage, reply)
    return {
        **_anthropic_head(request, reply),
        "content": content,
        "stop_reason": _anthropic_stop(reply),
        "usage": usage,
    }


def _anthropic_events(request: Request, reply: Reply) -> Iterator[tuple[str, Json | str]]:
    usage = {"input_tokens": 0, "output_tokens": 0} if reply.usage is None else _anthropic_usage(reply.usage, reply)
    index = itertools.count()

    def event(name: str, **content: Any) -> tuple[str, Json]:
        return name, {"type": name, **content}

    def block(opening: Json, deltas: Iterable[Json]) -> Iterator[tuple[str, Json]]:
        at = next(index)
        yield event("content_block_start", index=at, content_block=opening)
        for delta in deltas:
            yield event("content_block_delta", index=at, delta=delta)
        yield event("content_block_stop", index=at)

    start = {**_anthropic_head(request, reply), "content": [], "stop_reason": None}
    yield event("message_start", message={**start, "usage": {**usage, "output_tokens": min(1, usage["output_tokens"])}})
    yield event("ping")
    if reply.thinking:
        deltas = [
            {"type": "thinking_delta", "thinking": reply.thinking},
            {"type": "signature_delta", "signature": "c2lnbmVk"},
        ]
        yield from block({"type": "thinking", "thinking": "", "signature": ""}, deltas)
    if reply.text:
        pieces = ({"type": "text_delta", "text": piece} for piece in _pieces(reply))
        yield from block({"type": "text", "text": ""}, pieces)
    for number, call in enumerate(reply.tool_calls):
        arguments = json.dumps(dict(call.arguments))
        halves = (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :])
        deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
        yield from block({**_anthropic_tool_use(request, number, call), "input": {}}, deltas)
    stop = {"stop_reason": _anthropic_stop(reply), "stop_sequence": None}
    yield event("message_delta", delta=stop, usage=usage)
    yield event("message_stop")


def _anthropic_head(request: Request, reply: Reply) -> Json:
    model = reply.model or request.model
    return {
        "id": f"msg_{request.number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }


def _anthropic_tool_use(request: Request, index: int, call: ToolCall) -> Json:
    return {"type": "tool_use", "id": call.id or f"toolu_{request.number}_{index}", "name": call.name}


def _anthropic_stop(reply: Reply) -> str:
    return "tool_use" if reply.tool_calls else "end_turn"


def _anthropic_usage(tokens: Tokens, reply: Reply) -> Json:
    written = tokens.cache_write + tokens.cache_write_1h
    details = {"output_tokens_details": {"thinking_tokens": tokens.reasoning}} if tokens.reasoning else {}
    return {
        # Anthropic counts the cached tokens beside `input_tokens`, not in them.
        "input_tokens": tokens.input - tokens.cache_read - written,
        "output_tokens": tokens.output,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        },
        "service_tier": reply.service_tier or "standard",
        **details,
        **reply.extra_usage,
    }


# --- what both share


def _pieces(reply: Reply) -> Iterator[str]:
    """The text piece by piece; raises where the connection is to break."""
    pieces = re.findall(r"\s*\S+\s*?|\s+$", reply.text) if isinstance(reply.text, str) else reply.text
    for sent, piece in enumerate(pieces):
        if sent == reply.cut_after:
            # Out of the handler without the last, empty chunk: the client sees the connection break.
            raise ConnectionAbortedError
        time.sleep(reply.pause_s / 10)
        yield piece


def _joined(text: str | Iterable[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _texts(value: Any) -> Iterator[str]:
    """Every text below a message's `content`, in order: a string, or blocks with `text` or `content`."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        yield from _texts([value.get("text"), value.get("content")])
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)


_Wire: TypeAlias = tuple[
    Api, Callable[[Request, Reply], Json], Callable[[Request, Reply], Iterator[tuple[str, Json | str]]]
]
_WIRES: dict[str, _Wire] = {
    "/openai/v1/chat/completions": ("openai", _openai_json, _openai_events),
    "/anthropic/v1/messages": ("anthropic", _anthropic_json, _anthropic_events),
}
