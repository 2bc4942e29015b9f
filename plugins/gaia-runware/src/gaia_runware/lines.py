"""The line to the vendor: what is sent, how long is waited, and what was lost."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from gaia_core import ProviderError, TaskRunningError
from gaia_runware.clients import Address, Client, Payload
from gaia_runware.errors import failure_of, refusal
from gaia_runware.payloads import search
from gaia_runware.pool import Pool
from gaia_runware.traffic import CONFLICT, Item, Traffic

NEVER_SEEN = "taskNotFound"
"""
The one code that says of a task that it was never seen.

``taskFailedOrNotFound`` and ``taskExpired`` leave that open, and so does an answer
without any items. The vendor documents no code for it; this one is in the tests of
its SDK (November 2026).
"""

_LOOK_UP_SECONDS = 20.0
_FIRST_POLL_SECONDS = 0.5
_LONGEST_POLL_SECONDS = 5.0
_SLOWER = 1.5


@attrs.frozen(kw_only=True)
class Found:
    """
    What the vendor knows of a task that has ended.

    Attributes:
        results: Its results.
        model: The model that was asked for, if the vendor says so.
        wanted: How many were asked for, if the vendor says so.
        errors: What went wrong with it.
    """

    results: Sequence[Item] = ()
    model: str = ""
    wanted: int | None = None
    errors: Sequence[Item] = ()


@attrs.define(eq=False, kw_only=True)
class Line:
    """
    The vendor, from where the hooks stand.

    Paid work goes through the pool. Looking up and searching go over REST: an answer
    without any items names no task, so a WebSocket could not tell whose it is.

    Attributes:
        address: Where the vendor is.
        timeout: The longest wait for one answer, in seconds.
        pool_size: The most WebSockets on one event loop.
    """

    address: Address
    timeout: float
    pool_size: int
    _pool: Pool = attrs.field(init=False)
    _free: Pool = attrs.field(init=False)

    @_pool.default
    def _new_pool(self) -> Pool:
        # REST has connections enough in one client.
        size = self.pool_size if self.address.is_socket else 1
        return Pool(open=lambda: Client(address=self.address), size=size)

    @_free.default
    def _new_free_pool(self) -> Pool:
        address = self.address.over_http()
        return Pool(open=lambda: Client(address=address), size=1)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()
        await self._free.close()

    async def work(self, payload: Payload, patience: float) -> Sequence[Item]:
        """
        Have paid work done; it is sent once.

        Args:
            payload: The task object.
            patience: How long somebody waits, in seconds.

        Returns:
            The results: fewer than asked for, where some came and then an error.

        Raises:
            ProviderError: If there are none.
        """
        traffic = Traffic(task_id=payload["taskUUID"])
        patience = min(patience, self.timeout)
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        failure = await _asked(self._pool, payload, traffic, patience)
        if failure is None:
            return traffic.results
        if CONFLICT in traffic.codes or traffic.is_unnamed:
            return await self._awaited(traffic, end - loop.time(), failure)
        if traffic.results and traffic.errors:
            return traffic.results
        raise failure

    async def look_up(self, task_id: str) -> Found | None:
        """
        Find out what became of a task.

        Returns:
            What it came to, or None: the vendor has never seen it.

        Raises:
            TaskRunningError: If it is under way.
            ProviderError: If the vendor cannot be asked, or cannot tell.
        """
        return await self._response(task_id) or await self._details(task_id)

    async def search(self, payload: Payload) -> Item:
        """
        Search the vendor's catalogue.

        Raises:
            ProviderError: If the vendor cannot be asked.
        """
        items = await self._told(payload)
        return items[0] if items else {}

    async def check(self) -> None:
        """
        Connect and show the key; it costs nothing.

        Raises:
            ProviderError: If there is no connection, or the key is refused.
        """
        if not self.address.is_socket:
            await self._told(search(None, task_id=str(uuid.uuid4()), limit=1))
            return
        client = Client(address=self.address)
        try:
            # It is no longer than a client takes to connect.
            await client.ready()
        finally:
            await client.close()

    # -- inside -----------------------------------------------------------------------

    async def _awaited(
        self, traffic: Traffic, patience: float, failure: ProviderError
    ) -> Sequence[Item]:
        """Fetch what a task comes to that is known to the vendor, or may be."""
        wait, loop = _FIRST_POLL_SECONDS, asyncio.get_running_loop()
        end = loop.time() + patience
        while loop.time() + wait < end:
            try:
                found = await self.look_up(traffic.task_id)
            except TaskRunningError:
                await asyncio.sleep(wait)
                wait = min(wait * _SLOWER, _LONGEST_POLL_SECONDS)
            except ProviderError:
                break
            else:
                if found is None:
                    break
                return _results_of(found)
        raise _in_doubt(failure)

    async def _response(self, task_id: str) -> Found | None:
        """Ask for the results of a task; the vendor keeps them for a while."""
        traffic = Traffic(task_id=task_id)
        payload = {"taskType": "getResponse", "taskUUID": task_id}
        failure = await _asked(self._free, payload, traffic, self._brief)
        if failure is not None and not traffic.errors:
            raise _in_doubt(failure)
        if any(code.endswith(("NotFound", "Expired")) for code in traffic.codes):
            return None
        if any(item.get("status") == "processing" for item in traffic.results):
            message = "Runware is still at work on it."
            raise TaskRunningError(message)
        if not traffic.results and not traffic.errors:
            return None
        _raise_if_asking_failed(traffic)
        return Found(results=traffic.results, errors=traffic.errors)

    async def _details(self, task_id: str) -> Found | None:
        """Ask for what was sent and answered, however long ago."""
        traffic = Traffic(task_id=task_id)
        payload = {"taskType": "getTaskDetails", "taskUUID": task_id}
        failure = await _asked(self._free, payload, traffic, self._brief)
        if NEVER_SEEN in traffic.codes:
            return None
        if failure is not None:
            raise _in_doubt(failure)
        found = _recalled(traffic.results)
        if not found.results and not found.errors:
            message = "Runware cannot say what became of it."
            raise ProviderError(message)
        return found

    async def _told(self, payload: Payload) -> Sequence[Item]:
        traffic = Traffic(task_id=payload["taskUUID"])
        failure = await _asked(self._free, payload, traffic, self._brief)
        if failure is not None:
            raise failure
        return traffic.results

    @property
    def _brief(self) -> float:
        return min(self.timeout, _LOOK_UP_SECONDS)


async def _asked(
    pool: Pool, payload: Payload, traffic: Traffic, patience: float
) -> ProviderError | None:
    """
    Ask once; give back what went wrong.

    It is given back and not raised, so that the SDK's own error, which quotes the
    vendor, is not behind it.
    """
    try:
        async with asyncio.timeout(patience), pool.client() as client:
            await client.ask(payload, traffic)
    except Exception as error:  # noqa: BLE001  `errors` decides about all of them
        return failure_of(error, traffic)
    return None


def _results_of(found: Found) -> Sequence[Item]:
    if not found.results and found.errors:
        raise refusal(found.errors[-1])
    return found.results


def _raise_if_asking_failed(traffic: Traffic) -> None:
    """Tell an error about the question from one about the task."""
    if traffic.status is not None and not traffic.results:
        raise _in_doubt(refusal(traffic.errors[-1]))


def _in_doubt(failure: ProviderError) -> ProviderError:
    """Say the same of a task whose outcome nobody knows: it may be charged."""
    return ProviderError(str(failure))


def _recalled(items: Sequence[Item]) -> Found:
    """Read the answer of ``getTaskDetails``."""
    for item in items:
        response, requests = item.get("response"), _objects(item.get("request"))
        if isinstance(response, Mapping):
            request = requests[0] if requests else {}
            return Found(
                results=_objects(response.get("data")),
                errors=_objects(response.get("errors")),
                model=str(request.get("model", "")),
                wanted=_wanted(request),
            )
    return Found()


def _wanted(request: Item) -> int | None:
    number = request.get("numberResults", 1)
    return number if request and isinstance(number, int) else None


def _objects(value: Any) -> Sequence[Item]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]
