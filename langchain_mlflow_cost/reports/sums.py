"""The sums of a report: of the calls that have something in common, and of all together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_mlflow_cost.pricing.rates import TOKEN_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLASS_FIELDS = tuple(f"tokens_{name}" for name in TOKEN_CLASSES)
"""Tokens by class, where they were asked for."""

UNTOLD = "usage_not_stored"
"""Instead of a class: what calls cost whose usage is not stored."""


@dataclass(slots=True)
class Sums:
    """Of some calls. Tokens of answers from LangChain's cache are left out, as in `CostSummary`."""

    traces: int = 0
    """Those with a call among these. A trace with calls of two groups is counted in both."""
    calls: int = 0
    """Model calls that gave an answer; by tool, calls of the tool."""
    cached_calls: int = 0
    unpriced_calls: int = 0
    estimated_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_usd: float = 0.0
    output_usd: float = 0.0
    estimated_usd: float = 0.0
    """What the estimated calls cost; part of the others."""
    tool_usd: float = 0.0
    """Fees of tools."""
    retries: int = 0
    models: tuple[str, ...] = ()
    """The models that answered, sorted."""
    unpriced_models: tuple[str, ...] = ()
    """Those of them that no price source knows."""
    tokens: dict[str, int] = field(default_factory=dict)
    """By class of `TOKEN_CLASSES`, where it was asked for."""
    usd: dict[str, float] = field(default_factory=dict)
    """By class of `TOKEN_CLASSES` and `FEE_CLASSES`, and as `UNTOLD`, where it was asked for."""

    @property
    def cost_usd(self) -> float:
        """All priced calls, fees per use and of tools included."""
        return self.input_usd + self.output_usd + self.tool_usd

    @property
    def is_unpriced(self) -> bool:
        """Whether nothing is known of what the calls cost."""
        return self.unpriced_calls > 0 and self.unpriced_calls == self.calls and not self.tool_usd

    def add(self, other: Sums) -> None:
        """Add the sums of other calls."""
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.models = tuple(sorted({*self.models, *other.models}))
        self.unpriced_models = tuple(sorted({*self.unpriced_models, *other.unpriced_models}))
        for name, count in other.tokens.items():
            self.tokens[name] = self.tokens.get(name, 0) + count
        for name, usd in other.usd.items():
            self.usd[name] = self.usd.get(name, 0.0) + usd

    def as_fields(self) -> dict[str, Any]:
        """The figures as a report's JSON and CSV have them; see docs/reports.md."""
        told: dict[str, Any] = {"cost_usd": None if self.is_unpriced else self.cost_usd}
        told |= {name: getattr(self, name) for name in NUMBERS}
        told |= {"models": list(self.models), "unpriced_models": list(self.unpriced_models)}
        told |= {f"{name}_tokens": count for name, count in self.tokens.items()}
        told |= {f"{name}_usd": usd for name, usd in self.usd.items()}
        return told


class AnsweredCall(NamedTuple):
    """A call that a provider answered, as it is stored."""

    values: tuple[str | None, ...]
    """Of the raw fields that were asked for."""
    usage: str
    """Its `cost.usage`; empty where none is stored: by 0.1, and by other libraries."""
    usd: float | None
    """What it cost by then; None where no price was known."""


_NAMES_AND_CLASSES = {"tokens", "usd", "models", "unpriced_models"}
NUMBERS = tuple(each.name for each in fields(Sums) if each.name not in _NAMES_AND_CLASSES)
"""Fields that are added up."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked for, and what it came to."""

    by: tuple[str, ...]
    """What the groups are told apart by, such as `day` and `tag:team`."""
    groups: Mapping[tuple[str, ...], Sums]
    """By the values of `by`; the dearest first, days and weeks in their order."""
    total: Sums
    """Of all calls; its traces are counted once."""
    traces: int
    """All in the period, also those without a model call of this library."""
    stops: Mapping[str, int] = field(default_factory=dict)
    """Traces that a budget stopped, by the budget's words."""
    first_ms: int | None = None
    """When the first of the traces began, milliseconds since the epoch."""
    last_ms: int | None = None


def added_up(groups: Iterable[Sums]) -> Sums:
    """All together; traces are not added, since one may be in several groups."""
    total = Sums()
    for sums in groups:
        total.add(sums)
    total.traces = 0
    return total


def joined(groups: Iterable[tuple[Sequence[str], Sums]]) -> dict[tuple[str, ...], Sums]:
    """Put together what has come to have the same name."""
    found: dict[tuple[str, ...], Sums] = {}
    for values, sums in groups:
        found.setdefault(tuple(values), Sums()).add(sums)
    return found
