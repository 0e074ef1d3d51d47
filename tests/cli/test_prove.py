"""`mlflow-cost prove`: a user's own graph with planted texts, and any store searched byte by byte."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from leaks import letters

from langchain_mlflow_cost.redaction.spellings import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SHOP = """
from typing import Annotated, Literal, TypedDict

import mlflow
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel


class Route(BaseModel):
    target: Literal["billing", "doctor"]
    reason: str


class State(TypedDict):
    messages: Annotated[list, add_messages]
    route: str
    customer: str


@tool
def lookup(query: str, limit: int = 3) -> str:
    "Look up."
    raise RuntimeError("must not run")


gpt, claude = ChatOpenAI(model="gpt-4o-mini"), ChatAnthropic(model="claude-sonnet-4-5")


def router(state):
    found = gpt.with_structured_output(Route).invoke([("system", "route"), *state["messages"]])
    return {"route": found.target}


def doctor(state):
    return {"messages": [gpt.invoke([("user", "diagnose " + state["customer"])])]}


def review(state):
    found = claude.with_structured_output(Route).invoke(state["messages"])
    return {"messages": [("ai", gpt.invoke("Say APPROVED or not: " + found.reason).text)]}


def verdict(state):
    return "ship" if "APPROVED" in state["messages"][-1].content else END


graph = StateGraph(State)
graph.add_node("router", router)
graph.add_node("doctor", doctor)
graph.add_node("billing", create_agent(claude, [lookup]))
graph.add_node("review", review)
graph.add_node("ship", lambda state: {"customer": "shipped"})
graph.add_edge(START, "router")
graph.add_conditional_edges("router", lambda state: state["route"], ["doctor", "billing"])
graph.add_edge("doctor", "review")
graph.add_edge("billing", "review")
graph.add_conditional_edges("review", verdict, ["ship", END])
app = graph.compile()
"""
"""A real one: structured outputs in two providers' ways, an agent with a tool, routers that read answers."""

SMALL = """
import socket

import mlflow
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

model = ChatOpenAI(model="gpt-4o-mini")


def ask(state):
    return {"messages": [model.invoke(state["messages"])]}


def built(*nodes, route=None, checkpointer=None):
    graph = StateGraph(MessagesState)
    for at, node in enumerate(nodes):
        graph.add_node(node.__name__, node)
        graph.add_edge(nodes[at - 1].__name__ if at else START, node.__name__)
    return graph.compile(checkpointer=checkpointer)


def past_the_policy():
    def leaky(state):
        with mlflow.start_run():
            mlflow.log_param("question", state["messages"][0].content[:200])
        return ask(state)

    return built(leaky)


def never():
    graph = StateGraph(MessagesState)
    graph.add_node("first", ask)
    graph.add_node("secret", ask)
    graph.add_edge(START, "first")
    graph.add_conditional_edges("first", lambda state: 1 + len(state["messages"]) < 0, {True: "secret", False: END})
    return graph.compile()


def broken():
    def secret(state):
        raise ValueError("always")

    return built(secret)


doctor = create_agent(model, [], name="doctor")


@tool
def ask_doctor(question: str) -> str:
    "Ask."
    return doctor.invoke({"messages": [("user", question)]})["messages"][-1].content


agent = create_agent(model, [ask_doctor])


def online():
    def asking(state):
        try:
            socket.create_connection(("example.com", 443))
        except OSError:
            pass
        return ask(state)

    return built(asking)


def human():
    def approve(state):
        return {"messages": [("user", str(interrupt({"question": "go on?"})))]}

    def secret(state):
        return ask(state)

    return built(ask, approve, secret, checkpointer=InMemorySaver())


def served():
    def decide(state):
        interrupt("are you there?")
        said = interrupt({"question": "approve or not?"})
        return Command(goto="secret" if said == "approve" else "rejected")

    graph = StateGraph(MessagesState)
    graph.add_node("decide", decide, destinations=("secret", "rejected"))
    graph.add_node("secret", ask)
    graph.add_node("rejected", ask)
    return graph.add_edge(START, "decide").compile()
"""
"""Graphs that go wrong in one way each."""


@pytest.fixture
def prove(cli: Cli, tmp_path: Path) -> Iterator[Callable[..., tuple[Done, dict[str, Any]]]]:
    """Run `mlflow-cost prove` on one of the graphs above under a policy; how it ended, and what proof.json says."""
    (tmp_path / "shop_app.py").write_text(SHOP)
    (tmp_path / "small_app.py").write_text(SMALL)

    def run(graph: str, policy: str, *words: object) -> tuple[Done, dict[str, Any]]:
        (tmp_path / "policy.yaml").write_text(policy)
        done = cli("prove", "--graph", graph, "--policy", "policy.yaml", *words)
        return done, json.loads((tmp_path / "mlflow-cost-proof" / "proof.json").read_text())

    yield run
    for name in ("shop_app", "small_app"):
        sys.modules.pop(name, None)


