"""
Components of a model, from a folder or from one file.

They are loaded one by one, so that what another model has in memory already (the same
weights in the same precision) is taken from there. A safety checker is not loaded:
diffusers' own replaces pictures by black ones and says so only in a log.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import diffusers
import torch
import transformers
from safetensors import SafetensorError

from gaia_flux import configs, schedulers, tuning, upscaling, weights
from gaia_flux.weights import WeightsError

Shelf = Callable[[str], Any]
"""Gives a component that is in memory by its key; None where there is none."""

_INDEX: Final = "model_index.json"
_SCHEDULER: Final = "scheduler"
_UPSCALER: Final = "upscaler"
_NETWORKS: Final = "esrgan"
_HALF: Final = "fp16"
_LIBRARIES: Final[Mapping[str, Any]] = {
    "diffusers": diffusers,
    "transformers": transformers,
}
_UNREADABLE: Final = (SafetensorError, OSError, ValueError, KeyError, TypeError)
_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@attrs.frozen(kw_only=True)
class Wanted:
    """
    A model to load, and how.

    Attributes:
        spec: The model.
        family: Its family.
        place: Where its files are.
        dtype: The precision.
        quantisation: The opt-in for the backbone; None: exact weights.
        layout: Sets apart components that lie in memory in different ways.
        is_copied: Whether weights are copied from the file they are mapped from. On
            the CPU a product of matrices differs in its last bits with the alignment
            of its operands, so a picture would depend on how a file is laid out.
    """

    spec: Any
    family: Any
    place: Any
    dtype: torch.dtype
    quantisation: str | None = None
    layout: str = ""
    is_copied: bool = False

    def key(self, name: str, identity: str) -> str:
        """Name a component: equal for those that may be shared."""
        quantisation = self.quantisation if name == self.family.backbone else None
        return f"{identity}:{self.dtype}:{quantisation}:{self.layout}"


@attrs.frozen(kw_only=True)
class Loaded:
    """
    Components by name.

    Attributes:
        components: What a pipeline of the family is made of.
        keys: The key of every module and tokenizer among them.
        options: What else its pipelines are made with.
    """

    components: Mapping[str, Any]
    keys: Mapping[str, str]
    options: Mapping[str, Any] = attrs.field(factory=dict)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """
    Give the precision a setting names, and for ``auto`` what suits the device.

    Raises:
        TuningError: There is no precision of that name.

    """
    if name != "auto":
        if name not in _DTYPES:
            message = f"unknown dtype {name!r}; one of: auto, {', '.join(_DTYPES)}"
            raise tuning.TuningError(message)
        return _DTYPES[name]
    if device.type == "cuda":
        is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_supported else torch.float16
    return torch.float32 if device.type == "cpu" else torch.float16


def place_of(spec: Any, home: Path | None) -> Any:
    """
    Find a model's files.

    Raises:
        WeightsError: It is not on this machine; the sentence says how to get it.

    """
    place = weights.locate(spec, home=home)
    if place is None:
        message = (
            f"{spec.name} is not on this machine: run `gaia flux pull {spec.id}`"
            if spec.source.path is None
            else f"{spec.name} is not at {spec.source.path}: correct its path"
        )
        raise WeightsError(message)
    return place


def keys_of(wanted: Wanted) -> Mapping[str, str]:
    """
    Check a model's files, and name its components; nothing is loaded.

    Raises:
        WeightsError: Files are missing, damaged or not safetensors.

    """
    weights.check(wanted.place, wanted.family)
    with _explained(wanted.spec):
        if wanted.family.name == _NETWORKS:
            return {_UPSCALER: wanted.key(_UPSCALER, _identity(_network_file(wanted)))}
        folder = _folder_of(wanted)
        names = [name for name, _ in _parts(folder) if name != _SCHEDULER]
        configs.check(folder / name for name in names)
        return {
            name: wanted.key(name, _identity_of(wanted, folder, name)) for name in names
        }


def load(wanted: Wanted, keys: Mapping[str, str], shelf: Shelf) -> Loaded:
    """
    Load a model's components, and take from the shelf what is there.

    Args:
        wanted: The model.
        keys: What `keys_of` said.
        shelf: Gives what is in memory.

    Raises:
        WeightsError: Files do not fit together, or cannot be read after all.

    """
    with _explained(wanted.spec):
        kept = {name: shelf(key) for name, key in keys.items()}
        kept = {name: one for name, one in kept.items() if one is not None}
        if wanted.family.name == _NETWORKS:
            return Loaded(components=_network(wanted, kept), keys=keys)
        folder = _folder_of(wanted)
        load_missing = _checkpoint if _is_checkpoint(wanted) else _components
        components = load_missing(wanted, folder, kept)
        return Loaded(
            components={**components, _SCHEDULER: _scheduler(wanted, folder)},
            keys=keys,
            options=_options(_index(folder)),
        )


def _is_checkpoint(wanted: Wanted) -> bool:
    """Whether one file holds a whole model, in its authors' layout."""
    return wanted.place.folder is None and wanted.family.backbone != "transformer"


