"""``gaia config``, ``--config`` and ``--set``."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """Give a settings file with a secret in it."""
    file = tmp_path / "gaia.toml"
    text = '[gaia]\npolicy = "best"\n[providers.studio]\napi_key = "sk-canary"\n'
    file.write_text(text, encoding="utf-8")
    return file


def _rows(result: Result) -> dict[str, tuple[str, str]]:
    rows = json.loads(result.stdout)["settings"]
    return {row["key"]: (row["value"], row["source"]) for row in rows}


def test_settings_say_where_they_come_from(gaia: Gaia, file: Path) -> None:
    """File and default are told apart."""
    rows = _rows(gaia("--config", file, "config", "show", "--json"))

    assert rows["policy"] == ("best", str(file))
    assert rows["deadline"][1] == "default"


def test_the_command_line_wins(gaia: Gaia, file: Path) -> None:
    """``--set`` overrides the file, and is named as the source."""
    rows = _rows(
        gaia("--config", file, "--set", "policy=fastest", "config", "show", "--json")
    )

    assert rows["policy"] == ("fastest", "command line")


def test_secrets_are_masked(gaia: Gaia, file: Path) -> None:
    """No way of showing the settings shows a key."""
    table = gaia("--config", file, "config", "show")
    document = gaia("--config", file, "config", "show", "--json")

    assert "providers.studio.api_key" in table.stdout
    assert "sk-canary" not in table.stdout + document.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "policy"), "--set takes KEY=VALUE"),
        (("--set", "police=best"), "policy"),
        (("--set", "policy=luck"), "luck"),
        (("--config", "no.toml"), "no.toml, which is not a file"),
    ],
    ids=["no-value", "misspelt", "wrong", "no-file"],
)
def test_wrong_settings_are_wrong_usage(
    gaia: Gaia, words: tuple[str, ...], message: str
) -> None:
    """What cannot be used ends with code 2 and is named."""
    result = gaia(*words, "config", "show")

    assert result.exit_code == 2
    assert message in result.stderr


def test_settings_of_providers_are_shown(gaia: Gaia, install: Install) -> None:
    """What a provider could be told is shown with its default."""
    install()

    given = _rows(gaia("--set", "providers.studio.delay=2", "config", "show", "--json"))

    assert given["providers.studio.delay"] == ("2", "command line")
    assert given["providers.studio.is_local"] == ("false", "default")


PACED = """
    import attrs
    from gaia_core import setting
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        max_concurrent: int | None = setting(
            default=4, env=("STUDIO_MAX_CONCURRENT",)
        )
"""


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        pytest.param((), None, ("4", "default"), id="default"),
        pytest.param(
            (), "9", ("9", "environment: STUDIO_MAX_CONCURRENT"), id="variable"
        ),
        pytest.param(
            ("--set", "providers.studio.priority=7"),
            "9",
            ("9", "environment: STUDIO_MAX_CONCURRENT"),
            id="a-section-that-leaves-it-open",
        ),
        pytest.param(
            ("--set", "providers.studio.max_concurrent=2"),
            "9",
            ("2", "command line"),
            id="section",
        ),
    ],
)
def test_a_key_of_core_and_provider_is_shown_once_and_truly(
    gaia: Gaia,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variable: str | None,
    expected: tuple[str, str],
) -> None:
    """The value shown is the one that holds, with where it comes from."""
    install(source=PACED)
    if variable is not None:
        monkeypatch.setenv("STUDIO_MAX_CONCURRENT", variable)

    result = gaia(*words, "config", "show", "--json")

    keys = [row["key"] for row in json.loads(result.stdout)["settings"]]
    assert keys.count("providers.studio.max_concurrent") == 1
    assert _rows(result)["providers.studio.max_concurrent"] == expected
    if "priority" in "".join(words):
        assert _rows(result)["providers.studio.priority"] == ("7", "command line")


def test_pace_of_a_section_is_shown(gaia: Gaia, install: Install) -> None:
    """How often and how soon a provider is asked again stands there, too."""
    install()

    rows = _rows(
        gaia("--set", "providers.studio.retry_delay=1.5", "config", "show", "--json")
    )

    assert rows["providers.studio.retry_delay"] == ("1.5", "command line")
    assert rows["providers.studio.max_attempts"] == ("not set", "default")


def test_the_path_is_the_file_that_is_read(gaia: Gaia, file: Path) -> None:
    """``gaia config path`` prints the file."""
    result = gaia("--config", file, "config", "path")

    assert result.stdout == f"{file}\n"


def test_without_a_file_the_path_says_where_one_goes(gaia: Gaia) -> None:
    """Standard output stays empty when no file is read."""
    result = gaia("config", "path")
    document = json.loads(gaia("config", "path", "--json").stdout)

    assert result.exit_code == 0
    assert result.stdout == ""
    assert document["path"] is None
    assert document["init"] in result.stderr


def test_a_first_file_is_written(gaia: Gaia) -> None:
    """``gaia config init`` writes a file that is read from then on."""
    result = gaia("config", "init")

    path = Path(result.stdout.strip())
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {}
    assert gaia("config", "path").stdout == f"{path}\n"


def test_a_file_is_overwritten_on_demand_only(gaia: Gaia, file: Path) -> None:
    """``gaia config init`` leaves a file alone without ``--force``."""
    refused = gaia("--config", file, "config", "init")
    before = file.read_text(encoding="utf-8")
    forced = gaia("--config", file, "config", "init", "--force")

    assert refused.exit_code == 2
    assert "is there already" in refused.stderr
    assert "sk-canary" in before
    assert forced.exit_code == 0
    assert "sk-canary" not in file.read_text(encoding="utf-8")


def test_a_named_file_is_written_where_it_is_named(gaia: Gaia, tmp_path: Path) -> None:
    """``--config`` chooses the file that ``gaia config init`` writes."""
    target = tmp_path / "new" / "work.toml"

    result = gaia("--config", target, "config", "init")

    assert result.stdout == f"{target}\n"
    assert target.is_file()


def test_a_key_on_the_command_line_is_masked(gaia: Gaia) -> None:
    """A secret given with ``--set`` is not shown either."""
    result = gaia("--set", "server.token=sk-canary", "config", "show")

    assert "sk-canary" not in result.stdout
    assert "command line" in result.stdout
