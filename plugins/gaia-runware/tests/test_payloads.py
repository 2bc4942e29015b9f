"""Our requests as the vendor's task objects, against the SDK's own types."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs
import pytest

from gaia_core import (
    Capability,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Image,
    Lora,
    Outpaint,
    ProviderRequestError,
    RemoveBackgroundRequest,
    UpscaleRequest,
)
from gaia_core.testing import png
from gaia_runware import options
from gaia_runware.models import cards, facts_of
from gaia_runware.payloads import (
    Task,
    background_removal,
    caption,
    enhancement,
    generation,
    search,
    upscaling,
)
from gaia_runware.pictures import data_uri

TASK = "0c4f8a52-9d3e-4b7a-8f61-2a5d7c9e1b30"
DEV = "runware:101@1"

PICTURE = png(128, 64)
MASK = png(128, 64, colour="white", mode="L")


@cache
def declared() -> Mapping[str, Mapping[str, str]]:
    """Fields that the installed SDK declares, by model and by kind of task."""
    from runware.types import task_map

    kinds = [
        kind
        for kind in vars(task_map).values()
        if isinstance(kind, type) and "`" in (kind.__doc__ or "")
    ]
    return {
        (kind.__doc__ or "").split("`")[1]: {
            name: str(annotation) for name, annotation in kind.__annotations__.items()
        }
        for kind in kinds
        if kind.__name__.endswith("Params")
    }


def uri(data: bytes) -> str:
    """A picture as the vendor gets it."""
    return data_uri(Image.from_bytes(data))


def draw(model: str = DEV, **fields: Any) -> Task:
    """Write the task for a picture."""
    request = GenerateRequest(**{"prompt": "a red dragon", **fields})
    return generation(request, task_id=TASK, facts=facts_of(model))


# -- against the SDK -------------------------------------------------------------------

REQUESTS = {
    Capability.TEXT_TO_IMAGE: {},
    Capability.IMAGE_TO_IMAGE: {"image": PICTURE, "strength": 0.5},
    Capability.INPAINTING: {"image": PICTURE, "mask_image": MASK, "strength": 0.9},
    Capability.OUTPAINTING: {"image": PICTURE, "outpaint": Outpaint(left=64)},
}


def _cases() -> list[Any]:
    return [
        pytest.param(card.id, capability, id=f"{card.id} {capability}")
        for card in cards("runware")
        for capability in sorted(card.capabilities)
    ]


def _task(model: str, capability: Capability) -> Task:
    """The fullest task of a model for a capability."""
    known = facts_of(model)
    if capability in REQUESTS:
        return _fullest(model, REQUESTS[capability])
    if capability is Capability.UPSCALING:
        return upscaling(
            UpscaleRequest(image=PICTURE, upscale_factor=2), task_id=TASK, facts=known
        )
    if capability is Capability.BACKGROUND_REMOVAL:
        return background_removal(
            RemoveBackgroundRequest(image=PICTURE), task_id=TASK, facts=known
        )
    if capability is Capability.PROMPT_ENHANCEMENT:
        return enhancement(EnhancePromptRequest(prompt="a dragon"), task_id=TASK)
    return caption(
        DescribeImageRequest(image=PICTURE, question="Who?"), task_id=TASK, facts=known
    )


def _fullest(model: str, fields: Mapping[str, Any]) -> Task:
    """Everything a request can say, and every option."""
    known = facts_of(model)
    given = {
        "outputFormat": "webp",
        "outputQuality": 90,
        "safety": {"checkContent": True},
        **{name: {} for name in options.BY_MODEL if name in known.fields},
    }
    return draw(
        model,
        negative_prompt="fog",
        seed=7,
        guidance_scale=4,
        num_inference_steps=20,
        num_images=2,
        loras=[Lora(model="civitai:1@2", weight=0.5)],
        provider_options={"runware": given},
        **fields,
    )


@pytest.mark.parametrize(("model", "capability"), _cases())
def test_every_task_holds_what_the_sdk_declares_and_nothing_else(
    model: str, capability: Capability
) -> None:
    """A field that the vendor renames, adds or drops is noticed with the next SDK."""
    kind = declared()[model]
    needed = {name for name, words in kind.items() if "NotRequired" not in words}

    payload = _task(model, capability).payload

    assert payload.keys() <= kind.keys()
    assert needed <= payload.keys()
    assert f"'{payload['taskType']}'" in kind["taskType"]
    assert f"'{payload.get('outputFormat', 'PNG')}'" in kind.get(
        "outputFormat", "'PNG'"
    )
    assert json.loads(json.dumps(payload)) == payload


def test_a_search_holds_what_the_sdk_declares() -> None:
    """Searching has a task of its own."""
    assert search("dragon", task_id=TASK).keys() <= declared()["model-search"].keys()
    assert search(None, task_id=TASK).keys() <= declared()["model-search"].keys()


def test_the_sdk_does_not_check_tasks_against_the_network() -> None:
    """Its validation, which fetches schemas, is off unless somebody turns it on."""
    from runware.types.sdk import SDKConfig

    assert SDKConfig.__dataclass_fields__["validate"].default is False


# -- text to image ---------------------------------------------------------------------


def test_words_become_a_task() -> None:
    """The whole object, as it goes to the SDK."""
    task = draw(
        negative_prompt="fog",
        seed=7,
        guidance_scale=3.5,
        num_inference_steps=20,
        num_images=2,
        loras=[Lora(model="civitai:1@2", weight=0.5)],
    )

    assert task.payload == {
        "taskType": "imageInference",
        "taskUUID": TASK,
        "model": DEV,
        "deliveryMethod": "sync",
        "outputType": "URL",
        "includeCost": True,
        "numberResults": 2,
        "positivePrompt": "a red dragon",
        "negativePrompt": "fog",
        "width": 1024,
        "height": 1024,
        "seed": 7,
        "steps": 20,
        "CFGScale": 3.5,
        "lora": [{"model": "civitai:1@2", "weight": 0.5}],
        "outputFormat": "PNG",
    }
    assert task.warnings == ()


def test_the_style_stands_behind_the_prompt() -> None:
    """The vendor has no field for it."""
    payload = draw(style="fantasy art").payload

    assert payload["positivePrompt"] == "a red dragon, fantasy art style"


def test_what_a_model_does_not_take_is_left_out() -> None:
    """Gaia warns about it; the vendor would refuse it."""
    payload = draw(
        "openai:1@1", negative_prompt="fog", seed=7, num_inference_steps=4
    ).payload

    assert payload.keys().isdisjoint({"negativePrompt", "seed", "steps"})


def test_a_size_the_model_does_not_make_becomes_one_with_a_warning() -> None:
    """The caller is told what was made in place of what was asked."""
    task = draw(width=1000, height=600)

    assert (task.payload["width"], task.payload["height"]) == (1024, 576)
    assert task.warnings == ("size 1000x600 became 1024x576, which FLUX.1 [dev] makes",)


@pytest.mark.parametrize(
    ("model", "fields", "wire", "value", "warning"),
    [
        (
            "bytedance:seedream@4.5",
            {"seed": 2**31 + 5, "width": 2048, "height": 2048},
            "seed",
            5,
            "seed 2147483653 became 5: Seedream 4.5 takes no larger ones",
        ),
        (
            DEV,
            {"num_inference_steps": 80},
            "steps",
            50,
            "num_inference_steps 80 became 50, the most here",
        ),
        (
            DEV,
            {"guidance_scale": 30},
            "CFGScale",
            20,
            "guidance_scale 30 became 20, the nearest here",
        ),
    ],
    ids=["seed", "steps", "guidance"],
)
def test_a_number_beyond_the_models_limit_becomes_the_limit_with_a_warning(
    model: str, fields: dict[str, Any], wire: str, value: float, warning: str
) -> None:
    """The vendor would refuse it."""
    task = draw(model, **fields)

    assert task.payload[wire] == value
    assert task.warnings == (warning,)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_words_the_model_has_no_room_for_are_refused(field: str) -> None:
    """Cutting a prompt would draw something else."""
    with pytest.raises(ProviderRequestError, match=f"3000 characters of {field}"):
        draw(**{field: "x" * 3001})


def test_slow_models_answer_when_they_are_asked() -> None:
    """The vendor keeps a synchronous answer open for two minutes only."""
    assert draw("openai:1@1").payload["deliveryMethod"] == "async"
    assert draw("runware:100@1").payload["deliveryMethod"] == "sync"


# -- pictures --------------------------------------------------------------------------


def test_a_picture_to_start_from_is_the_seed_image() -> None:
    """With how far to leave it."""
    payload = draw(image=PICTURE, strength=0.4).payload

    assert payload["inputs"] == {"seedImage": uri(PICTURE)}
    assert payload["strength"] == 0.4


def test_a_mask_lies_beside_the_picture() -> None:
    """White is repainted, in the vendor's words as in ours."""
    payload = draw(image=PICTURE, mask_image=MASK).payload

    assert payload["inputs"] == {"seedImage": uri(PICTURE), "maskImage": uri(MASK)}


