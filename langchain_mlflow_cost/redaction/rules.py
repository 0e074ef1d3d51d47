"""What to find and what to put in its place: made once for each policy."""

from __future__ import annotations

import collections
import fnmatch
import functools
import hashlib
import operator
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import re2

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.notices import nearest
from langchain_mlflow_cost.redaction import detectors
from langchain_mlflow_cost.redaction.detectors import ENTITIES, NATIONAL_ENTITIES, SECRET, Found, Span
from langchain_mlflow_cost.redaction.re2_search import text_pattern

Counts = Mapping[str, int]
"""How many stretches of each entity were taken out."""

FIELD = "FIELD"
"""What a value is called that went because of its field's name, by the policy's `keys`."""

# Of a field that is called "value", another field may say what it is.
SIBLING = "value"

STRATEGIES = ("redact", "mask", "hash", "drop")

# Redacting can bring a neighbour into reach of a rule (`1.2.3.4` once it is no longer glued to an address).
_MAX_ROUNDS = 4
# Farther from a token than this, no built-in rule can find what it did not find before: the words before a number
# are looked for in 48 characters, and of the longest keys 300 are plenty to be recognised.
_REACH = 600
# With a token in fewer characters than this, twice over, looking only near tokens saves nothing.
_DENSE = 32
_ENTITY_OF = operator.itemgetter(2)

_PROCESS_KEY = secrets.token_bytes(32)
_PRESIDIO_ONLY = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME", "URL", "US_PASSPORT", "US_ITIN"})
_DIGITS_ONLY = frozenset({"PHONE_NUMBER", "CREDIT_CARD", "US_SSN", "IBAN_CODE", "MAC_ADDRESS"})
# A masked number shows four digits, so that of fewer than nine more than half would be seen.
_HIDES_HALF = 9
_KEEPS_LAST_FOUR = frozenset({"PHONE_NUMBER", "CREDIT_CARD"})
_LONGEST_TOKEN = 64 + 20
# No entity is so few letters and nothing else.
_LONGEST_WORD = 12
# Names of fields that are remembered, so that ids which are used as names do not pile up.
_LONGEST_NAME, _MOST_NAMES = 64, 10_000
_SURROGATES = re.compile("[\ud800-\udfff]")


_BUILTIN = {**ENTITIES, **NATIONAL_ENTITIES}


