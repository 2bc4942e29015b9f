"""When a provider is left alone, and when it is tried again."""

from random import Random

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gaia_core import (
    AuthenticationError,
    ContentFilteredError,
    InvalidRequestError,
    OutcomeClass,
    ProviderConnectionError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    UnusableResultError,
)
from gaia_core.reliability import classify
from gaia_core.reliability.breakers import Breaker, BreakerState, Ticket
from gaia_core.reliability.verdicts import Verdict, judge, row_needed

SUCCESS, FAILURE = Verdict.SUCCESS, Verdict.FAILURE


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


@pytest.fixture(name="breaker")
def _breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, random=_dice(7))


def _dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311  a test repeats what it drew


def _enter(breaker: Breaker) -> Ticket:
    ticket = breaker.enter()
    assert ticket is not None
    return ticket


def _call(breaker: Breaker, *verdicts: Verdict) -> None:
    for verdict in verdicts:
        ticket = _enter(breaker)
        breaker.record(verdict, ticket)
        breaker.leave(ticket)


def _open(breaker: Breaker) -> float:
    """Open a breaker and give for how long."""
    while breaker.state is not BreakerState.OPEN:
        _call(breaker, FAILURE)
    assert breaker.opens_in is not None
    return breaker.opens_in


def _half_open(breaker: Breaker, clock: Clock) -> None:
    clock.now += _open(breaker)


# -- opening ----------------------------------------------------------------------


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """The fifth failure in a row opens it, not the fourth."""
    _call(breaker, *[FAILURE] * 4)
    before = breaker.state
    _call(breaker, FAILURE)

    assert (before, breaker.state) == (BreakerState.CLOSED, BreakerState.OPEN)


@pytest.mark.parametrize("answer", [SUCCESS, Verdict.REFUSAL], ids=["ok", "refusal"])
def test_an_answer_ends_a_row(breaker: Breaker, answer: Verdict) -> None:
    """Failures in a row are counted from the last answer on."""
    _call(breaker, *[FAILURE] * 4, answer, *[FAILURE] * 4)

    assert breaker.state is BreakerState.CLOSED


def test_half_of_all_failing_opens_it_within_forty_calls(breaker: Breaker) -> None:
    """A provider of which every other call fails is left alone."""
    calls = 0

    while breaker.state is BreakerState.CLOSED:
        _call(breaker, FAILURE if calls % 2 else SUCCESS)
        calls += 1

    assert calls <= 40


@pytest.mark.parametrize("seed", range(20), ids=str)
def test_failures_that_are_common_do_not_open_it(seed: int, clock: Clock) -> None:
    """A provider that fails three times in ten, and no more, is asked on."""
    breaker, draw = Breaker(clock=clock, random=_dice(seed)), _dice(seed)
    _call(breaker, *([SUCCESS] * 7 + [FAILURE] * 3) * 5)

    for _ in range(2_000):
        clock.now += 0.02
        _call(breaker, FAILURE if draw.random() < 0.3 else SUCCESS)

    assert breaker.state is BreakerState.CLOSED


def test_outage_after_common_failures_opens_it_within_twenty_calls(
    breaker: Breaker,
) -> None:
    """Where some failed anyway it takes a longer row, but never a long one."""
    _call(breaker, *([SUCCESS] * 6 + [FAILURE] * 4) * 50)
    calls = 0

    while breaker.state is BreakerState.CLOSED:
        _call(breaker, FAILURE)
        calls += 1

    assert 5 < calls <= 20


@pytest.mark.parametrize(
    ("calls", "failures", "needed"),
    [(0, 0, 5), (19, 9, 5), (500, 0, 5), (500, 5, 5), (500, 100, 9), (500, 249, 20)],
    ids=["first", "few", "clean", "rare", "some", "many"],
)
def test_row_that_means_trouble(calls: int, failures: int, needed: int) -> None:
    """The more fail anyway, the longer a row must be: from five to twenty."""
    assert row_needed(calls, failures) == needed


def test_old_failures_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    """What failed more than a minute ago does not count in the share."""
    _call(breaker, *[FAILURE, FAILURE, SUCCESS] * 6)
    clock.now += 61

    _call(breaker, *[SUCCESS] * 19, FAILURE)

    assert breaker.state is BreakerState.CLOSED


