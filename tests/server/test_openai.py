"""The real clients of OpenAI's Images API make pictures from words, unchanged."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from PIL import Image

from gaia_core import Capability, ModelInfo, Price
from gaia_core.png import XMP_KEYWORD, read_text
from gaia_core.requests import GenerateRequest
from gaia_core.results import GeneratedImage, ImageResult
from gaia_core.server.schemas.openai import (
    EditsIn,
    OpenAIImagesOut,
    OpenAIModelsOut,
    OpenAIProblemOut,
)
from gaia_core.testing import FakeProvider, jpeg, png
from gaia_core.testing.pictures import encoded

from .openai_clients import OpenClient, blocking_client_of, client_of, opened


def asked(provider: FakeProvider) -> GenerateRequest:
    """Give the latest request of a provider."""
    request = provider.requests[-1]
    assert isinstance(request, GenerateRequest)
    return request


def answering(data: bytes) -> FakeProvider:
    """Give a provider that answers with this picture once."""
    images = [GeneratedImage(data=data)]
    result = ImageResult(images=images, provider="fake", model="fake")
    return FakeProvider(outcomes=[result])


async def generated(client: AsyncOpenAI, **fields: Any) -> Any:
    """Have one picture made."""
    return await client.images.generate(
        **{"prompt": "a keep", "size": "64x64"} | fields
    )


async def test_async_client(open_client: OpenClient) -> None:
    """Several pictures come in base64, in the size that was asked for."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        response = await client.images.generate(
            prompt="a red dragon", model="auto", size="256x128", n=2
        )

    sizes = [opened(one.b64_json).size for one in response.data or []]
    assert sizes == [(256, 128), (256, 128)]
    assert asked(provider).prompt == "a red dragon"
    assert (response.size, response.output_format) == ("256x128", "png")
    assert response.quality == "medium"


async def test_blocking_client(open_client: OpenClient) -> None:
    """The client without asyncio gets the same picture."""
    async with open_client() as http:
        with blocking_client_of(http) as client:
            response = await asyncio.to_thread(
                client.images.generate, prompt="a keep", size="64x32"
            )

    assert opened((response.data or [])[0].b64_json).size == (64, 32)


async def test_url(open_client: OpenClient) -> None:
    """An address is absolute, and opens for whoever has it."""
    async with open_client() as http, client_of(http) as client:
        response = await generated(client, response_format="url")
        url = response.data[0].url
        picture = await http.get(url)

    assert url.startswith(f"{http.base_url}/api/images/")
    assert response.data[0].b64_json is None
    assert opened(picture.content).size == (64, 64)


async def test_public_url(open_client: OpenClient) -> None:
    """Addresses are those that clients reach the server by."""
    server = {"public_url": "https://pictures.example/gaia"}

    async with open_client(server=server) as http, client_of(http) as client:
        response = await generated(client, response_format="url")

    assert response.data[0].url.startswith("https://pictures.example/gaia/api/images/")


async def test_what_openai_has_no_fields_for(open_client: OpenClient) -> None:
    """The operation, its price and its warnings come beside OpenAI's own fields."""
    provider = FakeProvider(price_usd="0.02")

    async with open_client(provider) as http, client_of(http) as client:
        raw = await client.images.with_raw_response.generate(
            prompt="a keep", size="64x64", moderation="low"
        )
        response: Any = raw.parse()
        looked_up = await http.get(f"/api/operations/{response.gaia['operation_id']}")

    assert response.gaia["cost_usd"] == 0.02
    assert response.gaia["provider"] == "fake"
    assert response.gaia["warnings"] == ["moderation ignored"]
    assert raw.headers["x-request-id"] == response.gaia["operation_id"]
    assert response.usage.total_tokens == 0
    assert looked_up.status_code == 200


EXTRA = {
    "seed": 7,
    "negative_prompt": "fog",
    "campaign_id": "curse-of-strahd",
    "guidance_scale": 5.5,
    "num_inference_steps": 12,
}


async def test_extra_body(open_client: OpenClient) -> None:
    """What Gaia takes besides reaches the provider through ``extra_body``."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        response = await generated(client, extra_body=EXTRA)

    assert {name: getattr(asked(provider), name) for name in EXTRA} == EXTRA
    assert response.data[0].seed == 7


async def test_style(open_client: OpenClient) -> None:
    """OpenAI's word for a style is put behind the prompt, as any style is."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        await generated(client, style="vivid")

    assert asked(provider).styled_prompt == "a keep, vivid style"


async def test_the_document_says_what_comes(open_client: OpenClient) -> None:
    """What the OpenAPI document says of answers and errors is so."""
    body = {"prompt": "a keep", "size": "64x64"}

    async with open_client() as http:
        made = await http.post("/v1/images/generations", json=body)
        listed = await http.get("/v1/models")
        refused = await http.post("/v1/images/generations", json={})

    OpenAIImagesOut.model_validate(made.json())
    OpenAIModelsOut.model_validate(listed.json())
    OpenAIProblemOut.model_validate(refused.json())


async def test_nulls_are_left_out(open_client: OpenClient) -> None:
    """A null is a field that is not there, as other libraries send it."""
    body = {"prompt": "a keep", "n": None, "size": None, "model": ""}

    async with open_client() as http:
        response = await http.post("/v1/images/generations", json=body)

    assert response.status_code == 200
    assert response.json()["size"] == "1024x1024"


GOOD = ModelInfo(
    id="good",
    name="Good",
    provider="studio",
    capabilities=frozenset({Capability.TEXT_TO_IMAGE}),
    quality="very_high",
    price=Price(per_image="0.5"),
)
PLAIN = ModelInfo(
    id="plain",
    name="Plain",
    provider="sketch",
    capabilities=frozenset({Capability.TEXT_TO_IMAGE}),
    quality="standard",
    aliases=("dall-e-3",),
    price=Price(per_image="0.01"),
)


