"""`mlflow-cost scan` over stored traces: what a policy would have kept out, and taking it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fakes import Chat, graph
from langchain_core.messages import AIMessage, HumanMessage
from leaks import folder_bytes, letters

from langchain_mlflow_cost import MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

MAIL = "bob.miller@example.com"
SAID = f"the {letters(14)} of {letters(12)} is {letters(11)}"
STRICT = """\
redact_pii: true
nodes: {quiet: {log_prompts: false}}
"""


def record(policy: dict[str, Any], *, fails: bool = False) -> None:
    """One trace: a node that says an address, a private one that says a sentence, which the root's output has too."""

    def work(state: Any) -> Any:
        Chat(reply=f"write to {MAIL}").invoke([HumanMessage("whom?")])
        if fails:
            raise ValueError(f"nobody is {MAIL}")
        return {"messages": [AIMessage("done")]}

    def quiet(state: Any) -> Any:
        return {"messages": [Chat(reply=SAID).invoke([HumanMessage("so?")])]}

    app = graph(("work", work), ("quiet", quiet))
    config: Any = {"callbacks": [MlflowCostHandler(policy)], "configurable": {"thread_id": "t"}}
    if fails:
        with pytest.raises(ValueError, match="nobody"):
            app.invoke({"messages": [("user", f"I am {MAIL}")]}, config)
    else:
        app.invoke({"messages": [("user", f"I am {MAIL}")]}, config)


@pytest.fixture
def stored(cli: Cli, store: str, tmp_path: Path) -> str:
    """Two traces that were recorded with next to no policy."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    record({"artifact_level": "full"})
    record({"artifact_level": "full"}, fails=True)
    return store


def scan(cli: Cli, store: str, *words: object) -> tuple[Done, dict[str, Any]]:
    done = cli(
        "scan", "--policy", "strict.yaml", "--tracking-uri", store, "--experiment", "tests", "--format", "json", *words
    )
    return done, json.loads(done.out)


def test_what_a_policy_would_have_kept_out(cli: Cli, stored: str) -> None:
    """Entity, channel, node and count, private text wherever it went, copies of state at `standard`; never the text."""
    done, told = scan(cli, stored)

    found = {(each["entity"], each["channel"], each["node"]) for each in told["found"]}
    assert done.code == 1
    assert told["traces"] == told["traces_with_findings"] == 2
    assert ("EMAIL_ADDRESS", "outputs", "work") in found
    assert ("EMAIL_ADDRESS", "previews", "") in found
    assert {("EMAIL_ADDRESS", "events", "work"), ("EMAIL_ADDRESS", "status", "work")} <= found
    assert {("PRIVATE_TEXT", "outputs", "quiet"), ("PRIVATE_TEXT", "outputs", "")} <= found
    assert ("DROPPED", "inputs", "work") in found  # a copy of the state
    assert MAIL not in done.out + done.err
    assert SAID not in done.out + done.err


def test_fix_leaves_no_byte(cli: Cli, stored: str, tmp_path: Path) -> None:
    """First told, then done; after it nothing is found, no byte is left in the files, and costs are what they were."""
    dry, _ = scan(cli, stored, "--fix")
    (tmp_path / "strict.yaml").rename(tmp_path.parent / "strict.yaml")
    before = folder_bytes(tmp_path)
    (tmp_path.parent / "strict.yaml").rename(tmp_path / "strict.yaml")
    costs = [trace.info.trace_metadata.get("mlflow.trace.cost") for trace in mlflow.search_traces(return_type="list")]

    done, told = scan(cli, stored, "--fix", "--yes")
    after = folder_bytes(tmp_path)
    again, _ = scan(cli, stored)

    assert dry.code == 1
    assert "would rewrite 2 traces and delete 0 traces" in dry.err
    assert MAIL.encode() in before
    assert (done.code, told["traces_rewritten"]) == (0, 2)
    assert MAIL.encode() not in after
    assert SAID.encode() not in after
    assert again.code == 0, again.out
    assert costs == [
        trace.info.trace_metadata.get("mlflow.trace.cost") for trace in mlflow.search_traces(return_type="list")
    ]


def test_what_the_handler_recorded_is_clean(cli: Cli, store: str, tmp_path: Path) -> None:
    """The scan knows no other rules than the handler: under one policy it finds nothing that the other let through."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    policy = {"redact_pii": True, "nodes": {"quiet": {"log_prompts": False}}}
    record(policy)
    record(policy, fails=True)

    done, told = scan(cli, store)

    assert (done.code, told["found"]) == (0, [])
    assert told["traces"] == 2


