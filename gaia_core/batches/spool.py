"""A batch on its way into the ledger: written down piece by piece."""

import json
import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import IO, Any

import attrs

from gaia_core.batches.reading import request_of
from gaia_core.capabilities import Capability
from gaia_core.errors import InvalidRequestError, StorageError
from gaia_core.images import Image
from gaia_core.ledger import Operation, OperationState
from gaia_core.records import fingerprint, pictures_of, to_record
from gaia_core.requests import Request
from gaia_core.storage import ImageStorage

MAX_IN_MEMORY = 1_048_576
"""How many bytes of a batch wait in memory; what is more waits in a file."""
MAX_KNOWN = 1_024
"""How many pictures are known to be kept already."""


def _file() -> IO[str]:
    # It stays open until `Spool.close`.
    return tempfile.SpooledTemporaryFile(
        MAX_IN_MEMORY, "w+", encoding="utf-8", newline="\n"
    )


@attrs.define(eq=False, kw_only=True)
class Spool:
    """
    Takes requests one at a time and gives them back as items of a batch.

    It holds no request in memory, however many there are. Going through it a second
    time gives the same items.

    Attributes:
        batch_id: The batch they become items of.
        principal: Who asks.
        storage: Where the pictures they bring along are kept.
        prepare: What middleware makes of a request.
        estimate: What to hold for a request.
    """

    batch_id: str
    principal: str
    storage: ImageStorage
    prepare: Callable[[Request], Request]
    estimate: Callable[[Request], Decimal]
    _file: IO[str] = attrs.field(factory=_file, init=False)
    _known: OrderedDict[str, None] = attrs.field(factory=OrderedDict, init=False)

    async def add(self, request: Request) -> None:
        """Write a request down, and keep the pictures it brings along."""
        prepared = self.prepare(request)
        for picture in pictures_of(prepared):
            await self._keep(picture)
        self._write(
            id=uuid.uuid4().hex,
            capability=str(prepared.capability),
            campaign_id=prepared.campaign_id,
            user_id=prepared.user_id,
            request=to_record(prepared),
            # What was asked for: middleware need not change it alike each time.
            fingerprint=fingerprint(request),
            reserved_usd=str(self.estimate(prepared)),
        )

    async def repeat(self, item: Operation, operation_id: str) -> None:
        """Write an item of another batch down, under an identifier of its own."""
        try:
            reserved_usd = self.estimate(await request_of(item, self.storage))
        except (InvalidRequestError, StorageError):
            # It will say so itself when it is its turn.
            reserved_usd = Decimal(0)
        self._write(
            id=operation_id,
            capability=str(item.capability),
            campaign_id=item.campaign_id,
            user_id=item.user_id,
            request=item.request,
            fingerprint=item.fingerprint,
            reserved_usd=str(reserved_usd),
        )

    def _write(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def __iter__(self) -> Iterator[Operation]:
        """Go through the items in order."""
        self._file.seek(0)
        for position, line in enumerate(self._file):
            yield self._item(position, json.loads(line))

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def _item(self, position: int, entry: Mapping[str, Any]) -> Operation:
        known = {
            **entry,
            "capability": Capability(entry["capability"]),
            "reserved_usd": Decimal(entry["reserved_usd"]),
        }
        return Operation(
            state=OperationState.QUEUED,
            principal=self.principal,
            batch_id=self.batch_id,
            position=position,
            **known,
        )

    async def _keep(self, picture: Image) -> None:
        """Keep a picture, unless it was kept a moment ago."""
        digest = picture.sha256
        if digest not in self._known:
            await self.storage.put_input(picture)
        self._known[digest] = None
        self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
