"""Set-up in one line: tracking store, experiment, export settings, autolog, handler."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.bounded import within
from langchain_mlflow_cost.everywhere import govern_everywhere
from langchain_mlflow_cost.handler import MlflowCostHandler
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import warn_or_log, without_credentials
from langchain_mlflow_cost.policy.problems import PolicyWarning
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.tracking_stores import (
    DEFAULT_TRACKING_URI,
    allows_file_store,
    doubt_about,
    folder_of,
    has_databases,
    holds_file_store,
    is_database,
    is_in,
    is_server,
    why_unusable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_mlflow_cost.budgets.rules import BudgetEvent
    from langchain_mlflow_cost.pricing.ledger import Call

log = logging.getLogger("langchain_mlflow_cost")

EXPORT_SETTINGS = {
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "128",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS": "1000",
}
"""Export in batches of 128 spans, or every second, where the user set nothing.

A transaction costs about as much as ten spans, and MLflow's default is one for every five spans. Larger batches save
little more, and a request to a server grows with them. A process that is killed loses what was not sent: at most that
many spans, or that second.
"""


def configure(
    policy: Policy | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    on_cost: Callable[[Call], None] | None = None,
    on_budget: Callable[[BudgetEvent], None] | None = None,
    everywhere: bool = False,
) -> MlflowCostHandler:
    """Point MLflow to the policy's store and experiment, switch autolog on, and make a handler.

    Call it before the first span: MLflow reads its export settings once. It waits at most 3 s for a server's health
    check; where the server does not answer as MLflow's does, traces go to `sqlite:///mlflow.db`, and a warning names
    both. Where a database cannot be written, tracing is switched off, with a warning. Settings in the environment
    (`MLFLOW_TRACKING_URI`, `MLFLOW_ASYNC_TRACE_LOGGING_...`) stay as they are.

    Args:
        policy: As for `MlflowCostHandler`: a `Policy`, a mapping with its keys, or the path of a YAML file.
        on_cost: As for `MlflowCostHandler`: called after every model call, in its thread.
        on_budget: As for `MlflowCostHandler`: called when a budget warns or refuses.
        everywhere: Govern every LangChain run of this process without a callback being passed, and every MLflow span
            that no LangChain run is above. A handler that is passed all the same wins for its invocation. Called again,
            the new policy takes the place of the old one for what begins from then on; one with `enabled: false`
            changes nothing.

    Returns:
        The handler, to be passed in `config={"callbacks": [...]}`; with `everywhere` it need not be.

    Raises:
        PolicyError: The policy cannot be used. Nothing else is raised: where MLflow fails, a warning says so.
    """
    loaded = Policy.load(policy)
    if loaded.enabled:
        _set_up(loaded, _point_mlflow)
    handler = MlflowCostHandler(loaded, on_cost=on_cost, on_budget=on_budget)
    if everywhere and loaded.enabled:
        govern_everywhere(handler)
    return handler


def configure_unedited() -> None:
    """Do what `configure(everywhere=True)` does for a program that was started by `mlflow-cost run`.

    The program may choose its store and experiment itself, later: neither is made before it is used, and an experiment
    that its environment names goes before the policy's default. What the policy warns of was told by the command.

    Raises:
        PolicyError: The policy cannot be used any more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolicyWarning)
        policy = Policy.load(None)
        if not policy.enabled:
            return
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not named or "experiment_name" in policy.model_fields_set:
            os.environ["MLFLOW_EXPERIMENT_NAME"] = policy.experiment_name
            os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        _set_up(policy, _point_if_told)
        govern_everywhere(MlflowCostHandler(policy))


def _set_up(policy: Policy, point: Callable[[Policy], None]) -> None:
    for name, value in EXPORT_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "true" if policy.async_logging else "false")
    try:
        point(policy)
    except Exception as error:  # noqa: BLE001 - no fault of MLflow's may stop the user's program
        fault = str(error) if isinstance(error, _NoStoreError) else f"{type(error).__name__}: {_first_line(error)}"
        warn_or_log(
            f"langchain_mlflow_cost could not set MLflow up ({without_credentials(fault)}); "
            "costs and budgets work, traces may not be stored",
            log,
            RuntimeWarning,
        )


