"""The commands that read and change a store: report, prune."""

from __future__ import annotations

import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.attachments import Attachment
from pydantic import SecretStr

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

EXPERIMENT = "tests"
"""The one that the store's fixture makes."""


def row_of(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [first])


def add_trace(days_old: float = 0, inputs: Any = None) -> str:
    """A trace without calls that began so many days ago."""
    start = datetime.now(UTC) - timedelta(days=days_old)
    span = mlflow.start_span_no_context("old", start_time_ns=int(start.timestamp() * 1e9), inputs=inputs)
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


def test_report_says_how_sure_it_is(cli: Cli, store: str) -> None:
    """Estimated amounts have their mark, and traces that a budget stopped are counted; no name acts on the terminal."""
    with ProviderServer([Reply("yes", Tokens(input=1_000, output=100))]) as server:
        model = ChatOpenAI(model="gpt-5-mini", base_url=server.openai_base_url, api_key="none", streaming=True)

        def node(state: MessagesState) -> MessagesState:
            return {"messages": [model.invoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask\x1b[2J[b]", node)
        graph.add_edge(START, "ask\x1b[2J[b]")
        agent, asked = graph.compile(), MessagesState(messages=[HumanMessage("Hi")])
        with pytest.warns(UserWarning, match="stream_usage=True"):
            agent.invoke(asked, {"callbacks": [MlflowCostHandler()]})
        with pytest.raises(BudgetExceededError):
            agent.invoke(asked, {"callbacks": [MlflowCostHandler({"budget": {"max_cost_usd": 0}})]})
    out = cli("report", "--experiment", EXPERIMENT).out

    assert row_of(out, r"ask\x1b[2J[b]")[5].startswith("~")
    assert row_of(out, "Total")[-1].startswith("~")
    assert "~ estimated: 1 call" in out
    assert "Stopped by the budget of trace: 1 trace" in out
    assert "\x1b" not in out


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
    told = " ".join(cli("report", "--help").out.split())
    assert "By node, model, provider, user, session, agent, tool, prompt, hour, day, week, month, experiment" in told


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


def test_server_that_does_not_answer(cli: Cli) -> None:
    """A server that is not there is one line within 3 s, without the password in its address."""
    began = time.monotonic()
    done = cli("report", "--tracking-uri", "http://ada:open-sesame@127.0.0.1:9")

    assert time.monotonic() - began < 3
    assert done.code == 1
    assert done.err == (
        "mlflow-cost: the MLflow server http://****@127.0.0.1:9 did not answer its health check: it cannot be reached\n"
    )


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


@pytest.mark.nightly
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


# --- the files of what is pruned


@pytest.fixture
def add_trace_in_files(store: str) -> Callable[[float], str]:
    """Add a trace whose spans MLflow writes to a file, as it does where the database does not take them."""

    def add(days_old: float) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqlAlchemyStore, "log_spans", _takes_no_spans)
            # MLflow remembers that the store takes none.
            mlflow.tracing.reset()
            trace_id = add_trace(days_old, {"question": "a secret"})
        mlflow.tracing.reset()
        assert "a secret" in (folder_of(trace_id) / "traces.json").read_text("utf-8")
        return trace_id

    return add


def _takes_no_spans(*_: object, **__: object) -> None:
    raise NotImplementedError


def folder_of(trace_id: str) -> Path:
    """Where the files of a trace are."""
    return Path(mlflow.MlflowClient().get_trace(trace_id).info.tags["mlflow.artifactLocation"])


def move(store: str, trace_id: str, location: str) -> None:
    """Say in the database that the files of a trace are elsewhere; MLflow itself lets nobody change that."""
    with sqlite3.connect(store.removeprefix("sqlite:///")) as database:
        database.execute(
            "UPDATE trace_tags SET value = ? WHERE request_id = ? AND key = 'mlflow.artifactLocation'",
            (location, trace_id),
        )
    database.close()


def prune(cli: Cli) -> Done:
    return cli("prune", "--experiment", EXPERIMENT, "--days", 30, "--yes")


def test_prune_deletes_files(cli: Cli, add_trace_in_files: Callable[[float], str]) -> None:
    """The whole text of a trace that MLflow wrote to a file goes with it, and so do attachments; other traces keep theirs."""
    old, new = add_trace_in_files(40), add_trace_in_files(20)
    attached = add_trace(40, {"page": Attachment(content_type="text/plain", content_bytes=b"a secret")})
    gone = [folder_of(old), folder_of(attached)]
    assert [file.read_text() for file in gone[1].glob("attachments/*")] == ["a secret"]
    kept = folder_of(new)
    done = prune(cli)

    assert (done.code, done.err) == (0, "")
    assert "Deleted 2 of 2 traces" in done.out
    assert [file for folder in gone for file in folder.parent.rglob("*")] == []
    assert stored() == {new}
    assert "a secret" in (kept / "traces.json").read_text("utf-8")
    assert mlflow.get_trace(new).data.spans[0].inputs == {"question": "a secret"}


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("ftp://ada:open-sesame@127.0.0.1:9/{trace}/artifacts", "Connection refused", id="no answer"),
        pytest.param("nowhere://bucket/{trace}/artifacts", "Could not find a registered", id="unknown kind of store"),
        pytest.param("/nowhere/traces/{trace}/artifacts", "there is no /nowhere/traces here", id="another machine"),
        pytest.param("{kept}", "not a folder of this trace alone", id="another trace's"),
        pytest.param("{kept}/../../{trace}/../", "not a folder of this trace alone", id="a way up"),
    ],
)
def test_files_out_of_reach(
    cli: Cli, store: str, add_trace_in_files: Callable[[float], str], location: str, reason: str
) -> None:
    """A trace whose files cannot be deleted is named and kept for another run; the others are deleted."""
    unreached, old, new = add_trace_in_files(40), add_trace_in_files(40), add_trace_in_files(20)
    real, kept, gone = folder_of(unreached), folder_of(new), folder_of(old)
    named = location.format(trace=unreached, kept=kept)
    move(store, unreached, named)
    done = prune(cli)

    assert done.code == 1
    first, last = done.err.splitlines()
    shown = named.replace("ada:open-sesame", "****")
    assert first.startswith(f"mlflow-cost: files of trace {unreached} in {shown}: ")
    assert reason in first
    assert last.startswith("mlflow-cost: kept 1 trace whose files could not be deleted, see above; ")
    assert "Deleted 1 of 2 traces" in done.out
    assert stored() == {unreached, new}
    assert not gone.exists()
    assert (kept / "traces.json").exists()

    move(store, unreached, str(real))
    again = prune(cli)
    assert (again.code, again.err) == (0, "")
    assert stored() == {new}
    assert not real.exists()


