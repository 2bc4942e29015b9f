import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from fastapi import Request

from gaia_core import Gaia, GenerateRequest, UpscaleRequest
from gaia_core.images import to_image
from gaia_core.requests import Request as CoreRequest
from gaia_core.results import GeneratedImage, ImageResult
from gaia_core.server import Principal, create_app
from gaia_core.server.inputs import Inputs
from gaia_core.server.problems import RefusedError
from gaia_core.testing import FakeProvider, jpeg, png
from tests.server.conftest import OpenClient, serving, settings_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICTURE = png(24, 16)
PICTURE_SHA = hashlib.sha256(PICTURE).hexdigest()
TEXT = base64.b64encode(PICTURE).decode()


async def user(request: Request) -> str | None:
    """Name the caller by a header, as a host might by its session."""
    return request.headers.get("x-user")


def as_user(name: str) -> dict[str, str]:
    """Give the header that names somebody."""
    return {"x-user": name}


async def drawn(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Have a picture drawn for somebody, a different one for each."""
    body = {"prompt": f"the keep of {name}", "size": "64x64"}
    answer = await client.post("/api/images/generate", json=body, headers=as_user(name))
    assert answer.status_code == 200, answer.text
    image: dict[str, Any] = answer.json()["images"][0]
    return image


@pytest.fixture(name="everything", scope="module")
def _everything() -> FakeProvider:
    return FakeProvider()


@pytest.fixture(name="provider")
def _provider(everything: FakeProvider) -> FakeProvider:
    """Forget what was asked before."""
    everything.calls.clear()
    return everything


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest_asyncio.fixture(name="client", scope="module", loop_scope="module")
async def _client(
    folder: Path, everything: FakeProvider
) -> AsyncIterator[httpx.AsyncClient]:
    gaia = Gaia.open(settings_in(folder), plugins=[everything], discover=False)
    async with (
        serving(create_app(gaia, auth=user)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest_asyncio.fixture(name="inputs", loop_scope="module")
async def _inputs(tmp_path: Path) -> AsyncIterator[Inputs]:
    """Give the inputs alone, without a server."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    async with gaia, Inputs(gaia=gaia, settings=gaia.settings.server) as inputs:
        await gaia.ready()
        yield inputs


def picture_of(request: CoreRequest) -> bytes:
    """Give the bytes of the picture that a provider was sent."""
    return to_image(cast("UpscaleRequest", request).image).data


# -- stored pictures -------------------------------------------------------------------


def by_id(image: dict[str, Any]) -> dict[str, str]:
    """Name a picture by its id."""
    return {"image_id": image["id"]}


def by_path(image: dict[str, Any]) -> dict[str, str]:
    """Name a picture by the path of its answer."""
    return {"image_path": image["path"]}


def by_short_path(image: dict[str, Any]) -> dict[str, str]:
    """Name a picture by its path below the folder of pictures."""
    return {"image_path": image["path"].removeprefix("objects/")}


def by_id_as_path(image: dict[str, Any]) -> dict[str, str]:
    """Name a picture by its id, where a path is asked for."""
    return {"image_path": image["id"]}


NAMED = pytest.mark.parametrize(
    "name_it", [by_id, by_path, by_short_path, by_id_as_path]
)


@NAMED
async def test_own_pictures_are_taken(
    client: httpx.AsyncClient, provider: FakeProvider, name_it: Any
) -> None:
    """Whoever made a picture goes on with it, by its id or the path of its answer."""
    image = await drawn(client, "alice")

    answer = await client.post(
        "/api/images/upscale", json=name_it(image), headers=as_user("alice")
    )

    assert answer.status_code == 200, answer.text
    sent = to_image(picture_of(provider.calls[-1].request))
    assert (sent.sha256, sent.width) == (image["sha256"], image["width"])


@NAMED
async def test_pictures_of_others_do_not_exist(
    client: httpx.AsyncClient, provider: FakeProvider, name_it: Any
) -> None:
    """Who knows its name does not get it, and cannot tell it from one never made."""
    image = await drawn(client, "alice")
    none = {"id": "0" * 32, "path": f"objects/00/{'0' * 64}.png"}

    answers = [
        await client.post("/api/images/upscale", json=body, headers=as_user("mallory"))
        for body in (name_it(image), name_it(none))
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert answers[0].json()["error_code"] == "not_found"
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("objects/{ab}/{sha}.svg", id="another-type"),
        pytest.param("objects/00/{sha}.png", id="another-folder"),
        pytest.param("objects/{ab}/{SHA}.png", id="upper-case"),
        pytest.param("objects/../objects/{ab}/{sha}.png", id="up"),
        pytest.param("/objects/{ab}/{sha}.png", id="absolute"),
        pytest.param("objects//{ab}/{sha}.png", id="twice"),
        pytest.param("objects/{ab}/{sha}.png\n", id="newline"),
        pytest.param("objects/{ab}/{sha}", id="no-type"),
        pytest.param("records/{id2}/{id}.json", id="a-record"),
        pytest.param("{root}/images/objects/{ab}/{sha}.png", id="whole-path"),
    ],
)
async def test_paths_are_taken_as_they_were_given(
    client: httpx.AsyncClient, folder: Path, spelling: str
) -> None:
    """Any other way to write a stored picture's path names nothing."""
    image = await drawn(client, "alice")
    sha = image["sha256"]
    path = spelling.format(
        ab=sha[:2],
        sha=sha,
        SHA=sha.upper() if sha.upper() != sha else "A" * 64,
        id=image["id"],
        id2=image["id"][:2],
        root=folder,
    )

    answer = await client.post(
        "/api/images/upscale", json={"image_path": path}, headers=as_user("alice")
    )

    assert (answer.status_code, answer.json()["error_code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("root", "path"),
    [
        pytest.param("", "images/{path}", id="above-the-store"),
        pytest.param("", "{root}/images/{path}", id="above-by-whole-path"),
        pytest.param("images", "{path}", id="the-store"),
        pytest.param("images", "{root}/images/{path}", id="the-store-by-whole-path"),
        pytest.param("images/objects", "{short}", id="in-the-store"),
        pytest.param("images/objects", "./{short}", id="in-the-store-oddly"),
        pytest.param("link", "{path}", id="a-link-to-the-store"),
        pytest.param("images/objects/{short[0]}{short[1]}", "{name}", id="its-folder"),
    ],
)
async def test_folders_that_hold_the_store_open_nobodys_pictures(
    open_client: OpenClient, tmp_path: Path, root: str, path: str
) -> None:
    """A stored picture is somebody's, whatever folder the settings name."""
    (tmp_path / "link").symlink_to("images")
    short = f"{PICTURE_SHA[:2]}/{PICTURE_SHA}.png"
    server = {"image_roots": (tmp_path / root.format(short=short),)}
    made = GeneratedImage(data=PICTURE, media_type="image/png")
    result = ImageResult(images=(made,), provider="fake", model="fake")
    provider = FakeProvider(outcomes=[result])
    async with open_client(provider, auth=user, server=server) as client:
        image = await drawn(client, "alice")
        whole = path.format(
            path=image["path"], short=short, name=short[3:], root=tmp_path
        )
        answer = await client.post(
            "/api/images/upscale", json={"image_path": whole}, headers=as_user("bob")
        )

    assert image["path"] == f"objects/{short}"
    assert (answer.status_code, answer.json()["error_code"]) == (404, "not_found")


async def test_what_was_stored_is_not_decoded_again(inputs: Inputs) -> None:
    """A picture was looked at when it was stored: no process is started for it."""
    request = GenerateRequest(prompt="a keep", width=64, height=64)
    response = await inputs.gaia.generate(request, principal="alice")
    alice = Principal(name="alice")

    image = await inputs.stored(response.images[0].id, alice)

    assert image.data == response.images[0].read_bytes()
    assert (image.width, image.height, image.media_type) == (64, 64, "image/png")
    assert inputs.decoders._all == set()


async def test_a_picture_that_is_lost_does_not_say_where_it_was(
    client: httpx.AsyncClient, folder: Path
) -> None:
    """What the person on call reads in the log is not for the client."""
    image = await drawn(client, "alice")
    (folder / "images" / image["path"]).unlink()

    answer = await client.post(
        "/api/images/upscale", json=by_id(image), headers=as_user("alice")
    )

    assert answer.json()["error_code"] == "storage"
    assert str(folder) not in answer.text
    assert "objects" not in answer.text


# -- pictures in the request ---------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param(f"data:image/png;base64,{TEXT}", id="address"),
        pytest.param(f"data:image/jpeg;base64,{TEXT}", id="address-wrong-type"),
        pytest.param(f"DATA:Image/PNG;Base64,{TEXT}", id="address-upper-case"),
    ],
)
async def test_base64_is_taken(
    client: httpx.AsyncClient, provider: FakeProvider, text: str
) -> None:
    """A picture may come in base64; what it is decides, not what it is called."""
    answer = await client.post(
        "/api/images/upscale", json={"image_base64": text}, headers=as_user("alice")
    )

    assert answer.status_code == 200, answer.text
    assert picture_of(provider.calls[0].request) == PICTURE


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("hero", id="a-word"),
        pytest.param(TEXT[:-1], id="a-letter-short"),
        pytest.param(TEXT + "====", id="padding"),
        pytest.param(TEXT[:60] + "\n" + TEXT[60:], id="newline"),
        pytest.param(" " + TEXT, id="blank"),
        pytest.param("_-_-" + TEXT, id="another-alphabet"),
        pytest.param("ä" + TEXT, id="not-ascii"),
        pytest.param("\0" + TEXT, id="nul"),
        pytest.param("data:image/png;base64,", id="address-empty"),
        pytest.param(f"data:image/png,{TEXT}", id="address-not-base64"),
        pytest.param(f"data:image/svg+xml;base64,{TEXT}", id="address-svg"),
        pytest.param(f"data:text/html;base64,{TEXT}", id="address-html"),
        pytest.param(f"data:;base64,{TEXT}", id="address-without-type"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("http://127.0.0.1/hero.png", id="url"),
        pytest.param("/etc/passwd", id="path"),
        pytest.param(base64.b64encode(b"<svg/>").decode(), id="svg"),
        pytest.param(base64.b64encode(PICTURE[:50]).decode(), id="half-a-picture"),
    ],
)
async def test_base64_is_strict(
    client: httpx.AsyncClient, provider: FakeProvider, text: str
) -> None:
    """Whatever is not base64 of a picture, to the letter, is refused."""
    answer = await client.post(
        "/api/images/upscale", json={"image_base64": text}, headers=as_user("alice")
    )

    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_image")
    assert provider.calls == []


