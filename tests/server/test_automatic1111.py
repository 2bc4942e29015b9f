"""The real `webuiapi` client of AUTOMATIC1111 works unchanged."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import webuiapi  # type: ignore[import-untyped]
from PIL import Image, ImageDraw

from gaia_core import Capability
from gaia_core.requests import GenerateRequest, UpscaleRequest
from gaia_core.secrets import Secret
from gaia_core.testing import FakeProvider

from .openai_clients import OpenClient

LEFT = (0, 0, 31, 63)
"""The left half of a picture of 64x64."""
TEAL = (0, 128, 128)


async def called(
    http: httpx.AsyncClient, use: Callable[[Any], Any], **options: Any
) -> Any:
    """Use the client, which blocks, in a thread."""
    address = urlsplit(str(http.base_url))

    def work() -> Any:
        return use(
            webuiapi.WebUIApi(host=address.hostname, port=address.port, **options)
        )

    return await asyncio.to_thread(work)


def asked(provider: FakeProvider) -> GenerateRequest:
    """Give the latest request of a provider."""
    request = provider.requests[-1]
    assert isinstance(request, GenerateRequest)
    return request


def picture(colour: Any = TEAL) -> Image.Image:
    """Make a picture of 64x64."""
    return Image.new("RGB", (64, 64), colour)


def mask(*, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Make a mask of the web UI's: the left half is white, to be repainted."""
    drawn = Image.new("RGB", size, "black")
    ImageDraw.Draw(drawn).rectangle(LEFT, "white")
    return drawn


async def test_txt2img(open_client: OpenClient) -> None:
    """Pictures from words come as pictures, with what made them."""
    provider = FakeProvider(price_usd="0.02")

    async with open_client(provider) as http:
        result = await called(
            http,
            lambda api: api.txt2img(
                prompt="a red dragon",
                negative_prompt="fog",
                seed=7,
                width=128,
                height=64,
                batch_size=2,
                steps=12,
                cfg_scale=5,
            ),
        )

    request = asked(provider)
    assert [one.size for one in result.images] == [(128, 64), (128, 64)]
    assert (request.prompt, request.negative_prompt) == ("a red dragon", "fog")
    assert (request.seed, request.num_images) == (7, 2)
    assert (request.num_inference_steps, request.guidance_scale) == (12, 5)
    assert result.info["all_seeds"] == [7, 8]
    assert result.info["sd_model_name"] == "fake"
    assert "Seed: 7, Size: 128x64" in result.info["infotexts"][0]
    assert result.info["gaia"]["cost_usd"] == 0.04
    assert result.parameters["prompt"] == "a red dragon"


async def test_what_is_not_said(open_client: OpenClient) -> None:
    """What is left out is 512x512; steps, guidance and seed are the model's own."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        response = await http.post("/sdapi/v1/txt2img", json={"prompt": "a keep"})

    request = asked(provider)
    assert (request.width, request.height) == (512, 512)
    assert (request.seed, request.num_inference_steps) == (None, None)
    assert isinstance(response.json()["info"], str)
    assert json.loads(response.json()["info"])["width"] == 512


async def test_img2img(open_client: OpenClient) -> None:
    """A picture is worked on all over, as far as was said."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        result = await called(
            http,
            lambda api: api.img2img(
                images=[picture()],
                prompt="in winter",
                denoising_strength=0.25,
                width=64,
                height=64,
            ),
        )

    assert asked(provider).capability is Capability.IMAGE_TO_IMAGE
    assert asked(provider).strength == 0.25
    assert result.image.size == (64, 64)


