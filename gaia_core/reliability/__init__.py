"""
What may be repeated, who may be asked now, and how long to wait.

`Reliability` is the interface the engine consults; `StandardReliability` is what
Gaia goes by; `SingleTry` admits every provider and repeats nothing.
"""

from gaia_core.reliability.gates import EgressLimits
from gaia_core.reliability.money import charge_of, cost_in_all, cost_of, lost_attempt
from gaia_core.reliability.outcomes import (
    classify,
    is_model_missing,
    is_put_off,
    may_fall_back,
)
from gaia_core.reliability.policies import Asker, Reliability, SingleTry, Target
from gaia_core.reliability.standard import StandardReliability, Standing

__all__ = [
    "Asker",
    "EgressLimits",
    "Reliability",
    "SingleTry",
    "StandardReliability",
    "Standing",
    "Target",
    "charge_of",
    "classify",
    "cost_in_all",
    "cost_of",
    "is_model_missing",
    "is_put_off",
    "lost_attempt",
    "may_fall_back",
]
