"""Where a stored trace says what a report asks for, spelled as MLflow does; without MLflow, which is slow to import."""

from __future__ import annotations

import json
from typing import Any, Final

from langchain_mlflow_cost import attributes as keys

QUARTER_MS: Final = 900_000
"""Traces are grouped by quarters of an hour where they are: every time zone's days begin with one."""

SPAN_FIELDS: Final = {
    "node": "policy.node",
    "model": keys.MODEL,
    "provider": keys.MODEL_PROVIDER,
    "call_prompts": keys.PROMPTS,
}
"""What an attribute of a span tells, by the name of the raw field."""
METADATA_FIELDS: Final = {"user": "mlflow.trace.user", "session": "mlflow.trace.session"}
"""What the metadata of a trace tell."""
TAG_FIELDS: Final = {"trace_name": "mlflow.traceName", "prompts": "mlflow.linkedPrompts"}
"""What its tags tell."""

TRACE_COST: Final = "mlflow.trace.cost"
TRACE_USAGE: Final = "mlflow.trace.tokenUsage"
"""Sums in a trace's metadata: what MLflow's pages show."""
LANGCHAIN_TAGS: Final = "langchain.tags"

ARTIFACT_LOCATION: Final = "mlflow.artifactLocation"
"""Of a trace's tags: the address of its files."""
SPANS_LOCATION: Final = "mlflow.trace.spansLocation"
"""Of a trace's tags: where its spans are stored (`has_spans_in_files`)."""


def has_spans_in_files(spans_location: str | None) -> bool:
    """Whether a trace with this tag has its spans in `traces.json`, and nowhere else; an older MLflow set none."""
    return (spans_location or "ARTIFACT_REPO") == "ARTIFACT_REPO"


def texts_in(value: Any) -> list[str]:
    """The texts of a JSON list, as LangChain's tags are stored."""
    try:
        found = json.loads(value or "[]")
    except json.JSONDecodeError:  # MLflow cuts long metadata
        return []
    return [str(each) for each in found] if isinstance(found, list) else []
