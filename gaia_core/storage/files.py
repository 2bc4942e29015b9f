"""
The image store: files named by their content, and one record for each picture.

::

    objects/ab/abcdef….png             the picture, named by its SHA-256
    records/12/12ab….json              the record, named by the picture's id
    days/2026/11/22/<time>-<id>        index: empty files, newest name last
    campaigns/<hash>/2026/11/22/…      the same for one campaign
    operations/<hash>/2026/11/22/…     the same for one operation
    inputs/ab/abcdef….png              what a waiting request brings along
    pending/<operation>-<hash>-<id>…   what is being written

A picture is in the store from the moment its record has its final name. Record
and picture wait complete in ``pending`` before anything gets its final name, so
that whatever a crash interrupts can be finished or is never seen.
"""

import asyncio
import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import attrs

from gaia_core.errors import StorageError
from gaia_core.images import SUFFIXES, Image
from gaia_core.observability import get_logger
from gaia_core.responses import StoredImage
from gaia_core.storage.disk import MARGIN, Disk, translated
from gaia_core.storage.inputs import InputPictures

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FACTS = attrs.fields_dict(StoredImage).keys() - {"path", "created_at"}


class _DamagedRecordError(StorageError):
    """What lies under the name of a record is none."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _absolute(root: Path | str) -> Path:
    """Pin a relative folder down: the host may change its own later."""
    return Path(root).expanduser().absolute()


@attrs.define(eq=False)
class FileStorage:
    """
    An image store in a folder.

    Many processes may share it. It is safe against crashes and power cuts on
    file systems that keep their promises about ``fsync`` and ``rename``.

    Attributes:
        root: The folder; made when the first picture comes.
    """

    root: Path = attrs.field(converter=_absolute)
    _disk: Disk = attrs.field(factory=Disk, kw_only=True)
    _now: Callable[[], datetime] = attrs.field(default=_utc_now, kw_only=True)

    # One argument for each thing on record.
    async def put(  # noqa: PLR0913
        self,
        image: Image,
        *,
        operation_id: str,
        provider: str,
        model: str,
        prompt: str | None = None,
        seed: int | None = None,
        campaign_id: str | None = None,
        user_id: str | None = None,
    ) -> StoredImage:
        """Keep a picture and say where it lies; see `ImageStorage.put`."""

        def keep() -> StoredImage:
            sha256 = _digest(image.data)
            stored = StoredImage(
                id=secrets.token_hex(16),
                path=self._object(sha256, image.media_type),
                media_type=image.media_type,
                width=image.width,
                height=image.height,
                sha256=sha256,
                created_at=self._now(),
                operation_id=operation_id,
                provider=provider,
                model=model,
                prompt=prompt,
                seed=seed,
                campaign_id=campaign_id,
                user_id=user_id,
            )
            self._put(stored, image.data)
            return stored

        return await asyncio.to_thread(keep)

    async def get(self, image_id: str) -> StoredImage | None:
        """Look a picture up by its id; None if there is none."""
        if not _ID.fullmatch(image_id):
            return None
        return await asyncio.to_thread(self._get, image_id)

    async def list(
        self,
        *,
        campaign_id: str | None = None,
        operation_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[StoredImage]:
        """List pictures, newest first; see `ImageStorage.list`."""
        index = self._index(campaign_id, operation_id)
        first, last = _in_utc(since), _in_utc(until)

        def look() -> tuple[StoredImage, ...]:
            with self._guarded("list pictures"):
                found = self._walk(index, first, last)
                if campaign_id is not None:
                    found = (item for item in found if item.campaign_id == campaign_id)
                return tuple(islice(found, max(0, limit)))

        return await asyncio.to_thread(look)

    async def read(self, image_id: str) -> bytes:
        """Read a picture and check it against its digest."""
        stored = await self.get(image_id)
        if stored is None:
            message = f"There is no picture {image_id!r} in the image store."
            raise StorageError(message)
        return await asyncio.to_thread(self._read, stored)

    async def check(self, expected_bytes: int = 0) -> None:
        """Refuse now what could not be kept later; see `ImageStorage.check`."""
        await asyncio.to_thread(self._check, expected_bytes)

    async def put_input(self, image: Image) -> None:
        """Keep a picture that a request brings along; see `ImageStorage.put_input`."""
        await asyncio.to_thread(self._inputs.put, image)

    async def read_input(self, sha256: str) -> Image:
        """Read a picture that a request brought along, and check its digest."""
        return await asyncio.to_thread(self._inputs.read, sha256)

    async def recover(self, operation_id: str) -> Sequence[StoredImage]:
        """
        Finish what a crash left half stored, and list what there is.

        Call it when nobody works on the operation any more.
        """
        await asyncio.to_thread(self._recover, operation_id)
        return await self.list(operation_id=operation_id)

    async def sweep(self, older_than: timedelta = timedelta(hours=24)) -> int:
        """Remove what a crash left behind longer ago; say how many files."""
        return await asyncio.to_thread(self._sweep, older_than)

    @property
    def _inputs(self) -> InputPictures:
        return InputPictures(self.root, self._disk)

    # Writing ----------------------------------------------------------------

    def _check(self, expected_bytes: int) -> None:
        with self._guarded("keep a picture"):
            there = (self.root, *self.root.parents)
            folder = next(path for path in there if path.exists())
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if self._disk.free(folder) < expected_bytes + MARGIN:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _put(self, stored: StoredImage, data: bytes) -> None:
        with self._guarded("keep the picture"):
            try:
                self._prepare(stored, data)
                self._publish(stored)
            except OSError:
                self._discard(stored)
                raise

    def _prepare(self, stored: StoredImage, data: bytes) -> None:
        """Write picture and record completely, where nobody looks for them."""
        pending = self._folder(self.root / "pending")
        if not _holds(stored.path, data):
            self._disk.write(self._pending_object(stored), data)
        self._disk.write(self._pending_record(stored), _to_json(stored))
        self._disk.sync_folder(pending)

    def _publish(self, stored: StoredImage) -> None:
        """Give everything its final name, the record last."""
        self._folder(stored.path.parent)
        if self._pending_object(stored).exists():
            self._disk.replace(self._pending_object(stored), stored.path)
        # Also for a picture that is there already: whoever brought it may not
        # have come so far yet.
        self._disk.sync_folder(stored.path.parent)
        for index in self._indexes(stored):
            day = self._folder(index / _day(stored.created_at))
            self._disk.touch(day / _entry(stored))
            self._disk.sync_folder(day)
        record = self._record(stored.id)
        self._folder(record.parent)
        self._disk.replace(self._pending_record(stored), record)
        self._disk.sync_folder(record.parent)

    def _discard(self, stored: StoredImage) -> None:
        """Give back the space of what could not be kept."""
        for path in (self._pending_object(stored), self._pending_record(stored)):
            with suppress(OSError):
                path.unlink()

    def _recover(self, operation_id: str) -> None:
        with self._guarded("finish what was interrupted"):
            pattern = f"{_safe(operation_id)}-*.json"
            for path in sorted((self.root / "pending").glob(pattern)):
                stored = self._from_json(path.read_bytes())
                if stored is None or stored.operation_id != operation_id:
                    continue
                if self._is_complete(stored):
                    self._publish(stored)

    def _is_complete(self, stored: StoredImage) -> bool:
        """Tell whether the picture of a pending record has come through."""
        pending = self._pending_object(stored)
        if _is_sound(pending, stored.sha256):
            return True
        pending.unlink(missing_ok=True)
        return _is_sound(stored.path, stored.sha256)

    def _sweep(self, older_than: timedelta) -> int:
        with self._guarded("remove what was left behind"):
            newest = time.time() - older_than.total_seconds()
            pending = self.root / "pending"
            paths = [pending / name for name in _newest_first(pending)]
            paths += self._inputs.older_than(newest)
            return sum(_remove_old(path, newest) for path in paths)

    def _folder(self, path: Path) -> Path:
        """Make a folder and its parents, so that they survive a power cut."""
        if not path.is_dir():
            self._folder(path.parent)
            path.mkdir(exist_ok=True)
            self._disk.sync_folder(path.parent)
        return path

    # Reading ----------------------------------------------------------------

    def _get(self, image_id: str) -> StoredImage | None:
        with self._guarded("look a picture up"):
            data = _read_if_there(self._record(image_id))
        return None if data is None else self._checked(data, image_id)

    def _read(self, stored: StoredImage) -> bytes:
        with self._guarded("read the picture"):
            data = _read_if_there(stored.path)
        if data is None or _digest(data) != stored.sha256:
            state = "missing" if data is None else "damaged"
            message = (
                f"The file of picture {stored.id} is {state}. "
                f"Restore {stored.path.relative_to(self.root)} from a backup."
            )
            raise StorageError(message)
        return data

    def _walk(
        self, index: Path, since: datetime | None, until: datetime | None
    ) -> Iterator[StoredImage]:
        """Go through an index from the newest picture to the oldest."""
        first = _stamp(since) if since else ""
        last = _stamp(until) if until else "~"
        for day in _days(index, since, until):
            for entry in _newest_first(day):
                moment, _, image_id = entry.rpartition("-")
                if not first <= moment < last or not _ID.fullmatch(image_id):
                    continue
                if (stored := self._listed(image_id)) is not None:
                    yield stored

    def _listed(self, image_id: str) -> StoredImage | None:
        """Read a record; one that is damaged does not hide all others."""
        try:
            # An entry without a record is what a crash left behind.
            return self._get(image_id)
        except _DamagedRecordError:
            get_logger().warning("gaia.record_damaged", image_id=image_id)
            return None

    def _checked(self, data: bytes, image_id: str) -> StoredImage:
        stored = self._from_json(data)
        if stored is None or stored.id != image_id:
            record = self._record(image_id).relative_to(self.root)
            message = (
                f"The record of picture {image_id} is damaged. "
                f"Restore {record} from a backup."
            )
            raise _DamagedRecordError(message)
        return stored

    def _from_json(self, data: bytes) -> StoredImage | None:
        """Read a record; None if it is none."""
        try:
            values = json.loads(data)
            created_at = datetime.fromisoformat(values.pop("created_at"))
            path = self._object(values["sha256"], values["media_type"])
            # A newer Gaia on the same store may have written more.
            known = {key: values[key] for key in _FACTS & values.keys()}
            return StoredImage(path=path, created_at=created_at, **known)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    # Names ------------------------------------------------------------------

    def _object(self, sha256: str, media_type: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            message = f"{sha256!r} is no SHA-256 digest."
            raise ValueError(message)
        return self.root / "objects" / sha256[:2] / (sha256 + SUFFIXES[media_type])

    def _record(self, image_id: str) -> Path:
        return self.root / "records" / image_id[:2] / f"{image_id}.json"

    def _pending_object(self, stored: StoredImage) -> Path:
        name = f"{_safe(stored.operation_id)}-{stored.sha256}-{stored.id}"
        return self.root / "pending" / (name + SUFFIXES[stored.media_type])

    def _pending_record(self, stored: StoredImage) -> Path:
        name = f"{_safe(stored.operation_id)}-{stored.sha256}-{stored.id}.json"
        return self.root / "pending" / name

    def _index(self, campaign_id: str | None, operation_id: str | None) -> Path:
        if operation_id is not None:
            return self.root / "operations" / _hashed(operation_id)
        if campaign_id is not None:
            return self.root / "campaigns" / _hashed(campaign_id)
        return self.root / "days"

    def _guarded(self, act: str) -> AbstractContextManager[None]:
        return translated(self.root, act)

    def _indexes(self, stored: StoredImage) -> Iterator[Path]:
        yield self._index(None, None)
        yield self._index(None, stored.operation_id)
        if stored.campaign_id is not None:
            yield self._index(stored.campaign_id, None)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hashed(name: str) -> str:
    """Turn a caller's word into a name no file system trips over."""
    return _digest(name.encode("utf-8", "surrogatepass"))