@contextmanager
def _explained(spec: Any) -> Iterator[None]:
    try:
        yield
    except (WeightsError, tuning.TuningError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        words = f"{spec.name} wants what is not installed: {error}"
        raise WeightsError(words) from error
    except _UNREADABLE as error:
        raise WeightsError(_explanation(spec, error)) from error
    except RuntimeError as error:
        # What torch says of weights that do not fit; all else is the device's.
        if "size mismatch" not in str(error) and "state_dict" not in str(error):
            raise
        raise WeightsError(_explanation(spec, error)) from error


def _explanation(spec: Any, error: Exception) -> str:
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    remedy = (
        f"run `gaia flux pull {spec.id}` again"
        if spec.source.path is None
        else "replace its files"
    )
    return f"{spec.name} cannot be loaded: {words.rstrip('.')}; {remedy}"


def _folder_of(wanted: Wanted) -> Path:
    """Give the folder of a model, or the one that goes with its single file."""
    folder = wanted.place.folder or wanted.place.config
    if folder is None:
        message = (
            f"{wanted.spec.name} is one file, and nothing says where the rest of the "
            "model is: give its settings a `config` folder"
        )
        raise WeightsError(message)
    return Path(folder)


def _components(
    wanted: Wanted, folder: Path, kept: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (library, kind_name) in _parts(folder):
        if name in kept:
            found[name] = kept[name]
        elif name != _SCHEDULER:
            kind = getattr(_LIBRARIES[library], kind_name)
            found[name] = _component(wanted, name, folder / name, kind)
    return found


def _index(folder: Path) -> Mapping[str, Any]:
    index: Mapping[str, Any] = json.loads((folder / _INDEX).read_text("utf-8"))
    return index


def _parts(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, (library, kind) in weights.components(folder):
        found = getattr(_LIBRARIES[library], kind, None)
        # What chooses its class itself would choose how it is loaded, too.
        if not hasattr(found, "from_pretrained") or kind.startswith("AutoModel"):
            message = f"{name} wants {library}.{kind}, which is not to be had here"
            raise WeightsError(message)
        yield name, (library, kind)


def _options(index: Mapping[str, Any]) -> Mapping[str, Any]:
    own = {
        name: value
        for name, value in index.items()
        if not isinstance(value, list) and not name.startswith("_")
    }
    return own | {"requires_safety_checker": False}


def _own_file(wanted: Wanted, name: str) -> Path | None:
    """Give the file a backbone comes from, where it is not in the folder."""
    if wanted.place.folder is None and name == wanted.family.backbone:
        return Path(wanted.place.file)
    return None


def _identity_of(wanted: Wanted, folder: Path, name: str) -> str:
    if _is_checkpoint(wanted):
        return f"{_identity(Path(wanted.place.file))}:{name}"
    return _identity(_own_file(wanted, name) or folder / name)


def _identity(part: Path) -> str:
    if part.is_dir():
        return weights.identity(part)
    status = part.stat()
    return f"{part.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _component(wanted: Wanted, name: str, part: Path, kind: Any) -> Any:
    if not _has_weights(kind):
        # Unsaid, it would ask on standard input whether to run a model's own code.
        safely = {"local_files_only": True, "trust_remote_code": False}
        return kind.from_pretrained(part, **safely)
    options: dict[str, Any] = {"dtype": wanted.dtype, "local_files_only": True}
    if name == wanted.family.backbone:
        config = tuning.quantisation_config(wanted.quantisation, wanted.family)
        options |= {} if config is None else {"quantization_config": config}
    file = _own_file(wanted, name)
    if file is None:
        options |= {"use_safetensors": True, "variant": _variant(part)}
        module = kind.from_pretrained(part, **options)
    else:
        module = kind.from_single_file(str(file), config=str(part), **options)
    return _finished(wanted, name, module)


def _variant(part: Path) -> str | None:
    """Name the variant of a folder that has no files but those of the variant."""
    names = [file.name for file in part.glob("*.safetensors")]
    return _HALF if names and all(f".{_HALF}." in name for name in names) else None


def _has_weights(kind: Any) -> bool:
    return isinstance(kind, type) and bool(issubclass(kind, torch.nn.Module))


def _finished(wanted: Wanted, name: str, module: Any) -> Any:
    module.eval().requires_grad_(requires_grad=False)
    if wanted.is_copied:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()
    if name == wanted.family.backbone and wanted.quantisation == "fp8":
        tuning.store_as_fp8(module, wanted.dtype)
    return module


def _checkpoint(
    wanted: Wanted, folder: Path, kept: Mapping[str, Any]
) -> dict[str, Any]:
    names = [name for name, _ in _parts(folder) if name != _SCHEDULER]
    if len(kept) == len(names):
        return dict(kept)
    if wanted.quantisation == "int8":
        message = (
            f"{wanted.spec.name} is a single file, which cannot be quantised to int8 "
            'while it is loaded: use quantisation = "fp8"'
        )
        raise tuning.TuningError(message)
    kind = getattr(diffusers, next(iter(wanted.family.pipelines.values())))
    options = {} if "XL" in kind.__name__ else {"safety_checker": None}
    pipeline = kind.from_single_file(
        str(wanted.place.file),
        config=str(folder),
        local_files_only=True,
        dtype=wanted.dtype,
        **options,
    )
    found = {name: pipeline.components[name] for name in names}
    return {
        name: _finished(wanted, name, component)
        if isinstance(component, torch.nn.Module)
        else component
        for name, component in found.items()
    }


def _network_file(wanted: Wanted) -> Path:
    if wanted.place.file is not None:
        return Path(wanted.place.file)
    return next(iter(sorted(Path(wanted.place.folder).glob("*.safetensors"))))


def _network(wanted: Wanted, kept: Mapping[str, Any]) -> dict[str, Any]:
    if _UPSCALER in kept:
        return dict(kept)
    file = _network_file(wanted)
    network = upscaling.load_network(file, device="cpu", dtype=wanted.dtype)
    return {_UPSCALER: network}


def _scheduler(wanted: Wanted, folder: Path) -> Any:
    """Give the scheduler a model's settings ask for, or the folder's own."""
    own = dict(_parts(folder)).get(_SCHEDULER)
    if own is None:
        message = f"{folder / _INDEX} names no scheduler: replace it"
        raise WeightsError(message)
    base = getattr(_LIBRARIES[own[0]], own[1]).from_pretrained(
        folder / _SCHEDULER, local_files_only=True
    )
    if wanted.spec.scheduler is None:
        return base
    name, config = wanted.spec.scheduler
    return schedulers.kind_of(name).from_config(base.config, **config)


def pipeline_of(
    kind_name: str, components: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    """Make a pipeline over components, with a scheduler of its own."""
    kind = getattr(diffusers, kind_name)
    accepted = inspect.signature(kind.__init__).parameters
    given = {name: components.get(name) for name in accepted if name in components}
    for name in kind._optional_components:  # noqa: SLF001 - there is no public name
        given.setdefault(name, None)
    scheduler = components[_SCHEDULER]
    given[_SCHEDULER] = type(scheduler).from_config(scheduler.config)
    given |= {name: value for name, value in options.items() if name in accepted}
    missing = [
        name
        for name, parameter in accepted.items()
        if name != "self"
        and parameter.default is inspect.Parameter.empty
        and name not in given
    ]
    return kind(**given, **dict.fromkeys(missing))
