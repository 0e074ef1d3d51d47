r"""Redaction of payloads: one walk over a value, one `Redactor` for each trace.

A payload is walked as an object, never as JSON text: an escape such as the `n` of `\n` before an address would be
taken for a part of it, and a number has no quotes to replace. The strings that no cache knows are joined and
scanned in one go; the same walk builds what `orjson` then writes.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pydantic

from langchain_mlflow_cost.redaction import detectors
from langchain_mlflow_cost.redaction.cache import LeafCache, model_key
from langchain_mlflow_cost.redaction.cut import GAP, MARGIN, MIN_TEXT, Piece, Rest, cut, cut_leaf
from langchain_mlflow_cost.redaction.plain import (
    JSON_ENDS,
    PLAIN_OPTIONS,
    Converted,
    as_text,
    digits,
    dumps,
    is_model,
    key_text,
    model_fields,
    parse_json,
    parse_json_lines,
    plain_fields,
    plain_form,
)
from langchain_mlflow_cost.redaction.rules import (
    CLEAN,
    FIELD,
    PLAIN_NAME,
    SIBLING,
    Counts,
    Leaf,
    Rules,
    without_surrogates,
)

# Below MLflow's reader: `json.loads` gives up near 1,000 levels and then the whole trace cannot be read; orjson
# writes 254.
_MAX_DEPTH = 100
# JSON in a string in JSON in a string ... is followed so deep; below it is scanned as text.
_MAX_JSON_IN_STRINGS = 4
# A payload of more values than this may be one of which only the ends will be kept.
_FEW_VALUES = 5_000
# Of the built-in entities, only a card is known by its digits alone, of which it has 12 to 19.
_MIN_SUSPICIOUS_INT = 10**11
_MAX_CARD = 10**19
_ORJSON_INTS = range(-(2**63), 2**64)


class RedactionError(RuntimeError):
    """A payload could not be redacted and must be dropped. The message holds a type's name and nothing else."""


class Redactor:
    """Redacts and serialises the payloads of one trace. Shared by the threads that record it."""

    def __init__(self, rules: Rules, max_payload_chars: int = 100_000, cache: LeafCache | None = None) -> None:
        """Keep the rules.

        Args:
            rules: What to find.
            max_payload_chars: Length of the JSON text at most; what is longer is cut, after redaction, and says so.
            cache: Shared by redactors of the same rules; None: one of its own.
        """
        self.rules = rules
        self.max_payload_chars = max_payload_chars
        self.cache = cache if cache is not None else LeafCache()

    def text(self, text: str) -> tuple[str | None, Counts]:
        """Redact one string, uncut; None where the strategy `drop` removed it."""
        try:
            if self.rules.empty:
                return without_surrogates(text), {}
            leaf = self._leaf(text)
        except Exception as error:  # noqa: BLE001 - whatever fails, the payload must not come out, not even in the error
            raise RedactionError(type(error).__name__) from None
        return (text, {}) if leaf is CLEAN else (leaf.text, leaf.counts)

    def json(self, value: Any) -> tuple[str, Counts]:
        """Redact a value of any shape and write it as JSON, as MLflow's encoder would write it.

        Always valid JSON. What has no JSON form becomes its `str`, as in MLflow; cycles and what is nested too
        deeply, a marker.

        Raises:
            RedactionError: The payload must be dropped.
        """
        try:
            return self._json(value)
        except Exception as error:  # noqa: BLE001 - whatever fails, the payload must not come out, not even in the error
            raise RedactionError(type(error).__name__) from None

    def tree(self, value: Any) -> tuple[Any, Counts]:
        """Redact as `json` does and give what a reader of that text would get."""
        text, counts = self.json(value)
        return json.loads(text), counts

    def _json(self, value: Any) -> tuple[str, Counts]:
        if self.rules.empty:
            try:
                text = orjson.dumps(value, default=plain_form, option=PLAIN_OPTIONS).decode()
            except (TypeError, ValueError, RecursionError):
                pass  # a cycle, a lone surrogate, a key that is no string ...: the walk below knows what to do
            else:
                if len(text) <= self.max_payload_chars:
                    return text, {}
        walk = _Walk(self)
        tree = walk.run(value)
        if walk.piece_chars > self.max_payload_chars:
            # Writing megabytes to see that they are too long would take longer than all the rest.
            return cut(tree, self.max_payload_chars), walk.counts
        text = dumps(tree).decode()
        if len(text) > self.max_payload_chars:
            text = cut(tree, self.max_payload_chars)
        return text, walk.counts

    def _leaf(self, text: str, json_depth: int = 0) -> Leaf:
        leaf: Leaf | None = self.cache.get(text)
        if leaf is None:
            leaf = self.leaves([text], json_depth)[0]
            self.cache.put(text, leaf, len(text))
        return leaf

    def leaves(self, texts: list[str], json_depth: int) -> list[Leaf]:
        """Redact strings that the cache does not know."""
        leaves: list[Leaf | None] = [None] * len(texts)
        if json_depth < _MAX_JSON_IN_STRINGS:
            for i, text in enumerate(texts):
                if text[-1:] not in JSON_ENDS:
                    continue  # most texts
                parsed = parse_json(text)
                if parsed is not None:
                    walk = _Walk(self, json_depth + 1)
                    tree = walk.run(parsed)
                    leaves[i] = Leaf(dumps(tree).decode(), walk.counts) if walk.counts else CLEAN
                elif (lines := parse_json_lines(text)) is not None:
                    leaves[i] = self._lines(lines, json_depth + 1)
        rest = [i for i, leaf in enumerate(leaves) if leaf is None]
        if rest:
            for i, leaf in zip(rest, self.rules.redact_all([texts[i] for i in rest]), strict=True):
                leaves[i] = leaf
        return [leaf for leaf in leaves if leaf is not None]

    def _lines(self, lines: list[tuple[str, Any]], json_depth: int) -> Leaf:
        """Redact a text of which each line is JSON; a line in which nothing is found stays as it is written."""
        counts: collections.Counter[str] = collections.Counter()
        shown = []
        for line, value in lines:
            walk = _Walk(self, json_depth)
            tree = walk.run(value)
            shown.append(dumps(tree).decode() + "\r" * line.endswith("\r") if walk.counts else line)
            counts.update(walk.counts)
        return Leaf("\n".join(shown), counts) if counts else CLEAN


