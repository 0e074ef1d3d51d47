"""What the name of a value says of it, and whether the value is one: a secret, not a placeholder, a path or a word."""

# ruff: noqa: PLR2004, E501, PLR0911 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import functools
import math
import re
import string
import unicodedata
from collections import Counter
from typing import NamedTuple

from langchain_mlflow_cost.redaction.re2_search import byte_pattern, is_in, spans, text_pattern


class Kind(NamedTuple):
    """How much the name of a value says."""

    strength: int
    """3: a password; 2: a key or token; 1: a word that is also used for other things; 0: where something is."""


PASSWORD, KEY, MAYBE, PLACE = Kind(3), Kind(2), Kind(1), Kind(0)
# A word that is a password's and many another thing's: only what nobody takes for a word goes.
WEAK = Kind(1)

# Words for "password" in letters that ASCII has, or nearly: a `?` is a letter that it has not.
LATIN_PASSWORDS = (
    "password|passwd|passphrase|passwort|passcode|passord|wachtwoord|contrase[nñ?]a|kennwort|senha|salasana|l[oö?]senord|"
    "has[lł?]o|heslo|[sş?]ifre|jelsz[oó?]|parol[aăã?]?|lozinka|adgangskode|kodeord|slaptazodis|parool|geslo|"
    "mot[ _]?de[ _]?passe|kata[ _]?sandi|mi[ _]?clave|tu[ _]?clave|su[ _]?clave|clave[ _]?de[ _]?acceso|clave[ _]?secreta|m[aậ?]t[ _]?kh[aẩ?]u"
)
# In other scripts, and glued to what stands around them.
OTHER_PASSWORDS = (
    "пароль|пароля|паролем|парола|лозинка|密码|密碼|口令|暗码|パスワード|パスフレーズ|暗証番号|비밀번호|패스워드|암호|"
    "κωδικός|κωδικος|סיסמה|סיסמא|كلمة المرور|كلمة السر|رمز عبور|पासवर्ड|รหัสผ่าน|գաղտնաբառ|პაროლი"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD = re.compile(r"[\W_]+")
# With RE2: of so many words, `re` tries each at each letter, and a program has hundreds of names.
_PASSWORD_NAME = text_pattern(
    rf"(?:^|_|[a-z])(?:{LATIN_PASSWORDS.replace('?', '').replace('[ _]', '_')})s?[0-9]{{0,2}}$"
    rf"|(?:{OTHER_PASSWORDS.replace(' ', '_')})$"
    r"|(?:^|_)(?:(?:db|my|user|root|admin|smtp|ftp|mail|redis|mysql|pg|postgres|login|auth|ssh|vpn|wifi|proxy|app|rabbitmq|"
    r"mongo|store|key|ks|ts|master|require|server|database|sql|imap|pop|ldap|bind|basic|http|https|sudo|su|"
    r"svn|git|docker|registry|nexus|jenkins|jira|sonar|es|elastic|kafka|ca|cert)_?pass"
    r"|pwd|pw|pass|mdp|psk|wpa|passwords?_?(?:value|text|plain)|master_?auth|seed_?phrase|mnemonic(?:_?phrase)?|"
    r"(?:secret|recovery|backup)_?(?:phrase|words)|"
    r"cvv2?|cvc2?|cvn|card_?(?:verification|security)_?(?:code|value|number)|otp|totp|one_?time_?(?:code|password|passcode)|"
    r"(?:verification|access|two_?factor|2fa|mfa|tfa|auth(?:entication)?|login|unlock|recovery|backup|sms|security)_?codes?)"
    r"[0-9]{0,2}$|[a-z]pwd$|[a-z]_?psk$"
)
# A catalogue's or a program's own texts and switches.
_NOT_PASSWORD_NAME = re.compile(
    r"(?:^|_)(?:forgot(?:ten)?|reset|change|show|hide|invalid|wrong|weak|bad|missing|no|has|is|requires?|required|use|uses|"
    r"enable[ds]?|disable[ds]?|allow|skip|min|max|hash|hashed|encrypted|type|field|input|label|hint|title|error)_(?:\w+_)?"
    r"(?:password|passwd|passphrase|passcode|pass|pwd)s?$"
    r"|(?:^|_)(?:country|zip|postal|error|status|exit|return|promo|discount|currency|language|source)_?codes?$"
)
# Short ones are ordinary words and verbs, too.
VERBS = re.compile(r"(?:.*_)?(?:pass|pw|psk|otp|wpa)[0-9]*", re.IGNORECASE)
_KEY_NAME = text_pattern(
    r"(?:api|access|secret|private|encryption|signing|signature|master|account|consumer|app|application|shared|service|"
    r"admin|storage|subscription|licen[cs]e|deploy|webhook|auth|oauth|bearer|refresh|session|id|security|bot|user|"
    r"client|personal|pat|csrf|xsrf|jwt|hmac|aes|rsa|ssh|gpg|iam|cloud|vault|github|gitlab|slack|stripe|openai|"
    r"anthropic|azure|aws|gcp|google|hf|function|host|device|push|fcm|sas|upload|verify|verification|confirm|reset|"
    r"invite|activation|magic|preauth|pre_shared|data|wrapping|symmetric|tls|ssl|server|register|registration|join|runner|"
    r"registry|npm|pypi|docker|discord|telegram|twilio|sendgrid|mailgun|datadog|newrelic|sentry|notion|figma|linear|"
    r"shopify|databricks|snowflake|supabase|cloudflare|vercel|netlify|heroku|railway|pinecone|cohere|mistral|groq|together|"
    r"replicate|deepseek|zai|zhipuai|moonshot|tavily|exa|serper|brave|firecrawl|langsmith|langfuse|wandb|mcp|hubspot|snyk|cloudant|ibm|ibm_cos|cos|cos_hmac|ibm_cloud_iam|sumo|meraki|okta|auth0|zendesk|asana|trello|"
    r"airtable|dropbox|heroku|circleci|travis|codecov|sonar|npm|nuget|grafana|algolia|mapbox|plaid|square|paypal|braintree|adyen|mollie|"
    r"elevenlabs|deepgram|assemblyai|perplexity|openrouter|fireworks|nvidia|cerebras|sambanova|voyage|jina|ngc|kaggle|azure_?openai)"
    r"_?(?:key|token|secret)s?[0-9]{0,2}$"
    r"|(?:^|_)(?:(?:proxy_)?authorization|(?:set_)?cookies?|jwt|secret_?(?:key|token|value|string)?|bearer|credentials?|"
    r"client_?assertion|saml_?(?:response|assertion)|sas|sas_?(?:token|url|uri)|"
    r"pat|session_?cookies?|sessionid|php_?sessid|phpsessid|j_?session_?id|jsessionid|connect_?sid|"
    r"asp_net_session_?id|client_?key_?data|client_?certificate_?key|dockerconfigjson|docker_?cfg|hmac|api_?pass(?:word)?)"
    r"[0-9]{0,2}$"
    r"|(?:auth|authentication|oauth|access|api|secret|session|refresh)_?tokens?[0-9]{0,2}$|_pat$|(?:^|_)(?:[a-z0-9]+)_session$"
)
_PLACE_NAME = re.compile(r"(?:connection_?strings?|conn_?str(?:ing)?|dsn|webhooks?(?:_?ur[il]s?)?)$")
# Spanish: a password, a key, a code, and of `palabras clave` the keyword.
_WEAK_NAME = re.compile(r"(?<!palabra_)(?<!palabras_)(?<![a-z])clave$")
_MAYBE_NAME = re.compile(r"(?:key|token|secret|auth|pin|credentials?)[0-9]{0,2}$")
_NOT_SECRET_NAME = text_pattern(
    r"public|publishable|pub_?key|authenticity_?token|(?:^|_)(?:max|min|total|num|n|count|input|output|prompt|completion|reasoning|cached?|"
    r"used|remaining|next|page|continuation|sync|cursor|primary|foreign|partition|sort|hash|range|cache|bucket|object|"
    r"schema|sequence|index|idempotency|row|map|dict|column|routing|group|registry|hot|short_?cut|answer|translation|"
    r"i18n|message|event|field|property|lookup|search|config|settings?|state|s3|entry|stop|start|end|bos|eos|pad|unk|"
    r"sep|cls|mask|special|first|last|new|current|prev|previous|word|byte|text|logit|dedupe?|dedup|join|shard|file|item|"
    r"node|thread|run|trace|span|step|tool|call|node|artifact|blob|image|asset|locale|label|title|enum|option|sort_?by|"
    r"query|filter|session_?cache|key|translation|resource|attribute|metadata|feature|flag|issue|project|story|ticket)s?_"
    r"(?:key|token)s?$"
    r"|monkey|turkey|donkey|jockey|whiskey|hockey|keyboard|author$|tokeni[sz]|tokens$|(?:^|_)(?:access_?)?key_?ids?$"
)


_ENDS_NAME = string.digits + "s"


def plain_name(name: str) -> str:
    """Write the name of a field or variable in lower case with `_` between its words."""
    return _NOT_WORD.sub("_", _CAMEL.sub("_", name).lower()).strip("_")


@functools.lru_cache(maxsize=4096)
def name_kind(name: str) -> Kind | None:
    """Say whether the name of a field or variable announces a secret; `total_tokens` and `public_key` do not."""
    plain = plain_name(name)
    data = plain.encode(errors="replace")
    # Most are called so, and no password is; to ask RE2 of a name that it has not seen takes ten microseconds.
    names_key = plain.rstrip(_ENDS_NAME).endswith(("key", "token", "secret"))
    if not names_key and is_in(_PASSWORD_NAME, data):
        return None if _NOT_PASSWORD_NAME.search(plain) else PASSWORD
    if not plain.isascii():
        bare = "".join(one for one in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(one))
        return name_kind(bare) if bare.isascii() else None
    if is_in(_NOT_SECRET_NAME, data):
        return None
    if is_in(_KEY_NAME, data):
        return KEY
    if _MAYBE_NAME.search(plain):
        return MAYBE
    if _WEAK_NAME.search(plain):
        return WEAK
    return PLACE if _PLACE_NAME.search(plain) else None


_PLACEHOLDER_WORDS = byte_pattern(r"(?i:xxxx|your[-_ ]|<|\.\.\.)")
# Spelled out: RE2 has no back-references, and with them `re` takes five times as long.
_PLACEHOLDER_RUN = byte_pattern(
    "|".join(rf"\x{ord(character):02x}{{8,}}" for character in string.ascii_letters + "#*")
    + "|"
    + "|".join(f"{digit}{{16,}}" for digit in string.digits)
    + "|"
    + _PLACEHOLDER_WORDS.pattern.decode()
)


# In what is no longer than a key, it takes less time than RE2 to begin, which lets go of the interpreter's lock: with a
# hundred threads, each has to wait for its turn again.
_MAY_BE_FILLED = re.compile(rf"(.)\1{{7}}|{_PLACEHOLDER_WORDS.pattern.decode()}", re.IGNORECASE | re.DOTALL)
_LONGEST_KEY = 200


def is_placeholder_run(value: str) -> bool:
    """Say whether a value is filled up: with equal characters for a third of it, or with words that say so."""
    if len(value) <= _LONGEST_KEY and not _MAY_BE_FILLED.search(value):
        return False
    data = value.encode(errors="replace")
    if not is_in(_PLACEHOLDER_RUN, data):
        return False
    # Azure's keys of today have fifteen A in a row for what is not used yet: of 84 characters.
    filled = sum(end - start for start, end in spans(_PLACEHOLDER_RUN, data))
    return is_in(_PLACEHOLDER_WORDS, data) or 3 * filled >= len(data)


PLACEHOLDER = re.compile(
    r"[*.x_?#•●-]+|<.*|.*\$\{.*|\$(?![0-9a-z]{1,6}\$).*|%[^0-9].*|%|\{.*|\[.*|.*\{\{.*|\*+.*|«.*|your[-_ ].*|.*[-_ ]here|example.*|"
    r"change[-_ ]?me|my[-_]?(?:password|secret|token|key)|none|null|nil|true|false|undefined|todo|tbd|redacted|hidden|string|str|text|"
    r"int|bool|any|object|required|optional|env|secret|password|token|key|dummy|placeholder|bearer|basic|n/?a|empty|"
    r"default|value|\(.*|masked|omitted|removed|unset|unknown|@.*|"
    # Tags of YAML: where the value is to be found.
    r"!(?:vault|ref|sub|getatt|secret|env_?(?:var)?|importvalue|join|if|select|findinmap|reference)(?:[ .].*)?",
    re.IGNORECASE | re.ASCII,
)
CODE_VALUE = re.compile(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:[(\[].*)?|[A-Za-z_]\w*[(\[].*|.*\)\(.*"
    r"|(?:self|this|os|process|config|settings|env|var|args|request|options|params)[.\[].*"
    r"|`.*|\$\(.*|/[\w./-]*|https?://.*|[A-Za-z_]+(?:Error|Exception)",
    re.ASCII,
)
_DOTTED = re.compile(r"\w+(?:\.\w+)+", re.ASCII)
_NAME_WORDS = re.compile(
    r"passw|pwd|(?:^|_)pass$|secret|token|api_?key|credential|" + LATIN_PASSWORDS.replace("?", ""), re.IGNORECASE
)
_OTHER_NAME_WORDS = re.compile(OTHER_PASSWORDS)
UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", re.ASCII)
_RANDOM = re.compile(r"[A-Za-z0-9+/=_.~:|%@^#!*$&,-]+", re.ASCII)
_SEQUENCE = re.compile(r"0123456789|abcdefghij|ABCDEFGHIJ", re.ASCII)
FILE = re.compile(
    r".*\.(?:pem|cer|crt|p12|pfx|jks|key|pub|json|ya?ml|txt|html?|png|jpe?g|svg|js|ts|py|java|go|rs|com|org|net|io|csv|pdf|md|"
    r"gz|zip|xml|toml|ini|cfg|conf|log|db|sqlite|parquet|docx?|xlsx?|gif|webp|mp[34]|wav|tsx?|jsx?|rb|php|css|lock)"
    r"(?::[0-9]+)?",
    re.IGNORECASE | re.ASCII,
)
_WORDS = re.compile(
    r"(?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,4}|v[0-9]+)(?:[-_.:/](?:[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,10}|v[0-9]+))+"
    r"|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+[0-9]{0,2}",
    re.ASCII,
)
_LOCATION = re.compile(
    # A path, a URI, an ARN: several parts, of which the first is a word.
    r"(?:[a-z][a-z0-9+.-]*://|arn:|urn:|[~.]{0,2}/|[A-Za-z]:\\).*|[a-z][a-z_-]*(?:/[\w.%=-]+){1,}/?|[a-z_-]+(?::[\w.-]+){2,}",
    re.ASCII,
)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}|(?:[a-z]+_)?[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}(?:[T ][0-9:.]+)?(?:Z|[+-][0-9:]+)?", re.ASCII)
_LETTER_RUN = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}", re.ASCII)
_VOWEL = re.compile(r"[aeiouyAEIOUY]")


def is_wordy(value: str) -> bool:
    """Say whether most of a value is words: `session-cache:eu-west`, `--token-color-primary-500`, `ctrl+shift+F12`."""
    size = sum(map(str.isalnum, value))
    words = sum(len(run) for run in _LETTER_RUN.findall(value) if _VOWEL.search(run))
    return 2 * words >= size


def is_secret_value(kind: Kind, value: str, *, quoted: bool, spoken: bool = False, separator: str = "=") -> bool:
    """Tell a secret from a placeholder, a piece of code or a word of a sentence."""
    if kind is MAYBE and (value.islower() or value.isupper() or value.isalpha()):
        return False  # most of what is called a key: see `_is_mixed`
    if PLACEHOLDER.fullmatch(value) or PLACEHOLDER.fullmatch(value.strip("`*_'\"")):
        return False
    if not quoted and kind is not PLACE and CODE_VALUE.fullmatch(value) and not _is_dotted_key(value):
        return False
    if kind is WEAK:
        return separator in _OF_CONFIGURATION and _is_mixed_password(value)
    if kind is PLACE:
        return _is_place_with_secret(value)
    if kind is PASSWORD:
        return _is_password(value, quoted=quoted, weak=spoken or (not quoted and separator != "="))
    return is_key(kind, value, spoken=spoken)


_OF_CONFIGURATION = frozenset({":", "=", ":=", "=>"})
_FEWEST_MIXED = 8


def _is_mixed_password(value: str) -> bool:
    """Say whether a value has all that a form asks of a password, and is no file, place or number of a thing."""
    return (
        len(value) >= _FEWEST_MIXED
        and value[0].isalnum()
        and any(map(str.isupper, value))
        and any(map(str.islower, value))
        and any(map(str.isdigit, value))
        and not any(one in value for one in (" ", "/", "(", "="))
        and not (FILE.fullmatch(value) or UUID.fullmatch(value) or _DATE.fullmatch(value) or _ULID.fullmatch(value))
    )


# user:password@tcp(host:3306)/db, user/password@host:1521/service; an address whose last part nobody can guess.
_DRIVER_DSN = re.compile(r"[^\s:@/]{1,64}[:/][^\s@/]{3,128}@(?:[a-z]{2,5}\(|[\w.-]+:[0-9]+/).*", re.ASCII)
_HOOK = re.compile(r"https?://[^\s/]{1,200}/\S*[/=]([A-Za-z0-9_-]{16,})/?", re.ASCII)


def _is_place_with_secret(value: str) -> bool:
    hook = _HOOK.fullmatch(value)
    if hook:
        return any(map(str.isdigit, hook[1])) and not is_wordy(hook[1]) and not UUID.fullmatch(hook[1])
    return _DRIVER_DSN.fullmatch(value) is not None


def _is_dotted_key(value: str) -> bool:
    """Say whether `a1b2.c3d4.e5f6` is what it looks like: `settings.s3.base64_key` is code."""
    return (
        _DOTTED.fullmatch(value) is not None
        and len(value) >= 12
        and sum(map(str.isdigit, value)) >= 3
        and not is_wordy(value)
        and FILE.fullmatch(value) is None
    )


# A sentence has some of these, a pass phrase rarely.
_SENTENCE = re.compile(
    r"\b(?:must|enter|please|your|is|are|the|should|required?|invalid|least|characters?|field|for|with|not|cannot|can|"
    r"and|or|to|of|in|on|an?|this|that|new|current|confirm|forgot|reset|change|has|have|been|was|will|at|by|from|no)\b",
    re.IGNORECASE,
)


def is_pass_phrase(value: str) -> bool:
    """Say whether a few plain words are a pass phrase rather than a sentence or a label."""
    words = value.split()
    return (
        3 <= len(words) <= 24
        and all(word.isalpha() and word.islower() for word in words)
        and not _SENTENCE.search(value)
        and not _NAME_WORDS.search(value)
    )


def is_label(value: str) -> bool:
    """Say whether a value is the label of a field for passwords, in whatever language, and not a password."""
    folded = "".join(one for one in unicodedata.normalize("NFKD", value) if not unicodedata.combining(one))
    return not any(map(str.isdigit, value)) and (
        _NAME_WORDS.search(value) is not None
        or _NAME_WORDS.search(folded) is not None
        or _OTHER_NAME_WORDS.search(value) is not None
    )


def _is_password(value: str, *, quoted: bool, weak: bool) -> bool:
    has_digit = any(map(str.isdigit, value))
    if quoted and is_pass_phrase(value):
        return True
    if len(value) < 4 or value[0] in "/@" or (" " in value.strip() and not (quoted and has_digit)):
        return False
    if " " in value.strip() and (_SENTENCE.search(value) or _NAME_WORDS.search(value)):
        return False
    if has_digit or any(not character.isalnum() and character not in "_-." for character in value):
        return True
    if _NAME_WORDS.search(value):
        return False  # password = user_password
    if weak:
        # "password: required" is a sentence's word, "password is openSesame" is not.
        return any(map(str.isupper, value[1:])) and any(map(str.islower, value)) and not _WORDS.fullmatch(value)
    return len(value) >= 5


def is_key(kind: Kind, value: str, *, spoken: bool = False) -> bool:
    """Tell a key or a token from what else stands under such a name."""
    if kind is MAYBE and not _is_mixed(value):
        return False
    if UUID.fullmatch(value):
        return kind is KEY
    if len(value) < (8 if kind is KEY else 16) or not _RANDOM.fullmatch(value) or (spoken and kind is MAYBE):
        return False
    if _SEQUENCE.search(value) or FILE.fullmatch(value) or _WORDS.fullmatch(value) or _LOCATION.fullmatch(value):
        return False
    if is_placeholder_run(value) or _DATE.fullmatch(value):
        return False
    if not any(map(str.isdigit, value)):
        return len(value) >= 20 and entropy(value) > 4
    return entropy(value) >= (2.8 if kind is KEY else 3.2)


def _is_mixed(value: str) -> bool:
    """Say whether a value is no id, hash or path: what `key` and `token` hold where they are nobody's secrets."""
    return (
        any(map(str.isupper, value))
        and any(map(str.islower, value))
        and any(map(str.isdigit, value))
        and not is_wordy(value)
        and not (_ULID.fullmatch(value) or _LOCATION.fullmatch(value))
    )


def entropy(value: str) -> float:
    """Give the bits that a character carries, by how often each occurs."""
    size = len(value)
    if not size:
        return 0.0
    # Few characters occur twice: those that occur once have a logarithm of 0.
    often = [count for count in Counter(value).values() if count > 1]
    return math.log2(size) - sum(count * math.log2(count) for count in often) / size
