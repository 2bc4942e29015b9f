"""What works on batches: it goes on after whatever stopped it, and is fair."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs
import httpx
import pytest

from gaia_core import Gaia
from gaia_core.errors import StorageError
from gaia_core.ledger import IdempotencyKey
from gaia_core.requests import GenerateRequest
from gaia_core.server import create_app, nobody_asked
from gaia_core.testing import FakeProvider, MemoryStorage
from gaia_core.testing.vendors import VendorProcess, plugin_folder
from tests.server.conftest import OpenClient, serving, settings_in
from tests.server.scenes import KEY, ROUTE, finished, post, prompts, two_callers
from tests.waiting import HeldProvider, until

ROOT = Path(__file__).parent.parent.parent


async def test_a_batch_goes_on_after_a_restart(
    open_client: OpenClient, tmp_path: Path
) -> None:
    """A server that stops puts a batch down; the next one takes it up."""
    # What is free may be called off half-way, and made anew.
    first, second = HeldProvider(price_usd="0.04"), FakeProvider(price_usd="0.04")
    async with open_client(first) as client:
        taken = await post(client, prompts(6), max_concurrent=2)
        await first.called(2)
        first.go.set()
    charged = len(first.charges)
    async with open_client(second) as client:
        done = await finished(client, taken.json()["batch_id"])

    assert done["done"] == 6
    assert charged + len(second.charges) == 6
    assert (tmp_path / "gaia.db").exists()


async def test_what_others_left_is_left_to_them(tmp_path: Path) -> None:
    """A batch that the command line opened is not begun by the server."""
    settings, provider = settings_in(tmp_path), FakeProvider()
    async with Gaia.open(settings, plugins=[FakeProvider()], discover=False) as gaia:
        request = GenerateRequest(prompt="scene 0")
        key = IdempotencyKey(key="a file", route="batch")
        left = await gaia.batches.open([request], key=key)
        await gaia.batches.open([request])
    gaia = Gaia.open(settings, plugins=[provider], discover=False)
    async with (
        serving(create_app(gaia, auth=nobody_asked)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        own = await post(client, prompts(1))
        await finished(client, own.json()["batch_id"])
        found = (await client.get(f"{ROUTE}/{left.id}")).json()
        called_off = (await client.delete(f"{ROUTE}/{left.id}")).json()

    assert (found["state"], found["waiting"]) == ("running", 1)
    assert called_off["state"] == "finished"
    assert len(provider.calls) == 1


@attrs.define(eq=False)
class _FullTwice(MemoryStorage):
    """A store that has no room at first."""

    refusals: int = 2

    async def check(self, expected_bytes: int = 0) -> None:
        """Refuse what could not be kept, as long as there is no room."""
        if self.refusals:
            self.refusals -= 1
            message = "There is no room."
            raise StorageError(message)
        await super().check(expected_bytes)


async def test_no_room_ends_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that had to stop is gone on with after a pause, and nothing is lost."""
    monkeypatch.setattr("gaia_core.server.runner.PAUSE", 0.01)
    provider, storage = FakeProvider(), _FullTwice()
    gaia = Gaia.open(
        settings_in(tmp_path), plugins=[provider], storage=storage, discover=False
    )
    async with (
        serving(create_app(gaia, auth=nobody_asked)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        taken = await post(client, prompts(3), max_concurrent=1)
        done = await finished(client, taken.json()["batch_id"])

    assert storage.refusals == 0
    assert done["done"] == len(provider.charges) == 3


async def test_batches_wait_for_their_turn(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller's many batches do not keep another one's only batch waiting."""
    monkeypatch.setattr("gaia_core.server.runner.AT_ONCE", 2)
    provider = HeldProvider()
    async with two_callers(open_client, provider) as (client, bob):
        for number in range(4):
            await post(client, [{"prompt": f"ann {number}"}], key=str(number))
        await provider.called(2)
        theirs = await client.post(
            ROUTE, json={"requests": [{"prompt": "bob"}]}, headers={**KEY, **bob}
        )
        provider.go.set()
        await until(lambda: len(provider.calls) == 5)
        await _finished_as(client, theirs.json()["batch_id"], bob)

    prompts = [getattr(call.request, "prompt", "") for call in provider.calls]
    assert prompts.index("bob") in {2, 3}


async def _finished_as(
    client: httpx.AsyncClient, batch_id: str, headers: dict[str, str]
) -> None:
    answer = await client.get(f"{ROUTE}/{batch_id}/events", headers=headers)
    assert "batch_finished" in answer.text


_SERVER = """
import sys, uvicorn
from gaia_core import Gaia
from gaia_core.server import create_app, nobody_asked
uvicorn.run(
    create_app(Gaia.open(), auth=nobody_asked), port=int(sys.argv[1]), log_level="error"
)
"""


@contextmanager
def _server_process(
    folder: Path, port: int, log: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    environ = {
        **os.environ,
        "GAIA_DATABASE": f"sqlite:///{folder / 'gaia.db'}",
        "GAIA_PLUGINS__ALLOW": "vendor",
        "IMAGE_STORAGE_PATH": str(folder / "store"),
        "PYTHONPATH": os.pathsep.join([str(folder / "plugins"), str(ROOT)]),
    }
    words = [sys.executable, "-c", _SERVER, str(port)]
    process = subprocess.Popen(words, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _answers(client: httpx.AsyncClient) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.get("/api/health")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    """However a server ends, the next one goes on, and each item is paid once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        VendorProcess(path=tmp_path / "book.jsonl", delay=0.1) as vendor,
        (tmp_path / "log.txt").open("wb") as log,
    ):
        plugin_folder(tmp_path / "plugins", base_url=vendor.url)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            with _server_process(tmp_path, port, log):
                await _answers(client)
                taken = await post(client, prompts(12), max_concurrent=2)
                batch_id = taken.json()["batch_id"]
                await until(lambda: len(vendor.charges) >= 3)
            with _server_process(tmp_path, port, log):
                await _answers(client)
                done = await finished(client, batch_id)
                again = await post(client, prompts(12), max_concurrent=2)
        charges = [charge.task_id for charge in vendor.charges]

    assert done["done"] == 12
    assert len(charges) == len(set(charges)) == 12
    assert again.json()["batch_id"] == batch_id
