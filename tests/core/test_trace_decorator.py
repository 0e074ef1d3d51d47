"""`trace_decorator`: a function as a span under the policy, and the very function where the policy is off."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fake_models import MINI_USD, FakeChat
from langgraph.graph import START, MessagesState, StateGraph
from stored_traces import all_traces, named, only_trace, root_of
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler, configure, trace_decorator

FIELDS = {"workflow_name": "support", "workflow_version": "2.1", "node_count": 3}
WORDS = "Quillfeather's words"


def asking(handler: MlflowCostHandler) -> Callable[[str], str]:
    """Asks a graph of one node, which answers with its own words."""
    model, said = FakeChat(answers=["an answer"]), list[str]()
    graph = one_node(lambda state: said.append(model.invoke(state["messages"]).text))

    def ask(_: str) -> str:
        graph.invoke(ASK, given(handler))
        return said[-1]

    return ask


# --- what the span is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("workflow_support", {}, "WORKFLOW"),
        ("My Workflow", {}, "WORKFLOW"),
        ("supportWORKFLOW2", {}, "WORKFLOW"),
        ("researcher", {}, "AGENT"),
        ("workflow", {"span_type": "TASK"}, "TASK"),
    ],
)
def test_type(store: str, name: str, options: dict[str, Any], expected: str) -> None:
    """A workflow's name says so; all else is an agent, unless the type is given."""
    trace_decorator(name, **options)(lambda: None)()

    assert root_of(only_trace()).span_type == expected


@pytest.mark.parametrize("level", ["minimal", "standard", "full"])
@pytest.mark.parametrize("place", ["around", "inside", "inside a private node"])
def test_attributes_stay_at_every_level(store: str, level: str, place: str) -> None:
    """What the decorator was given is stored, inside a node and around the invocation, whatever the level drops."""
    policy = {"artifact_level": level, "nodes": {"node": {"log_prompts": place != "inside a private node"}}}
    handler, model = MlflowCostHandler(policy), FakeChat()
    decorate = trace_decorator("workflow", **FIELDS)
    if place == "around":
        decorate(asking(handler))("hello")
    else:
        one_node(decorate(lambda state: model.invoke(state["messages"]))).invoke(ASK, given(handler))
    attributes = named(only_trace(), "workflow").attributes

    assert {key: attributes.get(key) for key in FIELDS} == FIELDS


def test_attributes_of_others_go_as_the_level_says(store: str) -> None:
    """Only what was given to the decorator stays: not what the function sets on its span, under the same name either."""
    handler = MlflowCostHandler({"artifact_level": "minimal"})

    @trace_decorator("workflow", node_count=3)
    def run(text: str) -> None:
        mlflow.get_current_active_span().set_attributes({"said": text})
        with mlflow.start_span("other") as span:
            span.set_attributes({"node_count": text})

    one_node(lambda _: run(WORDS) or "done").invoke(ASK, given(handler))
    trace = only_trace()

    assert named(trace, "workflow").attributes["node_count"] == 3
    assert WORDS not in trace.to_json()


def test_attributes_are_redacted(store: str) -> None:
    """They stay under the policy all the same: personal data in one goes, and a name in `redaction.keys`."""
    handler = MlflowCostHandler({"redact_pii": True, "redaction": {"keys": ["owner"]}, "artifact_level": "minimal"})
    trace_decorator("workflow", contact="jane.doe@example.com", owner="Jane", team="support")(asking(handler))("hello")
    attributes = named(only_trace(), "workflow").attributes

    assert attributes["contact"] == "[EMAIL_ADDRESS]"
    assert attributes["team"] == "support"
    assert attributes["owner"] != "Jane"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("workflow_a", {}, "unversioned"),
        ("workflow_a", {"workflow_version": None}, "unversioned"),
        ("agent_a", {"workflow_name": "a"}, "unversioned"),
        ("workflow_a", {"workflow_version": "3"}, "3"),
        ("agent_a", {}, None),
    ],
)
def test_version(store: str, name: str, options: dict[str, Any], expected: str | None) -> None:
    """A workflow that names no version is unversioned."""
    trace_decorator(name, **options)(lambda: None)()

    assert root_of(only_trace()).attributes.get("workflow_version") == expected


# --- what may be decorated -----------------------------------------------------------------------------------------


