"""What can be found in a text, and how: a text in, positions out.

Each entity looks for cheap anchors (an `@`, a run of digits, a provider's prefix) in one linear pass, and takes a
second, exact look (check digits, lengths by country, words before it) at the few places where one is.
"""

# ruff: noqa: E501, PLR0911 - a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING, NamedTuple

from langchain_mlflow_cost.redaction.detectors.accounts import find_ibans, find_wallets
from langchain_mlflow_cost.redaction.detectors.addresses import find_ip_addresses, find_mac_addresses
from langchain_mlflow_cost.redaction.detectors.credentials import find_secrets
from langchain_mlflow_cost.redaction.detectors.disguises import (
    LENGTHS_OF_BASE64,
    LENGTHS_OF_IDS,
    decoded,
    from_base64,
    is_id,
    original,
    windows,
)
from langchain_mlflow_cost.redaction.detectors.emails import find_emails
from langchain_mlflow_cost.redaction.detectors.look_alikes import FOLD_TABLE, INVISIBLE, OtherLetters
from langchain_mlflow_cost.redaction.detectors.national import NATIONAL, finder
from langchain_mlflow_cost.redaction.detectors.numbers import (
    NINE_DIGITS,
    SSN_NAME,
    find_cards,
    find_social_security,
    is_card_number,
    passes_luhn,
)
from langchain_mlflow_cost.redaction.detectors.phones import PHONE_NAME, PHONE_VALUE, find_phones
from langchain_mlflow_cost.redaction.detectors.pictures import may_be_in_picture, outside, pictures
from langchain_mlflow_cost.redaction.detectors.secret_names import (
    KEY,
    OTHER_PASSWORDS,
    PASSWORD,
    PLACEHOLDER,
    is_label,
    is_secret_value,
    name_kind,
    plain_name,
)
from langchain_mlflow_cost.redaction.detectors.urls import may_name_user
from langchain_mlflow_cost.redaction.detectors.view import (
    NAME_ANCHORS,
    NUMBER_RUN,
    SHORT,
    SIGNS,
    STARTS,
    Found,
    Span,
    View,
)
from langchain_mlflow_cost.redaction.re2_search import any_of, first_of, first_span, first_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "ENTITIES",
    "LENGTHS_OF_BASE64",
    "LENGTHS_OF_IDS",
    "NATIONAL_ENTITIES",
    "NO_ADDRESS",
    "PII_ENTITIES",
    "SECRET",
    "Entity",
    "Found",
    "Scanner",
    "Span",
    "field_entity",
    "from_base64",
    "is_field_value",
    "is_four_part_version",
    "is_id",
    "is_pair_value",
    "passes_luhn",
    "without_overlaps",
]


class Entity(NamedTuple):
    """A kind of text to find. To add one: a row in `ENTITIES`."""

    what: str
    """In words, for `mlflow-cost explain`."""
    find: Callable[[View, list[Span]], None]
    """Adds what it finds; sees what the rows above have found."""
    examples: tuple[str, ...]
    """Each is found as a whole."""
    misses: tuple[str, ...]
    """Near misses: nothing of this kind is found in them."""


SECRET = "SECRET"  # noqa: S105 - an entity's name

