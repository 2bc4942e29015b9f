"""Fetching models, from a stand-in for the hub."""

import errno
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from gaia_core import Secret
from gaia_flux import availability, pins, pulling, weights
from gaia_flux.families import FAMILIES
from gaia_flux.hubs import PullError, explained
from gaia_flux.models import ModelSpec, Source
from gaia_flux.pulling import needed
from gaia_flux.weights import WeightsError

from . import hub

Pull = Callable[..., weights.Place]

REPOSITORY = "somebody/some-model"
SPEC = ModelSpec(
    id="some-model",
    name="Some model",
    family="sdxl",
    source=Source(repository=REPOSITORY),
    licence="Strict",
)
SINGLE = attrs.evolve(
    SPEC,
    id="single",
    family="sdxl-lightning",
    source=Source(repository="somebody/single", file="four_steps.safetensors"),
    config=Source(repository=REPOSITORY),
)


@pytest.fixture(name="remote")
def _remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """Run a hub with one repository of one commit."""
    with hub.told_of(monkeypatch, REPOSITORY) as remote:
        yield remote


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Path:
    """Give a hub's cache that is not there yet."""
    return tmp_path / "hub"


@pytest.fixture(name="pull")
def _pull(remote: hub.Hub, home: Path) -> Pull:
    """Give what pulls into that cache."""
    assert remote.address

    def pull(spec: ModelSpec = SPEC, **options: Any) -> weights.Place:
        return pulling.pull(spec, home=home, **options)

    return pull


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(
        sorted(
            str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()
        )
    )


def test_pulled_model_is_found(pull: Pull, home: Path) -> None:
    """What was pulled is found on the disk, at the commit that was the newest."""
    assert weights.locate(SPEC, home=home) is None

    place = pull()

    assert place == weights.locate(SPEC, home=home)
    assert place.revision == hub.FIRST
    assert pins.known(home)[SPEC.id].commit == hub.FIRST


def test_only_what_is_needed_is_fetched(pull: Pull, remote: hub.Hub) -> None:
    """Other formats, other precisions, code and what lies beside stay on the hub."""
    place = pull()

    assert place.folder is not None
    assert _files(place.folder) == hub.NEEDED
    assert sorted(remote.fetched()) == sorted(hub.NEEDED)


def test_contents_are_those_of_the_hub(pull: Pull) -> None:
    """Every file has the bytes that the hub has."""
    folder = pull().folder

    assert folder is not None
    for name in hub.NEEDED:
        assert (folder / name).read_bytes() == hub.pipeline()[name]


def test_second_pull_fetches_nothing(pull: Pull, remote: hub.Hub) -> None:
    """What is here is not fetched again."""
    pull()
    remote.asked.clear()
    said: list[str] = []

    pull(say=said.append)

    assert remote.fetched() == []
    assert "all of it is here" in said


def test_pinned_commit_stays(pull: Pull, remote: hub.Hub) -> None:
    """A newer commit is not taken by itself; `--upgrade` takes it."""
    pull()
    remote.repositories[REPOSITORY][hub.SECOND] = hub.pipeline(seed=9)

    assert pull().revision == hub.FIRST
    assert pull(is_upgrade=True).revision == hub.SECOND
    assert pull().revision == hub.SECOND


def test_upgrade_fetches_what_changed(pull: Pull, remote: hub.Hub) -> None:
    """Files that are the same in both commits are not fetched again."""
    pull()
    name = "unet/diffusion_pytorch_model.safetensors"
    newer = hub.pipeline() | {name: hub.safetensors(77)}
    remote.repositories[REPOSITORY][hub.SECOND] = newer
    remote.asked.clear()

    place = pull(is_upgrade=True)

    assert remote.fetched() == [name]
    assert place.folder is not None
    assert (place.folder / name).read_bytes() == newer[name]


def test_broken_upgrade_leaves_the_model(
    pull: Pull, remote: hub.Hub, home: Path
) -> None:
    """While a newer commit cannot be fetched, the older one is loaded."""
    pull()
    remote.repositories[REPOSITORY][hub.SECOND] = hub.pipeline(seed=9)
    remote.failures["unet/diffusion_pytorch_model.safetensors"] = 503

    with pytest.raises(PullError):
        pull(is_upgrade=True)

    place = weights.locate(SPEC, home=home)
    assert place is not None
    assert place.revision == hub.FIRST


