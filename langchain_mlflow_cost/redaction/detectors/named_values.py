"""Credentials that a name announces: `password = x`, `--token x`, `"name": "API_KEY", "value": "x"`, `Password - x`."""

# ruff: noqa: PLR2004, E501, C901, PLR0911, PLR0912 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.detectors.name_patterns import CALLS, CODES, CONNECTIONS, NAME_WORDS, SAYS
from langchain_mlflow_cost.redaction.detectors.secret_names import (
    FILE,
    KEY,
    MAYBE,
    OTHER_PASSWORDS,
    PASSWORD,
    PLACEHOLDER,
    VERBS,
    WEAK,
    Kind,
    is_key,
    is_label,
    is_pass_phrase,
    is_secret_value,
    is_wordy,
    name_kind,
)
from langchain_mlflow_cost.redaction.detectors.view import SHORT_NAME, WORD, Span, View
from langchain_mlflow_cost.redaction.re2_search import spans, text_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

# In other scripts a name is found in the text itself, not in its ASCII view.
_FOREIGN = text_pattern(f"(?:{OTHER_PASSWORDS})")

_NAME_AT = re.compile(rf"(?:--?[a-z0-9_-]*?)?(?:{CODES}|{NAME_WORDS})(?![a-z0-9_]|-[a-z0-9])", re.ASCII | re.IGNORECASE)


def _size_of_name(piece: str) -> int:
    """Say how much of an anchor is the name; 0 if it begins with none."""
    at = _NAME_AT.match(piece)
    return at.end() if at else 0


