"""
What one connection may cost: bounds that uvicorn leaves to a proxy.

uvicorn's parser takes headers of any size, waits for them for ever, and waits for
ever for a client that reads nothing. The class below is handed to it as ``http=``,
which is its documented way to exchange that part.
"""

import asyncio

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gaia_core.server.problems import RefusedError, problem_of

MOST_HEADER_BYTES = 16 * 1024
"""Most bytes of a request's first line and headers together."""
MOST_HEADERS = 100
"""Most headers of a request."""
HEADER_SECONDS = 15.0
"""How long they may take to arrive, in seconds."""
LINGER_SECONDS = 5.0
"""How long a client may go on sending what was answered already, in seconds."""
STALL_SECONDS = 60.0
"""How long a client may read nothing of an answer, in seconds."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection that cannot cost more than an honest one."""

    _has_parsed = False
    _is_in_body = False
    _unparsed = 0
    _status = 400
    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._stop_waiting()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see how much of it is headers that do not end."""
        self._has_parsed = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._has_parsed or self._is_in_body:
            self._unparsed = 0
        else:
            self._unparsed += len(data)
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._unparsed > MOST_HEADER_BYTES:
            self._status = 431
            self.send_400_response("")
        elif is_idle and not self._is_in_body and self._waiting is None:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """Let a request begin, if its headers are within bounds."""
        self._stop_waiting()
        self._has_parsed = self._is_in_body = True
        size = len(self.url) + sum(len(key) + len(value) for key, value in self.headers)
        if size > MOST_HEADER_BYTES or len(self.headers) > MOST_HEADERS:
            self._status = 431
            # Caught as an error of the parser, which ends the connection.
            raise httptools.HttpParserError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that what comes next is another request."""
        self._has_parsed, self._is_in_body = True, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give a client that was answered early a moment to stop sending."""
        super().on_response_complete()
        if self._is_in_body and not self.transport.is_closing():
            self._stop_waiting()
            self._waiting = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        """Answer what is no request, in the words of all other answers."""
        refusal = RefusedError(self._status, "bad_http")
        body = orjson.dumps(problem_of(refusal).as_body())
        headers = (
            b"content-type: application/json\r\n"
            b"x-content-type-options: nosniff\r\n"
            b"cache-control: no-store\r\n"
            b"connection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(STATUS_LINE[self._status] + headers + body)
        self.transport.close()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an upgrade that is not offered is simply not made."""

    def _wait_for_headers(self) -> None:
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        self.transport.close()
