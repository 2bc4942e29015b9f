"""The rules Gaia goes by, as the engine meets them."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import attrs
import pytest

from gaia_core import (
    AuthenticationError,
    Capability,
    GaiaError,
    ModelError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
    UnusableResultError,
)
from gaia_core.metrics import MemoryMetrics
from gaia_core.reliability import (
    Asker,
    EgressLimits,
    StandardReliability,
    Standing,
    Target,
    classify,
)

Run = Callable[[Coroutine[Any, Any, Any]], Any]

MAKING = Target(provider="p", model="m", capability=Capability.TEXT_TO_IMAGE)
UPSCALING = Target(provider="p", model="m", capability=Capability.UPSCALING)
ELSEWHERE = attrs.evolve(MAKING, provider="q")
DOWN = ProviderUnavailableError("down")


@attrs.define
class Clock:
    """Shows the time it is set to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="rules")
def _rules(clock: Clock) -> StandardReliability:
    return StandardReliability(clock=clock, random=_dice())


def _dice(seed: int = 7) -> Random:
    return Random(seed)  # noqa: S311  a test repeats what it drew


async def _attempt(
    rules: StandardReliability,
    error: Exception | None = None,
    *,
    target: Target = MAKING,
    repeats: int = 0,
    seconds: float = 0.1,
) -> None:
    """Make one attempt as the engine does."""
    async with rules.attempt(target, Asker()):
        outcome = classify(error) if error else OutcomeClass.OK
        rules.record(target, outcome, seconds, error=error, repeats=repeats)


async def _break(rules: StandardReliability, target: Target = MAKING) -> float:
    """Open a breaker and give for how long."""
    for _ in range(5):
        await _attempt(rules, DOWN, target=target)
    left = rules.opens_in(target.provider, target.capability)
    assert left is not None
    return left


# -- admission --------------------------------------------------------------------


def test_unknown_provider_is_admitted(rules: StandardReliability) -> None:
    """Whoever was never asked is admitted, and asking leaves no trace."""
    assert rules.admit("p", Capability.UPSCALING) is None
    assert rules.opens_in("p", Capability.UPSCALING) is None
    assert rules.states() == {}


async def test_failing_provider_is_not_admitted(
    rules: StandardReliability, clock: Clock
) -> None:
    """The reason says why, and when it is tried again; then it is."""
    left = await _break(rules)

    reason = rules.admit("p", Capability.TEXT_TO_IMAGE)
    clock.now += left

    assert reason == f"failed too often of late; it is tried again in {left:.0f} s"
    assert rules.admit("p", Capability.TEXT_TO_IMAGE) is None
    assert rules.opens_in("p", Capability.TEXT_TO_IMAGE) is None


async def test_other_capabilities_and_providers_are_not_blamed(
    rules: StandardReliability,
) -> None:
    """A provider that cannot draw may still enlarge; others may do both."""
    await _break(rules)

    assert rules.admit("p", Capability.UPSCALING) is None
    assert rules.admit("q", Capability.TEXT_TO_IMAGE) is None


async def test_attempt_at_a_failing_provider_is_refused(
    rules: StandardReliability,
) -> None:
    """Whoever asks all the same is refused, and told when to come again."""
    left = await _break(rules)

    with pytest.raises(ProviderUnavailableError) as caught:
        await _attempt(rules)

    assert caught.value.retry_after == pytest.approx(left)
    assert str(caught.value) == (
        "p failed too often of late at text-to-image. "
        f"It is tried again in {left:.0f} s."
    )


async def test_long_pause_is_not_waited_for(
    rules: StandardReliability, clock: Clock
) -> None:
    """A provider that asks for an hour is passed over until it is over."""
    await _attempt(rules, RateLimitError("slow", retry_after=3_600))

    reason = rules.admit("p", Capability.UPSCALING)
    left = rules.opens_in("p", Capability.UPSCALING)
    with pytest.raises(RateLimitError) as caught:
        await _attempt(rules)
    clock.now += 3_599
    late = rules.admit("p", Capability.UPSCALING)
    clock.now += 2

    assert reason == "asked for a pause; it takes requests again in 3600 s"
    assert left == pytest.approx(3_600)
    assert caught.value.retry_after == pytest.approx(3_600)
    assert late is not None
    assert rules.admit("p", Capability.UPSCALING) is None


