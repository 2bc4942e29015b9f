"""The process behind a `gaia_flux.isolation.ProcessWorker`: its socket and its log."""

import os
import re
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import attrs

from gaia_core.observability import get_logger
from gaia_core.secrets import is_secret_name
from gaia_flux.jobs import Preview
from gaia_flux.setups import Setup
from gaia_flux.wire import Decoder, Frame, FrameError, encoded, value_of
from gaia_flux.workers import WorkerDiedError

TICK = 0.05
"""Seconds between two looks whether anybody still waits."""
_READ = 2**18
_END = 2.0
"""Seconds one that has hung up gets to end by itself, which tells how it did."""
_MAX_LINES = 200
_MAX_LINE = 500
_LAST_LINES = 40
_CARRIED = re.compile(
    "PATH|HOME|USER|LOGNAME|SHELL|TZ|TMPDIR|TEMP|TMP|LANG|LANGUAGE|"
    "LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|VIRTUAL_ENV|CC|CXX|HF_HOME|HF_HUB_CACHE|"
    "PYTHON.*|TORCHINDUCTOR_.*|"
    "(?:LC|XDG|CONDA|CUDA|CUBLAS|CUDNN|NCCL|NVIDIA|HIP|HSA|ROCM|ROCR|AMD|"
    "TORCH|PYTORCH|TRITON|OMP|MKL|KMP|GOMP|OPENBLAS|NUMEXPR|"
    "DIFFUSERS|TRANSFORMERS|SAFETENSORS|COVERAGE)_.*"
)


@attrs.frozen(kw_only=True)
class Said:
    """
    What comes with every frame of the process.

    Attributes:
        loaded: The models in its memory.
        is_last: Whether it ends now by itself, since its device is lost.
        content: What the frame is about.
    """

    loaded: tuple[str, ...]
    is_last: bool
    content: Any


@attrs.frozen(kw_only=True)
class Progress:
    """How far a job is."""

    fraction: float
    preview: Preview | None


@attrs.define(eq=False)
class _Printed:
    """What a process prints: the first lines go to the log, the last are kept."""

    last: deque[str] = attrs.field(factory=lambda: deque(maxlen=_LAST_LINES))
    _rest: bytes = b""
    _count: int = 0

    def take(self, data: bytes, *, is_end: bool = False) -> None:
        """Take what it printed; half a line waits for its other half."""
        data = self._rest + data
        if is_end or len(data) > _READ:
            lines, self._rest = data.splitlines(), b""
        else:
            *lines, self._rest = data.replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line[:_MAX_LINE].decode(errors="replace"))

    def _take(self, line: str) -> None:
        self.last.append(line)
        self._count += 1
        if self._count <= _MAX_LINES:
            is_last = self._count == _MAX_LINES
            get_logger(provider="flux").info(
                "gaia.flux_worker_printed", line=line, is_rest_left_out=is_last
            )


