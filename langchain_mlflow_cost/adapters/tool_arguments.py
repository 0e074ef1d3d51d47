"""Whether a tool was called at all: LangChain tells of its start before it looks at the arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from langchain_core.tools import BaseTool
from pydantic import ValidationError

if TYPE_CHECKING:
    from types import TracebackType

_CHECK: Final = BaseTool._parse_input.__code__  # noqa: SLF001 - no event tells of it (langchain-core 1.7)
"""Holds the arguments against the tool's schema."""


def were_refused(error: BaseException | None) -> bool:
    """Whether a tool's run ended because its arguments did not fit the schema, so that the tool was never called."""
    if not isinstance(error, ValidationError):
        return False
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is _CHECK:
            return True
        trace = trace.tb_next
    return False
