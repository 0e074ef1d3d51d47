"""What is taken away from another customer's public dialogue: `python benchmarks/overreach.py`.

One private dialogue is remembered, or 100 of the same business; then others are searched, message by message, as JSON.
Printed is the share of their characters that is gone, and how many of their keys, roles and tools' names; and, to see
that nothing is lost, how many of the private dialogue's own messages are still found in it.

With a file of other dialogues, `python benchmarks/overreach.py FILE`, those are measured: a JSON list of objects with a
list of messages in `traj` and what they are about in `task_id`, as in tau-bench's `historical_trajectories`.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

# The path is set first, so that the checkout is measured.
from dialogues import DOMAINS, dialogue  # noqa: E402

from langchain_mlflow_cost.redaction.private_json import without_private_text  # noqa: E402
from langchain_mlflow_cost.redaction.private_text import TOKEN, PrivateText  # noqa: E402
from langchain_mlflow_cost.tracing.session import Session  # noqa: E402

_CUSTOMER = re.compile(r"[a-z]+_[a-z]+_[0-9]{4}")
PUBLIC = 24
"""Dialogues of each business that are searched."""


def remembered(dialogues: list[list[dict[str, Any]]]) -> PrivateText:
    """What a private node knows that was told all of these."""
    session = Session()
    for messages in dialogues:
        session.remember_private(messages)
    session.settle_names({name for domain in DOMAINS.values() for name in domain.tools})
    return session.text


def structure(value: Any) -> list[str]:
    """Keys, roles, kinds and names of tools, also of JSON in strings."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return structure(json.loads(value))
        except json.JSONDecodeError:
            return []
    if isinstance(value, dict):
        named = [str(value[key]) for key in ("role", "type", "name") if isinstance(value.get(key), str)]
        return [*value, *named, *(each for member in value.values() for each in structure(member))]
    return [each for member in value for each in structure(member)] if isinstance(value, list) else []


def measure(private: PrivateText, messages: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Characters gone, characters in all, names of the structure gone."""
    gone = total = names = 0
    for message in messages:
        written = json.dumps(message)
        clean = without_private_text(written, private)[0]
        total += len(written)
        gone += max(0, len(written) - len(clean.replace(TOKEN, "")))
        names += structure(message) != structure(json.loads(clean))
    return gone, total, names


def figures(domain: str, count: int) -> tuple[float, float, int, int, int]:
    """Mean and largest share gone, structure gone, private messages found and in all."""
    shares, names = [], 0
    for number in range(PUBLIC):
        private = remembered([dialogue(domain, 1_000 + number * count + each) for each in range(count)])
        gone, total, lost = measure(private, dialogue(domain, number))
        shares.append(gone / total)
        names += lost
        if count > 1 and number == 3:
            break
    known = dialogue(domain, 1_000)
    private = remembered([known])
    said = [each["content"] for each in known if len(each["content"] or "") > 20]
    found = sum(bool(without_private_text(f"as was said before, {text} (so it was)", private)[1]) for text in said)
    return sum(shares) / len(shares), max(shares), names, found, len(said)


def of_file(path: str) -> None:
    """Measure dialogues from a file; those about one task, or that name the same customer, are not compared."""
    tasks: dict[Any, list[list[dict[str, Any]]]] = {}
    for each in json.loads(Path(path).read_text("utf-8")):
        tasks.setdefault(each["task_id"], []).append([said for said in each["traj"] if said["role"] != "system"])
    customers = {task: set(_CUSTOMER.findall(json.dumps(said))) for task, said in tasks.items()}
    for count, public in ((1, 25), (26, 8), (100, 8)):
        rng = random.Random(count)
        gone = total = 0
        for task in rng.sample(sorted(tasks), public):
            others = [said for each in tasks if not customers[each] & customers[task] for said in tasks[each]]
            some, of_all, _ = measure(remembered(rng.sample(others, count)), tasks[task][0])
            gone, total = gone + some, total + of_all
        print(f"{count} remembered: {gone / total:.1%} of {total:,} characters gone")


def main() -> None:
    """Print a table."""
    if sys.argv[1:]:
        of_file(sys.argv[1])
        return
    print("| business | remembered | gone, mean | gone, most | structure gone | private messages found |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in (1, 100):
        for domain in DOMAINS:
            mean, most, names, found, said = figures(domain, count)
            print(f"| {domain} | {count} | {mean:.1%} | {most:.1%} | {names} | {found} of {said} |")


if __name__ == "__main__":
    main()
