"""One piece of work for all who want the same at the same time."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any, Self

import attrs
import pytest

from gaia_core.errors import (
    GaiaError,
    NoCapableProviderError,
    OutcomeClass,
    OutcomeUnknownError,
    RateLimitError,
)
from gaia_core.flights import Flights
from gaia_core.responses import Attempt

ATTEMPT = Attempt(
    provider="fake",
    model="m",
    task_id="t",
    outcome=OutcomeClass.AMBIGUOUS,
    duration_ms=1.0,
    cost_usd=Decimal("0.04"),
)


@attrs.define(eq=False)
class Work:
    """Work that ends when it is told to; counts how often it is begun."""

    outcome: Any = "made"
    begun: int = 0
    gate: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def __call__(self) -> Any:
        """Wait for the gate, then give or raise the outcome."""
        self.begun += 1
        await self.gate.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture(name="work")
async def _work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    work.gate.set()


@pytest.fixture(name="flights")
async def _flights() -> AsyncIterator[Flights]:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, problem: problems.append(problem)
    )
    flights = Flights()
    yield flights
    await _settled()
    gc.collect()
    assert len(flights) == 0
    assert problems == []


async def _settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _callers(
    flights: Flights, start: Callable[[], Awaitable[Any]], number: int = 3
) -> list[asyncio.Task[tuple[Any, bool]]]:
    """Let some callers wait for the same work."""
    tasks = [asyncio.create_task(flights.join("key", start)) for _ in range(number)]
    await _settled()
    return tasks


async def test_equal_work_is_done_once(flights: Flights, work: Work) -> None:
    """All get what one work gave, and one of them began it."""
    callers = await _callers(flights, work, 100)

    work.gate.set()
    answers = await asyncio.gather(*callers)

    assert work.begun == 1
    assert answers == [("made", True), *[("made", False)] * 99]


async def test_other_work_is_done_too(flights: Flights) -> None:
    """Two keys are two pieces of work."""

    async def give(value: str) -> str:
        await asyncio.sleep(0)
        return value

    answers = await asyncio.gather(
        flights.join("a", lambda: give("one")), flights.join("b", lambda: give("two"))
    )

    assert [*answers] == [("one", True), ("two", True)]


async def test_work_under_way_can_be_seen(flights: Flights, work: Work) -> None:
    """Whoever sees it need not look for an answer elsewhere."""
    before = "key" in flights
    (caller,) = await _callers(flights, work, 1)
    meanwhile = "key" in flights
    work.gate.set()
    await caller

    assert (before, meanwhile, "key" in flights) == (False, True, False)


async def test_work_that_has_ended_is_done_anew(flights: Flights, work: Work) -> None:
    """Nothing is kept: that is the cache's matter."""
    work.gate.set()

    answers = [await flights.join("key", work) for _ in range(2)]

    assert answers == [("made", True), ("made", True)]
    assert work.begun == 2


@pytest.mark.parametrize("leaving", [0, 1], ids=["who began it", "another"])
async def test_one_that_gives_up_takes_nothing_from_the_others(
    flights: Flights, work: Work, leaving: int
) -> None:
    """A caller's cancellation is the caller's own, whoever began the work."""
    callers = await _callers(flights, work)

    callers.pop(leaving).cancel()
    await _settled()
    work.gate.set()
    answers = await asyncio.gather(*callers)

    assert work.begun == 1
    assert [answer for answer, _ in answers] == ["made", "made"]


