"""Requests that can never be served, and plans: both cost nothing."""

import base64
from typing import Any

import httpx

from gaia_core import Capability, ModelInfo
from gaia_core.testing import FakeProvider, png
from tests.server.conftest import OpenClient

SMALL = {"prompt": "a red dragon", "size": "64x64"}
PICTURE = {"image_base64": base64.b64encode(png()).decode()}
ID = "0" * 32

REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "no prompt": ("generate", {}, ["prompt"]),
    "empty prompt": ("generate", {"prompt": ""}, ["prompt"]),
    "blank prompt": ("generate", {"prompt": " "}, ["prompt"]),
    "no text": ("generate", {"prompt": "a\0b"}, ["prompt"]),
    "long prompt": ("generate", {"prompt": "a" * 8_001}, ["prompt"]),
    "too many": ("generate", {**SMALL, "n": 9}, ["n"]),
    "seed": ("generate", {**SMALL, "seed": -1}, ["seed"]),
    "huge seed": ("generate", {**SMALL, "seed": 2**70}, ["seed"]),
    "no size": ("generate", {**SMALL, "size": "64"}, ["size"]),
    "wide": ("generate", {"prompt": "a", "width": 9_000}, ["width"]),
    "narrow": ("generate", {"prompt": "a", "size": "9x64"}, ["width"]),
    "two sizes": ("generate", {**SMALL, "width": 65}, ["size"]),
    "large": ("generate", {"prompt": "a", "size": "8192x8192"}, ["size"]),
    "unknown field": ("generate", {**SMALL, "hue": 1}, ["hue"]),
    "alone": ("generate", {**SMALL, "strength": 0.5}, ["strength"]),
    "mask alone": ("generate", {**SMALL, "mask": PICTURE}, ["mask"]),
    "heavy": (
        "generate",
        {**SMALL, "loras": [{"model": "ink", "weight": 9}]},
        ["loras"],
    ),
    "options for nobody": (
        "generate",
        {**SMALL, "provider_options": {"nobody": {}}},
        ["provider_options"],
    ),
    "reference": (
        "generate",
        {**SMALL, "reference_images": [{"image_base64": "AAAA"}]},
        ["reference_images.0.image_base64"],
    ),
    "no mask": ("inpaint", {**SMALL, **PICTURE}, ["mask"]),
    "mask of another size": (
        "inpaint",
        {
            "prompt": "a",
            **PICTURE,
            "mask": {"image_base64": base64.b64encode(png(8, 8)).decode()},
        },
        ["mask"],
    ),
    "no picture": ("upscale", {}, ["image_id"]),
    "two pictures": (
        "upscale",
        {"image_id": ID, "image_path": "a.png"},
        ["image_id", "image_path"],
    ),
    "base64": ("describe", {"image_base64": "%"}, ["image_base64"]),
    "nothing to start from": (
        "outpaint",
        {**SMALL, "outpaint": {"top": 8}},
        ["image_id"],
    ),
    "extended by nothing": (
        "outpaint",
        {**SMALL, **PICTURE, "outpaint": {}},
        ["outpaint"],
    ),
    "factor": ("upscale", {**PICTURE, "upscale_factor": 3}, ["upscale_factor"]),
    "no operation": ("plan", {**SMALL, "operation": "paint"}, ["operation"]),
    "planned": ("plan", {"operation": "describe", "question": "?"}, ["image_id"]),
    "planned field": ("plan", {"operation": "upscale", "hue": 1}, ["hue"]),
    "no body": ("generate", [], [""]),  # type: ignore[dict-item]
}
"""What is refused: the verb, the body, and the fields that are named."""

PLANNED: dict[str, dict[str, Any]] = {
    "text-to-image": {"prompt": "a", "operation": "generate"},
    "image-to-image": {"prompt": "a", **PICTURE},
    "inpainting": {"prompt": "a", **PICTURE, "mask": PICTURE, "operation": "inpaint"},
    "outpainting": {
        "prompt": "a",
        **PICTURE,
        "outpaint": {"top": 8},
        "operation": "outpaint",
    },
    "upscaling": {**PICTURE, "operation": "upscale"},
    "background-removal": {**PICTURE, "operation": "remove-background"},
    "prompt-enhancement": {"prompt": "a", "operation": "enhance-prompt"},
    "image-description": {**PICTURE, "operation": "describe"},
}
"""Capability to a body that takes it."""


def fields_of(answer: httpx.Response) -> list[str]:
    """Name the fields a problem is about."""
    return [detail["field"] for detail in answer.json()["details"]]


