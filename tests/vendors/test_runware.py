"""The stand-in for Runware: what it speaks, what it charges, and how it fails."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    WSMsgType,
    WSServerHandshakeError,
)

from gaia_core.images import Image
from gaia_core.testing import png
from gaia_core.testing.probes import until
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.runware import RunwareVendor

KEY = "k-123"
PICTURE = f"data:image/png;base64,{base64.b64encode(png(64, 64)).decode()}"


@pytest.fixture(name="vendor")
async def _vendor() -> AsyncIterator[RunwareVendor]:
    """Give an open stand-in that lets in one key."""
    async with RunwareVendor(key=KEY) as vendor:
        yield vendor


@pytest.fixture(name="session")
async def _session() -> AsyncIterator[ClientSession]:
    """Give a plain HTTP client."""
    async with ClientSession() as session:
        yield session


@pytest.fixture(name="socket")
async def _socket(
    vendor: RunwareVendor, session: ClientSession
) -> AsyncIterator[ClientWebSocketResponse]:
    """Give a WebSocket that was let in."""
    async with session.ws_connect(vendor.url, max_msg_size=0) as socket:
        await _introduced(socket)
        yield socket


def _task(**changes: object) -> dict[str, Any]:
    return {
        "taskType": "imageInference",
        "taskUUID": str(uuid.uuid4()),
        "deliveryMethod": "sync",
        "model": "runware:100@1",
        "positivePrompt": "a keep",
        "width": 64,
        "height": 64,
        "includeCost": True,
        **changes,
    }


async def _introduced(
    socket: ClientWebSocketResponse, key: str = KEY
) -> dict[str, Any]:
    return await _said(socket, {"taskType": "authentication", "apiKey": key})


async def _said(
    socket: ClientWebSocketResponse, *tasks: dict[str, Any]
) -> dict[str, Any]:
    await socket.send_str(json.dumps(tasks))
    return await _heard(socket)


async def _heard(socket: ClientWebSocketResponse) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(await socket.receive_str(timeout=20))
    return answer


async def _posted(
    session: ClientSession,
    vendor: RunwareVendor,
    *tasks: dict[str, Any],
    key: str = KEY,
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(vendor.http_url, json=tasks, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


# -- who is let in --------------------------------------------------------------------


async def test_a_key_opens_a_session(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """Who shows the right key is told the name of the session."""
    async with session.ws_connect(vendor.url) as socket:
        answer = await _introduced(socket)

    assert uuid.UUID(answer["data"][0]["connectionSessionUUID"])
    assert vendor.logins == 1


async def test_a_wrong_key_is_refused_at_both_doors(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """The error is about authentication, and names no task."""
    async with session.ws_connect(vendor.url) as socket:
        over_socket = await _introduced(socket, "wrong")
        before_login = await _said(socket, _task())
    status, over_rest = await _posted(session, vendor, _task(), key="wrong")

    (error,) = over_socket["errors"]
    assert (error["code"], error["taskType"]) == ("invalidApiKey", "authentication")
    assert before_login["errors"][0]["code"] == "invalidApiKey"
    assert (status, over_rest["errors"][0]["code"]) == (401, "invalidApiKey")
    assert vendor.requests == 0


@pytest.mark.parametrize("greeting", ["silent", "closed", "busy"])
async def test_it_may_greet_nobody(
    vendor: RunwareVendor, session: ClientSession, greeting: str
) -> None:
    """A vendor that is not well shows it at the door."""
    vendor.greeting = greeting
    async with session.ws_connect(vendor.url) as socket:
        await socket.send_str(
            json.dumps([{"taskType": "authentication", "apiKey": KEY}])
        )
        try:
            message = await socket.receive(timeout=0.2)
        except TimeoutError:
            message = None

    kinds = {"silent": None, "closed": WSMsgType.CLOSED, "busy": WSMsgType.TEXT}
    assert (message and message.type) == kinds[greeting]


async def test_a_ping_is_answered(socket: ClientWebSocketResponse) -> None:
    """The SDK asks now and then whether anybody is there."""
    answer = await _said(socket, {"taskType": "ping", "ping": True})

    assert answer == {"data": [{"taskType": "ping", "pong": True}]}


# -- work -----------------------------------------------------------------------------


async def test_pictures_come_one_by_one(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, session: ClientSession
) -> None:
    """Each result is a frame with seed, cost and address; the files are there."""
    first = await _said(socket, _task(numberResults=2, seed=7, outputFormat="PNG"))
    second = await _heard(socket)
    items = [frame["data"][0] for frame in (first, second)]
    async with session.get(items[0]["imageURL"]) as answer:
        picture = Image.from_bytes(await answer.read())

    assert [item["seed"] for item in items] == [7, 8]
    assert [item["cost"] for item in items] == [0.04, 0.04]
    assert (picture.width, picture.media_type) == (64, "image/png")
    assert str(vendor.total_usd) == "0.08"


async def test_over_rest_they_come_together(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """One answer with all results."""
    status, answer = await _posted(session, vendor, _task(numberResults=2))

    assert (status, len(answer["data"])) == (200, 2)


@pytest.mark.parametrize(
    ("kind", "start"), [("base64Data", "/9j/"), ("dataURI", "data:image/jpeg;base64,")]
)
async def test_pictures_may_be_in_the_answer(
    vendor: RunwareVendor, session: ClientSession, kind: str, start: str
) -> None:
    """As base64, or as a data URI; JPEG is the vendor's own choice."""
    _, answer = await _posted(session, vendor, _task(outputType=kind))
    name = f"image{kind[0].upper()}{kind[1:]}"

    assert answer["data"][0][name].startswith(start)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"taskType": "upscale", "upscaleFactor": 4}, (256, 256)),
        ({"taskType": "removeBackground"}, (64, 64)),
        ({"width": 128, "strength": 0.5}, (128, 64)),
        ({"outpaint": {"left": 64}, "width": 128}, (128, 64)),
    ],
    ids=["upscale", "cut out", "image to image", "outpaint"],
)
async def test_pictures_go_in(
    vendor: RunwareVendor,
    session: ClientSession,
    task: dict[str, Any],
    expected: tuple[int, int],
) -> None:
    """Under ``inputs``, as the SDK of today sends them."""
    name = "image" if "taskType" in task else "seedImage"
    sent = _task(**task, inputs={name: PICTURE}, outputFormat="PNG")

    _, answer = await _posted(session, vendor, sent)
    async with session.get(answer["data"][0]["imageURL"]) as found:
        picture = Image.from_bytes(await found.read())

    assert (picture.width, picture.height) == expected


