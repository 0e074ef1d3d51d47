"""Budgets through the front door: refused before the request, whatever swallows the refusal, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fake_models import MINI_USD, SONNET, UNKNOWN, FakeChat, FakeStream, FakeText, tool_call
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from stored_traces import all_traces, model_spans, named, only_trace, root_of, statuses
from ways import ASK, RUN, given, one_node, read

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

ONE_CALL = 0.0003
"""USD: more than nothing, less than one call of MINI, which is 0.00045."""


TWO_AT_ONCE = 0.00015
"""USD: more than one call of MINI holds while it is in flight and nobody has answered yet, less than two."""


def limited(max_cost_usd: float = ONE_CALL, **more: Any) -> MlflowCostHandler:
    return MlflowCostHandler({"budget": {"max_cost_usd": max_cost_usd, **more}})


def twice(model: Any) -> Any:
    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def node_async(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("first", RunnableLambda(node, node_async)).add_node("second", RunnableLambda(node, node_async))
    return graph.add_edge(START, "first").add_edge("first", "second").compile()


RUN_ALSO_BY_MESSAGES: dict[str, Callable[[Any, Any], Any]] = {
    **RUN,
    "messages": lambda graph, config: list(graph.stream(ASK, config, stream_mode="messages")),
}
run = pytest.mark.parametrize("run", RUN_ALSO_BY_MESSAGES.values(), ids=list(RUN_ALSO_BY_MESSAGES))


@run
def test_refused_before_the_request(store: str, run: Any) -> None:
    """The error gets out unwrapped, the second request is not sent, and only the first call is paid."""
    model, handler = FakeChat(), limited()
    with pytest.raises(BudgetExceededError) as refusal:
        run(twice(model), given(handler))

    assert len(model.requests) == 1
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)
    assert (refusal.value.node, refusal.value.budget) == ("second", "trace")
    assert "0.0003 USD" in str(refusal.value)


@run
def test_refused_call_in_the_trace(store: str, run: Any) -> None:
    """The refused call's span, its node and the root are ERROR and stored; the sums are those of what was sent."""
    with pytest.raises(BudgetExceededError):
        run(twice(FakeChat()), given(limited()))
    trace = only_trace()

    assert {"first": "OK", "second": "ERROR", "LangGraph": "ERROR"} == {
        name: status for name, status in statuses(trace).items() if name not in ("FakeChat", "node")
    }
    assert ["ERROR", "OK"] == sorted(span.status.status_code.value for span in model_spans(trace))
    assert cost_summary(trace.info.trace_id).llm_calls == 1
    assert root_of(trace).get_attribute("cost.total_usd") == pytest.approx(float(MINI_USD), rel=1e-9)


MODELS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda handler: FakeChat().invoke("hi", given(handler)),
    "chat async": lambda handler: asyncio.run(FakeChat().ainvoke("hi", given(handler))),
    "chat stream": lambda handler: list(FakeStream().stream("hi", given(handler))),
    "chat astream": lambda handler: asyncio.run(read(FakeStream().astream("hi", given(handler)))),
    "text": lambda handler: FakeText().invoke("hi", given(handler)),
    "text async": lambda handler: asyncio.run(FakeText().ainvoke("hi", given(handler))),
    "constructor": lambda handler: FakeChat(callbacks=[handler]).invoke("hi"),
    "constructor async": lambda handler: asyncio.run(FakeChat(callbacks=[handler]).ainvoke("hi")),
    "constructor in a node": lambda handler: one_node(lambda _: FakeChat(callbacks=[handler]).invoke("hi")).invoke(ASK),
    "generate in a node": lambda handler: one_node(lambda _: FakeChat().generate([[HumanMessage("hi")]])).invoke(
        ASK, given(handler)
    ),
}


# langchain-core makes the coroutines of all handlers before it awaits the first: one that refuses leaves the others'.
@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event' was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", list(MODELS))
def test_refused_wherever_the_handler_is(store: str, case: str) -> None:
    """An exhausted budget refuses in each place of a handler; the next invocation is a trace of its own."""
    with pytest.raises(BudgetExceededError):
        MODELS[case](limited(0))
    FakeChat().invoke("hi", given(MlflowCostHandler()))
    (refused, after) = all_traces()

    assert cost_summary(refused.info.trace_id).llm_calls == 0
    assert [1, 1] == [len(after.data.spans), cost_summary(after.info.trace_id).llm_calls]


# --- what swallows it ----------------------------------------------------------------------------------------------


def try_except(model: FakeChat) -> Any:
    def node(state: MessagesState) -> None:
        for _ in range(3):
            try:
                model.invoke(state["messages"])
            except Exception:  # noqa: BLE001 - as applications do
                continue

    return one_node(node)


def fallback(model: FakeChat) -> Any:
    other = FakeChat(model=SONNET)
    other.requests = model.requests
    both = model.with_fallbacks([other])
    return one_node(lambda state: [both.invoke(state["messages"]) for _ in range(3)])


