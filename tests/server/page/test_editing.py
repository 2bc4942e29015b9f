"""Working on one picture on the page."""

import io
from typing import cast

import pytest
from PIL import Image as Pillow
from playwright.async_api import expect

from gaia_core import (
    Capability,
    DescribeImageRequest,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.errors import ContentFilteredError, ProviderUnavailableError
from gaia_core.testing import FakeProvider, png
from tests.server.page.conftest import PHONE, OpenPage, Sketcher, make
from tests.server.page.editing import choose, edited, go, mask_of, paint, repaint, tool
from tests.server.page.test_accessibility import complaints
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMES = "\N{MULTIPLICATION SIGN}"
ORIENTATION = 0x0112
LIES_ON_ITS_SIDE = 6


async def test_a_plan_carries_no_picture(open_page: OpenPage) -> None:
    """A photograph is sent once, when it is worked on; equal plans are asked once."""
    noise = Pillow.effect_noise((900, 900), 90)
    data = io.BytesIO()
    noise.save(data, "PNG")
    async with open_page(FakeProvider(), view="edit") as page:
        sent: list[tuple[str, int]] = []
        page.on(
            "request",
            lambda one: sent.append(
                (one.url.rpartition("/")[2], len(one.post_data or ""))
            ),
        )
        await choose(page, data.getvalue())
        await paint(page, (0.2, 0.2), (0.4, 0.2))
        await expect(page.locator("#edit .plan-price")).to_have_text("free")
        await paint(page, (0.2, 0.6), (0.4, 0.6))
        await repaint(page)

    large = len(data.getvalue())
    plans = [size for name, size in sent if name == "plan"]
    assert len(plans) <= 4
    assert max(plans) < 5_000 < large
    assert [size > large for name, size in sent if name == "inpaint"] == [True]


async def test_a_photograph_lies_as_it_is_seen(open_page: OpenPage) -> None:
    """What a camera noted about its side is heeded by picture and mask alike."""
    photograph = Pillow.new("RGB", (300, 200), "white")
    exif = Pillow.Exif()
    exif[ORIENTATION] = LIES_ON_ITS_SIDE
    data = io.BytesIO()
    photograph.save(data, "JPEG", exif=exif)
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, data.getvalue(), name="map.jpg", media_type="image/jpeg")
        await paint(page, (0.5, 0.1))
        await repaint(page)

    image = edited(provider).image
    assert image is not None
    assert (image.width, image.height) == mask_of(provider).size == (200, 300)
    assert mask_of(provider).getpixel((100, 30)) == 255


async def test_what_is_too_large_is_made_smaller(open_page: OpenPage) -> None:
    """A picture of more pixels than the server takes is not refused but shrunk."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(8400, 2100))
        await expect(page.locator(".toast")).to_contain_text(f"8192 {TIMES} 2048")


async def test_files_come_by_drop_and_paste(open_page: OpenPage) -> None:
    """A dropped and a pasted file are opened; what is no picture is refused."""
    give = """([name, kind, type, target]) => {
      const canvas = Object.assign(document.createElement("canvas"), {width: 32, height: 16});
      canvas.toBlob((blob) => {
        const parts = type === "image/png" ? [blob] : ["no picture"];
        const data = new DataTransfer();
        data.items.add(new File(parts, name, {type}));
        const init = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
        const event = kind === "drop" ? new DragEvent(kind, init) : new ClipboardEvent(kind, init);
        document.querySelector(target).dispatchEvent(event);
      });
    }"""  # noqa: E501  a script
    async with open_page(FakeProvider(), view="edit") as page:
        title = page.locator(".edit-head h2")
        await page.evaluate(give, ["a.txt", "drop", "text/plain", "#edit"])
        await expect(page.locator(".toast")).to_contain_text("no picture")
        await expect(page.locator(".edit-form")).to_be_hidden()
        await page.evaluate(give, ["dropped.png", "drop", "image/png", ".top"])
        await expect(title).to_have_text("dropped.png")
        await page.evaluate(give, ["pasted.png", "paste", "image/png", "body"])
        await expect(title).to_have_text("pasted.png")


async def test_the_memory_of_a_file_is_freed(open_page: OpenPage) -> None:
    """Once another picture is open and nothing shows the file, its address is gone."""
    opens = """address => new Promise((done) => {
      const image = new Image();
      image.onload = () => done(true);
      image.onerror = () => done(false);
      image.src = address;
    })"""
    async with open_page(FakeProvider(), view="edit", is_watched=False) as page:
        await choose(page, png(32, 32))
        await expect(page.locator(".missing")).to_be_visible()
        address = await page.locator(".board img").get_attribute("src")
        assert await page.evaluate(opens, address)
        await choose(page, png(64, 64), name="other.png")
        await expect(page.locator(".edit-head h2")).to_have_text("other.png")
        devtools = await page.context.new_cdp_session(page)
        for _ in range(50):
            await devtools.send("HeapProfiler.collectGarbage")
            if not await page.evaluate(opens, address):
                break

        assert not await page.evaluate(opens, address)
        other = await page.locator(".board img").get_attribute("src")
        assert await page.evaluate(opens, other)


async def test_words_are_not_taken_by_surprise(open_page: OpenPage) -> None:
    """The field is empty until somebody asks for the words of the picture."""
    async with open_page(FakeProvider()) as page:
        await make(page, "a keep")
        await page.get_by_role("button", name="Edit", exact=True).click()
        words = page.get_by_label("What should be there instead?")
        await expect(words).to_have_value("")
        await page.get_by_role("button", name="Use the words it was made with").click()

        await expect(words).to_have_value("a keep")


async def test_a_result_is_worked_on_further(open_page: OpenPage) -> None:
    """What an edit made goes back on the table, by its id, with an empty mask."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        await paint(page, (0.5, 0.5))
        await repaint(page)
        answer = page.locator(".edit-bench .answer")
        await answer.get_by_role("button", name="Edit", exact=True).click()
        await expect(page.locator(".edit-head h2")).to_be_focused()
        await expect(go(page)).to_be_disabled()
        await paint(page, (0.5, 0.5))
        await go(page).click()
        await expect(answer).to_have_count(2)

    assert len(provider.calls) == 2


