"""The container: what it is built from, as whom it runs, what it never holds."""

import json
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import attrs
import pytest

from gaia_core.secrets import is_secret_name
from gaia_core.settings import load_settings

ROOT = Path(__file__).parent.parent.parent


@attrs.frozen
class Step:
    """One instruction: its word, and what follows."""

    word: str
    rest: str


def _steps() -> Iterator[Step]:
    """Read the instructions, each on one line and without comments."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield Step(word, rest.strip())


STEPS = tuple(_steps())
LAST = STEPS[max(at for at, step in enumerate(STEPS) if step.word == "FROM") :]


def _rest(word: str, steps: tuple[Step, ...] = LAST) -> list[str]:
    return [step.rest for step in steps if step.word == word]


def _names() -> Iterator[str]:
    """Name what is set while it is built or when it runs."""
    for step in STEPS:
        if step.word in {"ARG", "ENV", "LABEL"}:
            yield from (part.partition("=")[0] for part in shlex.split(step.rest))


def test_it_does_not_run_as_root() -> None:
    """The last word about the user names one that is made here."""
    (user,) = _rest("USER")
    order = [step.word for step in LAST]

    assert user not in {"root", "0"}
    assert any(re.search(rf"useradd .*\b{user}$", rest) for rest in _rest("RUN"))
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_it_holds_no_secret() -> None:
    """No key is built into it, where everybody who has it could read it."""
    assert [name for name in _names() if is_secret_name(name)] == []


def test_what_is_copied_is_there() -> None:
    """Every path it copies exists, and is not left out of what is sent to the build."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = [
        path
        for rest in _rest("COPY", STEPS)
        if "--from=" not in rest
        for path in shlex.split(rest)[:-1]
    ]

    assert "*" in ignored
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert {path.removeprefix("./") for path in copied} == kept


@pytest.mark.parametrize("path", [".env", "gaia.toml", ".git", "gaia.db", "tests"])
def test_nothing_else_is_sent_to_the_build(path: str) -> None:
    """What lies beside the source, keys above all, does not come near the image."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]

    assert "*" in ignored
    assert not any(fnmatch(path, name) for name in kept)


def test_its_rooms_exist() -> None:
    """Each provider that it installs is one of this repository."""
    (rooms,) = (rest for rest in _rest("ARG", STEPS) if rest.startswith("ROOMS="))

    names = shlex.split(rooms)[0].partition("=")[2].split()

    assert names
    assert [
        name
        for name in names
        if not (ROOT / "plugins" / f"gaia-{name}" / "pyproject.toml").is_file()
    ] == []


def test_its_settings_are_settings() -> None:
    """What it sets is known, and everything that is written lies in the volume."""
    pairs = (part for rest in _rest("ENV") for part in shlex.split(rest))
    environ = dict(pair.split("=", 1) for pair in pairs)
    (volume,) = _rest("VOLUME")

    settings = load_settings(environ=environ)

    known = {source.rpartition(" ")[2] for source in settings.sources.values()}
    assert {name for name in environ if name.startswith("GAIA_")} <= known
    assert settings.server.host == "0.0.0.0"  # noqa: S104 - in a container
    assert str(settings.image_store).startswith(volume)
    assert str(settings.spill).startswith(volume)
    assert settings.database.removeprefix("sqlite:///").startswith(volume)
    assert _rest("EXPOSE") == [str(settings.server.port)]


def test_its_health_is_checked_without_further_tools() -> None:
    """The check is a line of Python that compiles, and asks the route of health."""
    (check,) = _rest("HEALTHCHECK")

    command = json.loads(check.partition("CMD ")[2])

    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/api/health" in command[2]


def test_it_serves() -> None:
    """Run without further words it serves, with a log for machines."""
    (entry,), (words,) = _rest("ENTRYPOINT"), _rest("CMD")

    assert json.loads(entry) == ["gaia"]
    assert json.loads(words) == ["serve", "--log-json"]