def retry(model: FakeChat) -> Any:
    retrying = model.with_retry(wait_exponential_jitter=False, stop_after_attempt=3)
    return one_node(lambda state: [retrying.invoke(state["messages"]) for _ in range(3)])


def node_retry(model: FakeChat) -> Any:
    def node(state: MessagesState) -> Any:
        for _ in range(2):
            model.invoke(state["messages"])

    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=Exception, max_attempts=3)
    return StateGraph(MessagesState).add_node("node", node, retry_policy=policy).add_edge(START, "node").compile()


def forgiving_tool(model: FakeChat) -> Any:
    @tool
    def ask(word: str) -> str:
        """Ask a model."""
        try:
            return str(model.invoke(word).content)
        except Exception as error:  # noqa: BLE001 - as applications do
            return f"failed: {type(error).__name__}"

    asking = FakeChat(answers=[tool_call("ask", word="news"), "done"])
    asking.requests = model.requests
    return create_agent(asking, [ask])


def cheaper_model(model: FakeChat) -> Any:
    """Falls back to a model that costs next to nothing."""

    def node(state: MessagesState) -> None:
        for each in (model, model, FakeText(model="gpt-4o-mini")):
            try:
                each.invoke(state["messages"])
            except Exception:  # noqa: BLE001 - as applications do
                continue

    return one_node(node)


SWALLOWERS = [try_except, fallback, retry, node_retry, forgiving_tool, cheaper_model]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("swallower", SWALLOWERS, ids=lambda each: each.__name__)
def test_swallowed_refusal_stays(store: str, swallower: Any, asynchronous: bool) -> None:
    """After a refusal every further call of that trace is refused, whatever became of the exception."""
    model, handler = FakeChat(), limited()
    graph = swallower(model)
    try:
        if asynchronous:
            asyncio.run(graph.ainvoke(ASK, given(handler)))
        else:
            graph.invoke(ASK, given(handler))
    except BudgetExceededError:
        pass

    assert len(model.requests) == 1
    assert handler.summary().llm_calls == cost_summary().llm_calls == 1


def test_next_trace_starts_anew(store: str) -> None:
    """A trace's budget says nothing about the next trace of the same handler."""
    model, handler = FakeChat(), limited()
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            twice(model).invoke(ASK, given(handler))

    assert len(model.requests) == 2


# --- at once -------------------------------------------------------------------------------------------------------


def fan_out(model: FakeChat, width: int) -> Any:
    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def node_async(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    for number in range(width):
        graph.add_node(f"branch {number}", RunnableLambda(node, node_async)).add_edge(START, f"branch {number}")
    return graph.compile()


def test_parallel_branches_cannot_overrun(store: str) -> None:
    """Branches that are under way at once are counted before they end: those that do not fit are refused.

    Four branches, room for two, whichever come first. A first call holds 128 tokens out of gpt-4o-mini, 0.0000768 USD,
    and its prompt, a hundredth of that.
    """
    both_sent = threading.Barrier(2, timeout=15)
    model, handler = FakeChat(before=both_sent.wait), limited(TWO_AT_ONCE)
    with pytest.raises(BudgetExceededError):
        fan_out(model, 4).invoke(ASK, given(handler))

    assert len(model.requests) == 2
    assert handler.summary().total_cost_usd == pytest.approx(float(2 * MINI_USD), rel=1e-9)
    assert cost_summary() == handler.summary()


def test_parallel_tasks_cannot_overrun(store: str) -> None:
    """The same in async code, where the siblings of a refused branch are cancelled."""
    sent: list[int] = []

    async def before() -> None:
        sent.append(1)
        await asyncio.sleep(0)

    model, handler = FakeChat(before_async=before), limited(TWO_AT_ONCE)
    with pytest.raises(BudgetExceededError):
        asyncio.run(fan_out(model, 4).ainvoke(ASK, given(handler)))

    assert len(sent) <= 2
    assert cost_summary() == handler.summary()


def test_batch_cannot_overrun(store: str) -> None:
    """The same for the threads of `model.batch` in a node."""
    both_sent = threading.Barrier(2, timeout=15)
    model, handler = FakeChat(before=both_sent.wait), limited(TWO_AT_ONCE)
    one_node(lambda _: model.batch(["a", "b", "c", "d"], return_exceptions=True)).invoke(ASK, given(handler))

    assert len(model.requests) == 2


class Slow(BaseCallbackHandler):
    """Another handler, which holds the loop when it is told of a call."""

    run_inline = True

    def __init__(self, hold: Callable[[], Any]) -> None:
        self.hold = hold

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.hold()


def test_calls_in_loops_of_other_threads_cannot_overrun(store: str) -> None:
    """A call whose task is at work in its own thread, and awaits nothing there, is under way all the same."""
    held: list[int] = []
    told, over = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        held.append(1)
        told.release()
        if len(held) <= 2:
            over.wait(15)

    model = FakeChat()
    config = {
        "callbacks": [limited(TWO_AT_ONCE, scope="session"), Slow(hold)],
        "metadata": {"thread_id": "loops of other threads"},
    }

    def ask() -> None:
        asyncio.run(model.ainvoke("hi", config))  # type: ignore[arg-type]

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert told.acquire(timeout=15)
    try:
        with pytest.raises(BudgetExceededError):
            ask()
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert len(model.requests) == 2


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_stream_is_stopped(store: str, asynchronous: bool) -> None:
    """A stream that passes the limit is stopped; what it said until then is paid by estimate, the call is ERROR."""
    model = FakeStream(answers=[" ".join(["word"] * 5000)])
    handler = limited(0.001)
    with pytest.raises(BudgetExceededError):  # noqa: PT012 - one of two statements
        if asynchronous:
            asyncio.run(read(model.astream("hi", given(handler))))
        else:
            list(model.stream("hi", given(handler)))
    (span,) = model_spans(only_trace())

    assert span.status.status_code.value == "ERROR"
    assert span.get_attribute("cost.estimated") is True
    assert span.get_attribute("stream.chunks") < 2500
    assert 0.0009 < handler.summary().total_cost_usd < 0.0015
    assert cost_summary() == handler.summary()


def test_stream_that_fits_is_not_stopped(store: str) -> None:
    """A stream within the limit runs to its end."""
    handler = limited(0.001)
    parts = list(FakeStream(answers=[" ".join(["word"] * 200)]).stream("hi", given(handler)))

    assert len(parts) > 200
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)


