"""What can be known while a graph runs, and by whom, for what and where the money was spent."""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, SONNET, SONNET_USD, UNKNOWN, FakeChat, FakeStream
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, model_spans, named, only_trace, root_of
from ways import ASK, TEAM_USD, given, one_node, team_graph

from langchain_mlflow_cost import CostSummary, MlflowCostHandler, cost_summary

# --- while it runs -------------------------------------------------------------------------------------------------


def test_summary_from_inside_a_node(store: str) -> None:
    """A node sees what its graph has cost up to now."""
    handler, seen, model = MlflowCostHandler(), [], FakeChat()

    def node(state: MessagesState) -> None:
        for _ in range(3):
            seen.append(handler.summary())
            model.invoke(state["messages"])

    one_node(node).invoke(ASK, given(handler))

    assert [0, 1, 2] == [summary.llm_calls for summary in seen]
    assert [0.0, float(MINI_USD), float(2 * MINI_USD)] == pytest.approx([s.total_cost_usd for s in seen], rel=1e-9)
    assert {only_trace().info.trace_id} == {summary.trace_id for summary in seen}


def test_stream_shows_a_running_estimate(store: str) -> None:
    """While a stream runs, its estimate is in the summary; the final figure takes its place."""
    handler, seen = MlflowCostHandler(), []

    def between(number: int) -> None:
        seen.append(handler.summary().total_cost_usd)

    model = FakeStream(answers=[" ".join(["word"] * 100)], between=between)
    one_node(lambda state: list(model.stream(state["messages"]))).invoke(ASK, given(handler))

    assert seen == sorted(seen)
    assert 0.0 == seen[0] < seen[50] < seen[99] < float(MINI_USD)
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)
    assert handler.summary().llm_calls == 1


def test_summary_by_trace_id(store: str) -> None:
    """Each of several traces can be asked for; without an id it is the one that began last."""
    handler = MlflowCostHandler()
    one_node(lambda state: FakeChat().invoke(state["messages"])).invoke(ASK, given(handler))
    first = handler.summary()
    one_node(lambda state: FakeChat(model=SONNET).invoke(state["messages"])).invoke(ASK, given(handler))

    assert first == handler.summary(first.trace_id)
    assert handler.summary().total_cost_usd == pytest.approx(float(SONNET_USD), rel=1e-9)


def test_unknown_trace_live(store: str) -> None:
    """A handler that does not know a trace has nothing to say of it, and does not raise."""
    assert MlflowCostHandler().summary("tr-unknown") == CostSummary(trace_id="tr-unknown")


def test_new_handler_has_an_empty_summary(store: str) -> None:
    """Before the first invocation there is nothing to sum up."""
    assert MlflowCostHandler().summary() == CostSummary()


def test_unknown_trace_stored(store: str) -> None:
    """`cost_summary` of a trace that is not stored is empty, and warns once."""
    with pytest.warns(UserWarning, match="tr-unknown") as told:
        found = cost_summary("tr-unknown")

    assert found == CostSummary(trace_id="tr-unknown")
    assert len(told) == 1


def test_no_trace_stored(store: str) -> None:
    """`cost_summary` of an experiment without a trace is empty, and warns."""
    with pytest.warns(UserWarning, match="latest"):
        assert cost_summary() == CostSummary()


def test_latest_stored_trace(store: str) -> None:
    """`cost_summary` without an id is that of the latest trace."""
    handler = MlflowCostHandler()
    for model in (FakeChat(), FakeChat(model=SONNET)):
        model.invoke("hi", given(handler))

    assert cost_summary() == handler.summary()


def test_default_export(exported_in_threads: str) -> None:
    """With MLflow's own export threads, `cost_summary` waits for what is queued and is the live summary."""
    handler = MlflowCostHandler()
    team_graph().invoke(ASK, given(handler))

    assert cost_summary() == handler.summary()
    assert cost_summary().llm_calls == 5


