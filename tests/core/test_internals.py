"""Every name that is not public, and that the adapters build on, is there and does what they rely on."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import re
import socket
import sqlite3
import threading
import time
import uuid
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import sqlalchemy
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.callbacks import manager as callback_managers
from langchain_core.callbacks.manager import ParentRunManager
from langchain_core.messages import AIMessage, ChatMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from mlflow.langchain.langchain_tracer import MlflowLangchainTracer
from mlflow.langchain.utils.chat import convert_lc_message_to_chat_message
from mlflow.store.tracking.file_store import FileStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracing import provider
from mlflow.tracing.attachments import Attachment
from mlflow.tracing.client import TracingClient
from mlflow.tracing.constant import SpansLocation
from mlflow.tracing.export.async_export_queue import AsyncTraceExportQueue, Task
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracking.default_experiment import registry as experiments
from mlflow.tracking.default_experiment.databricks_notebook_experiment_provider import (
    DatabricksNotebookExperimentProvider,
)
from mlflow.utils import gorilla
from mlflow.utils import providers as catalogue
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION
from opentelemetry import trace as otel_trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider

import langchain_mlflow_cost
from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost import attributes as attribute_keys
from langchain_mlflow_cost.adapters import (
    active,
    autolog,
    chat_form,
    default_experiment,
    export_queue,
    futures,
    self_test,
    spans,
    store_threads,
    trace_fields,
    trace_info,
)
from langchain_mlflow_cost.adapters import catalogue as prices
from langchain_mlflow_cost.adapters import provider as guard_place
from langchain_mlflow_cost.adapters.store_calls import lost_in_calls
from langchain_mlflow_cost.adapters.stored_again import storing
from langchain_mlflow_cost.tracing import recorder
from langchain_mlflow_cost.tracking_stores import database_file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK_IS_AROUND = inspect.unwrap(DatabricksNotebookExperimentProvider.in_context)
"""As MLflow has it, also where a handler was made before."""

OWN = {"_lmc_yields", "lmc_backlog"}
"""Marks of our own on another's class or object."""

NAMES: dict[str, tuple[str, ...]] = {
    "sdk": ("_Span",),
    "context": ("_USER_TRACE_CONTEXT",),
    "propagation": ("_SPAN_KEY",),
    "mlflow_provider": (
        "_get_span_processors",
        "_get_tracer",
        "detach_span_from_context",
        "get_current_context",
        "mlflow_runtime_context",
        "provider",
        "set_span_in_context",
    ),
    "holder": ("_isolated_tracer_provider", "get"),
    "provider": ("_active_span_processor",),
    "composite": ("_lock", "_span_processors"),
    "live": ("_attachments", "_links", "_span"),
    "span": (
        "_attributes",
        "_end_time",
        "_events",
        "_links",
        "_lock",
        "_new_events",
        "_new_links",
        "_span_processor",
        "_status",
    ),
    "attributes": ("_dict", "_lock"),
    "manager": ("_lock", "_traces", "get_mlflow_trace_id_from_otel_id", "get_span_from_id"),
    "InMemoryTraceManager": ("get_instance", "get_trace", "pop_trace", "register_prompt", "register_trace"),
    "prompt cache": ("_cache", "_lock"),
    "run manager": ("get_child",),
    "callback_managers": ("_configure",),
    "tool": ("_parse_input",),
    "tracer": ("_run_span_mapping",),
    "thread": ("_target",),
    "future": ("_state",),
    "patched": ("_gorilla_active_patch___init__",),
    "gorilla": ("get_original_attribute",),
    "fluent": ("_active_run_stack",),
    "catalogue": ("_list_provider_names", "_load_bundled_provider"),
    "tracing client": ("_upload_trace_data",),
    "file store": ("_get_trace_info_and_dir", "_save_trace_info"),
    "meters": ("_METER_PROVIDER",),
}
"""Owner to the names that the module uses of it."""
EXPORT_NAMES: dict[str, tuple[str, ...]] = {
    "exporter": ("_async_queue", "_client", "_log_spans", "_log_trace", "_should_log_async"),
    "server's store": ("_get_server_version",),
    "processor": ("_batch_delegate",),
    "delegate": ("_batch_processor",),
    "batch": ("_max_export_batch_size", "_max_queue_size", "_queue", "_worker_awaken", "_worker_thread"),
    "queue": (
        "_consumer_thread",
        "_queue",
        "_set_up_threads",
        "_stop_event",
        "_worker_threadpool",
        "is_active",
        "put",
    ),
    "tasks": ("maxsize", "mutex", "not_empty", "not_full", "put", "queue", "unfinished_tasks"),
}
"""The same of the objects between a span's end and the store, which are there where MLflow exports in threads."""
UNDOCUMENTED = {
    "InMemoryTraceManager",
    "InMemoryTraceManager.get_instance()",
    "catalogue",
    "gorilla",
    "manager",
    "mlflow_provider",
    "mlflow_provider.provider",
    "queue",
    "tasks",
}
"""Modules and classes without documentation for users: every name of theirs counts."""


