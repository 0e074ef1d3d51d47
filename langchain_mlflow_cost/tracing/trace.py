"""All that lives as long as one MLflow trace, however many invocations and handlers it has."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.pricing.ledger import Ledger, Totals
from langchain_mlflow_cost.redaction.cache import LeafCache
from langchain_mlflow_cost.redaction.walk import Redactor
from langchain_mlflow_cost.tracing.session import SESSIONS, Session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Iterator, Mapping
    from uuid import UUID

    from langchain_mlflow_cost.errors import BudgetExceededError
    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.node_policy import NodePolicy
    from langchain_mlflow_cost.tracing.guard import GuardedSpan
    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.runs import Run
    from langchain_mlflow_cost.tracing.session_store import SessionStore

_UNKNOWN = "\0texts of unknown origin"
"""In the place of a session's id."""
_CACHED = "\0what private nodes said whose answers are cached"
"""Likewise, one for the process."""
_OWN = (None, _UNKNOWN, _CACHED)
"""In the place of an id that another process could know."""
_TOLD = Once(logging.getLogger("langchain_mlflow_cost"))

_ENTRY_CHARS = 200
"""Bytes that a cache's entry takes besides its text."""


IN_JUDGE: ContextVar[bool] = ContextVar("langchain_mlflow_cost_in_judge", default=False)
"""Whether the code that runs now is a judge's."""


