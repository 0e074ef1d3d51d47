"""A stored call can be priced again from the store alone, and nothing else there prices what has no price."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI, SONNET, UNKNOWN, USAGE, FakeChat, FakeStream
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.entities import SpanType
from stored_traces import all_traces, model_spans, only_trace
from ways import ASK, given, one_node, run_way

from langchain_mlflow_cost import MlflowCostHandler, Policy, cost_summary
from langchain_mlflow_cost import attributes as keys
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.pricing.usage_json import call_of_usage_json

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from mlflow.entities import Span

EXACTLY = 1e-12


class Saying(FakeChat):
    """A model whose answers tell more of themselves than their usage."""

    about: dict[str, Any]
    provider: str = "openai"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_provider": self.provider}

    def _next(self, messages: Any) -> AIMessage:
        message = super()._next(messages)
        message.response_metadata = {**message.response_metadata, **self.about}
        return message


def priced_again(span: Span, policy: Policy) -> float | None:
    """What a model's span costs by its `cost.usage` and the price lists."""
    request, result, at = call_of_usage_json(span.attributes["cost.usage"])
    cost = policy.price_book(catalogue_rates).price(request, result, at=at).cost
    return None if cost is None else float(cost.total_usd)


def written(span: Span) -> float | None:
    """What the span says that it cost."""
    cost = span.attributes.get("mlflow.llm.cost")
    return None if cost is None else float(cost["total_cost"])


def spans_of_calls() -> list[Span]:
    return [span for trace in all_traces() for span in model_spans(trace) if "cost.llm_calls" in span.attributes]


@pytest.mark.parametrize(
    "name", ["agent-async", "graph-stream-messages", "in-a-node-llm-cache", "string-model", "with-fallbacks"]
)
def test_every_call_of_a_way_is_priced_again(exported_in_threads: str, name: str) -> None:
    """Whatever way a call was made, with MLflow's default export, its span alone tells its price to 1e-12."""
    paid = run_way(name, MlflowCostHandler())
    spans = spans_of_calls()

    assert len(spans) == paid.calls
    assert [written(span) for span in spans] == pytest.approx(
        [priced_again(span, Policy()) for span in spans], rel=EXACTLY
    )


POLICY: dict[str, Any] = {
    "prices": {
        "overrides": {"house": {"input": "0.7", "output": "1.3", "request": "0.002"}},
        "discounts": {"anthropic": "0.15"},
    }
}
SIDE = {
    "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ]
}
CALLS: dict[str, Any] = {
    # gpt-4o-mini at flex, half: 1,000 at 0.075 and 500 at 0.30 a million.
    "a tier": (Saying(about={"service_tier": "flex"}), 0.000225),
    "a bill": (Saying(about={"token_usage": {"cost": "0.0123456789012345678"}}), 0.0123456789012345678),
    # 0.85 of 1,000 at 3 and 500 at 15 a million: 0.85 * 0.0105; and of the compaction: 180,000 at 3, 3,500 at 15.
    "a discount and a side call": (
        Saying(model=SONNET, provider="anthropic", about={"usage": {"input_tokens": 1000, "output_tokens": 500, **SIDE}}),
        0.85 * (0.0105 + 0.54 + 0.0525),
    ),
    # 900 at 0.15, 100 at 0.075, 500 at 0.60 a million.
    "cached tokens": (
        Saying(usage={**USAGE, "input_token_details": {"cache_read": 100}}, about={}),
        0.000135 + 0.0000075 + 0.0003,
    ),
    "an answer that never came": (FakeStream(usage=None, answers=["one two three four"]), None),
    "another model than was asked for": (Saying(about={"model_name": "gpt-4o-2024-08-06"}), 0.0075),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_a_price_depends_on_is_stored(store: str, name: str) -> None:
    """Tiers, bills, discounts, side calls, cached and estimated tokens: the price from the store is that of the span."""
    model, usd = CALLS[name]
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(MlflowCostHandler(POLICY)))
    (span,) = spans_of_calls()

    assert priced_again(span, Policy.load(POLICY)) == pytest.approx(written(span), rel=EXACTLY)
    assert usd is None or written(span) == pytest.approx(usd, rel=1e-9)


def test_own_prices_are_asked_again(store: str) -> None:
    """A call is priced again by the policy of today: another override, another price; the usage is what it was."""
    model = Saying(about={"model_name": "house"})
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(MlflowCostHandler(POLICY)))
    (span,) = spans_of_calls()
    dearer = Policy.load({"prices": {"overrides": {"house": {"input": 1000, "output": 0}}}})

    # 1,000 at 0.7 and 500 at 1.3 a million, and 0.002 for the request.
    assert written(span) == pytest.approx(0.00335, rel=EXACTLY)
    assert priced_again(span, dearer) == 1.0


