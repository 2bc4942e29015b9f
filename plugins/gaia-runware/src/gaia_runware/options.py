"""
What ``provider_options["runware"]`` may hold, checked before anything is sent.

Options carry the vendor's own names; ``clip_skip`` is as good as ``clipSkip``.
"""

import difflib
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from gaia_core import GaiaError, ProviderRequestError
from gaia_core.images import to_image
from gaia_runware.facts import Facts
from gaia_runware.pictures import data_uri

OUTPUT_FORMATS = ("PNG", "JPG", "WEBP")
"""What the vendor can write and Gaia can read."""

EVERYWHERE = ("outputFormat", "outputQuality")
"""Options of every task that makes a picture."""

OF_PICTURES = (*EVERYWHERE, "safety", "advancedFeatures")
"""Options of every model that makes pictures."""

BY_MODEL = (
    "acceleration",
    "acceleratorOptions",
    "acePlusPlus",
    "clipSkip",
    "controlNet",
    "embeddings",
    "hiresFix",
    "ipAdapters",
    "maskMargin",
    "photoMaker",
    "promptWeighting",
    "providerSettings",
    "pulid",
    "refiner",
    "resolution",
    "scheduler",
    "settings",
    "structuredPrompt",
    "targetMegapixels",
    "trueCFGScale",
    "ultralytics",
    "vae",
)
"""Options that some models take."""

DECISIVE = frozenset(
    {
        "acePlusPlus",
        "controlNet",
        "embeddings",
        "ipAdapters",
        "photoMaker",
        "pulid",
        "refiner",
        "vae",
    }
)
"""Without one of these the picture would be another: a model must take it."""

OURS = {
    "CFGScale": "guidance_scale",
    "height": "height",
    "inputs": "image, mask_image or reference_images",
    "lora": "loras",
    "model": "model",
    "negativePrompt": "negative_prompt",
    "numberResults": "num_images",
    "outpaint": "outpaint",
    "positivePrompt": "prompt",
    "seed": "seed",
    "steps": "num_inference_steps",
    "strength": "strength",
    "upscaleFactor": "upscale_factor",
    "width": "width",
}
"""Fields of the vendor's that a request has a field of its own for."""

GAIAS = frozenset(
    {
        "apiKey",
        "deliveryMethod",
        "includeCost",
        "outputType",
        "routing",
        "taskType",
        "taskUUID",
        "ttl",
        "uploadEndpoint",
        "webhookURL",
    }
)
"""Fields that decide about money, identity or where the result goes: never options."""

KNOWN = (*OF_PICTURES, *BY_MODEL)
"""Every option."""

_PICTURES = frozenset(
    {
        "guideImage",
        "guideImages",
        "image",
        "images",
        "inputImages",
        "maskImage",
        "referenceImage",
        "referenceImages",
        "seedImage",
    }
)
"""Keys inside of options under which the vendor expects pictures."""

_FORMATS = {"JPEG": "JPG"}
_QUALITY = (20, 99)
_MAX_DEPTH = 16


def checked(
    given: Mapping[str, Any],
    facts: Facts,
    taken: Iterable[str],
    warnings: list[str],
) -> dict[str, Any]:
    """
    Give the options as the vendor spells them, ready to be sent.

    Args:
        given: What the request holds for this provider.
        facts: The model they are for.
        taken: The options that every task of this kind takes.
        warnings: Where to say which options are left out because the model has no
            use for them.

    Raises:
        ProviderRequestError: If one is unknown, is none of the caller's business, or
            holds what cannot be sent; nothing was sent.
    """
    allowed = {*taken, *(facts.fields & {*BY_MODEL})}
    options: dict[str, Any] = {}
    for word, value in given.items():
        name = _name(word)
        if name in allowed:
            options[name] = _value(name, value)
        else:
            warnings.append(_left_out(name, facts))
    return options