class Trace:
    """One MLflow trace: sums, redactors, private text, and the spans that wait for its end.

    A trace in which some node is private is *held*: its spans are cleaned and exported when the last span that keeps
    it open has ended, since only then is it known which texts must go. The roots of its invocations keep it open, and
    the user's own spans around them.
    """

    __slots__ = (
        "__weakref__",
        "_ledgers",
        "_policies",
        "_redactors",
        "_resumed",
        "_seen_roots",
        "_sessions",
        "account",
        "counted_chars",
        "declared",
        "ended_root",
        "exports_metrics",
        "held",
        "held_chars",
        "holds",
        "home_tasks",
        "home_threads",
        "info_policy",
        "info_seen",
        "is_of_judge",
        "is_released",
        "is_shared",
        "is_waiting",
        "keepers",
        "keeps_budgets",
        "late",
        "lock",
        "metric_runs",
        "metrics_logged",
        "open_spans",
        "own_names",
        "patience",
        "private_errors",
        "root",
        "roots",
        "spends_in",
        "stopped_by",
        "trace_id",
        "when_at_rest",
    )

    _seen_roots: set[UUID]
    _resumed: set[UUID]

    def __init__(self, outlived: Trace | None = None) -> None:  # noqa: PLR0915 - a field each
        self.spends_in: Trace | None = None if outlived is None else outlived.spends_in or outlived
        """The trace whose budgets it counts in: it began in a thread or task that outlives that one."""
        self.lock = threading.RLock()
        self.trace_id = ""
        """MLflow's id; empty where nothing is recorded."""
        self.roots: set[Run] = set()
        """Open runs that LangChain knows no parent of."""
        self.account: Run | None = None
        """Stands for a run where none is: calls that no run of LangChain's is above are counted in it."""
        self.root: GuardedSpan | None = None
        """The span of the first of them: what is redacted beside the spans is noted there."""
        self.keepers: weakref.WeakSet[GuardedSpan] = weakref.WeakSet()
        """Open spans that keep a held trace from being released."""
        self.open_spans: weakref.WeakSet[GuardedSpan] = weakref.WeakSet()
        self.holds = False
        self.held: list[GuardedSpan] = []
        self.held_chars = 0
        self.is_released = False
        self.is_waiting = False
        """Its invocations have ended, and threads are still at work in it."""
        self.home_threads: weakref.WeakKeyDictionary[threading.Thread, Any] = weakref.WeakKeyDictionary()
        """Where its invocations began; of a pool's thread, what it did then."""
        self.home_tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """Likewise, in async code."""
        self.declared: set[str] = set()
        """Names that the program declares: of its nodes, its tools, and the fields of their schemas."""
        self.own_names: set[str] = set()
        """Names of models that the program itself asked for."""
        self.private_errors: list[BaseException] = []
        """Exceptions that came through a private node: they may quote its prompt."""
        self.info_policy: NodePolicy | None = None
        """What holds for the trace's own fields: the policies of all roots at once."""
        self.info_seen: dict[str, Any] = {}
        self.ended_root: GuardedSpan | None = None
        """The span that everything is below, once it has ended; what ends now is late."""
        self.late: set[Run] = set()
        """Open runs that outlive their root, in a task or thread of their own."""
        self.is_of_judge = IN_JUDGE.get()
        """A judge's own, which nobody judges."""
        self.is_shared = False
        """Other processes have a part of it, or somebody else counts one."""
        self.stopped_by: str | None = None
        """The budget that refused a call first, in words without ids."""
        self.keeps_budgets = False
        """Further calls may come after all of it has ended: it goes on in other processes, or was let go of."""
        self.exports_metrics: bool | None = None
        """Whether its metadata leaves with every span; None until somebody has asked."""
        self.patience: Any = None
        """How long the trace may still wait for the export; the recorder's."""
        self.metric_runs: dict[Run, str] = {}
        """The MLflow run that was active when a root began."""
        self.metrics_logged: dict[Run, tuple[str, Totals]] = {}
        """Roots that have ended while runs go on in them: their MLflow run, and what was logged to it."""
        self.counted_chars = 0
        """What of `remembered_chars` the registry has counted."""
        self.when_at_rest: list[Callable[[], None]] = []
        """To be called once nothing of it is open or held: what another process began may be let go of."""
        self._sessions: dict[str | None, Session] = {}
        self._seen_roots, self._resumed = set(), set()
        self._ledgers: dict[HandlerState, Ledger] = {}
        self._redactors: dict[NodePolicy, tuple[Redactor, ...]] = {}
        self._policies: dict[tuple[tuple[HandlerState, ...], NodePath], NodePolicy] = {}

    # --- handlers: policies and sums --------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether an invocation of it is under way."""
        return bool(self.roots)

    def add_handler(self, state: HandlerState, session_id: str | None) -> None:
        """Put what is recorded from now on under one more handler.

        Args:
            state: Of the handler.
            session_id: Of the run that it was told of: its history holds what earlier traces of that session were told.
        """
        self.ledger_of(state)
        if state.policy.has_private_nodes:
            self.holds = True
        if self.holds and session_id is not None:
            self.session_of(session_id)

    def add_root(self, run: Run) -> None:
        """Note that an invocation begins."""
        with self.lock:
            self.roots.add(run)
            self.is_released = False
            self.info_policy = run.policy if self.info_policy is None else self.info_policy.stricter(run.policy)

    def note_refusal(self, refusal: BudgetExceededError) -> None:
        """Remember which budget stopped it, also where the application swallows the error."""
        if self.stopped_by is None:
            self.stopped_by = refusal.budget

    def is_private_error(self, error: BaseException) -> bool:
        """Whether an exception came through a private node, or was raised from one that did: it may quote a prompt."""
        seen: list[BaseException] = []
        pending: list[BaseException | None] = [error]
        while pending:
            current = pending.pop()
            if current is None or any(current is known for known in seen):
                continue
            if any(current is private for private in self.private_errors):
                return True
            seen.append(current)
            pending += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
        return False

    @property
    def handlers(self) -> tuple[HandlerState, ...]:
        """Those that have a part in it, the first first."""
        return tuple(self._ledgers)

    def ledger_of(self, state: HandlerState) -> Ledger:
        """The sums of one handler."""
        found = self._ledgers.get(state)
        return self._ledgers.setdefault(state, Ledger()) if found is None else found

    def totals(self) -> Totals | None:
        """The sums of its first handler; None where it has none."""
        return next((ledger.totals() for ledger in self._ledgers.values()), None)

    def policy_at(self, handlers: tuple[HandlerState, ...], path: NodePath) -> NodePolicy:
        """What applies at a node: the policies of all handlers that govern the run, at once."""
        key = (handlers, path)
        found = self._policies.get(key)
        if found is None:
            found = handlers[0].policy.for_node(path)
            for state in handlers[1:]:
                found = found.stricter(state.policy.for_node(path))
            self._policies[key] = found
            for state in handlers:
                if state.entries:
                    state.entries.note_node(path)
        return found

    def redactors_of(self, policy: NodePolicy) -> tuple[Redactor, ...]:
        """This trace's redactors for a policy, which remember what they have seen."""
        found = self._redactors.get(policy)
        if found is None:
            known = {(each.rules, each.max_payload_chars): each for each in self._each_redactor()}
            found = tuple(
                known.get((rules, policy.max_payload_chars)) or Redactor(rules, policy.max_payload_chars)
                for rules in policy.rules
            )
            self._redactors[policy] = found
        return found

    def _each_redactor(self) -> Iterator[Redactor]:
        for chain in list(self._redactors.values()):
            yield from chain

    # --- private text -----------------------------------------------------------------------------------------------

    def session_of(self, session_id: str | None) -> Session:
        """Where the private text of a session is remembered; without an id, for this trace."""
        found = self._sessions.get(session_id)
        if found is None:
            made = Session() if session_id is None else SESSIONS.of(session_id)
            found = self._sessions.setdefault(session_id, made)
            if found is made:
                found.traces += 1
        return found

    @property
    def has_sessions(self) -> bool:
        """Whether anything private may be known of any session of it."""
        return bool(self._sessions)

    def private_sessions(self) -> Iterator[Session]:
        """Those of its sessions that have anything private."""
        for session in list(self._sessions.values()):
            session.settle_names(self.declared)
            session.settle_declared()
            if session:
                yield session

    def see_step(self, root: Run, step: int | None, *, is_resumed: bool = False) -> None:
        """Note how far a root's graph is: what it takes up may be a state that this process did not see arise.

        Args:
            root: Of the invocation.
            step: LangGraph's, of a node that is about to run in it; None where it is not told yet.
            is_resumed: It began without an input of its own.
        """
        session_id = root.session_id
        if session_id is None or not self.holds:
            return
        session = self.session_of(session_id)
        if is_resumed:
            self._resumed.add(root.run_id)
        if step is None:
            return
        if root.run_id not in self._seen_roots:
            self._seen_roots.add(root.run_id)
            resumed = root.run_id in self._resumed
            # One that begins anew may be given by its caller what was said before: not each graph has a checkpointer.
            if step <= 1 or not session.takes_up(step, is_resumed=resumed):
                for store in self._stores():
                    store.learn(session_id, session)
            if not session.takes_up(step, is_resumed=resumed):
                session.is_whole = False
                self.withhold_unknown()
        session.last_step = max(step, session.last_step or 0)

    def note_cache(self, *, is_of_process: bool) -> None:
        """Note that some private node may be answered from a cache, with what it said in any session.

        Args:
            is_of_process: The cache holds nothing that another process said.
        """
        if not is_of_process:
            self.withhold_unknown()
        self.session_of(_CACHED)

    def remember_returned(self, session_id: str | None, returned: Any, given: Collection[str]) -> None:
        """Remember what a private node returned or raised that it was not given."""
        self.session_of(session_id).remember_private(returned, given=given)
        if _CACHED in self._sessions:
            self._sessions[_CACHED].remember_private(returned, given=given)

    def withhold_unknown(self) -> None:
        """Withhold all text of this trace: some of it is of unknown origin."""
        unknown = self._sessions.setdefault(_UNKNOWN, Session())
        unknown.text.withhold_everything()
        _TOLD.warn(
            "unknown state",
            "a graph has taken up a state that this process did not see arise (another worker, a restart, "
            "`update_state`, or a run without this handler), under a policy with private nodes: which of its texts are "
            "private is not known, so the texts of such a trace are withheld. With `session_store` and "
            "`redaction.hash_key` in the policy, all workers know.",
        )

    def _stores(self) -> list[SessionStore]:
        stores = [state.session_store for state in self._ledgers if state.session_store is not None]
        return list(dict.fromkeys(stores))

    def share_sessions(self) -> None:
        """Tell other processes what is private in this trace's sessions."""
        if not self.holds:
            return
        for session_id, session in list(self._sessions.items()):
            if session_id not in _OWN:
                session.settle_declared()
                for store in self._stores():
                    store.share(session_id, session)

    def fits(self, chars: int) -> bool:
        """Whether a held trace has room for a payload of this size, which then counts."""
        if not self.holds or self.is_released:
            return True
        with self.lock:
            self.held_chars += chars
            return self.held_chars <= limits().held_chars

    # --- what only saves time ---------------------------------------------------------------------------------------

    @property
    def remembered_chars(self) -> int:
        """What the redactors remember, in characters, an entry counted as `_ENTRY_CHARS` on top of its own."""
        caches = {each.cache for each in self._each_redactor()}
        return sum([cache.chars + _ENTRY_CHARS * len(cache) for cache in caches])

    def release_caches(self) -> None:
        """Let go of the payloads that the redactors remember. Spans have these redactors, and go on."""
        for redactor in self._each_redactor():
            redactor.cache = LeafCache()

    def close(self) -> None:
        """Let go of all but the sums, which stay for `summary`."""
        if not self.keeps_budgets and not self.late:
            for state in self._ledgers:
                state.budgets.end_trace(self)
        self.release_caches()
        self._redactors = {}
        self._policies = {}
        if not self.late:
            self.metrics_logged = {}
        self.share_sessions()
        for session_id in self._sessions:
            if session_id is not None and session_id != _UNKNOWN:
                SESSIONS.count(session_id)
        ENDED.note(self, self._sessions)
        if not self.open_spans:
            # A span that outlives the root is still to be cleaned.
            for session in self._sessions.values():
                session.traces -= 1
            self._sessions = {}
            self.info_seen = {}
            self.root = self.ended_root = None
            self.info_policy = None
        self.private_errors = []
        with self.lock:
            waiting, self.when_at_rest = self.when_at_rest, []
        for each in waiting:
            each()

    @property
    def is_past_its_end(self) -> bool:
        """Whether its invocations have ended and it is held all the same: threads go on in it, or are looked for."""
        return self.is_waiting or bool(self.held and not self.keepers)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it is open, or held until more is known."""
        return not (self.roots or self.keepers or self.is_waiting or self.held or self.late)


class EndedTrace(NamedTuple):
    """What holds for what is written to a trace after its end."""

    policy: NodePolicy
    session_ids: frozenset[str]


class _Ended:
    """The last traces that have ended, where somebody governs what is written to them later. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, EndedTrace] = OrderedDict()
        self.is_kept = False

    def note(self, trace: Trace, sessions: Mapping[str | None, Session]) -> None:
        """Remember a trace; what its private nodes were told without a session counts among the sessions'."""
        if not self.is_kept or not trace.trace_id or trace.info_policy is None:
            return
        named = set()
        for session_id, session in sessions.items():
            if session:
                name = session_id or f"\0{trace.trace_id}"
                if session_id is None or session_id == _UNKNOWN:
                    SESSIONS.adopt(name, session)
                named.add(name)
        with self._lock:
            before = self._known.pop(trace.trace_id, None)
            names = frozenset(named) if before is None else before.session_ids | named
            policy = trace.info_policy if before is None else before.policy.stricter(trace.info_policy)
            self._known[trace.trace_id] = EndedTrace(policy, names)
            if len(self._known) > limits().ended_traces:
                self._known.popitem(last=False)

    def of(self, trace_id: str) -> EndedTrace | None:
        """What holds for a trace; None if it is not known."""
        with self._lock:
            return self._known.get(trace_id)


ENDED = _Ended()
_traces: weakref.WeakValueDictionary[int, Trace] = weakref.WeakValueDictionary()
"""By OpenTelemetry's id, as long as a handler remembers them."""


def known_trace(otel_id: int) -> Trace | None:
    """The trace with OpenTelemetry's id, if a handler of this process has governed a part of it."""
    return _traces.get(otel_id)


def hand_on(otel_id: int) -> None:
    """Note that a trace goes on in another process."""
    trace = _traces.get(otel_id)
    if trace is not None:
        trace.is_shared = trace.keeps_budgets = True


def call_at_rest(otel_id: int, call: Callable[[], None]) -> None:
    """Call something once nothing of a trace is open or held: now, if so or if nobody governs it."""
    trace = _traces.get(otel_id)
    if trace is not None:
        with trace.lock:
            if not trace.is_at_rest:
                trace.when_at_rest.append(call)
                return
    call()


def make_known(otel_id: int, trace: Trace) -> None:
    """Let later invocations of the same trace find it."""
    _traces[otel_id] = trace
