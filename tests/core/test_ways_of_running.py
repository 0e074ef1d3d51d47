"""However an application runs its models: each call is recorded once, priced once, and all sums agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from sampling import in_turn
from stored_traces import (
    Tree,
    all_traces,
    forest,
    governed_root_of,
    leaves_usd,
    mlflow_usd,
    model_spans,
    nodes_usd,
    use_experiment,
)
from ways import TEAM_NODES, WAYS, by_day, run_way

from langchain_mlflow_cost import CostSummary, MlflowCostHandler, cost_summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from fake_models import Tally
    from mlflow.entities import Trace

sampled = pytest.mark.sampled(is_in=by_day("costs"))


@dataclass(frozen=True)
class Recording:
    """What one way of running left behind, and what its models were paid for."""

    paid: Tally
    traces: list[Trace]
    live: list[CostSummary]
    stored: list[CostSummary]
    by_autolog: list[tuple[Tree, ...]]


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def recording(way: str, fresh_store: Callable[[], AbstractContextManager[str]]) -> Recording:
    """Each way is run once for all claims: with a handler, and with MLflow's autolog alone."""
    with fresh_store():
        handler = MlflowCostHandler({"artifact_level": "full"})
        paid = run_way(way, handler)
        traces = all_traces()
        live = [handler.summary(trace.info.trace_id) for trace in traces]
        stored = [cost_summary(trace.info.trace_id) for trace in traces]
        use_experiment("autolog alone")
        mlflow.langchain.autolog()
        run_way(way)
        return Recording(paid, traces, live, stored, forest(all_traces()))


@sampled
def test_calls_are_counted_once(recording: Recording) -> None:
    """Each answer counts once, those of LangChain's cache too."""
    assert recording.paid.calls
    assert recording.paid.calls == sum(summary.llm_calls for summary in recording.live)
    assert recording.paid.cached == sum(summary.cached_calls for summary in recording.live)


@sampled
def test_calls_cost_what_they_should(recording: Recording) -> None:
    """The sum in USD is what the calls cost by the price list; where a usage was not told, it is estimated, and said so."""
    usd, estimated = sum(s.total_cost_usd for s in recording.live), sum(s.estimated_calls for s in recording.live)
    if recording.paid.usd is None:
        assert estimated
        assert usd > 0
    else:
        assert not estimated
        assert float(recording.paid.usd) == pytest.approx(usd, rel=1e-9)


@sampled
def test_each_answer_has_a_priced_span(recording: Recording) -> None:
    """One model span for each call that gave an answer carries MLflow's own cost attribute."""
    priced = [s for t in recording.traces for s in model_spans(t) if s.get_attribute("mlflow.llm.cost") is not None]

    assert recording.paid.calls == len(priced)


@sampled
def test_only_model_spans_carry_mlflows_cost(recording: Recording) -> None:
    """On a parent the key would hide everything below it in MLflow's own sum."""
    others = [s for t in recording.traces for s in t.data.spans if s not in model_spans(t)]

    assert not [s.name for s in others if s.get_attribute("mlflow.llm.cost") is not None]


@sampled
def test_traces(way: str, recording: Recording) -> None:
    """One invocation is one trace."""
    if WAYS[way].traces is None:
        pytest.skip("LangChain does not say which of these runs belong together")

    assert WAYS[way].traces == len(recording.traces)


@sampled
def test_sums_agree(recording: Recording) -> None:
    """Leaves, nodes, root, live summary, stored summary and MLflow's own total are the same."""
    for trace, live, stored in zip(recording.traces, recording.live, recording.stored, strict=True):
        total = live.total_cost_usd
        assert math.isclose(total, leaves_usd(trace), rel_tol=1e-9)
        assert math.isclose(total, nodes_usd(live), rel_tol=1e-9)
        assert math.isclose(total, stored.total_cost_usd, rel_tol=1e-9)
        assert math.isclose(total, governed_root_of(trace).get_attribute("cost.total_usd"), rel_tol=1e-9)
        assert math.isclose(total, mlflow_usd(trace) or 0.0, rel_tol=1e-9)


@sampled
def test_stored_summary_is_the_live_one(recording: Recording) -> None:
    """`cost_summary` gives what `handler.summary` gives, field by field."""
    for live, stored in zip(recording.live, recording.stored, strict=True):
        assert live.model_dump(exclude={"total_cost_usd", "node_breakdown"}) == stored.model_dump(
            exclude={"total_cost_usd", "node_breakdown"}
        )
        assert {k: (v.calls, v.tokens, v.models) for k, v in live.node_breakdown.items()} == {
            k: (v.calls, v.tokens, v.models) for k, v in stored.node_breakdown.items()
        }


@sampled
def test_root_counts_calls_and_tokens(recording: Recording) -> None:
    """The root's roll-ups are the summary's figures."""
    for trace, live in zip(recording.traces, recording.live, strict=True):
        root = governed_root_of(trace)

        assert {
            "cost.llm_calls": live.llm_calls,
            "cost.cached_calls": live.cached_calls,
            "cost.unpriced_calls": live.unpriced_calls,
            "cost.input_tokens": live.total_tokens.input_tokens,
            "cost.output_tokens": live.total_tokens.output_tokens,
        } == {key: value for key, value in root.attributes.items() if key in ROLL_UP_COUNTS}


