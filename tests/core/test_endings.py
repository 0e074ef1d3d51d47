"""However a run ends: its spans are stored with the right status, what was used is paid, and nothing stays open."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from fake_models import MINI_USD, FakeChat, FakeStream, FakeText, tool_call
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from stored_traces import all_traces, model_spans, named, only_trace, root_of, statuses
from ways import ASK, RUN, given, one_node, read

from langchain_mlflow_cost import MlflowCostHandler, cost_summary


class Broken(RuntimeError):  # noqa: N818 - it is not the application that is tested
    """What the applications here raise."""


@pytest.fixture
def handler(store: str) -> MlflowCostHandler:
    return MlflowCostHandler({"artifact_level": "full"})


def paid_then_broken(model: FakeChat) -> Any:
    def node(state: MessagesState) -> Any:
        model.invoke(state["messages"])
        raise Broken("the reason why")

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


run = pytest.mark.parametrize("run", RUN.values(), ids=list(RUN))


# --- exceptions ----------------------------------------------------------------------------------------------------


@run
def test_node_raises(handler: MlflowCostHandler, run: Any) -> None:
    """The exception gets out as it is; node and root are ERROR, the call before it stays OK and paid."""
    with pytest.raises(Broken):
        run(paid_then_broken(FakeChat()), given(handler))
    trace = only_trace()

    assert statuses(trace) == {"LangGraph": "ERROR", "node": "ERROR", "FakeChat": "OK"}
    assert root_of(trace).get_attribute("cost.total_usd") == pytest.approx(float(MINI_USD), rel=1e-9)
    assert cost_summary(trace.info.trace_id).total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)


@run
def test_failed_call_costs_nothing(handler: MlflowCostHandler, run: Any) -> None:
    """A model that raises has an ERROR span without tokens and cost, and is in no count."""
    model = FakeChat(answers=[Broken("no answer")])
    with pytest.raises(Broken):
        run(one_node(lambda state: model.invoke(state["messages"])), given(handler))
    (span,) = model_spans(only_trace())

    assert str(span.status.status_code.value) == "ERROR"
    assert not {"mlflow.llm.cost", "mlflow.chat.tokenUsage", "cost.total_usd", "cost.estimated"} & set(span.attributes)
    assert (0, 0.0, 0) == (
        handler.summary().llm_calls,
        handler.summary().total_cost_usd,
        handler.summary().unpriced_calls,
    )


def test_failed_string_model_costs_nothing(handler: MlflowCostHandler) -> None:
    """The same for a string model."""

    class Failing(FakeText):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise Broken("no answer")

    with pytest.raises(Broken):
        one_node(lambda _: Failing().invoke("hi")).invoke(ASK, given(handler))

    assert handler.summary().llm_calls == 0
    assert statuses(only_trace())["Failing"] == "ERROR"


def test_stream_that_breaks_is_estimated(handler: MlflowCostHandler) -> None:
    """What a stream said before it broke was paid for: by estimate, and flagged, in an ERROR span."""

    def between(number: int) -> None:
        if number == 2:
            raise Broken("the connection")

    model = FakeStream(answers=["four words in all"], between=between)
    with pytest.raises(Broken):
        one_node(lambda state: list(model.stream(state["messages"]))).invoke(ASK, given(handler))
    (span,) = model_spans(only_trace())

    assert str(span.status.status_code.value) == "ERROR"
    assert span.get_attribute("cost.estimated") is True
    assert 0 < span.get_attribute("cost.output_tokens") < 10
    assert handler.summary().llm_calls == 1


def test_exception_is_in_the_span(handler: MlflowCostHandler) -> None:
    """The span of what raised has the exception's event, once, with its type and message."""
    with pytest.raises(Broken):
        paid_then_broken(FakeChat()).invoke(ASK, given(handler))
    events = [event for event in named(only_trace(), "node").events if event.name == "exception"]

    assert [("Broken", "the reason why")] == [
        (event.attributes["exception.type"], event.attributes["exception.message"]) for event in events
    ]


