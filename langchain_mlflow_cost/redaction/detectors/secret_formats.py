"""The shapes of credentials, as their providers document them: one row each.

Written by hand, since no package has them as data (see `scripts/update_data.py`). To add one: a row here.
"""

# ruff: noqa: E501 - a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import NamedTuple


class Format(NamedTuple):
    """One shape of credential."""

    name: str
    anchor: str
    """What every one of them contains and little else does, in RE2's syntax; all anchors are searched for at once.

    It begins with `\\b` or not at all with what is variable: the first two characters say which rows to try.
    """
    pattern: re.Pattern[str]
    """The whole credential, tried where the anchor is."""
    before: int = 0
    """Letters, digits and `_-~.` in front of the anchor at most, where it is not the prefix."""
    glued: bool = False
    """Also behind a `_`: a token that another one is put together with."""


def _format(name: str, anchor: str, pattern: str, before: int = 0, *, glued: bool = False) -> Format:
    return Format(name, anchor, re.compile(pattern, re.ASCII), before, glued)


def _prefixed(name: str, prefix: str, members: str, fewest: int, most: int) -> Format:
    """Make a row of a prefix and so many characters of a class, a digit and, where words could be, a capital among them."""
    plain = re.escape(prefix).replace("\\-", "-")
    capital = rf"(?={members}{{0,60}}[A-Z])" if members == _W else ""
    body = rf"(?={members}{{0,60}}[0-9]){capital}{members}{{{fewest},{most}}}+"
    return _format(name, rf"\b{plain}", rf"{plain}{body}(?![A-Za-z0-9])")


_W = "[A-Za-z0-9_-]"
_A = "[A-Za-z0-9]"
_H = "[0-9a-f]"
_B = "[A-Za-z0-9+/]"

