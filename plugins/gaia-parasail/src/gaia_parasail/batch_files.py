"""The files of batches on this machine: written to be sent, read when they came."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from gaia_core import GenerateRequest
from gaia_parasail.models import MOST_LINES
from gaia_parasail.reading import read_json

# Eight pictures of 8 megapixels take less; whatever is longer is no line of ours.
LONGEST_LINE = 512 * 1024 * 1024

UNTOUCHED = frozenset({"batch_expired", "batch_cancelled"})
"""What the service says of a request for which there was no time, or no wish."""

_TOGETHER = 64


@attrs.frozen(kw_only=True)
class Part:
    """
    One file to be sent.

    Attributes:
        path: Where it lies.
        places: The places of its requests among all of them.
    """

    path: Path
    places: Sequence[int]


@attrs.define(eq=False, kw_only=True)
class Writer:
    """
    Puts lines into files, as many as it takes.

    Attributes:
        folder: Where the files are put.
        max_bytes: Largest file; a single longer line has one of its own.
    """

    folder: Path
    max_bytes: int
    _file: IO[bytes] | None = attrs.field(default=None, init=False)
    _size: int = attrs.field(default=0, init=False)
    _places: list[int] = attrs.field(factory=list, init=False)

    def add(self, place: int, line: bytes) -> Part | None:
        """Add a line; give the file before, if that is complete now."""
        is_full = self._size + len(line) > self.max_bytes
        part = None
        if self._places and (is_full or len(self._places) == MOST_LINES):
            part = self.end()
        if self._file is None:
            self._file = (self.folder / f"requests-{place}.jsonl").open("wb")
        self._file.write(line)
        self._size += len(line)
        self._places.append(place)
        return part

    def end(self) -> Part | None:
        """Close the file that is open, and give it, if there is one."""
        file, self._file = self._file, None
        if file is None:
            return None
        file.close()
        part = Part(path=Path(file.name), places=self._places)
        self._size, self._places = 0, []
        return part


def together(requests: Sequence[GenerateRequest]) -> Iterator[range]:
    """Say which requests to write at a time: a picture alone, words in company."""
    start = 0
    while start < len(requests):
        stop = start + 1
        while (
            stop < min(start + _TOGETHER, len(requests))
            and requests[stop - 1].image is None
        ):
            stop += 1
        yield range(start, stop)
        start = stop


def is_untouched(error: Mapping[str, Any] | None) -> bool:
    """
    Tell whether an error says that a request was never carried out.

    >>> is_untouched({"code": "batch_expired"}), is_untouched({"code": [1]})
    (True, False)
    """
    code = (error or {}).get("code")
    return isinstance(code, str) and code in UNTOUCHED


@attrs.frozen(kw_only=True)
class Line:
    """
    One line of a file that came.

    Attributes:
        task_id: What it is about; None: nobody can tell.
        response: What an interactive call would have been answered; None: nothing.
        error: Why there is no response, if there is none.
    """

    task_id: str | None
    response: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether it says that the request was never carried out."""
        return self.response is None and is_untouched(self.error)


def next_line(file: IO[bytes]) -> Line | None:
    """Read the next line of a file that came; None: that was all."""
    text = file.readline(LONGEST_LINE)
    return line_of(text) if text else None


def line_of(text: bytes) -> Line:
    """
    Read one line; a broken one names nobody.

    >>> line_of(b'{"custom_id": "a", "error": {"code": "batch_expired"}}').error
    {'code': 'batch_expired'}
    """
    try:
        content = read_json(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return Line(task_id=None)
    task_id, response = content.get("custom_id"), content.get("response")
    error = content.get("error")
    return Line(
        task_id=task_id if isinstance(task_id, str) else None,
        response=response if isinstance(response, dict) else None,
        error=error if isinstance(error, dict) else None,
    )


@attrs.frozen(kw_only=True)
class Place:
    """
    Where the line about a task begins.

    Attributes:
        path: The file it is in.
        start: Where it begins there.
        is_untouched: Whether it says that the request was never carried out.
    """

    path: Path
    start: int
    is_untouched: bool = False


def places_in(path: Path) -> dict[str, Place]:
    """Find where in a file each task's line begins; of several, the first counts."""
    found: dict[str, Place] = {}
    with path.open("rb") as file:
        start = 0
        while (line := next_line(file)) is not None:
            if line.task_id is not None and line.task_id not in found:
                found[line.task_id] = Place(
                    path=path, start=start, is_untouched=line.is_untouched
                )
            start = file.tell()
    return found


def line_at(place: Place) -> Line:
    """Read the line that begins somewhere in a file."""
    with place.path.open("rb") as file:
        file.seek(place.start)
        return line_of(file.readline(LONGEST_LINE))
