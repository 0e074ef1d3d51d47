"""Write `docs/reference/command-line.md` anew, from the commands themselves.

    python scripts/write_reference.py          # writes the page
    python scripts/write_reference.py --check  # 1 if it would change

The signatures of the commands are read, not the text of `--help`, which differs from one version of typer to another.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import typing
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from typer.models import ArgumentInfo, OptionInfo

from langchain_mlflow_cost import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "command-line.md"

_HEAD = """# Command line

<!-- Written by scripts/write_reference.py from the commands; change those. -->

What `mlflow-cost COMMAND --help` says. `python -m langchain_mlflow_cost` is the same command, `--version` its
version. Results go to standard output, all else to standard error; into a pipe or a file no line is broken.

| exit code | meaning |
| --- | --- |
"""


def page() -> str:
    """The whole page."""
    doc = inspect.getdoc(cli) or ""
    codes = re.findall(r"(\d+)\s+(.+?)(?:;|\.$|\.\n|\Z)", " ".join(doc.partition("Exit codes:")[2].split()))
    parts = [_HEAD + "".join(f"| {code} | {_shown(meaning)} |\n" for code, meaning in codes)]
    parts += ["\n".join(_section(name, command)) for name, command in cli.COMMANDS.items()]
    return "\n".join(parts)


def _section(name: str, command: Callable[..., None]) -> Iterator[str]:
    options = [each for each in _parameters(command) if isinstance(each[1], OptionInfo)]
    arguments = [each for each in _parameters(command) if isinstance(each[1], ArgumentInfo)]
    usage = " ".join(["mlflow-cost", name, "[OPTIONS]", *(_placed(*each) for each in arguments)])
    yield f"## {name}\n"
    for paragraph in (inspect.getdoc(command) or "").split("\n\n"):
        yield _shown(" ".join(paragraph.split())) + "\n"
    yield f"```text\n{usage}\n```\n"
    yield "| argument or option | meaning | default |\n| --- | --- | --- |"
    for parameter, info, kind in [*arguments, *options]:
        words = _words(parameter, info, kind)
        default = parameter.default
        shown = default.value if isinstance(default, Enum) else default
        told = "" if shown in (None, False, inspect.Parameter.empty) else f"`{shown}`"
        yield f"| `{words}` | {_help(info, kind)} | {'required' if _required(parameter) else told} |"
    yield ""


def _parameters(command: Callable[..., None]) -> Iterator[tuple[inspect.Parameter, OptionInfo | ArgumentInfo, Any]]:
    hints = typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        for info in getattr(hints[name], "__metadata__", ()):
            if isinstance(info, OptionInfo | ArgumentInfo):
                yield parameter, info, _plain(typing.get_args(hints[name])[0])


def _plain(hint: Any) -> Any:
    """`str` of `str | None` and of `list[str] | None`."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not NoneType]
    return _plain(kinds[0]) if kinds else hint


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _placed(parameter: inspect.Parameter, info: OptionInfo | ArgumentInfo, _: Any) -> str:
    name = info.metavar or parameter.name.upper()
    return name if _required(parameter) else f"[{name.strip('[]')}]..."


def _words(parameter: inspect.Parameter, info: OptionInfo | ArgumentInfo, kind: Any) -> str:
    if isinstance(info, ArgumentInfo):
        return (info.metavar or parameter.name.upper()).strip("[]")
    # Inside `Annotated` typer's first argument is a name, and lands where a default would.
    declared = [info.default] if isinstance(info.default, str) else []
    option = ", ".join([*declared, *(info.param_decls or ())]) or "--" + parameter.name.replace("_", "-")
    if kind is bool:
        return option
    return f"{option} {info.metavar or (option.strip('-') if _choices(kind) else kind.__name__).upper()}"


def _choices(kind: Any) -> list[str]:
    return [str(each.value) for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _help(info: OptionInfo | ArgumentInfo, kind: Any) -> str:
    choices = ", ".join(f"`{each}`" for each in _choices(kind))
    return _shown(info.help or "") + (f" One of {choices}." if choices else "")


_TYPED = re.compile(
    r"(?P<code>`[^`]*`)|(?<![\w`-])(?P<typed>--?[a-z][\w-]*|[A-Z]+_[A-Z_]+|\{\".*?\}|tag:NAME|[a-z]+[_.][a-z_]+(?::\w+)?"
    r"|[\w./-]+\.(?:py|db|json|yaml)(?::\w+)?)(?![\w`/])"
)


def _shown(text: str) -> str:
    """A text as Markdown, on one line, with what is typed as code."""
    return _TYPED.sub(lambda found: found["code"] or f"`{found['typed']}`", text.replace("|", "\\|"))


def main() -> None:
    """Write the page, or say that it is another one."""
    parser = argparse.ArgumentParser(description="Write docs/reference/command-line.md anew.")
    parser.add_argument("--check", action="store_true", help="only say whether it would change; 1 if so")
    new = page()
    if parser.parse_args().check:
        sys.exit(PAGE.read_text(encoding="utf-8") != new)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
