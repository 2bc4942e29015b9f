"""The stand-in for OpenAI's form: pictures, chat, files and batches."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, FormData

from gaia_core.images import Image
from gaia_core.testing import png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.openai import OpenAIVendor

MODEL = "stand-in-image"
VISION = "stand-in-vision"


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[OpenAIVendor]:
    async with OpenAIVendor() as vendor:
        yield vendor


def _headers(vendor: OpenAIVendor, task_id: str | None = None) -> dict[str, str]:
    named = {} if task_id is None else {"Idempotency-Key": task_id}
    return {"Authorization": f"Bearer {vendor.api_key}", **named}


async def _ask(
    vendor: OpenAIVendor,
    path: str,
    payload: Mapping[str, Any] | FormData | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Ask for something; without a payload by GET."""
    sent = _headers(vendor) if headers is None else headers
    body: dict[str, Any] = {}
    if isinstance(payload, FormData):
        body["data"] = payload
    elif payload is not None:
        body["json"] = payload
    async with (
        ClientSession(timeout=ClientTimeout(total=5)) as session,
        session.request(
            "GET" if payload is None else "POST",
            f"{vendor.url}/{path}",
            headers=sent,
            **body,
        ) as answer,
    ):
        text = await answer.text()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, text


def _scene(number: int = 0, **changes: Any) -> dict[str, Any]:
    usual = {"model": MODEL, "prompt": f"scene {number}", "size": "32x16"}
    return usual | changes


def _lines(*bodies: Mapping[str, Any], url: str = "/v1/images/generations") -> str:
    return "\n".join(
        json.dumps(
            {"custom_id": f"task-{n}", "method": "POST", "url": url, "body": body}
        )
        for n, body in enumerate(bodies)
    )


async def _ordered(
    vendor: OpenAIVendor, text: str, endpoint: str = "/v1/images/generations"
) -> str:
    """Hand a file in and have it carried out; give the name of the batch."""
    form = FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", text.encode(), filename="batch.jsonl")
    _, file = await _ask(vendor, "files", form)
    wanted = {
        "input_file_id": file["id"],
        "endpoint": endpoint,
        "completion_window": "24h",
    }
    _, batch = await _ask(vendor, "batches", wanted)
    return str(batch["id"])


async def _statuses(vendor: OpenAIVendor, batch_id: str) -> list[Any]:
    """Look at a batch until it has ended; give every answer."""
    seen: list[Any] = []
    while not seen or seen[-1]["status"] not in {"completed", "failed", "expired"}:
        seen.append((await _ask(vendor, f"batches/{batch_id}"))[1])
    return seen


# -- at once ------------------------------------------------------------------------


async def test_pictures_from_words(vendor: OpenAIVendor) -> None:
    """They come as many and as large as asked for, and are charged one by one."""
    status, reply = await _ask(
        vendor,
        "images/generations",
        _scene(n=2),
        headers=_headers(vendor, "task-1"),
    )

    images = [Image.from_bytes(base64.b64decode(x["b64_json"])) for x in reply["data"]]
    assert status == 200
    assert [(image.width, image.height) for image in images] == [(32, 16)] * 2
    assert vendor.charged("task-1") == 1
    assert vendor.total_usd == 2 * vendor.price_usd


async def test_pictures_that_lie_elsewhere(vendor: OpenAIVendor) -> None:
    """An address can be fetched without the key."""
    _, reply = await _ask(
        vendor, "images/generations", _scene(response_format="url", n=2)
    )

    async with ClientSession() as session:
        for entry in reply["data"]:
            async with session.get(entry["url"]) as answer:
                assert Image.from_bytes(await answer.read()).width == 32


