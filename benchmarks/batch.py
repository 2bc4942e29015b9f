"""
Measure a large batch: how long each item takes, and whether memory stays flat.

The provider answers at once with a picture made beforehand; ledger and store are the
ones everybody has. Memory is this process's resident set, read as items end::

    python benchmarks/batch.py [items] [concurrent]
"""

import asyncio
import gc
import logging
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import structlog

from gaia_core import (
    CallContext,
    Capability,
    Gaia,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    ProviderInfo,
    Settings,
    hookimpl,
)
from gaia_core.testing import png

SIDE = 64
PICTURE = png(SIDE, SIDE)
SHARES = 10
"""How many times memory is looked at."""
FLAT = 1.1
"""How much more memory the last tenth may take than the second."""


@attrs.define(eq=False, kw_only=True)
class InstantProvider:
    """Answers at once with the same picture."""

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who this is."""
        return ProviderInfo(name="instant", capabilities={Capability.TEXT_TO_IMAGE})

    @hookimpl
    async def gaia_generate(
        self,
        request: GenerateRequest,
        context: CallContext,  # noqa: ARG002  the hook's signature
    ) -> ImageResult:
        """Answer with the picture made beforehand."""
        return ImageResult(
            images=[GeneratedImage(data=PICTURE)],
            provider="instant",
            model=request.model or "",
        )


def requests(number: int) -> Iterator[GenerateRequest]:
    """Give requests one at a time."""
    return (
        GenerateRequest(prompt=f"scene {index}", width=SIDE, height=SIDE)
        for index in range(number)
    )


def resident() -> float:
    """Read how much memory this process has, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1_048_576


async def measure(folder: Path, items: int, concurrent: int) -> None:
    """Open a batch, run it, and print what that took."""
    settings = Settings(
        database=f"sqlite:///{folder / 'gaia.db'}", image_store=folder / "images"
    )
    plugins = [InstantProvider()]
    async with Gaia.open(settings, plugins=plugins, discover=False) as gaia:
        await gaia.batches.latest()  # the ledger is made and open
        before, start = resident(), time.perf_counter()
        batch = await gaia.batches.open(requests(items))
        opened = time.perf_counter() - start
        print(f"{items} items opened: {opened / items * 1e6:.0f} us each, ", end="")
        print(f"memory {before:.1f} > {resident():.1f} MiB")
        await follow(gaia, batch.id, items, concurrent)
        problems = await gaia.ledger.check()
    print("the ledger is in order" if not problems else f"problems: {problems}")


async def follow(gaia: Gaia, batch_id: str, items: int, concurrent: int) -> None:
    """Run a batch and look at the clock and at memory as it goes on."""
    kinds: Counter[str] = Counter()
    share, looks = items // SHARES, []
    start = last = time.perf_counter()
    print(f"{'done':>8}{'ms each':>10}{'MiB':>8}")
    async for event in gaia.batches.run(batch_id, max_concurrent=concurrent):
        kinds[event.kind] += 1
        if event.kind != "done" or kinds["done"] % share:
            continue
        gc.collect()
        now, memory = time.perf_counter(), resident()
        print(f"{kinds['done']:>8}{(now - last) / share * 1e3:>10.2f}{memory:>8.1f}")
        looks.append((now - last, memory))
        last = now
    seconds = time.perf_counter() - start
    print(f"{kinds['done']} done in {seconds:.1f} s: {items / seconds:.0f} a second")
    times, memories = zip(*looks, strict=True)
    growth = memories[-1] / memories[1]
    slower = times[-1] / statistics.median(times[1:])
    verdict = "flat" if growth <= FLAT else "NOT FLAT"
    print(f"memory of the last tenth to the second: {growth:.2f} ({verdict})")
    print(f"time of the last tenth to the median: {slower:.2f}")


def main(items: int = 10_000, concurrent: int = 8) -> None:
    """Measure in a folder that is gone afterwards."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        asyncio.run(measure(Path(folder), items, concurrent))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
