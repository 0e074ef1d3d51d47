"""Invocations that hear of no end: they draw nothing in, cost little, are let go, and go on rightly if they do go on."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, root_of
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary, limits
from langchain_mlflow_cost.budgets.local import Budgets
from langchain_mlflow_cost.tracing.choosing import choose_recorder
from langchain_mlflow_cost.tracing.handler_state import HandlerState
from langchain_mlflow_cost.tracing.null_recorder import NullRecorder
from langchain_mlflow_cost.tracing.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.callbacks import CallbackManagerForChainRun

    from langchain_mlflow_cost.pricing.ledger import Call

    Shrink = Callable[..., object]


@pytest.fixture
def handler(store: str) -> MlflowCostHandler:
    return MlflowCostHandler()


@pytest.fixture(autouse=True)
def ended_by_hand(nothing_left: None) -> Iterator[None]:
    """What a test leaves open on purpose ends after it, the last one first, so that no span stays active."""
    yield
    _end_all()


def _end_all() -> None:
    for run in reversed(RUNS.open_runs()):
        choose_recorder().end(run, error=GeneratorExit())


@pytest.fixture
def shrink() -> Iterator[Shrink]:
    """Put smaller limits in force until the test ends."""
    with ExitStack() as stack:
        yield lambda **numbers: stack.enter_context(limits.replaced(**numbers))


class Kept:
    """Something of the application's, to see whether it is kept alive."""


def starting(handler: MlflowCostHandler, text: str = "what is new?") -> Iterator[CallbackManagerForChainRun]:
    """Start an invocation by hand, with a model's call in it; nobody can say whether a generator goes on."""
    question: list[BaseMessage] = [HumanMessage(text)]
    manager = CallbackManager.configure(inheritable_callbacks=[handler])
    run = manager.on_chain_start({"name": "lost"}, {"messages": question}, run_id=uuid.uuid4())
    run.get_child().on_chat_model_start({"name": "lost"}, [question])
    yield run


def begun(handler: MlflowCostHandler, text: str = "what is new?") -> CallbackManagerForChainRun:
    return next(iter(starting(handler, text)))


def returned(handler: MlflowCostHandler) -> CallbackManagerForChainRun:
    """The same in a function, which has returned when the next begins."""
    manager = CallbackManager.configure(inheritable_callbacks=[handler])
    run = manager.on_chain_start({"name": "lost"}, {}, run_id=uuid.uuid4())
    run.get_child().on_chat_model_start({"name": "lost"}, [[HumanMessage("hi")]])
    return run


def starting_below(run: CallbackManagerForChainRun) -> Iterator[None]:
    """Start a model's call in a generator."""
    run.get_child().on_chat_model_start({"name": "lost"}, [[HumanMessage("hi")]])
    yield


def invoked(handler: MlflowCostHandler) -> None:
    model = FakeChat()
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))


def open_roots() -> list[str]:
    return [run.name for run in RUNS.open_runs() if run.parent is None]


# --- what comes after one ------------------------------------------------------------------------------------------


