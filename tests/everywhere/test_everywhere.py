"""`configure(everywhere=True)`: what it governs, what an explicit handler keeps, and what takes nothing away from it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from openai import OpenAI
from stored_traces import all_traces, mlflow_usd, model_spans, named, only_trace, root_of
from ways import ASK, WAYS, by_day, given, one_node, run_way

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, configure, cost_summary
from langchain_mlflow_cost.everywhere import govern_no_more

if TYPE_CHECKING:
    from langchain_mlflow_cost.demo.provider import ProviderServer

Govern: TypeAlias = Callable[..., MlflowCostHandler]

MAIL = "jane.doe@example.com"
REDACTED = {"redact_pii": True, "artifact_level": "full"}
USD = float(MINI_USD)


def priced(input_usd: float, **more: Any) -> dict[str, Any]:
    """1,000 tokens in and 500 out of gpt-4o-mini at `input_usd` and 0 per million."""
    return {"prices": {"overrides": {"gpt-4o-mini": {"input": input_usd, "output": 0}}}, **more}


def asking(model: FakeChat) -> Any:
    return one_node(lambda state: model.invoke(state["messages"]))


def ask_by_sdk(content: str = "hi") -> None:
    with OpenAI(max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": content}])


def ungoverned() -> list[str]:
    return [s.name for t in all_traces() for s in t.data.spans if s.get_attribute("policy.artifact_level") is None]


def stored_text() -> str:
    return "".join(trace.to_json() for trace in all_traces())


# --- LangChain's runs -----------------------------------------------------------------------------------------------


@pytest.mark.sampled(is_in=by_day("costs"))
@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_of_running(everywhere: Govern, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """However LangChain is run, without a callback: every span is governed, every call counted once, MLflow is quiet."""
    everywhere()
    with caplog.at_level(logging.WARNING):
        paid = run_way(way)
    sums = [cost_summary(trace.info.trace_id) for trace in all_traces()]

    assert [] == ungoverned()
    assert (paid.calls, paid.cached) == (sum(each.llm_calls for each in sums), sum(each.cached_calls for each in sums))
    if paid.usd is not None:
        assert float(paid.usd) == pytest.approx(sum(each.total_cost_usd for each in sums), rel=1e-9)
    assert [] == [
        r.getMessage() for r in caplog.records if r.name.startswith("mlflow") and "not found" in r.getMessage()
    ]


def test_an_explicit_handler_wins(everywhere: Govern) -> None:
    """An invocation with a handler of its own is that handler's alone: its prices, its policy, its sums."""
    general = everywhere({**priced(1), "artifact_level": "minimal"})
    own = MlflowCostHandler(priced(7, artifact_level="full"))
    asking(FakeChat()).invoke(ASK, given(own))
    trace = only_trace()

    assert 0 == general.summary().llm_calls
    assert pytest.approx(0.007, rel=1e-9) == own.summary().total_cost_usd == mlflow_usd(trace)
    assert {"full"} == {span.get_attribute("policy.artifact_level") for span in trace.data.spans}


