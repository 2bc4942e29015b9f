"""The provider inside of Gaia: what it leaves open is settled, and paid once."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import attrs
import pytest

from gaia_core import (
    GenerateRequest,
    OperationState,
    UnusableResultError,
    UpscaleRequest,
)
from gaia_core.ledger import MemoryLedger
from gaia_core.lookups import Lookup
from gaia_core.testing.probes import until
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.runware import RunwareVendor
from gaia_runware import RunwareProvider

Made = Callable[..., RunwareProvider]

KEEP = GenerateRequest(
    prompt="a keep", provider="runware", model="runware:100@1", width=256, height=256
)


@pytest.fixture(name="parts")
def _parts() -> dict[str, object]:
    """Give what a real Gaia is made of, in a hurry."""
    return {
        "ledger": MemoryLedger(),
        "reliability": None,  # its own, which reads the cards
        "lookup": Lookup(spacing=0.05),
    }


async def test_a_young_task_is_never_made_twice(
    open_gaia: OpenGaia, made: Made, vendor: RunwareVendor, parts: dict[str, object]
) -> None:
    """
    Two look-ups that find nothing let Gaia send it again, and that is a conflict.

    The vendor documents its look-up for asynchronous tasks only: one that still runs
    may be unknown to it. It is sent again with the same id, refused as known, waited
    for, and charged once.
    """
    vendor.hides_running = True
    vendor.delay = 1.0
    async with open_gaia(made(), **parts) as gaia:
        call = asyncio.ensure_future(gaia.generate(KEEP))
        await until(lambda: vendor.requests == 1, patience=20.0)
        await vendor.cut()
        response = await call

    assert len(response.images) == len(vendor.charges) == 1
    assert {one.task_id for one in vendor.arrivals} == {vendor.charges[0].task_id}


async def test_a_busy_vendor_is_asked_as_often_as_it_is_set(
    open_gaia: OpenGaia, made: Made, vendor: RunwareVendor, parts: dict[str, object]
) -> None:
    """``RUNWARE_MAX_RETRIES`` and ``RUNWARE_RETRY_DELAY`` are Gaia's to keep."""
    vendor.inject(Faults(rates={Fault.BUSY: 1}))
    provider = made(max_retries=2, retry_delay=0.0)
    async with open_gaia(provider, **parts) as gaia:
        with pytest.raises(Exception, match="rateLimitExceeded"):
            await gaia.generate(KEEP)

    assert vendor.requests == 3


async def test_the_bill_is_the_vendors(
    open_gaia: OpenGaia, made: Made, vendor: RunwareVendor, parts: dict[str, object]
) -> None:
    """What the vendor says it cost is what is settled."""
    vendor.price_usd = vendor.price_usd / 2
    async with open_gaia(made(), **parts) as gaia:
        response = await gaia.generate(KEEP)
        larger = await gaia.upscale(
            UpscaleRequest(image=response.images[0], upscale_factor=2)
        )
        operation = await gaia.operation(response.operation_id)

    assert operation is not None
    assert operation.state is OperationState.DONE
    assert [str(one.cost_usd) for one in (operation, response, larger)] == ["0.02"] * 3
    assert larger.images[0].width == 512


@pytest.mark.parametrize("fault", [Fault.EMPTY_AFTER, Fault.BAD_IMAGE_AFTER], ids=str)
@pytest.mark.parametrize(
    "model", ["runware:100@1", "openai:4@1"], ids=["sync", "async"]
)
async def test_what_is_of_no_use_is_booked_as_the_vendor_bills_it(
    open_gaia: OpenGaia,
    made: Made,
    vendor: RunwareVendor,
    parts: dict[str, object],
    fault: Fault,
    model: str,
) -> None:
    """The catalogue may know another price, or none."""
    vendor.inject(Faults(script=[fault]))
    request = attrs.evolve(KEEP, model=model, width=1_024, height=1_024)
    async with open_gaia(made(timeout=5.0), **parts) as gaia:
        with pytest.raises(UnusableResultError) as caught:
            await gaia.generate(request)
        operation = await gaia.operation(caught.value.operation_id or "")

    assert operation is not None
    assert operation.cost_usd == vendor.total_usd == Decimal("0.04")
