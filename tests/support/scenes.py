"""What a program may put where: each scene plants a text in many channels and runs once for each policy."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import pydantic
from fakes import Chat, State, Text, graph
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from mlflow.entities import SpanType
from mlflow.entities.span import Link  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from leaks import Planted

Keeps = Literal["every level", "standard, full", "full", "full, maybe standard", "maybe full", "maybe standard, full"]
PRESENT: dict[str, frozenset[str]] = {
    "every level": frozenset({"minimal", "standard", "full"}),
    "standard, full": frozenset({"standard", "full"}),
    "full": frozenset({"full"}),
    "full, maybe standard": frozenset({"full"}),
    "maybe full": frozenset(),
    "maybe standard, full": frozenset(),
}
"""Levels at which a channel's text must be stored."""
ALLOWED: dict[str, frozenset[str]] = PRESENT | {
    "full, maybe standard": frozenset({"standard", "full"}),
    "maybe full": frozenset({"full"}),
    "maybe standard, full": frozenset({"standard", "full"}),
}
"""Levels at which it may be."""


@dataclass(frozen=True)
class Scene:
    """A program, and the channels in which it plants."""

    run: Callable[[Planted, list[Any]], None]
    channels: dict[str, Keeps]


def asked(plant: Planted) -> Callable[[State], State]:
    """A node whose model is told every text that was planted, and answers with them, where the policy is to hide that."""

    def quiet(state: State) -> State:
        if not plant.to_be_told:
            return {}
        told = [HumanMessage(secret) for secret in plant.texts.values()]
        Chat(reply=AIMessage("\n".join(plant.texts.values()))).invoke(told)
        return {}

    return quiet


def run_in_node(
    work: Callable[..., Any], plant: Planted, callbacks: list[Any], *, state: State | None = None, **config: Any
) -> Any:
    """Run something in the node `work`; then `quiet` tells a model every planted text."""
    nodes = (("work", work), ("quiet", asked(plant)))
    return graph(*nodes).invoke(state or {"messages": [("user", "hi")]}, {"callbacks": callbacks, **config})


# --- models ---------------------------------------------------------------------------------------------------------


def models(plant: Planted, callbacks: list[Any]) -> None:
    @tool(description=plant("tool definition: description"))
    def lookup(query: str = pydantic.Field(description=plant("tool definition: parameter"))) -> str:
        return query

    def work(state: State) -> State:
        answer = AIMessage(
            plant("chat: answer"),
            additional_kwargs={"thought": plant("chat: additional_kwargs")},
            response_metadata={"note": plant("chat: response_metadata")},
            tool_calls=[{"name": "lookup", "args": {"query": plant("chat: tool call argument")}, "id": "1"}],
        )
        blocks: Any = [
            {"type": "text", "text": plant("chat: text block")},
            {"type": "surprise", "value": {"deep": [plant("chat: unknown block")]}},
        ]
        prompt = [
            SystemMessage(plant("chat: system prompt")),
            HumanMessage(plant("chat: prompt")),
            HumanMessage(blocks),
            AIMessage("", tool_calls=[{"name": "lookup", "args": {"q": plant("chat: earlier tool call")}, "id": "0"}]),
            ToolMessage(plant("chat: tool message"), tool_call_id="0"),
        ]
        Chat(reply=answer).bind_tools([lookup]).bind(user=plant("chat: invocation parameter")).invoke(
            prompt, {"metadata": {"who": plant("chat: metadata")}, "tags": [plant("chat: tag")]}
        )
        Chat(reply="fine").invoke("hi", {"run_name": plant("chat: run name")})
        list(Chat(reply=plant("chat: streamed answer")).stream(plant("chat: streamed prompt")))
        Text(reply=plant("llm: answer")).invoke(plant("llm: prompt"))
        Text(reply="fine").generate([plant("llm: first of two prompts"), "second"], callbacks=None)
        with contextlib.suppress(ValueError):
            Chat(reply=ValueError(plant("chat: exception"))).invoke("hi")
        return {}

    run_in_node(work, plant, callbacks)


# --- tools, retrievers, chains --------------------------------------------------------------------------------------


class Shelf(BaseRetriever):
    documents: list[Document]

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return self.documents


