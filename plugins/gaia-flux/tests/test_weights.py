"""Models are found where they are, and nothing unsound is loaded."""

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gaia_flux import pins, weights
from gaia_flux.families import FAMILIES
from gaia_flux.models import ModelSpec, Source
from gaia_flux.weights import Place, WeightsError

COMMIT, OTHER = "a" * 40, "b" * 40
FAMILY = FAMILIES["flux1-schnell"]
NETWORK = "transformer/diffusion_pytorch_model.safetensors"


def spec_of(**source: Any) -> ModelSpec:
    """Make a model from somewhere."""
    return ModelSpec(
        id="mine", name="Mine", family="flux1-schnell", source=Source(**source)
    )


def content(header: object, room: int = 0) -> bytes:
    """Write a safetensors file around a header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * room


SOUND = content({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 8)


@pytest.fixture(name="model")
def _model(tmp_path: Path, tiny_models: Mapping[str, Path]) -> Path:
    """Give a model of one's own to spoil."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["flux1-schnell"], folder)
    return folder


@pytest.fixture(name="home")
def _home(tmp_path: Path, tiny_models: Mapping[str, Path]) -> Path:
    """Give a hub's cache with one model in it."""
    home = tmp_path / "hub"
    folder = pins.snapshot("someone/model", COMMIT, home)
    shutil.copytree(tiny_models["flux1-schnell"], folder)
    return home


# -- where --------------------------------------------------------------------------


def test_a_folder_is_where_the_settings_say(model: Path) -> None:
    """A path is looked for, and nowhere else."""
    assert weights.locate(spec_of(path=model)) == Place(folder=model)
    assert weights.locate(spec_of(path=model / "nowhere")) is None


def test_a_commit_of_the_settings_is_loaded(home: Path) -> None:
    """A pinned commit is found in the hub's cache; another one is absent."""
    pinned = spec_of(repository="someone/model", revision=COMMIT)
    other = spec_of(repository="someone/model", revision=OTHER)

    found = weights.locate(pinned, home=home)

    assert found is not None
    assert found.revision == COMMIT
    assert weights.locate(other, home=home) is None


def test_a_model_is_absent_until_it_was_pulled(home: Path) -> None:
    """Without a commit, the one that was noted when it was pulled counts."""
    spec = spec_of(repository="someone/model")
    before = weights.locate(spec, home=home)

    pins.note(home, "mine", "someone/model", COMMIT)
    after = weights.locate(spec, home=home)
    pins.note(home, "mine", "stranger/model", COMMIT)
    elsewhere = weights.locate(spec, home=home)

    assert before is elsewhere is None
    assert after is not None
    assert after.revision == COMMIT


def test_notes_of_what_was_pulled_are_kept(home: Path) -> None:
    """Each model has its own; a damaged file is as good as none."""
    pins.note(home, "one", "a/one", COMMIT)
    pins.note(home, "two", "a/two", OTHER, config_commit=COMMIT)
    kept = pins.known(home)
    mode = (home / pins.PINS).stat().st_mode & 0o777
    (home / pins.PINS).write_text(
        '{"models": {"one": {"repository": "a", "commit": 7}}}'
    )

    assert {name: pin.commit for name, pin in kept.items()} == {
        "one": COMMIT,
        "two": OTHER,
    }
    assert kept["two"].config_commit == COMMIT
    assert oct(mode) == "0o644"  # another user's server reads them
    assert pins.known(home) == {}


def test_pulls_in_the_same_instant_keep_their_notes(home: Path) -> None:
    """Nobody writes over what another noted meanwhile."""
    names = [f"model-{number}" for number in range(24)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: pins.note(home, name, "a/b", COMMIT), names))

    assert set(names) <= set(pins.known(home))
    assert list(home.glob("*.new")) == []


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "transformer",
        "transformer/diffusion_pytorch_model.safetensors",
        "text_encoder_2",
    ],
)
def test_what_is_not_whole_is_absent(home: Path, missing: str) -> None:
    """A pull that was broken off is found out by what the index names."""
    folder = pins.snapshot("someone/model", COMMIT, home)
    victim = folder / missing
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()

    spec = spec_of(repository="someone/model", revision=COMMIT)

    assert weights.locate(spec, home=home) is None


def test_what_comes_later_is_found(home: Path, tiny_models: Mapping[str, Path]) -> None:
    """Files that another program fetched count once they are there."""
    folder = pins.snapshot("someone/model", COMMIT, home)
    (folder / NETWORK).unlink()
    spec = spec_of(repository="someone/model", revision=COMMIT)
    before = weights.locate(spec, home=home)

    shutil.copy(tiny_models["flux1-schnell"] / NETWORK, folder / NETWORK)

    assert before is None
    assert weights.locate(spec, home=home) is not None