_name_size = functools.lru_cache(maxsize=4096)(_size_of_name)
_IDENTIFIER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_HOST = _IDENTIFIER + "*"
_WORD_BEFORE = re.compile(r"(?<![\w.-])([A-Za-z][A-Za-z0-9]{1,20})[ ](?:([A-Za-z]{2,12}) )?$", re.ASCII)
# Letters of other scripts and full-width punctuation end what stands without quotes.
_BARE = r"[^\s\"'`,;<>\x1f\u2e80-\uffef]"
_TAIL = (
    r"(?:[A-Za-z_.]{1,40}\([\"']|[bBuUrRfNL@]{1,2}(?=[\"']))?"
    r"(?:\\?(?P<quote>[\"'`])(?:(?P<quoted>(?!(?P=quote))[^\x1f\r\n]{1,500}?)\\?(?P=quote)"
    r"|(?P<long>(?!(?P=quote))[^\s\x1f]{500}))"
    rf"|(?P<bare>{_BARE}{{3,500}}))"
)
_VALUE = re.compile(
    r"(?P<sep>[\"'`\])\\*_~]{0,5}[ \t]{0,12}"
    r"(?:=>\s{1,12}string\([0-9]{1,4}\)|\((?=[\"'])|[?:]{0,3}=(?!=)>?|:{1,3}=?(?!=)|=>|-{1,2}>|\u2192|>|,"
    rf"|(?:{SAYS}|\u00e8|\u00e9|e')(?!\w|::):?(?=[ \t])|-(?=[ \t])|(?=[ \t]))[ \t]{{0,12}}[*_]{{0,3}}[ \t]{{0,2}})"
    + _TAIL,
    re.IGNORECASE,
)
_FOREIGN_VALUE = re.compile(
    r"(?P<sep>[\"'`\])\\*_~]{0,5}[ \t]{0,3}(?:\u9700?\u662f|\u4e3a|\u70ba|\u306f\u3001?|\u306f|\ub294|\uc740|\uc774|\uac00|\u044d\u0442\u043e|"
    r"\u0454|\u05d4\u05d9\u05d0|\u05d4\u05d5\u05d0|\u0647\u064a|[:=\uff1a\uff1d-]|-{1,2}>|\u2192)?[ \t]{0,4}[:\uff1a]?[ \t]{0,4})"
    + _TAIL
)
_PAIR = re.compile(
    r"(?P<sep>[\"'\\]{0,3}(?:[ \t,]{0,8}\r?\n?[ \t,-]{0,40}[\"'\\]{0,3}value[\"'\\]{0,3}[ \t]{0,4}[:=]|</key>[ \t\r\n]{0,40}<string>)[ \t]{0,8})"
    + _TAIL,
    re.ASCII | re.IGNORECASE,
)
# With what these three begin.
_BEFORE_PAIR = frozenset("\"'\\ \t,\r\n-vV<")
_BEFORE_LINE = frozenset(" \t:*_\r\n")
# Routers: the type of the encryption, and what is encrypted.
_NUMBERED = re.compile(r"[ \t](?:7[ \t]([0-9A-F]{6,120})|0[ \t]([^\s\x1f]{4,80}))(?![\w])", re.ASCII)
_TWO = r"[\"'][^\"'\n\x1f]{0,128}[\"'],[ ]*(?P<sep>)(?P<quote>[\"'])(?P<quoted>[^\"'\s\x1f]{4,200})(?P=quote)"
_FIRST = r"(?:[\"'][^\"'\n\x1f]{0,200}[\"']|[\w.$>\[\]-]{1,80}),[ ]*"
_CALL = re.compile(
    rf"(?:(?:{'|'.join(CALLS)})\(|(?:{'|'.join(CONNECTIONS)})\({_FIRST}){_TWO}",
    re.ASCII | re.IGNORECASE,
)
_PAIR_OF_AUTH = re.compile(rf"[ ]?=[ ]?\({_TWO}", re.ASCII)
_NEXT_LINE = re.compile(
    rf"(?P<sep>[ \t:*_]{{0,8}}\r?\n[ \t]{{0,40}})(?P<bare>{_BARE}{{4,200}})(?=[ \t]*(?:\r?\n|\x1f|\Z))", re.IGNORECASE
)
_BLOCK = re.compile(rf"(?P<sep>:[ \t]*[|>][+-]?[ \t]*\r?\n[ \t]+)(?P<bare>{_BARE}{{4,500}})")
_JUST_BESIDE = re.compile(r"(?P<sep>[ \t]{1,8})" + _TAIL, re.ASCII)
_IDENTIFIED = re.compile(
    r"(?i:identified[ \t\r\n]{1,20}(?:with[ \t]{1,4}\S{1,60}[ \t]{1,4})?by[ \t]{1,4}(?:password[ \t]{1,4})?)(?P<sep>)"
    + _TAIL,
    re.ASCII,
)
_PARAMETER = re.compile(r"[?&](?P<name>[\w.%-]{1,80})=(?P<bare>[^&#\s\"'`<>\x1f,;]{3,2000})", re.ASCII)
_PGPASS = re.compile(
    r"[\w.*-]{1,253}:(?:[0-9]{3,5}|\*):[\w.*-]{1,63}:[\w.*-]{1,63}:([^\s:\x1f]{4,200})(?=\s|\x1f|\Z)", re.ASCII
)
_HAS_SYMBOL = re.compile(r"[!#$%^&*+=@~]", re.ASCII)
_YOUR_CODE = re.compile(r"([0-9]{4,8}|[0-9]{3}[- ][0-9]{3}|[A-Z0-9-]{6,10})(?=[\"'*]{0,3} (?:is|-) your )", re.ASCII)
_USER_AND = re.compile(
    r"[\w\"' ]{4,16}?[:=][ \t]{0,4}[^\s/:@\x1f]{1,64}(?P<sep>[ \t]{0,4}/[ \t]{0,4})(?P<bare>[^\s\"'`,;<>/\x1f]{5,80})",
    re.ASCII,
)
_PHRASE = re.compile(r"[^\w\n]{1,6}(?:(?:is|are|was)[: ]+)?((?:[a-z]{3,8}[ \n]){11,23}[a-z]{3,8})\b", re.ASCII)
_CODE_AT = re.compile(rf"{CODES}|otp|totp|pin", re.IGNORECASE | re.ASCII)
_CODE_VALUE = re.compile(
    r"[\"'`\])*]{0,3}[ \t]{0,4}(?:(?:is|was|:|=|#|->|-)[ \t]{0,4})?[\"'`*]{0,3}([0-9]{4,8}|[0-9]{3}[- ][0-9]{3})(?![\w.:/-]?\d|[A-Za-z_])",
    re.ASCII,
)
# Whether a value is a secret is judged by its first 500 characters, so that a hostile text takes no longer; where it
# ends is looked for once it is found, and the search for the next name goes on behind it.
_JUDGED_CHARS = 500
_REST = re.compile(rf"{_BARE}*")
_QUOTED_REST = {quote: re.compile(rf"[^\s\x1f{quote}]*", re.ASCII) for quote in "\"'`"}
_TRAILING = ".,:;!?)}]*|"
_HAS_BOTH = re.compile(r"(?=[^0-9]*[0-9])[^A-Za-z]*[A-Za-z]", re.ASCII)
# Where one thing ends and the next begins, though nothing stands between: a form's `&b=`, a line's end in an escaped text.
_ENDS = re.compile(r"&(?:amp;)?[A-Za-z_][\w.%-]{0,40}=|\\[nrt]|\}\}|\)\s*$", re.ASCII)


