"""A terminal in place of a standard stream of this process, and programs in which Ctrl-C is heard."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, name: str = "stderr") -> Iterator[list[str]]:
    """Standard error, or output, is a terminal; what was written to it, when the block has ended."""
    ours, theirs = pty.openpty()
    read: list[bytes] = []
    told: list[str] = []

    def listen() -> None:
        try:
            while some := os.read(ours, 65_536):
                read.append(some)
        except OSError:
            # Its other end is closed.
            return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as screen, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        # pytest has a file of its own there for each part of a test.
        patch.setattr(sys, name, screen)
        yield told
    listener.join(5)
    os.close(ours)
    told.append(b"".join(read).decode())


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Programs that are started in here hear it: what a shell runs in the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
