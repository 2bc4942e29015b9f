"""
The SDK's clients: one for each event loop, made when first needed.

This is the one place where a client is made, and where it is decided what leaves:
the key and the headers of the request, and nothing the environment would add. The
SDK reads ``OPENAI_API_KEY``, ``OPENAI_ORG_ID``, ``OPENAI_PROJECT_ID``,
``OPENAI_ADMIN_KEY`` and ``OPENAI_CUSTOM_HEADERS`` by itself; none of them is meant
for the service that is asked here.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core import AuthenticationError, Secret
from gaia_parasail.errors import answered
from gaia_parasail.loops import PerLoop
from gaia_parasail.models import NAME

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

CONNECT_SECONDS = 5.0
# A connection kept longer may be closed already at the other end, and then nobody
# knows whether what was sent into it was carried out.
KEEPALIVE_SECONDS = 4.0
MOST_CONNECTIONS = 1_000

_SENT = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "host"),
        *("content-length", "content-type", "transfer-encoding"),
        *("idempotency-key", "user-agent"),
        "x-stainless-raw-response",  # the SDK reads there what it is to give back
    }
)
"""The headers that leave; the SDK's own tell of this machine and its environment."""


@attrs.define(eq=False, kw_only=True)
class Clients:
    """
    Makes the SDK's clients, and closes them.

    Attributes:
        base_url: Where the service is asked.
        api_key: The key; nothing else is ever sent in its place.
        timeout: Seconds until an answer is given up.
    """

    base_url: str
    api_key: Secret | None = attrs.field(repr=False)
    timeout: float
    _clients: "PerLoop[AsyncOpenAI]" = attrs.field(init=False, repr=False)

    @_clients.default
    def _none_yet(self) -> "PerLoop[AsyncOpenAI]":
        return PerLoop(self._made)

    def client(self) -> "AsyncOpenAI":
        """
        Give the running loop's client.

        Raises:
            AuthenticationError: If there is no key: the SDK would look for another.
        """
        return self._clients.here()

    async def ask(
        self,
        call: "Callable[[AsyncOpenAI], Awaitable[Any]]",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - seconds as a setting has them
    ) -> bytes:
        """
        Send one request, once, and wait for the body of its answer.

        Args:
            call: Sends it, by a method of ``with_raw_response``.
            timeout: Seconds to wait, in place of the usual.

        Raises:
            ProviderError: Whatever went wrong, in Gaia's words.
        """
        answer = await self.waited(call, timeout=timeout)
        content: bytes = answer.http_response.content
        return content

    async def waited(
        self,
        call: "Callable[[AsyncOpenAI], Awaitable[Any]]",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """
        Send one request, once, and wait for what the SDK makes of its answer.

        Raises:
            ProviderError: Whatever went wrong, in Gaia's words.
        """
        patience = self.timeout if timeout is None else timeout

        async def asked() -> Any:
            # In a thread: it takes half a second, and others want to work meanwhile.
            if "openai" not in sys.modules:
                await asyncio.to_thread(import_module, "openai")
            async with asyncio.timeout(patience):
                return await call(self.client())

        return await answered(asked())

    async def close(self) -> None:
        """Close the client of every loop that runs."""
        await self._clients.close(_closed)

    def _made(self) -> "AsyncOpenAI":
        """Make a client that sends once, to one host, with one key."""
        import httpx2  # noqa: PLC0415 - slow
        from openai import AsyncOpenAI  # noqa: PLC0415 - half a second

        from gaia_parasail.bounds import bound  # noqa: PLC0415 - as above

        if not self.api_key:
            message = f"{NAME} has no key: set api_key."
            raise AuthenticationError(message)
        key = self.api_key.reveal()
        timeout = httpx2.Timeout(
            self.timeout, connect=min(CONNECT_SECONDS, self.timeout)
        )
        return AsyncOpenAI(
            api_key=key,
            base_url=self.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=httpx2.AsyncClient(
                timeout=timeout,
                # A redirect would take the request, and what it pays for, elsewhere.
                follow_redirects=False,
                limits=httpx2.Limits(
                    max_connections=MOST_CONNECTIONS,
                    keepalive_expiry=KEEPALIVE_SECONDS,
                ),
                event_hooks={"request": [_only(key)], "response": [bound]},
            ),
        )


async def _closed(client: "AsyncOpenAI") -> None:
    await client.close()


def _only(key: str) -> "Callable[[httpx2.Request], Awaitable[None]]":
    """Make what takes everything out of a request that is not for the service."""

    async def clean(request: "httpx2.Request") -> None:
        for name in [name for name in request.headers if name.lower() not in _SENT]:
            del request.headers[name]
        request.headers["Authorization"] = f"Bearer {key}"
        request.headers["Accept-Encoding"] = "identity"

    return clean