def _digest_of_key(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Leaf(NamedTuple):
    """What became of a string: `text` is None where the strategy `drop` removed it."""

    text: str | None
    counts: Counts


CLEAN = Leaf("", {})


class Name(NamedTuple):
    """What the name of a field means."""

    text: str | None
    """The name as it may be shown, where that is not the name itself."""
    counts: Counts
    entity: str | None
    """What its value is."""


PLAIN_NAME = Name(None, {}, None)


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
        allow_keys: tuple[str, ...] | None = None,
    ) -> None:
        """Keep what `compile_rules` has checked."""
        self.entities = entities
        self._strategies = strategies
        self._hash_key = hash_key
        self._key_globs = keys
        self._key_pattern = _any_of(keys) if keys else None
        self._allow_globs = allow_keys
        self._allow_pattern = None if allow_keys is None else _any_of(allow_keys)
        self._patterns = patterns
        self._more = more
        # Most tokens say nothing of the value that they stand for.
        self._constant_tokens = {
            name: f"[{name}]" for name in (*entities, *patterns) if self.strategy(name) == "redact"
        }
        self._tokens = _token_pattern((*sorted(entities), *patterns, FIELD), presidio=more is not None)
        plain = re.compile(self._tokens.pattern.encode())
        self._scanner = detectors.Scanner(entities, tokens=plain) if entities else None
        self.names: dict[str, Name] = {}
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
                "rule": _BUILTIN[name].what if name in _BUILTIN else "found by Presidio",
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
        if self._allow_globs is not None:
            names = ", ".join(self._allow_globs) or "nothing"
            rows.append(
                {"entity": FIELD, "strategy": self.strategy(FIELD), "rule": f"all that is in no field named {names}"}
            )
        return rows

    def find(self, text: str) -> list[Found]:
        """Find everything in a text, in order and without overlaps; offsets count characters."""
        return [Found(*one) for one in self.find_all([text])[0]]

    def explain(self, text: str) -> list[tuple[Found, str]]:
        """Find as `find` does, and say of each stretch which rule found it; never what stands in it."""
        reasons: dict[tuple[int, int], str] = {}
        if self._scanner:
            self._scanner.find(text, reasons)
        told = []
        for one in self.find(text):
            inside = [rule for (start, end), rule in reasons.items() if start < one.end and one.start < end]
            known = reasons.get((one.start, one.end))
            if known is None and one.entity in self._patterns:
                known = f"pattern {self._patterns[one.entity].pattern}"
            if known is None:
                known = ", ".join(dict.fromkeys(inside)) or ("Presidio" if one.entity not in _BUILTIN else one.entity)
            told.append((one, known))
        return told

    def find_all(self, texts: Sequence[str]) -> list[list[Span]]:
        """Find everything in each of many texts, which costs less than one by one; as plain tuples."""
        # Of a graph's strings, most that are new are ids, and words such as a role's name.
        lengths, is_id = detectors.LENGTHS_OF_IDS, detectors.is_id
        scanned = [
            ""
            if (len(text) in lengths and is_id(text))
            or (len(text) <= _LONGEST_WORD and text.isalpha() and text.isascii())
            else text
            for text in texts
        ]
        found = _found_in_each(self._scanner, scanned) if self._scanner else [[] for _ in texts]
        if self._patterns or self._more:
            for text, here in zip(texts, found, strict=True):
                self._find_custom(without_surrogates(text), here)
        if self._scanner:
            for text, here in zip(scanned, found, strict=True):
                if " " in text or here or len(text) not in detectors.LENGTHS_OF_BASE64:
                    continue
                if (meant := detectors.from_base64(text)) is not None:
                    here.extend(_of_the_whole(len(text), len(meant), self._scanner.find(meant)))
        # Most payloads have no token in them: look for one only where there is something to protect it from.
        if any(found):
            return [self._spare_tokens(text, here) if here else here for text, here in zip(texts, found, strict=True)]
        return found

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

    def redact_all(self, texts: list[str]) -> list[Leaf]:
        """Redact each of many texts, until nothing more is found in them."""
        current = [text if text.isascii() else without_surrogates(text) for text in texts]
        found = self.find_all(current)
        if any(found):
            leaves = self._redact_found(current, found)
        elif current == texts:
            return [CLEAN] * len(texts)  # most of them
        else:
            leaves = [CLEAN] * len(texts)
        return [
            Leaf(shown, {}) if leaf is CLEAN and shown != text else leaf
            for text, shown, leaf in zip(texts, current, leaves, strict=True)
        ]

    def _redact_found(self, current: list[str], found: list[list[Span]]) -> list[Leaf]:
        """Replace what was found in each of many texts, and what is found then."""
        leaves = [CLEAN] * len(current)
        todo = list(range(len(current)))
        for rounds in range(_MAX_ROUNDS):
            if rounds:
                found = self.find_all([current[i] for i in todo])
            again = []
            for i, here in zip(todo, found, strict=True):
                if not here:
                    continue
                counts = collections.Counter(leaves[i].counts)
                counts.update(map(_ENTITY_OF, here))
                pieces = self._replace(current[i], here)
                replaced = "".join(pieces) if pieces is not None else None
                leaves[i] = Leaf(replaced, counts)
                if pieces is not None and replaced is not None:
                    current[i] = replaced
                    if self._may_find_more(replaced, pieces):
                        again.append(i)
            todo = again
            if not todo:
                break
        for i in todo:
            # Still something after all rounds (a pattern that finds its own token's parts): nothing may stay.
            leaves[i] = Leaf(f"[{FIELD}]", leaves[i].counts)
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

    def keyed(self, value: str, name: str) -> tuple[str, Counts]:
        """Give an id with a keyed token, whatever the strategy, for all that is found in it.

        Two users whose e-mail addresses are redacted must not become one.

        Args:
            value: The id.
            name: Of the field that it stands in.
        """
        if self.hides(name) or not self.allows(name):
            return (value, {}) if self.is_token(value) else (self.keyed_token(FIELD, value), {FIELD: 1})
        counts: collections.Counter[str] = collections.Counter()
        text = without_surrogates(value)
        for _ in range(_MAX_ROUNDS):
            found = self.find_all([text])[0]
            if not found:
                return text, counts
            counts.update(map(_ENTITY_OF, found))
            for start, end, entity in reversed(found):
                text = text[:start] + self.keyed_token(entity, text[start:end]) + text[end:]
        return self.keyed_token(FIELD, value), counts

    def keyed_token(self, entity: str, value: str) -> str:
        """Give the token of a whole value, with its digest."""
        return f"[{entity}:{self._digest(entity, value)}]"

    @property
    def has_own_key(self) -> bool:
        """Say whether the tokens are the same in every process that has the policy's `hash_key`."""
        return self._hash_key != _digest_of_key(_PROCESS_KEY)

    @property
    def has_keys(self) -> bool:
        """Say whether any field's value always goes."""
        return self._key_pattern is not None

    @property
    def allows_some(self) -> bool:
        """Say whether only the values of listed fields are kept, by the policy's `allow_keys`."""
        return self._allow_pattern is not None

    def allows(self, name: str) -> bool:
        """Say whether the values in a field of this name may be kept."""
        return self._allow_pattern is None or self._allow_pattern.match(name.casefold()) is not None

    def hides(self, name: str) -> bool:
        """Say whether the value of a field of this name always goes, by the policy's `keys`."""
        return self._key_pattern is not None and self._key_pattern.match(name.casefold()) is not None

    def _digest(self, entity: str, value: str) -> str:
        """Give 64 bits as letters only: digits could pass for a card's, or for a part of the next number."""
        plain = unicodedata.normalize("NFKC", value).casefold()
        if entity in _DIGITS_ONLY:
            plain = "".join(filter(str.isalnum, plain))
        digest = hashlib.blake2b(f"{entity}\x1f{plain}".encode(errors="replace"), key=self._hash_key, digest_size=8)
        return digest.hexdigest().translate(_HEX_TO_LETTERS)

    def name(self, name: str) -> Name:
        """Say what the name of a field means, remembered in `names`: names repeat in every payload."""
        known = self.names.get(name)
        if known is not None:
            return known
        made = self._name(name) if not self.empty else PLAIN_NAME
        if len(name) <= _LONGEST_NAME and len(self.names) < _MOST_NAMES:
            self.names[name] = made
        return made

    def _name(self, name: str) -> Name:
        leaf = self.redact_all([name])[0]
        entity = detectors.field_entity(name, self.entities)
        if name.casefold() == "value" and (SECRET in self.entities or self._key_pattern):
            entity = SIBLING
        if self._key_pattern and self._key_pattern.match(name.casefold()):
            entity = FIELD
        if leaf is CLEAN:
            return Name(None, {}, entity) if entity else PLAIN_NAME
        # A dict's key cannot be null, so that `drop` leaves the entity's name.
        text = leaf.text if leaf.text is not None else f"[{next(iter(leaf.counts))}]"
        return Name(text, leaf.counts, entity)


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{fnmatch.translate(glob.casefold())})" for glob in globs) or r"(?!)")


