"""The graphs that are measured, with a model that answers from memory.

A graph is compiled once. `prepare` makes the texts of one invocation, outside the clock; what it returns
runs the graph once with the given callbacks.
"""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias, TypedDict

from langchain_core.language_models.chat_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from texts import Texts

MESSAGE_CHARS: Final = 2_000

Run: TypeAlias = Callable[[list[Any]], None]
Prepare: TypeAlias = Callable[[Texts], Run]


@dataclass(frozen=True, slots=True)
class Graph:
    """A workload. To add one: a row in GRAPHS."""

    build: Callable[[], Prepare]
    about: str
    traces: int = 1
    """Invocations, and so traces, in one run."""


class ScriptedModel(BaseChatModel):
    """Answers with the next of its replies, under a name and with a usage that can be priced."""

    replies: deque[AIMessage]
    model: str = "gpt-4o-mini"

    @property
    def _llm_type(self) -> str:
        return "openai-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "openai"
        params["ls_model_name"] = self.model
        return params

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        generation = ChatGeneration(message=self.replies.popleft())
        return ChatResult(generations=[generation], llm_output={"model_name": self.model})

    async def _agenerate(self, *_: Any, **__: Any) -> ChatResult:
        # One turn of the loop, so that the concurrent graphs really interleave.
        await asyncio.sleep(0)
        return self._generate()

    def _stream(self, *_: Any, run_manager: Any = None, **__: Any) -> Iterator[Any]:
        for chunk in _chunks(self.replies.popleft()):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(self, *_: Any, run_manager: Any = None, **__: Any) -> AsyncIterator[Any]:
        for chunk in _chunks(self.replies.popleft()):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def _chunks(reply: AIMessage) -> Iterator[ChatGenerationChunk]:
    """The reply in tokens of five characters, the usage in a last chunk without text, as OpenAI sends it."""
    text = reply.text
    for start in range(0, len(text), 5):
        yield ChatGenerationChunk(message=AIMessageChunk(content=text[start : start + 5]))
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="", usage_metadata=reply.usage_metadata, response_metadata=reply.response_metadata
        )
    )


def reply(text: str, prompt_chars: int, tool_calls: list[dict[str, Any]] | None = None) -> AIMessage:
    """A message as a provider's client returns it, with its usage."""
    input_tokens, output_tokens = prompt_chars // 4, max(len(text) // 4, 1)
    return AIMessage(
        content=text,
        tool_calls=tool_calls or [],
        response_metadata={
            "model_name": "gpt-4o-mini-2024-07-18",
            "model_provider": "openai",
            "finish_reason": "tool_calls" if tool_calls else "stop",
        },
        usage_metadata={
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    )


def _config(callbacks: list[Any]) -> dict[str, Any]:
    return {"callbacks": callbacks, "recursion_limit": 1_000}


def in_a_row(state: type, node: Any, nodes: int) -> Any:
    """A compiled graph of so many times the same node, `step_1` and so on."""
    builder = StateGraph(state)
    names = [f"step_{number}" for number in range(1, nodes + 1)]
    for name in names:
        builder.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    return builder.compile()


def chain_of_models(model: ScriptedModel, nodes: int, *, is_async: bool = False) -> Any:
    """A compiled graph of model nodes in a row, `step_1` and so on, on one growing list of messages."""

    def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return in_a_row(MessagesState, acall if is_async else call, nodes)


def linear(nodes: int = 10, chars: int = MESSAGE_CHARS, shape: Callable[[Texts, int], str] = Texts.prose) -> Prepare:
    """Model nodes in a row on one growing list of messages; the first message is of `chars` and `shape`."""
    model = ScriptedModel(replies=deque())
    graph = chain_of_models(model, nodes)

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        model.replies.extend(reply(texts.prose(MESSAGE_CHARS), chars * (n + 1)) for n in range(nodes))
        question = HumanMessage(shape(texts, chars))
        return lambda callbacks: graph.invoke({"messages": [question]}, _config(callbacks))

    return prepare


def concurrent(invocations: int = 100, nodes: int = 3) -> Prepare:
    """Many `ainvoke` of one small graph at once."""
    model = ScriptedModel(replies=deque())
    graph = chain_of_models(model, nodes, is_async=True)

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        model.replies.extend(reply(texts.prose(MESSAGE_CHARS), MESSAGE_CHARS) for _ in range(invocations * nodes))
        questions = [HumanMessage(texts.prose(MESSAGE_CHARS)) for _ in range(invocations)]

        async def all_at_once(callbacks: list[Any]) -> None:
            await asyncio.gather(*(graph.ainvoke({"messages": [q]}, _config(callbacks)) for q in questions))

        return lambda callbacks: asyncio.run(all_at_once(callbacks))

    return prepare


def threaded(invocations: int = 100, nodes: int = 3, workers: int = 16) -> Prepare:
    """Many `invoke` of one small graph from a pool of threads, as a web server runs them."""
    model = ScriptedModel(replies=deque())
    graph = chain_of_models(model, nodes)

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        model.replies.extend(reply(texts.prose(MESSAGE_CHARS), MESSAGE_CHARS) for _ in range(invocations * nodes))
        questions = [HumanMessage(texts.prose(MESSAGE_CHARS)) for _ in range(invocations)]

        def run(callbacks: list[Any]) -> None:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda q: graph.invoke({"messages": [q]}, _config(callbacks)), questions))

        return run

    return prepare


