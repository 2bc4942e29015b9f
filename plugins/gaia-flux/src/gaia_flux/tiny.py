"""
Tiny models with random weights: real pipelines for tests and benchmarks, offline.

Each folder is what `save_pretrained` writes for the real model of its family, with the
same components under the same names and the same 8x VAE, a few hundred kilobytes large.
Equal seeds give equal bytes in every process: weights come from one generator seeded
per family, and vocabularies are written by hand (`tiny_words`).
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from gaia_flux.tiny_layouts import original_layout
from gaia_flux.tiny_words import (
    CLIP_LENGTH,
    clip_tokenizer,
    clip_vocabulary,
    mistral_tokenizer,
    qwen_tokenizer,
    t5_tokenizer,
    t5_vocabulary,
)

_WIDTH: Final = 32
_SECOND_WIDTH: Final = 16
_LATENT_CHANNELS: Final = 4
_FLUX_CHANNELS: Final = 4 * _LATENT_CHANNELS
_FLUX_MASK_CHANNELS: Final = 256
_SHIFTED: Final[Mapping[str, Any]] = {"shift": 3.0, "use_dynamic_shifting": True}
_BLOCKS: Final = 4
_LORA_RANK: Final = 2
_LORA_TARGETS: Final = ("attn.to_q", "attn1.to_q", "attn2.to_q")


def build(family: str, folder: Path, *, seed: int = 0) -> Path:
    """
    Write a tiny model of a family into a folder, and return the folder.

    Args:
        family: A name of `BUILDERS`.
        folder: Where it goes; made if it is not there.
        seed: Another seed gives other weights.

    Raises:
        KeyError: The family has no diffusers pipeline that could be built.

    """
    builder = BUILDERS[family]
    with _seeded(f"{family}-{seed}"):
        pipeline = builder()
    pipeline.save_pretrained(folder)
    return folder


def build_single_file(
    family: Literal["sdxl", "sd15"], path: Path, *, seed: int = 0
) -> tuple[Path, Path]:
    """
    Write a tiny checkpoint in the original layout, and the folder of its configuration.

    The folder is the whole model, so that both ways of loading can be compared.

    Returns:
        The file, and the folder, which lies beside it.

    """
    folder = build(family, path.with_suffix(""), seed=seed)
    whole = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    save_file(original_layout(whole), path)
    return path, folder


def build_lora(family: str, path: Path, *, seed: int = 0) -> Path:
    """
    Write a LoRA that changes every attention query of the family's tiny backbone.

    Raises:
        KeyError: The family has no diffusers pipeline that could be built.

    """
    with _seeded(f"{family}-0"):
        pipeline = BUILDERS[family]()
    prefix = "transformer" if hasattr(pipeline, "transformer") else "unet"
    with _seeded(f"lora-{family}-{seed}"):
        weights = dict(_lora_weights(prefix, getattr(pipeline, prefix)))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def _lora_weights(prefix: str, backbone: Any) -> Iterator[tuple[str, Any]]:
    for name, module in backbone.named_modules():
        if name.endswith(_LORA_TARGETS):
            rows, columns = module.weight.shape
            key = f"{prefix}.{name}"
            yield f"{key}.lora_A.weight", torch.randn(_LORA_RANK, columns)
            yield f"{key}.lora_B.weight", torch.randn(rows, _LORA_RANK)


@contextmanager
def _seeded(name: str) -> Iterator[None]:
    """Draw from a seed made of the name, not from the process's own generator."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(zlib.crc32(name.encode()))
        yield


def _flux1(*, in_channels: int = _FLUX_CHANNELS, is_guided: bool = True) -> Any:
    return diffusers.FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=_FLUX_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        axes_dims_rope=(4, 4, 8),
        joint_attention_dim=_WIDTH,
        pooled_projection_dim=_WIDTH,
        guidance_embeds=is_guided,
    )


