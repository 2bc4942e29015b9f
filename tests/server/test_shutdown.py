"""A process that serves is asked to end: what was sent comes to its end first."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from gaia_core import Gaia
from gaia_core.ledger import OperationState
from tests.server.conftest import settings_in
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
MANY = 12
PLUGIN = """
    import asyncio
    import os
    from pathlib import Path

    import attrs
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        '''Notes every call, and answers once it may.'''

        price_usd: str = "0.01"

        async def _take_time(self, context):
            folder = Path(os.environ["SLOW_FOLDER"])
            (folder / f"sent-{context.task_id}").touch()
            while not (folder / "go").exists():
                await asyncio.sleep(0.02)
"""
MAIN = """
from gaia_core.cli import main
from gaia_core.server import running
running.DRAIN_SECONDS = {}
main()
"""
WORDS = ("serve", "--port", "0", "--json")
MAKE = "/api/images/generate"


@attrs.define(eq=False)
class Served:
    """A process that serves, with a provider that waits to be let go."""

    process: "subprocess.Popen[str]"
    folder: Path
    url: str = ""

    def sent(self) -> int:
        """Count what the provider was asked for."""
        return len(list(self.folder.glob("sent-*")))

    def let_go(self) -> None:
        """Let the provider answer."""
        (self.folder / "go").touch()

    def ask(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; give its exit code."""
        await until(lambda: self.process.poll() is not None, patience=PATIENCE)
        return int(self.process.returncode)


