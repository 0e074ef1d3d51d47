"""Counts of tokens, as LangChain, a provider or a span reports them, read into a `Usage`.

What cannot be true is made possible and told in words and numbers; usage that nobody reported is None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from langchain_mlflow_cost.pricing.providers import ANTHROPIC, AWS, GOOGLE, PERPLEXITY, model_id, provider_id
from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult, Usage

_TOTALS: Final[dict[str, str]] = {
    # What LangChain, the providers, MLflow, OpenInference (`llm.`) and OpenTelemetry (`gen_ai.`) call the three totals.
    "input_tokens": "input",
    "prompt_tokens": "input",
    "inputTokens": "input",
    "inputTokenCount": "input",
    "prompt_token_count": "input",
    "promptTokenCount": "input",
    "prompt_eval_count": "input",
    "output_tokens": "output",
    "completion_tokens": "output",
    "outputTokens": "output",
    "outputTokenCount": "output",
    "candidates_token_count": "output",
    "candidatesTokenCount": "output",
    "eval_count": "output",
    "llm.token_count.prompt": "input",
    "llm.token_count.completion": "output",
    "llm.token_count.total": "total",
    "gen_ai.usage.input_tokens": "input",
    "gen_ai.usage.prompt_tokens": "input",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
    "total_tokens": "total",
    "totalTokens": "total",
    "total_token_count": "total",
    "totalTokenCount": "total",
}
_INPUT_CLASSES: Final[dict[str, str]] = {
    "cache_read": "cache_read",
    "flex_cache_read": "cache_read",
    "priority_cache_read": "cache_read",
    "cached_tokens": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "cache_creation": "cache_write",
    "flex_cache_creation": "cache_write",
    "priority_cache_creation": "cache_write",
    "cache_write_tokens": "cache_write",
    "cache_creation_tokens": "cache_write",
    "cache_creation_input_tokens": "cache_write",
    "ephemeral_5m_input_tokens": "write_5m",
    "ephemeral_1h_input_tokens": "cache_write_1h",
    "audio": "input_audio",
    "audio_tokens": "input_audio",
    "image": "input_image",
    "image_tokens": "input_image",
    "video": "input_video",
    "video_tokens": "input_video",
}
_OUTPUT_CLASSES: Final[dict[str, str]] = {
    "reasoning": "reasoning",
    "flex_reasoning": "reasoning",
    "priority_reasoning": "reasoning",
    "reasoning_tokens": "reasoning",
    "thinking_tokens": "reasoning",
    "audio": "output_audio",
    "audio_tokens": "output_audio",
    "image": "output_image",
    "image_tokens": "output_image",
    "citation_tokens": "citation",
}
_DETAILS: Final[dict[str, dict[str, str]]] = {
    "input_token_details": _INPUT_CLASSES,
    "input_tokens_details": _INPUT_CLASSES,
    "prompt_tokens_details": _INPUT_CLASSES,
    "cache_creation": _INPUT_CLASSES,
    "output_token_details": _OUTPUT_CLASSES,
    "output_tokens_details": _OUTPUT_CLASSES,
    "completion_tokens_details": _OUTPUT_CLASSES,
}
_BESIDE_TOTALS: Final[dict[str, str]] = {
    # Classes that a provider's own usage object, or a span, has beside its totals.
    "cache_read_input_tokens": "cache_read",
    "cacheReadInputTokens": "cache_read",
    "cacheReadInputTokenCount": "cache_read",
    "prompt_cache_hit_tokens": "cache_read",
    "cached_tokens": "cache_read",
    "cached_content_token_count": "cache_read",
    "num_cached_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
    # MLflow 3.17, `TokenUsageKey`: those of `cache_creation_input_tokens` that are written for an hour.
    "cache_creation_input_tokens_above_1hr": "cache_write_1h",
    "cache_write_input_tokens": "cache_write",
    "cacheWriteInputTokens": "cache_write",
    "cacheWriteInputTokenCount": "cache_write",
    "reasoning_tokens": "reasoning",
    "thoughts_token_count": "thoughts",
    "citation_tokens": "citation",
    "llm.token_count.prompt_details.cache_read": "cache_read",
    "llm.token_count.prompt_details.cache_write": "cache_write",
    "llm.token_count.prompt_details.audio": "input_audio",
    "llm.token_count.completion_details.reasoning": "reasoning",
    "llm.token_count.completion_details.audio": "output_audio",
    "gen_ai.usage.cache_read.input_tokens": "cache_read",
    "gen_ai.usage.cache_write.input_tokens": "cache_write",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write",
}
_NOT_IN_INPUT: Final = frozenset(
    {
        "cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount", "cache_creation_input_tokens",
        "cache_write_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount",
    }
)  # fmt: skip
"""Counts that Anthropic and Bedrock keep out of their own input tokens."""
_CACHE_CLASSES: Final = ("cache_read", "cache_write_1h", "cache_write")
_INPUT_MODES: Final = ("input_audio", "input_image", "input_video")
_INPUT_PARTS: Final = (*_CACHE_CLASSES, *_INPUT_MODES)
_WRITES: Final = ("write_5m", "cache_write_1h", "cache_write")
_OUTPUT_PARTS: Final = ("output_audio", "output_image", "citation", "reasoning")


@dataclass(slots=True)
class Reading:
    """Counts on their way from a foreign mapping to a `Usage`."""

    problems: list[str]
    totals: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    not_in_input: int = 0

    def read(self, reported: Mapping[str, Any]) -> None:
        """Take every known key of LangChain's `usage_metadata` or of a provider's own usage object.

        What stands beside the totals counts only where no details tell the same: LiteLLM's proxy writes both.
        """
        beside: list[tuple[str, int]] | None = None
        for key, value in reported.items():
            if value is None:
                continue
            total = _TOTALS.get(key)
            if total is not None:
                if total not in self.totals:
                    count = value if type(value) is int and value >= 0 else self.count(value, key)
                    if count is not None:
                        self.totals[total] = count
            elif (classes := _DETAILS.get(key)) is not None and not isinstance(value, int):
                self._read_details(value, classes)
            elif (name := _BESIDE_TOTALS.get(key)) is not None and (count := self.count(value, key)):
                beside = [*(beside or ()), (name, count)]
                if key in _NOT_IN_INPUT:
                    self.not_in_input += count
        for name, count in beside or ():
            self.counts.setdefault(name, count)

    def _read_details(self, details: Any, classes: Mapping[str, str]) -> None:
        if isinstance(details, (dict, Mapping)):
            for key, value in details.items():
                if value and (name := classes.get(key)) is not None and (count := self.count(value, key)):
                    self.counts[name] = self.counts.get(name, 0) + count
        elif isinstance(details, (list, tuple)):
            # Gemini's way: an entry for each modality, an enum or its name.
            for entry in details:
                if isinstance(entry, Mapping):
                    name = classes.get(str(entry.get("modality", "")).lower().rpartition(".")[2])
                    count = self.count(entry.get("token_count") or entry.get("tokenCount") or 0, "token_count")
                    if name is not None and count:
                        self.counts[name] = self.counts.get(name, 0) + count

    def count(self, value: Any, name: str) -> int | None:
        """Read a number of tokens; what cannot be one is told, and None."""
        if type(value) is int:
            if value >= 0:
                return value
            self.problems.append(f"{name} is negative ({value})")
            return None
        number = value
        if isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                number = None
        if not isinstance(number, (int, float, Decimal)) or isinstance(number, bool):
            self.problems.append(f"{name} is no number but {type(value).__name__}")
            return None
        if not math.isfinite(number) or number < 0 or number != int(number):
            self.problems.append(f"{name} is no count of tokens ({number})")
            return None
        return int(number)

    def add_missing(self, raw: Mapping[str, Any]) -> None:
        """Add the classes that an integration dropped: Mistral's cached tokens, Vertex' audio, DeepSeek's hits."""
        other = Reading([])
        other.read(raw)
        if self.counts.keys() & {"write_5m", "cache_write_1h"}:
            other.counts.pop("cache_write", None)
        if self.counts.get("cache_write") and other.counts.keys() & {"write_5m", "cache_write_1h"}:
            self.counts.pop("cache_write")
        for name, count in other.counts.items():
            if name != "thoughts":  # Vertex: `reasoning` has them.
                self.counts.setdefault(name, count)

    def settle_totals(self, *, is_raw: bool, is_openai: bool, is_perplexity: bool = False) -> bool:
        """Complete the totals; true if the output still has to be counted from the text."""
        totals = self.totals
        thoughts = self.counts.pop("thoughts", 0)
        if not thoughts and not is_raw and "input" in totals and "output" in totals:
            return False
        if thoughts:
            self.counts.setdefault("reasoning", thoughts)
        if is_raw:
            if "input" in totals and not is_openai:
                totals["input"] += self.not_in_input
            if "output" in totals and not is_perplexity:  # `settle_output` adds them.
                totals["output"] += thoughts
        whole = totals.get("total")
        if whole is not None:
            for one, other in (("input", "output"), ("output", "input")):
                if one not in totals and other in totals and whole >= totals[other]:
                    totals[one] = whole - totals[other]
        if "input" in totals and "output" not in totals:
            self.problems.append("output tokens were not reported")
            totals["output"] = 0
            return True
        return False

    def settle_writes(self, cache_ttl: str | None) -> None:
        """Leave two disjoint classes of cache writes: an hour, and 5 minutes or unknown.

        `cache_creation` is the sum of both, or 0 where the split is given (langchain-anthropic 1.x).
        """
        counts = self.counts
        short, long = counts.pop("write_5m", 0), counts.pop("cache_write_1h", 0)
        untold = max(0, counts.pop("cache_write", 0) - short - long)
        if cache_ttl in ("1h", "mixed"):
            # Streams lose the split. Where the prompt asks for both, the dearer one: never too low.
            long, untold = long + untold, 0
        if short + untold:
            counts["cache_write"] = short + untold
        if long:
            counts["cache_write_1h"] = long

    def forget_made_up(self, raw: Mapping[str, Any]) -> None:
        """Take a total of 0 for one that was not reported, where an integration has made it up.

        ChatOpenAI writes 0 for a total that is missing or null. The provider's own usage tells; in a stream, which
        hands on none, the total does, by a rest that no other class explains.
        """
        totals = self.totals
        if not totals.keys() >= {"input", "output"}:
            return
        other = Reading([])
        if raw:
            other.read(raw)
        for name, beside in (("output", "input"), ("input", "output")):
            if totals[name] or not totals[beside]:
                continue
            if other.totals:
                is_made_up = name not in other.totals
                if is_made_up and "total" not in other.totals:
                    totals.pop("total", None)
            else:
                rest = totals.get("total", 0) - totals[beside]
                # Cached tokens beside an input of 0 are added to it later.
                is_explained = rest in self._explained() if name == "output" else self.told(_CACHE_CLASSES)
                is_made_up = rest > 0 and not is_explained
            if is_made_up:
                del totals[name]
                return

    def _explained(self) -> tuple[int, ...]:
        """What may stand beside the totals: cached tokens, reasoning, both."""
        cached, read = self.told(_CACHE_CLASSES), self.counts.get("cache_read", 0)
        reasoning = self.counts.get("reasoning", 0)
        return (reasoning, *(part + more for part in (cached, read, cached - read) if part for more in (0, reasoning)))

    def take_off_gross(self) -> None:
        """Take cached tokens off an input that has them already, and was told without them in mind.

        Bedrock's Converse tells OpenAI's models with the cached tokens in `inputTokens`, and adds them to its total as
        well; langchain-aws adds them once more, as is right for every other maker. A call that is not streamed has been
        seen both ways: what is less than the cached tokens cannot hold them.
        """
        cached, whole = self.told(_CACHE_CLASSES), self.totals["input"]
        if cached and whole - cached >= cached:
            self.problems.append(f"cached tokens ({cached}) were twice in the input tokens ({whole}); taken off once")
            self.totals["input"] = whole - cached
            self.totals.pop("total", None)

    def settle_total(self) -> None:
        """Let the total decide whether cached tokens are in the input, beside it, or in it twice."""
        counts, totals = self.counts, self.totals
        gap = totals.get("total", 0) - totals["input"] - totals["output"]
        reasoning = counts.get("reasoning", 0)
        if not gap or "total" not in totals or gap == reasoning:
            return
        cached, read = self.told(_CACHE_CLASSES), counts.get("cache_read", 0)
        gaps = (gap, gap - reasoning)
        for part in (cached, read, cached - read):
            if part and part in gaps:
                self.add_cached(part)
                return
            if part and -part in gaps and totals["input"] - part >= cached:
                # ChatDatabricks adds them to an input that has them.
                whole = totals["input"]
                self.problems.append(f"cached tokens ({part}) were twice in the input tokens ({whole}); taken off once")
                totals["input"] = whole - part
                return

    def settle_input(self) -> None:
        """Make the classes of the input fit into it."""
        counts, totals = self.counts, self.totals
        whole = totals["input"]
        if self.told(_INPUT_PARTS) <= whole:
            return
        cached = self.told(_CACHE_CLASSES)
        if cached > whole and (whole == 0 or totals.get("total") == whole + cached + totals["output"]):
            self.add_cached(cached)
        self.cut(_CACHE_CLASSES, "input")
        self.cut(_INPUT_MODES, "input")
        overlap = self.told(_INPUT_PARTS) - totals["input"]
        if overlap <= 0:
            return
        # They cannot be apart: at least so many tokens are audio that came from the cache, which has its own price.
        counts["cache_read_audio"] = min(overlap, counts.get("cache_read", 0), counts.get("input_audio", 0))
        overlap -= counts["cache_read_audio"]
        for name in reversed(_INPUT_MODES):
            # Other cached media have no price of their own: they count as cached text.
            less = min(overlap, counts.get(name, 0) - (counts["cache_read_audio"] if name == "input_audio" else 0))
            if less > 0:
                counts[name] -= less
                overlap -= less

    def add_cached(self, cached: int) -> None:
        """Add cached tokens that were counted beside the input to it."""
        whole = self.totals["input"]
        self.problems.append(f"cached tokens ({cached}) were not part of the input tokens ({whole}); added to them")
        self.totals["input"] = whole + cached

    def settle_output(self, *, is_perplexity: bool) -> None:
        """Make the classes of the output fit into it."""
        counts, totals = self.counts, self.totals
        reasoning = counts.get("reasoning", 0)
        if is_perplexity:
            # Sonar Deep Research bills them on top of the completion tokens (docs.perplexity.ai, pricing).
            totals["output"] += reasoning + counts.get("citation", 0)
        elif reasoning and totals.get("total") == totals["input"] + totals["output"] + reasoning:
            # xAI through ChatOpenAI, Gemini through langchain-google-vertexai: reasoning is beside the output.
            totals["output"] += reasoning
        self.cut(_OUTPUT_PARTS, "output")

    def told(self, parts: tuple[str, ...]) -> int:
        """Add up parts."""
        total = 0
        for name, count in self.counts.items():  # One or two, most often: a loop is faster than `sum`.
            if name in parts:
                total += count
        return total

    def cut(self, parts: tuple[str, ...], whole: str) -> None:
        """Cut parts that exceed their whole, and tell."""
        counts, room = self.counts, self.totals[whole]
        told = self.told(parts)
        if told <= room:
            return
        names = " and ".join(name for name in parts if counts.get(name))
        self.problems.append(f"{names} ({told}) exceed {whole} tokens ({room}); cut to them")
        for name in parts:
            if name in counts:
                counts[name] = min(counts[name], room)
                room -= counts[name]


