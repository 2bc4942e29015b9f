"""
Prompt embeddings, and the cache that saves encoding a prompt twice.

A hit needs no text encoder, so under offload the encoders stay where they are. Kept
embeddings lie in main memory: a few megabytes each, and moving them is exact.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import torch

Embeddings = Mapping[str, Any]
"""Keyword arguments of a pipeline's call: name -> tensor."""

_DEFAULT_BYTES: Final = 256 * 2**20
_SPECIAL: Final = 2  # tokens for the beginning and the end


@attrs.frozen(kw_only=True)
class Words:
    """What is encoded, and how: everything an embedding depends on but its encoders."""

    prompt: str
    negative_prompt: str | None = None
    max_sequence_length: int | None = None
    is_guided: bool = False
    """Whether a second pass without the prompt is made, which needs its embedding."""


@attrs.define(eq=False, kw_only=True)
class PromptCache:
    """Embeddings of prompts, the least recently used going first."""

    max_bytes: int = _DEFAULT_BYTES
    hits: int = 0
    misses: int = 0
    _kept: OrderedDict[tuple[str, Words], Embeddings] = attrs.field(
        factory=OrderedDict, init=False, repr=False
    )
    _bytes: int = attrs.field(default=0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def of(
        self, pipeline: Any, words: Words, *, identity: str, device: Any
    ) -> dict[str, Any]:
        """
        Give the embeddings a call of the pipeline takes, on a device.

        Args:
            pipeline: Encodes what is not kept.
            words: What is encoded.
            identity: Equal for equal text encoders and precision; whoever changes
                these (a LoRA) uses `encode` instead.
            device: Where the embeddings go.

        """
        key = (f"{identity}:{_encoder_name(pipeline)}", words)
        kept = self._take(key)
        if kept is None:
            found = encode(pipeline, words, device)
            kept = {name: value.cpu() for name, value in found}
            self._keep(key, kept)
        return {name: value.to(device) for name, value in kept.items()}

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._bytes

    def __len__(self) -> int:
        """Count the prompts kept."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _take(self, key: tuple[str, Words]) -> Embeddings | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return kept

    def _keep(self, key: tuple[str, Words], embeddings: Embeddings) -> None:
        size = _size(embeddings)
        if size > self.max_bytes:
            return
        with self._lock:
            self._bytes -= _size(self._kept.pop(key, {}))
            self._kept[key] = embeddings
            self._bytes += size
            while self._bytes > self.max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


def _size(embeddings: Embeddings) -> int:
    return sum(value.nbytes for value in embeddings.values())


def encode(pipeline: Any, words: Words, device: Any) -> tuple[tuple[str, Any], ...]:
    """
    Encode a prompt with the pipeline's own text encoders, on a device.

    Pipelines would find the device themselves, by going through all their modules.
    Under `no_grad`: with gradients other kernels run, and embeddings differ.
    """
    encoder = _ENCODERS[_encoder_name(pipeline)]
    with torch.no_grad():
        found = encoder(pipeline, words, torch.device(device))
    return tuple((name, value) for name, value in found.items() if value is not None)


def _encoder_name(pipeline: Any) -> str:
    name = type(pipeline).__name__
    return next(prefix for prefix in _ENCODERS if name.startswith(prefix))


def _flux1(pipeline: Any, words: Words, device: Any) -> dict[str, Any]:
    def of(text: str) -> tuple[Any, Any]:
        embeds, pooled, _ = pipeline.encode_prompt(
            prompt=text, prompt_2=None, device=device, **_length(words)
        )
        return embeds, pooled

    embeds, pooled = of(words.prompt)
    found = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if words.is_guided:
        embeds, pooled = of(words.negative_prompt or "")
        found["negative_prompt_embeds"] = embeds
        found["negative_pooled_prompt_embeds"] = pooled
    return found


def _flux2(pipeline: Any, words: Words, device: Any) -> dict[str, Any]:
    embeds, _ = pipeline.encode_prompt(
        prompt=words.prompt, device=device, **_length(words)
    )
    found = {"prompt_embeds": embeds}
    if words.is_guided:
        negative, _ = pipeline.encode_prompt(
            prompt=words.negative_prompt or "", device=device, **_length(words)
        )
        found["negative_prompt_embeds"] = negative
    return found


def _sdxl(pipeline: Any, words: Words, device: Any) -> dict[str, Any]:
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    found = pipeline.encode_prompt(
        prompt=words.prompt,
        device=device,
        do_classifier_free_guidance=words.is_guided,
        negative_prompt=words.negative_prompt,
    )
    return dict(zip(names, found, strict=True))


def _sd15(pipeline: Any, words: Words, device: Any) -> dict[str, Any]:
    embeds, negative = pipeline.encode_prompt(
        words.prompt,
        device,
        1,
        words.is_guided,
        words.negative_prompt,
    )
    return {"prompt_embeds": embeds, "negative_prompt_embeds": negative}


def _latent_upscale(pipeline: Any, words: Words, device: Any) -> dict[str, Any]:
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    found = pipeline.encode_prompt(
        [words.prompt],
        device,
        words.is_guided,
        [words.negative_prompt or ""],
    )
    return dict(zip(names, found, strict=True))


def _length(words: Words) -> dict[str, int]:
    if words.max_sequence_length is None:
        return {}
    return {"max_sequence_length": words.max_sequence_length}


_ENCODERS: Final[Mapping[str, Callable[[Any, Words, Any], dict[str, Any]]]] = {
    "Flux2": _flux2,
    "Flux": _flux1,
    "StableDiffusionXL": _sdxl,
    "StableDiffusionLatentUpscale": _latent_upscale,
    "StableDiffusion": _sd15,
}
"""By the beginning of the pipeline's class name; longer beginnings first."""


def cut_off(pipeline: Any, words: Words) -> tuple[str, ...]:
    """Say which prompts are longer than what a pipeline's encoder reads of them."""
    tokenizer = _tokenizer(pipeline)
    limit = words.max_sequence_length or int(tokenizer.model_max_length)
    prompts = {"prompt": words.prompt}
    if words.is_guided:
        prompts["negative_prompt"] = words.negative_prompt or ""
    found = {
        name: len(tokenizer(text).input_ids)
        for name, text in prompts.items()
        if len(text.encode()) + _SPECIAL > limit  # a token is a byte at least
    }
    return tuple(
        f"{name} has {count} tokens, and the model reads the first {limit}"
        for name, count in found.items()
        if count > limit
    )


def _tokenizer(pipeline: Any) -> Any:
    """Give what decides: the first one of FLUX.1 reads for the style alone."""
    is_flux1 = _encoder_name(pipeline) == "Flux"
    chosen = pipeline.tokenizer_2 if is_flux1 else pipeline.tokenizer
    return getattr(chosen, "tokenizer", chosen)  # a processor has one


def joined(embeddings: list[dict[str, Any]]) -> dict[str, Any]:
    """Make one batch of the embeddings of several prompts."""
    if len(embeddings) == 1:
        return embeddings[0]
    return {
        name: torch.cat([each[name] for each in embeddings]) for name in embeddings[0]
    }
