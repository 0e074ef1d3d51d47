r"""Redaction of payloads: rules made once for each policy, one `Redactor` for each trace.

A payload is walked as an object, never as JSON text: an escape such as the `n` of `\n` before an address would be
taken for a part of it, and a number has no quotes to replace. The strings that no cache knows are joined and
scanned in one go; the same walk builds what `orjson` then writes.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import functools
import hashlib
import json
import operator
import re
import secrets
import sys
import threading
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pydantic
import re2

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.redaction import detectors
from langchain_mlflow_cost.redaction.detectors import ENTITIES, PII_ENTITIES, SECRET, Found, Span

__all__ = [
    "ENTITIES",
    "FIELD",
    "PII_ENTITIES",
    "SECRET",
    "Counts",
    "Found",
    "LeafCache",
    "RedactionError",
    "Redactor",
    "Rules",
    "compile_rules",
    "scan",
]

Counts = Mapping[str, int]
"""How many stretches of each entity were taken out."""

FIELD = "FIELD"
"""What a value is called that went because of its field's name, by the policy's `keys`."""

# Of a field that is called "value", another field may say what it is.
_SIBLING = "value"

STRATEGIES = ("redact", "mask", "hash", "drop")

# Below MLflow's reader: `json.loads` gives up near 1,000 levels and then the whole trace cannot be read; orjson
# writes 254.
_MAX_DEPTH = 100
# JSON in a string in JSON in a string ... is followed so deep; below it is scanned as text.
_MAX_JSON_IN_STRINGS = 4
# A string is scanned this far beyond where it will be cut, so that what straddles the cut is still seen whole.
_MARGIN = 16_384
# A payload of more values than this may be one of which only the ends will be kept.
_FEW_VALUES = 5_000
# Redacting can bring a neighbour into reach of a rule (`1.2.3.4` once it is no longer glued to an address).
_MAX_ROUNDS = 4
# Farther from a token than this, no built-in rule can find what it did not find before: the words before a number
# are looked for in 48 characters, and of the longest keys 300 are plenty to be recognised.
_REACH = 600
# With a token in fewer characters than this, twice over, looking only near tokens saves nothing.
_DENSE = 32
_ENTITY_OF = operator.itemgetter(2)
# Of the built-in entities, only a card is known by its digits alone, of which it has 12 to 19.
_MIN_SUSPICIOUS_INT = 10**11
_MAX_CARD = 10**19
_ORJSON_INTS = range(-(2**63), 2**64)

_PROCESS_KEY = secrets.token_bytes(32)
_PRESIDIO_ONLY = frozenset(
    {"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME", "URL", "US_PASSPORT", "US_ITIN", "UK_NHS"}
)
_DIGITS_ONLY = frozenset({"PHONE_NUMBER", "CREDIT_CARD", "US_SSN", "IBAN_CODE", "MAC_ADDRESS"})
# A masked number shows four digits, so that of fewer than nine more than half would be seen.
_HIDES_HALF = 9
_KEEPS_LAST_FOUR = frozenset({"PHONE_NUMBER", "CREDIT_CARD"})
_LONGEST_TOKEN = 64 + 20
# Names of fields that are remembered, so that ids which are used as names do not pile up.
_LONGEST_NAME, _MOST_NAMES = 64, 10_000
_SURROGATES = re.compile("[\ud800-\udfff]")


class RedactionError(RuntimeError):
    """A payload could not be redacted and must be dropped. The message holds a type's name and nothing else."""


class _Leaf(NamedTuple):
    """What became of a string: `text` is None where the strategy `drop` removed it."""

    text: str | None
    counts: Counts


_CLEAN = _Leaf("", {})


class _Name(NamedTuple):
    """What the name of a field means."""

    text: str | None
    """The name as it may be shown, where that is not the name itself."""
    counts: Counts
    entity: str | None
    """What its value is."""


_PLAIN_NAME = _Name(None, {}, None)


def _cut_leaf(leaf: _Leaf, unseen: int, rules: Rules) -> _Leaf:
    """Take the end off a redacted text of which more was not looked at: half of a value may be there."""
    text = leaf.text
    if leaf is _CLEAN or text is None:
        return leaf  # cut with the payload, farther in front
    if not rules.is_token(text[text.rfind("[") :]):
        text, unseen = text[: max(0, len(text) - _MARGIN)], unseen + _MARGIN
    return _Leaf(f"{text}… {_CUT.format(unseen)}", leaf.counts)


class Converted:
    """A model in another form, such as a message as MLflow's UI shows it: converted only if its content is new."""

    __slots__ = ("convert", "model")

    def __init__(self, model: pydantic.BaseModel, convert: Callable[[Any], Any]) -> None:
        """Keep both; `convert` must give the same for equal models."""
        self.model = model
        self.convert = convert


