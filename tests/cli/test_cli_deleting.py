"""How `prune` and `erase` behave where things are not as they should be, and what they tell."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import FakeChat
from leaks import email, folder_bytes, letters, prose, spelling_in
from mlflow.store.db.trace_rollups import run_sql_trace_rollups
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from planted_stores import plant_store
from sqlalchemy import create_engine

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.limits import replaced
from tests.cli.conftest import Done
from tests.cli.test_cli_erase import database_of, receipt_of, without_secure_delete
from tests.cli.test_cli_store import EXPERIMENT, stored

Cli = Callable[..., Done]

__all__ = ["without_secure_delete"]


def add(text: str, *, user: str | None = None, session: str | None = None, days_old: float = 0) -> str:
    """A trace of somebody's that holds a text."""
    start = int((time.time() - days_old * 86_400) * 1e9)
    metadata = {"mlflow.trace.user": user, "mlflow.trace.session": session}
    span = mlflow.start_span_no_context(
        "work", start_time_ns=start, inputs={"q": text}, metadata={key: each for key, each in metadata.items() if each}
    )
    span.end()
    mlflow.flush_trace_async_logging()
    return str(span.trace_id)


def graph_run(policy: dict[str, Any], user: str) -> str:
    """The id of the trace of a model's call under a policy, for a user."""
    handler = MlflowCostHandler(policy)
    FakeChat().invoke("hello", config={"callbacks": [handler], "metadata": {"user_id": user}})
    mlflow.flush_trace_async_logging()
    return handler.summary().trace_id


def holds(store: str, text: str) -> bool:
    return spelling_in(text, folder_bytes(database_of(store).parent)) is not None


# --- what is meant


def test_user_is_found_by_the_key(cli: Cli, store: str, tmp_path: Path) -> None:
    """A user's id that the policy turned into a token is found by its key; the tokens of others stay."""
    ada, bob = email(), email()
    policy: dict[str, Any] = {"redact_pii": True, "redaction": {"hash_key": "k" * 20}}
    gone, kept = graph_run(policy, ada), graph_run(policy, bob)
    (tmp_path / "p.yaml").write_text(json.dumps({"redaction": {"hash_key": "k" * 20}}))
    assert not holds(store, ada)
    without = cli("erase", "--user", ada, "--yes")
    assert (without.code, stored()) == (0, {gone, kept})
    assert "Keyed tokens that may stand for it were not looked for: no policy was given" in without.out

    # The policy redacts less by now: the key is what counts.
    done = cli("erase", "--user", ada, "--policy", "p.yaml", "--yes")
    assert (done.code, stored()) == (0, {kept})
    assert receipt_of(done)["policy"]["file"] == "p.yaml"
    assert not any("tokens" in each for each in receipt_of(done)["not_reached"])


def test_without_a_key_it_says_that_it_did_not_look(cli: Cli, store: str, tmp_path: Path) -> None:
    """A policy without `hash_key` makes tokens that nobody can make again: that is told, also in the receipt."""
    add("words", user="ada")
    (tmp_path / "p.yaml").write_text("redact_pii: true\n")
    done = cli("erase", "--user", "ada", "--policy", "p.yaml", "--yes")

    assert "not looked for: the policy has no redaction.hash_key" in done.out.replace("\n", " ")
    assert any("no redaction.hash_key" in each for each in receipt_of(done)["not_reached"])


def test_text_is_found_by_the_key(cli: Cli, store: str, tmp_path: Path) -> None:
    """A text that the strategy `hash` replaced is found by its token; `[EMAIL_ADDRESS]` is everybody's."""
    ada, bob = email(), email()
    ids = {}
    for strategy in ("hash", "redact"):
        redaction = {"hash_key": "k" * 20, "strategy": strategy}
        for who in (ada, bob):
            handler = MlflowCostHandler({"redact_pii": True, "redaction": redaction})
            FakeChat().invoke(f"write to {who} now", config={"callbacks": [handler]})
            mlflow.flush_trace_async_logging()
            ids[strategy, who] = handler.summary().trace_id
    (tmp_path / "p.yaml").write_text(json.dumps({"redaction": redaction | {"strategy": "hash"}, "redact_pii": True}))
    cli("erase", "--text", ada, "--policy", "p.yaml", "--yes")

    assert stored() == set(ids.values()) - {ids["hash", ada]}


