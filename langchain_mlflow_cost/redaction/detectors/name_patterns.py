"""Where a name that announces a credential may be, in RE2's syntax: one pattern for one pass over a text."""

# ruff: noqa: E501 - a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.detectors.secret_names import LATIN_PASSWORDS
from langchain_mlflow_cost.redaction.detectors.tables import CELL_END, CELL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

# As the ASCII view has them: a `?` is a letter that it has not.
_PASSWORDS = [
    *(re.sub(r"[^\x00-\x7f]", "", word) for word in LATIN_PASSWORDS.split("|") if not word.startswith("[")),
    "sifre",
    r"\?ifre",
]
_CODE_WORDS = (
    "2fa", "access", "activation", "auth(?:entication|orization)?", "backup", "log[ -]in", "login", "mfa", "one[ _-]?time",
    "otp", "pairing", "recovery", "security", "sign[ -]?in", "sms", "two[ _-]?factor", "unlock", "verification",
)  # fmt: skip
_CODE = "[ _-]?(?:pass)?codes?"
CODES = rf"(?:{'|'.join(_CODE_WORDS)}){_CODE}"
_MORE_NAMES = (
    "_session", "assertion", "auth(?:orization)?", "bearer", "conn(?:ection)?[ _]?str(?:ing)?s?", r"connect\.sid", "cookies?",
    "credentials?", "cvc2?", "cvn", "cvv2?", "dockerconfigjson", "dsn", "hmac", "jwt", "key[_-]data", "masterauth", "mdp",
    "mnemonic(?:[ _]phrase)?", "otp", "pass", "pat", "pin", "psk", "pw", "requirepass", "samlresponse", "sas",
    "clave", "backup[ _-]?(?:phrase|words)", "recovery[ _-]?(?:phrase|words)", "secret[ _-]?(?:phrase|words)", "seed[ _-]?(?:phrase|words)",
    "sess(?:ion)?_?id", "webhook(?:[ _]ur[il])?", "wpa",
)  # fmt: skip
NAME_WORDS = rf"(?:(?:{'|'.join(_PASSWORDS)})s?|pwd|keys?|secrets?|token|[a-z0-9]_session|{'|'.join(_MORE_NAMES[1:])})[0-9]{{0,2}}"
_PARAMETERS = r"[?&][a-z0-9_.%-]*(?:assertion|auth|code|credential|hmac|jwt|key|otp|passwd|password|pwd|samlresponse|secret|session|sid|sig|signature|ticket|token)s?="
# What takes a user's name and a password, in this order.
CALLS = ("basicauth", "basic_auth", "httpbasicauth", "login", "networkcredential", "usernamepasswordcredentials")
# What takes a place before them.
CONNECTIONS = ("getconnection", "mysqli", "mysqli_connect", "mysqli_real_connect", "mysql_connect", "pdo")
_CLOSING = r"[\"'`\])\\*_~]*"
SAYS = r"(?:adalah|are|est?|is|ist|je|jest|lauten|lautet|sera|to|was)"
# A value that is spoken of has something that words have not.
_ODD = r"(?:[\"'`]|[^\s\x1f]*(?-i:[^a-z\s.,;:!?()\x1f-]))"
_THEN = (
    rf"[0-9]{{0,2}}(?:{_CLOSING}[ \t]*(?:[:=>?]|->|\b{SAYS}\b:?[ \t]+{_ODD})|[ \t]+-+>?[ \t]+{_ODD}|[\"'][ ]*,|\([\"']"
    # The value beside the name: XML, environments of Kubernetes, forms; property lists.
    r"|[\"'\\]*[ \t,]*\r?\n?[ \t,-]*[\"'\\]*value[\"'\\]*[ \t]*[:=]|</key>\s*<string>)"
)
_BELOW = r"[ \t:*_]*\r?\n[ \t]*[^\s\x1f(]*[0-9][^\s\x1f(]*[ \t]*(?:[\r\n\x1f]|$)"


def _any_of(*rows: tuple[Iterable[str], str]) -> str:
    """Put together words and what must follow them.

    In the order of the alphabet, so that RE2 makes one beginning of what begins alike; what follows is there once for
    all words of a row, so that what RE2 has seen behind one of them is known behind the others.
    """
    return "|".join(f"(?:{'|'.join(sorted(words))})(?:{then})" for words, then in rows)


_NAMES = _any_of(
    # With nothing between: in SQL, in chats, in configuration.
    ((*_PASSWORDS, "pwd"), rf"s?{_THEN}|{_BELOW}|[ \t]+(?:N?'|[^\s(\x1f]*[0-9])"),
    (("key", "secret", "token"), rf"s?{_THEN}|{_BELOW}|[ \t]+[A-Za-z0-9/+_-]{{20}}"),
    (_MORE_NAMES, _THEN),
    (("code",), _BELOW),
    (("masterauth", "requirepass"), r"[ \t]+[^\s]"),
    (("phrase", "mnemonic", "words"), r"[^\w\n\x1f]+(?:is|are)[: ]"),
    (CELL_NAMES, CELL_END),
    (_CODE_WORDS, rf"{_CODE}[^\w\n\x1f]*(?:(?:is|was)[: ]+)?[a-z-]*[0-9]"),
)
_WHOLE_WORDS = _any_of(
    (("login",), r"[ \t]+[^\s\x1f]+[ \t]+password[ \t]+[^\s\x1f]"),
    (("identified",), r"[ \t\r\n]+(?:with[ \t]+[^\s\x1f]+[ \t]+)?by[ \t]+(?:password[ \t]+)?[\"']"),
    (("apikey", "basic", "bearer", "digest", "ssws", "token"), "[ ]+[A-Za-z0-9+/_.~-]{12}"),
    (("otp", "pin"), "[ #:]+[0-9]"),
    (CALLS, r"\([\"'][^\"'\n\x1f]*[\"'],[ ]*[\"']"),
    (CONNECTIONS, r"\([^()\n\x1f]*,[ ]*[\"'][^\"'\n\x1f]*[\"'],[ ]*[\"']"),
    (
        ("credentials", "creds?", "login", "user(?:[ _]?name)?"),
        r"[\"']?[ \t]*[:=][ \t]*[^\s/:@\x1f]+[ \t]*/[ \t]*[^\s/\x1f]",
    ),
)
NAMES = (
    rf"(?i){_NAMES}|\b(?:{_WHOLE_WORDS})|{_PARAMETERS}"
    r"|:(?:[0-9]{3,5}|\*):[\w.*-]+:[\w.*-]+:[^\s:\x1f]{4}"
    r"|\B--?[a-z0-9_-]*(?:auth|credentials?|key|otp|pass(?:code|phrase|wd|word)?|pin|psk|pwd|secret|token)[ =]"
    r"|[0-9](?:[\"'*]* is| *-) your [a-z ]*(?:code|otp|passcode|password|pin)\b"
)
"""What such a name looks like, with so much of what follows that most other places of these words are left out; and what ends a cell that may name a column."""
