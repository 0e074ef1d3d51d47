"""What outlives a trace and not the process: what the private nodes of a session were told and said."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.redaction.private_text import PrivateText

_BLOB_CHARS = 64
"""A base64 text shorter than this is no file."""
_MAX_JSON_DEPTH = 4
"""JSON in a string in JSON: tool arguments, rarely twice."""


class Session:
    """The private text and files of one `thread_id`, or of one trace that has none. Safe for threads."""

    __slots__ = ("_files", "counted_chars", "text")

    def __init__(self) -> None:
        self.text = PrivateText()
        self._files: set[bytes] = set()
        self.counted_chars = 0
        """What of `text` its keeper has counted."""

    def __bool__(self) -> bool:
        return bool(self.text)

    def remember_private(self, value: Any, depth: int = 0, *, values: bool = False) -> None:
        """Remember what a model in a private node was told or said: every string and number of a value.

        Args:
            value: A text, a content block, a tool call's arguments, or a collection of these.
            depth: Of JSON in strings.
            values: Every field holds somebody's words, as in arguments; a content block's `id` and `type` do not.
        """
        if isinstance(value, str):
            is_file = len(value) >= _BLOB_CHARS and " " not in value[:_BLOB_CHARS] and self._remember_file(value)
            self.text.add(value, encoded=not is_file)
            if value[:1] in "{[" and depth < _MAX_JSON_DEPTH:
                with contextlib.suppress(orjson.JSONDecodeError):
                    self.remember_private(orjson.loads(value), depth + 1, values=True)
        elif isinstance(value, Mapping):
            self._remember_fields(value, depth, values=values)
        elif isinstance(value, list | tuple):
            for member in value:
                self.remember_private(member, depth, values=values)
            if values and len(value) > 1 and all(isinstance(member, str) for member in value):
                self.text.add(" ".join(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.text.add(str(value))

    def _remember_fields(self, fields: Mapping[Any, Any], depth: int, *, values: bool) -> None:
        for key, member in fields.items():
            if values or key not in ("type", "id", "index", "role", "finish_reason"):
                self.remember_private(member, depth, values=values or key in ("input", "args", "arguments"))
            if values and isinstance(key, str) and not key.isidentifier():
                self.text.add(key)

    def _remember_file(self, value: str) -> bool:
        with contextlib.suppress(binascii.Error, ValueError):
            self._files.add(_digest(base64.b64decode(value.partition(";base64,")[2] or value, validate=True)))
            return True
        return False

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
