"""Local FLUX through Gaia, from request to stored picture."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gaia_core import (
    Gaia,
    GenerateRequest,
    Image,
    NoCapableProviderError,
    OutcomeClass,
    ProviderError,
)
from gaia_core.png import read_text
from gaia_core.reliability import StandardReliability
from gaia_core.testing import FakeProvider
from gaia_core.testing.pytest_plugin import OpenGaia
from gaia_flux import FluxProvider
from gaia_flux.isolation import ProcessWorker

from .squares import PROGRAM, digest

_TINY = "tiny-flux1-schnell"
_MANY_STEPS = 150


@pytest.fixture(name="settings")
def _settings(tiny_models: Mapping[str, Path], tmp_path: Path) -> dict[str, Any]:
    """Give settings that draw with tiny models on the CPU."""
    return {
        "device": "cpu",
        "default_model": _TINY,
        "home": tmp_path / "hub",
        "threads": 1,
        "models": {
            f"tiny-{family}": {"family": family, "path": str(folder)}
            for family, folder in tiny_models.items()
        },
    }


@pytest.fixture(name="gaia")
async def _gaia(open_gaia: OpenGaia, settings: dict[str, Any]) -> AsyncIterator[Gaia]:
    """Give an open `Gaia` that has this provider only."""
    async with open_gaia(FluxProvider(**settings)) as gaia:
        yield gaia


def _request(**changes: Any) -> GenerateRequest:
    facts = {"prompt": "a keep", "width": 64, "height": 64, "seed": 7}
    return GenerateRequest(**facts | changes)


async def _sha256(gaia: Gaia, **changes: Any) -> list[str]:
    response = await gaia.generate(_request(**changes))
    return [image.sha256 for image in response.images]


async def _begun(gaia: Gaia, **changes: Any) -> "asyncio.Task[Any]":
    """Begin a long request, and wait for its first report."""
    has_begun = asyncio.Event()
    request = _request(num_inference_steps=_MANY_STEPS, **changes)
    task = asyncio.create_task(
        gaia.generate(request, progress=lambda *_: has_begun.set())
    )
    waiting = asyncio.create_task(has_begun.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    return task


def _pixels(image: Any) -> str:
    """Name a picture's pixels, whatever else is in its file."""
    return digest(Image.from_bytes(image.read_bytes()).decode().tobytes())


async def test_picture_is_stored_with_its_facts(gaia: Gaia) -> None:
    """The default model draws, free of charge; the file says how it came to be."""
    response = await gaia.generate(_request())

    (image,) = response.images
    assert (response.provider, response.model) == ("flux", _TINY)
    assert (image.width, image.height, image.seed) == (64, 64, 7)
    assert response.cost_usd == 0
    text = read_text(image.read_bytes())
    assert "a keep" in text["parameters"]
    assert "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]


async def test_same_seed_gives_the_same_bytes(gaia: Gaia) -> None:
    """The same again is the same file, also after another model has drawn."""
    first = await _sha256(gaia)
    await _sha256(gaia, model="tiny-sdxl", num_inference_steps=2)
    again = await _sha256(gaia)
    other = await _sha256(gaia, seed=8)

    assert first == again
    assert first != other


async def test_other_process_gives_the_same_bytes(
    gaia: Gaia, open_gaia: OpenGaia, settings: dict[str, Any]
) -> None:
    """A worker with a process of its own draws the very same, also after a stop."""
    here = await gaia.generate(_request())

    async with open_gaia(FluxProvider(**settings, isolated=True)) as isolated:
        task = await _begun(isolated)
        task.cancel()
        await asyncio.wait({task})
        there = await isolated.generate(_request())

    assert task.cancelled()
    assert _pixels(there.images[0]) == _pixels(here.images[0])
    assert there.images[0].sha256 == here.images[0].sha256


async def test_seed_counts_up(gaia: Gaia) -> None:
    """Several pictures carry the seeds that make each of them alone."""
    several = await gaia.generate(_request(num_images=2))
    alone = await gaia.generate(_request(seed=8))

    assert [image.seed for image in several.images] == [7, 8]
    assert _pixels(several.images[1]) == _pixels(alone.images[0])


async def test_two_requests_at_once(gaia: Gaia) -> None:
    """Requests that come together get what each would have got alone."""
    together = await asyncio.gather(_sha256(gaia, seed=1), _sha256(gaia, seed=2))

    assert together == [await _sha256(gaia, seed=1), await _sha256(gaia, seed=2)]