def test_mentions_are_told_and_left(cli: Cli, store: str) -> None:
    """A trace of another user that names this one stays, and where it does is told."""
    gone, kept = add("words", user="ada"), add("ask ada about it", user="bob")
    done = cli("erase", "--user", "ada", "--yes")
    assert done.code == 0
    assert stored() == {kept} != {gone}

    receipt = receipt_of(cli("erase", "--user", "bob", "--yes"))
    assert receipt["searched"]["mentioned"] == {}
    assert stored() == set()


def test_longer_mentions_are_told(cli: Cli, store: str) -> None:
    """Where somebody is mentioned whose id can be told from a word is counted by column."""
    add("words", user="ada-77")
    add("ask ada-77 about it, not ada-778", user="bob")
    done = cli("erase", "--user", "ada-77", "--yes")

    assert receipt_of(done)["searched"]["mentioned"]["spans.content"] == 1
    assert "Mentioned elsewhere, which was left as it is:" in done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], "say one of --user, --session, --tag, --text", id="nothing"),
        pytest.param(["--user", "a", "--text", "abc"], "say one of", id="two"),
        pytest.param(["--tag", "tenant"], "expected K=V", id="no value"),
        pytest.param(["--user", " "], "is empty", id="nobody"),
        pytest.param(["--text", "ab"], "is in nearly every trace", id="short"),
    ],
)
def test_asked_wrongly(cli: Cli, store: str, words: list[str], told: str) -> None:
    """What cannot be meant is told, and nothing is deleted."""
    kept = add("ab")
    done = cli("erase", *words, "--yes")

    assert (done.code, stored()) == (2, {kept})
    assert told in " ".join(done.err.replace("│", " ").split())


# --- prune


def test_prune_keeps_the_latest(cli: Cli, store: str) -> None:
    """The latest so many stay, however old they are."""
    ids = [add("words", days_old=days) for days in (90, 80, 70, 60)]
    done = cli("prune", "--experiment", EXPERIMENT, "--older-than", "4w", "--keep-at-least", 2, "--yes")

    assert (done.code, stored()) == (0, set(ids[2:]))
    assert "of experiment tests from before" in done.out.replace("\n", " ")
    assert receipt_of(done)["request"]["keep_at_least"] == 2


def test_prune_of_several_stores(cli: Cli, store: str, tmp_path: Path) -> None:
    """Each store is pruned, and has a receipt of its own."""
    add("words", days_old=90)
    (tmp_path / "second.db").write_bytes(database_of(store).read_bytes())
    done = cli("prune", store, "second.db", "--experiment", EXPERIMENT, "--older-than", "30d", "--yes")

    assert done.out.count("Deleted 1 of 1 trace") == 2
    assert len(list(tmp_path.glob("mlflow-cost-prune-*.json"))) == 2


def test_prune_by_bad_words(cli: Cli, store: str) -> None:
    """A length of time that is none is a mistake in what was asked."""
    done = cli("prune", "--experiment", EXPERIMENT, "--older-than", "30", "--yes")

    assert done.code == 2
    assert "no 30d, 4w or 12h" in " ".join(done.err.split())


def test_sums_in_runs(cli: Cli, store: str) -> None:
    """Sums of a run go with all of its traces; of a run with others they stay, which the receipt says."""
    runs, ids = [], []
    for users in (["ada", "ada"], ["ada", "bob"]):
        with mlflow.start_run() as run:
            ids += [graph_run({}, user) for user in users]
            mlflow.log_metric("of_the_user", 1)
        runs.append(run.info.run_id)
    mlflow.flush_async_logging()
    client = mlflow.MlflowClient()
    assert {"total_cost_usd", "total_tokens"} < set(client.get_run(runs[0]).data.metrics)
    done = cli("erase", "--user", "ada", "--yes")

    assert stored() == {ids[3]}
    assert set(client.get_run(runs[0]).data.metrics) == {"of_the_user"}
    assert client.get_metric_history(runs[0], "total_cost_usd") == []
    assert {"total_cost_usd", "total_tokens"} < set(client.get_run(runs[1]).data.metrics)
    receipt = receipt_of(done)
    assert receipt["deleted"]["run_metrics"] == 2
    assert any(runs[1] in each for each in receipt["not_reached"])


