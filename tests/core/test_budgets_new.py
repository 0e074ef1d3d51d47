"""What a call in flight holds, tokens, users, tags, windows, fractions: budgets by the road that users take."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import mlflow
import pytest
from fake_models import MINI, SONNET, SONNET_USD, UNKNOWN, FakeChat, FakeStream
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send
from stored_traces import only_trace, root_of
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary
from langchain_mlflow_cost.budgets.answers import ANSWERS

SHORT = {"input_tokens": 100, "output_tokens": 100, "total_tokens": 200}
SHORT_SONNET_USD = 0.0018
"""100 tokens in at 3 and 100 out at 15 USD per million."""


def limited(max_cost_usd: float | None = None, *, on_budget: Any = None, **more: Any) -> MlflowCostHandler:
    limit = {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
    return MlflowCostHandler({"budget": {**limit, **more}}, on_budget=on_budget)


def ten_at_once(model: Any) -> Any:
    def plan(_: Any) -> list[Send]:
        return [Send("work", ASK) for _ in range(10)]

    graph = StateGraph(MessagesState).add_node("work", lambda state: {"messages": [model.invoke(state["messages"])]})
    return graph.add_conditional_edges(START, plan).compile()


# --- what a call in flight holds -----------------------------------------------------------------------------------


def test_a_fan_out_that_is_affordable_runs(store: str) -> None:
    """Ten parallel calls of Claude that need 0.018 USD together all run under 0.10, whatever max_tokens is."""
    all_sent = threading.Barrier(10, timeout=30)
    model = FakeChat(model=SONNET, usage=SHORT, before=all_sent.wait)
    handler = limited(0.10)
    ten_at_once(model.bind(max_tokens=64_000)).invoke(ASK, given(handler, max_concurrency=10))

    assert handler.summary().total_cost_usd == pytest.approx(10 * SHORT_SONNET_USD)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_workers_use_what_there_is(store: str, asynchronous: bool) -> None:
    """Of 8 workers of 5 calls under a limit of 4.5 calls, 5 calls are made at least, and 12 at most."""
    started = threading.Barrier(8, timeout=30)
    model, handler = FakeChat(), limited(4.5 * 0.00045)

    def work(_: MessagesState) -> None:
        started.wait()
        for _n in range(5):
            model.invoke("hi")

    async def work_async(_: MessagesState) -> None:
        for _n in range(5):
            await model.ainvoke("hi")
            await asyncio.sleep(0)

    graph: Any = StateGraph(MessagesState)
    for number in range(8):
        graph.add_node(f"worker {number}", work_async if asynchronous else work).add_edge(START, f"worker {number}")
    with pytest.raises(BudgetExceededError):  # noqa: PT012 - one of two statements
        if asynchronous:
            asyncio.run(graph.compile().ainvoke(ASK, given(handler)))
        else:
            graph.compile().invoke(ASK, given(handler, max_concurrency=8))

    assert 5 <= len(model.requests) <= 12


def test_a_batch_is_not_refused_for_what_it_might_cost(store: str) -> None:
    """`generate` of 40 prompts, all started before the first is answered, runs where 40 answers are affordable."""
    model, handler = FakeChat(usage=SHORT), limited(0.004)
    one_node(lambda _: model.generate([[HumanMessage("hi")]] * 40)).invoke(ASK, given(handler))

    assert len(model.requests) == 40


def test_what_is_expected_is_what_was_answered(store: str) -> None:
    """Once a node has answered with 500 tokens, a call in flight holds 0.0003 USD: two of three fit in 0.0004."""
    both_sent = threading.Barrier(2, timeout=30)
    model, handler = FakeChat(), limited(0.00045 + 0.0004)

    def node(_: Any) -> None:
        model.invoke("hi")
        model.before = both_sent.wait
        outcomes.extend(type(each).__name__ for each in model.batch(["a", "b", "c"], return_exceptions=True))

    outcomes: list[str] = []
    one_node(node).invoke(ASK, given(handler))

    assert ["AIMessage", "AIMessage", "BudgetExceededError"] == sorted(outcomes)
    assert Decimal(500) == getattr(ANSWERS.expected("node", MINI), "tokens", None)


# --- the worst case ------------------------------------------------------------------------------------------------


def test_the_worst_case_is_never_passed(store: str) -> None:
    """With `reserve: worst_case` calls at once stay within the limit: two of 1,000 tokens fit, 0.0006 USD each."""
    both_sent = threading.Barrier(2, timeout=30)
    model = FakeChat(usage={"input_tokens": 5, "output_tokens": 1000, "total_tokens": 1005}, before=both_sent.wait)
    handler = limited(0.0017, reserve="worst_case")
    with pytest.raises(BudgetExceededError, match="reserved at its most") as caught:
        ten_at_once(model.bind(max_tokens=1000)).invoke(ASK, given(handler, max_concurrency=10))

    assert len(model.requests) == 2
    assert handler.summary().total_cost_usd <= 0.0017
    assert "a lower max_tokens would fit" in caught.value.reason


@pytest.mark.parametrize(
    ("model", "prompt", "bound", "reason"),
    [
        pytest.param(UNKNOWN, "hi", {"max_tokens": 10}, "no price", id="no price"),
        pytest.param(
            MINI,
            [HumanMessage([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])],
            {"max_tokens": 10},
            "nothing bounds",
            id="an image",
        ),
        pytest.param(MINI, "hi", {}, "reserved at its most, 0.0099", id="the model's own maximum"),
    ],
)
def test_the_worst_case_knows_what_it_does_not(
    store: str, model: str, prompt: Any, bound: dict[str, Any], reason: str
) -> None:
    """Calls without a price or a bound are refused; without max_tokens, the model's documented maximum holds."""
    fake = FakeChat(model=model)
    with pytest.raises(BudgetExceededError, match=reason):
        fake.bind(**bound).invoke(prompt, given(limited(0.005, reserve="worst_case")))

    assert fake.requests == []


