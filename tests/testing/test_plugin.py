"""The pytest plugin as its users run it: 20 regressions are caught, and nothing else is."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import langchain_mlflow_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ("pytester",)

PLUGIN = "langchain_mlflow_cost.pytest_plugin"
SUPPORT = Path(__file__).resolve().parents[1] / "support"

APP = '''
import base64, os
import mlflow, pytest
from fake_models import MINI, SONNET, UNKNOWN, FakeChat
from langchain_core.caches import InMemoryCache
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send
from langchain_mlflow_cost import MlflowCostHandler

WORSE = os.environ.get("WORSE") == "1"
SECRET = "the patient has a cough, since Tuesday"


class Answering(FakeChat):
    """Says more of its answers than their usage."""

    about: dict = {}

    def _next(self, messages):
        message = super()._next(messages)
        message.response_metadata = {**message.response_metadata, **self.about}
        return message


def used(into=1000, out=500, **details):
    answer = {"output_token_details": {"reasoning": details.pop("reasoning")}} if "reasoning" in details else {}
    told = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
    return {**told, **({"input_token_details": details} if details else {}), **answer}


def graph(**nodes):
    builder = StateGraph(MessagesState)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile()


def says(model, prompt="hello"):
    return lambda state: {"messages": [model.invoke(prompt)]}


def run(policy=None, **nodes):
    handler = MlflowCostHandler(policy)
    graph(**nodes).invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})
    return handler


PRIVATE = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


def told(policy, public=None):
    nodes = {"quiet": lambda state: {"messages": [FakeChat().invoke(SECRET)]}}
    if public is not None:
        nodes["public"] = public
    run(policy, **nodes)


@tool
def search(word: str) -> str:
    """Search."""
    return word
'''

COSTS = {
    "one more call": "run(writer=says(FakeChat()), **({'checker': says(FakeChat())} if WORSE else {}))",
    "two calls in a node": """
model = FakeChat()
run(writer=lambda state: {"messages": [model.invoke("a") for _ in range(2 if WORSE else 1)]})""",
    "longer prompt": "run(writer=says(FakeChat(usage=used(1200 if WORSE else 1000))))",
    "longer answer": "run(writer=says(FakeChat(usage=used(out=600 if WORSE else 500))))",
    "dearer model": "run(writer=says(FakeChat(model=SONNET if WORSE else MINI)))",
    "lost cache": "run(writer=says(FakeChat(usage=used(cache_read=0 if WORSE else 900))))",
    "cache written each time": """
details = {"cache_creation": 900} if WORSE else {"cache_read": 900}
run(writer=says(FakeChat(model=SONNET, usage=used(**details))))""",
    "more reasoning": "run(writer=says(FakeChat(usage=used(out=700 if WORSE else 500, reasoning=300 if WORSE else 100))))",
    "moved to another node": "run(**{'checker' if WORSE else 'writer': says(FakeChat())})",
    "no price": "run(writer=says(FakeChat(model=UNKNOWN if WORSE else MINI)))",
    "priority tier": "run(writer=says(Answering(about={'service_tier': 'priority'} if WORSE else {})))",
    "a tool's fee": "run({'prices': {'tools': {'search': 0.002 if WORSE else 0.001}}}, a=lambda state: {'messages': [('ai', search.invoke('x'))]})",
    "one more call of a tool": """
def node(state):
    return {"messages": [("ai", search.invoke("x")) for _ in range(2 if WORSE else 1)]}
run({"prices": {"tools": {"search": 0.001}}}, a=node)""",
    "LangChain's cache lost": """
model = FakeChat(cache=None if WORSE else InMemoryCache())
run(writer=lambda state: {"messages": [model.invoke("same"), model.invoke("same")]})""",
    "fan-out": """
def spread(state):
    return [Send("writer", state) for _ in range(4 if WORSE else 3)]
builder = StateGraph(MessagesState).add_node("writer", says(FakeChat())).add_conditional_edges(START, spread, ["writer"])
builder.compile().invoke({"messages": [("user", "hello")]}, {"callbacks": [MlflowCostHandler()]})""",
    "a retry": """
