"""Credentials: by their shape, by where they stand, by the name that announces them."""

# ruff: noqa: PLR2004, E501 - numbers of digits and letters, as the formats themselves have them; a pattern or a row of a table is read more easily on one line

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction.detectors.commands import find_command_secrets
from langchain_mlflow_cost.redaction.detectors.named_values import find_foreign_names, find_named_values
from langchain_mlflow_cost.redaction.detectors.secret_formats import FORMATS, Format
from langchain_mlflow_cost.redaction.detectors.secret_names import (
    MAYBE,
    PASSWORD,
    PLACEHOLDER,
    entropy,
    is_placeholder_run,
    is_secret_value,
    is_wordy,
    name_kind,
)
from langchain_mlflow_cost.redaction.detectors.urls import find_driver_secrets, find_url_secrets
from langchain_mlflow_cost.redaction.detectors.view import WORD, Span, View, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

_LITERAL_START = re.compile(r"(?:\\b)?+\\?([A-Za-z0-9_/.])\\?([A-Za-z0-9_/.-])(?![{?*+])", re.ASCII)


def _formats_by_start() -> tuple[dict[str, list[Format]], list[tuple[re.Pattern[str], Format]]]:
    by_start: dict[str, list[Format]] = {}
    others = []
    for one in FORMATS:
        literal = _LITERAL_START.match(one.anchor)
        if literal:
            by_start.setdefault(literal[1] + literal[2], []).append(one)
        else:
            others.append((re.compile(one.anchor, re.ASCII), one))
    return by_start, others


_BY_START, _OTHERS = _formats_by_start()
_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-~."


def find_secrets(view: View, found: list[Span]) -> None:
    """Find credentials in all the ways that there are: what a shape or a URL says first, then what a name says."""
    if view.first_anchor >= 0:
        _provider_keys(view, found)
    if view.has_pem:
        _pem_blocks(view, found)
    if b"@" in view.bytes:
        find_url_secrets(view, found)
    if view.at_signs:
        find_driver_secrets(view, found)
    if view.first_anchor >= 0:
        find_command_secrets(view, found)
    if view.has_names:
        find_named_values(view, found)
        _columns(view, found)
    if view.has_foreign and view.text is not view.ascii:
        find_foreign_names(view, found)


