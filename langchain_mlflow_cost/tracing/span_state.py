"""What the guard knows of one span: what holds for it, and what was done to it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.messages import is_name
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.pricing.ledger import Totals
from langchain_mlflow_cost.redaction.allowed import allowed_only
from langchain_mlflow_cost.redaction.private_text import TOKEN
from langchain_mlflow_cost.redaction.rules import FIELD, Rules
from langchain_mlflow_cost.tracing.record import Record, redacted_json, redacted_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_mlflow_cost.policy.node_policy import Kind, NodePolicy
    from langchain_mlflow_cost.redaction.walk import Redactor
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.runs import Run
    from langchain_mlflow_cost.tracing.trace import Trace

log = logging.getLogger("langchain_mlflow_cost")

PAST_LIMIT = "held trace too large"
NAMES = frozenset({"name", "names", "kept"})
"""Channels of what `redaction.allow_keys` leaves: names, and values of attributes that it lists."""

_TAG_CHARS: Final = 100
"""Of a tag's value or a name that may be remembered beyond its trace."""

_ONCE = Once(log)


def tell_keyed(rules: Rules) -> None:
    """Say once that an id became a token that only this process makes."""
    if not rules.has_own_key:
        _ONCE.log(
            "keyed",
            "langchain_mlflow_cost: an id of a session or user held something to redact and became a keyed token. "
            "These tokens differ between processes that serve one user: set redaction.hash_key",
        )


@lru_cache(maxsize=1024)
def _is_plain(node: str) -> bool:
    return not node or all(map(is_name, node.split("/")))


