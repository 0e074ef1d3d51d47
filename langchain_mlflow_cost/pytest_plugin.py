"""The pytest plugin: `assert_cost`, `assert_private`, and costs by node against a file (`--cost-snapshot`).

pytest loads this file in every run of everybody who has the package: it imports nothing before somebody uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langchain_mlflow_cost.tracing.handler_state import HandlerState
    from langchain_mlflow_cost.tracing.trace import Trace

_FILE = "cost-snapshot.json"
_TOLERANCE = "0.1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of snapshots."""
    group = parser.getgroup("langchain_mlflow_cost", "costs of model calls (langchain_mlflow_cost)")
    group.addoption(
        "--cost-snapshot", action="store_true", help="Fail tests that cost more than the snapshot says, node by node."
    )
    group.addoption("--cost-snapshot-update", action="store_true", help="Write the costs of the tests into it.")
    group.addoption(
        "--cost-snapshot-tolerance",
        metavar="PART",
        help=f"Part of USD and tokens that may be added; calls are exact. Else the ini value, {_TOLERANCE}.",
    )
    parser.addini("cost_snapshot_file", f"The snapshot, from the root folder on ({_FILE}).", default=_FILE)
    parser.addini("cost_snapshot_tolerance", f"As the option ({_TOLERANCE}).", default=_TOLERANCE)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to compare, if that was asked for."""
    if config.getoption("cost_snapshot") or config.getoption("cost_snapshot_update"):
        from langchain_mlflow_cost.testing.sessions import SnapshotSession  # noqa: PLC0415 - see above

        config.pluginmanager.register(SnapshotSession(config), "langchain_mlflow_cost_snapshot")


@pytest.fixture
def _begun_traces() -> Iterator[dict[tuple[HandlerState, Trace], None]]:
    from langchain_mlflow_cost.tracing.handler_state import traces_begun  # noqa: PLC0415 - see above

    with traces_begun() as begun:
        yield begun


@pytest.fixture
def assert_cost(_begun_traces: dict[tuple[HandlerState, Trace], None]) -> Any:
    """`assert_cost(handler_or_trace=None, *, node=None, max_usd=None, max_calls=None, max_tokens=None)`.

    Fails where more was spent, where a call has no known price (`allow_unpriced=True` lets it), and where no model was
    called in the node. Without a handler or trace, all traces of the test are meant.
    """

    def check(what: Any = None, **limits: Any) -> None:
        __tracebackhide__ = True
        from langchain_mlflow_cost.testing.limits_held import check_limits  # noqa: PLC0415 - see above
        from langchain_mlflow_cost.testing.spent import spent_by  # noqa: PLC0415 - see above

        check_limits(spent_by(what, _begun_traces), **limits)

    return check


@pytest.fixture
def assert_private(_begun_traces: dict[tuple[HandlerState, Trace], None]) -> Any:
    """`assert_private(texts)`: none of the texts is in what is stored of the test's traces, in any spelling."""

    def check(texts: str | Iterable[str]) -> None:
        __tracebackhide__ = True
        from langchain_mlflow_cost.testing.private import check_private  # noqa: PLC0415 - see above

        ids = dict.fromkeys(trace.trace_id for _, trace in _begun_traces if trace.trace_id)
        check_private(texts, list(ids))

    return check
