"""Which prompts of MLflow's registry, in which version, a node used: on the trace, on spans, and in reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, SONNET, SONNET_USD, FakeChat
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.prompt.registry_utils import PromptCache
from stored_traces import model_spans, named, only_trace
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.reports.query import Question, Store

POLICY = {"enable_prompt_registry": True}
FIRST = "You are a support desk. Answer {{question}} in one sentence."
SECOND = FIRST + " Say please."


@pytest.fixture
def registry(store: str) -> Iterator[str]:
    """Two versions of `support`, the second in production, and `tone`."""
    for template in (FIRST, SECOND):
        mlflow.genai.register_prompt("support", template)
    mlflow.genai.set_prompt_alias("support", "production", 2)
    mlflow.genai.register_prompt("tone", [{"role": "system", "content": "Write as {{who}} would, at length."}])
    PromptCache._reset_instance()
    yield store
    PromptCache._reset_instance()


def linked(trace: Any) -> set[str]:
    return {
        f"{each['name']}@{each['version']}" for each in json.loads(trace.info.tags.get("mlflow.linkedPrompts", "[]"))
    }


def used(trace: Any) -> list[str]:
    return [span.attributes.get("cost.prompts") for span in model_spans(trace)]


@pytest.mark.sampled(is_in=lambda level: level == "minimal")
@pytest.mark.parametrize("level", ["minimal", "full"])
def test_a_prompt_that_a_node_loads(registry: str, level: str) -> None:
    """Its version, not its alias, is on the trace, the node's span and the model's; another node has none."""
    model = FakeChat()

    def ask(_: MessagesState) -> Any:
        prompt = mlflow.genai.load_prompt("prompts:/support@production")
        return {"messages": [model.invoke(prompt.format(question="how?"))]}

    def other(_: MessagesState) -> Any:
        return {"messages": [model.invoke("no prompt of the registry")]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("ask", ask).add_node("other", other)
    graph.add_edge(START, "ask").add_edge("ask", "other").compile().invoke(
        ASK, given(MlflowCostHandler({**POLICY, "artifact_level": level}))
    )
    trace = only_trace()

    assert linked(trace) == {"support@2"}
    assert named(trace, "ask").attributes["cost.prompts"] == "support@2"
    assert "cost.prompts" not in named(trace, "other").attributes
    assert used(trace) == ["support@2", ""]


@pytest.mark.sampled(is_in=lambda when, version: (when == "after") == (version == 1))
@pytest.mark.parametrize("when", ["before the handler", "after"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_prompt_loaded_when_the_program_starts(registry: str, when: str, version: int) -> None:
    """It is known by its text, through LangChain's own templates; of two versions the one that was sent."""
    handlers = [MlflowCostHandler(POLICY)] if when == "after" else []
    prompts = {number: mlflow.genai.load_prompt("support", number) for number in (1, 2)}
    tone = mlflow.genai.load_prompt("prompts:/tone/1")
    template = ChatPromptTemplate.from_messages(
        [("system", tone.to_single_brace_format()[0]["content"]), ("user", prompts[version].to_single_brace_format())]
    )
    chain = template | FakeChat()
    handler = handlers[0] if handlers else MlflowCostHandler(POLICY)
    one_node(lambda _: chain.invoke({"question": "how?", "who": "a clerk"})).invoke(ASK, given(handler))
    trace = only_trace()

    assert used(trace) == [f"support@{version}, tone@1"]
    assert named(trace, "node").attributes["cost.prompts"] == f"support@{version}, tone@1"
    assert linked(trace) == {f"support@{version}", "tone@1"}


def test_a_prompt_too_short_to_be_recognised_is_nobody_s(registry: str) -> None:
    """`Answer {{question}}` may be anybody's text; it is told where the node loads it."""
    mlflow.genai.register_prompt("short", "Answer {{question}}")
    handler, model = MlflowCostHandler(POLICY), FakeChat()
    one_node(lambda _: model.invoke("Answer me")).invoke(ASK, given(handler))

    assert used(only_trace()) == [""]


def test_without_the_setting_nothing_is_written(registry: str) -> None:
    """MLflow links what is loaded in a trace all the same; reports go by that."""
    model = FakeChat()
    one_node(
        lambda _: model.invoke(mlflow.genai.load_prompt("support", 1).format(question="how?"))
    ).invoke(ASK, given(MlflowCostHandler()))  # fmt: skip
    trace = only_trace()

    assert linked(trace) == {"support@1"}
    assert used(trace) == [None]


def test_names_are_redacted(registry: str) -> None:
    """A prompt's name goes through the policy as every name."""
    policy = {**POLICY, "redaction": {"patterns": {"CUSTOMER": "acme"}}}
    mlflow.genai.register_prompt("greet-acme", "Say hello to the customer, who is {{who}}.")
    model = FakeChat()
    one_node(
        lambda _: model.invoke(mlflow.genai.load_prompt("greet-acme", 1).format(who="x"))
    ).invoke(ASK, given(MlflowCostHandler(policy)))  # fmt: skip

    assert used(only_trace()) == ["greet-[CUSTOMER]@1"]
    assert "acme" not in only_trace().to_json()


@pytest.mark.parametrize("place", ["tables", "pages"])
def test_versions_are_compared_by_cost(registry: str, place: str) -> None:
    """`report --by prompt` adds up the calls of each version, though one trace has both, and one call none."""
    handler = MlflowCostHandler(POLICY)
    cheap, dear = FakeChat(), FakeChat(model=SONNET)

    def ask(_: MessagesState) -> Any:
        for model, version in ((cheap, 1), (dear, 2), (dear, 2)):
            model.invoke(mlflow.genai.load_prompt("support", version).format(question="how?"))
        return {"messages": []}

    def plain(_: MessagesState) -> Any:
        return {"messages": [cheap.invoke("no prompt of the registry")]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("ask", ask).add_node("plain", plain)
    graph.add_edge(START, "ask").add_edge("ask", "plain").compile().invoke(ASK, given(handler))
    experiment = mlflow.get_experiment_by_name("tests")
    question = Question({experiment.experiment_id: "tests"}, by=dimensions("prompt"))
    report = Store(registry if place == "tables" else "http://127.0.0.1:9").report(question)

    found: dict[str, Any] = {values[0]: (sums.calls, sums.cost_usd) for values, sums in report.groups.items()}

    assert found == {
        "support@1": (1, pytest.approx(float(MINI_USD))),
        "support@2": (2, pytest.approx(float(2 * SONNET_USD))),
        "": (1, pytest.approx(float(MINI_USD))),
    }
    assert Path(registry.removeprefix("sqlite:///")).exists()
