"""How the commands speak: tables and figures on standard output, what they have to say on standard error."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from decimal import Decimal


def console() -> Console:
    """Standard output, as wide as the terminal; texts are printed as they are."""
    return Console(highlight=False, markup=False)


def tell(message: str) -> None:
    """Say something on standard error that does not belong to what was asked for."""
    sys.stderr.write(f"mlflow-cost: {message}\n")


def without_passwords(text: str) -> str:
    """A server's address may hold one."""
    return re.sub("//[^/@]+@", "//****@", text)


def counted(count: int, word: str) -> str:
    """`1 trace`, `1,200 traces`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def digits(amount: Decimal) -> str:
    """All digits, without an exponent or trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
