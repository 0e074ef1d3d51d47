"""Where the handler stands for MLflow's tracer, each span looks as MLflow's does, whatever is in it."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, FakeStream, FakeText, tool_call
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel
from stored_traces import all_traces, fixed, use_experiment
from ways import look_up, retriever

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Trace

OPEN = {"artifact_level": "full", "redact_secrets": False}
BYTES = base64.b64encode(b"not really a file, but long enough to be one" * 4).decode()


class Verdict(BaseModel):
    """A structured answer."""

    is_fine: bool


@tool
def break_down(word: str) -> str:
    """Fail."""
    raise ValueError(f"no such word: {word}")


def asked(*content: Any, answer: Any = "an answer", **kwargs: Any) -> Callable[[Any], Any]:
    """A model that is asked something, in one message."""
    return lambda config: FakeChat(answers=[answer]).invoke([HumanMessage(list(content))], config, **kwargs)


def answered(answer: Any, chat: type[FakeChat] = FakeChat, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda config: chat(answers=[answer]).invoke("hi", config, **kwargs)


def fails(way: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(config: Any) -> None:
        with contextlib.suppress(ValueError, ConnectionError):
            way(config)

    return call


def retried(config: Any) -> None:
    model = FakeChat(answers=[ConnectionError("the first attempt"), "done"])
    model.with_retry(wait_exponential_jitter=False, stop_after_attempt=3).invoke("hi", config)


def conversation(config: Any) -> None:
    call = tool_call("look_up", word="news")
    history = [SystemMessage("be brief"), HumanMessage("hi"), call, ToolMessage("found", tool_call_id="call-1")]
    FakeChat().invoke(history, config)


AUDIO = AIMessage("", additional_kwargs={"audio": {"id": "a-1", "data": BYTES, "transcript": "good day"}})
INVALID = {"name": "look_up", "args": "{", "id": "1", "error": "no JSON", "type": "invalid_tool_call"}
CONTENT: dict[str, Callable[[Any], Any]] = {
    "text": answered("a text"),
    "an empty text": answered(""),
    "text blocks": answered(AIMessage([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])),
    "image by address": asked({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}),
    "image in the message": asked(
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BYTES}"}},
    ),
    "image, LangChain's block": asked({"type": "image", "base64": BYTES, "mime_type": "image/png"}),
    "image, Anthropic's block": asked(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BYTES}}
    ),
    "audio asked": asked({"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}}),
    "audio answered": answered(AUDIO, audio={"format": "wav", "voice": "alloy"}),
    "audio answered, no format": answered(AUDIO),
    "document": asked({"type": "file", "base64": BYTES, "mime_type": "application/pdf"}),
    "document, OpenAI's block": asked(
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BYTES}"}}
    ),
    "image, Bedrock's block": answered(
        AIMessage("", additional_kwargs={"image": {"format": "png", "source": {"bytes": BYTES}}})
    ),
    "image, Gemini's block, in a state": lambda config: RunnableLambda(lambda it: it).invoke(
        {"inline_data": {"mime_type": "image/png", "data": BYTES}}, config
    ),
    "image made by OpenAI, in a state": lambda config: RunnableLambda(lambda it: it).invoke(
        {"type": "image_generation_call", "result": BYTES, "output_format": "png"}, config
    ),
    "image made by DALL-E, in a state": lambda config: RunnableLambda(lambda it: it).invoke(
        {"b64_json": BYTES}, config
    ),
    "tool call": answered(tool_call("look_up", word="news")),
    "invalid tool call": answered(AIMessage("", invalid_tool_calls=[INVALID])),
    "tool definitions": lambda config: FakeChat().bind_tools([look_up]).invoke("hi", config),
    "tool result in the prompt": conversation,
    "reasoning": answered(
        AIMessage([{"type": "reasoning", "reasoning": "let me see"}, {"type": "text", "text": "four"}])
    ),
    "thinking, Anthropic's block": answered(
        AIMessage([{"type": "thinking", "thinking": "let me see", "signature": "x"}, {"type": "text", "text": "four"}])
    ),
    "refusal": answered(AIMessage("", additional_kwargs={"refusal": "no"})),
    "several answers": lambda config: FakeChat(n=2).invoke("hi", config),
    "structured output": lambda config: FakeChat(answers=['{"is_fine": true}']).invoke(
        "hi", config, response_format=Verdict
    ),
    "stream": lambda config: list(FakeStream(answers=["one two three"]).stream("hi", config)),
    "prompt template": lambda config: (ChatPromptTemplate.from_template("say {word}") | FakeChat()).invoke(
        {"word": "hi"}, config
    ),
    "string model": lambda config: FakeText().invoke("hi", config),
    "string model, two prompts": lambda config: FakeText().generate(["hi", "ho"], callbacks=config.get("callbacks")),
    "retriever": lambda config: retriever().invoke("news", config),
    "tool": lambda config: look_up.invoke({"word": "news"}, config),
    "tool by a call": lambda config: look_up.invoke(tool_call("look_up", word="news").tool_calls[0], config),
    "tool that fails": fails(lambda config: break_down.invoke({"word": "news"}, config)),
    "model that fails": fails(answered(ValueError("too many tokens"))),
    "function that fails": fails(lambda config: RunnableLambda(lambda _: int("x")).invoke("hi", config)),
    "retry": retried,
    "objects of the user's own": lambda config: RunnableLambda(lambda it: {"got": it}).invoke(
        Verdict(is_fine=True), config
    ),
}


def shown(traces: list[Trace]) -> list[dict[str, Any]]:
    """What MLflow's UI shows of each span: one that lasts no longer than its clock's step sorts by its name."""
    spans = sorted(
        (span for trace in traces for span in trace.data.spans), key=lambda span: (span.start_time_ns, span.name)
    )
    names = {span.span_id: span.name for span in spans}
    return [
        {
            "name": span.name,
            "below": names.get(span.parent_id or ""),
            "type": span.span_type,
            "inputs": fixed(span.inputs),
            "outputs": fixed(span.outputs),
            "status": (span.status.status_code, span.status.description),
            "tools": fixed(span.attributes.get("mlflow.chat.tools")),
            "format": span.attributes.get("mlflow.message.format"),
            "level": span.attributes.get("mlflow.spanLogLevel"),
            "exceptions": [
                (event.attributes["exception.type"], event.attributes["exception.message"])
                for event in span.events
                if event.name == "exception"
            ],
        }
        for span in spans
    ]


REFUSED = {
    "image, Anthropic's block": ("inputs", "messages"),
    "document": ("inputs", "messages"),
    "document, OpenAI's block": ("inputs", "messages"),
    "thinking, Anthropic's block": ("outputs", "choices"),
}
"""What MLflow's chat form has no place for: its tracer then writes all of the channel as LangChain's objects."""
SIBLINGS = "string model, two prompts"


def recorded(store: str, kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same as autolog alone writes it, and as a handler does."""
    mlflow.langchain.autolog()
    CONTENT[kind]({})
    theirs = all_traces()
    use_experiment("ours")
    CONTENT[kind]({"callbacks": [MlflowCostHandler(OPEN)]})
    return shown(theirs), shown(all_traces())