_ROWS: tuple[Format, ...] = (
    # Models and their tools
    _format("openai", r"\bsk-", rf"sk-(?=[A-Za-z_-]{{0,60}}[0-9]){_W}{{20,250}}+"),
    _format("openai, inside", "T3BlbkFJ", rf"{_W}{{16,150}}T3BlbkFJ{_W}{{16,150}}", 150),
    _format("google api", r"\bAIza[A-Za-z0-9_-]{20}", rf"AIza{_W}{{35}}"),
    _format("google api, new", r"\bAQ\.Ab8", rf"AQ\.Ab8{_W}{{40,80}}"),
    _format("groq", r"\bgsk_", rf"gsk_{_A}{{20,100}}"),
    _format("xai", r"\bxai-", rf"xai-{_W}{{40,120}}"),
    _format("perplexity", r"\bpplx-", rf"pplx-{_A}{{40,60}}"),
    _format("hugging face", r"\bhf_", rf"hf_{_A}{{34,40}}(?![A-Za-z0-9_-])"),
    _format("hugging face organisation", r"\bapi_org_", rf"api_org_{_A}{{34,40}}(?![A-Za-z0-9_-])"),
    _format("replicate", r"\br8_[A-Za-z0-9]{20}", rf"r8_{_A}{{30,45}}"),
    _format("together", r"\btgp_v1_", rf"tgp_v1_{_W}{{30,60}}"),
    _format("fireworks", r"\bfw_[A-Za-z0-9]{20}", rf"fw_{_A}{{20,40}}(?![_-])"),
    _format("nvidia", r"\bnvapi-", rf"nvapi-{_W}{{40,90}}"),
    _format("langsmith", r"\blsv2_", rf"lsv2_(?:pt|sk)_{_H}{{32}}_{_H}{{10}}"),
    _format("langsmith, old", r"\bls__[0-9a-f]{8}", rf"ls__{_H}{{32}}"),
    _format("langfuse, openrouter and the like", r"\bpk-lf-", rf"pk-lf-{_W}{{20,60}}"),
    _format("weights and biases", r"\bwandb_v1_", rf"wandb_v1_{_W}{{40,120}}"),
    _format("tavily", r"\btvly-", rf"tvly-{_W}{{20,60}}"),
    _format("pinecone", r"\bpcsk_", rf"pcsk_{_W}{{40,90}}"),
    _format("jina", r"\bjina_", rf"jina_{_A}{{40,80}}"),
    _format("firecrawl", r"\bfc-[0-9a-f]{8}", rf"fc-{_H}{{32}}"),
    _format("cerebras", r"\bcsk-", rf"csk-{_A}{{40,60}}"),
    _format("voyage", r"\bpa-[A-Za-z0-9_-]{40}", rf"pa-{_W}{{40,50}}"),
    # Clouds
    _format("aws, old", r"\bA3T[A-Z0-9]{9}", r"A3T[A-Z0-9]{17}(?![A-Za-z0-9])"),
    _format("aws access key", r"\bAKIA[A-Z0-9]{8}", r"AKIA[A-Z0-9]{16}"),
    _format("aws temporary key", r"\bASIA[A-Z0-9]{8}", r"ASIA[A-Z0-9]{16}"),
    _format("aws, other keys", r"\bABIA[A-Z0-9]{8}", r"ABIA[A-Z0-9]{16}"),
    _format("aws, other keys", r"\bACCA[A-Z0-9]{8}", r"ACCA[A-Z0-9]{16}"),
    _format("aws bedrock, long", r"\bABSK[A-Za-z0-9+/]{40}", rf"ABSK{_B}{{109,269}}={{0,2}}"),
    _format(
        "aws bedrock, short", r"\bbedrock-api-key-", rf"bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t{_B}*+={{0,2}}"
    ),
    _format("alibaba", r"\bLTAI[A-Za-z0-9]{12}", rf"LTAI{_A}{{12,30}}"),
    _format("google oauth token", r"\bya29\.", r"ya29\.[A-Za-z0-9_.-]{20,400}+"),
    _format("google oauth secret", r"\bGOCSPX-", rf"GOCSPX-{_W}{{20,40}}"),
    _format("google refresh token", r"\b1//0", rf"1//0{_W}{{30,120}}"),
    _format(
        "azure client secret", r"[0-9]Q~", r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])", 3
    ),
    _format("azure storage", r"\bAccountKey=", rf"AccountKey={_B}{{60,100}}={{0,2}}"),
    _format("azure shared access key", r"\bSharedAccessKey=", rf"SharedAccessKey={_B}{{30,100}}={{0,2}}"),
    _format("azure signature", r"\bsig=", r"sig=[A-Za-z0-9%/+]{40,100}(?:%3D|=)"),
    _format("digitalocean", r"\bdop_v1_", rf"dop_v1_{_H}{{64}}"),
    _format("digitalocean oauth", r"\bdoo_v1_", rf"doo_v1_{_H}{{64}}"),
    _format("digitalocean refresh", r"\bdor_v1_", rf"dor_v1_{_H}{{64}}"),
    _format("heroku", r"\bHRKU-", rf"HRKU-{_W}{{36,70}}"),
    _format("fly.io", r"\bfo1_", rf"fo1_{_W}{{43}}"),
    _format(
        "fly.io macaroon",
        r"\bfm1[ar]_",
        rf"fm1[ar]_{_B}{{60,1200}}+={{0,3}}(?:,fm[12][ar]?_{_B}{{60,1200}}+={{0,3}}){{0,5}}",
    ),
    _format(
        "fly.io macaroon 2", r"\bfm2_", rf"fm2_{_B}{{60,1200}}+={{0,3}}(?:,fm[12][ar]?_{_B}{{60,1200}}+={{0,3}}){{0,5}}"
    ),
    _format("cloudflare origin", r"\bv1\.0-", rf"v1\.0-{_H}{{24}}-{_H}{{146}}"),
    _format("netlify", r"\bnfp_", rf"nfp_{_A}{{30,60}}"),
    _format("vercel", r"\bvcp_", rf"vcp_{_A}{{24,80}}"),
    _format("supabase", r"\bsbp_", rf"sbp_{_A}{{40}}"),
    _format("supabase secret", r"\bsb_secret_", rf"sb_secret_{_W}{{20,60}}"),
    _format("planetscale", r"\bpscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{30,70}"),
    _format("databricks", r"\bdapi[0-9a-f]{8}", rf"dapi{_H}{{32}}(?:-[0-9])?(?![A-Za-z0-9])"),
    _format("clickhouse", r"\b4b1d[A-Za-z0-9]{16}", rf"4b1d{_A}{{38}}"),
    _format("scalingo", r"\btk-us-", rf"tk-us-{_W}{{40,60}}"),
    _format("pulumi", r"\bpul-", rf"pul-{_H}{{40}}"),
    _format("terraform cloud", r"\.atlasv1\.", rf"{_A}{{14}}\.atlasv1\.{_W}{{60,70}}", 14),
    _format("infracost", r"\bico-", rf"ico-(?=[a-f0-9]*[A-Zg-z]){_A}{{32}}(?![A-Za-z0-9])"),
    _format("openshift", r"\bsha256~", rf"sha256~{_W}{{43}}"),
    _format("tailscale", r"\btskey-", rf"tskey-[a-z]{{3,10}}-{_A}{{8,30}}-{_A}{{16,60}}"),
    _format(
        "doppler", r"\bdp\.[a-z]{2,5}\.", rf"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{{2,35}}\.)?{_A}{{40,44}}"
    ),
    # Vaults and identity
    _format("vault service", r"\bhvs\.", rf"hvs\.{_W}{{24,200}}"),
    _format("vault batch", r"\bhvb\.", rf"hvb\.{_W}{{80,400}}"),
    _format("vault recovery", r"\bhvr\.", rf"hvr\.{_W}{{24,200}}"),
    _format("vault, old", r"\bs\.[A-Za-z0-9]{24}", rf"s\.(?=[A-Za-z]*[0-9]){_A}{{24}}(?![A-Za-z0-9.])"),
    _format("1password service account", r"\bops_", rf"ops_eyJ{_B}{{100,2000}}+={{0,3}}"),
    _format(
        "1password secret key",
        r"\bA3-",
        r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}",
    ),
    _format("age", r"\bAGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    # Four segments more make it an encrypted token; an unsigned one has an empty last segment.
    _format(
        "json web token",
        "eyJ[A-Za-z0-9_-]{8}",
        r"eyJ[A-Za-z0-9_-]{8,}+={0,2}\.(?:ey|e30)[A-Za-z0-9_-]{2,}+={0,2}(?:\.[A-Za-z0-9_-]*+){0,1}|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
        # Flask's and Django's cookies: signed, with a time instead of a second object.
        r"|eyJ[A-Za-z0-9_-]{8,}+[.:][A-Za-z0-9_-]{5,8}[.:][A-Za-z0-9_-]{27,}+",
        glued=True,
    ),
    _format("json web token, padded twice", r"\bZXlK[A-Za-z0-9+/]{20}", r"ZXlK[A-Za-z0-9+/]{100,4000}+={0,2}"),
    # Code and packages
    _format("github", r"\bghp_", rf"ghp_{_A}{{30,255}}"),
    _format("github oauth", r"\bgho_", rf"gho_{_A}{{30,255}}"),
    _format("github user", r"\bghu_", rf"ghu_{_A}{{30,255}}"),
    # Since 2026 with a JSON web token inside: ghs_<app>_<token>, dots included.
    _format("github server, signed", r"\bghs_", rf"ghs_(?:[0-9]{{1,20}}_)?eyJ{_W}{{8,}}+\.{_W}{{2,}}+(?:\.{_W}*+)?"),
    _format("github server", r"\bghs_", rf"ghs_{_A}{{30,255}}"),
    _format("github refresh", r"\bghr_", rf"ghr_{_A}{{30,255}}"),
    _format("github fine-grained", r"\bgithub_pat_", r"github_pat_[A-Za-z0-9_]{40,255}"),
    _format(
        "gitlab",
        r"\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-",
        r"gl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-[A-Za-z0-9_=.-]{18,120}",
    ),
    _format("gitlab runner", r"\bGR1348941", rf"GR1348941{_W}{{20,60}}"),
    _format("atlassian", r"\bATATT3", r"ATATT3[A-Za-z0-9_=-]{100,300}"),
    _format("bitbucket", r"\bATBB[A-Za-z0-9]{24}", rf"ATBB{_A}{{24,40}}"),
    _format("npm", r"\bnpm_", rf"npm_{_A}{{36}}"),
    _format("pypi", r"\bpypi-AgE", rf"pypi-AgE{_W}{{50,1000}}"),
    _format("rubygems", r"\brubygems_", rf"rubygems_{_H}{{48}}"),
    _format("cargo", r"\bcio[A-Za-z0-9]{32}", rf"cio{_A}{{32}}(?![A-Za-z0-9])"),
    _format("docker hub", r"\bdckr_pat_", rf"dckr_pat_{_W}{{20,60}}"),
    _format("docker hub organisation", r"\bdckr_oat_", rf"dckr_oat_{_W}{{20,60}}"),
    _format("circleci", r"\bCCIPAT_", rf"CCIPAT_{_A}{{10,40}}_{_H}{{40}}"),
    _format("buildkite", r"\bbkua_", rf"bkua_{_H}{{40}}"),
    _format("sourcegraph", r"\bsgp_", rf"sgp_(?:(?:local|{_A}{{16}})_)?[A-Fa-f0-9]{{40}}"),
    _format("octopus", r"\bAPI-[A-Z0-9]{26}", r"API-[A-Z0-9]{26}(?![A-Za-z0-9])"),
    _format("postman", r"\bPMAK-", rf"PMAK-{_H}{{24}}-{_H}{{34}}"),
    _format("readme", r"\brdme_", rf"rdme_{_A}{{70}}"),
    _format("figma", r"\bfigd_", rf"figd_{_W}{{36,60}}"),
    _format("contentful", r"\bCFPAT-", rf"CFPAT-{_W}{{40,60}}"),
    _format("sonar", r"\bsq[pua]_", rf"sq[pua]_{_H}{{40}}"),
    # Talk, mail, work
    _format(
        "slack",
        r"\bxox[abposre][-.]",
        r"xox[abposre](?:\.xox[bp])?-(?:[0-9]{1,2}-)?(?=[A-Za-z-]{0,60}[0-9])[A-Za-z0-9-]{18,250}+",
    ),
    _format("slack app", r"\bxapp-", rf"xapp-[0-9]-[A-Z0-9]{{6,20}}-[0-9]{{6,20}}-{_A}{{30,80}}"),
    _format(
        "slack webhook",
        r"hooks\.slack\.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{30,80}",
    ),
    _format("discord webhook", "/api/webhooks/", r"/api/webhooks/[0-9]{15,22}/[A-Za-z0-9_-]{50,90}"),
    _format("teams webhook", r"\.webhook\.office\.com/", r"\.webhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{60,200}"),
    _format("telegram", r"[0-9]:AA", rf"[0-9]{{8,10}}:AA{_W}{{33}}(?!{_W})", 9),
    _format("sendgrid", r"\bSG\.", rf"SG\.{_W}{{16,32}}\.{_W}{{16,64}}"),
    _format("sendinblue", r"\bxkeysib-", rf"xkeysib-{_H}{{64}}-{_A}{{16}}"),
    _format("mailgun", r"\bkey-[0-9a-f]{8}", rf"key-{_H}{{32}}"),
    _format("mailchimp", r"[0-9a-f]-us[0-9]", rf"{_H}{{32}}-us[0-9]{{1,2}}(?![0-9])", 31),
    _format("resend", r"\bre_[A-Za-z0-9]{8}_", rf"re_{_A}{{8}}_{_A}{{20,30}}"),
    _format("twilio", r"\bSK[0-9a-f]{6}", rf"SK{_H}{{32}}(?![0-9A-Za-z])"),
    _format("notion", r"\bntn_", rf"ntn_{_A}{{40,60}}"),
    _format("notion, old", r"\bsecret_[A-Za-z0-9]{20}", rf"secret_{_A}{{43}}(?![A-Za-z0-9])"),
    _format("linear", r"\blin_(?:api|oauth)_", rf"lin_(?:api|oauth)_{_A}{{30,60}}"),
    _format("airtable", r"\bpat[A-Za-z0-9]{14}\.", rf"pat{_A}{{14}}\.{_H}{{64}}"),
    _format("asana", r"\b0/[0-9a-f]{8}", rf"0/{_H}{{32}}(?![0-9A-Za-z])"),
    _format("typeform", r"\btfp_", r"tfp_[A-Za-z0-9_.=-]{40,60}"),
    _format("dropbox", r"\bsl\.[A-Za-z0-9_.-]{40}", rf"sl\.(?:u\.)?{_W}{{100,1500}}+"),
    _format("hubspot", r"\bpat-(?:na|eu)[0-9]-", rf"pat-(?:na|eu)[0-9]-{_H}{{8}}-(?:{_H}{{4}}-){{3}}{_H}{{12}}"),
    _format("zapier and others", r"\bwhsec_", r"whsec_[A-Za-z0-9+/=]{24,80}"),
    _format("intra 42", r"\bs-s4t2", rf"s-s4t2(?:ud|af)-{_H}{{64}}"),
    # Money
    _format("stripe", r"\bsk_", rf"sk_(?:live|test|prod)_{_A}{{10,250}}+"),
    _format("stripe restricted", r"\brk_", rf"rk_(?:live|test|prod)_{_A}{{10,250}}+"),
    _format("square", r"\bsq0", rf"sq0(?:atp|csp|idp)-{_W}{{20,60}}"),
    _format(
        "square access, facebook",
        r"\bEAA[A-Za-z0-9_-]{40}",
        rf"EAA(?=[A-Za-z0-9_-]{{0,40}}[0-9])(?:{_W}{{61}}(?!{_W})|{_A}{{90,400}}+)",
    ),
    _format("shopify", r"\bshp(?:at|ca|pa|ss)_", r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    _format("flutterwave", r"\bFLWSECK", rf"FLWSECK(?:_TEST)?-(?:{_A}{{32}}-X|{_H}{{12}}(?!{_A}))"),
    _format("shippo", r"\bshippo_", rf"shippo_(?:live|test)_{_H}{{40}}"),
    _format("duffel", r"\bduffel_", rf"duffel_(?:live|test)_{_W}{{40,50}}"),
    _format("easypost", r"\bEZ[AT]K", rf"EZ[AT]K{_A}{{54}}"),
    _format("paypal, braintree", r"\baccess_token\$", rf"access_token\$(?:production|sandbox)\${_A}{{16}}\${_H}{{32}}"),
    _format(
        "plaid",
        r"\baccess-(?:sandbox|development|production)-",
        rf"access-(?:sandbox|development|production)-{_H}{{8}}-(?:{_H}{{4}}-){{3}}{_H}{{12}}",
    ),
    # Watching
    _format("new relic", r"\bNRAK-", r"NRAK-[A-Z0-9]{27}"),
    _format("new relic, other", r"\bNR(?:II|RA|JS|BR|SP)-", rf"NR(?:II|RA|JS|BR|SP)-{_W}{{19,40}}"),
    _format("grafana cloud", r"\bglc_", r"glc_(?=[A-Za-z0-9+/]*[0-9])[A-Za-z0-9+/~^]{32,400}={0,3}"),
    _format("grafana service account", r"\bglsa_", rf"glsa_{_A}{{32}}_{_H}{{8}}"),
    _format("sentry", r"\bsntrys_", rf"sntrys_{_B}{{40,400}}+={{0,2}}(?:_{_B}{{30,60}})?"),
    _format("sentry user", r"\bsntryu_", rf"sntryu_{_H}{{64}}"),
    _format("dynatrace", r"\bdt0c01\.", r"dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _format("posthog", r"\bphx_", rf"phx_{_A}{{40,60}}"),
    _format("launchdarkly", r"\bapi-[0-9a-f]{8}-", rf"api-{_H}{{8}}-(?:{_H}{{4}}-){{3}}{_H}{{12}}"),
    _format("maxmind", r"_mmk\b", rf"{_A}{{6}}_{_A}{{29}}_mmk(?![A-Za-z0-9])", 36),
    _format("facebook app", r"[0-9]{6}\|[A-Za-z0-9_-]{8}", rf"[0-9]{{15,16}}\|{_W}{{27}}(?!{_W})", 10),
    _format("discord", r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}", rf"[A-Z]{_W}{{23,25}}\.{_W}{{6}}\.{_W}{{27,38}}", 26),
)

_UUID = f"{_H}{{8}}-(?:{_H}{{4}}-){{3}}{_H}{{12}}"

# What is told by its form alone, without a prefix that is a word of its own.
_FORMS = (
    # https://learn.microsoft.com/azure: keys that say what they are, and since when.
    _format("azure, identifiable", "JQQJ99[A-Z0-9]{2}", r"[A-Za-z0-9]{40,70}JQQJ99[A-Z0-9]{2}[A-Za-z0-9]{18,38}", 70),
    _format("azure search", "AzSe[A-D]", r"[A-Za-z0-9]{42}AzSe[A-D][A-Za-z0-9]{5}(?![A-Za-z0-9])", 42),
    _format(
        "mailgun, private", "[0-9a-f]-[0-9a-f]{8}-[0-9a-f]{8}", rf"{_H}{{32}}-{_H}{{8}}-{_H}{{8}}(?![0-9A-Za-z-])", 31
    ),
    _format(
        "zhipu", r"[0-9a-f]{8}\.[A-Za-z0-9]{16}\b", rf"{_H}{{32}}\.(?=[A-Za-z]*[0-9]){_A}{{16}}(?![A-Za-z0-9.])", 24
    ),
    _format("bitwarden", r"\b0\.[0-9a-f]{8}-", rf"0\.{_UUID}\.{_A}{{30}}:{_B}{{20,30}}={{0,2}}"),
    _format("launchdarkly sdk", rf"\bsdk-{_H}{{8}}-", rf"sdk-{_UUID}"),
    _format("axiom", rf"\bxa[ap]t-{_H}{{8}}-", rf"xa[ap]t-{_UUID}"),
    _format("fal", r"-[0-9a-f]{12}:[0-9a-f]{32}\b", rf"{_UUID}:{_H}{{32}}", 23),
    _format("rapidapi", "[0-9a-f]msh[0-9a-f]{8}", rf"{_H}{{10}}msh{_H}{{15}}p1{_H}{{5}}jsn{_H}{{12}}", 9),
    _format("paseto", r"\bv[1-4]\.local\.", rf"v[1-4]\.local\.{_W}{{60,4000}}+(?:\.{_W}{{1,400}}+)?"),
    _format("paseto, signed", r"\bv[1-4]\.public\.", rf"v[1-4]\.public\.{_W}{{60,4000}}+(?:\.{_W}{{1,400}}+)?"),
    _format("harness", r"\b[ps]at\.[A-Za-z0-9_-]{22}\.", rf"[ps]at\.{_W}{{22}}\.{_A}{{24}}\.{_A}{{20}}"),
    _format("snyk", r"\bsnyk_[us]at\.", rf"snyk_[us]at\.{_H}{{8}}\.{_W}{{60,120}}"),
    _format("mapbox, secret", r"\bsk\.eyJ", rf"sk\.eyJ{_W}{{20,300}}\.{_W}{{10,60}}"),
    _format(
        "authress",
        r"\b(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-]",
        r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}",
    ),
    _format("salesforce session", r"\b00D[A-Za-z0-9]{12,15}!", rf"00D{_A}{{12,15}}![A-Za-z0-9._]{{60,150}}"),
    _format("twitter bearer", r"\bA{19}", r"A{19,24}[A-Za-z0-9%]{70,120}+"),
    _format("artifactory", r"\bAKCp", rf"AKCp{_A}{{60,80}}"),
    _format("artifactory reference", r"\bcmVmdGtu", rf"cmVmdGtu{_A}{{50,62}}(?![A-Za-z0-9])"),
    _format("intercom", r"\bdG9r[A-Za-z0-9+/]{40}", rf"dG9r{_B}{{50,60}}={{0,2}}(?![A-Za-z0-9+/])"),
    _format("adyen", r"\bAQE[A-Za-z0-9+/]{40}", rf"AQE{_B}{{70,130}}(?:-{_B}{{30,50}}={{0,2}}-{_A}{{10,20}})?"),
    _format("brave", r"\bBSA[A-Za-z0-9_-]{20}", rf"BSA(?={_W}{{0,27}}[0-9])(?={_W}{{0,27}}[a-z]){_W}{{27,29}}(?!{_W})"),
    _format("grafana, old", r"\beyJrIjoi", rf"eyJrIjoi{_A}{{70,400}}={{0,3}}"),
    _format("softlayer", r"\bapi\.softlayer\.com/", r"api\.softlayer\.com/soap/v3(?:\.1)?/[A-Za-z0-9]{64}"),
    _format("trello", r"\bATTA[0-9a-f]{8}", rf"ATTA{_H}{{64}}[0-9A-F]{{8}}"),
    _format("klaviyo, clickup", r"\bpk_[0-9a-f]{5}", rf"pk_(?:{_H}{{34}}|[0-9]{{5,10}}_[A-Z0-9]{{32}})(?![A-Za-z0-9])"),
    _format("google authorisation code", r"\b4/0A", rf"4/0A{_W}{{28,90}}"),
    _format("portkey", r"\bpk-[A-Za-z0-9+/]{28}", rf"pk-(?=[A-Za-z+/]*[0-9]){_B}{{28}}(?![A-Za-z0-9_-])"),
    _format("retell, runway", r"\bkey_[0-9a-f]{28}", rf"key_(?:{_H}{{128}}|{_H}{{28}})(?![0-9A-Za-z])"),
    _format("baidu", r"\bbce-v3/ALTAK-", rf"bce-v3/ALTAK-{_A}{{10,30}}/{_H}{{40}}"),
    _format(
        "convex",
        r"\b(?:prod|dev|preview):[a-z]+-[a-z]+-[0-9]{1,4}\|",
        rf"(?:prod|dev|preview):[a-z]+-[a-z]+-[0-9]{{1,4}}\|{_B}{{40,200}}={{0,2}}",
    ),
    # Hashes of passwords: crypt(3), Apache, Django, passlib, Argon2.
    _format(
        "password hash",
        r"\$(?:2[abxy]|apr1|[156y]|gy|7)\$",
        r"\$(?:2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}|(?:apr1|[156])\$(?:rounds=[0-9]{1,9}\$)?[./A-Za-z0-9_-]{1,16}\$[./A-Za-z0-9]{20,86}|(?:y|gy|7)\$[./A-Za-z0-9]{3,20}\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43})",
    ),
    _format(
        "password hash, argon",
        r"\$(?:argon2|scrypt|pbkdf2|bcrypt)",
        r"\$(?:argon2(?:id?|d)|scrypt|pbkdf2(?:-sha[0-9]{1,3})?|bcrypt-sha256)\$[A-Za-z0-9+/.,=$-]{40,300}+",
    ),
    _format(
        "password hash, scram",
        r"\bSCRAM-SHA-256\$",
        rf"SCRAM-SHA-256\$[0-9]{{3,7}}:{_B}{{16,60}}={{0,2}}\${_B}{{40,60}}={{0,2}}:{_B}{{40,60}}={{0,2}}",
    ),
    _format(
        "password hash, ldap",
        r"\{(?:SSHA|SHA|SMD5|MD5)",
        rf"\{{S?(?:SHA(?:224|256|384|512)?|MD5)\}}{_B}{{20,140}}={{0,2}}",
    ),
    _format(
        "password hash, django",
        r"\bpbkdf2_sha(?:1|256)\$",
        rf"pbkdf2_sha(?:1|256)\$[0-9]{{3,8}}\${_A}{{6,40}}\${_B}{{27,44}}={{0,2}}",
    ),
)

# Name, prefix, characters, fewest, most. Sources: the providers' documentation of their keys, GitHub's list of secret
# scanning patterns, gitleaks' and detect-secrets' rules.
_PREFIXES = (
    # Models and their tools
    ("openai session", "sess-", _A, 38, 60),
    ("eleven labs", "sk_", _A, 32, 120),
    ("novita and the like", "sk_", _W, 32, 120),
    ("exa", "exa_", _A, 24, 60),
    ("e2b", "e2b_", _H, 40, 60),
    ("modal", "ak-", _A, 22, 24),
    ("modal secret", "as-", _A, 22, 24),
    ("composio", "ak_", _A, 18, 60),
    ("mem0", "m0-", _W, 36, 60),
    ("zep", "z_", "[A-Za-z0-9_.-]", 60, 400),
    ("logfire", "pylf_", _W, 30, 80),
    ("phoenix", "px_live_", _A, 24, 60),
    ("friendli", "flp_", _A, 30, 80),
    ("nomic", "nk-", _W, 36, 60),
    ("turbopuffer", "tpuf_", _A, 24, 60),
    ("chroma", "ck-", _A, 36, 60),
    ("llama cloud", "llx-", _A, 40, 60),
    ("runpod", "rpa_", _A, 36, 60),
    ("apify", "apify_api_", _A, 30, 50),
    ("browserbase", "bb_live_", _W, 20, 60),
    ("anyscale", "esecret_", _A, 20, 60),
    ("anyscale, other", "aph0_", _W, 30, 120),
    ("helicone", "pk-helicone-", _W, 20, 60),
    ("n8n", "n8n_api_", "[A-Za-z0-9_.-]", 40, 400),
    ("kaggle", "KGAT_", _A, 28, 60),
    ("langfuse, other", "sk-lf-", _W, 20, 60),
    ("luma", "luma-", _W, 60, 140),
    ("vercel gateway", "vck_", _A, 24, 80),
    ("smithery, tracer and the like", "tr_dev_", _A, 16, 40),
    ("trigger.dev", "tr_prod_", _A, 16, 40),
    ("inngest", "signkey-prod-", _H, 32, 80),
    # Clouds and data
    ("cloudflare user token", "cfut_", _A, 40, 60),
    ("cloudflare account token", "cfat_", _A, 40, 60),
    ("cloudflare key", "cfk_", _A, 40, 60),
    ("neon", "napi_", _A, 40, 80),
    ("render", "rnd_", _A, 24, 48),
    ("netlify", "nfc_", _A, 30, 60),
    ("vercel, other", "vci_", _A, 24, 80),
    ("vercel app", "vca_", _A, 24, 80),
    ("xata", "xau_", _A, 30, 60),
    ("cockroach", "CCDB1_", _A, 20, 80),
    ("mongodb service account", "mdb_sa_sk_", _W, 36, 60),
    ("aiven", "AVNS_", _W, 17, 24),
    ("databricks, other", "dose", _H, 32, 32),
    ("deno deploy", "ddp_", _A, 36, 40),
    ("deno deploy organisation", "ddo_", _A, 36, 40),
    ("dbt", "dbtc_", _W, 36, 60),
    ("dbt user", "dbtu_", _W, 36, 60),
    ("prefect", "pnu_", _A, 36, 36),
    ("prefect service", "pnb_", _A, 36, 36),
    ("tencent", "AKID", _A, 32, 36),
    ("yandex", "AQVN", _W, 34, 40),
    ("yandex oauth", "y0_", _W, 40, 70),
    ("settlemint", "sm_aat_", _A, 16, 32),
    ("settlemint personal", "sm_pat_", _A, 16, 32),
    ("settlemint service", "sm_sat_", _A, 16, 32),
    # Code and packages
    ("atlassian, other", "ATCTT3", "[A-Za-z0-9_=-]", 100, 300),
    ("buildkite agent", "bkt_", _A, 36, 60),
    ("buildkite job", "bkaj_", _A, 30, 60),
    ("circleci project", "CCIPRJ_", _W, 40, 90),
    ("clojars", "CLOJARS_", _A, 60, 60),
    ("nuget", "oy2", "[a-z0-9]", 43, 43),
    ("segment", "sgp_", _A, 60, 68),
    ("socket", "sktsec_", _W, 36, 60),
    ("sentry integration", "sntryi_", _H, 64, 64),
    ("statsig", "secret-", _A, 40, 60),
    ("dynatrace", "dt0s01.", "[A-Z0-9.]", 60, 100),
    ("honeycomb", "hcaik_", _A, 50, 64),
    ("honeycomb ingest", "hcxik_", _A, 50, 64),
    ("posthog", "phs_", _A, 40, 60),
    ("rootly", "rootly_", _H, 60, 70),
    # Talk, mail, work, money
    ("brevo smtp", "xsmtpsib-", "[A-Za-z0-9-]", 70, 90),
    ("stytch", "secret-live-", _W, 30, 50),
    ("pinterest", "pina_", _A, 60, 120),
    ("linkedin", "WPL_AP1.", "[A-Za-z0-9.=]", 16, 60),
    ("adobe", "p8e-", _A, 32, 32),
    ("frame.io", "fio-u-", "[A-Za-z0-9_=-]", 64, 64),
    ("brex", "bxt_", _A, 36, 60),
    ("razorpay", "rzp_live_", _A, 14, 24),
    ("razorpay test", "rzp_test_", _A, 14, 24),
    ("mercury", "secret-token:mercury_", "[A-Za-z0-9_.-]", 20, 100),
    ("retool", "retool_", _W, 24, 60),
    ("val town", "vtwn_", _A, 20, 60),
)

FORMATS: tuple[Format, ...] = (*_ROWS, *_FORMS, *(_prefixed(*row) for row in _PREFIXES))

KEY_STARTS = "|".join(sorted({one.anchor.removeprefix(r"\b") for one in FORMATS if one.anchor.startswith(r"\b")}))
"""In RE2's syntax: what begins a word that may be one of them, in the order of the alphabet, which makes fewer states."""

FIRST_TWO = frozenset(one.encode() for one in re.findall(r"(?:^|\|)([A-Za-z0-9]{2})", KEY_STARTS))
"""The first two letters of those that begin with letters and digits of their own."""

# What no row knows: a short prefix and 24 or more letters and digits that nobody would think of.
PREFIXED = "[a-z0-9][_-][A-Za-z0-9]{24}"

INNER = "|".join((*(one.anchor for one in FORMATS if not one.anchor.startswith(r"\b")), PREFIXED))
"""Likewise, what is not at the beginning of a word."""
