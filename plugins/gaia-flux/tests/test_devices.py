"""Accelerators are found through what NVIDIA's driver says, and without torch."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gaia_flux import devices

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
FIRST = "GPU-5f1c0000-0000-0000-0000-000000000000"
SECOND = "GPU-7a2b0000-0000-0000-0000-000000000000"
SAID = f"{FIRST}, {H100}, 81559, Disabled\n{SECOND}, {L4}, 23034, [N/A]\n"


@pytest.fixture(name="root", autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a machine without a card, without a driver and without Apple's chip."""
    root, programs = tmp_path / "root", tmp_path / "programs"
    root.mkdir()
    programs.mkdir()
    monkeypatch.setattr(devices, "ROOT", root)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _forget()
    yield root
    _forget()


def _forget() -> None:
    for remembered in (devices.found, devices._cards, devices._told):
        remembered.cache_clear()


@pytest.fixture(name="driver")
def _driver(root: Path) -> Path:
    """Put two cards into the driver's files, and into /dev."""
    for minor, (name, uuid) in enumerate(((H100, FIRST), (L4, SECOND))):
        folder = root / f"proc/driver/nvidia/gpus/0000:{minor:02}:00.0"
        folder.mkdir(parents=True)
        facts = {
            "Model": name,
            "IRQ": "18",
            "GPU UUID": uuid,
            "Bus Location": folder.name,
            "Device Minor": str(minor),
            "GPU Excluded": "No",
        }
        lines = (f"{fact}: \t {value}\n" for fact, value in facts.items())
        (folder / "information").write_text("".join(lines))
        node = root / f"dev/nvidia{minor}"
        node.parent.mkdir(exist_ok=True)
        node.touch()
    return root


@pytest.fixture(name="program")
def _program(tmp_path: Path) -> Callable[..., None]:
    """Give what puts a program in the place of NVIDIA's."""

    def put(said: str = SAID, *, folder: Path = tmp_path / "programs") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "said").write_text(said)
        file = folder / "nvidia-smi"
        file.write_text(
            f'#!/bin/sh\n: > "{tmp_path}/asked"\n'
            f'while read -r line; do echo "$line"; done < "{tmp_path}/said"\n'
        )
        file.chmod(0o755)

    return put


def test_cards_are_listed_by_the_files_alone(
    driver: Path, program: Callable[..., None], tmp_path: Path
) -> None:
    """Names are known at once; NVIDIA's program is not even started."""
    program()

    first, second = devices.found()

    assert driver.exists()
    assert (first.device, first.name, first.uuid) == ("cuda:0", H100, FIRST)
    assert (second.device, second.name) == ("cuda:1", L4)
    assert devices.why_none("cuda:1") is None
    assert not (tmp_path / "asked").exists()


