"""The ways in which a program may run LangChain and LangGraph: one table, for costs, policies and likeness to autolog.

A way runs something once, with the config that it is given: one with a handler among its callbacks, or an empty one for
what works without (MLflow's autolog alone, `configure(everywhere=True)`). What is said in it, a test chooses; what it
costs, the fake models count.
"""

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
from fake_models import MINI_USD, SONNET, SONNET_USD, FakeCache, FakeChat, FakeEmbeddings, FakeText, Tally, counted
from fakes import Chat, State, Text, graph
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.cache.memory import InMemoryCache as NodeCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from leaks import kept, prose

Config = Any
"""A config of LangChain's, with callbacks or none."""

ASK: Any = {"messages": [("user", "what is new?")]}


def given(handler: Any, **more: Any) -> Any:
    return {**({"callbacks": [handler]} if handler is not None else {}), **more}


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
    def text(self) -> str:
        return f"{self.other} then {self.told}"

    @property
    def question(self) -> Any:
        return {"messages": [HumanMessage(self.text)]}


@dataclass(frozen=True)
class Way:
    run: Callable[[Words, Config], Any]
    traces: int | None = 1
    """None where LangChain does not say which runs belong together."""
    private: str | None = "quiet"
    """The node whose model is told `told` and says `said`, and no other word; None where no node is."""
    at_night: frozenset[str] = frozenset()
    """The claims, "costs" or "policies", for which other ways stand in by day."""


WAYS: dict[str, Way] = {}


def way(traces: int | None = 1, private: str | None = "quiet", at_night: str = "") -> Callable[[Any], Any]:
    def register(function: Callable[[Words, Config], Any]) -> Callable[[Words, Config], Any]:
        name = function.__name__.strip("_").replace("_", "-")
        WAYS[name] = Way(function, traces, private, frozenset(at_night.split()))
        return function

    return register


def run_way(name: str, handler: Any = None) -> Tally:
    """Run a way with a handler, or with none; what its models were paid for."""
    with counted() as tally:
        WAYS[name].run(Words(), given(handler))
    return tally


def by_day(claims: str) -> Callable[[str], bool]:
    """Whether a way is among those that try these claims at every change."""
    return lambda way: claims not in WAYS[way].at_night


# --- a graph of two nodes: one that may be private, and one that is told what was there before ---------------------


def speaking(words: Words) -> Callable[[State], State]:
    def quiet(state: State) -> State:
        get_stream_writer()({"progress": words.told})
        answer = Chat(reply=words.said).invoke([HumanMessage(f"so: {words.told}")])
        return {"messages": [AIMessage(f"it says {answer.text}")]}

    return quiet


def history_of(state: State) -> str:
    return "; ".join(str(message.text) for message in state["messages"])


def speaking_async(words: Words) -> Callable[[State], Any]:
    async def quiet(state: State) -> State:
        answer = await Chat(reply=words.said).ainvoke([HumanMessage(f"so: {words.told}")])
        return {"messages": [AIMessage(f"it says {answer.text}")]}

    return quiet


def closing(words: Words) -> Callable[[State], State]:
    def after(state: State) -> State:
        history = history_of(state)
        answer = Chat(reply=f"{words.other} indeed").invoke([HumanMessage(f"{words.other}, given {history!r}")])
        return {"messages": [answer], "extra": {"seen": history}}

    return after


def both(words: Words, *, asynchronous: bool = False, checkpointer: Any = None) -> Any:
    quiet = speaking_async(words) if asynchronous else speaking(words)
    return graph(("quiet", quiet), ("after", closing(words)), checkpointer=checkpointer)


def before(words: Words, quiet: Callable[[State], Any]) -> Any:
    """A graph whose private node is the test's."""
    return graph(("quiet", quiet), ("after", closing(words)))


# --- one graph with everything: a tool, a retriever, a parallel branch, a subgraph in a subgraph -------------------


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} means something"


def retriever() -> Any:
    store = InMemoryVectorStore(FakeEmbeddings())
    store.add_documents([Document("a document", id="d1", metadata={"source": "a book"})])
    return store.as_retriever()