@tool
def failing(word: str) -> str:
    """Look a word up."""
    raise Broken("no such word")


def test_tool_raises(handler: MlflowCostHandler) -> None:
    """A tool's exception gets out; tool, node and root are ERROR, the model's call stays OK."""
    model = FakeChat(answers=[tool_call("failing", word="news"), "done"])
    with pytest.raises(Broken):
        create_agent(model, [failing]).invoke(ASK, given(handler))
    found = statuses(only_trace())

    assert ("ERROR", "ERROR", "ERROR", "OK") == (
        found["failing"],
        found["tools"],
        found["LangGraph"],
        found["FakeChat"],
    )
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)


def test_caught_tool_exception(handler: MlflowCostHandler) -> None:
    """An exception that the node catches makes the tool's span ERROR and no other."""

    def node(_: Any) -> None:
        with pytest.raises(Broken):
            failing.invoke({"word": "news"})

    one_node(node).invoke(ASK, given(handler))

    assert statuses(only_trace()) == {"LangGraph": "OK", "node": "OK", "failing": "ERROR"}


# --- interrupts ----------------------------------------------------------------------------------------------------


def asking(model: FakeChat, *, inside_a_subgraph: bool = False) -> Any:
    def ask(state: MessagesState) -> Any:
        answer = model.invoke(state["messages"])
        interrupt("shall I go on?")
        return {"messages": [answer]}

    graph: Any = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    if inside_a_subgraph:
        graph = StateGraph(MessagesState).add_node("team", graph.compile()).add_edge(START, "team")
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("inside", [False, True], ids=["graph", "subgraph"])
@run
def test_interrupt_is_no_error(handler: MlflowCostHandler, run: Any, inside: bool) -> None:
    """An interrupted run is OK in every span, and its calls are paid."""
    config = given(handler, configurable={"thread_id": "t"})
    run(asking(FakeChat(), inside_a_subgraph=inside), config)
    trace = only_trace()

    assert set(statuses(trace).values()) == {"OK"}
    assert trace.info.state.value == "OK"
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)


def test_interrupt_is_an_event(handler: MlflowCostHandler) -> None:
    """The node that asks says so, with what it asked."""
    asking(FakeChat()).invoke(ASK, given(handler, configurable={"thread_id": "t"}))
    (event,) = named(only_trace(), "ask").events

    assert event.name == "interrupt"
    assert "shall I go on?" in str(event.attributes)


def test_resume_is_a_trace_of_its_own(handler: MlflowCostHandler) -> None:
    """The node runs again from its first line when it is resumed: its call is paid again, in a second trace."""
    config = given(handler, configurable={"thread_id": "t"})
    graph = asking(FakeChat())
    graph.invoke(ASK, config)
    graph.invoke(Command(resume="yes"), config)
    traces = all_traces()

    assert [1, 1] == [cost_summary(trace.info.trace_id).llm_calls for trace in traces]
    assert [{"OK"}, {"OK"}] == [set(statuses(trace).values()) for trace in traces]
    assert ["t", "t"] == [trace.info.trace_metadata["mlflow.trace.session"] for trace in traces]


# --- cancellation --------------------------------------------------------------------------------------------------


