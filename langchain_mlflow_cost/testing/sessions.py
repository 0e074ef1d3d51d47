"""One run of pytest with `--cost-snapshot`: each test's costs are noted and compared, also where workers run them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from langchain_mlflow_cost.testing import snapshots
from langchain_mlflow_cost.testing.snapshots import SnapshotError, cheaper, dearer, nodes_of
from langchain_mlflow_cost.testing.spent import NodeSpent, spent_by
from langchain_mlflow_cost.tracing.handler_state import traces_begun

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_NOTED = "langchain_mlflow_cost_costs"
_CHEAPER = "langchain_mlflow_cost_cheaper"


class SnapshotSession:
    """Registered with pytest, in the process that is called and in each worker of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_update = bool(config.getoption("cost_snapshot_update"))
        self._path = config.rootpath / str(config.getini("cost_snapshot_file"))
        self._tolerance = _tolerance(config)
        try:
            self._before = snapshots.read(self._path)
        except SnapshotError as error:
            raise pytest.UsageError(str(error)) from error
        self._noted: dict[str, dict[str, NodeSpent]] = {}
        self._cheaper: dict[str, list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Compare after the test itself has passed; what set-up and tear-down spend is not the test's."""
        with traces_begun() as begun:
            result = yield
        spent = spent_by(None, begun)
        if spent.unpriced:
            models = sorted({model for names in spent.unpriced.values() for model in names})
            raise AssertionError(
                f"no price is known for {', '.join(models)}, so nobody knows what this test cost; give it one with "
                "prices.overrides or prices.aliases in the policy"
            )
        now = nodes_of(spent)
        if now:
            self._noted[item.nodeid] = now
        if not self._is_update:
            self._compare(item.nodeid, now)
        return result

    def _compare(self, test: str, now: Mapping[str, NodeSpent]) -> None:
        before = self._before.get(test)
        if before is None:
            if now:
                raise AssertionError(f"{self._path.name} has no costs of this test; run --cost-snapshot-update")
            return
        lines = dearer(before, now, self._tolerance)
        if lines:
            raise AssertionError(
                "this test costs more than the snapshot allows; if that is meant, run --cost-snapshot-update\n"
                + "\n".join(lines)
            )
        less = cheaper(before, now, self._tolerance)
        if less:
            self._cheaper[test] = less

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the snapshot, or hand what was noted to the process that does."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_NOTED] = {
                test: {name: asdict(node) for name, node in told.items()} for test, told in self._noted.items()
            }
            output[_CHEAPER] = self._cheaper
        elif self._is_update and self._noted:
            # A part of the tests may have run: the others keep what they have.
            snapshots.write(self._path, {**self._before, **self._noted})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has noted."""
        output = getattr(node, "workeroutput", {})
        for test, told in output.get(_NOTED, {}).items():
            self._noted[test] = {name: NodeSpent(**fields) for name, fields in told.items()}
        self._cheaper |= output.get(_CHEAPER, {})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was written, and what has become cheaper: the snapshot would let it become dearer again."""
        if self._is_update:
            count = len(self._noted)
            terminalreporter.write_line(f"{self._path.name}: costs of {count} test{'' if count == 1 else 's'} written")
        for test, lines in sorted(self._cheaper.items()):
            terminalreporter.write_line(f"cheaper than {self._path.name} says: {test}: {'; '.join(lines)}")


def _tolerance(config: pytest.Config) -> float:
    told = config.getoption("cost_snapshot_tolerance")
    if told is None:
        told = config.getini("cost_snapshot_tolerance")
    try:
        part = float(told)
    except ValueError:
        part = -1.0
    if not 0 <= part < float("inf"):
        raise pytest.UsageError(f"cost_snapshot_tolerance: expected a part such as 0.1, found {told!r}")
    return part