def test_pictures_that_cannot_be_used_count_from_the_third_in_a_row(
    breaker: Breaker,
) -> None:
    """Two broken pictures are an accident; seven in a row are five failures."""
    _call(breaker, *[Verdict.UNUSABLE] * 2, SUCCESS, *[Verdict.UNUSABLE] * 6)
    before = breaker.state
    _call(breaker, Verdict.UNUSABLE)

    assert (before, breaker.state) == (BreakerState.CLOSED, BreakerState.OPEN)


def test_cancelled_calls_count_for_nothing(breaker: Breaker) -> None:
    """A storm of cancellations leaves it closed, also between failures."""
    _call(breaker, *[FAILURE] * 4)

    for _ in range(1_000):
        breaker.leave(_enter(breaker))

    assert breaker.state is BreakerState.CLOSED


def test_memory_of_it_does_not_grow(breaker: Breaker, clock: Clock) -> None:
    """A year of successes takes no more memory than a minute."""
    for _ in range(10_000):
        clock.now += 1
        _call(breaker, SUCCESS)

    assert len(breaker._ring) <= 61


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AuthenticationError("x"), Verdict.REFUSAL),
        (ContentFilteredError("x"), Verdict.REFUSAL),
        (InvalidRequestError("x"), Verdict.NOTHING),
        (ProviderConnectionError("x"), FAILURE),
        (ProviderTimeoutError("x"), FAILURE),
        (ProviderUnavailableError("x"), FAILURE),
        (QuotaExceededError("x"), Verdict.REFUSAL),
        (RateLimitError("x"), Verdict.REFUSAL),
        (UnusableResultError("x"), Verdict.UNUSABLE),
        (KeyError("x"), FAILURE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_errors_say_about_health(error: Exception, verdict: Verdict) -> None:
    """Silence, breakdowns and the unknown are failures; a refusal is an answer."""
    assert judge(classify(error), error) is verdict


def test_success_speaks_for_health() -> None:
    """A picture is the best sign of health."""
    assert judge(OutcomeClass.OK) is SUCCESS


# -- open -------------------------------------------------------------------------


def test_open_breaker_admits_nobody(breaker: Breaker) -> None:
    """While it is open there is no leave to be had."""
    left = _open(breaker)

    assert 8 <= left <= 12
    assert breaker.enter() is None


def test_every_failed_probe_doubles_the_pause(breaker: Breaker, clock: Clock) -> None:
    """Pauses double from 10 to 300 seconds, a fifth more or less."""
    pauses = [_open(breaker)]

    for _ in range(8):
        clock.now += pauses[-1]
        _call(breaker, FAILURE)
        pauses.append(breaker.opens_in or 0)

    planned = [10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert all(
        0.8 * plan <= pause <= 1.2 * plan
        for plan, pause in zip(planned, pauses, strict=True)
    )


def test_late_results_change_nothing(breaker: Breaker, clock: Clock) -> None:
    """Calls begun before it opened neither lengthen the pause nor close it."""
    early = [_enter(breaker) for _ in range(6)]
    until = clock.now + _open(breaker)

    for ticket in early[:3]:
        breaker.record(FAILURE, ticket)
    at_open = clock.now + (breaker.opens_in or 0)
    clock.now = until
    for ticket in early[3:]:
        breaker.record(SUCCESS, ticket)

    assert at_open == pytest.approx(until)
    assert breaker.state is BreakerState.HALF_OPEN


def test_result_without_leave_counts_only_while_closed(
    breaker: Breaker, clock: Clock
) -> None:
    """What nobody gave leave for opens a closed breaker, and moves no other."""
    for _ in range(5):
        breaker.record(FAILURE)
    clock.now += breaker.opens_in or 0

    breaker.record(SUCCESS)
    breaker.record(FAILURE)

    assert breaker.state is BreakerState.HALF_OPEN


# -- half open --------------------------------------------------------------------


def test_only_one_of_a_hundred_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    """Of a hundred that ask when the pause is over, one gets leave."""
    _half_open(breaker, clock)

    tickets = [breaker.enter() for _ in range(100)]

    assert len([ticket for ticket in tickets if ticket]) == 1
    assert breaker.opens_in == 1.0


@pytest.mark.parametrize("answer", [SUCCESS, Verdict.REFUSAL], ids=["ok", "refusal"])
def test_two_answered_probes_close_it(
    breaker: Breaker, clock: Clock, answer: Verdict
) -> None:
    """A definite answer proves life; it takes two of them."""
    _half_open(breaker, clock)

    _call(breaker, answer)
    between = breaker.state
    _call(breaker, answer)

    assert (between, breaker.state) == (BreakerState.HALF_OPEN, BreakerState.CLOSED)


def test_closing_makes_a_fresh_start(breaker: Breaker, clock: Clock) -> None:
    """After it closed, five more failures open it, for ten seconds again."""
    clock.now += _open(breaker)
    _call(breaker, FAILURE)
    clock.now += breaker.opens_in or 0
    _call(breaker, SUCCESS, SUCCESS, *[FAILURE] * 4)
    before = breaker.state

    _call(breaker, FAILURE)

    assert before is BreakerState.CLOSED
    assert 8 <= (breaker.opens_in or 0) <= 12


def test_cancelled_probe_makes_room(breaker: Breaker, clock: Clock) -> None:
    """A probe that is cancelled proves nothing, and the next one may go."""
    _half_open(breaker, clock)

    breaker.leave(_enter(breaker))

    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.enter() is not None


def test_request_nobody_was_asked_for_proves_nothing(
    breaker: Breaker, clock: Clock
) -> None:
    """What a provider's own code refuses says nothing about the provider."""
    _half_open(breaker, clock)

    _call(breaker, *[Verdict.NOTHING] * 5)

    assert breaker.state is BreakerState.HALF_OPEN


class BreakerMachine(RuleBasedStateMachine):
    """Anything may happen in any order: these things hold all the same."""

    def __init__(self) -> None:
        """Begin with a closed breaker."""
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(clock=self.clock, random=_dice(1))
        self.held: list[Ticket] = []
        self.until = 0.0

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds

    @rule()
    def enter(self) -> None:
        """Ask for leave: it is given exactly when it should be."""
        may = self.breaker.opens_in is None

        ticket = self.breaker.enter()

        assert (ticket is not None) == may
        if ticket:
            assert ticket.is_probe == (self.breaker.state is BreakerState.HALF_OPEN)
            self.held.append(ticket)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def end(self, data: st.DataObject, verdict: Verdict) -> None:
        """End any attempt in any way."""
        ticket = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        before = self.breaker.state
        self.breaker.record(verdict, ticket)
        after = self.breaker.state
        self.breaker.leave(ticket)

        if before is BreakerState.HALF_OPEN and after is not before:
            assert ticket.is_probe
        if before is BreakerState.OPEN:
            assert after is before

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel any attempt: no state changes."""
        ticket = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        before = self.breaker.state

        self.breaker.leave(ticket)

        assert self.breaker.state is before

    @rule(verdicts=st.lists(st.sampled_from([SUCCESS, FAILURE]), max_size=30))
    def call(self, verdicts: list[Verdict]) -> None:
        """Make calls, one after another, as far as leave is given."""
        for verdict in verdicts:
            if ticket := self.breaker.enter():
                self.breaker.record(verdict, ticket)
                self.breaker.leave(ticket)

    @invariant()
    def one_probe_at_most(self) -> None:
        """There are never two probes of one half-open breaker."""
        generation = self.breaker._generation
        probes = [
            ticket
            for ticket in self.held
            if ticket.is_probe and ticket.generation == generation
        ]
        assert len(probes) <= 1

    @invariant()
    def pauses_are_bounded_and_never_shortened(self) -> None:
        """An open breaker stays open as long as it said, and not for ever."""
        until = self.breaker._until
        assert until is None or until <= self.clock.now + 360
        if self.clock.now < self.until:
            assert until is not None
            assert until >= self.until
        self.until = until or 0.0

    @invariant()
    def state_and_wait_agree(self) -> None:
        """Closed means no wait, open means some."""
        wait = self.breaker.opens_in
        if self.breaker.state is BreakerState.CLOSED:
            assert wait is None
        if self.breaker.state is BreakerState.OPEN:
            assert wait is not None
            assert wait > 0


BreakerMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestBreakerMachine = BreakerMachine.TestCase
