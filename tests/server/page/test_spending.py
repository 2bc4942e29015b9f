"""What the page says of money already spent, and of budgets."""

from decimal import Decimal

import pytest
from playwright.async_api import Locator, Page, expect

from gaia_core.settings import BudgetSettings
from gaia_core.testing import FakeProvider
from tests.server.page.conftest import PHONE, OpenPage, form, make
from tests.server.page.test_accessibility import complaints

pytestmark = pytest.mark.asyncio(loop_scope="session")


def painter() -> FakeProvider:
    """Make a provider that takes four cents for a picture."""
    return FakeProvider(name="painter", price_usd="0.04")


def budgets(**amounts: str) -> dict[str, BudgetSettings]:
    """Give the settings with budgets."""
    sums = {name: Decimal(amount) for name, amount in amounts.items()}
    return {"budgets": BudgetSettings(**sums)}  # type: ignore[arg-type]


def line(page: Page) -> Locator:
    """Give the line at the top."""
    return page.locator("#spend")


async def test_what_was_spent(open_page: OpenPage) -> None:
    """It starts with nothing, and follows each picture and each campaign."""
    async with open_page(painter()) as page:
        await expect(line(page)).to_contain_text("Spent by you: nothing, 0 pictures")
        await make(page)
        await expect(line(page)).to_contain_text("Spent by you: $0.04, 1 picture")
        await expect(line(page).locator("meter")).to_have_count(0)
        await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")

        await expect(line(page)).to_contain_text("Spent for Ravenloft: nothing")


async def test_words_cost_too(open_page: OpenPage) -> None:
    """A prompt that was worked out is counted as soon as it is there."""
    async with open_page(painter()) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        async with page.expect_response("**/api/usage"):
            await form(page).get_by_role("button", name="Work it out").click()


async def test_a_budget_has_a_bar(open_page: OpenPage) -> None:
    """How much of it is used is told by a bar and in words."""
    async with open_page(painter(), **budgets(total_usd="1")) as page:
        await expect(line(page)).to_contain_text("$0 of $1.00 for everybody, in all")
        await make(page)

        await expect(line(page)).to_contain_text("$0.04 of $1.00 for everybody")
        bar = line(page).locator("meter")
        await expect(bar).to_have_accessible_name(
            "$0.04 of $1.00 for everybody, in all"
        )
        assert await bar.evaluate("one => one.value") == pytest.approx(0.04)
        await expect(line(page).locator(".near")).to_have_count(0)


async def test_a_budget_near_its_limit(open_page: OpenPage) -> None:
    """It is marked, said once, and then it is used up; more is refused in words."""
    async with open_page(painter(), **budgets(total_usd="0.05")) as page:
        await expect(line(page)).to_contain_text("$0 of $0.05")
        await make(page)
        await expect(line(page).locator(".near")).to_contain_text("$0.01 left")
        toast = page.locator(".toast")
        await expect(toast).to_contain_text("nearly used up: $0.01 left")
        assert await complaints(page) == []
        await form(page).get_by_label("What should it show?").fill("a moat")
        await page.locator(".make-button").click()

        await expect(page.locator(".job.failed")).to_contain_text("budget")


async def test_a_campaign_counts_as_soon_as_it_is_written(open_page: OpenPage) -> None:
    """Ctrl+Enter from its own field makes the picture under it, not the one before."""
    provider = painter()
    async with open_page(provider) as page:
        await form(page).get_by_label("What should it show?").fill("a keep")
        await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".answer")).to_be_visible()

    (request,) = provider.requests
    assert request.campaign_id == "Ravenloft"


async def test_a_campaign_has_its_own(open_page: OpenPage) -> None:
    """The budget of the campaign that was chosen is the one that is shown."""
    async with open_page(painter(), **budgets(campaign_usd="0.04")) as page:
        await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")
        await expect(line(page)).to_contain_text("Spent for Ravenloft")
        await make(page)

        await expect(line(page)).to_contain_text("$0.04 of $0.04 for this campaign")
        await expect(line(page).locator(".out")).to_contain_text("used up")
        assert await complaints(page) == []


async def test_a_long_name_fits_on_a_phone(open_page: OpenPage) -> None:
    """A campaign called anything is text, and no wider than the page."""
    name = "<b>Castle</b>" + "x" * 200
    async with open_page(
        painter(), size=PHONE, **budgets(total_usd="1", campaign_usd="1")
    ) as page:
        await page.get_by_role("combobox", name="Campaign").fill(name)
        await make(page)

        await expect(line(page)).to_contain_text(f"Spent for {name}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


async def test_a_line_that_cannot_be_asked(open_page: OpenPage) -> None:
    """Without the server it stays as it was; what is asked says what is wrong."""
    async with open_page(painter(), is_watched=False) as page:
        await make(page)
        await expect(line(page)).to_contain_text("$0.04")
        await page.context.set_offline(True)
        async with page.expect_event("requestfailed"):
            await page.get_by_role("combobox", name="Campaign").fill("Ravenloft")

        await expect(line(page)).to_contain_text("Spent by you: $0.04")
