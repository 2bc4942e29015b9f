"""One operation as the ledger has it: ``gaia usage --operation``."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import attrs

from gaia_core import Gaia
from gaia_core.cli.batch_outputs import number_of, words_of
from gaia_core.cli.shapes import shape_amount, shape_attempt, shape_image
from gaia_core.cli.tables import clean, plain_lines
from gaia_core.cli.writing import print_json, print_line
from gaia_core.errors import LedgerError
from gaia_core.ledger import Operation, OperationState
from gaia_core.responses import Attempt, StoredImage

_OPEN = {
    OperationState.ACCEPTED: "nothing was sent yet",
    OperationState.QUEUED: "it waits its turn in its batch",
    OperationState.LEASED: "its batch is about to send it",
    OperationState.SENT: (
        "it is under way; where its process is gone, Gaia looks into it by itself"
    ),
    OperationState.RECEIVED: (
        "it is made and paid; Gaia stores the pictures by itself as soon as it can"
    ),
}
"""What to know about an operation that has not ended."""


@attrs.frozen(kw_only=True)
class Record:
    """
    An operation, and the pictures it made.

    Attributes:
        operation: The operation.
        images: Identifier of each picture to the picture, or None: it is gone.
    """

    operation: Operation
    images: Mapping[str, StoredImage | None]

    @classmethod
    async def find(cls, gaia: Gaia, operation_id: str) -> Self:
        """
        Look an operation up.

        Raises:
            LedgerError: If the ledger does not know it.
        """
        found = await gaia.operation(operation_id.strip())
        if found is None:
            message = (
                f"There is no operation {clean(operation_id)!r} in this ledger. Give "
                "its whole identifier; `gaia config show` tells which ledger it is."
            )
            raise LedgerError(message)
        images = {key: await _image(gaia, key) for key in found.image_ids}
        return cls(operation=found, images=images)

    def show(self, *, is_json: bool) -> None:
        """Print it."""
        if is_json:
            print_json(self._shape())
            return
        for line in self._lines():
            print_line(clean(line))

    # -- for a person -------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        operation = self.operation
        yield f"Operation {operation.id}: {operation.state}"
        facts = [(f"  {name}", value) for name, value in self._facts() if value]
        yield from plain_lines(facts)
        for number, attempt in enumerate(operation.attempts, start=1):
            yield from _attempt_lines(number, attempt)
        yield from ("", f"next: {next_step(operation) or 'nothing is open'}")

    def _facts(self) -> Iterator[tuple[str, str | None]]:
        one = self.operation
        yield "capability", one.capability.value
        yield "campaign", one.campaign_id
        yield "user", one.user_id
        yield "batch", _place(one)
        yield "accepted", _when(one.created_at)
        yield "ended", _when(one.finished_at)
        yield "served by", one.provider and f"{one.provider}/{one.model}"
        yield "cost", _dollars(one.cost_usd)
        yield "held", _dollars(one.reserved_usd)
        for key, image in self.images.items():
            yield "picture", str(image.path) if image else f"{key} is gone"
        yield "words", words_of(one)
        yield "error", one.error

    # -- for a program ------------------------------------------------------------

    def _shape(self) -> dict[str, Any]:
        one, ended = self.operation, self.operation.finished_at
        return {
            "operation_id": one.id,
            "capability": one.capability.value,
            "state": one.state.value,
            "campaign": one.campaign_id,
            "user": one.user_id,
            "batch_id": one.batch_id,
            "line": None if one.batch_id is None else number_of(one),
            "created_at": one.created_at.isoformat(),
            "finished_at": None if ended is None else ended.isoformat(),
            "provider": one.provider,
            "model": one.model,
            "attempts": [shape_attempt(attempt) for attempt in one.attempts],
            "cost_usd": shape_amount(one.cost_usd),
            "held_usd": shape_amount(one.reserved_usd),
            "images": [_shape_image(*item) for item in self.images.items()],
            "words": words_of(one),
            "error_type": one.error_type,
            "error": one.error,
            "next_step": next_step(one),
        }


async def _image(gaia: Gaia, image_id: str) -> StoredImage | None:
    found = await gaia.storage.get(image_id)
    return found if found is not None and found.path.exists() else None


def next_step(operation: Operation) -> str | None:
    """Say what to do about an operation, or None: nothing."""
    state = operation.state
    if state is OperationState.UNKNOWN:
        return _advice(operation.attempts, operation.reserved_usd)
    if state not in _OPEN:
        return None
    if operation.batch_id is not None and state is not OperationState.SENT:
        return f"{_OPEN[state]}; `gaia batch resume {operation.batch_id}` goes on"
    return _OPEN[state]


def _advice(attempts: Sequence[Attempt], held: Decimal) -> str:
    """Say whom to ask what, and what becomes of the money."""
    who = "the provider"
    if attempts:
        latest = attempts[-1]
        part = f" of {latest.reference}" if latest.reference else ""
        who = f"{latest.provider} about task {latest.task_id}{part}"
    rest = "; after 24 hours, what is held counts as spent" if held else ""
    return f"ask {who}; if it was never made, ask again{rest}"


def show_dollars(value: Decimal) -> str:
    """
    Show a sum of US dollars, cents at least.

    >>> show_dollars(Decimal(0)), show_dollars(Decimal("0.003800"))
    ('$0.00', '$0.0038')
    """
    whole, _, rest = f"{value:f}".partition(".")
    return f"${whole}.{rest.rstrip('0').ljust(2, '0')}"


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _dollars(value: Decimal | None) -> str:
    return "not known" if value is None else show_dollars(value)


def _place(operation: Operation) -> str | None:
    if operation.batch_id is None:
        return None
    return f"{operation.batch_id}, line {number_of(operation)}"


def _attempt_lines(number: int, attempt: Attempt) -> list[str]:
    who = f"{attempt.provider}/{attempt.model}"
    seconds = f"{attempt.duration_ms / 1_000:.1f} s"
    facts = f"{who}, {attempt.outcome}, {_dollars(attempt.cost_usd)}, {seconds}"
    lines = [f"  attempt {number}: {facts}", f"    task {attempt.task_id}"]
    if attempt.reference:
        lines.append(f"    reference {attempt.reference}")
    return [*lines, f"    {attempt.error}"] if attempt.error else lines


def _shape_image(key: str, image: StoredImage | None) -> dict[str, Any]:
    return {"id": key, "path": None} if image is None else shape_image(image)