def _asked(words: Words, state: State) -> Any:
    return [HumanMessage(f"{words.other}, given {history_of(state)!r}")]


def _team(words: Words) -> tuple[Any, ...]:
    mini, sonnet = Chat(reply=f"{words.other} indeed"), Chat(reply=f"{words.other}, no", model=SONNET)
    documents = retriever()

    def search(state: State) -> State:
        look_up.invoke({"word": words.other})
        documents.invoke(words.other)
        return {"messages": [mini.invoke(_asked(words, state))], "extra": {"seen": history_of(state)}}

    def research(state: State) -> State:
        return {"messages": [mini.invoke(_asked(words, state))]}

    def judge(state: State) -> State:
        return {"messages": [sonnet.invoke(_asked(words, state))]}

    return speaking(words), search, research, judge


def _team_async(words: Words) -> tuple[Any, ...]:
    mini, sonnet = Chat(reply=f"{words.other} indeed"), Chat(reply=f"{words.other}, no", model=SONNET)
    documents = retriever()

    async def search(state: State) -> State:
        await look_up.ainvoke({"word": words.other})
        await documents.ainvoke(words.other)
        return {"messages": [await mini.ainvoke(_asked(words, state))], "extra": {"seen": history_of(state)}}

    async def research(state: State) -> State:
        return {"messages": [await mini.ainvoke(_asked(words, state))]}

    async def judge(state: State) -> State:
        return {"messages": [await sonnet.ainvoke(_asked(words, state))]}

    return speaking_async(words), search, research, judge


def team_graph(words: Words | None = None, *, asynchronous: bool = False, checkpointer: Any = None) -> Any:
    """Five calls: three of MINI, two of SONNET; `plan` is the node that is told and says what may be private."""
    plan, search, research, judge = (_team_async if asynchronous else _team)(words or Words())
    team = graph(("researcher", research), ("desk", graph(("writer", judge))))
    return (
        StateGraph(State)
        .add_node("plan", plan)
        .add_node("search", search)
        .add_node("judge", judge)
        .add_node("team", team)
        .add_edge(START, "plan")
        .add_edge("plan", "search")
        .add_conditional_edges("plan", lambda _: "judge", ["judge"])
        .add_edge(["search", "judge"], "team")
        .add_edge("team", END)
        .compile(checkpointer=checkpointer)
    )


TEAM_USD = 3 * MINI_USD + 2 * SONNET_USD
TEAM_NODES = {
    "plan": MINI_USD,
    "search": MINI_USD,
    "judge": SONNET_USD,
    "team/researcher": MINI_USD,
    "team/desk/writer": SONNET_USD,
}


@way(private="plan")
def graph_invoke(words: Words, config: Config) -> Any:
    return team_graph(words).invoke(words.question, config)


@way(private="plan")
def graph_ainvoke(words: Words, config: Config) -> Any:
    return asyncio.run(team_graph(words, asynchronous=True).ainvoke(words.question, config))


@way(private="plan")
def graph_ainvoke_of_sync_nodes(words: Words, config: Config) -> Any:
    return asyncio.run(team_graph(words).ainvoke(words.question, config))


STREAM_MODES = ("values", "updates", "messages", "custom", "debug", "checkpoints", "tasks")


def _stream(mode: Any, make: Callable[..., Any] = team_graph) -> Callable[[Words, Config], Any]:
    def run(words: Words, config: Config) -> Any:
        saved = {**config, "configurable": {"thread_id": "t"}}
        streamed = make(words, checkpointer=InMemorySaver())
        return list(streamed.stream(words.question, saved, stream_mode=mode, subgraphs=True))

    return run


def _astream(mode: Any, make: Callable[..., Any] = team_graph) -> Callable[[Words, Config], Any]:
    return lambda words, config: asyncio.run(
        read(make(words, asynchronous=True).astream(words.question, config, stream_mode=mode))
    )


