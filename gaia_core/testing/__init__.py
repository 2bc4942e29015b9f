"""
What tests of hosts and of providers are made of.

A pytest plugin comes with it: the fixtures `gaia`, `open_gaia` and `gaia_home`
(see `gaia_core.testing.pytest_plugin`). A provider's own suite starts with
`gaia_core.testing.conformance.ProviderConformance`. A vendor that charges, keeps a
book and fails to order is in `gaia_core.testing.vendors`.
"""

from gaia_core.testing.contexts import capture_events, context
from gaia_core.testing.pictures import jpeg, png
from gaia_core.testing.providers import Call, FakeProvider
from gaia_core.testing.storage import MemoryStorage

__all__ = [
    "Call",
    "FakeProvider",
    "MemoryStorage",
    "capture_events",
    "context",
    "jpeg",
    "png",
]
