"""A loopback server that replays recorded responses to the real clients, and what `MlflowCostHandler` counts of them.

Prices are those of the day on which the tests run, by genai-prices 0.2.3, which knows no later ones for these models.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.pricing.book import PriceBook
from langchain_mlflow_cost.pricing.reading import call_request, call_result
from langchain_mlflow_cost.pricing.usage import CallRequest
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json, usage_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_core.outputs import LLMResult

    from langchain_mlflow_cost.pricing.ledger import Call


class Reply:
    """One recorded response: a JSON body, or the events of a stream."""

    def __init__(
        self,
        body: Mapping[str, Any] | None = None,
        events: list[Any] | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.body = body
        self.events = events
        self.status = status
        self.headers = headers or {}

    def encode(self) -> tuple[str, bytes]:
        if self.events is None:
            return "application/json", json.dumps(self.body).encode()
        lines = []
        for event in self.events:
            if isinstance(event, str):
                lines.append(f"data: {event}\n\n")
                continue
            name = f"event: {event['type']}\n" if "type" in event else ""
            lines.append(f"{name}data: {json.dumps(event)}\n\n")
        return "text/event-stream", "".join(lines).encode()


@contextmanager
def replay(*replies: Reply) -> Iterator[str]:
    """Serve the replies in order on 127.0.0.1 and give the base URL."""
    queue = list(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            reply = queue.pop(0)
            kind, body = reply.encode()
            self.send_response(reply.status)
            self.send_header("content-type", kind)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class ToServer(httpx.HTTPTransport):
    """Brings requests for whichever host to the server on this machine, so that a client may have its real base URL."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.server = httpx.URL(url)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the server instead."""
        request.url = request.url.copy_with(scheme="http", host=self.server.host, port=self.server.port)
        return super().handle_request(request)


class Answers(BaseCallbackHandler):
    """Keeps what the clients asked and answered, for what the handler does not show."""

    def __init__(self) -> None:
        self.requests: dict[Any, CallRequest] = {}
        self.responses: list[LLMResult] = []
        self.asked: list[tuple[CallRequest, LLMResult]] = []

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: Any, metadata: Any = None, **kwargs: Any
    ) -> None:
        self.requests[run_id] = call_request(
            metadata=metadata,
            invocation_params=kwargs.get("invocation_params"),
            serialized=serialized,
            messages=messages,
        )

    def on_llm_end(self, response: LLMResult, *, run_id: Any, **kwargs: Any) -> None:
        self.responses.append(response)
        if run_id in self.requests:
            self.asked.append((self.requests[run_id], response))


class Till:
    """What a handler counted, call by call, exactly; its sum must be that of the handler's summary."""

    def __init__(self, **prices: Any) -> None:
        self.calls: list[Call] = []
        self.answers = Answers()
        self.handler = MlflowCostHandler({"autolog_enabled": False, "prices": prices}, on_cost=self.calls.append)
        self.config: Any = {"callbacks": [self.handler, self.answers]}

    def total(self) -> Decimal:
        usd = Decimal(0)
        for call in self.calls:
            assert call.input_usd is not None
            assert call.output_usd is not None
            usd += call.input_usd + call.output_usd
        return usd

    def problems(self) -> list[str]:
        """What could not be true in the usage that was reported."""
        results = [
            call_result(CallRequest(), answer.generations, answer.llm_output) for answer in self.answers.responses
        ]
        return [problem for result in results for problem in result.problems]


def say(model: Any, prompt: Any, *, stream: bool = False, **prices: Any) -> Till:
    """Call a model once, governed by a handler of its own, and give what that counted.

    Args:
        model: The client.
        prompt: What it is told.
        stream: Whether it streams.
        prices: Of the handler's policy.
    """
    till = Till(**prices)
    if stream:
        for _ in model.stream(prompt, till.config):
            pass
    else:
        model.invoke(prompt, till.config)
    summary = till.handler.summary()

    assert len(till.calls) == summary.llm_calls
    if not summary.unpriced_calls:
        assert pytest.approx(float(till.total()), rel=1e-9) == summary.total_cost_usd
    price_again(till, PriceBook(fallback=catalogue_rates, **prices))
    return till


def price_again(till: Till, book: PriceBook) -> None:
    """Each call costs the same when it is priced from what its span says of it."""
    at = datetime.now(UTC)
    for request, answer in till.answers.asked:
        result = call_result(request, answer.generations, answer.llm_output)
        priced = book.price(request, result, at=at)
        again, told, when = call_of_usage_json(usage_json(request, result, priced, at=at))

        assert priced.cost == book.price(again, told, at=when).cost


# --- Chat Completions


def chat(model: str, usage: dict[str, Any] | None, *, tier: str | None = "default", n: int = 1) -> Reply:
    body: dict[str, Any] = {
        "id": "chatcmpl-CdzKqjY7nYQ0",
        "object": "chat.completion",
        "created": 1763700000,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for index in range(n)
        ],
        "system_fingerprint": "fp_c98e05ca17",
    }
    if usage is not None:
        body["usage"] = usage
    if tier is not None:
        body["service_tier"] = tier
    return Reply(body)


def chunks(model: str, usage: dict[str, Any] | None, *, tier: str | None = "default", n: int = 1) -> Reply:
    base = {"id": "chatcmpl-CdzK", "object": "chat.completion.chunk", "created": 1763700000, "model": model}
    if tier is not None:
        base["service_tier"] = tier
    events: list[Any] = []
    for index in range(n):
        steps: Any = (({"role": "assistant", "content": ""}, None), ({"content": "Hello."}, None), ({}, "stop"))
        events += [
            {**base, "choices": [{"index": index, "delta": delta, "finish_reason": end}]} for delta, end in steps
        ]
    if usage is not None:
        events.append({**base, "choices": [], "usage": usage})
    return Reply(events=[*events, "[DONE]"])


def tokens(
    prompt: int, completion: int, *, cached: int = 0, audio: int = 0, reasoning: int = 0, audio_out: int = 0
) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