def _provider_keys(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = tried = 0
    # A token that may also stand behind a `_` is looked for once in a run of its letters: `_eyJ_eyJ...` is one.
    dead = 0
    for start, anchor_end in sorted([*view.key_starts, *view.inner_keys]):
        if start < done or start < tried:
            continue
        if (
            anchor_end - start == _PREFIXED_SIZE
            and text[start + 1] in "_-"
            and text[start : start + 2] not in _BY_START
        ):
            piece = text[start + 2 : anchor_end]
            if (piece.islower() or piece.isupper() or piece.isdigit()) and text[
                anchor_end : anchor_end + 1
            ] not in _IN_INNER:
                continue  # a hash, a ULID: most of what looks like this
            end = _prefixed_key(view, start, done, found)
            if not end and (inner := _INNER.search(text, start + 2, anchor_end + 8)):
                end = _known_key(view, inner.start(), done, dead, found)
            done = max(done, end)
            continue
        end = _known_key(view, start, done, dead, found)
        # A known prefix whose key has another form is no unknown key's either.
        tried = anchor_end
        if end:
            done = end
        elif text.startswith("eyJ", start) and start >= dead:
            run = _RUN.match(text, start)
            dead = run.end() if run else start


def _known_key(view: View, start: int, done: int, dead: int, found: list[Span]) -> int:
    """Find a key of one of the shapes at an anchor; give where it ends, or 0."""
    text = view.ascii
    for one in _formats_at(text, start):
        first = start
        if one.before:
            low = max(done, start - one.before)
            first = low + len(text[low:start].rstrip(_KEY_CHARACTERS))
        if (one.glued and start < dead) or _is_inside(text, first, glued=one.glued):
            continue
        match = one.pattern.match(text, first)
        if match and not _is_placeholder_key(match.group()):
            found.append((first, match.end(), "SECRET"))
            view.because(first, match.end(), f"shape of a key: {one.name}")
            return match.end()
    return 0


_PREFIXED_SIZE = 26
# Shapes whose mark is not at their beginning, so that what looks like a prefix may be a part of them.
_INNER = re.compile(r"T3BlbkFJ|JQQJ99|AzSe[A-D]|_mmk\b|(?<=[0-9])Q~|(?<=[0-9]):AA|\.atlasv1\.", re.ASCII)

# With what the mark of such a one goes on behind 24 letters and digits.
_IN_INNER = frozenset("~:._")


def _formats_at(text: str, start: int) -> Iterator[Format]:
    """Give the rows to try at an anchor, those first whose prefix it is."""
    yield from _BY_START.get(text[start : start + 2], ())
    for anchor, one in _OTHERS:
        if anchor.match(text, start):
            yield one


def _is_inside(text: str, start: int, *, glued: bool) -> bool:
    """Say whether what begins there is a part of a longer word."""
    if not start or text[start] not in WORD:
        return False
    return text[start - 1] in WORD and not (glued and text[start - 1] == "_")


_RUN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_JUST_WORDS = re.compile(
    r"[a-z]{1,8}[-_](?:[a-z]{2,}[0-9]{0,3}|[0-9]{1,3})(?:[-_]+(?:[a-z]{2,}[0-9]{0,3}|[0-9]{1,3}))+", re.ASCII
)


def _is_placeholder_key(value: str) -> bool:
    return is_placeholder_run(value) or len(set(value[4:])) < 6 or _JUST_WORDS.fullmatch(value) is not None


_PREFIXED = re.compile(
    r"(?P<prefix>[A-Za-z][A-Za-z0-9]{0,15}(?:[_-][A-Za-z0-9]{1,10}){0,3})[_-](?P<random>[A-Za-z0-9]{24,200}+)(?![A-Za-z0-9_/+-])",
    re.ASCII,
)
# Ids that are written in the same way: of models' and agents' APIs, of payment services, of platforms. Each is a whole
# prefix, or its last part.
_IDS = frozenset(
    [
        "acc",
        "acct",
        "acl",
        "add",
        "agent",
        "aid",
        "ami",
        "ap",
        "apikey",
        "app",
        "arn",
        "asg",
        "asset",
        "assistant",
        "asst",
        "atmpt",
        "audio",
        "ba",
        "batch",
        "bkt",
        "blob",
        "block",
        "branch",
        "btok",
        "bucket",
        "build",
        "cache",
        "call",
        "campaign",
        "card",
        "cart",
        "case",
        "cdn",
        "cert",
        "cfn",
        "ch",
        "channel",
        "chatcmpl",
        "chunk",
        "ci",
        "cid",
        "class",
        "client",
        "cluster",
        "cmpl",
        "cmt",
        "cntr",
        "col",
        "comment",
        "commit",
        "component",
        "conn",
        "contact",
        "container",
        "conv",
        "coupon",
        "cs",
        "css",
        "ct",
        "ctc",
        "ctm",
        "ctrl",
        "cu",
        "cus",
        "db",
        "dbi",
        "deal",
        "deployment",
        "dev",
        "did",
        "directory",
        "disp",
        "dispute",
        "dist",
        "doc",
        "dom",
        "domain",
        "dp",
        "dpl",
        "ds",
        "du",
        "eac",
        "ecfg",
        "ecs",
        "eip",
        "eks",
        "email",
        "emb",
        "embd",
        "eni",
        "env",
        "environment",
        "ep",
        "etag",
        "ev",
        "eval",
        "evalrun",
        "event",
        "evt",
        "evts",
        "example",
        "fc",
        "fee",
        "field",
        "file",
        "files",
        "fixture",
        "fld",
        "fn",
        "font",
        "form",
        "fp",
        "fs",
        "ft",
        "ftckpt",
        "ftjob",
        "fu",
        "func",
        "function",
        "gen",
        "gid",
        "global",
        "group",
        "hash",
        "hashed",
        "host",
        "icfg",
        "icon",
        "id",
        "idn",
        "ids",
        "idx",
        "ig",
        "igw",
        "ii",
        "il",
        "im",
        "image",
        "img",
        "in",
        "index",
        "ins",
        "instance",
        "inv",
        "invite",
        "invoice",
        "issue",
        "item",
        "job",
        "js",
        "key",
        "lambda",
        "lb",
        "lead",
        "lease",
        "li",
        "line",
        "link",
        "list",
        "local",
        "lock",
        "lsh",
        "mail",
        "main",
        "mcp",
        "mcpl",
        "mcpr",
        "md5",
        "media",
        "mem",
        "member",
        "message",
        "messages",
        "moderation",
        "modr",
        "module",
        "mr",
        "msg",
        "msgbatch",
        "msgs",
        "nat",
        "node",
        "note",
        "obj",
        "object",
        "obs",
        "observation",
        "offset",
        "oid",
        "or",
        "ord",
        "order",
        "org",
        "orginv",
        "orgmem",
        "page",
        "part",
        "partition",
        "perm",
        "pi",
        "pid",
        "pk",
        "pk_live",
        "pk_test",
        "plan",
        "plink",
        "pm",
        "pmpt",
        "po",
        "pod",
        "policy",
        "polyfills",
        "post",
        "pr",
        "preview",
        "pri",
        "price",
        "prj",
        "pro",
        "prod",
        "product",
        "production",
        "prof",
        "proj",
        "project",
        "promo",
        "prompt",
        "pub",
        "public",
        "publishable",
        "queue",
        "rcpt",
        "rds",
        "re",
        "rec",
        "receipt",
        "ref",
        "refund",
        "release",
        "replica",
        "repo",
        "req",
        "request",
        "resp",
        "response",
        "rev",
        "role",
        "room",
        "row",
        "rs",
        "rtb",
        "rule",
        "run",
        "runs",
        "runtime",
        "sandbox",
        "sb",
        "seg",
        "segment",
        "sess",
        "session",
        "setatt",
        "seti",
        "sg",
        "sha",
        "sha1",
        "sha256",
        "sha512",
        "shard",
        "si",
        "sid",
        "skill",
        "sm",
        "snap",
        "snapshot",
        "span",
        "src",
        "srv",
        "srvtoolu",
        "st",
        "stack",
        "staging",
        "step",
        "store",
        "stream",
        "sts",
        "style",
        "sub",
        "subnet",
        "subnetwork",
        "subs",
        "svc",
        "svg",
        "ta",
        "tag",
        "task",
        "tbl",
        "team",
        "temp",
        "test",
        "tg",
        "thread",
        "ticket",
        "tmp",
        "tok",
        "toolu",
        "tooluse",
        "topic",
        "tr",
        "trace",
        "tx",
        "txn",
        "uid",
        "upload",
        "user",
        "usr",
        "v",
        "vector",
        "vendor",
        "ver",
        "version",
        "video",
        "view",
        "vo",
        "vol",
        "volume",
        "vpc",
        "vs",
        "vsfb",
        "we",
        "wh",
        "whk",
        "wo",
        "workspace",
        "wrkspc",
        "ws",
        "zone",
    ]
)


def _prefixed_key(view: View, start: int, low: int, found: list[Span]) -> int:
    """Find a key of which nothing is known but that it looks like one; give where to go on."""
    text = view.ascii
    piece = text[start + 2 : start + 26]
    if piece.islower() or piece.isupper() or piece.isdigit():
        return 0
    low = max(low, start - 60)
    first = low + len(text[low : start + 1].rstrip(_PREFIX_CHARACTERS))
    match = _PREFIXED.match(text, first)
    if not match or match.end() < start + 26 or (first and text[first - 1] in "/.+=@~$#%&"):
        return 0
    if not _is_unknown_key(match["prefix"], match["random"]):
        return 0
    found.append((*match.span(), "SECRET"))
    view.because(*match.span(), f"prefix and {len(match['random'])} random characters")
    return match.end()


_PREFIX_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_OF_KEYS = frozenset(
    {"key", "keys", "token", "secret", "sk", "pat", "api", "apikey", "pw", "password", "auth", "rk", "tok", "access"}
)
_CASES = re.compile(r"[A-Z]+|[a-z]+|[0-9]+", re.ASCII)


def _is_unknown_key(prefix: str, random: str) -> bool:
    parts = re.split("[_-]", prefix.lower())
    if (
        prefix.lower() in _IDS
        or (parts[-1] in _IDS and parts[-1] not in _OF_KEYS)
        or (parts[0] in _IDS and parts[0] not in _OF_KEYS)
    ):
        return False
    if len(prefix) > 12 and parts[-1] not in _OF_KEYS and parts[0] not in _OF_KEYS:
        return False  # a name that something was added to
    return (
        any(map(str.isupper, random))
        and any(map(str.islower, random))
        and any(map(str.isdigit, random))
        and 2.5 * len(_CASES.findall(random)) >= len(random)
        and entropy(random) >= 3.7
        and not is_wordy(random)
        and not is_placeholder_run(random)
    )


_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
# What is between the lines: their ends, also escaped, and what code, quotations and diffs put around them.
_PEM_FILLING = r"(?:\\[nr]|\\\\n|[\s\"'+>|#*,\\]|-(?!----))"
_PEM_GAP = re.compile(rf"{_PEM_FILLING}{{0,64}}+", re.ASCII)
_PEM_HEADER = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash|MessageID)\s?:[^\n\\]{1,120}", re.ASCII)
_PEM_LINE = re.compile(r"=?[A-Za-z0-9+/]{1,8192}+={0,2}", re.ASCII)
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
_WORD_OF_A_SENTENCE = re.compile(r"[A-Za-z]?[a-z]{0,15}", re.ASCII)


