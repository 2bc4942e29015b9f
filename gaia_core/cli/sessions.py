"""One run of the command line: its settings, and the `Gaia` it works with."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from gaia_core import Gaia, PluginError, load_settings
from gaia_core.cli.writing import say
from gaia_core.settings import find_settings_file

if TYPE_CHECKING:
    from gaia_core.plugins import Plugins
    from gaia_core.settings import Settings

T = TypeVar("T")
Work = Callable[[Gaia], Coroutine[Any, Any, T]]
"""Takes an open `Gaia` and does something with it."""

PATIENCE = 0.5
"""Seconds of closing after which a person is told what it waits for."""


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
        with contextlib.redirect_stdout(sys.stderr):
            return Gaia.open(self.settings()).plugins

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
        """
        with contextlib.redirect_stdout(sys.stderr):
            gaia = Gaia.open(settings or self.settings())
            try:
                return asyncio.run(_inside(gaia, work))
            except SystemExit as error:
                message = "A plugin called exit(); `gaia -v …` shows which one."
                raise PluginError(message) from error

    def look(self, work: Work[T]) -> T:
        """Look something up in the ledger; no provider is started or asked."""
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


async def _inside(gaia: Gaia, work: Work[T]) -> T:
    async with gaia:
        try:
            return await work(gaia)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(PATIENCE, _explain_waiting)
            raise


async def _beside(gaia: Gaia, work: Work[T]) -> T:
    try:
        return await work(gaia)
    finally:
        await gaia.ledger.close()


def _explain_waiting() -> None:
    say("Waiting for a picture that was sent for already; Ctrl-C again leaves it.")


def _configure(level: str) -> None:
    from gaia_core.observability import configure  # noqa: PLC0415 - only when it is used

    configure(level)