async def test_what_was_made_here_can_go_in_again(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """By its address, or by its UUID."""
    _, made = await _posted(session, vendor, _task())
    (item,) = made["data"]
    again = [
        _task(taskType="upscale", upscaleFactor=2, inputs={"image": source})
        for source in (item["imageURL"], item["imageUUID"])
    ]

    answers = [await _posted(session, vendor, task) for task in again]

    assert [status for status, _ in answers] == [200, 200]


async def test_words_come_out(vendor: RunwareVendor, session: ClientSession) -> None:
    """Captions and worked-out prompts are charged like pictures."""
    caption = _task(taskType="caption", inputs={"image": PICTURE})
    enhance = _task(taskType="promptEnhance", prompt="a keep", promptVersions=2)

    _, seen = await _posted(session, vendor, caption)
    _, prompts = await _posted(session, vendor, enhance)

    assert "64 by 64" in seen["data"][0]["text"]
    assert [item["text"].startswith("a keep,") for item in prompts["data"]] == [
        True
    ] * 2
    assert len(vendor.charges) == 2


async def test_the_catalogue_can_be_searched(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """By words and category, page by page; it is free."""
    search = {"taskType": "modelSearch", "taskUUID": str(uuid.uuid4()), "limit": 1}

    _, all_ = await _posted(session, vendor, search)
    _, found = await _posted(session, vendor, search | {"search": "dev", "offset": 0})

    (page,), (flux,) = all_["data"], found["data"]
    assert (page["totalResults"], len(page["results"])) == (4, 1)
    assert flux["results"][0]["air"] == "runware:101@1"
    assert vendor.charges == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"taskUUID": "keep-1"}, "invalidTaskUUID"),
        ({"taskUUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))}, "invalidTaskUUID"),
        ({"taskType": "imageUpscale"}, "unsupportedTaskType"),
        ({"positivePrompt": " "}, "missingPositivePrompt"),
        ({"model": None}, "missingModel"),
        ({"width": 16}, "invalidWidth"),
        ({"height": "64"}, "invalidHeight"),
        ({"numberResults": 99}, "invalidParameter"),
        ({"outputFormat": "GIF"}, "invalidOutputFormat"),
        ({"inputs": {"seedImage": "/etc/hostname"}}, "invalidSeedImage"),
        ({"taskType": "upscale"}, "missingImage"),
        ({"taskType": "promptEnhance"}, "missingPrompt"),
    ],
    ids=[
        *("no UUID", "UUID 5", "old name", "no prompt", "no model", "narrow"),
        *("a word", "many", "GIF", "a path", "no picture", "nothing to enhance"),
    ],
)
async def test_what_is_no_task_is_refused(
    vendor: RunwareVendor, session: ClientSession, changes: dict[str, Any], code: str
) -> None:
    """With status 400, the code and, where there is one, the field."""
    status, answer = await _posted(session, vendor, _task(**changes))

    assert (status, answer["errors"][0]["code"]) == (400, code)
    assert vendor.charges == []


