"""The image store in files."""

import asyncio
import errno
import hashlib
import itertools
import json
import math
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia_core.errors import StorageError
from gaia_core.images import Image
from gaia_core.requests import UpscaleRequest
from gaia_core.responses import StoredImage
from gaia_core.storage import Disk, FileStorage, ImageStorage
from gaia_core.testing import MemoryStorage, capture_events, jpeg, png

RED = Image.from_bytes(png(colour="red"))
BLUE = Image.from_bytes(png(colour="blue"))
FACTS: dict[str, Any] = {
    "operation_id": "op-1",
    "provider": "fake",
    "model": "fake:one",
}
PREPARED = 8
"""Moments after which picture and record wait completely in ``pending``."""
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class QuickDisk(Disk):
    """A disk nobody waits for."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a file."""
        path.write_bytes(data)

    def sync_folder(self, path: Path) -> None:
        """Do nothing."""


class PowerCut(BaseException):
    """The end of a process, at a moment nobody chose."""


@attrs.define(eq=False)
class FragileDisk(QuickDisk):
    """
    Loses power at a chosen moment, and what was not safe by then with it.

    Attributes:
        moments: How many moments are left.
        is_forgetful: Whether names that were not synchronised are lost.
    """

    moments: float
    is_forgetful: bool
    _unsafe: list[tuple[Path, Callable[[], object]]] = attrs.field(factory=list)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file: nothing, half of it, or all of it."""
        self._pass()
        path.write_bytes(data[: len(data) // 2])
        self._unsafe.append((path.parent, path.unlink))
        self._pass()
        path.unlink()
        super().write(path, data)
        self._pass()

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, which may come undone."""
        self._pass()
        super().replace(source, target)
        self._unsafe.append((target.parent, lambda: target.replace(source)))
        self._pass()

    def touch(self, path: Path) -> None:
        """Make an empty file, which may come undone."""
        self._pass()
        super().touch(path)
        self._unsafe.append((path.parent, path.unlink))
        self._pass()

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder safe."""
        self._pass()
        super().sync_folder(path)
        self._unsafe = [
            (folder, undo) for folder, undo in self._unsafe if folder != path
        ]
        self._pass()

    def cut(self) -> None:
        """Lose what is not safe."""
        if self.is_forgetful:
            for _, undo in reversed(self._unsafe):
                undo()

    def _pass(self) -> None:
        self.moments -= 1
        if self.moments < 0:
            self.cut()
            raise PowerCut


@attrs.define(eq=False)
class FailingDisk(Disk):
    """
    Answers every write with an error of the system.

    Attributes:
        number: The error's number.
    """

    number: int

    def write(self, path: Path, data: bytes) -> None:
        """Write half of it and fail."""
        path.write_bytes(data[: len(data) // 2])
        raise OSError(self.number, os.strerror(self.number), str(path))


@attrs.define(eq=False)
class Clock:
    """
    A clock that stands until it is moved.

    Attributes:
        moment: What it shows.
    """

    moment: datetime = NOON

    def __call__(self) -> datetime:
        """Show the time, and go on by a microsecond."""
        self.moment += timedelta(microseconds=1)
        return self.moment


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="storage")
def _storage(tmp_path: Path, clock: Clock) -> FileStorage:
    return FileStorage(tmp_path / "store", disk=QuickDisk(), now=clock)


def _files(storage: FileStorage, folder: str) -> list[Path]:
    return [path for path in (storage.root / folder).rglob("*") if path.is_file()]


# What it keeps


async def test_a_picture_comes_back_as_it_went_in(storage: FileStorage) -> None:
    """Bytes stay untouched, under the digest of their content."""
    stored = await storage.put(RED, **FACTS)

    digest = hashlib.sha256(RED.data).hexdigest()
    assert await storage.read(stored.id) == stored.read_bytes() == RED.data
    assert stored.sha256 == digest
    assert stored.path == storage.root / "objects" / digest[:2] / f"{digest}.png"


async def test_a_record_says_where_a_picture_comes_from(storage: FileStorage) -> None:
    """Everything known about a picture is found by its id."""
    stored = await storage.put(
        Image.from_bytes(jpeg(40, 30)),
        operation_id="op-9",
        provider="fake",
        model="fake:one",
        prompt="a keep, 砦 \ud83d",
        seed=2**63 - 1,
        campaign_id="../../étc",
        user_id="u",
    )

    found = await storage.get(stored.id)

    assert found == stored
    assert (stored.media_type, stored.width, stored.height) == ("image/jpeg", 40, 30)
    assert stored.created_at.tzinfo is UTC
    assert stored.path.suffix == ".jpg"


async def test_a_stored_picture_can_be_worked_on(storage: FileStorage) -> None:
    """What comes out goes into the next request."""
    stored = await storage.put(RED, **FACTS)

    assert UpscaleRequest(image=stored).image == RED


async def test_equal_pictures_share_a_file(storage: FileStorage) -> None:
    """The same content is written once, and recorded as often as it comes."""
    first = await storage.put(RED, **FACTS)
    written = first.path.stat().st_mtime_ns
    second = await storage.put(RED, **FACTS)

    assert first.path == second.path
    assert first.id != second.id
    assert first.path.stat().st_mtime_ns == written
    assert len(_files(storage, "objects")) == 1
    assert len(await storage.list()) == 2


async def test_a_damaged_file_is_healed_by_the_same_picture(
    storage: FileStorage,
) -> None:
    """Putting a picture again replaces a file that is no longer sound."""
    stored = await storage.put(RED, **FACTS)
    stored.path.write_bytes(b"rotten")

    await storage.put(RED, **FACTS)

    assert await storage.read(stored.id) == RED.data


async def test_pictures_stored_side_by_side_do_not_meet(storage: FileStorage) -> None:
    """Many tasks put equal and different pictures at the same time."""
    pictures = [RED, BLUE] * 16

    stored = await asyncio.gather(*(storage.put(item, **FACTS) for item in pictures))

    assert {image.id for image in await storage.list()} == {item.id for item in stored}
    assert [await storage.read(item.id) for item in stored] == [
        picture.data for picture in pictures
    ]
    assert _files(storage, "pending") == []


async def test_another_process_sees_the_same_store(storage: FileStorage) -> None:
    """Nothing that matters lives in memory."""
    stored = await storage.put(RED, **FACTS)

    assert await FileStorage(storage.root).list() == (stored,)


def test_a_store_costs_nothing_before_it_is_used(storage: FileStorage) -> None:
    """The folder is made when the first picture comes."""
    assert asyncio.run(storage.list()) == ()
    assert not storage.root.exists()


# What it finds


@pytest.mark.parametrize(
    "image_id",
    [
        "",
        "0" * 32,
        "../../../etc/passwd",
        "0" * 31 + "/",
        "0" * 33,
        "A" * 32,
        "0" * 32 + "\n",
        "\0" * 32,
        "\u0660" * 32,
        "*",
    ],
    ids=repr,
)
async def test_an_unknown_id_finds_nothing(storage: FileStorage, image_id: str) -> None:
    """An id from outside never names a file."""
    await storage.put(RED, **FACTS)

    assert await storage.get(image_id) is None
    with pytest.raises(StorageError, match="There is no picture"):
        await storage.read(image_id)


async def test_pictures_are_listed_newest_first(
    storage: FileStorage, clock: Clock
) -> None:
    """The last picture comes first, over days and years."""
    stored = []
    for days in (0, 1, 40, 400):
        clock.moment = NOON + timedelta(days=days)
        stored.append(await storage.put(RED, **FACTS))

    assert await storage.list() == tuple(reversed(stored))
    assert await storage.list(limit=2) == (stored[3], stored[2])
    assert await storage.list(limit=0) == ()


async def test_each_campaign_has_its_own_list(storage: FileStorage) -> None:
    """A campaign sees its own pictures; an operation sees its own."""
    first = await storage.put(RED, campaign_id="dragons", **FACTS)
    second = await storage.put(
        RED, campaign_id="Dragons", **{**FACTS, "operation_id": "op-2"}
    )
    third = await storage.put(RED, **FACTS)

    assert await storage.list(campaign_id="dragons") == (first,)
    assert await storage.list(campaign_id="Dragons") == (second,)
    assert await storage.list(campaign_id="") == ()
    assert await storage.list(operation_id="op-1") == (third, first)
    assert await storage.list(operation_id="op-1", campaign_id="dragons") == (first,)


MOMENTS = st.datetimes(
    min_value=datetime(2026, 11, 20),  # noqa: DTZ001 - the zone is drawn apart
    max_value=datetime(2026, 12, 3),  # noqa: DTZ001 - the zone is drawn apart
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9))]),
)


@settings(max_examples=40, deadline=None)
@given(
    moments=st.lists(MOMENTS, max_size=8),
    since=st.none() | MOMENTS,
    until=st.none() | MOMENTS,
    limit=st.integers(0, 9),
)
def test_time_bounds_are_kept(
    moments: list[datetime],
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """From ``since`` on and before ``until``, whatever the time zones."""
    times = iter(moments)

    async def work(root: Path) -> None:
        storage = FileStorage(
            root, disk=QuickDisk(), now=lambda: next(times).astimezone(UTC)
        )
        stored = [await storage.put(RED, **FACTS) for _ in moments]

        found = await storage.list(since=since, until=until, limit=limit)

        expected = [
            item.created_at
            for item in sorted(stored, key=lambda item: item.created_at, reverse=True)
            if (since is None or item.created_at >= since)
            and (until is None or item.created_at < until)
        ]
        assert [item.created_at for item in found] == expected[:limit]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))


async def test_bounds_take_in_the_first_moment_and_not_the_last(
    storage: FileStorage,
) -> None:
    """Two spans that meet hold every picture once."""
    stored = await storage.put(RED, **FACTS)

    assert await storage.list(since=stored.created_at) == (stored,)
    assert await storage.list(until=stored.created_at) == ()


async def test_a_moment_needs_a_time_zone(storage: FileStorage) -> None:
    """Nobody has to guess which noon was meant."""
    naive = datetime(2026, 11, 22)  # noqa: DTZ001 - that is the point

    with pytest.raises(ValueError, match="has no time zone"):
        await storage.list(since=naive)


async def test_the_ends_of_time_are_bounds(storage: FileStorage) -> None:
    """The earliest and the latest moment bound nothing."""
    stored = await storage.put(RED, **FACTS)

    found = await storage.list(
        since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC)
    )

    assert found == (stored,)


@attrs.define(eq=False)
class CountingStorage(FileStorage):
    """
    Counts the records it reads.

    Attributes:
        reads: How many so far.
    """

    reads: int = 0

    def _get(self, image_id: str) -> StoredImage | None:
        self.reads += 1
        return super()._get(image_id)


@pytest.mark.parametrize(
    "filters",
    [
        {"campaign_id": "mine"},
        {"operation_id": "op-mine"},
        {"since": NOON + timedelta(days=2)},
        {"limit": 3},
    ],
    ids=["campaign", "operation", "day", "limit"],
)
async def test_listing_reads_only_what_it_lists(
    tmp_path: Path, clock: Clock, filters: dict[str, Any]
) -> None:
    """Other campaigns and other days cost a listing nothing."""
    storage = CountingStorage(tmp_path, disk=QuickDisk(), now=clock)
    for _ in range(40):
        await storage.put(RED, campaign_id="others", **FACTS)
    clock.moment = NOON + timedelta(days=2)
    for _ in range(3):
        await storage.put(
            RED, campaign_id="mine", **{**FACTS, "operation_id": "op-mine"}
        )

    found = await storage.list(**filters)

    assert len(found) == 3
    assert storage.reads == 3


async def test_strange_files_in_the_store_do_not_matter(storage: FileStorage) -> None:
    """What a file manager leaves behind is passed over."""
    stored = await storage.put(RED, **FACTS)
    day = storage.root / "days" / "2026" / "11" / "22"
    for folder in (day, day.parent, day.parent.parent, storage.root / "days"):
        (folder / ".DS_Store").touch()
        (folder / "Thumbs.db").touch()

    assert await storage.list() == (stored,)


# What it refuses to hand out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"rotten"), "is damaged"),
        (lambda path: path.write_bytes(BLUE.data), "is damaged"),
        (lambda path: path.unlink(), "is missing"),
    ],
    ids=["rotten", "another picture", "missing"],
)
async def test_a_damaged_file_is_not_handed_out(
    storage: FileStorage, damage: Callable[[Path], object], words: str
) -> None:
    """Reading checks the digest and names the picture and the way out."""
    stored = await storage.put(RED, **FACTS)
    damage(stored.path)

    with pytest.raises(StorageError, match=words) as caught:
        await storage.read(stored.id)

    assert stored.id in str(caught.value)
    assert f"Restore objects/{stored.sha256[:2]}" in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"created_at": 5}',
        json.dumps({"created_at": NOON.isoformat(), "sha256": "../../x"}).encode(),
    ],
    ids=["empty", "no json", "list", "nothing in it", "wrong type", "traversal"],
)
async def test_a_damaged_record_is_named(storage: FileStorage, record: bytes) -> None:
    """A record nobody wrote is an error, not a picture."""
    stored = await storage.put(RED, **FACTS)
    path = storage.root / "records" / stored.id[:2] / f"{stored.id}.json"
    path.write_bytes(record)

    with pytest.raises(StorageError, match=f"record of picture {stored.id} is damaged"):
        await storage.get(stored.id)


async def test_a_record_of_a_newer_gaia_can_be_read(storage: FileStorage) -> None:
    """What this version does not know of a picture is left out."""
    stored = await storage.put(RED, **FACTS)
    record = storage.root / "records" / stored.id[:2] / f"{stored.id}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"mood": "grim"}))

    assert await storage.get(stored.id) == stored


async def test_a_damaged_record_does_not_hide_the_others(storage: FileStorage) -> None:
    """A listing passes over it and says so."""
    first = await storage.put(RED, **FACTS)
    second = await storage.put(RED, **FACTS)
    records = storage.root / "records"
    path = records / second.id[:2] / f"{second.id}.json"
    path.write_bytes((records / first.id[:2] / f"{first.id}.json").read_bytes())

    with capture_events() as events:
        found = await storage.list()

    assert found == (first,)
    assert [(event["event"], event["image_id"]) for event in events] == [
        ("gaia.record_damaged", second.id)
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full. Free some space, or choose another folder"),
        (errno.EROFS, "the file system is read-only. Make it writable"),
        (errno.EACCES, "access is denied. Allow access to it"),
        (errno.EIO, "Input/output error. Check the disk"),
    ],
    ids=["full", "read-only", "denied", "broken"],
)
async def test_a_disk_that_fails_is_explained(
    tmp_path: Path, number: int, words: str
) -> None:
    """The error names the store, the cause and the next step, and leaves no rest."""
    storage = FileStorage(tmp_path, disk=FailingDisk(number))

    with pytest.raises(StorageError, match=words) as caught:
        await storage.put(RED, **FACTS)

    assert f"The image store {tmp_path} cannot keep the picture" in str(caught.value)
    assert _files(storage, "pending") == []
    assert await storage.list() == ()


async def test_a_store_that_is_a_file_is_explained(tmp_path: Path) -> None:
    """A wrong setting is an error of the store, too."""
    path = tmp_path / "store"
    path.touch()

    with pytest.raises(StorageError, match=f"The image store {path} cannot keep"):
        await FileStorage(path).put(RED, **FACTS)


# What it survives


async def _cut(root: Path, moments: float, *, is_forgetful: bool) -> bool:
    """Put a picture and lose power on the way; tell whether it did."""
    storage = FileStorage(root, disk=FragileDisk(moments, is_forgetful))
    try:
        await storage.put(BLUE, campaign_id="c", **{**FACTS, "operation_id": "op-2"})
    except PowerCut:
        return True
    return False


async def _stores(root: Path, *, is_forgetful: bool) -> AsyncIterator[FileStorage]:
    """Make a store with one picture, for every moment the second is interrupted."""
    for moments in itertools.count():
        storage = FileStorage(root / str(moments), disk=QuickDisk())
        await storage.put(RED, campaign_id="c", **FACTS)
        if not await _cut(storage.root, moments, is_forgetful=is_forgetful):
            assert moments > 20
            return
        yield storage


async def _check(storage: FileStorage) -> tuple[StoredImage, ...]:
    """Check that everything the store lists is there and sound."""
    listed = await storage.list()
    for stored in listed:
        data = await storage.read(stored.id)
        assert hashlib.sha256(data).hexdigest() == stored.sha256
        assert await storage.get(stored.id) == stored
    assert await storage.list(campaign_id="c") == listed
    assert listed[-1].operation_id == "op-1"
    return tuple(listed)


forgetful = pytest.mark.parametrize(
    "is_forgetful", [False, True], ids=["names kept", "names lost"]
)


@forgetful
async def test_every_listed_picture_survives_a_power_cut(
    tmp_path: Path, is_forgetful: bool
) -> None:
    """Whenever it comes, what is listed is whole, and the rest can be swept."""
    async for storage in _stores(tmp_path, is_forgetful=is_forgetful):
        before = await _check(storage)

        await storage.sweep(timedelta(0))

        assert await _check(storage) == before
        assert _files(storage, "pending") == []


@forgetful
async def test_a_picture_the_store_said_it_keeps_is_kept(
    tmp_path: Path, is_forgetful: bool
) -> None:
    """A power cut right after `put` costs nothing."""
    disk = FragileDisk(math.inf, is_forgetful)
    stored = await FileStorage(tmp_path, disk=disk).put(BLUE, campaign_id="c", **FACTS)

    disk.cut()

    storage = FileStorage(tmp_path)
    assert await _check(storage) == (stored,)
    assert await storage.list(operation_id="op-1") == (stored,)


@forgetful
async def test_an_interrupted_picture_is_finished(
    tmp_path: Path, is_forgetful: bool
) -> None:
    """Recovery adopts what was written completely, once, and nothing else."""
    finished = []
    async for storage in _stores(tmp_path, is_forgetful=is_forgetful):
        adopted = await storage.recover("op-2")

        assert (await _check(storage))[:-1] == adopted
        assert await storage.recover("op-2") == adopted
        finished.append(len(adopted))

    assert finished == sorted(finished)
    assert set(finished) == {0, 1}


@forgetful
async def test_recovery_survives_a_power_cut(
    tmp_path: Path, is_forgetful: bool
) -> None:
    """A crash during recovery costs nothing but another recovery."""
    for moments in itertools.count():
        storage = FileStorage(tmp_path / str(moments), disk=QuickDisk())
        await storage.put(RED, campaign_id="c", **FACTS)
        await _cut(storage.root, PREPARED, is_forgetful=False)
        fragile = FragileDisk(moments, is_forgetful)
        try:
            await FileStorage(storage.root, disk=fragile).recover("op-2")
        except PowerCut:
            assert len(await _check(storage)) in {1, 2}
            await storage.recover("op-2")
            assert len(await _check(storage)) == 2
        else:
            assert moments > 10
            return


async def test_recovery_leaves_other_operations_alone(tmp_path: Path) -> None:
    """What belongs to a name that only begins alike is not adopted."""
    await _cut(tmp_path, PREPARED, is_forgetful=False)
    storage = FileStorage(tmp_path)

    assert await storage.recover("op") == ()
    assert await storage.list() == ()
    assert len(await storage.recover("op-2")) == 1


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b"rotten"), lambda path: path.unlink()],
    ids=["rotten", "missing"],
)
async def test_a_picture_that_did_not_come_through_is_not_adopted(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """A record alone is not enough, unless the store has the picture already."""
    await _cut(tmp_path, PREPARED, is_forgetful=False)
    storage = FileStorage(tmp_path)
    for path in (tmp_path / "pending").glob("*.png"):
        damage(path)

    assert await storage.recover("op-2") == ()

    stored = await storage.put(BLUE, **FACTS)
    adopted = await storage.recover("op-2")
    assert [image.path for image in adopted] == [stored.path]
    assert await storage.read(adopted[0].id) == BLUE.data


@pytest.mark.parametrize(
    "operation_id", ["../../x", "*", "", "a b", "x" * 400, "砦"], ids=repr
)
async def test_odd_operation_ids_stay_in_the_store(
    storage: FileStorage, operation_id: str
) -> None:
    """An id never leads out of the store or to somebody else's pictures."""
    await storage.put(BLUE, **FACTS)
    stored = await storage.put(RED, **{**FACTS, "operation_id": operation_id})

    assert await storage.recover(operation_id) == (stored,)
    assert [path.name for path in storage.root.parent.iterdir()] == ["store"]