def test_on_cost(store: str) -> None:
    """`on_cost` is told after each call: node, model, tokens, USD; the summary holds the call already."""
    told: list[Any] = []
    handler: MlflowCostHandler
    handler = MlflowCostHandler(on_cost=lambda call: told.append((call, handler.summary().llm_calls)))
    team_graph().invoke(ASK, given(handler))

    assert sorted(["plan", "search", "judge", "team/researcher", "team/desk/writer"]) == sorted(c.node for c, _ in told)
    assert [1, 2, 3, 4, 5] == sorted(calls for _, calls in told)
    assert {(1000, 500)} == {(call.input_tokens, call.output_tokens) for call, _ in told}


def test_on_cost_that_raises(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """What `on_cost` raises is logged once; graph, sums and further calls go on."""

    def on_cost(_: Any) -> None:
        raise ValueError("secret text")

    handler = MlflowCostHandler(on_cost=on_cost)
    team_graph().invoke(ASK, given(handler))

    assert handler.summary().llm_calls == cost_summary().llm_calls == 5
    assert ["on_cost" in record.message for record in caplog.records if "on_cost" in record.message] == [True]
    assert "secret text" not in caplog.text


def test_live_table_in_a_program(store: str) -> None:
    """`handler.live()` does not get in the way of what runs inside it."""
    handler = MlflowCostHandler()
    with handler.live():
        FakeChat().invoke("hi", given(handler))

    assert handler.summary().llm_calls == 1


# --- unpriced ------------------------------------------------------------------------------------------------------


def run_unpriced(calls: int = 2) -> tuple[MlflowCostHandler, list[str]]:
    handler, model = MlflowCostHandler(), FakeChat(model=UNKNOWN)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        one_node(lambda state: [model.invoke(state["messages"]) for _ in range(calls)]).invoke(ASK, given(handler))
    return handler, [str(w.message) for w in told if UNKNOWN in str(w.message)]


def test_unpriced_is_counted_and_named(store: str) -> None:
    """A model without a price is in the counts, in no sum, and named; live and stored."""
    handler, _ = run_unpriced()
    live, stored = handler.summary(), cost_summary()

    assert (2, 2, (UNKNOWN,), 0.0) == (live.llm_calls, live.unpriced_calls, live.unpriced_models, live.total_cost_usd)
    assert live == stored
    assert live.total_tokens.total_tokens == 3000


def test_unpriced_has_no_cost_attribute(store: str) -> None:
    """No span says 0 USD, and MLflow's store finds no price of its own."""
    run_unpriced()
    trace = only_trace()
    keys = {key for span in trace.data.spans for key in span.attributes if key.endswith(("_usd", "llm.cost"))}

    assert keys == set()
    assert "mlflow.trace.cost" not in trace.info.trace_metadata
    assert root_of(trace).get_attribute("cost.unpriced_calls") == 2


def test_unpriced_warns_once(store: str) -> None:
    """One warning for a model, not one for a call; it says what to do."""
    _, told = run_unpriced()

    assert len(told) == 1
    assert "prices.overrides" in told[0]


def test_unpriced_where_warnings_are_errors(store: str) -> None:
    """The call is accounted all the same."""
    handler, model = MlflowCostHandler(), FakeChat(model=UNKNOWN)
    model.invoke("hi", given(handler))

    assert handler.summary().unpriced_calls == cost_summary().unpriced_calls == 1


def test_priced_and_unpriced_together(store: str) -> None:
    """The sum is that of the priced calls, and says how many are missing from it."""
    models = [FakeChat(), FakeChat(model=UNKNOWN)]
    handler = MlflowCostHandler()
    one_node(lambda state: [model.invoke(state["messages"]) for model in models]).invoke(ASK, given(handler))

    assert cost_summary() == handler.summary()
    assert (2, 1) == (handler.summary().llm_calls, handler.summary().unpriced_calls)
    assert handler.summary().total_cost_usd == pytest.approx(float(MINI_USD), rel=1e-9)
    assert root_of(only_trace()).get_attribute("cost.total_usd") == pytest.approx(float(MINI_USD), rel=1e-9)


# --- by user, session, tag, metadata -------------------------------------------------------------------------------

WHO: dict[str, Any] = {
    "configurable": {"thread_id": "thread-7"},
    "metadata": {"user_id": "ada", "plan": "gold", "team": "blue"},
    "tags": ["nightly", "eu"],
}


def attributed(**more: Any) -> MlflowCostHandler:
    handler = MlflowCostHandler({"trace_metadata": ["plan"]})
    team_graph().invoke(ASK, given(handler, **{**WHO, **more}))
    return handler


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow.trace.session", "thread-7"),
        ("mlflow.trace.user", "ada"),
        ("langchain.tags", '["nightly","eu"]'),
        ("plan", "gold"),
        ("team", None),
    ],
)
def test_trace_metadata(store: str, key: str, value: str | None) -> None:
    """Session, user, tags and the metadata keys that the policy names are the trace's, and no others."""
    attributed()

    assert value == only_trace().info.trace_metadata.get(key)


