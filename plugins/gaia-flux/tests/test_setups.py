"""A setup crosses to another process as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from gaia_flux.models import CATALOGUE, ModelSpec, Source
from gaia_flux.setups import Setup


@pytest.fixture(name="models")
def _models() -> Mapping[str, ModelSpec]:
    """Give the catalogue, and a model of one's own."""
    own = ModelSpec(
        id="mine",
        name="Mine",
        family="flux1-dev",
        source=Source(path=Path("/models/mine")),
    )
    return {spec.id: spec for spec in (*CATALOGUE, own)}


def test_record_is_json_and_comes_back(models: Mapping[str, ModelSpec]) -> None:
    """What is written down as JSON is the same setup when it is read."""
    setup = Setup(
        device="cuda:1",
        dtype="bfloat16",
        vram_gb=20.5,
        models=models,
        home="/hub",
        quantisation="fp8",
        step_cache="first-block",
        attention="sage",
        is_compiled=True,
        has_batching=True,
        batch_window=0.02,
        is_isolated=True,
        warm_up=["mine"],
        has_previews=False,
        threads=2,
    )
    usual = Setup()

    again = Setup.from_record(json.loads(json.dumps(setup.to_record())))

    assert again == setup
    names = [field.name for field in attrs.fields(Setup)]
    assert all(getattr(setup, name) != getattr(usual, name) for name in names)


def test_other_record_is_refused() -> None:
    """A record with a field that is unknown is no setup."""
    record = Setup().to_record() | {"colour": "red"}

    with pytest.raises(ValueError, match="no record of a setup"):
        Setup.from_record(record)
