"""`mlflow-cost scan`: what a policy would redact in a text, or would have kept out of stored traces, and where."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_mlflow_cost.cli.app import DEFAULT_EXPERIMENT, CommandError, PolicyOption, TrackingUri, read_policy
from langchain_mlflow_cost.cli.output import console, counted, say, show, tell
from langchain_mlflow_cost.cli.periods import read_period, read_zone
from langchain_mlflow_cost.cli.progress import counter
from langchain_mlflow_cost.cli.store import LeftOut, find_experiments, first_line

if TYPE_CHECKING:
    from langchain_mlflow_cost.adapters.trace_rewriting import StoredTrace, StoredTraces
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.redaction import Found
    from langchain_mlflow_cost.tracing.stored_trace import Cleaned, Finding, StoredPolicy

_TEXT = "A text"
_TRACES = "Stored traces"


class Format(StrEnum):
    """How what was found in traces is written."""

    TABLE = "table"
    JSON = "json"


def scan(
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What to look through; - is standard input.", rich_help_panel=_TEXT),
    ] = None,
    policy: PolicyOption = None,
    show_found: Annotated[
        bool, typer.Option("--show", help="Print what was found, too.", rich_help_panel=_TEXT)
    ] = False,
    why: Annotated[
        bool,
        typer.Option(
            "--why",
            help="Say which rule found it, and what stands around it; not what was found.",
            rich_help_panel=_TEXT,
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if anything is found.", rich_help_panel=_TEXT)
    ] = False,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Repeatable; else {DEFAULT_EXPERIMENT}.", rich_help_panel=_TRACES),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="2026-11-01, or 7d ago.", rich_help_panel=_TRACES)
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Up to that day's end.", rich_help_panel=_TRACES)
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep there how far it came; the next scan goes on from it.", rich_help_panel=_TRACES
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Say what would be taken out of the traces, or which would be deleted where a store changes none.",
            rich_help_panel=_TRACES,
        ),
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="With --fix: delete the traces instead.", rich_help_panel=_TRACES)
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: do it.", rich_help_panel=_TRACES)] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="How it is written.", rich_help_panel=_TRACES)
    ] = Format.TABLE,
) -> None:
    """Show what a policy would redact in a text or in stored traces.

    With --text: in that text. Without: what the policy would have redacted or dropped of stored traces, by entity,
    channel and node, never the text; exit status 1 where there is any. Without a policy: all secrets and everything
    personal that is known.
    """
    from langchain_mlflow_cost.policy.settings import Policy

    if text is not None:
        loaded = read_policy(policy) if policy else Policy(redact_pii=True)
        _scan_text(text, loaded, show_found=show_found, why=why, check=check)
        return
    if (delete or yes) and not fix:
        raise typer.BadParameter("only with --fix", param_hint="--delete" if delete else "--yes")
    if not (tracking_uri or policy or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlflow.db").exists()):
        raise typer.BadParameter("there is no ./mlflow.db: name a text with --text, or a store with --tracking-uri")
    since_ms, until_ms, _ = read_period(since, until, None, read_zone("UTC"))
    loaded = read_policy(policy) if policy else Policy(redact_pii=True, artifact_level="full")
    if not loaded.enabled:
        raise CommandError(f"{policy}: enabled is false: it keeps nothing out")
    uri, experiments = find_experiments(tracking_uri or loaded.tracking_uri, experiment or [loaded.experiment_name])
    _scan_traces(uri, experiments, loaded, (since_ms, until_ms), state, format_, _Fix(fix, delete, yes))


# --- a text -----------------------------------------------------------------------------------------------------------


def _scan_text(text: Path, policy: Policy, *, show_found: bool, why: bool, check: bool) -> None:
    from langchain_mlflow_cost.redaction.rules import scan as found_in

    rules = policy.for_node(()).rules[0]
    content = (sys.stdin.buffer.read() if str(text) == "-" else text.read_bytes()).decode("utf-8", "replace")
    counts: Counter[str] = Counter()
    told = rules.explain(content) if why else [(one, "") for one in found_in(content, rules)]
    shown = _context(content, [one for one, _ in told]) if why else []
    for number, ((start, end, entity), rule) in enumerate(told):
        counts[entity] += 1
        line = content.count("\n", 0, start) + 1
        column = start - content.rfind("\n", 0, start)
        value = f": {content[start:end]!r}" if show_found else ""
        reason = f"  # {rule}; {shown[number]}" if why else ""
        sys.stdout.write(f"{text}:{line}:{column}: {entity}{value}{reason}\n")
    summary = ", ".join(f"{entity} {count}" for entity, count in counts.most_common())
    sys.stderr.write(f"found: {summary or 'nothing'}\n")
    if check and counts:
        raise typer.Exit(1)


_AROUND = 30


def _context(content: str, found: list[Found]) -> list[str]:
    """Give what stands around each stretch on its line, with a token in place of it and of its neighbours."""
    pieces = []
    for number, (start, end, entity) in enumerate(found):
        low = max(found[number - 1].end if number else 0, content.rfind("\n", 0, start) + 1, start - _AROUND)
        line_end = content.find("\n", end)
        high = min(
            found[number + 1].start if number + 1 < len(found) else len(content),
            line_end if line_end >= 0 else len(content),
            end + _AROUND,
        )
        pieces.append(repr(f"{content[low:start]}[{entity}]{content[end:high]}"))
    return pieces


# --- stored traces ----------------------------------------------------------------------------------------------------


def _scan_traces(
    uri: str,
    experiments: dict[str, str],
    policy: Policy,
    period: tuple[int | None, int | None],
    state: Path | None,
    format_: Format,
    fix: _Fix,
) -> None:
    from langchain_mlflow_cost.adapters.trace_rewriting import StoredTraces
    from langchain_mlflow_cost.adapters.trace_tables import has_tables
    from langchain_mlflow_cost.reports.whole_traces import read_pages
    from langchain_mlflow_cost.tracing.stored_trace import StoredPolicy

    rows = StoredTraces(uri) if has_tables(uri) else None
    left_out = LeftOut()
    progress = _Progress(state, policy, experiments)
    stored = StoredPolicy(policy)
    since_ms, until_ms = period
    with counter() as told:
        for page in read_pages(
            rows,
            list(experiments),
            after=progress.after,
            since_ms=since_ms,
            until_ms=until_ms,
            on_unreadable=left_out.add,
        ):
            for trace in page:
                cleaned = _clean(stored, trace)
                copied = _copied(stored, trace, cleaned.found) if rows is not None else None
                if cleaned.found:
                    fix.one(rows, trace, cleaned, copied)
                progress.passed(trace, cleaned)
                told(progress.traces)
            progress.keep()
    if rows is not None:
        if fix.rewritten or fix.deleted:
            fix.compact(uri)
        rows.close()
    if format_ is Format.JSON:
        sys.stdout.write(json.dumps({**progress.as_json(), **fix.as_json()}, indent=2) + "\n")
    else:
        _show_findings(progress, experiments)
    fix.tell(has_rows=rows is not None)
    if progress.attachments:
        tell(f"not read: files of {counted(progress.attachments, 'trace')}; mlflow-cost prove STORE reads every file")
    left_out.fail()
    if progress.with_findings > fix.rewritten + fix.deleted:
        raise typer.Exit(1)


@dataclass
class _Fix:
    """What is done about traces in which something was found."""

    is_asked: bool
    deletes: bool
    is_sure: bool
    rewritten: int = 0
    deleted: int = 0
    to_rewrite: int = 0
    to_delete: int = 0
    not_reached: str | None = None

    def one(self, rows: StoredTraces | None, trace: StoredTrace, cleaned: Cleaned, copied: Path | None) -> None:
        """Rewrite or delete a trace, and the file with its spans once more, if there is one with something in it."""
        # A trace whose spans are in files, and a store behind a server, change nothing; they delete.
        deletes = self.deletes or rows is None or trace.has_spans_in_files or not trace.spans
        self.to_delete += deletes
        self.to_rewrite += not deletes
        if not (self.is_asked and self.is_sure):
            return
        if copied is not None:
            copied.unlink()
        if deletes or rows is None:
            fault = _delete(trace.trace_id)
            if fault is not None:
                tell(f"kept {trace.trace_id}: its files cannot be deleted: {fault}")
                return
            self.deleted += 1
        else:
            rows.rewrite(trace, _after(trace, cleaned))
            self.rewritten += 1

    def compact(self, uri: str) -> None:
        """Let the database write its tables anew, without what was replaced in them."""
        from sqlalchemy.exc import DBAPIError

        from langchain_mlflow_cost.adapters.trace_rows import StillReadError, TraceRows

        rows = TraceRows(uri)
        try:
            rows.compact()
        except (DBAPIError, StillReadError) as error:
            self.not_reached = f"what was replaced, until the database is compacted ({type(error).__name__})"
        else:
            if not rows.is_sqlite:
                self.not_reached = "what was replaced in the database's write-ahead log, its backups and replicas"
        finally:
            rows.close()

    def as_json(self) -> dict[str, int]:
        return {"traces_rewritten": self.rewritten, "traces_deleted": self.deleted}

    def tell(self, *, has_rows: bool) -> None:
        if not self.is_asked:
            return
        did = "rewrote {}, deleted {}" if self.is_sure else "would rewrite {} and delete {}; do it with --yes"
        tell(did.format(counted(self.to_rewrite, "trace"), counted(self.to_delete, "trace")))
        if self.not_reached:
            tell(f"not reached: {self.not_reached}")
        if self.deleted and not has_rows:
            tell("what a store behind a server keeps of deleted rows is left to its own tools")


def _after(trace: StoredTrace, cleaned: Cleaned) -> StoredTrace:
    beside = cleaned.beside
    return trace._replace(
        spans=cleaned.spans,
        fields=beside.fields,
        tags=beside.tags,
        metadata=beside.metadata,
        assessments=beside.assessments,
    )


def _clean(stored: StoredPolicy, trace: StoredTrace) -> Cleaned:
    from langchain_mlflow_cost.tracing.stored_trace import Beside

    return stored.clean(trace.spans, Beside(trace.fields, trace.tags, trace.metadata, trace.assessments))


def _copied(stored: StoredPolicy, trace: StoredTrace, found: Counter[Finding]) -> Path | None:
    """The file with a trace's spans once more, if something is in it, which is counted."""
    from langchain_mlflow_cost.erasure.files import copy_of_spans
    from langchain_mlflow_cost.tracing.stored_trace import Beside, Finding

    file = copy_of_spans(trace.tags) if trace.spans else None
    if file is None:
        return None
    try:
        spans = json.loads(file.read_bytes())["spans"]
        there = stored.clean(spans, Beside()).found
    except Exception:  # noqa: BLE001 - half a file, or another's: what is in it is not known
        found[Finding("UNREADABLE", "files", "")] += 1
        return file
    for each, count in there.items():
        found[each._replace(channel="files")] += count
    return file if there else None


