"""Stores with texts planted in every place of a trace: some traces are to go, all others are to stay as they are."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat
from langgraph.graph import END, START, MessagesState, StateGraph
from leaks import letters
from mlflow.entities import AssessmentSource, AssessmentSourceType, ViewType
from mlflow.genai.datasets import create_dataset
from mlflow.store.tracking.rest_store import RestStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.attachments import Attachment

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.redaction.spellings import spelling_in, spellings

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ("bob", "bob@example.com", "o'brien", "zoë müller", "team/7", "a%b_c", '["x"]', "42", "x" * 200, 'q"u\\o')
"""Ids of users and sessions, and values of tags: what filters, patterns and JSON give a meaning to."""
NEAR: tuple[Callable[[str], str], ...] = (
    lambda each: f"{each}2",
    lambda each: each[:-1] or "z",
    lambda each: f"x{each}",
    str.upper,
    lambda each: f"{each} ",
)
"""Other people's ids, that a careless comparison would take for the same."""
WAYS = ("graph", "span", "attachment", "file")


@dataclass
class Planted:
    """What was put into a store."""

    words: list[str]
    """How the command names what is to go."""
    gone: dict[str, str] = field(default_factory=dict)
    """Texts of the traces that are to go, by where they were put."""
    victims: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    others_before: dict[str, Any] = field(default_factory=dict)

    def plant(self, where: str) -> str:
        """A text of a trace that is to go."""
        text = f'{letters(18)} "{where}" \\ és'
        self.gone[f"{where} {len(self.gone)}"] = text
        return text

    def found_in(self, stored: bytes) -> list[str]:
        """Where the texts that are still in these bytes had been put."""
        return [where for where, text in self.gone.items() if spelling_in(spellings(text[:16]), stored)]


