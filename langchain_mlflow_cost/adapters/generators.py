"""Generators as spans: MLflow's own wrapper never ends the span of one that is closed early, and drops what is sent.

Read in mlflow 3.17: it catches `Exception` around `next` alone, so that a client that goes away (`GeneratorExit` at the
`yield`) leaves the span open for ever, and the whole trace with it; `send`, `throw` and `return` do not get through.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.tracing.utils import capture_function_input_args

from langchain_mlflow_cost import switched
from langchain_mlflow_cost.adapters.active import attach, detach
from langchain_mlflow_cost.adapters.spans import SpanAttributeKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping


class _Stream:
    """The span of one run of a generator, active only while the generator itself runs."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._yielded: list[Any] = []
        try:
            self._span = start()
        except Exception:  # noqa: BLE001 - no fault of MLflow's may break the user's generator
            self._span = None
        self._token: Any = None

    def __enter__(self) -> None:
        if self._span is not None:
            self._token = attach(self._span._span)  # noqa: SLF001

    def __exit__(self, *_: object) -> None:
        if self._span is not None:
            detach(self._token)

    def note(self, value: Any) -> Any:
        if self._span is not None:
            self._yielded.append(value)
        return value

    def end(self, error: BaseException | None = None) -> None:
        if self._span is None:
            return
        failed = isinstance(error, Exception)  # else it was closed, or its task was cancelled
        with contextlib.suppress(Exception):
            if failed:
                self._span.record_exception(error)
            elif self._span.outputs is None:
                self._span.set_outputs(self._yielded)
        with contextlib.suppress(Exception):
            self._span.end(status="ERROR" if failed else None)


def traced_generator(
    function: Callable[..., Any],
    name: str,
    span_type: str,
    attributes: Mapping[str, Any],
    *,
    is_off: Callable[[], bool],
) -> Callable[..., Any]:
    """Record each run of a generator function as a span, from its first item to its end, its closing or its error.

    Args:
        function: A generator function, or an asynchronous one; the answer is one as well.
        name: The span's name.
        span_type: Its type.
        attributes: Its attributes.
        is_off: Asked when a run begins: whether it shall have no span.
    """

    def start(args: Any, kwargs: Any) -> Any:
        if is_off():
            return None
        with switched.declaring(name):
            span = mlflow.start_span_no_context(
                name,
                span_type=span_type,
                parent_span=mlflow.get_current_active_span(),
                inputs=capture_function_input_args(function, args, kwargs),
                attributes=dict(attributes),
            )
        span.set_attribute(SpanAttributeKey.FUNCTION_NAME, function.__name__)
        return span

    wrapper = _asynchronous if inspect.isasyncgenfunction(function) else _synchronous
    return functools.wraps(function)(wrapper(start, function))


def _synchronous(start: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        span = _Stream(functools.partial(start, args, kwargs))
        inner = function(*args, **kwargs)
        step = functools.partial(next, inner)
        try:
            while True:
                with span:
                    try:
                        value = step()
                    except StopIteration as end:
                        returned = end.value
                        break
                try:
                    sent = yield span.note(value)
                except GeneratorExit:
                    with span:
                        inner.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever its consumer throws is for the generator
                    step = functools.partial(inner.throw, error)
                else:
                    step = functools.partial(inner.send, sent)
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return returned

    return wrapper


def _asynchronous(start: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        span = _Stream(functools.partial(start, args, kwargs))
        inner = function(*args, **kwargs)
        step = inner.__anext__
        try:
            while True:
                with span:
                    try:
                        value = await step()
                    except StopAsyncIteration:
                        break
                try:
                    sent = yield span.note(value)
                except GeneratorExit:
                    with span:
                        await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - as above
                    step = functools.partial(inner.athrow, error)
                else:
                    step = functools.partial(inner.asend, sent)
        except BaseException as error:
            span.end(error)
            raise
        span.end()

    return wrapper
