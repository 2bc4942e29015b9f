"""Studios over the tiny models, with room for as many of them as a test wants."""

import weakref
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs
import torch
from torch.overrides import TorchFunctionMode

from gaia_core import Capability
from gaia_flux import loading, sizes
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import Drawn, Job, Preview, StoppedError
from gaia_flux.memory import Need, need_of
from gaia_flux.residence import Resident
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio

SIDE = 64


def job(family: str, seed: int = 7, **changes: Any) -> Job:
    """Ask a tiny model for a small picture."""
    facts: dict[str, Any] = {
        "id": "task",
        "model": f"tiny-{family}",
        "capability": Capability.TEXT_TO_IMAGE,
        "prompt": "a red fox",
        "width": SIDE,
        "height": SIDE,
        "seeds": (seed,),
        "num_inference_steps": 2,
        "has_previews": False,
    }
    return Job(**facts | changes)


def need(setup: Setup, family: str, side: int = SIDE) -> Need:
    """Give what a job on a tiny model takes, by the studio's own arithmetic."""
    place = loading.place_of(setup.models[f"tiny-{family}"], None)
    return need_of(
        FAMILIES[family],
        dtype="float32",
        quantisation=None,
        width=side,
        height=side,
        parameters=sizes.parameters_of(place, FAMILIES[family]),
    )


def with_room(setup: Setup, size: int) -> Setup:
    """Limit the memory to some bytes."""
    return attrs.evolve(setup, vram_gb=size / 2**30)


def room_for_one(setup: Setup, families: Iterable[str], side: int = SIDE) -> Setup:
    """Limit the memory to the largest of some models, and a little more."""
    needs = [need(setup, family, side) for family in families]
    largest = max(each.weights + _beside(each) for each in needs)
    return with_room(setup, int(1.02 * largest))


def _beside(one: Need) -> int:
    return max(one.activations, one.decode)


def pixels(drawn: Sequence[Drawn]) -> list[bytes]:
    """Give the bytes of every picture."""
    return [picture.pixels for each in drawn for picture in each.pictures]


def ignore(_fraction: float, _preview: Preview | None) -> None:
    """Report to nobody."""


def stop(fraction: float, _preview: Preview | None) -> None:
    """Stop after the first step."""
    if fraction > 0:
        raise StoppedError


def _out_of_memory() -> RuntimeError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@attrs.define(eq=False)
class Allocator:
    """
    A device with a limit: a plan that takes more fails in the middle of drawing.

    It fails where a device does, in a kernel, with an error that torch raises there.
    """

    limit: int
    error: RuntimeError = attrs.field(factory=_out_of_memory)
    kernels: int = 200
    failures: int = 0

    def __call__(
        self, resident: Resident, _jobs: Sequence[Job]
    ) -> AbstractContextManager[object]:
        """Give the context that jobs are drawn in."""
        return _Kernels(self, is_short=resident.plan.needed > self.limit)


class _Kernels(TorchFunctionMode):
    def __init__(self, allocator: Allocator, *, is_short: bool) -> None:
        super().__init__()
        self.left = allocator.kernels
        self.allocator = allocator
        self.is_short = is_short

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.left -= 1
        if self.is_short and self.left <= 0:
            self.allocator.failures += 1
            self.is_short = False
            raise type(self.allocator.error)(*self.allocator.error.args)
        return function(*args, **(kwargs or {}))


def modules_of(studio: Studio) -> list[weakref.ref[Any]]:
    """Refer weakly to every module in memory."""
    return [
        weakref.ref(component)
        for resident in studio.residents
        for component in resident.components.values()
        if isinstance(component, torch.nn.Module)
    ]