def test_revision_is_fetched(pull: Pull, remote: hub.Hub) -> None:
    """A commit that is asked for is the one that is loaded."""
    remote.repositories[REPOSITORY][hub.SECOND] = hub.pipeline(seed=9)

    assert pull(revision=hub.FIRST).revision == hub.FIRST


def test_revision_of_the_settings_is_fetched(pull: Pull, remote: hub.Hub) -> None:
    """The settings' commit goes before the newest, also when upgrading."""
    remote.repositories[REPOSITORY][hub.SECOND] = hub.pipeline(seed=9)
    source = Source(repository=REPOSITORY, revision=hub.FIRST)

    said: list[str] = []

    place = pull(attrs.evolve(SPEC, source=source), is_upgrade=True, say=said.append)

    assert place.revision == hub.FIRST
    assert said[0] == "some-model stays at the commit of the settings"


def test_pull_is_seen_by_who_asked_before(
    pull: Pull, remote: hub.Hub, home: Path
) -> None:
    """A host that found the model incomplete finds it once it was pulled."""
    spec = attrs.evolve(SPEC, source=Source(repository=REPOSITORY, revision=hub.FIRST))
    remote.failures["unet/diffusion_pytorch_model.safetensors"] = 503
    with pytest.raises(PullError):
        pull(spec)
    assert weights.locate(spec, home=home) is None
    remote.failures.clear()

    pull(spec)

    assert weights.locate(spec, home=home) is not None


def test_broken_pull_goes_on(pull: Pull, remote: hub.Hub, home: Path) -> None:
    """A pull that broke off leaves the model absent; the next fetches the rest."""
    last = "unet/diffusion_pytorch_model.safetensors"
    remote.failures[last] = 503
    with pytest.raises(PullError, match=r"answered 503 .* pull again later"):
        pull()
    assert weights.locate(SPEC, home=home) is None
    assert not (home / pins.PINS).exists()
    remote.failures.clear()
    remote.asked.clear()

    pull()

    assert remote.fetched() == [last]


def test_cut_line_is_taken_up_again(pull: Pull, remote: hub.Hub) -> None:
    """A line that breaks in the middle of a file costs the rest of it only."""
    name = "unet/diffusion_pytorch_model.safetensors"
    remote.cuts[name] = 20_000

    folder = pull().folder

    assert folder is not None
    assert (folder / name).read_bytes() == hub.pipeline()[name]
    assert remote.fetched().count(name) == 2


def test_progress_counts_bytes(pull: Pull) -> None:
    """Progress ends at all of the bytes, and never goes back."""
    told: list[tuple[int, int]] = []

    pull(tell=lambda here, total: told.append((here, total)))

    size = sum(len(hub.pipeline()[name]) for name in hub.NEEDED)
    assert told[-1] == (size, size)
    assert told == sorted(told)


def test_licence_is_said_first(pull: Pull, remote: hub.Hub) -> None:
    """The licence is said before anything large is fetched."""
    said: list[tuple[str, int]] = []

    pull(say=lambda words: said.append((words, len(remote.fetched()))))

    assert said[0] == ("Some model: licence: Strict", 1)
    assert (f"{REPOSITORY} at {hub.FIRST}", 1) in said


def test_single_file_comes_with_its_rest(pull: Pull, remote: hub.Hub) -> None:
    """Of the repository that a single file's rest is from, only texts are fetched."""
    files = {"four_steps.safetensors": hub.safetensors(), "b.safetensors": b""}
    remote.repositories["somebody/single"] = {hub.SECOND: files}

    place = pull(SINGLE)

    assert place.revision == hub.SECOND
    assert place.file is not None
    assert place.file.read_bytes() == hub.safetensors()
    assert place.config is not None
    texts = [name for name in hub.NEEDED if not name.endswith(".safetensors")]
    assert _files(place.config) == tuple(texts)


def test_safety_checker_stays_on_the_hub(pull: Pull, remote: hub.Hub) -> None:
    """Stable Diffusion 1.5 names a checker that is not loaded, and is not fetched."""
    files = remote.repositories[REPOSITORY][hub.FIRST]
    index = json.loads(files["model_index.json"])
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    files["model_index.json"] = json.dumps(index).encode()
    files["safety_checker/model.safetensors"] = hub.safetensors()

    folder = pull().folder

    assert folder is not None
    assert _files(folder) == hub.NEEDED


