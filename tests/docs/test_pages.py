"""What the documentation shows works: its programs run, its policies load, its links lead somewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from messages import messages, pieces
from pages import PAGES, ROOT, Block, blocks, name, program

from langchain_mlflow_cost import Policy
from langchain_mlflow_cost.demo.provider import ProviderServer, Reply, Request, Tokens, ToolCall

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = [page for page in PAGES if program(page).strip()]
POLICIES = [
    pytest.param(block, id=f"{name(page)}:{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and block.mark != "not run"
]

_GRAPH = """
from langchain.agents import create_agent
from langchain_mlflow_cost import MlflowCostHandler, Policy
from langgraph.checkpoint.memory import InMemorySaver
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
graph = create_agent("openai:gpt-4o-mini", [], checkpointer=InMemorySaver())
question = {"messages": [("user", "hi")]}
config = {"callbacks": [MlflowCostHandler()], "configurable": {"thread_id": "6"}}
"""
BEFORE = dict.fromkeys(("docs/budgets.md", "docs/cost.md", "docs/policy.md"), _GRAPH)
"""What the readers of a reference page have in their program already."""


def answer(request: Request) -> Reply:
    """What the provider says: each tool that it is offered is called once, then it answers."""
    called = [call["function"]["name"] for m in request.body["messages"] for call in m.get("tool_calls") or ()]
    for tool in request.body.get("tools") or ():
        function = tool["function"]
        if function["name"] not in called:
            needed = function["parameters"].get("required", ())
            return Reply(tool_calls=[ToolCall(function["name"], dict.fromkeys(needed, "this"))], usage=Tokens(80, 20))
    return Reply("The sky is blue, I think.", usage=Tokens(1000, 100))


@pytest.mark.nightly
@pytest.mark.parametrize("page", PROGRAMS, ids=name)
def test_programs_run(page: Path, tmp_path: Path) -> None:
    """The Python of a page, read from its top, does what it says, with OpenAI's client and a provider on loopback."""
    (tmp_path / "observability.yaml").write_text("redact_pii: true\n", encoding="utf-8")
    for block in blocks(page):
        if block.mark == "file":
            (tmp_path / block.said).write_text(block.text, encoding="utf-8")
    source = tmp_path / "page.py"
    source.write_text(BEFORE.get(name(page), "") + program(page), encoding="utf-8")
    with ProviderServer(answer) as server:
        keys = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": server.openai_base_url}
        done = subprocess.run(
            [sys.executable, source],
            cwd=tmp_path,
            env={**os.environ, **keys, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::langchain_mlflow_cost.policy.problems.PolicyWarning")
@pytest.mark.parametrize("block", POLICIES)
def test_policies_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each policy that is shown is one."""
    if "engine: presidio" in block.text:
        pytest.importorskip("presidio_analyzer")
    for variable in re.findall(r"\$\{(\w+)\}", block.text):
        monkeypatch.setenv(variable, "redis://127.0.0.1:6379/0" if variable.endswith("_URL") else "fourwords")
    path = tmp_path / "policy.yaml"
    path.write_text(block.text, encoding="utf-8")

    assert Policy.from_yaml(path) is not None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a page, a heading or a file of the repository meets one."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", text, flags=re.MULTILINE):
        target = link[0] or link[1]
        inside = re.sub(r"^https://(?:github|raw\.githubusercontent)\.com/[\w-]+/[\w-]+/(?:blob/)?main/", "/", target)
        if inside.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, heading = inside.partition("#")
        file = ROOT / path[1:] if path.startswith("/") else (page.parent / path if path else page)
        if not file.exists() or (heading and heading not in headings(file)):
            missing.append(target)

    assert missing == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", each).lower()).strip().replace(" ", "-") for each in found}


TOLD_ELSEWHERE = ("langchain_mlflow_cost/cli/",)
"""What a command says is read where it was typed, and names the remedy itself."""


def test_troubleshooting_has_each_message() -> None:
    """Whatever a user reads in a log stands in the page, in the same words."""
    page = " ".join((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split())
    missing = [
        (where, piece)
        for where, message in messages()
        for piece in pieces(message)
        if piece.rstrip(":(, ") not in page and not where.startswith(TOLD_ELSEWHERE)
    ]

    assert missing == []


def test_command_line_page_is_the_commands() -> None:
    """The page has every command and option as they are; if not: python scripts/write_reference.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "write_reference.py"))

    assert script["PAGE"].read_text(encoding="utf-8") == script["page"]()


def test_every_page_is_in_the_sites_index() -> None:
    """No page of the documentation is out of the navigation, and those for readers are named on the first page."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.parent != ROOT]
    missing = [page for page in pages if f": {page}\n" not in navigation and page != "index.md"]
    unnamed = [page for page in pages if f"({page})" not in first and page != "index.md"]

    assert (missing, unnamed) == ([], [])
