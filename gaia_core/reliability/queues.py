"""A queue that is fair between tenants and lets people go before batches."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from gaia_core.capabilities import Capability

PEOPLE_PER_BATCH_ITEM = 3
"""How many people go before a batch item that waits."""


@attrs.define(eq=False, kw_only=True)
class Waiter:
    """
    One attempt in the queue.

    Attributes:
        tenant: Who waits.
        is_batch: Whether it is an item of a batch.
        capability: What it is going to ask for.
        turn: Done when its turn has come, or will not come.
    """

    tenant: str
    is_batch: bool
    capability: Capability
    turn: asyncio.Future[None]


@attrs.define(eq=False)
class _Lane:
    """Those of one kind: tenants take turns, each with the one waiting longest."""

    _lines: OrderedDict[str, OrderedDict[Waiter, None]] = attrs.field(
        factory=OrderedDict, init=False
    )
    _size: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for line in self._lines.values() for waiter in line)

    def add(self, waiter: Waiter) -> None:
        self._lines.setdefault(waiter.tenant, OrderedDict())[waiter] = None
        self._size += 1

    def discard(self, waiter: Waiter) -> None:
        line = self._lines.get(waiter.tenant)
        if line and waiter in line:
            del line[waiter]
            self._size -= 1
            if not line:
                del self._lines[waiter.tenant]

    def pop(self) -> Waiter:
        tenant, line = self._lines.popitem(last=False)
        waiter, _ = line.popitem(last=False)
        self._size -= 1
        if line:
            self._lines[tenant] = line
        return waiter

    def ahead_of(self, tenant: str) -> int:
        """Tell how many go before one more of a tenant."""
        own = len(self._lines.get(tenant, ()))
        return sum(min(len(line), own + 1) for line in self._lines.values())


@attrs.define(eq=False)
class FairQueue:
    """Who waits for one provider, in the order of their turns."""

    _people: _Lane = attrs.field(factory=_Lane, init=False)
    _batches: _Lane = attrs.field(factory=_Lane, init=False)
    _people_in_a_row: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        """Tell how many wait."""
        return len(self._people) + len(self._batches)

    def __iter__(self) -> Iterator[Waiter]:
        """Give everybody who waits, in no particular order."""
        yield from self._people
        yield from self._batches

    def add(self, waiter: Waiter) -> None:
        """Let one more wait."""
        self._lane(is_batch=waiter.is_batch).add(waiter)

    def discard(self, waiter: Waiter) -> None:
        """Take out one who waits no more, if it is there."""
        self._lane(is_batch=waiter.is_batch).discard(waiter)

    def pop(self) -> Waiter:
        """Take out whoever's turn it is."""
        is_batch = bool(self._batches) and (
            not self._people or self._people_in_a_row >= PEOPLE_PER_BATCH_ITEM
        )
        counts = bool(self._batches) and not is_batch
        self._people_in_a_row = self._people_in_a_row + 1 if counts else 0
        return self._lane(is_batch=is_batch).pop()

    def ahead_of(self, tenant: str, *, is_batch: bool) -> int:
        """Estimate how many go before one more of a tenant."""
        own = self._lane(is_batch=is_batch).ahead_of(tenant)
        if is_batch:
            people = PEOPLE_PER_BATCH_ITEM * (own + 1)
            return own + min(len(self._people), people)
        return own + min(len(self._batches), own // PEOPLE_PER_BATCH_ITEM)

    def _lane(self, *, is_batch: bool) -> _Lane:
        return self._batches if is_batch else self._people
