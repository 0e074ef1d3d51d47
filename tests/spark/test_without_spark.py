"""Without pyspark."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no pyspark is told how to get it; nothing else of the package needs it."""
    for name in [name for name in sys.modules if name.startswith(("langchain_mlflow_cost.spark", "pyspark"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)

    with pytest.raises(ImportError, match=r'pip install "langchain-mlflow-cost\[spark\]"'):
        importlib.import_module("langchain_mlflow_cost.spark")