def scan(text: str, rules: Rules) -> list[Found]:
    """Find what would be redacted in a text, for tuning a policy."""
    return rules.find(text)


def without_personal_data(text: str) -> str:
    """Take all that the built-in rules find out of a text of our own that names somebody's model or session."""
    found = compile_rules(entities=frozenset(ENTITIES)).redact_all([text])[0]
    return text if found is CLEAN else found.text or ""


def compile_rules(
    *,
    entities: Iterable[str],
    strategies: Mapping[str, str] | str = "redact",
    hash_key: bytes | None = None,
    keys: Sequence[str] = (),
    allow_keys: Sequence[str] | None = None,
    patterns: Mapping[str, str] | None = None,
    engine: str = "builtin",
) -> Rules:
    """Check a policy's rules and make them ready; equal arguments give the same object.

    Args:
        entities: Names out of `ENTITIES` and `NATIONAL_ENTITIES`; with the presidio engine, also those that it
            supports. May be empty.
        strategies: One for all, or by entity, pattern name or `FIELD`; what is left out is `redact`.
        hash_key: For the strategy `hash`: the same key gives the same tokens. None: random, for this process.
        keys: Names of fields whose value always goes; globs, in any case.
        allow_keys: Names of fields of which alone the values are kept; globs, in any case. None: of all fields.
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
        None if allow_keys is None else tuple(allow_keys),
    )


@functools.lru_cache(maxsize=256)
def _compile(
    entities: frozenset[str],
    strategies: str | tuple[tuple[str, str], ...],
    hash_key: bytes,
    keys: tuple[str, ...],
    patterns: tuple[tuple[str, str], ...],
    engine: str,
    allow_keys: tuple[str, ...] | None,
) -> Rules:
    known: set[str] = set(_BUILTIN)
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
    if engine == "presidio" and entities - set(_BUILTIN):
        more = presidio.analyzer(frozenset(entities - set(_BUILTIN)))
    key = _digest_of_key(hash_key)
    return Rules(
        entities & set(_BUILTIN) if more is None else entities, by_entity, key, keys, compiled, more, allow_keys
    )


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
    try:
        compiled = text_pattern(pattern)
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


def _of_the_whole(size: int, meant_size: int, found: Sequence[Span]) -> list[Span]:
    """Give a value that is written as base64 as a whole, if it is private as a whole, or for the most part."""
    if any(entity == SECRET for _, _, entity in found):
        return [(0, size, SECRET)]
    if not found or 2 * sum(end - start for start, end, _ in found) < meant_size:
        return []
    return [(0, size, max(found, key=lambda one: one[1] - one[0])[2])]


def without_surrogates(text: str) -> str:
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
        return [scanner.find(texts[0]) if texts[0] else []]
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