@pytest.mark.parametrize(
    ("inverted", "kept"),
    [
        pytest.param(0, (32, 0, 64, 64), id="white-is-repainted"),
        pytest.param(1, (0, 0, 32, 64), id="inverted"),
    ],
)
async def test_img2img_with_a_mask(
    open_client: OpenClient, inverted: int, kept: tuple[int, int, int, int]
) -> None:
    """What is white in the mask is repainted, and nothing else is touched."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        result = await called(
            http,
            lambda api: api.img2img(
                images=[picture()],
                mask_image=mask(),
                inpainting_mask_invert=inverted,
                prompt="a door",
                width=64,
                height=64,
            ),
        )

    drawn = result.image.convert("RGB")
    assert asked(provider).capability is Capability.INPAINTING
    assert drawn.crop(kept).getcolors() == [(32 * 64, TEAL)]
    assert len(drawn.getcolors()) == 2
    assert "mask_blur ignored" in result.info["gaia"]["warnings"]


async def test_mask_of_another_size(open_client: OpenClient) -> None:
    """A mask of another size is stretched over the picture, as the web UI does."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        await called(
            http,
            lambda api: api.img2img(
                images=[picture()],
                mask_image=mask().resize((32, 32)),
                prompt="a door",
                width=64,
                height=64,
            ),
        )

    given = asked(provider).mask_image
    assert given is not None
    assert given.decode().size == (64, 64)
    assert given.decode().convert("L").getpixel((8, 32)) == 255


async def test_upscale(open_client: OpenClient) -> None:
    """A picture is enlarged by a factor, or to a size that is one."""
    provider = FakeProvider()

    async with open_client(provider) as http:
        by_factor = await called(
            http, lambda api: api.extra_single_image(picture(), upscaling_resize=4)
        )
        to_size = await called(
            http,
            lambda api: api.extra_single_image(
                picture(),
                resize_mode=1,
                upscaling_resize_w=128,
                upscaling_resize_h=128,
                upscaler_1=webuiapi.Upscaler.ESRGAN_4x,
            ),
        )

    factors = [
        one.upscale_factor
        for one in provider.requests
        if isinstance(one, UpscaleRequest)
    ]
    assert factors == [4, 2]
    assert by_factor.image.size == (256, 256)
    assert to_size.image.size == (128, 128)
    assert "upscaler_1 ignored" in to_size.info


async def test_remove_background(open_client: OpenClient) -> None:
    """The subject is cut out, by an upscaler of that name or the rembg extension."""
    scene = picture()
    ImageDraw.Draw(scene).rectangle((16, 16, 47, 47), "red")

    async with open_client() as http:
        extra = await called(
            http,
            lambda api: api.extra_single_image(scene, upscaler_1="Remove background"),
        )
        rembg = await called(
            http, lambda api: webuiapi.RemBGInterface(api).rembg(input_image=scene)
        )
        only_mask = await called(
            http,
            lambda api: webuiapi.RemBGInterface(api).rembg(
                input_image=scene, return_mask=True
            ),
        )

    for result in (extra, rembg):
        assert result.image.mode == "RGBA"
        assert result.image.getpixel((0, 0))[3] == 0
        assert result.image.getpixel((32, 32)) == (255, 0, 0, 255)
    assert only_mask.image.getpixel((0, 0)) == 0
    assert only_mask.image.getpixel((32, 32)) == 255


async def test_interrogate(open_client: OpenClient) -> None:
    """A picture is described in words."""
    async with open_client() as http:
        result = await called(http, lambda api: api.interrogate(picture()))

    assert result.info == "A picture of 64x64 pixels."


BAD: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": " "},
    "promt": {"promt": "a"},
    "n_iter": {"batch_size": 8, "n_iter": 2},
    "script_name": {"script_name": "x/y/z plot"},
    "alwayson_scripts.ControlNet": {
        "alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}
    },
    "width": {"width": 9},
    "init_images": {"init_images": ["bm8="]},
    "mask": {"mask": "bm8="},
}
"""The field at fault to what is sent."""