for _mode in ("updates", "messages"):
    WAYS[f"graph-stream-{_mode}"] = Way(_stream(_mode), private="plan")
    WAYS[f"graph-astream-{_mode}"] = Way(_astream(_mode), private="plan")
for _mode in ("values", "custom", "debug", "checkpoints", "tasks"):
    WAYS[f"stream-{_mode}"] = Way(_stream(_mode, both), at_night=frozenset({"costs"}))
    if _mode != "checkpoints":
        WAYS[f"astream-{_mode}"] = Way(_astream(_mode, both), at_night=frozenset({"costs"}))
WAYS["graph-stream-all-modes"] = Way(_stream(list(STREAM_MODES)), private="plan")


@way(private="plan")
def graph_astream_events(words: Words, config: Config) -> Any:
    streamed = team_graph(words, asynchronous=True)
    return asyncio.run(read(streamed.astream_events(words.question, config, version="v2")))


@way(traces=2, private="plan")
def graph_batch(words: Words, config: Config) -> Any:
    return team_graph(words).batch([words.question] * 2, config)


@way(traces=2, private="plan")
def graph_abatch(words: Words, config: Config) -> Any:
    return asyncio.run(team_graph(words, asynchronous=True).abatch([words.question] * 2, config))


@way(traces=2, at_night="costs")
def batch_as_completed(words: Words, config: Config) -> Any:
    return list(both(words).batch_as_completed([words.question] * 2, config))


@way(traces=3, private="plan")
def graph_in_threads(words: Words, config: Config) -> Any:
    shared = team_graph(words)
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: shared.invoke(words.question, config), range(3)))


@way(traces=3, at_night="policies", private="plan")
def graph_in_tasks(words: Words, config: Config) -> Any:
    async def run() -> Any:
        shared = team_graph(words, asynchronous=True)
        return await asyncio.gather(*(shared.ainvoke(words.question, config) for _ in range(3)))

    return asyncio.run(run())


@way(traces=2, at_night="policies", private="plan")
def graph_twice_in_a_thread(words: Words, config: Config) -> Any:
    saved = {**config, "configurable": {"thread_id": "t"}}
    shared = team_graph(words)
    return [shared.invoke(words.question, saved) for _ in range(2)]


# --- LangGraph's other forms ---------------------------------------------------------------------------------------


class Fan(TypedDict, total=False):
    topics: list[str]
    topic: str
    found: Annotated[list[str], operator.add]


@way()
def send(words: Words, config: Config) -> Any:
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
    return builder.compile().invoke({"topics": [words.told, f"again {words.told}"]}, config)


@way(at_night="costs")
def subgraph(words: Words, config: Config) -> Any:
    return before(words, graph(("inside", speaking(words)))).invoke(words.question, config)


@way(at_night="costs")
def subgraph_streamed(words: Words, config: Config) -> Any:
    outer = before(words, graph(("inside", speaking(words))))
    return list(outer.stream(words.question, config, stream_mode=["messages", "values"], subgraphs=True))


@way(at_night="costs")
def subgraph_called_in_a_node(words: Words, config: Config) -> Any:
    inner = graph(("inside", speaking(words)))

    def quiet(state: State) -> Any:
        return {"messages": inner.invoke(state)["messages"][-1:]}

    return before(words, quiet).invoke(words.question, config)


@way()
def functional(words: Words, config: Config) -> Any:
    @task
    def quiet(topic: str) -> str:
        return Chat(reply=words.said).invoke(topic).text

    @entrypoint()
    def flow(topics: list[str]) -> str:
        found = [future.result() for future in [quiet(topic) for topic in topics]]
        return Chat(reply=words.other).invoke(f"{words.other} {found}").text

    runnable: Any = flow
    return runnable.invoke([words.told, f"again {words.told}"], config)


@way(at_night="costs")
def functional_async(words: Words, config: Config) -> Any:
    @task
    async def quiet(topic: str) -> str:
        return (await Chat(reply=words.said).ainvoke(topic)).text

    @entrypoint()
    async def flow(topic: str) -> str:
        found = await quiet(topic)
        return (await Chat(reply=words.other).ainvoke(f"{words.other} {found}")).text

    runnable: Any = flow
    return asyncio.run(runnable.ainvoke(words.told, config))