# --- cancelled -----------------------------------------------------------------------------------------------------


def test_cancelled_calls_give_back(store: str) -> None:
    """34 calls that were cancelled at once hold nothing any more: the next one is made."""

    async def hang() -> None:
        await asyncio.sleep(3600)

    async def node(_: Any) -> None:
        async with asyncio.timeout(30):
            tasks = [asyncio.create_task(slow.ainvoke("hi")) for _ in range(34)]
            await asyncio.sleep(0.3)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.ainvoke("hi"), 0.01)
        await quick.ainvoke("hi")

    slow, quick = FakeChat(before_async=hang), FakeChat()
    handler = limited(0.003)
    graph: Any = StateGraph(MessagesState)
    graph = graph.add_node("node", node).add_edge(START, "node").compile()
    asyncio.run(graph.ainvoke(ASK, given(handler)))

    assert len(quick.requests) == 1


# --- tokens --------------------------------------------------------------------------------------------------------


def test_tokens_are_limited(store: str) -> None:
    """`max_total_tokens` counts prompt and answer, also of a model without a price; the error tells both figures."""
    model, handler = FakeChat(model=UNKNOWN), limited(max_total_tokens=3000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BudgetExceededError) as caught:
            one_node(lambda _: [model.invoke("hi") for _ in range(5)]).invoke(ASK, given(handler))

    error = caught.value
    assert len(model.requests) == 2
    assert (None, 3000, 3000, "node") == (error.limit_usd, error.limit_tokens, error.spent_tokens, error.node)
    assert "limit 3,000 tokens, used 3,000" in str(error)


def test_cached_answers_use_no_tokens(store: str) -> None:
    """An answer from LangChain's cache counts 0 tokens and 0 USD."""
    model, handler = FakeChat(cache=InMemoryCache()), limited(max_total_tokens=1600)
    one_node(lambda _: [model.invoke("hi") for _ in range(5)]).invoke(ASK, given(handler))

    assert (1, 5) == (len(model.requests), handler.summary().llm_calls)


