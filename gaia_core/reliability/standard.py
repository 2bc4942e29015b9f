"""The rules Gaia goes by: breakers, buckets, gates and what they learn."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from random import Random

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import (
    OutcomeClass,
    ProviderConnectionError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
)
from gaia_core.metrics import Metrics
from gaia_core.observability import get_logger
from gaia_core.reliability.backoff import asked_for, wait_for
from gaia_core.reliability.breakers import Breaker, BreakerState, Ticket
from gaia_core.reliability.buckets import (
    REPEAT_COST,
    REWARD,
    TIMEOUT_COST,
    RetryBucket,
)
from gaia_core.reliability.gates import EgressLimits, Gate, NoTurnError
from gaia_core.reliability.outcomes import classify
from gaia_core.reliability.policies import Asker, Target
from gaia_core.reliability.verdicts import judge

_WEIGHT = 0.2
"""How much the newest latency counts in the moving average."""
_REPEATABLE = frozenset({OutcomeClass.REJECTED_BUSY, OutcomeClass.AMBIGUOUS})
_LEVELS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

_leave: ContextVar[tuple[Breaker, Ticket] | None] = ContextVar("_leave", default=None)
"""The leave that the attempt under way was given, and by which breaker."""
_paid: ContextVar[float] = ContextVar("_paid", default=REPEAT_COST)
"""What the repeat under way cost."""

_Key = tuple[str, Capability]


@attrs.frozen(kw_only=True)
class Standing:
    """
    How one provider does, as seen from here; nobody was asked for it.

    Attributes:
        breakers: Capability to ``closed``, ``half_open`` or ``open``.
        opens_in: Capability to the seconds until it is tried again.
        running: Attempts under way.
        waiting: Attempts that wait for their turn.
        closed_for: Seconds of a pause it asked for.
        repeats_left: Tokens left for repeating.
        seconds: How long it took of late; None: not known.
    """

    breakers: Mapping[str, str]
    opens_in: Mapping[str, float]
    running: int
    waiting: int
    closed_for: float
    repeats_left: float
    seconds: float | None


def _no_limits(provider: str) -> EgressLimits:  # noqa: ARG001  nobody has any
    return EgressLimits()


def _dice() -> Random:
    return Random()  # noqa: S311  spreads waits, guards nothing


@attrs.define(eq=False, kw_only=True)
class StandardReliability:
    """
    Repeats with care, leaves failing providers alone, and keeps queues fair.

    Belongs to one event loop; what it learns ends with it.

    Attributes:
        max_attempts: Most tries at one provider for one operation, unless its limits
            say otherwise.
        max_waiting: Most attempts that wait for one provider.
        limits: Gives what a provider can take, when it is first asked.
        metrics: What is told of breakers, repeats and queues.
        clock: The seconds of a clock that only goes forward.
        random: What draws.
    """

    max_attempts: int = 4
    max_waiting: int = 1_000
    limits: Callable[[str], EgressLimits] = _no_limits
    metrics: Metrics | None = None
    clock: Callable[[], float] = time.monotonic
    random: Random = attrs.field(factory=_dice)
    _breakers: dict[_Key, Breaker] = attrs.field(factory=dict, init=False)
    _known: dict[_Key, BreakerState] = attrs.field(factory=dict, init=False)
    _buckets: dict[str, RetryBucket] = attrs.field(factory=dict, init=False)
    _gates: dict[str, Gate] = attrs.field(factory=dict, init=False)
    _latency: dict[str, float] = attrs.field(factory=dict, init=False)

    # -- before -------------------------------------------------------------------

    def admit(self, provider: str, capability: Capability) -> str | None:
        """Give the reason not to ask a provider now, or None; changes nothing."""
        gate = self._gates.get(provider)
        if gate and gate.shut_for:
            return (
                f"asked for a pause; it takes requests again in {gate.shut_for:.0f} s"
            )
        breaker = self._breakers.get((provider, capability))
        after = breaker and breaker.opens_in
        if after is None:
            return None
        return f"failed too often of late; it is tried again in {after:.0f} s"

    def opens_in(self, provider: str, capability: Capability) -> float | None:
        """Give the seconds until `admit` may relent, or None: it admits."""
        gate = self._gates.get(provider)
        breaker = self._breakers.get((provider, capability))
        after = (breaker and breaker.opens_in) or 0.0
        return max(after, gate.shut_for if gate else 0.0) or None

    @asynccontextmanager
    async def attempt(self, target: Target, asker: Asker) -> AsyncIterator[None]:
        """
        Hold a place at the provider, and the one probe of a breaker.

        What `record` is told inside counts for this attempt.

        Raises:
            RateLimitError: If the queue is full, or its turn would come too late.
            ProviderUnavailableError: If the provider is not to be asked after all.
        """
        self._refuse_what_is_hopeless(target)
        breaker = self._breaker_of(target)
        gate = self._gate_of(target.provider)
        async with gate.place(asker, target.capability):
            ticket = breaker.enter()
            if ticket is None:
                raise self._unavailable(target)
            self._note_state(target)
            before = _leave.get()
            _leave.set((breaker, ticket))
            try:
                yield
            finally:
                _leave.set(before)
                breaker.leave(ticket)

    # -- after --------------------------------------------------------------------

    def wait_before_repeat(
        self, target: Target, repeats: int, error: Exception
    ) -> float | None:
        """
        Tell whether to ask again after a refusal that cost nothing.

        Args:
            target: What was asked.
            repeats: How often it was asked again already.
            error: What ended the latest attempt.

        Returns:
            Seconds to wait, or None: do not repeat.
        """
        limits = self._gate_of(target.provider).limits
        max_attempts = limits.max_attempts or self.max_attempts
        if repeats + 1 >= max_attempts or classify(error) not in _REPEATABLE:
            return None
        if isinstance(error, NoTurnError) or self._is_refused(target):
            return None
        asked = getattr(error, "retry_after", None)
        wait = wait_for(
            repeats, retry_after=asked, random=self.random, delay=limits.retry_delay
        )
        cost = TIMEOUT_COST if _is_timeout(error) else REPEAT_COST
        if wait is None or not self._bucket_of(target.provider).take(cost):
            return None
        _paid.set(cost)
        if self.metrics:
            self.metrics.count("gaia_retries_total", provider=target.provider)
        return wait

    def record(
        self,
        target: Target,
        outcome: OutcomeClass,
        seconds: float | None,
        *,
        error: Exception | None = None,
        repeats: int = 0,
    ) -> None:
        """
        Learn from an attempt that ended; to be told inside `attempt`.

        Args:
            target: What was asked.
            outcome: How it ended.
            seconds: How long it took; None: it says nothing about how long one takes.
            error: What ended it, or None.
            repeats: How often it had been asked again before.
        """
        gate = self._gate_of(target.provider)
        if seconds is not None:
            gate.measure(seconds)
        if outcome is OutcomeClass.OK:
            self._note_latency(target.provider, seconds)
            self._bucket_of(target.provider).give(_paid.get() if repeats else REWARD)
        if isinstance(error, RateLimitError):
            pause = asked_for(error.retry_after)
            if pause is not None:
                gate.close(pause)
        breaker = self._breaker_of(target)
        giver, ticket = _leave.get() or (None, None)
        breaker.record(judge(outcome, error), ticket if giver is breaker else None)
        self._note_state(target)

    def _note_latency(self, provider: str, seconds: float | None) -> None:
        if seconds is not None:
            before = self._latency.get(provider, seconds)
            self._latency[provider] = before + _WEIGHT * (seconds - before)

    def latency(self) -> dict[str, float]:
        """Provider to the seconds it took of late."""
        return dict(self._latency)

    # -- views --------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        """Give ``provider/capability`` to ``closed``, ``half_open`` or ``open``."""
        return {
            f"{provider}/{capability}": breaker.state.value
            for (provider, capability), breaker in self._breakers.items()
        }

    def snapshot(self, provider: str) -> Standing:
        """Tell how a provider does; asks nobody and changes nothing."""
        breakers = {
            capability.value: breaker
            for (name, capability), breaker in self._breakers.items()
            if name == provider
        }
        waits = {name: breaker.opens_in for name, breaker in breakers.items()}
        gate = self._gates.get(provider)
        bucket = self._buckets.get(provider) or RetryBucket()
        return Standing(
            breakers={name: one.state.value for name, one in breakers.items()},
            opens_in={name: wait for name, wait in waits.items() if wait is not None},
            running=gate.running if gate else 0,
            waiting=gate.waiting if gate else 0,
            closed_for=gate.closed_for if gate else 0.0,
            repeats_left=bucket.tokens,
            seconds=self._latency.get(provider),
        )

    # -- inside -------------------------------------------------------------------

    def _is_refused(self, target: Target) -> bool:
        return self.admit(target.provider, target.capability) is not None

    def _refuse_what_is_hopeless(self, target: Target) -> None:
        """Answer at once, not at the end of a queue."""
        if not self._is_refused(target):
            return
        gate = self._gate_of(target.provider)
        if gate.shut_for:
            message = f"{target.provider} asked for a pause of {gate.shut_for:.0f} s."
            raise RateLimitError(message, retry_after=gate.shut_for)
        raise self._unavailable(target)

    def _unavailable(self, target: Target) -> ProviderUnavailableError:
        after = self.opens_in(target.provider, target.capability) or 0.0
        return ProviderUnavailableError(
            f"{target.provider} failed too often of late at {target.capability}. "
            f"It is tried again in {after:.0f} s.",
            retry_after=after,
        )

    def _note_state(self, target: Target) -> None:
        """Tell of a change, and end the waiting for what is not to be had."""
        key = (target.provider, target.capability)
        breaker = self._breakers[key]
        state = breaker.state
        if state is not BreakerState.CLOSED and breaker.opens_in is not None:
            gate = self._gate_of(target.provider)
            gate.send_away(target.capability, lambda: self._unavailable(target))
        if self._known.get(key) is state:
            return
        if key in self._known or state is not BreakerState.CLOSED:
            get_logger().warning(
                "gaia.breaker_changed",
                provider=target.provider,
                capability=target.capability.value,
                state=state.value,
            )
        self._known[key] = state
        if self.metrics:
            self.metrics.gauge(
                "gaia_breaker_state",
                _LEVELS[state],
                provider=target.provider,
                capability=target.capability.value,
            )

    def _breaker_of(self, target: Target) -> Breaker:
        key = (target.provider, target.capability)
        if key not in self._breakers:
            self._breakers[key] = Breaker(clock=self.clock, random=self.random)
        return self._breakers[key]

    def _bucket_of(self, provider: str) -> RetryBucket:
        return self._buckets.setdefault(provider, RetryBucket())

    def _gate_of(self, provider: str) -> Gate:
        if provider not in self._gates:
            self._gates[provider] = Gate(
                provider=provider,
                limits=self.limits(provider),
                max_waiting=self.max_waiting,
                metrics=self.metrics,
                random=self.random,
                clock=self.clock,
            )
        return self._gates[provider]


def _is_timeout(error: Exception) -> bool:
    """Tell whether time ran out, in whichever library."""
    cause = error.__cause__
    is_connection = isinstance(error, ProviderConnectionError)
    return isinstance(error, ProviderTimeoutError) or (
        is_connection
        and cause is not None
        and (isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__)
    )
