"""
The same verbs for scripts and notebooks: no ``async``, no ``await``.

::

    from gaia_core.blocking import Gaia

    with Gaia.open() as gaia:
        response = gaia.generate(GenerateRequest(prompt="a red dragon"))
"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import attrs

from gaia_core import engine
from gaia_core.assortment import ModelList
from gaia_core.batches.service import Requests
from gaia_core.catalog import Health, HealthLevel, ProviderInfo
from gaia_core.choices import Choices, PlanChoices
from gaia_core.ledger import BatchEvent, BudgetState, Operation, UsageRow
from gaia_core.metrics import Statistics
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.responses import DescriptionResponse, ImageResponse, PromptResponse
from gaia_core.selection import Plan
from gaia_core.settings import Settings

T = TypeVar("T")


@attrs.define(eq=False)
class Gaia:
    """
    A `gaia_core.Gaia` whose verbs wait for their answer.

    It runs an event loop of its own in a thread, so it works where another loop
    runs already, as in a notebook. Use it inside ``with``.
    """

    _gaia: engine.Gaia
    _loop: asyncio.AbstractEventLoop | None = attrs.field(default=None, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    @classmethod
    def open(cls, settings: Settings | None = None, **parts: Any) -> Self:
        """Load settings and plugins; arguments as for `gaia_core.Gaia.open`."""
        return cls(engine.Gaia.open(settings, **parts))

    def __enter__(self) -> Self:
        """Start the loop and the providers."""
        if self._loop is not None:
            message = "This Gaia is open already: open another one."
            raise RuntimeError(message)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="gaia", daemon=True
        )
        self._thread.start()
        try:
            self._wait(self._gaia.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the providers and the loop."""
        try:
            self._wait(self._gaia.__aexit__(kind, error, trace))
        finally:
            self._end()

    def generate(
        self, request: GenerateRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """Make pictures; see `gaia_core.Gaia.generate`."""
        return self._wait(self._gaia.generate(request, **choices))

    def upscale(
        self, request: UpscaleRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """Enlarge a picture."""
        return self._wait(self._gaia.upscale(request, **choices))

    def remove_background(
        self, request: RemoveBackgroundRequest, **choices: Unpack[Choices]
    ) -> ImageResponse:
        """Cut out the subject of a picture."""
        return self._wait(self._gaia.remove_background(request, **choices))

    def enhance_prompt(
        self, request: EnhancePromptRequest, **choices: Unpack[Choices]
    ) -> PromptResponse:
        """Work a few words out into a prompt."""
        return self._wait(self._gaia.enhance_prompt(request, **choices))

    def describe_image(
        self, request: DescribeImageRequest, **choices: Unpack[Choices]
    ) -> DescriptionResponse:
        """Say in words what a picture shows."""
        return self._wait(self._gaia.describe_image(request, **choices))

    def batch(self, requests: Requests, **choices: Any) -> Iterator[BatchEvent]:
        """
        Serve many requests, and tell what happens to them as it happens.

        Arguments as for `gaia_core.Gaia.batch`.
        """
        events = self._gaia.batch(requests, **choices)
        try:
            while (event := self._wait(anext(events, None))) is not None:
                yield event
        finally:
            self._wait(events.aclose())

    def plan(self, request: Request, **choices: Unpack[PlanChoices]) -> Plan:
        """Say who would be asked, in which order, at which price, and why."""
        return self._gaia.plan(request, **choices)

    def models(self, **choices: Any) -> ModelList:
        """List models, or look for some; arguments as for `gaia_core.Gaia.models`."""
        return self._wait(self._gaia.models(**choices))

    def providers(self) -> tuple[ProviderInfo, ...]:
        """List the providers, best rank first."""
        return self._gaia.providers()

    def operation(self, operation_id: str) -> Operation | None:
        """Look an operation up."""
        return self._wait(self._gaia.operation(operation_id))

    def ready(self) -> None:
        """Open the ledger now; see `gaia_core.Gaia.ready`."""
        self._wait(self._gaia.ready())

    def recover(self) -> int:
        """Settle what was left open; see `gaia_core.Gaia.recover`."""
        return self._wait(self._gaia.recover())

    def usage(self, by: Sequence[str] = (), **span: Any) -> Sequence[UsageRow]:
        """Add up what was made and spent; see `gaia_core.Gaia.usage`."""
        return self._wait(self._gaia.usage(by, **span))

    def budgets(self, **scope: str | None) -> Sequence[BudgetState]:
        """Tell what budgets have left; see `gaia_core.Gaia.budgets`."""
        return self._wait(self._gaia.budgets(**scope))

    def statistics(self) -> Statistics:
        """Sum up what this process did."""
        return self._gaia.statistics()

    def check_health(
        self, level: HealthLevel = HealthLevel.CONFIGURED, provider: str | None = None
    ) -> dict[str, Health]:
        """Check every provider, or only one; spends no money."""
        return self._wait(self._gaia.check_health(level, provider))

    def _wait(self, work: Awaitable[T]) -> T:
        """Wait for some work; an interrupted wait cancels it."""
        if self._loop is None or threading.current_thread() is self._thread:
            if isinstance(work, Coroutine):
                work.close()
            message = "Use it inside `with`, and not from a callback of its own."
            raise RuntimeError(message)
        future = asyncio.run_coroutine_threadsafe(_given(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _end(self) -> None:
        """Stop the loop and its thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._wait(_wound_up())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None


async def _given(work: Awaitable[T]) -> T:
    return await work


async def _wound_up() -> None:
    """Cancel what is still running, as `asyncio.run` does at its end."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
