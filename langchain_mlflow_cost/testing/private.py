"""Whether texts are anywhere in what MLflow stored of a test's traces, in any spelling."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from langchain_mlflow_cost.adapters.trace_fields import ARTIFACT_LOCATION
from langchain_mlflow_cost.redaction.spellings import spelling_in, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SHORTEST = 4
"""Characters of a text that can be looked for: a shorter one is in any store by chance."""
_BEGINNING = 40
"""Characters of a long text that are looked for by themselves: a copy may have been cut."""


def check_private(texts: str | Iterable[str], trace_ids: Sequence[str]) -> None:
    """Look for texts in all that is stored of some traces: their rows, and their files.

    Args:
        texts: What nobody may find there.
        trace_ids: MLflow's.

    Raises:
        AssertionError: One is there; the message says where and in which spelling, and not the text. Or nothing is
            stored, so that nothing is shown.
        ValueError: A text is too short to be looked for.
    """
    wanted = [texts] if isinstance(texts, str) else list(texts)
    for place, text in enumerate(wanted):
        if not isinstance(text, str) or len(text.strip()) < SHORTEST:
            raise ValueError(f"texts[{place}]: expected a text of {SHORTEST} characters or more")
    if not wanted:
        raise ValueError("texts: expected at least one")
    if not trace_ids:
        raise AssertionError("no trace was begun: was the handler passed to the run, and is its policy enabled?")
    needles = [
        {**spellings(text), **{f"beginning, {name}": each for name, each in spellings(text[:_BEGINNING]).items()}}
        if len(text) > _BEGINNING
        else spellings(text)
        for text in wanted
    ]
    found: dict[str, None] = {}
    stored_chars = 0
    for where, content in _stored(trace_ids):
        stored_chars += len(content)
        for place, spelled in enumerate(needles):
            name = spelling_in(spelled, content)
            if name is not None:
                found[f"texts[{place}] is in {where} (spelling: {name})"] = None
    if found:
        raise AssertionError("private text was stored:\n" + "\n".join(found))
    if not stored_chars:
        raise AssertionError("nothing is stored of this test's traces, so nothing is shown: is the store there?")


def _stored(trace_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    import mlflow  # noqa: PLC0415 - slow

    from langchain_mlflow_cost.adapters.store_calls import flush_traces  # noqa: PLC0415 - as above
    from langchain_mlflow_cost.adapters.trace_rows import TraceRows  # noqa: PLC0415 - as above
    from langchain_mlflow_cost.adapters.trace_tables import has_tables  # noqa: PLC0415 - as above

    uri = mlflow.get_tracking_uri()
    flush_traces(uri)
    if has_tables(uri):
        with closing(TraceRows(uri)) as rows:
            yield from rows.values_of(trace_ids)
    for trace_id in trace_ids:
        trace = mlflow.get_trace(trace_id, silent=True)
        if trace is None:
            continue
        yield (
            f"trace {trace_id}",
            json.dumps(trace.to_dict(), ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"),
        )
        location = trace.info.tags.get(ARTIFACT_LOCATION)
        if location is not None:
            yield from _files(location)


def _files(location: str) -> Iterator[tuple[str, bytes]]:
    from pathlib import Path  # noqa: PLC0415 - only here
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - only here

    from langchain_mlflow_cost.adapters.artifact_store import open_artifact_store  # noqa: PLC0415 - slow

    files = open_artifact_store(location)
    if not files.list_artifacts():
        return
    with TemporaryDirectory() as folder:
        for path in Path(files.download_artifacts("", folder)).rglob("*"):
            if path.is_file():
                yield f"file {path.name}", path.read_bytes()
