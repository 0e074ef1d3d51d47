"""Tags and assessments that an application writes to a trace later, each with a text in it."""

from __future__ import annotations

import mlflow
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, AssessmentSourceType

MAIL = "jane.doe@example.com"
HUMAN = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=MAIL)


def later_tag(trace_id: str, text: str) -> None:
    mlflow.set_trace_tag(trace_id, "note", text)


def client_tag(trace_id: str, text: str) -> None:
    MlflowClient().set_trace_tag(trace_id, key="note", value=text)


def tag_key(trace_id: str, text: str) -> None:
    mlflow.set_trace_tag(trace_id, text, "x")


def rationale(trace_id: str, text: str) -> None:
    mlflow.log_feedback(trace_id=trace_id, name="helpful", value=True, rationale=text, source=HUMAN)


def value(trace_id: str, text: str) -> None:
    mlflow.log_feedback(trace_id=trace_id, name="comment", value={"text": text}, source=HUMAN)


def metadata(trace_id: str, text: str) -> None:
    mlflow.log_feedback(trace_id=trace_id, name="helpful", value=1, metadata={"by": text})


def error(trace_id: str, text: str) -> None:
    mlflow.log_feedback(trace_id=trace_id, name="helpful", error=ValueError(text))


def expectation(trace_id: str, text: str) -> None:
    mlflow.log_expectation(trace_id=trace_id, name="expected", value=text)


def update(trace_id: str, text: str) -> None:
    made = mlflow.log_feedback(trace_id=trace_id, name="helpful", value=True)
    assert made.assessment_id
    changed = mlflow.entities.Feedback(name="helpful", value=False, rationale=text)
    mlflow.update_assessment(trace_id=trace_id, assessment_id=made.assessment_id, assessment=changed)


ROADS = [later_tag, client_tag, rationale, value, metadata, error, expectation, update]
