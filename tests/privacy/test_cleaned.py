"""What stands beside payloads: assessments, trace info, names, numbers, and what looks like structure and is not."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from heard import identifier
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from leaks import email, kept, letters, prose, spelling_in
from mlflow.entities import AssessmentError, AssessmentSource
from mlflow.tracing.provider import get_bridged_tracer_provider

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from leaks import Sinks

OPEN = {"artifact_level": "full"}
PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
PERSONAL = {"artifact_level": "full", "redact_pii": True}
MINIMAL = {"artifact_level": "minimal"}


def _feedback(**fields: Any) -> Callable[[], Any]:
    def log() -> None:
        mlflow.log_feedback(trace_id=mlflow.get_active_trace_id(), name="rating", **{"value": 1, **fields})

    return log


def _on_the_span(text: str) -> None:
    active = mlflow.get_current_active_span()
    mlflow.log_feedback(trace_id=active.trace_id, span_id=active.span_id, name="rating", value=1, rationale=text)


def _set(key: str, value: Any) -> None:
    mlflow.get_current_active_span().set_attribute(key, value)


def _bridged(**attributes: Any) -> None:
    with get_bridged_tracer_provider().get_tracer("library").start_as_current_span("call") as span:
        for key, value in attributes.items():
            span.set_attribute(key.replace("__", "."), value)


def _own_span(key: str, value: Any) -> None:
    with mlflow.start_span("own") as span:
        span.set_attribute(key, value)


ASSESSMENTS: dict[str, Callable[[str], Any]] = {
    "feedback: value": lambda text: _feedback(value=text)(),
    "feedback: value in a mapping": lambda text: _feedback(value={"why": text})(),
    "feedback: value in a list": lambda text: _feedback(value=["x", text])(),
    "feedback: name": lambda text: mlflow.log_feedback(trace_id=mlflow.get_active_trace_id(), name=text, value=1),
    "feedback: rationale": lambda text: _feedback(rationale=text)(),
    "feedback: metadata": lambda text: _feedback(metadata={"note": text})(),
    "feedback: metadata key": lambda text: _feedback(metadata={text: "x"})(),
    "feedback: source": lambda text: _feedback(source=AssessmentSource("HUMAN", text))(),
    "feedback: error": lambda text: _feedback(value=None, error=AssessmentError("E", text))(),
    "feedback: error code": lambda text: _feedback(value=None, error=AssessmentError(text, "x"))(),
    "feedback: stack trace": lambda text: _feedback(value=None, error=AssessmentError("E", "x", stack_trace=text))(),
    "feedback: exception": lambda text: _feedback(value=None, error=ValueError(text))(),
    "feedback: on a span": _on_the_span,
    "expectation": lambda text: mlflow.log_expectation(
        trace_id=mlflow.get_active_trace_id(), name="answer", value={"expected": [text]}, metadata={"note": text}
    ),
}
STRUCTURES: dict[str, Callable[[str], Any]] = {
    "model's name": lambda text: Chat(reply=AIMessage("x", response_metadata={"model_name": text})).invoke("hi"),
    "tier": lambda text: Chat(
        reply=AIMessage("x", response_metadata={"service_tier": text, "region": text, "model_provider": text})
    ).invoke("hi"),
    "cost set by the user": lambda text: _own_span("cost.note", text),
    "policy set by the user": lambda text: _own_span("policy.note", text),
    "span type": lambda text: _own_span("mlflow.spanType", text),
    "log level": lambda text: _own_span("mlflow.spanLogLevel", text),
    "start time": lambda text: _own_span("mlflow.spanStartTimeNs", text),
    "message format": lambda text: _own_span("mlflow.message.format", text),
    "function's name": lambda text: _own_span("mlflow.spanFunctionName", text),
    "model, by hand": lambda text: _own_span("mlflow.llm.model", text),
    "provider, by hand": lambda text: _own_span("mlflow.llm.provider", text),
    "tokens, by hand": lambda text: _own_span("mlflow.chat.tokenUsage", {"input_tokens": text}),
    "cost, by hand": lambda text: _own_span("mlflow.llm.cost", {"total_cost": text}),
    "agent's name": lambda text: _bridged(gen_ai__agent__name=text),
    "tool's name": lambda text: _bridged(gen_ai__tool__name=text),
    "response model": lambda text: _bridged(gen_ai__response__model=text),
    "GenAI tokens": lambda text: _bridged(gen_ai__usage__input_tokens=text),
    "error type": lambda text: _bridged(error__type=text),
    "commit": lambda text: mlflow.update_current_trace(metadata={"mlflow.source.git.commit": text}),
    "model's id": lambda text: mlflow.update_current_trace(metadata={"mlflow.modelId": text}),
    "source run": lambda text: mlflow.update_current_trace(metadata={"mlflow.sourceRun": text}),
    "source type": lambda text: mlflow.update_current_trace(metadata={"mlflow.source.type": text}),
    "artifact location": lambda text: mlflow.update_current_trace(tags={"mlflow.eval.requestId": text}),
    "schema's version": lambda text: mlflow.update_current_trace(metadata={"mlflow.trace.sizeBytes": text}),
    "stopping budget": lambda text: mlflow.update_current_trace(metadata={"cost.stopped_by": text}),
    "trace's name": lambda text: mlflow.update_current_trace(tags={"mlflow.traceName": text}),
}
WAYS = ASSESSMENTS | STRUCTURES


def run(work: Callable[[str], Any], text: str, policy: Any, *, node: str = "work", told: str | None = None) -> None:
    def working(_: Any) -> Any:
        work(text)
        return {}

    def quiet(_: Any) -> Any:
        Chat().invoke(text if told is None else told)
        return {}

    graph((node, working), ("quiet", quiet)).invoke(
        {"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler(policy)]}
    )


@pytest.mark.filterwarnings("ignore:no price is known for model")
@pytest.mark.parametrize("name", WAYS)
def test_private(sinks: Sinks, name: str) -> None:
    """What the private node's model was told is in no byte, whatever looks like structure there."""
    text = prose()
    run(WAYS[name], text, PRIVATE)

    assert spelling_in(text, sinks.everything()) is None


