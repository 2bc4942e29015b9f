"""The cards of the models: what each can do, costs, and how it is at this moment."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from gaia_core import ModelInfo, ModelState
from gaia_flux import devices, memory, sizes, weights
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
        return attrs.evolve(
            card,
            supported_fields=self._fields(card, family),
            live_revision=partial(self.revision, spec),
        )

    def state(self, spec: ModelSpec) -> ModelState:
        """Tell how a model is; asked at every plan."""
        place, details = self._place(spec), self.details(spec)
        if place is None:
            return ModelState(word="absent", unavailable=absent(spec), details=details)
        lacking = weights.lacking(place)
        return ModelState(
            word="loaded" if spec.id in self.loaded() else "on disk",
            unavailable=lacking and f"{spec.name} cannot be loaded: {lacking}",
            details=details,
        )

    def details(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Tell more about a model; worked out when somebody looks at it."""
        return Details(partial(self._worked_out, spec))

    def is_here(self, spec: ModelSpec) -> bool:
        """Tell whether a model's files are on this machine."""
        return self._place(spec) is not None

    def _place(self, spec: ModelSpec) -> weights.Place | None:
        return weights.locate(spec, home=self.setup.home)

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
        place = self._place(spec)
        parts = [] if place is None else [weights.look_of(place)]
        parts += [*_usual(spec), *_changes(self.setup)]
        if self.loras:
            parts.append(f"loras={_digest(self.loras.found())}")
        return " ".join([*parts, libraries(*self._extras(spec))])

    def _extras(self, spec: ModelSpec) -> Iterator[str]:
        """Name the packages that have a part in a model's pictures."""
        if self.loras:
            yield "peft"
        if self.setup.quantisation == "int8":
            yield "torchao"
        if not all(FAMILIES[spec.family].pipelines.values()):
            yield "spandrel"

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
        family, setup, place = FAMILIES[spec.family], self.setup, self._place(spec)
        side, dtype = min(_SIDE, family.max_side), dtype_of(setup)
        need = memory.need_of(
            family,
            dtype=dtype,
            quantisation=setup.quantisation,
            width=side,
            height=side,
            num_images=1,
            parameters=None if place is None else sizes.parameters_of(place, family),
        )
        plan = partial(memory.plan_for, need, quantisation=setup.quantisation)
        return {
            "family": family.name,
            "dtype": dtype,
            "quantisation": setup.quantisation,
            "estimated_bytes": plan(memory.UNLIMITED).needed,
            "plan": plan(budget_of(setup)).describe(),
            "opt_ins": _opt_ins(setup),
            "revision": self.revision(spec),
        }


@attrs.define(eq=False)
class Details(Mapping[str, Any]):
    """
    What is to be known of a model, worked out when the first of it is read.

    A plan is made many times a second and reads nothing of it; headers of files are
    read for it, and NVIDIA's program may be asked.
    """

    _work_out: Callable[[], Mapping[str, Any]]
    _known: Mapping[str, Any] | None = attrs.field(default=None, init=False)

    def _all(self) -> Mapping[str, Any]:
        if self._known is None:
            self._known = self._work_out()
        return self._known

    def __getitem__(self, name: str) -> Any:
        """Give one of them."""
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        """Name all of them."""
        return iter(self._all())

    def __len__(self) -> int:
        """Count them."""
        return len(self._all())


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
    usual = {"cpu": "float32", "mps": "float16"}
    return usual.get(devices.kind_of(setup.device), "bfloat16")


def _opt_ins(setup: Setup) -> list[str]:
    """Name what was asked for although it changes pictures."""
    named = ("quantisation", "step_cache", "attention", "batching")
    return [part for part in _changes(setup) if part.partition("=")[0] in named]


def _changes(setup: Setup) -> list[str]:
    """Name the settings that change pictures, and what follows from them."""
    attention = setup.attention if setup.attention in INEXACT_ATTENTIONS else None
    named = {
        "device": devices.kind_of(setup.device),
        "dtype": dtype_of(setup),
        "quantisation": setup.quantisation,
        "step_cache": setup.step_cache,
        "attention": attention,
        "batching": "on" if setup.has_batching else None,
        "compile": "on" if setup.is_compiled else None,
        # Whether the VAE works in tiles, which blends their seams, follows from it.
        "vram_gb": setup.vram_gb,
    }
    return [f"{name}={value}" for name, value in named.items() if value is not None]


def _usual(spec: ModelSpec) -> list[str]:
    """Name what a request may leave to the model, or to its family."""
    scheduler = spec.scheduler and json.dumps(spec.scheduler, sort_keys=True)
    named = {
        "family": spec.family,
        "steps": spec.default_steps,
        "guidance": spec.default_guidance,
        "scheduler": scheduler and scheduler.replace(" ", ""),
    }
    return [f"{name}={value}" for name, value in named.items() if value is not None]


def _digest(files: Mapping[str, Path]) -> str:
    """Tell named files from others as `weights.look_of` does."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        try:
            found = path.stat()
        except OSError:
            continue
        digest.update(
            f"{name}\0{path.name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode()
        )
    return digest.hexdigest()[:12]
