"""The literal prefixes of other scanners' rules against ours, and what is left out, and why."""

from __future__ import annotations

import pytest

from langchain_mlflow_cost.redaction import SECRET, compile_rules
from langchain_mlflow_cost.redaction.detectors.secret_formats import FORMATS

# gitleaks' rules (2026-07-22, b58d3f1) that begin with a literal, and detect-secrets' (5e14193).
GITLEAKS = (
    "A3-", "ops_eyJ", "p8e-", "AGE-SECRET-KEY-1", "pat", "LTAI", "sk-ant-admin01-", "sk-ant-api03-", "AKCp", "cmVmd", "sc_", "ext_", "scauth_", "authress_", "A3T", "AKIA", "ASIA",
    "ABIA", "ACCA", "ABSK", "bedrock-api-key-", "Q~", "4b1d", "CLOJARS_", "v1.0-", "dapi", "doo_v1_", "dop_v1_", "dor_v1_", "dp.pt.", "duffel_", "dt0c01.", "EZAK", "EZ", "EAA",
    "FLWSECK_TEST-", "FLWPUBK_TEST-", "fo1_", "fm1", "fm2_", "fio-u-", "AIza", "ghu_", "ghs_", "github_pat_", "gho_", "ghp_", "ghr_", "glcbt-", "gldt-", "glffct-", "glft-", "glimt-",
    "glagent-", "gloas-", "glpat-", "glptt-", "GR1348941", "glrt-", "glsoat-", "_gitlab_session=", "eyJrIjoi", "glc_", "glsa_", "sat.", ".atlasv1.", "HRKU-", "hf_", "api_org_",
    "ico-", "s-s4t2", "ey", "ZXlK", "lin_api_", "_mmk", ".webhook.office.com/", "ntn_", "npm_", "API-", "sk-", "sha256~", "pplx-", "pscale_", "PMAK-", "pnu_", "pul-", "pypi-AgE",
    "rdme_", "rubygems_", "tk-us-", "SG.", "xkeysib-", "sntrys_", "sntryu_", "sm_aat_", "sm_pat_", "sm_sat_", "shippo_", "shpat_", "shpca_", "shppa_", "shpss_", "xapp-", "xox",
    "hooks.slack.com/", "sgp_", "sq0atp-", "sk_", "rk_", "SK", "hvb.", "hvs.", "s.",
)  # fmt: skip
DETECT_SECRETS = (
    "AKC",
    "AP",
    "AccountKey=",
    "-us",
    "T3BlbkFJ",
    "pypi-AgE",
    "SG.",
    "xox",
    "hooks.slack.com/",
    "api.softlayer.com/",
    "ghp_",
    "glpat-",
    "eyJ",
    "BEGIN PRIVATE KEY",
)
LEFT_OUT = {
    "FLWPUBK_TEST-": "a public key: it is made to be given away",
    "_gitlab_session=": "a cookie: found by its name",
    "AP": "two letters and ten more: any word in capitals; Artifactory's passwords are found by their names",
    "BEGIN PRIVATE KEY": "a block of its own rule, with its body",
    "sgp_": "of sourcegraph's three forms, the one without a prefix is a commit's hash",
}


PLAIN = " ".join(f"{one.anchor} {one.pattern.pattern}" for one in FORMATS).replace("\\", "")


def anchored(prefix: str) -> bool:
    """Say whether a prefix stands in one of our rows, or its family does: `sk-` for `sk-ant-api03-`, `gl` and the letters behind."""
    parts = (prefix, prefix.rstrip("-_."), prefix[2:].rstrip("-_."), prefix[:3])
    return any(len(one) > 1 and one in PLAIN for one in parts)


@pytest.mark.parametrize("prefix", sorted({*GITLEAKS, *DETECT_SECRETS} - set(LEFT_OUT)))
def test_prefix_is_known(prefix: str) -> None:
    """Each literal by which another scanner knows a key is one of ours."""
    assert anchored(prefix)


def test_what_is_left_out_is_really_left_out() -> None:
    """The reasons stand beside names that the others do have."""
    assert set(LEFT_OUT) <= {*GITLEAKS, *DETECT_SECRETS}
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize(
    "text", ["use FLWPUBK_TEST-0123456789abcdef0123456789abcdef-X", "pk_live_4eC39HqLyjWDarjtT1zdp7dc"]
)
def test_public_keys_stay(text: str) -> None:
    """What is made to be given away is no secret."""
    assert compile_rules(entities=[SECRET]).find(text) == []
