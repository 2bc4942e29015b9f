"""One run of the command line: its settings, and the `Gaia` it works with."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import attrs
import click

from gaia_core.cli.failures import Terminated
from gaia_core.cli.writing import say
from gaia_core.errors import PluginError
from gaia_core.settings import find_settings_file, load_settings

if TYPE_CHECKING:
    from gaia_core import Gaia
    from gaia_core.plugins import Plugins
    from gaia_core.settings import Settings
    from gaia_core.showroom import Showroom

S = TypeVar("S", bound="AbstractAsyncContextManager[Any]")
T = TypeVar("T")
Work = Callable[["Gaia"], Coroutine[Any, Any, T]]
"""Takes an open `Gaia` and does something with it."""

PATIENCE = 0.5
"""Seconds of closing after which a person is told what it waits for."""

_AGAIN = {signal.SIGINT: "Ctrl-C again", signal.SIGTERM: "a second SIGTERM"}
"""Signals that end the work, and what leaves it without waiting."""
_NOWHERE = logging.NullHandler()
_FIRST_CODE = 128
_SHOW_CURSOR = b"\x1b[?25h\n"


@attrs.define(eq=False, kw_only=True)
class Session:
    """
    One run of the command line.

    Attributes:
        config: The settings file that was named.
        overrides: Dotted key of a setting to its value.
        is_verbose: Whether the log goes to standard error.
    """

    config: Path | None = None
    overrides: Mapping[str, str] = attrs.field(factory=dict)
    is_verbose: bool = False

    def settings(self) -> "Settings":
        """Read the settings."""
        return load_settings(self.config, overrides=self.overrides)

    def named_file(self) -> Path | None:
        """Give the settings file that was named, whether it is there or not."""
        named = self.config or os.environ.get("GAIA_CONFIG")
        return Path(named).expanduser() if named else None

    def settings_file(self) -> Path | None:
        """Find the settings file that is read."""
        return find_settings_file(self.config)

    def plugins(self) -> "Plugins":
        """Load the plugins and start none."""
        from gaia_core.plugins import load_plugins  # noqa: PLC0415 - only who asks waits

        with contextlib.redirect_stdout(sys.stderr):
            return load_plugins(self.settings())

    def start_logging(self) -> None:
        """Send the log to standard error, where it was asked for."""
        if self.is_verbose:
            _configure("debug")

    def silence(self) -> None:
        """Keep the log quiet: whatever matters comes back as a value."""
        if not self.is_verbose:
            _configure("critical")

    def run(self, work: Work[T], settings: "Settings | None" = None) -> T:
        """
        Open a `Gaia`, work with it and close it.

        What plugins print while they work goes to standard error: standard
        output holds results.

        Args:
            work: What to do with it.
            settings: What to go by, where they were read already.

        Raises:
            PluginError: If a plugin ends the program instead of failing.
            Terminated: If SIGTERM ended it.
        """
        from gaia_core import Gaia  # noqa: PLC0415 - half the time of a listing

        return self._run(lambda: Gaia.open(settings or self.settings()), work)

    def browse(self, work: "Callable[[Showroom], Coroutine[Any, Any, T]]") -> T:
        """
        Look at what there is: plugins are started, but nothing can be ordered.

        Args:
            work: What to do there.

        Raises:
            PluginError: If a plugin ends the program instead of failing.
            Terminated: If SIGTERM ended it.
        """
        from gaia_core.showroom import Showroom  # noqa: PLC0415 - only who asks waits

        return self._run(lambda: Showroom.open(self.settings()), work)

    def _run(
        self, open_: Callable[[], S], work: Callable[[S], Coroutine[Any, Any, T]]
    ) -> T:
        # Without a handler, `logging` itself would write warnings.
        logging.getLogger("gaia").addHandler(_NOWHERE)
        with contextlib.redirect_stdout(sys.stderr):
            opened, ending = open_(), _Ending()
            try:
                return asyncio.run(_inside(opened, work, ending))
            except asyncio.CancelledError as error:
                ending.raise_for(error)
            except SystemExit as error:
                message = "A plugin called exit(); `gaia -v …` shows which one."
                raise PluginError(message) from error

    def look(self, work: Work[T]) -> T:
        """Look something up in the ledger; no provider is started or asked."""
        from gaia_core import Gaia  # noqa: PLC0415 - as above

        with contextlib.redirect_stdout(sys.stderr):
            return asyncio.run(_beside(Gaia.open(self.settings()), work))


def split_setting(text: str) -> tuple[str, str]:
    """
    Take ``key=value`` apart.

    >>> split_setting("providers.flux.priority=5")
    ('providers.flux.priority', '5')
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        message = f"--set takes KEY=VALUE, as in policy=cheapest, not {text!r}."
        raise click.UsageError(message)
    return key, value


@attrs.define(eq=False)
class _Ending:
    """
    Winds the work down on Ctrl-C and on SIGTERM; a second one leaves at once.

    Attributes:
        asked: The signal that came, or None.
    """

    asked: signal.Signals | None = None

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed signals while the block runs, in the task that is running now."""
        loop = asyncio.get_running_loop()
        end = partial(self._end, asyncio.current_task())
        found = {number: signal.getsignal(number) for number in _AGAIN}
        # Whoever started this process may want a signal ignored.
        before = {
            number: handler
            for number, handler in found.items()
            if handler not in {None, signal.SIG_IGN}
        }
        try:
            for number in before:
                loop.add_signal_handler(number, end, number)
        except (NotImplementedError, RuntimeError, ValueError):
            # Windows has no such handlers, and only the main thread hears signals.
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def raise_for(self, error: asyncio.CancelledError) -> NoReturn:
        """Turn what ended the work into what the signal means."""
        if self.asked is None:
            raise error
        kind = Terminated if self.asked is signal.SIGTERM else KeyboardInterrupt
        raise kind from error

    def _end(self, task: "asyncio.Task[Any] | None", number: signal.Signals) -> None:
        self.asked, loop = number, asyncio.get_running_loop()
        for each in _AGAIN:
            loop.remove_signal_handler(each)
            signal.signal(each, _leave)
        loop.call_later(PATIENCE, _explain_waiting, _AGAIN[number])
        if task is not None:
            task.cancel()


def _leave(number: int, _frame: object) -> NoReturn:
    """End without waiting for anything; what is on the book stays there."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # a progress bar hides it
    os._exit(_FIRST_CODE + number)


def _explain_waiting(again: str) -> None:
    say(f"Waiting for a picture that was sent for already; {again} leaves it.")


async def _inside(
    opened: S, work: Callable[[S], Coroutine[Any, Any, T]], ending: _Ending
) -> T:
    with ending.heeded():
        async with opened:
            try:
                return await work(opened)
            except asyncio.CancelledError:
                if ending.asked is None:
                    again, loop = _AGAIN[signal.SIGINT], asyncio.get_running_loop()
                    loop.call_later(PATIENCE, _explain_waiting, again)
                raise


async def _beside(gaia: "Gaia", work: Work[T]) -> T:
    try:
        return await work(gaia)
    finally:
        await gaia.ledger.close()


def _configure(level: str) -> None:
    from gaia_core.observability import configure  # noqa: PLC0415 - only when it is used

    configure(level)
