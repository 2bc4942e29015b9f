"""
Items of batches that need no place among those under way: somebody else has them.

An item that waits for company, or for a vendor's batch that takes a day, does
nothing meanwhile. Whoever works on a few items at a time takes further ones for it.
"""

from collections.abc import Callable

import attrs

Told = Callable[[bool], None]
"""Takes whether an item has left its place; False: it has taken one again."""


@attrs.define(eq=False)
class Places:
    """Who has left a place, and who is to hear of it."""

    _left: dict[str, bool] = attrs.field(factory=dict, init=False)
    _told: dict[str, Told] = attrs.field(factory=dict, init=False)

    def watch(self, operation_id: str, told: Told) -> None:
        """Tell somebody when an item leaves its place, and when it takes one again."""
        self._told[operation_id] = told

    def unwatch(self, operation_id: str) -> None:
        """Tell nobody any more."""
        self._told.pop(operation_id, None)

    def leave(self, operation_id: str, *, is_sent: bool = False) -> None:
        """
        Note that an item needs no place for now.

        Args:
            operation_id: The item.
            is_sent: Whether a vendor has it: then it may have been charged.
        """
        was_left = operation_id in self._left
        self._left[operation_id] = is_sent
        if not was_left:
            self._tell(operation_id, has_left=True)

    def take(self, operation_id: str) -> None:
        """Note that an item goes on."""
        if self._left.pop(operation_id, None) is not None:
            self._tell(operation_id, has_left=False)

    def is_left(self, operation_id: str) -> bool:
        """Tell whether an item needs no place for now."""
        return operation_id in self._left

    def is_sent(self, operation_id: str) -> bool:
        """Tell whether a vendor has an item that needs no place."""
        return self._left.get(operation_id, False)

    def _tell(self, operation_id: str, *, has_left: bool) -> None:
        told = self._told.get(operation_id)
        if told is not None:
            told(has_left)
