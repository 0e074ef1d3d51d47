"""Which recorder this process has: the guarded one, unless MLflow is missing or is not as expected."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

from langchain_mlflow_cost.tracing.null_recorder import NullRecorder

if TYPE_CHECKING:
    from langchain_mlflow_cost.tracing.recording import Recorder


@cache
def choose_recorder() -> Recorder:
    """The recorder of this process. MLflow is imported here, and nowhere before."""
    try:
        with warnings.catch_warnings():
            # MLflow warns of its own modules when they are imported; that is no reason to do without it.
            warnings.simplefilter("ignore")
            from langchain_mlflow_cost.adapters.self_test import self_test  # noqa: PLC0415 - it may be missing or broken
            from langchain_mlflow_cost.tracing.recorder import GuardedRecorder  # noqa: PLC0415 - as above
        fault = self_test()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with MLflow, the user's graph must run
        fault = f"{type(error).__name__}: {error}"
    return GuardedRecorder() if fault is None else NullRecorder(fault)
