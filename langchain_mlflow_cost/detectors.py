"""What can be found in a text, and how: a text in, positions out.

Each entity looks for cheap anchors (an `@`, a run of digits, a provider's prefix) with RE2 in one linear pass, and
takes a second, exact look (check digits, lengths by country, `ipaddress`) at the few places where one is. Anchors
are searched in an ASCII view of the same length as the text, so that offsets need no arithmetic and `\\b` and `\\d`
mean the same to everybody; look-alikes (full-width digits, other hyphens) are put into ASCII before.

No rule crosses the character U+001F, so that many texts can be joined with it and scanned as one.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import re2

from langchain_mlflow_cost.phone_lengths import PHONE_LENGTHS
from langchain_mlflow_cost.secret_formats import FORMATS, Format
from langchain_mlflow_cost.tlds import TLDS


class Found(NamedTuple):
    """A stretch of text that belongs to an entity; offsets count characters."""

    start: int
    end: int
    entity: str


class View:
    """A text as the detectors look at it, with its anchors, each searched for once and only if somebody asks."""

    __slots__ = ("_at_signs", "_hex_groups", "_number_runs", "ascii", "bytes", "text")

    def __init__(self, text: str) -> None:
        """Take the ASCII view, of the same length, of a text in which look-alikes are folded."""
        self.text = text
        if text.isascii():
            self.ascii = text
            self.bytes = text.encode()
        else:
            self.bytes = text.encode("ascii", "replace")
            self.ascii = self.bytes.decode("ascii")
        self._number_runs: list[tuple[int, int, int]] | None = None
        self._at_signs: list[int] | None = None
        self._hex_groups: list[int] | None = None

    @property
    def number_runs(self) -> list[tuple[int, int, int]]:
        """Give the stretches that are digits and what stands between digits: start, end, and how many digits.

        Those of fewer than seven digits are left out: no entity has fewer, but for IPv4, which has three dots.
        """
        if self._number_runs is None:
            self._number_runs = []
            data = self.bytes
            for start, end in _spans(_NUMBER_RUN, data):
                run = data[start:end]
                digits = len(run.translate(None, b" ().-/"))
                if digits >= 7 or run.count(b".") >= 3:  # noqa: PLR2004 - see above
                    self._number_runs.append((start, end, digits))
        return self._number_runs

    @property
    def at_signs(self) -> list[int]:
        """Give where an at sign is between what can stand beside one, also where it is written as in a URL (`%40`)."""
        if self._at_signs is None:
            self._at_signs = [start + 1 for start, _ in _spans(_AT_SIGNS, self.bytes)] if self._has_at_sign() else []
        return self._at_signs

    def _has_at_sign(self) -> bool:
        return b"@" in self.bytes or b"%40" in self.bytes

    @property
    def hex_groups(self) -> list[int]:
        """Give where hexadecimal digits stand between two colons, or something else that begins a MAC address."""
        if self._hex_groups is None:
            self._hex_groups = [start for start, _ in _spans(_HEX_GROUPS, self.bytes)]
        return self._hex_groups

    def before(self, start: int, length: int) -> str:
        """Give what stands before a place in the same text, in lower case."""
        piece = self.text[max(0, start - length) : start]
        cut = piece.rfind("\x1f")
        return (piece[cut + 1 :] if cut >= 0 else piece).lower()


_UNANCHORED = re2._Anchor.UNANCHORED  # noqa: SLF001 - see _spans


def _spans(pattern: Any, data: bytes) -> Iterator[tuple[int, int]]:
    """Give where an RE2 pattern is found, as `finditer` does.

    The match objects of google-re2 (1.1.20251105, `re2/__init__.py`) ask for the number of groups at each `span()`
    and cost twice what the search costs; this is the call that they wrap.
    """
    match = pattern._regexp.Match  # noqa: SLF001 - see above
    position = 0
    end = len(data)
    while True:
        span = match(_UNANCHORED, data, position, end)[0]
        position = span[1]
        if position < 0:
            return
        yield span


def _re2(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_nl = False
    return re2.compile(pattern.encode(), options)


def _re2_text(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _positions(data: bytes, wanted: bytes) -> Iterator[int]:
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)


_NUMBER_RUN = _re2(r"[0-9][0-9 ().\-/]{5,}[0-9]")
_AT_SIGNS = _re2(r"[A-Za-z0-9._%+'&~!#$\"?\-](?:@|%40)[A-Za-z0-9\[?]")
_HEX_GROUPS = _re2(
    r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]"
    r"|\b[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-|\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b"
)

# ---- E-mail addresses

_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-'&~!#$"
_LOCAL_EDGE = ".'&~!#$%-+"
_DOMAIN_RUN = re.compile(r"[A-Za-z0-9.-]{1,255}", re.ASCII)
# Without Chinese and the like first: an address may be glued to a sentence of it.
_LETTERS_DOMAIN_RUN = re.compile(r"(?:[^\W\u2e80-\U0010ffff]|[.-]){1,255}")
_UNICODE_DOMAIN_RUN = re.compile(r"[\w.-]{1,255}")
_IP_LITERAL = re.compile(r"\[(?:IPv6:)?[0-9A-Fa-f:.]{3,45}\]", re.ASCII)
# The international ones as people write them, too.
_ALL_TLDS = TLDS | {tld[4:].encode().decode("punycode") for tld in TLDS if tld.startswith("xn--")}
_MAX_LOCAL = 64
# What is a TLD and also a usual method or attribute: `q@k.to(device)`, `x@y.map` are code.
_CODE_TLDS = frozenset({"to", "map", "dot", "re", "id", "int", "call", "save", "read", "run", "data", "is", "in", "as"})
_FIRST_CJK = "\u2e80"


def _emails(view: View, found: list[Found]) -> None:
    done = -1
    for at in view.at_signs:
        if at < done:
            continue
        after = at + (1 if view.ascii[at] == "@" else 3)
        end = _domain_end(view, after)
        if end < 0:
            continue
        start = _local_start(view, at, max(done, 0), encoded=after - at > 1)
        if start < 0:
            continue
        if view.ascii.startswith("git@", start) and view.ascii.startswith(":", end):
            continue  # git@github.com:owner/name is an address of no person
        found.append(Found(start, end, "EMAIL_ADDRESS"))
        done = end


def _local_start(view: View, at: int, floor: int, *, encoded: bool) -> int:
    """Give where the local part begins; -1 if there is none."""
    low = max(floor, at - _MAX_LOCAL)
    window = view.ascii[low:at]
    if window.endswith('"'):
        quote = window.rfind('"', 0, -1)
        if quote >= 0 and "\n" not in window[quote:] and "\x1f" not in window[quote:]:
            return low + quote
        return -1
    rest = window.rstrip(_LOCAL.replace("%", "") if encoded else _LOCAL)
    start = low + len(rest)
    if start > low and view.ascii[start - 1] == "?" and view.text[start - 1] != "?":
        start = _unicode_local_start(view.text, start, low)
    while start < at and view.text[start] in _LOCAL_EDGE:
        start += 1
    return start if start < at else -1


def _unicode_local_start(text: str, start: int, low: int) -> int:
    """Take in the letters of `jürgen@`, but not the Chinese sentence that an address is glued to."""
    first = start
    while first > low:
        character = text[first - 1]
        if character in _LOCAL or (
            not character.isascii()
            and (character.isalnum() or unicodedata.category(character) == "Mn")
            and (character < _FIRST_CJK)
        ):
            first -= 1
        else:
            break
    return first


def _domain_end(view: View, after: int) -> int:
    """Give where the domain ends that begins at `after`; -1 if there is none."""
    run = _DOMAIN_RUN.match(view.ascii, after)
    end = _known_domain(run.group()) if run else -1
    if end > 0:
        return after + end if not _is_code(view, after, after + end) else -1
    if not view.text.isascii():
        for pattern in (_LETTERS_DOMAIN_RUN, _UNICODE_DOMAIN_RUN):
            run = pattern.match(view.text, after)
            end = _known_domain(run.group()) if run and not run.group().isascii() else -1
            if end > 0:
                return after + end
    literal = _IP_LITERAL.match(view.ascii, after)
    return literal.end() if literal else -1


def _known_domain(run: str) -> int:
    """Give the length of the longest domain that a run begins with; -1 if there is none."""
    labels = run.split(".")
    for count in range(len(labels), 1, -1):
        tld = labels[count - 1].lower()
        if tld not in _ALL_TLDS and "-" in tld:
            tld = tld.partition("-")[0] if not tld.startswith("xn--") else tld
        if tld in _ALL_TLDS and all(_is_label(label) for label in labels[: count - 1]):
            length = sum(map(len, labels[: count - 1])) + count - 1
            return length + (len(tld) if labels[count - 1].isascii() else len(labels[count - 1]))
    return -1


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and label[0] != "-" and label[-1] != "-"  # noqa: PLR2004 - RFC 1035


def _is_code(view: View, start: int, end: int) -> bool:
    """Tell `query@key.to(device)` and `a@b.T` from an address."""
    name, _, tld = view.ascii[start:end].rpartition(".")
    following = view.ascii[end : end + 1]
    if following in {"(", "[", "_"} and (tld.lower() in _CODE_TLDS or len(name) < 3):  # noqa: PLR2004 - one or two letters
        return True
    return tld.lower() in _CODE_TLDS and len(name) == 1


# ---- Numbers: cards, social security, IPv4, phones

_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

_CARD = re.compile(
    r"(?<![0-9])(?<![0-9][.,])(?:[0-9]{12,19}"
    r"|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5}"
    r"|[0-9]{4}([ .-])[0-9]{4}\3[0-9]{5})(?![0-9])(?![.,][0-9])",
    re.ASCII,
)
# Issuers' first digits and the lengths that they use. Source: ISO/IEC 7812 and the networks' own pages.
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|(?:30[0-59]|36[0-9]|3[89][0-9])[0-9]{11}(?:[0-9]{2})?"  # Diners Club
    r"|35[0-9]{14}|(?:1800|2131)[0-9]{11}"  # JCB
    r"|6[0-9]{15,18}"  # Discover, UnionPay, RuPay, Maestro
    r"|(?:50|5[6-9]|6[37])[0-9]{11,17}|(?:5018|5020|5038|5[678][0-9]{2}|6304|6390|6759|676[1-3])[0-9]{8}"  # Maestro
    r"|220[0-4][0-9]{12,15}"  # Mir
    r"|1[0-9]{14}",  # UATP
    re.ASCII,
)
_DOUBLED = bytes((2 * digit if digit < 5 else 2 * digit - 9) for digit in range(10))  # noqa: PLR2004 - Luhn
_DOUBLED_ASCII = {ord("0") + digit: doubled for digit, doubled in enumerate(_DOUBLED)}
_ZERO = ord("0")
_NO_SEPARATORS = str.maketrans("", "", " .-()/")


def passes_luhn(digits: str) -> bool:
    """Check the last digit by ISO/IEC 7812-1, annex B."""
    data = digits.encode()
    plain = data[::-2]
    return (sum(plain) - _ZERO * len(plain) + sum(map(_DOUBLED_ASCII.__getitem__, data[-2::-2]))) % 10 == 0


def _cards(view: View, found: list[Found]) -> None:
    text = view.ascii
    for start, end, digits_here in view.number_runs:
        if digits_here < 12:  # noqa: PLR2004 - the shortest card
            continue
        for match in _CARD.finditer(text, start, end):
            digits = match.group().translate(_NO_SEPARATORS)
            if (
                passes_luhn(digits)
                and _ISSUERS.fullmatch(digits)
                and not _glued(text, match.start(), match.end())
                and len(set(digits)) > 1
            ):
                found.append(Found(match.start(), match.end(), "CREDIT_CARD"))


def _glued(text: str, start: int, end: int) -> bool:
    """Say whether a number is a part of a longer word, such as a hash."""
    return (start > 0 and text[start - 1] in _WORD) or (end < len(text) and text[end] in _WORD)


_SSN = re.compile(
    r"(?<![0-9])(?<![0-9][.-])(?!000|666|9)[0-9]{3}([ .-])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9])(?![.-][0-9])",
    re.ASCII,
)
_SSN_BARE = re.compile(r"(?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4}", re.ASCII)
_SSN_WORDS = re.compile(r"\bssns?\b|social.{0,3}sec|\bsoc\.? sec|tax ?payer id|\bss ?(?:#|no|number)|\btin\b")
_CODE_WORDS = re.compile(
    r"(?:part|sku|item|order|model|serial|ref(?:erence)?|invoice|case|ticket|lot|batch|p/?n|s/?n)[ .:#]*(?:no\.?|number|id)?[ .:#]*$"
)


def _social_security(view: View, found: list[Found]) -> None:
    text = view.ascii
    for start, end, digits in view.number_runs:
        if digits < 9:  # noqa: PLR2004 - nine digits
            continue
        if end - start == digits:
            if (
                digits == 9
                and _SSN_BARE.match(text, start, end)
                and not _glued(text, start, end)
                and _SSN_WORDS.search(view.before(start, 48))
            ):  # noqa: PLR2004
                found.append(Found(start, end, "US_SSN"))
            continue
        for match in _SSN.finditer(text, start, end):
            here = match.start()
            before = view.before(here, 48)
            doubtful = _glued(text, here, match.end()) or _CODE_BEFORE.search(before) or _CODE_WORDS.search(before)
            if not doubtful or _SSN_WORDS.search(before):
                found.append(Found(here, match.end(), "US_SSN"))


_CODE_BEFORE = re.compile(r"(?:[a-z0-9]-|#)$")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(
    rf"(?<![0-9])(?<![0-9]\.)(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9])(?!\.[0-9])(?:/(?:3[0-2]|[12]?[0-9])(?![0-9]))?",
    re.ASCII,
)
_VERSION_WORDS = re.compile(
    r"(?:\b(?:version|versions|ver|v|release|rev(?:ision)?|build|firmware|section|sect?|chapter|clause|figure|fig|table|"
    r"oid|appendix|paragraph|para|article|update|upgrade[ds]?|package|driver|bump(?:ed)?|tag)"
    r"(?: number| no| to| from| is|[\"'])?[ .:=#\"'(]*|[=~!<>]= ?|~>? ?|[\^§] ?|[a-z]/|[a-z]-)$"
)
_ADDRESS_WORDS = re.compile(r"\bip|host|addr|src|dst|source|dest|server|client|peer|gateway|dns|subnet|://")


def _ip_addresses(view: View, found: list[Found]) -> None:
    text = view.ascii
    for start, end, _ in view.number_runs:
        if text.count(".", start, end) < 3:  # noqa: PLR2004 - between four numbers
            continue
        for match in _IPV4.finditer(text, start, end):
            here, stop = match.span()
            following = text[stop : stop + 2]
            if (
                (here > 0 and text[here - 1] in _WORD)
                or (following[:1] in _WORD and following)
                or (following[:1] == "-" and following[1:].isalpha())
            ):
                continue
            before = view.before(here, 24)
            if _VERSION_WORDS.search(before) and not _ADDRESS_WORDS.search(before):
                continue
            found.append(Found(here, stop, "IP_ADDRESS"))
    if b":" in view.bytes:
        _ipv6_addresses(view, found)


_V6_RUN = re.compile(r"[0-9A-Fa-f:.]+", re.ASCII)
_V6_CHARS = "0123456789ABCDEFabcdef:."
_ZONE_AND_PREFIX = re.compile(r"(?:%[A-Za-z0-9_.-]{1,16})?(?:/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])(?![0-9]))?", re.ASCII)
_LONGEST_V6 = 45


def _ipv6_addresses(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = -1
    for start in view.hex_groups:
        if start < done or ":" not in text[start : start + 2]:
            continue
        low = max(done, start - _LONGEST_V6, 0)
        first = low + len(text[low:start].rstrip(_V6_CHARS))
        match = _V6_RUN.match(text, start)
        done = match.end() if match else start + 1
        if done - first > _LONGEST_V6 + 2 or done - first == 8 and text[first + 2] == text[first + 5] == ":":  # noqa: PLR2004
            continue  # far too long, or the time of day
        # A full stop ends the sentence, a colon what the address introduces; `fe80::` ends in two of its own.
        run = text[first:done].rstrip(".")
        run = run.removesuffix(":") if not run.endswith("::") else run
        stop = first + len(run)
        if _is_ipv6(text, first, stop):
            tail = _ZONE_AND_PREFIX.match(text, stop)
            found.append(Found(first, tail.end() if tail else stop, "IP_ADDRESS"))


def _is_ipv6(text: str, start: int, end: int) -> bool:
    value = text[start:end]
    before = text[start - 1] if start else " "
    if before in _WORD or before in ".-" or (end < len(text) and text[end] in _WORD):
        return False
    if value.isalpha() or not _ANY_DIGIT.search(value):
        return False  # dead::beef is C++
    if len(value) < 7 and value != "::1" and before in "[,(" and value.replace(":", "").isdigit():  # noqa: PLR2004 - x[1::2]
        return False
    return is_ipv6(value)


_ANY_DIGIT = re.compile(r"[0-9]", re.ASCII)
_DOTTED_TAIL = re.compile(rf"(?<=:)(?:{_OCTET}\.){{3}}{_OCTET}$", re.ASCII)


def is_ipv6(value: str) -> bool:
    """Check hexadecimal groups, colons and a dotted end by RFC 4291; `ipaddress` takes five times as long."""
    if "." in value:
        value = _DOTTED_TAIL.sub("0:0", value)
    head, double, tail = value.partition("::")
    groups = head.split(":") if head else []
    if double:
        if "::" in tail:
            return False
        groups += tail.split(":") if tail else []
        if len(groups) > 7:  # noqa: PLR2004 - `::` stands for one group at least
            return False
    elif len(groups) != 8:  # noqa: PLR2004 - of 16 bits each
        return False
    return all(0 < len(group) <= 4 for group in groups) and "." not in value  # noqa: PLR2004 - digits of 16 bits


_MAC = re.compile(
    r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
    re.ASCII,
)


def _mac_addresses(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = -1
    for start in view.hex_groups:
        if start < done:
            continue
        # With colons, the anchor begins with the last digit of the first pair.
        first = start - 1 if text.startswith(":", start + 1) else start
        match = _MAC.match(text, first) if first >= 0 else None
        if not match:
            continue
        done = match.end()
        value = match.group()
        before = text[first - 1] if first else " "
        after = text[done : done + 2]
        separator = value[2] if value[2] in ":-" else "."
        if before in _WORD or before == separator or after[:1] in _WORD and after:
            continue
        if after[:1] == separator and after[1:] in _WORD and len(after) > 1 and after[1] in _WORD:
            continue
        if (
            separator != ":"
            and value.replace(separator, "").isdigit()
            and not re.search(r"mac|hardware|physical|ether|hw", view.before(first, 40))
        ):
            continue  # 20-11-12-13-14-15 is a time, 1234.5678.9012 a number
        found.append(Found(first, done, "MAC_ADDRESS"))


# ---- Phone numbers

_EXTENSION = r"(?:[ ,;]{0,2}(?:extension|ext\.?|x|#)[ .:]?[0-9]{1,6}(?![0-9]))?"
# Shapes that are a phone number's and hardly anything else's.
_PHONE = re.compile(
    r"(?<![0-9])(?:"
    r"(?:(?:00)?1[ .\-]?|[1-9][0-9]{0,2}[ .-])?(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}[ .\-/])[2-9][0-9]{2}[ .\-][0-9]{4}"  # North America
    r"|0[1-9](?P<p>[ .-])[0-9]{2}(?:(?P=p)[0-9]{2}){3}"  # France
    r"|\(0?[1-9][0-9]{0,4}\)[ \-]{0,3}[0-9]{2,5}(?:[ \-]?[0-9]{2,5}){1,3}"  # an area in brackets
    r"|0[1-9][0-9]{0,4}(?:[ ]?[/\-][ ]?|[ ])[0-9]{2,8}(?:[ \-][0-9]{2,5}){0,4}"  # a trunk prefix
    r"|1[3-9][0-9](?P<c>[ -])[0-9]{4}(?P=c)[0-9]{4}|1[3-9][0-9]{9}"  # China
    r"|8[ -]?\(?[0-9]{3}\)?[ -]?[0-9]{3}[ -][0-9]{2}[ -]?[0-9]{2}"  # Russia
    r"|[6-9][0-9]{4}[ -][0-9]{5}"  # India
    r"|[6-9][0-9]{2}(?: [0-9]{2}){3}"  # Spain
    r"|[1-9][0-9](?P<m>[ -])9?[0-9]{4}(?P=m)[0-9]{4}"  # Mexico, Brazil
    r")(?![0-9])" + _EXTENSION,
    re.ASCII,
)
_INTERNATIONAL = re.compile(
    r"(?P<plus>\+|(?<![0-9])(?:00|011)[ .-]?)[ ]?(?P<rest>\(?[1-9][0-9 ().\-/]{5,24}[0-9])" + _EXTENSION, re.ASCII
)
_GROUP = re.compile(r"[0-9]+", re.ASCII)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}([-/. ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12][0-9]|3[01])(?![0-9])"
    r"|(?<![0-9])(?:0?[1-9]|[12][0-9]|3[01])([-/. ])(?:0?[1-9]|1[0-2]|[12][0-9]|3[01])\2(?:(?:19|20)[0-9]{2}|[0-9]{2}(?!\2[0-9]))(?![0-9])",
    re.ASCII,
)
_ONLY_DATES = re.compile(
    r"(?:19|20)[0-9]{2}([-/. ])[01]?[0-9]\1[0-3]?[0-9](?:[ -]+[0-9]{1,2})?|[0-3]?[0-9]([-/.])[0-3]?[0-9]\2(?:19|20)[0-9]{2}(?: +[0-9]{1,2})?"
    r"|[0-9]+\.[0-9]+|(?:19|20)[0-9]{2}[ ]?[-/][ ]?(?:19|20)[0-9]{2}",
    re.ASCII,
)
_PHONE_WORDS = _re2_text(
    r"\b(?:tel(?:e?ph?one?s?|efon\w*|efoon\w*|\b)|phones?|ph|call(?:ed|ing|s|back)?|cell(?:ulare?|phone|s)?|cel|mobiles?|mob|"
    r"mobil\w*|fax|whats ?app|sms|text(?: me| us)?|dial(?:ed|ling)?|ring|reach(?:ed|able)?|contact(?:s|ed)?|hotline|"
    r"helpline|landline|voicemail|handy\w*|rufnummer|durchwahl|anruf\w*|t[ée]l(?:[ée]phone)?|m[óo]vil|celular|portable|"
    r"fixe|appel\w*|ll[áa]m\w*|chiam\w*|ligue|gsm|puhelin|telefone?|numero|n[úu]mero|signal|viber|pager|number(?: is)?|num|nr|"
    r"t|m|p|f|c|h|w|o)\b|тел|телефон|звон|моб|電話|电话|手机|手機|携帯|전화|연락|휴대|फ़ोन|फोन|هاتف|جوال|τηλ|טלפון|נייד|โทร"
)
_OTHER_WORDS = _re2_text(
    r"\b(?:orders?|invoice|inv|account|acct|a/c|ids?|ref(?:erence)?|ticket|case|serial|sn|s/n|sku|isbn(?:-1[03])?|issn|ean|upc|gtin|"
    r"asin|doi|tracking|shipment|parcel|part|model|build|version|rev|revision|zip|postal|postcode|code|amount|total|price|"
    r"cost|sum|usd|eur|gbp|timestamp|epoch|unix|time|date|dated|pid|port|batch|lot|policy|claim|patent|vat|tax|ein|npi|"
    r"iban|bic|swift|routing|sort|card|visa|mastercard|amex|uid|uuid|gid|imei|imsi|iccid|vin|row|line|page|pages|hash|commit|sha|md5|job|run|"
    r"task|bug|issue|pr|pull|request|transaction|txn|booking|confirmation|reservation|flight|passport|licen[cs]e|"
    r"license|student|employee|member|customer|product|item|release|firmware|lat|lon|latitude|longitude|coordinates?|"
    r"score|ratio|size|bytes|length|duration|seed|checksum|barcode|record|entry|docket|permit|contract|quote|po|rma|"
    r"register|registration|ssn|social|security|national|siren|siret|cpf|cnpj|abn|nhs|medicare|from|between|range|population|serie)\b"
)
_ANY_NUMBER = re.compile(rb"[ ._:#-]*(?:number|num|nr|no|numero)(?: is)?")
_MONEY = frozenset("$€£¥₹#%")
_NEAR = 32


def _phones(view: View, found: list[Found]) -> None:
    text = view.ascii
    taken = sorted((one.start, one.end) for one in found)
    done = -1
    for start, end, digits in view.number_runs:
        if digits < 7 or start < done or _overlaps(taken, start, end) or _in_decimal(text, start):  # noqa: PLR2004 - a local number
            continue
        if end - start < 20 and _ONLY_DATES.fullmatch(text, start, end):  # noqa: PLR2004 - a date and a time
            continue
        for here, stop in _phones_in(view, start, end):
            found.append(Found(here, stop, "PHONE_NUMBER"))
            done = stop


def _overlaps(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    i = bisect.bisect_left(taken, (start, start))
    return (i < len(taken) and taken[i][0] < end) or (i > 0 and taken[i - 1][1] > start)


def _in_decimal(text: str, start: int) -> bool:
    return start > 1 and text[start - 1] in ".," and text[start - 2].isdigit()


def _phones_in(view: View, start: int, end: int) -> Iterator[tuple[int, int]]:
    text = view.ascii
    # The bracket, plus or both before the first digit.
    low = start
    while low > 0 and text[low - 1] in "+(" and start - low < 3:  # noqa: PLR2004 - "+(" and "(+"
        low -= 1
    before = text[low - 1] if low else " "
    if text[low:start].count("+") or text.startswith("0", start):
        match = _INTERNATIONAL.search(text, low, min(end + 12, len(text)))
        if match and match.start() <= start and not (before in _WORD):
            stop = _international_end(match)
            if stop > 0:
                yield (
                    low
                    if text[low] == "(" and text.count(")", low, stop) == text.count("(", low, stop)
                    else match.start(),
                    stop,
                )
                return
    if before in _WORD and not before.islower():
        return
    if before in "-/\\=&." and low > 1 and text[low - 2] in _WORD and before != "=":
        return
    hint: int | None = None
    any_found = False
    for match in _PHONE.finditer(text, low, min(end + 12, len(text))):
        here, stop = match.span()
        if here >= end:
            break
        if here > low and text[here - 1] in "-./" and text[here - 2].isdigit():
            continue
        if hint is None:
            hint = _hint(view, low)
        if not _is_phone_shape(text, here, stop, hint) or (before in _WORD and not _GLUED_SHAPE.match(text, here)):
            continue
        any_found = True
        yield here, stop
    if any_found or before in _WORD:
        return
    if hint is None:
        hint = _hint(view, low)
    if hint <= 0:
        return
    yield from _hinted_phone(view, low, start, end)


_GLUED_SHAPE = re.compile(r"\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}", re.ASCII)


def _hint(view: View, start: int) -> int:
    """Say what the words before a number make of it: a phone (1), something else (-1), nothing (0)."""
    before = view.before(start, _NEAR)
    if before and before[-1] in _MONEY:
        return -1
    data = before.encode(errors="replace")
    phone = other = -1
    for match in _PHONE_WORDS.finditer(data):
        phone = match.end()
    for match in _OTHER_WORDS.finditer(data):
        other = match.end()
    if phone < 0 and other < 0:
        return 0
    # "order number 4155550132": the plain word "number" says nothing against the word before it.
    if other >= 0 and phone > other and _ANY_NUMBER.fullmatch(data[other:phone]):
        return -1
    return 1 if phone > other else -1


def _is_phone_shape(text: str, start: int, end: int, hint: int) -> bool:
    value = text[start:end]
    digits = sum(map(str.isdigit, value))
    following = text[end : end + 2]
    if following[:1] in _WORD and following:
        return False
    if following[:1] in ".,-/:" and following[1:].isdigit() and following[1:] and following[:1] != ",":
        return False
    if hint < 0 and not value.startswith("("):
        return False
    if hint < 0:
        return False
    if _DATE.match(value) or (value[:1] == "(" and value[1:3] in {"19", "20"} and value[5:6] == ")" and digits < 10):  # noqa: PLR2004 - (2019)
        return False
    if value[0] in "0(" and value[:2] != "00":
        return (9 if hint <= 0 else 7) <= digits <= 13 + (6 if "x" in value else 0)  # noqa: PLR2004 - trunk prefix and number
    if value.isdigit():
        # China's bare numbers are as long as an id: a word must say so, or nothing at all stand before.
        return hint > 0
    return digits >= 8  # noqa: PLR2004 - the shortest of the shapes


def _international_end(match: re.Match[str]) -> int:
    """Give where a number with a calling code ends; -1 if it is none."""
    rest = match.group("rest")
    digits = "".join(_GROUP.findall(rest))
    for length in (1, 2, 3):
        limits = PHONE_LENGTHS.get(digits[:length])
        if limits:
            break
    else:
        return -1
    fewest, most = limits
    # The trunk prefix is often left in: +44 (0)20 7946 0958.
    trunk = 1 if "(0)" in rest else 0
    count = 0
    best = -1
    for group in _GROUP.finditer(rest):
        count += len(group.group())
        if length + fewest <= count - trunk <= length + most + (digits[length : length + 1] == "0"):
            best = group.end()
    if best < 0:
        return -1
    text = match.string
    end = match.start("rest") + best
    if end == match.end("rest"):
        end = match.end()
    if end < len(text) and text[end] in _WORD:
        return -1
    if match.group("plus") != "+" and rest.isdigit() and best < 9:  # noqa: PLR2004 - 00 and a short number is anything
        return -1
    return end


def _hinted_phone(view: View, low: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Take what a word such as "phone" announces, if it is as long as a phone number."""
    text = view.ascii
    value = text[low:end]
    if (
        _DATE.match(text, start)
        or _IPV4.match(text, start)
        or value.count(".") == 1
        and value.count(" ") == 0
        and len(value) < 9
    ):  # noqa: PLR2004
        return
    count = 0
    best = -1
    for group in _GROUP.finditer(text, start, end):
        if best > 0 and text[group.start() - 2 : group.start()] == "  ":
            break
        count += len(group.group())
        if count > 15:  # noqa: PLR2004 - E.164
            break
        if count >= 7:  # noqa: PLR2004 - a local number
            best = group.end()
    if best < 0:
        return
    following = text[best : best + 2]
    if following[:1] in _WORD and following:
        extension = re.compile(_EXTENSION, re.ASCII).match(text, best)
        if not extension or extension.end() == best:
            return
        best = extension.end()
    yield low, best


