"""What a session's private nodes said is known in its later turns, in every worker, or all of it is withheld."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from child import bare_environment
from fakes import Chat, graph
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from leaks import Sinks, folder_bytes, kept, letters, prose, spelling_in
from redis_server import RedisServer, redis_server_in

from langchain_mlflow_cost import MlflowCostHandler, PolicyError, limits
from langchain_mlflow_cost.tracing.session import SESSIONS, Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE: dict[str, Any] = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}


@pytest.fixture(autouse=True)
def no_sessions() -> Iterator[None]:
    SESSIONS.clear()
    yield
    SESSIONS.clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = redis_server_in(tmp_path)
    server.start()
    yield server
    server.stop()


def thread(**settings: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": letters(20)}, **settings}


def turn(app: Any, given: Any, config: dict[str, Any], policy: dict[str, Any] = PRIVATE) -> None:
    """One request, with a handler of its own."""
    app.invoke(given, {**config, "callbacks": [MlflowCostHandler(policy)]})


def assistant(saver: Any) -> Any:
    """Its private node answers a question, a public one is told all that was said before."""

    def quiet(state: Any) -> Any:
        question = state["messages"][-1]
        return {"messages": [Chat(reply=f"As to {question.content}").invoke([question])]}

    def loud(state: Any) -> Any:
        return {"extra": Chat().invoke(state["messages"]).content}

    return graph(("quiet", quiet), ("loud", loud), checkpointer=saver)


def another_worker() -> None:
    """Let nothing be known of any session, as in a process that has just begun."""
    SESSIONS.clear()


def test_a_file_of_an_earlier_turn(sinks: Sinks) -> None:
    """An image that a private node was told in turn 1 is in no file, span or state of turn 2, whose handler is new."""
    image = b"\x89PNG\r\n\x1a\n" + letters(32).encode() * 40
    data = base64.b64encode(image).decode()
    block = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    config, app = thread(), assistant(InMemorySaver())
    turn(app, {"messages": [HumanMessage([block])]}, config)
    turn(app, {"messages": [HumanMessage(kept())]}, config)
    stored = sinks.everything()

    assert image[8:40] not in stored
    assert data[12:60].encode() not in stored


def test_the_same_process_knows_its_sessions(sinks: Sinks) -> None:
    """In the process that has seen a session from its start, later turns keep what is not private."""
    question, words, config, app = prose(), kept(), thread(), assistant(InMemorySaver())
    turn(app, {"messages": [("user", question)]}, config)
    turn(app, {"messages": [("user", prose())], "extra": words}, config)
    turn(app, {"messages": [("user", prose())], "extra": words}, config)
    stored = sinks.everything()

    assert spelling_in(question, stored) is None
    assert words.encode() in stored


@pytest.mark.parametrize("policy", ["private", "open"])
def test_a_state_from_elsewhere_is_withheld(sinks: Sinks, policy: str) -> None:
    """A worker that takes a thread up which another has begun stores no text of it, and says so once."""
    question, words, config, app = prose(), kept(), thread(), assistant(InMemorySaver())
    settings = PRIVATE if policy == "private" else {"artifact_level": "full"}
    turn(app, {"messages": [("user", question)]}, config, settings)
    sinks.everything()
    another_worker()
    turn(app, {"messages": [("user", prose())], "extra": words}, config, settings)
    turn(app, {"messages": [("user", prose())], "extra": words}, config, settings)
    stored = sinks.everything()

    assert (spelling_in(question, stored) is None) == (policy == "private")
    assert (words.encode() in stored) == (policy == "open")


def test_a_resumed_thread_from_elsewhere_is_withheld(sinks: Sinks) -> None:
    """A graph that another worker has interrupted at its first step is resumed: its state is of unknown origin."""
    secret, config = prose(), thread()

    def quiet(state: Any) -> Any:
        Chat().invoke([HumanMessage(state["extra"])])
        return {"messages": [Chat().invoke([HumanMessage(str(interrupt("well?")))])]}

    def loud(state: Any) -> Any:
        return {"messages": [Chat().invoke([HumanMessage(state["extra"])])]}

    app = graph(("quiet", quiet), ("loud", loud), checkpointer=InMemorySaver())
    turn(app, {"messages": [], "extra": secret}, config)
    another_worker()
    words = kept()
    turn(app, Command(resume=words), config)
    stored = sinks.everything()

    assert spelling_in(secret, stored) is None
    assert words.encode() not in stored


def test_fresh_threads_are_not_withheld(sinks: Sinks) -> None:
    """A thread that begins here, and a graph without a checkpointer, keep what is not private."""
    for saver in (InMemorySaver(), None):
        words = kept()
        turn(assistant(saver), {"messages": [("user", prose())], "extra": words}, thread())

        assert words.encode() in sinks.everything()


# --- with a session store ---------------------------------------------------------------------------------------------


def shared(server: RedisServer) -> dict[str, Any]:
    return {**PRIVATE, "session_store": server.url, "redaction": {"hash_key": "the key of all workers"}}


def test_every_worker_knows_what_the_others_heard(sinks: Sinks, server: RedisServer) -> None:
    """With a store, workers that take turns in a thread recognise each other's private text, and keep all else."""
    policy, config, app, words = shared(server), thread(), assistant(InMemorySaver()), kept()
    questions = [prose() for _ in range(4)]
    for question in questions:
        turn(app, {"messages": [("user", question)], "extra": words}, config, policy)
        another_worker()
    stored = sinks.everything()

    assert [spelling_in(question, stored) for question in questions] == [None] * 4
    assert stored.count(words.encode()) >= 8


