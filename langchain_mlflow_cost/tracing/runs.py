"""Runs and invocations: which span belongs to which run, node and handler, and what each has cost so far.

A *run* is LangChain's: one call of a model, tool, retriever, chain, node or graph. An *invocation* is the tree of
runs below one root that a handler was passed to. Runs are kept by `run_id` for the whole process, because the order
in which handlers are called is not fixed and the same run may be told to several of them, or several times.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import re
import sys
import threading
import time
import traceback
import warnings
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from langchain_mlflow_cost.nodes import node_path, path_text
from langchain_mlflow_cost.pricing.ledger import Call, CostSummary, Ledger, Totals
from langchain_mlflow_cost.redaction.cache import LeafCache
from langchain_mlflow_cost.redaction.private_text import MAX_CHARS, PrivateText
from langchain_mlflow_cost.redaction.walk import Redactor
from langchain_mlflow_cost.tracing import run_metrics
from langchain_mlflow_cost.tracing.enforcement import Enforcement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal
    from types import FrameType
    from uuid import UUID

    from langchain_mlflow_cost.adapters.spans import LiveSpan
    from langchain_mlflow_cost.budgets.local import Budgets, Reservation
    from langchain_mlflow_cost.nodes import NodePath
    from langchain_mlflow_cost.policy.node_policy import Kind, NodePolicy
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.book import Cost, PriceBook, PricedCall
    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult
    from langchain_mlflow_cost.tracing.guard import Scope, SpanState

log = logging.getLogger("langchain_mlflow_cost")

MAX_OPEN_INVOCATIONS = 2_000
"""Invocations that never ended (a killed thread, a lost event) are let go, the longest idle first, beyond this many.

MLflow itself keeps 1,000 open traces (`MLFLOW_TRACE_BUFFER_MAX_SIZE`) and drops the oldest beyond that.
"""
WARM_INVOCATIONS = 256
"""Open invocations, the last active ones, that keep what only saves time; of the others it is made anew if need be."""
RETURNED_INVOCATIONS = 128
"""So many of the others stay open of those in which each function that a run began in has returned.

Nobody is left to end them, but for a start and an end that are both told in functions of their own.
"""
WARM_CHARS = 32_000_000
"""Characters that redaction remembers for all of them together: for one it may be 8 million."""
ABANDONED_S = 3_600.0
"""An invocation idle for so long is let go if it is not among those. MLflow drops its trace then, too
(`MLFLOW_TRACE_BUFFER_TTL_SECONDS`)."""
KEPT_SUMMARIES = 256
"""Finished invocations whose sums a handler still tells."""
KEPT_SESSIONS = 4_096
"""Sessions whose private text a handler remembers, at most, and `private_text.MAX_CHARS` characters in all."""


class Governor:
    """What one handler enforces; shared by all its invocations."""

    def __init__(
        self,
        handler: Any,
        policy: Policy,
        prices: PriceBook,
        budgets: Budgets,
        on_cost: Callable[[Call], None] | None = None,
    ) -> None:
        self.handler = handler
        self.policy = policy
        self.prices = prices
        self.budgets = budgets
        self.on_cost = on_cost
        self.names: dict[tuple[NodePath, str], str] = {}
        """Names of runs, by node, that hold nothing to redact."""
        self._told: set[str] = set()
        self._unpriced: set[str] = set()
        self._private: OrderedDict[str, PrivateText] = OrderedDict()
        self._lock = threading.Lock()
        self._invocations: OrderedDict[UUID, Invocation] = OrderedDict()
        self._latest: Invocation | None = None

    def tell(self, call: Call) -> None:
        """Call the user's `on_cost`; what it raises must not stop the graph, and is logged once a cause."""
        if self.on_cost is None:
            return
        try:
            self.on_cost(call)
        except Exception as error:  # noqa: BLE001 - it may raise anything
            cause = type(error).__name__
            if cause not in self._told:
                self._told.add(cause)
                log.warning("langchain_mlflow_cost: on_cost failed (%s); the run goes on", cause)
                log.debug("at\n%s", "".join(traceback.format_tb(error.__traceback__)))

    def warn_unpriced(self, model: str) -> None:
        """Warn, once a model, that its calls are counted without a price."""
        if model in self._unpriced:
            return
        self._unpriced.add(model)
        text = (
            f"no price is known for model {model!r}: its calls are counted as unpriced, not as free. "
            "Set prices.overrides or prices.aliases in the policy."
        )
        try:
            warnings.warn(text, UserWarning, stacklevel=2)
        except UserWarning:
            # Where warnings are errors, a raised one would end the accounting of this call half-way.
            log.warning(text)

    def private_text(self, session: str | None) -> PrivateText:
        """What private nodes of a session were told and said: its later invocations have it in their history."""
        if session is None:
            return PrivateText()
        with self._lock:
            known = self._private.pop(session, None) or PrivateText()
            self._private[session] = known
            chars = sum(each.chars for each in self._private.values())
            while len(self._private) > 1 and (len(self._private) > KEPT_SESSIONS or chars > MAX_CHARS):
                chars -= self._private.popitem(last=False)[1].chars
        return known

    def began(self, invocation: Invocation) -> None:
        """Remember an invocation for `summary`, and let go of the oldest finished ones."""
        with self._lock:
            self._latest = invocation
            self._invocations[invocation.root_id] = invocation
            while len(self._invocations) > KEPT_SUMMARIES:
                self._invocations.popitem(last=False)

    def summary(self, trace_id: str | None) -> CostSummary | None:
        """The sums of a trace, or of the invocation that began last; None if there is none."""
        with self._lock:
            if trace_id is None:
                found = [self._latest] if self._latest else []
            else:
                found = [i for i in self._invocations.values() if i.trace_id == trace_id]
        if not found:
            return None
        return found[0].ledger.summary(found[0].trace_id, *(each.ledger for each in found[1:]))


