"""The example host, started as its README says, with a Runware that fails."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.runware import RunwareVendor

pytest.importorskip("gaia_offline")
pytest.importorskip("gaia_runware")

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "campaign_host"
KEY = "runware-key-5d1c"


@pytest_asyncio.fixture(name="runware", scope="module", loop_scope="module")
async def _runware() -> AsyncIterator[RunwareVendor]:
    async with RunwareVendor(key=KEY) as vendor:
        yield vendor


@pytest_asyncio.fixture(name="url", scope="module", loop_scope="module")
async def _url(
    runware: RunwareVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """Start the host by its command, and end it."""
    folder = tmp_path_factory.mktemp("host")
    environment = {
        **os.environ,
        "RUNWARE_API_KEY": KEY,
        "RUNWARE_BASE_URL": runware.url,
        "RUNWARE_RETRY_DELAY": "0.01",
        "GAIA_DATABASE": f"sqlite:///{folder / 'gaia.db'}",
        "IMAGE_STORAGE_PATH": str(folder / "images"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "app:campaign_host"),
        *("--app-dir", str(FOLDER), "--port", "0"),
        cwd=folder,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            line = b""
            while b"running on" not in line:
                line = await process.stderr.readline()
                assert line, "the host did not start"
        reading = asyncio.create_task(process.stderr.read())
        yield line.split(b"running on ")[1].split()[0].decode()
    finally:
        process.terminate()
        async with asyncio.timeout(40):
            log = await reading
            await process.wait()
    assert b"Traceback" not in log, log.decode()
    assert KEY.encode() not in log


@asynccontextmanager
async def logged_in(url: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that has logged in."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.post("/login", json={"name": name})
        assert answer.status_code == 200, answer.text
        yield client


async def scene(client: httpx.AsyncClient, words: str) -> dict[str, Any]:
    """Have a scene drawn."""
    answer = await client.post("/campaigns/saltmarsh/scenes", json={"words": words})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_it_draws_with_the_best(url: str, runware: RunwareVendor) -> None:
    """While Runware works, it draws, and nobody is told anything."""
    async with logged_in(url, "alice") as alice:
        drawn = await scene(alice, "a red dragon over a ruined keep")
        picture = await alice.get(drawn["picture"])

    assert (drawn["drawn_by"], drawn["notice"]) == ("runware", None)
    assert picture.headers["content-type"].startswith("image/")
    assert len(runware.charges) == 1


async def test_it_degrades_and_says_so(url: str, runware: RunwareVendor) -> None:
    """While Runware fails, the embedded default draws, for nothing, and says so."""
    before = len(runware.charges)
    runware.faults = Faults(rates={Fault.UNAVAILABLE: 1.0})
    async with logged_in(url, "alice") as alice:
        first = await scene(alice, "a goblin camp by night")
        later = [await scene(alice, f"the camp on day {day}") for day in (2, 3)]
        picture = await alice.get(first["picture"])

    assert first["drawn_by"] == "offline"
    assert first["notice"].startswith("Runware could not draw this;")
    assert first["cost_usd"] == "0"
    assert picture.status_code == 200
    assert later[-1]["notice"].startswith("Runware is resting after too many failures;")
    assert len(runware.charges) == before


async def test_its_users_are_gaias_principals(url: str) -> None:
    """What somebody drew is theirs in Gaia's own routes, and nobody else's."""
    async with logged_in(url, "bob") as bob, logged_in(url, "mallory") as mallory:
        drawn = await scene(bob, "a lighthouse in the fog")
        listed = await bob.get("/api/images", params={"campaign_id": "saltmarsh"})
        theirs = await mallory.get(drawn["picture"])
        none = await mallory.get("/api/images")

    assert [one["id"] for one in listed.json()["images"]] == [
        drawn["picture"].rpartition("/")[2]
    ]
    assert theirs.status_code == 404
    assert none.json()["images"] == []


async def test_nobody_gets_in_without_logging_in(url: str) -> None:
    """The host's own dependency decides for its own routes and for Gaia's."""
    async with httpx.AsyncClient(base_url=url) as nobody:
        own = await nobody.post("/campaigns/a/scenes", json={"words": "a keep"})
        gaias = await nobody.post("/api/images/generate", json={"prompt": "a keep"})

    assert (own.status_code, gaias.status_code) == (401, 401)
    assert own.json() == {"detail": "Log in first."}
    assert gaias.json()["error_code"] == "unauthorised"


async def test_what_cannot_be_drawn_is_told(url: str) -> None:
    """The host answers with a status of its own, and no traceback."""
    async with logged_in(url, "alice") as alice:
        answer = await alice.post("/campaigns/a/scenes", json={"words": ""})

    assert answer.status_code == 422
