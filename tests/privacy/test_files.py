"""Pictures, sound and files that a private node has to do with are in no file, span or state, however they are written."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from child import bare_environment
from fakes import Chat, graph
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from leaks import Sinks, folder_bytes, letters
from mlflow.tracing.attachments import Attachment
from packaging.version import Version
from pictures import data_uri, encoded, picture, picture_in, url_block
from redis_server import redis_server_in
from servers import serving

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.tracing.session import SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRIVATE: dict[str, Any] = {"artifact_level": "full", "nodes": {"quiet": {"log_prompts": False}}}
POLICIES: dict[str, dict[str, Any]] = {
    "private": PRIVATE,
    "minimal": {"artifact_level": "minimal"},
    "open": {"artifact_level": "full"},
}


@pytest.fixture(autouse=True)
def no_sessions() -> Iterator[None]:
    SESSIONS.clear()
    yield
    SESSIONS.clear()


# --- how a private node comes by one ----------------------------------------------------------------------------------


def told(make: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """In a message to its model."""

    def tell(content: bytes) -> None:
        Chat().invoke([HumanMessage([{"type": "text", "text": "see"}, make(content)])])

    return tell


def in_span(make: Callable[[bytes], Any], *, written: str = "inputs") -> Callable[[bytes], None]:
    """In a span of another library's, such as MLflow's autologs make."""

    def write(content: bytes) -> None:
        with mlflow.start_span("client", span_type="CHAT_MODEL") as span:
            (span.set_inputs if written == "inputs" else span.set_outputs)(make(content))

    return write


def bridged(content: bytes) -> None:
    """In a span of OpenTelemetry's."""
    tracer = mlflow.tracing.get_bridged_tracer_provider().get_tracer("client")
    with tracer.start_as_current_span("client") as span:
        span.set_attribute("gen_ai.input.messages", json.dumps([url_block(content)]))


def tool_artifact(content: bytes) -> None:
    """As what a tool gives beside its answer."""

    @tool(response_format="content_and_artifact")
    def screenshot(page: str) -> Any:
        """Look at a page."""
        return f"a picture of {page}", content

    screenshot.invoke({"name": "screenshot", "args": {"page": "one"}, "id": "1", "type": "tool_call"})


HEARD: dict[str, Callable[[bytes], Any]] = {
    "OpenAI's image": told(url_block),
    "Anthropic's image": told(
        lambda content: {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": encoded(content)},
        }
    ),
    "audio": told(lambda content: {"type": "input_audio", "input_audio": {"data": encoded(content), "format": "wav"}}),
    "PDF": told(
        lambda content: {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{encoded(content)}"},
        }
    ),
    "LangChain's block": told(lambda content: {"type": "image", "base64": encoded(content), "mime_type": "image/png"}),
    "Bedrock's bytes": told(lambda content: {"image": {"format": "png", "source": {"bytes": content}}}),
    "Gemini's data": told(lambda content: {"inline_data": {"mime_type": "image/png", "data": encoded(content)}}),
    "answer": lambda content: Chat(reply=[{"type": "image", "base64": encoded(content)}]).invoke("draw"),
    "tool's artifact": tool_artifact,
    "span: image": in_span(lambda content: {"messages": [url_block(content)]}),
    "span: audio": in_span(
        lambda content: {"type": "input_audio", "input_audio": {"data": encoded(content), "format": "mp3"}}
    ),
    "span: attachment": in_span(lambda content: {"a": Attachment(content_type="image/png", content_bytes=content)}),
    "span: drawn": in_span(lambda content: {"data": [{"b64_json": encoded(content)}]}, written="outputs"),
    "OpenTelemetry's span": bridged,
}
"""By its name, what brings a private node a file."""


# --- where it stands elsewhere ------------------------------------------------------------------------------------------


SHOWN: dict[str, Callable[[bytes], Any]] = {
    "block": url_block,
    "audio": lambda content: {"type": "input_audio", "input_audio": {"data": encoded(content), "format": "wav"}},
    "bytes": bytes,
    "bytearray": bytearray,
    "base64": encoded,
    "base64 in lines": lambda content: base64.encodebytes(content).decode(),
    "base64 of URLs": lambda content: base64.urlsafe_b64encode(content).decode().rstrip("="),
    "page": lambda content: f"![chart]({data_uri(content)}) as said",
    "f-string": lambda content: f"read {content!r} from the disk",
    "hexadecimal": bytes.hex,
    "hexadecimal, apart": lambda content: content.hex(" "),
    "Latin-1": lambda content: content.decode("latin-1"),
    "numbers": list,
    "quoted": urllib.parse.quote,
    "message": lambda content: HumanMessage([url_block(content)]),
    "artifact": lambda content: ToolMessage("see", artifact=content, tool_call_id="1"),
}
"""By its name, how a state may hold it."""
SHOWN_IN_SPANS: dict[str, Callable[[bytes], Any]] = {
    "span: block": url_block,
    "span: attachment": lambda content: Attachment(content_type="image/png", content_bytes=content),
    "span: with a comment": lambda content: Attachment(content_type="image/png", content_bytes=content + b"by Ann"),
    "span: a part": lambda content: Attachment(content_type="image/png", content_bytes=content[:-500]),
    "span: bytes": bytes,
}


