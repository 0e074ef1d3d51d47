"""What of a span stays at which level: the table of levels in the contract, read back from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, FakeStream
from langchain_core.callbacks import dispatch_custom_event
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import named, only_trace
from ways import ASK, look_up, retriever

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from mlflow.entities import Span, Trace

ROOT, NODE, MODEL, TOOL, RETRIEVER, OWN = "LangGraph", "work", "FakeStream", "look_up", "VectorStoreRetriever", "own"


@mlflow.trace(name=OWN)
def own_function(word: str) -> str:
    return word + "!"


def graph() -> Any:
    model = FakeStream(answers=["three short words"])
    documents = retriever()

    def work(state: MessagesState) -> Any:
        own_function("a word")
        documents.invoke("news")
        look_up.invoke({"word": "news"})
        dispatch_custom_event("progress", {"share": "a half"})
        return {"messages": ["".join(str(part.content) for part in model.stream(state["messages"]))]}

    return StateGraph(MessagesState).add_node(NODE, work).add_edge(START, NODE).compile()


def record(policy: dict[str, Any]) -> Trace:
    graph().invoke(ASK, {"callbacks": [MlflowCostHandler(policy)]})
    return only_trace()


def has_payloads(span: Span) -> tuple[bool, bool]:
    return span.inputs is not None, span.outputs is not None


NONE, BOTH = (False, False), (True, True)
KEPT = {
    "minimal": {},
    "standard": {ROOT: BOTH, MODEL: BOTH, TOOL: BOTH, RETRIEVER: BOTH, OWN: BOTH},
    "full": {ROOT: BOTH, NODE: BOTH, MODEL: BOTH, TOOL: BOTH, RETRIEVER: BOTH, OWN: BOTH},
}


@pytest.mark.parametrize("span", [ROOT, NODE, MODEL, TOOL, RETRIEVER, OWN])
@pytest.mark.parametrize("level", list(KEPT))
def test_payloads(store: str, level: str, span: str) -> None:
    """A level keeps the inputs and outputs of its kinds of span, and of no other."""
    trace = record({"artifact_level": level})

    assert KEPT[level].get(span, NONE) == has_payloads(named(trace, span))


def test_without_artifacts_is_minimal(store: str) -> None:
    """`log_artifacts: false` keeps no payload."""
    trace = record({"log_artifacts": False})

    assert {NONE} == {has_payloads(span) for span in trace.data.spans}


def test_without_artifacts_in_a_node(store: str) -> None:
    """`log_artifacts: false` in a node's entry keeps none of its payloads, whatever the level elsewhere."""
    trace = record({"artifact_level": "full", "nodes": {NODE: {"log_artifacts": False}}})

    assert {ROOT} == {span.name for span in trace.data.spans if span.inputs is not None or span.outputs is not None}


def test_standard_is_the_default(store: str) -> None:
    """Without a policy the level is `standard`."""
    graph().invoke(ASK, {"callbacks": [MlflowCostHandler()]})

    assert {"standard"} == {span.get_attribute("policy.artifact_level") for span in only_trace().data.spans}


@pytest.mark.parametrize("level", list(KEPT))
def test_structure_stays(store: str, level: str) -> None:
    """At every level a span keeps name, type, timing and status."""
    trace = record({"artifact_level": level})

    assert {(ROOT, "CHAIN"), (NODE, "CHAIN"), (MODEL, "CHAT_MODEL"), (TOOL, "TOOL"), (RETRIEVER, "RETRIEVER")} <= {
        (span.name, span.span_type) for span in trace.data.spans
    }
    assert all(span.end_time_ns >= span.start_time_ns > 0 for span in trace.data.spans)
    assert {"OK"} == {span.status.status_code.value for span in trace.data.spans}