def find_named_values(view: View, found: list[Span]) -> None:
    """Find what a name announces, wherever the value stands."""
    taken = sorted((start, end) for start, end, _ in found) if view.names else []
    done = number = 0
    for start, anchor_end in view.names:
        if start < done:
            continue
        while number < len(taken) and taken[number][1] <= start:
            number += 1
        if number < len(taken) and start < taken[number][0] <= anchor_end + 2:
            done = taken[number][
                1
            ]  # a key that its shape has told stands right behind its name: nothing is left to judge
            continue
        for one in _at(view, start, anchor_end):
            while number < len(taken) and taken[number][1] <= one[0]:
                number += 1
            # What a URL's rule or a shape has found is not found again, with more of what stands around it.
            if number < len(taken) and taken[number][0] < one[1]:
                done = max(done, taken[number][1])
                continue
            found.append(one)
            done = max(done, one[1])


def _at(view: View, start: int, anchor_end: int) -> Iterator[Span]:
    """Try the forms that a name and its value have, at an anchor."""
    text = view.ascii
    first = text[start]
    if first == "_":
        start -= bool(start)
        first = text[start]
    if first in "?&" and view.text[start] == first:
        one = _parameter(view, start)
    elif first in "iI" and text[start + 1] in "dD":
        match = _IDENTIFIED.match(text, start)
        one = _value(view, match, PASSWORD, "identified by", strong=True) if match else None
    elif first == ":":
        one = _password_file(view, start)
    elif first.isdigit() and text[start + 1] not in "_fF":
        one = _your_code(view, start)
    else:
        one = _named(view, start, anchor_end) or _authorization(view, start)
    if one is None:
        return
    view.because(one[0], one[1], one[3])
    yield one[:3]


_Found = tuple[int, int, str, str]


