"""Masks that are painted on the page, as pixels at the provider."""

import pytest
from playwright.async_api import expect

from gaia_core.testing import FakeProvider, png
from tests.server.page.conftest import OpenPage
from tests.server.page.editing import choose, edited, go, mark, mask_of, paint, repaint

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_brush_marks_what_is_repainted(open_page: OpenPage) -> None:
    """White where the brush was, black elsewhere, in the picture's own size."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(400, 200))
        await expect(page.locator(".missing")).to_contain_text("Paint over")
        await expect(go(page)).to_be_disabled()
        await paint(page, (0.25, 0.5), (0.5, 0.5))
        await expect(page.locator("#edit .plan-price")).to_have_text("free")
        await repaint(page)

    mask = mask_of(provider)
    assert edited(provider).prompt == "a door"
    assert mask.size == (400, 200)
    inside, outside = [(101, 100), (150, 100), (199, 100)], [(40, 100), (150, 150)]
    assert [mask.getpixel(place) for place in inside] == [255] * 3
    assert [mask.getpixel(place) for place in outside] == [0] * 2


async def test_a_mask_of_a_large_picture_is_exact(open_page: OpenPage) -> None:
    """Whatever size it is shown in, a box by numbers is right to the pixel."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(4096, 4096))
        await page.get_by_text("Mark a box by numbers").click()
        await mark(page, 1001, 2002, 303, 404)
        assert await page.locator("canvas.mask").evaluate("one => one.width") <= 1600
        await repaint(page)

    mask = mask_of(provider)
    assert mask.size == (4096, 4096)
    assert mask.getbbox() == (1001, 2002, 1304, 2406)
    assert mask.getextrema() == (0, 255)
    assert mask.histogram()[255] == 303 * 404


async def test_steps_are_taken_back(open_page: OpenPage) -> None:
    """Undo and redo go through boxes, erased boxes, inversion and clearing."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        undo = page.get_by_role("button", name="Undo")
        redo = page.get_by_role("button", name="Redo")
        await expect(undo).to_be_disabled()
        await page.get_by_text("Mark a box by numbers").click()
        await mark(page, 0, 0, 32, 64)
        await mark(page, 0, 0, 32, 32, button="Erase the box")
        await page.get_by_role("button", name="Turn the mask inside out").click()
        await page.get_by_role("button", name="Clear the mask").click()
        await expect(go(page)).to_be_disabled()
        await undo.click()
        await undo.click()
        await undo.click()
        await expect(go(page)).to_be_enabled()
        await redo.click()
        await redo.click()
        await expect(redo).to_be_enabled()
        await repaint(page)

    # The lower left quarter was painted, then it was turned inside out.
    mask = mask_of(provider)
    assert [mask.getpixel(place) for place in [(8, 8), (8, 56), (56, 8), (56, 56)]] == [
        255,
        0,
        255,
        255,
    ]


async def test_what_is_erased_is_kept(open_page: OpenPage) -> None:
    """The eraser takes paint away; with all of it gone there is nothing to do."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(100, 100))
        await paint(page, (0.2, 0.2), (0.8, 0.2))
        await expect(go(page)).to_be_enabled()
        erase = page.get_by_role("button", name="Erase", exact=True)
        await erase.click()
        await expect(erase).to_have_attribute("aria-pressed", "true")
        await page.get_by_label("Brush").fill("50")
        await paint(page, (0.2, 0.2), (0.8, 0.2))
        await expect(go(page)).to_be_disabled()
        await page.get_by_role("button", name="Undo").click()
        await paint(page, (0.8, 0.2))
        await repaint(page)

    mask = mask_of(provider)
    assert mask.getpixel((20, 20)) == 255
    assert mask.getpixel((80, 20)) == 0


async def test_the_brush_by_keyboard(open_page: OpenPage) -> None:
    """Its size, the eraser, undo, redo and sending all have keys."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        size = page.get_by_label("Brush")
        before = int(await size.input_value())
        await page.locator("canvas.mask").focus()
        for key in "]]]":
            await page.keyboard.press(key)
        assert int(await size.input_value()) > before
        await page.keyboard.press("[")
        await page.keyboard.press("e")
        erase = page.get_by_role("button", name="Erase", exact=True)
        await expect(erase).to_have_attribute("aria-pressed", "true")
        await page.keyboard.press("e")
        await page.get_by_text("Mark a box by numbers").click()
        await page.locator(".box-tools").get_by_label("Width").fill("16")
        await page.keyboard.press("Enter")
        await page.locator("canvas.mask").focus()
        await page.keyboard.press("Control+z")
        await expect(go(page)).to_be_disabled()
        await page.keyboard.press("Control+Shift+z")
        await expect(go(page)).to_be_enabled()
        await page.get_by_label("What should be there instead?").fill("a door")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".edit-bench .answer")).to_have_count(1)

    assert mask_of(provider).getbbox() == (0, 0, 16, 64)
