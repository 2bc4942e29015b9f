"""What clients of AUTOMATIC1111 look up and choose, and the work they watch."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request

from gaia_core import Capability, ModelInfo
from gaia_core.context import CallContext
from gaia_core.images import Image
from gaia_core.server import Principal
from gaia_core.server.schemas.automatic1111 import (
    ExtraIn,
    Img2ImgIn,
    RembgIn,
    Txt2ImgIn,
)
from gaia_core.testing import FakeProvider, png
from tests.waiting import HeldProvider, until

from .openai_clients import OpenClient
from .test_automatic1111 import called

DRAWS = frozenset({Capability.TEXT_TO_IMAGE})


def card(name: str, *capabilities: Capability) -> ModelInfo:
    """Make the card of a model of the provider ``studio``."""
    return ModelInfo(
        id=name,
        name=name.title(),
        provider="studio",
        capabilities=frozenset(capabilities) or DRAWS,
    )


STUDIO = (card("flux"), card("schnell"), card("esrgan", Capability.UPSCALING))


async def named(request: Request) -> Principal:
    """Name callers by their key."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    return Principal(name=key or "anybody")


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "automatic1111-door.md"
BODIES = (Txt2ImgIn, Img2ImgIn, ExtraIn, RembgIn)
FIELDS = {name for body in BODIES for name in body.model_fields}
IGNORABLE = {name for body in BODIES[:3] for name in body.ignorable}


@pytest.mark.parametrize("name", sorted(FIELDS | IGNORABLE))
def test_fields_are_documented(name: str) -> None:
    """The reference names every field that is taken, heeded or not."""
    assert f"`{name}`" in REFERENCE.read_text(encoding="utf-8")


async def test_models(open_client: OpenClient) -> None:
    """The list holds what draws, ``auto`` first."""
    provider = FakeProvider(name="studio", models=STUDIO)

    async with open_client(provider) as http:
        models = await called(http, lambda api: api.get_sd_models())
        names = await called(http, lambda api: api.util_get_model_names())

    assert [model["title"] for model in models] == ["auto", "flux", "schnell"]
    assert [model["model_name"] for model in models] == ["Automatic", "Flux", "Schnell"]
    assert names == ["auto", "flux", "schnell"]


async def test_upscalers(open_client: OpenClient) -> None:
    """The list holds what enlarges, and what cuts out where somebody can."""
    studio = FakeProvider(name="studio", models=STUDIO)
    cutter = FakeProvider(name="cut", capabilities=[Capability.BACKGROUND_REMOVAL])

    async with open_client(studio, cutter) as http:
        upscalers = await called(http, lambda api: api.get_upscalers())

    names = [upscaler["name"] for upscaler in upscalers]
    assert names == ["None", "esrgan", "Remove background"]


async def test_choosing_a_model(open_client: OpenClient) -> None:
    """The model that was chosen draws from then on, and a request may name another."""
    provider = FakeProvider(name="studio", models=STUDIO)

    def use(api: Any) -> tuple[str, str, str]:
        before = api.util_get_current_model()
        api.util_set_model("schnell")
        after = api.util_get_current_model()
        api.txt2img(prompt="a keep", width=64, height=64)
        settings = {"sd_model_checkpoint": "flux"}
        api.txt2img(prompt="a keep", width=64, height=64, override_settings=settings)
        return before, after, api.util_get_current_model()

    async with open_client(provider) as http:
        current = await called(http, use)

    assert current == ("auto", "schnell", "schnell")
    assert [request.model for request in provider.requests] == ["schnell", "flux"]


async def test_everybody_chooses_for_themselves(open_client: OpenClient) -> None:
    """What one caller chooses is nothing to another."""
    provider = FakeProvider(name="studio", models=STUDIO)
    mine, yours = ({"Authorization": f"Bearer {name}"} for name in ("me", "you"))

    async with open_client(provider, auth=named) as http:
        chosen = {"sd_model_checkpoint": "flux"}
        await http.post("/sdapi/v1/options", json=chosen, headers=mine)
        own = await http.get("/sdapi/v1/options", headers=mine)
        others = await http.get("/sdapi/v1/options", headers=yours)

    assert own.json()["sd_model_checkpoint"] == "flux"
    assert others.json()["sd_model_checkpoint"] == "auto"


async def test_options_as_open_webui_sets_them(open_client: OpenClient) -> None:
    """All options may be sent back with another model; nothing else can be changed."""
    provider = FakeProvider(name="studio", models=STUDIO)

    async with open_client(provider) as http:
        options = (await http.get("/sdapi/v1/options")).json()
        options["sd_model_checkpoint"] = "flux"
        changed = await http.post("/sdapi/v1/options", json=options)
        foreign = await http.post(
            "/sdapi/v1/options", json={"outdir_samples": "elsewhere"}
        )
        unknown = await http.post(
            "/sdapi/v1/options", json={"sd_model_checkpoint": "v1-5"}
        )

    assert (changed.status_code, changed.json()) == (200, None)
    assert foreign.status_code == 422
    assert "outdir_samples" in foreign.json()["errors"]
    assert unknown.status_code == 404