def test_prune_follows_no_link(cli: Cli, add_trace_in_files: Callable[[float], str], tmp_path: Path) -> None:
    """A link in place of a trace's folder leads to what may be somebody else's."""
    trace = add_trace_in_files(40)
    folder = folder_of(trace)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    done = prune(cli)

    assert done.code == 1
    assert str(folder) in done.err
    assert (tmp_path / "moved/traces.json").exists()
    assert stored() == {trace}


def test_files_that_the_store_leaves(
    cli: Cli, add_trace_in_files: Callable[[float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that deletes nothing without a word is not believed."""
    trace = add_trace_in_files(40)
    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", lambda self: None)
    done = prune(cli)

    assert done.code == 1
    assert "they are still there" in done.err
    assert stored() == {trace}


class Strict:
    """A store that minds when there is nothing to delete, as Azure's does."""

    def __init__(self, artifact_uri: str, *_: object, **__: object) -> None:
        """As MLflow makes one."""

    def delete_artifacts(self) -> None:
        raise MlflowException("No such file or directory")

    def list_artifacts(self) -> list[object]:
        return []


def test_store_that_minds_nothing_to_delete(cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace without files is deleted, whatever its store says to that."""
    monkeypatch.setitem(_artifact_repository_registry._registry, "strict", Strict)
    trace = add_trace(40)
    move(store, trace, f"strict://bucket/{trace}/artifacts")
    done = prune(cli)

    assert (done.code, done.err) == (0, "")
    assert stored() == set()


def test_prune_again_after_an_interruption(
    cli: Cli, add_trace_in_files: Callable[[float], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it ends between files and rows, the next run still knows of both."""
    trace = add_trace_in_files(40)
    folder = folder_of(trace)

    def broken(*_: object, **__: object) -> int:
        raise MlflowException("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "delete_traces", broken)
        assert prune(cli).code == 1
    assert stored() == {trace}
    again = prune(cli)

    assert (again.code, again.err) == (0, "")
    assert stored() == set()
    assert not folder.exists()


@pytest.mark.nightly
def test_report_as_a_page(cli: Cli, spent: None) -> None:
    """`--format html` writes one page, and leaves nothing out without saying so."""
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    words = ("report", "--experiment", EXPERIMENT, "--format", "html")

    done = cli(*words)

    assert done.code == 0
    assert done.out.startswith("<!DOCTYPE html>")
    assert done.out.rstrip().endswith("</html>")
    assert cli(*words, "--top", 3).code == 2