def test_calls_of_other_libraries_are_priced_again(store: str) -> None:
    """A span of another library has its bill too."""

    def node(_: Any) -> Any:
        with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attribute("mlflow.llm.model", SONNET)
            span.set_attribute("mlflow.llm.provider", "anthropic")
            usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 60}
            span.set_attribute("mlflow.chat.tokenUsage", usage)

    one_node(node).invoke(ASK, given(MlflowCostHandler()))
    (span,) = spans_of_calls()

    # 40 at 3, 60 at 0.30, 20 at 15 a million.
    assert written(span) == pytest.approx(0.000438, rel=EXACTLY)
    assert priced_again(span, Policy()) == pytest.approx(0.000438, rel=EXACTLY)


# --- without a price -------------------------------------------------------------------------------------------------


def unpriced(kind: str) -> Any:
    if kind == "another library's":

        def node(_: Any) -> Any:
            with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
                span.set_attribute("mlflow.llm.model", "gpt-4o")
                span.set_attribute("mlflow.llm.provider", "ollama")
                span.set_attribute("mlflow.chat.tokenUsage", dict(USAGE))

        return node
    # MLflow's packaged catalogue has the first as OpenAI's; a newer one may have any.
    model = Saying(provider="ollama", about={}) if kind == "known to the store" else FakeChat(model=UNKNOWN)
    return lambda state: model.invoke(state["messages"])


@pytest.mark.parametrize("kind", ["known to the store", "known to nobody", "another library's"])
def test_an_unpriced_call_carries_nothing_to_price_it_by(store: str, kind: str) -> None:
    """It has no cost, and no usage where a store looks for it; its tokens are told, live and stored alike."""
    handler = MlflowCostHandler()
    one_node(unpriced(kind)).invoke(ASK, given(handler))
    trace = only_trace()
    (span,) = spans_of_calls()
    live, read = handler.summary(), cost_summary()

    assert not {"mlflow.llm.cost", "mlflow.chat.tokenUsage", "cost.total_usd"} & span.attributes.keys()
    assert "mlflow.trace.cost" not in trace.info.trace_metadata
    assert (1000, 500) == (span.attributes["cost.input_tokens"], span.attributes["cost.output_tokens"])
    assert live == read
    assert (1, 1500) == (read.unpriced_calls, read.total_tokens.total_tokens)
    assert priced_again(span, Policy()) is None


# --- what it may say -------------------------------------------------------------------------------------------------


def test_names_of_a_response_are_names_or_nothing(store: str) -> None:
    """What a response calls its model, tier or region is told where it is a name; a text, or a secret, is not."""
    text, key = "the patient has a cough", "sk-" + "proj-" + "a1B2c3D4e5F6g7H8" * 3
    about = {"model_name": text, "service_tier": text, "usage": {"speed": text, "inference_geo": key}}
    model = Saying(answers=["fine"], about=about)
    one_node(lambda state: model.invoke(state["messages"])).invoke(
        ASK, given(MlflowCostHandler({"artifact_level": "minimal"}))
    )
    (span,) = spans_of_calls()
    stored = json.dumps(only_trace().to_dict())

    assert text not in stored
    assert key not in stored
    assert span.attributes["mlflow.llm.model"] == MINI


def test_nobody_else_writes_what_is_ours(store: str) -> None:
    """A text that a private node was told is not kept because it stands under a key of ours."""
    secret = "the patient has a cough"
    model = FakeChat()

    def ask(state: MessagesState) -> Any:
        return {"messages": [model.invoke([("user", secret)])]}

    def tell(_: MessagesState) -> Any:
        with mlflow.start_span("own") as span:
            for key in ("cost.usage", "cost.notes", "cost.mine", "policy.node", "policy.mine", "mlflow.llm.model"):
                span.set_attribute(key, secret)
        return {"messages": []}

    nodes: list[Any] = [ask, tell]
    graph: Any = StateGraph(MessagesState).add_node("ask", nodes[0]).add_node("tell", nodes[1])
    graph.add_edge(START, "ask").add_edge("ask", "tell")
    policy = {"artifact_level": "full", "nodes": {"ask": {"log_prompts": False}}}
    graph.compile().invoke(ASK, given(MlflowCostHandler(policy)))

    assert secret not in json.dumps(only_trace().to_dict())


def test_what_is_written_is_exact(store: str) -> None:
    """A bill of more digits than a float has is kept with all of them."""
    bill = "0.0123456789012345678"
    model = Saying(about={"token_usage": {"cost": bill}})
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(MlflowCostHandler()))
    _, result, _ = call_of_usage_json(spans_of_calls()[0].attributes["cost.usage"])

    assert result.billed_usd == Decimal(bill)


def test_all_our_keys_are_known(store: str) -> None:
    """Whatever we write on a span is one of the keys that are kept from others."""
    for name in ("agent", "node-retry", "in-a-node-llm-cache", "in-a-node-generate"):
        run_way(name, MlflowCostHandler())
    seen = {key for trace in all_traces() for span in trace.data.spans for key in span.attributes}

    assert {key for key in seen if key.startswith(("cost.", "policy."))} <= keys.OURS