def test_a_model_of_references_takes_the_picture_as_the_first_one() -> None:
    """Then come those to imitate, in their order; there is no strength."""
    others = [png(64, 64, colour="red"), png(64, 64, colour="blue")]

    payload = draw(
        "bfl:5@1", image=PICTURE, strength=0.4, reference_images=others
    ).payload

    assert payload["inputs"] == {"referenceImages": [uri(PICTURE), *map(uri, others)]}
    assert "strength" not in payload


def test_more_pictures_than_the_model_takes_are_refused() -> None:
    """Nothing is sent, and the limit is named."""
    with pytest.raises(ProviderRequestError, match="at most 4 pictures, not 5"):
        draw("runware:400@1", reference_images=[PICTURE] * 5)


def test_a_model_that_needs_a_picture_says_so() -> None:
    """Selection does not come here; whoever calls directly is told."""
    with pytest.raises(ProviderRequestError, match="makes nothing without a picture"):
        draw("vidu:q1@image")


def test_a_model_without_a_size_keeps_the_pictures() -> None:
    """Other wishes are answered with a warning."""
    task = draw("ideogram:4@3", image=PICTURE, mask_image=MASK)

    assert task.payload.keys().isdisjoint({"width", "height"})
    assert task.warnings == (
        "size 1024x1024 became 128x64, which Ideogram 3.0 Edit makes",
    )


