"""`mlflow-cost scan`: what a policy would redact in a text, and where."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path  # noqa: TC003 - typer reads the annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_mlflow_cost.cli.app import PolicyOption, read_policy

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction import Found


def scan_text(
    text: Annotated[Path, typer.Option(metavar="FILE", help="What to look through; - is standard input.")],
    policy: PolicyOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print what was found, too.")] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Say which rule found it, and what stands around it; not what was found.")
    ] = False,
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
    told = rules.explain(content) if why else [(one, "") for one in found_in(content, rules)]
    shown = _context(content, [one for one, _ in told]) if why else []
    for number, ((start, end, entity), rule) in enumerate(told):
        counts[entity] += 1
        line = content.count("\n", 0, start) + 1
        column = start - content.rfind("\n", 0, start)
        value = f": {content[start:end]!r}" if show else ""
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
