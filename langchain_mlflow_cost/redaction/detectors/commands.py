"""Credentials that are arguments of commands: `curl -u user:password`, `mysql -ppassword`, `docker login -p password`.

A table of command and flag: the same flag of another command is a port or a path (`docker run -p 8080:80`).
"""

# ruff: noqa: PLR2004, E501 - numbers of letters; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from langchain_mlflow_cost.redaction.detectors.secret_names import PLACEHOLDER

if TYPE_CHECKING:
    from langchain_mlflow_cost.redaction.detectors.view import Span, View


class Command(NamedTuple):
    """A command and where its secrets stand. To add one: a row in `COMMANDS`."""

    names: str
    """What the program is called; `|` between several."""
    then: str
    """Words that must follow somewhere before the flag; empty: none."""
    flags: str
    """The flags, with a space between them."""
    form: str = "value"
    """`value`: the argument is the secret, beside the flag or glued to a short one; `glued`: only glued; `apart`: only
    beside it; `pair`: of `user:secret` what follows the colon; `percent`, `comma`, `slash`: likewise; `prefix`:
    `pass:secret`; `word`: the first argument behind `then` that is no flag; `first`, `second`, `last`: that one of all."""


COMMANDS = (
    Command("curl", "", "-u --user --proxy-user -U --tlsuser --ftp-account", "pair"),
    Command("curl", "", "--oauth2-bearer --pass --tlspassword --proxy-pass --proxy-tlspassword"),
    Command("wget|wget2", "", "--password --http-password --ftp-password --proxy-password"),
    Command("http|https|xh|xhs|httpie", "", "-a --auth", "pair"),
    Command("sshpass", "", "-p"),
    Command(
        "mysql|mysqldump|mysqladmin|mysqlimport|mysqlcheck|mysqlsh|mysqlpump|mariadb|mariadb-dump|mariadb-admin|mycli",
        "",
        "-p",
        "glued",
    ),
    Command(
        "docker|podman|nerdctl|buildah|skopeo|oras|crane|helm|regctl|singularity|apptainer", "login", "-p --password"
    ),
    Command("az", "login|acr|ad|devops|sql|webapp", "-p --password --admin-password --client-secret", "apart"),
    Command("redis-cli|valkey-cli|keydb-cli", "", "-a --pass", "apart"),
    Command("sqlcmd|bcp|osql|mssql-cli|sqlcmd-go", "", "-P"),
    Command("mongo|mongosh|mongodump|mongorestore|mongoexport|mongoimport|mongostat", "", "-p"),
    Command("ldapsearch|ldapadd|ldapmodify|ldapdelete|ldapwhoami|ldappasswd|ldapcompare", "", "-w -s", "apart"),
    Command("smbclient|rpcclient|smbget|winexe|nmblookup|wmic|smbmap", "", "-U --user", "percent"),
    Command(
        "psexec|psexec64|paexec|pskill|pslist|evil-winrm|crackmapexec|netexec|nxc|smbmap|rdesktop", "", "-p", "apart"
    ),
    Command("xfreerdp|wfreerdp|xfreerdp3|mstsc|signtool|cmdkey|schtasks", "", "/p: /pass: /rp /p", "value"),
    Command("gh", "auth|login", "--with-token", "stdin"),
    Command("zip|unzip|zipcloak", "", "-P"),
    Command("7z|7za|7zz|rar|unrar", "", "-p -hp", "glued"),
    Command("cqlsh|beeline|impala-shell|influx|snowsql|vsql|trino", "", "-p -password --password"),
    Command("mosquitto_pub|mosquitto_sub|mosquitto_rr|ipmitool", "", "-P", "apart"),
    Command("lftp|ncftp|ncftpput|ncftpget", "", "-u -p", "comma"),
    Command(
        "twine|cf|oc|ibmcloud|bx|rancher|argocd|harbor|nexus|jfrog|jf|svn|hg|conan|cargo|gem|helm-push",
        "",
        "-p --password",
        "apart",
    ),
    Command("argocd|tsh|vault|kinit|portainer", "login", "--password", "apart"),
    Command("nuget|dotnet|choco", "push", "-k --api-key -ApiKey -SymbolApiKey", "apart"),
    Command("nuget|dotnet", "source", "-p --password -Password", "apart"),
    Command("openssl", "", "-passin -passout -pass", "prefix"),
    Command("openssl", "enc|aes|des", "-k -K", "apart"),
    Command("ssh-keygen", "", "-N -P", "apart"),
    Command("snmpwalk|snmpget|snmpset|snmpbulkwalk", "", "-A -X", "apart"),
    Command("keytool|jarsigner|apksigner", "", "-storepass -keypass -srcstorepass -deststorepass", "apart"),
    Command("htpasswd", "-b|-nb|-bn|-bc|-cb|-bB|-Bb|-nbB|-nbm|-bm|-mb", "", "last"),
    Command("sqlplus|sqlldr|expdp|impdp|exp|imp|rman", "", "", "slash"),
    Command("ConvertTo-SecureString|convertto-securestring", "", "", "first"),
    Command("snmp-server", "community", "", "word"),
    Command("vault", "login", "", "word"),
    Command("wandb", "login", "", "word"),
    Command("snyk", "auth", "", "word"),
    Command("ngrok", "authtoken|add-authtoken", "", "word"),
    Command("rclone", "obscure", "", "word"),
    Command(
        "railway|fly|flyctl|doctl|hcloud|linode-cli|sentry-cli|heroku|netlify|vercel|snyk|huggingface-cli|hf",
        "",
        "-t --token --access-token --auth-token --api-key --auth",
        "apart",
    ),
    Command("tailscale|headscale", "", "--authkey --auth-key", "apart"),
    Command("npm|yarn|pnpm|npx", "_authToken|_auth|_password", "", "word"),
    Command("poetry", "http-basic|pypi-token", "", "last"),
    Command("aws", "aws_secret_access_key|aws_session_token", "", "word"),
    Command("rabbitmqctl", "add_user|change_password|authenticate_user", "", "last"),
    Command("mc", "alias set|config host add", "", "last"),
    Command("net|net.exe", "use|user", "", "second"),
    Command("wpa_passphrase", "", "", "second"),
    Command("useradd|usermod", "", "-p --password", "apart"),
    Command("ansible|ansible-playbook", "", "--become-password --vault-password", "apart"),
    Command("restic|borg|duplicity|gpg|gpg2", "", "--passphrase --password", "apart"),
)