def _pem_blocks(view: View, found: list[Span]) -> None:
    text = view.ascii
    done = -1
    for start in positions(view.bytes, b"-----BEGIN "):
        if start < done:
            continue
        match = _PEM.match(text, start)
        if not match:
            continue
        done, has_key = _pem_end(text, match.end())
        if has_key:
            found.append((start, done, "SECRET"))
            view.because(start, done, "private key")


def _pem_end(text: str, position: int) -> tuple[int, bool]:
    """Give where a key's body ends: it goes on over what can be one, and no farther; and whether there is any of it."""
    last = position
    letters = 0
    while True:
        gap = _PEM_GAP.match(text, position)
        position = gap.end() if gap else position
        end = _PEM_END.match(text, position)
        if end:
            return end.end(), letters > 0
        header = _PEM_HEADER.match(text, position)
        if header:
            position = last = header.end()
            continue
        line = _PEM_LINE.match(text, position)
        if not line:
            return last, letters >= 8
        length = line.end() - line.start()
        # A word of the sentence around it; the last line of a key that is cut off may be as short, but has other letters.
        if _WORD_OF_A_SENTENCE.fullmatch(line.group()) or (line.end() < len(text) and text[line.end()] in "_.:(["):
            return last, letters >= 8
        if length < 16 and letters < 8 and not _END_SOON.match(text, line.end()):
            return last, False
        position = last = line.end()
        letters += length


_END_SOON = re.compile(
    rf"{_PEM_FILLING}{{0,64}}+(?:[A-Za-z0-9+/]{{1,70}}={{0,2}}{_PEM_FILLING}{{0,64}}+){{0,3}}-----END |\x1f|\Z",
    re.ASCII,
)


def _columns(view: View, found: list[Span]) -> None:
    taken = {(start, end) for start, end, _ in found} if view.columns else ()
    for name, start, end in view.columns:
        kind = name_kind(name)
        value = view.text[start:end]
        if kind is None or (start, end) in taken or PLACEHOLDER.fullmatch(value) or len(value) < 3:
            continue
        if kind is PASSWORD or (kind is not MAYBE and is_secret_value(kind, value, quoted=True)):
            found.append((start, end, "SECRET"))
            view.because(start, end, f"column {name!r}")
