"""Tiny models of every family, built once, and the setup that draws with them."""

import gc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gaia_flux.models import ModelSpec
    from gaia_flux.setups import Setup

# Heeded when torch is first imported, also by the processes that tests start: two
# OpenMP threads on a busy machine of two cores take a hundred times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Pass over what diffusers does that numpy 2 will no longer allow."""
    numpy_2 = "__array__ implementation doesn't accept a copy keyword"
    config.addinivalue_line(
        "filterwarnings", f"ignore:{numpy_2}:DeprecationWarning:diffusers.schedulers"
    )


@pytest.fixture(scope="session", name="tiny_models")
def _tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Give a folder for every family that has a pipeline; skip where torch is not."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    _quiet_and_alone()

    from gaia_flux import tiny

    home = tmp_path_factory.mktemp("tiny-models")
    return {family: tiny.build(family, home / family) for family in tiny.BUILDERS}


def _quiet_and_alone() -> None:
    """Compute in one thread, and keep the libraries' progress bars off the screen."""
    import diffusers
    import torch
    import transformers

    torch.set_num_threads(1)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session", name="specs")
def _specs(tiny_models: Mapping[str, Path]) -> "Mapping[str, ModelSpec]":
    """Give a model per family, whose identifier is `tiny-` and the family's name."""
    specs = (_spec(family, folder) for family, folder in tiny_models.items())
    return {spec.id: spec for spec in specs}


def _spec(family: str, folder: Path) -> "ModelSpec":
    from gaia_flux.models import ModelSpec, Source

    return ModelSpec(
        id=f"tiny-{family}",
        name=f"Tiny {family}",
        family=family,
        source=Source(path=folder),
    )


@pytest.fixture(scope="module", name="quick")
def _quick() -> Iterator[None]:
    """
    Have the collector pass over what is there already.

    A studio collects whenever a model goes; with all of torch and pytest in memory
    that takes half a second each time.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(name="setup")
def _setup(specs: "Mapping[str, ModelSpec]") -> "Setup":
    """Give what a worker on the CPU must know to draw with the tiny models."""
    from gaia_flux.setups import Setup

    return Setup(device="cpu", dtype="float32", models=specs)
