"""Refusals are repeated, lost answers are not, and the book is right to the cent."""

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from gaia_core import Gaia, GenerateRequest, OutcomeClass, OutcomeUnknownError
from gaia_core.ledger import Operation, OperationState
from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import StandardReliability, verdicts
from gaia_core.responses import Attempt
from gaia_core.settings import BudgetSettings
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import (
    Fault,
    Faults,
    RecoverableVendorProvider,
    Vendor,
    VendorProvider,
)
from tests.waiting import let_pass

from .worlds import (
    Figures,
    PatchyProvider,
    ask_all,
    audited,
    closed_port,
    errors,
    keeps,
    paid_twice,
    percentile,
    served,
    sql_ledger,
    until,
)

KEEP = GenerateRequest(prompt="a ruined keep", width=16, height=16)
PRICE = Decimal("0.04")
_KNOWN = {OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED}
_ENDLESS = {Fault.HANG_BEFORE, Fault.HANG_AFTER, Fault.SLOW_AFTER}

sizes = pytest.mark.parametrize(
    ("count", "at_once"),
    [
        pytest.param(100, 20, id="100"),
        pytest.param(1_000, 50, id="1000", marks=pytest.mark.chaos),
    ],
)
"""A quick look, and with ``nox -s chaos`` the size of the promise."""

# Of ten attempts one is refused the connection, and two of the nine that get through
# are turned away: three in ten are clean rejections.
REFUSED = Faults(rates={Fault.UNAVAILABLE: 0.1}, seed=-6)
TURNED_AWAY = Faults(
    rates={Fault.BUSY: 0.1 / 0.9, Fault.UNAVAILABLE: 0.1 / 0.9}, seed=6
)