@pytest.mark.parametrize("level", list(KEPT))
def test_figures_stay(store: str, level: str) -> None:
    """At every level a model span keeps tokens, model, provider and cost."""
    span = named(record({"artifact_level": level}), MODEL)

    assert {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500} == span.get_attribute(
        "mlflow.chat.tokenUsage"
    )
    assert span.get_attribute("mlflow.llm.model") == "gpt-4o-mini"
    assert span.get_attribute("mlflow.llm.provider") == "openai"
    assert span.get_attribute("mlflow.llm.cost") == pytest.approx(
        {"input_cost": 0.00015, "output_cost": 0.0003, "total_cost": 0.00045}, rel=1e-9
    )
    assert span.get_attribute("cost.price_source")


@pytest.mark.parametrize("level", list(KEPT))
def test_no_text_at_minimal(store: str, level: str) -> None:
    """The words of prompt and answer are in the trace unless the level is `minimal`."""
    trace = record({"artifact_level": level})
    everything = trace.to_json() + str(trace.info.request_preview) + str(trace.info.response_preview)

    assert (level != "minimal") is ("what is new?" in everything)
    assert (level != "minimal") is ("three short words" in everything)


@pytest.mark.parametrize(("level", "kept"), [("minimal", False), ("standard", False), ("full", True)])
def test_stream_events(store: str, level: str, kept: bool) -> None:
    """Only `full` keeps what a stream's tokens said as events."""
    span = named(record({"artifact_level": level}), MODEL)
    words = [str(value) for event in span.events for value in event.attributes.values()]

    assert kept is ("short" in " ".join(words))


class Broken(RuntimeError):  # noqa: N818 - it is not the application that is tested
    pass


def broken_graph() -> Any:
    def work(state: MessagesState) -> Any:
        raise Broken("the reason why")

    return StateGraph(MessagesState).add_node(NODE, work).add_edge(START, NODE).compile()


@pytest.mark.parametrize(("level", "kept"), [("minimal", False), ("standard", True), ("full", True)])
@pytest.mark.parametrize("span", [ROOT, NODE])
def test_exceptions(store: str, level: str, span: str, kept: bool) -> None:
    """An exception's type stays at every level; its message and stack trace not at `minimal`."""
    with pytest.raises(Broken):
        broken_graph().invoke(ASK, {"callbacks": [MlflowCostHandler({"artifact_level": level})]})
    failed = named(only_trace(), span)
    (event,) = failed.events

    assert event.attributes["exception.type"] == "Broken"
    assert kept is ("the reason why" in str(event.attributes.get("exception.message")))
    assert kept is ("exception.stacktrace" in event.attributes)
    assert kept is ("the reason why" in (failed.status.description or ""))


@pytest.mark.parametrize("level", ["minimal", "standard", "full"])
def test_dropped_channels_are_named(store: str, level: str) -> None:
    """A span tells which channels its level dropped."""
    dropped = named(record({"artifact_level": level}), NODE).get_attribute("policy.dropped") or {}

    wanted = {} if level == "full" else {"inputs": "artifact_level", "outputs": "artifact_level"}
    assert wanted == {channel: dropped[channel] for channel in ("inputs", "outputs") if channel in dropped}


# --- overrides -----------------------------------------------------------------------------------------------------


def nested() -> Any:
    """The paths `lead`, `team`, `team/researcher`, `team/desk`, `team/desk/writer`, and an odd name with a slash."""
    model = FakeChat()

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    desk = StateGraph(MessagesState).add_node("writer", node).add_edge(START, "writer").compile()
    team = (
        StateGraph(MessagesState)
        .add_node("researcher", node)
        .add_node("desk", desk)
        .add_edge(START, "researcher")
        .add_edge("researcher", "desk")
        .compile()
    )
    return (
        StateGraph(MessagesState)
        .add_node("lead", node)
        .add_node("team", team)
        .add_node("in/out", node)
        .add_edge(START, "lead")
        .add_edge("lead", "team")
        .add_edge("team", "in/out")
        .compile()
    )


