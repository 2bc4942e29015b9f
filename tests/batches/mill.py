"""
A vendor of batches whose book is a folder, and a program that is killed meanwhile.

``python mill.py FOLDER NUMBER [early]``: opens a batch of so many items and works on
it; ``early`` dies when the vendor is about to be asked. The vendor outlives the
program, as vendors do.
"""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from gaia_core import (
    CallContext,
    Gaia,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ProviderError,
    ProviderInfo,
    Settings,
    TaskRunningError,
    hookimpl,
)
from gaia_core.testing import FakeProvider, png

PICTURE = png(16, 16)


def pass_by() -> None:
    """Do nothing."""


def die() -> None:
    """End without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


@attrs.define(eq=False, kw_only=True)
class Mill(FakeProvider):
    """
    Makes batches of requests as long as nobody says that they are ready.

    Attributes:
        folder: What the vendor keeps: its charges, and one file for each batch.
        max_batch_size: Most requests in one batch.
        unanswered: Prompts of which nothing is told, though they are made.
        breaks: What ends every batch once its answers are told.
        before: Called before anything of a batch is told to the vendor.
        bundles: The prompts of each call.
        asked: The tasks that were looked up.
    """

    name: str = "mill"
    folder: Path
    max_batch_size: int = 1_000
    unanswered: frozenset[str] = frozenset()
    breaks: Exception | None = None
    before: Callable[[], None] = pass_by
    bundles: list[tuple[str, ...]] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)

    @property
    def charged(self) -> list[str]:
        """The task of every charge, by whatever process."""
        book = self.folder / "charges"
        return book.read_text().split() if book.exists() else []

    @property
    def is_ready(self) -> bool:
        """Whether the vendor has made all it was asked for."""
        return (self.folder / "ready").exists()

    def make_ready(self) -> None:
        """Have the vendor come to its end."""
        (self.folder / "ready").touch()

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say how much it takes, and that it takes a day."""
        return attrs.evolve(
            FakeProvider.gaia_provider_info(self),
            max_batch_size=self.max_batch_size,
            batch_timeout=86_400.0,
        )

    @hookimpl
    async def gaia_generate_many(
        self, requests: Sequence[GenerateRequest], contexts: Sequence[CallContext]
    ) -> AsyncIterator[tuple[str, ImageResult | Exception]]:
        """Submit a batch, and tell its answers when there are any."""
        self.bundles.append(tuple(one.prompt for one in requests))
        self.before()
        batch, tasks = uuid.uuid4().hex, [one.task_id for one in contexts]
        await asyncio.gather(*(one.remember(batch) for one in contexts))
        # In this order: whoever sees the charges may kill this process at once.
        (self.folder / batch).write_text("\n".join(tasks))
        with (self.folder / "charges").open("a") as book:
            book.write("".join(f"{task}\n" for task in tasks))
        while not self.is_ready:  # noqa: ASYNC110  another process may say so
            await asyncio.sleep(0.01)
        for request, context in zip(requests, contexts, strict=True):
            if request.prompt not in self.unanswered:
                yield context.task_id, self._answer_to(request.model or "")
        if self.breaks is not None:
            raise self.breaks

    @hookimpl
    async def gaia_recover(
        self, task_id: str, context: CallContext
    ) -> ImageResult | None:
        """Look a task up in the batch that it is part of."""
        self.asked.append(task_id)
        if context.reference is None:
            message = "It went out alone."
            raise ProviderError(message)
        batch = self.folder / (context.reference or "none")
        if not batch.exists() or task_id not in batch.read_text().split():
            return None
        if not self.is_ready:
            message = "The batch is under way."
            raise TaskRunningError(message)
        return self._answer_to("mill")

    def _answer_to(self, model: str) -> ImageResult:
        return ImageResult(
            images=[GeneratedImage(data=PICTURE)], provider=self.name, model=model
        )


def settings_in(folder: Path, **fields: Any) -> Settings:
    """Keep everything in one folder."""
    return Settings(
        database=f"sqlite:///{folder / 'gaia.db'}",
        image_store=folder / "images",
        spill=folder / "spill",
        **fields,
    )


def requests_of(number: int) -> list[GenerateRequest]:
    """Ask for so many pictures."""
    return [
        GenerateRequest(prompt=f"scene {index}", width=16, height=16)
        for index in range(number)
    ]


async def _work(folder: Path, number: int, *moment: str) -> None:
    before = die if moment else pass_by
    mill = Mill(folder=folder, price_usd="0.04", before=before)
    async with Gaia.open(settings_in(folder), plugins=[mill], discover=False) as gaia:
        async for _ in gaia.batch(requests_of(number), max_concurrent=2):
            pass


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
