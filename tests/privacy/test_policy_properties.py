"""Whatever the payload looks like and whatever the policy says: what goes is gone, what stays is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mlflow
from fakes import Chat, State, graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from leaks import email, kept, prose, spelling_in

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from leaks import Sinks

BOUNDED = settings(
    max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)

SECRET, OTHER = "\ue000", "\ue001"
"""Stand for the text that must go and the one that must stay, until a payload is made of them."""

wrappings: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        lambda text: text,
        lambda text: f"so {text}, or not",
        lambda text: json.dumps({"a": text}),
        lambda text: json.dumps([json.dumps(text)]),
        lambda text: f"https://example.org/?q={quote(text)}",
        lambda text: f"\n\t{text}\r\n",
        lambda text: f"**{text}**",
        repr,
    ]
)
words = st.one_of(st.just(SECRET), st.text(max_size=12), st.just("yes"))
leaves = st.one_of(
    words, st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False), st.binary(max_size=8)
)
payloads = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(words, st.integers(0, 9)), inner, max_size=4),
        st.tuples(inner, inner),
        words.map(HumanMessage),
        st.builds(lambda text, more: AIMessage(text, additional_kwargs={"more": more}), words, inner),
    ),
    max_leaves=12,
)


def planted(value: Any, secret: str, wrap: Callable[[str], str]) -> Any:
    """The payload with the real text, wrapped, in the place of the mark."""
    if isinstance(value, str):
        return wrap(secret) if value == SECRET else value
    if isinstance(value, list | tuple):
        return type(value)(planted(member, secret, wrap) for member in value)
    if isinstance(value, dict):
        return {planted(key, secret, wrap): planted(member, secret, wrap) for key, member in value.items()}
    if isinstance(value, HumanMessage | AIMessage):
        more = planted(value.additional_kwargs, secret, wrap)
        return type(value)(planted(value.content, secret, wrap), additional_kwargs=more)
    return value


@BOUNDED
@given(payload=payloads, wrap=wrappings, make=st.sampled_from([prose, email]))
def test_any_payload(sinks: Sinks, payload: Any, wrap: Callable[[str], str], make: Callable[[], str]) -> None:
    """A text is gone from a payload of any shape, as a private text and as a personal one; its neighbour stays."""
    secret, other = make(), kept()
    value = planted(payload, secret, wrap)
    policy: dict[str, Any] = {"artifact_level": "full"}
    if make is prose:
        policy["nodes"] = {"quiet": {"log_prompts": False}}
    else:
        policy["redact_pii"] = True

    @mlflow.trace
    def helper(given: Any) -> Any:
        return given

    def work(_: State) -> State:
        RunnableLambda(lambda given: given).invoke({"value": value})
        helper(value)
        Chat(reply=other).invoke([HumanMessage(f"see {value!r}")])
        return {"extra": value}

    def quiet(_: State) -> State:
        Chat(reply="fine").invoke([HumanMessage(secret)])
        return {}

    graph(("work", work), ("quiet", quiet)).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(policy)]})
    stored = sinks.everything()

    assert spelling_in(secret, stored) is None
    assert other.encode() in stored


# --- any policy -----------------------------------------------------------------------------------------------------

overrides = st.fixed_dictionaries(
    {},
    optional={
        "log_prompts": st.booleans(),
        "log_artifacts": st.booleans(),
        "artifact_level": st.sampled_from(["minimal", "standard", "full"]),
        "redact_pii": st.booleans(),
    },
).filter(lambda one: one.get("log_artifacts") is not False or "artifact_level" not in one)
"""Settings of a node; one that contradicts itself is refused when it is loaded."""
NAMES = ("first", "second", "third")
LEVELS = ("minimal", "standard", "full")


@dataclass(frozen=True)
class Told:
    """What each node's model is told: a text, an address, and what it writes into the state."""

    text: str
    address: str
    state: str


@BOUNDED
@given(defaults=overrides, nodes=st.dictionaries(st.sampled_from(NAMES), overrides))
def test_any_policy(sinks: Sinks, defaults: dict[str, Any], nodes: dict[str, Any]) -> None:
    """Each node's texts are stored exactly where its own settings, else the defaults, keep them."""
    told = {name: Told(kept(), email(), kept()) for name in NAMES}
    ruling = {
        name: {"log_prompts": True, "log_artifacts": True, "artifact_level": "standard", "redact_pii": False}
        | defaults
        | nodes.get(name, {})
        for name in NAMES
    }

    def node(name: str) -> Callable[[State], State]:
        def run(_: State) -> State:
            Chat(reply=told[name].text).invoke(f"{name}, see {told[name].address}")
            RunnableLambda(lambda given: given).invoke({"state": told[name].state})
            return {}

        return run

    handler = MlflowCostHandler({**defaults, "nodes": nodes})
    graph(*((name, node(name)) for name in NAMES)).invoke({"messages": []}, {"callbacks": [handler]})
    stored = sinks.everything()

    for name, rules in ruling.items():
        level = rules["artifact_level"] if rules["log_artifacts"] else "minimal"
        payload = rules["log_prompts"] and level != "minimal"
        assert payload == (spelling_in(told[name].text, stored) is not None)
        assert (payload and not rules["redact_pii"]) == (spelling_in(told[name].address, stored) is not None)
        assert (rules["log_prompts"] and level == "full") == (spelling_in(told[name].state, stored) is not None)
    assert handler.summary().llm_calls == len(NAMES)


# --- any graph ------------------------------------------------------------------------------------------------------

Step = tuple[str, bool]
steps = st.lists(
    st.tuples(st.sampled_from(["say", "pass on", "trace", "raise", "stream", "sub"]), st.booleans()),
    min_size=1,
    max_size=6,
)


@BOUNDED
@given(plan=steps, position=st.integers(0, 5))
def test_any_graph(sinks: Sinks, plan: list[Step], position: int) -> None:  # noqa: C901 - a branch for each kind of step
    """A private text that goes through any chain of nodes, before and after its model, is nowhere."""
    secret, other = prose(), kept()

    def act(kind: str, with_text: bool) -> Callable[[State], State]:
        text = secret if with_text else other

        @mlflow.trace
        def helper(value: str) -> str:
            if kind == "raise":
                raise ValueError(f"no {value}")
            return value

        def run(state: State) -> Any:
            if kind == "say":
                return {"messages": [Chat(reply=text).invoke(state["messages"])]}
            if kind == "pass on":
                return {"extra": [state.get("extra"), text]}
            if kind == "stream":
                return {"messages": [AIMessage("".join(c.text for c in Chat(reply=text).stream(text)))]}
            if kind == "sub":
                inner = graph(("inner", lambda _: {"messages": [HumanMessage(text)]}))
                return {"messages": inner.invoke(state)["messages"][-1:]}
            try:
                return {"extra": helper(text)}
            except ValueError as error:
                return {"extra": str(error)}

        return run

    def quiet(_: State) -> State:
        return {"messages": [Chat(reply=f"well, {secret}").invoke(secret)]}

    nodes = [(f"node {number}", act(*step)) for number, step in enumerate(plan)]
    nodes.insert(min(position, len(nodes)), ("quiet", quiet))
    policy = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
    graph(*nodes).invoke({"messages": [HumanMessage(f"{other} first")]}, {"callbacks": [MlflowCostHandler(policy)]})
    stored = sinks.everything()

    assert spelling_in(secret, stored) is None
    assert other.encode() in stored