class Watcher(SpanProcessor):
    """Notes the spans that it sees."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span.name)

    def on_end(self, span: Any) -> None:
        self.ended.append(span.name)


@pytest.fixture
def watcher(store: str, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """Installed as the guard is, and taken out again."""
    monkeypatch.setattr(provider, "_get_span_processors", provider._get_span_processors)
    watcher = Watcher()
    guard_place.install_first(watcher)
    return watcher


def constants(owner: type) -> dict[str, str]:
    return {name: value for name, value in vars(owner).items() if name.isupper() and isinstance(value, str)}


# --- the list ------------------------------------------------------------------------------------------------------


PRIVATE = re.compile(r"_(?!_)\w+")


@functools.cache
def trees() -> dict[str, ast.Module]:
    """All files of the package, by their path in it."""
    root = Path(langchain_mlflow_cost.__file__).parent
    return {str(path.relative_to(root)): ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}


def names_in_strings(node: ast.Call | ast.Tuple) -> set[str]:
    """Of `hasattr(owner, name)`, and of `(owner, name)` in the table of `self_test`."""
    first, *others = node.args if isinstance(node, ast.Call) else [*node.elts, ast.Constant("")]
    if isinstance(first, ast.Constant):
        return set()
    texts = [other.value for other in others if isinstance(other, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and PRIVATE.fullmatch(text)}


def used_names() -> set[str]:
    """Private attributes, imports and names in strings; of undocumented modules and classes, all attributes."""
    found: set[str] = set()
    for path, tree in trees().items():
        if not path.startswith("adapters/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if (PRIVATE.fullmatch(node.attr) and owner != "self") or owner in UNDOCUMENTED:
                    found.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                found |= {alias.name for alias in node.names if PRIVATE.fullmatch(alias.name)}
            elif isinstance(node, ast.Tuple) or (
                isinstance(node, ast.Call) and ast.unparse(node.func) in {"hasattr", "getattr", "setattr"}
            ):
                found |= names_in_strings(node)
    adapters = [tree for path, tree in trees().items() if path.startswith("adapters/")]
    return found - OWN - (own_names(ast.Module(adapters, [])) - {name for names in NAMES.values() for name in names})


def own_names(tree: ast.AST) -> set[str]:
    """Private names that this code itself defines: functions, classes, variables, fields and what it sets on `self`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return {name for name in found if PRIVATE.fullmatch(name)}


