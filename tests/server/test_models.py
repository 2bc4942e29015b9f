"""What there is to choose from."""

from collections.abc import Sequence
from typing import Any

import attrs

from gaia_core import Capability, ModelInfo, ModelState, Price
from gaia_core.hookspecs import hookimpl
from gaia_core.server import Principal, Scope
from gaia_core.server.schemas.answers import ModelsOut
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient

INK = ModelInfo(
    id="ink@1",
    name="Ink",
    provider="studio",
    capabilities={Capability.TEXT_TO_IMAGE, Capability.INPAINTING},
    max_width=2048,
    max_height=1024,
    supported_fields={"negative_prompt", "seed"},
    price=Price(base="0.01", per_step="0.001"),
    default_steps=20,
    quality="high",
    creator="Inkers",
    aliases=("ink",),
)
ZOOM = ModelInfo(
    id="zoom",
    name="Zoom",
    provider="studio",
    capabilities={Capability.UPSCALING},
    upscale_factors={2},
)


async def test_models_are_told_as_the_host_knows_them(open_client: OpenClient) -> None:
    """The owner's fields, and what else decides about a choice."""
    studio = FakeProvider(name="studio", models=[INK, ZOOM])
    async with open_client(studio) as client:
        answer = await client.get("/api/images/models")

    ModelsOut.model_validate(answer.json())
    ink, zoom = answer.json()["models"]
    expected: dict[str, Any] = {
        "id": "ink@1",
        "name": "Ink",
        "provider": "studio",
        "type": "text-to-image",
        "max_resolution": "2048x1024",
        "supports_negative_prompt": True,
        "estimated_cost": 0.03,
        "quality": "high",
        "capabilities": ["inpainting", "text-to-image"],
        "creator": "Inkers",
        "aliases": ["ink"],
        "price": {"base": 0.01, "per_step": 0.001},
        "unavailable": None,
    }
    assert {name: ink[name] for name in expected} == expected
    assert (zoom["type"], zoom["estimated_cost"], zoom["price"]) == (
        "upscaling",
        None,
        None,
    )
    assert zoom["upscale_factors"] == [2]


async def test_models_are_chosen_by_what_they_can_do_and_whose_they_are(
    open_client: OpenClient,
) -> None:
    """`capability` and `provider` leave the others out."""
    studio = FakeProvider(name="studio", models=[INK, ZOOM])
    async with open_client(studio, FakeProvider(name="other")) as client:
        able = await client.get("/api/images/models?capability=upscaling")
        own = await client.get("/api/images/models?provider=studio")
        unknown = await client.get("/api/images/models?provider=nobody")
        unable = await client.get("/api/images/models?capability=flying")

    assert [one["id"] for one in able.json()["models"]] == ["other", "zoom"]
    assert [one["id"] for one in own.json()["models"]] == ["ink@1", "zoom"]
    assert unknown.json()["details"][0]["field"] == "provider"
    assert unable.json()["details"][0]["field"] == "capability"


async def test_who_cannot_work_is_listed_with_the_reason(
    open_client: OpenClient,
) -> None:
    """A reason a person can act on; the words of an exception are none."""

    class Broken(FakeProvider):
        @hookimpl
        async def gaia_list_models(self) -> Sequence[ModelInfo]:
            message = "sk-canary refused at 10.0.0.7"
            raise_in = [message]
            raise ZeroDivisionError(raise_in[0])

    down = FakeProvider(name="down", unavailable="DOWN_KEY is not set")
    async with open_client(down, Broken(name="broken")) as client:
        answer = await client.get("/api/images/models")

    reasons = {one["name"]: one["unavailable"] for one in answer.json()["providers"]}
    assert reasons == {
        "down": "DOWN_KEY is not set",
        "broken": "listing its models failed",
    }
    assert answer.json()["models"][0]["unavailable"] == "DOWN_KEY is not set"


def _absent() -> ModelState:
    return ModelState(word="absent", unavailable="run `studio pull`")


async def test_a_model_that_is_not_there_is_listed_with_the_reason(
    open_client: OpenClient,
) -> None:
    """The page shows it; a plan passes it over; other programs' lists leave it out."""
    away = attrs.evolve(INK, state=_absent)
    studio = FakeProvider(name="studio", models=[away, ZOOM])
    async with open_client(studio) as client:
        listed = (await client.get("/api/images/models")).json()
        asked = {"prompt": "a dragon", "model": "ink"}
        plan = (await client.post("/api/images/plan", json=asked)).json()
        openai = (await client.get("/v1/models")).json()

    assert [one["unavailable"] for one in listed["models"]] == [
        "run `studio pull`",
        None,
    ]
    assert plan["can_be_served"] is False
    assert "run `studio pull`" in str(plan["rejections"])
    assert "ink@1" not in {one["id"] for one in openai["data"]}


async def test_asking_the_vendors_is_for_makers(open_client: OpenClient) -> None:
    """The plain list is for every caller; searching and refreshing cost effort."""
    reader = Principal(name="ann", scopes={Scope.MONITOR})
    async with open_client(auth=lambda: reader) as client:
        plain = await client.get("/api/images/models")
        asking = [
            await client.get(f"/api/images/models?{query}")
            for query in ("search=ink", "refresh=true")
        ]
    async with open_client(auth=lambda: None) as client:
        nobody = await client.get("/api/images/models")

    assert plain.status_code == 200
    assert [answer.status_code for answer in asking] == [403, 403]
    assert nobody.status_code == 401


async def test_vendors_are_searched(open_client: OpenClient) -> None:
    """Makers look for models in the vendors' catalogues, and may name what is found."""

    class Searching(FakeProvider):
        @hookimpl
        async def gaia_list_models(  # type: ignore[override]  # hooks take what they want
            self,
            refresh: bool,  # noqa: ARG002  the interface
            search: str | None,
        ) -> Sequence[ModelInfo]:
            return [ZOOM] if search else [INK]

    async with open_client(Searching(name="studio")) as client:
        found = await client.get("/api/images/models?search=zoom")
        refreshed = await client.get("/api/images/models?refresh=1&provider=studio")

    assert [one["id"] for one in found.json()["models"]] == ["zoom"]
    assert "ink@1" in [one["id"] for one in refreshed.json()["models"]]