async def test_it_is_extended_by_fields_and_shapes(open_page: OpenPage) -> None:
    """Pixels on each side reach the provider; shapes fill the fields in."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(512, 512))
        await tool(page, "Extend").check()
        await expect(go(page)).to_be_disabled()
        await page.get_by_role("button", name="Wider, to 16:9").click()
        tools = page.locator(".extend-tools")
        await expect(tools).to_contain_text(f"becomes 912 {TIMES} 512")
        await page.get_by_role("button", name="Reset").click()
        await expect(go(page)).to_be_disabled()
        await tools.get_by_label("Left").fill("128")
        await tools.get_by_label("Top").focus()
        await page.keyboard.press("PageUp")
        await expect(tools).to_contain_text(f"becomes 640 {TIMES} 576")
        await page.get_by_label("What is there beyond the picture?").fill("a moat")
        await go(page).click()
        answer = page.locator(".edit-bench .answer")
        await expect(answer.locator("figcaption")).to_contain_text(f"640 {TIMES} 576")

    outpaint = edited(provider).outpaint
    assert outpaint is not None
    sides = (outpaint.left, outpaint.right, outpaint.top, outpaint.bottom)
    assert sides == (128, 0, 64, 0)


async def test_it_is_extended_by_handles(open_page: OpenPage) -> None:
    """A handle is pulled outwards, in whole steps; inwards it stops at the picture."""
    async with open_page(FakeProvider(), view="edit") as page:
        await choose(page, png(512, 512))
        await tool(page, "Extend").check()
        right = page.locator(".extend-tools").get_by_label("Right")
        for distance in (60, -400):
            box = await page.locator(".grip-right").bounding_box()
            assert box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            await page.mouse.move(x, y)
            await page.mouse.down()
            await page.mouse.move(x + distance, y, steps=3)
            await page.mouse.up()
            value = int(await right.input_value())
            assert value % 64 == 0
            assert (value > 0) == (distance > 0)


async def test_it_is_enlarged(open_page: OpenPage) -> None:
    """The factor is chosen, priced and sent, and the two are shown together."""
    provider = FakeProvider(price_usd="0.01")
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        await tool(page, "Enlarge").check()
        await page.get_by_role("radio", name=f"8{TIMES}").check()
        await expect(go(page)).to_have_text("Enlarge$0.01")
        await go(page).click()

        answer = page.locator(".edit-bench .answer")
        await expect(answer.get_by_role("heading")).to_have_text(f"Enlarged 8{TIMES}")
        await expect(answer.locator(".compare img")).to_have_count(2)
    (request,) = provider.requests
    assert cast("UpscaleRequest", request).upscale_factor == 8


async def test_before_and_after_by_keyboard(open_page: OpenPage) -> None:
    """The line between a picture and its cut-out is moved by the arrow keys."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        await tool(page, "Cut out").check()
        await go(page).click()
        line = page.get_by_role("slider", name="Before and after")
        await line.focus()
        await page.keyboard.press("Home")
        before = page.locator(".compare-before")
        shown = "one => getComputedStyle(one).clipPath"
        assert await before.evaluate(shown) == "inset(0px 100% 0px 0px)"
        await page.keyboard.press("ArrowRight")

        await expect(line).to_have_attribute("aria-valuetext", "1 % before, 99 % after")
        loaded = "all => Promise.all(all.map((one) => one.decode()))"
        await page.locator(".compare img").evaluate_all(loaded)
    assert isinstance(provider.requests[0], RemoveBackgroundRequest)