class Invocation:
    """One root run of one handler, and everything below it."""

    def __init__(self, governor: Governor, root_id: UUID, session: str | None) -> None:
        self.governor = governor
        self.root_id = root_id
        self.session = session
        self.trace_id = ""
        self.ledger = Ledger()
        self._redactors: dict[Any, Redactor] = {}
        self._enforcements: dict[NodePath, Enforcement] = {}

    @property
    def remembered_chars(self) -> int:
        """What the redactors remember, in characters, an entry counted as `_ENTRY_CHARS` on top of its own."""
        caches = [redactor.cache for redactor in list(self._redactors.values())]
        return sum(cache.chars + _ENTRY_CHARS * len(cache) for cache in caches)

    def forget(self) -> None:
        """Let go of the payloads that the redactors remember. Spans and runs have these redactors, and go on."""
        for redactor in list(self._redactors.values()):
            redactor.cache = LeafCache()

    def close(self) -> None:
        """Let go of all but the sums, which stay for `summary`."""
        self.forget()
        self._redactors = {}
        self._enforcements = {}

    def node_policy(self, path: NodePath) -> NodePolicy:
        """The policy of a node."""
        return self.governor.policy.for_node(path)

    def enforcement(self, path: NodePath) -> Enforcement:
        """The policy of a node, with the redactor of this invocation."""
        found = self._enforcements.get(path)
        if found is None:
            policy = self.node_policy(path)
            key = (policy.rules, policy.max_payload_chars)
            redactor = self._redactors.get(key)
            if redactor is None:
                redactor = self._redactors.setdefault(key, Redactor(policy.rules[0], policy.max_payload_chars))
            found = Enforcement(path_text(path), policy.artifact_level, policy.log_prompts, (redactor,))
            self._enforcements[path] = found
        return found


_UNKNOWN = (0, 0)
"""No thread, no task."""
_ENTRY_CHARS = 200
"""Bytes that a cache's entry takes besides its text."""


