"""A store out of which traces are deleted: through MLflow's API alone, or with its tables at hand."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.adapters import trace_fields
from langchain_mlflow_cost.erasure.files import FoundTrace, file_contents
from langchain_mlflow_cost.trace_pages import PAGE, trace_pages
from langchain_mlflow_cost.tracking_stores import folder_of, is_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlflow.entities import Trace, TraceInfo

    from langchain_mlflow_cost.adapters.trace_rows import TraceRows
    from langchain_mlflow_cost.erasure.request import Request

    Told = Callable[[int], None]

_PLAIN: Final = re.compile(r"[\w@.+: /-]+")
"""A value that MLflow's filter language can name: it has no escapes."""


class ApiStore:
    """A store that only MLflow's API reaches: a server, or a database of which no tables are known here.

    Args:
        uri: Its tracking URI, which MLflow was told.
    """

    def __init__(self, uri: str) -> None:
        import mlflow  # noqa: PLC0415 - it takes seconds

        self.uri = uri
        self.client = mlflow.MlflowClient()
        self.unread: list[str] = []
        """What could not be searched, in words."""

    @property
    def version(self) -> str | None:
        """Of the database's program."""
        return None

    def experiments(self) -> dict[str, str]:
        """Names of all experiments by their ids; those that were deleted have traces, too."""
        from mlflow.entities import ViewType  # noqa: PLC0415 - as above

        found: dict[str, str] = {}
        token = None
        while True:
            page = self.client.search_experiments(view_type=ViewType.ALL, max_results=1_000, page_token=token)
            found |= {str(each.experiment_id): str(each.name) for each in page}
            token = page.token
            if not token:
                return found

    # --- finding ----------------------------------------------------------------------------------------------------

    def find(self, request: Request, experiments: Sequence[str], told: Told) -> list[FoundTrace]:
        """The traces that are meant; the first one first in each experiment."""
        found: dict[str, FoundTrace] = {}
        for experiment in experiments:
            if request.by == "age":
                found |= {each.trace_id: each for each in self._old(request, experiment, told)}
            elif request.by == "text":
                found |= {each.trace_id: each for each in self._with_text(request, experiment, told)}
            else:
                for trace in self._named(request, experiment, told):
                    info = trace.info
                    if request.is_named_by(info.tags) or request.is_named_by(info.trace_metadata):
                        found[info.trace_id] = found_trace(info)
        return sorted(found.values(), key=lambda each: each.timestamp_ms)

    def _old(self, request: Request, experiment: str, told: Told) -> Iterator[FoundTrace]:
        older = {"filter_string": f"timestamp_ms < {request.before_ms}"} if not request.keep_at_least else {}
        for number, trace in enumerate(self._pages(experiment, told, order_by=["timestamp_ms DESC"], **older)):
            if number >= request.keep_at_least and trace.info.timestamp_ms < request.before_ms:
                yield found_trace(trace.info)

    def _named(self, request: Request, experiment: str, told: Told) -> Iterator[Trace]:
        words = (*request.keys, *request.forms)
        if request.by == "session" or not all(_PLAIN.fullmatch(each) for each in words):
            # A session may be one of a list; and other ids cannot be asked for.
            yield from self._pages(experiment, told)
            return
        for key in request.keys:
            for form in request.forms:
                for kind in ("metadata", "tag"):
                    yield from self._pages(experiment, told, filter_string=f"{kind}.`{key}` = '{form}'")

    def _with_text(self, request: Request, experiment: str, told: Told) -> Iterator[FoundTrace]:
        without_spans: list[Trace] = []
        readable = self._pages(experiment, told, with_spans=True, on_unreadable=without_spans.append)
        for trace in itertools.chain(readable, without_spans):
            found = found_trace(trace.info)
            if request.is_in(trace.to_json().encode("utf-8", "surrogatepass")) or self.is_in_files(request, found):
                yield found
        self.unread += [f"spans of trace {trace.info.trace_id}" for trace in without_spans]

    def is_in_files(self, request: Request, trace: FoundTrace) -> bool:
        """Whether the text is in the trace's files."""
        try:
            return any(request.is_in(content) for content in file_contents(trace))
        except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own; the others are searched
            self.unread.append(f"files of trace {trace.trace_id} in {trace.location}: {_reason(error)}")
            return False

    def _pages(self, experiment: str, told: Told, **search: Any) -> Iterator[Trace]:
        read = 0
        for page in trace_pages(self.client, [experiment], **{"with_spans": False, **search}):
            read += len(page)
            told(read)
            yield from page

    def records(self, request: Request, traces: Sequence[FoundTrace]) -> dict[str, list[str]]:
        """Records of evaluation datasets that were made from these traces, or that hold the text, by dataset."""
        ids, found = {each.trace_id for each in traces}, dict[str, list[str]]()
        for dataset in self._datasets():
            for record in dataset.records or ():
                if self._is_meant(request, record, ids):
                    found.setdefault(dataset.dataset_id, []).append(record.dataset_record_id)
        return found

    def _is_meant(self, request: Request, record: Any, ids: set[str]) -> bool:
        source = record.source.source_data if record.source is not None else {}
        if record.source_id in ids or (source or {}).get("trace_id") in ids:
            return True
        return request.by == "text" and request.is_in(json.dumps(record.to_dict(), default=str).encode())

    def _datasets(self) -> Iterator[Any]:
        token = None
        while True:
            try:
                page = self.client.search_datasets(page_token=token)
            except Exception as error:
                if type(error).__name__ not in ("MlflowException", "RestException", "NotImplementedError"):
                    raise
                self.unread.append(f"evaluation datasets: {_reason(error).partition('. ')[0]}")
                return
            yield from page
            token = page.token
            if not token:
                return

    def count_rows(self, traces: Sequence[FoundTrace]) -> dict[str, int]:
        """Rows of these traces by table, as far as they can be counted."""
        return {"trace_info": len(traces)} if traces else {}

    def metrics_of(self, traces: Sequence[FoundTrace]) -> tuple[list[str], list[str]]:
        """MLflow runs with sums of these traces: those whose sums can be deleted, and those where they cannot."""
        return [], sorted({each.run_id for each in traces if each.run_id})

    # --- deleting ---------------------------------------------------------------------------------------------------

    def delete_records(self, dataset: str, records: Sequence[str]) -> int:
        """Delete records of a dataset."""
        stored = self.client.get_dataset(dataset)
        return sum(
            int(stored.delete_records(list(records[start : start + PAGE]))) for start in range(0, len(records), PAGE)
        )

    def delete_metrics(self, runs: Sequence[str]) -> int:  # noqa: ARG002 - MLflow's API deletes none
        """Delete this library's sums of these MLflow runs; how many."""
        return 0

    def delete(self, experiment: str, ids: Sequence[str]) -> Counter[str]:
        """Delete traces of an experiment, at most `PAGE`; rows by table."""
        return Counter(trace_info=self.client.delete_traces(experiment, trace_ids=list(ids)))

    def sweep(self, ids: Sequence[str]) -> Counter[str]:  # noqa: ARG002 - MLflow's API reaches no more
        """Delete what is left of traces that are gone."""
        return Counter()

    def compact(self) -> str | None:
        """Take the bytes of deleted rows out of the database, too; what was done, None where that is out of reach."""
        return None

    # --- looking again ----------------------------------------------------------------------------------------------

    def still_there(self, ids: Sequence[str]) -> list[str]:  # noqa: ARG002 - a store whose tables are known answers
        """Those of these traces that the tables have; through the API, `find` alone can tell."""
        return []

    def values(self) -> Iterable[tuple[str, bytes]]:
        """Every text in the store's tables, under the name of its table and column."""
        return ()

    def out_of_reach(self) -> list[str]:
        """What of deleted traces may be left where this store's tools do not reach."""
        if is_server(self.uri):
            return [
                "free pages and logs of the server's database, which who runs it can compact (VACUUM, VACUUM FULL)",
                "sums that MLflow's server keeps of days, until it makes them anew",
            ]
        if self.uri.startswith(("databricks", "uc")):
            return ["files and logs of the service"]
        if folder_of(self.uri) is not None:
            return []
        return ["free pages and logs of the database, which was not compacted"]

    def close(self) -> None:
        """Give the connections back."""


