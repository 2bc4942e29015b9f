import asyncio
import io
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image as pillow  # noqa: N813  modules are not written so here

from gaia_core.images import Image
from gaia_core.server import decoding
from gaia_core.server.decoder import ACCEPTED, HEAD
from gaia_core.server.decoding import Decoders, _Worker
from gaia_core.server.problems import RefusedError
from gaia_core.testing import png
from tests.waiting import until

Looking = tuple["asyncio.Task[Image]", int]

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc, and relies on limits of Linux"
)


@pytest.fixture(name="big", scope="module")
def _big() -> bytes:
    """Give a picture that takes a while: as many pixels as are taken."""
    noise = random.Random(7).randbytes(256 * 256 * 3)  # noqa: S311  no secret
    picture = pillow.frombytes("RGB", (256, 256), noise).resize((4_096, 4_096))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@attrs.frozen
class Hold:
    """Every large picture waits as long as a file is there."""

    path: Path

    def begin(self) -> None:
        """Have them wait."""
        self.path.touch()

    def end(self) -> None:
        """Let them go."""
        self.path.unlink()


@pytest.fixture(name="hold")
def _hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Have large pictures wait."""
    hold = Hold(tmp_path / "hold")
    hold.begin()
    program = tmp_path / "decoder.py"
    program.write_text(
        "import importlib.util, os, sys, time\n"
        f"path = {str(decoding._PROGRAM)!r}\n"
        "spec = importlib.util.spec_from_file_location('decoder', path)\n"
        "decoder = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(decoder)\n"
        "clean = decoder.clean\n"
        "def patient(data):\n"
        f"    while len(data) > 1_000 and os.path.exists({str(hold.path)!r}):\n"
        "        time.sleep(0.01)\n"
        "    return clean(data)\n"
        "decoder.clean = patient\n"
        "decoder._serve(*map(int, sys.argv[1:3]))\n"
    )
    monkeypatch.setattr(decoding, "_PROGRAM", program)
    return hold


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Decoders]:
    """Open decoders, and see that nothing of them is left."""
    decoders = Decoders(**options)
    try:
        yield decoders
    finally:
        workers = set(decoders._all)
        await decoders.close()
        assert all(worker.process.returncode is not None for worker in workers)


def only(decoders: Decoders) -> _Worker:
    """Give the one process there is."""
    (worker,) = decoders._all
    return worker


def about(worker: _Worker, name: str) -> str:
    """Read what Linux knows of a process."""
    return Path(f"/proc/{worker.process.pid}/{name}").read_text()


def open_files(worker: _Worker) -> list[str]:
    """Name the files that a process has open."""
    return sorted(
        path.name for path in Path(f"/proc/{worker.process.pid}/fd").iterdir()
    )


def children(worker: _Worker) -> list[int]:
    """Name the processes that a process has forked."""
    found = about(worker, f"task/{worker.process.pid}/children")
    return [*map(int, found.split())]


async def at_work(worker: _Worker, data: bytes, decoders: Decoders) -> Looking:
    """Have a picture looked at; give that, and the process that is at it."""
    await until(lambda: not children(worker))
    job = asyncio.create_task(decoders.clean(data))
    await until(lambda: children(worker))
    return job, children(worker)[0]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, though nobody may have asked how."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        )
    except (FileNotFoundError, ProcessLookupError):
        return True


def code(caught: pytest.ExceptionInfo[RefusedError]) -> tuple[int, str]:
    """Give what a client is told."""
    return caught.value.status_code, caught.value.code


# -- what a process is ---------------------------------------------------------------


async def test_processes_start_when_they_are_needed() -> None:
    """A server that gets no picture has none, and one picture needs one."""
    async with opened(count=2) as decoders:
        before = set(decoders._all)
        first = await decoders.clean(png(8, 8))
        await decoders.clean(png(9, 9))

        assert before == set()
        assert (first.width, first.height, first.media_type) == (8, 8, "image/png")
        assert len(decoders._all) == 1


@linux_only
async def test_processes_know_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the server's environment, arguments or open files is there."""
    monkeypatch.setenv("RUNWARE_API_KEY", "canary-5d1c")
    own = os.dup(0)
    os.set_inheritable(own, True)
    async with opened() as decoders:
        await decoders.clean(png())
        worker = only(decoders)
        environment = about(worker, "environ")
        arguments = about(worker, "cmdline")
        files = open_files(worker)
    os.close(own)

    names = {line.partition("=")[0] for line in environment.split("\0") if line}
    assert "canary-5d1c" not in environment + arguments
    assert names <= {"LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    assert files == ["0", "1", "2"]


@linux_only
async def test_processes_are_confined() -> None:
    """Memory is limited, and no file can be written."""
    async with opened(megabytes=256) as decoders:
        await decoders.clean(png())
        text = about(only(decoders), "limits")

    limits = {line[:26].strip(): line[26:].split() for line in text.splitlines()}
    assert limits["Max address space"][:2] == [str(256 * 1_048_576)] * 2
    assert limits["Max file size"][:2] == ["0", "0"]
    assert limits["Max core file size"][:2] == ["0", "0"]


@linux_only
async def test_every_picture_has_a_process_of_its_own(big: bytes, hold: Hold) -> None:
    """What one picture does to its process, the next one never meets."""
    async with opened(count=1) as decoders:
        await decoders.clean(png())
        worker = only(decoders)
        job, first = await at_work(worker, big, decoders)
        hold.end()
        await job
        hold.begin()
        job, second = await at_work(worker, big, decoders)
        hold.end()
        await job

        assert first != second
        assert only(decoders) is worker


@linux_only
async def test_processes_end_with_the_server(tmp_path: Path) -> None:
    """A server that is killed leaves none behind, not even one at work."""
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio\n"
        "from gaia_core.server.decoding import Decoders\n"
        "from gaia_core.testing import png\n"
        "async def main():\n"
        "    decoders = Decoders()\n"
        "    await decoders.clean(png())\n"
        "    print(*(one.process.pid for one in decoders._all), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, script, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    pid = int(await server.stdout.readline())
    # Stopped, so that it cannot notice by itself.
    os.kill(pid, signal.SIGSTOP)
    server.kill()
    await server.wait()

    await until(lambda: is_gone(pid))


# -- what goes wrong -------------------------------------------------------------------


@pytest.mark.usefixtures("hold")
async def test_a_picture_has_only_so_long(big: bytes) -> None:
    """What takes too long is stopped; whoever comes next does not notice."""
    async with opened(count=1, seconds=0.05) as decoders:
        with pytest.raises(RefusedError) as caught:
            await decoders.clean(big)

        decoders.seconds = 10
        after = await decoders.clean(png())

    assert code(caught) == (422, "invalid_image")
    assert after.width == 64


@linux_only
async def test_a_picture_has_only_so_much_memory(big: bytes) -> None:
    """What needs too much is refused; the process stays."""
    async with opened(count=1, megabytes=64) as decoders:
        await decoders.clean(png())
        worker = only(decoders)
        with pytest.raises(RefusedError) as caught:
            await decoders.clean(big)
        after = await decoders.clean(png())

        assert only(decoders) is worker

    assert code(caught) == (422, "invalid_image")
    assert after.width == 64


@linux_only
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(lambda worker, _: worker.process.pid, id="the-process"),
        pytest.param(lambda _, child: child, id="its-child"),
    ],
)
async def test_a_process_is_killed_at_work(
    big: bytes, hold: Hold, victim: Callable[[_Worker, int], int]
) -> None:
    """Its picture is refused, the others come through, and another takes its place."""
    async with opened(count=2) as decoders:
        await decoders.clean(png())
        worker = only(decoders)
        job, child = await at_work(worker, big, decoders)
        os.kill(victim(worker, child), signal.SIGKILL)
        other = asyncio.create_task(decoders.clean(big))
        with pytest.raises(RefusedError) as caught:
            await job
        hold.end()
        same = await other
        after = await asyncio.gather(*(decoders.clean(png()) for _ in range(4)))

        await until(lambda: is_gone(child))

    assert code(caught) == (422, "invalid_image")
    assert same.width == 4_096
    assert len(after) == 4