def ainvoked(handler: MlflowCostHandler) -> None:
    async def node(state: MessagesState) -> Any:
        return {"messages": [await FakeChat().ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    asyncio.run(graph.ainvoke(ASK, given(handler)))


@pytest.mark.parametrize("invoke", [invoked, ainvoked], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize("start", [begun, returned], ids=["generator", "function"])
def test_next_invocation_is_not_inside_a_lost_one(handler: MlflowCostHandler, start: Any, invoke: Any) -> None:
    """A start whose code is over without an end is not around what the thread does next."""
    start(handler)
    invoke(handler)
    start(handler)
    invoke(handler)
    traces = [trace for trace in all_traces() if root_of(trace).name == "LangGraph"]

    assert [1, 1] == [cost_summary(trace.info.trace_id).llm_calls for trace in traces]
    assert ["lost", "lost"] == open_roots()


# --- what is let go ------------------------------------------------------------------------------------------------


def test_longest_idle_is_let_go(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """Beyond the limit the invocation goes that was idle for longest, not the one that began first."""
    shrink(open_roots=3)
    busy = begun(handler)
    others = []
    for _ in range(6):
        others.append(begun(handler))
        busy.get_child().on_chat_model_start({"name": "again"}, [[HumanMessage("hi")]])

    assert RUNS.get(busy.run_id) is not None
    assert [False] * 4 + [True] * 2 == [other.run_id in RUNS for other in others]


def test_lost_trace_is_stored(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """What is let go is stored as far as it got."""
    shrink(open_roots=1)
    begun(handler)
    begun(handler)
    (trace,) = all_traces()

    assert ["lost", "lost"] == [span.name for span in trace.data.spans]


def test_call_in_flight_is_counted(store: str, shrink: Shrink) -> None:
    """A model's call in an invocation that is let go may answer yet: it is counted at an estimate, once."""
    shrink(open_roots=1)
    told: list[Call] = []
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 1}}, on_cost=told.append)
    waiting = returned(handler)
    (call,) = waiting.get_child().on_chat_model_start(
        {"name": "slow"}, [[HumanMessage("hi")]], invocation_params={"model": "gpt-4o-mini"}
    )
    begun(handler)
    call.on_llm_end(LLMResult(generations=[[ChatGeneration(message=AIMessage("late"))]]))

    assert [(each.estimated, each.output_tokens) for each in told if each.model == "gpt-4o-mini"] == [(True, 0)]


def test_lost_sums_become_metrics(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """The sums of an invocation that is let go are logged to the MLflow run that was active when it began."""
    shrink(open_roots=1)
    with mlflow.start_run() as active:
        lost = begun(handler)
        FakeChat().invoke("hi", {"callbacks": lost.get_child()})
    begun(handler)
    mlflow.flush_async_logging()
    metrics = mlflow.get_run(active.info.run_id).data.metrics

    assert float(MINI_USD) == pytest.approx(metrics["total_cost_usd"], rel=1e-9)


def test_runs_left_over_end_with_their_root(handler: MlflowCostHandler) -> None:
    """A tool that hears of no end outlives its chain, and no longer than its invocation."""
    manager = CallbackManager.configure(inheritable_callbacks=[handler])
    root = manager.on_chain_start({"name": "root"}, {}, run_id=uuid.uuid4())
    chain = root.get_child().on_chain_start({"name": "chain"}, {}, run_id=uuid.uuid4())
    chain.get_child().on_tool_start({"name": "tool"}, "{}")
    chain.on_chain_end({})
    left = [run.name for run in RUNS.open_runs()]
    root.on_chain_end({})

    assert ["root", "tool"] == left
    assert RUNS.open_runs() == []


def test_no_budget_is_passed_by(store: str, shrink: Shrink) -> None:
    """With three times as many invocations open as are recorded at once, each budget refuses the call that it must."""
    shrink(open_roots=20)
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 1.5 * float(MINI_USD)}})
    lost = [returned_root(handler) for _ in range(60)]
    refused = 0
    for _ in range(3):
        for run in lost:
            try:
                FakeChat().invoke("hi", {"callbacks": run.get_child()})
            except BudgetExceededError:
                refused += 1

    assert refused == 60


def test_no_private_text_leaves(store: str, shrink: Shrink) -> None:
    """What a private node is told below a root that is recorded no longer is in no span."""
    shrink(open_roots=20)
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}})
    private = "the patient in room seven is allergic to penicillin"
    lost = [returned_root(handler) for _ in range(60)]
    for run in lost:
        manager = CallbackManager.configure(
            inheritable_callbacks=run.get_child(), inheritable_metadata={"langgraph_node": "quiet"}
        )
        FakeChat().invoke(private, {"callbacks": manager})
    for run in lost:
        FakeChat().invoke(f"quoting: {private}", {"callbacks": run.get_child()})
    _end_all()
    written = "".join(trace.to_json() for trace in all_traces())

    assert 60 * 2 == handler_calls(handler)
    assert private not in written


def returned_root(handler: MlflowCostHandler) -> CallbackManagerForChainRun:
    """An invocation that was begun by hand, and stays open."""
    manager = CallbackManager.configure(inheritable_callbacks=[handler])
    return manager.on_chain_start({"name": "lost"}, {}, run_id=uuid.uuid4())


def handler_calls(handler: MlflowCostHandler) -> int:
    """The calls of all invocations of a handler."""
    state = handler._state
    assert state is not None
    return sum(trace.ledger_of(state).summary("").llm_calls for trace in state.traces())


# --- what is kept of one -------------------------------------------------------------------------------------------