def test_package_that_is_missing_is_said_first(
    pull: Pull, remote: hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who fetches a hundred gigabytes hears before what they cannot be used without."""
    monkeypatch.setitem(availability.WANTED, "CLIPTokenizer", "no_such_package")
    said: list[tuple[str, int]] = []

    place = pull(say=lambda words: said.append((words, len(remote.fetched()))))

    (heard,) = [one for one in said if "not be loaded yet" in one[0]]
    assert "its CLIPTokenizer needs no_such_package" in heard[0]
    assert heard[1] == 1
    with pytest.raises(WeightsError, match="no_such_package"):
        weights.check(place, FAMILIES[SPEC.family])


def test_changed_rest_is_fetched(pull: Pull, remote: hub.Hub) -> None:
    """Where the settings name another repository for the rest, it is fetched."""
    files = {"four_steps.safetensors": hub.safetensors()}
    remote.repositories["somebody/single"] = {hub.SECOND: files}
    pull(SINGLE)
    remote.repositories["somebody/other"] = {"4" * 40: hub.pipeline(seed=5)}

    place = pull(attrs.evolve(SINGLE, config=Source(repository="somebody/other")))

    assert place.config is not None
    assert place.config.name == "4" * 40


@pytest.fixture(name="backbone")
def _backbone(remote: hub.Hub) -> ModelSpec:
    """Give a model that is a single file without text encoders, as FLUX's are."""
    files = remote.repositories[REPOSITORY][hub.FIRST]
    index = json.loads(files["model_index.json"])
    index["transformer"] = index.pop("unet")
    files["model_index.json"] = json.dumps(index).encode()
    for name in list(files):
        if name.startswith("unet/"):
            files[name.replace("unet/", "transformer/")] = files.pop(name)
    remote.repositories["somebody/single"] = {
        hub.SECOND: {"four_steps.safetensors": hub.safetensors()}
    }
    return attrs.evolve(SINGLE, family="flux1-dev")


def test_backbone_in_one_file_comes_with_the_other_networks(
    pull: Pull, backbone: ModelSpec, home: Path
) -> None:
    """What the file has is not fetched twice; all else can be loaded."""
    place = pull(backbone)

    assert place.config is not None
    assert place == weights.locate(backbone, home=home)
    names = _files(place.config)
    assert "text_encoder/model.safetensors" in names
    assert "transformer/config.json" in names
    assert not [one for one in names if one.startswith("transformer/diffusion")]

    (place.config / "text_encoder/model.safetensors").unlink()
    (place.config / "model_index.json").touch()

    assert weights.locate(backbone, home=home) is None


def test_rest_must_have_safetensors(
    pull: Pull, backbone: ModelSpec, remote: hub.Hub
) -> None:
    """A text encoder that is a pickle is refused before gigabytes come."""
    files = remote.repositories[REPOSITORY][hub.FIRST]
    for name in list(files):
        if name.startswith("text_encoder/") and name.endswith(".safetensors"):
            del files[name]

    with pytest.raises(PullError, match=r"text_encoder/pytorch_model\.bin, a pickle"):
        pull(backbone)

    assert "four_steps.safetensors" not in remote.fetched()


def test_own_file_gets_its_rest(pull: Pull, tmp_path: Path) -> None:
    """For a file of the settings, what belongs to it is fetched."""
    file = tmp_path / "own.safetensors"
    file.write_bytes(hub.safetensors())
    spec = attrs.evolve(SINGLE, source=Source(path=file))

    place = pull(spec)

    assert place.file == file
    assert place.config is not None
    assert (place.config / "model_index.json").is_file()


def test_upscaler_of_one_file(pull: Pull, remote: hub.Hub) -> None:
    """A model that is one file and no pipeline needs nothing else."""
    remote.repositories["somebody/upscaler"] = {
        hub.FIRST: {"x4.safetensors": hub.safetensors()}
    }
    source = Source(repository="somebody/upscaler", file="x4.safetensors")

    place = pull(attrs.evolve(SPEC, id="x4", family="esrgan", source=source))

    assert place.file is not None
    assert place.file.name == "x4.safetensors"


# -- refusals -----------------------------------------------------------------------


def _without(suffix: str) -> dict[str, bytes]:
    return {
        name: data
        for name, data in hub.pipeline().items()
        if not (name.startswith("unet/") and name.endswith(suffix))
    }


def test_gated_model_says_what_to_do(pull: Pull, remote: hub.Hub) -> None:
    """Who has not accepted a licence hears which, where, and what then."""
    remote.gated.add(REPOSITORY)

    with pytest.raises(PullError) as caught:
        pull()

    page = f"https://huggingface.co/{REPOSITORY}"
    assert all(words in str(caught.value) for words in ("Strict", page, "HF_TOKEN"))


def test_token_opens_gated_model(pull: Pull, remote: hub.Hub) -> None:
    """The token of the settings goes to the hub, and to nobody it points at."""
    remote.gated.add(REPOSITORY)

    pull(token=Secret(hub.GOOD_TOKEN))

    sent = {path: token for path, token in remote.tokens.items() if token}
    assert set(sent.values()) == {f"Bearer {hub.GOOD_TOKEN}"}
    assert not any(path.startswith("/cdn/") for path in sent)


def test_token_is_not_shown(pull: Pull, remote: hub.Hub) -> None:
    """What is said of a refused token does not hold it."""
    remote.gated.add(REPOSITORY)

    with pytest.raises(PullError) as caught:
        pull(token=Secret("hf_canary"))

    assert "hf_canary" not in str(caught.value)


def test_unknown_repository(pull: Pull, remote: hub.Hub) -> None:
    """A repository that is not there is named."""
    remote.repositories.clear()

    with pytest.raises(PullError, match=f"{REPOSITORY} is not on the hub"):
        pull()


def test_unknown_commit(pull: Pull) -> None:
    """A commit that is not there is said to be none."""
    with pytest.raises(PullError, match="has no such commit"):
        pull(revision="3" * 40)


@pytest.mark.parametrize(
    "revision", ["main", "abc123", "A" * 40], ids=["branch", "short", "capitals"]
)
def test_revision_is_a_commit(pull: Pull, revision: str) -> None:
    """A branch is refused, for it moves."""
    with pytest.raises(PullError, match="give all of its 40 digits"):
        pull(revision=revision)


def test_settings_and_command_disagree(pull: Pull) -> None:
    """A commit other than the settings' is refused."""
    source = Source(repository=REPOSITORY, revision=hub.FIRST)

    with pytest.raises(PullError, match="The settings say"):
        pull(attrs.evolve(SPEC, source=source), revision=hub.SECOND)


def test_own_folder_needs_no_pull(pull: Pull, tmp_path: Path) -> None:
    """A folder of the settings is not pulled."""
    spec = attrs.evolve(SPEC, source=Source(path=tmp_path))

    with pytest.raises(PullError, match="there is nothing to pull"):
        pull(spec)


def test_pickles_are_refused_before_they_come(pull: Pull, remote: hub.Hub) -> None:
    """A component that is a pickle only is refused before anything large is fetched."""
    name = "unet/diffusion_pytorch_model.bin"
    files = _without(".safetensors") | {name: b"\x80"}
    remote.repositories[REPOSITORY] = {hub.FIRST: files}

    with pytest.raises(PullError, match=re.escape(name)):
        pull()

    assert remote.fetched() == ["model_index.json"]


def test_pickle_under_another_name_is_refused(
    pull: Pull, remote: hub.Hub, home: Path
) -> None:
    """A pickle that is called safetensors is found out, and never loaded."""
    name = "unet/diffusion_pytorch_model.safetensors"
    remote.repositories[REPOSITORY][hub.FIRST][name] = b"\x80\x04" + bytes(100)

    with pytest.raises(PullError, match="pickle under another name"):
        pull()

    assert weights.locate(SPEC, home=home) is None


def test_custom_code_is_refused(pull: Pull, remote: hub.Hub) -> None:
    """A pipeline with classes of strangers is refused."""
    index = b'{"unet": ["pipeline", "MyUNet"]}'
    remote.repositories[REPOSITORY][hub.FIRST]["model_index.json"] = index

    with pytest.raises(PullError, match="no code that comes with a model"):
        pull()


def test_lacking_component_is_refused(pull: Pull, remote: hub.Hub, home: Path) -> None:
    """A repository without all that its index names is not loaded."""
    remote.repositories[REPOSITORY] = {hub.FIRST: _without("")}

    with pytest.raises(PullError, match="lacks files"):
        pull()

    assert weights.locate(SPEC, home=home) is None


def test_file_that_is_not_there(pull: Pull, remote: hub.Hub) -> None:
    """A single file that is not there is said with those that are."""
    remote.repositories["somebody/single"] = {hub.FIRST: {"b.safetensors": b""}}

    with pytest.raises(PullError, match=r"has no file 'four_steps.*b\.safetensors"):
        pull(SINGLE)


def test_rest_must_be_a_pipeline(pull: Pull, remote: hub.Hub, home: Path) -> None:
    """A repository without a pipeline cannot stand in for a single file's rest."""
    files = {"four_steps.safetensors": hub.safetensors(), "config.json": b"{}"}
    remote.repositories["somebody/single"] = {hub.SECOND: files}
    config = Source(repository="somebody/single")

    with pytest.raises(PullError, match=r"has no model_index\.json: set another"):
        pull(attrs.evolve(SINGLE, config=config))

    assert not (home / pins.PINS).exists()


def test_full_disk_is_said_first(pull: Pull, remote: hub.Hub) -> None:
    """Who has too little room hears how much is needed, before anything large comes."""
    remote.claims["unet/diffusion_pytorch_model.safetensors"] = 10**17

    with pytest.raises(PullError, match=r"needs 10000000\d\.\d GB more .* are free"):
        pull()

    assert remote.fetched() == ["model_index.json"]


def test_no_hub_is_said(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, the sentence says so."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(PullError, match="cannot be reached, or broke off"):
        pull()


def test_no_commit_is_said(pull: Pull, remote: hub.Hub) -> None:
    """An answer without a commit is not used."""
    remote.repositories[REPOSITORY] = {"../..": hub.pipeline()}

    with pytest.raises(PullError, match="names no commit"):
        pull()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(OfflineModeIsEnabled(), "HF_HUB_OFFLINE is set", id="offline"),
        pytest.param(OSError(errno.ENOSPC, "full"), "The disk is full", id="full"),
        pytest.param(
            PermissionError(errno.EACCES, "no", "/hub"),
            "/hub cannot be written: set `home`",
            id="not-ours",
        ),
        pytest.param(
            RuntimeError("hf_canary"), "broke off (RuntimeError): pull", id="xet"
        ),
        pytest.param(TimeoutError(), "broke off (TimeoutError): pull", id="slow"),
        pytest.param(WeightsError("It is damaged."), "It is damaged.", id="weights"),
    ],
)
def test_failures_say_what_to_do(error: Exception, message: str) -> None:
    """What stands between the hub and the disk is said in a sentence."""
    with (
        pytest.raises(PullError, match=re.escape(message)) as caught,
        explained(SPEC, REPOSITORY),
    ):
        raise error

    assert "hf_canary" not in str(caught.value)


