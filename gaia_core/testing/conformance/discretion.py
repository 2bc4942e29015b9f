# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of discretion: no key gets out, no file of this machine is read."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from gaia_core.capabilities import Capability
from gaia_core.images import Image
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Lora,
    Request,
)
from gaia_core.testing import samples
from gaia_core.testing.bench import Bench, secrets_of
from gaia_core.testing.conformance.faults import spoiling
from gaia_core.testing.conformance.worlds import WorldTests
from gaia_core.testing.contexts import capture_events
from gaia_core.testing.probes import everything_logged, shown_by
from gaia_core.testing.vendors import Fault, Shop
from gaia_core.testing.watching import opened

_NAME = "gaia-canary-of-the-conformance-suite.png"
_TELLING = (
    *(None, Fault.UNAUTHORISED, Fault.BUSY, Fault.UNAVAILABLE, Fault.BAD_REQUEST),
    *(Fault.FILTERED, Fault.NO_CREDIT, Fault.NO_MODEL, Fault.ERROR_AFTER),
    *(Fault.DROP_AFTER, Fault.TRUNCATED_AFTER, Fault.EMPTY_AFTER, Fault.HANG_AFTER),
)
"""What makes providers, SDKs and vendors talk."""


class DiscretionTests(WorldTests):
    """A vendor is told what a request says, and nobody is told the key."""

    @pytest.mark.asyncio
    async def test_its_key_is_never_told(
        self,
        shop: Shop,
        secret: str,
        hurried_bench: Bench,
        generate_request: GenerateRequest,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """
        No error, log line or ``repr`` shows the key, also where a vendor repeats it.

        All is logged at ``DEBUG``, what the SDK says included.

        Troubleshooting:
            Say things in your own words and raise ``from None``: the SDK's error may
            hold the key, or quote a vendor that does. Turn the debug log of the SDK
            off for headers.
        """
        hurried_bench.needs(Capability.TEXT_TO_IMAGE)
        self._check_secret(hurried_bench, secret)
        shop.echo = secret
        told: list[str] = []

        async with hurried_bench as bench:
            await self.end_of(bench, generate_request)  # loads the SDK
            with everything_logged() as lines, capture_events() as events:
                for fault in _TELLING:
                    told += await self._told(shop, bench, generate_request, fault)
        told += [*lines, repr(events), *capfd.readouterr()]

        leaks = [words for words in told if secret in words]
        assert leaks == [], "The key is told; the first words that hold it are shown."

    @pytest.mark.asyncio
    async def test_no_file_is_read_because_a_string_names_it(
        self,
        shop: Shop,
        bench: Bench,
        generate_request: GenerateRequest,
        tmp_path: Path,
    ) -> None:
        """
        A path in a prompt or in a vendor option is a string, and stays one.

        Troubleshooting:
            SDKs open what looks like a path: hand them bytes, a data URI or an
            address you made yourself, and refuse options you do not know.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        canary = tmp_path / _NAME
        content = samples.subject(61, 67)
        canary.write_bytes(content)
        requests = [
            request
            for words in self._spellings(canary)
            for request in self._naming(bench, generate_request, words)
        ]

        async with bench:
            await bench.ask(generate_request)
            assert shop.bodies, "The stand-in keeps no requests in `bodies`."
            with opened(_NAME) as paths:
                for request in requests:
                    shop.bodies.clear()
                    await self._ask_if_possible(bench, request)
                    assert paths == [], request
                    assert not any(_holds(one, content) for one in shop.bodies), request

    # -- inside ---------------------------------------------------------------------

    def _check_secret(self, bench: Bench, secret: str) -> None:
        """See to it that the provider has the key that is looked for."""
        if not secrets_of(bench.provider):
            pytest.skip("has no key")
        assert secret in secrets_of(bench.provider), (
            "Make `provider` and `hurried_provider` with the key that the fixture "
            "`secret` gives."
        )

    async def _told(
        self, shop: Shop, bench: Bench, request: GenerateRequest, fault: Fault | None
    ) -> list[str]:
        """Let something go wrong, and collect what the provider says of it."""
        if fault is not None:
            shop.inject(spoiling(fault))
        ending = await self.end_of(bench, request)
        shown = [repr(bench.provider), str(bench.provider), repr(bench.info)]
        return [*shown, *([shown_by(ending.error)] if ending.error else [])]

    def _spellings(self, canary: Path) -> Iterator[str]:
        """Spell the path as people do."""
        yield str(canary)
        yield canary.as_uri()
        yield f"@{canary}"
        yield os.path.relpath(canary)

    def _naming(
        self, bench: Bench, like: GenerateRequest, words: str
    ) -> Iterator[Request]:
        """Put some words wherever a request takes words."""
        for name in ("prompt", "negative_prompt", "style"):
            named: dict[str, Any] = {name: words}
            yield attrs.evolve(like, **named)
        yield attrs.evolve(like, loras=[Lora(model=words)])
        for name in self.option_names:
            for value in self._wrapped(words):
                options = {bench.info.name: {name: value}}
                yield attrs.evolve(like, provider_options=options)
        yield EnhancePromptRequest(prompt=words)
        picture = Image.from_bytes(samples.subject(64, 64))
        yield DescribeImageRequest(image=picture, question=words)

    def _wrapped(self, words: str) -> tuple[object, ...]:
        """Give words as options have them; lists and tables need one spelling only."""
        if not Path(words).is_absolute():
            return (words,)
        return (words, [words], {"image": words, "guideImage": words})

    async def _ask_if_possible(self, bench: Bench, request: Request) -> None:
        """Send a request, if the provider takes such ones at all."""
        if request.capability not in bench.info.capabilities:
            return
        if getattr(request, "loras", ()) and not await bench.takes(request):
            return
        await bench.ask_or_be_refused(request)


def _holds(body: bytes, content: bytes) -> bool:
    """Tell whether a request carries a file, as it is or as text."""
    return content in body or base64.b64encode(content)[:-4] in body
