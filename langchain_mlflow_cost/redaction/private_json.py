"""Private text taken out of a payload, JSON or plain: values go, the form stays. Pure: strings in, strings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from langchain_mlflow_cost.redaction.json_tokens import json_tokens
from langchain_mlflow_cost.redaction.ordinary import is_program_name
from langchain_mlflow_cost.redaction.private_text import TOKEN, without_stretches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_mlflow_cost.redaction.json_tokens import Token
    from langchain_mlflow_cost.redaction.private_index import Spans
    from langchain_mlflow_cost.redaction.private_text import PrivateText

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


_NAMING: Final = frozenset({"name", "tool", "tool_name", "function", "type", "role", "langgraph_node"})
"""Fields whose value is mostly a name that the program has given, such as a tool's."""


def without_private_text(text: str, private: PrivateText) -> tuple[str, int]:
    """A payload, JSON or plain, without any text that a private node's model was told or said.

    In JSON, and in JSON in its strings, values go; keys, unless they are somebody's words, and the form stay.
    """
    if not private:
        return text, 0
    known = private.answer_for(text)
    if known is None:
        generation = private.generation
        known = _searched(text, private)
        private.note_answer(text, known, generation)
    return known


def _searched(text: str, private: PrivateText) -> tuple[str, int]:
    tokens = json_tokens(text)
    if tokens is None:
        return private.scrub(text)
    found = [(0, len(text))] if private.is_full else private.stretches(text, keys=_structure(text, tokens))
    if not found:
        return text, 0
    parts: list[str] = []
    done = hits = keys_gone = 0
    for token, key, inside in _touched(text, tokens, found):
        clean, count = _cleaned(text, token, key, inside, private)
        if not count:
            continue
        if token.kind == "key":
            # Two keys of one name would be one.
            keys_gone += 1
            clean += f" ({keys_gone})" if keys_gone > 1 else ""
        hits += count
        parts += (text[done : token.start], orjson.dumps(clean).decode())
        done = token.end
    return "".join((*parts, text[done:])), hits


def _structure(text: str, tokens: list[Token]) -> Spans:
    """Where a document has keys and names, between which a text may be spread."""
    spans = []
    key = ""
    for token in tokens:
        if token.kind == "key":
            key = text[token.start + 1 : token.end - 1]
            spans.append((token.start, token.end))
        elif token.kind == "value" and key in _NAMING and is_program_name(text[token.start + 1 : token.end - 1]):
            spans.append((token.start, token.end))
    return spans


def _touched(text: str, tokens: list[Token], found: Spans) -> Iterator[tuple[Token, str, Spans]]:
    """The tokens in which something was found, the key before each, and what was found there."""
    at = 0
    key = ""
    for token in tokens:
        key = token.said(text) if token.kind == "key" else key
        while at < len(found) and found[at][1] <= token.start:
            at += 1
        inside = []
        for span in found[at:]:
            if span[0] >= token.end:
                break
            inside.append(span)
        if inside:
            yield token, key, inside


def _cleaned(text: str, token: Token, key: str, found: Spans, private: PrivateText) -> tuple[str, int]:
    """What a token says without what was found in it; also how often."""
    if token.kind == "number":
        return TOKEN, 1
    said = token.said(text)
    if token.kind == "key":
        return (said, 0) if said in FIELD_NAMES or is_program_name(said) else private.scrub(said)
    if key in _NAMING and is_program_name(said):
        return said, 0
    if said[:1] in ("{", "["):
        clean, count = without_private_text(said, private)
        if count or (json_tokens(said) is not None and not _is_covered(token, found)):
            return clean, count
    written = text[token.start + 1 : token.end - 1]
    spans = [
        (_said_length(written, first - token.start - 1), _said_length(written, last - token.start - 1, up=True))
        for first, last in found
    ]
    return without_stretches(said, spans)


def _is_covered(token: Token, found: Spans) -> bool:
    """Whether a token is a piece of a text that is spread over several."""
    return any(first <= token.start + 1 and last >= token.end - 1 for first, last in found)


_LONGEST_ESCAPE: Final = len(r"\ud83e\uddad")


def _said_length(written: str, end: int, *, up: bool = False) -> int:
    """How many characters the beginning of a JSON string stands for.

    Args:
        written: Between the quotes.
        end: Where the beginning ends; if that is within an escape, it ends before it.
        up: Let it end behind the escape instead.
    """
    end = min(max(end, 0), len(written))
    for step in range(_LONGEST_ESCAPE):
        try:
            return len(orjson.loads(f'"{written[: end + step if up else max(end - step, 0)]}"'))
        except orjson.JSONDecodeError:
            continue
    return len(orjson.loads(f'"{written}"')) if up else 0