SECRET = "nodes: {secret: {log_prompts: false}}\nautolog_enabled: false\n"


@pytest.mark.nightly
def test_nothing_of_a_real_graph_is_stored(prove: Any, tmp_path: Path) -> None:
    """All nodes run, tools do not, schemas are satisfied; what the policy keeps out is in no byte, and the rest is there."""
    policy = "redact_pii: true\nartifact_level: full\nnodes: {doctor: {log_prompts: false}}\nautolog_enabled: false\n"

    done, told = prove("shop_app:app", policy)

    assert done.code == 0, done.err + done.out
    assert told["verdict"] == "none found"
    assert told["not_reached"] == []
    assert told["nodes"]["doctor"]["private"]
    assert not any(node["failed"] for node in told["nodes"].values())
    assert told["nodes"]["billing/tools"]["tool_calls"] > 0
    assert told["must_not_be_stored"]["prose"] > 0
    assert {"EMAIL_ADDRESS", "SECRET", "IBAN_CODE", "CREDIT_CARD"} <= set(told["must_not_be_stored"])
    assert told["may_be_stored_and_found"] > 0
    assert told["policy_sha256"] == hashlib.sha256((tmp_path / "policy.yaml").read_bytes()).hexdigest()
    assert told["versions"]["langgraph"]
    assert "None found" in done.out
    assert (tmp_path / "mlflow-cost-proof" / "proof.md").read_text() == done.out


def test_an_unreached_private_node_proves_nothing(prove: Any) -> None:
    """A node that nothing is said of is named; a private one among them is never `none found`."""
    done, told = prove("small_app:never", SECRET, "--rounds", 2)

    assert done.code == 2
    assert told["verdict"] == "not proved"
    assert told["not_reached"] == ["secret"]
    assert "NOT PROVED" in done.out
    assert "None found" not in done.out


@pytest.mark.nightly
def test_a_leak_past_the_policy_is_found(prove: Any) -> None:
    """What a node writes past the tracing is found, and where; exit status 1."""
    done, told = prove("small_app:past_the_policy", "redact_pii: true\nautolog_enabled: false\n", "--rounds", 3)

    # Neither MLflow's talk of its tables nor a place in somebody's code.
    assert [line for line in done.err.splitlines() if not line.startswith("mlflow-cost: ")] == []
    assert done.code == 1
    assert any("params.value" in place for each in told["found"] for place in each["places"])
    assert "FOUND" in done.out


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("graph", "policy", "words", "code"),
    [
        ("broken", SECRET, (), 2),
        ("never", "nodes: {nobody: {log_prompts: false}}\nautolog_enabled: false\n", (), 2),
        ("agent", "nodes: {doctor: {log_prompts: false}}\nautolog_enabled: false\n", (), 2),
        ("agent", "nodes: {doctor: {log_prompts: false}}\nautolog_enabled: false\n", ("--run-tools",), 0),
        ("human", SECRET, (), 0),
        ("human", "log_prompts: false\nautolog_enabled: false\n", (), 0),
        ("human", "artifact_level: minimal\nautolog_enabled: false\n", (), 0),
    ],
    ids=[
        "fails",
        "no-such-node",
        "agent-in-a-tool",
        "agent-in-a-tool-that-runs",
        "interrupt",
        "all-private",
        "minimal",
    ],
)
def test_how_it_ends(prove: Any, graph: str, policy: str, words: tuple[str, ...], code: int) -> None:
    """A private node has to have run to its end at least once: an agent in a tool that does not run has not."""
    done, told = prove(f"small_app:{graph}", policy, "--rounds", 4, *words)

    assert done.code == code, done.out + done.err
    assert (told["verdict"] == "none found") == (code == 0)


@pytest.mark.nightly
def test_people_are_asked(prove: Any) -> None:
    """A graph that is given its checkpointer where it is served goes on here too, and the answers take every way."""
    done, told = prove("small_app:served", SECRET)

    assert done.code == 0, done.out + done.err
    assert told["not_reached"] == []
    assert {each["failure"] for each in told["rounds"]} == {None}


@pytest.mark.nightly
def test_what_only_fails_was_reached(prove: Any) -> None:
    """It is not said of a node that ran and raised that it was not reached."""
    done, told = prove("small_app:broken", SECRET, "--rounds", 3)

    assert done.code == 2
    assert told["why_not"][0] == "private and only failed: secret"
    assert "Only failed: secret." in done.out
    assert "Not reached" not in done.out


