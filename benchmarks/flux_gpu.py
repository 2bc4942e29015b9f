"""
Measure FLUX.1 at full size on a graphics card, beside what the card could do at best.

The weights are random and built on the card, so nothing is downloaded; they take 60 GB
under ``--folder``. Without a card, or with ``--tiny``, everything runs on the processor
with tiny models, which shows that it works and says nothing about speed::

    python benchmarks/flux_gpu.py [--tiny] [--folder /dev/shm/flux] [--rounds 3]

The floor is the arithmetic alone: floating-point operations, counted on a model without
weights, over the rate at which this device multiplies large matrices.
"""

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import attrs

if find_spec("torch") is None or find_spec("diffusers") is None:
    sys.exit("Not measured: torch and diffusers are not installed.")

import diffusers
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from gaia_core import Capability
from gaia_flux import tiny
from gaia_flux.jobs import Job, Preview
from gaia_flux.models import ModelSpec, Source
from gaia_flux.setups import Setup
from gaia_flux.studio import Studio
from gaia_flux.tiny_words import clip_tokenizer, t5_tokenizer

PROMPT = "a red dragon over a ruined keep, storm light, oil on canvas"
SHIFTED: Final = {"shift": 3.0, "use_dynamic_shifting": True}
BATCH = 4
SWITCHES = 20


@attrs.frozen(kw_only=True)
class Scale:
    """What is drawn, and how large."""

    device: str
    dtype: str
    side: int
    small_side: int
    rounds: int

    @property
    def is_tiny(self) -> bool:
        """Whether this is the processor's size."""
        return self.device == "cpu"


@attrs.frozen(kw_only=True)
class Model:
    """One of the two models, and how it is asked."""

    id: str
    folder: Path
    steps: int
    words: int
    guidance: float | None

    @property
    def spec(self) -> ModelSpec:
        """What the room knows of it."""
        source = Source(path=self.folder)
        return ModelSpec(id=self.id, name=self.id, family=self.id, source=source)


@attrs.frozen(kw_only=True)
class Variant:
    """One way to draw through the room."""

    setup: Mapping[str, Any] = attrs.field(factory=dict)
    job: Mapping[str, Any] = attrs.field(factory=dict)


VARIANTS: Final[Mapping[str, Variant]] = {
    "gaia": Variant(),
    "gaia, compiled (exact)": Variant(setup={"is_compiled": True}),
    "gaia, first-block cache": Variant(job={"step_cache": "first-block"}),
    "gaia, TaylorSeer": Variant(job={"step_cache": "taylorseer"}),
    "gaia, int8 weights": Variant(setup={"quantisation": "int8"}),
    "gaia, fp8 weights": Variant(setup={"quantisation": "fp8"}),
}


def main() -> None:
    """Build the models, and print the tables."""
    options = _options()
    torch.set_num_threads(1 if options.tiny else torch.get_num_threads())
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    scale = _scale(options)
    with _folder(options.folder) as folder:
        _say_what(scale)
        models = _models(scale, folder)
        rate = _rate(scale)
        for model in models:
            _speed(scale, model, rate)
        _batches(scale, models[0])
        _switches(scale, models)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--tiny", action="store_true", help="on the processor, tiny")
    parser.add_argument("--folder", type=Path, help="where the weights go")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.tiny = options.tiny or not torch.cuda.is_available()
    return options


def _scale(options: argparse.Namespace) -> Scale:
    if options.tiny:
        return Scale(
            device="cpu",
            dtype="float32",
            side=256,
            small_side=128,
            rounds=options.rounds,
        )
    return Scale(
        device="cuda",
        dtype="bfloat16",
        side=1024,
        small_side=512,
        rounds=options.rounds,
    )


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _say_what(scale: Scale) -> None:
    name = "the processor" if scale.is_tiny else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, on {name}")
    if scale.is_tiny:
        print("TINY MODELS: this shows that everything runs, and nothing about speed.")


# -- the models -------------------------------------------------------------------


def _models(scale: Scale, folder: Path) -> tuple[Model, Model]:
    schnell = Model(
        id="flux1-schnell",
        folder=folder / "schnell",
        steps=4,
        words=256,
        guidance=None,
    )
    dev = Model(
        id="flux1-dev", folder=folder / "dev", steps=28, words=512, guidance=3.5
    )
    for model in (schnell, dev):
        if (model.folder / "model_index.json").exists():
            continue
        if scale.is_tiny:
            tiny.build(model.id, model.folder)
        else:
            _build(model, shared=dev.folder if model is schnell else schnell.folder)
    return schnell, dev