@pytest.mark.filterwarnings("ignore:no price is known for model")
@pytest.mark.parametrize("name", WAYS)
def test_redacted(sinks: Sinks, name: str) -> None:
    """An address is redacted there."""
    text = email()
    run(WAYS[name], text, PERSONAL, told="hi")

    assert spelling_in(text, sinks.everything()) is None


@pytest.mark.filterwarnings("ignore:no price is known for model")
@pytest.mark.nightly
def test_control(sinks: Sinks) -> None:
    """Without a policy that hides it, each of these texts is stored."""
    missing = []
    for name, work in WAYS.items():
        # What is no name is taken for none: of a response, only what could be a model, tier or region is written.
        text = identifier() if name in ("model's name", "tier") else prose()
        run(work, text, OPEN, told="hi")
        if spelling_in(text, sinks.everything()) is None:
            missing.append(name)

    assert missing == []


@pytest.mark.parametrize("name", [*ASSESSMENTS, "GenAI tokens", "tokens, by hand", "cost, by hand"])
def test_minimal(sinks: Sinks, name: str) -> None:
    """At `minimal` assessments are gone, and texts where counts belong."""
    text = prose()
    run(WAYS[name], text, MINIMAL, told="hi")

    assert spelling_in(text, sinks.everything()) is None


@pytest.mark.parametrize("policy", ["private", "personal", "open"])
def test_node_called_by_a_text(sinks: Sinks, policy: str) -> None:
    """A node whose name holds a text shows neither in its span's name nor in `policy.node`."""
    text = email() if policy == "personal" else f"{letters(16)} {letters(8)} {letters(8)}"
    run(lambda _: None, text, {"private": PRIVATE, "personal": PERSONAL, "open": OPEN}[policy], node=f"ask {text}")
    found = spelling_in(text, sinks.everything())

    assert (found is None) == (policy != "open")


def test_names_of_nodes_and_models_stay(sinks: Sinks) -> None:
    """Names of nodes, tools and priced models are the graph's own, also where a private prompt holds them."""
    run(
        lambda _: Chat().invoke("hi"),
        "x",
        PRIVATE,
        node="billing_specialist",
        told="ask billing_specialist at gpt-4o-mini",
    )
    stored = sinks.everything()

    assert b'"billing_specialist"' in stored
    assert b"gpt-4o-mini" in stored


