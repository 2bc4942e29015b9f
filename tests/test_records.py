"""Requests as plain data."""

import base64
import enum
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaia_core.errors import InvalidImageError, InvalidRequestError
from gaia_core.images import Image
from gaia_core.records import (
    MAX_DEPTH,
    OPERATIONS,
    fingerprint,
    from_record,
    operation_of,
    pictures_of,
    read_line,
    result_key,
    to_record,
)
from gaia_core.requests import (
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    Lora,
    Outpaint,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)
from gaia_core.testing import jpeg, png

PICTURES = tuple(map(Image.from_bytes, (png(), jpeg(), png(32, 32), jpeg(16, 16))))
SAME_SIZE = PICTURES[:2]
BY_DIGEST = {picture.sha256: picture for picture in PICTURES}
URI = "data:image/png;base64," + base64.b64encode(png()).decode()

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
WORDS = TEXT.filter(str.strip)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3)
    ),
    max_leaves=8,
)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "model": st.none() | TEXT,
    "provider": st.none() | TEXT,
    "provider_options": st.dictionaries(
        TEXT, st.dictionaries(TEXT, JSON, max_size=3), max_size=2
    ),
    "campaign_id": st.none() | TEXT,
    "user_id": st.none() | TEXT,
}
SIDE = st.integers(16, 2_048)
EDITS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"image": st.sampled_from(SAME_SIZE)},
    optional={
        "strength": st.floats(0, 1) | st.integers(0, 1),
        "mask_image": st.none() | st.sampled_from(SAME_SIZE),
        "outpaint": st.builds(
            Outpaint, left=st.integers(1, 64), right=st.integers(0, 64)
        ),
    },
)
LORAS = st.builds(Lora, model=WORDS, weight=st.floats(-4, 4) | st.integers(-4, 4))
GENERATIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"prompt": WORDS},
    optional={
        **COMMON,
        "width": SIDE,
        "height": SIDE,
        "num_images": st.integers(1, 8),
        "negative_prompt": st.none() | TEXT,
        "seed": st.none() | st.integers(0, 2**63 - 1),
        "guidance_scale": st.none() | st.floats(0, 100) | st.integers(0, 100),
        "num_inference_steps": st.none() | st.integers(1, 500),
        "style": st.none() | TEXT,
        "reference_images": st.lists(st.sampled_from(PICTURES), max_size=3),
        "loras": st.lists(LORAS, max_size=2),
    },
)


def _requests(
    kind: type[Request],
    needed: Mapping[str, st.SearchStrategy[Any]],
    **optional: st.SearchStrategy[Any],
) -> st.SearchStrategy[Request]:
    fields = st.fixed_dictionaries(dict(needed), optional={**COMMON, **optional})
    return fields.map(lambda values: kind(**values))


PICTURE = {"image": st.sampled_from(PICTURES)}
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    GENERATIONS.map(lambda values: GenerateRequest(**values)),
    st.builds(
        lambda values, edits: GenerateRequest(**values, **edits), GENERATIONS, EDITS
    ),
    _requests(UpscaleRequest, PICTURE, upscale_factor=st.sampled_from((2, 4, 8))),
    _requests(RemoveBackgroundRequest, PICTURE),
    _requests(DescribeImageRequest, PICTURE, question=st.none() | TEXT),
    _requests(EnhancePromptRequest, {"prompt": WORDS}, max_length=st.integers(1, 99)),
)

ONE_OF_EACH: dict[str, Request] = {
    "generate": GenerateRequest(prompt="a keep"),
    "upscale": UpscaleRequest(image=PICTURES[0]),
    "remove_background": RemoveBackgroundRequest(image=PICTURES[0]),
    "enhance_prompt": EnhancePromptRequest(prompt="a keep"),
    "describe_image": DescribeImageRequest(image=PICTURES[0]),
}


# -- a request as a record ----------------------------------------------------------


@given(request_=REQUESTS)
def test_a_request_comes_back_from_its_record(request_: Request) -> None:
    """Through JSON and back it is the same request, pictures included."""
    record = json.loads(json.dumps(to_record(request_)))

    found = from_record(record, BY_DIGEST.__getitem__)

    assert found == request_
    assert type(found) is type(request_)


@given(request_=REQUESTS)
def test_a_record_has_one_fingerprint(request_: Request) -> None:
    """A request, its record and what JSON made of the record are one."""
    record = to_record(request_)

    prints = {
        fingerprint(request_),
        fingerprint(record),
        fingerprint(json.loads(json.dumps(record))),
        fingerprint(dict(reversed(record.items()))),
    }

    assert len(prints) == 1


