"""Each literal prefix of other scanners' rules, with a key of its form: it is found, whole, and what is left out stays."""

from __future__ import annotations

import random
import re
import string

import pytest

from langchain_mlflow_cost.redaction import SECRET, compile_rules

RULES = compile_rules(entities=[SECRET])
LETTERS = string.ascii_letters + string.digits
CLASSES = {
    "A": LETTERS,
    "B": LETTERS + "+/",
    "D": string.digits,
    "H": "0123456789abcdef",
    "L": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "W": LETTERS + "_-",
}


def key(form: str) -> str:
    """Make a key of a form in which `{A32}` are 32 letters and digits: always the same one."""
    chance = random.Random(form)

    def made(match: re.Match[str]) -> str:
        # A key of any length has a capital, a small letter and a digit, as far as its class has them.
        letters = CLASSES[match[1]]
        size = int(match[2])
        some = [one for one in ("Qz7" if match[1] in "ABW" else "7") if one in letters][:size]
        rest = [chance.choice(letters) for _ in range(size - len(some))]
        if match[1] in "BW" and rest:
            rest[-1] = "k"  # not ending in a sign
        return "".join(some + rest)

    return re.sub(r"\{([A-Z])(\d+)\}", made, form)


UUID = "{H8}-{H4}-{H4}-{H4}-{H12}"
# gitleaks' rules (2026-07-22, b58d3f1) that begin with a literal, and the form that its patterns ask for.
GITLEAKS = {
    "A3-": "A3-{U6}-{U11}-{U5}-{U5}-{U5}",
    "ops_eyJ": "ops_eyJ{B250}",
    "p8e-": "p8e-{A32}",
    "AGE-SECRET-KEY-1": "AGE-SECRET-KEY-1{U58}",
    "pat": "pat{A14}.{H64}",
    "LTAI": "LTAI{A20}",
    "sk-ant-admin01-": "sk-ant-admin01-{W93}AA",
    "sk-ant-api03-": "sk-ant-api03-{W93}AA",
    "AKCp": "AKCp{A69}",
    "cmVmd": "cmVmdGtu{A56}",
    "sc_": "sc_{L10}.{L4}.acc_{L12}.{B40}",
    "ext_": "ext_{L10}.{L4}.acc-{L12}.{B40}",
    "scauth_": "scauth_{L10}.{L4}.acc_{L12}.{B40}",
    "authress_": "authress_{L10}.{L4}.acc_{L12}.{B40}",
    "A3T": "A3T{U17}",
    "AKIA": "AKIA{U16}",
    "ASIA": "ASIA{U16}",
    "ABIA": "ABIA{U16}",
    "ACCA": "ACCA{U16}",
    "ABSK": "ABSK{B120}==",
    "bedrock-api-key-": "bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t{B60}",
    "Q~": "{A3}8Q~{A34}",
    "4b1d": "4b1d{A38}",
    "CLOJARS_": "CLOJARS_{L60}",
    "v1.0-": "v1.0-{H24}-{H146}",
    "dapi": "dapi{H32}-2",
    "doo_v1_": "doo_v1_{H64}",
    "dop_v1_": "dop_v1_{H64}",
    "dor_v1_": "dor_v1_{H64}",
    "dp.pt.": "dp.pt.{A43}",
    "duffel_": "duffel_live_{W43}",
    "dt0c01.": "dt0c01.{U24}.{U64}",
    "EZAK": "EZAK{A54}",
    "EZ": "EZTK{A54}",
    "EAA": "EAAM{A110}",
    "FLWSECK_TEST-": "FLWSECK_TEST-{H12}",
    "fo1_": "fo1_{W43}",
    "fm1": "fm1r_{B200}",
    "fm2_": "fm2_{B200}",
    "fio-u-": "fio-u-{W64}",
    "AIza": "AIza{W35}",
    "ghu_": "ghu_{A36}",
    "ghs_": "ghs_{A36}",
    "github_pat_": "github_pat_{A22}_{A59}",
    "gho_": "gho_{A36}",
    "ghp_": "ghp_{A36}",
    "ghr_": "ghr_{A36}",
    "glcbt-": "glcbt-{H2}_{W20}",
    "gldt-": "gldt-{W20}",
    "glffct-": "glffct-{W20}",
    "glft-": "glft-{W20}",
    "glimt-": "glimt-{W25}",
    "glagent-": "glagent-{W50}",
    "gloas-": "gloas-{W64}",
    "glpat-": "glpat-{W20}",
    "glpat-, routable": "glpat-{W27}.{L2}.{L9}",
    "glptt-": "glptt-{H40}",
    "GR1348941": "GR1348941{W20}",
    "glrt-": "glrt-{W20}",
    "glsoat-": "glsoat-{W20}",
    "eyJrIjoi": "eyJrIjoi{A80}==",
    "glc_": "glc_{B60}",
    "glsa_": "glsa_{A32}_{H8}",
    "sat.": "sat.{A22}.{A24}.{A20}",
    "pat.": "pat.{A22}.{A24}.{A20}",
    ".atlasv1.": "{A14}.atlasv1.{W64}",
    "HRKU-": "HRKU-AA{W58}",
    "hf_": "hf_{A34}",
    "api_org_": "api_org_{A34}",
    "ico-": "ico-{A32}",
    "s-s4t2": "s-s4t2ud-{H64}",
    "ey": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{A30}.{W43}",
    "ZXlK": "ZXlK{B120}",
    "lin_api_": "lin_api_{A40}",
    "_mmk": "{A6}_{A29}_mmk",
    "ntn_": "ntn_{D11}{A35}",
    "npm_": "npm_{A36}",
    "API-": "API-{U26}",
    "sk-": "sk-proj-{A20}T3BlbkFJ{A20}",
    "sha256~": "sha256~{W43}",
    "pplx-": "pplx-{A48}",
    "pscale_": "pscale_tkn_{W43}",
    "PMAK-": "PMAK-{H24}-{H34}",
    "pnu_": "pnu_{A36}",
    "pul-": "pul-{H40}",
    "pypi-AgE": "pypi-AgEIcHlwaS5vcmc{W80}",
    "rdme_": "rdme_{L70}",
    "rubygems_": "rubygems_{H48}",
    "tk-us-": "tk-us-{W48}",
    "SG.": "SG.{A22}.{A43}",
    "xkeysib-": "xkeysib-{H64}-{A16}",
    "sntrys_": "sntrys_eyJpYXQiOjE{B90}_{B43}",
    "sntryu_": "sntryu_{H64}",
    "sm_aat_": "sm_aat_{A16}",
    "sm_pat_": "sm_pat_{A16}",
    "sm_sat_": "sm_sat_{A16}",
    "shippo_": "shippo_live_{H40}",
    "shpat_": "shpat_{H32}",
    "shpca_": "shpca_{H32}",
    "shppa_": "shppa_{H32}",
    "shpss_": "shpss_{H32}",
    "xapp-": "xapp-1-{U11}-{D13}-{H64}",
    "xoxb": "xoxb-{D12}-{D12}-{A24}",
    "xoxp": "xoxp-{D12}-{D12}-{D12}-{H32}",
    "xoxe": "xoxe.xoxp-1-{A163}",
    "xoxe-": "xoxe-1-{A147}",
    "sgp_": "sgp_{A16}_{H40}",
    "sq0atp-": "sq0atp-{W22}",
    "sk_": "sk_live_{A24}",
    "rk_": "rk_live_{A24}",
    "SK": "SK{H32}",
    "hvb.": "hvb.{W140}",
    "hvs.": "hvs.{W95}",
    "s.": "s.{A24}",
}
# What names the host as well: the key is gone where the path is.
IN_A_URL = {
    "hooks.slack.com/": ("https://hooks.slack.com/services/T{U8}/B{U8}/{A24}", 24),
    "hooks.slack.com/workflows": ("https://hooks.slack.com/workflows/T{U8}/A{U8}/{D18}/{A24}", 24),
    ".webhook.office.com/": (f"https://acme.webhook.office.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/{{H32}}/{UUID}", 36),
    "api.softlayer.com/": ("https://api.softlayer.com/soap/v3.1/{A64}", 64),
}  # fmt: skip
# detect-secrets' (5e14193) that are not among gitleaks'.
DETECT_SECRETS = {
    "AKC": "AKCp8{A60}",
    "AccountKey=": "AccountKey={B86}==",
    "-us": "{H32}-us12",
    "T3BlbkFJ": "sk-{A20}T3BlbkFJ{A20}",
    "discord": "MT{A22}.{A6}.{A27}",
    "telegram": "{D10}:AA{A33}",
    "ghs_, signed": "ghs_{D6}_eyJhbGciOiJIUzI1NiJ9.eyJpc3Mi{A30}.{A43}",
}
LEFT_OUT = {
    "FLWPUBK_TEST-": ("FLWPUBK_TEST-{H32}-X", "a public key: it is made to be given away"),
    "pk_live_": ("pk_live_{A24}", "a public key"),
    "AP": ("AP{U10}", "two letters and ten more: any word in capitals; found by the name that stands before it"),
    "sgp_, without a prefix": ("{H40}", "of sourcegraph's three forms the one without a prefix is a commit's hash"),
    "_gitlab_session=": ("_gitlab_session", "a cookie's name: found with its value"),
    "BEGIN PRIVATE KEY": ("-----BEGIN PRIVATE KEY-----", "the line that begins a block is nothing without its body"),
}
FOUND = {**GITLEAKS, **DETECT_SECRETS}