@pytest.mark.nightly
def test_nothing_leaves_the_machine(prove: Any) -> None:
    """A node that asks another host is refused, and the host is named."""
    done, told = prove("small_app:online", "redact_pii: true\nautolog_enabled: false\n", "--plant", "Quillfeather-77")

    assert told["hosts_refused"] == ["example.com"]
    assert told["planted"]["given"] > 0
    assert done.code == 1  # nothing in the policy knows that name


# --- a store that is there already --------------------------------------------------------------------------------------

TEXTS = [f"{letters(12)} told us in confidence", f"{letters(12)} said «never»"]


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder with the first text in many forms, and files that cannot be read."""
    folder = tmp_path / "stores"
    folder.mkdir()
    with sqlite3.connect(folder / "some.db") as database:
        database.execute("CREATE TABLE notes (id INTEGER, body TEXT)")
        database.execute("INSERT INTO notes VALUES (1, ?)", ("x" * 9_000 + TEXTS[0],))
    database.close()
    (folder / "log.txt.gz").write_bytes(gzip.compress(TEXTS[0].encode()))
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/notes.txt", TEXTS[0])
    (folder / "clean.txt").write_text("nothing here")
    (folder / "more.zst").write_bytes(b"\x28\xb5\x2f\xfd and so on")
    (folder / "broken.gz").write_bytes(b"\x1f\x8b\x08 broken")
    return folder


def test_a_store_is_searched_for_texts(cli: Cli, stores: Path) -> None:
    """A text is found over the pages of a database and in archives; what cannot be read is named; no text is printed."""
    (stores.parent / "texts.txt").write_text("\n".join(TEXTS))

    done = cli("prove", "stores", "--text-file", "texts.txt", "--json")
    told = json.loads(done.out)

    assert done.code == 1
    assert {(each["what"], Path(each["place"]).name) for each in told["found"]} == {
        ("text 1", "some.db"),  # the text is in one page of it, and not only in the value
        ("text 1", "some.db: notes.body"),
        ("text 1", "log.txt.gz!content"),
        ("text 1", "notes.txt"),
    }
    assert {Path(place).name for place in told["not_read"]} == {"more.zst", "broken.gz"}
    assert told["searched"]["mb_per_s"] > 0
    assert not any(text in done.out + done.err for text in TEXTS)


@pytest.mark.parametrize("spelling", [*spellings(TEXTS[1])][::4])
def test_spellings_are_found(cli: Cli, tmp_path: Path, spelling: str) -> None:
    """In whatever form a text was written."""
    (tmp_path / "texts.txt").write_text(TEXTS[1])
    (tmp_path / "file.bin").write_bytes(b"--" + spellings(TEXTS[1])[spelling] + b"--")

    assert cli("prove", "file.bin", "--text-file", "texts.txt").code == 1


def test_a_store_is_searched_for_what_a_policy_redacts(cli: Cli, stores: Path) -> None:
    """Without texts: the entity and the place, never the value."""
    (stores / "note.txt").write_text("write to bob.miller@example.com")

    done = cli("prove", stores / "note.txt")

    assert done.code == 1
    assert "EMAIL_ADDRESS: " in done.out
    assert "bob.miller" not in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prove",), "name a STORE"),
        (("prove", "--graph", "x:y"), "needs the policy"),
        (("prove", "nowhere"), "there is no such file or folder"),
        (("prove", "stores", "--text-file", "short.txt"), "would be found by chance"),
    ],
)
def test_what_is_asked_wrongly(cli: Cli, stores: Path, words: tuple[str, ...], said: str) -> None:
    """One line that says what is missing."""
    (stores.parent / "short.txt").write_text("abc")

    done = cli(*words)

    assert done.code in {1, 2}
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "off.yaml"), "enabled is false: nothing is traced, and there is nothing to prove"),
        (("--policy", "on.yaml", "--input", "no.json"), "no.json: expected JSON"),
        (("--policy", "on.yaml", "--input", "plain.json"), "has no {plant}; write it where a text is to be planted"),
        (("--policy", "on.yaml", "--plant", "abc"), "--plant: a text of 3 characters would be found by chance"),
        (("--policy", "on.yaml", "--out", "other"), "other holds something else; name an empty or new folder"),
        (("--policy", "on.yaml", "--graph", "json:dumps"), "--graph json:dumps"),
    ],
)
def test_a_graph_that_is_asked_about_wrongly(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    """One line that says what is wrong; nothing of the user's is touched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "off.yaml").write_text("enabled: false\n")
    (tmp_path / "on.yaml").write_text("nodes: {secret: {log_prompts: false}}\n")
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "plain.json").write_text('{"messages": []}')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")

    done = cli("prove", *(() if "--graph" in words else ("--graph", "json:loads")), *words)

    assert (done.code in {1, 2}, done.out) == (True, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"
