"""What happened in a run: which nodes ran, and which planted texts private nodes were told or said."""

# ruff: noqa: ARG002, D102 - the methods are LangChain's

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler

from langchain_mlflow_cost.tracing.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from langchain_mlflow_cost.policy.node_policy import NodePolicy
    from langchain_mlflow_cost.proof.planting import Planter

_NO_FAILURES = ("GraphInterrupt", "NodeInterrupt", "ParentCommand", "GraphBubbleUp")
"""How a node ends that asks a person, or hands over to another node of the graph around it."""


@dataclass
class _Open:
    """A run that has begun."""

    kind: str
    """`model`, `tool` or another."""
    told: Any = None
    """What a model was told, until it is known whether that is private."""
    node: str | None = None
    """Of a node's own run: its path."""
    is_private: bool = False
    is_known: bool = False
    """Whether the handler has told what holds for it."""


@dataclass
class NodeSeen:
    """One node, in all rounds together."""

    is_private: bool
    ended: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By the exception's type."""
    model_calls: int = 0
    tool_calls: int = 0


class Observer(BaseCallbackHandler):
    """Stands beside the handler among the callbacks, and asks what the handler knows of a run.

    Which of the two hears first is not fixed: LangChain keeps merged callbacks in a set. Who hears first of a run's
    start hears first of its end as well, so that at one of the two times the handler knows the run.

    Args:
        planter: Whose texts it looks for.
        before_asking: Called before a model, tool or retriever is asked.
    """

    run_inline = True
    raise_error = True

    def __init__(self, planter: Planter, before_asking: Callable[[], None]) -> None:
        self.nodes: dict[str, NodeSeen] = {}
        self.private: set[int] = set()
        """Numbers of the planted texts that private nodes were told, said or came by."""
        self.policies: dict[int, NodePolicy] = {}
        """All that held anywhere."""
        self.model_calls = 0
        self._planter = planter
        self._before_asking = before_asking
        self._lock = threading.Lock()
        self._open: dict[UUID, _Open] = {}

    def _begin(self, run_id: UUID, kind: str = "", told: Any = None) -> None:
        self._before_asking()
        with self._lock:
            this = self._open[run_id] = _Open(kind, told)
            self.model_calls += kind == "model"
            self._ask(run_id, this)

    def _ask(self, run_id: UUID, this: _Open) -> None:
        run = RUNS.get(run_id)
        if this.is_known or run is None:
            return
        this.is_known, this.is_private = True, not run.policy.log_prompts
        this.node = run.node if run.is_node else None
        self.policies[id(run.policy)] = run.policy
        if run.path:
            seen = self.nodes.setdefault(run.node, NodeSeen(this.is_private))
            seen.model_calls += this.kind == "model"
            seen.tool_calls += this.kind == "tool"

    def _end(self, run_id: UUID, said: Any = None, error: BaseException | None = None) -> None:
        with self._lock:
            this = self._open.pop(run_id, None)
            if this is None:
                return
            self._ask(run_id, this)
            if this.node is not None and error is not None and type(error).__name__ not in _NO_FAILURES:
                self.nodes[this.node].failures[type(error).__name__] += 1
            elif this.node is not None:
                self.nodes[this.node].ended += 1
        if this.is_private and this.kind:
            heard = {each.number for each in self._planter.in_text(repr((this.told, said)))}
            with self._lock:
                self.private |= heard

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, error=error)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id, "model", messages)

    def on_llm_start(self, serialized: Any, prompts: Sequence[str], *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id, "model", prompts)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id, "tool")

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any) -> None:
        self._begin(run_id, "retriever")

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, documents)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)
