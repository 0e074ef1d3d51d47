"""Credentials: by their shape, by where they stand (URLs, headers), by the name that announces them."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import functools
import math
import re
import string
from collections import Counter
from typing import NamedTuple

from langchain_mlflow_cost.redaction.detectors.secret_formats import FORMATS, Format
from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View, positions
from langchain_mlflow_cost.redaction.re2_search import byte_pattern, is_in, spans

FORMAT_ANCHORS = byte_pattern("|".join(f"(?:{format_.anchor})" for format_ in FORMATS))


_LITERAL_START = re.compile(r"(?:\\b)?+\\?([A-Za-z0-9_/.])\\?([A-Za-z0-9_/.-])(?![{?*+])", re.ASCII)


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
# Spelled out: RE2 has no back-references, and with them `re` takes five times as long.
_PLACEHOLDER_RUN = byte_pattern(
    "|".join(rf"\x{ord(character):02x}{{8}}" for character in string.ascii_letters + "#*")
    + "|"
    + "|".join(f"{digit}{{16}}" for digit in string.digits)
    + r"|(?i:xxxx|your[-_ ]|<|\.\.\.)"
)


def find_secrets(view: View, found: list[Span]) -> None:
    """Find credentials in all the ways that there are."""
    if not view.is_plain:
        _provider_keys(view, found)
    if b"-----BEGIN " in view.bytes:
        _pem_blocks(view, found)
    if b"@" in view.bytes and b"://" in view.bytes:
        _url_passwords(view, found)
    if not view.is_plain:
        _named_values(view, found)


def _provider_keys(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = 0
    for start, _ in spans(FORMAT_ANCHORS, view.bytes):
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
                and not (first > 0 and text[first - 1] in WORD and text[first] in WORD)
                and not _is_placeholder_key(match.group())
            ):
                found.append((first, match.end(), "SECRET"))
                done = match.end()
                break


def _is_placeholder_key(value: str) -> bool:
    return is_in(_PLACEHOLDER_RUN, value.encode()) or len(set(value[4:])) < 6


def _pem_blocks(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = -1
    for start in positions(view.bytes, b"-----BEGIN "):
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
        found.append((start, done, "SECRET"))


_URL_USER = re.compile(r"://[^\s/?#@:\"'<>\x1f]{0,128}:([^\s/?#\"'<>\x1f]{1,256})@", re.ASCII)
_VARIABLE = re.compile(r"\$\{?\w|<|\{\{?|%\(|\*{3}|\[|x{3}", re.ASCII)


def _url_passwords(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = -1
    for start in positions(view.bytes, b"://"):
        if start < done:
            continue
        match = _URL_USER.match(text, start)
        if match:
            done = match.end()
            if not _VARIABLE.match(match.group(1)):
                found.append((*match.span(1), "SECRET"))


_WORDS_FOR_SECRETS = (
    r"(?:pass(?:word|wd|phrase|code|wort)?s?|pwd|pw|secrets?|token|keys?|auth(?:orization)?|credentials?|cookie|"
    r"contrase.a|senha|kennwort|jwt|bearer|pin)[0-9]{0,2}"
)
_SCHEME = r"(?:bearer|basic|token|digest|apikey)[ ]+[A-Za-z0-9+/_.~-]{12}"
NAMED = byte_pattern(
    rf"(?i){_WORDS_FOR_SECRETS}(?:[\"'`\])\\]{{0,3}}[ \t]*(?:[:=>?]|\bis\b)|[\"'][ ]*,)"
    rf"|--[a-z0-9_-]*{_WORDS_FOR_SECRETS}[ =]"
    rf"|\b{_SCHEME}"
)
_NAME_END = re.compile(r"(?:--[a-z0-9_-]*)?[A-Za-z0-9_.\-]+", re.ASCII | re.IGNORECASE)
_IDENTIFIER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_VALUE = re.compile(
    r"(?P<sep>[\"'`\])\\]{0,3}[ \t]{0,12}"
    r"(?:[?:]{0,3}=(?!=)>?|:{1,3}=?(?!=)|=>|>|,|\bis:?(?=[ \t])|(?=[ \t]))[ \t]{0,12})"
    r"(?:[A-Za-z_.]{1,40}\([\"'])?"
    r"(?:\\?(?P<quote>[\"'`])(?:(?P<quoted>(?!(?P=quote))[^\x1f\r\n]{1,500}?)\\?(?P=quote)"
    r"|(?P<long>(?!(?P=quote))[^\s\x1f]{500}))"
    r"|(?P<bare>[^\s\"'`,;<>\x1f]{3,500}))",
    re.ASCII,
)
# Whether a value is a secret is judged by its first 500 characters, so that a hostile text takes no longer; where it
# ends is looked for once it is found, and the search for the next name goes on behind it.
_REST = re.compile(r"[^\s\"'`,;<>\x1f]*", re.ASCII)
_QUOTED_REST = {quote: re.compile(rf"[^\s\x1f{quote}]*", re.ASCII) for quote in "\"'`"}


def _named_values(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = 0
    for start, anchor_end in spans(NAMED, view.bytes):
        if start >= done:
            one = _named_value(text, start, anchor_end) or _authorization(text, start)
            if one:
                found.append(one)
                done = one[1]


def _named_value(text: str, start: int, anchor_end: int) -> Span | None:
    """Find the value behind a name such as `db_password =`."""
    low = max(0, start - 48)
    first = low + len(text[low:start].rstrip(_IDENTIFIER))
    name_end = _NAME_END.match(text, start, anchor_end)
    name = text[first : name_end.end()] if name_end else ""
    kind = name_kind(name)
    match = _VALUE.match(text, first + len(name)) if kind else None
    if not kind or not match:
        return None
    separator = match.group("sep").strip(" \t\"'`])\\")
    quoted = match.group("quoted") or match.group("long")
    if not separator and not name.startswith("--"):
        return None  # only an option is followed by its value without more: --token abc
    if separator == "," and (quoted is None or not any(map(str.isdigit, quoted))):
        return None  # getenv("API_TOKEN", "a1b2...")
    value = match.group("bare").rstrip(_TRAILING) if quoted is None else quoted
    if _VERBS.fullmatch(name) and not _HAS_BOTH.match(value):
        return None
    if not is_secret_value(
        kind, value, quoted=quoted is not None, spoken=separator.startswith("is"), separator=separator
    ):
        return None
    return (*_whole_value(text, match, value), "SECRET")


_TRAILING = ".,:;!?)}]"


def _whole_value(text: str, match: re.Match[str], value: str) -> tuple[int, int]:
    """Where a value stands that was judged by its beginning."""
    if match.group("long") is not None:
        rest = _QUOTED_REST[match.group("quote")].match(text, match.end())
        assert rest is not None
        return match.start("long"), rest.end() - text.endswith("\\", match.end(), rest.end())
    if match.group("quoted") is not None:
        return match.span("quoted")
    begin, end = match.span("bare")
    if end - begin < _JUDGED_CHARS:
        return begin, begin + len(value)
    rest = _REST.match(text, end)
    assert rest is not None
    return begin, begin + len(text[begin : rest.end()].rstrip(_TRAILING))


_JUDGED_CHARS = 500


_HAS_BOTH = re.compile(r"(?=[^0-9]*[0-9])[^A-Za-z]*[A-Za-z]", re.ASCII)


class Kind(NamedTuple):
    """How much the name of a value says."""

    strength: int
    """3: a password; 2: a key or token of something; 1: a word that is also used for other things."""


PASSWORD, KEY, MAYBE = Kind(3), Kind(2), Kind(1)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_PASSWORD_NAME = re.compile(
    r"(?:^|_|[a-z])(?:password|passwd|passphrase|passwort|contrasena|contrase_a|kennwort|passcode)s?[0-9]{0,2}$"
    r"|(?:^|_)(?:(?:db|my|user|root|admin|smtp|ftp|mail|redis|mysql|pg|postgres|login|auth|ssh|vpn|wifi|proxy|app|rabbitmq|mongo)_?pass"
    r"|pwd|pw|senha|pass)[0-9]{0,2}$|[a-z]pwd$"
)
# Short ones are ordinary words and verbs, too.
_VERBS = re.compile(r"(?:.*_)?(?:pass|pw)[0-9]*", re.IGNORECASE)
_KEY_NAME = re.compile(
    r"(?:api|access|secret|private|encryption|signing|signature|master|account|consumer|app|application|shared|service|"
    r"admin|storage|subscription|licen[cs]e|deploy|webhook|auth|oauth|bearer|refresh|session|id|security|bot|user|"
    r"client|personal|pat|csrf|xsrf|jwt|hmac|aes|rsa|ssh|gpg|iam|cloud|vault|github|gitlab|slack|stripe|openai|"
    r"anthropic|azure|aws|gcp|google|hf)_?(?:key|token|secret)s?[0-9]{0,2}$"
    r"|(?:^|_)(?:(?:proxy_)?authorization|(?:set_)?cookie|jwt|secret_?(?:key|token|value|string)?|bearer|credentials?)"
    r"[0-9]{0,2}$"
)
_MAYBE_NAME = re.compile(r"(?:key|token|secret|auth|pin|credentials?)[0-9]{0,2}$")
_NOT_SECRET_NAME = re.compile(
    r"public|publishable|pub_?key|(?:^|_)(?:max|min|total|num|n|count|input|output|prompt|completion|reasoning|cached?|"
    r"used|remaining|next|page|continuation|sync|cursor|primary|foreign|partition|sort|hash|range|cache|bucket|object|"
    r"schema|sequence|index|idempotency|row|map|dict|column|routing|group|registry|hot|short_?cut|answer|translation|"
    r"i18n|message|event|field|property|lookup|search|config|settings?|state|s3|entry|stop|start|end|bos|eos|pad|unk|"
    r"sep|cls|mask|special|first|last|new|current|prev|previous|word|byte|text|logit)s?_(?:key|token)s?$"
    r"|monkey|turkey|donkey|jockey|whiskey|hockey|keyboard|author$|tokeni[sz]|tokens$"
)


def plain_name(name: str) -> str:
    """Write the name of a field or variable in lower case with `_` between its words."""
    return _NOT_WORD.sub("_", _CAMEL.sub("_", name).lower()).strip("_")


@functools.lru_cache(maxsize=4096)
def name_kind(name: str) -> Kind | None:
    """Say whether the name of a field or variable announces a secret; `total_tokens` and `public_key` do not."""
    plain = plain_name(name)
    if _PASSWORD_NAME.search(plain):
        return PASSWORD
    if _NOT_SECRET_NAME.search(plain):
        return None
    if _KEY_NAME.search(plain):
        return KEY
    if _MAYBE_NAME.search(plain):
        return MAYBE
    return None


PLACEHOLDER = re.compile(
    r"[*.x_?#-]+|<.*|.*\$\{.*|\$.*|%.*|\{.*|\[.*|.*\{\{.*|\*+.*|your[-_ ].*|.*[-_ ]here|example.*|change[-_ ]?me|"
    r"my[-_]?(?:password|secret|token|key)|none|null|nil|true|false|undefined|todo|tbd|redacted|hidden|string|str|text|"
    r"int|bool|any|object|required|optional|env|secret|password|token|key|dummy|placeholder|bearer|basic|n/?a|empty|"
    r"default|value",
    re.IGNORECASE | re.ASCII,
)
_CODE_VALUE = re.compile(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:[(\[].*)?|[A-Za-z_]\w*[(\[].*|.*\)\(.*"
    r"|(?:self|this|os|process|config|settings|env|var|args|request|options|params)[.\[].*"
    r"|`.*|\$\(.*|/[\w./-]*|https?://.*|[A-Za-z_]+(?:Error|Exception)",
    re.ASCII,
)
_NAME_WORDS = re.compile(r"passw|pwd|(?:^|_)pass$|secret|token|api_?key|credential", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", re.ASCII)
_RANDOM = re.compile(r"[A-Za-z0-9+/=_.~:|%@^#!*$&,-]+", re.ASCII)
_SEQUENCE = re.compile(r"0123456789|abcdefghij|ABCDEFGHIJ", re.ASCII)
_FILE = re.compile(
    r".*\.(?:pem|cer|crt|p12|pfx|jks|key|pub|json|ya?ml|txt|html?|png|jpe?g|svg|js|ts|py|java|go|rs|com|org|net|io)"
    r"(?::[0-9]+)?",
    re.IGNORECASE | re.ASCII,
)
_WORDS = re.compile(
    r"(?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,4}|v[0-9]+)(?:[-_.:/](?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,10}|v[0-9]+))+"
    r"|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+[0-9]{0,2}",
    re.ASCII,
)


def is_secret_value(kind: Kind, value: str, *, quoted: bool, spoken: bool = False, separator: str = "=") -> bool:
    """Tell a secret from a placeholder, a piece of code or a word of a sentence."""
    if PLACEHOLDER.fullmatch(value) or PLACEHOLDER.fullmatch(value.strip("`*_'\"")):
        return False
    if not quoted and _CODE_VALUE.fullmatch(value):
        return False
    if kind is PASSWORD:
        return _is_password(value, quoted=quoted, weak=spoken or (not quoted and separator != "="))
    return _is_key(kind, value, quoted=quoted, spoken=spoken)


def _is_password(value: str, *, quoted: bool, weak: bool) -> bool:
    has_digit = any(map(str.isdigit, value))
    if len(value) < 4 or value[0] in "/@" or (" " in value.strip() and not (quoted and has_digit)):
        return False
    if has_digit or any(not character.isalnum() and character not in "_-." for character in value):
        return True
    if _NAME_WORDS.search(value):
        return False  # password = user_password
    if weak:
        # "password: required" is a sentence's word, "password is openSesame" is not.
        return any(map(str.isupper, value[1:])) and any(map(str.islower, value)) and not _WORDS.fullmatch(value)
    return len(value) >= 5


def _is_key(kind: Kind, value: str, *, quoted: bool, spoken: bool) -> bool:
    if _UUID.fullmatch(value):
        return kind is KEY or quoted
    if len(value) < (8 if kind is KEY else 16) or not _RANDOM.fullmatch(value) or (spoken and kind is MAYBE):
        return False
    if _SEQUENCE.search(value) or _FILE.fullmatch(value) or _WORDS.fullmatch(value):
        return False
    if is_in(_PLACEHOLDER_RUN, value.encode()):
        return False
    if not any(map(str.isdigit, value)):
        return len(value) >= 20 and entropy(value) > 4
    return entropy(value) >= (2.8 if kind is KEY else 3.2)


def entropy(value: str) -> float:
    """Give the bits that a character carries, by how often each occurs."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values()) if size else 0.0


_AUTHORIZATION = re.compile(r"(?i:bearer|basic|token|digest|apikey) +([A-Za-z0-9+/_.~-]{12,}=*)", re.ASCII)


def _authorization(text: str, start: int) -> Span | None:
    """Find what follows `Bearer` and the like, with or without the name of the header."""
    match = _AUTHORIZATION.match(text, start)
    if not match or (start > 0 and text[start - 1] in WORD):
        return None
    value = match.group(1).rstrip(".")
    if any(map(str.isdigit, value)) and is_secret_value(KEY, value, quoted=True):
        return match.start(1), match.start(1) + len(value), "SECRET"
    return None