_TELL_ALL: Final = frozenset({"openai", "azure", "anthropic"})
"""Providers whose integrations bring all classes into `usage_metadata`: no need to read the same twice."""
_OTHERS_CLASSES: Final = frozenset(_BESIDE_TOTALS) - {"reasoning_tokens"}
"""What OpenAI itself never reports: another's usage behind its client, of which that takes but the totals."""


def usage_of(
    reported: Mapping[str, Any], raw: Mapping[str, Any], request: CallRequest, problems: list[str]
) -> tuple[Usage | None, bool]:
    """Make a `Usage`, without fees, of what was reported; the flag says that the output is still to be counted."""
    reading = Reading(problems)
    reading.read(reported)
    is_raw = reported is raw
    if (
        raw
        and not is_raw
        and not (
            request.provider in _TELL_ALL
            and "input_token_details" in reported
            and (request.provider == ANTHROPIC or _OTHERS_CLASSES.isdisjoint(raw))
        )
    ):
        reading.add_missing(raw)
    # OpenAI's shape has the cached tokens in its prompt tokens. Bedrock's InvokeModel has the same names, and not.
    is_openai = "prompt_tokens" in reported and "cache_write_input_tokens" not in reported
    is_perplexity = request.provider == PERPLEXITY
    totals, counts = reading.totals, reading.counts
    if not is_raw and not (totals.get("input") and totals.get("output")):
        reading.forget_made_up(raw)
    partly = reading.settle_totals(is_raw=is_raw, is_openai=is_openai, is_perplexity=is_perplexity)
    if "input" not in totals:
        problems.append("input tokens were not reported")
        return None, False
    if not counts:
        if not totals["input"] and not totals["output"]:
            problems.append("usage was reported as nothing at all")
            return None, False
        return Usage(totals["input"], totals["output"]), partly
    if not counts.keys().isdisjoint(_WRITES):
        reading.settle_writes(request.cache_ttl)
    if request.provider == AWS and "prompt_tokens" not in raw and "openai." in (request.model or ""):
        reading.take_off_gross()
    if not counts.keys().isdisjoint(_INPUT_PARTS):
        reading.settle_total()
        reading.settle_input()
    if not counts.keys().isdisjoint(_OUTPUT_PARTS):
        reading.settle_output(is_perplexity=is_perplexity)
    return Usage(input_tokens=totals["input"], output_tokens=totals["output"], fees=(), **counts), partly


