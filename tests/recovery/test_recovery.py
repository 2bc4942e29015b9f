"""What is left behind by a process that is killed comes to a right end."""

import asyncio
import hashlib
import importlib.util
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from gaia_core import (
    Gaia,
    Operation,
    OperationState,
    TaskRunningError,
    UnusableResultError,
)
from gaia_core.lookups import Lookup
from tests.waiting import HeldProvider

DYING = Path(__file__).with_name("dying.py")
PRICE = Decimal("0.04")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dying", DYING)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dying = _load()


async def _killed_at(folder: Path, moment: str, num_images: int = 1) -> None:
    """Run the program until it dies."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, DYING, folder, moment, str(num_images)),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(120):
        _, words = await program.communicate()
    assert program.returncode == -signal.SIGKILL, words.decode()


def _provider(folder: Path, **fields: Any) -> Any:
    return dying.BookedProvider(price_usd="0.04", book=folder / "charges", **fields)


@asynccontextmanager
async def _after(folder: Path, provider: Any) -> AsyncIterator[tuple[Gaia, Operation]]:
    """Open another `Gaia` on what was left, and settle it."""
    gaia = Gaia.open(
        dying.settings_in(folder),
        plugins=[provider],
        lookup=Lookup(spacing=0.01),
        discover=False,
    )
    async with gaia:
        await gaia.recover()
        (operation,) = await gaia.ledger.listed()
        assert await gaia.ledger.check() == []
        yield gaia, operation


@pytest.mark.parametrize(
    ("moment", "keeps_tasks", "state", "cost", "held", "charges"),
    [
        ("accepted", True, "failed", Decimal(0), Decimal(0), 0),
        ("sent", True, "failed", Decimal(0), Decimal(0), 0),
        ("sent", False, "unknown", None, PRICE, 0),
        ("charged", True, "done", PRICE, Decimal(0), 1),
        ("charged", False, "unknown", None, PRICE, 1),
        ("stored", False, "done", PRICE, Decimal(0), 1),
    ],
    ids=[
        "accepted",
        "sent, looked up",
        "sent",
        "charged, looked up",
        "charged",
        "stored",
    ],
)
async def test_every_moment_of_a_kill_comes_to_its_end(
    tmp_path: Path,
    moment: str,
    keeps_tasks: bool,
    state: str,
    cost: Decimal | None,
    held: Decimal,
    charges: int,
) -> None:
    """Wherever the process dies: nothing is lost, nothing is charged twice."""
    await _killed_at(tmp_path, moment)
    provider = _provider(tmp_path, keeps_tasks=keeps_tasks)

    async with _after(tmp_path, provider) as (gaia, operation):
        images = await gaia.storage.list(operation_id=operation.id)
        files = [await gaia.storage.read(image.id) for image in images]

    assert operation.state == state
    assert (operation.cost_usd, operation.reserved_usd) == (cost, held)
    assert len(provider.booked) == charges
    assert operation.image_ids == tuple(image.id for image in images)
    assert len(images) == (1 if state == "done" else 0)
    for image, data in zip(images, files, strict=True):
        assert hashlib.sha256(data).hexdigest() == image.sha256


@pytest.mark.parametrize(
    ("found", "is_seen", "cost"),
    [
        (Decimal("0.07"), True, Decimal("0.07")),
        (None, True, PRICE),
        (Decimal("0.07"), False, PRICE),
        (TaskRunningError("busy"), True, PRICE),
        (UnusableResultError("broken"), True, PRICE),
        (OSError("down"), True, PRICE),
    ],
    ids=["billed", "not said", "never seen", "at work", "unusable", "fails"],
)
async def test_stored_picture_is_booked_as_it_was_billed(
    tmp_path: Path, found: Decimal | Exception | None, is_seen: bool, cost: Decimal
) -> None:
    """Between file and row: what the vendor billed counts, else the estimate."""

    def bill() -> Decimal | None:
        if isinstance(found, Exception):
            raise found
        return found

    await _killed_at(tmp_path, "stored")
    if not is_seen:
        (tmp_path / "charges").unlink()

    async with _after(tmp_path, _provider(tmp_path, bill=bill)) as (gaia, operation):
        usage = await gaia.usage()

    assert operation.state is OperationState.DONE
    assert len(operation.image_ids) == 1
    assert operation.cost_usd == cost
    assert [(row.cost_usd, row.held_usd) for row in usage] == [(cost, Decimal(0))]


@pytest.mark.parametrize("keeps_tasks", [True, False], ids=["looked up", "lost"])
async def test_half_stored_pictures_are_completed(
    tmp_path: Path, keeps_tasks: bool
) -> None:
    """The second of two pictures is fetched if it can be; none is stored twice."""
    (tmp_path / "two").touch()
    await _killed_at(tmp_path, "half stored", num_images=2)
    provider = _provider(tmp_path, keeps_tasks=keeps_tasks)

    async with _after(tmp_path, provider) as (gaia, operation):
        images = await gaia.storage.list(operation_id=operation.id)

    assert operation.state is OperationState.DONE
    assert len({image.sha256 for image in images}) == len(images) == 2
    assert len(provider.booked) == 1


async def test_what_is_stored_was_made_whatever_the_vendor_says(tmp_path: Path) -> None:
    """Two of three pictures are there: they are paid, even if nobody knows of them."""
    await _killed_at(tmp_path, "stored", num_images=3)
    (tmp_path / "charges").unlink()

    async with _after(tmp_path, _provider(tmp_path)) as (gaia, operation):
        images = await gaia.storage.list(operation_id=operation.id)

    assert operation.state is OperationState.DONE
    assert len(images) == len(operation.image_ids) == 2
    assert operation.cost_usd == 3 * PRICE


async def test_unknown_outcome_is_settled_when_it_can_be(tmp_path: Path) -> None:
    """A provider that can tell only later is asked later; the money is free again."""
    await _killed_at(tmp_path, "charged")
    async with _after(tmp_path, _provider(tmp_path, keeps_tasks=False)) as (_, before):
        pass

    async with _after(tmp_path, _provider(tmp_path)) as (gaia, after):
        usage = await gaia.usage()

    assert (before.state, after.state) == (OperationState.UNKNOWN, OperationState.DONE)
    assert [(row.cost_usd, row.held_usd) for row in usage] == [(PRICE, Decimal(0))]


async def test_recovering_twice_changes_nothing(tmp_path: Path) -> None:
    """Recovery may itself be interrupted: the second run finds nothing to do."""
    await _killed_at(tmp_path, "charged")

    async with _after(tmp_path, _provider(tmp_path)) as (gaia, operation):
        again = await gaia.recover()
        found = await gaia.operation(operation.id)

    assert again == 0
    assert found == operation


async def test_living_process_keeps_its_work(tmp_path: Path) -> None:
    """What another process is working on is left alone."""
    settings = dying.settings_in(tmp_path)
    slow = HeldProvider(price_usd="0.04")
    busy = Gaia.open(settings, plugins=[slow], discover=False)
    idle = Gaia.open(settings, plugins=[_provider(tmp_path)], discover=False)

    async with busy, idle:
        work = asyncio.create_task(busy.generate(dying.DRAGON))
        await slow.called()
        adopted = await idle.recover()
        slow.go.set()
        response = await work

    assert adopted == 0
    assert response.cost_usd == PRICE


async def test_killed_request_can_be_asked_again(tmp_path: Path) -> None:
    """A request that was never sent may be repeated under its own key."""
    await _killed_at(tmp_path, "accepted")

    async with _after(tmp_path, _provider(tmp_path)) as (gaia, operation):
        response = await gaia.generate(
            attrs.evolve(dying.DRAGON, seed=5), idempotency_key="again"
        )
        again = await gaia.generate(
            attrs.evolve(dying.DRAGON, seed=5), idempotency_key="again"
        )

    assert response.operation_id == again.operation_id != operation.id
