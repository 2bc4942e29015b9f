"""``gaia enhance`` and ``gaia describe``."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]


def test_a_prompt_is_worked_out(gaia: Gaia, install: Install) -> None:
    """The better prompt is the whole of standard output."""
    install()

    result = gaia("enhance", "a dragon")

    assert result.exit_code == 0
    assert "a dragon" in result.stdout


def test_a_prompt_comes_from_standard_input(gaia: Gaia, install: Install) -> None:
    """The prompt ``-`` stands for what is piped in."""
    install()

    result = gaia("enhance", "-", stdin=b"a keep\n")

    assert "a keep" in result.stdout


def test_a_picture_is_described(gaia: Gaia, install: Install, picture: Path) -> None:
    """The description is printed."""
    install()

    result = gaia("describe", picture)

    assert result.exit_code == 0
    assert result.stdout.strip()


def test_a_question_without_its_option_is_told_of_it(
    gaia: Gaia, install: Install, picture: Path
) -> None:
    """Who writes the question behind the picture learns where it goes."""
    install()

    result = gaia("describe", picture, "Who is that?")

    assert result.exit_code == 2
    assert "'Who is that?'. A question goes into --question." in result.stderr


def test_words_as_json(gaia: Gaia, install: Install, picture: Path) -> None:
    """``--json`` gives the words beside what every response has."""
    install()

    prompt = json.loads(gaia("enhance", "a dragon", "--json").stdout)
    seen = json.loads(gaia("describe", picture, "--question", "Who?", "--json").stdout)

    assert prompt["prompt"]
    assert seen["description"]
    assert set(prompt) - {"prompt"} == set(seen) - {"description"}
