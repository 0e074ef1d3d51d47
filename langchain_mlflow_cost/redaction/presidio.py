"""The optional engine: Microsoft's Presidio, for what needs a language model or a country's own rules.

Everything that the built-in table has is found by it first; Presidio gets what is left, and is asked only for the
entities of the policy. It runs in-process and downloads nothing: it uses the NLP engine given to `use_nlp_engine`,
else a spaCy model that is installed, else a blank one, with which it finds no PERSON and no LOCATION.

Read in presidio-analyzer 2.2.366.
"""

# ruff: noqa: E501 - a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import functools
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.limits import limits
from langchain_mlflow_cost.notices import warn
from langchain_mlflow_cost.redaction.detectors import ENTITIES, NATIONAL_ENTITIES, Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCORE_THRESHOLD = 0.4
"""What Presidio is less sure of than this is left alone; it is the threshold of its own examples."""

SLICE_CHARS = 20_000
"""Its patterns take quadratic time on some texts, so that a long one is handed over in slices."""

NEEDS_MODEL = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION"})
"""What only a trained model finds."""

# Those of its national ids that have a check digit: without one, any word of the right length will do.
_CHECKED = frozenset({
    "UK_NHS", "AU_ABN", "AU_ACN", "AU_TFN", "AU_MEDICARE", "SG_NRIC_FIN", "IN_AADHAAR", "IN_GSTIN", "ES_NIF", "ES_NIE", "IT_FISCAL_CODE",
    "IT_VAT_CODE", "PL_PESEL", "FI_PERSONAL_IDENTITY_CODE", "KR_RRN", "KR_FRN", "TH_TNIN", "SE_PERSONNUMMER", "DE_TAX_ID", "CA_SIN", "TR_TCKN",
})  # fmt: skip
# Names of tools and models, ids, paths, code: what no person and no place is called.
_IDENTIFIER = re.compile(r"[0-9_/\\{}()\[\]=<>#$@:`|]|\w\.\w|[a-z][A-Z]|--|^[a-z]+(?:-[a-z]+)+$")
# What makers call their models, for which it takes them as people.
_MODELS = re.compile(
    r"(?:claude|sonnet|haiku|opus|gemini|gemma|flash|pro|ultra|nano|llama|mistral|mixtral|magistral|codestral|large|medium|small|gpt|chatgpt|"
    r"qwen|deepseek|grok|phi|nova|titan|command|cohere|anthropic|openai|bedrock|vertex|whisper|sora|dall|kimi|granite|nemotron|"
    r"jamba|falcon|vicuna|orca|hermes|zephyr|langchain|langgraph|langsmith|mlflow|[0-9.]+)(?:[ -]|$)",
    re.IGNORECASE | re.ASCII,
)
# A line that brings in a module: its quotes hold names of files. In other statements they hold what people wrote.
_IMPORT = re.compile(
    r"\s*(?:import\s+\w|import\s*[{*(\"'<]|from\s+[\w.]+\s+import\b|export\b.*[;{'\"]|#include\b|using\s+[\w.]+;|package\s+[\w.]+;?$|(?:const|let|var)\b.*\brequire\()"
)
_STATEMENT = re.compile(
    r"\s*(?:(?:const|let|var|val|final)\s+\w+\s*(?::[^=]+)?=.*|(?:async\s+)?(?:def|class|func|fn|function|struct|enum|interface)\s+\w+\s*[({:<].*"
    r"|(?:public|private|protected|static)\s+[\w<>\[\]]+\s+\w+.*[;{(].*|(?:return|await|throw|raise|yield)\b.*[;()]\s*"
    r"|(?:for|while|if|elif|switch|catch|except|with)\b.*(?:\bin\b|[=<>!(]).*[:{]\s*"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH)\b.*\b(?:FROM|INTO|TABLE|SET|INDEX|VIEW|AS)\b.*"
    r"|[\w.]+(?:\[[^\]]*\])?\s*[-+*/|&]?=\s*\S.*|[\w.]+\(.*\);?\s*)"
)

_LANGUAGE = "en"
_lock = threading.Lock()
_nlp_engine: Any = None


def use_nlp_engine(engine: Any) -> None:
    """Use this `presidio_analyzer.nlp_engine.NlpEngine`, for English; call it before a policy is loaded."""
    global _nlp_engine  # noqa: PLW0603 - one per process, since a model takes hundreds of megabytes
    with _lock:
        _nlp_engine = engine
        _analyzer_engine.cache_clear()


def supported_entities() -> frozenset[str]:
    """Give the entities that Presidio can find in English text.

    Raises:
        PolicyError: Presidio is not installed.
    """
    return frozenset(_registry().get_supported_entities(languages=[_LANGUAGE])) | NEEDS_MODEL