def _named(view: View, start: int, anchor_end: int) -> _Found | None:
    """Find the value behind a name such as `db_password =`."""
    text = view.ascii
    size = (
        _name_size(text[start:anchor_end])
        if anchor_end - start <= SHORT_NAME
        else _size_of_name(text[start:anchor_end])
    )
    if not size:
        match = _NETRC.match(text, start)
        if match and b"machine" in view.before(start, 80):
            return _value(view, match, PASSWORD, "netrc")
        match = _CALL.match(text, start)
        if match:
            return _value(view, match, PASSWORD, "second argument of a login", strong=True)
        inside = text[start:anchor_end].lower().rfind("password")
        if inside > 0:
            return _named(view, start + inside, anchor_end)  # LOGIN ENCRYPTED PASSWORD '...'
        match = _USER_AND.match(text, start)
        if match and _is_spoken_password(match["bare"].rstrip(_TRAILING)):
            return _value(view, match, PASSWORD, "user / password", strong=True)
        return None
    low = max(0, start - 48)
    first = low + len(text[low:start].rstrip(_IDENTIFIER)) if text[start] != "-" else start
    name_end = start + size
    name = view.text[first:name_end]
    kind = name_kind(name)
    if kind is None or kind is MAYBE:
        # "API key", "Access token": the words before it say more.
        is_after_word = text[first - 1 : first] == " " and text[first - 2 : first - 1].isalnum()
        words = _WORD_BEFORE.search(text, max(0, first - 36), first) if is_after_word else None
        if words:
            longer = name_kind(f"{words[1]} {words[2] or ''} {name}")
            # `tool --token x` says no more than `--token x`, and is no option's name.
            if longer is not None and longer is not PASSWORD and not (longer is kind and name.startswith("-")):
                kind = longer
                first = words.start()
                name = view.text[first:name_end]
    is_pin = (
        kind is MAYBE
        and name.upper().split()[-1:] == ["PIN"]
        and (text[start:name_end].isupper() or text.startswith(" is ", name_end))
    )
    if (kind is None or is_pin) and (code := _code(view, first, name_end)):
        return code
    if kind is None:
        return None
    if kind is PASSWORD and _CODE_AT.search(name):
        code = _code(view, first, name_end)
        if code:
            return code
    source = view.text
    if kind is PASSWORD and (phrase := _PHRASE.match(source, name_end)) and is_pass_phrase(phrase[1]):
        return (*phrase.span(1), "SECRET", f"phrase after the name {name!r}")
    if name.lower().endswith("auth") and (match := _PAIR_OF_AUTH.match(text, name_end)):
        return _value(view, match, PASSWORD, name, strong=True)
    if kind is PASSWORD and (match := _NUMBERED.match(text, name_end)):
        return (*match.span(match.lastindex or 0), "SECRET", f"value of the name {name!r}, by its type")
    behind = source[name_end : name_end + 1]
    match = _PAIR.match(source, name_end) if behind in _BEFORE_PAIR else None
    if match:
        return _value(view, match, kind, name, strong=True)
    match = _VALUE.match(source, name_end)
    if match:
        one = _assigned(view, match, kind, name)
        if one:
            return one
    if behind not in _BEFORE_LINE or (kind is not PASSWORD and kind is not KEY):
        return None
    match = _BLOCK.match(source, name_end) or _NEXT_LINE.match(source, name_end)
    if match:
        return _beside(view, match, kind, name, first)
    return None


def _password_file(view: View, colon: int) -> _Found | None:
    """Find the last field of a line of `.pgpass`, from the colon behind its first."""
    text = view.ascii
    low = max(0, colon - 253)
    first = low + len(text[low:colon].rstrip(_HOST))
    line = _PGPASS.match(text, first) if not first or text[first - 1] in "\n\x1f" else None
    if not line or first == colon:
        return None
    value = line[1]
    good = (_is_spoken_password(value) or _HAS_SYMBOL.search(value)) and not PLACEHOLDER.fullmatch(value)
    return (*line.span(1), "SECRET", "line of a password file") if good else None


# Spanish for keyword.
_KEYWORDS = (b"palabra clave", b"palabras clave")
_LONGEST_PHRASE = len(_KEYWORDS[1])


def _assigned(view: View, match: re.Match[str], kind: Kind, name: str) -> _Found | None:
    separator = match["sep"].strip(" \t\"'`])\\*_~")
    quoted = match["quoted"] or match["long"]
    is_option = name.startswith("-")
    if is_option and not name.startswith("--") and not separator:
        is_option = kind is PASSWORD  # -storepass x, -password x
    if not separator and not is_option:
        return _beside_name(view, match, kind, name)
    if kind is WEAK and view.before(match.start(), _LONGEST_PHRASE).endswith(_KEYWORDS):
        return None
    if separator == "," and (quoted is None or not any(map(str.isdigit, quoted))):
        return None  # getenv("API_TOKEN", "a1b2...")
    value = match["bare"].rstrip(_TRAILING) if quoted is None else quoted
    if VERBS.fullmatch(name) and not _HAS_BOTH.match(value):
        return None
    if (
        kind is MAYBE
        and name.strip("-").rpartition("_")[2].lower() != "key"
        and (is_option or (name.isupper() and separator == "="))
    ):
        kind = KEY  # --token x, TOKEN=x: nobody's hash or id
    if separator == "(":
        # An argument: `setPassword("...")`, and not the name of a field, a text or a path.
        good = (
            _is_spoken_password(value)
            if kind is PASSWORD
            else len(value) >= 16 and kind is KEY and _HAS_BOTH.match(value)
        )
        if not good or is_label(value):
            return None
    spoken = separator[:1].isalpha() or separator[:1] in {"-", "\u2192"}
    return _value(view, match, kind, name, spoken=spoken, separator=separator)


