"""`examples/service.py` runs as it says: by itself, and with its sums in a Redis that processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redis_server import RedisServer

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install fastapi httpx")

SERVICE = Path(__file__).parents[2] / "examples" / "service.py"


def answers(folder: Path, **more: str) -> list[str]:
    """Who got what: `acme ann 200`."""
    environment = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_MODEL_CATALOG_URI": "", **more}
    done = subprocess.run(
        [sys.executable, str(SERVICE)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines()


@pytest.mark.nightly
def test_a_month_a_user_and_a_day_a_tenant(tmp_path: Path) -> None:
    """Three calls of 0.00036 are a user's month, six a tenant's day; the other tenant's user of that name is another."""
    told = answers(tmp_path)
    codes = [" ".join(line.split()[:3]) for line in told]

    assert ["acme ann 200"] * 3 + ["acme ann 402"] + ["acme bob 200"] * 3 + ["acme bob 402", "zeta ann 200"] == codes
    assert "'scope': 'user', 'per': 'month'" in told[3]
    assert "'limit_usd': 0.001, 'left_usd': 0.0}" in told[3]
    assert not [line for line in told if line.split()[2] == "402" and ("ann" in line[8:] or "bob" in line[8:])]


@pytest.mark.nightly
def test_the_next_process_knows(tmp_path: Path, redis_server: RedisServer) -> None:
    """With a Redis a restart forgets nothing: of the second process's calls, one of the other tenant's is made."""
    redis_server.client().flushdb()
    first, second = ([line.split()[2] for line in answers(tmp_path, REDIS_URL=redis_server.url)] for _ in range(2))

    assert ["200", "200", "200", "402", "200", "200", "200", "402", "200"] == first
    assert ["402"] * 8 + ["200"] == second
