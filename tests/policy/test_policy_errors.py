"""Bad input: each is a `PolicyError` that says where, what was found, what was expected and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langchain_mlflow_cost.adapters.catalogue import catalogue_rates
from langchain_mlflow_cost.errors import PolicyError
from langchain_mlflow_cost.policy.settings import Policy, PolicyWarning
from langchain_mlflow_cost.pricing.book import ModelRates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The machine may be busy; the file of one example is overwritten by the next.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What is written, and what the message says after the file's name.
BAD_FILES: dict[str, tuple[str, str]] = {
    "unknown key": (
        "enabled: true\nartefact_level: full\n",
        ':2: unknown key "artefact_level"; did you mean "artifact_level"?',
    ),
    "unknown key in a node": (
        "nodes:\n  writer:\n    log_promts: false\n",
        ':3: unknown key "log_promts" in nodes.writer; did you mean "log_prompts"?',
    ),
    "unknown key in a listed node": (
        "nodes:\n  - id: writer\n    log_promts: false\n",
        ':3: unknown key "log_promts" in nodes.writer; did you mean "log_prompts"?',
    ),
    "unknown key in a section": (
        "redaction:\n  strategi: mask\n",
        ':2: unknown key "strategi" in redaction; did you mean "strategy"?',
    ),
    "unknown key in a node called as a section": (
        "nodes:\n  budget:\n    max_cost_usd: 1\n",
        ':3: unknown key "max_cost_usd" in nodes.budget; known are log_prompts,',
    ),
    "unknown key, nothing near": ("zzz: 1\n", ':1: unknown key "zzz"; known are enabled, tracking_uri,'),
    "a key of the whole policy in a node": (
        "nodes:\n  writer:\n    enabled: false\n",
        ':3: unknown key "enabled" in nodes.writer; it holds for the whole policy, here are known log_prompts,',
    ),
    "unknown judge": (
        "enable_judges:\n  scorers: [Saftey]\n",
        ':2: enable_judges.scorers.0: unknown scorer Saftey; did you mean "Safety"?',
    ),
    "unknown judge, nothing near": (
        "enable_judges: {scorers: [zzzzz]}\n",
        ":1: enable_judges.scorers.0: unknown scorer zzzzz; known are Completeness, Fluency,",
    ),
    "a judge that is none": (
        "enable_judges: {scorers: [12]}\n",
        ":1: enable_judges.scorers.0: expected the name of a scorer, or a scorer of MLflow's, found int",
    ),
    "a judge's model without its provider": (
        "enable_judges: {model: gpt-4o-mini}\n",
        ":1: enable_judges.model: expected provider:/model, as openai:/gpt-4o-mini, found gpt-4o-mini",
    ),
    "a judges' budget of nothing": (
        "enable_judges: {budget: {per: day}}\n",
        ":1: enable_judges.budget: needs a limit; add max_cost_usd (USD) or max_total_tokens",
    ),
    "unknown level": (
        "artifact_level: ful\n",
        ':1: artifact_level: expected minimal, standard or full, found the text "ful"; did you mean "full"?',
    ),
    "unknown level of a node": (
        "nodes:\n  a/b:\n    artifact_level: none\n",
        ':3: nodes.a/b.artifact_level: expected minimal, standard or full, found the text "none"; write one of these',
    ),
    "a level that YAML takes for a boolean": (
        "artifact_level: off\n",
        ":1: artifact_level: expected minimal, standard or full, found false; write one of these",
    ),
    "unknown strategy": (
        "redaction:\n  strategy: redactt\n",
        ':2: redaction.strategy: expected redact, mask, hash or drop, found the text "redactt"; did you mean "redact"?',
    ),
    "unknown strategy of an entity": (
        "redaction:\n  strategy:\n    EMAIL_ADDRESS: encrypt\n",
        ':3: redaction.strategy.EMAIL_ADDRESS: expected redact, mask, hash or drop, found the text "encrypt"; ',
    ),
    "strategy of an unknown entity": (
        "redaction:\n  strategy:\n    EMAIL: mask\n",
        ':3: redaction.strategy.EMAIL: unknown entity "EMAIL"; did you mean "EMAIL_ADDRESS"?',
    ),
    "unknown entity": (
        "redaction:\n  entities:\n    - EMAIL_ADDRESS\n    - PHONE_NUMBERS\n",
        ':4: redaction.entities.1: unknown entity "PHONE_NUMBERS"; did you mean "PHONE_NUMBER"?',
    ),
    "an entity cut short": (
        "redaction: {entities: [EMAIL]}\n",
        ':1: redaction.entities.0: unknown entity "EMAIL"; did you mean "EMAIL_ADDRESS"?',
    ),
    "fields as an entity": (
        "redaction: {entities: [FIELD]}\n",
        ':1: redaction.entities.0: unknown entity "FIELD"; the fields that `keys` names are found without it, leave it',
    ),
    "an entity that is unknown however it is read": (
        "redaction: {entities: [ZZZ]}\n",
        (
            ':1: redaction.entities.0: unknown entity "ZZZ"; known are CREDIT_CARD, CRYPTO, EMAIL_ADDRESS, IBAN_CODE, '
            "IP_ADDRESS, MAC_ADDRESS, PHONE_NUMBER, US_SSN, SECRET, AU_ABN, AU_TFN, BE_NN, BR_CNPJ, "
        ),
    ),
    "an entity that needs presidio": (
        "nodes:\n  a:\n    redaction: {entities: [PERSON]}\n",
        ':3: nodes.a.redaction.entities.0: unknown entity "PERSON"; known are CREDIT_CARD, ',
    ),
    "entities as one text": (
        "redaction:\n  entities: EMAIL_ADDRESS\n",
        ':2: redaction.entities: expected a list, found the text "EMAIL_ADDRESS"; write `[EMAIL_ADDRESS]`',
    ),
    "field names as one text": (
        "redaction:\n  keys: '*_token'\n",
        ':2: redaction.keys: expected a list, found the text "*_token"; write `["*_token"]`',
    ),
    "metadata keys as one text": (
        "trace_metadata: tenant\n",
        ':1: trace_metadata: expected a list, found the text "tenant"; write `[tenant]`',
    ),
    "unknown engine": ("redaction:\n  engine: spacy\n", ":2: redaction.engine: expected builtin or presidio, found"),
    "bad regular expression": (
        "redaction:\n  patterns:\n    ok: a\n    ticket: 'T-[0-9'\n",
        ":4: redaction.patterns.ticket: ",
    ),
    "bad regular expression in a node": (
        "nodes:\n  a:\n    redaction:\n      patterns:\n        t.1: '(?=x)'\n",
        ":5: nodes.a.redaction.patterns.t.1: ",
    ),
    "a regular expression that is a number": (
        "redaction:\n  patterns:\n    pin: 1234\n",
        ":3: redaction.patterns.pin: expected a text, found the number 1234; put it in quotes",
    ),
    "a quoted boolean": (
        'log_prompts: "false"\n',
        ':1: log_prompts: expected true or false, found the text "false"; write it without quotes',
    ),
    "a number for a boolean": ("redact_pii: 1\n", ":1: redact_pii: expected true or false, found the number 1; "),
    "an empty boolean": ("log_prompts:\n", ":1: log_prompts: expected true or false, found nothing; "),
    "a boolean for a number": (
        "max_payload_chars: yes\n",
        ":1: max_payload_chars: expected a whole number, found true",
    ),
    "a fraction for a whole number": ("retention_days: 1.5\n", ":1: retention_days: expected a whole number, found"),
    "nothing to keep": (
        "retention_days: 0\n",
        ":1: retention_days: expected a number of at least 1, found the number 0",
    ),
    "a cut to nothing": ("max_payload_chars: 0\n", ":1: max_payload_chars: expected a number of at least 1, found"),
    "a boolean for a name": (
        "experiment_name: on\n",
        ":1: experiment_name: expected a text, found true; put it in quotes",
    ),
    "a number for a name": ("run_name: 12\n", ":1: run_name: expected a text, found the number 12; put it in quotes"),
    "an empty name": ('experiment_name: ""\n', ":1: experiment_name: expected a text, found the text"),
    "a budget below zero": (
        "budget:\n  max_cost_usd: -1\n",
        ":2: budget.max_cost_usd: expected a number of at least 0, found the number -1; ",
    ),
    "a boolean for a limit": (
        "budget:\n  - max_cost_usd: 1\n  - max_cost_usd: true\n",
        ":3: budget.1.max_cost_usd: expected a number, found true; ",
    ),
    "a limit that is no number": (
        "budget:\n  max_cost_usd: much\n",
        ':2: budget.max_cost_usd: expected a number, found the text "much"; ',
    ),
    "an endless limit": ("budget:\n  max_cost_usd: .inf\n", ":2: budget.max_cost_usd: expected a number, found"),
    "an amount beyond all sense": (
        "budget:\n  max_cost_usd: 1e400\n",
        ":2: budget.max_cost_usd: expected a number of at most 1e+12, and 0 or at least 1e-24, found one beyond; ",
    ),
    "an amount of thousands of digits": (
        f"budget:\n  max_cost_usd: {'9' * 5_000}\n",
        ":2: budget.max_cost_usd: expected a number, found",
    ),
    "an amount too small to be one": (
        "prices:\n  overrides:\n    m: {input: 1e-400}\n",
        ":3: prices.overrides.m.input: expected a number of at most 1e+12, and 0 or at least 1e-24, found one beyond; ",
    ),
    "an endless price": (
        "prices:\n  overrides:\n    m: {input: .inf}\n",
        ":3: prices.overrides.m.input: expected a number, found",
    ),
    "a discount that is not a number": (
        "prices:\n  discounts: {openai: .nan}\n",
        ":2: prices.discounts.openai: expected a number, found nan, which is not a number; ",
    ),
    "an endless length": ("max_payload_chars: .inf\n", ":1: max_payload_chars: expected a whole number, found"),
    "a length beyond all sense": (
        f"max_payload_chars: 1{'0' * 400}\n",
        ":1: max_payload_chars: expected a number of at most 1000000000000, found a number of more than 40 digits; ",
    ),
    "more days than a calendar has": (
        "retention_days: 1000000000\n",
        ":1: retention_days: expected a number of at most 366000, found the number 1000000000; ",
    ),
    "not a number": (
        "budget:\n  max_cost_usd: .nan\n",
        ":2: budget.max_cost_usd: expected a number, found nan, which is not a number; ",
    ),
    "a budget without a limit": (
        "budget:\n  scope: trace\n",
        ":1: budget: needs a limit; add max_cost_usd (USD) or max_total_tokens",
    ),
    "a listed budget without a limit": (
        "budget:\n  - scope: node\n",
        ":2: budget.0: needs a limit; add max_cost_usd (USD) or max_total_tokens",
    ),
    "a budget that is a number": (
        "budget: 0.5\n",
        ":1: budget: expected a mapping, found the number 0.5; write `budget: {max_cost_usd: 0.5}`, or a list of such",
    ),
    "a node's budget that is a number": (
        "nodes:\n  a:\n    budget: 5\n",
        ":3: nodes.a.budget: expected a mapping, found the number 5; write `budget: {max_cost_usd: 5}`, or a list",
    ),
    "a listed budget that is a number": (
        "budget: [5]\n",
        ":1: budget.0: expected a mapping, found the number 5; write `{max_cost_usd: 5}`",
    ),
    "a node called budget": (
        "nodes:\n  budget: 5\n",
        ":2: nodes.budget: expected a mapping, found the number 5; correct it or leave the key out",
    ),
    "unknown scope": (
        "budget:\n  max_cost_usd: 1\n  scope: run\n",
        ":3: budget.scope: expected trace, node, session, user or tag:NAME, found run",
    ),
    "a store that is no Redis": (
        "budget:\n  max_cost_usd: 1\n  scope: session\n  store: http://x\n",
        ":4: budget.store: a budget's `store` is not the URL of a Redis: expected redis://HOST:PORT/DB, rediss://... or ",
    ),
    "a store for one trace": (
        "budget:\n  max_cost_usd: 1\n  store: redis://127.0.0.1\n",
        ":1: budget: store is for scope: session, user or tag:NAME, found scope: trace; leave one of them out",
    ),
    "a discount above one": (
        "prices:\n  discounts:\n    openai: 20\n",
        ":3: prices.discounts.openai: expected a number of at most 1, found the number 20; ",
    ),
    "a price below zero": (
        "prices:\n  overrides:\n    my.model:\n      input: -1\n",
        ":4: prices.overrides.my.model.input: expected a number of at least 0, found the number -1; ",
    ),
    "a price of nothing known": (
        "prices:\n  overrides:\n    my.model:\n      inptu: 1\n",
        ':3: prices.overrides.my.model: price of "my.model": unknown class "inptu"; did you mean "input"?',
    ),
    "negative fee of a tool": (
        "prices:\n  tools: {search: -1}\n",
        ":2: prices.tools.search: expected a number of at least 0, found the number -1; ",
    ),
    "fee of a tool that is a mapping": (
        "prices:\n  tools:\n    search: {request: 1}\n",
        ":3: prices.tools.search: expected a number, found",
    ),
    "fees of tools in another place": (
        "prices:\n  tool: {search: 1}\n",
        ':2: unknown key "tool" in prices; did you mean "tools"?',
    ),
    "aliases in a circle": ("prices:\n  aliases:\n    a: b\n    b: a\n", ":3: prices.aliases.a"),
    "a contradiction": (
        "log_artifacts: false\nartifact_level: full\n",
        ":2: artifact_level: full contradicts log_artifacts: false beside it; leave out one of them",
    ),
    "a contradiction in a node": (
        "nodes:\n  a:\n    artifact_level: full\n    log_artifacts: false\n",
        ":3: nodes.a.artifact_level: full contradicts log_artifacts: false beside it; ",
    ),
    "no personal entities for redact_pii": (
        "redact_pii: true\nredaction:\n  entities: [SECRET]\n",
        ":3: redaction.entities: holds no personal entity, which contradicts redact_pii: true beside it; ",
    ),
    "a node twice": (
        "nodes:\n  - id: a\n    log_prompts: true\n  - name: a\n    log_prompts: false\n",
        ':5: log_prompts is set twice for node "a", to different values; keep one of them',
    ),
    "two equally specific entries": (
        "nodes:\n  re*: {log_prompts: true}\n  '*er': {log_prompts: false}\n",
        ':2: "*er" and "re*" both mean node "reer", are equally specific and set log_prompts to different values; ',
    ),
    "two spellings of one node": (
        "nodes:\n  '**/a': {redaction: {strategy: mask}}\n  a:\n    redaction:\n      strategy: drop\n",
        ':5: "**/a" and "a" both mean node "a", are equally specific and set redaction.strategy to different values; ',
    ),
    "two patterns of one name": (
        "nodes:\n  re*: {redaction: {strategy: {SECRET: mask}, patterns: {T: a}}}\n  '*er': {redaction: {patterns: {T: b}}}\n",
        ':2: "*er" and "re*" both mean node "reer", are equally specific and set redaction.patterns.T to different',
    ),
    "a number that is none": (
        "max_payload_chars: !!int many\n",
        ":1: max_payload_chars: expected a whole number, found",
    ),
    "an empty segment": (
        "nodes:\n  a//b: {}\n",
        ':2: node pattern "a//b" has an empty segment, so it matches nothing; ',
    ),
    "a name that LangGraph forbids": ("nodes:\n  'a:b': {}\n", ':2: node pattern "a:b" holds ":", which LangGraph'),
    "a node that is no mapping": ("nodes:\n  a: minimal\n", ":2: nodes.a: expected a mapping, found the text"),
    "nodes that are a text": ("nodes: writer\n", ":1: nodes: expected a mapping, found the text"),
    "a listed node without a name": (
        "nodes:\n  - log_prompts: false\n",
        ":2: an item of nodes needs an id or a name that is a text, found nothing; write `- id: writer`",
    ),
    "a listed node that is a text": (
        "nodes:\n  - writer\n",
        ':2: an item of nodes needs an id or a name that is a text, found the text "writer"; ',
    ),
    "a listed node called no": (
        "nodes:\n  - id: no\n",
        ":2: an item of nodes needs an id or a name that is a text, found false; ",
    ),
    "a key twice": (
        "log_prompts: false\nenabled: true\nlog_prompts: true\n",
        ':3: key "log_prompts" stands here again, first in line 1; keep one of them',
    ),
    "a node's key twice": ("nodes:\n  a: {}\n  a: {}\n", ':3: key "a" stands here again, first in line 2; '),
    "a list": ("- enabled: true\n", ":1: expected a mapping of settings, found a list; "),
    "a text": ("enabled\n", ':1: expected a mapping of settings, found the text "enabled"; '),
    "a tab": ("nodes:\n\ta: {}\n", ":2: not YAML: "),
    "not YAML": ("nodes: [\n", ":2: not YAML: "),
    "two documents": ("enabled: true\n---\nenabled: false\n", ":2: not YAML: "),
    "a control character": ("enabled: \x07\n", ": not YAML: character U+0007 at position 9; delete it"),
    "an unknown alias": ("nodes: *a\n", ":1: not YAML: "),
    "an alias in its anchor": ("nodes: &a {b: *a}\n", ": nested too deeply, or an alias is in its own anchor; "),
    "a Python object": (
        "run_name: !!python/object/apply:os.getcwd []\n",
        ":1: run_name: expected a text, found a value tagged tag:yaml.org,2002:python/object/apply:os.getcwd; ",
    ),
    "an unset variable": (
        "redaction:\n  hash_key: ${NO_SUCH_VARIABLE}\n",
        ":2: redaction.hash_key: environment variable NO_SUCH_VARIABLE is not set, or empty; set it before",
    ),
    "an unset variable in a URI": (
        "tracking_uri: http://${NO_SUCH_VARIABLE}\n",
        ":1: tracking_uri: environment variable",
    ),
    "an empty key": ('redaction:\n  hash_key: ""\n', ":2: redaction.hash_key: expected a text, found an empty one; "),
    "settings that are a boolean": (
        "observability:\n  mlflow: true\n",
        ":2: observability.mlflow: expected a mapping of settings, found true; ",
    ),
    "settings in two places": (
        "config:\n  observability:\n    mlflow: {log_prompts: false}\nobservability:\n  mlflow: {}\n",
        ":5: settings stand under both config.observability.mlflow and observability.mlflow; move them to one place",
    ),
    "a node of a workflow twice": (
        "edges: []\nnodes:\n  - id: a\n    log_prompts: true\n    mlflow: {log_prompts: false}\n",
        ":3: log_prompts is set twice for this node, to different values; keep one of them",
    ),
    "a wrong value in a workflow's node": (
        "edges: []\nnodes:\n  - id: a\n    prompt: x\n    log_prompts: maybe\n",
        ':5: nodes.a.log_prompts: expected true or false, found the text "maybe"; ',
    ),
    "a merged value": (
        "nodes:\n  a: &a\n    log_prompts: 7\n  b:\n    <<: *a\n",
        ":3: nodes.a.log_prompts: expected true or false, found the number 7; ",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file(case: str, tmp_path: Path) -> None:
    """The message names file, line and key, what was found and what to do."""
    text, expected = BAD_FILES[case]
    file = tmp_path / "policy.yaml"
    file.write_text(text)

    with pytest.raises(PolicyError) as caught:
        Policy.load(file)
    assert f"{file}{expected}" == str(caught.value).split("\n", 1)[0][: len(f"{file}{expected}")]


BAD_MAPPINGS: dict[str, tuple[Any, str]] = {
    "unknown key": ({"artefact_level": "full"}, 'policy: unknown key "artefact_level"; did you mean "artifact_level"?'),
    "node": (
        {"nodes": {"a": {"log_prompts": 1}}},
        "policy: nodes.a.log_prompts: expected true or false, found the number",
    ),
    "key that is no text": ({1: 2}, "policy: expected texts as keys, found the number 1; put it in quotes"),
    "inner key that is no text": ({"prices": {"aliases": {1: "a"}}}, "policy: prices.aliases.1: expected a text"),
    "number": (7, "policy: expected a Policy, a mapping or the path of a YAML file, found the number 7"),
    "boolean": (True, "policy: expected a Policy, a mapping or the path of a YAML file, found true"),
    "list": ([], "policy: expected a Policy, a mapping or the path of a YAML file, found a list"),
    "YAML itself": (
        "enabled: true\nhash_key: abc\n",
        "policy: expected the path of a YAML file, found a YAML text; save it in a file, or pass what it says as a ",
    ),
    "YAML itself in a line": ("enabled: true", "policy: expected the path of a YAML file, found a YAML text; "),
    "where MLflow stores": (
        "http://user:word@127.0.0.1:9",
        (
            "policy: expected the path of a YAML file, found a URL; for where MLflow stores, pass a mapping: "
            '{"tracking_uri": "..."}'
        ),
    ),
    "workflow": (
        {"observability": {"mlflow": []}},
        "policy: observability.mlflow: expected a mapping of settings, found",
    ),
    "object": ({"run_name": object()}, "policy: run_name: expected a text, found a object; correct it or"),
}


@pytest.mark.parametrize("case", BAD_MAPPINGS)
def test_a_bad_mapping(case: str) -> None:
    """What is not from a file is called `policy`."""
    policy, expected = BAD_MAPPINGS[case]

    with pytest.raises(PolicyError) as caught:
        Policy.load(policy)
    assert expected == str(caught.value)[: len(expected)]


def test_a_mapping_in_itself() -> None:
    """A mapping that holds itself is refused, not followed."""
    endless: dict[str, Any] = {}
    endless["nodes"] = endless

    with pytest.raises(PolicyError, match="nested too deeply"):
        Policy.load(endless)


def test_keywords_are_checked_alike() -> None:
    """A policy made from keywords is refused with the same error as any other."""
    with pytest.raises(PolicyError, match='policy: unknown key "artefact_level"; did you mean "artifact_level"'):
        Policy(artefact_level="full")  # that is the point


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Each bad setting has its line in the message, and the first its key in the error."""
    file = tmp_path / "policy.yaml"
    file.write_text("log_prompts: 1\nnodes:\n  a:\n    redact_pii: 2\n")

    with pytest.raises(PolicyError) as caught:
        Policy.from_yaml(file)
    assert [f"{file}:1", f"{file}:4"] == [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert caught.value.key == "log_prompts"


def test_what_shows_only_where_the_rest_is_right_is_told_too(tmp_path: Path) -> None:
    """Entities, patterns of nodes and regexes, aliases, price classes, keys written twice: all in one message, by line."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "artifact_level: standart\n"
        "redact_pii: true\n"
        "redact_pii: false\n"
        "redaction: {entities: [EMAIL_ADRESS]}\n"
        "budget:\n"
        "  max_cost_usd: -1\n"
        "prices:\n"
        "  overrides:\n"
        "    a: {inptu: 1}\n"
        "    b: {input: -3}\n"
        "  aliases: {a: b, b: a}\n"
        "nodes:\n"
        "  'x||y': {log_prompts: false}\n"
        "  z: {redaction: {patterns: {p: '('}}}\n"
    )

    with pytest.raises(PolicyError) as caught:
        Policy.from_yaml(file)
    told = [line.removeprefix(f"{file}:").partition(": ") for line in str(caught.value).splitlines()]
    assert [line for line, _, _ in told] == ["1", "3", "4", "6", "9", "10", "11", "13", "14"]
    assert caught.value.key == "artifact_level"


UNREADABLE: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "missing": (lambda at: at / "none.yaml", "cannot be read: No such file or directory; give the path"),
    "directory": (lambda at: at, "is a directory; name the YAML file in it"),
    "NUL": (lambda at: f"{at}/a\0b", "cannot be read: ValueError; give the path"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read(case: str, tmp_path: Path) -> None:
    """A path to nothing readable is a PolicyError that names it."""
    where, expected = UNREADABLE[case]

    with pytest.raises(PolicyError) as caught:
        Policy.load(where(tmp_path))
    assert f"{where(tmp_path)}: {expected}" in str(caught.value)


def test_another_encoding(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused with the line."""
    file = tmp_path / "policy.yaml"
    file.write_bytes("enabled: true\nrun_name: café\n".encode("latin-1"))

    with pytest.raises(PolicyError, match=r"policy.yaml:2: not UTF-8; save the file in that encoding"):
        Policy.load(file)


SECRETS = {
    "hash_key": "redaction:\n  hash_key: [s3same]\n",
    "hash_key as number": "redaction:\n  hash_key: 8236471\n",
    "tracking_uri": "tracking_uri: [http://bob:s3same@x]\n",
    "store": "budget:\n  max_cost_usd: 1\n  store: {s3same: 1}\n",
    "store in the wrong scope": "budget:\n  max_cost_usd: 1\n  store: redis://:s3same@x\n",
    "not YAML": "redaction:\n  hash_key: s3same: [\n",
    "twice": "redaction:\n  hash_key: s3same\n  hash_key: s3same\n",
}


@pytest.mark.parametrize("case", SECRETS)
def test_no_secret_in_a_message(case: str, tmp_path: Path) -> None:
    """Neither the message nor what it was raised from quotes a key, a URL's password or a pattern."""
    file = tmp_path / "policy.yaml"
    file.write_text(SECRETS[case])

    with pytest.raises(PolicyError) as caught:
        Policy.load(file)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "s3same" not in str(caught.value)
    assert "8236471" not in str(caught.value)


def loaded(text: str, tmp_path: Path) -> Policy:
    """A policy from a file with this text."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return Policy.from_yaml(os.fspath(file))


GOOD_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "empty": ("", {}),
    "comments alone": ("# nothing\n", {}),
    "a null": ("~\n", {}),
    "a byte order mark": ("\ufeffredact_pii: true\n", {"redact_pii": True}),
    "yes and no": ("redact_pii: yes\nlog_prompts: no\n", {"redact_pii": True, "log_prompts": False}),
    "empty sections": ("nodes:\nredaction:\nbudget:\nprices:\n", {}),
    "a date as a name": ("run_name: 2024-01-01\n", {"run_name": "2024-01-01"}),
    "underscores": ("max_payload_chars: 10_000\n", {"max_payload_chars": 10_000}),
    "nodes called as booleans and numbers": (
        "nodes:\n  no: {log_prompts: false}\n  1.10: {log_prompts: false}\n",
        {"nodes": {"no": {"log_prompts": False}, "1.10": {"log_prompts": False}}},
    ),
    "a listed node called by a number": (
        "nodes:\n  - id: 1\n    redact_pii: true\n",
        {"nodes": {"1": {"redact_pii": True}}},
    ),
    "anchors": (
        "nodes:\n  a: &private {log_prompts: false}\n  b: *private\n  c:\n    <<: *private\n    redact_pii: true\n",
        {
            "nodes": {
                "a": {"log_prompts": False},
                "b": {"log_prompts": False},
                "c": {"log_prompts": False, "redact_pii": True},
            }
        },
    ),
    "a node twice, alike": (
        "nodes:\n  - {id: a, log_prompts: false}\n  - {name: a, log_prompts: false, redact_pii: true}\n",
        {"nodes": {"a": {"log_prompts": False, "redact_pii": True}}},
    ),
    "an id and a name": ("nodes:\n  - {id: a, name: A, redact_pii: true}\n", {"nodes": {"a": {"redact_pii": True}}}),
    "a spelt out default beside log_artifacts": (
        "log_artifacts: false\nartifact_level: standard\n",
        {"log_artifacts": False, "artifact_level": "standard"},
    ),
    "two entries that agree": (
        "nodes:\n  re*: {log_prompts: false}\n  '*er': {log_prompts: false, redact_pii: true}\n",
        {"nodes": {"re*": {"log_prompts": False}, "*er": {"log_prompts": False, "redact_pii": True}}},
    ),
}


@pytest.mark.parametrize("case", GOOD_FILES)
def test_a_good_file(case: str, tmp_path: Path) -> None:
    """What YAML does to plain words does not change what is meant."""
    text, expected = GOOD_FILES[case]

    assert Policy(**expected) == loaded(text, tmp_path)


def test_any_mapping_will_do() -> None:
    """Mappings need not be dicts, at any depth."""
    assert Policy.load({"redaction": {"strategy": "mask"}}) == Policy.load(
        MappingProxyType({"redaction": MappingProxyType({"strategy": "mask"})})
    )


def test_the_callers_mapping_is_left_alone() -> None:
    """Loading does not change what it was given."""
    given = {"use_mlflow_39_tracing": True, "nodes": [{"id": "a", "log_prompts": False}]}
    with pytest.warns(PolicyWarning):
        Policy.load(given)

    assert given == {"use_mlflow_39_tracing": True, "nodes": [{"id": "a", "log_prompts": False}]}


def test_environment_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${VAR}` in a URI is the variable's value."""
    monkeypatch.setenv("MLFLOW_HOST", "127.0.0.1")

    assert loaded("tracking_uri: http://${MLFLOW_HOST}:5000\n", tmp_path).tracking_uri == "http://127.0.0.1:5000"


DOUBTS = {
    "old tracing": ("use_mlflow_39_tracing: true\n", PolicyWarning, ":1: use_mlflow_39_tracing is accepted, but it is"),
    "file store": ("tracking_uri: file://./mlruns\n", PolicyWarning, ":1: tracking_uri names a folder, mlruns"),
    "file store, a path": ("\ntracking_uri: ./mlruns\n", PolicyWarning, ":2: tracking_uri names a folder, mlruns"),
    "artifact store": ("tracking_uri: s3://a/b\n", PolicyWarning, ":1: tracking_uri: MLflow keeps artifacts in s3://"),
    "run name": ('run_name: "{flow}"\n', PolicyWarning, ":1: run_name: {flow} stays as it is; known are {timestamp}"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_what_is_doubtful_is_told_once(case: str, tmp_path: Path) -> None:
    """What is allowed but probably not meant gives one warning, with file and line, at the caller's line."""
    text, category, expected = DOUBTS[case]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded(text, tmp_path)

    assert [(category, True, __file__)] == [
        (each.category, str(each.message).startswith(f"{tmp_path / 'policy.yaml'}{expected}"), each.filename)
        for each in told
    ]


GOOD_URIS = ["sqlite:///mlflow.db", "http://127.0.0.1:5000", "databricks", "postgresql://x/y", "databricks://profile"]


@pytest.mark.parametrize("uri", GOOD_URIS)
def test_other_stores_are_nobodys_business(uri: str) -> None:
    """No warning for what MLflow takes as a tracking store."""
    assert uri == Policy(tracking_uri=uri).tracking_uri


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("${HOME}") | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*Policy.model_fields, "config", "observability", "mlflow", "use_mlflow_39_tracing"])
inner_keys = st.sampled_from(
    [
        *("a", "**", "id", "name", "mlflow", "observability", "log_prompts", "redaction", "strategy", "entities"),
        *("patterns", "keys", "hash_key", "engine", "budget", "max_cost_usd", "scope", "store"),
        *("overrides", "aliases", "discounts"),
    ]
)
sections = st.recursive(
    anything, lambda inner: st.dictionaries(inner_keys, inner, max_size=3) | st.lists(inner, max_size=2), max_leaves=8
)


def is_policy_or_refused(source: Any) -> bool:
    """Whether loading ends in a policy whose nodes resolve, or in a PolicyError; any other error comes out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            policy = Policy.load(source)
        except PolicyError as error:
            return str(error).startswith(("policy", str(source) if isinstance(source, os.PathLike) else "policy"))
    return policy.for_node(("a",)) is not None and bool(policy.explain())


@unhurried
@given(st.dictionaries(keys, sections, max_size=4))
def test_any_mapping_is_a_policy_or_a_policy_error(mapping: dict[str, Any]) -> None:
    """Whatever stands in a mapping, loading it raises nothing but PolicyError, and what loads resolves."""
    assert is_policy_or_refused(mapping)


@unhurried
@given(st.text(alphabet=st.sampled_from("ab:-{}[]&*!|>'\"#%@,? \n\t0.~<=") | st.characters(), max_size=40))
def test_any_text_is_a_policy_or_a_policy_error(tmp_path: Path, text: str) -> None:
    """Whatever stands in a file, loading it raises nothing but PolicyError."""
    file = tmp_path / "policy.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    assert is_policy_or_refused(file)


@unhurried
@given(st.dictionaries(keys, sections, max_size=4))
def test_a_file_means_what_the_same_mapping_means(tmp_path: Path, mapping: dict[str, Any]) -> None:
    """A file is refused where the mapping in it is, and means the same where not."""
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(mapping, allow_unicode=True), encoding="utf-8")
    found: list[Policy | None] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in (yaml.safe_load(file.read_text(encoding="utf-8")), file):
            try:
                found.append(Policy.load(source))
            except PolicyError:
                found.append(None)

    assert found[0] == found[1]


def test_each_unknown_entity_has_a_line(tmp_path: Path) -> None:
    """All unknown entities of all entries are told at once."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "redaction:\n  entities: [EMAIL]\n  strategy: {PHONE: mask}\nnodes:\n  a:\n    redaction: {entities: [SSN]}\n"
    )

    with pytest.raises(PolicyError) as caught:
        Policy.load(file)
    assert [
        f'{file}:2: redaction.entities.0: unknown entity "EMAIL"; did you mean "EMAIL_ADDRESS"?',
        f'{file}:3: redaction.strategy.PHONE: unknown entity "PHONE"; did you mean "PHONE_NUMBER"?',
        f'{file}:6: nodes.a.redaction.entities.0: unknown entity "SSN"; did you mean "US_SSN"?',
    ] == str(caught.value).splitlines()