def foreign_names(tree: ast.Module) -> Iterator[str]:
    """Private names of others in a file: used as attributes or in strings, or imported, and the modules imported."""
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            # `_replace` is a named tuple's, and public.
            if PRIVATE.fullmatch(node.attr) and node.attr not in own and node.attr != "_replace":
                owner = ast.unparse(node.value)
                if owner not in {"self", "cls"}:
                    yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"hasattr", "getattr", "setattr"}:
            yield from names_in_strings(node) - own
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_private_module(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if is_private_module(node.module):
                yield node.module
            elif not node.module.startswith("langchain_mlflow_cost"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name for name in names if PRIVATE.fullmatch(name.rpartition(".")[2]) or is_submodule(name))


def is_submodule(name: str) -> bool:
    """Whether `from mlflow import name` imports a module that users are told nothing of."""
    return is_private_module(name) and bool(importlib.util.find_spec(name))


def is_private_module(name: str) -> bool:
    """Whether users are told nothing of a module of MLflow, LangChain, LangGraph, OpenTelemetry or tiktoken."""
    top = name.partition(".")[0]
    if top in {"mlflow", "opentelemetry", "tiktoken"}:
        return name not in DOCUMENTED
    return top != "__future__" and any(PRIVATE.fullmatch(part) for part in name.split("."))


DOCUMENTED = {
    "mlflow",
    "mlflow.entities",
    "mlflow.langchain",
    "opentelemetry",
    "opentelemetry.context",
    "opentelemetry.sdk.trace",
    "opentelemetry.trace",
    "tiktoken",
}
"""Modules with documentation for users. All of LangChain's and LangGraph's are, but for those with an underscore."""
STANDARD_LIBRARY = {
    "asyncio._get_running_loop", "sys._current_frames", "sys._getframe", "value._fields", "Finding._fields", "_fields",
}  # fmt: skip
"""CPython's own, documented for those who need them."""
BELOW_ADAPTERS = {
    # Read in google-re2 1.1.20251105; `tests/redaction/test_re2_search.py` asks whether they are there.
    "redaction/re2_search.py": {"_Anchor", "pattern._regexp", "patterns._set"},
    # Read in tiktoken 0.12.
    "pricing/tokenizer.py": {"tiktoken.registry"},
}
"""Private names that stand elsewhere: redaction and pricing stand below the adapters, and know no framework."""


def test_list_is_complete() -> None:
    """The table above names what the adapters use, no more and no less."""
    assert used_names() == {name for names in (*NAMES.values(), *EXPORT_NAMES.values()) for name in names}


def test_private_names_stand_in_the_adapters() -> None:
    """No other file of the package uses a private name or module of others, but for the two that may not."""
    found = {path: set(foreign_names(tree)) - STANDARD_LIBRARY for path, tree in trees().items()}

    assert BELOW_ADAPTERS == {
        path: names for path, names in found.items() if names and path.split("/")[0] != "adapters"
    }


def test_done_without_the_lock() -> None:
    """A future is done when it says so itself, in each of its states."""
    made: list[Future[None]] = [Future() for _ in range(5)]
    _, running, cancelled, told, finished = made
    running.set_running_or_notify_cancel()
    cancelled.cancel()
    told.cancel()
    told.set_running_or_notify_cancel()
    finished.set_result(None)

    assert (
        [futures.is_done(each) for each in made] == [each.done() for each in made] == [False, False, True, True, True]
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"MLFLOW_TRACE_PROPAGATE_TO_OTEL_CONTEXT": "true"},
        {"MLFLOW_USE_DEFAULT_TRACER_PROVIDER": "false"},
        {"MLFLOW_USE_DEFAULT_TRACER_PROVIDER": "perhaps"},
    ],
)
def test_active_span_is_where_mlflow_looks(variables: dict[str, str], store: str) -> None:
    """What is attached is active for MLflow and in our short way to it, and so is MLflow's own; taken back, it is not."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        active.look_up_context()
        span = otel_trace.NonRecordingSpan(otel_trace.INVALID_SPAN_CONTEXT)
        if "perhaps" in variables.values():
            with pytest.raises(ValueError, match="perhaps"):
                active.active_in_trace()
            return

        token = active.attach(span)
        assert active.active_in_trace() is active.active_span() is provider.get_current_otel_span() is span
        is_told = otel_trace.get_current_span() is span
        provider.detach_span_from_context(token)
        assert active.active_in_trace() is active.active_span() is otel_trace.INVALID_SPAN

        token = provider.set_span_in_context(SimpleNamespace(_span=span))
        assert active.active_in_trace() is span
        active.detach(token)
        assert active.active_in_trace() is provider.get_current_otel_span() is otel_trace.INVALID_SPAN
    assert is_told == bool(variables)
    active.look_up_context()


def test_provider_is_mlflows(store: str) -> None:
    """MLflow's provider can be had without a look at the environment."""
    active.look_up_context()
    with mlflow.start_span("a"):
        assert active.current_provider() is provider.provider.get() is not None


def test_tiktoken_knows_its_loaded_tables() -> None:
    """Which tables tiktoken has in memory can be asked without loading one."""
    from tiktoken import registry

    assert isinstance(registry.ENCODINGS, dict)


@pytest.mark.parametrize("owner", NAMES)
def test_names_exist(owner: str, store: str) -> None:
    """What the module uses is there, on a live object where it is made per object."""
    mlflow.langchain.autolog()
    with mlflow.start_span("a") as live:
        current = provider.provider.get()
        owners = {
            "sdk": sdk,
            "context": importlib.import_module("mlflow.tracing.context"),
            "propagation": importlib.import_module("opentelemetry.trace.propagation"),
            "mlflow_provider": provider,
            "holder": provider.provider,
            "provider": current,
            "composite": current._active_span_processor,
            "attributes": spans.otel(live)._attributes,
            "live": live,
            "span": live._span,
            "manager": InMemoryTraceManager.get_instance(),
            "InMemoryTraceManager": InMemoryTraceManager,
            "run manager": ParentRunManager,
            "callback_managers": callback_managers,
            "tool": BaseTool,
            "tracer": MlflowLangchainTracer(),
            "thread": threading.Thread(target=print),
            "future": Future(),
            "patched": BaseCallbackManager,
            "gorilla": gorilla,
            "catalogue": catalogue,
            "tracing client": TracingClient,
            "file store": FileStore,
            "meters": importlib.import_module("opentelemetry.metrics._internal"),
            "fluent": importlib.import_module("mlflow.tracking.fluent"),
            "prompt cache": importlib.import_module("mlflow.prompt.registry_utils").PromptCache.get_instance(),
        }

        assert [name for name in NAMES[owner] if not hasattr(owners[owner], name)] == []


