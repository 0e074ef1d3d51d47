"""Finished traces are judged in the background, as they are stored, at a cost and under a budget of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import MINI, MINI_USD, FakeChat
from mlflow.genai.judges import make_judge
from mlflow.genai.scorers import scorer
from servers import serving
from stored_traces import all_traces, mlflow_usd, only_trace, stored, use_experiment
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, configure, cost_summary
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Request, Tokens
from langchain_mlflow_cost.everywhere import govern_no_more
from langchain_mlflow_cost.limits import replaced
from langchain_mlflow_cost.tracing.judging import JUDGING

MAIL = "jane.doe@example.com"
JUDGE_USD = 0.0003
"""2,000 tokens in at 0.15 USD per million and none out that count: openai.com/api/pricing, gpt-4o-mini."""
USAGE = Tokens(input=2000, output=0)


class Court:
    """A judge model on loopback: what it was asked, and what it answers."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.verdict: Callable[[], Reply] = lambda: Reply(json.dumps({"result": "yes", "rationale": "as asked"}), USAGE)

    def reply(self, request: Request) -> Reply:
        self.prompts.append(request.prompt)
        return self.verdict()


@pytest.fixture
def court(monkeypatch: pytest.MonkeyPatch) -> Iterator[Court]:
    court = Court()
    with ProviderServer(court.reply) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_base_url)
        monkeypatch.setenv("LOOPBACK_JUDGE", server.openai_base_url)
        yield court
        assert JUDGING.wait(60)


def answer(policy: dict[str, Any], text: str = "a kind answer", **options: Any) -> MlflowCostHandler:
    """One trace of one model's call, and the judges' verdict."""
    handler, model = MlflowCostHandler(policy), FakeChat(answers=[text], **options)
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(handler))
    assert JUDGING.wait(60)
    return handler


def judges(**settings: Any) -> dict[str, Any]:
    return {"enable_judges": {"guidelines": {"kind": "The answer is kind."}, "model": f"openai:/{MINI}", **settings}}


def assessments(trace: Any) -> dict[str, Any]:
    return {each.name: each for each in trace.info.assessments}


def test_a_verdict_lands_on_the_trace(exported_in_threads: str, court: Court) -> None:
    """With default export: the assessment is a judge model's, with our price, and the trace's own cost is as before."""
    handler = answer(judges())
    trace = only_trace()
    verdict = assessments(trace)["kind"]

    assert (verdict.value, verdict.rationale, verdict.source.source_type) == ("yes", "as asked", "LLM_JUDGE")
    assert float(verdict.metadata["mlflow.assessment.judgeCost"]) == pytest.approx(JUDGE_USD)
    assert "genai-prices" in verdict.metadata["cost.price_source"]
    assert len(court.prompts) == 1
    for usd in (handler.summary().total_cost_usd, cost_summary().total_cost_usd, mlflow_usd(trace)):
        assert usd == pytest.approx(float(MINI_USD), rel=1e-9)


def judge_of(word: str) -> Any:
    """`make_judge`'s object with its own `base_url`."""
    return make_judge(
        name=word,
        instructions=f"Is {{{{ outputs }}}} {word}?",
        model=f"openai:/{MINI}",
        base_url=os.environ["LOOPBACK_JUDGE"] + "/chat/completions",
        feedback_value_type=str,
    )


def test_judges_of_ones_own(store: str, court: Court) -> None:
    """`make_judge`'s object, with its own `base_url`, and a function of the program's, beside a list of guidelines."""
    own = judge_of("brief")

    @scorer
    def has_answer(outputs: Any) -> bool:
        return bool(outputs)

    answer(judges(scorers=[own, has_answer], guidelines=["The answer is kind.", "It is short."]))
    found = assessments(only_trace())

    assert {name: each.value for name, each in found.items()} == {
        "brief": "yes",
        "has_answer": True,
        "guidelines": "yes",
    }
    assert "mlflow.assessment.judgeCost" not in (found["has_answer"].metadata or {})
    assert float(found["brief"].metadata["mlflow.assessment.judgeCost"]) == pytest.approx(JUDGE_USD)


