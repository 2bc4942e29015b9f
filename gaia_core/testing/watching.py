"""See what a piece of code asks of the system, by Python's audit events."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COSTLY = (
    "import",
    "open",
    "os.posix_spawn",
    "os.system",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
)
"""Audit events of what takes time: imports, files, names, connections, processes."""

_watchers: dict[int, list[str]] = {}
_is_hooked = threading.Event()


@contextmanager
def watched() -> Iterator[list[str]]:
    """
    Note which costly things this thread does inside.

    >>> with watched() as events:
    ...     _ = sum(range(10))
    >>> events
    []
    """
    if not _is_hooked.is_set():
        # A hook stays until the process ends, so there is one for all watchers.
        sys.addaudithook(_note)
        _is_hooked.set()
    thread = threading.get_ident()
    events = _watchers[thread] = []
    try:
        yield events
    finally:
        del _watchers[thread]


def _note(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watchers and event in COSTLY:
        events = _watchers.get(threading.get_ident())
        if events is not None:
            events.append(event)