@given(one=REQUESTS, other=REQUESTS)
def test_only_equal_requests_have_equal_fingerprints(
    one: Request, other: Request
) -> None:
    """Requests that differ in anything have different fingerprints."""
    if fingerprint(one) == fingerprint(other):
        assert one == other


def test_what_is_left_at_its_default_is_not_written() -> None:
    """A record is small, and a new field does not change old records."""
    record = to_record(
        GenerateRequest(
            prompt="a keep",
            width=1024,
            loras=[Lora(model="x", weight=1)],
            provider_options={},
        )
    )

    assert record == {
        "operation": "generate",
        "prompt": "a keep",
        "loras": [{"model": "x"}],
    }


@pytest.mark.parametrize(("word", "request_"), ONE_OF_EACH.items(), ids=ONE_OF_EACH)
def test_each_kind_of_request_goes_by_its_word(word: str, request_: Request) -> None:
    """The word is the one of batch files and of routes."""
    assert operation_of(request_) == to_record(request_)["operation"] == word


def test_every_kind_of_request_has_a_word() -> None:
    """A new kind of request gets one, or this fails."""
    assert set(OPERATIONS.values()) == set(Request.__subclasses__())


def test_a_picture_is_written_by_its_digest() -> None:
    """A record tells what a picture is without holding it."""
    record = to_record(ONE_OF_EACH["upscale"])

    assert record["image"] == {
        "sha256": PICTURES[0].sha256,
        "media_type": "image/png",
        "width": 64,
        "height": 64,
    }


def test_pictures_are_found_wherever_they_are() -> None:
    """Each field that holds a picture is gone through, lists included."""
    request = GenerateRequest(
        prompt="a keep",
        image=PICTURES[0],
        mask_image=PICTURES[1],
        reference_images=PICTURES,
    )

    assert list(pictures_of(request)) == [*SAME_SIZE, *PICTURES]
    assert list(pictures_of(ONE_OF_EACH["generate"])) == []


def test_a_kind_of_request_of_somebody_else_is_refused() -> None:
    """What it adds would be lost on the way."""

    @attrs.frozen(kw_only=True)
    class Odd(EnhancePromptRequest):
        tone: str = "grim"

    with pytest.raises(InvalidRequestError, match=r"^Odd is no request that can be"):
        to_record(Odd(prompt="a keep"))


class _Colour(enum.Enum):
    RED = "red"


class _Flag(enum.IntEnum):
    ON = 3


class _Word(str, enum.Enum):  # noqa: UP042  what a host written for 3.10 has
    RED = "red"


def _nested(depth: int) -> Mapping[str, Any]:
    return {"x": _nested(depth - 1)} if depth else {}


UNWRITABLE: dict[str, tuple[Any, str]] = {
    "function": (print, r"provider_options\.fake\.knob must be something JSON can"),
    "bytes": (b"x", r"provider_options\.fake\.knob must be .* not bytes"),
    "set": ({"x"}, r"provider_options\.fake\.knob must be .* not set"),
    "enum": (_Colour.RED, r"provider_options\.fake\.knob must be .* not _Colour"),
    "picture": (PICTURES[0], r"provider_options\.fake\.knob must be .* not Image"),
    "in a list": ([1, {"x": print}], r"provider_options\.fake\.knob\[\]\.x must be"),
    "not a number": (float("nan"), r"provider_options\.fake\.knob is a number JSON"),
    "no end": (float("-inf"), r"provider_options\.fake\.knob is a number JSON"),
    "too many digits": (10**400, r"provider_options\.fake\.knob is a number JSON"),
    "number as key": ({1: 2}, r"provider_options\.fake\.knob has the key 1: keys"),
    "half a pair": ("\ud83d", r"provider_options\.fake\.knob holds characters"),
    "half a pair as key": ({"\ud83d": 1}, r"provider_options\.fake\.knob holds char"),
    "long key": ({"k" * 99: print}, r"provider_options\.fake\.knob\.'kkkk.*\.\.\."),
    "too deep": (_nested(MAX_DEPTH), r"provider_options\.fake\.knob\.x.* is nested"),
}