class Run:
    """One LangChain run that is being recorded."""

    __slots__ = (
        "attributes",
        "base",
        "children",
        "enforcement",
        "first_token_ns",
        "frame",
        "invocations",
        "is_node",
        "kind",
        "lock",
        "mlflow_run",
        "name",
        "orphans",
        "outcome",
        "parent",
        "path",
        "prompt",
        "prompt_tokens",
        "request",
        "reservations",
        "root",
        "run_id",
        "scope",
        "scopes",
        "seen_s",
        "span",
        "start_ns",
        "state",
        "token",
        "tokens",
        "tools",
        "totals",
        "warm_chars",
        "where",
    )

    def __init__(self, run_id: UUID, parent: Run | None, path: NodePath, kind: Kind, name: str) -> None:
        self.run_id = run_id
        self.parent = parent
        self.root: Run = self if parent is None else parent.root
        self.path = path
        self.kind = kind
        self.name = name
        self.base: NodePath = ()
        self.is_node = bool(path) and (parent is None or parent.path != path)
        self.invocations: tuple[Invocation, ...] = ()
        self.enforcement: Enforcement
        self.scope: Scope
        self.scopes: tuple[Scope, ...] = ()
        self.span: LiveSpan | None = None
        self.state: SpanState | None = None
        self.token: Any = None
        self.frame: FrameType | None = None
        self.where = _UNKNOWN
        self.totals = Totals()
        self.request: CallRequest | None = None
        self.prompt: Any = None
        self.tools: Any = None
        self.prompt_tokens: int | None = None
        self.reservations: list[tuple[Budgets, Reservation]] = []
        self.tokens: list[str] = []
        self.first_token_ns: int | None = None
        self.start_ns = time.time_ns()
        self.seen_s = 0.0
        self.warm_chars = 0
        self.mlflow_run: str | None = None
        self.children: set[UUID] = set()
        self.orphans: list[Run] = []
        self.outcome: Any = None
        self.attributes: dict[str, Any] = {}
        self.lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.run_id in RUNS

    @property
    def node(self) -> str:
        """The path of the node that it is in, as text."""
        return path_text(self.path)

    def govern(self, governor: Governor, session: str | None) -> bool:
        """Put the run under one more handler; False if it is already."""
        if any(invocation.governor is governor for invocation in self.invocations):
            return False
        self.invocations += (Invocation(governor, self.run_id, session),)
        return True

    def strictest(self) -> Enforcement:
        """The policies of all handlers that govern the run, at once."""
        enforcement = self.invocations[0].enforcement(self.path)
        for invocation in self.invocations[1:]:
            enforcement = enforcement.stricter(invocation.enforcement(self.path))
        return enforcement

    def announce(self) -> None:
        """Let each handler know an invocation that began with this run."""
        for invocation in self.invocations:
            if invocation.root_id == self.run_id:
                invocation.trace_id = self.span.trace_id if self.span is not None else ""
                invocation.governor.began(invocation)

    def rest(self) -> bool:
        """Let go of what only saves time; whether the function that the run began in has returned, if that is known."""
        for invocation in self.invocations:
            invocation.forget()
        frame = self.frame
        if frame is not None and not frame.f_code.co_flags & _RESUMABLE:
            # The one way to ask whether a function still runs in some thread: then this raises, and does nothing.
            with contextlib.suppress(RuntimeError):
                frame.clear()
                self.frame = None
        return self.frame is None and self.where != _UNKNOWN

    def close(self) -> None:
        """End each invocation that began with this run, and let go of payloads: a context may keep the span."""
        self.prompt = self.tools = self.token = self.outcome = None
        self.tokens = []
        for invocation in self.invocations:
            if invocation.root_id == self.run_id:
                invocation.governor.budgets.end_trace(invocation.root_id)
                invocation.close()

    def lineage(self) -> list[Run]:
        """This run and those above it."""
        found, run = [], self
        while True:
            found.append(run)
            if run.parent is None:
                return found
            run = run.parent


def session_of(metadata: Mapping[str, Any] | None) -> str | None:
    """LangGraph's `thread_id`."""
    thread = (metadata or {}).get("thread_id")
    return None if thread is None else str(thread)


