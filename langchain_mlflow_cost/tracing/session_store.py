"""What other processes know of a session's private text: numbers under a key, in the Redis of `session_store`.

Of each session there is a hash with two fields: `marks`, 8 bytes for each number (`redaction/private_index.Marks`), and
`step`, the last step of its graph up to which they are complete. No text, no id and no key is ever sent. A Redis that
is away costs a bounded time, then none for a while, and what is not known from it is withheld.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_mlflow_cost.budgets.redis_client import open_client
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.redaction.shingles import keyed

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.session import Session

log = logging.getLogger("langchain_mlflow_cost")

SESSION_TTL_S = 30 * 24 * 3600
"""A session that nobody had for so long is not known any more, and its texts are withheld."""

_APPEND = """
local known = redis.call('HGET', KEYS[1], 'marks') or ''
if #ARGV[1] > 0 then redis.call('HSET', KEYS[1], 'marks', known .. ARGV[1]) end
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[1], 'step') or '-1') then
  redis.call('HSET', KEYS[1], 'step', ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class SessionStore:
    """Marks of sessions in one Redis, under one key. Safe for threads; nothing that it does raises.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        hash_key: That all processes have.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """

    def __init__(self, url: str, hash_key: bytes) -> None:
        self._name, self._client = open_client(url, timeout_s=limits().session_store_s, setting="`session_store`")
        self._key = hashlib.blake2b(hash_key[:64], digest_size=16, person=b"private marks").digest()
        self._lock = threading.Lock()
        self._away_until_s = 0.0
        self._told = Once(log)

    def _name_of(self, session_id: str) -> str:
        hashed = hashlib.blake2b(session_id.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()
        return f"langchain_mlflow_cost:private:{hashed}"

    def share(self, session_id: str, session: Session) -> None:
        """Tell the other processes what a session's private nodes said since the last time."""
        if not session.is_whole or session.last_step is None or session.text.has_lost_marks:
            # Whoever reads it would take it for complete.
            return
        marks = session.text.unsent_marks()
        sent = keyed(marks, self._key).astype("<u8").tobytes()
        if session.text.is_full:
            return
        name = self._name_of(session_id)
        if self._ask("eval", _APPEND, 1, name, sent, session.last_step, SESSION_TTL_S) is None:
            # The step that is stored stays behind, so that no other process takes this session for known.
            session.text.send_again(marks)

    def learn(self, session_id: str, session: Session) -> None:
        """Take what other processes have told of a session; its last step says how far that goes."""
        found = self._ask("hmget", self._name_of(session_id), "marks", "step")
        if found is None or found[1] is None:
            return
        session.text.load_marks(np.frombuffer(found[0] or b"", dtype="<u8").astype(np.uint64), self._key)
        session.last_step = max(int(found[1]), session.last_step or 0)
        session.is_whole = True

    def _ask(self, command: str, *words: Any) -> Any:
        """Ask Redis; None where it is away. Never raises, never longer than its time."""
        with self._lock:
            if time.monotonic() < self._away_until_s:
                return None
        try:
            return getattr(self._client, command)(*words)
        except Exception as error:  # noqa: BLE001 - whatever redis-py raises, the user's graph goes on
            with self._lock:
                self._away_until_s = time.monotonic() + limits().session_store_pause_s
            # The type only: a message can quote the URL, and that a password.
            self._told.warn(
                "away",
                f"the session_store at {self._name} is away ({type(error).__name__}): texts of sessions that other "
                "processes had a part in are withheld until it is back",
                RuntimeWarning,
            )
            return None


def open_session_store(url: str | None, hash_key: bytes | None) -> SessionStore | None:
    """This process's store at an URL under a key; None where the policy names none.

    Raises:
        PolicyError: redis-py is not installed, or the URL is none.
    """
    if url is None or hash_key is None:
        return None
    with _OPENING:
        if (url, hash_key) not in _OPEN:
            _OPEN[url, hash_key] = SessionStore(url, hash_key)
        return _OPEN[url, hash_key]


_OPENING = threading.Lock()
_OPEN: dict[tuple[str, bytes], SessionStore] = {}
