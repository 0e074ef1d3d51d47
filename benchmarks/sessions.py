"""What 10,000 sessions take: `python benchmarks/sessions.py [SESSIONS] [CHARACTERS]`.

Each session is told so many characters once, as turns of a long-lived service come in; then some come back. Printed are
the process's memory as it grows, how many sessions are known in which way, and what is found in those that come back.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

# The path is set first, so that the checkout is measured.
from dialogues import DOMAINS, dialogue  # noqa: E402

from langchain_mlflow_cost.limits import limits  # noqa: E402
from langchain_mlflow_cost.tracing.session import Sessions  # noqa: E402


def text_of(number: int, chars: int) -> str:
    """What one session's private node was told."""
    rng, parts = random.Random(number), []
    while sum(map(len, parts)) < chars:
        domain = rng.choice(list(DOMAINS))
        parts += [each["content"] or "" for each in dialogue(domain, rng.getrandbits(40))]
    return "\n".join(parts)[:chars]


def memory_mb() -> float:
    """Resident, at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    chars = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    sessions, started, before = Sessions(), time.perf_counter(), memory_mb()
    print("| sessions | memory, MB more | s |\n| --- | --- | --- |")
    for number in range(count):
        session = sessions.of(f"thread {number}")
        session.text.add(text_of(number, chars))
        session.text.stretches("settle what was told")
        sessions.count(f"thread {number}")
        if (number + 1) % max(1, count // 10) == 0:
            print(f"| {number + 1:,} | {memory_mb() - before:.0f} | {time.perf_counter() - started:.0f} |", flush=True)
    kinds = {"in full": 0, "by marks": 0, "withheld": 0}
    found = asked = 0
    for number in range(0, count, max(1, count // 200)):
        text = sessions.of(f"thread {number}").text
        kinds["withheld" if text.is_full else "in full" if text.chars else "by marks"] += 1
        said = text_of(number, chars)
        asked += 1
        found += bool(text.scrub(f"as was said: {said[200:400]}")[1])
    print(f"\nOf {asked} that come back: {kinds}; a piece of 200 characters is found in, or withheld from, {found}.")
    print(f"Limits: {limits().private_chars:,} characters in full, {limits().session_marks:,} marks.")


if __name__ == "__main__":
    main()