def _safe(name: str) -> str:
    """Keep a short plain name readable, and hash any other."""
    return name if _SAFE_NAME.fullmatch(name) else _hashed(name)


def _day(moment: datetime) -> str:
    return f"{moment.year:04}/{moment.month:02}/{moment.day:02}"


def _stamp(moment: datetime) -> str:
    """Write a moment so that moments sort like their names."""
    return f"{moment.year:04}{moment:%m%dT%H%M%S.%fZ}"


def _entry(stored: StoredImage) -> str:
    return f"{_stamp(stored.created_at)}-{stored.id}"


def _to_json(stored: StoredImage) -> bytes:
    values: Mapping[str, Any] = attrs.asdict(
        stored, filter=lambda field, value: field.name != "path" and value is not None
    )
    moment = stored.created_at.isoformat()
    return json.dumps({**values, "created_at": moment}, sort_keys=True).encode()


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        message = f"{moment} has no time zone: add one, as in datetime.now(UTC)."
        raise ValueError(message)
    return moment and moment.astimezone(UTC)


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _remove_old(path: Path, newest: float) -> bool:
    """Remove a file that is old enough, unless another process was quicker."""
    try:
        if path.stat().st_mtime > newest:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _is_sound(path: Path, sha256: str) -> bool:
    data = _read_if_there(path)
    return data is not None and _digest(data) == sha256


def _holds(path: Path, data: bytes) -> bool:
    """Tell whether a file is there already, whole and sound."""
    return _read_if_there(path) == data


def _newest_first(folder: Path) -> Sequence[str]:
    """Name what a folder holds, in falling order; nothing if it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name for entry in entries), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _days(
    index: Path, since: datetime | None, until: datetime | None
) -> Iterator[Path]:
    """Go through the folders of an index that may hold something, newest first."""
    first = _day(since) if since else "0000/00/00"
    last = _day(until) if until else "9999/99/99"

    def may_hold(name: str) -> bool:
        return first[: len(name)] <= name <= last[: len(name)]

    def below(folder: str) -> Iterator[str]:
        names = _newest_first(index / folder)
        return filter(may_hold, (f"{folder}{name}" for name in names))

    for year in below(""):
        for month in below(f"{year}/"):
            for day in below(f"{month}/"):
                yield index / day
