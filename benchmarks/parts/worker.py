"""
One client, measured in a process of its own.

It imports only what its case needs, so that it runs in an environment without Gaia,
too::

    python benchmarks/parts/worker.py CASE URL CALLS AT_ONCE

It prints one line of JSON: CPU per call, calls per second, memory.
"""

import asyncio
import base64
import hashlib
import io
import json
import os
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Call = Callable[[], Awaitable[object]]

PROMPT = "a red dragon over a ruined keep"
_MIB = 1 << 20


# -- what a host would write without Gaia ---------------------------------------------


@asynccontextmanager
async def raw_gemini(url: str) -> AsyncIterator[Call]:
    """Ask through google-genai."""
    from google import genai  # noqa: PLC0415  only this case has it
    from google.genai import types  # noqa: PLC0415  as above

    options = types.HttpOptions(base_url=url, timeout=60_000)
    client = genai.Client(api_key="none", http_options=options)
    config = types.GenerateContentConfig(response_modalities=["TEXT", "IMAGE"])

    async def call() -> object:
        reply = await client.aio.models.generate_content(
            model="gemini-3.1-flash-image", contents=PROMPT, config=config
        )
        return [part.inline_data.data for part in reply.parts or [] if part.inline_data]

    yield call
    await client.aio.aclose()


@asynccontextmanager
async def raw_openai(url: str) -> AsyncIterator[Call]:
    """Ask through openai."""
    from openai import AsyncOpenAI  # noqa: PLC0415  as above

    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0
    ) as client:

        async def call() -> object:
            reply = await client.images.generate(
                model="canned", prompt=PROMPT, response_format="b64_json"
            )
            return [base64.b64decode(one.b64_json or "") for one in reply.data or []]

        yield call


