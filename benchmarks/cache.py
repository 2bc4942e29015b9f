"""
Measure what an answer costs that was given before.

Three parts, in one run::

    python benchmarks/cache.py [rounds] [entries]

* One request through the whole engine, with the ledger in SQLite and the pictures
  in files: made by a provider that answers at once with a picture of 1.3 MB, found
  in memory, and found in ledger and store, where the picture is read and checked.
  The three take turns.
* One look-up in the cache, with one answer kept and with 100,000.
* One caller more who wants what is being made already.
"""

import asyncio
import hashlib
import io
import itertools
import logging
import random
import statistics
import sys
import tempfile
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import structlog
from PIL import Image as Pillow
from sqlalchemy import Connection, Table, insert

from gaia_core import Gaia, GeneratedImage, GenerateRequest, ImageResult, Settings
from gaia_core.cache import SETTLED_NS, LedgerCache
from gaia_core.flights import Flights
from gaia_core.images import Image
from gaia_core.ledger import SqlLedger
from gaia_core.ledger.database import Database
from gaia_core.ledger.tables import images, operations, results
from gaia_core.responses import Response
from gaia_core.storage import FileStorage
from gaia_core.testing import FakeProvider, png

SIDE = 1_024
HITS = 10
"""How often an answer is found for each one that is made."""
SAMPLE = 200
"""How many of many answers are looked up."""
CALLERS = 2_000
PAUSE = SETTLED_NS / 1e9 + 0.05
"""How long after a picture was written its file can vouch for it, in seconds."""


# -- pictures and tables ----------------------------------------------------------


def noise() -> bytes:
    """Make a picture of 1.3 MB, as a photograph of this size has."""
    levels = bytes(96 + value % 6 * 4 for value in range(256))
    data = random.Random(0).randbytes(SIDE * SIDE * 3).translate(levels)  # noqa: S311  a picture, not a key
    buffer = io.BytesIO()
    Pillow.frombytes("RGB", (SIDE, SIDE), data).save(buffer, "PNG")
    return buffer.getvalue()


def numbered(data: bytes, number: int) -> bytes:
    """Write a number into a PNG file, so that no two are the same."""
    chunk = b"tEXtnumber\0%d" % number
    length = (len(chunk) - 4).to_bytes(4)
    checksum = zlib.crc32(chunk).to_bytes(4)
    return data[:-12] + length + chunk + checksum + data[-12:]


