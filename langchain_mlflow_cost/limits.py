"""The numbers that bound what is kept and how long is waited, in one frozen object that a test may shrink."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one process. Sizes are in characters of text, times in seconds."""

    open_roots: int = 2_000
    """Root runs that may be open at once. Of the longest idle ones beyond, which mostly never end (a killed thread, a
    lost event), no payload is kept any more; their calls are counted, and their budgets asked, all the same.

    MLflow itself keeps 1,000 open traces (`MLFLOW_TRACE_BUFFER_MAX_SIZE`) and drops the oldest beyond that.
    """
    let_go_runs: int = 20_000
    """Runs of those roots whose trace and budgets are still known."""
    remembered_chars: int = 32_000_000
    """What redaction remembers for all open traces together, to save time; of one it is 8 million at most."""
    remembered_traces: int = 256
    """Open traces, the last active ones, for which redaction remembers anything."""
    kept_summaries: int = 256
    """Finished traces whose sums a handler still tells."""
    held_chars: int = 64 * 1024 * 1024
    """Payload that one held trace may keep in memory; past it, further payloads are dropped, and said so."""
    private_chars: int = 4_000_000
    """Private text that one session remembers, and all together, at about 30 bytes a character; past it a session's
    texts all count as private, and of all together the least recent session keeps its marks alone."""
    outliving_s: float = 30.0
    """How long a held trace waits, after its last invocation, for threads that are still at work in it."""
    sessions: int = 4_096
    """Sessions whose private text is remembered."""
    session_marks: int = 4_000_000
    """Marks of older sessions' private text, of all together, at about 14 bytes; a session has one for about five
    characters. Past it the least recent session is forgotten, and withheld if it comes back."""
    marked_sessions: int = 100_000
    """Sessions of which marks are kept."""
    forgotten_sessions: int = 10_000_000
    """Sessions that are known to be forgotten, in 8 MB; twice as many before the first of them is not known as such."""
    session_store_s: float = 0.25
    """How long a session store may take for a connection, and for an answer."""
    session_store_pause_s: float = 15.0
    """For so long nothing is asked of a session store that failed."""
    remembered_nodes: int = 10_000
    """Nodes whose policy, or whose budgets, are worked out once; names out of data do not fill the memory."""
    answered_nodes: int = 10_000
    """Executions of nodes of which it is remembered how many answers to a budget's interrupt they have used."""
    unmet_invocations: int = 20
    """Invocations after which entries of a policy's `nodes` are told that have met no node."""
    watched_policies: int = 256
    """Policies whose entries that met no node are told when the process ends."""
    made_calls: int = 10_000
    """Calls of other libraries that are known to be counted, so that two handlers that hear of one count it once."""
    judged_traces: int = 10_000
    """Traces of which it is known that they were taken to be judged, so that none is twice."""
    traces_to_judge: int = 1_000
    """Traces that may wait to be judged; beyond, they are left unjudged."""
    judges_wait_s: float = 60.0
    """How long a trace that ended may take to be stored, before it is left unjudged."""
    judges_idle_s: float = 5.0
    """The judges' thread ends when there was nothing to judge for so long."""
    judges_exit_s: float = 10.0
    """How long the end of the process waits for judges."""
    known_prompts: int = 1_000
    """Prompts of MLflow's registry, each in a version, by whose text it is known that a model was sent them."""
    span_names: int = 4_096
    """Names under one policy of a node that are known to hold nothing to redact."""
    ended_traces: int = 20_000
    """Traces that have ended whose policy is known where tags and assessments are written to them later."""
    export_wait_s: float = 1.0
    """How long one trace may wait for room in MLflow's export queues, all its spans together.

    Spans of one trace that end on several threads wait side by side, and that time counts once. LangChain calls the
    handler on the event loop, which stands still meanwhile; a wait for one span is over once one batch is taken.
    """
    export_stalled_s: float = 2.0
    """After this long, nobody waits for an export from which nothing has moved: its store is away."""
    flush_s: float = 7.0
    """How long a flush, or the end of the process, waits for a store that does nothing; where it does, they wait on."""
    flush_stalled_s: float = 3.0
    """A store that has stored something within so many seconds is not given up."""
    slow_server_s: float = 30.0
    """How much longer they wait for a server that answers requests, and stores nothing."""
    sync_export_wait_s: float = 3.5
    """How long the calls of one trace may keep their caller waiting in all, where MLflow exports synchronously."""
    summary_s: float = 9.0
    """How long `cost_summary` may take."""
    health_check_s: float = 3.0
    """How long a tracking server may take to answer its health check, and `configure` to look at a database."""
    set_up_s: float = 5.0
    """How long a tracking server may take to say whether an experiment exists."""
    deleted_at_once: int = 100
    """Traces that are deleted at a time: MLflow's server takes no more."""
    store_lock_s: float = 10.0
    """How long deleting waits for a database that somebody else is writing to."""
    metric_series: int = 500
    """Pairs of node and model, and names of models, that OpenTelemetry metrics tell apart; later ones are `_OTHER`."""
    presidio_text_s: float = 10.0
    """How long the presidio engine may take for one text before the payload is dropped."""


_in_force = Limits()


def limits() -> Limits:
    """The limits in force. One object for the process: what they bound belongs to the process, too."""
    return _in_force


@contextmanager
def replaced(**changed: Any) -> Iterator[Limits]:
    """Put other numbers in force while the block runs, in all threads.

    Args:
        changed: Fields of `Limits`.
    """
    global _in_force  # noqa: PLW0603 - the one place where it is replaced, whole
    before = _in_force
    _in_force = replace(before, **changed)
    try:
        yield _in_force
    finally:
        _in_force = before