# In the order of the alphabet, so that RE2 makes one state of what begins alike.
_NAMES = sorted({"echo", "printf", *(name for row in COMMANDS for name in row.names.split("|"))})
COMMAND = rf"\b(?:{'|'.join(map(re.escape, _NAMES))})(?:\.exe)?[ \t]"
"""In RE2's syntax: where a command may begin, to its first blank."""

_LONGEST_LINE = 600
_ARGUMENT = (
    r"(?:\"(?P<double>[^\"\x1f\n]{1,256})\"|'(?P<single>[^'\x1f\n]{1,256})'|(?P<bare>[^\s\"'|;<>`()\x1f]{1,256}))"
)
_AT_LINE_END = re.compile(r"(?<!\\)\r?\n|\x1f|[ \t]&&[ \t]|[ \t]\|\|?[ \t]", re.ASCII)
_NAME = re.compile(r"[\w.-]+", re.ASCII)
_HERE = re.compile(r"<<<[ \t]*" + _ARGUMENT, re.ASCII)
_ECHO = re.compile(r"(?:echo|printf)[ \t]+(?:-[neE]+[ \t]+|['\"]?%s(?:\\n)?['\"]?[ \t]+)*" + _ARGUMENT, re.ASCII)
_READS_SECRETS = re.compile(
    r"\|[ \t]*(?:sudo[ \t]+)?(?:(?P<pair>chpasswd)|(?:docker|podman|gh|helm|passwd|sudo|nerdctl|oras|faas-cli|cryptsetup)\b[^|\n]*?"
    r"(?:--with-token|--password-stdin|--stdin|[ \t]-S\b|luks))",
    re.ASCII,
)
# No secret: a variable, another flag, a substitution, a file.
_NOT_A_VALUE = re.compile(
    r"[$`<{%@-].*|.*\$\{?\w.*|/.*|\.{1,2}/.*|[0-9]{1,5}:[0-9]{1,5}|file:.*|env:.*|stdin", re.ASCII
)


def _flag_pattern(row: Command) -> re.Pattern[str]:
    """Make what finds the flags of a row, and then the argument."""
    parts = []
    for flag in row.flags.split():
        literal = re.escape(flag)
        if row.form == "glued" or flag.endswith(":"):
            parts.append(literal)
        elif flag.startswith("--") or row.form == "apart" or len(flag) > 2:
            parts.append(literal + r"(?:=|[ \t]+(?:\\\r?\n[ \t]*)?)")
        else:
            parts.append(literal + r"(?:=|[ \t]+(?:\\\r?\n[ \t]*)?)?")
    return re.compile(rf"(?<=[ \t\n\"'])(?:{'|'.join(parts)}){_ARGUMENT}", re.ASCII)


_BY_NAME: dict[str, list[tuple[Command, re.Pattern[str] | None, re.Pattern[str] | None]]] = {}
for _row in COMMANDS:
    _flags = _flag_pattern(_row) if _row.flags and _row.form != "stdin" else None
    _then = (
        re.compile(
            rf"(?<![\w-])(?:{_row.then})(?![\w-])|{'_auth|_password' if '_auth' in _row.then else '(?!)'}", re.ASCII
        )
        if _row.then
        else None
    )
    for _one in _row.names.split("|"):
        _BY_NAME.setdefault(_one, []).append((_row, _flags, _then))


