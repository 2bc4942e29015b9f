"""The stand-in for Gemini speaks its form, keeps its book and fails to order."""

import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from gaia_core.testing import png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.gemini import KEY, TASK_HEADER, GeminiVendor, Manner
from gaia_core.testing.vendors.gemini_works import SIZES, TEXT_MODEL, UPSCALER

FLASH = "gemini-3.1-flash-image"


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[GeminiVendor]:
    async with GeminiVendor() as vendor:
        yield vendor


async def _ask(
    vendor: GeminiVendor,
    payload: Mapping[str, Any],
    *,
    path: str = f"v1/models/{FLASH}:generateContent",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    sent = {"x-goog-api-key": KEY, TASK_HEADER: "task-1"} | dict(headers or {})
    async with (
        ClientSession() as session,
        session.post(f"{vendor.url}/{path}", json=payload, headers=sent) as answer,
    ):
        return answer.status, await answer.json()


def _payload(prompt: str = "a keep", *pictures: bytes, **config: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": prompt}]
    parts += [
        {
            "inlineData": {
                "mimeType": "image/png",
                "data": base64.b64encode(picture).decode(),
            }
        }
        for picture in pictures
    ]
    return {
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": config,
        },
    }


def _parts(reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = reply["candidates"][0]["content"]["parts"]
    return parts


def _picture(part: Mapping[str, Any]) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"])))


@pytest.mark.parametrize("ratio", SIZES)
async def test_pictures_are_as_large_as_the_config_means(
    vendor: GeminiVendor, ratio: str
) -> None:
    """Aspect ratio and image size decide, and the tokens follow the size."""
    status, reply = await _ask(vendor, _payload(aspectRatio=ratio, imageSize="512"))

    width, height = SIZES[ratio]
    assert status == 200
    assert _picture(_parts(reply)[0]).size == (width // 2, height // 2)
    assert reply["usageMetadata"]["candidatesTokenCount"] == 747


async def test_keys_may_be_spelt_either_way(vendor: GeminiVendor) -> None:
    """The service reads camelCase and snake_case, and the SDK sends both."""
    payload = {
        "contents": [{"parts": [{"text": "a keep"}]}],
        "generation_config": {
            "response_modalities": ["IMAGE"],
            "image_config": {"aspect_ratio": "16:9"},
        },
    }

    _, reply = await _ask(vendor, payload)

    assert _picture(_parts(reply)[0]).size == (1376, 768)


async def test_each_call_draws_another_picture(vendor: GeminiVendor) -> None:
    """The same words give different pictures; each is in the book under its task."""
    first = await _ask(vendor, _payload(imageSize="512"))
    second = await _ask(vendor, _payload(imageSize="512"))

    assert _parts(first[1]) != _parts(second[1])
    assert vendor.charged("task-1") == 2
    assert vendor.charges[0].prompt == "a keep"


async def test_pictures_that_go_in_shine_through(vendor: GeminiVendor) -> None:
    """An edit is nearer to the picture it began with than a new one would be."""
    _, reply = await _ask(vendor, _payload("x", png(colour="white"), imageSize="512"))

    assert min(_picture(_parts(reply)[0]).getpixel((5, 5))) >= 127


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"v1beta/models/{FLASH}:generateContent", {}),
        (f"v1beta1/publishers/google/models/{FLASH}:generateContent", {}),
        (
            f"v1/projects/p/locations/l/publishers/google/models/{FLASH}:generateContent",
            {"x-goog-api-key": "", "Authorization": f"Bearer {KEY}"},
        ),
    ],
    ids=["beta", "vertex", "project"],
)
async def test_it_listens_where_google_does(
    vendor: GeminiVendor, path: str, headers: dict[str, str]
) -> None:
    """Both services are there, in every version, with a key or with a token."""
    status, _ = await _ask(
        vendor, _payload(imageSize="512"), path=path, headers=headers
    )

    assert status == 200


@pytest.mark.parametrize(
    ("payload", "path", "headers", "code", "name"),
    [
        (_payload(), None, {"x-goog-api-key": "x"}, 400, "INVALID_ARGUMENT"),
        (_payload(), "v1/models/gemini-0:generateContent", {}, 404, "NOT_FOUND"),
        (_payload(aspectRatio="7:3"), None, {}, 400, "INVALID_ARGUMENT"),
        (_payload(imageSize="8K"), None, {}, 400, "INVALID_ARGUMENT"),
        (_payload(""), None, {}, 400, "INVALID_ARGUMENT"),
        (_payload("x", b"no picture"), None, {}, 400, "INVALID_ARGUMENT"),
        (_payload("x", *[png()] * 15), None, {}, 400, "INVALID_ARGUMENT"),
        ({}, None, {}, 400, "INVALID_ARGUMENT"),
    ],
    ids=["key", "model", "ratio", "size", "words", "bytes", "pictures", "empty"],
)
async def test_what_cannot_be_is_refused(
    vendor: GeminiVendor,
    payload: dict[str, Any],
    path: str | None,
    headers: dict[str, str],
    code: int,
    name: str,
) -> None:
    """Refusals have Google's form, and cost nothing."""
    where = {"path": path} if path else {}

    status, reply = await _ask(vendor, payload, headers=headers, **where)

    assert (status, reply["error"]["code"]) == (code, code)
    assert reply["error"]["status"] == name
    assert vendor.charges == []


