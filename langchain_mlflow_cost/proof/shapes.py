"""Values that satisfy a JSON schema or a type, with planted texts wherever a text may stand."""

from __future__ import annotations

import dataclasses
import types
import uuid
from collections.abc import Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_DEPTH: Final = 8
_FORMATS: Final = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T10:00:00Z",
    "time": "10:00:00Z",
    "duration": "PT1H",
    "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "uri": "https://example.com/",
    "email": "someone@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


class Shapes:
    """Makes values; where there is a choice (enums, alternatives, booleans, numbers) another one each time.

    Args:
        text: A planted text of at most so many characters.
    """

    def __init__(self, text: Callable[[int | None], str]) -> None:
        self._text = text
        self._turns: dict[str, int] = {}

    def _choice(self, place: str, count: int) -> int:
        turn = self._turns.get(place, 0)
        self._turns[place] = turn + 1
        return turn % count

    def of_schema(self, schema: Any, place: str = "", root: Any = None, depth: int = 0) -> Any:
        """A value that satisfies a JSON schema.

        Args:
            schema: Of draft 7 or 2020-12, as pydantic and the providers write it.
            place: Whose choices take turns: the same call site and field.
            root: Where `$ref` is looked up.
            depth: Of recursion.
        """
        root = schema if root is None else root
        if not isinstance(schema, Mapping):
            return self._text(None)
        schema = _resolved(schema, root)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._choice(place, len(schema["enum"]))]
        for key in ("anyOf", "oneOf"):
            options = schema.get(key)
            if options:
                some = [each for each in options if _resolved(each, root).get("type") != "null"] or options
                if depth >= _MOST_DEPTH and len(some) < len(options):
                    return None
                return self.of_schema(some[self._choice(f"{place}|", len(some))], place, root, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        kind = kind.lower() if isinstance(kind, str) else ("object" if "properties" in schema else "string")
        return _MAKERS.get(kind, _MAKERS["string"])(self, schema, place, root, depth)

    def _object(self, schema: Mapping[str, Any], place: str, root: Any, depth: int) -> Any:
        properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
        wanted = required if depth >= _MOST_DEPTH else properties
        made = {
            name: self.of_schema(inner, f"{place}.{name}", root, depth + 1)
            for name, inner in properties.items()
            if name in wanted
        }
        if not properties and isinstance(schema.get("additionalProperties"), Mapping) and depth < _MOST_DEPTH:
            made["key"] = self.of_schema(schema["additionalProperties"], f"{place}.*", root, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], place: str, root: Any, depth: int) -> Any:
        if depth >= _MOST_DEPTH:
            return []
        parts = schema.get("prefixItems")
        if parts:
            return [self.of_schema(each, f"{place}[{at}]", root, depth + 1) for at, each in enumerate(parts)]
        count = max(1, int(schema.get("minItems") or 0))
        return [self.of_schema(schema.get("items", {}), f"{place}[]", root, depth + 1) for _ in range(count)]

    def _number(self, schema: Mapping[str, Any], place: str, _root: Any, _depth: int) -> Any:
        step = schema.get("multipleOf") or (1 if schema.get("type") == "integer" else 0)
        low, high = schema.get("minimum"), schema.get("maximum")
        low = low if low is not None else _beyond(schema.get("exclusiveMinimum"), step or 0.001)
        high = high if high is not None else _beyond(schema.get("exclusiveMaximum"), -(step or 0.001))
        if low is None and high is None:
            value: Any = (1, 0, 100)[self._choice(place, 3)]
        else:
            known = low if low is not None else high
            value = (high if high is not None else known, low if low is not None else known)[self._choice(place, 2)]
        if step and step != 1:
            value = round(value / step) * step
        return int(value) if schema.get("type") == "integer" else value

    def _boolean(self, _schema: Mapping[str, Any], place: str, _root: Any, _depth: int) -> bool:
        return self._choice(place, 2) == 0

    def _null(self, *_: Any) -> None:
        return None

    def _string(self, schema: Mapping[str, Any], _place: str = "", _root: Any = None, _depth: int = 0) -> str:
        if schema.get("format") in _FORMATS:
            return str(uuid.uuid4()) if schema["format"] == "uuid" else _FORMATS[schema["format"]]
        if schema.get("pattern"):
            # What satisfies a pattern is not known; what its author names as an example does.
            examples = schema.get("examples") or [schema.get("default", "")]
            return str(examples[0])
        text = self._text(schema.get("maxLength"))
        return text.ljust(int(schema.get("minLength") or 0), "x")

    def of_type(self, kind: Any, place: str = "", depth: int = 0) -> Any:  # noqa: PLR0911 - one case a line
        """A value of a type, as graphs declare their state; a planted text where nothing is known of it."""
        origin, parts = get_origin(kind), get_args(kind)
        if origin in {Annotated, Required, NotRequired}:
            return self.of_type(parts[0], place, depth)
        if origin in {Union, types.UnionType}:
            if any(_is_message(part) for part in parts):
                return HumanMessage(self._text(None))
            some = [part for part in parts if part is not type(None)]
            return self.of_type(some[0], place, depth) if some and depth < _MOST_DEPTH else None
        if _is_message(kind):
            return HumanMessage(self._text(None))
        if kind in {list, Sequence} or (origin in {list, Sequence, tuple, set, frozenset} and depth < _MOST_DEPTH):
            inner = [part for part in parts if part is not Ellipsis] or [Any]
            made = [self.of_type(part, f"{place}[{at}]", depth + 1) for at, part in enumerate(inner)]
            return origin(made) if origin in {tuple, set, frozenset} else made
        if kind in {dict, Mapping} or origin in {dict, Mapping}:
            values = parts[1] if len(parts) > 1 else Any
            return {"key": self.of_type(values, f"{place}.key", depth + 1)}
        if isinstance(kind, type) and (hasattr(kind, "__required_keys__") or dataclasses.is_dataclass(kind)):
            return self._of_fields(kind, place, depth)
        if kind is Any or kind is str or not isinstance(kind, type):
            return self._text(None)
        try:
            adapter = TypeAdapter(kind)
            return adapter.validate_python(self.of_schema(adapter.json_schema(), place))
        except Exception:  # noqa: BLE001 - a type of the user's that is none of pydantic's
            return self._text(None)

    def _of_fields(self, kind: type, place: str, depth: int) -> Any:
        hints = get_type_hints(kind, include_extras=True)
        if dataclasses.is_dataclass(kind):
            # What has a default keeps it, but for texts: a client or a function cannot be made up.
            names = {
                each.name: hints.get(each.name, Any)
                for each in dataclasses.fields(kind)
                if each.init
                and (
                    hints.get(each.name) is str
                    or (each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING)
                )
            }
            return kind(**{name: self.of_type(hint, f"{place}.{name}", depth + 1) for name, hint in names.items()})
        if depth >= _MOST_DEPTH:
            return {}
        return {name: self.of_type(hint, f"{place}.{name}", depth + 1) for name, hint in hints.items()}