def _build(model: Model, *, shared: Path) -> None:
    """Write a model of full size; what another has already is linked."""
    is_guided = model.guidance is not None
    scheduler = SHIFTED if is_guided else {}
    with _on_the_card():
        transformer = diffusers.FluxTransformer2DModel(guidance_embeds=is_guided)
    parts = dict.fromkeys(("vae", "text_encoder", "text_encoder_2"))
    if not shared.exists():
        with _on_the_card():
            parts = {"vae": _vae(), "text_encoder": _clip(), "text_encoder_2": _t5()}
    pipeline = diffusers.FluxPipeline(
        transformer=transformer,
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
        **parts,
    )
    pipeline.save_pretrained(model.folder)
    if shared.exists():
        _link(shared, model.folder, tuple(parts))
    del pipeline, transformer, parts
    _emptied()


def _link(there: Path, here: Path, names: tuple[str, ...]) -> None:
    """Take components of another model by hard links, and its index with them."""
    for name in names:
        shutil.copytree(there / name, here / name, copy_function=os.link)
    shutil.copy(there / "model_index.json", here)


@contextmanager
def _on_the_card() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"), torch.no_grad():
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(before)


def _vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _clip() -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return transformers.CLIPTextModel(config)


def _t5() -> Any:
    config = transformers.T5Config(
        d_model=4096,
        d_ff=10240,
        d_kv=64,
        num_layers=24,
        num_heads=64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return transformers.T5EncoderModel(config)


# -- the floor --------------------------------------------------------------------


def _flops(model: Model, side: int) -> int:
    """Count what the transformer computes for one picture."""
    config = diffusers.FluxTransformer2DModel.load_config(model.folder / "transformer")
    tokens = (side // 16) ** 2
    with torch.device("meta"), torch.no_grad():
        transformer = diffusers.FluxTransformer2DModel.from_config(config)
        channels = transformer.config.in_channels
        with FlopCounterMode(display=False) as counter:
            transformer(
                hidden_states=torch.empty(1, tokens, channels),
                encoder_hidden_states=torch.empty(
                    1, model.words, transformer.config.joint_attention_dim
                ),
                pooled_projections=torch.empty(
                    1, transformer.config.pooled_projection_dim
                ),
                timestep=torch.empty(1),
                img_ids=torch.empty(tokens, 3),
                txt_ids=torch.empty(model.words, 3),
                guidance=torch.empty(1) if model.guidance is not None else None,
            )
    return int(counter.get_total_flops()) * model.steps


def _rate(scale: Scale) -> float:
    """Measure how many operations a second the device does in large products."""
    size = 512 if scale.is_tiny else 8192
    dtype = getattr(torch, scale.dtype)
    left = torch.randn(size, size, device=scale.device, dtype=dtype)
    right = torch.randn(size, size, device=scale.device, dtype=dtype)
    times = [_timed(scale, lambda: left @ right) for _ in range(30)]
    rate = 2 * size**3 / statistics.median(times[10:])
    print(f"products of {size}x{size} in {scale.dtype}: {rate / 1e12:.3g} TFLOP/s\n")
    return rate


# -- seconds per picture ----------------------------------------------------------


def _speed(scale: Scale, model: Model, rate: float) -> None:
    """Print seconds per picture, each way side by side with the bare pipeline."""
    print(f"{model.id}, {scale.side}x{scale.side}, {model.steps} steps")
    print(f"  {'':32} {'seconds':>9} {'of bare':>8} {'of floor':>9}")
    operations = _flops(model, scale.side)
    floor = operations / rate
    bare = _bare(scale, model)
    _emptied()
    title = f"floor ({operations / 1e12:.4g} TFLOP)"
    _row(title, floor, bare, floor)
    _row("bare diffusers pipeline", bare, bare, floor)
    for name, variant in VARIANTS.items():
        seconds = _through_gaia(scale, model, variant)
        if isinstance(seconds, str):
            print(f"  {name:32} not measured: {seconds}")
        else:
            _row(name, seconds, bare, floor)
    print()


def _row(name: str, seconds: float, bare: float, floor: float) -> None:
    of_bare, of_floor = f"{seconds / bare:.2f}x", f"{seconds / floor:.2f}x"
    print(f"  {name:32} {seconds:>9.4f} {of_bare:>8} {of_floor:>9}", flush=True)


def _bare(scale: Scale, model: Model) -> float:
    """Time the pipeline as its documentation calls it."""
    pipeline = diffusers.FluxPipeline.from_pretrained(
        model.folder, local_files_only=True, dtype=getattr(torch, scale.dtype)
    ).to(scale.device)
    pipeline.set_progress_bar_config(disable=True)
    guidance = {} if model.guidance is None else {"guidance_scale": model.guidance}

    def draw() -> None:
        pipeline(
            prompt=PROMPT,
            width=scale.side,
            height=scale.side,
            num_inference_steps=model.steps,
            max_sequence_length=model.words,
            generator=[torch.Generator("cpu").manual_seed(1)],
            **guidance,
        )

    return _median(scale, draw)


def _through_gaia(scale: Scale, model: Model, variant: Variant) -> float | str:
    """Time one way through the room; a way that is not to be had says why."""
    job = _job(scale, model, side=scale.side, **variant.job)
    try:
        with _studio(scale, model, **variant.setup) as studio:
            return _median(scale, lambda: studio.draw((job,), _no_report))
    except Exception as error:  # noqa: BLE001  the other rows are wanted all the same
        return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _studio(scale: Scale, *models: Model, **changes: Any) -> Iterator[Studio]:
    setup = Setup(
        device=scale.device,
        dtype=scale.dtype,
        models={model.id: model.spec for model in models},
        **changes,
    )
    studio = Studio(setup)
    try:
        yield studio
    finally:
        studio.close()
        del studio
        _emptied()


def _job(
    scale: Scale, model: Model, *, side: int, seed: int = 1, **changes: Any
) -> Job:
    return Job(
        id=f"{model.id}-{side}-{scale.device}-{seed}",
        model=model.id,
        capability=Capability.TEXT_TO_IMAGE,
        prompt=PROMPT,
        width=side,
        height=side,
        seeds=(seed,),
        num_inference_steps=model.steps,
        guidance_scale=model.guidance,
        max_sequence_length=model.words,
        has_previews=False,
        **changes,
    )


def _no_report(fraction: float, preview: Preview | None) -> None:
    """Take a step's progress, and do nothing with it."""


# -- batches and switches ---------------------------------------------------------


def _batches(scale: Scale, model: Model) -> None:
    """Print what a batch gains for small pictures."""
    side = scale.small_side
    jobs = tuple(_job(scale, model, side=side, seed=seed) for seed in range(BATCH))
    with _studio(scale, model) as studio:
        singles = _median(
            scale, lambda: [studio.draw((job,), _no_report) for job in jobs]
        )
        batch = _median(scale, lambda: studio.draw(jobs, _no_report))
    print(f"{model.id}, {side}x{side}, {model.steps} steps, {BATCH} pictures")
    print(f"  one at a time {BATCH / singles:8.2f} pictures a second")
    print(f"  one batch     {BATCH / batch:8.2f} pictures a second", end="")
    print(f" ({singles / batch:.2f}x)\n")


def _switches(scale: Scale, models: tuple[Model, Model]) -> None:
    """Print how memory changes while two models take turns in room for one."""
    weights = max(_size(model.folder / "transformer") for model in models)
    others = _size(models[0].folder) - _size(models[0].folder / "transformer")
    room = (1.2 * weights + others) / 2**30
    jobs = [_job(scale, model, side=scale.small_side) for model in models]
    times, held = [], []
    with _studio(scale, *models, vram_gb=room) as studio:
        for number in range(SWITCHES + len(jobs)):
            job = jobs[number % len(jobs)]
            times.append(_timed(scale, partial(studio.draw, (job,), _no_report)))
            held.append(_held(scale))
    after_first, last = held[len(jobs) - 1], held[-1]
    print(f"{SWITCHES} switches between schnell and dev, room for one of them")
    print(f"  seconds a switch and a picture: {statistics.median(times[2:]):.2f}")
    print(f"  memory after the first two {after_first:.1f} MiB, at the end {last:.1f}")


def _size(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def _held(scale: Scale) -> float:
    """Tell what the device, or without one the process, holds, in MiB."""
    if not scale.is_tiny:
        return float(torch.cuda.memory_reserved()) / 2**20
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# -- the clock --------------------------------------------------------------------


def _median(scale: Scale, draw: Callable[[], object]) -> float:
    """Draw once unmeasured, then give the median of the rounds."""
    draw()
    return statistics.median(_timed(scale, draw) for _ in range(scale.rounds))


def _timed(scale: Scale, draw: Callable[[], object]) -> float:
    _finished(scale)
    start = time.perf_counter()
    draw()
    _finished(scale)
    return time.perf_counter() - start


def _finished(scale: Scale) -> None:
    if not scale.is_tiny:
        torch.cuda.synchronize()


def _emptied() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
