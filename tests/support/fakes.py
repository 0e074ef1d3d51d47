"""Models that answer from a script, and graphs of one or two nodes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import Field

USAGE = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
COST_USD = 1000 * 0.15e-6 + 500 * 0.6e-6
"""Of one call: gpt-4o-mini at 0.15 and 0.60 USD per million tokens."""


class Chat(BaseChatModel):
    """Answers with what `reply` says, streamed in pieces of a few characters; an exception is raised."""

    reply: Any = "fine"
    seen: list[Any] = Field(default_factory=list)
    piece: int = 7

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "openai", "ls_model_name": "gpt-4o-mini"}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "gpt-4o-mini"}

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        self.seen.append(messages)
        reply = self.reply(messages) if callable(self.reply) else self.reply
        if isinstance(reply, BaseException):
            raise reply
        message = AIMessage(reply) if isinstance(reply, str | list) else reply.model_copy()
        message.usage_metadata = USAGE
        message.response_metadata = {"model_name": "gpt-4o-mini", **message.response_metadata}
        return message

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any) -> Iterator[Any]:
        for chunk in self._chunks(messages):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
    ) -> AsyncIterator[Any]:
        for chunk in self._chunks(messages):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        message = self._answer(messages)
        for piece in re.findall(f"(?s).{{1,{self.piece}}}", message.text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        end = AIMessageChunk(
            content="",
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            additional_kwargs=message.additional_kwargs,
            tool_call_chunks=[
                {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": i}
                for i, call in enumerate(message.tool_calls)
            ],
        )
        yield ChatGenerationChunk(message=end)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)


class Text(BaseLLM):
    """A string model."""

    reply: str = "fine"

    @property
    def _llm_type(self) -> str:
        return "scripted-text"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "openai", "ls_model_name": "gpt-4o-mini"}

    def _generate(self, prompts: list[str], *_: Any, **__: Any) -> LLMResult:
        return LLMResult(generations=[[Generation(text=self.reply)] for _ in prompts])


class State(TypedDict, total=False):
    """Messages, and whatever else a test puts through the graph."""

    messages: Annotated[list[Any], add_messages]
    extra: Any


def graph(*nodes: tuple[str, Callable[..., Any]], checkpointer: Any = None) -> Any:
    """A chain of nodes."""
    builder = StateGraph(State)
    above = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(above, name)
        above = name
    return builder.add_edge(above, END).compile(checkpointer=checkpointer)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s