async def test_pictures_from_pictures(vendor: OpenAIVendor) -> None:
    """A form with files is an edit; what is transparent in its mask is painted."""
    from PIL import Image as pillow  # noqa: N813

    from gaia_core.testing.pictures import encoded

    mask = pillow.new("RGBA", (32, 16), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 16, 16))
    form = FormData()
    for name, value in _scene().items():
        form.add_field(name, value)
    form.add_field("image", png(32, 16, "red"), filename="a.png")
    form.add_field("mask", encoded(mask), filename="mask.png")

    _, reply = await _ask(vendor, "images/edits", form)

    data = base64.b64decode(reply["data"][0]["b64_json"])
    picture = Image.from_bytes(data).decode().convert("RGB")
    assert picture.getpixel((24, 8)) == (255, 0, 0)
    assert picture.getpixel((8, 8)) != (255, 0, 0)


async def test_words_about_a_picture(vendor: OpenAIVendor) -> None:
    """A chat shows what was asked, and which picture was seen."""
    address = f"data:image/png;base64,{base64.b64encode(png(8, 4)).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": "What is it?"},
    ]
    messages = [{"role": "user", "content": content}]

    payload = {"model": VISION, "messages": messages}
    _, reply = await _ask(vendor, "chat/completions", payload)

    (choice,) = reply["choices"]
    assert choice["message"]["content"] == "a picture of 8x4, What is it?"
    assert reply["usage"]["total_tokens"] == 120


async def test_only_the_key_opens(vendor: OpenAIVendor) -> None:
    """Without it nothing is listed, made or charged."""
    wrong = {"Authorization": "Bearer sk-wrong"}

    statuses = [
        (await _ask(vendor, "models", headers=wrong))[0],
        (await _ask(vendor, "images/generations", _scene(), headers=wrong))[0],
        (await _ask(vendor, "batches", headers=wrong))[0],
    ]

    assert statuses == [401, 401, 401]
    assert vendor.requests == 0
    assert vendor.heads[-1]["Authorization"] == "Bearer sk-wrong"


async def test_its_models_are_listed(vendor: OpenAIVendor) -> None:
    """What it has is listed; what it has not is not to be had."""
    _, reply = await _ask(vendor, "models")
    status, refusal = await _ask(vendor, "images/generations", _scene(model="other"))

    assert [one["id"] for one in reply["data"]] == [MODEL, VISION]
    assert (status, refusal["error"]["code"]) == (404, "model_not_found")


async def test_a_careless_vendor_tells(vendor: OpenAIVendor) -> None:
    """What it is to echo is in the message of every refusal."""
    vendor.echo = "sk-canary"

    _, refusal = await _ask(vendor, "images/generations", _scene(model="other"))

    assert "sk-canary" in refusal["error"]["message"]


@pytest.mark.parametrize("fault", Fault, ids=str)
async def test_every_fault_is_known(vendor: OpenAIVendor, fault: Fault) -> None:
    """Whatever goes wrong on purpose does, and is charged when it says so."""
    waits: dict[str, Any] = dict.fromkeys(("hang", "slow", "late"), 0.0)
    named = {f"{name}_seconds": wait for name, wait in waits.items()}
    vendor.inject(Faults(script=[fault], **named))

    try:
        status, _ = await _ask(vendor, "images/generations", _scene())
    except ClientError:
        status = None

    assert len(vendor.charges) == fault.is_charged
    assert fault.status is None or status == fault.status


# -- batches ------------------------------------------------------------------------


