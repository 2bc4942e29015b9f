"""
Which models there are: the catalogue, and those of the settings.

Only what is listed here is ever loaded, each as one commit of one repository, one
folder or one file.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from gaia_core import ModelInfo, ModelState, Price, Quality, Speed
from gaia_core.requests import MAX_NUM_IMAGES
from gaia_flux.families import FAMILIES, Family
from gaia_flux.options import nearest
from gaia_flux.pins import COMMIT

_REPOSITORY: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_INSIDE: Final = re.compile(r"(?!.*\.\.)[\w.-][\w./ -]*")
"""A path in a repository, and none out of it."""
_MAX_STEPS: Final = 500  # as requests
_MAX_GUIDANCE: Final = 100
_LIGHTNING: Final = "sdxl-lightning"
_SDXL: Final = "stabilityai/stable-diffusion-xl-base-1.0"
_TRAILING: Final = ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"})


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


def _strings(values: Iterable[str] | str) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


@attrs.frozen(kw_only=True)
class Source:
    """
    Where a model comes from: a hub's repository, or a place on this machine.

    Attributes:
        repository: ``owner/name`` on the hub.
        revision: The commit that is loaded; None: the one that was pulled.
        file: One safetensors file of the repository; None: all of it.
        path: A folder that ``save_pretrained`` wrote, or a safetensors file.
    """

    repository: str | None = None
    revision: str | None = None
    file: str | None = None
    path: Path | None = attrs.field(default=None, converter=_path)


@attrs.frozen(kw_only=True)
class ModelSpec:
    """
    One model.

    Attributes:
        id: What a request names it by.
        name: What a person calls it.
        family: Its family.
        source: Where its weights come from.
        config: Where what belongs to a single file comes from.
        aliases: Other identifiers it answers to.
        creator: Who trained it.
        licence: Under which terms its weights may be used.
        is_gated: Whether its authors want the licence accepted before a download.
        default_steps: Steps where the request says nothing; None: the family's.
        default_guidance: The same for ``guidance_scale``.
        scheduler: A class of diffusers and its configuration; None: its own.
        quality: How good its pictures are; None: as the family's.
        speed: How fast it is; None: as the family.
    """

    id: str
    name: str
    family: str
    source: Source
    config: Source | None = None
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    creator: str | None = None
    licence: str | None = None
    is_gated: bool = False
    default_steps: int | None = None
    default_guidance: float | None = None
    scheduler: tuple[str, dict[str, Any]] | None = None
    quality: str | None = None
    speed: str | None = None


def _flux(
    name: str, repository: str, title: str, licence: str, *aliases: str
) -> ModelSpec:
    return ModelSpec(
        id=name,
        name=title,
        family=name,
        source=Source(repository=f"black-forest-labs/{repository}"),
        aliases=aliases,
        creator="Black Forest Labs",
        licence=licence,
        is_gated=licence != "Apache-2.0",
    )


def _lightning(steps: int) -> ModelSpec:
    return ModelSpec(
        id=f"sdxl-lightning-{steps}step",
        name=f"SDXL Lightning, {steps} steps",
        family=_LIGHTNING,
        source=Source(
            repository="ByteDance/SDXL-Lightning",
            file=f"sdxl_lightning_{steps}step.safetensors",
        ),
        config=Source(repository=_SDXL),
        aliases=(f"lightning_{steps}step",),
        creator="ByteDance",
        licence="OpenRAIL++",
        default_steps=steps,
        scheduler=_TRAILING,
    )


_DEV = "FLUX non-commercial licence"

CATALOGUE: Final[tuple[ModelSpec, ...]] = (
    _flux(
        "flux1-schnell",
        "FLUX.1-schnell",
        "FLUX.1 [schnell]",
        "Apache-2.0",
        "flux_schnell",
        "schnell",
    ),
    _flux("flux1-dev", "FLUX.1-dev", "FLUX.1 [dev]", _DEV, "flux_dev"),
    _flux("flux1-fill", "FLUX.1-Fill-dev", "FLUX.1 Fill [dev]", _DEV),
    _flux("flux1-kontext", "FLUX.1-Kontext-dev", "FLUX.1 Kontext [dev]", _DEV),
    _flux("flux2-klein", "FLUX.2-klein-4B", "FLUX.2 [klein] 4B", "Apache-2.0"),
    _flux("flux2-dev", "FLUX.2-dev", "FLUX.2 [dev]", _DEV),
    ModelSpec(
        id="sdxl",
        name="Stable Diffusion XL",
        family="sdxl",
        source=Source(repository=_SDXL),
        creator="Stability AI",
        licence="OpenRAIL++",
    ),
    _lightning(4),
    _lightning(8),
    ModelSpec(
        id="juggernaut-xi",
        name="Juggernaut XI",
        family="sdxl",
        source=Source(repository="RunDiffusion/Juggernaut-XI-v11"),
        aliases=("juggernaut_xi",),
        creator="RunDiffusion",
        licence="see the model's page",
        default_steps=35,
        default_guidance=4.5,
    ),
    ModelSpec(
        id="sd15",
        name="Stable Diffusion 1.5",
        family="sd15",
        source=Source(repository="stable-diffusion-v1-5/stable-diffusion-v1-5"),
        creator="Runway",
        licence="OpenRAIL",
    ),
    ModelSpec(
        id="sd-latent-upscaler",
        name="Stable Diffusion latent upscaler, x2",
        family="latent-upscaler",
        source=Source(repository="stabilityai/sd-x2-latent-upscaler"),
        creator="Stability AI",
        licence="OpenRAIL++",
    ),
)
"""What can be pulled by name; which commit is loaded is settled when it is pulled."""


# -- models of the settings ---------------------------------------------------------

_AS_GIVEN: Final = (
    *("aliases", "creator", "default_guidance", "default_steps", "family", "licence"),
    *("name", "quality", "speed"),
)
KEYS: Final = tuple(
    sorted(
        {*_AS_GIVEN, "config", "file", "path", "repository", "revision", "scheduler"}
    )
)
"""What a section of an own model may say."""


def specs_of(own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, ModelSpec]:
    """
    Give every model by its identifier: the catalogue's, and those of the settings.

    A section of a name in the catalogue stands in for that one.

    Args:
        own: Identifier to its table, as in ``[providers.flux.models.<identifier>]``.

    Raises:
        ValueError: If a key or value is wrong; the sentence names it and the nearest.
    """
    found = {spec.id: spec for spec in CATALOGUE}
    for name, table in own.items():
        found[name] = _own(name, table)
    _check_aliases(found.values())
    return found


def _own(name: str, table: Mapping[str, Any]) -> ModelSpec:
    if not isinstance(table, Mapping):
        raise _wrong(name, "", f"is {table!r}: give a table with a family and a path")
    for key in table:
        if key not in KEYS:
            raise _wrong(name, str(key), f"is unknown: {nearest(str(key), KEYS)}")
    family = table.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        words = f"is {family!r}: {nearest(str(family), FAMILIES)}"
        raise _wrong(name, "family", words)
    _check_words(name, table)
    _check_numbers(name, table)
    fields = {key: value for key, value in table.items() if key in _AS_GIVEN}
    return ModelSpec(
        **{"id": name, "name": name, **fields},
        scheduler=_scheduler(name, FAMILIES[family], table.get("scheduler")),
        source=_source(name, table),
        config=_config(name, table.get("config")),
    )


def _source(name: str, table: Mapping[str, Any]) -> Source:
    path, repository = table.get("path"), table.get("repository")
    if (path is None) == (repository is None):
        raise _wrong(name, "path", "or `repository` must be given, and not both")
    if path is not None:
        return _place(name, table, path)
    if not isinstance(repository, str) or not _REPOSITORY.fullmatch(repository):
        raise _wrong(name, "repository", f"is {repository!r}, not owner/name")
    revision, file = table.get("revision"), table.get("file")
    if revision is not None and not COMMIT.fullmatch(str(revision)):
        words = f"is {revision!r}: a branch moves, so give the 40 digits of a commit"
        raise _wrong(name, "revision", words)
    if file is None and "config" in table:
        raise _wrong(name, "config", "goes with a single file: give its `file`")
    if file is not None and not str(file).endswith(".safetensors"):
        raise _wrong(name, "file", f"is {file!r}: only .safetensors files are loaded")
    if file is not None and not _INSIDE.fullmatch(file):
        raise _wrong(name, "file", f"is {file!r}: give its path in the repository")
    return Source(repository=repository, revision=revision, file=file)


def _place(name: str, table: Mapping[str, Any], path: object) -> Source:
    if not isinstance(path, str | Path):
        raise _wrong(name, "path", f"is {path!r}: give a folder or a file")
    for key in ("file", "revision"):
        if key in table:
            raise _wrong(name, key, "goes with a `repository`, not with a `path`")
    return Source(path=path)


def _config(name: str, value: object) -> Source | None:
    """Read where the rest of a single file's model is: a folder or a repository."""
    if value is None:
        return None
    if isinstance(value, str) and _REPOSITORY.fullmatch(value):
        return Source(repository=value)
    if isinstance(value, str | Path):
        return Source(path=_path(value))
    raise _wrong(name, "config", f"is {value!r}: give a folder, or owner/name")


