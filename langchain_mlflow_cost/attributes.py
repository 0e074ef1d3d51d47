"""Attribute keys and span types: MLflow's as MLflow spells them (`tests/core/test_internals.py` compares), and ours.

They stand here so that costs and budgets work where MLflow cannot be imported.
"""

from __future__ import annotations

INPUTS = "mlflow.spanInputs"
OUTPUTS = "mlflow.spanOutputs"
CHAT_TOOLS = "mlflow.chat.tools"
CHAT_USAGE = "mlflow.chat.tokenUsage"
LLM_COST = "mlflow.llm.cost"
MODEL = "mlflow.llm.model"
MODEL_PROVIDER = "mlflow.llm.provider"
MESSAGE_FORMAT = "mlflow.message.format"

STOPPED_BY = "cost.stopped_by"
"""Of a trace's root span and of its metadata: the budget that refused a call, in words without ids."""
ATTEMPT = "cost.attempt"
"""Of the span of a node that LangGraph ran again: 2 for its first retry."""
TOOL_USD = "cost.tool_usd"
"""Of a tool's span: the fee of this call of it alone."""

CHAIN = "CHAIN"
CHAT_MODEL = "CHAT_MODEL"
EMBEDDING = "EMBEDDING"
LLM = "LLM"
RETRIEVER = "RETRIEVER"
TOOL = "TOOL"

MODEL_TYPES = frozenset({LLM, CHAT_MODEL, EMBEDDING})
"""Types of the spans that stand for one model call each."""
