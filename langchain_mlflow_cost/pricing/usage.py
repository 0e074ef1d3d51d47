"""What one model call was asked for and what it used: plain records. Nothing here knows a price, or LangChain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from langchain_mlflow_cost.errors import UsageError

if TYPE_CHECKING:
    from decimal import Decimal


_INPUT_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "cached": ("cache_read", "cache_write", "cache_write_1h"),
    "audio": ("input_audio",),
    "image": ("input_image",),
    "video": ("input_video",),
}
_OUTPUT_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "reasoning": ("reasoning",),
    "audio": ("output_audio",),
    "image": ("output_image",),
    "citation": ("citation",),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and fees of one model call. Every token class below a total is part of it, not on top of it.

    There is none that cannot be true. What comes from outside is made possible first, and told: `reported`.

    Raises:
        UsageError: A count that is no whole number or below 0, or parts that exceed their whole, with both numbers.
    """

    input_tokens: int = 0
    """All of the prompt: cached, cache-writing, audio and image tokens included, as LangChain counts them."""
    output_tokens: int = 0
    """All of the answer, reasoning included, as billed."""
    cache_read: int = 0
    cache_write: int = 0
    """Written to a cache for 5 minutes, or for a time that nobody told. Disjoint from `cache_write_1h`."""
    cache_write_1h: int = 0
    input_audio: int = 0
    input_image: int = 0
    input_video: int = 0
    cache_read_audio: int = 0
    """Audio that came from a cache: part of `cache_read` and of `input_audio`."""
    reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0
    citation: int = 0
    fees: tuple[tuple[str, int], ...] = ()
    """What is billed per use besides tokens, by name (`web_search`, `file_search`, ...); failed uses are left out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be true. On the way of every call: words are looked for only where one is needed.

        The bits of whole numbers, joined by `|`, are below 0 where one of them is; what is no whole number has no bits.
        """
        try:
            read, reasoning = self.cache_read, self.reasoning
            rare = self.cache_write | self.cache_write_1h | self.input_audio | self.input_image | self.input_video
            rare |= self.cache_read_audio | self.output_audio | self.output_image | self.citation
            bits = self.input_tokens - read | self.output_tokens - reasoning | read | reasoning
            if bits >= 0 and (not rare or (rare > 0 and self._adds_up())) and not self.fees:
                return
        except TypeError:
            pass
        if (problem := self._problem()) is not None:
            raise UsageError(problem)

    def _adds_up(self) -> bool:
        """Whether the rarer classes, none of which is negative, fit in their wholes with the others."""
        both = self.cache_read_audio
        cached = self.cache_read + self.cache_write + self.cache_write_1h
        heard = self.input_audio + self.input_image + self.input_video
        said = self.reasoning + self.output_audio + self.output_image + self.citation
        bits = self.input_tokens - cached - heard + both | self.output_tokens - said
        return (bits | self.cache_read - both | self.input_audio - both) >= 0

    def _problem(self) -> str | None:
        counts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "fees"}
        for name, count in (*counts.items(), *self.fees):
            if not isinstance(count, int):
                return f"{name} is no whole number but {type(count).__name__}"
            if count < 0:
                return f"{name} is negative ({count})"
        both = counts.pop("cache_read_audio")
        for whole, room in (("cached", self.cache_read), ("audio", self.input_audio)):
            if both > room:
                return f"cached audio tokens ({both}) exceed {whole} tokens ({room})"
        for whole, kinds, less in (("input", _INPUT_KINDS, both), ("output", _OUTPUT_KINDS, 0)):
            room = counts[f"{whole}_tokens"]
            told = {kind: sum(counts[name] for name in names) for kind, names in kinds.items()}
            if sum(told.values()) - less > room:
                kinds_told = " and ".join(kind for kind, count in told.items() if count)
                return f"{kinds_told} tokens ({sum(told.values()) - less}) exceed {whole} tokens ({room})"
        return None

    @property
    def has_rare(self) -> bool:
        """Whether there is any class but plain tokens, those from the cache, and reasoning."""
        rare = self.cache_write | self.cache_write_1h | self.input_audio | self.input_image | self.input_video
        return bool(rare | self.cache_read_audio | self.output_audio | self.output_image | self.citation)

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One model call as it was asked for."""

    provider: str | None = None
    """genai-prices' id where one is known, else what LangChain says, in lower case."""
    model: str | None = None
    max_output_tokens: int | None = None
    """The cap on one answer's tokens, where the request has one."""
    n: int = 1
    """Answers asked for; each is billed as output."""
    service_tier: str | None = None
    cache_ttl: str | None = None
    """`5m`, `1h` or `mixed`: what the prompt's `cache_control` blocks ask for. Streams lose it."""
    host: str | None = None
    """Host of the base URL, where LangChain shows it."""
    speed: str | None = None
    region: str | None = None
    """Where the provider is told to compute: Anthropic's `inference_geo`, Vertex' `location`."""
    batch_size: int = 1
    """Prompts that one request carries: string models report the usage of all of them with the first."""
    is_search_preview: bool = False
    """Whether OpenAI's older search tool was sent, which has a price of its own; the answer does not tell which."""
    sends_audio: bool = False
    """Whether the prompt has audio, which one integration counts as text."""
    search_context: str | None = None
    """Perplexity's `search_context_size`, which decides its fee for a request; not every stream's end tells it."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """One model call as it was answered."""

    usage: Usage | None = None
    """None: the provider did not say. Never 0 in its place."""
    response_model: str | None = None
    provider: str | None = None
    service_tier: str | None = None
    """`flex`, `priority`, `batch`, ...; None for the standard one."""
    speed: str | None = None
    region: str | None = None
    billed_usd: Decimal | None = None
    """The bill in the response itself, which is the truth."""
    cached: bool = False
    """LangChain's own LLM cache answered: no request was made."""
    estimated: bool = False
    """At least one of the totals was counted by us from the text."""
    side_calls: tuple[tuple[str | None, Usage], ...] = ()
    """Further inferences inside this request that `usage` leaves out, with their model (None: the same one)."""
    problems: tuple[str, ...] = ()
    """What could not be true in the reported usage and what was made of it, in words and numbers only."""
    notes: tuple[str, ...] = ()
    """What is billed and was not told: the cost is known to be too high or too low by it."""

    @property
    def input_tokens(self) -> int:
        """All input tokens, those of side calls included; 0 where nothing is known."""
        own = self.usage.input_tokens if self.usage else 0
        return own + sum(usage.input_tokens for _, usage in self.side_calls)

    @property
    def output_tokens(self) -> int:
        """All output tokens, those of side calls included; 0 where nothing is known."""
        own = self.usage.output_tokens if self.usage else 0
        return own + sum(usage.output_tokens for _, usage in self.side_calls)


STANDARD_TIER: Final = "standard"
