"""What is under way on this server, whose it is, and whether more is taken."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from gaia_core.server.problems import RefusedError


@attrs.define(eq=False)
class Traffic:
    """
    Counts the requests under way.

    Attributes:
        closing: Set when the server is about to stop: streams of events end then.
        under_way: How many requests are being served.
    """

    closing: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    under_way: int = attrs.field(default=0, init=False)
    _of_each: Counter[str] = attrs.field(factory=Counter, init=False)

    @property
    def is_closing(self) -> bool:
        """Whether the server is about to stop."""
        return self.closing.is_set()

    @contextmanager
    def slot(self, principal: str, most: int) -> Iterator[None]:
        """
        Take one of the places a caller has, and give it back at the end.

        Args:
            principal: The caller's name.
            most: How many places they have.

        Raises:
            RefusedError: If all of them are taken.
        """
        if self._of_each[principal] >= most:
            raise RefusedError(429, "request_limit", retry_after=1)
        self._of_each[principal] += 1
        try:
            yield
        finally:
            self._of_each[principal] -= 1
            if not self._of_each[principal]:
                del self._of_each[principal]
