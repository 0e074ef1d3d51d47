"""A server between a client and a real `mlflow server`, that passes on, fails, or takes its time, as it is told."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_PASSED_ON = ("host", "connection", "content-length", "transfer-encoding")


class FaultProxy(ThreadingHTTPServer):
    """Asked for `/mode/NAME`, it does so from then on: `pass`, `500`, or `slow-S`, which first waits S seconds."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.mode = "pass"
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.answered_at = 0.0
        """When it last passed on what it was sent, in seconds of `time.monotonic`."""

    def handle_error(self, *_: object) -> None:
        """A client that went away is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/mode/"):
            self.server.mode = self.path.removeprefix("/mode/")
            self._send(200, b"", {})
        elif self.path == "/health" or self.server.mode == "pass":
            self._pass_on(body)
        elif self.server.mode == "500":
            self._send(500, b'{"error_code": "INTERNAL_ERROR", "message": "no"}', {"Content-Type": "application/json"})
        else:
            time.sleep(float(self.server.mode.removeprefix("slow-")))
            self._pass_on(body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer  # noqa: N815 - as the base class calls them

    def _pass_on(self, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
        given = requests.request(
            self.command, f"{self.server.behind}{self.path}", data=body, headers=headers, timeout=60
        )
        kept = {name: value for name, value in given.headers.items() if name == "Content-Type"}
        self._send(given.status_code, given.content, kept)
        if self.command == "POST" and given.ok:
            self.server.answered_at = time.monotonic()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def proxied(behind: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(behind)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
