"""MLflow's scorers, and finished traces with their assessments, in a store that need not be the current one."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Assessment, Feedback
from mlflow.tracing.client import TracingClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

JUDGE_COST = "mlflow.assessment.judgeCost"
INPUT_TOKENS, OUTPUT_TOKENS = "mlflow.assessment.judgeInputTokens", "mlflow.assessment.judgeOutputTokens"
_PAIR = 2


def current_store() -> str:
    """The tracking URI that is in force."""
    return str(mlflow.get_tracking_uri())


def make_scorers(chosen: Iterable[Any], guidelines: Mapping[str, Sequence[str]], model: str | None) -> list[Any]:
    """Make the scorers of a policy.

    Args:
        chosen: Names of built-in ones, `module:name`, or scorers.
        guidelines: Texts by the name of their judge.
        model: The model of those that are made here; None for MLflow's default.

    Raises:
        Exception: Whatever is wrong with one of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own modules when they are imported
        from mlflow.genai import scorers as known  # noqa: PLC0415 - slow, and only where something is judged

    options: dict[str, Any] = {} if model is None else {"model": model}
    found: list[Any] = []
    for each in chosen:
        if not isinstance(each, str):
            found.append(each)
        elif ":" in each:
            module, _, name = each.partition(":")
            made = importlib.import_module(module)
            for part in name.split("."):
                made = getattr(made, part)
            found += made if isinstance(made, list | tuple) else [made]
        else:
            found.append(getattr(known, each)(**options))
    found += [known.Guidelines(name=name, guidelines=list(texts), **options) for name, texts in guidelines.items()]
    return found


def stored_trace(uri: str, trace_id: str) -> Any:
    """A trace with its root as the store has it; None while it is not all there."""
    with contextlib.suppress(Exception):  # not stored yet, or the store is away: it is asked again
        trace = TracingClient(uri).get_trace(trace_id)
        if trace.info.state.value != "IN_PROGRESS" and any(span.parent_id is None for span in trace.data.spans):
            return trace
    return None


def judged_by(trace: Any) -> set[str]:
    """Names of the assessments that a model or code has made of a stored trace."""
    return {each.name for each in trace.info.assessments or () if str(each.source.source_type) != "HUMAN"}


def run_scorer(scorer: Any, trace: Any) -> list[Any]:
    """Ask one scorer; what it answers in MLflow's form.

    Raises:
        Exception: Whatever the scorer raises.
    """
    root = next(span for span in trace.data.spans if span.parent_id is None)
    answer = scorer.run(trace=trace, inputs=_as_chat(root.inputs), outputs=_as_chat(root.outputs))
    if answer is None:
        return []
    answers = answer if isinstance(answer, list) else [answer]
    return [each if isinstance(each, Assessment) else Feedback(name=scorer.name, value=each) for each in answers]


def _as_chat(state: Any) -> Any:
    """A graph's state in the form that MLflow's scorers read: LangGraph also takes messages as `(role, text)`."""
    messages = state.get("messages") if isinstance(state, dict) else None
    if not isinstance(messages, list):
        return state
    told = [
        {"role": each[0], "content": each[1]} if isinstance(each, list) and len(each) == _PAIR
        else {"role": "user", "content": each} if isinstance(each, str)
        else each
        for each in messages
    ]  # fmt: skip
    return {**state, "messages": told}


def log_assessment(uri: str, trace_id: str, assessment: Any) -> None:
    """Store an assessment."""
    TracingClient(uri).log_assessment(trace_id, assessment)
