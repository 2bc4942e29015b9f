"""
Tokenizers of the tiny models: a token per byte or letter, and no merges.

The vocabularies are written by hand, as the trainers of `tokenizers` give another
table of ids in every process, and with it other pictures.
"""

from typing import Any, Final

import transformers

CLIP_LENGTH: Final = 77
_LENGTH: Final = 512
_WORD_BEGIN: Final = "\N{LOWER ONE EIGHTH BLOCK}"
_CHAT: Final = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}"
)
_MISTRAL_WORDS: Final = {
    "unk_token": "<pad>",
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}


def clip_vocabulary() -> dict[str, int]:
    """Return CLIP's ids: two special tokens, bytes, and bytes that end a word."""
    endings = (f"{letter}</w>" for letter in _bytes())
    return _numbered("<|startoftext|>", "<|endoftext|>", *_bytes(), *endings)


def clip_tokenizer(*, pads_with: str = "<|endoftext|>") -> Any:
    """Return a tokenizer as CLIP has it; SDXL's second one pads with another token."""
    return transformers.CLIPTokenizer(
        vocab=clip_vocabulary(),
        merges=[],
        pad_token=pads_with,
        model_max_length=CLIP_LENGTH,
    )


def t5_vocabulary() -> list[tuple[str, float]]:
    """Return T5's ids by their order, with the scores of a unigram model."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    return [*special, (_WORD_BEGIN, -2.0), *letters]


def t5_tokenizer() -> Any:
    """Return a tokenizer as T5 has it, of printable ASCII."""
    return transformers.T5Tokenizer(
        vocab=t5_vocabulary(), extra_ids=0, model_max_length=_LENGTH
    )


def qwen_tokenizer() -> Any:
    """Return a tokenizer as FLUX.2 klein's text encoder has it, with its chat marks."""
    marks = ("<|im_start|>", "<|im_end|>")
    return transformers.Qwen2Tokenizer(
        vocab=_numbered("<|endoftext|>", *marks, *_bytes()),
        merges=[],
        additional_special_tokens=list(marks),
        chat_template=_CHAT,
        model_max_length=_LENGTH,
    )


def mistral_tokenizer() -> Any:
    """
    Return a tokenizer that stands in for the processor of FLUX.2-dev.

    The pipeline asks it for prompts' ids only, which both answer alike, and the real
    one needs torchvision.  A system message of a few hundred letters comes before each
    prompt: what is too long loses its beginning, so that prompts are always read.
    """
    return transformers.Qwen2Tokenizer(
        vocab=_numbered("<pad>", "<s>", "</s>", "[IMG]", *_bytes()),
        merges=[],
        chat_template=_CHAT,
        truncation_side="left",
        model_max_length=_LENGTH,
        **_MISTRAL_WORDS,
    )


def _numbered(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _bytes() -> tuple[str, ...]:
    """Return the 256 letters that byte-level tokenizers write bytes with."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (256 + number for number in range(256 - len(printable)))
    return (*map(chr, printable), *map(chr, others))
