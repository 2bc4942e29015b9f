"""
What a host asks for.

Every request checks itself when it is made: one that exists can be served, as
far as anyone can tell without asking a provider.
"""

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import InvalidImageError, InvalidRequestError
from gaia_core.images import MAX_PIXELS, Image, ImageSource, to_image

MAX_PROMPT_LENGTH = 8_000
"""Longest prompt, in characters."""
MAX_NAME_LENGTH = 255
"""Longest name of a model, a provider, a campaign or a user, in characters."""
MAX_NUM_IMAGES = 8
"""Most pictures one request may ask for."""
MIN_SIDE, MAX_SIDE = 16, 8_192
"""Shortest and longest side a request may ask for, in pixels."""
MAX_INPUT_PIXELS = 16_777_216
"""Largest picture a request may bring along, in pixels (4096 x 4096)."""
MIN_INPUT_SIDE = 4
"""Shortest side of a picture a request may bring along, in pixels."""
MAX_REFERENCE_IMAGES = 16
"""Most reference pictures one request may bring along."""
UPSCALE_FACTORS = (2, 4, 8)
"""The factors a picture can be enlarged by."""
MAX_SEED = 2**63 - 1
"""Largest seed."""

ProviderOptions: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Vendor-only knobs by provider name: ``{"runware": {"scheduler": "Euler"}}``."""


def _refuse(message: str) -> InvalidRequestError:
    return InvalidRequestError(message)


def _is_left_out(field: "attrs.Attribute[Any]", value: object) -> bool:
    return value is None and field.default is None


def _between(low: float, high: float, unit: str = "") -> Any:
    """Accept numbers from low to high, both included."""

    def check(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if _is_left_out(field, value):
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= cast("float", value) <= high:
            message = (
                f"{field.name} must be {low} to {high}{unit}, not {_shown(value)}."
            )
            raise _refuse(message)

    return check


def _whole(low: int, high: int, unit: str = "") -> Any:
    """Accept integers from low to high, both included."""
    in_range = _between(low, high, unit)

    def check(owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if isinstance(value, float):
            message = f"{field.name} must be a whole number, not {_shown(value)}."
            raise _refuse(message)
        in_range(owner, field, value)

    return check


def _shown(value: object) -> str:
    """Show a value that is refused, but not all of a long one."""
    return reprlib.repr(value)


def _text(limit: int) -> Any:
    """Accept text of at most so many characters."""

    def check(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if _is_left_out(field, value):
            return
        if not isinstance(value, str):
            message = f"{field.name} must be text, not {type(value).__name__}."
            raise _refuse(message)
        if len(value) > limit:
            message = f"{field.name} has {len(value)} characters; the limit is {limit}."
            raise _refuse(message)
        if _NO_TEXT.search(value):
            message = f"{field.name} holds characters that are no text."
            raise _refuse(message)

    return check


_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What databases and files refuse: the null character and halves of pairs."""
_any_text = _text(MAX_PROMPT_LENGTH)
_name = _text(MAX_NAME_LENGTH)


def _prompt(owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, str) and not value.strip():
        message = f"{field.name} is empty: say in words what you want."
        raise _refuse(message)
    _any_text(owner, field, value)


def _picture(_: object, field: "attrs.Attribute[Any]", value: Image | None) -> None:
    if value is not None:
        _check_picture(field.name, value)


def _pictures(
    _: object, field: "attrs.Attribute[Any]", values: tuple[Image, ...]
) -> None:
    for value in values:
        _check_picture(field.name, value)


def _check_picture(name: str, picture: Image) -> None:
    size = f"{picture.width}x{picture.height}"
    if picture.width * picture.height > MAX_INPUT_PIXELS:
        message = f"{name} is {size}; the limit is {MAX_INPUT_PIXELS} pixels."
        raise InvalidImageError(message)
    if min(picture.width, picture.height) < MIN_INPUT_SIDE:
        message = f"{name} is {size}; the shortest side is {MIN_INPUT_SIDE} pixels."
        raise InvalidImageError(message)


def _to_picture(name: str, source: ImageSource) -> Image:
    try:
        return to_image(source)
    except InvalidImageError as error:
        message = f"{name}: {error}"
        raise InvalidImageError(message) from error


def _image(source: ImageSource) -> Image:
    return _to_picture("image", source)


def _optional_image(source: ImageSource | None) -> Image | None:
    return None if source is None else _to_picture("image", source)


def _optional_mask(source: ImageSource | None) -> Image | None:
    return None if source is None else _to_picture("mask_image", source)


def _references(sources: Iterable[ImageSource]) -> tuple[Image, ...]:
    if isinstance(sources, str | bytes) or not isinstance(sources, Iterable):
        message = "reference_images must be a list of pictures."
        raise InvalidImageError(message)
    return tuple(_to_picture("reference_images", source) for source in sources)


