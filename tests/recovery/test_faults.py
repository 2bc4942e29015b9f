"""Every act on the disk and every transaction fails once, and nothing is lost."""

import asyncio
import errno
import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from gaia_core import (
    CallContext,
    Capability,
    Gaia,
    GaiaError,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    LedgerError,
    ModelInfo,
    Operation,
    OperationState,
    OutcomeUnknownError,
    Price,
    ProviderInfo,
    ProviderTimeoutError,
    Settings,
    StorageError,
    StoredImage,
    hookimpl,
    recovery,
)
from gaia_core.ledger import Failure
from gaia_core.ledger.database import Database, Transaction
from gaia_core.ledger.sql import SqlLedger
from gaia_core.reliability import SingleTry
from gaia_core.storage import Disk, FileStorage
from gaia_core.testing import FakeProvider, MemoryStorage, png

T = TypeVar("T")
DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)
PRICE = Decimal("0.04")
ACTS = 16
"""More acts than storing two pictures takes."""
WRITES = 8
"""More transactions than one operation takes."""


@attrs.define(eq=False)
class FailingDisk(Disk):
    """Fails at one act, and works before and after."""

    failing: int
    acts: int = 0

    def write(self, path: Path, data: bytes) -> None:
        """Write, or fail half-way."""
        try:
            self._count()
        except OSError:
            path.write_bytes(data[: len(data) // 2])
            raise
        super().write(path, data)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        self._count()
        super().replace(source, target)

    def touch(self, path: Path) -> None:
        """Touch, or fail."""
        self._count()
        super().touch(path)

    def sync_folder(self, path: Path) -> None:
        """Wait for the disk, or fail."""
        self._count()
        super().sync_folder(path)

    def _count(self) -> None:
        self.acts += 1
        if self.acts == self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@attrs.define(eq=False)
class FailingDatabase(Database):
    """Fails at one transaction; tells before or after it has taken place."""

    failing: int = attrs.field(default=0, kw_only=True)
    is_done: bool = attrs.field(default=False, kw_only=True)
    writes: int = attrs.field(default=0, init=False)

    async def write(self, work: Transaction[T], *, is_repeatable: bool = True) -> T:
        """Write, or fail."""
        self.writes += 1
        is_failing = self.writes == self.failing
        if is_failing and not self.is_done:
            raise LedgerError
        result = await super().write(work, is_repeatable=is_repeatable)
        if is_failing:
            raise LedgerError
        return result


def _provider() -> FakeProvider:
    images = [GeneratedImage(data=png(64, 64, colour)) for colour in ("red", "blue")]
    both = ImageResult(images=images, provider="fake", model="fake")
    return FakeProvider(price_usd=PRICE / 2, outcomes=[both], is_looking_up=True)


async def _open(folder: Path, provider: FakeProvider, **parts: Any) -> Gaia:
    settings = Settings(
        image_store=folder / "images",
        database=f"sqlite:///{folder}/gaia.db",
        spill=folder / "spill",
    )
    return Gaia.open(settings, plugins=[provider], discover=False, **parts)


async def _assert_whole(gaia: Gaia, provider: FakeProvider) -> None:
    """What was charged is there, once, and the book agrees with itself."""
    operations = await gaia.ledger.listed()
    done = [one for one in operations if one.state is OperationState.DONE]
    images = await gaia.storage.list()
    assert await gaia.ledger.check() == []
    assert all(one.state.is_final for one in operations)
    assert len(provider.charges) == len(done)
    assert len(images) == 2 * len(done)
    assert {one for each in done for one in each.image_ids} == {
        image.id for image in images
    }
    for image in images:
        data = await gaia.storage.read(image.id)
        assert hashlib.sha256(data).hexdigest() == image.sha256
    assert sum(one.cost_usd or 0 for one in operations) == PRICE * len(done)


@pytest.mark.parametrize("failing", range(1, ACTS + 12), ids=str)
async def test_every_act_on_the_disk_may_fail(tmp_path: Path, failing: int) -> None:
    """A paid picture is kept, whatever act fails, and stored when it works again."""
    provider, disk = _provider(), FailingDisk(failing)
    storage = FileStorage(tmp_path / "images", disk=disk)
    gaia = await _open(tmp_path, provider, storage=storage)

    async with gaia:
        with suppress(StorageError):
            await gaia.generate(attrs.evolve(DRAGON, num_images=2))
        await gaia.recover()

        assert len(provider.charges) == 1
        await _assert_whole(gaia, provider)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("failing", range(1, WRITES), ids=str)
async def test_every_transaction_may_fail(
    tmp_path: Path, failing: int, is_done: bool
) -> None:
    """Nothing is sent without the book; what was sent is written down later."""
    provider = _provider()
    database = FailingDatabase(
        f"sqlite:///{tmp_path}/gaia.db", failing=failing, is_done=is_done
    )
    first = await _open(tmp_path, provider, ledger=SqlLedger(database))
    second = await _open(tmp_path, provider)

    async with first:
        with suppress(GaiaError):
            await first.generate(attrs.evolve(DRAGON, num_images=2))
        with suppress(LedgerError):
            await first.recover()
        await first.recover()
        await _assert_whole(first, provider)
    async with second:
        await second.recover()

        await _assert_whole(second, provider)


@attrs.define(eq=False)
class SmallDisk(Disk):
    """
    Has room for so many bytes.

    Attributes:
        room: How many.
        is_lying: Whether it says that there is always room.
    """

    room: int
    is_lying: bool = False
    used: int = 0

    def write(self, path: Path, data: bytes) -> None:
        """Write while there is room."""
        if self.used + len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.used += len(data)
        super().write(path, data)

    def free(self, folder: Path) -> int:  # noqa: ARG002  the interface
        """Tell how much room is left."""
        return 1 << 30 if self.is_lying else self.room - self.used


def _noise(number: int) -> ImageResult:
    """Make a picture of about a megabyte."""
    from PIL import Image

    from gaia_core.testing.pictures import encoded

    size = (592, 592)
    picture = Image.frombytes("RGB", size, os.urandom(3 * size[0] * size[1]))
    picture.putpixel((0, 0), (number, 0, 0))
    image = GeneratedImage(data=encoded(picture))
    return ImageResult(images=[image], provider="fake", model="fake")


async def test_full_disk_costs_nothing_more(tmp_path: Path) -> None:
    """After the first refusal nothing is paid; what was on its way is not lost."""
    provider = FakeProvider(
        price_usd=PRICE, delay=0.05, outcomes=[_noise(number) for number in range(40)]
    )
    disk = SmallDisk(20 * 1_048_576)
    storage = FileStorage(tmp_path / "images", disk=disk)
    gaia = await _open(tmp_path, provider, storage=storage)
    request = attrs.evolve(DRAGON, width=592, height=592)

    async with gaia:
        first = await asyncio.gather(
            *(gaia.generate(request) for _ in range(30)), return_exceptions=True
        )
        paid = len(provider.charges)
        later = await asyncio.gather(
            *(gaia.generate(request) for _ in range(10)), return_exceptions=True
        )
        charged_later = len(provider.charges) - paid
        disk.room *= 10
        await gaia.recover()
        operations = await gaia.ledger.listed()
        images = await gaia.storage.list()
        problems = await gaia.ledger.check()

    kinds = Counter(type(one) for one in (*first, *later))
    assert kinds[StorageError] >= 10
    assert charged_later == 0
    assert len(images) == len(provider.charges) == paid
    assert Counter(one.state for one in operations) == {OperationState.DONE: paid}
    assert problems == []


async def test_spilled_pictures_survive_the_process(tmp_path: Path) -> None:
    """Another process stores what one could not, from the spill folder."""
    provider, disk = _provider(), SmallDisk(0, is_lying=True)
    storage = FileStorage(tmp_path / "images", disk=disk)
    first = await _open(tmp_path, provider, storage=storage)
    second = await _open(tmp_path, provider)

    async with first:
        with pytest.raises(StorageError, match="are made and paid"):
            await first.generate(attrs.evolve(DRAGON, num_images=2))
    waiting = list((tmp_path / "spill").iterdir())
    async with second:
        await second.recover()
        await _assert_whole(second, provider)

    assert len(waiting) == 1
    assert waiting[0].parent.stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "spill").iterdir()) == []


