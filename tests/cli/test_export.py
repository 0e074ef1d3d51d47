"""`mlflow-cost export`: rows of FOCUS 1.2 whose sums are the report's."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import mlflow
import pyarrow.parquet as pq
import pytest
from fake_models import MINI, SONNET, UNKNOWN, FakeChat
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.cli.formats import csv_cell
from langchain_mlflow_cost.reports.focus import COLUMNS, OWN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

CACHED = {
    "input_tokens": 1000,
    "output_tokens": 500,
    "total_tokens": 1500,
    "input_token_details": {"cache_read": 600},
    "output_token_details": {"reasoning": 200},
}
POLICY = "prices: {discounts: {openai: 0.1}, tools: {search: 0.02}}\n"


@tool
def search(query: str) -> str:
    """Search."""
    return query


@pytest.fixture
def stored(cli: Cli, store: str, tmp_path: Path) -> Iterator[str]:
    """Two traces of one user: two providers, a cache that was read, a tool with a fee, a model without a price."""
    (tmp_path / "policy.yaml").write_text(POLICY)

    def write(state: Any) -> Any:
        FakeChat(usage=CACHED).invoke("hi")
        search.invoke({"query": "x"})
        return {"messages": [FakeChat(model=SONNET).invoke("hi")]}

    def unknown(state: Any) -> Any:
        return {"messages": [FakeChat(model=UNKNOWN).invoke("hi")]}

    builder = StateGraph(MessagesState).add_node("write", write).add_node("unknown", unknown)
    graph: Any = builder.add_edge(START, "write").add_edge("write", "unknown").compile()
    handler = MlflowCostHandler("policy.yaml")
    for _ in range(2):
        config: Any = {
            "callbacks": [handler],
            "configurable": {"thread_id": "t-1"},
            "metadata": {"user_id": "ann"},
            "tags": ["beta"],
        }
        graph.invoke({"messages": [("user", "hi")]}, config)
    yield store
    mlflow.flush_trace_async_logging()


def export(cli: Cli, store: str, *words: object) -> tuple[Done, list[dict[str, str]]]:
    done = cli("export", "--tracking-uri", store, "--experiment", "tests", "--policy", "policy.yaml", *words)
    return done, list(csv.DictReader(io.StringIO(done.out)))


def test_sums_are_the_reports(cli: Cli, stored: str) -> None:
    """Billed is what the report says; list and contracted cost differ by the discount; an unpriced call is no row."""
    done, rows = export(cli, stored)
    report = json.loads(
        cli("report", "--tracking-uri", stored, "--experiment", "tests", "--by", "model", "--format", "json").out
    )
    billed = {
        name: sum((Decimal(row["BilledCost"]) for row in rows if row["SkuId"].endswith(name)), Decimal(0))
        for name in (MINI, SONNET, "search")
    }

    assert done.code == 0
    # gpt-4o-mini: 400 in at 0.15, 600 cached at 0.075, 500 out at 0.60 USD a million, less 10 %, twice.
    assert billed[MINI] == 2 * Decimal("0.000405") * Decimal("0.9")
    assert billed[SONNET] == 2 * Decimal("0.0105")
    assert billed["search"] == 2 * Decimal("0.02")
    assert float(sum(billed.values())) == pytest.approx(report["total"]["cost_usd"], rel=1e-12)
    of_mini = [row for row in rows if row["SkuId"].endswith(MINI)]
    assert sum(Decimal(row["ListCost"]) for row in of_mini) == 2 * Decimal("0.000405")
    assert sum(Decimal(row["ContractedCost"]) for row in of_mini) == billed[MINI]
    assert "left out: 2 calls without a known price" in done.err
    assert not any(UNKNOWN in row["SkuId"] for row in rows)


def test_a_row_is_a_class(cli: Cli, stored: str) -> None:
    """Each class of tokens has its quantity and unit price; node, user, session and tags are tags."""
    _, rows = export(cli, stored)
    cached = next(row for row in rows if row["SkuMeter"] == "cache read")

    assert tuple(cached) == COLUMNS
    assert (cached["ConsumedQuantity"], cached["ConsumedUnit"]) == ("1200.0", "Tokens")
    assert Decimal(cached["ListUnitPrice"]) == Decimal("0.075")
    assert {row["SkuMeter"] for row in rows if MINI in row["SkuId"]} == {"input", "cache read", "output", "reasoning"}
    tags = json.loads(cached["Tags"])
    assert (tags["node"], tags["session"], tags["experiment"], tags["beta"]) == ("write", "t-1", "tests", "true")


def test_parquet_and_csv_have_a_row_a_call(cli: Cli, stored: str, tmp_path: Path) -> None:
    """The same costs, exactly, and what FOCUS has no column for."""
    _, rows = export(cli, stored, "--format", "csv")
    done, _ = export(cli, stored, "--format", "parquet", "--out", "costs.parquet")
    table = pq.read_table(tmp_path / "costs.parquet")

    assert done.code == 0
    assert tuple(table.column_names) == tuple(rows[0]) == (*COLUMNS, *OWN_COLUMNS)
    assert len(table) == len(rows)
    assert sum(table["BilledCost"].to_pylist()) == sum(Decimal(row["BilledCost"]) for row in rows)
    assert {row["x_TraceId"] for row in rows} == {
        trace.info.trace_id for trace in mlflow.search_traces(return_type="list")
    }


@pytest.mark.parametrize(("value", "cell"), [
    (Decimal("5.000000000000000000"), "5.0"),
    (Decimal("0E-18"), "0.0"),
    (Decimal("1E+3"), "1000.0"),
    (Decimal("0.000000030000000000"), "0.00000003"),
    (Decimal("-0.50"), "-0.5"),
    (-3, -3),
    (1.5e-7, 1.5e-7),
    (None, ""),
    ("plain", "plain"),
    ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
    ("+1 555 0100", "'+1 555 0100"),
    ("-2+3", "'-2+3"),
    ("@cf/meta/llama-3-8b", "'@cf/meta/llama-3-8b"),
    ("\t=1", "'\t=1"),
    ("\r=1", "'\r=1"),
    ("\uff1d1+1", "'\uff1d1+1"),
    (["=a", "b"], "'=a, b"),
    ("a=b", "a=b"),
])  # fmt: skip
def test_a_cell(value: object, cell: object) -> None:
    """Numbers are numbers without idle noughts, and no text of others is a formula in a spreadsheet."""
    assert csv_cell(value) == cell


def test_names_are_no_formulas(cli: Cli, store: str, tmp_path: Path) -> None:
    """Users, models and nodes are called what others call them; an export and a report write them so that none acts."""
    (tmp_path / "policy.yaml").write_text("prices: {}")
    builder = StateGraph(MessagesState).add_node("=cmd", lambda _: {"messages": [FakeChat().invoke("hi")]})
    config: Any = {"callbacks": [MlflowCostHandler("policy.yaml")], "metadata": {"user_id": "-1+1"}}
    graph: Any = builder.add_edge(START, "=cmd").compile()
    graph.invoke({"messages": [("user", "hi")]}, config)
    words = ("--tracking-uri", store, "--experiment", "tests")
    rows = list(csv.reader(io.StringIO(cli("export", *words, "--format", "csv", "--policy", "policy.yaml").out)))
    told = list(csv.reader(io.StringIO(cli("report", *words, "--by", "node,user", "--format", "csv").out)))

    assert len(rows) > 1
    assert told[1][:2] == ["'=cmd", "'-1+1"]
    for cell in (cell for row in (*rows, *told) for cell in row):
        assert not cell.startswith(("=", "+", "@"))
        assert not cell.startswith("-") or float(cell) < 0


def test_parquet_needs_a_file(cli: Cli) -> None:
    """A terminal is no place for it."""
    assert cli("export", "--format", "parquet").code == 2


@pytest.mark.nightly
@pytest.mark.skipif("FOCUS_VALIDATOR" not in os.environ, reason="run by scripts/focus_env.sh's environment")
def test_focus_validator_finds_no_fault(cli: Cli, stored: str, tmp_path: Path) -> None:
    """By the FinOps Foundation's own rules, those of 1.0, the newest that need no network."""
    export(cli, stored, "--out", "costs.csv")
    command = [os.environ["FOCUS_VALIDATOR"], "--validate-version", "1.0", "--data-file", str(tmp_path / "costs.csv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    failed = {line.removesuffix(" failed:") for line in done.stdout.splitlines() if line.endswith(" failed:")}
    assert "alidation" in done.stdout
    assert failed == NOT_FOCUS


NOT_FOCUS = {
    # Columns by names that the specification does not have: it says InvoiceIssuerName, ProviderName, PublisherName, ResourceId.
    "InvoiceIssuer_Required",
    "Provider_Required",
    "Publisher_Required",
    "ResourceID_Required",
    # Asks for ChargeType, which was a column before 1.0.
    "SkuPriceId_Nullable",
    # Reads a list of currencies that is not part of the package.
    "BillingCurrency_IsCurrencyCode",
}
"""Rules of focus-validator 1.0.0 that no file passes which is FOCUS 1.0 or later."""
