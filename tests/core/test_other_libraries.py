"""Calls that other libraries record below a governed run are priced and governed too, and none twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI
from pydantic import SecretStr
from stored_traces import all_traces, leaves_usd, mlflow_usd, model_spans, only_trace, root_of
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary, trace_decorator
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = Reply("the answer", Tokens(input=1000, output=500))
USD = 0.00045
"""1,000 tokens in at 0.15 and 500 out at 0.60 USD per million: openai.com/api/pricing, gpt-4o-mini."""


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(lambda _: ANSWER) as started:
        yield started


@pytest.fixture
def openai_autolog(store: str) -> Iterator[None]:
    import mlflow.openai
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS
    from mlflow.utils.autologging_utils.safety import revert_patches

    mlflow.openai.autolog()
    yield
    revert_patches("openai")
    AUTOLOGGING_INTEGRATIONS.pop("openai", None)


def ask_by_sdk(server: ProviderServer, content: str = "what is new?", **options: Any) -> Any:
    with OpenAI(base_url=server.openai_base_url, api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": content}], **options
        )
        return list(answer) if options.get("stream") else answer


async def ask_by_sdk_async(server: ProviderServer) -> None:
    async with AsyncOpenAI(base_url=server.openai_base_url, api_key="none", max_retries=0) as client:
        await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])


def ask_by_langchain(server: ProviderServer, **options: Any) -> Any:
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=server.openai_base_url, api_key=SecretStr("none"), max_retries=0, **options
    )


def streamed_with_usage(server: ProviderServer) -> Any:
    return ask_by_sdk(server, stream=True, stream_options={"include_usage": True})


CALLS = {
    "sdk": ask_by_sdk,
    "sdk async": lambda server: asyncio.run(ask_by_sdk_async(server)),
    "sdk stream": streamed_with_usage,
    "langchain": lambda server: ask_by_langchain(server).invoke("hi"),
    "langchain async": lambda server: asyncio.run(ask_by_langchain(server).ainvoke("hi")),
    "langchain stream": lambda server: list(ask_by_langchain(server, stream_usage=True).stream("hi")),
}


@pytest.mark.parametrize("case", list(CALLS))
def test_counted_once(openai_autolog: None, server: ProviderServer, case: str) -> None:
    """A call in a node under `mlflow.openai.autolog` costs what it costs, once, in each sum."""
    handler = MlflowCostHandler()
    one_node(lambda _: CALLS[case](server)).invoke(ASK, given(handler))
    trace = only_trace()
    live, stored = handler.summary(), cost_summary(trace.info.trace_id)

    assert (1, 1, 1) == (len(server.requests), live.llm_calls, stored.llm_calls)
    assert [USD] * 5 == pytest.approx(
        [
            live.total_cost_usd,
            stored.total_cost_usd,
            leaves_usd(trace),
            mlflow_usd(trace),
            root_of(trace).get_attribute("cost.total_usd"),
        ],
        rel=1e-9,
    )
    assert ["node"] == list(live.node_breakdown)


@pytest.mark.parametrize("case", ["sdk", "langchain"])
def test_tokens_are_counted_once(openai_autolog: None, server: ProviderServer, case: str) -> None:
    """MLflow's own token sum of the trace is that of one call."""
    import json

    one_node(lambda _: CALLS[case](server)).invoke(ASK, given(MlflowCostHandler()))
    usage = json.loads(only_trace().info.trace_metadata["mlflow.trace.tokenUsage"])

    assert (1000, 500) == (usage["input_tokens"], usage["output_tokens"])


def test_span_of_the_sdk_is_governed(openai_autolog: None, server: ProviderServer) -> None:
    """The policy holds for what the other library writes."""
    handler = MlflowCostHandler({"artifact_level": "full", "redact_pii": True})
    one_node(lambda _: ask_by_sdk(server, "my mail is jane.doe@example.com")).invoke(ASK, given(handler))
    (span,) = model_spans(only_trace())

    assert "my mail is [EMAIL_ADDRESS]" in str(span.inputs)
    assert "jane.doe" not in only_trace().to_json()
    assert span.get_attribute("policy.node") == "node"


def test_private_node_of_the_sdk(openai_autolog: None, server: ProviderServer) -> None:
    """In a silenced node, what the SDK was told and said is nowhere."""
    handler = MlflowCostHandler({"artifact_level": "full", "log_prompts": False})
    one_node(lambda _: ask_by_sdk(server, "the penguin wants forty herrings")).invoke(ASK, given(handler))

    assert "herrings" not in only_trace().to_json()
    assert handler.summary().llm_calls == 1


