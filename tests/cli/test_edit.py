"""``gaia upscale`` and ``gaia remove-background``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gaia_core import Image

Gaia = Callable[..., Result]
Install = Callable[..., Path]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_picture_is_enlarged(
    gaia: Gaia, install: Install, picture: Path, tmp_path: Path, factor: int
) -> None:
    """The factor multiplies width and height."""
    install()
    target = tmp_path / "large.png"

    result = gaia("upscale", picture, "--factor", factor, "-o", target)

    image = Image.open(target)
    assert result.stdout == f"{target}\n"
    assert (image.width, image.height) == (32 * factor, 16 * factor)


def test_another_factor_is_refused(gaia: Gaia, install: Install, picture: Path) -> None:
    """Pictures are enlarged by 2, 4 or 8 only."""
    install()

    result = gaia("upscale", picture, "--factor", 3)

    assert result.exit_code == 2
    assert "'3' is not one of '2', '4', '8'" in result.stderr


@pytest.mark.parametrize("command", ["remove-background", "rmbg"])
def test_a_subject_is_cut_out(
    gaia: Gaia, install: Install, picture: Path, command: str
) -> None:
    """Both names of the command give a picture of the same size."""
    install()

    result = gaia(command, picture)

    image = Image.open(Path(result.stdout.strip()))
    assert (image.width, image.height) == (32, 16)


def test_a_picture_comes_from_standard_input(
    gaia: Gaia, install: Install, picture: Path
) -> None:
    """The picture ``-`` stands for what is piped in."""
    install()

    result = gaia("upscale", "-", "--json", stdin=picture.read_bytes())

    assert json.loads(result.stdout)["images"][0]["width"] == 128


@pytest.mark.parametrize(
    ("stdin", "words"),
    [(b"", "Standard input is empty"), (b"text", "no readable PNG")],
    ids=["empty", "no-picture"],
)
def test_what_is_no_picture_is_refused(
    gaia: Gaia, install: Install, stdin: bytes, words: str
) -> None:
    """Standard input without a picture is wrong usage."""
    install()

    result = gaia("rmbg", "-", stdin=stdin)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_missing_file_is_named(gaia: Gaia, install: Install) -> None:
    """A picture that is not there is named, with the cause."""
    install()

    result = gaia("upscale", "no.png")

    assert result.exit_code == 2
    assert "The picture no.png cannot be read: No such file" in result.stderr
