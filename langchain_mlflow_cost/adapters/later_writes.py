"""What is written to a trace that MLflow has stored already: tags and assessments, which go to the store directly."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Protocol

import mlflow
from mlflow.tracing.client import TracingClient

from langchain_mlflow_cost.adapters.trace_info import trace_info

if TYPE_CHECKING:
    from collections.abc import Callable


class Cleaner(Protocol):
    """What is asked before anything is written."""

    def has_ended(self, trace_id: str) -> bool:
        """Whether a trace was cleaned, though MLflow may still have it in memory, on its way to the store."""

    def tag(self, trace_id: str, key: str, value: str) -> tuple[str, str] | None:
        """What is written in the place of a tag; None: nothing."""

    def assessment(self, trace_id: str, assessment: Any) -> bool:
        """Clean an assessment in place; whether it may be written."""


def clean_later_writes(cleaner: Cleaner) -> None:
    """Ask before a tag or assessment is written to a trace that is not in memory any more, or not the active one.

    All of MLflow's functions for it (`log_feedback`, `log_expectation`, `set_trace_tag`, `MlflowClient`'s, its scorers)
    come by this one class, whatever the store; there is no hook for it.
    """
    if getattr(TracingClient.set_trace_tag, "lmc_watched", False):
        return

    def set_trace_tag(original: Callable[..., Any], self: Any, trace_id: str, key: str, value: Any) -> Any:
        if _is_in_memory(trace_id) and not cleaner.has_ended(trace_id):
            # What stands there is cleaned when the trace ends.
            return original(self, trace_id, key, value)
        clean = cleaner.tag(trace_id, key, str(value))
        return None if clean is None else original(self, trace_id, *clean)

    def log_assessment(original: Callable[..., Any], self: Any, trace_id: str, assessment: Any) -> Any:
        if trace_id == mlflow.get_active_trace_id() and _is_in_memory(trace_id):
            return original(self, trace_id, assessment)
        clean = copy.deepcopy(assessment)
        return original(self, trace_id, clean) if cleaner.assessment(trace_id, clean) else assessment

    def update_assessment(
        original: Callable[..., Any], self: Any, trace_id: str, assessment_id: str, assessment: Any
    ) -> Any:
        clean = copy.deepcopy(assessment)
        return original(self, trace_id, assessment_id, clean) if cleaner.assessment(trace_id, clean) else assessment

    for around in (set_trace_tag, log_assessment, update_assessment):
        _wrap(around.__name__, around)


def _wrap(name: str, around: Callable[..., Any]) -> None:
    original = getattr(TracingClient, name)

    @functools.wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, *args, **kwargs)

    wrapped.lmc_watched = True  # type: ignore[attr-defined]
    setattr(TracingClient, name, wrapped)


def _is_in_memory(trace_id: str) -> bool:
    with trace_info(trace_id) as info:
        return info is not None