# ---- Bank accounts and wallets

_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30 DZ26 AO25 BJ28 BF28 CV25 CM27 CF27 TD27 KM27 CG27 GA27 GQ27 GW25 IR26 CI28 MG27 ML28 MA28 MZ25 NE28 SN28 TG28"
    ).split()
}
"""Country to the length of its accounts, by SWIFT's IBAN registry, release 101, and the partial list at iban.com."""

_IBAN = _re2(r"\b[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{3}")
_IBAN_WHOLE = re.compile(r"[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,40}", re.ASCII)


_LETTER_VALUES = {ord(letter): str(value) for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)}


def passes_mod_97(iban: str) -> bool:
    """Check an IBAN without separators by ISO 7064."""
    return int((iban[4:] + iban[:4]).translate(_LETTER_VALUES)) % 97 == 1


def _ibans(view: View, found: list[Found]) -> None:
    position = 0
    while True:
        anchor = _IBAN.search(view.bytes, position)
        if anchor is None:
            return
        start = anchor.start()
        end = _iban_end(view.ascii, start)
        if end > 0:
            found.append(Found(start, end, "IBAN_CODE"))
            position = end
        else:
            position = start + 4


def _iban_end(text: str, start: int) -> int:
    wanted = _IBAN_LENGTHS.get(text[start : start + 2])
    if not wanted:
        return -1
    match = _IBAN_WHOLE.match(text, start, start + 2 * wanted)
    if not match:
        return -1
    end = start
    count = 0
    value = match.group()
    for end, character in enumerate(value, start + 1):
        count += character not in " -"
        if count == wanted:
            break
    else:
        return -1
    if end < len(text) and text[end] in _WORD:
        return -1
    return end if passes_mod_97(text[start:end].replace(" ", "").replace("-", "")) else -1