def _scheduler(
    name: str, family: Family, value: object
) -> tuple[str, dict[str, Any]] | None:
    """Read a class of diffusers and its options; some families cannot do without."""
    if value is None:
        return _TRAILING if family.name == _LIGHTNING else None
    table = {"name": value} if isinstance(value, str) else value
    kind = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(table, Mapping) or kind not in family.schedulers:
        words = f"is {value!r}: {nearest(str(kind), family.schedulers)}"
        raise _wrong(name, "scheduler", words)
    return kind, {key: option for key, option in table.items() if key != "name"}


def _check_words(name: str, table: Mapping[str, Any]) -> None:
    for key, kind in (("quality", Quality), ("speed", Speed)):
        words = [word.value for word in kind]
        if key in table and table[key] not in words:
            raise _wrong(
                name, key, f"is {table[key]!r}: {nearest(str(table[key]), words)}"
            )
    for key in ("name", "creator", "licence"):
        if not isinstance(table.get(key, ""), str):
            raise _wrong(name, key, f"is {table[key]!r}, not words")
    aliases = table.get("aliases", ())
    is_list = isinstance(aliases, str | list | tuple)
    if not is_list or not all(isinstance(one, str) for one in aliases):
        raise _wrong(name, "aliases", f"is {aliases!r}: give a list of names")


