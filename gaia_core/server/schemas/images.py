"""What the routes under ``/api/images`` take."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from gaia_core.server.schemas.base import Name, Prompt, ResponseFormat, Taken

Side = Annotated[int, Field(ge=16, le=8_192)]
"""A width or a height in pixels."""
Size = Annotated[str, Field(pattern=r"^\d{1,4}x\d{1,4}$", examples=["1024x1024"])]
"""A width and a height in pixels."""


class Choosing(Taken):
    """
    What may be chosen for every request.

    Attributes:
        model: Exactly this model; None: the policy decides.
        provider: Exactly this provider; None: the policy decides.
        response_format: Whether pictures come with their bytes, too.
        campaign_id: The campaign it is kept and paid under.
        user_id: The user it is paid under; only for keys that may say so.
        policy: What comes first; None: as the server is set up.
        max_cost_usd: The most it may cost, in US dollars.
        allowed_providers: The only ones to ask.
        provider_options: Vendor-only knobs by provider name.
        timeout: Longest wait in seconds.
        reuse: Whether the answer to an equal request may be given; None: if the
            request has a seed.
        delivery: Whether it may be paid twice rather than not come.
    """

    model: Name | None = None
    provider: Name | None = None
    response_format: ResponseFormat = "url"
    campaign_id: Name | None = None
    user_id: Name | None = None
    policy: Literal["priority", "cheapest", "fastest", "best"] | None = None
    max_cost_usd: Annotated[Decimal, Field(ge=0, le=1_000_000)] | None = None
    allowed_providers: (
        Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)] | None
    ) = None
    provider_options: dict[Name, dict[str, Any]] | None = None
    timeout: Annotated[float, Field(gt=0, le=3_600)] | None = None
    reuse: bool | None = None
    delivery: Literal["at_most_once", "at_least_once"] = "at_most_once"


class PictureIn(Taken):
    """
    One picture: exactly one of the fields says where it is.

    Attributes:
        image_id: One of the caller's own, by its id.
        image_url: One at an address on the public internet.
        image_path: One of the caller's own, by the ``image_path`` of its answer, or
            a file below a folder of ``server.image_roots``.
        image_base64: The picture itself, in base64 or as a ``data:`` address.
    """

    image_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    image_url: Annotated[str, Field(max_length=2_048)] | None = None
    image_path: Annotated[str, Field(max_length=1_024)] | None = None
    image_base64: str | None = None


class LoraIn(Taken):
    """One fine-tune layer."""

    model: Name
    weight: Annotated[float, Field(ge=-10, le=10)] = 1.0


class OutpaintIn(Taken):
    """How far to extend a picture, in pixels."""

    left: Annotated[int, Field(ge=0, le=8_192)] = 0
    right: Annotated[int, Field(ge=0, le=8_192)] = 0
    top: Annotated[int, Field(ge=0, le=8_192)] = 0
    bottom: Annotated[int, Field(ge=0, le=8_192)] = 0


class Drawing(Choosing):
    """
    What drawing takes, with or without a picture to start from.

    Attributes:
        size: Width and height as ``1024x1024``, instead of the two fields; without
            any of them the picture's own size, or 1024x1024.
        style: Put behind the prompt as ``, … style``; None or empty: nothing is.
        n: How many pictures.
    """

    needs_image: ClassVar[bool] = False

    prompt: Prompt
    size: Size | None = None
    width: Side | None = None
    height: Side | None = None
    style: Annotated[str, Field(max_length=255)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] = 1
    negative_prompt: Annotated[str, Field(max_length=8_000)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=500)] | None = None
    strength: Annotated[float, Field(ge=0, le=1)] | None = None
    loras: Annotated[tuple[LoraIn, ...], Field(max_length=16)] = ()
    reference_images: Annotated[tuple[PictureIn, ...], Field(max_length=16)] = ()


class GenerateIn(Drawing, PictureIn):
    """
    Make pictures from words, or from a picture and words.

    Attributes:
        mask: The region of the picture to repaint: white = repaint.
        outpaint: How far to extend the picture.
    """

    mask: PictureIn | None = None
    outpaint: OutpaintIn | None = None


class InpaintIn(Drawing, PictureIn):
    """Repaint the white region of ``mask`` in a picture."""

    needs_image = True

    mask: PictureIn


class OutpaintRequestIn(Drawing, PictureIn):
    """Extend a picture beyond its borders."""

    needs_image = True

    outpaint: OutpaintIn


class UpscaleIn(Choosing, PictureIn):
    """Enlarge a picture."""

    upscale_factor: Literal[2, 4, 8] = 4


class RemoveBackgroundIn(Choosing, PictureIn):
    """Cut out the subject of a picture."""


class EnhancePromptIn(Choosing):
    """Turn a few words into a prompt that pictures come out well from."""

    prompt: Prompt
    max_length: Annotated[int, Field(ge=1, le=8_000)] = 1_000


class DescribeIn(Choosing, PictureIn):
    """Say in words what a picture shows, or answer a question about it."""

    question: Annotated[str, Field(max_length=8_000)] | None = None


class GenerateWork(GenerateIn):
    """Make pictures, said by name."""

    operation: Literal["generate"] = "generate"


class InpaintWork(InpaintIn):
    """Repaint, said by name."""

    operation: Literal["inpaint"]


class OutpaintWork(OutpaintRequestIn):
    """Extend, said by name."""

    operation: Literal["outpaint"]


class UpscaleWork(UpscaleIn):
    """Enlarge, said by name."""

    operation: Literal["upscale"]


class RemoveBackgroundWork(RemoveBackgroundIn):
    """Cut out, said by name."""

    operation: Literal["remove-background"]


class EnhancePromptWork(EnhancePromptIn):
    """Work a prompt out, said by name."""

    operation: Literal["enhance-prompt"]


class DescribeWork(DescribeIn):
    """Describe, said by name."""

    operation: Literal["describe"]


OPERATIONS = (
    "generate",
    "inpaint",
    "outpaint",
    "upscale",
    "remove-background",
    "enhance-prompt",
    "describe",
)
"""The operations a body may name; the first where it names none."""
TAG = "operation="
"""What the tags begin with that pydantic puts into the place of an error."""


def _operation_of(body: Any) -> str | None:
    """Find which of `AnyWork` a body is; None: it names none there is."""
    named = getattr(body, "operation", None)
    if isinstance(body, dict):
        named = body.get("operation", OPERATIONS[0])
    return f"{TAG}{named}" if named in OPERATIONS else None


AnyWork = Annotated[
    Annotated[GenerateWork, Tag(f"{TAG}generate")]
    | Annotated[InpaintWork, Tag(f"{TAG}inpaint")]
    | Annotated[OutpaintWork, Tag(f"{TAG}outpaint")]
    | Annotated[UpscaleWork, Tag(f"{TAG}upscale")]
    | Annotated[RemoveBackgroundWork, Tag(f"{TAG}remove-background")]
    | Annotated[EnhancePromptWork, Tag(f"{TAG}enhance-prompt")]
    | Annotated[DescribeWork, Tag(f"{TAG}describe")],
    Discriminator(
        _operation_of,
        custom_error_type="operation",
        custom_error_message=f"operation must be one of {', '.join(OPERATIONS)}",
    ),
]
"""The body of any verb; ``operation`` says which, and ``generate`` may be left out."""
