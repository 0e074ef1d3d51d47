"""What a summary looks like: as plain numbers, printed, in a terminal, in a notebook; and that no name in it can act."""

from __future__ import annotations

import io
import re
from decimal import Decimal

import mlflow
import pytest
from rich.console import Console

from langchain_mlflow_cost import CostSummary
from langchain_mlflow_cost.pricing.ledger import Call, Ledger
from langchain_mlflow_cost.pricing.summary import Row
from langchain_mlflow_cost.pricing.table import cost_table, rows_table

PLAN = Call("plan", "gpt-5-mini", 1_840, 512, Decimal("0.0002"), Decimal("0.0010"))
GUESSED = Call("write", "gpt-5-mini", 300, 40, Decimal("0.0001"), Decimal("0.0002"), estimated=True)
UNPRICED = Call("", "my-own", 100, 10, None, None)


def summary_of(*calls: Call, retried: tuple[str, ...] = (), stopped_by: str | None = None) -> CostSummary:
    ledger = Ledger()
    for call in calls:
        ledger.add(call)
    for node in retried:
        ledger.add_retry(node)
    return ledger.summary("tr-1", stopped_by=stopped_by)


def printed(summary: CostSummary, width: int = 100) -> str:
    """What rich prints, colours and all."""
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True).print(summary)
    return screen.getvalue()


def line_of(text: str, first: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def test_metrics_are_plain_numbers(store: str) -> None:
    """MLflow takes them as they are."""
    metrics = summary_of(PLAN, GUESSED, UNPRICED).as_metrics()
    with mlflow.start_run() as run:
        mlflow.log_metrics(metrics)

    assert metrics == {
        "total_cost_usd": 0.0015,
        "estimated_usd": 0.0003,
        "tool_cost_usd": 0.0,
        "input_tokens": 2_240,
        "output_tokens": 562,
        "total_tokens": 2_802,
        "llm_calls": 3,
        "cached_calls": 0,
        "unpriced_calls": 1,
        "estimated_calls": 1,
    }
    assert mlflow.get_run(run.info.run_id).data.metrics == metrics


def test_fees_of_tools_are_shown_apart() -> None:
    """They are in the node's sum and the total, and said beside it."""
    ledger = Ledger()
    ledger.add(PLAN)
    ledger.add_fee("search", Decimal("0.02"))
    summary = ledger.summary()

    assert (summary.total_cost_usd, summary.tool_cost_usd) == (0.0212, 0.02)
    assert summary.node_breakdown["search"].cost_usd == 0.02
    assert line_of(str(summary), "search")[-1] == "0.0200"
    assert "fees of tools in it: 0.02 USD" in str(summary)


def test_printed_it_is_a_table() -> None:
    """`print(summary)` gives rows and their total, in plain text."""
    text = str(summary_of(PLAN, PLAN))

    assert line_of(text, "plan") == ["plan", "gpt-5-mini", "2", "3,680", "1,024", "0.0024"]
    assert line_of(text, "Total") == ["Total", "2", "3,680", "1,024", "0.0024"]
    assert "\x1b" not in text


def test_an_empty_one_is_a_table_too() -> None:
    """Nothing is known of it, and nothing is told as free."""
    assert line_of(str(CostSummary()), "Total")[-1] == "-"


def test_estimated_is_marked() -> None:
    """An estimated amount has its mark in the node's row and in the total, and a line says how much it is."""
    text = str(summary_of(PLAN, GUESSED))

    assert line_of(text, "write")[-1] == "~0.0003"
    assert line_of(text, "plan")[-1] == "0.0012"
    assert line_of(text, "Total")[-1] == "~0.0015"
    assert "~ estimated: 1 call, 0.0003 USD (no usage reported)" in text


def test_unpriced_is_named() -> None:
    """What is in no sum is said, with its model."""
    text = str(summary_of(PLAN, GUESSED, UNPRICED))

    assert line_of(text, "Total")[-2:] == [">", "~0.0015"]
    assert "> without a known price: 1 call of my-own" in text


def test_retries_have_a_column_where_there_are_any() -> None:
    """A node that was run again says how often; else there is no such column."""
    text = str(summary_of(PLAN, retried=("plan", "plan", "fetch")))

    assert line_of(text, "plan")[2:4] == ["1", "2"]
    assert line_of(text, "fetch")[:3] == ["fetch", "-", "1"]
    assert line_of(text, "Total")[:3] == ["Total", "1", "3"]
    assert "Retries" not in str(summary_of(PLAN))


def test_stopped_is_said() -> None:
    """The budget that refused a call stands below the table."""
    assert 'stopped by the budget of node "plan"' in str(summary_of(PLAN, stopped_by='node "plan"'))


def test_in_a_notebook_it_is_a_table() -> None:
    """The HTML has the same cells and lines."""
    page = summary_of(PLAN, GUESSED, stopped_by="trace")._repr_html_()
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)

    assert cells[:6] == ["Node", "Model", "Calls", "Input", "Output", "USD"]
    assert cells[-6:] == ["Total", "", "2", "2,140", "552", "~0.0015"]
    assert "stopped by the budget of trace" in page


