"""How fast the redaction engine is, beside the peers that are installed.

    python benchmarks/redaction.py                 # ours and whatever of the peers is installed
    python benchmarks/redaction.py --hostile       # growth on hostile strings, too
    python benchmarks/redaction.py --cut           # milliseconds for payloads that are cut, and nothing else
    python benchmarks/redaction.py --json out.json

All rules are on. Engines and texts take turns rep by rep in one process, so that another program on the machine
slows all of them alike: believe the ratios, and the MB/s (a million characters a second of CPU) only of one run.
Every text is made anew for each rep, so that no cache knows it.
"""

# ruff: noqa: RUF001 - one of the texts is Chinese
from __future__ import annotations

import argparse
import base64
import datetime as dt
import json
import platform
import random
import sys
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from langchain_mlflow_cost.redaction import ENTITIES, Redactor, compile_rules

if TYPE_CHECKING:
    from collections.abc import Callable

# Common words, and some that rules look at.
WORDS = (  # noqa: SIM905 - a text is shorter than its words
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they "
    "which one you were all her she there would their we him been has when who will no more if out so up said "
    "what its about than into them can only other time new some could these two may first then do any like my now "
    "over such our man me even most made after also did many before must through years where much your way down "
    "should because long each just state those people too mr how little good world make report analysis market "
    "results password token key number call phone order version address account policy meeting budget model"
).split()

PEERS_CHARS = 100_000


def words(chance: random.Random, count: int) -> str:
    """Make sentences of common words, some of which are words that rules look at, with years and amounts."""
    out = []
    for i in range(count):
        out.append(chance.choice(WORDS))
        if i % 14 == 13:
            out[-1] += chance.choice(
                [".", ".", ",", f" in {chance.randint(1990, 2030)}.", f" ({chance.randint(1, 99)} %).", ".\n"]
            )
    return " ".join(out)


