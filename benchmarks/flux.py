"""
Measure what the room of FLUX adds to diffusers, and what its ways of saving save.

Everything is drawn by tiny models on the processor, in one thread: what the room adds
is the same with large ones, only harder to see. Ways to be compared take turns, so that
whatever else the machine does hits all of them alike; medians count::

    python benchmarks/flux.py [rounds]

For the speed of a graphics card see ``benchmarks/flux_gpu.py``.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Final

if find_spec("torch") is None or find_spec("diffusers") is None:
    sys.exit("Not measured: torch and diffusers are not installed.")

os.environ.setdefault("OMP_NUM_THREADS", "1")

import diffusers
import torch
import transformers

from gaia_core import Gaia, GenerateRequest, Settings
from gaia_core.ledger import MemoryLedger
from gaia_core.testing import context
from gaia_flux import FluxProvider, tiny

MODEL: Final = "tiny"
SIDE = 256
STEPS = 4
BATCH = 8
TARGET_OVERHEAD = 1.15
TARGET_BATCH = 0.75
TOLD = """
import sys
from gaia_core.cli import main
try:
    main(["models", "--json"], standalone_mode=False)
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""

Call = Callable[[], Awaitable[object]]
_numbers = count()


def main(rounds: int = 30) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, one thread")
    print(f"tiny FLUX.1 [schnell], {SIDE}x{SIDE}, {STEPS} steps; {rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.build("flux1-schnell", Path(folder, "model"))
        asyncio.run(_overhead(model, Path(folder), rounds))
        asyncio.run(_batches(model, max(3, rounds // 5)))
        asyncio.run(_prompts(model, rounds))
        asyncio.run(_isolation(model, rounds))
        _listing(model, Path(folder), max(3, rounds // 5))


# -- what is measured -------------------------------------------------------------


async def _overhead(model: Path, folder: Path, rounds: int) -> None:
    """Compare the bare pipeline, the provider's hook, and `Gaia.generate`."""
    pipeline = _pipeline(model)
    settings = Settings(image_store=folder / "pictures")
    parts: Any = {"ledger": MemoryLedger(), "discover": False}
    async with (
        _provider(model) as provider,
        _provider(model) as inner,
        Gaia.open(settings, plugins=[inner], **parts) as gaia,
    ):
        times = await _in_turns(
            {
                "diffusers, a picture": _in_a_thread(lambda: _drawn(pipeline)),
                "diffusers, a PNG": _in_a_thread(lambda: _encoded(pipeline)),
                "gaia_generate": lambda: provider.gaia_generate(_request(), context()),
                "Gaia.generate": lambda: gaia.generate(_request()),
            },
            rounds,
        )
    print("One picture, of a prompt not seen before")
    _table(times)
    for name in ("gaia_generate", "Gaia.generate"):
        _judge(
            f"{name} over diffusers, a PNG",
            times[name] / times["diffusers, a PNG"],
            TARGET_OVERHEAD,
        )
    print()


async def _batches(model: Path, rounds: int) -> None:
    """Compare eight equal requests at once with and without batching."""
    async with (
        _provider(model, batching=False) as alone,
        _provider(model, batching=True) as together,
    ):
        times = await _in_turns(
            {
                f"{BATCH} pictures, singly": lambda: _at_once(alone),
                f"{BATCH} pictures, batched": lambda: _at_once(together),
            },
            rounds,
        )
    singly, batched = times.values()
    print(f"{BATCH} requests at once")
    _table(times, per=BATCH)
    _judge("batched over singly", batched / singly, TARGET_BATCH)
    print()


async def _prompts(model: Path, rounds: int) -> None:
    """Compare a prompt seen before with a new one."""
    async with _provider(model) as provider:

        def call(prompt: str | None) -> Call:
            return lambda: provider.gaia_generate(_request(prompt), context())

        times = await _in_turns(
            {"a new prompt": call(None), "a prompt seen before": call("a dragon")},
            rounds,
        )
    print("The cache of prompts")
    _table(times)
    print()


async def _isolation(model: Path, rounds: int) -> None:
    """Compare a worker in a thread with one in a process of its own."""
    async with (
        _provider(model, isolated=False) as inside,
        _provider(model, isolated=True) as outside,
    ):
        times = await _in_turns(
            {
                "in a thread": lambda: inside.gaia_generate(_request(), context()),
                "in a process": lambda: outside.gaia_generate(_request(), context()),
            },
            rounds,
        )
    print("Where the worker is")
    _table(times)
    print()


def _listing(model: Path, folder: Path, rounds: int) -> None:
    """Compare `gaia models` with the room and without a plugin."""
    settings = {
        "no plugin": "[gaia.plugins]\nallow = []\n",
        "flux": _section(model),
    }
    times: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(rounds):
        for name, text in settings.items():
            times[name].append(_listed(folder / f"{name}.toml", text))
    print("gaia models, its process included")
    _table({name: statistics.median(found) for name, found in times.items()})
    print("  torch was not imported")


def _listed(path: Path, text: str) -> float:
    path.write_text(text, encoding="utf-8")
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", TOLD],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GAIA_CONFIG": str(path)},
    )
    seconds = time.perf_counter() - start
    json.loads(done.stdout)
    if done.stderr.split()[-1] != "False":
        message = "gaia models imported torch."
        raise RuntimeError(message)
    return seconds


def _section(model: Path) -> str:
    return "\n".join(
        [
            '[gaia.plugins]\nallow = ["flux"]',
            '[providers.flux]\ndevice = "cpu"',
            f'[providers.flux.models.{MODEL}]\nfamily = "flux1-schnell"',
            f'path = "{model.as_posix()}"\n',
        ]
    )


# -- calls ------------------------------------------------------------------------


def _pipeline(model: Path) -> Any:
    pipeline = diffusers.FluxPipeline.from_pretrained(model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _drawn(pipeline: Any) -> Any:
    """Draw as diffusers' documentation shows it."""
    return pipeline(
        prompt=_prompt(),
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        max_sequence_length=256,
        generator=[torch.Generator("cpu").manual_seed(1)],
    ).images[0]


def _encoded(pipeline: Any) -> bytes:
    data = BytesIO()
    _drawn(pipeline).save(data, "PNG", compress_level=1)
    return data.getvalue()


def _in_a_thread(draw: Callable[[], object]) -> Call:
    """Draw as a server would: outside of the event loop."""
    return lambda: asyncio.to_thread(draw)


@asynccontextmanager
async def _provider(model: Path, **settings: Any) -> Any:
    """Open a provider of one tiny model, and close it."""
    provider = FluxProvider(
        device="cpu",
        models={MODEL: {"family": "flux1-schnell", "path": str(model)}},
        **settings,
    )
    try:
        yield provider
    finally:
        await provider.gaia_stop()


async def _at_once(provider: FluxProvider) -> None:
    calls = (provider.gaia_generate(_request(), context()) for _ in range(BATCH))
    await asyncio.gather(*calls)


def _request(prompt: str | None = None) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt or _prompt(),
        model=MODEL,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        seed=next(_numbers),
    )


def _prompt() -> str:
    return f"dragon number {next(_numbers)} over a ruined keep"


# -- figures ----------------------------------------------------------------------


async def _in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Make every call once unmeasured, then in turns; give the median seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        await call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            await call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def _table(times: Mapping[str, float], *, per: int = 1) -> None:
    first = next(iter(times.values()))
    for name, seconds in times.items():
        ratio = f"{seconds / first:.2f}x"
        print(f"  {name:24} {seconds * 1000 / per:8.1f} ms {ratio:>8}")


def _judge(name: str, ratio: float, target: float) -> None:
    verdict = "met" if ratio <= target else "MISSED"
    print(f"  {name}: {ratio:.2f}x; at most {target}x is wanted: {verdict}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
