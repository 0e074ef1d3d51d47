"""MLflow's own pages, in a browser: their figures are ours, and nothing that the policy keeps out is on any of them.

Needs playwright and a Chromium: `pip install playwright`, and `chromium` on the path. With `MLFLOW_PAGES_IMAGES=docs/images` it
writes the pictures of the documentation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from leaks import spelling_in
from servers import Server

from langchain_mlflow_cost.demo import app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.nightly

COMMAND = "from langchain_mlflow_cost.cli import main; main()"
PLANTED = {
    "email": "ada.lovelace@example.com",
    "card": "4111 1111 1111 1111",
    "key": "sk-proj-",
    "private note": app.PRIVATE_NOTE,
    "private verdict": app.PRIVATE_VERDICT,
    "session": "grace.hopper@example.org",
    "rationale": "alan.turing@example.net",
}
CONVERSATION = """
import mlflow
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from itertools import repeat
from langchain_mlflow_cost import configure

handler = configure({
    "experiment_name": "mlflow-cost-demo", "tracking_uri": "sqlite:///demo-output/mlflow.db", "redact_pii": True,
    "artifact_level": "full", "run_name": "chat",
}, everywhere=True)
usage = {"input_tokens": 1_200, "output_tokens": 300, "total_tokens": 1_500}
reply = AIMessage("Order A-1042 is paid; write to grace.hopper@example.org.", usage_metadata=usage,
                  response_metadata={"model_name": "gpt-4o-mini", "model_provider": "openai"})
model = GenericFakeChatModel(messages=repeat(reply))
graph = StateGraph(MessagesState).add_node("agent", lambda s: {"messages": [model.invoke(s["messages"])]})
chat = graph.add_edge(START, "agent").compile()
for question in ("I am grace.hopper@example.org. Is A-1042 paid?", "Whom do I ask?"):
    chat.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "conversation-7"}})
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=handler.summary().trace_id, name="helpful", value=True,
                        rationale="alan.turing@example.net liked it")
mlflow.flush_trace_async_logging()
"""
"""Two turns of one session, each with an assessment, governed whoever calls."""


class Pages:
    """MLflow's pages of the demo's experiment."""

    def __init__(self, page: Any, server: str, folder: Path) -> None:
        self._page = page
        self._server = server
        self.folder = folder
        with sqlite3.connect(folder / "demo-output" / "mlflow.db") as store:
            (self.experiment,) = store.execute(
                "SELECT experiment_id FROM experiments WHERE name = 'mlflow-cost-demo'"
            ).fetchone()
            rows = store.execute("SELECT request_id FROM trace_info ORDER BY timestamp_ms").fetchall()
        store.close()
        self.demo, *self.turns = [row[0] for row in rows]

    def open(self, where: str, *until: str, width: int = 1_050, height: int = 1_200) -> str:
        """Go to a page of the experiment, wait for what has to be on it, and give all text of the page."""
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.goto(f"{self._server}/#/experiments/{self.experiment}/{where}")
        return self._settled(until)

    def click(self, text: str, *until: str) -> str:
        """Click on what is called so; likewise."""
        self._page.get_by_text(text, exact=True).last.click()
        return self._settled(until)

    def _settled(self, until: tuple[str, ...]) -> str:
        for each in until:
            self._page.get_by_text(re.compile(each)).first.wait_for(state="attached", timeout=90_000)
        guide = self._page.get_by_role("button", name="Got it")
        if guide.count():
            guide.first.click()
        # MLflow's assistant takes a third of the page.
        assistant = self._page.get_by_role("button", name="Close", exact=True)
        if assistant.count() and self._page.get_by_text("MLflow Assistant").count():
            assistant.first.click()
        self._page.mouse.move(0, 0)
        # Plots draw themselves for a second.
        self._page.wait_for_timeout(2_000)
        return self.text()

    def text(self) -> str:
        return str(self._page.evaluate("document.documentElement.innerText"))

    def picture(self, name: str) -> None:
        """Keep what is shown beside the store, and in the documentation where that is asked for."""
        self._page.screenshot(path=self.folder / name)
        if images := os.environ.get("MLFLOW_PAGES_IMAGES"):
            shutil.copy(self.folder / name, images)


def run(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "LANGSMITH"))}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_MODEL_CATALOG_URI": ""}
    done = subprocess.run(
        [sys.executable, "-c", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store: the demo's trace, and a conversation of two."""
    made = tmp_path_factory.mktemp("pages")
    run(made, COMMAND, "demo")
    run(made, CONVERSATION)
    return made