class StreamedUsage:
    """What the chunks of one stream report: most say what each adds, as LangChain has it, and some all of it so far.

    LangChain adds them up: a gateway that tells the prompt's 713 tokens with each of 200 chunks (xAI, Gemini's and
    Perplexity's endpoints for OpenAI's client, llama.cpp; with the last two chunks, some more) is counted as 142,600.
    """

    __slots__ = ("_added", "_are_ones", "_grows", "_last", "_repeats", "_reports", "_told")

    def __init__(self) -> None:
        self._added: dict[str, Any] = {}
        self._told: tuple[CallRequest, Usage | None] | None = None
        """What has been read of it since the last report: a stream's running cost is asked for more often."""
        self._last: Mapping[str, Any] = {}
        self._reports = 0
        self._repeats = True
        """Every report has the same length of the prompt."""
        self._grows = True
        """No report has less output than the one before."""
        self._are_ones = True

    def add(self, told: Mapping[str, Any]) -> None:
        """Take one more report (`UsageMetadata`)."""
        self._told = None
        self._added = _added(self._added, told)
        prompt, output = told.get("input_tokens"), told.get("output_tokens") or 0
        self._reports += 1
        if self._reports > 1:
            self._repeats &= prompt == self._last.get("input_tokens")
            self._grows &= output >= (self._last.get("output_tokens") or 0)
        self._are_ones &= output == 1
        self._last = told

    @property
    def is_repeated(self) -> bool:
        """Whether each report has all of the prompt."""
        return self._reports > 1 and self._repeats and bool(self._last.get("input_tokens"))

    def so_far(self) -> Mapping[str, Any]:
        """All of it, each token once."""
        if not self.is_repeated:
            return self._added
        if self._grows and not self._are_ones:
            return self._last
        prompt, output = self._last["input_tokens"], self._added["output_tokens"]
        told = {**self._added, "input_tokens": prompt, "total_tokens": prompt + output}
        told["input_token_details"] = self._last.get("input_token_details") or {}
        return told

    def running(self, request: CallRequest, said_tokens: int) -> CallResult | None:
        """Read what a stream that goes on has used; None where it has not told the length of its prompt.

        Args:
            request: The call.
            said_tokens: What it has said so far, as counted by us: most providers report that at the end.
        """
        if self._told is None or self._told[0] is not request:
            self._told = request, self._usage(request, [])
        usage = self._told[1]
        if usage is None or not usage.input_tokens:
            return None
        return CallResult(replace(usage, output_tokens=max(usage.output_tokens, said_tokens)), estimated=True)

    def once(self, request: CallRequest, result: CallResult, said_tokens: int) -> CallResult:
        """Correct a result that has been read from LangChain's sum.

        Args:
            request: The call.
            result: Of it.
            said_tokens: What it has said, as counted by us: an estimated output is no less.
        """
        if not self.is_repeated or result.usage is None:
            return result
        problems = [f"all usage so far was reported {self._reports} times in one stream; counted once"]
        usage = self._usage(request, problems)
        if usage is None:
            return result
        output = max(usage.output_tokens, said_tokens) if result.estimated else usage.output_tokens
        usage = replace(usage, output_tokens=output, fees=result.usage.fees)
        return replace(result, usage=usage, problems=tuple(problems))

    def _usage(self, request: CallRequest, problems: list[str]) -> Usage | None:
        try:
            return usage_of(self.so_far(), {}, request, problems)[0]
        except Exception:  # noqa: BLE001 - whatever a client reports, the stream is counted by its text
            return None


