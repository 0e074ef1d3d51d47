"""What one model call was asked for and what it used: plain records. Nothing here knows a price, or LangChain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and fees of one model call. Every token class below a total is part of it, not on top of it."""

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
