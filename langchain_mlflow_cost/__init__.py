"""Exact live cost, budgets and a payload policy for LangChain and LangGraph traces in MLflow."""

from langchain_mlflow_cost.configuration import configure
from langchain_mlflow_cost.decorator import trace_decorator
from langchain_mlflow_cost.errors import BudgetExceededError, PolicyError
from langchain_mlflow_cost.handler import MlflowCostHandler
from langchain_mlflow_cost.policy import Policy
from langchain_mlflow_cost.stored import cost_summary
from langchain_mlflow_cost.summary import CostSummary

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
