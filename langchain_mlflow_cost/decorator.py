"""`@mlflow.trace` under the policy, and harmless where MLflow is not."""

from __future__ import annotations

import contextvars
import functools
import inspect
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from langchain_mlflow_cost import switched
from langchain_mlflow_cost.attributes import AGENT, WORKFLOW, Declared
from langchain_mlflow_cost.policy.settings import POLICY_VARIABLE, Policy

F = TypeVar("F", bound=Callable[..., Any])

UNVERSIONED = "unversioned"
"""The `workflow_version` of a workflow that names none."""


def trace_decorator(name: str, **attributes: Any) -> Callable[[F], F]:
    """Record a function as a span, as `mlflow.trace` does.

    Below a run that a handler governs, and around one, its policy applies to the span's name, inputs, outputs and
    exceptions; `attributes` are kept at every level, redacted. The outermost such span of a trace has the sums of all
    calls in it (`cost.*`). Where no handler governs, the policy of the one that was made last applies to the span and
    to all below it: in this context, else in this process; before there is any, that of the file which
    `LANGCHAIN_MLFLOW_COST_POLICY` names, else the defaults.

    Args:
        name: The span's name. Its type is `WORKFLOW` where that says "workflow", in any capitals, else `AGENT`.
        attributes: Attributes of the span, such as `workflow_name`, `workflow_version` and `node_count`. A workflow
            without a `workflow_version`, or with None, is "unversioned". `span_type` sets the type, one of
            `mlflow.entities.SpanType`.

    Returns:
        A decorator for functions, coroutine functions, generators, asynchronous generators, and static and class
        methods, above or below `@staticmethod` and `@classmethod`. It gives the very function back where the policy
        says `enabled: false`: that of the handler that was made last here, else of the one that
        `LANGCHAIN_MLFLOW_COST_POLICY` names. A function that was decorated before such a handler was made is called
        without a span from then on. So it is where MLflow is missing or fails; nothing is raised.
    """
    span_type = str(attributes.pop("span_type", None) or (WORKFLOW if "workflow" in name.casefold() else AGENT))
    if attributes.get("workflow_version") is None and (span_type == WORKFLOW or "workflow_name" in attributes):
        attributes["workflow_version"] = UNVERSIONED
    declared: dict[str, Any] = {Declared(key): value for key, value in attributes.items()}

    def decorate(function: F) -> F:
        if _is_off():
            return function
        if isinstance(function, staticmethod | classmethod):
            return cast("F", type(function)(_traced(function.__func__, name, span_type, declared)))
        return cast("F", _traced(function, name, span_type, declared))

    return decorate


def _traced(function: Callable[..., Any], name: str, span_type: str, attributes: dict[str, Any]) -> Any:
    try:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            from langchain_mlflow_cost.adapters.generators import traced_generator  # noqa: PLC0415 - as below

            return traced_generator(function, name, span_type, attributes, is_off=_has_no_policy)
        import mlflow  # noqa: PLC0415 - it may be missing, and the user's function must work all the same

        traced = mlflow.trace(name=name, span_type=span_type, attributes=attributes or None)(function)
    except Exception:  # noqa: BLE001 - as above
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _has_no_policy():
            return function(*args, **kwargs)
        with switched.declaring(name):
            return traced(*args, **kwargs)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        if _has_no_policy():
            return await function(*args, **kwargs)
        with switched.declaring(name):
            return await traced(*args, **kwargs)

    return call_async if inspect.iscoroutinefunction(function) else call


def _is_off() -> bool:
    """Whether the policy that was told last, or the environment's, says so."""
    enabled = switched.told()
    return not (_enabled_by(os.environ.get(POLICY_VARIABLE)) if enabled is None else enabled)


def _has_no_policy() -> bool:
    """Whether a call shall leave no span: the policy is off, or there is none and none can be had."""
    if _is_off():
        return True
    if switched.told() is None:
        try:
            _make_handler()
        except Exception:  # noqa: BLE001 - fail closed, and let the user's function work
            return True
    return False


def _make_handler() -> None:
    """Let there be a handler for a function that is called before the program has made one, or without any."""
    from langchain_mlflow_cost.handler import MlflowCostHandler  # noqa: PLC0415 - slow, and MLflow may be missing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as below
        policy = Policy.load(None).model_copy(update={"autolog_enabled": False})
    # In a context of its own: it is the process's, and this request's own one may yet be made elsewhere.
    contextvars.copy_context().run(MlflowCostHandler, policy)


@functools.lru_cache(maxsize=8)
def _enabled_by(path: str | None) -> bool:
    if not path:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the handler that will use it says what there is to say
            return Policy.from_yaml(path).enabled
    except Exception:  # noqa: BLE001 - no handler can be made of it either, so nothing would be redacted
        return False
