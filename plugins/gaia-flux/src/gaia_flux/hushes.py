"""
Keeps what the libraries print off the terminal of the host.

Their progress bars and hints go to standard error, whoever is there. They are silent
for the threads that ask for it, and for as long as these draw: a host that uses the
same libraries itself sees its own bars and hints as before.
"""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

_LIBRARIES: Final = ("diffusers", "transformers")
_IMPORTED: Final = ("torchao", "torch.utils._pytree")
"""Loggers that complain while torchao is imported, of what nobody here uses."""


@contextmanager
def hushed() -> Iterator[None]:
    """Have the libraries print nothing in this thread, inside the context."""
    _HUSH.begin()
    try:
        yield
    finally:
        _HUSH.end()


class _Hush(logging.Filter):
    """Lets pass what other threads log; set at the places where it is printed."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._threads = Counter[int]()
        self._undo: list[Callable[[], object]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record passes; it comes in the thread that logs it."""
        del record
        return not self.is_hushed

    @property
    def is_hushed(self) -> bool:
        """Whether the thread that asks is to be silent."""
        return threading.get_ident() in self._threads

    def begin(self) -> None:
        """Hush this thread, and the libraries if it is the first."""
        with self._lock:
            self._threads[threading.get_ident()] += 1
            if not self._undo:
                self._undo = list(self._set())

    def end(self) -> None:
        """Undo one `begin`; after the last one everything is as it was."""
        with self._lock:
            self._threads -= Counter([threading.get_ident()])
            if not self._threads:
                self._restore()

    def forget(self) -> None:
        """Put all back in a process that was forked off: its threads are gone."""
        self._lock = threading.Lock()
        self._threads.clear()
        self._restore()

    def _restore(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []

    def _set(self) -> Iterator[Callable[[], object]]:
        for name in _IMPORTED:
            logger = logging.getLogger(name)
            logger.addFilter(self)
            yield partial(logger.removeFilter, self)
        # Late: they import torch, which `gaia models` must not.
        with suppress(ImportError):
            import diffusers.utils.logging  # noqa: PLC0415
            import transformers.utils.logging  # noqa: PLC0415

            yield from self._set_handlers()
            yield self._set_hook(transformers.utils.logging)
            if diffusers.utils.logging.is_progress_bar_enabled():
                # There is no hook: meanwhile other threads lack diffusers' bars, too.
                diffusers.utils.logging.disable_progress_bar()
                yield diffusers.utils.logging.enable_progress_bar

    def _set_handlers(self) -> Iterator[Callable[[], object]]:
        for library in map(logging.getLogger, _LIBRARIES):
            for handler in library.handlers:
                handler.addFilter(self)
                yield partial(handler.removeFilter, self)

    def _set_hook(self, library: Any) -> Callable[[], object]:
        def make(factory: Any, arguments: Any, options: Any) -> Any:
            if self.is_hushed:
                return library.EmptyTqdm(*arguments, **options)
            if before is not None:
                return before(factory, arguments, options)
            return factory(*arguments, **options)

        def undo() -> None:
            last = library.set_tqdm_hook(before)
            if last is not make:  # the host's, set meanwhile
                library.set_tqdm_hook(last)

        before = library.set_tqdm_hook(make)
        return undo


_HUSH: Final = _Hush()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HUSH.forget)
