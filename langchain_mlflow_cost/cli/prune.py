"""`mlflow-cost prune`: delete old traces, and all that belongs to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, PolicyOption, TrackingUri, read_policy
from langchain_mlflow_cost.cli.deleting import DryRun, Job, ReceiptFile, Stores, Yes, stores_named
from langchain_mlflow_cost.cli.output import counted
from langchain_mlflow_cost.cli.periods import read_length


def prune_traces(
    stores: Stores = None,
    policy: PolicyOption = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="30d", help="How old they may get; else retention_days.")
    ] = None,
    days: Annotated[int | None, typer.Option(metavar="N", help="The same in days.", min=0)] = None,
    keep_at_least: Annotated[
        int, typer.Option("--keep-at-least", metavar="N", help="Of each experiment the latest N stay.", min=0)
    ] = 0,
    experiment: Annotated[
        list[str] | None, typer.Option("--experiment", metavar="NAME", help=f"Repeatable; else {DEFAULT_EXPERIMENT}.")
    ] = None,
    all_experiments: Annotated[bool, typer.Option("--all-experiments", help="Of deleted ones, too.")] = False,
    tracking_uri: TrackingUri = None,
    receipt: ReceiptFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete traces that are older than so long, and their files.

    Their rows, files, assessments, records of evaluation datasets made from them, and this library's sums in MLflow
    runs; then the database is compacted and searched, and a receipt is written.

    The time is yours: --older-than, or retention_days in the policy. Nothing else in this library deletes anything by
    itself.
    """
    from langchain_mlflow_cost.erasure.request import Request

    loaded = read_policy(policy) if policy else None
    keep = _age(older_than, days, None if loaded is None else loaded.retention_days)
    words = stores_named(stores, tracking_uri, loaded)
    names = experiment or [loaded.experiment_name if loaded else DEFAULT_EXPERIMENT]
    if all_experiments and experiment:
        raise typer.BadParameter("names some, and --all-experiments all", param_hint="--experiment")
    before = datetime.now(UTC) - keep
    where = (
        "all experiments"
        if all_experiments
        else f"{'experiment' if len(names) == 1 else 'experiments'} {', '.join(names)}"
    )
    but = f", but for the latest {keep_at_least:,}" if keep_at_least else ""
    hours = keep // timedelta(hours=1)
    length = counted(keep.days, "day") if keep.days or not keep else counted(hours, "hour") if hours else "minutes"
    what = f"of {where} from before {before:%Y-%m-%d %H:%M} UTC ({length}){but}"
    request = Request("age", value=str(keep), before_ms=int(before.timestamp() * 1000) + 1, keep_at_least=keep_at_least)
    job = Job("prune", what, policy=policy, receipt=receipt, dry_run=dry_run, yes=yes)
    job.run(words, request, None if all_experiments else names)


def _age(older_than: str | None, days: int | None, retention_days: int | None) -> timedelta:
    if older_than is not None and days is not None:
        raise typer.BadParameter("says the same as --older-than; give one of them", param_hint="--days")
    if older_than is not None:
        return read_length(older_than, "--older-than")
    keep = days if days is not None else retention_days
    if keep is None:
        raise typer.BadParameter(
            "say how old traces may get: --older-than 30d, or --policy FILE with retention_days",
            param_hint="--older-than",
        )
    return timedelta(days=keep)
