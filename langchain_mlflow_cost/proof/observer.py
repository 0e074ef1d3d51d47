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
class NodeSeen:
    """One node, in all rounds together."""

    is_private: bool
    ended: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By the exception's type."""
    model_calls: int = 0
    tool_calls: int = 0


class Observer(BaseCallbackHandler):
    """Stands behind the handler among the callbacks, and asks what the handler knows of a run.

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
        self._open: dict[UUID, tuple[str | None, bool]] = {}

    def _begin(self, run_id: UUID) -> NodeSeen | None:
        """Note a run; what is known of the node that it is in."""
        run = RUNS.get(run_id)
        if run is None:
            return None
        is_private = not run.policy.log_prompts
        with self._lock:
            self.policies[id(run.policy)] = run.policy
            self._open[run_id] = (run.node if run.is_node else None, is_private)
            return self.nodes.setdefault(run.node, NodeSeen(is_private)) if run.path else None

    def _end(self, run_id: UUID, *said: Any, error: BaseException | None = None) -> None:
        with self._lock:
            node, is_private = self._open.pop(run_id, (None, False))
            if node is not None and error is not None and type(error).__name__ not in _NO_FAILURES:
                self.nodes[node].failures[type(error).__name__] += 1
            elif node is not None:
                self.nodes[node].ended += 1
        if is_private and said:
            self._hear(said)

    def _hear(self, what: Any) -> None:
        heard = {each.number for each in self._planter.in_text(repr(what))}
        with self._lock:
            self.private |= heard

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._before_asking()
        self._begin(run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, error=error)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._asked(run_id, messages)

    def on_llm_start(self, serialized: Any, prompts: Sequence[str], *, run_id: UUID, **kwargs: Any) -> None:
        self._asked(run_id, prompts)

    def _asked(self, run_id: UUID, told: Any) -> None:
        self._before_asking()
        seen = self._begin(run_id)
        with self._lock:
            self.model_calls += 1
            if seen is not None:
                seen.model_calls += 1
            is_private = self._open.get(run_id, (None, False))[1]
        if is_private:
            self._hear(told)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        self._before_asking()
        seen = self._begin(run_id)
        if seen is not None:
            seen.tool_calls += 1

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any) -> None:
        self._before_asking()
        self._begin(run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, documents)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)
