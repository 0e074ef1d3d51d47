"""What a policy means for one graph, before anything runs: which entries meet nodes, and what holds for each node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_mlflow_cost.graphs import nodes_of
from langchain_mlflow_cost.node_patterns import NodePattern
from langchain_mlflow_cost.nodes import path_text
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from langchain_mlflow_cost.graphs import GraphNodes
    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.resolution import Resolution

Verdict = Literal["meets", "meets none", "cannot be known"]


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """One entry of `nodes`, and whether it means anything in a graph."""

    entry: str
    """Its pattern."""
    verdict: Verdict
    """`cannot be known` where it meets none that can be seen, and some node may run a graph that cannot."""
    nodes: tuple[str, ...]
    """The outermost nodes that it means."""
    did_you_mean: str | None = None
    """A pattern that is nearly this one and meets a node."""

    def __str__(self) -> str:
        """In a line."""
        entry = f'"{printable(self.entry)}"'
        if self.verdict == "meets":
            return f"{entry} meets {', '.join(map(printable, self.nodes))}"
        hint = f'; did you mean "{printable(self.did_you_mean)}"?' if self.did_you_mean else ""
        if self.verdict == "meets none":
            return f"{entry} meets no node{hint}"
        return f"{entry} meets no node that can be seen: what runs in {', '.join(map(printable, self.nodes))}{hint}"


@dataclass(frozen=True, slots=True)
class CheckedNode:
    """One node of a graph, and what holds there."""

    node: str
    """Its path."""
    entries: tuple[str, ...]
    """The patterns that hold, the most specific first."""
    log_prompts: bool
    """Whether what its model is told and says is stored."""
    artifact_level: str
    """What is stored of payloads; `minimal` in a private node."""
    budgets: tuple[str, ...]
    """The budgets of its entries: the limit and what has a sum of its own."""

    def __str__(self) -> str:
        """In a line."""
        said = f"prompts {'stored' if self.log_prompts else 'never'}, level {self.artifact_level}"
        budget = f", budget {', '.join(self.budgets)}" if self.budgets else ""
        by = f" (by {', '.join(map(printable, self.entries))})" if self.entries else ""
        return f"{printable(self.node)}: {said}{budget}{by}"


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """What a policy means for one graph. Printed, it is a text of a line for each entry and node."""

    entries: tuple[CheckedEntry, ...]
    """In the policy's order."""
    nodes: tuple[CheckedNode, ...]
    """The outer before the inner ones."""
    open_nodes: tuple[str, ...]
    """Nodes that may run a graph that cannot be seen, one that is made at run time."""

    @property
    def ok(self) -> bool:
        """Whether no entry is known to meet nothing."""
        return all(each.verdict != "meets none" for each in self.entries)

    def __str__(self) -> str:
        """All of it, in lines."""
        lines = ["Entries:", *(f"  {each}" for each in self.entries or ("none",))]
        lines += ["Nodes:", *(f"  {each}" for each in self.nodes or ("none",))]
        if self.open_nodes:
            lines.append(f"Graphs that cannot be seen may run in: {', '.join(map(printable, self.open_nodes))}")
        return "\n".join(lines)


def check_graph(resolution: Resolution, graph: Any) -> PolicyCheck:
    """See `Policy.check`."""
    found = nodes_of(graph)
    explained = resolution.explain(found.paths)["nodes"][len(resolution.entries) :]
    return PolicyCheck(
        entries=tuple(_checked(entry.pattern, found) for entry in resolution.entries),
        nodes=tuple(
            CheckedNode(
                node=each["node"],
                entries=tuple(each["entries"]),
                log_prompts=each["log_prompts"],
                artifact_level=each["artifact_level"] if each["log_prompts"] else "minimal",
                budgets=tuple(f"${budget['max_cost_usd']} a {budget['scope']}" for budget in each["budgets"]),
            )
            for each in explained
        ),
        open_nodes=tuple(dict.fromkeys(map(path_text, found.open))),
    )


def _checked(pattern: NodePattern, found: GraphNodes) -> CheckedEntry:
    met: list[NodePath] = []
    for path in found.paths:
        if pattern.covers(path) and not any(path[: len(outer)] == outer for outer in met):
            met.append(path)
    if met:
        return CheckedEntry(pattern.text, "meets", tuple(dict.fromkeys(path_text(path) for path in met)))
    meant = _meant(pattern, found)
    if found.open:
        return CheckedEntry(pattern.text, "cannot be known", tuple(dict.fromkeys(map(path_text, found.open))), meant)
    return CheckedEntry(pattern.text, "meets none", (), meant)


def _meant(pattern: NodePattern, found: GraphNodes) -> str | None:
    """A pattern near this one that meets a node: misspelt, or begun in the middle of a path."""
    for path in found.paths:
        meant = pattern.misspelt_for(path, ())
        if meant is not None:
            return meant
    anywhere = NodePattern.parse(f"**/{pattern.text}")
    return anywhere.text if any(map(anywhere.covers, found.paths)) else None