_MAKERS: Final[dict[str, Callable[[Shapes, Mapping[str, Any], str, Any, int], Any]]] = {
    "object": Shapes._object,  # noqa: SLF001 - the class's own methods, by the names that JSON schema has
    "array": Shapes._array,  # noqa: SLF001
    "integer": Shapes._number,  # noqa: SLF001
    "number": Shapes._number,  # noqa: SLF001
    "boolean": Shapes._boolean,  # noqa: SLF001
    "null": Shapes._null,  # noqa: SLF001
    "string": Shapes._string,  # noqa: SLF001
}


def _is_message(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _is_message(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return any(map(_is_message, get_args(kind)))
    return isinstance(kind, type) and issubclass(kind, BaseMessage)


def _beyond(edge: Any, step: float) -> Any:
    return None if edge is None or isinstance(edge, bool) else edge + step


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    """A schema with `$ref` followed and `allOf` laid together."""
    for _ in range(_MOST_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            found: Any = root
            for step in reference.lstrip("#/").split("/"):
                found = found.get(step, {}) if step and isinstance(found, Mapping) else found
            schema = {**found, **{key: each for key, each in schema.items() if key != "$ref"}}
            continue
        parts = schema.get("allOf")
        if not parts:
            return schema
        merged: dict[str, Any] = {key: each for key, each in schema.items() if key != "allOf"}
        for part in parts:
            inner = _resolved(part, root)
            merged = {
                **merged,
                **inner,
                "properties": {**merged.get("properties", {}), **inner.get("properties", {})},
                "required": [*merged.get("required", ()), *inner.get("required", ())],
            }
        schema = merged
    return schema if isinstance(schema, Mapping) else {}
