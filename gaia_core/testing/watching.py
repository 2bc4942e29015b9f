"""See what a piece of code asks of the system, by Python's audit events."""

import os
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
_wanted: dict[str, list[str]] = {}
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
    _hook()
    thread = threading.get_ident()
    events = _watchers[thread] = []
    try:
        yield events
    finally:
        del _watchers[thread]


@contextmanager
def opened(name: str) -> Iterator[list[str]]:
    """
    Note who opens a file, in whatever thread.

    >>> with opened("README.md") as paths:
    ...     _ = sum(range(10))
    >>> paths
    []

    Args:
        name: What its path ends with; nothing else may end so.

    Yields:
        The paths it was opened by, so far.
    """
    _hook()
    paths = _wanted[name] = []
    try:
        yield paths
    finally:
        del _wanted[name]


def _hook() -> None:
    """Listen; a hook stays until the process ends, so there is one for all."""
    if not _is_hooked.is_set():
        sys.addaudithook(_note)
        _is_hooked.set()


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _wanted and event == "open":
        _note_path(arguments[0])
    if _watchers and event in COSTLY:
        events = _watchers.get(threading.get_ident())
        if events is not None:
            events.append(event)


def _note_path(path: object) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    text = os.fsdecode(path)
    for name, paths in list(_wanted.items()):
        if text.endswith(name):
            paths.append(text)
