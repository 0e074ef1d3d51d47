"""Budgets where several ways of running meet: subgraphs with fallbacks and retries, batches, streams that are left."""

from __future__ import annotations

import asyncio
import contextvars
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fake_models import MINI_USD, SONNET, FakeChat, FakeStream
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler
from langchain_mlflow_cost.budgets.answers import ANSWERS

ONE = float(MINI_USD)
RESERVES = ["expected", "worst_case"]


@pytest.fixture(autouse=True)
def nothing_is_expected() -> None:
    ANSWERS.clear()


def limited(usd: float, reserve: str, **more: Any) -> MlflowCostHandler:
    return MlflowCostHandler({"budget": {"max_cost_usd": usd, "reserve": reserve, **more}})


def within(inner: Any, **more: Any) -> Any:
    """A node whose subgraph is one node."""
    below = StateGraph(MessagesState).add_node("inner", inner, **more).add_edge(START, "inner").compile()
    return StateGraph(MessagesState).add_node("team", below).add_edge(START, "team").compile()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("reserve", RESERVES)
def test_a_fallback_in_a_subgraph(store: str, reserve: str, asynchronous: bool) -> None:
    """What failed gives back what it held, what stood in for it counts, and the calls go on to the limit."""
    broken = FakeChat(answers=[ConnectionError("down")] * 9).bind(max_tokens=500)
    spare = FakeChat()
    model = broken.with_fallbacks([spare.bind(max_tokens=500)])

    def inner(_: MessagesState) -> Any:
        for _number in range(9):
            model.invoke("hi")
        return {"messages": []}

    async def inner_async(_: MessagesState) -> Any:
        for _number in range(9):
            await model.ainvoke("hi")
        return {"messages": []}

    handler = limited(3 * ONE + 1e-4, reserve)
    graph = within(inner_async if asynchronous else inner)
    with pytest.raises(BudgetExceededError):
        asyncio.run(graph.ainvoke(ASK, given(handler))) if asynchronous else graph.invoke(ASK, given(handler))

    # Four fit by what is expected (the fourth passes the limit), three where the worst is held: 0.0003 USD of answer.
    assert len(spare.requests) == (4 if reserve == "expected" else 3)
    assert handler.summary().total_cost_usd == pytest.approx(len(spare.requests) * ONE)
    assert handler.summary().stopped_by == "trace"


@pytest.mark.parametrize("reserve", RESERVES)
def test_retries_of_a_node_in_a_subgraph(store: str, reserve: str) -> None:
    """Each try counts what it called; the refusal is no error to try again for."""
    model = FakeChat()

    def inner(_: MessagesState) -> Any:
        model.bind(max_tokens=500).invoke("hi")
        raise ConnectionError("after the call")

    policy = RetryPolicy(max_attempts=9, initial_interval=0, jitter=False, retry_on=ConnectionError)
    handler = limited(2 * ONE + 1e-4, reserve)
    with pytest.raises(BudgetExceededError):
        within(inner, retry_policy=policy).invoke(ASK, given(handler))

    assert len(model.requests) == (3 if reserve == "expected" else 2)
    assert handler.summary().total_cost_usd == pytest.approx(len(model.requests) * ONE)


def test_a_generate_that_is_refused_leaves_nothing_reserved(store: str) -> None:
    """40 prompts at once, of which the worst does not fit: none is sent, and the session has all that it had."""
    model = FakeChat()
    handler = limited(10 * ONE, "worst_case", scope="session")
    prompts: list[Any] = [[HumanMessage("hi")] for _ in range(40)]
    config = given(handler, configurable={"thread_id": "generate-40"})
    with pytest.raises(BudgetExceededError):
        one_node(lambda _: model.generate(prompts, callbacks=[handler], max_tokens=500)).invoke(ASK, config)

    assert model.requests == []
    one_node(lambda _: [model.bind(max_tokens=500).invoke("hi") for _ in range(5)]).invoke(ASK, config)
    assert len(model.requests) == 5