def found(text: str) -> list[str]:
    """Give what is taken out of a text."""
    return [text[one.start : one.end] for one in RULES.find(text)]


@pytest.mark.parametrize("prefix", FOUND)
def test_a_key_of_each_prefix_is_found_whole(prefix: str) -> None:
    """In a sentence, at the end of a line, in quotes: all of it and nothing else."""
    made = key(FOUND[prefix])
    value = made.removeprefix("AccountKey=")

    for text in (f"we used {made} for it", f"{made}\nnext line", f'"x": "{made}",'):
        (taken,) = found(text)
        assert taken in {made, value}, text


@pytest.mark.parametrize("prefix", IN_A_URL)
def test_an_address_that_is_a_key_is_found(prefix: str) -> None:
    """What nobody can guess of it is gone."""
    form, last = IN_A_URL[prefix]
    made = key(form)

    assert any(made[-last:] in one for one in found(f"post to {made} please")), made


@pytest.mark.parametrize("prefix", LEFT_OUT)
def test_what_is_left_out_stays(prefix: str) -> None:
    """The reasons stand beside a value that stays."""
    form, why = LEFT_OUT[prefix]

    assert why
    assert found(f"use {key(form)} there") == []


@pytest.mark.parametrize("form", ["_gitlab_session={H32}", 'password = "AP{A32}"'])
def test_what_has_no_shape_is_found_by_its_name(form: str) -> None:
    """A cookie, and Artifactory's password."""
    assert len(found(key(form))) == 1


@pytest.mark.parametrize("prefix", ["ghp_", "sk_live_", "xoxb-", "AKIA", "glpat-", "hf_", "npm_", "SG.", "shpat_"])
def test_a_prefix_alone_stays(prefix: str) -> None:
    """In the documentation of what a key looks like, and with crosses or words behind it."""
    for rest in ("", "...", "x" * 40, "<your-key>", "your-token-goes-here"):
        assert found(f"it begins with {prefix}{rest} always") == []
