"""Spans that LangChain did not make, and models that it did not call, below a governed run."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import mlflow
import openai
import pytest
from fakes import USAGE, Chat, State, graph
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from leaks import Sinks, kept, prose, spelling_in

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MINIMAL = {"artifact_level": "minimal"}
FULL = {"artifact_level": "full"}
PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


def run(policy: dict[str, Any], *nodes: tuple[str, Callable[..., Any]], **handler: Any) -> MlflowCostHandler:
    recorder = MlflowCostHandler(policy, **handler)
    graph(*nodes).invoke({"messages": [("user", "hi")]}, {"callbacks": [recorder]})
    return recorder


@pytest.fixture
def openai_autolog() -> Iterator[None]:
    mlflow.openai.autolog()
    yield
    mlflow.openai.autolog(disable=True)


def ask(server: ProviderServer, prompt: str) -> str:
    with openai.OpenAI(base_url=server.openai_base_url, api_key="none") as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


@pytest.mark.usefixtures("openai_autolog")
@pytest.mark.parametrize(("level", "there"), [("minimal", False), ("standard", True), ("full", True)])
def test_openai_autolog_level(sinks: Sinks, level: str, there: bool) -> None:
    """A call of the bare OpenAI client is a model span under the node's level, with its cost."""
    prompt, answer = prose(), prose()
    with ProviderServer([Reply(answer, Tokens(input=1000, output=500))]) as server:

        def work(_: State) -> State:
            ask(server, prompt)
            return {}

        handler = run({"artifact_level": level}, ("work", work))
    stored = sinks.everything()

    assert [there, there] == [spelling_in(text, stored) is not None for text in (prompt, answer)]
    assert handler.summary().llm_calls == 1


@pytest.mark.usefixtures("openai_autolog")
def test_openai_autolog_in_a_private_node(sinks: Sinks) -> None:
    """What a bare OpenAI client in a private node is told and says travels no further than LangChain's own models' texts."""
    prompt, answer, companion = prose(), prose(), kept()
    with ProviderServer([Reply(answer, Tokens(input=9, output=2))]) as server:

        def quiet(_: State) -> State:
            return {"extra": [ask(server, prompt), prompt]}

        run(PRIVATE, ("before", lambda _: {"extra": companion}), ("quiet", quiet))
    stored = sinks.everything()

    assert spelling_in(answer, stored) is None
    assert spelling_in(prompt, stored) is None
    assert companion.encode() in stored


@pytest.mark.usefixtures("openai_autolog")
def test_on_cost_that_raises_loses_no_foreign_span(sinks: Sinks) -> None:
    """A user's `on_cost` that raises for another library's model call is logged, and the call's span is stored."""

    def on_cost(_: Any) -> None:
        raise LookupError

    marker = kept()
    with ProviderServer([Reply("fine", Tokens(input=9, output=2))]) as server:

        def work(_: State) -> State:
            ask(server, marker)
            return {}

        run({"artifact_level": "standard"}, ("work", work), on_cost=on_cost)

    assert marker.encode() in sinks.everything()


def test_tool_definition_told_in_a_private_node(sinks: Sinks) -> None:
    """A tool's definition is something that the model was told."""
    secret = prose()

    @tool(description=secret)
    def lookup(query: str) -> str:
        return query

    def quiet(_: State) -> State:
        Chat().bind_tools([lookup]).invoke("hi")
        return {"extra": secret}

    run(PRIVATE, ("quiet", quiet))

    assert spelling_in(secret, sinks.everything()) is None


def test_provider_error_in_a_private_node(sinks: Sinks) -> None:
    """What a provider says in an error of a private node's call is in no byte, although the node catches it and passes it on."""
    secret = prose()

    def quiet(_: State) -> State:
        try:
            Chat(reply=ValueError(secret)).invoke("hi")
        except ValueError as error:
            return {"extra": str(error)}
        return {}

    run(PRIVATE, ("quiet", quiet))

    assert spelling_in(secret, sinks.everything()) is None


@pytest.mark.parametrize("piece", [1, 5, 11])
def test_private_text_in_chunks_of_a_generator(sinks: Sinks, piece: int) -> None:
    """A private text that a traced generator yields piece by piece is gone from its chunk events."""
    secret = prose()

    @mlflow.trace
    def pieces(text: str) -> Iterator[str]:
        yield from (text[i : i + piece] for i in range(0, len(text), piece))

    def before(_: State) -> State:
        list(pieces(secret))
        return {}

    def quiet(_: State) -> State:
        Chat().invoke([HumanMessage(secret)])
        return {}

    run(PRIVATE, ("before", before), ("quiet", quiet))
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
    assert trace is not None
    chunks = [e.attributes for s in trace.data.spans for e in s.events if e.name.startswith("mlflow.chunk")]
    said = "".join(str(value)[1:-1] for attributes in chunks for value in attributes.values())

    assert secret[:12] not in said


def test_span_below_an_unsampled_root(sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traced function that is sampled by itself is under the policy although the graph's own trace is not sampled."""
    secret = prose()
    monkeypatch.setenv("MLFLOW_TRACE_SAMPLING_RATIO", "0")
    mlflow.tracing.reset()

    @mlflow.trace(sampling_ratio_override=1.0)
    def helper(text: str) -> str:
        return text

    def work(_: State) -> State:
        helper(secret)
        return {}

    run(MINIMAL, ("work", work))
    monkeypatch.undo()
    stored = sinks.everything()
    mlflow.tracing.reset()

    assert spelling_in(secret, stored) is None


def test_tracing_enabled_inside_a_node(sinks: Sinks) -> None:
    """Tracing that is switched on while a graph runs records under the policy of that graph."""
    secret = prose()

    @mlflow.trace
    def helper(text: str) -> str:
        return text

    def work(_: State) -> State:
        mlflow.tracing.enable()
        helper(secret)
        return {}

    mlflow.tracing.disable()
    run(MINIMAL, ("work", work))

    assert spelling_in(secret, sinks.everything()) is None


def test_warnings_as_errors_cost_no_payload(sinks: Sinks) -> None:
    """With Python's `-W error` a model without a price still leaves its answer, and its span ends."""
    answer = kept()

    class Unknown(Chat):
        def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
            return {"ls_provider": "nobody", "ls_model_name": "nothing-7", "ls_model_type": "chat"}

    def work(_: State) -> State:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            message = AIMessage(answer, response_metadata={"model_name": "nothing-7"}, usage_metadata=USAGE)
            Unknown(reply=message).invoke("hi")
        return {}

    with contextlib.suppress(UserWarning):
        run({"artifact_level": "standard"}, ("work", work))

    assert answer.encode() in sinks.everything()