def _value(
    view: View,
    match: re.Match[str],
    kind: Kind,
    name: str,
    *,
    strong: bool = False,
    spoken: bool = False,
    separator: str = "=",
) -> _Found | None:
    """Judge a value that is found, and give where it stands."""
    parts = match.groupdict()
    quoted = parts.get("quoted") or parts.get("long")
    value = match["bare"].rstrip(_TRAILING) if quoted is None else quoted
    end = _ENDS.search(value) if quoted is None else None
    if end:
        value = value[: end.start()].rstrip(_TRAILING)
    good = bool(value) and is_secret_value(
        kind, value, quoted=quoted is not None, spoken=spoken, separator="=" if strong else separator
    )
    if not good and not (kind is PASSWORD and not spoken and value and _is_configuration(view, match, value)):
        return None
    rule = f"value of the name {name!r}"
    if end:
        return match.start("bare"), match.start("bare") + len(value), "SECRET", rule
    return (*_whole_value(view.text, match, value), "SECRET", rule)


_CONFIG_LINE = re.compile(r"(?:[ \t]*(?:- )?[\w.-]{1,60}:(?:[ \t]+[^\n]*)?|[ \t]*(?:#[^\n]*)?|---)\Z", re.ASCII)
_WORD_VALUE = re.compile(r"[A-Za-z][\w.-]{3,60}", re.ASCII)
_STATES = re.compile(
    r"(?:required?|enabled?|disabled?|strong|weak|invalid|valid|expired?|incorrect|correct|wrong|unset|changed?|missing|"
    r"optional|never|always|string|text|input|field|hidden|visible|reset|forgot(?:ten)?|login|encrypted|hashed|plain|"
    r"bcrypt|argon2|sha256|scram|trust|peer|ident|prompt|none|null|true|false|yes|no|on|off|auto|default|boolean|number|"
    r"confirm|confirmed|min|max|unique|sensitive|writeonly|readonly|varchar|char|secretkeyref|valuefrom|vault|keychain)",
    re.IGNORECASE,
)


def _is_configuration(view: View, match: re.Match[str], value: str) -> bool:
    """Say whether a word is a password because of the lines around it: in YAML, in XML, and not in a catalogue of texts."""
    if not _WORD_VALUE.fullmatch(value) or _STATES.fullmatch(value) or PLACEHOLDER.fullmatch(value):
        return False
    if name_kind(value) is not None or is_label(value):
        return False  # password: Passwort
    above = view.text[max(0, match.start() - 400) : match.start()].rpartition("\x1f")[2].split("\n")
    below = view.text[match.end() : match.end() + 500].partition("\x1f")[0].split("\n")
    separator = match["sep"].strip()
    if separator == ">":
        return below[0].startswith("</")
    if separator != ":" or match["quote"] or below[0].strip() or value[0].isupper() or not _FIELD.fullmatch(above[-1]):
        return False
    before = above[-2] if len(above) > 1 else ""
    after = below[1] if len(below) > 1 else ""
    if not after.strip():
        # The end of an example in a text goes on with sentences.
        after = next((line for line in below[1:] if line.strip()), "")
        if after and not before.strip():
            return False
    return bool(before.strip() or after.strip()) and all(_CONFIG_LINE.fullmatch(line) for line in (before, after))


