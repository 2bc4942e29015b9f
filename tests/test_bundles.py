import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Self, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia_core import (
    CallContext,
    Capability,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    LedgerError,
    ModelInfo,
    ProviderError,
    ProviderInfo,
    ProviderTimeoutError,
    RateLimitError,
    Settings,
    UnusableResultError,
    hookimpl,
)
from gaia_core.bundles import LISTENING, MOST_HANDED_OUT, Bundles
from gaia_core.places import Places
from gaia_core.plugins import Provider, load_plugins
from gaia_core.testing import FakeProvider, png
from gaia_core.testing.contexts import capture_events, context

from .waiting import until

PICTURE = png(16, 16)
MODEL = ModelInfo(
    id="press",
    name="Press",
    provider="press",
    capabilities={Capability.TEXT_TO_IMAGE},
)


@attrs.define(eq=False, kw_only=True)
class Press(FakeProvider):
    """Makes many pictures in one call, as its script says."""

    name: str = "press"
    max_batch_size: int = 4
    batch_timeout: float = 60.0
    script: Any = None
    failure_at_end: BaseException | None = None
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)
    bundles: list[tuple[str, ...]] = attrs.field(factory=list)
    task_ids: list[str] = attrs.field(factory=list)
    deadlines: list[float] = attrs.field(factory=list)
    taken: int = 0
    ended: int = 0

    def __attrs_post_init__(self) -> None:
        """Answer at once, unless a test clears that."""
        self.may_answer.set()

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say how much it takes at once."""
        info = FakeProvider.gaia_provider_info(self)
        return attrs.evolve(
            info, max_batch_size=self.max_batch_size, batch_timeout=self.batch_timeout
        )

    @hookimpl
    async def gaia_generate_many(
        self, requests: Sequence[GenerateRequest], contexts: Sequence[CallContext]
    ) -> AsyncIterator[tuple[str, ImageResult | Exception]]:
        """Answer with one picture each, or with what the script gives."""
        self.bundles.append(tuple(request.prompt for request in requests))
        self.task_ids += [one.task_id for one in contexts]
        self.deadlines += [one.seconds_left for one in contexts]
        try:
            await self.may_answer.wait()
            keys = dict(zip(map(_prompt, requests), contexts, strict=True))
            for word, answer in self._answers(requests):
                key = keys[word].task_id if word in keys else word
                yield key, cast("ImageResult | Exception", answer)
                self.taken += 1
            if self.failure_at_end is not None:
                raise self.failure_at_end
        finally:
            self.ended += 1

    def _answers(
        self, requests: Sequence[GenerateRequest]
    ) -> Iterable[tuple[str, object]]:
        if self.script is not None:
            return cast("Iterable[tuple[str, object]]", self.script)
        return [(one.prompt, _result(one.prompt)) for one in requests]


class Wrapper:
    """Middleware around single pictures."""

    @hookimpl(wrapper=True)
    def gaia_generate(self, request: object, context: object) -> Any:  # noqa: ARG002  the hook's
        """Pass everything on."""
        return (yield)


class WrapperOfBoth(Wrapper):
    """Middleware around single pictures and around many."""

    @hookimpl(wrapper=True)
    def gaia_generate_many(self, requests: object, contexts: object) -> Any:  # noqa: ARG002  the hook's
        """Pass everything on."""
        return (yield)


def _result(words: str) -> ImageResult:
    picture = GeneratedImage(data=PICTURE)
    return ImageResult(images=[picture], provider="press", model=words)


def _prompt(request: GenerateRequest) -> str:
    return request.prompt


def _loaded(*plugins: object) -> Provider:
    loaded = load_plugins(Settings(), extra=plugins, entry_points=())
    return next(iter(loaded.providers.values()))


async def _one(bundles: Bundles, provider: Provider, word: str, **how: Any) -> Any:
    own = context()
    answer = await bundles.call(
        provider, MODEL, GenerateRequest(prompt=word), own, **how
    )
    bundles.ended(own.operation_id)
    return answer


async def _ask(bundles: Bundles, provider: Provider, *words: str) -> list[Any]:
    return await asyncio.gather(
        *(_one(bundles, provider, word) for word in words),
        return_exceptions=True,
    )


async def test_calls_that_come_together_go_together() -> None:
    """Calls within the window are one call of the hook, in order."""
    press = Press()

    results = await _ask(Bundles(), _loaded(press), "a", "b", "c")

    assert press.bundles == [("a", "b", "c")]
    assert [result.model for result in results] == ["a", "b", "c"]


async def test_calls_go_in_the_order_of_their_places() -> None:
    """Lines of a file stay in order, whichever came first."""
    press, bundles = Press(), Bundles()
    provider = _loaded(press)

    await asyncio.gather(
        *(_one(bundles, provider, word, place="abcd".index(word)) for word in "cadb")
    )

    assert press.bundles == [("a", "b", "c", "d")]


async def test_each_call_keeps_its_task_id() -> None:
    """Every request brings the context it was sent with."""
    press, bundles, one, two = Press(), Bundles(), context(), context()
    provider, asked = _loaded(press), [GenerateRequest(prompt=word) for word in "ab"]

    await asyncio.gather(
        bundles.call(provider, MODEL, asked[0], one),
        bundles.call(provider, MODEL, asked[1], two),
    )

    assert press.task_ids == [one.task_id, two.task_id]


async def test_no_bundle_is_larger_than_the_provider_takes() -> None:
    """What is more than ``max_batch_size`` goes into the next call."""
    press = Press(max_batch_size=2)

    await _ask(Bundles(), _loaded(press), *"abcde")

    assert press.bundles == [("a", "b"), ("c", "d"), ("e",)]


async def test_a_full_bundle_waits_for_nobody() -> None:
    """As soon as nothing more fits in, it is sent."""
    press = Press(max_batch_size=2)

    async with asyncio.timeout(5):
        await _ask(Bundles(window=3_600), _loaded(press), "a", "b")

    assert press.bundles == [("a", "b")]


async def test_two_providers_get_their_own_bundles() -> None:
    """Requests of one provider never go to another."""
    one, two, bundles = Press(name="one"), Press(name="two"), Bundles()

    await asyncio.gather(
        _ask(bundles, _loaded(one), "a"), _ask(bundles, _loaded(two), "b")
    )

    assert (one.bundles, two.bundles) == ([("a",)], [("b",)])


async def test_an_error_is_the_answer_to_its_own_request() -> None:
    """An error for one request fails no other."""
    error = UnusableResultError("torn")
    press = Press(script=[("b", error), ("a", _result("a"))])

    first, second = await _ask(Bundles(), _loaded(press), "a", "b")

    assert first.model == "a"
    assert second is error


@pytest.mark.parametrize(
    "given", [asyncio.CancelledError(), StopIteration(), SystemExit(1)], ids=repr
)
async def test_what_ends_more_than_a_call_ends_one_call(given: BaseException) -> None:
    """What a hook collects of its own parts is an open question, for that one only."""
    press = Press(script=[("a", given), ("b", _result("b"))])

    one, two = await asyncio.wait_for(_ask(Bundles(), _loaded(press), "a", "b"), 10)

    assert type(one) is ProviderError
    assert two.model == "b"


@pytest.mark.parametrize(
    "failure",
    [RateLimitError("slow down", retry_after=7.0), SystemExit(1)],
    ids=["refusal", "exit"],
)
async def test_a_hook_that_raises_fails_whoever_has_no_answer(
    failure: BaseException,
) -> None:
    """They get the class, the words and the wait, and an object of their own."""
    press = Press(script=[("b", _result("b"))], failure_at_end=failure)

    one, two, three = await _ask(Bundles(), _loaded(press), "a", "b", "c")

    expected = type(failure) if isinstance(failure, Exception) else ProviderError
    assert two.model == "b"
    assert [type(one), type(three)] == [expected] * 2
    assert str(one) == str(three)
    assert getattr(three, "retry_after", None) == getattr(failure, "retry_after", None)
    assert len({id(failure), id(one), id(three)}) == 3


async def test_a_foreign_error_that_cannot_be_copied_is_told_by_its_type() -> None:
    """An error whose class is odd becomes one that says what it was."""

    class Odd(Exception):  # noqa: N818  a vendor's own
        def __new__(cls, *_: object, made_by: str) -> Self:
            return super().__new__(cls, made_by)

        def __init__(self, *, made_by: str) -> None:
            super().__init__(f"secret of {made_by}")

    press = Press(script=[], failure_at_end=Odd(made_by="vendor"))

    errors = await _ask(Bundles(), _loaded(press), "a", "b")

    assert [type(error) for error in errors] == [ProviderError] * 2
    assert "secret" not in str(errors[0])


async def test_what_is_left_unanswered_is_an_open_question() -> None:
    """Who gets no answer before the end is told so; the others have theirs."""
    press = Press(script=[("b", _result("b"))])

    one, two = await _ask(Bundles(), _loaded(press), "a", "b")

    assert type(one) is ProviderError
    assert "without an answer" in str(one)
    assert two.model == "b"


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(("nobody", _result("x")), id="unknown"),
        pytest.param((None, _result("x")), id="no-key"),
    ],
)
async def test_answers_that_nobody_asked_for_are_ignored(odd: object) -> None:
    """An unknown task, or one answered already, changes nothing and is on the log."""
    answers = [("a", _result("a")), odd, ("a", _result("z")), ("b", _result("b"))]
    press = Press(script=answers)

    with capture_events() as events:
        one, two = await _ask(Bundles(), _loaded(press), "a", "b")

    assert (one.model, two.model) == ("a", "b")
    assert [each["event"] for each in events] == ["gaia.answer_ignored"] * 2


class Odd(FakeProvider):
    """Answers many requests with whatever it is given."""

    given: Any = None

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say that it takes several."""
        return attrs.evolve(FakeProvider.gaia_provider_info(self), max_batch_size=4)

    @hookimpl
    def gaia_generate_many(self, requests: object, contexts: object) -> object:  # noqa: ARG002  the hook's
        """Give something else."""
        return self.given()


