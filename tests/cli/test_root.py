"""The root of the command line: commands, global options, failures."""

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from gaia_core import (
    InvalidRequestError,
    NoCapableProviderError,
    OutcomeUnknownError,
    RateLimitError,
    SettingsError,
    StorageError,
)
from gaia_core.cli import main
from gaia_core.cli.failures import ExitCode, exit_code, shape_error
from gaia_core.cli.root import COMMANDS
from gaia_core.cli.tables import group_reasons

Gaia = Callable[..., Result]
Install = Callable[..., Path]

ODD = """
    import attrs
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        failure: Exception | None = attrs.field(factory=lambda: KeyError("sk-canary"))
        price_usd: float = 0.04
"""
REFUSING = """
    import attrs
    from gaia_core import ContentFilteredError
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        failure: Exception | None = ContentFilteredError("no \\x1b[31mdragons")
"""
QUITTER = """
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    class Plugin(FakeProvider):
        @hookimpl
        async def gaia_generate(self, request, context):
            raise SystemExit(0)

        @hookimpl
        async def gaia_check_health(self, level):
            raise SystemExit(0)
"""


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command(gaia: Gaia, option: str) -> None:
    """The help of the root names every command and no alias."""
    result = gaia(option)

    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert "rmbg" not in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(gaia: Gaia, name: str) -> None:
    """Every command has a help page."""
    result = gaia(name, "--help")

    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: gaia")


@pytest.mark.parametrize(
    "words", [("generate",), ("plugins", "new")], ids=["generate", "new"]
)
def test_examples_keep_their_lines(gaia: Gaia, words: tuple[str, ...]) -> None:
    """Each example of a help page is a line that can be copied."""
    result = gaia(*words, "--help")

    assert f"\n  gaia {' '.join(words)} " in result.stdout
    assert "\\b" not in result.stdout


def test_a_misspelt_command_is_corrected(gaia: Gaia) -> None:
    """A slip of the pen is answered with the nearest command."""
    result = gaia("generat", "a dragon")

    assert result.exit_code == 2
    assert "There is no command 'generat'. Did you mean 'generate'?" in result.stderr