_FIELD = re.compile(r"[ \t]*(?:- )?[\w.-]+", re.ASCII)


def _is_spoken_password(value: str) -> bool:
    """Say whether a word in a sentence is a password: `Zx8fz27k`, not `sha256`, `v2` or `field2`."""
    if len(value) < 6 or PLACEHOLDER.fullmatch(value) or FILE.fullmatch(value) or not _HAS_BOTH.match(value):
        return False
    symbols = any(not one.isalnum() and one not in "_-./" for one in value)
    mixed = any(map(str.isupper, value)) and any(map(str.islower, value))
    return (symbols or mixed) and not (is_wordy(value) and not symbols) and "(" not in value and "=" not in value


def _beside_name(view: View, match: re.Match[str], kind: Kind, name: str) -> _Found | None:
    """Take what follows a name with nothing between: in SQL, in chats, in the configuration of servers."""
    quoted = match["quoted"]
    value = quoted if quoted is not None else (match["bare"] or "").rstrip(_TRAILING)
    if kind is PASSWORD and not VERBS.fullmatch(name):
        good = quoted is not None and is_secret_value(PASSWORD, value, quoted=True, spoken=False) and " " not in value
        if good or _is_spoken_password(value) or (name.lower() in {"requirepass", "masterauth"} and len(value) > 3):
            return (*_whole_value(view.text, match, value), "SECRET", f"value beside the name {name!r}")
        return None
    if (
        kind is KEY
        and ("_" in name or " " in name)
        and len(value) >= 20
        and is_key(KEY, value)
        and _HAS_BOTH.match(value)
        and not is_wordy(value)
    ):
        return (*_whole_value(view.text, match, value), "SECRET", f"value beside the name {name!r}")
    return None


_NETRC = re.compile(r"login[ \t]+[^\s\x1f]{1,64}[ \t]+password(?P<sep>[ \t]+)(?P<bare>[^\s\x1f]{3,200})", re.ASCII)


def _beside(view: View, match: re.Match[str], kind: Kind, name: str, first: int) -> _Found | None:
    """Take the line below a name that has a line of its own."""
    line = view.text[max(0, first - 60) : first].rpartition("\x1f")[2].rpartition("\n")[2]
    if line.strip(" \t*#>-|:"):
        return None
    value = match["bare"].rstrip(_TRAILING)
    if kind is PASSWORD:
        good = _is_spoken_password(value) or (
            match["sep"].lstrip().startswith(":") and "|" in match["sep"] and len(value) > 3
        )
    else:
        good = len(value) >= 16 and is_key(KEY, value, spoken=True) and not is_wordy(value)
    if not good:
        return None
    return match.start("bare"), match.start("bare") + len(value), "SECRET", f"line below the name {name!r}"


def _whole_value(text: str, match: re.Match[str], value: str) -> tuple[int, int]:
    """Where a value stands that was judged by its beginning."""
    parts = match.groupdict()
    if parts.get("long") is not None:
        rest = _QUOTED_REST[match.group("quote")].match(text, match.end())
        assert rest is not None
        return match.start("long"), rest.end() - text.endswith("\\", match.end(), rest.end())
    if parts.get("quoted") is not None:
        return match.span("quoted")
    begin, end = match.span("bare")
    if end - begin < _JUDGED_CHARS:
        return begin, begin + len(value)
    rest = _REST.match(text, end)
    assert rest is not None
    whole = text[begin : rest.end()]
    cut = _ENDS.search(whole)
    return begin, begin + len((whole[: cut.start()] if cut else whole).rstrip(_TRAILING))


_PARAMETER_NAMES = re.compile(
    r"(?:.*[_.-])?(?:sig|signature|code|key|token|secret|password|passwd|pwd|auth|jwt|sid|session|otp|ticket|assertion|hmac|"
    r"samlresponse|credential)s?",
    re.IGNORECASE,
)
_IS_CODE = re.compile(r"(?:.*[_.-])?(?:code|key|sid|session|ticket|auth|token)", re.IGNORECASE)


