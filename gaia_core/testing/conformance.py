# ruff: noqa: S101 - these are tests, although no folder says so
"""
The tests every provider passes.

Subclass `ProviderConformance` in the provider's own tests::

    class TestConformance(ProviderConformance):
        @pytest.fixture
        def provider(self) -> HelloProvider:
            return HelloProvider(api_key="sk-test", base_url=stand_in.url)

Tests ask for capabilities, not for names: a test about something the provider
does not declare is skipped.
"""

import asyncio
import re
import socket
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, NoReturn

import attrs
import pytest

from gaia_core.capabilities import Capability
from gaia_core.catalog import CONTRACT, Health, HealthLevel
from gaia_core.hookspecs import HOOK_OF
from gaia_core.images import Image
from gaia_core.requests import (
    MAX_PROMPT_LENGTH,
    MIN_SIDE,
    UPSCALE_FACTORS,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.results import DescriptionResult, ImageResult, PromptResult
from gaia_core.testing import samples
from gaia_core.testing.bench import (
    Bench,
    assert_sound,
    has_size,
    imported_by,
    secrets_of,
)
from gaia_core.testing.contexts import WatchedContext, context

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_MARGIN = 64
_TAKES_PICTURES = (
    Capability.IMAGE_TO_IMAGE,
    Capability.UPSCALING,
    Capability.BACKGROUND_REMOVAL,
    Capability.IMAGE_DESCRIPTION,
)


class ProviderConformance:
    """
    What Gaia and its hosts rely on in a provider.

    Attributes:
        heavy_modules: What importing the provider must not load.
        import_seconds: How much processor time importing it may take.
        info_seconds: How long a hundred calls of its card may take.
        patience: How long one request may take here.
        cancel_seconds: How long it may take to notice that nobody waits.
        silence_seconds: How long it may keep the event loop from other work.
    """

    heavy_modules: ClassVar[frozenset[str]] = samples.HEAVY_MODULES
    import_seconds: ClassVar[float] = 0.5
    info_seconds: ClassVar[float] = 0.5
    patience: ClassVar[float] = 60.0
    cancel_seconds: ClassVar[float] = 5.0
    silence_seconds: ClassVar[float] = 1.0

    # -- what a subclass gives --------------------------------------------------------

    @pytest.fixture
    def provider(self) -> object:
        """Give a new provider, ready to work; every subclass has its own."""
        pytest.fail(f"{type(self).__name__} lacks the fixture `provider`.")

    @pytest.fixture
    def context_facts(self) -> Mapping[str, Any]:
        """Give fields of `CallContext` the hooks need, such as ``fetch``."""
        return {}

    @pytest.fixture
    def generate_request(self) -> GenerateRequest:
        """Give a request the provider serves quickly; its sizes are used all over."""
        return GenerateRequest(
            prompt="a red dragon over a ruined keep", width=256, height=256
        )

    @pytest.fixture
    def sample_image(self) -> Image:
        """Give a picture with a subject before a plain background."""
        return Image.from_bytes(samples.subject(256, 256))

    @pytest.fixture
    def bench(self, provider: object, context_facts: Mapping[str, Any]) -> Bench:
        """Put the provider on the bench."""
        return Bench(
            provider=provider,
            facts={"deadline": time.monotonic() + self.patience, **context_facts},
        )

    # -- its card ---------------------------------------------------------------------

    def test_it_can_be_registered(self, bench: Bench) -> None:
        """
        Gaia loads it: its hooks are spelt right and take the right arguments.

        Troubleshooting:
            The message says what Gaia refuses. A class made by `attrs.define`
            needs ``eq=False``; every hook needs ``@hookimpl``.
        """
        assert bench.plugins.failures == ()
        assert len(bench.plugins.providers) == 1

    def test_it_is_hashable(self, provider: object) -> None:
        """
        It can be put into a set, as the plugin manager does.

        Troubleshooting:
            Write ``@attrs.define(eq=False)``, or leave ``__eq__`` out.
        """
        registered = {provider}

        assert provider in registered

    def test_its_name_can_be_typed(self, bench: Bench) -> None:
        """
        Its name is lower-case letters, digits, hyphens and underscores.

        Troubleshooting:
            The name is a section of ``gaia.toml`` and the value of ``-p``; put
            anything prettier into ``display_name``.
        """
        assert _NAME.fullmatch(bench.info.name)

    def test_it_speaks_this_contract(self, bench: Bench) -> None:
        """
        It was written for the contract this version of Gaia speaks.

        Troubleshooting:
            Read what changed in the contract, then raise ``contract``.
        """
        assert bench.info.contract == CONTRACT

    def test_its_card_says_what_it_can_do(self, bench: Bench) -> None:
        """
        It can do something, and says why if it cannot do so now.

        Troubleshooting:
            ``unavailable`` is None or one sentence that names the next step, such
            as ``"HELLO_API_KEY is not set"``.
        """
        reason = bench.info.unavailable

        assert bench.info.capabilities
        assert reason is None or (reason.strip() == reason != "" and "\n" not in reason)

    def test_its_card_is_steady(self, bench: Bench) -> None:
        """
        Asked again, it says the same.

        Troubleshooting:
            The card follows from settings and machine, not from what was done.
        """
        assert bench.info == bench.info

    def test_its_card_is_cheap(self, bench: Bench) -> None:
        """
        Its card is read before every request, so it takes next to no time.

        Troubleshooting:
            Look nothing up in `gaia_provider_info`: no network, no file, no SDK.
            Find out once and keep the answer.
        """
        start = time.process_time()
        for _ in range(100):
            assert bench.info

        assert time.process_time() - start < self.info_seconds

    def test_its_import_is_light(self, provider: object) -> None:
        """
        Importing it loads no SDK, so that ``gaia models`` answers at once.

        Troubleshooting:
            Move the import into the first function that uses it. ``python -X
            importtime -c 'import gaia_hello'`` shows who imports what.
        """
        seconds, modules = imported_by(type(provider).__module__)

        assert modules & self.heavy_modules == set()
        assert seconds < self.import_seconds

    def test_its_secrets_stay_secret(self, provider: object) -> None:
        """
        Keys and passwords show neither in ``repr`` nor in ``str``.

        Troubleshooting:
            Declare the field with `setting` and the type `Secret`, or with
            ``attrs.field(repr=False)``.
        """
        shown = f"{provider!r} {provider}"

        assert [value for value in secrets_of(provider) if value in shown] == []

    def test_it_has_a_hook_for_every_capability(self, bench: Bench) -> None:
        """
        What it declares, it implements.

        Troubleshooting:
            Implement the hook, or leave the capability out of `ProviderInfo`.
        """
        wanted = {HOOK_OF[capability] for capability in bench.info.capabilities}

        assert [hook for hook in wanted if not bench.loaded.implements(hook)] == []

    @pytest.mark.asyncio
    async def test_its_models_are_sound(self, bench: Bench) -> None:
        """
        Its models can be told apart, priced and asked for.

        Troubleshooting:
            Identifiers and aliases are unique; a model can do nothing that its
            provider does not declare; sizes and counts are limits, not wishes.
        """
        models = await bench.models()
        names = [name for model in models for name in (model.id, *model.aliases)]

        assert models
        assert len(names) == len(set(names))
        for model in models:
            assert model.name
            assert model.capabilities <= bench.info.capabilities
            assert min(model.max_width, model.max_height) >= MIN_SIDE
            assert model.max_images >= 1
            assert model.default_steps >= 1
            assert model.upscale_factors <= set(UPSCALE_FACTORS)

    @pytest.mark.asyncio
    async def test_every_capability_has_a_model(self, bench: Bench) -> None:
        """
        For whatever it declares, it lists a model.

        Troubleshooting:
            Without such a model no request for the capability is ever planned.
        """
        able = {one for model in await bench.models() for one in model.capabilities}

        assert bench.info.capabilities - able == set()

    # -- its work ---------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_it_generates_what_was_asked(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        Pictures come as many and as large as asked for, or a warning says why not.

        Troubleshooting:
            Override the fixture ``generate_request`` if 256x256 is no size of
            yours. Whatever cannot be honoured belongs into ``warnings``.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)

        async with bench:
            result = await bench.ask(generate_request)

        self._assert_answers(bench, result)
        assert len(result.images) == generate_request.num_images
        size = (generate_request.width, generate_request.height)
        assert all(has_size(one, size, result.warnings) for one in result.images)

    @pytest.mark.asyncio
    async def test_it_generates_several(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        It makes as many pictures at once as its model promises.

        Troubleshooting:
            ``max_images`` of the model is what one call of the hook can give.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        chosen = await bench.choose(generate_request)
        count = min(2, chosen.model.max_images)

        async with bench:
            result = await bench.ask(attrs.evolve(generate_request, num_images=count))

        assert len(result.images) == count

    @pytest.mark.asyncio
    async def test_its_seed_repeats_a_picture(
        self, bench: Bench, generate_request: GenerateRequest
    ) -> None:
        """
        The same seed gives the same picture, where seeds are supported.

        Troubleshooting:
            Leave ``seed`` out of ``supported_fields`` if the vendor does not
            promise it: Gaia then warns that the seed was ignored.
        """
        bench.needs(Capability.TEXT_TO_IMAGE)
        chosen = await bench.choose(generate_request)
        if "seed" not in chosen.model.supported_fields:
            pytest.skip("does not support seeds")
        request = attrs.evolve(generate_request, seed=7)

        async with bench:
            first = await bench.ask(request)
            second = await bench.ask(request)

        assert first.images[0].data == second.images[0].data
        assert first.images[0].seed in {7, None}

    @pytest.mark.asyncio
    async def test_it_starts_from_a_picture(
        self, bench: Bench, generate_request: GenerateRequest, sample_image: Image
    ) -> None:
        """
        Image-to-image gives a picture of the size asked for.

        Troubleshooting:
            Size means ``width`` and ``height`` of the request; ``image`` may have
            another one.
        """
        bench.needs(Capability.IMAGE_TO_IMAGE)

        await self._check_edit(bench, generate_request, image=sample_image)

    @pytest.mark.asyncio
    async def test_it_repaints_a_region(
        self, bench: Bench, generate_request: GenerateRequest, sample_image: Image
    ) -> None:
        """
        Inpainting gives a picture of the size asked for.

        Troubleshooting:
            White in ``mask_image`` is repainted, black is kept.
        """
        bench.needs(Capability.INPAINTING)
        mask = samples.mask(sample_image.width, sample_image.height)

        await self._check_edit(
            bench,
            generate_request,
            image=sample_image,
            mask_image=Image.from_bytes(mask),
            width=sample_image.width,
            height=sample_image.height,
        )

    @pytest.mark.asyncio
    async def test_it_extends_a_picture(
        self, bench: Bench, generate_request: GenerateRequest, sample_image: Image
    ) -> None:
        """
        Outpainting gives a picture that is wider by what was asked for.

        Troubleshooting:
            The result is the picture plus ``outpaint`` on each side.
        """
        bench.needs(Capability.OUTPAINTING)

        await self._check_edit(
            bench,
            generate_request,
            image=sample_image,
            outpaint=Outpaint(left=_MARGIN, right=_MARGIN),
            width=sample_image.width + 2 * _MARGIN,
            height=sample_image.height,
        )

    @pytest.mark.asyncio
    @pytest.mark.parametrize("factor", UPSCALE_FACTORS)
    async def test_it_enlarges_exactly(
        self, bench: Bench, sample_image: Image, factor: int
    ) -> None:
        """
        Upscaling multiplies width and height by the factor, to the pixel.

        Troubleshooting:
            List in ``upscale_factors`` only what comes out exactly.
        """
        bench.needs(Capability.UPSCALING)
        if not any(factor in one.upscale_factors for one in await bench.models()):
            pytest.skip(f"does not enlarge by {factor}")
        request = UpscaleRequest(image=sample_image, upscale_factor=factor)

        async with bench:
            result = await bench.ask(request)

        self._assert_answers(bench, result)
        (image,) = result.images
        assert image.width == sample_image.width * factor
        assert image.height == sample_image.height * factor

    @pytest.mark.asyncio
    async def test_it_cuts_out(self, bench: Bench, sample_image: Image) -> None:
        """
        Background removal gives the same size and a transparent background.

        Troubleshooting:
            Ask the vendor for PNG or WebP: JPEG has no alpha channel.
        """
        bench.needs(Capability.BACKGROUND_REMOVAL)

        async with bench:
            result = await bench.ask(RemoveBackgroundRequest(image=sample_image))

        self._assert_answers(bench, result)
        (image,) = result.images
        assert (image.width, image.height) == (sample_image.width, sample_image.height)
        assert image.image.decode().has_transparency_data

    @pytest.mark.asyncio
    async def test_it_enhances_a_prompt(self, bench: Bench) -> None:
        """
        Prompt enhancement gives words, and no more than asked for.

        Troubleshooting:
            Cut at ``max_length`` if the vendor does not.
        """
        bench.needs(Capability.PROMPT_ENHANCEMENT)
        request = EnhancePromptRequest(prompt="a keep", max_length=200)

        async with bench:
            result = await bench.ask(request)

        assert isinstance(result, PromptResult)
        assert 0 < len(result.prompt.strip()) <= request.max_length

    @pytest.mark.asyncio
    async def test_it_describes_a_picture(
        self, bench: Bench, sample_image: Image
    ) -> None:
        """
        Image description gives words.

        Troubleshooting:
            Without a ``question`` the caller wants to know what is to be seen.
        """
        bench.needs(Capability.IMAGE_DESCRIPTION)

        async with bench:
            result = await bench.ask(DescribeImageRequest(image=sample_image))

        assert isinstance(result, DescriptionResult)
        assert result.description.strip()

    # -- its manners ------------------------------------------------------------------

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
            self._assert_answers(bench, result)

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
            self._assert_answers(bench, result)

    # -- its upkeep -------------------------------------------------------------------

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
        Looking up an unknown task gives None.

        Troubleshooting:
            None tells Gaia that the vendor never saw the task: that it may be
            sent again. Only answer None when the vendor says so.
        """
        bench.needs_hook("gaia_recover")
        lost = context(**bench.facts)

        async with bench:
            found = await bench.loaded.call(
                "gaia_recover", task_id=lost.task_id, context=lost
            )

        assert found is None

    # -- this suite -------------------------------------------------------------------

    def test_no_test_was_overridden(self) -> None:
        """
        The suite is whole: what cannot pass is marked, not left out.

        Troubleshooting:
            Override a test only to mark it ``@pytest.mark.xfail(reason=…)``, and
            call the original in it.
        """
        silenced = [
            name
            for name, original in vars(ProviderConformance).items()
            if name.startswith("test_")
            and (own := getattr(type(self), name)) is not original
            and not _is_excused(own)
        ]

        assert silenced == []

    # -- inside -----------------------------------------------------------------------

    async def _check_edit(
        self, bench: Bench, request: GenerateRequest, **changes: Any
    ) -> None:
        request = attrs.evolve(request, **changes)

        async with bench:
            result = await bench.ask(request)

        self._assert_answers(bench, result)
        size = (request.width, request.height)
        assert all(has_size(one, size, result.warnings) for one in result.images)

    def _assert_answers(self, bench: Bench, result: object) -> None:
        """Fail unless a result is complete: signed, priced, with sound pictures."""
        assert isinstance(result, ImageResult)
        assert result.provider == bench.info.name
        assert result.model
        assert result.images
        assert result.cost_usd is None or isinstance(result.cost_usd, Decimal)
        assert result.cost_usd is None or result.cost_usd >= 0
        for image in result.images:
            assert_sound(image)


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


def _is_excused(test: object) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


def _refuse_to_connect(*_: object) -> NoReturn:
    message = "A health check of the settings must not use the network."
    raise AssertionError(message)
