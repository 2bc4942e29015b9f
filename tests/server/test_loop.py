"""The event loop never waits for a disk: whoever else is served would wait, too."""

import base64
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gaia_core.testing import FakeProvider, png
from tests.server.conftest import OpenClient

SMALL = {"prompt": "a red dragon", "size": "64x64"}
_WAITS = ("open", "os.", "shutil.", "sqlite3.", "time.sleep", "subprocess.")


class Watch:
    """Notes what waits for a disk in one thread, while it is asked to."""

    def __init__(self) -> None:
        """Begin asleep: a hook of the interpreter's stays for ever."""
        self.thread: int | None = None
        self.folder = ""
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an event of the interpreter's."""
        if threading.get_ident() != self.thread or not event.startswith(_WAITS):
            return
        if self.folder in str(arguments):
            self.seen.append(f"{event}{arguments}")

    @contextmanager
    def on(self, folder: Path) -> Iterator[list[str]]:
        """Watch this thread, for what it does below a folder."""
        self.folder, self.thread = str(folder), threading.get_ident()
        self.seen = []
        try:
            yield self.seen
        finally:
            self.thread = None


WATCH = Watch()


@pytest.fixture(name="watch", scope="module")
def _watch() -> Watch:
    sys.addaudithook(WATCH)
    return WATCH


async def test_a_watch_sees_what_waits(watch: Watch, tmp_path: Path) -> None:
    """What is proved below could be seen."""
    with watch.on(tmp_path) as seen:
        (tmp_path / "file").write_bytes(b"")

    assert seen


async def test_no_request_waits_for_a_disk(
    open_client: OpenClient, watch: Watch, tmp_path: Path
) -> None:
    """Whatever reads or writes pictures and books does so beside the loop."""
    picture = base64.b64encode(png(32, 32)).decode()
    fake = FakeProvider(price_usd="0.01")
    async with open_client(fake) as client:
        await _everything(client, picture)
        with watch.on(tmp_path) as seen:
            await _everything(client, picture)

    assert seen == []


async def _everything(client: httpx.AsyncClient, picture: str) -> None:
    """Ask for one of each; the answers must be good ones."""
    made = await client.post(
        "/api/images/generate",
        json={**SMALL, "response_format": "b64_json", "campaign_id": "storm"},
    )
    image = made.json()["images"][0]
    answers = [
        made,
        await client.post("/api/images/upscale", json={"image_id": image["id"]}),
        await client.post("/api/images/describe", json={"image_base64": picture}),
        await client.post("/api/images/plan", json=SMALL),
        await client.get(image["url"]),
        await client.get(f"/api/images/{image['id']}"),
        await client.get("/api/images"),
        await client.get("/api/campaigns"),
        await client.get("/api/usage"),
        await client.get("/api/operations"),
        await client.get("/api/images/models"),
    ]
    assert {answer.status_code for answer in answers} == {200}