@attrs.define
class Stream:
    """Yields what is no pair, and has no way to be closed."""

    left: list[object] = attrs.field(factory=lambda: [None, ("a", "b", "c")])

    def __aiter__(self) -> Self:
        """Be what is gone through."""
        return self

    async def __anext__(self) -> object:
        """Give the next one."""
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


async def _list() -> list[object]:
    return []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(_list, "gave coroutine", id="coroutine"),
        pytest.param(tuple, "gave tuple", id="tuple"),
        pytest.param(Stream, "without an answer", id="no-pairs"),
    ],
)
async def test_a_hook_of_another_kind_is_said_to_be(given: Any, words: str) -> None:
    """Who answers in another way than by pairs learns how it is done."""
    odd = Odd(name="odd")
    odd.given = given

    errors = await _ask(Bundles(), _loaded(odd), "a", "b")

    assert all(words in str(error) for error in errors)


async def test_what_takes_longer_than_it_may_is_left() -> None:
    """A hook that goes on for ever is ended, and everybody is told."""
    press = Press(batch_timeout=-LISTENING + 0.05)
    press.may_answer.clear()

    (error,) = await asyncio.wait_for(_ask(Bundles(), _loaded(press), "a"), 10)

    assert isinstance(error, ProviderTimeoutError)
    assert press.ended == 1


