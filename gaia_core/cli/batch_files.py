"""Batch files: one request a line, checked before anything is accepted."""

import difflib
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from gaia_core.cli.pictures import PIPE
from gaia_core.errors import InvalidRequestError
from gaia_core.records import fingerprint, read_line
from gaia_core.requests import Request

MAX_LINE = 134_217_728
"""The most bytes of one line: a picture may stand in it."""
MAX_SHOWN = 10
"""How many wrong lines are shown."""


@attrs.frozen(kw_only=True)
class BatchFile:
    """
    A file of requests.

    Attributes:
        path: Where it is.
        folder: What the paths of pictures in it are relative to.
        name: What a person calls it.
    """

    path: Path
    folder: Path
    name: str

    def digest(self) -> str:
        """
        Check every line, and digest what they ask for.

        Raises:
            InvalidRequestError: If a line is wrong; it shows the first ten of them.
        """
        digest, count = hashlib.sha256(), 0
        wrong: list[str] = []
        for number, data in self._lines():
            count += 1
            try:
                digest.update(fingerprint(self._request(data)).encode())
            except InvalidRequestError as error:
                wrong.append(
                    f"line {number}: {error}" if len(wrong) < MAX_SHOWN else ""
                )
        if wrong:
            raise InvalidRequestError(_complaint(self.name, wrong, count))
        if not count:
            message = f"{self.name} is empty: write a request on each line."
            raise InvalidRequestError(message)
        return digest.hexdigest()

    def requests(self) -> Iterator[Request]:
        """Read the requests, one at a time."""
        return (self._request(data) for _, data in self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Number the lines; those at the end that are empty do not count."""
        empty: list[int] = []
        with self.path.open("rb") as file:
            number = 0
            while data := file.readline(MAX_LINE):
                number += 1
                if not data.strip():
                    empty.append(number)
                    continue
                yield from ((one, b"") for one in empty)
                empty.clear()
                yield number, data

    def _request(self, data: bytes) -> Request:
        if not data:
            message = "It is empty: take it out."
            raise InvalidRequestError(message)
        if len(data) >= MAX_LINE:
            message = f"It is longer than {MAX_LINE} bytes."
            raise InvalidRequestError(message)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            message = "It is not UTF-8 text."
            raise InvalidRequestError(message) from None
        return read_line(text, folder=self.folder)


@contextmanager
def batch_file(source: str, *, commands: Sequence[str]) -> Iterator[BatchFile]:
    """
    Open a batch file, or standard input for ``-``.

    Args:
        source: What was given on the command line.
        commands: What may have been meant instead of a file.
    """
    if source == PIPE:
        with _copy_of_stdin() as path:
            name = "standard input"
            yield BatchFile(path=path, folder=Path.cwd(), name=name)
        return
    path = Path(source)
    _check_readable(path, commands)
    yield BatchFile(path=path, folder=path.parent, name=path.name)


@contextmanager
def _copy_of_stdin() -> Iterator[Path]:
    """Copy standard input into a file: it is gone through twice."""
    with tempfile.TemporaryDirectory(prefix="gaia-") as folder:
        path = Path(folder) / "batch.jsonl"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _check_readable(path: Path, commands: Sequence[str]) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        near = difflib.get_close_matches(str(path), commands, n=1)
        hint = f" Did you mean `gaia batch {near[0]}`?" if near else ""
        message = f"{path} cannot be read: {error.strerror}.{hint}"
    raise click.UsageError(message)


def _complaint(name: str, wrong: Sequence[str], count: int) -> str:
    """Say which lines are wrong."""
    shown = [line for line in wrong if line]
    left = len(wrong) - len(shown)
    are = "is" if len(wrong) == 1 else "are"
    lines = "line" if count == 1 else "lines"
    return "\n".join(
        [
            f"{len(wrong)} of {count} {lines} of {name} {are} wrong; nothing was sent.",
            *(f"  {line}" for line in shown),
            *([f"  and {left} more"] if left else []),
        ]
    )
