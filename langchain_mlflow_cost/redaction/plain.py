"""Values of every shape turned into those that JSON has, and their JSON both ways."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pydantic

# Dates and dataclasses as MLflow writes them, not as orjson would; subclasses of dict and str are walked.
PLAIN_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


class Converted:
    """A model in another form, such as a message as MLflow's UI shows it: converted only if its content is new."""

    __slots__ = ("convert", "model")

    def __init__(self, model: pydantic.BaseModel, convert: Callable[[Any], Any]) -> None:
        """Keep both; `convert` must give the same for equal models."""
        self.model = model
        self.convert = convert


def digits(value: int) -> str:
    """Write an integer as JSON; one that Python refuses to write, as a string that says so."""
    try:
        return str(value)
    except ValueError:  # more than sys.get_int_max_str_digits()
        return '"[integer too long]"'


def key_text(key: Any, owner: Mapping[Any, Any]) -> str:
    """Write a dict's key that is no plain string as `json` would, or as its `str`; not as another key of it."""
    if isinstance(key, str):
        return str.__str__(key)
    text = (
        {None: "null", True: "true", False: "false"}[key]
        if key is None or key is True or key is False
        else as_text(key)
    )
    return f"{text} ({type(key).__name__})" if text in owner else text


def as_text(value: Any) -> str:
    """Give the `str` of a value, or the name of its class if it has none."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a class may raise anything here, and its name is still worth having
        return f"<{type(value).__name__}>"


def dumps(tree: Any) -> bytes:
    """Write a tree of plain values, in which what has a `fragment` is written already."""
    return orjson.dumps(tree, default=_fragment_of)


def copied(text: bytes) -> bytes:
    """Copy what is to be remembered: orjson's own bytes keep its whole buffer alive, 16 KB for a text of 2 KB."""
    return bytes(memoryview(text))


def _fragment_of(piece: Any) -> Any:
    return piece.fragment


def plain_form(value: Any) -> Any:
    """Turn what orjson does not know into what it does, where nothing is redacted."""
    kind: type = type(value)
    if is_model(kind):
        return model_fields(value)
    if kind is Converted:
        return value.convert(value.model)
    if isinstance(value, int):
        return orjson.Fragment(digits(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return as_text(value)


def model_fields(model: pydantic.BaseModel) -> Any:
    """Give what a model says of itself; its fields as they are if that fails."""
    try:
        return model.model_dump(warnings=False)
    except Exception:  # noqa: BLE001 - a serialiser may raise anything; the fields are still there
        return dict(model.__dict__)


@functools.lru_cache(maxsize=1024)
def is_model(kind: type) -> bool:
    """Say whether a class is pydantic's, whose metaclass takes a microsecond for each `isinstance`."""
    return issubclass(kind, pydantic.BaseModel)


@functools.lru_cache(maxsize=1024)
def is_plain(kind: type[pydantic.BaseModel]) -> bool:
    """Say whether `model_dump` of this class gives its fields as they are: known of LangChain's own classes alone.

    Anybody else's may hide or mask a part of itself in ways that only pydantic's serialiser knows all of.
    """
    decorators = kind.__pydantic_decorators__
    return (
        kind.__module__.startswith("langchain_core.")
        and kind.model_dump is pydantic.BaseModel.model_dump
        and not (decorators.field_serializers or decorators.model_serializers or decorators.computed_fields)
        and not kind.__pydantic_root_model__
        and not kind.model_config.get("serialize_by_alias")
        and not any(
            field.exclude or any("Serializer" in type(part).__name__ for part in field.metadata)
            for field in kind.model_fields.values()
        )
        and "__get_pydantic_core_schema__" not in kind.__dict__
    )


def plain_fields(model: pydantic.BaseModel) -> dict[str, Any]:
    """Give the fields of a model of which `is_plain` holds, without a copy of each."""
    extra = model.__pydantic_extra__
    return {**model.__dict__, **extra} if extra else model.__dict__


JSON_ENDS = frozenset("]} \n\r\t")
"""How a string ends that may be JSON."""
_JSON_START = re.compile(r"[ \t\r\n]*[\[{]")


class _NotPlainJsonError(ValueError):
    """A text that must be scanned as text, though it may be JSON."""


def parse_json(text: str) -> Any:
    """Read a string that is a JSON object or array, such as a tool call's arguments; else None."""
    if text[-1:] not in JSON_ENDS or not _JSON_START.match(text):
        return None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def parse_json_lines(text: str) -> list[tuple[str, Any]] | None:
    """Read a string of which each line is a JSON object or array, as of an export; else None. Gives the lines, too."""
    if text[-1:] not in JSON_ENDS or not _JSON_START.match(text) or "\n" not in text.strip():
        return None
    lines = text.split("\n")
    # Most texts that begin with a bracket are no such thing: their first line says so.
    read = []
    for line in lines:
        value = parse_json(line) if line.strip() else _BLANK
        if value is None:
            return None
        read.append((line, value))
    return read


_BLANK: list[Any] = []


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # The first of two equal names would escape the walk.
        raise _NotPlainJsonError
    return made
