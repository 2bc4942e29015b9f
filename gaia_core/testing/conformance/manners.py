# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of how a provider behaves."""

import asyncio
import socket
from typing import NoReturn

import attrs
import pytest

from gaia_core.capabilities import Capability
from gaia_core.catalog import Health, HealthLevel
from gaia_core.errors import OutcomeClass, ProviderError
from gaia_core.images import Image
from gaia_core.requests import (
    MAX_PROMPT_LENGTH,
    DescribeImageRequest,
    GenerateRequest,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.testing import samples
from gaia_core.testing.bench import Bench
from gaia_core.testing.conformance.fixtures import Conformance
from gaia_core.testing.contexts import WatchedContext, context

_TAKES_PICTURES = (
    Capability.IMAGE_TO_IMAGE,
    Capability.UPSCALING,
    Capability.BACKGROUND_REMOVAL,
    Capability.IMAGE_DESCRIPTION,
)


class MannersTests(Conformance):
    """Odd requests, hurried callers, starting and stopping."""

    @pytest.mark.asyncio
    async def test_it_serves_what_it_partly_ignores(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        A field it does not support is no reason to fail.

        Troubleshooting:
            Gaia warns about every field that ``supported_fields`` lacks; ignore
            such a field. Refuse the rest with `ProviderRequestError`.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        request = attrs.evolve(generate_request, **samples.OPTIONAL_VALUES)

        async with bench:
            result = await bench.ask_or_be_refused(request)

        if result is not None:
            self.assert_answers(bench, result)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "prompt", samples.ODD_PROMPTS.values(), ids=samples.ODD_PROMPTS
    )
    async def test_it_copes_with_odd_prompts(
        self, bench: Bench, generate_request: GenerateRequest, prompt: str
    ) -> None:
        """
        Whatever the prompt, it answers or raises a `ProviderError`.

        Troubleshooting:
            Any other exception counts as a lost answer that may have been paid.
            Translate the vendor's exceptions in one place, at the room's edge.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        request = attrs.evolve(generate_request, prompt=prompt[:MAX_PROMPT_LENGTH])

        async with bench:
            await bench.ask_or_be_refused(request)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("capability", _TAKES_PICTURES, ids=str)
    @pytest.mark.parametrize("kind", samples.ODD_PICTURES)
    async def test_it_copes_with_odd_pictures(
        self,
        bench: Bench,
        generate_request: GenerateRequest,
        capability: Capability,
        kind: str,
    ) -> None:
        """
        Whatever the picture, it answers or raises a `ProviderError`.

        Troubleshooting:
            Pictures may be grey, transparent, CMYK or of 16 bits; convert them
            first, or refuse them with `ProviderRequestError`.
        """
        bench.needs(capability)
        image = Image.from_bytes(samples.ODD_PICTURES[kind]())
        request = _about(image, capability, generate_request)

        async with bench:
            await bench.ask_or_be_refused(request)

    @pytest.mark.asyncio
    async def test_it_copes_with_unknown_options(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        An unknown vendor option is ignored, or refused with a `ProviderError`.

        Troubleshooting:
            ``request.options_for(name)`` holds what a stranger wrote.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        options = {bench.info.name: {"no_such_option": object()}}

        async with bench:
            await bench.ask_or_be_refused(
                attrs.evolve(generate_request, provider_options=options)
            )

    @pytest.mark.asyncio
    async def test_it_reports_progress_in_order(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Fractions of progress grow, from 0 to 1.

        Troubleshooting:
            Report what is done of the whole request, not of one step or picture.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        watched = WatchedContext.ready(**bench.facts)

        async with bench:
            await bench.ask(generate_request, watched)

        assert watched.fractions == sorted(watched.fractions)
        assert all(0 <= fraction <= 1 for fraction in watched.fractions)

    @pytest.mark.asyncio
    async def test_it_can_be_cancelled(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Cancelled work ends at once, and as cancelled.

        Troubleshooting:
            Let `asyncio.CancelledError` through: ``except BaseException`` and a
            bare ``except`` swallow it. Run slow code in a thread.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            work = asyncio.ensure_future(bench.ask(generate_request))
            await asyncio.sleep(0.01)
            has_finished = work.done()
            work.cancel()
            await asyncio.wait([work], timeout=self.cancel_seconds)

        assert work.done()
        assert has_finished or work.cancelled() or work.exception() is None

    @pytest.mark.asyncio
    async def test_it_lets_others_work(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        It never keeps the event loop to itself for long.

        Troubleshooting:
            Work of more than a few milliseconds belongs into
            `asyncio.to_thread`, reading files and drawing included.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            silence = await bench.longest_silence(generate_request)

        assert silence < self.silence_seconds

    @pytest.mark.asyncio
    async def test_it_works_on_two_requests_at_once(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Two requests at once both get their answer.

        Troubleshooting:
            Keep what belongs to a request in local variables, not on ``self``.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            results = await asyncio.gather(
                bench.ask(generate_request), bench.ask(generate_request)
            )

        for result in results:
            self.assert_answers(bench, result)

    # -- upkeep ---------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_it_starts_and_stops_twice(self, bench: Bench) -> None:
        """
        Starting and stopping once too often does no harm.

        Troubleshooting:
            A host may close what it never opened; look before you close.
        """
        for hook in ("gaia_stop", "gaia_start", "gaia_start", "gaia_stop", "gaia_stop"):
            await bench.tell(hook)

    @pytest.mark.asyncio
    async def test_its_settings_can_be_checked_offline(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The plainest health check leaves the machine alone.

        Troubleshooting:
            At `HealthLevel.CONFIGURED` look at the settings only.
        """
        bench.needs_hook("gaia_check_health")
        for way in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, way, _refuse_to_connect)

        health = await bench.loaded.call(
            "gaia_check_health", level=HealthLevel.CONFIGURED
        )

        assert isinstance(health, Health)
        assert health.is_healthy is (bench.info.unavailable is None)
        assert health.is_healthy or health.reason

    @pytest.mark.asyncio
    async def test_it_recovers_nothing_it_never_saw(self, bench: Bench) -> None:
        """
        Looking up an unknown task gives None, or says that nobody can tell.

        Troubleshooting:
            None tells Gaia that the vendor never saw the task: that it may be
            sent again. Only answer None when the vendor says so; where it keeps no
            record of such tasks, raise a `ProviderError`.
        """
        bench.needs_hook("gaia_recover")
        lost = context(**bench.facts)

        found, outcome = None, OutcomeClass.AMBIGUOUS
        async with bench:
            try:
                found = await bench.loaded.call(
                    "gaia_recover", task_id=lost.task_id, context=lost
                )
            except ProviderError as error:
                outcome = error.outcome

        assert found is None
        assert outcome is OutcomeClass.AMBIGUOUS


def _about(image: Image, capability: Capability, like: GenerateRequest) -> Request:
    """Make a request about a picture that needs a capability."""
    match capability:
        case Capability.UPSCALING:
            return UpscaleRequest(image=image, upscale_factor=2)
        case Capability.BACKGROUND_REMOVAL:
            return RemoveBackgroundRequest(image=image)
        case Capability.IMAGE_DESCRIPTION:
            return DescribeImageRequest(image=image)
        case _:
            return attrs.evolve(like, image=image)


def _refuse_to_connect(*_: object) -> NoReturn:
    message = "A health check of the settings must not use the network."
    raise AssertionError(message)
