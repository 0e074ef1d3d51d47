"""Labelled text made up from templates, for measuring what is found; the same seed gives the same rows.

Two sets with nothing in common but the kinds of value: `tune` was looked at while the rules were written, `aside`
has other sentences, other locales and other near misses, and is only measured.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import random
import string
import uuid
from typing import TYPE_CHECKING, NamedTuple

import phonenumbers
from faker import Faker
from scoring import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALPHABETS = {
    "A": string.ascii_letters + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "L": string.ascii_lowercase + string.digits,
    "H": "0123456789abcdef",
    "D": string.digits,
    "W": string.ascii_letters + string.digits + "_-",
    "B": string.ascii_letters + string.digits + "+/",
}

# A shape is literal text with `{alphabet count}` in it, written as the providers document their keys.
KEYS = (
    "sk-{A48}", "sk-proj-{A20}T3BlbkFJ{A20}", "sk-ant-api03-{W93}AA", "sk-or-v1-{H64}", "AIza{W35}", "gsk_{A52}",
    "hf_{A34}", "r8_{A37}", "xai-{A80}", "pplx-{A48}", "nvapi-{W64}", "lsv2_pt_{H32}_{H10}", "tvly-{A32}",
    "AKIA{U16}", "ASIA{U16}", "LTAI{A20}", "ya29.{W120}", "GOCSPX-{W28}", "dop_v1_{H64}", "ghp_{A36}", "gho_{A36}",
    "ghs_{A36}", "github_pat_{A22}_{A59}", "glpat-{W20}", "glptt-{H40}", "npm_{A36}", "pypi-AgEIcHlwaS5vcmc{W150}",
    "rubygems_{H48}", "dckr_pat_{W27}", "xoxb-{D12}-{D13}-{A24}", "xoxp-{D12}-{D12}-{D12}-{H32}",
    "xapp-1-{U11}-{D13}-{H64}", "https://hooks.slack.com/services/T{U8}/B{U8}/{A24}", "SG.{W22}.{W43}",
    "xkeysib-{H64}-{A16}", "key-{H32}", "{H32}-us14", "sk_live_{A24}", "rk_live_{A24}", "sk_test_{A24}",
    "sq0atp-{W22}", "shpat_{H32}", "shpss_{H32}", "NRAK-{U27}", "glsa_{A32}_{H8}", "sntrys_{B80}", "PMAK-{H24}-{H34}",
    "lin_api_{A40}", "ntn_{A46}", "secret_{A43}", "pat{A14}.{H64}", "figd_{W40}", "hvs.{W95}", "dapi{H32}",
    "{A14}.atlasv1.{W67}", "{D10}:AA{W33}", "dp.pt.{A43}", "tskey-auth-{A12}-{A32}", "CCIPAT_{A22}_{H40}",
    "sgp_{H40}", "SK{H32}", "phx_{A43}", "dt0c01.{U24}.{U64}", "FLWSECK-{H32}-X", "EZAK{A54}", "shippo_live_{H40}",
    "whsec_{A32}", "sbp_{H40}", "pscale_tkn_{W43}", "AGE-SECRET-KEY-1{U58}", "fo1_{W43}", "pul-{H40}", "HRKU-{W60}",
    "bkua_{H40}", "pcsk_{A6}_{A60}", "wandb_v1_{A77}", "rdme_{L70}", "tfp_{A44}", "CFPAT-{W43}", "ATBB{A32}",
)  # fmt: skip

TUNE_NAMES = (
    "API_KEY",
    "SECRET_KEY",
    "DB_PASSWORD",
    "client_secret",
    "access_token",
    "auth_token",
    "AWS_SECRET_ACCESS_KEY",
)
ASIDE_NAMES = (
    "STRIPE_SECRET",
    "apiKey",
    "MYSQL_PASSWORD",
    "refresh_token",
    "private_key",
    "SMTP_PASS",
    "encryption_key",
    "x-api-key",
)


class Template(NamedTuple):
    """A sentence with a place for a value."""

    before: str
    after: str


def _templates(*sentences: str) -> tuple[Template, ...]:
    return tuple(Template(*sentence.split("@@", 1)) for sentence in sentences)


SENTENCES = {
    "tune": _templates(
        "@@", "Please note @@ for later.", "It is @@, I think", '{"value": "@@"}', "name,@@,active", "- @@\n- nothing else",
        "I was told: @@.", "[@@]", "Anna Meyer <@@>", "see (@@) and\nmore", "値は@@です", "Это @@ там", "x=@@;y=1",
    ),
    "aside": _templates(
        "@@ was given yesterday", "She wrote @@ on the back.", "'@@'", 'fields: [1, "@@", null]', "| row | @@ | ok |",
        "Got @@\tthanks", "我的是@@，谢谢", "{'k': '@@'}", "Subject: Re: @@", "final answer -> @@", "والقيمة @@ هنا", "<td>@@</td>",
    ),
}  # fmt: skip

PHONE_SENTENCES = {
    "tune": _templates(
        "Call me at @@ tomorrow", "Phone: @@", "tel. @@", "My number is @@.", "Mobile @@ or e-mail", "fax:@@", "Tel: @@, ask for Ana",
        "Reach her on @@ after six", "WhatsApp @@", "Telefon: @@", "Tél. : @@", "Teléfono @@", "contact: @@", "电话：@@", "cell @@ (evenings)",
    ),
    "aside": _templates(
        "you can text me on @@", "Phone number: @@", "Please dial @@ for support", "Mob: @@", "Hotline @@ is open", "ring @@ back",
        "Ph: @@", "Handy: @@", "Numéro de téléphone : @@", "móvil: @@", "手机号@@", "Тел.: @@", "T: @@", "She called from @@ twice", "phone=@@",
    ),
}  # fmt: skip

BARE_PHONE_SENTENCES = {
    "tune": _templates("Anna Meyer, @@", "@@ (office)", "Sales - @@ - Berlin"),
    "aside": _templates("J. Smith @@", "Front desk: @@", "@@ / @home"),
}

MISSES: dict[str, tuple[str, ...]] = {
    "tune": (
        "order number 4155550132 shipped", "Invoice 2024-0012345", "build 20240115.3 passed", "2024-01-15 10:30:45", "15/01/2024 09:00",
        "version 1.2.3.4 of the driver", "numpy==1.26.4", "ISBN 978-3-16-148410-0", "lat 52.520008, lon 13.404954", "pi is 3.14159265358979",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b", "id 550e8400-e29b-41d4-a716-446655440000", "timestamp 1700000000123",
        "epoch 1748503543012 ms", "total: 1 234 567 units", "SKU 123-456-7890", "port 8080-8090", "scores = q@k.transpose(-2, -1)",
        "x@W.view(-1)", "@app.route('/users')", "npm i @babel/core@7.23.0", "user@localhost", "git@github.com:owner/repo.git",
        "total_tokens: 1234, max_tokens=4096", "password = getpass.getpass()", "api_key=os.environ['API_KEY']", "tokenizer = AutoTokenizer",
        "secret_name: prod/db/main", "public_key = 'MFkwEwYHKoZIzj0CAQ'", "password: must be at least 8 characters", "the token is used once",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "12:34:56", "std::vector<int> a::b", "aa:bb:cc",
        "page 12 of 345", "the years 1998-2004", "4111 1111 1111 1112", "DE89 3704 0044 0532 0130 01", "key: value", "token=<YOUR_TOKEN>",
        "API_KEY=your-api-key-here", "rate 12.5% of 1,234,567.89", "GPT-4 scored 86.4 and 1234567 tokens", "x[1::2]", "ratio 16:9",
    ),
    "aside": (
        "Ticket #7001234567 is closed", "tracking 1Z999AA10123456784", "ref 20231105-448812-77", "meeting 2023-11-05T14:48:00.000Z",
        "05.11.2023 14:48", "release 10.0.19045.3803", "torch>=2.1.0,<3", "ISSN 2049-3630", "40.712776,-74.005974", "e = 2.718281828459045",
        "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709", "req_id=7d9f1c2e-3b4a-4c5d-8e6f-0a1b2c3d4e5f", "ts=1699195680", "created 1699195680123456",
        "population 8 336 817", "part no. 555-0199-22", "10.000.000 Einwohner", "loss = (a@b.T).sum()", "y = A@x.reshape(3)", "@dataclass(frozen=True)",
        "yarn add @types/node@20.10.0", "root@ip", "ssh://git@bitbucket.org", "completion_tokens=57 prompt_tokens=1024", "password=request.form['password']",
        "token = tokenizer.next_token", "client_secret: ${CLIENT_SECRET}", "primary_key=True", "cache_key = 'user:1234:profile'", "secrets are rotated monthly",
        "integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==", "at 08:15:30 UTC", "Foo::Bar::baz()",
        "MAC and cheese", "chapter 12.4.1.3", "items 1-2-3-4-5-6", "seasons 2019/2020", "card ending 4242", "GB29 NWBK 6016 1331 9268 18", "monkey: banana",
        "auth_token=xxxxxxxxxxxxxxxxxxxx", "passwd: ********", "EUR 1.234.567,89", "the code is 482913", "latency p99 1234.5678 ms", "arr[::2]", "#include <a.h>",
        "RFC 2822, RFC 5322", "0.123456789012345", "rows 1000000-2000000", "Win32 10.0", "key findings: revenue grew 12% in 2023",
    ),
}  # fmt: skip

_LOCALES = {
    "tune": ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "nl_NL", "pl_PL", "sv_SE", "ja_JP", "ko_KR", "zh_CN", "ru_RU", "en_IN"),
    "aside": ("en_CA", "en_AU", "de_AT", "fr_CA", "es_MX", "pt_PT", "da_DK", "fi_FI", "no_NO", "cs_CZ", "tr_TR", "el_GR", "uk_UA", "zh_TW", "hu_HU"),
}  # fmt: skip


def rows(part: str, seed: int = 1) -> list[Row]:
    """Make about 2,000 rows of a part: `tune` or `aside`."""
    return list(_Maker(part, seed).rows())


class _Maker:
    def __init__(self, part: str, seed: int) -> None:
        self.part = part
        self.random = random.Random(f"{part}{seed}")
        self.fakers = []
        for locale in _LOCALES[part]:
            fake = Faker(locale)
            fake.seed_instance(f"{part}{seed}{locale}")
            self.fakers.append(fake)

    def rows(self) -> Iterator[Row]:
        makers: dict[str, tuple[int, Callable[[], str]]] = {
            "EMAIL_ADDRESS": (250, self.email),
            "CREDIT_CARD": (220, self.card),
            "IBAN_CODE": (220, self.iban),
            "US_SSN": (80, self.ssn),
            "IP_ADDRESS": (220, self.ip),
            "MAC_ADDRESS": (80, self.mac),
        }
        for entity, (count, make) in makers.items():
            for i in range(count):
                value = make()
                yield self.row(value, entity, SENTENCES[self.part])
                if i % 8 == 0:
                    yield self.odd(value, entity)
        yield from self.phones()
        yield from self.secrets()
        for text in MISSES[self.part]:
            yield Row(text, (), ALL, tags=("miss",))
        for _ in range(150):
            yield Row(self.made_up_miss(), (), ALL, tags=("miss",))

    def pick(self, options: object) -> object:
        return self.random.choice(options)  # type: ignore[arg-type]

    def row(self, value: str, entity: str, sentences: tuple[Template, ...], tag: str = "plain") -> Row:
        sentence = self.random.choice(sentences)
        start = len(sentence.before)
        end = start + len(value)
        text = f"{sentence.before}{value}{sentence.after}"
        return Row(text, ((start, end, entity, start, end),), frozenset({entity}), tags=(tag,))

    def odd(self, value: str, entity: str) -> Row:
        """Write a value as people write it to get past a filter, or as a keyboard does."""
        how = self.random.randrange(5)
        if how == 0:
            value = "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in value)
        elif how == 1:
            at = self.random.randrange(1, len(value))
            value = value[:at] + self.random.choice("\u200b\u200d\u2060\ufeff\u200e") + value[at:]
        elif how == 2:
            value = value.replace("-", self.random.choice("\u2010\u2011\u2013\u2212")).replace(" ", "\u00a0")
        elif how == 3:
            arabic = "\u0660" if self.random.random() < 0.5 else "\u06f0"
            value = (
                "".join(chr(ord(arabic) + int(c)) if c.isdigit() else c for c in value)
                if entity != "EMAIL_ADDRESS"
                else value
            )
        else:
            value = value.replace(" ", "\u2009").replace("@", "＠")
        sentences = (
            _templates("联系@@吧", "\u202b@@\u202c", "→@@←")
            if self.part == "aside"
            else _templates("请记@@好", "“@@”", "は@@と")
        )
        return self.row(value, entity, sentences, "odd")

    def fake(self) -> Faker:
        return self.random.choice(self.fakers)

    def shape(self, shape: str) -> str:
        out = []
        for piece in shape.split("{"):
            head, _, tail = piece.partition("}")
            if tail or (head[:1] in ALPHABETS and head[1:].isdigit() and piece.endswith("}")):
                out.append("".join(self.random.choices(ALPHABETS[head[0]], k=int(head[1:]))))
                out.append(tail)
            else:
                out.append(piece)
        return "".join(out)

    def email(self) -> str:  # noqa: PLR0911 - one kind each
        fake = self.fake()
        plain = fake.ascii_email()
        local, _, domain = plain.partition("@")
        kind = self.random.randrange(10)
        if kind == 0:
            return f"{local}+{self.random.choice(['news', 'test', '2024'])}@{domain}"
        if kind == 1:
            return f"{local}@mail.{self.random.choice(['corp', 'eu', 'dept-7'])}.{domain}"
        if kind == 2:
            return plain.upper()
        if kind == 3:
            return f"{self.random.choice(['jürgen', 'françois', 'søren', 'mária'])}.{local}@{domain}"
        if kind == 4:
            return f"{local}@{self.random.choice(['bücher', 'señor', 'müller-bau'])}.{self.random.choice(['de', 'es', 'com'])}"
        if kind == 5:
            return f"{local}_{self.random.randint(1, 99)}@{self.random.choice(['xn--bcher-kva.de', 'x.co', 'example.museum', 'sub.domain.co.uk', 'a-b.io'])}"
        return plain

    def card(self) -> str:
        fake = self.fakers[0]
        number = fake.credit_card_number(
            self.random.choice(
                ["visa", "visa16", "visa19", "mastercard", "amex", "discover", "diners", "jcb16", "jcb15"]
            )
        )
        if len(number) == 16 and self.random.random() < 0.5:
            separator = self.random.choice(" -")
            return separator.join(number[i : i + 4] for i in range(0, 16, 4))
        if len(number) == 15 and self.random.random() < 0.5:
            separator = self.random.choice(" -")
            return separator.join((number[:4], number[4:10], number[10:]))
        if len(number) == 19:
            # In one piece it is an id of 64 bits as often: then a word must say what it is.
            return " ".join((number[:4], number[4:8], number[8:12], number[12:16], number[16:]))
        if len(number) == 14 and self.random.random() < 0.5:
            return f"{number[:4]} {number[4:10]} {number[10:]}"
        return number

    def iban(self) -> str:
        lengths = "AL28 AT20 BE16 BG22 CH21 CY28 CZ24 DE22 DK18 EE20 ES24 FI18 FR27 GB22 GR27 HR21 HU28 IE22 IL23 IT27 LT20 LU20 LV21 MT31 NL18 NO15 PL28 PT25 RO24 SA24 SE24 SI19 SK24 TR26 UA29 AE23 BR29"
        entry = self.random.choice(lengths.split())
        country, length = entry[:2], int(entry[2:])
        letters = 4 if country in {"GB", "NL", "BG", "IE", "LV", "MT", "RO"} else 0
        account = "".join(self.random.choices(string.ascii_uppercase, k=letters))
        account += "".join(self.random.choices(string.digits, k=length - 4 - letters))
        check = 98 - int("".join(str(int(c, 36)) for c in account + country + "00")) % 97
        whole = f"{country}{check:02d}{account}"
        kind = self.random.randrange(4)
        if kind == 0:
            return whole
        separator = "-" if kind == 3 and self.random.random() < 0.3 else " "
        return separator.join(whole[i : i + 4] for i in range(0, length, 4))

    def ssn(self) -> str:
        area = self.random.choice([n for n in range(1, 900) if n != 666])
        separator = self.random.choice("---- .")
        return f"{area:03d}{separator}{self.random.randint(1, 99):02d}{separator}{self.random.randint(1, 9999):04d}"

    def ip(self) -> str:
        kind = self.random.randrange(8)
        if kind < 3:
            return str(ipaddress.IPv4Address(self.random.getrandbits(32) | 0x01000000))
        if kind == 3:
            return f"{self.random.choice([10, 172, 192])}.{self.random.randint(0, 255)}.{self.random.randint(0, 255)}.0/{self.random.choice([8, 16, 24])}"
        six = ipaddress.IPv6Address(self.random.getrandbits(128) | 0x2 << 124)
        if kind == 4:
            return str(six)
        if kind == 5:
            return f"2001:db8:{self.random.randint(1, 0xFFFF):x}::{self.random.randint(1, 0xFFFF):x}:{self.random.randint(1, 0xFFFF):x}"
        if kind == 6:
            return f"fe80::{self.random.randint(0x100, 0xFFFF):x}:{self.random.randint(1, 0xFFFF):x}%eth0"
        return f"::ffff:{ipaddress.IPv4Address(self.random.getrandbits(31) | 0x01000000)}"

    def mac(self) -> str:
        pairs = [f"{self.random.randrange(256):02x}" for _ in range(6)]
        pairs[0] = self.random.choice(["00", "a4", "3c", "f0"])
        pairs[5] = self.random.choice(["9a", "bf", "c0", "7e"])
        kind = self.random.randrange(4)
        if kind == 0:
            return ":".join(pairs).upper()
        if kind == 1:
            return "-".join(pairs)
        if kind == 2:
            return ".".join("".join(pairs[i : i + 2]) for i in (0, 2, 4))
        return ":".join(pairs)

    def phones(self) -> Iterator[Row]:
        regions = sorted(phonenumbers.SUPPORTED_REGIONS)
        regions = regions[::2] if self.part == "tune" else regions[1::2]
        # The countries that most people call from, more often.
        regions += ["US", "GB", "DE", "FR", "IN", "BR", "JP", "CN", "IT", "ES", "AU", "CA"] * 6
        formats = phonenumbers.PhoneNumberFormat
        for i, region in enumerate(regions):
            kind = self.random.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
            number = self.valid_number(region, kind)
            if number is None:
                continue
            form = self.random.choice(
                [formats.E164, formats.INTERNATIONAL, formats.INTERNATIONAL, formats.NATIONAL, formats.NATIONAL]
            )
            value = phonenumbers.format_number(number, form)
            bare = form != formats.NATIONAL and self.random.random() < 0.4
            yield self.row(value, "PHONE_NUMBER", (BARE_PHONE_SENTENCES if bare else PHONE_SENTENCES)[self.part])
            if i % 8 == 0:
                international = phonenumbers.format_number(number, formats.INTERNATIONAL)
                yield self.odd(international, "PHONE_NUMBER")
        for _ in range(200):
            yield self.row(self.fake().phone_number(), "PHONE_NUMBER", PHONE_SENTENCES[self.part], "faker")

    def valid_number(self, region: str, kind: int) -> phonenumbers.PhoneNumber | None:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            return None
        digits = str(example.national_number)
        for _ in range(20):
            tail = "".join(self.random.choices(string.digits, k=4))
            number = phonenumbers.PhoneNumber(
                country_code=example.country_code, national_number=int(digits[:-4] + tail)
            )
            number.italian_leading_zero = example.italian_leading_zero
            if phonenumbers.is_valid_number(number):
                return number
        return example

    def password(self) -> str:
        kind = self.random.randrange(4)
        if kind == 0:
            return (
                "".join(
                    self.random.choices(string.ascii_letters + string.digits + "!#%^*+", k=self.random.randint(9, 20))
                )
                + "7"
            )
        if kind == 1:
            return self.fakers[0].word().capitalize() + str(self.random.randint(10, 9999)) + self.random.choice("!#%")
        return "".join(self.random.choices(string.ascii_letters + string.digits, k=self.random.randint(20, 40)))

    def secrets(self) -> Iterator[Row]:
        for shape in KEYS:
            for _ in range(2):
                yield self.row(self.shape(shape), "SECRET", SENTENCES[self.part])
        names = TUNE_NAMES if self.part == "tune" else ASIDE_NAMES
        forms = (
            ("{n}={v}", '{n} = "{v}"', "{n}: {v}", '"{n}": "{v}"', "export {n}='{v}'", "--{n} {v}", "{n} := `{v}`")
            if self.part == "tune"
            else (
                "{n}={v}\nDEBUG=1",
                "const {n} = '{v}';",
                "- {n}: {v}",
                '{{"{n}":"{v}","a":1}}',
                "set {n}={v}",
                "--{n}={v}",
                "<{n}>{v}</{n}>",
                "{n} => '{v}',",
            )
        )
        for _ in range(170):
            name, form = self.random.choice(names), self.random.choice(forms)
            value = self.password()
            if "PASS" not in name:
                value = self.shape(self.random.choice(["{A32}", "{H40}", "{W43}", "{B40}"]))
            text = form.format(n=name, v=value)
            start = text.index(value)
            yield Row(
                text, ((start, start + len(value), "SECRET", 0, len(text)),), frozenset({"SECRET"}), tags=("named",)
            )
        for _ in range(30):
            password = "".join(self.random.choices(string.ascii_letters + string.digits, k=12))
            scheme = self.random.choice(["postgres", "mysql", "https", "redis", "amqp", "mongodb+srv"])
            text = f"{scheme}://{self.fakers[0].user_name()}:{password}@{self.fakers[0].domain_name()}/x"
            start = text.index(password)
            yield Row(text, ((start, start + 12, "SECRET", 0, len(text)),), frozenset({"SECRET"}), tags=("url",))
        for _ in range(20):
            claims = (
                base64.urlsafe_b64encode(f'{{"sub":"{self.random.randrange(10**9)}"}}'.encode()).decode().rstrip("=")
            )
            yield self.row(
                f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{claims}.{self.shape('{W43}')}",
                "SECRET",
                SENTENCES[self.part],
                "jwt",
            )
            header = self.random.choice(
                ["Authorization: Bearer ", "Authorization: Basic ", "curl -H 'Authorization: Bearer "]
            )
            value = self.shape("{A40}")
            yield Row(
                header + value,
                ((len(header), len(header) + 40, "SECRET", 0, len(header) + 40),),
                frozenset({"SECRET"}),
                tags=("header",),
            )
        for _ in range(10):
            body = "\n".join(self.shape("{B64}") for _ in range(6))
            kind = self.random.choice(["", "RSA ", "EC ", "OPENSSH "])
            end = f"\n-----END {kind}PRIVATE KEY-----" if self.random.random() < 0.5 else ""
            yield self.row(
                f"-----BEGIN {kind}PRIVATE KEY-----\n{body}{end}", "SECRET", _templates("@@", "key:\n@@"), "pem"
            )

    def made_up_miss(self) -> str:
        choice = self.random.randrange(14)
        r = self.random
        return (
            f"id {uuid.UUID(int=r.getrandbits(128))}",
            f"sha {hashlib.sha1(str(r.random()).encode()).hexdigest()}",
            f"order {r.randrange(10**9, 10**10)}",
            f"{r.randint(1990, 2030)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d} {r.randint(0, 23):02d}:{r.randint(0, 59):02d}",
            f"{r.randint(1, 28):02d}.{r.randint(1, 12):02d}.{r.randint(1990, 2030)}",
            f"v{r.randint(0, 9)}.{r.randint(0, 99)}.{r.randint(0, 99)}.{r.randint(0, 99)}",
            f"price {r.randint(1, 999)} {r.randint(100, 999)} {r.randint(100, 999)} EUR",
            f"ratio {r.random()}",
            f"timestamp: {r.randrange(1_600_000_000, 1_800_000_000)}",
            f"case no. {r.randint(100, 999)}-{r.randint(100, 999)}-{r.randint(1000, 9999)}",
            f"request_id=req_{self.shape('{L24}')}",
            f"call_{self.shape('{A24}')} returned",
            f"model gpt-4o-{r.randint(2023, 2026)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}",
            f"trace tr-{self.shape('{H32}')}",
        )[choice]


ALL = frozenset(
    {
        "EMAIL_ADDRESS",
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "IBAN_CODE",
        "US_SSN",
        "IP_ADDRESS",
        "MAC_ADDRESS",
        "CRYPTO",
        "SECRET",
    }
)
