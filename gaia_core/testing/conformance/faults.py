# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of money: what a provider makes of all that a vendor can do to it."""

from collections.abc import Mapping
from decimal import Decimal

import attrs
import pytest

from gaia_core.capabilities import Capability
from gaia_core.errors import OutcomeClass, OutcomeUnknownError, ProviderError
from gaia_core.requests import GenerateRequest
from gaia_core.testing.bench import Bench
from gaia_core.testing.conformance.worlds import Story, WorldTests
from gaia_core.testing.probes import shown_by
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Fault, Faults, Shop

REFUSED: Mapping[Fault, OutcomeClass] = {
    Fault.BUSY: OutcomeClass.REJECTED_BUSY,
    Fault.UNAVAILABLE: OutcomeClass.REJECTED_BUSY,
    Fault.BAD_REQUEST: OutcomeClass.REJECTED_FINAL,
    Fault.FILTERED: OutcomeClass.REJECTED_FINAL,
    Fault.NO_MODEL: OutcomeClass.REJECTED_FINAL,
    Fault.UNAUTHORISED: OutcomeClass.REJECTED_AUTH,
    Fault.NO_CREDIT: OutcomeClass.REJECTED_AUTH,
}
"""What the vendor says no to, and certainly does not charge."""

UNUSABLE = frozenset({Fault.BAD_IMAGE_AFTER, Fault.EMPTY_AFTER})
"""What is answered, and charged, without a picture."""

SERVED = frozenset({Fault.SLOW_AFTER, Fault.PARTIAL_AFTER})
"""What ends well: an answer that takes its time, and the first of one pictures."""

LOST = frozenset(Fault) - {*REFUSED} - UNUSABLE - SERVED
"""What may have been charged, for all that the provider can see."""

_LONG = 3_600.0
_SHORT = 0.2


def spoiling(fault: Fault) -> Faults:
    """Spoil one request: the slow answer comes, the late and hanging ones do not."""
    return Faults(
        script=[fault],
        slow_seconds=_SHORT,
        late_seconds=_LONG,
        hang_seconds=_LONG,
    )


@attrs.frozen(kw_only=True)
class Bill:
    """
    What a vendor was asked for, and what it charged.

    Attributes:
        requests: How often it was asked.
        charges: How often it charged.
        amount_usd: How much in all.
    """

    requests: int
    charges: int
    amount_usd: Decimal

    @classmethod
    def of(cls, shop: Shop) -> "Bill":
        """Add up everything so far."""
        return cls(
            requests=shop.requests,
            charges=len(shop.charges),
            amount_usd=shop.total_usd,
        )

    def since(self, before: "Bill") -> "Bill":
        """Take off what was there before."""
        return Bill(
            requests=self.requests - before.requests,
            charges=self.charges - before.charges,
            amount_usd=self.amount_usd - before.amount_usd,
        )


every_fault = pytest.mark.parametrize("fault", Fault, ids=str)