def test_sums_of_days(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's sums of the days of what went are gone, and it is told to make them anew; other days keep theirs."""
    monkeypatch.setenv("MLFLOW_SQL_TRACE_ROLLUPS_ENABLED", "true")
    for user, days in (("ada", 40), ("bob", 40), ("bob", 50)):
        add("words", user=user, days_old=days)
    # Its spans ended just now: the day after tomorrow, nothing of these days changes any more.
    run_sql_trace_rollups(create_engine(store), now_ms=int((time.time() + 2 * 86_400) * 1000))
    monkeypatch.delenv("MLFLOW_SQL_TRACE_ROLLUPS_ENABLED")
    with closing(sqlite3.connect(database_of(store))) as database:
        kept = "SELECT DISTINCT rollup_day FROM sql_trace_metric_daily_rollups ORDER BY rollup_day"
        before = database.execute(kept).fetchall()
        assert len(before) == 2
        done = cli("erase", "--user", "ada", "--yes")

        assert database.execute(kept).fetchall() == before[:1]
        queue = "SELECT DISTINCT rollup_day FROM sql_trace_rollup_rebuild_queue"
        assert database.execute(queue).fetchall() == before[1:]
    assert receipt_of(done)["rows"]["daily sums"] > 0


def test_jobs_and_odd_ids(cli: Cli, store: str) -> None:
    """A trace with an id of another form goes with all rows that name it, an ended job about it too."""
    add("words", user="bob")
    trace_id, odd = add(prose(), user="ada"), "0a'b%_c"
    with closing(sqlite3.connect(database_of(store))) as database, database:
        tables = [("trace_info", "request_id"), ("trace_tags", "request_id"), ("spans", "trace_id")]
        for table, column in [*tables, ("trace_request_metadata", "request_id")]:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (odd, trace_id))
        database.execute("UPDATE trace_tags SET value = replace(value, ?, ?)", (trace_id, odd))
        database.execute("UPDATE spans SET content = replace(content, ?, ?)", (trace_id, odd))
        job = "INSERT INTO jobs (id, creation_time, job_name, params, status, retry_count, last_update_time, workspace) VALUES "
        for number, (named, status) in enumerate([(odd, 2), (odd, 1), (f"{odd}d", 2)]):
            values = (f"job{number}", json.dumps({"trace_ids": [named]}), status)
            database.execute(f"{job} (?, 0, 'invoke_scorer', ?, ?, 0, 0, 'default')", values)
    done = cli("erase", "--user", "ada", "--yes")

    assert receipt_of(done)["trace_ids"] == [odd]
    with closing(sqlite3.connect(database_of(store))) as database:
        assert database.execute("SELECT id FROM jobs").fetchall() == [("job1",), ("job2",)]
        assert database.execute("SELECT COUNT(*) FROM spans").fetchone() == (1,)
    # The job that is running still names it.
    assert receipt_of(done)["searched"]["mentioned"] == {"jobs.params": 1}


# --- interrupted, locked, not to be opened


