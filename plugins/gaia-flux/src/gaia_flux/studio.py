"""
The torch side as one object: loads models, keeps them, and draws with them.

Everything happens in one thread, the one that made the studio.
"""

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import attrs
import torch

from gaia_core import Capability
from gaia_flux import drawing, loading, sizes, weights
from gaia_flux.experience import Experience
from gaia_flux.families import FAMILIES
from gaia_flux.hushes import hushed
from gaia_flux.jobs import Drawn, Job, Preview, Report
from gaia_flux.loading import Wanted
from gaia_flux.memory import (
    UNLIMITED,
    MemoryPlan,
    Need,
    OutOfMemoryError,
    is_lack,
    need_of,
    plan_for,
)
from gaia_flux.models import ModelSpec
from gaia_flux.prompts import PromptCache
from gaia_flux.residence import Residence, Resident, budget_of
from gaia_flux.setups import Setup
from gaia_flux.tuning import TuningError

Around = Callable[[Resident, Sequence[Job]], AbstractContextManager[object]]
"""Gives a context that jobs are drawn in: a profiler, or a limit of memory."""

_WARM_SIDE: Final = 256
_COMPILED_SIDE: Final = 1024


def _nothing(_resident: Resident, _jobs: Sequence[Job]) -> AbstractContextManager[None]:
    return nullcontext()


def device_of(name: str) -> torch.device:
    """
    Give the device a setting names; ``auto`` is an accelerator and never the CPU.

    Raises:
        TuningError: It is not there.

    """
    if name == "auto":
        return _accelerator()
    device = torch.device(name)
    is_there = {
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }.get(device.type, lambda: True)
    if not is_there():
        message = f"there is no device {name!r} here: correct the setting `device`"
        raise TuningError(message)
    return device


def _accelerator() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    message = 'torch sees no accelerator here: set `device = "cpu"` to draw without one'
    raise TuningError(message)


