"""
A program that dies at a chosen moment of one operation.

``python dying.py FOLDER MOMENT NUM_IMAGES``: the ledger, the pictures and the book of
the vendor are in the folder. Its parts are what the tests look at what is left with.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
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
    Settings,
    hookimpl,
)
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.storage import Disk, FileStorage
from gaia_core.testing import FakeProvider, png

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64, user_id="gm")
COLOURS = ((200, 30, 30), (30, 30, 200))


def die() -> None:
    """End without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def pass_by() -> None:
    """Do nothing."""


@attrs.define(eq=False, kw_only=True)
class BookedProvider(FakeProvider):
    """
    Keeps a file of its charges, and dies when told to.

    Attributes:
        book: The file; one task id a line.
        before: Called before a charge.
        after: Called after a charge.
        keeps_tasks: Whether it can say what became of a task.
        bill: Says, when a task is looked up, what it was charged; it may raise.
    """

    book: Path
    before: Callable[[], None] = pass_by
    after: Callable[[], None] = pass_by
    keeps_tasks: bool = True
    bill: Callable[[], Decimal | None] = pass_by

    @property
    def booked(self) -> list[str]:
        """The task id of every charge, by whatever process."""
        return self.book.read_text().split() if self.book.exists() else []

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Charge, and draw."""
        self.before()
        with self.book.open("a") as file:
            file.write(f"{context.task_id}\n")
        self.after()
        return self._made_for(request.num_images)

    @hookimpl
    async def gaia_recover(
        self,
        task_id: str,
        context: CallContext,  # noqa: ARG002  the interface
    ) -> ImageResult | None:
        """Say what became of a task."""
        if not self.keeps_tasks:
            message = "no record is kept"
            raise ProviderError(message)
        number = 2 if (self.book.parent / "two").exists() else 1
        if task_id not in self.booked:
            return None
        return attrs.evolve(self._made_for(number), cost_usd=self.bill())

    def _made_for(self, number: int) -> ImageResult:
        images = [
            GeneratedImage(data=png(64, 64, colour)) for colour in COLOURS[:number]
        ]
        return ImageResult(images=images, provider=self.name, model=self.name)


class DyingLedger(SqlLedger):
    """Dies before it settles, or before it notes an attempt."""

    moment = ""

    async def send(self, *arguments: Any) -> None:
        """Note an attempt, unless it dies."""
        if self.moment == "accepted":
            die()
        await super().send(*arguments)

    async def settle(self, *arguments: Any) -> None:
        """Settle, unless it dies."""
        if self.moment == "stored":
            die()
        await super().settle(*arguments)


class DyingDisk(Disk):
    """Dies when the second picture gets its final name."""

    replaced = 0

    def replace(self, source: Path, target: Path) -> None:
        """Rename, unless it dies."""
        self.replaced += 1
        if self.replaced == 3:  # picture, record, picture
            die()
        super().replace(source, target)


def settings_in(folder: Path) -> Settings:
    """Keep everything in one folder."""
    return Settings(
        database=f"sqlite:///{folder}/gaia.db",
        image_store=folder / "images",
        spill=folder / "spill",
    )


async def main(folder: Path, moment: str, num_images: int) -> None:
    """Serve one request, and die on the way."""
    provider = BookedProvider(price_usd="0.04", book=folder / "charges")
    provider.before = die if moment == "sent" else pass_by
    provider.after = die if moment == "charged" else pass_by
    disk = DyingDisk() if moment == "half stored" else Disk()
    settings = settings_in(folder)
    ledger = DyingLedger(Database(settings.database))
    ledger.moment = moment
    async with Gaia.open(
        settings,
        plugins=[provider],
        storage=FileStorage(settings.image_store, disk=disk),
        ledger=ledger,
        discover=False,
    ) as gaia:
        await gaia.generate(attrs.evolve(DRAGON, num_images=num_images))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