LEAD, RESEARCHER, WRITER, SLASH = "lead", "team/researcher", "team/desk/writer", "in\\/out"
OVERRIDES: dict[str, tuple[Any, set[str]]] = {
    "name": ({"lead": "M"}, {LEAD}),
    "path": ({"team/researcher": "M"}, {RESEARCHER}),
    "everything inside": ({"team": "M"}, {RESEARCHER, WRITER}),
    "deep path": ({"team/desk/writer": "M"}, {WRITER}),
    "one star": ({"team/*": "M"}, {RESEARCHER, WRITER}),
    "star in a name": ({"team/re*": "M"}, {RESEARCHER}),
    "two stars": ({"**/writer": "M"}, {WRITER}),
    "all": ({"**": "M"}, {LEAD, RESEARCHER, WRITER, SLASH}),
    "slash in a name": ({"in\\/out": "M"}, {SLASH}),
    "list by id": ([{"id": "lead", "artifact_level": "minimal"}], {LEAD}),
    "list by name": ([{"name": "team/researcher", "artifact_level": "minimal"}], {RESEARCHER}),
    "none": ({"other": "M"}, set()),
}


@pytest.mark.parametrize("case", list(OVERRIDES))
def test_overrides(store: str, case: str) -> None:
    """A node's entry governs the calls in that node and in all nodes inside it."""
    nodes, minimal = OVERRIDES[case]
    if isinstance(nodes, dict):
        nodes = {pattern: {"artifact_level": "minimal"} for pattern in nodes}
    nested().invoke(ASK, {"callbacks": [MlflowCostHandler({"artifact_level": "full", "nodes": nodes})]})
    models = [span for span in only_trace().data.spans if span.span_type == "CHAT_MODEL"]

    assert {LEAD, RESEARCHER, WRITER, SLASH} == {span.get_attribute("policy.node") for span in models}
    assert minimal == {span.get_attribute("policy.node") for span in models if span.inputs is None}
    assert minimal == {
        span.get_attribute("policy.node") for span in models if span.get_attribute("policy.artifact_level") == "minimal"
    }


def test_most_specific_entry_wins_key_by_key(store: str) -> None:
    """An entry for one node takes from the wider one what it leaves out."""
    nodes = {"team/*": {"artifact_level": "minimal", "redact_pii": True}, "team/researcher": {"artifact_level": "full"}}
    ask = {"messages": [("user", "write to jane.doe@example.com please")]}
    nested().invoke(ask, {"callbacks": [MlflowCostHandler({"nodes": nodes})]})
    (researcher,) = [
        span
        for span in only_trace().data.spans
        if span.span_type == "CHAT_MODEL" and span.get_attribute("policy.node") == RESEARCHER
    ]

    assert researcher.get_attribute("policy.artifact_level") == "full"
    assert "write to [EMAIL_ADDRESS] please" in str(researcher.inputs)


def test_private_node(store: str) -> None:
    """What a silenced node's model said is nowhere, the state that carries it on included; its figures stay."""
    said = "The penguin's secret recipe needs forty herrings."

    def quiet(state: MessagesState) -> Any:
        return {"messages": [FakeChat(answers=[said]).invoke("quiet instruction number one of many")]}

    def loud(state: MessagesState) -> Any:
        return {"messages": [FakeChat(answers=["openly said"]).invoke(state["messages"])]}

    app: Any = (
        StateGraph(MessagesState)
        .add_node("quiet", quiet)
        .add_node("loud", loud)
        .add_edge(START, "quiet")
        .add_edge("quiet", "loud")
        .compile()
    )
    policy = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
    app.invoke(ASK, {"callbacks": [MlflowCostHandler(policy)]})
    trace = only_trace()
    everything = trace.to_json() + str(trace.info)

    assert "herrings" not in everything
    assert "quiet instruction" not in everything
    assert "openly said" in everything
    assert {"quiet": False, "loud": True} == {
        span.get_attribute("policy.node"): span.get_attribute("policy.log_prompts")
        for span in trace.data.spans
        if span.span_type == "CHAT_MODEL"
    }
    assert [0.00045, 0.00045] == [
        span.get_attribute("cost.total_usd") for span in trace.data.spans if span.span_type == "CHAT_MODEL"
    ]