async def test_long_base64_is_not_even_decoded(inputs: Inputs) -> None:
    """More than 20 MiB are refused by their length."""
    text = "A" * 27_962_032

    with pytest.raises(RefusedError) as caught:
        await inputs.encoded(text)

    assert (caught.value.status_code, caught.value.code) == (422, "invalid_image")
    assert inputs.decoders._all == set()


async def test_every_picture_of_a_request_is_brought_in(
    client: httpx.AsyncClient, provider: FakeProvider
) -> None:
    """The picture, its mask and the ones to imitate come from different places."""
    image = await drawn(client, "alice")
    hidden = jpeg(64, 64) + b"canary"
    body = {
        "prompt": "a dragon",
        **by_id(image),
        "mask": {"image_base64": base64.b64encode(png(64, 64, "white")).decode()},
        "reference_images": [
            {"image_base64": base64.b64encode(hidden).decode()},
            by_path(image),
        ],
    }

    answer = await client.post(
        "/api/images/inpaint", json=body, headers=as_user("alice")
    )

    assert answer.status_code == 200, answer.text
    request = cast("GenerateRequest", provider.calls[-1].request)
    sent = [to_image(one).data for one in request.reference_images]
    assert sent[0] == jpeg(64, 64)
    assert to_image(sent[1]).sha256 == image["sha256"]


async def test_fifty_clients_at_once(
    client: httpx.AsyncClient, provider: FakeProvider
) -> None:
    """Good pictures are served and bad ones refused, whoever comes beside them."""

    async def upscale(number: int) -> int:
        data = png(16 + number, 16)[: None if number % 2 else 60]
        answer = await client.post(
            "/api/images/upscale",
            json={"image_base64": base64.b64encode(data).decode()},
            headers=as_user(f"user-{number}"),
        )
        return answer.status_code

    statuses = await asyncio.gather(*map(upscale, range(50)))

    assert statuses == [422, 200] * 25
    assert len(provider.calls) == 25
