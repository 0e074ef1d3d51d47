"""What the guard knows of one span: what holds for it, and what was done to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.pricing.ledger import Totals
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
        "owner",
        "parent",
        "pending",
        "policy",
        "record",
        "redactors",
        "totals",
        "trace",
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
        self.is_held = False
        """Ended, and not yet handed on."""
        self.is_final = False
        """Nothing may be written any more."""
        self.is_counted = False
        """Its call, if it is one of another library, is added up."""
        self.has_files = False
        self.is_in_model = owner is not None and any(run.call is not None for run in owner.lineage())
        """Begun while a model's run of LangChain's was under way, whose call it is then a part of."""
        self.is_model = False
        self.pending: dict[str, Any] = {}
        """Attributes that are judged already, and written at the end in one go."""
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

    def set_policy(self, policy: NodePolicy) -> None:
        """Let another policy hold from now on."""
        self.policy = policy
        self.redactors = self.trace.redactors_of(policy)

    def text(self, text: str, channel: str) -> str:
        """A redacted string; empty, and noted, if redaction fails."""
        try:
            return redacted_text(text, self.redactors, self.record)
        except Exception as error:  # noqa: BLE001 - fail closed: whatever a detector does, nothing raw gets through
            self.fault(channel, error)
            return ""

    def json(self, value: Any, channel: str) -> str | None:
        """A payload as redacted JSON; None, and noted, if that fails or the held trace is full."""
        try:
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
            "policy.node": orjson.dumps(self.node).decode(),
            **self.policy.attributes,
            **self.record.attributes(),
        }


DROPPED: Final = Once(log)
"""What payloads were dropped for."""


def warn_dropped(cause: str) -> None:
    """Tell the operator, once a cause, that a payload could not be redacted."""
    DROPPED.log(cause, "langchain_mlflow_cost dropped a payload that could not be redacted (%s)", cause)
