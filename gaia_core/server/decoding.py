"""
Pictures from outside are decoded in processes that may be killed at any time.

What runs there is `gaia_core.server.decoder`. Its processes know no key: they get an
environment of their own, no open file of the server's, and limits for memory and
time. They end with the server, however it ends.
"""

import asyncio
import math
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

import attrs

from gaia_core.containers import media_type_of
from gaia_core.images import Image
from gaia_core.observability import get_logger
from gaia_core.server.decoder import (
    ACCEPTED,
    HEAD,
    MAX_PIXELS,
    MAX_SIDE,
    MEDIA_TYPES,
)
from gaia_core.server.problems import RefusedError

MAX_INPUT_BYTES = 20 * 1_048_576
"""Largest file of a picture from outside, in bytes (20 MiB)."""

_PROGRAM = Path(__file__).with_name("decoder.py")
# A picture of uncompressed pixels, which is the most that turning one over gives.
_MAX_ANSWER = 8 * MAX_PIXELS
_STARTS, _START_SECONDS = 3, 30.0
# What the loader of programs needs to find libraries, on systems that set it.
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class _LostError(Exception):
    """A process ended, or says what it must not say."""


@attrs.define(eq=False, kw_only=True)
class Decoders:
    """
    Decodes pictures, a few at a time.

    Processes are started when they are first needed, and stay.

    Attributes:
        count: Most processes at a time.
        seconds: How long one picture may take.
        megabytes: How much memory one picture may take.
        patience: How long a picture may wait for a process, in seconds.
        queue: Most pictures that wait.
    """

    count: int = 2
    seconds: float = 10.0
    megabytes: int = 512
    patience: float = 15.0
    queue: int = 64
    _slots: asyncio.Semaphore = attrs.field(init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _idle: list["_Worker"] = attrs.field(factory=list, init=False)
    _all: set["_Worker"] = attrs.field(factory=set, init=False)
    _jobs: "set[asyncio.Task[Image]]" = attrs.field(factory=set, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    @_slots.default
    def _own_slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.count)

    def open(self) -> None:
        """Take pictures, also after `close`: an app may be started again."""
        self._slots = asyncio.Semaphore(self.count)
        self._is_closed = False

    async def clean(self, data: bytes) -> Image:
        """
        Decode a picture completely; give it without what is no picture.

        Raises:
            RefusedError: 422 if it is none that is taken, 503 if there is no room.
        """
        if len(data) > MAX_INPUT_BYTES or media_type_of(data) is None:
            raise invalid()
        await self._slot()
        # A client that hangs up must not cost a process: its picture is finished.
        job = asyncio.create_task(self._clean(data))
        self._jobs.add(job)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    async def close(self) -> None:
        """End all processes, whatever they are at."""
        self._is_closed = True
        workers, self._all = self._all, set()
        self._idle.clear()
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(worker.ended() for worker in workers))
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _slot(self) -> None:
        """Wait for one's turn, for a while."""
        if self._waiting >= self.queue:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                await self._slots.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1

    def _done(self, job: "asyncio.Task[Image]") -> None:
        self._slots.release()
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()

    async def _clean(self, data: bytes) -> Image:
        worker = await self._ready(len(data))
        try:
            async with asyncio.timeout(self.seconds):
                image = await worker.look(data)
        except (TimeoutError, _LostError) as error:
            self._remove(worker)
            if self._is_closed:
                raise _closing() from None
            reason = "time" if isinstance(error, TimeoutError) else "crash"
            get_logger().warning("gaia.decoder_lost", reason=reason, bytes=len(data))
            raise invalid() from None
        except BaseException:
            self._remove(worker)
            raise
        self._idle.append(worker)
        if image is None:
            raise invalid()
        return image

    async def _ready(self, length: int) -> "_Worker":
        """Find a process that takes a picture; one may have ended while idle."""
        for _ in range(_STARTS + len(self._idle)):
            if self._is_closed:
                break
            worker = self._idle.pop() if self._idle else await self._start()
            if worker is None:
                continue
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await worker.announce(length)
            except (TimeoutError, _LostError):
                self._remove(worker)
            else:
                return worker
        if self._is_closed:
            raise _closing()
        get_logger().error("gaia.decoder_missing")
        raise _busy()

    async def _start(self) -> "_Worker | None":
        """Start a process; None if the machine has no room for one."""
        try:
            worker = _Worker(process=await _started(self.megabytes, self.seconds))
        except OSError:
            return None
        self._all.add(worker)
        if self._is_closed:
            self._remove(worker)
            return None
        return worker

    def _remove(self, worker: "_Worker") -> None:
        self._all.discard(worker)
        worker.kill()


@attrs.frozen(eq=False, kw_only=True)
class _Worker:
    """One process, and what is said to it; no answer is believed unchecked."""

    process: Process

    async def announce(self, length: int) -> None:
        """Ask whether a picture of this length is taken."""
        await self._tell(length.to_bytes(4))
        if await self._hear(1) != ACCEPTED:
            raise _LostError

    async def look(self, data: bytes) -> Image | None:
        """Have it looked at; None if it is no picture that is taken."""
        await self._tell(data)
        kind, width, height, is_same, length = HEAD.unpack(await self._hear(HEAD.size))
        if kind == 0:
            return None
        is_sound = kind < len(MEDIA_TYPES) and length <= _MAX_ANSWER
        if not is_sound or not _is_fair(width, height):
            raise _LostError
        kept = data if is_same else await self._hear(length)
        if media_type_of(kept) != MEDIA_TYPES[kind]:
            raise _LostError
        return Image(
            data=kept, media_type=MEDIA_TYPES[kind], width=width, height=height
        )

    def kill(self) -> None:
        """End it, and what it forked."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.kill()

    async def ended(self) -> None:
        """Wait until it is gone."""
        await self.process.wait()

    async def _tell(self, data: bytes) -> None:
        stdin = self.process.stdin
        if stdin is None:
            raise _LostError
        try:
            stdin.write(data)
            await stdin.drain()
        except (OSError, RuntimeError):
            raise _LostError from None

    async def _hear(self, length: int) -> bytes:
        stdout = self.process.stdout
        if stdout is None:
            raise _LostError
        try:
            return await stdout.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            raise _LostError from None


async def _started(megabytes: int, seconds: float) -> Process:
    return await asyncio.create_subprocess_exec(
        # Not from the folder of the program: its neighbours have names of modules.
        *(sys.executable, "-P", "-s", str(_PROGRAM)),
        *(str(megabytes), str(math.ceil(seconds))),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=1_048_576,
        cwd=_PROGRAM.anchor,
        env=_environment(),
        # A Ctrl-C is meant for the server, and killing this must not reach it.
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Give what it takes to find the same packages, and nothing else."""
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    return {**found, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


def _is_fair(width: int, height: int) -> bool:
    return 0 < width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE


def invalid() -> RefusedError:
    """Say that it is no picture that is taken here."""
    return RefusedError(422, "invalid_image")


def _busy() -> RefusedError:
    return RefusedError(503, "busy", retry_after=5)


def _closing() -> RefusedError:
    return RefusedError(503, "closing", retry_after=5)