def _added(sums: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Add counts up, those of nested mappings too."""
    added = dict(sums)
    for name, count in more.items():
        if isinstance(count, Mapping):
            added[name] = _added(added.get(name) or {}, count)
        elif isinstance(count, int):
            added[name] = added.get(name, 0) + count
    return added


def holds_totals(value: Any) -> bool:
    """Say whether a value is a mapping with both totals, under any of the names that are known for them."""
    return isinstance(value, Mapping) and {"input", "output"} <= {
        total for key in value if isinstance(key, str) and (total := _TOTALS.get(key)) is not None
    }


def request_of_names(provider: object, model: object) -> CallRequest:
    """Make the request of a call of which only names are known, as another library's span has them; no text: None."""
    return CallRequest(provider_id(provider), model_id(model) if isinstance(model, str) and model else None)


def result_of_counts(counts: Mapping[str, Any], request: CallRequest) -> CallResult:
    """Read what another library's span says of one call; never raises.

    Args:
        counts: MLflow's `mlflow.chat.tokenUsage`, OpenInference's `llm.token_count.*`, OpenTelemetry's
            `gen_ai.usage.*`, or a provider's own usage object. Cached tokens may be in the input (OpenAI, and MLflow's
            own autologs, which add Anthropic's up) or beside it (Anthropic, gateways that speak OpenAI's language for
            it): the total decides; else cached tokens that exceed the input are beside it.
        request: The call, as `request_of_names` makes it.

    Returns:
        Without usage where the input is unknown, or all is reported as 0: such a call has no price, and 0 is not its
        count. Marked as estimated where only the output is unknown, which then counts as 0.
    """
    problems: list[str] = []
    try:
        usage, partly = _usage_of_counts(counts, request, problems)
    except Exception as error:  # noqa: BLE001 - foreign objects may raise anything; the call then counts as unreported
        return CallResult(problems=(f"the counts could not be read: {type(error).__name__}",))
    return CallResult(usage=usage, estimated=partly, problems=tuple(problems))


def _usage_of_counts(counts: Mapping[str, Any], request: CallRequest, problems: list[str]) -> tuple[Usage | None, bool]:
    reading = Reading(problems)
    reading.read(counts)
    partly = reading.settle_totals(is_raw=False, is_openai=False)
    totals = reading.totals
    if "input" not in totals:
        problems.append("input tokens were not reported")
        return None, False
    reading.settle_writes(request.cache_ttl)
    cached, total = reading.told(_CACHE_CLASSES), totals.get("total")
    if request.provider == GOOGLE:
        # Gemini's thoughts are in the total and, as MLflow 3.17 writes it (`gemini/autolog.py`), in nothing else.
        thoughts = (total or 0) - totals["input"] - totals["output"]
        if thoughts > 0 and not partly:
            totals["output"] += thoughts
            reading.counts["reasoning"] = max(thoughts, reading.counts.get("reasoning", 0))
    elif cached:
        reading.settle_total()
        if cached > totals["input"]:
            reading.add_cached(cached)
    reading.settle_input()
    reading.settle_output(is_perplexity=request.provider == PERPLEXITY)
    if not totals["input"] and not totals["output"]:
        problems.append("usage was reported as nothing at all")
        return None, False
    return Usage(input_tokens=totals["input"], output_tokens=totals["output"], fees=(), **reading.counts), partly
