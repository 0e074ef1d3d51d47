"""Text in which nothing is to be found, in the forms that agents meet: logs, tables, lock files, transcripts.

Made up from what the formats say, by chance, so that there is as much of it as one wants; the same seed gives the same
text. Where a form has addresses of machines (a web server's log), IP_ADDRESS is not counted in it: see `COUNTED`.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import random
import string
import sysconfig
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_mlflow_cost.redaction import ENTITIES

if TYPE_CHECKING:
    from collections.abc import Callable

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE62 = string.ascii_letters + string.digits
NAMES = (
    "worker",
    "scheduler",
    "cache",
    "storage",
    "router",
    "session",
    "planner",
    "index",
    "token",
    "auth",
    "queue",
    "key",
)
WORDS = (  # noqa: SIM905 - shorter than a list
    "the request was sent to service and returned after retry while processing block batch number call ring cell text "
    "portable order version update build tag key token password reset page row column value total amount index test "
    "module function class returns error failed opened closed started thread time port connection timeout"
).split()

Chance = random.Random


def _when(c: Chance) -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=c.randrange(300 * 86_400_000))


def _hex(c: Chance, size: int) -> str:
    return f"{c.getrandbits(4 * size):0{size}x}"


def _of(c: Chance, letters: str, size: int) -> str:
    return "".join(c.choices(letters, k=size))


def _words(c: Chance, count: int) -> str:
    return " ".join(c.choices(WORDS, k=count))


def _version(c: Chance) -> str:
    return ".".join(str(c.randrange(30)) for _ in range(c.choice((2, 3, 3, 4))))


def http(c: Chance) -> str:
    """Lines of a web server, in the combined format, with host names instead of addresses."""
    when = _when(c)
    path = "/".join(
        c.choices(
            ("api", "v1", "users", "items", "static", "img", "orders", "search", "key", "token"), k=c.randint(1, 4)
        )
    )
    query = c.choice(
        (
            "",
            f"?page={c.randrange(99)}",
            f"?id={c.getrandbits(63)}",
            f"?v={_version(c)}",
            f"?t={int(when.timestamp() * 1e3)}",
            f"?code={c.randrange(100, 600)}&state=ok",
        )
    )
    return (
        f'edge-{c.randrange(99)} - - [{when:%d/%b/%Y:%H:%M:%S} +0000] "{c.choice(("GET", "POST", "PUT"))} /{path}{query} HTTP/1.1" '
        f'{c.choice((200, 200, 304, 404, 500))} {c.randrange(1 << 22)} "-" "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 '
        f'(KHTML, like Gecko) Chrome/{c.randrange(80, 140)}.0.{c.randrange(9999)}.{c.randrange(200)} Safari/537.36" rt={c.random():.3f} '
        f"uct={c.random():.3f} reqid={_hex(c, 32)}\n"
    )


def jvm(c: Chance) -> str:
    """Lines of a Java service and of its garbage collector, with thread ids and traces."""
    when = _when(c)
    kind = c.randrange(5)
    if kind == 0:
        return f"[{when:%Y-%m-%dT%H:%M:%S}.{c.randrange(1000):03d}+0000][info][gc] GC({c.randrange(9999)}) Pause Young (Normal) (G1 Evacuation Pause) {c.randrange(4096)}M->{c.randrange(4096)}M({c.randrange(8192)}M) {c.random() * 50:.3f}ms\n"
    if kind == 1:
        return f'"http-nio-8080-exec-{c.randrange(200)}" #{c.randrange(999)} daemon prio=5 os_prio=0 cpu={c.random() * 1e4:.2f}ms tid=0x{_hex(c, 16)} nid=0x{_hex(c, 4)} waiting on condition  [0x{_hex(c, 16)}]\n'
    if kind == 2:
        return f"\tat com.example.{c.choice(NAMES)}.{c.choice(NAMES).title()}Service.handle({c.choice(NAMES).title()}Service.java:{c.randrange(900)}) ~[app-{_version(c)}.jar!/:{_version(c)}]\n"
    if kind == 3:
        return f"{when:%y%m%d %H%M%S} {c.randrange(9999)} INFO dfs.DataNode$PacketResponder: PacketResponder {c.randrange(3)} for block blk_{c.choice(('', '-'))}{c.getrandbits(63)} terminating\n"
    return f"{when:%Y-%m-%d %H:%M:%S},{c.randrange(1000):03d} INFO  [{c.choice(NAMES)}-{c.randrange(64)}] c.e.{c.choice(NAMES)}.Client - {_words(c, 8)} {c.getrandbits(40)} in {c.randrange(9999)} ms\n"


def android(c: Chance) -> str:
    """Lines of logcat: month and day, times, process and thread ids."""
    when = _when(c)
    pid = c.randrange(1000, 32000)
    tail = c.choice(
        (
            f'acquire lock={c.getrandbits(28)}, flags=0x1, tag="View Lock", name=com.android.systemui, ws=null, uid={c.randrange(10000, 10200)}, pid={pid}',
            f"jank_removeInvalidNode all the node in jank list is out of time {c.randrange(10**9)}",
            f"userActivityNoUpdateLocked: eventTime={c.randrange(10**9)}, event=2, flags=0x0, uid=1000",
            f"cancelPeek: key={c.randrange(9)}|com.android.phone|{c.randrange(99)}|null|{c.randrange(10000, 10200)}",
            f"ringing volume {c.randrange(15)} call {c.randrange(10**7)} cell {c.randrange(10**8)} {c.randrange(10**6)}",
            f"getRunningAppProcesses: caller {c.randrange(10000, 10200)} does not hold REAL_GET_TASKS; limiting output",
        )
    )
    return f"{when:%m-%d %H:%M:%S}.{c.randrange(1000):03d}  {pid:5d}  {c.randrange(1000, 32000):5d} {c.choice('DIVWE')} {c.choice(NAMES).title()}Manager: {tail}\n"


def kernel(c: Chance) -> str:
    """Lines of a Linux kernel and of a disassembler."""
    kind = c.randrange(5)
    if kind == 0:
        return f"[{c.random() * 1e5:12.6f}] BIOS-e820: [mem 0x{_hex(c, 16)}-0x{_hex(c, 16)}] usable\n"
    if kind == 1:
        return f".text:{_hex(c, 8).upper()} {_hex(c, 2)} {_hex(c, 2)} {_hex(c, 2)}  mov     eax, [ebp+{_hex(c, 4)}h]\n"
    if kind == 2:
        return f"  {c.randrange(10**8):08d}:\t{_hex(c, 2)} {_hex(c, 2)} {c.randrange(100):02d} {c.randrange(100):02d} 00 \tcall   {c.randrange(10**6):06d} <main+0x{_hex(c, 2)}>\n"
    if kind == 3:
        return f"[{c.random() * 1e5:12.6f}] pci 0000:{_hex(c, 2)}:{_hex(c, 2)}.{c.randrange(8)}: [8086:{_hex(c, 4)}] type 00 class 0x{_hex(c, 6)}\n"
    when = _when(c)
    return f"{when:%b %d %H:%M:%S} node{c.randrange(99)} kernel: audit: type={c.randrange(1100, 1400)} audit({int(when.timestamp())}.{c.randrange(1000):03d}:{c.randrange(99999)}): pid={c.randrange(65000)} uid=0 ses={c.randrange(9999)} res=1\n"


def database(c: Chance) -> str:
    """Lines of PostgreSQL and MySQL, plans and slow queries."""
    when = _when(c)
    kind = c.randrange(4)
    if kind == 0:
        return f"{when:%Y-%m-%d %H:%M:%S}.{c.randrange(1000):03d} UTC [{c.randrange(65000)}] LOG:  duration: {c.random() * 1e4:.3f} ms  execute <unnamed>: SELECT id, name, token FROM users WHERE id = {c.getrandbits(50)} AND key = $1\n"
    if kind == 1:
        return f"  ->  Index Scan using users_{c.choice(NAMES)}_idx on users  (cost=0.{c.randrange(99)}..{c.random() * 1e5:.2f} rows={c.randrange(10**7)} width={c.randrange(400)}) (actual time={c.random():.3f}..{c.random() * 99:.3f} rows={c.randrange(9999)} loops=1)\n"
    if kind == 2:
        return f"# Query_time: {c.random():.6f}  Lock_time: 0.000{c.randrange(999):03d} Rows_sent: {c.randrange(9999)}  Rows_examined: {c.randrange(10**7)}\nSET timestamp={int(when.timestamp())};\n"
    return f"INSERT INTO events VALUES ({c.getrandbits(63)}, {c.randrange(10**9)}, '{when:%Y-%m-%d %H:%M:%S}', {c.random() * 180 - 90:.6f}, {c.random() * 360 - 180:.6f});\n"


def lock_file(c: Chance) -> str:
    """Entries of npm's, Python's, Cargo's and Go's lock files."""
    name = f"{c.choice(NAMES)}-{c.choice(NAMES)}"
    digest = hashlib.sha512(str(c.random()).encode()).digest()
    kind = c.randrange(4)
    if kind == 0:
        return f'    "node_modules/@acme/{name}": {{\n      "version": "{_version(c)}",\n      "resolved": "https://registry.example.org/@acme/{name}/-/{name}-{_version(c)}.tgz",\n      "integrity": "sha512-{base64.b64encode(digest).decode()}"\n    }},\n'
    if kind == 1:
        return f"{name}=={_version(c)} \\\n    --hash=sha256:{digest.hex()[:64]} \\\n    --hash=sha256:{digest.hex()[64:]}\n"
    if kind == 2:
        return f'[[package]]\nname = "{name}"\nversion = "{_version(c)}"\nsource = "registry+https://github.com/rust-lang/crates.io-index"\nchecksum = "{digest.hex()[:64]}"\n\n'
    return f"github.com/acme/{name} v{_version(c)}-0.{_when(c):%Y%m%d%H%M%S}-{_hex(c, 12)} h1:{base64.b64encode(digest[:32]).decode()}\n"


def diff(c: Chance) -> str:
    """Hunks of a diff over code that is about tokens and keys."""
    line = c.randrange(999)
    return (
        f"diff --git a/src/{c.choice(NAMES)}.py b/src/{c.choice(NAMES)}.py\nindex {_hex(c, 7)}..{_hex(c, 7)} 100644\n"
        f"--- a/src/{c.choice(NAMES)}.py\n+++ b/src/{c.choice(NAMES)}.py\n@@ -{line},{c.randrange(20)} +{line + 3},{c.randrange(20)} @@ def {c.choice(NAMES)}(self):\n"
        f"-    token = make_{c.choice(NAMES)}(user.id, salt='v{c.randrange(9)}')\n+    token = make_{c.choice(NAMES)}(user.id, salt=settings.SALT_{c.randrange(9)})\n"
        f"     key: str = field(default_factory=lambda: uuid4().hex)\n-    password = getpass.getpass('Password: ')\n+    api_key = os.environ[\"API_KEY_{c.randrange(9)}\"]\n"
        f"     return {{'x': x @ w.T, 'n': {c.getrandbits(31)}, 'v': '{_version(c)}'}}\n"
    )


def traceback(c: Chance) -> str:
    """Tracebacks of Python and JavaScript."""
    if c.random() < 0.5:
        return (
            f'Traceback (most recent call last):\n  File "/usr/lib/python3.11/site-packages/{c.choice(NAMES)}/{c.choice(NAMES)}.py", line {c.randrange(2000)}, in {c.choice(NAMES)}\n'
            f"    return self.{c.choice(NAMES)}(key=key, token=self._token, n={c.randrange(10**6)})\n           ^^^^^^^^^^^^^^^^^^^^^^\n"
            f"KeyError: '{c.choice(NAMES)}_{c.randrange(999)}'\n<{c.choice(NAMES).title()} object at 0x{_hex(c, 12)}>\n"
        )
    return f"    at async {c.choice(NAMES).title()}.{c.choice(NAMES)} (webpack-internal:///./src/{c.choice(NAMES)}.tsx:{c.randrange(999)}:{c.randrange(99)})\n    at process.processTicksAndRejections (node:internal/process/task_queues:{c.randrange(200)}:{c.randrange(9)})\n"


def notebook(c: Chance) -> str:
    """Cells of a notebook, with numbers as pandas prints them."""
    rows = "".join(
        f'      "{i}  {c.random() * 1e3:10.4f}  {c.randrange(10**7):8d}  {c.gauss(0, 1):9.6f}  {_when(c):%Y-%m-%d}\\n",\n'
        for i in range(6)
    )
    return (
        f'  {{\n   "cell_type": "code",\n   "execution_count": {c.randrange(99)},\n   "id": "{_hex(c, 8)}",\n   "metadata": {{}},\n   "outputs": [\n    {{\n     "data": {{\n      "text/plain": [\n'
        f'{rows}      "[{c.randrange(9)} rows x {c.randrange(9)} columns]"\n      ]\n     }},\n     "execution_count": {c.randrange(99)}\n    }}\n   ],\n   "source": [\n    "df.groupby(\'{c.choice(NAMES)}\').agg({{\'key\': \'sum\'}})"\n   ]\n  }},\n'
    )


def openapi(c: Chance) -> str:
    """Parts of an OpenAPI document in YAML, about users and their passwords."""
    return (
        f"  /{c.choice(NAMES)}/{{id}}:\n    post:\n      operationId: {c.choice(NAMES)}{c.randrange(99)}\n      security:\n        - bearerAuth: []\n      parameters:\n        - name: token\n          in: query\n"
        "          schema:\n            type: string\n            format: uuid\n      requestBody:\n        content:\n          application/json:\n            schema:\n              properties:\n"
        f"                password:\n                  type: string\n                  format: password\n                  minLength: {c.randrange(6, 14)}\n                phone:\n                  type: string\n"
        f"                  pattern: '^\\+[1-9]\\d{{1,14}}$'\n                key:\n                  type: string\n                  maxLength: {c.randrange(999)}\n      responses:\n        '{c.choice((200, 201, 404))}':\n          description: {_words(c, 5)}\n"
    )


def transcript(c: Chance) -> str:
    """Turns of an agent with tools: ids of calls, messages and runs, arguments that are called key and token."""
    key = c.choice(
        (
            f"cache/v2/{_hex(c, 16)}", f"arn:aws:s3:::bucket-{c.randrange(99)}/reports/{c.randrange(9999)}.csv", f"users/{c.getrandbits(40)}/avatar.png", str(uuid.UUID(int=c.getrandbits(128))),
            _of(c, CROCKFORD, 26), _hex(c, 40), f"session:{c.choice(NAMES)}:{c.randrange(99)}", f"{c.choice(NAMES)}-{c.choice(NAMES)}-{c.randrange(999)}.json", f"gs://acme/{c.choice(NAMES)}/part-{c.randrange(99999):05d}",
        )
    )  # fmt: skip
    return (
        json.dumps(
            {
                "type": "ai",
                "id": c.choice(
                    (
                        f"run--{uuid.UUID(int=c.getrandbits(128))}-0",
                        f"msg_01{_of(c, BASE58, 22)}",
                        f"chatcmpl-{_of(c, BASE62, 29)}",
                        f"resp_{_hex(c, 48)}",
                    )
                ),
                "tool_calls": [
                    {
                        "name": c.choice(("s3_get", "search", "read_file", "reset_password", "call_api")),
                        "args": {
                            "key": key,
                            "token": c.choice(("hello", "<eos>", " the", "##ing")),
                            "cursor": _of(c, BASE62, 24),
                            "auth": "none",
                            "page_token": _of(c, BASE62, 20),
                        },
                        "id": c.choice(
                            (
                                f"call_{_of(c, BASE62, 24)}",
                                f"toolu_01{_of(c, BASE58, 22)}",
                                f"tooluse_{_of(c, BASE62, 22)}",
                                f"fc_{_hex(c, 48)}",
                            )
                        ),
                    }
                ],
                "usage": {"input_tokens": c.randrange(10**5), "total_tokens": c.randrange(10**6)},
                "model": "gpt-4o-mini-2024-07-18",
                "system_fingerprint": f"fp_{_hex(c, 10)}",
            }
        )
        + f"\nTool output: {_words(c, 12)} {c.randrange(10**6)}; {_words(c, 6)}.\n"
    )


def ids(c: Chance) -> str:
    """Ids of 64 bits, of 128, ULIDs, KSUIDs, content ids, digests."""
    return c.choice(
        (
            lambda: f"trace_id={c.getrandbits(64)} span_id={c.getrandbits(63)}", lambda: f"snowflake {c.randrange(10**17, 2 * 10**18)}", lambda: _of(c, CROCKFORD[:8], 1) + _of(c, CROCKFORD, 25),
            lambda: f"ksuid {_of(c, BASE62, 27)}", lambda: f"uuid {uuid.UUID(int=c.getrandbits(128))}", lambda: f"sha256:{_hex(c, 64)}", lambda: f"commit {_hex(c, 40)}", lambda: f"1Z{_of(c, string.ascii_uppercase + string.digits, 16)}",
            lambda: f"EAN {c.randrange(10**12, 10**13)}", lambda: f"tracking {c.randrange(10**11, 10**12)}", lambda: f"parcel {c.randrange(10**19, 10**20)}", lambda: f"blk_{c.getrandbits(62)}", lambda: f"cl{_of(c, string.ascii_lowercase + string.digits, 23)}",
            lambda: f"user_01{_of(c, CROCKFORD.lower(), 24)}", lambda: f"cus_{_of(c, BASE62, 14)} pi_{_of(c, BASE62, 24)} evt_{_of(c, BASE62, 24)}", lambda: f"order-{c.randrange(10**9)}-{c.randrange(10**6)}",
        )
    )() + "\n"  # fmt: skip


def times(c: Chance) -> str:
    """Times in all the ways in which they are written."""
    when = _when(c)
    seconds = when.timestamp()
    return c.choice(
        (
            f"{when.isoformat()}", f"{int(seconds)}", f"{int(seconds * 1e3)}", f"{int(seconds * 1e6)}", f"{int(seconds * 1e9)}", f"{seconds:.6f}", f"{when:%Y%m%d%H%M%S}", f"{when:%Y%m%dT%H%M%SZ}", f"{when:%d.%m.%Y %H:%M:%S}", f"{when:%m/%d/%y %I:%M %p}",
            f"{when:%Y-%m-%d %H.%M.%S}", f"{when:%a, %d %b %Y %H:%M:%S +0000}", f"{when:%y%m%d_%H%M%S}", f"{when:%H:%M:%S}.{c.randrange(10**9):09d}", f"{when:%Y-%j}", f"{when:%Y/%m/%d-%H:%M:%S}.{c.randrange(10**6):06d} {_hex(c, 12)}", f"{when:%Y.%m.%d.%H.%M}",
        )
    ) + c.choice(("\n", " ", ",", "\t"))  # fmt: skip


def integers(c: Chance) -> str:
    """Rows of tables of integers, with blanks, tabs, commas and bars between them."""
    mark = c.choice((" ", "  ", "\t", ",", " | ", ", "))
    size = c.choice((3, 4, 5, 6, 8))
    width = c.choice((0, 0, size))
    return mark.join(f"{c.randrange(10 ** c.randint(1, size)):{width}d}" for _ in range(c.randint(4, 10))) + "\n"


def coordinates(c: Chance) -> str:
    """Places and paths: pairs of degrees, drawings, matrices."""
    return c.choice(
        (
            f"{c.uniform(-90, 90):.6f}, {c.uniform(-180, 180):.6f}\n", f"POINT({c.uniform(-180, 180):.7f} {c.uniform(-90, 90):.7f})\n", f'<path d="M{c.uniform(0, 500):.2f} {c.uniform(0, 500):.2f}C{c.randrange(500)} {c.randrange(500)} {c.randrange(500)} {c.randrange(500)} {c.randrange(500)} {c.randrange(500)}z"/>\n',
            f"[{c.gauss(0, 1):.8f}, {c.gauss(0, 1):.8f}, {c.gauss(0, 1):.8f}]\n", f'<polygon points="{c.randrange(999)},{c.randrange(999)} {c.randrange(999)},{c.randrange(999)} {c.randrange(999)},{c.randrange(999)}"/>\n', f"bbox {c.randrange(2000)} {c.randrange(2000)} {c.randrange(2000)} {c.randrange(2000)}\n",
        )
    )  # fmt: skip


def versions(c: Chance) -> str:
    """Four-part versions where they stand: after products, in project files, in names of packages."""
    four = ".".join(str(c.randrange(1, 40)) for _ in range(4))
    return c.choice(
        (
            f"nginx 1.{four[four.index('.') + 1 :]}\n", f"client version {four}\n", f'{{"version": "{four}"}}\n', f'[assembly: AssemblyVersion("{four}")]\n', f"{c.choice(NAMES)}-{four}.jar\n", f"## [{four}] - 2026-01-02\n", f'<PackageReference Include="A.B" Version="{four}" />\n', f"Bump {c.choice(NAMES)} from {four} to {four}1\n",
            f"FileVersion: {four}\n", f"Acme.{c.choice(NAMES).title()}.{four}.nupkg\n", f"<Version>{four}</Version>\n", f"{c.choice(NAMES)}@{four}\n", f"Chrome/{c.randrange(90, 140)}.0.{c.randrange(6000)}.{c.randrange(200)}\n", f"driver_version = '{four}'\n", f"release v{four}\n", f"server version {four} started\n",
        )
    )  # fmt: skip


def css(c: Chance) -> str:
    """Style sheets, classes and catalogues of translations."""
    return c.choice(
        (
            f".sk-fading-circle .sk-circle{c.randrange(12)}:before {{ animation-delay: -{c.random():.1f}s; --token-color-primary-{c.randrange(9)}00: #{_hex(c, 6)}; }}\n", f'<div class="key-{c.choice(NAMES)} sk-{c.choice(NAMES)}-{c.choice(NAMES)}-{c.randrange(12)} Button_root__{_of(c, BASE62, 5)}">\n',
            '  "password": "Passwort",\n  "forgot_password": "Passwort vergessen?",\n  "password_hint": "Mindestens 8 Zeichen",\n', "password: Mot de passe\ntoken: Jeton\nkey: Clé\nsecret: Geheimnis\n", f'"auth.token.expired": "Your token expired {c.randrange(9)} days ago", "login.password.label": "Password",\n',
        )
    )  # fmt: skip


FORMS: dict[str, Callable[[Chance], str]] = {
    one.__name__: one
    for one in (http, jvm, android, kernel, database, lock_file, diff, traceback, notebook, openapi, transcript, ids, times, integers, coordinates, versions, css)
}  # fmt: skip
# A row of plain digits may be the number of a card, which is all that a card has: 1 in 30 of 16 digits is valid.
NOT_COUNTED: dict[str, frozenset[str]] = {}


def innocent(form: str, size: int, seed: int = 1) -> str:
    """Make so many characters of a form."""
    chance = random.Random(f"{form}{seed}")
    parts = []
    length = 0
    while length < size:
        parts.append(FORMS[form](chance))
        length += len(parts[-1])
    return "".join(parts)


def code(size: int) -> str:
    """Take source code that is installed."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts = []
    length = 0
    for path in sorted(folder.rglob("*.py")):
        if any(part in {"test", "tests", "site-packages", "lib2to3", "idlelib"} for part in path.parts):
            continue
        parts.append(path.read_text(encoding="utf-8", errors="replace"))
        length += len(parts[-1])
        if length > size:
            break
    return "\n".join(parts)


COUNTED = frozenset(ENTITIES)
