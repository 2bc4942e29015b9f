"""The gallery on the page."""

from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from gaia_core.testing import FakeProvider
from tests.server.page.conftest import DESKTOP, PHONE, OpenPage, make
from tests.server.page.test_accessibility import complaints

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMES = "\N{MULTIPLICATION SIGN}"


async def fill(page: Page, *prompts: str, n: int = 1, campaign: str = "") -> None:
    """Put pictures into the gallery, by the API."""
    for prompt in prompts:
        body: dict[str, Any] = {"prompt": prompt, "n": n, "size": "64x64"}
        if campaign:
            body["campaign_id"] = campaign
        answer = await page.request.post("/api/images/generate", data=body)
        assert answer.ok, await answer.text()


async def look(page: Page) -> None:
    """Open the gallery anew, and wait for its pictures."""
    await page.reload()
    await expect(cards(page).first).to_be_visible()


def cards(page: Page) -> Locator:
    """Give the pictures in the grid."""
    return page.locator(".gallery-card")


async def names(page: Page) -> list[str]:
    """Give the words of each picture, in order."""
    return await page.locator(".gallery-words").all_text_contents()


async def test_the_newest_comes_first(open_page: OpenPage) -> None:
    """What was made since it was looked at last is there, in front."""
    async with open_page(FakeProvider()) as page:
        await fill(page, "a keep", "a bridge")
        await page.get_by_role("link", name="Gallery").click()
        await expect(cards(page)).to_have_count(2)
        assert await names(page) == ["a bridge", "a keep"]
        await page.get_by_role("link", name="Make").click()
        await make(page, "a moat")
        await page.get_by_role("link", name="Gallery").click()

        await expect(cards(page)).to_have_count(3)
        assert (await names(page))[0] == "a moat"
        loaded = "all => Promise.all(all.map((one) => one.decode()))"
        await page.locator(".gallery-card img").evaluate_all(loaded)


async def test_campaigns_are_told_apart(open_page: OpenPage) -> None:
    """Each has its count; the arrow keys go from one to the next and stay there."""
    async with open_page(FakeProvider(), view="gallery") as page:
        await fill(page, "a keep", "a bridge", campaign="Ravenloft")
        await fill(page, "an inn", campaign="Waterdeep")
        await fill(page, "a ring")
        await look(page)
        group = page.get_by_role("group", name="Campaigns")
        await expect(group.locator("label")).to_have_text(
            ["All", "Waterdeep1", "Ravenloft2"]
        )
        await group.get_by_role("radio", name="All").focus()
        await page.keyboard.press("ArrowRight")
        await expect(cards(page)).to_have_count(1)
        await expect(group.get_by_role("radio", name="Waterdeep")).to_be_focused()
        await page.keyboard.press("ArrowRight")
        await expect(cards(page)).to_have_count(2)
        field = page.get_by_role("combobox", name="Campaign")
        await expect(field).to_have_value("Ravenloft")
        await field.fill("Nowhere")

        await expect(page.locator("#gallery")).to_contain_text(
            "Nothing made for this campaign yet"
        )
        await expect(group.get_by_role("radio", name="Nowhere")).to_be_checked()


async def test_words_are_searched(open_page: OpenPage) -> None:
    """Some letters of a prompt find it; what finds nothing says so."""
    async with open_page(FakeProvider(), view="gallery") as page:
        await fill(page, "a keep", "a bridge at 100 %")
        await look(page)
        search = page.get_by_label("Search pictures")
        await search.fill("BRIDGE")
        await expect(cards(page)).to_have_count(1)
        assert await names(page) == ["a bridge at 100 %"]
        await search.fill("100 %")
        await expect(cards(page)).to_have_count(1)
        await search.fill("dragon")
        await expect(page.locator("#gallery")).to_contain_text("Nothing is called that")
        await search.fill("")
        await expect(cards(page)).to_have_count(2)


async def test_an_empty_gallery(open_page: OpenPage) -> None:
    """It says that nothing was made yet, and leads to where it is made."""
    async with open_page(FakeProvider(), view="gallery") as page:
        await expect(page.locator("#gallery")).to_contain_text("Nothing made yet")
        assert await complaints(page) == []
        await page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
        await page.get_by_role("link", name="Make a picture").click()

        await expect(page.locator("#make")).to_be_visible()