async def test_the_hook_has_the_time_its_provider_takes() -> None:
    """Its deadline counts from the moment it is called, whoever waited how long."""
    press = Press(batch_timeout=86_400)

    await _ask(Bundles(), _loaded(press), "a")

    assert press.deadlines == [pytest.approx(86_400, abs=600)]


# -- not faster than they can be kept -----------------------------------------------


def _answered(tasks: Iterable[asyncio.Task[Any]]) -> int:
    return sum(task.done() for task in tasks)


async def test_answers_wait_until_those_before_are_kept() -> None:
    """Only so many pictures are handed out before some of them are in the store."""
    press, bundles = Press(max_batch_size=40), Bundles()
    provider, contexts = _loaded(press), [context() for _ in range(40)]
    asking = [
        asyncio.create_task(
            bundles.call(provider, MODEL, GenerateRequest(prompt=str(number)), one)
        )
        for number, one in enumerate(contexts)
    ]

    await until(lambda: _answered(asking) >= MOST_HANDED_OUT)
    await asyncio.sleep(0.05)
    most = [_answered(asking)]
    bundles.ended(contexts[0].operation_id)
    await until(lambda: _answered(asking) > MOST_HANDED_OUT)
    await asyncio.sleep(0.05)
    most.append(_answered(asking))
    while not all(task.done() for task in asking):
        for one in contexts:
            bundles.ended(one.operation_id)
        await asyncio.sleep(0.005)

    assert most[:2] == [MOST_HANDED_OUT, MOST_HANDED_OUT + 1]
    assert press.ended == 1


