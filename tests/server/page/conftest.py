"""The page in a real browser, served by a real server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from gaia_core import Image
from gaia_core.context import CallContext
from gaia_core.testing import png
from tests.server.conftest import OpenClient
from tests.waiting import HeldProvider

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's browser; Playwright brings none of its own."""
HAS_CHROMIUM = CHROMIUM.exists()
DESKTOP, PHONE = (1280, 900), (360, 740)
PATIENCE_MS = 60_000
"""Longest wait for anything on the page; a busy machine needs some of it."""
expect.set_options(timeout=PATIENCE_MS)

OpenPage = Callable[..., AbstractAsyncContextManager[Page]]
Scheme = Literal["dark", "light"]


@attrs.define(eq=False, kw_only=True)
class Sketcher(HeldProvider):
    """Shows a sketch and how far it is, then waits to be let go."""

    sketch: bytes = attrs.field(factory=lambda: png(32, 32))

    async def _take_time(self, context: CallContext) -> None:
        context.progress(0.25, Image.from_bytes(self.sketch))
        await super()._take_time(context)


@pytest_asyncio.fixture(name="browser", scope="session", loop_scope="session")
async def _browser() -> AsyncIterator[Browser]:
    """Start the browser once for all tests of the page."""
    if not HAS_CHROMIUM:
        pytest.skip(f"there is no {CHROMIUM}: install Debian's package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@pytest.fixture(name="open_page")
def _open_page(open_client: OpenClient, browser: Browser) -> OpenPage:
    """
    Give a function that opens the page of a server with the given providers.

    Whatever the test does: the page logs no error and asks no other host, unless the
    test says that it is not watched.
    """

    @asynccontextmanager
    async def open_page(
        *providers: object,
        size: tuple[int, int] = DESKTOP,
        scheme: Scheme = "light",
        view: str = "make",
        is_watched: bool = True,
        **fields: Any,
    ) -> AsyncIterator[Page]:
        async with open_client(*providers, **fields) as client:
            base = str(client.base_url)
            context = await browser.new_context(
                base_url=base,
                viewport={"width": size[0], "height": size[1]},
                color_scheme=scheme,
                reduced_motion="reduce",
                accept_downloads=True,
            )
            context.set_default_timeout(PATIENCE_MS)
            page = await context.new_page()
            watch = Watch(host=urlsplit(base).netloc)
            watch.begin(page)
            await page.goto(f"/#{view}")
            await page.wait_for_selector(f"#{view}:not([hidden])")
            try:
                yield page
            finally:
                # A server does not stop before what it has begun has ended.
                for held in providers:
                    if isinstance(held, HeldProvider):
                        held.go.set()
                await context.close()
            assert not is_watched or watch.troubles == []

    return open_page


@attrs.define(eq=False, kw_only=True)
class Watch:
    """
    Notes what a page must never do.

    Attributes:
        host: The only host it may ask.
        troubles: What it did all the same.
    """

    host: str
    troubles: list[str] = attrs.field(factory=list, init=False)

    def begin(self, page: Page) -> None:
        """Begin to listen."""
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, kind: str, text: str) -> None:
        # The browser notes by itself that an answer was a refusal; the page says so
        # in words of its own.
        is_refusal = text.startswith("Failed to load resource: the server responded")
        if kind in ("error", "warning") and not is_refusal:
            self.troubles.append(text)

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data") and parts.netloc != self.host:
            self.troubles.append(f"asked {url}")


def form(page: Page) -> Locator:
    """Give the form that makes pictures."""
    return page.locator(".make-form")


async def make(page: Page, words: str = "a red dragon") -> None:
    """Make a picture, and wait for it."""
    await form(page).get_by_label("What should it show?").fill(words)
    await page.locator(".make-button").click()
    await page.wait_for_selector(".answer .picture img")
