"""`gaia keys`: what opens the server for others."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from gaia_core.ledger.access import digest_of, id_of

Gaia = Callable[..., Result]
SECRET = len("gaia_000000000000_")
"""Where in a key the part begins that is secret."""


@pytest.fixture(name="book", autouse=True)
def _book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of the ledger."""
    book = tmp_path / "gaia.db"
    monkeypatch.setenv("GAIA_DATABASE", f"sqlite:///{book}")
    return book


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _files(book: Path) -> list[Path]:
    return [path for path in book.parent.glob("gaia.db*") if path.is_file()]


def _listed(gaia: Gaia) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _json(gaia("keys", "list", "--json"))["keys"]
    return found


def test_a_key_is_all_that_is_printed(gaia: Gaia) -> None:
    """The key stands alone on standard output, for scripts; the advice beside it."""
    result = gaia("keys", "create", "tavern")

    key = result.stdout.strip()
    assert result.exit_code == 0
    assert id_of(key) is not None
    assert result.stdout == f"{key}\n"
    assert "shown this once" in result.stderr
    assert key not in result.stderr


def test_a_key_is_kept_as_a_digest(gaia: Gaia, book: Path) -> None:
    """Whoever reads the database cannot open the server."""
    key = gaia("keys", "create", "tavern").stdout.strip()

    with sqlite3.connect(book) as connection:
        (row,) = connection.execute("SELECT digest FROM api_keys").fetchall()
    connection.close()
    written = b"".join(path.read_bytes() for path in _files(book))
    assert row == (digest_of(key),)
    assert key[SECRET:].encode() not in written


def test_a_key_makes_and_reads_unless_more_is_said(gaia: Gaia) -> None:
    """Seeing the whole server and acting for others must be asked for."""
    gaia("keys", "create", "tavern")

    (key,) = _listed(gaia)

    assert key["scopes"] == ["make", "read"]
    assert (key["state"], key["expires_at"]) == ("live", None)


def test_scopes_are_those_that_are_named(gaia: Gaia) -> None:
    """Every scope is named by itself; one named twice counts once."""
    made = _json(gaia("keys", "create", "watch", *("--scope", "monitor") * 2, "--json"))

    assert made["scopes"] == ["monitor"]
    assert id_of(made["key"]) == made["id"]


@pytest.mark.parametrize(
    ("words", "span"),
    [
        pytest.param("90m", timedelta(minutes=90), id="minutes"),
        pytest.param("12h", timedelta(hours=12), id="hours"),
        pytest.param("30d", timedelta(days=30), id="days"),
        pytest.param("52w", timedelta(weeks=52), id="weeks"),
    ],
)
def test_a_key_may_expire(gaia: Gaia, words: str, span: timedelta) -> None:
    """A span in minutes, hours, days or weeks counts from now on."""
    before = datetime.now(UTC)

    made = _json(gaia("keys", "create", "tavern", "--expires", words, "--json"))

    expires = datetime.fromisoformat(made["expires_at"])
    assert before <= expires - span <= datetime.now(UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("tavern", "--expires", "0d"), id="at-once"),
        pytest.param(("tavern", "--expires", "30"), id="no-unit"),
        pytest.param(("tavern", "--expires", "999999w"), id="beyond-all-dates"),
        pytest.param(("tavern", "--scope", "admin"), id="no-such-scope"),
        pytest.param(("",), id="nobody"),
        pytest.param(("   ",), id="blank"),
        pytest.param(("a\x1b[31m",), id="control-characters"),
        pytest.param(("x" * 256,), id="too-long"),
    ],
)
def test_what_makes_no_key(gaia: Gaia, arguments: tuple[str, ...]) -> None:
    """What cannot be meant is wrong usage, and makes nothing."""
    result = gaia("keys", "create", *arguments)

    assert result.exit_code == 2
    assert _listed(gaia) == []


def test_keys_are_listed_without_what_makes_them_keys(gaia: Gaia) -> None:
    """The newest comes first; nobody sees the key or its digest again."""
    first = gaia("keys", "create", "tavern").stdout.strip()
    second = gaia("keys", "create", "keep", "--expires", "30d").stdout.strip()

    result = gaia("keys", "list")
    lines = result.stdout.splitlines()

    assert lines[0].split() == ["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == [id_of(second), id_of(first)]
    for key in (first, second):
        assert key not in result.stdout
        assert digest_of(key) not in result.stdout + json.dumps(_listed(gaia))


def test_no_keys_are_said_with_what_to_do(gaia: Gaia) -> None:
    """An empty list prints nothing, and says how to make one."""
    result = gaia("keys", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "gaia keys create NAME" in result.stderr


@pytest.mark.parametrize("is_whole", [False, True], ids=["id", "whole-key"])
def test_a_key_is_taken_back(gaia: Gaia, *, is_whole: bool) -> None:
    """A key is named by its id, or given whole; taking it back twice is harmless."""
    key = gaia("keys", "create", "tavern").stdout.strip()
    word = key if is_whole else id_of(key)

    result, again = gaia("keys", "revoke", word), gaia("keys", "revoke", word)

    assert result.stdout == f"Revoked {id_of(key)} of tavern.\n"
    assert again.exit_code == 0
    assert [one["state"] for one in _listed(gaia)] == ["revoked"]


def test_a_key_that_is_not_there_cannot_be_taken_back(gaia: Gaia) -> None:
    """An id that nobody has is named, and what lists them; a secret is not shown."""
    result = gaia("keys", "revoke", f"gaia_{'0' * 12}_{'s' * 43}")

    assert result.exit_code == 2
    assert f"There is no key '{'0' * 12}'" in result.stderr
    assert "sss" not in result.output


def test_help_needs_no_server() -> None:
    """The command imports neither the server nor a database to show its help."""
    import subprocess
    import sys

    code = (
        "import sys, gaia_core.cli.keys\n"
        "print({'fastapi', 'pydantic', 'sqlalchemy'} & set(sys.modules))"
    )

    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )

    assert said.stdout == "set()\n"