def test_a_batch_at_the_worst_never_passes(store: str) -> None:
    """A batch of 40 in threads, each call with its most: as many as fit are made, and no more."""
    model = FakeChat()
    handler = limited(10 * ONE, "worst_case")
    with pytest.raises(BudgetExceededError):
        one_node(lambda _: model.bind(max_tokens=500).batch(["hi"] * 40, {"max_concurrency": 8})).invoke(
            ASK, given(handler)
        )

    assert 1 <= len(model.requests) <= 10
    assert handler.summary().total_cost_usd <= 10 * ONE + 1e-12


@pytest.mark.parametrize("reserve", RESERVES)
def test_a_stream_that_is_left_holds_nothing(store: str, reserve: str) -> None:
    """Closed half-way, in a session: what it said counts, and what it held is free for the next."""
    model = FakeStream(answers=["word " * 60], usage=None)
    handler = limited(0.0005, reserve, scope="session")
    config = given(handler, configurable={"thread_id": f"left-{reserve}"})

    def leave(_: MessagesState) -> None:
        stream: Any = model.bind(max_tokens=500).stream("hi")
        for _number in range(30):
            next(stream)
        stream.close()

    for _ in range(3):
        one_node(leave).invoke(ASK, config)
    assert len(model.requests) == 3


def test_a_pool_in_a_fan_out(store: str) -> None:
    """Threads of a pool that carry the context, in three branches at once, each with its node's budget."""
    model = FakeChat(model=SONNET)

    def plan(_: Any) -> list[Send]:
        return [Send("work", ASK) for _ in range(3)]

    def work(_: MessagesState) -> Any:
        with ThreadPoolExecutor(4) as pool:
            made = [pool.submit(contextvars.copy_context().run, model.invoke, "hi") for _ in range(4)]
            errors = [each.exception() for each in made]
        if any(errors):
            raise next(error for error in errors if error is not None)
        return {"messages": []}

    started: Any = work
    graph = StateGraph(MessagesState).add_node("work", started).add_conditional_edges(START, plan).compile()
    # A call costs 0.0105: seven reach 0.07, and at most the twelve that run at once are made.
    handler = MlflowCostHandler({"nodes": {"work": {"budget": {"max_cost_usd": 0.07}}}})
    with pytest.raises(BudgetExceededError) as caught:
        graph.invoke(ASK, given(handler))

    assert caught.value.node == "work"
    assert 7 <= len(model.requests) <= 12
    assert handler.summary().total_cost_usd == pytest.approx(len(model.requests) * 0.0105)


def test_the_example_of_the_page(store: str) -> None:
    """The `try: ... except` of docs/budgets.md, run as it stands: every field is there and says what the page says."""
    page = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text(encoding="utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "except Budget" in code)
    kept = example.replace("as refusal:\n", "as refusal:\n    caught.append(refusal)\n")
    model, caught = FakeChat(), list[BudgetExceededError]()
    budget = {"max_cost_usd": 2 * ONE, "max_total_tokens": 10**6, "scope": "user", "per": "month"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A restart would forget.
        handler = MlflowCostHandler({"budget": budget})

    def writer(_: MessagesState) -> Any:
        for _number in range(3):
            model.invoke("hi")
        return {"messages": []}

    started: Any = writer
    below = StateGraph(MessagesState).add_node("writer", started).add_edge(START, "writer").compile()
    graph = StateGraph(MessagesState).add_node("team", below).add_edge(START, "team").compile()
    exec(
        kept, {"graph": graph, "question": ASK, "config": given(handler, metadata={"user_id": "ann"}), "caught": caught}
    )
    (refusal,) = caught

    assert (refusal.limit_usd, refusal.spent_usd, refusal.reserved_usd) == (2 * MINI_USD, 2 * MINI_USD, Decimal(0))
    assert (refusal.limit_tokens, refusal.spent_tokens, refusal.reserved_tokens) == (10**6, 3000, 0)
    for said in (refusal.scope, refusal.per, refusal.node):
        assert f'"{said}"' in example
    for said in (refusal.budget, refusal.reason):
        assert f"'{said}'" in example
    assert len(model.requests) == 2