@pytest.mark.parametrize(
    ("quality", "provider"),
    [
        pytest.param("auto", "sketch", id="auto"),
        pytest.param("medium", "sketch", id="medium"),
        pytest.param("high", "studio", id="high"),
        pytest.param("hd", "studio", id="hd"),
    ],
)
async def test_quality(open_client: OpenClient, quality: str, provider: str) -> None:
    """High quality takes the best model there is; otherwise the settings decide."""
    providers = (
        FakeProvider(name="studio", models=[GOOD]),
        FakeProvider(name="sketch", priority=9, models=[PLAIN]),
    )

    async with open_client(*providers) as http, client_of(http) as client:
        response = await generated(client, quality=quality)

    assert response.gaia["provider"] == provider


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        pytest.param("good", "studio", "good", id="identifier"),
        pytest.param("studio/good", "studio", "good", id="provider-and-model"),
        pytest.param("studio/auto", "studio", "good", id="provider"),
        pytest.param("dall-e-3", "sketch", "plain", id="alias"),
        pytest.param("auto", "sketch", "plain", id="auto"),
    ],
)
async def test_model_names(
    open_client: OpenClient, name: str, provider: str, model: str
) -> None:
    """A model is named by its identifier, an alias, or its provider and itself."""
    providers = (
        FakeProvider(name="studio", models=[GOOD]),
        FakeProvider(name="sketch", priority=9, models=[PLAIN]),
    )

    async with open_client(*providers) as http, client_of(http) as client:
        response = await generated(client, model=name)

    ours = response.gaia
    assert ours["provider"] == provider
    # The fake answers in the request's own words for a model.
    assert ours["model"] in {model, name}


async def test_models(open_client: OpenClient) -> None:
    """The list holds ``auto`` and what draws here and now; each can be looked up."""
    providers = (
        FakeProvider(name="studio", models=[GOOD]),
        FakeProvider(name="away", models=[PLAIN], unavailable="no key"),
        FakeProvider(name="finisher", capabilities=[Capability.UPSCALING]),
    )

    async with open_client(*providers) as http, client_of(http) as client:
        listed = [model.id async for model in await client.models.list()]
        one = await client.models.retrieve("studio/good")

    assert listed == ["auto", "good"]
    assert (one.id, one.owned_by, one.object) == ("good", "studio", "model")


async def test_models_of_the_same_name(open_client: OpenClient) -> None:
    """A model that two providers have is named by each of them as well."""
    providers = (
        FakeProvider(name="one", models=[_of("one")]),
        FakeProvider(name="two", models=[_of("two")]),
    )

    async with open_client(*providers) as http, client_of(http) as client:
        listed = {model.id async for model in await client.models.list()}
        response = await generated(client, model="two/flux")

    assert listed == {"auto", "flux", "one/flux", "two/flux"}
    assert response.gaia["provider"] == "two"


def _of(provider: str) -> ModelInfo:
    capabilities = frozenset({Capability.TEXT_TO_IMAGE})
    return ModelInfo(
        id="flux", name="FLUX", provider=provider, capabilities=capabilities
    )


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "openai-door.md"


@pytest.mark.parametrize("name", EditsIn.model_fields)
def test_fields_are_documented(name: str) -> None:
    """The reference names every field that is taken."""
    assert f"`{name}`" in REFERENCE.read_text(encoding="utf-8")


# -- file formats ---------------------------------------------------------------------


async def test_bytes_are_untouched(open_client: OpenClient) -> None:
    """A picture that is what was asked for comes byte by byte as it was made."""
    data = jpeg(64, 64)
    provider = answering(data)

    async with open_client(provider) as http, client_of(http) as client:
        response = await generated(client, output_format="jpeg")

    assert _bytes(response) == data
    assert response.output_format == "jpeg"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_output_format(open_client: OpenClient, kind: str) -> None:
    """Another format is made of it, and says how the picture came to be."""
    made = jpeg(64, 64) if kind == "png" else png(64, 64)
    provider = answering(made)

    async with open_client(provider) as http, client_of(http) as client:
        response = await generated(client, output_format=kind)

    picture = opened(response.data[0].b64_json)
    packet = picture.info.get("xmp") or _packet_of(_bytes(response))
    assert (picture.format, picture.size) == (kind.upper(), (64, 64))
    assert response.output_format == kind
    assert b"/trainedAlgorithmicMedia<" in packet


async def test_output_compression(open_client: OpenClient) -> None:
    """A lower number makes a smaller file."""
    sizes = []
    for compression in (90, 10):
        async with (
            open_client(_noisy()) as http,
            client_of(http) as client,
        ):
            response = await generated(
                client, output_format="webp", output_compression=compression
            )
        sizes.append(len(_bytes(response)))

    assert sizes[1] < sizes[0] / 2


async def test_opaque(open_client: OpenClient) -> None:
    """An opaque background is white where the picture was transparent."""
    provider = answering(png(64, 64, (0, 0, 0, 0), mode="RGBA"))

    async with open_client(provider) as http, client_of(http) as client:
        response = await generated(client, background="opaque")

    picture = opened(response.data[0].b64_json)
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (255, 255, 255))
    assert response.background == "opaque"


def _noisy() -> FakeProvider:
    return answering(encoded(Image.effect_noise((256, 256), 90).convert("RGB")))


def _packet_of(data: bytes) -> bytes:
    return read_text(data)[XMP_KEYWORD].encode()


def _bytes(response: Any) -> bytes:

    return base64.b64decode(response.data[0].b64_json)
