"""The data files are what their script makes of the packages that they name."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script() -> Any:
    spec = importlib.util.spec_from_file_location("update_data", ROOT / "scripts" / "update_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = script()


@pytest.mark.parametrize("name", SCRIPT.FILES)
def test_data_is_what_the_script_makes(name: Any) -> None:
    """Nobody changed a data file by hand; if the script was changed: python scripts/update_data.py."""
    package, make = SCRIPT.FILES[name]
    written = (SCRIPT.DATA / name).read_text(encoding="utf-8")
    version = written.partition(f'SOURCE = "{package} ')[2].partition('"')[0]
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (it is in the extra dev)")
    if installed != version:
        pytest.skip(f"written from {package} {version}, and {installed} is installed")

    assert written == make()


def test_every_data_file_has_a_source() -> None:
    """There is no data file that the script does not write."""
    assert {path.name for path in SCRIPT.DATA.glob("*.py")} - {"__init__.py"} == set(SCRIPT.FILES)