def test_one_file_of_a_repository_needs_its_rest(home: Path) -> None:
    """A single file is there once the file and the folder beside it are."""
    spec = ModelSpec(
        id="mine",
        name="Mine",
        family="sdxl",
        source=Source(repository="someone/file", file="it.safetensors"),
        config=Source(repository="someone/model"),
    )
    folder = pins.snapshot("someone/file", OTHER, home)
    folder.mkdir(parents=True)
    (folder / "it.safetensors").write_bytes(SOUND)

    pins.note(home, "mine", "someone/file", OTHER)
    without = weights.locate(spec, home=home)
    pins.note(home, "mine", "someone/file", OTHER, config_commit=COMMIT)
    found = weights.locate(spec, home=home)

    assert without is None
    assert found == Place(
        file=folder / "it.safetensors",
        config=pins.snapshot("someone/model", COMMIT, home),
        revision=OTHER,
    )


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        pytest.param({"HF_HUB_CACHE": "/a"}, "/a", id="cache"),
        pytest.param({"HF_HOME": "/b"}, "/b/hub", id="home"),
        pytest.param({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub", id="xdg"),
    ],
)
def test_the_cache_is_where_the_hub_has_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    """The same variables count as for the hub's own library."""
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert pins.hub_cache() == Path(folder)


# -- whether ------------------------------------------------------------------------


def test_sound_models_may_be_loaded(tiny_models: Mapping[str, Path]) -> None:
    """Every family's folder, as diffusers saves it, is let through."""
    for family, folder in tiny_models.items():
        weights.check(Place(folder=folder), FAMILIES[family])


