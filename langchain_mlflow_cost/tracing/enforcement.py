"""A node's policy as it is applied in one trace: with the trace's redactors."""

# ruff: noqa: D102, PLC0415 - on its way out

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_mlflow_cost.policy.node_policy import LEVELS, NodePolicy

if TYPE_CHECKING:
    from langchain_mlflow_cost.policy.node_policy import Kind, Level
    from langchain_mlflow_cost.redaction.walk import Redactor


@dataclass(frozen=True)
class Enforcement:
    """The policy of one node, ready to be applied."""

    node: str
    level: Level
    log_prompts: bool
    redactors: tuple[Redactor, ...]

    def _policy(self) -> NodePolicy:
        return NodePolicy(self.level, self.log_prompts, (), 1)

    def keeps_payload(self, kind: Kind) -> bool:
        return self._policy().keeps_payload(kind)

    def keeps_details(self, kind: Kind) -> bool:
        return self._policy().keeps_details(kind)

    @property
    def keeps_exceptions(self) -> bool:
        return self._policy().keeps_exceptions

    @property
    def keeps_stream(self) -> bool:
        return self._policy().keeps_stream

    @property
    def reason(self) -> str:
        return self._policy().reason

    @property
    def attributes(self) -> dict[str, str]:
        import orjson

        return {"policy.node": orjson.dumps(self.node).decode(), **self._policy().attributes}

    def stricter(self, other: Enforcement) -> Enforcement:
        level = min(self.level, other.level, key=LEVELS.index)
        redactors = self.redactors + tuple(r for r in other.redactors if r not in self.redactors)
        return Enforcement(self.node, level, self.log_prompts and other.log_prompts, redactors)
