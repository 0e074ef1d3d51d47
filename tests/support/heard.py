"""Ways in which a model in a private node is told or says something, each by one channel that hearing must know."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mlflow
import pydantic
from fakes import Chat
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from leaks import letters, prose
from mlflow.entities import SpanType
from mlflow.tracing.provider import get_bridged_tracer_provider


@dataclass(frozen=True)
class Hearing:
    """One way: what runs in the private node, and what sort of text it can carry."""

    run: Callable[[str], Any]
    make: Callable[[], str] = prose


HEARINGS: dict[str, Hearing] = {}


def identifier() -> str:
    """A text that could be a name in a program: `john_smith_diabetic`."""
    return f"{letters(16)}_{letters(5)}_{letters(9)}"


def by(made: Callable[[str], Any], act: Callable[[Any], Any]) -> Callable[[str], Any]:
    """What is made of a text, and then done with it."""
    return lambda text: act(made(text))


def hearing(name: str, make: Callable[[], str] = prose) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    def register(function: Callable[[str], Any]) -> Callable[[str], Any]:
        HEARINGS[name] = Hearing(function, make)
        return function

    return register


class Answering(Chat):
    """Answers with a generation, and streams chunks, made by the test; an exception among the chunks is raised."""

    generation: Any = None
    chunks: Any = ()
    output: Any = None

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[self.generation], llm_output=self.output)

    def _stream(self, messages: list[Any], *_: Any, run_manager: Any = None, **__: Any) -> Iterator[Any]:
        for chunk in self.chunks or self._as_one_chunk():
            if isinstance(chunk, BaseException):
                raise chunk
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _as_one_chunk(self) -> list[ChatGenerationChunk]:
        """An answer that is not streamed, where whoever listens wants tokens."""
        if self.generation is None:
            return []
        said = AIMessageChunk.model_validate({**self.generation.message.model_dump(), "type": "AIMessageChunk"})
        return [ChatGenerationChunk(message=said, generation_info=self.generation.generation_info)]


@dataclass
class Chart:
    patient: Any
    note: str = ""


@dataclasses.dataclass(slots=True)
class Slotted:
    patient: str


class Slots:
    __slots__ = ("patient",)

    def __init__(self, patient: str) -> None:
        self.patient = patient

    def __repr__(self) -> str:
        return f"Slots({self.patient!r})"


class Record(pydantic.BaseModel):
    patient: Any
    model_config = pydantic.ConfigDict(extra="allow")

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class ApiError(Exception):
    def __init__(self, message: str, body: Any = None) -> None:
        super().__init__(message)
        self.body = body


# --- what is sent ---------------------------------------------------------------------------------------------------

MESSAGES: dict[str, Callable[[str], Any]] = {
    "message: name": lambda text: HumanMessage("hi", name=text),
    "message: id": lambda text: HumanMessage("hi", id=text),
    "message: role": lambda text: ChatMessage(content="hi", role=text),
    "message: additional_kwargs": lambda text: AIMessage("hi", additional_kwargs={"provider": {"note": [text]}}),
    "message: set": lambda text: AIMessage("hi", additional_kwargs={"all": {text}}),
    "message: frozenset as key": lambda text: AIMessage("hi", additional_kwargs={"all": {frozenset([text]): 1}}),
    "message: tuple": lambda text: AIMessage("hi", additional_kwargs={"all": ((text,),)}),
    "message: bytes": lambda text: AIMessage("hi", additional_kwargs={"raw": text.encode()}),
    "message: bytearray": lambda text: AIMessage("hi", additional_kwargs={"raw": bytearray(text.encode())}),
    "message: dataclass": lambda text: AIMessage("hi", additional_kwargs={"chart": Chart([text])}),
    "message: dataclass with slots": lambda text: AIMessage("hi", additional_kwargs={"chart": Slotted(text)}),
    "message: object with slots": lambda text: AIMessage("hi", additional_kwargs={"chart": Slots(text)}),
    "message: pydantic object": lambda text: AIMessage("hi", additional_kwargs={"chart": Record(patient=[text])}),
    "message: pydantic extra": lambda text: AIMessage("hi", additional_kwargs={"chart": Record(patient=1, more=text)}),
    "message: namespace": lambda text: AIMessage("hi", additional_kwargs={"chart": SimpleNamespace(more=text)}),
    "message: artifact": lambda text: ToolMessage("hi", tool_call_id="1", artifact=Chart(text)),
    "message: document": lambda text: ToolMessage("hi", tool_call_id="1", artifact=[Document("x", metadata={"a": text})]),
    "message: invalid tool call": lambda text: AIMessage(
        "", invalid_tool_calls=[{"name": "t", "args": text, "id": "1", "error": "no", "type": "invalid_tool_call"}]
    ),
    "block: id in data": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"id": text}, "id": "1"}]),
    "block: role in data": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"role": text}, "id": "1"}]),
    "block: type in data": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"type": text}, "id": "1"}]),
    "block: title": lambda text: HumanMessage([{"type": "document", "title": text, "source": {"type": "text"}}]),
    "block: unknown": lambda text: HumanMessage([{"type": "surprise", "deep": {"er": [{"value": text}]}}]),
    "block: unknown type": lambda text: HumanMessage([{"type": text, "value": 1}]),
    "block: URL": lambda text: HumanMessage([{"type": "image_url", "image_url": {"url": f"https://x.org/{text}"}}]),
    "block: file name": lambda text: HumanMessage([{"type": "file", "file": {"filename": text, "file_id": "f"}}]),
    "block: extras": lambda text: HumanMessage([{"type": "text", "text": "x", "extras": {"cited": [{"q": text}]}}]),
    "tool call: name": lambda text: AIMessage("", tool_calls=[{"name": text, "args": {}, "id": "1"}]),
    "tool call: id": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": text}]),
}  # fmt: skip
for _name, _message in MESSAGES.items():
    HEARINGS[f"told, {_name}"] = Hearing(by(_message, lambda message: Chat().invoke([HumanMessage("x"), message])))

KEYS: dict[str, Callable[[str], Any]] = {
    "of arguments": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {text: 1}, "id": "1"}]),
    "deep in arguments": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"a": [{text: 1}]}, "id": "1"}]),
    "of additional_kwargs": lambda text: AIMessage("hi", additional_kwargs={text: True}),
    "of a block": lambda text: HumanMessage([{"type": "text", "text": "x", text: None}]),
    "of an artifact": lambda text: ToolMessage("hi", tool_call_id="1", artifact={text: 2}),
    "of JSON in a message": lambda text: HumanMessage(f'{{"{text}": 1}}'),
}
for _name, _message in KEYS.items():
    HEARINGS[f"told, key {_name}"] = Hearing(
        by(_message, lambda message: Chat().invoke([HumanMessage("x"), message])), identifier
    )

PARAMETERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "prediction": lambda text: {"prediction": {"type": "content", "content": text}},
    "documents": lambda text: {"documents": [{"id": "1", "data": {"snippet": text}}]},
    "stop": lambda text: {"stop": [text]},
    "user": lambda text: {"user": text},
    "metadata": lambda text: {"extra_body": {"metadata": {"who": text}}},
    "headers": lambda text: {"extra_headers": {"x-note": text}},
    "schema: const": lambda text: {"response_format": _schema({"const": text})},
    "schema: pattern": lambda text: {"response_format": _schema({"type": "string", "pattern": f"^{text}$"})},
    "schema: enum": lambda text: {"response_format": _schema({"enum": ["x", text]})},
    "schema: default": lambda text: {"response_format": _schema({"type": "string", "default": text})},
    "schema: examples": lambda text: {"response_format": _schema({"examples": [{"type": text}]})},
    "schema: title": lambda text: {"response_format": _schema({"title": text})},
    "schema: description": lambda text: {"response_format": _schema({"description": text})},
    "tool: description": lambda text: {"tools": [_tool(description=text)]},
    "tool: const": lambda text: {"tools": [_tool(parameters={"properties": {"a": {"const": text}}})]},
    "object": lambda text: {"given": Chart(text)},
    "function": lambda text: {"given": _documented(text)},
}
for _name, _params in PARAMETERS.items():
    HEARINGS[f"told, parameter {_name}"] = Hearing(by(_params, lambda params: Chat().bind(**params).invoke("x")))


def _schema(field: Any) -> Any:
    schema = {"type": "object", "properties": {"a": field}, "required": ["a"]}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _tool(**more: Any) -> Any:
    return {"type": "function", "function": {"name": "lookup", "description": "Look it up.", "parameters": {}, **more}}


def _documented(text: str) -> Any:
    def function() -> None: ...

    function.__doc__ = text
    return function


@hearing("told, nested deeper than the stack")
def _deep(text: str) -> None:
    value: Any = text
    for _ in range(20_000):
        value = [value]
    Chat().invoke([AIMessage("hi", additional_kwargs={"deep": value})])


# --- what is said ---------------------------------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[str], AIMessage]] = {
    "citations": lambda text: AIMessage("fine", response_metadata={"citations": [{"title": text, "type": "x"}]}),
    "grounding": lambda text: AIMessage(
        "fine", response_metadata={"grounding_metadata": {"web_search_queries": [text], "grounding_chunks": []}}
    ),
    "id in response_metadata": lambda text: AIMessage("fine", response_metadata={"id": text}),
    "finish reason": lambda text: AIMessage("fine", response_metadata={"finish_reason": text}),
    "usage": lambda text: AIMessage("fine", response_metadata={"token_usage": {"note": text, "prompt_tokens": 1}}),
    "logprobs": lambda text: AIMessage(
        "fine", response_metadata={"logprobs": {"content": [{"token": text, "logprob": -0.25, "bytes": [1]}]}}
    ),
    "reasoning": lambda text: AIMessage("fine", additional_kwargs={"reasoning_content": text}),
    "thinking block": lambda text: AIMessage([{"type": "thinking", "thinking": text, "signature": "x"}]),
    "server tool result": lambda text: AIMessage(
        [
            {
                "type": "web_search_tool_result",
                "tool_use_id": "1",
                "content": [{"type": "web_search_result", "title": text}],
            }
        ]
    ),
    "audio transcript": lambda text: AIMessage("", additional_kwargs={"audio": {"id": "a", "transcript": text}}),
    "name": lambda text: AIMessage("fine", name=text),
    "id": lambda text: AIMessage("fine", id=text),
    "tool call argument": lambda text: AIMessage("", tool_calls=[{"name": "t", "args": {"q": text}, "id": "1"}]),
}
for _name, _answer in ANSWERS.items():
    HEARINGS[f"said, {_name}"] = Hearing(
        by(_answer, lambda answer: Answering(generation=ChatGeneration(message=answer)).invoke("x"))
    )


@hearing("said, generation_info")
def _generation_info(text: str) -> None:
    generation = ChatGeneration(message=AIMessage("fine"), generation_info={"safety": {"note": text}})
    Answering(generation=generation).invoke("x")


@hearing("said, llm_output")
def _llm_output(text: str) -> None:
    # A stream has none, also where somebody else reads the graph's tokens.
    answering = Answering(
        generation=ChatGeneration(message=AIMessage("fine")), output={"note": text}, disable_streaming=True
    )
    answering.invoke("x")


@hearing("said, key of response_metadata", identifier)
def _metadata_key(text: str) -> None:
    Answering(generation=ChatGeneration(message=AIMessage("fine", response_metadata={"labels": {text: 0.9}}))).invoke(
        "x"
    )


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "message": ApiError,
    "argument": lambda text: ValueError("no", {"field": [text]}),
    "body": lambda text: ApiError("no", {"error": {"message": text, "type": "invalid", "param": None}}),
    "note": lambda text: _with_note(ValueError("no"), text),
    "cause": lambda text: _raised_from(ValueError("no"), KeyError(text)),
    "member of a group": lambda text: ExceptionGroup("no", [ValueError(text)]),
    "attribute": lambda text: _with_attribute(ValueError("no"), text),
}


def _failing(error: BaseException) -> None:
    with contextlib.suppress(Exception):
        Chat(reply=error).invoke("x")


for _name, _error in ERRORS.items():
    HEARINGS[f"said, error: {_name}"] = Hearing(by(_error, _failing))


def _with_note(error: BaseException, text: str) -> BaseException:
    error.add_note(text)
    return error


def _with_attribute(error: BaseException, text: str) -> BaseException:
    changed: Any = error
    changed.details = {"seen": [text]}
    return error


def _raised_from(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


CHUNKS: dict[str, Callable[[str], AIMessageChunk]] = {
    "reasoning": lambda text: AIMessageChunk(content="", additional_kwargs={"reasoning_content": text}),
    "thinking block": lambda text: AIMessageChunk(content=[{"type": "thinking", "thinking": text, "index": 0}]),
    "text block": lambda text: AIMessageChunk(content=[{"type": "text", "text": text, "index": 0}]),
    "tool call": lambda text: AIMessageChunk(
        content="", tool_call_chunks=[{"name": "t", "args": f'{{"q": "{text[:20]}', "id": "1", "index": 0}]
    ),
    "response_metadata": lambda text: AIMessageChunk(content="x", response_metadata={"citations": [text]}),
    "unknown block": lambda text: AIMessageChunk(content=[{"type": "surprise", "value": {"deep": text}}]),
    "reasoning beside text": lambda text: AIMessageChunk(content="well", additional_kwargs={"reasoning_content": text}),
}


def _chunks(chunk: AIMessageChunk, *more: Any) -> list[Any]:
    return [
        ChatGenerationChunk(message=chunk),
        *(ChatGenerationChunk(message=AIMessageChunk(content="x")) for _ in range(3)),
        *more,
    ]


def _aborted(chunk: AIMessageChunk) -> None:
    with contextlib.suppress(ConnectionError):
        list(Answering(chunks=_chunks(chunk, ConnectionError("reset"))).stream("x"))


def _closed(chunk: AIMessageChunk) -> None:
    stream: Any = Answering(chunks=_chunks(chunk)).stream("x")
    next(stream)
    next(stream)
    stream.close()


def _left(chunk: AIMessageChunk) -> Any:
    stream: Any = Answering(chunks=_chunks(chunk)).stream("x")
    next(stream)
    next(stream)
    return stream


for _name, _chunk in CHUNKS.items():
    HEARINGS[f"said, aborted stream: {_name}"] = Hearing(by(_chunk, _aborted))
    HEARINGS[f"said, closed stream: {_name}"] = Hearing(by(_chunk, _closed))
    HEARINGS[f"said, stream left half read: {_name}"] = Hearing(by(_chunk, _left))


# --- what the node's tools return, and the node itself --------------------------------------------------------------


@hearing("returned, by a tool")
def _tool_result(text: str) -> None:
    @tool
    def look_up(query: str) -> str:
        """Look it up."""
        return f"the file says: {text}"

    look_up.invoke({"query": "x"})


@hearing("returned, by a tool, as data")
def _tool_data(text: str) -> None:
    @tool
    def look_up(query: str) -> Any:
        """Look it up."""
        return {"rows": [Chart(text)]}

    look_up.invoke({"query": "x"})


@hearing("returned, by a tool, as an artifact")
def _tool_artifact(text: str) -> None:
    @tool(response_format="content_and_artifact")
    def look_up(query: str) -> Any:
        """Look it up."""
        return "fine", {"raw": [text]}

    look_up.invoke({"type": "tool_call", "id": "1", "name": "look_up", "args": {"query": "x"}})


@hearing("returned, by a tool, as an error")
def _tool_error(text: str) -> None:
    @tool
    def look_up(query: str) -> Any:
        """Look it up."""
        raise ValueError(f"no such patient: {text}")

    with contextlib.suppress(ValueError):
        look_up.invoke({"query": "x"})


@hearing("returned, by a retriever")
def _retrieved(text: str) -> None:
    from scenes import Shelf

    Shelf(documents=[Document("x", metadata={"source": text})]).invoke("x")


@hearing("returned, as an update of the state")
def _update(text: str) -> Any:
    return {"extra": {"note": text}}


@hearing("returned, as a message")
def _message_update(text: str) -> Any:
    return {"messages": [AIMessage(text)]}


@hearing("returned, as a command")
def _command(text: str) -> Any:
    from langgraph.types import Command

    return Command(update={"extra": [Chart(text)]})


# --- spans of other libraries in the node ---------------------------------------------------------------------------


def _bridged(*attributes: dict[str, Any], **events: dict[str, Any]) -> None:
    tracer = get_bridged_tracer_provider().get_tracer("library")
    with tracer.start_as_current_span("call", attributes=attributes[0]) as span:
        for more in attributes[1:]:
            span.set_attributes(more)
        for name, fields in events.items():
            span.add_event(name, fields)


ATTRIBUTES: dict[str, Callable[[str], tuple[dict[str, Any], ...]]] = {
    "OpenInference": lambda text: (
        {"openinference.span.kind": "LLM", "llm.input_messages.0.message.content": text, "input.value": "x"},
    ),
    "OpenInference, kind last": lambda text: ({"input.value": text}, {"openinference.span.kind": "LLM"}),
    "OpenInference agent": lambda text: ({"output.value": text}, {"openinference.span.kind": "AGENT"}),
    "OpenInference tool": lambda text: ({"openinference.span.kind": "TOOL", "output.value": f'{{"a": "{text[:24]}"}}'},),
    "GenAI, model last": lambda text: ({"gen_ai.input.messages": text}, {"gen_ai.request.model": "m"}),
    "GenAI, no model": lambda text: ({"gen_ai.system_instructions": text},),
    "Traceloop": lambda text: ({"traceloop.entity.output": text},),
    "old conventions": lambda text: ({"gen_ai.prompt.0.content": text, "llm.request.type": "chat"},),
    "list": lambda text: ({"llm.prompts": ["x", text]},),
}  # fmt: skip
for _name, _attributes in ATTRIBUTES.items():
    HEARINGS[f"another library's span: {_name}"] = Hearing(by(_attributes, lambda attributes: _bridged(*attributes)))


@hearing("another library's span: event")
def _library_event(text: str) -> None:
    _bridged({"gen_ai.request.model": "m"}, **{"gen_ai.choice": {"message": text}})


@hearing("another library's span: type set after the inputs")
def _late_type(text: str) -> None:
    with mlflow.start_span("call") as span:
        span.set_inputs({"prompt": text})
        span.set_span_type(SpanType.CHAT_MODEL)


for _type in (SpanType.AGENT, SpanType.LLM, SpanType.CHAT_MODEL, SpanType.TOOL, SpanType.RETRIEVER, SpanType.UNKNOWN):

    def _typed(text: str, span_type: str = _type) -> None:
        with mlflow.start_span("call", span_type=span_type) as span:
            span.set_inputs({"x": 1})
            span.set_outputs([{"answer": text}])

    HEARINGS[f"another library's span: {_type}"] = Hearing(_typed)


@hearing("another library's model stream, left half read")
def _half_read(text: str) -> Any:
    @mlflow.trace(span_type=SpanType.LLM)
    def stream() -> Iterator[Any]:
        yield {"delta": text}
        yield {"delta": "x"}

    reading: Any = stream()
    next(reading)
    reading.close()


@hearing("another library's asynchronous model stream, left half read")
def _half_read_async(text: str) -> None:
    @mlflow.trace(span_type=SpanType.LLM)
    async def stream() -> Any:
        yield {"delta": text}
        yield {"delta": "x"}

    async def main() -> None:
        reading = stream()
        await anext(reading)
        await reading.aclose()

    asyncio.run(main())