class _Piece:
    """A model that was redacted and serialised before."""

    __slots__ = ("chars", "counts", "fragment", "short", "strings", "tree")

    def __init__(self, tree: Any, text: bytes, counts: Counts) -> None:
        self.tree = tree
        self.fragment = orjson.Fragment(_copied(text))
        self.chars = len(text) if text.isascii() else len(text.decode())
        self.counts = counts
        self.strings: _Strings | None = None
        """Counted when a payload that holds it is first cut: the same message is in one payload after another."""
        self.short: tuple[int, _Piece] | None = None
        """What it was last cut to, and the length of string that was asked for."""

    def measured(self) -> _Strings:
        """Give the lengths of its strings."""
        if self.strings is None:
            self.strings = _Strings()
            self.strings.measure(self.tree)
            self.strings.written = self.chars - self.strings.others
        return self.strings

    def cut_to(self, limit: int) -> _Piece:
        """The piece with no string longer than `limit`, itself if it has none."""
        if self.measured().longest <= limit:
            return self
        if self.short is None or self.short[0] != limit:
            tree = _shortened(self.tree, _Room(limit, sys.maxsize))
            self.short = (limit, _Piece(tree, _dumps(tree), self.counts))
        return self.short[1]


class _Strings:
    """The lengths of a tree's strings, in characters, and how long it will be when it is written."""

    __slots__ = ("has_pieces", "lengths", "longest", "others", "written")

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.longest = 0
        self.has_pieces = False
        self.written = 0
        """Of the strings when they are written: with their escapes, where these are known."""
        self.others = 0
        """Of all else, about."""

    def measure(self, tree: Any) -> None:
        """Add a tree."""
        kind = type(tree)
        if kind is str:
            length = len(tree)
            self.lengths.append(length)
            self.longest = max(self.longest, length)
            self.written += length
            self.others += 3
        elif kind is dict:
            for name, item in tree.items():
                self.others += len(name) + 3
                self.measure(item)
        elif kind is list:
            for item in tree:
                self.measure(item)
        elif kind is _Piece:
            strings = tree.measured()
            self.has_pieces = True
            self.lengths += strings.lengths
            self.longest = max(self.longest, strings.longest)
            self.written += strings.written
            self.others += strings.others + 1
        else:
            self.others += 8


class LeafCache:
    """What became of strings and models, forgotten oldest first. Shared by threads.

    Bounded by entries and by characters, since one entry may be a whole document.
    """

    def __init__(self, max_entries: int = 100_000, max_chars: int = 32_000_000) -> None:
        """Make an empty one; `max_chars` counts what the cache alone keeps alive, at most."""
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._entries: dict[Any, Any] = {}
        self._sizes: dict[Any, int] = {}
        self._chars = 0
        self._lock = threading.Lock()
        # A dict's own lookup is atomic, so that reading, by far the more frequent, needs no lock.
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def chars(self) -> int:
        """Characters of what is remembered."""
        return self._chars

    def put(self, key: Any, value: Any, size: int) -> None:
        """Remember, unless it alone is too much."""
        self.put_all([(key, value, size)])

    def put_all(self, entries: Iterable[tuple[Any, Any, int]]) -> None:
        """Remember keys, their values and their sizes."""
        with self._lock:
            for key, value, size in entries:
                if size > self._max_chars or key in self._entries:
                    continue
                self._entries[key] = value
                self._sizes[key] = size
                self._chars += size
            if self._chars > self._max_chars or len(self._entries) > self._max_entries:
                self._let_go()

    def _let_go(self) -> None:
        # An eighth at a time: to find the oldest one, a dict looks at the place of each that went before it.
        chars, entries = self._max_chars * 7 // 8, self._max_entries * 7 // 8
        for oldest in list(self._entries):
            if self._chars <= chars and len(self._entries) <= entries:
                return
            del self._entries[oldest]
            self._chars -= self._sizes.pop(oldest)


