"""Schedulers: a new one for every call, of the model's class or of another."""

from typing import Any, Final

import diffusers

from gaia_flux.tuning import TuningError

_FLOW_OPTIONS: Final = {
    "use_flow_sigmas": True,
    "prediction_type": "flow_prediction",
}


def scheduler_of(pipeline: Any, name: str | None) -> Any:
    """
    Make a new scheduler like a pipeline's own, or of another class.

    Raises:
        TuningError: diffusers has no scheduler of that name.

    """
    current = pipeline.scheduler
    kind = type(current) if name is None else kind_of(name)
    options = _FLOW_OPTIONS if _leaves_flow_matching(current, kind) else {}
    return kind.from_config(current.config, **options)


def kind_of(name: str) -> Any:
    """
    Give the class of a scheduler.

    Raises:
        TuningError: diffusers has no scheduler of that name.

    """
    kind = getattr(diffusers, name, None)
    if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin):
        return kind
    message = f"diffusers has no scheduler {name!r}; see the model's card"
    raise TuningError(message)


def _leaves_flow_matching(current: Any, kind: Any) -> bool:
    flows = "FlowMatch"
    return flows in type(current).__name__ and flows not in kind.__name__