async def test_spill_folder_that_is_none_ends_nothing(tmp_path: Path) -> None:
    """A folder nobody may use harms only what would have waited there."""
    (tmp_path / "spill").write_text("no folder")
    provider = _provider()
    gaia = await _open(tmp_path, provider)

    async with gaia:
        await gaia.generate(attrs.evolve(DRAGON, num_images=2))
        await gaia.recover()

        await _assert_whole(gaia, provider)


async def test_closing_stores_what_waits(tmp_path: Path) -> None:
    """What could not be stored is tried once more when a `Gaia` is closed."""
    provider, disk = _provider(), SmallDisk(0, is_lying=True)
    storage = FileStorage(tmp_path / "images", disk=disk)
    first = await _open(tmp_path, provider, storage=storage)
    second = await _open(tmp_path, provider)

    async with first:
        with pytest.raises(StorageError):
            await first.generate(attrs.evolve(DRAGON, num_images=2))
        disk.room = 1 << 20
    async with second:
        await second.ledger.open()
        await _assert_whole(second, provider)


class SilentProvider:
    """Loses every answer, and keeps no record of tasks."""

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who it is."""
        return ProviderInfo(
            name="silent", capabilities=frozenset({Capability.TEXT_TO_IMAGE})
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List one model, which costs something."""
        model = ModelInfo(
            id="silent",
            name="Silent",
            provider="silent",
            capabilities=frozenset({Capability.TEXT_TO_IMAGE}),
            price=Price(per_image=PRICE),
        )
        return (model,)

    @hookimpl
    async def gaia_generate(
        self,
        request: GenerateRequest,  # noqa: ARG002  the hook's
        context: CallContext,  # noqa: ARG002  the hook's
    ) -> ImageResult:
        """Lose the answer."""
        message = "lost"
        raise ProviderTimeoutError(message)