def workers(plant: Planted, callbacks: list[Any]) -> None:
    @tool(response_format="content_and_artifact")
    def fetch(query: str) -> tuple[str, Any]:
        """Fetch."""
        return plant("tool: output"), {"raw": plant("tool: artifact")}

    @tool
    def broken(query: str) -> str:
        """Fail."""
        try:
            raise KeyError(plant("exception: cause"))  # noqa: TRY301 - to be a cause
        except KeyError as cause:
            error = ValueError(plant("exception: message"))
            error.add_note(plant("exception: note"))
            raise error from cause

    @tool
    def group() -> str:
        """Fail twice."""
        raise ExceptionGroup(plant("exception: group"), [ValueError(plant("exception: member of a group"))])

    def work(state: State) -> State:
        fetch.invoke({"query": plant("tool: input")})
        fetch.invoke(
            {"type": "tool_call", "id": "1", "name": "fetch", "args": {"query": plant("tool: input of a call")}}
        )
        for failing in (broken, group):
            with contextlib.suppress(ValueError, ExceptionGroup):
                failing.invoke({"query": "x"})
        shelf = Shelf(
            documents=[
                Document(
                    plant("retriever: document"),
                    id=plant("retriever: document id"),
                    metadata={"source": plant("retriever: document metadata")},
                )
            ],
            metadata={"shelf": plant("retriever: metadata")},
        )
        shelf.invoke(plant("retriever: query"))
        RunnableLambda[str, Any](lambda _: plant("lambda: output")).invoke(plant("lambda: input"))
        (RunnableLambda[str, Any](lambda _: AIMessage(plant("parser: input"))) | StrOutputParser()).invoke("x")

        @RunnableLambda
        def failing_step(_: Any) -> Any:
            raise ValueError(plant("chain: exception"))

        with contextlib.suppress(ValueError):
            failing_step.invoke("x")
        with contextlib.suppress(ValueError):
            failing_step.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("x")

        @RunnableLambda
        def telling(_: Any, config: RunnableConfig) -> Any:
            dispatch_custom_event(plant("custom event: name"), {"value": plant("custom event: data")}, config=config)
            manager: Any = config["callbacks"]
            run = manager.on_chain_start({"name": "agent"}, {"x": 1})
            run.on_text(plant("text event"))
            run.on_agent_action(AgentAction(tool="t", tool_input=plant("agent action"), log=plant("agent action: log")))
            run.on_agent_finish(AgentFinish({"output": plant("agent finish")}, log=plant("agent finish: log")))
            run.on_chain_end({"y": plant("chain: output")})

        telling.invoke("x")
        return {}

    run_in_node(work, plant, callbacks)


# --- the shapes that a payload can have ------------------------------------------------------------------------------


class Person(pydantic.BaseModel):
    name: str
    aliases: dict[str, Any] = {}
    model_config = pydantic.ConfigDict(extra="allow")

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


@dataclass
class Card:
    holder: str
    more: Any = None


class Opaque:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Opaque({self.text})"


def shapes(plant: Planted, callbacks: list[Any]) -> None:
    @tool
    def keep(value: Any) -> Any:
        """Return it."""
        return value

    def work(state: State) -> State:
        for value in (
            {plant("shape: key"): 1},
            {"a": {"b": [{plant("shape: deep key"): {"c": (plant("shape: deep value"),)}}]}},
            {"raw": plant("shape: bytes").encode()},
            Card(plant("shape: dataclass"), more=[Card(plant("shape: dataclass in a list"))]),
            Person(
                name=plant("shape: pydantic"), aliases={"x": plant("shape: pydantic dict")}, other=plant("shape: extra")
            ),
            {plant("shape: set")},
            f'{{"inner": "{plant("shape: JSON in a string")}"}}'.replace("\n", "\\n"),
            Opaque(plant("shape: repr")),
            [HumanMessage(plant("shape: message")), {"x": AIMessage(plant("shape: message in a dict"))}],
            Document(plant("shape: document")),
            {1: plant("shape: number as key"), None: plant("shape: none as key")},
            "x" * 150_000 + plant("shape: beyond the length limit"),
        ):
            keep.invoke({"value": value})
        return {}

    run_in_node(work, plant, callbacks)


# --- state, root, trace ---------------------------------------------------------------------------------------------


def state_and_trace(plant: Planted, callbacks: list[Any]) -> None:
    def work(state: State) -> State:
        mlflow.update_current_trace(
            tags={"note": plant("trace: tag"), plant("trace: tag key"): "x"},
            metadata={"remark": plant("trace: metadata"), plant("trace: metadata key"): "x"},
            client_request_id=plant("trace: client request id"),
            user=plant("trace: user"),
        )
        return {"extra": {"note": plant("state: between nodes")}}

    def forget(state: State) -> State:
        return {"extra": {"note": plant("root: output")}}

    def tell(state: State) -> State:
        return asked(plant)(state)

    nodes = (("work", work), ("forget", forget), ("quiet", tell))
    graph(*nodes).invoke(
        {"messages": [("user", plant("root: input"))]},
        {
            "callbacks": callbacks,
            "run_name": plant("root: run name"),
            "metadata": {"who": plant("root: metadata")},
            "tags": [plant("root: tag")],
            "configurable": {"thread_id": plant("root: thread id")},
        },
    )


