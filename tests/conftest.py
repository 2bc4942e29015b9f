"""What holds for every test of the core."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # The suite itself is measured, not every program that it starts.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever starts the suite in the background of a shell has every program in it
    # ignore Ctrl-C, also those that are tested for heeding it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _away_from_this_machine(gaia_home: object) -> None:
    """Let no test depend on the settings, keys or pictures of whoever runs it."""


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """Undo what a test did to the log of this process."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()
