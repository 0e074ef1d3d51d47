"""The report as a page: the figures of the others, names that cannot act, nothing that is fetched."""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI_USD, UNKNOWN, FakeChat
from langgraph.graph import START, MessagesState, StateGraph

from langchain_mlflow_cost import MlflowCostHandler, Policy
from langchain_mlflow_cost.reports.html import figures
from langchain_mlflow_cost.reports.query import Question, Store

if TYPE_CHECKING:
    from langchain_mlflow_cost.reports.html import Figures

HOSTILE = "</script><script>alert(1)</script>"


def told(store: str) -> Figures:
    """Two traces of a node with a hostile name, and a model without a price."""

    def work(state: Any) -> Any:
        FakeChat(model=UNKNOWN).invoke("hi")
        return {"messages": [FakeChat().invoke("hi")]}

    graph: Any = StateGraph(MessagesState).add_node(HOSTILE, work).add_edge(START, HOSTILE).compile()
    for _ in range(2):
        graph.invoke({"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler({})]})
    experiment = mlflow.get_experiment_by_name("tests")
    assert experiment is not None
    question = Question({experiment.experiment_id: "tests"}, book=Policy().price_book())
    return figures(Store(store), question, UTC)


def test_figures_are_the_reports(store: str) -> None:
    """Each plot adds up to the sum of all."""
    found = told(store)

    assert found.report.total.cost_usd == pytest.approx(float(2 * MINI_USD), rel=1e-12)
    assert sum(row["usd"] for row in found.spend) == pytest.approx(found.report.total.cost_usd)
    assert sum(row["traces"] for row in found.runs) == 2
    assert sum(row["tokens"] for row in found.classes) == 2 * 2 * 1500
    assert sum(sums.cost_usd for _, sums in found.nodes) == pytest.approx(found.report.total.cost_usd)


def test_page_fetches_nothing_and_no_name_acts(store: str) -> None:
    """One file: no address in an attribute, a policy that forbids to fetch, and names as text."""
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    from langchain_mlflow_cost.reports.html import page

    written = page(told(store), title=f"Cost of {HOSTILE}", period="today", made="now")
    body = re.sub(r"<script>.*?</script>", "", written, flags=re.DOTALL)
    specs = json.loads(written.rpartition("const specs = ")[2].partition(";\n")[0])

    assert written.count("</script>") == 2
    assert not re.search(r"(?:src|href)\s*=", body)
    assert "default-src 'none'" in written
    assert "<script>alert" not in written
    assert len(specs) >= 4
    assert len(written) < 1_500_000