_WALLET = _re2(
    r"\b(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{11,87}\b|\b(?:BC1|LTC1)[02-9AC-HJ-NP-Z]{11,87}\b"
    r"|\b[13LMDT][1-9A-HJ-NP-Za-km-z]{25,34}\b|\b0x[0-9a-fA-F]{40}\b"
)
_BASE58 = {character: i for i, character in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32 = {character: i for i, character in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


def _wallets(view: View, found: list[Found]) -> None:
    for start, end in _spans(_WALLET, view.bytes):
        value = view.ascii[start:end]
        if value.startswith("0x"):
            real = len(set(value[2:])) > 4  # noqa: PLR2004 - 0x000...0 is a placeholder
        elif value[:3].lower() in {"bc1", "tb1", "ltc"}:
            real = passes_bech32(value.lower())
        else:
            real = passes_base58check(value)
        if real:
            found.append(Found(start, end, "CRYPTO"))


def passes_base58check(address: str) -> bool:
    """Check the four bytes at the end of an old-style address (Bitcoin, Litecoin, Dogecoin, Tron)."""
    number = 0
    for character in address:
        number = number * 58 + _BASE58[character]
    try:
        data = number.to_bytes(25, "big")
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


def passes_bech32(address: str) -> bool:
    """Check the six characters at the end of a segwit address, by BIP 173 and BIP 350."""
    prefix, _, data = address.rpartition("1")
    values = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    values += [_BECH32.get(character, 0) for character in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> i & 1:
                check ^= generator
    return check in {1, 0x2BC830A3}


# ---- Secrets

_FORMAT_ANCHORS = _re2("|".join(f"(?:{format_.anchor})" for format_ in FORMATS))


_LITERAL_START = re.compile(r"(?:\\b)?\\?([A-Za-z0-9_/.])\\?([A-Za-z0-9_/.-])(?![\[{?])", re.ASCII)


def _formats_by_start() -> tuple[dict[str, list[Format]], list[tuple[re.Pattern[str], Format]]]:
    by_start: dict[str, list[Format]] = {}
    others = []
    for one in FORMATS:
        literal = _LITERAL_START.match(one.anchor)
        if literal:
            by_start.setdefault(literal[1] + literal[2], []).append(one)
        else:
            others.append((re.compile(one.anchor, re.ASCII), one))
    return by_start, others


_BY_START, _OTHERS = _formats_by_start()
_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-~."
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
_PLACEHOLDER_RUN = re.compile(r"([A-Za-z#*])\1{7}|([0-9])\2{15}|(?i:xxxx|your[-_ ]|<|\.\.\.)")


def _secrets(view: View, found: list[Found]) -> None:
    _provider_keys(view, found)
    if b"-----BEGIN " in view.bytes:
        _pem_blocks(view, found)
    if b"@" in view.bytes and b"://" in view.bytes:
        _url_passwords(view, found)
    _named_values(view, found)
    _authorization(view, found)


def _provider_keys(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = 0
    for start, _ in _spans(_FORMAT_ANCHORS, view.bytes):
        if start < done:
            continue
        formats = _BY_START.get(text[start : start + 2]) or [
            one for anchor, one in _OTHERS if anchor.match(text, start)
        ]
        for one in formats:
            first = start
            if one.before:
                low = max(done, start - one.before)
                first = low + len(text[low:start].rstrip(_KEY_CHARACTERS))
            match = one.pattern.match(text, first)
            if (
                match
                and not (first > 0 and text[first - 1] in _WORD and text[first] in _WORD)
                and not _is_placeholder_key(match.group())
            ):
                found.append(Found(first, match.end(), "SECRET"))
                done = match.end()
                break


def _is_placeholder_key(value: str) -> bool:
    return _PLACEHOLDER_RUN.search(value) is not None or len(set(value[4:])) < 6  # noqa: PLR2004 - sk-aaaaaaaa


def _pem_blocks(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = -1
    for start in _positions(view.bytes, b"-----BEGIN "):
        if start < done:
            continue
        match = _PEM.match(text, start)
        if not match:
            continue
        limit = text.find("\x1f", start)
        limit = len(text) if limit < 0 else limit
        end = _PEM_END.search(text, match.end(), limit)
        # Cut off before its END: all that follows may be the key.
        done = end.end() if end else limit
        found.append(Found(start, done, "SECRET"))


_URL_USER = re.compile(r"://[^\s/?#@:\"'<>\x1f]{0,128}:([^\s/?#\"'<>\x1f]{1,256})@", re.ASCII)
_VARIABLE = re.compile(r"\$\{?\w|<|\{\{?|%\(|\*{3}|\[|x{3}", re.ASCII)


def _url_passwords(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = -1
    for start in _positions(view.bytes, b"://"):
        if start < done:
            continue
        match = _URL_USER.match(text, start)
        if match:
            done = match.end()
            if not _VARIABLE.match(match.group(1)):
                found.append(Found(*match.span(1), "SECRET"))


_SECRET_WORD = (
    r"(?:pass(?:word|wd|phrase|code|wort)?s?|pwd|pw|secrets?|token|keys?|auth(?:orization)?|credentials?|cookie|contrase.a|"
    r"senha|kennwort|jwt|bearer|pin)[0-9]{0,2}"
)
_NAMED = _re2(
    rf"(?i){_SECRET_WORD}(?:[\"'`\])\\]{{0,3}}[ \t]*(?:[:=>?]|\bis\b)|[\"'][ ]*,)|--[a-z0-9_-]*{_SECRET_WORD}[ =]"
)
_NAME_END = re.compile(r"(?:--[a-z0-9_-]*)?[A-Za-z0-9_.\-]+", re.ASCII | re.IGNORECASE)
_IDENTIFIER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_VALUE = re.compile(
    r"(?P<sep>[\"'`\])\\]{0,3}[ \t]{0,12}(?:[?:]{0,3}=>?|:{1,3}=?|=>|>|,|\bis:?(?=[ \t])|(?=[ \t]))[ \t]{0,12})(?:[A-Za-z_.]{1,40}\([\"'])?"
    r"(?:\\?(?P<quote>[\"'`])(?P<quoted>[^\x1f\r\n]{1,500}?)\\?(?P=quote)|(?P<bare>[^\s\"'`,;<>\x1f]{3,500}))",
    re.ASCII,
)


def _named_values(view: View, found: list[Found]) -> None:
    text = view.ascii
    done = -1
    for start, anchor_end in _spans(_NAMED, view.bytes):
        if start < done:
            continue
        low = max(0, start - 48)
        first = low + len(text[low:start].rstrip(_IDENTIFIER))
        stop = _NAME_END.match(text, start, anchor_end).end()  # type: ignore[union-attr] - the anchor begins with it
        name = text[first:stop]
        kind = name_kind(name)
        if kind is None:
            continue
        match = _VALUE.match(text, stop)
        if not match:
            continue
        separator = match.group("sep").strip(" \t\"'`])\\")
        quoted = match.group("quoted")
        group = "bare" if quoted is None else "quoted"
        if not separator and not name.startswith("--"):
            continue  # only an option is followed by its value without more: --token abc
        if separator == "," and quoted is None:
            continue
        value = match.group(group)
        begin, end = match.span(group)
        if quoted is None:
            value = value.rstrip(".,:;!?)}]")
            end = begin + len(value)
        if is_secret_value(
            kind, value, quoted=quoted is not None, spoken=separator.startswith("is"), separator=separator
        ):
            found.append(Found(begin, end, "SECRET"))
            done = end


class Kind(NamedTuple):
    """How much the name of a value says."""

    strength: int
    """3: a password; 2: a key or token of something; 1: a word that is also used for other things."""


_PASSWORD, _KEY, _MAYBE = Kind(3), Kind(2), Kind(1)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_PASSWORD_NAME = re.compile(
    r"(?:^|_|[a-z])(?:password|passwd|passphrase|passwort|contrasena|contrase_a|kennwort|passcode)s?[0-9]{0,2}$"
    r"|(?:^|_)(?:db|my|user|root|admin|smtp|ftp|redis|mysql|pg)?(?:pass|pwd|pw|senha)[0-9]{0,2}$|[a-z]pwd$"
)
_KEY_NAME = re.compile(
    r"(?:api|access|secret|private|encryption|signing|signature|master|account|consumer|app|application|shared|service|admin|storage|subscription|"
    r"licen[cs]e|deploy|webhook|auth|oauth|bearer|refresh|session|id|security|bot|user|client|personal|pat|csrf|xsrf|jwt|hmac|aes|rsa|ssh|gpg|"
    r"iam|cloud|vault|github|gitlab|slack|stripe|openai|anthropic|azure|aws|gcp|google|hf)_?(?:key|token|secret)s?[0-9]{0,2}$"
    r"|(?:^|_)(?:authorization|proxy_authorization|set_cookie|cookie|jwt|secret_?(?:key|token|value|string)?|x_api_key|bearer|credentials?)[0-9]{0,2}$"
    r"|(?:apikey|apitoken|secretkey|accesskey|authtoken|clientsecret)$"
)
_MAYBE_NAME = re.compile(r"(?:key|token|secret|auth|pin|credentials?)[0-9]{0,2}$")
_NOT_SECRET_NAME = re.compile(
    r"public|publishable|pub_?key|(?:^|_)(?:max|min|total|num|n|count|input|output|prompt|completion|reasoning|cached?|used|remaining|next|page|continuation|"
    r"sync|cursor|primary|foreign|partition|sort|hash|range|cache|bucket|object|schema|sequence|index|idempotency|row|map|dict|column|routing|group|"
    r"registry|hot|short_?cut|answer|translation|i18n|message|event|field|property|lookup|search|config|settings?|state|s3|entry|stop|start|end|bos|eos|pad|unk|sep|cls|mask|special|"
    r"first|last|new|current|prev|previous|word|byte|text|logit)s?_(?:key|token)s?$|monkey|turkey|donkey|jockey|whiskey|hockey|keyboard|author$|tokeni[sz]"
)


@functools.lru_cache(maxsize=4096)
def name_kind(name: str) -> Kind | None:
    """Say whether the name of a field or variable announces a secret; `total_tokens` and `public_key` do not."""
    plain = _NOT_WORD.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
    if _PASSWORD_NAME.search(plain):
        return _PASSWORD
    if _NOT_SECRET_NAME.search(plain):
        return None
    if plain.endswith("tokens"):
        return None
    if _KEY_NAME.search(plain):
        return _KEY
    if _MAYBE_NAME.search(plain):
        return _MAYBE
    return None


_PLACEHOLDER = re.compile(
    r"[*.x_?#-]+|<.*|\$.*|%.*|\{.*|\[.*|.*\{\{.*|your[-_ ].*|.*[-_ ]here|my[-_]?(?:password|secret|token|key)|example.*|change[-_ ]?me|none|null|nil|true|false|undefined|todo|tbd|redacted|"
    r"hidden|string|str|text|int|bool|any|object|required|optional|env|secret|password|token|key|dummy|placeholder|bearer|basic|n/?a|empty|default|value|\*+.*",
    re.IGNORECASE | re.ASCII,
)
_CODE_VALUE = re.compile(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:[(\[].*)?|[A-Za-z_]\w*[(\[].*|.*\)\(.*|(?:self|this|os|process|config|settings|env|var|args|request|options|params)[.\[].*|`.*|\$\(.*|/[\w./-]*|https?://.*|[A-Za-z_]+(?:Error|Exception)",
    re.ASCII,
)
_NAME_WORDS = re.compile(r"passw|pwd|secret|token|api_?key|credential", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", re.ASCII)
_SEQUENCE = re.compile(r"0123456789|abcdefghij|ABCDEFGHIJ", re.ASCII)
_FILE = re.compile(
    r".*\.(?:pem|cer|crt|p12|pfx|jks|key|pub|json|ya?ml|txt|html?|png|jpe?g|svg|js|ts|py|java|go|rs|com|org|net|io)(?::[0-9]+)?",
    re.IGNORECASE | re.ASCII,
)


def is_secret_value(kind: Kind, value: str, *, quoted: bool, spoken: bool = False, separator: str = "=") -> bool:
    """Tell a secret from a placeholder, a piece of code or a word of a sentence."""
    if _PLACEHOLDER.fullmatch(value) or (not quoted and _CODE_VALUE.fullmatch(value)):
        return False
    has_digit = any(map(str.isdigit, value))
    if kind is _PASSWORD:
        if len(value) < 4 or " " in value.strip() and not (quoted and has_digit):  # noqa: PLR2004 - shorter is a flag or a count
            return False
        has_symbol = any(not character.isalnum() and character not in "_-." for character in value)
        if value.startswith("/") or _NAME_WORDS.search(value) and not has_digit and not has_symbol:
            return False
        if has_digit or (has_symbol and not value.isdigit()):
            return not (value.isdigit() and len(value) < 4)  # noqa: PLR2004 - see above
        if spoken or (not quoted and separator != "="):
            return any(map(str.isupper, value[1:])) and any(map(str.islower, value))
        return len(value) >= 5  # noqa: PLR2004 - "main"
    if len(value) < (8 if kind is _KEY else 16) or " " in value.strip() or _SEQUENCE.search(value):  # noqa: PLR2004 - too short to be random
        return False
    if _FILE.fullmatch(value) or _PLACEHOLDER_RUN.search(value):
        return False
    if _UUID.fullmatch(value):
        return kind is _KEY or quoted
    if not has_digit:
        # Without a digit only what is long, of both cases and no sequence of words.
        return len(value) >= 20 and entropy(value) > 4 and not _WORDS.fullmatch(value)  # noqa: PLR2004 - bits a character
    if spoken and kind is _MAYBE:
        return False
    return entropy(value) >= (2.8 if kind is _KEY else 3.2) and not _WORDS.fullmatch(value)  # noqa: PLR2004 - bits a character


_WORDS = re.compile(
    r"(?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,4}|v[0-9]+)(?:[-_.:/](?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,10}|v[0-9]+))+|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+[0-9]{0,2}",
    re.ASCII,
)


def entropy(value: str) -> float:
    """Give the bits that a character carries, by how often each occurs."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values()) if size else 0.0


_AUTHORIZATION = _re2(r"(?i)\b(?:bearer|basic|token|digest|apikey)[ ]+[A-Za-z0-9+/_.~-]{12}")
_AUTHORIZATION_VALUE = re.compile(r"[A-Za-z]+ +([A-Za-z0-9+/_.~-]{12,}=*)", re.ASCII)


def _authorization(view: View, found: list[Found]) -> None:
    for start, _ in _spans(_AUTHORIZATION, view.bytes):
        match = _AUTHORIZATION_VALUE.match(view.ascii, start)
        if match:
            value = match.group(1).rstrip(".")
            if is_secret_value(_KEY, value, quoted=True) and any(map(str.isdigit, value)):
                found.append(Found(match.start(1), match.start(1) + len(value), "SECRET"))


# ---- The table


class Entity(NamedTuple):
    """A kind of text to find. To add one: a row in `ENTITIES`."""

    what: str
    """In words, for `mlflow-cost explain`."""
    find: Callable[[View, list[Found]], None]
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
        _secrets,
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPLQ"),
        ("total_tokens: 1234567890", "password = getpass.getpass()", "sk-learn-is-a-fine-library"),
    ),
    "CREDIT_CARD": Entity(
        "12 to 19 digits with an issuer's first digits and a right check digit (Luhn)",
        _cards,
        ("4111 1111 1111 1111", "378282246310005", "5555-5555-5555-4444"),
        ("4111 1111 1111 1112", "1748503543012", "0.4111111111111111"),
    ),
    "IBAN_CODE": Entity(
        "an account number of the right length for its country, with a right checksum (mod 97)",
        _ibans,
        ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"),
        ("DE89 3704 0044 0532 0130 01",),
    ),
    "EMAIL_ADDRESS": Entity(
        "an address whose top-level domain exists (IANA's list)",
        _emails,
        ("bob@example.com", "jürgen.müller@bücher.example.org"),
        ("q@k.transpose(1)", "x@W.view", "@channel", "git@github.com:owner/name"),
    ),
    "IP_ADDRESS": Entity(
        "IPv4 and IPv6, with zone and network prefix; not a version number",
        _ip_addresses,
        ("192.168.1.1", "2001:db8::8a2e:370:7334", "::ffff:192.0.2.1", "10.0.0.0/8"),
        ("version 1.2.3.4", "12:34:56", "std::cout", "1.2.3.4.5"),
    ),
    "MAC_ADDRESS": Entity(
        "six pairs of hexadecimal digits, or Cisco's three groups",
        _mac_addresses,
        ("00:1A:2B:3C:4D:5E", "aa-bb-cc-dd-ee-ff", "0012.3456.789a"),
        ("00:1A:2B:3C:4D", "20-11-12-13-14-15"),
    ),
    "CRYPTO": Entity(
        "addresses of Bitcoin, Litecoin, Dogecoin and Tron with a right checksum, and of Ethereum",
        _wallets,
        ("16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        ("16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ2",),
    ),
    "US_SSN": Entity(
        "three, two and four digits that the administration issues; nine in a row only after words that say so",
        _social_security,
        ("078-05-1123", "219 09 9998"),
        ("000-12-3456", "078051123", "123-45-67890"),
    ),
    "PHONE_NUMBER": Entity(
        "numbers with a calling code, national ones by their grouping and the words before them",
        _phones,
        ("+1 415 555 0132", "(415) 555-0132", "01 42 68 53 00", "+44 (0)20 7946 0958"),
        ("2024-01-15 10:30", "order number 4155550132", "3.14159265358979"),
    ),
}

PII_ENTITIES = frozenset(ENTITIES) - {SECRET}

_RANK = {name: rank for rank, name in enumerate(ENTITIES)}


def without_overlaps(found: Iterable[Found]) -> list[Found]:
    """Join what overlaps into one stretch with the name of its longest part, in order."""
    joined: list[Found] = []
    longest = 0
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        length = one.end - one.start
        if joined and one.start < joined[-1].end:
            last = joined[-1]
            better = (length, -_RANK.get(one.entity, 99)) > (longest, -_RANK.get(last.entity, 99))
            joined[-1] = Found(last.start, max(last.end, one.end), one.entity if better else last.entity)
            longest = max(longest, length)
        else:
            joined.append(one)
            longest = length
    return joined


# ---- Look-alikes and what cannot be seen

_INVISIBLE = "\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"


def _look_alikes() -> dict[str, str]:
    """Map digits of all scripts, full-width forms, mathematical letters, hyphens and spaces to ASCII, one to one."""
    folded = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    folded |= dict.fromkeys(
        "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
    )
    folded |= dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63", "-")
    folded |= {
        "\u2024": ".",
        "\ufe52": ".",
        "\ufe6b": "@",
        "\u2044": "/",
        "\u2215": "/",
        "\ufe55": ":",
        "\ua789": ":",
        "\u2236": ":",
        "\u3002": ".",
        "\uff61": ".",
    }
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        if character.isdecimal():
            folded[character] = str(unicodedata.decimal(character))
        elif 0x1D400 <= code <= 0x1D7CB:  # noqa: PLR2004 - mathematical alphanumeric symbols
            plain = unicodedata.normalize("NFKC", character)
            if len(plain) == 1 and plain.isascii():
                folded[character] = plain
    return folded


_FOLDED = _look_alikes()
_FOLD_TABLE = str.maketrans(_FOLDED)
# Chinese text is full of full-width commas and brackets: they alone are no reason to fold it.
_COMMON = set("，．：；！？（）、。～｛｝［］＝＜＞＂＇　—–‒―…") & set(_FOLDED)
_BASIC = sorted(character for character in _FOLDED if character < "\U00010000" and character not in _COMMON)


def _ranges(characters: list[str]) -> str:
    parts: list[list[int]] = []
    for code in map(ord, characters):
        if parts and code == parts[-1][1] + 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in parts)


_INVISIBLE_SET = frozenset(
    chr(code)
    for first, last in (match.groups() for match in re.finditer(r"(.)(?:-(.))?", _INVISIBLE))
    for code in range(ord(first), ord(last or first) + 1)
)
_SUSPICIOUS = _re2_text(
    f"[{_ranges(_BASIC)}{_INVISIBLE}\U0001d400-\U0001d7ff]|[0-9A-Za-z][．：＝–‒―—　]|[．：＝–‒―—　][0-9A-Za-z]"
)
_MANY = 40


def _fold(text: str) -> tuple[str, list[int]]:
    """Put look-alikes into ASCII, one to one, and take out what cannot be seen; also give where that was."""
    data = text.encode(errors="replace")
    position = 0
    hidden: list[int] = []
    replaced = 0
    while match := _SUSPICIOUS.search(data, position):
        position = match.start()
        replaced += 1
        if replaced > _MANY:
            # One pass over all costs as much as replacing so many one by one.
            hidden = [i for i, character in enumerate(text) if character in _INVISIBLE_SET]
            return text.translate(_FOLD_TABLE), hidden
        for character in match.group().decode():
            if character.isascii():
                continue
            folded = _FOLDED.get(character)
            if folded is None:
                hidden += _text_positions(text, character)
                data = data.replace(character.encode(), b"")
            else:
                text = text.replace(character, folded)
                data = data.replace(character.encode(), folded.encode())
    return text, hidden


def _text_positions(text: str, character: str) -> Iterator[int]:
    at = text.find(character)
    while at >= 0:
        yield at
        at = text.find(character, at + 1)


_INVISIBLE_PATTERN = re.compile(f"[{_INVISIBLE}]")


class Scanner:
    """Finds the chosen entities in texts. Immutable."""

    def __init__(self, entities: Iterable[str]) -> None:
        """Choose rows of `ENTITIES`."""
        chosen = frozenset(entities)
        self._finders = [entity.find for name, entity in ENTITIES.items() if name in chosen]

    def find(self, text: str) -> list[Found]:
        """Find everything, in order and without overlaps."""
        if text.isascii():
            return self._find(text)
        folded, hidden = _fold(text)
        if not hidden:
            return self._find(folded)
        hidden.sort()
        shown = _INVISIBLE_PATTERN.sub("", folded)
        # Where the text without them is as far along as each of them.
        steps = [position - i for i, position in enumerate(hidden)]
        return [
            Found(start + bisect.bisect_right(steps, start), end + bisect.bisect_right(steps, end - 1), entity)
            for start, end, entity in self._find(shown)
        ]

    def _find(self, text: str) -> list[Found]:
        view = View(text)
        found: list[Found] = []
        for find in self._finders:
            find(view, found)
        return without_overlaps(found) if found else found


# ---- Names of fields

_SSN_NAME = re.compile(r"(?:^|_)(?:ssn|social_security(?:_(?:number|no|num))?|us_ssn)$")
_PHONE_NAME = re.compile(
    r"(?:^|_)(?:phone|phones|telephone|mobile|cell|fax|tel|phone_?(?:number|no)|mobile_?(?:number|no)|whatsapp|msisdn)[0-9]?$"
)
_NINE_DIGITS = re.compile(r"[0-9]{3}[ .-]?[0-9]{2}[ .-]?[0-9]{4}", re.ASCII)
_PHONE_VALUE = re.compile(r"\+?[0-9(][0-9 ().\-/]{5,24}(?:\D{0,6}[0-9]{1,6})?", re.ASCII)


def field_entity(name: str, entities: frozenset[str]) -> str | None:
    """Say which of the entities the name of a field announces."""
    if SECRET in entities and name_kind(name):
        return SECRET
    plain = _NOT_WORD.sub("_", _CAMEL.sub("_", name).lower()).strip("_")
    if "US_SSN" in entities and _SSN_NAME.search(plain):
        return "US_SSN"
    if "PHONE_NUMBER" in entities and _PHONE_NAME.search(plain):
        return "PHONE_NUMBER"
    return None


def is_field_value(entity: str, name: str, value: str) -> bool:
    """Say whether the value of such a field is what its name says."""
    if entity == "US_SSN":
        return _NINE_DIGITS.fullmatch(value.translate(_FOLD_TABLE)) is not None
    if entity == "PHONE_NUMBER":
        return _PHONE_VALUE.fullmatch(value.translate(_FOLD_TABLE)) is not None
    kind = name_kind(name)
    if kind is None or not value.strip() or _PLACEHOLDER.fullmatch(value):
        return False
    if kind is _PASSWORD:
        return True
    if kind is _KEY and " " in value.strip():
        # A header (`Bearer abc`, `a=b; c=d`), not a description.
        return "=" in value or any(map(str.isdigit, value)) and value.count(" ") == 1
    return is_secret_value(kind, value, quoted=True)