@pytest.mark.nightly
def test_true_is_mlflows_own_judges(store: str, court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping, the answer's relevance and safety are judged, by MLflow's default model."""
    monkeypatch.setenv("MLFLOW_GENAI_JUDGE_DEFAULT_MODEL", f"openai:/{MINI}")
    answer({"enable_judges": True})

    assert set(assessments(only_trace())) == {"relevance_to_query", "safety"}


@pytest.mark.parametrize(
    ("policy", "is_told"),
    [
        ({}, True),
        ({"redact_pii": True}, False),
        ({"nodes": {"node": {"log_prompts": False}}}, False),
    ],
    ids=["open", "redacted", "private"],
)
def test_judges_see_what_is_stored(store: str, court: Court, policy: dict[str, Any], is_told: bool) -> None:
    """What the policy took out is not in what the judge's model is told."""
    handler, model = MlflowCostHandler({**judges(), **policy}), FakeChat(answers=[f"write to {MAIL}"])

    def node(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    from langgraph.graph import START, MessagesState, StateGraph

    StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile().invoke(ASK, given(handler))
    assert JUDGING.wait(60)

    assert (MAIL in "".join(court.prompts)) == is_told


def test_where_nothing_is_stored_nothing_is_judged(store: str, court: Court) -> None:
    """Without payloads there is nothing to judge, and nobody is paid for it."""
    answer({**judges(), "artifact_level": "minimal"})

    assert court.prompts == []
    assert assessments(only_trace()) == {}


def test_what_a_judge_says_is_redacted(store: str, court: Court) -> None:
    """A judge's words go through the policy, too."""
    court.verdict = lambda: Reply(json.dumps({"result": "no", "rationale": f"it should name {MAIL}"}), USAGE)
    answer({**judges(), "redact_pii": True})

    assert assessments(only_trace())["kind"].rationale == "it should name [EMAIL_ADDRESS]"


@pytest.mark.nightly
def test_the_sample(store: str, court: Court) -> None:
    """None of the traces at 0, all at 1; in between those that their ids choose, in every process."""
    for rate in (0, 1):
        answer(judges(sample_rate=rate))
    assert len(court.prompts) == 1
    for _ in range(12):
        answer(judges(sample_rate=0.5))
    later = all_traces()[2:]

    assert [int(trace.info.trace_id[3], 16) < 8 for trace in later] == [bool(trace.info.assessments) for trace in later]


def test_a_budget_of_its_own(store: str, court: Court) -> None:
    """Past it nothing more is judged, with one warning; the application's budget has nothing of it."""
    policy = {**judges(budget={"max_cost_usd": 2 * JUDGE_USD}), "budget": {"max_cost_usd": 0.00046}}
    with pytest.warns(UserWarning, match="the judges' budget is used up") as told:
        handlers = [answer(policy) for _ in range(4)]

    assert len(court.prompts) == 2
    assert [len(trace.info.assessments) for trace in all_traces()] == [1, 1, 0, 0]
    assert [handler.summary().stopped_by for handler in handlers] == [None] * 4
    assert len(told) == 1


def test_a_failing_judge_harms_nothing(store: str, court: Court) -> None:
    """Its error reaches nobody, the others judge, and the trace is as it was."""

    @scorer
    def broken(outputs: Any) -> bool:
        raise LookupError(MAIL)

    answer(judges(scorers=[broken]))
    trace = only_trace()

    assert set(assessments(trace)) == {"kind"}
    assert mlflow_usd(trace) == pytest.approx(float(MINI_USD), rel=1e-9)


@pytest.mark.nightly
def test_nothing_is_judged_twice(store: str, court: Court) -> None:
    """Not by two handlers, nor where the assessment is there already, nor when something of the trace ends late."""
    first, second, model = MlflowCostHandler(judges()), MlflowCostHandler(judges()), FakeChat()
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, {"callbacks": [first, second]})
    assert JUDGING.wait(60)
    with mlflow.start_span("around") as span:
        mlflow.log_feedback(trace_id=span.trace_id, name="kind", value="no")
        one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(first))
    assert JUDGING.wait(60)

    assert len(court.prompts) == 1
    assert [len(trace.info.assessments) for trace in all_traces()] == [1, 1]


def test_a_price_of_our_book(store: str, court: Court) -> None:
    """The policy's price holds, and MLflow's figure stands beside it where it is another one."""
    answer({**judges(), "prices": {"overrides": {MINI: {"input": 1000, "output": 0}}}})
    metadata = assessments(only_trace())["kind"].metadata

    assert float(metadata["mlflow.assessment.judgeCost"]) == pytest.approx(2.0)
    assert float(metadata["cost.judge_mlflow_usd"]) == pytest.approx(JUDGE_USD)