@pytest.fixture
def _asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each recovery ask, whatever the one in the background asked before."""
    monkeypatch.setattr(recovery, "PATIENCE", 0.0)


@attrs.define(eq=False)
class BlindStorage(MemoryStorage):
    """
    Cannot say at first what it has.

    Attributes:
        is_blind: Whether it still cannot.
    """

    is_blind: bool = True

    async def recover(self, operation_id: str) -> Sequence[StoredImage]:
        """List what there is, or fail."""
        if self.is_blind:
            message = "the disk is away"
            raise StorageError(message)
        return await super().recover(operation_id)


@pytest.mark.usefixtures("_asked_again")
async def test_what_was_taken_over_is_not_forgotten(tmp_path: Path) -> None:
    """Where settling fails, the same process tries again: nobody else may."""
    provider = FakeProvider(
        price_usd=PRICE, is_charging_failures=True, outcomes=[ProviderTimeoutError("")]
    )
    storage = BlindStorage()
    gaia = await _open(tmp_path, provider, storage=storage)

    async with gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(DRAGON)
        provider.is_looking_up = True
        await gaia.recover()
        (taken,) = await gaia.ledger.listed()
        storage.is_blind = False
        await gaia.recover()
        (settled,) = await gaia.ledger.listed()

    assert (taken.state, settled.state) == (OperationState.SENT, OperationState.DONE)
    assert settled.reserved_usd == 0
    assert len(provider.charges) == 1


@pytest.mark.usefixtures("_asked_again")
async def test_recovery_that_is_interrupted_forgets_nothing(tmp_path: Path) -> None:
    """Whoever stops waiting for a recovery leaves it to the next one."""
    provider = FakeProvider(
        price_usd=PRICE, is_charging_failures=True, outcomes=[ProviderTimeoutError("")]
    )
    gaia = await _open(tmp_path, provider, storage=MemoryStorage())

    async with gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(DRAGON)
        provider.is_looking_up = True
        for pause in (0.0, 0.0, 0.001, 0.003):
            work = asyncio.create_task(gaia.recover())
            await asyncio.sleep(pause)
            work.cancel()
            await asyncio.wait([work])
        await gaia.recover()
        (settled,) = await gaia.ledger.listed()

    assert settled.state is OperationState.DONE
    assert len(provider.charges) == 1


@pytest.mark.parametrize("is_looking_up", [True, False], ids=["looked up", "lost"])
async def test_paid_and_never_stored_is_not_paid_again(
    tmp_path: Path, is_looking_up: bool
) -> None:
    """With the spill gone, it is fetched again or given up, and its key stands."""
    provider = FakeProvider(price_usd=PRICE, is_looking_up=is_looking_up)
    disk = SmallDisk(0, is_lying=True)
    storage = FileStorage(tmp_path / "images", disk=disk)
    first = await _open(tmp_path, provider, storage=storage)
    second = await _open(tmp_path, provider)

    async with first:
        with pytest.raises(StorageError):
            await first.generate(DRAGON, idempotency_key="k")
    for file in (tmp_path / "spill").iterdir():
        file.unlink()
    async with second:
        await second.recover()
        (operation,) = await second.ledger.listed()
        with suppress(StorageError):
            await second.generate(DRAGON, idempotency_key="k")
        problems = await second.ledger.check()

    state = OperationState.DONE if is_looking_up else OperationState.FAILED
    assert (operation.state, operation.cost_usd) == (state, PRICE)
    assert len(provider.charges) == 1
    assert problems == []


async def test_what_many_left_behind_is_settled_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is taken over at a time does not wait a minute for each part."""
    monkeypatch.setattr(recovery, "SHORT_PAUSE", 0.01)
    monkeypatch.setattr(recovery, "AT_MOST", 2)
    gone = SqlLedger(Database(f"sqlite:///{tmp_path}/gaia.db"))
    gaia = await _open(tmp_path, FakeProvider(), storage=MemoryStorage())
    left = [
        Operation(id=uuid.uuid4().hex, capability=Capability.TEXT_TO_IMAGE)
        for _ in range(7)
    ]

    await gone.open()
    for operation in left:
        await gone.accept(operation)
    await gone.close()
    async with gaia, asyncio.timeout(20):
        await gaia.recover()
        while await gaia.ledger.listed(state="accepted"):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("_asked_again")
