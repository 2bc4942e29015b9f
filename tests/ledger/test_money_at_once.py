"""Budgets under many hands at once, and against sums kept by hand."""

import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)
from sqlalchemy import Connection, select

from gaia_core.errors import BudgetExceededError
from gaia_core.ledger import SqlLedger, balances
from gaia_core.ledger.connecting import Engines
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import balances as balance_rows
from gaia_core.settings import BudgetSettings, Period

from .stories import make

# -- many at once -------------------------------------------------------------------

RUSH = """
import asyncio, sys
from decimal import Decimal
from gaia_core import Attempt, Capability, OutcomeClass
from gaia_core.errors import BudgetExceededError
from gaia_core.ledger import Operation, Settlement, SqlLedger
from gaia_core.ledger.database import Database
from gaia_core.settings import BudgetSettings

PRICE = Decimal("0.04")

async def call(ledger, number):
    operation = Operation(
        id=sys.argv[2] + format(number, "031x"),
        capability=Capability.TEXT_TO_IMAGE,
        campaign_id="spring",
        reserved_usd=PRICE,
    )
    attempt = Attempt(
        provider="p", model="m", task_id="t", outcome=OutcomeClass.AMBIGUOUS,
        duration_ms=0.0, cost_usd=PRICE,
    )
    try:
        await ledger.accept(operation)
    except BudgetExceededError:
        return "refused"
    await ledger.send(operation.id, attempt)
    settlement = Settlement(provider="p", model="m", cost_usd=PRICE)
    await ledger.settle(operation.id, settlement)
    return "admitted"

async def main():
    budgets = BudgetSettings(campaign_usd=Decimal(1))
    ledger = SqlLedger(Database(sys.argv[1]), budgets=budgets)
    await ledger.open()
    outcomes = await asyncio.gather(*(call(ledger, number) for number in range(50)))
    await ledger.close()
    print(" ".join(outcomes))

asyncio.run(main())
"""


@pytest.mark.slow
def test_budget_holds_over_processes(address: str) -> None:
    """Of 200 calls of four cents in four processes, a dollar admits exactly 25."""
    Engines.of(address).dispose()
    programs = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RUSH, address, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]

    said = [program.communicate(timeout=120) for program in programs]

    assert [errors for _, errors in said] == [""] * 4
    outcomes = Counter(word for words, _ in said for word in words.split())
    assert outcomes == {"admitted": 25, "refused": 175}


async def test_balances_made_at_once_miss_nothing(address: str) -> None:
    """Balances that are made while others book are the sum of all entries."""
    plain = SqlLedger(Database(address))
    budgets = BudgetSettings(total_usd=Decimal(100), user_usd=Decimal(100))
    strict = SqlLedger(Database(address), budgets=budgets)
    await plain.open()
    await strict.open()

    await asyncio.gather(
        *(make(plain, user_id=f"user{number % 5}") for number in range(40)),
        *(make(strict, user_id=f"user{number % 5}") for number in range(40)),
    )

    assert await strict.check() == []
    assert await strict.database.read(_used) == {
        "total": 3_200_000,
        **{f"user:user{number}": 640_000 for number in range(5)},
    }
    await plain.close()
    await strict.close()


def _used(connection: Connection) -> dict[str, int]:
    """Say what each balance holds and has spent."""
    found = connection.execute(select(balance_rows)).all()
    return {row.scope: int(row.reserved + row.spent) for row in found}


# -- against a model ----------------------------------------------------------------


AMOUNTS = st.integers(0, 60_000)
PAYERS = st.sampled_from(
    [
        (None, None),
        ("ann", None),
        ("bob", "spring"),
        ("ann", "spring"),
        (None, "autumn"),
    ]
)
DAYS = st.sampled_from(["2026-11-21", "2026-11-22", "2026-12-01"])
LIMIT = Decimal("0.1")


@attrs.define
class _Held:
    payer: dict[str, Any]
    amount: int


class Money(RuleBasedStateMachine):
    """Reserve, settle and release against sums kept by hand."""

    held = Bundle("held")

    def __init__(self) -> None:
        """Start with an empty book."""
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.engines = Engines.of(f"sqlite:///{Path(self.folder.name) / 'gaia.db'}")
        self.budgets = BudgetSettings(
            total_usd=LIMIT * 2, user_usd=LIMIT, campaign_usd=LIMIT, per=Period.DAY
        )
        self.sums: Counter[tuple[str, str]] = Counter()
        self.number = 0

    def teardown(self) -> None:
        """Throw the database away."""
        self.engines.dispose()
        self.folder.cleanup()

    def _scopes(self, payer: dict[str, Any]) -> dict[str, int]:
        named = {"user": payer["user_id"], "campaign": payer["campaign_id"]}
        limits = {f"{kind}:{name}": 100_000 for kind, name in named.items() if name}
        return {"total": 200_000, **limits}

    def _add(self, payer: dict[str, Any], amount: int) -> None:
        for scope in self._scopes(payer):
            self.sums[scope, payer["day"]] += amount

    @rule(target=held, who=PAYERS, day=DAYS, amount=AMOUNTS)
    def reserve(
        self, who: tuple[str | None, str | None], day: str, amount: int
    ) -> _Held:
        """Hold an amount exactly if it fits every limit."""
        self.number += 1
        payer: dict[str, Any] = {
            "operation_id": f"{self.number:032x}",
            "user_id": who[0],
            "campaign_id": who[1],
            "day": day,
        }
        fits = amount == 0 or all(
            self.sums[scope, day] + amount <= limit
            for scope, limit in self._scopes(payer).items()
        )
        try:
            self.engines.write(
                lambda connection: balances.reserve(
                    connection, self.budgets, **payer, amount=amount
                )
            )
        except BudgetExceededError:
            assert not fits
            return _Held(payer, 0)
        assert fits
        self._add(payer, amount)
        return _Held(payer, amount)

    @rule(one=consumes(held), spent=AMOUNTS)
    def settle(self, one: _Held, spent: int) -> None:
        """Spend more or less than what was held."""
        self._change(one, "settle", spent)

    @rule(one=consumes(held))
    def release(self, one: _Held) -> None:
        """Give back what was held."""
        self._change(one, "release", 0)

    def _change(self, one: _Held, kind: str, spent: int) -> None:
        self.engines.write(
            lambda connection: balances.change(
                connection, **one.payer, kind=kind, reserved=-one.amount, spent=spent
            )
        )
        self._add(one.payer, spent - one.amount)

    @invariant()
    def balances_are_sums(self) -> None:
        """Every balance is what was added up by hand; nothing held is negative."""

        def read(connection: Connection) -> list[Any]:
            return list(connection.execute(select(balance_rows)).all())

        for row in self.engines.read(read):
            assert row.reserved + row.spent == self.sums[row.scope, row.period]
            assert row.reserved >= 0


TestMoney = pytest.mark.slow(Money.TestCase)
TestMoney.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
