"""``gaia plugins``: what is installed, what failed, and a new one to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaia_core.cli.additions import Additions, find_additions
from gaia_core.cli.options import json_option
from gaia_core.cli.phrases import ADVICE_WITHOUT_PROVIDERS
from gaia_core.cli.root import ALIASES, COMMANDS
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import print_table
from gaia_core.cli.writing import print_json, print_line, say, sentence

if TYPE_CHECKING:
    from gaia_core.plugins import InstalledPlugin, PluginFailure


EXAMPLE = """\b
gaia plugins new rune-forge
cd gaia-rune-forge && pip install -e . 'gaia-core[testing]' && pytest
"""


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plugins(context: click.Context, *, is_json: bool) -> None:
    """
    List what is installed.

    The state says why a plugin could not be loaded.
    """
    if context.invoked_subcommand is not None:
        return
    session: Session = context.obj
    found = session.plugins()
    added = find_additions(found, [*COMMANDS, *ALIASES])
    if is_json:
        print_json(
            {
                "plugins": [shape_plugin(one, added) for one in found.installed],
                "failures": [shape_failure(one) for one in found.failures],
            }
        )
        return
    rows = [
        *(_plugin_row(one, added) for one in found.installed if one.status != "failed"),
        *map(_failure_row, found.failures),
    ]
    print_table(("Plugin", "Distribution", "Kind", "Instances", "State"), rows)
    if not rows:
        say(sentence(ADVICE_WITHOUT_PROVIDERS))


@plugins.command("new", epilog=EXAMPLE)
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write it here instead of into ./gaia-NAME.",
)
@json_option
@click.pass_context
def new(
    _context: click.Context, name: str, directory: Path | None, *, is_json: bool
) -> None:
    """Write a new provider from a template: distribution gaia-NAME, with tests."""
    from gaia_core.cli.templates import write_template  # noqa: PLC0415 - only this command

    folder, files = write_template(name, directory)
    if is_json:
        print_json({"directory": str(folder), "files": [str(file) for file in files]})
        return
    for file in files:
        print_line(str(file))


def shape_plugin(plugin: "InstalledPlugin", added: Additions) -> dict[str, Any]:
    """Shape an installed plugin, with the commands it adds."""
    seconds = plugin.import_seconds
    return {
        "plugin": plugin.plugin,
        "distribution": plugin.distribution,
        "kind": plugin.kind or None,
        "instances": list(plugin.instances),
        "status": plugin.status,
        "load_ms": None if seconds is None else round(seconds * 1_000, 1),
        "commands": added.names_of(plugin.plugin),
        "remarks": added.remarks_on(plugin.plugin),
    }


def shape_failure(failure: "PluginFailure") -> dict[str, Any]:
    """Shape a plugin that could not be loaded."""
    return {
        "plugin": failure.plugin,
        "distribution": failure.distribution,
        "reason": failure.reason,
    }


def _plugin_row(plugin: "InstalledPlugin", added: Additions) -> tuple[str, ...]:
    return (
        plugin.plugin,
        plugin.distribution,
        plugin.kind,
        ", ".join(plugin.instances),
        "; ".join([plugin.status, *added.remarks_on(plugin.plugin)]),
    )


def _failure_row(failure: "PluginFailure") -> tuple[str, ...]:
    return failure.plugin, failure.distribution, "", "", f"failed: {failure.reason}"
