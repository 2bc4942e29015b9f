"""Pictures, whole and in part, with the real SDK and a stand-in for the service."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import attrs
import pytest

from gaia_core import (
    ContentFilteredError,
    DigitalSource,
    GenerateRequest,
    Image,
    OutcomeClass,
    ProviderError,
    UnusableResultError,
    UpscaleRequest,
)
from gaia_core.testing import context, png, samples
from gaia_core.testing.contexts import WatchedContext
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.gemini import GeminiVendor, Manner
from gaia_gemini import GeminiProvider
from gaia_gemini.drawing import Drawing
from gaia_gemini.models import image_model

Make = Callable[..., GeminiProvider]

KEEP = GenerateRequest(prompt="a keep", width=64, height=64)
SUBJECT = Image.from_bytes(samples.subject(64, 64))

PRICE = Decimal("0.04482")
"""Of a picture at 512, which is what `KEEP` comes to."""


# -- pictures -------------------------------------------------------------------------


async def test_a_picture_costs_what_its_tokens_cost(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The bill is that of the tokens the service counts."""
    result = await provider.gaia_generate(KEEP, context())

    words = 2 * Decimal("0.50") / 1_000_000
    assert result.cost_usd == PRICE + words
    assert result.model == "gemini-3.1-flash-image"
    assert len(vendor.charges) == 1