class Rules:
    """What to find and what to put in its place. Immutable, made by `compile_rules`, shared by threads."""

    def __init__(
        self,
        entities: frozenset[str],
        strategies: Mapping[str, str],
        hash_key: bytes,
        keys: tuple[str, ...],
        patterns: Mapping[str, Any],
        more: Callable[[str], list[Found]] | None,
    ) -> None:
        """Keep what `compile_rules` has checked."""
        self.entities = entities
        self._strategies = strategies
        self._hash_key = hash_key
        self._key_globs = keys
        self._key_pattern = (
            re.compile("|".join(f"(?:{fnmatch.translate(key.casefold())})" for key in keys)) if keys else None
        )
        self._patterns = patterns
        self._more = more
        self._scanner = detectors.Scanner(entities) if entities else None
        # Most tokens say nothing of the value that they stand for.
        self._constant_tokens = {
            name: f"[{name}]" for name in (*entities, *patterns) if self.strategy(name) == "redact"
        }
        self._tokens = _token_pattern((*sorted(entities), *patterns, FIELD), presidio=more is not None)
        self.names: dict[str, _Name] = {}
        # A pattern of the user's may be about numbers of any length.
        self.finds_any_number = bool(patterns or more)
        self.empty = not (entities or keys or patterns or more)

    def __repr__(self) -> str:
        """Name the entities, never a key or a pattern."""
        return f"Rules(entities={sorted(self.entities)}, patterns={len(self._patterns)}, keys={len(self._key_globs)})"

    def strategy(self, entity: str) -> str:
        """Say what happens to what is found of an entity."""
        return self._strategies.get(entity, "redact")

    def describe(self) -> list[dict[str, str]]:
        """List what is looked for: `entity`, `strategy`, `rule` in words, one row each."""
        rows = [
            {
                "entity": name,
                "strategy": self.strategy(name),
                "rule": ENTITIES[name].what if name in ENTITIES else "found by Presidio",
            }
            for name in sorted(self.entities)
        ]
        rows += [
            {"entity": name, "strategy": self.strategy(name), "rule": f"pattern {pattern.pattern}"}
            for name, pattern in self._patterns.items()
        ]
        if self._key_globs:
            names = ", ".join(self._key_globs)
            rows.append(
                {"entity": FIELD, "strategy": self.strategy(FIELD), "rule": f"the value of a field named {names}"}
            )
        return rows

    def find(self, text: str) -> list[Found]:
        """Find everything in a text, in order and without overlaps; offsets count characters."""
        return [Found(*one) for one in self.find_all([text])[0]]

    def find_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """Find everything in each of many texts, which costs less than one by one; as plain tuples."""
        found = _found_in_each(self._scanner, texts) if self._scanner else [[] for _ in texts]
        if self._patterns or self._more:
            for text, here in zip(texts, found, strict=True):
                self._find_custom(_without_surrogates(text), here)
        # Most payloads have no token in them: look for one only where there is something to protect it from.
        return [self._spare_tokens(text, here) if here else here for text, here in zip(texts, found, strict=True)]

    def _find_custom(self, text: str, here: list[Span]) -> None:
        """Add what the policy's own patterns and the optional engine find."""
        added: list[Span] = []
        for name, pattern in self._patterns.items():
            added += [(match.start(), match.end(), name) for match in pattern.finditer(text) if match.group()]
        if self._more:
            added += self._more(_blank(text, [*here, *added]))
        if added:
            here[:] = detectors.without_overlaps([*here, *added])

    def _spare_tokens(self, text: str, here: list[Span]) -> list[Span]:
        """Leave tokens of an earlier redaction alone, else `password=[SECRET]` would be found again and again."""
        if "[" not in text and "****" not in text:
            return here
        return [one for one in here if not self._is_in_token(text, one)]

    def is_token(self, text: str) -> bool:
        """Say whether a text is the token of an earlier redaction and nothing else."""
        return self._tokens.fullmatch(text) is not None

    def _is_in_token(self, text: str, one: Span) -> bool:
        first, last, _ = one
        for opening, longest in (("[", _LONGEST_TOKEN), ("****", 8)):
            start = text.rfind(opening, max(0, first - longest), first + len(opening))
            token = self._tokens.match(text, start) if start >= 0 else None
            if token and token.start() <= first and last <= token.end():
                return True
        return False

    def redact_all(self, texts: Sequence[str]) -> list[_Leaf]:
        """Redact each of many texts, until nothing more is found in them."""
        leaves = [_CLEAN] * len(texts)
        current = [_without_surrogates(text) for text in texts]
        todo = list(range(len(texts)))
        for _ in range(_MAX_ROUNDS):
            found = self.find_all([current[i] for i in todo])
            again = []
            for i, here in zip(todo, found, strict=True):
                if not here:
                    continue
                counts = collections.Counter(leaves[i].counts)
                counts.update(map(_ENTITY_OF, here))
                pieces = self._replace(current[i], here)
                replaced = "".join(pieces) if pieces is not None else None
                leaves[i] = _Leaf(replaced, counts)
                if pieces is not None and replaced is not None:
                    current[i] = replaced
                    if self._may_find_more(replaced, pieces):
                        again.append(i)
            todo = again
            if not todo:
                break
        for i in todo:
            # Still something after all rounds (a pattern that finds its own token's parts): nothing may stay.
            leaves[i] = _Leaf(f"[{FIELD}]", leaves[i].counts)
        for i, text in enumerate(texts):
            if leaves[i] is _CLEAN and current[i] != text:
                leaves[i] = _Leaf(current[i], {})
        return leaves

    def _may_find_more(self, text: str, parts: Sequence[str]) -> bool:
        """Say whether a text must be scanned once more after tokens were put into it.

        Only what is near a token can have come into reach of a built-in rule, so that of a long text with few of
        them the rest need not be looked at again.
        """
        if len(text) < 8 * _REACH or len(text) < _DENSE * len(parts) or self._patterns or self._more:
            return True
        pieces = []
        start = end = last = 0
        for kept, token in zip(parts[::2], parts[1::2], strict=False):
            first = last + len(kept)
            last = first + len(token)
            if first - _REACH > end:
                pieces.append(text[start:end])
                start = first - _REACH
            end = last + _REACH
        pieces.append(text[start:end])
        if sum(map(len, pieces)) * 2 > len(text):
            return True
        return any(self.find_all(pieces))

    def _replace(self, text: str, found: Iterable[Span]) -> list[str] | None:
        """Give the text in pieces: every second one is a token in place of what was found; None if all must go."""
        constant = self._constant_tokens
        pieces: list[str] = []
        append = pieces.append
        done = 0
        for start, end, entity in found:
            token = constant.get(entity) or self.token(entity, text[start:end])
            if token is None:
                return None
            append(text[done:start])
            append(token)
            done = end
        append(text[done:])
        return pieces

    def token(self, entity: str, value: str) -> str | None:
        """Give what stands in place of a value; None where the string that holds it goes as a whole."""
        strategy = self._strategies.get(entity, "redact")
        if strategy == "redact":
            return f"[{entity}]"
        if strategy == "drop":
            return None
        if strategy == "mask":
            digits = [character for character in value if character.isdigit()] if entity in _KEEPS_LAST_FOUR else []
            return "****" + ("".join(digits[-4:]) if len(digits) >= _HIDES_HALF else "")
        if strategy == "hash":
            return f"[{entity}:{self._digest(entity, value)}]"
        raise ValueError(strategy)

    def _digest(self, entity: str, value: str) -> str:
        """Give 64 bits as letters only: digits could pass for a card's, or for a part of the next number."""
        plain = unicodedata.normalize("NFKC", value).casefold()
        if entity in _DIGITS_ONLY:
            plain = "".join(filter(str.isalnum, plain))
        digest = hashlib.blake2b(f"{entity}\x1f{plain}".encode(errors="replace"), key=self._hash_key, digest_size=8)
        return digest.hexdigest().translate(_HEX_TO_LETTERS)

    def name(self, name: str) -> _Name:
        """Say what the name of a field means, remembered in `names`: names repeat in every payload."""
        known = self.names.get(name)
        if known is not None:
            return known
        made = self._name(name) if not self.empty else _PLAIN_NAME
        if len(name) <= _LONGEST_NAME and len(self.names) < _MOST_NAMES:
            self.names[name] = made
        return made

    def _name(self, name: str) -> _Name:
        leaf = self.redact_all([name])[0]
        entity = detectors.field_entity(name, self.entities)
        if name.casefold() == "value" and (SECRET in self.entities or self._key_pattern):
            entity = _SIBLING
        if self._key_pattern and self._key_pattern.match(name.casefold()):
            entity = FIELD
        if leaf is _CLEAN:
            return _Name(None, {}, entity) if entity else _PLAIN_NAME
        # A dict's key cannot be null, so that `drop` leaves the entity's name.
        text = leaf.text if leaf.text is not None else f"[{next(iter(leaf.counts))}]"
        return _Name(text, leaf.counts, entity)


