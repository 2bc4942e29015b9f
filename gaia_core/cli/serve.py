"""``gaia serve``: the HTTP server and the web page."""

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from gaia_core import SettingsError
from gaia_core.cli.failures import ExitCode
from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.writing import flush, print_json, say
from gaia_core.observability import configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from gaia_core.server.running import Listening, Tell
    from gaia_core.settings import Settings

_HIGHEST_PORT = 65_535
_NO_SERVER = (
    "`gaia serve` needs what the extra `server` brings: "
    "pip install 'gaia-core[server]'."
)


@click.command()
@click.option("--host", metavar="ADDRESS", help="Listen on this address.")
@click.option(
    "--port",
    type=click.IntRange(0, _HIGHEST_PORT),
    help="Listen on this port; 0 picks a free one.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least that is logged to standard error; one line a request is info.",
)
@click.option(
    "--log-json", "is_log_json", is_flag=True, help="Log in JSON, a line an event."
)
@json_option
@click.pass_obj
def serve(  # noqa: PLR0913 - one parameter an option
    session: Session,
    *,
    host: str | None,
    port: int | None,
    log_level: str,
    is_log_json: bool,
    is_json: bool,
) -> int:
    """Serve pictures over HTTP, and a page to make them on."""
    given = {"server.host": host, "server.port": port}
    session.overrides = {
        **session.overrides,
        **{key: str(value) for key, value in given.items() if value is not None},
    }
    settings = session.settings()
    run = _server()
    configure("debug" if session.is_verbose else log_level, json=is_log_json)
    # Standard output is for the one document: plugins may print what they like.
    stdout = sys.stdout

    def tell(listening: "Listening") -> None:
        if is_json:
            with contextlib.redirect_stdout(stdout):
                _print(listening)
        else:
            _say(listening)

    with contextlib.redirect_stdout(sys.stderr):
        run(settings, tell)
    return ExitCode.DONE


def _server() -> "Callable[[Settings, Tell], None]":
    """
    Import the server: half a second that no other command waits for.

    Raises:
        SettingsError: If what it needs is not installed.
    """
    try:
        from gaia_core.server import running  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gaia_core"):
            raise
        raise SettingsError(_NO_SERVER) from error
    return running.serve


def _print(listening: "Listening") -> None:
    document = {
        "url": listening.url,
        "host": listening.host,
        "port": listening.port,
        "needs_key": listening.needs_key,
    }
    print_json(document)
    flush()


def _say(listening: "Listening") -> None:
    who = "Callers need a key" if listening.needs_key else "It needs no key"
    say(f"Gaia listens at {listening.url} (Ctrl-C ends it). {who}.")