async def test_refused(open_client: OpenClient) -> None:
    """What would come out otherwise than asked for is refused, and costs nothing."""
    provider = FakeProvider()
    encoded = webuiapi.webuiapi.raw_b64_img(picture())
    sent = {"prompt": "a door", "init_images": [encoded]}

    async with open_client(provider) as http:
        answers = {
            field: await http.post("/sdapi/v1/img2img", json=sent | fields)
            for field, fields in BAD.items()
        }

    for field, answer in answers.items():
        assert answer.status_code == 422
        assert answer.json()["errors"].startswith(f"{field}")
        assert {"error", "detail", "body", "errors"} < set(answer.json())
    assert provider.calls == []


async def test_other_factors(open_client: OpenClient) -> None:
    """Factors that nobody enlarges by are refused."""

    def use(api: Any) -> None:
        for factor in (1, 3, 2.5):
            with pytest.raises(RuntimeError, match="upscaling_resize"):
                api.extra_single_image(picture(), upscaling_resize=factor)

    async with open_client() as http:
        await called(http, use)


SILLYTAVERN = {
    "url": "http://localhost:7860",
    "auth": "wizard:gaia_secret",
    "prompt": "a keep <lora:castles:0.8>",
    "negative_prompt": "fog",
    "sampler_name": "Euler a",
    "scheduler": "automatic",
    "steps": 20,
    "cfg_scale": 7,
    "width": 64,
    "height": 64,
    "restore_faces": True,
    "enable_hr": True,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "override_settings": {"CLIP_stop_at_last_layers": 2},
    "override_settings_restore_afterwards": True,
    "clip_skip": 2,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}


async def test_what_sillytavern_sends(open_client: OpenClient) -> None:
    """Everything SillyTavern sends is taken; its password is not given back."""
    async with open_client() as http:
        response = await http.post("/sdapi/v1/txt2img", json=SILLYTAVERN)

    info = json.loads(response.json()["info"])
    assert response.status_code == 200
    assert (info["width"], info["height"]) == (128, 128)
    assert info["gaia"]["warnings"] == [
        "<lora:…> in prompt ignored",
        "override_settings.CLIP_stop_at_last_layers ignored",
        "restore_faces ignored",
        "sampler_name ignored",
    ]
    assert "gaia_secret" not in response.text


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        pytest.param({"hr_scale": 1.5}, (96, 48), id="scale"),
        pytest.param({"hr_resize_x": 128}, (128, 64), id="width"),
        pytest.param({"hr_resize_x": 80, "hr_resize_y": 80}, (80, 80), id="both"),
    ],
)
async def test_second_pass(
    open_client: OpenClient, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    """A second pass that enlarges is one picture of that size at once."""
    provider = FakeProvider()
    body = {"prompt": "a keep", "width": 64, "height": 32, "enable_hr": True}

    async with open_client(provider) as http:
        response = await http.post("/sdapi/v1/txt2img", json=body | fields)
        too_large = await http.post(
            "/sdapi/v1/txt2img", json={**body, "width": 4096, "hr_scale": 4}
        )

    assert response.status_code == 200
    assert (asked(provider).width, asked(provider).height) == size
    assert too_large.status_code == 422


async def test_password(open_client: OpenClient) -> None:
    """The key is the password of any user; without it, one is asked for."""
    server = {"token": Secret("open-sesame-1234"), "require_auth": True}

    async with open_client(auth=None, server=server) as http:
        result = await called(
            http,
            lambda api: api.txt2img(prompt="a keep", width=64, height=64),
            username="wizard",
            password="open-sesame-1234",
        )
        response = await http.get("/sdapi/v1/options")

    assert result.image.size == (64, 64)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic")


async def test_repeated_under_a_key(open_client: OpenClient) -> None:
    """The same request under the same key is made once."""
    provider = FakeProvider()
    headers = {"Idempotency-Key": "scene-1"}
    body = {"prompt": "a keep", "width": 64, "height": 64}

    async with open_client(provider, headers=headers) as http:
        first = await http.post("/sdapi/v1/txt2img", json=body)
        again = await http.post("/sdapi/v1/txt2img", json=body)

    assert again.json()["images"] == first.json()["images"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(provider.charges) == 1
