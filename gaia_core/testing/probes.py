"""What can be seen of a process from inside: its sockets, its log, its errors."""

import asyncio
import logging
import math
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

_DESCRIPTORS = Path("/proc/self/fd")
_TICK = 0.02


def open_sockets() -> int:
    """Count the sockets of this process, as far as the system tells; else 0."""
    if not _DESCRIPTORS.is_dir():
        return 0
    return sum(_is_socket(one) for one in _DESCRIPTORS.iterdir())


def _is_socket(descriptor: Path) -> bool:
    with suppress(OSError):  # it was closed meanwhile
        return str(descriptor.readlink()).startswith("socket:")
    return False


@attrs.frozen(kw_only=True)
class Load:
    """
    What a process has under way.

    Attributes:
        tasks: The tasks of the running loop.
        sockets: The open sockets.
    """

    tasks: int
    sockets: int

    @classmethod
    def now(cls) -> "Load":
        """Look."""
        return cls(tasks=len(asyncio.all_tasks()), sockets=open_sockets())

    def has_settled(self) -> bool:
        """Tell whether there is no more now than there was then."""
        now = Load.now()
        return now.tasks <= self.tasks and now.sockets <= self.sockets


async def until(is_so: Callable[[], bool], *, patience: float) -> bool:
    """
    Wait for what is about to be so; tell whether it came to that.

    Looks are counted, not seconds: a process that was stopped for a while looks as
    often as any.
    """
    for _ in range(math.ceil(patience / _TICK)):
        if is_so():
            return True
        await asyncio.sleep(_TICK)
    return is_so()


# -- errors -----------------------------------------------------------------------


def shown_by(error: BaseException) -> str:
    """
    Collect what an error shows to whoever logs it.

    That is its traceback with all that caused it, and of each error on the way the
    arguments, the attributes and the notes.

    >>> "sk-123" in shown_by(KeyError("key sk-123 refused"))
    True
    """
    lines = traceback.format_exception(error)
    for one in _chain(error, set()):
        facts = (one.args, getattr(one, "__notes__", ()), vars(one))
        lines += [str(one), repr(one), *map(repr, facts)]
    return "\n".join(lines)


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """Follow the causes, as far as a traceback does."""
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    hidden = error.__cause__ is not None or error.__suppress_context__
    further = [error.__cause__, None if hidden else error.__context__]
    if isinstance(error, BaseExceptionGroup):
        further += error.exceptions
    for one in further:
        if one is not None:
            yield from _chain(one, seen)


# -- the log ----------------------------------------------------------------------


class _Keeper(logging.Handler):
    """Keeps every line as a host's most talkative handler would write it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.NOTSET)
        self.lines = lines
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [self.format(record), repr(record.args), repr(vars(record))]


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """
    Read all that is logged inside, at every level and by every logger.

    Yields:
        The lines so far.
    """
    lines: list[str] = []
    keeper = _Keeper(lines)
    loggers = [logging.getLogger(), *_named_loggers()]
    before = [(one, one.level, one.disabled) for one in loggers]
    for one in loggers:
        one.disabled = False
        one.setLevel(logging.DEBUG)
        if not one.propagate or one.parent is None:
            one.addHandler(keeper)
    try:
        yield lines
    finally:
        for one, level, was_disabled in before:
            one.removeHandler(keeper)
            one.setLevel(level)
            one.disabled = was_disabled


def _named_loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [one for one in known if isinstance(one, logging.Logger)]


# -- what belongs to the host -----------------------------------------------------


def host_state() -> dict[str, Any]:
    """
    Take down what belongs to the host: its log, its warnings and its signals.

    Returns:
        Name to what can be compared with what it is later: loggers that are
        untouched are left out, so that new ones do not count.
    """
    loggers = {f"logger {one.name}": _touched(one) for one in _named_loggers()}
    return {
        "logger root": _touched(logging.getLogger()),
        "logging is disabled up to": logging.root.manager.disable,
        "warnings": tuple(map(str, warnings.filters)),
        **{f"signal {one.name}": signal.getsignal(one) for one in signal.Signals},
        **{name: facts for name, facts in loggers.items() if facts is not None},
    }


def _touched(logger: logging.Logger) -> tuple[Any, ...] | None:
    """Tell what was done to a logger; None: nothing but what libraries should do."""
    handlers = [one for one in logger.handlers if not _is_silent(one)]
    facts = (logger.level, tuple(map(id, handlers)), logger.propagate, logger.disabled)
    return None if facts == (logging.NOTSET, (), True, False) else facts


def _is_silent(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.NullHandler)