class Service:
    """Methods of each kind, with the decorator on either side."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        type(self).ask = staticmethod(ask)  # type: ignore[method-assign, assignment]

    @staticmethod
    def ask(text: str) -> str:
        raise NotImplementedError

    @trace_decorator("workflow")
    def method(self, text: str) -> str:
        return self.ask(text)

    @trace_decorator("workflow")
    async def coroutine(self, text: str) -> str:
        await asyncio.sleep(0)
        return self.ask(text)

    @trace_decorator("workflow")
    @staticmethod
    def static_inside(text: str) -> str:
        return Service.ask(text)

    @staticmethod
    @trace_decorator("workflow")
    def static_outside(text: str) -> str:
        return Service.ask(text)

    @trace_decorator("workflow")
    @classmethod
    def of_class_inside(cls, text: str) -> str:
        return cls.ask(text)

    @classmethod
    @trace_decorator("workflow")
    def of_class_outside(cls, text: str) -> str:
        return cls.ask(text)

    @trace_decorator("workflow")
    @classmethod
    async def of_class_coroutine(cls, text: str) -> str:
        return cls.ask(text)

    @trace_decorator("workflow")
    def generator(self, text: str) -> Iterator[str]:
        yield self.ask(text)
        yield "more"

    @trace_decorator("workflow")
    async def async_generator(self, text: str) -> AsyncIterator[str]:
        yield self.ask(text)
        yield "more"

    @trace_decorator("workflow")
    @staticmethod
    def static_generator(text: str) -> Iterator[str]:
        yield Service.ask(text)
        yield "more"


def run(made: Any) -> Any:
    """The whole answer, however it is given."""
    if inspect.isasyncgen(made):

        async def read() -> list[Any]:
            return [each async for each in made]

        return asyncio.run(read())
    if inspect.iscoroutine(made):
        return asyncio.run(made)
    return list(made) if inspect.isgenerator(made) else made


METHODS = [name for name, value in vars(Service).items() if not name.startswith("_") and name != "ask"]


@pytest.mark.parametrize("name", METHODS)
def test_every_kind_of_function(store: str, name: str) -> None:
    """Each is one span around its calls, with their sums, without `self`, and gives what it gave before."""
    handler = MlflowCostHandler()
    service = Service(asking(handler))
    answer = run(getattr(service, name)("hello"))
    trace = only_trace()
    root = root_of(trace)

    assert answer == (["an answer", "more"] if "generator" in name else "an answer")
    assert (root.name, root.span_type, root.inputs) == ("workflow", "WORKFLOW", {"text": "hello"})
    assert root.attributes["cost.total_usd"] == pytest.approx(float(MINI_USD), rel=1e-9)
    assert root.attributes["cost.llm_calls"] == 1
    assert handler.summary(trace.info.trace_id).llm_calls == 1


@pytest.mark.parametrize("name", METHODS)
def test_the_kind_stays(name: str) -> None:
    """Frameworks that ask what a function is (`iscoroutinefunction`, its signature, its name) are told the same."""
    decorated, value = getattr(Service, name), vars(Service)[name]
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)

    assert [kind.__name__ for kind in kinds if kind(decorated)] == [
        kind.__name__ for kind in kinds if kind(inspect.unwrap(decorated))
    ]
    assert isinstance(value, staticmethod) == name.startswith("static")
    assert isinstance(value, classmethod) == name.startswith("of_class")
    assert decorated.__name__ == name
    assert "text" in inspect.signature(decorated).parameters


@trace_decorator("stream")
def echo(first: str) -> Generator[str, str, str]:
    """Says what it is sent, and what was thrown at it."""
    said = first
    while said != "end":
        try:
            said = yield said
        except LookupError as error:
            said = f"caught {error}"
    return "returned"


def test_a_generator_is_driven_as_before(store: str) -> None:
    """What is sent, thrown and returned gets through."""
    stream = echo("a")
    answers = [next(stream), stream.send("b"), stream.throw(LookupError("c"))]
    with pytest.raises(StopIteration) as end:
        stream.send("end")

    assert answers == ["a", "b", "caught c"]
    assert end.value.value == "returned"
    assert root_of(only_trace()).outputs == answers


def test_a_stream_that_is_closed_early_is_stored(store: str) -> None:
    """The client has gone away: the user's own `finally` runs, the trace ends, with the cost of what was asked."""
    handler, ended = MlflowCostHandler(), []
    ask = asking(handler)

    @trace_decorator("workflow_stream")
    def answer() -> Iterator[str]:
        try:
            yield ask("hello")
            yield "never read"
        finally:
            ended.append("closed")

    stream: Any = answer()
    next(stream)
    stream.close()
    root = root_of(only_trace())

    assert ended == ["closed"]
    assert (root.status.status_code.value, root.outputs) == ("OK", ["an answer"])
    assert root.attributes["cost.total_usd"] == pytest.approx(float(MINI_USD), rel=1e-9)


