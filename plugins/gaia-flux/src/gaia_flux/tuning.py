"""
What makes drawing faster: what leaves pictures alone, and what does not.

Exact options are applied when a model becomes resident. Everything else is a named
opt-in, whose sentence goes into the warnings of the answer and whose name is part of
the cache key.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import attrs
import torch
from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    QuantoConfig,
    TaylorSeerCacheConfig,
    TorchAoConfig,
)
from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS

EXACT: Final[Mapping[str, str]] = {
    "vae-slicing": "the pictures of a batch are decoded one after the other",
    "fused-qkv": "one matrix product instead of three in every attention",
    "attention": "the fastest exact attention kernel that is installed",
    "compile": "repeated blocks are compiled (when asked for; the first call waits)",
    "prompt-cache": "a prompt is encoded once",
}
"""Options that leave a picture as it is, to the rounding of its kernels."""

ATTENTIONS: Final[tuple[str, ...]] = (
    "auto",
    "native",
    "_native_cudnn",
    "_native_efficient",
    "_native_flash",
    "_native_math",
    "flash",
    "_flash_3",
    "xformers",
    "sage",
)
"""Names of attention kernels; those that download code are left out on purpose."""

INEXACT_ATTENTIONS: Final[Mapping[str, str]] = {
    "sage": "attention sage computes in 8 bits: pictures differ slightly",
}

QUANTISATIONS: Final[Mapping[str, str]] = {
    "int8": "weights in 8-bit integers: pictures differ slightly from exact ones",
    "fp8": "weights in 8-bit floats: pictures differ slightly from exact ones",
}

FUSED_SHARE: Final = 0.2
"""How much larger a FLUX.1 backbone is with its fused projections beside the others."""

_FUSIBLE: Final = frozenset({"FluxTransformer2DModel"})
_NO_STEP_CACHE: Final = "this model has no step cache"
_attention_of_process: str | None = None


class TuningError(ValueError):
    """An option that this machine or this model cannot have."""


@attrs.frozen(kw_only=True)
class StepCache:
    """A way to leave out work between steps that look alike."""

    config: Callable[[int], Any] = attrs.field(repr=False)
    sentence: str
    families: tuple[str, ...] | None = None
    """The families it was calibrated for; None: all whose backbone can cache."""


def _first_block(_steps: int) -> Any:
    return FirstBlockCacheConfig(threshold=0.08)


def _taylorseer(_steps: int) -> Any:
    # The factors in single precision: in half they drift, and they are small.
    return TaylorSeerCacheConfig(
        cache_interval=4,
        disable_cache_before_step=3,
        max_order=1,
        taylor_factors_dtype=torch.float32,
    )


def _magcache(steps: int) -> Any:
    return MagCacheConfig(mag_ratios=FLUX_MAG_RATIOS, num_inference_steps=steps)


STEP_CACHES: Final[Mapping[str, StepCache]] = {
    "first-block": StepCache(
        config=_first_block,
        sentence="step cache first-block: pictures differ slightly from exact ones",
    ),
    "taylorseer": StepCache(
        config=_taylorseer,
        sentence="step cache taylorseer: pictures differ from exact ones",
    ),
    "magcache": StepCache(
        config=_magcache,
        sentence="step cache magcache: pictures differ slightly from exact ones",
        # Its ratios were measured on FLUX.1-dev; for other weights they are wrong.
        families=("flux1-dev",),
    ),
}
"""Step caches by name; a distilled model of four steps gains nothing from any."""


def apply_exact(
    resident: Any, *, attention: str = "auto", is_compiled: bool = False
) -> tuple[str, ...]:
    """
    Give a model that has just become resident every exact option it can have.

    Returns:
        Sentences for the warnings: what was asked for and could not be had, and an
        attention kernel that is not exact.

    Raises:
        TuningError: The attention kernel is unknown or cannot be used here.

    """
    backbone = backbone_of(resident)
    _slice_vae(resident.components.get("vae"))
    notes = choose_attention(backbone, attention, device=str(resident.device))
    if _is_whole_on_device(resident):
        if _has_room_for_fused(resident):
            fuse(backbone)
        if is_compiled:
            notes += _compile(backbone, str(resident.device))
    elif is_compiled:
        notes += ("not compiled: parts of the model are offloaded between steps",)
    return notes


def backbone_of(resident: Any) -> Any:
    """Give the module that takes the steps."""
    return resident.components[resident.family.backbone]


def _slice_vae(vae: Any) -> None:
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()


def _is_whole_on_device(resident: Any) -> bool:
    plan = resident.plan
    mode = getattr(plan.mode, "name", str(plan.mode))
    return str(mode).upper() == "FULL" and plan.quantisation is None


def fuse(backbone: Any) -> bool:
    """
    Fuse the projections of a FLUX.1 transformer's attention, and say whether it was.

    Fused projections stand beside the single ones, which LoRAs need: see `FUSED_SHARE`.
    """
    if type(backbone).__name__ not in _FUSIBLE:
        return False
    with torch.no_grad():
        backbone.fuse_qkv_projections()
    return True


def unfuse(backbone: Any) -> bool:
    """Undo `fuse`, and say whether there was anything to undo."""
    if not any(getattr(m, "fused_projections", False) for m in backbone.modules()):
        return False
    backbone.unfuse_qkv_projections()
    return True


def _has_room_for_fused(resident: Any) -> bool:
    """Only what the plan leaves over: a picture must not fail for a few per cent."""
    backbone = backbone_of(resident)
    size = sum(parameter.nbytes for parameter in backbone.parameters())
    left = int(resident.plan.budget) - int(resident.plan.needed)
    return left >= float(size) * FUSED_SHARE


def choose_attention(
    backbone: Any, name: str = "auto", *, device: str = "cpu"
) -> tuple[str, ...]:
    """
    Have a backbone use an attention kernel, the same one in the whole process.

    `set_attention_backend` changes every other model too, so the first choice holds
    until the process ends: a second one would silently change resident models.

    Raises:
        TuningError: The kernel is unknown, not installed, or not the process's own.

    """
    chosen = _attention(name, device)
    _claim(chosen)
    if chosen != "native" and hasattr(backbone, "set_attention_backend"):
        _set_attention(backbone, chosen)
    sentence = INEXACT_ATTENTIONS.get(chosen)
    return () if sentence is None else (sentence,)


def _attention(name: str, device: str) -> str:
    if name not in ATTENTIONS:
        message = f"unknown attention {name!r}; one of: {', '.join(ATTENTIONS)}"
        raise TuningError(message)
    if name != "auto":
        return name
    # diffusers' own variable has been heeded by the time anything is loaded.
    is_settled = "DIFFUSERS_ATTN_BACKEND" in os.environ or not _is_cuda(device)
    return "native" if is_settled else _best_installed()


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def _best_installed() -> str:
    """Give FlashAttention 3 on the cards it is for, and torch's own elsewhere."""
    is_hopper = torch.cuda.get_device_capability() == (9, 0)
    has_flash_3 = importlib.util.find_spec("flash_attn_interface") is not None
    return "_flash_3" if is_hopper and has_flash_3 else "native"


