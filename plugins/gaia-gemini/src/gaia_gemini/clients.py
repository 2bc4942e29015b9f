"""Connections to the service: the one place that makes the SDK's client."""

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from google.genai import Client
    from httpx2 import AsyncClient


@attrs.frozen(kw_only=True)
class Access:
    """
    Who asks, and where.

    Attributes:
        timeout: Seconds an answer may take.
        api_key: The key in the clear, or None.
        base_url: Where to ask; None: where the SDK does.
        is_vertex: Whether Vertex AI is asked.
        project: The project on Vertex AI; None: the key names it.
        location: Where on Vertex AI.
    """

    timeout: float
    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None
    is_vertex: bool = False
    project: str | None = None
    location: str = "global"


@attrs.frozen(kw_only=True)
class Connection:
    """
    The SDK's client, and the transport it was given.

    Attributes:
        sdk: The client.
        http: The transport; who made it closes it.
    """

    sdk: "Client"
    http: "AsyncClient"

    async def answer(self, **call: Any) -> bytes:
        """
        Have content generated; give the body of the answer as it came.

        Args:
            call: What the SDK's ``generate_content`` takes.

        Raises:
            Exception: Whatever the SDK and its transport raise.
        """
        from gaia_gemini.transports import bodies_kept  # noqa: PLC0415  as in `connect`

        with bodies_kept() as bodies:
            await self.sdk.aio.models.generate_content(**call)
            # Taken out, because connections keep the context they were opened in.
            return bodies.pop() if bodies else b""

    async def close(self) -> None:
        """Close every socket."""
        await self.sdk.aio.aclose()
        self.sdk.close()
        await self.http.aclose()


def connect(access: Access) -> Connection:
    """
    Make a client that sends whatever it is told exactly once.

    A transport of our own keeps the SDK from its own way through aiohttp, which sends
    a request again when the connection breaks (google-genai 3.4.0, 2026-11). Its
    repetitions are switched off as well.
    """
    # 0.5 s and more, and `gaia models` asks nobody.
    import httpx2  # noqa: PLC0415
    from google import genai  # noqa: PLC0415
    from google.genai import types  # noqa: PLC0415

    from gaia_gemini.transports import OnceTransport  # noqa: PLC0415

    http = httpx2.AsyncClient(transport=OnceTransport(), follow_redirects=False)
    options = types.HttpOptions(
        base_url=access.base_url,
        timeout=max(1, round(access.timeout * 1_000)),
        retry_options=types.HttpRetryOptions(attempts=1),
        httpx_async_client=http,
    )
    account: dict[str, Any] = {"api_key": access.api_key}
    if access.is_vertex and access.project:
        account = {"project": access.project, "location": access.location}
    sdk = genai.Client(vertexai=access.is_vertex, http_options=options, **account)
    return Connection(sdk=sdk, http=http)


@attrs.define(eq=False, kw_only=True)
class Connections:
    """
    One connection for each event loop, made when it is first needed.

    Attributes:
        make: Makes one; it takes long, and runs in a thread.
    """

    make: Callable[[], Connection]
    _held: dict[asyncio.AbstractEventLoop, "asyncio.Future[Connection]"] = attrs.field(
        factory=dict, init=False
    )
    _guard: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    async def get(self) -> Connection:
        """
        Give the connection of the running loop.

        Raises:
            Exception: Whatever making one raises; the next call tries again.
        """
        loop = asyncio.get_running_loop()
        with self._guard:
            self._forget_closed_loops()
            made = self._held.get(loop)
            # Hosts cancel all tasks of a loop, this one too, and may go on with it.
            if made is None or made.cancelled():
                made = self._held[loop] = asyncio.ensure_future(
                    asyncio.to_thread(self.make)
                )
        try:
            # Who leaves while it is made leaves it to the others.
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            raise
        except Exception:
            with self._guard:
                if self._held.get(loop) is made:
                    del self._held[loop]
            raise

    def _forget_closed_loops(self) -> None:
        """Drop what no loop can close any more: hosts may run one for each request."""
        for loop in [one for one in self._held if one.is_closed()]:
            del self._held[loop]

    async def close(self) -> None:
        """Close the connections of every loop that still runs; drop the others."""
        with self._guard:
            held, self._held = self._held, {}
        here = asyncio.get_running_loop()
        for loop, made in held.items():
            if loop is here:
                await _close(made)
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_close(made), loop)
                await asyncio.wrap_future(closing)


async def _close(made: "asyncio.Future[Connection]") -> None:
    if made.cancelled():
        return
    try:
        connection = await made
    except Exception:  # noqa: BLE001  what could not be made needs no closing
        return
    await connection.close()