async def test_it_answers_in_words(vendor: GeminiVendor) -> None:
    """Without pictures among the modalities words come back, at no charge here."""
    payload = _payload("How large?", png(40, 30))
    del payload["generationConfig"]

    _, reply = await _ask(
        vendor, payload, path=f"v1/models/{TEXT_MODEL}:generateContent"
    )

    assert _parts(reply) == [{"text": "I see a picture of 40x30 pixels."}]
    assert vendor.total_usd == 0


async def test_it_enlarges(vendor: GeminiVendor) -> None:
    """``predict`` gives the picture, twice or four times as large."""
    image = {"bytesBase64Encoded": base64.b64encode(png(20, 10)).decode()}
    payload = {
        "instances": [{"image": image}],
        "parameters": {"mode": "upscale", "upscaleConfig": {"upscaleFactor": "x2"}},
    }
    path = f"v1beta1/publishers/google/models/{UPSCALER}:predict"

    _, reply = await _ask(vendor, payload, path=path)

    (prediction,) = reply["predictions"]
    part = {"inlineData": {"data": prediction["bytesBase64Encoded"]}}
    assert _picture(part).size == (40, 20)
    assert vendor.charged("task-1") == 1


@pytest.mark.parametrize(
    ("manner", "charges"),
    [
        (Manner(prompt_block="SAFETY"), 0),
        (Manner(finish_reason="IMAGE_SAFETY"), 0),
        (Manner(status=429, body="{}"), 0),
        (Manner(is_text_only=True), 1),
        (Manner(thoughts=1, drafts=1), 1),
        (Manner(body='{"odd": true}'), 1),
    ],
    ids=["prompt", "picture", "refused", "words", "thoughts", "odd"],
)
async def test_manners_are_charged_as_they_are(
    vendor: GeminiVendor, manner: Manner, charges: int
) -> None:
    """What is blocked or refused is free, what is answered is not."""
    vendor.manner = manner

    async with (
        ClientSession(headers={"x-goog-api-key": KEY}) as session,
        session.post(
            f"{vendor.url}/v1/models/{FLASH}:generateContent", json=_payload()
        ) as answer,
    ):
        reply = json.loads(await answer.read())

    assert len(vendor.charges) == charges
    assert isinstance(reply, dict)


async def test_thoughts_and_drafts_come_first(vendor: GeminiVendor) -> None:
    """The last part is the picture; thoughts bear their mark."""
    vendor.manner = Manner(thoughts=1, drafts=1)

    _, reply = await _ask(vendor, _payload())

    words, thought, draft, last = _parts(reply)
    assert words["thought"] is thought["thought"] is True
    assert "thought" not in draft
    assert _picture(draft).size != _picture(last).size == (1024, 1024)
    assert reply["usageMetadata"]["thoughtsTokenCount"] == 100


@pytest.mark.parametrize(
    ("fault", "code", "name"),
    [
        (Fault.BUSY, 429, "RESOURCE_EXHAUSTED"),
        (Fault.UNAVAILABLE, 503, "UNAVAILABLE"),
        (Fault.ERROR_BEFORE, 500, "INTERNAL"),
        (Fault.ERROR_AFTER, 500, "INTERNAL"),
        (Fault.GATEWAY_TIMEOUT_AFTER, 504, "DEADLINE_EXCEEDED"),
        (Fault.UNAUTHORISED, 400, "INVALID_ARGUMENT"),
        (Fault.NO_CREDIT, 400, "FAILED_PRECONDITION"),
        (Fault.NO_MODEL, 404, "NOT_FOUND"),
        (Fault.BAD_REQUEST, 400, "INVALID_ARGUMENT"),
    ],
    ids=str,
)
async def test_faults_have_googles_words(
    vendor: GeminiVendor, fault: Fault, code: int, name: str
) -> None:
    """Each fault is told as Google tells it, with the wait that is asked for."""
    vendor.inject(Faults(script=[fault], retry_after=2.5))

    status, reply = await _ask(vendor, _payload())

    assert (status, reply["error"]["status"]) == (code, name)
    assert len(vendor.charges) == fault.is_charged
    details = json.dumps(reply["error"]["details"])
    assert ("2.5s" in details) or ("API_KEY_INVALID" in details)


async def test_a_filtered_prompt_is_answered(vendor: GeminiVendor) -> None:
    """Google blocks with status 200."""
    vendor.inject(Faults(script=[Fault.FILTERED]))

    status, reply = await _ask(vendor, _payload())

    assert (status, reply["promptFeedback"]) == (200, {"blockReason": "SAFETY"})
    assert vendor.charges == []


async def test_connections_are_cut(vendor: GeminiVendor) -> None:
    """A dropped connection is dropped, and the charge is in the book."""
    vendor.inject(Faults(script=[Fault.DROP_AFTER]))

    with pytest.raises(ClientError):
        await _ask(vendor, _payload())

    assert len(vendor.charges) == 1


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("v1/models", "models"),
        ("v1beta1/publishers/google/models", "publisherModels"),
    ],
    ids=["key", "vertex"],
)
async def test_models_are_listed_in_pages(
    vendor: GeminiVendor, path: str, key: str
) -> None:
    """Who follows the pages sees every model once."""
    names, token = [], ""
    async with ClientSession(headers={"x-goog-api-key": KEY}) as session:
        while token is not None:
            query = {"pageSize": "3", "pageToken": token}
            async with session.get(f"{vendor.url}/{path}", params=query) as answer:
                page = await answer.json()
            names += [card["name"].rpartition("/")[2] for card in page[key]]
            token = page.get("nextPageToken")

    assert names == list(vendor.models)
