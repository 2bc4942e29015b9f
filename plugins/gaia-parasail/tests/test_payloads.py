"""From requests to what the service is asked."""

import base64
import json
from typing import Any

import pytest

from gaia_core import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    ProviderRequestError,
)
from gaia_core.testing import png
from gaia_parasail import Endpoint, ModelSettings, payloads

PLAIN = ModelSettings()


def _asked(**changes: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": "a keep", "model": "m"} | changes)


def test_the_least_that_is_asked() -> None:
    """A request without further wishes is four fields."""
    assert payloads.generation(_asked(), PLAIN) == {
        "model": "m",
        "prompt": "a keep",
        "size": "1024x1024",
        "response_format": "b64_json",
    }


def test_wishes_that_are_known_are_sent() -> None:
    """Fields go along under the service's names; those it lacks do not."""
    model = ModelSettings(
        supported_fields=["seed", "guidance_scale", "negative_prompt"],
        field_names={"guidance_scale": "cfg"},
        extra_body={"safety": True},
        response_format="",
        max_images=4,
    )
    request = _asked(
        style="ink", seed=0, guidance_scale=3.5, num_inference_steps=9, num_images=2
    )

    assert payloads.generation(request, model) == {
        "safety": True,
        "model": "m",
        "prompt": "a keep, ink style",
        "size": "1024x1024",
        "n": 2,
        "cfg": 3.5,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        pytest.param((512, 512), "512x512", id="made"),
        pytest.param((600, 600), "512x512", id="nearest square"),
        pytest.param((900, 900), "1024x1024", id="nearer the larger"),
        pytest.param((1600, 900), "1536x1024", id="wide"),
        pytest.param((300, 900), "1024x1536", id="high"),
    ],
)
def test_the_nearest_size_is_asked_for(wanted: tuple[int, int], asked: str) -> None:
    """Of the sizes that are made, the most similar shape comes first, then area."""
    model = ModelSettings(sizes=["512x512", "1024x1024", "1536x1024", "1024x1536"])

    payload = payloads.generation(_asked(width=wanted[0], height=wanted[1]), model)

    assert payload["size"] == asked


def test_options_are_passed_on() -> None:
    """What only this service knows is sent as it is."""
    options = {"parasail": {"true_cfg_scale": 4}, "runware": {"scheduler": "x"}}

    payload = payloads.generation(_asked(provider_options=options), PLAIN)

    assert payload["true_cfg_scale"] == 4
    assert "scheduler" not in payload


@pytest.mark.parametrize(
    "options",
    [{"model": "other"}, {"n": 8}, {"image": "/etc/hostname"}, {"x": object()}],
    ids=["model", "count", "picture", "no JSON"],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    """What Gaia decides about, and what is no JSON, is refused."""
    with pytest.raises(ProviderRequestError, match="parasail"):
        payloads.generation(_asked(provider_options={"parasail": options}), PLAIN)


def test_a_line_of_words() -> None:
    """A line is one JSON object and ends where the line does."""
    model = ModelSettings(endpoint=Endpoint.BATCH_GENERATIONS)

    text = payloads.line(_asked(prompt="two\nlines"), model, "task")

    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
    line = json.loads(text)
    assert (line["custom_id"], line["method"]) == ("task", "POST")
    assert line["url"] == "/v1/images/generations"
    assert "image" not in line["body"]


def test_a_line_with_pictures() -> None:
    """Pictures are base64, the one to start from first, and the prompt names them."""
    first, second = png(8, 8, "red"), png(8, 8, "blue")
    model = ModelSettings(
        endpoint=Endpoint.BATCH_EDITS,
        supported_fields=["reference_images"],
        image_mark="<{}>",
    )
    request = _asked(image=first, reference_images=(Image.from_bytes(second),))

    line = json.loads(payloads.line(request, model, "task"))

    assert line["url"] == "/v1/images/edits"
    assert line["body"]["prompt"] == "<1> <2> a keep"
    assert [base64.b64decode(one) for one in line["body"]["image"]] == [first, second]


def test_a_prompt_that_names_its_pictures_stays() -> None:
    """Who knows the model's words writes them where they belong."""
    model = ModelSettings(endpoint=Endpoint.BATCH_EDITS, image_mark="<{}>")
    request = _asked(prompt="the man in <1>", image=png(8, 8))

    line = json.loads(payloads.line(request, model, "task"))

    assert line["body"]["prompt"] == "the man in <1>"


def test_a_picture_to_look_at() -> None:
    """It goes along as a data address, with the question or a plain wish."""
    data = png(8, 8)
    request = DescribeImageRequest(image=data, model="m")

    (message,) = payloads.description(request)["messages"]

    picture, words = message["content"]
    address = picture["image_url"]["url"]
    assert address == f"data:image/png;base64,{base64.b64encode(data).decode()}"
    assert words["text"].startswith("Say in two or three sentences")


def test_a_prompt_to_improve() -> None:
    """The wish names the limit; the prompt is the user's word."""
    request = EnhancePromptRequest(prompt="a keep", max_length=123, model="m")

    wish, prompt = payloads.enhancement(request)["messages"]

    assert "123" in wish["content"]
    assert prompt == {"role": "user", "content": "a keep"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"sizes": ["large"]}, "1024x1024", id="size"),
        pytest.param({"supported_fields": ["colour"]}, "colour", id="field"),
        pytest.param({"capabilities": ["upscaling"]}, "text-to-image", id="capability"),
        pytest.param({"max_images": 0}, "max_images", id="count"),
        pytest.param({"response_format": "png"}, "response_format", id="format"),
        pytest.param({"endpoint": "responses"}, "responses", id="endpoint"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    """A model described wrongly is refused with what is accepted."""
    with pytest.raises(ValueError, match=said):
        ModelSettings(**settings)


@pytest.mark.parametrize(
    ("grey", "alpha"), [(255, 255), (65_535, 0)], ids=["nearly black", "white"]
)
def test_a_mask_of_16_bits_is_scaled(grey: int, alpha: int) -> None:
    """What is nearly black in a mask of 16 bits is kept, not painted over."""
    mask = Image.from_bytes(png(32, 32, mode="I;16", colour=(grey,)))
    request = GenerateRequest(
        prompt="a keep", image=png(32, 32), mask_image=mask, width=32, height=32
    )

    brought = payloads.pictures(request, ModelSettings(endpoint="edits"))

    assert brought.mask is not None
    made = Image.from_bytes(brought.mask[1]).decode()
    assert made.getchannel("A").getextrema() == (alpha, alpha)
