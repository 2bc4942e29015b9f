"""
Make the two fonts of the maps from the IM Fell English web fonts.

    npm pack @fontsource/im-fell-english@5.3.0
    python make_fonts.py fontsource-im-fell-english-5.3.0.tgz ../src/gaia_offline/fonts

The web fonts hold the Latin letters only. They are unpacked to TrueType, because that
is what the SVG renderer reads, and get a name of their own, because the Open Font
License reserves the old one for unchanged fonts.
"""

import argparse
import io
import sys
import tarfile
from hashlib import sha256
from pathlib import Path

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

FAMILY = "Gaia Cartographer"
_FACES = {"normal": "Regular", "italic": "Italic"}
_DIGESTS = {
    "normal": "8541cb19ee7c253acc23d9c858ad5a41432a271ad9fae0a953bcc993190ab79c",
    "italic": "01d129b488df159dedd59677a330bfa92d090c1264cb91ca88022e422dbf3636",
}
_FAMILY_NAME, _UNIQUE_NAME, _FULL_NAME, _POSTSCRIPT_NAME = 1, 3, 4, 6


def main() -> None:
    """Unpack, rename, write and print one line a file."""
    options = _arguments()
    options.target.mkdir(parents=True, exist_ok=True)
    for style, face in _FACES.items():
        font = TTFont(io.BytesIO(_read(options.archive, style)), recalcTimestamp=False)
        _rename(font, face)
        path = options.target / f"gaia-cartographer-{face.lower()}.ttf"
        font.flavor = None
        font.save(path)
        digest = sha256(path.read_bytes()).hexdigest()
        sys.stdout.write(f"{digest}  {path.name}\n")
    licence = _member(options.archive, "package/LICENSE")
    (options.target / "OFL.txt").write_bytes(licence)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the fonts of the maps.")
    parser.add_argument("archive", type=Path, help="the archive of `npm pack`")
    parser.add_argument("target", type=Path, help="folder for the .ttf files")
    return parser.parse_args()


def _read(archive: Path, style: str) -> bytes:
    name = f"package/files/im-fell-english-latin-400-{style}.woff"
    data = _member(archive, name)
    if sha256(data).hexdigest() != _DIGESTS[style]:
        message = f"{name} is not the file that was examined. Use version 5.3.0."
        raise ValueError(message)
    return data


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as files:
        member = files.extractfile(name)
        if member is None:
            message = f"{archive.name} holds no file {name}."
            raise ValueError(message)
        return member.read()


def _rename(font: TTFont, face: str) -> None:
    compact = FAMILY.replace(" ", "")
    names = {
        _FAMILY_NAME: FAMILY,
        _UNIQUE_NAME: f"{FAMILY} {face}",
        _FULL_NAME: f"{FAMILY} {face}",
        _POSTSCRIPT_NAME: f"{compact}-{face}",
    }
    for record in font["name"].names:
        record.string = names.get(record.nameID, record.toUnicode())


if __name__ == "__main__":
    main()
