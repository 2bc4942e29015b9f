"""What is behind every vendor, whatever it speaks: work, money, and what goes wrong."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import attrs

from gaia_core.catalog import to_decimal
from gaia_core.testing.vendors.charges import Accounts, Arrival, Charge, ChargeBook
from gaia_core.testing.vendors.faults import Fault, Faults

_MOST_BODIES = 64
_BROKEN = b"\x89PNG\r\n\x1a\n but that is all there is"


@attrs.frozen(kw_only=True)
class Job:
    """
    Paid work that somebody asks for.

    Attributes:
        task_id: The identifier the client sent along.
        make: Makes the pictures.
        prompt: What is asked for; nothing where the work takes no prompt.
        seed: The seed that was asked for, or None.
    """

    task_id: str
    make: Callable[[], Sequence[bytes]]
    prompt: str = ""
    seed: int | None = None


@attrs.frozen(kw_only=True)
class Made:
    """
    What a job came to.

    Attributes:
        job: The job.
        images: The pictures.
        cost_usd: What was charged.
    """

    job: Job
    images: tuple[bytes, ...]
    cost_usd: Decimal


@attrs.define(eq=False, kw_only=True)
class Shop(Accounts):
    """
    The business of a vendor, without its door.

    It charges as vendors do: every job that is carried out, also the second one
    with the same task id, unless it promises to tell them apart. A stand-in for a
    vendor subclasses it, and adds what that vendor speaks.

    Attributes:
        price_usd: What each picture costs.
        faults: What goes wrong.
        delay: Seconds the work takes, before it is charged.
        is_idempotent: Whether a task id that was charged is answered with what it
            made, and not charged again.
        has_lookup: Whether a task can be looked up by its id.
        path: A file to keep the book in, too.
        echo: What the message of every error repeats, as vendors do that print the
            key they refuse.
        most_at_once: How many requests for paid work there were at the same time.
        bodies: The latest requests, paid or free, just as they came in.
    """

    price_usd: Decimal = attrs.field(default=Decimal("0.04"), converter=to_decimal)
    faults: Faults = attrs.field(factory=Faults)
    delay: float = 0.0
    is_idempotent: bool = False
    has_lookup: bool = True
    path: Path | None = None
    echo: str = attrs.field(default="", repr=False)
    most_at_once: int = attrs.field(default=0, init=False)
    bodies: deque[bytes] = attrs.field(init=False, repr=False)
    _at_once: int = attrs.field(default=0, init=False, repr=False)
    _book: ChargeBook = attrs.field(init=False, repr=False)
    _made: dict[str, Made] = attrs.field(factory=dict, init=False, repr=False)
    _injected_at: int = attrs.field(default=0, init=False, repr=False)
    _seen: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    _closing: asyncio.Event | None = attrs.field(default=None, init=False, repr=False)

    @bodies.default
    def _no_bodies(self) -> deque[bytes]:
        return deque(maxlen=_MOST_BODIES)

    @_book.default
    def _empty_book(self) -> ChargeBook:
        return ChargeBook(path=self.path)

    @property
    def url(self) -> str:
        """Where it listens: that is for its door to say."""
        raise NotImplementedError

    @property
    def charges(self) -> Sequence[Charge]:
        """Every charge so far, in order."""
        return self._book.charges

    @property
    def arrivals(self) -> Sequence[Arrival]:
        """Every request for paid work so far, in order."""
        return self._book.arrivals

    def inject(self, faults: Faults) -> None:
        """Let other things go wrong from now on; ``Faults()`` heals it."""
        self.faults = faults
        self._seen.clear()
        self._injected_at = self.requests

    # -- for the door -----------------------------------------------------------------

    def open_book(self) -> None:
        """Go on with the book that the file holds."""
        self._book.open()
        self.inject(self.faults)

    def close_book(self) -> None:
        """Close the file."""
        self._book.close()

    def start_work(self) -> None:
        """Begin to take time."""
        self._closing = asyncio.Event()

    def finish_work(self) -> None:
        """Take no more time: what is under way is made and charged at once."""
        if self._closing is not None:
            self._closing.set()

    def arrive(self, job: Job) -> Fault | None:
        """Note a request, and say what goes wrong with it."""
        number = self.requests - self._injected_at
        fault = self.faults.drawn(number, job.prompt, self._seen[job.prompt])
        self._seen[job.prompt] += 1
        self._book.arrive(
            Arrival(task_id=job.task_id, prompt=job.prompt, fault=fault, at=time.time())
        )
        return fault

    async def carry_out(self, job: Job, fault: Fault | None = None) -> Made:
        """
        Do the work and charge it.

        Raises:
            ValueError: If it cannot be done; nothing is charged.
        """
        images = _some_of(job.make(), fault)
        await self.pause(self.delay)
        known = self._made.get(job.task_id)
        if known is not None and self.is_idempotent:
            return known
        cost_usd = self.price_usd * len(images)
        self._book.charge(
            Charge(
                task_id=job.task_id,
                amount_usd=cost_usd,
                prompt=job.prompt,
                at=time.time(),
            )
        )
        made = Made(job=job, images=_spoiled(images, fault), cost_usd=cost_usd)
        self._made[job.task_id] = made
        return made

    def find(self, task_id: str) -> Made | None:
        """Look up what a task came to; None: it was never charged."""
        return self._made.get(task_id)

    def made_for(self, prompt: str) -> list[bytes]:
        """List the pictures that were made, and charged, for a prompt."""
        made = [one for one in self._made.values() if one.job.prompt == prompt]
        return [image for one in made for image in one.images]

    @property
    def at_once(self) -> int:
        """How many requests for paid work there are at this moment."""
        return self._at_once

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Keep count of how much is asked for at the same time."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            self._at_once -= 1

    async def pause(self, seconds: float) -> None:
        """Take time, but no longer than there is work."""
        if seconds <= 0 or self._closing is None:
            return
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return


def _some_of(images: Sequence[bytes], fault: Fault | None) -> Sequence[bytes]:
    """Leave the last picture out, if that is what goes wrong; never the only one."""
    is_partial = fault is Fault.PARTIAL_AFTER and len(images) > 1
    return images[:-1] if is_partial else images


def _spoiled(images: Sequence[bytes], fault: Fault | None) -> tuple[bytes, ...]:
    """Spoil pictures, if that is what goes wrong."""
    if fault is Fault.EMPTY_AFTER:
        return ()
    if fault is Fault.BAD_IMAGE_AFTER:
        return (_BROKEN,) * len(images)
    return tuple(images)