def _check_numbers(name: str, table: Mapping[str, Any]) -> None:
    steps = table.get("default_steps", 1)
    is_whole = isinstance(steps, int) and not isinstance(steps, bool)
    if not is_whole or not 1 <= steps <= _MAX_STEPS:
        raise _wrong(name, "default_steps", f"is {steps!r}, not 1 to {_MAX_STEPS}")
    guidance = table.get("default_guidance", 1.0)
    is_number = isinstance(guidance, int | float) and not isinstance(guidance, bool)
    if not is_number or not 0 <= guidance <= _MAX_GUIDANCE:
        words = f"is {guidance!r}, not a number from 0 to {_MAX_GUIDANCE}"
        raise _wrong(name, "default_guidance", words)


def _check_aliases(specs: Iterable[ModelSpec]) -> None:
    """Refuse a name that stands for two models."""
    owners: dict[str, str] = {}
    for spec in specs:
        for name in (spec.id, *spec.aliases):
            if owners.setdefault(name, spec.id) != spec.id:
                words = f"{name!r} is a name of {owners[name]} already"
                raise _wrong(spec.id, "aliases", words)


def _wrong(name: str, key: str, words: str) -> ValueError:
    section = f"[providers.flux.models.{name}]"
    return ValueError(" ".join(filter(None, (section, key, words))))


# -- cards --------------------------------------------------------------------------


def card_of(
    spec: ModelSpec,
    *,
    provider: str,
    state: Callable[[], ModelState],
    price: Price | None,
    revision: str,
) -> ModelInfo:
    """
    Make the card of a model.

    Args:
        spec: The model.
        provider: The provider's name.
        state: Tells how the model is now.
        price: What it costs.
        revision: What else tells its pictures from others.
    """
    family = FAMILIES[spec.family]
    return ModelInfo(
        id=spec.id,
        name=spec.name,
        provider=provider,
        capabilities=frozenset(family.pipelines),
        max_width=family.max_side,
        max_height=family.max_side,
        max_images=MAX_NUM_IMAGES,
        supported_fields=family.fields,
        price=price,
        default_steps=spec.default_steps or family.default_steps,
        revision=revision,
        quality=Quality(spec.quality or family.quality),
        speed=Speed(spec.speed or family.speed),
        creator=spec.creator,
        aliases=spec.aliases,
        state=state,
    )
