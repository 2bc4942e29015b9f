"""
Fetching a model from the hub, which nothing else asks.

What a pipeline needs is fetched at one commit into the hub's own cache, and that commit
is loaded from then on.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs

from gaia_core import Secret
from gaia_flux import pins, sizes, weights
from gaia_flux.families import FAMILIES
from gaia_flux.hubs import (
    Hub,
    Meter,
    Part,
    PullError,
    RemoteFile,
    Tell,
    explained,
)
from gaia_flux.models import ModelSpec, Source
from gaia_flux.pins import COMMIT, Pin
from gaia_flux.weights import INDEX, SUFFIX, Place

MARGIN: Final = 1 << 28
"""Bytes that stay free on the disk: others write to it meanwhile."""

_TEXTS: Final = (".json", ".txt", ".model", ".jinja")
_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth")
_GIGA: Final = 1e9

Say = Callable[[str], None]
"""Takes sentences for a person."""


def pull(  # noqa: PLR0913  each is a choice of the person who pulls
    spec: ModelSpec,
    *,
    home: Path | None = None,
    token: Secret | None = None,
    revision: str | None = None,
    is_upgrade: bool = False,
    say: Say = lambda _: None,
    tell: Tell = lambda _, __: None,
) -> Place:
    """
    Fetch what a model needs; files that are here already are not fetched again.

    Only when all of it is here and sound is the commit noted, so that a pull that
    broke off leaves the model as it was: absent, or at the commit before.

    Args:
        spec: The model.
        home: The hub's cache; None: where huggingface_hub has it.
        token: The hub's token; None: the one of `hf auth login`, where there is one.
        revision: The commit that is wanted; None: the pinned one, or the newest.
        is_upgrade: Whether to leave the pinned commit for the newest.
        say: Told what happens.
        tell: Told how far it is.

    Raises:
        PullError: If it cannot be fetched, or must not be loaded.
    """
    hub = Hub(home=home, token=token)
    if is_upgrade and spec.source.revision:
        say(f"{spec.id} stays at the commit of the settings")
    pin = _wanted_pin(hub, spec, revision, is_upgrade=is_upgrade)
    with explained(spec, pin.repository):
        parts = _parts(hub, spec, pin)
    _check_disk(spec, parts, home)
    _announce(spec, parts, home, say)
    fetched = Meter(
        tell=tell,
        total=sum(file.size for part in parts for file in part.files.values()),
    )
    for part in parts:
        with explained(spec, part.repository):
            hub.fetch(part, fetched)
    with explained(spec, pin.repository):
        return _settle(spec, pin, home)


# -- which commit -------------------------------------------------------------------


def _wanted_pin(
    hub: Hub, spec: ModelSpec, revision: str | None, *, is_upgrade: bool
) -> Pin:
    """Settle which commits are fetched."""
    source, config = spec.source, spec.config
    if revision is not None and not COMMIT.fullmatch(revision):
        message = f"{revision!r} is no commit: give all of its 40 digits, in lower case"
        raise PullError(message)
    if revision and source.revision not in {None, revision}:
        message = (
            f"The settings say that {spec.id} is {source.revision}: "
            f"change `revision` in [providers.flux.models.{spec.id}] instead"
        )
        raise PullError(message)
    is_alone = config is None or config.repository is None
    if source.path is not None and (is_alone or source.path.is_dir()):
        message = f"{spec.id} lies in {source.path}: there is nothing to pull"
        raise PullError(message)
    known = None if is_upgrade else pins.known(hub.home).get(spec.id)
    if known is not None and known.repository != (source.repository or ""):
        known = None
    commit = revision or (known.commit if known else None)
    rest = known.config_commit if known else None
    if rest and config and not _is_here(config, rest, hub.home):
        rest = None  # the settings name another repository than they did
    return Pin(
        repository=source.repository or "",
        commit=_commit(hub, spec, source, commit) or "",
        config_commit=_commit(hub, spec, config, rest),
    )


def _is_here(source: Source, commit: str, home: Path | None) -> bool:
    folder = pins.snapshot(source.repository or "-/-", commit, home)
    return (folder / INDEX).is_file()


def _commit(
    hub: Hub, spec: ModelSpec, source: Source | None, known: str | None
) -> str | None:
    if source is None or source.repository is None:
        return None
    if commit := source.revision or known:
        return commit
    with explained(spec, source.repository):
        return hub.newest(source.repository)


# -- which files --------------------------------------------------------------------


def _parts(hub: Hub, spec: ModelSpec, pin: Pin) -> list[Part]:
    """Settle which files are fetched, of one repository or of two."""
    parts = []
    source, config = spec.source, spec.config
    if source.repository is not None:
        files = hub.files(source.repository, pin.commit)
        if source.file is not None:
            parts.append(_one_file(source.repository, pin.commit, files, source.file))
        else:
            folders = _folders(hub, source.repository, pin.commit, files)
            _check_formats(spec, files, folders)
            names = needed(files, folders)
            parts.append(_part(source.repository, pin.commit, files, names))
    if config is not None and config.repository is not None and pin.config_commit:
        parts.append(_rest(hub, spec, config.repository, pin.config_commit))
    return parts


def _rest(hub: Hub, spec: ModelSpec, repository: str, commit: str) -> Part:
    """Settle what goes with a single file: all but the networks it has itself."""
    family, files = FAMILIES[spec.family], hub.files(repository, commit)
    folders = _folders(hub, repository, commit, files)
    is_in_file = {*folders} if family.has_whole_files else {family.backbone}
    _check_formats(spec, files, {*folders} - is_in_file)
    names = needed(files, folders)
    rest = [
        one for one in names if not (_is_network(one) and _folder(one) in is_in_file)
    ]
    return _part(repository, commit, files, rest)


def _part(
    repository: str,
    commit: str,
    files: Mapping[str, RemoteFile],
    names: Iterable[str],
) -> Part:
    chosen = {name: files[name] for name in sorted(names)}
    return Part(repository=repository, commit=commit, files=chosen)


def _one_file(
    repository: str, commit: str, files: Mapping[str, RemoteFile], name: str
) -> Part:
    if name not in files:
        there = [one for one in files if one.endswith(SUFFIX)]
        known = ", ".join(sorted(there)[:8]) or "no safetensors file at all"
        message = f"{repository} has no file {name!r}; it has {known}"
        raise PullError(message)
    return _part(repository, commit, files, [name])


def _folders(
    hub: Hub, repository: str, commit: str, files: Mapping[str, RemoteFile]
) -> list[str]:
    """Name the folders of the pipeline's components; the top, where it has none."""
    if INDEX not in files:
        return [""]
    hub.fetch(_part(repository, commit, files, [INDEX]))
    folder = pins.snapshot(repository, commit, hub.home)
    return [name for name, _ in weights.components(folder)]


