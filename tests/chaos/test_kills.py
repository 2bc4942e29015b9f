"""
``gaia batch`` is killed at random moments, and started again until it has ended.

A real process, a real database, a vendor with a book of its own that fails to order.
The short runs are part of the suite; ``nox -s chaos`` runs the long ones.
"""

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core.ledger import Batch, Operation, OperationState, Problem
from gaia_core.ledger.database import Database
from gaia_core.ledger.sql import SqlLedger
from gaia_core.storage import FileStorage
from gaia_core.testing.vendors import Fault, Faults, VendorProcess, plugin_folder

ROOT = Path(__file__).parent.parent.parent
AT_ONCE = 4
READY = 3.0
"""Seconds after which a process that was started again works."""
PATIENCE = 600.0

# Three in ten go wrong: half of these before the charge, half after it.
RATES: Mapping[Fault, float] = {
    Fault.BUSY: 0.05,
    Fault.UNAVAILABLE: 0.05,
    Fault.DROP_BEFORE: 0.05,
    Fault.DROP_AFTER: 0.05,
    Fault.TRUNCATED_AFTER: 0.05,
    Fault.ERROR_AFTER: 0.05,
}


@attrs.frozen(kw_only=True)
class Ordeal:
    """
    What is done to a batch.

    Attributes:
        items: How many requests.
        kills: How often its process is killed at least.
        delay: Seconds the vendor takes for each.
        longest: Seconds a process works at most before it is killed.
        has_lookup: Whether the vendor tells what became of a lost answer.
        seed: Chooses the moments, and what goes wrong.
    """

    items: int
    kills: int
    delay: float
    longest: float
    has_lookup: bool
    seed: int = 20261122

    def __attrs_post_init__(self) -> None:
        """Refuse what could be over before it was killed often enough."""
        assert self.kills * self.longest * AT_ONCE / self.delay < self.items


@attrs.define(eq=False, kw_only=True)
class World:
    """A batch file, a database, a store and a vendor, and who works on them."""

    folder: Path
    vendor: VendorProcess
    ready: list[float] = attrs.field(factory=list)
    kills: int = 0
    unready_kills: int = 0

    @property
    def database(self) -> Path:
        """The file of the ledger."""
        return self.folder / "gaia.db"

    def start(self) -> "subprocess.Popen[bytes]":
        """Start ``gaia batch`` as a person would, the first time or again."""
        paths = [self.folder / "plugins", ROOT]
        environ = {
            **os.environ,
            "GAIA_DATABASE": f"sqlite:///{self.database}",
            "GAIA_PLUGINS__ALLOW": "vendor",
            "IMAGE_STORAGE_PATH": str(self.folder / "store"),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        words = ["batch", str(self.folder / "scenes.jsonl")]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "gaia_core.cli", *words),
                    *("--max-concurrent", str(AT_ONCE)),
                    *("-o", str(self.folder / "pictures")),
                ],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def last_event(self) -> int:
        """Tell how many events there are by now."""
        if not self.database.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            try:
                found = db.execute("SELECT max(last_event) FROM batches").fetchone()
            except sqlite3.Error:
                return 0  # its tables are being made
        return int(found[0] or 0)

    def wait_until_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until a process has done something; tell whether it still runs."""
        start, before = time.monotonic(), self.last_event()
        while process.poll() is None:
            if self.last_event() > before:
                self.ready.append(time.monotonic() - start)
                return True
            assert time.monotonic() < start + PATIENCE
            time.sleep(0.01)
        return False

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill a process as nothing else does."""
        process.kill()
        process.wait()
        self.kills += 1


def _suffer(world: World, ordeal: Ordeal) -> int:
    """Kill and restart until the batch has ended; give the last exit code."""
    moments = random.Random(ordeal.seed)  # noqa: S311  no secret
    while True:
        process = world.start()
        try:
            if world.kills and moments.random() < 0.1:
                # Some never come as far as to work.
                time.sleep(moments.uniform(0.0, 0.8))
                world.unready_kills += 1
            elif not world.wait_until_ready(process) or world.kills >= ordeal.kills:
                return process.wait(timeout=PATIENCE)
            else:
                time.sleep(moments.uniform(0.0, ordeal.longest))
            if process.poll() is None:
                world.kill(process)
        finally:
            process.kill()
            process.wait()


@attrs.frozen(kw_only=True)
class Finding:
    """What was found when everything was over."""

    batch: Batch
    items: list[Operation]
    problems: list[Problem]
    digests: Counter[bool]
    held_usd: Decimal
    spent_usd: Decimal


async def _look(world: World) -> Finding:
    """Read ledger and store."""
    ledger = SqlLedger(Database(f"sqlite:///{world.database}"))
    storage = FileStorage(world.folder / "store")
    await ledger.open()
    try:
        batch = (await ledger.batches.latest())[0]
        items = [item async for item in ledger.batches.items(batch.id)]
        problems = list(await ledger.check())
        usage = await ledger.usage(["provider"])
    finally:
        await ledger.close()
    digests: Counter[bool] = Counter()
    for item in items:
        for image_id in item.image_ids:
            # It raises where the file is missing or not what it was.
            data, stored = await storage.read(image_id), await storage.get(image_id)
            number = f"{1 + (item.position or 0):04d}.png"
            copy = (world.folder / "pictures" / number).read_bytes()
            digests[stored is not None and copy == data] += 1
    return Finding(
        batch=batch,
        items=items,
        problems=problems,
        digests=digests,
        held_usd=sum((row.held_usd for row in usage), Decimal(0)),
        spent_usd=sum((row.cost_usd for row in usage), Decimal(0)),
    )


