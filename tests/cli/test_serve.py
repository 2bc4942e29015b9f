"""``gaia serve``: what it refuses, what it says, how it is reached."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import ROOT, Gaia, Install

MODELS = "/api/images/models"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what the test is about
TOKEN = "a-token-that-is-long-enough"

Serving = Callable[..., AbstractContextManager[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep operations and keys in the folder of the test."""
    monkeypatch.setenv("GAIA_DATABASE", f"sqlite:///{tmp_path / 'gaia.db'}")
    monkeypatch.setenv("GAIA_SPILL", str(tmp_path / "spill"))


@pytest.fixture(name="serving")
def _serving(install: Install, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Give a function that serves in a process; it gives what that printed."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")

    @contextmanager
    def serving(*words: str) -> Iterator[dict[str, Any]]:
        command = [sys.executable, "-m", "gaia_core.cli", "serve", "--port", "0"]
        with subprocess.Popen(
            [*command, "--json", "--log-level", "error", *words], stdout=subprocess.PIPE
        ) as process:
            try:
                assert process.stdout is not None
                lines = iter(process.stdout.readline, b"}\n")
                yield json.loads(b"".join([*lines, b"}"]))
            finally:
                process.terminate()
                process.communicate(timeout=30)
        assert process.returncode == 0

    return serving


# -- what it refuses --------------------------------------------------------------


def test_a_port_that_is_taken_is_named(gaia: Gaia, install: Install) -> None:
    """Where something listens already, nothing is started."""
    install()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = gaia("serve", "--port", port)

    assert result.exit_code == 2
    assert f"listens on port {port} of 127.0.0.1 already" in result.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_named(
    gaia: Gaia, install: Install, host: str
) -> None:
    """It listens on own addresses only."""
    install()

    result = gaia("serve", "--host", host, "--port", 0)

    assert result.exit_code == 2
    assert f"{host} is no address of this machine" in result.stderr


def test_nobody_is_served_without_a_key(gaia: Gaia, install: Install) -> None:
    """It does not listen for other machines while there is no key."""
    install()

    result = gaia("serve", "--host", EVERYWHERE, "--port", 0, "--json")

    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert "`gaia keys create NAME`" in document["error"]
    assert document["error_type"] == "request_error"


def test_keys_that_ended_open_nothing(gaia: Gaia, install: Install) -> None:
    """A key that was taken back does not count."""
    install()
    gaia("keys", "create", "tavern")
    listed = json.loads(gaia("keys", "list", "--json").stdout)
    gaia("keys", "revoke", listed["keys"][0]["id"])

    result = gaia("serve", "--host", EVERYWHERE, "--port", 0)

    assert result.exit_code == 2
    assert "no key" in result.stderr


def test_everybody_is_not_let_in_by_a_setting(gaia: Gaia, install: Install) -> None:
    """Other machines need a key, whatever the settings say."""
    install()

    result = gaia(
        "--set", "server.require_auth=false", "serve", "--host", "::", "--port", 0
    )

    assert result.exit_code == 2
    assert "require_auth" in result.stderr


def test_a_token_that_can_be_guessed_opens_nothing(
    gaia: Gaia, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where other machines may try it out a token is long, and it is never told."""
    install()
    monkeypatch.setenv("GAIA_SERVER__TOKEN", "fifteen-letters")

    result = gaia("serve", "--host", EVERYWHERE, "--port", 0)

    assert result.exit_code == 2
    assert "at least 16 characters" in result.stderr
    assert "fifteen-letters" not in result.stderr


def test_a_folder_of_pictures_that_is_none_is_named(
    gaia: Gaia, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistypes a root learns so at once, not from answers with 404."""
    install()
    monkeypatch.setenv("GAIA_SERVER__IMAGE_ROOTS", str(tmp_path / "pics"))

    result = gaia("serve", "--port", 0, "--json")

    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert f"{tmp_path / 'pics'}, which is no folder" in document["error"]


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    """Without the extra it says what to install."""
    code = (
        "import sys; sys.modules['fastapi'] = None;"
        "from gaia_core.cli import main; main(['serve'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        text=True,
    )

    assert done.returncode == 2
    assert "pip install 'gaia-core[server]'" in done.stderr


# -- what it says -----------------------------------------------------------------


def test_help_does_not_load_the_server() -> None:
    """Only who serves waits for what serving needs."""
    code = (
        "import sys; from gaia_core.cli import main;"
        "main(['serve', '--help'], standalone_mode=False);"
        "print({'fastapi', 'uvicorn', 'pydantic'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    )

    assert done.stdout.endswith("set()\n")


def test_it_says_where_it_listens(serving: Serving) -> None:
    """The one document says where, and whether a key is needed."""
    with serving() as told:
        answer = httpx.get(told["url"] + MODELS)

    assert told["host"] == "127.0.0.1"
    assert told["url"] == f"http://127.0.0.1:{told['port']}"
    assert told["needs_key"] is False
    assert answer.status_code == 200


def test_a_person_is_told_in_a_sentence(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `--json` the address is on standard error, and nothing else printed."""
    install()
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    command = [sys.executable, "-m", "gaia_core.cli", "serve", "--port", "0"]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        stdout, _ = process.communicate(timeout=30)

    assert line.startswith("Gaia listens at http://127.0.0.1:")
    assert line.endswith("It needs no key.\n")
    assert (process.returncode, stdout) == (0, "")


def test_other_machines_need_a_key(serving: Serving, gaia: Gaia) -> None:
    """On every address it answers those who have a key, and nobody else."""
    made = json.loads(gaia("keys", "create", "tavern", "--json").stdout)

    with serving("--host", EVERYWHERE) as told:
        answers = [
            httpx.get(told["url"] + MODELS, headers=headers)
            for headers in (
                {},
                {"Authorization": "Bearer gaia_no_key"},
                {"Authorization": f"Bearer {made['key']}"},
            )
        ]

    assert told["needs_key"] is True
    assert [answer.status_code for answer in answers] == [401, 401, 200]


def test_a_token_is_a_key(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of the settings is enough to listen for others."""
    monkeypatch.setenv("GAIA_SERVER__TOKEN", TOKEN)

    with serving("--host", EVERYWHERE) as told:
        answers = [
            httpx.get(told["url"] + MODELS, headers=headers).status_code
            for headers in ({}, {"Authorization": f"Bearer {TOKEN}"})
        ]

    assert answers == [401, 200]


def test_a_proxied_server_needs_a_key(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a proxy shows to others asks for a key, though it listens only here."""
    monkeypatch.setenv("GAIA_SERVER__PUBLIC_URL", "https://pictures.example")

    with serving() as told:
        statuses = [
            httpx.get(told["url"] + MODELS, headers={"Host": host}).status_code
            for host in ("pictures.example", "localhost", "evil.example")
        ]

    assert told["needs_key"] is True
    assert statuses == [401, 401, 421]
