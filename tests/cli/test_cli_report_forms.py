"""What `mlflow-cost report` writes into pipes and files: documented fields, whole names, whatever is in the store."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI, MINI_USD, SONNET, SONNET_USD, UNKNOWN, FakeChat, FakeStream
from mlflow.entities import SpanType
from stored_traces import store_call
from terminals import terminal
from ways import ASK, given, one_node

from langchain_mlflow_cost import BudgetExceededError, MlflowCostHandler

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Cli = Callable[..., Any]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
NAMES = [
    "plain",
    "two\nlines",
    "a | b",
    'say "hello", twice',
    "\x1b[31mred\x1b[0m\x07",
    "=1+1",
    "汉字名前" * 6,
    "x" * 240,
    "bold [bold]markup[/bold] :smile:",
    "' OR 1=1 --",
]
"""Values of a tag: those that break a terminal, a table, a spreadsheet or SQL."""
REPORT = ("report", "--experiment", "tests", "--tracking-uri")


@pytest.fixture(scope="module")
def odd(fresh_store: Callable[[], AbstractContextManager[str]]) -> str:
    """Traces with such names, and every kind of call: unpriced, estimated, of another library, none, deleted."""
    with fresh_store() as uri:
        spend()
    return uri


def answering(model: Any) -> Callable[[Any], Any]:
    return lambda state: model.invoke(state["messages"])


def spend() -> None:
    handler = MlflowCostHandler({"trace_metadata": ["team"]})
    for name in NAMES:
        one_node(lambda state: FakeChat().invoke(state["messages"])).invoke(
            ASK, given(handler, metadata={"team": name})
        )
    for model in (FakeChat(model=UNKNOWN), FakeStream(usage=None, answers=["one two three four"])):
        one_node(answering(model)).invoke(ASK, given(handler))

    def other(_: Any) -> Any:
        with mlflow.start_span("call", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attributes({"mlflow.llm.model": "gpt-4o-mini", "mlflow.llm.provider": "openai"})
            span.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11})

    one_node(other).invoke(ASK, given(handler))
    mlflow.start_span_no_context("of nobody", attributes={"cost.llm_calls": "many", "cost.total_usd": "NaN"}).end()
    mlflow.set_trace_tag(mlflow.search_traces(return_type="list")[0].info.trace_id, "huge", "h" * 7_000)
    gone = mlflow.start_span_no_context("gone")
    gone.end()
    experiment = mlflow.get_experiment_by_name("tests").experiment_id
    assert mlflow.MlflowClient().delete_traces(experiment, trace_ids=[gone.trace_id]) == 1


def documented(names: Any) -> list[str]:
    """Those of the names that docs/reports.md does not have."""
    known = set(re.findall(r"`(\w+)`", PAGE))
    classes = re.compile(r"(?:input|output|cache_\w+|reasoning|billed)_(?:tokens|usd)")
    return [name for name in names if name not in known and not classes.fullmatch(name)]


def test_json_has_documented_fields(cli: Cli, odd: str) -> None:
    """Each field of each kind of JSON stands in docs/reports.md, and the totals are right."""
    told = json.loads(cli(*REPORT, odd, "--by", "tag:team,day", "--breakdown", "--format", "json").out)
    fields = [*told, *told["total"], *(key for row in told["rows"] for key in row if key not in told["by"])]
    assert documented(fields) == []
    assert {row["tag:team"] for row in told["rows"]} == {*NAMES, ""}
    assert (told["traces"], told["total"]["calls"], told["total"]["unpriced_calls"]) == (
        len(NAMES) + 4,
        len(NAMES) + 3,
        1,
    )
    assert told["total"]["estimated_calls"] == 1

    (dearest,) = json.loads(cli(*REPORT, odd, "--top", "1", "--format", "json").out)
    (change,) = json.loads(
        cli(*REPORT, odd, "--by", "experiment", "--compare", "experiment:tests", "--format", "json").out
    )
    what_if = json.loads(cli(*REPORT, odd, "--what-if", "node=gpt-4o", "--format", "json").out)
    assert documented([*dearest, *change, *what_if, *what_if["total"]]) == []
    assert change["change_usd"] == 0
    assert what_if["total"]["replaced_calls"] == len(NAMES) + 3


@pytest.mark.parametrize("form", ["table", "csv", "md"])
def test_a_pipe_gets_whole_names(cli: Cli, odd: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is broken or ends in blanks, no name acts on a terminal, and each row is one row."""
    monkeypatch.setenv("COLUMNS", "40")
    out = cli(*REPORT, odd, "--by", "tag:team", "--format", form).out

    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    assert "x" * 240 in out or form == "table"
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert {row["tag:team"] for row in rows} == {
            f"'{name}" if name.startswith("=") else name for name in (*NAMES, "")
        }
        # No spreadsheet takes it for a formula.
        assert "'=1+1" in {row["tag:team"] for row in rows}
        return
    assert "\x1b" not in out
    assert "\x07" not in out
    assert [line for line in out.splitlines() if "汉字名前" * 6 in line]
    if form == "md":
        rows_of_table = [line for line in out.splitlines() if line.startswith("|")]
        assert len(rows_of_table) == len(NAMES) + 1 + 2
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows_of_table}) == 1


