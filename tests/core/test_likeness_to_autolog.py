"""At `full`, without redaction, spans hold what MLflow's autolog would have written; disabled, they are autolog's."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import FakeChat, tool_call
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, fixed, forest, use_experiment
from ways import ASK, look_up, retriever, run_way

from langchain_mlflow_cost import MlflowCostHandler, configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from mlflow.entities import Span, Trace

OPEN = {"artifact_level": "full", "redact_secrets": False}


def graph() -> Any:
    model = FakeChat(answers=[tool_call("look_up", word="news"), "done"])
    calling = model.bind_tools([look_up])
    documents = retriever()

    def work(state: MessagesState) -> Any:
        documents.invoke("news")
        asked = calling.invoke([SystemMessage("be brief"), *state["messages"]], temperature=0.5)
        result = look_up.invoke(asked.tool_calls[0])
        history = [HumanMessage("hi"), AIMessage("hello"), asked, result]
        assert isinstance(result, ToolMessage)
        return {"messages": [model.invoke(history)]}

    return StateGraph(MessagesState).add_node("work", work).add_edge(START, "work").compile()


CONFIG: dict[str, Any] = {
    "configurable": {"thread_id": "thread-7"},
    "metadata": {"plan": "gold"},
    "tags": ["nightly"],
}


def both(store: str) -> tuple[Trace, Trace]:
    """The same run recorded by autolog alone, and by a handler."""
    mlflow.langchain.autolog()
    graph().invoke(ASK, CONFIG)
    (theirs,) = all_traces()
    use_experiment("ours")
    graph().invoke(ASK, {**CONFIG, "callbacks": [MlflowCostHandler(OPEN)]})
    (ours,) = all_traces()
    return theirs, ours


def ordered(trace: Trace) -> list[Span]:
    return sorted(trace.data.spans, key=lambda span: (span.start_time_ns, span.name))


@pytest.mark.parametrize("span_type", ["CHAT_MODEL", "TOOL", "RETRIEVER", "CHAIN"])
@pytest.mark.parametrize("channel", ["inputs", "outputs"])
def test_payloads(store: str, span_type: str, channel: str) -> None:
    """Inputs and outputs are what autolog writes, in its shape."""
    theirs, ours = (
        [fixed(getattr(span, channel)) for span in ordered(trace) if span.span_type == span_type]
        for trace in both(store)
    )

    assert theirs == ours


OWN_KEYS = re.compile(r"cost\.|policy\.|mlflow\.(traceRequestId|spanInputs|spanOutputs|llm\.cost)")


def without_tools(attributes: dict[str, Any]) -> dict[str, Any]:
    """Tool definitions stand once, in `mlflow.chat.tools`; autolog has them in the parameters as well."""
    params = attributes.get("invocation_params")
    if isinstance(params, dict):
        attributes = {**attributes, "invocation_params": {k: v for k, v in params.items() if k != "tools"}}
    return attributes


@pytest.mark.parametrize("span_type", ["CHAT_MODEL", "TOOL", "RETRIEVER", "CHAIN"])
def test_attributes(store: str, span_type: str) -> None:
    """All other attributes of autolog's are there with the same value."""
    theirs, ours = (
        [
            without_tools({k: fixed(v) for k, v in span.attributes.items() if not OWN_KEYS.match(k)})
            for span in ordered(trace)
            if span.span_type == span_type
        ]
        for trace in both(store)
    )

    for mine, wanted in zip(ours, theirs, strict=True):
        assert wanted == {key: value for key, value in mine.items() if key in wanted}


@pytest.mark.parametrize("key", ["mlflow.trace.session", "mlflow.trace.tokenUsage"])
def test_trace_metadata(store: str, key: str) -> None:
    """Session and tokens of the trace are autolog's."""
    theirs, ours = (trace.info.trace_metadata.get(key) for trace in both(store))

    assert theirs is not None
    assert theirs == ours


@pytest.mark.parametrize("key", ["mlflow.traceInputs", "mlflow.traceOutputs"])
def test_previews(store: str, key: str) -> None:
    """The trace's previews are autolog's, but for white space, and so a little further to where they are cut."""
    theirs, ours = (fixed(trace.info.trace_metadata[key]).replace(" ", "").removesuffix("...") for trace in both(store))

    assert theirs
    assert ours.startswith(theirs)


def test_trace_name(store: str) -> None:
    """The trace's name is autolog's."""
    theirs, ours = (trace.info.tags.get("mlflow.traceName") for trace in both(store))

    assert theirs == ours


# --- off -----------------------------------------------------------------------------------------------------------

VOLATILE = {"mlflow.trace.sizeBytes", "mlflow.trace.sizeStats"}


