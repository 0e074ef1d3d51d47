"""Finding and replacing secrets and personal data: pure, values in, values out."""

from __future__ import annotations

from langchain_mlflow_cost.redaction.detectors import ENTITIES, PII_ENTITIES, SECRET, Found
from langchain_mlflow_cost.redaction.rules import FIELD, Rules, compile_rules, scan
from langchain_mlflow_cost.redaction.walk import Redactor

__all__ = ["ENTITIES", "FIELD", "PII_ENTITIES", "SECRET", "Found", "Redactor", "Rules", "compile_rules", "scan"]