async def test_one_that_waits_no_longer_takes_nothing_from_the_others(
    flights: Flights, work: Work
) -> None:
    """Each caller has a patience of its own."""
    (caller,) = await _callers(flights, work, 1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await flights.join("key", work)
    work.gate.set()

    assert await caller == ("made", True)
    assert work.begun == 1


async def test_work_goes_on_when_nobody_waits(flights: Flights, work: Work) -> None:
    """Whoever comes while it does, gets what it gives."""
    for caller in await _callers(flights, work):
        caller.cancel()
    await _settled()
    assert len(flights) == 1

    (late,) = await _callers(flights, work, 1)
    work.gate.set()

    assert await late == ("made", False)
    assert work.begun == 1


async def test_a_failure_nobody_hears_is_no_noise(flights: Flights, work: Work) -> None:
    """The fixture sees to it that the loop has no complaint."""
    for caller in await _callers(flights, work):
        caller.cancel()
    work.outcome = RateLimitError("slow down")

    work.gate.set()
    await _settled()

    assert len(flights) == 0


async def test_a_failure_is_not_kept(flights: Flights, work: Work) -> None:
    """The next caller begins anew."""
    work.outcome = RateLimitError("slow down")
    work.gate.set()
    with pytest.raises(RateLimitError):
        await flights.join("key", work)
    work.outcome = "made"

    assert await flights.join("key", work) == ("made", True)


def _of_many_words() -> list[GaiaError]:
    """Errors of every shape: of one argument, of several, with more set later."""
    errors = [
        RateLimitError("slow down", retry_after=3.0),
        NoCapableProviderError("Nobody can.", {"fake": "is away"}, retry_after=9.0),
        OutcomeUnknownError("Lost.", operation_id="0", provider="fake"),
    ]
    for error in errors:
        error.operation_id = "f" * 32
        error.attempts = (ATTEMPT,)
        error.add_note("a note")
        error.__cause__ = ValueError("the cause")
    return errors


@pytest.mark.parametrize("error", _of_many_words(), ids=lambda one: type(one).__name__)
async def test_each_caller_gets_an_error_of_its_own(
    flights: Flights, work: Work, error: GaiaError
) -> None:
    """All it carries comes along, and what one adds the others do not see."""
    work.outcome = error
    callers = await _callers(flights, work)

    work.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)

    assert len({id(one) for one in [error, *found]}) == 4
    for one in found:
        assert isinstance(one, GaiaError)
        assert type(one) is type(error)
        assert (str(one), one.args) == (str(error), error.args)
        assert vars(one) == vars(error)
        assert one.__cause__ is error.__cause__
        assert _ends_in(one, Work.__call__.__name__)


def _ends_in(error: BaseException, name: str) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name == name


class StubbornError(Exception):
    """Cannot be copied."""

    def __new__(cls, *_args: object, is_meant: bool = False) -> Self:
        """Refuse to be made by anybody else."""
        if not is_meant:
            message = "not like that"
            raise TypeError(message)
        return super().__new__(cls)

    def __init__(self, *, is_meant: bool) -> None:
        """Take what is needed."""


async def test_an_error_that_cannot_be_copied_is_shared(
    flights: Flights, work: Work
) -> None:
    """Better the same error for all than another one."""
    work.outcome = StubbornError(is_meant=True)
    callers = await _callers(flights, work, 2)

    work.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)

    assert found == [work.outcome, work.outcome]


async def test_what_cannot_even_begin_fails(flights: Flights) -> None:
    """A start that raises at once is a failure like any other."""

    def start() -> Awaitable[str]:
        message = "not today"
        raise OSError(message)

    with pytest.raises(OSError, match="not today"):
        await flights.join("key", start)


async def test_the_host_is_told_when_nobody_waits(flights: Flights, work: Work) -> None:
    """Only then, and it may end the work: nobody else hears of that."""
    told: list[asyncio.Task[Any]] = []

    def leave(task: "asyncio.Task[Any]") -> None:
        told.append(task)
        task.cancel()

    callers = [
        asyncio.create_task(flights.join("key", work, on_left=leave)) for _ in range(2)
    ]
    await _settled()
    callers[0].cancel()
    await _settled()
    assert told == []

    callers[1].cancel()
    await _settled()

    assert [task.cancelled() for task in told] == [True]
    assert len(flights) == 0


async def test_the_host_is_not_told_of_work_that_has_ended(
    flights: Flights, work: Work
) -> None:
    """Whoever got an answer has not left."""
    told: list[object] = []

    work.gate.set()
    await flights.join("key", work, on_left=told.append)
    await _settled()

    assert told == []


async def test_nobody_waits_for_work_that_is_called_off(flights: Flights) -> None:
    """One that comes while it ends begins anew."""
    gate = asyncio.Event()

    async def slow_to_end() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            await gate.wait()
        return "never"

    caller = asyncio.create_task(
        flights.join("key", slow_to_end, on_left=lambda task: task.cancel())
    )
    await _settled()
    caller.cancel()
    await _settled()
    assert "key" not in flights

    answer = await flights.join("key", Work(gate=_open_gate()))
    gate.set()
    await _settled()

    assert answer == ("made", True)


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


async def test_callers_of_work_that_was_called_off_are_not_cancelled(
    flights: Flights,
) -> None:
    """Nobody cancelled them: they get an error they can tell from that."""

    async def called_off() -> str:
        raise asyncio.CancelledError

    with pytest.raises(GaiaError, match="was called off"):
        await flights.join("key", called_off)


async def test_nothing_stays_behind(flights: Flights, work: Work) -> None:
    """Neither answers nor errors are held once everybody has theirs."""

    class Answer:
        """Something that can be watched."""

    answer = Answer()
    watch = weakref.ref(answer)
    work.outcome = answer
    callers = await _callers(flights, work)
    work.gate.set()
    await asyncio.gather(*callers)

    del answer, callers
    work.outcome = None
    await _settled()
    gc.collect()

    assert watch() is None
