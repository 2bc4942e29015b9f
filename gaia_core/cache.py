"""
Answers given again to equal requests.

`ResultCache` is the interface, `LedgerCache` the cache over ledger and image store:
what the ledger has under a result key is an answer as long as its pictures are there
and whole.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import attrs

from gaia_core.calls import words_of
from gaia_core.capabilities import Capability
from gaia_core.errors import StorageError
from gaia_core.ledger import Ledger, Operation, OperationState
from gaia_core.metrics import Metrics, NoMetrics
from gaia_core.observability import get_logger
from gaia_core.responses import (
    DescriptionResponse,
    ImageResponse,
    PromptResponse,
    Response,
    StoredImage,
)
from gaia_core.storage import ImageStorage

MAX_AGE = 600.0
"""How long an answer in memory is used before the ledger is asked again, in seconds."""
SETTLED_NS = 100_000_000
"""How old a change of a file must be for the next one to show in its times, in ns."""

_KINDS: Mapping[Capability, tuple[type[Response], str]] = {
    Capability.PROMPT_ENHANCEMENT: (PromptResponse, "prompt"),
    Capability.IMAGE_DESCRIPTION: (DescriptionResponse, "description"),
}


class ResultCache(Protocol):
    """Consulted by the engine before a request costs anything."""

    async def find(self, key: str) -> Response | None:
        """
        Give the kept answer to an equal request, or None.

        Args:
            key: What equal requests have in common: see `records.result_key`.
        """

    async def keep(self, key: str, response: Response) -> None:
        """Keep an answer for the next equal request."""


class NoCache:
    """Keeps nothing: every request is served anew."""

    async def find(self, key: str) -> Response | None:  # noqa: ARG002  the interface
        """Find nothing."""
        return None

    async def keep(self, key: str, response: Response) -> None:
        """Keep nothing."""


@attrs.frozen
class _Stamp:
    """
    What changes when a file does.

    Beside its length and when it was written that is when anything about it was
    changed, which nobody can set, and which file it is.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path) -> "_Stamp | None":
        """Look at a file; None if there is none, as in a store elsewhere."""
        try:
            found = os.stat(path)  # noqa: PTH116  a third faster, and once per hit
        except (OSError, ValueError):
            return None
        return cls(
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
            found.st_dev,
        )


@attrs.define(eq=False)
class _Answer:
    """An answer in memory, and what its files looked like when they were whole."""

    response: Response
    stamps: tuple[tuple[Path, _Stamp], ...] | None = None

    def is_whole(self) -> bool:
        """
        Tell whether no file has changed since its digest was checked.

        Asked on the event loop: a few microseconds each, a hundredth of a thread's.
        """
        return self.stamps is not None and all(
            _Stamp.of(path) == stamp for path, stamp in self.stamps
        )


@attrs.define(eq=False)
class LedgerCache:
    """
    Finds answers in the ledger, and the latest of them in memory.

    No answer is given whose pictures are not whole: a file is checked against its
    digest, or has not changed since it was. Where it is missing or damaged, the
    ledger forgets the answer, and the request is served anew.

    Attributes:
        max_in_memory: How many answers are kept in memory; the one unused longest
            goes first.
    """

    _ledger: Ledger
    _storage: ImageStorage
    max_in_memory: int = attrs.field(default=1_024, kw_only=True)
    _metrics: Metrics = attrs.field(factory=NoMetrics, kw_only=True)
    _clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    _held: MutableMapping[str, _Answer] = attrs.field(init=False)

    @_held.default
    def _make_memory(self) -> MutableMapping[str, _Answer]:
        from cachetools import TTLCache  # noqa: PLC0415 - not every command needs it

        return TTLCache(self.max_in_memory, MAX_AGE, timer=self._clock)

    async def find(self, key: str) -> Response | None:
        """Give the kept answer to an equal request, its pictures whole, or None."""
        answer = self._held.get(key)
        if answer is not None and answer.is_whole():
            return self._hit(answer)
        answer = answer or await self._recorded(key)
        if answer is None:
            return None
        try:
            answer.stamps = await _checked(answer.response, self._storage)
        except StorageError as error:
            await self._forget(key, answer.response.operation_id, error)
            return None
        self._hold(key, answer)
        return self._hit(answer)

    async def keep(self, key: str, response: Response) -> None:
        """
        Keep an answer in memory; the ledger has it since it was settled.

        Its files are checked when it is first found.
        """
        self._hold(key, _Answer(_free_of_charge(response)))

    async def _recorded(self, key: str) -> _Answer | None:
        """Read an answer from the ledger."""
        operation = await self._ledger.find_result(key)
        if operation is None:
            self._metrics.count("gaia_cache_total", result="miss")
            return None
        try:
            return _Answer(_free_of_charge(await _told(operation, self._storage)))
        except StorageError as error:
            await self._forget(key, operation.id, error)
            return None

    async def _forget(self, key: str, operation_id: str, error: StorageError) -> None:
        """Let the next equal request be made anew, and say why."""
        self._held.pop(key, None)
        self._metrics.count("gaia_cache_total", result="damaged")
        get_logger().warning(
            "gaia.cache_damaged", operation_id=operation_id, error=words_of(error)
        )
        await self._ledger.forget_result(key, operation_id)

    def _hold(self, key: str, answer: _Answer) -> None:
        if self.max_in_memory and self._held.get(key) is not answer:
            self._held[key] = answer

    def _hit(self, answer: _Answer) -> Response:
        self._metrics.count("gaia_cache_total", result="hit")
        return answer.response