@pytest.mark.parametrize("no_color", ["1", None])
def test_no_color(cli: Cli, odd: str, monkeypatch: pytest.MonkeyPatch, no_color: str | None) -> None:
    """NO_COLOR (no-color.org) takes the colours from a terminal, and nothing else."""
    coloured = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    with terminal(monkeypatch, "stdout") as screen:
        assert cli(*REPORT, odd).code == 0
    (told,) = screen

    assert bool(coloured.search(told)) == (no_color is None)
    assert "gpt-4o-mini" in told


@pytest.mark.parametrize(("zone", "moment", "day"), [
    ("Europe/Berlin", "2026-10-25T00:30:00+00:00", "2026-10-25"),  # clocks go back: this hour comes twice
    ("Europe/Berlin", "2026-03-28T23:30:00+00:00", "2026-03-29"),
    ("America/St_Johns", "2026-06-02T02:15:00+00:00", "2026-06-01"),
    ("Pacific/Apia", "2026-06-01T11:30:00+00:00", "2026-06-02"),
])  # fmt: skip
def test_a_trace_is_of_its_day_in_the_zone(cli: Cli, store: str, zone: str, moment: str, day: str) -> None:
    """Days, and the bounds of --since and --until, are the zone's, on days with changed clocks as well."""
    store_call(began=datetime.fromisoformat(moment))
    words = (*REPORT, store, "--by", "day", "--timezone", zone, "--format", "json")

    assert [row["day"] for row in json.loads(cli(*words, "--since", day, "--until", day).out)["rows"]] == [day]
    assert json.loads(cli(*words, "--until", moment).out)["rows"] == []
    assert json.loads(cli(*words, "--since", moment).out)["traces"] == 1


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_nothing_in_any_form(cli: Cli, store: str, form: str) -> None:
    """A store without traces is a report of nothing, not an error."""
    done = cli(*REPORT, store, "--format", form)

    assert (done.code, done.err) == (0, "")
    assert form != "json" or json.loads(done.out)["rows"] == []


def test_what_if_as_a_table(cli: Cli, store: str) -> None:
    """The table says that the figures are a range, and why; a bad request says what is meant."""
    one_node(lambda state: FakeChat().invoke(state["messages"])).invoke(ASK, given(MlflowCostHandler()))
    shown = cli(*REPORT, store, "--what-if", "node=gpt-4o")

    assert [line.split() for line in shown.out.splitlines() if line.split()[:1] == ["node"]] == [
        ["node", "1", f"{MINI_USD:.6f}", "0.007500", "0.005000", "0.012500", "0.007050"]
    ]
    assert "0.5 to 2 times as long" in shown.out
    assert cli(*REPORT, store, "--what-if", "gpt-4o").code == 2
    assert cli(*REPORT, store, "--what-if", "node=gpt-4o", "--by", "tool").code == 2


def test_what_if_without_a_price(cli: Cli, store: str) -> None:
    """What nobody knows is no saving; the model, where its price was looked for, and a misspelt node are named."""
    app = one_node(lambda state: FakeChat().invoke(state["messages"]))
    app.invoke(ASK, given(MlflowCostHandler()))
    shown = cli(*REPORT, store, "--what-if", "node=never-heard-of")

    assert [line.split() for line in shown.out.splitlines() if line.split()[:1] == ["node"]] == [
        ["node", "1", f"{MINI_USD:.6f}", "unknown", "unknown"]
    ]
    assert "no price is known of openai/never-heard-of" in shown.err
    missed = cli(*REPORT, store, "--what-if", "nodde=gpt-4o")
    assert "--what-if nodde=...: no call" in missed.err
    assert "unknown" not in missed.out