WORKER = """
import json, sys
import mlflow
from fakes import Chat, graph
from langchain_mlflow_cost import MlflowCostHandler, configure

store, policy, thread, private, public, road = sys.argv[1:]
mlflow.set_tracking_uri(store)
policy = json.loads(policy)
if road == "everywhere":
    configure({**policy, "tracking_uri": store}, everywhere=True)
quiet = ("quiet", lambda _: {"extra": Chat(reply=f"As to {private}").invoke(private).content} if private else {})
app = graph(quiet, ("loud", lambda _: {"extra": Chat().invoke(public).content}))
handlers = [] if road == "everywhere" else [MlflowCostHandler(policy)]
config = {"configurable": {"thread_id": thread}, "callbacks": handlers}
app.invoke({"messages": []}, config)
"""


@pytest.mark.nightly
@pytest.mark.parametrize(("is_shared", "road"), [(True, "handler"), (True, "everywhere"), (False, "handler")])
def test_workers_that_are_processes(
    store_uri: str, server: RedisServer, tmp_path: Path, is_shared: bool, road: str
) -> None:
    """What one process's private node was told is known in another process, by the store alone, while both are at work."""
    policy = shared(server) if is_shared else {**PRIVATE, "redaction": shared(server)["redaction"]}
    thread_id, question, words = letters(20), prose(), kept()

    def work(private: str, public: str) -> None:
        given = [store_uri, json.dumps(policy), thread_id, private, public, road]
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", WORKER, *given], check=True, env=bare_environment(), timeout=100
        )

    work(question, words)
    work("", f"earlier somebody said {question}, and {words}")
    stored = folder_bytes(tmp_path)

    assert (spelling_in(question, stored) is None) == is_shared
    assert stored.count(words.encode()) >= 2


def test_no_text_is_in_the_store(server: RedisServer) -> None:
    """The store holds numbers under a key: no text, no thread's id, and others under another key."""
    config, question = thread(), prose()
    held: list[bytes] = []
    for key in ("one key", "another key"):
        policy = {**shared(server), "redaction": {"hash_key": key}}
        turn(assistant(None), {"messages": [("user", question)]}, config, policy)
        another_worker()
    client = __import__("redis").Redis(port=server.port)
    for name in client.keys("*"):
        held.append(client.hget(name, "marks"))
        assert spelling_in(question, name + held[-1]) is None
        assert config["configurable"]["thread_id"].encode() not in name

    one, other = ({part[at : at + 8] for at in range(0, len(part), 8)} for part in held)
    assert one
    assert not one & other


