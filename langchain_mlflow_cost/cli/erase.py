"""`mlflow-cost erase`: delete the traces of a user, a session or a tag, or those that hold a text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_mlflow_cost.cli.app import PolicyOption, TrackingUri, read_policy
from langchain_mlflow_cost.cli.deleting import DryRun, Job, ReceiptFile, Stores, Yes, stores_named

if TYPE_CHECKING:
    from langchain_mlflow_cost.erasure.request import By

_SHORTEST_TEXT = 3


def erase_traces(
    stores: Stores = None,
    user: Annotated[str | None, typer.Option("--user", metavar="U", help="Whose traces go: the whole id.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="S", help="Of which thread_id the traces go: the whole id.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="K=V", help="Traces whose tag or metadata K is V go.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="T", help="Traces that hold it go, however written; - reads it from standard input."
        ),
    ] = None,
    policy: PolicyOption = None,
    experiment: Annotated[
        list[str] | None, typer.Option("--experiment", metavar="NAME", help="Repeatable; else all, deleted ones too.")
    ] = None,
    tracking_uri: TrackingUri = None,
    receipt: ReceiptFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete traces of a user, a session, a tag or a text.

    Their rows, files, assessments, records of evaluation datasets made from them, and this library's sums in MLflow
    runs; then the database is compacted, the store is searched for what was to go, and a receipt is written.

    With --policy, tokens that its redaction.hash_key makes of the value are looked for, too. Exit status 1: something
    is left, and standard error and the receipt say what.
    """
    from langchain_mlflow_cost.erasure.request import request_for

    asked: list[tuple[By, str | None]] = [("user", user), ("session", session), ("tag", tag), ("text", text)]
    given = [(by, value) for by, value in asked if value is not None]
    if len(given) != 1:
        raise typer.BadParameter("say one of --user, --session, --tag, --text", param_hint="--user")
    by, value = given[0]
    name, value = _checked(by, value)
    loaded = read_policy(policy) if policy else None
    words = stores_named(stores, tracking_uri, loaded)
    request = request_for(by, value, loaded, name=name)
    # Not the value: what is printed may be kept.
    what = {"user": "of that user", "session": "of that session", "tag": f"with that {name}", "text": "with that text"}[
        by
    ]
    Job("erase", what, policy=policy, receipt=receipt, dry_run=dry_run, yes=yes).run(words, request, experiment or None)


def _checked(by: By, value: str) -> tuple[str, str]:
    """The tag's name, and the value."""
    name = ""
    if by == "tag":
        name, is_pair, value = value.partition("=")
        if not is_pair or not name:
            raise typer.BadParameter(f"expected K=V, such as tenant=acme, got {name!r}", param_hint="--tag")
    if by == "text" and value == "-":
        value = sys.stdin.read().removesuffix("\n")
    if not value.strip():
        raise typer.BadParameter("is empty", param_hint=f"--{by}")
    if by == "text" and len(value) < _SHORTEST_TEXT:
        raise typer.BadParameter(
            f"is in nearly every trace: give {_SHORTEST_TEXT} characters or more", param_hint="--text"
        )
    return name, value
