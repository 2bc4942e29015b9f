"""Commands that providers add to ``gaia``: who gives which, and who goes first."""

import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import click

from gaia_core.calls import words_of
from gaia_core.errors import GaiaError

if TYPE_CHECKING:
    from gaia_core.plugins import Plugins, Provider

HOOK = "gaia_commands"
"""The hook that gives commands."""


@attrs.frozen(kw_only=True)
class Addition:
    """
    One command that a provider gives.

    Attributes:
        plugin: The plugin the provider is an instance of.
        command: The command.
        lost_to: Who has the name already, where somebody has.
    """

    plugin: str
    command: click.Command
    lost_to: str | None = None

    @property
    def name(self) -> str:
        """The word it answers to."""
        return str(self.command.name)


@attrs.frozen(kw_only=True)
class Additions:
    """
    The commands that providers add.

    Attributes:
        given: All that is given, best rank first.
        problems: Plugin to what is wrong with its commands.
        num_failures: How many plugins could not be loaded.
    """

    given: tuple[Addition, ...] = ()
    problems: Mapping[str, str] = attrs.field(factory=dict)
    num_failures: int = 0

    @property
    def commands(self) -> dict[str, click.Command]:
        """The commands that can be used, by name."""
        return {one.name: one.command for one in self.given if one.lost_to is None}

    def names_of(self, plugin: str) -> list[str]:
        """Name the commands that a plugin has added."""
        return [
            one.name
            for one in self.given
            if one.plugin == plugin and one.lost_to is None
        ]

    def remarks_on(self, plugin: str) -> list[str]:
        """Say which commands of a plugin cannot be used, and why."""
        lost = [
            f"its command {one.name} is {one.lost_to}'s"
            for one in self.given
            if one.plugin == plugin and one.lost_to not in {None, plugin}
        ]
        problem = self.problems.get(plugin)
        return lost if problem is None else [*lost, problem]


def find_additions(plugins: "Plugins", taken: Collection[str]) -> Additions:
    """
    Ask every provider for its commands; one that fails gives none.

    Args:
        plugins: Whom to ask.
        taken: Gaia's own names, which go first.
    """
    owners = dict.fromkeys(taken, "Gaia")
    given: list[Addition] = []
    problems: dict[str, str] = {}
    for provider in plugins.providers.values():
        try:
            commands = _commands_of(provider)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does
            problems[provider.plugin] = f"{HOOK} failed: {words_of(error)}"
            continue
        for command in commands:
            name, plugin = str(command.name), provider.plugin
            one = Addition(plugin=plugin, command=command, lost_to=owners.get(name))
            given.append(one)
            owners.setdefault(name, plugin)
    failures = len(plugins.failures)
    return Additions(given=tuple(given), problems=problems, num_failures=failures)


def _commands_of(provider: "Provider") -> Sequence[click.Command]:
    if not provider.implements(HOOK):
        return []
    # Standard output holds results.
    with contextlib.redirect_stdout(sys.stderr):
        return list(_checked(provider.call(HOOK)))


def _checked(commands: object) -> Iterator[click.Command]:
    """Refuse what ``gaia --help`` could not show."""
    if not isinstance(commands, Sequence):
        message = f"it gave {type(commands).__name__}, not a sequence of commands"
        raise GaiaError(message)
    for command in commands:
        if not isinstance(command, click.Command) or not command.name:
            message = f"it gave {type(command).__name__}, not a named click.Command"
            raise GaiaError(message)
        command.get_short_help_str()
        yield command