def leaves(value: Any) -> set[str]:
    """All texts in a payload."""
    if isinstance(value, dict):
        return set().union(*(leaves(member) for member in value.values()))
    if isinstance(value, list):
        return set().union(*(leaves(member) for member in value))
    return {value} if isinstance(value, str) else set()


@pytest.mark.parametrize("kind", [kind for kind in CONTENT if kind not in {*REFUSED, SIBLINGS}])
def test_spans_look_as_mlflows(store: str, kind: str) -> None:
    """Each span has the name, place, type, payloads, status and exceptions that MLflow's own tracer gives it."""
    theirs, ours = recorded(store, kind)

    assert theirs == ours


@pytest.mark.parametrize("kind", REFUSED)
def test_what_mlflow_has_no_form_for_stays_a_chat(store: str, kind: str) -> None:
    """A message that MLflow's form refuses is kept as it is, among the others in their form; all else is MLflow's."""
    (theirs,), (ours,) = recorded(store, kind)
    channel, key = REFUSED[kind]

    assert {**theirs, channel: None} == {**ours, channel: None}
    assert list(ours[channel]) == [key]
    # What MLflow's has beside it is LangChain's own wrapping of an answer.
    wrapping = {"ChatGeneration", "LLMResult", "four"} if channel == "outputs" else set()
    assert leaves(theirs[channel]) - leaves(ours[channel]) <= wrapping | {"gpt-4o-mini"}


def test_prompts_of_one_call_are_siblings(store: str) -> None:
    """Two prompts of one `generate` are two traces; MLflow's tracer hangs the second below the first."""
    theirs, ours = recorded(store, SIBLINGS)

    assert [span["below"] for span in theirs] == [None, "FakeText"]
    assert [{**span, "below": None} for span in theirs] == ours
