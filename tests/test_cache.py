"""Answers given again to equal requests."""

import asyncio
import os
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from gaia_core import cache as caching
from gaia_core.cache import LedgerCache, NoCache, rebuilt
from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass, StorageError
from gaia_core.images import Image
from gaia_core.ledger import (
    Ledger,
    MemoryLedger,
    Operation,
    Settlement,
    SqlLedger,
)
from gaia_core.ledger.database import Database
from gaia_core.metrics import MemoryMetrics
from gaia_core.responses import (
    Attempt,
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.storage import FileStorage
from gaia_core.testing import MemoryStorage, capture_events, png

ID = "0" * 32
KEY = "a" * 64
ATTEMPT = Attempt(
    provider="fake",
    model="m",
    task_id="t",
    outcome=OutcomeClass.OK,
    duration_ms=12.0,
    cost_usd=Decimal("0.04"),
)
ANSWER = {"warnings": ["seed ignored"], "duration_ms": 15.0}


@attrs.define(eq=False)
class Shelf(FileStorage):
    """A real store that counts how often a picture is read."""

    reads: int = attrs.field(default=0, init=False)

    async def read(self, image_id: str) -> bytes:
        """Count, then read."""
        self.reads += 1
        return await super().read(image_id)


@attrs.define(eq=False)
class Stand:
    """A cache, and all that lies behind it."""

    storage: Any
    ledger: Ledger = attrs.field(factory=MemoryLedger)
    metrics: MemoryMetrics = attrs.field(factory=MemoryMetrics)

    def cache(self, **choices: Any) -> LedgerCache:
        """Make a cache, as a process that has just started does."""
        return LedgerCache(self.ledger, self.storage, metrics=self.metrics, **choices)

    def looked(self) -> dict[str, float]:
        """Tell what came of the look-ups so far."""
        return {
            sample.labels["result"]: sample.value for sample in self.metrics.samples()
        }

    async def forget(self, key: str) -> None:
        """Let the ledger forget an answer."""
        found = await self.ledger.find_result(key)
        assert found is not None
        await self.ledger.forget_result(key, found.id)

    async def make(self, key: str = KEY, *, number: int = 2) -> ImageResponse:
        """Make pictures, settle, and answer."""
        operation = _operation(id=key[:32], result_key=key)
        images = [await self._put(operation, side) for side in range(number)]
        await self._settle(operation, images)
        response = _response(operation.id, ImageResponse, images=tuple(images))
        return cast("ImageResponse", response)

    async def say(self, capability: Capability, **words: str) -> Response:
        """Make words, settle, and answer."""
        operation = _operation(capability=capability)
        await self._settle(operation, (), **words)
        kind = PromptResponse if "prompt" in words else DescriptionResponse
        return _response(operation.id, kind, **words)

    async def _put(self, operation: Operation, number: int) -> StoredImage:
        stored: StoredImage = await self.storage.put(
            Image.from_bytes(png(16, 16 + number)),
            operation_id=operation.id,
            provider="fake",
            model="m",
        )
        return stored

    async def _settle(self, operation: Operation, images: Any, **words: str) -> None:
        await self.ledger.accept(operation)
        await self.ledger.send(operation.id, ATTEMPT)
        settlement = Settlement(
            provider="fake",
            model="m",
            cost_usd=Decimal("0.04"),
            images=tuple(images),
            answer={**ANSWER, **words},
            attempt=ATTEMPT,
        )
        await self.ledger.settle(operation.id, settlement)


@attrs.define(eq=False)
class Clock:
    """Shows the time it is told."""

    now: float = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def _operation(**fields: Any) -> Operation:
    defaults = {"id": ID, "capability": Capability.TEXT_TO_IMAGE, "result_key": KEY}
    return Operation(**{**defaults, **fields})


def _response(operation_id: str, kind: type[Response], **fields: Any) -> Response:
    return kind(
        operation_id=operation_id,
        provider="fake",
        model="m",
        attempts=(ATTEMPT,),
        cost_usd=Decimal("0.04"),
        warnings=("seed ignored",),
        duration_ms=15.0,
        **fields,
    )


def _free(response: Response) -> Response:
    """Say what an answer looks like when it is given again."""
    return attrs.evolve(response, is_reused=True, cost_usd=Decimal(0), attempts=())


@pytest.fixture(name="stand")
def _stand(tmp_path: Path) -> Stand:
    return Stand(Shelf(tmp_path))


async def _until_told(stand: Stand, cache: LedgerCache) -> None:
    """Wait until a change of the files would show; then have them checked."""
    await asyncio.sleep(caching.SETTLED_NS / 1e9 + 0.05)
    assert await cache.find(KEY) is not None
    stand.storage.reads = 0


# -- hit ----------------------------------------------------------------------------


async def test_nothing_is_found_before_it_is_made(stand: Stand) -> None:
    """A miss is counted as one."""
    assert await stand.cache().find(KEY) is None
    assert stand.looked() == {"miss": 1}


async def test_an_answer_is_found_by_another_process(stand: Stand) -> None:
    """What the ledger has is enough; nothing is paid for it again."""
    response = await stand.make()

    found = await stand.cache().find(KEY)

    assert found == _free(response)
    assert stand.looked() == {"hit": 1}
    assert stand.storage.reads == 2


async def test_an_answer_outlives_its_process(tmp_path: Path) -> None:
    """The ledger in a database gives it again, as it was and free of charge."""
    address = f"sqlite:///{tmp_path / 'gaia.db'}"
    first = Stand(Shelf(tmp_path), SqlLedger(Database(address)))
    await first.ledger.open()
    response = await first.make()
    await first.ledger.close()
    second = Stand(Shelf(tmp_path), SqlLedger(Database(address)))
    await second.ledger.open()

    found = await second.cache().find(KEY)
    again = await rebuilt(await _kept(second), second.storage, is_verified=True)
    _remove(response.images[0])
    with capture_events() as events:
        lost = [await second.cache().find(KEY) for _ in range(2)]
    await second.ledger.close()

    assert found == _free(response)
    assert again == attrs.evolve(response, is_reused=True)
    assert lost == [None, None]
    assert len(events) == 1


async def test_an_answer_just_given_is_found(stand: Stand) -> None:
    """What was kept is given again, free of charge."""
    response = await stand.make()
    cache = stand.cache()
    await cache.keep(KEY, response)

    assert await cache.find(KEY) == _free(response)


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        (Capability.PROMPT_ENHANCEMENT, {"prompt": "a keep at dusk"}),
        (Capability.IMAGE_DESCRIPTION, {"description": "A keep."}),
    ],
    ids=["prompt", "description"],
)
async def test_words_are_found_too(
    stand: Stand, capability: Capability, words: dict[str, str]
) -> None:
    """An answer need not have pictures."""
    response = await stand.say(capability, **words)
    cache = stand.cache()

    first, second = await cache.find(KEY), await cache.find(KEY)

    assert first == second == _free(response)
    assert stand.storage.reads == 0