async def test_there_is_more(open_page: OpenPage) -> None:
    """Thirty at a time; the keyboard goes on with the first that is new."""
    async with open_page(FakeProvider(), view="gallery") as page:
        for number in range(4):
            await fill(page, f"a keep {number}", n=8)
        await look(page)
        await expect(cards(page)).to_have_count(30)
        await page.get_by_role("button", name="Show more").focus()
        await page.keyboard.press("Enter")

        await expect(cards(page)).to_have_count(32)
        await expect(cards(page).nth(30)).to_be_focused()
        await expect(page.get_by_role("button", name="Show more")).to_be_hidden()
        sources = "all => new Set(all.map((one) => one.src)).size"
        assert await page.locator(".gallery-card img").evaluate_all(sources) == 32


async def test_the_grid_by_keyboard(open_page: OpenPage) -> None:
    """Arrow keys go across and down, Home and End to the ends, Enter opens."""
    async with open_page(FakeProvider(), view="gallery") as page:
        await fill(page, "a keep", n=8)
        await look(page)
        await expect(cards(page)).to_have_count(8)
        tops = "all => all.map((one) => Math.round(one.getBoundingClientRect().top))"
        rows = await cards(page).evaluate_all(tops)
        across = rows.count(rows[0])
        await cards(page).first.focus()
        for key, place in (
            ("ArrowRight", 1),
            ("ArrowDown", 1 + across),
            ("ArrowUp", 1),
            ("End", 7),
            ("ArrowRight", 7),
            ("Home", 0),
            ("ArrowLeft", 0),
        ):
            await page.keyboard.press(key)
            await expect(cards(page).nth(place)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog", name="Picture")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(cards(page).first).to_be_focused()


async def test_what_is_known_of_a_picture(open_page: OpenPage) -> None:
    """Its words, size, seed, maker, campaign, date, kind and price are told."""
    painter = FakeProvider(name="painter", price_usd="0.04")
    async with open_page(painter, view="gallery") as page:
        await fill(page, "a keep", n=2, campaign="Ravenloft")
        await look(page)
        await cards(page).first.click()

        facts = page.get_by_role("dialog", name="Picture")
        await expect(facts.locator(".viewer-prompt")).to_have_text("a keep")
        for word in (f"64 {TIMES} 64", "painter", "Ravenloft", "made from words"):
            await expect(facts.locator(".facts")).to_contain_text(word)
        await expect(facts.locator(".facts")).to_contain_text("$0.08 for 2 pictures")
        await expect(facts.locator("dt")).to_contain_text(["Seed", "Made", "Operation"])


async def test_a_kept_picture_is_used_again(open_page: OpenPage) -> None:
    """Its words, its seed, its file, and the picture itself can be taken up."""
    async with open_page(FakeProvider(), view="gallery") as page:
        await fill(page, "a keep")
        await look(page)
        await cards(page).first.click()
        dialog = page.get_by_role("dialog", name="Picture")
        async with page.expect_download() as download:
            await dialog.get_by_role("link", name="Download").click()
        assert (await (await download.value).path()).stat().st_size > 0
        await dialog.get_by_role("button", name="Use words").click()
        prompt = page.get_by_label("What should it show?")
        await expect(prompt).to_have_value("a keep")
        await page.get_by_role("link", name="Gallery").click()
        await cards(page).first.click()
        await dialog.get_by_role("button", name="Edit", exact=True).click()

        await expect(page.locator(".edit-head h2")).to_be_focused()
        await expect(page.locator(".edit-head h2")).to_have_text("a keep")


async def test_a_server_that_is_away(open_page: OpenPage) -> None:
    """It is told, nothing of another campaign stays, and it can be asked again."""
    async with open_page(FakeProvider(), view="gallery", is_watched=False) as page:
        await fill(page, "a keep")
        await look(page)
        await page.context.set_offline(True)
        await page.get_by_label("Search pictures").fill("keep")
        await expect(page.locator("#gallery")).to_contain_text("cannot be reached")
        await expect(cards(page)).to_have_count(0)
        await page.context.set_offline(False)
        await page.get_by_role("button", name="Try again").click()

        await expect(cards(page)).to_have_count(1)


async def test_everybody_sees_the_gallery(open_page: OpenPage) -> None:
    """Markup is text, axe has nothing against it, and it fits on a phone."""
    words = "<img src=x onerror=\"document.title='taken'\">" + "w" * 200
    async with open_page(FakeProvider(), view="gallery") as page:
        await fill(page, words, campaign="<b>Castle</b>" + "x" * 200)
        await look(page)
        assert await names(page) == [f"{words[:119]}…"]
        assert await page.title() == "Gallery · Gaia images"
        assert await complaints(page) == []
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        await cards(page).first.click()
        assert await complaints(page) == []