async def cancelled_when_asked(start: Callable[[], Any], asked: asyncio.Event) -> None:
    task = asyncio.ensure_future(start())
    await asyncio.wait([task, asyncio.ensure_future(asked.wait())], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Endless(FakeStream):
    """Sends its request and then says nothing more for ever, at once or after some words."""

    words: int = 0

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        assert self.before is not None
        self.before()
        await asyncio.Event().wait()

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for chunk in itertools.islice(self._chunks(messages), self.words):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
        assert self.before is not None
        self.before()
        await asyncio.Event().wait()


def cancel(start: Callable[[Endless], Any], **options: Any) -> None:
    async def main() -> None:
        asked = asyncio.Event()
        await cancelled_when_asked(lambda: start(Endless(before=asked.set, **options)), asked)

    asyncio.run(main())


def waiting(model: FakeChat) -> Any:
    async def node(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


CANCELLED: dict[str, Callable[[Any, Any], Any]] = {
    "graph": lambda model, config: waiting(model).ainvoke(ASK, config),
    "graph stream": lambda model, config: read(waiting(model).astream(ASK, config)),
    "graph messages": lambda model, config: read(waiting(model).astream(ASK, config, stream_mode="messages")),
    "sequence": lambda model, config: (model | StrOutputParser()).ainvoke("what is new?", config),
    "sequence stream": lambda model, config: read((model | StrOutputParser()).astream("what is new?", config)),
    "model stream": lambda model, config: read(model.astream("what is new?", config)),
}


@pytest.mark.parametrize("words", [0, 2])
@pytest.mark.parametrize("case", list(CANCELLED))
def test_cancelled_call_is_estimated(handler: MlflowCostHandler, case: str, words: int) -> None:
    """A call that is cancelled before its end was paid for: by estimate, flagged, in the stored trace too."""
    cancel(lambda model: CANCELLED[case](model, given(handler)), answers=["some words in all"], words=words)
    trace = only_trace()
    (span,) = model_spans(trace)

    assert span.get_attribute("cost.estimated") is True
    assert span.get_attribute("cost.input_tokens") > 0
    assert handler.summary().llm_calls == 1
    assert root_of(trace).get_attribute("cost.total_usd") == handler.summary().total_cost_usd > 0
    assert cost_summary(trace.info.trace_id) == handler.summary()


# --- streams that nobody reads to their end ------------------------------------------------------------------------


def closed(stream: Any) -> None:
    next(stream)
    stream.close()


def broken_off(stream: Any) -> None:
    for _ in stream:
        break


def dropped(stream: Any) -> None:
    next(stream)
    del stream


CHAIN = ChatPromptTemplate.from_messages([("user", "{topic}")])
STREAMS: dict[str, Callable[[Any, Any], Any]] = {
    "model": lambda model, config: model.stream("what is new?", config),
    "sequence": lambda model, config: (CHAIN | model | StrOutputParser()).stream({"topic": "news"}, config),
    "model in a node": lambda model, config: one_node(lambda s: next(model.stream(s["messages"]))).stream(ASK, config),
}


@pytest.mark.parametrize("end", [closed, broken_off, dropped], ids=lambda end: end.__name__)
@pytest.mark.parametrize("case", list(STREAMS))
def test_stream_closed_early(handler: MlflowCostHandler, case: str, end: Any) -> None:
    """A stream that is left is no error; what it said until then is paid for by estimate, up to the root."""
    end(STREAMS[case](FakeStream(answers=["some words in all"]), given(handler)))
    trace = only_trace()
    (span,) = model_spans(trace)

    assert set(statuses(trace).values()) == {"OK"}
    assert span.get_attribute("cost.estimated") is True
    assert root_of(trace).get_attribute("cost.total_usd") == handler.summary().total_cost_usd > 0
    assert cost_summary(trace.info.trace_id) == handler.summary()


@pytest.mark.parametrize("end", [closed, broken_off, dropped], ids=lambda end: end.__name__)
def test_graph_stream_closed_between_nodes(handler: MlflowCostHandler, end: Any) -> None:
    """A graph that is left after its first node: that node is paid in full, the second never runs."""
    model = FakeChat()

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph: Any = (
        StateGraph(MessagesState).add_node("a", node).add_node("b", node).add_edge(START, "a").add_edge("a", "b")
    ).compile()
    end(graph.stream(ASK, given(handler)))
    trace = only_trace()

    assert set(statuses(trace).values()) == {"OK"}
    assert cost_summary(trace.info.trace_id).llm_calls == len(model.requests) == 1
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)


@pytest.mark.parametrize("case", ["model", "sequence"])
def test_async_stream_closed_early(handler: MlflowCostHandler, case: str) -> None:
    """The same for `aclose`."""
    model = FakeStream(answers=["some words in all"])

    async def main() -> None:
        config = given(handler)
        stream: Any = {
            "model": lambda: model.astream("what is new?", config),
            "sequence": lambda: (CHAIN | model | StrOutputParser()).astream({"topic": "news"}, config),
        }[case]()
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    trace = only_trace()
    (span,) = model_spans(trace)

    assert set(statuses(trace).values()) == {"OK"}
    assert span.get_attribute("cost.estimated") is True
    assert cost_summary(trace.info.trace_id) == handler.summary()


def test_next_invocation_is_not_drawn_in(handler: MlflowCostHandler) -> None:
    """After a stream was left, the next invocation in the same thread is a trace of its own."""
    closed(FakeStream(answers=["some words in all"]).stream("hi", given(handler)))
    FakeChat().invoke("hi", given(handler))

    assert [1, 1] == [len(trace.data.spans) for trace in all_traces()]


# --- streams read in turns -----------------------------------------------------------------------------------------


def stepping(steps: int) -> Any:
    """A graph of so many nodes with one call each."""
    model = FakeChat()

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    names = [f"step {number}" for number in range(steps)]
    for name in names:
        graph.add_node(name, node)
    for above, below in itertools.pairwise([START, *names]):
        graph.add_edge(above, below)
    return graph.compile()


def interleaved(streams: list[Any]) -> None:
    for _ in itertools.zip_longest(*streams):
        pass


def test_interleaved_graph_streams(handler: MlflowCostHandler) -> None:
    """Two graphs that are read in turns in one thread are two traces, each with its own calls."""
    interleaved([stepping(2).stream(ASK, given(handler)), stepping(3).stream(ASK, given(handler))])
    summaries = [cost_summary(trace.info.trace_id) for trace in all_traces()]

    assert [2, 3] == [summary.llm_calls for summary in summaries]
    assert [float(2 * MINI_USD), float(3 * MINI_USD)] == pytest.approx([s.total_cost_usd for s in summaries], rel=1e-9)


@pytest.mark.parametrize("second", [1, 4], ids=["the second ends first", "the first ends first"])
def test_interleaved_model_streams(handler: MlflowCostHandler, second: int) -> None:
    """Two models that are read in turns in one thread are two traces, whichever ends first."""
    texts = ["two words", " ".join(["word"] * second)]
    interleaved([FakeStream(answers=[text]).stream("hi", given(handler)) for text in texts])
    traces = all_traces()

    assert [1, 1] == [len(trace.data.spans) for trace in traces]
    assert [1, 1] == [cost_summary(trace.info.trace_id).llm_calls for trace in traces]


def test_invocation_while_a_stream_waits(handler: MlflowCostHandler) -> None:
    """What the consumer of a half-read stream invokes is not inside that stream."""
    stream = stepping(2).stream(ASK, given(handler))
    next(stream)
    FakeChat().invoke("hi", given(handler))
    list(stream)

    assert [1, 2] == sorted(cost_summary(trace.info.trace_id).llm_calls for trace in all_traces())


def test_interleaved_async_streams(handler: MlflowCostHandler) -> None:
    """Two asynchronous streams read in turns in one task are two traces."""

    async def main() -> None:
        streams = [stepping(2).astream(ASK, given(handler)), stepping(3).astream(ASK, given(handler))]
        while streams:
            for stream in list(streams):
                try:
                    await anext(stream)
                except StopAsyncIteration:
                    streams.remove(stream)

    asyncio.run(main())

    assert [2, 3] == [cost_summary(trace.info.trace_id).llm_calls for trace in all_traces()]
