# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of what a provider makes."""

import attrs
import pytest

from gaia_core.capabilities import Capability
from gaia_core.images import Image
from gaia_core.requests import (
    UPSCALE_FACTORS,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Outpaint,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.results import DescriptionResult, PromptResult
from gaia_core.testing import samples
from gaia_core.testing.bench import Bench, has_size
from gaia_core.testing.conformance.fixtures import Conformance

_MARGIN = 64


class WorkTests(Conformance):
    """Every capability gives what was asked for."""

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

        self.assert_answers(bench, result)
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

        # Where pytest knows ``CI`` it compares what differs line by line, for minutes.
        is_same = first.images[0].data == second.images[0].data
        assert is_same, "The same seed gives different pictures."
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

        await self.check_edit(bench, generate_request, image=sample_image)

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

        await self.check_edit(
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

        await self.check_edit(
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

        self.assert_answers(bench, result)
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

        self.assert_answers(bench, result)
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
