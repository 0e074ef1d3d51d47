"""E-mail addresses: a local part, an at sign, a domain whose top level exists."""

# ruff: noqa: PLR2004, E501 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.detectors.data.tlds import TLDS

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.detectors.view import Span, View

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


def find_emails(view: View, found: list[Span]) -> None:
    """Find addresses, from the at signs outwards."""
    done = -1
    secrets = {end for _, end, entity in found if entity == "SECRET"} if found else ()
    for at in view.at_signs:
        if at < done or at in secrets:
            continue  # the second: user:password@host
        after = at + (1 if view.ascii[at] == "@" else 3)
        end = _domain_end(view, after)
        if end < 0:
            continue
        start = _local_start(view, at, max(done, 0), encoded=after - at > 1)
        if start < 0:
            continue
        if view.ascii.startswith("'", end) and (quote := view.ascii.find("'", start, at)) >= 0:
            start = quote + 1  # b'bob@example.com'
            if start == at:
                continue
        if view.ascii.startswith(("x-oauth-basic@", "x-token-auth@", "x-access-token@", "oauth2@"), start):
            continue  # https://token:x-oauth-basic@github.com
        if view.ascii.startswith("git@", start) and (
            view.ascii.startswith(":", end) or view.ascii.endswith("://", 0, start)
        ):
            continue  # git@github.com:owner/name is an address of no person
        if view.ascii.endswith("://", 0, start) and not view.ascii.endswith("mailto://", 0, start):
            continue  # https://bob@example.com: a name at a machine
        found.append((start, end, "EMAIL_ADDRESS"))
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
        if start == at:
            start = _cjk_local_start(view.text, at, low)
    while start < at and view.text[start] in _LOCAL_EDGE:
        start += 1
    return start if start < at else -1


_LONGEST_CJK = 8


def _cjk_local_start(text: str, at: int, low: int) -> int:
    """Take the Chinese, Japanese or Korean word right before the at sign: a name of one's own, or the end of a sentence."""
    first = at
    while first > max(low, at - _LONGEST_CJK) and text[first - 1] >= _FIRST_CJK and text[first - 1].isalnum():
        first -= 1
    return first


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


@functools.lru_cache(maxsize=4096)
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
    return 0 < len(label) <= 63 and label[0] != "-" and label[-1] != "-"


def _is_code(view: View, start: int, end: int) -> bool:
    """Tell `query@key.to(device)` and `a@b.T` from an address."""
    name, _, tld = view.ascii[start:end].rpartition(".")
    following = view.ascii[end : end + 1]
    if following in {"(", "[", "_"} and (tld.lower() in _CODE_TLDS or len(name) < 3):
        return True
    return tld.lower() in _CODE_TLDS and len(name) == 1
