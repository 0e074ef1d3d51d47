"""Exact USD: sums and products that do not depend on the caller's decimal context, and amounts for people to read."""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Final

EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""In 60 digits, products and sums of prices and counts are exact. The thread's own context may have six, or trap."""

ZERO: Final = Decimal(0)

MOST_USD: Final = Decimal(10) ** 12
"""A larger amount is a slip of the pen, such as `1e400`."""

LEAST_USD: Final = Decimal(10) ** -24
"""So is a smaller one that is not 0."""

_ONE: Final = Decimal(1)
_READABLE: Final = Context(prec=12, rounding=ROUND_HALF_EVEN, traps=[])


def add(*amounts: Decimal) -> Decimal:
    """Return the exact sum; 0 for no amounts."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def as_written(value: object) -> Decimal | None:
    """Take a number as it was written: the float 0.1 is a tenth.

    YAML 1.1 reads `1e-3` as a text, so texts may be numbers.

    Returns:
        None for what is no number, or one that no amount can be: nan, inf, and beyond `MOST_USD` or `LEAST_USD`, either
        side of 0.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        return None
    if isinstance(value, int) and abs(value) > MOST_USD:
        return None  # Python refuses to write out an `int` of thousands of digits.
    try:
        number = Decimal(value if isinstance(value, Decimal) else str(value).strip())
    except InvalidOperation:
        return None
    # By comparisons and signs alone, which no context rounds.
    if not number.is_finite() or number.copy_abs() > MOST_USD or (number and number.copy_abs() < LEAST_USD):
        return None
    return number


def plain(amount: Decimal) -> Decimal:
    """Take zeros off its end, without turning 30 into 3E+1: prices multiplied out have many, `0.00210000`."""
    short = amount.normalize(EXACT)
    exponent = short.as_tuple().exponent
    return short.quantize(_ONE) if isinstance(exponent, int) and exponent > 0 else short


def readable(amount: Decimal | float) -> str:
    """Write an amount for people: 12 figures at most, no exponent, no zeros at its end: `0.000525`, `30`.

    `0.0005250000000000001` is what float arithmetic makes of it; nobody means its last digits.
    """
    with localcontext(_READABLE):
        short = (+(amount if isinstance(amount, Decimal) else Decimal(str(amount)))).normalize()
    return f"{short:f}" if short else "0"
