"""The context that an asyncio task runs in, and the span that MLflow or OpenTelemetry has as active there."""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context as OtelContext
from opentelemetry.trace.propagation import _SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator


def tasks_with_context(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[asyncio.Task[Any], Context]]:
    """The tasks of a loop that are not done, whichever thread asks, and the context of each."""
    for task in asyncio.all_tasks(loop):
        context = context_of(task)
        if context is not None:
            yield task, context


def context_of(task: asyncio.Task[Any]) -> Context | None:
    """The context of a task; None where it does not tell."""
    tell = getattr(task, "get_context", None)
    if tell is not None:
        found = tell()
        return found if isinstance(found, Context) else None
    # Python 3.11 has no other way.
    return next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)


def active_in(context: Context) -> Iterator[Any]:
    """What MLflow and OpenTelemetry have as active in a context that something else runs in: it cannot be entered."""
    for value in list(context.values()):
        if type(value) is OtelContext and (held := value.get(_SPAN_KEY)) is not None:
            yield held
