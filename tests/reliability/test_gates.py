"""Who is let through to a provider, when, and who is not."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia_core import Capability, ProviderUnavailableError, RateLimitError
from gaia_core.metrics import MemoryMetrics, Sample
from gaia_core.reliability import Asker, EgressLimits
from gaia_core.reliability.gates import Gate, NoTurnError

Run = Callable[[Coroutine[Any, Any, Any]], Any]

UPSCALING = Capability.UPSCALING


def _gate(most: int | None = None, per_minute: int | None = None, **more: Any) -> Gate:
    return Gate(
        provider="p",
        limits=EgressLimits(max_concurrent=most, requests_per_minute=per_minute),
        random=Random(7),  # noqa: S311  a test repeats what it drew
        clock=asyncio.get_running_loop().time,
        **more,
    )


@attrs.define
class Door:
    """A provider behind a gate: notes who came through, and when."""

    gate: Gate
    seconds: float = 1.0
    passed: list[tuple[float, Asker]] = attrs.field(factory=list)
    inside: int = 0
    most_inside: int = 0

    async def ask(self, asker: Asker | None = None) -> None:
        """Go through the gate and work for a while."""
        asker = asker or Asker()
        async with self.gate.place(asker, UPSCALING):
            self.passed.append((self.now(), asker))
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.inside -= 1
        self.gate.measure(self.seconds)

    async def all(self, *askers: Asker) -> list[BaseException | None]:
        """Let many ask at once; give what became of each."""
        return await asyncio.gather(*map(self.ask, askers), return_exceptions=True)

    def now(self) -> float:
        """Give the time."""
        return asyncio.get_running_loop().time()


def _many(count: int, tenant: str = "", *, is_batch: bool = False) -> list[Asker]:
    return [Asker(tenant=tenant, is_batch=is_batch)] * count


# -- limits -----------------------------------------------------------------------


def test_no_limit_lets_everybody_through(run: Run) -> None:
    """Without a limit a thousand attempts are under way at once."""

    async def scene() -> Door:
        door = Door(_gate())
        await door.all(*_many(1_000))
        return door

    assert run(scene()).most_inside == 1_000


def test_never_more_at_a_time_than_may_be(run: Run) -> None:
    """Of 100 attempts three are under way at any time, and all get done."""

    async def scene() -> Door:
        door = Door(_gate(most=3))
        await door.all(*_many(100))
        return door

    door = run(scene())
    assert door.most_inside == 3
    assert len(door.passed) == 100
    assert (door.gate.running, door.gate.waiting) == (0, 0)


def test_never_more_a_minute_than_may_be(run: Run) -> None:
    """Sixty a minute: no minute, wherever it begins, holds more."""

    async def scene() -> Door:
        door = Door(_gate(per_minute=60))
        await door.all(*_many(200))
        return door

    times = [when for when, _ in run(scene()).passed]
    assert len(times) == 200
    assert all(
        later - earlier >= 60 - 1e-6
        for earlier, later in zip(times, times[60:], strict=False)
    )


def test_failed_attempt_gives_its_place_back(run: Run) -> None:
    """However an attempt ends, the next one has its place."""

    async def scene() -> Gate:
        gate = _gate(most=1)
        for _ in range(3):
            with suppress(ZeroDivisionError):
                async with gate.place(Asker(), UPSCALING):
                    raise ZeroDivisionError
        return gate

    assert run(scene()).running == 0


# -- order ------------------------------------------------------------------------


def test_one_of_many_goes_next(run: Run) -> None:
    """Beside a tenant with a thousand attempts another one's goes at once."""

    async def scene() -> list[str]:
        door = Door(_gate(most=1, max_waiting=2_000))
        await door.all(*_many(1_000, "ana"), *_many(1, "bob"))
        return [asker.tenant for _, asker in door.passed]

    assert run(scene()).index("bob") <= 2