@pytest.mark.parametrize("policy", ["private", "open"])
def test_model_column(sinks: Sinks, policy: str) -> None:
    """The store's column with the names of models holds no private text."""
    text = identifier()
    run(WAYS["model's name"], text, PRIVATE if policy == "private" else OPEN)
    sinks.flush()
    with sqlite3.connect(sinks.folder / "mlflow.db") as connection:
        names = {row[0] for row in connection.execute("SELECT model_name FROM spans")}
    connection.close()
    sinks.everything()

    assert (text in names) == (policy == "open")


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["redact", "mask", "hash", "drop"])
def test_two_sessions_stay_two(sinks: Sinks, strategy: str) -> None:
    """Ids of sessions and users that are addresses become keyed tokens, one for each address."""
    policy = {"redact_pii": True, "redaction": {"strategy": strategy, "hash_key": "k"}}
    first, second = email(), email()
    for who in (first, second, first):
        graph(("work", lambda _: {})).invoke(
            {"messages": []},
            {
                "callbacks": [MlflowCostHandler(policy)],
                "configurable": {"thread_id": who},
                "metadata": {"user_id": f"whatsapp:{who}"},
            },
        )
    sinks.flush()
    metadata = [trace.info.trace_metadata for trace in mlflow.search_traces(return_type="list")]
    sessions, users = ([each[f"mlflow.trace.{key}"] for each in metadata] for key in ("session", "user"))
    stored = sinks.everything()

    assert [spelling_in(who, stored) for who in (first, second)] == [None, None]
    assert [len(sessions), len(set(sessions))] == [3, 2]
    assert [len(users), len(set(users))] == [3, 2]
    assert all(session.startswith("[EMAIL_ADDRESS:") for session in sessions)


def test_tokens_of_this_process_are_told(caplog: pytest.LogCaptureFixture, sinks: Sinks) -> None:
    """Without `hash_key` one warning says that such tokens differ between processes."""
    from langchain_mlflow_cost.tracing import span_state

    span_state._ONCE._told.clear()
    graph(("work", lambda _: {})).invoke(
        {"messages": []},
        {"callbacks": [MlflowCostHandler({"redact_pii": True})], "configurable": {"thread_id": email()}},
    )
    sinks.everything()

    assert "redaction.hash_key" in caplog.text


def test_own_words_quote_no_address(sinks: Sinks) -> None:
    """A warning that names a model shows no address that its name holds."""
    text = email()

    class Tuned(Chat):
        def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
            return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "nobody", "ls_model_name": text}

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"model": text}

    model = Tuned(reply=AIMessage("x", response_metadata={"model_name": text}))
    handler = MlflowCostHandler({"redact_pii": True})
    with pytest.warns(UserWarning, match="no price is known") as told:
        graph(("work", lambda _: model.invoke("hi") and {})).invoke({"messages": []}, {"callbacks": [handler]})
    stored = sinks.everything()

    assert [str(each.message) for each in told if text in str(each.message)] == []
    assert spelling_in(text, stored) is None


# --- what is told ---------------------------------------------------------------------------------------------------


def test_level_that_holds(sinks: Sinks) -> None:
    """A private node's span shows `minimal`, whatever level the policy names."""
    run(lambda _: None, "x", PRIVATE)
    sinks.flush()
    traces = mlflow.search_traces(return_type="list")
    spans = {span.name: span.attributes for span in traces[0].data.spans}
    sinks.everything()

    assert spans["quiet"]["policy.artifact_level"] == "minimal"
    assert spans["work"]["policy.artifact_level"] == "full"


def test_keys_reach_attributes(sinks: Sinks) -> None:
    """`redaction.keys` hide an attribute by its name: definitions of tools alone."""
    text, other = prose(), kept()
    tool = {"type": "function", "function": {"name": "lookup", "description": text, "parameters": {}}}

    def work(_: str) -> None:
        Chat().bind(tools=[tool]).invoke(other)
        _own_span("internal.note", text)

    policy = {"artifact_level": "full", "redaction": {"keys": ["mlflow.chat.tools", "internal.*"]}}
    run(work, text, policy, told="hi")
    stored = sinks.everything()

    assert spelling_in(text, stored) is None
    assert other.encode() in stored


