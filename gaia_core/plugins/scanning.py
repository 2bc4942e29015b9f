"""
Finding entry points without `importlib.metadata`, which takes longer than the search.

It reads the folders on Python's path as that does, for the one group that matters.
Whatever looks unusual is left to it: `scan` then says that it does not know.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from itertools import takewhile
from operator import attrgetter
from pathlib import Path

import attrs

_KINDS = (".dist-info", ".egg-info")
_VALUE = re.compile(r"([\w.]+)\s*(?::\s*([\w.]+)\s*)?(?:\[.*\]\s*)?")
_DESCRIPTIONS = ("METADATA", "PKG-INFO")


class _UnusualError(Exception):
    """Something only `importlib.metadata` can make sense of."""


@attrs.frozen(kw_only=True)
class FoundPoint:
    """
    An entry point of an installed distribution.

    Attributes:
        name: Its name.
        value: The module, and the object in it, that it names.
        distribution: What installed it: name and version.
    """

    name: str
    value: str
    distribution: str

    def load(self) -> object:
        """Import what it names."""
        match = _VALUE.fullmatch(self.value)
        if match is None:
            message = f"{self.value!r} names no module"
            raise ValueError(message)
        module = import_module(match[1])
        return attrgetter(match[2])(module) if match[2] else module


def scan(group: str) -> list[FoundPoint] | None:
    """
    Find the entry points of a group, or None where something is unusual.

    As with `importlib.metadata`, the first distribution of a name hides the others.
    """
    if any(map(_finds_distributions, sys.meta_path)):
        return None
    try:
        return [
            point for folder in _distributions() for point in _points_in(folder, group)
        ]
    except (OSError, UnicodeError, _UnusualError):
        return None


def normalised(name: str) -> str:
    """
    Spell the name of a distribution as all its spellings are compared.

    >>> normalised("Gaia_Hello.World")
    'gaia-hello-world'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _finds_distributions(finder: object) -> bool:
    """Tell whether a finder knows of distributions that lie in no folder."""
    find: Callable[..., object] | None = getattr(finder, "find_distributions", None)
    return find is not None and finder is not PathFinder


def _distributions() -> Iterator[Path]:
    """Give the folder of every distribution on the path, the first of each name."""
    seen: set[str] = set()
    for place in dict.fromkeys(one for one in sys.path if isinstance(one, str)):
        for name in _entries(place or "."):
            low = name.lower()
            if low.endswith(".egg"):
                raise _UnusualError
            if not low.endswith(_KINDS):
                continue
            stem = normalised(name.rpartition(".")[0].partition("-")[0])
            if stem not in seen:
                seen.add(stem)
                yield Path(place, name)


def _entries(place: str) -> list[str]:
    """List a folder on the path; nothing where there is none."""
    if place.lower().endswith(".egg"):
        raise _UnusualError
    try:
        return os.listdir(place)  # noqa: PTH208  a thousand names, of which few matter
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        # A zip file has its own way of being read.
        raise _UnusualError from None


def _points_in(folder: Path, group: str) -> Iterator[FoundPoint]:
    try:
        text = (folder / "entry_points.txt").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    pairs = list(_pairs(text, group))
    distribution = _described(folder) if pairs else ""
    for name, value in pairs:
        yield FoundPoint(name=name, value=value, distribution=distribution)


def _pairs(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Read the lines of one section."""
    section = None
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == group:
            name, sign, value = map(str.strip, line.partition("="))
            if not sign or not name or not _VALUE.fullmatch(value):
                raise _UnusualError
            yield name, value


def _described(folder: Path) -> str:
    """Read what a distribution calls itself: name and version."""
    for file in _DESCRIPTIONS:
        try:
            with (folder / file).open(encoding="utf-8") as lines:
                head = [line.rstrip("\n") for line in takewhile(str.strip, lines)]
        except FileNotFoundError:
            continue
        fields = dict(line.partition(": ")[::2] for line in head)
        name, version = fields.get("Name"), fields.get("Version")
        if name and version:
            return f"{normalised(name)} {version}"
    raise _UnusualError