def scan(text: str, rules: Rules) -> list[Found]:
    """Find what would be redacted in a text, for tuning a policy."""
    return rules.find(text)


def compile_rules(
    *,
    entities: Iterable[str],
    strategies: Mapping[str, str] | str = "redact",
    hash_key: bytes | None = None,
    keys: Sequence[str] = (),
    patterns: Mapping[str, str] | None = None,
    engine: str = "builtin",
) -> Rules:
    """Check a policy's rules and make them ready; equal arguments give the same object.

    Args:
        entities: Names out of `ENTITIES`; with the presidio engine, also those that it supports. May be empty.
        strategies: One for all, or by entity, pattern name or `FIELD`; what is left out is `redact`.
        hash_key: For the strategy `hash`: the same key gives the same tokens. None: random, for this process.
        keys: Names of fields whose value always goes; globs, in any case.
        patterns: Name to RE2 pattern; the name is the entity.
        engine: `builtin` or `presidio`.

    Raises:
        PolicyError: Its `key` names the offending setting, such as `redaction.patterns.order`.
    """
    return _compile(
        frozenset(entities),
        strategies if isinstance(strategies, str) else tuple(sorted(strategies.items())),
        hash_key or _PROCESS_KEY,
        tuple(keys),
        tuple((patterns or {}).items()),
        engine,
    )


@functools.lru_cache(maxsize=256)
def _compile(
    entities: frozenset[str],
    strategies: str | tuple[tuple[str, str], ...],
    hash_key: bytes,
    keys: tuple[str, ...],
    patterns: tuple[tuple[str, str], ...],
    engine: str,
) -> Rules:
    known: set[str] = set(ENTITIES)
    if engine == "presidio":
        # Imported here because the extra is optional and takes seconds.
        from langchain_mlflow_cost.redaction import presidio  # noqa: PLC0415 - see above

        known |= presidio.supported_entities()
    elif engine != "builtin":
        raise _error("redaction.engine", f"unknown engine {engine!r}; choose from builtin, presidio")
    for name in sorted(entities - known):
        hint = "; these need engine: presidio" if name in _PRESIDIO_ONLY else _nearest(name, known)
        raise _error("redaction.entities", f"unknown entity {name!r}{hint}")
    compiled = {name: _pattern(name, pattern) for name, pattern in patterns}
    by_entity = _strategies(strategies, entities, known | set(compiled) | {FIELD}, tuple(compiled))
    more = None
    if engine == "presidio" and entities - set(ENTITIES):
        more = presidio.analyzer(frozenset(entities - set(ENTITIES)))
    key = hashlib.sha256(hash_key).digest()
    return Rules(entities & set(ENTITIES) if more is None else entities, by_entity, key, keys, compiled, more)


