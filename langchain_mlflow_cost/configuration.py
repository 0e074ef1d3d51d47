"""Set-up in one line: tracking store, experiment, export settings, autolog, handler."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from langchain_mlflow_cost.handler import MlflowCostHandler
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import without_credentials
from langchain_mlflow_cost.policy.settings import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_mlflow_cost.pricing.ledger import Call

log = logging.getLogger("langchain_mlflow_cost")

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
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
) -> MlflowCostHandler:
    """Point MLflow to the policy's store and experiment, switch autolog on, and make a handler.

    Call it before the first span: MLflow reads its export settings once. It waits at most 3 s for a server's health
    check; where the server does not answer, traces go to `sqlite:///mlflow.db`, and a warning names both. Settings in
    the environment (`MLFLOW_TRACKING_URI`, `MLFLOW_ASYNC_TRACE_LOGGING_...`) stay as they are.

    Args:
        policy: As for `MlflowCostHandler`: a `Policy`, a mapping with its keys, or the path of a YAML file.
        on_cost: As for `MlflowCostHandler`: called after every model call, in its thread.

    Returns:
        The handler, to be passed in `config={"callbacks": [...]}`.

    Raises:
        PolicyError: The policy cannot be used. Nothing else is raised: where MLflow fails, a warning says so.
    """
    loaded = Policy.load(policy)
    if loaded.enabled:
        for name, value in EXPORT_SETTINGS.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "true" if loaded.async_logging else "false")
        try:
            _point_mlflow(loaded)
        except Exception as error:  # noqa: BLE001 - no fault of MLflow's may stop the user's program
            warnings.warn(
                f"langchain_mlflow_cost could not set MLflow up ({type(error).__name__}: {_first_line(error)}); "
                "costs and budgets work, traces may not be stored",
                RuntimeWarning,
                stacklevel=2,
            )
    return MlflowCostHandler(loaded, on_cost=on_cost)


def _point_mlflow(policy: Policy) -> None:
    import mlflow  # noqa: PLC0415 - slow, and it may be missing

    uri = _usable(policy.tracking_uri or _known_uri(mlflow))
    if uri is not None and uri != mlflow.get_tracking_uri():
        mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(policy.experiment_name)


def _known_uri(mlflow: Any) -> str:
    """What MLflow was told already, else the default: never `./mlruns`, which is deprecated."""
    told = os.environ.get("MLFLOW_TRACKING_URI") or (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else "")
    return told or DEFAULT_TRACKING_URI


def _usable(uri: str) -> str:
    """The URI itself, or the default if it is a server that does not answer."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return uri
    if _answers(uri):
        return uri
    wait_s = limits().health_check_s
    warnings.warn(
        f"the MLflow server {without_credentials(uri)} did not answer its health check within {wait_s:g} s; "
        f"traces go to {DEFAULT_TRACKING_URI} instead",
        RuntimeWarning,
        stacklevel=4,
    )
    return DEFAULT_TRACKING_URI


def _answers(uri: str) -> bool:
    try:
        response = requests.get(f"{uri.rstrip('/')}/health", timeout=limits().health_check_s, allow_redirects=False)
    except requests.RequestException:
        return False
    return response.status_code < 500  # noqa: PLR2004 - a proxy in front may refuse /health and serve the rest


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""
