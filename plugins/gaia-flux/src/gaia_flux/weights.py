"""
Where a model's files are on this machine, and whether they may be loaded.

Nothing here asks a network. Only safetensors are ever read: other formats of weights
are programs in disguise.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from gaia_flux import availability, headers, pins
from gaia_flux.families import FAMILIES, Family
from gaia_flux.headers import stamp
from gaia_flux.models import ModelSpec, Source

INDEX: Final = "model_index.json"
SUFFIX: Final = ".safetensors"

_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_LIBRARIES: Final = ("diffusers", "transformers")
_NEVER: Final = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Components that are not loaded; a checker may be of neither library."""
_OUT: Final = frozenset("/\\:\0")
_ADAPTER: Final = "adapter_config.json"
_READ: Final = frozenset({SUFFIX, ".json", ".txt", ".model"})
_PIECE: Final = 1 << 20


class WeightsError(Exception):
    """A model's files are missing, damaged, or of a kind that is not loaded."""


@attrs.frozen(kw_only=True)
class Place:
    """
    Where the files of a model are.

    Attributes:
        folder: A folder with a ``model_index.json`` or with one network.
        file: The one file that holds the weights.
        config: The folder with what belongs to a single file.
        revision: The commit they are from; None: they are not from a hub.
    """

    folder: Path | None = None
    file: Path | None = None
    config: Path | None = None
    revision: str | None = None


# -- where a model is ---------------------------------------------------------------


def locate(spec: ModelSpec, *, home: Path | None = None) -> Place | None:
    """
    Find a model's files; asked at every plan, so that it looks at few of them.

    Returns:
        None: it is absent, or not all of it is there.
    """
    if spec.source.path is not None:
        return _on_disk(spec, spec.source.path, home)
    known = pins.known(home).get(spec.id)
    repository = spec.source.repository or ""
    is_same = known is not None and known.repository == repository
    commit = spec.source.revision or (known.commit if known and is_same else None)
    if commit is None:
        return None
    folder = pins.snapshot(repository, commit, home)
    if spec.source.file is None:
        return Place(folder=folder, revision=commit) if is_complete(folder) else None
    file = folder / spec.source.file
    return _with_rest(spec, Place(file=file, revision=commit), home)


def _on_disk(spec: ModelSpec, path: Path, home: Path | None) -> Place | None:
    if path.is_dir():
        return Place(folder=path)
    return _with_rest(spec, Place(file=path), home)


def _with_rest(spec: ModelSpec, place: Place, home: Path | None) -> Place | None:
    """Find what goes with a single file; None: the one or the other is not here."""
    if place.file is None or not place.file.is_file():
        return None
    if spec.config is None:
        return place
    folder = _rest(spec, spec.config, home)
    is_here = folder is not None and has_rest(folder, FAMILIES[spec.family])
    return attrs.evolve(place, config=folder) if is_here else None


def _rest(spec: ModelSpec, source: Source, home: Path | None) -> Path | None:
    if source.path is not None:
        return source.path
    known = pins.known(home).get(spec.id)
    commit = source.revision or (known.config_commit if known else None)
    if source.repository is None or commit is None:
        return None
    return pins.snapshot(source.repository, commit, home)


def has_rest(folder: Path, family: Family) -> bool:
    """Tell whether a folder has what a single file of a family has not."""
    if family.has_whole_files or not (folder / INDEX).is_file():
        return (folder / INDEX).is_file()
    return is_complete(folder, without=family.backbone)


def is_complete(folder: Path, *, without: str | None = None) -> bool:
    """
    Tell whether all that a pipeline's index names is in its folder.

    Args:
        folder: Where the pipeline is.
        without: The component that lies elsewhere.
    """
    try:
        _check_complete(folder, without, stamp(folder), stamp(folder / INDEX))
    except FileNotFoundError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _check_complete(folder: Path, without: str | None, _: object, __: object) -> None:
    """Refuse what is not complete; that may change at any time, so it is not kept."""
    if not _has_all(folder, without):
        raise FileNotFoundError(folder)


