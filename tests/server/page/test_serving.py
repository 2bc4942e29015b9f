"""How the page is served."""

import re
from pathlib import Path

import pytest

from gaia_core.server.keys import bearer
from gaia_core.server.routes.page import page_files
from tests.server.conftest import OpenClient

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


async def test_it_is_served_with_a_strict_policy(open_client: OpenClient) -> None:
    """Everybody gets the page, and no script but its own can run on it."""
    async with open_client(auth=bearer, server={"require_auth": True}) as client:
        answer = await client.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_each_file_is_served_once(open_client: OpenClient) -> None:
    """A file has its media type, and is not sent again to who has it."""
    async with open_client() as client:
        for name, file in page_files().items():
            answer = await client.get(f"/page/{name}")
            etag = answer.headers["etag"]
            again = await client.get(f"/page/{name}", headers={"If-None-Match": etag})
            head = await client.head(f"/page/{name}")

            assert (answer.status_code, answer.content) == (200, file.data)
            assert answer.headers["content-type"] == file.media_type
            assert (again.status_code, again.content) == (304, b"")
            assert head.headers["etag"] == etag


def test_it_is_small() -> None:
    """The whole page opens at once on a phone at the table."""
    assert sum(len(file.data) for file in page_files().values()) < 250_000


@pytest.mark.parametrize(
    "path",
    ["page/none.js", "page/..%2fapp.py", "page/%2e%2e/app.py", "page/", "page/x/y.js"],
)
async def test_nothing_else_is_served(open_client: OpenClient, path: str) -> None:
    """Only the files of the page have an address."""
    async with open_client() as client:
        answer = await client.get(f"/{path}")

    assert answer.status_code == 404


def test_what_it_loads_is_there() -> None:
    """Every file that one of the files names exists."""
    names = re.compile(r'(?:from |href="page|src="page)"?[./]*/([a-z-]+\.[a-z]+)"')
    texts = [file.data.decode() for file in page_files().values()]

    named = {name for text in texts for name in names.findall(text)}

    assert len(named) > 10
    assert named <= set(page_files())


def test_its_modules_come_together() -> None:
    """The page names its modules at once: few wait for another to name them."""
    page = page_files()["index.html"].data.decode()
    modules = {name for name in page_files() if name.endswith(".js")}

    early = re.findall(r'(?:"modulepreload" href|src)="page/([a-z]+\.js)"', page)

    assert len(early) == len(set(early)) > 20
    assert set(early) <= modules


def test_no_markup_is_made_of_words() -> None:
    """Nothing on the page reads text as HTML or runs it, and no line is inline."""
    dangerous = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|"
        r"new Function|setAttribute\(\"(?:on|style)|https?://(?!www\.w3\.org/)"
    )
    inline = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=")
    files = {name: file.data.decode() for name, file in page_files().items()}

    assert [name for name, text in files.items() if dangerous.search(text)] == []
    assert inline.search(files["index.html"]) is None


def test_the_wheel_has_it() -> None:
    """Whoever installs the package has the page."""
    wheel = pytest.importorskip(
        "hatchling.builders.wheel", reason="hatchling is not installed"
    )
    root = Path(__file__).parents[3]

    packed = {
        file.distribution_path
        for file in wheel.WheelBuilder(str(root)).recurse_included_files()
    }

    assert {f"gaia_core/server/page/{name}" for name in page_files()} <= packed
