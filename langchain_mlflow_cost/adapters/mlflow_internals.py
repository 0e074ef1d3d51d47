"""Every name of MLflow, LangChain or OpenTelemetry that is not public API, in one place.

Read in MLflow 3.15 to 3.17, OpenTelemetry SDK 1.30 to 1.45. `tests/core/test_internals.py` names each of them and fails
when one is gone or behaves otherwise; `self_test` looks at run time and makes the handler keep payloads to itself
when the answer is no.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakValueDictionary

import mlflow
from langchain_core.callbacks import BaseCallbackManager
from langchain_core.callbacks import manager as callback_managers
from langchain_core.callbacks.manager import AsyncParentRunManager, ParentRunManager
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from mlflow.entities import LiveSpan, SpanType
from mlflow.entities.span import NoOpSpan
from mlflow.entities.span_log_level import SpanLogLevel
from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
from mlflow.langchain.utils.chat import convert_lc_message_to_chat_message
from mlflow.tracing import provider as mlflow_provider
from mlflow.tracing.config import get_config
from mlflow.tracing.constant import CostKey, SpanAttributeKey, TokenUsageKey, TraceMetadataKey, TraceTagKey
from mlflow.tracing.context import _USER_TRACE_CONTEXT
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils.default_log_level import default_log_level_for_span_type
from mlflow.tracing.utils.otlp import should_export_otlp_metrics
from mlflow.tracing.utils.processor import apply_span_processors
from mlflow.utils import gorilla
from mlflow.utils import providers as catalogue
from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS, autologging_is_disabled
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider, _Span

from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.pricing.rates import ModelRates

if TYPE_CHECKING:
    from uuid import UUID

    from opentelemetry.trace import Span as ApiSpan

__all__ = [
    "ConcreteSpan",
    "LiveSpan",
    "NoOpSpan",
    "SdkSpan",
    "SpanAttributeKey",
    "SpanType",
    "TraceMetadataKey",
    "TraceTagKey",
]

log = logging.getLogger(__name__)

ConcreteSpan = _Span
"""The class that the SDK's tracers make (`_Span`); `Span` itself refuses to be made."""

F = TypeVar("F", bound=Callable[..., Any])

_patch_lock = threading.Lock()


# --- the provider ---------------------------------------------------------------------------------------------------


def install_first(guard: SpanProcessor) -> None:
    """Put a span processor before MLflow's own, in the provider that is and in every one that will be.

    MLflow makes a new provider after `set_experiment`, `set_destination`, `reset`, `enable` and others, always through
    `_get_span_processors`; there is no public hook that survives them (`configure(span_processors=)` is dropped by
    `reset`, and never sees spans of a bridged OpenTelemetry library).
    """
    original = mlflow_provider._get_span_processors  # noqa: SLF001
    if getattr(original, "guard", None) is not guard:

        @functools.wraps(original)
        def with_guard(*args: Any, **kwargs: Any) -> list[SpanProcessor]:
            processors = original(*args, **kwargs)
            return [guard, *processors] if processors else processors

        with_guard.guard = guard  # type: ignore[attr-defined]
        mlflow_provider._get_span_processors = with_guard  # noqa: SLF001
    _insert(mlflow_provider.provider.get(), guard)


def guarded(guard: SpanProcessor) -> bool:
    """Whether the provider in use has the guard; True where tracing is off or not started."""
    current = mlflow_provider.provider.get()
    if not isinstance(current, TracerProvider):
        return True
    return guard in current._active_span_processor._span_processors  # noqa: SLF001


def _insert(current: Any, guard: SpanProcessor) -> None:
    if not isinstance(current, TracerProvider):
        return
    composite = current._active_span_processor  # noqa: SLF001
    with composite._lock:  # noqa: SLF001
        if guard not in composite._span_processors:  # noqa: SLF001
            composite._span_processors = (guard, *composite._span_processors)  # noqa: SLF001


def redirect_to_current_provider(span: SdkSpan) -> None:
    """Let a span that was held back end through today's provider, if its own was replaced meanwhile.

    A retired provider's export queue is shut down, and a span that ends there is lost without a word.
    """
    current = mlflow_provider.provider.get()
    if isinstance(current, TracerProvider) and span._span_processor is not current._active_span_processor:  # noqa: SLF001
        span._span_processor = current._active_span_processor  # noqa: SLF001