async def test_errors_need_no_keeping() -> None:
    """However many requests fail, nobody waits for anything to be stored."""
    words = [str(number) for number in range(3 * MOST_HANDED_OUT)]
    press = Press(
        max_batch_size=len(words),
        script=[(word, UnusableResultError("torn")) for word in words],
    )

    errors = await asyncio.wait_for(_ask(Bundles(), _loaded(press), *words), 10)

    assert {type(error) for error in errors} == {UnusableResultError}


# -- coming and going ---------------------------------------------------------------


async def test_a_bundle_is_open_as_long_as_more_are_expected() -> None:
    """Whoever has more to come is waited for."""
    press, bundles = Press(), Bundles(window=0.01)
    provider = _loaded(press)
    bundles.expect("run", more=True)
    asking = [asyncio.create_task(_one(bundles, provider, "a"))]

    await asyncio.sleep(0.1)
    asking.append(asyncio.create_task(_one(bundles, provider, "b")))
    await asyncio.sleep(0)
    before = list(press.bundles)
    bundles.expect("run", more=False)
    await asyncio.gather(*asking)

    assert before == []
    assert press.bundles == [("a", "b")]


async def test_other_models_go_in_other_bundles() -> None:
    """One call of the hook is for one model, and for one kind of work."""
    press, bundles = Press(), Bundles()
    provider = _loaded(press)
    asked = [
        GenerateRequest(prompt="a", model="one"),
        GenerateRequest(prompt="b", model="two"),
        GenerateRequest(prompt="c", model="one"),
    ]

    await asyncio.gather(
        *(bundles.call(provider, MODEL, one, context()) for one in asked)
    )

    assert sorted(press.bundles) == [("a", "c"), ("b",)]


async def test_what_cannot_be_written_down_is_not_sent() -> None:
    """A call that the ledger refuses goes without the others' knowledge."""
    press, bundles = Press(), Bundles()
    provider, noted = _loaded(press), []

    async def refuse() -> None:
        message = "no room"
        raise LedgerError(message)

    async def note() -> None:
        noted.append(list(press.bundles))

    answers = await asyncio.gather(
        _one(bundles, provider, "a", send=refuse),
        _one(bundles, provider, "b", send=note),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [LedgerError, ImageResult]
    assert (press.bundles, noted) == ([("b",)], [[]])


async def test_nothing_is_sent_where_nothing_can_be_written_down() -> None:
    """A bundle of which nothing is on the ledger is no call."""
    press, bundles = Press(), Bundles()

    async def refuse() -> None:
        message = "no room"
        raise LedgerError(message)

    with pytest.raises(LedgerError):
        await _one(bundles, _loaded(press), "a", send=refuse)

    assert press.bundles == []


async def test_a_bundle_without_a_turn_writes_nothing_down() -> None:
    """Where the provider takes nobody, everybody is told, and nothing was sent."""
    press, sent = Press(), []

    @asynccontextmanager
    async def nobody(_provider: object, _capability: object) -> AsyncIterator[None]:
        message = "full"
        raise RateLimitError(message)
        yield

    async def note() -> None:
        sent.append("a")

    with pytest.raises(RateLimitError):
        await _one(Bundles(turn=nobody), _loaded(press), "a", send=note)

    assert (press.bundles, sent) == ([], [])


async def test_who_leaves_in_time_is_not_asked_for() -> None:
    """A call that is cancelled before the bundle is sent is not in it."""
    press, bundles = Press(), Bundles()
    provider = _loaded(press)
    asking = [asyncio.create_task(_one(bundles, provider, word)) for word in "ab"]

    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.wait(asking)

    assert asking[0].cancelled()
    assert press.bundles == [("b",)]


async def test_who_leaves_too_late_harms_nobody() -> None:
    """A call that is cancelled after the bundle was sent costs no other its answer."""
    press, bundles = Press(max_batch_size=2), Bundles()
    provider = _loaded(press)
    press.may_answer.clear()
    asking = [asyncio.create_task(_one(bundles, provider, word)) for word in "ab"]

    await until(lambda: bool(press.bundles))
    asking[0].cancel()
    press.may_answer.set()

    assert (await asking[1]).model == "b"
    assert press.bundles == [("a", "b")]


async def test_the_hook_ends_when_everybody_has_left() -> None:
    """Nobody listens to a vendor for calls that are all gone."""
    press, bundles = Press(max_batch_size=2), Bundles()
    provider = _loaded(press)
    press.may_answer.clear()
    asking = [asyncio.create_task(_one(bundles, provider, word)) for word in "ab"]

    await until(lambda: bool(press.bundles))
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)
    await bundles.close(10)

    assert press.ended == 1


