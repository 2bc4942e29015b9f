"""What vendors are still at work on is asked about by what ends together."""

import uuid

import attrs

from gaia_core import Attempt, Capability, Operation, OutcomeClass
from gaia_core.running import Running


@attrs.define
class Clock:
    """A clock that goes when it is told to."""

    now: float = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def _task(reference: str | None, provider: str = "mill") -> tuple[Operation, Attempt]:
    attempt = Attempt(
        provider=provider,
        model="m",
        task_id=str(uuid.uuid4()),
        outcome=OutcomeClass.AMBIGUOUS,
        duration_ms=0.0,
        reference=reference,
    )
    operation = Operation(
        id=uuid.uuid4().hex, capability=Capability.TEXT_TO_IMAGE, attempts=(attempt,)
    )
    return operation, attempt


def test_a_batch_is_due_after_a_pause() -> None:
    """It is asked about again when the pause is over, and not before."""
    clock = Clock()
    running = Running(pause=30, clock=clock)
    operation, attempt = _task("batch-1")

    running.note(operation, attempt)
    clock.now += 29
    early = running.due()
    clock.now += 1

    assert early == []
    assert running.due() == [("mill", "batch-1")]
    assert running.of(("mill", "batch-1"), 5) == [operation.id]


def test_tasks_of_one_batch_are_due_together() -> None:
    """The same reference at the same provider is one batch, nothing else is."""
    running = Running(pause=0, clock=Clock())
    tasks = [_task("batch-1"), _task("batch-1"), _task("batch-2"), _task(None)]
    tasks += [_task(None), _task("batch-1", provider="other")]

    for operation, attempt in tasks:
        running.note(operation, attempt)

    assert len(running) == 6
    assert len(running.due()) == 5
    first, second = (operation.id for operation, _ in tasks[:2])
    assert running.of(("mill", "batch-1"), 1) == [first]
    assert running.of(("mill", "batch-1"), 9) == [first, second]


def test_what_is_asked_about_is_dropped() -> None:
    """Dropped operations wait no more; a batch without any is gone."""
    running = Running(pause=0, clock=Clock())
    (one, sent), (two, also_sent) = _task("batch-1"), _task("batch-1")
    running.note(one, sent)
    running.note(two, also_sent)

    running.drop([one.id, "nobody's"])
    is_one_waiting, is_any_waiting = (
        running.are_waiting([one.id]),
        running.are_waiting([one.id, two.id]),
    )
    running.drop([two.id])

    assert (is_one_waiting, is_any_waiting) == (False, True)
    assert (len(running), running.due()) == (0, [])


def test_noting_again_puts_off() -> None:
    """An operation that is noted twice is one, under its latest reference."""
    clock = Clock()
    running = Running(pause=30, clock=clock)
    operation, attempt = _task("file-1")
    running.note(operation, attempt)

    clock.now += 30
    later = attrs.evolve(attempt, reference="batch-1")
    running.note(attrs.evolve(operation, attempts=(later,)), later)

    assert (len(running), running.due()) == (1, [])
    clock.now += 30
    assert running.due() == [("mill", "batch-1")]
