"""Values that satisfy a JSON schema or a type, with planted texts wherever a text may stand."""

from __future__ import annotations

import dataclasses
import json
import re
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
    "ipv4network": "192.0.2.0/24",
    "ipv6network": "2001:db8::/32",
    "ipvanyaddress": "192.0.2.1",
    "ipvanynetwork": "192.0.2.0/24",
    "ipvanyinterface": "192.0.2.1/24",
    "hostname": "example.com",
    "base64": "dGV4dA==",
    "base64url": "dGV4dA==",
    "json-string": "{}",
}
_ALPHABET: Final = ("1", "a", "A", "a1", "A1", "0", "x-", "1.")
_MOST_LETTERS: Final = 40
_WRITTEN: Final = (
    *_FORMATS.values(),
    *(
        "2026-01",
        "10:00",
        "10:00:00",
        "+15550100",
        "+1-555-0100",
        "555-0100",
        "1.2.3",
        "v1.2.3",
        "#aabbcc",
        "$1.00",
        "1.50",
    ),
    *(
        "en-US",
        "US",
        "USD",
        "A-1",
        "AB-123",
        "AB-1234",
        "ABC-123",
        "ABC123",
        "A123",
        "a_b",
        "a-b",
        "a.b",
        "A b",
        "Ab",
        "INV-0001",
    ),
    *(
        "ORD-12345",
        "TICKET-1",
        "user_1",
        "id_1",
        "/a/b",
        "a/b",
        "https://example.com/a",
        "@a",
        "#a",
        "12345-6789",
        "1,000.00",
    ),
)
"""What people write patterns for."""


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
                nulls = [each for each in options if _resolved(each, root).get("type") == "null"]
                if depth >= _MOST_DEPTH and nulls:
                    return None
                some = [each for each in options if each not in nulls and _can_be_made(_resolved(each, root))]
                if [_resolved(each, root).get("type") for each in some] == ["number", "string"]:
                    # How pydantic writes a Decimal: its text has to be a number.
                    some = some[:1]
                # Nothing at all comes last: in it no text can be planted.
                some = [*some, *nulls] or options
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
        others = schema.get("additionalProperties")
        if not properties and depth < _MOST_DEPTH:
            if isinstance(others, Mapping):
                made.update(self._named(schema.get("propertyNames"), others, schema, place, root, depth))
            for pattern, inner in (schema.get("patternProperties") or {}).items():
                made.update(self._named({"pattern": pattern}, inner, schema, place, root, depth))
        return made

    def _named(
        self, names: Any, inner: Any, schema: Mapping[str, Any], place: str, root: Any, depth: int
    ) -> dict[str, Any]:
        """Members of a mapping whose names are free, or of a form."""
        names = _resolved(names or {}, root)
        few = max(1, int(schema.get("minProperties") or 0))
        if names.get("enum"):
            keys = list(names["enum"])
        elif names.get("pattern"):
            keys = [_of_pattern(names) or "key"]
        else:
            keys = ["key", *(f"key{number}" for number in range(2, few + 1))]
        return {str(key): self.of_schema(inner, f"{place}.*", root, depth + 1) for key in keys}

    def _array(self, schema: Mapping[str, Any], place: str, root: Any, depth: int) -> Any:
        if depth >= _MOST_DEPTH:
            return []
        parts = schema.get("prefixItems")
        if parts:
            return [self.of_schema(each, f"{place}[{at}]", root, depth + 1) for at, each in enumerate(parts)]
        few, most = int(schema.get("minItems") or 0), schema.get("maxItems")
        # Routers ask whether there is one, several or none.
        count = max(few, (1, 2, 0)[self._choice(f"{place}[", 3)])
        count = count if most is None else min(count, int(most))
        return [self.of_schema(schema.get("items", {}), f"{place}[]", root, depth + 1) for _ in range(count)]

    def _number(self, schema: Mapping[str, Any], place: str, _root: Any, _depth: int) -> Any:
        step = schema.get("multipleOf") or (1 if schema.get("type") == "integer" else 0)
        low, high = schema.get("minimum"), schema.get("maximum")
        below, above = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        is_open = (low, below) == (None, None) or (high, above) == (None, None)
        away = step or (1 if is_open else 0.001)
        low = low if low is not None else _beyond(below, away)
        high = high if high is not None else _beyond(above, -away)
        if low is None and high is None:
            value: Any = (1, 0, 100)[self._choice(place, 3)]
        elif low is None or high is None:
            known = high if low is None else low
            value = known + (0, 1, 100)[self._choice(place, 3)] * (-1 if low is None else 1)
        else:
            value = (high, low)[self._choice(place, 2)]
        if step and step != 1:
            value = round(value / step) * step
            if low is not None and value < low:
                value += step
            elif high is not None and value > high:
                value -= step
        return int(value) if schema.get("type") == "integer" else value

    def _boolean(self, _schema: Mapping[str, Any], place: str, _root: Any, _depth: int) -> bool:
        return self._choice(place, 2) == 0

    def _null(self, *_: Any) -> None:
        return None

    def _string(self, schema: Mapping[str, Any], place: str = "", root: Any = None, depth: int = 0) -> str:
        if schema.get("format") in _FORMATS:
            return str(uuid.uuid4()) if schema["format"] == "uuid" else _FORMATS[schema["format"]]
        if schema.get("contentMediaType") == "application/json":
            inner = schema.get("contentSchema") or {"type": "array", "items": {}}
            return json.dumps(self.of_schema(inner, f"{place}()", root, depth + 1))
        if schema.get("pattern"):
            return _of_pattern(schema) or ""
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


def _can_be_made(schema: Mapping[str, Any]) -> bool:
    return not schema.get("pattern") or schema.get("format") in _FORMATS or _of_pattern(schema) is not None


def _of_pattern(schema: Mapping[str, Any]) -> str | None:
    """A text of a pattern: what its author names as an example, else what is tried and found to be one, else None."""
    examples = [*(schema.get("examples") or ()), *([schema["default"]] if schema.get("default") else ())]
    if examples:
        return str(examples[0])
    few, most = int(schema.get("minLength") or 0), int(schema.get("maxLength") or 10_000)
    try:
        pattern = re.compile(schema["pattern"])
    except (re.error, TypeError):
        return None
    repeated = ((each * _MOST_LETTERS)[:length] for length in range(1, _MOST_LETTERS) for each in _ALPHABET)
    for text in (*_WRITTEN, *repeated):
        if few <= len(text) <= most and pattern.search(text):
            return text
    return None


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