@way(at_night="costs")
def goto(words: Words, config: Config) -> Any:
    def quiet(state: State) -> Command[Any]:
        answer = Chat(reply=words.said).invoke(words.told)
        return Command(goto="after", update={"messages": [answer]})

    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", quiet, destinations=("after",)).add_node("after", closing(words))
    return builder.add_edge(START, "quiet").compile().invoke(words.question, config)


@way(at_night="costs")
def goto_in_the_parent_graph(words: Words, config: Config) -> Any:
    def inside(state: State) -> Command[Any]:
        answer = Chat(reply=words.said).invoke(words.told)
        return Command(goto="after", graph=Command.PARENT, update={"messages": [answer]})

    inner = graph(("inside", inside))
    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", inner, destinations=("after",)).add_node("after", closing(words))
    return builder.add_edge(START, "quiet").compile().invoke(words.question, config)


@way(traces=2)
def interrupt_and_resume(words: Words, config: Config) -> Any:
    def quiet(state: State) -> Any:
        answer = Chat(reply=words.said).invoke(words.told)
        reply = interrupt({"ask": f"may I say {answer.text}?"})
        return {"messages": [AIMessage(f"{reply} {answer.text}")]}

    asking = graph(("quiet", quiet), ("after", closing(words)), checkpointer=InMemorySaver())
    saved = {**config, "configurable": {"thread_id": "t"}}
    asking.invoke(words.question, saved)
    return asking.invoke(Command(resume=f"yes, {words.told}"), saved)


@way(at_night="costs")
def cached_node(words: Words, config: Config) -> Any:
    builder: Any = StateGraph(State)
    builder = builder.add_node("quiet", speaking(words), cache_policy=CachePolicy(key_func=lambda *_: b"k"))
    builder.add_node("after", closing(words)).add_edge(START, "quiet").add_edge("quiet", "after").add_edge("after", END)
    return builder.compile(cache=NodeCache()).invoke(words.question, config)


# --- agents ---------------------------------------------------------------------------------------------------------


def any_agent(model: Any, *tools: Any, **more: Any) -> Any:
    return create_agent(model, list(tools), **more)


def calling(name: str, arguments: dict[str, Any], words: Words) -> Chat:
    """A model that calls a tool, and says something when it has the result."""

    def reply(messages: list[Any]) -> AIMessage:
        if any(message.type == "tool" for message in messages):
            return AIMessage(words.said)
        return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "1"}])

    return Chat(reply=reply)


@way(private=None)
def agent(words: Words, config: Config) -> Any:
    return any_agent(calling("look_up", {"word": words.told}, words), look_up).invoke(words.question, config)


@way(private=None, at_night="policies")
def agent_async(words: Words, config: Config) -> Any:
    model = calling("look_up", {"word": words.told}, words)
    return asyncio.run(any_agent(model, look_up).ainvoke(words.question, config))


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


def _agent_in_a_node(words: Words) -> Any:
    inner = any_agent(calling("look_up", {"word": words.told}, words), look_up, middleware=[Watching()])

    def quiet(state: State) -> Any:
        # Not the whole state: what its model is told is private, the others' words too.
        return {"messages": inner.invoke({"messages": [HumanMessage(words.told)]})["messages"][1:]}

    return before(words, quiet)


@way()
def agent_with_middleware(words: Words, config: Config) -> Any:
    return _agent_in_a_node(words).invoke(words.question, config)


@way()
def agent_streamed(words: Words, config: Config) -> Any:
    return list(_agent_in_a_node(words).stream(words.question, config, stream_mode="messages", subgraphs=True))


@way(private=None, at_night="policies")
def graph_in_a_tool(words: Words, config: Config) -> Any:
    def write(state: State) -> State:
        return {"messages": [Chat(model=SONNET, reply=words.other).invoke(state["messages"])]}

    inner = graph(("write", write))

    @tool
    def report(topic: str) -> str:
        """Write a report."""
        return str(inner.invoke({"messages": [("user", topic)]})["messages"][-1].content)

    return any_agent(calling("report", {"topic": words.told}, words), report).invoke(words.question, config)


