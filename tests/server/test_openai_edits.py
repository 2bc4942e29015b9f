"""The real clients of OpenAI's Images API work on pictures, unchanged."""

import asyncio
import io
from typing import Any

import pytest
from openai import BadRequestError
from PIL import Image, ImageDraw

from gaia_core import Capability
from gaia_core.requests import GenerateRequest
from gaia_core.testing import FakeProvider, jpeg, png
from gaia_core.testing.pictures import encoded

from .openai_clients import OpenClient, blocking_client_of, client_of, opened

LEFT = (0, 0, 31, 63)
"""The left half of a picture of 64x64."""


def asked(provider: FakeProvider) -> GenerateRequest:
    """Give the latest request of a provider."""
    request = provider.requests[-1]
    assert isinstance(request, GenerateRequest)
    return request


def mask(*, size: tuple[int, int] = (64, 64)) -> bytes:
    """Make a mask of OpenAI's: the left half is transparent, to be edited."""
    picture = Image.new("RGBA", size, (0, 0, 0, 255))
    ImageDraw.Draw(picture).rectangle(LEFT, (0, 0, 0, 0))
    return encoded(picture)


async def test_edit_with_a_mask(open_client: OpenClient) -> None:
    """What is transparent in the mask is repainted, and nothing else is touched."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        response = await client.images.edit(
            image=png(64, 64, "teal"), mask=mask(), prompt="a door", size="64x64"
        )

    picture = opened((response.data or [])[0].b64_json)
    teal = Image.new("RGB", (1, 1), "teal").getpixel((0, 0))
    assert asked(provider).capability is Capability.INPAINTING
    assert picture.getpixel((8, 32)) != teal
    assert picture.crop((32, 0, 64, 64)).getcolors() == [(32 * 64, teal)]


async def test_the_mask_as_gaia_has_it(open_client: OpenClient) -> None:
    """The provider gets white where to repaint, and black where to keep."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        await client.images.edit(
            image=png(64, 64), mask=mask(), prompt="a door", size="64x64"
        )

    given = asked(provider).mask_image
    assert given is not None
    white = given.decode().convert("L")
    assert white.crop((0, 0, 32, 64)).getcolors() == [(2048, 255)]
    assert white.crop((32, 0, 64, 64)).getcolors() == [(2048, 0)]


async def test_edit_without_a_mask(open_client: OpenClient) -> None:
    """Without a mask the whole picture is worked on, in its own size."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        with blocking_client_of(http) as client:
            response = await asyncio.to_thread(
                client.images.edit, image=jpeg(96, 64), prompt="in winter"
            )

    assert asked(provider).capability is Capability.IMAGE_TO_IMAGE
    assert opened((response.data or [])[0].b64_json).size == (96, 64)
    assert response.size == "96x64"


async def test_several_pictures(open_client: OpenClient) -> None:
    """The first picture is worked on, and the others are imitated."""
    provider = FakeProvider()
    pictures = [png(64, 64, colour) for colour in ("red", "green", "blue")]

    async with open_client(provider) as http, client_of(http) as client:
        await client.images.edit(image=pictures, prompt="the party", size="64x64")

    first = asked(provider).image
    others = asked(provider).reference_images
    assert first is not None
    assert first.decode().getpixel((0, 0)) == (255, 0, 0)
    assert [one.decode().getpixel((0, 0)) for one in others] == [
        (0, 128, 0),
        (0, 0, 255),
    ]


async def test_fields_of_the_form(open_client: OpenClient) -> None:
    """Numbers and words of a form reach the provider as those of JSON do."""
    provider = FakeProvider()
    extra = {"seed": 7, "negative_prompt": "fog", "strength": 0.5, "campaign_id": "c"}

    async with open_client(provider) as http, client_of(http) as client:
        response = await client.images.edit(
            image=("keep.png", io.BytesIO(png(64, 64)), "image/png"),
            prompt="in winter",
            n=2,
            output_format="webp",
            input_fidelity="high",
            extra_body=extra,
        )

    assert {name: getattr(asked(provider), name) for name in extra} == extra
    assert len(response.data or []) == 2
    assert opened((response.data or [])[0].b64_json).format == "WEBP"
    ours: Any = response.gaia  # type: ignore[attr-defined]
    assert ours["warnings"] == ["input_fidelity ignored"]


async def test_stored_picture(open_client: OpenClient) -> None:
    """A picture that was made here is worked on by its id, without being sent."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        made = await client.images.generate(prompt="a keep", size="64x64")
        image: Any = (made.data or [])[0]
        response = await http.post(
            "/v1/images/edits",
            data={"prompt": "in winter", "image_id": image.id},
            files={"mask": ("mask.png", mask(), "image/png")},
        )

    assert response.status_code == 200
    assert asked(provider).capability is Capability.INPAINTING


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "opaque mask": ({"mask": png(64, 64)}, "mask"),
    "mask of another size": ({"mask": mask(size=(32, 64))}, "mask"),
    "broken mask": ({"mask": b"no picture"}, "mask"),
    "no picture": ({"image": b"<svg/>"}, "image.0"),
    "too many": ({"n": 11}, "n"),
    "no size": ({"size": "0x0"}, "width"),
    "transparent": ({"background": "transparent"}, "background"),
    "gif": ({"output_format": "gif"}, "output_format"),
    "slip of the pen": ({"extra_body": {"sed": 7}}, "sed"),
    "no prompt": ({"extra_body": {"prompt": ""}}, "prompt"),
}
"""What is wrong, what is sent, and the field that is named."""


async def test_refused(open_client: OpenClient) -> None:
    """What cannot be done is refused by the name of the field, and costs nothing."""
    provider = FakeProvider()
    sent = {"image": png(64, 64), "prompt": "a door", "size": "64x64"}
    named: dict[str, str | None] = {}

    async with open_client(provider) as http, client_of(http) as client:
        for case, (fields, _) in BAD.items():
            with pytest.raises(BadRequestError) as caught:
                await client.images.edit(**(sent | fields))
            named[case] = caught.value.param

    assert named == {case: param for case, (_, param) in BAD.items()}
    assert provider.calls == []


async def test_no_picture(open_client: OpenClient) -> None:
    """A form without a picture says so, and what is no form as well."""
    async with open_client() as http:
        form = await http.post(
            "/v1/images/edits", files={"prompt": (None, "a door"), "n": (None, "1")}
        )
        no_form = await http.post("/v1/images/edits", json={"prompt": "a door"})

    assert (form.status_code, form.json()["error"]["param"]) == (400, "image")
    assert (no_form.status_code, no_form.json()["error"]["code"]) == (415, "not_form")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_variations(open_client: OpenClient) -> None:
    """Variations, which OpenAI retired, are refused with what to do instead."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        with pytest.raises(BadRequestError, match="/v1/images/edits"):
            await client.images.create_variation(image=png(64, 64))

    assert provider.calls == []
