"""The cards of the models: what each can do, costs, and how it is at this moment."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from gaia_core import ModelInfo, ModelState
from gaia_flux import devices, memory, weights
from gaia_flux.availability import libraries
from gaia_flux.families import FAMILIES, Family
from gaia_flux.models import ModelSpec, card_of
from gaia_flux.options import INEXACT_ATTENTIONS
from gaia_flux.paces import Paces
from gaia_flux.payloads import NAME, Loras
from gaia_flux.setups import Setup

_SIDE = 1024


@attrs.define(eq=False, kw_only=True)
class Cards:
    """
    Makes the cards, and tells how a model is.

    Attributes:
        setup: How the worker draws.
        loras: The LoRAs that may be named.
        usd_per_second: What a second of the device costs.
        loaded: Tells which models are in memory.
        paces: How fast the device is.
    """

    setup: Setup
    loras: Loras
    usd_per_second: Decimal
    loaded: Callable[[], frozenset[str]]
    paces: Paces
    _details: dict[str, Mapping[str, Any]] = attrs.field(factory=dict, init=False)

    def all(self, first: str | None = None) -> tuple[ModelInfo, ...]:
        """Give every card: the first one, then what is on disk, the best before."""
        cards = [self.card(spec) for spec in self.setup.models.values()]
        return tuple(sorted(cards, key=partial(self._rank, first)))

    def card(self, spec: ModelSpec) -> ModelInfo:
        """Give the card of a model."""
        family = FAMILIES[spec.family]
        card = card_of(
            spec,
            provider=NAME,
            state=partial(self.state, spec),
            price=self.paces.price_of(spec, family, self.usd_per_second),
            revision=self.revision(spec),
        )
        return attrs.evolve(card, supported_fields=self._fields(card, family))

    def state(self, spec: ModelSpec) -> ModelState:
        """Tell how a model is; asked at every plan."""
        if weights.locate(spec, home=self.setup.home) is None:
            word, problem = "absent", absent(spec)
        else:
            word = "loaded" if spec.id in self.loaded() else "on disk"
            problem = None
        return ModelState(word=word, unavailable=problem, details=self.details(spec))

    def details(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Tell what does not change while the program runs; worked out once."""
        if spec.id not in self._details:
            self._details[spec.id] = self._worked_out(spec)
        return self._details[spec.id]

    def is_here(self, spec: ModelSpec) -> bool:
        """Tell whether a model's files are on this machine."""
        return weights.locate(spec, home=self.setup.home) is not None

    def notes(self) -> tuple[str, ...]:
        """Say for a person how each model on this machine is loaded."""
        here = [spec for spec in self.setup.models.values() if self.is_here(spec)]
        if not here:
            return ("No model is on this machine: run `gaia flux pull flux1-schnell`.",)
        return tuple(f"{spec.id}: {self.details(spec)['plan']}" for spec in here)

    def revision(self, spec: ModelSpec) -> str:
        """
        Name all that tells a model's pictures from others with the same request.

        Kept answers of another revision are not used, so whatever changes pictures
        is in it: weights, precision, opt-ins, the plan's memory, the libraries.
        """
        place = weights.locate(spec, home=self.setup.home)
        parts = [_revision_of(spec, place)] if place is not None else []
        parts += _changes(self.setup)
        if self.loras:
            parts.append(f"loras={_digest(self.loras.found().values())}")
        return " ".join([*parts, libraries()])

    def _rank(self, first: str | None, card: ModelInfo) -> tuple[bool, bool, int]:
        spec = self.setup.models[card.id]
        is_first = first is not None and card.answers_to(first)
        return (not is_first, not self.is_here(spec), -card.quality.rank)

    def _fields(self, card: ModelInfo, family: Family) -> frozenset[str]:
        fields = card.supported_fields
        if family.has_true_cfg:
            # With true_cfg_scale it counts; without, the worker's warning says so.
            fields |= {"negative_prompt"}
        return fields if self.loras else fields - {"loras"}

    def _worked_out(self, spec: ModelSpec) -> Mapping[str, Any]:
        family, setup = FAMILIES[spec.family], self.setup
        side, dtype = min(_SIDE, family.max_side), dtype_of(setup)
        need = memory.need_of(
            family,
            dtype=dtype,
            quantisation=setup.quantisation,
            width=side,
            height=side,
            num_images=1,
        )
        plan = partial(memory.plan_for, need, quantisation=setup.quantisation)
        return {
            "family": family.name,
            "dtype": dtype,
            "quantisation": setup.quantisation,
            "estimated_bytes": plan(memory.UNLIMITED).needed,
            "plan": plan(budget_of(setup)).describe(),
            "opt_ins": _opt_ins(setup),
        }


def absent(spec: ModelSpec) -> str:
    """Say how to get a model that is not here."""
    where = spec.source.path
    if where is not None and where.exists():
        return f"{spec.id} lacks its `config`: give a folder, or pull what it names"
    if where is not None:
        return f"{where} is not there: correct `path` in [providers.flux.models]"
    return f"{spec.name} is not on this machine: run `gaia flux pull {spec.id}`"


def told_by(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Say the worker's figures for a person."""
    notes = [f"device: {figures.get('device', 'not known yet')}"]
    free, total = figures.get("free_bytes"), figures.get("total_bytes")
    if free is not None and total is not None:
        notes.append(
            f"memory: {free / memory.GB:.1f} of {total / memory.GB:.1f} GB are free"
        )
    loaded = figures.get("models") or {}
    notes += [f"{model} is loaded: {plan}" for model, plan in loaded.items()]
    return tuple(notes)


def budget_of(setup: Setup) -> int:
    """Give the bytes that models may take, as far as that is known without torch."""
    if setup.vram_gb is not None:
        return int(setup.vram_gb * memory.GB)
    found = None if setup.device == "cpu" else devices.memory_of(setup.device)
    return memory.UNLIMITED if found is None else found


def dtype_of(setup: Setup) -> str:
    """Name the precision, as the worker chooses it where the settings do not."""
    if setup.dtype != "auto":
        return setup.dtype
    return {"cpu": "float32", "mps": "float16"}.get(setup.device, "bfloat16")


def _opt_ins(setup: Setup) -> list[str]:
    """Name what was asked for although it changes pictures."""
    named = ("quantisation", "step_cache", "attention", "batching")
    return [part for part in _changes(setup) if part.partition("=")[0] in named]


def _changes(setup: Setup) -> list[str]:
    """Name the settings that change pictures, where they are not the usual ones."""
    attention = setup.attention if setup.attention in INEXACT_ATTENTIONS else None
    named = {
        "device": None if setup.device == "auto" else setup.device.partition(":")[0],
        "dtype": None if setup.dtype == "auto" else setup.dtype,
        "quantisation": setup.quantisation,
        "step_cache": setup.step_cache,
        "attention": attention,
        "batching": "on" if setup.has_batching else None,
        "compile": "on" if setup.is_compiled else None,
        # Whether the VAE works in tiles, which blends their seams, follows from it.
        "vram_gb": setup.vram_gb,
    }
    return [f"{name}={value}" for name, value in named.items() if value is not None]


def _revision_of(spec: ModelSpec, place: weights.Place) -> str:
    """Name what the weights are: a commit, or how the files look."""
    if place.revision:
        return place.revision
    return _digest(_files(place.file or place.folder or spec.source.path))


def _files(path: Path | None) -> Iterable[Path]:
    if path is None:
        return ()
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))


def _digest(paths: Iterable[Path]) -> str:
    """Tell files from others by name, size and time: reading them takes minutes."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:12]
