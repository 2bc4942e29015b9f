"""
How many parameters the networks of a model have, told by its files alone.

Headers are read, once for each state of a file; neither tensors nor torch are.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Final

from gaia_flux import headers
from gaia_flux.families import Family
from gaia_flux.weights import SUFFIX, Place

_HALF: Final = ".fp16."
_KNOWN: Final = ("model", "diffusion_pytorch_model")
_BACKBONE: Final = "model.diffusion_model."
_REST: Final[Mapping[str, str]] = {
    "first_stage_model.": "vae",
    "cond_stage_model.": "text_encoder",
    "conditioner.embedders.0.": "text_encoder",
    "conditioner.embedders.1.": "text_encoder_2",
}
"""What tensors of a whole model in one file begin with, to their component."""


def parameters_of(place: Place, family: Family) -> Mapping[str, int]:
    """
    Count the parameters of each component; what is not here is as usual in its family.

    Args:
        place: Where the model is.
        family: Its family.
    """
    usual = {name: int(each * 1e9) for name, each in family.billions.items()}
    if place.file is not None:
        beside = {} if place.config is None else in_folder(place.config)
        return usual | beside | _in_file(place.file, family)
    if place.folder is None:
        return usual
    return in_folder(place.folder) or _in_file_of(place.folder, family) or usual


def in_folder(folder: Path) -> dict[str, int]:
    """Count the parameters of each component that has a folder of its own."""
    names: dict[str, list[str]] = {}
    for file in folder.glob(f"*/*{SUFFIX}"):
        names.setdefault(file.parent.name, []).append(file.name)
    counted = {part: _in_part(folder / part, files) for part, files in names.items()}
    return {part: count for part, count in counted.items() if count}


def loaded(names: Iterable[str]) -> list[str]:
    """
    Choose the weights of one component that are loaded: full precision, else half.

    >>> loaded(["model.fp16.safetensors", "model.safetensors", "all.safetensors"])
    ['model.safetensors']
    """
    found = [name for name in names if name.endswith(SUFFIX)]
    plain = [name for name in found if "." not in PurePath(name).stem]
    usual = [name for name in plain if PurePath(name).name.startswith(_KNOWN)]
    return usual or plain or [name for name in found if _HALF in name]


def _in_part(part: Path, names: Iterable[str]) -> int:
    return sum(sum(_sums(part / name).values()) for name in loaded(names))


def _in_file_of(folder: Path, family: Family) -> dict[str, int]:
    """Count a network that lies in a folder by itself."""
    file = min(folder.glob(f"*{SUFFIX}"), default=None)
    return {} if file is None else _in_file(file, family)


def _in_file(file: Path, family: Family) -> dict[str, int]:
    """Count what is loaded of one file: the backbone alone, or a whole model."""
    sums = _sums(file)
    if _BACKBONE not in sums:
        return {family.backbone: sum(sums.values())} if sums else {}
    found = {family.backbone: sums[_BACKBONE]}
    if family.has_whole_files:
        found |= {_REST[start]: sums[start] for start in _REST if start in sums}
    return found


def _sums(file: Path) -> Mapping[str, int]:
    """Sum up by what names begin with; nothing: the file is not sound."""
    return _summed(file, headers.stamp(file))


@functools.lru_cache(maxsize=1024)
def _summed(file: Path, _: tuple[int, int]) -> Mapping[str, int]:
    sums: dict[str, int] = {}
    try:
        for name, count in headers.parameters_in(file):
            start = next((one for one in _STARTS if name.startswith(one)), "")
            sums[start] = sums.get(start, 0) + count
    except headers.HeaderError:
        return {}  # whoever loads it is told what is wrong with it
    return sums


_STARTS: Final = (_BACKBONE, *_REST)