async def test_short_pause_does_not_rule_a_provider_out(
    rules: StandardReliability,
) -> None:
    """A pause of seconds is waited for in the queue."""
    await _attempt(rules, RateLimitError("slow", retry_after=3))

    assert rules.admit("p", Capability.UPSCALING) is None
    assert rules.snapshot("p").closed_for >= 3


async def test_too_many_requests_are_no_failure(rules: StandardReliability) -> None:
    """A provider that takes no more for now is not one that fails."""
    for _ in range(100):
        await _attempt(rules, RateLimitError("slow"))

    assert rules.states() == {"p/text-to-image": "closed"}


async def test_refusals_are_no_failures(rules: StandardReliability) -> None:
    """Wrong keys and models that are gone do not open a breaker."""
    for error in (AuthenticationError("key"), ModelError("gone")) * 50:
        await _attempt(rules, error)

    assert rules.states() == {"p/text-to-image": "closed"}


# -- probes -----------------------------------------------------------------------


async def _probe(
    rules: StandardReliability, gate: asyncio.Event, error: Exception | None = None
) -> None:
    async with rules.attempt(MAKING, Asker()):
        await gate.wait()
        outcome = classify(error) if error else OutcomeClass.OK
        rules.record(MAKING, outcome, 0.1, error=error)


async def test_one_of_a_hundred_is_the_probe(
    rules: StandardReliability, clock: Clock
) -> None:
    """When the pause is over one attempt goes, and 99 are refused at once."""
    clock.now += await _break(rules)
    gate = asyncio.Event()

    tasks = [asyncio.create_task(_probe(rules, gate)) for _ in range(100)]
    await asyncio.sleep(0)
    refused = [task for task in tasks if task.done()]
    state = rules.states()
    gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)

    assert len(refused) == 99
    assert state == {"p/text-to-image": "half_open"}
    assert Counter(map(type, errors)) == {
        type(None): 1,
        ProviderUnavailableError: 99,
    }


async def test_those_in_the_queue_are_refused_when_it_opens(clock: Clock) -> None:
    """Nobody waits in a queue for a provider that is not asked any more."""
    rules = StandardReliability(
        clock=clock, random=_dice(), limits=lambda _: EgressLimits(max_concurrent=5)
    )
    gate = asyncio.Event()
    tasks = [asyncio.create_task(_probe(rules, gate, DOWN)) for _ in range(100)]
    await asyncio.sleep(0)
    waiting = rules.snapshot("p").waiting

    gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)

    refused = [error for error in errors if error is not None]
    assert waiting == 95
    assert len(refused) == 95
    assert rules.snapshot("p").waiting == 0
    assert rules.snapshot("p").running == 0


async def test_two_probes_close_it(rules: StandardReliability, clock: Clock) -> None:
    """After two answered probes all is as before."""
    clock.now += await _break(rules)

    await _attempt(rules)
    between = rules.states()
    await _attempt(rules)

    assert between == {"p/text-to-image": "half_open"}
    assert rules.states() == {"p/text-to-image": "closed"}


async def test_cancelled_probe_makes_room(
    rules: StandardReliability, clock: Clock
) -> None:
    """A probe that is cancelled counts for nothing; the next one may go."""
    clock.now += await _break(rules)
    task = asyncio.create_task(_probe(rules, asyncio.Event()))
    await asyncio.sleep(0)
    during = rules.admit("p", Capability.TEXT_TO_IMAGE)

    task.cancel()
    await asyncio.wait([task])

    assert during == "failed too often of late; it is tried again in 1 s"
    assert rules.admit("p", Capability.TEXT_TO_IMAGE) is None
    assert rules.states() == {"p/text-to-image": "half_open"}


async def test_storm_of_cancellations_leaves_it_closed(
    rules: StandardReliability,
) -> None:
    """A thousand callers who lose patience say nothing about the provider."""
    tasks = [asyncio.create_task(_probe(rules, asyncio.Event())) for _ in range(1_000)]
    await asyncio.sleep(0)

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert rules.states() == {"p/text-to-image": "closed"}
    assert rules.snapshot("p").running == 0


async def test_results_of_others_do_not_count_for_the_probe(
    rules: StandardReliability, clock: Clock
) -> None:
    """An attempt begun before it opened cannot close it, nor open it again."""
    gates = [asyncio.Event() for _ in range(4)]
    early = [asyncio.create_task(_probe(rules, gate)) for gate in gates]
    await asyncio.sleep(0)
    clock.now += await _break(rules)

    for gate in gates:
        gate.set()
    await asyncio.gather(*early)

    assert rules.states() == {"p/text-to-image": "half_open"}


