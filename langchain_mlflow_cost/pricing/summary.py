"""The record of what a trace cost, and how it is shown: as plain numbers, as a table, in a notebook as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from langchain_mlflow_cost.money import readable
from langchain_mlflow_cost.notices import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


class TokenCounts(BaseModel):
    """Tokens as the provider counted them; cached tokens are part of the input."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int = 0
    """Tokens that the models read."""
    output_tokens: int = 0
    """Tokens that the models wrote, reasoning included."""
    total_tokens: int = 0
    """Their sum."""


class NodeCost(BaseModel):
    """The calls of one node, those of nodes inside it not included."""

    model_config = ConfigDict(frozen=True)

    cost_usd: float = 0.0
    """USD of all priced calls, of models and tools."""
    tokens: TokenCounts = Field(default_factory=TokenCounts)
    """Tokens of all calls that were not answered from a cache."""
    calls: int = 0
    """Model calls that gave an answer, also cached and unpriced ones."""
    models: tuple[str, ...] = ()
    """The models that answered, sorted."""
    retries: int = 0
    """How often LangGraph ran the node again after an error (`retry_policy`)."""
    estimated_calls: int = 0
    """Those of its calls whose tokens were counted by us."""


class CostSummary(BaseModel):
    """What one trace cost, in total and per node. Printed, and in a notebook, it is a table."""

    model_config = ConfigDict(frozen=True)

    trace_id: str = ""
    """MLflow's id of the trace; empty where there is none."""
    total_cost_usd: float = 0.0
    """USD of all priced calls, fees per use included."""
    total_tokens: TokenCounts = Field(default_factory=TokenCounts)
    """Tokens of all calls that were not answered from a cache."""
    llm_calls: int = 0
    """Model calls that gave an answer, also cached and unpriced ones, or were sent and lost; not refused ones."""
    cached_calls: int = 0
    """Those of them that LangChain's LLM cache answered, at no cost."""
    unpriced_calls: int = 0
    """Those of them whose model no price source knows; they are in no sum of USD."""
    estimated_calls: int = 0
    """Those of them whose tokens were counted by us from the text, because the provider did not say."""
    estimated_usd: float = 0.0
    """The part of `total_cost_usd` that those calls are."""
    tool_cost_usd: float = 0.0
    """The part of `total_cost_usd` that is fees of tools (`prices.tools`)."""
    unpriced_models: tuple[str, ...] = ()
    """The models of the calls without a price, sorted."""
    stopped_by: str | None = None
    """The budget that refused a call first, in words without ids: `trace`, `node "research"`, `session`."""
    node_breakdown: Mapping[str, NodeCost] = Field(default_factory=dict)
    """Node path to its own calls; calls outside any node stand under `""`."""

    def as_metrics(self) -> dict[str, float]:
        """The sums as plain numbers, for `mlflow.log_metrics`; those of the nodes are left out."""
        return {
            "total_cost_usd": self.total_cost_usd,
            "estimated_usd": self.estimated_usd,
            "tool_cost_usd": self.tool_cost_usd,
            "input_tokens": self.total_tokens.input_tokens,
            "output_tokens": self.total_tokens.output_tokens,
            "total_tokens": self.total_tokens.total_tokens,
            "llm_calls": self.llm_calls,
            "cached_calls": self.cached_calls,
            "unpriced_calls": self.unpriced_calls,
            "estimated_calls": self.estimated_calls,
        }

    def __str__(self) -> str:
        """The table as plain text, as wide as the terminal."""
        from langchain_mlflow_cost.pricing.table import cost_text  # noqa: PLC0415 - rich is only needed to look

        return cost_text(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as rich prints it."""
        from langchain_mlflow_cost.pricing.table import cost_table  # noqa: PLC0415 - as above

        del options
        yield cost_table(self, console)

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        from langchain_mlflow_cost.pricing.table import cost_html  # noqa: PLC0415 - as above

        return cost_html(self)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a cost table."""

    name: str
    models: tuple[str, ...] = ()
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: bool = False
    """Some of its calls have no known price, so that the cost is a part of the truth."""
    estimated: bool = False
    """The tokens of some of its calls were counted by us, because the provider did not say."""
    retries: int = 0
    """How often a node was run again after an error."""
    more: tuple[str, ...] = ()
    """Further names, for further columns behind the first."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come back yet, so that nothing is known."""
        return not self.calls and not self.cost_usd


def summary_rows(summary: CostSummary, nameless: str) -> list[Row]:
    """A row for each node; `nameless` is what the one with an empty name is called."""
    unknown = set(summary.unpriced_models)
    return [
        Row(
            name or nameless,
            tuple(node.models),
            node.calls,
            node.tokens.input_tokens,
            node.tokens.output_tokens,
            node.cost_usd,
            unpriced=not unknown.isdisjoint(node.models),
            estimated=node.estimated_calls > 0,
            retries=node.retries,
        )
        for name, node in summary.node_breakdown.items()
    ]


def summary_total(summary: CostSummary) -> Row:
    """The row of all nodes together."""
    return Row(
        "Total",
        calls=summary.llm_calls,
        input_tokens=summary.total_tokens.input_tokens,
        output_tokens=summary.total_tokens.output_tokens,
        cost_usd=summary.total_cost_usd,
        unpriced=summary.unpriced_calls > 0,
        estimated=summary.estimated_calls > 0,
        retries=sum(node.retries for node in summary.node_breakdown.values()),
    )


def summary_notes(summary: CostSummary) -> list[str]:
    """What has to be said of the figures, a line each: what is estimated or not known, and what was stopped."""
    notes = sums_notes(
        estimated_calls=summary.estimated_calls,
        estimated_usd=summary.estimated_usd,
        unpriced_calls=summary.unpriced_calls,
        unpriced_models=summary.unpriced_models,
        tool_usd=summary.tool_cost_usd,
    )
    if summary.stopped_by:
        notes.append(f"stopped by the budget of {printable(summary.stopped_by)}")
    return notes


def sums_notes(
    *,
    estimated_calls: int,
    estimated_usd: float,
    unpriced_calls: int,
    unpriced_models: Sequence[str],
    tool_usd: float,
) -> list[str]:
    """What has to be said of sums, a line each; USD and numbers of calls."""
    notes = []
    if estimated_calls:
        part = f", {readable(estimated_usd)} USD" if estimated_usd else ""
        notes.append(f"~ estimated: {_calls(estimated_calls)}{part} (no usage reported)")
    if unpriced_calls:
        models = ", ".join(printable(model) for model in unpriced_models)
        notes.append(f"> without a known price: {_calls(unpriced_calls)}{f' of {models}' if models else ''}")
    if tool_usd:
        notes.append(f"fees of tools in it: {readable(tool_usd)} USD")
    return notes


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
