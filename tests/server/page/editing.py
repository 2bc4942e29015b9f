"""What the tests of the view Edit do with it."""

from PIL import Image as Pillow
from playwright.async_api import Locator, Page, expect

from gaia_core import GenerateRequest
from gaia_core.testing import FakeProvider


def edited(provider: FakeProvider) -> GenerateRequest:
    """Give the one request that was about a picture."""
    (request,) = (
        one
        for one in provider.requests
        if isinstance(one, GenerateRequest) and one.image is not None
    )
    return request


def mask_of(provider: FakeProvider) -> Pillow.Image:
    """Give the mask as the provider got it, in shades of grey."""
    mask = edited(provider).mask_image
    assert mask is not None
    return mask.decode().convert("L")


def tool(page: Page, name: str) -> Locator:
    """Give one of the things that can be done."""
    group = page.get_by_role("group", name="What should be done?")
    return group.get_by_role("radio", name=name)


def go(page: Page) -> Locator:
    """Give the button that does it."""
    return page.locator(".edit-tools > button.primary")


async def choose(
    page: Page,
    data: bytes,
    *,
    name: str = "map.png",
    media_type: str = "image/png",
) -> None:
    """Choose a file from disk."""
    file = {"name": name, "mimeType": media_type, "buffer": data}
    await page.locator("#edit input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    await expect(page.locator(".edit-form")).to_be_visible()


async def paint(page: Page, *points: tuple[float, float]) -> None:
    """Draw a stroke through points, each a share of the picture's sides."""
    await page.locator("canvas.mask").scroll_into_view_if_needed()
    box = await page.locator("canvas.mask").bounding_box()
    assert box is not None
    for place, (x, y) in enumerate(points):
        await page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if place == 0:
            await page.mouse.down()
    await page.mouse.up()


async def mark(page: Page, *box: int, button: str = "Mark the box") -> None:
    """Mark a box by numbers: left, top, width, height."""
    for name, value in zip(("Left", "Top", "Width", "Height"), box, strict=True):
        await page.locator(".box-tools").get_by_label(name).fill(str(value))
    await page.get_by_role("button", name=button).click()


async def repaint(page: Page, words: str = "a door") -> None:
    """Repaint, and wait for the picture."""
    await page.get_by_label("What should be there instead?").fill(words)
    await go(page).click()
    await expect(page.locator(".edit-bench .answer")).to_have_count(1)