class _Walk:
    """One pass over a value: builds the tree that is written, and notes the strings that are still unknown."""

    def __init__(self, redactor: Redactor, json_depth: int = 0) -> None:
        self.counts: dict[str, int] = {}
        self.piece_chars = 0
        """Characters of the models in it: it is at least so long."""
        self._redactor = redactor
        self._rules = redactor.rules
        self._known = redactor.cache.get
        self._json_depth = json_depth
        # JSON in a string has no more values than the string has characters, and is not cut by itself.
        limit = redactor.max_payload_chars if json_depth == 0 else sys.maxsize - MARGIN
        self._values_left = _FEW_VALUES if json_depth == 0 else sys.maxsize
        self._chars_left = limit
        self._longest = limit + MARGIN
        self._path: set[int] = set()
        # The unknown strings and, in parallel, where each stands and what stays there if nothing is found in it. Flat
        # lists, since a tuple for each place would keep the garbage collector busy longer than the walk takes.
        self._pending: dict[str, int] = {}
        self._numbers: list[int] = []
        self._containers: list[Any] = []
        self._slots: list[Any] = []
        self._originals: list[Any] = []
        self._renamed: list[tuple[dict[str, Any], dict[str, str]]] = []

    def run(self, value: Any) -> Any:
        holder: list[Any] = [None]
        holder[0] = self._visit(value, holder, 0, 0)
        if self._pending:
            self._resolve()
        for tree, names in self._renamed:
            _rename_keys(tree, names)
        return holder[0]

    def _count(self, counts: Counts) -> None:
        for entity, count in counts.items():
            self.counts[entity] = self.counts.get(entity, 0) + count

    def _resolve(self) -> None:
        """Redact the unknown strings in one go and put them into their places."""
        texts = list(self._pending)
        redactor = self._redactor
        longest = self._longest
        shown = [text if len(text) <= longest else text[:longest] for text in texts]
        leaves = [
            leaf if len(text) <= longest else cut_leaf(leaf, len(text) - longest, self._rules)
            for text, leaf in zip(texts, redactor.leaves(shown, self._json_depth), strict=True)
        ]
        redactor.cache.put_all(
            (text, leaf, len(text)) for text, leaf in zip(texts, leaves, strict=True) if len(text) <= longest
        )
        places = zip(self._numbers, self._containers, self._slots, self._originals, strict=True)
        for number, container, slot, original in places:
            leaf = leaves[number]
            if leaf is CLEAN:
                container[slot] = original
            else:
                container[slot] = leaf.text
                self._count(leaf.counts)

    def _visit(self, value: Any, container: Any, slot: Any, depth: int) -> Any:
        """Give what stands for `value`; None for now if that is only known after `_resolve`."""
        kind = type(value)
        if kind is str:
            return self._string(value, container, slot)
        if value is None or kind is bool:
            return value
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list or kind is tuple:
            return self._sequence(value, depth)
        return self._other(value, container, slot, depth)

    def _string(self, text: str, container: Any, slot: Any, original: Any = None) -> Any:
        """Look a string up; `original` is what stays if nothing is found, where that is not the string itself."""
        leaf = self._known(text)
        if leaf is not None:
            if leaf is CLEAN:
                return text if original is None else original
            self._count(leaf.counts)
            return leaf.text
        number = self._pending.get(text)
        if number is None:
            number = self._pending[text] = len(self._pending)
        self._numbers.append(number)
        self._containers.append(container)
        self._slots.append(slot)
        self._originals.append(text if original is None else original)
        return None

    def _integer(self, value: int, container: Any, slot: Any) -> Any:
        size = abs(value)
        plain = value if value in _ORJSON_INTS else orjson.Fragment(digits(value))
        if size >= _MIN_SUSPICIOUS_INT and (
            self._rules.finds_any_number or (size < _MAX_CARD and detectors.passes_luhn(str(size)))
        ):
            return self._string(digits(value), container, slot, plain)
        return plain

    def _float(self, value: float, container: Any, slot: Any) -> Any:
        if _MIN_SUSPICIOUS_INT < abs(value) < _MAX_CARD and value.is_integer():
            return self._string(str(int(value)), container, slot, value)
        return value

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:  # noqa: C901, PLR0912 - see below
        # Nearly all of the time of a payload that is known already is spent here: plain values are dealt with in
        # place, since a call for each would double it.
        path = self._path
        here = id(value)
        if here in path or depth >= _MAX_DEPTH:
            return _stopped(depth)
        path.add(here)
        self._values_left -= len(value)
        owner = value
        if self._values_left < 0:
            value = self._kept_fields(value)
        known = self._known
        names = self._rules.names
        tree: dict[str, Any] = {}
        renamed: dict[str, str] | None = None
        for key, item in value.items():
            if type(key) is not str:
                key = key_text(key, owner)  # noqa: PLW2901 - the name under which it is written
            name = names.get(key) or self._rules.name(key)
            if name is not PLAIN_NAME:
                if name.text is not None:
                    renamed = renamed if renamed is not None else {}
                    renamed[key] = name.text
                    self._count(name.counts)
                if name.entity is not None:
                    tree[key] = None
                    tree[key] = self._field(name.entity, key, item, owner, tree, depth)
                    continue
            kind = type(item)
            if kind is str:
                if known(item) is CLEAN:
                    tree[key] = item
                else:
                    tree[key] = None
                    tree[key] = self._string(item, tree, key)
            elif item is None or kind is bool or (kind is int and -_MIN_SUSPICIOUS_INT < item < _MIN_SUSPICIOUS_INT):
                tree[key] = item
            else:
                tree[key] = None
                tree[key] = self._visit(item, tree, key, depth + 1)
        if renamed is not None:
            self._renamed.append((tree, renamed))
        path.discard(here)
        return tree

    def _kept(self, members: Sequence[Any]) -> Sequence[Any]:
        """Give what may be seen in the end of a payload with so many values that most will be cut: from both ends."""
        left, count = self._chars_left, len(members)
        first = last = 0
        while left > 0 and first + last < count:
            value = members[first if first <= last else count - 1 - last]
            # Cut as far as can be, a string is this long; a list may be empty.
            left -= min(len(value), MIN_TEXT) + 3 if type(value) is str else 2
            if first <= last:
                first += 1
            else:
                last += 1
        self._chars_left = left
        rest = count - first - last
        return [*members[:first], Rest(rest), *members[count - last :]] if rest else members

    def _kept_fields(self, fields: Mapping[Any, Any]) -> Mapping[Any, Any]:
        names = list(fields)
        members = [fields[name] for name in names]
        kept = self._kept(members)
        if kept is members:
            return fields
        gap = next(i for i, one in enumerate(kept) if type(one) is Rest)
        names = [*names[:gap], GAP, *names[len(names) - (len(kept) - gap - 1) :]]
        return dict(zip(names, kept, strict=True))

    def _field(
        self,
        entity: str,
        name: str,
        item: Any,
        owner: Mapping[Any, Any],
        tree: dict[str, Any] | list[Any],
        depth: int,
        slot: int | None = None,
    ) -> Any:
        """Give what stands for the value of a field whose name says what it holds, in its place or in `slot`."""
        place: Any = name if slot is None else slot
        if entity == SIBLING:
            # As in a form or an environment: the name is the value of `name`, and the value that of `value`.
            name = next((one for one in map(owner.get, ("name", "key", "field")) if isinstance(one, str)), "")
            entity = self._rules.name(name).entity or SIBLING
        if entity == detectors.NO_ADDRESS:
            if type(item) is str and detectors.is_four_part_version(item):
                return item
            return self._visit(item, tree, place, depth + 1)
        if entity == FIELD and item is not None:
            shown = item if isinstance(item, str) else type(item).__name__
            if self._rules.is_token(shown):
                return shown
            self._count(_ONE_FIELD)
            return self._rules.token(FIELD, shown)
        if isinstance(item, (list, tuple)) and not hasattr(item, "_fields"):
            parts: list[Any] = [None] * len(item)
            for i, part in enumerate(item):
                token = self._field_token(entity, name, part)
                parts[i] = token if token is not _NOT_A_VALUE else self._visit(part, parts, i, depth + 2)
            return parts
        token = self._field_token(entity, name, item)
        return token if token is not _NOT_A_VALUE else self._visit(item, tree, place, depth + 1)

    def _field_token(self, entity: str, name: str, item: Any) -> Any:
        if item is None or isinstance(item, _NO_TEXT) or dataclasses.is_dataclass(item):
            return _NOT_A_VALUE
        if isinstance(item, (set, frozenset)):
            # Written as one text: one value in it takes all of it along.
            texts = [self._field_text(part) for part in item]
            text = next((one for one in texts if detectors.is_field_value(entity, name, one)), "")
        else:
            text = self._field_text(item)
        if self._rules.is_token(text) or not detectors.is_field_value(entity, name, text):
            return _NOT_A_VALUE
        self._count({entity: 1})
        return self._rules.token(entity, text)

    def _field_text(self, item: Any) -> str:
        if isinstance(item, (bytes, bytearray)):
            return bytes(item[: self._longest]).decode(errors="replace")
        return item if type(item) is str else str.__str__(item) if isinstance(item, str) else self._as_text(item)

    def _pair(self, name: Any, item: Any) -> Any:
        """Give the token for the second of two values in a list, where the first is its name, as of a header."""
        name, text = self._field_text(name), self._field_text(item)
        if self._rules.name(name).entity != detectors.SECRET or self._rules.is_token(text):
            return _NOT_A_VALUE
        if not detectors.is_pair_value(name, text):
            return _NOT_A_VALUE
        self._count({detectors.SECRET: 1})
        return self._rules.token(detectors.SECRET, text)

    def _named_tuple(self, value: Any, depth: int) -> Any:
        """Walk a tuple whose members have names: written as a list, and each member is what its name says."""
        owner = dict(zip(value._fields, value, strict=False))
        tree: list[Any] = [None] * len(value)
        here = id(value)
        if here in self._path or depth >= _MAX_DEPTH:
            return _stopped(depth)
        self._path.add(here)
        for index, (name, item) in enumerate(owner.items()):
            entity = self._rules.name(name).entity
            tree[index] = (
                self._visit(item, tree, index, depth + 1)
                if entity is None
                else self._field(entity, name, item, owner, tree, depth, index)
            )
        self._path.discard(here)
        return tree

    def _sequence(self, value: Sequence[Any], depth: int) -> Any:
        path = self._path
        here = id(value)
        if here in path or depth >= _MAX_DEPTH:
            return _stopped(depth)
        path.add(here)
        self._values_left -= len(value)
        if self._values_left < 0:
            value = self._kept(value)
        tree: list[Any] = [None] * len(value)
        if len(value) == _PAIR and type(value[0]) in _NAMES and type(value[1]) in _NAMES:
            token = self._pair(*value)
            if token is not _NOT_A_VALUE:
                tree[:] = self._visit(value[0], tree, 0, depth + 1), token
                path.discard(here)
                return tree
        # Of a list of messages the way by `_visit` would take as long as looking each up.
        kind: type = type(value[0]) if value else object
        of_models = is_model(kind)
        for index, item in enumerate(value):
            its_kind: type = type(item)
            if of_models and is_model(its_kind):
                tree[index] = self._model(item, item, None, tree, index, depth + 1)
            else:
                tree[index] = self._visit(item, tree, index, depth + 1)
        path.discard(here)
        return tree

    def _other(self, value: Any, container: Any, slot: Any, depth: int) -> Any:  # noqa: C901, PLR0911 - the order counts
        """Turn what has no JSON form of its own into what has, as MLflow's encoder does."""
        kind: type = type(value)
        if kind is Rest:
            return value
        if is_model(kind):
            return self._model(value, value, None, container, slot, depth)
        if kind is Converted:
            return self._model(value, value.model, value.convert, container, slot, depth)
        if isinstance(value, str):
            # Of an enumeration's member too, `json` writes the text that it is, not its `str`.
            return self._string(str.__str__(value), container, slot)
        if isinstance(value, int):
            return self._integer(int(value), container, slot)
        if isinstance(value, float):
            return self._float(float(value), container, slot)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._named_tuple(value, depth)
        if isinstance(value, (list, tuple)):
            return self._sequence(value, depth)
        if isinstance(value, uuid.UUID):
            return str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._mapping_of(
                value, {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}, depth
            )
        return self._string(self._as_text(value), container, slot)

    def _as_text(self, value: Any) -> str:
        if isinstance(value, (bytes, bytearray)):
            return str(bytes(value[: self._longest]))
        return as_text(value)

    def _mapping_of(self, value: Any, fields: Mapping[Any, Any], depth: int) -> Any:
        """Walk an object's fields; the object itself marks the path, since the mapping is made anew each time."""
        here = id(value)
        if here in self._path:
            return _stopped(depth)
        self._path.add(here)
        tree = self._mapping(fields, depth)
        self._path.discard(here)
        return tree

    def _model(
        self,
        value: Any,
        model: pydantic.BaseModel,
        convert: Callable[[Any], Any] | None,
        container: Any,
        slot: Any,
        depth: int,
    ) -> Any:
        key = model_key(model)
        if key is None:
            if convert is not None:
                return self._visit(convert(model), container, slot, depth)
            return self._mapping_of(value, model_fields(model), depth)
        piece = self._known((convert, key))
        if piece is None:
            # A walk of its own: its counts are remembered with it, and its strings are few.
            walk = _Walk(self._redactor, self._json_depth)
            tree = walk.run(plain_fields(model) if convert is None else convert(model))
            text = dumps(tree)
            piece = Piece(tree, text, walk.counts)
            self._redactor.cache.put((convert, key), piece, len(text))
        self._count(piece.counts)
        self.piece_chars += piece.chars
        return piece


_ONE_FIELD = {FIELD: 1}
_PAIR = 2
_NAMES = (str, bytes)
_NOT_A_VALUE = object()
# What is written as a value of its own, not as a text.
_NO_TEXT = (bool, float, Mapping, list, tuple, pydantic.BaseModel)


def _stopped(depth: int) -> str:
    return f"[nested deeper than {_MAX_DEPTH}]" if depth >= _MAX_DEPTH else "[cycle]"


def _rename_keys(tree: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give a dict's redacted keys their names, keeping order and number: equal ones are numbered."""
    items = list(tree.items())
    taken = {key for key in tree if key not in names}
    tree.clear()
    for key, item in items:
        new = base = names.get(key, key)
        number = 1
        while key in names and new in taken:
            number += 1
            new = f"{base} ({number})"
        taken.add(new)
        tree[new] = item
