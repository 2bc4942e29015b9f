"""Commands that plugins add to ``gaia``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]

HELLO = """
    import attrs
    import click
    from gaia_core import GaiaError, hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        colour: str = "red"

        @hookimpl
        def gaia_commands(self):
            print("noise")

            @click.group("hello", help="Look at the colour.")
            def hello() -> None:
                pass

            @hello.command("show")
            @click.option("--loud", is_flag=True)
            def show(*, loud: bool) -> None:
                click.echo(self.colour.upper() if loud else self.colour)

            @hello.command("fail")
            def fail() -> None:
                raise GaiaError("There is no paint: buy some.")

            @hello.command("crash")
            def crash() -> None:
                raise KeyError("sk-canary")

            return [hello]
"""
RIVAL = """
    import attrs
    import click
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        priority: int = 70

        @hookimpl
        def gaia_commands(self):
            def say() -> None:
                click.echo("the rival's")

            return [click.Command(name, callback=say) for name in ("hello", "models")]
"""
FAILING = """
    import attrs
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        @hookimpl
        def gaia_commands(self):
            {body}
"""
BROKEN = "raise RuntimeError('no such library')"


def test_a_command_runs_with_its_providers_settings(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """It is made as for every other command: ``--config`` and ``--set`` count."""
    install(source=HELLO)
    file = tmp_path / "gaia.toml"
    file.write_text('[providers.studio]\ncolour = "blue"\n', encoding="utf-8")

    plain = gaia("hello", "show")
    from_file = gaia("--config", file, "hello", "show", "--loud")
    overridden = gaia("--set", "providers.studio.colour=green", "hello", "show")

    assert (plain.exit_code, plain.stdout) == (0, "red\n")
    assert from_file.stdout == "BLUE\n"
    assert overridden.stdout == "green\n"


def test_help_lists_the_commands_of_plugins(gaia: Gaia, install: Install) -> None:
    """They come last, with the first sentence of their own help."""
    install(source=HELLO)

    lines = gaia("--help").stdout.splitlines()

    assert lines[-1].split(maxsplit=1) == ["hello", "Look at the colour."]


def test_help_counts_a_section_that_switches_a_plugin_off(
    gaia: Gaia, install: Install
) -> None:
    """The settings decide for the help as for everything else."""
    install(source=HELLO)

    result = gaia("--set", "providers.studio.enabled=false", "--help")

    assert result.exit_code == 0
    assert "hello" not in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("hello", "fail"), 1, "error: There is no paint: buy some."),
        (("hello", "show", "--quiet"), 2, "--quiet"),
        (("hello", "nothing"), 2, "nothing"),
        (("helo",), 2, "Did you mean 'hello'?"),
        (("hello", "crash"), 1, "gaia failed with KeyError"),
    ],
    ids=["gaia error", "option", "subcommand", "slip", "crash"],
)
def test_errors_of_a_command_become_exit_codes(
    gaia: Gaia, install: Install, words: tuple[str, ...], code: int, text: str
) -> None:
    """They end as those of Gaia's own commands do, and show no secret."""
    install(source=HELLO)

    result = gaia(*words)

    assert result.exit_code == code
    assert text in result.stderr
    assert "sk-canary" not in result.output


def test_the_higher_rank_goes_first_and_gaia_before_all(
    gaia: Gaia, install: Install
) -> None:
    """Who lost a name is told by the list of plugins."""
    install(source=HELLO)
    install("rival", RIVAL)

    table = gaia("plugins").stdout
    listed = json.loads(gaia("plugins", "--json").stdout)["plugins"]

    assert gaia("hello").stdout == "the rival's\n"
    assert "the rival's" not in gaia("models").stdout
    assert "loaded; its command hello is rival's" in table
    assert "loaded; its command models is Gaia's" in table
    commands = {one["plugin"]: one["commands"] for one in listed if one["instances"]}
    assert commands == {
        "rival": ["hello"],
        "studio": [],
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('sk-canary')", "KeyError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("return None", "it gave NoneType, not a sequence of commands"),
        ("return ['pull']", "it gave str, not a named click.Command"),
    ],
    ids=["raises", "exits", "nothing", "strings"],
)
def test_a_hook_that_fails_harms_nobody(
    gaia: Gaia, install: Install, body: str, reason: str
) -> None:
    """Help is shown, other plugins' commands work, the list of plugins says why."""
    install("failing", FAILING.format(body=body))
    install(source=HELLO)

    shown = gaia("--help")

    assert shown.exit_code == 0
    assert "hello" in shown.stdout
    assert gaia("hello", "show").stdout == "red\n"
    listed = gaia("plugins").stdout
    assert f"gaia_commands failed: {reason}" in listed
    assert "sk-canary" not in listed


def test_help_survives_settings_that_cannot_be_read(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """The help is what helps then; a plugin's command names the mistake."""
    install(source=HELLO)
    file = tmp_path / "gaia.toml"
    file.write_text("[gaia]\nno_such_key = 1\n", encoding="utf-8")

    shown = gaia("--config", file, "--help")
    asked = gaia("--config", file, "hello", "show")

    assert shown.exit_code == 0
    assert "generate" in shown.stdout
    assert asked.exit_code == 2
    assert "no_such_key" in asked.stderr


def test_a_missing_command_may_be_that_of_a_plugin_that_failed(
    gaia: Gaia, install: Install
) -> None:
    """Who looks for it is told where to look."""
    install("broken", BROKEN)

    result = gaia("flux", "pull")

    assert result.exit_code == 2
    assert "`gaia plugins` says why" in result.stderr


def test_own_commands_ask_no_plugin_for_commands(gaia: Gaia, install: Install) -> None:
    """Nobody waits for a hook that another command needs."""
    install(source=FAILING.format(body="raise AssertionError('asked')"))

    assert gaia("models").exit_code == 0
    assert gaia("config", "path").exit_code == 0
