"""MLflow's attribute keys and span types, spelled as MLflow spells them; `tests/core/test_internals.py` compares them.

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

CHAIN = "CHAIN"
CHAT_MODEL = "CHAT_MODEL"
EMBEDDING = "EMBEDDING"
LLM = "LLM"
RETRIEVER = "RETRIEVER"
TOOL = "TOOL"

MODEL_TYPES = frozenset({LLM, CHAT_MODEL, EMBEDDING})
"""Types of the spans that stand for one model call each."""