async def test_pictures_that_stay_the_same_are_not_read_again(stand: Stand) -> None:
    """An answer in memory costs neither the ledger nor the store."""
    response = await stand.make()
    cache = stand.cache()
    await cache.keep(KEY, response)
    await _until_told(stand, cache)
    await stand.forget(KEY)

    assert await cache.find(KEY) == _free(response)
    assert stand.storage.reads == 0


async def test_pictures_are_read_again_where_a_change_may_hide(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file written a moment ago may change without its times changing."""
    monkeypatch.setattr(caching, "SETTLED_NS", 10**18)
    response = await stand.make(number=1)
    cache = stand.cache()
    await cache.keep(KEY, response)

    found = [await cache.find(KEY) for _ in range(2)]

    assert found == [_free(response)] * 2
    assert stand.storage.reads == 2


# -- what is not whole --------------------------------------------------------------


def _remove(image: StoredImage) -> None:
    image.path.unlink()


def _cut(image: StoredImage) -> None:
    image.path.write_bytes(image.path.read_bytes()[:-1])


def _alter(image: StoredImage) -> None:
    """Change one bit in place, and say that nothing was written."""
    before = image.path.stat()
    with image.path.open("r+b") as file:
        data = file.read()
        file.seek(0)
        file.write(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(image.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap(image: StoredImage) -> None:
    """Put another file in its place."""
    other = image.path.with_suffix(".new")
    other.write_bytes(image.path.read_bytes()[::-1])
    other.replace(image.path)


@pytest.mark.parametrize("damage", [_remove, _cut, _alter, _swap])
@pytest.mark.parametrize("place", ["memory", "ledger"])
async def test_no_answer_is_given_whose_pictures_are_not_whole(
    stand: Stand, damage: Any, place: str
) -> None:
    """It is forgotten, and the log says why."""
    response = await stand.make()
    cache = stand.cache()
    if place == "memory":
        await cache.keep(KEY, response)
        await _until_told(stand, cache)
    damage(response.images[1])

    with capture_events() as events:
        found = await cache.find(KEY)

    assert found is None
    assert await stand.ledger.find_result(KEY) is None
    assert stand.looked()["damaged"] == 1
    assert [
        (event["event"], event["operation_id"], event["log_level"]) for event in events
    ] == [("gaia.cache_damaged", response.operation_id, "warning")]
    assert response.images[1].id in events[0]["error"]


async def test_a_damaged_answer_is_told_once(stand: Stand) -> None:
    """After that nothing is known of it."""
    response = await stand.make()
    _remove(response.images[0])
    cache = stand.cache()

    with capture_events() as events:
        found = [await cache.find(KEY) for _ in range(2)]

    assert found == [None, None]
    assert len(events) == 1
    assert stand.looked() == {"damaged": 1, "miss": 1}


async def test_an_answer_without_its_record_is_none(stand: Stand) -> None:
    """The store may have been emptied since."""
    response = await stand.make()
    stand.storage = Shelf(stand.storage.root / "empty")

    with capture_events() as events:
        found = await stand.cache().find(KEY)

    assert found is None
    assert f"Picture {response.images[0].id} is missing" in events[0]["error"]
    assert await stand.ledger.find_result(KEY) is None


async def test_a_file_that_was_put_back_counts_again(stand: Stand) -> None:
    """What counts is the content, not the times."""
    response = await stand.make()
    cache = stand.cache()
    await cache.keep(KEY, response)
    await _until_told(stand, cache)
    path = response.images[0].path
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)

    assert await cache.find(KEY) == _free(response)
    assert stand.storage.reads == 2


# -- a store elsewhere --------------------------------------------------------------


async def test_a_store_without_files_is_asked_each_time() -> None:
    """Where no file tells of a change, the picture is read."""
    stand = Stand(MemoryStorage())
    response = await stand.make()
    cache = stand.cache()
    await cache.keep(KEY, response)

    found = [await cache.find(KEY) for _ in range(3)]

    assert found == [_free(response)] * 3


async def test_a_store_without_files_may_lose_one() -> None:
    """Then the answer is none."""
    stand = Stand(MemoryStorage())
    response = await stand.make()
    cache = stand.cache()
    await cache.keep(KEY, response)
    assert await cache.find(KEY) is not None

    stand.storage._data.clear()

    assert await cache.find(KEY) is None


# -- memory -------------------------------------------------------------------------


async def test_memory_holds_the_latest_answers(stand: Stand) -> None:
    """The one unused longest goes first; the ledger still has it."""
    keys = [letter * 64 for letter in "bcd"]
    responses = [await stand.make(key, number=1) for key in keys]
    cache = stand.cache(max_in_memory=2)
    for key, response in zip(keys[:2], responses[:2], strict=True):
        await cache.keep(key, response)
    await cache.find(keys[0])
    await cache.keep(keys[2], responses[2])
    for key in keys:
        await stand.forget(key)

    found = [await cache.find(key) is not None for key in keys]

    assert found == [True, False, True]


async def test_memory_may_hold_nothing(stand: Stand) -> None:
    """Then every answer comes from the ledger."""
    response = await stand.make()
    cache = stand.cache(max_in_memory=0)
    await cache.keep(KEY, response)

    found = await cache.find(KEY)
    await stand.forget(KEY)

    assert found == _free(response)
    assert await cache.find(KEY) is None


async def test_the_ledger_hears_of_an_answer_in_use(stand: Stand) -> None:
    """Memory is trusted for a while only, so that what is used stays on record."""
    clock = Clock()
    cache = stand.cache(clock=clock)
    await cache.keep(KEY, await stand.make())
    await stand.forget(KEY)

    clock.now = caching.MAX_AGE - 1
    before = await cache.find(KEY)
    clock.now = caching.MAX_AGE + 1
    after = await cache.find(KEY)

    assert before is not None
    assert after is None


async def test_no_cache_finds_nothing(stand: Stand) -> None:
    """For hosts that want every request served anew."""
    cache = NoCache()
    await cache.keep(KEY, await stand.make())

    assert await cache.find(KEY) is None


# -- one operation again ------------------------------------------------------------


@pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "trusted"])
async def test_a_response_is_given_once_more(stand: Stand, is_verified: bool) -> None:
    """As it was, with what it cost and who was tried."""
    response = await stand.make()

    found = await rebuilt(await _kept(stand), stand.storage, is_verified=is_verified)

    assert found == attrs.evolve(response, is_reused=True)
    assert stand.storage.reads == 2 * is_verified


async def _kept(stand: Stand) -> Operation:
    operation = await stand.ledger.find_result(KEY)
    assert operation is not None
    return operation


async def test_words_are_given_once_more(stand: Stand) -> None:
    """Prompts and descriptions are part of the record."""
    response = await stand.say(Capability.PROMPT_ENHANCEMENT, prompt="a keep at dusk")

    found = await rebuilt(await _kept(stand), stand.storage, is_verified=True)

    assert found == attrs.evolve(response, is_reused=True)


@pytest.mark.parametrize(
    ("damage", "is_verified", "is_found"),
    [(_remove, False, True), (_remove, True, False), (_alter, True, False)],
    ids=["gone but trusted", "gone", "altered"],
)
async def test_a_response_is_verified_where_asked_for(
    stand: Stand, damage: Any, is_verified: bool, is_found: bool
) -> None:
    """A damaged picture is no answer."""
    response = await stand.make()
    damage(response.images[0])

    found = await rebuilt(await _kept(stand), stand.storage, is_verified=is_verified)

    assert (found is not None) is is_found


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "sent"},
        {"image_ids": ()},
        {"image_ids": ("f" * 32,)},
        {"capability": Capability.IMAGE_DESCRIPTION},
        {"answer": None, "capability": Capability.PROMPT_ENHANCEMENT},
    ],
    ids=["under way", "no pictures", "lost picture", "no words", "no answer"],
)
async def test_what_is_not_on_record_is_no_response(
    stand: Stand, changes: dict[str, Any]
) -> None:
    """An operation that is not done, or not all there, gives None."""
    await stand.make()
    operation = attrs.evolve(await _kept(stand), **changes)

    assert await rebuilt(operation, stand.storage, is_verified=False) is None


async def test_a_store_that_fails_gives_no_response(stand: Stand) -> None:
    """A record that cannot be read is as good as none."""
    response = await stand.make()
    image_id = response.images[0].id
    path = stand.storage.root / "records" / image_id[:2] / f"{image_id}.json"
    path.write_text("{}")
    with pytest.raises(StorageError):
        await stand.storage.get(image_id)

    assert await rebuilt(await _kept(stand), stand.storage, is_verified=False) is None
