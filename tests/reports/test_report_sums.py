"""Reports over stored traces: the same from the tables as through MLflow's API, and what `cost_summary` says."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import mlflow
import pytest
from fake_models import MINI_USD, UNKNOWN, FakeChat, tool_call
from langchain_core.caches import InMemoryCache
from langgraph.graph import START, MessagesState, StateGraph
from ways import ASK, TEAM_USD, any_agent, given, look_up, one_node, team_graph

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.reports.compare import changes
from langchain_mlflow_cost.reports.dimensions import NAMES, dimensions
from langchain_mlflow_cost.reports.query import Question, Store
from langchain_mlflow_cost.reports.sums import Report, Sums

BY = [
    *(name for name in NAMES if name != "tag:NAME"),
    *("tag:tenant", "tag:beta", "day,model", "node,user", "agent,provider", "tool,day", "session,tag:tenant"),
]


def spend() -> int:
    """Traces of many kinds: with users, sessions, tags, agents, tools, cached, estimated, unpriced and stopped calls."""
    handler = MlflowCostHandler({"trace_metadata": ["tenant"], "prices": {"tools": {"look_up": 0.002}}})
    for number in range(4):
        config = {
            "configurable": {"thread_id": f"thread {number % 3}"},
            "metadata": {"user_id": f"user-{number % 2}", "tenant": 'a "quoted" one' if number % 3 else "b"},
            "tags": ["beta"] * (number % 2),
        }
        model = FakeChat(answers=[tool_call("look_up", word="news"), "done"])
        for graph in (team_graph(), any_agent(model, look_up)):
            graph.invoke(ASK, {**config, **given(handler)})
    cached, told = FakeChat(cache=InMemoryCache()), FakeChat(usage=None)
    unpriced = FakeChat(model=UNKNOWN)
    for call in (
        lambda state: [cached.invoke(state["messages"]) for _ in range(3)],
        lambda state: unpriced.invoke(state["messages"]),
        lambda state: told.invoke(state["messages"]),
    ):
        one_node(call).invoke(ASK, given(handler))
    graph = one_node(lambda state: FakeChat().invoke(state["messages"]))
    with pytest.raises(BudgetExceededError):
        graph.invoke(ASK, given(MlflowCostHandler({"budget": {"max_cost_usd": 0}})))
    mlflow.start_span_no_context("of nobody").end()
    mlflow.flush_trace_async_logging()
    return 2 * 4 + 3 + 1 + 1


@pytest.fixture
def experiments(store: str) -> dict[str, str]:
    assert spend() == len(mlflow.search_traces(return_type="list"))
    found = mlflow.get_experiment_by_name("tests")
    return {found.experiment_id: found.name}


def plain(report: Report) -> dict[tuple[str, ...], dict[str, Any]]:
    return {values: sums.as_fields() for values, sums in report.groups.items()} | {
        ("all",): {**report.total.as_fields(), "all traces": report.traces, "stops": dict(report.stops)}
    }


def test_tables_and_pages_agree(store: str, experiments: dict[str, str]) -> None:
    """Whatever is asked, SQL and MLflow's API give the same groups and figures, and the sums are `cost_summary`'s."""
    summaries = [cost_summary(trace.info.trace_id) for trace in mlflow.search_traces(return_type="list")]
    usd = math.fsum(summary.total_cost_usd for summary in summaries)
    assert usd == pytest.approx(float(4 * (TEAM_USD + 2 * MINI_USD) + MINI_USD) + 8 * 0.002, rel=1e-3)
    for by in BY:
        question = Question(experiments, by=dimensions(by))
        tables, pages = Store(store).report(question), Store("http://127.0.0.1:9").report(question)

        assert plain(tables).keys() == plain(pages).keys(), by
        for values, fields in plain(tables).items():
            for name, other in plain(pages)[values].items():
                told = pytest.approx(other, rel=1e-9) if isinstance(other, float) else other
                assert fields[name] == told, (by, values, name)
        if "tool" not in by:
            assert tables.total.cost_usd == pytest.approx(usd, rel=1e-9), by
            assert tables.total.calls == sum(summary.llm_calls for summary in summaries), by


def test_by_node_is_what_the_summaries_say(store: str, experiments: dict[str, str]) -> None:
    """USD, calls and tokens of each node are those of all summaries together."""
    report = Store(store).report(Question(experiments, by=dimensions("node")))
    expected: dict[str, float] = {}
    for trace in mlflow.search_traces(return_type="list"):
        for node, cost in cost_summary(trace.info.trace_id).node_breakdown.items():
            expected[node] = expected.get(node, 0.0) + cost.cost_usd

    assert {values[0]: sums.cost_usd for values, sums in report.groups.items()} == pytest.approx(expected, rel=1e-9)


def test_a_trace_is_counted_once_in_a_group(store: str) -> None:
    """Also where the group is an agent with several nodes, each of which the store tells apart."""
    model = FakeChat()
    builder: Any = StateGraph(MessagesState)
    for name in ("plan", "write"):
        builder.add_node(name, lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "plan").add_edge("plan", "write").compile().invoke(ASK, given(MlflowCostHandler()))
    found = mlflow.get_experiment_by_name("tests")
    for place in (store, "http://127.0.0.1:9"):
        report = Store(place).report(Question({found.experiment_id: found.name}, by=dimensions("agent")))

        assert [(sums.traces, sums.calls) for sums in report.groups.values()] == [(1, 2)]


def test_days_are_those_of_the_zone() -> None:
    """A quarter past midnight in Kathmandu (+05:45) is the day before in London; weeks are ISO weeks."""
    moment = datetime(2026, 1, 1, 0, 15, tzinfo=ZoneInfo("Asia/Kathmandu"))
    quarter = str(int(moment.timestamp() * 1000) // 900_000)

    def told(by: str, zone: str) -> str:
        (dimension,) = dimensions(by, ZoneInfo(zone))
        return dimension.label([quarter])

    assert [told(by, "Asia/Kathmandu") for by in ("hour", "day", "week", "month")] == [
        "2026-01-01 00:00", "2026-01-01", "2026-W01", "2026-01",
    ]  # fmt: skip
    assert told("day", "Europe/London") == "2025-12-31"


@pytest.mark.parametrize(("by", "near"), [("modl", "model"), ("nodes", "node"), ("tag:", "tag:NAME")])
def test_a_dimension_that_is_none(by: str, near: str) -> None:
    """A mistyped one is answered with what was probably meant."""
    with pytest.raises(ValueError, match=f"{by!r} is none of .*{near}"):
        dimensions(by)


def test_classes_add_up(store: str, experiments: dict[str, str]) -> None:
    """The breakdown's USD by class are the models' cost; its tokens are the sums'."""
    book = Policy().price_book(catalogue_rates)
    for place in (store, "http://127.0.0.1:9"):
        total = Store(place).report(Question(experiments, by=dimensions("model"), book=book)).total

        assert math.fsum(total.usd.values()) == pytest.approx(total.input_usd + total.output_usd, rel=1e-9)
        assert sum(total.tokens.values()) == total.input_tokens + total.output_tokens