async def test_nobody_stands_before_what_can_be_looked_up(tmp_path: Path) -> None:
    """Outcomes that nobody can tell do not hide an older one that somebody can."""
    lost = ProviderTimeoutError("")
    one = FakeProvider(price_usd=PRICE, is_charging_failures=True, outcomes=[lost])
    silent = SilentProvider()
    settings = Settings(database=f"sqlite:///{tmp_path}/gaia.db")
    gaia = Gaia.open(
        settings,
        plugins=[one, silent],
        storage=MemoryStorage(),
        reliability=SingleTry(),
        discover=False,
    )

    async with gaia:
        for name in ("fake", *["silent"] * 101):
            with pytest.raises(OutcomeUnknownError):
                await gaia.generate(attrs.evolve(DRAGON, provider=name))
        one.is_looking_up = True
        await gaia.recover()
        (found,) = await gaia.ledger.listed(state=OperationState.DONE)

    assert found.provider == "fake"


@pytest.mark.usefixtures("_asked_again")
async def test_ending_that_cannot_be_written_stops_no_other(tmp_path: Path) -> None:
    """One operation the book will not close does not keep others from recovery."""
    provider = FakeProvider(
        price_usd=PRICE, is_charging_failures=True, outcomes=[ProviderTimeoutError("")]
    )
    gaia = await _open(tmp_path, provider, storage=MemoryStorage())
    services = gaia._parts.services
    ending = Failure(state=OperationState.FAILED, error_type="X", error="x")

    async with gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(DRAGON)
        services.backlog["0" * 32] = ending
        provider.is_looking_up = True
        await gaia.recover()
        (operation,) = await gaia.ledger.listed()

    assert operation.state is OperationState.DONE
    assert services.backlog == {}


async def test_batches_stop_before_paying_for_what_has_no_room(tmp_path: Path) -> None:
    """With the disk full, items wait unpaid, and go on when there is room."""
    provider, disk = FakeProvider(price_usd=PRICE), SmallDisk(0)
    storage = FileStorage(tmp_path / "images", disk=disk)
    gaia = await _open(tmp_path, provider, storage=storage)
    requests = [attrs.evolve(DRAGON, prompt=f"keep {number}") for number in range(5)]

    async with gaia:
        batch = await gaia.batches.open(requests)
        with pytest.raises(StorageError, match="disk is full"):
            _ = [event async for event in gaia.batches.run(batch.id)]
        paid = len(provider.charges)
        disk.room = 1 << 24
        events = [event async for event in gaia.batches.run(batch.id)]

    assert paid == 0
    assert len(provider.charges) == 5
    assert events[-1].kind == "batch_finished"
