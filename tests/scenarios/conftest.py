"""What every scenario starts from: a ledger in a file, and the usual rules."""

from pathlib import Path

import pytest

from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import StandardReliability

from .worlds import sql_ledger


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> SqlLedger:
    return sql_ledger(tmp_path)


@pytest.fixture(name="rules")
def _rules() -> StandardReliability:
    return StandardReliability()
