"""Equal requests with a seed are one piece of work; all others are what they are."""

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gaia_core import GenerateRequest, OutcomeUnknownError
from gaia_core.ledger import OperationState
from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import StandardReliability
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Fault, Faults, Vendor, VendorProvider
from tests.waiting import sharers

from .worlds import ask_all, audited, errors, served, sql_ledger, until

PRICE = Decimal("0.04")


def _keep(seed: int | None = None) -> GenerateRequest:
    return GenerateRequest(prompt="a ruined keep", width=16, height=16, seed=seed)


async def test_equal_requests_with_a_seed_are_charged_once(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """100 equal requests at once: one charge, and 100 times the same picture."""
    async with Vendor(delay=0.1) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(gaia, [_keep(7)] * 100, at_once=100)
            pictures = {one.images[0].read_bytes() for one in served(answers)}
    audit = await audited(ledger)

    assert len(served(answers)) == 100, errors(answers)
    assert len(pictures) == 1
    assert len(vendor.charges) == vendor.requests == 1
    assert Counter(one.is_reused for one in served(answers)) == {True: 99, False: 1}
    assert sum(one.cost_usd or 0 for one in served(answers)) == PRICE
    assert audit.spent_usd == PRICE
    assert audit.problems == ()


async def test_equal_requests_without_a_seed_are_all_made(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """100 people who ask for the same without a seed expect 100 pictures."""
    async with Vendor() as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(gaia, [_keep()] * 100, at_once=100)
    audit = await audited(ledger)

    assert len(served(answers)) == 100, errors(answers)
    assert len(vendor.charges) == 100
    assert audit.states == {OperationState.DONE: 100}
    assert audit.spent_usd == vendor.total_usd == 100 * PRICE


async def test_they_are_shared_on_demand(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """Who asks for reuse shares without a seed, who refuses it pays with one."""
    async with Vendor() as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            await ask_all(gaia, [_keep()] * 10, reuse=True)
            shared = len(vendor.charges)
            await ask_all(gaia, [_keep(7)] * 10, reuse=False)

    assert shared == 1
    assert len(vendor.charges) == 11


async def test_the_first_caller_may_leave(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """When the caller who came first goes away, the 99 others are served."""
    async with Vendor(delay=60) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            leader = asyncio.create_task(gaia.generate(_keep(7)))
            await until(lambda: vendor.requests == 1)
            others = asyncio.create_task(ask_all(gaia, [_keep(7)] * 99, at_once=99))
            await until(lambda: sharers(gaia) == 100)
            leader.cancel()
            await asyncio.wait([leader])
            vendor.finish_work()
            answers = await others

    assert leader.cancelled()
    assert len(served(answers)) == 99, errors(answers)
    assert len(vendor.charges) == vendor.requests == 1


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param({"principal": "one"}, id="principal"),
        pytest.param({}, id="nobody"),
    ],
)
async def test_tenants_share_nothing(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    choice: dict[str, Any],
) -> None:
    """Two tenants with equal requests are two pieces of work."""
    async with Vendor(delay=0.05) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            await asyncio.gather(
                ask_all(gaia, [_keep(7)] * 10, **choice),
                ask_all(gaia, [_keep(7)] * 10, principal="two"),
            )

    assert len(vendor.charges) == 2


async def test_answers_outlive_the_process(
    open_gaia: OpenGaia, tmp_path: Path, rules: StandardReliability
) -> None:
    """What was made yesterday is found today, from the same ledger and store."""
    async with Vendor() as vendor:
        for _ in range(3):
            provider = VendorProvider(base_url=vendor.url)
            ledger = sql_ledger(tmp_path)
            async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
                response = await gaia.generate(_keep(7))

    assert len(vendor.charges) == 1
    assert response.is_reused
    assert response.cost_usd == 0


async def test_two_hosts_share_one_piece_of_work(
    open_gaia: OpenGaia, tmp_path: Path
) -> None:
    """Across hosts with one ledger and one store, equal work is done once."""
    async with Vendor(delay=0.2) as vendor:
        first, second = (
            open_gaia(
                VendorProvider(base_url=vendor.url),
                ledger=sql_ledger(tmp_path),
                reliability=StandardReliability(),
            )
            for _ in range(2)
        )
        async with first, second:
            answers = [
                *await asyncio.gather(
                    ask_all(first, [_keep(7)] * 10), ask_all(second, [_keep(7)] * 10)
                )
            ]

    responses = served([*answers[0], *answers[1]])
    assert len(responses) == 20
    assert len(vendor.charges) == 1
    assert len({one.images[0].sha256 for one in responses}) == 1


async def test_failures_are_not_kept(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """A request that failed is made when it is asked for again."""
    async with Vendor(faults=Faults(script=[Fault.NO_CREDIT])) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            first = await ask_all(gaia, [_keep(7)] * 10)
            second = await ask_all(gaia, [_keep(7)] * 10)

    assert errors(first) == {"QuotaExceededError": 10}
    assert len({id(one.error) for one in first}) == 10
    assert len(served(second)) == 10
    assert len(vendor.charges) == 1


async def test_a_key_is_answered_as_it_was(
    open_gaia: OpenGaia, tmp_path: Path, rules: StandardReliability
) -> None:
    """A request repeated under its key pays nothing, also after a restart."""
    responses = []
    async with Vendor() as vendor:
        for _ in range(2):
            provider = VendorProvider(base_url=vendor.url)
            ledger = sql_ledger(tmp_path)
            async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
                responses += [
                    await gaia.generate(_keep(), idempotency_key="one")
                    for _ in range(2)
                ]

    assert len(vendor.charges) == 1
    assert [one.is_reused for one in responses] == [False, True, True, True]
    assert {one.cost_usd for one in responses} == {PRICE}
    assert len({one.images[0].id for one in responses}) == 1


async def test_a_key_of_unknown_outcome_is_not_sent_again(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """A lost answer stays lost under its key, however often it is asked for."""
    async with Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            for _ in range(3):
                with pytest.raises(OutcomeUnknownError):
                    await gaia.generate(_keep(), idempotency_key="one")

    assert vendor.requests == len(vendor.charges) == 1
