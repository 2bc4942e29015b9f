"""What the libraries print stays off the host's terminal, unless it is the host's."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import transformers

from gaia_flux import tiny
from gaia_flux.hushes import hushed

DRAWN = """
import asyncio, sys
from pathlib import Path
from gaia_flux.models import ModelSpec, Source
from gaia_flux.setups import Setup
from gaia_flux.workers import worker_of
from tests.squares import ignore, job

folder, file, config = map(Path, sys.argv[1:])
models = {
    "fox": ModelSpec(
        id="fox", name="Fox", family="flux1-schnell", source=Source(path=folder)
    ),
    "hen": ModelSpec(
        id="hen",
        name="Hen",
        family="sdxl",
        source=Source(path=file),
        config=Source(path=config),
    ),
}

async def draw():
    worker = worker_of(Setup(device="cpu", dtype="float32", models=models))
    for name in models:
        (drawn,) = await worker.draw([job("a fox " * 100, model=name)], ignore)
        assert drawn.pictures
    await worker.close()

asyncio.run(draw())
print("drawn", file=sys.stderr, flush=True)

import diffusers
diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
"""


def test_a_worker_prints_nothing(
    tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    """Neither bars nor hints, from import to picture; later the host's are back."""
    file, config = tiny.build_single_file("sdxl", tmp_path / "hen.safetensors")
    folder = tiny_models["flux1-schnell"]

    done = subprocess.run(
        [sys.executable, "-c", DRAWN, folder, file, config],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )

    before, _, after = done.stderr.partition("drawn\n")
    assert (done.stdout, before) == ("", "")
    assert "Loading weights" in after
    assert "Loading pipeline components" in after


@pytest.fixture(name="heard")
def _heard() -> Iterator[list[str]]:
    """Give what the libraries' own handlers let pass."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear = Ear()
    library = logging.getLogger("diffusers")
    library.addHandler(ear)
    yield heard
    library.removeHandler(ear)


def test_other_threads_are_heard(heard: list[str]) -> None:
    """A host that uses diffusers beside a worker has its hints, then and later."""
    log = logging.getLogger("diffusers.pipelines")

    with hushed():
        log.warning("the worker's")
        thread = Thread(target=log.warning, args=["the host's"])
        thread.start()
        thread.join()
        with hushed():
            pass
        log.warning("still the worker's")
    log.warning("the host's again")

    assert heard == ["the host's", "the host's again"]


@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
def test_bars_are_put_back_as_they_were(
    monkeypatch: pytest.MonkeyPatch, is_on: bool
) -> None:
    """Bars that the host switched off stay off, and its hook stays its hook."""
    monkeypatch.setattr(diffusers.utils.logging, "_tqdm_active", is_on)
    made: list[object] = []
    hook = lambda *given: made.append(given)  # noqa: E731 - the smallest of hooks
    before = transformers.utils.logging.set_tqdm_hook(hook)

    with hushed():
        assert list(transformers.utils.logging.tqdm([1, 2])) == [1, 2]
        assert not diffusers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.tqdm([1, 2])

    assert diffusers.utils.logging.is_progress_bar_enabled() is is_on
    assert len(made) == 1
    assert transformers.utils.logging.set_tqdm_hook(before) is hook
