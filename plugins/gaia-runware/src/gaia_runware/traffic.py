"""What passes between the vendor and us about one task."""

from collections.abc import Mapping
from typing import Any

import attrs

Item = Mapping[str, Any]
"""A result, or an error, as it came."""

CONFLICT = "conflictTaskUUID"
"""The task is known already: it was sent before, and came through."""

# It called what is under way "pending" before "processing" (its documents of 2025).
_ENDED = frozenset({None, "success"})


@attrs.define(eq=False, kw_only=True)
class Traffic:
    """
    What is known of a task that is being asked for.

    Attributes:
        task_id: Its UUID at the vendor.
        is_sent: Whether any of it may have reached the vendor.
        is_polled: Whether it was asked about since: then it is at the vendor.
        results: The results so far, each once.
        errors: What the vendor says went wrong with it.
        is_running: Whether the vendor says that it is at work on it.
        is_unnamed: Whether an error came that names no task: it may mean this one.
        status: The status of an HTTP answer that is no 200.
        retry_after: Seconds the vendor asked to wait.
    """

    task_id: str
    is_sent: bool = False
    is_polled: bool = False
    results: list[Item] = attrs.field(factory=list)
    errors: list[Item] = attrs.field(factory=list)
    is_running: bool = False
    is_unnamed: bool = False
    status: int | None = None
    retry_after: float | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The vendor's words for what went wrong, in order."""
        return tuple(str(error.get("code", "")) for error in self.errors)

    @property
    def is_known(self) -> bool:
        """Whether the vendor had the task already when it was sent."""
        return CONFLICT in self.codes

    def note_sending(self) -> None:
        """Note that something goes out: a task goes once, all that follows asks."""
        self.is_polled = self.is_sent
        self.is_sent = True

    def take(self, item: Item) -> None:
        """Keep a result, or the error of one; the same result comes only once."""
        status = item.get("status")
        if status == "error":
            self.take_error(item.get("error") or item)
        elif status not in _ENDED:
            self.is_running = True
        elif not any(_is_same(item, one) for one in self.results):
            self.results.append(item)

    def take_error(self, error: object) -> None:
        """Keep an error, once; one that names no task may mean any."""
        if not isinstance(error, Mapping):
            return
        if error.get("taskUUID") in (None, self.task_id) and error not in self.errors:
            self.errors.append(error)


def _is_same(one: Item, other: Item) -> bool:
    return one == other or (
        one.get("imageUUID") is not None and one["imageUUID"] == other.get("imageUUID")
    )