def prose(chance: random.Random, size: int) -> str:
    return words(chance, size // 5 + 10)[:size].ljust(size, ".")


def code(chance: random.Random, size: int) -> str:
    """Take Python source of what is installed, from a random place."""
    files = sorted(Path(json.__file__).parent.parent.glob("*.py"))
    chance.shuffle(files)
    text = ""
    for file in files:
        text += file.read_text(errors="ignore")
        if len(text) >= size:
            break
    return text[:size]


def state(chance: random.Random, size: int) -> Any:
    """Make the state of a graph: messages with ids, usage and tool calls, about 500 characters of text each."""
    messages = []
    length = 0
    while length < size:
        message = {
            "type": chance.choice(["human", "ai", "tool"]),
            "content": words(chance, 90),
            "id": str(uuid.UUID(int=chance.getrandbits(128))),
            "response_metadata": {
                "token_usage": {"completion_tokens": chance.randint(1, 999), "prompt_tokens": chance.randint(1, 9999)},
                "model_name": "gpt-4o-mini-2024-07-18",
                "created": 1_700_000_000 + len(messages),
                "time": "2024-05-06T10:11:12.123456+00:00",
            },
            "tool_calls": [
                {
                    "name": "search",
                    "args": {"query": words(chance, 8), "limit": 10},
                    "id": f"call_{chance.getrandbits(96):024x}",
                }
            ],
        }
        messages.append(message)
        length += len(json.dumps(message))
    return {"messages": messages}


def images(chance: random.Random, size: int) -> str:
    return base64.b64encode(chance.randbytes(size)).decode()[:size]


def chinese(chance: random.Random, size: int) -> str:
    return "".join(
        chance.choices("的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生，。：", k=size)
    )


def dense(chance: random.Random, size: int) -> str:
    """Make text of which two thirds are personal values."""
    n = chance.randint
    makers: list[Callable[[], str]] = [
        lambda: f"{chance.choice(WORDS)}.{chance.choice(WORDS)}{n(1, 99)}@example{n(1, 999)}.com",
        lambda: f"+1 {n(201, 989)} {n(200, 999)} {n(1000, 9999)}",
        lambda: f"({n(201, 989)}) {n(200, 999)}-{n(1000, 9999)}",
        lambda: f"4111 1111 1111 {n(1000, 9999)}",
        lambda: f"{n(1, 665):03d}-{n(1, 99):02d}-{n(1, 9999):04d}",
        lambda: f"{n(1, 255)}.{n(0, 255)}.{n(0, 255)}.{n(0, 255)}",
        lambda: "DE89 3704 0044 0532 0130 00",
        lambda: ":".join(f"{n(0, 255):02x}" for _ in range(6)),
        lambda: f"2001:db8::{n(1, 65535):x}:{n(1, 65535):x}",
        lambda: f"ghp_{chance.getrandbits(184):046x}"[:40],
    ]
    parts = []
    length = 0
    while length < size:
        parts.append(f"{chance.choice(makers)()} {chance.choice(WORDS)} {chance.choice(WORDS)}, ")
        length += len(parts[-1])
    return "".join(parts)[:size]


TEXTS: dict[str, Callable[[random.Random, int], Any]] = {
    "prose": prose,
    "code": code,
    "json state": state,
    "base64": images,
    "cjk": chinese,
    "dense in pii": dense,
}

HOSTILE = (
    "a",
    "a.",
    "1",
    "1234567890",
    "1.1.1.",
    "eyJ",
    "-----BEGIN PRIVATE KEY-----\n",
    "ab:",
    "DE89 ",
    "(",
    "a@",
    "password=",
    "://a:b@",
    "sk-",
)


def ours(value: Any) -> Any:
    """Redact with everything on, a new redactor each time: nothing is remembered."""
    redactor = Redactor(compile_rules(entities=ENTITIES), max_payload_chars=10**9)
    return redactor.text(value) if isinstance(value, str) else redactor.json(value)


def peers() -> dict[str, Callable[[str], Any]]:
    """Give what is installed, each with what its documentation shows, on text."""
    found: dict[str, Callable[[str], Any]] = {}
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        pass
    else:
        nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        nlp.nlp = {"en": spacy.blank("en")}
        nlp.nlp["en"].max_length = 10**8
        registry = RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"])
        engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])
        pii = sorted(set(ENTITIES) - {"SECRET"})
        found["presidio, blank spaCy"] = lambda text: engine.analyze(text, language="en", entities=pii)
    try:
        from langchain.agents.middleware import _redaction
    except ImportError:
        pass
    else:
        detectors = list(_redaction.BUILTIN_DETECTORS.values())
        found["langchain PIIMiddleware"] = lambda text: [detect(text) for detect in detectors]
    try:
        from langsmith import anonymizer
    except ImportError:
        pass
    else:
        email = {"pattern": r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}", "replace": "<email>"}
        found["langsmith anonymizer"] = anonymizer.create_anonymizer([*anonymizer.DEFAULT_SECRET_RULES, email])
    try:
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import default_settings
    except ImportError:
        pass
    else:

        def detect_secrets(text: str) -> list[Any]:
            with default_settings():
                return [one for line in text.splitlines() for one in scan_line(line)]

        found["detect-secrets"] = detect_secrets
    return found


def cpu_s(function: Callable[[Any], Any], value: Any) -> float:
    start = time.process_time()
    function(value)
    return time.process_time() - start


def length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def measure(reps: int, size: int, *, with_peers: bool) -> dict[str, dict[str, float]]:
    """Give MB/s by engine and text, the best of the reps: other programs on the machine can only slow."""
    engines: dict[str, tuple[Callable[[Any], Any], int]] = {"ours": (ours, size)}
    if with_peers:
        engines |= {name: (function, PEERS_CHARS) for name, function in peers().items()}
    rates: dict[str, dict[str, list[float]]] = {name: {text: [] for text in TEXTS} for name in engines}
    too_slow: set[tuple[str, str]] = set()
    for rep in range(reps):
        for text, make in TEXTS.items():
            for name, (function, chars) in engines.items():
                if (name, text) in too_slow:
                    continue
                value = make(random.Random(f"{rep}{text}"), chars)
                if name != "ours" and not isinstance(value, str):
                    value = json.dumps(value)
                seconds = cpu_s(function, value)
                rates[name][text].append(length(value) / seconds / 1e6)
                if seconds > 5:
                    too_slow.add((name, text))
    return {name: {text: max(one) for text, one in row.items()} for name, row in rates.items()}


