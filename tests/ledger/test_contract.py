"""What every ledger does, in memory and in databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import attrs
import pytest

from gaia_core import Attempt, OutcomeClass
from gaia_core.errors import IdempotencyConflictError, InvalidRequestError
from gaia_core.ledger import (
    IdempotencyKey,
    Ledger,
    MemoryLedger,
    Operation,
    OperationState,
    SqlLedger,
    references,
)
from gaia_core.ledger.database import Database

from .stories import a_picture, an_attempt, an_operation, ended, failed, settled

KEY = IdempotencyKey(key="once", principal="ann", route="generate")


@pytest.fixture(name="ledger", params=["memory", "sqlite", "postgresql"])
async def _ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """Give an open ledger of each kind."""
    ledger: Ledger = MemoryLedger()
    if request.param != "memory":
        address = request.getfixturevalue(f"{_FIXTURE[request.param]}_address")
        ledger = SqlLedger(Database(address))
    await ledger.open()
    yield ledger
    await ledger.close()


_FIXTURE = {"sqlite": "sqlite", "postgresql": "postgres"}


async def _known(ledger: Ledger, operation: Operation) -> Operation:
    known = await ledger.get(operation.id)
    assert known is not None
    return known


async def _sent(ledger: Ledger, *attempts: Attempt, **fields: object) -> Operation:
    """Take an operation on and send attempts, each ended before the next."""
    operation = an_operation(**fields)
    await ledger.accept(operation)
    for attempt in attempts or (an_attempt(),):
        await ledger.send(operation.id, attempt)
    return operation


# -- the life of an operation -------------------------------------------------------


async def test_unknown_operation_is_none(ledger: Ledger) -> None:
    """Looking up what was never written gives None."""
    assert await ledger.get("0" * 32) is None


async def test_accepted_operation_is_kept_as_it_is(ledger: Ledger) -> None:
    """An operation is on the book, with all that is known of it, and its money held."""
    operation = an_operation(
        campaign_id="spring",
        user_id="bob",
        request={"operation": "generate", "prompt": "a \ud800 dragon\0", "loras": []},
        principal="ann",
        key=KEY,
        result_key="b" * 64,
        created_at=datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC),
    )

    accepted = await ledger.accept(operation)

    assert accepted == operation
    assert await _known(ledger, operation) == operation


async def test_attempts_are_kept_in_order(ledger: Ledger) -> None:
    """Every attempt is noted when it is sent and completed when it ends."""
    busy = an_attempt(
        outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0), error="b"
    )
    again = an_attempt(provider="q", task_id="u")
    operation = await _sent(ledger)

    sent = await _known(ledger, operation)
    await ledger.end_attempt(operation.id, busy)
    await ledger.send(operation.id, again)
    sent_again = await _known(ledger, operation)

    assert (sent.state, sent.attempts) == (OperationState.SENT, (an_attempt(),))
    assert sent_again.attempts == (busy, again)


@pytest.mark.parametrize(
    ("attempts", "held"),
    [
        ([an_attempt(cost_usd=Decimal("0.01"))], "0.04"),
        ([an_attempt(cost_usd=Decimal("0.20"))], "0.20"),
        ([an_attempt(cost_usd=None)], "0.04"),
        ([an_attempt(), an_attempt()], "0.04"),
        ([an_attempt(), an_attempt(task_id="u")], "0.08"),
        (
            [
                an_attempt(outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0)),
                an_attempt(task_id="u"),
            ],
            "0.04",
        ),
    ],
    ids=["cheaper", "dearer", "unknown", "same-task", "other-task", "refused-before"],
)
async def test_what_may_be_due_is_held(
    ledger: Ledger, attempts: list[Attempt], held: str
) -> None:
    """What is held covers every task that may be charged, each once."""
    operation = await _sent(ledger, *attempts)

    assert (await _known(ledger, operation)).reserved_usd == Decimal(held)


async def test_settled_operation_releases_the_rest(ledger: Ledger) -> None:
    """A settled operation knows its cost, its pictures and its answer, and its end."""
    operation = await _sent(ledger)
    pictures = (a_picture(operation), a_picture(operation))
    last = ended(an_attempt(), cost_usd=Decimal("0.03"))

    await ledger.settle(
        operation.id,
        settled(
            cost_usd=Decimal("0.03"),
            images=pictures,
            answer={"warnings": ["smaller"], "duration_ms": 1.5},
            attempt=last,
        ),
    )

    done = await _known(ledger, operation)
    assert done.finished_at is not None
    assert done == attrs.evolve(
        operation,
        state=OperationState.DONE,
        provider="p",
        model="m",
        reserved_usd=Decimal(0),
        cost_usd=Decimal("0.03"),
        image_ids=tuple(picture.id for picture in pictures),
        answer={"warnings": ["smaller"], "duration_ms": 1.5},
        attempts=(last,),
        finished_at=done.finished_at,
    )


async def test_settling_without_an_attempt_keeps_what_is_noted(ledger: Ledger) -> None:
    """A settlement that names no attempt leaves the attempts as they are."""
    operation = await _sent(ledger)
    last = ended(an_attempt())
    await ledger.end_attempt(operation.id, last)

    await ledger.settle(operation.id, settled())

    assert (await _known(ledger, operation)).attempts == (last,)


# -- references ---------------------------------------------------------------------


def _tasks(*operations: Operation) -> dict[str, str]:
    """Give the task of each operation one reference."""
    return {f"task of {one.id[:20]}": "batch-1" for one in operations}


async def _sent_alone(ledger: Ledger) -> Operation:
    """Send an operation under a task id of its own."""
    operation = an_operation()
    await ledger.accept(operation)
    (task_id,) = _tasks(operation)
    await ledger.send(operation.id, an_attempt(task_id=task_id))
    return operation


async def test_attempts_are_referred_to_together(ledger: Ledger) -> None:
    """What attempts can be looked up by is on the book at once, the latest counts."""
    one, two, other = [await _sent_alone(ledger) for _ in range(3)]
    before = await _known(ledger, other)

    await ledger.refer(_tasks(one, two))
    await ledger.refer(dict.fromkeys(_tasks(two), "batch-2 \0"))

    found = [(await _known(ledger, each)).attempts[0] for each in (one, two)]
    assert found[0].reference == "batch-1"
    assert (found[1].reference or "").startswith("batch-2 ")
    assert await _known(ledger, other) == before


async def test_a_reference_outlives_the_end_of_its_attempt(ledger: Ledger) -> None:
    """An attempt that ends keeps what it was known by, and all it ended with."""
    operation = await _sent_alone(ledger)
    (task_id,) = _tasks(operation)
    await ledger.refer(_tasks(operation))
    last = ended(an_attempt(task_id=task_id), error="slow", cost_usd=Decimal("0.01"))

    await ledger.end_attempt(operation.id, last)
    await ledger.refer({task_id: "too late", "nobody's": "either"})

    (attempt,) = (await _known(ledger, operation)).attempts
    assert attempt == attrs.evolve(last, reference="batch-1")


async def test_an_unknown_outcome_is_referred_to(ledger: Ledger) -> None:
    """Who was left while its batch was made is looked up by that batch all the same."""
    operation = await _sent_alone(ledger)
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))
    before = await _known(ledger, operation)

    await ledger.refer(_tasks(operation))

    after = await _known(ledger, operation)
    (attempt,) = before.attempts
    assert after.attempts == (attrs.evolve(attempt, reference="batch-1"),)
    assert attrs.evolve(after, attempts=before.attempts) == before


async def test_the_latest_try_of_a_task_is_referred_to(ledger: Ledger) -> None:
    """A task that was sent again is known by what its latest try asked for."""
    operation = await _sent_alone(ledger)
    (task_id,) = _tasks(operation)
    refused = an_attempt(
        task_id=task_id, outcome=OutcomeClass.REJECTED_BUSY, cost_usd=Decimal(0)
    )
    await ledger.end_attempt(operation.id, refused)
    await ledger.send(operation.id, an_attempt(task_id=task_id))

    await ledger.refer(_tasks(operation))

    first, second = (await _known(ledger, operation)).attempts
    assert (first.reference, second.reference) == (None, "batch-1")


async def test_many_are_referred_to_in_one_go(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than go into one statement are no matter."""
    monkeypatch.setattr(references, "AT_ONCE", 2)
    many = [await _sent_alone(ledger) for _ in range(5)]

    await ledger.refer(_tasks(*many))

    known = [(await _known(ledger, one)).attempts[0].reference for one in many]
    assert known == ["batch-1"] * 5