@attrs.frozen(kw_only=True)
class Lora:
    """
    Fine-tune layers to load on top of the model.

    Attributes:
        model: Identifier of the layers, as the provider spells it.
        weight: How strongly they act; 1.0 is what their maker intended.
    """

    model: str = attrs.field(validator=_prompt)
    weight: float = attrs.field(default=1.0, validator=_between(-4.0, 4.0))


def _loras(values: Iterable[Lora]) -> tuple[Lora, ...]:
    loras = tuple(values) if isinstance(values, Iterable) else (None,)
    if not all(isinstance(lora, Lora) for lora in loras):
        message = 'loras must be a list of Lora, as in [Lora(model="…", weight=0.8)].'
        raise _refuse(message)
    return loras


@attrs.frozen(kw_only=True)
class Outpaint:
    """
    How far to extend a picture beyond its borders, in pixels.

    >>> Outpaint(left=256, right=256)
    Outpaint(left=256, right=256, top=0, bottom=0)
    """

    left: int = attrs.field(default=0, validator=_whole(0, MAX_SIDE, " pixels"))
    right: int = attrs.field(default=0, validator=_whole(0, MAX_SIDE, " pixels"))
    top: int = attrs.field(default=0, validator=_whole(0, MAX_SIDE, " pixels"))
    bottom: int = attrs.field(default=0, validator=_whole(0, MAX_SIDE, " pixels"))

    def __attrs_post_init__(self) -> None:
        """Refuse an extension by nothing."""
        if not any((self.left, self.right, self.top, self.bottom)):
            message = "outpaint extends nothing: set left, right, top or bottom."
            raise _refuse(message)


