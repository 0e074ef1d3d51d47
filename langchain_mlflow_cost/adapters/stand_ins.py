"""Models, tools and retrievers that answer from a script: in each class, for as long as a proof runs.

Nothing public puts another model in the place of one that a graph holds, be it in a closure, made at run time, or in an
agent. What a subclass implements, by the names that LangChain documents for it (`_generate`, `_run`, ...), is replaced
in the class; classes that are made later are found when `renew` is called, before a model, tool or retriever is asked.
Read in langchain-core 1.0 to 1.7.
"""

# ruff: noqa: ARG001 - the signatures are LangChain's

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.documents import Document
    from langchain_core.messages import AIMessage, BaseMessage


class Script(Protocol):
    """Who answers."""

    def answer(self, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> AIMessage:
        """For a chat model; the options are what it was called and bound with."""
        ...

    def text(self, prompt: str) -> str:
        """For a model of strings."""
        ...

    def result(self, tool: str) -> str:
        """For a tool."""
        ...

    def documents(self) -> list[Document]:
        """For a retriever."""
        ...


class StandIns:
    """Classes whose methods are replaced, and what they were."""

    def __init__(self, script: Script, *, tools: bool) -> None:
        self._replaced: list[tuple[type, str, Any]] = []
        self._done: set[tuple[type, str]] = set()
        self._tables: list[tuple[type, dict[str, Any]]] = [
            (BaseChatModel, _chat_methods(script)),
            (BaseLLM, _text_methods(script)),
            (Embeddings, _EMBEDDINGS),
        ]
        if tools:
            self._tables += [(BaseTool, _tool_methods(script)), (BaseRetriever, _retriever_methods(script))]

    def renew(self) -> None:
        """Replace the methods of classes that were made since."""
        for base, methods in self._tables:
            for kind in _below(base):
                for name, method in methods.items():
                    if name in vars(kind) and (kind, name) not in self._done:
                        self._done.add((kind, name))
                        self._replaced.append((kind, name, vars(kind)[name]))
                        setattr(kind, name, method)

    def take_back(self) -> None:
        """Give the classes their own methods again."""
        while self._replaced:
            kind, name, method = self._replaced.pop()
            setattr(kind, name, method)
        self._done.clear()


@contextmanager
def stood_in(script: Script, *, tools: bool) -> Iterator[StandIns]:
    """Let a script answer for every model, and for every tool and retriever too, while the block runs."""
    stand_ins = StandIns(script, tools=tools)
    stand_ins.renew()
    try:
        yield stand_ins
    finally:
        stand_ins.take_back()


def _below(base: type) -> Iterator[type]:
    todo: list[type] = [base]
    seen: set[type] = {base, DeterministicFakeEmbedding}
    while todo:
        below: list[type] = todo.pop().__subclasses__()
        for kind in below:
            if kind not in seen:
                seen.add(kind)
                todo.append(kind)
                yield kind


def _name_of(model: Any) -> str:
    for key in ("model_name", "model", "model_id", "deployment_name"):
        name = getattr(model, key, None)
        if isinstance(name, str) and name:
            return name
    return type(model).__name__


def _chat_methods(script: Script) -> dict[str, Any]:
    def answered(self: Any, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> AIMessage:
        message = script.answer(messages, options)
        message.response_metadata = {"model_name": _name_of(self), "finish_reason": "stop"}
        return message

    def generate(self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answered(self, messages, options))])

    async def agenerate(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        return generate(self, messages, stop, run_manager, **options)

    def stream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = answered(self, messages, options)
        text = message.text
        half = len(text) // 2
        for piece in (text[:half], text[half:]):
            if piece:
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece, id=message.id))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                id=message.id,
                additional_kwargs=message.additional_kwargs,
                tool_call_chunks=[
                    tool_call_chunk(name=call["name"], args=_json(call["args"]), id=call["id"], index=at)
                    for at, call in enumerate(message.tool_calls)
                ],
                usage_metadata=message.usage_metadata,
                response_metadata=message.response_metadata,
            )
        )

    async def astream(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in stream(self, messages, stop, run_manager, **options):
            yield chunk

    return {
        "_generate": generate,
        "_agenerate": agenerate,
        "_stream": stream,
        "_astream": astream,
        # Where a class has its own events they come from its client; without them LangChain makes them of `_stream`.
        "_stream_chat_model_events": None,
        "_astream_chat_model_events": None,
    }


def _json(value: Any) -> str:
    import json  # noqa: PLC0415 - for calls of tools in streams alone

    return json.dumps(value)


def _text_methods(script: Script) -> dict[str, Any]:
    def generate(self: Any, prompts: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> LLMResult:
        count = len(prompts)
        usage = {"prompt_tokens": 10 * count, "completion_tokens": 10 * count, "total_tokens": 20 * count}
        return LLMResult(
            generations=[[Generation(text=script.text(prompt))] for prompt in prompts],
            llm_output={"token_usage": usage, "model_name": _name_of(self)},
        )

    async def agenerate(self: Any, prompts: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> LLMResult:
        return generate(self, prompts, stop, run_manager)

    def stream(
        self: Any, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[GenerationChunk]:
        yield GenerationChunk(text=script.text(prompt))

    async def astream(
        self: Any, prompt: str, stop: Any = None, run_manager: Any = None, **_: Any
    ) -> AsyncIterator[GenerationChunk]:
        yield GenerationChunk(text=script.text(prompt))

    return {"_generate": generate, "_agenerate": agenerate, "_stream": stream, "_astream": astream}


def _tool_methods(script: Script) -> dict[str, Any]:
    # Both take `run_manager` and `config`, as LangChain hands them to those that name them.
    def run(self: Any, *_: Any, config: Any = None, run_manager: Any = None, **__: Any) -> Any:
        text = script.result(self.name)
        return (text, {"result": text}) if self.response_format == "content_and_artifact" else text

    async def arun(self: Any, *_: Any, config: Any = None, run_manager: Any = None, **__: Any) -> Any:
        return run(self)

    return {"_run": run, "_arun": arun}


def _retriever_methods(script: Script) -> dict[str, Any]:
    def documents(self: Any, query: str, *, run_manager: Any = None, **_: Any) -> list[Document]:
        return script.documents()

    async def adocuments(self: Any, query: str, *, run_manager: Any = None, **_: Any) -> list[Document]:
        return script.documents()

    return {"_get_relevant_documents": documents, "_aget_relevant_documents": adocuments}


def _vectors(self: Any) -> DeterministicFakeEmbedding:
    size = next((each for key in ("dimensions", "size") if isinstance(each := getattr(self, key, None), int)), 1536)
    return DeterministicFakeEmbedding(size=size)


async def _aembed_documents(self: Any, texts: list[str]) -> list[list[float]]:
    return _vectors(self).embed_documents(texts)


async def _aembed_query(self: Any, text: str) -> list[float]:
    return _vectors(self).embed_query(text)


_EMBEDDINGS: Final[dict[str, Callable[..., Any]]] = {
    "embed_documents": lambda self, texts, *_, **__: _vectors(self).embed_documents(texts),
    "embed_query": lambda self, text, *_, **__: _vectors(self).embed_query(text),
    "aembed_documents": _aembed_documents,
    "aembed_query": _aembed_query,
}