@pytest.mark.parametrize(
    "filter_string",
    [
        "metadata.`mlflow.trace.session` = 'thread-7'",
        "metadata.`mlflow.trace.user` = 'ada'",
        "metadata.`langchain.tags` LIKE '%nightly%'",
        "metadata.plan = 'gold'",
    ],
)
def test_traces_can_be_searched_for(store: str, filter_string: str) -> None:
    """Spend can be asked for by user, session, tag and metadata: the others' traces are not found."""
    attributed()
    attributed(configurable={"thread_id": "another"}, metadata={"user_id": "bob"}, tags=["daily"])
    found = mlflow.search_traces(filter_string=filter_string, return_type="list")

    assert ["thread-7"] == [trace.info.trace_metadata["mlflow.trace.session"] for trace in found]
    assert cost_summary(found[0].info.trace_id).llm_calls == 5


def test_attribution_is_redacted(store: str) -> None:
    """What stands for the user is replaced by a token of their own: two users never become one."""
    handler = MlflowCostHandler({"redact_pii": True})
    FakeChat().invoke("hi", given(handler, metadata={"user_id": "jane.doe@example.com"}))
    user = only_trace().info.trace_metadata["mlflow.trace.user"]

    assert re.fullmatch(r"\[EMAIL_ADDRESS:[a-z0-9]+\]", user)


def test_a_users_own_session_stays(store: str) -> None:
    """What the application says of the trace itself is not replaced."""

    def node(_: Any) -> None:
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "of my own"})

    one_node(node).invoke(ASK, given(MlflowCostHandler(), configurable={"thread_id": "t"}))

    assert only_trace().info.trace_metadata["mlflow.trace.session"] == "of my own"


# --- metrics of an MLflow run --------------------------------------------------------------------------------------


def metrics_of(run_id: str) -> dict[str, float]:
    mlflow.flush_async_logging()
    return dict(mlflow.get_run(run_id).data.metrics)


def test_run_metrics(store: str) -> None:
    """With an active run, cost and tokens of all its invocations are its metrics."""
    handler = MlflowCostHandler()
    with mlflow.start_run() as run:
        team_graph().invoke(ASK, given(handler))
        FakeChat().invoke("hi", given(handler))
    summaries = [cost_summary(trace.info.trace_id) for trace in all_traces()]

    assert metrics_of(run.info.run_id) == pytest.approx(
        {
            "total_cost_usd": sum(summary.total_cost_usd for summary in summaries),
            "total_tokens": sum(summary.total_tokens.total_tokens for summary in summaries),
        },
        rel=1e-9,
    )


def test_run_metrics_from_threads(store: str) -> None:
    """Invocations at once in several threads of a run all count."""
    from concurrent.futures import ThreadPoolExecutor

    handler, barrier = MlflowCostHandler(), threading.Barrier(3, timeout=15)
    model = FakeChat(before=barrier.wait)
    with mlflow.start_run() as run, ThreadPoolExecutor(3) as pool:

        def work(_: int) -> None:
            with mlflow.start_run(run_id=run.info.run_id):
                model.invoke("hi", given(handler))

        list(pool.map(work, range(3)))

    assert metrics_of(run.info.run_id)["total_cost_usd"] == pytest.approx(float(3 * MINI_USD), rel=1e-9)