def test_everywhere_a_judge_s_spans_are_its_own(store: str, court: Court) -> None:
    """A judge that asks a model through LangChain is governed as all are, in a trace of its own, which nobody judges."""
    judge_model = FakeChat(answers=["kind"])

    @scorer
    def asked(outputs: Any) -> str:
        return judge_model.invoke(str(outputs)).text

    try:
        handler = configure({"enable_judges": {"scorers": [asked]}, "tracking_uri": store}, everywhere=True)
        mlflow.set_experiment("tests")
        model = FakeChat()
        one_node(lambda state: model.invoke(state["messages"])).invoke(ASK)
        trace_id = handler.summary().trace_id
        assert JUDGING.wait(60)
    finally:
        govern_no_more()
    judged = stored(trace_id)

    assert cost_summary(trace_id).llm_calls == 1
    assert mlflow_usd(judged) == pytest.approx(float(MINI_USD), rel=1e-9)
    assert {name: each.value for name, each in assessments(judged).items()} == {"asked": "kind"}
    assert len(judge_model.requests) == 1
    assert len(all_traces()) == 2


@pytest.mark.nightly
def test_threads_end(store: str, court: Court) -> None:
    """Where there is nothing to judge any more, no thread is left."""
    with replaced(judges_idle_s=0.1):
        answer(judges())
        until = time.monotonic() + 30
        while any("judges" in thread.name for thread in threading.enumerate()) and time.monotonic() < until:
            for thread in threading.enumerate():
                if "judges" in thread.name:
                    thread.join(1)

    assert [thread.name for thread in threading.enumerate() if "judges" in thread.name] == []


PROGRAM = """
    import mlflow, sys
    from fake_models import FakeChat
    from ways import ASK, one_node
    from langchain_mlflow_cost import configure
    from langchain_mlflow_cost import limits
    {limits}
    handler = configure({{
        "tracking_uri": {store!r}, "experiment_name": "tests",
        "enable_judges": {{"guidelines": {{"kind": "It is kind."}}, "model": "openai:/gpt-4o-mini"}},
    }})
    model = FakeChat()
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, {{"callbacks": [handler]}})
"""


def run_program(store: str, shrunk: str = "") -> float:
    """A program of its own, which ends at once; how long it took."""
    tests = Path(__file__).parents[1]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM).format(store=store, limits=shrunk)],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests / 'support'}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - began


@pytest.mark.nightly
def test_a_program_that_ends_at_once(exported_in_threads: str, court: Court) -> None:
    """Its trace is stored and judged before the process ends."""
    run_program(exported_in_threads)

    assert set(assessments(only_trace())) == {"kind"}


@pytest.mark.nightly
def test_exit_is_bounded(exported_in_threads: str, court: Court) -> None:
    """A judge's model that does not answer keeps no process; the trace is stored all the same."""
    plain_s = run_program(exported_in_threads)
    hang = threading.Event()

    def wait() -> Reply:
        hang.wait(60)
        return Reply("", USAGE)

    court.verdict = wait
    try:
        hung_s = run_program(exported_in_threads, "limits._in_force = limits.Limits(judges_exit_s=2)")
    finally:
        hang.set()

    assert hung_s < plain_s + 15
    assert len(all_traces()) == 2


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["guidelines", "make_judge", "budget used up"])
def test_on_a_server(clean_mlflow: None, tmp_path: Path, court: Court, kind: str) -> None:
    """The same with the traces on MLflow's own server, and its default export: redacted, priced, once, in the budget."""
    with serving(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}") as server:
        mlflow.set_tracking_uri(server.uri)
        use_experiment("judged")
        # A month's sum is none of those that other tests have spent in this process.
        policy = judges(budget={"max_cost_usd": 0.0001, "per": "month"}) if kind == "budget used up" else judges()
        if kind == "make_judge":
            policy = {"enable_judges": {"scorers": [judge_of("kind")]}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the budget is used up by the first one
            handler = answer(policy | {"redact_pii": True}, text=f"a kind answer of {MAIL}")
            one_node(lambda state: FakeChat(answers=["another"]).invoke(state["messages"])).invoke(ASK, given(handler))
            assert JUDGING.wait(60)
        mlflow.flush_trace_async_logging()
        traces = all_traces()
        verdicts = [assessments(trace)["kind"] for trace in traces if assessments(trace)]

        assert len(traces) == 2
        assert len(verdicts) == len(court.prompts) == (1 if kind == "budget used up" else 2)
        assert not any(MAIL in prompt for prompt in court.prompts)
        for verdict in verdicts:
            assert float(verdict.metadata["mlflow.assessment.judgeCost"]) == pytest.approx(JUDGE_USD)
        assert all(mlflow_usd(trace) == pytest.approx(float(MINI_USD), rel=1e-9) for trace in traces)