def _placed(parent: Run | None, told: NodePath) -> tuple[NodePath, NodePath]:
    """The path of a run, and what of it LangGraph did not tell.

    A nested graph with a thread of its own begins anew: its runs tell paths that do not begin with the outer node's.
    """
    if parent is None:
        return told, ()
    outer, base = parent.path, parent.base
    for prefix in (base, ()):
        path = prefix + told
        if path[: len(outer)] == outer:
            return path, prefix
        if outer[: len(path)] == path:
            return outer, prefix
    return outer + told, outer


def open_run(
    governor: Governor,
    run_id: UUID,
    parent: Run | None,
    kind: Kind,
    name: str,
    metadata: Mapping[str, Any] | None,
    new_scope: Callable[[], Scope],
) -> Run:
    """Make the record of a run: its node, the handlers that govern it, and what they enforce."""
    path, base = _placed(parent, node_path(metadata))
    run = Run(run_id, parent, path, kind if parent or kind != "state" else "root", name)
    run.base = base
    session = session_of(metadata)
    if parent is None:
        run.scope = new_scope()
        run.scopes = (run.scope,)
        run.invocations = (Invocation(governor, run_id, session),)
    else:
        run.scope, run.scopes = parent.scope, parent.scopes
        run.invocations = parent.invocations
        if run.govern(governor, session) and governor.policy.has_private_nodes:
            run.scope.holding = True
    run.enforcement = run.strictest()
    return run


