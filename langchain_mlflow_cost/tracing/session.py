"""What outlives a trace and not the process: what the private nodes of a session were told and said."""

from __future__ import annotations

import hashlib
import logging
import threading
from base64 import b64encode
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.messages import is_name, private_strings
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.redaction.private_text import PrivateText
from langchain_mlflow_cost.tracing.own_words import OWN_WORDS

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger("langchain_mlflow_cost")

_NOTHING: frozenset[str] = frozenset()


def given_strings(value: Any) -> frozenset[str]:
    """The strings in what a node was given; none if it cannot be read, so that all that it returns is new."""
    try:
        texts = set()
        for told in private_strings(value):
            texts.add(told.text)
            if told.kind == "file":
                # It is known again however it is written.
                texts.add(b64encode(told.data).decode())
        return frozenset(texts)
    except Exception:  # noqa: BLE001 - objects of the user's may raise anything
        return _NOTHING


class Session:
    """The private text and files of one `thread_id`, or of one trace that has none. Safe for threads."""

    __slots__ = (
        "_declared",
        "_files",
        "_names",
        "counted_chars",
        "counted_marks",
        "is_whole",
        "last_step",
        "text",
        "traces",
    )

    def __init__(self) -> None:
        self.text = PrivateText()
        self._files: set[bytes] = set()
        self._names: set[str] = set()
        """Private unless the program declares them, which may be known only at the trace's end."""
        self._declared: list[str] = []
        self.counted_chars = 0
        self.counted_marks = 0
        """What of `text` its keeper has counted."""
        self.traces = 0
        """That are open and have it."""
        self.last_step: int | None = None
        """The last step of its graph that was seen here, or whose private text another process has sent."""
        self.is_whole = True
        """Whether all its steps were, so that its state holds nothing private that is not known."""

    def __bool__(self) -> bool:
        return bool(self.text) or bool(self._files) or bool(self._names) or bool(self._declared)

    def takes_up(self, step: int, *, is_resumed: bool) -> bool:
        """Whether a graph that goes on with this step has a state all of which is known.

        A graph begins at step 0 or 1, and a further input comes three steps behind the last one at most (langgraph 1.0
        to 1.2). A run that is resumed begins at a step that was begun before.
        """
        if step <= 1 and not is_resumed:
            return True
        return self.is_whole and self.last_step is not None and step <= self.last_step + (0 if is_resumed else 3)

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
                    self.text.add_file(told.text)
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

    def remember_declared(self, value: Any) -> None:
        """Remember what the program told a private node in system messages and tools' definitions.

        Whether that is some public node's own is decided when somebody looks.
        """
        try:
            for told in private_strings(value):
                if told.kind == "name" or (told.kind == "words" and is_name(told.text)):
                    self._names.add(told.text)
                elif told.kind == "words":
                    self._declared.append(told.text)
                elif told.kind == "file":
                    self._files.add(_digest(told.data))
                    self.text.add_file(told.text)
        except Exception:  # noqa: BLE001 - the other way withholds everything where it fails, too
            self.remember_private(value)

    def settle_declared(self) -> None:
        """Take what was declared for private, but for the lines that are a public node's own."""
        while self._declared:
            text = self._declared.pop()
            lines = text.splitlines()
            foreign = [line for line in lines if not OWN_WORDS.has(line)]
            for each in [text] if len(foreign) == len(lines) else foreign:
                self.text.add(each)

    def holds_file(self, content: bytes) -> bool:
        """Whether a model in a private node was told or gave this file, or another worker says so of most of it."""
        return (bool(self._files) and _digest(content) in self._files) or self.text.holds_file(content)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


