"""
Latents as small pictures, while the real one is still being drawn.

Every autoencoder has its own colours, so the projection to RGB is not a table but a
fit: flat patches of known colours are encoded once per autoencoder, and least squares
say which mixture of channels gives the colours back. No random number is drawn and no
latent is changed, so a preview never changes the result.
"""

import weakref
from itertools import product
from typing import Any, Final

import attrs
import torch
from diffusers.utils.torch_utils import get_module_execution_device

from gaia_flux.jobs import Preview

COUNT: Final = 10
"""About how many previews a picture gets."""

_MAX_SIDE: Final = 128
_LEVELS: Final = (-1.0, -0.33, 0.33, 1.0)
_PATCH: Final = 32
_PACKED_DIMENSIONS: Final = 3

_projections: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


@attrs.frozen(kw_only=True)
class Previewer:
    """Makes previews for the pictures of one call."""

    vae: Any
    width: int
    height: int

    def is_due(self, step: int, steps: int) -> bool:
        """Say whether a step (from 0) gets a preview: the last has the picture."""
        every = max(1, -(-steps // COUNT))
        return (step + 1) % every == 0 and step + 1 < steps

    def preview(self, latents: Any) -> Preview:
        """Turn the first picture's latents into a small one."""
        with torch.no_grad():
            pixels = self._pixels(latents[:1])
        height, width, _ = pixels.shape
        return Preview(
            pixels=pixels.cpu().numpy().tobytes(), width=width, height=height
        )

    def _pixels(self, latents: Any) -> Any:
        flat = _unpacked(latents, self.width, self.height)[0].float()
        stride = max(1, -(-max(flat.shape[1:]) // _MAX_SIDE))
        flat = flat[:, ::stride, ::stride].permute(1, 2, 0)
        weights = projection(self.vae).to(flat.device)
        colours = flat @ weights[:-1] + weights[-1]
        # A half-drawn latent may be anything; what is not a number has no colour.
        levels = ((colours + 1) * 127.5).nan_to_num(0.0, 255.0, 0.0)
        return levels.clamp(0, 255).round().to(torch.uint8).contiguous()


def _unpacked(latents: Any, width: int, height: int) -> Any:
    """
    Undo the packing of 2x2 latents into one token, where there is any.

    FLUX.1 and FLUX.2 pack the same way; a UNet's latents are already a picture.
    """
    if latents.dim() != _PACKED_DIMENSIONS:
        return latents
    count, tokens, channels = latents.shape
    rows, columns = _grid(tokens, width, height)
    grid = latents.view(count, rows, columns, channels // 4, 2, 2)
    grid = grid.permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(count, channels // 4, rows * 2, columns * 2)


def _grid(tokens: int, width: int, height: int) -> tuple[int, int]:
    scale = (width * height / tokens) ** 0.5
    columns = max(1, round(width / scale))
    return tokens // columns, columns


def projection(vae: Any) -> Any:
    """Give the matrix (channels + 1, 3) from an autoencoder's latents to RGB."""
    if vae not in _projections:
        with torch.no_grad():
            _projections[vae] = _fitted(vae)
    return _projections[vae]


def _fitted(vae: Any) -> Any:
    colours = torch.tensor(list(product(_LEVELS, repeat=3)))
    latents = _patches(vae, colours).double()
    ones = torch.ones(len(latents), 1, dtype=torch.float64)
    system = torch.cat([latents, ones], dim=1)
    # A little weight on small coefficients: a fit with as many channels as colours
    # would else be exact on patches and wild on everything between them.
    ridge = 1e-3 * torch.eye(system.shape[1], dtype=torch.float64)
    square = system.T @ system + ridge
    return torch.linalg.solve(square, system.T @ colours.double()).float()


def _patches(vae: Any, colours: Any) -> Any:
    """Encode one flat patch per colour, and average its latent as a pipeline has it."""
    patch = colours[:, :, None, None].expand(-1, -1, _PATCH, _PATCH)
    # An offloaded autoencoder lies on another device than it computes on.
    device, dtype = get_module_execution_device(vae), next(vae.parameters()).dtype
    found = []
    for colour in patch.split(1):
        latent = vae.encode(colour.to(device=device, dtype=dtype)).latent_dist.mode()
        found.append(_scaled(vae, latent).float().mean(dim=(2, 3)).cpu())
    # The autoencoder of SDXL overflows in half precision; a preview may be grey then.
    return torch.cat(found).nan_to_num(0.0, 0.0, 0.0)


def _scaled(vae: Any, latent: Any) -> Any:
    if hasattr(vae, "bn"):
        return _normalised(vae, latent)
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return (latent - shift) * vae.config.scaling_factor


def _normalised(vae: Any, latent: Any) -> Any:
    """FLUX.2 scales latents by statistics over 2x2 of them."""
    packed = torch.nn.functional.pixel_unshuffle(latent, 2)
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(packed)
    deviation = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    packed = (packed - mean) / deviation.view(1, -1, 1, 1).to(packed)
    return torch.nn.functional.pixel_shuffle(packed, 2)
