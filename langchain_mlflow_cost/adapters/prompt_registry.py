"""Prompts of MLflow's registry: which ones this process loads, and their links to traces."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.prompt.registry_utils import PromptCache
from mlflow.tracing.trace_manager import InMemoryTraceManager

if TYPE_CHECKING:
    from collections.abc import Callable

_LOADERS = ("load_prompt", "register_prompt")
"""Of `MlflowClient`, through which `mlflow.genai.load_prompt` and all others go."""


def watch_prompts(note: Callable[[Any, bool], None]) -> None:
    """Tell of each prompt that is loaded or registered from now on, and of those that MLflow has in its cache.

    MLflow itself links a prompt to the trace in which it is loaded; most programs load theirs when they start.

    Args:
        note: Given a `PromptVersion`, in the thread that loads it, and whether it was asked for there and then.
    """
    for name in _LOADERS:
        original = getattr(mlflow.MlflowClient, name, None)
        if original is None or getattr(original, "lmc_watched", False):
            continue
        setattr(mlflow.MlflowClient, name, _watched(original, note, is_used=name == "load_prompt"))
    cache = PromptCache.get_instance()
    with cache._lock:  # noqa: SLF001
        known = [prompt for prompt, _ in cache._cache.values()]  # noqa: SLF001
    for prompt in known:
        note(prompt, False)


def _watched(original: Callable[..., Any], note: Callable[[Any, bool], None], *, is_used: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        prompt = original(*args, **kwargs)
        with contextlib.suppress(Exception):  # no fault of ours may keep a prompt from its program
            if prompt is not None:
                note(prompt, is_used)
        return prompt

    call.lmc_watched = True  # type: ignore[attr-defined]
    return call


def link_prompt(trace_id: str, prompt: Any) -> None:
    """Link a prompt to an open trace, as MLflow does: its tag, and its page of the prompt's traces."""
    with contextlib.suppress(KeyError):  # the trace is gone
        InMemoryTraceManager.get_instance().register_prompt(trace_id, prompt)