class TablesStore(ApiStore):
    """A database whose tables can be asked, and in which what MLflow leaves is deleted, too."""

    def __init__(self, uri: str, rows: TraceRows) -> None:
        super().__init__(uri)
        self.rows = rows
        if rows.has_rollups:
            # MLflow's own setting, of its server: only then does it mark the days of deleted traces.
            os.environ["MLFLOW_SQL_TRACE_ROLLUPS_ENABLED"] = "true"
        self._has_rollups = rows.has_rollups

    @property
    def version(self) -> str | None:
        """Of the database's program."""
        return self.rows.version

    def find(self, request: Request, experiments: Sequence[str], told: Told) -> list[FoundTrace]:
        """The traces that are meant, the first one first."""
        rows = self.rows
        if request.by == "age":
            ids = rows.before(experiments, request.before_ms, request.keep_at_least)
        elif request.by == "text":
            ids = rows.with_text(experiments, list(request.needles.values()))
            ids += self._with_files(request, experiments, set(ids), told)
        else:
            ids = rows.with_value(experiments, request.keys, request.forms)
            if request.by == "session":
                known = set(ids)
                ids += [
                    each
                    for each, told_ in rows.lists(experiments)
                    if each not in known and request.is_named_by({request.keys[0]: told_})
                ]
        found = self._found(ids)
        told(len(found))
        return found

    def _found(self, ids: Sequence[str]) -> list[FoundTrace]:
        found = [
            FoundTrace(
                each.trace_id,
                each.experiment_id,
                each.timestamp_ms,
                each.location,
                trace_fields.has_spans_in_files(each.spans_location),
                each.run_id,
            )
            for each in self.rows.rows(ids)
        ]
        return sorted(found, key=lambda each: each.timestamp_ms)

    def _with_files(self, request: Request, experiments: Sequence[str], known: set[str], told: Told) -> list[str]:
        others = [each for each in self.rows.before(experiments, 1 << 62, 0) if each not in known]
        found = []
        for number, trace in enumerate(self._found(others)):
            if number % PAGE == 0:
                told(number)
            if self.is_in_files(request, trace):
                found.append(trace.trace_id)
        return found

    def records(self, request: Request, traces: Sequence[FoundTrace]) -> dict[str, list[str]]:
        """Records of evaluation datasets that were made from these traces, or that hold the text, by dataset."""
        found = self.rows.records_of([each.trace_id for each in traces])
        if request.by == "text":
            for dataset, records in self.rows.records_with_text(list(request.needles.values())).items():
                found[dataset] = list(dict.fromkeys([*found.get(dataset, []), *records]))
        return found

    def count_rows(self, traces: Sequence[FoundTrace]) -> dict[str, int]:
        """Rows of these traces by table."""
        return self.rows.count([each.trace_id for each in traces])

    def metrics_of(self, traces: Sequence[FoundTrace]) -> tuple[list[str], list[str]]:
        """MLflow runs with sums of these traces: those whose sums can be deleted, and those where they cannot."""
        runs = sorted({each.run_id for each in traces if each.run_id})
        return self.rows.own_metrics(runs, [each.trace_id for each in traces])

    def delete_metrics(self, runs: Sequence[str]) -> int:
        """Delete this library's sums of these MLflow runs; how many."""
        return self.rows.delete_metrics(runs)

    def delete(self, experiment: str, ids: Sequence[str]) -> Counter[str]:
        """Delete traces of an experiment, at most `PAGE`; rows by table."""
        counted = Counter(self.rows.count(ids))
        days = self.rows.days_of(ids) if self._has_rollups else set()
        super().delete(experiment, ids)
        counted["jobs"] += self.sweep(ids)["jobs"]
        if days:
            counted["daily sums"] += self.rows.delete_rollups(days)
        return counted

    def sweep(self, ids: Sequence[str]) -> Counter[str]:
        """Delete what is left of traces that are gone."""
        return Counter(self.rows.sweep(ids))

    def compact(self) -> str | None:
        """Take the bytes of deleted rows out of the database, too."""
        return self.rows.compact()

    def still_there(self, ids: Sequence[str]) -> list[str]:
        """Those of these traces that the tables have."""
        return [each.trace_id for each in self.rows.rows(ids)]

    def values(self) -> Iterable[tuple[str, bytes]]:
        """Every text in the store's tables, under the name of its table and column."""
        return self.rows.values()

    def out_of_reach(self) -> list[str]:
        """What of deleted traces may be left where this store's tools do not reach."""
        if self.rows.is_sqlite:
            return []
        named = ["PostgreSQL's write-ahead log, its archive and its replicas, until they are overwritten"]
        tables = self.rows.not_compacted()
        if tables:
            named.append(f"free pages of tables of another owner, who alone may compact them: {', '.join(tables)}")
        return named

    def close(self) -> None:
        """Give the connections back."""
        self.rows.close()


def found_trace(info: TraceInfo) -> FoundTrace:
    """A trace as MLflow's API tells of it."""
    return FoundTrace(
        info.trace_id,
        str(info.experiment_id),
        int(info.timestamp_ms),
        info.tags.get(trace_fields.ARTIFACT_LOCATION),
        trace_fields.has_spans_in_files(info.tags.get(trace_fields.SPANS_LOCATION)),
        info.trace_metadata.get("mlflow.sourceRun"),
    )


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
