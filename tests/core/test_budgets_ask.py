"""`on_exceeded: interrupt`: LangGraph's own interrupt before a call that the budget does not allow, and its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import mlflow
import pytest
from fake_models import FakeChat
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from stored_traces import all_traces, named, root_of
from ways import ASK, given

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler

Run = Callable[[Any, Any, Any], Any]
RUN: dict[str, Run] = {
    "invoke": lambda graph, given_, config: graph.invoke(given_, config),
    "ainvoke": lambda graph, given_, config: asyncio.run(graph.ainvoke(given_, config)),
    "stream": lambda graph, given_, config: {k: v for part in graph.stream(given_, config) for k, v in part.items()},
}
run = pytest.mark.parametrize("run", RUN.values(), ids=list(RUN))


def asking(max_cost_usd: float = 0.0004, *, on_budget: Any = None, **more: Any) -> MlflowCostHandler:
    budget = {"max_cost_usd": max_cost_usd, "on_exceeded": "interrupt", **more}
    return MlflowCostHandler({"budget": budget}, on_budget=on_budget)


def calling(model: FakeChat) -> Any:
    def node(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def node_async(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return RunnableLambda(node, node_async)


def chain_of(model: FakeChat, *names: str) -> Any:
    """A graph of nodes that make a call each, with a checkpointer."""
    graph = StateGraph(MessagesState)
    for before, name in zip((START, *names), names, strict=False):
        graph.add_node(name, calling(model)).add_edge(before, name)
    return graph.compile(checkpointer=InMemorySaver())


def thread(handler: Any, name: str) -> Any:
    return given(handler, configurable={"thread_id": name})


@run
def test_asked_and_added_to(store: str, run: Run) -> None:
    """The second call waits; `add_usd` lets the graph go on in a new trace, with the sum of the first."""
    model, handler = FakeChat(), asking()
    graph = chain_of(model, "first", "second")
    stopped = run(graph, ASK, thread(handler, "added"))
    (question,) = stopped["__interrupt__"]
    after = len(model.requests)
    run(graph, Command(resume={"add_usd": 1}), thread(handler, "added"))
    (before, resumed) = all_traces()

    assert (1, 2) == (after, len(model.requests))
    assert ("trace", 0.00045, 0.0004, "USD", "second") == tuple(
        question.value[key] for key in ("budget", "sum", "limit", "unit", "node")
    )
    assert "OK" == root_of(before).status.status_code.value == root_of(resumed).status.status_code.value
    assert "trace" == root_of(before).get_attribute("cost.stopped_by")
    assert root_of(resumed).get_attribute("cost.stopped_by") is None


@run
def test_the_sum_goes_on(store: str, run: Run) -> None:
    """What `add_usd` adds is all that there is more: 0.0004 + 0.0003 USD are two calls, and the third waits again."""
    model = FakeChat()
    graph = chain_of(model, "a", "b", "c", "d")
    run(graph, ASK, thread(asking(), "goes on"))
    stopped = run(graph, Command(resume={"add_usd": 0.0003}), thread(asking(), "goes on"))

    assert 2 == len(model.requests)
    assert pytest.approx((0.0009, 0.0007)) == tuple(stopped["__interrupt__"][0].value[key] for key in ("sum", "limit"))


@run
@pytest.mark.parametrize("answer", [False, "no", {"add_usd": 0}, {"add_usd": -1}, {"add_usd": "much"}])
def test_refused_by_the_answer(store: str, run: Run, answer: Any) -> None:
    """An answer that adds nothing refuses the call, with the error that `raise` gives."""
    model, handler = FakeChat(), asking()
    graph = chain_of(model, "first", "second")
    run(graph, ASK, thread(handler, f"refused {answer}"))
    with pytest.raises(BudgetExceededError) as caught:
        run(graph, Command(resume=answer), thread(handler, f"refused {answer}"))

    assert (1, "second", "trace") == (len(model.requests), caught.value.node, caught.value.scope)


@run
def test_a_refusal_is_not_for_ever(store: str, run: Run) -> None:
    """After a refusal the thread can be taken up again: whoever adds then is heard."""
    model, handler = FakeChat(), asking()
    graph, config = chain_of(model, "first", "second"), thread(handler, f"not for ever {run}")
    run(graph, ASK, config)
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            run(graph, Command(resume=False), config)
    run(graph, Command(resume={"add_usd": 1}), config)

    assert 2 == len(model.requests)
    assert () == graph.get_state(config).next


@run
@pytest.mark.parametrize("second", [False, {"add_usd": 0.0001}])
def test_an_answer_counts_once(store: str, run: Run, second: Any) -> None:
    """A node that asks twice has each answer once, though LangGraph gives it the first one again."""
    model, handler = FakeChat(), asking()

    def node(state: Any) -> None:
        for _ in range(3):
            model.invoke(state["messages"])

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")
    compiled: Any = graph.compile(checkpointer=InMemorySaver())
    config = thread(handler, f"once {run} {second}")
    run(compiled, ASK, config)
    run(compiled, Command(resume={"add_usd": 0.0003}), config)
    before = len(model.requests)
    if second is False:
        with pytest.raises(BudgetExceededError):
            run(compiled, Command(resume=second), config)
    else:
        again = run(compiled, Command(resume=second), config)
        # 0.0004 + 0.0003 + 0.0001 USD.
        assert pytest.approx(0.0008) == again["__interrupt__"][0].value["limit"]

    assert 2 == before
    assert 2 == len(model.requests)


def test_a_new_invocation_begins_anew(store: str) -> None:
    """Who does not resume, and asks something new in the same thread, has the whole limit again."""
    model, handler = FakeChat(), asking()
    graph = chain_of(model, "first", "second")
    for _ in range(2):
        assert "__interrupt__" in graph.invoke(ASK, thread(handler, "anew"))

    assert 2 == len(model.requests)


@pytest.mark.parametrize("scope", ["session", "user", "node"])
def test_other_scopes_ask_too(store: str, scope: str) -> None:
    """The answer adds to the limit of the sum that stood before the call, and stays added there."""
    model, handler = FakeChat(), asking(scope=scope)
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda state: [model.invoke(state["messages"]) for _ in range(2)] and None)
    compiled = graph.add_edge(START, "node").compile(checkpointer=InMemorySaver())
    config: Any = {**thread(handler, f"scope {scope}"), "metadata": {"user_id": f"scope {scope}"}}
    first = compiled.invoke(ASK, config)
    compiled.invoke(Command(resume={"add_usd": 1}), config)

    assert scope in first["__interrupt__"][0].value["budget"]
    # The node begins again: its first call is made twice.
    assert 3 == len(model.requests)


def test_tokens_are_asked_for(store: str) -> None:
    """A budget of tokens asks in tokens."""
    model = FakeChat()
    handler = MlflowCostHandler({"budget": {"max_total_tokens": 1000, "on_exceeded": "interrupt"}})
    graph = chain_of(model, "first", "second")
    stopped = graph.invoke(ASK, thread(handler, "tokens"))
    graph.invoke(Command(resume={"add_tokens": 2000}), thread(handler, "tokens"))

    assert ("tokens", 1500.0) == tuple(stopped["__interrupt__"][0].value[key] for key in ("unit", "sum"))
    assert 2 == len(model.requests)


def test_a_hard_limit_stays(store: str) -> None:
    """The answer adds to limits that ask: one that raises on the same sum stays where it is."""
    model = FakeChat()
    handler = MlflowCostHandler(
        {"budget": [{"max_cost_usd": 0.0004, "on_exceeded": "interrupt"}, {"max_cost_usd": 0.0009}]}
    )
    graph = chain_of(model, "a", "b", "c")
    graph.invoke(ASK, thread(handler, "hard"))
    with pytest.raises(BudgetExceededError) as caught:
        graph.invoke(Command(resume={"add_usd": 1}), thread(handler, "hard"))

    assert (2, 0.0009) == (len(model.requests), float(caught.value.limit_usd or 0))


def test_branches_at_once_all_wait(store: str) -> None:
    """Of parallel branches each that is not allowed waits, none ends the others with an error; each is answered."""
    both_sent = threading.Barrier(2, timeout=15)
    model = FakeChat(before=both_sent.wait)
    graph = StateGraph(MessagesState)
    for number in range(4):
        graph.add_node(f"branch {number}", calling(model)).add_edge(START, f"branch {number}")
    compiled = graph.compile(checkpointer=InMemorySaver())
    handler = asking(0.00015)
    stopped = compiled.invoke(ASK, thread(handler, "branches"))
    waiting = stopped["__interrupt__"]
    answers = {each.id: {"add_usd": 1} for each in waiting}
    compiled.invoke(Command(resume=answers), thread(handler, "branches"))

    assert 2 == len(waiting)
    assert 4 == len(model.requests)


def test_in_one_trace(store: str) -> None:
    """A graph that is resumed below the same span goes on in the same trace, and with its sum."""
    model, handler = FakeChat(), asking()
    graph = chain_of(model, "first", "second")
    with mlflow.start_span("request"):
        graph.invoke(ASK, thread(handler, "one trace"))
        graph.invoke(Command(resume={"add_usd": 1}), thread(handler, "one trace"))
    (_,) = all_traces()

    assert 2 == len(model.requests)


def swallowing(model: FakeChat, calls: int = 3) -> Any:
    def node(state: Any) -> None:
        for _ in range(calls):
            try:
                model.invoke(state["messages"])
            except Exception as error:  # noqa: BLE001 - as applications do
                caught.append(type(error).__name__)

    caught: list[str] = []
    graph = StateGraph(MessagesState).add_node("node", node).add_node("next", node)
    compiled = graph.add_edge(START, "node").add_edge("node", "next").compile(checkpointer=InMemorySaver())
    return compiled, caught


def test_swallowed(store: str) -> None:
    """Where the application swallows the interrupt, every further call of the trace is refused."""
    model, handler = FakeChat(), asking()
    graph, caught = swallowing(model)
    graph.invoke(ASK, thread(handler, "swallowed"))

    assert 1 == len(model.requests)
    assert ["GraphInterrupt", *["BudgetExceededError"] * 4] == caught


@pytest.mark.parametrize("where", ["no checkpointer", "no graph"])
def test_nobody_to_ask(store: str, where: str) -> None:
    """Without a checkpointer, and outside a graph, `interrupt` is `raise`."""
    model, handler = FakeChat(), asking(0.0004, scope="session" if where == "no graph" else "trace")
    config = thread(handler, f"nobody {where}")
    with pytest.raises(BudgetExceededError):  # noqa: PT012 - the first of two calls is allowed
        if where == "no graph":
            for _ in range(2):
                model.invoke("hi", given(handler, metadata={"thread_id": "nobody"}))
        else:
            graph = StateGraph(MessagesState).add_node("a", calling(model)).add_node("b", calling(model))
            graph.add_edge(START, "a").add_edge("a", "b").compile().invoke(ASK, config)

    assert 1 == len(model.requests)


def test_an_interrupt_of_the_nodes_own(store: str) -> None:
    """A node that asks something itself first keeps its answer."""
    model, handler, heard = FakeChat(), asking(), []

    def node(state: Any) -> None:
        heard.append(interrupt("go on?"))
        model.invoke(state["messages"])

    graph = StateGraph(MessagesState).add_node("first", calling(model)).add_node("node", node)
    compiled = graph.add_edge(START, "first").add_edge("first", "node").compile(checkpointer=InMemorySaver())
    config = thread(handler, "own")
    compiled.invoke(ASK, config)
    question = compiled.invoke(Command(resume="yes"), config)
    if "__interrupt__" in question:
        compiled.invoke(Command(resume={"add_usd": 1}), config)

    assert {"yes"} == set(heard)
    assert 2 == len(model.requests)


def test_the_callback_hears_of_it(store: str) -> None:
    """`on_budget` is told of the call that waits."""
    seen: list[Any] = []
    graph = chain_of(FakeChat(), "first", "second")
    graph.invoke(ASK, thread(asking(on_budget=seen.append), "callback"))

    assert [("trace", "second", True)] == [(each.budget, each.node, each.refused) for each in seen]


def test_the_waiting_call_in_the_trace(store: str) -> None:
    """The span of the call that waits, and its node, are no errors: an interrupt is none."""
    graph = chain_of(FakeChat(), "first", "second")
    graph.invoke(ASK, thread(asking(), "in the trace"))
    (trace,) = all_traces()

    assert "OK" == named(trace, "second").status.status_code.value


def test_as_users_have_it(exported_in_threads: str) -> None:
    """With MLflow's own asynchronous export both traces are stored, each with its own cost."""
    model, handler = FakeChat(), asking()
    graph = chain_of(model, "first", "second")
    graph.invoke(ASK, thread(handler, "as users have it"))
    graph.invoke(Command(resume={"add_usd": 1}), thread(handler, "as users have it"))
    mlflow.flush_trace_async_logging()

    costs = [root_of(trace).get_attribute("cost.total_usd") for trace in all_traces()]
    assert pytest.approx([0.00045, 0.00045]) == costs