def default_entities() -> frozenset[str]:
    """Give what is asked for where a policy lists nothing: names, places, groups, national ids with a check digit.

    Not its dates and URLs, for which it takes `gpt-4o-mini-2024-07-18` and `config.py`.
    """
    return (frozenset({"PERSON", "LOCATION", "NRP"}) | _CHECKED) & supported_entities()


def analyzer(entities: frozenset[str]) -> Callable[[str], list[Found]]:
    """Give a function that finds the entities that the built-in table does not have."""
    wanted = sorted(entities - set(ENTITIES) - set(NATIONAL_ENTITIES))
    blind = sorted(NEEDS_MODEL & set(wanted))
    if blind and _nlp_engine is None and not _installed_model():
        warn(
            f"redaction engine presidio finds no {', '.join(blind)} without a spaCy model: install one, such as "
            "en_core_web_sm, or pass an engine to langchain_mlflow_cost.redaction.presidio.use_nlp_engine",
        )
    return functools.partial(_find, entities=wanted)


def _find(text: str, entities: list[str]) -> list[Found]:
    engine = _analyzer_engine()
    found = []
    # Measured between slices; when it is over, the payload is dropped.
    end_s = time.monotonic() + limits().presidio_text_s
    for offset, piece in _slices(text):
        if time.monotonic() > end_s:
            raise TimeoutError
        results = engine.analyze(piece, language=_LANGUAGE, entities=entities, score_threshold=SCORE_THRESHOLD)
        found += [
            Found(offset + one.start, offset + one.end, one.entity_type)
            for one in results
            if one.entity_type not in NEEDS_MODEL or not is_identifier(piece, one.start, one.end)
        ]
    return found


def is_identifier(text: str, start: int, end: int) -> bool:
    """Say whether a stretch is a name in a program, or a part of one, and no name of a person or place."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    words = text[start:end] + " "
    return (
        _is_code(text, start, end)
        or not _MODELS.sub("", words).strip()
        or _IDENTIFIER.search(text, start, end) is not None
        or _IDENTIFIER.search(text[start:end]) is not None
        or (before != "" and before in "_`/.@#$-<{=")
        or (after[:1] != "" and after[0] in "_`(/@=")
        or (after[:1] in {".", "-"} and after[1:].isalnum())
    )


def _is_code(text: str, start: int, end: int) -> bool:
    """Say whether a stretch stands in a line of a program, and not in its quotes."""
    low = text.rfind("\n", 0, start) + 1
    high = text.find("\n", end)
    line = text[low : high if high >= 0 else len(text)][:_LONGEST_LINE]
    if _IMPORT.match(line):
        return True
    before = text[low:start]
    return _STATEMENT.fullmatch(line) is not None and not (before.count('"') % 2 or before.count("'") % 2)


_LONGEST_LINE = 400


def _slices(text: str) -> Iterator[tuple[int, str]]:
    """Cut a long text at white space where there is some near."""
    start = 0
    while start < len(text):
        end = min(start + SLICE_CHARS, len(text))
        if end < len(text):
            space = max(text.rfind(" ", start + SLICE_CHARS // 2, end), text.rfind("\n", start + SLICE_CHARS // 2, end))
            end = space + 1 if space > 0 else end
        yield start, text[start:end]
        start = end


@functools.lru_cache(maxsize=1)
def _analyzer_engine() -> Any:
    """Make the engine, once per process: with a model it takes seconds."""
    from presidio_analyzer import AnalyzerEngine  # noqa: PLC0415 - optional, and slow to import

    engine = _nlp_engine or _spacy_engine()
    return AnalyzerEngine(registry=_registry(), nlp_engine=engine, supported_languages=[_LANGUAGE])


def _spacy_engine() -> Any:
    import spacy  # noqa: PLC0415 - optional, and slow to import
    from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415 - optional, and slow to import

    model = _installed_model()
    engine = SpacyNlpEngine(models=[{"lang_code": _LANGUAGE, "model_name": model or "blank"}])
    # `load` would download a model that is not there.
    engine.nlp = {_LANGUAGE: spacy.load(model) if model else spacy.blank(_LANGUAGE)}
    return engine


def _installed_model() -> str | None:
    import spacy  # noqa: PLC0415 - optional, and slow to import

    models = [name for name in spacy.util.get_installed_models() if name.startswith(f"{_LANGUAGE}_")]
    return min(models, key=len) if models else None


@functools.lru_cache(maxsize=1)
def _registry() -> Any:
    try:
        from presidio_analyzer import RecognizerRegistry  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        message = 'redaction.engine: "presidio" needs an extra: pip install "langchain-mlflow-cost[presidio]"'
        raise PolicyError(message, key="redaction.engine") from error
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=[_LANGUAGE])
    return registry