def test_the_version_is_shown(gaia: Gaia) -> None:
    """``--version`` prints one line."""
    result = gaia("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("gaia ")


def test_a_host_can_call_it() -> None:
    """Without standalone mode, errors come out as exceptions."""
    with pytest.raises(SettingsError):
        main(["--set", "policy=luck", "config", "show"], standalone_mode=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.UsageError("no"), 2),
        (InvalidRequestError("no"), 2),
        (SettingsError("no"), 2),
        (NoCapableProviderError("no", {}), 4),
        (OutcomeUnknownError("lost", operation_id="1", provider="a"), 5),
        (RateLimitError("slow down"), 1),
        (StorageError("full"), 1),
        (KeyError("odd"), 1),
        (click.Abort(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_failure_has_its_exit_code(error: Exception, code: int) -> None:
    """The exit code says what kind of failure it was."""
    assert exit_code(error) == code


def test_exit_codes_stay() -> None:
    """Scripts rely on the numbers."""
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "WRONG_USAGE": 2,
        "PARTLY": 3,
        "NOBODY": 4,
        "UNKNOWN": 5,
        "INTERRUPTED": 130,
        "PIPE_CLOSED": 141,
        "TERMINATED": 143,
    }


def test_a_failure_as_json(gaia: Gaia, install: Install) -> None:
    """With ``--json`` a failure is a document on standard output."""
    install(source=REFUSING)

    result = gaia("generate", "a dragon", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert result.stderr == ""
    assert document["error_type"] == "content_error"
    assert document["suggested_action"] == "change_prompt"
    assert document["operation_id"]
    assert document["attempts"][0]["outcome"] == "rejected_final"
    assert document["reasons"] == {}


def test_wrong_usage_as_json(gaia: Gaia) -> None:
    """Even a command line that cannot be parsed is answered in JSON."""
    result = gaia("generate", "--json", "--no-such-option")

    document = json.loads(result.stdout)
    assert result.exit_code == 2
    assert "--no-such-option" in document["error"]
    assert document["error_type"] == "request_error"
    assert document["suggested_action"] == "fix_request"


def test_a_lost_answer_ends_with_its_own_code(gaia: Gaia, install: Install) -> None:
    """An unknown outcome names the operation and ends with code 5."""
    install(source=ODD)

    result = gaia("generate", "a dragon")

    assert result.exit_code == 5
    assert "Look operation" in result.stderr
    assert "`gaia usage --operation " in result.stderr
    assert "  ask studio about task " in result.stderr
    assert "Traceback" not in result.stderr
    assert "sk-canary" not in result.stderr


def test_a_failure_that_cost_nothing_is_no_open_question(
    gaia: Gaia, install: Install
) -> None:
    """What is free and failed oddly ends with code 1."""
    install(source=ODD.replace("0.04", "0"))

    result = gaia("generate", "a dragon")

    assert result.exit_code == 1
    assert result.stderr == (
        "error: studio failed with KeyError.\n  tried studio/fake 3 times: KeyError\n"
    )


def test_help_is_not_cut(gaia: Gaia) -> None:
    """Every command fits into its line."""
    assert "..." not in gaia("--help").stdout.partition("Commands:")[2]


def test_messages_cannot_steer_a_terminal(gaia: Gaia, install: Install) -> None:
    """Control characters of a provider's message are taken out."""
    install(source=REFUSING)

    result = gaia("generate", "a dragon")

    assert result.stderr == "error: studio: no  [31mdragons\n"


def test_a_message_says_once_whose_it_is(gaia: Gaia, install: Install) -> None:
    """The name of the provider stands before its words, unless they hold it."""
    install(source=REFUSING.replace("no \\x1b[31mdragons", "studio draws no dragons"))

    result = gaia("generate", "a dragon")

    assert result.stderr == "error: studio draws no dragons\n"


def test_a_plugin_cannot_end_the_program(gaia: Gaia, install: Install) -> None:
    """A hook that calls ``exit`` is a failure, not a success."""
    install(source=QUITTER)

    made, examined = gaia("generate", "a dragon"), gaia("doctor")

    assert (made.exit_code, examined.exit_code) == (1, 1)
    assert "exit" in made.stderr.lower()
    assert "exit" in (examined.stdout + examined.stderr).lower()


def test_verbose_shows_log_and_traceback(gaia: Gaia, install: Install) -> None:
    """With ``-v`` the log and the place of a failure go to standard error."""
    install(source=REFUSING)

    result = gaia("-v", "generate", "a dragon", "--json")

    assert json.loads(result.stdout)["error_type"] == "content_error"
    assert "gaia.operation_finished" in result.stderr
    assert "Traceback" in result.stderr


def test_foreign_errors_are_named_by_type() -> None:
    """The words of a foreign error stay inside: they may hold a key."""
    assert shape_error(KeyError("sk-canary"))["error"] == (
        "gaia failed with KeyError. `gaia -v …` shows where; please report it."
    )


@pytest.mark.parametrize(
    ("reasons", "limit", "lines"),
    [
        ({}, 1, []),
        ({"a": "off"}, 1, ["a: off"]),
        ({"a/1": "small", "b": "off"}, 1, ["a/1: small", "b: off"]),
        (
            {"a/1": "small", "a/2": "dear", "a/3": "dear"},
            1,
            ["a (2 models): dear", "a (1 model): other reasons"],
        ),
        (
            {"a/1": "small", "a/2": "dear"},
            None,
            ["a/1: small", "a/2: dear"],
        ),
    ],
    ids=["none", "provider", "one-model", "limited", "unlimited"],
)
def test_reasons_are_grouped(
    reasons: dict[str, str], limit: int | None, lines: list[str]
) -> None:
    """Reasons stand under their provider, the commonest first."""
    assert group_reasons(reasons, limit=limit) == lines