async def test_received_operation_waits_to_be_stored(ledger: Ledger) -> None:
    """What is made and paid is on the book before its pictures are stored."""
    operation = await _sent(ledger)
    last = ended(an_attempt())

    await ledger.receive(operation.id, last)
    received = await _known(ledger, operation)
    await ledger.settle(operation.id, settled())

    assert (received.state, received.attempts) == (OperationState.RECEIVED, (last,))
    assert received.reserved_usd == Decimal("0.04")
    assert (await _known(ledger, operation)).state is OperationState.DONE


@pytest.mark.parametrize(
    ("state", "held", "cost"),
    [
        (OperationState.FAILED, Decimal(0), Decimal("0.04")),
        (OperationState.CANCELLED, Decimal(0), Decimal("0.04")),
        (OperationState.UNKNOWN, Decimal("0.04"), None),
    ],
    ids=str,
)
async def test_failure_settles_what_is_known(
    ledger: Ledger, state: OperationState, held: Decimal, cost: Decimal | None
) -> None:
    """What failed is settled at its attempts' cost; what is unknown stays held."""
    operation = await _sent(ledger)

    await ledger.fail(operation.id, failed(state))

    over = await _known(ledger, operation)
    assert (over.state, over.error_type, over.error) == (state, "ModelError", "no")
    assert (over.reserved_usd, over.cost_usd) == (held, cost)
    assert over.finished_at is not None


