"""What is to go: traces of a user, session, tag or age, or with a text; in all forms that a policy gave it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_mlflow_cost.attributes import USER_KEYS
from langchain_mlflow_cost.redaction.rules import CLEAN
from langchain_mlflow_cost.redaction.spellings import spelling_in, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.redaction.rules import Rules

By = Literal["user", "session", "tag", "text", "age"]

SESSION_KEYS: Final = ("mlflow.trace.session", "thread_id")
_TOKEN: Final = re.compile(r"\[[A-Z_0-9]+:[a-z]{16}\]")
"""What stands in a text for a value whose strategy is `hash`."""
_SHORTEST_MENTION: Final = 4
"""A user called `1` is mentioned everywhere."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be deleted."""

    by: By
    value: str = ""
    """The user, session, text or tag's value as it was said."""
    name: str = ""
    """The tag's."""
    before_ms: int = 0
    """For `age`: of traces that began before then, in milliseconds since the epoch."""
    keep_at_least: int = 0
    """For `age`: the latest so many of each experiment stay, however old they are."""
    forms: tuple[str, ...] = ()
    """The value as it may be stored: as said, and as the tokens that a policy's `hash_key` makes of it."""
    not_looked: str | None = None
    """Why tokens were not looked for."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Tags and metadata whose value is compared: MLflow's, and the run's where `trace_metadata` lists them."""
        named: dict[str, tuple[str, ...]] = {"user": USER_KEYS, "session": SESSION_KEYS, "tag": (self.name,)}
        return named.get(self.by, ())

    @property
    def needles(self) -> dict[str, bytes]:
        """For `text`: all spellings of all forms."""
        found: dict[str, bytes] = {}
        for number, form in enumerate(self.forms if self.by == "text" else ()):
            found |= {f"{name}{' of a token' * bool(number)}": each for name, each in spellings(form).items()}
        return found

    def is_named_by(self, fields: Mapping[str, Any]) -> bool:
        """Whether tags or metadata of a trace say that it is meant: only by the whole value."""
        for key in self.keys:
            told = fields.get(key)
            if told is None:
                continue
            # Of a user or tag a list is nothing but an odd name.
            if told in self.forms or (self.by == "session" and not set(self.forms).isdisjoint(listed(str(told)))):
                return True
        return False

    def is_in(self, stored: bytes) -> bool:
        """Whether the text is in these bytes, in any spelling."""
        return spelling_in(self.needles, stored) is not None

    def mentions(self) -> re.Pattern[bytes] | None:
        """For a user, session or tag: where it is mentioned, as a word of its own. None if it is too short for that."""
        if self.by not in ("user", "session", "tag"):
            return None
        long = [form for form in self.forms if len(form) >= _SHORTEST_MENTION]
        words = {each for form in long for each in spellings(form).values()}
        if not words:
            return None
        # `bob` is not mentioned in `bobby`, nor in `bob@example.com`.
        around = rb"[0-9A-Za-z_\x80-\xff]"
        return re.compile(
            rb"(?<!%s)(?:%s)(?!%s|[@.-]%s)" % (around, b"|".join(map(re.escape, sorted(words))), around, around)
        )

    def described(self) -> dict[str, Any]:
        """What was asked for, as a receipt tells it: of a person or text nothing that leads back to it."""
        told: dict[str, Any] = {"by": self.by}
        if self.by == "age":
            return {**told, "before_ms": self.before_ms, "keep_at_least": self.keep_at_least}
        if self.name:
            told["tag"] = self.name
        return told

    def digest(self, salt: str) -> str:
        """A digest of what was asked for: who has the value can check a receipt, and nobody can read it out of one."""
        asked = json.dumps([salt, self.by, self.name, self.value, self.keep_at_least], ensure_ascii=True)
        return hashlib.scrypt(asked.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()[:64]


def request_for(by: By, value: str, policy: Policy | None, *, name: str = "") -> Request:
    """A request for what somebody named, in all forms that the policy's rules give it.

    Args:
        by: What the value is of.
        value: As it was said.
        policy: Its `redaction.hash_key` makes the tokens that stand for values that it redacts. Without a policy, or
            without a key of its own, they cannot be known.
        name: The tag's.
    """
    if policy is None:
        return Request(by, value, name, forms=(value,), not_looked="no policy was given (--policy FILE)")
    # What was stored before may have been redacted more than the policy does now, under the same key.
    strict = policy.model_copy(update={"redact_pii": True, "redact_secrets": True})
    found = [value]
    for rules in (policy.for_node(()).rules, strict.for_node(()).rules):
        if not all(each.has_own_key for each in rules):
            return Request(by, value, name, forms=(value,), not_looked="the policy has no redaction.hash_key")
        found += [_identity(value, key, rules) for key in Request(by, value, name).keys[:1]]
        found += _hashed(value, rules)
        if by in ("user", "session"):
            found.append(rules[0].keyed_token("PRIVATE", value))
    return Request(by, value, name, forms=tuple(dict.fromkeys(found)))


def _identity(value: str, key: str, rules: Iterable[Rules]) -> str:
    """What stands for the id of a session or user, as the guard writes it."""
    for each in rules:
        value, _ = each.keyed(value, key)
    return value


def _hashed(value: str, rules: Iterable[Rules]) -> list[str]:
    """The text as redaction leaves it, where tokens alone tell it from others: `[EMAIL_ADDRESS]` is everybody's."""
    text = value
    for each in rules:
        leaf = each.redact_all([text])[0]
        text = text if leaf is CLEAN else leaf.text or ""
    return [text] if text != value and _TOKEN.search(text) and not re.search(r"\[[A-Z_0-9]+\]|\*{4}", text) else []


def listed(text: str) -> list[str]:
    """The texts of a JSON list: MLflow 3.18 keeps several sessions so."""
    if not text.startswith("["):
        return []
    try:
        found = json.loads(text)
    except ValueError:  # a token, or a list that was cut
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
