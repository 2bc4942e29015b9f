"""
A vendor on this machine: it charges, it keeps a book, and it fails to order.

::

    from gaia_core.testing.vendors import Fault, Faults, Vendor, VendorProvider

    async with Vendor(faults=Faults(script=[Fault.DROP_AFTER])) as vendor:
        async with open_gaia(VendorProvider(base_url=vendor.url)) as gaia:
            with pytest.raises(OutcomeUnknownError):
                await gaia.generate(GenerateRequest(prompt="a red dragon"))
    assert len(vendor.charges) == 1

Nothing in it is pretended: sockets are sockets, pictures are pictures, and a cut
connection is cut.
"""

from gaia_core.testing.vendors.charges import Arrival, Charge
from gaia_core.testing.vendors.faults import Fault, Faults
from gaia_core.testing.vendors.plugins import plugin_folder
from gaia_core.testing.vendors.process import VendorProcess
from gaia_core.testing.vendors.provider import (
    RecoverableVendorProvider,
    VendorProvider,
)
from gaia_core.testing.vendors.server import Vendor
from gaia_core.testing.vendors.shop import Job, Made, Shop

__all__ = [
    "Arrival",
    "Charge",
    "Fault",
    "Faults",
    "Job",
    "Made",
    "RecoverableVendorProvider",
    "Shop",
    "Vendor",
    "VendorProcess",
    "VendorProvider",
    "plugin_folder",
]
