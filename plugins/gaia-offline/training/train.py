"""
Train the network on the pictures of recipe.py, resumable at any time.

    python train.py PICTURES RUN --minutes 95 [--start WEIGHTS]

RUN/state.pt holds everything needed to go on, RUN/average.pt the moving average
of the weights, RUN/vocabulary.json the words. A run that is started again with
the same RUN goes on where it stopped; the minutes count all its parts.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from network import MOST_WORDS, Network
from torch import Tensor

BATCH = 64
PEAK_RATE = 9e-4
UNTITLED = 0.1
"""The share of pictures shown without any words, for classifier-free guidance."""

ONE_WORD, TWO_WORDS, PAIR = 0.25, 0.35, 2
"""The shares of pictures shown with their first word or first two words only."""

LOST = 0.15
"""The chance of every other word to be left out."""

EVEN = 0.15
"""The share of noise levels drawn evenly from the whole range."""

MIRRORED = 0.4
"""How often a picture that may be mirrored is."""

SAVE_SECONDS = 120
_MIRRORED = ("creature", "ghost", "spider", "wolf")
"""Kinds that are also shown mirrored; the others share a pose worth keeping."""


@attrs.frozen(kw_only=True)
class Data:
    """The training pictures as tensors."""

    pictures: Tensor
    ids: Tensor
    chances: Tensor
    mirrored: Tensor
    words: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, known: tuple[str, ...] = ()) -> Data:
        """Read the archive; a resumed run keeps its words and learns no new ones."""
        archive = np.load(path)
        captions = [str(caption).split() for caption in archive["captions"]]
        words = known or tuple(dict.fromkeys(w for c in captions for w in c))
        number = {word: index + 1 for index, word in enumerate(words)}
        ids = torch.zeros(len(captions), MOST_WORDS, dtype=torch.long)
        for row, caption in enumerate(captions):
            numbers = [number[word] for word in caption if word in number]
            ids[row, : len(numbers)] = torch.tensor(numbers)
        pictures = archive["pictures"].astype(np.float32) / 255
        pictures[..., :3] *= pictures[..., 3:]
        return cls(
            pictures=torch.tensor(pictures * 2 - 1).permute(0, 3, 1, 2).contiguous(),
            ids=ids,
            chances=torch.tensor(archive["chances"]),
            mirrored=torch.tensor(np.isin(archive["kinds"], _MIRRORED)),
            words=words,
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """Draw pictures and the words to show with them."""
        rows = torch.multinomial(self.chances, BATCH, replacement=True)
        pictures = self.pictures[rows]
        mirror = self.mirrored[rows] & (torch.rand(BATCH) < MIRRORED)
        pictures = torch.where(mirror[:, None, None, None], pictures.flip(3), pictures)
        return pictures, fewer_words(self.ids[rows])


def fewer_words(ids: Tensor) -> Tensor:
    """
    Leave words out, so that short prompts are as familiar as full captions.

    A quarter keeps only its first word (the concept), a third its first two, a
    tenth none; the others lose single words here and there.
    """
    chance = torch.rand(len(ids), 1)
    position = torch.arange(ids.shape[1])
    keep = torch.rand(ids.shape) > LOST
    keep = torch.where(chance < ONE_WORD + TWO_WORDS, position < PAIR, keep)
    keep = torch.where(chance < ONE_WORD, position < 1, keep)
    keep = keep & (torch.rand(len(ids), 1) > UNTITLED)
    return ids * keep


def noise_levels() -> Tensor:
    """Mostly middling shares of noise, some from the whole range."""
    bell = torch.sigmoid(torch.randn(BATCH) * 1.1)
    return torch.where(torch.rand(BATCH) < EVEN, torch.rand(BATCH), bell)


@attrs.define
class Run:
    """A training run that survives being stopped."""

    folder: Path
    data: Data
    minutes: float
    network: Network = attrs.field(init=False)
    average: Network = attrs.field(init=False)
    optimizer: torch.optim.Optimizer = attrs.field(init=False)
    steps: int = 0
    seconds: float = 0.0
    loss: float = 1.0

    def __attrs_post_init__(self) -> None:
        """Build the network and take up an earlier state."""
        torch.manual_seed(0)
        self.network = Network(len(self.data.words))
        self.average = copy.deepcopy(self.network).requires_grad_(False)  # noqa: FBT003
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), fused=True
        )
        state = self.folder / "state.pt"
        if state.exists():
            self._resume(torch.load(state))

    def _resume(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.loss = state["loss"]
        torch.manual_seed(self.steps)

    def start_from(self, weights: Path) -> None:
        """Begin with the weights of an earlier network."""
        values = torch.load(weights)
        self.network.load_state_dict(values)
        self.average.load_state_dict(values)

    def train(self) -> None:
        """Train until the minutes are used up."""
        before, saved = time.monotonic() - self.seconds, self.seconds
        while self.seconds < 60 * self.minutes:
            self._step()
            self.seconds = time.monotonic() - before
            if self.seconds - saved > SAVE_SECONDS:
                saved = self.seconds
                self.save()
        self.save()

    def _rate(self) -> float:
        done = self.seconds / (60 * self.minutes)
        return PEAK_RATE * min(1.0, (self.steps + 1) / 300) * max(0.01, 1 - done)

    def _step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        pictures, ids = self.data.batch()
        levels = noise_levels()
        share = levels[:, None, None, None]
        noise = torch.randn_like(pictures)
        flow = self.network((1 - share) * pictures + share * noise, levels, ids)
        loss = F.mse_loss(flow, noise - pictures)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._follow()
        self.steps += 1
        self.loss += 0.005 * (loss.item() - self.loss)

    def _follow(self) -> None:
        """Let the average follow the weights."""
        pace = 1 - min(0.9993, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), pace
            )

    def save(self) -> None:
        """Write the state and the average."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        fresh = self.folder / "state.new"
        torch.save(state, fresh)
        fresh.replace(self.folder / "state.pt")
        torch.save(self.average.state_dict(), self.folder / "average.pt")
        pace = self.steps * BATCH / max(1.0, self.seconds)
        sys.stdout.write(
            f"{self.steps} steps, {self.seconds / 60:.1f} min, "
            f"loss {self.loss:.4f}, {pace:.0f} pictures/s\n"
        )
        sys.stdout.flush()


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to begin with")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.run.mkdir(parents=True, exist_ok=True)
    listed = options.run / "vocabulary.json"
    known = tuple(json.loads(listed.read_text())) if listed.exists() else ()
    data = Data.read(options.pictures, known)
    listed.write_text(json.dumps(data.words))
    run = Run(options.run, data, options.minutes)
    if options.start is not None and run.steps == 0:
        run.start_from(options.start)
    run.train()


if __name__ == "__main__":
    main()
