"""What outlives a trace and not the process: what the private nodes of a session were told and said."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.messages import is_name, private_strings
from langchain_mlflow_cost.redaction.private_text import PrivateText

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger("langchain_mlflow_cost")

_NOTHING: frozenset[str] = frozenset()


def given_strings(value: Any) -> frozenset[str]:
    """The strings in what a node was given; none if it cannot be read, so that all that it returns is new."""
    try:
        return frozenset(told.text for told in private_strings(value))
    except Exception:  # noqa: BLE001 - objects of the user's may raise anything
        return _NOTHING


class Session:
    """The private text and files of one `thread_id`, or of one trace that has none. Safe for threads."""

    __slots__ = ("_files", "_names", "counted_chars", "text")

    def __init__(self) -> None:
        self.text = PrivateText()
        self._files: set[bytes] = set()
        self._names: set[str] = set()
        """Private unless the program declares them, which may be known only at the trace's end."""
        self.counted_chars = 0
        """What of `text` its keeper has counted."""

    def __bool__(self) -> bool:
        return bool(self.text)

    def remember_private(
        self, value: Any, *, is_data: bool = False, given: Collection[str] = _NOTHING, unsure: set[str] | None = None
    ) -> None:
        """Remember what a model in a private node was told or said; all text counts as private if that fails.

        Args:
            value: Whatever LangChain or another library hands on: messages, chunks, definitions, parameters, errors.
            is_data: Its fields are somebody's own, as in arguments: none of them is structure.
            given: What the node was given, which is not private for being passed on.
            unsure: Takes what was passed over for that.
        """
        try:
            for told in private_strings(value, is_data=is_data):
                if told.text in given:
                    if unsure is not None:
                        unsure.add(told.text)
                elif told.kind == "name" or (told.kind == "words" and is_name(told.text)):
                    self._names.add(told.text)
                elif told.kind == "words":
                    self.text.add(told.text)
                elif told.kind == "file":
                    self._files.add(_digest(told.data))
                    self.text.add(told.text)
        except Exception as error:  # noqa: BLE001 - objects of the user's may raise anything; what is not heard may leak
            self.text.withhold_everything()
            log.warning(
                "langchain_mlflow_cost could not read what a private node was told (%s): all text is withheld",
                type(error).__name__,
            )

    def settle_names(self, declared: Collection[str]) -> None:
        """Remember the names that were told or said, but for those that the program declares."""
        while self._names:
            name = self._names.pop()
            if name not in declared:
                self.text.add(name)

    def holds_file(self, content: bytes) -> bool:
        """Whether a model in a private node was told or gave this file."""
        return bool(self._files) and _digest(content) in self._files


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


class Sessions:
    """The sessions of this process that have private text, the least recently used first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._chars = 0

    def of(self, session_id: str) -> Session:
        """The session of a `thread_id`: its later traces have in their history what earlier ones were told."""
        with self._lock:
            session = self._known.get(session_id)
            if session is None:
                session = self._known[session_id] = Session()
            else:
                self._known.move_to_end(session_id)
            self._count(session)
        return session

    def count(self, session_id: str) -> None:
        """Take note of what a session has grown by, and forget the oldest ones if that is too much."""
        with self._lock:
            session = self._known.get(session_id)
            if session is not None:
                self._count(session)

    def _count(self, session: Session) -> None:
        bounds = limits()
        self._chars += session.text.chars - session.counted_chars
        session.counted_chars = session.text.chars
        while len(self._known) > 1 and (len(self._known) > bounds.sessions or self._chars > bounds.private_chars):
            _, oldest = self._known.popitem(last=False)
            self._chars -= oldest.counted_chars

    def known(self) -> list[str]:
        """Their ids, the least recently used first."""
        with self._lock:
            return list(self._known)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._known.clear()
            self._chars = 0


SESSIONS = Sessions()
"""One for the process: a web application may make a new handler for each request."""
