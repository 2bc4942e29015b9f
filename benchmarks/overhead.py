"""
Measure what the engine adds to a call, and what more providers add to that.

The provider answers at once with a picture made beforehand, and the store keeps
nothing, so what is left is the engine: checks, plan, rules, ledger, and the checks of
the result. It works once without a ledger that survives, and once with the usual one
on this disk. Direct and engine calls take turns::

    python benchmarks/overhead.py [calls]
"""

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import structlog

from gaia_core import (
    CallContext,
    Capability,
    Gaia,
    GeneratedImage,
    GenerateRequest,
    Image,
    ImageResult,
    ModelInfo,
    Price,
    ProviderInfo,
    Settings,
    StoredImage,
    hookimpl,
)
from gaia_core.ledger import MemoryLedger
from gaia_core.settings import PluginSettings
from gaia_core.testing.pictures import png

SIDE = 64
PICTURE = png(SIDE, SIDE)
REQUEST = GenerateRequest(prompt="a red dragon", width=SIDE, height=SIDE)
NUMBERS = (1, 5, 20)
"""How many providers are installed."""


@attrs.define(eq=False, kw_only=True)
class InstantProvider:
    """Answers at once with the same picture."""

    name: str = "instant"
    priority: int = 0

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say who this is."""
        return ProviderInfo(
            name=self.name,
            capabilities={Capability.TEXT_TO_IMAGE},
            priority=self.priority,
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List five models, as vendors do."""
        return [
            ModelInfo(
                id=f"{self.name}:{number}",
                name=f"Instant {number}",
                provider=self.name,
                capabilities={Capability.TEXT_TO_IMAGE},
                supported_fields={"seed"},
                price=Price(per_image=0.01),
            )
            for number in range(5)
        ]

    @hookimpl
    async def gaia_generate(
        self,
        request: GenerateRequest,
        context: CallContext,  # noqa: ARG002  the hook's signature
    ) -> ImageResult:
        """Answer with the picture made beforehand."""
        return ImageResult(
            images=[GeneratedImage(data=PICTURE, seed=request.seed)],
            provider=self.name,
            model=request.model or "",
        )


class NoStorage:
    """Keeps nothing."""

    async def check(self, expected_bytes: int = 0) -> None:
        """Have room for everything."""

    async def put(self, image: Image, **facts: Any) -> StoredImage:
        """Say that the picture is stored."""
        return StoredImage(
            id="0" * 32,
            path=Path("nowhere.png"),
            media_type=image.media_type,
            width=image.width,
            height=image.height,
            sha256="0" * 64,
            created_at=datetime.now(UTC),
            **facts,
        )


def main(calls: int = 300) -> None:
    """Print the median of direct calls and of calls through the engine."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    titles = ("direct us", "added us", "p95 us", "with ledger us", "p95 us")
    print(f"{'providers':>9}", *(f"{title:>14}" for title in titles))
    for number in NUMBERS:
        direct, engine, booked = asyncio.run(_measure(number, calls))
        low = statistics.median(direct)
        figures = (low, *_added(engine, low), *_added(booked, low))
        print(f"{number:>9}", *(f"{figure:>14.0f}" for figure in figures))


def _added(times: Sequence[float], direct: float) -> tuple[float, float]:
    """Give what the engine adds to a direct call: median and 95th percentile."""
    p95 = statistics.quantiles(times, n=20)[-1]
    return statistics.median(times) - direct, p95 - direct


async def _measure(
    number: int, calls: int
) -> tuple[list[float], list[float], list[float]]:
    """Call the hook directly and through two engines, in turns, in microseconds."""
    providers = [
        InstantProvider(name=f"instant{rank}", priority=rank) for rank in range(number)
    ]
    best = providers[-1]
    context: Any = None
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database=f"sqlite:///{folder}/gaia.db",
            image_store=Path(folder),
            plugins=PluginSettings(allow=frozenset()),
        )
        parts: Any = {"plugins": providers, "storage": NoStorage()}
        without = Gaia.open(settings, ledger=MemoryLedger(), **parts)
        usual = Gaia.open(settings, **parts)
        direct, engine, booked = [], [], []
        async with without, usual:
            await usual.generate(REQUEST)
            for _ in range(calls):
                direct.append(
                    await _timed(lambda: best.gaia_generate(REQUEST, context))
                )
                engine.append(await _timed(lambda: without.generate(REQUEST)))
                booked.append(await _timed(lambda: usual.generate(REQUEST)))
    return direct, engine, booked


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await call()
    return (time.perf_counter() - start) * 1_000_000


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
