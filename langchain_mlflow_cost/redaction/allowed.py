"""Of a payload, only the values of the fields that the policy's `allow_keys` list; structure stays.

Pure: a value in, plain values out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import orjson

from langchain_mlflow_cost.messages import is_structural
from langchain_mlflow_cost.redaction.plain import Converted, as_text, is_model, key_text, model_fields, parse_json
from langchain_mlflow_cost.redaction.rules import FIELD

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.rules import Rules

_MAX_DEPTH: Final = 100
"""As deep as the walk goes that writes it; what is deeper goes."""


def allowed_only(value: Any, rules: Rules) -> tuple[Any, int]:
    """Keep the values of listed fields, names of fields, and structure: roles, types, ids, counts, cost.

    Returns:
        The rest, in plain values, and how many values went.
    """
    gone = [0]
    return _allowed(value, "", rules, gone, 0), gone[0]


def _allowed(value: Any, field: str, rules: Rules, gone: list[int], depth: int) -> Any:
    if type(value) is str:
        # JSON in a string, such as a tool call's arguments, is a mapping like any other.
        loaded = parse_json(value) if depth < _MAX_DEPTH else None
        if loaded is not None:
            return orjson.dumps(_allowed(loaded, field, rules, gone, depth + 1), default=as_text).decode()
    kind: type = type(value)
    if is_model(kind):
        value = model_fields(value)
    elif isinstance(value, Converted):
        value = value.convert(value.model)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {
                name: member if rules.allows(name) else _allowed(member, name, rules, gone, depth + 1)
                for name, member in ((key_text(key, value), member) for key, member in value.items())
            }
        if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str | bytes | bytearray):
            return [_allowed(member, field, rules, gone, depth + 1) for member in value]
    if value is None or is_structural(field, value):
        return value
    gone[0] += 1
    return rules.token(FIELD, as_text(value))
