"""What is under way on this server, whose it is, and whether more is taken."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from gaia_core.server.problems import RefusedError

MOST_HELD = 512 * 1024 * 1024
"""Most bytes that all bodies under way may have together."""


@attrs.define(eq=False)
class Traffic:
    """
    Counts the requests under way.

    Attributes:
        closing: Set when the server is about to stop: streams of events end then.
        under_way: How many requests are being served.
        held: How many bytes their bodies may come to.
    """

    closing: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    under_way: int = attrs.field(default=0, init=False)
    held: int = attrs.field(default=0, init=False)
    _of_each: Counter[str] = attrs.field(factory=Counter, init=False)

    @property
    def is_closing(self) -> bool:
        """Whether the server is about to stop."""
        return self.closing.is_set()

    @contextmanager
    def request(self, size: int) -> Iterator[None]:
        """
        Note that a request is being served.

        Args:
            size: How many bytes its body may come to.

        Raises:
            RefusedError: If the bodies of others leave no room for it.
        """
        if size and self.held + size > MOST_HELD:
            raise RefusedError(503, "busy", retry_after=1)
        self.under_way += 1
        self.held += size
        try:
            yield
        finally:
            self.under_way -= 1
            self.held -= size

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
