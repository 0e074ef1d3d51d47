"""Estimated is never silent: in both summaries, on the root, and in one warning that names the remedy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from fake_models import FakeChat, FakeStream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from stored_traces import only_trace, root_of
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator


def graph_of(*models: Any) -> Any:
    return one_node(lambda state: [model.invoke(state["messages"][:1]) for model in models])


def run_quietly(graph: Any, handler: MlflowCostHandler) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph.invoke(ASK, given(handler))


def test_a_gateways_stream_names_the_remedy(store: str) -> None:
    """ChatOpenAI streams without usage behind another base_url: one warning for all of its calls says what to set."""
    with ProviderServer(lambda request: Reply("a word or two", Tokens(1000, 500))) as server:
        model = ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_base_url, api_key="k", streaming=True)
        handler, graph = MlflowCostHandler(), graph_of(model, model)
        with pytest.warns(UserWarning, match="stream_usage=True") as caught:
            graph.invoke(ASK, given(handler))

        assert handler.summary().estimated_calls == 2
        assert len([each for each in caught if "stream_usage" in str(each.message)]) == 1


def test_the_remedy_helps(store: str) -> None:
    """With it nothing is estimated, and nothing is said."""
    with ProviderServer(lambda request: Reply("a word or two", Tokens(1000, 500))) as server:
        model = ChatOpenAI(
            model="gpt-4o-mini", base_url=server.openai_base_url, api_key="k", streaming=True, stream_usage=True
        )
        handler = MlflowCostHandler()
        graph_of(model).invoke(ASK, given(handler))

    assert handler.summary().estimated_calls == 0
    assert handler.summary().total_cost_usd == pytest.approx(0.00045, rel=1e-9)


def test_live_and_stored_agree(store: str) -> None:
    """How many calls are estimated and what they are thought to cost is in both summaries, and in the node's row."""
    handler = MlflowCostHandler()
    run_quietly(graph_of(FakeChat(), FakeStream(usage=None), FakeChat(usage=None)), handler)
    live, read = handler.summary(), cost_summary()

    assert (live.estimated_calls, read.estimated_calls) == (2, 2)
    assert 0 < live.estimated_usd < live.total_cost_usd
    assert read.estimated_usd == pytest.approx(live.estimated_usd, rel=1e-9)
    assert read.total_cost_usd == pytest.approx(live.total_cost_usd, rel=1e-9)
    assert live.estimated_usd == pytest.approx(live.total_cost_usd - 0.00045, rel=1e-9)
    assert live.node_breakdown == pytest.approx(live.node_breakdown)
    assert [node.estimated_calls for node in read.node_breakdown.values()] == [2]


def test_live_and_stored_agree_by_default(exported_in_threads: str) -> None:
    """So they do with MLflow's own, asynchronous export."""
    handler = MlflowCostHandler()
    run_quietly(graph_of(FakeChat(), FakeStream(usage=None)), handler)
    live, read = handler.summary(), cost_summary()

    assert (live.estimated_calls, read.estimated_calls) == (1, 1)
    assert read.estimated_usd == pytest.approx(live.estimated_usd, rel=1e-9)


def test_the_root_counts_them(store: str) -> None:
    """`cost.estimated_calls` stands beside the other counts, also where it is 0."""
    run_quietly(graph_of(FakeChat(), FakeStream(usage=None)), MlflowCostHandler())
    spans = only_trace().data.spans
    counts = {span.name: span.attributes["cost.estimated_calls"] for span in spans if span.span_type != "CHAT_MODEL"}
    models = sorted(span.attributes["cost.estimated_calls"] for span in spans if span.span_type == "CHAT_MODEL")

    assert counts[root_of(only_trace()).name] == 1
    assert models == [0, 1]


def test_reported_usage_is_not_estimated(store: str) -> None:
    """Where the provider says what was used there is no warning and no mark."""
    handler = MlflowCostHandler()
    graph_of(FakeChat(), FakeStream()).invoke(ASK, given(handler))

    assert handler.summary().estimated_calls == cost_summary().estimated_calls == 0
    assert handler.summary().estimated_usd == cost_summary().estimated_usd == 0


def test_an_answer_without_usage_is_told_without_that_remedy(store: str) -> None:
    """`stream_usage` helps streams alone."""
    with pytest.warns(UserWarning, match="no usage was reported for model 'gpt-4o-mini'") as caught:
        graph_of(FakeChat(usage=None)).invoke(ASK, given(MlflowCostHandler()))

    assert not [each for each in caught if "stream_usage" in str(each.message)]


def test_a_stream_left_in_the_middle_is_marked_and_not_warned_of(store: str) -> None:
    """Whoever stops reading knows; nothing that they set would help."""
    handler = MlflowCostHandler()
    for _ in FakeStream(answers=["one two three four"]).stream("go", given(handler)):
        break

    assert handler.summary().estimated_calls == 1
    assert cost_summary().estimated_calls == 1


class FakeUsageFirst(FakeStream):
    """Tells the length of its prompt with the first chunk, as Gemini and Anthropic do."""

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        told: Any = {
            "input_tokens": 100_000,
            "output_tokens": 0,
            "total_tokens": 100_000,
            "input_token_details": {"cache_read": 90_000},
        }
        yield ChatGenerationChunk(message=AIMessageChunk(content="", id="run-1", usage_metadata=told))
        yield from super()._chunks(messages)


PROMPT_USD = 0.00825
"""10,000 tokens at 0.15 and 90,000 from the cache at 0.075 USD per million: openai.com/api/pricing, gpt-4o-mini."""


def test_a_running_stream_has_the_prompt_that_it_told(store: str) -> None:
    """While it runs, the sum has the tokens that a chunk reported, cached ones at their price."""
    seen: list[float] = []
    handler = MlflowCostHandler()
    model = FakeUsageFirst(
        answers=["word " * 40],
        usage={"input_tokens": 0, "output_tokens": 40, "total_tokens": 40},
        between=lambda number: seen.append(handler.summary().total_cost_usd) if number == 30 else None,
    )
    list(model.stream("go", given(handler)))

    # 16 to 30 words at 0.60 USD per million on top of it.
    assert seen == [pytest.approx(PROMPT_USD + 23 * 0.6e-6, abs=8 * 0.6e-6)]
    assert handler.summary().total_cost_usd == pytest.approx(PROMPT_USD + 40 * 0.6e-6, rel=1e-9)


def test_a_stream_is_stopped_by_the_prompt_that_it_told(store: str) -> None:
    """A prompt that turns out to be larger than the limit ends its stream, not the next call."""
    model = FakeUsageFirst(answers=["word " * 400])
    with pytest.raises(BudgetExceededError):
        list(model.stream("go", given(MlflowCostHandler({"budget": {"max_cost_usd": 0.008}}))))