def test_people_before_batches_but_for_every_fourth(run: Run) -> None:
    """Three people go, then one item of a batch; nobody waits for ever."""

    async def scene() -> list[bool]:
        door = Door(_gate(most=1))
        await door.all(*_many(50, is_batch=True), *_many(30))
        return [asker.is_batch for _, asker in door.passed]

    first, *turns = run(scene())
    assert first
    assert turns[:40] == [False, False, False, True] * 10
    assert len(turns) == 79


def test_batch_beside_people_slows_them_little(run: Run) -> None:
    """Beside a batch of 2,000 people wait hardly longer than without it."""

    async def scene(*batch: Asker) -> float:
        door = Door(_gate(most=8, max_waiting=5_000))
        waits = []

        async def person() -> None:
            start = door.now()
            await door.ask(Asker(tenant="ana"))
            waits.append(door.now() - start)

        async with asyncio.TaskGroup() as group:
            for asker in batch:
                group.create_task(door.ask(asker))
            for _ in range(100):
                await asyncio.sleep(0.5)
                group.create_task(person())
        return sorted(waits)[94]

    alone = run(scene())
    beside = run(scene(*_many(2_000, "bob", is_batch=True)))
    assert alone == pytest.approx(1.0)
    assert beside <= 2.0


# -- pauses -----------------------------------------------------------------------


def test_nobody_passes_during_a_pause(run: Run) -> None:
    """When a provider asks for three seconds, nobody is let through in them."""

    async def scene() -> tuple[float, Door]:
        door = Door(_gate())
        start = door.now()
        door.gate.close(3.0)
        await door.all(*_many(200))
        return start, door

    start, door = run(scene())
    times = [when - start for when, _ in door.passed]
    assert len(times) == 200
    assert min(times) >= 3.0


def test_after_a_pause_all_set_out_one_by_one(run: Run) -> None:
    """In the second after a pause no 50 ms see more than a fifth of all."""

    async def scene() -> list[float]:
        door = Door(_gate())
        start = door.now()
        for _ in range(50):
            door.gate.close(3.0)
        back = [asyncio.create_task(_later(door, 3 + n * 0.006)) for n in range(50)]
        await door.all(*_many(50))
        await asyncio.gather(*back)
        return [when - start for when, _ in door.passed]

    times = run(scene())
    slots = Counter(int(when / 0.05) for when in times)
    assert min(times) >= 3.0
    assert max(times) <= 5.0
    assert max(slots.values()) <= 0.2 * len(times)


async def _later(door: Door, after: float) -> None:
    await asyncio.sleep(after)
    await door.ask()


def test_after_the_pause_all_is_as_before(run: Run) -> None:
    """The spreading ends a second after the pause."""

    async def scene() -> float:
        door = Door(_gate())
        door.gate.close(3.0)
        await asyncio.sleep(10)
        start = door.now()
        await door.all(*_many(100))
        return max(when for when, _ in door.passed) - start

    assert run(scene()) == 0


def test_later_and_shorter_pause_does_not_shorten(run: Run) -> None:
    """A pause ends when the longest one that was asked for does."""

    async def scene() -> float:
        gate = _gate()
        gate.close(50.0)
        gate.close(1.0)
        return gate.closed_for

    assert run(scene()) >= 50


def test_pause_in_the_midst_of_waiting_holds(run: Run) -> None:
    """Those who wait already wait on when the provider asks for a pause."""

    async def scene() -> list[float]:
        door = Door(_gate(most=1))
        start = door.now()
        tasks = [asyncio.create_task(door.ask()) for _ in range(3)]
        await asyncio.sleep(0.5)
        door.gate.close(10.0)
        await asyncio.gather(*tasks)
        return [when - start for when, _ in door.passed]

    first, second, third = run(scene())
    assert first == 0
    assert 10.5 <= second < third


def test_absurd_pause_is_a_day(run: Run) -> None:
    """A pause for ever is believed for a day."""

    async def scene() -> float:
        gate = _gate()
        gate.close(math.inf)
        return gate.shut_for

    assert run(scene()) == pytest.approx(86_400)


# -- refusals ---------------------------------------------------------------------


