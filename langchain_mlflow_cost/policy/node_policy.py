"""What applies in one node: the policy's second form, frozen, with all that the machinery asks of it.

The tables here are the table of levels in `docs/privacy.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_mlflow_cost.redaction.rules import Rules

Level = Literal["minimal", "standard", "full"]
LEVELS: tuple[Level, ...] = ("minimal", "standard", "full")

Kind = Literal["model", "work", "root", "state"]
"""A span by what its payload is.

`model`: a call of a model. `work`: a tool, a retriever, or any span that LangChain did not make. `root`: the first
span of an invocation. `state`: a graph, node, chain or parser below it, whose payload is a copy of state.
"""

PAYLOAD_KINDS: Mapping[Level, frozenset[Kind]] = {
    "minimal": frozenset(),
    "standard": frozenset({"model", "work", "root"}),
    "full": frozenset({"model", "work", "root", "state"}),
}
"""Kinds of span that keep inputs and outputs, by level."""

DETAIL_KINDS: Mapping[Level, frozenset[Kind]] = {
    "minimal": frozenset(),
    "standard": frozenset({"model", "work"}),
    "full": frozenset({"model", "work", "root", "state"}),
}
"""Kinds of span that keep other attributes with text in them (tool definitions, parameters, the user's own)."""


@dataclass(frozen=True)
class NodePolicy:
    """What applies in one node. Nodes of one policy with equal settings have the same object."""

    artifact_level: Level
    """Which payloads are stored; `minimal` also where `log_artifacts` is false."""
    log_prompts: bool
    """Whether what the model in this node is told and says may be stored."""
    rules: tuple[Rules, ...]
    """What to find in payloads, and what to put in its place: one set for each handler that governs the run."""
    max_payload_chars: int
    """Length at which a payload is cut, after redaction."""

    def keeps_payload(self, kind: Kind) -> bool:
        """Whether inputs and outputs stay."""
        return self.log_prompts and kind in PAYLOAD_KINDS[self.artifact_level]

    def keeps_details(self, kind: Kind) -> bool:
        """Whether other attributes with text in them stay."""
        return self.log_prompts and kind in DETAIL_KINDS[self.artifact_level]

    @property
    def keeps_exceptions(self) -> bool:
        """Whether messages and stack traces stay; the type always does."""
        return self.log_prompts and self.artifact_level != "minimal"

    @property
    def keeps_stream(self) -> bool:
        """Whether the events of single tokens and chunks stay."""
        return self.log_prompts and self.artifact_level == "full"

    @property
    def reason(self) -> str:
        """Why something was dropped, for `policy.dropped`."""
        return "artifact_level" if self.log_prompts else "log_prompts"

    @cached_property
    def attributes(self) -> dict[str, str]:
        """The `policy.*` attributes that say what applied, as JSON text, MLflow's form of every attribute."""
        level = self.artifact_level if self.log_prompts else "minimal"
        return {
            "policy.artifact_level": f'"{level}"',
            "policy.log_prompts": "true" if self.log_prompts else "false",
        }

    @cached_property
    def hides_some(self) -> bool:
        """Whether `redaction.keys` name any attribute."""
        return any(rules.has_keys for rules in self.rules)

    @cached_property
    def plain_names(self) -> set[str]:
        """Names that redaction left as they are: they repeat in every trace, and a redactor's memory lasts for one."""
        return set()

    def withheld(self) -> NodePolicy:
        """The same, with nothing kept."""
        return replace(self, artifact_level="minimal", log_prompts=False)

    def with_everything_kept(self) -> NodePolicy:
        """The same, with nothing dropped but what redaction finds."""
        return replace(self, artifact_level="full", log_prompts=True)

    def stricter(self, other: NodePolicy) -> NodePolicy:
        """Both policies at once: for a run that two handlers govern."""
        return NodePolicy(
            min(self.artifact_level, other.artifact_level, key=LEVELS.index),
            self.log_prompts and other.log_prompts,
            self.rules + tuple(rules for rules in other.rules if rules not in self.rules),
            min(self.max_payload_chars, other.max_payload_chars),
        )