class Registry:
    """The runs that are open in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[UUID, Run] = {}
        self._roots: OrderedDict[UUID, Run] = OrderedDict()
        """The longest idle first."""
        self._warm: OrderedDict[UUID, Run] = OrderedDict()
        """Those of them whose redactors remember payloads, in the same order."""
        self._warm_chars = 0
        self._returned: OrderedDict[UUID, Run] = OrderedDict()
        """Those of the others that nobody is left to end, as it seems; the longest idle first."""
        self._orphans: OrderedDict[UUID, Run] = OrderedDict()
        """Runs that are still open though their invocation has ended: of a thread that outlives it, or never ending."""

    def __contains__(self, run_id: UUID) -> bool:
        return run_id in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID | None) -> Run | None:
        """An open run."""
        return None if run_id is None else self._runs.get(run_id)

    def add(self, run: Run) -> tuple[Run, list[Run], list[Run]]:
        """Open a run.

        Returns:
            The run that is open under this id, which is an earlier one if it was told twice; the roots, and runs left
            over from an invocation that has ended, that must be let go because they never ended; and the roots that
            were idle for longest, which must rest.
        """
        stale: list[Run] = []
        idle: list[Run] = []
        remembered = sum(invocation.remembered_chars for invocation in run.invocations)
        with self._lock:
            known = self._runs.setdefault(run.run_id, run)
            if known is run:
                if run.parent is None:
                    self._roots[run.run_id] = run
                else:
                    run.parent.children.add(run.run_id)
                self._heard_of(run.root)
                if run.root.run_id in self._roots:
                    idle = self._warm_up(run.root, remembered)
                if run.parent is None:
                    stale = self._stale(run.seen_s)
        return known, stale, idle

    def _heard_of(self, root: Run) -> None:
        root.seen_s = time.monotonic()
        self._returned.pop(root.run_id, None)
        if root.run_id in self._roots:
            self._roots.move_to_end(root.run_id)

    def _warm_up(self, root: Run, remembered: int) -> list[Run]:
        self._cool(root)
        self._warm[root.run_id] = root
        root.warm_chars = remembered
        self._warm_chars += remembered
        idle = []
        while len(self._warm) > WARM_INVOCATIONS or (self._warm_chars > WARM_CHARS and len(self._warm) > 1):
            idle.append(next(iter(self._warm.values())))
            self._cool(idle[-1])
        return idle

    def _cool(self, root: Run) -> None:
        if self._warm.pop(root.run_id, None) is not None:
            self._warm_chars -= root.warm_chars

    def _stale(self, now_s: float) -> list[Run]:
        stale = []
        while len(self._roots) > WARM_INVOCATIONS:
            longest = next(iter(self._roots.values()))
            if len(self._roots) <= MAX_OPEN_INVOCATIONS and longest.seen_s > now_s - ABANDONED_S:
                break
            stale.append(self._roots.pop(longest.run_id))
        while len(self._returned) > RETURNED_INVOCATIONS:
            longest = self._returned.popitem(last=False)[1]
            if self._roots.pop(longest.run_id, None) is not None:
                stale.append(longest)
        for root in stale:
            self._cool(root)
        while len(self._orphans) > MAX_OPEN_INVOCATIONS:
            stale.append(self._orphans.popitem(last=False)[1])
        return stale

    def has_returned(self, root: Run) -> None:
        """Note that nobody seems to be left to end an invocation, unless it is heard of again."""
        with self._lock:
            if root.run_id in self._roots and root.run_id not in self._warm:
                self._returned[root.run_id] = root

    def remove(self, run: Run) -> None:
        """Close a run."""
        run.frame = None  # It would keep everything on that stack.
        with self._lock:
            self._runs.pop(run.run_id, None)
            self._roots.pop(run.run_id, None)
            self._returned.pop(run.run_id, None)
            self._orphans.pop(run.run_id, None)
            self._cool(run)
            left_over = [self._runs[child] for child in run.children if child in self._runs]
            if run.parent is None:
                for orphan in (*run.orphans, *left_over):
                    if orphan.run_id in self._runs:
                        self._orphans[orphan.run_id] = orphan
                run.orphans = []
            else:
                run.parent.children.discard(run.run_id)
                if run.root.run_id in self._roots:
                    run.root.orphans += left_over
                else:
                    self._orphans.update((orphan.run_id, orphan) for orphan in left_over)
                self._heard_of(run.root)

    def below(self, run: Run) -> list[Run]:
        """The open runs below one, innermost first."""
        with self._lock:
            found: list[Run] = []
            stack = list(run.children)
            while stack:
                child = self._runs.get(stack.pop())
                if child is not None:
                    found.append(child)
                    stack.extend(child.children)
        return found[::-1]


RUNS = Registry()


def enrol(run: Run, finish: Callable[..., None]) -> bool:
    """Open a run, and let go of the invocations that never ended; False if it is open already.

    Args:
        run: As `open_run` made it.
        finish: Ends a run's span.
    """
    opened, stale, idle = RUNS.add(run)
    for root in idle:
        if all([resting.rest() for resting in (*RUNS.below(root), root)]):  # noqa: C419 - each of them must rest
            RUNS.has_returned(root)
    for root in stale:
        for lost in (*RUNS.below(root), root):
            if lost.kind == "model":
                # It may be under way and answer yet: its cost is estimated, and what was reserved for it given back.
                lost.invocations[0].governor.handler.break_off(lost)
            finish(lost, error=None, abandoned=True)
        # A store that is away must not keep the next invocation from beginning.
        with contextlib.suppress(Exception):
            run_metrics.ended(root)
    return opened is run


def join(run: Run, governor: Governor) -> bool:
    """Put a run under a second handler: both policies hold, nothing is recorded twice. False if it is already."""
    with run.lock:
        if not run.govern(governor, run.invocations[0].session):
            return False
        if governor.policy.has_private_nodes:
            run.scope.holding = True
        run.enforcement = run.strictest()
    return True


# --- where in the program a run began -------------------------------------------------------------------------------

_MACHINERY = re.compile(r"langchain_core\.(callbacks|runnables\.config|tracers)|langchain_mlflow_cost|mlflow\.")


@lru_cache(maxsize=1024)
def _is_machinery(module: str) -> bool:
    return _MACHINERY.match(module) is not None


def caller() -> FrameType | None:
    """The frame of the runnable that told us of a start."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - CPython's documented way to the caller's frame
    while frame is not None and (
        _is_machinery(frame.f_globals.get("__name__", "")) or frame.f_code.co_name == _COMPREHENSION
    ):
        frame = frame.f_back
    return frame


