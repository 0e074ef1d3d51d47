"""Which traces a report is of, by when they began: lengths of time, the latest so many, and what is no such thing."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from stored_traces import store_call

if TYPE_CHECKING:
    from collections.abc import Callable

    Cli = Callable[..., Any]


@pytest.fixture
def report(cli: Cli, store: str) -> Callable[..., Any]:
    """A report of four calls, of so long ago: an hour 1 USD, 30 hours 2 USD, 6 days 4 USD, 6 weeks 8 USD."""
    now = datetime.now(UTC)
    for usd, ago in enumerate((timedelta(hours=1), timedelta(hours=30), timedelta(days=6), timedelta(weeks=6))):
        store_call(float(2**usd), now - ago)
    return lambda *words: cli("report", "--experiment", "tests", "--tracking-uri", store, *words)


@pytest.mark.parametrize(("words", "usd"), [
    ((), 15),
    (("--last", "24h"), 1),
    (("--last", "2d"), 3),
    (("--last", "1w"), 7),
    (("--since", "7d"), 7),
    (("--since", "7d", "--until", "24h"), 6),
    # The week that ended a day ago.
    (("--last", "7d", "--until", "24h"), 6),
    (("--last", "2"), 3),
    (("--last", "100"), 15),
    (("--last", "1", "--until", "24h"), 2),
])  # fmt: skip
def test_a_length_of_time(report: Callable[..., Any], words: tuple[str, ...], usd: float) -> None:
    """Back from now, or from the end that is given; or the latest so many traces."""
    done = report(*words, "--format", "json")

    assert (done.code, json.loads(done.out)["total"]["cost_usd"]) == (0, usd)


@pytest.mark.parametrize(("words", "option", "remedy"), [
    (("--last", "0"), "--last", "7d"),
    (("--last", "a week"), "--last", "7d"),
    (("--last", "7d", "--since", "2026-06-01"), "--last", "--since"),
    (("--since", "yesterday"), "--since", "2026-11-01"),
    (("--since", "2026-06-02", "--until", "2026-06-01"), "--until", "ends before it begins"),
    (("--timezone", "Europe/Berln"), "--timezone", "did you mean Europe/Berlin?"),
    (("--timezone", "Nowhere/At_All_Q"), "--timezone", "local"),
])  # fmt: skip
def test_what_is_no_period(report: Callable[..., Any], words: tuple[str, ...], option: str, remedy: str) -> None:
    """The option and the remedy are told, and nothing is written."""
    done = report(*words, "--format", "json")
    told = " ".join(done.err.replace("│", " ").split())

    assert (done.code, done.out) == (2, "")
    assert option in told
    assert remedy in told


@pytest.mark.parametrize(("machine", "days"), [
    ("Europe/Berlin", ["2026-01-16", "2026-06-02"]),  # one hour ahead in winter, two in summer
    (":Europe/Berlin", ["2026-01-16", "2026-06-02"]),
    ("America/New_York", ["2026-01-15", "2026-06-01"]),
    ("UTC0", ["2026-01-15", "2026-06-01"]),
])  # fmt: skip
def test_the_machine_s_own_days(
    cli: Cli, store: str, monkeypatch: pytest.MonkeyPatch, machine: str, days: list[str]
) -> None:
    """`local` is the zone of the machine, in summer and in winter, whichever it is now."""
    for moment in ("2026-01-15T23:30:00+00:00", "2026-06-01T22:30:00+00:00"):
        store_call(began=datetime.fromisoformat(moment))
    words = ("report", "--experiment", "tests", "--tracking-uri", store, "--timezone", "local", "--by", "day")
    with monkeypatch.context() as here:
        here.setenv("TZ", machine)
        time.tzset()
        told = json.loads(cli(*words, "--format", "json").out)
    time.tzset()

    assert sorted(row["day"] for row in told["rows"]) == days
