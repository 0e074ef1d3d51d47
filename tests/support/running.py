"""Ways of running a graph: in each, the model of the node `quiet` is told one text and says another."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import mlflow
from fakes import Chat, State, Text, graph
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache as NodeCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from leaks import kept, prose

STREAM_MODES = ("values", "updates", "messages", "custom", "debug", "checkpoints", "tasks")


@dataclass
class Words:
    """What is said in one run: `told` to the private model, `said` by it, `other` by and to everybody else."""

    make: Callable[[], str] = prose
    told: str = field(init=False)
    said: str = field(init=False)
    other: str = field(default_factory=kept)

    def __post_init__(self) -> None:
        self.told, self.said = self.make(), self.make()

    @property
    def question(self) -> Any:
        return {"messages": [HumanMessage(f"{self.other} then {self.told}")]}


Way = Callable[[Words, Any], Any]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    WAYS[function.__name__.strip("_").replace("_", " ")] = function
    return function


# --- the graph ------------------------------------------------------------------------------------------------------


def speaking(words: Words) -> Callable[[State], State]:
    def quiet(state: State) -> State:
        get_stream_writer()({"progress": words.told})
        answer = Chat(reply=words.said).invoke([HumanMessage(f"so: {words.told}")])
        return {"messages": [AIMessage(f"it says {answer.text}")]}

    return quiet


def closing(words: Words) -> Callable[[State], State]:
    def after(state: State) -> State:
        history = "; ".join(str(message.text) for message in state["messages"])
        answer = Chat(reply=f"{words.other} indeed").invoke([HumanMessage(f"{words.other}, given {history!r}")])
        return {"messages": [answer], "extra": {"seen": history}}

    return after


def both(words: Words, checkpointer: Any = None) -> Any:
    return graph(("quiet", speaking(words)), ("after", closing(words)), checkpointer=checkpointer)


def asynchronous(words: Words) -> Any:
    async def quiet(state: State) -> State:
        answer = await Chat(reply=words.said).ainvoke([HumanMessage(f"so: {words.told}")])
        return {"messages": [AIMessage(f"it says {answer.text}")]}

    async def after(state: State) -> State:
        history = "; ".join(str(message.text) for message in state["messages"])
        return {"messages": [await Chat(reply=words.other).ainvoke(f"{words.other}, given {history!r}")]}

    return graph(("quiet", quiet), ("after", after))


@way
def invoke(words: Words, config: Any) -> None:
    both(words).invoke(words.question, config)


@way
def ainvoke(words: Words, config: Any) -> None:
    asyncio.run(asynchronous(words).ainvoke(words.question, config))


@way
def ainvoke_of_sync_nodes(words: Words, config: Any) -> None:
    asyncio.run(both(words).ainvoke(words.question, config))


def _stream(mode: Any) -> Way:
    def run(words: Words, config: Any) -> None:
        saved = {**config, "configurable": {"thread_id": "t"}}
        list(both(words, InMemorySaver()).stream(words.question, saved, stream_mode=mode, subgraphs=True))

    return run


def _astream(mode: Any) -> Way:
    def run(words: Words, config: Any) -> None:
        async def read() -> None:
            async for _ in asynchronous(words).astream(words.question, config, stream_mode=mode):
                pass

        asyncio.run(read())

    return run


for _mode in STREAM_MODES:
    WAYS[f"stream {_mode}"] = _stream(_mode)
    if _mode != "checkpoints":
        WAYS[f"astream {_mode}"] = _astream(_mode)
WAYS["stream all modes"] = _stream(list(STREAM_MODES))


def _events(version: Any) -> Way:
    def run(words: Words, config: Any) -> None:
        async def read() -> None:
            async for _ in asynchronous(words).astream_events(words.question, config, version=version):
                pass

        asyncio.run(read())

    return run


WAYS["astream_events v2"] = _events("v2")


@way
def batch(words: Words, config: Any) -> None:
    both(words).batch([words.question] * 2, config)


@way
def abatch(words: Words, config: Any) -> None:
    asyncio.run(asynchronous(words).abatch([words.question] * 2, config))


@way
def batch_as_completed(words: Words, config: Any) -> None:
    list(both(words).batch_as_completed([words.question] * 2, config))


# --- LangGraph's other forms ----------------------------------------------------------------------------------------


class Fan(TypedDict, total=False):
    topics: list[str]
    topic: str
    found: Annotated[list[str], operator.add]


@way
def send(words: Words, config: Any) -> None:
    def quiet(state: Fan) -> Fan:
        return {"found": [Chat(reply=words.said).invoke(state["topic"]).text]}

    def spread(state: Fan) -> list[Send]:
        return [Send("quiet", {"topic": topic}) for topic in state["topics"]]

    def after(state: Fan) -> Fan:
        Chat(reply=words.other).invoke(str(state["found"]))
        return {"found": [words.other]}

    builder: Any = StateGraph(Fan)
    builder = builder.add_node("quiet", quiet).add_node("after", after)
    builder.add_conditional_edges(START, spread, ["quiet"]).add_edge("quiet", "after")
    builder.compile().invoke({"topics": [words.told, f"again {words.told}"]}, config)


@way
def subgraph(words: Words, config: Any) -> None:
    inner = graph(("inside", speaking(words)))
    graph(("quiet", inner), ("after", closing(words))).invoke(words.question, config)


@way
def subgraph_streamed(words: Words, config: Any) -> None:
    inner = graph(("inside", speaking(words)))
    outer = graph(("quiet", inner), ("after", closing(words)))
    list(outer.stream(words.question, config, stream_mode=["messages", "values"], subgraphs=True))


@way
def subgraph_called_in_a_node(words: Words, config: Any) -> None:
    inner = graph(("inside", speaking(words)))

    def quiet(state: State) -> Any:
        return {"messages": inner.invoke(state)["messages"][-1:]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def functional(words: Words, config: Any) -> None:
    @task
    def quiet(topic: str) -> str:
        return Chat(reply=words.said).invoke(topic).text

    @entrypoint()
    def flow(topic: str) -> str:
        found = quiet(topic).result()
        return Chat(reply=words.other).invoke(f"{words.other} {found}").text

    flow.invoke(words.told, config)


@way
def functional_async(words: Words, config: Any) -> None:
    @task
    async def quiet(topic: str) -> str:
        return (await Chat(reply=words.said).ainvoke(topic)).text

    @entrypoint()
    async def flow(topic: str) -> str:
        found = await quiet(topic)
        return (await Chat(reply=words.other).ainvoke(f"{words.other} {found}")).text

    asyncio.run(flow.ainvoke(words.told, config))


@way
def goto(words: Words, config: Any) -> None:
    def quiet(state: State) -> Command[Any]:
        answer = Chat(reply=words.said).invoke(words.told)
        return Command(goto="after", update={"messages": [answer]})

    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", quiet, destinations=("after",)).add_node("after", closing(words))
    builder.add_edge(START, "quiet").compile().invoke(words.question, config)


@way
def goto_in_the_parent_graph(words: Words, config: Any) -> None:
    def inside(state: State) -> Command[Any]:
        answer = Chat(reply=words.said).invoke(words.told)
        return Command(goto="after", graph=Command.PARENT, update={"messages": [answer]})

    inner = graph(("inside", inside))
    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", inner, destinations=("after",)).add_node("after", closing(words))
    builder.add_edge(START, "quiet").compile().invoke(words.question, config)


@way
def interrupt_and_resume(words: Words, config: Any) -> None:
    def quiet(state: State) -> Any:
        answer = Chat(reply=words.said).invoke(words.told)
        reply = interrupt({"ask": f"may I say {answer.text}?"})
        return {"messages": [AIMessage(f"{reply} {answer.text}")]}

    asking = graph(("quiet", quiet), ("after", closing(words)), checkpointer=InMemorySaver())
    saved = {**config, "configurable": {"thread_id": "t"}}
    asking.invoke(words.question, saved)
    asking.invoke(Command(resume=f"yes, {words.told}"), saved)


@way
def cached_node(words: Words, config: Any) -> None:
    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", speaking(words), cache_policy=CachePolicy(key_func=lambda *_: b"k"))
    builder.add_node("after", closing(words)).add_edge(START, "quiet").add_edge("quiet", "after").add_edge("after", END)
    builder.compile(cache=NodeCache()).invoke(words.question, config)


# --- agents ---------------------------------------------------------------------------------------------------------


class Watching(AgentMiddleware[Any, Any]):
    """Looks at everything, and traces it."""

    def before_model(self, state: Any, runtime: Any) -> None:
        with mlflow.start_span("watch before") as span:
            span.set_inputs({"seen": str(state["messages"])})

    def after_model(self, state: Any, runtime: Any) -> None:
        with mlflow.start_span("watch after") as span:
            span.set_outputs({"seen": str(state["messages"])})

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        with mlflow.start_span("around the model") as span:
            span.set_attribute("messages", str(request.messages))
            return handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        with mlflow.start_span("around the tool") as span:
            span.set_inputs(request.tool_call["args"])
            return handler(request)


def _agent(words: Words) -> Any:
    @tool
    def lookup(query: str) -> str:
        """Look it up."""
        return f"found {query}"

    def reply(messages: list[Any]) -> AIMessage:
        if any(message.type == "tool" for message in messages):
            return AIMessage(words.said)
        call = {"name": "lookup", "args": {"query": words.told}, "id": "1"}
        return AIMessage("", tool_calls=[call])

    agent = create_agent(Chat(reply=reply), [lookup], middleware=[Watching()])

    def quiet(state: State) -> Any:
        # Not the whole state: what its model is told is private, the others' words too.
        return {"messages": agent.invoke({"messages": [HumanMessage(words.told)]})["messages"][1:]}

    return quiet


@way
def agent_with_middleware(words: Words, config: Any) -> None:
    graph(("quiet", _agent(words)), ("after", closing(words))).invoke(words.question, config)


@way
def agent_streamed(words: Words, config: Any) -> None:
    outer = graph(("quiet", _agent(words)), ("after", closing(words)))
    list(outer.stream(words.question, config, stream_mode="messages", subgraphs=True))


# --- failures -------------------------------------------------------------------------------------------------------


@way
def node_retried(words: Words, config: Any) -> None:
    attempts: list[int] = []

    def quiet(state: State) -> State:
        answer = Chat(reply=words.said).invoke(words.told)
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError(f"{words.told} gave {answer.text}")
        return {"messages": [answer]}

    again = RetryPolicy(initial_interval=0.001, jitter=False)
    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", quiet, retry_policy=again).add_node("after", closing(words))
    builder.add_edge(START, "quiet").add_edge("quiet", "after").compile().invoke(words.question, config)


def _failing_once(words: Words) -> Chat:
    tries: list[int] = []

    def reply(_: Any) -> Any:
        tries.append(1)
        return ConnectionError(f"cannot answer {words.told}") if len(tries) == 1 else AIMessage(words.said)

    return Chat(reply=reply)


@way
def model_retried(words: Words, config: Any) -> None:
    model = _failing_once(words).with_retry(wait_exponential_jitter=False, stop_after_attempt=2)

    def quiet(state: State) -> State:
        return {"messages": [model.invoke(words.told)]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def fallback(words: Words, config: Any) -> None:
    model = Chat(reply=ConnectionError(f"cannot answer {words.told}")).with_fallbacks([Chat(reply=words.said)])

    def quiet(state: State) -> State:
        return {"messages": [model.invoke(words.told)]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def error_out_of_the_graph(words: Words, config: Any) -> None:
    def quiet(state: State) -> State:
        answer = Chat(reply=words.said).invoke(words.told)
        raise ValueError(f"{words.told} gave {answer.text}")

    def before(state: State) -> State:
        Chat(reply=words.other).invoke(words.other)
        return {}

    with contextlib.suppress(ValueError):
        graph(("before", before), ("quiet", quiet)).invoke(words.question, config)


@way
def error_quoted_by_a_later_node(words: Words, config: Any) -> None:
    def after(state: State) -> State:
        Chat(reply=words.other).invoke(words.other)
        raise LookupError(f"no {state['messages'][-1].text}")

    with contextlib.suppress(LookupError):
        graph(("quiet", speaking(words)), ("after", after)).invoke(words.question, config)


@way
def stream_closed_early(words: Words, config: Any) -> None:
    stream = both(words).stream(words.question, config, stream_mode="updates")
    next(stream)
    stream.close()


@way
def stream_of_messages_closed_early(words: Words, config: Any) -> None:
    stream = both(words).stream(words.question, config, stream_mode="messages")
    for _ in range(6):
        next(stream)
    stream.close()


@way
def async_stream_closed_early(words: Words, config: Any) -> None:
    async def read() -> None:
        stream = asynchronous(words).astream(words.question, config, stream_mode="messages")
        for _ in range(6):
            await anext(stream)
        await stream.aclose()

    asyncio.run(read())


@way
def model_stream_closed_early_in_a_node(words: Words, config: Any) -> None:
    def quiet(state: State) -> State:
        stream: Any = Chat(reply=words.said).stream(words.told)
        first = "".join(next(stream).text for _ in range(4))
        stream.close()
        return {"messages": [AIMessage(first)]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def cancelled(words: Words, config: Any) -> None:
    started = asyncio.Event

    async def run() -> None:
        ready = started()

        async def quiet(state: State) -> State:
            with mlflow.start_span("own") as span:
                span.set_inputs(words.told)
                await Chat(reply=words.said).ainvoke(words.told)
                ready.set()
                await asyncio.Event().wait()
            return {}

        async def before(state: State) -> State:
            await Chat(reply=words.other).ainvoke(words.other)
            return {}

        running = asyncio.ensure_future(graph(("before", before), ("quiet", quiet)).ainvoke(words.question, config))
        await ready.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())


# --- inside a node --------------------------------------------------------------------------------------------------


def _inside(work: Callable[[Words], Any]) -> Way:
    def run(words: Words, config: Any) -> None:
        def quiet(state: State) -> State:
            return {"messages": [AIMessage(str(work(words)))]}

        graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)

    return run


def _in_a_pool(words: Words) -> Any:
    with ThreadPoolExecutor(2) as pool:
        contexts = [copy_context() for _ in range(2)]
        return [pool.submit(c.run, Chat(reply=words.said).invoke, words.told).result().text for c in contexts]


def _in_tasks(words: Words) -> Any:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(Chat(reply=words.said).ainvoke(words.told) for _ in range(2)))

    return asyncio.run(ask())


def _sequence(words: Words) -> Any:
    prompt = ChatPromptTemplate.from_messages([("user", "{topic}")])
    parallel = RunnableParallel(one=Chat(reply=words.said) | StrOutputParser(), two=RunnableLambda(str))
    return (prompt | parallel | RunnableLambda(str)).invoke({"topic": words.told})


def _cache(words: Words) -> Any:
    model = Chat(reply=words.said, cache=InMemoryCache())
    return [model.invoke(words.told).text for _ in range(2)]


def _traced(words: Words) -> Any:
    @mlflow.trace
    def helper(text: str) -> str:
        return Chat(reply=words.said).invoke(text).text

    return helper(words.told)


INSIDE: dict[str, Callable[[Words], Any]] = {
    "pool of threads": _in_a_pool,
    "tasks": _in_tasks,
    "sequence": _sequence,
    "cache": _cache,
    "traced helper": _traced,
    "generate": lambda words: Chat(reply=words.said).generate([[HumanMessage(words.told)]]).generations[0][0].text,
    "string model": lambda words: Text(reply=words.said).invoke(words.told),
    "string model generate": lambda words: Text(reply=words.said).generate([words.told]).generations[0][0].text,
    "model batch": lambda words: [a.text for a in Chat(reply=words.said).batch([words.told, "x"])],
    "model stream": lambda words: "".join(c.text for c in Chat(reply=words.said).stream(words.told)),
    "sequence stream": lambda words: "".join((Chat(reply=words.said) | StrOutputParser()).stream(words.told)),
}
for _name, _work in INSIDE.items():
    WAYS[f"in a node: {_name}"] = _inside(_work)


# --- where the handler is attached ----------------------------------------------------------------------------------


@way
def attached_twice(words: Words, config: Any) -> None:
    both(words).invoke(words.question, {**config, "callbacks": config["callbacks"] * 2})


@way
def with_config(words: Words, config: Any) -> None:
    both(words).with_config(config).invoke(words.question)


@way
def with_config_and_config(words: Words, config: Any) -> None:
    both(words).with_config(config).invoke(words.question, config)


@way
def again_in_the_node(words: Words, config: Any) -> None:
    def quiet(state: State) -> State:
        return {"messages": [Chat(reply=words.said).invoke(words.told, config)]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def in_the_constructor_too(words: Words, config: Any) -> None:
    model = Chat(reply=words.said, callbacks=config["callbacks"])

    def quiet(state: State) -> State:
        return {"messages": [model.invoke(words.told)]}

    graph(("quiet", quiet), ("after", closing(words))).invoke(words.question, config)


@way
def interleaved_streams(words: Words, config: Any) -> None:
    streams = [both(words).stream(words.question, config, stream_mode="messages") for _ in range(2)]
    for _ in range(5):
        for stream in streams:
            next(stream)
    for stream in streams:
        list(stream)


@way
def invoke_while_a_stream_is_half_read(words: Words, config: Any) -> None:
    stream = both(words).stream(words.question, config, stream_mode="messages")
    next(stream)
    both(words).invoke(words.question, config)
    list(stream)


@way
def below_a_span_of_the_users(words: Words, config: Any) -> None:
    with mlflow.start_span("request") as span:
        span.set_inputs({"question": words.told, "also": words.other})
        answer = both(words).invoke(words.question, config)
        span.set_outputs({"answer": str(answer)})


@way
def in_threads(words: Words, config: Any) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: both(words).invoke(words.question, config), range(3)))
