"""Addresses of machines: IPv4, IPv6, MAC."""

# ruff: noqa: PLR2004, E501 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re

from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View
from langchain_mlflow_cost.redaction.re2_search import any_text_of, is_in, text_pattern

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = re.compile(
    rf"(?<![0-9])(?<![0-9]\.)(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9])(?!\.[0-9])(?:/(?:3[0-2]|[12]?[0-9])(?![0-9]))?",
    re.ASCII,
)
# Words right before a number that make it a version whatever it looks like.
_VERSION_WORDS = text_pattern(
    r"(?:(?:version|versions|revision|firmware)|\b(?:ver|v|release|rev|sections?|sect?|chapter|clause|figure|fig|table|oid|"
    r"appendix|paragraph|para|article))(?: number| no| to| from| is|[\"'])*[ .:=#\"'(\[>|\n\t]*$|~>? ?$|[\^§] ?$"
)
_ADDRESS_COMPARED = text_pattern(
    r"(?:\b|_)(?:ip|host|addr(?:ess)?|src|dst|remote|client|peer|ipv4)(?:_?(?:ip|addr|address))? ?[=!]= ?[\"']?$"
)
_COMPARED = text_pattern(r"[=~!<>]= ?[\"']?$")
# Those that stand before an address as well; then it depends on what it looks like.
_MAYBE_VERSION = text_pattern(
    r"(?:\b(?:build|update|upgrade[ds]?|package|driver|bump(?:ed)?|tag|installed|requires?|using|with|from|to|and|nginx|apache|httpd|"
    r"openssl|openssh|php|python|java|jdk|jre|node(?:\.js)?|ruby|perl|mysql|mariadb|postgres(?:ql)?|redis|mongodb?|chrome|"
    r"chromium|firefox|safari|edge|opera|windows|macos|android|ios|linux|kernel|docker|kubernetes|electron|dotnet|cuda|cudnn|"
    r"bios|plugin|sdk|gcc|clang|llvm|cmake|git|curl|wget|vim|elasticsearch|kafka|spark|hadoop|tomcat|jetty|spring|oracle|db2|"
    r"sqlite|zlib|grub|vmware|virtualbox|nvidia|intel|amd|realtek|office|outlook|teams|zoom|slack|jar|lib|library|product|app|"
    r"application|agent|runtime|engine|compiler|toolchain|patch|hotfix|changelog|section|step|item|level)[ .:=#\"'(\[/@,-]*|[a-z]/|[a-z][-._]|!/:)$"
)
_NAMED_VERSION = text_pattern(
    # Of browsers and in changes of what is required: whatever it looks like.
    r"\bbump(?:s|ed)?\b|\b(?:chrome|chromium|crios|edg|edge|firefox|fxios|opr|opera|safari|version|headlesschrome|electron)/$|\.jar!?/:$|@$"
)
_ANY_VERSION = any_text_of(_VERSION_WORDS, _COMPARED, _MAYBE_VERSION, _NAMED_VERSION)
_ADDRESS_WORDS = text_pattern(
    r"\bip|host|addr|src|dst|source|dest|server|client|peer|gateway|dns|subnet|://|\blisten|\bbind|\bping|\bssh\b|router|proxy|lease|route|network|from=|remote|login"
)
_MONEY_BEFORE = text_pattern(r"(?:\b(?:eur|usd|idr|rp|vnd|brl|clp|cop|ars|try|isk|dkk|chf)|[$€£¥₫₩]) ?$")
_MONEY_AFTER = re.compile(
    r"[ ]?(?:,[0-9]{2}\b|(?:EUR|USD|IDR|VND|BRL|CLP|COP|ARS|TRY|ISK|DKK|CHF|€|£|₫)(?![A-Za-z]))", re.ASCII
)
_PORT_AFTER = re.compile(r":[0-9]{2,5}(?![\w.])|[ ]port[ :]?[0-9]", re.ASCII)
# Who came from where.
_CAME_FROM = text_pattern(
    r"\b(?:accepted|attacks?|ban(?:ned)?|block(?:ed)?|connect(?:ed|ion|ions)?|disconnect(?:ed)?|fail(?:ed|ure)|invalid|login|logged|packets?|"
    r"requests?|sessions?|sign(?:ed)?[ -]in|traffic|user)\b.* from ?$"
)
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3}){3}", re.ASCII)
_FILE_AFTER = re.compile(
    r"[.-](?:jar|war|nupkg|dll|exe|msi|zip|tgz|tar|gz|whl|deb|rpm|apk|dmg|pkg|so|egg|gem|crate|vsix|xpi|crx|iso|img|bin|snap|ebuild|pom|min|js|css)\b",
    re.ASCII,
)
_BEFORE_FILE = frozenset(".-")
_HEADING = re.compile(r"\](?:\(|[ ]*-[ ]*(?:[0-9]{4}|unreleased))", re.IGNORECASE | re.ASCII)