def _strategies(
    given: str | tuple[tuple[str, str], ...], entities: frozenset[str], known: set[str], patterns: tuple[str, ...]
) -> dict[str, str]:
    everything = dict.fromkeys((*entities, *patterns, FIELD), given) if isinstance(given, str) else dict(given)
    for entity, strategy in everything.items():
        where = "redaction.strategy" if isinstance(given, str) else f"redaction.strategy.{entity}"
        if strategy not in STRATEGIES:
            raise _error(where, f"unknown strategy {strategy!r}; choose from {', '.join(STRATEGIES)}")
        if entity not in known:
            raise _error(where, f"unknown entity {entity!r}{_nearest(entity, known)}")
    return everything


def _pattern(name: str, pattern: str) -> Any:
    where = f"redaction.patterns.{name}"
    if not re.fullmatch(r"\w[\w .-]{0,63}", name):
        raise _error(where, "a pattern's name is what stands in the text instead: up to 64 letters, digits, _, - or .")
    options = re2.Options()
    options.log_errors = False  # RE2 would print the pattern to stderr
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a regular expression"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        hint = "; RE2 has no look-around and no back-references, and repeats at most 1,000 times"
        raise _error(where, f"RE2 refuses the pattern: {text}{hint}") from None
    if compiled.search("") is not None:
        raise _error(where, "the pattern matches the empty text, so it would match everywhere")
    return compiled


def _error(key: str, message: str) -> PolicyError:
    return PolicyError(f"{key}: {message}", key=key)


def _nearest(name: str, known: set[str]) -> str:
    near = next((one for one in sorted(known) if one.startswith(name.upper())), None) or nearest(name, sorted(known))
    return f"; did you mean {near!r}?" if near else f"; choose from {', '.join(sorted(known))}"


_HEX_TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def _token_pattern(names: Iterable[str], *, presidio: bool) -> re.Pattern[str]:
    any_name = "|".join(map(re.escape, names)) + ("|[A-Z_]{3,40}" if presidio else "")
    return re.compile(rf"\[(?:{any_name})(?::[a-p]{{16}})?\]|\*{{4}}(?:[0-9]{{4}})?")