def _flux1_parts(transformer: Any, **scheduler: Any) -> dict[str, Any]:
    return {
        "transformer": transformer,
        "vae": _vae(
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        ),
        "text_encoder": transformers.CLIPTextModel(_clip_config()).eval(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": _t5_encoder(),
        "tokenizer_2": t5_tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
    }


def _flux1_schnell() -> Any:
    return diffusers.FluxPipeline(**_flux1_parts(_flux1(is_guided=False)))


def _flux1_dev() -> Any:
    return diffusers.FluxPipeline(**_flux1_parts(_flux1(), **_SHIFTED))


def _flux1_fill() -> Any:
    channels = 2 * _FLUX_CHANNELS + _FLUX_MASK_CHANNELS
    parts = _flux1_parts(_flux1(in_channels=channels), **_SHIFTED)
    return diffusers.FluxFillPipeline(**parts)


def _flux1_kontext() -> Any:
    return diffusers.FluxKontextPipeline(**_flux1_parts(_flux1(), **_SHIFTED))


def _flux2_klein() -> Any:
    config = transformers.Qwen3Config(**_decoder_sizes(num_hidden_layers=28))
    return diffusers.Flux2KleinPipeline(
        transformer=_flux2(is_guided=False),
        vae=_flux2_vae(),
        text_encoder=transformers.Qwen3ForCausalLM(config).eval(),
        tokenizer=qwen_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        is_distilled=True,
    )


def _flux2_dev() -> Any:
    config = transformers.Mistral3Config(
        text_config=transformers.MistralConfig(**_decoder_sizes(num_hidden_layers=31)),
        vision_config=transformers.PixtralVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            head_dim=8,
            image_size=32,
            patch_size=16,
        ),
        spatial_merge_size=1,
        image_token_index=3,
    )
    return diffusers.Flux2Pipeline(
        transformer=_flux2(is_guided=True),
        vae=_flux2_vae(),
        text_encoder=transformers.Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=mistral_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def _flux2(*, is_guided: bool) -> Any:
    return diffusers.Flux2Transformer2DModel(
        in_channels=_FLUX_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=_WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=is_guided,
    )


def _flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
    ).eval()


def _decoder_sizes(*, num_hidden_layers: int) -> dict[str, Any]:
    return {
        "vocab_size": 320,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def _sd15() -> Any:
    return diffusers.StableDiffusionPipeline(
        unet=_unet(attention_head_dim=2, **_SD15_BLOCKS),
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        scheduler=_latent_diffusion_scheduler(
            diffusers.PNDMScheduler, skip_prk_steps=True, set_alpha_to_one=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    text_encoder_2 = transformers.CLIPTextModelWithProjection(
        _clip_config(
            hidden_size=_SECOND_WIDTH, projection_dim=_SECOND_WIDTH, hidden_act="gelu"
        )
    )
    return diffusers.StableDiffusionXLPipeline(
        unet=_unet(
            attention_head_dim=(1, 2),
            cross_attention_dim=_WIDTH + _SECOND_WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + _SECOND_WIDTH,
            **_SDXL_BLOCKS,
        ),
        vae=_vae(scaling_factor=0.13025),
        text_encoder=transformers.CLIPTextModel(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=text_encoder_2.eval(),
        tokenizer_2=clip_tokenizer(pads_with="!"),
        scheduler=_latent_diffusion_scheduler(diffusers.EulerDiscreteScheduler),
    )


def _latent_diffusion_scheduler(scheduler: Any, **options: Any) -> Any:
    return scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        **options,
    )


_SD15_BLOCKS: Final[Mapping[str, Any]] = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": _WIDTH,
}
_SDXL_BLOCKS: Final[Mapping[str, Any]] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
}


def _unet(**options: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        **options,
    )


def _latent_upscaler() -> Any:
    unet = diffusers.UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=(32, 32, 64, 64),
        time_cond_proj_dim=2 * 64 + _WIDTH,  # the level of the noise, and the words
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=_WIDTH,
        down_block_types=("KDownBlock2D", *(3 * ("KCrossAttnDownBlock2D",))),
        up_block_types=(*(3 * ("KCrossAttnUpBlock2D",)), "KUpBlock2D"),
        layers_per_block=1,
        in_channels=2 * _LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS + 1,
        mid_block_type=None,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
    )
    return diffusers.StableDiffusionLatentUpscalePipeline(
        unet=unet,
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(prediction_type="sample"),
    )


def _vae(**options: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=_BLOCKS * ("DownEncoderBlock2D",),
        up_block_types=_BLOCKS * ("UpDecoderBlock2D",),
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=64,
        **options,
    ).eval()


def _clip_config(**options: Any) -> Any:
    sizes = {
        "vocab_size": len(clip_vocabulary()),
        "hidden_size": _WIDTH,
        "intermediate_size": _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CLIP_LENGTH,
        "projection_dim": _WIDTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return transformers.CLIPTextConfig(**sizes | options)


def _t5_encoder() -> Any:
    config = transformers.T5Config(
        vocab_size=len(t5_vocabulary()),
        d_model=_WIDTH,
        d_ff=_WIDTH,
        d_kv=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return transformers.T5EncoderModel(config).eval()


BUILDERS: Final[Mapping[str, Callable[[], Any]]] = {
    "flux1-schnell": _flux1_schnell,
    "flux1-dev": _flux1_dev,
    "flux1-fill": _flux1_fill,
    "flux1-kontext": _flux1_kontext,
    "flux2-klein": _flux2_klein,
    "flux2-dev": _flux2_dev,
    "sdxl": _sdxl,
    "sdxl-lightning": _sdxl,
    "sd15": _sd15,
    "latent-upscaler": _latent_upscaler,
}