def _parameter(view: View, start: int) -> _Found | None:
    """Find what a parameter of a URL or a form gives away."""
    match = _PARAMETER.match(view.ascii, start)
    if not match:
        return None
    name, value = match["name"], match["bare"]
    kind = name_kind(name)
    bare = value.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=")
    if kind is PASSWORD and not name.lower().endswith(("code", "codes")):
        good = not PLACEHOLDER.fullmatch(value)
    elif not _PARAMETER_NAMES.fullmatch(name) and kind is None:
        return None
    elif name.lower().endswith(("sig", "signature", "hmac", "samlresponse", "credential")):
        good = (
            len(bare) >= 16 and any(map(str.isdigit, bare)) and not is_wordy(bare) and not PLACEHOLDER.fullmatch(bare)
        )
    elif kind is KEY or kind is None or kind is MAYBE or _IS_CODE.fullmatch(name):
        strong = kind is KEY
        good = len(bare) >= (8 if strong else 16) and is_key(
            KEY if strong or not name.lower().endswith("key") else MAYBE, bare.rstrip("=")
        )
        good = good and not PLACEHOLDER.fullmatch(bare) and (strong or not is_wordy(bare))
        good = good or (len(bare) >= 16 and bare.startswith("4/"))
    else:
        good = is_secret_value(kind, bare, quoted=True)
    if not good:
        return None
    end = match.start("bare") + len(value.rstrip(".):*]|}"))
    return match.start("bare"), end, "SECRET", f"parameter {name!r} of a URL"


def _code(view: View, first: int, name_end: int) -> _Found | None:
    """Find the digits that a service sends to say who one is."""
    name = _CODE_AT.search(view.ascii, first, name_end)
    match = _CODE_VALUE.match(view.ascii, name_end) if name else None
    if not name or not match:
        return None
    return (*match.span(1), "SECRET", f"code after {name[0]!r}")


def _your_code(view: View, start: int) -> _Found | None:
    """Find `482913 is your verification code`."""
    low = max(0, start - 9)
    piece = view.ascii[low : start + 1]
    first = low + max(piece.rfind(one) for one in " \n\x1f:\"'*(") + 1
    if view.ascii.startswith("G-", first):
        first += 2
    match = _YOUR_CODE.match(view.ascii, first)
    return (*match.span(1), "SECRET", "code before 'is your'") if match else None


_SCHEMES = frozenset("abdstABDST")
_AUTHORIZATION = re.compile(r"(?i:bearer|basic|token|digest|apikey|ssws) +([A-Za-z0-9+/_.~-]{12,}=*)", re.ASCII)


def _authorization(view: View, start: int) -> _Found | None:
    """Find what follows `Bearer` and the like, with or without the name of the header."""
    text = view.ascii
    match = _AUTHORIZATION.match(text, start) if text[start] in _SCHEMES else None
    if not match or (start > 0 and (text[start - 1] in WORD or text[start - 1] in "-./")):
        return None
    value = match.group(1).rstrip(".")
    if any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and is_secret_value(KEY, value, quoted=True):
        return match.start(1), match.start(1) + len(value), "SECRET", "authorization scheme"
    return None


def find_foreign_names(view: View, found: list[Span]) -> None:
    """Find values behind words for "password" in scripts that the ASCII view does not have."""
    data = view.text.encode(errors="replace")
    position = last = 0
    for _, end in spans(_FOREIGN, data):
        position += len(data[last:end].decode())
        last = end
        match = _FOREIGN_VALUE.match(view.text, position)
        if not match:
            continue
        value = match["quoted"] or (match["bare"] or "").rstrip(_TRAILING)
        separator = match["sep"].strip(" \t\"'`])\\*_~")
        good = (
            is_secret_value(PASSWORD, value, quoted=match["quoted"] is not None, spoken=True)
            if separator
            else _is_spoken_password(value)
        )
        if value and good:
            first, stop = _whole_value(view.text, match, value)
            found.append((first, stop, "SECRET"))
            view.because(first, stop, "value of a name in another script")
