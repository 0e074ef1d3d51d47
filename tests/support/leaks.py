"""Plant texts and look for them in every byte that was stored or sent.

A planted text begins with `PREFIX` letters that no other has, so a copy that was cut short is still found, and ends
with characters that JSON and URLs escape, so a copy in another spelling is looked for as such.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from langchain_mlflow_cost.redaction.spellings import spelling_in as first_spelling_in
from langchain_mlflow_cost.redaction.spellings import spellings as spellings_of
from langchain_mlflow_cost.sqlite_files import opened, tables

PREFIX = 16
"""Characters of a planted text that are looked for on their own: where it was cut, so much must not be left."""

_number = itertools.count()


def letters(count: int) -> str:
    """Letters that occur nowhere else, the same in every run of the tests."""
    digest = hashlib.sha256(f"planted {next(_number)}".encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz"[byte % 20] for byte in digest[:count])


def prose() -> str:
    """A text that no detector takes for anything: what somebody told a model."""
    return f'{letters(PREFIX)} said "{letters(10)}" \\ 7/8 & més\n{letters(10)}'


def email() -> str:
    """A text that `EMAIL_ADDRESS` recognises."""
    return f"{letters(PREFIX)}@{letters(9)}.com"


def kept() -> str:
    """A text that nothing may remove where the policy keeps payloads."""
    return letters(20)


def spellings(text: str) -> dict[str, bytes]:
    """Every spelling in which a copy of a text is looked for: by its first letters, which a copy that was cut has too."""
    head = text[:PREFIX]
    return {**spellings_of(head), "upper case": head.upper().encode()}


def spelling_in(text: str, stored: bytes) -> str | None:
    """The first spelling of a text that is in these bytes; None if there is none."""
    return first_spelling_in(spellings(text), stored)


class Collector:
    """An OTLP collector on 127.0.0.1 that keeps what it is sent, decompressed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: list[tuple[str, bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._keep))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _keep(self, path: str, body: bytes) -> None:
        with self._lock:
            self._bodies.append((path, body))

    def sent(self, path: str = "/v1/") -> bytes:
        with self._lock:
            return b"\n".join(body for where, body in self._bodies if where.startswith(path))

    def clear(self) -> None:
        with self._lock:
            self._bodies.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(keep: Callable[[str, bytes], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match self.headers.get("Content-Encoding"):
                case "gzip":
                    body = gzip.decompress(body)
                case "deflate":
                    body = zlib.decompress(body)
            keep(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def cells(database: Path) -> Iterator[bytes]:
    """Every value of every table: a long one is split over pages in the file itself."""
    with opened(database) as connection:
        for _, _, rows in tables(connection):
            for row in rows:
                yield from (value for value in row if isinstance(value, bytes))


def forget_traces(folder: Path) -> None:
    """Empty the tables of traces, so that the next search reads only what came after this one."""
    for database in folder.glob("*.db"):
        with sqlite3.connect(database) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for name in names:
                if name.startswith(("trace_", "span")):
                    connection.execute(f'DELETE FROM "{name}"')
        connection.close()


def folder_bytes(folder: Path) -> bytes:
    """Every byte of every file below a folder, and the values of its SQLite databases."""
    while True:
        try:
            return _folder_bytes(folder)
        except FileNotFoundError:
            continue  # a database's journal went while others were read: what it held is in the database by now


def _folder_bytes(folder: Path) -> bytes:
    parts: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            parts += [path.name.encode(), content]
            if content.startswith(b"SQLite format 3"):
                parts += cells(path)
    return b"\n".join(parts)


def flush() -> None:
    """Let everything that is queued leave."""
    import mlflow
    from mlflow.tracing import provider
    from opentelemetry import metrics

    from langchain_mlflow_cost.adapters.store_calls import flush_traces

    # On a machine that stands still for seconds, what is exported without a queue goes on in a thread of ours.
    flush_traces(mlflow.get_tracking_uri())
    for flushable in (provider.provider.get(), metrics.get_meter_provider()):
        if hasattr(flushable, "force_flush"):
            flushable.force_flush()


@dataclass
class Sinks:
    """Where traces go in a test."""

    folder: Path
    collector: Collector | None = None
    flush: Callable[[], None] = lambda: None
    outgoing: Callable[[], bytes] = field(default=lambda: b"")

    def everything(self) -> bytes:
        """All that has left the process since the last look, with everything that was queued."""
        self.flush()
        sent = self.collector.sent() if self.collector is not None else b""
        left = folder_bytes(self.folder) + b"\n" + sent + self.outgoing()
        forget_traces(self.folder)
        if self.collector is not None:
            self.collector.clear()
        return left


@dataclass
class Planted:
    """Texts by channel: `planted` is what must go, `kept` is what must stay beside it."""

    make: Callable[[], str] = prose
    to_be_told: bool = False
    """Whether the scene's last node tells them to its model."""
    texts: dict[str, str] = field(default_factory=dict)
    companions: dict[str, str] = field(default_factory=dict)

    def __call__(self, channel: str) -> str:
        """A text for a channel: the planted one, beside one that may stay."""
        # Words between: what is found is widened to whole words, and may begin in the word before, or end in the one
        # behind, by chance: where the next text that was told begins with the same letter.
        return f"and {self.companion(channel)} beside {self.secret(channel)}"

    def secret(self, channel: str) -> str:
        return self.texts.setdefault(channel, self.make())

    def companion(self, channel: str) -> str:
        return self.companions.setdefault(channel, kept())


@dataclass(frozen=True)
class Outcome:
    """What a scene left behind."""

    stored: bytes
    planted: Planted

    def leak(self, channel: str) -> str | None:
        """The spelling in which a channel's text is there; None if it is not."""
        return spelling_in(self.planted.texts[channel], self.stored)

    def has_companion(self, channel: str) -> bool:
        return spelling_in(self.planted.companions[channel], self.stored) is not None


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; its value, which is false if it never does."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return value


__all__ = [
    "PREFIX", "Collector", "Outcome", "Planted", "Sinks", "cells", "email", "flush", "folder_bytes",
    "forget_traces", "kept", "letters",
    "prose", "spelling_in", "spellings", "within",
]  # fmt: skip