def test_dearest_traces(store: str, experiments: dict[str, str]) -> None:
    """They come in the order of their cost, with the cost that their summaries have."""
    for place in (store, "http://127.0.0.1:9"):
        found = Store(place).top(Question(experiments), 3)

        assert [sums.cost_usd for _, sums in found] == pytest.approx([float(TEAM_USD) + 0.002] * 3)
        assert all(cost_summary(trace).total_cost_usd == pytest.approx(sums.cost_usd) for trace, sums in found)


def test_a_change_is_explained_without_a_rest() -> None:
    """Twice the calls at half the price: both effects are told, and add up to the change."""

    def report(**numbers: Any) -> Report:
        sums = Sums(**{"traces": 1, "input_tokens": 1_000, "output_tokens": 0, **numbers})
        return Report((), {("a",): sums}, sums, 1)

    before = report(calls=10, input_usd=1.0)
    now = report(calls=20, input_tokens=2_000, input_usd=1.0)
    ((_, change),) = changes(before, now)
    assert (change.calls, change.price) == pytest.approx((math.log(2), -math.log(2)))
    assert change.calls + change.tokens_a_call + change.price + change.cache == pytest.approx(change.change_usd)

    lost = report(calls=10, input_usd=1.9, tokens={"input": 1_000}, usd={"input": 1.9})
    had = report(
        calls=10, input_usd=1.0, tokens={"input": 500, "cache_read": 500}, usd={"input": 0.95, "cache_read": 0.05}
    )
    ((_, change),) = changes(had, lost)
    assert change.cache == pytest.approx(0.9)
    assert change.price == pytest.approx(0.0, abs=1e-9)