def session(plant: Planted, callbacks: list[Any]) -> None:
    run_in_node(lambda _: mlflow.update_current_trace(session_id=plant("trace: session")), plant, callbacks)


def previews(plant: Planted, callbacks: list[Any]) -> None:
    def work(state: State) -> State:
        mlflow.update_current_trace(
            request_preview=plant("trace: request preview"), response_preview=plant("trace: response preview")
        )
        return {}

    run_in_node(work, plant, callbacks)


def root_exception(plant: Planted, callbacks: list[Any]) -> None:
    def work(state: State) -> State:
        plant("root exception: message")
        plant("root exception: cause")
        asked(plant)(state)
        return {}

    def fail(state: State) -> State:
        try:
            raise KeyError(plant("root exception: cause"))  # noqa: TRY301 - to be a cause
        except KeyError as cause:
            raise ValueError(plant("root exception: message")) from cause

    with contextlib.suppress(ValueError):
        graph(("quiet", work), ("fail", fail)).invoke({"messages": [("user", "hi")]}, {"callbacks": callbacks})


# --- spans of the user's own ----------------------------------------------------------------------------------------


def own_spans(plant: Planted, callbacks: list[Any]) -> None:
    @mlflow.trace(name="helper", attributes={"given": plant("@trace: attribute")})
    def helper(value: str) -> str:
        return plant("@trace: output")

    @mlflow.trace
    def pieces(value: str) -> Any:
        yield plant("@trace generator: chunk")
        yield plant("@trace generator: last chunk")

    @mlflow.trace
    def failing(value: str) -> str:
        raise ValueError(plant("@trace: exception"))

    def work(state: State) -> State:
        helper(plant("@trace: input"))
        list(pieces(plant("@trace generator: input")))
        with contextlib.suppress(ValueError):
            failing("x")
        with mlflow.start_span(plant("span: name"), span_type=SpanType.TOOL) as span:
            span.set_inputs({"in": plant("span: input"), plant("span: input key"): 1})
            span.set_attribute("mine", plant("span: attribute"))
            span.set_attribute(plant("span: attribute key"), "x")
            span.set_attributes({"nested": {"a": [plant("span: nested attribute")]}})
            span.add_event(event(plant("span: event name"), {"x": plant("span: event attribute")}))
            span.add_event(event("e", {plant("span: event key"): "x"}))
            span.add_link(Link(trace_id=other_trace, span_id="00" * 8, attributes={"l": plant("span: link attribute")}))  # type: ignore[abstract]
            span.record_exception(ValueError(plant("span: recorded exception")))
            span.set_status(status_error(plant("span: status")))
            span.set_outputs({"out": plant("span: output")})
        free = mlflow.start_span_no_context(
            "free", parent_span=mlflow.get_current_active_span(), inputs=plant("free: input")
        )
        free.end(outputs=plant("free: output"), attributes={"at_end": plant("free: attribute at the end")})
        return {}

    other_trace = "tr-" + "0" * 32
    run_in_node(work, plant, callbacks)


def event(name: str, attributes: dict[str, Any]) -> Any:
    from mlflow.entities import SpanEvent

    return SpanEvent(name, attributes=attributes)  # type: ignore[abstract]


def status_error(description: str) -> Any:
    from mlflow.entities import SpanStatus, SpanStatusCode

    return SpanStatus(SpanStatusCode.ERROR, description)


# --- files ----------------------------------------------------------------------------------------------------------


