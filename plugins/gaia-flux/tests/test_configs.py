"""A model's configuration has no program fetched, whatever it asks for."""

import json
from pathlib import Path
from typing import Any

import pytest

from gaia_flux import configs
from gaia_flux.weights import WeightsError

KERNEL = "somebody/kernels"


def part(folder: Path, config: Any) -> Path:
    """Write down a component's configuration."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": KERNEL},
        {"_attn_implementation": KERNEL},
        {"attn_implementation": {"": "sdpa", "text_config": KERNEL}},
        {"text_config": {"layers": [{"attn_implementation": KERNEL}]}},
        {"experts_implementation": KERNEL},
        {"quantization_config": {"quant_method": KERNEL}},
        {"quantization_config": [KERNEL]},
    ],
    ids=["plain", "private", "by-part", "deep", "experts", "quantised", "no-table"],
)
def test_what_would_be_fetched_is_refused(tmp_path: Path, config: Any) -> None:
    """The sentence names the file, what it asks for, and what to do."""
    with pytest.raises(WeightsError, match=r"config\.json asks for .*take that line"):
        configs.check([part(tmp_path, config)])


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[" * 100_000], ids=["cut", "bytes", "deep"]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    """Neither half a file nor an endless one stops more than its own model."""
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(WeightsError, match=r"config\.json is no JSON"):
        configs.check([tmp_path])


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "gguf", "nunchaku_lite", "eetq"])
def test_ways_to_quantise_that_fetch_kernels_are_refused(
    tmp_path: Path, method: str
) -> None:
    """These get their kernels from a hub when they first compute."""
    wanted = {"quantization_config": {"quant_method": method}}

    with pytest.raises(WeightsError, match=f"asks for {method} "):
        configs.check([part(tmp_path, wanted)])


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "sdpa", "_attn_implementation": None},
        {"attn_implementation": {"": "eager", "vision_config": None}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"quantization_config": None, "hidden_act": "silu"},
        ["no", "table"],
    ],
    ids=["kernels", "by-part", "bitsandbytes", "exact", "no-table"],
)
def test_what_is_installed_may_be_asked_for(tmp_path: Path, config: Any) -> None:
    """Kernels of torch, weights that somebody has quantised before, and the rest."""
    configs.check([part(tmp_path, config), tmp_path / "no-config"])
