"""Tokens and costs as OpenTelemetry metrics, where the program has set a meter provider, and nothing where it has not.

Names go through the policy before they become attributes, and their number is bounded: each is a series in a database.
"""

from __future__ import annotations

import logging
import threading
from asyncio import CancelledError
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.adapters.meters import meter_of, meter_provider
from langchain_mlflow_cost.errors import BudgetExceededError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.redaction.walk import Redactor

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_mlflow_cost.pricing.book import PricedCall
    from langchain_mlflow_cost.pricing.usage import CallRequest, CallResult
    from langchain_mlflow_cost.redaction.rules import Rules
    from langchain_mlflow_cost.tracing.runs import Run

log = logging.getLogger("langchain_mlflow_cost")

TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - no password
COST: Final = "cost.usd"
CALLS: Final = "cost.calls"
UNPRICED: Final = "cost.unpriced_calls"
OTHER: Final = "_OTHER"
"""OpenTelemetry's word for a value that is not told apart."""
BUCKETS: Final = tuple(4**power for power in range(14))
"""Tokens: as the semantic conventions for generative AI ask, 1 to 67,108,864."""

ANSWERED: Final = "answered"
CACHED: Final = "cached"
REFUSED: Final = "refused"

_PROVIDERS: Final = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "x-ai": "x_ai",
}
"""Of genai-prices' ids those that the semantic conventions spell otherwise."""


class _Instruments:
    """Those of one meter provider, and the series that were begun on them."""

    def __init__(self, provider: Any) -> None:
        meter = meter_of(provider)
        self.provider = provider
        self.tokens = meter.create_histogram(
            TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.usd = meter.create_counter(COST, unit="{USD}", description="What model calls and tools' fees cost.")
        self.calls = meter.create_counter(CALLS, unit="{call}", description="Model calls, by how they ended.")
        self.unpriced = meter.create_counter(
            UNPRICED, unit="{call}", description="Model calls without a known price: they are not in cost.usd."
        )
        self._series: dict[str, set[tuple[str, ...]]] = {TOKEN_USAGE: set(), COST: set()}

    def bounded(self, kind: str, *names: str) -> tuple[str, ...]:
        """The names, or, once there are too many series of them, the word for others."""
        known = self._series[kind]
        if names in known:
            return names
        with _LOCK:
            if len(known) < limits().metric_series:
                known.add(names)
                return names
        return (OTHER,) * len(names)


_LOCK = threading.Lock()
_ONCE = Once(log)
_made: _Instruments | None = None


def _instruments(provider: Any) -> _Instruments:
    global _made  # noqa: PLW0603 - one for the process, as the provider is
    made = _made
    if made is None or made.provider is not provider:
        made = _made = _Instruments(provider)
    return made


def outcome_of(error: BaseException) -> str:
    """How a call ended that was broken off: `stopped` by a budget, `cancelled`, or `failed`."""
    if isinstance(error, BudgetExceededError):
        return "stopped"
    return "cancelled" if isinstance(error, CancelledError | GeneratorExit | KeyboardInterrupt) else "failed"


def note_call(
    run: Run,
    request: CallRequest,
    outcome: str,
    result: CallResult | None = None,
    priced: PricedCall | None = None,
    operation: str | None = None,
) -> None:
    """Count a model call.

    Args:
        run: The run that it was made in.
        request: What was asked for.
        outcome: `answered`, `failed`, `cancelled`, `stopped` or `refused`.
        result: What was used; None where nothing was billed. Its tokens are those of the sums, estimates included.
        priced: What the first handler's policy says that it cost.
        operation: By the semantic conventions; None for what LangChain says that it is.
    """
    provider = meter_provider()
    if provider is None:
        return
    try:
        made = _instruments(provider)
        if result is not None and result.cached:
            outcome = CACHED
        model = (request.model if priced is None else priced.model) or ""
        where = _where(made, run, "gen_ai.response.model", model, outcome, request.model)
        made.calls.add(1, where)
        if result is None or priced is None or result.cached:
            return
        if priced.cost is None:
            made.unpriced.add(1, where)
        else:
            _add_usd(made, priced.cost.total_usd, where)
        _record_tokens(made, run, request, result, operation)
    except Exception as error:  # noqa: BLE001 - a meter of whoever's: the graph goes on, and its sums are right
        _tell(error)


def note_fee(run: Run, tool: str, usd: Decimal) -> None:
    """Count the fee of a tool's call."""
    provider = meter_provider()
    if provider is None:
        return
    try:
        made = _instruments(provider)
        _add_usd(made, usd, _where(made, run, "gen_ai.tool.name", tool, ANSWERED))
    except Exception as error:  # noqa: BLE001 - as above
        _tell(error)


def _tell(error: Exception) -> None:
    _ONCE.log(
        type(error).__name__, "langchain_mlflow_cost could not write OpenTelemetry metrics (%s)", type(error).__name__
    )


def _add_usd(made: _Instruments, usd: Decimal, where: dict[str, str]) -> None:
    if usd > 0:
        made.usd.add(float(usd), where)


def _where(
    made: _Instruments, run: Run, kind: str, name: str, outcome: str, asked: str | None = None
) -> dict[str, str]:
    node, shown = made.bounded(COST, _clean(run, run.node), _clean(run, name, asked))
    return {"policy.node": node, kind: shown, "cost.outcome": outcome}


def _record_tokens(
    made: _Instruments, run: Run, request: CallRequest, result: CallResult, operation: str | None
) -> None:
    if operation is None:
        told = (run.metadata or {}).get("ls_model_type")
        operation = "text_completion" if told == "llm" else "chat"
    by = result.provider or request.provider or ""
    names = (_PROVIDERS.get(by, by), request.model or "", result.response_model or "")
    by, asked, answered = made.bounded(TOKEN_USAGE, *(_clean(run, name, request.model) for name in names))
    # Both names of the provider's: `gen_ai.system` is what dashboards from before 2025 ask for.
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": by or OTHER,
        "gen_ai.system": by or OTHER,
    }
    if asked:
        attributes["gen_ai.request.model"] = asked
    if answered:
        attributes["gen_ai.response.model"] = answered
    made.tokens.record(result.input_tokens, {**attributes, "gen_ai.token.type": "input"})
    if operation != "embeddings":
        made.tokens.record(result.output_tokens, {**attributes, "gen_ai.token.type": "output"})


def _clean(run: Run, name: str, asked: str | None = None) -> str:
    """A name, redacted by all handlers' policies and without what is private in a session of the trace.

    Names that the program gave stay, whoever has said them: identifiers of nodes, and the model that it asked for.
    """
    clean = _redacted(run.policy.rules, name)
    if not clean or all(map(str.isidentifier, clean.split("/"))) or name == asked:
        return clean
    for session in run.trace.private_sessions():
        clean, _ = session.text.scrub(clean)
    return clean


@lru_cache(maxsize=1_024)
def _redacted(rules: tuple[Rules, ...], name: str) -> str:
    # The same few come with every call. What raises leaves the call out of the metrics.
    for each in rules:
        clean, _ = Redactor(each).text(name)
        name = OTHER if clean is None else clean
    return name