def test_self_test_finds_nothing() -> None:
    """With these versions the handler need not keep payloads to itself."""
    assert self_test.self_test() is None


@pytest.mark.parametrize("name", ["_new_events", "_new_links"])
def test_self_test_says_what_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is gone is named."""
    monkeypatch.delattr(sdk.Span, name)

    assert self_test.self_test() == f"Span.{name}"


# --- the provider --------------------------------------------------------------------------------------------------


def new_experiment() -> None:
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(uuid.uuid4().hex))


def off_and_on() -> None:
    mlflow.tracing.disable()
    mlflow.tracing.enable()


@pytest.mark.parametrize("change", [mlflow.tracing.reset, new_experiment, off_and_on], ids=lambda f: f.__name__)
def test_new_provider_asks_for_processors(watcher: Watcher, change: Any) -> None:
    """Whatever makes MLflow build a provider anew, it asks `_get_span_processors` for its processors."""
    change()
    with mlflow.start_span("a"):
        pass

    assert guard_place.guarded(watcher)
    assert (watcher.started, watcher.ended) == (["a"], ["a"])


def test_guard_is_first(store: str) -> None:
    """Processors stand in a tuple, in the order in which they are told, and our guard is the first, once."""
    MlflowCostHandler()
    with mlflow.start_span("a"):
        processors = provider.provider.get()._active_span_processor._span_processors

    assert isinstance(processors, tuple)
    assert [number for number, processor in enumerate(processors) if processor is recorder._GUARD] == [0]
    assert len(processors) > 1


def put_first(processor: SpanProcessor) -> None:
    """As `_add_span_processor_first` of MLflow 3.18 does, for autologs that must write before an exporter reads."""
    current = provider.provider.get()
    current.add_span_processor(processor)
    composite = current._active_span_processor
    composite._span_processors = (processor, *(p for p in composite._span_processors if p is not processor))


class Asking(Watcher):
    """Notes of each span that it sees whether the guard has it in hand already."""

    def __init__(self) -> None:
        super().__init__()
        self.guarded: list[bool] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        super().on_start(span)
        self.guarded.append(type(span) is not spans.ConcreteSpan)


def test_guard_goes_first_again(store: str) -> None:
    """A processor that is put before the guard stands behind it from the next invocation on, and still sees spans."""
    handler, step = MlflowCostHandler(), RunnableLambda(len)
    step.invoke("first", {"callbacks": [handler]})
    late = Asking()
    put_first(late)
    assert not guard_place.guarded(recorder._GUARD)
    step.invoke("second", {"callbacks": [handler]})
    processors = provider.provider.get()._active_span_processor._span_processors

    assert guard_place.guarded(recorder._GUARD)
    assert processors[:2] == (recorder._GUARD, late)
    assert processors.count(recorder._GUARD) == 1
    assert late.guarded == [True]
    assert len(late.ended) == 1


def test_present_provider_is_guarded_too(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is in use when the guard comes gets it at the front."""
    with mlflow.start_span("before"):
        pass
    monkeypatch.setattr(provider, "_get_span_processors", provider._get_span_processors)
    watcher = Watcher()
    guard_place.install_first(watcher)
    with mlflow.start_span("after"):
        pass

    assert provider.provider.get()._active_span_processor._span_processors[0] is watcher
    assert watcher.started == ["after"]


def test_held_span_goes_to_the_provider_of_today(watcher: Watcher) -> None:
    """A span is told to the processor that it holds when it ends, and that can be changed."""
    span = mlflow.start_span_no_context("a")
    retired = span._span._span_processor
    mlflow.tracing.reset()
    with mlflow.start_span("b"):
        pass
    guard_place.redirect_to_current_provider(span._span)

    assert span._span._span_processor is provider.provider.get()._active_span_processor is not retired
    span.end()
    assert watcher.ended == ["b", "a"]


# --- the export's queues -------------------------------------------------------------------------------------------


def export_owners() -> dict[str, Any]:
    """The objects that the last span went through, on its way to a store in threads of MLflow's."""
    processor = provider.provider.get()._active_span_processor._span_processors[-1]
    exporter, delegate = processor.span_exporter, processor._batch_delegate
    return {
        "exporter": exporter,
        "processor": processor,
        "delegate": delegate,
        "batch": delegate._batch_processor,
        "queue": exporter._async_queue,
        "tasks": exporter._async_queue._queue,
        "server's store": RestStore,
    }


def test_export_names_exist(exported_in_threads: str) -> None:
    """What the module uses of the export is there, on live objects, and no span is lost without it being seen."""
    with mlflow.start_span("a") as span:
        pass
    mlflow.flush_trace_async_logging()
    owners = export_owners()

    assert [n for owner, names in EXPORT_NAMES.items() for n in names if not hasattr(owners[owner], n)] == []
    assert len(export_queue.backlogs_of(spans.otel(span))) == 1