# -- repeating --------------------------------------------------------------------


def test_four_tries_and_no_more(rules: StandardReliability) -> None:
    """A refusal is repeated three times, each wait drawn from a wider span."""
    waits = [rules.wait_before_repeat(MAKING, repeats, DOWN) for repeats in range(5)]

    drawn = [wait for wait in waits if wait is not None]
    assert waits[3:] == [None, None]
    assert all(0 <= wait <= top for wait, top in zip(drawn, [0.5, 1, 2], strict=True))


def test_number_of_tries_can_be_set() -> None:
    """With one try nothing is repeated."""
    rules = StandardReliability(max_attempts=1)

    assert rules.wait_before_repeat(MAKING, 0, DOWN) is None


def test_tries_and_waits_can_be_set_for_one_provider(clock: Clock) -> None:
    """What its limits say holds there, and nowhere else."""
    known = {"p": EgressLimits(max_attempts=2, retry_delay=8.0)}
    rules = StandardReliability(
        limits=lambda name: known.get(name, EgressLimits()), clock=clock, random=_dice()
    )

    there = [rules.wait_before_repeat(MAKING, n, DOWN) for n in range(3)]
    elsewhere = [rules.wait_before_repeat(ELSEWHERE, n, DOWN) for n in range(4)]

    assert there[0] is not None
    assert 4 <= there[0] <= 8
    assert there[1:] == [None, None]
    assert [wait is None for wait in elsewhere] == [False, False, False, True]


