"""`scan --fix` and `prove STORE` on a real PostgreSQL and through MLflow's own server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from tests.cli.test_cli_erase_elsewhere import all_values, pages, postgres, server, use
from tests.cli.test_scan_traces import MAIL, SAID, STRICT, record, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    import postgres_server
    from servers import Server

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

__all__ = ["postgres", "server"]

pytestmark = pytest.mark.nightly


@pytest.fixture
def strict(cli: Cli, tmp_path: Path) -> Path:
    (tmp_path / "strict.yaml").write_text(STRICT)
    (tmp_path / "texts.txt").write_text(f"{MAIL}\n{SAID}\n")
    return tmp_path


def prove(cli: Cli, uri: str, *words: str) -> tuple[Done, dict[str, Any]]:
    done = cli("prove", uri, "--json", *words)
    return done, json.loads(done.out)


def test_fix_in_postgresql(
    cli: Cli, strict: Path, postgres: postgres_server.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by both, taken out of every value and page, not found afterwards; the write-ahead log is named."""
    uri = postgres.database()
    use(uri, monkeypatch)
    record({"artifact_level": "full"})
    record({"artifact_level": "full"}, fails=True)
    costs = [trace.info.trace_metadata.get("mlflow.trace.cost") for trace in mlflow.search_traces(return_type="list")]
    proved, found = prove(cli, uri, "--text-file", "texts.txt")
    before = all_values(postgres, uri)

    done, told = scan(cli, uri, "--fix", "--yes")
    again, _ = scan(cli, uri)
    cleared, left = prove(cli, uri, "--text-file", "texts.txt")
    stored = all_values(postgres, uri) + pages(postgres, uri)

    assert MAIL.encode() in before
    assert proved.code == 1
    assert {each["what"] for each in found["found"]} == {"text 1", "text 2"}
    assert any(each["place"].endswith("spans.content") for each in found["found"])
    assert (done.code, told["traces_rewritten"], told["traces_deleted"]) == (0, 2, 0)
    assert "write-ahead log" in done.err
    assert (again.code, cleared.code) == (0, 0), again.out
    assert MAIL.encode() not in stored
    assert SAID.encode() not in stored
    assert any("its log, its backups" in why for why in left["not_read"].values())
    assert costs == [
        trace.info.trace_metadata.get("mlflow.trace.cost") for trace in mlflow.search_traces(return_type="list")
    ]


def test_fix_through_a_server(cli: Cli, strict: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server changes no span: such traces are deleted, clean ones stay; what cannot be read is named."""
    use(server.uri, monkeypatch)
    record({"artifact_level": "full"})
    record({"redact_pii": True, "nodes": {"quiet": {"log_prompts": False}}})
    (clean, _) = mlflow.search_traces(return_type="list", order_by=["timestamp_ms DESC"])
    proved, found = prove(cli, server.uri, "--text-file", "texts.txt")

    dry, _ = scan(cli, server.uri, "--fix")
    done, told = scan(cli, server.uri, "--fix", "--yes")
    again, _ = scan(cli, server.uri)
    cleared, _ = prove(cli, server.uri, "--text-file", "texts.txt")

    assert proved.code == 1
    assert {each["what"] for each in found["found"]} == {"text 1", "text 2"}
    assert any("point to them where they are" in why for why in found["not_read"].values())
    assert dry.code == 1
    assert "would rewrite 0 traces and delete 1 trace" in dry.err
    assert (done.code, told["traces_rewritten"], told["traces_deleted"]) == (0, 0, 1)
    assert (again.code, cleared.code) == (0, 0), again.out
    assert [each.info.trace_id for each in mlflow.search_traces(return_type="list")] == [clean.info.trace_id]


def test_what_a_server_keeps_apart(cli: Cli, strict: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces of a deleted experiment are searched as well, as far as the server hands them out."""
    use(server.uri, monkeypatch)
    gone = mlflow.set_experiment("to be deleted")
    with mlflow.start_span("mine") as span:
        span.set_inputs({"who": MAIL})
    mlflow.flush_trace_async_logging()
    mlflow.delete_experiment(gone.experiment_id)

    done, told = prove(cli, server.uri, "--text-file", "texts.txt")

    assert done.code == 1 or any(gone.experiment_id in place for place in told["not_read"])


def test_a_trace_that_a_server_cannot_read(
    cli: Cli, strict: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps no other trace of its page from being searched, billed and erased; it is named, and the command fails."""
    use(server.uri, monkeypatch)
    record({"artifact_level": "full"})
    record({"artifact_level": "full"})
    latest = mlflow.search_traces(return_type="list", order_by=["timestamp_ms DESC"], max_results=2)
    archived, searched = (str(each.info.trace_id) for each in latest)
    with sqlite3.connect(server.folder / "mlflow.db") as database:
        database.execute(
            "UPDATE trace_tags SET value = 'ARCHIVE_REPO' WHERE key = 'mlflow.trace.spansLocation' AND request_id = ?",
            [archived],
        )

    scanned, told = scan(cli, server.uri)
    billed = cli("export", "--tracking-uri", server.uri, "--experiment", "tests", "--out", "bill.csv")
    proved, found = prove(cli, server.uri, "--text-file", "texts.txt")
    erased = cli("erase", server.uri, "--text", MAIL, "--yes", "--receipt", "receipt.json")

    for done in (scanned, billed):
        assert done.code == 1
        assert f"trace {archived} is left out: its spans cannot be read" in done.err
        assert "mlflow-cost: 1 trace could not be read, see above" in done.err
    assert told["traces_with_findings"] == 1
    assert len((strict / "bill.csv").read_text().splitlines()) > 1
    assert proved.code == 1
    assert any(archived in place for place in found["not_read"])
    assert {each["what"] for each in found["found"]} == {"text 1", "text 2"}
    assert f"spans of trace {archived}" in (strict / "receipt.json").read_text()
    assert "Traceback" not in erased.err
    left = mlflow.MlflowClient().search_traces(
        locations=[mlflow.set_experiment("tests").experiment_id], include_spans=False
    )
    assert searched not in [each.info.trace_id for each in left]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql://nobody@127.0.0.1:9/nothing", "mysql://h/x"])
def test_a_store_that_is_away(cli: Cli, strict: Path, uri: str) -> None:
    """Said in one line, and soon."""
    done = cli("prove", uri, "--text-file", "texts.txt")

    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.startswith("mlflow-cost: ")
    assert uri.partition("//")[2].partition("/")[0].rpartition("@")[2].partition(":")[0] in done.err