# --- the export's queues --------------------------------------------------------------------------------------------

EXPORT_THREADS = ("OtelBatchSpanRecordProcessor", "MLflowTraceLoggingConsumer", "MlflowTraceLoggingWorker")
"""How the names begin of the threads that take spans out of the queues: whoever waits on one waits for itself."""
_ROOM_LOOK_S = 0.1
"""Seconds after which a thread that waits for room looks whether there is still somebody to make it."""


class Backlog:
    """What waits in one of MLflow's processors for its export threads.

    Two queues stand one behind the other, and both throw away without a word what finds no room: OpenTelemetry's of
    spans (2,048, or one batch if that is more; no setting of its own), and MLflow's of tasks
    (`MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE`), each a batch of spans or the end of a trace. Once a processor has a
    backlog, the thread between the two waits for room in the second, so that spans can only pile up in the first,
    where whoever ends a span can see them. Without that thread (`MLFLOW_USE_BATCH_SPAN_PROCESSOR=false`) there is but
    the second.
    """

    __slots__ = ("batch", "full_since", "high", "limit", "moved_at", "queue", "waiting")

    def __init__(self, queue: Any, batch: Any) -> None:
        """Take what is looked at for each span out of the objects it is in.

        Args:
            queue: MLflow's queue of tasks.
            batch: OpenTelemetry's queue of spans before it, or None.
        """
        self.queue = queue
        self.batch = batch
        tasks = queue._queue  # noqa: SLF001
        self.waiting: Sized = tasks.queue if batch is None else batch._queue  # noqa: SLF001
        limit: int = tasks.maxsize if batch is None else batch._max_queue_size  # noqa: SLF001
        self.limit = limit if limit > 0 else sys.maxsize
        """Beyond this many, spans are lost."""
        batch_size: int = 1 if batch is None else batch._max_export_batch_size  # noqa: SLF001
        # An eighth is left to those who look at the same moment. The thread does not stir below one batch.
        self.high = max(self.limit - self.limit // 8, min(batch_size, self.limit))
        """From this many on, it is time to wait."""
        self.moved_at = 0.0
        """When the next queue last took something, in seconds of `time.monotonic`."""
        self.full_since = -1.0
        """When somebody first waited since then."""

    def wake(self) -> None:
        """Let the thread that empties the queue do so now: it may sleep for an interval, with a full queue."""
        if self.batch is not None:
            self.batch._worker_awaken.set()  # noqa: SLF001

    def is_served(self) -> bool:
        """Whether a thread, and not this one, empties the queue: there is none after a shutdown, or in a fork."""
        queue, batch = self.queue, self.batch
        taker = getattr(queue, "_consumer_thread", None) if batch is None else batch._worker_thread  # noqa: SLF001
        return taker is not None and taker.is_alive() and not threading.current_thread().name.startswith(EXPORT_THREADS)


_backlogs: tuple[Any, tuple[Backlog, ...]] = ((), ())


def backlogs_of(span: SdkSpan) -> tuple[Backlog, ...]:
    """The queues that a span goes into when it ends; none where it is exported at once, or by others than MLflow."""
    global _backlogs  # noqa: PLW0603 - a cache of one, replaced whole
    processors = getattr(span._span_processor, "_span_processors", ())  # noqa: SLF001
    known, backlogs = _backlogs
    if processors is not known:
        found = [_backlog_of(processor) for processor in processors]
        backlogs = tuple(backlog for backlog in found if backlog is not None)
        _backlogs = (processors, backlogs)
    return backlogs


def _backlog_of(processor: Any) -> Backlog | None:
    try:
        queue = processor.span_exporter._async_queue  # noqa: SLF001
        delegate = processor._batch_delegate  # noqa: SLF001
        batch = None if delegate is None else delegate._batch_processor  # noqa: SLF001
        with _patch_lock:
            backlog: Backlog | None = getattr(queue, "lmc_backlog", None)
            if backlog is None:
                backlog = Backlog(queue, batch)
                backlog.is_served()
                backlog.wake()
                if hasattr(queue, "_flush_lock"):
                    # Before it had this lock, a task that came in the middle of a flush made it wait for ever; the
                    # second that the thread sleeps then lets most such tasks in.
                    _stop_promptly(queue)
                _take_time(queue, backlog, wait=batch is not None)
                queue.lmc_backlog = backlog
    except (AttributeError, TypeError):
        # Another's processor, one that exports at once, or an MLflow of another make: it drops spans as it does anyway.
        return None
    return backlog


def _take_time(queue: Any, backlog: Backlog, *, wait: bool) -> None:
    """Make MLflow's queue of tasks note when it takes one, and wait for room on a thread that may.

    Args:
        queue: The queue.
        backlog: What notes it.
        wait: Nobody's request waits for `put`: a thread of the export calls it, or somebody who flushes.
    """
    put, tasks = queue.put, queue._queue  # noqa: SLF001

    def has_room() -> bool:
        return not 0 < tasks.maxsize <= len(tasks.queue)

    def put_in_time(task: Any) -> None:
        # A queue that is not active is being flushed: `put` does the task itself. One without its thread, in a fork,
        # stays full for ever.
        while wait and not has_room() and queue.is_active() and queue._consumer_thread.is_alive():  # noqa: SLF001
            with tasks.not_full:
                tasks.not_full.wait_for(has_room, _ROOM_LOOK_S)
        if has_room():
            backlog.moved_at = time.monotonic()
        put(task)

    queue.put = put_in_time


class _Nothing:
    """A task without work."""

    def handle(self) -> None:
        """Do nothing."""


def _stop_promptly(queue: Any) -> None:
    """Spare each flush up to a second: the thread that it joins sits in `Queue.get(timeout=1)` without looking up.

    It is handed an empty task. That and the stop are one step for it, under the queue's lock: a task that came first
    would wake it for nothing, and one that came later might find it gone, and the flush would wait for it for ever.
    """
    stop, tasks = queue._stop_event, queue._queue  # noqa: SLF001
    set_event = stop.set

    def stop_now() -> None:
        consumer = getattr(queue, "_consumer_thread", None)
        with tasks.mutex:
            if not stop.is_set() and consumer is not None and consumer.is_alive():
                # What `Queue.put` does, whether there is room or not.
                tasks.queue.append(_Nothing())
                tasks.unfinished_tasks += 1
                tasks.not_empty.notify()
            set_event()

    stop.set = stop_now


# --- spans ----------------------------------------------------------------------------------------------------------


def start_span(name: str, span_type: str, parent: LiveSpan | None, *, inherit: bool) -> LiveSpan | None:
    """Start a span below `parent`; without one, below what is active if `inherit`, else as the root of a new trace.

    Returns:
        None where tracing is off or the trace is not sampled.
    """
    scope = _USER_TRACE_CONTEXT.get()
    if scope is not None and scope.enabled is False:
        return None
    if parent is not None:
        context: Context | None = otel_trace.set_span_in_context(otel(parent), Context())
    else:
        # A clean context where a finished or suspended run may stand in the current one.
        context = mlflow_provider.get_current_context() if inherit else Context()
    span = _tracer().start_span(name, context=context)
    if not span.is_recording():
        return None
    live = live_span(span)
    if live is not None:
        write_raw(span, {SpanAttributeKey.SPAN_TYPE: f'"{span_type}"'})
    return live


_tracer_of: tuple[Any, Any] = (None, None)


def _tracer() -> Any:
    """MLflow's tracer, remembered as long as its provider is the same: making one costs as much as the span."""
    global _tracer_of  # noqa: PLW0603 - a cache of one, replaced whole
    provider, tracer = _tracer_of
    if provider is None or provider is not mlflow_provider.provider.get():
        tracer = mlflow_provider._get_tracer(__name__)  # noqa: SLF001
        _tracer_of = (mlflow_provider.provider.get(), tracer)
    return tracer


def end_span(span: LiveSpan, *, error: str | None, end_time_ns: int | None = None) -> None:
    """End a span as `LiveSpan.end` does, without the parts that would serialise or warn about missing payloads.

    Args:
        span: An open span.
        error: None for success, else the status description, which may be empty.
        end_time_ns: Nanoseconds since the epoch; now if None.
    """
    status = otel_trace.StatusCode.OK if error is None else otel_trace.StatusCode.ERROR
    otel(span).set_status(status, error or None)
    if get_config().span_processors:
        apply_span_processors(span)
    otel(span).end(end_time=end_time_ns)


def otel(span: LiveSpan) -> SdkSpan:
    """The OpenTelemetry span inside an MLflow span."""
    return cast("SdkSpan", span._span)  # noqa: SLF001


def write_raw(span: SdkSpan, attributes: Mapping[str, str | int | float | bool]) -> None:
    """Set attributes past any subclass's own checks."""
    SdkSpan.set_attributes(span, attributes)


def live_span(span: SdkSpan) -> LiveSpan | None:
    """MLflow's object for an OpenTelemetry span, which holds its attachments and links."""
    manager = InMemoryTraceManager.get_instance()
    trace_id = manager.get_mlflow_trace_id_from_otel_id(span.context.trace_id)
    if trace_id is None:
        return None
    found: LiveSpan | None = manager.get_span_from_id(trace_id, f"{span.context.span_id:016x}")
    return found


def open_ancestors(span: SdkSpan) -> list[LiveSpan]:
    """The spans above one in the same process and trace that have not ended, nearest first."""
    live = live_span(span)
    manager = InMemoryTraceManager.get_instance()
    found = []
    while live is not None and live.parent_id:
        live = manager.get_span_from_id(live.trace_id, live.parent_id)
        if live is not None and live.end_time_ns is None:
            found.append(live)
    return found


ERROR_LEVEL = int(SpanLogLevel.ERROR)
"""The level that MLflow gives a span with an exception."""


@functools.lru_cache(maxsize=64)
def _level_of_type(span_type: str) -> int:
    return int(default_log_level_for_span_type(span_type))


def log_level_of(span: LiveSpan) -> int:
    """The level that MLflow gives a span of its type when it ends."""
    return _level_of_type(span.span_type)


def is_native(span: LiveSpan) -> bool:
    """Whether MLflow's own LangChain tracer records this span."""
    return any(
        held.span is span
        for tracer in {id(t): t for t in list(_native_spans.values())}.values()
        for held in list(tracer._run_span_mapping.values())  # noqa: SLF001
    )


def fields_of(span: SdkSpan) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """The attributes, events and links of an open span, as they stand."""
    return dict(span._attributes or {}), list(span._events), list(span._links)  # noqa: SLF001


def replace_fields(
    span: SdkSpan,
    *,
    attributes: Mapping[str, Any] | None = None,
    drop_events: bool = False,
    drop_links: bool = False,
) -> None:
    """Replace all attributes of an open span, or empty its events or links: the SDK can only add."""
    with span._lock:  # noqa: SLF001
        if attributes is not None and span._attributes is not None:  # noqa: SLF001
            for key in list(span._attributes):  # noqa: SLF001
                if key not in attributes:
                    del span._attributes[key]  # type: ignore[attr-defined]  # noqa: SLF001
            for key, value in attributes.items():
                if span._attributes.get(key) != value:  # noqa: SLF001
                    span._attributes[key] = value  # type: ignore[index]  # noqa: SLF001
        if drop_events:
            span._events = span._new_events()  # noqa: SLF001
        if drop_links:
            span._links = span._new_links(())  # noqa: SLF001


def replace_status(span: SdkSpan, description: str | None) -> None:
    """Replace the description of an error status: the SDK's setter is refused once the status is final."""
    status = span._status  # noqa: SLF001
    if status.description:
        span._status = otel_trace.Status(status.status_code, description)  # noqa: SLF001


def withhold(span: SdkSpan) -> None:
    """Make sure that a span reaches no processor any more: for one that could not be guarded."""
    span._span_processor = SpanProcessor()  # noqa: SLF001


def ended(span: SdkSpan) -> bool:
    """Whether the span has really ended (a held span has not)."""
    return span._end_time is not None  # noqa: SLF001


# --- attachments, links and the trace's own fields ------------------------------------------------------------------


def has_span_processors() -> bool:
    """Whether the user has span processors of MLflow's own kind, which look at a span before it ends."""
    return bool(get_config().span_processors)


def exports_metrics() -> bool:
    """Whether trace metadata leaves with every span, as attributes of OpenTelemetry metrics."""
    return should_export_otlp_metrics()


def attachments_of(span: LiveSpan) -> dict[str, Any]:
    """The files that MLflow took out of a span's payloads, by id; deleting an entry keeps it from being uploaded."""
    found: dict[str, Any] = span._attachments  # noqa: SLF001
    return found


def mlflow_links_of(span: LiveSpan) -> list[Any]:
    """MLflow's own copies of a span's links, exported beside OpenTelemetry's."""
    found: list[Any] = span._links  # noqa: SLF001
    return found


@contextlib.contextmanager
def trace_info(trace_id: str) -> Iterator[Any]:
    """The `TraceInfo` of a trace that is still in memory, under MLflow's lock; None if it is gone."""
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        yield None if trace is None else trace.info


COUNT_NAMES = frozenset(
    value
    for keys in (TokenUsageKey, CostKey)
    for name, value in vars(keys).items()
    if name.isupper() and isinstance(value, str)
)
"""What may stand in `mlflow.chat.tokenUsage` and `mlflow.llm.cost`."""


# --- the active span ------------------------------------------------------------------------------------------------


def active_span() -> ApiSpan:
    """The span that MLflow's context holds; an invalid one if there is none."""
    return mlflow_provider.get_current_otel_span() or otel_trace.INVALID_SPAN


def attach(span: LiveSpan) -> Any:
    """Make a span the active one; the answer is for `detach`."""
    return mlflow_provider.set_span_in_context(span)


def detach(token: Any) -> None:
    """Take back an `attach`; one of another context is left alone, its context is gone."""
    with contextlib.suppress(ValueError):
        mlflow_provider.detach_span_from_context(token)


def clear_active() -> None:
    """Leave no span active in this context."""
    mlflow_provider.get_context_api().attach(Context())


# --- LangChain's tracer of MLflow -----------------------------------------------------------------------------------

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
        if owned(run_id):
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
    except BudgetExceededError:
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


def autolog_is_on() -> bool:
    """Whether `mlflow.langchain.autolog()` is on."""
    return "langchain" in AUTOLOGGING_INTEGRATIONS and not autologging_is_disabled("langchain")


@functools.cache
def _chat_form(role: str) -> dict[str, Any]:
    """The fields that MLflow writes for a message with nothing but a role and a text."""
    plain = {"user": HumanMessage("x"), "system": SystemMessage("x"), "assistant": AIMessage("x")}
    message = plain.get(role) or ToolMessage("x", tool_call_id="x")
    form: dict[str, Any] = convert_lc_message_to_chat_message(message).model_dump()
    return form


_ROLES: dict[type, str] = {HumanMessage: "user", SystemMessage: "system", AIMessage: "assistant", ToolMessage: "tool"}


def chat_message(message: Any) -> dict[str, Any]:
    """A LangChain message in the form that MLflow's UI shows as a chat."""
    role = _ROLES.get(type(message))
    if role is not None and type(message.content) is str and not _calls_tools(message, role):
        # MLflow's own conversion validates each message again, in each prompt that it is part of.
        form = {**_chat_form(role), "content": message.content}
        if role == "tool":
            form["tool_call_id"] = message.tool_call_id
        return form
    converted: dict[str, Any] = convert_lc_message_to_chat_message(message).model_dump()
    return converted


def _calls_tools(message: Any, role: str) -> bool:
    return role == "assistant" and bool(
        message.tool_calls or message.invalid_tool_calls or message.additional_kwargs.get("tool_calls")
    )


class _Known(threading.local):
    governed = False


_known = _Known()


def shortcut_autolog() -> None:
    """Spare callback managers that carry a handler of ours the cost of autolog's patch, which does nothing for them.

    The patch of `BaseCallbackManager.__init__` looks for a tracer among the inheritable handlers and, if one is there,
    does nothing more; but each call goes through `safe_patch`, which costs about as much as recording a small span,
    at several managers a run. Two of these are made empty: a child's is given its handlers afterwards, so the parent
    says whether it will be governed; and `_configure` throws one away where it is given callbacks.
    `autolog(disable=True)` and a further `autolog()` both replace the wrapper of `__init__`, so it is put back when the
    next root run begins.
    """
    patched = BaseCallbackManager.__init__
    if getattr(patched, "lmc_shortcut", False) or not hasattr(BaseCallbackManager, "_gorilla_active_patch___init__"):
        return
    original = gorilla.get_original_attribute(BaseCallbackManager, "__init__")

    def init(self: Any, handlers: Any, inheritable_handlers: Any = None, *args: Any, **kwargs: Any) -> None:
        governed = _known.governed or _any_standing_in(inheritable_handlers)
        (original if governed else patched)(self, handlers, inheritable_handlers, *args, **kwargs)

    init.lmc_shortcut = True  # type: ignore[attr-defined]
    BaseCallbackManager.__init__ = init  # type: ignore[method-assign]
    for manager in (ParentRunManager, AsyncParentRunManager):
        manager.get_child = _known_beforehand(manager.get_child, _of_parent)  # type: ignore[method-assign]
    if hasattr(callback_managers, "_configure"):
        callback_managers._configure = _known_beforehand(callback_managers._configure, _inheritable)  # noqa: SLF001


def _any_standing_in(handlers: Any) -> bool:
    return any(type(handler) in _standing_in for handler in handlers or ())


def _of_parent(parent: Any, *_: Any, **__: Any) -> Any:
    return parent.inheritable_handlers


def _inheritable(_manager_class: Any, callbacks: Any = None, *_: Any, **__: Any) -> Any:
    return callbacks if isinstance(callbacks, list) else getattr(callbacks, "inheritable_handlers", None)


def _known_beforehand(original: Any, handlers_of: Callable[..., Any]) -> Any:
    """Let a function that makes managers say which handlers these will have."""
    if getattr(original, "lmc_shortcut", False):
        return original

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _known.governed or not _any_standing_in(handlers_of(*args)):
            return original(*args, **kwargs)
        _known.governed = True
        try:
            return original(*args, **kwargs)
        finally:
            _known.governed = False

    call.lmc_shortcut = True  # type: ignore[attr-defined]
    return call


# --- prices ---------------------------------------------------------------------------------------------------------

_RATE_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}