def test_idle_invocation_rests(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """An invocation that others were active after keeps no copies of payloads, and no stack that has returned."""
    shrink(remembered_traces=1)

    manager = CallbackManager.configure(inheritable_callbacks=[handler])

    def application() -> weakref.ref[Kept]:
        kept = Kept()
        run = manager.on_chain_start({"name": "lost"}, {"text": "what is new?"}, run_id=uuid.uuid4())
        next(iter(starting_below(run)))
        return weakref.ref(kept)

    kept = application()
    (run,) = (run for run in RUNS.open_runs() if run.parent is None)
    remembered = run.trace.remembered_chars
    begun(handler)
    gc.collect()

    assert remembered > 0
    assert run.trace.remembered_chars == 0
    assert run.is_open
    assert kept() is None


def test_payloads_are_bounded_in_sum(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """What all open invocations remember of payloads is bounded, however few they are."""
    shrink(remembered_chars=50_000, remembered_traces=50_000)
    for number in range(20):
        begun(handler, f"{number} " * 4_000)
    remembered = sum(run.trace.remembered_chars for run in RUNS.open_runs() if run.parent is None)

    assert 0 < remembered < 80_000


def test_running_function_is_left_alone(handler: MlflowCostHandler, shrink: Shrink) -> None:
    """An invocation that rests while its function runs keeps the place where it began: it is around what that does."""
    shrink(remembered_traces=1)
    root = RUNS.get(begun(handler).run_id)
    assert root is not None
    root.place.mark()
    other = threading.Thread(target=begun, args=(handler,))
    other.start()
    other.join()

    assert root.trace.remembered_chars == 0
    assert not root.place.has_left()


# --- if it does go on ----------------------------------------------------------------------------------------------


SECRET = "sk-proj-" + "Zq7" * 16


def many_steps(handler: MlflowCostHandler, invocations: int, steps: int) -> None:
    """Run so many invocations at once, in turns, step by step."""

    async def turn() -> None:
        await asyncio.sleep(0)

    model = FakeChat(before_async=turn)

    async def node(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke([*state["messages"], HumanMessage(f"my key is {SECRET}")])]}

    graph = StateGraph(MessagesState)
    for number in range(steps):
        graph.add_node(f"step {number}", node)
        graph.add_edge(f"step {number - 1}" if number else START, f"step {number}")
    compiled = graph.compile()

    async def main() -> None:
        await asyncio.gather(*(compiled.ainvoke(ASK, given(handler)) for _ in range(invocations)))

    asyncio.run(main())


def test_many_at_once_are_exact(store: str, shrink: Shrink) -> None:
    """With many more invocations under way than stay warm, each has its own trace, exact sums, and no secret."""
    shrink(remembered_chars=1)
    handler = MlflowCostHandler({"artifact_level": "full", "budget": {"max_cost_usd": float(3 * MINI_USD) + 0.001}})
    many_steps(handler, invocations=25, steps=3)
    traces = all_traces()

    assert [float(3 * MINI_USD)] * 25 == pytest.approx(
        [cost_summary(trace.info.trace_id).total_cost_usd for trace in traces], rel=1e-9
    )
    assert all(SECRET not in trace.to_json() for trace in traces)
    assert all("[SECRET]" in trace.to_json() for trace in traces)


@pytest.mark.parametrize("is_async", [False, True], ids=["batch", "abatch"])
def test_a_large_batch_is_whole(store: str, shrink: Shrink, is_async: bool) -> None:
    """A batch tells of all its starts before the first call: none of its invocations is taken for a lost one."""
    shrink(remembered_traces=2)
    handler = MlflowCostHandler()
    chain = ChatPromptTemplate.from_template("{x}") | FakeChat()
    asked = [{"x": str(number)} for number in range(12)]
    if is_async:
        asyncio.run(chain.abatch(asked, given(handler)))
    else:
        chain.batch(asked, given(handler))
    traces = [trace for trace in all_traces() if root_of(trace).name == "RunnableSequence"]

    assert [1] * 12 == [cost_summary(trace.info.trace_id).llm_calls for trace in traces]


def test_private_text_stays_private_at_rest(store: str, shrink: Shrink) -> None:
    """What a private node was told before its invocation rested is in no span that is written afterwards."""
    shrink(remembered_traces=1)
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}})
    private = "the patient in room seven is allergic to penicillin"
    model = FakeChat()

    def quiet(_: MessagesState) -> Any:
        model.invoke(private)
        return {"messages": []}

    def loud(state: MessagesState) -> Any:
        return {"messages": [model.invoke([*state["messages"], HumanMessage(f"quoting: {private}")])]}

    graph = StateGraph(MessagesState).add_node("quiet", quiet).add_node("loud", loud)
    stream = graph.add_edge(START, "quiet").add_edge("quiet", "loud").compile().stream(ASK, given(handler))
    next(stream)
    others = MlflowCostHandler()
    for _ in range(3):
        invoked(others)
        begun(others)
    list(stream)
    _end_all()
    written = "".join(trace.to_json() for trace in all_traces())

    assert "quoting" in written
    assert private not in written


def test_a_second_handler_counts_without_tracing(store: str) -> None:
    """Where MLflow is not as expected, a run that two handlers are told of is governed by both, too."""
    policy = MlflowCostHandler({"enabled": False}).policy
    first, second = (HandlerState(None, policy, policy.price_book(), Budgets([])) for _ in range(2))
    recorder = NullRecorder("it is a test")
    told: dict[str, Any] = {
        "run_id": uuid.uuid4(), "parent_run_id": None, "kind": "root", "span_type": "CHAIN", "name": "x", "metadata": {},
        "tags": None,
    }  # fmt: skip
    run = recorder.begin(first, **told)
    again = recorder.begin(second, **told)
    assert run is not None
    handlers = run.handlers
    recorder.end(run, error=None)

    assert again is None
    assert (first, second) == handlers