def _delete(trace_id: str) -> str | None:
    """Delete a trace and its files; why not, where they cannot be deleted, since nobody would find them afterwards."""
    import mlflow

    from langchain_mlflow_cost.erasure.files import delete_files
    from langchain_mlflow_cost.erasure.stores import found_trace

    client = mlflow.MlflowClient()
    try:
        info = client.get_trace(trace_id, display=False).info
        delete_files(found_trace(info))
    except Exception as error:  # noqa: BLE001 - each kind of store raises its own
        return first_line(error)
    client.delete_traces(info.experiment_id, trace_ids=[trace_id])
    return None


class _Progress:
    """What was found up to now and how far it came; kept in a file, so that a scan of days can be broken off."""

    def __init__(self, file: Path | None, policy: Policy, experiments: dict[str, str]) -> None:
        from langchain_mlflow_cost.tracing.stored_trace import Finding

        self._file = file
        # What another policy or another experiment has found is not gone on with.
        self._about = json.dumps([policy.explain()["settings"], sorted(experiments)], sort_keys=True, default=str)
        self.found: Counter[Finding] = Counter()
        self.traces = self.with_findings = self.attachments = 0
        self.after: tuple[int, str] | None = None
        if file is not None and file.exists():
            try:
                told = json.loads(file.read_text(encoding="utf-8"))
                about, (moment, trace_id) = told["about"], told["after"]
                found = Counter({Finding(*each[:3]): each[3] for each in told["found"]})
                counts = told["traces"], told["with_findings"], told["attachments"]
            except (ValueError, KeyError, TypeError) as error:
                raise CommandError(f"{file}: is no state of a scan; name another with --state, or delete it") from error
            if about != _digest(self._about):
                raise CommandError(f"{file}: is of another policy or experiment; name another with --state")
            self.found, self.after = found, (moment, trace_id)
            self.traces, self.with_findings, self.attachments = counts

    def passed(self, trace: StoredTrace, cleaned: Cleaned) -> None:
        """Count a trace."""
        self.traces += 1
        self.after = (trace.timestamp_ms, trace.trace_id)
        if any("mlflow-attachment://" in str(span.get("attributes")) for span in trace.spans):
            self.attachments += 1
        if cleaned.found:
            self.with_findings += 1
            self.found.update(cleaned.found)

    def keep(self) -> None:
        """Write it down."""
        if self._file is not None and self.after is not None:
            told: dict[str, Any] = {
                "about": _digest(self._about),
                "after": self.after,
                "found": [[*f, n] for f, n in self.found.items()],
            }
            told |= {"traces": self.traces, "with_findings": self.with_findings, "attachments": self.attachments}
            new = self._file.with_name(f"{self._file.name}.new")
            new.write_text(json.dumps(told), encoding="utf-8")
            new.replace(self._file)

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "traces": self.traces,
            "traces_with_findings": self.with_findings,
            "found": [
                {"entity": entity, "channel": channel, "node": node, "count": count}
                for (entity, channel, node), count in self.found.most_common()
            ],
            "traces_with_files_not_read": self.attachments,
        }


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def _show_findings(progress: _Progress, experiments: dict[str, str]) -> None:
    from rich import box
    from rich.table import Table

    from langchain_mlflow_cost.notices import printable

    out = console()
    if progress.found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("Entity", "Channel", "Node"):
            table.add_column(head)
        table.add_column("Count", justify="right")
        for each, count in sorted(progress.found.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(each.entity, each.channel, printable(each.node) or "(outside nodes)", f"{count:,}")
        show(out, table)
    names = ", ".join(experiments.values())
    traces = f"{counted(progress.traces, 'trace')} of {names}"
    say(out, f"Found in {progress.with_findings:,} of {traces}" if progress.found else f"Found nothing in {traces}")
