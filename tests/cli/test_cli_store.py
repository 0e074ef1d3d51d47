"""The commands that read and change a store: report, prune, migrate."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import SecretStr

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

EXPERIMENT = "tests"
"""The one that the store's fixture makes."""


def row_of(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [first])


def add_trace(days_old: float = 0) -> str:
    """A trace without calls that began so many days ago."""
    start = datetime.now(UTC) - timedelta(days=days_old)
    span = mlflow.start_span_no_context("old", start_time_ns=int(start.timestamp() * 1e9))
    span.end()
    mlflow.flush_trace_async_logging()
    return str(span.trace_id)


def stored() -> set[str]:
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    traces = mlflow.search_traces(locations=[found.experiment_id], return_type="list", include_spans=False)
    return {trace.info.trace_id for trace in traces}


# --- report


@pytest.fixture
def spent(cli: Cli, store: str) -> None:
    """Two invocations of a graph of two nodes, in the sessions `one` and `two`.

    At the model's 0.25 USD in, 2 USD out per million: `ask` 1,000 in, 100 out: 0.00045; `sum_up` 2,000 in: 0.0005.
    """
    replies = [Reply("yes", Tokens(input=1_000, output=100)), Reply("ok", Tokens(input=2_000))]
    handler = MlflowCostHandler({"trace_metadata": ["tenant"]})
    with ProviderServer(replies * 2) as server:
        model = ChatOpenAI(model="gpt-5-mini", base_url=server.openai_base_url, api_key=SecretStr("none"))

        def node(state: MessagesState) -> MessagesState:
            return {"messages": [model.invoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask", node)
        graph.add_node("sum_up", node)
        graph.add_edge(START, "ask")
        graph.add_edge("ask", "sum_up")
        graph.add_edge("sum_up", END)
        agent: Any = graph.compile()
        for session in ("one", "two"):
            config = {
                "callbacks": [handler],
                "configurable": {"thread_id": session},
                "metadata": {"tenant": f"tenant-{session}"},
                "tags": ["beta", "all"] if session == "two" else ["all"],
            }
            agent.invoke({"messages": [("human", "Hi")]}, config=config)
            mlflow.flush_trace_async_logging()
            mlflow.set_trace_tag(handler.summary().trace_id, "team", f"team-{session}")


def test_report_by_node(cli: Cli, spent: None) -> None:
    """Each node has its calls, tokens and USD over all traces, the dearest first."""
    out = cli("report", "--experiment", EXPERIMENT).out

    assert f"Experiment {EXPERIMENT}: 2 traces" in out
    assert row_of(out, "sum_up")[:6] == ["sum_up", "gpt-5-mini", "2", "4,000", "0", "0.00100"]
    assert row_of(out, "ask")[:6] == ["ask", "gpt-5-mini", "2", "2,000", "200", "0.00090"]
    assert row_of(out, "Total") == ["Total", "4", "6,000", "200", "0.00190"]
    assert out.index("sum_up") < out.index("ask")


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        pytest.param("model", {"gpt-5-mini": "0.0019"}, id="model"),
        pytest.param("session", {"one": "0.00095", "two": "0.00095"}, id="session"),
        pytest.param("tag:team", {"team-one": "0.00095", "team-two": "0.00095"}, id="tag"),
        pytest.param("tag:tenant", {"tenant-one": "0.00095", "tenant-two": "0.00095"}, id="metadata"),
        pytest.param("tag:beta", {"beta": "0.00095", "(no": "0.00095"}, id="LangChain tag of one"),
        pytest.param("tag:all", {"all": "0.0019"}, id="LangChain tag of both"),
        pytest.param("user", {"(no": "0.0019"}, id="user, which none has"),
    ],
)
def test_report_by_other_things(cli: Cli, spent: None, by: str, rows: dict[str, str]) -> None:
    """Spend can be seen by model, session, user and tag; what has none stands under (no ...)."""
    out = cli("report", "--experiment", EXPERIMENT, "--by", by).out

    assert {first: next(word for word in row_of(out, first) if word.startswith("0.")) for first in rows} == rows


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        pytest.param("tenamt", "did you mean tag:tenant?", id="misspelt"),
        pytest.param("zzz", "there are ", id="no idea"),
    ],
)
def test_report_by_a_tag_that_no_trace_has(cli: Cli, spent: None, tag: str, told: str) -> None:
    """A tag that no trace has is no table of nothing, but an error that names what there is."""
    done = cli("report", "--experiment", EXPERIMENT, "--by", f"tag:{tag}")

    assert (done.code, done.out) == (1, "")
    assert f"none of the 2 traces has a tag or metadata key {tag}; {told}" in done.err


