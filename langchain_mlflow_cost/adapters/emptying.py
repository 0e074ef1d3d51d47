"""Spans emptied by MLflow's public span processors, for an MLflow whose other parts are not as expected."""

from __future__ import annotations

import logging
from typing import Any

from langchain_mlflow_cost.attributes import OURS

log = logging.getLogger("langchain_mlflow_cost")


def empty_spans() -> None:
    """Put the emptying last among the user's own span processors: `reset` and `set_tracking_uri` drop all of them."""
    import mlflow  # noqa: PLC0415 - it may be missing or broken: that is what this module is for
    from mlflow.tracing.config import get_config  # noqa: PLC0415 - as above

    known = list(get_config().span_processors or [])
    if _empty not in known:
        mlflow.tracing.configure(span_processors=[*known, _empty])


def _empty(span: Any) -> None:
    try:
        span.set_inputs(None)
        span.set_outputs(None)
        for key in span.attributes:
            if not key.startswith("mlflow.") and key not in OURS:
                span.set_attribute(key, None)
        # There is no public way to take events, links, files or a status message back. That these fields may be
        # elsewhere in this MLflow is why the rest of the package is not in use.
        inner = span._span  # noqa: SLF001
        inner._events = inner._new_events()  # noqa: SLF001
        inner._links = inner._new_links(())  # noqa: SLF001
        inner._status = type(inner._status)(inner._status.status_code)  # noqa: SLF001
        span._attachments.clear()  # noqa: SLF001
        span._links.clear()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001 - no payload goes before structure
        import mlflow  # noqa: PLC0415 - as above

        log.warning("langchain_mlflow_cost cannot empty spans (%s): tracing is switched off", type(error).__name__)
        mlflow.tracing.disable()