ROLL_UP_COUNTS = {
    "cost.llm_calls",
    "cost.cached_calls",
    "cost.unpriced_calls",
    "cost.input_tokens",
    "cost.output_tokens",
}


AUTOLOG_NESTS_WRONG = {
    "sequence-stream": "the parser, whose input the model streams, below the model",
    "in-a-node-sequence-stream": "the parser, whose input the model streams, below the model",
    "in-a-node-generate": "the second call below the first",
    "generate-with-callbacks": "the second call below the first",
    "interleaved-streams": "the spans of both below one of them",
    "invoke-while-a-stream-is-half-read": "the spans of both below one of them",
    "async-stream-closed-early": "no span where a model's stream was cut off",
    "cancelled": "the user's own span into a trace of its own",
}


@sampled
def test_span_tree_is_autologs(way: str, recording: Recording) -> None:
    """Names, types and nesting of the spans are those that autolog alone would make, and none is there twice."""
    if way in AUTOLOG_NESTS_WRONG:
        pytest.skip(f"autolog puts {AUTOLOG_NESTS_WRONG[way]}")

    assert recording.by_autolog == forest(recording.traces)


@sampled
def test_every_span_says_what_applied(recording: Recording) -> None:
    """Each span of a governed trace names its node and the policy's answer for it."""
    wanted = {"policy.node", "policy.artifact_level", "policy.log_prompts"}
    missing = {s.name: wanted - set(s.attributes) for t in recording.traces for s in t.data.spans}

    assert not {name: keys for name, keys in missing.items() if keys}


# --- the graph with everything, in detail --------------------------------------------------------------------------

GRAPH_WAYS = [name for name in WAYS if WAYS[name].private == "plan" and WAYS[name].traces == 1]


@sampled
@pytest.mark.parametrize("way", GRAPH_WAYS, indirect=True)
def test_node_breakdown(way: str, recording: Recording) -> None:
    """Each node's own calls stand under its path, those of its subgraphs under theirs."""
    breakdown = recording.live[0].node_breakdown

    assert {node: pytest.approx(float(usd), rel=1e-9) for node, usd in TEAM_NODES.items()} == {
        node: entry.cost_usd for node, entry in breakdown.items() if entry.calls
    }


@sampled
@pytest.mark.parametrize("way", GRAPH_WAYS, indirect=True)
def test_node_spans_roll_up(way: str, recording: Recording) -> None:
    """A node's span has the cost of everything below it."""
    trace = recording.traces[0]
    costs = {s.name: s.get_attribute("cost.total_usd") for s in trace.data.spans if s.name in ("plan", "team", "desk")}

    mini, sonnet = float(TEAM_NODES["plan"]), float(TEAM_NODES["judge"])
    assert {"plan": mini, "team": mini + sonnet, "desk": sonnet} == pytest.approx(costs, rel=1e-9)


@sampled
@pytest.mark.parametrize("way", GRAPH_WAYS, indirect=True)
def test_policy_node_is_the_path(way: str, recording: Recording) -> None:
    """A model span names the path of its innermost node."""
    nodes = sorted(s.get_attribute("policy.node") for s in model_spans(recording.traces[0]))

    assert sorted(TEAM_NODES) == nodes


# --- autolog before, after, never ----------------------------------------------------------------------------------


def autolog_before() -> MlflowCostHandler:
    mlflow.langchain.autolog()
    return MlflowCostHandler()


def autolog_after() -> MlflowCostHandler:
    handler = MlflowCostHandler()
    mlflow.langchain.autolog()
    return handler


def autolog_after_only() -> MlflowCostHandler:
    handler = MlflowCostHandler({"autolog_enabled": False})
    mlflow.langchain.autolog()
    return handler


def autolog_never() -> MlflowCostHandler:
    return MlflowCostHandler({"autolog_enabled": False})


def autolog_switched_off() -> MlflowCostHandler:
    mlflow.langchain.autolog()
    handler = MlflowCostHandler({"autolog_enabled": False})
    mlflow.langchain.autolog(disable=True)
    return handler


def autolog_inline() -> MlflowCostHandler:
    mlflow.langchain.autolog(run_tracer_inline=True)
    return MlflowCostHandler()


AUTOLOG = [autolog_before, autolog_after, autolog_after_only, autolog_never, autolog_switched_off, autolog_inline]
SOME_WAYS = ["graph-invoke", "graph-ainvoke", "agent", "string-model", "handler-in-a-models-constructor"]


@pytest.mark.sampled(is_in=in_turn(make=AUTOLOG, way=SOME_WAYS))
@pytest.mark.parametrize("make", AUTOLOG, ids=lambda make: make.__name__)
@pytest.mark.parametrize("way", SOME_WAYS)
def test_autolog_makes_no_difference(store: str, make: Any, way: str) -> None:
    """Whether and when autolog is switched on, the same spans are recorded."""
    handler = make()
    run_way(way, handler)
    recorded = forest(all_traces())
    use_experiment("autolog alone")
    mlflow.langchain.autolog()
    run_way(way)

    assert forest(all_traces()) == recorded
