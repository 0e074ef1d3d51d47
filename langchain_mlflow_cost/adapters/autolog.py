"""MLflow's own LangChain tracer: kept out where a handler of ours records, and taken over where it was first."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from langgraph.errors import GraphBubbleUp
from mlflow.entities.span import NoOpSpan
from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS, autologging_is_disabled, get_autologging_config

from langchain_mlflow_cost.errors import BudgetExceededError

if TYPE_CHECKING:
    from uuid import UUID

    from mlflow.entities import LiveSpan

F = TypeVar("F", bound=Callable[..., Any])

_patch_lock = threading.Lock()

# A tracer lives as long as its callback manager, so that a run that is told of no end goes with it.
_native_spans: WeakValueDictionary[UUID, MlflowLangchainTracer] = WeakValueDictionary()


def stand_in_for_tracer(handler_class: type) -> None:
    """Let autolog take a handler of this class for its tracer, so that it adds none of its own.

    `autolog` looks with `isinstance` among the inheritable handlers; the tracer's metaclass is an `ABCMeta`, whose
    `register` makes a class count without inheriting. Inheriting would lose every exception: that metaclass wraps
    all methods and only logs what they raise.
    """
    MlflowLangchainTracer.register(handler_class)
    _standing_in.add(handler_class)


_standing_in: set[type] = set()


def any_standing_in(handlers: Iterable[object] | None) -> bool:
    """Whether a handler that stands in for the tracer is among these."""
    # Asked several times a run: a generator would take three times as long.
    for handler in handlers or ():  # noqa: SIM110
        if type(handler) in _standing_in:
            return True
    return False


def yield_runs(owned: Callable[[UUID], bool], adopter: Callable[[UUID | None], Any]) -> None:
    """Make MLflow's own tracer leave alone the runs that a handler of ours records.

    Both meet where a handler sits in a model's or tool's constructor: it is not inheritable there, so autolog has
    added its tracer above. Without this each such run would have two spans. Where the tracer alone is told of a run
    below a governed one (`model.generate` in a node takes no callbacks from the context), the handler is told instead.

    Args:
        owned: Whether a run is recorded by a handler of ours.
        adopter: Given the parent's run id, the handler that governs what starts here, or None.
    """
    with _patch_lock:
        if getattr(MlflowLangchainTracer, "_lmc_yields", False):
            return
        for name in [n for n in dir(MlflowLangchainTracer) if n.startswith("on_")]:
            setattr(MlflowLangchainTracer, name, _yielding(getattr(MlflowLangchainTracer, name), owned, adopter, name))
        MlflowLangchainTracer._lmc_yields = True  # noqa: SLF001


_muted = False


def mute_tracer(on: bool) -> None:
    """Make MLflow's own tracer leave all runs alone that it has not begun: a handler of ours is told of each."""
    global _muted  # noqa: PLW0603 - one for the process
    _muted = on


_left_alone: OrderedDict[UUID, None] = OrderedDict()
"""Runs of whose start the tracer was told and that it left alone: of their end it must not hear either, also where it
is told behind the handler that has ended them. MLflow warns of each ("Span for run_id ... not found")."""


def _leave_alone(run_id: UUID) -> None:
    _left_alone[run_id] = None
    if len(_left_alone) > _MOST_ADOPTED:
        _left_alone.popitem(last=False)


def _yielding(method: F, owned: Callable[[UUID], bool], adopter: Callable[[UUID | None], Any], name: str) -> F:
    starts = name.endswith("_start")
    ends = name.endswith(("_end", "_error"))

    @functools.wraps(method)
    def call(self: MlflowLangchainTracer, *args: Any, run_id: UUID | None = None, **kwargs: Any) -> Any:
        if run_id is None:
            return method(self, *args, **kwargs)
        if owned(run_id):
            handler = _adopted.pop(run_id, None) if ends else _adopted.get(run_id)
        else:
            handler = adopter(kwargs.get("parent_run_id")) if starts else None
            if handler is not None:
                _adopt(run_id, handler, owned)
        if handler is not None:
            return _forward(self, handler, name, args, run_id, kwargs)
        if owned(run_id) or (_muted and run_id not in _native_spans) or run_id in _left_alone:
            if starts:
                _leave_alone(run_id)
            return None
        if ends:
            _native_spans.pop(run_id, None)
        answer = method(self, *args, run_id=run_id, **kwargs)
        if starts:
            _native_spans[run_id] = self
        return answer

    return call  # type: ignore[return-value]


_adopted: dict[UUID, Any] = {}
_MOST_ADOPTED = 4_096


def _adopt(run_id: UUID, handler: Any, owned: Callable[[UUID], bool]) -> None:
    if len(_adopted) >= _MOST_ADOPTED:
        for lost in [known for known in list(_adopted) if not owned(known)]:
            # It was let go without having been told to end.
            _adopted.pop(lost, None)
    _adopted[run_id] = handler


def _forward(
    tracer: MlflowLangchainTracer, handler: Any, name: str, args: Any, run_id: UUID, kwargs: dict[str, Any]
) -> Any:
    """Tell a handler of a run that LangChain told only MLflow's tracer of."""
    try:
        return getattr(handler, name)(*args, run_id=run_id, **kwargs)
    except (BudgetExceededError, GraphBubbleUp):
        # LangChain asks the tracer whether its exceptions may get out.
        tracer.raise_error = True
        _adopted.pop(run_id, None)
        raise


def take_over_native_span(run_id: UUID) -> tuple[LiveSpan, Any] | None:
    """The span that MLflow's tracer has already started for a run, with its context token; the tracer forgets it."""
    tracer = _native_spans.pop(run_id, None)
    if tracer is None:
        return None
    held = tracer._run_span_mapping.pop(str(run_id), None)  # noqa: SLF001
    if held is None or isinstance(held.span, NoOpSpan):
        return None
    return held.span, held.token


def native_span(run_id: UUID | None) -> LiveSpan | None:
    """The open span that MLflow's own tracer records a run in, if it does."""
    tracer = None if run_id is None else _native_spans.get(run_id)
    held = None if tracer is None else tracer._run_span_mapping.get(str(run_id))  # noqa: SLF001
    return None if held is None or isinstance(held.span, NoOpSpan) else held.span


def autolog_is_on() -> bool:
    """Whether `mlflow.langchain.autolog()` is on."""
    return "langchain" in AUTOLOGGING_INTEGRATIONS and not autologging_is_disabled("langchain")


def records_traces() -> bool:
    """Whether traces are wanted: not where the user called `mlflow.langchain.autolog(log_traces=False)`."""
    return not autolog_is_on() or bool(get_autologging_config("langchain", "log_traces", True))


def is_native(span: LiveSpan) -> bool:
    """Whether MLflow's own LangChain tracer records this span."""
    return any(
        held.span is span
        for tracer in {id(t): t for t in list(_native_spans.values())}.values()
        for held in list(tracer._run_span_mapping.values())  # noqa: SLF001
    )
