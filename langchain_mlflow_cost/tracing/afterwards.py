"""Tags and assessments that are written to a trace after its end, cleaned as if they had been there before.

Only under `configure(everywhere=True)`: a handler that is passed governs its invocations.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.adapters.later_writes import clean_later_writes
from langchain_mlflow_cost.notices import Once
from langchain_mlflow_cost.tracing.beside import clean_tag, keep_assessment
from langchain_mlflow_cost.tracing.span_state import SpanState, log
from langchain_mlflow_cost.tracing.trace import ENDED, Trace, known_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_mlflow_cost.tracing.handler_state import HandlerState

_TOLD = Once(log)
_NOT_IN_KEYS: Final = re.compile(r"[^\w.\- :/]")
"""What MLflow's stores refuse in a tag's key."""
_everywhere: HandlerState | None = None


def govern_later_writes(state: HandlerState | None) -> None:
    """Let a handler govern them from now on; None: leave them alone again."""
    global _everywhere  # noqa: PLW0603 - one for the process, replaced whole
    _everywhere = state
    ENDED.is_kept = state is not None
    if state is not None:
        clean_later_writes(LaterWrites())


def _open_trace(trace_id: str) -> Trace | None:
    trace = known_trace(int(trace_id[3:], 16)) if trace_id.startswith("tr-") else None
    # Those that have ended are known as long as their handler remembers them.
    return None if trace is None or trace.info_policy is None else trace


@contextlib.contextmanager
def _state_of(trace_id: str, governing: HandlerState) -> Iterator[SpanState]:
    """What holds for a trace: its policies, and what its private nodes were told."""
    open_trace = _open_trace(trace_id)
    if open_trace is not None and open_trace.info_policy is not None:
        yield SpanState(open_trace.info_policy, open_trace, "root", is_foreign=True)
        return
    trace, ended = Trace(), ENDED.of(trace_id)
    if ended is not None:
        for session_id in ended.session_ids:
            trace.session_of(session_id)
    elif governing.policy.has_private_nodes:
        # Another process's, or too long ago: nobody here knows what is private in it.
        trace.withhold_unknown()
    try:
        policy = governing.policy.for_node(()) if ended is None else ended.policy
        yield SpanState(policy, trace, "root", is_foreign=True)
    finally:
        trace.close()


class LaterWrites:
    """Asked before anything is written; what cannot be cleaned is not."""

    @staticmethod
    def has_ended(trace_id: str) -> bool:
        """Whether a trace of this process was cleaned."""
        return _everywhere is not None and _open_trace(trace_id) is None and ENDED.of(trace_id) is not None

    @staticmethod
    def tag(trace_id: str, key: str, value: str) -> tuple[str, str] | None:
        """The tag that is written in the place of one."""
        governing = _everywhere
        if governing is None:
            return key, value
        try:
            with _state_of(trace_id, governing) as state:
                clean_key, clean_value = clean_tag(state, key, value)
            # A token's brackets are refused there.
            return key if clean_key == key else _NOT_IN_KEYS.sub("_", clean_key), clean_value
        except Exception as error:  # noqa: BLE001 - fail closed
            _tell(f"a tag could not be cleaned ({type(error).__name__})")
            return None

    @staticmethod
    def assessment(trace_id: str, assessment: Any) -> bool:
        """Clean an assessment in place; whether it may be written."""
        governing = _everywhere
        if governing is None:
            return True
        try:
            with _state_of(trace_id, governing) as state:
                kept = keep_assessment(state, assessment)
        except Exception as error:  # noqa: BLE001 - fail closed
            _tell(f"an assessment could not be cleaned ({type(error).__name__})")
            return False
        if not kept:
            _tell("an assessment is not stored, as the policy keeps no payload of that trace")
        return kept


def _tell(what: str) -> None:
    _TOLD.log(what, f"langchain_mlflow_cost: written after a trace's end: {what}")