def test_full_queue_refuses(run: Run) -> None:
    """Beyond the bound of the queue nobody waits: it is said at once."""

    async def scene() -> list[BaseException | None]:
        return await Door(_gate(most=1, max_waiting=10)).all(*_many(20))

    refused = [error for error in run(scene()) if error]
    assert len(refused) == 9
    assert all(isinstance(error, NoTurnError) for error in refused)
    assert str(refused[0]) == (
        "10 attempts wait for p: no more are taken. Ask again in 1 s."
    )


def test_turn_that_comes_too_late_is_refused_at_once(run: Run) -> None:
    """Whoever cannot be served before its deadline is told so, and when to come."""

    async def scene() -> tuple[float, RateLimitError]:
        door = Door(_gate(most=2), seconds=10.0)
        await door.ask()
        tasks = [asyncio.create_task(door.ask()) for _ in range(12)]
        await asyncio.sleep(0)
        start = door.now()
        with pytest.raises(RateLimitError) as caught:
            await door.ask(Asker(deadline=start + 30))
        took = door.now() - start
        await asyncio.gather(*tasks)
        return took, caught.value

    took, error = run(scene())
    assert took == 0
    assert error.retry_after == pytest.approx(25)
    assert str(error) == (
        "10 attempts wait for p: one more would wait 55 s, and has 30 s left. "
        "Ask again in 25 s."
    )


def test_pause_beyond_the_deadline_is_refused_at_once(run: Run) -> None:
    """A pause that outlasts the deadline is not waited for."""

    async def scene() -> str:
        gate = _gate()
        gate.close(50.0)
        with pytest.raises(NoTurnError) as caught:
            await Door(gate).ask(Asker(deadline=asyncio.get_running_loop().time() + 20))
        return str(caught.value)

    assert run(scene()).startswith("p asked for a pause: one more would wait 5")


def test_pace_that_is_too_slow_is_refused_at_once(run: Run) -> None:
    """A turn that the requests per minute put off too long is refused."""

    async def scene() -> list[BaseException | None]:
        door = Door(_gate(per_minute=6))
        deadline = door.now() + 25
        return await door.all(*[Asker(deadline=deadline)] * 10)

    served = [error for error in run(scene()) if error is None]
    assert len(served) == 3


def test_turn_that_did_not_come_in_time_is_not_taken(run: Run) -> None:
    """Where nothing was measured yet, the deadline ends the waiting."""

    async def scene() -> tuple[float, list[BaseException | None], Gate]:
        door = Door(_gate(most=1), seconds=60.0)
        start = door.now()
        first = asyncio.create_task(door.ask())
        await asyncio.sleep(0)
        errors = await door.all(Asker(deadline=start + 5))
        took = door.now() - start
        await first
        return took, errors, door.gate

    took, (error,), gate = run(scene())
    assert took == pytest.approx(5)
    assert isinstance(error, NoTurnError)
    assert (gate.running, gate.waiting) == (0, 0)


def test_those_who_wait_can_be_sent_away(run: Run) -> None:
    """Who would ask for what is not to be had is told so; the others wait on."""

    async def scene() -> tuple[list[BaseException | None], Gate]:
        door = Door(_gate(most=1))
        holder = asyncio.create_task(door.ask())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(door.all(*_many(5)))
        await asyncio.sleep(0.1)
        door.gate.send_away(Capability.INPAINTING, lambda: ValueError("no"))
        door.gate.send_away(UPSCALING, lambda: ProviderUnavailableError("down"))
        errors = await waiting
        await holder
        return errors, door.gate

    errors, gate = run(scene())
    assert [type(error) for error in errors] == [ProviderUnavailableError] * 5
    assert len({id(error) for error in errors}) == 5
    assert (gate.running, gate.waiting) == (0, 0)


# -- cancellation -----------------------------------------------------------------


def test_cancelled_while_waiting_leaves_nothing(run: Run) -> None:
    """Whoever is cancelled in the queue leaves no gap and no ghost."""

    async def scene() -> Door:
        door = Door(_gate(most=1))
        tasks = [asyncio.create_task(door.ask()) for _ in range(100)]
        await asyncio.sleep(0.5)
        for task in tasks[1:-1]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return door

    door = run(scene())
    assert len(door.passed) == 2
    assert (door.gate.running, door.gate.waiting) == (0, 0)