def test_interrupted_and_run_again(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ended in the middle, it says how to go on; the next run ends what the first began, and has one receipt."""
    texts = [letters(18) for _ in range(5)]
    for text in texts:
        mlflow.start_span_no_context("work", inputs=text, metadata={"mlflow.trace.user": "ada"}).end()
    mlflow.flush_trace_async_logging()
    deletions: list[Any] = []
    real = mlflow.MlflowClient.delete_traces

    def once(self: Any, *words: Any, **named: Any) -> int:
        if deletions:
            raise KeyboardInterrupt
        deletions.append(named)
        return int(real(self, *words, **named))

    with monkeypatch.context() as patch, replaced(deleted_at_once=4):
        patch.setattr(mlflow.MlflowClient, "delete_traces", once)
        first = cli("erase", "--user", "ada", "--yes")
    (receipt,) = tmp_path.glob("mlflow-cost-erase-*.json")
    assert first.code == 130
    assert first.err == f"mlflow-cost: interrupted; run the same command again to go on ({receipt.name})\n"
    assert json.loads(receipt.read_text())["state"] == "interrupted"
    assert len(stored()) == 1
    assert any(text.encode() in database_of(store).read_bytes() for text in texts)

    again = cli("erase", "--user", "ada", "--yes")
    assert again.code == 0
    assert list(tmp_path.glob("mlflow-cost-erase-*.json")) == [receipt]
    assert (receipt_of(again)["state"], receipt_of(again)["deleted"]["traces"]) == ("done", 5)
    assert not any(text.encode() in folder_bytes(tmp_path) for text in texts)


def test_interrupted_before_it_was_compacted(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all traces are gone and their bytes are not, the next run finds something to do."""
    text = letters(18)
    with closing(sqlite3.connect(database_of(store))) as reader, replaced(store_lock_s=0.1):
        reader.execute("PRAGMA journal_mode = WAL")
        add(text, user="ada")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM experiments").fetchone()
        first = cli("erase", "--user", "ada", "--yes")
    assert first.code == 1
    assert "another program" in first.err

    again = cli("erase", "--user", "ada", "--yes")
    assert (again.code, again.err) == (0, "")
    assert "An earlier run did not come to its end" in again.out
    assert text.encode() not in folder_bytes(database_of(store).parent)


def test_locked_by_a_writer(cli: Cli, store: str) -> None:
    """Where another program writes, nothing is begun, and the remedy is told."""
    kept = add("words", user="ada")
    with closing(sqlite3.connect(database_of(store), isolation_level=None)) as writer, replaced(store_lock_s=0.1):
        writer.execute("BEGIN IMMEDIATE")
        done = cli("erase", "--user", "ada", "--yes")
        writer.execute("ROLLBACK")

    assert (done.code, stored()) == (1, {kept})
    assert "database is locked; another program is writing to it: stop that" in done.err


def test_write_ahead_log_is_emptied(cli: Cli, store: str) -> None:
    """With a write-ahead log that another connection holds open, no byte stays in it."""
    with closing(sqlite3.connect(database_of(store))) as other:
        other.execute("PRAGMA journal_mode = WAL")
        text = letters(18)
        add(text, user="ada")
        other.execute("SELECT COUNT(*) FROM spans").fetchone()
        assert Path(f"{database_of(store)}-wal").exists()
        done = cli("erase", "--user", "ada", "--yes")

        assert (done.code, done.err) == (0, "")
        assert text.encode() not in folder_bytes(database_of(store).parent)


def test_text_in_an_artifact_of_a_run(cli: Cli, store: str) -> None:
    """A file of MLflow's runs that holds the text is named, and not deleted: it is no trace's."""
    text = prose()
    add(text)
    with mlflow.start_run() as run:
        mlflow.log_text(f"a copy of {text}", "notes.txt")
    done = cli("erase", "--text", text, "--yes")

    assert (done.code, stored()) == (1, set())
    assert f"{run.info.run_id}/artifacts/notes.txt" in done.err
    assert receipt_of(done)["state"] == "incomplete"
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes.txt")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        pytest.param("postgres://db/mlflow", "did you mean postgresql://?", id="postgres"),
        pytest.param("mlflow.bd", "mlflow.bd is no store of MLflow's; name a database", id="no such file"),
        pytest.param("sqlite:///other.db", "no database other.db", id="no database"),
        pytest.param("strange.db", "it has no table trace_info", id="somebody else's database"),
        pytest.param("text.txt", "cannot be", id="no database at all"),
        pytest.param(".", "did you mean mlflow.db?", id="its folder"),
        pytest.param("postgresql://ada:open-sesame@127.0.0.1:9/x", "//****@127.0.0.1:9/x cannot be reached", id="away"),
    ],
)
def test_wrong_store(cli: Cli, store: str, tmp_path: Path, word: str, told: str) -> None:
    """What is no store is told with what may be meant, and is left as it is."""
    with closing(sqlite3.connect(tmp_path / "strange.db")) as database, database:
        database.execute("CREATE TABLE own (a)")
    (tmp_path / "text.txt").write_text("no database at all, but longer than a hundred bytes " * 3)
    before = folder_bytes(tmp_path)
    done = cli("erase", word, "--user", "ada", "--yes")

    assert done.code == 1
    assert told in done.err
    assert folder_bytes(tmp_path) == before


def test_dry_run_changes_nothing(cli: Cli, store: str, tmp_path: Path) -> None:
    """A dry run says what there is, by table, and leaves every byte and no receipt."""
    planted = plant_store(1, ways=("span",))
    before = database_of(store).read_bytes()
    done = cli("erase", *planted.words, "--dry-run", "--yes")

    assert done.out.startswith(f"Would delete {len(planted.victims)} traces of that session\n  in ")
    assert "record of 1 evaluation dataset" in done.out
    assert database_of(store).read_bytes() == before
    assert list(tmp_path.glob("*.json")) == []


def test_threads_export_meanwhile(cli: Cli, exported_in_threads: str) -> None:
    """The same with MLflow's own export in threads."""
    text = letters(18)
    graph_run({}, f"ada {text}")
    done = cli("erase", "--user", f"ada {text}", "--yes")

    assert (done.code, done.err) == (0, "")
    assert text.encode() not in folder_bytes(database_of(exported_in_threads).parent)