def growth() -> dict[str, float]:
    """Give how many times the time ten times the length takes, by hostile unit."""
    result = {}
    for unit in HOSTILE:
        times = [min(cpu_s(ours, (unit * size)[:size]) for _ in range(3)) for size in (30_000, 300_000)]
        result[unit] = times[1] / max(times[0], 1e-4)
    return result


def conversation(size: int) -> dict[str, Any]:
    """Make a state of LangChain's messages, about so many characters of it."""
    from langchain_core.messages import AIMessage, HumanMessage

    chance = random.Random(size)
    usage = {"input_tokens": 900, "output_tokens": 90, "total_tokens": 990}
    messages: list[Any] = []
    for number in range(max(1, size // 2_000)):
        messages.append(HumanMessage(words(chance, 140), id=f"h{number}"))
        messages.append(AIMessage(words(chance, 140), id=f"a{number}", usage_metadata=usage))
    return {"messages": messages}


def rows(size: int) -> list[dict[str, Any]]:
    """Make the answer of a database."""
    return [{"id": number, "name": f"row {number}", "ok": True, "price": 1.5} for number in range(size // 50)]


CUTS: dict[str, Callable[[int], Any]] = {
    "text": lambda size: prose(random.Random(size), size),
    "state": lambda size: state(random.Random(size), size),
    "messages": conversation,
    "rows": rows,
    "numbers": lambda size: list(range(size // 6)),
}


def cut_ms(reps: int) -> dict[str, float]:
    """Give milliseconds of CPU for payloads whose strings are known already, by shape, size and what is allowed.

    `grows` is a conversation that gains a message before each payload, as a graph's state does.
    """
    result = {}
    for max_chars in (100_000, 2_000):
        for size in (10_000, 100_000, 1_000_000):
            for shape, make in CUTS.items():
                redactor = Redactor(compile_rules(entities=ENTITIES), max_payload_chars=max_chars)
                value = make(size)
                redactor.json(value)
                times = [cpu_s(redactor.json, value) for _ in range(max(reps, 3_000_000 // size))]
                result[f"{shape}, {size:,} cut to {max_chars:,}"] = min(times) * 1e3
            redactor = Redactor(compile_rules(entities=ENTITIES), max_payload_chars=max_chars)
            messages = conversation(size)["messages"]
            redactor.json(messages)
            start = time.process_time()
            for length_so_far in range(len(messages) // 2, len(messages), max(1, len(messages) // 100)):
                redactor.json({"messages": messages[:length_so_far]})
            result[f"grows, {size:,} cut to {max_chars:,}"] = (time.process_time() - start) * 1e3
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument(
        "--chars", type=int, default=1_000_000, help=f"of each text for ours; the peers get {PEERS_CHARS:,}"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ours("warm up bob@example.com")
    if arguments.cut:
        times = cut_ms(arguments.reps)
        for what, milliseconds in times.items():
            print(f"{what:40} {milliseconds:9.3f} ms")
        if arguments.json:
            arguments.json.write_text(json.dumps({"cut_ms": times}, indent=2))
        return
    rates = measure(arguments.reps, arguments.chars, with_peers=not arguments.no_peers)
    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    print(f"{today}, Python {platform.python_version()}, {platform.machine()}, MB/s of CPU time")
    print(f"| {'engine':26} | " + " | ".join(f"{text:>12}" for text in TEXTS) + " |")
    print("| --- " * (len(TEXTS) + 1) + "|")
    for name, row in rates.items():
        print(f"| {name:26} | " + " | ".join(f"{row[text]:12.3g}" for text in TEXTS) + " |")
    report: dict[str, Any] = {"mb_per_s": rates, "packages": {}}
    for package in ("google-re2", "presidio-analyzer", "langchain", "langsmith", "detect-secrets"):
        try:
            report["packages"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    print(", ".join(f"{name} {version}" for name, version in report["packages"].items()))
    if arguments.hostile:
        report["growth"] = growth()
        print("\ntime for ten times the length:")
        for unit, ratio in report["growth"].items():
            print(f"  {unit!r:36} {ratio:5.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
