"""One SDK client: it sends a task once, and says what became of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core import ProviderError
from gaia_runware.addresses import Address
from gaia_runware.errors import connecting_failed
from gaia_runware.traffic import Traffic
from gaia_runware.watching import (
    CONNECT_SECONDS,
    WatchedSocket,
    asked,
    open_session,
    open_socket,
)

if TYPE_CHECKING:
    import aiohttp
    import runware

Payload = Mapping[str, Any]

_AUTH_MILLISECONDS = 10_000
# Longer than anybody waits here: every call has a limit of its own around it.
_MILLISECONDS = 24 * 60 * 60 * 1_000

_UTILITIES = {
    "getResponse": "get_response",
    "getTaskDetails": "get_task_details",
    "modelSearch": "model_search",
}


@attrs.define(eq=False, kw_only=True)
class Client:
    """
    A client of the SDK on one event loop.

    Its reconnecting is off: the SDK would send again what it had sent, where nobody
    knows what became of it. A client that has lost its connection is given up.

    Attributes:
        address: Where the vendor is.
        busy: How many wait for an answer.
    """

    address: Address
    busy: int = 0
    _sdk: "runware.Runware | None" = attrs.field(default=None, init=False)
    _session: "aiohttp.ClientSession | None" = attrs.field(default=None, init=False)
    _socket: WatchedSocket | None = attrs.field(default=None, init=False)
    _tasks: dict[str, Traffic] = attrs.field(factory=dict, init=False)
    _opening: "asyncio.Task[ProviderError | None] | None" = attrs.field(
        default=None, init=False
    )
    _is_closed: bool = attrs.field(default=False, init=False)

    @property
    def is_lost(self) -> bool:
        """Whether it can be of no more use."""
        if self._is_closed:
            return True
        if self._opening is None or not self._opening.done():
            return False
        return self._sdk is None or not self._sdk.is_connected

    async def ready(self) -> None:
        """
        Connect, unless it is connected; however many wait, it connects once.

        Raises:
            ProviderError: If it cannot; nothing was sent.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        failure = await asyncio.shield(self._opening)
        if failure is not None:
            # Everybody who waits gets an error of his own.
            raise type(failure)(str(failure), retry_after=failure.retry_after)

    async def ask(self, payload: Payload, traffic: Traffic) -> None:
        """
        Send a task once and wait for what it comes to.

        Args:
            payload: The task object.
            traffic: Where results and errors are noted, as they come.

        Raises:
            Exception: Whatever the SDK raises; `errors` knows what it means.
        """
        from runware import RunOptions  # noqa: PLC0415  slow

        sdk = self._sdk
        if sdk is None:
            message = "the client is not connected"
            raise ConnectionError(message)
        options = RunOptions(on_result=traffic.take, timeout=_MILLISECONDS)
        with self._listening(traffic):
            utility = _UTILITIES.get(payload["taskType"])
            if utility is None:
                items = await sdk.run(dict(payload), options)
            else:
                items = await getattr(sdk, utility)(dict(payload), options)
        for item in items:
            traffic.take(item)

    async def close(self) -> None:
        """Close it; who still waits is told that the connection was lost."""
        self._is_closed = True
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        await self._let_go()

    # -- inside -----------------------------------------------------------------------

    async def _open(self) -> ProviderError | None:
        """Connect; give back why not."""
        error: BaseException
        try:
            # It imports for half a second, and others want to work meanwhile.
            await asyncio.to_thread(_import_sdk)
            async with asyncio.timeout(CONNECT_SECONDS):
                self._sdk = self._new_sdk()
                await self._sdk.connect()
        except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001  whatever it is, nothing was sent
            error = caught
        else:
            return None
        login_error = None if self._socket is None else self._socket.login_error
        await self._let_go()
        return connecting_failed(error, login_error)

    def _new_sdk(self) -> "runware.Runware":
        import runware  # noqa: PLC0415  slow

        is_socket = self.address.is_socket
        self._session = None if is_socket else open_session()
        return runware.Runware(
            api_key=self.address.key.reveal(),
            transport="websocket" if is_socket else "rest",
            ws_base_url=self.address.socket,
            http_base_url=self.address.http,
            timeout=_MILLISECONDS,
            poll_timeout=_MILLISECONDS,
            auth_timeout=_AUTH_MILLISECONDS,
            max_retries=0,
            max_reconnect_attempts=0,
            debug=False,
            validate=False,
            user_agent_prefix="gaia-runware",
            dependencies=runware.RuntimeDependencies(
                session=self._session, ws_connect=self._connected
            ),
        )

    async def _connected(self, url: str) -> Any:
        self._socket = await open_socket(url, self._tasks)
        return self._socket

    async def _let_go(self) -> None:
        sdk, self._sdk = self._sdk, None
        session, self._session = self._session, None
        if sdk is not None:
            await sdk.close()
        if session is not None:
            await session.close()

    @contextmanager
    def _listening(self, traffic: Traffic) -> Iterator[None]:
        """Note what passes about a task, on the socket and over HTTP."""
        self._tasks[traffic.task_id] = traffic
        token = asked.set(traffic)
        try:
            yield
        finally:
            asked.reset(token)
            self._tasks.pop(traffic.task_id, None)


def _import_sdk() -> None:
    import runware  # noqa: F401, PLC0415  slow
    import websockets.asyncio.client  # noqa: F401, PLC0415  slow


Opener = Callable[[], Client]
"""Makes a client that is not connected yet."""
