"""The table of entities and that of the shapes of credentials."""

import functools
import random
import re
from typing import Any

import pytest

from langchain_mlflow_cost.redaction import compile_rules, scan
from langchain_mlflow_cost.redaction.detectors import ENTITIES, PII_ENTITIES, SECRET, Found
from langchain_mlflow_cost.redaction.detectors.secret_formats import FORMATS

ALL = compile_rules(entities=ENTITIES)


@pytest.mark.parametrize("name", ENTITIES)
def test_every_entity_has_examples(name: Any) -> None:
    """A row without examples and near misses is not finished."""
    assert ENTITIES[name].examples
    assert ENTITIES[name].misses
    assert ENTITIES[name].what


@pytest.mark.parametrize(("name", "example"), [(name, one) for name, row in ENTITIES.items() for one in row.examples])
def test_example_is_found_as_a_whole(name: Any, example: Any) -> None:
    """Each example of a row is found, from its first to its last character, and named."""
    assert scan(example, ALL) == [Found(0, len(example), name)]


@pytest.mark.parametrize(("name", "example"), [(name, one) for name, row in ENTITIES.items() for one in row.examples])
def test_example_is_found_by_its_entity_alone(name: Any, example: Any) -> None:
    """No row needs another one to be switched on."""
    assert scan(example, compile_rules(entities=[name])) == [Found(0, len(example), name)]


@pytest.mark.parametrize(("name", "miss"), [(name, one) for name, row in ENTITIES.items() for one in row.misses])
def test_near_miss_is_left_alone(name: Any, miss: Any) -> None:
    """What only looks like an entity is not taken for it."""
    assert [one for one in scan(miss, ALL) if one.entity == name] == []


def test_pii_is_everything_but_secrets() -> None:
    """The contract's personal entities are the table without SECRET."""
    assert frozenset(ENTITIES) == PII_ENTITIES | {SECRET}
    assert SECRET not in PII_ENTITIES


def made_up(tree: Any, chance: Any) -> Any:
    """Make a text that a parsed pattern fits; look-around is left to the caller to check."""
    out = []
    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL":
            out.append(chr(argument))
        elif name == "IN":
            out.append(chance.choice(alphabet(str(argument))))
        elif name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, inner = argument
            out += [made_up(inner, chance) for _ in range(chance.randint(least, min(most, least + 20)))]
        elif name == "SUBPATTERN":
            out.append(made_up(argument[3], chance))
        elif name == "BRANCH":
            out.append(made_up(chance.choice(argument[1]), chance))
    return "".join(out)


@functools.cache
def alphabet(members: Any) -> Any:
    """Give the printable characters of a class, as the parser prints it: [(RANGE, (65, 90)), (LITERAL, 95)]."""
    ranges = re.findall(r"RANGE, \((\d+), (\d+)\)|LITERAL, (\d+)", members)
    return [chr(code) for first, last, one in ranges for code in range(int(first or one), int(last or one) + 1)]


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_what_a_format_describes_is_found(row: Any) -> None:
    """Whatever fits the pattern of a row is also found by its anchor, and nearly all of it goes."""
    chance = random.Random(row.name)
    tree = re._parser.parse(row.pattern.pattern)  # type: ignore[attr-defined]  # Python has no public parser
    values = [value for value in (made_up(tree, chance) for _ in range(60)) if row.pattern.fullmatch(value)][:10]

    missed = []
    for value in values:
        found = scan(f"value {value} end", ALL)
        if sum(one.end - one.start for one in found if one.entity == SECRET) < 0.8 * len(value):
            missed.append(value)

    assert values
    assert missed == []


KNOWN = {
    "openai": "sk-proj-a8Gh2kLmN0pQr5StUvWxT3BlbkFJyZ1234567890abCd",
    "anthropic": "sk-ant-api03-9fK2mN8pQ1rS5tU7vW0xY3zA6bC4dE-8fG_hJ2kL9mN1pQ4rS6tU8vW0xY2zA5bC7dE9fG1hJAA",
    "github": "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "aws": "AKIAQ3EGRIT5WB2KLMNO",
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "slack": "xoxb-263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1",
    "stripe": "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "google": "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
}


