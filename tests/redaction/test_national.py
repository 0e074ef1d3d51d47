"""Numbers of states: found only if listed, and valid as python-stdnum has them."""

from __future__ import annotations

import importlib
import random
import re
from typing import Any

import pytest

from langchain_mlflow_cost.redaction import ENTITIES, PII_ENTITIES, Found, compile_rules, scan
from langchain_mlflow_cost.redaction.detectors import NATIONAL_ENTITIES
from langchain_mlflow_cost.redaction.detectors.national import NATIONAL

JUDGES = {
    "UK_NHS": "gb.nhs", "ES_NIF": "es.dni", "ES_NIE": "es.nie", "IT_FISCAL_CODE": "it.codicefiscale", "PL_PESEL": "pl.pesel", "BR_CPF": "br.cpf",
    "BR_CNPJ": "br.cnpj", "IN_AADHAAR": "in_.aadhaar", "FR_NIR": "fr.nir", "NL_BSN": "nl.bsn", "BE_NN": "be.nn", "SE_PERSONNUMMER": "se.personnummer",
    "FI_PERSONAL_IDENTITY_CODE": "fi.hetu", "NO_FODSELSNUMMER": "no.fodselsnummer", "CN_RIC": "cn.ric", "AU_TFN": "au.tfn", "AU_ABN": "au.abn",
    "CA_SIN": "ca.sin", "TR_TCKN": "tr.tckimlik", "DE_TAX_ID": "de.idnr", "CH_AHV": "ch.ssn", "ZA_ID": "za.idnr",
}  # fmt: skip
WORDS = {
    "UK_NHS": "NHS ",
    "PL_PESEL": "PESEL ",
    "NL_BSN": "BSN ",
    "AU_TFN": "TFN ",
    "TR_TCKN": "kimlik ",
    "DE_TAX_ID": "Steuer-ID ",
    "ZA_ID": "identity ",
}


def judge(name: str) -> Any:
    return importlib.import_module(f"stdnum.{JUDGES[name]}")


def test_each_has_a_judge() -> None:
    """A number without a module of python-stdnum beside it is not finished."""
    assert set(JUDGES) == set(NATIONAL) == set(NATIONAL_ENTITIES)


@pytest.mark.parametrize("name", NATIONAL)
def test_example_is_valid_and_found_if_listed(name: str) -> None:
    """python-stdnum takes the example, and so do we, where a policy lists the entity."""
    for example in NATIONAL[name].examples:
        text = f"{WORDS.get(name, '')}{example}"

        assert judge(name).is_valid(example)
        assert scan(text, compile_rules(entities=[name])) == [Found(len(text) - len(example), len(text), name)]


@pytest.mark.parametrize("name", NATIONAL)
def test_check_digit_as_stdnum_has_it(name: str) -> None:
    """With one digit changed, nothing is taken that python-stdnum does not take."""
    chance = random.Random(name)
    rules = compile_rules(entities=[name])
    for example in NATIONAL[name].examples:
        for _ in range(200):
            places = [i for i, one in enumerate(example) if one.isdigit()]
            at = chance.choice(places)
            changed = example[:at] + chance.choice("0123456789") + example[at + 1 :]
            found = scan(f"{WORDS.get(name, '')}{changed}", rules)
            if found:
                assert judge(name).is_valid(changed), re.sub("[0-9]", "0", changed)


def test_off_unless_listed() -> None:
    """Neither `redact_pii` nor all entities of the table look for them."""
    assert not PII_ENTITIES & set(NATIONAL_ENTITIES)
    assert not set(ENTITIES) & set(NATIONAL_ENTITIES)
    assert scan("CPF 123.456.789-09, RCCMNL83S18D969H", compile_rules(entities=ENTITIES)) == []