def _blank(text: str, found: Iterable[Span]) -> str:
    """Put spaces where something was found, so that the optional engine sees only what is left."""
    pieces = []
    done = 0
    for start, end, _ in detectors.without_overlaps(found):
        pieces += [text[done:start], " " * (end - start)]
        done = end
    return "".join((*pieces, text[done:]))


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which neither orjson nor OTLP can write."""
    if text.isascii():
        return text
    try:
        text.encode()  # a tenth of the time that looking for them takes
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def _found_in_each(scanner: detectors.Scanner, texts: Sequence[str]) -> list[list[Span]]:
    """Scan many texts as one, joined by a separator that no rule crosses."""
    if len(texts) == 1:
        return [scanner.find(texts[0])]
    found: list[list[Span]] = [[] for _ in texts]
    index = 0
    start = 0
    end = len(texts[0]) if texts else 0
    for first, last, entity in scanner.find("\x1f".join(texts)):
        while first > end:
            index += 1
            start = end + 1
            end = start + len(texts[index])
        found[index].append((first - start, min(last, end) - start, entity))
    return found


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
                return _without_surrogates(text), {}
            leaf = self._leaf(text)
        except Exception as error:  # noqa: BLE001 - whatever fails, the payload must not come out, not even in the error
            raise RedactionError(type(error).__name__) from None
        return (text, {}) if leaf is _CLEAN else (leaf.text, leaf.counts)

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
                text = orjson.dumps(value, default=_plain, option=_PLAIN_OPTIONS).decode()
            except (TypeError, ValueError, RecursionError):
                pass  # a cycle, a lone surrogate, a key that is no string ...: the walk below knows what to do
            else:
                if len(text) <= self.max_payload_chars:
                    return text, {}
        walk = _Walk(self)
        tree = walk.run(value)
        if walk.piece_chars > self.max_payload_chars:
            # Writing megabytes to see that they are too long would take longer than all the rest.
            return _cut(tree, self.max_payload_chars, None), walk.counts
        text = _dumps(tree).decode()
        if len(text) > self.max_payload_chars:
            text = _cut(tree, self.max_payload_chars, len(text))
        return text, walk.counts

    def _leaf(self, text: str, json_depth: int = 0) -> _Leaf:
        leaf: _Leaf | None = self.cache.get(text)
        if leaf is None:
            leaf = self.leaves([text], json_depth)[0]
            self.cache.put(text, leaf, len(text))
        return leaf

    def leaves(self, texts: list[str], json_depth: int) -> list[_Leaf]:
        """Redact strings that the cache does not know."""
        leaves: list[_Leaf | None] = [None] * len(texts)
        if json_depth < _MAX_JSON_IN_STRINGS:
            for i, text in enumerate(texts):
                parsed = _parsed(text)
                if parsed is not None:
                    walk = _Walk(self, json_depth + 1)
                    tree = walk.run(parsed)
                    leaves[i] = _Leaf(_dumps(tree).decode(), walk.counts) if walk.counts else _CLEAN
        rest = [i for i, leaf in enumerate(leaves) if leaf is None]
        if rest:
            for i, leaf in zip(rest, self.rules.redact_all([texts[i] for i in rest]), strict=True):
                leaves[i] = leaf
        return [leaf for leaf in leaves if leaf is not None]


class _Rest:
    """In a collection: the members in the middle that are not looked at, since they will be cut."""

    __slots__ = ("count", "fragment")

    def __init__(self, count: int) -> None:
        self.count = count
        self.fragment = orjson.Fragment(_dumps(_MORE.format(count)))


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
        limit = redactor.max_payload_chars if json_depth == 0 else sys.maxsize - _MARGIN
        self._values_left = _FEW_VALUES if json_depth == 0 else sys.maxsize
        self._chars_left = limit
        self._longest = limit + _MARGIN
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
            _rename(tree, names)
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
            leaf if len(text) <= longest else _cut_leaf(leaf, len(text) - longest, self._rules)
            for text, leaf in zip(texts, redactor.leaves(shown, self._json_depth), strict=True)
        ]
        redactor.cache.put_all(
            (text, leaf, len(text)) for text, leaf in zip(texts, leaves, strict=True) if len(text) <= longest
        )
        places = zip(self._numbers, self._containers, self._slots, self._originals, strict=True)
        for number, container, slot, original in places:
            leaf = leaves[number]
            if leaf is _CLEAN:
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
            if leaf is _CLEAN:
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
        plain = value if value in _ORJSON_INTS else orjson.Fragment(_digits(value))
        if size >= _MIN_SUSPICIOUS_INT and (
            self._rules.finds_any_number or (size < _MAX_CARD and detectors.passes_luhn(str(size)))
        ):
            return self._string(_digits(value), container, slot, plain)
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
                key = _key_text(key, owner)  # noqa: PLW2901 - the name under which it is written
            name = names.get(key) or self._rules.name(key)
            if name is not _PLAIN_NAME:
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
                if known(item) is _CLEAN:
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
            left -= min(len(value), _MIN_STRING) + 3 if type(value) is str else 2
            if first <= last:
                first += 1
            else:
                last += 1
        self._chars_left = left
        rest = count - first - last
        return [*members[:first], _Rest(rest), *members[count - last :]] if rest else members

    def _kept_fields(self, fields: Mapping[Any, Any]) -> Mapping[Any, Any]:
        names = list(fields)
        members = [fields[name] for name in names]
        kept = self._kept(members)
        if kept is members:
            return fields
        gap = next(i for i, one in enumerate(kept) if type(one) is _Rest)
        names = [*names[:gap], "…", *names[len(names) - (len(kept) - gap - 1) :]]
        return dict(zip(names, kept, strict=True))

    def _field(
        self, entity: str, name: str, item: Any, owner: Mapping[Any, Any], tree: dict[str, Any], depth: int
    ) -> Any:
        """Give what stands for the value of a field whose name says what it holds."""
        slot = name
        if entity == _SIBLING:
            # As in a form or an environment: the name is the value of `name`, and the value that of `value`.
            name = next((one for one in map(owner.get, ("name", "key", "field")) if isinstance(one, str)), "")
            entity = self._rules.name(name).entity or _SIBLING
        if entity == FIELD and item is not None:
            shown = item if isinstance(item, str) else type(item).__name__
            if self._rules.is_token(shown):
                return shown
            self._count(_ONE_FIELD)
            return self._rules.token(FIELD, shown)
        kind = type(item)
        if kind is list or kind is tuple:
            parts: list[Any] = [None] * len(item)
            for i, part in enumerate(item):
                token = self._field_token(entity, name, part)
                parts[i] = token if token is not _NOT_A_VALUE else self._visit(part, parts, i, depth + 2)
            return parts
        token = self._field_token(entity, name, item)
        return token if token is not _NOT_A_VALUE else self._visit(item, tree, slot, depth + 1)

    def _field_token(self, entity: str, name: str, item: Any) -> Any:
        if item is None or isinstance(item, _NO_TEXT) or dataclasses.is_dataclass(item):
            return _NOT_A_VALUE
        text = item if type(item) is str else str.__str__(item) if isinstance(item, str) else self._as_text(item)
        if self._rules.is_token(text) or not detectors.is_field_value(entity, name, text):
            return _NOT_A_VALUE
        self._count({entity: 1})
        return self._rules.token(entity, text)

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
        for index, item in enumerate(value):
            tree[index] = self._visit(item, tree, index, depth + 1)
        path.discard(here)
        return tree

    def _other(self, value: Any, container: Any, slot: Any, depth: int) -> Any:  # noqa: C901, PLR0911 - the order counts
        """Turn what has no JSON form of its own into what has, as MLflow's encoder does."""
        kind: type = type(value)
        if kind is _Rest:
            return value
        if _is_model(kind):
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
        return _as_text(value)

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
        key = _model_key(model)
        if key is None:
            if convert is not None:
                return self._visit(convert(model), container, slot, depth)
            return self._mapping_of(value, _model_fields(model), depth)
        piece = self._known((convert, key))
        if piece is None:
            # A walk of its own: its counts are remembered with it, and its strings are few.
            walk = _Walk(self._redactor, self._json_depth)
            tree = walk.run(_plain_fields(model) if convert is None else convert(model))
            text = _dumps(tree)
            piece = _Piece(tree, text, walk.counts)
            self._redactor.cache.put((convert, key), piece, len(text))
        self._count(piece.counts)
        self.piece_chars += piece.chars
        return piece


