"""What of a span may be kept: the policy of a node as it applies to one kind of span.

Pure: no MLflow, no LangChain. The tables here are the table of levels in `docs/privacy.md`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from langchain_mlflow_cost.redaction.private_text import TOKEN

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.private_text import PrivateText

Level = Literal["minimal", "standard", "full"]
LEVELS: tuple[Level, ...] = ("minimal", "standard", "full")

Kind = Literal["model", "work", "root", "state"]
"""A span by what its payload is.

`model`: a call of a model. `work`: a tool, a retriever, or any span that LangChain did not make. `root`: the first
span of an invocation. `state`: a graph, node, chain or parser below it, whose payload is a copy of state.
"""

PAYLOAD_KINDS: Mapping[Level, frozenset[Kind]] = {
    "minimal": frozenset(),
    "standard": frozenset({"model", "work", "root"}),
    "full": frozenset({"model", "work", "root", "state"}),
}
"""Kinds of span that keep inputs and outputs, by level."""

DETAIL_KINDS: Mapping[Level, frozenset[Kind]] = {
    "minimal": frozenset(),
    "standard": frozenset({"model", "work"}),
    "full": frozenset({"model", "work", "root", "state"}),
}
"""Kinds of span that keep other attributes with text in them (tool definitions, parameters, the user's own)."""

Counts = Mapping[str, int]


class PayloadRedactor(Protocol):
    """What `redaction.Redactor` does for this module."""

    def text(self, text: str) -> tuple[str | None, Counts]:
        """One string; None where it is to be dropped whole."""
        ...

    def json(self, value: Any) -> tuple[str, Counts]:
        """Any value as redacted JSON text."""
        ...


@dataclass(frozen=True)
class Enforcement:
    """The policy of one node, ready to be applied."""

    node: str
    level: Level
    log_prompts: bool
    redactors: tuple[PayloadRedactor, ...]
    """Usually one; one more for each further handler that governs the same run."""

    def keeps_payload(self, kind: Kind) -> bool:
        """Whether inputs and outputs stay."""
        return self.log_prompts and kind in PAYLOAD_KINDS[self.level]

    def keeps_details(self, kind: Kind) -> bool:
        """Whether other attributes with text in them stay."""
        return self.log_prompts and kind in DETAIL_KINDS[self.level]

    @property
    def keeps_exceptions(self) -> bool:
        """Whether messages and stack traces stay; the type always does."""
        return self.log_prompts and self.level != "minimal"

    @property
    def keeps_stream(self) -> bool:
        """Whether the events of single tokens and chunks stay."""
        return self.log_prompts and self.level == "full"

    @property
    def reason(self) -> str:
        """Why something was dropped, for `policy.dropped`."""
        return "artifact_level" if self.log_prompts else "log_prompts"

    @cached_property
    def attributes(self) -> dict[str, str]:
        """The `policy.*` attributes that say what applied, as JSON text, MLflow's form of every attribute."""
        return {
            "policy.node": orjson.dumps(self.node).decode(),
            "policy.artifact_level": f'"{self.level}"',
            "policy.log_prompts": "true" if self.log_prompts else "false",
        }

    def stricter(self, other: Enforcement) -> Enforcement:
        """Both policies at once: for a run that two handlers govern."""
        level = min(self.level, other.level, key=LEVELS.index)
        redactors = self.redactors + tuple(r for r in other.redactors if r not in self.redactors)
        return Enforcement(self.node, level, self.log_prompts and other.log_prompts, redactors)


class Record:
    """What the policy did to one span: entities redacted, channels dropped."""

    __slots__ = ("_lock", "dropped", "redactions")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.redactions: dict[str, int] = {}
        self.dropped: dict[str, str] = {}

    def found(self, counts: Counts) -> None:
        """Add what a redactor found."""
        if counts:
            with self._lock:
                for entity, count in counts.items():
                    self.redactions[entity] = self.redactions.get(entity, 0) + count

    def drop(self, channel: str, reason: str) -> None:
        """Note a dropped channel; a fault is a better reason than a setting."""
        with self._lock:
            if reason not in ("artifact_level", "log_prompts") or channel not in self.dropped:
                self.dropped[channel] = reason

    def attributes(self) -> dict[str, str]:
        """The attributes that tell it, as JSON; what is empty is left out."""
        written = {}
        if self.redactions:
            written["policy.redactions"] = orjson.dumps(self.redactions).decode()
        if self.dropped:
            written["policy.dropped"] = orjson.dumps(self.dropped).decode()
        return written


def redacted_text(text: str, redactors: tuple[PayloadRedactor, ...], record: Record) -> str:
    """One string through every redactor; empty where a strategy drops it."""
    for redactor in redactors:
        answer, counts = redactor.text(text)
        record.found(counts)
        if answer is None:
            return ""
        text = answer
    return text


def redacted_json(value: Any, redactors: tuple[PayloadRedactor, ...], record: Record) -> str:
    """Any value as JSON text through every redactor."""
    answer, counts = redactors[0].json(value)
    record.found(counts)
    for redactor in redactors[1:]:
        answer, counts = redactor.json(orjson.loads(answer))
        record.found(counts)
    return answer


FIELD_NAMES = frozenset(
    {
        "additional_kwargs", "response_metadata", "usage_metadata", "input_token_details", "output_token_details",
        "invalid_tool_calls", "finish_reason", "system_fingerprint", "model_provider", "service_tier",
        "total_tokens", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details",
        "cache_creation", "cache_read", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
        "langgraph_checkpoint_ns", "langgraph_node", "langgraph_path", "langgraph_step", "langgraph_triggers",
        "checkpoint_ns", "ls_integration", "ls_max_tokens", "ls_model_name", "ls_model_type", "ls_provider",
        "ls_temperature", "invocation_params", "reasoning_content", "structured_response", "page_content",
        "remaining_steps", "exception.message", "exception.stacktrace", "exception.type", "exception.escaped",
    }
)  # fmt: skip
"""Names of fields in the records of LangChain, LangGraph and MLflow.

A prompt that prints a state has them in it; as keys of other payloads they are structure, not somebody's words.
"""


def without_private_text(text: str, private: PrivateText) -> tuple[str, int]:
    """A payload, JSON or plain, without any text that a private node's model was told or said."""
    scrubbed, hits = private.scrub(text)
    if not hits and text[:1] not in ("{", "["):
        return text, 0
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return scrubbed, hits
    if isinstance(loaded, int | float | bool) or loaded is None:
        return text, 0
    if not hits and not _is_spread(loaded, private):
        return text, 0
    found = [0]
    cleaned = _cleaned(loaded, private, found)
    return (orjson.dumps(cleaned).decode(), found[0]) if found[0] else (text, 0)


def _is_spread(value: Any, private: PrivateText) -> bool:
    """Whether a private text is spread over the members of a collection, a word in each."""
    # With numbers or names of fields between the words, as in log probabilities, or without.
    return any(private.scrub(" ".join(_leaves(value, words_only=words)))[1] for words in (True, False))


def _cleaned(value: Any, private: PrivateText, found: list[int]) -> Any:
    if isinstance(value, str):
        text, hits = private.scrub(value)
        found[0] += hits
        return text
    if isinstance(value, dict):
        cleaned: Any = {
            key if key in FIELD_NAMES else _cleaned(key, private, found): _cleaned(member, private, found)
            for key, member in value.items()
        }
    elif isinstance(value, list):
        cleaned = [_cleaned(member, private, found) for member in value]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text, hits = private.scrub(str(value))
        found[0] += hits
        return text if hits else value
    else:
        return value
    if _is_spread(cleaned, private):
        found[0] += 1
        return _blanked(cleaned)
    return cleaned


def _leaves(value: Any, *, words_only: bool) -> list[str]:
    if isinstance(value, str):
        return [] if value == TOKEN else [value]
    if isinstance(value, dict):
        leaves = []
        for key, member in value.items():
            if key not in FIELD_NAMES and not words_only:
                leaves.append(key)
            leaves += _leaves(member, words_only=words_only)
        return leaves
    if isinstance(value, list):
        return [leaf for member in value for leaf in _leaves(member, words_only=words_only)]
    return [] if value is None or isinstance(value, bool) or words_only else [str(value)]


def _blanked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _blanked(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_blanked(member) for member in value]
    return value if value is None or isinstance(value, bool) else TOKEN
