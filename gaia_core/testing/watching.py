"""See what a piece of code asks of the system, by Python's audit events."""

import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

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
_changing = threading.Lock()


@contextmanager
def watched() -> Iterator[list[str]]:
    """
    Note which costly things this thread does inside.

    >>> with watched() as events:
    ...     _ = sum(range(10))
    >>> events
    []
    """
    thread = threading.get_ident()
    with _listening():
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
    with _listening():
        paths = _wanted[name] = []
        try:
            yield paths
        finally:
            del _wanted[name]


class _Ear:
    """
    The one audit hook, which stays until the process ends; deaf unless wanted.

    Before Python 3.12 a thread that is traced from its first line on, as coverage
    traces all of them, must not begin while another one is inside a hook written in
    Python: it dies, and whoever waits for its work waits for ever. So a deaf ear is
    a function of C, and threads that begin while somebody listens are not traced.
    https://github.com/python/cpython/issues/98257
    """

    _listeners: ClassVar[int] = 0
    _is_hooked: ClassVar[bool] = False
    _trace: ClassVar[Any] = None

    # Called with an event and its arguments; this compares the two, and no more.
    __call__: ClassVar[Callable[..., object]] = operator.is_

    @classmethod
    def begin(cls) -> None:
        """Hear what happens from now on."""
        with _changing:
            cls._listeners += 1
            if cls._listeners > 1:
                return
            cls._trace = threading.gettrace()
            threading.settrace(None)
            cls.__call__ = staticmethod(_note)
            if not cls._is_hooked:
                sys.addaudithook(cls())
                cls._is_hooked = True

    @classmethod
    def end(cls) -> None:
        """Hear nothing any more, if nobody else listens."""
        with _changing:
            cls._listeners -= 1
            if not cls._listeners:
                cls.__call__ = operator.is_
                threading.settrace(cls._trace)


@contextmanager
def _listening() -> Iterator[None]:
    """Hear what happens inside."""
    _Ear.begin()
    try:
        yield
    finally:
        _Ear.end()


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