def _pickled(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    evil = pickle.dumps({"w": 1})
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(evil)


def _disguised(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(pickle.dumps({"w": 1}))


def _truncated(folder: Path) -> None:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _without_part(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def _without_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def _damaged_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def _with_code(folder: Path) -> None:
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index["transformer"] = ["evil_module", "Evil"]
    file.write_text(json.dumps(index))


def _wanting(value: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "model_index.json"
        index = json.loads(file.read_text()) | {"tokenizer": value}
        file.write_text(json.dumps(index))

    return spoil


def _nested_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("[" * 100_000)


def _shards(folder: Path, written: str) -> None:
    name = "diffusion_pytorch_model.safetensors.index.json"
    (folder / "transformer" / name).write_text(written)


def _without_shard(folder: Path) -> None:
    name = "diffusion_pytorch_model-00001-of-00002.safetensors"
    _shards(folder, json.dumps({"weight_map": {"w": name}}))


def _pickled_shard(folder: Path) -> None:
    (folder / "transformer" / "evil.bin").write_bytes(pickle.dumps({"w": 1}))
    _shards(folder, json.dumps({"weight_map": {"w": "evil.bin"}}))


def _shard_elsewhere(folder: Path) -> None:
    (folder / "evil.safetensors").write_bytes(pickle.dumps({"w": 1}))
    _shards(folder, json.dumps({"weight_map": {"w": "../evil.safetensors"}}))


def _nameless_shards(folder: Path) -> None:
    _shards(folder, json.dumps({"weight_map": [1]}))


def _damaged_shards(folder: Path) -> None:
    _shards(folder, "{")


def _with_adapter(folder: Path) -> None:
    (folder / "text_encoder" / "adapter_config.json").write_text("{}")


def _part_elsewhere(folder: Path) -> None:
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index["../other"] = ["diffusers", "AutoencoderKL"]
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_pickled, "is a pickle", id="pickle"),
        pytest.param(_disguised, "pickle under another name", id="disguised"),
        pytest.param(_truncated, "does not fit into it", id="truncated"),
        pytest.param(_without_part, "is missing", id="part"),
        pytest.param(_without_index, "has no model_index.json", id="index"),
        pytest.param(_damaged_index, "no JSON", id="damaged-index"),
        pytest.param(_with_code, "no code that comes with a model", id="code"),
        pytest.param(_nested_index, "no JSON", id="nested-index"),
        pytest.param(
            _wanting(["diffusers", "FluxPipeline"]), "no pipeline in", id="pipeline"
        ),
        pytest.param(_wanting([["diffusers"], "A"]), "only classes", id="list"),
        pytest.param(_wanting(["diffusers", "utils"]), "only classes", id="module"),
        pytest.param(_wanting(["diffusers", None]), "only classes", id="no-class"),
        pytest.param(_without_shard, "is missing", id="shard"),
        pytest.param(_pickled_shard, "names 'evil.bin': only", id="pickled-shard"),
        pytest.param(_shard_elsewhere, "only .safetensors", id="shard-elsewhere"),
        pytest.param(_nameless_shards, "names no files", id="nameless-shards"),
        pytest.param(_damaged_shards, "no JSON", id="damaged-shards"),
        pytest.param(_with_adapter, "other weights", id="adapter"),
        pytest.param(_part_elsewhere, "no folder of its own", id="part-elsewhere"),
    ],
)
def test_unsound_models_are_refused(
    model: Path, spoil: Callable[[Path], None], words: str
) -> None:
    """Nothing is loaded of a model with one wrong file; the sentence names it."""
    spoil(model)

    with pytest.raises(WeightsError, match=words):
        weights.check(Place(folder=model), FAMILY)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_disguised, "pickle under another name", id="disguised"),
        pytest.param(_pickled_shard, "names 'evil.bin': only", id="pickled-shard"),
        pytest.param(_with_code, "no code that comes with a model", id="code"),
        pytest.param(_with_adapter, "other weights", id="adapter"),
    ],
)
def test_what_goes_with_one_file_is_looked_at(
    model: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    """Text encoders that lie beside a single file are as dangerous as the file."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(SOUND)
    spoil(model)

    with pytest.raises(WeightsError, match=words):
        weights.check(Place(file=file, config=model), FAMILY)


def test_the_rest_may_lack_what_the_file_has(model: Path, tmp_path: Path) -> None:
    """The folder beside a single file need not have the networks of the file."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(SOUND)
    _without_shard(model)  # as pulled: the index came, what it names did not
    _without_part(model)

    weights.check(Place(file=file, config=model), FAMILY)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param(b"", "cut off", id="empty"),
        pytest.param((2**62).to_bytes(8, "little") + b"{}", "cut off", id="huge"),
        pytest.param(content([]), "damaged header", id="list"),
        pytest.param(content({}).replace(b"{}", b"{,"), "damaged header", id="no-json"),
        pytest.param(
            content({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, 8),
            "w",
            id="past-the-end",
        ),
        pytest.param(
            content({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}, 8),
            "does not fit",
            id="other-size",
        ),
        pytest.param(
            content({"w": {"dtype": "PY", "shape": [1], "data_offsets": [0, 8]}}, 8),
            "does not fit",
            id="type",
        ),
        pytest.param(
            len(b'{"w":1,"w":2}').to_bytes(8, "little") + b'{"w":1,"w":2}',
            "damaged header",
            id="twice",
        ),
    ],
)
def test_unsound_files_are_refused(tmp_path: Path, written: bytes, words: str) -> None:
    """Every header is read and reckoned up before a tensor is."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(written)

    with pytest.raises(WeightsError, match=words):
        weights.check(Place(file=file), FAMILIES["sdxl"])


def test_a_sound_file_may_be_loaded(tmp_path: Path) -> None:
    """A file whose header and size agree is let through, until it changes."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(SOUND)
    weights.check(Place(file=file), FAMILIES["sdxl"])

    file.write_bytes(SOUND[:-4])

    with pytest.raises(WeightsError):
        weights.check(Place(file=file), FAMILIES["sdxl"])


@pytest.mark.parametrize("length", [128, 640, 0x0480])
def test_header_may_be_of_any_length(tmp_path: Path, length: int) -> None:
    """One whose length begins as a pickle does is sound all the same."""
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode().ljust(length)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)

    assert file.read_bytes().startswith(b"\x80")
    weights.check(Place(file=file), FAMILIES["sdxl"])


# -- what is equal ------------------------------------------------------------------


def test_equal_components_have_one_identity(
    tmp_path: Path, tiny_models: Mapping[str, Path]
) -> None:
    """Copies are equal, another component is not."""
    part = tiny_models["flux1-schnell"] / "text_encoder"
    copy = tmp_path / "copy"
    shutil.copytree(part, copy)

    assert weights.identity(copy) == weights.identity(part)
    assert weights.identity(tiny_models["flux1-schnell"] / "vae") != weights.identity(
        part
    )


def test_files_of_the_hub_are_known_by_their_digest(tmp_path: Path) -> None:
    """The cache names them by what is in them: they need not be read."""
    blobs, part = tmp_path / "blobs", tmp_path / "snapshots" / "vae"
    blobs.mkdir()
    part.mkdir(parents=True)
    (blobs / "c0ffee").write_bytes(SOUND)
    (part / "model.safetensors").symlink_to(blobs / "c0ffee")
    before = weights.identity(part)

    (blobs / "c0ffee").write_bytes(b"never read")

    assert weights.identity(part) == before
