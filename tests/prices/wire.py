"""A loopback server that replays recorded responses to the real clients, and a handler that hears what LangChain says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler

from langchain_mlflow_cost.pricing.book import PriceBook, PricedCall
from langchain_mlflow_cost.pricing.reading import call_request, call_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult

# All expected prices are those of genai-prices 0.2.3 for this moment.
AT = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


class Reply:
    """One recorded response: a JSON body, or the events of a stream."""

    def __init__(self, body: Mapping[str, Any] | None = None, events: list[Any] | None = None) -> None:
        self.body = body
        self.events = events

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
            kind, body = queue.pop(0).encode()
            self.send_response(200)
            self.send_header("content-type", kind)
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


class Ear(BaseCallbackHandler):
    """Reads every call as the library does."""

    raise_error = True

    def __init__(self) -> None:
        self.requests: dict[Any, CallRequest] = {}
        self.calls: list[tuple[CallRequest, CallResult]] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.requests[run_id] = call_request(
            metadata=kwargs.get("metadata"),
            invocation_params=kwargs.get("invocation_params"),
            serialized=serialized,
            messages=messages,
        )

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.requests[run_id] = call_request(
            metadata=kwargs.get("metadata"),
            invocation_params=kwargs.get("invocation_params"),
            serialized=serialized,
            batch_size=kwargs.get("batch_size", 1),
        )

    def on_llm_end(self, response: Any, *, run_id: Any, **kwargs: Any) -> None:
        request = self.requests[run_id]
        self.calls.append((request, call_result(request, response.generations, response.llm_output)))

    def priced(self, book: PriceBook | None = None) -> list[PricedCall]:
        book = book or PriceBook()
        return [book.price(request, result, at=AT) for request, result in self.calls]

    def total(self, book: PriceBook | None = None) -> Decimal:
        costs = [priced.cost for priced in self.priced(book)]
        assert all(cost is not None for cost in costs)
        return sum((cost.total_usd for cost in costs if cost), Decimal(0))


def say(model: Any, prompt: Any, *, stream: bool = False) -> Ear:
    """Call a model once and give what was heard."""
    ear = Ear()
    config = {"callbacks": [ear]}
    if stream:
        for _ in model.stream(prompt, config):
            pass
    else:
        model.invoke(prompt, config)
    return ear
