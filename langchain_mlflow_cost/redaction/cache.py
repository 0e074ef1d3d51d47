"""What redaction remembers of strings and models, and by which keys."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import orjson

from langchain_mlflow_cost.redaction.plain import PLAIN_OPTIONS, copied, is_plain, plain_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pydantic

_KEY_OPTIONS = PLAIN_OPTIONS & ~orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


class LeafCache:
    """What became of strings and models, forgotten oldest first. Shared by threads.

    Bounded by entries and by characters, since one entry may be a whole document.
    """

    def __init__(self, max_entries: int = 100_000, max_chars: int = 32_000_000) -> None:
        """Make an empty one; `max_chars` counts what the cache alone keeps alive, at most."""
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._entries: dict[Any, Any] = {}
        self._sizes: dict[Any, int] = {}
        self._chars = 0
        self._lock = threading.Lock()
        # A dict's own lookup is atomic, so that reading, by far the more frequent, needs no lock.
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def chars(self) -> int:
        """Characters of what is remembered."""
        return self._chars

    def put(self, key: Any, value: Any, size: int) -> None:
        """Remember, unless it alone is too much."""
        self.put_all([(key, value, size)])

    def put_all(self, entries: Iterable[tuple[Any, Any, int]]) -> None:
        """Remember keys, their values and their sizes."""
        with self._lock:
            for key, value, size in entries:
                if size > self._max_chars or key in self._entries:
                    continue
                self._entries[key] = value
                self._sizes[key] = size
                self._chars += size
            if self._chars > self._max_chars or len(self._entries) > self._max_entries:
                self._let_go()

    def _let_go(self) -> None:
        # An eighth at a time: to find the oldest one, a dict looks at the place of each that went before it.
        chars, entries = self._max_chars * 7 // 8, self._max_entries * 7 // 8
        for oldest in list(self._entries):
            if self._chars <= chars and len(self._entries) <= entries:
                return
            del self._entries[oldest]
            self._chars -= self._sizes.pop(oldest)


def model_key(model: pydantic.BaseModel) -> Any:
    """Give a key that differs whenever the model's JSON differs; None if there is no cheap one.

    All that the JSON is made of is in the key, by value: LangGraph gives a message its id only after it was first
    seen, so the object's identity would serve stale text. Long strings are in it as themselves, and Python computes
    the hash of a string object once.
    """
    kind = type(model)
    if not is_plain(kind) or model.__pydantic_private__ or len(model.__dict__) != len(kind.__pydantic_fields__):
        return None
    fields = plain_fields(model)
    key: list[Any] = [kind, *fields]
    rest: list[Any] = []
    append = key.append
    for item in fields.values():
        its_kind = type(item)
        if its_kind is str or item is None:
            append(item)
        elif (its_kind is dict or its_kind is list) and not item:
            # Most fields of most messages; the class says which of the two it is.
            append(its_kind)
        else:
            append(Ellipsis)
            rest.append(item)
    if rest:
        try:
            key.append(copied(orjson.dumps(rest, option=_KEY_OPTIONS)))
        except TypeError:
            return None
    return tuple(key)