def find_command_secrets(view: View, found: list[Span]) -> None:
    """Find the secrets among the arguments of commands."""
    text = view.ascii
    done = 0
    for start, _ in view.commands:
        if start < done or (start and text[start - 1] in "-./_=" and not text.endswith(("/", "./"), 0, start)):
            continue
        end = min(len(text), start + _LONGEST_LINE)
        separator = text.find("\x1f", start, end)
        end = separator if separator >= 0 else end
        name = _NAME.match(text, start)
        assert name is not None
        called = name.group().lower().removesuffix(".exe")
        if called in {"echo", "printf"}:
            piped = _echoed(text, start, end)
            spans_here = [piped] if piped else []
        else:
            stop = _AT_LINE_END.search(text, start, end)
            line_end = stop.start() if stop else end
            spans_here = [
                one
                for row, flags, then in _BY_NAME.get(called, ())
                if then is None or then.search(text, name.end(), line_end)
                for one in _arguments(text, name.end(), line_end, end, row, flags, then)
            ]
        for first, last in spans_here:
            value = text[first:last]
            if last - first >= 3 and not _NOT_A_VALUE.fullmatch(value) and not PLACEHOLDER.fullmatch(value):
                found.append((first, last, "SECRET"))
                view.because(first, last, f"argument of {name.group()}")
                done = max(done, last)


def _arguments(
    text: str,
    start: int,
    end: int,
    limit: int,
    row: Command,
    flags: re.Pattern[str] | None,
    then: re.Pattern[str] | None,
) -> list[tuple[int, int]]:
    if row.form == "stdin":
        here = _HERE.search(text, start, limit)
        return [_span(here)] if here else []
    if flags is not None:
        result = []
        for match in flags.finditer(text, start, end):
            first, last = _span(match)
            if row.form in _MARKS:
                first = _behind(text, first, last, _MARKS[row.form])
            result.append((first, last))
        return [one for one in result if one[0] >= 0]
    words = [one for one in _WORDS.finditer(text, start, end) if not one.group().startswith("-")]
    if row.form == "slash":
        for one in words[:3]:
            account = _ORACLE.fullmatch(one.group())
            if account:
                return [(one.start() + account.start(1), one.start() + account.end(1))]
        return []
    if then is not None and row.form == "word":
        at = then.search(text, start, end)
        words = [one for one in words if at and one.start() > at.start()]
        words = words[:1] if words and row.names != "npm|yarn|pnpm|npx" else words[-1:]
    elif row.form == "last":
        words = words[3:4] if row.names == "mc" and len(words) < 5 else words[-1:] if len(words) > 2 else []
    else:
        words = _first_or_second(words, row)
    return [
        _span(_WHOLE.match(text, one.start(), one.end())) for one in words if _WHOLE.match(text, one.start(), one.end())
    ]


_WORDS = re.compile(r"\"[^\"\n]{0,256}\"|'[^'\n]{0,256}'|[^\s\"'|;<>]{1,256}", re.ASCII)
_WHOLE = re.compile(_ARGUMENT, re.ASCII)
_ORACLE = re.compile(r"[A-Za-z][\w$#]{0,30}/(\"?[^\s/@\"]{3,64}\"?)(?:@\S*)?", re.ASCII)
_MARKS = {"pair": ":", "percent": "%", "comma": ",", "prefix": ":"}


def _first_or_second(words: list[re.Match[str]], row: Command) -> list[re.Match[str]]:
    """Give the password of `net use`, of `net user name password`, of `wpa_passphrase name password`."""
    if row.form == "first":
        return words[:1]
    plain = [one for one in words if not one.group().startswith("/")]
    if row.names.startswith("net"):
        if len(plain) < 3 or (plain[0].group() == "use" and not any("\\\\" in one.group() for one in plain[1:3])):
            return []
        return [plain[-1]] if plain[0].group() in {"use", "user"} and "\\\\" not in plain[-1].group() else []
    return plain[1:2]


def _behind(text: str, first: int, last: int, mark: str) -> int:
    """Give where the second half of an argument begins; -1 if it has none."""
    at = text.find(mark, first, last)
    return at + 1 if at >= 0 else -1


def _span(match: re.Match[str] | None) -> tuple[int, int]:
    assert match is not None
    return next(match.span(name) for name in ("double", "single", "bare") if match.group(name) is not None)


def _echoed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Give what is piped into a command that reads a password from there."""
    line_end = text.find("\n", start, end)
    reader = _READS_SECRETS.search(text, start, line_end if line_end >= 0 else end)
    match = _ECHO.match(text, start) if reader else None
    if not reader or not match:
        return None
    first, last = _span(match)
    if reader["pair"]:
        first = _behind(text, first, last, ":")
    return (first, last) if first >= 0 else None
