"""Ways of running LangChain and LangGraph, each with what its calls cost.

A way gets a handler, or None for MLflow's autolog alone, and runs something once. The span tree must be the same
either way.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypedDict

from fake_models import MINI_USD, SONNET, SONNET_USD, FakeChat, FakeEmbeddings, FakeStream, FakeText, tool_call
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send

ASK: Any = {"messages": [("user", "what is new?")]}


@dataclass(frozen=True)
class Way:
    run: Callable[[Any], Any]
    calls: int
    usd: Decimal
    cached: int = 0
    traces: int | None = 1
    """None where LangChain does not say which runs belong together."""


WAYS: dict[str, Way] = {}


def way(calls: int, usd: Decimal, **more: Any) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def register(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        WAYS[function.__name__.replace("_", "-")] = Way(function, calls, usd, **more)
        return function

    return register


def given(handler: Any, **more: Any) -> Any:
    return {**({"callbacks": [handler]} if handler is not None else {}), **more}


# --- one graph with everything: a tool, a retriever, a parallel branch, a subgraph in a subgraph -------------------


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} means something"


def retriever() -> Any:
    store = InMemoryVectorStore(FakeEmbeddings())
    store.add_documents([Document("a document", id="d1", metadata={"source": "a book"})])
    return store.as_retriever()


def team_graph(chat: type[FakeChat] = FakeChat, *, asynchronous: bool = False) -> Any:
    """Five calls: three of MINI, two of SONNET."""
    mini, sonnet = chat(), chat(model=SONNET)
    documents = retriever()

    def plan(state: MessagesState) -> Any:
        return {"messages": [mini.invoke(state["messages"])]}

    def search(state: MessagesState) -> Any:
        look_up.invoke({"word": "news"})
        documents.invoke("news")
        return {"messages": [mini.invoke(state["messages"])]}

    def judge(state: MessagesState) -> Any:
        return {"messages": [sonnet.invoke(state["messages"])]}

    async def plan_async(state: MessagesState) -> Any:
        return {"messages": [await mini.ainvoke(state["messages"])]}

    async def search_async(state: MessagesState) -> Any:
        await look_up.ainvoke({"word": "news"})
        await documents.ainvoke("news")
        return {"messages": [await mini.ainvoke(state["messages"])]}

    async def judge_async(state: MessagesState) -> Any:
        return {"messages": [await sonnet.ainvoke(state["messages"])]}

    plan_node, search_node, judge_node = (
        (plan_async, search_async, judge_async) if asynchronous else (plan, search, judge)
    )
    inner = StateGraph(MessagesState).add_node("writer", judge_node).add_edge(START, "writer").compile()
    team = (
        StateGraph(MessagesState)
        .add_node("researcher", plan_node)
        .add_node("desk", inner)
        .add_edge(START, "researcher")
        .add_edge("researcher", "desk")
        .compile()
    )
    return (
        StateGraph(MessagesState)
        .add_node("plan", plan_node)
        .add_node("search", search_node)
        .add_node("judge", judge_node)
        .add_node("team", team)
        .add_edge(START, "plan")
        .add_edge("plan", "search")
        .add_conditional_edges("plan", lambda _: "judge", ["judge"])
        .add_edge(["search", "judge"], "team")
        .add_edge("team", END)
        .compile()
    )


TEAM_USD = 3 * MINI_USD + 2 * SONNET_USD
TEAM_NODES = {
    "plan": MINI_USD,
    "search": MINI_USD,
    "judge": SONNET_USD,
    "team/researcher": MINI_USD,
    "team/desk/writer": SONNET_USD,
}


@way(5, TEAM_USD)
def graph_invoke(handler: Any) -> Any:
    return team_graph().invoke(ASK, given(handler))


@way(5, TEAM_USD)
def graph_ainvoke(handler: Any) -> Any:
    return asyncio.run(team_graph(asynchronous=True).ainvoke(ASK, given(handler)))


@way(5, TEAM_USD)
def graph_ainvoke_of_sync_nodes(handler: Any) -> Any:
    return asyncio.run(team_graph().ainvoke(ASK, given(handler)))


@way(5, TEAM_USD)
def graph_stream(handler: Any) -> Any:
    return list(team_graph().stream(ASK, given(handler)))


@way(5, TEAM_USD)
def graph_stream_messages(handler: Any) -> Any:
    return list(team_graph(FakeStream).stream(ASK, given(handler), stream_mode="messages", subgraphs=True))


@way(5, TEAM_USD)
def graph_stream_many_modes(handler: Any) -> Any:
    modes = ["values", "updates", "messages", "custom", "debug"]
    return list(team_graph(FakeStream).stream(ASK, given(handler), stream_mode=modes))


@way(5, TEAM_USD)
def graph_astream(handler: Any) -> Any:
    async def run() -> Any:
        return [part async for part in team_graph(asynchronous=True).astream(ASK, given(handler))]

    return asyncio.run(run())


@way(5, TEAM_USD)
def graph_astream_messages(handler: Any) -> Any:
    async def run() -> Any:
        graph = team_graph(FakeStream, asynchronous=True)
        return [part async for part in graph.astream(ASK, given(handler), stream_mode="messages")]

    return asyncio.run(run())


@way(5, TEAM_USD)
def graph_astream_events(handler: Any) -> Any:
    async def run() -> Any:
        graph = team_graph(FakeStream, asynchronous=True)
        return [event async for event in graph.astream_events(ASK, given(handler), version="v2")]

    return asyncio.run(run())


@way(10, 2 * TEAM_USD, traces=2)
def graph_batch(handler: Any) -> Any:
    return team_graph().batch([ASK, ASK], given(handler))


@way(10, 2 * TEAM_USD, traces=2)
def graph_abatch(handler: Any) -> Any:
    return asyncio.run(team_graph(asynchronous=True).abatch([ASK, ASK], given(handler)))


@way(15, 3 * TEAM_USD, traces=3)
def graph_in_threads(handler: Any) -> Any:
    graph = team_graph()
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: graph.invoke(ASK, given(handler)), range(3)))


@way(15, 3 * TEAM_USD, traces=3)
def graph_in_tasks(handler: Any) -> Any:
    async def run() -> Any:
        graph = team_graph(asynchronous=True)
        return await asyncio.gather(*(graph.ainvoke(ASK, given(handler)) for _ in range(3)))

    return asyncio.run(run())


@way(10, 2 * TEAM_USD, traces=2)
def graph_twice_in_a_thread(handler: Any) -> Any:
    graph = team_graph()
    return [graph.invoke(ASK, given(handler, configurable={"thread_id": "t"})) for _ in range(2)]


# --- LangGraph's other forms ---------------------------------------------------------------------------------------


class Topics(TypedDict, total=False):
    topics: list[str]
    topic: str
    found: Annotated[list[str], operator.add]


@way(3, 3 * MINI_USD)
def send(handler: Any) -> Any:
    model = FakeChat()

    def work(state: Topics) -> Any:
        return {"found": [model.invoke(state["topic"]).content]}

    graph: Any = (
        StateGraph(Topics)
        .add_node("work", work)
        .add_conditional_edges(START, lambda state: [Send("work", {"topic": t}) for t in state["topics"]], ["work"])
        .compile()
    )
    return graph.invoke({"topics": ["a", "b", "c"]}, given(handler))


@way(3, 3 * MINI_USD)
def functional(handler: Any) -> Any:
    model = FakeChat()

    @task
    def work(topic: str) -> str:
        return str(model.invoke(topic).content)

    @entrypoint()
    def flow(topics: list[str]) -> list[str]:
        return [future.result() for future in [work(topic) for topic in topics]]

    runnable: Any = flow
    return runnable.invoke(["a", "b", "c"], given(handler))


def any_agent(model: Any, *tools: Any) -> Any:
    return create_agent(model, list(tools))


@way(2, 2 * MINI_USD)
def agent(handler: Any) -> Any:
    model = FakeChat(answers=[tool_call("look_up", word="news"), "done"])
    return any_agent(model, look_up).invoke(ASK, given(handler))


@way(2, 2 * MINI_USD)
def agent_async(handler: Any) -> Any:
    model = FakeChat(answers=[tool_call("look_up", word="news"), "done"])
    return asyncio.run(any_agent(model, look_up).ainvoke(ASK, given(handler)))


@way(2, 2 * MINI_USD)
def agent_streamed(handler: Any) -> Any:
    model = FakeStream(answers=[tool_call("look_up", word="news"), "done and done"])
    return list(any_agent(model, look_up).stream(ASK, given(handler), stream_mode="messages"))


@way(3, 2 * MINI_USD + SONNET_USD)
def graph_in_a_tool(handler: Any) -> Any:
    def write(state: MessagesState) -> Any:
        return {"messages": [FakeChat(model=SONNET).invoke(state["messages"])]}

    inner: Any = StateGraph(MessagesState).add_node("write", write).add_edge(START, "write").compile()

    @tool
    def report(topic: str) -> str:
        """Write a report."""
        return str(inner.invoke({"messages": [("user", topic)]})["messages"][-1].content)

    model = FakeChat(answers=[tool_call("report", topic="news"), "done"])
    return any_agent(model, report).invoke(ASK, given(handler))


@way(2, 2 * MINI_USD)
def node_retry(handler: Any) -> Any:
    model, attempts = FakeChat(), []

    def flaky(state: MessagesState) -> Any:
        answer = model.invoke(state["messages"])
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("the first attempt")
        return {"messages": [answer]}

    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    graph: Any = (
        StateGraph(MessagesState).add_node("flaky", flaky, retry_policy=policy).add_edge(START, "flaky").compile()
    )
    return graph.invoke(ASK, given(handler))


def one_node(body: Callable[[MessagesState], Any]) -> Any:
    def node(state: MessagesState) -> Any:
        body(state)
        return {"messages": []}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


# --- a model in a node ---------------------------------------------------------------------------------------------


@way(1, MINI_USD)
def with_retry(handler: Any) -> Any:
    model = FakeChat(answers=[ConnectionError("the first attempt"), "done"])
    retrying = model.with_retry(wait_exponential_jitter=False, stop_after_attempt=3)
    return one_node(lambda state: retrying.invoke(state["messages"])).invoke(ASK, given(handler))


@way(1, SONNET_USD)
def with_fallbacks(handler: Any) -> Any:
    model = FakeChat(answers=[ConnectionError("always")]).with_fallbacks([FakeChat(model=SONNET)])
    return one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))


@way(3, MINI_USD, cached=2)
def llm_cache(handler: Any) -> Any:
    model = FakeChat(cache=InMemoryCache())
    return one_node(lambda state: [model.invoke(state["messages"]) for _ in range(3)]).invoke(ASK, given(handler))


@way(1, MINI_USD)
def many_answers(handler: Any) -> Any:
    model = FakeChat(n=3)
    return one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))


@way(1, MINI_USD)
def many_answers_generated(handler: Any) -> Any:
    model = FakeChat(n=3)
    return one_node(lambda state: model.generate([list[BaseMessage](state["messages"])])).invoke(ASK, given(handler))


@way(3, MINI_USD, cached=2)
def llm_cache_generated(handler: Any) -> Any:
    model = FakeChat(cache=InMemoryCache())
    return one_node(lambda state: [model.generate([list[BaseMessage](state["messages"])]) for _ in range(3)]).invoke(
        ASK, given(handler)
    )


@way(2, 2 * MINI_USD)
def generate(handler: Any) -> Any:
    model = FakeChat()
    return one_node(lambda _: model.generate([[HumanMessage("a")], [HumanMessage("b")]])).invoke(ASK, given(handler))


@way(2, 2 * MINI_USD, traces=None)
def generate_with_callbacks(handler: Any) -> Any:
    return FakeChat().generate(
        [[HumanMessage("a")], [HumanMessage("b")]], callbacks=[handler] if handler is not None else None
    )


@way(3, 3 * MINI_USD)
def model_batch(handler: Any) -> Any:
    model = FakeChat()
    return one_node(lambda _: model.batch(["a", "b", "c"])).invoke(ASK, given(handler))


@way(2, 2 * MINI_USD, traces=2)
def bare_model(handler: Any) -> Any:
    model = FakeChat()
    return [model.invoke("hi", given(handler)), asyncio.run(model.ainvoke("hi", given(handler)))]


@way(2, 2 * MINI_USD, traces=2)
def bare_model_stream(handler: Any) -> Any:
    model = FakeStream()

    async def run() -> Any:
        return [part async for part in model.astream("hi", given(handler))]

    return [list(model.stream("hi", given(handler))), asyncio.run(run())]


@way(2, 2 * MINI_USD, traces=2)
def string_model(handler: Any) -> Any:
    model = FakeText()
    return [model.invoke("hi", given(handler)), asyncio.run(model.ainvoke("hi", given(handler)))]


@way(3, 2 * MINI_USD + SONNET_USD)
def sequence(handler: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("user", "{topic}")])
    both = RunnableParallel(one=FakeChat() | StrOutputParser(), two=FakeChat(model=SONNET) | StrOutputParser())
    chain = prompt | both | RunnableLambda(str) | FakeChat() | StrOutputParser()
    return chain.invoke({"topic": "news"}, given(handler))


@way(3, 2 * MINI_USD + SONNET_USD)
def sequence_async(handler: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("user", "{topic}")])
    both = RunnableParallel(one=FakeChat() | StrOutputParser(), two=FakeChat(model=SONNET) | StrOutputParser())
    chain = prompt | both | RunnableLambda(str) | FakeChat() | StrOutputParser()
    return asyncio.run(chain.ainvoke({"topic": "news"}, given(handler)))


@way(1, MINI_USD)
def sequence_stream(handler: Any) -> Any:
    chain = ChatPromptTemplate.from_messages([("user", "{topic}")]) | FakeStream() | StrOutputParser()
    return list(chain.stream({"topic": "news"}, given(handler)))


@way(2, 2 * MINI_USD, traces=2)
def sequence_batch(handler: Any) -> Any:
    chain = ChatPromptTemplate.from_messages([("user", "{topic}")]) | FakeChat() | StrOutputParser()
    return chain.batch([{"topic": "a"}, {"topic": "b"}], given(handler))


@way(2, 2 * MINI_USD, traces=2)
def sequence_abatch(handler: Any) -> Any:
    chain = ChatPromptTemplate.from_messages([("user", "{topic}")]) | FakeChat() | StrOutputParser()
    return asyncio.run(chain.abatch([{"topic": "a"}, {"topic": "b"}], given(handler)))


# --- the handler in other places than `config` ---------------------------------------------------------------------


@way(5, TEAM_USD)
def handler_twice(handler: Any) -> Any:
    return team_graph().invoke(ASK, {"callbacks": [handler, handler]} if handler is not None else {})


@way(5, TEAM_USD)
def handler_in_with_config(handler: Any) -> Any:
    return team_graph().with_config(given(handler)).invoke(ASK)


@way(5, TEAM_USD)
def handler_in_with_config_and_config(handler: Any) -> Any:
    return team_graph().with_config(given(handler)).invoke(ASK, given(handler))


@way(1, MINI_USD)
def handler_again_in_a_node(handler: Any) -> Any:
    model = FakeChat()
    return one_node(lambda state: model.invoke(state["messages"], given(handler))).invoke(ASK, given(handler))


@way(1, MINI_USD)
def handler_in_config_and_constructor(handler: Any) -> Any:
    model = FakeChat(**given(handler))
    return one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))


@way(1, MINI_USD)
def handler_in_a_models_constructor(handler: Any) -> Any:
    return FakeChat(**given(handler)).invoke("hi")


@way(1, MINI_USD)
def handler_in_a_models_constructor_below_a_graph(handler: Any) -> Any:
    model = FakeChat(**given(handler))
    return one_node(lambda state: model.invoke(state["messages"])).invoke(ASK)


@way(1, MINI_USD)
def handler_in_a_tools_constructor(handler: Any) -> Any:
    model = FakeChat()

    @tool
    def summarise(topic: str) -> str:
        """Summarise."""
        return str(model.invoke(topic).content)

    summarise.callbacks = [handler] if handler is not None else None
    return summarise.invoke({"topic": "news"})


@way(2, 2 * MINI_USD, traces=2)
def interrupt_and_resume(handler: Any) -> Any:
    from langgraph.types import Command, interrupt

    model = FakeChat()

    def ask(state: MessagesState) -> Any:
        answer = model.invoke(state["messages"])
        interrupt("go on?")
        return {"messages": [answer]}

    graph: Any = (
        StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    )
    config = given(handler, configurable={"thread_id": "t"})
    graph.invoke(ASK, config)
    return graph.invoke(Command(resume="yes"), config)


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
