"""What the service is asked for."""

from typing import Any

import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    ProviderRequestError,
    UpscaleRequest,
)
from gaia_core.testing import jpeg, png
from gaia_gemini import payloads
from gaia_gemini.models import image_model
from gaia_gemini.payloads import Payload
from gaia_gemini.sizes import Fit

PICTURE = Image.from_bytes(png())
FLASH = image_model("gemini-3.1-flash-image")
LITE = image_model("gemini-3.1-flash-lite-image")


def _payload(*, size: str | None = None, **fields: Any) -> Payload:
    request = GenerateRequest(**{"prompt": "a keep", **fields})
    return payloads.generation(request, FLASH, size)


def test_a_prompt_goes_out_with_its_style() -> None:
    """Words alone are one part; the style is behind them."""
    payload = _payload(style="fantasy art")

    assert payload.contents == [
        {"role": "user", "parts": [{"text": "a keep, fantasy art style"}]}
    ]
    assert payload.config["image_config"] == {"aspect_ratio": "1:1", "image_size": "1K"}
    assert payload.config["response_modalities"] == ["TEXT", "IMAGE"]


def test_pictures_go_before_the_words() -> None:
    """The picture to start from comes first, then the references, as they are."""
    other = Image.from_bytes(jpeg())
    payload = _payload(image=PICTURE, reference_images=[other])

    first, second, words = payload.contents[0]["parts"]

    assert first == {"inline_data": {"mime_type": "image/png", "data": PICTURE.data}}
    assert second["inline_data"]["mime_type"] == "image/jpeg"
    assert words == {"text": "a keep"}


def test_one_call_is_one_request() -> None:
    """The SDK is kept from sending more of its own accord."""
    config = _payload().config

    assert config["automatic_continuation"] is False
    assert config["automatic_function_calling"] == {"disable": True}


def test_a_model_with_one_size_is_told_none() -> None:
    """Models without a choice refuse to be told a size."""
    request = GenerateRequest(prompt="a keep", width=2048, height=1024)

    payload = payloads.generation(request, LITE, None)

    assert payload.config["image_config"] == {"aspect_ratio": "16:9"}


def test_options_of_the_vendor_decide() -> None:
    """What a request sets for Gemini comes before settings and size."""
    options = {
        "aspect_ratio": "21:9",
        "image_size": "4K",
        "temperature": 1,
        "thinking_level": "high",
    }

    payload = _payload(size="2K", provider_options={"gemini": options})

    config = payload.config
    assert config["image_config"] == {"aspect_ratio": "21:9", "image_size": "4K"}
    assert config["temperature"] == 1.0
    assert config["thinking_config"] == {"thinking_level": "HIGH"}
    assert payload.warnings == ()


@pytest.mark.parametrize(
    "options",
    [
        {"aspect_ratio": "7:3"},
        {"aspect_ratio": 1},
        {"temperature": "hot"},
        {"temperature": 3},
        {"temperature": True},
        {"thinking_level": "deep"},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """A wrong option names itself and what is right."""
    with pytest.raises(ProviderRequestError, match=next(iter(options))):
        _payload(provider_options={"gemini": options})


@pytest.mark.parametrize("options", [{"steps": 4}, {"image_size": "8K"}], ids=str)
def test_options_it_does_not_know_are_told(options: dict[str, Any]) -> None:
    """What is left out is said."""
    payload = _payload(provider_options={"gemini": options})

    assert len(payload.warnings) == 1
    assert next(iter(options)) in payload.warnings[0]
    assert payload.config["image_config"]["image_size"] == "1K"


def test_a_region_has_a_shape_of_its_own() -> None:
    """The picture says what shape is drawn; an option for that is left out."""
    options = {"gemini": {"aspect_ratio": "21:9", "image_size": "4K"}}
    request = GenerateRequest(
        prompt="a keep", image=PICTURE, mask_image=PICTURE, provider_options=options
    )
    fit = Fit("1:1", payloads.size_for(request, "512"))

    payload = payloads.repainting(request, FLASH, PICTURE, PICTURE, fit)

    assert payload.config["image_config"] == {"aspect_ratio": "1:1", "image_size": "4K"}
    assert payload.warnings == (
        "aspect_ratio ignored: the picture has a shape of its own",
    )


def test_too_many_pictures_are_refused() -> None:
    """Fourteen go in with a prompt, and not one more."""
    _payload(image=PICTURE, reference_images=[PICTURE] * 13)

    with pytest.raises(ProviderRequestError, match="at most 14 pictures"):
        _payload(image=PICTURE, reference_images=[PICTURE] * 14)


def test_a_prompt_is_enhanced_by_a_rule() -> None:
    """The words are the caller's; what to do with them is a rule of its own."""
    request = EnhancePromptRequest(prompt="a keep", max_length=120)

    payload = payloads.enhancement(request, "words-1")

    assert payload.model == "words-1"
    assert payload.contents[0]["parts"] == [{"text": "a keep"}]
    assert "120 characters" in payload.config["system_instruction"]


@pytest.mark.parametrize("question", [None, "Which colour is it?"], ids=str)
def test_a_picture_is_described_by_a_question(question: str | None) -> None:
    """Without a question, the picture as a whole is asked about."""
    request = DescribeImageRequest(image=PICTURE, question=question)

    payload = payloads.description(request, "words-1")

    picture, words = payload.contents[0]["parts"]
    assert picture["inline_data"]["data"] == PICTURE.data
    assert words["text"] == question or "Describe" in words["text"]


def test_a_call_bears_the_name_of_its_attempt() -> None:
    """Whoever stands in between can tell two calls apart."""
    config = _payload().config_for("task-1")

    assert config["http_options"] == {"headers": {"x-gaia-task": "task-1"}}


def test_what_gets_too_large_is_not_sent() -> None:
    """Imagen makes 17 megapixels at most."""
    image = Image.from_bytes(png(1_100, 1_100))

    assert payloads.upscale_factor(UpscaleRequest(image=image, upscale_factor=2)) == (
        "x2"
    )
    with pytest.raises(ProviderRequestError, match="4400x4400"):
        payloads.upscale_factor(UpscaleRequest(image=image, upscale_factor=4))