@pytest.mark.parametrize(
    ("error", "is_repeated"),
    [
        (ProviderConnectionError("x"), True),
        (ProviderTimeoutError("x"), True),
        (ProviderUnavailableError("x"), True),
        (RateLimitError("x"), True),
        (AuthenticationError("x"), False),
        (ModelError("x"), False),
        (UnusableResultError("x"), False),
        (GaiaError("x"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_final_is_not_repeated(
    rules: StandardReliability, error: Exception, is_repeated: bool
) -> None:
    """What will be refused again, or was charged, is left; the rest may be asked."""
    wait = rules.wait_before_repeat(MAKING, 0, error)

    assert (wait is not None) == is_repeated


def test_provider_sets_the_wait(rules: StandardReliability) -> None:
    """A wait the provider asks for is kept; too long a one ends the repeating."""
    short = rules.wait_before_repeat(MAKING, 0, RateLimitError("x", retry_after=30))
    long = rules.wait_before_repeat(MAKING, 0, RateLimitError("x", retry_after=61))

    assert short is not None
    assert 30 <= short <= 33
    assert long is None


async def test_open_breaker_ends_repeating(rules: StandardReliability) -> None:
    """Nothing is repeated at a provider that is left alone."""
    await _break(rules)

    assert rules.wait_before_repeat(MAKING, 0, DOWN) is None
    assert rules.wait_before_repeat(UPSCALING, 0, DOWN) is not None


async def test_refusal_by_the_queue_is_not_repeated(clock: Clock) -> None:
    """Who is sent away from the queue goes elsewhere, and costs no tokens."""
    rules = StandardReliability(
        clock=clock,
        max_waiting=1,
        limits=lambda _: EgressLimits(max_concurrent=1),
    )
    gate = asyncio.Event()
    tasks = [asyncio.create_task(_probe(rules, gate)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(RateLimitError) as caught:
        await _attempt(rules)
    gate.set()
    await asyncio.gather(*tasks)

    assert rules.wait_before_repeat(MAKING, 0, caught.value) is None
    assert rules.snapshot("p").repeats_left == 500


def test_repeating_has_a_budget(rules: StandardReliability) -> None:
    """A hundred repeats empty the bucket of one provider, and of no other."""
    waits = [rules.wait_before_repeat(MAKING, 0, DOWN) for _ in range(101)]

    assert None not in waits[:100]
    assert waits[100] is None
    assert rules.wait_before_repeat(ELSEWHERE, 0, DOWN) is not None


class ConnectTimeout(Exception):  # noqa: N818  libraries name theirs so
    """What a library raises when nobody answers the door."""


def _caused_by(cause: Exception) -> ProviderConnectionError:
    error = ProviderConnectionError("x")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (DOWN, 5),
        (_caused_by(ConnectionRefusedError()), 5),
        (_caused_by(TimeoutError()), 10),
        (_caused_by(ConnectTimeout()), 10),
        (ProviderTimeoutError("x"), 10),
    ],
    ids=["down", "refused", "timeout", "library", "answer"],
)
async def test_cost_of_a_repeat_comes_back_when_it_succeeds(
    rules: StandardReliability, error: Exception, cost: float
) -> None:
    """Repeats cost 5 tokens, after timeouts 10; exactly that comes back."""
    rules.wait_before_repeat(MAKING, 0, error)
    left = rules.snapshot("p").repeats_left
    await _attempt(rules, repeats=1)

    assert left == 500 - cost
    assert rules.snapshot("p").repeats_left == 500


async def test_success_at_once_brings_a_token(rules: StandardReliability) -> None:
    """Each attempt that succeeds at once pays for a fifth of a repeat."""
    rules.wait_before_repeat(MAKING, 0, DOWN)

    await _attempt(rules)
    await _attempt(rules)

    assert rules.snapshot("p").repeats_left == 497


# -- whole operations -------------------------------------------------------------


@attrs.define
class Vendor:
    """A provider that fails as it is told, and counts."""

    is_down: Callable[[], bool]
    seconds: float = 0.02
    calls: list[float] = attrs.field(factory=list)
    inside: int = 0
    most_inside: int = 0

    async def ask(self) -> None:
        """Answer after a while, or say that it cannot."""
        self.calls.append(asyncio.get_running_loop().time())
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.inside -= 1
        if self.is_down():
            raise DOWN


async def _operation(rules: StandardReliability, vendor: Vendor) -> bool:
    """Ask, and ask again as the rules say."""
    repeats = 0
    while True:
        try:
            async with rules.attempt(MAKING, Asker()):
                try:
                    await vendor.ask()
                except GaiaError as error:
                    outcome = classify(error)
                    rules.record(MAKING, outcome, 0.02, error=error, repeats=repeats)
                    raise
                rules.record(MAKING, OutcomeClass.OK, 0.02, repeats=repeats)
                return True
        except GaiaError as error:
            wait = rules.wait_before_repeat(MAKING, repeats, error)
        if wait is None:
            return False
        await asyncio.sleep(wait)
        repeats += 1


def _rules_now(**more: Any) -> StandardReliability:
    clock = asyncio.get_running_loop().time
    return StandardReliability(clock=clock, random=_dice(), **more)


def test_thirty_in_a_hundred_rejections_are_overcome(run: Run) -> None:
    """Of 1,000 operations at most 15 fail, for at most 1.5 times the calls."""

    async def scene() -> tuple[int, Vendor]:
        rules, dice, places = _rules_now(), _dice(1), asyncio.Semaphore(50)
        vendor = Vendor(lambda: dice.random() < 0.3)

        async def one() -> bool:
            async with places:
                return await _operation(rules, vendor)

        return sum(await asyncio.gather(*(one() for _ in range(1_000)))), vendor

    done, vendor = run(scene())
    assert done >= 985
    assert len(vendor.calls) <= 1_500


def test_total_outage_is_noticed_and_probed(run: Run) -> None:
    """Of 1,000 calls a few reach the provider, then one for each pause."""

    async def scene() -> tuple[Vendor, int]:
        rules, vendor = _rules_now(), Vendor(lambda: True)
        start = asyncio.get_running_loop().time()
        for _ in range(1_000):
            await _operation(rules, vendor)
            await asyncio.sleep(0.5)
        until_open = len([when for when in vendor.calls if when < start + 8])
        return vendor, until_open

    vendor, until_open = run(scene())
    assert until_open == 5
    # Some 500 seconds: pauses of 10, 20, 40, 80, 160 and 300 s, give or take.
    assert len(vendor.calls) - until_open <= 7
    assert vendor.most_inside == 1


def test_total_outage_under_load_is_noticed(run: Run) -> None:
    """Of 1,000 calls, fifty at a time, those under way are the last to arrive."""

    async def scene() -> Vendor:
        rules, vendor = _rules_now(), Vendor(lambda: True)
        places = asyncio.Semaphore(50)

        async def one() -> bool:
            async with places:
                return await _operation(rules, vendor)

        await asyncio.gather(*(one() for _ in range(1_000)))
        return vendor

    assert len(run(scene()).calls) <= 1.15 * 50


def test_provider_that_recovers_is_asked_again(run: Run) -> None:
    """A pause after it recovered at the latest, calls succeed again."""

    async def scene() -> list[float]:
        loop = asyncio.get_running_loop()
        healed = loop.time() + 30
        rules, vendor = _rules_now(), Vendor(lambda: loop.time() < healed)
        done = []
        for _ in range(1_000):
            if await _operation(rules, vendor):
                done.append(loop.time() - healed)
            await asyncio.sleep(0.1)
        return done

    done = run(scene())
    assert done[0] <= 40 * 1.2 + 1
    assert len(done) >= 200


def test_nobody_passes_during_a_pause(run: Run) -> None:
    """After a 429 with three seconds nobody asks in them, and then one by one."""

    async def scene() -> list[float]:
        loop, rules = asyncio.get_running_loop(), _rules_now()
        start, passed = loop.time(), list[float]()

        async def one() -> None:
            for repeats in range(4):
                async with rules.attempt(MAKING, Asker()):
                    passed.append(loop.time() - start)
                    await asyncio.sleep(0.01)
                    error = None
                    if len(passed) <= 50:
                        error = RateLimitError("slow", retry_after=3)
                    outcome = classify(error) if error else OutcomeClass.OK
                    rules.record(MAKING, outcome, 0.01, error=error, repeats=repeats)
                if error is None:
                    return
                wait = rules.wait_before_repeat(MAKING, repeats, error)
                await asyncio.sleep(wait or 0)

        first = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(0.1)
        await asyncio.gather(*first, *(one() for _ in range(50)))
        return passed

    times = run(scene())
    after = [when for when in times if when > 0.05]
    slots = Counter(int(when / 0.05) for when in after)
    assert len(after) == 100
    assert min(after) >= 3.01
    assert max(slots.values()) <= 0.2 * len(after)


async def test_clock_on_the_wall_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A time of day that jumps by hours neither opens, closes nor delays."""
    jumps = itertools.cycle([0.0, 7_200.0, 3_600.0])
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + next(jumps))
    rules = StandardReliability(limits=lambda _: EgressLimits(requests_per_minute=300))

    for _ in range(3):
        await asyncio.wait_for(_attempt(rules), 5)
    left = await asyncio.wait_for(_break(rules), 20)
    later = rules.opens_in("p", Capability.TEXT_TO_IMAGE)

    assert 7 < left <= 12
    assert later is not None
    assert 0 < later <= left


# -- views ------------------------------------------------------------------------


async def test_latency_follows_successes(rules: StandardReliability) -> None:
    """The average moves towards the latest success; failures do not count."""
    await _attempt(rules, seconds=2.0)
    await _attempt(rules, seconds=4.0)
    await _attempt(rules, DOWN, seconds=60.0)

    assert rules.latency() == {"p": pytest.approx(2.4)}


async def test_health_can_be_seen_without_asking(rules: StandardReliability) -> None:
    """A view of a provider tells its breakers, its queue and its bucket."""
    await _attempt(rules, target=UPSCALING, seconds=2.0)
    left = await _break(rules)
    rules.wait_before_repeat(UPSCALING, 0, DOWN)

    assert rules.snapshot("p") == Standing(
        breakers={"upscaling": "closed", "text-to-image": "open"},
        opens_in={"text-to-image": left},
        running=0,
        waiting=0,
        closed_for=0.0,
        repeats_left=495.0,
        seconds=2.0,
    )
    assert rules.snapshot("nobody").breakers == {}


async def test_what_happens_is_counted(clock: Clock) -> None:
    """Breakers and repeats are told to whoever keeps figures."""
    metrics = MemoryMetrics()
    rules = StandardReliability(clock=clock, random=_dice(), metrics=metrics)
    seen = []

    await _attempt(rules)
    seen.append(_value(metrics, "gaia_breaker_state"))
    rules.wait_before_repeat(MAKING, 0, DOWN)
    clock.now += await _break(rules)
    seen.append(_value(metrics, "gaia_breaker_state"))
    await _attempt(rules)
    seen.append(_value(metrics, "gaia_breaker_state"))
    await _attempt(rules)
    seen.append(_value(metrics, "gaia_breaker_state"))

    assert seen == [0, 2, 1, 0]
    assert _value(metrics, "gaia_retries_total") == 1


def _value(metrics: MemoryMetrics, name: str) -> float:
    return next(one.value for one in metrics.samples() if one.name == name)