class _Forgotten:
    """Ids of sessions that were forgotten: a Bloom filter, which takes some others for one and misses none."""

    _BITS = 1 << 26

    def __init__(self) -> None:
        self._count = 0
        self._bits: list[bytearray] = []

    @staticmethod
    def _places(session_id: str) -> list[int]:
        digest = hashlib.blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return [int.from_bytes(digest[at : at + 4], "little") % _Forgotten._BITS for at in range(0, 16, 4)]

    def add(self, session_id: str) -> None:
        if not self._bits or self._count >= limits().forgotten_sessions:
            # The generation before stays for as long again.
            self._bits = [bytearray(self._BITS // 8), *self._bits[:1]]
            self._count = 0
        self._count += 1
        for place in self._places(session_id):
            self._bits[0][place >> 3] |= 1 << (place & 7)

    def __contains__(self, session_id: str) -> bool:
        places = self._places(session_id) if self._bits else []
        return any(all(bits[place >> 3] >> (place & 7) & 1 for place in places) for bits in self._bits)


class Sessions:
    """The sessions of this process that have private text, the least recently used first.

    The last ones are remembered in full, older ones by their marks, and of still older ones that they were there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._marked: OrderedDict[str, Session] = OrderedDict()
        self._forgotten = _Forgotten()
        self._chars = 0
        self._marks = 0
        self._told = Once(log)

    def of(self, session_id: str) -> Session:
        """The session of a `thread_id`: its later traces have in their history what earlier ones were told."""
        with self._lock:
            session = self._known.get(session_id)
            if session is not None:
                self._known.move_to_end(session_id)
            else:
                session = self._marked.pop(session_id, None) or self._made(session_id)
                self._known[session_id] = session
            self._count(session)
        return session

    def adopt(self, session_id: str, session: Session) -> None:
        """Keep what a trace without a `thread_id` has, as long as that of a session."""
        with self._lock:
            self._known[session_id] = session
            self._known.move_to_end(session_id)
            self._count(session)

    def _made(self, session_id: str) -> Session:
        session = Session()
        if session_id in self._forgotten:
            session.text.withhold_everything()
            self._told.warn(
                "forgotten",
                "a session came back of which the private text had to be forgotten; all its text is withheld. "
                "More sessions are remembered with a session_store in the policy.",
            )
        return session

    def count(self, session_id: str) -> None:
        """Take note of what a session has grown by, and let go of the oldest ones if that is too much."""
        with self._lock:
            session = self._known.get(session_id)
            if session is not None:
                self._count(session)

    def _count(self, session: Session) -> None:
        bounds = limits()
        self._chars += session.text.chars - session.counted_chars
        self._marks += session.text.marks - session.counted_marks
        session.counted_chars, session.counted_marks = session.text.chars, session.text.marks
        if len(self._known) > bounds.sessions or self._chars > bounds.private_chars:
            self._let_go(session)
        while self._marked and (len(self._marked) > bounds.marked_sessions or self._marks > bounds.session_marks):
            session_id, oldest = self._marked.popitem(last=False)
            self._marks -= oldest.counted_marks
            if oldest:
                self._forgotten.add(session_id)

    def _let_go(self, busy: Session) -> None:
        bounds = limits()
        for session_id, oldest in list(self._known.items()):
            if len(self._known) <= bounds.sessions and self._chars <= bounds.private_chars:
                return
            if oldest is busy or oldest.traces:
                continue
            del self._known[session_id]
            self._chars -= oldest.counted_chars
            oldest.text.keep_marks()
            self._marks += oldest.text.marks - oldest.counted_marks
            oldest.counted_chars, oldest.counted_marks = 0, oldest.text.marks
            self._marked[session_id] = oldest

    def in_full(self) -> list[str]:
        """The ids of those that are remembered in full, the least recently used first."""
        with self._lock:
            return list(self._known)

    def known(self) -> list[str]:
        """Their ids, the least recently used first."""
        with self._lock:
            return [*self._marked, *self._known]

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._known.clear()
            self._marked.clear()
            self._forgotten = _Forgotten()
            self._chars = self._marks = 0


SESSIONS = Sessions()
"""One for the process: a web application may make a new handler for each request."""