def test_retry_results(sinks: Sinks) -> None:
    """What a retried call gave in the end is told at `full`."""
    from uuid import uuid4

    from tenacity import RetryCallState, Retrying

    text = prose()
    handlers: list[MlflowCostHandler] = []

    def work(_: str) -> None:
        from langchain_core.runnables import RunnableConfig, RunnableLambda

        def tell(_: Any, config: RunnableConfig) -> None:
            manager: Any = config["callbacks"]
            state = RetryCallState(Retrying(), None, (), {})
            state.set_result(text)
            handlers[0].on_retry(state, run_id=manager.parent_run_id or uuid4())

        RunnableLambda(tell).invoke("x")

    found = {}
    for level in ("standard", "full"):
        handlers[:] = [MlflowCostHandler({"artifact_level": level})]
        graph(("work", lambda _: work("x"))).invoke({"messages": []}, {"callbacks": handlers})
        found[level] = spelling_in(text, sinks.everything()) is not None

    assert found == {"standard": False, "full": True}


# --- allow_keys -----------------------------------------------------------------------------------------------------


def test_allow_keys(sinks: Sinks) -> None:
    """Only values of listed fields are kept, at any depth; names, roles and counts stay."""
    secret, other = prose(), kept()

    def work(_: Any) -> Any:
        Chat(
            reply=AIMessage(secret, tool_calls=[{"name": "lookup", "args": {"city": other, "who": secret}, "id": "1"}])
        ).invoke(secret)
        _own_span("note", secret)
        _own_span("city", other)
        mlflow.update_current_trace(tags={"note": secret, "city": other}, request_preview=secret)
        raise ValueError(secret)

    policy = {"artifact_level": "full", "redaction": {"allow_keys": ["city"]}}
    with pytest.raises(ValueError, match="said"):
        graph(("work", work)).invoke(
            {"messages": [("user", secret)], "extra": {"deep": [{"city": [{"x": other}], "y": secret}]}},
            {"callbacks": [MlflowCostHandler(policy)], "metadata": {"who": secret}, "tags": [secret]},
        )
    traces = mlflow.search_traces(return_type="list")
    spans = traces[0].data.spans
    stored = sinks.everything()

    assert spelling_in(secret, stored) is None
    assert stored.count(other.encode()) >= 4
    assert {span.name for span in spans} >= {"work", "Chat"}
    assert any(span.attributes.get("cost.input_tokens") == 1000 for span in spans)
    assert b'"role":"user"' in stored.replace(b'\\"', b'"').replace(b" ", b"")


def test_allow_keys_with_content(sinks: Sinks) -> None:
    """`content` in the list keeps what messages say."""
    text = kept()
    policy = {"artifact_level": "full", "redaction": {"allow_keys": ["content"]}}
    graph(("work", lambda _: Chat().invoke(text) and {})).invoke(
        {"messages": []}, {"callbacks": [MlflowCostHandler(policy)]}
    )

    assert text.encode() in sinks.everything()


class StreamsACall(Chat):
    """Says an account number to the last character, then calls a tool."""

    number: str

    def _stream(self, messages: list[Any], *_: Any, run_manager: Any = None, **__: Any) -> Any:
        for chunk in (
            AIMessageChunk(content=f"it is {self.number}"),
            AIMessageChunk(content="", tool_call_chunks=[{"name": "Route", "args": "{}", "id": "1", "index": 0}]),
        ):
            made = ChatGenerationChunk(message=chunk)
            if run_manager:
                run_manager.on_llm_new_token(made.text, chunk=made)
            yield made


def test_a_value_before_a_tools_name_is_found_in_a_stream(sinks: Sinks) -> None:
    """The text of a stream's event keeps apart what was said and which tool is called: together they are one word."""
    number = "DE89370400440532013000"

    def work(state: Any) -> Any:
        list(StreamsACall(number=number).stream("hi"))
        return {}

    graph(("work", work)).invoke({"messages": [("user", "hi")]}, {"callbacks": [MlflowCostHandler(PERSONAL)]})

    assert number.encode() not in sinks.everything()