def test_two_dimensions_crossed(cli: Cli, store: str) -> None:
    """The second of --by across; what nobody could price is no number, and adds nothing."""
    for model in (FakeChat(), FakeChat(), FakeChat(model=SONNET), FakeChat(model=UNKNOWN)):
        one_node(answering(model)).invoke(ASK, given(MlflowCostHandler()))
    words = (*REPORT, store, "--cross", "--format", "csv")
    (first, total) = csv.DictReader(io.StringIO(cli(*words, "--by", "node,model").out))

    told = {name: float(value) for name, value in first.items() if name != "Node" and value}
    assert first["Node"] == "node"
    assert first[UNKNOWN] == ""
    total_usd = float(2 * MINI_USD + SONNET_USD)
    assert told == pytest.approx({MINI: float(2 * MINI_USD), SONNET: float(SONNET_USD), "Total": total_usd})
    assert float(total["Total"]) == pytest.approx(total_usd)
    days = cli(*words, "--by", "model,day").out.splitlines()
    assert len(days) == 1 + 3 + 1
    assert cli(*words, "--by", "node").code == 2


def test_no_tools(cli: Cli, store: str) -> None:
    """A report by tool of traces that called none says so."""
    store_call()

    assert "No tool was called in them" in cli(*REPORT, store, "--by", "tool").out
    assert "No tool" not in cli(*REPORT, store, "--by", "node").out


@pytest.fixture
def spent_by_day(store: str) -> str:
    """1 USD in one call on 1 June 2026, 5 USD in two calls on 3 June."""
    for day, usd in (("2026-06-01", 1.0), ("2026-06-03", 2.0), ("2026-06-03", 3.0)):
        store_call(usd, datetime.fromisoformat(f"{day}T12:00:00+00:00"))
    return store


@pytest.mark.parametrize(("with_what", "before"), [
    ("2026-06-01..2026-06-01", 1.0),
    ("..2026-06-02", 1.0),
    ("2026-06-01..", 6.0),
    ("previous", 1.0),  # the two days before the two that are asked about
])  # fmt: skip
def test_a_period_compared(cli: Cli, spent_by_day: str, with_what: str, before: float) -> None:
    """With another period, open ones too, or with as long a time before."""
    words = (*REPORT, spent_by_day, "--by", "experiment", "--since", "2026-06-03", "--until", "2026-06-04")
    (row,) = json.loads(cli(*words, "--compare", with_what, "--format", "json").out)
    table = cli(*words, "--compare", with_what)

    assert (row["before_usd"], row["now_usd"], row["change_usd"]) == (before, 5.0, 5.0 - before)
    # All that was bought is calls: one, or as many as in both periods, for what a call cost then.
    assert sum(row[effect] for effect in ("calls", "tokens_a_call", "price", "cache")) == pytest.approx(5.0 - before)
    assert "Change = calls + tokens a call + price + cache." in table.out
    assert f"{5.0 - before:.2f}"[:4] in table.out


def test_a_comparison_that_cannot_be_made(cli: Cli, spent_by_day: str) -> None:
    """The remedy is told."""
    words = (*REPORT, spent_by_day, "--by", "experiment", "--compare")
    no_begin, no_period = cli(*words, "previous"), cli(*words, "last week")

    assert (no_begin.code, no_period.code) == (2, 2)
    assert "--since" in no_begin.err
    assert "FROM..TO" in no_period.err


@pytest.mark.parametrize("key", ["user_id", "langgraph_auth_user_id", "mlflow.trace.user"])
def test_a_user_is_the_same_everywhere(cli: Cli, store: str, key: str) -> None:
    """Whichever way the run's metadata names the user: a budget's, a report's and a deletion's user is this one."""
    user = f"ada by {key}"  # whose sum is this process's
    handler = MlflowCostHandler({"budget": {"max_total_tokens": 1500, "scope": "user"}})
    app = one_node(answering(FakeChat()))
    app.invoke(ASK, given(handler, metadata={key: user}))
    with pytest.raises(BudgetExceededError):
        app.invoke(ASK, given(handler, metadata={key: user}))

    rows = json.loads(cli(*REPORT, store, "--by", "user", "--format", "json").out)["rows"]
    assert [(row["user"], row["calls"]) for row in rows] == [(user, 1)]
    assert cli("erase", "--tracking-uri", store, "--user", user, "--yes").code == 0
    assert mlflow.search_traces(return_type="list") == []