async def test_what_can_never_be_served_is_refused_by_its_field(
    open_client: OpenClient,
) -> None:
    """The answer names the field and what is wrong with it; nothing is asked."""
    fake = FakeProvider()
    found = {}
    async with open_client(fake) as client:
        for name, (verb, body, _) in REFUSED.items():
            answer = await client.post(f"/api/images/{verb}", json=body)
            assert answer.status_code == 422, (name, answer.text)
            code = answer.json()["error_code"]
            assert code in {"invalid_request", "invalid_image"}, name
            assert all(one["message"] for one in answer.json()["details"]), name
            found[name] = fields_of(answer)

    assert found == {name: fields for name, (_, _, fields) in REFUSED.items()}
    assert not fake.calls


async def test_what_a_client_sent_is_not_repeated(open_client: OpenClient) -> None:
    """Details say what is accepted, not what came: it may be a secret, or long."""
    canary = "canary" * 2_000
    bodies: list[Any] = [
        {"prompt": canary},
        {"prompt": "a", "model": [canary]},
        {"prompt": "a", "policy": canary},
        {"prompt": "a", canary: 1},
        [canary],
    ]
    async with open_client() as client:
        answers = [
            await client.post("/api/images/generate", json=body) for body in bodies
        ]

    assert [answer.status_code for answer in answers] == [422] * len(bodies)
    assert all(canary not in answer.text for answer in answers)
    assert all(len(answer.content) < 1_000 for answer in answers)


async def test_broken_json_is_refused(open_client: OpenClient) -> None:
    """A body that is no JSON, or JSON nobody can keep, is a problem of the client's."""
    bodies = [b"{", b'{"prompt": NaN}', b"\xff", b'{"prompt": "\\ud800"}', b"[" * 5_000]
    kind = {"Content-Type": "application/json"}
    async with open_client() as client:
        answers = [
            await client.post("/api/images/generate", content=body, headers=kind)
            for body in bodies
        ]

    assert [answer.status_code for answer in answers] == [422] * len(bodies)


# -- plans ----------------------------------------------------------------------------


async def test_a_plan_tells_who_at_which_price_and_why_nobody_else(
    open_client: OpenClient,
) -> None:
    """The plan ranks, prices, and gives a reason for everybody passed over."""
    dear = FakeProvider(name="dear", price_usd="0.50", priority=9)
    fair = FakeProvider(name="fair", price_usd="0.05")
    down = FakeProvider(name="down", unavailable="DOWN_KEY is not set")
    async with open_client(dear, fair, down) as client:
        answer = await client.post("/api/images/plan", json={**SMALL, "n": 2})
        capped = await client.post(
            "/api/images/plan", json={**SMALL, "max_cost_usd": 0.1}
        )

    plan = answer.json()
    assert plan["capability"] == "text-to-image"
    assert plan["can_be_served"] is True
    assert plan["estimated_cost_usd"] == 1.0
    names = [(one["provider"], one["price_usd"]) for one in plan["candidates"]]
    assert names == [("dear", 1.0), ("fair", 0.1)]
    assert plan["rejections"] == [{"name": "down", "reason": "DOWN_KEY is not set"}]
    assert capped.json()["estimated_cost_usd"] == 0.05
    assert not dear.calls


async def test_every_verb_can_be_planned(open_client: OpenClient) -> None:
    """The body is that of the verb, which `operation` names."""
    fake = FakeProvider()
    found = []
    async with open_client(fake) as client:
        for body in PLANNED.values():
            answer = await client.post("/api/images/plan", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["candidates"]
            found.append(answer.json()["capability"])

    assert found == list(PLANNED)
    assert not fake.calls


async def test_what_nobody_can_serve_is_a_plan_as_well(open_client: OpenClient) -> None:
    """Nobody to ask is an answer: the reasons are what it is asked for."""
    async with open_client(FakeProvider(capabilities=["upscaling"])) as client:
        answer = await client.post("/api/images/plan", json=SMALL)

    plan = answer.json()
    assert (plan["can_be_served"], plan["estimated_cost_usd"]) == (False, None)
    assert plan["rejections"] == [{"name": "fake", "reason": "cannot do text-to-image"}]


async def test_a_plan_says_what_a_model_would_not_heed(open_client: OpenClient) -> None:
    """Fields that would be ignored are named before anything is paid."""
    plain = ModelInfo(
        id="plain",
        name="Plain",
        provider="fake",
        capabilities={Capability.TEXT_TO_IMAGE},
        supported_fields={"seed"},
    )
    async with open_client(FakeProvider(models=[plain])) as client:
        body = {**SMALL, "seed": 1, "negative_prompt": "people"}
        answer = await client.post("/api/images/plan", json=body)

    (candidate,) = answer.json()["candidates"]
    assert candidate["ignored_fields"] == ["negative_prompt"]