async def test_a_batch_goes_on_when_it_is_looked_at(vendor: OpenAIVendor) -> None:
    """It passes through every state, and its lines are charged once each."""
    batch_id = await _ordered(vendor, _lines(_scene(1), _scene(2)))

    seen = await _statuses(vendor, batch_id)
    last = seen[-1]
    _, text = await _ask(vendor, f"files/{last['output_file_id']}/content")

    states = [one["status"] for one in seen]
    lines = [json.loads(line) for line in text.splitlines()]
    assert states == ["in_progress", "finalizing", "completed"]
    assert [line["custom_id"] for line in lines] == ["task-0", "task-1"]
    assert lines[0]["response"]["body"]["data"][0]["b64_json"]
    assert last["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert [one.task_id for one in vendor.charges] == ["task-0", "task-1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("no JSON", "Invalid JSON", id="no JSON"),
        pytest.param(_lines(_scene(), url="/v1/x"), "Unsupported url", id="address"),
        pytest.param(_lines(_scene(model="x")), "not available", id="model"),
        pytest.param(
            "\n".join([_lines(_scene())] * 2), "first appeared on line 1", id="twice"
        ),
    ],
)
async def test_a_file_that_is_wrong_is_refused_as_a_whole(
    vendor: OpenAIVendor, text: str, message: str
) -> None:
    """Validation comes before any work."""
    batch_id = await _ordered(vendor, text)

    (seen,) = await _statuses(vendor, batch_id)

    assert seen["status"] == "failed"
    assert message in seen["errors"]["data"][0]["message"]
    assert vendor.charges == []


async def test_lines_fail_one_by_one(vendor: OpenAIVendor) -> None:
    """Refusals are in a file of their own; lost lines are nowhere."""
    vendor.desk.faults = Faults(script=[None, Fault.BUSY, Fault.DROP_AFTER])
    batch_id = await _ordered(vendor, _lines(*map(_scene, range(3))))

    last = (await _statuses(vendor, batch_id))[-1]
    _, made = await _ask(vendor, f"files/{last['output_file_id']}/content")
    _, failed = await _ask(vendor, f"files/{last['error_file_id']}/content")

    assert [json.loads(line)["custom_id"] for line in [json.dumps(made)]] == ["task-0"]
    assert failed["response"]["status_code"] == 429
    assert [one.task_id for one in vendor.charges] == ["task-0", "task-2"]


async def test_a_batch_expires(vendor: OpenAIVendor) -> None:
    """What was not carried out in time is named, and not charged."""
    vendor.desk.expires_after = 1
    batch_id = await _ordered(vendor, _lines(_scene(1), _scene(2)))

    last = (await _statuses(vendor, batch_id))[-1]
    _, failed = await _ask(vendor, f"files/{last['error_file_id']}/content")

    assert last["status"] == "expired"
    assert failed["error"]["code"] == "batch_expired"
    assert len(vendor.charges) == 1


async def test_a_batch_is_called_off(vendor: OpenAIVendor) -> None:
    """A batch that is cancelled makes nothing more."""
    batch_id = await _ordered(vendor, _lines(_scene()))

    _, called_off = await _ask(vendor, f"batches/{batch_id}/cancel", {})
    _, seen = await _ask(vendor, f"batches/{batch_id}")

    assert (called_off["status"], seen["status"]) == ("cancelling", "cancelled")
    assert vendor.charges == []


async def test_batches_are_listed_in_pages(vendor: OpenAIVendor) -> None:
    """The newest comes first; each page leads to the next."""
    names = [await _ordered(vendor, _lines(_scene())) for _ in range(3)]

    _, first = await _ask(vendor, "batches?limit=2")
    _, second = await _ask(vendor, f"batches?limit=2&after={first['data'][-1]['id']}")

    listed = [one["id"] for page in (first, second) for one in page["data"]]
    assert listed == names[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


async def test_calls_go_wrong_to_order(vendor: OpenAIVendor) -> None:
    """A call fails before or after it has its effect, and then no more."""
    vendor.desk.trouble("cancel", [Fault.UNAVAILABLE, "drop_before", None])

    status, _ = await _ask(vendor, "batches/x/cancel", {})
    with pytest.raises(ClientError):
        await _ask(vendor, "batches/x/cancel", {})
    after, _ = await _ask(vendor, "batches/x/cancel", {})

    assert (status, after) == (503, 404)
    assert vendor.desk.calls == {"cancel": 3}


@pytest.mark.parametrize(
    "path", ["batches/none", "files/none/content", "files/none"], ids=str
)
async def test_what_is_not_there(vendor: OpenAIVendor, path: str) -> None:
    """An unknown name is a status of 404."""
    assert (await _ask(vendor, path))[0] == 404
