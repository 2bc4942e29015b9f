"""How what came through the door is put on the ledger's terms."""

import time
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from gaia_core.endings import answer_in
from gaia_core.ledger import IdempotencyKey, Operation, Settlement
from gaia_core.records import fingerprint
from gaia_core.requests import Request
from gaia_core.responses import ImageResponse, Response


def timed(response: Response, start: float) -> Response:
    """Say how long this caller waited, not who made it."""
    return attrs.evolve(response, duration_ms=(time.monotonic() - start) * 1_000)


def key_of(
    words: str | None, principal: str, record: Mapping[str, Any]
) -> IdempotencyKey | None:
    """Make a key of the words a caller names a request by, if there are any."""
    if words is None:
        return None
    return IdempotencyKey(key=words, principal=principal, route=record["operation"])


def operation_of(
    request: Request, record: Mapping[str, Any], **facts: Any
) -> Operation:
    """Put a request on the book's terms; it is digested where a key asks for it."""
    return Operation(
        id=uuid.uuid4().hex,
        capability=request.capability,
        campaign_id=request.campaign_id,
        user_id=request.user_id,
        request=record,
        fingerprint=fingerprint(record) if facts["key"] else "",
        **facts,
    )


def settled_as(response: Response) -> Settlement:
    """Settle an item with the answer to an equal one: nothing is paid."""
    return Settlement(
        provider=response.provider,
        model=response.model,
        cost_usd=Decimal(0),
        images=response.images if isinstance(response, ImageResponse) else (),
        answer=answer_in(response),
    )
