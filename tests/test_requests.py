"""What a host asks for."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaia_core.capabilities import Capability
from gaia_core.errors import InvalidRequestError
from gaia_core.images import Image
from gaia_core.requests import (
    MAX_INPUT_PIXELS,
    MAX_NAME_LENGTH,
    MAX_PROMPT_LENGTH,
    MAX_REFERENCE_IMAGES,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Lora,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.testing import jpeg, png

PICTURE = png()
HUGE = Image(data=b"", media_type="image/png", width=4096, height=4097)
TINY = png(1, 1)

REFUSALS: dict[str, tuple[type[Any], dict[str, Any], str]] = {
    "empty prompt": (GenerateRequest, {"prompt": " \n"}, "prompt is empty"),
    "no prompt": (GenerateRequest, {"prompt": None}, "prompt must be text"),
    "prompt of bytes": (GenerateRequest, {"prompt": b"x"}, "prompt must be text"),
    "long prompt": (
        GenerateRequest,
        {"prompt": "x" * (MAX_PROMPT_LENGTH + 1)},
        "prompt has 8001 characters; the limit is 8000",
    ),
    "null character": (GenerateRequest, {"prompt": "a\0b"}, "prompt holds characters"),
    "half a pair": (GenerateRequest, {"prompt": "\ud800"}, "prompt holds characters"),
    "narrow": (GenerateRequest, {"width": 15}, "width must be 16 to 8192 pixels"),
    "wide": (GenerateRequest, {"width": 8193}, "width must be 16 to 8192 pixels"),
    "low": (GenerateRequest, {"height": -1}, "height must be 16 to 8192 pixels"),
    "no width": (GenerateRequest, {"width": None}, "width must be 16 to 8192"),
    "width of text": (GenerateRequest, {"width": "64"}, "width must be 16 to 8192"),
    "half a pixel": (GenerateRequest, {"height": 64.5}, "height must be a whole"),
    "width of truth": (GenerateRequest, {"width": True}, "width must be 16 to 8192"),
    "too many pixels": (
        GenerateRequest,
        {"width": 8192, "height": 4096},
        f"8192x4096 is more than {MAX_INPUT_PIXELS} pixels: make it smaller",
    ),
    "no pictures": (GenerateRequest, {"num_images": 0}, "num_images must be 1 to 8"),
    "many pictures": (GenerateRequest, {"num_images": 9}, "num_images must be 1 to 8"),
    "seed below zero": (GenerateRequest, {"seed": -1}, "seed must be 0 to"),
    "seed too large": (GenerateRequest, {"seed": 2**63}, "seed must be 0 to"),
    "guidance": (GenerateRequest, {"guidance_scale": 101}, "guidance_scale must be"),
    "guidance of text": (
        GenerateRequest,
        {"guidance_scale": "7" * 10_000},
        "guidance_scale must be 0 to 100, not '777",
    ),
    "guidance nowhere": (
        GenerateRequest,
        {"guidance_scale": float("nan")},
        "guidance_scale must be 0 to 100, not nan",
    ),
    "no steps": (
        GenerateRequest,
        {"num_inference_steps": 0},
        "num_inference_steps must be 1 to 500",
    ),
    "long negative prompt": (
        GenerateRequest,
        {"negative_prompt": "x" * (MAX_PROMPT_LENGTH + 1)},
        "negative_prompt has 8001 characters",
    ),
    "style of numbers": (GenerateRequest, {"style": 3}, "style must be text, not int"),
    "long campaign": (
        GenerateRequest,
        {"campaign_id": "x" * (MAX_NAME_LENGTH + 1)},
        "campaign_id has 256 characters; the limit is 255",
    ),
    "model of numbers": (GenerateRequest, {"model": 3}, "model must be text"),
    "options of text": (
        GenerateRequest,
        {"provider_options": "x"},
        "provider_options must map a provider's name",
    ),
    "flat options": (
        GenerateRequest,
        {"provider_options": {"scheduler": "Euler"}},
        "provider_options must map a provider's name",
    ),
    "picture of text": (GenerateRequest, {"image": "/etc/passwd"}, "image: A picture"),
    "no picture": (GenerateRequest, {"image": b"GIF89a"}, "image: The picture is no"),
    "picture not there": (
        GenerateRequest,
        {"image": Path("gone.png")},
        r"image: The picture gone\.png cannot be read",
    ),
    "huge picture": (GenerateRequest, {"image": HUGE}, "image is 4096x4097; the limit"),
    "one pixel": (GenerateRequest, {"image": TINY}, "image is 1x1; the shortest side"),
    "strength over one": (
        GenerateRequest,
        {"image": PICTURE, "strength": 1.5},
        "strength must be 0 to 1",
    ),
    "strength of nothing": (
        GenerateRequest,
        {"strength": 0.5},
        "strength needs image",
    ),
    "mask of nothing": (
        GenerateRequest,
        {"mask_image": PICTURE},
        "mask_image needs image",
    ),
    "outpaint nothing": (
        GenerateRequest,
        {"outpaint": Outpaint(left=64)},
        "outpaint needs image",
    ),
    "outpaint as mapping": (
        GenerateRequest,
        {"image": PICTURE, "outpaint": {"left": 64}},
        "outpaint must be an Outpaint",
    ),
    "mask of another size": (
        GenerateRequest,
        {"image": PICTURE, "mask_image": png(32, 32)},
        "mask_image is 32x32 and image is 64x64",
    ),
    "broken mask": (
        GenerateRequest,
        {"image": PICTURE, "mask_image": b""},
        "mask_image: The picture is no",
    ),
    "one reference": (
        GenerateRequest,
        {"reference_images": PICTURE},
        "reference_images must be a list",
    ),
    "no reference": (
        GenerateRequest,
        {"reference_images": None},
        "reference_images must be a list",
    ),
    "broken reference": (
        GenerateRequest,
        {"reference_images": [PICTURE, b""]},
        "reference_images: The picture is no",
    ),
    "huge reference": (
        GenerateRequest,
        {"reference_images": [HUGE]},
        "reference_images is 4096x4097",
    ),
    "many references": (
        GenerateRequest,
        {"reference_images": [PICTURE] * (MAX_REFERENCE_IMAGES + 1)},
        "reference_images holds 17 pictures; the limit is 16",
    ),
    "one lora": (
        GenerateRequest,
        {"loras": Lora(model="x")},
        "loras must be a list of Lora",
    ),
    "lora by name": (GenerateRequest, {"loras": ["x"]}, "loras must be a list of Lora"),
    "lora without a model": (Lora, {"model": ""}, "model is empty"),
    "heavy lora": (Lora, {"model": "x", "weight": 5}, "weight must be -4.0 to 4.0"),
    "outpaint by nothing": (Outpaint, {}, "outpaint extends nothing"),
    "outpaint inwards": (Outpaint, {"left": -1}, "left must be 0 to 8192 pixels"),
    "odd factor": (
        UpscaleRequest,
        {"image": PICTURE, "upscale_factor": 3},
        "upscale_factor must be 2, 4 or 8, not 3",
    ),
    "factor of fractions": (
        UpscaleRequest,
        {"image": PICTURE, "upscale_factor": 2.0},
        "upscale_factor must be 2, 4 or 8",
    ),
    "result too large": (
        UpscaleRequest,
        {"image": png(1200, 1200), "upscale_factor": 8},
        "upscale_factor 8 makes 9600x9600 of image; the limit is",
    ),
    "upscale a text": (UpscaleRequest, {"image": "x"}, "image: A picture must be"),
    "upscale a pixel": (UpscaleRequest, {"image": TINY}, "image is 1x1"),
    "cut out of nothing": (RemoveBackgroundRequest, {"image": b""}, "image: The"),
    "enhance nothing": (EnhancePromptRequest, {"prompt": ""}, "prompt is empty"),
    "enhance without end": (
        EnhancePromptRequest,
        {"prompt": "x", "max_length": 10_000},
        "max_length must be 1 to 8000 characters",
    ),
    "ask with numbers": (
        DescribeImageRequest,
        {"image": PICTURE, "question": 3},
        "question must be text",
    ),
}


@pytest.mark.parametrize(
    ("kind", "fields", "words"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_what_cannot_be_served_is_refused(
    kind: type[Any], fields: dict[str, Any], words: str
) -> None:
    """The sentence begins with the field and says what is accepted."""
    if kind is GenerateRequest:
        fields = {"prompt": "a keep", **fields}

    with pytest.raises(InvalidRequestError, match=f"^{words}") as caught:
        kind(**fields)

    assert len(str(caught.value)) < 200
    assert str(caught.value).endswith((".", "]."))


NAMES = sorted(field.name for field in attrs.fields(GenerateRequest))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.lists(st.integers() | st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sampled_from([PICTURE, png(16, 16), Outpaint(top=8), Lora(model="x")]),
)


@given(fields=st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=5))
def test_a_request_checks_itself(fields: dict[str, Any]) -> None:
    """Whatever comes in, there is a sound request or one kind of error."""
    problem = ""
    try:
        request = GenerateRequest(**{"prompt": "a keep", **fields})
    except InvalidRequestError as error:
        problem = str(error)

    if problem:
        assert re.search(rf"{'|'.join(fields)}|pixels", problem)
        return
    assert isinstance(request.capability, Capability)
    assert request.styled_prompt.startswith(request.prompt)
    assert min(request.width, request.height) >= 16
    hash(request.model)


@pytest.mark.parametrize(
    ("fields", "capability"),
    [
        ({}, Capability.TEXT_TO_IMAGE),
        ({"reference_images": [PICTURE]}, Capability.TEXT_TO_IMAGE),
        ({"image": PICTURE}, Capability.IMAGE_TO_IMAGE),
        ({"image": PICTURE, "mask_image": PICTURE}, Capability.INPAINTING),
        ({"image": PICTURE, "outpaint": Outpaint(left=8)}, Capability.OUTPAINTING),
        (
            {"image": PICTURE, "mask_image": PICTURE, "outpaint": Outpaint(left=8)},
            Capability.OUTPAINTING,
        ),
    ],
    ids=["words", "references", "picture", "mask", "outpaint", "mask and outpaint"],
)
def test_the_capability_follows_from_the_fields(
    fields: dict[str, Any], capability: Capability
) -> None:
    """Nobody says twice what they want."""
    assert GenerateRequest(prompt="a keep", **fields).capability is capability


@pytest.mark.parametrize(
    ("request_", "capability"),
    [
        (UpscaleRequest(image=PICTURE), Capability.UPSCALING),
        (RemoveBackgroundRequest(image=PICTURE), Capability.BACKGROUND_REMOVAL),
        (EnhancePromptRequest(prompt="a keep"), Capability.PROMPT_ENHANCEMENT),
        (DescribeImageRequest(image=PICTURE), Capability.IMAGE_DESCRIPTION),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_verb_needs_its_capability(
    request_: Request, capability: Capability
) -> None:
    """A verb and a capability belong together."""
    assert request_.capability is capability


@pytest.mark.parametrize("source", ["bytes", "path", "image"])
def test_a_picture_may_come_in_any_shape(tmp_path: Path, source: str) -> None:
    """Bytes, a path and a checked picture all do."""
    path = tmp_path / "hero.jpg"
    path.write_bytes(jpeg())
    shapes: dict[str, Any] = {
        "bytes": jpeg(),
        "path": path,
        "image": Image.from_bytes(jpeg()),
    }

    request = RemoveBackgroundRequest(image=shapes[source])

    assert request.image.media_type == "image/jpeg"


def test_lists_become_tuples() -> None:
    """A request cannot be changed behind its back."""
    request = GenerateRequest(
        prompt="a keep", reference_images=[PICTURE], loras=[Lora(model="x")]
    )

    assert isinstance(request.reference_images, tuple)
    assert request.loras == (Lora(model="x", weight=1.0),)


def test_options_are_taken_by_provider() -> None:
    """A provider sees its own options and nobody else's."""
    request = GenerateRequest(
        prompt="a keep", provider_options={"runware": {"scheduler": "Euler"}}
    )

    assert request.options_for("runware") == {"scheduler": "Euler"}
    assert request.options_for("flux") == {}


@pytest.mark.parametrize(
    ("style", "prompt"),
    [(None, "a keep"), ("", "a keep"), ("oil", "a keep, oil style")],
    ids=repr,
)
def test_the_style_stands_behind_the_prompt(style: str | None, prompt: str) -> None:
    """As the owner's host does."""
    assert GenerateRequest(prompt="a keep", style=style).styled_prompt == prompt


def test_a_request_does_not_print_its_pictures() -> None:
    """Logs show how long the bytes are, not the bytes."""
    assert "IHDR" not in repr(UpscaleRequest(image=PICTURE))