def test_extending_a_picture_takes_the_sides_and_the_whole_size() -> None:
    """The picture's size and the sides decide, not width and height."""
    task = draw(image=PICTURE, outpaint=Outpaint(left=64, bottom=128))

    assert task.payload["outpaint"] == {"left": 64, "bottom": 128}
    assert (task.payload["width"], task.payload["height"]) == (192, 192)
    assert task.warnings == ()


def test_sides_are_rounded_up_to_what_the_model_takes() -> None:
    """The caller gets at least what was asked for, and is told."""
    task = draw(image=png(100, 100), outpaint=Outpaint(right=10))

    assert task.payload["outpaint"] == {"right": 64}
    assert (task.payload["width"], task.payload["height"]) == (192, 128)
    assert task.warnings == ("size 110x100 became 192x128, which FLUX.1 [dev] makes",)


def test_extending_beyond_the_largest_size_is_refused() -> None:
    """Nothing is sent."""
    with pytest.raises(ProviderRequestError, match="at most 2048 pixels a side"):
        draw(image=png(64, 64), outpaint=Outpaint(left=4096))


def test_a_model_that_decides_the_size_gets_the_sides_as_they_are() -> None:
    """FLUX.1 Expand takes pixels, and no size."""
    payload = draw("bfl:1@3", image=PICTURE, outpaint=Outpaint(top=33)).payload

    assert payload["outpaint"] == {"top": 33}
    assert payload.keys().isdisjoint({"width", "height"})


# -- the other tasks -------------------------------------------------------------------


def test_enlarging_takes_the_picture_and_the_factor() -> None:
    """The whole object."""
    request = UpscaleRequest(image=PICTURE, upscale_factor=4)

    task = upscaling(request, task_id=TASK, facts=facts_of("runware:504@1"))

    assert task.payload == {
        "taskType": "upscale",
        "taskUUID": TASK,
        "model": "runware:504@1",
        "deliveryMethod": "sync",
        "outputType": "URL",
        "includeCost": True,
        "inputs": {"image": uri(PICTURE)},
        "upscaleFactor": 4,
        "outputFormat": "PNG",
    }


def test_very_large_results_come_as_webp() -> None:
    """As PNG they could be more bytes than Gaia reads."""
    request = UpscaleRequest(image=png(2048, 2048), upscale_factor=4)

    task = upscaling(request, task_id=TASK, facts=facts_of("runware:504@1"))

    assert task.payload["outputFormat"] == "WEBP"


