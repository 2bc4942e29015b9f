"""What the routes under ``/api/images/batch`` take and give."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gaia_core.server.schemas.answers import PictureOut, Usd
from gaia_core.server.schemas.base import Given, Taken
from gaia_core.server.schemas.images import AnyWork

MOST_ITEMS = 1_000
"""Most requests in one batch."""
MOST_CONCURRENT = 16
"""Most items of one batch under way at a time."""

_SPELLINGS = {
    "remove_background": "remove-background",
    "enhance_prompt": "enhance-prompt",
    "describe_image": "describe",
}
"""How batch files name the operations, and how addresses do."""


def _as_addresses_name_it(item: Any) -> Any:
    """Take the operation also as batch files name it."""
    named = item.get("operation") if isinstance(item, dict) else None
    if isinstance(named, str) and named in _SPELLINGS:
        return {**item, "operation": _SPELLINGS[named]}
    return item


Item = Annotated[AnyWork, BeforeValidator(_as_addresses_name_it)]
"""One request of a batch."""


class BatchIn(Taken):
    """
    Many requests at once.

    Attributes:
        requests: The requests; each may name its ``operation``.
        max_concurrent: Most of them under way at a time.
        name: What a person calls the batch.
    """

    requests: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]
    max_concurrent: Annotated[int, Field(ge=1, le=MOST_CONCURRENT)] = 3
    name: Annotated[str, Field(max_length=255)] = ""


class LinksOut(Given):
    """Where more is to be had about a batch."""

    self: str
    events: str


class BatchOut(Given):
    """
    A batch as it stands.

    Attributes:
        total: How many items it has.
        waiting: How many have not ended.
        unknown: How many may have been charged without an answer.
        cost_usd: What it cost so far.
        last_event: The number of its latest event.
    """

    batch_id: str
    name: str
    state: Literal["running", "cancelled", "finished"]
    total: int
    waiting: int
    done: int
    failed: int
    unknown: int
    cancelled: int
    cost_usd: Usd
    last_event: int
    created_at: str
    finished_at: str | None
    links: LinksOut


class BatchItemOut(Given):
    """
    One request of a batch.

    Attributes:
        position: Its place in the batch, from 0.
        error_code: Why it was not made, for programs.
        error: The same for people.
        text: The prompt or the description, where it asked for words.
    """

    position: int
    operation_id: str
    capability: str
    state: str
    provider: str | None
    model: str | None
    cost_usd: Usd | None
    images: list[PictureOut]
    text: str | None
    error_code: str | None
    error: str | None


class BatchWithItemsOut(BatchOut):
    """
    A batch, and some of its items.

    Attributes:
        items: The items of this page.
        next_after: What to ask behind for the next page; null: there is none.
    """

    items: list[BatchItemOut]
    next_after: int | None


class BatchesOut(Given):
    """The caller's latest batches."""

    batches: list[BatchOut]