async def test_what_was_never_sent_costs_nothing(ledger: Ledger) -> None:
    """An operation that fails before it is sent gives its money back."""
    operation = an_operation()
    await ledger.accept(operation)

    await ledger.fail(operation.id, failed())

    over = await _known(ledger, operation)
    assert (over.reserved_usd, over.cost_usd) == (Decimal(0), Decimal(0))


async def test_unknown_operation_may_be_settled_later(ledger: Ledger) -> None:
    """When a lost answer turns up after all, the book says so, and no error is left."""
    operation = await _sent(ledger)
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))

    await ledger.settle(operation.id, settled())

    done = await _known(ledger, operation)
    assert (done.state, done.error, done.error_type) == (
        OperationState.DONE,
        None,
        None,
    )
    assert (done.reserved_usd, done.cost_usd) == (Decimal(0), Decimal("0.04"))


async def test_unknown_operation_may_fail_later(ledger: Ledger) -> None:
    """When it turns out that nothing was made, the money is free."""
    operation = await _sent(ledger)
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))
    refused = an_attempt(outcome=OutcomeClass.REJECTED_FINAL, cost_usd=Decimal(0))
    await ledger.end_attempt(operation.id, refused)

    await ledger.fail(operation.id, failed())

    over = await _known(ledger, operation)
    assert over.state is OperationState.FAILED
    assert (over.reserved_usd, over.cost_usd) == (Decimal(0), Decimal(0))


async def test_unknown_operation_may_be_reopened(ledger: Ledger) -> None:
    """An unknown outcome can be looked into again; a known one cannot."""
    operation = await _sent(ledger)
    before = await ledger.reopen(operation.id)
    await ledger.fail(operation.id, failed(OperationState.UNKNOWN))

    reopened = await ledger.reopen(operation.id)
    await ledger.settle(operation.id, settled())
    after = await ledger.reopen(operation.id)

    assert (before, after) == (None, None)
    assert reopened is not None
    assert (reopened.id, reopened.attempts) == (operation.id, (an_attempt(),))
    assert reopened.state is OperationState.SENT