def test_what_autolog_recorded(cli: Cli, store: str, tmp_path: Path) -> None:
    """Traces that no handler of ours saw: nodes are known by LangGraph's metadata."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    mlflow.langchain.autolog()
    graph(("quiet", lambda state: {"messages": [Chat(reply=SAID).invoke([HumanMessage("so?")])]})).invoke(
        {"messages": [("user", "hi")]}
    )

    done, told = scan(cli, store)

    assert done.code == 1
    assert {each["node"] for each in told["found"]} >= {"quiet", ""}


KEY = "sk-proj-" + "ZZCdEfGhIjKlMnOpQrStUvWx" + "Yz0123456789abcdEFGH"
LONG_NAME = "Dora Quux Long Name " * 30


@pytest.mark.parametrize("mail_at", [190, 205, 225, 240])
def test_what_a_preview_cut_is_gone(cli: Cli, store: str, tmp_path: Path, mail_at: int) -> None:
    """MLflow cuts previews in the middle of a key, an address or a field, where no rule knows them any more."""
    (tmp_path / "strict.yaml").write_text("redact_pii: true\nredaction: {keys: [customer_name]}\n")
    mlflow.langchain.autolog()
    said = f"{'y ' * (mail_at // 2)} {KEY} dora.verylongname.{letters(8)}@example.com and more of it " + "z " * 500
    app = graph(("work", lambda state: {"messages": [AIMessage(f"you said {said}")]}))
    app.invoke({"messages": [("user", said)]})
    with mlflow.start_span("mine") as span:
        span.set_inputs({"customer_name": LONG_NAME})
        span.set_outputs({"customer_name": LONG_NAME, "more": "x"})

    before, told = scan(cli, store)
    fixed, _ = scan(cli, store, "--fix", "--yes")
    after, _ = scan(cli, store)
    left = folder_bytes(tmp_path)
    previews = [trace.info.request_preview for trace in mlflow.search_traces(return_type="list")]

    assert (before.code, fixed.code, after.code) == (1, 0, 0)
    assert "previews" in {each["channel"] for each in told["found"]}
    for piece in (KEY[8:16], "dora.very", "Dora Quux"):
        assert piece.encode() not in left, piece
    # The rest of what was said is there, as far as it was.
    assert any("y y " in preview and preview.endswith("...") for preview in previews)


def test_private_text_with_something_in_it_that_is_redacted(cli: Cli, store: str, tmp_path: Path) -> None:
    """It goes whole: what is left around an address would be the private text in pieces."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    mlflow.langchain.autolog()
    verdict = f"Verdict for {MAIL}: gout, stage 2"
    graph(("quiet", lambda state: {"messages": [Chat(reply=verdict).invoke(state["messages"])]})).invoke(
        {"messages": [("user", f"Patient Anna ({MAIL}) has HIV stage 3")]}
    )

    scan(cli, store, "--fix", "--yes")
    left = folder_bytes(tmp_path)

    for piece in (b"Verdict for", b"gout", b"Patient Anna", b"HIV", MAIL.encode()):
        assert piece not in left
    assert scan(cli, store)[0].code == 0


@pytest.mark.parametrize("content", ["the spans", "half of them"])
def test_the_file_with_the_spans_once_more(cli: Cli, store: str, tmp_path: Path, content: str) -> None:
    """MLflow now and then writes a trace's spans to a file, too, which nothing reads: it goes with what is in it."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    record({"artifact_level": "full"})
    (trace,) = mlflow.search_traces(return_type="list")
    folder = Path(trace.info.tags["mlflow.artifactLocation"].removeprefix("file://"))
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(trace.data.to_dict())
    (folder / "traces.json").write_text(written if content == "the spans" else written[: len(written) // 2])

    before, told = scan(cli, store)
    fixed, _ = scan(cli, store, "--fix", "--yes")

    files = {each["entity"] for each in told["found"] if each["channel"] == "files"}
    assert (before.code, fixed.code) == (1, 0)
    assert files >= ({"EMAIL_ADDRESS", "PRIVATE_TEXT"} if content == "the spans" else {"UNREADABLE"})
    assert not (folder / "traces.json").exists()
    assert MAIL.encode() not in folder_bytes(tmp_path)
    assert scan(cli, store)[0].code == 0


def test_scan_goes_on_where_it_stopped(cli: Cli, stored: str, tmp_path: Path) -> None:
    """With a state the next scan reads what came since, and tells the sums of both."""
    first, told = scan(cli, stored, "--state", "state.json")
    record({"artifact_level": "full"})

    second, more = scan(cli, stored, "--state", "state.json")
    (tmp_path / "strict.yaml").write_text("redact_pii: true\n")
    other = cli(
        "scan", "--policy", "strict.yaml", "--tracking-uri", stored, "--experiment", "tests", "--state", "state.json"
    )

    assert (first.code, second.code) == (1, 1)
    assert (told["traces"], more["traces"]) == (2, 3)
    assert sum(each["count"] for each in more["found"]) > sum(each["count"] for each in told["found"])
    assert SAID not in (tmp_path / "state.json").read_text()
    assert "another policy" in other.err


def test_delete_instead(cli: Cli, stored: str) -> None:
    """The traces go, others stay."""
    done, told = scan(cli, stored, "--fix", "--delete", "--yes")

    assert (done.code, told["traces_deleted"]) == (0, 2)
    assert mlflow.search_traces(return_type="list") == []


def test_lists_of_texts(cli: Cli, store: str, tmp_path: Path) -> None:
    """An event's attributes may be lists of texts, which are no JSON text: they are searched and cleaned like texts."""
    (tmp_path / "strict.yaml").write_text("redact_pii: true\n")
    with mlflow.start_span("mine") as span:
        span.add_event(mlflow.entities.SpanEvent("said", attributes={"to": ["nobody", MAIL], "times": [1, 2]}))  # type: ignore[abstract]

    before, told = scan(cli, store)
    scan(cli, store, "--fix", "--yes")
    after, _ = scan(cli, store)
    (event,) = mlflow.search_traces(return_type="list")[0].data.spans[0].events

    assert (before.code, after.code) == (1, 0)
    assert told["found"] == [{"entity": "EMAIL_ADDRESS", "channel": "events", "node": "", "count": 1}]
    assert [list(value) for value in event.attributes.values()] == [["nobody", "[EMAIL_ADDRESS]"], [1, 2]]
