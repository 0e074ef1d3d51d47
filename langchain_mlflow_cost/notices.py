"""Telling people something: what they meant, a URL without its credentials, a name that cannot act, each cause once.

`warnings` are for the developer, `logging` is for the operator. What is told while a graph runs never raises: where
warnings are errors (`-W error`), they go to the log.
"""

from __future__ import annotations

import difflib
import logging
import re
import shlex
import sys
import threading
import traceback
import unicodedata
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

_PACKAGE: Final = str(Path(__file__).parent)
_log: Final = logging.getLogger("langchain_mlflow_cost")


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known word that was probably meant, in whatever capitals; None if none is near.

    Args:
        word: What was written.
        known: In the order of preference.
        cutoff: How alike the two must be, from 0 to 1.
    """
    by_lower: dict[str, str] = {}
    for each in known:
        by_lower.setdefault(each.lower(), each)
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    if close:
        return by_lower[close[0]]
    # A name cut short: EMAIL for EMAIL_ADDRESS. ADDRESS could be any of several, so nothing is said of it.
    longer = [each for lower, each in by_lower.items() if word.lower() in lower.split("_")]
    return longer[0] if len(longer) == 1 else None


# A user's name ends at `:`, `/` or `@`. A password may hold all of these: SQLAlchemy takes it to end at the last `@`.
_URL: Final = re.compile(r"//\S*")
_USER_INFO: Final = re.compile(r"^//[^\s/@:]*(?::\S*)?@|^//[^/\s]*@")
_QUERY: Final = re.compile(r"([?&][^=&#\s]*=)[^&#\s]*")


def without_credentials(text: str) -> str:
    """Return the text with `****` for the user, password and query values of every URL in it."""
    return _URL.sub(lambda url: _QUERY.sub(r"\1****", _USER_INFO.sub("//****@", url[0])), text)


_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's controls, formats (the bidi marks are among them), surrogates, and separators of lines and paragraphs."""
_JOINERS: Final = "\u200c\u200d"
"""Persian words and emoji are spelled with them, and they move nothing."""


def printable(text: object, *, most: int = 200) -> str:
    r"""Return a text that can only be read: for a name that a terminal, a table or a page is to show.

    What is invisible and may act is written out, so that two names stay two: `\x1b[2J` clears no screen, and `\u202e`
    turns nothing around. Markup is not escaped, which depends on where it goes: use `rich.text.Text` or `html.escape`
    on the result.

    Args:
        text: A name, or a line that has names in it.
        most: Characters that are shown of it, one line.
    """
    shown = str(text)
    if len(shown) > most:
        shown = shown[: most - 1] + "…"
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(
        ascii(each)[1:-1] if unicodedata.category(each) in _INVISIBLE and each not in _JOINERS else each
        for each in shown
    )


_PLAIN_WORD: Final = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_TAKEN_IN_DOUBLE_QUOTES: Final = re.compile(r"[\"$`!%\\]")
"""Characters that one shell or the other reads within them: sh, zsh, fish, PowerShell, cmd."""


def shell_word(text: str) -> str:
    """A word of a command that people may paste into their shell, whichever that is."""
    if _PLAIN_WORD.fullmatch(text):
        return text
    return shlex.quote(text) if _TAKEN_IN_DOUBLE_QUOTES.search(text) else f'"{text}"'


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside this package that led here, so that each such line is told once.

    Raises:
        Warning: Where warnings are errors: for what is told while something is loaded or set up.
    """
    frame, level = sys._getframe(), 1  # noqa: SLF001 - what `skip_file_prefixes` does from Python 3.12 on
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def warn_or_log(text: str, log: logging.Logger, category: type[Warning] = UserWarning) -> None:
    """Warn the developer; where warnings are errors, tell the operator instead, and never raise."""
    try:
        warn(text, category)
    except Warning:
        # A raised one would end in the user's graph, or cost a call its accounting half-way.
        log.warning("%s", text)


def call_back(function: Callable[[Any], object], value: object, name: str, once: Once) -> None:
    """Call a function of the user's; what it raises must not stop the graph, and is logged once a cause."""
    try:
        function(value)
    except Exception as error:  # noqa: BLE001 - it may raise anything
        cause = type(error).__name__
        if once.log((name, cause), "langchain_mlflow_cost: %s failed (%s); the run goes on", name, cause):
            _log.debug("at\n%s", "".join(traceback.format_tb(error.__traceback__)))


class Once:
    """Tells each cause once. Safe for threads; the causes told last are remembered.

    Args:
        log: Where the operator reads.
        most: Causes that are remembered: with names out of data among them, there may be any number.
    """

    def __init__(self, log: logging.Logger, most: int = 1_024) -> None:
        self._log = log
        self._most = most
        self._told: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def is_new(self, cause: Hashable) -> bool:
        """Whether the cause was not told yet; from now on it is."""
        with self._lock:
            if cause in self._told:
                self._told.move_to_end(cause)
                return False
            self._told[cause] = None
            if len(self._told) > self._most:
                self._told.popitem(last=False)
            return True

    def forget(self) -> None:
        """Tell everything anew."""
        with self._lock:
            self._told.clear()

    def log(self, cause: Hashable, text: str, *args: Any) -> bool:
        """Tell the operator; `args` as for `Logger.warning`. Returns whether it was new."""
        new = self.is_new(cause)
        if new:
            self._log.warning(text, *args)
        return new

    def warn(self, cause: Hashable, text: str, category: type[Warning] = UserWarning) -> bool:
        """Warn the developer as `warn_or_log` does. Returns whether it was new."""
        new = self.is_new(cause)
        if new:
            warn_or_log(text, self._log, category)
        return new
