"""What a search for secrets takes of texts as files hold them: `python benchmarks/searching.py [CHECKOUT ...]`.

Texts are pieces of 2,000 characters of what is installed here: code, data, documentation, and base64. Each checkout's
package searches them in processes of its own, three times, in turns; printed is the CPU a piece in microseconds, the
first time, while RE2 learns, and the best after it.
"""

from __future__ import annotations

import base64
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
SIZE, PIECES, ROUNDS = 2_000, 2_000, 2
ENDINGS: Final = {"code": "*.py", "JSON": "*.json", "documentation": "*METADATA", "JavaScript": "*.js"}


def pieces_of(ending: str, rng: random.Random) -> list[str]:
    """Some of all files of a kind that are installed, in an order of their own; at most twenty of each."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob(ending)):
        text = path.read_text(encoding="utf-8", errors="replace")[: 20 * SIZE]
        found += [text[start : start + SIZE] for start in range(0, len(text), SIZE)]
    rng.shuffle(found)
    return found[:PIECES]


def measure() -> dict[str, list[float]]:
    """In this process: of each kind, what each of three times took a piece, in microseconds of CPU."""
    from langchain_mlflow_cost.redaction.detectors import SECRET, Scanner

    rng = random.Random(1)
    texts = {name: pieces_of(ending, rng) for name, ending in ENDINGS.items()}
    texts["base64"] = [base64.b64encode(rng.randbytes(SIZE * 3 // 4)).decode() for _ in range(300)]
    scanner = Scanner([SECRET])
    taken: dict[str, list[float]] = {name: [] for name in texts}
    for _ in range(3):
        for name, pieces in texts.items():
            began = time.thread_time()
            for piece in pieces:
                scanner.find(piece)
            taken[name].append((time.thread_time() - began) / len(pieces) * 1e6)
    return taken


def main(checkouts: list[str]) -> None:
    """Print a table for each checkout."""
    taken: dict[str, list[dict[str, Any]]] = {checkout: [] for checkout in checkouts}
    for _ in range(ROUNDS):
        for checkout in (*checkouts, *reversed(checkouts)):
            environment = {**os.environ, "PYTHONPATH": checkout, "PYTHONHASHSEED": "0"}
            command = [sys.executable, str(HERE), "--measure"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            taken[checkout].append(json.loads(done.stdout))
    print("| checkout | texts | first, us | then, us |\n| --- | --- | --- | --- |")
    for checkout, runs in taken.items():
        for name in runs[0]:
            first = statistics.median(run[name][0] for run in runs)
            then = statistics.median(min(run[name][1:]) for run in runs)
            print(f"| {Path(checkout).name} | {name} | {first:.0f} | {then:.0f} |")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        print(json.dumps(measure()))
    else:
        main([str(Path(each).resolve()) for each in sys.argv[1:]] or [str(HERE.parents[1])])