def test_an_explicit_handler_wins_where_callbacks_are_lost(everywhere: Govern) -> None:
    """`generate` in a node takes no callbacks from the context, and LangChain's hook adds the general handler there."""
    general, own = everywhere(priced(1)), MlflowCostHandler(priced(7))
    model: Any = FakeChat()
    one_node(lambda _: model.generate([[HumanMessage("hi")]]).generations[0][0].message).invoke(ASK, given(own))

    assert (0, 1) == (general.summary().llm_calls, own.summary().llm_calls)
    assert pytest.approx(0.007, rel=1e-9) == mlflow_usd(only_trace())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_in_a_constructor_joins(everywhere: Govern, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It governs its model's runs beside the general one; the call is one span, counted once by each."""
    general, own = everywhere(priced(1)), MlflowCostHandler(priced(7))
    model = FakeChat(callbacks=[own])
    with caplog.at_level(logging.WARNING):
        invoke_twice(model, is_async=is_async)
    trace = only_trace()

    assert 2 == len(model_spans(trace))
    assert (2, 2) == (general.summary().llm_calls, own.summary().llm_calls)
    assert pytest.approx(0.002, rel=1e-9) == mlflow_usd(trace)
    assert [] == [r.getMessage() for r in caplog.records if "not found" in r.getMessage()]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_in_a_constructor_without_everywhere(
    store: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Below a graph that MLflow's own tracer records, the model's runs are in the graph's trace, and MLflow is quiet."""
    mlflow.langchain.autolog()
    own = MlflowCostHandler()
    with caplog.at_level(logging.WARNING):
        invoke_twice(FakeChat(callbacks=[own]), is_async=is_async)
    trace = only_trace()
    nodes = {span.span_id for span in trace.data.spans if span.name in ("one", "two")}

    assert nodes == {span.parent_id for span in model_spans(trace)}
    assert 2 == own.summary().llm_calls
    assert pytest.approx(2 * USD, rel=1e-9) == mlflow_usd(trace)
    assert [] == [r.getMessage() for r in caplog.records if "not found" in r.getMessage()]


def invoke_twice(model: FakeChat, *, is_async: bool) -> None:
    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    each: Any = anode if is_async else node
    builder: Any = StateGraph(MessagesState).add_node("one", each).add_node("two", each)
    graph = builder.add_edge(START, "one").add_edge("one", "two").compile()
    asyncio.run(graph.ainvoke(ASK)) if is_async else graph.invoke(ASK)


def test_a_handler_that_is_off_keeps_nothing_out(everywhere: Govern) -> None:
    """One with `enabled: false` does nothing, and so does not stand in the way either."""
    general = everywhere()
    asking(FakeChat()).invoke(ASK, given(MlflowCostHandler({"enabled": False})))

    assert 1 == general.summary().llm_calls
    assert [] == ungoverned()


def test_budgets_hold(everywhere: Govern) -> None:
    """A budget stops a graph that was told of no handler."""
    everywhere({"budget": {"max_cost_usd": USD * 1.5}})
    model = FakeChat()

    with pytest.raises(BudgetExceededError):
        one_node(lambda state: [model.invoke(state["messages"]) for _ in range(3)][-1]).invoke(ASK)
    assert 2 == len(model.requests)


# --- spans without a run --------------------------------------------------------------------------------------------


@mlflow.trace
def decorated(who: str) -> str:
    mlflow.update_current_trace(tags={"who": who}, request_preview=f"from {who}")
    with mlflow.start_span("inside") as span:
        span.set_inputs({"who": who})
        span.set_attribute("who", who)
    return who


def failing() -> None:
    with pytest.raises(ValueError, match=MAIL), mlflow.start_span("failing"):
        raise ValueError(MAIL)


def in_a_thread() -> None:
    thread = threading.Thread(target=decorated, args=(MAIL,))
    thread.start()
    thread.join()


def without_context() -> None:
    root = mlflow.start_span_no_context("root", inputs={"who": MAIL})
    mlflow.start_span_no_context("below", parent_span=root, inputs={"who": MAIL}).end(outputs=MAIL)
    root.end(outputs=MAIL)


def logged_whole() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        mlflow.log_trace(name="whole", request={"who": MAIL}, response=MAIL, tags={"who": MAIL})


PLAIN: dict[str, Callable[[], Any]] = {
    "decorated": lambda: decorated(MAIL),
    "in a thread": in_a_thread,
    "failing": failing,
    "without context": without_context,
    "logged whole": logged_whole,
}


@pytest.mark.parametrize("name", list(PLAIN))
def test_a_span_without_a_run_is_governed(everywhere: Govern, name: str) -> None:
    """Inputs, outputs, attributes, exceptions, tags and previews of what LangChain has no part in are redacted."""
    everywhere(REDACTED)
    PLAIN[name]()

    assert all_traces()
    assert [] == ungoverned()
    assert "jane.doe" not in stored_text()
    assert "[EMAIL_ADDRESS]" in stored_text()


@pytest.mark.parametrize("name", list(PLAIN))
def test_nothing_is_governed_without_everywhere(store: str, name: str) -> None:
    """The control: all of them are stored raw where a handler merely exists."""
    MlflowCostHandler(REDACTED)
    PLAIN[name]()

    assert "jane.doe" in stored_text()


@pytest.mark.parametrize(("level", "kept"), [("minimal", False), ("standard", True), ("full", True)])
def test_levels_hold(everywhere: Govern, level: str, kept: bool) -> None:
    """The payload of such a span is kept as that of a model or tool is."""
    everywhere({"artifact_level": level})
    decorated("somebody")
    trace = only_trace()

    assert kept is (root_of(trace).inputs is not None) is (named(trace, "inside").inputs is not None)
    assert kept is ("somebody" in str(root_of(trace).outputs))


def test_spans_that_were_open_before(everywhere: Govern) -> None:
    """What was begun before `configure` is governed as well: it is exported after it."""
    with mlflow.start_span("around") as span:
        span.set_inputs({"who": MAIL})
        with mlflow.start_span("within") as inner:
            inner.set_inputs({"who": MAIL})
            everywhere(REDACTED)
    trace = only_trace()

    assert [] == ungoverned()
    assert "jane.doe" not in trace.to_json()
    assert {"around", "within"} == {span.name for span in trace.data.spans}


@pytest.mark.parametrize("change", ["set_experiment", "reset", "autolog", "disable and enable", "autolog off and on"])
def test_a_later_set_up_loses_nothing(everywhere: Govern, change: str) -> None:
    """What the application does to MLflow after `configure` leaves all of it governed."""
    handler = everywhere(REDACTED)
    changes: dict[str, Callable[[], Any]] = {
        "set_experiment": lambda: mlflow.set_experiment("another"),
        "reset": mlflow.tracing.reset,
        "autolog": lambda: mlflow.langchain.autolog(log_traces=True),
        "disable and enable": lambda: (mlflow.tracing.disable(), mlflow.tracing.enable()),
        "autolog off and on": lambda: (mlflow.langchain.autolog(disable=True), mlflow.langchain.autolog()),
    }
    changes[change]()
    decorated(MAIL)
    one_node(lambda _: FakeChat(answers=[MAIL]).invoke(MAIL)).invoke(ASK)

    assert 2 == len(all_traces())
    assert [] == ungoverned()
    assert "jane.doe" not in stored_text()
    assert 1 == handler.summary().llm_calls


def test_a_private_graph_below_a_span_of_the_users_own(everywhere: Govern) -> None:
    """What a private node was told is gone from the spans around it and before it, too."""
    everywhere({"artifact_level": "full", "nodes": {"node": {"log_prompts": False}}})
    told = "my neighbour has a very rare disease of the liver"
    with mlflow.start_span("endpoint") as span:
        span.set_inputs({"question": told})
        with mlflow.start_span("before") as before:
            before.set_inputs({"question": told})
        one_node(lambda _: FakeChat().invoke(told)).invoke({"messages": [("user", told)]})

    assert {"endpoint", "before", "LangGraph", "node", "FakeChat"} == {span.name for span in only_trace().data.spans}
    assert "rare disease" not in stored_text()


def by_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def by_executor(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def by_map(work: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: work(), range(2)))


def by_timer(work: Callable[[], Any]) -> None:
    timer = threading.Timer(0, work)
    timer.start()
    timer.join()


@pytest.mark.parametrize("start", [by_thread, by_executor, by_map, by_timer])
def test_a_raw_thread_in_a_private_node_is_heard(everywhere: Govern, start: Callable[..., None]) -> None:
    """What a model is told in a thread that a private node starts is as private as what it is told in the node."""
    handler = everywhere({"artifact_level": "full", "nodes": {"node": {"log_prompts": False}}})
    told, said = "my neighbour has a very rare disease of the liver", "then he should see a doctor in Vienna soon"

    def node(_: MessagesState) -> Any:
        answers: list[Any] = []
        start(lambda: answers.append(FakeChat(answers=[said]).invoke(told)))
        return {"messages": [answers[0]]}

    one_node(node).invoke({"messages": [("user", told)]})
    trace = only_trace()

    assert {"node"} == {span.get_attribute("policy.node") for span in model_spans(trace)}
    assert handler.summary().llm_calls == len(model_spans(trace)) >= 1
    assert "rare disease" not in stored_text()
    assert "Vienna" not in stored_text()


def test_a_worker_of_an_executor_belongs_to_nobody(everywhere: Govern) -> None:
    """An executor that outlives an invocation serves the next one: each task is in the trace that submitted it."""
    everywhere({"nodes": {"private": {"log_prompts": False}}})
    with ThreadPoolExecutor(1) as pool:
        graph = one_node(lambda _: pool.submit(FakeChat().invoke, "hi").result())
        graph.invoke(ASK)
        graph.invoke(ASK)
        pool.submit(FakeChat().invoke, "hi").result()

    assert [1, 1, 1] == [len(model_spans(trace)) for trace in all_traces()]


def test_an_explicit_handler_below_a_span_of_the_users_own(everywhere: Govern) -> None:
    """The span around it is under both policies, and the trace's cost is that of all calls in it."""
    general = everywhere({**priced(1), "redact_pii": True})
    own = MlflowCostHandler(priced(7, artifact_level="minimal"))
    with mlflow.start_span("around") as span:
        span.set_inputs({"who": MAIL})
        asking(FakeChat()).invoke(ASK, given(own))
        FakeChat().invoke("hi")
    trace = only_trace()

    assert root_of(trace).inputs is None
    assert (1, 1) == (general.summary().llm_calls, own.summary().llm_calls)
    assert pytest.approx(0.008, rel=1e-9) == mlflow_usd(trace) == root_of(trace).get_attribute("cost.total_usd")


# --- calls of other libraries without LangChain ---------------------------------------------------------------------


@pytest.fixture
def openai_autolog(everywhere: Govern, server: ProviderServer, autologs_off: None) -> None:
    mlflow.openai.autolog()


def test_a_call_of_another_library_is_priced(everywhere: Govern, openai_autolog: None) -> None:
    """Its root span has its cost, its sums and its price's source; the summary knows it, live and stored."""
    handler = everywhere(REDACTED)
    ask_by_sdk(MAIL)
    trace = only_trace()
    root, live, stored = root_of(trace), handler.summary(), cost_summary(trace.info.trace_id)

    assert trace.info.trace_id == live.trace_id
    assert [USD] * 4 == pytest.approx(
        [
            live.total_cost_usd,
            stored.total_cost_usd,
            mlflow_usd(trace),
            root.get_attribute("cost.total_usd"),
        ],
        rel=1e-9,
    )
    assert (1, "") == (root.get_attribute("cost.llm_calls"), root.get_attribute("policy.node"))
    assert "genai-prices" in root.get_attribute("cost.price_source")
    assert "jane.doe" not in trace.to_json()


def test_spans_around_a_call_have_its_sum(everywhere: Govern, openai_autolog: None) -> None:
    """Each span with a call below it says what they cost together, and the others say nothing."""
    handler = everywhere()
    with mlflow.start_span("around"):
        with mlflow.start_span("first"):
            ask_by_sdk()
        with mlflow.start_span("second"):
            ask_by_sdk()
            asking(FakeChat()).invoke(ASK)
        with mlflow.start_span("idle"):
            pass
    trace = only_trace()
    sums = {name: named(trace, name).get_attribute("cost.total_usd") for name in ("around", "first", "second", "idle")}

    assert {"around": 3 * USD, "first": USD, "second": 2 * USD, "idle": None} == {
        name: usd and pytest.approx(usd, rel=1e-9) for name, usd in sums.items()
    }
    assert pytest.approx(3 * USD, rel=1e-9) == mlflow_usd(trace) == handler.summary().total_cost_usd


def test_a_trace_budget_counts_them(everywhere: Govern, openai_autolog: None) -> None:
    """Calls of another library in a trace use up its budget: LangChain's next call in it is refused, another trace's not."""
    everywhere({"budget": {"max_cost_usd": USD * 1.5}})
    with mlflow.start_span("around"):
        ask_by_sdk()
        ask_by_sdk()
        with pytest.raises(BudgetExceededError):
            FakeChat().invoke("hi")

    assert FakeChat().invoke("hi").text
    assert [] == ungoverned()


def test_a_session_budget_counts_them(everywhere: Govern, openai_autolog: None) -> None:
    """The session that the application gives its trace is the `thread_id` of LangGraph's runs."""
    everywhere({"budget": {"max_cost_usd": USD * 1.5, "scope": "session"}})
    for _ in range(2):
        with mlflow.start_span("around"):
            mlflow.update_current_trace(metadata={"mlflow.trace.session": "one"})
            ask_by_sdk()

    with pytest.raises(BudgetExceededError):
        asking(FakeChat()).invoke(ASK, {"configurable": {"thread_id": "one"}})
    assert asking(FakeChat()).invoke(ASK, {"configurable": {"thread_id": "two"}})


def test_an_active_run_gets_their_sum(everywhere: Govern, openai_autolog: None) -> None:
    """With an active MLflow run, what calls without LangChain cost is among its metrics, once."""
    everywhere()
    with mlflow.start_run() as run, mlflow.start_span("around"):
        ask_by_sdk()
        asking(FakeChat()).invoke(ASK)
    mlflow.flush_async_logging()

    assert pytest.approx(2 * USD, rel=1e-9) == mlflow.get_run(run.info.run_id).data.metrics["total_cost_usd"]


# --- set-up ---------------------------------------------------------------------------------------------------------


def test_a_second_policy_takes_the_place_of_the_first(everywhere: Govern) -> None:
    """What begins from then on is under the new policy alone, and its handler is the one that counts."""
    first = everywhere(priced(1, artifact_level="minimal"))
    second = everywhere(priced(7, artifact_level="full"))
    asking(FakeChat()).invoke(ASK)
    decorated("somebody")

    assert (0, 0) == (first.summary().llm_calls, second.summary().llm_calls)
    assert pytest.approx(0.007, rel=1e-9) == mlflow_usd(all_traces()[0])
    assert {"full"} == {s.get_attribute("policy.artifact_level") for t in all_traces() for s in t.data.spans}


def test_the_old_policy_goes_on_for_what_had_begun(everywhere: Govern) -> None:
    """An invocation that is under way stays under the policy that it began with."""
    first = everywhere(priced(1))

    def node(state: MessagesState) -> Any:
        everywhere(priced(7))
        return FakeChat().invoke(state["messages"])

    one_node(node).invoke(ASK)

    assert 1 == first.summary().llm_calls
    assert pytest.approx(0.001, rel=1e-9) == mlflow_usd(only_trace())


def test_configure_without_everywhere_leaves_it(everywhere: Govern) -> None:
    """A handler made for a single graph does not end what governs the process."""
    general = everywhere()
    configure({"experiment_name": "tests"})
    asking(FakeChat()).invoke(ASK)

    assert 1 == general.summary().llm_calls


def test_off_does_nothing(everywhere: Govern) -> None:
    """`enabled: false` changes nothing: not what governs already either."""
    general = everywhere()
    everywhere({"enabled": False})
    asking(FakeChat()).invoke(ASK)

    assert 1 == general.summary().llm_calls


def test_off_imports_no_mlflow() -> None:
    """In a new process it neither imports MLflow nor adds a hook to LangChain."""
    code = (
        "import sys; from langchain_mlflow_cost import configure; configure({'enabled': False}, everywhere=True);"
        "from langchain_core.tracers import context;"
        "print('mlflow' in sys.modules, [hook[2] for hook in context._configure_hooks if hook[2] is not None])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False []" == told.stdout.strip()


def test_govern_no_more(everywhere: Govern) -> None:
    """Where it is taken back, MLflow's own tracer records again, and nothing is governed."""
    everywhere(REDACTED)
    govern_no_more()
    asking(FakeChat()).invoke(ASK)
    decorated(MAIL)

    assert 2 == len(all_traces())
    assert [span.name for trace in all_traces() for span in trace.data.spans] == ungoverned()


def test_by_default_exports_in_threads(environment: None, exported_in_threads: str) -> None:
    """The same with MLflow's default, asynchronous export."""
    handler = configure({"experiment_name": "tests", **REDACTED}, everywhere=True)
    try:
        decorated(MAIL)
        asking(FakeChat(answers=[MAIL])).invoke({"messages": [("user", MAIL)]})
        asyncio.run(asking(FakeChat(answers=[MAIL])).ainvoke({"messages": [("user", MAIL)]}))
    finally:
        govern_no_more()

    assert 3 == len(all_traces())
    assert [] == ungoverned()
    assert "jane.doe" not in stored_text()
    assert cost_summary() == handler.summary()
