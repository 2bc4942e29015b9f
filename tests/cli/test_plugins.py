"""``gaia plugins``: what is installed, what failed, and a new one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Gaia = Callable[..., Result]
Install = Callable[..., Path]

ROOT = Path(__file__).parent.parent.parent
BROKEN = "raise RuntimeError('no such library')"


def test_plugins_are_listed(gaia: Gaia, install: Install) -> None:
    """Each plugin has a line with its distribution, kind and instances."""
    install()

    result = gaia("plugins")

    (line,) = [one for one in result.stdout.splitlines() if one.startswith("studio")]
    assert line.split() == ["studio", "gaia-studio", "1.0", "provider", *_LOADED]


_LOADED = ["studio", "loaded"]


def test_failures_are_listed(gaia: Gaia, install: Install) -> None:
    """A plugin that could not be loaded has one line, with distribution and reason."""
    install("broken", BROKEN)

    result = gaia("plugins")

    (line,) = [one for one in result.stdout.splitlines() if one.startswith("broken")]
    assert result.exit_code == 0
    assert "gaia-broken 1.0" in line
    assert "failed: " in line
    assert "no such library" in line


def test_plugins_as_json(gaia: Gaia, install: Install) -> None:
    """The JSON lists what is installed, and apart from it what failed."""
    install()
    install("broken", BROKEN)

    document = json.loads(gaia("plugins", "--json").stdout)

    states = {one["plugin"]: one for one in document["plugins"]}
    assert states["studio"]["status"] == "loaded"
    assert states["studio"]["instances"] == ["studio"]
    assert states["studio"]["load_ms"] >= 0
    (failure,) = document["failures"]
    assert failure["plugin"] == "broken"
    assert failure["distribution"] == "gaia-broken 1.0"


def test_a_new_plugin_passes_its_own_tests(gaia: Gaia, tmp_path: Path) -> None:
    """What the template writes conforms to the contract as it stands."""
    folder = tmp_path / "gaia-rune-forge"

    result = gaia("plugins", "new", "rune-forge", "--directory", folder)
    tests = _run_tests(folder)

    written = [Path(line) for line in result.stdout.splitlines()]
    assert folder / "src" / "gaia_rune_forge" / "provider.py" in written
    assert all(path.is_file() for path in written)
    assert tests.returncode == 0, tests.stdout


def _run_tests(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tests of a distribution that is not installed."""
    path = os.pathsep.join([str(ROOT), str(folder / "src")])
    options = ["-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_new_plugin_names_itself(gaia: Gaia, tmp_path: Path) -> None:
    """Distribution, entry point, package and class follow from the name."""
    folder = tmp_path / "new"

    document = json.loads(
        gaia("plugins", "new", "gaia-rune", "--directory", folder, "--json").stdout
    )

    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert document["directory"] == str(folder)
    assert 'name = "gaia-rune"' in text
    assert 'rune = "gaia_rune:RuneProvider"' in text
    assert "$" not in text


@pytest.mark.parametrize(
    "name",
    ["", "Rune", "rune_forge", "1rune", "rune--forge", "core", "../x", "r" * 41],
    ids=["empty", "capital", "underscore", "digit", "hyphens", "ours", "path", "long"],
)
def test_an_unusable_name_is_refused(gaia: Gaia, name: str, tmp_path: Path) -> None:
    """A name that makes no distribution is wrong usage, and nothing is written."""
    result = gaia("plugins", "new", "--directory", tmp_path / "new", "--", name)

    assert result.exit_code == 2
    assert "rune-forge" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_left_alone(gaia: Gaia, tmp_path: Path) -> None:
    """What is there already is not overwritten."""
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")

    result = gaia("plugins", "new", "rune", "--directory", tmp_path)

    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert not (tmp_path / "pyproject.toml").exists()
