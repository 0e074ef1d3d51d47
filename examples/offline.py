"""The examples' model: a real one where the environment has a key, else one that says what it is told to, for nothing.

OPENAI_API_KEY=sk-... python examples/create_agent.py   # gpt-4o-mini; MODEL=anthropic:claude-haiku-4-5 for another
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

HAS_KEY = bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("MODEL"))


class Offline(BaseChatModel):
    """Gives its answers in turn. Each costs 0.00036 USD at the prices of gpt-4o-mini: 1,200 tokens in, 300 out."""

    answers: list[Any]
    given: int = 0

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        """Its answers call the tools that they call."""
        return self

    def _next(self) -> AIMessage:
        answer = self.answers[self.given % len(self.answers)]
        self.given += 1
        return AIMessage(
            answer if isinstance(answer, str) else "",
            tool_calls=[] if isinstance(answer, str) else [answer],
            usage_metadata={"input_tokens": 1_200, "output_tokens": 300, "total_tokens": 1_500},
            response_metadata={"model_name": "gpt-4o-mini", "model_provider": "openai"},
        )

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._next())])

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        answer = self._next()
        words = str(answer.content).split(" ")
        for number, word in enumerate(words):
            is_last = number == len(words) - 1
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    word if is_last else f"{word} ",
                    id="answer",
                    usage_metadata=answer.usage_metadata if is_last else None,
                    response_metadata=answer.response_metadata if is_last else {},
                    tool_calls=answer.tool_calls if is_last else [],
                )
            )


def model(*answers: Any) -> BaseChatModel:
    """A chat model.

    Args:
        answers: What it says where there is no key: texts, and calls of tools as `calls` makes them.
    """
    if HAS_KEY:
        return init_chat_model(os.environ.get("MODEL", "openai:gpt-4o-mini"))
    return Offline(answers=list(answers))


def calls(tool: str, **arguments: Any) -> dict[str, Any]:
    """An answer that calls a tool."""
    return {"name": tool, "args": arguments, "id": f"call-{tool}", "type": "tool_call"}


def told(messages: Sequence[Any]) -> str:
    """The last message's text."""
    return str(messages[-1].content)
