"""What a public node's own code says: the lines of its system prompt and tools that are the same in every session.

A private node may be told the same ones, and they are not private for that: they are nobody's words. A line counts as a
node's own once it was told there, in a system message or a tool's definition, in a few sessions whose users said
different things, and was missing in none; one with a name or a number in many. Whatever a user, a tool or a model says
is private all the same: of a private node only what it was told in system messages and definitions passes by here.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.messages import private_strings
from langchain_mlflow_cost.redaction.ordinary import telling_characters

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS_NEEDED: Final = 3
"""In so many sessions a line must have been told."""
SESSIONS_NEEDED_TELLING: Final = 20
"""In so many, if it holds a name, a number or a rare word: it may be of a customer who comes again."""
_POSITIONS: Final = 256
_LINES: Final = 4_096
_BEGINNING: Final = 4_096
_DECLARING: Final = ("system", "developer")


def split_prompt(prompt: Any) -> tuple[list[Any], list[Any]]:
    """The messages of a prompt that the program declares, and those that somebody said."""
    declared: list[Any] = []
    said: list[Any] = []
    for batch in prompt if isinstance(prompt, (list, tuple)) else (prompt,):
        for message in batch if isinstance(batch, (list, tuple)) else (batch,):
            (declared if getattr(message, "type", None) in _DECLARING else said).append(message)
    return declared, said


def lines_of(value: Any) -> Iterator[str]:
    """The lines of all that is told in a value."""
    for told in private_strings(value):
        if told.kind == "words":
            yield from told.text.splitlines()


def _beginning(said: list[Any]) -> str:
    """The first characters of what was said: a prompt grows with every turn, and its beginning tells users apart."""
    parts: list[str] = []
    room = _BEGINNING
    for message in said:
        for told in private_strings(message):
            if told.kind == "words":
                parts.append(told.text[:room])
                room -= len(parts[-1])
                if room <= 0:
                    return "\n".join(parts)
    return "\n".join(parts)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=12).digest()


class _Position:
    """The lines that one node was told in every session so far."""

    def __init__(self) -> None:
        self.lines: dict[bytes, int] | None = None
        self.sessions: set[bytes] = set()
        self.words: set[bytes] = set()

    def see(self, session: bytes, words: bytes, lines: set[bytes]) -> None:
        if self.lines is None:
            self.lines = dict.fromkeys(list(lines)[:_LINES], 0)
        # One that is missing once is no line of every session, and never becomes one.
        self.lines = {line: count for line, count in self.lines.items() if line in lines}
        if session in self.sessions or words in self.words or len(self.sessions) >= SESSIONS_NEEDED_TELLING:
            return
        self.sessions.add(session)
        self.words.add(words)
        for line in self.lines:
            self.lines[line] += 1


class OwnWords:
    """The lines that are the public nodes' own, for the process. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: OrderedDict[tuple[str, str], _Position] = OrderedDict()

    def hear(self, node: str, session_id: str, prompt: Any, tools: Any) -> None:
        """Take note of what a public node's model was told.

        Args:
            node: Its path.
            session_id: Of the session, or of the trace where there is none.
            prompt: As LangChain hands it on.
            tools: Their definitions.
        """
        declared, said = split_prompt(prompt)
        words = _digest(_beginning(said))
        if not said or words == _digest(""):
            return
        session = _digest(session_id)
        with self._lock:
            for kind, told in (("system", declared), ("tools", tools)):
                lines = {_digest(line) for line in lines_of(told)} if told else set()
                key = (node, kind)
                position = self._positions.setdefault(key, _Position())
                self._positions.move_to_end(key)
                position.see(session, words, lines)
            while len(self._positions) > _POSITIONS:
                self._positions.popitem(last=False)

    def has(self, line: str) -> bool:
        """Whether a line is some public node's own."""
        if not line.strip():
            return True
        digest = _digest(line)
        with self._lock:
            count = max((each.lines.get(digest, 0) for each in self._positions.values() if each.lines), default=0)
        if count < SESSIONS_NEEDED:
            return False
        return count >= SESSIONS_NEEDED_TELLING or not telling_characters(line).any()

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._positions.clear()


OWN_WORDS = OwnWords()
"""One for the process, like its sessions."""