class SpanState:
    """What holds for one span, and what was done to it.

    Args:
        policy: What holds.
        trace: The trace that it is in.
        kind: What its payload is.
        node: The path of its node, as text.
        is_foreign: Not a run of LangChain's: the user's own, or another library's.
        parent: The guarded span that it started below.
        owner: The run that it is of, or was started in.
        account: Where no run is above: what calls of other libraries are counted in, if anybody governs them.
        name_is_structure: Its name is that of a node of the graph.
    """

    __slots__ = (
        "account",
        "around",
        "chunks",
        "declared",
        "end_time",
        "has_files",
        "is_counted",
        "is_final",
        "is_foreign",
        "is_held",
        "is_in_model",
        "is_model",
        "kind",
        "name_is_structure",
        "node",
        "own_model",
        "owner",
        "parent",
        "pending",
        "policy",
        "prompts",
        "record",
        "redactors",
        "totals",
        "trace",
        "unsure",
    )

    def __init__(
        self,
        policy: NodePolicy,
        trace: Trace,
        kind: Kind,
        *,
        node: str = "",
        is_foreign: bool = False,
        parent: GuardedSpan | None = None,
        owner: Run | None = None,
        account: Run | None = None,
        name_is_structure: bool = False,
    ) -> None:
        self.policy = policy
        self.trace = trace
        self.redactors: tuple[Redactor, ...] = trace.redactors_of(policy)
        self.kind = kind
        self.node = node
        self.is_foreign = is_foreign
        self.parent = parent
        self.owner = owner
        self.account = account
        self.name_is_structure = name_is_structure
        self.record = Record()
        self.totals = Totals()
        """Of the invocations and calls in it: of a span of the user's own around them."""
        self.around: tuple[Totals, ...] = ()
        """Those of the spans around an invocation's root."""
        self.declared: set[str] = set()
        """Attributes that `trace_decorator` was given, which stay at every level."""
        self.is_held = False
        """Ended, and not yet handed on."""
        self.is_final = False
        """Nothing may be written any more."""
        self.is_counted = False
        """Its call, if it is one of another library, is added up."""
        self.has_files = False
        self.is_in_model = is_foreign and owner is not None and any(run.call is not None for run in owner.lineage())
        """Of a span that LangChain did not make: begun in a model's run, whose call it is then a part of."""
        self.own_model: str | None = None
        """What stands in `mlflow.llm.model`, if that is the model that the program asked for, whoever named it too."""
        self.is_model = False
        """A model's call or an agent's, whoever's: all that it holds is private in a private node."""
        self.unsure: set[str] = set()
        """What was written into it that its private node was given: private only if it turns out to be a model's."""
        self.pending: dict[str, Any] = {}
        """Attributes that are judged already, and written at the end in one go."""
        self.prompts: frozenset[str] = frozenset()
        """Prompts of MLflow's registry that its node used, as `name@version`."""
        self.end_time: int | None = None
        self.chunks: list[tuple[str, Mapping[str, Any], int | None]] = []

    def below(self, parent: GuardedSpan | None) -> SpanState:
        """The state of a span that somebody else starts below this one."""
        return SpanState(
            self.policy,
            self.trace,
            "work",
            node=self.node,
            is_foreign=True,
            parent=parent,
            owner=self.owner,
            account=self.account,
        )

    @property
    def has_plain_name(self) -> bool:
        """Whether its name is that of a node, and an identifier: the graph's own, whoever else may have said it."""
        return self.name_is_structure and self.has_plain_node

    @property
    def has_plain_node(self) -> bool:
        """Whether its node is called by identifiers alone."""
        return _is_plain(self.node)

    def set_policy(self, policy: NodePolicy) -> None:
        """Let another policy hold from now on."""
        self.policy = policy
        self.redactors = self.trace.redactors_of(policy)

    def name(self, text: str) -> str:
        """A name, redacted; names stay where payloads go. Empty, and noted, if redaction fails."""
        return self._known(text, "names")

    def shown_name(self, key: str, value: str) -> str | None:
        """A name as JSON, redacted, for an attribute of this key."""
        if self.hides(key):
            return self.hidden(value)
        return self.json(orjson.loads(value), "names")

    def hides(self, key: str) -> bool:
        """Whether the policy's `redaction.keys` name this attribute."""
        return self.policy.hides_some and any(rules.hides(key) for rules in self.policy.rules)

    def hidden(self, value: Any) -> str:
        """What stands in the place of an attribute that `redaction.keys` name."""
        self.record.found({FIELD: 1})
        rules = next((each for each in self.policy.rules if each.has_keys), self.policy.rules[0])
        return rules.token(FIELD, str(value)) or ""

    def channel(self, key: str, channel: str) -> str:
        """The channel of an attribute: `kept` if the policies' `redaction.allow_keys` name it."""
        listing = [rules for rules in self.policy.rules if rules.allows_some]
        return "kept" if listing and all(rules.allows(key) for rules in listing) else channel

    def identity(self, value: str, key: str) -> str:
        """The id of a session or user; a keyed token where it holds anything that goes, so that two stay two."""
        try:
            for rules in self.policy.rules:
                value, counts = rules.keyed(value, key)
                if counts:
                    self.record.found(counts)
                    tell_keyed(rules)
            for session in self.trace.private_sessions():
                clean, hits = session.text.scrub(value)
                if hits:
                    self.record.found({"PRIVATE": hits})
                    value = clean.replace(TOKEN, self.policy.rules[0].keyed_token("PRIVATE", value))
        except Exception as error:  # noqa: BLE001 - fail closed, as everywhere
            self.fault("trace", error)
            return ""
        return value

    def text(self, text: str, channel: str) -> str:
        """A redacted string; empty, and noted, if redaction fails."""
        if channel not in NAMES:
            for rules in self.policy.rules:
                if rules.allows_some and not rules.is_token(text) and text:
                    self.record.found({FIELD: 1})
                    return rules.token(FIELD, text) or ""
        return self._known(text, channel) if channel == "trace" else self._text(text, channel)

    def _known(self, text: str, channel: str) -> str:
        """Redact what is the same in many traces: what had nothing in it is known by the policy."""
        known = self.policy.plain_names
        if text in known:
            return text
        clean = self._text(text, channel)
        if clean == text and len(text) <= _TAG_CHARS and len(known) < limits().span_names:
            known.add(text)
        return clean

    def _text(self, text: str, channel: str) -> str:
        try:
            return redacted_text(text, self.redactors, self.record)
        except Exception as error:  # noqa: BLE001 - fail closed: whatever a detector does, nothing raw gets through
            self.fault(channel, error)
            return ""

    def json(self, value: Any, channel: str) -> str | None:
        """A payload as redacted JSON; None, and noted, if that fails or the held trace is full."""
        try:
            if channel not in NAMES:
                for rules in self.policy.rules:
                    if rules.allows_some:
                        value, gone = allowed_only(value, rules)
                        self.record.found({FIELD: gone} if gone else {})
            written = redacted_json(value, self.redactors, self.record)
        except Exception as error:  # noqa: BLE001 - fail closed, as above
            self.fault(channel, error)
            return None
        if not self.trace.fits(len(written)):
            self.record.drop(channel, PAST_LIMIT)
            return None
        return written

    def payload(self, value: Any, channel: str) -> str | None:
        """Inputs or outputs as they may be written; None where the policy drops them."""
        if not self.policy.keeps_payload(self.kind):
            self.record.drop(channel, self.policy.reason)
            return None
        return self.json(value, channel)

    def fault(self, channel: str, error: BaseException) -> None:
        """Note a payload dropped because something of ours or of the user's failed."""
        # The message of the error may quote the payload: its type is all that may be told.
        self.record.drop(channel, type(error).__name__)
        warn_dropped(type(error).__name__)

    def attributes(self) -> dict[str, str]:
        """The `policy.*` attributes of the span, as JSON text, MLflow's form of every attribute."""
        return {
            "policy.node": orjson.dumps(self.node if not self.node else self.name(self.node)).decode(),
            **self.policy.attributes,
            **self.record.attributes(),
        }


DROPPED: Final = Once(log)
"""What payloads were dropped for."""


def warn_dropped(cause: str) -> None:
    """Tell the operator, once a cause, that a payload could not be redacted."""
    DROPPED.log(cause, "langchain_mlflow_cost dropped a payload that could not be redacted (%s)", cause)
