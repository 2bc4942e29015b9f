"""Pictures made larger: doubled in latent space, or tile by tile by a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gaia_core import Capability

from .residents import ignore, job, png, resident_of

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from gaia_flux import inputs, upscaling
from gaia_flux.drawing import draw
from gaia_flux.jobs import StoppedError
from gaia_flux.upscaling import UpscalerError

_FAMILY = "latent-upscaler"


class Nearest(torch.nn.Module):  # type: ignore[misc]
    """The plainest of upscaling networks: it repeats pixels."""

    def __init__(self, scale: int) -> None:
        """Take a factor; the parameter says where and in which precision it runs."""
        super().__init__()
        self.scale = scale
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixels: Any) -> Any:
        """Repeat pixels."""
        repeated = torch.nn.functional.interpolate(pixels, scale_factor=self.scale)
        return repeated * self.gain


@pytest.fixture(scope="module", name="resident")
def _resident(tiny_models: Mapping[str, Path]) -> Any:
    return resident_of(_FAMILY, tiny_models[_FAMILY])


@pytest.mark.parametrize("size", [(64, 64), (40, 70)], ids=["even", "odd"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_latent_upscaler_reaches_a_factor(
    resident: Any, factor: int, size: tuple[int, int]
) -> None:
    """It doubles as often as it takes, and the result has the size asked for."""
    wanted = job(
        _FAMILY,
        Capability.UPSCALING,
        image=png(*size),
        upscale_factor=factor,
        num_inference_steps=2,
    )

    drawn = draw(resident, [wanted], ignore)[0].pictures[0]

    assert (drawn.width, drawn.height) == (size[0] * factor, size[1] * factor)


def test_transparency_is_kept(resident: Any) -> None:
    """A picture with an alpha channel comes back with one."""
    wanted = job(_FAMILY, Capability.UPSCALING, image=see_through())

    drawn = draw(resident, [wanted], ignore)[0].pictures[0]

    assert drawn.mode == "RGBA"
    assert len(drawn.pixels) == 128 * 128 * 4


def see_through() -> bytes:
    """Encode a picture that is half transparent."""
    from .residents import encoded

    return encoded(Image.new("RGBA", (64, 64), (200, 10, 10, 128)))


def test_a_stopped_doubling_leaves_no_trace(resident: Any) -> None:
    """The next picture is the usual one."""
    wanted = job(_FAMILY, Capability.UPSCALING)
    expected = draw(resident, [wanted], ignore)[0].pictures

    def stop(fraction: float, _preview: object) -> None:
        if fraction > 0.3:
            raise StoppedError

    with pytest.raises(StoppedError):
        draw(resident, [wanted], stop)

    assert draw(resident, [wanted], ignore)[0].pictures == expected


@pytest.mark.parametrize("size", [(40, 24), (7, 50), (16, 16)], ids=str)
def test_tiles_leave_no_seams(size: tuple[int, int]) -> None:
    """Tile by tile gives the same picture as all at once."""
    picture = inputs.decoded(png(*size))

    tiled = upscaling.tiled(Nearest(4), picture, ignore, tile=16, overlap=4)

    whole = picture.resize((size[0] * 4, size[1] * 4), Image.Resampling.NEAREST)
    assert tiled.tobytes() == whole.tobytes()


def test_tiles_bound_what_a_network_sees() -> None:
    """No tile is larger than its side and its overlap on both sides."""
    seen: list[tuple[int, ...]] = []
    network = Nearest(2)
    network.register_forward_pre_hook(
        lambda _, given: seen.append(tuple(given[0].shape[2:]))
    )

    upscaling.tiled(network, inputs.decoded(png(100, 60)), ignore, tile=32, overlap=8)

    assert max(max(each) for each in seen) <= 48
    assert len(seen) == 4 * 2


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_a_network_reaches_any_factor(resident: Any, factor: int) -> None:
    """It runs as often as it takes, and what is too large is scaled down."""
    wanted = job(_FAMILY, Capability.UPSCALING, image=png(16, 8), upscale_factor=factor)
    resident.components["upscaler"] = Nearest(4)
    try:
        drawn = draw(resident, [wanted], ignore)[0].pictures[0]
    finally:
        del resident.components["upscaler"]

    assert (drawn.width, drawn.height) == (16 * factor, 8 * factor)


def test_a_network_is_read_from_safetensors_only(tmp_path: Path) -> None:
    """A pickle is refused before anything reads it."""
    with pytest.raises(UpscalerError, match=r"not a \.safetensors file"):
        upscaling.load_network(tmp_path / "RealESRGAN_x4plus.pth", device="cpu")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    """Where spandrel can be used, a wrong file is named; else the sentence helps."""
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"")

    with pytest.raises(UpscalerError, match=r"wrong\.safetensors|install spandrel"):
        upscaling.load_network(path, device="cpu")


def test_spandrel_runs_a_real_architecture(tmp_path: Path) -> None:
    """A tiny Real-ESRGAN is read from its file and enlarges four times."""
    try:
        import spandrel  # noqa: F401 - whole: a part alone may import where it fails
        from spandrel.architectures.ESRGAN import ESRGAN
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"spandrel cannot be imported: {error}")
    from safetensors.torch import save_file

    path = tmp_path / "tiny.safetensors"
    save_file(ESRGAN(num_filters=8, num_blocks=1).state_dict(), path)

    network = upscaling.load_network(path, device="cpu")

    assert network.scale == 4
    assert upscaling.tiled(network, inputs.decoded(png(20, 12)), ignore).size == (
        80,
        48,
    )
