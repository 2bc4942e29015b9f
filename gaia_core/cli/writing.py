"""Writing: results to standard output, everything else to standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


class StdoutError(Exception):
    """
    Standard output cannot be written.

    Attributes:
        is_closed: Whether its reader went away, which is no failure.
    """

    def __init__(self, error: OSError) -> None:
        """Say why, in a sentence."""
        super().__init__(f"Standard output cannot be written: {error.strerror}.")
        self.is_closed = isinstance(error, BrokenPipeError)


def print_line(text: str = "") -> None:
    """Print a line of the result."""
    with _to_stdout():
        click.echo(text)


def print_json(document: Any) -> None:
    """Print the result as one JSON document."""
    from json import dumps  # noqa: PLC0415 - 3 ms

    print_line(dumps(document, ensure_ascii=False, indent=2))


def print_bytes(data: bytes) -> None:
    """Print bytes that are the result."""
    with _to_stdout():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def flush() -> None:
    """Make sure that the result has left this process."""
    with _to_stdout():
        sys.stdout.flush()


@contextmanager
def _to_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StdoutError(error) from error


def say(text: str) -> None:
    """Tell a person something that is no part of the result."""
    click.echo(text, err=True)


def sentence(words: str) -> str:
    """
    Begin some words with a capital letter, and change no other.

    >>> sentence("no provider: pip install gaia-offline")
    'No provider: pip install gaia-offline'
    """
    return words[:1].upper() + words[1:]


def gaia_version() -> str:
    """Read the version from what is installed."""
    from importlib import metadata  # noqa: PLC0415 - 20 ms

    try:
        return metadata.version("gaia-core")
    except metadata.PackageNotFoundError:
        return "unknown: gaia-core runs from a folder and is not installed"