async def test_what_is_no_json_is_refused(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, session: ClientSession
) -> None:
    """At both doors."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with session.post(vendor.http_url, data="{}", headers=headers) as answer:
        status = answer.status
    await socket.send_str("no JSON")

    assert (status, (await _heard(socket))["errors"][0]["code"]) == (400, "invalidJSON")


# -- one task, one charge -------------------------------------------------------------


async def test_a_task_that_is_known_is_not_made_again(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """The second one is a conflict, and is not charged."""
    task = _task()

    await _posted(session, vendor, task)
    status, answer = await _posted(session, vendor, task)

    (error,) = answer["errors"]
    assert (status, error["code"]) == (400, "conflictTaskUUID")
    assert error["taskUUID"] == task["taskUUID"]
    assert (vendor.requests, len(vendor.charges)) == (2, 1)


async def test_an_asynchronous_task_is_polled(
    socket: ClientWebSocketResponse, vendor: RunwareVendor
) -> None:
    """It is acknowledged, under way, and then there."""
    vendor.delay = 0.1
    task = _task(deliveryMethod="async")
    ask = {"taskType": "getResponse", "taskUUID": task["taskUUID"]}

    acknowledged = await _said(socket, task)
    running = await _said(socket, ask)
    await until(lambda: bool(vendor.charges), patience=20.0)
    done = await _said(socket, ask)

    assert "status" not in acknowledged["data"][0]
    assert running["data"][0]["status"] == "processing"
    assert done["data"][0]["imageURL"]


async def test_a_task_can_be_looked_up(
    vendor: RunwareVendor, session: ClientSession
) -> None:
    """With what was asked and what was answered; who is unknown, is said to be."""
    task, nobody = _task(), str(uuid.uuid4())
    await _posted(session, vendor, task)

    _, known = await _posted(
        session, vendor, {"taskType": "getTaskDetails", "taskUUID": task["taskUUID"]}
    )
    _, unknown = await _posted(
        session, vendor, {"taskType": "getTaskDetails", "taskUUID": nobody}
    )
    _, unheard = await _posted(
        session, vendor, {"taskType": "getResponse", "taskUUID": nobody}
    )

    (item,) = known["data"]
    assert item["request"][0]["positivePrompt"] == "a keep"
    assert item["response"]["data"][0]["imageURL"]
    assert unknown["errors"][0]["code"] == "taskNotFound"
    assert unheard == {"data": []}


# -- what goes wrong ------------------------------------------------------------------

_CODES = {
    Fault.BUSY: "rateLimitExceeded",
    Fault.UNAVAILABLE: "serviceUnavailable",
    Fault.ERROR_BEFORE: "internalServerError",
    Fault.ERROR_AFTER: "internalServerError",
    Fault.GATEWAY_TIMEOUT_AFTER: "timeoutProvider",
    Fault.UNNAMED_ERROR: "internalServerError",
    Fault.BAD_REQUEST: "invalidPositivePrompt",
    Fault.FILTERED: "contentPolicyViolation",
    Fault.UNAUTHORISED: "invalidApiKey",
    Fault.NO_CREDIT: "insufficientCredits",
    Fault.NO_MODEL: "invalidModel",
}
_CLOSES = {
    Fault.DROP_BEFORE: 1006,
    Fault.DROP_AFTER: 1006,
    Fault.TRUNCATED_AFTER: 1006,
    Fault.BAD_GATEWAY_AFTER: 1014,
    Fault.CLOSE_1000_AFTER: 1000,
    Fault.CLOSE_1001_AFTER: 1001,
    Fault.CLOSE_1011_AFTER: 1011,
}
_SILENT = {Fault.HANG_BEFORE, Fault.HANG_AFTER}
_ANSWERED = {
    *(Fault.BAD_IMAGE_AFTER, Fault.EMPTY_AFTER, Fault.PARTIAL_AFTER),
    *(Fault.SLOW_AFTER, Fault.LATE_AFTER),
}


def test_every_fault_is_tried() -> None:
    """No fault is left out."""
    assert {*_CODES, *_CLOSES, *_SILENT, *_ANSWERED} == set(Fault)


@pytest.mark.parametrize(("fault", "code"), _CODES.items(), ids=map(str, _CODES))
async def test_it_says_what_went_wrong(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, fault: Fault, code: str
) -> None:
    """In the vendor's words, and with the task's name unless that is the fault."""
    vendor.inject(Faults(script=[fault]))
    vendor.echo = "what the vendor repeats"
    task = _task()

    (error,) = (await _said(socket, task))["errors"]

    named = None if fault is Fault.UNNAMED_ERROR else task["taskUUID"]
    assert (error["code"], error.get("taskUUID")) == (code, named)
    assert "what the vendor repeats" in error["message"]
    assert len(vendor.charges) == fault.is_charged


@pytest.mark.parametrize(("fault", "code"), _CLOSES.items(), ids=map(str, _CLOSES))
async def test_it_closes_the_socket(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, fault: Fault, code: int
) -> None:
    """Cleanly or not, with the code that the fault names."""
    vendor.inject(Faults(script=[fault]))

    await socket.send_str(json.dumps([_task()]))
    message = await socket.receive(timeout=20)

    assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
    assert (socket.close_code or 1006) == code
    assert len(vendor.charges) == fault.is_charged


@pytest.mark.parametrize("fault", sorted(_SILENT), ids=str)
async def test_it_falls_silent(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, fault: Fault
) -> None:
    """The next task on the same socket is answered."""
    vendor.inject(Faults(script=[fault]))
    other = _task()

    await socket.send_str(json.dumps([_task()]))
    answer = await _said(socket, other)

    assert answer["data"][0]["taskUUID"] == other["taskUUID"]
    assert len(vendor.charges) == 1 + fault.is_charged


@pytest.mark.parametrize("fault", sorted(_ANSWERED), ids=str)
async def test_it_answers_all_the_same(
    socket: ClientWebSocketResponse, vendor: RunwareVendor, fault: Fault
) -> None:
    """Late, slowly, with a broken picture, with too few, or with none."""
    vendor.inject(Faults(script=[fault], slow_seconds=0.1, late_seconds=0.1))
    wanted = 2 if fault is Fault.PARTIAL_AFTER else 1

    answer = await _said(socket, _task(numberResults=wanted))

    has_picture = fault is not Fault.EMPTY_AFTER
    assert ("imageURL" in answer["data"][0]) is has_picture
    assert len(vendor.charges) == 1
    if fault is Fault.PARTIAL_AFTER:
        assert (await _heard(socket))["errors"][0]["code"] == "inferenceError"


@pytest.mark.parametrize("fault", [one for one in Fault if one.status], ids=str)
async def test_faults_have_their_status_over_rest(
    vendor: RunwareVendor, session: ClientSession, fault: Fault
) -> None:
    """Where a fault is about a status, that is the one."""
    vendor.inject(Faults(script=[fault], retry_after=3.0))
    headers = {"Authorization": f"Bearer {KEY}"}

    async with session.post(vendor.http_url, json=[_task()], headers=headers) as answer:
        asked_to_wait = answer.headers.get("Retry-After")

    assert answer.status == fault.status
    assert asked_to_wait == ("3" if fault in {Fault.BUSY, Fault.UNAVAILABLE} else None)
    assert len(vendor.charges) == fault.is_charged


async def test_it_is_gone_for_a_while(
    vendor: RunwareVendor, session: ClientSession, socket: ClientWebSocketResponse
) -> None:
    """Connections are refused and open ones cut; then it is there again."""
    async with vendor.closed():
        message = await socket.receive(timeout=20)
        with pytest.raises((OSError, WSServerHandshakeError)):
            await session.ws_connect(vendor.url)

    async with session.ws_connect(vendor.url) as again:
        answer = await _introduced(again)

    assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
    assert answer["data"]


async def test_it_keeps_what_it_was_told(
    socket: ClientWebSocketResponse, vendor: RunwareVendor
) -> None:
    """Frames and bodies can be searched as they came."""
    await _said(socket, _task(positivePrompt="a tower"))

    assert any(b"a tower" in body for body in vendor.bodies)
    assert vendor.frames == {"imageInference": 1}


async def test_it_can_disturb_everybody(
    socket: ClientWebSocketResponse, vendor: RunwareVendor
) -> None:
    """An error about nobody goes to all, and a network that goes away cuts all."""
    await vendor.say_unnamed()
    unnamed = await _heard(socket)
    await vendor.cut()
    message = await socket.receive(timeout=20)

    assert "taskUUID" not in unnamed["errors"][0]
    assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