def files(plant: Planted, callbacks: list[Any]) -> None:
    def data(channel: str) -> str:
        return base64.b64encode(plant(channel).encode() * 4).decode()

    @mlflow.trace
    def look(image: Any) -> Any:
        return image

    def work(state: State) -> State:
        Chat().invoke(
            [
                HumanMessage(
                    [
                        {"type": "text", "text": "see"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{data('file: image URL')}"},
                        },
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": data("file: Anthropic image"),
                            },
                        },
                        {"type": "input_audio", "input_audio": {"data": data("file: audio"), "format": "wav"}},
                        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data('file: PDF')}"}},
                    ]
                )
            ]
        )
        look({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data('file: in @trace')}"}})
        with mlflow.start_span("attached") as span:
            from mlflow.tracing.attachments import Attachment

            span.set_inputs(
                {"a": Attachment(content_type="text/plain", content_bytes=plant("file: attachment").encode())}
            )
        return {}

    run_in_node(work, plant, callbacks)


def _all(keeps: Keeps, channels: list[str]) -> dict[str, Keeps]:
    return dict.fromkeys(channels, keeps)


SCENES: dict[str, Scene] = {
    "models": Scene(
        models,
        {
            "tool definition: description": "full, maybe standard",
            "tool definition: parameter": "full, maybe standard",
            "chat: answer": "standard, full",
            "chat: additional_kwargs": "maybe standard, full",
            "chat: response_metadata": "maybe standard, full",
            "chat: tool call argument": "standard, full",
            "chat: text block": "standard, full",
            "chat: unknown block": "maybe standard, full",
            "chat: system prompt": "standard, full",
            "chat: prompt": "standard, full",
            "chat: earlier tool call": "standard, full",
            "chat: tool message": "standard, full",
            "chat: invocation parameter": "full, maybe standard",
            "chat: metadata": "full, maybe standard",
            "chat: tag": "full, maybe standard",
            "chat: run name": "every level",
            "chat: streamed answer": "standard, full",
            "chat: streamed prompt": "standard, full",
            "llm: answer": "standard, full",
            "llm: prompt": "standard, full",
            "llm: first of two prompts": "standard, full",
            "chat: exception": "standard, full",
        },
    ),
    "workers": Scene(
        workers,
        {
            "tool: input": "standard, full",
            "tool: output": "standard, full",
            "tool: artifact": "maybe standard, full",
            "tool: input of a call": "standard, full",
            "exception: message": "standard, full",
            "exception: cause": "standard, full",
            "exception: note": "standard, full",
            "exception: group": "standard, full",
            "exception: member of a group": "standard, full",
            "retriever: document": "standard, full",
            "retriever: document id": "maybe standard, full",
            "retriever: document metadata": "standard, full",
            "retriever: metadata": "full, maybe standard",
            "retriever: query": "standard, full",
            "lambda: input": "full",
            "lambda: output": "full",
            "parser: input": "full",
            "chain: exception": "standard, full",
            "chain: output": "full",
            "custom event: name": "every level",
            "custom event: data": "full, maybe standard",
            "text event": "full, maybe standard",
            "agent action": "full, maybe standard",
            "agent action: log": "full, maybe standard",
            "agent finish": "full, maybe standard",
            "agent finish: log": "full, maybe standard",
        },
    ),
    "shapes": Scene(
        shapes,
        _all(
            "standard, full",
            [
                "shape: key", "shape: deep key", "shape: deep value", "shape: dataclass", "shape: dataclass in a list",
                "shape: pydantic", "shape: pydantic dict", "shape: extra", "shape: set", "shape: JSON in a string",
                "shape: repr", "shape: message", "shape: message in a dict", "shape: document",
                "shape: number as key", "shape: none as key",
            ],
        )
        | {"shape: bytes": "maybe standard, full", "shape: beyond the length limit": "maybe standard, full"},
    ),
    "state and trace": Scene(
        state_and_trace,
        {
            "root: input": "standard, full",
            "root: output": "standard, full",
            "root: run name": "every level",
            "root: metadata": "full",
            "root: tag": "every level",
            "root: thread id": "every level",
            "state: between nodes": "full",
            "trace: tag": "every level",
            "trace: tag key": "every level",
            "trace: metadata": "every level",
            "trace: metadata key": "every level",
            "trace: client request id": "every level",
            "trace: user": "every level",
        },
    ),
    "session": Scene(session, {"trace: session": "every level"}),
    "previews": Scene(
        previews, {"trace: request preview": "standard, full", "trace: response preview": "standard, full"}
    ),
    "root exception": Scene(
        root_exception,
        {"root exception: message": "standard, full", "root exception: cause": "standard, full"},
    ),
    "own spans": Scene(
        own_spans,
        {
            "@trace: attribute": "full, maybe standard",
            "@trace: input": "standard, full",
            "@trace: output": "standard, full",
            "@trace generator: chunk": "standard, full",
            "@trace generator: last chunk": "standard, full",
            "@trace generator: input": "standard, full",
            "@trace: exception": "standard, full",
            "span: name": "every level",
            "span: input": "standard, full",
            "span: input key": "standard, full",
            "span: output": "standard, full",
            "span: attribute": "full, maybe standard",
            "span: attribute key": "full, maybe standard",
            "span: nested attribute": "full, maybe standard",
            "span: event name": "every level",
            "span: event attribute": "full, maybe standard",
            "span: event key": "full, maybe standard",
            "span: link attribute": "full, maybe standard",
            "span: recorded exception": "standard, full",
            "span: status": "standard, full",
            "free: input": "standard, full",
            "free: output": "standard, full",
            "free: attribute at the end": "full, maybe standard",
        },
    ),
    "files": Scene(
        files,
        dict.fromkeys(
            ["file: image URL", "file: Anthropic image", "file: audio", "file: PDF", "file: in @trace", "file: attachment"],
            "standard, full",
        ),
    ),
}  # fmt: skip
