"""What every scenario starts from: a ledger in a file, and the usual rules."""

from pathlib import Path

import pytest

from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import StandardReliability

from .worlds import Figures, sql_ledger


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> SqlLedger:
    return sql_ledger(tmp_path)


@pytest.fixture(name="rules")
def _rules() -> StandardReliability:
    return StandardReliability()


@pytest.fixture(name="figures")
def _figures(request: pytest.FixtureRequest) -> Figures:
    """Keep what was measured with the test's report: ``--junitxml`` shows it."""

    def keep(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))

    return keep
