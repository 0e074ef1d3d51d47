"""The commands that need no store: explain, scan, prices."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done

    Cli = Callable[..., Done]

COMMANDS = [
    "demo",
    "run",
    "report",
    "reprice",
    "explain",
    "scan",
    "prove",
    "prices",
    "prune",
    "erase",
    "export",
    "migrate",
]
POLICY = """\
redact_pii: true
artifact_level: full
nodes:
  writer: {log_prompts: false}
  "team/*":
    artifact_level: minimal
    redaction: {strategy: hash}
    budget: {max_cost_usd: 0.25}
budget: {max_cost_usd: 2, on_exceeded: warn}
retention_days: 30
"""
TEXT = "Dear Ada,\nyour address is ada@example.com.\nKey: sk-" + "proj-" + "1a2B3c4D5e6F7a8B9c0D1e2F3a4B5c6D7e8F9a0B\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "observability.yaml"
    path.write_text(POLICY, "utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text(TEXT, "utf-8")
    return path


def row_of(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [first])


@pytest.mark.parametrize("command", COMMANDS)
def test_help(cli: Cli, command: str) -> None:
    """Each command explains itself."""
    done = cli(command, "--help")

    assert done.code == 0
    assert "Usage: mlflow-cost" in done.out


def test_overview_lists_all_commands(cli: Cli) -> None:
    """The overview names every command, each with a line that is not cut off."""
    done = cli("--help")

    assert [line.split()[0] for line in done.out.partition("Commands:")[2].strip().splitlines()] == COMMANDS
    assert "..." not in done.out.partition("Commands:")[2]


# --- explain


def test_explain_shows_what_applies(cli: Cli, policy: Path) -> None:
    """Each entry has a row with what applies in its nodes: in a private one no payload is stored, as at minimal."""
    out = cli("explain", policy).out

    assert row_of(out, "(outside")[2:] == ["stored", "full", "100,000"]
    assert row_of(out, "writer") == ["writer", "writer", "never", "minimal", "100,000"]
    assert row_of(out, "team/*")[1:5] == ["team/*", "stored", "minimal", "100,000"]
    assert "$0.25 a trace" in out


def test_explain_shows_a_node(cli: Cli, policy: Path) -> None:
    """A node that is asked for is shown with the entry that it is under."""
    out = cli("explain", policy, "--node", "team/critic").out

    assert row_of(out, "team/critic")[1:4] == ["team/*", "stored", "minimal"]


@pytest.mark.parametrize(
    ("path", "applies"),
    [
        pytest.param("a/b", ["a/b", "never"], id="b in a"),
        pytest.param(r"a\/b", ["stored"], id="a node called a/b"),
    ],
)
def test_explain_tells_a_name_from_a_path(cli: Cli, policy: Path, path: str, applies: list[str]) -> None:
    """A node called `a/b` is another than the node `b` in `a`: each is shown as it was asked for, with its own settings."""
    policy.write_text("nodes: {a/b: {log_prompts: false}}\n", "utf-8")
    row = row_of(cli("explain", policy, "--node", path).out, path)

    assert row[: len(applies) + 1] == [path, *applies]


def test_explain_shows_redaction(cli: Cli, policy: Path) -> None:
    """What is redacted is named once, and again only for the nodes where it is otherwise."""
    lines = cli("explain", policy).out.splitlines()

    assert sum("EMAIL_ADDRESS" in line for line in lines) == 2
    assert any(line.startswith("Redacted:") for line in lines)
    assert any(line.startswith("  in team/*:") for line in lines)


def test_explain_tells_a_name_with_a_slash_from_a_node_inside(cli: Cli, policy: Path) -> None:
    r"""The node `a/b` is asked for as `a\/b`, and the node `b` in `a` as `a/b`."""
    policy.write_text("nodes:\n  a\\/b: {log_prompts: false}\n", "utf-8")
    out = cli("explain", policy, "--node", r"a\/b", "--node", "a/b").out
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0] in {r"a\/b", "a/b"}]

    assert [[r"a\/b", r"a\/b", "never"], [r"a\/b", r"a\/b", "never"], ["a/b", "stored", "standard"]] == [
        row[:3] for row in rows
    ]


APP = """
from langgraph.graph import START, MessagesState, StateGraph