def find_ip_addresses(view: View, found: list[Span]) -> None:
    """Find IPv4 and IPv6 addresses, but not what the nearest word makes a version."""
    text = view.ascii
    for start, end in view.runs.dotted:
        for match in IPV4.finditer(text, start, end):
            here, stop = match.span()
            following = text[stop : stop + 2]
            if (
                (here > 0 and text[here - 1] in WORD)
                or (following[:1] in WORD and following)
                or (following[:1] == "-" and following[1:].isalpha())
                or _is_version(view, here, stop)
            ):
                continue
            found.append((here, stop, "IP_ADDRESS"))
            view.because(here, stop, "IPv4 address")
    if b":" in view.bytes:
        _ipv6_addresses(view, found)


def _is_version(view: View, start: int, end: int) -> bool:
    """Say whether four numbers are a version, a section or an amount of money."""
    text = view.ascii
    after = text[end : end + 1]
    if (after in _BEFORE_FILE and _FILE_AFTER.match(text, end)) or (after == "]" and _HEADING.match(text, end)):
        return True
    before = view.before(start, 40)
    if _THOUSANDS.fullmatch(text, start, end) and (_MONEY_AFTER.match(view.text, end) or is_in(_MONEY_BEFORE, before)):
        return True
    # One question for all four where the answer is mostly no.
    if not is_in(_ANY_VERSION, before):
        return False
    if is_in(_VERSION_WORDS, before) or _PORT_AFTER.match(text, end):
        return not _PORT_AFTER.match(text, end)
    line = before[before.rfind(b"\n") + 1 :]
    if is_in(_NAMED_VERSION, line) or (is_in(_COMPARED, line) and not is_in(_ADDRESS_COMPARED, line)):
        return True
    return (
        is_in(_MAYBE_VERSION, line) and not is_in(_CAME_FROM, line) and not _looks_like_address(text[start:end], line)
    )


def _looks_like_address(value: str, before: bytes) -> bool:
    """Say whether four numbers are more likely a machine's: a private range, large numbers, a word that says so."""
    parts = [int(part) for part in value.partition("/")[0].split(".")]
    first, second = parts[:2]
    private = first in {10, 127} or (first, second) in {(192, 168), (169, 254)} or (first == 172 and 16 <= second < 32)
    if "/" in value or private or is_in(_ADDRESS_WORDS, before[-16:]):
        return True
    large = sum(part >= 100 for part in parts)
    return large > 2 or (large == 2 and 0 not in parts[1:3])


_V6_RUN = re.compile(r"[0-9A-Fa-f:.]+", re.ASCII)
_V6_CHARS = "0123456789ABCDEFabcdef:."
_ZONE_AND_PREFIX = re.compile(r"(?:%[A-Za-z0-9_.-]{1,16})?(?:/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])(?![0-9]))?", re.ASCII)
_LONGEST_V6 = 45


def _ipv6_addresses(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = -1
    for start in view.hex_groups:
        if start < done or ":" not in text[start : start + 2]:
            continue
        low = max(done, start - _LONGEST_V6, 0)
        first = low + len(text[low:start].rstrip(_V6_CHARS))
        match = _V6_RUN.match(text, start)
        done = match.end() if match else start + 1
        if done - first > _LONGEST_V6 + 2 or (done - first == 8 and text[first + 2] == text[first + 5] == ":"):
            continue  # far too long, or the time of day
        # A full stop ends the sentence, a colon what the address introduces; `fe80::` ends in two of its own.
        run = text[first:done].rstrip(".")
        if "::" not in run and run.count(":") < 6:
            continue
        run = run.removesuffix(":") if not run.endswith("::") else run
        stop = first + len(run)
        if _is_ipv6(text, first, stop):
            tail = _ZONE_AND_PREFIX.match(text, stop)
            found.append((first, tail.end() if tail else stop, "IP_ADDRESS"))
            view.because(first, found[-1][1], "IPv6 address")


def _is_ipv6(text: str, start: int, end: int) -> bool:
    value = text[start:end]
    before = text[start - 1] if start else " "
    if before in WORD or before in ".-" or (end < len(text) and text[end] in WORD):
        return False
    if value.isalpha() or not _ANY_DIGIT.search(value):
        return False  # dead::beef is C++
    if len(value) < 7 and value != "::1" and value.replace(":", "").isdigit():
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
        if len(groups) > 7:
            return False
    elif len(groups) != 8:
        return False
    return all(0 < len(group) <= 4 for group in groups) and "." not in value


_MAC = re.compile(
    r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}",
    re.ASCII,
)


_MAC_WORDS = text_pattern(r"mac|hardware|physical|ether|\bhw")


_TIME_WORDS = text_pattern(r"\b(?:time|timestamp|date|at|duration|elapsed|clock|utc)\b[ :=]*$")


def find_mac_addresses(view: View, found: list[Span]) -> None:
    """Find six pairs, or three groups of four."""
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
        if before in WORD or before == separator or (after[:1] in WORD and after):
            continue
        if after[:1] == separator and after[1:] in WORD and len(after) > 1 and after[1] in WORD:
            continue
        if (
            separator != ":"
            and value.replace(separator, "").isdigit()
            and not is_in(_MAC_WORDS, view.before(first, 40))
        ):
            continue  # 20-11-12-13-14-15 is a time, 1234.5678.9012 a number
        if separator == ":" and value.replace(":", "").isdigit() and is_in(_TIME_WORDS, view.before(first, 24)):
            continue
        found.append((first, done, "MAC_ADDRESS"))
        view.because(first, done, "MAC address")