def _outpaint(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None and not isinstance(value, Outpaint):
        message = f"{field.name} must be an Outpaint, as in Outpaint(left=256)."
        raise _refuse(message)


@attrs.frozen(kw_only=True)
class Request:
    """
    What every request has.

    Attributes:
        model: Exactly this model (identifier or alias), or None: the policy
            decides.
        provider: Exactly this provider, or None: the policy decides.
        provider_options: Vendor-only knobs by provider name.
        campaign_id: The campaign the picture is kept and paid under.
        user_id: The user it is paid under.
    """

    model: str | None = attrs.field(default=None, validator=_name)
    provider: str | None = attrs.field(default=None, validator=_name)
    provider_options: ProviderOptions = attrs.field(factory=dict)
    campaign_id: str | None = attrs.field(default=None, validator=_name)
    user_id: str | None = attrs.field(default=None, validator=_name)

    @provider_options.validator
    def _check_options(self, _: object, value: object) -> None:
        if not isinstance(value, Mapping) or not all(
            isinstance(options, Mapping) for options in value.values()
        ):
            message = (
                "provider_options must map a provider's name to its options, "
                'as in {"runware": {"scheduler": "Euler"}}.'
            )
            raise _refuse(message)

    @property
    def capability(self) -> Capability:
        """The capability this request needs."""
        raise NotImplementedError

    def options_for(self, provider: str) -> Mapping[str, Any]:
        """The options meant for one provider."""
        return self.provider_options.get(provider, {})


@attrs.frozen(kw_only=True)
class GenerateRequest(Request):
    """
    Make pictures from words, and from a picture where one is given.

    The capability follows from what is set: a picture makes it image-to-image,
    a mask makes that inpainting, ``outpaint`` makes it outpainting.

    >>> GenerateRequest(prompt="a red dragon").capability
    <Capability.TEXT_TO_IMAGE: 'text-to-image'>

    Attributes:
        prompt: What to draw.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        num_images: How many pictures.
        negative_prompt: What to avoid.
        seed: Makes the result repeatable; None lets the provider choose.
        guidance_scale: How closely to follow the prompt.
        num_inference_steps: Denoising steps.
        style: Art style, put behind the prompt (see `styled_prompt`).
        image: The picture to start from.
        strength: How far to leave ``image``: 0 keeps it, 1 ignores it.
        mask_image: The region of ``image`` to repaint: white = repaint, black =
            keep; same size as ``image``.
        outpaint: How far to extend ``image``.
        reference_images: Pictures to imitate.
        loras: Fine-tune layers to use.

    Raises:
        InvalidRequestError: If it can never be served; the message names the
            field, what is wrong with it and what is accepted.
    """

    prompt: str = attrs.field(validator=_prompt)
    width: int = attrs.field(
        default=1024, validator=_whole(MIN_SIDE, MAX_SIDE, " pixels")
    )
    height: int = attrs.field(
        default=1024, validator=_whole(MIN_SIDE, MAX_SIDE, " pixels")
    )
    num_images: int = attrs.field(default=1, validator=_whole(1, MAX_NUM_IMAGES))
    negative_prompt: str | None = attrs.field(default=None, validator=_any_text)
    seed: int | None = attrs.field(default=None, validator=_whole(0, MAX_SEED))
    guidance_scale: float | None = attrs.field(default=None, validator=_between(0, 100))
    num_inference_steps: int | None = attrs.field(
        default=None, validator=_whole(1, 500)
    )
    style: str | None = attrs.field(default=None, validator=_any_text)
    image: Image | None = attrs.field(
        default=None, converter=_optional_image, validator=_picture
    )
    strength: float | None = attrs.field(default=None, validator=_between(0, 1))
    mask_image: Image | None = attrs.field(
        default=None, converter=_optional_mask, validator=_picture
    )
    outpaint: Outpaint | None = attrs.field(default=None, validator=_outpaint)
    reference_images: tuple[Image, ...] = attrs.field(
        default=(), converter=_references, validator=_pictures
    )
    loras: tuple[Lora, ...] = attrs.field(default=(), converter=_loras)

    def __attrs_post_init__(self) -> None:
        """Refuse what contradicts itself."""
        self._check_output_size()
        self._check_needs_image()
        self._check_mask_size()
        self._check_references()

    @property
    def capability(self) -> Capability:
        """The capability that follows from the fields that are set."""
        if self.image is None:
            return Capability.TEXT_TO_IMAGE
        if self.outpaint is not None:
            return Capability.OUTPAINTING
        if self.mask_image is not None:
            return Capability.INPAINTING
        return Capability.IMAGE_TO_IMAGE

    @property
    def styled_prompt(self) -> str:
        """
        The prompt with the style behind it, as providers should draw it.

        >>> GenerateRequest(prompt="a keep", style="fantasy art").styled_prompt
        'a keep, fantasy art style'
        """
        return f"{self.prompt}, {self.style} style" if self.style else self.prompt

    def _check_output_size(self) -> None:
        if self.width * self.height > MAX_INPUT_PIXELS:
            message = (
                f"{self.width}x{self.height} is more than {MAX_INPUT_PIXELS} pixels: "
                "make it smaller and upscale the result."
            )
            raise _refuse(message)

    def _check_needs_image(self) -> None:
        if self.image is not None:
            return
        for name in ("mask_image", "outpaint", "strength"):
            if getattr(self, name) is not None:
                message = f"{name} needs image: the picture it applies to."
                raise _refuse(message)

    def _check_mask_size(self) -> None:
        image, mask = self.image, self.mask_image
        if image is None or mask is None:
            return
        if (image.width, image.height) != (mask.width, mask.height):
            message = (
                f"mask_image is {mask.width}x{mask.height} and image is "
                f"{image.width}x{image.height}: they must have the same size."
            )
            raise _refuse(message)

    def _check_references(self) -> None:
        if len(self.reference_images) > MAX_REFERENCE_IMAGES:
            message = (
                f"reference_images holds {len(self.reference_images)} pictures; "
                f"the limit is {MAX_REFERENCE_IMAGES}."
            )
            raise _refuse(message)


@attrs.frozen(kw_only=True)
class UpscaleRequest(Request):
    """
    Enlarge a picture.

    Attributes:
        image: The picture to enlarge.
        upscale_factor: 2, 4 or 8 times its width and height.

    Raises:
        InvalidRequestError: If the factor is another one, or the result too large.
    """

    image: Image = attrs.field(converter=_image, validator=_picture)
    upscale_factor: int = attrs.field(default=4)

    @upscale_factor.validator
    def _check_factor(self, _: object, value: object) -> None:
        if not isinstance(value, int) or value not in UPSCALE_FACTORS:
            message = f"upscale_factor must be 2, 4 or 8, not {_shown(value)}."
            raise _refuse(message)
        width, height = self.image.width * value, self.image.height * value
        if width * height > MAX_PIXELS:
            message = (
                f"upscale_factor {value} makes {width}x{height} of image; "
                f"the limit is {MAX_PIXELS} pixels."
            )
            raise _refuse(message)

    @property
    def capability(self) -> Capability:
        """Upscaling."""
        return Capability.UPSCALING


@attrs.frozen(kw_only=True)
class RemoveBackgroundRequest(Request):
    """
    Cut out the subject of a picture.

    Attributes:
        image: The picture to cut the subject out of.
    """

    image: Image = attrs.field(converter=_image, validator=_picture)

    @property
    def capability(self) -> Capability:
        """Background removal."""
        return Capability.BACKGROUND_REMOVAL


@attrs.frozen(kw_only=True)
class EnhancePromptRequest(Request):
    """
    Turn a few words into a prompt that pictures come out well from.

    Attributes:
        prompt: The words to work out.
        max_length: Longest answer, in characters.
    """

    prompt: str = attrs.field(validator=_prompt)
    max_length: int = attrs.field(
        default=1_000, validator=_whole(1, MAX_PROMPT_LENGTH, " characters")
    )

    @property
    def capability(self) -> Capability:
        """Prompt enhancement."""
        return Capability.PROMPT_ENHANCEMENT


@attrs.frozen(kw_only=True)
class DescribeImageRequest(Request):
    """
    Say in words what a picture shows.

    Attributes:
        image: The picture to look at.
        question: What to answer about it; None asks for a description.
    """

    image: Image = attrs.field(converter=_image, validator=_picture)
    question: str | None = attrs.field(default=None, validator=_any_text)

    @property
    def capability(self) -> Capability:
        """Image description."""
        return Capability.IMAGE_DESCRIPTION
