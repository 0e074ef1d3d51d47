"""A machine that builds graphs and policies, plants a text in a random place, runs it, and searches every byte.

By default it runs for about 20 seconds with fixed seeds. `LANGCHAIN_MLFLOW_COST_MACHINE_S` makes it run for so many
seconds with new ones (`.ci/nightly`): a story that fails is printed in full, and kept in `.hypothesis/failed-stories`,
from where every later run tells it again first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from contextvars import copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, State, graph
from heard import HEARINGS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from leaks import kept, prose, spelling_in, within

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from leaks import Sinks

SECONDS = float(os.environ.get("LANGCHAIN_MLFLOW_COST_MACHINE_S", "0"))
FAILED = Path(".hypothesis") / "failed-stories"

PLACES = (
    "state", "prompt", "answer", "tool argument", "span", "span name", "attribute", "event", "exception", "tag", "metadata",
    "assessment", "custom event", "run name", "subgraph's state", "state key",
)  # fmt: skip
"""Where a public node puts the text."""
HEARD = (
    "prompt",
    "answer",
    "tool",
    "update",
    "subgraph",
    "agent",
    "stream",
    "closed stream",
    "error",
    "thread",
    "channel",
)
"""How the private node comes by it."""
SHAPES = ("chain", "branches", "subgraph", "agent in a tool", "router before")
WAYS = ("invoke", "ainvoke", "stream", "astream", "closed stream", "cancelled", "endpoint", "gather", "turns")
HANDLERS = ("one", "open first", "private first", "twice", "new for each turn")


@dataclass(frozen=True)
class Story:
    """One program, one policy, one run."""

    shape: str
    way: str
    heard: str
    channel: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    handlers: str
    level: str
    entry: str
    personal: bool
    fails: bool


def stories() -> st.SearchStrategy[Story]:
    places = st.lists(st.sampled_from(PLACES), max_size=3).map(tuple)
    return st.builds(
        Story,
        shape=st.sampled_from(SHAPES),
        way=st.sampled_from(WAYS),
        heard=st.sampled_from(HEARD),
        channel=st.sampled_from([name for name in HEARINGS if not name.startswith("returned, as")]),
        before=places,
        after=places,
        handlers=st.sampled_from(HANDLERS),
        level=st.sampled_from(["standard", "full"]),
        entry=st.sampled_from(["quiet", "**/quiet", "*uiet"]),
        personal=st.booleans(),
        fails=st.booleans(),
    )


# --- nodes ----------------------------------------------------------------------------------------------------------


class BrokenError(Exception):
    """What a node of a story raises."""


def _put(place: str, text: str, other: str) -> Any:  # noqa: C901, PLR0912 - a branch for each place
    """What a public node does with the text; its update of the state."""
    if place in ("state", "subgraph's state"):
        return {"extra": {"note": [other, f"so {text}"]}}
    if place == "state key":
        return {"extra": {text: other}}
    if place == "prompt":
        Chat(reply=other).invoke([HumanMessage(f"{other} then {text}")])
    elif place == "answer":
        return {"messages": [Chat(reply=f"{other}, for {text}").invoke(other)]}
    elif place == "tool argument":
        call = {"name": "note", "args": {"q": text}, "id": "1"}
        return {"messages": [AIMessage(other, tool_calls=[call])]}
    elif place in ("span", "span name"):
        with mlflow.start_span(f"for {text}" if place == "span name" else "own") as span:
            span.set_inputs({"x": text})
            span.set_outputs([other])
    elif place in ("attribute", "event"):
        with mlflow.start_span("own") as span:
            span.set_attribute("note", {"deep": [text]})
            if place == "event":
                from scenes import event

                span.add_event(event("e", {"x": text}))
    elif place == "exception":
        with contextlib.suppress(BrokenError):
            RunnableLambda(_raise).invoke(BrokenError(text))
    elif place == "tag":
        mlflow.update_current_trace(tags={"note": f"{other} {text}"})
    elif place == "metadata":
        mlflow.update_current_trace(metadata={"note": text}, request_preview=text)
    elif place == "assessment":
        mlflow.log_feedback(trace_id=mlflow.get_active_trace_id(), name="rating", value=1, rationale=text)
    elif place == "run name":
        RunnableLambda(lambda given: given).invoke("x", {"run_name": f"for {text}"})
    else:
        from langchain_core.callbacks import dispatch_custom_event

        dispatch_custom_event("progress", {"text": text})
    return {}


def _raise(error: Any) -> Any:
    raise error


def _public(places: tuple[str, ...], text: str, other: str) -> Callable[[State], Any]:
    def run(_: State) -> Any:
        Chat(reply=other).invoke(other)
        update: dict[str, Any] = {}
        for place in places:
            update |= _put(place, text, other)
        return update

    return run


def _private(story: Story, text: str, heard: threading.Event) -> Callable[[State], Any]:  # noqa: C901 - a branch for each way of hearing
    def agent() -> Any:
        @tool
        def look_up(query: str) -> str:
            """Look it up."""
            return f"it says {text}"

        def reply(messages: list[Any]) -> AIMessage:
            if any(message.type == "tool" for message in messages):
                return AIMessage("done")
            return AIMessage("", tool_calls=[{"name": "look_up", "args": {"query": "x"}, "id": "1"}])

        create_agent(Chat(reply=reply), [look_up]).invoke({"messages": [HumanMessage("look")]})

    def aside() -> None:
        thread = threading.Thread(target=copy_context().run, args=(lambda: Chat().invoke(text),))
        thread.start()
        thread.join()

    def closed() -> None:
        stream: Any = Chat(reply=f"{text} and more").stream("x")
        for _ in range(12):
            next(stream, None)
        stream.close()

    def failing() -> None:
        with contextlib.suppress(BrokenError):
            Chat(reply=BrokenError(f"cannot say {text}")).invoke("x")

    acts: dict[str, Callable[[], Any]] = {
        "prompt": lambda: Chat().invoke(text),
        "answer": lambda: Chat(reply=f"well, {text}").invoke("x"),
        "tool": lambda: tool(lambda query: f"found {text}", description="x").invoke({"query": "x"}),
        "subgraph": lambda: graph(("inner", lambda _: Chat().invoke(text) and {})).invoke({"messages": []}),
        "agent": agent,
        "stream": lambda: list(Chat(reply=text).stream("x")),
        "closed stream": closed,
        "error": failing,
        "thread": aside,
        "channel": lambda: HEARINGS[story.channel].run(text),
        "update": lambda: None,
    }

    def quiet(_: State) -> Any:
        if not _is_told_late(story):
            heard.set()
        acts[story.heard]()
        if story.fails:
            raise BrokenError(f"failed on {text}")
        # More than it was given: what a node passes on as it is is not private for that.
        return {"extra": {"found": f"it is {text}"}} if story.heard == "update" else {}

    return quiet


def _is_told_late(story: Story) -> bool:
    """Whether the node's own words may reach nobody: LangGraph throws away what a thread returns after a cancellation."""
    return story.heard == "update" and story.way == "cancelled"


