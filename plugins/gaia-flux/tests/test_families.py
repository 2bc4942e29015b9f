"""Families agree with the pipelines they name, and with the words of requests."""

import inspect

import pytest

from gaia_core import Capability, GenerateRequest
from gaia_flux.families import FAMILIES, Family

DRAWING = [family for family in FAMILIES.values() if family.name != "esrgan"]
every_family = pytest.mark.parametrize(
    "family", [pytest.param(one, id=one.name) for one in FAMILIES.values()]
)
every_pipeline = pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, id=f"{family.name}-{kind}")
        for family in DRAWING
        for kind in sorted(set(family.pipelines.values()))
    ],
)


@every_pipeline
def test_pipelines_have_the_components_that_are_named(
    family: Family, kind: str
) -> None:
    """Backbone, text encoders and all that is counted are parts of the pipeline."""
    diffusers = pytest.importorskip("diffusers")

    parts = inspect.signature(getattr(diffusers, kind).__init__).parameters

    assert {family.backbone, *family.text_encoders, *family.billions} <= set(parts)


@every_pipeline
def test_pipelines_take_what_a_family_promises(family: Family, kind: str) -> None:
    """Nothing is promised that the pipeline has no argument for."""
    diffusers = pytest.importorskip("diffusers")
    taken = inspect.signature(getattr(diffusers, kind).__call__).parameters
    promised = set(family.fields) & {"guidance_scale", "num_inference_steps"}

    assert promised <= set(taken)
    assert not family.has_negative_prompt or "negative_prompt" in taken
    assert not family.has_true_cfg or "true_cfg_scale" in taken
    assert family.max_sequence_length is None or "max_sequence_length" in taken


@pytest.mark.parametrize(
    ("family", "name"),
    [
        pytest.param(family, name, id=f"{family.name}-{name}")
        for family in DRAWING
        for name in family.schedulers
    ],
)
def test_schedulers_exist(family: Family, name: str) -> None:
    """What a request may choose is a class of diffusers."""
    diffusers = pytest.importorskip("diffusers")

    assert hasattr(diffusers, name), family.name


@every_family
def test_fields_are_those_of_requests(family: Family) -> None:
    """A family honours fields that a request has."""
    names = set(inspect.signature(GenerateRequest).parameters)

    assert set(family.fields) <= names


@every_family
def test_families_know_their_name(family: Family) -> None:
    """The table's key is the family's name, and each can do something."""
    assert FAMILIES[family.name] is family
    assert family.pipelines
    assert family.max_side % family.multiple == 0


def test_every_kind_of_work_has_a_family() -> None:
    """Drawing, editing, repainting, extending and enlarging are all to be had."""
    done = {one for family in FAMILIES.values() for one in family.pipelines}

    assert done == {
        Capability.TEXT_TO_IMAGE,
        Capability.IMAGE_TO_IMAGE,
        Capability.INPAINTING,
        Capability.OUTPAINTING,
        Capability.UPSCALING,
    }