# --- failures and ends ----------------------------------------------------------------------------------------------


@way()
def node_retry(words: Words, config: Config) -> Any:
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
    return builder.add_edge(START, "quiet").add_edge("quiet", "after").compile().invoke(words.question, config)


@way()
def with_retry(words: Words, config: Config) -> Any:
    model = FakeChat(answers=[ConnectionError(f"cannot answer {words.told}"), words.said])
    retrying = model.with_retry(wait_exponential_jitter=False, stop_after_attempt=3)
    return before(words, lambda _: {"messages": [retrying.invoke(words.told)]}).invoke(words.question, config)


@way()
def with_fallbacks(words: Words, config: Config) -> Any:
    broken = Chat(reply=ConnectionError(f"cannot answer {words.told}"))
    model = broken.with_fallbacks([Chat(reply=words.said, model=SONNET)])
    return before(words, lambda _: {"messages": [model.invoke(words.told)]}).invoke(words.question, config)


@way(at_night="costs")
def error_out_of_the_graph(words: Words, config: Config) -> Any:
    def quiet(state: State) -> State:
        answer = Chat(reply=words.said).invoke(words.told)
        raise ValueError(f"{words.told} gave {answer.text}")

    def first(state: State) -> State:
        Chat(reply=words.other).invoke(words.other)
        return {}

    with contextlib.suppress(ValueError):
        graph(("before", first), ("quiet", quiet)).invoke(words.question, config)


@way(at_night="costs")
def error_quoted_by_a_later_node(words: Words, config: Config) -> Any:
    def after(state: State) -> State:
        Chat(reply=words.other).invoke(words.other)
        raise LookupError(f"no {state['messages'][-1].text}")

    with contextlib.suppress(LookupError):
        graph(("quiet", speaking(words)), ("after", after)).invoke(words.question, config)


@way(at_night="costs")
def stream_closed_early(words: Words, config: Config) -> Any:
    stream = both(words).stream(words.question, config, stream_mode="updates")
    next(stream)
    stream.close()


@way(at_night="costs")
def stream_of_messages_closed_early(words: Words, config: Config) -> Any:
    stream = both(words).stream(words.question, config, stream_mode="messages")
    for _ in range(6):
        next(stream)
    stream.close()


@way()
def async_stream_closed_early(words: Words, config: Config) -> Any:
    async def run() -> None:
        stream = both(words, asynchronous=True).astream(words.question, config, stream_mode="messages")
        for _ in range(6):
            await anext(stream)
        await stream.aclose()

    asyncio.run(run())


@way()
def model_stream_closed_early_in_a_node(words: Words, config: Config) -> Any:
    def quiet(state: State) -> State:
        stream: Any = Chat(reply=words.said).stream(words.told)
        # As much as holds an address that is to be recognised, and not the end, which tells the usage.
        first = "".join(next(stream).text for _ in range(5))
        stream.close()
        return {"messages": [AIMessage(first)]}

    return before(words, quiet).invoke(words.question, config)


@way()
def cancelled(words: Words, config: Config) -> Any:
    async def run() -> None:
        ready = asyncio.Event()

        async def quiet(state: State) -> State:
            with mlflow.start_span("own") as span:
                span.set_inputs(words.told)
                await Chat(reply=words.said).ainvoke(words.told)
                ready.set()
                await asyncio.Event().wait()
            return {}

        async def first(state: State) -> State:
            await Chat(reply=words.other).ainvoke(words.other)
            return {}

        running = asyncio.ensure_future(graph(("before", first), ("quiet", quiet)).ainvoke(words.question, config))
        await ready.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())


@way(traces=2)
def interleaved_streams(words: Words, config: Config) -> Any:
    streams = [both(words).stream(words.question, config, stream_mode="messages") for _ in range(2)]
    for _ in range(5):
        for stream in streams:
            next(stream)
    return [list(stream) for stream in streams]