def _built(story: Story, text: str, other: str, heard: threading.Event, checkpointer: Any) -> Any:
    before, behind = _public(story.before, text, other), _public(story.after, text, other)

    def after(state: State) -> Any:
        # It begins once the update of the node before it has been taken.
        heard.set()
        return behind(state)

    quiet = _private(story, text, heard)
    if story.shape == "branches":
        builder: Any = StateGraph(State)
        for name, node in (
            ("before", before),
            ("quiet", quiet),
            ("beside", lambda _: Chat().invoke(text) and {}),
            ("after", after),
        ):
            builder.add_node(name, node)
        builder.add_edge(START, "before").add_edge("before", "quiet").add_edge("before", "beside")
        return builder.add_edge(["quiet", "beside"], "after").add_edge("after", END).compile(checkpointer=checkpointer)
    if story.shape == "subgraph":
        inner = graph(("quiet", quiet))
        return graph(
            ("before", before),
            ("desk", lambda state: inner.invoke(state) and {}),
            ("after", after),
            checkpointer=checkpointer,
        )
    if story.shape == "agent in a tool":

        @tool
        def consult(query: str) -> str:
            """Ask the doctor."""
            graph(("quiet", quiet)).invoke({"messages": [("user", query)]})
            return "done"

        def desk(_: State) -> Any:
            consult.invoke({"query": other})
            return {}

        return graph(("before", before), ("desk", desk), ("after", after), checkpointer=checkpointer)
    return graph(("before", before), ("quiet", quiet), ("after", after), checkpointer=checkpointer)


# --- running --------------------------------------------------------------------------------------------------------


def _handlers(story: Story, policy: Any) -> Callable[[], list[Any]]:
    private, loud = MlflowCostHandler(policy), MlflowCostHandler({"artifact_level": story.level})
    made = {
        "one": [private],
        "open first": [loud, private],
        "private first": [private, loud],
        "twice": [private, private],
    }
    if story.handlers == "new for each turn":
        return lambda: [MlflowCostHandler(policy)]
    return lambda: made[story.handlers]