def test_a_stream_is_stopped_at_its_tokens(store: str) -> None:
    """A stream that uses more than the limit is stopped."""
    with pytest.raises(BudgetExceededError, match="a stream was stopped"):
        list(FakeStream(answers=["word " * 5000], usage=None).stream("hi", given(limited(max_total_tokens=300))))


# --- users and tags ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "one", "other"),
    [
        ("user", {"user_id": "u1"}, {"user_id": "u2"}),
        ("user", {"user_id": 7}, {"user_id": 8}),
        ("user", {"langgraph_auth_user_id": "u3"}, {"langgraph_auth_user_id": "u4"}),
        ("user", {"mlflow.trace.user": "u5"}, {"mlflow.trace.user": "u6"}),
        ("user", {"user_id": "u7", "langgraph_auth_user_id": "x"}, {"user_id": "u8", "langgraph_auth_user_id": "x"}),
        ("tag:team", {"team": "t1"}, {"team": "t2"}),
    ],
)
def test_each_user_has_a_sum(store: str, scope: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    """A sum belongs to its user or tag over traces and handlers; another's is another; no id is told."""
    model = FakeChat()
    graph = one_node(lambda state: model.invoke(state["messages"]))
    graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata=one))
    with pytest.raises(BudgetExceededError) as caught:
        graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata=one))
    graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata=other))

    assert len(model.requests) == 2
    assert (scope, scope) == (caught.value.scope, caught.value.budget)
    assert not [value for value in one.values() if str(value) in str(caught.value).replace("0.0004", "")]


@pytest.mark.parametrize("scope", ["user", "tag:team"])
def test_an_empty_name_is_none(store: str, scope: str) -> None:
    """`None` and an empty text name nobody: what the run around it names counts, else the trace; never one sum for all."""
    key = "user_id" if scope == "user" else "team"
    model = FakeChat()

    def node(state: Any) -> None:
        model.invoke(state["messages"], {"metadata": {key: None if len(model.requests) else ""}})

    graph = one_node(node)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Once a process; the test below is of it.
        for empty in ("", None, ""):
            graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata={key: empty}))
    nobody = len(model.requests)
    graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata={key: f"around {scope}"}))
    with pytest.raises(BudgetExceededError) as refusal:
        graph.invoke(ASK, given(limited(0.0004, scope=scope), metadata={key: f"around {scope}"}))

    assert (3, 4, scope) == (nobody, len(model.requests), refusal.value.budget)


def test_the_traces_own_user(store: str) -> None:
    """Without one in the run's metadata, the user of MLflow's trace counts."""
    model = FakeChat()

    def node(state: Any) -> None:
        mlflow.update_current_trace(metadata={"mlflow.trace.user": "u9"})
        model.invoke(state["messages"])

    one_node(node).invoke(ASK, given(limited(0.0004, scope="user")))
    with pytest.raises(BudgetExceededError):
        one_node(node).invoke(ASK, given(limited(0.0004, scope="user")))


def test_without_a_user_the_trace_is_limited(store: str) -> None:
    """A run that names no user has a sum of its own, and one warning says so."""
    model, handler = FakeChat(), limited(0.0004, scope="tag:nobody")
    graph = one_node(lambda state: [model.invoke(state["messages"]) for _ in range(2)])
    with pytest.warns(UserWarning, match="a run without nobody in its metadata") as caught:  # noqa: PT031 - one for all
        for _ in range(2):
            with pytest.raises(BudgetExceededError) as refusal:
                graph.invoke(ASK, given(handler))

    assert (2, 1, "trace") == (len(model.requests), len(caught), refusal.value.budget)


# --- fractions and the callback ------------------------------------------------------------------------------------


