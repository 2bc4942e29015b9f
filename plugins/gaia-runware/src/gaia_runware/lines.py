"""The line to the vendor: what is sent, how long is waited, and what was lost."""

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from gaia_core import (
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    TaskRunningError,
)
from gaia_runware.addresses import Address
from gaia_runware.clients import Client, Payload
from gaia_runware.errors import (
    failure_of,
    in_doubt,
    is_about_all,
    is_about_asking,
    is_about_polling,
    refusal,
)
from gaia_runware.payloads import search
from gaia_runware.pool import Pool
from gaia_runware.replies import has_ended
from gaia_runware.traffic import Item, Traffic

NEVER_SEEN = "taskNotFound"
"""
The one code that says of a task that it was never seen.

``taskFailedOrNotFound`` and ``taskExpired`` leave that open, and so does an answer
without any items. The vendor documents no code for it; this one is in the tests of
its SDK (November 2026).
"""

UNSEEN_SECONDS = 5.0
"""How long a task stays young that is not found: it may be at work all the same."""

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
        end = asyncio.get_running_loop().time() + patience
        failure = await _asked(self._pool, payload, traffic, patience)
        if failure is None:
            return traffic.results
        if _may_go_on(traffic, failure, payload.get("numberResults", 1)):
            return await self._awaited(traffic, failure, end)
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
            async with asyncio.timeout(self.timeout):
                await client.ready()
        except TimeoutError:
            message = "Runware did not answer in time."
        else:
            return
        finally:
            await client.close()
        raise ProviderConnectionError(message)

    # -- inside -----------------------------------------------------------------------

    async def _awaited(
        self, traffic: Traffic, failure: ProviderError, end: float
    ) -> Sequence[Item]:
        """
        Fetch what a task comes to that the vendor goes on with, or may.

        Whoever shared a lost connection with others, or was told of an error that is
        not his, still gets his pictures.
        """
        found, is_unseen = None, False
        try:
            async with asyncio.timeout_at(end):
                found = await self._ended(traffic)
                is_unseen = found is None
        except (ProviderError, TimeoutError):
            pass  # it stays as it was: nobody knows
        if found is not None:
            return _results_of(found)
        if traffic.results and traffic.errors:
            return traffic.results
        is_refused = is_unseen and traffic.errors and not is_about_polling(traffic)
        raise failure if is_refused else in_doubt(failure)

    async def _ended(self, traffic: Traffic) -> Found | None:
        """Ask about a task until it has ended, or is known to nobody."""
        wait, unseen = _FIRST_POLL_SECONDS, 0
        while True:
            try:
                found = await self.look_up(traffic.task_id)
            except TaskRunningError:
                found = None
            else:
                unseen += found is None
                if found is not None or unseen >= _proof(traffic):
                    return found
                if not traffic.is_known:
                    wait = UNSEEN_SECONDS
            await asyncio.sleep(wait)
            wait = min(wait * _SLOWER, _LONGEST_POLL_SECONDS)

    async def _response(self, task_id: str) -> Found | None:
        """Ask for the results of a task; the vendor keeps them for a while."""
        traffic = Traffic(task_id=task_id)
        payload = {"taskType": "getResponse", "taskUUID": task_id}
        failure = await _asked(self._free, payload, traffic, self._brief)
        if any(code.endswith(("NotFound", "Expired")) for code in traffic.codes):
            return None
        if failure is not None and is_about_asking(traffic):
            raise in_doubt(failure)
        if traffic.is_running:
            message = "Runware is still at work on it."
            raise TaskRunningError(message)
        results = tuple(filter(has_ended, traffic.results))
        if not results and not traffic.errors:
            return None
        return Found(results=results, errors=traffic.errors)

    async def _details(self, task_id: str) -> Found | None:
        """Ask for what was sent and answered, however long ago."""
        traffic = Traffic(task_id=task_id)
        payload = {"taskType": "getTaskDetails", "taskUUID": task_id}
        failure = await _asked(self._free, payload, traffic, self._brief)
        if NEVER_SEEN in traffic.codes:
            return None
        if failure is not None:
            raise in_doubt(failure)
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


def _may_go_on(traffic: Traffic, failure: ProviderError, wanted: int) -> bool:
    """
    Tell whether more may come of a task than was heard.

    It may after an error about one of several pictures, about nobody in particular,
    or about a task that is there already; and after a connection that was lost. It is
    asked about until nobody waits any more.
    """
    if traffic.is_known or traffic.is_unnamed or is_about_polling(traffic):
        return True
    if traffic.errors:
        heard = len(traffic.results) + len(traffic.errors)
        return heard < wanted and not is_about_all(traffic.errors[-1])
    return traffic.is_sent and not isinstance(failure, ProviderTimeoutError)


def _proof(traffic: Traffic) -> float:
    """
    Say how many look-ups that find nothing are believed.

    A task that is refused as known is there. One of which a part went wrong may be
    at work on the others, and be paid: one answer is no proof. A lost connection is
    in doubt whatever is found, and Gaia asks again itself.
    """
    if traffic.is_known:
        return math.inf
    return 2 if traffic.errors else 1


def _results_of(found: Found) -> Sequence[Item]:
    if not found.results and found.errors:
        raise refusal(found.errors[-1])
    return found.results


def _recalled(items: Sequence[Item]) -> Found:
    """Read the answer of ``getTaskDetails``."""
    for item in items:
        response, requests = item.get("response"), _objects(item.get("request"))
        if isinstance(response, Mapping):
            request = requests[0] if requests else {}
            return Found(
                results=tuple(filter(has_ended, _objects(response.get("data")))),
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
