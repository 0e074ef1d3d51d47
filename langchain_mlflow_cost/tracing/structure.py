"""What in a trace is structure and stays as it is: exact keys, and what a value of each looks like.

All else, whoever wrote it, is redacted and searched for private text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey, SpanType
from langchain_mlflow_cost.adapters.trace_fields import ARTIFACT_LOCATION, SPANS_LOCATION
from langchain_mlflow_cost.adapters.trace_info import COUNT_NAMES, TraceMetadataKey, TraceTagKey
from langchain_mlflow_cost.pricing.ledger import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

_ID: Final = re.compile(r'"?(?:tr-[0-9a-f]{32}|trace:/[\w.-]{1,200}/[0-9a-f]{32}|[0-9a-f-]{1,36})"?')
_NUMBER: Final = re.compile(r"-?[0-9]{1,24}(?:\.[0-9]{1,24})?(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_CONSTANT: Final = re.compile(r'"?[A-Za-z_]{1,20}"?')

RAW_KEYS: Final = frozenset(
    {
        SpanAttributeKey.REQUEST_ID,
        SpanAttributeKey.EXPERIMENT_ID,
        SpanAttributeKey.LOG_LEVEL,
        SpanAttributeKey.START_TIME_NS,
    }
)
"""Written by MLflow itself with ids and numbers."""
COUNT_KEYS: Final = frozenset({SpanAttributeKey.CHAT_USAGE, SpanAttributeKey.LLM_COST})
"""JSON objects of numbers, which stay at every level as they are."""
TYPES: Final = frozenset(f'"{value}"' for key, value in vars(SpanType).items() if key.isupper()) | {"null"}
"""MLflow's span types, as it writes them."""
_NUMBERS: Final = frozenset(
    {
        "cost.total_usd", "cost.input_usd", "cost.output_usd", *Totals().attributes(), "cost.estimated", keys.ATTEMPT,
        keys.TOOL_USD, "stream.chunks", "stream.time_to_first_token_s",
    }
)  # fmt: skip
_OURS: Final = frozenset({"policy.artifact_level", "policy.log_prompts"})


def is_raw(key: str, value: Any) -> bool:
    """Whether a span's attribute holds an id or number of MLflow's own."""
    return key in RAW_KEYS and (
        _ID.fullmatch(value) is not None if isinstance(value, str) else isinstance(value, int | float)
    )


def is_counts(value: Any) -> bool:
    """Whether a value is the JSON of numbers by the names that MLflow gives tokens and costs."""
    try:
        loaded = orjson.loads(value)
    except (orjson.JSONDecodeError, TypeError):
        return False
    return isinstance(loaded, dict) and loaded.keys() <= COUNT_NAMES and all(map(_is_number, loaded.values()))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


_SNAPSHOT: Final = re.compile(r"[-@:]?[0-9-]*")


def is_snapshot_of(model: str, asked_for: str | None) -> bool:
    """Whether a model's name in a response is the one that was asked for, or that with a date."""
    if not asked_for or not model.startswith(asked_for):
        return False
    return _SNAPSHOT.fullmatch(model[len(asked_for) :]) is not None


def is_structure(key: str, value: Any) -> bool:
    """Whether a span's attribute holds nothing that anybody told or said."""
    if key in RAW_KEYS:
        return is_raw(key, value)
    if key in COUNT_KEYS:
        return is_counts(value)
    if key == SpanAttributeKey.SPAN_TYPE:
        return value in TYPES
    if key in _NUMBERS:
        return isinstance(value, int | float) or value in ("true", "false") or _NUMBER.fullmatch(value) is not None
    return key in _OURS and _CONSTANT.fullmatch(value) is not None


# --- beside the spans -----------------------------------------------------------------------------------------------

_HEX: Final = re.compile(r"[0-9a-f-]{1,64}")
_SOURCE: Final = frozenset({"LOCAL", "NOTEBOOK", "JOB", "PROJECT", "UNKNOWN", "RECIPE"})


def _is_numbers(value: str) -> bool:
    try:
        loaded = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return isinstance(loaded, dict) and all(
        _CONSTANT.fullmatch(name.translate(_DIGITS)) is not None and _is_number(each) for name, each in loaded.items()
    )


_DIGITS: Final = {ord(digit): "x" for digit in "0123456789"}
_INFO: Final[Mapping[str, Any]] = {
    "mlflow.trace_schema.version": _NUMBER.fullmatch,
    TraceMetadataKey.SIZE_STATS: _is_numbers,
    TraceMetadataKey.SIZE_BYTES: _NUMBER.fullmatch,
    TraceMetadataKey.TOKEN_USAGE: is_counts,
    TraceMetadataKey.COST: is_counts,
    TraceMetadataKey.TRACE_INFO_FINALIZED: _CONSTANT.fullmatch,
    TraceMetadataKey.SOURCE_RUN: _HEX.fullmatch,
    TraceMetadataKey.MODEL_ID: re.compile(r"m-[0-9a-f]{32}").fullmatch,
    SPANS_LOCATION: frozenset({"TRACKING_STORE", "ARTIFACT_REPO", "ARCHIVE_REPO"}).__contains__,
    TraceTagKey.EVAL_REQUEST_ID: _HEX.fullmatch,
    # Written by the store, and where the files are.
    ARTIFACT_LOCATION: re.compile(r"[a-z0-9+.-]{1,20}:/\S*|/\S*").fullmatch,
    "mlflow.source.git.commit": re.compile(r"[0-9a-f]{40}").fullmatch,
    "mlflow.source.type": _SOURCE.__contains__,
}


def is_info_structure(key: str, value: str) -> bool:
    """Whether a trace's tag or metadata holds an id, number or constant of MLflow's own."""
    check = _INFO.get(key)
    return check is not None and bool(check(value))