_ONE_FIELD = {FIELD: 1}
_NOT_A_VALUE = object()
# What is written as a value of its own, not as a text.
_NO_TEXT = (bool, float, Mapping, list, tuple, pydantic.BaseModel)


def _stopped(depth: int) -> str:
    return f"[nested deeper than {_MAX_DEPTH}]" if depth >= _MAX_DEPTH else "[cycle]"


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more than sys.get_int_max_str_digits()
        return '"[integer too long]"'


def _rename(tree: dict[str, Any], names: Mapping[str, str]) -> None:
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


def _key_text(key: Any, owner: Mapping[Any, Any]) -> str:
    """Write a dict's key that is no plain string as `json` would, or as its `str`; not as another key of it."""
    if isinstance(key, str):
        return str.__str__(key)
    text = (
        {None: "null", True: "true", False: "false"}[key]
        if key is None or key is True or key is False
        else _as_text(key)
    )
    return f"{text} ({type(key).__name__})" if text in owner else text


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a class may raise anything here, and its name is still worth having
        return f"<{type(value).__name__}>"


# Dates and dataclasses as MLflow writes them, not as orjson would; subclasses of dict and str are walked.
_PLAIN_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_KEY_OPTIONS = _PLAIN_OPTIONS & ~orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


def _dumps(tree: Any) -> bytes:
    return orjson.dumps(tree, default=_fragment_of)


def _copied(text: bytes) -> bytes:
    """Copy what is to be remembered: orjson's own bytes keep its whole buffer alive, 16 KB for a text of 2 KB."""
    return bytes(memoryview(text))


def _fragment_of(piece: _Piece | _Rest) -> orjson.Fragment:
    return piece.fragment


