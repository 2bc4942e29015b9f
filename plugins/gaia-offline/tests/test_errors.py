"""What goes wrong in the networks reaches Gaia as an error it knows."""

from pathlib import Path

import numpy as np
import pytest

from gaia_core import ProviderUnavailableError
from gaia_offline.errors import translated
from gaia_offline.upscaling import upscale

PICTURE = np.zeros((4, 4, 3), np.uint8)


def test_an_absent_network_is_named(tmp_path: Path) -> None:
    """The error names the file that is missing and where it was looked for."""
    with (
        pytest.raises(ProviderUnavailableError, match=r"absent\.onnx are missing from"),
        translated(),
    ):
        upscale(PICTURE, model="photo", photo_model=tmp_path / "absent.onnx")


def test_a_damaged_network_is_unavailable(tmp_path: Path) -> None:
    """A file that onnxruntime cannot read is named, with what can be done."""
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no network")

    with (
        pytest.raises(
            ProviderUnavailableError, match=r"(?s)damaged\.onnx.*photo_model"
        ),
        translated(),
    ):
        upscale(PICTURE, model="photo", photo_model=damaged)


def test_a_missing_library_is_named() -> None:
    """The error names the library to install."""
    with (
        pytest.raises(ProviderUnavailableError, match="lacks absent_library"),
        translated(),
    ):
        __import__("absent_library")


def test_other_mistakes_are_not_disguised() -> None:
    """What this room did not expect stays what it is."""
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