# In order of precedence: where two overlap and are equally long, the first one names the stretch.
ENTITIES: dict[str, Entity] = {
    SECRET: Entity(
        "keys and tokens of about 130 shapes, JSON web tokens, private keys (also cut off), passwords in URLs and "
        "connection strings, Authorization headers, values whose name says that they are secret",
        find_secrets,
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPLQ"),
        ("total_tokens: 1234567890", "password = getpass.getpass()", "sk-learn-is-a-fine-library"),
    ),
    "CREDIT_CARD": Entity(
        "12 to 19 digits with an issuer's first digits and a right check digit (Luhn)",
        find_cards,
        ("4111 1111 1111 1111", "378282246310005", "5555-5555-5555-4444"),
        ("4111 1111 1111 1112", "1748503543012", "0.4111111111111111"),
    ),
    "IBAN_CODE": Entity(
        "an account number of the right length for its country, with a right checksum (mod 97)",
        find_ibans,
        ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"),
        ("DE89 3704 0044 0532 0130 01",),
    ),
    "EMAIL_ADDRESS": Entity(
        "an address whose top-level domain exists (IANA's list)",
        find_emails,
        ("bob@example.com", "jürgen.müller@bücher.example.org"),
        ("q@k.transpose(1)", "x@W.view", "@channel", "git@github.com:owner/name"),
    ),
    "IP_ADDRESS": Entity(
        "IPv4 and IPv6, with zone and network prefix; not a version number",
        find_ip_addresses,
        ("192.168.1.1", "2001:db8::8a2e:370:7334", "::ffff:192.0.2.1", "10.0.0.0/8"),
        ("version 1.2.3.4", "12:34:56", "std::cout", "1.2.3.4.5"),
    ),
    "MAC_ADDRESS": Entity(
        "six pairs of hexadecimal digits, or Cisco's three groups",
        find_mac_addresses,
        ("00:1A:2B:3C:4D:5E", "aa-bb-cc-dd-ee-ff", "0012.3456.789a"),
        ("00:1A:2B:3C:4D", "20-11-12-13-14-15"),
    ),
    "CRYPTO": Entity(
        "addresses of Bitcoin, Litecoin, Dogecoin and Tron with a right checksum, and of Ethereum",
        find_wallets,
        ("16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        ("16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ2",),
    ),
    "US_SSN": Entity(
        "three, two and four digits that the administration issues; nine in a row only after words that say so",
        find_social_security,
        ("078-05-1123", "219 09 9998"),
        ("000-12-3456", "078051123", "123-45-67890"),
    ),
    "PHONE_NUMBER": Entity(
        "numbers with a calling code, national ones by their grouping and the words before them",
        find_phones,
        ("+1 415 555 0132", "(415) 555-0132", "01 42 68 53 00", "+44 (0)20 7946 0958"),
        ("2024-01-15 10:30", "order number 4155550132", "3.14159265358979"),
    ),
}

PII_ENTITIES = frozenset(ENTITIES) - {SECRET}

# Of states: found only where a policy lists them. Where two are equally long, the one that was listed names the stretch.
NATIONAL_ENTITIES: dict[str, Entity] = {
    name: Entity(row.what, finder(name), row.examples, ()) for name, row in NATIONAL.items()
}

# What all patterns look for but that for names: a short text rarely has any of it. In a long one all together are
# slower than each by itself: what has been seen so far of each makes one state.
_ANCHORS_BUT_NUMBERS = any_of(STARTS, SIGNS)
_ANCHORS = any_of(STARTS, SIGNS, NUMBER_RUN)
# And that for names: one look in place of two. Its states come to 13 MB where texts are prose, in all texts to 33.
_NAMES_AND_ANCHORS_BUT_NUMBERS = any_of(STARTS, SIGNS, told_apart=NAME_ANCHORS)
_NAMES_AND_ANCHORS = any_of(STARTS, SIGNS, NUMBER_RUN, told_apart=NAME_ANCHORS)
_OF_NUMBERS = frozenset({"CREDIT_CARD", "IP_ADDRESS", "US_SSN", "PHONE_NUMBER"})
"""Those that are looked for where digits stand in a row: where none of them is asked for, an order's number, as in most
messages to a support, is none of what all others begin with."""
_OTHER_LETTERS = OtherLetters(OTHER_PASSWORDS)

_RANK = {name: rank for rank, name in enumerate((*NATIONAL_ENTITIES, *ENTITIES))}


def without_overlaps(found: Iterable[Span]) -> list[Span]:
    """Join what overlaps into one stretch with the name of its longest part, in order."""
    joined: list[Span] = []
    last_end = longest = 0
    for span in sorted(found):
        start, end, entity = span
        if start >= last_end:
            joined.append(span)
            longest = end - start
            last_end = end
            continue
        first, _, name = joined[-1]
        if (end - start, -_RANK.get(entity, 99)) > (longest, -_RANK.get(name, 99)):
            name = entity
            longest = end - start
        last_end = max(last_end, end)
        joined[-1] = (first, last_end, name)
    return joined


class Scanner:
    """Finds the chosen entities in texts. Immutable."""

    def __init__(self, entities: Iterable[str], *, short: int = SHORT, tokens: re.Pattern[bytes] | None = None) -> None:
        """Choose rows of `ENTITIES`.

        Args:
            entities: Their names.
            short: A text of at most so many characters is looked at as a whole first.
            tokens: What an earlier redaction put in, which says nothing of what stands beside it.
        """
        self._tokens = tokens
        chosen = frozenset(entities)
        self._short = short
        self._has_national = not chosen.isdisjoint(NATIONAL_ENTITIES)
        self._has_at_signs: Callable[[bytes], bool] = _has_at_sign if "EMAIL_ADDRESS" in chosen else may_name_user
        has_numbers = not chosen.isdisjoint(_OF_NUMBERS)
        self._anchors = _ANCHORS if has_numbers else _ANCHORS_BUT_NUMBERS
        self._names_and_anchors = _NAMES_AND_ANCHORS if has_numbers else _NAMES_AND_ANCHORS_BUT_NUMBERS
        self._finders = [
            entity.find for name, entity in (*ENTITIES.items(), *NATIONAL_ENTITIES.items()) if name in chosen
        ]

    def find(self, text: str, reasons: dict[tuple[int, int], str] | None = None) -> list[Span]:
        """Find everything, in order and without overlaps; note in `reasons` which rule found each stretch."""
        if text.isascii():
            return self._find(text, reasons, foreign=False)
        folded, hidden, foreign = _OTHER_LETTERS.folded(text)
        if not hidden:
            return self._find(folded, reasons, foreign=foreign)
        hidden.sort()
        shown = INVISIBLE.sub("", folded)
        # Where the text without them is as far along as each of them.
        steps = [position - i for i, position in enumerate(hidden)]
        return [
            (start + bisect.bisect_right(steps, start), end + bisect.bisect_right(steps, end - 1), entity)
            for start, end, entity in self._find(shown)
        ]

    def _find_disguised(self, view: View) -> list[Span]:
        """Find what is there in the text as it is meant, around the places where something is written otherwise."""
        text = view.text
        added: list[Span] = []
        for low, high in windows(view.marks, len(text)):
            meant = decoded(text[low:high])
            if meant is None:
                continue
            shown, places, longer = meant
            for start, end, entity in self._find(shown, marked=False):
                # What a window cuts off is not judged.
                if (start or not low) and (end < len(shown) or high == len(text)):
                    first, last = original(start, end, places, longer)
                    added.append((low + first, low + last, entity))
                    view.because(low + first, low + last, f"{entity}, written otherwise")
        return added

    def _first_places(self, data: bytes) -> tuple[int, tuple[int, int] | None, int]:
        """Give where the first anchor may be, the first name if that is known, and where the next may be; -1 if nowhere.

        In as few looks as can be: each lets go of the interpreter's lock, for which other threads may wait.
        """
        if not _is_prose(data):
            first_anchor = first_start(self._anchors, data, 0)
            if first_anchor >= 0:
                return first_anchor, None, 0
            name = first_span(NAME_ANCHORS, data)
            return -1, name, name[1] if name else -1
        start, end, is_name = first_of(self._names_and_anchors, data, 0)
        if not is_name:
            return start, None, start
        # Where both begin at one place, it is not the name that is found.
        first_anchor, _, _ = first_of(self._names_and_anchors, data, start + 1)
        return first_anchor, (start, end), end if first_anchor >= 0 else -1

    def _find(
        self, text: str, reasons: dict[tuple[int, int], str] | None = None, *, marked: bool = True, foreign: bool = True
    ) -> list[Span]:
        first_anchor, first_name, names_from = 0, None, 0
        if len(text) <= self._short:
            data = text.encode("ascii", "replace")
            first_anchor, first_name, names_from = self._first_places(data)
            has_any = first_anchor >= 0 or first_name is not None or foreign or self._has_national
            if not (has_any or self._has_at_signs(data)):
                return []  # most texts
        view = View(text, self._short)
        view.first_anchor = first_anchor
        view.first_name = first_name
        view.names_from = names_from
        view.has_foreign = foreign
        view.tokens = self._tokens
        view.reasons = reasons
        found: list[Span] = []
        for find in self._finders:
            find(view, found)
        if marked and view.marks:
            found += self._find_disguised(view)
        if found and may_be_in_picture(found, view.ascii, view.bytes) and (kept := pictures(view.ascii, view.bytes)):
            found = outside(found, kept)
        return without_overlaps(found) if found else []


_BEGINNING = 256


def _is_prose(data: bytes) -> bool:
    """Say whether a text looks written in words where it begins: what is found in it does not depend on that."""
    piece = data[:_BEGINNING]
    length = len(piece)
    has_blanks = piece.count(b" ") * _LONGEST_WORDS > length
    return has_blanks and (length - len(piece.translate(None, _MARKS_OF_CODE))) * _FEW < length


# Of 43,000 pieces of code, data and documentation, one in ten passes.
_LONGEST_WORDS, _FEW = 9, 40
_MARKS_OF_CODE = b'"_=(<>{}[]/\\|;'


def _has_at_sign(data: bytes) -> bool:
    return b"@" in data


# A name that holds more, such as a `=`, is a text that was made a key.
_NAME = re.compile(r"[\w .:/@$-]{1,80}")


NO_ADDRESS = "NO_ADDRESS"
"""Of a field whose name says that its value is a version: four numbers in it are no machine's address."""

_CARD_NAME = re.compile(
    r"(?:^|_)(?:(?:credit_?|debit_?|payment_?|bank_?)?card_?(?:number|num|nr|no)|cc_?(?:number|num|no|n)|pan|primary_account_number|credit_?card)$"
)
_VERSION_NAME = re.compile(r"(?:^|_|[a-z])(?:version|versions|ver|firmware|release|revision|build|build_?number)$")
_FOUR_NUMBERS = re.compile(r"v?[0-9]{1,5}(?:\.[0-9]{1,6}){3}", re.ASCII)


def field_entity(name: str, entities: frozenset[str]) -> str | None:
    """Say which of the entities the name of a field announces; `NO_ADDRESS` where it says that it is a version."""
    if not _NAME.fullmatch(name):
        return None
    if SECRET in entities and name_kind(name):
        return SECRET
    plain = plain_name(name)
    if "US_SSN" in entities and SSN_NAME.search(plain):
        return "US_SSN"
    if "PHONE_NUMBER" in entities and PHONE_NAME.search(plain):
        return "PHONE_NUMBER"
    if "CREDIT_CARD" in entities and _CARD_NAME.search(plain):
        return "CREDIT_CARD"
    if "IP_ADDRESS" in entities and _VERSION_NAME.search(plain):
        return NO_ADDRESS
    return None


def is_four_part_version(value: str) -> bool:
    """Say whether a value is four numbers and nothing else."""
    return _FOUR_NUMBERS.fullmatch(value) is not None


def is_pair_value(name: str, value: str) -> bool:
    """Say whether the second of two strings in a list is the value that the first one names: a header's, an environment's."""
    kind = name_kind(name)
    if kind is None or kind.strength <= 1 or not any(map(str.isdigit, value)):
        return False
    return is_field_value(SECRET, name, value) and (kind is not PASSWORD or is_secret_value(kind, value, quoted=True))


# A catalogue's text, a rule of a form.
_LABEL = re.compile(
    r"(?:[\w:]+\|)+[\w:,]+|(?:required|optional|string|nullable|sometimes|min|max):?[\w:]*", re.ASCII | re.IGNORECASE
)


def is_field_value(entity: str, name: str, value: str) -> bool:
    """Say whether the value of such a field is what its name says."""
    if entity == "US_SSN":
        return NINE_DIGITS.fullmatch(value.translate(FOLD_TABLE)) is not None
    if entity == "PHONE_NUMBER":
        return PHONE_VALUE.fullmatch(value.translate(FOLD_TABLE)) is not None
    if entity == "CREDIT_CARD":
        digits = value.translate(FOLD_TABLE).translate(_NO_SEPARATORS)
        return is_card_number(digits)
    kind = name_kind(name)
    written = _BYTES.fullmatch(value)
    value = written[2] if written else value
    if kind is None or not value.strip() or PLACEHOLDER.fullmatch(value):
        return False
    if kind is PASSWORD:
        if plain_name(name).endswith(("code", "codes")):
            return any(map(str.isdigit, value)) and len(value) <= _LONGEST_CODE
        return not (_LABEL.fullmatch(value) or is_label(value))
    if kind is KEY and " " in value.strip():
        # A header (`Bearer abc`, `a=b; c=d`), not a description.
        return "=" in value or (any(map(str.isdigit, value)) and value.count(" ") == 1)
    return is_secret_value(kind, value, quoted=True)


# Bytes, as they are written in what was redacted once.
_BYTES = re.compile(r"b(['\"])(.*)\1", re.DOTALL)
_NO_SEPARATORS = str.maketrans("", "", " -./_")
_LONGEST_CODE = 200
