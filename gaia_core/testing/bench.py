"""Where the conformance suite puts a provider to ask it one hook at a time."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import attrs
import pytest

from gaia_core.capabilities import HOOK_OF, Capability
from gaia_core.catalog import ModelInfo, ProviderInfo
from gaia_core.context import CallContext
from gaia_core.errors import ProviderError
from gaia_core.images import Image
from gaia_core.offers import gather_offers
from gaia_core.plugins import Plugins, Provider, load_plugins
from gaia_core.requests import Request
from gaia_core.results import GeneratedImage
from gaia_core.secrets import is_secret_name
from gaia_core.selection import Candidate, select
from gaia_core.settings import Settings
from gaia_core.testing.contexts import context

_TICK = 0.005
# What runs over its deadline may be paid for already: it is given time to end.
_GRACE = 60.0

_IMPORT = """
import json, sys
import gaia_core
known = set(sys.modules)
import {module}
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - known}})))
"""


@attrs.define(eq=False, kw_only=True)
class Bench:
    """
    One provider, loaded as Gaia loads it.

    ``async with`` starts the provider and stops it.

    Attributes:
        provider: The provider under test.
        facts: Fields of the contexts its hooks are called with.
        plugins: The provider among nobody else.
    """

    provider: object
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    plugins: Plugins = attrs.field(init=False)

    @plugins.default
    def _loaded(self) -> Plugins:
        return load_plugins(Settings(), extra=[self.provider], entry_points=())

    async def __aenter__(self) -> Self:
        """Start the provider."""
        await self.tell("gaia_start")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the provider."""
        await self.tell("gaia_stop")

    @property
    def loaded(self) -> Provider:
        """The provider as Gaia holds it; a provider that does not load fails."""
        if self.plugins.failures:
            pytest.fail(f"Gaia refuses it: {self.plugins.failures[0].reason}")
        return next(iter(self.plugins.providers.values()))

    @property
    def info(self) -> ProviderInfo:
        """The provider's card."""
        return self.loaded.info()

    def needs(self, capability: Capability) -> None:
        """Skip a test about something the provider does not claim, or cannot do."""
        if capability not in self.info.capabilities:
            pytest.skip(f"does not declare {capability}")
        if self.info.unavailable is not None:
            pytest.skip(f"is unavailable: {self.info.unavailable}")

    def needs_hook(self, hook: str) -> None:
        """Skip a test about a hook the provider does not have."""
        if not self.loaded.implements(hook):
            pytest.skip(f"does not implement {hook}")

    async def tell(self, hook: str) -> None:
        """Call an upkeep hook, if the provider has it; one that hangs fails."""
        if self.loaded.implements(hook):
            async with _limited(_GRACE, f"{hook} takes longer than {_GRACE:g} s."):
                await self.loaded.call(hook)

    async def models(self) -> tuple[ModelInfo, ...]:
        """List the provider's models as Gaia sees them."""
        (offer,) = await gather_offers(self.plugins)
        if offer.problem is not None:
            pytest.fail(f"It offers nothing: {offer.problem}.")
        return offer.models

    async def choose(self, request: Request) -> Candidate:
        """Choose the model that Gaia would choose for a request."""
        plan = select(request, await gather_offers(self.plugins))
        if not plan.candidates:
            reasons = "; ".join(f"{who}: {why}" for who, why in plan.reasons.items())
            pytest.fail(f"No model takes the {request.capability} request: {reasons}.")
        return plan.candidates[0]

    async def takes(self, request: Request) -> bool:
        """Tell whether any of the provider's models takes a request."""
        return bool(select(request, await gather_offers(self.plugins)).candidates)

    async def ask(self, request: Request, attempt: CallContext | None = None) -> Any:
        """
        Send a request to the hook it is for, with a model the provider lists.

        A provider that goes on long after its deadline fails: nobody waits for ever.
        """
        chosen = await self.choose(request)
        attempt = attempt or context(**self.facts)
        too_late = f"It still waits {_GRACE:g} s after its deadline."
        async with _limited(attempt.seconds_left + _GRACE, too_late):
            return await self.loaded.call(
                HOOK_OF[request.capability],
                request=attrs.evolve(request, model=chosen.model.id),
                context=attempt,
            )

    async def ask_or_be_refused(self, request: Request) -> Any:
        """Send a request; give the answer, or None when it is refused properly."""
        try:
            return await self.ask(request)
        except ProviderError:
            return None
        except Exception as error:  # noqa: BLE001  that is what is looked for
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            pytest.fail(
                f"{name} escaped the hook: {error}. Gaia must take that for a lost "
                "answer; raise a subclass of ProviderError instead."
            )

    async def longest_silence(self, request: Request) -> float:
        """Measure how long the event loop stands still while a request is served."""
        work = asyncio.ensure_future(self.ask(request))
        longest, last = 0.0, time.monotonic()
        while not work.done():
            await asyncio.wait([work], timeout=_TICK)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await work
        return longest


@asynccontextmanager
async def _limited(seconds: float, too_late: str) -> AsyncIterator[None]:
    """Fail what takes too long; a provider's own `TimeoutError` passes through."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            pytest.fail(too_late)
        raise


def has_size(
    image: GeneratedImage, size: tuple[int, int], warnings: Iterable[str]
) -> bool:
    """Tell whether a picture is as large as asked, or a warning says otherwise."""
    words = ("size", "width", "height", "aspect", f"{image.width}x{image.height}")
    return (image.width, image.height) == size or any(
        word in warning.lower() for warning in warnings for word in words
    )


def assert_sound(image: GeneratedImage) -> None:
    """Fail unless a picture can be decoded and is what it says it is."""
    found = Image.from_bytes(image.data)
    found.decode()
    said = (image.media_type, image.width, image.height)
    if said != (found.media_type, found.width, found.height):
        pytest.fail(f"The picture is {found}, and the provider says {said}.")


def secrets_of(provider: object) -> tuple[str, ...]:
    """Collect what a provider holds under a secret's name."""
    kind = type(provider)
    names = [f.name for f in attrs.fields(kind)] if attrs.has(kind) else []
    held = {name: getattr(provider, name, None) for name in names}
    held |= getattr(provider, "__dict__", {})
    shown = {
        str(value.reveal() if hasattr(value, "reveal") else value)
        for name, value in held.items()
        if value is not None and (is_secret_name(name) or hasattr(value, "reveal"))
    }
    return tuple(sorted(shown - {""}))


def imported_by(module: str) -> frozenset[str]:
    """
    Import a module in a process of its own.

    Returns:
        The names of the packages that came with it, on top of ``gaia_core``.
    """
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603  it starts this very Python
        [sys.executable, "-c", _IMPORT.format(module=module)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{module} cannot be imported by itself:\n{done.stderr}")
    return frozenset(json.loads(done.stdout.splitlines()[-1]))
