"""Accelerators are found through what NVIDIA's driver says, and without torch."""

import os
import stat
from pathlib import Path

import pytest

from gaia_flux import devices

SAID = "0, NVIDIA H100 80GB HBM3, 81559\n1, NVIDIA L4, 23034\n"


@pytest.fixture(name="driver")
def _driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program in the place of NVIDIA's, which says what a file says."""
    said = tmp_path / "said"
    said.write_text(SAID)
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\nexec cat "{said}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return said


@pytest.mark.usefixtures("driver")
def test_cards_have_names_and_memory() -> None:
    """The driver's rows become devices as torch numbers them."""
    first, second = devices.nvidia({})

    assert (first.device, first.name) == ("cuda:0", "NVIDIA H100 80GB HBM3")
    assert (second.device, second.memory) == ("cuda:1", 23034 * 2**20)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "names"),
    [
        pytest.param("1", ["NVIDIA L4"], id="the-second"),
        pytest.param("1,0", ["NVIDIA L4", "NVIDIA H100 80GB HBM3"], id="in-order"),
        pytest.param("GPU-5f1c", ["NVIDIA GPU"], id="by-uuid"),
        pytest.param("MIG-5f1c", ["NVIDIA GPU"], id="part-of-a-card"),
        pytest.param("7", [], id="one-that-is-not-here"),
        pytest.param("1,7,0", ["NVIDIA L4"], id="up-to-it"),
        pytest.param("0,-1,1", ["NVIDIA H100 80GB HBM3"], id="the-rest-hidden"),
        pytest.param("", [], id="none"),
        pytest.param("-1", [], id="hidden"),
    ],
)
def test_hidden_cards_are_not_there(visible: str, names: list[str]) -> None:
    """What CUDA_VISIBLE_DEVICES leaves out is left out, in its order."""
    found = devices.nvidia({"CUDA_VISIBLE_DEVICES": visible})

    assert [one.name for one in found] == names
    assert [one.device for one in found] == [f"cuda:{n}" for n in range(len(names))]


def test_a_driver_without_cards_has_none(driver: Path) -> None:
    """What the driver says beside the point is passed over."""
    driver.write_text("No devices were found\n")

    assert devices.nvidia({"CUDA_VISIBLE_DEVICES": "0"}) == ()


@pytest.mark.skipif(bool(devices.found()), reason="there is an accelerator here")
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

    assert words in said
    assert 'device = "cpu"' in said
    assert devices.memory_of(device) is None