def run_of(trace: Any) -> str | None:
    linked: str | None = trace.info.trace_metadata.get("mlflow.sourceRun")
    return linked


def test_traces_of_threads_are_of_their_own_runs(exported_in_threads: str) -> None:
    """Each of 12 traces, made in threads with runs of their own at the same time, is linked to its thread's run."""
    from concurrent.futures import ThreadPoolExecutor

    handler, barrier = MlflowCostHandler(), threading.Barrier(4, timeout=15)

    def work(number: int) -> str:
        with mlflow.start_run() as run:
            barrier.wait()
            for _ in range(3):
                team_graph().invoke(ASK, given(handler, metadata={"user_id": run.info.run_id}))
            barrier.wait()
            return str(run.info.run_id)

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(work, range(4)))
    traces = all_traces()

    assert len(traces) == 12
    assert [trace.info.trace_metadata["mlflow.trace.user"] for trace in traces] == [run_of(trace) for trace in traces]
    assert [float(3 * TEAM_USD)] * 4 == pytest.approx([metrics_of(run)["total_cost_usd"] for run in runs], rel=1e-9)


def test_a_pool_below_one_run_belongs_to_it(store: str) -> None:
    """Threads without a run, as `batch` starts them, count to the one run that there is."""
    handler = MlflowCostHandler()
    with mlflow.start_run() as run:
        team_graph().batch([ASK, ASK, ASK], given(handler))

    assert [run.info.run_id] * 3 == [run_of(trace) for trace in all_traces()]
    assert metrics_of(run.info.run_id)["total_cost_usd"] == pytest.approx(float(3 * TEAM_USD), rel=1e-9)


def test_no_link_is_better_than_another_threads(store: str) -> None:
    """A thread without a run, while two others have one each, is linked to neither."""
    from concurrent.futures import ThreadPoolExecutor

    handler, open_runs, done = MlflowCostHandler(), threading.Barrier(3, timeout=15), threading.Event()

    def hold(_: int) -> None:
        with mlflow.start_run():
            open_runs.wait()
            done.wait(15)

    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(hold, number) for number in range(2)]
        open_runs.wait()
        FakeChat().invoke("hi", given(handler))
        done.set()
        for each in held:
            each.result()

    assert run_of(only_trace()) is None


def test_no_run_no_metrics(store: str) -> None:
    """Without an active run none is started."""
    FakeChat().invoke("hi", given(MlflowCostHandler()))

    assert mlflow.active_run() is None
    assert mlflow.search_runs(output_format="list") == []


def test_node_is_where_the_call_is(store: str) -> None:
    """Spend can be asked for by node: node and model stand in each model span."""
    handler = MlflowCostHandler()
    team_graph().invoke(ASK, given(handler))

    assert {("plan", "gpt-4o-mini"), ("judge", SONNET)} <= {
        (span.get_attribute("policy.node"), span.get_attribute("mlflow.llm.model"))
        for span in model_spans(only_trace())
    }


def test_summary_is_of_the_invocation_not_of_the_handler(store: str) -> None:
    """A second invocation of the same handler starts at 0."""
    handler, seen = MlflowCostHandler(), list[int]()

    def node(state: MessagesState) -> Any:
        seen.append(handler.summary().llm_calls)
        return {"messages": [FakeChat().invoke("hi")]}

    graph: Any = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    for _ in range(2):
        graph.invoke(ASK, given(handler))

    assert seen == [0, 0]
    assert [1, 1] == [root_of(trace).get_attribute("cost.llm_calls") for trace in all_traces()]
    assert named(all_traces()[0], "node").get_attribute("cost.llm_calls") == 1