async def test_what_came_is_not_touched(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The service's bytes, and the marks in them, stay as they are."""
    result = await provider.gaia_generate(KEEP, context())

    assert not result.images[0].is_encoded_here
    assert result.warnings == (
        "size: made 512x512, the nearest the model draws to 64x64",
    )
    assert vendor.bodies


async def test_without_counted_tokens_the_price_list_holds(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """An answer that counts nothing costs what a picture of its size costs."""
    vendor.manner = Manner(has_usage=False)

    result = await provider.gaia_generate(KEEP, context())

    assert result.cost_usd == PRICE


async def test_several_pictures_are_several_calls(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Each picture has its call, under a name of its own, a few at the same time."""
    vendor.delay = 0.1
    watched = WatchedContext.ready()

    result = await provider.gaia_generate(attrs.evolve(KEEP, num_images=8), watched)

    assert len({image.data for image in result.images}) == vendor.requests == 8
    assert vendor.double_charges() == {}
    assert vendor.most_at_once == 4
    assert watched.fractions[-1] == 1.0
    assert {one.task_id for one in vendor.arrivals} == {
        f"{watched.task_id}/{number}" for number in range(8)
    }


async def test_what_is_made_is_kept(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A call that was lost is counted and told; the others are kept."""
    vendor.inject(Faults(script=[Fault.DROP_AFTER, Fault.UNAVAILABLE]))

    result = await provider.gaia_generate(attrs.evolve(KEEP, num_images=4), context())

    assert len(result.images) == 2
    assert len(vendor.charges) == 3
    words = 2 * Decimal("0.000001")
    assert result.cost_usd == 3 * PRICE + words
    assert sum("may have been charged" in one for one in result.warnings) == 1
    assert sum("was not made" in one for one in result.warnings) == 1


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([Fault.UNAVAILABLE, Fault.DROP_AFTER], OutcomeClass.AMBIGUOUS),
        ([Fault.DROP_BEFORE, Fault.BAD_REQUEST], OutcomeClass.AMBIGUOUS),
        ([Fault.EMPTY_AFTER, Fault.FILTERED], OutcomeClass.UNUSABLE),
        ([Fault.FILTERED, Fault.BUSY], OutcomeClass.REJECTED_FINAL),
        ([Fault.UNAUTHORISED, Fault.BUSY], OutcomeClass.REJECTED_AUTH),
        ([Fault.BUSY, Fault.UNAVAILABLE], OutcomeClass.REJECTED_BUSY),
    ],
    ids=str,
)
async def test_where_all_fail_the_most_telling_error_is_raised(
    vendor: GeminiVendor,
    provider: GeminiProvider,
    script: Sequence[Fault],
    outcome: OutcomeClass,
) -> None:
    """What may be owed comes before what is certainly free."""
    vendor.inject(Faults(script=script))

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(attrs.evolve(KEEP, num_images=2), context())

    assert caught.value.outcome is outcome


async def test_thoughts_and_drafts_are_left_out(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Of all the pictures in an answer the last is the one; thoughts are paid."""
    vendor.manner = Manner(thoughts=2, drafts=2)

    result = await provider.gaia_generate(KEEP, context())

    (image,) = result.images
    assert (image.width, image.height) == (512, 512)
    assert result.cost_usd == PRICE + Decimal("0.000001") + Decimal("0.0006")


@pytest.mark.parametrize(
    ("manner", "kind"),
    [
        (Manner(prompt_block="PROHIBITED_CONTENT"), ContentFilteredError),
        (Manner(finish_reason="IMAGE_SAFETY"), ContentFilteredError),
        (Manner(finish_reason="NO_IMAGE"), UnusableResultError),
        (Manner(is_text_only=True), UnusableResultError),
        (Manner(body="<html>"), UnusableResultError),
        (Manner(body=""), UnusableResultError),
        (Manner(body="{"), UnusableResultError),
    ],
    ids=["prompt", "picture", "none", "words", "html", "nothing", "half"],
)
async def test_a_200_without_a_picture_is_an_error(
    vendor: GeminiVendor,
    provider: GeminiProvider,
    manner: Manner,
    kind: type[ProviderError],
) -> None:
    """Blocks are refusals; everything else is charged and of no use."""
    vendor.manner = manner

    with pytest.raises(ProviderError) as caught:
        await provider.gaia_generate(KEEP, context())

    assert type(caught.value) is kind


@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
async def test_words_in_place_of_a_picture_cost_what_words_cost(
    vendor: GeminiVendor, provider: GeminiProvider, count: int
) -> None:
    """An answer of no use is booked by its tokens, not as the picture it is not."""
    vendor.manner = Manner(is_text_only=True)

    with pytest.raises(UnusableResultError) as caught:
        await provider.gaia_generate(attrs.evolve(KEEP, num_images=count), context())

    assert caught.value.cost_usd is not None
    assert 0 < caught.value.cost_usd < count * PRICE / 100


async def test_reasons_nobody_knows_raise_no_warning(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The SDK would warn the host of a word that is newer than itself."""
    vendor.manner = Manner(finish_reason="A_WORD_OF_NEXT_YEAR")

    with pytest.raises(UnusableResultError, match="A_WORD_OF_NEXT_YEAR"):
        await provider.gaia_generate(KEEP, context())


async def test_reference_pictures_are_sent(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The picture to start from and the references shine through the result."""
    request = attrs.evolve(KEEP, image=SUBJECT, reference_images=[png(colour="blue")])

    result = await provider.gaia_generate(request, context())

    parts = _body(vendor)["contents"][0]["parts"]
    assert [next(iter(part)) for part in parts] == ["inlineData", "inlineData", "text"]
    assert result.cost_usd is not None
    assert result.cost_usd > PRICE + 2 * Decimal("0.0005")


@pytest.mark.parametrize(
    ("size", "pixels", "image_size"),
    [
        ((1024, 1024), (1024, 1024), "1K"),
        ((1376, 768), (1376, 768), "1K"),
        ((1696, 2528), (1696, 2528), "2K"),
    ],
    ids=str,
)
async def test_a_size_the_model_draws_comes_exactly(
    vendor: GeminiVendor,
    provider: GeminiProvider,
    size: tuple[int, int],
    pixels: tuple[int, int],
    image_size: str,
) -> None:
    """Sizes of Google's table come as asked for, without a warning."""
    width, height = size

    result = await provider.gaia_generate(
        attrs.evolve(KEEP, width=width, height=height), context()
    )

    (image,) = result.images
    assert (image.width, image.height) == pixels
    assert result.warnings == ()
    config = _body(vendor)["generationConfig"]["imageConfig"]
    assert config["imageSize"] == image_size


async def test_the_setting_image_size_decides(make: Make, vendor: GeminiVendor) -> None:
    """With it every picture has that size, and costs as much."""
    provider = make(vendor, image_size="1K")

    result = await provider.gaia_generate(KEEP, context())
    await provider.gaia_stop()

    assert result.images[0].width == 1024
    assert result.warnings == (
        "size: made 1024x1024, as options or settings say, not 64x64",
    )


async def test_a_call_that_ends_in_a_way_nobody_foresaw_costs_no_other() -> None:
    """What the others made is kept, and the lost one may have been charged."""
    part = {"inlineData": {"data": png(512, 512)}}
    calls = iter([True, False])

    async def ask(_payload: object, _task_id: str) -> dict[str, Any]:
        if next(calls):
            raise RecursionError
        return {"candidates": [{"content": {"parts": [part]}}]}

    drawing = Drawing(
        request=attrs.evolve(KEEP, num_images=2),
        model=image_model(None),
        image_size=None,
        context=context(),
        ask=ask,
    )

    result = await drawing.drawn()

    assert len(result.images) == 1
    assert result.cost_usd == 2 * PRICE
    assert any("RecursionError" in warning for warning in result.warnings)


async def test_a_model_of_the_settings_is_used(
    make: Make, vendor: GeminiVendor
) -> None:
    """A model that is set is listed, and asked for by its name."""
    vendor.models = (*vendor.models, "gemini-9-image")
    provider = make(vendor, models=["gemini-9-image"])
    request = attrs.evolve(KEEP, model="gemini-9-image")

    listed = await provider.gaia_list_models(refresh=False, search="gemini-9")
    result = await provider.gaia_generate(request, context())
    await provider.gaia_stop()

    assert [card.id for card in listed] == ["gemini-9-image"]
    assert result.model == "gemini-9-image"
    assert result.cost_usd is None


async def test_a_model_that_is_gone_is_stood_in_for(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The successor draws, and the result says so."""
    old = "gemini-2.0-flash-preview-image-generation"

    result = await provider.gaia_generate(attrs.evolve(KEEP, model=old), context())

    assert result.model == "gemini-3.1-flash-image"
    assert any(old in warning for warning in result.warnings)
    assert vendor.requests == 1


async def test_through_gaia_a_model_that_is_gone_is_told(
    provider: GeminiProvider, open_gaia: OpenGaia
) -> None:
    """Whoever names it learns of it, also where Gaia has found the successor."""
    old = "gemini-2.0-flash-preview-image-generation"

    async with open_gaia(provider) as gaia:
        response = await gaia.generate(attrs.evolve(KEEP, model=old))

    assert response.model == "gemini-3.1-flash-image"
    assert any(old in warning for warning in response.warnings)


# -- parts of pictures ----------------------------------------------------------------


async def test_inpainting_keeps_what_is_not_masked(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """The service changes everything; the result differs in the mask only."""
    mask = Image.from_bytes(samples.mask(64, 64))

    result = await provider.gaia_generate(
        attrs.evolve(KEEP, image=SUBJECT, mask_image=mask), context()
    )

    (image,) = result.images
    new, old = image.image.decode(), SUBJECT.decode()
    assert new.getpixel((60, 60)) == old.getpixel((60, 60))
    assert new.getpixel((24, 24)) != old.getpixel((24, 24))
    assert image.is_encoded_here
    assert image.digital_source is DigitalSource.COMPOSITE
    assert result.warnings == ()
    config = _body(vendor)["generationConfig"]["imageConfig"]
    assert config["imageSize"] == "512"
    assert len(_body(vendor)["contents"][0]["parts"]) == 3


async def test_the_size_of_a_region_is_that_of_its_picture(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """Width and height do not change it; an option says how finely it is drawn."""
    request = GenerateRequest(
        prompt="a keep",
        image=SUBJECT,
        mask_image=Image.from_bytes(samples.mask(64, 64)),
        provider_options={"gemini": {"image_size": "1K"}},
    )

    result = await provider.gaia_generate(request, context())

    assert result.warnings == (
        "size: made 64x64, as large as image with all that is added, not 1024x1024",
    )
    assert _body(vendor)["generationConfig"]["imageConfig"]["imageSize"] == "1K"


async def test_a_damaged_picture_is_paid_for(
    vendor: GeminiVendor, provider: GeminiProvider
) -> None:
    """A picture of the service that ends too early is charged and of no use."""
    import base64

    cut = base64.b64encode(samples.subject(512, 512)[:600]).decode()
    part = {"inlineData": {"mimeType": "image/png", "data": cut}}
    reply = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    vendor.manner = Manner(body=json.dumps(reply))
    mask = Image.from_bytes(samples.mask(64, 64))

    with pytest.raises(UnusableResultError, match="damaged"):
        await provider.gaia_generate(
            attrs.evolve(KEEP, image=SUBJECT, mask_image=mask), context()
        )


async def test_upscaling_enlarges_on_vertex(
    vendor: GeminiVendor, on_vertex: GeminiProvider
) -> None:
    """Imagen enlarges to the pixel."""
    request = UpscaleRequest(image=SUBJECT, upscale_factor=4)
    attempt = context()

    result = await on_vertex.gaia_upscale(request, attempt)

    assert (result.images[0].width, result.images[0].height) == (256, 256)
    assert result.cost_usd is None
    assert vendor.charged(attempt.task_id) == 1
    assert _body(vendor)["parameters"]["upscaleConfig"] == {"upscaleFactor": "x4"}


async def test_work_without_options_says_so(on_vertex: GeminiProvider) -> None:
    """An option for work that takes none is left out, and told."""
    options = {"gemini": {"mode": "sharp"}}

    result = await on_vertex.gaia_upscale(
        UpscaleRequest(image=SUBJECT, upscale_factor=2, provider_options=options),
        context(),
    )

    assert result.warnings == ("option 'mode' ignored: upscaling takes none",)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.DROP_AFTER, OutcomeClass.AMBIGUOUS),
        (Fault.UNAVAILABLE, OutcomeClass.REJECTED_BUSY),
        (Fault.EMPTY_AFTER, OutcomeClass.UNUSABLE),
        (Fault.BAD_IMAGE_AFTER, OutcomeClass.UNUSABLE),
    ],
    ids=str,
)
async def test_upscaling_that_fails_is_asked_for_once(
    vendor: GeminiVendor,
    on_vertex: GeminiProvider,
    fault: Fault,
    outcome: OutcomeClass,
) -> None:
    """The other service is sent everything once, too."""
    vendor.inject(Faults(rates={fault: 1.0}))

    with pytest.raises(ProviderError) as caught:
        await on_vertex.gaia_upscale(UpscaleRequest(image=SUBJECT), context())

    assert caught.value.outcome is outcome
    assert vendor.requests == 1


def _body(vendor: GeminiVendor) -> Any:
    return json.loads(vendor.bodies[-1])
