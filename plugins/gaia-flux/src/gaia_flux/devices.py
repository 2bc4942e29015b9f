"""
Which accelerator this machine has, without importing torch.

NVIDIA's driver is asked through the files and the program it brings: to load its
library and initialise it would put a CUDA context into the host's process, whose forks
cannot use it any more. The files tell at once which cards there are. The program takes
a tenth of a second to some seconds, and is asked where a card's memory is to be known,
and where there are no files: on Windows, and on Linux inside it.
"""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path("/")
"""Where the driver's files are looked for."""

_CARDS: Final = "proc/driver/nvidia/gpus"
_NODE: Final = re.compile(r"nvidia(\d+)")
_MAKES_NODES: Final = "nvidia-modprobe"
_PROGRAM: Final = "nvidia-smi"
_WSL: Final = "usr/lib/wsl/lib"
_ASKED: Final = (
    "--query-gpu=uuid,name,memory.total,mig.mode.current",
    "--format=csv,noheader,nounits",
)
_COLUMNS: Final = 4
_UNNAMED: Final = "NVIDIA GPU"
_PART: Final = "MIG-"
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
        uuid: What NVIDIA's driver knows it by; empty: not known.
    """

    device: str
    name: str
    uuid: str = ""


@attrs.frozen(kw_only=True)
class _Card:
    """
    A card of NVIDIA's.

    Attributes:
        name: What it is called.
        uuid: What the driver knows it by; empty: not known.
        is_open: Whether this process can open it.
    """

    name: str = _UNNAMED
    uuid: str = ""
    is_open: bool = True


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
    if any(_is_meant(device, name) for name in names):
        return None
    what = "no CUDA device" if device in {"auto", "cuda"} else f"no device {device}"
    here = f", only {', '.join(names)}" if names else ""
    cause = "" if names or device == "mps" else _why_hidden(os.environ)
    return f"{what} is on this machine{here}{cause}. Use another provider, {_CPU}."


def kind_of(device: str) -> str:
    """Name the kind of a device; ``auto`` stays where there is no accelerator."""
    named = found()[0].device if device == "auto" and found() else device
    return named.partition(":")[0]


def memory_of(device: str) -> int | None:
    """
    Give a device's memory in bytes, as far as it is known.

    NVIDIA's program is asked, once: that takes its time.
    """
    one = next((one for one in found() if _is_meant(device, one.device)), None)
    if one is None or not one.device.startswith("cuda"):
        return None
    return _memories().get(one.uuid)


def _is_meant(wanted: str, device: str) -> bool:
    return wanted in {"auto", device, device.partition(":")[0]}


# -- which cards there are ----------------------------------------------------------


def nvidia(environ: Mapping[str, str]) -> tuple[Accelerator, ...]:
    """
    List NVIDIA's cards, as CUDA numbers equal ones.

    Args:
        environ: Says which of them may be used (``CUDA_VISIBLE_DEVICES``).
    """
    cards = [card for card in _cards() if card.is_open]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        cards = list(_visible(cards, visible)) if cards else []
    return tuple(
        Accelerator(device=f"cuda:{number}", name=card.name, uuid=card.uuid)
        for number, card in enumerate(cards)
    )


def _why_hidden(environ: Mapping[str, str]) -> str:
    """Say why no card of the machine can be used, where it has any."""
    cards = _cards()
    if not cards:
        return ""
    if not any(card.is_open for card in cards):
        return (
            f": the driver has {cards[0].name}, but its file in /dev is not here; give "
            "it to the container (`docker run --gpus all`)"
        )
    return f": CUDA_VISIBLE_DEVICES is {environ.get('CUDA_VISIBLE_DEVICES')!r}"


def _visible(cards: Iterable[_Card], words: str) -> Iterator[_Card]:
    """Choose cards as CUDA does: up to the first word that names none."""
    known = list(cards)
    for word in words.split(","):
        card = _named(known, word.strip())
        if card is None:
            return
        yield card


def _named(cards: list[_Card], word: str) -> _Card | None:
    if word.startswith(_PART):
        return _Card()  # which card it is a part of, and how large, nobody said
    if word.startswith("GPU-"):
        fitting = (one for one in cards if one.uuid.startswith(word))
        is_told = all(one.uuid for one in cards)
        return next(fitting, None if is_told else _Card())
    is_here = word.isdecimal() and int(word) < len(cards)
    return cards[int(word)] if is_here else None


@functools.cache
def _cards() -> tuple[_Card, ...]:
    """Look for cards: in the driver's files, in /dev, and else ask the program."""
    return (*_listed(),) or (*_nodes(),) or tuple(card for card, _ in _told())


def _listed() -> Iterator[_Card]:
    """
    Read the driver's files, one folder a card.

    They name all cards of a machine also in a container that was given none.
    """
    for folder in _entries(ROOT / _CARDS):
        facts = _facts(folder / "information")
        if facts.get("GPU Excluded", "No") == "No":
            yield _Card(
                name=facts.get("Model") or _UNNAMED,
                uuid=_known_uuid(facts.get("GPU UUID", "")),
                is_open=_is_open(facts.get("Device Minor", "")),
            )


def _facts(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _known_uuid(uuid: str) -> str:
    """Pass over what stands there until a card was used first: question marks."""
    return "" if "?" in uuid else uuid


def _is_open(minor: str) -> bool:
    """Tell whether a card has its file in /dev, or gets it when it is first used."""
    is_here = not minor or (ROOT / "dev" / f"nvidia{minor}").exists()
    return is_here or _program(_MAKES_NODES) is not None


def _nodes() -> Iterator[_Card]:
    """Count the files in /dev: some sandboxes have nothing else."""
    names = (path.name for path in _entries(ROOT / "dev"))
    return (_Card() for name in names if _NODE.fullmatch(name))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _apple() -> tuple[Accelerator, ...]:
    if sys.platform == "darwin" and os.uname().machine == "arm64":
        return (Accelerator(device="mps", name="Apple GPU"),)
    return ()


# -- what the program says ----------------------------------------------------------


def _memories() -> Mapping[str, int | None]:
    """Give each card's memory; one that stands alone needs no UUID."""
    told = _told()
    memories = {card.uuid: memory for card, memory in told}
    is_alone = len(told) == len(found()) == 1
    return memories | ({"": told[0][1]} if is_alone else {})


@functools.cache
def _told() -> tuple[tuple[_Card, int | None], ...]:
    """Ask ``nvidia-smi`` for cards and their memory; nothing: it cannot tell."""
    program = _program(_PROGRAM) or _program(_PROGRAM, path=str(ROOT / _WSL))
    if program is None:
        return ()
    try:
        said = subprocess.run(  # noqa: S603 - NVIDIA's own, without a shell
            [program, *_ASKED],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()
    rows = [line.split(", ") for line in said.stdout.splitlines()]
    return tuple(_row(row) for row in rows if len(row) == _COLUMNS)


def _row(row: list[str]) -> tuple[_Card, int | None]:
    uuid, name, memory, parting = (word.strip() for word in row)
    # What a part of a card has is not what the card has.
    is_known = memory.isdecimal() and parting != "Enabled"
    size = int(memory) * _MEBIBYTE if is_known else None
    return _Card(name=name, uuid=uuid), size


def _program(name: str, path: str | None = None) -> str | None:
    from shutil import which  # noqa: PLC0415 - it brings all kinds of compression

    return which(name, path=path)