def needed(files: Iterable[str], folders: Iterable[str]) -> list[str]:
    """
    Name the files that a pipeline loads.

    Other formats, other precisions and all that lies beside are left on the hub.

    >>> needed(["vae/model.safetensors", "vae/model.bin", "vae/config.json"], ["vae"])
    ['vae/config.json', 'vae/model.safetensors']

    Args:
        files: Paths of all that there is.
        folders: The folders of the components; ``""`` is the top.
    """
    wanted = set(folders)
    inside = [name for name in files if _folder(name) in wanted]
    texts = [
        name
        for name in inside
        if name.endswith(_TEXTS) and not name.endswith(".bin.index.json")
    ]
    tensors = [
        name
        for folder in wanted
        for name in sizes.loaded([one for one in inside if _folder(one) == folder])
    ]
    return sorted({*texts, *tensors, *({INDEX} & set(files))})


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _check_formats(
    spec: ModelSpec, files: Iterable[str], folders: Collection[str]
) -> None:
    """Refuse before gigabytes come what would be refused afterwards."""
    served = {_folder(name) for name in needed(files, folders) if _is_network(name)}
    pickles = [
        name
        for name in files
        if name.endswith(_PICKLES) and _folder(name) in {*folders} - served
    ]
    if pickles:
        message = (
            f"{spec.id} has {min(pickles)}, a pickle, which can run any program, and "
            "no safetensors beside it: take a model that has those"
        )
        raise PullError(message)
    if folders and not served:
        message = f"{spec.source.repository} has no safetensors files that fit"
        raise PullError(message)