def shown(files: dict[str, bytes]) -> Any:
    """What a public node returns that shows files, each in another way: in its state, its model's requests or a span."""
    told: list[str | dict[Any, Any]] = [url_block(content) for how, content in files.items() if how == "chat"]
    drawn = [url_block(content) for how, content in files.items() if how == "chat: answer"]
    Chat(reply=drawn or "fine").invoke([HumanMessage(told or ["see"])])
    with mlflow.start_span("shows") as span:
        span.set_inputs({how: SHOWN_IN_SPANS[how](files[how]) for how in files if how in SHOWN_IN_SPANS})
    return {"extra": {how: SHOWN[how](files[how]) for how in files if how in SHOWN}}


ALL_SHOWN = (*SHOWN, *SHOWN_IN_SPANS, "chat", "chat: answer")


Found = dict[str, list[str | None]]


@pytest.fixture(scope="module", params=list(POLICIES))
def left(request: pytest.FixtureRequest, sinks: Sinks) -> tuple[bool, Found, Found]:
    """Whether the policy is open; how files are left by how they are shown, before and after, and by how they are heard."""
    SESSIONS.clear()
    before, after = ({how: picture() for how in ALL_SHOWN} for _ in range(2))
    heard = {way: picture() for way in HEARD}

    def quiet(_: Any) -> Any:
        if request.param == "private":
            Chat().invoke([HumanMessage([url_block(content) for content in (*before.values(), *after.values())])])
        for way, content in heard.items():
            HEARD[way](content)
        return {}

    def last(_: Any) -> Any:
        with mlflow.start_span("shows") as span:
            span.set_inputs({way: SHOWN_IN_SPANS["span: attachment"](content) for way, content in heard.items()})
        return {"extra": [[url_block(content), content] for content in heard.values()]}

    app = graph(("first", lambda _: shown(before)), ("quiet", quiet), ("then", lambda _: shown(after)), ("last", last))
    app.invoke({"messages": []}, {"callbacks": [MlflowCostHandler(POLICIES[request.param])]})
    stored = sinks.everything()
    return (
        request.param == "open",
        {how: [picture_in(files[how], stored) for files in (before, after)] for how in ALL_SHOWN},
        {way: [picture_in(content, stored)] for way, content in heard.items()},
    )


@pytest.mark.parametrize("how", ALL_SHOWN)
def test_a_private_file_stands_nowhere_else(left: tuple[bool, Found, Found], how: str) -> None:
    """A picture that a private node's model was told is not there, whichever node shows it how, before it or after."""
    is_open, found, _ = left

    assert [where is not None for where in found[how]] == [is_open] * 2


@pytest.mark.parametrize("way", HEARD)
def test_however_a_private_node_comes_by_a_file(left: tuple[bool, Found, Found], way: str) -> None:
    """A file is private whether its model, its tool or another library's span in it had it; without a policy it is there."""
    is_open, _, found = left

    assert [where is not None for where in found[way]] == [is_open]


def test_a_public_file_beside_a_private_one(sinks: Sinks) -> None:
    """A picture that no private node had arrives whole, though it has its header in common with a private one."""
    secret, public = picture(), picture()

    def quiet(_: Any) -> Any:
        HEARD["OpenAI's image"](secret)
        return {}

    def loud(_: Any) -> Any:
        HEARD["OpenAI's image"](public)
        return shown({"span: attachment": public})

    graph(("quiet", quiet), ("loud", loud)).invoke({"messages": []}, {"callbacks": [MlflowCostHandler(PRIVATE)]})
    sinks.flush()
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id
    kept = [path.read_bytes() for path in sinks.folder.rglob("attachments/*") if trace_id in path.parts]
    shown_in = mlflow.get_trace(trace_id).search_spans(name="shows")[0].inputs
    reference = Attachment.parse_ref(shown_in["span: attachment"])

    assert kept == [public, public]
    assert reference
    assert reference["size"] == len(public)
    assert picture_in(secret, sinks.everything()) is None


