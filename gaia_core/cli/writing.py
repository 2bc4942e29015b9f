"""Writing: results to standard output, everything else to standard error."""

from typing import Any

import click


def print_line(text: str = "") -> None:
    """Print a line of the result."""
    click.echo(text)


def print_json(document: Any) -> None:
    """Print the result as one JSON document."""
    from json import dumps  # noqa: PLC0415 - 3 ms

    click.echo(dumps(document, ensure_ascii=False, indent=2))


def say(text: str) -> None:
    """Tell a person something that is no part of the result."""
    click.echo(text, err=True)


def gaia_version() -> str:
    """Read the version from what is installed."""
    from importlib import metadata  # noqa: PLC0415 - 20 ms

    try:
        return metadata.version("gaia-core")
    except metadata.PackageNotFoundError:
        return "unknown: gaia-core runs from a folder and is not installed"