def _world(folder: Path, ordeal: Ordeal) -> World:
    """Write the batch file and the vendor's plugin; the vendor is not started yet."""
    lines = (
        json.dumps({"prompt": f"scene {number}", "width": 32, "height": 32})
        for number in range(ordeal.items)
    )
    path = folder / "scenes.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    vendor = VendorProcess(
        path=folder / "book.jsonl",
        faults=Faults(rates=dict(RATES), seed=ordeal.seed),
        delay=ordeal.delay,
        has_lookup=ordeal.has_lookup,
    )
    return World(folder=folder, vendor=vendor)


def _integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


def _check(ordeal: Ordeal, world: World, found: Finding) -> None:
    """Compare what the ledger says with what the vendor says."""
    batch, items, vendor = found.batch, found.items, world.vendor
    charges = Counter(charge.prompt for charge in vendor.charges)
    states = {item.request["prompt"]: item.state for item in items if item.request}
    done = {prompt for prompt, state in states.items() if state == "done"}
    unknown = {prompt for prompt, state in states.items() if state == "unknown"}
    failed = {prompt for prompt, state in states.items() if state == "failed"}

    assert world.kills >= ordeal.kills
    # Nothing lost: every item has ended, and is counted as what it is.
    assert len(items) == batch.total == ordeal.items
    assert batch.done + batch.failed + batch.unknown == ordeal.items
    assert (batch.done, batch.failed, batch.unknown) == (
        len(done),
        len(failed),
        len(unknown),
    )
    # Nothing paid twice, and nothing done without being paid or paid without a word.
    assert vendor.double_charges() == {}
    assert max(charges.values()) == 1
    assert done <= set(charges)
    assert set(charges) <= done | unknown
    # Every picture is there, in the store and where it was wanted.
    assert found.digests == Counter({True: len(done)})
    # The money is right to the cent.
    price = vendor.price_usd
    assert found.spent_usd == batch.cost_usd == price * len(done)
    assert found.held_usd == price * len(unknown)
    # The book holds together.
    assert found.problems == []
    assert _integrity(world.database) == "ok"
    # A refusal for now fails nothing, and three in ten requests go wrong here; only
    # what was taken by three processes that were killed before they sent it has
    # failed.
    reasons = {item.error_type for item in items if item.state == "failed"}
    assert reasons <= {"PoisonError"}
    if ordeal.has_lookup:
        assert not unknown


def _figures(ordeal: Ordeal, world: World, found: Finding, seconds: float) -> str:
    batch = found.batch
    return json.dumps(
        {
            "items": ordeal.items,
            "lookup": ordeal.has_lookup,
            "kills": world.kills,
            "before_ready": world.unready_kills,
            "done": batch.done,
            "failed": Counter(item.error_type for item in found.items if item.error),
            "unknown": batch.unknown,
            "requests": world.vendor.requests,
            "charges": len(world.vendor.charges),
            "ready_median_s": round(statistics.median(world.ready), 2),
            "ready_max_s": round(max(world.ready), 2),
            "seconds": round(seconds, 1),
        }
    )


async def _torment(
    folder: Path, ordeal: Ordeal, say: Callable[[str], Any]
) -> tuple[World, Finding]:
    start, world = time.monotonic(), _world(folder, ordeal)
    with world.vendor:
        plugin_folder(
            folder / "plugins",
            base_url=world.vendor.url,
            has_lookup=ordeal.has_lookup,
        )
        code = _suffer(world, ordeal)
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert code in (0, 3), log[-2_000:]
    assert "Traceback" not in log
    found = await _look(world)
    say(_figures(ordeal, world, found, time.monotonic() - start))
    return world, found


@pytest.mark.slow
@pytest.mark.parametrize("has_lookup", [True, False], ids=["look-up", "no-look-up"])
async def test_nothing_is_lost_or_paid_twice(
    tmp_path: Path, *, has_lookup: bool
) -> None:
    """Killed five times, a batch of sixty comes to its end, each item paid once."""
    ordeal = Ordeal(items=60, kills=5, delay=0.1, longest=0.25, has_lookup=has_lookup)

    world, found = await _torment(tmp_path, ordeal, print)

    _check(ordeal, world, found)
    assert statistics.median(world.ready) <= READY
    assert all(item.state is not OperationState.LEASED for item in found.items)


@pytest.mark.chaos
@pytest.mark.parametrize("has_lookup", [True, False], ids=["look-up", "no-look-up"])
async def test_nothing_is_lost_or_paid_twice_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, has_lookup: bool
) -> None:
    """Killed fifty times and more, a batch of a thousand comes to its end."""
    ordeal = Ordeal(
        items=1_000, kills=55, delay=0.2, longest=0.9, has_lookup=has_lookup
    )

    world, found = await _torment(tmp_path, ordeal, print)
    with capsys.disabled():
        print(capsys.readouterr().out)  # noqa: T201  the figures are wanted

    _check(ordeal, world, found)
    assert max(world.ready) <= READY
