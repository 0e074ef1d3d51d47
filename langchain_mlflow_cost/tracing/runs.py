"""The runs that are open in this process: LangChain's calls of a model, tool, retriever, chain, node or graph.

They are kept by `run_id` for the whole process, because the order in which handlers are called is not fixed and the
same run may be told to several of them, or several times.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from langchain_mlflow_cost.adapters.graph_runs import cached_nodes, graph_of, is_graph_run
from langchain_mlflow_cost.attributes import USER_KEYS
from langchain_mlflow_cost.graphs import graph_name, path_within
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.nodes import GraphName, node_path, path_text
from langchain_mlflow_cost.pricing.ledger import Totals
from langchain_mlflow_cost.tracing.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal
    from uuid import UUID

    from mlflow.entities import LiveSpan

    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.node_policy import Kind, NodePolicy
    from langchain_mlflow_cost.tracing.calls import ModelCall
    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.span_state import SpanState
    from langchain_mlflow_cost.tracing.trace import Trace


class Run:
    """One LangChain run that is being recorded."""

    __slots__ = (
        "__weakref__",
        "attempt",
        "bare",
        "base",
        "call",
        "children",
        "failures",
        "given",
        "handlers",
        "is_graph",
        "is_resumed",
        "kind",
        "metadata",
        "name",
        "outcome",
        "parent",
        "path",
        "place",
        "policy",
        "run_id",
        "session_id",
        "span",
        "state",
        "step",
        "task",
        "told_parent",
        "tool",
        "tool_usd",
        "totals",
        "trace",
    )

    def __init__(self, run_id: UUID, parent: Run | None, path: NodePath, kind: Kind, name: str) -> None:
        self.run_id = run_id
        self.parent = parent
        self.path = path
        """The innermost node that it is in, and the graphs around it that have a name."""
        self.bare = path
        """The same without the graphs."""
        self.is_graph = False
        """Whether it is the run of a compiled graph."""
        self.base: NodePath = ()
        """What of the path LangGraph did not tell."""
        self.kind = kind
        self.name = name
        self.handlers: tuple[HandlerState, ...] = ()
        self.session_id: str | None = None
        self.told_parent: UUID | None = None
        """The parent that LangChain told, which need not be recorded here."""
        self.metadata: Mapping[str, Any] | None = None
        """As LangChain tells it: who the user is, and the values of tags, may stand there."""
        self.is_resumed = False
        """Of a graph: it goes on after an interrupt."""
        self.trace: Trace
        self.policy: NodePolicy
        self.place = Place()
        self.span: LiveSpan | None = None
        self.state: SpanState | None = None
        """What the guard knows of the span; None where nothing is recorded."""
        self.call: ModelCall | None = None
        """Of a model's run."""
        self.tool: str | None = None
        """Of a tool's run: the tool, whatever the run is called; None once its fee is counted."""
        self.tool_usd: Decimal | None = None
        """Of a tool's run: its fee, by the first handler's policy."""
        self.totals = Totals()
        """Sums of the calls in it and below, as the first handler prices them."""
        self.children: set[UUID] = set()
        """Open runs below, those too whose own parent has ended."""
        self.task: str | None = None
        """Of a node's run: LangGraph's name for this execution of it, the same when it is tried again."""
        self.step: int | None = None
        """Of a node's run: the graph's step that it is part of."""
        self.attempt = 1
        """Which try of it this is."""
        self.failures: dict[str, int] | None = None
        """Of a graph's run: how often tasks in it have failed."""
        self.given: frozenset[str] | None = None
        """Of a private node's run: the strings in what it was given."""
        self.outcome: Callable[[], None] | None = None
        """Ends it: it has ended before what runs in it."""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.run_id in RUNS

    def is_under_way_elsewhere(self) -> bool:
        """Whether another thread or task is known to be in it."""
        return self.place.is_under_way_elsewhere()

    @property
    def is_node(self) -> bool:
        """Whether it is the run of a node itself."""
        path = self.path
        return bool(path) and isinstance(path[-1], str) and (self.parent is None or self.parent.path != path)

    def declare_names(self) -> None:
        """Let its trace know the names of the nodes and graphs that it is in: they are no private text."""
        if self.parent is None or self.path is not self.parent.path:
            self.trace.declared.update([part if isinstance(part, str) else part.name for part in self.path])

    @property
    def was_given(self) -> frozenset[str]:
        """What the innermost private node that it is in was given."""
        return next((run.given for run in self.lineage() if run.given is not None), frozenset())

    @property
    def node(self) -> str:
        """The path of the node that it is in, as text."""
        return path_text(self.path)

    def open_above(self) -> Run | None:
        """The nearest run above that is open: a thread may outlive the run that it began in."""
        above = self.parent
        while above is not None and above.run_id not in RUNS:
            above = above.parent
        return above

    def add_handler(self, state: HandlerState) -> bool:
        """Put the run under one more handler, whose policy holds too; False if it is already."""
        with self.trace.lock:
            if state in self.handlers:
                return False
            self.handlers += (state,)
            self.trace.add_handler(state, self.session_id)
            self.policy = self.trace.policy_at(self.handlers, self.path)
        return True

    def begin_task(self, metadata: Mapping[str, Any] | None) -> None:
        """Note which execution of a node this is, if it is one, and count it if it is a retry."""
        above, task = self.parent, (metadata or {}).get("langgraph_checkpoint_ns")
        if above is None or task is None or not self.is_node:
            return
        self.task, self.step = task, (metadata or {}).get("langgraph_step")
        if above.failures and task in above.failures:
            self.attempt = above.failures[task] + 1
            for state in self.handlers:
                self.trace.ledger_of(state).add_retry(self.node)

    def note_failure(self) -> None:
        """Note that a node has failed: LangGraph 1.2 tells of the next try as of a new run."""
        above = self.parent
        if self.task is not None and above is not None:
            if above.failures is None:
                above.failures = {}
            above.failures[self.task] = above.failures.get(self.task, 0) + 1

    def policy_at(self, path: NodePath) -> NodePolicy:
        """What its handlers' policies say of another node."""
        return self.trace.policy_at(self.handlers, path)

    def owner(self, scope: str) -> str | None:
        """The id of its session, user or tag, whichever a budget's scope means; None where nobody told it."""
        if scope == "session":
            return self.session_id
        for key in USER_KEYS if scope == "user" else (scope.removeprefix("tag:"),):
            for run in self.lineage():
                value = None if run.metadata is None else run.metadata.get(key)
                if value is not None and value != "":
                    return str(value)
        return None

    def outermost_task(self) -> tuple[str | None, int | None]:
        """The execution of a node of the outermost graph that it is in, and the graph's step."""
        task: tuple[str | None, int | None] = None, None
        for run in self.lineage():
            if run.task is not None:
                task = run.task, run.step
        return task

    def resumed_by(self) -> UUID | None:
        """The innermost graph around it that goes on after an interrupt."""
        return next((run.run_id for run in self.lineage() if run.is_resumed), None)

    def lineage(self) -> Iterator[Run]:
        """This run and those above it."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.parent

    def close(self) -> None:
        """Let go of what only an open run needs: a context may keep it."""
        self.place.close()
        self.call = self.outcome = None


def session_id_of(metadata: Mapping[str, Any] | None) -> str | None:
    """LangGraph's `thread_id`."""
    thread = (metadata or {}).get("thread_id")
    return None if thread is None else str(thread)


