"""Amounts: exact in any context, taken as written, and readable."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext
from typing import Any

import pytest

from langchain_mlflow_cost.money import add, as_written, readable

READABLE: dict[Any, str] = {
    0.0005250000000000001: "0.000525",
    Decimal("0.0005250000000000001"): "0.000525",
    Decimal("1E-7"): "0.0000001",
    Decimal("1E+3"): "1000",
    Decimal("0.50"): "0.5",
    Decimal("0E-9"): "0",
    Decimal("-0"): "0",
    Decimal(30): "30",
    Decimal("1234567.891234"): "1234567.89123",
    0.1 + 0.2: "0.3",
    3: "3",
}


@pytest.mark.parametrize("amount", READABLE, ids=repr)
def test_an_amount_is_printed_as_an_amount(amount: Any) -> None:
    """No exponent, no noise of float arithmetic, no zeros at the end."""
    assert READABLE[amount] == readable(amount)


WRITTEN: dict[Any, Decimal | None] = {
    0.1: Decimal("0.1"),
    "1e-3": Decimal("0.001"),
    " 2 ": Decimal(2),
    Decimal("0.10"): Decimal("0.1"),
    0: Decimal(0),
    -1: Decimal(-1),
    1_000_000_000_000: Decimal(10) ** 12,
    "1e400": None,
    "1e-400": None,
    "1e999999999": None,
    10**5000: None,
    float("inf"): None,
    "-inf": None,
    float("nan"): None,
    "sNaN": None,
    "much": None,
    True: None,
    None: None,
}


@pytest.mark.parametrize("value", WRITTEN, ids=lambda value: repr(value) if not isinstance(value, int) else "int")
def test_a_number_is_taken_as_it_was_written(value: Any) -> None:
    """0.1 is a tenth; what no amount can be is no number."""
    assert WRITTEN[value] == as_written(value)


def test_sums_do_not_depend_on_the_thread_s_context() -> None:
    """A context of three digits that traps rounding changes no sum, and no way to write it."""
    with localcontext() as context:
        context.prec = 3
        context.traps[Inexact] = True

        assert Decimal("1.000000001") == add(Decimal(1), Decimal("0.000000001"))
        assert "1.23456789" == readable(Decimal("1.23456789"))
        assert Decimal("1.23456789") == as_written("1.23456789")
