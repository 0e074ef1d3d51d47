"""What the policy did to one span, and a payload sent through every redactor that governs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.walk import Redactor

Counts = Mapping[str, int]


class Record:
    """What the policy did to one span: entities redacted, channels dropped."""

    __slots__ = ("_lock", "dropped", "redactions")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.redactions: dict[str, int] = {}
        self.dropped: dict[str, str] = {}

    def found(self, counts: Counts) -> None:
        """Add what a redactor found."""
        if counts:
            with self._lock:
                for entity, count in counts.items():
                    self.redactions[entity] = self.redactions.get(entity, 0) + count

    def drop(self, channel: str, reason: str) -> None:
        """Note a dropped channel; a fault is a better reason than a setting."""
        with self._lock:
            if reason not in ("artifact_level", "log_prompts") or channel not in self.dropped:
                self.dropped[channel] = reason

    def attributes(self) -> dict[str, str]:
        """The attributes that tell it, as JSON; what is empty is left out."""
        written = {}
        if self.redactions:
            written["policy.redactions"] = orjson.dumps(self.redactions).decode()
        if self.dropped:
            written["policy.dropped"] = orjson.dumps(self.dropped).decode()
        return written


def redacted_text(text: str, redactors: tuple[Redactor, ...], record: Record) -> str:
    """One string through every redactor; empty where a strategy drops it."""
    for redactor in redactors:
        answer, counts = redactor.text(text)
        record.found(counts)
        if answer is None:
            return ""
        text = answer
    return text


def redacted_json(value: Any, redactors: tuple[Redactor, ...], record: Record) -> str:
    """Any value as JSON text through every redactor."""
    answer, counts = redactors[0].json(value)
    record.found(counts)
    for redactor in redactors[1:]:
        answer, counts = redactor.json(orjson.loads(answer))
        record.found(counts)
    return answer