@attrs.define(eq=False)
class Process:
    """
    A process, its socket, and what it prints.

    Attributes:
        loaded: The models it had in memory when it last spoke.
        has_spoken: Whether it has said anything yet.
        is_last: Whether it said that it ends by itself.
        end: How it ended, in a sentence.
    """

    popen: subprocess.Popen[bytes]
    channel: socket.socket
    loaded: tuple[str, ...] = attrs.field(default=(), init=False)
    has_spoken: bool = attrs.field(default=False, init=False)
    is_last: bool = attrs.field(default=False, init=False)
    end: str = attrs.field(default="", init=False)
    _decoder: Decoder = attrs.field(factory=Decoder, init=False)
    _printed: _Printed = attrs.field(factory=_Printed, init=False)
    _selector: selectors.BaseSelector = attrs.field(
        factory=selectors.DefaultSelector, init=False
    )

    @classmethod
    def start(cls, command: Sequence[str], setup: Setup, patience: float) -> Self:
        """
        Start a process and tell it what to work with.

        Raises:
            WorkerDiedError: If it cannot be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                popen = _popen(command, theirs.fileno())
            except (OSError, ValueError) as error:  # the latter on Windows
                ours.close()
                message = f"The worker's process cannot be started: {error}."
                raise WorkerDiedError(message) from error
        ours.settimeout(patience)
        process = cls(popen, ours)
        process._listen()
        with suppress(OSError):  # one that died at once is noticed at the question
            process.send(encoded(Frame(kind="start", value=setup.to_record())))
        return process

    @property
    def is_dead(self) -> bool:
        """Whether it has ended; asked from any thread."""
        return self.popen.poll() is not None

    def send(self, pieces: Sequence[bytes]) -> None:
        """
        Say something.

        Raises:
            OSError: If it is gone, or does not listen for too long.
        """
        for piece in pieces:
            self.channel.sendall(piece)

    def heard(self) -> Iterator[Frame]:
        """
        Wait a moment for what it says.

        Raises:
            OSError: If it will say no more.
            FrameError: If it talks nonsense.
        """
        for key, _ in self._selector.select(TICK):
            if key.fileobj is self.channel:
                yield from self._read()
            elif not self._read_printed():
                self._selector.unregister(key.fileobj)

    def kill(self, cause: Exception | None) -> None:
        """End it with all it started, and write down how it ended."""
        is_ending = self.is_last or isinstance(cause, ConnectionError)
        self._wait(_END if is_ending else 0)
        status = self._let_go()
        self.end = _end(status, cause)
        get_logger(provider="flux").warning(
            "gaia.flux_worker_died",
            status=status,
            reason=self.end,
            last_lines=tuple(self._printed.last),
        )

    def close(self, patience: float) -> None:
        """Ask it to end, and see to it."""
        with suppress(OSError):
            self.send(encoded(Frame(kind="close")))
            self._wait(patience)
        self._let_go()

    def _listen(self) -> None:
        stdout = self.popen.stdout
        if stdout is not None:
            os.set_blocking(stdout.fileno(), False)
            self._selector.register(stdout, selectors.EVENT_READ)
        self._selector.register(self.channel, selectors.EVENT_READ)

    def _read(self) -> Iterator[Frame]:
        data = self.channel.recv(_READ)
        if not data:
            self._selector.unregister(self.channel)
            message = "it hung up"
            raise ConnectionResetError(message)
        for frame in self._decoder.feed(data):
            said = value_of(Said, frame.value)
            self.loaded, self.is_last = said.loaded, said.is_last
            self.has_spoken = True
            yield attrs.evolve(frame, value=said.content)

    def _read_printed(self) -> bool:
        """Read what it printed, without waiting; tell whether there may be more."""
        stdout = self.popen.stdout
        data = b"" if stdout is None else stdout.read(_READ)
        if data:
            self._printed.take(data)
        return data != b""

    def _wait(self, patience: float) -> None:
        """Give it time to end, and read what it prints meanwhile."""
        until = time.monotonic() + patience
        while not self.is_dead and time.monotonic() < until:
            with suppress(FrameError, OSError):
                deque(self.heard(), maxlen=0)

    def _let_go(self) -> int:
        # It leads the group of all it started, such as compilers.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        status = self.popen.wait()
        self._read_printed()
        self._printed.take(b"", is_end=True)
        self._selector.close()
        self.channel.close()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return status


def _popen(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  our own module, no shell
        [*command, str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        pass_fds=(descriptor,),
        env=environment(os.environ),
        start_new_session=True,
    )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """
    Choose what a worker's process needs to know of this one's environment.

    Models come from all over the world: nothing that reads them gets to see a key.
    """
    carried = {
        name: value
        for name, value in variables.items()
        if _CARRIED.fullmatch(name) and not is_secret_name(name)
    }
    return {**carried, "HF_HUB_OFFLINE": "1"}


def _end(status: int, cause: Exception | None) -> str:
    if isinstance(cause, FrameError):
        how = f"sent what cannot be understood ({cause}) and was ended"
    elif isinstance(cause, TimeoutError):
        how = f"hung ({cause}) and was ended"
    elif status < 0:
        how = f"was ended by {_signal(-status)}"
    else:
        how = f"ended by itself with status {status}"
    return (
        f"The worker's process {how}; what it was drawing is lost. The next picture "
        "starts a new one; the log has its last lines."
    )


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    hints = {
        "SIGKILL": " (the system does that when memory runs out)",
        "SIGSEGV": " (a crash in the driver or a library)",
        "SIGABRT": " (a crash in the driver or a library)",
    }
    return name + hints.get(name, "")
