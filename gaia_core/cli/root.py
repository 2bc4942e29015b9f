"""The root of the command line: its commands, global options and way out."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaia_core.cli.failures import ExitCode, report, wants_json
from gaia_core.cli.sessions import Session, split_setting
from gaia_core.cli.writing import (
    StdoutError,
    flush,
    gaia_version,
    print_line,
    say,
)

if TYPE_CHECKING:
    from gaia_core.cli.additions import Additions

COMMANDS = {
    "generate": "gaia_core.cli.generate:generate",
    "upscale": "gaia_core.cli.edit:upscale",
    "remove-background": "gaia_core.cli.edit:remove_background",
    "enhance": "gaia_core.cli.words:enhance",
    "describe": "gaia_core.cli.words:describe",
    "batch": "gaia_core.cli.batch:batch",
    "serve": "gaia_core.cli.serve:serve",
    "models": "gaia_core.cli.catalog:models",
    "providers": "gaia_core.cli.catalog:providers",
    "plugins": "gaia_core.cli.plugins:plugins",
    "usage": "gaia_core.cli.usage:usage",
    "keys": "gaia_core.cli.keys:keys",
    "doctor": "gaia_core.cli.doctor:doctor",
    "config": "gaia_core.cli.config:config",
}
"""Every command and where it is defined, in the order ``--help`` shows them."""

_KEY = "gaia.additions"
"""What the context remembers the commands of plugins under."""
ALIASES = {"rmbg": "remove-background"}
"""Other words a command answers to."""


class RootGroup(click.Group):
    """Imports a command when it is asked for; turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of their use, those of plugins last."""
        return [*COMMANDS, *sorted(_additions_for_help(ctx).commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, by its name or its alias; a plugin may have another."""
        target = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if target is None:
            is_tolerant = ctx.resilient_parsing or _KEY in ctx.meta
            added = _additions_for_help(ctx) if is_tolerant else _additions(ctx)
            return added.commands.get(cmd_name)
        module, _, name = target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; name the nearest one when there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise _with_advice(error, args[0], _additions_for_help(ctx)) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's
        **extra: Any,
    ) -> Any:
        """Run a command line and leave with its exit code."""
        words = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(
                words, prog_name, complete_var, standalone_mode=False, **extra
            )
        _prepare_streams()
        # What is left at the end goes with the process: nobody need look for cycles
        # in it, which takes a sixth of the time of a listing.
        atexit.register(gc.freeze)
        self._main_shell_completion(extra, prog_name or "gaia", complete_var)
        sys.exit(self._run(words, prog_name or "gaia", extra))

    def _run(self, words: list[str], prog_name: str, extra: dict[str, Any]) -> int:
        """Give the exit code; saying what went wrong may itself go wrong."""
        session = extra.setdefault("obj", Session())
        try:
            try:
                code = self._obey(words, prog_name, extra)
            except StdoutError:
                raise
            except Exception as error:  # noqa: BLE001 - a person wants no traceback
                is_json, is_verbose = wants_json(words), session.is_verbose
                code = report(error, is_json=is_json, is_verbose=is_verbose)
            flush()
        except StdoutError as error:
            return _lose_stdout(error)
        return code

    def _obey(self, words: list[str], prog_name: str, extra: dict[str, Any]) -> int:
        """Run the command; unlike click, leave it to the caller how to end."""
        try:
            with self.make_context(prog_name, words, **extra) as context:
                code = self.invoke(context)
        except click.exceptions.Exit as way_out:
            return way_out.exit_code
        except (EOFError, KeyboardInterrupt) as error:
            raise click.Abort from error
        except BrokenPipeError as error:
            raise StdoutError(error) from error
        return code if isinstance(code, int) else ExitCode.DONE


@click.group(
    cls=RootGroup,
    name="gaia",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    is_eager=True,  # for the help, which names the commands of plugins
    help="Read the settings from this file.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    is_eager=True,  # as above
    help="Override a setting: providers.runware.priority=50. May be repeated.",
)
@click.option(
    "-v", "--verbose", "is_verbose", is_flag=True, help="Log to standard error."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, value: _show_version(context, is_wanted=value),
    help="Show the version and exit.",
)
@click.pass_context
def main(context: click.Context, /, **_options: Any) -> None:
    """Make, edit, enlarge and cut out pictures through any provider."""
    _session_of(context).start_logging()


def _session_of(context: click.Context) -> Session:
    """Put the global options, as far as they are read, into the session."""
    session, options = context.ensure_object(Session), context.params
    session.config = options.get("config")
    session.overrides = dict(
        split_setting(text) for text in options.get("settings") or ()
    )
    session.is_verbose = bool(options.get("is_verbose"))
    return session


def _show_version(context: click.Context, *, is_wanted: bool) -> None:
    if is_wanted:
        print_line(f"gaia {gaia_version()}")
        context.exit()


def _additions(context: click.Context) -> "Additions":
    """Load the plugins for the commands they add, once."""
    if _KEY not in context.meta:
        from gaia_core.cli.additions import find_additions  # noqa: PLC0415 - rarely needed

        plugins = _session_of(context).plugins()
        context.meta[_KEY] = find_additions(plugins, [*COMMANDS, *ALIASES])
    added: Additions = context.meta[_KEY]
    return added


def _additions_for_help(context: click.Context) -> "Additions":
    """Find what plugins add; settings that cannot be read must not keep the help."""
    try:
        return _additions(context)
    except (Exception, SystemExit):  # noqa: BLE001 - the command itself will say it
        from gaia_core.cli.additions import Additions  # noqa: PLC0415 - as above

        none = context.meta[_KEY] = Additions()
        return none


def _with_advice(
    error: click.UsageError, word: str, added: "Additions"
) -> click.UsageError:
    """Name the commands that a misspelt word comes near to."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip of the pen

    near = get_close_matches(word, [*COMMANDS, *ALIASES, *added.commands], n=1)
    advice = f" Did you mean '{near[0]}'?" if near else ""
    if not near and added.num_failures:
        advice = " A plugin could not be loaded: `gaia plugins` says why."
    return click.UsageError(f"There is no command '{word}'.{advice}", error.ctx)


def _prepare_streams() -> None:
    """Write what a stream cannot take as escapes, and into nothing if it is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It stays open until the program ends.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _lose_stdout(error: StdoutError) -> ExitCode:
    """End without standard output; spare Python's own last flush the trouble."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    if error.is_closed:
        return ExitCode.PIPE_CLOSED
    say(f"error: {error}")
    return ExitCode.FAILED