class _NoStoreError(Exception):
    """There is no store; the message says why."""


def _point_mlflow(policy: Policy) -> None:
    import mlflow  # noqa: PLC0415 - slow, and it may be missing

    _point_to_store(policy)
    mlflow.set_experiment(policy.experiment_name)


def _point_if_told(policy: Policy) -> None:
    """Where nobody has named a store, the program may yet: the default is not tried, which may switch tracing off."""
    import mlflow  # noqa: PLC0415 - as above

    if policy.tracking_uri is None and _known_uri(mlflow) == DEFAULT_TRACKING_URI:
        mlflow.set_tracking_uri(DEFAULT_TRACKING_URI)
    else:
        _point_to_store(policy)


def _point_to_store(policy: Policy) -> None:
    import mlflow  # noqa: PLC0415 - as above

    known = policy.tracking_uri or _known_uri(mlflow)
    uri = _meant(known, is_told=policy.tracking_uri is not None)
    if is_server(uri):
        fault = why_unusable(uri) or _why_unread(mlflow, uri, policy.experiment_name)
        if fault is not None:
            text = f"the MLflow server {without_credentials(uri)} {fault}; traces go to {DEFAULT_TRACKING_URI} instead"
            warn_or_log(text, log, RuntimeWarning)
            uri = DEFAULT_TRACKING_URI
    if is_database(uri) and not has_databases():
        mlflow.tracing.disable()
        raise _NoStoreError(
            f"{uri} needs the package mlflow: mlflow-tracing alone has no database store. Install mlflow, or name a "
            "server (tracking_uri: http://...); tracing is off until mlflow.tracing.enable()"
        )
    # Without a word, MLflow looks for a database, which its light package cannot.
    is_set: bool = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]  # MLflow annotates it not
    if not is_set or uri != mlflow.get_tracking_uri():
        mlflow.set_tracking_uri(uri)
    fault = None if is_server(uri) else why_unusable(uri)
    if fault is not None:
        # MLflow would try for 102 s, now and again at the first span.
        mlflow.tracing.disable()
        raise _NoStoreError(f"{uri} {fault}: tracing is off until mlflow.tracing.enable()")
    if known == DEFAULT_TRACKING_URI and policy.tracking_uri is None:
        _hint_at_old_store()


def _known_uri(mlflow: Any) -> str:
    """What MLflow was told already, else the default: never `./mlruns`, which is deprecated."""
    told = os.environ.get("MLFLOW_TRACKING_URI") or (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else "")
    return told or DEFAULT_TRACKING_URI


def _meant(uri: str, *, is_told: bool) -> str:
    """The store that an older URI means: its folder where MLflow still has a file store, else the default database.

    Args:
        uri: As written.
        is_told: It stands in the policy, which has warned of it when it was loaded.
    """
    doubt = doubt_about(uri)
    if doubt is None:
        return uri
    if not is_told:
        warn_or_log(doubt, log, UserWarning)
    folder = folder_of(uri)
    return DEFAULT_TRACKING_URI if folder is None or not allows_file_store() else folder.absolute().as_uri()


def _why_unread(mlflow: Any, uri: str, experiment: str) -> str | None:
    """Ask the server for the experiment: a stranger may be healthy too, and an API may hang behind a health check."""
    if not hasattr(mlflow, "MlflowClient"):
        return None
    wait_s = limits().set_up_s
    try:
        within(wait_s, lambda: mlflow.MlflowClient(uri).get_experiment_by_name(experiment))
    except TimeoutError:
        return f"is healthy, but did not say within {wait_s:g} s which experiments it has"
    except Exception as error:  # noqa: BLE001 - whatever it answers, it is no MLflow that we may use
        return f"is healthy, but does not say which experiments it has ({type(error).__name__}: {_first_line(error)})"
    return None


def _hint_at_old_store() -> None:
    old = Path("mlruns")
    if holds_file_store(old) and not is_in(Path("mlflow.db"), old):
        warn_or_log(
            f"{old}/ holds runs or traces of MLflow's old file store, which are not in {DEFAULT_TRACKING_URI}; "
            "to take them along: `mlflow-cost migrate mlruns mlflow.db`",
            log,
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""
