"""How the page looks and behaves around what it makes."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, expect

from gaia_core import Gaia
from gaia_core.server import nobody_asked, router
from gaia_core.server.keys import bearer
from gaia_core.settings import Secret
from gaia_core.testing import FakeProvider
from tests.server.conftest import serving, settings_in
from tests.server.page.conftest import PHONE, OpenPage, form, make

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "a-long-token-of-this-test-0123456789"
"""What opens a server that asks for a key."""
LOCKED = {"auth": bearer, "server": {"token": Secret(TOKEN), "require_auth": True}}


async def test_it_works_below_a_prefix(tmp_path: Path, browser: Browser) -> None:
    """A host that includes the router below a prefix has the page there."""
    gaia = Gaia.open(settings_in(tmp_path), plugins=[FakeProvider()], discover=False)
    app = FastAPI()
    app.include_router(router(gaia, auth=nobody_asked), prefix="/pictures")

    async with serving(app) as url:
        page = await browser.new_page()
        await page.goto(f"{url}/pictures/")
        await make(page)
        loaded = "image => image.decode().then(() => image.naturalWidth)"
        width = await page.locator(".answer .picture img").evaluate(loaded)
        await page.close()

    assert width == 1024


async def test_markup_in_words_is_shown_as_it_is(open_page: OpenPage) -> None:
    """Whatever somebody writes stays text, wherever the page shows it."""
    words = "<img src=x onerror=\"document.title='taken'\"><script>1</script>"
    async with open_page(FakeProvider()) as page:
        await make(page, words)

        await expect(page.locator(".answer").get_by_role("heading")).to_have_text(words)
        await page.locator(".picture-open").click()
        await expect(page.locator(".viewer-prompt")).to_have_text(words)
        assert await page.title() == "Make · Gaia images"


async def test_an_injected_script_does_not_run(open_page: OpenPage) -> None:
    """The policy stops what would have got in all the same."""
    async with open_page(FakeProvider(), is_watched=False) as page:
        async with page.expect_console_message() as blocked:
            await page.evaluate(
                """() => {
                  const script = document.createElement("script");
                  script.textContent = "window.isTaken = true";
                  document.body.append(script);
                }"""
            )

        assert "Content Security Policy" in (await blocked.value).text
        assert await page.evaluate("window.isTaken") is None


async def test_a_key_is_asked_for_once(open_page: OpenPage) -> None:
    """A wrong one is told; the right one opens the page, and stays in the tab."""
    async with open_page(FakeProvider(), **LOCKED) as page:
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_have_count(1)
        await expect(dialog).to_contain_text("This server asks who you are.")
        await dialog.get_by_label("API key", exact=True).fill("gaia_wrong")
        await page.keyboard.press("Enter")
        await expect(dialog).to_contain_text("The server refuses this key")
        await dialog.get_by_label("API key", exact=True).fill(TOKEN)
        await dialog.get_by_role("button", name="Use this key").click()

        await expect(dialog).to_have_count(0)
        await expect(page.locator("#make .plan-price")).to_have_text("free")
        await make(page)
        assert await page.evaluate("JSON.stringify(localStorage)") != ""
        assert TOKEN not in await page.evaluate("JSON.stringify(localStorage)")


async def test_whoever_has_no_key_is_left_alone(open_page: OpenPage) -> None:
    """The question is closed with Esc, and comes again only for something to make."""
    async with open_page(FakeProvider(), **LOCKED) as page:
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)

        await form(page).get_by_label("What should it show?").fill("a keep")
        await expect(form(page)).to_contain_text("Enter an API key")
        await expect(dialog).to_have_count(0)
        await page.locator(".make-button").click()
        await expect(dialog).to_have_count(1)


async def test_a_key_is_forgotten(open_page: OpenPage) -> None:
    """The button at the top shows the dialog; a key can be taken out again."""
    async with open_page(FakeProvider(), **LOCKED) as page:
        dialog = page.get_by_role("dialog", name="API key")
        await dialog.get_by_label("API key", exact=True).fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#make .plan-price")).to_have_text("free")

        await page.get_by_role("button", name="API key").click()
        await dialog.get_by_role("button", name="Forget it").click()

        await expect(dialog).to_contain_text("This server asks who you are.")


async def test_a_server_that_is_away(open_page: OpenPage) -> None:
    """It is said in words; asked again, nothing can be paid twice."""
    provider = FakeProvider()
    async with open_page(provider, is_watched=False) as page:
        await expect(page.locator("#make .plan-price")).to_have_text("free")
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.context.set_offline(True)
        await page.locator(".make-button").click()
        job = page.locator(".job.failed")
        await expect(job).to_contain_text("The server cannot be reached")
        await expect(job).to_contain_text("never paid twice")
        await page.context.set_offline(False)
        await job.get_by_role("button", name="Try again").click()

        await expect(page.locator(".answer")).to_be_visible()
    assert len(provider.charges) == 1


async def test_it_works_without_a_secure_context(open_page: OpenPage) -> None:
    """Over plain http from another machine a browser makes no UUIDs."""
    async with open_page(FakeProvider()) as page:
        await page.add_init_script("delete Crypto.prototype.randomUUID")
        await page.reload()

        await make(page)

        assert await page.evaluate("crypto.randomUUID") is None


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(245, 242, 234)", "rgb(20, 23, 26)"


async def test_the_theme_is_the_systems_until_it_is_chosen(open_page: OpenPage) -> None:
    """The switch goes from the system's to light to dark, and is remembered."""
    async with open_page(FakeProvider(), scheme="dark") as page:
        assert await page.evaluate(BACKGROUND) == DARK
        await page.get_by_role("button", name="Theme: system").click()
        assert await page.evaluate(BACKGROUND) == LIGHT
        await page.reload()
        assert await page.evaluate(BACKGROUND) == LIGHT
        await page.get_by_role("button", name="Theme: light").click()
        assert await page.evaluate(BACKGROUND) == DARK
        await page.get_by_role("button", name="Theme: dark").click()
        await expect(page.get_by_role("button", name="Theme: system")).to_be_visible()


@pytest.mark.parametrize("view", ["make", "edit", "gallery"])
async def test_a_phone_shows_all_of_it(open_page: OpenPage, view: str) -> None:
    """Nothing is wider than 360 pixels."""
    async with open_page(FakeProvider(), size=PHONE, view=view) as page:
        await expect(page.locator(".make-button")).to_have_text("Makefree")
        if view == "make":
            await make(page, "w" * 120)

        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


async def test_views_have_addresses(open_page: OpenPage) -> None:
    """Each view has its address and its title; Back goes back."""
    async with open_page(FakeProvider()) as page:
        await page.get_by_role("link", name="Gallery").click()
        await expect(page).to_have_title("Gallery · Gaia images")
        await expect(page.locator("#gallery")).to_be_visible()
        await page.go_back()

        await expect(page).to_have_title("Make · Gaia images")
        current = page.get_by_label("Views").locator("[aria-current]")
        await expect(current).to_have_text("Make")


async def test_words_survive_a_reload(open_page: OpenPage) -> None:
    """What was written is still there, and the plan with it."""
    async with open_page(FakeProvider()) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.reload()

        prompt = form(page).get_by_label("What should it show?")
        await expect(prompt).to_have_value("a keep")