def _has_all(folder: Path, without: str | None) -> bool:
    if not (folder / INDEX).is_file():
        return any(folder.glob(f"*{SUFFIX}"))
    try:
        parts = [name for name, _ in components(folder) if name != without]
    except WeightsError:
        return True  # it is there, and says when it is loaded what is wrong with it
    return all(_is_whole(folder / name) for name in parts)


def _is_whole(part: Path) -> bool:
    indexes = list(part.glob(f"*{SUFFIX}.index.json"))
    try:
        shards = {name for index in indexes for name in _shards(index)}
    except WeightsError:
        return True  # as above
    # Schedulers and tokenizers have no weights, and no ``config.json``.
    has_config = (part / "config.json").is_file()
    has_weights = bool(indexes) or any(part.glob(f"*{SUFFIX}"))
    is_all_here = all((part / name).is_file() for name in shards)
    return part.is_dir() and is_all_here and (has_weights or not has_config)


def _shards(index: Path) -> frozenset[str]:
    """
    Read which files hold the tensors of a network.

    Libraries open what is named here as what its name says, a pickle as a pickle.

    Raises:
        WeightsError: If it is damaged, or names anything but safetensors beside it.
    """
    table = _read_index(index).get("weight_map")
    if not isinstance(table, dict):
        raise _damaged(index, "names no files")
    for name in table.values():
        if not isinstance(name, str) or not _is_beside(name, SUFFIX):
            message = (
                f"{index} names {str(name)[:80]!r}: only {SUFFIX} files beside it are "
                "loaded. Take a version of the model that has those."
            )
            raise WeightsError(message)
    return frozenset(table.values())


def _is_beside(name: str, suffix: str = "") -> bool:
    """Tell whether a name is one of the same folder, and no path out of it."""
    return name.endswith(suffix) and name not in {"", ".", ".."} and not {*name} & _OUT


def components(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """
    Read which components a pipeline is made of: name to library and class.

    Raises:
        WeightsError: If the index is damaged, or names code of strangers.
    """
    for name, value in _read_index(folder / INDEX).items():
        if name.startswith("_") or name in _NEVER or not isinstance(value, list):
            continue
        library, kind = value if len(value) == 2 else (value, None)  # noqa: PLR2004 - its library, its class
        if library is None:
            continue
        if library not in _LIBRARIES or not _is_class(kind):
            message = (
                f"{folder / INDEX} wants {value!r} for {name}: only classes of "
                "diffusers and transformers are loaded, no code that comes with a "
                "model, and no pipeline in a pipeline"
            )
            raise WeightsError(message)
        if not _is_beside(name):
            raise _damaged(folder / INDEX, f"names no folder of its own: {name[:80]!r}")
        yield name, (str(library), str(kind))


def _is_class(name: object) -> bool:
    """Tell whether a name is a class's; a pipeline would load what nobody looked at."""
    is_name = isinstance(name, str) and name.isidentifier()
    return is_name and str(name)[0].isupper() and "Pipeline" not in str(name)


def _read_index(file: Path) -> Mapping[str, Any]:
    try:
        index = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, "is no JSON that can be read") from error
    if not isinstance(index, dict):
        raise _damaged(file, "is no table")
    return index


# -- whether it may be loaded -------------------------------------------------------


def check(place: Place, family: Family) -> None:
    """
    Refuse what cannot be loaded here, or must not be.

    Raises:
        WeightsError: The sentence names the file, and says what to do.
    """
    check_files(place, family)
    if words := lacking(place):
        raise WeightsError(words)


def lacking(place: Place) -> str | None:
    """Say which package a model wants that is not installed; None: it has all."""
    folder = place.folder or place.config
    return None if folder is None else _lacking(folder, stamp(folder / INDEX))


@functools.lru_cache(maxsize=256)
def _lacking(folder: Path, _: tuple[int, int]) -> str | None:
    try:
        kinds = {kind for _, (_, kind) in components(folder)}
    except WeightsError:
        return None  # whoever loads it is told what is wrong with it
    return availability.lacking(kinds)