def test_an_upscaler_takes_its_settings() -> None:
    """What a person asks for wins over what Gaia would choose."""
    request = UpscaleRequest(
        image=PICTURE,
        upscale_factor=2,
        provider_options={
            "runware": {"settings": {"colorFix": True}, "output_format": "jpg"}
        },
    )

    task = upscaling(request, task_id=TASK, facts=facts_of("runware:501@1"))

    assert task.payload["settings"] == {"colorFix": True}
    assert task.payload["outputFormat"] == "JPG"


def test_cutting_out_takes_the_picture() -> None:
    """The whole object; PNG keeps the transparency."""
    request = RemoveBackgroundRequest(image=PICTURE)

    task = background_removal(request, task_id=TASK, facts=facts_of("runware:112@5"))

    assert task.payload == {
        "taskType": "removeBackground",
        "taskUUID": TASK,
        "model": "runware:112@5",
        "deliveryMethod": "sync",
        "outputType": "URL",
        "includeCost": True,
        "inputs": {"image": uri(PICTURE)},
        "outputFormat": "PNG",
    }


def test_cutting_out_into_a_format_without_transparency_is_refused() -> None:
    """JPEG would put the background back, in black or white."""
    request = RemoveBackgroundRequest(
        image=PICTURE, provider_options={"runware": {"outputFormat": "JPG"}}
    )

    with pytest.raises(ProviderRequestError, match="no transparency"):
        background_removal(request, task_id=TASK, facts=facts_of("runware:112@5"))


@pytest.mark.parametrize(
    ("max_length", "tokens"), [(1000, 250), (8000, 400), (4, 5)], ids=str
)
def test_working_out_a_prompt_counts_in_the_vendors_tokens(
    max_length: int, tokens: int
) -> None:
    """Four characters make a token, within what the vendor takes."""
    request = EnhancePromptRequest(prompt="a dragon", max_length=max_length)

    task = enhancement(request, task_id=TASK)

    assert task.payload == {
        "taskType": "promptEnhance",
        "taskUUID": TASK,
        "deliveryMethod": "sync",
        "includeCost": True,
        "model": "runware:llama-3-1-8b@prompt-enhancer",
        "prompt": "a dragon",
        "promptMaxLength": tokens,
        "promptVersions": 1,
    }


@pytest.mark.parametrize(
    ("question", "more"),
    [(None, {}), ("Who is it?", {"prompt": "Who is it?"})],
    ids=["description", "question"],
)
def test_describing_takes_the_picture_and_the_question(
    question: str | None, more: dict[str, str]
) -> None:
    """Without a question the model describes."""
    request = DescribeImageRequest(image=PICTURE, question=question)

    task = caption(request, task_id=TASK, facts=facts_of("runware:152@2"))

    assert task.payload == {
        "taskType": "caption",
        "taskUUID": TASK,
        "deliveryMethod": "sync",
        "includeCost": True,
        "model": "runware:152@2",
        "inputs": {"image": uri(PICTURE)},
        **more,
    }


def test_a_question_a_model_cannot_be_asked_is_warned_about() -> None:
    """It gets a description, and the caller is told."""
    known = attrs.evolve(facts_of("runware:152@2"), fields=frozenset({"inputs"}))
    request = DescribeImageRequest(image=PICTURE, question="Who?")

    task = caption(request, task_id=TASK, facts=known)

    assert task.warnings == ("question ignored: Qwen2.5-VL 7B Instruct describes only",)


def test_options_of_tasks_that_take_none_are_warned_about() -> None:
    """Nothing is dropped silently."""
    request = EnhancePromptRequest(
        prompt="a dragon", provider_options={"runware": {"scheduler": "Euler"}}
    )

    task = enhancement(request, task_id=TASK)

    assert task.warnings == ("scheduler ignored: this takes no options",)


def test_searching_takes_words_and_a_page() -> None:
    """The whole object."""
    assert search("dragon", task_id=TASK, limit=5, offset=10) == {
        "taskType": "modelSearch",
        "taskUUID": TASK,
        "category": "checkpoint",
        "limit": 5,
        "offset": 10,
        "search": "dragon",
    }


def test_searching_for_nothing_gives_the_vendors_own_choice() -> None:
    """Without words, the hundreds of thousands of others stay away."""
    assert search(None, task_id=TASK)["source"] == "official"


def test_a_task_shows_nothing_of_its_pictures() -> None:
    """A log that shows a task shows no megabytes, and no prompt."""
    assert "dragon" not in repr(draw(image=PICTURE))