@pytest.mark.parametrize("key", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("text", ["{}", "use {} now", '"{}"', "x={};", "值{}值", "({})", "key:{}\n"])
def test_known_key_is_found_anywhere(key: Any, text: Any) -> None:
    """A provider's key is found whatever stands around it, and nothing else goes."""
    whole = text.format(key)
    start = whole.index(key)

    assert scan(whole, ALL) == [Found(start, start + len(key), SECRET)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('password = "hunter2x"', "hunter2x"),
        ("DB_PASSWORD=letmein99", "letmein99"),
        ("my password is Tr0ub4dor&3", "Tr0ub4dor&3"),
        ("api_key: 9f8a7b6c5d4e3f2a1b0c", "9f8a7b6c5d4e3f2a1b0c"),
        ("<password>Sesame0pen</password>", "Sesame0pen"),
        ("--token 8a7b6c5d4e3f2a1b0c9d", "8a7b6c5d4e3f2a1b0c9d"),
        ("postgres://bob:s3cr3tpw@db/x", "s3cr3tpw"),
        ("Authorization: Bearer zq81f0273946k5LmPw82", "zq81f0273946k5LmPw82"),
        ('{"clientSecret": "q8Jd92kLmZx01vNb"}', "q8Jd92kLmZx01vNb"),
    ],
    ids=lambda value: value[:20],
)
def test_named_value_is_found(text: Any, value: Any) -> None:
    """Of `name = value` only the value goes."""
    start = text.index(value)

    assert scan(text, ALL) == [Found(start, start + len(value), SECRET)]


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']",
        "password: str | None = None",
        "api_key = settings.api_key",
        "token_count = 12345678",
        "max_tokens: 4096, total_tokens: 123456",
        "tokenizer: gpt2-tokenizer-v2",
        "API_KEY=<your key here>",
        "secret: ${VAULT_SECRET}",
        "password: ********",
        "public_key = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQ",
        "next_page_token: CAoQAA1234567890abcd",
        "if (e.key === 'Enter1234567890abc') {}",
        "https://example.com:8080/a@b",
    ],
)
def test_what_is_no_secret_stays(text: Any) -> None:
    """Code, placeholders, counters and public keys are left alone."""
    assert [one for one in scan(text, ALL) if one.entity == SECRET] == []


@pytest.mark.parametrize(
    ("text", "value", "entity"),
    [
        ("4111 1111 1111 1111 12/26", "4111 1111 1111 1111", "CREDIT_CARD"),
        ("2026 4111 1111 1111 1111", "4111 1111 1111 1111", "CREDIT_CARD"),
        ("4111 1111 1111 1111 123", "4111 1111 1111 1111", "CREDIT_CARD"),
        ("4111111111111111 123", "4111111111111111", "CREDIT_CARD"),
        ("Bob,30,4111111111111111,5", "4111111111111111", "CREDIT_CARD"),
        ("Bob,30,415-555-0132,5", "415-555-0132", "PHONE_NUMBER"),
        ("12/11/2024 415-555-0132", "415-555-0132", "PHONE_NUMBER"),
        ("30,078-05-1123,x", "078-05-1123", "US_SSN"),
        ("7,192.168.1.1,8", "192.168.1.1", "IP_ADDRESS"),
        ("XX12 DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00", "IBAN_CODE"),
        ("http://10.1.2.3:8080/x", "10.1.2.3", "IP_ADDRESS"),
        ("a=1&email=bob%40example.com&b=2", "bob%40example.com", "EMAIL_ADDRESS"),
        ("[bob@example.com](mailto:x)", "bob@example.com", "EMAIL_ADDRESS"),
        ("bob@example.com.", "bob@example.com", "EMAIL_ADDRESS"),
        ("bob@example.com.Then", "bob@example.com", "EMAIL_ADDRESS"),
    ],
    ids=lambda value: value[:24],
)
def test_found_among_its_neighbours(text: Any, value: Any, entity: Any) -> None:
    """Numbers before and after, commas and punctuation do not hide a value nor go with it."""
    start = text.index(value)

    assert scan(text, ALL) == [Found(start, start + len(value), entity)]


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_key_goes_to_its_end(kind: Any) -> None:
    """A PEM block goes from BEGIN to END and no farther."""
    block = f"-----BEGIN {kind}PRIVATE KEY-----\nMIIEow\nabc=\n-----END {kind}PRIVATE KEY-----"

    assert scan(f"a\n{block}\nb", ALL) == [Found(2, 2 + len(block), SECRET)]


def test_private_key_that_is_cut_off_goes_to_the_end_of_the_text() -> None:
    """Without an END, everything after BEGIN may be the key."""
    text = "key:\n-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQ"

    assert scan(text, ALL) == [Found(5, len(text), SECRET)]