async def test_nothing_is_sent_when_everybody_has_left() -> None:
    """A bundle without calls is no call."""
    press, bundles = Press(), Bundles(window=0.01)
    asking = asyncio.create_task(_one(bundles, _loaded(press), "a"))

    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.sleep(0.05)

    assert press.bundles == []


async def test_closing_sends_nothing() -> None:
    """What is open when it is closed is not sent; what was sent is ended."""
    press, bundles = Press(max_batch_size=2), Bundles(window=3_600)
    provider = _loaded(press)
    press.may_answer.clear()
    sent = [asyncio.create_task(_one(bundles, provider, word)) for word in "ab"]
    await until(lambda: bool(press.bundles))
    open_ = asyncio.create_task(_one(bundles, provider, "c"))
    await asyncio.sleep(0)

    await bundles.close(0.01)
    await asyncio.wait([*sent, open_])

    assert [task.cancelled() for task in (*sent, open_)] == [True] * 3
    assert press.bundles == [("a", "b")]
    assert press.ended == 1


async def test_who_waits_needs_no_place() -> None:
    """A call has left its place from its joining to its answer."""
    press, places, told = Press(max_batch_size=1), Places(), list[bool]()
    bundles, own = Bundles(places=places), context()
    press.may_answer.clear()
    places.watch(own.operation_id, told.append)
    request = GenerateRequest(prompt="a")

    asking = asyncio.create_task(bundles.call(_loaded(press), MODEL, request, own))
    await until(lambda: bool(press.bundles))
    meanwhile = (list(told), places.is_sent(own.operation_id))
    press.may_answer.set()
    await asking

    assert meanwhile == ([True], True)
    assert told == [True, False]
    assert not places.is_left(own.operation_id)


@pytest.mark.parametrize(
    ("plugins", "hook", "expected"),
    [
        pytest.param([Press()], "gaia_generate", True, id="yes"),
        pytest.param([Press()], "gaia_upscale", False, id="another-hook"),
        pytest.param([Press(max_batch_size=1)], "gaia_generate", False, id="one"),
        pytest.param([FakeProvider()], "gaia_generate", False, id="no-hook"),
        pytest.param([Press(), Wrapper()], "gaia_generate", False, id="passed-by"),
        pytest.param([Press(), WrapperOfBoth()], "gaia_generate", True, id="wrapped"),
    ],
)
def test_who_takes_bundles(plugins: list[object], hook: str, expected: bool) -> None:
    """A provider takes them that says so, unless middleware would be passed by."""
    provider = _loaded(*plugins)

    assert Bundles.takes(provider, MODEL, hook) is expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [(None, True), (2, True), (1, False)],
    ids=["as its provider", "some", "one by one"],
)
def test_a_model_has_its_own_say(own: int | None, expected: bool) -> None:
    """A model goes one by one where its provider takes many for others."""
    provider = _loaded(Press())

    assert (
        Bundles.takes(
            provider, attrs.evolve(MODEL, max_batch_size=own), "gaia_generate"
        )
        is expected
    )