def show(title: str, seconds: Sequence[float], *, base: float | None = None) -> float:
    """Print one line, in microseconds and as a share of another figure."""
    middle = statistics.median(seconds)
    p95 = statistics.quantiles(seconds, n=20)[-1]
    share = f"{middle / base:>9.4f}" if base else " " * 9
    print(f"{title:<44}{middle * 1e6:>11.1f}{p95 * 1e6:>11.1f}{share}")
    return middle


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Measure one call, in seconds."""
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


# -- one request --------------------------------------------------------------------


@attrs.define(eq=False)
class Either:
    """Two caches over the same answers; one of them is in use."""

    caches: Sequence[LedgerCache]
    chosen: int = 0

    async def find(self, key: str) -> Response | None:
        """Ask the one in use."""
        return await self.caches[self.chosen].find(key)

    async def keep(self, key: str, response: Response) -> None:
        """Tell both."""
        for cache in self.caches:
            await cache.keep(key, response)


async def measure_requests(folder: Path, rounds: int) -> None:
    """Compare a request that is made with the same one found, in turns."""
    data = noise()
    answers = [_answer(numbered(data, number)) for number in range(rounds + 1)]
    provider = FakeProvider(outcomes=answers, steps=())
    ledger, storage = _ledger(folder), FileStorage(folder / "images")
    cache = Either(
        [LedgerCache(ledger, storage), LedgerCache(ledger, storage, max_in_memory=0)]
    )
    gaia = Gaia.open(
        Settings(image_store=storage.root),
        plugins=[provider],
        storage=storage,
        ledger=ledger,
        cache=cache,
        discover=False,
    )
    async with gaia:
        old = _request(0)
        await _prepare(gaia, old)
        times: dict[str, list[float]] = {"made": [], "memory": [], "disk": []}
        for number in range(1, rounds + 1):
            new = _request(number)
            times["made"].append(await timed(partial(gaia.generate, new)))
            for chosen, name in enumerate(("memory", "disk")):
                cache.chosen = chosen
                times[name] += [
                    await timed(partial(gaia.generate, old)) for _ in range(HITS)
                ]
    if len(provider.calls) != rounds + 1:
        message = f"The provider was asked {len(provider.calls)} times."
        raise RuntimeError(message)
    base = show(f"made, {len(data) / 1e6:.2f} MB", times["made"])
    show("found in memory (at most 0.0100)", times["memory"], base=base)
    show("found on disk, checked (at most 0.3333)", times["disk"], base=base)


async def _prepare(gaia: Gaia, request: GenerateRequest) -> None:
    """Have an answer made, and found once when its file can vouch for it."""
    await gaia.generate(request)
    await asyncio.sleep(PAUSE)
    found = await gaia.generate(request)
    if not found.is_reused:
        message = "The answer was not found again."
        raise RuntimeError(message)


def _request(seed: int) -> GenerateRequest:
    return GenerateRequest(prompt="a red dragon", width=SIDE, height=SIDE, seed=seed)


def _answer(data: bytes) -> ImageResult:
    picture = GeneratedImage(data=data, seed=0)
    return ImageResult(images=[picture], provider="fake", model="fake")


def _ledger(folder: Path) -> SqlLedger:
    return SqlLedger(Database(f"sqlite:///{folder / 'gaia.db'}"))


# -- one look-up --------------------------------------------------------------------


async def measure_look_ups(folder: Path, rounds: int, entries: int) -> None:
    """Compare look-ups among one answer and among many."""
    ledger, storage = _ledger(folder), FileStorage(folder / "images")
    await ledger.open()
    try:
        kept = await _fill(ledger, storage, 1, real=1)
        alone = await _look_up(ledger, storage, kept, [1], rounds=rounds)
        kept += await _fill(ledger, storage, entries - 1, real=SAMPLE - 1)
        crowd = await _look_up(
            ledger, storage, kept, [1, SAMPLE], rounds=rounds, entries=entries
        )
    finally:
        await ledger.close()
    for (place, _), seconds in alone.items():
        base = show(f"{place}, 1 answer", seconds)
        show(
            f"{place}, the same of {entries} (at most 1.3)",
            crowd[place, 1],
            base=base,
        )
        show(
            f"{place}, {SAMPLE} of {entries} in turns", crowd[place, SAMPLE], base=base
        )


async def _look_up(  # noqa: PLR0913  what is measured, and how
    ledger: SqlLedger,
    storage: FileStorage,
    keys: Sequence[str],
    numbers: Iterable[int],
    *,
    rounds: int,
    entries: int = 1,
) -> dict[tuple[str, int], list[float]]:
    """
    Look answers up in memory, and in ledger and store, in turns.

    Returns:
        Where, and how many answers took turns, to the seconds of each look-up.
    """
    memory = LedgerCache(ledger, storage, max_in_memory=entries)
    disk = LedgerCache(ledger, storage, max_in_memory=0)
    await _warm(memory, keys, entries)
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in numbers:
        for key in itertools.islice(itertools.cycle(keys[:number]), 10 * rounds):
            for place, cache in (("in memory", memory), ("on disk", disk)):
                times[place, number].append(await timed(partial(cache.find, key)))
    return times


async def _warm(memory: LedgerCache, keys: Sequence[str], entries: int) -> None:
    """Have files checked that can vouch for themselves, and fill the memory."""
    await asyncio.sleep(PAUSE)
    found = [await memory.find(key) for key in keys]
    responses = [response for response in found if response is not None]
    if len(responses) < len(keys):
        message = f"{len(keys) - len(responses)} answers were not found."
        raise RuntimeError(message)
    for _ in range(entries - len(keys)):
        # A copy: every answer has its own place in memory.
        await memory.keep(_key(uuid.uuid4().hex), attrs.evolve(responses[0]))


async def _fill(
    ledger: SqlLedger, storage: FileStorage, number: int, *, real: int
) -> list[str]:
    """
    Put answers on the book; so many of them, chosen by chance, can be looked up.

    All others have an empty record in the store: the folders are as full.
    """
    names = [uuid.uuid4().hex for _ in range(number)]
    chosen = random.sample(names, min(real, number))
    pictures = {name: uuid.uuid4().hex for name in names}
    for name in chosen:
        pictures[name] = await _picture(storage, name)
    for picture in pictures.values():
        path = storage.root / "records" / picture[:2] / f"{picture}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for first in range(0, number, 1_000):
        some = names[first : first + 1_000]
        await ledger.database.write(partial(_note, some, pictures))
    return [_key(name) for name in chosen]


async def _picture(storage: FileStorage, name: str) -> str:
    image = Image.from_bytes(numbered(png(), int(name, 16)))
    stored = await storage.put(image, operation_id=name, provider="fake", model="fake")
    return stored.id


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _note(
    names: Sequence[str], pictures: Mapping[str, str], connection: Connection
) -> None:
    """Write operations that are done, their pictures, and what they are found by."""
    now = time.time_ns() // 1_000
    moments = dict.fromkeys(("created_at", "updated_at", "finished_at"), now)
    done = {"capability": "text-to-image", "state": "done", "day": "2026-11-22"}
    maker = {"provider": "fake", "model": "fake", "cost": 40_000, "answer": "{}"}
    file = {"sha256": "0" * 64, "media_type": "image/png", "width": 64, "height": 64}
    tables: dict[Table, Callable[[str], dict[str, Any]]] = {
        operations: lambda name: {"id": name, **done, **maker, **moments},
        images: lambda name: {
            "id": pictures[name],
            "operation_id": name,
            "position": 0,
            **file,
        },
        results: lambda name: {
            "key": _key(name),
            "operation_id": name,
            "used_at": now,
        },
    }
    for table, row in tables.items():
        connection.execute(insert(table), [row(name) for name in names])


# -- one caller more ----------------------------------------------------------------


async def measure_callers(folder: Path, rounds: int) -> None:
    """Compare one caller with many who want the same: processor time for each more."""
    show_callers("one caller more, single flight (at most 30)", await _joined(rounds))
    show_callers("one caller more, whole engine", await _served(folder, rounds))


def show_callers(title: str, seconds: Sequence[float]) -> None:
    """Print the median."""
    print(f"{title:<44}{statistics.median(seconds) * 1e6:>11.1f}")


async def _joined(rounds: int) -> list[float]:
    """Let callers join work that does nothing."""
    flights = Flights()

    async def join(callers: int) -> None:
        gate = asyncio.Event()
        waiting = [
            asyncio.create_task(flights.join("key", gate.wait)) for _ in range(callers)
        ]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*waiting)

    return [await _each_more(join) for _ in range(rounds)]


async def _served(folder: Path, rounds: int) -> list[float]:
    """Let callers ask an open Gaia for the same."""
    seeds = itertools.count()
    provider = FakeProvider(delay=0.5, steps=())
    settings = Settings(image_store=folder / "images")
    gaia = Gaia.open(
        settings, plugins=[provider], ledger=_ledger(folder), discover=False
    )

    async def ask(callers: int) -> None:
        request = _request(next(seeds))
        await asyncio.gather(*(gaia.generate(request) for _ in range(callers)))

    async with gaia:
        taken = [await _each_more(ask) for _ in range(max(1, rounds // 10))]
        if len(provider.calls) != next(seeds):
            message = f"The provider was asked {len(provider.calls)} times."
            raise RuntimeError(message)
    return taken


async def _each_more(run: Callable[[int], Awaitable[None]]) -> float:
    """Measure the processor time of each caller beside the first, in seconds."""
    start = time.process_time()
    await run(1)
    middle = time.process_time()
    await run(1 + CALLERS)
    end = time.process_time()
    return ((end - middle) - (middle - start)) / CALLERS


def main(rounds: int = 30, entries: int = 100_000) -> None:
    """Measure everything, and print one line for each figure."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    print(f"{'':<44}{'median us':>11}{'p95 us':>11}{'share':>9}")
    parts: Sequence[Callable[[Path], Awaitable[None]]] = (
        partial(measure_requests, rounds=rounds),
        partial(measure_look_ups, rounds=rounds, entries=entries),
        partial(measure_callers, rounds=rounds),
    )
    for measure in parts:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_run(measure, Path(folder)))


async def _run(measure: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    await measure(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
