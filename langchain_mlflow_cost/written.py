"""Types of settings as people write them: exact numbers, `${VAR}` filled in, and nothing unknown beside them."""

from __future__ import annotations

import os
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

from langchain_mlflow_cost.money import LEAST_USD, MOST_USD, as_written

SETTINGS: Final = ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    # An error's text is logged; the input it would quote may be a key.
    hide_input_in_errors=True,
    use_attribute_docstrings=True,
)
"""For every model of settings."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand(value: object) -> object:
    """Replace `${VAR}` by the environment's value.

    Raises:
        ValueError: There is no such variable, or it is empty.
    """
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if not os.environ.get(name):
            raise ValueError(f"environment variable {name} is not set, or empty; set it before the policy is loaded")
    return _VARIABLE.sub(lambda match: os.environ[match[1]], value)


def _as_decimal(value: object) -> object:
    number = as_written(value)
    if number is not None:
        return number
    if _is_finite(value):
        raise ValueError(
            f"expected a number of at most {MOST_USD:.0e}, and 0 or at least {LEAST_USD:.0e}, found one beyond; "
            "correct it or leave the key out"
        )
    return value  # What is no number at all is told in the same words as everywhere.


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        return False
    try:
        return isinstance(value, int) or Decimal(str(value).strip()).is_finite()
    except InvalidOperation:
        return False


Usd: TypeAlias = Annotated[Decimal, BeforeValidator(_as_decimal), Field(ge=0)]
Fraction: TypeAlias = Annotated[Decimal, BeforeValidator(_as_decimal), Field(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Expanded: TypeAlias = Annotated[str | None, BeforeValidator(expand)]
"""A text in which `${VAR}` is an environment variable."""
