"""What `prune` and `erase` have in common: say what would go, ask, delete under a progress bar, say what went."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost.cli.app import CommandError, CommandInterruptedError
from langchain_mlflow_cost.cli.output import console, counted, say, say_below, tell
from langchain_mlflow_cost.cli.progress import bars, counter
from langchain_mlflow_cost.cli.store import find_names, first_line, open_store, remedy_for
from langchain_mlflow_cost.notices import printable, without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_mlflow_cost.erasure.erasing import Plan
    from langchain_mlflow_cost.erasure.receipt import Receipt
    from langchain_mlflow_cost.erasure.request import Request
    from langchain_mlflow_cost.erasure.search import Findings
    from langchain_mlflow_cost.erasure.stores import ApiStore
    from langchain_mlflow_cost.policy.settings import Policy

    Interrupted = Sequence[tuple[Path, dict[str, Any]]]

Stores = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STORE",
        help="Tracking URIs or SQLite files; else MLFLOW_TRACKING_URI, else ./mlflow.db.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ReceiptFile = Annotated[
    Path | None,
    typer.Option("--receipt", metavar="FILE", help="Where the receipt goes; else mlflow-cost-COMMAND-TIME.json here."),
]
_SHOWN = 5


def stores_named(stores: Sequence[str] | None, tracking_uri: str | None, policy: Policy | None) -> list[str]:
    """The stores that a command is about, in whichever way they were named; none for that of the environment."""
    words = [*(stores or ()), *([tracking_uri] if tracking_uri else [])]
    return words or ([policy.tracking_uri] if policy is not None and policy.tracking_uri else [])


class Job:
    """One command over one or several stores.

    Args:
        command: `prune` or `erase`.
        what: The words for what is meant, behind `12 traces`.
        policy: The policy's file, for the receipt.
        receipt: Where the receipt goes; None for a new file in the current folder.
        dry_run: Nothing is deleted.
        yes: Nobody is asked.
    """

    def __init__(
        self, command: str, what: str, *, policy: Path | None, receipt: Path | None, dry_run: bool, yes: bool
    ) -> None:
        self.command = command
        self.what = what
        self._policy = policy
        self._receipt = receipt
        self._dry_run = dry_run
        self._yes = yes
        self._out = console()

    def run(self, words: Sequence[str], request: Request, names: Sequence[str] | None) -> None:
        """Go through the stores, one after the other.

        Args:
            words: As on the command line; none for the store of the environment.
            request: What is to go.
            names: Experiments; None for all.

        Raises:
            CommandError: Something is left, or could not be done.
        """
        if self._receipt is not None and len(words) > 1:
            raise typer.BadParameter("is for one store; leave it out for one receipt each", param_hint="--receipt")
        faults = []
        for word in words or (None,):
            if len(words) > 1:
                say(self._out, f"{without_credentials(str(word))}:")
            try:
                with closing(open_store(word)) as store:
                    fault = self._run_one(store, request, find_names(store, names))
            except CommandError as error:
                # The other stores are not concerned.
                fault = str(error)
            if fault is not None:
                faults.append(fault)
        if faults:
            raise CommandError("; ".join(dict.fromkeys(faults)))

    def _run_one(self, store: ApiStore, request: Request, experiments: dict[str, str]) -> str | None:
        from langchain_mlflow_cost.erasure.erasing import make_plan
        from langchain_mlflow_cost.erasure.receipt import unfinished_receipts

        with counter() as told:
            plan = make_plan(store, request, experiments, told)
        folder = Path.cwd() if self._receipt is None else self._receipt.absolute().parent
        before = unfinished_receipts(folder, self.command, request, store.uri, experiments)
        what = f"{counted(len(plan.traces), 'trace')} {self.what}"
        if plan.is_empty and not before:
            say(self._out, f"Nothing to delete: {what}")
            self._tell_not_looked(request)
            return None
        self._say_plan(plan, what)
        if before:
            say(self._out, f"An earlier run did not come to its end ({before[0][0].name}); this one goes on with it")
        self._tell_not_looked(request)
        if self._dry_run:
            return None
        if not self._yes and not typer.confirm(f"Delete {'all of this' if plan.records else what}?"):
            raise CommandError("nothing was deleted")
        return self._delete(store, plan, what, before)

    def _tell_not_looked(self, request: Request) -> None:
        if request.not_looked is not None:
            say(self._out, f"Keyed tokens that may stand for it were not looked for: {request.not_looked}")

    def _say_plan(self, plan: Plan, what: str) -> None:
        say(self._out, f"{'Would delete' if self._dry_run else 'To delete:'} {what}")
        by_experiment = Counter(trace.experiment_id for trace in plan.traces)
        named = [f"{plan.experiments.get(each, each)} {number:,}" for each, number in by_experiment.most_common(_SHOWN)]
        if len(by_experiment) > _SHOWN:
            named.append(f"{len(by_experiment) - _SHOWN} more")
        lines = []
        if plan.traces:
            first, last = _day(plan.traces[0].timestamp_ms), _day(plan.traces[-1].timestamp_ms)
            lines.append(f"in {', '.join(named)}; began {f'on {first}' if first == last else f'{first} to {last}'}")
            lines.append(f"rows: {_rows(plan.rows)}; and the files of these traces")
        if plan.records:
            lines.append(
                f"{counted(plan.record_count, 'record')} of {counted(len(plan.records), 'evaluation dataset')}"
            )
        if plan.runs:
            lines.append(f"sums of cost and tokens of {counted(len(plan.runs), 'MLflow run')}")
        for line in lines:
            say_below(self._out, line)

    def _delete(self, store: ApiStore, plan: Plan, what: str, before: Interrupted) -> str | None:
        from langchain_mlflow_cost.erasure.erasing import carry_out, limits_of, look_again
        from langchain_mlflow_cost.erasure.receipt import Receipt, new_path

        path = self._receipt or (before[0][0] if before else new_path(Path.cwd(), self.command))
        receipt = Receipt(
            path, self.command, plan.request, store.uri, list(plan.experiments), self._policy, store.version
        )
        for _, told_before in before:
            receipt.resume(told_before)
        ahead = receipt.deleted["traces"]
        faults: list[str] = []
        try:
            with bars() as bar:
                carry_out(store, plan, receipt, bar("deleting", len(plan.traces)).at)
            self._compact(store, receipt, faults)
            with counter("texts searched") as told:
                found = look_again(store, plan, receipt, told)
        except KeyboardInterrupt:
            receipt.write()
            raise CommandInterruptedError(f"interrupted; run the same command again to go on ({_near(path)})") from None
        except Exception as error:
            receipt.write()
            if type(error).__module__.startswith(("sqlalchemy", "mlflow", "sqlite3")):
                fault = first_line(error)
                raise CommandError(
                    f"{fault}; {remedy_for(fault)}. It goes on where it ended ({_near(path)})"
                ) from error
            raise
        receipt.not_reached = limits_of(store, plan)
        kept_traces = sum(bool(each["trace_id"]) for each in receipt.kept)
        if kept_traces:
            kept = f"kept {counted(kept_traces, 'trace')} whose files could not be deleted, see above"
            faults.append(f"{kept}; run {self.command} again when they can be")
        if found.left:
            faults.append(f"not all of it is gone, see above; the receipt says where: {_near(path)}")
        receipt.state = "incomplete" if faults else "done"
        receipt.write()
        for other, _ in before:
            # What it planned and did is in this one.
            if other != path.absolute():
                other.unlink(missing_ok=True)
        self._say_done(receipt, found, what, receipt.deleted["traces"] - ahead)
        return "; ".join(faults) or None

    def _compact(self, store: ApiStore, receipt: Receipt, faults: list[str]) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from langchain_mlflow_cost.adapters.trace_rows import StillReadError

        try:
            receipt.compacted = store.compact()
        except (SQLAlchemyError, StillReadError) as error:
            told = first_line(error)
            receipt.kept.append({"trace_id": "", "why": f"bytes of deleted rows: {told}"})
            faults.append(
                f"the database was not compacted ({told}), and may hold bytes of what was deleted; {remedy_for(told)}"
            )

    def _say_done(self, receipt: Receipt, found: Findings, what: str, deleted: int) -> None:
        out = self._out
        for each in receipt.kept:
            tell(each["why"])
        say(out, f"Deleted {deleted:,} of {what}")
        lines = [f"rows: {_rows(receipt.rows)}"] if receipt.rows else []
        for key, word in (("traces_with_files", "trace"), ("dataset_records", "record"), ("run_metrics", "sum")):
            number = receipt.deleted[key]
            behind = {"trace": "files of {}", "record": "{} of evaluation datasets", "sum": "{} of MLflow runs"}[word]
            if number:
                lines.append(behind.format(counted(number, word)))
        if receipt.compacted:
            lines.append(f"compacted: {receipt.compacted}")
        for line in lines:
            say_below(out, line)
        for place, number in found.left.most_common():
            tell(f"still there: {place}{f' ({number:,})' if number > 1 else ''}")
        if not found.left and (found.values or found.file_bytes):
            tables = f"{counted(found.values, 'text')} of its tables and " if found.values else ""
            where = f"{tables}{_size(found.file_bytes)} of its files"
            say(out, f"Searched {where}: nothing of it is left")
        if found.mentioned:
            places = ", ".join(f"{place} ({number:,})" for place, number in found.mentioned.most_common(_SHOWN))
            say(out, f"Mentioned elsewhere, which was left as it is: {places}")
        say(out, "Out of reach:")
        for line in receipt.not_reached:
            say_below(out, line)
        # In one piece: it is to be copied.
        out.print(printable(f"Receipt: {_near(receipt.path)}", most=10_000), soft_wrap=True)


def _rows(rows: dict[str, int]) -> str:
    named = [f"{table} {number:,}" for table, number in Counter(rows).most_common() if number]
    return f"{sum(rows.values()):,} ({', '.join(named[:_SHOWN])}{', ...' if len(named) > _SHOWN else ''})"


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