Start = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Start:
    """Give a function that starts ``gaia serve`` in a process of its own."""
    site = tmp_path / "site"
    about = site / "slow-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[gaia]\nslow = slow_plugin:Plugin\n")
    (site / "slow_plugin.py").write_text(textwrap.dedent(PLUGIN))
    settings = settings_in(tmp_path)
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "SLOW_FOLDER": str(tmp_path),
        "GAIA_PLUGINS__ALLOW": "slow",
        "GAIA_DATABASE": settings.database,
        "GAIA_IMAGE_STORE": str(settings.image_store),
        "GAIA_SPILL": str(settings.spill),
    }

    @contextmanager
    def start(*words: str, drain: float = 30.0) -> Iterator[Served]:
        with (
            (tmp_path / "log").open("w") as log,
            subprocess.Popen(
                [sys.executable, "-c", MAIN.format(drain), *WORDS, *words],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            served = Served(process, tmp_path)
            try:
                assert process.stdout is not None
                served.url = json.loads(_document(process.stdout))["url"]
                yield served
            finally:
                process.kill()

    return start


def _document(lines: Any) -> str:
    """Read the one document that is printed when the server answers."""
    found = ""
    for line in lines:
        found += line
        if line == "}\n":
            break
    return found


async def test_what_was_sent_is_waited_for(start: Start, tmp_path: Path) -> None:
    """On SIGTERM every client gets its picture, a new one is sent away."""
    with start() as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
            making = [
                asyncio.create_task(client.post(MAKE, json={"prompt": f"no. {number}"}))
                for number in range(MANY)
            ]
            await until(lambda: served.sent() == MANY)
            served.ask()
            late = await _refused(served.url)
            assert "server" not in late.headers
            served.let_go()
            answers = await asyncio.gather(*making)
        code = await served.ended()

    assert code == 0
    assert [answer.status_code for answer in answers] == [200] * MANY
    assert late.json()["error_code"] == "closing"
    assert int(late.headers["Retry-After"]) >= 1
    assert await _states(tmp_path) == [OperationState.DONE] * MANY


async def _refused(url: str) -> httpx.Response:
    """Ask how it is until it says that it takes no more."""
    async with asyncio.timeout(PATIENCE), httpx.AsyncClient(base_url=url) as client:
        while True:
            answer = await client.get("/api/health")
            if answer.status_code == 503:
                return answer
            await asyncio.sleep(0.01)


async def _states(folder: Path) -> list[OperationState]:
    """Read how all operations ended, from the ledger that the process left."""
    ledger = Gaia.open(settings_in(folder), discover=False).ledger
    await ledger.open()
    try:
        return [operation.state for operation in await ledger.listed(limit=100)]
    finally:
        await ledger.close()


async def test_what_nobody_waits_for_is_finished_too(
    start: Start, tmp_path: Path
) -> None:
    """A picture whose client has left is stored before the process ends."""
    with start() as served:
        async with httpx.AsyncClient(base_url=served.url) as client:
            leaving = asyncio.create_task(client.post(MAKE, json={"prompt": "a cat"}))
            await until(lambda: served.sent() == 1)
            leaving.cancel()
            await asyncio.wait({leaving})
        served.ask(signal.SIGINT)
        await until(lambda: _says(tmp_path, "gaia.server_stopping"))
        served.let_go()
        code = await served.ended()

    assert code == 0
    assert await _states(tmp_path) == [OperationState.DONE]


async def test_who_watches_a_batch_holds_nobody_up(
    start: Start, tmp_path: Path
) -> None:
    """Streams of events end when the server is asked to; what was sent is kept."""
    batch = {"requests": [{"prompt": "a cat"}]}
    with start() as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
            opened = await client.post(
                "/api/images/batch", json=batch, headers={"Idempotency-Key": "scenes"}
            )
            await until(lambda: served.sent() == 1)
            url = f"/api/images/batch/{opened.json()['batch_id']}/events"
            async with client.stream("GET", url) as stream:
                served.ask()
                async for _ in stream.aiter_bytes():
                    pass
            served.let_go()
        code = await served.ended()

    assert code == 0
    assert await _states(tmp_path) == [OperationState.DONE]


async def test_an_idle_server_ends_at_once(start: Start) -> None:
    """Where nothing is under way there is nothing to wait for."""
    with start() as served:
        async with httpx.AsyncClient(base_url=served.url) as client:
            # The connection stays open, and holds nobody up.
            await client.get("/api/health")
            served.ask()
            code = await served.ended()

    assert code == 0


async def test_nothing_is_waited_for_for_ever(start: Start, tmp_path: Path) -> None:
    """What does not come to an end stays on the book, where it is found again."""
    with start(drain=0.2) as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
            making = asyncio.create_task(client.post(MAKE, json={"prompt": "a cat"}))
            await until(lambda: served.sent() == 1)
            served.ask()
            code = await served.ended()
            with contextlib.suppress(httpx.HTTPError):
                assert (await making).status_code >= 500
    (state,) = await _states(tmp_path)

    assert code == 0
    assert state is OperationState.UNKNOWN


async def test_a_second_signal_leaves_at_once(start: Start, tmp_path: Path) -> None:
    """Whoever insists is obeyed; the book says what is open."""
    with start() as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
            making = asyncio.create_task(client.post(MAKE, json={"prompt": "a cat"}))
            await until(lambda: served.sent() == 1)
            served.ask()
            await until(lambda: _says(tmp_path, "gaia.server_stopping"))
            served.ask()
            code = await served.ended()
            with pytest.raises(httpx.HTTPError):
                await making

    assert code == 128 + signal.SIGTERM


async def test_a_line_a_request_is_logged(start: Start, tmp_path: Path) -> None:
    """The log names route, status and operation, and nothing that was said."""
    with start("--log-json") as served:
        served.let_go()
        async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
            body = {"prompt": "canary-prompt"}
            made = await client.post(f"{MAKE}?key=canary-query", json=body)
            await client.get(made.json()["image_url"])
            await client.get("/canary-path")
        served.ask()
        await served.ended()

    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    served_lines = [line for line in lines if line["event"] == "gaia.request_served"]
    assert "canary" not in text
    assert [(line["route"], line["status"]) for line in served_lines] == [
        (MAKE, 200),
        ("/api/images/{image_id}", 200),
        ("none", 404),
    ]
    assert served_lines[0]["operation"] == made.json()["operation_id"]
    assert served_lines[0]["duration_ms"] > 0


def _says(folder: Path, event: str) -> bool:
    return event in (folder / "log").read_text()
