"""Making again what was not made: which items, and which ones they stand for."""

import uuid
from collections.abc import Collection, Mapping

import attrs

from gaia_core.batches.service import NOT_DONE
from gaia_core.errors import InvalidRequestError
from gaia_core.ledger import (
    Batch,
    BatchBook,
    IdempotencyKey,
    Ledger,
    Operation,
    OperationState,
)

_MARK = "again"


@attrs.frozen(kw_only=True)
class Origins:
    """
    Where the items of a batch come from.

    Attributes:
        total: How many items the first batch has.
        places: Operation to its place there, for a batch that makes others' items
            again.
    """

    total: int
    places: Mapping[str, int] = attrs.field(factory=dict)

    def place(self, item: Operation) -> int:
        """Give the place of an item in the first batch, from 0."""
        return self.places.get(item.id, item.position or 0)


@attrs.frozen(kw_only=True)
class Repeats:
    """
    Follows items through the batches they were made again in.

    An item made again has an identifier that follows from the first one's, so that
    none is made again twice.

    Attributes:
        ledger: Where operations are kept.
        book: Where batches are kept.
    """

    ledger: Ledger
    book: BatchBook

    async def latest(self, item: Operation) -> Operation:
        """Find what an item was made again as, the last time."""
        while (following := await self.ledger.get(again_id(item.id))) is not None:
            item = following
        return item

    async def origins(self, batch: Batch) -> Origins:
        """Tell where the items of a batch come from."""
        source_id = _source(batch)
        source = None if source_id is None else await self.book.get(source_id)
        if source is None:
            return Origins(total=batch.total)
        above, places = await self.origins(source), {}
        async for item in self.book.items(source.id):
            if item.state in NOT_DONE or item.id in above.places:
                own = await self._own(item, batch)
                if own is not None:
                    places[own] = above.place(item)
        return Origins(total=above.total, places=places)

    async def _own(self, item: Operation, batch: Batch) -> str | None:
        """Find what stands for an item in a batch."""
        following: Operation | None = item
        while following is not None and following.batch_id != batch.id:
            following = await self.ledger.get(again_id(following.id))
        return None if following is None else following.id


def again_id(operation_id: str) -> str:
    """Give the identifier under which an item is made again."""
    return uuid.uuid5(uuid.UUID(operation_id), _MARK).hex


def key_of(batch: Batch, first: str) -> IdempotencyKey:
    """Name the batch that makes items of another again, by the first of them."""
    return IdempotencyKey(
        key=f"{_MARK}:{batch.id}:{first}", principal=batch.principal, route="batch"
    )


def name_of(batch: Batch) -> str:
    """Give the name of a batch that makes items of another again."""
    ending = f" ({_MARK})"
    name = batch.name.removesuffix(ending)
    return f"{name}{ending}" if name else ""


def check_states(states: Collection[OperationState | str]) -> frozenset[OperationState]:
    """
    Read which items are to be made again.

    Raises:
        InvalidRequestError: If others are named than can be.
    """
    wanted = frozenset(states) if not isinstance(states, str) else frozenset([states])
    if not wanted or not wanted <= NOT_DONE:
        names = ", ".join(sorted(NOT_DONE))
        message = f"Only items that are {names} can be made again."
        raise InvalidRequestError(message)
    return frozenset(map(OperationState, wanted))


def _source(batch: Batch) -> str | None:
    """Give the batch whose items are made again, or None: it is one of its own."""
    words = batch.key.key.split(":") if batch.key is not None else []
    return words[1] if words[:1] == [_MARK] and len(words) == 3 else None  # noqa: PLR2004  see key_of