def test_another_worker_knows_the_files_of_a_session(sinks: Sinks, tmp_path: Path) -> None:
    """A picture that a private node was told in one process is not uploaded by another one, which has it from the store."""
    server = redis_server_in(tmp_path)
    server.start()
    secret, public, saver = picture(), picture(), InMemorySaver()
    policy = {**PRIVATE, "session_store": server.url, "redaction": {"hash_key": "the key of all workers"}}
    config = {"configurable": {"thread_id": letters(20)}}

    def quiet(state: Any) -> Any:
        return {"messages": [Chat().invoke(state["messages"])]}

    def loud(state: Any) -> Any:
        Chat().invoke([*state["messages"], HumanMessage([url_block(public)])])
        return shown({"span: attachment": secret})

    app = graph(("quiet", quiet), ("loud", loud), checkpointer=saver)
    for given in ([HumanMessage([url_block(secret)])], [HumanMessage("and now?")]):
        app.invoke({"messages": given}, {**config, "callbacks": [MlflowCostHandler(policy)]})
        SESSIONS.clear()
    server.stop()
    stored = sinks.everything()

    assert picture_in(secret, stored) is None
    assert picture_in(public, stored) is not None


# --- in a trace that another process began --------------------------------------------------------------------------------


WORKER = """
import contextlib, json, sys
from pathlib import Path
import mlflow
from fakes import Chat, graph
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langchain_mlflow_cost import MlflowCostHandler
from mlflow.tracing import set_tracing_context_from_http_request_headers as going_on
from mlflow.tracing.attachments import Attachment
from pictures import url_block

store, policy, headers, folder = sys.argv[1:]
mlflow.set_tracking_uri(store)
mlflow.set_experiment("tests")
policy, headers, files = json.loads(policy), json.loads(headers), {}

def quiet(state):
    if not state["messages"][1:]:
        Chat().invoke([HumanMessage([url_block(files["told"])])])
        with mlflow.start_span("client", span_type="CHAT_MODEL") as span:
            span.set_inputs({"messages": [url_block(files["in a span"])]})
    return {}

def loud(state):
    Chat().invoke([HumanMessage([url_block(content)]) for content in files.values()])
    with mlflow.start_span("shows") as span:
        span.set_inputs({k: Attachment(content_type="audio/wav", content_bytes=c) for k, c in files.items()})
    return {"extra": [url_block(content) for content in files.values()]}

app = graph(("first", loud), ("quiet", quiet), ("last", loud), checkpointer=InMemorySaver())
for whose in ("own", "remote"):
    files = {file.name: file.read_bytes() for file in Path(folder, whose).iterdir()}
    for turn in ("one", "two"):
        with going_on(headers) if whose == "remote" else contextlib.nullcontext():
            config = {"callbacks": [MlflowCostHandler(policy)], "configurable": {"thread_id": whose}}
            app.invoke({"messages": [("user", turn)]}, config)
mlflow.flush_trace_async_logging()
"""
UPLOADS_OF_REMOTE_TRACES = Version("3.18")
"""The MLflow that first uploads the files of a trace which another process began: after its spans."""


@pytest.mark.nightly
def test_files_on_a_server(exported_in_threads: str, tmp_path: Path) -> None:
    """Exported in threads to a real server, in a trace of one's own or of another process: private files are not uploaded."""
    found: dict[tuple[str, str], list[bool]] = {}
    served = tmp_path / "server"
    served.mkdir()
    with serving(served, f"sqlite:///{served}/mlflow.db") as server:
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_experiment("tests")
        for name, policy in POLICIES.items():
            files = {
                (whose, which): picture() for whose in ("own", "remote") for which in ("told", "in a span", "public")
            }
            for (whose, which), content in files.items():
                (tmp_path / name / whose).mkdir(parents=True, exist_ok=True)
                (tmp_path / name / whose / which).write_bytes(content)
            with mlflow.start_span("caller"):
                headers = json.dumps(mlflow.tracing.get_tracing_context_headers_for_http_request())
                given = [server.uri, json.dumps(policy), headers, str(tmp_path / name)]
                program = [sys.executable, "-W", "ignore", "-c", WORKER, *given]
                subprocess.run(program, check=True, env=bare_environment(), timeout=200)
            mlflow.flush_trace_async_logging()
            stored = folder_bytes(served)
            for (whose, _), content in files.items():
                found.setdefault((name, whose), []).append(picture_in(content, stored) is not None)
    uploads = Version(mlflow.__version__) >= UPLOADS_OF_REMOTE_TRACES

    assert found == {
        ("private", "own"): [False, False, True],
        ("private", "remote"): [False, False, uploads],
        ("minimal", "own"): [False] * 3,
        ("minimal", "remote"): [False] * 3,
        ("open", "own"): [True] * 3,
        ("open", "remote"): [uploads] * 3,
    }
