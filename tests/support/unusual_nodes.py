"""Ways in which LangGraph lets a node be run, answer, fail and hand on, each with a text that a node is told."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, cast

import mlflow
from fakes import Chat, State, Text, graph
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableGenerator, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from leaks import letters
from pydantic import BaseModel

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES: dict[str, Any] = {"private": {"nodes": {"quiet": {"log_prompts": False}}}, "open": {}}

Config = Any
Handlers = list[Any]
START_STATE: dict[str, Any] = {"messages": [("user", "hi")]}


def ask(text: str) -> str:
    return str(Chat().invoke(text).content)


def any_node(node: Any) -> Any:
    return node


def hand_on(state: State) -> State:
    """A public node that tells a model all that it has."""
    Chat().invoke(f"so far: {state.get('extra')} and {[str(m.content) for m in state.get('messages', [])]}")
    return {}


def answered(text: str) -> dict[str, Any]:
    ask(text)
    return {"extra": f"about {text}"}


def run_once(app: Any, config: Config, given: Any = START_STATE) -> None:
    with contextlib.suppress(Exception):
        app.invoke(given, config)


# --- how a node answers ----------------------------------------------------------------------------------------------


def command(text: str, config: Config) -> None:
    run_once(graph(("quiet", lambda _: Command(update=answered(text))), ("loud", hand_on)), config)


def command_goto(text: str, config: Config) -> None:
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: Command(update=answered(text), goto="loud"), destinations=("loud",))
    builder.add_node("loud", hand_on)
    run_once(builder.add_edge(START, "quiet").compile(), config)


def send(text: str, config: Config) -> None:
    builder: Any = StateGraph(State)
    builder.add_node("ask", lambda _: {})
    builder.add_node("quiet", lambda given: answered(given["extra"]))
    builder.add_node("loud", hand_on)
    builder.add_conditional_edges("ask", lambda _: [Send("quiet", {"extra": text})], ["quiet"])
    run_once(builder.add_edge(START, "ask").add_edge("quiet", "loud").compile(), config)


def send_from_private(text: str, config: Config) -> None:
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: Command(goto=[Send("loud", answered(text))]), destinations=("loud",))
    builder.add_node("loud", hand_on)
    run_once(builder.add_edge(START, "quiet").compile(), config)


def writer(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        ask(text)
        get_stream_writer()({"progress": text})
        return {}

    list(graph(("quiet", quiet)).stream(START_STATE, config, stream_mode=["custom", "updates", "values"]))


def every_mode(text: str, config: Config) -> None:
    app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on))
    modes: Any = ["values", "updates", "messages", "debug", "custom", "tasks", "checkpoints"]
    list(app.stream(START_STATE, config, stream_mode=modes, subgraphs=True))


def message_fields(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        ask(text)
        return {"messages": [AIMessage("", name=text, id=text, additional_kwargs={text: [text]})]}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


def removed_message(text: str, config: Config) -> None:
    given = {"messages": [HumanMessage("hi", id=text)]}
    run_once(graph(("quiet", lambda _: {"messages": [RemoveMessage(id=text)], "extra": ask(text)})), config, given)


def list_of_updates(text: str, config: Config) -> None:
    def quiet(_: State) -> Any:
        return [Command(update=answered(text)), {"messages": [AIMessage(text)]}]

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


def nested_keys(text: str, config: Config) -> None:
    def quiet(_: State) -> Any:
        ask("hm")
        return {"extra": {"a": {text: {"b": (text, {text})}}}}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


@dataclass
class Card:
    holder: str


class Person(BaseModel):
    name: str


def objects(text: str, config: Config) -> None:
    def quiet(_: State) -> Any:
        ask("hm")
        return {"extra": [Card(text), Person(name=text), ToolMessage(text, tool_call_id="1", artifact=Card(text))]}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


class Sums(TypedDict, total=False):
    parts: Annotated[list[str], operator.add]


def a_reducer(text: str, config: Config) -> None:
    builder: Any = StateGraph(Sums)
    builder.add_node("quiet", lambda _: {"parts": [ask("hm"), text]})
    builder.add_node("loud", lambda state: {"parts": [Chat().invoke("; ".join(state["parts"])).text]})
    run_once(builder.add_edge(START, "quiet").add_edge("quiet", "loud").compile(), config, {"parts": ["a"]})


# --- how a node fails -------------------------------------------------------------------------------------------------


def wrong_update(text: str, config: Config) -> None:
    """LangGraph quotes what is no update."""
    run_once(graph(("quiet", lambda _: f"{ask(text)} {text}")), config)


def wrong_channel(text: str, config: Config) -> None:
    run_once(graph(("quiet", lambda _: {**answered(text), text: 1})), config)


def a_schema_fails(text: str, config: Config) -> None:
    """Pydantic quotes what the next node was to be given."""

    class Strict(BaseModel):
        extra: Any = None
        number: int = 0

    builder: Any = StateGraph(Strict)
    builder.add_node("quiet", lambda _: {"extra": ask(text), "number": text})
    builder.add_node("loud", lambda state: {"extra": str(state)})
    run_once(builder.add_edge(START, "quiet").add_edge("quiet", "loud").compile(), config, {"extra": "a"})


def refuse(left: Any, right: Any) -> Any:
    if left:
        raise ValueError(f"cannot add {right}")
    return right


class Refusing(TypedDict, total=False):
    extra: Annotated[Any, refuse]


def a_reducer_fails(text: str, config: Config) -> None:
    builder: Any = StateGraph(Refusing)
    builder.add_node("quiet", lambda _: {"extra": f"{ask(text)} {text}"})
    run_once(builder.add_edge(START, "quiet").compile(), config, {"extra": "a"})


def an_edge_fails(text: str, config: Config) -> None:
    def choose(state: State) -> str:
        raise LookupError(f"nowhere to go with {state['extra']}")

    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: answered(text))
    builder.add_conditional_edges("quiet", choose, [END])
    run_once(builder.add_edge(START, "quiet").compile(), config)


def an_edge_answers(text: str, config: Config) -> None:
    """LangGraph quotes a destination that is none."""
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: answered(text))
    builder.add_conditional_edges("quiet", lambda state: str(state["extra"]))
    run_once(builder.add_edge(START, "quiet").compile(), config)


def retried(text: str, config: Config) -> None:
    left = [1]

    def quiet(_: State) -> Any:
        ask(text)
        if left:
            left.pop()
            raise ConnectionError(f"no line for {text}")
        return answered(text)

    builder: Any = StateGraph(State)
    builder.add_node("quiet", quiet, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    builder.add_node("loud", hand_on)
    run_once(builder.add_edge(START, "quiet").add_edge("quiet", "loud").compile(), config)


def chained_errors(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        try:
            Chat(reply=ValueError(text)).invoke("hi")
        except ValueError as error:
            raise RuntimeError("it failed") from ExceptionGroup(text, [error, KeyError({text: 1})])
        return {}

    run_once(graph(("quiet", quiet)), config)


def a_sibling_fails(text: str, config: Config) -> None:
    def loud(_: State) -> State:
        raise ValueError(f"somebody said {text}")

    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: {"extra": ask(text)})
    builder.add_node("loud", loud)
    run_once(builder.add_edge(START, "quiet").add_edge(START, "loud").compile(), config)


def a_fallback(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        model = Chat(reply=ValueError(text)).with_fallbacks([Chat(reply=f"I heard {text}")], exception_key=None)
        return {"extra": model.invoke("hi").content}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


# --- what runs in a node ---------------------------------------------------------------------------------------------


def parallel(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        both: Any = RunnableParallel({"one": Chat(reply=text), text: Text(reply="fine")})
        return {"extra": both.invoke("hi")}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


def branch(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        chain = RunnableBranch((lambda said: len(str(said)) > 3, Chat(reply=f"so {text}")), Chat())
        return {"extra": chain.batch([text, "b"])}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


def template(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        chain = ChatPromptTemplate([("system", "Be {tone}"), ("user", "{question}")]) | Chat(reply='{"said": 1}')
        return {"extra": (chain | JsonOutputParser()).invoke({"tone": text, "question": "hi"})}

    run_once(graph(("before", lambda _: {"extra": text}), ("quiet", quiet), ("loud", hand_on)), config)


def generator(text: str, config: Config) -> None:
    def pieces(_: Any) -> Any:
        yield from (text[at : at + 5] for at in range(0, len(text), 5))

    def quiet(_: State) -> State:
        return {"extra": "".join((RunnableGenerator(pieces) | Chat(reply=text)).stream("hi")[0].content)}  # type: ignore[index]

    def spread(_: State) -> State:
        return {"extra": [piece.content for piece in (RunnableGenerator(pieces) | Chat(reply=text)).stream("hi")]}

    run_once(graph(("quiet", quiet)), config)
    run_once(graph(("quiet", spread), ("loud", hand_on)), config)


def custom_event(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        ask(text)
        dispatch_custom_event(text, {text: [text]})
        return {}

    run_once(graph(("quiet", any_node(RunnableLambda(quiet)))), config)


def config_of_a_run(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        ask(text)
        Chat().invoke("hi", {"run_name": text, "tags": [text], "metadata": {text: text}})
        return {}

    run_once(graph(("quiet", quiet)), config)


def own_spans(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        ask("hm")
        with mlflow.start_span(text, attributes={text: text}) as span:
            span.set_inputs({"question": text})
            span.set_outputs(text)
            span.add_event(mlflow.entities.SpanEvent(name=text, attributes={text: text}))  # type: ignore[abstract]
        return {}

    run_once(graph(("quiet", quiet)), config)


def a_pool(text: str, config: Config) -> None:
    def quiet(_: State) -> State:
        with ThreadPoolExecutor(2) as pool:
            said = [pool.submit(copy_context().run, ask, f"{text} {n}") for n in range(2)]
        return {"extra": [each.result() for each in said] + [text]}

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


def a_graph_in_a_node(text: str, config: Config) -> None:
    inner = graph(("ask", lambda _: answered(text)), ("tell", hand_on))
    run_once(graph(("quiet", lambda state: inner.invoke(state)), ("loud", hand_on)), config)  # noqa: PLW0108 - has a config


def a_subgraph(text: str, config: Config) -> None:
    inner = graph(("ask", lambda _: answered(text)), ("tell", hand_on))
    run_once(graph(("quiet", inner), ("loud", hand_on)), config)


def a_private_node_deep_inside(text: str, config: Config) -> None:
    inner = graph(("before", hand_on), ("quiet", lambda _: answered(text)), ("tell", hand_on))
    run_once(graph(("outer", graph(("middle", inner), ("after", hand_on))), ("loud", hand_on)), config)


def an_agent(text: str, config: Config) -> None:
    @tool
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name}: {text}"

    calls = AIMessage("", tool_calls=[{"name": "look_up", "args": {"name": text}, "id": "1"}])
    model = Chat(reply=lambda said: calls if said[-1].type != "tool" else AIMessage(f"as to {text}"))
    run_once(graph(("quiet", any_node(create_agent(model, [look_up]))), ("loud", hand_on)), config)


def an_agents_answer_in_a_form(text: str, config: Config) -> None:
    calls = AIMessage("", tool_calls=[{"name": "Person", "args": {"name": text}, "id": "1"}])
    agent = create_agent(Chat(reply=lambda _: calls), [], response_format=ToolStrategy(Person))
    run_once(graph(("quiet", any_node(agent)), ("loud", hand_on)), config)


def a_tool_with_an_artifact(text: str, config: Config) -> None:
    @tool(response_format="content_and_artifact")
    def look_up(name: str) -> Any:
        """Look somebody up."""
        return "found", {"row": [name, text]}

    def quiet(_: State) -> Any:
        return {
            "messages": [look_up.invoke({"name": "look_up", "args": {"name": "x"}, "id": "1", "type": "tool_call"})]
        }

    run_once(graph(("quiet", quiet), ("loud", hand_on)), config)


# --- what outlives a node --------------------------------------------------------------------------------------------


def interrupted(text: str, config: Config) -> None:
    def quiet(_: State) -> Any:
        said = interrupt({"sure": text})
        return {"extra": f"{ask(str(said))} {said}"}

    app = graph(("quiet", quiet), ("loud", hand_on), checkpointer=InMemorySaver())
    config = {**config, "configurable": {"thread_id": letters(12)}}
    app.invoke(START_STATE, config)
    app.invoke(Command(resume=f"yes, {text}"), config)


def a_later_turn(text: str, config: Config) -> None:
    app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on), checkpointer=InMemorySaver())
    config = {**config, "configurable": {"thread_id": letters(12)}}
    app.invoke(START_STATE, config)
    app.invoke({"messages": [("user", f"you said {text}")]}, config)


def time_travel(text: str, config: Config) -> None:
    app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on), checkpointer=InMemorySaver())
    config = {**config, "configurable": {"thread_id": letters(12)}}
    app.invoke(START_STATE, config)
    past = next(each for each in app.get_state_history(config) if each.next == ("loud",))
    app.invoke(None, {**past.config, "callbacks": config["callbacks"]})
    forked = app.update_state(past.config, {"extra": f"I mean {text}"})
    app.invoke(None, {**forked, "callbacks": config["callbacks"]})


def cached_node(text: str, config: Config) -> None:
    """A node that LangGraph answers from its cache does not run, and what it said comes again."""
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: answered(text), cache_policy=CachePolicy())
    builder.add_node("loud", hand_on)
    app = builder.add_edge(START, "quiet").add_edge("quiet", "loud").compile(cache=InMemoryCache())
    for _ in range(2):
        run_once(app, {**config, "configurable": {"thread_id": letters(12)}}, {"extra": "the same"})


def cached_node_alone(text: str, config: Config) -> None:
    """Nothing else tells how far its graph is."""
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: answered(text), cache_policy=CachePolicy())
    app = builder.add_edge(START, "quiet").compile(cache=InMemoryCache())
    for thread in (None, letters(12), letters(12)):
        run_once(app, {**config, **({"configurable": {"thread_id": thread}} if thread else {})}, {"extra": "the same"})


def cached_node_in_front(text: str, config: Config) -> None:
    """Without a thread a graph has no session by which it could be known."""
    builder: Any = StateGraph(State)
    builder.add_node("quiet", lambda _: answered(text), cache_policy=CachePolicy())
    builder.add_node("loud", hand_on)
    app = builder.add_edge(START, "quiet").add_edge("quiet", "loud").compile(cache=InMemoryCache())
    for _ in range(2):
        run_once(app, config, {"extra": "the same"})


def memories(text: str, config: Config) -> None:
    store = InMemoryStore()

    def quiet(_: State) -> Any:
        store.put(("notes",), "one", {"said": f"{ask(text)} {text}"})
        return {}

    def loud(_: State) -> Any:
        item = store.get(("notes",), "one")
        return {"extra": ask(str(item and item.value))}

    run_once(graph(("quiet", quiet), ("loud", loud)), config)


def two_handlers(text: str, config: Config) -> None:
    app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on)).with_config(callbacks=[MlflowCostHandler({})])
    run_once(app, config)


def batch(text: str, config: Config) -> None:
    app = graph(("quiet", lambda state: answered(str(state["extra"]))), ("loud", hand_on))
    app.batch([{"extra": f"{text} {n}"} for n in range(3)], config)


def around_all(text: str, config: Config) -> None:
    app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on))

    @mlflow.trace(name="endpoint", attributes={"question": text})
    def endpoint(question: str) -> Any:
        mlflow.update_current_trace(tags={"q": question}, metadata={"m": question}, request_preview=question)
        Chat().invoke(f"router: {question}", cast("Any", config))
        return [app.invoke(START_STATE, config), app.invoke({"extra": question}, config)]

    with contextlib.suppress(Exception):
        endpoint(text)


# --- async -----------------------------------------------------------------------------------------------------------


def in_async(nodes: Callable[[str], Any]) -> Callable[[str, Config], None]:
    def scene(text: str, config: Config) -> None:
        async def main() -> None:
            with contextlib.suppress(Exception):
                await nodes(text).ainvoke(START_STATE, config)

        asyncio.run(main())

    return scene


def tasks(text: str) -> Any:
    async def quiet(_: State) -> Any:
        async def one(n: int) -> str:
            return str((await Chat().ainvoke(f"{text} {n}")).content)

        task = asyncio.create_task(one(0))
        said = await asyncio.gather(one(1), one(2), asyncio.to_thread(ask, f"{text} 3"))
        return {"extra": [await task, *said, text]}

    return graph(("quiet", quiet), ("loud", hand_on))


def failing_tasks(text: str) -> Any:
    async def quiet(_: State) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(Chat(reply=ValueError(f"no, {text}")).ainvoke("hi"))
            group.create_task(Chat().ainvoke(text))

    return graph(("quiet", quiet))


def events(text: str, config: Config) -> None:
    async def main() -> None:
        app = graph(("quiet", lambda _: answered(text)), ("loud", hand_on))
        async for _ in app.astream_events(START_STATE, config, version="v2"):
            pass

    asyncio.run(main())


def closed_astream(text: str, config: Config) -> None:
    async def quiet(_: State) -> Any:
        stream = Chat(reply=f"I say {text} and more").astream(text)
        async for _chunk in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        return {"extra": f"about {text}"}

    async def main() -> None:
        await graph(("quiet", quiet), ("loud", hand_on)).ainvoke(START_STATE, config)

    asyncio.run(main())


def cancelled(text: str, config: Config) -> None:
    async def quiet(_: State) -> Any:
        await Chat().ainvoke(text)
        await asyncio.sleep(30)

    async def main() -> None:
        app = graph(("before", lambda _: {"extra": text}), ("quiet", quiet))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.ainvoke(START_STATE, config), 0.3)

    asyncio.run(main())


SCENES: list[Callable[[str, Config], None]] = [
    command, command_goto, send, send_from_private, writer, every_mode, message_fields, removed_message, list_of_updates,
    nested_keys, objects, a_reducer, wrong_update, wrong_channel, a_schema_fails, a_reducer_fails, an_edge_fails,
    an_edge_answers, retried, chained_errors, a_sibling_fails, a_fallback, parallel, branch, template, generator,
    custom_event, config_of_a_run, own_spans, a_pool, a_graph_in_a_node, a_subgraph, a_private_node_deep_inside, an_agent,
    an_agents_answer_in_a_form, a_tool_with_an_artifact, interrupted, a_later_turn, time_travel, cached_node, cached_node_alone, cached_node_in_front, memories,
    two_handlers, batch, around_all, in_async(tasks), in_async(failing_tasks), events, closed_astream, cancelled,
]  # fmt: skip
NAMES = [getattr(scene, "__name__", "") for scene in SCENES]
