"""A redis-server on the loopback interface for the tests that need one."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RedisServer:
    """A redis-server on the loopback interface that a test can stop and start again."""

    binary: str
    directory: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        address = ["--port", str(self.port), "--bind", "127.0.0.1"]
        # Everything is written at once, so that a restarted server knows what the stopped one knew.
        storage = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", self.directory]
        self.process = subprocess.Popen([self.binary, *address, *storage], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return
        pytest.fail("redis-server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port, decode_responses=True)


def redis_server_in(directory: Any) -> RedisServer:
    """A server that is not started yet; the test is skipped where there is none."""
    pytest.importorskip("redis", reason="redis-py is not installed: pip install langchain-mlflow-cost[redis]")
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    return RedisServer(binary, str(directory))
