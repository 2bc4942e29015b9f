import asyncio
from collections.abc import Sequence
from typing import Any, Self, cast

import attrs
import pytest

from gaia_core import (
    CallContext,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ProviderError,
    ProviderInfo,
    RateLimitError,
    Settings,
    UnusableResultError,
    hookimpl,
)
from gaia_core.bundles import Bundles
from gaia_core.plugins import Provider, load_plugins
from gaia_core.testing import FakeProvider, png
from gaia_core.testing.contexts import context

PICTURE = png(16, 16)


@attrs.define(eq=False, kw_only=True)
class Press(FakeProvider):
    """Makes many pictures in one call, as its script says."""

    name: str = "press"
    max_batch_size: int = 4
    script: Any = None
    bundles: list[tuple[str, ...]] = attrs.field(factory=list)
    task_ids: list[str] = attrs.field(factory=list)

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say how much it takes at once."""
        info = FakeProvider.gaia_provider_info(self)
        return attrs.evolve(info, max_batch_size=self.max_batch_size)

    @hookimpl
    async def gaia_generate_many(
        self, requests: Sequence[GenerateRequest], contexts: Sequence[CallContext]
    ) -> Sequence[object]:
        """Answer with one picture each, or with what the script gives."""
        self.bundles.append(tuple(request.prompt for request in requests))
        self.task_ids += [one.task_id for one in contexts]
        await asyncio.sleep(0.01)
        if isinstance(self.script, Exception):
            raise self.script
        if self.script is not None:
            return cast("Sequence[object]", self.script)
        return [_result(request.prompt) for request in requests]


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


def _loaded(*plugins: object) -> Provider:
    loaded = load_plugins(Settings(), extra=plugins, entry_points=())
    return next(iter(loaded.providers.values()))


async def _ask(bundles: Bundles, provider: Provider, *words: str) -> list[Any]:
    return await asyncio.gather(
        *(
            bundles.call(provider, GenerateRequest(prompt=word), context())
            for word in words
        ),
        return_exceptions=True,
    )


async def test_calls_that_come_together_go_together() -> None:
    """Calls within the window are one call of the hook, in order."""
    press = Press()

    results = await _ask(Bundles(), _loaded(press), "a", "b", "c")

    assert press.bundles == [("a", "b", "c")]
    assert [result.model for result in results] == ["a", "b", "c"]


async def test_each_call_keeps_its_task_id() -> None:
    """Every request brings the context it was sent with."""
    press, bundles, one, two = Press(), Bundles(), context(), context()
    provider, request = _loaded(press), GenerateRequest(prompt="a")

    await asyncio.gather(
        bundles.call(provider, request, one), bundles.call(provider, request, two)
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
    """An error in the list fails one request and no other."""
    error = UnusableResultError("torn")
    press = Press(script=[_result("a"), error])

    first, second = await _ask(Bundles(), _loaded(press), "a", "b")

    assert first.model == "a"
    assert second is error


@pytest.mark.parametrize(
    "given", [asyncio.CancelledError(), StopIteration(), SystemExit(1)], ids=repr
)
async def test_what_ends_more_than_a_call_ends_one_call(given: BaseException) -> None:
    """What a hook collects of its own parts is an open question, for that one only."""
    press = Press(script=[given, _result("b")])

    one, two = await asyncio.wait_for(_ask(Bundles(), _loaded(press), "a", "b"), 10)

    assert type(one) is ProviderError
    assert two.model == "b"


async def test_a_hook_that_raises_fails_everybody_with_an_error_each() -> None:
    """Everybody gets the class, the words and the wait, and an object of its own."""
    failure = RateLimitError("slow down", retry_after=7.0)
    press = Press(script=failure)

    errors = await _ask(Bundles(), _loaded(press), "a", "b")

    assert [type(error) for error in errors] == [RateLimitError] * 2
    assert [(str(error), error.retry_after) for error in errors] == [
        ("slow down", 7.0)
    ] * 2
    assert len({id(error) for error in (failure, *errors)}) == 3


async def test_a_foreign_error_that_cannot_be_copied_is_told_by_its_type() -> None:
    """An error whose class is odd becomes one that says what it was."""

    class Odd(Exception):  # noqa: N818  a vendor's own
        def __new__(cls, *_: object, made_by: str) -> Self:
            return super().__new__(cls, made_by)

        def __init__(self, *, made_by: str) -> None:
            super().__init__(f"secret of {made_by}")

    press = Press(script=Odd(made_by="vendor"))

    errors = await _ask(Bundles(), _loaded(press), "a", "b")

    assert [type(error) for error in errors] == [ProviderError] * 2
    assert "secret" not in str(errors[0])


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="none"),
        pytest.param([_result("a")], id="too-few"),
        pytest.param([_result("a")] * 3, id="too-many"),
        pytest.param(_result("a"), id="no-list"),
        pytest.param("ab", id="text"),
    ],
)
async def test_another_number_of_answers_leaves_all_unknown(answers: object) -> None:
    """Nobody can tell whose they are: everybody's outcome is unknown."""
    press = Press(script=answers)

    errors = await _ask(Bundles(), _loaded(press), "a", "b")

    assert [type(error) for error in errors] == [ProviderError] * 2
    assert "2 requests" in str(errors[0])


async def test_who_leaves_in_time_is_not_asked_for() -> None:
    """A call that is cancelled before the bundle is sent is not in it."""
    press, bundles = Press(), Bundles()
    provider = _loaded(press)
    asking = [
        asyncio.create_task(
            bundles.call(provider, GenerateRequest(prompt=word), context())
        )
        for word in "ab"
    ]

    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.wait(asking)

    assert asking[0].cancelled()
    assert press.bundles == [("b",)]


async def test_who_leaves_too_late_harms_nobody() -> None:
    """A call that is cancelled after the bundle was sent costs no other its answer."""
    press, bundles = Press(max_batch_size=2), Bundles()
    provider = _loaded(press)
    asking = [
        asyncio.create_task(
            bundles.call(provider, GenerateRequest(prompt=word), context())
        )
        for word in "ab"
    ]

    await asyncio.sleep(0.005)
    asking[0].cancel()

    assert (await asking[1]).model == "b"
    assert press.bundles == [("a", "b")]


async def test_nothing_is_sent_when_everybody_has_left() -> None:
    """A bundle without calls is no call."""
    press, bundles = Press(), Bundles(window=0.01)
    asking = asyncio.create_task(
        bundles.call(_loaded(press), GenerateRequest(prompt="a"), context())
    )

    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.sleep(0.05)

    assert press.bundles == []


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

    assert Bundles.takes(provider, hook) is expected