async def test_a_description_becomes_a_prompt(open_page: OpenPage) -> None:
    """A question goes along; the answer is read, and used for the next picture."""
    provider = FakeProvider()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 48))
        await tool(page, "Describe").check()
        await page.get_by_label("What do you want to know?").fill("How large is it?")
        await go(page).click()
        await expect(page.locator(".description")).to_contain_text("64x48 pixels")
        await page.get_by_role("button", name="Use as prompt").click()

        prompt = page.get_by_label("What should it show?")
        await expect(prompt).to_have_value("A picture of 64x48 pixels.")
    (request,) = provider.requests
    assert cast("DescribeImageRequest", request).question == "How large is it?"


async def test_nobody_can_do_it(open_page: OpenPage) -> None:
    """Where no provider can, the plan says so before anything is sent."""
    painter = FakeProvider(capabilities={Capability.TEXT_TO_IMAGE})
    async with open_page(painter, view="edit") as page:
        await choose(page, png(64, 64))
        await tool(page, "Enlarge").check()

        await expect(page.locator("#edit .plan")).to_contain_text("Nobody can make")


@pytest.mark.parametrize("name", ["Repaint", "Describe"])
async def test_a_refusal_is_told(open_page: OpenPage, name: str) -> None:
    """What was refused says what to do next, and the picture stays on the table."""
    provider = FakeProvider.failing(ContentFilteredError("no"))
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        await tool(page, name).check()
        if name == "Repaint":
            await paint(page, (0.5, 0.5))
            await page.get_by_label("What should be there instead?").fill("a door")
        await go(page).click()

        job = page.locator(".edit-bench .job.failed")
        await expect(job).to_contain_text("Put it in other words")
        await expect(page.locator(".board img")).to_have_count(1)


async def test_a_failure_is_tried_again(open_page: OpenPage) -> None:
    """The same picture and mask are sent again."""
    provider = FakeProvider(outcomes=[ProviderUnavailableError("down")] * 4)
    async with open_page(provider, view="edit", max_attempts=1) as page:
        await choose(page, png(64, 64))
        await paint(page, (0.5, 0.5))
        await page.get_by_label("What should be there instead?").fill("a door")
        await go(page).click()
        again = page.get_by_role("button", name="Try again")
        await expect(again).to_be_visible()
        provider.outcomes.clear()
        await again.click()
        await expect(page.locator(".edit-bench .answer")).to_have_count(1)


async def test_an_edit_is_called_off(open_page: OpenPage) -> None:
    """Work on a picture has a bar, a sketch and a way out, as making has."""
    provider = Sketcher()
    async with open_page(provider, view="edit") as page:
        await choose(page, png(64, 64))
        await tool(page, "Describe").check()
        await go(page).click()
        await until(lambda: provider.calls)
        await page.get_by_role("button", name="Cancel").click()

        await expect(page.locator(".edit-bench .job")).to_contain_text("Called off")


async def test_markup_in_a_name_is_shown_as_it_is(open_page: OpenPage) -> None:
    """The name of a file is text, whatever it says."""
    name = "<img src=x onerror=alert(1)>.png"
    async with open_page(FakeProvider(), view="edit") as page:
        await choose(page, png(64, 64), name=name)

        await expect(page.locator(".edit-head h2")).to_have_text(name)


@pytest.mark.parametrize("name", ["Repaint", "Extend", "Enlarge", "Describe"])
async def test_everybody_can_edit(open_page: OpenPage, name: str) -> None:
    """Axe has nothing against it, and a phone shows all of it."""
    async with open_page(FakeProvider(), view="edit") as page:
        await choose(page, png(640, 360), name="a-very-long-name" * 8)
        await tool(page, name).check()
        if name == "Repaint":
            await page.get_by_text("Mark a box by numbers").click()
            await paint(page, (0.5, 0.5))
            await repaint(page)
        if name == "Enlarge":
            await go(page).click()
            await expect(page.locator(".edit-bench .answer")).to_be_visible()

        assert await complaints(page) == []
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