def _claim(chosen: str) -> None:
    global _attention_of_process  # noqa: PLW0603 - diffusers keeps one per process
    if _attention_of_process not in {None, chosen}:
        message = (
            f"attention {chosen!r} cannot be used: this process already draws with "
            f"{_attention_of_process!r}, and there is one for all models; restart it"
        )
        raise TuningError(message)
    _attention_of_process = chosen


def _set_attention(backbone: Any, name: str) -> None:
    global _attention_of_process  # noqa: PLW0603 - a choice that failed binds nobody
    try:
        backbone.set_attention_backend(name)
    except (RuntimeError, ValueError, ImportError) as error:
        _attention_of_process = None
        message = f"attention {name!r} cannot be used here: {error}"
        raise TuningError(message) from error


def _compile(backbone: Any, device: str) -> tuple[str, ...]:
    problem = _why_not_compiled(backbone, device)
    if problem is not None:
        return (f"not compiled: {problem}",)
    backbone.compile_repeated_blocks(fullgraph=True)
    return ()


def _why_not_compiled(backbone: Any, device: str) -> str | None:
    if not getattr(backbone, "_repeated_blocks", None):
        return "the model has no repeated blocks"
    if _is_cuda(device):
        has_triton = importlib.util.find_spec("triton") is not None
        return None if has_triton else "triton is not installed"
    names = filter(None, (os.environ.get("CXX"), "g++", "clang++", "cl"))
    has_compiler = any(map(shutil.which, names))
    return None if has_compiler else "no C++ compiler was found"