# --- processes of their own


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "langchain_mlflow_cost", *words]


def many(store: str, count: int) -> list[str]:
    texts = [letters(18) for _ in range(count)]
    for text in texts:
        mlflow.start_span_no_context("work", inputs=text, metadata={"mlflow.trace.user": "ada"}).end()
    mlflow.flush_trace_async_logging()
    return texts


@pytest.mark.nightly
def test_killed_again_and_again(cli: Cli, store: str, tmp_path: Path) -> None:
    """Killed at any moment, and run again until it is done: no byte is left, and no other trace is touched."""
    texts, kept = many(store, 250), add("kept", user="ada2")
    for pause in (0.0, 0.2, 0.6):
        process = subprocess.Popen(command("erase", "--user", "ada", "--yes"), cwd=tmp_path, stdout=subprocess.DEVNULL)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
        while process.poll() is None and before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}:
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = cli("erase", "--user", "ada", "--yes")

    assert (done.code, done.err) == (0, "")
    stored_bytes = folder_bytes(tmp_path)
    assert [text for text in texts if text.encode() in stored_bytes] == []
    assert stored() == {kept}


@pytest.mark.nightly
def test_reader_holds_a_lock(cli: Cli, store: str) -> None:
    """A reader that never ends keeps anybody from deleting: after MLflow's own 20 s the remedy is told."""
    kept = add("words", user="ada")
    with closing(sqlite3.connect(database_of(store), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM experiments").fetchone()
        done = cli("erase", "--user", "ada", "--yes")
        reader.execute("ROLLBACK")

    assert (done.code, stored()) == (1, {kept})
    assert "another program" in done.err
    assert cli("erase", "--user", "ada", "--yes").code == 0
    assert stored() == set()


@pytest.mark.nightly
def test_two_at_once(cli: Cli, store: str, tmp_path: Path) -> None:
    """Two that delete the same do not hinder each other for good: one run more, at most, and all is gone."""
    texts, kept = many(store, 120), add("kept", user="bob")
    both = [
        subprocess.Popen(command("erase", "--user", "ada", "--yes"), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in both]
    assert all(code == 0 or "run this again" in told for told, code in ends), ends
    done = cli("erase", "--user", "ada", "--yes")

    assert (done.code, stored()) == (0, {kept})
    stored_bytes = folder_bytes(tmp_path)
    assert [text for text in texts if text.encode() in stored_bytes] == []


@pytest.mark.nightly
def test_huge_trace(cli: Cli, store: str) -> None:
    """A trace of 40 MB whose text stands at its end, over the limits of what is read at once."""
    text, kept = prose(), add("kept")
    add("x" * 40_000_000 + text)
    done = cli("erase", "--text", text, "--yes")

    assert (done.code, stored()) == (0, {kept})
    assert database_of(store).stat().st_size < 5_000_000
    assert not holds(store, text)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_read_only_store(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who may not write gets one line, and nothing is deleted."""
    kept = add("words", user="ada")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        shutil.copy(database_of(store), folder / "mlflow.db")
        (folder / "mlflow.db").chmod(0o444)
        # Once as root, so that all is imported that another user cannot read.
        assert cli("erase", store, "--user", "ada", "--dry-run").code == 0
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
        done = cli("erase", folder / "mlflow.db", "--user", "ada", "--yes")
    finally:
        os.seteuid(0)
        monkeypatch.undo()
        shutil.rmtree(folder)

    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert (
        "mlflow.db cannot be written (attempt to write a readonly database); run this as somebody who may" in done.err
    )
    mlflow.set_tracking_uri(store)
    assert stored() == {kept}


def test_store_that_takes_no_spans_and_text_in_files(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is only in a trace's file is found there."""

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    text, kept = letters(18), add("kept")
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "log_spans", refuse)
        mlflow.tracing.reset()
        with mlflow.start_span("work") as span:
            with mlflow.start_span("inner") as inner:
                inner.set_inputs(text)
            span.set_inputs("nothing")
    mlflow.tracing.reset()
    assert text.encode() not in database_of(store).read_bytes()
    done = cli("erase", "--text", text, "--yes")

    assert (done.code, stored()) == (0, {kept})
    assert text.encode() not in folder_bytes(database_of(store).parent)
