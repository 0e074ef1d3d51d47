"""A database whose traces have their spans in files, as `mlflow-cost migrate` and an older MLflow leave them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from langchain_core.messages import AIMessage, HumanMessage
from leaks import folder_bytes

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

MAIL = "bob.miller@example.com"
COST = 1_000 * 2.5e-6 + 100 * 10e-6
"""USD of one call of 1,000 and 100 tokens at the rates below."""
PRICES = {"openai/gpt-4o-mini": {"input": 2.5, "output": 10}}

pytestmark = pytest.mark.filterwarnings("ignore:.*file.?store:FutureWarning", "ignore:.*filesystem:FutureWarning")


def record(*, sender: str = MAIL) -> None:
    """A trace whose node `work` makes one call; an address stands in a span and in no preview."""

    def work(state: Any) -> Any:
        usage = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
        Chat(reply=f"write to {sender}", usage=usage).invoke([HumanMessage("whom?")])
        return {"messages": [AIMessage("done")]}

    app = graph(("work", work))
    handler = MlflowCostHandler({"artifact_level": "full", "prices": {"overrides": PRICES}})
    app.invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})


@pytest.fixture
def moved(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with one trace, moved into a database, into which another was recorded since."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    mlflow.set_experiment("tests")
    record()
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    assert cli("migrate", "mlruns", "mlflow.db").code == 0
    shutil.rmtree(tmp_path / "mlruns")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("tests")
    record(sender="nobody")
    return uri


def words(uri: str) -> tuple[str, ...]:
    return "--tracking-uri", uri, "--experiment", "tests"


def test_costs_are_reported(cli: Cli, moved: str) -> None:
    """By every form of the report, and in the bill: both traces."""
    told = json.loads(cli("report", *words(moved), "--by", "node,model", "--format", "json").out)
    assert told["total"]["calls"] == 2
    assert told["total"]["traces"] == 2
    assert told["total"]["cost_usd"] == pytest.approx(2 * COST, abs=1e-12)
    assert len(told["rows"]) == 1

    top = json.loads(cli("report", *words(moved), "--top", "2", "--format", "json").out)
    assert [each["usd"] for each in top] == pytest.approx([COST, COST], abs=1e-12)

    what_if = json.loads(cli("report", *words(moved), "--what-if", "work=openai/gpt-4o", "--format", "json").out)
    assert (what_if["total"]["calls"], what_if["total"]["replaced_calls"]) == (2, 2)

    bill = list(csv.DictReader(io.StringIO(cli("export", *words(moved), "--format", "csv").out)))
    assert sum(float(each["BilledCost"]) for each in bill) == pytest.approx(2 * COST, abs=1e-12)


def test_what_is_in_the_file_is_found_and_goes(cli: Cli, moved: str, tmp_path: Path) -> None:
    """The trace goes with its files, since its spans cannot be changed there; the other stays."""
    done = cli("scan", *words(moved), "--format", "json")
    told = json.loads(done.out)
    assert done.code == 1
    assert (told["traces"], told["traces_with_findings"]) == (2, 1)
    assert ("EMAIL_ADDRESS", "work") in {(each["entity"], each["node"]) for each in told["found"]}

    done = cli("scan", *words(moved), "--fix", "--yes")
    assert "deleted 1 trace" in done.err
    assert MAIL.encode() not in folder_bytes(tmp_path)
    assert cli("scan", *words(moved)).code == 0
    assert len(mlflow.search_traces(return_type="list")) == 1


def test_trace_whose_file_is_gone_is_told_of(cli: Cli, moved: str, tmp_path: Path) -> None:
    """No clean bill for what nobody has read."""
    for file in tmp_path.rglob("traces.json"):
        file.unlink()
    first = min(mlflow.search_traces(include_spans=False, return_type="list"), key=lambda each: each.info.timestamp_ms)
    for command, code in (("scan", 1), ("report", 0), ("export", 1)):
        done = cli(command, *words(moved))
        assert done.code == code, command
        assert f"{first.info.trace_id} is left out" in done.err, command
