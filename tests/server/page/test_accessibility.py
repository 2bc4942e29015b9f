"""The page for everybody: without a mouse, without eyes, without much contrast."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect

from gaia_core.errors import ContentFilteredError
from gaia_core.testing import FakeProvider
from tests.server.page.conftest import (
    DESKTOP,
    PHONE,
    OpenPage,
    Scheme,
    Sketcher,
    form,
    make,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENS = [(size, scheme) for size in (DESKTOP, PHONE) for scheme in ("light", "dark")]


async def complaints(page: Page) -> list[str]:
    """Have axe look at the page on every screen; give what it has against it."""
    found = []
    for (width, height), scheme in SCREENS:
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme=cast("Scheme", scheme))
        results: dict[str, Any] = (await Axe().run(page)).response
        found += [
            f"{width} {scheme} {one['id']}: {node['html'][:200]} "
            f"{node.get('failureSummary', '')}"
            for one in results["violations"]
            for node in one["nodes"]
        ]
    return found


async def fresh(page: Page) -> None:
    """Leave the page as it opens, all of it unfolded."""
    await form(page).get_by_text("More settings").click()
    await page.get_by_label("Plan and price").get_by_text("Why nobody else").click()
    await form(page).get_by_label("Custom…").check()
    await form(page).get_by_label("Other…").check()


async def made(page: Page) -> None:
    """Make a picture."""
    await make(page)


async def enlarged(page: Page) -> None:
    """Enlarge what was made: it is shown beside what it was."""
    await form(page).get_by_label("Token").check()
    await make(page)
    await page.get_by_role("button", name="Enlarge 2 times").click()
    await expect(page.locator(".answer")).to_have_count(2)


async def large(page: Page) -> None:
    """Open a picture large."""
    await make(page)
    await page.locator(".picture-open").click()


async def choosing(page: Page) -> None:
    """Open the list of models, what cannot work unfolded."""
    await form(page).get_by_label("Who makes it?").click()
    await page.get_by_role("dialog").get_by_text("1 model").click()


async def asking(page: Page) -> None:
    """Open the dialog about the key."""
    await page.get_by_role("button", name="API key").click()


STATES = pytest.mark.parametrize(
    "reach",
    [fresh, made, enlarged, large, choosing, asking],
    ids=lambda reach: reach.__name__,
)


@STATES
async def test_axe_finds_nothing(
    open_page: OpenPage, reach: Callable[[Page], Awaitable[None]]
) -> None:
    """No state of the page has anything against it, on no screen, in no theme."""
    broken = FakeProvider(name="studio", unavailable="STUDIO_KEY is not set")
    async with open_page(FakeProvider(), broken) as page:
        await expect(page.locator("#make .plan-price")).to_have_text("free")
        await reach(page)

        assert await complaints(page) == []


async def test_axe_finds_nothing_under_way(open_page: OpenPage) -> None:
    """A card with a bar and one that was called off are fine too."""
    provider = Sketcher()
    async with open_page(provider) as page:
        for words in ("a keep", "a bridge"):
            await form(page).get_by_label("What should it show?").fill(words)
            await page.locator(".make-button").click()
        await expect(page.locator(".preview img")).to_have_count(2)
        await page.get_by_role("button", name="Cancel").first.click()
        await expect(page.locator(".job.cancelled")).to_be_visible()

        assert await complaints(page) == []
        provider.go.set()
        await expect(page.locator(".answer")).to_be_visible()


async def test_axe_finds_nothing_in_a_failure(open_page: OpenPage) -> None:
    """What went wrong can be read by everybody."""
    refusal = ContentFilteredError("no")
    async with open_page(FakeProvider.failing(refusal)) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()
        await expect(page.locator(".job.failed")).to_be_visible()

        assert await complaints(page) == []


async def test_a_picture_is_made_without_a_mouse(open_page: OpenPage) -> None:
    """From the top of the page to the picture and back, by keyboard alone."""
    async with open_page(FakeProvider()) as page:
        await page.goto("/")
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the work")).to_be_focused()
        await expect(page.get_by_text("Skip to the work")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(form(page).get_by_label("What should it show?")).to_be_focused()
        await page.keyboard.type("a keep")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".answer")).to_be_visible()
        await page.get_by_role("button", name="Open large: a keep").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog", name="Picture")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_model_is_picked_without_a_mouse(open_page: OpenPage) -> None:
    """Arrow keys look around in the list, Enter takes what is chosen."""
    providers = FakeProvider(name="oils", priority=2), FakeProvider(name="inks")
    async with open_page(*providers) as page:
        button = form(page).get_by_label("Who makes it?")
        await expect(button).to_contain_text("Whoever is best placed")
        await button.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Who makes it?")
        await expect(dialog.get_by_role("radio").first).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("ArrowDown")
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Enter")

        await expect(dialog).to_have_count(0)
        await expect(button).to_contain_text("Inks")
        await expect(button).to_be_focused()


async def test_focus_is_seen(open_page: OpenPage) -> None:
    """Whatever the keyboard reaches has a ring of three pixels around it."""
    outline = """() => {
      const one = document.activeElement.closest(".segments label, .choice")
        ?? document.activeElement;
      const style = getComputedStyle(one);
      return [one.className || one.tagName, style.outlineStyle, style.outlineWidth];
    }"""
    async with open_page(FakeProvider()) as page:
        await expect(page.locator("#make .plan-price")).to_have_text("free")
        rings = []
        for _ in range(30):
            await page.keyboard.press("Tab")
            rings.append(await page.evaluate(outline))

    # Behind the last one the window itself has the focus.
    reached = [ring for ring in rings if ring[0] != "BODY"]
    assert len(reached) > 10
    assert [ring for ring in reached if ring[1:] != ["solid", "3px"]] == []


async def test_what_happens_is_said(open_page: OpenPage) -> None:
    """Whoever does not see the card hears that it began, and that it is done."""
    provider = Sketcher()
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()
        status = page.get_by_role("status").locator("visible=true")
        await expect(page.locator("#status")).to_have_text("a keep: started")
        provider.go.set()
        await expect(page.locator("#status")).to_have_text("a keep: done")
        await expect(status.first).to_contain_text("makes it with")


async def test_focus_stays_with_the_card(open_page: OpenPage) -> None:
    """Whoever was at Cancel when it came is at the answer then, not at the top."""
    provider = Sketcher()
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()
        await page.get_by_role("button", name="Cancel").focus()
        provider.go.set()

        await expect(page.locator(".answer")).to_be_focused()


async def test_it_moves_little_for_whoever_wants_that(open_page: OpenPage) -> None:
    """Where reduced motion is asked for, nothing fades or slides."""
    async with open_page(FakeProvider()) as page:
        moving = """() => [...document.querySelectorAll("*")].filter((one) =>
          parseFloat(getComputedStyle(one).transitionDuration) > 0).length"""

        assert await page.evaluate(moving) == 0


async def test_it_can_be_made_larger(open_page: OpenPage) -> None:
    """At 400 percent of a desktop, 320 pixels, nothing is cut off sideways."""
    async with open_page(FakeProvider(), size=(320, 256)) as page:
        await make(page)

        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