async def test_leftovers_are_swept_when_they_are_old(storage: FileStorage) -> None:
    """What may still be in the making stays."""
    await storage.put(RED, **FACTS)
    old, new = (storage.root / "pending" / name for name in ("old.png", "new.png"))
    old.touch()
    new.touch()
    yesterday = old.stat().st_mtime - timedelta(hours=25).total_seconds()
    os.utime(old, (yesterday, yesterday))

    assert await storage.sweep() == 1
    assert _files(storage, "pending") == [new]


def test_both_stores_keep_the_contract(storage: FileStorage) -> None:
    """The store in files and the one for tests are interchangeable."""
    stores: list[ImageStorage] = [storage, MemoryStorage()]

    assert all(callable(store.put) for store in stores)


async def test_a_relative_folder_is_pinned_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture stays where it is when the host changes its folder."""
    monkeypatch.chdir(tmp_path)
    storage = FileStorage(Path("pictures"))
    (tmp_path / "elsewhere").mkdir()

    stored = await storage.put(
        Image.from_bytes(png()), operation_id="op", provider="p", model="m"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert stored.path.is_absolute()
    assert stored.read_bytes() == await storage.read(stored.id)


async def test_sweepers_do_not_trip_over_each_other(storage: FileStorage) -> None:
    """Each file is removed once, however many processes sweep the same store."""
    pending = storage.root / "pending"
    pending.mkdir(parents=True)
    for number in range(200):
        (pending / f"op-{number}").touch()

    sweeps = (storage.sweep(timedelta(0)) for _ in range(4))

    assert sum(await asyncio.gather(*sweeps)) == 200
