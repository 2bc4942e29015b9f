"""
Which accelerator this machine has, without importing torch.

NVIDIA's driver is asked through the files and the program it brings: to load its
library and initialise it would put a CUDA context into the host's process, whose forks
cannot use it any more.
"""

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

_CARDS: Final = Path("/proc/driver/nvidia/gpus")
_ASKED: Final = ("--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits")
_BY_UUID: Final = ("GPU-", "MIG-")
_PATIENCE: Final = 5.0
_MEBIBYTE: Final = 2**20
_CPU = 'or set device = "cpu" in [providers.flux], which is slow'


@attrs.frozen(kw_only=True)
class Accelerator:
    """
    One device that can draw.

    Attributes:
        device: Torch's word for it: ``cuda:0``, ``mps``.
        name: What its maker calls it.
        memory: Its memory in bytes; None: not known.
    """

    device: str
    name: str
    memory: int | None = None


@functools.cache
def found() -> tuple[Accelerator, ...]:
    """List the accelerators of this machine; looked for once."""
    return (*nvidia(os.environ), *_apple())


def why_none(device: str) -> str | None:
    """
    Say why a device cannot be used, and what to do; None: it is here.

    Args:
        device: ``auto``, ``cuda``, ``cuda:1`` or ``mps``.
    """
    names = [one.device for one in found()]
    if device == "auto":
        is_here = bool(names)
    else:
        is_here = any(one == device or one.startswith(f"{device}:") for one in names)
    if is_here:
        return None
    what = "no CUDA device" if device in {"auto", "cuda"} else f"no device {device}"
    here = f", only {', '.join(names)}" if names else ""
    return f"{what} is on this machine{here}. Use another provider, {_CPU}."


def memory_of(device: str) -> int | None:
    """Give a device's memory in bytes, as far as it is known."""
    fitting = (
        one.memory
        for one in found()
        if device == "auto"
        or one.device.split(":")[0] == device.split(":", maxsplit=1)[0]
        if ":" not in device or one.device == device
    )
    return next(fitting, None)


def nvidia(environ: Mapping[str, str]) -> tuple[Accelerator, ...]:
    """
    List NVIDIA's cards, as CUDA numbers them.

    Args:
        environ: Says which of them may be used (``CUDA_VISIBLE_DEVICES``).
    """
    lines = _told_by_driver()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        lines = list(_visible(lines, visible)) if lines else []
    return tuple(
        Accelerator(
            device=f"cuda:{number}",
            name=name,
            memory=int(memory) * _MEBIBYTE if memory.isdigit() else None,
        )
        for number, (_, name, memory) in enumerate(lines)
    )


def _visible(
    lines: Iterable[tuple[str, str, str]], words: str
) -> Iterator[tuple[str, str, str]]:
    """Choose cards as CUDA does: up to the first word that names none."""
    by_index = {line[0]: line for line in lines}
    for word in words.split(","):
        name = word.strip()
        if name.startswith(_BY_UUID):
            yield ("", "NVIDIA GPU", "")  # which of them it is, nobody said
        elif name in by_index:
            yield by_index[name]
        else:
            return


def _told_by_driver() -> list[tuple[str, str, str]]:
    """Ask ``nvidia-smi``; where it is not, count the files of the driver."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        try:
            said = subprocess.run(  # noqa: S603 - NVIDIA's own, without a shell
                [program, *_ASKED],
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return _counted()
        if said.returncode == 0:
            rows = [line.split(", ") for line in said.stdout.splitlines() if line]
            return [
                (row[0], row[1], row[2]) for row in rows if len(row) == len(_ASKED) + 1
            ]
    return _counted()


def _counted() -> list[tuple[str, str, str]]:
    cards = sorted(_CARDS.iterdir()) if _CARDS.is_dir() else []
    return [(str(number), "NVIDIA GPU", "") for number, _ in enumerate(cards)]


def _apple() -> tuple[Accelerator, ...]:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return (Accelerator(device="mps", name="Apple GPU"),)
    return ()
