"""The course of a deletion: plan, delete in batches, compact, look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_mlflow_cost.erasure.files import delete_files
from langchain_mlflow_cost.erasure.search import Findings, Search, local_folder
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from langchain_mlflow_cost.erasure.files import FoundTrace
    from langchain_mlflow_cost.erasure.receipt import Receipt
    from langchain_mlflow_cost.erasure.request import Request
    from langchain_mlflow_cost.erasure.stores import ApiStore


@dataclass
class Plan:
    """What would be deleted, and is to be asked about."""

    request: Request
    experiments: dict[str, str]
    """Names by ids."""
    traces: list[FoundTrace]
    records: dict[str, list[str]]
    """Of evaluation datasets, by dataset."""
    rows: dict[str, int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    """MLflow runs whose sums are of these traces alone."""
    shared_runs: list[str] = field(default_factory=list)
    """MLflow runs whose sums are of other traces, too, or cannot be reached."""

    @property
    def record_count(self) -> int:
        """Records of all datasets."""
        return sum(map(len, self.records.values()))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to delete."""
        return not self.traces and not self.records


def make_plan(store: ApiStore, request: Request, experiments: dict[str, str], told: Callable[[int], None]) -> Plan:
    """Find all that is meant; nothing is changed.

    Args:
        store: Where.
        request: What.
        experiments: Their names by ids.
        told: Is told how many traces were read.
    """
    traces = store.find(request, list(experiments), told)
    runs, shared = store.metrics_of(traces)
    return Plan(request, experiments, traces, store.records(request, traces), store.count_rows(traces), runs, shared)


def carry_out(store: ApiStore, plan: Plan, receipt: Receipt, told: Callable[[int], None]) -> None:
    """Delete what was planned, in batches, each of which is whole: whoever runs it again goes on where it ended.

    Records and sums first, then a trace's files, then its rows: only the trace knows of the others.

    Args:
        store: Where.
        plan: What.
        receipt: Is written before the first deletion and after each batch.
        told: Is told how many traces are done.
    """
    planned = [each.trace_id for each in plan.traces]
    earlier = _gone_earlier(store, set(receipt.trace_ids) - set(planned))
    receipt.trace_ids = [*earlier, *planned]
    receipt.write()
    for dataset, records in plan.records.items():
        receipt.deleted["dataset_records"] += store.delete_records(dataset, records)
    if plan.runs:
        receipt.deleted["run_metrics"] += store.delete_metrics(plan.runs)
    receipt.write()
    done = 0
    for experiment, batch in _batches(plan.traces):
        ids = [trace.trace_id for trace in batch if _files_are_gone(trace, store, receipt)]
        if ids:
            rows = store.delete(experiment, ids)
            receipt.rows.update(rows)
            receipt.deleted["traces"] += rows["trace_info"]
        done += len(batch)
        told(done)
        receipt.write_sometimes()
    receipt.rows.update(store.sweep(earlier))
    receipt.write()


def _gone_earlier(store: ApiStore, ids: set[str]) -> list[str]:
    """Traces that an earlier run deleted, of which it may have left rows; one that is there is not meant any more."""
    return sorted(ids.difference(store.still_there(sorted(ids))))


def _batches(traces: Sequence[FoundTrace]) -> Iterator[tuple[str, list[FoundTrace]]]:
    by_experiment: dict[str, list[FoundTrace]] = {}
    for trace in traces:
        by_experiment.setdefault(trace.experiment_id, []).append(trace)
    for experiment, of_it in by_experiment.items():
        size = limits().deleted_at_once
        for start in range(0, len(of_it), size):
            yield experiment, of_it[start : start + size]


def _files_are_gone(trace: FoundTrace, store: ApiStore, receipt: Receipt) -> bool:
    # MLflow's clients cannot delete artifacts on Databricks: a trace's files are the service's matter.
    if store.uri.startswith("databricks"):
        return True
    try:
        receipt.deleted["traces_with_files"] += delete_files(trace)
    except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own; the other traces go on
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        told = without_credentials(f"files of trace {trace.trace_id} in {trace.location}: {reason}")
        receipt.kept.append({"trace_id": trace.trace_id, "why": told})
        return False
    return True


def look_again(store: ApiStore, plan: Plan, receipt: Receipt, told: Callable[[int], None]) -> Findings:
    """Search the store for what was to go, and enter what is left into the receipt."""
    kept = {each["trace_id"] for each in receipt.kept}
    gone = [each for each in receipt.trace_ids if each not in kept]
    folders = [] if not plan.request.needles else _folders(store)
    found = Search(plan.request, gone).look(store, folders, told)
    again = [each.trace_id for each in store.find(plan.request, list(plan.experiments), told)]
    planned = set(gone)
    left = {*(each for each in again if each in planned), *store.still_there(gone)}
    new = [each for each in again if each not in planned and each not in kept] if plan.request.by != "age" else []
    if left:
        found.left["traces"] += len(left)
    if new:
        found.left["traces that came meanwhile"] += len(new)
    if store.records(plan.request, [each for each in plan.traces if each.trace_id in planned]):
        found.left["records of evaluation datasets"] += 1
    receipt.searched = {
        "values": found.values,
        "file_bytes": found.file_bytes,
        "left": dict(found.left),
        "mentioned": dict(found.mentioned),
    }
    return found


def _folders(store: ApiStore) -> list[Path]:
    found: list[Path] = []
    for experiment in store.experiments():
        folder = local_folder(str(store.client.get_experiment(experiment).artifact_location))
        if folder is not None and folder.is_dir():
            found.append(folder)
    return found


def limits_of(store: ApiStore, plan: Plan) -> list[str]:
    """What of this deletion is out of reach, for the receipt."""
    told = [*store.out_of_reach(), *map(without_credentials, dict.fromkeys(store.unread))]
    if plan.shared_runs:
        told.append(
            f"sums of cost and tokens of {len(plan.shared_runs)} MLflow run(s), which are of other traces, too, or "
            f"cannot be deleted through a server: {', '.join(plan.shared_runs[:10])}"
        )
    if plan.request.not_looked is not None:
        told.append(f"keyed tokens that stand for it: not looked for, {plan.request.not_looked}")
    return [*told, "backups, exports and copies that were made of the store"]
