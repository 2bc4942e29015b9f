"""The gate to one provider: how many at a time, how fast, and in which order."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import RateLimitError
from gaia_core.metrics import Metrics
from gaia_core.reliability.backoff import PATIENCE
from gaia_core.reliability.buckets import PaceBucket
from gaia_core.reliability.policies import Asker
from gaia_core.reliability.queues import FairQueue, Waiter

LONGEST_CLOSURE = 86_400.0
"""The longest pause a provider is believed to mean, in seconds."""
_SPREAD = 1.0
"""How long those who waited for a pause to end take to set out, in seconds."""
_WIDEST_GAP = 0.2
_STRAGGLE = 0.1
"""The part of a pause by which processes that share a key reopen apart."""
_WEIGHT = 0.2
"""How much the newest attempt counts in how long one takes."""


@attrs.frozen(kw_only=True)
class EgressLimits:
    """
    What one provider can take.

    Attributes:
        max_concurrent: Most attempts at a time; None: any number.
        requests_per_minute: Most attempts a minute; None: any number.
        max_attempts: Most tries for one operation; None: as for everybody.
        retry_delay: Seconds before the first repetition, from which the further
            waits grow; None: as for everybody.
    """

    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    max_attempts: int | None = None
    retry_delay: float | None = None


class NoTurnError(RateLimitError):
    """The queue of a provider is full, or a turn in it would come too late."""


@attrs.define(eq=False, kw_only=True)
class Gate:
    """
    Lets attempts at one provider through, in turn.

    Attributes:
        provider: Its name.
        limits: What it can take.
        max_waiting: Most attempts that wait.
        metrics: What is told of the queue.
        random: What draws.
        clock: The seconds of a clock that only goes forward.
    """

    provider: str
    limits: EgressLimits = attrs.field(factory=EgressLimits)
    max_waiting: int = 1_000
    metrics: Metrics | None = None
    random: Random
    clock: Callable[[], float] = time.monotonic
    running: int = attrs.field(default=0, init=False)
    _queue: FairQueue = attrs.field(factory=FairQueue, init=False)
    _pace: PaceBucket = attrs.field(init=False)
    _timer: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    _seconds: float | None = attrs.field(default=None, init=False)
    _closed_until: float = attrs.field(default=-math.inf, init=False)
    _shut_until: float = attrs.field(default=-math.inf, init=False)
    _turned_back: int = attrs.field(default=0, init=False)
    _gap: float = attrs.field(default=0.0, init=False)
    _next_at: float = attrs.field(default=-math.inf, init=False)

    @_pace.default
    def _pace_by_limits(self) -> PaceBucket:
        per_minute = self.limits.requests_per_minute
        return PaceBucket(per_minute=per_minute, clock=self.clock)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def shut_for(self) -> float:
        """Seconds of a pause too long to wait for; 0: there is none."""
        return max(0.0, self._shut_until - self.clock())

    @property
    def closed_for(self) -> float:
        """Seconds until anybody is let through again."""
        return max(0.0, self._closed_until - self.clock())

    @asynccontextmanager
    async def place(self, asker: Asker, capability: Capability) -> AsyncIterator[None]:
        """
        Wait for a turn, and hold a place until the attempt is over.

        Raises:
            NoTurnError: If the queue is full, or the turn would come too late.
        """
        if self._queue or self._delay() > 0 or self._is_full():
            await self._wait(asker, capability)
        else:
            self._let_through()
        try:
            yield
        finally:
            self.running -= 1
            self._move_on()

    def measure(self, seconds: float) -> None:
        """Learn how long an attempt took."""
        before = seconds if self._seconds is None else self._seconds
        self._seconds = before + _WEIGHT * (seconds - before)

    def close(self, seconds: float) -> None:
        """Let nobody through for a time: the provider asks everybody to wait."""
        seconds = min(seconds, LONGEST_CLOSURE)
        self._turned_back += 1
        until = self.clock() + seconds
        if seconds > PATIENCE:
            self._shut_until = max(self._shut_until, until)
        until += self.random.uniform(0, min(_STRAGGLE * seconds, _SPREAD))
        self._closed_until = max(self._closed_until, until)

    def send_away(self, capability: Capability, error: Callable[[], Exception]) -> None:
        """End the waiting of all who would ask for a capability."""
        for waiter in [one for one in self._queue if one.capability is capability]:
            self._queue.discard(waiter)
            if not waiter.turn.done():
                waiter.turn.set_exception(error())
        self._tell_waiting()

    # -- waiting ------------------------------------------------------------------

    async def _wait(self, asker: Asker, capability: Capability) -> None:
        """Stand in the queue; whoever is cancelled there leaves nothing behind."""
        since = self.clock()
        self._check_room(asker, left=asker.deadline - since)
        waiter = Waiter(
            tenant=asker.tenant,
            is_batch=asker.is_batch,
            capability=capability,
            turn=asyncio.get_running_loop().create_future(),
        )
        self._queue.add(waiter)
        self._move_on()
        try:
            await self._turn_of(waiter, left=asker.deadline - since)
        except BaseException:
            self._queue.discard(waiter)
            if _is_granted(waiter):
                # It was let through, and cancelled before it heard of that.
                self.running -= 1
            self._move_on()
            raise
        if self.metrics:
            waited = self.clock() - since
            self.metrics.observe(
                "gaia_queue_wait_seconds", waited, provider=self.provider
            )

    async def _turn_of(self, waiter: Waiter, *, left: float) -> None:
        try:
            async with asyncio.timeout(left if math.isfinite(left) else None):
                await waiter.turn
        except TimeoutError:
            late = f"No turn at {self.provider} came in time. Allow more, or try later."
            raise NoTurnError(late) from None

    def _check_room(self, asker: Asker, *, left: float) -> None:
        """Refuse at once who could not be served in time."""
        ahead = self._queue.ahead_of(asker.tenant, is_batch=asker.is_batch)
        wait = self._wait_for(ahead + 1)
        if self.waiting >= self.max_waiting:
            problem = "no more are taken"
            raise self._no_turn(problem, after=wait)
        if wait > left:
            left = max(0.0, left)
            problem = f"one more would wait {wait:.0f} s, and has {left:.0f} s left"
            raise self._no_turn(problem, after=wait - left)

    def _no_turn(self, problem: str, *, after: float) -> NoTurnError:
        after = max(1.0, after)
        crowd = f"{self.waiting} attempts wait for {self.provider}"
        pause = f"{self.provider} asked for a pause"
        cause = pause if self.closed_for else crowd
        advice = f"Ask again in {after:.0f} s."
        return NoTurnError(f"{cause}: {problem}. {advice}", retry_after=after)

    def _wait_for(self, turn: int) -> float:
        """Estimate the seconds until so many more were let through."""
        waits = [self.closed_for, self._pace.delay(turn)]
        most = self.limits.max_concurrent
        if most is not None and self._seconds is not None:
            rounds = max(0, turn - (most - self.running)) / most
            waits.append(self._seconds * rounds)
        return max(waits)

    # -- letting through ----------------------------------------------------------

    def _move_on(self) -> None:
        """Let through whoever may go now, and see to it that the next one will."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._queue and not self._is_full():
            if (delay := self._delay()) > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(delay, self._move_on)
                break
            waiter = self._queue.pop()
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                self._let_through()
        self._tell_waiting()

    def _let_through(self) -> None:
        self.running += 1
        self._pace.take()
        self._next_at = max(self._next_at, self.clock()) + self._gap

    def _is_full(self) -> bool:
        most = self.limits.max_concurrent
        return most is not None and self.running >= most

    def _delay(self) -> float:
        """Give the seconds until the next one may go, places aside."""
        now = self.clock()
        if now < self._closed_until:
            return self._closed_until - now
        self._reopen(now)
        return max(self._next_at - now, self._pace.delay())

    def _reopen(self, now: float) -> None:
        """After a pause, let all who wait or come back set out one by one."""
        if self._turned_back:
            crowd = len(self._queue) + self._turned_back
            self._gap = min(_WIDEST_GAP, _SPREAD / crowd)
            self._turned_back = 0
        if self._gap and now >= self._closed_until + _SPREAD:
            self._gap, self._next_at = 0.0, -math.inf

    def _tell_waiting(self) -> None:
        if self.metrics:
            self.metrics.gauge(
                "gaia_queue_waiting", self.waiting, provider=self.provider
            )


def _is_granted(waiter: Waiter) -> bool:
    turn = waiter.turn
    return turn.done() and not turn.cancelled() and turn.exception() is None
