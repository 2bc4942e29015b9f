"""How much of an answer is read: a service that goes wrong must not fill the memory."""

from collections.abc import AsyncIterator

import httpx2

from gaia_core.images import MAX_BYTES
from gaia_parasail.errors import OversizeError

MAX_ANSWER = 8 * MAX_BYTES
"""Most bytes of an answer: several large pictures as base64."""
MAX_REFUSAL = 1 << 20
"""How much is read of an answer that is none; its status says what counts."""


async def bound(response: httpx2.Response) -> None:
    """
    See to it that no more of an answer is read than can be of use.

    Files of results go to the disk as they come, and may be of any length.

    Raises:
        OversizeError: If it is packed: a few bytes may stand for gigabytes, and it was
            asked for as it is.
    """
    packing = response.headers.get("content-encoding", "identity").lower()
    if packing != "identity" and response.is_success:
        message = "is packed"
        raise OversizeError(message)
    # Of any other answer the status counts, and it is not unpacked to be understood.
    response.headers.pop("content-encoding", None)
    is_file = response.request.url.path.endswith("/content")
    if not (is_file and response.is_success):
        response.stream = _Bounded(response.stream, is_answer=response.is_success)


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, to its end or to the limit."""

    def __init__(
        self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, *, is_answer: bool
    ) -> None:
        assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101  an async client's
        self._stream = stream
        self._is_answer = is_answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the parts; beyond the limit, nothing of a refusal, else an error."""
        size, most = 0, MAX_ANSWER if self._is_answer else MAX_REFUSAL
        async for part in self._stream:
            size += len(part)
            if size > most and self._is_answer:
                message = f"has more than {most} bytes"
                raise OversizeError(message)
            if size > most:
                return
            yield part

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._stream.aclose()
