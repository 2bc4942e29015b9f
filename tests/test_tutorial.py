"""The tutorial builds the plugin that is shipped, and that plugin works."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from gaia_core import Gaia, GenerateRequest, Settings

ROOT = Path(__file__).parent.parent
ROOM = ROOT / "plugins" / "gaia-example"
PAGE = ROOT / "docs" / "tutorials" / "first-provider.md"

_BLOCK = re.compile(
    r'^```\w+ title="(?P<file>[^"]+)"\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)


def _files_of_the_page() -> dict[str, str]:
    """Put the blocks of the page together, file by file."""
    files: dict[str, str] = {}
    for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        files[block["file"]] = files.get(block["file"], "") + block["code"]
    return files


def _lines(text: str) -> list[str]:
    """Read the lines of a file; empty ones come and go where blocks meet."""
    return [line for line in text.splitlines() if line.strip()]


def _shipped() -> list[str]:
    """Name the files of the room that a reader has to write."""
    code = [*ROOM.glob("*.toml"), *ROOM.rglob("src/**/*.py"), *ROOM.rglob("tests/*.py")]
    return sorted(path.relative_to(ROOM).as_posix() for path in code)


def test_the_tutorial_builds_every_file() -> None:
    """Whoever follows the page ends up with every file that is shipped."""
    assert sorted(_files_of_the_page()) == _shipped()


@pytest.mark.parametrize("name", _shipped())
def test_the_tutorial_builds_what_is_shipped(name: str) -> None:
    """The blocks of a file, put together, are the file."""
    shipped = (ROOM / name).read_text(encoding="utf-8")

    assert _lines(_files_of_the_page().get(name, "")) == _lines(shipped)


async def test_the_example_works_as_it_is_installed() -> None:
    """The entry point of the installed distribution leads to a picture."""
    try:
        importlib.metadata.distribution("gaia-example")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("gaia-example is not installed")
    request = GenerateRequest(prompt="a keep", provider="example", width=64, height=64)

    async with Gaia.open(Settings()) as gaia:
        response = await gaia.generate(request)

    assert response.provider == "example"
    assert (response.images[0].width, response.images[0].height) == (64, 64)
    assert response.cost_usd == 0


async def test_the_example_never_comes_first() -> None:
    """Its priority keeps it behind every provider that does not say otherwise."""
    try:
        importlib.metadata.distribution("gaia-example")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("gaia-example is not installed")

    async with Gaia.open(Settings()) as gaia:
        infos = {info.name: info for info in gaia.providers()}

    assert infos["example"].priority < 0
