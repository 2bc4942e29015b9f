"""What Gaia writes into the pictures it encodes itself."""

import json
import re
import xml.etree.ElementTree as ET

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaia_core.metadata import (
    Description,
    annotate,
    describe,
    describe_png,
    parameters,
    source_of,
    text_chunks,
    xmp,
)
from gaia_core.png import XMP_KEYWORD, read_text, with_metadata
from gaia_core.requests import (
    GenerateRequest,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.results import DigitalSource, GeneratedImage
from gaia_core.testing import jpeg, png

PLAIN = Description(provider="offline", model="tiles", width=1024, height=768)
FULL = Description(
    provider="offline",
    model="offline:tiles",
    width=1024,
    height=1024,
    prompt="a red dragon,\nover a keep",
    negative_prompt="fog",
    seed=1,
    steps=30,
    guidance_scale=2.5,
    strength=0.6,
    scheduler="Euler a",
    version="0.1.0",
)
FULL_TEXT = """\
a red dragon,
over a keep
Negative prompt: fog
Steps: 30, Sampler: Euler a, CFG scale: 2.5, Seed: 1, Size: 1024x1024, \
Model: "offline:tiles", Denoising strength: 0.6, Version: Gaia 0.1.0"""
A_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""How the web UI takes the last line of its text apart."""


def _fields(text: str) -> dict[str, str]:
    """Read the last line as the web UI does."""
    pairs = A_FIELD.findall(text.splitlines()[-1])
    return {
        name: json.loads(value) if value.startswith('"') else value
        for name, value in pairs
    }


def _described(request: Request, *, seed: int | None = None) -> Description:
    image = GeneratedImage(data=png(), seed=seed)
    return describe(image, request=request, provider="offline", model="tiles")


@pytest.mark.parametrize(
    ("description", "text"),
    [
        (PLAIN, "Size: 1024x768, Model: tiles"),
        (
            attrs.evolve(PLAIN, prompt="a keep", seed=0, steps=4),
            "a keep\nSteps: 4, Seed: 0, Size: 1024x768, Model: tiles",
        ),
        (
            attrs.evolve(PLAIN, negative_prompt="fog"),
            "Negative prompt: fog\nSize: 1024x768, Model: tiles",
        ),
        (FULL, FULL_TEXT),
    ],
    ids=["nothing known", "prompt", "negative prompt", "everything"],
)
def test_parameters_are_written_as_the_web_ui_does(
    description: Description, text: str
) -> None:
    """Prompt, negative prompt and one line of fields; what is unknown is left out."""
    assert parameters(description) == text


@given(model=st.text(min_size=1), prompt=st.text())
def test_the_web_ui_reads_what_is_written(model: str, prompt: str) -> None:
    """Odd names are quoted, so that its reader finds them."""
    model = " ".join(model.split()) or "x"
    description = attrs.evolve(FULL, model=model, prompt=prompt)

    fields = _fields(parameters(description))

    assert (fields["Model"], fields["Size"], fields["Seed"]) == (
        model,
        "1024x1024",
        "1",
    )


def test_the_json_chunk_holds_what_is_known() -> None:
    """Programs read one chunk, with keys in order and nothing made up."""
    chunk = text_chunks(attrs.evolve(PLAIN, prompt="砦"))["gaia"]

    assert chunk.isascii()
    assert json.loads(chunk) == {
        "height": 768,
        "model": "tiles",
        "prompt": "砦",
        "provider": "offline",
        "source": "trainedAlgorithmicMedia",
        "width": 1024,
    }
    assert list(json.loads(chunk)) == sorted(json.loads(chunk))


@pytest.mark.parametrize("source", DigitalSource, ids=str)
def test_the_xmp_packet_names_the_digital_source(source: DigitalSource) -> None:
    """Other programs see that, and how, a machine made the picture."""
    packet = ET.fromstring(xmp(source))  # noqa: S314 - our own words

    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert [node.text for node in packet.iter(name)] == [
        f"http://cv.iptc.org/newscodes/digitalsourcetype/{source.value}"
    ]


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        (GenerateRequest(prompt="a keep"), DigitalSource.TRAINED),
        (GenerateRequest(prompt="a keep", image=png()), DigitalSource.COMPOSITE),
        (
            GenerateRequest(prompt="a keep", image=png(), outpaint=Outpaint(left=64)),
            DigitalSource.COMPOSITE,
        ),
        (UpscaleRequest(image=png()), DigitalSource.COMPOSITE),
        (RemoveBackgroundRequest(image=png()), DigitalSource.COMPOSITE),
    ],
    ids=["words", "image to image", "outpainting", "upscaling", "background removal"],
)
def test_the_digital_source_follows_from_the_request(
    request_: Request, source: DigitalSource
) -> None:
    """A picture that started from somebody's picture says so."""
    assert source_of(request_) is source


def test_a_picture_is_described_by_its_request() -> None:
    """What was asked for stands in the description, style included."""
    request = GenerateRequest(
        prompt="a keep",
        style="oil painting",
        negative_prompt="fog",
        seed=5,
        num_inference_steps=20,
        guidance_scale=3.5,
        image=png(),
        strength=0.5,
        provider_options={"offline": {"scheduler": "Euler"}},
    )

    description = _described(request)

    assert attrs.evolve(description, version=None) == Description(
        provider="offline",
        model="tiles",
        width=64,
        height=64,
        source=DigitalSource.COMPOSITE,
        prompt="a keep, oil painting style",
        negative_prompt="fog",
        seed=5,
        steps=20,
        guidance_scale=3.5,
        strength=0.5,
        scheduler="Euler",
    )


def test_the_seed_of_the_picture_counts() -> None:
    """Several pictures of one request have a seed each."""
    request = GenerateRequest(prompt="a keep", seed=5)

    assert _described(request, seed=6).seed == 6


def test_upscaling_has_no_prompt() -> None:
    """A picture that was not made from words says nothing about any."""
    description = _described(UpscaleRequest(image=png()))

    assert (description.prompt, description.steps) == (None, None)


def test_a_written_picture_carries_three_chunks() -> None:
    """Web UI, programs and provenance tools each find theirs."""
    text = read_text(describe_png(png(), FULL))

    assert list(text) == ["parameters", "gaia", XMP_KEYWORD]


def test_the_same_description_gives_the_same_bytes() -> None:
    """Nothing in the text depends on the moment or the operation."""
    once = describe_png(png(), FULL)

    assert describe_png(once, FULL) == once


@pytest.mark.parametrize("prompt", ["secret", "s\u00e9cret 砦"], ids=["latin", "other"])
def test_the_prompt_can_be_kept_out_of_the_file(prompt: str) -> None:
    """Without leave, neither prompt nor negative prompt stands anywhere in it."""
    request = GenerateRequest(prompt=prompt, negative_prompt=f"no {prompt}", seed=3)
    data = with_metadata(png(), {"prompt": prompt, "parameters": prompt})
    image = GeneratedImage(data=data, is_encoded_here=True)

    silent = annotate(
        image, request=request, provider="offline", model="tiles", keep_prompt=False
    )

    assert not any(prompt[-4:] in value for value in read_text(silent).values())
    assert prompt.encode() not in silent
    assert _fields(read_text(silent)["parameters"])["Seed"] == "3"


@pytest.mark.parametrize(
    "image",
    [
        GeneratedImage(data=png(), digital_source=DigitalSource.ALGORITHMIC),
        GeneratedImage(
            data=with_metadata(
                png(), {XMP_KEYWORD: xmp(DigitalSource.ALGORITHMIC), "gaia": "old"}
            )
        ),
    ],
    ids=["in the result", "in the file"],
)
def test_a_provider_may_say_better_how_a_picture_came_to_be(
    image: GeneratedImage,
) -> None:
    """A map drawn by an algorithm stays one."""
    noted = annotate(
        image,
        request=GenerateRequest(prompt="a map"),
        provider="offline",
        model="maps",
    )

    text = read_text(noted)
    assert text[XMP_KEYWORD] == xmp(DigitalSource.ALGORITHMIC)
    assert json.loads(text["gaia"])["source"] == "algorithmicMedia"


def test_other_formats_stay_as_they_are() -> None:
    """Only PNG files are written into."""
    image = GeneratedImage(data=jpeg())

    noted = annotate(
        image, request=GenerateRequest(prompt="x"), provider="offline", model="tiles"
    )

    assert noted is image.data
