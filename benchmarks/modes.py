"""The ways to run a graph that are compared: without tracing, with MLflow's own, with ours, with peers'."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import peers

OURS: Final = "langchain_mlflow_cost"

Open: TypeAlias = Callable[[], AbstractContextManager[list[Any]]]


@dataclass(frozen=True, slots=True)
class Mode:
    """One column of the comparison. To add one: a row in MODES."""

    open: Open
    """Switches the mode on for one run, yields the callbacks to pass, and leaves nothing switched on."""
    about: str
    traced: bool = True
    """Whether MLflow gets a trace."""
    peer: Callable[[], peers.Peer] | None = None
    """Where spans and bytes are counted instead of at MLflow's store."""
    needs: str = "mlflow"
    """The module that must be there."""


@contextmanager
def _bare() -> Iterator[list[Any]]:
    yield []


@contextmanager
def _autolog() -> Iterator[list[Any]]:
    import mlflow

    mlflow.langchain.autolog()
    try:
        yield []
    finally:
        # Takes the patches out again, so that the next run of another mode is free of them.
        mlflow.langchain.autolog(disable=True)


_ADDRESS: Final = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub("[EMAIL]", value)
    if isinstance(value, dict):
        return {key: _mask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item) for item in value]
    return value


def _mask_span(span: Any) -> None:
    if span.inputs is not None:
        span.set_inputs(_mask(span.inputs))
    if span.outputs is not None:
        span.set_outputs(_mask(span.outputs))


@contextmanager
def _docs_mask() -> Iterator[list[Any]]:
    import mlflow

    mlflow.tracing.configure(span_processors=[_mask_span])
    try:
        with _autolog() as callbacks:
            yield callbacks
    finally:
        mlflow.tracing.configure(span_processors=[])


def _handler(policy: dict[str, Any], *, autolog: bool = True) -> Open:
    """A mode with our handler; it is made once, as an application would, and before the clock starts."""

    @cache
    def handler() -> Any:
        from langchain_mlflow_cost import MlflowCostHandler

        return MlflowCostHandler(policy if autolog else {**policy, "autolog_enabled": False})

    @contextmanager
    def opened() -> Iterator[list[Any]]:
        callbacks = [handler()]
        if not autolog:
            yield callbacks
            return
        with _autolog():
            yield callbacks

    return opened


def _everywhere(policy: dict[str, Any]) -> Open:
    """The same without a callback: what `configure(policy, everywhere=True)` does beside its set-up of the store."""

    @cache
    def handler() -> Any:
        from langchain_mlflow_cost import MlflowCostHandler

        return MlflowCostHandler(policy)

    @contextmanager
    def opened() -> Iterator[list[Any]]:
        from langchain_mlflow_cost.everywhere import govern_everywhere, govern_no_more

        with _autolog():
            govern_everywhere(handler())
            try:
                yield []
            finally:
                govern_no_more()

    return opened


def _peer(made: Callable[[], peers.Peer], about: str, needs: str) -> Mode:
    return Mode(lambda: made().open(), about, traced=False, peer=made, needs=needs)


POLICIES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "disabled": ({"enabled": False}, "`enabled: false`"),
    "cost_only": ({"artifact_level": "full", "redact_secrets": False}, "`full`, no redaction"),
    "minimal": ({"artifact_level": "minimal"}, "`minimal`"),
    "standard": ({}, "the defaults: `standard`, secrets redacted"),
    "full": ({"artifact_level": "full"}, "`full`, secrets redacted"),
    "standard_pii": ({"redact_pii": True}, "`standard`, everything redacted"),
    "full_redacted": ({"artifact_level": "full", "redact_pii": True}, "`full`, everything redacted"),
    "full_uncut": (
        {"artifact_level": "full", "redact_pii": True, "max_payload_chars": 100_000_000},
        "`full`, everything redacted, no payload cut",
    ),
}

# The one way in which spans are held until their trace ends: some node's prompts may leave no trace.
PRIVATE: Final = {"nodes": {"step_2": {"log_prompts": False}}}

MODES: Final[dict[str, Mode]] = {
    "bare": Mode(_bare, "no tracing at all", traced=False),
    "autolog": Mode(_autolog, "`mlflow.langchain.autolog()` alone"),
    "docs_mask": Mode(_docs_mask, "autolog and a span processor that masks addresses, as MLflow's documentation shows"),
    **{name: Mode(_handler(policy), f"handler, {about}", needs=OURS) for name, (policy, about) in POLICIES.items()},
    **{
        f"{name}-noautolog": Mode(
            _handler(policy, autolog=False), f"handler, {about}; `autolog()` never called", needs=OURS
        )
        for name, (policy, about) in POLICIES.items()
        if name != "disabled"
    },
    "everywhere": Mode(_everywhere({}), "no callback passed, the defaults hold everywhere", needs=OURS),
    "private": Mode(_handler(PRIVATE), "handler, one node `log_prompts: false`: the trace is held", needs=OURS),
    "langfuse": _peer(lambda: peers.langfuse(mask=False), "Langfuse", "langfuse"),
    "langfuse_mask": _peer(lambda: peers.langfuse(mask=True), "Langfuse, `mask` with four rules", "langfuse"),
    "langsmith": _peer(lambda: peers.langsmith(anonymize=False), "LangSmith", "langsmith"),
    "langsmith_anonymizer": _peer(
        lambda: peers.langsmith(anonymize=True), "LangSmith, anonymizer with four rules", "langsmith"
    ),
    "openinference": _peer(
        lambda: peers.openinference(hide=False), "OpenInference", "openinference.instrumentation.langchain"
    ),
    "openinference_hidden": _peer(
        lambda: peers.openinference(hide=True),
        "OpenInference, inputs and outputs hidden",
        "openinference.instrumentation.langchain",
    ),
}
