"""`report --what-if`: what stored calls would have cost, without a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from fake_models import MINI_USD, SONNET, SONNET_USD, UNKNOWN, FakeChat
from test_report_sums import spend
from ways import ASK, given, one_node

from langchain_mlflow_cost import MlflowCostHandler
from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.policy.settings import Policy
from langchain_mlflow_cost.reports.dimensions import dimensions
from langchain_mlflow_cost.reports.query import Question, Store
from langchain_mlflow_cost.reports.what_if import Replacement, WhatIf

if TYPE_CHECKING:
    from langchain_mlflow_cost.reports.what_if import Outcome

SERVER = "http://127.0.0.1:9"
"""Anything that has no tables: traces are read page by page."""
BOOK = Policy().price_book(catalogue_rates)


def experiments() -> dict[str, str]:
    found = mlflow.get_experiment_by_name("tests")
    return {found.experiment_id: found.name}


def asked(place: str, *replacements: str, policy: Any = None, by: str = "node") -> tuple[dict[Any, Outcome], Outcome]:
    book = BOOK if policy is None else Policy.load(policy).price_book(catalogue_rates)
    what_if = WhatIf([Replacement.parse(each) for each in replacements], book, reprices_all=policy is not None)
    return Store(place).what_if(Question(experiments(), by=dimensions(by)), what_if)


def test_the_identity_is_what_is_stored(store: str) -> None:
    """The same models, or the same policy: the cost of every group is the stored one to 1e-9, and no range."""
    spend()
    same = {"prices": {"tools": {"look_up": 0.002}}}
    for place in (store, SERVER):
        for replacements, policy in (
            (
                (
                    "plan=openai/gpt-4o-mini",
                    "model=gpt-4o-mini",
                    "judge=anthropic/" + SONNET,
                    "**/writer=anthropic/" + SONNET,
                ),
                None,
            ),
            ((), same),
        ):
            for by in ("node", "model", "day,user"):
                report = Store(place).report(Question(experiments(), by=dimensions(by)))
                groups, total = asked(place, *replacements, policy=policy, by=by)
                told = {values: outcome.usd + outcome.change_usd for values, outcome in groups.items()}

                assert told == pytest.approx({name: sums.cost_usd for name, sums in report.groups.items()}, rel=1e-9)
                assert not total.is_range
                assert total.usd + total.change_usd == pytest.approx(report.total.cost_usd, rel=1e-9)


def one_call(model: Any, node: str = "node") -> None:
    one_node(lambda state: model.invoke(state["messages"])).invoke(ASK, given(MlflowCostHandler()))


def test_another_model_gives_a_range(store: str) -> None:
    """1,000 tokens in and 500 out by gpt-4o-mini; by Sonnet 0.0105 USD, at least 750 and 250, at most 1,350 and 1,000."""
    one_call(FakeChat())
    groups, total = asked(store, "node=anthropic/" + SONNET)

    assert groups[("node",)].usd == pytest.approx(float(MINI_USD))
    assert total.usd + total.change_usd == pytest.approx(float(SONNET_USD))
    assert total.usd + total.low_change_usd == pytest.approx(750 * 3e-6 + 250 * 15e-6)
    assert total.usd + total.high_change_usd == pytest.approx(1350 * 3e-6 + 1000 * 15e-6)
    assert (total.replaced_calls, total.is_range) == (1, True)
    assert asked(store, "other=anthropic/" + SONNET)[1].replaced_calls == 0


def test_a_model_with_the_same_tokenizer(store: str) -> None:
    """By gpt-4o prompts are as long as they were; only answers may differ: 1,000 at 2.50, 250 to 1,000 at 10 a million."""
    one_call(FakeChat())
    _, total = asked(store, "node=gpt-4o")

    assert total.usd + total.change_usd == pytest.approx(0.0025 + 0.005)
    assert total.usd + total.low_change_usd == pytest.approx(0.0025 + 0.0025)
    assert total.usd + total.high_change_usd == pytest.approx(0.0025 + 0.01)


def test_the_same_model_elsewhere_is_no_range(store: str) -> None:
    """Claude at Bedrock says the same as at Anthropic: another price at most, and no doubt about lengths."""
    one_call(FakeChat(model=SONNET))
    _, total = asked(store, f"node=aws/us.anthropic.{SONNET}-20250929-v1:0")

    assert (total.replaced_calls, total.unknown_calls, total.is_range) == (1, 0, False)
    # Bedrock's regional profiles cost a tenth more.
    assert total.usd + total.change_usd == pytest.approx(1.1 * float(SONNET_USD))


def test_what_another_provider_has_in_its_cache_is_unknown(store: str) -> None:
    """At the highest nothing of the prompt is read from a cache."""
    usage = {
        "input_tokens": 1000,
        "output_tokens": 0,
        "total_tokens": 1000,
        "input_token_details": {"cache_read": 1000},
    }
    one_call(FakeChat(usage=usage))
    _, total = asked(store, "node=anthropic/" + SONNET)

    assert total.usd + total.change_usd == pytest.approx(1000 * 0.3e-6)
    assert total.usd + total.high_change_usd == pytest.approx(1350 * 3e-6)


def test_what_has_no_price_is_told(store: str) -> None:
    """A model that no source knows: its calls are counted, and in no sum; a policy that knows it prices them exactly."""
    one_call(FakeChat(model=UNKNOWN))
    one_call(FakeChat())

    assert asked(store, "node=acme/never-heard-of")[1].unknown_calls == 2
    _, total = asked(store, policy={"prices": {"overrides": {UNKNOWN: {"input": 2, "output": 8}}}})
    assert (total.unknown_calls, total.is_range) == (0, False)
    assert total.usd + total.change_usd == pytest.approx(0.006 + float(MINI_USD))


@pytest.mark.parametrize("text", ["writer", "=gpt-4o", "writer=", "a||b=gpt-4o"])
def test_what_cannot_be_read(text: str) -> None:
    """It is answered with what it should be."""
    with pytest.raises(ValueError, match=r"NODE=PROVIDER/MODEL|\|"):
        Replacement.parse(text)


def test_json_has_documented_fields(store: str) -> None:
    """Each field of the JSON stands in docs/reports.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text()
    one_call(FakeChat())
    fields = asked(store)[1].as_fields()

    assert [name for name in fields if f"`{name}`" not in text] == []
    assert json.loads(json.dumps(fields)) == fields
