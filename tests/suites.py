"""A project of one's own for pytest, whose tests are to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

INI = """
[pytest]
asyncio_mode = strict
faulthandler_timeout = 150
faulthandler_exit_on_timeout = true
"""
"""A test that hangs ends its process, and shows what every thread was at."""

LONGEST = 300.0
"""How long all tests of such a project may take, in seconds."""


def project(folder: Path) -> Path:
    """Make a folder that pytest takes for a project of its own."""
    (folder / "pytest.ini").write_text(INI)
    return folder


def verdicts(folder: Path, *tests: str) -> dict[str, str]:
    """Run some tests of a folder in a process of their own; test to its verdict."""
    options = ["-q", "-rA", "--tb=no", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"It did not end within {LONGEST:g} s:\n{error.output!r}")
    lines = (line.split(" - ")[0].split(" ", 1) for line in done.stdout.splitlines())
    words = ("PASSED", "FAILED", "ERROR", "XFAIL", "SKIPPED")
    found = {line[1]: line[0] for line in lines if line[0] in words}
    assert found, done.stdout + done.stderr
    return found


def _environment() -> dict[str, str]:
    """Give what the tests of a plugin's author find where they are checked."""
    # What they run is measured elsewhere, and takes half the time unmeasured.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    # Pytest then shows the whole of what differs, and takes the time that it takes.
    return {**kept, "CI": "true"}
