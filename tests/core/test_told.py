"""What the operator reads: a line at set-up, one after each root; and a word on a trace that nobody knows."""

from __future__ import annotations

import logging
import re
import warnings

import pytest
from fake_models import FakeChat, FakeStream
from ways import ASK, given, one_node

from langchain_mlflow_cost import CostSummary, MlflowCostHandler, configure

LOG = "langchain_mlflow_cost"


def told(caplog: pytest.LogCaptureFixture, of: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.INFO and of in each.getMessage()]


def ask(handler: MlflowCostHandler, *models: FakeChat) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one_node(lambda state: [model.invoke(state["messages"][:1]) for model in models]).invoke(ASK, given(handler))


def test_one_line_after_each_root(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """It has tokens, USD and the trace's id; there is none for the runs inside."""
    caplog.set_level(logging.INFO, logger=LOG)
    handler = MlflowCostHandler()
    ids = []
    for _ in range(2):
        ask(handler, FakeChat(), FakeChat())
        ids.append(handler.summary().trace_id)

    assert told(caplog, "USD") == [f"trace {each}: 3,000 tokens, 0.0009 USD (2 model calls)" for each in ids]


def test_the_line_says_how_sure_it_is(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """Estimated calls, calls without a price, and the budget that stopped it are said."""
    caplog.set_level(logging.INFO, logger=LOG)
    handler = MlflowCostHandler({"budget": {"max_cost_usd": 0.0001}})
    with pytest.raises(RuntimeError):
        ask(handler, FakeStream(usage=None), FakeChat(model="acme-unpriced-7"), FakeChat(), FakeChat())
    (line,) = told(caplog, "USD")

    assert re.search(r"\(3 model calls, 1 estimated, 1 without a price\), stopped by the budget of trace$", line)


def test_unknown_is_not_zero(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where no call has a price the amount is unknown."""
    caplog.set_level(logging.INFO, logger=LOG)
    ask(MlflowCostHandler(), FakeChat(model="acme-unpriced-7"))

    assert "1,500 tokens, unknown USD" in told(caplog, "USD")[0]


def test_one_line_at_set_up(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """However many handlers are made alike, the place and the policy are told once, and no credentials."""
    caplog.set_level(logging.INFO, logger=LOG)
    for _ in range(3):
        configure({"budget": {"max_cost_usd": 7}, "artifact_level": "minimal"})

    assert told(caplog, "is set up") == [
        f"langchain_mlflow_cost is set up: traces go to {store}; payloads minimal; budgets 1"
    ]


def test_an_unknown_trace_is_told(store: str) -> None:
    """As `cost_summary` does, `summary` warns and gives an empty one."""
    handler = MlflowCostHandler()
    with pytest.warns(UserWarning, match="no cost summary for trace tr-0: this handler knows none of that id"):
        summary = handler.summary("tr-0")

    assert summary == CostSummary(trace_id="tr-0")


def test_before_the_first_trace_nothing_is_told(store: str) -> None:
    """A live table asks before anything has begun."""
    assert MlflowCostHandler().summary() == CostSummary()
