"""All that a worker must know, as one value that can be sent to another process."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from gaia_flux.models import ModelSpec

if TYPE_CHECKING:
    from cattrs import Converter


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Setup:
    """
    How a worker draws.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto``: an accelerator.
        dtype: The precision; ``auto``: what suits the device.
        vram_gb: Memory that models may take, in GB; None: what is free.
        models: What can be drawn with, by identifier.
        home: The hub's cache; None: the hub's own place.
        quantisation: ``int8`` or ``fp8``; None: exact weights.
        step_cache: The step cache of jobs that name none.
        attention: The attention kernel; ``auto``: the best exact one.
        is_compiled: Whether repeated blocks are compiled.
        has_batching: Whether equal small jobs are drawn together.
        batch_window: How long the first of them waits, in seconds.
        is_isolated: Whether the worker has a process of its own.
        warm_up: Models to load before anybody asks.
        has_previews: Whether small pictures are made on the way.
        threads: Threads on the processor; None: torch's own choice.
    """

    device: str = "auto"
    dtype: str = "auto"
    vram_gb: float | None = None
    models: Mapping[str, ModelSpec] = attrs.field(factory=dict)
    home: Path | None = attrs.field(default=None, converter=_path)
    quantisation: str | None = None
    step_cache: str | None = None
    attention: str = "auto"
    is_compiled: bool = False
    has_batching: bool = False
    batch_window: float = 0.010
    is_isolated: bool = False
    warm_up: tuple[str, ...] = attrs.field(default=(), converter=_names)
    has_previews: bool = True
    threads: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Write it down in what JSON knows."""
        record: dict[str, Any] = _converter().unstructure(self)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """
        Read what `to_record` wrote.

        Raises:
            ValueError: If it is no such record.
        """
        from cattrs import BaseValidationError  # noqa: PLC0415 - see below

        try:
            return _converter().structure(dict(record), cls)
        except (BaseValidationError, TypeError) as error:
            message = f"This is no record of a setup: {error}"
            raise ValueError(message) from error


@functools.cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415 - listing models needs none of it

    converter = Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    return converter
