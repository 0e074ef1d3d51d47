"""Nothing leaves this machine while a proof runs: no tracer, no name looked up, no connection but to itself."""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS: Final = (
    "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "CO_API_KEY", "COHERE_API_KEY", "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY",
    "GOOGLE_API_KEY", "GROQ_API_KEY", "HUGGINGFACEHUB_API_TOKEN", "MISTRAL_API_KEY", "OPENAI_API_KEY",
    "OPENROUTER_API_KEY", "PERPLEXITY_API_KEY", "PPLX_API_KEY", "TAVILY_API_KEY", "TOGETHER_API_KEY", "XAI_API_KEY",
)  # fmt: skip
"""Clients cannot be made without; none is asked."""
_NO_KEY: Final = "none-is-asked"
_TRACERS: Final = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
_EXPORTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


class OfflineError(ConnectionError):
    """A proof asks nobody outside this machine."""


def _is_here(host: Any) -> bool:
    if not isinstance(host, str | bytes):
        return True
    name = host.decode() if isinstance(host, bytes) else host
    if name in {"", "localhost", socket.gethostname()}:
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


@contextmanager
def offline(environment: dict[str, str], *, closed: bool) -> Iterator[list[str]]:  # noqa: C901 - three ways out, shut
    """Set variables, take away those that name other services, and refuse connections, while the block runs.

    Args:
        environment: Variables to set.
        closed: Whether connections are refused; tools that run may need them.

    Yields:
        The hosts that were asked for and refused, as they come.
    """
    before = dict(os.environ)
    refused: list[str] = []
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host: Any) -> None:
        if not _is_here(host):
            name = host.decode() if isinstance(host, bytes) else str(host)
            if name not in refused:
                refused.append(name)
            raise OfflineError(f"a proof runs offline: {name} was not asked")

    def checked(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            check(address[0])
        connect(self, address)

    def checked_ex(self: socket.socket, address: Any) -> int:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            check(address[0])
        return connect_ex(self, address)

    def checked_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        check(host)
        return look_up(host, *arguments, **options)

    for name in (*_TRACERS, *_EXPORTS):
        os.environ.pop(name, None)
    for name in _KEYS:
        os.environ.setdefault(name, _NO_KEY)
    os.environ.update(environment)
    if closed:
        socket.socket.connect = checked  # type: ignore[method-assign, assignment]
        socket.socket.connect_ex = checked_ex  # type: ignore[method-assign, assignment]
        socket.getaddrinfo = checked_look_up
    try:
        yield refused
    finally:
        if closed:
            socket.socket.connect, socket.socket.connect_ex = connect, connect_ex  # type: ignore[method-assign]
            socket.getaddrinfo = look_up
        os.environ.clear()
        os.environ.update(before)
