"""Calling the service's batches off, and what the log says of it."""

from collections.abc import Callable
from typing import Any

import pytest

from gaia_core.testing import context
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_core.testing.vendors.openai_batches import VendorBatch
from gaia_parasail import ParasailProvider
from gaia_parasail.desks import Reference

Make = Callable[..., ParasailProvider]


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.infos: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []

    def info(self, event: str, **facts: Any) -> None:
        """Keep what went well."""
        self.infos.append({"event": event, **facts})

    def warning(self, event: str, **facts: Any) -> None:
        """Keep what did not."""
        self.warnings.append({"event": event, **facts})


async def _called_off(
    provider: ParasailProvider, vendor: OpenAIVendor, status: str
) -> Log:
    """Call a batch of one line off that has got somewhere."""
    vendor.desk.batches["b"] = VendorBatch(
        id="b", input_file_id="f", endpoint="/v1/images/generations", status=status
    )
    vendor.desk.is_holding = True
    reference = Reference(model="batched", file="f", batch="b", lines=1)
    log: Any = Log()
    made: Log = log
    await provider.gaia_cancel([context(reference=reference.written(), logger=log)])
    return made


async def test_the_log_says_what_the_service_answered(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """It is being stopped, and not yet stopped."""
    log = await _called_off(provider, vendor, "in_progress")

    assert log.warnings == []
    assert log.infos == [
        {
            "event": "gaia.batch_called_off",
            "vendor_batch": "b",
            "outcome": "cancelling",
        }
    ]


@pytest.mark.parametrize("status", ["queued", "working"])
async def test_a_batch_that_goes_on_is_warned_of(
    provider: ParasailProvider, vendor: OpenAIVendor, status: str
) -> None:
    """An answer of 200 stops nothing by itself: how far the batch is counts."""
    log = await _called_off(provider, vendor, status)

    assert log.infos == []
    (warning,) = log.warnings
    assert warning["event"] == "gaia.batch_not_cancelled"
    assert warning["error"].endswith(f"says that it is {status}.")