def test_on_cost_hears_of_it(openai_autolog: None, server: ProviderServer) -> None:
    """`on_cost` is told of calls of other libraries too, once each."""
    told: list[Any] = []
    one_node(lambda _: [ask_by_sdk(server), ask_by_langchain(server).invoke("hi")]).invoke(
        ASK, given(MlflowCostHandler(on_cost=told.append))
    )

    assert [("node", USD), ("node", USD)] == [(call.node, float(call.input_usd + call.output_usd)) for call in told]


def test_budget_counts_it(openai_autolog: None, server: ProviderServer) -> None:
    """What the SDK spent is not left for LangChain's next call."""
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0004}})
    with pytest.raises(BudgetExceededError):
        one_node(lambda _: [ask_by_sdk(server), ask_by_langchain(server).invoke("hi")]).invoke(ASK, given(handler))

    assert len(server.requests) == 1


def test_outside_a_governed_run(openai_autolog: None, server: ProviderServer) -> None:
    """A call that no handler governs is recorded as MLflow does by itself, without a word of ours."""
    MlflowCostHandler()
    ask_by_sdk(server)
    (span,) = only_trace().data.spans

    assert not [key for key in span.attributes if key.startswith(("policy.", "cost."))]


# --- the application's own spans -----------------------------------------------------------------------------------


@pytest.mark.parametrize("decorate", [mlflow.trace, trace_decorator], ids=["mlflow.trace", "trace_decorator"])
def test_own_function_around_a_call(store: str, server: ProviderServer, decorate: Any) -> None:
    """A call inside the application's own span is counted once, and the span is part of the trace."""
    handler = MlflowCostHandler()

    @decorate(name="own")
    def own() -> Any:
        return ask_by_langchain(server).invoke("hi")

    one_node(lambda _: own()).invoke(ASK, given(handler))
    trace = only_trace()
    spans = {span.name: span for span in trace.data.spans}

    assert spans["ChatOpenAI"].parent_id == spans["own"].span_id
    assert spans["own"].parent_id == spans["node"].span_id
    assert handler.summary().total_cost_usd == pytest.approx(USD, rel=1e-9)


def test_own_span_around_the_graph(store: str, server: ProviderServer) -> None:
    """A graph inside the application's own span is part of its trace, which is governed too."""
    handler = MlflowCostHandler({"redact_pii": True})
    with mlflow.start_span("request") as span:
        span.set_inputs({"mail": "jane.doe@example.com"})
        one_node(lambda _: ask_by_langchain(server).invoke("hi")).invoke(ASK, given(handler))
    trace = only_trace()

    assert [("request", None)] == [(s.name, s.parent_id) for s in trace.data.spans if s.parent_id is None]
    assert cost_summary(trace.info.trace_id).total_cost_usd == pytest.approx(USD, rel=1e-9)
    assert "jane.doe" not in trace.to_json()


def test_two_graphs_in_one_own_span(store: str, server: ProviderServer) -> None:
    """Two invocations inside one span of the application's share its trace; the stored sum is that of both."""
    handler = MlflowCostHandler()
    graph = one_node(lambda _: ask_by_langchain(server).invoke("hi"))
    with mlflow.start_span("request"):
        graph.invoke(ASK, given(handler))
        graph.invoke(ASK, given(handler))
    (trace,) = all_traces()

    assert cost_summary(trace.info.trace_id).total_cost_usd == pytest.approx(2 * USD, rel=1e-9)
    assert handler.summary(trace.info.trace_id).total_cost_usd == pytest.approx(2 * USD, rel=1e-9)


def test_private_text_of_an_earlier_graph(store: str, server: ProviderServer) -> None:
    """What a private node of the first graph was told is in no span of a second graph in the same trace."""
    handler = MlflowCostHandler({"artifact_level": "full", "nodes": {"node": {"log_prompts": False}}})
    said = "the penguin wants forty herrings"
    with mlflow.start_span("request") as span:
        one_node(lambda _: ask_by_langchain(server).invoke(said)).invoke(ASK, given(handler))
        ask_by_langchain(server).invoke(said, given(handler))
        span.set_outputs(said)
    (trace,) = all_traces()

    assert "herrings" not in trace.to_json()
