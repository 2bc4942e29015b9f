"""LoRAs for one call: loaded, weighed, and taken off again whatever happens."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from safetensors import SafetensorError

from gaia_flux import tuning
from gaia_flux.jobs import LoraFile

_UNFIT: Final = (SafetensorError, ValueError, RuntimeError, KeyError, OSError)


class LoraError(ValueError):
    """A LoRA that cannot be used, and what to do about it."""


@contextmanager
def wearing(pipeline: Any, backbone: Any, loras: Sequence[LoraFile]) -> Iterator[None]:
    """
    Draw with LoRAs inside the context; the model is untouched after it.

    A fused attention does not look at the single projections that LoRAs change, so it
    is taken apart for the call.

    Raises:
        LoraError: A file is no safetensors, does not fit, or peft is not installed.

    """
    if not loras:
        yield
        return
    _check(loras)
    was_fused = tuning.unfuse(backbone)
    try:
        _load(pipeline, loras)
        yield
    finally:
        pipeline.unload_lora_weights()
        if was_fused:
            tuning.fuse(backbone)


def _check(loras: Sequence[LoraFile]) -> None:
    if importlib.util.find_spec("peft") is None:
        message = "LoRAs need peft, which is not installed: run `pip install peft`"
        raise LoraError(message)
    for lora in loras:
        if lora.path.suffix != ".safetensors":
            message = f"{lora.path.name} is not a .safetensors file; convert it first"
            raise LoraError(message)
        if not lora.path.is_file():
            message = f"{lora.path} is not there; check the path of the LoRA"
            raise LoraError(message)


def _load(pipeline: Any, loras: Sequence[LoraFile]) -> None:
    names = [f"lora-{index}" for index, _ in enumerate(loras)]
    for name, lora in zip(names, loras, strict=True):
        try:
            pipeline.load_lora_weights(
                str(lora.path.parent),
                weight_name=lora.path.name,
                adapter_name=name,
                use_safetensors=True,
                local_files_only=True,
            )
        except _UNFIT as error:
            message = f"{lora.path.name} does not fit this model: {error}"
            raise LoraError(message) from error
    pipeline.set_adapters(names, [lora.weight for lora in loras])
