"""Traces that version 0.1 stored: without `cost.usage`, without the trace's cost, and counted all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from langchain_mlflow_cost import cost_summary
from langchain_mlflow_cost.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

SPANS = json.loads((Path(__file__).parents[1] / "data" / "stores" / "spans_of_0.1.json").read_text())
"""As 0.1 wrote them under MLflow 3.17: `writer` asks gpt-4o-mini (1,000 and 500 tokens, 0.00045 USD), `critic` a model
without a price."""

ANSWERED: Any = {"cost.llm_calls": 1}


@pytest.fixture
def old(store: str) -> str:
    """A trace with these attributes."""
    spans: list[Any] = []
    for each in SPANS:
        parent = None if each["parent"] is None else spans[each["parent"]]
        span = mlflow.start_span_no_context(each["name"], span_type=each["type"], parent_span=parent)
        span.set_attributes(each["attributes"])
        spans.append(span)
    for span in reversed(spans):
        span.end()
    return store


@pytest.fixture
def told(old: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """What a command prints of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text("prices: {overrides: {house-model-1: {input: 2, output: 8}}}")

    def run(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["mlflow-cost", *words, "--tracking-uri", old, "--experiment", "tests"])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return captured.out

    return run


def test_it_is_counted(told: Callable[..., str]) -> None:
    """Sums by node are 0.1's own; what a class of tokens cost is not known, and that is said."""
    (trace,) = mlflow.search_traces(return_type="list")
    report = json.loads(told("report", "--by", "node", "--breakdown", "--format", "json"))
    by_node = {row["node"]: row["cost_usd"] for row in report["rows"]}

    assert by_node == {"writer": pytest.approx(0.00045, rel=1e-9), "critic": None}
    assert report["total"]["unpriced_models"] == ["house-model-1"]
    assert report["total"]["usage_not_stored_usd"] == pytest.approx(0.00045, rel=1e-9)
    assert cost_summary(trace.info.trace_id).total_cost_usd == pytest.approx(0.00045, rel=1e-9)
    table = told("report", "--by", "node", "--breakdown")
    assert [line.split() for line in table.splitlines() if "not stored" in line] == [
        ["(usage", "not", "stored)", "0.000450"]
    ]


@pytest.mark.parametrize(("words", "unknown", "usd"), [
    # Only critic is replaced, and it had no price: what is stored stays.
    (("--what-if", "critic=gpt-4o-mini"), 1, 0.00045),
    # As long as nobody knows which tokens came from a cache, another model's cost is not "no change".
    (("--what-if", "writer=anthropic/claude-haiku-4-5"), 2, 0.0),
    (("--what-if-policy", "policy.yaml"), 2, 0.0),
])  # fmt: skip
def test_what_it_would_have_cost_is_unknown(
    told: Callable[..., str], words: tuple[str, ...], unknown: int, usd: float
) -> None:
    """It is in no sum, and not as if it had cost the same."""
    total = json.loads(told("report", *words, "--format", "json"))["total"]

    assert total["usd"] == pytest.approx(0.00045, rel=1e-9)
    assert (total["unknown_calls"], total["what_if_usd"]) == (unknown, pytest.approx(usd, abs=1e-12))
    shown = told("report", *words)
    assert "in no sum but the stored" in shown
    assert "Stored without a price, and 0 in USD: 1 call" in shown


def test_dearest_traces(told: Callable[..., str]) -> None:
    """A trace with a known part has that, and one of which nothing is known is unknown, not empty."""
    mlflow.start_span_no_context("other", span_type="CHAT_MODEL", attributes=ANSWERED).end()
    first, second = [line.split() for line in told("report", "--top", "5").splitlines() if " tr-" in line]

    assert (first[-1], second[-1]) == ("0.000450", "unknown")


def test_reprice_leaves_it_and_says_so(told: Callable[..., str]) -> None:
    """Without its usage a call cannot be priced again, in a policy's prices neither."""
    said = told("reprice", "--policy", "policy.yaml", "--all", "--yes")

    assert "Left as they are: 2 calls without cost.usage on their span (recorded before 0.2" in said
    assert "Nothing to change" in said


def test_it_is_a_bill(told: Callable[..., str]) -> None:
    """An export has what it cost."""
    lines = told("export", "--policy", "policy.yaml").splitlines()

    assert sorted(line.split(",")[0] for line in lines[1:]) == ["0.00015", "0.0003"]