@attrs.define(eq=False)
class Studio:
    """
    Draws jobs with the models of a setup.

    Attributes:
        setup: All there is to know.
        around: Gives a context that jobs are drawn in.
    """

    setup: Setup
    around: Around = attrs.field(default=_nothing, kw_only=True)
    _device: torch.device = attrs.field(init=False)
    _residence: Residence = attrs.field(init=False)
    _prompts: PromptCache = attrs.field(factory=PromptCache, init=False)
    _experience: Experience = attrs.field(factory=Experience, init=False)
    _looks: dict[str, str] = attrs.field(factory=dict, init=False)
    _thread: int = attrs.field(factory=threading.get_ident, init=False)

    def __attrs_post_init__(self) -> None:
        """Find the device, and how much of it there is."""
        if self.setup.threads is not None:
            torch.set_num_threads(self.setup.threads)
        self._device = device_of(self.setup.device)
        self._residence = Residence(
            device=self._device,
            budget=budget_of(self._device, self.setup.vram_gb),
            attention=self.setup.attention,
            is_compiled=self.setup.is_compiled,
        )

    def draw(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        """
        Draw jobs of one shape, one answer per job.

        Where memory runs out, it is tried once more with a plan that takes less, and
        the warnings say so; see `Experience` for the jobs after it.

        Raises:
            StoppedError: Nobody waits any more.
            WeightsError: The model is not here, or cannot be loaded.
            OutOfMemoryError: Memory did not suffice the second time, either.

        """
        self._check_thread()
        with hushed():
            return self._drawn([self._completed(job) for job in jobs], report)

    def _drawn(self, jobs: Sequence[Job], report: Report) -> tuple[Drawn, ...]:
        # No second attempt inside an `except` block: that would keep the frames of the
        # first one, and so its tensors.
        before = self._plan(jobs)
        drawn = self._attempt(jobs, before, report)
        if drawn is not None:
            return drawn
        after = self._stepped_down(jobs, before)
        drawn = self._attempt(jobs, after, report)
        if drawn is None:
            self._residence.clear()
            raise OutOfMemoryError(_exhausted(jobs, after))
        warning = (
            f"memory ran out with the plan {before.mode.value!r}; drawn with "
            f"{after.describe()!r}"
        )
        return tuple(_warned(one, (warning,)) for one in drawn)

    def warm_up(self, model: str) -> None:
        """
        Load a model and take one step with it; where that is set, compile it.

        Raises:
            WeightsError: The model is not here, or cannot be loaded.

        """
        self._check_thread()
        spec = self._spec(model)
        family = FAMILIES[spec.family]
        side = _COMPILED_SIDE if self.setup.is_compiled else _WARM_SIDE
        job = Job(
            id=f"warm-up-{model}",
            model=model,
            capability=Capability.TEXT_TO_IMAGE,
            prompt="warm-up",
            width=side,
            height=side,
            seeds=(0,),
            num_inference_steps=1,
            has_previews=False,
        )
        if Capability.TEXT_TO_IMAGE in family.pipelines:
            self.draw([job], _to_nobody)
        else:
            with hushed():
                self._resident(self._plan([job]), spec)

    def loaded(self) -> tuple[str, ...]:
        """Name the models in memory, the least recently used first."""
        return self._residence.names()

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The models in memory, the least recently used first."""
        return tuple(self._residence)

    def figures(self) -> Mapping[str, Any]:
        """Tell about the device, its memory and the models in it."""
        self._check_thread()
        budget = self._residence.budget
        return {
            "device": _name_of(self._device),
            "budget_bytes": None if budget >= UNLIMITED else budget,
            **_memory_of(self._device),
            "model_bytes": self._residence.bytes(),
            "evictions": self._residence.evictions,
            "prompts": {
                "kept": len(self._prompts),
                "bytes": self._prompts.size,
                "hits": self._prompts.hits,
                "misses": self._prompts.misses,
            },
            "models": {
                resident.spec.id: resident.plan.describe()
                for resident in self._residence
            },
        }

    def close(self) -> None:
        """Let go of every model, and give the device's memory back."""
        self._check_thread()
        self._prompts.clear()
        self._residence.clear()

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            message = "A studio is used from the thread that made it, and no other."
            raise RuntimeError(message)

    def _completed(self, job: Job) -> Job:
        """Give a job what the settings say where the job says nothing."""
        return attrs.evolve(
            job,
            step_cache=job.step_cache or self.setup.step_cache,
            has_previews=job.has_previews and self.setup.has_previews,
        )

    def _spec(self, model: str) -> ModelSpec:
        spec = self.setup.models.get(model)
        if spec is None:
            message = f"there is no model {model!r} in the settings of this worker"
            raise ValueError(message)
        return spec

    def _plan(self, jobs: Sequence[Job]) -> MemoryPlan:
        """Decide how a model is to lie in memory for some jobs."""
        model = jobs[0].model
        self._renew(self._spec(model))
        plan = plan_for(
            self._need(jobs),
            self._residence.budget,
            quantisation=self._quantisation(self._spec(model)),
            at_most=self._experience.limit(model, _pixels(jobs)),
        )
        resident = self._residence.get(model)
        held = None if resident is None else resident.plan
        return self._experience.settled(model, plan, held)

    def _need(self, jobs: Sequence[Job]) -> Need:
        job = jobs[0]
        spec = self._spec(job.model)
        place, family = loading.place_of(spec, self.setup.home), FAMILIES[spec.family]
        dtype = loading.dtype_of(self.setup.dtype, self._device)
        images = sum(len(one.seeds) for one in jobs) if len(jobs) > 1 else 1
        return need_of(
            family,
            dtype=str(dtype).removeprefix("torch."),
            quantisation=self._quantisation(spec),
            width=job.width,
            height=job.height,
            num_images=images,
            parameters=sizes.parameters_of(place, family),
        )

    def _quantisation(self, spec: ModelSpec) -> str | None:
        """Give the opt-in for a model; networks that enlarge are small enough."""
        return self.setup.quantisation if FAMILIES[spec.family].pipelines else None

    def _renew(self, spec: ModelSpec) -> None:
        """Let go of a model whose files are others than those it was loaded from."""
        look = weights.look_of(loading.place_of(spec, self.setup.home))
        if self._looks.setdefault(spec.id, look) != look:
            self._looks[spec.id] = look
            self._experience.forget(spec.id)
            self._residence.drop(spec.id)

    def _resident(self, plan: MemoryPlan, spec: ModelSpec) -> Resident:
        """Give a model that is held as planned, loaded anew where it is not."""
        resident = self._residence.get(spec.id)
        if resident is not None and resident.plan.mode is plan.mode:
            resident.plan = plan
            self._residence.make_room(plan, keys=resident.keys.values())
            return resident
        wanted = Wanted(
            spec=spec,
            family=FAMILIES[spec.family],
            place=loading.place_of(spec, self.setup.home),
            dtype=loading.dtype_of(self.setup.dtype, self._device),
            quantisation=plan.quantisation,
        )
        del resident
        return self._residence.add(wanted, plan)

    def _attempt(
        self, jobs: Sequence[Job], plan: MemoryPlan, report: Report
    ) -> tuple[Drawn, ...] | None:
        """Draw; None where memory ran out, with nothing left of the attempt."""
        try:
            resident = self._resident(plan, self._spec(jobs[0].model))
            return self._draw(resident, jobs, report)
        except RuntimeError as error:
            if not is_lack(error):
                raise
            traceback.clear_frames(error.__traceback__)
            return None

    def _draw(
        self, resident: Resident, jobs: Sequence[Job], report: Report
    ) -> tuple[Drawn, ...]:
        tile = resident.tile()
        started = time.perf_counter()
        with self.around(resident, jobs):
            drawn = drawing.draw(resident, jobs, report, prompts=self._prompts)
        _synchronise(self._device)
        each = (time.perf_counter() - started) / sum(len(one.pictures) for one in drawn)
        warnings = resident.notes + _tiled(jobs[0], tile)
        return tuple(
            attrs.evolve(_warned(one, warnings), seconds=each * len(one.pictures))
            for one in drawn
        )

    def _stepped_down(self, jobs: Sequence[Job], plan: MemoryPlan) -> MemoryPlan:
        """Free all there is to free, and give the plan for the second attempt."""
        self._residence.clear()
        lower = plan.step_down()
        if lower is None or len(jobs) > 1:
            # Whoever put a batch together draws its jobs alone, at full speed.
            raise OutOfMemoryError(_exhausted(jobs, plan))
        self._experience.ran_out(jobs[0].model, _pixels(jobs), lower)
        return lower


def _warned(drawn: Drawn, warnings: tuple[str, ...]) -> Drawn:
    return attrs.evolve(drawn, warnings=(*drawn.warnings, *warnings))


def _tiled(job: Job, tile: int | None) -> tuple[str, ...]:
    if tile is None or max(job.width, job.height) <= tile:
        return ()
    return ("decoded in tiles for lack of memory: the picture differs slightly",)


def _pixels(jobs: Sequence[Job]) -> int:
    """Count the pixels that are drawn at once."""
    images = sum(len(job.seeds) for job in jobs) if len(jobs) > 1 else 1
    return jobs[0].width * jobs[0].height * images


def _exhausted(jobs: Sequence[Job], plan: MemoryPlan) -> str:
    job = jobs[0]
    return (
        f"{job.model} ran out of memory at {job.width}x{job.height}, also with the "
        f"plan {plan.describe()!r}: ask for a smaller picture, set "
        'quantisation = "int8", or take a smaller model'
    )


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device.type, str(device))


def _memory_of(device: torch.device) -> Mapping[str, int]:
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "total_bytes": total,
        "free_bytes": free,
        "reserved_bytes": torch.cuda.memory_reserved(device),
        "allocated_bytes": torch.cuda.memory_allocated(device),
        "peak_bytes": torch.cuda.max_memory_allocated(device),
    }


def _to_nobody(_fraction: float, _preview: Preview | None) -> None:
    """Report to nobody."""