class FaultTests(WorldTests):
    """Whatever goes wrong, nothing is paid twice, and nothing paid is lost."""

    @pytest.mark.asyncio
    @every_fault
    async def test_it_tells_what_a_fault_means(
        self,
        shop: Shop,
        bench: Bench,
        hurried_bench: Bench,
        generate_request: GenerateRequest,
        fault: Fault,
    ) -> None:
        """
        An attempt is sent once, and its error says what is known about the money.

        Troubleshooting:
            More than one arrival: turn off the retries of the SDK and of what is
            beneath it. The wrong outcome: `gaia_core.errors` says what each class
            means; whatever may have been charged is a plain `ProviderError`.
        """
        bench = hurried_bench if fault in LOST else bench
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            await self.warm_up(bench, generate_request)
            asked, charged = shop.requests, len(shop.charges)
            shop.inject(spoiling(fault))
            ending = await self.end_of(bench, generate_request)

        assert shop.requests == asked + 1, _seen(shop)
        assert len(shop.charges) == charged + fault.is_charged
        assert ending.outcome in _allowed(fault), _told(ending.error)
        assert ending.error is None or isinstance(ending.error, ProviderError)

    @pytest.mark.asyncio
    @every_fault
    async def test_no_fault_is_paid_twice(  # noqa: PLR0913, PLR0917  fixtures
        self,
        shop: Shop,
        bench: Bench,
        hurried_bench: Bench,
        open_gaia: OpenGaia,
        generate_request: GenerateRequest,
        fault: Fault,
    ) -> None:
        """
        Through Gaia: one charge at most, what is charged is found or held.

        The next request is served, whatever became of the one before.

        Troubleshooting:
            What a look-up can find must be found: see ``gaia_recover``. A vendor
            that keeps no record says so: ``has_lookup=False`` of the stand-in.
        """
        bench = hurried_bench if fault in LOST else bench
        bench.needs(Capability.TEXT_TO_IMAGE)
        await self._agree_on_price(shop, bench, generate_request)

        async with self.opened(open_gaia, bench) as gaia:
            await self.story_with_response(gaia, generate_request)
            before = Bill.of(shop)
            shop.inject(spoiling(fault))
            story = await self.story_of(gaia, generate_request)
            bill = Bill.of(shop).since(before)
            after = await self.story_with_response(gaia, generate_request)

        assert bill.requests == len(story.attempts), _seen(shop)
        assert bill.charges <= 1, _seen(shop)
        assert _booked(story, bill.amount_usd), story.operation
        self._assert_ends_well(story, fault, can_find=_can_find(shop, bench))
        assert after.response is not None, _told(after.error)

    @pytest.mark.asyncio
    async def test_what_is_made_is_kept(
        self,
        shop: Shop,
        bench: Bench,
        open_gaia: OpenGaia,
        generate_request: GenerateRequest,
    ) -> None:
        """
        Of three pictures one fails: the other two are kept, and paid.

        Troubleshooting:
            Give what was made, and say in ``warnings`` what was not. Where each
            picture is a call of its own, one that fails must not end the others.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        chosen = await bench.choose(generate_request)
        if chosen.model.max_images < 3:  # noqa: PLR2004  the three of the sentence
            pytest.skip("makes fewer than three pictures at once")
        await self._agree_on_price(shop, bench, generate_request)
        request = attrs.evolve(generate_request, num_images=3)
        shop.inject(Faults(script=[Fault.PARTIAL_AFTER]))

        async with self.opened(open_gaia, bench) as gaia:
            story = await self.story_of(gaia, request)
            if shop.requests > 1:  # each picture is a call of its own
                shop.inject(Faults(script=[None, Fault.ERROR_AFTER]))
                before = shop.total_usd
                story = await self.story_of(gaia, self.like(request, "three towers"))
                assert _booked(story, shop.total_usd - before)

        assert story.response is not None, _told(story.error)
        assert len(story.response.images) == 2  # noqa: PLR2004  as above
        assert story.response.warnings

    async def _agree_on_price(
        self, shop: Shop, bench: Bench, request: GenerateRequest
    ) -> None:
        """Let the stand-in charge what the provider's card says."""
        chosen = await bench.choose(request)
        if chosen.price_usd:
            shop.price_usd = chosen.price_usd

    def _assert_ends_well(self, story: Story, fault: Fault, *, can_find: bool) -> None:
        """Fail unless the caller got what there was to get."""
        is_busy = REFUSED.get(fault) is OutcomeClass.REJECTED_BUSY
        is_found = fault in LOST and fault.is_charged and can_find
        if fault in SERVED or is_busy or is_found:
            assert story.response is not None, _told(story.error)
        elif fault in LOST:
            unknown = isinstance(story.error, OutcomeUnknownError)
            assert unknown or story.response is not None, _told(story.error)
        else:
            assert isinstance(story.error, ProviderError)
            assert story.error.outcome in _allowed(fault)


def _allowed(fault: Fault) -> set[OutcomeClass]:
    """Give the outcomes that are right after a fault."""
    if fault in REFUSED:
        return {REFUSED[fault]}
    if fault in UNUSABLE:
        return {OutcomeClass.UNUSABLE}
    if fault in SERVED:
        return {OutcomeClass.OK}
    # A provider may look the answer up itself, within the call.
    found = {OutcomeClass.OK} if fault.is_charged else set()
    return {OutcomeClass.AMBIGUOUS} | found


def _can_find(shop: Shop, bench: Bench) -> bool:
    return shop.has_lookup and bench.loaded.implements("gaia_recover")


def _booked(story: Story, charged: Decimal) -> bool:
    """Tell whether the book holds what was charged; no price is no promise."""
    one = story.operation
    costs = [attempt.cost_usd for attempt in story.attempts]
    if None in costs:
        return True
    return (one.cost_usd or Decimal(0)) + one.reserved_usd >= charged


def _seen(shop: Shop) -> str:
    """Say what arrived at the vendor, and what it charged."""
    return "\n".join(map(str, [*shop.arrivals, *shop.charges]))


def _told(error: BaseException | None) -> str:
    return "nothing was raised" if error is None else shown_by(error)
