"""How fast the device is: a guess first, then what was measured; and what it costs."""

from collections.abc import Mapping
from decimal import Decimal

import attrs

from gaia_core import FREE, Capability, Price
from gaia_flux.families import Family
from gaia_flux.jobs import Drawn, Job
from gaia_flux.models import ModelSpec

GUESS = 0.02
"""
Seconds a step takes per megapixel and billion parameters, before anything was measured.

FLUX.1 [dev] without compiling: 6.71 s, 28 steps, 11.9 billion, on an H100.
"""
_MEGAPIXEL = 1_048_576
_WEIGHT = 0.3
"""How much the latest picture counts against those before."""
_SHARE = Decimal("0.5")
"""A price has no product of steps and size: half follows the one, half the other."""


@attrs.define(eq=False)
class Paces:
    """Seconds per step and megapixel, by model, as far as they were measured."""

    _seconds: dict[str, float] = attrs.field(factory=dict, init=False)

    def note(self, job: Job, drawn: Drawn) -> None:
        """Learn from a job that was done; enlarging has no steps to speak of."""
        if job.capability is Capability.UPSCALING or drawn.seconds <= 0:
            return
        work = len(job.seeds) * job.num_inference_steps * _megapixels(job)
        new, old = drawn.seconds / work, self._seconds.get(job.model)
        pace = new if old is None else old + _WEIGHT * (new - old)
        self._seconds[job.model] = pace

    def of(self, spec: ModelSpec, family: Family) -> float:
        """Give the seconds that a step takes per megapixel."""
        return self._seconds.get(spec.id, _guess(family.billions, family.backbone))

    def price_of(
        self, spec: ModelSpec, family: Family, usd_per_second: Decimal
    ) -> Price:
        """
        Estimate what pictures cost; what is booked is measured.

        Right at the usual number of steps and a megapixel; for much larger pictures
        of many more steps it is too little.
        """
        if not usd_per_second:
            return FREE
        per_step = Decimal(str(self.of(spec, family))) * usd_per_second
        usual = spec.default_steps or family.default_steps
        return Price(
            per_step=per_step * _SHARE,
            per_megapixel=per_step * usual * (1 - _SHARE),
        )


def _megapixels(job: Job) -> float:
    return job.width * job.height / _MEGAPIXEL


def _guess(billions: Mapping[str, float], backbone: str) -> float:
    return GUESS * billions.get(backbone, 1.0)
