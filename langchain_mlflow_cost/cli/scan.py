"""`mlflow-cost scan`: what a policy would redact in a text, and where."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path  # noqa: TC003 - typer reads the annotations when it runs
from typing import Annotated

import typer

from langchain_mlflow_cost.cli.app import PolicyOption, read_policy


def scan_text(
    text: Annotated[Path, typer.Option(metavar="FILE", help="What to look through; - is standard input.")],
    policy: PolicyOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print what was found, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if anything is found.")] = False,
) -> None:
    """Show what a policy would redact in a text.

    Without a policy: all secrets and everything personal that is known.
    """
    from langchain_mlflow_cost.policy.settings import Policy
    from langchain_mlflow_cost.redaction.rules import scan as found_in

    rules = (read_policy(policy) if policy else Policy(redact_pii=True)).for_node(()).rules[0]
    content = (sys.stdin.buffer.read() if str(text) == "-" else text.read_bytes()).decode("utf-8", "replace")
    counts: Counter[str] = Counter()
    for start, end, entity in found_in(content, rules):
        counts[entity] += 1
        line = content.count("\n", 0, start) + 1
        column = start - content.rfind("\n", 0, start)
        value = f": {content[start:end]!r}" if show else ""
        sys.stdout.write(f"{text}:{line}:{column}: {entity}{value}\n")
    told = ", ".join(f"{entity} {count}" for entity, count in counts.most_common())
    sys.stderr.write(f"found: {told or 'nothing'}\n")
    if check and counts:
        raise typer.Exit(1)
