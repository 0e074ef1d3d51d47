"""Credentials in URLs: `scheme://user:password@host`, `https://token@host`."""

# ruff: noqa: PLR2004 - numbers of digits and letters, as the formats themselves have them

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.detectors.secret_names import KEY, PLACEHOLDER, is_key, is_wordy

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.detectors.view import Span, View

# To the last at sign that a host follows: a password may have at signs, slashes and hashes of its own.
_USER = re.compile(
    r"://(?P<user>[^\s/?#@:\"'<>\x1f]{0,256})(?::(?P<password>[^\s\"'<>\x1f]{1,256}))?"
    r"@(?=\[?[A-Za-z0-9*_.-]+\]?(?::[0-9]{1,5})?(?:[/?#,;)\]}|\s\"'<>`\x1f\\]|\.?$|\Z))",
    re.ASCII,
)
# The user, the password and the marks around them.
_LONGEST_USER = 3 + 256 + 1 + 256
# The end of an authority without a user: what follows is a port, a path, a query.
_PORT = re.compile(r"[0-9]{1,5}(?:[/?#]|$)", re.ASCII)
_VARIABLE = re.compile(r"\$\{?\w|<|\{\{?|%\(|\*{3}|\[|x{3}|\.{3}|\u2022", re.ASCII)
_TOKEN_USERS = frozenset({"x-oauth-basic", "x-token-auth", "x-access-token", "oauth2", "", "x"})


def _user_at(text: str, start: int) -> re.Match[str] | None:
    match = _USER.match(text, start)
    if match and match["password"] is not None and "://" in match["password"]:
        # Two URLs with nothing but a comma between them.
        return _USER.match(text, start, start + 3 + len(match["user"]) + 1 + match["password"].index("://"))
    return match


def _secret_of(user: str, password: str | None) -> tuple[str, str]:
    """Give which of the two is a secret, and why; why is empty if none is."""
    if password is not None and password not in _TOKEN_USERS:
        return "password", "" if _VARIABLE.match(password) else "password of a URL"
    return "user", "user of a URL that is a token" if _is_token(user) else ""


def find_url_secrets(view: View, found: list[Span]) -> None:
    """Find passwords and tokens in front of the host of a URL."""
    text = view.ascii
    done = before = 0
    # Most URLs have no at sign: to look before each sign takes less time than to look behind each scheme.
    at = text.find("@") if "://" in text else -1
    while at >= 0:
        start = text.find("://", max(before, done, at - _LONGEST_USER), at)
        while start >= 0:
            done = max(done, _secret_at(view, start, found))
            start = text.find("://", max(start + 1, done), at)
        before = at + 1
        at = text.find("@", before)


def _secret_at(view: View, start: int, found: list[Span]) -> int:
    """Find what is in front of the host of the URL that goes on there; give where its user ends, or 0."""
    match = _user_at(view.ascii, start)
    if match is None:
        return 0
    user, password = match["user"], match["password"]
    if password is not None and (_PORT.match(password) and "/" in password + "/" and _is_port(password)):
        return 0
    group, why = _secret_of(user, password)
    if why:
        found.append((*match.span(group), "SECRET"))
        view.because(*match.span(group), why)
    return match.end()


def may_name_user(data: bytes) -> bool:
    """Say whether a user and a password may stand before an at sign: in a URL, or in a driver's address."""
    return b"@" in data and (b"://" in data or any(driver.encode() in data for driver in _DRIVERS))


_DRIVERS = ("@tcp(", "@unix(")
_LONGEST_DRIVER = 200
_BEFORE_DRIVER = " \t\r\n\x1f\"'`=(/"


def find_driver_secrets(view: View, found: list[Span]) -> None:
    """Find passwords in the addresses of Go's drivers, which have no scheme: `user:password@tcp(host:3306)/name`."""
    text = view.ascii
    done = 0
    for at in view.at_signs:
        if not text.startswith(_DRIVERS, at):
            continue
        low = max(done, at - _LONGEST_DRIVER)
        start = max(low, *(text.rfind(one, low, at) + 1 for one in _BEFORE_DRIVER))
        user, _, password = text[start:at].partition(":")
        done = at + 1
        if user and password and not _VARIABLE.match(password) and not PLACEHOLDER.fullmatch(password):
            found.append((at - len(password), at, "SECRET"))
            view.because(at - len(password), at, "password of a driver's address")


def _is_port(password: str) -> bool:
    """Say whether what follows the colon is a port and more, and the at sign stands in a path: host:8080/a@b."""
    return any(mark in password for mark in "/?#")


def _is_token(user: str) -> bool:
    return (
        len(user) >= 16
        and not _VARIABLE.match(user)
        and not PLACEHOLDER.fullmatch(user)
        and not is_wordy(user)
        and is_key(KEY, user)
    )