def catalogue_rates(provider: str | None, model: str) -> ModelRates | None:
    """What the catalogue that is part of the MLflow package says of a model; never a request over the network.

    MLflow's public pricing functions fetch a newer catalogue first, for 6 to 8 s where there is no network.

    Args:
        provider: Looked at first; all others follow, as MLflow's store does when it prices a span.
        model: The name, with or without a `vendor/` before it.
    """
    bare = model.split("/", 1)[-1]
    names = catalogue._list_provider_names()  # noqa: SLF001
    for name in [p for p in (provider,) if p in names] + names:
        known = cast("dict[str, Any]", catalogue._load_bundled_provider(name).get(bare) or {})  # noqa: SLF001
        if known.get("input_cost_per_token"):
            rates = {kind: Decimal(repr(known[key])) for kind, key in _RATE_KEYS.items() if known.get(key) is not None}
            audio = (known.get("modality") or {}).get("audio") or {}
            for kind in ("input", "output"):
                per_mtok = audio.get(f"{kind}_per_million_tokens")
                if per_mtok is not None:
                    rates[f"{kind}_audio"] = Decimal(repr(per_mtok)).scaleb(-6)
            return ModelRates(
                source=f"mlflow {mlflow.__version__} catalogue",
                model=f"{name}/{bare}",
                rates=rates,
                as_of=known.get("last_updated_at"),
            )
    return None


