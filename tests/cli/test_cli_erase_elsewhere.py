"""Erasing from stores that are no SQLite file: PostgreSQL, and a real `mlflow server`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import postgres_server
import pytest
from planted_stores import plant_store
from servers import Server, serving

from tests.cli.conftest import Done
from tests.cli.test_cli_erase import check, receipt_of
from tests.cli.test_cli_store import add_trace

Cli = Callable[..., Done]

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def postgres() -> Iterator[postgres_server.Postgres]:
    if postgres_server.programs() is None:
        pytest.skip("PostgreSQL and psycopg2 are not installed")
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(template_store.read_bytes())
    with serving(folder, f"sqlite:///{folder}/mlflow.db") as server:
        yield server


def use(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("tests")


def all_values(postgres: postgres_server.Postgres, uri: str) -> bytes:
    """Every value of every table, as text."""
    name = uri.rpartition("/")[2]
    tables = postgres.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name=name)
    rows = [postgres.run(f'SELECT t::text FROM "{table}" t', name=name) for (table,) in tables]
    return "\n".join(str(row[0]) for table in rows for row in table).encode()


def pages(postgres: postgres_server.Postgres, uri: str) -> bytes:
    """Every byte of every page of the database's tables, as PostgreSQL has them on the disk."""
    name = uri.rpartition("/")[2]
    files = """SELECT pg_read_binary_file(pg_relation_filepath(oid)) FROM pg_class
        WHERE relkind IN ('r', 't') AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace)"""
    return b"\n".join(bytes(row[0]) for row in postgres.run("CHECKPOINT", files, name=name))


@pytest.mark.parametrize("seed", range(50))
def test_nothing_is_left_in_postgresql(
    cli: Cli, postgres: postgres_server.Postgres, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """No table and no page of one has a byte of what went; the write-ahead log is named."""
    uri = postgres.database()
    use(uri, monkeypatch)
    planted = plant_store(seed)
    # An attachment's text is in a file, and MLflow compresses long values.
    assert planted.found_in(all_values(postgres, uri))
    done = cli("erase", uri, *planted.words, "--yes")

    check(done, planted)
    stored = all_values(postgres, uri)
    assert planted.found_in(stored) == []
    assert [each for each in planted.victims if each.encode() in stored] == []
    assert planted.found_in(pages(postgres, uri)) == []
    receipt = receipt_of(done)
    assert receipt["compacted"].startswith("VACUUM FULL")
    assert any("write-ahead log" in each for each in receipt["not_reached"])


@pytest.mark.parametrize("seed", range(50))
def test_nothing_is_left_through_a_server(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """All that a server's API tells of is gone, its artifacts too; what it cannot reach is named."""
    use(server.uri, monkeypatch)
    planted = plant_store(seed)
    done = cli("erase", server.uri, *planted.words, "--yes")

    check(done, planted)
    receipt = receipt_of(done)
    assert receipt["compacted"] is None
    assert any("free pages" in each for each in receipt["not_reached"])
    files = [path.read_bytes() for path in (server.folder / "served").rglob("*") if path.is_file()]
    assert planted.found_in(b"\n".join(files)) == []


@pytest.mark.parametrize("kind", ["postgres", "server"])
def test_prune_elsewhere(cli: Cli, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old traces go, but for the latest so many."""
    running = request.getfixturevalue(kind)
    uri = running.database() if kind == "postgres" else running.uri
    use(uri, monkeypatch)
    experiment = mlflow.set_experiment("to be pruned")
    ids = [add_trace(days_old=days) for days in (90, 80, 70, 1)]
    done = cli("prune", uri, "--experiment", "to be pruned", "--older-than", "30d", "--keep-at-least", 2, "--yes")

    assert (done.code, done.err) == (0, "")
    left = mlflow.search_traces(locations=[experiment.experiment_id], return_type="list", include_spans=False)
    assert {trace.info.trace_id for trace in left} == set(ids[2:])
