"""A new provider from the template."""

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

import click

from gaia_core.cli.tables import clean

RESERVED = frozenset({"all", "core", "middleware"})
"""Names that would clash with Gaia's own."""
LONGEST_NAME = 40

FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "src/{package}/__init__.py",
    "provider.py.txt": "src/{package}/provider.py",
    "drawing.py.txt": "src/{package}/drawing.py",
    "test_provider.py.txt": "tests/test_provider.py",
}
"""File of the template to its place in the new distribution."""


def write_template(name: str, directory: Path | None) -> tuple[Path, list[Path]]:
    """
    Write the distribution of a new provider.

    Args:
        name: What the provider is called; ``gaia-`` in front of it is left out.
        directory: Where to write it; None: ``./gaia-NAME``.

    Returns:
        The folder and the files in it.
    """
    words = name_words(name)
    folder = directory or Path(words["distribution"])
    texts = fill_template(words)
    _check_empty(folder)
    try:
        return folder, [_write(folder / path, text) for path, text in texts.items()]
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror}."
        raise click.ClickException(message) from error


def name_words(name: str) -> dict[str, str]:
    """
    Make every spelling of a name that the template needs.

    >>> name_words("rune-forge")["package"], name_words("rune-forge")["provider"]
    ('gaia_rune_forge', 'RuneForgeProvider')
    """
    name = name.removeprefix("gaia-")
    _check_name(name)
    parts = name.split("-")
    joined = "_".join(parts)
    return {
        "name": name,
        "title": " ".join(part.capitalize() for part in parts),
        "distribution": f"gaia-{name}",
        "package": f"gaia_{joined}",
        "provider": "".join(part.capitalize() for part in parts) + "Provider",
        "variable": f"{joined.upper()}_API_KEY",
        "event": f"{joined}.drawing",
    }


def fill_template(words: Mapping[str, str]) -> dict[str, str]:
    """Give each file of the new distribution, by its path, with its text."""
    template = resources.files("gaia_core.cli") / "template"
    texts = {
        place.format_map(words): Template(
            (template / file).read_text(encoding="utf-8")
        ).substitute(words)
        for file, place in FILES.items()
    }
    return {**texts, f"src/{words['package']}/py.typed": ""}


def _check_name(name: str) -> None:
    is_spelt = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is not None
    if is_spelt and name not in RESERVED and len(name) <= LONGEST_NAME:
        return
    cause = "is reserved" if name in RESERVED else "is no name for a provider"
    message = (
        f"{clean(name)!r} {cause}: take at most {LONGEST_NAME} small letters, digits "
        "and single hyphens, a letter first, as in rune-forge."
    )
    raise click.UsageError(message)


def _check_empty(folder: Path) -> None:
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free:
        message = f"{folder} is there already: name another --directory."
        raise click.UsageError(message)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