def _plain(value: Any) -> Any:
    """Turn what orjson does not know into what it does, where nothing is redacted."""
    kind: type = type(value)
    if _is_model(kind):
        return _model_fields(value)
    if kind is Converted:
        return value.convert(value.model)
    if isinstance(value, int):
        return orjson.Fragment(_digits(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return _as_text(value)


def _model_fields(model: pydantic.BaseModel) -> Any:
    try:
        return model.model_dump(warnings=False)
    except Exception:  # noqa: BLE001 - a serialiser may raise anything; the fields are still there
        return dict(model.__dict__)


@functools.lru_cache(maxsize=1024)
def _is_model(kind: type) -> bool:
    """Say whether a class is pydantic's, whose metaclass takes a microsecond for each `isinstance`."""
    return issubclass(kind, pydantic.BaseModel)


@functools.lru_cache(maxsize=1024)
def _is_plain(kind: type[pydantic.BaseModel]) -> bool:
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


def _plain_fields(model: pydantic.BaseModel) -> dict[str, Any]:
    extra = model.__pydantic_extra__
    return {**model.__dict__, **extra} if extra else model.__dict__


def _model_key(model: pydantic.BaseModel) -> Any:
    """Give a key that differs whenever the model's JSON differs; None if there is no cheap one.

    All that the JSON is made of is in the key, by value: LangGraph gives a message its id only after it was first
    seen, so the object's identity would serve stale text. Long strings are in it as themselves, and Python computes
    the hash of a string object once.
    """
    kind = type(model)
    if not _is_plain(kind) or model.__pydantic_private__ or len(model.__dict__) != len(kind.__pydantic_fields__):
        return None
    key: list[Any] = [kind]
    rest: list[Any] = []
    for name, item in _plain_fields(model).items():
        its_kind = type(item)
        if its_kind is str or item is None:
            key += (name, item)
        elif (its_kind is dict or its_kind is list) and not item:
            # Most fields of most messages; the class says which of the two it is.
            key += (name, its_kind)
        else:
            rest += (name, item)
    if rest:
        try:
            key.append(_copied(orjson.dumps(rest, option=_KEY_OPTIONS)))
        except TypeError:
            return None
    return tuple(key)


_JSON_ENDS = frozenset("]} \n\r\t")
_JSON_START = re.compile(r"[ \t\r\n]*[\[{]")


class _NotPlainJsonError(ValueError):
    """A text that must be scanned as text, though it may be JSON."""


def _parsed(text: str) -> Any:
    """Read a string that is a JSON object or array, such as a tool call's arguments; else None."""
    if text[-1:] not in _JSON_ENDS or not _JSON_START.match(text):
        return None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # The first of two equal names would escape the walk.
        raise _NotPlainJsonError
    return made


def _cut(tree: Any, max_chars: int, written: int | None) -> str:
    """Write a tree in at most so many characters, keeping as much of its shape as there is room for.

    Args:
        tree: With strings in it that are too long for this.
        max_chars: Of the text.
        written: Characters of the whole tree when it is written, if that is known.
    """
    strings = _Strings()
    strings.measure(tree)
    lengths = strings.lengths
    total = sum(lengths)
    in_full = strings.written if written is None else written - strings.others
    # What is cut off takes its escapes with it.
    room = int((max_chars - strings.others) * min(1.0, total / max(in_full, 1)))
    for share in (0.95, 0.6, 0.3):
        limit = _limit(lengths, int(room * share))
        if limit < _MIN_STRING:
            break
        if limit >= strings.longest:
            continue
        if strings.has_pieces:
            # To one of few lengths, so that the messages of a growing state need not be cut anew for each payload.
            limit = min(limit, 1 << (limit.bit_length() - 1) | (limit & 1 << max(limit.bit_length() - 2, 0)))
        text = _dumps(_shortened(tree, _Room(limit, sys.maxsize))).decode()
        if len(text) <= max_chars:
            return text
    for share in (0.9, 0.5, 0.25, 0.1):
        text = _dumps(_shortened(tree, _Room(_MIN_STRING, int(max_chars * share)))).decode()
        if len(text) <= max_chars:
            return text
    return _dumps(_CUT.format(total)).decode()


_CUT = "[cut: {} more characters]"
_MORE = "[cut: {} more]"
_MIN_STRING = 200


@dataclasses.dataclass(slots=True)
class _Room:
    """What may still be written: characters of one string, and of all."""

    string: int
    left: int


def _limit(lengths: list[int], room: int) -> int:
    """Give the length to which the longest strings must be cut for all to have room."""
    remaining = sorted(lengths)
    count = len(remaining)
    for length in remaining:
        share = room // count if count else 0
        if length > share - len(_CUT):
            return share - len(_CUT)
        room -= length
        count -= 1
    return 10**12


def _shortened(tree: Any, room: _Room) -> Any:
    if type(tree) is str:
        keep = max(0, min(room.string, room.left))
        room.left -= min(len(tree), keep) + 4
        # What takes the place of the rest should not be longer than that.
        return tree if len(tree) <= keep + len(_CUT) else f"{tree[:keep]}… {_CUT.format(len(tree) - keep)}"
    if type(tree) is dict:
        return _shortened_fields(tree, room)
    if type(tree) is list:
        return _shortened_members(tree, room)
    if type(tree) is _Piece:
        piece = tree.cut_to(room.string)
        if piece.chars < room.left:
            room.left -= piece.chars
            return piece
        return _shortened(tree.tree, room)
    room.left -= 8
    return tree


def _shortened_fields(tree: dict[str, Any], room: _Room) -> dict[str, Any]:
    """Keep small fields beside large ones, and of these as much of each."""
    short: dict[str, Any] = {}
    large = []
    for name, item in tree.items():
        if type(item) in _LARGE or (type(item) is str and len(item) > _MIN_STRING):
            large.append(name)
        elif type(item) is not _Rest:
            room.left -= len(name) + 4
            if room.left <= 0:
                break
            short[name] = _shortened(item, room)
    for done, name in enumerate(large):
        room.left -= len(name) + 4
        if room.left <= 0:
            break
        share = _Room(room.string, room.left // (len(large) - done))
        room.left -= share.left
        short[name] = _shortened(tree[name], share)
        room.left += share.left
    if len(short) == len(tree):
        return {name: short[name] for name in tree}
    kept = {name: short[name] for name in tree if name in short}
    kept["…"] = _MORE.format(_count_of(item for name, item in tree.items() if name not in short))
    return kept


def _shortened_members(tree: list[Any], room: _Room) -> list[Any]:
    """Keep members from both ends in turn: what a conversation began with, and what was said last."""
    first: list[Any] = []
    last: list[Any] = []
    while len(first) + len(last) < len(tree):
        room.left -= 2
        if room.left <= 0:
            first.append(_MORE.format(_count_of(tree[len(first) : len(tree) - len(last)])))
            break
        if len(first) <= len(last):
            first.append(_shortened(tree[len(first)], room))
        else:
            last.append(_shortened(tree[-1 - len(last)], room))
    return first + last[::-1]


def _count_of(left_out: Iterable[Any]) -> int:
    return sum(item.count if type(item) is _Rest else 1 for item in left_out)


_LARGE = (dict, list, _Piece)
