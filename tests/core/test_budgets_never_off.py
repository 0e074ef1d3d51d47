"""A budget is asked and kept whatever a prompt, a tool, an answer or a stream is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fake_models import MINI, FakeChat, FakeStream
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - LangGraph reads the annotation
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field
from stored_traces import all_traces
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler, cost_summary

TWO_CALLS = 0.0009
"""USD: what two calls of MINI cost."""


def nested(levels: int, leaf: Any = "word") -> Any:
    value: Any = leaf
    for _ in range(levels):
        value = {"i": [value]}
    return value


def function(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": parameters}}


@tool
def far(number: Annotated[int, Field(le=10**24)]) -> str:
    """Count far."""
    return str(number)


class Unschemable(BaseModel):
    """A format of answers that has no JSON schema."""

    model_config = {"arbitrary_types_allowed": True}
    what: object = None
    how: Callable[[int], int] | None = None


class Hostile:
    """Refuses whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__
    __iter__ = __len__ = __bool__ = __hash__ = __str__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")


BOUND: dict[str, Callable[[FakeChat], Any]] = {
    "a number beyond 64 bits": lambda model: model.bind_tools([far]),
    "keys that are no strings": lambda model: model.bind(tools=[function({("a", 1): {None: 1, b"x": 2}})]),
    "lone surrogates in keys": lambda model: model.bind(tools=[function({"\ud800": {"\udfff": "\udc00"}})]),
    "300 levels": lambda model: model.bind(tools=[function(nested(300))]),
    "1,500 levels": lambda model: model.bind(tools=[function(nested(1_500, 7))]),
    "a format without a schema": lambda model: model.bind(response_format=Unschemable),
    "a hostile object": lambda model: model.bind(tools=[Hostile()], response_format=Hostile()),
    "tools that are no list": lambda model: model.bind(tools=Hostile()),
    "parameters that are no numbers": lambda model: model.bind(max_tokens=Hostile(), n=Hostile(), audio=Hostile()),
    "a surrogate in a stop word": lambda model: model.bind(stop=["\ud800"]),
}
POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "private": {"nodes": {"*": {"log_prompts": False}}},
    "full": {"artifact_level": "full", "redact_pii": True},
}


def eight_calls(bound: Any, messages: Any) -> Any:
    def node(_: Any) -> None:
        for _ in range(8):
            try:
                bound.invoke(messages)
            except BudgetExceededError:
                continue

    return one_node(node)


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("case", list(BOUND))
def test_no_tool_switches_a_budget_off(store: str, case: str, policy: str) -> None:
    """Of eight calls of 0.00045 USD under 0.0009 two are made, whatever is bound to the model."""
    model = FakeChat()
    handler = MlflowCostHandler({**POLICIES[policy], "budget": {"max_cost_usd": TWO_CALLS}})
    eight_calls(BOUND[case](model), "hi").invoke(ASK, given(handler))

    assert [2, 2] == [len(model.requests), handler.summary().llm_calls]


PROMPTS: dict[str, Any] = {
    "600 levels": [HumanMessage([{"type": "text", "text": "hi", "more": nested(600)}])],
    "1,500 levels": [HumanMessage([{"type": "text", "text": "hi", "more": nested(1_500)}])],
    "600 levels of arguments": [
        AIMessage("", tool_calls=[{"name": "look", "args": nested(600), "id": "call_1"}]),
        HumanMessage("go on"),
    ],
    "lone surrogates": [HumanMessage("\ud800 \udfff")],
    "a hostile object": [HumanMessage("hi", additional_kwargs={"what": Hostile()})],
}


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("case", list(PROMPTS))
def test_no_prompt_switches_a_budget_off(store: str, case: str, policy: str) -> None:
    """The same for what a prompt holds, in a private node too."""
    model = FakeChat()
    handler = MlflowCostHandler({**POLICIES[policy], "budget": {"max_cost_usd": TWO_CALLS}})
    eight_calls(model, PROMPTS[case]).invoke(ASK, given(handler))

    assert [2, 2] == [len(model.requests), handler.summary().llm_calls]


ANSWERS: dict[str, AIMessage] = {
    "600 levels": AIMessage([{"type": "text", "text": "hi", "more": nested(600)}]),
    "600 levels of arguments": AIMessage("", tool_calls=[{"name": "look", "args": nested(600), "id": "call_1"}]),
    "1,500 levels": AIMessage("hi", additional_kwargs={"more": nested(1_500)}),
    "lone surrogates": AIMessage("\ud800"),
    "a hostile object": AIMessage("hi", additional_kwargs={"what": Hostile()}),
}


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("case", list(ANSWERS))
def test_an_answer_costs_what_it_costs(store: str, case: str, policy: str) -> None:
    """1,000 tokens in and 500 out of gpt-4o-mini are 0.00045 USD, whatever they are the tokens of."""
    model = FakeChat(model=MINI, answers=[ANSWERS[case]])
    handler = MlflowCostHandler({**POLICIES[policy], "budget": {"max_cost_usd": TWO_CALLS}})
    eight_calls(model, "hi").invoke(ASK, given(handler))

    assert len(model.requests) == 2
    assert handler.summary().total_cost_usd == pytest.approx(TWO_CALLS, rel=1e-9)
    assert cost_summary().total_cost_usd == pytest.approx(TWO_CALLS, rel=1e-9)


@pytest.mark.parametrize("metadata", [{"a": Hostile()}, {"langgraph_node": Hostile()}, {"ls_model_name": Hostile()}])
def test_no_metadata_switches_a_budget_off(store: str, metadata: dict[str, Any]) -> None:
    """The same for the metadata of a run."""
    model = FakeChat()
    handler = MlflowCostHandler({"budget": {"max_cost_usd": TWO_CALLS}})
    eight_calls(model.with_config(metadata=metadata), "hi").invoke(ASK, given(handler))

    assert len(model.requests) == 2


def test_a_call_that_cannot_be_recorded_is_asked_for(store: str) -> None:
    """Where not even a run can be made of a call, its budget is asked, and counts what can be guessed."""
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0006}})
    told: list[str] = []

    def node(_: Any, config: RunnableConfig) -> None:
        manager: Any = config["callbacks"]
        for _ in range(4):
            try:
                handler.on_chat_model_start(
                    {"name": Hostile()},
                    [[HumanMessage("hi")]],
                    run_id=uuid4(),
                    parent_run_id=manager.parent_run_id,
                    metadata={"ls_model_name": MINI, "ls_provider": "openai"},
                )
            except BudgetExceededError as refusal:
                told.append(refusal.node)
            else:
                told.append("made")

    graph: Any = StateGraph(MessagesState)
    graph.add_node("node", node).add_edge(START, "node").compile().invoke(ASK, given(handler))

    # 1,000 tokens in and 128 out are guessed of each: 0.0002268 USD.
    assert ["made", "made", "node", "node"] == told


@pytest.mark.parametrize("words", [1, 40, 1000])
def test_a_stream_counts_by_its_length(store: str, words: int) -> None:
    """However much comes in one chunk, a stream is stopped a little after the limit: 0.0003 USD are 500 tokens."""
    chunk = "-".join(["word"] * words)
    model = FakeStream(answers=[" ".join([chunk] * (20_000 // words))], usage=None)
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0003}})
    with pytest.raises(BudgetExceededError):
        list(model.stream("hi", given(handler)))

    assert 0.0003 < handler.summary().total_cost_usd < 0.0003 + 2.5 * max(words, 64) * 6e-7
    assert len(all_traces()) == 1