LISTS = {
    "samplers": 1,
    "schedulers": 1,
    "sd-vae": 0,
    "loras": 0,
    "prompt-styles": 0,
    "latent-upscale-modes": 0,
    "hypernetworks": 0,
    "face-restorers": 0,
    "realesrgan-models": 0,
}


async def test_lists(open_client: OpenClient) -> None:
    """What clients look up when they start is a list, mostly an empty one."""
    async with open_client() as http:
        responses = {name: await http.get(f"/sdapi/v1/{name}") for name in LISTS}

    lengths = {name: len(one.json()) for name, one in responses.items()}
    assert {one.status_code for one in responses.values()} == {200}
    assert lengths == LISTS


async def test_the_rest(open_client: OpenClient) -> None:
    """The other things clients look up have the form they expect, and tell nothing."""
    async with open_client() as http:
        flags = await called(http, lambda api: api.get_cmd_flags())
        memory = await called(http, lambda api: api.get_memory())
        embeddings = await called(http, lambda api: api.get_embeddings())
        scripts = await called(http, lambda api: api.get_scripts())
        await called(http, lambda api: api.refresh_checkpoints())
        missing = await http.get("/sdapi/v1/server-kill")

    assert flags == {"api": True}
    assert set(memory) == {"ram", "cuda"}
    assert embeddings == {"loaded": {}, "skipped": {}}
    assert scripts == {"txt2img": [], "img2img": []}
    assert missing.status_code == 404


class Painter(HeldProvider):
    """Shows a preview at once, and then waits to be let go."""

    async def _take_time(self, context: CallContext) -> None:
        context.progress(0.25, Image.from_bytes(png(8, 8)))
        await super()._take_time(context)


async def test_progress(open_client: OpenClient) -> None:
    """The caller's own request can be watched, and nobody else's."""
    provider = Painter()
    mine, yours = ({"Authorization": f"Bearer {name}"} for name in ("me", "you"))
    body = {"prompt": "a keep", "width": 64, "height": 64}

    async with open_client(provider, auth=named) as http:
        asking = asyncio.create_task(
            http.post("/sdapi/v1/txt2img", json=body, headers=mine)
        )
        await provider.called()
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["progress"] < 0.25:
            response = await http.get("/sdapi/v1/progress", headers=mine)
            seen.append(response.json())
        others = await http.get("/sdapi/v1/progress", headers=yours)
        blind = await http.get(
            "/sdapi/v1/progress", params={"skip_current_image": True}, headers=mine
        )
        provider.go.set()
        await asking
        after = await http.get("/sdapi/v1/progress", headers=mine)

    assert seen[-1]["state"]["job_count"] == 1
    assert seen[-1]["current_image"]
    assert blind.json()["current_image"] is None
    for idle in (others.json(), after.json()):
        assert (idle["progress"], idle["state"]["job_count"]) == (0.0, 0)


async def test_interrupt(open_client: OpenClient) -> None:
    """What is interrupted ends at once; what was sent by then is kept."""
    provider = HeldProvider(price_usd="0.02")
    mine, yours = ({"Authorization": f"Bearer {name}"} for name in ("me", "you"))
    body = {"prompt": "a keep", "width": 64, "height": 64}

    async with open_client(provider, auth=named) as http:
        asking = asyncio.create_task(
            http.post("/sdapi/v1/txt2img", json=body, headers=mine)
        )
        await provider.called()
        await http.post("/sdapi/v1/interrupt", headers=yours)
        is_untouched = not asking.done()
        await http.post("/sdapi/v1/interrupt", headers=mine)
        response = await asking
        provider.go.set()

    assert is_untouched
    assert (response.status_code, response.json()["error"]) == (409, "interrupted")
    assert len(provider.charges) == 1


async def test_waiting_until_ready(open_client: OpenClient) -> None:
    """A client that waits for the server to be idle goes on when it is."""
    provider = HeldProvider()
    body = {"prompt": "a keep", "width": 64, "height": 64}

    async with open_client(provider) as http:
        asking = asyncio.create_task(http.post("/sdapi/v1/txt2img", json=body))
        await provider.called()
        waiting = asyncio.create_task(
            called(http, lambda api: api.util_wait_for_ready(check_interval=0.05))
        )
        provider.go.set()
        await asking
        await until(waiting.done)

    assert waiting.exception() is None
