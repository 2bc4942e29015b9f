"""What ``provider_options["runware"]`` may hold, and what becomes of it."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gaia_core import GenerateRequest, Image, ProviderRequestError
from gaia_core.testing import png
from gaia_runware import options
from gaia_runware.models import facts_of
from gaia_runware.payloads import Task, generation
from gaia_runware.pictures import data_uri

TASK = "0c4f8a52-9d3e-4b7a-8f61-2a5d7c9e1b30"
DEV = "runware:101@1"
PICTURE = png(128, 64)


def uri(data: bytes) -> str:
    """A picture as the vendor gets it."""
    return data_uri(Image.from_bytes(data))


def draw_with(
    given: Mapping[str, Any], model: str = DEV, name: str = "runware"
) -> Task:
    """Write the task for a picture with options."""
    request = GenerateRequest(prompt="a red dragon", provider_options={name: given})
    return generation(request, task_id=TASK, facts=facts_of(model))


@pytest.mark.parametrize(
    ("word", "wire", "value"),
    [
        ("scheduler", "scheduler", "Euler"),
        ("acceleratorOptions", "acceleratorOptions", {"teaCache": True}),
        ("accelerator_options", "acceleratorOptions", {"teaCacheDistance": 0.5}),
        ("trueCFGScale", "trueCFGScale", 2.5),
        ("true_cfg_scale", "trueCFGScale", 2.5),
        ("mask_margin", "maskMargin", 32),
        ("outputQuality", "outputQuality", 80),
        ("safety", "safety", {"checkContent": True}),
    ],
)
def test_options_go_through_by_the_vendors_names_or_by_ours(
    word: str, wire: str, value: object
) -> None:
    """``mask_margin`` is as good as ``maskMargin``."""
    task = draw_with({word: value})

    assert task.payload[wire] == value
    assert task.warnings == ()


@pytest.mark.parametrize(
    ("word", "wire"),
    [("PNG", "PNG"), ("jpg", "JPG"), ("jpeg", "JPG"), ("webp", "WEBP")],
)
def test_the_format_may_be_chosen(word: str, wire: str) -> None:
    """Among those that Gaia reads."""
    assert draw_with({"outputFormat": word}).payload["outputFormat"] == wire


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"schedular": "Euler"}, "Did you mean scheduler?"),
        ({"nonsense": 1}, "Known: outputFormat"),
        ({"steps": 4}, "say it with the request's num_inference_steps"),
        ({"seed_image": "x"}, "has no option 'seed_image'"),
        ({"numberResults": 9}, "say it with the request's num_images"),
        ({"taskUUID": TASK}, "Gaia sets it itself"),
        ({"task_type": "videoInference"}, "Gaia sets it itself"),
        ({"webhookURL": "https://e.example"}, "Gaia sets it itself"),
        ({"uploadEndpoint": "https://e.example"}, "Gaia sets it itself"),
        ({"includeCost": False}, "Gaia sets it itself"),
        ({"deliveryMethod": "sync"}, "Gaia sets it itself"),
        ({"outputType": "base64Data"}, "Gaia sets it itself"),
        ({"apiKey": "k"}, "Gaia sets it itself"),
        ({"outputFormat": "SVG"}, "outputFormat must be one of PNG, JPG, WEBP"),
        ({"outputQuality": 100}, "a whole number from 20 to 99"),
        ({"outputQuality": True}, "a whole number from 20 to 99"),
        ({"scheduler": {1, 2}}, "neither JSON nor a picture"),
        ({"trueCFGScale": float("nan")}, "no number for JSON"),
        ({"acceleratorOptions": {1: 2}}, "a key that is no text"),
    ],
)
def test_options_that_cannot_be_sent_are_refused(
    given: dict[str, Any], reason: str
) -> None:
    """Nothing is sent, and the message says what to write."""
    with pytest.raises(ProviderRequestError) as caught:
        draw_with(given)

    assert reason in str(caught.value)


def test_options_nested_without_end_are_refused() -> None:
    """A value that holds itself does not go round for ever."""
    nested: dict[str, Any] = {}
    nested["again"] = nested

    with pytest.raises(ProviderRequestError, match="nested too deeply"):
        draw_with({"acceleratorOptions": nested})


def test_an_option_the_model_has_no_use_for_is_left_out_with_a_warning() -> None:
    """The vendor would refuse the task."""
    task = draw_with({"clipSkip": 2})

    assert "clipSkip" not in task.payload
    assert task.warnings == ("clipSkip ignored: FLUX.1 [dev] has no use for it",)


def test_an_option_the_picture_hangs_on_is_refused_where_it_cannot_be_had() -> None:
    """A picture without the pose asked for is not worth its money."""
    given = {"controlNet": [{"model": "runware:29@1", "guideImage": uri(PICTURE)}]}

    with pytest.raises(ProviderRequestError, match="takes no controlNet"):
        draw_with(given, "bfl:5@1")


@pytest.mark.parametrize(
    "picture",
    [PICTURE, Image.from_bytes(PICTURE)],
    ids=["bytes", "Image"],
)
def test_pictures_in_options_become_data_uris(picture: object) -> None:
    """ControlNet takes the picture to follow."""
    given = {"controlnet": [{"model": "runware:25@1", "guideImage": picture}]}

    payload = draw_with(given).payload

    assert payload["controlNet"] == [
        {"model": "runware:25@1", "guideImage": uri(PICTURE)}
    ]


@pytest.mark.parametrize(
    "name",
    ["https://example.com/pose.png", str(uuid.UUID(TASK)), uri(PICTURE)],
    ids=["address", "UUID", "data URI"],
)
def test_pictures_in_options_may_be_named(name: str) -> None:
    """What the vendor can read itself goes through as it is."""
    given = {"ipAdapters": [{"model": "runware:55@1", "guideImages": [name]}]}

    payload = draw_with(given).payload

    assert payload["ipAdapters"][0]["guideImages"] == [name]


def test_no_file_is_opened_because_a_text_names_it(tmp_path: Path) -> None:
    """A path from outside is refused, whether the file is there or not."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(PICTURE)

    with pytest.raises(ProviderRequestError, match="A file is never opened"):
        draw_with({"controlNet": [{"guideImage": str(secret)}]})


def test_options_of_another_provider_are_none_of_ours() -> None:
    """Only what stands under ``runware`` counts."""
    task = draw_with({"nonsense": 1}, name="gemini")

    assert task.warnings == ()


def test_every_option_is_one_the_sdk_knows() -> None:
    """An option that no model takes any more would never be sent."""
    from runware.types import task_map

    known = {
        name
        for kind in vars(task_map).values()
        if isinstance(kind, type) and kind.__name__.endswith("Params")
        for name in kind.__annotations__
    }

    assert {*options.KNOWN, *options.OURS, *options.GAIAS} <= known
