"""How much the redaction engine finds, beside the peers that are installed.

    python benchmarks/quality.py                       # the made-up rows, both parts
    python benchmarks/quality.py --shared ../shared/redaction-data

Scored as the tests score: a value is found when at most a fifth of its letters and digits survive; a stretch is right
when it touches a value and reaches at most max(6, half the value) characters beyond. A dash: not covered.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "redaction")]

import labelled  # noqa: E402 - found by the line above
from field import fault, load_field  # noqa: E402 - likewise
from innocent import FORMS, code, innocent  # noqa: E402 - likewise
from scoring import Row, load, score  # noqa: E402 - likewise

from langchain_mlflow_cost.redaction import ENTITIES, compile_rules  # noqa: E402 - likewise

if TYPE_CHECKING:
    from collections.abc import Callable

    Find = Callable[[str], list[tuple[int, int, str]]]


def finders() -> dict[str, tuple[Find, frozenset[str]]]:
    """Give ours and what is installed: a function from a text to stretches, and the entities that it knows."""
    found: dict[str, tuple[Find, frozenset[str]]] = {
        "ours": (compile_rules(entities=ENTITIES).find, frozenset(ENTITIES))
    }
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        pass
    else:
        nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        nlp.nlp = {"en": spacy.blank("en")}
        registry = RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"])
        engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])
        pii = sorted(set(ENTITIES) - {"SECRET"})

        def presidio(text: str) -> list[tuple[int, int, str]]:
            return [
                (one.start, one.end, one.entity_type)
                for one in engine.analyze(text, language="en", entities=pii, score_threshold=0.4)
            ]

        found["presidio"] = (presidio, frozenset(pii))
    try:
        from langchain.agents.middleware import _redaction
    except ImportError:
        pass
    else:
        names = {
            "email": "EMAIL_ADDRESS",
            "credit_card": "CREDIT_CARD",
            "ip": "IP_ADDRESS",
            "mac_address": "MAC_ADDRESS",
        }

        def middleware(text: str) -> list[tuple[int, int, str]]:
            return [
                (one["start"], one["end"], entity)
                for name, entity in names.items()
                for one in _redaction.BUILTIN_DETECTORS[name](text)
            ]

        found["PIIMiddleware"] = (middleware, frozenset(names.values()))
    try:
        from langsmith import anonymizer
    except ImportError:
        pass
    else:
        secrets = [rule["pattern"] for rule in anonymizer.DEFAULT_SECRET_RULES]
        email = re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}")

        def langsmith(text: str) -> list[tuple[int, int, str]]:
            spans = [(*match.span(), "EMAIL_ADDRESS") for match in email.finditer(text)]
            return spans + [(*match.span(), "SECRET") for pattern in secrets for match in re.finditer(pattern, text)]

        found["langsmith"] = (langsmith, frozenset({"EMAIL_ADDRESS", "SECRET"}))
    try:
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import default_settings
    except ImportError:
        pass
    else:

        def detect_secrets(text: str) -> list[tuple[int, int, str]]:
            spans = []
            with default_settings():
                for line in text.splitlines():
                    for one in scan_line(line):
                        at = text.find(one.secret_value)
                        spans.append((at, at + len(one.secret_value), "SECRET"))
            return spans

        found["detect-secrets"] = (detect_secrets, frozenset({"SECRET"}))
    return found


def table(title: str, rows: list[Row]) -> None:
    """Print recall and precision by entity and engine."""
    engines = finders()
    scores: dict[str, Any] = {name: score(rows, find) for name, (find, _) in engines.items()}
    odd = [row for row in rows if "odd" in row.tags]
    print(f"\n{title}: {len(rows)} rows; recall / precision\n")
    print("| entity | values | " + " | ".join(engines) + " |")
    print("| --- | --- |" + " --- |" * len(engines))
    for entity in ENTITIES:
        if entity not in scores["ours"] or not scores["ours"][entity].values:
            continue
        cells = [
            f"{scores[name][entity].recall:.3f} / {scores[name][entity].precision:.3f}"
            if entity in covered and entity in scores[name]
            else "-"
            for name, (_, covered) in engines.items()
        ]
        print(f"| {entity} | {scores['ours'][entity].values} | " + " | ".join(cells) + " |")
    if odd:
        cells = []
        for find, covered in engines.values():
            parts = score([row for row in odd if row.scope & covered], find)
            values = sum(one.values for name, one in parts.items() if name != "kept")
            cells.append(
                f"{sum(one.found for name, one in parts.items() if name != 'kept') / values:.3f}" if values else "-"
            )
        print(f"| odd characters, recall | {len(odd)} | " + " | ".join(cells) + " |")
    print("| other text kept | | " + " | ".join(f"{scores[name]['kept'].recall:.4f}" for name in engines) + " |")


def innocents(size: int) -> None:
    """Print what is found in a megabyte of text in which nothing is."""
    find = finders()["ours"][0]
    print(f"\nfalse finds in innocent text, per MB of {size / 1e6:g} MB each\n\n| form | per MB |\n| --- | --- |")
    for form in (*FORMS, "code"):
        text = code(size) if form == "code" else innocent(form, size)
        # The addresses of authors in source code are real ones.
        found = [one for one in find(text) if form != "code" or one[2] not in {"EMAIL_ADDRESS", "IP_ADDRESS"}]
        print(f"| {form} | {len(found) / len(text) * 1e6:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="a folder of labelled rows, besides the made-up ones")
    parser.add_argument("--megabytes", type=int, default=1, help="of innocent text of each form")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}")
    for part in ("tune", "aside"):
        table(f"made up, {part}", labelled.rows(part, arguments.seed))
    if arguments.shared:
        table("other projects' tests", load(arguments.shared))
        rows = load_field(arguments.shared / "field.jsonl")
        print(f"\nfield rows: {sum(fault(row) is None for row in rows)} of {len(rows)} right")
    innocents(arguments.megabytes * 1_000_000)


if __name__ == "__main__":
    main()