def test_report_says_by_what(cli: Cli) -> None:
    """The headline of the help names all that spend can be seen by."""
    assert "by node, model, session, user or tag." in cli("report", "--help").out


def test_report_last(cli: Cli, spent: None) -> None:
    """--last takes the latest traces only."""
    out = cli("report", "--experiment", EXPERIMENT, "--by", "session", "--last", "1").out

    assert row_of(out, "two")
    assert "one" not in out.split()


def test_report_leaves_out_what_it_does_not_know(cli: Cli, spent: None) -> None:
    """Traces without calls of this library are counted, not priced."""
    add_trace()
    out = cli("report", "--experiment", EXPERIMENT).out

    assert f"Experiment {EXPERIMENT}: 3 traces" in out
    assert "Left out: 1 trace without a model call of this library" in out
    assert row_of(out, "Total")[-1] == "0.00190"


def test_report_of_nothing(cli: Cli, store: str) -> None:
    """An experiment without traces has no table."""
    done = cli("report", "--experiment", EXPERIMENT)

    assert (done.code, done.out) == (0, f"Experiment {EXPERIMENT}: 0 traces\n")


def test_report_without_a_store(cli: Cli, tmp_path: Path) -> None:
    """Where there is no database, none is made, and the line says what to do."""
    done = cli("report")

    assert done == (1, "", "mlflow-cost: no database mlflow.db; name the store with --tracking-uri\n")
    assert list(tmp_path.iterdir()) == []


def test_server_that_does_not_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is one line, without the password in its address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = cli("report", "--tracking-uri", "http://ada:open-sesame@127.0.0.1:9")

    assert done.code == 1
    assert done.err.startswith("mlflow-cost: MLflow: ")
    assert done.err.count("\n") == 1
    assert "open-sesame" not in done.err


def test_report_of_an_unknown_experiment(cli: Cli, store: str) -> None:
    """An experiment that is not there is answered with those that are."""
    done = cli("report", "--experiment", "test")

    assert done.code == 1
    assert "no experiment test" in done.err
    assert EXPERIMENT in done.err


# --- prune


def test_prune_deletes_what_is_older(cli: Cli, store: str) -> None:
    """Traces past the given age go, the others stay."""
    old, new = add_trace(days_old=40), add_trace(days_old=20)
    done = cli("prune", "--experiment", EXPERIMENT, "--days", 30, "--yes")

    assert done.code == 0
    assert "Deleted 1 of 1 trace" in done.out
    assert stored() == {new}
    assert old not in stored()


def test_prune_of_many(cli: Cli, store: str) -> None:
    """More traces than one request may name are deleted all the same."""
    for _ in range(101):
        mlflow.start_span_no_context("old", start_time_ns=1_600_000_000_000_000_000).end()
    mlflow.flush_trace_async_logging()
    done = cli("prune", "--experiment", EXPERIMENT, "--days", 1, "--yes")

    assert "Deleted 101 of 101 traces" in done.out
    assert stored() == set()


def test_prune_follows_the_policy(cli: Cli, store: str, tmp_path: Path) -> None:
    """Store, experiment and age come from the policy if there is one."""
    add_trace(days_old=40)
    policy = tmp_path / "observability.yaml"
    policy.write_text(f"experiment_name: {EXPERIMENT}\ntracking_uri: {store}\nretention_days: 30\n", "utf-8")
    done = cli("prune", "--policy", policy, "--yes")

    assert "Deleted 1 of 1 trace" in done.out
    assert stored() == set()


def test_prune_without_an_age_in_the_policy(cli: Cli, store: str, tmp_path: Path) -> None:
    """A policy without retention_days deletes nothing."""
    kept = add_trace(days_old=400)
    policy = tmp_path / "observability.yaml"
    policy.write_text(f"experiment_name: {EXPERIMENT}\n", "utf-8")
    done = cli("prune", "--policy", policy, "--yes")

    assert done.code == 2
    assert "retention_days" in done.err
    assert stored() == {kept}


def test_dry_run(cli: Cli, store: str) -> None:
    """--dry-run says what would go, and deletes nothing."""
    kept = add_trace(days_old=40)
    done = cli("prune", "--experiment", EXPERIMENT, "--days", 30, "--dry-run", "--yes")

    assert "Would delete 1 trace" in done.out
    assert stored() == {kept}


def test_nothing_to_prune(cli: Cli, store: str) -> None:
    """Where nothing is old enough, nothing is asked."""
    done = cli("prune", "--experiment", EXPERIMENT, "--days", 30)

    assert done.code == 0
    assert "Nothing to delete" in done.out