HOSTILE = {
    "escape": ("a\x1b[2Jb", "\x1b[2J"),
    "single-byte escape": ("a\x9b2Jb", "\x9b"),
    "line": ("a\r\nTotal 0.00", "\nTotal"),
    "bidi": ("abc\u202e\u2066def", "\u202e"),
    "bell": ("a\x07", "\x07"),
    "surrogate": ("a\udc80", "\udc80"),
}
"""A name, and what of it must not get out."""


@pytest.mark.parametrize("place", ["node", "model"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_name_acts(kind: str, place: str) -> None:
    """What moves a cursor, ends a line or turns the text around reaches neither terminal, text nor page."""
    name, harm = HOSTILE[kind]
    call = Call(name if place == "node" else "plan", name if place == "model" else "m", 1, 1, None, None)
    summary = summary_of(call, stopped_by=f'node "{name}"')
    shown = [printed(summary, 200), str(summary), summary._repr_html_()]

    assert [False] * 3 == [harm in text for text in shown]
    "".join(shown).encode()


@pytest.mark.parametrize("name", ["[/b]", "[bold]x[/bold]", "a[/]b", "[link=http://evil]x", ":smile:"])
def test_markup_is_text(name: str) -> None:
    """Square brackets and colons in names are shown as they are; `[/b]` once ended the program."""
    summary = summary_of(Call(name, name, 1, 1, Decimal(1), Decimal(0)), stopped_by=f'node "{name}"')

    assert line_of(str(summary), name)[:2] == [name, name]
    assert name in printed(summary)


def test_markup_in_the_head_is_text() -> None:
    """So it is in a column's head, which a report takes from a tag's name."""
    console = Console(file=io.StringIO(), width=80)
    console.print(rows_table("[/b]", [], Row("Total"), console))

    assert "[/b]" in console.file.getvalue()


def test_html_is_text() -> None:
    """No name makes an element of a page."""
    name = "<script>alert(1)</script>\"'"
    page = summary_of(Call(name, name, 1, 1, None, None), stopped_by=name)._repr_html_()

    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4


def test_an_ascii_terminal_gets_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output cannot write a frame, `print(summary)` has none."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", file)
    print(summary_of(PLAN))
    file.flush()

    assert b"0.0012" in file.buffer.getvalue()


def test_a_live_table_marks_what_is_estimated() -> None:
    """A call that is still streaming is an estimate, and looks like one."""
    ledger = Ledger()
    ledger.run("call", GUESSED)
    console = Console(file=io.StringIO(), width=100)
    console.print(cost_table(ledger.summary(), console, waiting=True))

    assert line_of(console.file.getvalue(), "write")[-2] == "~0.0003"


def shown(text: str) -> tuple[list[Decimal], Decimal]:
    """The amounts of a printed table, and its total."""
    amounts = [Decimal(line.split()[-1]) for line in text.splitlines() if re.search(r" \d+\.\d{4,} *$", line)]
    return amounts[:-1], amounts[-1]


@pytest.mark.parametrize(
    ("usd", "first"),
    [
        pytest.param(["0.00035", "0.00035"], "0.00035", id="one-more-figure"),
        pytest.param(["0.0012", "0.0003"], "0.0012", id="none"),
        pytest.param(["0.001", "0.0007777"], "0.0010", id="smaller-than-others"),
        # 0.000333 three times would be 0.000999.
        pytest.param(["0.000333333", "0.000333333", "0.000333334"], "0.000333", id="thirds"),
        pytest.param(["0.00000001"] * 3, "0.00000001", id="smallest"),
        pytest.param(["0.000000004"] * 3, "0.00000001", id="below-what-is-shown"),
        pytest.param(["1234.56785", "0.00015", "20.00005"], "1234.5678", id="large-and-small"),
        pytest.param([f"0.00{number}37" for number in range(11, 51)], "0.001137", id="forty"),
    ],
)
def test_amounts_add_up_as_they_are_shown(usd: list[str], first: str) -> None:
    """Whoever adds up the rows gets the total below them, each amount is right to its last figure but one, and it fits."""
    calls = [Call(f"node {n}", "gpt-5-mini", 10, 5, Decimal(each), Decimal(0)) for n, each in enumerate(usd)]
    summary = summary_of(*calls)
    screen = io.StringIO()
    console = Console(file=screen, width=80, color_system=None)
    console.print(cost_table(summary, console))
    parts, total = shown(screen.getvalue())
    unit = Decimal(1).scaleb(total.as_tuple().exponent)

    assert sum(parts) == total
    assert len(usd) == len(parts)
    assert f"{parts[0]:f}" == first
    assert all(abs(part - Decimal(each)) < unit for part, each in zip(parts, usd, strict=True))
    assert abs(total - sum(map(Decimal, usd))) <= unit / 2
    assert max(map(len, screen.getvalue().splitlines())) <= 80
    assert f"{total:f}" in summary._repr_html_()