# --- warn, node, session, unpriced ---------------------------------------------------------------------------------


def test_warn_lets_calls_go_on(store: str) -> None:
    """`on_exceeded: warn` says so once, and refuses nothing."""
    model, handler = FakeChat(), limited(on_exceeded="warn")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        one_node(lambda state: [model.invoke(state["messages"]) for _ in range(4)]).invoke(ASK, given(handler))

    assert len(model.requests) == 4
    assert handler.summary().llm_calls == 4
    assert len([w for w in told if "budget" in str(w.message)]) == 1


def test_warn_where_warnings_are_errors(store: str) -> None:
    """`on_exceeded: warn` stops nothing there either."""
    model, handler = FakeChat(), limited(on_exceeded="warn")
    one_node(lambda state: [model.invoke(state["messages"]) for _ in range(4)]).invoke(ASK, given(handler))

    assert len(model.requests) == handler.summary().llm_calls == 4


def test_node_budget_refuses_in_its_node(store: str) -> None:
    """A budget of a node counts that node's calls alone, and its error names the node."""
    model = FakeChat()
    handler = MlflowCostHandler({"nodes": {"second": {"budget": {"max_cost_usd": 0}}}})
    with pytest.raises(BudgetExceededError) as refusal:
        twice(model).invoke(ASK, given(handler))

    assert len(model.requests) == 1
    assert refusal.value.node == "second"
    assert named(only_trace(), "second").status.status_code.value == "ERROR"


def test_scope_node_counts_each_node_apart(store: str) -> None:
    """`scope: node` gives each node the same limit of its own."""
    model, handler = FakeChat(), limited(scope="node")
    twice(model).invoke(ASK, given(handler))

    assert len(model.requests) == 2


def test_session_holds_over_invocations(store: str) -> None:
    """`scope: session` counts the invocations of a thread together, also those of another handler with that budget."""
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    session = {"configurable": {"thread_id": "test_session_holds_over_invocations"}}
    graph.invoke(ASK, given(limited(scope="session"), **session))
    with pytest.raises(BudgetExceededError) as refusal:
        graph.invoke(ASK, given(limited(scope="session"), **session))
    graph.invoke(ASK, given(limited(scope="session"), configurable={"thread_id": "another one"}))

    assert len(model.requests) == 2
    assert ("session", "session") == (refusal.value.budget, refusal.value.scope)
    assert "test_session_holds_over_invocations" not in str(refusal.value)


def test_unpriced_may_be_refused(store: str) -> None:
    """`unpriced: raise` refuses a model whose price nobody knows."""
    model = FakeChat(model=UNKNOWN)
    with pytest.raises(BudgetExceededError, match="price"):
        model.invoke("hi", given(limited(unpriced="raise")))

    assert model.requests == []


def test_failed_call_gives_its_reservation_back(store: str) -> None:
    """What was reserved for a call that failed is there for the next one."""
    model, handler = FakeChat(answers=[ConnectionError("down"), "fine"]), limited(0.0007)

    def node(state: MessagesState) -> None:
        with pytest.raises(ConnectionError):
            model.invoke(state["messages"])
        model.invoke(state["messages"])

    one_node(node).invoke(ASK, given(handler))

    assert handler.summary().llm_calls == 1