async def test_latest_operations_come_first(ledger: Ledger) -> None:
    """Operations are listed newest first, all or those of one state, up to a limit."""
    oldest, middle, newest = [await _sent(ledger) for _ in range(3)]
    await ledger.settle(middle.id, settled())

    everything = await ledger.listed()
    latest = await ledger.listed(limit=2)
    sent = await ledger.listed(state="sent")
    none = await ledger.listed(limit=0)

    assert [one.id for one in everything] == [newest.id, middle.id, oldest.id]
    assert [one.id for one in latest] == [newest.id, middle.id]
    assert [one.id for one in sent] == [newest.id, oldest.id]
    assert list(none) == []


async def test_usage_adds_up(ledger: Ledger) -> None:
    """What was made, spent and held is added up by group."""
    for campaign in ("spring", "spring", "autumn"):
        operation = await _sent(ledger, campaign_id=campaign)
        await ledger.settle(operation.id, settled(images=(a_picture(operation),)))
    await _sent(ledger, campaign_id="autumn")

    rows = {row.group["campaign"]: row for row in await ledger.usage(["campaign"])}

    assert {name: (row.done, row.images) for name, row in rows.items()} == {
        "spring": (2, 2),
        "autumn": (1, 1),
    }
    assert rows["spring"].cost_usd == Decimal("0.08")
    assert rows["spring"].held_usd == Decimal(0)
    assert rows["autumn"].held_usd == Decimal("0.04")


async def test_usage_is_grouped_by_known_words(ledger: Ledger) -> None:
    """A word that nothing is grouped by is refused, and the right ones are named."""
    with pytest.raises(InvalidRequestError, match="campaign"):
        await ledger.usage(["colour"])


async def test_nothing_is_wrong(ledger: Ledger) -> None:
    """A book that was kept by the rules checks out."""
    for state in ("done", OperationState.FAILED, OperationState.UNKNOWN, "open"):
        operation = await _sent(ledger, campaign_id="spring")
        if isinstance(state, OperationState):
            await ledger.fail(operation.id, failed(state))
        elif state == "done":
            images = (a_picture(operation),)
            await ledger.settle(operation.id, settled(images=images))

    assert list(await ledger.check()) == []
    assert list(await ledger.adopt()) == []
    assert await ledger.expire_holds() == 0


# -- idempotency keys ---------------------------------------------------------------


async def test_key_stands_for_its_operation(ledger: Ledger) -> None:
    """An equal request under an equal key is the operation that was, however it is."""
    first = await _sent(ledger, principal="ann", key=KEY)
    meanwhile = await ledger.accept(an_operation(principal="ann", key=KEY))
    await ledger.settle(first.id, settled())

    again = await ledger.accept(an_operation(principal="ann", key=KEY))

    assert (meanwhile.id, meanwhile.state) == (first.id, OperationState.SENT)
    assert (again.id, again.state) == (first.id, OperationState.DONE)
    assert await ledger.find(KEY) == again


async def test_key_stands_for_one_request(ledger: Ledger) -> None:
    """Another request under the same key is refused, and nothing of it is kept."""
    await ledger.accept(an_operation(principal="ann", key=KEY))
    other = an_operation(principal="ann", key=KEY, fingerprint="b" * 64)

    with pytest.raises(IdempotencyConflictError, match="'once'"):
        await ledger.accept(other)

    assert await ledger.get(other.id) is None


@pytest.mark.parametrize(
    "field",
    ["key", "principal", "route"],
    ids=["other-key", "other-caller", "other-way"],
)
async def test_keys_of_others_are_other_keys(ledger: Ledger, field: str) -> None:
    """A key stands for a request of one caller by one way."""
    await ledger.accept(an_operation(principal="ann", key=KEY))
    other = attrs.evolve(KEY, **{field: "other"})
    operation = an_operation(key=other, principal=other.principal, fingerprint="b" * 64)

    accepted = await ledger.accept(operation)

    assert accepted.id == operation.id
    assert (await ledger.find(other) or operation).id == operation.id