def _left_out(name: str, facts: Facts) -> str:
    if name in DECISIVE:
        message = f"{facts.name} takes no {name}: leave it out, or name another model."
        raise ProviderRequestError(message)
    return f"{name} ignored: {facts.name} has no use for it"


def _name(word: object) -> str:
    """Find out which option is meant."""
    text = str(word)
    by_key = {_key(name): name for name in (*KNOWN, *OURS, *GAIAS)}
    name = by_key.get(_key(text), text)
    if name in KNOWN:
        return name
    raise ProviderRequestError(_why_not(name, text))


def _key(text: str) -> str:
    return text.replace("_", "").lower()


def _why_not(name: str, word: str) -> str:
    if name in OURS:
        return f"{word[:64]} is no option: say it with the request's {OURS[name]}."
    if name in GAIAS:
        return f"{word[:64]} is no option: Gaia sets it itself."
    near = difflib.get_close_matches(_key(word), map(_key, KNOWN), n=1)
    meant = [known for known in KNOWN if _key(known) in near]
    hint = f" Did you mean {meant[0]}?" if meant else f" Known: {', '.join(KNOWN)}."
    return f"runware has no option {word[:64]!r}.{hint}"


def _value(name: str, value: object) -> Any:
    if name == "outputFormat":
        return _output_format(value)
    if name == "outputQuality":
        return _output_quality(value)
    return sendable(value, name)


def _output_format(value: object) -> str:
    word = str(value).upper()
    word = _FORMATS.get(word, word)
    if word not in OUTPUT_FORMATS:
        message = f"outputFormat must be one of {', '.join(OUTPUT_FORMATS)}."
        raise ProviderRequestError(message)
    return word


def _output_quality(value: object) -> int:
    low, high = _QUALITY
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:  # type: ignore[operator]  # whole
        message = f"outputQuality must be a whole number from {low} to {high}."
        raise ProviderRequestError(message)
    return int(value)  # type: ignore[call-overload,no-any-return]  # whole


def sendable(value: object, name: str, depth: int = 0) -> Any:
    """
    Give a value as JSON can carry it, with pictures as data URIs.

    A string under a key where a picture belongs must be an address, a data URI or
    the UUID of a picture the vendor keeps. No string is ever opened as a file.

    Raises:
        ProviderRequestError: If it cannot be sent.
    """
    if depth > _MAX_DEPTH:
        message = f"The option {name} is nested too deeply."
        raise ProviderRequestError(message)
    if isinstance(value, Mapping):
        return _mapping(value, name, depth)
    if isinstance(value, list | tuple):
        return [sendable(item, name, depth + 1) for item in value]
    if isinstance(value, str):
        return _picture_name(value, name) if name in _PICTURES else value
    if isinstance(value, float) and not math.isfinite(value):
        message = f"The option {name} holds {value}, which is no number for JSON."
        raise ProviderRequestError(message)
    if value is None or isinstance(value, bool | int | float):
        return value
    return _picture(value, name)


def _mapping(value: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in value):
        message = f"The option {name} holds a key that is no text."
        raise ProviderRequestError(message)
    return {key: sendable(item, key, depth + 1) for key, item in value.items()}


def _picture(value: Any, name: str) -> str:
    try:
        return data_uri(to_image(value))
    except GaiaError:
        kind = type(value).__name__
        message = (
            f"The option {name} holds a {kind} that is neither JSON nor a picture."
        )
        raise ProviderRequestError(message) from None


_ADDRESS = re.compile(r"https?://[^\s]+\Z")
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


def _picture_name(value: str, name: str) -> str:
    if _ADDRESS.match(value) or _DATA_URI.match(value) or _is_uuid(value):
        return value
    message = (
        f"The option {name} must hold pictures: bytes, an https address, a data URI, "
        "or the UUID of a picture the vendor keeps. A file is never opened because "
        "a text names it."
    )
    raise ProviderRequestError(message)


def _is_uuid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True
