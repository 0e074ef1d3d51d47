"""What a tool costs by the call is in every sum, stored and live, and in the budgets."""

from __future__ import annotations

import asyncio
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat, tool_call
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from stored_traces import all_traces, mlflow_usd, named, only_trace, root_of
from ways import ASK, any_agent, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

FEE = 0.008
POLICY: dict[str, Any] = {"prices": {"tools": {"search": FEE, "free": 0}}}


@tool
def search(word: str) -> str:
    """Search for a word."""
    return f"{word} found"


@tool
def failing(word: str) -> str:
    """Fail."""
    raise ConnectionError(word)


def run_agent(handler: Any, *, asynchronous: bool = False) -> None:
    agent = any_agent(FakeChat(answers=[tool_call("search", word="news"), "done"]), search)
    if asynchronous:
        asyncio.run(agent.ainvoke(ASK, given(handler)))
    else:
        agent.invoke(ASK, given(handler))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_fee_is_in_every_sum(exported_in_threads: str, asynchronous: bool) -> None:
    """Tool, node, root, the trace's total, the live and the stored summary: all have it, and say what of them it is."""
    handler = MlflowCostHandler(POLICY)
    run_agent(handler, asynchronous=asynchronous)
    live, read, trace = handler.summary(), cost_summary(), only_trace()
    usd = float(2 * MINI_USD) + FEE

    assert [usd] * 4 == pytest.approx(
        [live.total_cost_usd, read.total_cost_usd, mlflow_usd(trace), root_of(trace).attributes["cost.total_usd"]],
        rel=1e-9,
    )
    assert [FEE] * 6 == pytest.approx(
        [
            live.tool_cost_usd,
            read.tool_cost_usd,
            live.node_breakdown["tools"].cost_usd,
            read.node_breakdown["tools"].cost_usd,
            named(trace, "search").attributes["cost.total_usd"],
            named(trace, "search").attributes["cost.tool_usd"],
        ],
        rel=1e-9,
    )
    assert named(trace, "tools").attributes["cost.total_usd"] == pytest.approx(FEE, rel=1e-9)
    assert root_of(trace).attributes["cost.input_usd"] + root_of(trace).attributes["cost.output_usd"] == pytest.approx(
        float(2 * MINI_USD), rel=1e-9
    )


def test_a_fee_alone_is_a_total(store: str) -> None:
    """A graph that calls no model has a total too, the user's span around it as well."""
    handler = MlflowCostHandler(POLICY)
    with mlflow.start_span("endpoint"):
        one_node(lambda _: search.invoke({"word": "news"})).invoke(ASK, given(handler))
    trace = only_trace()

    assert [FEE] * 3 == pytest.approx(
        [mlflow_usd(trace), named(trace, "endpoint").attributes["cost.total_usd"], cost_summary().total_cost_usd]
    )
    assert "fees of tools in it: 0.008 USD" in str(handler.summary())


def test_a_run_of_another_name_is_the_same_tool(store: str) -> None:
    """`with_config(run_name=...)` renames the run, and not what it costs."""
    handler = MlflowCostHandler(POLICY)
    renamed = search.with_config(run_name="look it up")
    one_node(lambda _: renamed.invoke({"word": "news"})).invoke(ASK, given(handler))

    assert handler.summary().tool_cost_usd == FEE


def calls(kind: str) -> Any:
    """A node whose tool call ends in some way."""
    if kind == "failed":
        return lambda _: ToolNode([failing], handle_tool_errors=True).invoke(
            {"messages": [tool_call("failing", word="news")]}
        )
    if kind == "refused arguments":
        return lambda _: ToolNode([search], handle_tool_errors=True).invoke(
            {"messages": [tool_call("search", letter="n")]}
        )
    return lambda _: [search.invoke({"word": word}) for word in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("kind", "usd"), [("failed", 0.5), ("refused arguments", 0), ("three times", 3 * FEE)], ids=str
)
def test_what_was_called_costs(store: str, kind: str, usd: float) -> None:
    """A call that failed was made; one whose arguments did not fit was not."""
    handler = MlflowCostHandler({"prices": {"tools": {"search": FEE, "failing": 0.5}}})
    one_node(calls(kind)).invoke(ASK, given(handler))

    assert (usd, usd) == pytest.approx((handler.summary().tool_cost_usd, cost_summary().tool_cost_usd), rel=1e-9)


def test_an_interrupted_call_costs_once(store: str) -> None:
    """A tool that waits for a person is called again at the resume: one fee in all."""

    @tool
    def ask(word: str) -> str:
        """Ask somebody."""
        return str(interrupt(word))

    def node(_: MessagesState) -> Any:
        return {"messages": [("ai", ask.invoke({"word": "may I?"}))]}

    waiting: Any = node
    graph: Any = StateGraph(MessagesState).add_node("node", waiting).add_edge(START, "node")
    graph = graph.compile(checkpointer=InMemorySaver())
    handler = MlflowCostHandler({"prices": {"tools": {"ask": 1}}})
    config = given(handler, configurable={"thread_id": "t"})
    graph.invoke(ASK, config)
    graph.invoke(Command(resume="yes"), config)

    assert [0, 1] == [cost_summary(trace.info.trace_id).tool_cost_usd for trace in all_traces()]


def test_budgets_see_fees(store: str) -> None:
    """A fee that uses up the limit refuses the next call of a model; the fee itself was paid."""
    model = FakeChat(answers=[tool_call("search", word="news"), "done"])
    # 0.00045 for the first answer and 0.008 for the search: 0.00845 has reached 0.008.
    handler = MlflowCostHandler({**POLICY, "budget": {"max_cost_usd": 0.008}})
    with pytest.raises(BudgetExceededError):
        any_agent(model, search).invoke(ASK, given(handler))

    assert len(model.requests) == 1
    assert handler.summary().total_cost_usd == pytest.approx(0.00845, rel=1e-9)


def test_each_handler_has_fees_of_its_own(store: str) -> None:
    """Of two handlers, each counts what its own policy says."""
    one, other = MlflowCostHandler(POLICY), MlflowCostHandler({"prices": {"tools": {"search": 2}}})
    one_node(lambda _: search.invoke({"word": "news"})).invoke(ASK, {"callbacks": [one, other]})

    assert (FEE, 2) == (one.summary().tool_cost_usd, other.summary().tool_cost_usd)


def test_nearly_the_name_of_a_fee_is_told(store: str) -> None:
    """A tool that has no fee, while one of nearly its name has, gives one warning; a tool of another name none."""
    handler = MlflowCostHandler({"prices": {"tools": {"serch": 1}}})
    with pytest.warns(UserWarning, match="prices.tools has a fee for 'serch', and a tool called 'search'") as told:
        one_node(calls("three times")).invoke(ASK, given(handler))

    assert len(told) == 1
    assert handler.summary().tool_cost_usd == 0


def test_a_private_node_keeps_its_fee(store: str) -> None:
    """Costs are no payload: a node without prompts has the fees of its tools."""
    handler = MlflowCostHandler({**POLICY, "log_prompts": False, "artifact_level": "minimal"})
    run_agent(handler)

    assert cost_summary().tool_cost_usd == FEE