async def test_no_bundle_is_larger_than_its_model_takes() -> None:
    """The limit of a model counts in place of its provider's."""
    press = Press(max_batch_size=4)
    provider, bundles = _loaded(press), Bundles(window=0.01)
    model = attrs.evolve(MODEL, max_batch_size=2)

    await asyncio.gather(
        *(
            bundles.call(
                provider, model, GenerateRequest(prompt=str(number)), context()
            )
            for number in range(4)
        )
    )

    assert [len(bundle) for bundle in press.bundles] == [2, 2]


# -- whatever comes together --------------------------------------------------------


@attrs.frozen(kw_only=True)
class Fate:
    """What becomes of one call."""

    leaves: str = attrs.field()
    answer: str = attrs.field()


FATES = st.builds(
    Fate,
    leaves=st.sampled_from(["never", "never", "never", "early", "late"]),
    answer=st.sampled_from(["picture", "picture", "error", "twice", "none"]),
)


@attrs.define(eq=False, kw_only=True)
class Fickle(Press):
    """Answers as is foretold, in an order of its own."""

    fates: Sequence[Fate] = ()
    order: Random = attrs.field(factory=Random)

    def _answers(
        self, requests: Sequence[GenerateRequest]
    ) -> Iterable[tuple[str, object]]:
        words = [one.prompt for one in requests]
        self.order.shuffle(words)
        for word in words:
            answer = self.fates[int(word)].answer
            if answer == "error":
                yield word, UnusableResultError(word)
            elif answer != "none":
                yield from [(word, _result(word))] * (2 if answer == "twice" else 1)


async def _as_foretold(press: Fickle, bundles: Bundles) -> list[Any]:
    """Ask, leave when it is time to, and keep what comes; give what each got."""
    provider = _loaded(press)
    press.may_answer.clear()
    asking = [
        asyncio.create_task(_one(bundles, provider, str(number)))
        for number in range(len(press.fates))
    ]
    await asyncio.sleep(0)
    _cancel(asking, press.fates, "early")
    size = press.max_batch_size
    left = [one for one in press.fates if one.leaves != "early"]
    await until(lambda: sum(map(len, press.bundles)) >= len(left) - size + 1)
    _cancel(asking, press.fates, "late")
    press.may_answer.set()
    async with asyncio.timeout(30):
        given = await asyncio.gather(*asking, return_exceptions=True)
        await bundles.close(10)
    return given


def _cancel(
    tasks: Sequence[asyncio.Task[Any]], fates: Sequence[Fate], moment: str
) -> None:
    for task, fate in zip(tasks, fates, strict=True):
        if fate.leaves == moment:
            task.cancel()


@given(
    fates=st.lists(FATES, min_size=1, max_size=24),
    size=st.integers(2, 9),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_everybody_gets_the_own_answer_once(
    fates: list[Fate], size: int, seed: int
) -> None:
    """Whoever leaves and whatever the vendor does, nobody gets another's answer."""
    press = Fickle(fates=fates, max_batch_size=size, order=Random(seed))  # noqa: S311  shuffles, guards nothing
    bundles = Bundles(window=0.01)

    with capture_events():
        given_ = asyncio.run(_as_foretold(press, bundles))

    asked = [word for bundle in press.bundles for word in bundle]
    assert len(asked) == len(set(asked))
    assert all(len(bundle) <= size for bundle in press.bundles)
    assert press.ended == len(press.bundles)
    assert (bundles._handed_out, bundles._open) == ({}, {})
    assert not any(map(bundles.places.is_left, map(str, range(len(fates)))))
    for number, (fate, answer) in enumerate(zip(fates, given_, strict=True)):
        if fate.leaves != "never":
            assert isinstance(answer, asyncio.CancelledError)
        elif fate.answer == "error":
            assert str(answer) == str(number)
        elif fate.answer == "none":
            assert "without an answer" in str(answer)
        else:
            assert answer.model == str(number)
