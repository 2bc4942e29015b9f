"""Some clients per event loop, opened when needed and given up when lost."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import attrs

from gaia_core import ProviderConnectionError
from gaia_runware.clients import Client, Opener

Loop = asyncio.AbstractEventLoop


@attrs.define(eq=False, kw_only=True)
class Pool:
    """
    Clients to share.

    Sockets belong to the event loop they were opened on, and so do clients. A lost
    connection fails what was on it; the next who asks gets a new one.

    Attributes:
        open: Makes a client.
        size: The most clients on one event loop.
    """

    open: Opener
    size: int
    _clients: dict[Loop, list[Client]] = attrs.field(factory=dict, init=False)
    _closing: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """
        Lend the least busy client, connected.

        Raises:
            ProviderError: If it cannot be connected; nothing was sent.
        """
        if self._is_closed:
            message = "The connections to Runware are closed."
            raise ProviderConnectionError(message)
        client = self._least_busy()
        client.busy += 1
        try:
            await client.ready()
            yield client
        finally:
            client.busy -= 1
            if client.is_lost and not client.busy:
                self._give_up(client)

    async def close(self) -> None:
        """Close every client, on whatever event loop it is; none is lent any more."""
        self._is_closed = True
        clients, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        await asyncio.gather(
            *(
                _closed(loop, here, _close_all(some))
                for loop, some in clients.items()
                if not loop.is_closed()
            ),
            *(task for task in tuple(self._closing) if task.get_loop() is here),
        )

    def _least_busy(self) -> Client:
        """Choose one of this loop's clients; another is opened if all have work."""
        self._forget_closed_loops()
        own = self._clients.setdefault(asyncio.get_running_loop(), [])
        for client in [one for one in own if one.is_lost and not one.busy]:
            self._give_up(client)
        able = [client for client in own if not client.is_lost]
        if len(able) < self.size and all(client.busy for client in able):
            own.append(self.open())
            return own[-1]
        return min(able, key=lambda client: client.busy)

    def _give_up(self, client: Client) -> None:
        """Close a client that is lost, without keeping anybody waiting."""
        own = self._clients.get(asyncio.get_running_loop(), [])
        if client in own:
            own.remove(client)
        task = asyncio.ensure_future(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget_closed_loops(self) -> None:
        # Other threads do so, too, and open clients meanwhile.
        for loop in [loop for loop in tuple(self._clients) if loop.is_closed()]:
            self._clients.pop(loop, None)


async def _close_all(clients: list[Client]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def _closed(loop: Loop, here: Loop, work: Coroutine[Any, Any, None]) -> None:
    """Run it on the loop it belongs to; one that stands still cannot be waited for."""
    if loop is here:
        await work
    elif loop.is_running():
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    else:
        work.close()