def _is_network(name: str) -> bool:
    return name.endswith(SUFFIX)


# -- disk and words -----------------------------------------------------------------


def _check_disk(spec: ModelSpec, parts: Iterable[Part], home: Path | None) -> None:
    lacking = _lacking(parts, home)
    cache = pins.hub_cache(home)
    there = next(one for one in (cache, *cache.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if lacking and lacking + MARGIN > free:
        message = (
            f"{spec.id} needs {size(lacking + MARGIN)} more in {cache}, and "
            f"{size(free)} are free: make room, or set `home` in [providers.flux]"
        )
        raise PullError(message)


def _lacking(parts: Iterable[Part], home: Path | None) -> int:
    blobs = {
        (part.repository, file.blob): file.size
        for part in parts
        for file in part.missing(home).values()
    }
    return sum(blobs.values())


def _announce(
    spec: ModelSpec, parts: Iterable[Part], home: Path | None, say: Say
) -> None:
    say(f"{spec.name}: licence: {spec.licence or 'see the page of the model'}")
    for part in parts:
        say(f"{part.repository} at {part.commit}")
        folder = pins.snapshot(part.repository, part.commit, home)
        if words := weights.lacking(Place(folder=folder)):
            say(f"{spec.name} can be fetched, but not be loaded yet: {words}")
    lacking = _lacking(parts, home)
    say(f"{size(lacking)} to fetch" if lacking else "all of it is here")


def size(count: int) -> str:
    """
    Say a number of bytes as disks do.

    >>> size(23_800_000_000), size(512)
    ('23.8 GB', '0.1 GB')
    """
    return f"{max(count / _GIGA, 0.1 if count else 0.0):.1f} GB"


def _settle(spec: ModelSpec, pin: Pin, home: Path | None) -> Place:
    """Look at what came, and load it from now on."""
    is_own = spec.source.repository is None
    folder = pins.snapshot(pin.repository or "-/-", pin.commit, home)
    place = Place(
        folder=folder if spec.source.file is None else None,
        file=spec.source.path if is_own else None,
        revision=pin.commit or None,
    )
    if spec.source.file is not None:
        place = attrs.evolve(place, file=folder / spec.source.file)
    elif not is_own and not weights.is_complete(folder):
        message = (
            f"{pin.repository} at {pin.commit} lacks files that its {INDEX} names: "
            "it cannot be loaded; take another commit with --revision"
        )
        raise PullError(message)
    if pin.config_commit and spec.config:
        _check_rest(spec, spec.config, pin.config_commit, home)
    weights.check_files(place, FAMILIES[spec.family])
    pins.note(home, spec.id, pin.repository, pin.commit, pin.config_commit)
    return weights.locate(spec, home=home) or place


def _check_rest(
    spec: ModelSpec, config: Source, commit: str, home: Path | None
) -> None:
    """Refuse what cannot stand in for the rest of a single file's model."""
    if not _is_here(config, commit, home):
        message = f"{config.repository} has no {INDEX}: set another `config`"
        raise PullError(message)
    folder = pins.snapshot(config.repository or "-/-", commit, home)
    if not weights.has_rest(folder, FAMILIES[spec.family]):
        message = (
            f"{config.repository} lacks files that its {INDEX} names: set another "
            "`config`"
        )
        raise PullError(message)
