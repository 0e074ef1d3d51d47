"""What the scripted model answers: calls of the tools that it is offered, in turn, and what satisfies a schema."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config

from langchain_mlflow_cost.nodes import node_path, path_text
from langchain_mlflow_cost.proof.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

    from langchain_mlflow_cost.proof.planting import Planter

_USAGE: Final = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
_MOST_CALLS: Final = 2
"""How often a tool is called at one place in one round: an agent whose history is cut would call it for ever."""
_SCHEMA_KEYS: Final = (
    "response_format", "output_format", "output_config", "format", "response_schema", "response_json_schema",
    "json_schema", "schema", "text", "guided_json",
)  # fmt: skip
"""Under which the providers' clients take the schema of an answer, or hold it one within another."""


class _Tool(NamedTuple):
    name: str
    schema: Any


class ScriptedModel:
    """Answers for every model, tool and retriever.

    Args:
        planter: Makes the texts.
        words: What a router may look for in an answer: names of nodes and branches, short texts in its code. Said, one
            each time, in the rounds in which `say_words` is set.
    """

    def __init__(self, planter: Planter, words: Sequence[str]) -> None:
        self._planter = planter
        self._words = list(words)
        self._lock = threading.RLock()
        self._place = "answer"
        self._shapes = Shapes(lambda most: self._planter.text(self._place, most))
        self._called: Counter[tuple[str, str]] = Counter()
        self._turns: Counter[str] = Counter()
        self.say_words = False

    def begin_round(self) -> None:
        """Forget which tools were called."""
        with self._lock:
            self._called.clear()

    def answer(self, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> AIMessage:
        """See `adapters.stand_ins.Script`."""
        site = _site()
        with self._lock:
            self._place = f"answer of {site}"
            made = self._made(site, messages, options)
        made.id = f"run-{uuid.uuid4()}"
        made.usage_metadata = dict(_USAGE)  # type: ignore[assignment]
        return made

    def _made(self, site: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> AIMessage:
        tool = self._tool_to_call(site, messages, options)
        if tool is not None:
            self._called[site, tool.name] += 1
            arguments = self._shapes.of_schema(tool.schema or {"type": "object"}, f"{site}:{tool.name}")
            call = {"name": tool.name, "args": arguments, "id": f"call_{uuid.uuid4().hex[:12]}", "type": "tool_call"}
            return AIMessage(self._planter.text(self._place), tool_calls=[call])
        schema = _schema_in(options)
        if schema is not None:
            value = self._shapes.of_schema(schema, f"{site}:")
            # langchain-openai's parser looks for the value that its client has parsed; all others read the text.
            return AIMessage(json.dumps(value), additional_kwargs={"parsed": value} if _is_openai(options) else {})
        return AIMessage(self._said(site))

    def _said(self, site: str) -> str:
        if self.say_words and self._words:
            turn = self._turns[site]
            self._turns[site] = turn + 1
            if turn % (len(self._words) + 1) < len(self._words):
                return self._words[turn % (len(self._words) + 1)]
        return self._planter.text(self._place)

    def _tool_to_call(self, site: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> _Tool | None:
        tools = list(_tools_in(options))
        choice = options.get("tool_choice")
        if not tools or choice == "none":
            return None
        named = _named_in(choice)
        for tool in tools:
            if tool.name == named:
                return tool
        told = {call["name"] for each in messages if isinstance(each, AIMessage) for call in each.tool_calls}
        for tool in tools:
            if tool.name not in told and self._called[site, tool.name] < _MOST_CALLS:
                return tool
        # One has to be called: the last, which is the one that ends an agent's loop where it has one.
        return tools[-1] if _has_to_call(choice) else None

    def text(self, prompt: str) -> str:  # noqa: ARG002 - whatever it is asked
        """See `adapters.stand_ins.Script`."""
        site = _site()
        with self._lock:
            self._place = f"answer of {site}"
            return self._said(site)

    def result(self, tool: str) -> str:
        """See `adapters.stand_ins.Script`."""
        return self._planter.text(f"result of tool {tool}")

    def documents(self) -> list[Document]:
        """See `adapters.stand_ins.Script`."""
        text, source = self._planter.text("retriever's document"), self._planter.text("retriever's metadata")
        return [Document(text, metadata={"source": source})]


def _site() -> str:
    """Where in the graph the model is asked."""
    try:
        return path_text(node_path(get_config().get("metadata"))) or "(outside nodes)"
    except RuntimeError:
        return "(outside nodes)"


def _tools_in(options: Mapping[str, Any]) -> Iterator[_Tool]:
    """The tools that a model was bound with, in whatever form its provider has them."""
    for each in (*(options.get("tools") or ()), *(options.get("functions") or ())):
        yield from _tools_of(each)


def _tools_of(tool: Any) -> Iterator[_Tool]:
    declared = tool.get("function_declarations") if isinstance(tool, Mapping) else None
    declared = declared or getattr(tool, "function_declarations", None)
    if declared:
        for each in declared:
            yield from _tools_of(each)
    elif isinstance(tool, Mapping):
        inner = tool.get("function") or tool.get("toolSpec") or tool
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            schema = inner.get("parameters") or inner.get("input_schema") or inner.get("parameters_json_schema")
            wrapped = inner.get("inputSchema")
            schema = schema or (wrapped.get("json") if isinstance(wrapped, Mapping) else None)
            # A provider's own tool, such as a search of the web, has no parameters: the provider runs it.
            if schema is not None or "description" in inner:
                yield _Tool(inner["name"], schema)
    elif hasattr(tool, "parameters_json_schema"):
        yield _Tool(tool.name, tool.parameters_json_schema or {})
    else:
        yield from _tools_of(convert_to_openai_tool(tool))


def _named_in(choice: Any) -> str | None:
    """The one tool that has to be called, if it is said which."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, Mapping):
        inner = choice.get("function") or choice.get("tool") or choice
        name = inner.get("name") if isinstance(inner, Mapping) else None
        return name if isinstance(name, str) else None
    return None


def _has_to_call(choice: Any) -> bool:
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    return kind in {"any", "required", True} or (isinstance(choice, Mapping) and "any" in choice)


def _is_openai(options: Mapping[str, Any]) -> bool:
    return "response_format" in options


def _schema_in(options: Mapping[str, Any], depth: int = 0) -> Any:
    """The JSON schema that an answer has to satisfy, if one is asked for."""
    for key in _SCHEMA_KEYS:
        found = options.get(key)
        if isinstance(found, type) and hasattr(found, "model_json_schema"):
            return found.model_json_schema()
        if isinstance(found, Mapping):
            if "properties" in found or ("type" in found and found["type"] in {"object", "array", "string"}):
                return found
            inner = _schema_in(found, depth + 1) if depth < len(_SCHEMA_KEYS) else None
            if inner is not None:
                return inner
            if found.get("type") in {"json_object", "json"}:
                return {"type": "object", "properties": {"answer": {"type": "string"}}}
        elif found in {"json", "json_object"}:
            return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None