def test_version_of_a_server_is_remembered() -> None:
    """What a server did not say is remembered too, until it is forgotten on purpose."""
    assert callable(RestStore._get_server_version.cache_clear)


def test_what_the_exporter_hands_over(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a later MLflow's exporter hands its own functions reaches them: 3.18 also says which traces are remote."""
    told: list[Any] = []

    def taking_more(original: Any) -> Any:
        def call(self: Any, *args: Any, later: Any = None, **named: Any) -> None:
            told.append(later)
            original(self, *args, **named)

        return call

    for name in ("_log_spans", "_log_trace"):
        monkeypatch.setattr(MlflowV3SpanExporter, name, taking_more(getattr(MlflowV3SpanExporter, name)))
    mlflow.tracing.reset()
    with mlflow.start_span("a") as span:
        export_queue.backlogs_of(spans.otel(span))
    exporter = provider.provider.get()._active_span_processor._span_processors[-1].span_exporter
    stored = mlflow.get_trace(span.trace_id)
    exporter._log_spans(stored.info.experiment_id, [span], later=span.trace_id)
    exporter._log_trace(stored, [], later="end")
    exporter.lmc_calls.drain()

    assert exporter._log_spans == exporter.lmc_calls.log_spans
    assert told == [None, None, span.trace_id, "end"]


def test_limits_of_the_queues(exported_in_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans wait in OpenTelemetry's queue, up to its limit; without it, in MLflow's, up to the limit that it is told."""
    monkeypatch.setenv("MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE", "80")
    with mlflow.start_span("a") as span:
        pass
    (backlog,) = export_queue.backlogs_of(spans.otel(span))
    batch = export_owners()["batch"]

    assert (backlog.limit, backlog.high) == (2048, 1792) == (batch._queue.maxlen, 1792)
    assert backlog.waiting is batch._queue
    monkeypatch.setenv("MLFLOW_USE_BATCH_SPAN_PROCESSOR", "false")
    mlflow.tracing.reset()
    with mlflow.start_span("a") as span:
        pass
    (backlog,) = export_queue.backlogs_of(spans.otel(span))
    assert (backlog.limit, backlog.high) == (80, 70)


def test_threads_of_the_export(exported_in_threads: str) -> None:
    """Who takes spans out of the queues is known by name, waits for none, and serves whoever is another thread."""
    with mlflow.start_span("a") as span:
        pass
    (backlog,) = export_queue.backlogs_of(spans.otel(span))
    untouched = AsyncTraceExportQueue()
    untouched.activate()
    theirs = untouched._worker_threadpool.submit(backlog.is_served)
    ours: list[bool] = []
    export_owners()["queue"].put(Task(lambda: ours.append(backlog.is_served()), ()))
    mlflow.flush_trace_async_logging()
    running = [thread.name for thread in threading.enumerate()]

    assert [name for name in export_queue.EXPORT_THREADS if not any(n.startswith(name) for n in running)] == []
    assert (theirs.result(), ours) == (False, [False])
    assert backlog.is_served()
    untouched.flush(terminate=True)
    mlflow.flush_trace_async_logging(terminate=True)
    assert not backlog.is_served()


def test_one_at_a_time_writes_a_file(exported_in_threads: str) -> None:
    """SQLite never has to let one of our threads wait for another, whatever the order of their tasks."""
    open_now, most = set[str](), 0

    def begin(_: object) -> None:
        nonlocal most
        name = threading.current_thread().name
        if name.startswith(store_threads.THREAD_NAME):
            open_now.add(f"{name} {threading.get_ident()}")
            most = max(most, len(open_now))

    def end(_: object) -> None:
        open_now.discard(f"{threading.current_thread().name} {threading.get_ident()}")

    hooks = [("begin", begin), ("commit", end), ("rollback", end)]
    for event, hook in hooks:
        sqlalchemy.event.listen(sqlalchemy.Engine, event, hook)
    try:
        for name in range(60):
            with mlflow.start_span(str(name)) as span:
                pass
            export_queue.backlogs_of(spans.otel(span))
        mlflow.flush_trace_async_logging()
    finally:
        for event, hook in hooks:
            sqlalchemy.event.remove(sqlalchemy.Engine, event, hook)

    assert most == 1
    assert len(mlflow.search_traces(return_type="list")) == 60


def test_ends_wait_for_nothing_behind_them(exported_in_threads: str) -> None:
    """As many ends of traces as there are threads: none waits for spans that are behind it in the queue."""
    with mlflow.start_span("first") as span:
        pass
    export_queue.backlogs_of(spans.otel(span))
    mlflow.flush_trace_async_logging()
    tasks, lost = export_owners()["tasks"], lost_in_calls()
    again = []
    database = database_file_of(exported_in_threads)
    assert database is not None
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        for name in ("a", "b"):
            with mlflow.start_span(name) as span:
                again.append(storing([span]))
        deadline = time.monotonic() + 10
        # A batch at least, and both ends.
        while tasks.unfinished_tasks < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert tasks.unfinished_tasks >= 3
        for store in again:
            store()
        writer.execute("ROLLBACK")
    mlflow.flush_trace_async_logging()

    assert lost_in_calls() == lost
    assert len(mlflow.search_traces(return_type="list")) == 3


def test_task_that_hangs_is_let_go(exported_in_threads: str) -> None:
    """Whoever flushes MLflow's queue need not wait for a task's thread, and no task is told to be done twice."""
    with mlflow.start_span("a") as span:
        pass
    export_queue.backlogs_of(spans.otel(span))
    queue = export_owners()["queue"]
    mlflow.flush_trace_async_logging()
    begun, gate, over = threading.Event(), threading.Event(), threading.Event()
    hanging: list[store_threads.QueuedTask | None] = []

    def hang() -> None:
        hanging.append(store_threads.task_of_this_thread())
        begun.set()
        gate.wait()
        over.set()

    queue.put(Task(hang, ()))
    assert begun.wait(30)
    (task,) = hanging
    assert task is not None
    assert queue._queue.unfinished_tasks == 1
    task.let_go()
    mlflow.flush_trace_async_logging()
    assert not over.is_set()
    gate.set()

    assert over.wait(30)
    assert task.future.result(30) is None
    assert queue._queue.unfinished_tasks == 0
    assert isinstance(queue._worker_threadpool, store_threads.TaskThreads)  # also after a flush


def test_who_stops_the_export_wakes_its_thread(exported_in_threads: str) -> None:
    """A flush leaves a task for the thread that it waits for, which by itself looks once a second whether to stop."""
    with mlflow.start_span("a") as span:
        pass
    export_queue.backlogs_of(spans.otel(span))
    queue = export_owners()["queue"]
    mlflow.flush_trace_async_logging(terminate=True)
    assert not queue._consumer_thread.is_alive()
    assert queue._queue.empty()
    queue._stop_event.set()

    queue._queue.get_nowait().handle()
    queue._queue.task_done()


# --- spans ---------------------------------------------------------------------------------------------------------


def test_withheld_span_reaches_nobody(watcher: Watcher) -> None:
    """A span whose processor is replaced by an empty one is exported nowhere."""
    span = mlflow.start_span_no_context("a")
    spans.withhold(span._span)
    span.end()

    assert spans.ended(span._span)
    assert watcher.ended == []
    # MLflow was not told either, and would keep the trace for as long as the process lives.
    assert InMemoryTraceManager.get_instance().pop_trace(span._span.context.trace_id) is not None


class Loud(spans.ConcreteSpan):
    def set_attribute(self, key: str, value: Any) -> None:
        super().set_attribute(key, value.upper() if isinstance(value, str) else value)


def test_class_of_a_started_span_can_change(store: str) -> None:
    """A started span goes by the methods of the class that it is given, and MLflow stores what they write."""
    with mlflow.start_span("a") as live:
        assert type(live._span) is spans.ConcreteSpan
        live._span.__class__ = Loud
        live.set_attribute("word", "quiet")

    assert mlflow.get_trace(live.trace_id).data.spans[0].get_attribute("word") == "QUIET"


def test_live_span_of_an_sdk_span(store: str) -> None:
    """MLflow keeps its object for each open span under ids that follow from OpenTelemetry's; it is found again."""
    with mlflow.start_span("a") as above, mlflow.start_span("b") as below:
        assert spans.live_span(spans.otel(below)) is below
        assert spans.open_ancestors(spans.otel(below)) == [above]


def test_trace_in_memory(store: str) -> None:
    """A trace is in memory, with its info, until its root ends; one that is not there is None."""
    with mlflow.start_span("a") as span, trace_info.trace_info(span.trace_id) as info:
        assert info.trace_id == span.trace_id
    with trace_info.trace_info(span.trace_id) as info:
        assert info is None


def test_attachments(store: str) -> None:
    """A file in a payload is in `_attachments` by id, and what is deleted there is not uploaded."""
    with mlflow.start_span("a") as span:
        span.set_inputs({"file": Attachment(content_type="text/plain", content_bytes=b"words")})
        found = spans.attachments_of(span)
        ((key, attachment),) = found.items()

        assert (attachment.id, attachment.content_bytes) == (key, b"words")
        assert found is span._attachments
        found.clear()


def test_fields_can_be_replaced(store: str) -> None:
    """Attributes are replaced, events and links emptied, a final status described anew; the stored span has that."""
    with mlflow.start_span("a") as live:
        span = spans.otel(live)
        span.set_attribute("word", '"secret"')
        span.add_event("told", {"text": "secret"})
        span.add_link(otel_trace.SpanContext(1, 2, is_remote=False), {"text": "secret"})
        span.set_status(otel_trace.StatusCode.ERROR, "secret")
        attributes, events, links = spans.fields_of(span)

        assert ([event.name for event in events], len(links), attributes["word"]) == (["told"], 1, '"secret"')
        kept = {key: value for key, value in attributes.items() if key != "word"}
        spans.replace_fields(span, attributes={**kept, "other": '"x"'}, drop_events=True, drop_links=True)
        spans.replace_status(span, "said otherwise")
        assert not spans.ended(span)
        span.end()

    (stored,) = mlflow.get_trace(live.trace_id).data.spans
    assert stored.get_attribute("other") == "x"
    assert stored.status.description == "said otherwise"
    assert (stored.events, len(span.links)) == ([], 0)
    assert "secret" not in str(stored.to_dict())


def test_attributes_go_past_the_sdks_look_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the SDK's mapping as they were given; one that a limit would cut, or drop, goes the SDK's way."""
    span: Any = TracerProvider().get_tracer("a").start_span("a")
    monkeypatch.setattr(BoundedAttributes, "_set_items", None)
    spans.write_raw(span, {"b": "long", "c": "d"})
    assert dict(span.attributes) == {"b": "long", "c": "d"}
    monkeypatch.undo()

    for limits in (SpanLimits(max_attribute_length=2), SpanLimits(max_attributes=1)):
        span = TracerProvider(span_limits=limits).get_tracer("a").start_span("a")
        spans.write_raw(span, {"b": "lo", "c": "long"})
        other: Any = TracerProvider(span_limits=limits).get_tracer("a").start_span("a")
        other.set_attributes({"b": "lo", "c": "long"})
        assert dict(span.attributes) == dict(other.attributes)
    span.end()
    spans.write_raw(span, {"late": "x"})
    assert "late" not in span.attributes


def test_mlflow_keeps_its_own_links(store: str) -> None:
    """A link that is set on MLflow's object is in a list beside OpenTelemetry's."""
    from mlflow.entities import Link

    with mlflow.start_span("a") as live:
        live.add_link(Link(trace_id="tr-" + "1" * 32, span_id="2" * 16))  # type: ignore[abstract]  # MLflow makes them so

        assert len(spans.mlflow_links_of(live)) == 1
        spans.mlflow_links_of(live).clear()


# --- MLflow's LangChain tracer -------------------------------------------------------------------------------------


def test_notebooks_are_looked_for_in_a_runtime_alone(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no experiment was chosen, MLflow asks its provider for notebooks at each trace."""
    asked: list[bool] = []

    def is_in_notebook() -> bool:
        asked.append(True)
        return False

    monkeypatch.setattr("mlflow.utils.databricks_utils.is_in_databricks_notebook", is_in_notebook)
    monkeypatch.setattr(DatabricksNotebookExperimentProvider, "in_context", NOTEBOOK_IS_AROUND)

    experiments.get_experiment_id()
    assert len(asked) == 1

    default_experiment.look_for_runtime_first()
    default_experiment.look_for_runtime_first()
    experiments.get_experiment_id()
    assert len(asked) == 1

    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    experiments.get_experiment_id()
    assert len(asked) == 2


def handlers_in_a_manager(*handlers: BaseCallbackHandler) -> list[type]:
    manager = CallbackManager.configure(inheritable_callbacks=list(handlers))
    return [type(handler) for handler in manager.inheritable_handlers]


def test_stand_in_keeps_autologs_tracer_out(store: str) -> None:
    """Autolog adds its tracer to any handler but one whose class is registered with the tracer's metaclass."""

    class Stranger(BaseCallbackHandler): ...

    class StandIn(BaseCallbackHandler): ...

    autolog.stand_in_for_tracer(StandIn)
    autolog._standing_in.discard(StandIn)  # else a handler's shortcut, not autolog, would decide
    mlflow.langchain.autolog()

    assert MlflowLangchainTracer in handlers_in_a_manager(Stranger())
    assert handlers_in_a_manager(StandIn()) == [StandIn]


def test_tracer_keeps_its_spans_by_run(store: str) -> None:
    """MLflow's tracer has the span and the context token of an open run under the run's id as text."""
    run_id, tracer = uuid.uuid4(), MlflowLangchainTracer()
    tracer.on_chain_start({}, {"x": 1}, run_id=run_id, name="chain")
    held = tracer._run_span_mapping[str(run_id)]

    assert isinstance(held.span, spans.LiveSpan)
    active.detach(held.token)
    assert mlflow.get_current_active_span() is None
    held.span.end()


def test_gorilla_keeps_the_original(store: str) -> None:
    """While autolog is on, the unpatched `__init__` can be had; it adds no tracer."""
    before = BaseCallbackManager.__init__
    assert not hasattr(BaseCallbackManager, "_gorilla_active_patch___init__")
    mlflow.langchain.autolog()
    original = gorilla.get_original_attribute(BaseCallbackManager, "__init__")

    assert original is before
    assert BaseCallbackManager.__init__ is not before
    manager = SimpleNamespace()
    original(manager, [], [])
    assert manager.inheritable_handlers == []


# --- spellings -----------------------------------------------------------------------------------------------------

KEYS = {
    name: value
    for name, value in vars(attribute_keys).items()
    if name.isupper() and isinstance(value, str) and not value.startswith("cost.")
}
"""All but our own."""


def test_keys_are_spelled_as_mlflow_does() -> None:
    """The attribute keys and span types that are written without MLflow are MLflow's own."""
    theirs = {**constants(spans.SpanAttributeKey), **constants(spans.SpanType)}

    assert {name: theirs.get(name) for name in KEYS} == KEYS


def test_fields_of_traces_are_spelled_as_mlflow_does() -> None:
    """What reports ask a trace for stands where MLflow writes it."""
    metadata, tags = trace_info.TraceMetadataKey, trace_info.TraceTagKey

    assert {"user": metadata.TRACE_USER, "session": metadata.TRACE_SESSION} == trace_fields.METADATA_FIELDS
    assert {"trace_name": tags.TRACE_NAME, "prompts": tags.LINKED_PROMPTS} == trace_fields.TAG_FIELDS
    assert (metadata.COST, metadata.TOKEN_USAGE) == (trace_fields.TRACE_COST, trace_fields.TRACE_USAGE)
    assert tags.SPANS_LOCATION == trace_fields.SPANS_LOCATION
    assert MLFLOW_ARTIFACT_LOCATION == trace_fields.ARTIFACT_LOCATION
    in_files = {one.value: trace_fields.has_spans_in_files(one.value) for one in SpansLocation}
    assert [name for name, told in in_files.items() if told] == ["ARTIFACT_REPO"]


CALL = {"name": "look_up", "args": {"word": "x"}, "id": "1", "type": "tool_call"}
INVALID = {"name": "look_up", "args": "{", "id": "1", "error": "no JSON", "type": "invalid_tool_call"}
PARTS: list[str | dict[Any, Any]] = [
    {"type": "text", "text": "what is it?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
]
MESSAGES = {
    "user": HumanMessage("hello"),
    "user, empty": HumanMessage(""),
    "user, named": HumanMessage("hello", name="Ada", id="m-1"),
    "user, parts": HumanMessage(PARTS),
    "system": SystemMessage("be brief"),
    "assistant": AIMessage(
        "hello", id="m-2", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    ),
    "assistant, calls": AIMessage("", tool_calls=[CALL]),
    "assistant, invalid call": AIMessage("", invalid_tool_calls=[INVALID]),
    "assistant, parts": AIMessage([{"type": "text", "text": "hello"}]),
    "assistant, OpenAI's calls": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
        },
    ),
    "assistant, old call": AIMessage("", additional_kwargs={"function_call": {"name": "look_up", "arguments": "{}"}}),
    "assistant, refusal": AIMessage("", additional_kwargs={"refusal": "no"}),
    "tool": ToolMessage("found", tool_call_id="call-1"),
    "tool, named, failed": ToolMessage("found", tool_call_id="call-2", name="look_up", status="error"),
    "function": FunctionMessage("found", name="look_up"),
    "other role": ChatMessage("hello", role="user"),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_chat_message_is_mlflows_form(message: Any) -> None:
    """A message is written exactly as MLflow's own conversion does, also by the short cut."""
    assert chat_form.chat_message(message) == convert_lc_message_to_chat_message(message).model_dump()


# --- prices --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notes whom a socket or a look-up of a name asked for, and refuses; nothing tells MLflow to stay at home."""
    asked: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.delenv("MLFLOW_MODEL_CATALOG_URI", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    catalogue._load_bundled_provider.cache_clear()
    return asked


def test_catalogue_is_read_from_the_package(no_network: list[Any]) -> None:
    """Prices of a known model are exact, of the version that is installed, and nobody is asked over the network."""
    rates = prices.catalogue_rates("openai", "gpt-4o")

    assert no_network == []
    assert rates is not None
    assert rates.model == "openai/gpt-4o"
    assert rates.source == f"mlflow {mlflow.__version__} catalogue"
    assert {"input": Decimal("0.0000025"), "output": Decimal("0.00001")}.items() <= rates.rates.items()
    assert {type(rate) for rate in rates.rates.values()} == {Decimal}
