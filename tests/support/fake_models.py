"""Models with chosen answers, usage and names, the prices that go with them, and a count of what they answered."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_core.caches import InMemoryCache
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLLM, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from pydantic import Field

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.runnables import Runnable

MINI, SONNET = "gpt-4o-mini", "claude-sonnet-4-5"
UNKNOWN = "acme-unpriced-7"
PROVIDERS = {MINI: "openai", SONNET: "anthropic", UNKNOWN: "acme"}

USAGE = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
MINI_USD = Decimal("0.00045")
"""1,000 tokens in at 0.15 and 500 out at 0.60 USD per million: openai.com/api/pricing, gpt-4o-mini."""
SONNET_USD = Decimal("0.0105")
"""1,000 tokens in at 3 and 500 out at 15 USD per million: docs.anthropic.com, Claude Sonnet 4.5."""
USD = {MINI: MINI_USD, SONNET: SONNET_USD}
"""Of an answer with `USAGE`."""


@dataclass
class Answer:
    """What a model began to say, and the usage that it has told so far."""

    model: str
    usage: Any = None


@dataclass
class Tally:
    """What fake models were paid for while this counted: by what they did, whatever was recorded of it."""

    answers: list[Answer] = field(default_factory=list)
    cached: int = 0
    """Answers of a `FakeCache`, for which no model was asked."""

    @property
    def calls(self) -> int:
        """Answers, those of caches too."""
        return len(self.answers) + self.cached

    @property
    def usd(self) -> Decimal | None:
        """What the answers cost; None where one did not tell its usage, or only after nobody listened."""
        if any(answer.usage != USAGE for answer in self.answers):
            return None
        return sum((USD[answer.model] for answer in self.answers), Decimal(0))


_TALLIES: list[Tally] = []


@contextmanager
def counted() -> Iterator[Tally]:
    """Count what the fake models answer meanwhile, in all threads."""
    tally = Tally()
    _TALLIES.append(tally)
    try:
        yield tally
    finally:
        _TALLIES.remove(tally)


def _answering(model: str, usage: Any = None) -> Answer:
    answer = Answer(model, usage)
    for tally in _TALLIES:
        tally.answers.append(answer)
    return answer


class FakeCache(InMemoryCache):
    """LangChain's cache, which counts what it answers."""

    def lookup(self, prompt: str, llm_string: str) -> Any:
        found = super().lookup(prompt, llm_string)
        if found is not None:
            for tally in _TALLIES:
                tally.cached += 1
        return found


class FakeChat(BaseChatModel):
    """Answers in turn what it is given: texts, messages, exceptions to raise, or functions of the request giving one."""

    model: str = MINI
    answers: list[Any] = Field(default_factory=lambda: ["an answer"])
    usage: dict[str, Any] | None = Field(default_factory=lambda: dict(USAGE))
    n: int = 1
    before: Callable[[], Any] | None = None
    """Called when the request has been sent, before the answer."""
    before_async: Callable[[], Awaitable[Any]] | None = None
    between: Callable[[int], Any] | None = None
    """Called before each chunk of a stream, with its number."""
    requests: list[list[BaseMessage]] = Field(default_factory=list)
    """What was sent, for the tests to count."""

    @property
    def _llm_type(self) -> str:
        return "fake-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider=PROVIDERS[self.model], ls_model_name=self.model, ls_model_type="chat")

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _script(self) -> Any:
        return self.answers[(len(self.requests) - 1) % len(self.answers)]

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        self.requests.append(messages)
        answer = self._script()
        if callable(answer):
            answer = answer(messages)
        if isinstance(answer, BaseException):
            raise answer
        message = answer.model_copy() if isinstance(answer, AIMessage) else AIMessage(answer)
        message.usage_metadata = self.usage  # type: ignore[assignment]
        message.response_metadata = {"model_name": self.model, "finish_reason": "stop", **message.response_metadata}
        return message

    def _result(self, messages: list[BaseMessage]) -> ChatResult:
        message = self._next(messages)
        _answering(self.model, self.usage)
        # As langchain-openai does: the usage of all n answers is copied onto each.
        generations = [ChatGeneration(message=message.model_copy()) for _ in range(self.n)]
        return ChatResult(generations=generations, llm_output={"model_name": self.model})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.before is not None:
            self.before()
        return self._result(messages)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.before_async is not None:
            await self.before_async()
        return self._result(messages)


class FakeStream(FakeChat):
    """The same in pieces; the usage comes with the last chunk, if at all."""

    piece: int | None = None
    """Characters of a piece; without it each is a word."""

    def _pieces(self, message: AIMessage) -> list[str]:
        if self.piece is not None:
            return re.findall(f"(?s).{{1,{self.piece}}}", message.text)
        first, *others = message.text.split(" ")
        return [first, *(f" {word}" for word in others)]

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        message = self._next(messages)
        answer = _answering(self.model)
        for number, text in enumerate(self._pieces(message)):
            if self.between is not None:
                self.between(number)
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        answer.usage = self.usage
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=self.usage,  # type: ignore[arg-type]
                response_metadata=message.response_metadata,
                additional_kwargs=message.additional_kwargs,
                tool_call_chunks=[
                    {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": number}
                    for number, call in enumerate(message.tool_calls)
                ],
            )
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if self.before is not None:
            self.before()
        for chunk in self._chunks(messages):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self.before_async is not None:
            await self.before_async()
        for chunk in self._chunks(messages):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class FakeText(BaseLLM):
    """A string model, whose usage is in `llm_output`, if at all."""

    model: str = MINI
    reply: str = "a text"
    tells_usage: bool = True

    @property
    def _llm_type(self) -> str:
        return "fake-text"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(ls_provider=PROVIDERS[self.model], ls_model_name=self.model, ls_model_type="llm")

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        for _ in prompts:
            _answering(self.model, USAGE if self.tells_usage else None)
        generations = [[Generation(text=self.reply)] for _ in prompts]
        if not self.tells_usage:
            return LLMResult(generations=generations)
        usage = {"prompt_tokens": 1000 * len(prompts), "completion_tokens": 500 * len(prompts)}
        usage["total_tokens"] = sum(usage.values())
        return LLMResult(generations=generations, llm_output={"token_usage": usage, "model_name": self.model})


class FakeEmbeddings(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[0.0, 1.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [0.0, 1.0]


def tool_call(name: str, **arguments: Any) -> AIMessage:
    """An answer that calls a tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "call-1", "type": "tool_call"}])
