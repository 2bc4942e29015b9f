"""Making pictures on the page."""

import re
from collections.abc import Sequence

import pytest
from playwright.async_api import Page, expect

from gaia_core import Capability, GenerateRequest, ModelInfo, UpscaleRequest
from gaia_core.errors import (
    ContentFilteredError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from gaia_core.testing import FakeProvider
from tests.server.page.conftest import OpenPage, Sketcher, form, make
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TIMES = "\N{MULTIPLICATION SIGN}"
DRAWING = frozenset({Capability.TEXT_TO_IMAGE})


def drawn(provider: FakeProvider) -> Sequence[GenerateRequest]:
    """Give what a provider was asked to draw."""
    return [one for one in provider.requests if isinstance(one, GenerateRequest)]


def card(name: str) -> ModelInfo:
    """Describe a model that draws."""
    provider = name.partition("-")[0]
    return ModelInfo(id=name, name=name, provider=provider, capabilities=DRAWING)


async def test_words_become_a_picture(open_page: OpenPage) -> None:
    """What was made is shown, with who made it, its seed and what it cost."""
    async with open_page(FakeProvider()) as page:
        await make(page, "a red dragon")

        answer = page.locator(".answer")
        await expect(answer.get_by_role("heading")).to_have_text("a red dragon")
        await expect(answer.locator(".answer-line")).to_contain_text("free")
        await expect(answer.locator("figcaption")).to_contain_text(f"1024 {TIMES} 1024")
        await expect(answer.locator("figcaption")).to_contain_text("seed")
        loaded = "image => image.decode().then(() => image.naturalWidth)"
        assert await answer.locator("img").evaluate(loaded) == 1024


async def test_every_field_reaches_the_provider(open_page: OpenPage) -> None:
    """What the form says is what is drawn."""
    provider = FakeProvider()
    async with open_page(provider) as page:
        await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")
        await form(page).get_by_label("Pixel art").check()
        await form(page).get_by_label("Custom…").check()
        await form(page).get_by_label("Width").fill("320")
        await form(page).get_by_label("Height").fill("256")
        await form(page).get_by_role("button", name="One more").click()
        await form(page).get_by_label("Seed", exact=True).fill("9223372036854775807")
        await form(page).get_by_text("More settings").click()
        await form(page).get_by_label("What should it not show?").fill("fog")
        await form(page).get_by_label("Steps").fill("12")
        await form(page).get_by_label("Guidance").fill("3.5")
        await make(page, "a keep")

    (request,) = drawn(provider)
    assert request.prompt == "a keep"
    assert request.style == "pixel art"
    assert (request.width, request.height) == (320, 256)
    assert request.num_images == 2
    assert request.seed == 2**63 - 1
    assert request.negative_prompt == "fog"
    assert request.num_inference_steps == 12
    assert request.guidance_scale == 3.5
    assert request.campaign_id == "Ravenloft"


async def test_own_words_for_a_style(open_page: OpenPage) -> None:
    """A style that is not in the row can be written."""
    provider = FakeProvider()
    async with open_page(provider) as page:
        await form(page).get_by_label("Other…").check()
        await form(page).get_by_label("Own style").fill("stained glass")
        await make(page)

    assert drawn(provider)[0].style == "stained glass"


async def test_no_style(open_page: OpenPage) -> None:
    """Without a style nothing is put behind the words."""
    provider = FakeProvider()
    async with open_page(provider) as page:
        await form(page).get_by_label("None", exact=True).check()
        await make(page)

    assert drawn(provider)[0].style is None


async def test_the_plan_says_who_and_for_how_much(open_page: OpenPage) -> None:
    """Before anything is paid there is a name, a price and a reason for the others."""
    painter = FakeProvider(name="painter", priority=9, price_usd="0.04")
    broken = FakeProvider(name="studio", unavailable="STUDIO_KEY is not set")
    async with open_page(painter, broken) as page:
        plan = form(page).get_by_label("Plan and price")

        await expect(plan).to_contain_text("painter makes it with Painter")
        await expect(plan.locator(".plan-price")).to_have_text("$0.04")
        await plan.get_by_text("Why nobody else").click()
        await expect(plan).to_contain_text("studio STUDIO_KEY is not set")
        await form(page).get_by_label("How many?").fill("3")
        await expect(page.locator(".make-button")).to_have_text("Make$0.12")
        assert painter.calls == []


async def test_equal_reasons_are_told_once(open_page: OpenPage) -> None:
    """Many models with one reason make one line; who does other things is counted."""
    studio = FakeProvider(
        name="studio",
        unavailable="STUDIO_KEY is not set",
        models=[card(f"studio-{number}") for number in range(5)],
    )
    cutter = FakeProvider(name="cutter", capabilities={Capability.BACKGROUND_REMOVAL})
    painter = FakeProvider(
        name="painter", models=[card(f"painter-{number}") for number in range(5)]
    )
    async with open_page(painter, studio, cutter) as page:
        plan = form(page).get_by_label("Plan and price")
        await plan.get_by_text("Why nobody else").click()

        await expect(plan.get_by_role("listitem")).to_have_text(
            [
                re.compile(r"painter-1, painter/painter-2 and 2 more another model"),
                re.compile("studio STUDIO_KEY is not set"),
                "One other does something else.",
            ]
        )


async def test_free_is_called_free(open_page: OpenPage) -> None:
    """What costs nothing says so, on the button as well."""
    async with open_page(FakeProvider()) as page:
        await expect(page.locator(".make-button")).to_have_text("Makefree")


async def test_a_ceiling_passes_the_dear_ones_over(open_page: OpenPage) -> None:
    """The most it may cost decides who is asked; if nobody is left, that is said."""
    painter = FakeProvider(name="painter", price_usd="0.04")
    async with open_page(painter) as page:
        await form(page).get_by_text("More settings").click()
        await form(page).get_by_label("At most, in US dollars").fill("0.01")

        plan = form(page).get_by_label("Plan and price")
        await expect(plan).to_contain_text("Nobody can make this as it stands.")
        await expect(plan.locator("li").first).to_contain_text("painter")


async def test_fields_that_are_not_heeded_are_named(open_page: OpenPage) -> None:
    """A model that knows no steps does not drop them in silence."""
    plain = ModelInfo(id="plain", name="Plain", provider="fake", capabilities=DRAWING)
    async with open_page(FakeProvider(models=[plain])) as page:
        await form(page).get_by_text("More settings").click()
        await form(page).get_by_label("Steps").fill("12")

        plan = form(page).get_by_label("Plan and price")
        await expect(plan).to_contain_text("It does not heed: num inference steps.")


async def test_a_model_is_picked(open_page: OpenPage) -> None:
    """The list shows every model with its price; what cannot work says why."""
    painter = FakeProvider(name="painter", priority=9, price_usd="0.04")
    sketcher = FakeProvider(name="scribbler")
    broken = FakeProvider(name="studio", unavailable="STUDIO_KEY is not set")
    async with open_page(painter, sketcher, broken) as page:
        await form(page).get_by_label("Who makes it?").click()
        dialog = page.get_by_role("dialog", name="Who makes it?")
        await expect(dialog).to_contain_text("about $0.04")
        await expect(dialog).to_contain_text("STUDIO_KEY is not set")
        await dialog.get_by_text("1 model").click()
        await expect(dialog.get_by_role("radio", name="Studio")).to_be_disabled()
        await dialog.get_by_text("Scribbler", exact=True).click()
        await expect(dialog).to_be_hidden()
        await make(page)

    assert painter.calls == []
    assert [request.model for request in drawn(sketcher)] == ["scribbler"]


async def test_models_are_searched(open_page: OpenPage) -> None:
    """Words narrow the list down."""
    async with open_page(FakeProvider(name="oils"), FakeProvider(name="inks")) as page:
        await form(page).get_by_label("Who makes it?").click()
        await page.get_by_label("Search models").fill("ink")

        found = page.get_by_role("dialog").get_by_role("radio")
        await expect(found).to_have_count(1)
        await expect(found).to_have_accessible_name(re.compile("Inks"))


async def test_progress_is_live(open_page: OpenPage) -> None:
    """While it is drawn there is a bar, a sketch, and then the picture."""
    provider = Sketcher()
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()

        job = page.locator(".job.running")
        await expect(job.get_by_role("progressbar")).to_have_attribute("value", "0.25")
        await expect(job.get_by_alt_text("What it looks like so far")).to_be_visible()
        provider.go.set()
        await expect(page.locator(".answer .picture img")).to_be_visible()
        await expect(job).to_have_count(0)
        await expect(page.locator("#status")).to_have_text("a keep: done")


async def test_it_is_called_off(open_page: OpenPage) -> None:
    """Cancel ends the wait; asked for after all, it is not paid a second time."""
    provider = Sketcher(price_usd="0.04")
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()
        await provider.called()

        await page.get_by_role("button", name="Cancel").click()

        job = page.locator(".job")
        await expect(job).to_contain_text("Called off")
        await expect(job).to_contain_text("What was not sent yet costs nothing.")
        provider.go.set()
        await job.get_by_role("button", name="Make it after all").click()
        # What was sent goes on; until it is there, it is said to be under way.
        again = job.get_by_role("button", name="Try again")
        answer = page.locator(".answer")
        await expect(answer.or_(again)).to_be_visible()
        if await again.count():
            await again.click()
        await expect(answer).to_be_visible()
    assert len(provider.charges) == 1


async def test_several_are_under_way_at_once(open_page: OpenPage) -> None:
    """The form stays free while something is drawn."""
    provider = Sketcher()
    async with open_page(provider) as page:
        for words in ("a keep", "a bridge"):
            await form(page).get_by_label("What should it show?").fill(words)
            await page.locator(".make-button").click()

        await expect(page.locator(".job.running")).to_have_count(2)
        await provider.called(2)
        provider.go.set()
        await expect(page.locator(".answer")).to_have_count(2)


async def test_a_refusal_says_what_to_do(open_page: OpenPage) -> None:
    """A safety refusal is told in words, with the next step and no useless button."""
    refusal = ContentFilteredError("no")
    async with open_page(FakeProvider.failing(refusal)) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()

        job = page.locator(".job.failed")
        await expect(job).to_contain_text("The provider refuses it on safety grounds.")
        await expect(job).to_contain_text("Put it in other words")
        await expect(job.get_by_role("button", name="Try again")).to_have_count(0)
        await job.get_by_role("button", name="Dismiss").click()
        await expect(page.locator(".job")).to_have_count(0)


async def test_a_failure_is_tried_again(open_page: OpenPage) -> None:
    """What may work the next time has a button for it."""
    provider = FakeProvider.failing(ProviderUnavailableError("down"))
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()
        again = page.get_by_role("button", name="Try again")
        await expect(again).to_be_visible()
        provider.failure = None
        await again.click()

        await expect(page.locator(".answer")).to_be_visible()
        await expect(page.locator(".job")).to_have_count(0)


async def test_what_may_be_charged_is_not_made_again(open_page: OpenPage) -> None:
    """A lost answer has no button that could pay twice; it says where to look."""
    lost = FakeProvider.failing(ProviderTimeoutError("late"), price_usd="0.04")
    async with open_page(lost) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.locator(".make-button").click()

        job = page.locator(".job.failed")
        await expect(job).to_contain_text("it may have been charged")
        await expect(job).to_contain_text("Look in the gallery in a minute")
        await expect(job.get_by_role("button", name="Try again")).to_have_count(0)
    assert len(lost.calls) == 1


async def test_a_fallback_is_told(open_page: OpenPage) -> None:
    """Whoever failed before is named beside who made it."""
    down = FakeProvider(
        name="studio", priority=9, failure=ProviderUnavailableError("down")
    )
    async with open_page(down, FakeProvider()) as page:
        await make(page)

        await expect(page.locator(".answer-line")).to_contain_text(
            "after studio failed"
        )


async def test_a_wrong_number_is_shown_where_it_is(open_page: OpenPage) -> None:
    """A field that is folded away is unfolded when it is wrong; nothing is sent."""
    provider = FakeProvider()
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await form(page).get_by_text("More settings").click()
        await form(page).get_by_label("Steps").fill("9999")
        await form(page).get_by_text("More settings").click()
        await page.locator(".make-button").click()

        await expect(form(page).get_by_label("Steps")).to_be_focused()
        await expect(page.locator(".job")).to_have_count(0)
    assert provider.calls == []


async def test_a_prompt_is_worked_out(open_page: OpenPage) -> None:
    """Somebody's words are worked out, and come back if they were better."""
    async with open_page(FakeProvider()) as page:
        prompt = form(page).get_by_label("What should it show?")
        await prompt.fill("a keep")
        await form(page).get_by_role("button", name="Work it out").click()

        await expect(prompt).to_have_value("a keep, highly detailed")
        await page.get_by_role("button", name="Put my words back").click()
        await expect(prompt).to_have_value("a keep")


async def test_nobody_works_prompts_out(open_page: OpenPage) -> None:
    """Where no provider can, there is no button that cannot work."""
    async with open_page(FakeProvider(capabilities=DRAWING)) as page:
        await expect(page.locator(".plan-price")).to_be_visible()

        await expect(form(page).get_by_text("Work it out")).to_be_hidden()


async def test_a_seed_is_used_again(open_page: OpenPage) -> None:
    """The seed of a picture goes back into the form, all its digits."""
    provider = FakeProvider()
    seed = str(2**63 - 25)
    async with open_page(provider) as page:
        await form(page).get_by_label("Seed", exact=True).fill(seed)
        await make(page)
        await page.get_by_role("button", name="Random seed").click()
        await expect(form(page).get_by_label("Seed", exact=True)).to_have_value("")

        await page.get_by_role("button", name=f"Use seed {seed}").click()

        await expect(form(page).get_by_label("Seed", exact=True)).to_have_value(seed)
        await expect(page.locator(".toast")).to_have_text(f"Seed {seed} is set.")


async def test_settings_are_used_again(open_page: OpenPage) -> None:
    """Everything an answer was made with goes back into the form."""
    async with open_page(FakeProvider()) as page:
        await form(page).get_by_label("Portrait").check()
        await form(page).get_by_label("Watercolour").check()
        await make(page, "a keep")
        await form(page).get_by_label("Token").check()
        await form(page).get_by_label("Comic").check()
        await form(page).get_by_label("What should it show?").fill("")

        await page.get_by_role("button", name="Use these settings").click()

        await expect(form(page).get_by_label("Portrait")).to_be_checked()
        await expect(form(page).get_by_label("Watercolour")).to_be_checked()
        await expect(form(page).get_by_label("What should it show?")).to_have_value(
            "a keep"
        )


async def test_a_picture_is_opened_large(open_page: OpenPage) -> None:
    """A click shows it large with all that is known of it; Esc goes back to it."""
    async with open_page(FakeProvider()) as page:
        await make(page, "a keep")
        await page.get_by_role("button", name="Open large: a keep").click()

        dialog = page.get_by_role("dialog", name="Picture")
        await expect(dialog.get_by_alt_text("a keep")).to_be_visible()
        await expect(dialog).to_contain_text("Operation")
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        opener = page.get_by_role("button", name="Open large: a keep")
        await expect(opener).to_be_focused()


async def test_a_picture_is_downloaded(open_page: OpenPage) -> None:
    """The file arrives under its own name, byte for byte a PNG."""
    async with open_page(FakeProvider()) as page:
        await make(page)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        file = await download.value

        assert re.fullmatch(r"[0-9a-f]{32}\.png", file.suggested_filename)
        assert (await file.path()).read_bytes().startswith(b"\x89PNG")


async def test_a_picture_is_enlarged(open_page: OpenPage) -> None:
    """What is free is done at once, and shown on top."""
    provider = FakeProvider()
    async with open_page(provider) as page:
        await form(page).get_by_label("Token").check()
        await make(page)
        await page.get_by_role("button", name="Enlarge 4 times").click()

        answer = page.locator(".answer").first
        await expect(answer.get_by_role("heading")).to_have_text(f"Enlarged 4{TIMES}")
        await expect(answer.locator("figcaption")).to_contain_text(f"2048 {TIMES} 2048")
    (request,) = (one for one in provider.requests if isinstance(one, UpscaleRequest))
    assert request.upscale_factor == 4


async def test_a_background_is_removed(open_page: OpenPage) -> None:
    """The cut-out lands on the table."""
    async with open_page(FakeProvider()) as page:
        await make(page)
        await page.get_by_role("button", name="Remove background").click()

        answer = page.locator(".answer").first
        await expect(answer.get_by_role("heading")).to_have_text(
            "Without its background"
        )


async def test_a_price_is_agreed_first(open_page: OpenPage) -> None:
    """What costs something is asked about; Esc means no and costs nothing."""
    provider = FakeProvider(price_usd="0.002")
    async with open_page(provider) as page:
        await make(page)
        await page.get_by_role("button", name="Enlarge 2 times").click()
        dialog = page.get_by_role("dialog", name=f"Enlarge 2{TIMES}")
        await expect(dialog.locator(".plan-price")).to_have_text("$0.002")
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        assert len(provider.calls) == 1

        await page.get_by_role("button", name="Enlarge 2 times").click()
        await dialog.get_by_role("button", name=f"Enlarge 2{TIMES}").click()
        await until(lambda: len(provider.calls) == 2)
        await expect(page.locator(".answer")).to_have_count(2)


async def test_edit_is_asked_for(open_page: OpenPage) -> None:
    """A picture's Edit button shows the view that edits."""
    async with open_page(FakeProvider()) as page:
        await make(page)
        await page.get_by_role("button", name="Edit", exact=True).click()

        await expect(page.locator("#edit")).to_be_visible()
        await expect(page.locator("#make")).to_be_hidden()


async def test_a_campaign_is_remembered(open_page: OpenPage) -> None:
    """The campaign is still there when the page is opened again."""
    async with open_page(FakeProvider()) as page:
        await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")
        await page.get_by_role("combobox", name="Campaign").press("Tab")
        await page.reload()

        await expect(page.get_by_role("combobox", name="Campaign")).to_have_value(
            "Ravenloft"
        )


async def ideas(page: Page) -> None:
    """Take the first idea of an empty table."""
    await page.get_by_label("Ideas").get_by_role("button").first.click()


async def test_an_empty_table_has_ideas(open_page: OpenPage) -> None:
    """Whoever has none is given one; it leaves once something was made."""
    async with open_page(FakeProvider()) as page:
        await ideas(page)
        await page.keyboard.press("Control+Enter")

        await expect(page.locator(".answer")).to_be_visible()
        await expect(page.get_by_text("Nothing made yet")).to_be_hidden()