_COMPREHENSION = "<listcomp>"
"""Up to Python 3.11 a function of its own: `batch` of a sequence tells of its starts in one."""


def _here() -> tuple[int, int]:
    """This thread and, in async code, this task."""
    # Asking for the task where no loop runs raises, which costs more than all the rest.
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None  # noqa: SLF001
    return threading.get_ident(), id(task) if task else 0


def mark_place(run: Run) -> None:
    """Remember where a run began, for `suspended` and `left`."""
    frame = caller()
    if frame is not None and frame.f_globals.get("__name__") not in _PLACELESS:
        run.frame, run.where = frame, _here()


_PLACELESS = ("contextlib", "asyncio.events")
"""A `with` block's run (`trace_as_chain_group`), and those that `abatch` starts as tasks, begin in a function of these
modules, which has returned long before the run ends."""


_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_RESUMABLE = _GENERATOR | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


def suspended(run: Run) -> bool:
    """Whether a run is a generator that waits for its consumer.

    A half-read `graph.stream()` leaves its span active in the consumer's context; what the consumer starts next is
    not inside it. It is told by the generator's frame, which is then not on this thread's stack. (LangGraph tells of a
    node in a function that has returned by then: its frame is on no stack, and says nothing.)
    """
    return run.frame is not None and bool(run.frame.f_code.co_flags & _GENERATOR) and left(run)


def left(root: Run) -> bool:
    """Whether the code that an invocation began in is not around what runs here, in the same thread and task.

    It has returned and the invocation never ended: something raised between the start and the work, or a start was
    told by hand. Its span is still active; without this, all that the thread does later would be inside it.
    """
    begun = root.frame
    # Sync code that runs a loop, and with it a task, is on the stack below the task.
    if root.where not in (here := _here(), (here[0], 0)):
        return False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None:
        if frame is begun:
            return False
        frame = frame.f_back
    return True


def call_of(
    run: Run,
    *,
    model: str,
    input_tokens: int,
    output_tokens: int,
    usd: tuple[Decimal, Decimal] | None,
    cached: bool = False,
    estimated: bool = False,
) -> Call:
    """A call's figures as the ledger adds them up."""
    return Call(
        node=run.node,
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        input_usd=usd[0] if usd else None,
        output_usd=usd[1] if usd else None,
        cached=cached,
        estimated=estimated,
    )


class Accounted(NamedTuple):
    """A call as one handler counts it."""

    invocation: Invocation
    priced: PricedCall
    call: Call


def account(run: Run, request: CallRequest, result: CallResult, *, key: object = None) -> list[Accounted]:
    """Price a call for each handler that governs the run, and add it up; the first one's also for the spans.

    Args:
        run: The call's own, or the one that it was made in.
        request: What was asked for.
        result: What was used.
        key: Under which a running estimate of the call stands in the ledgers.
    """
    accounted = []
    for position, invocation in enumerate(run.invocations):
        priced = invocation.governor.prices.price(request, result)
        call = call_of(
            run,
            model=priced.model,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            usd=(priced.cost.input_usd, priced.cost.output_usd) if priced.cost is not None else None,
            cached=result.cached,
            estimated=result.estimated,
        )
        spans = [above.totals for above in run.lineage()] if position == 0 else ()
        invocation.ledger.add(call, spans, key=key)
        if priced.cost is None:
            invocation.governor.warn_unpriced(priced.model)
        accounted.append(Accounted(invocation, priced, call))
    return accounted


def cost_attribute(cost: Cost) -> dict[str, float]:
    """`mlflow.llm.cost`, which MLflow's dashboards add up."""
    return {
        "input_cost": float(cost.input_usd),
        "output_cost": float(cost.output_usd),
        "total_cost": float(cost.total_usd),
    }


def dumped(value: Any) -> str:
    """A plain value as the JSON text of an attribute."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value)  # an integer beyond 64 bits, from a provider that counts wildly