@pytest.mark.parametrize(("value", "words"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_options_that_are_not_json_are_refused(value: Any, words: str) -> None:
    """The error names the place in the options."""
    request = GenerateRequest(
        prompt="a keep", provider_options={"fake": {"knob": value}}
    )

    with pytest.raises(InvalidRequestError, match=f"^{words}"):
        to_record(request)


def test_options_that_hold_themselves_are_refused() -> None:
    """A knot in the options ends in an error, not in a traceback without end."""
    knot: dict[str, Any] = {}
    knot["again"] = knot
    request = GenerateRequest(prompt="a keep", provider_options={"fake": knot})

    with pytest.raises(InvalidRequestError, match="is nested more than 32 deep"):
        to_record(request)


def test_options_of_kin_are_written_plainly() -> None:
    """Words and numbers of a vendor's own classes are words and numbers."""
    request = GenerateRequest(
        prompt="a keep",
        provider_options={
            "fake": {"colour": _Word.RED, "flag": _Flag.ON, "pair": (1, 2)}
        },
    )

    options = to_record(request)["provider_options"]["fake"]

    assert options == {"colour": "red", "flag": 3, "pair": [1, 2]}
    assert [type(value) for value in options.values()] == [str, int, list]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no operation": ({"prompt": "x"}, "operation None is unknown"),
    "unknown field": ({"operation": "generate", "sheed": 1}, "sheed is unknown"),
    "picture by path": ({"operation": "upscale", "image": "x"}, "image must be a pict"),
    "no digest": ({"operation": "upscale", "image": {}}, "image must be a picture's"),
    "digest of bytes": (
        {"operation": "upscale", "image": {"sha256": b"x"}},
        "image must be a picture's digest",
    ),
}


@pytest.mark.parametrize(("record", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_is_refused(record: dict[str, Any], words: str) -> None:
    """A record of another hand, or of a newer Gaia, ends in a sentence."""
    with pytest.raises(InvalidRequestError, match=f"^{words}"):
        from_record(record, BY_DIGEST.__getitem__)


# -- comparing ----------------------------------------------------------------------

EQUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "1 and 1.0": ({"guidance_scale": 7}, {"guidance_scale": 7.0}),
    "0 and -0.0": ({"guidance_scale": 0}, {"guidance_scale": -0.0}),
    "default said": ({}, {"width": 1024, "num_images": 1}),
    "deep inside": (
        {"provider_options": {"x": {"a": [1, 2], "b": {"c": 3.0}}}},
        {"provider_options": {"x": {"b": {"c": 3}, "a": (1.0, 2)}}},
    ),
    "weight": ({"loras": [Lora(model="x")]}, {"loras": [Lora(model="x", weight=1)]}),
}
UNEQUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "seed": ({"seed": 1}, {"seed": 2}),
    "no seed": ({"seed": 0}, {}),
    "empty text": ({"negative_prompt": ""}, {}),
    "order of layers": (
        {"loras": [Lora(model="x"), Lora(model="y")]},
        {"loras": [Lora(model="y"), Lora(model="x")]},
    ),
    "one pixel": ({"image": png(64, 64)}, {"image": png(64, 65)}),
    "where a picture stands": (
        {"reference_images": [PICTURES[0]]},
        {"image": PICTURES[0]},
    ),
    "truth and number": (
        {"provider_options": {"x": {"a": True}}},
        {"provider_options": {"x": {"a": 1}}},
    ),
    "text and number": (
        {"provider_options": {"x": {"a": "1"}}},
        {"provider_options": {"x": {"a": 1}}},
    ),
    "large numbers": (
        {"provider_options": {"x": {"a": 2**53}}},
        {"provider_options": {"x": {"a": 2**53 + 1}}},
    ),
    "payer": ({"user_id": "kim"}, {"campaign_id": "kim"}),
}


def _generation(fields: Mapping[str, Any]) -> GenerateRequest:
    return GenerateRequest(**{"prompt": "a keep", **fields})


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_requests_have_equal_fingerprints(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """How a value is spelt does not matter."""
    assert fingerprint(_generation(one)) == fingerprint(_generation(other))
    assert _key(_generation(one)) == _key(_generation(other))


@pytest.mark.parametrize(("one", "other"), UNEQUAL.values(), ids=UNEQUAL)
def test_unequal_requests_have_unequal_fingerprints(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Every difference counts."""
    assert fingerprint(_generation(one)) != fingerprint(_generation(other))
    assert _key(_generation(one)) != _key(_generation(other))


def test_fingerprints_stay_as_they_are() -> None:
    """Kept answers and idempotency keys of an older Gaia are still found."""
    request = GenerateRequest(prompt="ein Drache 🐉", seed=7, guidance_scale=3.5)

    assert fingerprint(request) == FINGERPRINT
    assert _key(request) == RESULT_KEY


FINGERPRINT = "fbcee1a8c67e07457c9e631e6299bd7e33a24d2e97392ae9106dc49ce76aa38a"
RESULT_KEY = "c7beada82cf9ba7b7057f9426e1ea70b95a521457b7607996ada9ab382957c76"


def _key(request: Request | Mapping[str, Any], **changes: str) -> str:
    names = {"provider": "fake", "model": "m", "revision": "1", "tenant": "kim"}
    return result_key(request, **{**names, **changes})


@given(request_=REQUESTS)
def test_a_record_has_one_result_key(request_: Request) -> None:
    """Whoever has the record need not write it again."""
    record = json.loads(json.dumps(to_record(request_)))

    assert _key(record) == _key(request_)


def test_a_result_key_goes_by_who_serves() -> None:
    """A model named by its alias, its identifier or not at all is one model."""
    by_alias = GenerateRequest(prompt="a keep", seed=7, model="quick")
    by_name = GenerateRequest(prompt="a keep", seed=7, model="m", provider="fake")
    unnamed = GenerateRequest(prompt="a keep", seed=7)

    assert _key(by_alias) == _key(by_name) == _key(unnamed)
    assert len({fingerprint(by_alias), fingerprint(by_name), fingerprint(unnamed)}) == 3


@pytest.mark.parametrize("name", ["provider", "model", "revision", "tenant"])
def test_a_result_key_holds_all_it_is_given(name: str) -> None:
    """Another provider, model, revision or tenant has other answers."""
    request = GenerateRequest(prompt="a keep", seed=7)

    assert _key(request) != _key(request, **{name: "other"})


NAME = st.text(max_size=4)
PAYER = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@given(
    one=st.tuples(NAME, NAME, NAME, NAME, PAYER, PAYER),
    other=st.tuples(NAME, NAME, NAME, NAME, PAYER, PAYER),
)
def test_no_two_tenants_share_a_result_key(
    one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    """Nothing runs together: whose a letter is, is part of the key."""

    def key(names: tuple[Any, ...]) -> str:
        words = dict(
            zip(("provider", "model", "revision", "tenant"), names[:4], strict=True)
        )
        request = GenerateRequest(
            prompt="a keep", campaign_id=names[4], user_id=names[5]
        )
        return result_key(request, **words)

    if key(one) == key(other):
        assert one == other


def test_two_halves_of_a_letter_are_not_the_letter() -> None:
    """A tenant that is no proper text is still nobody else."""
    request = GenerateRequest(prompt="a keep", seed=7)

    assert _key(request, tenant="\ud83d\udc09") != _key(request, tenant="\U0001f409")


def test_a_result_key_is_no_fingerprint() -> None:
    """The two never meet, whatever is in them."""
    request = GenerateRequest(prompt="a keep", seed=7)
    bare = result_key(request, provider="", model="", revision="", tenant="")

    assert bare != fingerprint(request)


# -- a line of a batch file ---------------------------------------------------------


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "hero.png").write_bytes(png())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mask.jpg").write_bytes(jpeg())
    return tmp_path


LINES: dict[str, tuple[dict[str, Any], Request]] = {
    "words": (
        {"prompt": "a keep", "width": 512, "seed": 7},
        GenerateRequest(prompt="a keep", width=512, seed=7),
    ),
    "nulls": (
        {"prompt": "a keep", "seed": None, "image": None, "outpaint": None},
        GenerateRequest(prompt="a keep"),
    ),
    "everything": (
        {
            "operation": "generate",
            "prompt": "a keep",
            "image": "hero.png",
            "mask_image": "deep/mask.jpg",
            "outpaint": {"left": 64},
            "strength": 0.5,
            "reference_images": ["hero.png", URI],
            "loras": [{"model": "x"}, {"model": "y", "weight": 0.5}],
            "provider_options": {"fake": {"scheduler": "Euler"}},
        },
        GenerateRequest(
            prompt="a keep",
            image=png(),
            mask_image=jpeg(),
            outpaint=Outpaint(left=64),
            strength=0.5,
            reference_images=[png(), png()],
            loras=[Lora(model="x"), Lora(model="y", weight=0.5)],
            provider_options={"fake": {"scheduler": "Euler"}},
        ),
    ),
    "upscale": (
        {"operation": "upscale", "image": "hero.png", "upscale_factor": 2},
        UpscaleRequest(image=png(), upscale_factor=2),
    ),
    "remove_background": (
        {"operation": "remove_background", "image": "./deep/../hero.png"},
        RemoveBackgroundRequest(image=png()),
    ),
    "enhance_prompt": (
        {"operation": "enhance_prompt", "prompt": "a keep"},
        EnhancePromptRequest(prompt="a keep"),
    ),
    "describe_image": (
        {"operation": "describe_image", "image": URI, "question": "who?"},
        DescribeImageRequest(image=png(), question="who?"),
    ),
}


@pytest.mark.parametrize(("line", "request_"), LINES.values(), ids=LINES)
def test_a_line_is_a_request(
    folder: Path, line: dict[str, Any], request_: Request
) -> None:
    """In the names of the request, with pictures by path or in the line."""
    assert read_line(json.dumps(line) + "\n", folder=folder) == request_


def test_a_path_may_be_absolute(folder: Path) -> None:
    """The batch file is the caller's own."""
    line = json.dumps({"operation": "upscale", "image": str(folder / "hero.png")})

    assert read_line(line, folder=Path("/")) == UpscaleRequest(image=png())


def test_a_mark_of_byte_order_is_skipped() -> None:
    """Some editors begin every file with one."""
    line = '\ufeff{"prompt": "a keep"}'

    assert read_line(line, folder=None) == GenerateRequest(prompt="a keep")


BAD_LINES: dict[str, tuple[str, str]] = {
    "nothing": ("", "The line is no JSON: Expecting value at column 1"),
    "words": ("a red dragon", "The line is no JSON: Expecting value at column 1"),
    "cut off": ('{"prompt": "x"', "The line is no JSON: Expecting ',' .* at column 15"),
    "two": ('{"prompt": "x"} {}', "The line is no JSON: Extra data at column 17"),
    "list": ('["x"]', 'The line is no request: write one as {"prompt"'),
    "brackets": ("[" * 100_000, "The line is no JSON that can be read"),
    "digits": ('{"seed": ' + "1" * 5_000 + "}", "The line is no JSON that can be read"),
    "no number": ('{"prompt": "x", "guidance_scale": NaN}', "The line is no JSON: NaN"),
    "endless": ('{"prompt": "x", "strength": 1e999}', "strength is a number JSON cann"),
    "twice": ('{"prompt": "x", "prompt": "y"}', "prompt is named twice"),
    "slip": ('{"prompt": "x", "widht": 5}', "widht is unknown: did you mean width?"),
    "another's": ('{"prompt": "x", "upscale_factor": 5}', "upscale_factor is unknown"),
    "odd key": ('{"prompt": "x", "\\n\\u001b[31m": 5}', r"'\\n\\x1b\[31m' is unknown"),
    "verb": ('{"operation": "upscal"}', "operation 'upscal' is unknown: did you mean"),
    "odd verb": ('{"operation": ["generate"]}', "operation .* is unknown"),
    "no verb": ('{"operation": null}', "operation None is unknown"),
    "no prompt": ("{}", r"prompt is missing\.$"),
    "no picture": ('{"operation": "upscale"}', r"image is missing\.$"),
    "null prompt": ('{"prompt": null}', "prompt must be text, not NoneType"),
    "null picture": ('{"operation": "upscale", "image": null}', "image: A picture mus"),
    "wide": ('{"prompt": "x", "width": 9999}', "width must be 16 to 8192 pixels"),
    "text": ('{"prompt": "x", "width": "512"}', "width must be 16 to 8192 pixels"),
    "half a pair": ('{"prompt": "\\ud83d"}', "prompt holds characters that are no"),
    "number": ('{"prompt": "x", "image": 5}', "image must be a path or a data: URI"),
    "digest": (
        '{"operation": "upscale", "image": {"sha256": "x"}}',
        "image must be a path or a data: URI, not dict",
    ),
    "address": (
        '{"prompt": "x", "image": "https://example.com/a.png"}',
        "image is an address: download it, or send a data: URI",
    ),
    "gone": (
        '{"prompt": "x", "image": "gone.png"}',
        r"image: .*gone\.png cannot be re",
    ),
    "folder": ('{"prompt": "x", "image": "deep"}', r"image: .*deep is no file"),
    "null byte": ('{"prompt": "x", "image": "\\u0000"}', "image: .* cannot be read"),
    "long path": (
        json.dumps({"prompt": "x", "image": "y" * 5_000}),
        "image: .* cannot be read: File name too long",
    ),
    "no comma": ('{"prompt": "x", "image": "data:x"}', "image: A data: URI must be"),
    "no base64": (
        '{"prompt": "x", "image": "data:image/png,x"}',
        "image: A data: URI must be written as data:image/png;base64",
    ),
    "bad base64": (
        '{"prompt": "x", "image": "data:image/png;base64,é"}',
        "image: The data: URI is no base64",
    ),
    "no png": (
        '{"prompt": "x", "image": "data:image/png;base64,eHg="}',
        "image: The picture is no readable PNG, JPEG or WebP file",
    ),
    "reference": (
        '{"prompt": "x", "reference_images": "hero.png"}',
        "reference_images must be a list, not str",
    ),
    "references": (
        '{"prompt": "x", "reference_images": ["hero.png", 5]}',
        "reference_images must be a path or a data: URI, not int",
    ),
    "lora": ('{"prompt": "x", "loras": ["y"]}', "loras must be made of objects"),
    "light lora": ('{"prompt": "x", "loras": [{}]}', "loras: model is missing"),
    "odd lora": (
        '{"prompt": "x", "loras": [{"model": "y", "wheight": 1}]}',
        "loras: wheight is unknown: did you mean weight?",
    ),
    "heavy lora": (
        '{"prompt": "x", "loras": [{"model": "y", "weight": 5}]}',
        "loras: weight must be -4.0 to 4.0",
    ),
    "inwards": (
        '{"prompt": "x", "image": "hero.png", "outpaint": {"left": -1}}',
        "outpaint: left must be 0 to 8192 pixels",
    ),
    "outwards": (
        '{"prompt": "x", "image": "hero.png", "outpaint": 5}',
        "outpaint must be made of objects, not of int",
    ),
    "options": (
        '{"prompt": "x", "provider_options": {"fake": 5}}',
        "provider_options must map a provider's name",
    ),
}


@pytest.mark.parametrize(("line", "words"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_refused_in_a_sentence(
    folder: Path, line: str, words: str
) -> None:
    """It begins with the field and says what is wrong with it."""
    with pytest.raises(InvalidRequestError, match=f"^{words}") as caught:
        read_line(line, folder=folder)

    assert str(caught.value)[-1] in ".?]"
    assert "\n" not in str(caught.value)


def test_no_path_is_read_without_a_folder() -> None:
    """What comes from outside cannot make Gaia open a file."""
    line = json.dumps({"operation": "upscale", "image": str(Path(__file__))})

    with pytest.raises(InvalidImageError, match=r"^image is a path, and none is"):
        read_line(line, folder=None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_pipe_is_no_picture(folder: Path) -> None:
    """Reading it would never end."""
    os.mkfifo(folder / "pipe.png")
    line = json.dumps({"operation": "upscale", "image": "pipe.png"})

    with pytest.raises(InvalidImageError, match=r"^image: .*pipe\.png is no file"):
        read_line(line, folder=folder)


FIELDS = sorted(
    {name for kind in OPERATIONS.values() for name in attrs.fields_dict(kind)}
)
JUNK = st.dictionaries(
    st.sampled_from(FIELDS) | TEXT,
    JSON | st.just(URI) | st.dictionaries(st.sampled_from(["model", "left"]), JSON),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    word=st.sampled_from(sorted(OPERATIONS)) | JSON,
    fields=JUNK,
    has_folder=st.booleans(),
)
def test_whatever_a_line_holds_there_is_a_request_or_an_error(
    folder: Path, word: Any, fields: dict[str, Any], has_folder: bool
) -> None:
    """Never a traceback, and what is read can be written down."""
    line = json.dumps({"operation": word, "prompt": "a keep", **fields})
    problem = ""

    try:
        request = read_line(line, folder=folder if has_folder else None)
    except InvalidRequestError as error:
        problem = str(error)

    if problem:
        assert "\n" not in problem
        return
    assert fingerprint(request) == fingerprint(to_record(request))


@given(text=st.text(max_size=40))
def test_whatever_a_line_is_there_is_an_error(text: str) -> None:
    """Text that is no request is refused, and nothing else happens."""
    with pytest.raises(InvalidRequestError):
        read_line(text, folder=None)
