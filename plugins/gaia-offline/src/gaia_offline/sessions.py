"""One cached onnxruntime session for each weights file."""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import numpy.typing as npt

from gaia_offline.arrays import Floats

_MOST_THREADS = 2
_ERRORS_ONLY = 3


@attrs.frozen(kw_only=True, eq=False)
class Network:
    """
    A loaded network, to be called with its inputs.

    Any number of threads may call it at once.

    Attributes:
        session: The ``onnxruntime.InferenceSession``; onnxruntime ships no types.
        options: The ``onnxruntime.RunOptions`` of every call.
        sources: Names of its inputs, in order.
        output: Name of its first output.
    """

    session: Any
    options: Any
    sources: tuple[str, ...]
    output: str

    def __call__(self, *values: npt.NDArray[Any]) -> Floats:
        """Return the first output."""
        feed = dict(zip(self.sources, values, strict=True))
        (result,) = self.session.run([self.output], feed, self.options)
        return result  # type: ignore[no-any-return]


_networks: dict[Path, Network] = {}
_lock = Lock()


def network(weights: Path, *, threads: int = _MOST_THREADS) -> Network:
    """
    Return the network of a weights file, loading it at the first call.

    Args:
        weights: Path of an ONNX file.
        threads: The most threads it computes with; one alone takes its sums in
            one order, so that every number of cores gives the same bytes.

    Raises:
        FileNotFoundError: The file is missing.
    """
    path = weights.resolve()
    with _lock:
        if path not in _networks:
            _networks[path] = _load(path, threads)
        return _networks[path]


def _load(path: Path, threads: int) -> Network:
    # onnxruntime takes a tenth of a second to import: only who computes pays for it.
    import onnxruntime  # noqa: PLC0415

    if not path.is_file():
        message = (
            f"The weights {path.name} are missing from {path.parent}. "
            "Reinstall gaia-offline, or correct the path in its settings."
        )
        raise FileNotFoundError(message)
    session = onnxruntime.InferenceSession(
        path, _session_options(threads), providers=_processors()
    )
    return Network(
        session=session,
        options=_run_options(),
        sources=tuple(one.name for one in session.get_inputs()),
        output=session.get_outputs()[0].name,
    )


def _session_options(threads: int) -> Any:
    """Use few threads that sleep when idle: the host has other work to do."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _processors() -> list[tuple[str, dict[str, str]]]:
    """Let memory grow by what is asked for; the default doubles it each time."""
    growth = {"arena_extend_strategy": "kSameAsRequested"}
    return [("CPUExecutionProvider", growth)]


def _run_options() -> Any:
    """Give the memory of every call back; measured, this costs no time."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