def _place(run: Run, told: NodePath) -> None:
    """Find where in its graphs a run is.

    A nested graph with a thread of its own begins anew: its runs tell paths that do not begin with the outer node's.
    """
    parent = run.parent
    assert parent is not None
    outer, base = parent.bare, parent.base
    for prefix in (base, ()):
        bare = prefix + told
        if bare[: len(outer)] == outer:
            break
        if outer[: len(bare)] == bare:
            bare = outer
            break
    else:
        prefix, bare = outer, outer + told
    run.base, run.bare = prefix, bare
    run.path = bare if parent.path is outer else parent.path + bare[len(outer) :]


def _name_graph(run: Run) -> None:
    """Take the graph whose run it is into its path, if it has a name of its own."""
    if run.parent is not None:
        name = graph_name(graph_of(run.place.frame))
        run.path = path_within(run.path, name, is_called=_is_called(run.parent))


def _note_nodes(run: Run) -> None:
    """Let those know which nodes a graph has who watch for entries that mean none."""
    watches = [state.entries for state in run.handlers if state.entries]
    nodes = getattr(graph_of(run.place.frame), "nodes", None) if watches else None
    if isinstance(nodes, Mapping):
        for watch in watches:
            watch.note_graph(run.path, nodes)


def _note_cache(run: Run) -> None:
    """Have what private nodes said known, wherever LangGraph may give it again from its cache without running them."""
    names, is_of_process = cached_nodes(run.place.frame)
    for name in names:
        if not all(state.policy.for_node((*run.path, name)).log_prompts for state in run.handlers):
            run.trace.note_cache(is_of_process=is_of_process)
            return