@functools.lru_cache(maxsize=1024)
def store_would_price(model: str) -> bool:
    """Whether MLflow's store finds a price of its own, by the bare name, for a model span that has none."""
    bare = model.split("/", 1)[-1]
    return any(bare in catalogue._load_bundled_provider(name) for name in catalogue._list_provider_names())  # noqa: SLF001


# --- self-test ------------------------------------------------------------------------------------------------------


def self_test() -> str | None:
    """Whether the names above are what this module takes them for.

    Returns:
        None if so, else what is missing, for a warning.
    """
    wanted: tuple[tuple[Any, str], ...] = (
        (mlflow_provider, "_get_span_processors"),
        (mlflow_provider, "get_current_otel_span"),
        (mlflow_provider.provider, "get"),
        (InMemoryTraceManager, "get_span_from_id"),
        (InMemoryTraceManager, "get_mlflow_trace_id_from_otel_id"),
        (InMemoryTraceManager, "get_trace"),
        (SdkSpan, "_new_events"),
        (SdkSpan, "_new_links"),
    )
    for owner, name in wanted:
        if not hasattr(owner, name):
            return f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
    for field in ("INPUTS", "OUTPUTS", "REQUEST_ID", "SPAN_TYPE", "CHAT_USAGE", "LLM_COST", "MODEL"):
        if not hasattr(SpanAttributeKey, field):
            return f"SpanAttributeKey.{field}"
    return None
