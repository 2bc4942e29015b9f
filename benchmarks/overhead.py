"""
Measure what the engine adds to a call, and what more providers add to that.

The provider answers at once with a picture made beforehand, and the store keeps
nothing, so what is left is the engine: checks, plan, ledger, and the checks of
the result. Direct and engine calls take turns::

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
from gaia_core.settings import PluginSettings
from gaia_core.testing.pictures import png

SIDE = 64
PICTURE = png(SIDE, SIDE)
REQUEST = GenerateRequest(prompt="a red dragon", width=SIDE, height=SIDE, seed=7)
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
    titles = ("direct us", "engine us", "added us", "p95 us")
    print(f"{'providers':>9}", *(f"{title:>11}" for title in titles))
    for number in NUMBERS:
        direct, engine = asyncio.run(_measure(number, calls))
        low, high = statistics.median(direct), statistics.median(engine)
        p95 = statistics.quantiles(engine, n=20)[-1]
        figures = (low, high, high - low, p95)
        print(f"{number:>9}", *(f"{figure:>11.0f}" for figure in figures))


async def _measure(number: int, calls: int) -> tuple[list[float], list[float]]:
    """Call the hook directly and through the engine, in turns, in microseconds."""
    providers = [
        InstantProvider(name=f"instant{rank}", priority=rank) for rank in range(number)
    ]
    best = providers[-1]
    context: Any = None
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            image_store=Path(folder), plugins=PluginSettings(allow=frozenset())
        )
        storage: Any = NoStorage()
        async with Gaia.open(settings, plugins=providers, storage=storage) as gaia:
            direct, engine = [], []
            for _ in range(calls):
                direct.append(
                    await _timed(lambda: best.gaia_generate(REQUEST, context))
                )
                engine.append(await _timed(lambda: gaia.generate(REQUEST)))
    return direct, engine


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await call()
    return (time.perf_counter() - start) * 1_000_000


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