@pytest.fixture(scope="module")
def reported(folder: Path) -> dict[str, Any]:
    """What `mlflow-cost report` says of the same store."""
    options = ("--tracking-uri", "sqlite:///demo-output/mlflow.db", "--experiment", "mlflow-cost-demo")
    told: dict[str, Any] = json.loads(run(folder, COMMAND, "report", *options, "--by", "model", "--format", "json"))
    return told


@pytest.fixture(scope="module")
def pages(folder: Path) -> Iterator[Pages]:
    """A real server and a real browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the path")
    server = Server(folder, f"sqlite:///{folder}/demo-output/mlflow.db")
    server.start()
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            yield Pages(browser.new_page(), server.uri, folder)
            browser.close()
    finally:
        server.kill()


def figure(text: str, pattern: str) -> float:
    """A figure on a page: `$0.042089`, `1,500`, `34.89K`."""
    found = re.search(pattern, text)
    assert found is not None, text
    number = found[1].replace(",", "").removeprefix("$")
    return float(number.removesuffix("K")) * (1_000 if number.endswith("K") else 1)


def test_figures_are_the_reports(pages: Pages, reported: dict[str, Any]) -> None:
    """USD and tokens of the Overview are those of `mlflow-cost report`, in all and by model."""
    total = reported["total"]

    shown = pages.open("overview/usage", "Total Cost", "gpt-4o-mini", "Token Usage", width=1_500, height=1_600)
    pages.picture("overview.png")

    assert reported["traces"] == 3
    assert figure(shown, r"(\$[\d.]+)\s*Total Cost") == pytest.approx(total["cost_usd"], rel=1e-4)
    tokens = total["input_tokens"] + total["output_tokens"]
    assert figure(shown, r"Token Usage\s+([\d.,]+K?)") == pytest.approx(tokens, rel=1e-3)
    assert all(group["model"] in shown for group in reported["rows"])
    nothing_planted(shown)


def test_traces_and_one_of_them(pages: Pages, reported: dict[str, Any]) -> None:
    """The list, and a trace with redactions, a private node and tools: tokens in place of values, costs by span."""
    shown = pages.open("traces", "support-desk|EMAIL_ADDRESS", "31886")
    nothing_planted(shown)

    shown = pages.open(f"traces?selectedEvaluationId={pages.demo}", "risk_check", "Idempotency-Key", height=1_000)
    pages.picture("trace.png")
    nothing_planted(shown)
    assert {"[EMAIL_ADDRESS]", "[CREDIT_CARD]", "[SECRET]", "[PRIVATE]"} <= set(re.findall(r"\[[A-Z_]+\]", shown))
    spans = [float(usd) for usd in re.findall(r"^\$(0\.\d+)$", shown, re.MULTILINE)]
    chats = next(group["cost_usd"] for group in reported["rows"] if group["model"] == "gpt-4o-mini")
    assert sum(spans) == pytest.approx(reported["total"]["cost_usd"] - chats, abs=1e-5)
    nothing_planted(pages.click("risk_check", "Attributes"))


def test_sessions_quality_and_tools(pages: Pages) -> None:
    """Calls of tools, verdicts and a session's turns are there, and nothing planted is."""
    tools = pages.open("overview/tool-calls", "find_orders", "read_api_log")
    quality = pages.open("overview/quality", "helpful")
    session = pages.open("chat-sessions/conversation-7", "A-1042")

    assert figure(tools, r"([\d,]+)\s+Total Tool Calls") == 2
    assert re.search(r"helpful\s+2\b", quality)
    assert session.count("Order A-1042 is paid") >= 2
    for shown in (tools, quality, session):
        nothing_planted(shown)


def nothing_planted(shown: str) -> None:
    """No planted text is on a page, in whatever spelling."""
    stored = shown.encode()
    assert [name for name, text in PLANTED.items() if text in shown or spelling_in(text, stored)] == []