def answer(state):
    return {}

def make():
    inner = StateGraph(MessagesState).add_node("critic", answer).add_edge(START, "critic").compile()
    return StateGraph(MessagesState).add_node("team", inner).add_edge(START, "team").compile()

app = make()
broken = None

def fails():
    raise RuntimeError("no key is set")
"""


@pytest.fixture
def app_file(tmp_path: Path) -> str:
    (tmp_path / "checked_app.py").write_text(APP)
    return "checked_app.py"


@pytest.mark.parametrize("place", ["checked_app:app", "checked_app.py:app", "checked_app:make"])
def test_explain_checks_a_policy_against_a_graph(cli: Cli, tmp_path: Path, app_file: str, place: str) -> None:
    """What holds for each of its nodes; it ends well where each entry meets one."""
    (tmp_path / "right.yaml").write_text("nodes: {critic: {log_prompts: false}}")
    done = cli("explain", "right.yaml", "--graph", place)

    assert done.code == 0
    assert row_of(done.out, "team/critic")[:4] == ["team/critic", "critic", "never", "minimal"]
    assert 'Entry "critic" meets team/critic' in done.out


def test_explain_ends_with_1_where_an_entry_meets_no_node(cli: Cli, tmp_path: Path, app_file: str) -> None:
    """With the name that was meant."""
    (tmp_path / "wrong.yaml").write_text("nodes: {Critic: {log_prompts: false}}")
    done = cli("explain", "wrong.yaml", "--graph", "checked_app:app")

    assert done.code == 1
    assert 'Entry "Critic" meets no node; did you mean "critic"?' in done.out


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("checked_app", "expected MODULE:NAME"),
        ("no_such_module:app", "No module named"),
        ("no_such_file.py:app", "no such file"),
        ("checked_app:nothing", "has no attribute"),
        ("checked_app:broken", "expected a compiled graph, found NoneType"),
        ("checked_app:fails", "no key is set"),
    ],
)
def test_explain_says_why_there_is_no_graph(cli: Cli, policy: Path, app_file: str, place: str, said: str) -> None:
    """In a line, without a traceback."""
    done = cli("explain", policy, "--graph", place)

    assert done.code == 1
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_explain_doubts_prices_that_lead_nowhere(cli: Cli, policy: Path) -> None:
    """An alias to a model that no list knows, MLflow's neither, is told with its line; one that MLflow knows is not."""
    policy.write_text(
        "prices:\n  aliases:\n    house: openai/gpt-nonesuch\n    other: databricks-claude-haiku-4-5\n", "utf-8"
    )
    err = cli("explain", policy).err

    assert [f"mlflow-cost: {policy}:3: prices.aliases.house: no price is known for openai/gpt-nonesuch, so"] == [
        line.partition(" calls of")[0] for line in err.splitlines()
    ]


def test_explain_shows_prices(cli: Cli, policy: Path) -> None:
    """Prices are told a line each, and what is not set is not told."""
    policy.write_text(
        "prices:\n  aliases: {house: azure/gpt-4o}\n  overrides: {own: {input: 0.40, request: 0.001}}\n", "utf-8"
    )
    out = cli("explain", policy).out

    assert out.endswith(
        "Price of house: as azure/gpt-4o\nPrice of own: input $0.4 per million tokens, request $0.001 a call\n"
    )


def test_explain_shows_discounts(cli: Cli, policy: Path) -> None:
    """A discount is told in per cent."""
    policy.write_text("prices: {discounts: {openai: 0.15, '*': 0.1}}\n", "utf-8")

    assert cli("explain", policy).out.endswith("Discount of openai: 15 %\nDiscount of everything: 10 %\n")


def test_explain_shows_other_settings(cli: Cli, policy: Path) -> None:
    """The budget of the whole and the other keys that the file sets are listed."""
    out = cli("explain", policy).out

    assert "Budget: $2 a trace, on_exceeded: warn" in out
    assert "retention_days: 30" in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("artefact_level: full\n", "artifact_level", id="unknown key"),
        pytest.param("log_prompts: maybe\n", "log_prompts", id="bad value"),
        pytest.param("nodes: [\n", "observability.yaml", id="no YAML"),
    ],
)
def test_bad_policy(cli: Cli, policy: Path, content: str, told: str) -> None:
    """A policy that cannot be used is told in a line, without a traceback, with exit code 2."""
    policy.write_text(content, "utf-8")
    done = cli("explain", policy)

    assert done.code == 2
    assert done.err.startswith("mlflow-cost: ")
    assert told in done.err
    assert "Traceback" not in done.err


