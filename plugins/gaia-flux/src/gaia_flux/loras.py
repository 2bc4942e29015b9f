"""LoRAs for one call: loaded, weighed, and taken off again whatever happens."""

import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from safetensors import SafetensorError

from gaia_flux import tuning
from gaia_flux.jobs import LoraFile

_UNFIT: Final = (SafetensorError, ValueError, KeyError, AttributeError, OSError)
_RESET: Final = "reset_to_overwritten_params"
_WIDENED: Final = "_overwritten_params"
"""Where diffusers keeps a model's own weights, while a LoRA has wider ones there."""
_MEANT: Final = ("Already found a `peft_config`", "Adapter lora-")
"""How warnings of peft begin that several LoRAs at once bring about."""


class LoraError(ValueError):
    """A LoRA that cannot be used, and what to do about it."""


@contextmanager
def wearing(pipeline: Any, resident: Any, loras: Sequence[LoraFile]) -> Iterator[None]:
    """
    Draw with LoRAs inside the context; the model is untouched after it.

    A fused attention does not look at the single projections that LoRAs change, so it
    is taken apart for the call. The pipeline is hooked afterwards, if at all: diffusers
    would put the hooks back on the wrong device.

    Raises:
        LoraError: A file is no safetensors, does not fit, or peft is not installed.

    """
    if not loras:
        yield
        return
    _check(resident, loras)
    pipeline.remove_all_hooks()
    backbone = tuning.backbone_of(resident)
    was_fused = tuning.unfuse(backbone)
    try:
        _load(pipeline, backbone, loras)
        yield
    finally:
        _take_off(pipeline, backbone)
        tuning.unfuse(backbone)  # a LoKr fuses it, too
        if was_fused:
            tuning.fuse(backbone)


def _check(resident: Any, loras: Sequence[LoraFile]) -> None:
    if importlib.util.find_spec("peft") is None:
        message = "LoRAs need peft, which is not installed: run `pip install peft`"
        raise LoraError(message)
    if resident.plan.quantisation == "fp8":
        # peft gives its layers the weights' own type, in which small numbers are 0.
        message = (
            "LoRAs cannot be worn over weights in fp8: "
            'set quantisation = "int8" instead, or none'
        )
        raise LoraError(message)
    for lora in loras:
        if lora.path.suffix != ".safetensors":
            message = f"{lora.path.name} is not a .safetensors file; convert it first"
            raise LoraError(message)
        if not lora.path.is_file():
            message = f"{lora.path} is not there; check the path of the LoRA"
            raise LoraError(message)


def _load(pipeline: Any, backbone: Any, loras: Sequence[LoraFile]) -> None:
    for words in _MEANT:
        warnings.filterwarnings("ignore", words, UserWarning, module="peft")
    names = [f"lora-{index}" for index, _ in enumerate(loras)]
    for name, lora in zip(names, loras, strict=True):
        with _explained(lora):
            pipeline.load_lora_weights(
                str(lora.path.parent),
                weight_name=lora.path.name,
                adapter_name=name,
                use_safetensors=True,
                local_files_only=True,
            )
        if not any(name in worn for worn in pipeline.get_list_adapters().values()):
            message = f"{lora.path.name} changes nothing here: it is for another model"
            raise LoraError(message)
        if getattr(backbone, _WIDENED, None):
            message = f"{lora.path.name} wants a picture to control it: take another"
            raise LoraError(message)
    pipeline.set_adapters(names, [lora.weight for lora in loras])


@contextmanager
def _explained(lora: LoraFile) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        # What torch says of shapes that do not fit; all else is the device's.
        if "size" not in str(error) and "shape" not in str(error):
            raise
        raise LoraError(_explanation(lora, error)) from error
    except _UNFIT as error:
        raise LoraError(_explanation(lora, error)) from error


def _explanation(lora: LoraFile, error: Exception) -> str:
    # When diffusers cannot clean up after a failure, a KeyError hides the failure.
    first = error.__context__ if isinstance(error, KeyError) else None
    words = (str(first or error).strip() or type(error).__name__).splitlines()[0]
    return f"{lora.path.name} does not fit this model: {words[:200].rstrip('.')}"


def _take_off(pipeline: Any, backbone: Any) -> None:
    """Unload; what a LoRA has made wider gets its own weights back, too."""
    accepted = inspect.signature(pipeline.unload_lora_weights).parameters
    pipeline.unload_lora_weights(**({_RESET: True} if _RESET in accepted else {}))
    if hasattr(backbone, _WIDENED):
        setattr(backbone, _WIDENED, None)