def shown(trace: Trace) -> Any:
    """All of a trace but ids, times, sizes and places."""
    spans = [
        (
            span.name,
            span.span_type,
            span.status.status_code,
            {k: fixed(v) for k, v in span.attributes.items() if k != "mlflow.traceRequestId"},
            [(event.name, fixed(dict(event.attributes))) for event in span.events],
        )
        for span in ordered(trace)
    ]
    metadata = {k: fixed(v) for k, v in trace.info.trace_metadata.items() if k not in VOLATILE}
    tags = {k: v for k, v in trace.info.tags.items() if k != "mlflow.artifactLocation"}
    return spans, metadata, tags, fixed(trace.info.request_preview), fixed(trace.info.response_preview)


def test_disabled_leaves_autologs_trace(store: str) -> None:
    """With `enabled: false` the stored trace is autolog's own, to the last attribute."""
    mlflow.langchain.autolog()
    graph().invoke(ASK, CONFIG)
    (theirs,) = all_traces()
    use_experiment("ours")
    graph().invoke(ASK, {**CONFIG, "callbacks": [MlflowCostHandler({"enabled": False})]})
    (ours,) = all_traces()

    assert shown(theirs) == shown(ours)


@pytest.mark.parametrize("way", ["graph-ainvoke", "graph-stream-messages", "agent", "handler-in-a-models-constructor"])
def test_disabled_records_nothing_twice(store: str, way: str) -> None:
    """With `enabled: false` the span tree is autolog's, wherever the handler was put."""
    mlflow.langchain.autolog()
    run_way(way)
    theirs = forest(all_traces())
    use_experiment("ours")
    run_way(way, MlflowCostHandler({"enabled": False}))

    assert theirs == forest(all_traces())


def test_disabled_does_not_switch_autolog_on(store: str) -> None:
    """With `enabled: false` nothing is traced that was not traced before."""
    graph().invoke(ASK, {"callbacks": [MlflowCostHandler({"enabled": False})]})

    assert all_traces() == []


def test_disabled_summary_is_empty(store: str) -> None:
    """With `enabled: false` there is nothing to sum up."""
    handler = MlflowCostHandler({"enabled": False})
    graph().invoke(ASK, {"callbacks": [handler]})

    assert handler.summary().llm_calls == 0


def test_disabled_configure_changes_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure` with `enabled: false` leaves store, experiment, environment and autolog alone."""
    import os

    from mlflow.tracking import fluent
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    before = dict(os.environ), mlflow.get_tracking_uri(), fluent._get_experiment_id()
    configure({"enabled": False, "tracking_uri": "sqlite:///elsewhere.db", "experiment_name": "elsewhere"})

    assert before == (dict(os.environ), mlflow.get_tracking_uri(), fluent._get_experiment_id())
    assert "langchain" not in AUTOLOGGING_INTEGRATIONS


def test_ungoverned_traces_are_left_alone(store: str) -> None:
    """A live handler changes nothing in the trace of an invocation that it was not passed to."""
    mlflow.langchain.autolog()
    graph().invoke(ASK, CONFIG)
    (theirs,) = all_traces()
    use_experiment("ours")
    handler = MlflowCostHandler({"artifact_level": "minimal"})
    graph().invoke(ASK, CONFIG)
    (ours,) = all_traces()

    assert shown(theirs) == shown(ours)
    assert handler.summary().llm_calls == 0


def calls_of_the_patch(invoke: Callable[[], Any]) -> int:
    """How often autolog's patch of callback managers runs meanwhile, in this thread."""
    called = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal called
        called += event == "call" and frame.f_code.co_name == "_patched_callback_manager_init"

    sys.setprofile(note)
    try:
        invoke()
    finally:
        sys.setprofile(None)
    return called


def test_governed_runs_are_spared_autologs_patch(store: str) -> None:
    """Once a handler is in use, its invocations make no callback manager through the patch but the first; others do."""
    mlflow.langchain.autolog()
    handler, compiled = MlflowCostHandler(OPEN), graph()
    compiled.invoke(ASK, {"callbacks": [handler]})

    assert calls_of_the_patch(lambda: compiled.invoke(ASK, {"callbacks": [handler]})) <= 1
    assert calls_of_the_patch(lambda: compiled.invoke(ASK)) > 10


def test_beside_governed_runs_autolog_records_the_others(store: str) -> None:
    """What the handler spares its own runs is not taken from those that it does not govern."""
    mlflow.langchain.autolog()
    graph().invoke(ASK)
    (alone,) = all_traces()
    use_experiment("beside")
    handler, compiled = MlflowCostHandler(OPEN), graph()
    compiled.invoke(ASK, {"callbacks": [handler]})
    compiled.invoke(ASK)

    assert forest(all_traces()) == forest([alone, alone])