def check_files(place: Place, family: Family) -> None:
    """
    Refuse what is not safetensors, damaged, or brings code along.

    Headers are read, not the tensors: a second for the largest models.

    Raises:
        WeightsError: The sentence names the file, and says what to do.
    """
    if place.file is not None:
        check_file(place.file)
        _check_rest(place.config)
        return
    folder = place.folder
    if folder is None or not folder.is_dir():
        message = f"{folder} is not there: correct the path, or pull the model again"
        raise WeightsError(message)
    parts = [folder]
    if (folder / INDEX).is_file():
        parts = [folder / name for name, _ in components(folder)]
    elif family.pipelines and all(family.pipelines.values()):
        raise _damaged(folder, f"has no {INDEX}")
    for part in parts:
        _check_part(part)
        _check_pickles(part)


def _check_rest(folder: Path | None) -> None:
    """Look at what goes with a single file; what it lacks, the file has."""
    if folder is None or not (folder / INDEX).is_file():
        return
    for name, _ in components(folder):
        if (folder / name).is_dir():
            _check_part(folder / name, is_whole=False)


def _check_part(part: Path, *, is_whole: bool = True) -> None:
    if not part.is_dir():
        raise _damaged(part, "is missing")
    if (part / _ADAPTER).exists():
        message = (
            f"{part / _ADAPTER} would have other weights loaded than lie here: remove "
            "it, and name the adapter in the `loras` of a request"
        )
        raise WeightsError(message)
    for index in part.glob(f"*{SUFFIX}.index.json"):
        for name in sorted(_shards(index)):
            if is_whole and not (part / name).is_file():
                raise _damaged(part / name, "is missing")
    for file in sorted(part.glob(f"*{SUFFIX}")):
        check_file(file)


def _check_pickles(part: Path) -> None:
    """Refuse a network that has no weights but pickles."""
    pickles = [file.name for file in part.iterdir() if file.suffix in _PICKLES]
    has_network = (part / "config.json").is_file() or not (part / INDEX).is_file()
    if pickles and has_network and not any(part.glob(f"*{SUFFIX}")):
        message = (
            f"{part / min(pickles)} is a pickle, which can run any program: only "
            ".safetensors weights are loaded. Take a version of it that has those."
        )
        raise WeightsError(message)


def check_file(file: Path) -> None:
    """
    Refuse a file that is no sound safetensors file.

    Raises:
        WeightsError: The sentence names the file, and says what to do.
    """
    _checked(file, stamp(file))


@functools.lru_cache(maxsize=1024)
def _checked(file: Path, _: tuple[int, int]) -> None:
    if words := headers.fault_of(file):
        raise _damaged(file, words)


def _damaged(path: Path, words: str) -> WeightsError:
    message = f"{path} {words}: pull the model again, or replace its files"
    return WeightsError(message)


# -- what is equal ------------------------------------------------------------------


def look_of(place: Place) -> str:
    """
    Name what lies at a place: by its commits, or by how its files look.

    Files are told from others by name, size and time: reading them takes minutes.
    """
    weights = place.revision or _look(place.file or place.folder)
    return weights if place.config is None else f"{weights}+{_look(place.config)}"


def _look(path: Path | None) -> str:
    if path is None:
        return ""
    if pins.is_snapshot(path):
        return path.name
    inside = (*path.glob("*"), *path.glob("*/*"))
    digest = hashlib.sha256()
    for file in sorted(one for one in inside if one.suffix in _READ) or [path]:
        modified, size = stamp(file)
        digest.update(f"{file.relative_to(path)}\0{size}\0{modified}\0".encode())
    return digest.hexdigest()[:12]


def identity(component_folder: Path) -> str:
    """
    Name a component by its contents: equal for equal ones, wherever they lie.

    In the hub's cache files are named by their digest; others are read once.
    """
    parts = sorted(
        (file.name, _content(file))
        for file in component_folder.iterdir()
        if file.is_file() and file.suffix in _READ
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _content(file: Path) -> str:
    target = file.resolve()
    if file.is_symlink() and target.parent.name == "blobs":
        return target.name
    return _digest(target, stamp(target))


@functools.lru_cache(maxsize=1024)
def _digest(file: Path, _: tuple[int, int]) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
