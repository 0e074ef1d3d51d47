"""Sums by SQL on a real PostgreSQL, whose JSON functions are other ones than SQLite's."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import mlflow
import postgres_server
import pytest
from test_report_sums import BY, plain, spend

from langchain_mlflow_cost import cost_summary
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.adapters.trace_rows import TraceRows
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.reports.query import Question, Store
from langchain_mlflow_cost.reports.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(postgres_server.programs() is None, reason="needs PostgreSQL and psycopg2"),
]


@pytest.fixture
def database(clean_mlflow: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    with postgres_server.running() as server:
        uri = server.database()
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("tests")
        yield uri
        mlflow.set_tracking_uri(None)


def test_tables_and_pages_agree(database: str) -> None:
    """Whatever is asked, PostgreSQL gives the groups and figures that MLflow's API gives, and `cost_summary`'s sums."""
    spend()
    found = mlflow.get_experiment_by_name("tests")
    experiments = {found.experiment_id: found.name}
    book = Policy().price_book(catalogue_rates)
    for by in BY:
        question = Question(experiments, by=dimensions(by), book=None if "tool" in by else book)
        tables, pages = (plain(Store(place).report(question)) for place in (database, "http://127.0.0.1:9"))

        assert tables.keys() == pages.keys(), by
        for values, fields in tables.items():
            for name, other in pages[values].items():
                told = pytest.approx(other, rel=1e-9) if isinstance(other, float) else other
                assert fields[name] == told, (by, values, name)
    everything = Question(experiments)
    total = Store(database).report(everything).total
    summaries = [cost_summary(trace.info.trace_id) for trace in mlflow.search_traces(return_type="list")]
    assert total.cost_usd == pytest.approx(sum(summary.total_cost_usd for summary in summaries), rel=1e-9)
    assert total.calls == sum(summary.llm_calls for summary in summaries)
    dearest = [sums.cost_usd for _, sums in Store(database).top(everything, 3)]
    assert dearest == pytest.approx([sums.cost_usd for _, sums in Store("http://127.0.0.1:9").top(everything, 3)])
    assert Store(database).tag_names(everything) == {"tenant", "beta"}
    _, outcome = Store(database).what_if(everything, WhatIf([], book, reprices_all=True))
    assert outcome.change_usd == pytest.approx(0, abs=1e-12)
    with closing(TraceRows(database)) as rows:
        held = list(rows.values_of([each.trace_id for each in summaries]))
    assert any(where == "spans.content" and b"mlflow.llm" in value for where, value in held)
