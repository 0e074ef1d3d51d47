"""Opens a client of redis-py for all that is kept in a Redis: bounded waits, no tries of its own, no secret told."""

from __future__ import annotations

import inspect
from typing import Any
from urllib.parse import urlsplit

from langchain_mlflow_cost.budgets.rules import NEEDS_EXTRA, NO_REDIS_URL, STORE, check_store
from langchain_mlflow_cost.errors import PolicyError


def open_client(url: str, *, timeout_s: float, setting: str = STORE, **options: Any) -> tuple[str, Any]:
    """Open a client, and give what may be told of where it is: no password.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        timeout_s: For the connection, and again for each answer.
        setting: Where the URL stands, for messages.
        options: More of redis-py's.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """
    check_store(url, setting)
    try:
        # Here, for redis-py is an extra, and takes 0.3 s to import (8.1: it imports numpy where that is installed).
        import redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError as error:
        raise PolicyError(NEEDS_EXTRA.format(setting)) from error
    try:
        parts = urlsplit(url)
        name = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # redis-py's default would multiply the time that a call can wait.
            # Nothing is asked when a connection is made: after a late answer a new one is, while a call waits.
            protocol=2,
            **_unnamed(redis.connection.AbstractConnection),
            **options,
        )
    except ValueError:  # Its message can quote the URL, and that a password.
        raise PolicyError(NO_REDIS_URL.format(setting)) from None
    return name, client


def _unnamed(connection: type) -> dict[str, None]:
    """The settings by which redis-py (5.0 to 8.1) does not tell its own name to the server."""
    known = inspect.signature(connection).parameters
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
