"""Pictures in and out: files, standard input and standard output."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from gaia_core.cli.tables import clean
from gaia_core.cli.writing import print_bytes, say
from gaia_core.errors import InvalidImageError, StorageError
from gaia_core.images import MAX_BYTES, SUFFIXES, Image
from gaia_core.responses import StoredImage

PIPE = "-"
"""What stands for standard input and standard output."""

_OTHER_SUFFIXES = {".jpeg": ".jpg", ".jpe": ".jpg"}


# -- in ---------------------------------------------------------------------------


def check_one_reader(sources: Mapping[str, str | Sequence[str] | None]) -> None:
    """
    Refuse to read standard input twice.

    Args:
        sources: What a person calls each source, and what was given for it.
    """
    readers = [
        name
        for name, given in sources.items()
        for source in ([given] if isinstance(given, str) else given or ())
        if source == PIPE
    ]
    if len(readers) > 1:
        message = f"Standard input can be read once, not for {' and '.join(readers)}."
        raise click.UsageError(message)


def read_text(text: str) -> str:
    """Take a text from the command line, or from standard input for ``-``."""
    if text == PIPE:
        data = sys.stdin.buffer.read()
    else:
        data = text.encode(errors="surrogateescape")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        message = "PROMPT is not UTF-8 text."
        raise click.UsageError(message) from None


def read_picture(source: str) -> Image:
    """
    Read a picture from a file, or from standard input for ``-``.

    Raises:
        InvalidImageError: If there is no picture.
    """
    if source != PIPE:
        return Image.open(Path(source))
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data:
        message = "Standard input is empty: pipe a picture into it."
        raise InvalidImageError(message)
    return Image.from_bytes(data)


# -- out --------------------------------------------------------------------------


def check_output(output: str | None, *, num_images: int, is_json: bool) -> None:
    """Refuse, before anything is paid, an output that cannot work."""
    if output is None:
        return
    if output == PIPE:
        _check_pipe(num_images=num_images, is_json=is_json)
        return
    if not output:
        message = "-o is empty: name a file, a folder ending in /, or -."
        raise click.UsageError(message)
    path = Path(output)
    folder = path if is_folder(output) else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"The folder {folder} cannot be made: {error.strerror}."
        raise click.UsageError(message) from None
    if not os.access(path if path.exists() else folder, os.W_OK):
        message = f"{path} cannot be written: access is denied."
        raise click.UsageError(message)


def _check_pipe(*, num_images: int, is_json: bool) -> None:
    if is_json:
        message = "-o - and --json both want standard output: choose one."
    elif num_images > 1:
        message = f"-o - takes one picture, not {num_images}: name a file or a folder."
    elif sys.stdout.isatty():
        message = "-o - writes a picture: send it into a pipe or a file."
    else:
        return
    raise click.UsageError(message)


def is_folder(output: str) -> bool:
    """Tell whether an output names a folder, by its slash or because it is one."""
    return output.endswith(("/", "\\")) or Path(output).is_dir()


def name_outputs(
    output: str, images: Sequence[StoredImage], *, is_numbered: bool
) -> list[Path]:
    """Name the files pictures are written to."""
    path = Path(output)
    if is_folder(output):
        return [path / image.path.name for image in images]
    if not is_numbered and len(images) == 1:
        return [path]
    return [
        path.with_name(f"{path.stem}-{number}{path.suffix}")
        for number, _ in enumerate(images, start=1)
    ]


def write_outputs(
    output: str | None, images: Sequence[StoredImage], *, is_numbered: bool
) -> dict[str, str]:
    """
    Write pictures where they were asked for.

    Returns:
        Identifier of a picture to the file it was written to.

    Raises:
        StorageError: If one cannot be written; it is in the store all the same.
    """
    if output is None:
        return {}
    if output == PIPE:
        _write_to_pipe(images)
        return {}
    paths = name_outputs(output, images, is_numbered=is_numbered)
    for image, path in zip(images, paths, strict=True):
        _write(image, path)
    return {image.id: str(path) for image, path in zip(images, paths, strict=True)}


def _write(image: StoredImage, path: Path) -> None:
    try:
        path.write_bytes(image.read_bytes())
    except OSError as error:
        message = (
            f"{path} cannot be written: {error.strerror}. "
            f"The picture is kept as {image.path}."
        )
        raise StorageError(message) from error
    suffix = _OTHER_SUFFIXES.get(path.suffix.lower(), path.suffix.lower())
    right = SUFFIXES[image.media_type]
    if suffix in SUFFIXES.values() and suffix != right:
        say(clean(f"warning: {path} holds {image.media_type}; its suffix is {right}"))


def _write_to_pipe(images: Sequence[StoredImage]) -> None:
    print_bytes(images[0].read_bytes())
    for image in images[1:]:
        say(f"warning: one picture more was made and is kept as {image.path}")