@linux_only
async def test_a_process_that_ended_while_idle_is_replaced() -> None:
    """The next picture is not blamed for it."""
    async with opened(count=1) as decoders:
        await decoders.clean(png())
        first = only(decoders)
        first.process.kill()
        await first.process.wait()

        image = await decoders.clean(png())

        assert image.width == 64
        assert only(decoders) is not first


async def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is asked to come back; nobody's picture is blamed."""
    async with opened() as decoders:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(RefusedError) as caught:
                await decoders.clean(png())
        after = await decoders.clean(png())

    assert code(caught) == (503, "busy")
    assert caught.value.retry_after
    assert after.width == 64


LIES = {
    "junk": b"\xff" * 64,
    "too-many-pixels": HEAD.pack(1, 100_000, 100_000, True, 0),
    "no-pixels": HEAD.pack(1, 0, 0, True, 0),
    "unknown-type": HEAD.pack(9, 8, 8, True, 0),
    "another-type": HEAD.pack(2, 8, 8, True, 0),
    "no-picture": HEAD.pack(1, 8, 8, False, 6) + b"<svg/>",
    "endless": HEAD.pack(1, 8, 8, False, 2**32 - 1),
    "nothing": b"",
}


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES)
async def test_no_process_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Whoever took one over can refuse a picture, and get nothing else in."""
    program = tmp_path / "decoder.py"
    program.write_text(
        "import sys\n"
        "sys.stdin.buffer.read(4)\n"
        f"sys.stdout.buffer.write({ACCEPTED!r})\n"
        "sys.stdout.buffer.flush()\n"
        f"sys.stdin.buffer.read({len(png())})\n"
        f"sys.stdout.buffer.write({answer!r})\n"
    )
    async with opened(count=1) as decoders:
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "_PROGRAM", program)
            with pytest.raises(RefusedError) as caught:
                await decoders.clean(png())
        after = await decoders.clean(png())

    assert code(caught) == (422, "invalid_image")
    assert after.width == 64


# -- waiting ------------------------------------------------------------------------


@linux_only
async def test_waiting_for_a_process_has_an_end() -> None:
    """Who waits too long, or comes when too many wait, is asked to come back."""
    async with opened(count=1, patience=0.05, queue=1) as decoders:
        await decoders.clean(png())
        os.kill(only(decoders).process.pid, signal.SIGSTOP)
        held = asyncio.create_task(decoders.clean(png()))
        await until(decoders._slots.locked)
        answers = await asyncio.gather(
            decoders.clean(png()), decoders.clean(png()), return_exceptions=True
        )
        os.kill(only(decoders).process.pid, signal.SIGCONT)
        image = await held

    for answer in answers:
        assert isinstance(answer, RefusedError)
        assert (answer.status_code, answer.code) == (503, "busy")
    assert image.width == 64


@linux_only
async def test_who_gives_up_costs_no_process() -> None:
    """The picture of a client that hung up is finished; its place is free then."""
    async with opened(count=1) as decoders:
        await decoders.clean(png())
        worker = only(decoders)
        os.kill(worker.process.pid, signal.SIGSTOP)
        given_up = asyncio.create_task(decoders.clean(png()))
        waiting = asyncio.create_task(decoders.clean(png()))
        await until(lambda: decoders._waiting)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        os.kill(worker.process.pid, signal.SIGCONT)
        image = await waiting

        assert image.width == 64
        assert only(decoders) is worker


@linux_only
@pytest.mark.usefixtures("hold")
async def test_closing_waits_for_nobody(big: bytes) -> None:
    """Whoever is being looked at when the server stops is told so."""
    decoders = Decoders(count=1)
    await decoders.clean(png())
    worker = only(decoders)
    job, _ = await at_work(worker, big, decoders)

    await decoders.close()

    with pytest.raises(RefusedError) as caught:
        await job
    with pytest.raises(RefusedError) as later:
        await decoders.clean(png())
    assert code(caught) == code(later) == (503, "closing")
    assert worker.process.returncode is not None


async def test_what_was_closed_may_be_opened_again() -> None:
    """An app that is started a second time takes pictures again."""
    decoders = Decoders()
    await decoders.clean(png())
    await decoders.close()

    decoders.open()
    image = await decoders.clean(png())
    await decoders.close()

    assert image.width == 64
    assert decoders._all == set()
