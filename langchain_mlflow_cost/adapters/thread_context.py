"""What is active where a thread or a task of an executor is started is active in it: Python hands no context on."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from langchain_mlflow_cost.adapters.active import active_span, attach, detach

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span as ApiSpan

_is_wanted: Callable[[ApiSpan], bool] | None = None


def carry_into_threads(is_wanted: Callable[[ApiSpan], bool] | None) -> None:
    """Let threads and executors that are started under certain spans run under them.

    Nothing but MLflow's active span is handed on: the program's own context variables are as ever. Python has no hook
    for it; OpenTelemetry's instrumentation of `threading` wraps the same methods.

    Args:
        is_wanted: Whether an active span is handed on; None to hand on none any more.
    """
    global _is_wanted  # noqa: PLW0603 - one for the process
    _is_wanted = is_wanted
    if is_wanted is None or getattr(threading.Thread.start, "lmc_carries", False):
        return
    start, submit = threading.Thread.start, cast("Any", ThreadPoolExecutor.submit)

    @functools.wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        # An executor's own thread works for many: each task brings its own.
        if not works_for_an_executor(self) and (span := _handed_on()) is not None:
            self.run = _under(span, self.run)  # type: ignore[method-assign]
        start(self)

    @functools.wraps(submit)
    def carrying_submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        span = _handed_on()
        return submit(self, fn if span is None else _under(span, fn), *args, **kwargs)

    carrying_start.lmc_carries = True  # type: ignore[attr-defined]
    threading.Thread.start = carrying_start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = carrying_submit  # type: ignore[method-assign, assignment]


def works_for_an_executor(thread: threading.Thread) -> bool:
    """Whether it is a thread of a pool, which does one thing after the other."""
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) == "concurrent.futures.thread"


def _handed_on() -> ApiSpan | None:
    span = active_span()
    return span if _is_wanted is not None and _is_wanted(span) else None


def _under(span: ApiSpan, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if active_span().get_span_context().is_valid:
            # The caller has brought a context of its own: LangChain's executors do.
            return function(*args, **kwargs)
        token = attach(span)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return call