def _run(story: Story, text: str, other: str, policy: Any, heard: threading.Event) -> None:  # noqa: C901 - a branch for each way
    handlers = _handlers(story, policy)
    built = _built(story, text, other, heard, InMemorySaver() if story.way == "turns" else None)
    question: Any = {"messages": [HumanMessage(f"{other} first")]}

    def config() -> Any:
        return {
            "callbacks": handlers(),
            "configurable": {"thread_id": f"session {other}"},
            "run_name": f"answer {other}",
        }

    async def cancelled() -> None:
        running = asyncio.ensure_future(built.ainvoke(question, config()))
        await asyncio.sleep(0.02)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def read() -> None:
        async for _ in built.astream(question, config(), stream_mode="messages"):
            pass

    async def together() -> None:
        first = graph(("router", lambda _: Chat().invoke(f"{other} {text}") and {}))
        given_to_all = config()
        await asyncio.gather(
            first.ainvoke(question, given_to_all), built.ainvoke(question, given_to_all), return_exceptions=True
        )

    with contextlib.suppress(BrokenError):
        if story.way == "invoke":
            built.invoke(question, config())
        elif story.way == "ainvoke":
            asyncio.run(built.ainvoke(question, config()))
        elif story.way == "stream":
            list(built.stream(question, config(), stream_mode=["messages", "updates"], subgraphs=True))
        elif story.way == "astream":
            asyncio.run(read())
        elif story.way == "closed stream":
            stream = built.stream(question, config(), stream_mode="updates")
            next(stream)
            stream.close()
        elif story.way == "cancelled":
            asyncio.run(cancelled())
        elif story.way == "endpoint":
            with mlflow.start_span("endpoint") as span:
                span.set_inputs({"asked": f"{other} {text}"})
                Chat().invoke(f"route {text}", config())
                with contextlib.suppress(BrokenError):
                    built.invoke(question, config())
                span.set_outputs(text)
        elif story.way == "gather":

            async def endpoint() -> None:
                with mlflow.start_span("endpoint"):
                    await together()

            asyncio.run(endpoint())
        else:
            for turn in range(2):
                with contextlib.suppress(BrokenError):
                    built.invoke({"messages": [HumanMessage(f"{other} in turn {turn}")]}, config())
            graph(("loud", lambda _: Chat().invoke(f"earlier: {text}") and {})).invoke(question, config())


def tell(story: Story, sinks: Sinks, *, is_open: bool = False) -> tuple[str | None, bool]:
    """Run a story; the spelling in which the text is stored, and whether its neighbour is."""
    # Hypothesis seeds the generator from which OpenTelemetry draws: every story would have the same trace ids.
    random.seed(os.urandom(16))
    text, other = prose(), kept()
    policy: dict[str, Any] = {"artifact_level": story.level, "redact_pii": story.personal}
    if not is_open:
        policy["nodes"] = {story.entry: {"log_prompts": False}}
    heard = threading.Event()
    _run(story, text, other, policy, heard)
    # A thread of a cancelled run may be at work yet, and its trace waits for it.
    within(10, lambda: not any(thread.name.endswith("-outliving") for thread in threading.enumerate()))
    stored = sinks.everything()
    # A run that was closed or cancelled before its private node began has made nothing private.
    found = spelling_in(text, stored) if is_open or heard.is_set() else None
    at = stored.find(text[:16].encode()) if found else -1
    if at >= 0 and not is_open:
        print(f"found in: {stored[max(0, at - 2_000) : at + 200]!r}")
    return found, other.encode() in stored


def judge(story: Story, sinks: Sinks) -> None:
    try:
        found, neighbour = tell(story, sinks)
    except BaseException as error:
        _keep(story, repr(error))
        raise
    if found is not None or not neighbour:
        _keep(story, f"found as {found}" if found else "its neighbour is gone")
    assert (found, neighbour) == (None, True), story


def _keep(story: Story, why: str) -> None:
    told = json.dumps({**asdict(story), "why": why}, indent=1)
    print(f"a story that failed:\n{told}")
    FAILED.mkdir(parents=True, exist_ok=True)
    (FAILED / f"{abs(hash(story)):016x}.json").write_text(told)


def kept_stories() -> list[Story]:
    """Those that failed before."""
    found = []
    for path in sorted(FAILED.glob("*.json")) if FAILED.is_dir() else ():
        fields = json.loads(path.read_text())
        fields.pop("why")
        found.append(Story(**{**fields, "before": tuple(fields["before"]), "after": tuple(fields["after"])}))
    return found


# --- the machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", kept_stories(), ids=str)
def test_stories_that_failed_before(sinks: Sinks, story: Story) -> None:
    """What was found once stays mended."""
    judge(story, sinks)


@pytest.mark.skipif(bool(SECONDS), reason="the long run makes stories of its own")
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None,
    phases=[Phase.generate],
)  # fmt: skip
@given(story=stories())
def test_machine(sinks: Sinks, story: Story) -> None:
    """A text that a private node heard is in no byte, wherever else it stood; what nobody made private is stored."""
    judge(story, sinks)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.skipif(not SECONDS, reason="set LANGCHAIN_MLFLOW_COST_MACHINE_S to the seconds that it may take")
def test_machine_with_new_seeds(sinks: Sinks) -> None:
    """The same for minutes, with seeds that nobody chose; the seed of a failing run is printed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        number = random.SystemRandom().randrange(2**32)
        print(f"seed {number}")

        @seed(number)
        @settings(
            max_examples=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],
        )
        @given(story=stories())
        def some(story: Story) -> None:
            if time.monotonic() < until:
                judge(story, sinks)

        some()


@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None,
    phases=[Phase.generate],
)  # fmt: skip
@given(story=stories().filter(lambda story: story.level == "full" and "state" in story.before))
def test_control(sinks: Sinks, story: Story) -> None:
    """Without a private node the text of the same stories is stored."""
    found, _ = tell(story, sinks, is_open=True)

    assert found is not None
