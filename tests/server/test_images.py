"""The making routes: what a client sends reaches the provider, and comes back."""

import base64
import hashlib
from io import BytesIO
from typing import Any, cast

import httpx
import pytest
from PIL import Image as Pillow

from gaia_core import GenerateRequest, ProviderInfo, UpscaleRequest
from gaia_core.errors import AuthenticationError
from gaia_core.hookspecs import hookimpl
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    Lora,
    Outpaint,
    RemoveBackgroundRequest,
)
from gaia_core.server import Principal, Scope
from gaia_core.server.schemas.answers import DescriptionOut, ImagesOut, PromptOut
from gaia_core.testing import FakeProvider, png
from tests.server.conftest import OpenClient

SMALL = {"prompt": "a red dragon", "size": "64x64"}


def encoded(data: bytes) -> str:
    """Write a picture as clients send it."""
    return base64.b64encode(data).decode()


def size_of(data: bytes) -> tuple[int, int]:
    """Open a picture and tell its size."""
    return Pillow.open(BytesIO(data)).size


def fields_of(answer: httpx.Response) -> list[str]:
    """Name the fields a problem is about."""
    return [detail["field"] for detail in answer.json()["details"]]


async def make(client: httpx.AsyncClient, verb: str, **body: Any) -> httpx.Response:
    """Ask for something; the answer must be a good one."""
    answer = await client.post(f"/api/images/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(name="fake")
def _fake() -> FakeProvider:
    return FakeProvider(price_usd="0.01")


# -- drawing ------------------------------------------------------------------------


async def test_a_picture_is_made_and_can_be_opened(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """The answer has the owner's fields, and its address opens the picture."""
    async with open_client(fake) as client:
        answer = (await make(client, "generate", **SMALL)).json()
        picture = await client.get(answer["image_url"])

    ImagesOut.model_validate(answer)
    assert answer["success"] is True
    assert answer["error"] is None
    assert (answer["service"], answer["model"]) == ("fake", "fake")
    assert answer["cost_usd"] == 0.01
    assert answer["generation_time"] >= 0
    assert [one["outcome"] for one in answer["attempts"]] == ["ok"]
    assert answer["image_path"].startswith("objects/")
    assert hashlib.sha256(picture.content).hexdigest() == answer["images"][0]["sha256"]
    assert size_of(picture.content) == (64, 64)


async def test_every_field_reaches_the_provider(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Nothing a client says is dropped on the way."""
    picture, mask, reference = png(32, 16), png(32, 16, "white"), png(16, 16, "red")
    async with open_client(fake) as client:
        await make(
            client,
            "generate",
            prompt="a keep",
            model="fake",
            provider="fake",
            width=128,
            height=96,
            style="fantasy art",
            n=2,
            negative_prompt="people",
            seed=7,
            guidance_scale=3.5,
            num_inference_steps=9,
            strength=0.4,
            loras=[{"model": "ink", "weight": 0.5}],
            image_base64=encoded(picture),
            mask={"image_base64": encoded(mask)},
            outpaint={"left": 16},
            reference_images=[{"image_base64": encoded(reference)}],
            campaign_id="storm",
            user_id="mira",
            provider_options={"fake": {"scheduler": "Euler"}},
        )

    (request,) = fake.requests
    assert isinstance(request, GenerateRequest)
    assert (request.prompt, request.style) == ("a keep", "fantasy art")
    assert (request.model, request.provider) == ("fake", "fake")
    assert (request.width, request.height, request.num_images) == (128, 96, 2)
    assert (request.negative_prompt, request.seed) == ("people", 7)
    assert (request.guidance_scale, request.num_inference_steps) == (3.5, 9)
    assert (request.strength, request.loras) == (0.4, (Lora(model="ink", weight=0.5),))
    assert request.outpaint == Outpaint(left=16)
    assert request.image is not None
    assert request.mask_image is not None
    assert (request.image.width, request.mask_image.height) == (32, 16)
    assert [one.width for one in request.reference_images] == [16]
    assert (request.campaign_id, request.user_id) == ("storm", "mira")
    assert request.options_for("fake") == {"scheduler": "Euler"}


async def test_nothing_is_put_behind_the_prompt_unless_asked_for(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Without a style the prompt is drawn as it stands; so is an empty one."""
    async with open_client(fake) as client:
        await make(client, "generate", **SMALL)
        await make(client, "generate", **SMALL, style="", negative_prompt="")

    assert [request.style for request in fake.requests] == [None, None]  # type: ignore[attr-defined]


async def test_size(open_client: OpenClient, fake: FakeProvider) -> None:
    """The size is what was asked for, or the picture's own, or 1024x1024."""
    picture = {"image_base64": encoded(png(48, 24))}
    cases: list[tuple[dict[str, Any], tuple[int, int]]] = [
        ({}, (1024, 1024)),
        ({"size": "64x32"}, (64, 32)),
        ({"width": 64, "height": 32}, (64, 32)),
        ({"size": "64x32", "width": 64}, (64, 32)),
        ({"width": 64}, (64, 1024)),
        (picture, (48, 24)),
        ({**picture, "outpaint": {"left": 8, "bottom": 4}}, (56, 28)),
        ({**picture, "size": "64x32"}, (64, 32)),
    ]
    async with open_client(fake) as client:
        for asked, _ in cases:
            await make(client, "generate", prompt="a keep", **asked)

    made = [(one.width, one.height) for one in cast("list[Any]", fake.requests)]
    assert made == [size for _, size in cases]


async def test_bytes_come_along_where_asked_for(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`b64_json` brings each picture, byte for byte as it is stored."""
    async with open_client(fake) as client:
        answer = await make(
            client, "generate", **SMALL, n=3, seed=1, response_format="b64_json"
        )
        images = answer.json()["images"]
        stored = [(await client.get(image["url"])).content for image in images]

    assert [base64.b64decode(image["b64_json"]) for image in images] == stored
    assert len(set(stored)) == 3
    ImagesOut.model_validate(answer.json())


async def test_its_service_has_the_name_people_know(open_client: OpenClient) -> None:
    """`service` is the provider's own name for itself; `provider` is ours."""

    class Named(FakeProvider):
        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            return ProviderInfo(
                name="fake", capabilities=self.capabilities, display_name="Fake & Sons"
            )

    async with open_client(Named()) as client:
        answer = (await make(client, "generate", **SMALL)).json()

    assert (answer["service"], answer["provider"]) == ("Fake & Sons", "fake")


async def test_addresses_are_where_clients_reach_the_server(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Behind a proxy, addresses begin as `public_url` says."""
    server = {"public_url": "https://pictures.example/gaia/"}
    async with open_client(fake, server=server) as client:
        answer = (await make(client, "generate", **SMALL)).json()

    start = "https://pictures.example/gaia/api/images/"
    assert answer["image_url"].startswith(start)


# -- the other verbs ----------------------------------------------------------------


async def test_a_region_is_repainted(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`inpaint` needs a picture and a mask, and passes both on."""
    async with open_client(fake) as client:
        answer = await make(
            client,
            "inpaint",
            prompt="a door",
            image_base64=encoded(png(32, 32)),
            mask={"image_base64": f"data:image/png;base64,{encoded(png(32, 32))}"},
        )

    (request,) = fake.requests
    assert request.capability == "inpainting"
    assert answer.json()["images"][0]["width"] == 32


async def test_a_picture_is_extended(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`outpaint` makes the picture as much larger as asked for."""
    async with open_client(fake) as client:
        answer = await make(
            client,
            "outpaint",
            prompt="more sky",
            image_base64=encoded(png(32, 32)),
            outpaint={"top": 16},
        )

    (request,) = fake.requests
    assert request.capability == "outpainting"
    assert answer.json()["images"][0]["height"] == 48


async def test_a_stored_picture_is_enlarged(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`upscale` takes a picture of before by its id, and by its `image_path`."""
    async with open_client(fake) as client:
        made = (await make(client, "generate", **SMALL)).json()
        by_id = await make(client, "upscale", image_id=made["images"][0]["id"])
        by_path = await make(
            client, "upscale", image_path=made["image_path"], upscale_factor=2
        )

    first, second = fake.requests[1:]
    assert isinstance(first, UpscaleRequest)
    assert isinstance(second, UpscaleRequest)
    assert (first.upscale_factor, second.upscale_factor) == (4, 2)
    assert by_id.json()["images"][0]["width"] == 256
    assert by_path.json()["images"][0]["width"] == 128


async def test_a_subject_is_cut_out(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`remove-background` gives a picture that can be transparent."""
    async with open_client(fake) as client:
        answer = await make(
            client, "remove-background", image_base64=encoded(png(32, 32))
        )
        picture = await client.get(answer.json()["image_url"])

    (request,) = fake.requests
    assert isinstance(request, RemoveBackgroundRequest)
    assert Pillow.open(BytesIO(picture.content)).mode == "RGBA"


async def test_a_prompt_is_worked_out(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`enhance-prompt` answers with words instead of pictures."""
    async with open_client(fake) as client:
        answer = await make(client, "enhance-prompt", prompt="a keep", max_length=12)

    (request,) = fake.requests
    assert isinstance(request, EnhancePromptRequest)
    assert PromptOut.model_validate(answer.json()).prompt == "a keep, high"


async def test_a_picture_is_described(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`describe` answers with words, and passes the question on."""
    async with open_client(fake) as client:
        answer = await make(
            client, "describe", image_base64=encoded(png(32, 16)), question="How large?"
        )

    (request,) = fake.requests
    assert isinstance(request, DescribeImageRequest)
    assert request.question == "How large?"
    words = DescriptionOut.model_validate(answer.json()).description
    assert words == "A picture of 32x16 pixels."


# -- choices ------------------------------------------------------------------------


async def test_choices_are_heeded(open_client: OpenClient) -> None:
    """Policy, ceiling and allowed providers decide who is asked."""
    dear = FakeProvider(name="dear", price_usd="0.50", priority=9)
    fair = FakeProvider(name="fair", price_usd="0.05", priority=5)
    free = FakeProvider(name="free", price_usd=0)
    async with open_client(dear, fair, free) as client:
        plain = await make(client, "generate", **SMALL)
        cheap = await make(client, "generate", **SMALL, policy="cheapest")
        capped = await make(client, "generate", **SMALL, max_cost_usd=0.1)
        named = await make(client, "generate", **SMALL, allowed_providers=["free"])

    answers = [one.json()["provider"] for one in (plain, cheap, capped, named)]
    assert answers == ["dear", "free", "fair", "free"]


async def test_equal_requests_share_an_answer_where_asked_for(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """`reuse` gives the answer to an equal request; nothing is paid for it."""
    async with open_client(fake) as client:
        await make(client, "generate", **SMALL, reuse=True)
        again = (await make(client, "generate", **SMALL, reuse=True)).json()

    assert len(fake.calls) == 1
    assert (again["is_reused"], again["cost_usd"]) == (True, 0.0)


async def test_a_fallback_is_told(open_client: OpenClient) -> None:
    """The answer lists who was tried before, and what that changed."""
    refusal = AuthenticationError("key sk-secret is wrong")
    down = FakeProvider.failing(refusal, name="down", priority=9)
    async with open_client(down, FakeProvider(name="up")) as client:
        answer = (await make(client, "generate", **SMALL, model="up")).json()
        other = (await make(client, "generate", **SMALL)).json()

    assert answer["provider"] == "up"
    assert [one["provider"] for one in other["attempts"]][-1] == "up"
    assert other["attempts"][0]["outcome"] == "rejected_auth"
    assert other["warnings"] == ["down/down failed; served by up/up"]


# -- who asks -----------------------------------------------------------------------


async def test_a_caller_pays_under_their_own_name(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """Budgets of a user are budgets of a key, unless the key may say for whom."""
    async with open_client(fake, auth=lambda: "mira") as client:
        await make(client, "generate", **SMALL)
        await make(client, "generate", **SMALL, user_id="mira")
        other = await client.post(
            "/api/images/generate", json={**SMALL, "user_id": "bob"}
        )

    assert [request.user_id for request in fake.requests] == ["mira", "mira"]
    assert other.status_code == 403
    assert other.json()["error_code"] == "forbidden"
    assert fields_of(other) == ["user_id"]


async def test_a_host_speaks_for_its_users(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """A key with the scope for it names the user that pays."""
    host = Principal(name="host", scopes={Scope.MAKE, Scope.ON_BEHALF})
    async with open_client(fake, auth=lambda: host) as client:
        await make(client, "generate", **SMALL, user_id="bob")
        await make(client, "generate", **SMALL)

    assert [request.user_id for request in fake.requests] == ["bob", "host"]


async def test_pictures_of_others_are_not_there(
    open_client: OpenClient, fake: FakeProvider
) -> None:
    """A picture by id is one's own, or there is none of that id."""
    who = iter(["ann", "bob"])
    async with open_client(fake, auth=lambda: next(who)) as client:
        made = (await make(client, "generate", **SMALL)).json()
        answer = await client.post(
            "/api/images/upscale", json={"image_id": made["images"][0]["id"]}
        )

    assert answer.status_code == 404
    assert fields_of(answer) == ["image_id"]