@asynccontextmanager
async def litellm_router(url: str) -> AsyncIterator[Call]:
    """Ask through LiteLLM's Router."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  as above

    litellm.suppress_debug_info = True
    parameters = {"model": "openai/canned", "api_base": f"{url}/v1", "api_key": "none"}
    router = litellm.Router(
        model_list=[{"model_name": "canned", "litellm_params": parameters}],
        num_retries=0,
    )

    async def call() -> object:
        reply = await router.aimage_generation(prompt=PROMPT, model="canned")
        return [base64.b64decode(one.b64_json) for one in reply.data]

    yield call


@asynccontextmanager
async def raw_runware(url: str) -> AsyncIterator[Call]:
    """Ask through runware-sdk, and fetch what it points at."""
    import aiohttp  # noqa: PLC0415  as above
    from runware import Runware  # noqa: PLC0415  as above

    socket = f"{url.replace('http', 'ws')}/v1"
    async with (
        Runware(api_key="none", ws_base_url=socket) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        async def call() -> object:
            replies = await client.run(
                {
                    "taskType": "imageInference",
                    "taskUUID": str(uuid.uuid4()),
                    "model": "runware:101@1",
                    "positivePrompt": PROMPT,
                    "width": 1024,
                    "height": 1024,
                    "deliveryMethod": "sync",
                    "outputType": "URL",
                    "includeCost": True,
                }
            )
            async with session.get(str(replies[0]["imageURL"])) as answer:
                return await answer.read()

        yield call


@asynccontextmanager
async def serial_runware(url: str) -> AsyncIterator[Call]:
    """Ask one at a time, as a host does that guards one client with a lock."""
    turn = asyncio.Lock()
    async with raw_runware(url) as ask:

        async def call() -> object:
            async with turn:
                return await ask()

        yield call


# -- the same with Gaia ---------------------------------------------------------------


class NoStorage:
    """Keeps nothing, as the plain clients do."""

    async def check(self, expected_bytes: int = 0) -> None:
        """Have room for everything."""

    async def put(self, image: Any, **facts: Any) -> object:
        """Say that the picture is stored."""
        from gaia_core import StoredImage  # noqa: PLC0415  as above

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


@asynccontextmanager
async def _gaia(provider: object, keeps: str, folder: str) -> AsyncIterator[Call]:
    import logging  # noqa: PLC0415  as above

    import structlog  # noqa: PLC0415  as above

    from gaia_core import Gaia, GenerateRequest, Settings  # noqa: PLC0415  as above
    from gaia_core.ledger import MemoryLedger  # noqa: PLC0415  as above
    from gaia_core.testing import MemoryStorage  # noqa: PLC0415  as above

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    parts: dict[str, Any] = {}
    if keeps != "kept":
        settings = Settings(deadline=600)
        storage = MemoryStorage() if keeps == "memory" else NoStorage()
        parts = {"ledger": MemoryLedger(), "storage": storage}
    else:
        settings = Settings(
            deadline=600,
            database=f"sqlite:///{folder}/gaia.db",
            image_store=Path(folder) / "images",
        )
    request = GenerateRequest(prompt=PROMPT)
    async with Gaia.open(settings, plugins=[provider], discover=False, **parts) as gaia:
        yield lambda: gaia.generate(request)


def _gemini(url: str) -> object:
    from gaia_core import Secret  # noqa: PLC0415  as above
    from gaia_gemini import GeminiProvider  # noqa: PLC0415  as above

    return GeminiProvider(api_key=Secret("none"), base_url=url)


def _parasail(url: str) -> object:
    from gaia_core import Capability, Secret  # noqa: PLC0415  as above
    from gaia_parasail import ParasailProvider  # noqa: PLC0415  as above
    from gaia_parasail.models import ModelSettings  # noqa: PLC0415  as above

    model = ModelSettings(
        capabilities=[Capability.TEXT_TO_IMAGE], endpoint="generations"
    )
    return ParasailProvider(
        api_key=Secret("none"), base_url=f"{url}/v1", models={"canned": model}
    )


def _runware(url: str) -> object:
    from gaia_core import Secret  # noqa: PLC0415  as above
    from gaia_runware import RunwareProvider  # noqa: PLC0415  as above

    socket = f"{url.replace('http', 'ws')}/v1"
    return RunwareProvider(api_key=Secret("none"), base_url=socket)


_PROVIDERS = {"gemini": _gemini, "openai": _parasail, "runware": _runware}
_RAW = {
    "raw_gemini": raw_gemini,
    "raw_openai": raw_openai,
    "raw_runware": raw_runware,
    "serial_runware": serial_runware,
    "litellm_openai": litellm_router,
}


@asynccontextmanager
async def client_of(case: str, url: str) -> AsyncIterator[Call]:
    """
    Open the client of a case.

    ``kept`` ones make sure that every picture is sound and write it to this disk,
    under its digest; ``memory`` ones keep it in memory, all others drop it. Gaia always
    makes sure.
    """
    who, *kept, wire = case.split("_")
    keeps = "".join(kept)
    with tempfile.TemporaryDirectory() as folder:
        if who == "gaia":
            async with _gaia(_PROVIDERS[wire](url), keeps, folder) as call:
                yield call
            return
        async with _RAW[f"{who}_{wire}"](url) as call:
            yield _KEEPERS[keeps](call, Path(folder))


def _on_disk(call: Call, folder: Path) -> Call:
    """Look whether what comes is sound, and write it to a file, durably."""

    async def kept() -> object:
        await asyncio.to_thread(_write, folder, _data(await call()))
        return None

    return kept


def _dropping(call: Call, _: Path) -> Call:
    async def dropped() -> object:
        await call()
        return None

    return dropped


def _in_memory(call: Call, _: Path) -> Call:
    async def kept() -> object:
        return _data(await call())

    return kept


_KEEPERS = {"kept": _on_disk, "memory": _in_memory, "": _dropping}


def _data(answer: Any) -> bytes:
    data: bytes = answer if isinstance(answer, bytes) else answer[-1]
    return data


def _write(folder: Path, data: bytes) -> None:
    from PIL import Image  # noqa: PLC0415  as above

    Image.open(io.BytesIO(data)).load()
    path = folder / f"{hashlib.sha256(data).hexdigest()}-{uuid.uuid4()}.png"
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# -- measuring ------------------------------------------------------------------------


async def measure(case: str, url: str, calls: int, at_once: int) -> dict[str, float]:
    """Make the calls, so many at a time, and say what they took."""
    async with client_of(case, url) as call:
        await call()
        before, left = _memory(), iter(range(calls))
        kept: list[object] = []

        async def work() -> None:
            for _ in left:
                answer = await call()
                kept.append(answer)

        cpu, start = time.process_time(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "cpu_ms": cpu * 1_000 / calls,
        "per_second": calls / seconds,
        "seconds": seconds,
        "mib": (peak - before) / _MIB,
    }


def _memory() -> int:
    """Give the bytes this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    name, address, number, parallel = sys.argv[1:]
    found = asyncio.run(measure(name, address, int(number), int(parallel)))
    print(json.dumps(found))