def test_an_async_stream_that_is_closed_early_is_stored(exported_in_threads: str) -> None:
    """The same in async code, with the graph's own stream inside."""
    handler, model = MlflowCostHandler(), FakeChat()

    async def node(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()

    @trace_decorator("workflow_stream")
    async def answer() -> AsyncIterator[str]:
        async for _ in graph.astream(ASK, given(handler), stream_mode="updates"):
            yield "update"
            yield "never read"

    async def read() -> None:
        stream: Any = answer()
        await anext(stream)
        await stream.aclose()

    asyncio.run(read())
    root = root_of(only_trace())

    assert (root.name, root.outputs) == ("workflow_stream", ["update"])
    assert root.attributes["cost.llm_calls"] == 1


def test_an_error_of_a_stream_is_the_users(store: str) -> None:
    """It gets out as it is; the span has it, as far as the policy lets it."""

    @trace_decorator("workflow_stream")
    def answer() -> Iterator[str]:
        yield "one"
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        list(answer())

    assert root_of(only_trace()).status.status_code.value == "ERROR"


def test_two_streams_read_in_turns_are_two_traces(store: str) -> None:
    """A stream that waits for its reader is not around what is read meanwhile."""
    handler = MlflowCostHandler()
    ask = asking(handler)

    @trace_decorator("workflow_stream")
    def answer(number: int) -> Iterator[str]:
        yield ask("hello")
        yield ask(str(number))

    streams = [answer(number) for number in range(2)]
    for _ in range(2):
        for stream in streams:
            next(stream)
    for stream in streams:
        list(stream)

    assert [2, 2] == [root_of(trace).attributes["cost.llm_calls"] for trace in all_traces()]


# --- off -----------------------------------------------------------------------------------------------------------


def function(text: str) -> str:
    """The user's own."""
    return text.upper()


def by_a_handler(_: Path, __: pytest.MonkeyPatch) -> None:
    MlflowCostHandler()
    MlflowCostHandler({"enabled": False})


def by_configure(_: Path, __: pytest.MonkeyPatch) -> None:
    configure({"enabled": False})


def by_the_environment(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "off.yaml").write_text("enabled: false\n")
    patch.setenv("LANGCHAIN_MLFLOW_COST_POLICY", str(folder / "off.yaml"))


OFF = [by_a_handler, by_configure, by_the_environment]


@pytest.mark.parametrize("switch_off", OFF)
def test_off_gives_the_function_back(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch_off: Callable[..., None]
) -> None:
    """The very object, whatever it is: nothing is recorded."""
    switch_off(tmp_path, monkeypatch)

    for each in (function, Service.__dict__["static_inside"], echo, print):
        assert trace_decorator("workflow", node_count=1)(each) is each


@pytest.mark.parametrize("switch_off", OFF[:2])
def test_off_after_it_was_decorated(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch_off: Callable[..., None]
) -> None:
    """Modules are imported before `configure` is called: what was decorated then writes nothing either."""
    decorated = trace_decorator("workflow")(function)
    switch_off(tmp_path, monkeypatch)
    service = Service(function)
    answers = [decorated("words"), *(run(getattr(service, name)("words")) for name in METHODS)]

    assert {"WORDS"} == {answer[0] if isinstance(answer, list) else answer for answer in answers}
    assert all_traces() == []


def test_one_tenant_s_switch_is_not_the_others(store: str) -> None:
    """A request whose own handler is off records nothing, and the one beside it does."""

    @trace_decorator("workflow")
    async def answer() -> None:
        await asyncio.sleep(0)

    async def request(policy: dict[str, Any]) -> None:
        MlflowCostHandler(policy)
        await asyncio.sleep(0)
        await answer()

    async def both() -> None:
        await asyncio.gather(request({}), request({"enabled": False}))

    asyncio.run(both())

    assert len(all_traces()) == 1


# --- with no governed run in it or around it -----------------------------------------------------------------------

KEY = "sk-" + "proj-" + "81641632ac96bdaf8069c5c146befa0e976f3bbf"


@trace_decorator("workflow_alone", workflow_name="support")
def alone(text: str) -> str:
    """No handler is passed to anything in it; a span of another library is."""
    with mlflow.start_span("inner") as span:
        span.set_inputs({"text": text})
    return f"got {text}"


@trace_decorator("workflow_alone")
async def alone_async(text: str) -> str:
    return alone(text)


@trace_decorator("workflow_alone")
def alone_stream(text: str) -> Iterator[str]:
    yield alone(text)


@trace_decorator("workflow_alone")
async def alone_async_stream(text: str) -> AsyncIterator[str]:
    yield alone(text)


ALONE = [alone, alone_async, alone_stream, alone_async_stream]


@pytest.mark.sampled(is_in=lambda level, decorated: level == "minimal" or decorated is alone)
@pytest.mark.parametrize("decorated", ALONE, ids=lambda each: each.__wrapped__.__name__)
@pytest.mark.parametrize("level", ["minimal", "standard", "full"])
def test_the_last_handler_s_policy_holds(exported_in_threads: str, level: str, decorated: Callable[[str], Any]) -> None:
    """Where no handler governs: redacted, and no more than the level keeps, also of what is below; attributes stay."""
    MlflowCostHandler({"artifact_level": level, "redact_pii": True})
    answer = run(decorated(f"jane.doe@example.com {KEY} {WORDS}"))
    mlflow.flush_trace_async_logging()
    trace = only_trace()
    root, stored = root_of(trace), trace.to_json()

    assert WORDS in str(answer)
    assert "jane.doe" not in stored
    assert KEY not in stored
    assert (WORDS in stored) == (level != "minimal")
    assert (root.inputs is None) == (level == "minimal")
    assert (named(trace, "inner").inputs is None) == (level == "minimal")
    assert root.attributes["policy.artifact_level"] == level


def test_what_was_raised_is_under_the_policy(store: str) -> None:
    """An error's message, its stack trace, and the status."""
    MlflowCostHandler()

    @trace_decorator("agent")
    def fail(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match=KEY):
        fail(KEY)

    assert KEY not in only_trace().to_json()


def test_before_any_handler_the_environment_s_policy_holds(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that makes no handler at all, and only calls what is decorated."""
    (tmp_path / "policy.yaml").write_text("artifact_level: minimal\n")
    monkeypatch.setenv("LANGCHAIN_MLFLOW_COST_POLICY", str(tmp_path / "policy.yaml"))

    assert alone(WORDS) == f"got {WORDS}"
    assert WORDS not in only_trace().to_json()


def test_before_any_handler_and_without_a_policy_the_defaults_hold(store: str) -> None:
    """Secrets go; LangChain's autolog is not switched on by that."""
    alone(f"{WORDS} {KEY}")
    stored = only_trace().to_json()

    assert WORDS in stored
    assert KEY not in stored


def test_the_stricter_of_two_holds(store: str) -> None:
    """The one that was made last, and the one that a run inside was given: around it both hold."""
    inner = MlflowCostHandler({"redact_pii": True})
    MlflowCostHandler({"redaction": {"patterns": {"WORDS": WORDS}}})

    trace_decorator("workflow")(asking(inner))(f"jane.doe@example.com {WORDS}")
    trace = only_trace()

    assert WORDS not in trace.to_json()
    assert "jane.doe" not in trace.to_json()
    assert root_of(trace).attributes["cost.llm_calls"] == 1
    assert inner.summary(trace.info.trace_id).llm_calls == 1


def test_each_request_has_its_own_policy(store: str) -> None:
    """Two tenants at once: the policy of the handler that was made in the same task."""

    async def request(policy: dict[str, Any], text: str) -> None:
        MlflowCostHandler(policy)
        await asyncio.sleep(0)
        await alone_async(text)

    async def both() -> None:
        await asyncio.gather(request({"artifact_level": "minimal"}, "first tenant"), request({}, "second tenant"))

    asyncio.run(both())
    stored = "".join(trace.to_json() for trace in all_traces())

    assert "first tenant" not in stored
    assert "second tenant" in stored


def test_the_span_of_another_function_is_mlflow_s(store: str) -> None:
    """What is neither decorated nor below a decorated function stays as it was without us."""
    MlflowCostHandler({"artifact_level": "minimal"})
    alone("hello")
    with mlflow.start_span("workflow_alone") as span:
        span.set_inputs({"text": WORDS})

    assert sum(WORDS in trace.to_json() for trace in all_traces()) == 1
