"""Several handlers at once: each policy governs the invocations of its own handler and no other."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, State, graph
from langchain_core.messages import HumanMessage
from leaks import kept, prose, spelling_in
from sampling import in_turn

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from leaks import Sinks

MINIMAL: dict[str, Any] = {"artifact_level": "minimal"}
FULL: dict[str, Any] = {"artifact_level": "full"}
PRIVATE: dict[str, Any] = {"artifact_level": "full", "nodes": {"ask": {"log_prompts": False}}}


@mlflow.trace
def helper(text: str) -> str:
    return text


def asking(text: str) -> Any:
    def ask(_: State) -> State:
        helper(text)
        return {"messages": [Chat(reply=text).invoke(text)]}

    return graph(("ask", ask))


def run(text: str, handler: MlflowCostHandler) -> None:
    asking(text).invoke({"messages": [HumanMessage(text)]}, {"callbacks": [handler]})


async def arun(text: str, handler: MlflowCostHandler) -> None:
    async def ask(_: State) -> State:
        helper(text)
        await asyncio.sleep(0)
        return {"messages": [await Chat(reply=text).ainvoke(text)]}

    await graph(("ask", ask)).ainvoke({"messages": [HumanMessage(text)]}, {"callbacks": [handler]})


def in_threads(jobs: list[tuple[str, MlflowCostHandler]]) -> None:
    gate = threading.Barrier(len(jobs))

    def go(job: tuple[str, MlflowCostHandler]) -> None:
        gate.wait(20)
        run(*job)

    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(go, jobs))


def in_tasks(jobs: list[tuple[str, MlflowCostHandler]]) -> None:
    async def go() -> None:
        await asyncio.gather(*(arun(*job) for job in jobs))

    asyncio.run(go())


def in_turns(jobs: list[tuple[str, MlflowCostHandler]]) -> None:
    streams = [
        asking(text).stream({"messages": [HumanMessage(text)]}, {"callbacks": [handler]}, stream_mode="messages")
        for text, handler in jobs
    ]
    for stream in streams:
        next(stream)
    for stream in streams:
        next(stream)
    for stream in reversed(streams):
        list(stream)


def one_after_the_other(jobs: list[tuple[str, MlflowCostHandler]]) -> None:
    for job in jobs:
        run(*job)


def half_read(jobs: list[tuple[str, MlflowCostHandler]]) -> None:
    """The first stands still while the others run."""
    text, handler = jobs[0]
    stream = asking(text).stream({"messages": [HumanMessage(text)]}, {"callbacks": [handler]}, stream_mode="messages")
    next(stream)
    one_after_the_other(jobs[1:])
    list(stream)


MEANS: dict[str, Callable[[list[tuple[str, MlflowCostHandler]]], None]] = {
    "threads": in_threads,
    "tasks": in_tasks,
    "streams in turns": in_turns,
    "one after the other": one_after_the_other,
    "while one is half read": half_read,
}
ORDERS = {"strict first": (MINIMAL, FULL), "strict last": (FULL, MINIMAL), "private first": (PRIVATE, FULL)}


@pytest.mark.sampled(is_in=in_turn(means=MEANS, order=ORDERS))
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("means", MEANS)
def test_each_policy_its_own(sinks: Sinks, means: str, order: str) -> None:
    """Of invocations at the same time, those under the strict policy leave no text, those under the other leave all."""
    handlers = [MlflowCostHandler(policy) for policy in ORDERS[order]] * 3
    jobs = [(prose(), handler) for handler in handlers]
    MEANS[means](jobs)
    stored = sinks.everything()

    for text, handler in jobs:
        assert (handler.policy.artifact_level == "full" and not handler.policy.has_private_nodes) == (
            spelling_in(text, stored) is not None
        )


@pytest.mark.parametrize("order", ORDERS)
def test_two_handlers_on_one_invocation(sinks: Sinks, order: str) -> None:
    """Where two handlers govern one invocation the stricter policy holds."""
    text = prose()
    asking(text).invoke(
        {"messages": [HumanMessage(text)]},
        {"callbacks": [MlflowCostHandler(policy) for policy in ORDERS[order]]},
    )

    assert spelling_in(text, sinks.everything()) is None


@pytest.mark.parametrize(
    "inner", [MINIMAL, {"log_prompts": False, "artifact_level": "full"}], ids=["minimal", "private"]
)
def test_stricter_handler_inside_a_node(sinks: Sinks, inner: dict[str, Any]) -> None:
    """A second handler that a node passes to its model governs that model's run and what is private in it."""
    text, other = prose(), kept()

    def ask(_: State) -> State:
        Chat(reply=text).invoke(text, {"callbacks": [MlflowCostHandler(inner)]})
        Chat(reply=other).invoke(other)
        return {}

    graph(("ask", ask)).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(FULL)]})
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert other.encode() in stored


@pytest.mark.parametrize("autolog", [True, False], ids=["with autolog", "without autolog"])
@pytest.mark.parametrize(
    "policy", [MINIMAL, {"log_prompts": False, "artifact_level": "full"}], ids=["minimal", "private"]
)
def test_in_a_models_constructor(sinks: Sinks, autolog: bool, policy: dict[str, Any]) -> None:
    """A handler in a model's constructor governs that model's run, alone or below a graph that has no handler."""
    text, other = prose(), kept()
    model = Chat(reply=text, callbacks=[MlflowCostHandler({**policy, "autolog_enabled": autolog})])

    def ask(_: State) -> State:
        model.invoke(text)
        Chat(reply=other).invoke(other)
        return {}

    model.invoke(text)
    mlflow.langchain.autolog()
    graph(("ask", ask)).invoke({"messages": []})
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert other.encode() in stored


@pytest.mark.parametrize("means", ["threads", "tasks"])
def test_one_handler_for_many(sinks: Sinks, means: str) -> None:
    """What one invocation's private node was told does not thin out another's payloads under the same handler."""
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}})
    jobs = [(kept(), handler) for _ in range(4)]
    told = [prose() for _ in jobs]

    def quiet(_: State) -> State:
        for text in told:
            Chat(reply="fine").invoke(text)
        return {"extra": told}

    graph(("quiet", quiet)).invoke({"messages": [HumanMessage(told[0])]}, {"callbacks": [handler]})
    MEANS[means](jobs)
    stored = sinks.everything()

    assert [spelling_in(text, stored) for text in told] == [None] * len(told)
    assert all(text.encode() in stored for text, _ in jobs)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning", "ignore:.*multi-threaded:DeprecationWarning")
def test_forked_process(sinks: Sinks) -> None:
    """A process that was forked after the handler was made is under its policy."""
    text, marker = prose(), kept()
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"ask": {"log_prompts": False}}})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asking(text).invoke({"messages": [HumanMessage(marker), HumanMessage(text)]}, {"callbacks": [handler]})
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    stored = sinks.everything()

    assert status == 0
    assert marker.encode() in stored
    assert spelling_in(text, stored) is None
