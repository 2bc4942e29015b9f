"""``gaia config``: every setting with where it came from, and a file to start."""

from pathlib import Path

import click

from gaia_core import SettingsError
from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import print_table
from gaia_core.cli.writing import print_json, print_line, say
from gaia_core.settings import SettingRow, describe, example_settings
from gaia_core.settings.folders import user_folder
from gaia_core.settings.loading import FILE_NAME


@click.group()
def config() -> None:
    """Show the settings, or write a first file."""


@config.command()
@json_option
@click.pass_obj
def show(session: Session, *, is_json: bool) -> None:
    """Show every setting with its value and where that came from."""
    rows = _rows(session)
    if is_json:
        print_json({"settings": [row._asdict() for row in rows]})
        return
    print_table(("Setting", "Value", "From"), rows)


@config.command()
@json_option
@click.pass_obj
def path(session: Session, *, is_json: bool) -> None:
    """Show which settings file is read, and which one would be."""
    found = session.settings_file()
    if is_json:
        document = {
            "path": str(found) if found else None,
            "init": str(_target(session)),
        }
        print_json(document)
    elif found is not None:
        print_line(str(found))
    else:
        say(f"No settings file is read; `gaia config init` writes {_target(session)}.")


@config.command()
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@json_option
@click.pass_obj
def init(session: Session, *, force: bool, is_json: bool) -> None:
    """Write a commented settings file to start from."""
    target = _target(session)
    _write_example(target, is_forced=force)
    if is_json:
        print_json({"path": str(target)})
    else:
        print_line(str(target))


def _rows(session: Session) -> list[SettingRow]:
    """
    List every setting, and what the providers themselves can be told and were not.

    A key that both Gaia and a provider's class have a use for has one row: what the
    section says holds for both, and what it leaves open the class gives.
    """
    rows = {row.key: row for row in describe(session.settings())}
    for provider in session.plugins().providers.values():
        rows |= {row.key: row for row in provider.describe()}
    return list(rows.values())


def _target(session: Session) -> Path:
    """Choose the file to write: the one named, or the one of this user."""
    return session.named_file() or user_folder("config") / FILE_NAME


def _write_example(target: Path, *, is_forced: bool) -> None:
    """
    Write the example.

    Raises:
        SettingsError: If a file is there, or none can be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if is_forced else "x", encoding="utf-8") as file:
            file.write(example_settings())
    except FileExistsError:
        message = f"{target} is there already: `--force` overwrites it."
        raise SettingsError(message) from None
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror}."
        raise SettingsError(message) from error