tries = []
def node(state):
    answer = FakeChat().invoke("a")
    tries.append(answer)
    if WORSE and len(tries) == 1:
        raise ConnectionError
    return {"messages": [answer]}
builder = StateGraph(MessagesState).add_node("writer", node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
builder.add_edge(START, "writer").compile().invoke({"messages": [("user", "hello")]}, {"callbacks": [MlflowCostHandler()]})""",
    "in a subgraph": """
inner = graph(writer=says(FakeChat(usage=used(1000 if not WORSE else 4000))))
run(team=inner, other=says(FakeChat(model=SONNET)))""",
    "one more invocation": "for _ in range(2 if WORSE else 1):\n    run(writer=says(FakeChat()))",
}
"""Each a test's body; WORSE is the regression."""

LEAKS = {
    "a policy that lost its entry": "told(PRIVATE if not WORSE else {'artifact_level': 'full'})",
    "a program's own tag": """
told(PRIVATE)
trace = mlflow.search_traces(max_results=1, return_type="list")[0]
mlflow.set_trace_tag(trace.info.trace_id, "note", SECRET if WORSE else "none")""",
    "base64 in feedback": """
told(PRIVATE)
trace = mlflow.search_traces(max_results=1, return_type="list")[0]
rationale = base64.b64encode(("x" + SECRET).encode()).decode() if WORSE else "fine"
mlflow.log_feedback(trace_id=trace.info.trace_id, name="note", value=True, rationale=rationale)""",
}


def as_tests(bodies: dict[str, str], fixture: str = "", end: str = "") -> str:
    tests = []
    for name, body in bodies.items():
        lines = "\n    ".join((body.strip() + ("\n" + end if end else "")).splitlines())
        tests.append(
            f"def test_{name.replace(' ', '_').replace(chr(39), '').replace('-', '_')}({fixture}):\n    {lines}\n"
        )
    return "\n\n".join(tests)


@pytest.fixture(scope="session")
def imported() -> None:
    """All that inner runs import: it is forgotten at their ends, and a second handler would meet the first one's guard."""
    for module in pkgutil.walk_packages(langchain_mlflow_cost.__path__, "langchain_mlflow_cost."):
        if ".startup" not in module.name and ".spark" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("fake_models", "langchain_core.caches", "langchain_core.tools", "langgraph.types", "langgraph.graph"):
        importlib.import_module(name)


class Keeper:
    """Keeps what inner runs imported of others: pytest forgets it, and SQLAlchemy's tables cannot be made twice."""

    def __init__(self) -> None:
        self._modules: dict[str, Any] = {}

    def pytest_sessionfinish(self) -> None:
        self._modules |= {
            name: module
            for name, module in sys.modules.items()
            if "pytest-of-" not in str(getattr(module, "__file__", ""))
        }

    def put_back(self) -> None:
        for name, module in self._modules.items():
            sys.modules.setdefault(name, module)


@pytest.fixture
def keeper(imported: None, store: str) -> Iterator[Keeper]:
    """Before `pytester`, which forgets at its end what was imported since its beginning."""
    keeper = Keeper()
    yield keeper
    keeper.put_back()


@pytest.fixture
def project(
    keeper: Keeper, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """A project with tests of its own, and the store of this test."""
    monkeypatch.syspath_prepend(str(SUPPORT))

    def run(*words: str, worse: bool = False) -> pytest.RunResult:
        monkeypatch.setenv("WORSE", "1" if worse else "0")
        named = [] if pytester._request.config.pluginmanager.has_plugin("langchain_mlflow_cost") else ["-p", PLUGIN]
        result = pytester.runpytest_inprocess(*named, "-q", "-p", "no:cacheprovider", *words, plugins=[keeper])
        keeper.put_back()
        return result

    return run


def test_dearer_tests_fail(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """Each of 18 regressions of cost fails its test."""
    pytester.makepyfile(test_app=APP + as_tests(COSTS))

    project("--cost-snapshot-update").assert_outcomes(passed=len(COSTS))
    worse = project("--cost-snapshot", worse=True)
    worse.assert_outcomes(failed=len(COSTS))
    worse.stdout.fnmatch_lines(
        [
            "*writer: 2 model calls, 1 in the snapshot (+100%)*",
            "*writer: 1,200 input tokens, 1,000 in the snapshot (+20%)*",
            "*no price is known for acme-unpriced-7*prices.overrides*",
        ],
        consecutive=False,
    )


@pytest.mark.nightly
def test_the_file(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """The same costs give the same bytes and no failure; what is cheaper is told; a part of the tests updates its own."""
    pytester.makepyfile(test_app=APP + as_tests(dict(list(COSTS.items())[:2])))
    file = pytester.path / "cost-snapshot.json"

    project("--cost-snapshot-update").stdout.fnmatch_lines(["cost-snapshot.json: costs of 2 tests written"])
    first = file.read_bytes()
    project("--cost-snapshot").assert_outcomes(passed=2)
    assert json.loads(first)["tests"]["test_app.py::test_one_more_call"] == {
        "writer": {"usd": 0.00045, "calls": 1, "input_tokens": 1000, "output_tokens": 500}
    }
    project("--cost-snapshot-update", "-k", "two_calls", worse=True).assert_outcomes(passed=1, deselected=1)
    project("--cost-snapshot").stdout.fnmatch_lines(["cheaper than cost-snapshot.json says: *test_two_calls*(-50%)*"])
    project("--cost-snapshot-update")
    assert first == file.read_bytes()
    file.unlink()
    project("--cost-snapshot").stdout.fnmatch_lines(["*cost-snapshot.json has no costs of this test*"])


@pytest.mark.nightly
def test_leaks_fail(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """Private text that reached the store fails the test that forbids it, and is not in the failure itself."""
    pytester.makepyfile(test_app=APP + as_tests(LEAKS, "assert_private", "assert_private([SECRET])"))

    project().assert_outcomes(passed=len(LEAKS))
    worse = project("--tb=line", worse=True)
    worse.assert_outcomes(failed=len(LEAKS))
    worse.stdout.fnmatch_lines(
        ["*texts?0? is in spans.content (spelling: *", "*texts?0? is in trace_tags.value (spelling: plain)*"]
    )
    assert "cough" not in worse.stdout.str()


@pytest.mark.nightly
def test_two_hundred_reruns_fail_nowhere(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """Parallel nodes, answers whose length differs by a few per cent, other processes' order: no false alarm."""
    body = """
import random
def usage():
    return used(1000, 500 if not WORSE else random.randint(470, 545))
run(**{f"n{number}": says(FakeChat(usage=usage())) for number in range(3)})"""
    pytester.makepyfile(
        test_app=APP + "@pytest.mark.parametrize('number', range(200))\n" + as_tests({"it": body}, "number")
    )

    project("--cost-snapshot-update").assert_outcomes(passed=200)
    project("--cost-snapshot", worse=True).assert_outcomes(passed=200)


ASKED = """
def test_handler(assert_cost):
    handler = run(writer=says(FakeChat()), checker=says(FakeChat(model=SONNET)))
    assert_cost(handler, max_usd=0.01095, max_calls=2, max_tokens=3000)
    assert_cost(handler, node="writer", max_usd="0.00045", max_calls=1, max_tokens=1500)
    assert_cost(mlflow.get_trace(handler.summary().trace_id), node="ch*", max_usd=0.0105)
    assert_cost(handler.summary().trace_id, max_calls=2)
    assert_cost(max_calls=2)
    assert_cost(handler, node="writers", max_calls=0)


def test_two_traces(assert_cost):
    handler, other = run(writer=says(FakeChat())), run(writer=says(FakeChat()))
    graph(writer=says(FakeChat())).invoke({"messages": []}, {"callbacks": [handler]})
    assert_cost(handler, max_calls=2)
    assert_cost([handler, other], max_calls=3)
    assert_cost(max_calls=3)


@pytest.mark.parametrize("limits", [dict(max_usd=0.0104), dict(max_calls=0, node="checker"), dict(max_tokens=1499), dict(node="chekcer", max_usd=1)])
def test_too_much(assert_cost, limits):
    handler = run(checker=says(FakeChat(model=SONNET)))
    assert_cost(handler, **limits)


def test_unpriced(assert_cost):
    handler = run(writer=says(FakeChat(model=UNKNOWN)), other=says(FakeChat()))
    assert_cost(handler, node="other", max_calls=1)
    assert_cost(handler, allow_unpriced=True, max_calls=2)
    assert_cost(handler, max_calls=2)


def test_nothing(assert_cost):
    assert_cost(MlflowCostHandler(), max_usd=1)


@pytest.mark.parametrize("most", [float("nan"), "inf", -1, 10**400, "much"])
def test_no_limit(assert_cost, most):
    with pytest.raises(ValueError, match="max_usd: expected a number, 0 or more, not "):
        assert_cost(run(writer=says(FakeChat())), max_usd=most)


@pytest.mark.parametrize("name", ["two\\nlines", "\\u05e9\\u05dc\\u05d5\\u05dd", "n" * 300, "[x] {y}"])
def test_odd_names(assert_cost, name):
    assert_cost(run(**{name: says(FakeChat())}), node=name, max_usd=0.00045, max_calls=1, max_tokens=1500)


def test_no_trace(assert_private):
    assert_private("nothing was run")
"""


def test_limits(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    """What is within passes to the last cent; what is over, misspelt, unpriced or not there fails and says why."""
    pytester.makepyfile(test_app=APP + ASKED)
    done = project("--tb=line")

    done.assert_outcomes(passed=11, failed=7)
    done.stdout.fnmatch_lines(
        [
            "*all nodes: 0.0105 USD, 0.0104 allowed*",
            "*node 'checker': 1 model calls, 0 allowed*",
            "*all nodes: 1,500 tokens, 1,499 allowed*",
            "*no model was called in node 'chekcer'; did you mean 'checker'?*",
            "*no price is known for acme-unpriced-7 (all nodes)*allow_unpriced=True*",
            "*no trace was begun*",
            "*no trace was begun*",
        ]
    )


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    """A run of pytest with the plugin imports nothing of it but its own file, and neither MLflow nor LangChain."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, pytest, json; pytest.main(['-q', '-p', '{PLUGIN}', '-p', 'no:cacheprovider']); print(json.dumps(sorted(sys.modules)))"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    ).stdout  # fmt: skip
    loaded = json.loads(told.splitlines()[-1])

    assert [name for name in loaded if name.startswith("langchain_mlflow_cost")] == ["langchain_mlflow_cost", PLUGIN]
    assert not {"mlflow", "langchain_core", "rich", "pydantic"} & set(loaded)


@pytest.mark.parametrize(
    ("file", "words", "told"),
    [
        ("{", (), "*no cost snapshot (JSONDecodeError*delete it and run --cost-snapshot-update*"),
        ('{"version": 2, "tests": {}}', (), "*cost snapshot of another version, 2*"),
        ('{"version": 1, "tests": {"a": {"b": {}}}}', (), "*no cost snapshot (KeyError: 'usd')*"),
        ('{"version": 1, "tests": {}}', ("--cost-snapshot-tolerance", "-1"), "*cost_snapshot_tolerance: expected a part such as 0.1, found '-1'*"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester, file: str, words: tuple[str, ...], told: str) -> None:  # fmt: skip
    """A broken snapshot or setting ends the run at its beginning, with what to do."""
    pytester.makepyfile("def test_nothing(): pass")
    (pytester.path / "cost-snapshot.json").write_text(file)

    done = project("--cost-snapshot", *words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([told])


@pytest.mark.nightly
def test_workers_of_xdist(project: Callable[..., pytest.RunResult], pytester: pytest.Pytester, store: str) -> None:
    """With pytest-xdist one process writes what all have noted."""
    pytester.makepyfile(test_app=APP + as_tests(dict(list(COSTS.items())[:5])))
    pytester.makeconftest(f"import mlflow\nmlflow.set_tracking_uri({store!r})\nmlflow.set_experiment('tests')\n")

    project("-n", "2", "--cost-snapshot-update").stdout.fnmatch_lines(["cost-snapshot.json: costs of 5 tests written"])
    project("-n", "2", "--cost-snapshot").assert_outcomes(passed=5)
    project("-n", "2", "--cost-snapshot", worse=True).assert_outcomes(failed=5)
