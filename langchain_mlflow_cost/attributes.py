"""Attribute keys and span types: MLflow's as MLflow spells them (`tests/core/test_internals.py` compares), and ours.

They stand here so that costs and budgets work where MLflow cannot be imported.
"""

from __future__ import annotations

from typing import Any

import orjson

INPUTS = "mlflow.spanInputs"
OUTPUTS = "mlflow.spanOutputs"
CHAT_TOOLS = "mlflow.chat.tools"
CHAT_USAGE = "mlflow.chat.tokenUsage"
LLM_COST = "mlflow.llm.cost"
MODEL = "mlflow.llm.model"
MODEL_PROVIDER = "mlflow.llm.provider"
MESSAGE_FORMAT = "mlflow.message.format"

USAGE = "cost.usage"
"""Of a model's span: its whole bill as JSON, enough to price it again (`pricing.usage_json`)."""
PRICE_SOURCE = "cost.price_source"
"""Of a model's span: where its price came from, with the version."""
ESTIMATED = "cost.estimated"
"""Of a model's span: true where tokens were counted by us, because the provider did not tell them."""
NOTES = "cost.notes"
"""Of a model's span: what a reader of its cost has to know, a list of sentences without anything of the payload."""
STOPPED_BY = "cost.stopped_by"
"""Of a trace's root span and of its metadata: the budget that refused a call, in words without ids."""
ATTEMPT = "cost.attempt"
"""Of the span of a node that LangGraph ran again: 2 for its first retry."""
PROMPTS = "cost.prompts"
"""Of a model's span and a node's, where the policy asks for it: the registry's prompts that it used, `name@version`
with commas between them; empty where it used none."""
TOOL_USD = "cost.tool_usd"
"""Of a tool's span: the fee of this call of it alone."""
MODELS = "cost.models"
"""Of a span with calls below it: the models that answered there, a JSON list in the order of their first answers."""
TOOLS = "cost.tools"
"""Of a span with tools below it: those that were called there, likewise."""

USER_KEYS = ("user_id", "langgraph_auth_user_id", "mlflow.trace.user")
"""Where a run's metadata names its user, the first that does: by habit, LangGraph's server, as MLflow does."""

OURS = frozenset(
    {
        USAGE,
        PRICE_SOURCE,
        ESTIMATED,
        NOTES,
        STOPPED_BY,
        ATTEMPT,
        PROMPTS,
        TOOL_USD,
        MODELS,
        TOOLS,
        *(f"cost.{part}_usd" for part in ("total", "input", "output")),
        *(f"cost.{part}_tokens" for part in ("input", "output")),
        *(f"cost.{kind}_calls" for kind in ("llm", "cached", "unpriced", "estimated")),
        *(f"policy.{name}" for name in ("node", "artifact_level", "log_prompts", "redactions", "dropped")),
    }
)
"""All keys that this library writes, and nobody else: they hold no payload, and are not searched for private text."""

AGENT = "AGENT"
CHAIN = "CHAIN"
CHAT_MODEL = "CHAT_MODEL"
EMBEDDING = "EMBEDDING"
LLM = "LLM"
RETRIEVER = "RETRIEVER"
TOOL = "TOOL"
WORKFLOW = "WORKFLOW"

MODEL_TYPES = frozenset({LLM, CHAT_MODEL, EMBEDDING})
"""Types of the spans that stand for one model call each."""


class Declared(str):
    """A span attribute's key that the program itself gave to `trace_decorator`: its value stays at every level.

    The mark is in the key, because the span may be opened before any handler governs it.
    """

    __slots__ = ()


def loaded(value: Any) -> Any:
    """What an attribute says as JSON text; the text itself where it is none."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