@pytest.mark.usefixtures("driver")
def test_memory_is_asked_of_the_program(program: Callable[..., None]) -> None:
    """Each card has its own; the first stands for all where no number is said."""
    program()

    assert devices.memory_of("cuda:1") == 23034 * 2**20
    assert devices.memory_of("cuda") == devices.memory_of("auto") == 81559 * 2**20
    assert devices.memory_of("cuda:2") is None


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    "said",
    [
        pytest.param("Failed to initialize NVML\n", id="broken-driver"),
        pytest.param(f"{FIRST}, {H100}, [N/A], Disabled\n", id="shared-memory"),
        pytest.param(f"{FIRST}, {H100}, 81559, Enabled\n", id="in-parts"),
        pytest.param("", id="nothing"),
    ],
)
def test_memory_may_be_unknown(program: Callable[..., None], said: str) -> None:
    """What is not said, or said of a whole card in parts, is not made up."""
    program(said)

    assert devices.memory_of("cuda:0") is None


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        pytest.param("1", [L4], id="the-second"),
        pytest.param("1,0", [L4, H100], id="in-order"),
        pytest.param("GPU-7a2b", [L4], id="by-uuid"),
        pytest.param("GPU-ffff", [], id="no-such-uuid"),
        pytest.param("MIG-5f1c", ["NVIDIA GPU"], id="part-of-a-card"),
        pytest.param("7", [], id="one-that-is-not-here"),
        pytest.param("1,7,0", [L4], id="up-to-it"),
        pytest.param("0,-1,1", [H100], id="the-rest-hidden"),
        pytest.param("", [], id="none"),
        pytest.param("-1", [], id="hidden"),
        pytest.param("NoDevFiles", [], id="as-slurm-hides-them"),
    ],
)
@pytest.mark.usefixtures("driver")
def test_hidden_cards_are_not_there(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    """What CUDA_VISIBLE_DEVICES leaves out is left out, in its order."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    found = devices.found()

    assert [one.name for one in found] == names
    assert [one.device for one in found] == [f"cuda:{n}" for n in range(len(names))]
    reason = devices.why_none("auto")
    assert (reason is None) is bool(names)
    assert reason is None or f"CUDA_VISIBLE_DEVICES is {visible!r}" in reason


def test_container_that_was_given_no_card_has_none(driver: Path) -> None:
    """The driver's files name all cards of the machine; those of /dev count."""
    for node in (driver / "dev").iterdir():
        node.unlink()

    assert devices.found() == ()
    assert "docker run --gpus all" in str(devices.why_none("cuda"))


def test_container_has_the_cards_it_was_given(driver: Path) -> None:
    """CUDA numbers those from nought."""
    (driver / "dev/nvidia0").unlink()

    assert [(one.device, one.name) for one in devices.found()] == [("cuda:0", L4)]


def test_files_in_dev_may_come_later(driver: Path, tmp_path: Path) -> None:
    """On a machine without a screen the first use makes them."""
    for node in (driver / "dev").iterdir():
        node.unlink()
    maker = tmp_path / "programs" / "nvidia-modprobe"
    maker.write_text("#!/bin/sh\n")
    maker.chmod(0o755)

    assert len(devices.found()) == 2


def test_excluded_card_is_not_there(driver: Path) -> None:
    """What the driver was told to leave alone cannot be used."""
    file = driver / "proc/driver/nvidia/gpus/0000:00:00.0/information"
    file.write_text(file.read_text().replace("\t No", "\t Yes"))

    assert [one.name for one in devices.found()] == [L4]


def test_files_in_dev_are_enough(root: Path, program: Callable[..., None]) -> None:
    """A sandbox without the driver's files has a card without a name."""
    (root / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    program(f"{FIRST}, {H100}, 81559, Disabled\n")

    assert [one.name for one in devices.found()] == ["NVIDIA GPU"]
    assert devices.memory_of("auto") == 81559 * 2**20


def test_part_of_a_card_is_not_as_large_as_the_card(
    driver: Path, program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells the memory of a part, so that it is not known."""
    shutil.rmtree(driver / "proc/driver/nvidia/gpus/0000:01:00.0")
    program(f"{FIRST}, {H100}, 81559, Enabled\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5f1c")

    assert [one.name for one in devices.found()] == ["NVIDIA GPU"]
    assert devices.memory_of("auto") is None


def test_linux_in_windows_asks_the_program(
    root: Path, program: Callable[..., None]
) -> None:
    """There the program lies beside the path, and there are no files."""
    program(folder=root / "usr/lib/wsl/lib")

    assert [one.name for one in devices.found()] == [H100, L4]
    assert devices.memory_of("cuda:1") == 23034 * 2**20


def test_program_without_cards_finds_none(program: Callable[..., None]) -> None:
    """What it says beside the point is passed over."""
    program("No devices were found\n")

    assert devices.found() == ()


@pytest.mark.parametrize(
    ("device", "words"),
    [
        pytest.param("auto", "no CUDA device", id="auto"),
        pytest.param("cuda", "no CUDA device", id="cuda"),
        pytest.param("cuda:3", "no device cuda:3", id="numbered"),
        pytest.param("mps", "no device mps", id="apple"),
    ],
)
def test_what_is_not_there_is_said(device: str, words: str) -> None:
    """The sentence names the device and two ways on."""
    said = devices.why_none(device) or ""

    assert f"{words} is on this machine. Use another provider" in said
    assert 'device = "cpu"' in said
    assert devices.memory_of(device) is None


def test_numbers_that_are_not_there_name_those_that_are(driver: Path) -> None:
    """Whoever counts from one sees how cards are counted."""
    assert driver.exists()
    assert "only cuda:0, cuda:1" in str(devices.why_none("cuda:2"))


def test_apple_chip_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no file and no program, and its memory is the machine's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="arm64"))

    assert [one.device for one in devices.found()] == ["mps"]
    assert devices.why_none("auto") is None
    assert devices.memory_of("mps") is None