@way(traces=2, at_night="costs")
def invoke_while_a_stream_is_half_read(words: Words, config: Config) -> Any:
    stream = both(words).stream(words.question, config, stream_mode="messages")
    next(stream)
    return [both(words).invoke(words.question, config), list(stream)]


@way()
def below_a_span_of_the_users(words: Words, config: Config) -> Any:
    with mlflow.start_span("request") as span:
        span.set_inputs({"question": words.told, "also": words.other})
        answer = both(words).invoke(words.question, config)
        span.set_outputs({"answer": str(answer)})


# --- a model in a node ----------------------------------------------------------------------------------------------


def one_node(body: Callable[[MessagesState], Any]) -> Any:
    def node(state: MessagesState) -> Any:
        body(state)
        return {"messages": []}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


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
    model = Chat(reply=words.said, cache=FakeCache())
    return [model.invoke(words.told).text for _ in range(3)]


def _cache_generated(words: Words) -> Any:
    model = Chat(reply=words.said, cache=FakeCache())
    return [generated(model, words.told) for _ in range(3)]


def _traced(words: Words) -> Any:
    @mlflow.trace
    def helper(text: str) -> str:
        return Chat(reply=words.said).invoke(text).text

    return helper(words.told)


def generated(model: Any, *texts: str) -> Any:
    return [[each.text for each in one] for one in model.generate([[HumanMessage(text)] for text in texts]).generations]


INSIDE: dict[str, Callable[[Words], Any]] = {
    "pool-of-threads": _in_a_pool,
    "tasks": _in_tasks,
    "sequence": _sequence,
    "llm-cache": _cache,
    "llm-cache-generated": _cache_generated,
    "traced-helper": _traced,
    "many-answers": lambda words: FakeChat(n=3, answers=[words.said]).invoke(words.told).text,
    "many-answers-generated": lambda words: generated(FakeChat(n=3, answers=[words.said]), words.told),
    "generate": lambda words: generated(Chat(reply=words.said), words.told, "x"),
    "string-model": lambda words: FakeText(reply=words.said).invoke(words.told),
    "string-model-without-usage": lambda words: Text(reply=words.said).generate([words.told]).generations[0][0].text,
    "model-batch": lambda words: [a.text for a in Chat(reply=words.said).batch([words.told, "x", "y"])],
    "model-stream": lambda words: "".join(c.text for c in Chat(reply=words.said).stream(words.told)),
    "sequence-stream": lambda words: "".join((Chat(reply=words.said) | StrOutputParser()).stream(words.told)),
}


def _inside(work: Callable[[Words], Any]) -> Callable[[Words, Config], Any]:
    return lambda words, config: before(words, lambda _: {"messages": [AIMessage(str(work(words)))]}).invoke(
        words.question, config
    )


_NIGHT = {
    "many-answers": "policies",
    "many-answers-generated": "policies",
    "llm-cache-generated": "policies",
    "pool-of-threads": "costs",
    "tasks": "costs",
    "sequence": "costs",
    "string-model": "costs",
    "model-stream": "costs",
    "traced-helper": "costs",
}
for _name, _work in INSIDE.items():
    WAYS[f"in-a-node-{_name}"] = Way(_inside(_work), at_night=frozenset({_NIGHT.get(_name, "")}))


# --- no graph -------------------------------------------------------------------------------------------------------


def prompted(*steps: Any) -> Any:
    chain: Any = ChatPromptTemplate.from_messages([("user", "{topic}")])
    for step in (*steps, StrOutputParser()):
        chain = chain | step
    return chain


def _parallel(words: Words) -> Any:
    one, two = Chat(reply=words.said) | StrOutputParser(), Chat(reply=words.other, model=SONNET) | StrOutputParser()
    return prompted(RunnableParallel(one=one, two=two), RunnableLambda(str), Chat(reply=words.other))


