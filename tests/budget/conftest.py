"""A real redis-server for the tests that need one."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from redis_server import RedisServer, redis_server_in

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session() -> str:
    """The id of a session that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests; each uses sessions of its own."""
    server = redis_server_in(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis_server(tmp_path: Any) -> Iterator[RedisServer]:
    """A server for one test, which may stop it; not started yet."""
    server = redis_server_in(tmp_path)
    yield server
    server.stop()