def _is_called(above: Run | None) -> bool:
    """Whether what begins below this run was called by a tool, and not by a node's function."""
    while above is not None and above.kind != "work":
        if above.is_graph or above.is_node:
            return False
        above = above.parent
    return above is not None


def _root_path(told: NodePath, metadata: Mapping[str, Any] | None) -> NodePath:
    """The path of a run above which nothing is known: a model within an agent, told by a handler of its own.

    LangChain tells it the name of the innermost agent that has one, whose graph is somewhere above.
    """
    agent = (metadata or {}).get("lc_agent_name")
    if len(told) > 1 and isinstance(agent, str) and agent and agent not in told:
        return (*told[:-1], GraphName(agent, is_called=False), told[-1])
    return told


def make_run(
    state: HandlerState,
    run_id: UUID,
    parent: Run | None,
    kind: Kind,
    name: str,
    metadata: Mapping[str, Any] | None,
    trace: Trace,
) -> Run:
    """Make the record of a run: its node, the handlers that govern it, and what holds there.

    Args:
        state: The handler that was told of it.
        run_id: LangChain's.
        parent: The run above; None for a root.
        kind: What its payload is.
        name: Its name.
        metadata: As LangChain tells it.
        trace: The one that it is in.
    """
    told = node_path(metadata)
    run = Run(run_id, parent, told, kind if parent or kind != "state" else "root", name)
    run.trace = trace
    run.metadata = metadata
    run.place.mark()
    run.is_graph = kind == "state" and is_graph_run(run.place.frame)
    if parent is not None:
        _place(run, told)
        if run.is_graph:
            _name_graph(run)
    else:
        run.path = _root_path(told, metadata)
    if parent is None:
        run.session_id = session_id_of(metadata)
        run.handlers = (state,)
        trace.add_handler(state, run.session_id)
    else:
        run.session_id = parent.session_id
        run.handlers = parent.handlers
        if state not in run.handlers and not state.is_everywhere:
            run.handlers += (state,)
            trace.add_handler(state, run.session_id)
    if run.is_graph:
        _note_nodes(run)
        if trace.holds:
            _note_cache(run)
    run.policy = trace.policy_at(run.handlers, run.path)
    if parent is not None and parent.state is None and parent.run_id not in RUNS:
        # What its trace knew of private text is gone.
        run.policy = run.policy.withheld()
    return run