class _Table(TypedDict):
    rows: list[str]
    seen: int


def rows(count: int, nodes: int = 5) -> Prepare:
    """Nodes without a model that pass on a table of short texts, none of which repeats."""

    def look(state: _Table) -> dict[str, Any]:
        return {"seen": len(state["rows"])}

    graph = in_a_row(_Table, look, nodes)

    def prepare(texts: Texts) -> Run:
        table = [texts.line(12) for _ in range(count)]
        return lambda callbacks: graph.invoke({"rows": table, "seen": 0}, _config(callbacks))

    return prepare


class _Research(TypedDict):
    topics: list[str]
    notes: Annotated[list[str], operator.add]


def fanout(width: int = 100) -> Prepare:
    """One node that sends each of its topics to a worker of its own, and one that meets the results."""
    model = ScriptedModel(replies=deque())

    def plan(state: _Research) -> dict[str, Any]:
        return {"topics": state["topics"]}

    def each(state: _Research) -> list[Send]:
        return [Send("worker", {"topic": topic}) for topic in state["topics"]]

    def worker(task: dict[str, str]) -> dict[str, Any]:
        return {"notes": [model.invoke([HumanMessage(task["topic"])]).text]}

    def meet(state: _Research) -> dict[str, Any]:
        return {"topics": [f"{len(state['notes'])} notes"]}

    builder = StateGraph(_Research)
    builder.add_node("plan", plan)
    builder.add_node("worker", worker)  # type: ignore[arg-type]
    builder.add_node("meet", meet)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", each, ["worker"])
    builder.add_edge("worker", "meet")
    builder.add_edge("meet", END)
    graph = builder.compile()

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        model.replies.extend(reply(texts.prose(MESSAGE_CHARS), 100) for _ in range(width))
        topics = [texts.line(100) for _ in range(width)]
        return lambda callbacks: graph.invoke({"topics": topics, "notes": []}, _config(callbacks))

    return prepare


def react(result_chars: int, calls: int = 20) -> Prepare:
    """An agent that calls a tool again and again: all results stay in the list that it reads each time."""
    model = ScriptedModel(replies=deque())
    results: deque[str] = deque()

    def search(query: str) -> str:  # noqa: ARG001, the tool's schema is read from this signature
        """Search the archive."""
        return results.popleft()

    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def more(state: MessagesState) -> str:
        last: AnyMessage = state["messages"][-1]
        return "tools" if getattr(last, "tool_calls", None) else END

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([StructuredTool.from_function(search)]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", more, ["tools", END])
    builder.add_edge("tools", "agent")
    graph = builder.compile()

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        results.clear()
        results.extend(texts.prose(result_chars) for _ in range(calls))
        for number in range(calls):
            call = {"name": "search", "args": {"query": texts.line(60)}, "id": f"call_{number}", "type": "tool_call"}
            model.replies.append(reply(texts.line(150), number * result_chars, [call]))
        model.replies.append(reply(texts.prose(MESSAGE_CHARS), calls * result_chars))
        question = HumanMessage(texts.prose(MESSAGE_CHARS))
        return lambda callbacks: graph.invoke({"messages": [question]}, _config(callbacks))

    return prepare


def stream(tokens: int = 2_000) -> Prepare:
    """One model node, read token by token."""
    model = ScriptedModel(replies=deque())
    graph = chain_of_models(model, 1)

    def prepare(texts: Texts) -> Run:
        model.replies.clear()
        model.replies.append(reply(texts.prose(tokens * 5), MESSAGE_CHARS))
        question = HumanMessage(texts.prose(MESSAGE_CHARS))

        def run(callbacks: list[Any]) -> None:
            for _ in graph.stream({"messages": [question]}, _config(callbacks), stream_mode="messages"):
                pass

        return run

    return prepare


GRAPHS: Final[dict[str, Graph]] = {
    "linear": Graph(linear, "10 model nodes on a growing list of 2 KB messages"),
    "linear100k": Graph(lambda: linear(10, 100_000), "10 model nodes, the first message of 100 KB"),
    "linear1m": Graph(lambda: linear(10, 1_000_000), "10 model nodes, the first message of 1 MB"),
    "fanout": Graph(fanout, "100-way Send, 2 KB an answer"),
    "react1": Graph(lambda: react(1_000), "20 tool calls, growing list, results of 1 KB"),
    "react10": Graph(lambda: react(10_000), "20 tool calls, growing list, results of 10 KB"),
    "react100": Graph(lambda: react(100_000), "20 tool calls, growing list, results of 100 KB"),
    "stream": Graph(stream, "one model node, 2,000 tokens"),
    "async": Graph(concurrent, "100 concurrent `ainvoke` of 3 model nodes", traces=100),
    "threads": Graph(threaded, "100 `invoke` of 3 model nodes in 16 threads", traces=100),
    "nospace20k": Graph(lambda: linear(3, 20_000, Texts.without_space), "3 model nodes on 20 KB without a space"),
    "base64_100k": Graph(lambda: linear(3, 100_000, Texts.base64), "3 model nodes on 100 KB of base64"),
}
