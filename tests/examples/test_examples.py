"""Each file of `examples/` runs as it says, by itself, without a key or a network, and stores what its policy says."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from stored_traces import forget_stores

from langchain_mlflow_cost import Policy, cost_summary
from langchain_mlflow_cost.everywhere import govern_no_more

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CALL_USD = 0.00036
"""1,200 tokens in at 0.15 and 300 out at 0.60 USD per million: openai.com/api/pricing, gpt-4o-mini."""


@dataclass
class Expected:
    calls: int
    """In the trace that began last."""
    nodes: set[str]
    said: tuple[str, ...] = ()
    """What it prints."""
    gone: tuple[bytes, ...] = ()
    """What is in no stored byte."""
    kept: tuple[bytes, ...] = ()
    fees_usd: float = 0.0


SPONDYLARTHROSIS = b"hyperlobulated spondylarthrosis"
EXPECTED = {
    "create_agent": Expected(2, {"model", "tools"}, ("Take an umbrella.",), (b"ops@example",), fees_usd=0.001),
    "supervisor": Expected(
        5, {"supervisor", "research/work", "review/work"}, ("The report is complete.",), (b"has a rare disease",)
    ),
    "agents_as_tools": Expected(3, {"model", "tools/doctor/model"}, ("will call you",), (SPONDYLARTHROSIS,)),
    "rag": Expected(1, {"answer"}, ("five days",), (b"refunds@example",), (b"Refunds take five days",)),
    "human_in_the_loop": Expected(1, {"improve"}, ("asked:", "A better draft.")),
    "functional": Expected(3, {"digest/summarize"}, ("One line.",)),
    "everywhere": Expected(1, {"agent"}, ("ada@example.com",), (b"ada@example.com",)),
    "deep_agent": Expected(3, {"model", "tools/reader/model"}, ("It is done.",), (SPONDYLARTHROSIS,)),
}
OTHERS = {"offline", "quickstart", "service", "streaming_service"}
"""Run by tests of their own, or a part of the others."""


@pytest.fixture
def here(clean_mlflow: None, template_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an empty store, as a reader's."""
    for name in ("OPENAI_API_KEY", "MODEL", "MLFLOW_TRACKING_URI", "LANGCHAIN_MLFLOW_COST_POLICY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(template_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    forget_stores()
    yield tmp_path
    govern_no_more()
    mlflow.flush_trace_async_logging()
    forget_stores()
    sys.modules.pop("offline", None)


def stored_bytes(folder: Path) -> bytes:
    mlflow.flush_trace_async_logging()
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_every_example_is_run() -> None:
    """None is forgotten, and each that is run here has its policy beside it."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == EXPECTED.keys() | OTHERS
    assert EXPECTED.keys() | {"service", "streaming_service"} <= {path.stem for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.sampled(is_in=lambda name: name in {"create_agent", "everywhere"})
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """It says what it says, its calls are counted by node, live and in the store, and what is private is not stored."""
    if name == "deep_agent" and importlib.util.find_spec("deepagents") is None:
        pytest.skip("deepagents is not installed")
    expected = EXPECTED[name]
    summary = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")["summary"]
    printed, stored = capsys.readouterr().out, stored_bytes(here)

    assert (summary.llm_calls, set(summary.node_breakdown)) == (expected.calls, expected.nodes)
    assert summary.total_cost_usd == pytest.approx(expected.calls * CALL_USD + expected.fees_usd, rel=1e-9)
    assert cost_summary(summary.trace_id).total_cost_usd == pytest.approx(summary.total_cost_usd, rel=1e-9)
    assert [text for text in expected.said if text not in printed] == []
    assert [text for text in expected.gone if text in stored] == []
    assert [text for text in expected.kept if text not in stored] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_its_policy_says_nothing_odd(name: str) -> None:
    """A YAML file beside an example loads without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Policy.from_yaml(EXAMPLES / f"{name}.yaml")


def test_the_streaming_service(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each tenant's policy holds for its own requests, and each user's sum refuses that user alone, before the stream."""
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sum has passed 80 %, and a restart forgets it
        runpy.run_path(str(EXAMPLES / "streaming_service.py"), run_name="__main__")
    answers = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines() if line[:3].isdigit()]
    stored = stored_bytes(here)

    assert ["200", "200", "402", "200"] == [status for status, _ in answers]
    assert answers[0][1] == "Ask jane.doe@example.com, she knows."
    assert b"jane.doe" not in stored
    assert b"[EMAIL_ADDRESS], she knows" in stored
