"""Private text taken out of a payload, JSON or plain: values go, the form stays. Pure: strings in, strings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.redaction.private_text import TOKEN

if TYPE_CHECKING:
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
