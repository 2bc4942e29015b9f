"""Batches over HTTP: taken on whole, worked on in the background, nobody else's."""

import asyncio
import os
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import attrs
import httpx
import pytest
from fastapi import Request

from gaia_core import Gaia
from gaia_core.errors import ContentFilteredError, StorageError
from gaia_core.server import Principal, create_app, nobody_asked
from gaia_core.testing import FakeProvider, MemoryStorage, png
from gaia_core.testing.vendors import VendorProcess, plugin_folder
from tests.server.conftest import OpenClient, serving, settings_in
from tests.waiting import HeldProvider, until

ROOT = Path(__file__).parent.parent.parent

ROUTE = "/api/images/batch"
KEY = {"Idempotency-Key": "scenes"}


def _prompts(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"scene {place}", **fields} for place in range(count)]


async def _post(
    client: httpx.AsyncClient, requests: list[Any], key: str = "scenes", **fields: Any
) -> httpx.Response:
    return await client.post(
        ROUTE,
        json={"requests": requests, **fields},
        headers={"Idempotency-Key": key},
    )


async def finished(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    """Wait until a batch has ended; give it with its first items."""
    async with client.stream("GET", f"{ROUTE}/{batch_id}/events") as answer:
        async for _ in answer.aiter_lines():
            pass
    found: dict[str, Any] = (await client.get(f"{ROUTE}/{batch_id}")).json()
    assert found["state"] == "finished"
    return found


async def by_name(request: Request) -> Principal | None:
    """Take a caller's word for who they are."""
    name = request.headers.get("x-name")
    return None if name is None else Principal(name=name)


@asynccontextmanager
async def _two_callers(
    open_client: OpenClient, *providers: object
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    async with open_client(*providers, auth=by_name) as client:
        client.headers["x-name"] = "ann"
        yield client, {"x-name": "bob"}


async def test_a_batch_is_taken_on_and_worked_on(open_client: OpenClient) -> None:
    """Nobody needs to wait: the answer names the batch, and it gets done."""
    provider = FakeProvider(price_usd="0.01")
    async with open_client(provider) as client:
        taken = await _post(client, _prompts(5), max_concurrent=2, name="act one")
        done = await finished(client, taken.json()["batch_id"])

    assert taken.status_code == 202
    assert taken.json()["total"] == 5
    assert taken.headers["location"] == taken.json()["links"]["self"]
    assert done["name"] == "act one"
    assert done["done"] == len(provider.charges) == 5
    assert done["cost_usd"] == pytest.approx(0.05)
    assert [item["position"] for item in done["items"]] == list(range(5))
    assert all(item["state"] == "done" for item in done["items"])


async def test_its_pictures_open(open_client: OpenClient) -> None:
    """The addresses in a batch are those of pictures."""
    async with open_client() as client:
        taken = await _post(client, _prompts(1))
        done = await finished(client, taken.json()["batch_id"])
        (image,) = done["items"][0]["images"]

    assert image["prompt"] == "scene 0"
    assert f"/api/images/{image['id']}?s=" in image["url"]


async def test_other_operations_are_named(open_client: OpenClient) -> None:
    """An item may be any operation, spelt as in an address or as in a batch file."""
    uri = "data:image/png;base64," + b64encode(png(64, 64)).decode()
    async with open_client() as client:
        taken = await _post(
            client,
            [
                {"operation": "upscale", "image_base64": uri, "upscale_factor": 2},
                {"operation": "remove_background", "image_base64": uri},
                {"operation": "enhance-prompt", "prompt": "a keep"},
            ],
        )
        assert taken.status_code == 202, taken.text
        done = await finished(client, taken.json()["batch_id"])

    kinds = [item["capability"] for item in done["items"]]
    assert kinds == ["upscaling", "background-removal", "prompt-enhancement"]
    assert done["items"][2]["text"]


async def test_a_repetition_is_the_same_batch(open_client: OpenClient) -> None:
    """Whoever asks again under the same key pays once."""
    provider = FakeProvider()
    async with open_client(provider) as client:
        first = await _post(client, _prompts(2))
        await finished(client, first.json()["batch_id"])
        again = await _post(client, _prompts(2))
        other = await _post(client, _prompts(3))

    assert again.status_code == 202
    assert again.json()["batch_id"] == first.json()["batch_id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert other.status_code == 422
    assert other.json()["error_code"] == "idempotency_conflict"
    assert len(provider.charges) == 2


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, {"requests": _prompts(1)}, 400, "idempotency_key_missing"),
        (
            {"Idempotency-Key": "k" * 256},
            {"requests": _prompts(1)},
            400,
            "idempotency_key",
        ),
        (KEY, {"requests": []}, 422, "invalid_request"),
        (KEY, {"requests": _prompts(1_001)}, 422, "invalid_request"),
        (KEY, {"requests": [{}]}, 422, "invalid_request"),
        (KEY, {"requests": _prompts(1), "max_concurrent": 17}, 422, "invalid_request"),
        (KEY, {"requests": _prompts(1), "url": "x"}, 422, "invalid_request"),
        (KEY, {"requests": _prompts(1, policy="best")}, 422, "invalid_request"),
        (
            KEY,
            {"requests": [{"operation": "upscale", "image_base64": "AAAA"}]},
            422,
            "invalid_image",
        ),
    ],
    ids=[
        "no-key",
        "long-key",
        "empty",
        "too-many",
        "no-prompt",
        "too-fast",
        "unknown-field",
        "not-for-batches",
        "no-picture",
    ],
)
async def test_what_cannot_be_taken_on_is_refused(
    open_client: OpenClient,
    headers: dict[str, str],
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """A batch is taken on as a whole or not at all."""
    async with open_client() as client:
        answer = await client.post(ROUTE, json=body, headers=headers)
        known = (await client.get(ROUTE)).json()["batches"]

    assert answer.status_code == status
    assert answer.json()["error_code"] == code
    assert known == []


async def test_the_wrong_field_is_named(open_client: OpenClient) -> None:
    """Of many requests, the one that is wrong is said."""
    requests = [*_prompts(2), {"prompt": "x", "provider_options": {"nobody": {}}}]
    async with open_client() as client:
        answer = await _post(client, requests)

    (detail,) = answer.json()["details"]
    assert detail["field"] == "requests.2.provider_options"


async def test_others_do_not_see_it(open_client: OpenClient) -> None:
    """What belongs to somebody else is not there, whatever is asked of it."""
    async with _two_callers(open_client) as (client, bob):
        taken = await _post(client, _prompts(1))
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        answers = [
            await client.get(own, headers=bob),
            await client.delete(own, headers=bob),
            await client.get(f"{own}/events", headers=bob),
            await client.get(f"{ROUTE}/nonsense"),
        ]
        listed = (await client.get(ROUTE, headers=bob)).json()["batches"]
        own_list = (await client.get(ROUTE)).json()["batches"]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert listed == []
    assert len(own_list) == 1


async def test_a_key_is_its_callers_own(open_client: OpenClient) -> None:
    """Two callers may use the same words as a key."""
    async with _two_callers(open_client) as (client, bob):
        mine = await _post(client, _prompts(1))
        theirs = await client.post(
            ROUTE, json={"requests": _prompts(2)}, headers={**KEY, **bob}
        )

    assert theirs.status_code == 202
    assert theirs.json()["batch_id"] != mine.json()["batch_id"]


async def test_calling_off_begins_nothing_new(open_client: OpenClient) -> None:
    """What was sent comes to its end, the rest ends at once; twice is as once."""
    provider = HeldProvider()
    async with open_client(provider) as client:
        taken = await _post(client, _prompts(4), max_concurrent=1)
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        await provider.called()
        first = await client.delete(own)
        second = await client.delete(own)
        provider.go.set()
        done = await finished(client, taken.json()["batch_id"])
        third = await client.delete(own)

    assert [one.status_code for one in (first, second, third)] == [200] * 3
    assert first.json()["state"] == second.json()["state"] == "cancelled"
    assert third.json()["state"] == "finished"
    assert (done["done"], done["cancelled"]) == (1, 3)
    assert done["items"][3]["error_code"] == "cancelled"
    assert len(provider.charges) == 1


async def test_errors_are_told_by_code(open_client: OpenClient) -> None:
    """What a provider says in its own words stays inside."""
    provider = FakeProvider(outcomes=[ContentFilteredError("secret words")])
    async with open_client(provider) as client:
        taken = await _post(client, _prompts(2), max_concurrent=1)
        await finished(client, taken.json()["batch_id"])
        answer = await client.get(f"{ROUTE}/{taken.json()['batch_id']}")

    codes = [item["error_code"] for item in answer.json()["items"]]
    assert codes == ["content_filtered", None]
    assert "secret words" not in answer.text


async def test_items_come_a_page_at_a_time(open_client: OpenClient) -> None:
    """A long batch is read in pages, without gaps."""
    async with open_client() as client:
        taken = await _post(client, _prompts(7))
        own = f"{ROUTE}/{taken.json()['batch_id']}"
        await finished(client, taken.json()["batch_id"])
        places, after = [], -1
        while after is not None:
            page = (await client.get(own, params={"after": after, "limit": 3})).json()
            places.append([item["position"] for item in page["items"]])
            after = page["next_after"]

    assert places == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_batch_goes_on_after_a_restart(
    open_client: OpenClient, tmp_path: Path
) -> None:
    """A server that stops puts a batch down; the next one takes it up."""
    first, second = HeldProvider(), FakeProvider()
    async with open_client(first) as client:
        taken = await _post(client, _prompts(6), max_concurrent=2)
        await first.called(2)
        first.go.set()
    charged = len(first.charges)
    async with open_client(second) as client:
        done = await finished(client, taken.json()["batch_id"])

    assert done["done"] == 6
    assert charged + len(second.charges) == 6
    assert (tmp_path / "gaia.db").exists()


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
        taken = await _post(client, _prompts(3), max_concurrent=1)
        done = await finished(client, taken.json()["batch_id"])

    assert storage.refusals == 0
    assert done["done"] == len(provider.charges) == 3


async def test_batches_wait_for_their_turn(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller's many batches do not keep another one's only batch waiting."""
    monkeypatch.setattr("gaia_core.server.runner.AT_ONCE", 2)
    provider = HeldProvider()
    async with _two_callers(open_client, provider) as (client, bob):
        for number in range(4):
            await _post(client, [{"prompt": f"ann {number}"}], key=str(number))
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


async def test_nobody_opens_batches_without_end(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller has so many batches open at a time, and is told when to come back."""
    monkeypatch.setattr("gaia_core.server.routes.batches.MOST_OPEN", 2)
    provider = HeldProvider()
    async with open_client(provider) as client:
        answers = [
            await _post(client, _prompts(1), key=str(number)) for number in (1, 2, 3)
        ]
        repeated = await _post(client, _prompts(1), key="1")
        provider.go.set()

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].headers["retry-after"] == "60"
    assert repeated.status_code == 202


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
                taken = await _post(client, _prompts(12), max_concurrent=2)
                batch_id = taken.json()["batch_id"]
                await until(lambda: len(vendor.charges) >= 3)
            with _server_process(tmp_path, port, log):
                await _answers(client)
                done = await finished(client, batch_id)
                again = await _post(client, _prompts(12), max_concurrent=2)
        charges = [charge.task_id for charge in vendor.charges]

    assert done["done"] == 12
    assert len(charges) == len(set(charges)) == 12
    assert again.json()["batch_id"] == batch_id