class Registry:
    """The open runs, and the roots among them by last use.

    Beyond `Limits.open_roots`, the longest idle root is let go: its spans are ended as far as they got. Its runs stay
    known for a while, so that what begins below them later is still counted in the same trace and under the same
    budget, without a payload.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[UUID, Run] = {}
        self._roots: OrderedDict[UUID, Run] = OrderedDict()
        """The longest idle first."""
        self._let_go: OrderedDict[UUID, Run] = OrderedDict()
        self._ended: WeakValueDictionary[UUID, Run] = WeakValueDictionary()
        """Those that have ended in a trace that is held, as long as it is."""
        self._latest_calls: dict[tuple[int, int], Run] = {}
        """The model's call that began last in a thread and task, while it is open."""
        self._remembered_chars = 0
        """What the traces of all roots remember of payloads."""

    def __contains__(self, run_id: UUID) -> bool:
        return run_id in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID | None) -> Run | None:
        """An open run."""
        return None if run_id is None else self._runs.get(run_id)

    def parent(self, run_id: UUID | None) -> Run | None:
        """A run that others may begin below: an open one, or one that was let go."""
        if run_id is None:
            return None
        return self._runs.get(run_id) or self._let_go.get(run_id)

    def ended(self, run_id: UUID | None) -> Run | None:
        """A run that has ended in a trace that is held still: what begins below it goes on there."""
        found = None if run_id is None or not self._ended else self._ended.get(run_id)
        return None if found is None or found.trace.is_released else found

    def was_let_go(self, run: Run) -> bool:
        """Whether it is one that others may begin below though nothing is recorded of them."""
        return run.run_id in self._let_go

    def open_runs(self) -> list[Run]:
        """All of them."""
        with self._lock:
            return list(self._runs.values())

    def add(self, run: Run) -> tuple[Run, list[Run]]:
        """Open a run.

        Returns:
            The run that is open under this id, which is an earlier one if it was told twice; and the roots that must
            be let go because there are too many.
        """
        surplus: list[Run] = []
        remembered = run.trace.remembered_chars
        bounds = limits()
        with self._lock:
            known = self._runs.setdefault(run.run_id, run)
            if known is run:
                above = run.open_above()
                if above is None:
                    self._roots[run.run_id] = run
                else:
                    above.children.add(run.run_id)
                root = self._heard_of(run)
                self._count(root.trace, remembered + bounds.remembered_chars // bounds.remembered_traces)
                if self._remembered_chars > bounds.remembered_chars:
                    self._rest(root.trace, bounds.remembered_chars * 3 // 4)
                while len(self._roots) > bounds.open_roots:
                    surplus.append(self._roots.popitem(last=False)[1])
                    self._count(surplus[-1].trace, 0)
        return known, surplus

    def _heard_of(self, run: Run) -> Run:
        """Note that the root of a run is in use, and return it."""
        root = run
        while root.parent is not None and root.run_id not in self._roots:
            root = root.parent
        if root.run_id in self._roots:
            self._roots.move_to_end(root.run_id)
        return root

    def _count(self, trace: Trace, chars: int) -> None:
        self._remembered_chars += chars - trace.counted_chars
        trace.counted_chars = chars

    def _rest(self, busy: Trace, chars: int) -> None:
        """Let the longest idle traces forget their payloads, until all together remember so little."""
        for root in self._roots.values():
            if self._remembered_chars <= chars:
                return
            if root.trace.counted_chars and root.trace is not busy:
                root.trace.release_caches()
                for run in (root, *self._below(root)):
                    run.place.release_if_returned()
                self._count(root.trace, 0)

    def note_call(self, run: Run) -> None:
        """Note that a model's call begins here."""
        with self._lock:
            self._latest_calls[run.place.where] = run

    def latest_call(self, place: Place) -> Run | None:
        """The open call that began last in the thread and task of a place."""
        return self._latest_calls.get(place.where) if self._latest_calls else None

    def let_go(self, run: Run) -> None:
        """Keep a run that is no longer recorded as one that others may begin below."""
        forgotten: list[Run] = []
        with self._lock:
            self._let_go[run.run_id] = run
            while len(self._let_go) > limits().let_go_runs:
                forgotten.append(self._let_go.popitem(last=False)[1])
        for old in forgotten:
            if old.parent is None:
                for state in old.handlers:
                    state.budgets.end_trace(old.trace)

    def remove(self, run: Run) -> None:
        """Close a run; what is still open below it is then below the one above."""
        with self._lock:
            if self._runs.pop(run.run_id, None) is None:
                return
            if run.trace.holds:
                self._ended[run.run_id] = run
            if run.call is not None and self._latest_calls.get(run.place.where) is run:
                del self._latest_calls[run.place.where]
            if self._roots.pop(run.run_id, None) is not None:
                self._count(run.trace, 0)
                for child in run.children:
                    if child in self._runs:  # It outlives its root, and is bounded like one.
                        self._roots[child] = self._runs[child]
            elif (above := run.open_above()) is not None:
                above.children.discard(run.run_id)
                above.children |= run.children
                self._heard_of(above)

    def below(self, run: Run) -> list[Run]:
        """The open runs below one, innermost first."""
        with self._lock:
            return self._below(run)

    def _below(self, run: Run) -> list[Run]:
        found: list[Run] = []
        stack = list(run.children)
        while stack:
            child = self._runs.get(stack.pop())
            if child is not None:
                found.append(child)
                stack.extend(child.children)
        return found[::-1]


RUNS = Registry()
