"""Where paid pictures wait that the image store could not take."""

import base64
import binascii
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from gaia_core.observability import get_logger
from gaia_core.results import GeneratedImage, ImageResult
from gaia_core.storage.disk import Disk

_ID = re.compile(r"[0-9a-f]{32}")


def _folder() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"gaia-spill-{owner}"


@attrs.define(eq=False)
class Spill:
    """
    Keeps paid pictures until the image store takes them.

    They are in memory as long as the process lives, and in a folder outside the
    image store as soon as that folder takes them.

    Attributes:
        folder: The folder; made when it is needed, for its owner alone.
    """

    folder: Path = attrs.field(factory=_folder)
    _waiting: dict[str, ImageResult] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def waiting(self) -> Collection[str]:
        """The operations of this process whose pictures wait."""
        return self._waiting.keys()

    def keep(self, operation_id: str, result: ImageResult) -> bool:
        """Keep what an operation made; tell whether it survives the process."""
        self._waiting[operation_id] = result
        try:
            self._write(operation_id, result)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log = get_logger(operation_id=operation_id)
            log.warning("gaia.spill_failed", error=reason)
            return False
        return True

    def find(self, operation_id: str) -> ImageResult | None:
        """Give what an operation made, if it waits here."""
        return self._waiting.get(operation_id) or self._read(operation_id)

    def drop(self, operation_id: str) -> None:
        """Let go of what is in the image store by now."""
        self._waiting.pop(operation_id, None)
        if _ID.fullmatch(operation_id):
            # What cannot be removed was not written here; it harms nobody.
            with suppress(OSError):
                self._file(operation_id).unlink()

    def _write(self, operation_id: str, result: ImageResult) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_owner()
        draft = self.folder / f".{operation_id}"
        with draft.open("w", encoding="ascii") as file:
            json.dump(_to_json(result), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file(operation_id))
        Disk().sync_folder(self.folder)

    def _read(self, operation_id: str) -> ImageResult | None:
        if not _ID.fullmatch(operation_id):
            return None
        try:
            if not self._file(operation_id).exists():
                return None
            self._check_owner()
            return _from_json(json.loads(self._file(operation_id).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, binascii.Error):
            log = get_logger(operation_id=operation_id)
            log.warning("gaia.spill_damaged")
            return None

    def _check_owner(self) -> None:
        """Trust nothing that another user of this machine may have put there."""
        if hasattr(os, "getuid") and self.folder.lstat().st_uid != os.getuid():
            message = "the spill folder belongs to another user"
            raise PermissionError(message)

    def _file(self, operation_id: str) -> Path:
        return self.folder / f"{operation_id}.json"


def _to_json(result: ImageResult) -> dict[str, Any]:
    return {
        "provider": result.provider,
        "model": result.model,
        "cost_usd": None if result.cost_usd is None else str(result.cost_usd),
        "warnings": [str(words) for words in result.warnings],
        "images": [
            {"data": base64.b64encode(one.data).decode(), "seed": one.seed}
            for one in result.images
        ],
    }


def _from_json(values: Mapping[str, Any]) -> ImageResult:
    images = [
        GeneratedImage(data=base64.b64decode(one["data"]), seed=one["seed"])
        for one in values["images"]
    ]
    return ImageResult(**{**values, "images": images})
