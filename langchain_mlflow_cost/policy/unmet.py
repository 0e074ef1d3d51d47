"""Entries of `nodes` that have met no node: each is told once, for what it says holds nowhere.

At once where a node of nearly that name ran; else when its handler has ended so many invocations, or handlers with the
same entries together (a web application makes one for each request), or when the process ends.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.nodes import names_in, path_text
from langchain_mlflow_cost.notices import printable, warn_or_log
from langchain_mlflow_cost.policy.problems import PolicyWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_mlflow_cost.node_patterns import NodePattern
    from langchain_mlflow_cost.nodes import NodePath

log = logging.getLogger("langchain_mlflow_cost")

HOW_TO_LOOK = (
    "Policy.check(graph) and `mlflow-cost explain POLICY --graph module:app` say which nodes a graph has, and what "
    "holds in each."
)


class _Tally:
    """What is known of some entries, whoever watches them. Used under the lock of all tallies."""

    def __init__(self, patterns: Iterable[NodePattern]) -> None:
        self.unmet = {pattern.text: pattern for pattern in patterns}
        self.invocations = 0

    def due(self) -> list[str]:
        """The entries that are still to be told; from now on they are."""
        due = list(self.unmet)
        self.unmet = {}
        return due


_LOCK = threading.RLock()
_TALLIES: OrderedDict[tuple[str, ...], _Tally] = OrderedDict()
"""One for each set of entries in this process, the one used last at the end."""


class EntryWatch:
    """Watches which entries of one handler meet a node. False where there is none left to watch. Safe for threads."""

    def __init__(self, patterns: Iterable[NodePattern]) -> None:
        patterns = tuple(patterns)
        self._own = _Tally(patterns)
        self._patterns = {pattern.text: pattern for pattern in patterns}
        self._names: set[str] = set()
        """Of the nodes that graphs say they have, whether they ran or not."""
        self._declared: set[NodePath] = set()
        self._seen: set[NodePath] = set()
        """Nodes that ran."""
        with _LOCK:
            key = tuple(sorted(self._patterns))
            self._together = _TALLIES.setdefault(key, _Tally(patterns))
            _TALLIES.move_to_end(key)
            while len(_TALLIES) > limits().watched_policies:
                _TALLIES.popitem(last=False)

    def __bool__(self) -> bool:
        return bool(self._own.unmet)

    def note_graph(self, path: NodePath, nodes: Iterable[str]) -> None:
        """Note which nodes a graph has that begins to run: an entry for one of them is right, though it may never run.

        Args:
            path: Of the graph.
            nodes: Their names.
        """
        declared = [(*path, name) for name in nodes]
        with _LOCK:
            if self._declared.issuperset(declared) or len(self._declared) >= limits().remembered_nodes:
                return
            self._declared.update(declared)
            self._names.update(names_in(node)[-1] for node in declared)
            for node in declared:
                self._meet(node)

    def note_node(self, path: NodePath) -> None:
        """Note that something runs in a node."""
        with _LOCK:
            if not path or path in self._seen or len(self._seen) >= limits().remembered_nodes:
                return
            self._seen.add(path)
            self._meet(path)
        for text, meant in self._misspelt(path):
            warn_or_log(
                f'policy: the entry "{printable(text)}" of nodes means no node, but "{printable(path_text(path))}" '
                f'runs: did you mean "{printable(meant)}"? What the entry says does not hold there.',
                log,
                PolicyWarning,
            )

    def end_invocation(self) -> None:
        """Note that an invocation has ended, and tell what has met no node in all of them."""
        if not self._patterns:
            return
        with _LOCK:
            self._own.invocations += 1
            self._together.invocations += 1
            enough = limits().unmet_invocations
            due: list[str] = []
            if self._own.invocations >= enough:
                due = self._own.due()
            elif self._together.invocations >= enough:
                due = [text for text in self._together.due() if text in self._own.unmet]
            for text in due:
                self._forget(text)
        if due:
            _tell(due, f"in {enough} invocations")

    def _meet(self, path: NodePath) -> None:
        """Take the entries that cover a node out."""
        for text, pattern in list(self._own.unmet.items()):
            if pattern.covers(path):
                self._forget(text)

    def _misspelt(self, path: NodePath) -> list[tuple[str, str]]:
        """The entries that nearly mean a node, and what they would have to be."""
        with _LOCK:
            # A node that another entry means by its full name is not what this one means.
            name = names_in(path)[-1]
            if any(each.sure_name == name and each.covers(path) for each in self._patterns.values()):
                return []
            found = []
            for text, pattern in list(self._own.unmet.items()):
                meant = pattern.misspelt_for(path, self._names)
                if meant is not None:
                    self._forget(text)
                    found.append((text, meant))
        return found

    def _forget(self, text: str) -> None:
        self._own.unmet.pop(text, None)
        self._together.unmet.pop(text, None)


def _tell(texts: list[str], when: str) -> None:
    entries = ", ".join(f'"{printable(text)}"' for text in texts)
    many = len(texts) > 1
    warn_or_log(
        f"policy: the {'entries' if many else 'entry'} {entries} of nodes met no node {when}: what "
        f"{'they say' if many else 'it says'} holds nowhere. {HOW_TO_LOOK}",
        log,
        PolicyWarning,
    )


@atexit.register
def _tell_at_the_end() -> None:
    with _LOCK:
        due = [tally.due() for tally in _TALLIES.values() if tally.invocations]
    for texts in due:
        if texts:
            _tell(texts, "in this process")
