"""The guard stands first among the span processors of MLflow's provider, whichever provider that is."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import mlflow
from mlflow.tracing import provider as mlflow_provider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from langchain_mlflow_cost.adapters.active import current_provider
from langchain_mlflow_cost.notices import warn_or_log
from langchain_mlflow_cost.tracking_stores import database_file_of, why_unusable

log = logging.getLogger("langchain_mlflow_cost")


def install_first(guard: SpanProcessor) -> None:
    """Put a span processor before MLflow's own, in the provider that is and in every one that will be.

    MLflow makes a new provider after `set_experiment`, `set_destination`, `reset`, `enable` and others, always through
    `_get_span_processors`; there is no public hook that survives them (`configure(span_processors=)` is dropped by
    `reset`, and never sees spans of a bridged OpenTelemetry library).
    """
    original = mlflow_provider._get_span_processors  # noqa: SLF001
    if getattr(original, "guard", None) is not guard:

        @functools.wraps(original)
        def with_guard(disabled: bool = False) -> list[SpanProcessor]:
            if not disabled and _has_no_database():
                return []
            processors = original(disabled=disabled)
            return [guard, *processors] if processors else processors

        with_guard.guard = guard  # type: ignore[attr-defined]
        mlflow_provider._get_span_processors = with_guard  # noqa: SLF001
    _insert(mlflow_provider.provider.get(), guard)


def _has_no_database() -> bool:
    """Whether traces would go to a SQLite file that cannot be made or written, which is told.

    MLflow opens it where its exporter is made, in the user's first span, and tries ten times, for 102 s (3.17). Without
    processors, its provider records nothing until it makes another one: after `set_tracking_uri` and the like.
    """
    uri = mlflow.get_tracking_uri()
    if database_file_of(uri) is None or any(name.startswith("OTEL_EXPORTER_OTLP") for name in os.environ):
        return False
    fault = why_unusable(uri)
    if fault is not None:
        warn_or_log(f"{uri} {fault}: costs and budgets work, and traces are not stored", log, RuntimeWarning)
    return fault is not None


def guarded(guard: SpanProcessor) -> bool:
    """Whether the guard stands first in the provider in use; True where tracing is off or not started.

    MLflow 3.18's autologs may put a processor of their own before all others.
    """
    current = mlflow_provider.provider.get()
    if not isinstance(current, TracerProvider):
        return True
    return current._active_span_processor._span_processors[:1] == (guard,)  # noqa: SLF001


def _insert(current: Any, guard: SpanProcessor) -> None:
    if not isinstance(current, TracerProvider):
        return
    composite = current._active_span_processor  # noqa: SLF001
    with composite._lock:  # noqa: SLF001
        if composite._span_processors[:1] != (guard,):  # noqa: SLF001
            others = tuple(each for each in composite._span_processors if each is not guard)  # noqa: SLF001
            composite._span_processors = (guard, *others)  # noqa: SLF001


def redirect_to_current_provider(span: SdkSpan) -> None:
    """Let a span that was held back end through today's provider, if its own was replaced meanwhile.

    A retired provider's export queue is shut down, and a span that ends there is lost without a word.
    """
    current = current_provider()
    if isinstance(current, TracerProvider) and span._span_processor is not current._active_span_processor:  # noqa: SLF001
        span._span_processor = current._active_span_processor  # noqa: SLF001
