"""
The network: a small U-Net that turns noise into a 32x32 picture by words.

It learns a rectified flow: given a mixture of a picture and noise, and the share
of noise in it, it names the direction from the picture to the noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

MOST_WORDS = 8
CHANNELS = (48, 96, 192)
WIDTH = 96


class Block(nn.Module):
    """Two convolutions around a residual, scaled and shifted by the noise level."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        """Build a block from `before` to `after` channels."""
        super().__init__()
        self.first_norm = nn.GroupNorm(8, before)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.condition = nn.Linear(condition, after * 2)
        self.second_norm = nn.GroupNorm(8, after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        same = before == after
        self.skip = nn.Identity() if same else nn.Conv2d(before, after, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Refine the features."""
        hidden = self.first(F.silu(self.first_norm(x)))
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.second_norm(hidden) * (1 + scale) + shift
        return self.skip(x) + self.second(F.silu(hidden))


class Attention(nn.Module):
    """Every place looks at the words, and where asked at every other place."""

    def __init__(self, channels: int, *, places: bool, heads: int = 4) -> None:
        """Build the attention; `places` adds self-attention."""
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.query = nn.Linear(channels, channels)
        self.words = nn.Linear(WIDTH, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.places = nn.Linear(channels, 2 * channels) if places else None
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, words: Tensor, said: Tensor) -> Tensor:
        """Mix in what the words say; `said` marks the words that are there."""
        batch, channels, height, width = x.shape
        flat = self.norm(x).flatten(2).transpose(1, 2)
        seen, visible = self.words(words), said
        if self.places is not None:
            seen = torch.cat([seen, self.places(flat)], 1)
            everywhere = torch.ones_like(flat[..., 0], dtype=torch.bool)
            visible = torch.cat([said, everywhere], 1)
        key, value = (self._split(part) for part in seen.chunk(2, 2))
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(flat)), key, value, attn_mask=visible[:, None, None]
        )
        mixed = mixed.transpose(1, 2).reshape(batch, height * width, channels)
        return x + self.out(mixed).transpose(1, 2).view(batch, channels, height, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.heads, x.shape[2] // self.heads).transpose(
            1, 2
        )


class Network(nn.Module):
    """Noise, its share and up to eight words in; the direction of the flow out."""

    def __init__(self, words: int) -> None:
        """Build the network for a vocabulary of so many words."""
        super().__init__()
        top, middle, bottom = CHANNELS
        wide = 2 * WIDTH
        self.words = nn.Embedding(words + 1, WIDTH)
        self.level = nn.Sequential(
            nn.Linear(WIDTH, wide), nn.SiLU(), nn.Linear(wide, wide)
        )
        self.meaning = nn.Linear(WIDTH, wide)
        self.enter = nn.Conv2d(16, top, 3, padding=1)
        self.down_top = nn.ModuleList(Block(top, top, wide) for _ in range(2))
        self.attend_top = Attention(top, places=False)
        self.to_middle = nn.Conv2d(top, middle, 3, 2, 1)
        self.down_middle = nn.ModuleList(Block(middle, middle, wide) for _ in range(2))
        self.attend_middle = Attention(middle, places=True)
        self.to_bottom = nn.Conv2d(middle, bottom, 3, 2, 1)
        self.bottom_in = Block(bottom, bottom, wide)
        self.attend_bottom = Attention(bottom, places=True)
        self.bottom_out = Block(bottom, bottom, wide)
        self.from_bottom = nn.Conv2d(bottom, middle, 1)
        self.up_middle = nn.ModuleList(
            [Block(2 * middle, middle, wide), Block(middle, middle, wide)]
        )
        self.attend_up_middle = Attention(middle, places=True)
        self.from_middle = nn.Conv2d(middle, top, 1)
        self.up_top = nn.ModuleList(
            [Block(2 * top, top, wide), Block(top, top, wide), Block(top, top, wide)]
        )
        self.attend_up_top = Attention(top, places=False)
        self.last_norm = nn.GroupNorm(8, top)
        self.leave = nn.Conv2d(top, 16, 3, padding=1)
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, level: Tensor, ids: Tensor) -> Tensor:
        """
        Name the flow at a mixture.

        Args:
            x: pictures of shape (batch, 4, 32, 32), premultiplied, from -1 to 1.
            level: the share of noise in each, from 0 to 1.
            ids: the words of each, shape (batch, 8); 0 stands for no word.
        """
        always = torch.zeros_like(ids[:, :1])
        words = self.words(torch.cat([always, ids], 1))
        said = torch.cat([always == 0, ids > 0], 1)
        condition = self._condition(level, words, said)
        x = self.enter(F.pixel_unshuffle(x, 2))
        for block in self.down_top:
            x = block(x, condition)
        top = x = self.attend_top(x, words, said)
        x = self.to_middle(x)
        for block in self.down_middle:
            x = block(x, condition)
        middle = x = self.attend_middle(x, words, said)
        x = self.bottom_in(self.to_bottom(x), condition)
        x = self.bottom_out(self.attend_bottom(x, words, said), condition)
        x = torch.cat([F.interpolate(self.from_bottom(x), scale_factor=2.0), middle], 1)
        for block in self.up_middle:
            x = block(x, condition)
        x = self.attend_up_middle(x, words, said)
        x = torch.cat([F.interpolate(self.from_middle(x), scale_factor=2.0), top], 1)
        for block in self.up_top:
            x = block(x, condition)
        x = self.attend_up_top(x, words, said)
        return F.pixel_shuffle(self.leave(F.silu(self.last_norm(x))), 2)

    def _condition(self, level: Tensor, words: Tensor, said: Tensor) -> Tensor:
        half = WIDTH // 2
        pace = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angle = level[:, None] * 1000 * pace
        waves = self.level(torch.cat([angle.sin(), angle.cos()], 1))
        shown = said[..., None].to(words.dtype)
        mean = (words * shown).sum(1) / shown.sum(1)
        return F.silu(waves + self.meaning(mean))