@pytest.fixture(autouse=True)
def _rows_mean_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let no breaker open for a row of failures, only for their share.

    Of many answers under way the lost ones come first on a busy machine, all in a row.
    """
    for limit in ("IN_A_ROW", "LONGEST_ROW"):
        monkeypatch.setattr(verdicts, limit, 100)


@sizes
async def test_clean_rejections_are_repeated(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    figures: Figures,
    count: int,
    at_once: int,
) -> None:
    """Of 1,000 operations with 30 % clean rejections 985 succeed, none pays twice."""
    async with Vendor(faults=TURNED_AWAY) as vendor:
        with closed_port() as nowhere:
            provider = PatchyProvider(
                base_url=vendor.url,
                away=VendorProvider(base_url=nowhere),
                refusals=REFUSED,
            )
            async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
                answers = await ask_all(gaia, keeps(count), at_once=at_once)
    audit = await audited(ledger)

    figures("served", len(served(answers)))
    figures("attempts", audit.attempts)
    figures("p99", percentile(answers, 0.99))
    assert len(served(answers)) >= 0.985 * count, errors(answers)
    assert audit.attempts <= 1.5 * count
    assert vendor.requests < audit.attempts
    assert audit.states.total() == count
    assert set(audit.states) <= {OperationState.DONE, OperationState.FAILED}
    assert paid_twice(charge.prompt for charge in vendor.charges) == {}
    assert len(vendor.charges) == len(served(answers))
    assert audit.shown_usd == vendor.total_usd
    assert audit.problems == ()
    assert percentile(answers, 0.99) < 20


@sizes
async def test_a_fallback_serves_what_was_rejected(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    figures: Figures,
    count: int,
    at_once: int,
) -> None:
    """With a healthy second provider 999 of 1,000 succeed, still without a double."""
    rates = {Fault.BUSY: 0.15, Fault.UNAVAILABLE: 0.15}
    async with Vendor(faults=Faults(rates=rates)) as first, Vendor() as second:
        providers = [
            VendorProvider(base_url=first.url, name="first", priority=90),
            VendorProvider(base_url=second.url, name="second", priority=10),
        ]
        async with open_gaia(*providers, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(gaia, keeps(count), at_once=at_once)
    audit = await audited(ledger)

    figures("served", len(served(answers)))
    figures("by_the_second", len(second.charges))
    charges = [*first.charges, *second.charges]
    assert len(served(answers)) >= 0.999 * count, errors(answers)
    assert paid_twice(charge.prompt for charge in charges) == {}
    assert audit.shown_usd == first.total_usd + second.total_usd
    assert audit.problems == ()


@sizes
async def test_lost_answers_are_reported_not_repeated(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    figures: Figures,
    count: int,
    at_once: int,
) -> None:
    """What was charged and lost is of unknown outcome, its money held, never twice."""
    rates = {Fault.DROP_AFTER: 0.15, Fault.BUSY: 0.15}
    async with Vendor(faults=Faults(rates=rates), has_lookup=False) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(gaia, keeps(count), at_once=at_once)
    audit = await audited(ledger)

    lost = {one.prompt for one in vendor.arrivals if one.fault is Fault.DROP_AFTER}
    unknown = {
        one.prompt for one in answers if isinstance(one.error, OutcomeUnknownError)
    }
    figures("served", len(served(answers)))
    figures("unknown", len(unknown))
    assert unknown == lost
    assert audit.states[OperationState.UNKNOWN] == len(lost)
    assert audit.states.total() == count
    assert audit.held_usd == len(lost) * PRICE
    assert audit.shown_usd == vendor.total_usd
    assert paid_twice(charge.prompt for charge in vendor.charges) == {}
    assert audit.problems == ()


@sizes
async def test_lost_answers_are_looked_up(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    figures: Figures,
    count: int,
    at_once: int,
) -> None:
    """Where the provider can look up, all are served, with one charge each."""
    faults = Faults(rates={Fault.DROP_AFTER: 0.15})
    async with Vendor(faults=faults) as vendor:
        provider = RecoverableVendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(gaia, keeps(count), at_once=at_once)
    audit = await audited(ledger)

    figures("served", len(served(answers)))
    figures("lost", sum(one.fault is not None for one in vendor.arrivals))
    assert len(served(answers)) == count, errors(answers)
    assert len(vendor.charges) == vendor.requests == count
    assert audit.states == {OperationState.DONE: count}
    assert audit.spent_usd == vendor.total_usd
    assert audit.held_usd == 0
    assert audit.problems == ()


@sizes
async def test_at_least_once_says_what_it_may_have_paid(
    open_gaia: OpenGaia,
    ledger: SqlLedger,
    rules: StandardReliability,
    figures: Figures,
    count: int,
    at_once: int,
) -> None:
    """Who wants the picture at any price gets it, and is told of every double."""
    rates = {Fault.DROP_AFTER: 0.15, Fault.BUSY: 0.15}
    async with Vendor(faults=Faults(rates=rates)) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            answers = await ask_all(
                gaia, keeps(count), at_once=at_once, delivery="at_least_once"
            )
    audit = await audited(ledger)

    told = {
        response.operation_id: _lost(response.attempts) for response in served(answers)
    }
    prompts = {one.response.operation_id: one.prompt for one in answers if one.response}
    doubles = paid_twice(charge.prompt for charge in vendor.charges)
    figures("served", len(served(answers)))
    figures("doubles", sum(told.values()))
    assert len(served(answers)) >= 0.97 * count, errors(answers)
    assert {prompts[one]: lost + 1 for one, lost in told.items() if lost} == {
        prompt: times for prompt, times in doubles.items() if prompt in prompts.values()
    }
    assert all(
        any("paid twice" in warning for warning in response.warnings)
        for response in served(answers)
        if told[response.operation_id]
    )
    assert vendor.double_charges() == {}
    # What is held for an unknown outcome may count a last try that was turned away.
    too_much = audit.shown_usd - vendor.total_usd
    assert 0 <= too_much <= audit.states[OperationState.UNKNOWN] * PRICE
    assert audit.problems == ()


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_a_budget_holds_whatever_gets_lost(
    open_gaia: OpenGaia, tmp_path: Path, rules: StandardReliability, delivery: str
) -> None:
    """Lost answers and repetitions never take more than the budget has."""
    budgets = BudgetSettings(total_usd=Decimal(1))
    ledger = sql_ledger(tmp_path, budgets=budgets)
    rates = {Fault.DROP_AFTER: 0.2, Fault.BUSY: 0.2, Fault.ERROR_AFTER: 0.1}
    async with Vendor(faults=Faults(rates=rates)) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(
            provider, ledger=ledger, reliability=rules, budgets=budgets
        ) as gaia:
            answers = await ask_all(gaia, keeps(200), at_once=50, delivery=delivery)
    audit = await audited(ledger)

    assert errors(answers)["BudgetExceededError"] > 0
    assert len(served(answers)) > 0
    assert vendor.total_usd <= audit.shown_usd <= Decimal(1)
    assert audit.problems == ()


@pytest.mark.slow
async def test_what_was_never_seen_is_sent_again(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """A look-up that finds nothing twice allows the same task to be sent again."""
    faults = Faults(script=[Fault.DROP_BEFORE])
    async with Vendor(faults=faults) as vendor:
        provider = RecoverableVendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            response = await gaia.generate(KEEP)

    assert vendor.requests == 2
    assert len({one.task_id for one in vendor.arrivals}) == 1
    assert [str(one.outcome) for one in response.attempts] == ["rejected_busy", "ok"]
    assert len(vendor.charges) == 1


@pytest.mark.parametrize(
    ("delivery", "script"),
    [
        pytest.param("at_most_once", [Fault.DROP_AFTER], id="at-most-once"),
        pytest.param(
            "at_least_once",
            [Fault.DROP_AFTER, Fault.BUSY, Fault.BUSY, Fault.BUSY],
            id="at-least-once",
        ),
    ],
)
async def test_what_was_lost_is_found_later(
    open_gaia: OpenGaia,
    tmp_path: Path,
    rules: StandardReliability,
    delivery: str,
    script: list[Fault],
) -> None:
    """An unknown outcome is settled once the vendor can tell, at no more than held."""
    faults = Faults(script=script)
    async with Vendor(faults=faults, has_lookup=False) as vendor:
        provider = RecoverableVendorProvider(base_url=vendor.url)
        ledger = sql_ledger(tmp_path)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            with pytest.raises(OutcomeUnknownError) as caught:
                await gaia.generate(KEEP, delivery=delivery)
        held = await audited(ledger)

        vendor.has_lookup = True
        ledger = sql_ledger(tmp_path)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            operation = await _ended(gaia, caught.value.operation_id)
            images = [await gaia.storage.get(one) for one in operation.image_ids]
    audit = await audited(ledger)

    assert vendor.total_usd == PRICE
    assert operation.state is OperationState.DONE
    assert [image is not None and image.path.exists() for image in images] == [True]
    assert len(vendor.charges) == 1
    assert operation.cost_usd == audit.spent_usd
    assert PRICE <= audit.shown_usd <= held.held_usd
    assert audit.problems == ()


async def test_an_idempotent_provider_is_asked_again(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """Where a task id is never charged twice, a lost answer is asked for again."""
    faults = Faults(script=[Fault.DROP_AFTER, Fault.ERROR_AFTER])
    async with Vendor(faults=faults, is_idempotent=True, has_lookup=False) as vendor:
        provider = VendorProvider(base_url=vendor.url, is_idempotent=True)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            response = await gaia.generate(KEEP)
    audit = await audited(ledger)

    assert vendor.requests == 3
    assert len(vendor.charges) == 1
    assert response.cost_usd == audit.shown_usd == PRICE
    assert audit.problems == ()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.DROP_BEFORE,
        Fault.DROP_AFTER,
        Fault.TRUNCATED_AFTER,
        Fault.ERROR_BEFORE,
        Fault.ERROR_AFTER,
        Fault.BAD_GATEWAY_AFTER,
        Fault.GATEWAY_TIMEOUT_AFTER,
        Fault.HANG_BEFORE,
        Fault.HANG_AFTER,
        Fault.SLOW_AFTER,
    ],
    ids=str,
)
async def test_what_may_be_charged_goes_nowhere_else(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability, fault: Fault
) -> None:
    """An answer that got lost on whatever way is neither repeated nor taken on."""
    faults = Faults(script=[fault], slow_seconds=600)
    async with Vendor(faults=faults) as first, Vendor() as second:
        providers = [
            VendorProvider(base_url=first.url, name="first", priority=90, timeout=30),
            VendorProvider(base_url=second.url, name="second", priority=10),
        ]
        async with open_gaia(*providers, ledger=ledger, reliability=rules) as gaia:
            asking = asyncio.create_task(gaia.generate(KEEP))
            await until(lambda: first.requests == 1)
            if fault in _ENDLESS:
                let_pass(31)
            with pytest.raises(OutcomeUnknownError) as caught:
                await asking
    audit = await audited(ledger)

    assert caught.value.operation_id == audit.operations[0].id
    assert (first.requests, second.requests) == (1, 0)
    assert audit.states == {OperationState.UNKNOWN: 1}
    assert audit.held_usd == PRICE >= first.total_usd
    assert audit.problems == ()


@pytest.mark.parametrize("fault", [Fault.BAD_IMAGE_AFTER, Fault.EMPTY_AFTER], ids=str)
async def test_a_picture_that_is_none_is_paid_once(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability, fault: Fault
) -> None:
    """An answer without a usable picture is settled, and not asked for again."""
    async with Vendor(faults=Faults(script=[fault])) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            [answer] = await ask_all(gaia, [KEEP])
    audit = await audited(ledger)

    assert answer.error is not None
    assert answer.error.http_status == 502
    assert [one.outcome for one in answer.error.attempts] == [OutcomeClass.UNUSABLE]
    assert vendor.requests == len(vendor.charges) == 1
    assert audit.states == {OperationState.FAILED: 1}
    assert audit.spent_usd == PRICE
    assert audit.held_usd == 0
    assert audit.problems == ()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.BAD_REQUEST,
        Fault.FILTERED,
        Fault.UNAUTHORISED,
        Fault.NO_CREDIT,
        Fault.NO_MODEL,
    ],
    ids=str,
)
async def test_what_is_refused_for_good_is_asked_once(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability, fault: Fault
) -> None:
    """A refusal that repeating cannot help is passed on, and nothing is held."""
    async with Vendor(faults=Faults(script=[fault])) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            [answer] = await ask_all(gaia, [KEEP])
    audit = await audited(ledger)

    assert answer.error is not None
    assert vendor.requests == 1
    assert audit.states == {OperationState.FAILED: 1}
    assert audit.shown_usd == 0
    assert audit.problems == ()


async def test_a_vendor_that_never_works_is_asked_four_times(
    open_gaia: OpenGaia, ledger: SqlLedger, rules: StandardReliability
) -> None:
    """One owner of repetition: an always busy vendor sees four requests, not twelve."""
    async with Vendor(faults=Faults(rates={Fault.UNAVAILABLE: 1})) as vendor:
        provider = VendorProvider(base_url=vendor.url)
        async with open_gaia(provider, ledger=ledger, reliability=rules) as gaia:
            [answer] = await ask_all(gaia, [KEEP])

    assert answer.error is not None
    assert vendor.requests == len(answer.error.attempts) == 4


async def _ended(gaia: Gaia, operation_id: str | None) -> Operation:
    """Wait until an unknown outcome is known."""
    async with asyncio.timeout(20):
        while True:
            operation = await gaia.operation(operation_id or "")
            if operation is not None and operation.state in _KNOWN:
                return operation
            await asyncio.sleep(0.02)


def _lost(attempts: Iterable[Attempt]) -> int:
    """Count the attempts that were charged and lost."""
    return sum(one.outcome is OutcomeClass.AMBIGUOUS for one in attempts)
