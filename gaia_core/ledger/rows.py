"""Rows of the tables as values, and values as rows."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any, overload

from sqlalchemy import ColumnElement, Connection, Row, select

from gaia_core.capabilities import Capability
from gaia_core.errors import InvalidRequestError, OutcomeClass
from gaia_core.ledger.operations import IdempotencyKey, Operation, OperationState
from gaia_core.ledger.tables import attempts, images, operations
from gaia_core.responses import Attempt, StoredImage

MOST = 10**15
"""The largest amount that is kept, in micro-dollars: a billion dollars."""

_MICRO = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- amounts and moments ------------------------------------------------------------


@overload
def micros(amount: Decimal) -> int: ...
@overload
def micros(amount: None) -> None: ...
def micros(amount: Decimal | None) -> int | None:
    """Give an amount in whole micro-dollars; a fraction counts as a whole one."""
    if amount is None:
        return None
    if amount >= MOST // _MICRO:
        return MOST
    with localcontext(prec=28):
        return int((amount * _MICRO).to_integral_value(ROUND_CEILING))


@overload
def dollars(amount: int) -> Decimal: ...
@overload
def dollars(amount: None) -> None: ...
def dollars(amount: int | None) -> Decimal | None:
    """Give micro-dollars as US dollars."""
    if amount is None:
        return None
    whole, fraction = divmod(int(amount), _MICRO)
    return Decimal(whole) if not fraction else Decimal(amount) / _MICRO


@overload
def moment(when: datetime) -> int: ...
@overload
def moment(when: None) -> None: ...
def moment(when: datetime | None) -> int | None:
    """Give microseconds since 1970; a moment without a zone is taken as UTC."""
    if when is None:
        return None
    known = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (known - _EPOCH) // timedelta(microseconds=1)


@overload
def instant(number: int) -> datetime: ...
@overload
def instant(number: None) -> None: ...
def instant(number: int | None) -> datetime | None:
    """Give the moment that many microseconds after the start of 1970, in UTC."""
    return None if number is None else _EPOCH + timedelta(microseconds=number)


def now() -> int:
    """Give the present moment in microseconds since 1970."""
    return time.time_ns() // 1_000


def day_of(number: int) -> str:
    """Give the UTC date of a moment, as ``2026-11-22``."""
    return instant(number).strftime("%Y-%m-%d")


# -- text ---------------------------------------------------------------------------


def clean(text: str) -> str:
    """Replace what no database takes as text: NUL, and halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def identifier(text: str, *, name: str) -> str:
    """
    Check a name that is looked up later: it must be kept as it is.

    Raises:
        InvalidRequestError: If no database takes it as text.
    """
    if clean(text) != text:
        message = f"{name} holds characters that are no text: {clean(text)!r}."
        raise InvalidRequestError(message)
    return text


def dump(data: Mapping[str, Any]) -> str:
    """Write plain data as JSON, in ASCII: any text in it survives any database."""
    return json.dumps(dict(data), separators=(",", ":"), default=_plain)


def load(text: str | None) -> dict[str, Any] | None:
    """Read what `dump` wrote."""
    data: dict[str, Any] | None = None if text is None else json.loads(text)
    return data


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


# -- operations ---------------------------------------------------------------------


def values_of(operation: Operation, now: int) -> dict[str, Any]:
    """
    Give the column values of a new operation, which belongs to nobody yet.

    Raises:
        InvalidRequestError: If a name in it is no text.
    """
    created = moment(operation.created_at)
    key = operation.key
    request = operation.request
    return {
        "id": operation.id,
        "capability": str(operation.capability),
        "state": str(operation.state),
        "principal": identifier(operation.principal, name="principal"),
        "user_id": _optional(operation.user_id, name="user_id"),
        "campaign_id": _optional(operation.campaign_id, name="campaign_id"),
        "day": day_of(created),
        "request": None if request is None else dump(request),
        "prompt": _prompt_of(request),
        "fingerprint": operation.fingerprint,
        "key": key and identifier(key.key, name="The idempotency key"),
        "route": key and identifier(key.route, name="The idempotency key's route"),
        "result_key": operation.result_key,
        "batch_id": operation.batch_id,
        "position": operation.position,
        "reserved": micros(operation.reserved_usd),
        "cost": None,
        "images": 0,
        "owner": None,
        "fence": 0,
        "leases": 0,
        "created_at": created,
        "updated_at": now,
        "finished_at": None,
    }


