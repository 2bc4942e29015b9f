"""What holds for every test of the core."""

import pytest


@pytest.fixture(autouse=True)
def _away_from_this_machine(gaia_home: object) -> None:
    """Let no test depend on the settings, keys or pictures of whoever runs it."""
