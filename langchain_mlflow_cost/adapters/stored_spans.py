"""Spans of a stored trace replaced by others of the same ids: through MLflow's own client, wherever it keeps them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from mlflow.entities import Span, TraceData
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient
from mlflow.utils.uri import is_databricks_uri

from langchain_mlflow_cost.adapters import trace_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow.entities import Trace, TraceInfo

_IN_TABLES: Final = "TRACKING_STORE"


class UnwritableError(Exception):
    """A stored trace cannot be changed; the message says why, without any of its payload."""


def rewrite(trace: Trace, spans: Mapping[str, Mapping[str, str | None]], metadata: Mapping[str, str]) -> None:
    """Write attributes of spans, then metadata of their trace. All spans of a trace are stored in one step.

    No public function changes what is stored: MLflow's exporter goes this way when a span ends late, and the store
    replaces what it has of a span.

    Args:
        trace: As it is stored, with all its spans.
        spans: By a span's id, attributes as JSON text, None for one that goes.
        metadata: What is added to the trace's own.

    Raises:
        UnwritableError: The store does not take it; nothing of the trace was changed, unless the message says so.
    """
    client = TracingClient()
    if is_databricks_uri(client.tracking_uri):
        raise UnwritableError("Databricks keeps traces as they are")
    where = trace.info.tags.get(trace_fields.SPANS_LOCATION)
    if where != _IN_TABLES and not trace_fields.has_spans_in_files(where):
        raise UnwritableError(f"its spans are in {where}")
    changed = {
        str(span.span_id): Span.from_dict(with_attributes(span.to_dict(), spans[str(span.span_id)]))
        for span in trace.data.spans
        if span.span_id in spans
    }
    try:
        if changed and where == _IN_TABLES:
            client.log_spans(str(trace.info.experiment_id), list(changed.values()))
        elif changed:
            whole = [changed.get(str(span.span_id), span) for span in trace.data.spans]
            client._upload_trace_data(trace.info, TraceData(spans=whole))  # noqa: SLF001
    except (MlflowException, NotImplementedError, OSError) as error:
        raise UnwritableError(_first_line(error)) from error
    if not metadata:
        return
    try:
        _write_metadata(client, trace.info, metadata)
    except (MlflowException, NotImplementedError, OSError) as error:
        raise UnwritableError(f"its spans were changed, its sum was not: {_first_line(error)}") from error


def with_attributes(span: Mapping[str, Any], attributes: Mapping[str, str | None]) -> dict[str, Any]:
    """A span as MLflow stores it (`Span.to_dict()`), with some attributes as they are to be; None for one that goes."""
    changed = {**(span.get("attributes") or {}), **attributes}
    return {**span, "attributes": {key: value for key, value in changed.items() if value is not None}}


def _write_metadata(client: TracingClient, info: TraceInfo, metadata: Mapping[str, str]) -> None:
    told = copy.copy(info)
    told.trace_metadata = {**info.trace_metadata, **metadata}
    told.tags = dict(info.tags)
    save = getattr(client.store, "_save_trace_info", None)
    if save is not None:
        # MLflow's folder store makes a trace once, and refuses to be told of it again.
        save(told, client.store._get_trace_info_and_dir(info.trace_id)[1], overwrite=True)  # noqa: SLF001
        return
    written = client.start_trace(told)
    location = info.tags.get(trace_fields.ARTIFACT_LOCATION)
    if location is not None and written.tags.get(trace_fields.ARTIFACT_LOCATION) != location:
        # The store works it out anew from the experiment, which may have got another place since.
        client.store.set_trace_tag(info.trace_id, trace_fields.ARTIFACT_LOCATION, location)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
