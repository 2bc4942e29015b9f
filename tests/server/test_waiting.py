"""Waiting for work as long as its client does."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from gaia_core.server.waiting import ClientGoneError, while_connected
from tests.waiting import until


class Line:
    """
    A connection as a server sees it.

    Attributes:
        messages: What comes from the client.
    """

    def __init__(self) -> None:
        """Begin with a request that has no body."""
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.messages.put_nowait({"type": "http.request", "body": b""})

    def hang_up(self) -> None:
        """Leave."""
        self.messages.put_nowait({"type": "http.disconnect"})

    @property
    def request(self) -> Request:
        """The request on it."""
        return Request({"type": "http", "headers": []}, self.messages.get)


async def test_work_is_waited_for() -> None:
    """A client that stays gets what the work gives, and nothing is left behind."""

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    found = await while_connected(Line().request, work())

    assert found == "done"
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_work_is_given_up_when_the_client_leaves() -> None:
    """The work is cancelled, and is over before anybody hears of it."""
    line, ended = Line(), asyncio.Event()

    async def work() -> None:
        line.hang_up()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ClientGoneError):
        await while_connected(line.request, work())

    assert ended.is_set()
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_an_error_of_the_work_is_its_own() -> None:
    """What the work raises comes out, a time-out as well."""

    async def work() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await while_connected(Line().request, work())


async def test_a_cancellation_from_outside_is_no_client_that_left() -> None:
    """A server that stops cancels; that is not taken for anything else."""
    line, began = Line(), asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    waiting = asyncio.create_task(while_connected(line.request, work()))
    await began.wait()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_client_that_leaves_too_late_changes_nothing() -> None:
    """Whoever leaves once the work is done disturbs nothing that comes after."""
    line = Line()

    async def work() -> str:
        line.hang_up()
        return "done"

    found = await while_connected(line.request, work())
    for _ in range(5):
        await asyncio.sleep(0)

    assert found == "done"


async def test_a_line_that_breaks_ends_no_work() -> None:
    """A middleware that cannot tell whether the client is there is not believed."""

    async def broken() -> Message:
        raise RuntimeError

    async def work() -> str:
        await asyncio.sleep(0.01)
        return "done"

    request = Request({"type": "http", "headers": []}, broken)

    assert await while_connected(request, work()) == "done"