STORE: dict[str, Any] = {"budget": {"max_cost_usd": 1, "scope": "session", "store": "redis://127.0.0.1:1/0"}}


def test_the_extra_of_a_store_is_missed_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy with a store is refused where redis-py is not installed, and says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(PolicyError, match=re.escape('pip install "langchain-mlflow-cost[redis]"')):
        Policy.load(STORE)


def test_a_store_is_checked_without_redis_py() -> None:
    """Loading a policy never imports redis-py."""
    code = f"import sys; from langchain_mlflow_cost.policy.settings import Policy; Policy.load({STORE!r}); print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "False\n" == done.stdout


ODD_PRICES: dict[str, tuple[str, str]] = {
    "alias to nothing": (
        "aliases: {house: openai/gpt-nonesuch}",
        ":1: prices.aliases.house: no price is known for openai/gpt-nonesuch, so calls of house will have none; ",
    ),
    "discount of a misspelt provider": (
        "discounts: {opnai: 0.1}",
        ':1: prices.discounts: "opnai" is no known provider or model, so it takes nothing off; did you mean "openai"?',
    ),
    "discount of a misspelt model": ("discounts: {gpt-4oo-mini: 0.1}", ':1: prices.discounts: "gpt-4oo-mini" is no '),
    "discount of nobody": (
        "discounts: {zzz: 0.1}",
        ':1: prices.discounts: "zzz" is no known provider or model, so it ',
    ),
}