async def test_cancelled_request_leaves_all_clean(gaia: Gaia) -> None:
    """A request that is called off ends, and the next is drawn as if alone."""
    before = await _sha256(gaia)
    task = await _begun(gaia, width=256, height=256)
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert await _sha256(gaia) == before


async def test_request_past_its_deadline_fails(gaia: Gaia) -> None:
    """What takes too long is given up, with a sentence, and costs nothing."""
    request = _request(num_inference_steps=_MANY_STEPS, width=1024, height=1024)

    with pytest.raises(ProviderError, match=r"not answer within|not done in time"):
        await gaia.generate(request, timeout=1.0)

    assert await _sha256(gaia)


async def test_absent_model_says_how_to_get_it(gaia: Gaia) -> None:
    """Whoever asks for a model that was never pulled is told the command."""
    with pytest.raises(NoCapableProviderError, match="gaia flux pull flux1-schnell"):
        await gaia.generate(_request(model="flux1-schnell"))


async def test_without_a_card_others_draw(
    open_gaia: OpenGaia, settings: dict[str, Any]
) -> None:
    """On a machine without the card the next provider draws; the reason is given."""
    flux = FluxProvider(**settings | {"device": "cuda:99"})

    async with open_gaia(flux, FakeProvider(name="other")) as gaia:
        plan = gaia.plan(_request())
        response = await gaia.generate(_request())

    assert response.provider == "other"
    assert any("no device cuda:99 is on" in one for one in plan.reasons.values())


async def test_damaged_model_lets_others_draw(
    open_gaia: OpenGaia, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A folder without a model in it fails for good, and the next provider draws."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    own = {"mine": {"family": "flux1-dev", "path": str(folder)}}
    flux = FluxProvider(**settings | {"models": own, "default_model": "mine"})

    async with open_gaia(flux, FakeProvider(name="other")) as gaia:
        response = await gaia.generate(_request())

    assert response.provider == "other"


async def test_equal_requests_are_drawn_together(
    open_gaia: OpenGaia, settings: dict[str, Any]
) -> None:
    """With batching on, each of eight still gets its own picture."""
    flux = FluxProvider(**settings, batching=True)

    async with open_gaia(flux) as gaia:
        found = await asyncio.gather(*(_sha256(gaia, seed=seed) for seed in range(8)))

    assert len({sha256 for (sha256,) in found}) == 8


async def test_death_of_the_worker_costs_one_attempt(
    open_gaia: OpenGaia, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A `kill -9` in the middle: the picture is drawn anew, by another process."""
    flux = FluxProvider(**settings, isolated=True)
    flux._worker = ProcessWorker(setup=flux._setup, command=PROGRAM)
    go = tmp_path / "go"

    async with open_gaia(flux, reliability=StandardReliability()) as gaia:
        process = int((await flux._worker.figures())["process"])
        task = await _begun(gaia, prompt=f"wait {go}")
        os.kill(process, signal.SIGKILL)
        go.touch()
        response = await task
        after = int((await flux._worker.figures())["process"])

    first, second = response.attempts
    assert (first.outcome, second.outcome) == (
        OutcomeClass.REJECTED_BUSY,
        OutcomeClass.OK,
    )
    assert process != after


_LIST = """
import json, sys
from gaia_core.cli import main
try:
    main(["models", "-p", "flux", "--json", "--all"])
finally:
    names = sorted({name.split(".")[0] for name in sys.modules})
    print(json.dumps(names), file=sys.stderr)
"""


def test_models_are_listed_without_torch(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """`gaia models` shows every model with its state, and imports nothing heavy."""
    config = tmp_path / "gaia.toml"
    lines = ["[providers.flux]", 'device = "cpu"', f'home = "{settings["home"]}"']
    for name, own in settings["models"].items():
        lines += [f"[providers.flux.models.{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in own.items()]
    config.write_text("\n".join(lines))

    done = subprocess.run(
        [sys.executable, "-c", _LIST],
        env={
            "GAIA_CONFIG": str(config),
            "HOME": str(tmp_path),
            "PATH": "",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    listed = {card["id"]: card for card in json.loads(done.stdout)["models"]}
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert listed[_TINY]["state"] == "on disk"
    assert listed["flux1-schnell"]["state"] == "absent"
    assert "gaia flux pull" in listed["flux1-schnell"]["unavailable"]
    assert listed[_TINY]["details"]["plan"]
    assert imported & {"torch", "diffusers", "transformers", "huggingface_hub"} == set()
