"""Exact live cost, budgets and a payload policy for LangChain and LangGraph traces in MLflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_mlflow_cost.configuration import configure
    from langchain_mlflow_cost.decorator import trace_decorator
    from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
    from langchain_mlflow_cost.estimates import estimate_cost as estimate_cost
    from langchain_mlflow_cost.estimates import get_model_pricing as get_model_pricing
    from langchain_mlflow_cost.estimates import price_per_mtok as price_per_mtok
    from langchain_mlflow_cost.handler import MlflowCostHandler
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.pricing.summary import CostSummary
    from langchain_mlflow_cost.stored import cost_summary

__all__ = [
    "BudgetExceededError",
    "CostSummary",
    "MlflowCostHandler",
    "Policy",
    "PolicyError",
    "configure",
    "cost_summary",
    "trace_decorator",
]

# MLflow takes seconds to import: `mlflow-cost --help`, or a program that only reads a policy, need not wait for it.
_HOMES = {
    "BudgetExceededError": "errors",
    "CostSummary": "pricing.summary",
    "MlflowCostHandler": "handler",
    "Policy": "policy.settings",
    "PolicyError": "errors",
    "configure": "configuration",
    "cost_summary": "stored",
    "estimate_cost": "estimates",
    "get_model_pricing": "estimates",
    "price_per_mtok": "estimates",
    "trace_decorator": "decorator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
