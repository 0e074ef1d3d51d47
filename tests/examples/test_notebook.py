"""`examples/notebook.ipynb` as it is in the repository, and as Jupyter runs it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "notebook.ipynb"


def test_outputs_are_stripped() -> None:
    """The repository holds no outputs, whatever the last person who tried it has saved."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    run = [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]

    assert run == []


def shown(cell: Any) -> str:
    """All that a cell shows: printed, as HTML, else as text."""
    return "".join(
        str(output.get("text") or output["data"].get("text/html") or output["data"].get("text/plain"))
        for output in cell["outputs"]
    )


@pytest.mark.nightly
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell shows what it is for: sums of one trace by node, a refusal, a report of all; nothing private is stored."""
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat")
    for name in ("OPENAI_API_KEY", "MODEL", "MLFLOW_TRACKING_URI", "LANGCHAIN_MLFLOW_COST_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for file in (NOTEBOOK, EXAMPLES / "offline.py"):
        shutil.copy(file, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    live, summary, stored, refusal, report, plot = code[-6:]

    assert all(word in shown(live) for word in ("<table", "doctor", "writer", "2,400"))
    assert all(word in shown(summary) for word in ("<table", "doctor", "writer", "2,400"))
    assert "'total_cost_usd': 0.00072" in shown(stored)
    assert "refused by the budget of trace: the limit is used up; limit 0.002 USD, spent 0.00216 USD" in shown(refusal)
    assert all(word in shown(report) for word in ("ann", "bob", "doctor", "0.00432", "Stopped by the budget of trace"))
    assert "image/png" in plot["outputs"][-1]["data"]
    assert b"The patient should rest." not in b"".join(path.read_bytes() for path in tmp_path.glob("mlflow.db*"))
