"""The verbs without ``await``."""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    HealthLevel,
    ImageResult,
    OutcomeUnknownError,
    RateLimitError,
    RemoveBackgroundRequest,
    UpscaleRequest,
    engine,
    hookimpl,
)
from gaia_core.blocking import Gaia
from gaia_core.ledger import MemoryLedger
from gaia_core.testing import FakeProvider, MemoryStorage, png

from .waiting import let_pass

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)


def _opened(*providers: object, **parts: Any) -> Gaia:
    parts = {"storage": MemoryStorage(), "ledger": MemoryLedger(), **parts}
    return Gaia.open(plugins=providers, discover=False, **parts)


@pytest.fixture(name="gaia")
def _gaia() -> Iterator[Gaia]:
    """Give an open Gaia over a fake."""
    with _opened(FakeProvider()) as gaia:
        yield gaia


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("generate", DRAGON),
        ("upscale", UpscaleRequest(image=png())),
        ("remove_background", RemoveBackgroundRequest(image=png())),
        ("enhance_prompt", EnhancePromptRequest(prompt="a keep")),
        ("describe_image", DescribeImageRequest(image=png())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_verbs_wait_for_their_answer(gaia: Gaia, verb: str, request_: Any) -> None:
    """Each verb gives the response itself."""
    response = getattr(gaia, verb)(request_)

    assert response.provider == "fake"


def test_it_is_open_once_at_a_time(gaia: Gaia) -> None:
    """A second ``with`` around an open one would leave a loop behind."""
    with pytest.raises(RuntimeError, match="open already"):
        gaia.__enter__()

    assert gaia.generate(DRAGON).provider == "fake"


def test_questions_are_answered(gaia: Gaia) -> None:
    """Plans, lists, operations and health need no ``await`` either."""
    response = gaia.generate(DRAGON, policy="cheapest")
    operation = gaia.operation(response.operation_id)

    assert operation is not None
    assert operation.state == "done"
    assert [model.id for model in gaia.models()] == ["fake"]
    assert [info.name for info in gaia.providers()] == ["fake"]
    assert gaia.plan(DRAGON).candidates[0].provider == "fake"
    assert gaia.check_health(HealthLevel.CONFIGURED)["fake"].is_healthy


def test_it_has_every_verb() -> None:
    """Whatever can be called with ``await`` can be called without."""
    names = {
        name
        for name, value in inspect.getmembers(engine.Gaia, inspect.isfunction)
        if not name.startswith("_")
    }

    assert {name for name in names if not hasattr(Gaia, name)} == set()


def test_errors_come_through() -> None:
    """What goes wrong is raised where the verb was called."""
    with (
        _opened(FakeProvider.failing(RateLimitError("slow down"))) as gaia,
        pytest.raises(RateLimitError, match="slow down"),
    ):
        gaia.generate(DRAGON)


async def test_it_works_where_a_loop_runs(gaia: Gaia) -> None:
    """A notebook runs a loop of its own; the verbs work all the same."""
    assert asyncio.get_running_loop().is_running()
    assert gaia.generate(DRAGON).images


def test_threads_may_share_it(gaia: Gaia) -> None:
    """Several threads ask at once."""
    seeds: list[int | None] = []

    def ask(seed: int) -> None:
        response = gaia.generate(attrs.evolve(DRAGON, seed=seed))
        seeds.append(response.images[0].seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seeds, key=str) == list(range(8))


def test_providers_are_stopped_and_the_thread_ends() -> None:
    """Leaving ``with`` leaves nothing running."""
    provider = FakeProvider()
    before = set(threading.enumerate())

    with _opened(provider):
        was_running = provider.is_running

    assert was_running
    assert not provider.is_running
    assert set(threading.enumerate()) <= before


def test_lost_work_is_finished_before_closing() -> None:
    """What may have cost is waited for at the end."""
    may_end = threading.Event()

    class Late(FakeProvider):
        @hookimpl
        async def gaia_generate(self, request: Any, context: Any) -> ImageResult:
            let_pass(31)
            assert await asyncio.to_thread(may_end.wait, 30)
            return await FakeProvider.gaia_generate(self, request, context)

    storage = MemoryStorage()

    with _opened(Late(price_usd="0.04", delay=0.1), storage=storage) as gaia:
        with pytest.raises(OutcomeUnknownError):
            gaia.generate(DRAGON, timeout=30)
        assert storage.images == []
        may_end.set()

    assert len(storage.images) == 1


def test_it_can_be_opened_again() -> None:
    """A second ``with`` starts anew."""
    gaia = _opened(FakeProvider())

    with gaia:
        first = gaia.generate(DRAGON)
    with gaia:
        second = gaia.generate(DRAGON)

    assert first.operation_id != second.operation_id


def test_outside_of_with_it_says_so() -> None:
    """A verb before or after ``with`` is an error, not an endless wait."""
    gaia = _opened(FakeProvider())

    with pytest.raises(RuntimeError, match="inside `with`"):
        gaia.generate(DRAGON)


def test_callbacks_cannot_wait_for_it(gaia: Gaia) -> None:
    """A verb called from its own progress callback is an error, not a deadlock."""
    caught: list[str] = []

    def nosy(_fraction: float, _preview: object) -> None:
        try:
            gaia.models()
        except RuntimeError as error:
            caught.append(str(error))

    gaia.generate(DRAGON, progress=nosy)

    assert "not from a callback" in caught[0]


def test_failed_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """When opening fails, the thread ends and the error comes through."""

    async def fail(_gaia: engine.Gaia) -> None:
        message = "no offers"
        raise OSError(message)

    monkeypatch.setattr(engine.Gaia, "__aenter__", fail)
    before = set(threading.enumerate())

    with pytest.raises(OSError, match="no offers"), _opened(FakeProvider()):
        pass

    assert set(threading.enumerate()) <= before


def test_batches_are_told_event_by_event() -> None:
    """A script can serve many requests, and sum up what they cost."""
    requests = [
        GenerateRequest(prompt=f"keep {number}", width=64, height=64)
        for number in range(3)
    ]

    with _opened(FakeProvider(price_usd="0.04"), ledger=None) as gaia:
        events = list(gaia.batch(requests, max_concurrent=2))
        usage = gaia.usage(["provider"])
        recovered = gaia.recover()
        statistics = gaia.statistics()

    kinds = [event.kind for event in events]
    assert kinds.count("done") == 3
    assert kinds[-1] == "batch_finished"
    assert [(row.done, str(row.cost_usd)) for row in usage] == [(3, "0.12")]
    assert (recovered, statistics.unknown_outcomes) == (0, 0)