async def test_failure_without_charge_lets_go_of_the_key(ledger: Ledger) -> None:
    """Where nothing was charged the key may be used anew, for any request."""
    first = await _sent(ledger, principal="ann", key=KEY)
    await ledger.fail(first.id, failed(is_final=False))
    found = await ledger.find(KEY)

    second = an_operation(principal="ann", key=KEY, fingerprint="b" * 64)
    accepted = await ledger.accept(second)

    assert found is None
    assert accepted.id == second.id
    assert await ledger.find(KEY) == second


@pytest.mark.parametrize(
    "state", [OperationState.FAILED, OperationState.UNKNOWN], ids=str
)
async def test_final_failure_keeps_the_key(
    ledger: Ledger, state: OperationState
) -> None:
    """A failure that is final is the answer to the same request."""
    first = await _sent(ledger, principal="ann", key=KEY)
    await ledger.fail(first.id, failed(state))

    again = await ledger.accept(an_operation(principal="ann", key=KEY))

    assert (again.id, again.state) == (first.id, state)


async def test_equal_keys_at_once_are_one_operation(ledger: Ledger) -> None:
    """However many ask at once under one key, one operation is taken on."""
    operations = [an_operation(principal="ann", key=KEY) for _ in range(10)]

    accepted = await asyncio.gather(*map(ledger.accept, operations))

    assert len({one.id for one in accepted}) == 1
    assert len(await ledger.listed()) == 1


# -- results ------------------------------------------------------------------------


async def test_equal_requests_share_what_is_under_way(ledger: Ledger) -> None:
    """An equal request is the one under way, and then the one that is done."""
    first = await _sent(ledger, result_key="r" * 64)
    meanwhile = await ledger.accept(an_operation(result_key="r" * 64))
    early = await ledger.find_result("r" * 64)
    await ledger.settle(first.id, settled(images=(a_picture(first),)))

    again = await ledger.accept(an_operation(result_key="r" * 64))
    found = await ledger.find_result("r" * 64)

    assert (meanwhile.id, again.id) == (first.id, first.id)
    assert early is None
    assert found == again
    assert len(again.image_ids) == 1


@pytest.mark.parametrize(
    "state",
    [OperationState.FAILED, OperationState.CANCELLED, OperationState.UNKNOWN],
    ids=str,
)
async def test_failures_are_not_shared(ledger: Ledger, state: OperationState) -> None:
    """What did not succeed is made anew for the next equal request."""
    first = await _sent(ledger, result_key="r" * 64)
    await ledger.fail(first.id, failed(state))

    second = an_operation(result_key="r" * 64)
    accepted = await ledger.accept(second)
    await ledger.settle(second.id, settled())

    found = await ledger.find_result("r" * 64)
    assert accepted.id == second.id
    assert found is not None
    assert found.id == second.id


async def test_forgotten_result_is_made_anew(ledger: Ledger) -> None:
    """A result that is forgotten is found no more; its operation stays."""
    first = await _sent(ledger, result_key="r" * 64)
    await ledger.settle(first.id, settled())

    await ledger.forget_result("r" * 64, "0" * 32)
    kept = await ledger.find_result("r" * 64)
    await ledger.forget_result("r" * 64, first.id)

    assert kept is not None
    second = an_operation(result_key="r" * 64)
    assert await ledger.find_result("r" * 64) is None
    assert (await ledger.accept(second)).id == second.id
    assert (await _known(ledger, first)).state is OperationState.DONE


async def test_key_follows_a_shared_result(ledger: Ledger) -> None:
    """A key whose request is answered by an equal one stands for that one."""
    first = await _sent(ledger, result_key="r" * 64)
    shared = await ledger.accept(
        an_operation(result_key="r" * 64, principal="ann", key=KEY)
    )
    await ledger.settle(first.id, settled())

    again = await ledger.accept(
        an_operation(result_key="r" * 64, principal="ann", key=KEY)
    )

    assert (shared.id, again.id) == (first.id, first.id)


async def test_unknown_result_is_none(ledger: Ledger) -> None:
    """A result key that nobody used gives nothing, and may be forgotten."""
    await ledger.forget_result("r" * 64, "0" * 32)

    assert await ledger.find_result("r" * 64) is None
