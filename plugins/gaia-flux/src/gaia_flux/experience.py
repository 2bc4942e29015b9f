"""
What jobs have shown about memory plans, beyond the arithmetic.

A plan that ran out of memory is not taken again for pictures of that size; and a model
that lies in memory in a slow way for a large picture does not stay so for small ones.
"""

from typing import Final

import attrs

from gaia_flux.memory import MemoryPlan

PATIENCE: Final = 3
"""The job in a row with room for a faster plan for which a model is loaded anew.

Loading takes about as long as a few slow pictures lose; and where large and small ones
alternate, it would happen for each.
"""

TRUST: Final = 20
"""For how many jobs a lack of memory is believed to last: others may have used it."""


@attrs.define
class _Lack:
    """The size at which memory ran out, and the plan that was taken instead."""

    pixels: int
    plan: MemoryPlan
    left: int = TRUST


@attrs.define(eq=False)
class Experience:
    """What is known of the models of one device."""

    _lacks: dict[str, _Lack] = attrs.field(factory=dict, init=False)
    _faster: dict[str, int] = attrs.field(factory=dict, init=False)

    def ran_out(self, model: str, pixels: int, plan: MemoryPlan) -> None:
        """Note that memory ran out, and the plan to go on with."""
        self._lacks[model] = _Lack(pixels=pixels, plan=plan)

    def limit(self, model: str, pixels: int) -> MemoryPlan | None:
        """Give the plan that a job of some size is not to go beyond."""
        lack = self._lacks.get(model)
        if lack is None or pixels < lack.pixels:
            return None
        lack.left -= 1
        if lack.left < 0:
            del self._lacks[model]
            return None
        return lack.plan

    def settled(
        self, model: str, wanted: MemoryPlan, held: MemoryPlan | None
    ) -> MemoryPlan:
        """
        Give the plan for a job: the one it wants, or the slower one that is there.

        Args:
            model: The model.
            wanted: What the job has room for.
            held: How the model lies in memory; None: it does not.

        """
        if held is None or not held.is_below(wanted):
            self._faster.pop(model, None)
            return wanted
        count = self._faster[model] = self._faster.get(model, 0) + 1
        if count < PATIENCE:
            return wanted.lowered_to(held.mode)
        del self._faster[model]
        return wanted

    def forget(self, model: str) -> None:
        """Forget a model: its files are others now."""
        self._lacks.pop(model, None)
        self._faster.pop(model, None)
