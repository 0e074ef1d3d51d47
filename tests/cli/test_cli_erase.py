"""What `mlflow-cost erase` and `prune` delete is gone: from every table, every file and every byte; and nothing else is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from leaks import cells, folder_bytes
from planted_stores import Planted, others_of, plant_store, through_the_api
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.cli.conftest import Done

Cli = Callable[..., Done]

SEEDS = [pytest.param(seed, marks=() if seed == 1 else pytest.mark.nightly) for seed in range(50)]


@pytest.fixture(autouse=True)
def without_secure_delete() -> Iterator[None]:
    """SQLite may be built to overwrite what is deleted: then nobody could see whether VACUUM did anything."""

    def connected(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA secure_delete = OFF")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


def receipt_of(done: Done) -> dict[str, Any]:
    path = Path(done.out.rpartition("Receipt: ")[2].strip())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def database_of(store: str) -> Path:
    return Path(store.removeprefix("sqlite:///"))


def check(done: Done, planted: Planted) -> None:
    """What every planted store must be like behind it, as MLflow's API tells."""
    receipt = receipt_of(done)
    assert (done.code, done.err) == (0, "")
    assert receipt["state"] == "done"
    assert receipt["deleted"]["traces"] == len(planted.victims)
    assert sorted(receipt["trace_ids"]) == sorted(planted.victims)
    assert planted.found_in(json.dumps(receipt).encode()) == []
    assert through_the_api(planted) == {}
    assert others_of(planted) == planted.others_before


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_in_sqlite(cli: Cli, store: str, seed: int) -> None:
    """No table, file or free page has a byte of what went, and no other trace is touched."""
    planted = plant_store(seed)
    before = folder_bytes(database_of(store).parent)
    assert planted.found_in(before) == list(planted.gone)
    done = cli("erase", *planted.words, "--yes")

    check(done, planted)
    after = folder_bytes(database_of(store).parent)
    assert planted.found_in(after) == []
    assert [each for each in planted.victims if each.encode() in b"\n".join(cells(database_of(store)))] == []
    assert "nothing of it is left" in done.out


def test_without_compacting_bytes_are_left(cli: Cli, store: str) -> None:
    """The tests above see free pages: what MLflow itself deletes stays in them."""
    planted = plant_store(1)
    for trace_id in planted.victims:
        experiment = mlflow.MlflowClient().get_trace(trace_id, display=False).info.experiment_id
        mlflow.MlflowClient().delete_traces(experiment, trace_ids=[trace_id])
    mlflow.flush_trace_async_logging()

    with closing(sqlite3.connect(database_of(store))) as database:
        tables = b"\n".join(cells(database_of(store)))
        assert database.execute("SELECT COUNT(*) FROM spans WHERE trace_id = ?", planted.victims[:1]).fetchone() == (0,)
    in_tables = planted.found_in(tables)
    assert set(planted.found_in(database_of(store).read_bytes())) - set(in_tables)
