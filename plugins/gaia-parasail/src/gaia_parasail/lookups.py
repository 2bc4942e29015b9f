"""
What became of requests that went out in batches, asked after a restart.

Many are asked about at the same time, and they share few batches: each batch is
looked at once in a while, and its results are fetched once.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from gaia_core import (
    CallContext,
    ImageResult,
    OutcomeClass,
    ProviderError,
    TaskRunningError,
)
from gaia_parasail.batch_files import Line, Place, line_at, places_in
from gaia_parasail.desks import BatchState, Desk, Reference
from gaia_parasail.downloads import Downloads
from gaia_parasail.errors import refused_batch, undecided
from gaia_parasail.models import NAME
from gaia_parasail.replies import Wanted
from gaia_parasail.results import answer_of

_MOST_RESULTS = 16
# Gaia asks twice, some seconds apart, before it believes that there is nothing.
_LIST_SECONDS = 1.0
# Gaia waits a minute for an answer; what takes longer goes on meanwhile.
_FETCHING_SECONDS = 30.0
_UNTOUCHED = Line(task_id=None, error={"code": "batch_cancelled"})
_NOT_CHARGED = frozenset({OutcomeClass.REJECTED_BUSY, OutcomeClass.REJECTED_AUTH})


@attrs.define(eq=False)
class _Once:
    """Asks something once for all who want to know it at about the same time."""

    seconds: float
    _asked: dict[str, tuple[float, asyncio.Task[Any]]] = attrs.field(
        factory=dict, init=False
    )

    async def ask(self, key: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Give what was found not long ago, or ask; what fails is asked again."""
        now = time.monotonic()
        at, task = self._asked.get(key, (0.0, None))
        is_old = task is None or (task.done() and now - at > self.seconds)
        if task is None or is_old or _has_failed(task):
            task = asyncio.ensure_future(_awaited(ask))
            # Those who asked may all have left by then.
            task.add_done_callback(_has_failed)
            self._asked[key] = (now, task)
        # One who stops waiting must not stop it for the others.
        return await asyncio.shield(task)

    def forget(self, key: str) -> None:
        """Let go of what was found."""
        self._asked.pop(key, None)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._asked.values()]
        self._asked.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@attrs.frozen(kw_only=True)
class _Results:
    """The results of a batch on disk: where each task's line begins."""

    folder: "tempfile.TemporaryDirectory[str]"
    places: Mapping[str, Place]

    @property
    def told(self) -> int:
        """Of how many tasks they say what became of carrying them out."""
        return sum(not place.is_untouched for place in self.places.values())


@attrs.define(eq=False, kw_only=True)
class Lookups:
    """
    Looks up what became of requests in batches.

    Attributes:
        desk: Where batches are looked at.
        downloads: What fetches their results.
        interval: Seconds for which the state of a batch is believed.
    """

    desk: Desk
    downloads: Downloads
    interval: float
    _states: _Once = attrs.field(init=False)
    _lists: _Once = attrs.field(init=False)
    _fetched: _Once = attrs.field(init=False)
    _kept: dict[str, _Results] = attrs.field(factory=dict, init=False)

    @_states.default
    def _new_states(self) -> _Once:
        return _Once(self.interval)

    @_lists.default
    def _new_lists(self) -> _Once:
        return _Once(min(self.interval, _LIST_SECONDS))

    @_fetched.default
    def _new_fetched(self) -> _Once:
        return _Once(0.0)

    async def find(
        self, reference: Reference, task_id: str, context: CallContext
    ) -> ImageResult | None:
        """
        Find what a request in a batch came to.

        Returns:
            The pictures, or None: it was certainly never carried out.

        Raises:
            TaskRunningError: If the batch has not ended.
            ProviderError: What it ended with, or that nobody can tell.
        """
        state = await self._state(reference)
        if state is None:
            return None
        if not state.is_final:
            message = f"{NAME} is still at work on the batch ({state.status})."
            raise TaskRunningError(message)
        if state.is_refused:
            return _nothing(refused_batch(state.errors))
        line = await self._line(state, task_id)
        if line is None:
            message = f"{NAME}'s batch {state.status} without a word about this task."
            raise ProviderError(message)
        wanted = Wanted(model=reference.model)
        answer = await answer_of(line, wanted, context)
        return answer if isinstance(answer, ImageResult) else _nothing(answer)

    async def close(self) -> None:
        """Forget everything, and throw the files away."""
        await self._states.close()
        await self._lists.close()
        await self._fetched.close()
        for results in self._kept.values():
            results.folder.cleanup()
        self._kept.clear()

    async def _state(self, reference: Reference) -> BatchState | None:
        """Look at the batch of a reference; None: it was never ordered."""
        try:
            batch_id = reference.batch
            if batch_id is None:
                known = await self._lists.ask("", self.desk.by_file)
                batch_id = known.get(reference.file)
            if batch_id is None:
                await self._check_file(reference)
                return None
            look = partial(self.desk.state, batch_id)
            state: BatchState = await self._states.ask(batch_id, look)
        except ProviderError as error:
            problem = undecided(error)
        else:
            return state
        raise problem

    async def _check_file(self, reference: Reference) -> None:
        """
        Make sure that a list without a batch is one it would be in.

        Another account, or a service that has forgotten, lists no such batch either.

        Raises:
            ProviderError: If that is not to be seen.
        """
        has = partial(self.desk.has, reference.file or "")
        if not await self._lists.ask(f"file {reference.file}", has):
            message = (
                f"{NAME} knows neither the file {reference.file} nor a batch of it: "
                "look it up with the key and the address it was sent with."
            )
            raise ProviderError(message)

    async def _line(self, state: BatchState, task_id: str) -> Line | None:
        """Find the line about a task in the results of a batch."""
        results = self._kept.get(state.id)
        problem: ProviderError
        try:
            if results is None:
                fetch = partial(self._fetch, state)
                async with asyncio.timeout(_FETCHING_SECONDS):
                    results = await self._fetched.ask(state.id, fetch)
            place = results.places.get(task_id)
            if place is not None:
                return await asyncio.to_thread(line_at, place)
            return _UNTOUCHED if state.has_told_all(results.told) else None
        except TimeoutError:
            problem = TaskRunningError(f"Results of {NAME} are being fetched.")
        except ProviderError as error:
            problem = undecided(error)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            problem = ProviderError(f"Results of {NAME} cannot be kept: {reason}.")
        raise problem

    async def _fetch(self, state: BatchState) -> _Results:
        """Fetch the results of a batch, and note where each line begins."""
        folder = tempfile.TemporaryDirectory(prefix="gaia-parasail-")
        places: dict[str, Place] = {}
        try:
            for number, file_id in enumerate(state.files):
                path = Path(folder.name) / f"results-{number}.jsonl"
                await self.downloads.fetch(file_id, path)
                places = await asyncio.to_thread(places_in, path) | places
        except BaseException:
            folder.cleanup()
            raise
        while len(self._kept) >= _MOST_RESULTS:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest).folder.cleanup()
            self._fetched.forget(oldest)
        self._kept[state.id] = _Results(folder=folder, places=places)
        return self._kept[state.id]


async def _awaited(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


def _has_failed(task: "asyncio.Task[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _nothing(error: Exception) -> ImageResult | None:
    """
    Tell what a definite answer without pictures means: nothing, or its error.

    What was turned away without a charge was never carried out, so it may be made
    anew, as what the service has never seen.

    Raises:
        Exception: The error, where it is what became of the task.
    """
    if isinstance(error, ProviderError) and error.outcome in _NOT_CHARGED:
        return None
    raise error