def test_a_store_that_is_away(sinks: Sinks, server: RedisServer) -> None:
    """Without its Redis a worker withholds what it cannot know, waits a bounded time once, and warns once."""
    policy, config, app, words = shared(server), thread(), assistant(InMemorySaver()), kept()
    question = prose()
    turn(app, {"messages": [("user", question)]}, config, policy)
    sinks.everything()
    server.stop()
    another_worker()
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            turn(app, {"messages": [("user", prose())], "extra": words}, config, policy)
    took = time.monotonic() - started
    stored = sinks.everything()

    assert spelling_in(question, stored) is None
    assert words.encode() not in stored
    assert sum("is away" in str(each.message) for each in told) == 1
    assert took < 10


def test_what_a_worker_could_not_send_is_not_taken_for_known(sinks: Sinks, server: RedisServer) -> None:
    """A turn during which Redis was away is told to nobody: the next worker withholds, although Redis is back."""
    policy, config, app, words = shared(server), thread(), assistant(InMemorySaver()), kept()
    question = prose()
    server.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turn(app, {"messages": [("user", question)]}, config, policy)
        another_worker()
        server.start()
        turn(app, {"messages": [("user", prose())], "extra": words}, config, policy)
    stored = sinks.everything()

    assert spelling_in(question, stored) is None
    assert words.encode() not in stored


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"session_store": "redis://127.0.0.1:6379/0"}, "redaction.hash_key"),
        ({"session_store": "memcached://somewhere", "redaction": {"hash_key": "k"}}, "session_store"),
    ],
)
def test_a_bad_store_is_an_error_at_load(settings: dict[str, Any], says: str) -> None:
    """A store that is none, or has no key for all workers, is refused with the key and the remedy."""
    pytest.importorskip("redis")
    with pytest.raises(PolicyError, match=says):
        MlflowCostHandler({**PRIVATE, **settings})


# --- limits -------------------------------------------------------------------------------------------------------------


def test_older_sessions_keep_marks_then_nothing() -> None:
    """The least recent sessions let go of all but marks, then of these; one that was forgotten and comes back is withheld."""
    sessions, texts = Sessions(), [f"{letters(30)} {letters(30)}" for _ in range(6)]
    with limits.replaced(sessions=2, marked_sessions=2):
        for number, text in enumerate(texts):
            sessions.of(str(number)).text.add(text)
            sessions.count(str(number))

        for number in (4, 5, 3, 2):
            known = sessions.of(str(number)).text
            assert known.scrub(f"he said {texts[number]} again")[0] != f"he said {texts[number]} again"
            assert not known.is_full
        assert sessions.of("0").text.scrub("any text at all") == ("[PRIVATE]", 1)
        assert not sessions.of("new").text.is_full


def test_a_session_of_an_open_trace_is_let_be() -> None:
    """However many sessions come, one that a trace has is remembered in full."""
    sessions, text = Sessions(), letters(30)
    with limits.replaced(sessions=2):
        busy = sessions.of("busy")
        busy.traces += 1
        busy.text.add(text)
        for number in range(9):
            sessions.of(str(number)).text.add(letters(30))

        assert sessions.of("busy") is busy
        assert busy.text.scrub(text[4:18]) == ("[PRIVATE]", 1)


@pytest.mark.parametrize("is_same", [False, True], ids=["another thread", "the same thread"])
def test_what_another_customer_says(sinks: Sinks, is_same: bool) -> None:
    """A sentence that a private node was told in one thread is nobody's in another one, and private in its own."""
    text = "I would like to cancel the flight that I have booked for my sister"
    first = thread()
    turn(graph(("quiet", lambda _: {"extra": Chat().invoke(text).content})), {"messages": []}, first)
    loud = graph(("loud", lambda _: {"extra": Chat().invoke(text).content}), ("quiet", lambda _: {}))
    turn(loud, {"messages": []}, first if is_same else thread())

    assert (text.encode() in sinks.everything()) != is_same