@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "empty", "no answer"])
def test_prune_asks(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str) -> None:
    """Without --yes it asks, and anything but a yes deletes nothing."""
    kept = add_trace(days_old=40)
    (tmp_path / "answer").write_text(answer)
    with (tmp_path / "answer").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        done = cli("prune", "--experiment", EXPERIMENT, "--days", 30)

    assert done.code == 1
    assert stored() == {kept}


# --- migrate


@pytest.fixture
def file_store(tmp_path: Path) -> Path:
    """An old file store with a trace and a run, made by another process: this one would be warned at each step."""
    code = """
import mlflow
mlflow.set_experiment("old")
with mlflow.start_span("work") as span:
    span.set_inputs({"question": "to be kept"})
with mlflow.start_run():
    mlflow.log_text("to be kept", "notes.txt")
"""
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_TRACKING_URI": "file:./mlruns"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    return tmp_path / "mlruns"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("mlruns", "sqlite:///new/mlflow.db", id="folder to URI"),
        pytest.param("file://./mlruns", "new/mlflow.db", id="URI to file"),
    ],
)
def test_migrate(cli: Cli, file_store: Path, tmp_path: Path, source: str, target: str) -> None:
    """The trace is in the new database, the old folder is as it was, and the next step is told."""
    before = sorted(file_store.rglob("*"))
    done = cli("migrate", source, target)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'new/mlflow.db'}")
    old = mlflow.get_experiment_by_name("old")
    traces = mlflow.search_traces(locations=[old.experiment_id], return_type="list")

    assert done.code == 0
    assert [trace.data.spans[0].inputs for trace in traces] == [{"question": "to be kept"}]
    assert sorted(file_store.rglob("*")) == before
    assert f"tracking_uri: sqlite:///{tmp_path / 'new/mlflow.db'}" in done.out


def test_migrate_says_to_keep_the_folder(
    cli: Cli, file_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new database reads files from the old folder: the advice is to keep it, and what would be lost without it."""
    out = cli("migrate", "mlruns", "new.db").out
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'new.db'}")
    old = mlflow.get_experiment_by_name("old")

    def spans() -> list[str]:
        traces = mlflow.search_traces(locations=[old.experiment_id], return_type="list")
        return [span.name for trace in traces for span in trace.data.spans]

    (trace,) = mlflow.search_traces(locations=[old.experiment_id], return_type="list", include_spans=False)
    (run,) = mlflow.search_runs([old.experiment_id], output_format="list")
    places = [trace.info.tags["mlflow.artifactLocation"], run.info.artifact_uri, old.artifact_location]
    assert all(place.startswith(f"{file_store.as_uri()}/") for place in places)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "to be kept"
    assert spans() == ["work"]

    file_store.rename(tmp_path / "gone")
    assert spans() == []
    assert "traces.json" in caplog.text

    assert "delete" not in out
    assert f"Keep {file_store} where it is" in out
    assert "artifacts of runs and models, and the spans and attachments of traces, are still" in out.replace("\n", " ")


def test_migrate_overwrites_nothing(cli: Cli, store: str, tmp_path: Path) -> None:
    """A database that is there already is left alone."""
    (tmp_path / "mlruns").mkdir()
    before = (tmp_path / "mlflow.db").read_bytes()
    done = cli("migrate", "mlruns", "mlflow.db")

    assert done.code == 1
    assert "is there already" in done.err
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_migrate_from_nowhere(cli: Cli) -> None:
    """A folder that is not there is one line."""
    assert cli("migrate", "mlruns", "new.db") == (1, "", "mlflow-cost: mlruns is no folder\n")


@pytest.mark.parametrize(
    ("has_store_below", "told"),
    [
        pytest.param(False, "project holds no file store: no folder in it has a meta.yaml", id="nothing"),
        pytest.param(True, "did you mean project/mlruns?", id="a store below it"),
    ],
)
def test_migrate_of_no_file_store(cli: Cli, tmp_path: Path, told: str, *, has_store_below: bool) -> None:
    """A folder that is no file store is told, and nothing is made."""
    (tmp_path / "project").mkdir()
    if has_store_below:
        (tmp_path / "project/mlruns/0").mkdir(parents=True)
        (tmp_path / "project/mlruns/0/meta.yaml").touch()
    done = cli("migrate", "project", "new/mlflow.db")

    assert done.code == 1
    assert told in done.err
    assert [tmp_path / "project"] == list(tmp_path.iterdir())
