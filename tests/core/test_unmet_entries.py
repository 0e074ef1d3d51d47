"""An entry of `nodes` that meets no node is told, once: what it says holds nowhere."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from fake_models import FakeChat
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from ways import ASK, RUN, given

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.limits import replaced
from langchain_mlflow_cost.policy.problems import PolicyWarning

PRIVATE = {"log_prompts": False}


def graph_of(*names: str, run: str | None = None) -> Any:
    """The first of the nodes runs, or the one that is named, and no other."""
    graph = StateGraph(MessagesState)
    for name in names:
        graph.add_node(name, lambda state: {"messages": [FakeChat().invoke(state["messages"])]})
    return graph.add_conditional_edges(START, lambda _: run or names[0], list(names)).compile()


def told(run: Any, *, times: int = 1) -> list[str]:
    """What is warned of entries."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            run()
    return [str(each.message) for each in caught if issubclass(each.category, PolicyWarning)]


def invoking(policy: Any, graph: Any) -> Any:
    handler = MlflowCostHandler(policy)
    return lambda: graph.invoke(ASK, given(handler))


NEARLY = [
    ("Diagnosis", "diagnosis", "diagnosis"),
    ("dignosis", "diagnosis", "diagnosis"),
    ("write_report", "write-report", "write-report"),
    ("Researcher", "RESEARCHER", "RESEARCHER"),
    ("diagnosis_node", "diagnosis", "diagnosis"),
]


@pytest.mark.parametrize(("entry", "node", "meant"), NEARLY)
@pytest.mark.parametrize("run", RUN.values(), ids=list(RUN))
def test_a_misspelt_entry_is_told_at_once(store: str, run: Any, entry: str, node: str, meant: str) -> None:
    """In the first invocation, with the name that was meant, and not again."""
    handler, graph = MlflowCostHandler({"nodes": {entry: PRIVATE}}), graph_of(node)
    texts = told(lambda: run(graph, given(handler)), times=2)

    assert len(texts) == 1
    assert f'did you mean "{meant}"' in texts[0]
    assert f'"{entry}"' in texts[0]


def test_a_misspelt_path_is_told_at_once(store: str) -> None:
    """A name within a path, and an agent's."""
    team: Any = StateGraph(MessagesState).add_node("team", graph_of("writer")).add_edge(START, "team").compile()

    assert 'did you mean "team/writer"' in told(invoking({"nodes": {"team/Writer": PRIVATE}}, team))[0]


def test_a_misspelt_agent_is_told_at_once(store: str) -> None:
    """What a tool calls has a name as well."""
    doctor: Any = create_agent(FakeChat(), [], name="doctor")

    @tool
    def ask(question: str) -> str:
        """Ask."""
        return str(doctor.invoke({"messages": [("user", question)]})["messages"][-1].content)

    graph: Any = StateGraph(MessagesState)
    graph.add_node("desk", lambda _: {"messages": [("ai", ask.invoke({"question": "how?"}))]})
    texts = told(invoking({"nodes": {"Doctor": PRIVATE}}, graph.add_edge(START, "desk").compile()))

    assert ['did you mean "doctor"' in text for text in texts] == [True]


QUIET: dict[str, tuple[dict[str, Any], Any]] = {
    "it is met": ({"diagnosis": PRIVATE}, graph_of("diagnosis")),
    "its node did not run": ({"reviewers": PRIVATE}, graph_of("reviewer", "reviewers")),
    "another number": ({"worker_2": PRIVATE}, graph_of("worker_1")),
    "two entries": ({"writers": PRIVATE, "writer": PRIVATE}, graph_of("writer")),
    "a glob": ({"diag*s": PRIVATE}, graph_of("diagnosis")),
    "another word": ({"summary": PRIVATE}, graph_of("diagnosis")),
}


@pytest.mark.parametrize("case", QUIET)
def test_nothing_is_told_at_once(store: str, case: str) -> None:
    """Where the entry is right, or may be right yet."""
    nodes, graph = QUIET[case]

    assert told(invoking({"nodes": nodes}, graph)) == []


def test_an_entry_that_met_nothing_is_told_after_many_invocations(store: str) -> None:
    """At the end of the twentieth, and not again; those that met a node, or whose node might have run, are not."""
    nodes = {"summary": PRIVATE, "plan": PRIVATE, "writer": PRIVATE, "seldom": PRIVATE}
    run = invoking({"nodes": nodes}, graph_of("writer", "seldom"))

    assert told(run, times=19) == []
    (text,) = told(run)
    assert '"summary", "plan"' in text
    assert "writer" not in text
    assert "seldom" not in text
    assert "Policy.check(graph)" in text
    assert told(run, times=3) == []


def test_handlers_of_one_policy_are_counted_together(store: str) -> None:
    """A web application makes a handler for each request: no one of them sees twenty."""
    graph = graph_of("writer")

    def request() -> None:
        invoking({"nodes": {"summary_of_each_request": PRIVATE}}, graph)()

    with replaced(unmet_invocations=5):
        assert told(request, times=4) == []
        assert len(told(request, times=5)) == 1


def test_where_warnings_are_errors_it_is_logged(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """No warning of ours ends the user's graph."""
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error", PolicyWarning)
        invoking({"nodes": {"Diagnosis": PRIVATE}}, graph_of("diagnosis"))()

    assert "did you mean" in caplog.text


PROGRAM = """
import mlflow
from fake_models import FakeChat
from langgraph.graph import START, MessagesState, StateGraph
from langchain_mlflow_cost import MlflowCostHandler
mlflow.set_tracking_uri("sqlite:///end.db")
graph = StateGraph(MessagesState).add_node("writer", lambda s: {"messages": [FakeChat().invoke(s["messages"])]})
graph = graph.add_edge(START, "writer").compile()
MlflowCostHandler({"nodes": {"never_made": {"log_prompts": False}}})
for _ in range(3):
    handler = MlflowCostHandler({"nodes": {"summary": {"log_prompts": False}, "writer": {"log_prompts": False}}})
    graph.invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})
"""


@pytest.mark.nightly
def test_it_is_told_when_the_process_ends(tmp_path: Path) -> None:
    """Once for all handlers with these entries; a handler that nothing ran under says nothing."""
    support, root = Path(__file__).parents[1] / "support", Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(support)!r}, {str(root)!r}]\n{PROGRAM}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    assert ended.stderr.count('the entry "summary" of nodes met no node in this process') == 1
    assert "never_made" not in ended.stderr