def test_missing_policy(cli: Cli) -> None:
    """A policy file that is not there is told by its name."""
    done = cli("explain", "nowhere.yaml")

    assert done.code in {1, 2}
    assert "nowhere.yaml" in done.err
    assert "Traceback" not in done.err


def test_explain_warns_of_odd_settings(cli: Cli, policy: Path) -> None:
    """A warning of the policy is a line on standard error, like everything that the command says."""
    policy.write_text("run_name: 'x {timestam}'\n", "utf-8")
    done = cli("explain", policy)

    assert done.code == 0
    assert done.err.startswith("mlflow-cost: ")
    assert "timestam" in done.err


# --- scan


def test_scan_tells_where(cli: Cli, text: Path) -> None:
    """Each place is told as file, line, column and entity."""
    done = cli("scan", "--text", text)

    assert done.out.splitlines() == [f"{text}:2:17: EMAIL_ADDRESS", f"{text}:3:6: SECRET"]
    assert "EMAIL_ADDRESS 1, SECRET 1" in done.err


def test_scan_keeps_it_to_itself(cli: Cli, text: Path) -> None:
    """What was found is not printed."""
    done = cli("scan", "--text", text)

    assert "ada@example.com" not in done.out + done.err
    assert "sk-" not in done.out + done.err


def test_scan_shows_when_asked(cli: Cli, text: Path) -> None:
    """With --show it is."""
    assert "EMAIL_ADDRESS: 'ada@example.com'" in cli("scan", "--text", text, "--show").out


def test_scan_says_why(cli: Cli, text: Path) -> None:
    """With --why each find has its rule and what stands around it, and not what was found."""
    done = cli("scan", "--text", text, "--why")

    assert "EMAIL_ADDRESS  # " in done.out
    assert "[EMAIL_ADDRESS]" in done.out
    assert "shape of a key: " in done.out or "value of the name" in done.out
    assert "ada@example.com" not in done.out + done.err
    assert "sk-" not in done.out + done.err


def test_scan_follows_the_policy(cli: Cli, text: Path, policy: Path) -> None:
    """Only what the policy redacts is told."""
    policy.write_text("redact_secrets: false\nredact_pii: true\n", "utf-8")
    done = cli("scan", "--text", text, "--policy", policy)

    assert done.out.splitlines() == [f"{text}:2:17: EMAIL_ADDRESS"]


@pytest.mark.parametrize(("content", "code"), [(TEXT, 1), ("nothing in it", 0)], ids=["dirty", "clean"])
def test_scan_as_a_check(cli: Cli, text: Path, content: str, code: int) -> None:
    """With --check the exit code tells whether anything was found."""
    text.write_text(content, "utf-8")

    assert cli("scan", "--text", text, "--check").code == code


def test_scan_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """- is standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"to ada@example.com")))

    assert cli("scan", "--text", "-").out == "-:1:4: EMAIL_ADDRESS\n"


def test_scan_missing_file(cli: Cli) -> None:
    """A file that is not there is one line."""
    done = cli("scan", "--text", "nowhere.txt")

    assert done == (1, "", "mlflow-cost: No such file or directory: nowhere.txt\n")


# --- prices


def test_prices_of_a_model(cli: Cli) -> None:
    """A model's prices come with the list that they are from."""
    out = cli("prices", "claude-haiku-4-5").out

    assert "genai-prices" in out
    assert row_of(out, "input")[1] == "1"
    assert row_of(out, "cache_write")[1] == "1.25"
    assert row_of(out, "output")[1] == "5"