def plant_store(seed: int, *, ways: tuple[str, ...] = WAYS) -> Planted:
    """Plant traces into the store that MLflow was told, by the roads that users take.

    Args:
        seed: Decides who is meant, how many traces there are, and what is in them.
        ways: Of recording a trace.
    """
    rng = random.Random(seed)
    by = ("user", "session", "tag", "text")[seed % 4]
    who = IDS[(seed // 4) % len(IDS)]
    needle = f"{letters(12)} nr. {seed}/“{who}”\n\\"
    words = {
        "user": ["--user", who],
        "session": ["--session", who],
        "tag": ["--tag", f"tenant={who}"],
        "text": ["--text", needle],
    }[by]
    planted = Planted(words)
    if by == "text":
        planted.gone["the text itself"] = needle
    names = [f"first {seed}", f"second {seed}"]
    for name in names:
        planted.experiments.append(str(mlflow.set_experiment(name).experiment_id))
        near = [other for make in NEAR if (other := make(who)) != who]
        rng.shuffle(near)
        for number in range(rng.randint(2, 3)):
            way = ways[(seed + number) % len(ways)]
            with mlflow.start_run() if rng.random() < 0.5 else nullcontext():
                planted.victims.append(_trace(way, by, who, planted, planted.plant, needle))
        # One run has a trace of each: its sums stay.
        for number in range(rng.randint(2, 4)):
            way = ways[(seed + number) % len(ways)]
            planted.others.append(
                _trace(way, by, near[number % len(near)], planted, lambda where: f"kept {where}", "no")
            )
    _records(planted, by, seed)
    client = mlflow.MlflowClient()
    run = client.create_run(planted.experiments[0])
    client.link_traces_to_run([planted.victims[0], planted.others[0]], run.info.run_id)
    client.delete_experiment(planted.experiments[1])
    mlflow.flush_trace_async_logging()
    planted.others_before = others_of(planted)
    return planted


def _trace(way: str, by: str, who: str, planted: Planted, plant: Callable[[str], str], needle: str) -> str:
    """One trace of somebody's, with a text in each of its places."""
    metadata = {"user_id": who} if by == "user" else {}
    told = plant("question") + (f" {needle}" if by == "text" and needle != "no" else "")
    stores = (SqlAlchemyStore, RestStore) if way == "file" else ()
    with pytest.MonkeyPatch.context() as patch:
        for each in stores:
            patch.setattr(each, "log_spans", _takes_no_spans)
        if stores:
            mlflow.tracing.reset()
        if way == "graph":
            handler = MlflowCostHandler({"trace_metadata": ["tenant"], "artifact_level": "full"})
            config: dict[str, Any] = {"callbacks": [handler], "metadata": metadata, "configurable": {}}
            if by == "session":
                config["configurable"]["thread_id"] = who
            if by == "tag":
                config["metadata"]["tenant"] = who
            _graph(plant("answer")).invoke({"messages": [("human", told)]}, config=config)
            trace_id = handler.summary().trace_id
        else:
            inputs: Any = {"question": told, "arguments": json.dumps({"deep": json.dumps(plant("json in json"))})}
            if way == "attachment":
                content = plant("attachment").encode()
                inputs["page"] = Attachment(content_type="text/plain", content_bytes=content)
            with mlflow.start_span(plant("name")) as span:
                span.set_inputs(inputs)
                said = mlflow.entities.SpanEvent("said", attributes={"words": plant("event")})  # type: ignore[abstract]
                span.add_event(said)
                of = {"user": "mlflow.trace.user", "session": "mlflow.trace.session"}
                mlflow.update_current_trace(
                    metadata={of[by]: who} if by in of else {}, tags={"tenant": who} if by == "tag" else {}
                )
            trace_id = span.trace_id
        mlflow.flush_trace_async_logging()
    if stores:
        mlflow.tracing.reset()
    mlflow.set_trace_tag(trace_id, "note", plant("tag"))
    mlflow.log_feedback(
        trace_id=trace_id,
        name="good",
        value=plant("value"),
        rationale=plant("rationale"),
        source=AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="reader"),
    )
    info = mlflow.MlflowClient().get_trace(trace_id, display=False).info
    if plant == planted.plant:
        planted.locations.append(info.tags["mlflow.artifactLocation"])
    return str(trace_id)


def _takes_no_spans(*_: object, **__: object) -> None:
    raise NotImplementedError


def _graph(answer: str) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [FakeChat(answers=[answer]).invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()


def _records(planted: Planted, by: str, seed: int) -> None:
    dataset = create_dataset(name=f"cases {seed}", experiment_id=planted.experiments[:1])
    client = mlflow.MlflowClient()
    traces = [client.get_trace(each, display=False) for each in (planted.victims[0], planted.others[0])]
    dataset.merge_records([trace for trace in traces if trace.data.spans])
    dataset.merge_records([{"inputs": {"question": "by hand"}, "expectations": {"answer": "kept"}}])
    if by == "text":
        dataset.merge_records([{"inputs": {"question": planted.gone["the text itself"]}}])


def others_of(planted: Planted) -> dict[str, Any]:
    """All that the API tells of what is to stay."""
    client = mlflow.MlflowClient()
    told: dict[str, Any] = {}
    for trace_id in planted.others:
        trace = client.get_trace(trace_id, display=False)
        told[trace_id] = json.loads(trace.to_json())
    kept = []
    for dataset in client.search_datasets():
        for record in dataset.records:
            source = record.source.source_data.get("trace_id") if record.source else None
            if source not in planted.victims and planted.gone.get("the text itself") not in record.inputs.values():
                kept.append(json.dumps(record.to_dict(), sort_keys=True, default=str))
    return {**told, "records": sorted(kept)}


def through_the_api(planted: Planted) -> dict[str, Any]:
    """What MLflow's API still has of the traces that were to go."""
    client = mlflow.MlflowClient()
    left: dict[str, Any] = {}
    experiments = [each.experiment_id for each in client.search_experiments(view_type=ViewType.ALL)]
    ids = {
        trace.info.trace_id
        for experiment in experiments
        for trace in client.search_traces(locations=[experiment], max_results=500, include_spans=False)
    }
    left["traces"] = sorted(ids & set(planted.victims))
    left["files"] = [place for place in planted.locations if mlflow.artifacts.list_artifacts(artifact_uri=place)]
    left["records"] = [
        record.dataset_record_id
        for dataset in client.search_datasets()
        for record in dataset.records
        if planted.found_in(json.dumps(record.to_dict(), default=str).encode())
    ]
    return {name: what for name, what in left.items() if what}
