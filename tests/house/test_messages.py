"""The one walker knows where text stands: to count it, to stream it, and to know what is private."""

from __future__ import annotations

import base64
import dataclasses
import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field

from langchain_mlflow_cost.messages import blocks_of, chunk_text, private_strings, said_text, sent_text

SECRET = "the patient said that it hurts"
FILE = base64.b64encode(b"a picture of the patient " * 8).decode()


def answers(message: Any) -> list[list[Any]]:
    return [[ChatGeneration(message=message)]]


# --- text to be counted


SAID = [
    pytest.param(AIMessage("yes"), "yes", id="text"),
    pytest.param(
        AIMessage(
            [{"type": "thinking", "thinking": "hm ", "signature": "x" * 80}, {"type": "text", "text": "yes "}],
            tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}],
        ),
        "hm yes add{'a': 1}",
        id="anthropic-thinking",
    ),
    pytest.param(
        AIMessage(
            [{"type": "text", "text": "yes "}, {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}],
            tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}],
        ),
        "yes add{'a': 1}",
        id="tool-call-once",
    ),
    pytest.param(
        AIMessage([{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}]), 'add{"a":1}', id="block-alone"
    ),
    pytest.param(
        AIMessage([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm "}], "id": "rs_1"}, "yes"]),
        "hm yes",
        id="openai-summary",
    ),
    pytest.param(AIMessage([{"type": "reasoning", "reasoning": "hm "}, {"type": "text", "text": "yes"}]), "hm yes", id="v1"),
    pytest.param(
        AIMessage([{"type": "reasoning_content", "reasoning_content": {"text": "hm ", "signature": "x" * 80}}, "yes"]),
        "hm yes",
        id="bedrock",
    ),
    pytest.param(AIMessage("yes", additional_kwargs={"reasoning_content": "hm "}), "hm yes", id="beside-content"),
    pytest.param(
        AIMessage("yes", additional_kwargs={"reasoning": {"summary": [{"type": "summary_text", "text": "hm "}]}}),
        "hm yes",
        id="openai-beside-content",
    ),
    pytest.param(
        AIMessage("", invalid_tool_calls=[{"name": "add", "args": '{"a": ', "id": "1", "error": "no JSON"}]),
        'add{"a": ',
        id="invalid-call",
    ),
    pytest.param(
        AIMessage([{"type": "refusal", "refusal": "no"}]), "no", id="refusal"
    ),
    pytest.param(SimpleNamespace(content=None), "", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), SAID)
def test_said_text(message: Any, expected: str) -> None:
    """An answer's text has its reasoning and its tool calls, each once."""
    generation = ChatGeneration(message=message) if isinstance(message, AIMessage) else SimpleNamespace(message=message)

    assert expected == said_text([[generation]])


def test_said_text_of_a_string_model() -> None:
    """A string model's answer is its text."""
    assert said_text([[Generation(text="yes"), Generation(text=" no")]]) == "yes no"


SENT = [
    pytest.param("hi", "hi", id="string"),
    pytest.param([["hi", "you"]], "hi\nyou", id="strings"),
    pytest.param([[SystemMessage("be brief"), HumanMessage("hi")]], "be brief\nhi", id="messages"),
    pytest.param(
        [HumanMessage([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{FILE}"}}])],
        "see",
        id="picture",
    ),
    pytest.param(
        [HumanMessage([{"type": "document", "source": {"type": "text", "data": "a text", "media_type": "text/plain"}, "title": "T"}])],
        "a text\nT",
        id="text-document",
    ),
    pytest.param(
        [HumanMessage([{"type": "input_audio", "input_audio": {"data": FILE, "format": "wav"}}, "hear"])], "hear", id="audio"
    ),
    pytest.param([ToolMessage([{"type": "text", "text": "done"}], tool_call_id="1")], "done", id="tool-result"),
    pytest.param(
        [HumanMessage([{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "done"}]}])],
        "done",
        id="nested-tool-result",
    ),
    pytest.param([{"role": "user", "content": "hi"}], "hi", id="plain-mapping"),
    pytest.param(None, "", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "expected"), SENT)
def test_sent_text(prompt: Any, expected: str) -> None:
    """What is sent as text is all of the prompt but its files and its structure."""
    assert expected == sent_text(prompt)


def test_tools_are_sent_as_json() -> None:
    """Definitions of tools are sent, too, in the form of JSON."""
    assert sent_text("hi", [{"name": "add"}]) == 'hi\n[{"name":"add"}]'


STREAMED = [
    pytest.param("yes", AIMessageChunk("yes"), "yes", id="token"),
    pytest.param("", AIMessageChunk("", tool_call_chunks=[{"name": "add", "args": None, "id": "1", "index": 0}]), "add", id="call"),
    pytest.param("", AIMessageChunk("", tool_call_chunks=[{"name": None, "args": '{"a"', "id": None, "index": 0}]), '{"a"', id="arguments"),
    pytest.param(
        [],
        AIMessageChunk(
            [{"type": "input_json_delta", "partial_json": '{"a"', "index": 0}],
            tool_call_chunks=[{"name": None, "args": '{"a"', "id": None, "index": 0}],
        ),
        '{"a"',
        id="arguments-once",
    ),
    pytest.param([], AIMessageChunk([{"type": "thinking", "thinking": "hm", "index": 0}]), "hm", id="thinking"),
    pytest.param("", AIMessageChunk("", additional_kwargs={"reasoning_content": "hm"}), "hm", id="reasoning-beside"),
    pytest.param([], AIMessageChunk([{"type": "text", "text": "yes", "index": 0}]), "yes", id="text-block"),
    pytest.param("", AIMessageChunk(""), "", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("token", "message", "expected"), STREAMED)
def test_chunk_text(token: Any, message: Any, expected: str) -> None:
    """A streamed chunk says its token, else its reasoning and the pieces of its tool calls, each once."""
    assert expected == chunk_text(token, ChatGenerationChunk(message=message))


def test_chunk_without_a_message() -> None:
    """A string model's chunk is its text; without a chunk there is the token."""
    assert chunk_text("", SimpleNamespace(text="yes")) == "yes"
    assert chunk_text(["a", "b"], None) == "ab"


class Hostile:
    """An object that raises at every look."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError


def nested(depth: int, leaf: Any) -> Any:
    value = leaf
    for _ in range(depth):
        value = {"content": [value]}
    return value


def test_counting_never_raises() -> None:
    """An object that raises at every look has some text or none."""
    for text in (sent_text([Hostile()]), sent_text(Hostile()), said_text([[Hostile()]]), chunk_text("", Hostile())):
        assert isinstance(text, str)


@pytest.mark.parametrize("depth", [600, 20_000])
def test_depth_does_not_matter(depth: int) -> None:
    """A text is found below more levels than Python's stack has."""
    assert SECRET in sent_text([HumanMessage([nested(depth, SECRET)])])
    assert SECRET in said_text(
        answers(AIMessage("", tool_calls=[{"name": "t", "args": nested(depth, SECRET), "id": "1"}]))
    )
    assert SECRET in heard(HumanMessage([nested(depth, SECRET)]))


def test_blocks_of_messages() -> None:
    """Blocks are found in messages, in lists nested as they are."""
    messages = [[HumanMessage("x"), HumanMessage([{"type": "text", "text": "a"}, "b"])], [SystemMessage([{"c": 1}])]]

    assert [{"type": "text", "text": "a"}, {"c": 1}] == list(blocks_of(messages))


# --- what is private


def heard(value: Any, **options: Any) -> list[str]:
    return [told.text for told in private_strings(value, **options) if told.kind == "words"]


def names(value: Any) -> list[str]:
    return [told.text for told in private_strings(value) if told.kind == "name"]


def is_heard(value: Any, secret: str = SECRET) -> bool:
    return any(secret in text for text in heard(value))


@dataclasses.dataclass
class Card:
    holder: Any


class Person(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    more: dict[str, Any] = {}


class Form(BaseModel):
    """What is wanted."""

    diagnosis: str = Field(description="how the doctor says it: " + SECRET, pattern="^ICD .*")


class Opaque:
    def __init__(self, text: str) -> None:
        self.inner = text

    def __repr__(self) -> str:
        return f"Opaque({self.inner})"


@tool(description=SECRET)
def lookup(query: str) -> str:
    return query


def raised(note: str = "", *, cause: str = "", group: str = "", body: Any = None) -> Any:
    error: Any = ExceptionGroup("several", [ValueError(group)]) if group else ValueError("no")
    if note:
        error.add_note(note)
    if cause:
        error.__cause__ = KeyError(cause)
    if body is not None:
        error.body = body
    return error


PLACES = {
    "string": SECRET,
    "content": HumanMessage(SECRET),
    "block": HumanMessage([{"type": "text", "text": SECRET}]),
    "unknown block": HumanMessage([{"type": "surprise", "value": {"deep": [SECRET]}}]),
    "type of a block": HumanMessage([{"type": SECRET}]),
    "role": {"role": SECRET, "content": "x"},
    "id": AIMessage("x", id=SECRET),
    "id of a call": AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": SECRET}]),
    "key of a block": HumanMessage([{SECRET: 1}]),
    "name of a message": HumanMessage("x", name=SECRET),
    "reasoning": AIMessage([{"type": "thinking", "thinking": SECRET}]),
    "reasoning beside content": AIMessage("x", additional_kwargs={"reasoning_content": SECRET}),
    "additional_kwargs": AIMessage("x", additional_kwargs={"thought": [{"a": SECRET}]}),
    "response_metadata": AIMessage("x", response_metadata={"note": SECRET}),
    "model name": AIMessage("x", response_metadata={"model_name": SECRET}),
    "finish reason": AIMessage("x", response_metadata={"finish_reason": SECRET}),
    "text among counts": {"usage_metadata": {"input_tokens": SECRET}},
    "arguments": AIMessage("", tool_calls=[{"name": "t", "args": {"q": SECRET}, "id": "1"}]),
    "type in arguments": AIMessage("", tool_calls=[{"name": "t", "args": {"type": "text", "id": SECRET}, "id": "1"}]),
    "key in arguments": AIMessage("", tool_calls=[{"name": "t", "args": {SECRET: 1}, "id": "1"}]),
    "words in arguments": AIMessage("", tool_calls=[{"name": "t", "args": {"words": SECRET.split()}, "id": "1"}]),
    "invalid arguments": AIMessage("", invalid_tool_calls=[{"name": "t", "args": SECRET, "id": "1", "error": "e"}]),
    "error of a call": AIMessage("", invalid_tool_calls=[{"name": "t", "args": "", "id": "1", "error": SECRET}]),
    "JSON in a string": AIMessage("", additional_kwargs={"function_call": {"arguments": json.dumps({"q": SECRET})}}),
    "JSON in JSON": json.dumps([json.dumps({"q": SECRET})]),
    "artifact": ToolMessage("x", artifact={"raw": [SECRET]}, tool_call_id="1"),
    "artifact object": ToolMessage("x", artifact=Card(SECRET), tool_call_id="1"),
    "document": Document(SECRET),
    "document's metadata": Document("x", metadata={"source": SECRET}),
    "generation": answers(AIMessage(SECRET)),
    "generation info": [[ChatGeneration(message=AIMessage("x"), generation_info={"log": SECRET})]],
    "response": LLMResult(generations=answers(AIMessage("x")), llm_output={"note": SECRET}),
    "chunk": ChatGenerationChunk(message=AIMessageChunk(SECRET)),
    "piece of a call": AIMessageChunk("", tool_call_chunks=[{"name": None, "args": SECRET, "id": None, "index": 0}]),
    "bytes": {"raw": SECRET.encode()},
    "set": {"several": {SECRET}},
    "tuple as key": {("a", SECRET): 1},
    "dataclass": Card([Card(SECRET)]),
    "pydantic": Person(name=SECRET),
    "pydantic extra": Person(name="x", other=SECRET),
    "pydantic in a mapping": Person(name="x", more={"y": SECRET}),
    "object": Opaque(SECRET),
    "subclass of str": type("Text", (str,), {})(SECRET),
    "plain object": SimpleNamespace(content=SECRET),
    "description of a tool": {"tools": [convert_to_openai_tool(lookup)]},
    "tool": lookup,
    "constant of a schema": {"parameters": {"properties": {"a": {"const": SECRET}}}},
    "choices of a schema": {"parameters": {"properties": {"a": {"enum": [SECRET]}}}},
    "pattern of a schema": {"parameters": {"properties": {"a": {"pattern": SECRET}}}},
    "class of an answer": {"response_format": Form},
    "parameter": {"prediction": {"type": "content", "content": SECRET}},
    "stop": {"stop": [SECRET]},
    "user": {"user": SECRET},
    "error": ValueError(SECRET),
    "error's arguments": ValueError("x", {"a": SECRET}),
    "note": raised(SECRET),
    "cause": raised(cause=SECRET),
    "member of a group": raised(group=SECRET),
    "body": raised(body={"error": {"message": SECRET}}),
    "body as bytes": raised(body=SECRET.encode()),
}


@pytest.mark.parametrize("place", list(PLACES))
def test_heard_everywhere(place: str) -> None:
    """What somebody told or said is heard wherever it stands, also where structure should."""
    assert is_heard(PLACES[place])


STRUCTURE = {
    "message": HumanMessage([{"type": "text", "text": ""}]),
    "answer": AIMessage(
        "",
        id=f"run--{uuid4()}-0",
        response_metadata={
            "id": "chatcmpl-CdzKqjY7nYQ0",
            "model_name": "gpt-4o-2024-08-06",
            "model_provider": "openai",
            "finish_reason": "tool_calls",
            "service_tier": "default",
            "system_fingerprint": "fp_c98e05ca17",
            "token_usage": {"prompt_tokens": 1_000_000, "total_cost": 0.000123456789, "completion_tokens_details": {"a": 1}},
            "logprobs": {"content": [{"token": "", "logprob": -0.123456789}]},
        },
        usage_metadata={"input_tokens": 1_000_000, "output_tokens": 5, "total_tokens": 1_000_005},
    ),
    "call": AIMessage("", tool_calls=[{"name": "look_up_weather", "args": {}, "id": "call_abc123DEF456"}]),
    "result": ToolMessage("", name="look_up_weather", tool_call_id="toolu_01XFDUDYJgAACzvn"),
    "file": [{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}],
    "removal": RemoveMessage("lc_0123456789abcdef"),
    "schema": {
        "type": "function",
        "function": {
            "name": "look_up_weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": ["string", "null"]}, "where": {"$ref": "#/$defs/Place"}},
                "required": ["city", "where_from"],
            },
        },
    },
    "short numbers": {"index": 12345, "temperature": 0.7},
}  # fmt: skip


@pytest.mark.parametrize("case", list(STRUCTURE))
def test_structure_is_nobodys_words(case: str) -> None:
    """Kinds, ids, names of models and tools, types of a schema and counts are shared by all nodes: no words."""
    assert [] == heard(STRUCTURE[case])


def test_names_are_told_apart() -> None:
    """Names that a program may have declared come as names; what is no identifier is words."""
    calls = [{"name": "look_up", "args": {}, "id": "1"}, {"name": "Bob Lee", "args": {}, "id": "2"}]

    assert names(AIMessage("", tool_calls=calls)) == ["look_up"]
    assert "Bob Lee" in heard(AIMessage("", tool_calls=calls))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{FILE}"}}], id="url"),
        pytest.param([{"type": "input_audio", "input_audio": {"data": FILE}}], id="bare"),
        pytest.param([{"data": base64.urlsafe_b64encode(b"\xff\xfe\xfb" * 30).decode().rstrip("=")}], id="alphabet-of-urls"),
        pytest.param([{"data": b"\xff\xfe\xfb" * 30}], id="bytes"),
    ],
)  # fmt: skip
def test_files_come_with_their_bytes(value: Any) -> None:
    """A file comes as it stands and as its bytes, in whichever way it is written."""
    files = [told for told in private_strings(value) if told.kind == "file"]

    assert len(files) == 1
    assert files[0].data in (base64.b64decode(FILE), b"\xff\xfe\xfb" * 30)


def test_long_numbers_are_words() -> None:
    """A number with many digits may be somebody's; one of few says nothing."""
    assert heard({"a": [4111111111111111, 3]}) == ["4111111111111111"]


def test_circles_end() -> None:
    """A value that holds itself is walked once."""
    value: dict[str, Any] = {"text": SECRET}
    value["self"] = [value, {"again": value}]

    assert heard(value) == [SECRET]


def test_shared_value_is_heard_as_data_too() -> None:
    """A mapping that stands among a message's fields and in arguments is heard as both."""
    shared = {"type": "text", "id": "chatcmpl-CdzKqjY7nYQ0"}

    assert "chatcmpl-CdzKqjY7nYQ0" in heard([shared, {"args": shared}])


def test_iterators_are_left_alone() -> None:
    """What can be read once is left for the one whom it was made for."""
    stream = iter(["a", "b"])
    list(private_strings({"stream": stream}))

    assert list(stream) == ["a", "b"]


def test_hearing_tells_when_it_fails() -> None:
    """Fields that cannot be read are an error for the one who hears: what was not heard is not known to be private."""

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("hidden")

    with pytest.raises(RuntimeError):
        list(private_strings(Broken(a=1)))
