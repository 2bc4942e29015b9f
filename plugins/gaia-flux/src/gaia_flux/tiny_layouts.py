"""
The layout of the original Stable Diffusion checkpoints, from a diffusers pipeline.

What people keep as one `.safetensors` file is named and nested as its authors had it.
This is the way back from diffusers' names for the tiny models, which have two levels
of one layer each; diffusers itself reads the result with `from_single_file`.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch

_Names = Iterable[tuple[str, str]]
_Weights = Iterator[tuple[str, Any]]

_UNET: Final[_Names] = (
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
    (r"^down_blocks\.0\.attentions\.0", "input_blocks.1.1"),
    (r"^down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (r"^down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
    (r"^down_blocks\.1\.attentions\.0", "input_blocks.3.1"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
    (r"^up_blocks\.0\.resnets\.(\d)", r"output_blocks.\1.0"),
    (r"^up_blocks\.0\.attentions\.(\d)", r"output_blocks.\1.1"),
    (r"^up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
    (r"^up_blocks\.1\.attentions\.0", "output_blocks.2.1"),
    (r"^up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
    (r"^up_blocks\.1\.attentions\.1", "output_blocks.3.1"),
    (r"\bconv1\b", "in_layers.2"),
    (r"\btime_emb_proj\b", "emb_layers.1"),
    (r"\bconv2\b", "out_layers.3"),
    (r"\bconv_shortcut\b", "skip_connection"),
)
_VAE: Final[_Names] = (
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.0\.resnets", "up.3.block"),
    (r"up_blocks\.1\.resnets", "up.2.block"),
    (r"up_blocks\.2\.resnets", "up.1.block"),
    (r"up_blocks\.3\.resnets", "up.0.block"),
    (r"up_blocks\.0\.upsamplers\.0", "up.3.upsample"),
    (r"up_blocks\.1\.upsamplers\.0", "up.2.upsample"),
    (r"up_blocks\.2\.upsamplers\.0", "up.1.upsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
)
_OPEN_CLIP: Final[_Names] = (
    (r"^text_model\.", ""),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^embeddings\.token_embedding", "token_embedding"),
    (r"^final_layer_norm", "ln_final"),
    (r"^encoder\.layers", "transformer.resblocks"),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.fc1\.", ".c_fc."),
    (r"\.fc2\.", ".c_proj."),
    (r"\.self_attn\.", ".attn."),
)


def original_layout(pipeline: Any) -> dict[str, Any]:
    """Return a tiny SD or SDXL pipeline's weights under the names of its authors."""
    parts = [
        _prefixed("model.diffusion_model.", _unet(pipeline.unet)),
        _prefixed("first_stage_model.", _vae(pipeline.vae)),
    ]
    if hasattr(pipeline, "text_encoder_2"):
        first, second = (
            _clip(pipeline.text_encoder),
            _open_clip(pipeline.text_encoder_2),
        )
        parts.append(_prefixed("conditioner.embedders.0.transformer.", first))
        parts.append(_prefixed("conditioner.embedders.1.model.", second))
    else:
        only = _clip(pipeline.text_encoder)
        parts.append(_prefixed("cond_stage_model.transformer.", only))
    weights = itertools.chain.from_iterable(parts)
    return {name: weight.contiguous().clone() for name, weight in weights}


def _prefixed(prefix: str, weights: _Weights) -> _Weights:
    return ((prefix + name, weight) for name, weight in weights)


def _renamed(name: str, names: _Names) -> str:
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _unet(unet: Any) -> _Weights:
    has_attention = any("up_blocks.0.attentions" in name for name in unet.state_dict())
    upsampler = f"output_blocks.1.{2 if has_attention else 1}"
    for name, weight in unet.state_dict().items():
        if ".resnets." in name:
            inner = name.replace("norm1", "in_layers.0").replace(
                "norm2", "out_layers.0"
            )
        else:
            inner = name.replace("up_blocks.0.upsamplers.0", upsampler)
        yield _renamed(inner, _UNET), weight


def _vae(vae: Any) -> _Weights:
    for name, weight in vae.state_dict().items():
        is_linear = re.search(r"attentions.*to_.*weight", name)
        yield _renamed(name, _VAE), weight[:, :, None, None] if is_linear else weight


def _clip(encoder: Any) -> _Weights:
    for name, weight in encoder.state_dict().items():
        yield f"text_model.{name.removeprefix('text_model.')}", weight


def _open_clip(encoder: Any) -> _Weights:
    weights: Mapping[str, Any] = encoder.state_dict()
    for name, weight in weights.items():
        if name == "text_projection.weight":
            yield "text_projection", weight.T
        elif ".q_proj." in name:
            yield _stacked(name, weights)
        elif ".k_proj." not in name and ".v_proj." not in name:
            yield _renamed(name, _OPEN_CLIP), weight


def _stacked(query: str, weights: Mapping[str, Any]) -> tuple[str, Any]:
    names = (query.replace("q_proj", f"{letter}_proj") for letter in "qkv")
    name = _renamed(query, _OPEN_CLIP).replace("q_proj.", "in_proj_")
    return name, torch.cat([weights[name] for name in names])