def test_cancelled_just_when_let_through_gives_the_place_on(run: Run) -> None:
    """A turn that comes together with a cancellation goes to the next one."""

    async def scene() -> Door:
        door = Door(_gate(most=1))
        async with door.gate.place(Asker(), UPSCALING):
            unlucky = asyncio.create_task(door.ask())
            patient = asyncio.create_task(door.ask())
            await asyncio.sleep(0.1)
        unlucky.cancel()
        await asyncio.gather(unlucky, patient, return_exceptions=True)
        return door

    door = run(scene())
    assert len(door.passed) == 1
    assert (door.gate.running, door.gate.waiting) == (0, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "batch", "cancel", "wait", "pause", "send away"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    most=st.none() | st.integers(1, 4),
    per_minute=st.none() | st.integers(1, 300),
    patience=st.none() | st.floats(0, 90),
)
def test_no_place_is_ever_lost(
    run: Run,
    steps: list[tuple[str, int]],
    most: int | None,
    per_minute: int | None,
    patience: float | None,
) -> None:
    """Whatever happens in whatever order, in the end nobody holds or waits."""

    async def scene() -> Door:
        door = Door(_gate(most, per_minute, max_waiting=20), seconds=0.7)
        tasks: list[asyncio.Task[None]] = []
        for what, number in steps:
            if what in {"ask", "batch"}:
                asker = Asker(
                    tenant=str(number % 3),
                    is_batch=what == "batch",
                    deadline=math.inf if patience is None else door.now() + patience,
                )
                tasks.append(asyncio.create_task(door.ask(asker)))
            elif what == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "wait":
                await asyncio.sleep(number / 20)
            elif what == "pause":
                door.gate.close(number / 3)
            elif what == "send away":
                door.gate.send_away(UPSCALING, lambda: ProviderUnavailableError("no"))
        await asyncio.gather(*tasks, return_exceptions=True)
        await door.ask()
        return door

    door = run(scene())
    assert (door.gate.running, door.gate.waiting, door.inside) == (0, 0, 0)
    assert door.most_inside <= (most or 100)


def test_storm_of_cancellations_on_a_real_loop() -> None:
    """With real time, too, a thousand cancelled at random leave nothing behind."""

    async def scene() -> Door:
        door = Door(_gate(most=5, max_waiting=5_000), seconds=0.001)
        dice = Random(3)  # noqa: S311  a test repeats what it drew
        tasks = [asyncio.create_task(door.ask()) for _ in range(1_000)]
        while not all(task.done() for task in tasks):
            for task in dice.sample(tasks, 50):
                task.cancel()
            await asyncio.sleep(dice.choice([0, 0, 0.001]))
        await asyncio.gather(*tasks, return_exceptions=True)
        return door

    door = asyncio.run(scene())
    assert (door.gate.running, door.gate.waiting) == (0, 0)
    assert door.most_inside <= 5


# -- figures ----------------------------------------------------------------------


def test_queue_is_measured(run: Run) -> None:
    """How many wait, and how long they did, is told."""

    async def scene() -> tuple[float, MemoryMetrics]:
        metrics = MemoryMetrics()
        door = Door(_gate(most=1, metrics=metrics))
        work = asyncio.create_task(door.all(*_many(3)))
        await asyncio.sleep(0.5)
        during = _sample(metrics, "gaia_queue_waiting").value
        await work
        return during, metrics

    during, metrics = run(scene())
    waits = _sample(metrics, "gaia_queue_wait_seconds")
    assert during == 2
    assert _sample(metrics, "gaia_queue_waiting").value == 0
    assert waits.count == 2
    assert waits.value == pytest.approx(3)
    assert waits.labels == {"provider": "p"}


def _sample(metrics: MemoryMetrics, name: str) -> Sample:
    return next(sample for sample in metrics.samples() if sample.name == name)
