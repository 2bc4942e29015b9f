"""What tests of the command line are made of: plugins on disk, and two runners."""

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gaia_core.cli import main

ROOT = Path(__file__).parent.parent.parent
FAKE = "from gaia_core.testing import FakeProvider as Plugin"
_numbers = itertools.count()

Install = Callable[..., Path]
Gaia = Callable[..., Result]
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(name="install")
def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """
    Give a function that installs a plugin for one test.

    Its source defines ``Plugin``. Only what was installed so is allowed: what
    else this environment holds stays out of the test.
    """
    allowed: list[str] = []

    def install(name: str = "studio", source: str = FAKE) -> Path:
        number = next(_numbers)
        module, site = f"cli_plugin_{number}", tmp_path / f"site-{number}"
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: gaia-{name}\nVersion: 1.0\n"
        entry_points = f"[gaia]\n{name} = {module}:Plugin\n"
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
        (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        text = textwrap.dedent(source)
        (site / f"{module}.py").write_text(text, encoding="utf-8")
        allowed.append(name)
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        monkeypatch.setenv("GAIA_PLUGINS__ALLOW", ",".join(allowed))
        return site

    return install


@pytest.fixture(name="store", autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder pictures are kept in."""
    store = tmp_path / "store"
    monkeypatch.setenv("IMAGE_STORAGE_PATH", str(store))
    return store


@pytest.fixture(name="gaia")
def _gaia() -> Gaia:
    """Give a function that runs a command line in this process."""

    def gaia(*words: object, stdin: bytes | None = None) -> Result:
        arguments = [str(word) for word in words]
        return CliRunner().invoke(main, arguments, stdin, catch_exceptions=False)

    return gaia


@pytest.fixture(name="shell")
def _shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Give a function that runs a command line in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    def shell(
        *words: object, stdin: bytes = b""
    ) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "gaia_core.cli", *map(str, words)]
        return subprocess.run(
            command, input=stdin, capture_output=True, check=False, timeout=60
        )

    return shell


@pytest.fixture(name="picture")
def _picture(tmp_path: Path) -> Path:
    """Give a picture file of 32 x 16 pixels."""
    from gaia_core.testing import png

    path = tmp_path / "picture.png"
    path.write_bytes(png(32, 16))
    return path
