"""What the tests of the ledger tell it."""

import itertools
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from gaia_core import Attempt, Capability, OutcomeClass, StoredImage
from gaia_core.ledger import Failure, Ledger, Operation, OperationState, Settlement

PRICE = Decimal("0.04")
DAY = datetime(2026, 11, 22, 12, tzinfo=UTC)

_moments = itertools.count()


def an_operation(**fields: Any) -> Operation:
    """Make an operation of four cents, each a little later than the one before."""
    moment = DAY.replace(microsecond=next(_moments) % 1_000_000)
    defaults = {"reserved_usd": PRICE, "created_at": moment, "fingerprint": "a" * 64}
    return Operation(
        id=uuid.uuid4().hex,
        capability=Capability.TEXT_TO_IMAGE,
        **{**defaults, **fields},
    )


def an_attempt(**fields: Any) -> Attempt:
    """Make an attempt of four cents that has not ended."""
    defaults: dict[str, Any] = {
        "provider": "p",
        "model": "m",
        "task_id": "t",
        "outcome": OutcomeClass.AMBIGUOUS,
        "duration_ms": 0.0,
        "cost_usd": PRICE,
    }
    return Attempt(**{**defaults, **fields})


def ended(attempt: Attempt, **fields: Any) -> Attempt:
    """End an attempt well."""
    defaults = {"outcome": OutcomeClass.OK, "duration_ms": 12.5}
    return attrs.evolve(attempt, **{**defaults, **fields})


def a_picture(operation: Operation, **fields: Any) -> StoredImage:
    """Make a stored picture of an operation."""
    defaults: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "path": Path("picture.png"),
        "media_type": "image/png",
        "width": 64,
        "height": 48,
        "sha256": "0" * 64,
        "created_at": DAY,
        "operation_id": operation.id,
        "provider": "p",
        "model": "m",
    }
    return StoredImage(**{**defaults, **fields})


def settled(**fields: Any) -> Settlement:
    """Say that an operation succeeded for four cents."""
    defaults = {"provider": "p", "model": "m", "cost_usd": PRICE}
    return Settlement(**{**defaults, **fields})


def failed(state: OperationState = OperationState.FAILED, **fields: Any) -> Failure:
    """Say that an operation failed."""
    return Failure(state=state, error_type="ModelError", error="no", **fields)


async def make(ledger: Ledger, cost: str = "0.04", **fields: Any) -> None:
    """Make a picture at its price."""
    price = Decimal(cost)
    operation = an_operation(reserved_usd=price, **fields)
    await ledger.accept(operation)
    attempt = an_attempt(cost_usd=price)
    await ledger.send(operation.id, attempt)
    await ledger.settle(
        operation.id,
        settled(
            cost_usd=price,
            images=(a_picture(operation),),
            attempt=ended(attempt),
        ),
    )