def _prompt_of(request: Mapping[str, Any] | None) -> str | None:
    prompt = (request or {}).get("prompt")
    return clean(prompt) if isinstance(prompt, str) else None


def values_of_attempt(attempt: Attempt) -> dict[str, Any]:
    """Give the column values of how an attempt ended."""
    return {
        "outcome": str(attempt.outcome),
        "cost": micros(attempt.cost_usd),
        "duration_ms": attempt.duration_ms,
        "error": attempt.error and clean(attempt.error),
    }


def values_of_image(
    operation_id: str, place: int, image: StoredImage
) -> dict[str, Any]:
    """Give the column values of a picture, at its place among an operation's."""
    return {
        "operation_id": operation_id,
        "position": place,
        "id": image.id,
        "sha256": image.sha256,
        "media_type": image.media_type,
        "width": image.width,
        "height": image.height,
    }


def read(
    connection: Connection,
    *conditions: ColumnElement[bool],
    order_by: Any = None,
    limit: int | None = None,
) -> list[Operation]:
    """
    Read operations with their attempts and pictures, in three statements.

    Args:
        connection: The transaction.
        conditions: Which ones, as conditions on ``operations``.
        order_by: What they are ordered by: one clause or several.
        limit: At most how many.
    """
    query = select(operations).where(*conditions)
    if order_by is not None:
        clauses = order_by if isinstance(order_by, Iterable) else (order_by,)
        query = query.order_by(*clauses)
    found = connection.execute(query.limit(limit)).all()
    if not found:
        return []
    ids = [row.id for row in found]
    tried, made = attempts_of(connection, ids), _images_of(connection, ids)
    return [_operation(row, tried[row.id], made[row.id]) for row in found]


def attempts_of(
    connection: Connection, ids: Iterable[str]
) -> Mapping[str, list[Attempt]]:
    """Read the attempts of operations, in order."""
    query = select(attempts).where(attempts.c.operation_id.in_(list(ids)))
    found: defaultdict[str, list[Attempt]] = defaultdict(list)
    for row in connection.execute(query.order_by(attempts.c.number)):
        found[row.operation_id].append(_attempt(row))
    return found


def _images_of(connection: Connection, ids: Iterable[str]) -> Mapping[str, list[str]]:
    query = select(images.c.operation_id, images.c.id)
    query = query.where(images.c.operation_id.in_(list(ids)))
    found: defaultdict[str, list[str]] = defaultdict(list)
    for operation_id, image_id in connection.execute(query.order_by(images.c.position)):
        found[operation_id].append(image_id)
    return found


def _attempt(row: Row[Any]) -> Attempt:
    # Until it has ended, what it costs is what it may cost.
    cost = row.price if row.ended_at is None else row.cost
    return Attempt(
        provider=row.provider,
        model=row.model,
        task_id=row.task_id,
        outcome=OutcomeClass(row.outcome),
        duration_ms=row.duration_ms,
        cost_usd=dollars(cost),
        error=row.error,
        reference=row.reference,
    )


def _operation(row: Row[Any], tried: list[Attempt], made: list[str]) -> Operation:
    key = row.key and IdempotencyKey(
        key=row.key, principal=row.principal, route=row.route
    )
    return Operation(
        id=row.id,
        capability=Capability(row.capability),
        state=OperationState(row.state),
        principal=row.principal,
        campaign_id=row.campaign_id,
        user_id=row.user_id,
        request=load(row.request),
        fingerprint=row.fingerprint,
        key=key,
        result_key=row.result_key,
        batch_id=row.batch_id,
        position=row.position,
        reserved_usd=dollars(row.reserved),
        cost_usd=dollars(row.cost),
        attempts=tuple(tried),
        image_ids=tuple(made),
        provider=row.provider,
        model=row.model,
        answer=load(row.answer),
        error_type=row.error_type,
        error=row.error,
        created_at=instant(row.created_at),
        finished_at=instant(row.finished_at),
    )


def _optional(text: str | None, *, name: str) -> str | None:
    return None if text is None else identifier(text, name=name)