@pytest.mark.parametrize("case", ODD_PRICES)
def test_odd_prices(case: str, tmp_path: Path) -> None:
    """An alias or discount that can do nothing is doubted, with its place, unless another list knows the name."""
    text, expected = ODD_PRICES[case]
    file = tmp_path / "policy.yaml"
    file.write_text(f"prices: {{{text}}}\n")

    policy = Policy.load(file)
    doubts = policy.price_doubts(lambda provider, model: None)

    assert [f"{file}{expected}"] == [each[: len(f"{file}{expected}")] for each in doubts]
    assert () == policy.price_doubts(lambda provider, model: ModelRates("a list", f"{provider}/{model}", {}))


@pytest.mark.parametrize(
    "prices",
    [
        pytest.param({"aliases": {"house": "azure/gpt-4o"}}, id="alias to a maker's model"),
        pytest.param({"aliases": {"house": "llama-3.3-70b-versatile"}}, id="alias to a model of who is called"),
        pytest.param({"aliases": {"house": "inner", "inner": "gpt-4o"}}, id="alias to an alias"),
        pytest.param({"aliases": {"a": "own"}, "overrides": {"own": {"input": 1}}}, id="alias to an override"),
        pytest.param({"aliases": {"a": "databricks-claude-haiku-4-5"}}, id="alias to what only MLflow knows"),
        pytest.param({"discounts": {"*": 0.1, "azure_openai": 0.2, "ollama": 0.1, "gpt-4o": 0.1}}, id="discounts"),
        pytest.param({"discounts": {"openai/gpt-4o": 0.1, "anthropic/claude-haiku-4-5": 0.1}}, id="at a provider"),
        pytest.param({"discounts": {"own": 0.1}, "overrides": {"Own": {"input": 1}}}, id="discount of an override"),
        pytest.param({"discounts": {"house": 0.1}, "aliases": {"house": "gpt-4o"}}, id="discount of an alias"),
    ],
)
def test_usable_prices(prices: dict[str, Any]) -> None:
    """Names that some price source knows are not doubted."""
    assert () == Policy.load({"prices": prices}).price_doubts(catalogue_rates)


HUGE: dict[str, dict[str, Any]] = {
    "limit": {"budget": {"max_cost_usd": 10**5_000}},
    "price": {"prices": {"overrides": {"m": {"input": 10**5_000}}}},
    "discount": {"prices": {"discounts": {"openai": 10**5_000}}},
    "length": {"max_payload_chars": 10**5_000},
    "days": {"retention_days": -(10**5_000)},
    "name": {"run_name": 10**5_000},
}


@pytest.mark.parametrize("case", HUGE)
def test_a_number_that_python_does_not_write_out(case: str) -> None:
    """An int of thousands of digits, which `str` refuses, is an error like any other."""
    with pytest.raises(PolicyError, match=r"expected a (number|whole number|text)"):
        Policy.load(HUGE[case])