@way(traces=2, private=None, at_night="policies")
def bare_model(words: Words, config: Config) -> Any:
    model = FakeChat(answers=[words.said])
    return [model.invoke(words.text, config), asyncio.run(model.ainvoke(words.text, config))]


@way(traces=2, private=None, at_night="policies")
def bare_model_stream(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said)
    asyncio.run(read(model.astream(words.text, config)))
    return list(model.stream(words.text, config))


@way(traces=2, private=None, at_night="policies")
def string_model(words: Words, config: Config) -> Any:
    model = FakeText(reply=words.said)
    return [model.invoke(words.text, config), asyncio.run(model.ainvoke(words.text, config))]


@way(traces=None, private=None, at_night="policies")
def generate_with_callbacks(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said)
    return model.generate([[HumanMessage(words.text)], [HumanMessage("x")]], callbacks=config.get("callbacks"))


@way(private=None, at_night="policies")
def sequence(words: Words, config: Config) -> Any:
    return _parallel(words).invoke({"topic": words.told}, config)


@way(private=None, at_night="policies")
def sequence_async(words: Words, config: Config) -> Any:
    return asyncio.run(_parallel(words).ainvoke({"topic": words.told}, config))


@way(private=None, at_night="policies")
def sequence_stream(words: Words, config: Config) -> Any:
    return list(prompted(Chat(reply=words.said)).stream({"topic": words.text}, config))


@way(traces=2, private=None, at_night="policies")
def sequence_batch(words: Words, config: Config) -> Any:
    return prompted(Chat(reply=words.said)).batch([{"topic": words.text}, {"topic": "x"}], config)


@way(traces=2, private=None, at_night="policies")
def sequence_abatch(words: Words, config: Config) -> Any:
    return asyncio.run(prompted(Chat(reply=words.said)).abatch([{"topic": words.text}, {"topic": "x"}], config))


# --- the handler in other places than `config` ---------------------------------------------------------------------


def callbacks_of(config: Config) -> Any:
    """For a constructor."""
    return {key: value for key, value in config.items() if key == "callbacks"}


@way()
def handler_twice(words: Words, config: Config) -> Any:
    twice = {key: value * 2 for key, value in callbacks_of(config).items()}
    return both(words).invoke(words.question, twice)


@way()
def handler_in_with_config(words: Words, config: Config) -> Any:
    return both(words).with_config(config).invoke(words.question)


@way()
def handler_in_with_config_and_config(words: Words, config: Config) -> Any:
    return both(words).with_config(config).invoke(words.question, config)


@way()
def handler_again_in_a_node(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said)
    return before(words, lambda _: {"messages": [model.invoke(words.told, config)]}).invoke(words.question, config)


@way()
def handler_in_config_and_constructor(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said, **callbacks_of(config))
    return before(words, lambda _: {"messages": [model.invoke(words.told)]}).invoke(words.question, config)


@way(private=None, at_night="policies")
def handler_in_a_models_constructor(words: Words, config: Config) -> Any:
    return Chat(reply=words.said, **callbacks_of(config)).invoke(words.text)


@way(at_night="policies")
def handler_in_a_models_constructor_below_a_graph(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said, **callbacks_of(config))
    return graph(("quiet", lambda _: {"messages": [model.invoke(words.told)]})).invoke(words.question)


@way(private=None)
def handler_in_a_tools_constructor(words: Words, config: Config) -> Any:
    model = Chat(reply=words.said)

    @tool
    def summarise(topic: str) -> str:
        """Summarise."""
        return str(model.invoke(topic).content)

    summarise.callbacks = config.get("callbacks")
    return summarise.invoke({"topic": words.text})


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


RUN: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda graph, config: graph.invoke(ASK, config),
    "ainvoke": lambda graph, config: asyncio.run(graph.ainvoke(ASK, config)),
    "stream": lambda graph, config: list(graph.stream(ASK, config)),
    "astream": lambda graph, config: asyncio.run(read(graph.astream(ASK, config))),
    "batch": lambda graph, config: graph.batch([ASK], config),
}
"""How a graph is called: given it and a config, once each."""