def test_own_mistakes_are_not_explained_away() -> None:
    """What is nobody's failure but ours stays what it is."""
    with pytest.raises(KeyError), explained(SPEC, REPOSITORY):
        raise KeyError


# -- what is needed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            ["a.fp16.safetensors", "a.bin"], ["a.fp16.safetensors"], id="half"
        ),
        pytest.param(
            [
                "model.fp16.safetensors",
                "model.safetensors",
                "model.non_ema.safetensors",
            ],
            ["model.safetensors"],
            id="full-goes-first",
        ),
        pytest.param(
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "pytorch_model.bin.index.json",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            id="shards",
        ),
        pytest.param(
            ["diffusion_pytorch_model.safetensors", "flux1-dev.safetensors"],
            ["diffusion_pytorch_model.safetensors"],
            id="stray",
        ),
        pytest.param(["own.safetensors"], ["own.safetensors"], id="own-name"),
        pytest.param(
            ["chat_template.jinja", "spiece.model", "modeling.py", "a.msgpack"],
            ["chat_template.jinja", "spiece.model"],
            id="tokenizer",
        ),
        pytest.param(["onnx/model.safetensors", "openvino/x.json"], [], id="deeper"),
    ],
)
def test_needed_files(files: list[str], expected: list[str]) -> None:
    """Of one component, exactly what is loaded is needed."""
    found = needed([f"part/{name}" for name in files], ["part"])

    assert found == [f"part/{name}" for name in expected]
