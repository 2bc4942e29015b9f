"""A circuit breaker: a provider that fails is left alone, then probed."""

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from random import Random

import attrs

from gaia_core.reliability.verdicts import ENOUGH, Verdict, row_needed

WINDOW = 60
"""How far back outcomes count, in seconds."""
SHARE = 0.5
"""The share of failures that opens it, once there are enough calls."""
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 10.0, 300.0, 0.2
PROBES, PROBE_PATIENCE = 2, 1.0
"""Probes that must be answered to close it; seconds others wait for one."""
_UNUSABLE_ROW = 3


class BreakerState(StrEnum):
    """Whether work is admitted: all, one probe at a time, or none."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@attrs.frozen(eq=False, kw_only=True)
class Ticket:
    """The leave to make one attempt; void once the breaker opened or closed."""

    generation: int
    is_probe: bool


@attrs.define(eq=False, kw_only=True)
class Breaker:
    """Admits, counts, opens and closes for one capability of one provider."""

    random: Random
    clock: Callable[[], float] = time.monotonic
    _ring: deque[list[int]] = attrs.field(
        factory=lambda: deque(maxlen=WINDOW + 1), init=False
    )
    _row: int = attrs.field(default=0, init=False)
    _unusable_row: int = attrs.field(default=0, init=False)
    _until: float | None = attrs.field(default=None, init=False)
    _pause: float = attrs.field(default=FIRST_PAUSE, init=False)
    _probe: Ticket | None = attrs.field(default=None, init=False)
    _answered: int = attrs.field(default=0, init=False)
    _generation: int = attrs.field(default=0, init=False)

    @property
    def state(self) -> BreakerState:
        """Whether work is admitted now."""
        if self._until is None:
            return BreakerState.CLOSED
        is_over = self.clock() >= self._until
        return BreakerState.HALF_OPEN if is_over else BreakerState.OPEN

    @property
    def opens_in(self) -> float | None:
        """Seconds until work may be admitted again, or None: it is."""
        if self._until is None:
            return None
        if (left := self._until - self.clock()) > 0:
            return left
        return PROBE_PATIENCE if self._probe else None

    def enter(self) -> Ticket | None:
        """Give leave for one attempt, or None; whoever gets it calls `leave`."""
        if self.opens_in is not None:
            return None
        is_probe = self._until is not None
        ticket = Ticket(generation=self._generation, is_probe=is_probe)
        self._probe = ticket if is_probe else None
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Make room for the next probe, also when this one was cancelled."""
        if self._probe is ticket:
            self._probe = None

    def record(self, verdict: Verdict, ticket: Ticket | None = None) -> None:
        """Learn how an attempt ended, unless it began before the last change."""
        if ticket and ticket.generation != self._generation:
            return
        is_unusable = verdict is Verdict.UNUSABLE
        self._unusable_row = self._unusable_row + 1 if is_unusable else 0
        if self._unusable_row >= _UNUSABLE_ROW:
            verdict = Verdict.FAILURE
        if self._until is None:
            self._count(verdict)
        elif ticket and ticket.is_probe:
            self._weigh_probe(verdict)

    def _count(self, verdict: Verdict) -> None:
        is_failure = verdict is Verdict.FAILURE
        if is_failure or verdict is Verdict.SUCCESS:
            second = int(self.clock())
            if not self._ring or self._ring[-1][0] != second:
                self._ring.append([second, 0, 0])
            self._ring[-1][1] += 1
            self._ring[-1][2] += is_failure
        if verdict in {Verdict.SUCCESS, Verdict.REFUSAL}:
            self._row = 0
        self._row += is_failure
        if is_failure and self._is_too_much():
            self._open()

    def _is_too_much(self) -> bool:
        recent = [slot[1:] for slot in self._ring if slot[0] > self.clock() - WINDOW]
        calls, failures = map(sum, zip(*recent, strict=True))
        if calls >= ENOUGH and failures >= SHARE * calls:
            return True
        return self._row >= row_needed(calls - self._row, failures - self._row)

    def _weigh_probe(self, verdict: Verdict) -> None:
        if verdict is Verdict.FAILURE:
            self._open()
        elif verdict in {Verdict.SUCCESS, Verdict.REFUSAL}:
            self._answered += 1
            if self._answered >= PROBES:
                self._until, self._pause = None, FIRST_PAUSE
                self._renew()

    def _open(self) -> None:
        pause = self._pause * (1 + self.random.uniform(-JITTER, JITTER))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._until = self.clock() + pause
        self._renew()

    def _renew(self) -> None:
        self._generation += 1
        self._ring.clear()
        self._row, self._answered, self._probe = 0, 0, None