def test_price_of_a_call(cli: Cli) -> None:
    """A usage is multiplied out, line by line: 800 at 1, 200 at 0.1, 100 at 5 USD per million."""
    usage = '{"input_tokens": 1000, "cache_read": 200, "output_tokens": 100}'
    bill = cli("prices", "claude-haiku-4-5", "--usage", usage).out.partition("This call")[2]

    assert row_of(bill, "input") == ["input", "800", "0.000001", "0.0008"]
    assert row_of(bill, "cache_read") == ["cache_read", "200", "0.0000001", "0.00002"]
    assert row_of(bill, "output") == ["output", "100", "0.000005", "0.0005"]
    assert row_of(bill, "Total") == ["Total", "0.00132"]


def test_prices_of_the_policy(cli: Cli, policy: Path) -> None:
    """The policy's own prices come first."""
    policy.write_text("prices: {overrides: {house-model: {input: 3, output: 7.5}}}\n", "utf-8")
    out = cli("prices", "house-model", "--policy", policy).out

    assert row_of(out, "input")[1] == "3"
    assert row_of(out, "output")[1] == "7.5"


def test_prices_of_the_last_resort(cli: Cli) -> None:
    """A model that only MLflow's catalogue knows is priced from there, at its own provider's price and nobody else's."""
    assert "mlflow" in cli("prices", "databricks-claude-haiku-4-5", "--provider", "databricks").out
    assert "no price is known" in cli("prices", "databricks-claude-haiku-4-5").err
    assert "did you mean gpt-4o?" in cli("prices", "gtp-4o").err
    empty = cli("prices", "")
    assert (empty.code, "MODEL" in empty.err) == (2, True)


def test_unknown_model(cli: Cli) -> None:
    """A model without a price is no table of zeros, but an error that says what to do."""
    done = cli("prices", "house-model")

    assert done.code == 1
    assert done.err == (
        "mlflow-cost: no price is known for house-model; give it one with prices.overrides or prices.aliases\n"
    )


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        pytest.param("foo", "provider foo is unknown; prices go by the model's name alone, if at all", id="no idea"),
        pytest.param("opnai", "provider opnai is unknown; did you mean openai?", id="misspelt"),
    ],
)
def test_unknown_provider(cli: Cli, provider: str, told: str) -> None:
    """A price that is shown for a provider that nobody knows comes with a word about it."""
    assert cli("prices", "gpt-4o", "--provider", provider).err == f"mlflow-cost: {told}\n"


@pytest.mark.parametrize("provider", ["openai", "azure_openai"])
def test_known_provider(cli: Cli, provider: str) -> None:
    """A provider by genai-prices' name or by LangChain's is known."""
    assert cli("prices", "gpt-4o", "--provider", provider).err == ""


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        pytest.param("{", "no JSON", id="no JSON"),
        pytest.param("[1]", "expected an object", id="no object"),
        pytest.param('{"input_token": 1}', 'did you mean "input_tokens"?', id="unknown key"),
        pytest.param('{"input_tokens": -1}', "0 or more", id="negative"),
        pytest.param('{"input_tokens": 1.5}', "whole number", id="fraction"),
        pytest.param('{"fees": 3}', "fees", id="fees"),
        pytest.param(
            '{"input_tokens": 3, "cache_read": 9}', "cached tokens (9) exceed input tokens (3)", id="impossible"
        ),
    ],
)
def test_bad_usage(cli: Cli, usage: str, told: str) -> None:
    """A usage that cannot be true is refused with exit code 2."""
    done = cli("prices", "claude-haiku-4-5", "--usage", usage)

    assert done.code == 2
    assert told in done.err


# --- asked for wrongly


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["deploy"], id="unknown command"),
        pytest.param(["report", "reprice", "--by", "colour"], id="unknown group"),
        pytest.param(["report", "reprice", "--by", "tag:"], id="tag without a name"),
        pytest.param(["report", "reprice", "--last", "0"], id="no traces"),
        pytest.param(["prune"], id="prune without a number"),
        pytest.param(["scan"], id="scan without a text or a store"),
        pytest.param(["demo", "--budget", "-1"], id="negative budget"),
    ],
)
def test_asked_for_wrongly(cli: Cli, words: list[Any]) -> None:
    """A mistake in the words is told, with exit code 2, before anything is done."""
    done = cli(*words)

    assert done.code == 2
    assert "Error" in done.err
    assert "Traceback" not in done.err
