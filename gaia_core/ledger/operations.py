"""What the ledger keeps of one request."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import InvalidRequestError
from gaia_core.responses import Attempt, StoredImage

MAX_KEY_BYTES = 255
"""Longest idempotency key, in bytes."""


class OperationState(StrEnum):
    """Where an operation stands."""

    ACCEPTED = "accepted"
    """Taken on; nothing was sent."""
    QUEUED = "queued"
    """An item of a batch that waits for a worker."""
    LEASED = "leased"
    """An item of a batch that a worker has taken; nothing was sent."""
    SENT = "sent"
    """An attempt is under way: it may have been charged."""
    RECEIVED = "received"
    """Made and paid; the pictures wait in the spill folder to be stored."""
    DONE = "done"
    """Made, stored and settled."""
    FAILED = "failed"
    """Ended without a picture and without an open question about money."""
    CANCELLED = "cancelled"
    """Called off before it cost anything."""
    UNKNOWN = "unknown"
    """The answer was lost: it may have been charged, and the money is held."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended; an unknown outcome may still be settled."""
        return self in _FINAL


_FINAL = frozenset(
    {
        OperationState.DONE,
        OperationState.FAILED,
        OperationState.CANCELLED,
        OperationState.UNKNOWN,
    }
)


def _now() -> datetime:
    return datetime.now(UTC)


def _check_key(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str):
        message = f"An idempotency key is a text, not {type(value).__name__}."
        raise InvalidRequestError(message)
    if not value or len(value.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        message = f"An idempotency key has 1 to {MAX_KEY_BYTES} bytes."
        raise InvalidRequestError(message)


@attrs.frozen(kw_only=True)
class IdempotencyKey:
    """
    What a caller names a request by, so that a repetition is recognised.

    Attributes:
        key: The caller's own words, 1 to 255 bytes.
        principal: Who says them; keys of others are other keys.
        route: What for (``generate``, ``upscale``, ``batch``, …).

    Raises:
        InvalidRequestError: If the key is empty or too long.
    """

    key: str = attrs.field(validator=_check_key)
    principal: str = ""
    route: str = ""


@attrs.frozen(kw_only=True)
class Operation:
    """
    One logical request: one identifier, one bill.

    Attributes:
        id: 128 random bits in hexadecimal.
        capability: What was asked for.
        state: Where it stands.
        principal: Who asked, as the host knows them; empty: nobody said.
        campaign_id: The campaign it is paid under, if any.
        user_id: The user it is paid under, if any.
        request: What was asked for, as `gaia_core.records.to_record` writes it.
        fingerprint: Digest of the request, its pictures' contents included; empty
            where no key asks for it.
        key: The idempotency key it was asked under, if any.
        result_key: What equal requests have in common; None: it is not shared.
        batch_id: The batch it is an item of, if any.
        position: Its place in that batch, from 0.
        reserved_usd: What is held for it.
        cost_usd: What it cost, as far as known.
        attempts: Every try, in order.
        image_ids: The stored pictures it made.
        provider: Who served it, once it is done.
        model: The model that served it, once it is done.
        answer: What the response said beside its pictures: ``warnings``,
            ``duration_ms``, and ``prompt`` or ``description``.
        error_type: The class of the error that ended it, or None.
        error: Why it failed, or None.
        created_at: When it was taken on, in UTC.
        finished_at: When it ended, in UTC, or None.
    """

    id: str
    capability: Capability
    state: OperationState = OperationState.ACCEPTED
    principal: str = ""
    campaign_id: str | None = None
    user_id: str | None = None
    request: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    fingerprint: str = ""
    key: IdempotencyKey | None = None
    result_key: str | None = None
    batch_id: str | None = None
    position: int | None = None
    reserved_usd: Decimal = Decimal(0)
    cost_usd: Decimal | None = None
    attempts: tuple[Attempt, ...] = ()
    image_ids: tuple[str, ...] = ()
    provider: str | None = None
    model: str | None = None
    answer: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    error_type: str | None = None
    error: str | None = None
    created_at: datetime = attrs.field(factory=_now)
    finished_at: datetime | None = None

    def needs(self, attempt: Attempt) -> Decimal:
        """
        Tell what must be held once an attempt is sent.

        That is what the tasks before it cost, or may have cost, and its own price.
        """
        needed = cost_of_tasks((*self.attempts, attempt))
        return max(self.reserved_usd, needed)

    @property
    def spent_usd(self) -> Decimal:
        """What its attempts are known to have cost, each task once."""
        return cost_of_tasks(self.attempts)


def with_ended(
    attempts: Sequence[Attempt], ended: Attempt | None
) -> tuple[Attempt, ...]:
    """Put an attempt, as it ended, in the place of the latest one of its task."""
    for place in reversed(range(len(attempts))):
        if ended is not None and attempts[place].task_id == ended.task_id:
            reference = ended.reference or attempts[place].reference
            ended = attrs.evolve(ended, reference=reference)
            return (*attempts[:place], ended, *attempts[place + 1 :])
    return tuple(attempts)


def cost_of_tasks(attempts: Iterable[Attempt]) -> Decimal:
    """Add up what tasks are known to cost, however often each was sent."""
    costs = {one.task_id: one.cost_usd for one in attempts if one.cost_usd}
    return sum(filter(None, costs.values()), Decimal(0))


@attrs.frozen(kw_only=True)
class Settlement:
    """
    How an operation succeeded.

    Attributes:
        provider: Who served it.
        model: The model that served it.
        cost_usd: What it cost in all; None: unknown, so what is held is spent.
        images: The stored pictures.
        answer: As `Operation.answer`.
        attempt: The attempt that served it, as it ended; it takes the place of the
            latest one of its task. None: the attempts are on record as they are.
        result_key: What equal requests find the answer by from now on; None: as it
            was accepted.
    """

    provider: str
    model: str
    cost_usd: Decimal | None
    images: tuple[StoredImage, ...] = ()
    answer: Mapping[str, Any] = attrs.field(factory=dict)
    attempt: Attempt | None = None
    result_key: str | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """
    How an operation ended without an answer.

    Attributes:
        state: ``FAILED``, ``CANCELLED`` or ``UNKNOWN``.
        error_type: The class of the error.
        error: Why, in words that hold no secret.
        is_final: Whether the same idempotency key gives the same failure again;
            False where nothing was charged and it may be tried anew.
        cost_usd: What it cost all the same, where that is known better than by its
            attempts on record.
    """

    state: OperationState
    error_type: str
    error: str
    is_final: bool = True
    cost_usd: Decimal | None = None
