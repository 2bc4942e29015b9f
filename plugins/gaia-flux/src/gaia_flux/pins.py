"""
The hub's cache on this machine, and which commit of each model was pulled into it.

Nothing here asks the hub.
"""

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from gaia_flux.headers import stamp

PINS: Final = "gaia-flux.json"
"""The file beside the hub's cache that says which commit of each model is loaded."""

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
"""What names a commit; a branch or a tag moves."""

_SNAPSHOTS: Final = "snapshots"
_READABLE: Final = 0o644
_is_text = attrs.validators.instance_of(str)


@attrs.frozen(kw_only=True)
class Pin:
    """
    The commits that were pulled for a model.

    Attributes:
        repository: Where from.
        commit: Which.
        config_commit: The same of the repository that a single file's rest is from.
    """

    repository: str = attrs.field(validator=_is_text)
    commit: str = attrs.field(validator=_is_text)
    config_commit: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_is_text)
    )


def hub_cache(home: Path | None = None) -> Path:
    """Give the folder that pulled models lie in, as huggingface_hub finds it."""
    if home is not None:
        return home
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named).expanduser()
    if named := os.environ.get("HF_HOME"):
        return Path(named).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def known(home: Path | None = None) -> Mapping[str, Pin]:
    """Read which commit of each model was pulled, by the model's identifier."""
    file = hub_cache(home) / PINS
    return _known(file, stamp(file))


def note(
    home: Path | None,
    model_id: str,
    repository: str,
    commit: str,
    config_commit: str | None = None,
) -> None:
    """
    Note which commit of a model is loaded from now on.

    Others may pull at the same time: each reads what the one before wrote.
    """
    from filelock import FileLock  # noqa: PLC0415 - only where something is pulled

    file = hub_cache(home) / PINS
    file.parent.mkdir(parents=True, exist_ok=True)
    pulled = Pin(repository=repository, commit=commit, config_commit=config_commit)
    with FileLock(file.with_suffix(".lock")):
        _write(file, {**_read(file), model_id: pulled})


def _write(file: Path, table: Mapping[str, Pin]) -> None:
    import tempfile  # noqa: PLC0415 - only where something is pulled

    record = {"models": {name: attrs.asdict(one) for name, one in table.items()}}
    with tempfile.NamedTemporaryFile(
        "w", dir=file.parent, prefix=PINS, suffix=".new", delete=False, encoding="utf-8"
    ) as stream:
        json.dump(record, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    # Who pulls is often another user than the one whom the server runs as.
    Path(stream.name).chmod(_READABLE)
    Path(stream.name).replace(file)


@functools.lru_cache(maxsize=8)
def _known(file: Path, _: tuple[int, int]) -> Mapping[str, Pin]:
    return _read(file)


def _read(file: Path) -> Mapping[str, Pin]:
    try:
        record = json.loads(file.read_text("utf-8"))["models"]
        return {name: Pin(**one) for name, one in record.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Pulling again writes it anew.
        return {}


def is_snapshot(folder: Path) -> bool:
    """Tell whether a folder is one commit in a hub's cache, named by it."""
    is_named = COMMIT.fullmatch(folder.name) is not None
    return is_named and folder.parent.name == _SNAPSHOTS


def snapshot(repository: str, commit: str, home: Path | None = None) -> Path:
    """Give the folder of one commit in the hub's cache, whether it is there or not."""
    name = "--".join(("models", *repository.split("/")))
    return hub_cache(home) / name / _SNAPSHOTS / commit