def test_fractions_are_told_once(store: str) -> None:
    """`warn_at` gives one warning and one event for each fraction, and a refusal an event, in order."""
    seen: list[Any] = []
    model, handler = FakeChat(), limited(0.0018, warn_at=[0.5, 0.8], on_budget=seen.append)
    graph = one_node(lambda _: [model.invoke("hi") for _ in range(9)])
    with (
        pytest.warns(UserWarning, match=r"budget of trace: \d+ % of 0.0018 USD reached") as caught,
        pytest.raises(BudgetExceededError),
    ):
        graph.invoke(ASK, given(handler))

    assert len(caught) == 2
    assert [(0.5, False), (0.8, False), (1.0, True)] == [(each.fraction, each.refused) for each in seen]
    assert [("trace", Decimal("0.0009"), "USD", "node")] == [
        (each.budget, each.sum, each.unit, each.node) for each in seen[:1]
    ]


def test_amounts_have_no_zeros_at_their_end(store: str) -> None:
    """What a program prints of a refusal and of an event reads as an amount: 0.0036, not 0.003600 or 0E-6."""
    events: list[Any] = []
    handler = limited(0.003, warn_at=[0.5], on_budget=events.append)
    model = FakeChat(model=SONNET, usage=SHORT)
    with pytest.warns(UserWarning, match="50 %"), pytest.raises(BudgetExceededError) as refusal:
        one_node(lambda state: {"messages": [model.invoke("hi") for _ in range(3)]}).invoke(ASK, given(handler))

    assert [str(refusal.value.spent_usd), str(refusal.value.reserved_usd)] == ["0.0036", "0"]
    assert [(str(each.sum), str(each.reserved)) for each in events] == [("0.0018", "0"), ("0.0036", "0")]


def test_a_callback_that_fails_stops_nothing(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """What `on_budget` raises is logged, once a cause."""

    def fail(_: Any) -> None:
        raise ValueError("secret")

    model, handler = FakeChat(), limited(0.0018, warn_at=[0.1, 0.2], on_budget=fail)
    with pytest.warns(UserWarning, match="reached"):
        one_node(lambda _: [model.invoke("hi") for _ in range(3)]).invoke(ASK, given(handler))

    assert 1 == sum("on_budget failed (ValueError)" in message for message in caplog.messages)
    assert "secret" not in caplog.text


# --- threads of the user's own -------------------------------------------------------------------------------------


def test_threads_with_their_context_are_in_the_budget(store: str) -> None:
    """Calls of a raw pool that are run in a copied context are in the node's trace, sums and budget."""
    model, handler = FakeChat(), limited(0.0009)

    def node(_: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            for _ in range(5):
                pool.submit(contextvars.copy_context().run, model.invoke, "hi").result()

    with pytest.raises(BudgetExceededError) as caught:
        one_node(node).invoke(ASK, given(handler))

    assert (2, 2, "node") == (len(model.requests), handler.summary().llm_calls, caught.value.node)
    assert "trace" == root_of(only_trace()).get_attribute("cost.stopped_by")
    assert cost_summary() == handler.summary()


# --- the log -------------------------------------------------------------------------------------------------------


def test_langchains_log_of_the_error_has_no_id(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """LangChain logs what a callback raises: no thread's, user's or model's name is in it."""
    model = FakeChat(model=UNKNOWN)
    handler = MlflowCostHandler(
        {"budget": [{"max_cost_usd": 1, "scope": "session", "unpriced": "raise"}, {"max_cost_usd": 1, "scope": "user"}]}
    )
    who = {"configurable": {"thread_id": "jane-7"}, "metadata": {"user_id": "jane@example.com"}}
    with pytest.raises(BudgetExceededError):
        one_node(lambda _: model.invoke("hi")).invoke(ASK, given(handler, **who))

    assert "BudgetExceededError" in caplog.text
    assert not [word for word in ("jane", UNKNOWN) if word in caplog.text]


def test_what_calls_cost(store: str) -> None:
    """The figures that the tests above build on."""
    handler = MlflowCostHandler()
    FakeChat(model=SONNET, usage=SHORT).invoke("hi", given(handler))
    FakeChat(model=SONNET).invoke("hi", given(handler))

    assert handler.summary().total_cost_usd == pytest.approx(float(SONNET_USD))