def is_compiled(backbone: Any) -> bool:
    """Say whether blocks of a backbone were compiled."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None
        for module in backbone.modules()
    )


def why_not_cached(name: str, resident: Any) -> str | None:
    """
    Say why a model cannot have a step cache; None when it can.

    Raises:
        TuningError: There is no step cache of that name.

    """
    cache = _step_cache(name)
    if not hasattr(backbone_of(resident), "enable_cache"):
        return _NO_STEP_CACHE
    if cache.families is not None and resident.family.name not in cache.families:
        return f"it was calibrated for {', '.join(cache.families)} only"
    if is_compiled(backbone_of(resident)):
        return "the model is compiled as whole blocks"
    return None


def _step_cache(name: str) -> StepCache:
    if name not in STEP_CACHES:
        message = f"unknown step cache {name!r}; one of: {', '.join(STEP_CACHES)}"
        raise TuningError(message)
    return STEP_CACHES[name]


@contextmanager
def cached_steps(
    pipeline: Any, name: str | None, num_inference_steps: int
) -> Iterator[None]:
    """
    Draw with a step cache inside the context, and exactly again after it.

    The cache is enabled for the call alone: pipelines share their transformer, and
    one that does not name its call (`cache_context`) fails where another one has
    enabled a cache. A call left in the middle must not leave its state behind either.

    Raises:
        TuningError: There is no step cache of that name.

    """
    if name is None:
        yield
        return
    config = _step_cache(name).config(num_inference_steps)
    transformer = pipeline.transformer
    transformer.enable_cache(config)
    try:
        with ExitStack() as stack:
            if not names_its_calls(pipeline):
                stack.enter_context(transformer.cache_context("cond"))
            yield
    finally:
        transformer._reset_stateful_cache()  # noqa: SLF001 - there is no public name
        transformer.disable_cache()


_NAMING_PIPELINES: Final = frozenset(
    {"FluxPipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline"}
)


def names_its_calls(pipeline: Any) -> bool:
    """Say whether a pipeline tells a step cache which pass of a step it makes."""
    return type(pipeline).__name__ in _NAMING_PIPELINES


def quantisation_config(name: str | None, family: Any) -> Any:
    """
    Give what `from_pretrained(quantization_config=…)` of a backbone takes.

    None where nothing is needed while loading: without quantisation, and for fp8,
    which `store_as_fp8` makes of weights that are loaded.

    Raises:
        TuningError: The name is unknown, or what it needs is not installed.

    """
    if name in {None, "fp8"}:
        return None
    if name not in QUANTISATIONS:
        message = f"unknown quantisation {name!r}; one of: {', '.join(QUANTISATIONS)}"
        raise TuningError(message)
    return _int8(family)


def _int8(family: Any) -> Any:
    if importlib.util.find_spec("torchao") is not None:
        # Late: torchao is optional, and slow to import.
        from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415

        return TorchAoConfig(Int8WeightOnlyConfig())
    if importlib.util.find_spec("optimum") is not None:
        return QuantoConfig(weights_dtype="int8")
    message = (
        f"int8 for {family.name} needs torchao: `pip install torchao`, "
        'or use quantisation = "fp8", which needs nothing more'
    )
    raise TuningError(message)


def store_as_fp8(backbone: Any, compute_dtype: Any) -> None:
    """Keep a loaded backbone's weights in 8 bits; each layer computes in its dtype."""
    backbone.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype
    )


def sentences(
    *, quantisation: str | None = None, step_cache: str | None = None
) -> tuple[str, ...]:
    """Say in the words of the warnings what named opt-ins do to a picture."""
    found = []
    if quantisation is not None:
        found.append(QUANTISATIONS.get(quantisation, f"weights are {quantisation}"))
    if step_cache is not None:
        found.append(_step_cache(step_cache).sentence)
    return tuple(found)
