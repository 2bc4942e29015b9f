"""What is shipped is what the papers beside it say."""

import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

from gaia_offline.atlas.sheets import FONTS
from gaia_offline.models import WEIGHT_FILES, WEIGHTS

ROOM = Path(__file__).parents[1]
SHIPPED = sorted([*WEIGHTS.glob("*.onnx"), *FONTS.glob("*.ttf")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_weight_and_font_is_accounted_for(path: Path) -> None:
    """The notice names the file, and its digest stands where its making does."""
    papers = [ROOM / "conversion" / "README.md", ROOM / "MODEL_CARD.md"]
    digests = "".join(paper.read_text(encoding="utf-8") for paper in papers)

    assert path.name in (ROOM / "NOTICE").read_text(encoding="utf-8")
    assert sha256(path.read_bytes()).hexdigest() in digests


def test_the_health_check_knows_every_weight() -> None:
    """No file of weights is left out of the health check."""
    present = {path.name for path in WEIGHTS.iterdir() if path.suffix != ""}

    assert present - {".gitattributes"} == set(WEIGHT_FILES)


def test_the_licences_are_shipped() -> None:
    """What the notice refers to is installed with it."""
    project = tomllib.loads((ROOM / "pyproject.toml").read_text(encoding="utf-8"))

    patterns = project["project"]["license-files"]
    shipped = {path.name for pattern in patterns for path in ROOM.glob(pattern)}

    assert shipped == {"NOTICE", "MODEL_CARD.md", "Apache-2.0.txt", "OFL.txt"}