async def rebuilt(
    operation: Operation, storage: ImageStorage, *, is_verified: bool
) -> Response | None:
    """
    Give the response of an operation that is done once more.

    It is as it was, cost and attempts included, with ``is_reused``.

    Args:
        operation: The operation, as the ledger has it.
        storage: Where its pictures are kept.
        is_verified: Whether each picture is read and checked against its digest.

    Returns:
        The response, or None: the operation is not done, or a picture of it is
        missing or damaged.
    """
    try:
        response = await _told(operation, storage)
        if is_verified:
            await _checked(response, storage)
    except StorageError:
        return None
    return response


async def _told(operation: Operation, storage: ImageStorage) -> Response:
    """
    Put a response together from what is on record.

    Raises:
        StorageError: If something of it is missing.
    """
    kind, name = _KINDS.get(operation.capability, (ImageResponse, "images"))
    answer = operation.answer or {}
    content = answer.get(name)
    if kind is ImageResponse:
        content = await _stored(operation.image_ids, storage)
    if operation.state is not OperationState.DONE or not content:
        message = f"The answer of operation {operation.id} is not on record."
        raise StorageError(message)
    facts: dict[str, Any] = {
        name: content,
        "operation_id": operation.id,
        "provider": operation.provider,
        "model": operation.model,
        "attempts": operation.attempts,
        "cost_usd": operation.cost_usd,
        "warnings": tuple(answer.get("warnings", ())),
        "duration_ms": answer.get("duration_ms", 0.0),
        "is_reused": True,
    }
    return kind(**facts)


async def _stored(
    image_ids: Iterable[str], storage: ImageStorage
) -> tuple[StoredImage, ...]:
    """Look pictures up; raise `StorageError` where one is gone."""
    images = []
    for image_id in image_ids:
        image = await storage.get(image_id)
        if image is None:
            message = f"Picture {image_id} is missing in the image store."
            raise StorageError(message)
        images.append(image)
    return tuple(images)


async def _checked(
    response: Response, storage: ImageStorage
) -> tuple[tuple[Path, _Stamp], ...] | None:
    """
    Check the pictures of a response against their digests.

    Returns:
        What tells from now on that a file is still the same; None where nothing
        does, so that it must be read each time.

    Raises:
        StorageError: If one is missing or damaged.
    """
    images = response.images if isinstance(response, ImageResponse) else ()
    stamps = []
    for image in images:
        before = _Stamp.of(image.path)
        start = time.time_ns()
        await storage.read(image.id)
        if before is not None and _is_telling(before, image.path, start):
            stamps.append((image.path, before))
    return tuple(stamps) if len(stamps) == len(images) else None


def _is_telling(stamp: _Stamp, path: Path, moment: int) -> bool:
    """
    Tell whether a change of the file would show.

    Not while it was read, and not right after the last one: the clock of a file
    system ticks a few hundred times a second only.
    """
    latest = max(stamp.mtime_ns, stamp.ctime_ns)
    return latest < moment - SETTLED_NS and stamp == _Stamp.of(path)


def _free_of_charge(response: Response) -> Response:
    """Say that nothing was made for whoever gets this answer, and nothing paid."""
    return attrs.evolve(response, is_reused=True, cost_usd=Decimal(0), attempts=())
